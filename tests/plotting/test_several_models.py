"""Forests and variance shares of several models, and pictures of pipelines."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import load_cake, load_grouseticks, load_sleepstudy, load_verbagg
from skmixed.plotting import (
    CaterpillarDisplay,
    CoefficientsDisplay,
    GroupCalibrationDisplay,
    GroupRocDisplay,
    MarginalEffectsDisplay,
    ModelCheckDisplay,
    NormalQuantileDisplay,
    PredictionIntervalDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    SparsityDisplay,
    TrellisDisplay,
    VarianceSharesDisplay,
)


@pytest.fixture(scope="module")
def cake():
    return load_cake().frame


@pytest.fixture(scope="module")
def models(cake):
    texts = {
        "additive": "angle ~ recipe + temp + (1 | recipe:replicate)",
        "interaction": "angle ~ recipe * temp + (1 | recipe:replicate)",
    }
    return {name: MixedLinearRegressor(text).fit(cake) for name, text in texts.items()}


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


def test_a_forest_of_several_models_has_the_numbers_of_each(models):
    display = CoefficientsDisplay.from_estimators(models, level=0.9)
    names = list(dict.fromkeys(display.frame.index.get_level_values("parameter")))
    assert names == ["recipe[T.B]", "recipe[T.C]", "temp", "recipe[T.B]:temp", "recipe[T.C]:temp"]
    for k, (name, model) in enumerate(models.items()):
        table = model.coefficients(level=0.9).drop("Intercept")
        own = display.frame.xs(name, level="model")
        assert_allclose(own, table.loc[own.index, ["estimate", "lower", "upper"]])
        segments = np.array(display.lines_[k].get_segments())
        assert_allclose(segments[:, :, 0], table[["lower", "upper"]])
    rows = [np.array(lines.get_segments())[:3, 0, 1] for lines in display.lines_]
    assert_allclose(np.diff(rows[0]), -1.0)  # one row for every parameter
    assert (rows[0] > rows[1]).all() and (rows[0] - rows[1] < 0.5).all()
    labels = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert labels == list(models)


def test_forests_take_lists_names_and_intercepts(models):
    display = CoefficientsDisplay.from_estimators(
        list(models.values()), parameters=["temp", "Intercept"]
    )
    assert list(display.frame.index) == [
        (p, m) for p in ("temp", "Intercept") for m in ("model 1", "model 2")
    ]
    with pytest.raises(ValueError, match="there is no model"):
        CoefficientsDisplay.from_estimators([])
    null = MixedLinearRegressor("angle ~ 1 + (1 | recipe)").fit(load_cake().frame)
    with pytest.raises(ValueError, match="pass intercept=True"):
        CoefficientsDisplay.from_estimators([null])


@pytest.mark.parametrize("reml", [True, False])
def test_shares_of_variance_are_those_of_r2_and_icc(sleep, reml):
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", reml=reml).fit(sleep)
    shares = VarianceSharesDisplay.from_estimator(model).frame.loc["model"]
    assert shares.sum() == pytest.approx(1)
    assert shares["fixed effects"] == pytest.approx(model.r2()["marginal"])
    assert 1 - shares["residual"] == pytest.approx(model.r2()["conditional"])
    assert shares["Intercept + Days | Subject"] == pytest.approx(model.icc()["unadjusted"])


def test_every_factor_has_its_share():
    df = load_verbagg().frame
    df = df[df["id"].isin(df["id"].cat.categories[:40])]
    model = MixedLogisticClassifier("r2 ~ Anger + (1 | id) + (1 | item)").fit(df)
    shares = VarianceSharesDisplay.from_estimator(model).frame.loc["model"]
    sizes = [model.covariances_[g].iloc[0, 0] for g in ("id", "item")]
    total = sum(sizes) + np.pi**2 / 3
    within = 1 - shares["fixed effects"]
    expected = [within * size / total for size in (*sizes, np.pi**2 / 3)]
    assert_allclose(shares[["Intercept | id", "Intercept | item", "residual"]], expected)


def test_bars_of_several_models_end_at_one(models, sleep):
    other = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(sleep)
    display = VarianceSharesDisplay.from_estimators({**models, "sleep": other})
    columns = list(display.frame.columns)
    assert (columns[0], columns[-1]) == ("fixed effects", "residual")
    assert_allclose(display.frame.sum(axis=1), 1.0)
    ends = [bar[0].get_x() + bar[0].get_width() for bar in display.bars_]
    assert max(ends) == pytest.approx(1.0)


def test_shares_of_counts_ask_for_the_data():
    df = load_grouseticks().frame
    model = MixedGLMRegressor("TICKS ~ YEAR + (1 | BROOD)", family="poisson").fit(df)
    with pytest.raises(ValueError, match="give the data of the fit"):
        VarianceSharesDisplay.from_estimator(model)
    shares = VarianceSharesDisplay.from_estimator(model, df).frame.loc["model"]
    assert shares["fixed effects"] == pytest.approx(model.r2(df)["marginal"])
    with pytest.raises(ValueError, match="no random effects"):
        VarianceSharesDisplay.from_estimator(MixedLinearRegressor("TICKS ~ YEAR").fit(df))


# Pipelines


def _in_weeks(X):
    return X.assign(Weeks=X["Days"] / 7)


@pytest.fixture(scope="module")
def pipeline(sleep):
    model = MixedLinearRegressor("Weeks + (Weeks | Subject)")
    return make_pipeline(FunctionTransformer(_in_weeks), model).fit(sleep, sleep["Reaction"])


@pytest.mark.parametrize(
    "display",
    [
        TrellisDisplay,
        ShrinkageDisplay,
        NormalQuantileDisplay,
        PredictionIntervalDisplay,
        SparsityDisplay,
        ModelCheckDisplay,
    ],
)
def test_rows_of_pipelines_are_those_of_their_last_step(pipeline, sleep, display):
    more = {"random_state": 0} if display is ModelCheckDisplay else {}
    y = () if display is SparsityDisplay else (sleep["Reaction"],)
    found = display.from_estimator(pipeline, sleep, *y, **more)
    alone = display.from_estimator(pipeline[-1], _in_weeks(sleep), *y, **more)
    for name in ("points", "within", "values", "frame"):
        if hasattr(found, name):
            pd.testing.assert_frame_equal(getattr(found, name), getattr(alone, name), rtol=1e-9)
    assert len(found.axes_) == len(alone.axes_)


@pytest.mark.parametrize(
    "display",
    [CaterpillarDisplay, CoefficientsDisplay, RandomEffectsDisplay, VarianceSharesDisplay],
)
def test_displays_without_rows_take_pipelines(pipeline, display):
    assert display.from_estimator(pipeline).figure_ is not None


def test_keywords_and_several_pipelines(pipeline, sleep):
    display = MarginalEffectsDisplay.from_estimator(pipeline, "Weeks", X=sleep, y=sleep["Reaction"])
    assert_allclose(display.rows["x"], sleep["Days"] / 7)
    assert len(VarianceSharesDisplay.from_estimators([pipeline, pipeline]).frame) == 2


def test_outcomes_through_a_pipeline():
    df = load_verbagg().frame.iloc[::7]
    pipe = make_pipeline(FunctionTransformer(), MixedLogisticClassifier("Anger + (1 | item)"))
    pipe.fit(df, df["r2"])
    calibration = GroupCalibrationDisplay.from_estimator(pipe, df, df["r2"])
    roc = GroupRocDisplay.from_estimator(pipe, df, df["r2"])
    assert_allclose(calibration.levels["n"].sum(), len(df))
    assert len(roc.rows) == len(df)
