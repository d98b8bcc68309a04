"""Prediction intervals, calibration and ROC curves by level hold the numbers they claim."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_curve
from statsmodels.stats.proportion import proportion_confint

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import load_sleepstudy
from skmixed.plotting import (
    GroupCalibrationDisplay,
    GroupRocDisplay,
    PredictionIntervalDisplay,
    ShrinkageDisplay,
    TrellisDisplay,
)
from skmixed.plotting._events import auc, roc_curve


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def slopes(sleep):
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)


# Intervals


def test_models_fitted_with_groups(sleep):
    X, y, groups = sleep[["Days"]], sleep["Reaction"], sleep["Subject"]
    model = MixedLinearRegressor().fit(X, y, groups=groups)
    display = PredictionIntervalDisplay.from_estimator(model, X, y, groups=groups)
    limits = model.predict_interval(X, groups=groups, kind="observation")
    assert_allclose(display.frame[["lower", "upper"]], limits)
    assert display.frame["level"].tolist() == groups.tolist()
    for cls in (PredictionIntervalDisplay, TrellisDisplay, ShrinkageDisplay):
        with pytest.raises(ValueError, match="fitted with groups=, and a display"):
            cls.from_estimator(model, X, y)


@pytest.mark.parametrize("kind", ["observation", "mean"])
def test_intervals_are_those_of_predict_interval(slopes, sleep, kind):
    display = PredictionIntervalDisplay.from_estimator(slopes, sleep, kind=kind, level=0.8)
    limits = slopes.predict_interval(sleep, kind=kind, level=0.8)
    assert_allclose(display.frame[["lower", "upper"]], limits)
    assert_allclose(display.frame["prediction"], slopes.predict(sleep))
    assert len(display.axes_) == 12 and "(12 of 18)" in "".join(
        ax.get_xlabel() for ax in display.figure_.axes
    )
    level = display.levels[3]
    own = (sleep["Subject"] == level).to_numpy()
    segments = np.array(display.lines_[3].get_segments())
    assert_allclose(segments[:, :, 1], limits[own])  # days are in order
    inside = (sleep["Reaction"] >= limits[:, 0]) & (sleep["Reaction"] <= limits[:, 1])
    if kind == "mean":
        assert np.isnan(display.inside_) and display.axes_[3].get_title() == level
        return
    assert display.inside_ == pytest.approx(inside.mean())
    assert display.axes_[3].get_title() == f"{level}: {inside[own].sum()} of 10"
    assert f"{100 * inside.mean():.1f} % of rows inside" in display.figure_.get_suptitle()


def test_new_rows_without_response_and_of_an_unseen_level(slopes, sleep):
    new = pd.DataFrame({"Days": [0, 5, 9] * 2, "Subject": ["308"] * 3 + ["new"] * 3})
    display = PredictionIntervalDisplay.from_estimator(slopes, new, levels=["new", "308"])
    assert display.frame["y"].isna().all() and np.isnan(display.inside_)
    width = (display.frame["upper"] - display.frame["lower"]).to_numpy()
    assert (width[3:] > width[:3]).all()
    names = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert names == ["interval", "prediction"]


def test_generalised_models_have_intervals_of_the_mean():
    df = _outcomes()
    model = MixedLogisticClassifier("y ~ x + (1 | g)").fit(df)
    display = PredictionIntervalDisplay.from_estimator(model, df, max_panels=4)
    assert display.kind == "mean"
    assert_allclose(display.frame[["lower", "upper"]], model.predict_interval(df))
    with pytest.raises(ValueError, match="take quantiles of simulate"):
        PredictionIntervalDisplay.from_estimator(model, df, kind="observation")
    with pytest.raises(ValueError, match="no rows of the levels"):
        PredictionIntervalDisplay.from_estimator(model, df, levels=["nobody"])


def test_many_rows_of_a_level_are_thinned_and_all_counted():
    rng = np.random.default_rng(1)
    df = pd.DataFrame({"g": np.repeat(["a", "b", "c"], 200), "x": rng.normal(size=600)})
    df["y"] = df["x"] + rng.normal(size=600) + np.repeat([0.0, 3.0, 6.0], 200)
    model = MixedLinearRegressor("y ~ x + (1 | g)").fit(df)
    display = PredictionIntervalDisplay.from_estimator(model, df)
    assert len(display.lines_[0].get_segments()) == 60
    assert display.axes_[0].get_title().endswith("of 200")


# Outcomes


def _outcomes(n=20, m=30):
    rng = np.random.default_rng(6)
    g, x = np.repeat(np.arange(n), m), rng.normal(size=n * m)
    eta = 0.8 * x + rng.normal(0, 1.2, n)[g]
    y = np.where(rng.random(n * m) < 1 / (1 + np.exp(-eta)), "yes", "no")
    return pd.DataFrame({"g": [f"g{k}" for k in g], "x": x, "y": y, "part": g % 3})


@pytest.fixture(scope="module")
def outcomes():
    df = _outcomes()
    return df, MixedLogisticClassifier("y ~ x + (1 | g)").fit(df)


def test_calibration_by_bins_and_levels(outcomes):
    df, model = outcomes
    display = GroupCalibrationDisplay.from_estimator(model, df, n_bins=5, level=0.9)
    p, events = model.predict_proba(df)[:, 1], (df["y"] == "yes").to_numpy()
    order = np.argsort(p)
    for part, (_, found) in zip(np.array_split(order, 5), display.bins.iterrows(), strict=True):
        limits = proportion_confint(events[part].sum(), len(part), alpha=0.1, method="wilson")
        expected = [p[part].mean(), events[part].mean(), *limits, len(part)]
        assert_allclose(found, expected, rtol=1e-9)
    for level, found in display.levels.iterrows():
        own = (df["g"] == level).to_numpy()
        limits = proportion_confint(events[own].sum(), 30, alpha=0.1, method="wilson")
        assert_allclose(found, [p[own].mean(), events[own].mean(), *limits, 30], rtol=1e-9)
    drawn = np.concatenate([line.get_xdata() for line in display.lines_[2:]])
    assert_allclose(np.sort(drawn), np.sort(display.levels["x"]))
    missed = (display.levels["lower"] > display.levels["x"]) | (
        display.levels["upper"] < display.levels["x"]
    )
    assert len(display.lines_[3].get_xdata()) == missed.sum()


def test_without_random_effects_levels_miss_the_diagonal_and_are_named(outcomes):
    df, model = outcomes
    display = GroupCalibrationDisplay.from_estimator(model, df, random_effects=False)
    missed = display.levels[
        (display.levels["lower"] > display.levels["x"])
        | (display.levels["upper"] < display.levels["x"])
    ]
    assert len(missed) > 5
    assert {text.get_text() for text in display.axes_[1].texts} <= set(missed.index)
    by_part = GroupCalibrationDisplay.from_estimator(model, df, group="part")
    assert sorted(by_part.levels.index) == [0, 1, 2]


def test_curves_and_areas_are_those_of_scikit_learn(outcomes):
    df, model = outcomes
    display = GroupRocDisplay.from_estimator(model, df)
    p, events = model.predict_proba(df)[:, 1], (df["y"] == "yes").to_numpy()
    assert display.auc_ == pytest.approx(roc_auc_score(events, p))
    false, true, _ = sklearn_curve(events, p, drop_intermediate=False)
    assert_allclose(np.column_stack(display.lines_[0].get_data()), np.column_stack([false, true]))
    ordered = pairs = 0
    for level, found in display.levels.iterrows():
        own = (df["g"] == level).to_numpy()
        assert found["auc"] == pytest.approx(roc_auc_score(events[own], p[own]))
        assert tuple(found[["n", "events"]]) == (30, events[own].sum())
        gaps = np.subtract.outer(p[own][events[own]], p[own][~events[own]])
        ordered, pairs = ordered + (gaps > 0).sum(), pairs + gaps.size
    assert display.within_auc_ == pytest.approx(ordered / pairs)
    assert display.within_auc_ < display.auc_
    assert display.levels["auc"].is_monotonic_increasing
    assert len(display.lines_) == 21


def test_ties_count_one_half():
    rng = np.random.default_rng(2)
    p, y = rng.integers(0, 4, 50) / 4, rng.integers(0, 2, 50)
    assert auc(p, y) == pytest.approx(roc_auc_score(y, p))
    false, true, _ = sklearn_curve(y, p, drop_intermediate=False)
    assert_allclose(roc_curve(p, y), [false, true])


def test_levels_of_one_class_have_no_area(outcomes):
    df, model = outcomes
    df = df.assign(y=np.where(df["g"] == "g3", "yes", df["y"]))
    display = GroupRocDisplay.from_estimator(model, df)
    assert list(display.levels.index[display.levels["auc"].isna()]) == ["g3"]
    assert "1 have one class alone" in display.axes_[1].get_title()
    with pytest.raises(ValueError, match="both classes"):
        GroupRocDisplay.from_estimator(model, df[df["g"] == "g3"])


def test_other_responses_are_refused(slopes, sleep):
    for display in (GroupCalibrationDisplay, GroupRocDisplay):
        with pytest.raises(ValueError, match="outcomes of two classes"):
            display.from_estimator(slopes, sleep)
    counts = MixedGLMRegressor("y ~ 1 + (1 | g)", family="poisson")
    df = pd.DataFrame({"g": np.arange(40) % 8, "y": np.arange(40) % 2})
    with pytest.raises(ValueError, match="outcomes of two classes"):
        GroupRocDisplay.from_estimator(counts.fit(df), df)
    with pytest.raises(ValueError, match="no grouping factor 'h'"):
        GroupRocDisplay.from_estimator(counts, df, group="h")


def test_other_estimators_are_told_apart_from_unfitted_ones(sleep):
    other = LinearRegression().fit(sleep[["Days"]], sleep["Reaction"])
    with pytest.raises(TypeError, match="for mixed models, got LinearRegression"):
        TrellisDisplay.from_estimator(other, sleep, x="Days")
    with pytest.raises(ValueError, match="is not fitted"):
        TrellisDisplay.from_estimator(MixedLinearRegressor("Reaction ~ Days"), sleep)
