"""Several responses: a model of each, as if it were fitted alone."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmixed import (
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
    SingularFitWarning,
)
from skmixed.models import deviance

FORMULA = "x + (x | g)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(20), 9)
    X = pd.DataFrame({"x": rng.normal(size=180), "g": [f"g{k}" for k in g]})
    X["o"], X["w"] = rng.normal(size=180), rng.uniform(0.5, 2, 180)
    X["t"] = np.tile(np.arange(9), 20)
    Y = pd.DataFrame(index=X.index)
    for name, size in (("weight", 1.0), ("height", 1e4), ("dose", 1e-3)):
        b = rng.normal(size=(2, 20))
        Y[name] = size * (3 + b[0, g] + X["x"] * (1 + b[1, g]) + rng.normal(size=180))
    return X, Y


SETTINGS = {
    "mixed": {},
    "offset": {"formula": "x + (1 | g) + offset(o)"},
    "weights": {"prior_weights": "w", "reml": False},
    "fixed": {"formula": "x"},
    "groups": {"formula": "x + (1 | groups)"},
    "smooth": {"formula": "s(x) + (1 | g)"},
    "residual": {"formula": "x + (1 | g)", "residual": "ar1(t | g)"},
    "iterative": {"formula": "x + (1 | g)", "solver": "iterative"},
}


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_response_is_fitted_as_if_alone(setting, data):
    X, Y = data
    model = MixedLinearRegressor(**{"formula": FORMULA} | setting)
    given = {"groups": X["g"]} if "groups" in model.formula else {}
    several = clone(model).fit(X, Y, **given)
    predicted = several.predict(X, **given)
    assert predicted.shape == Y.shape
    for k, name in enumerate(Y):
        alone = clone(model).fit(X, Y[name], **given)
        assert several.deviance_[k] == pytest.approx(alone.deviance_, rel=1e-8)
        size = Y[name].std()
        np.testing.assert_allclose(predicted[:, k], alone.predict(X, **given), atol=1e-6 * size)
        np.testing.assert_allclose(several.coef_[k], alone.coef_, atol=1e-6 * size)
        own = several.estimators_[k]
        assert own.summary().__str__().splitlines()[0] == str(alone.summary()).splitlines()[0]
        np.testing.assert_allclose(own.vcov_, alone.vcov_, rtol=1e-5)
        np.testing.assert_allclose(own.predict(X, **given), predicted[:, k])


def test_weights_count_rows(data):
    X, Y = data
    counts = np.random.default_rng(1).integers(0, 3, len(X))
    several = MixedLinearRegressor(FORMULA).fit(X, Y, sample_weight=counts)
    for k, name in enumerate(Y):
        alone = MixedLinearRegressor(FORMULA).fit(X, Y[name], sample_weight=counts)
        assert several.deviance_[k] == pytest.approx(alone.deviance_, rel=1e-8)
    assert several.n_obs_ == counts.sum()


def test_shapes(data):
    X, Y = data
    model = MixedLinearRegressor("x + o + (x | g)").fit(X, Y)
    assert model.coef_.shape == (3, 2)
    assert model.theta_.shape == (3, 3)
    for name in ("intercept_", "sigma_", "deviance_", "log_likelihood_", "aic_", "bic_"):
        assert getattr(model, name).shape == (3,), name
    for name in ("is_singular_", "converged_", "n_iter_", "n_evaluations_"):
        assert getattr(model, name).shape == (3,), name
    for table in (model.fixed_effects_, model.standard_errors_):
        assert table.columns.tolist() == Y.columns.tolist() == model.response_names_
        assert table.index.tolist() == ["Intercept", "x", "o"]
    assert model.n_obs_ == 180
    assert len(model.estimators_) == 3
    mean, std = model.predict(X[:5], return_std=True)
    assert mean.shape == std.shape == (5, 3)
    assert model.predict(X[:1], random_effects=False).shape == (1, 3)


def test_cross_products_are_made_once(data, monkeypatch):
    """The design is assembled for the first response; the others bring their own products."""
    X, Y = data
    made = []
    real = deviance.ProfiledDeviance.from_design.__func__

    def from_design(cls, *args, **kwargs):
        made.append(1)
        return real(cls, *args, **kwargs)

    monkeypatch.setattr(deviance.ProfiledDeviance, "from_design", classmethod(from_design))
    MixedLinearRegressor(FORMULA).fit(X, Y)
    assert len(made) == 1


@pytest.mark.parametrize("kind", ["array", "list", "polars", "object"])
def test_responses_of_any_kind(kind, data):
    X, Y = data
    given = {
        "array": Y.to_numpy(),
        "list": Y.to_numpy().tolist(),
        "polars": pl.DataFrame(Y.to_dict("list")),
        "object": Y.to_numpy(dtype=object),
    }[kind]
    model = MixedLinearRegressor(FORMULA).fit(X, given)
    np.testing.assert_allclose(model.predict(X), MixedLinearRegressor(FORMULA).fit(X, Y).predict(X))
    names = list(Y) if kind == "polars" else ["y0", "y1", "y2"]
    assert model.response_names_ == names


def test_one_column_is_one_response(data):
    X, Y = data
    model = MixedLinearRegressor(FORMULA).fit(X, Y[["weight"]])
    assert model.predict(X).shape == (180,)
    assert not hasattr(model, "estimators_")


def test_rows_in_which_a_response_is_missing(data):
    X, Y = data
    holes = Y.copy()
    holes.iloc[3, 1] = holes.iloc[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"missing"):
        MixedLinearRegressor(FORMULA).fit(X, holes)
    model = MixedLinearRegressor(FORMULA, missing="drop").fit(X, holes)
    kept = holes.notna().all(axis=1)
    whole = MixedLinearRegressor(FORMULA).fit(X[kept], Y[kept])
    np.testing.assert_allclose(model.deviance_, whole.deviance_, rtol=1e-8)
    assert model.score(X, holes) == pytest.approx(whole.score(X[kept], Y[kept]), rel=1e-6)


def test_score_is_the_mean_over_the_responses(data):
    X, Y = data
    model = MixedLinearRegressor(FORMULA).fit(X, Y)
    each = [one.score(X, Y[name]) for one, name in zip(model.estimators_, Y, strict=True)]
    assert model.score(X, Y) == pytest.approx(np.mean(each))
    with pytest.raises(ValueError, match="the model has 3 responses, y has 2"):
        model.score(X, Y.iloc[:, :2])
    cv = KFold(3, shuffle=True, random_state=0)
    assert cross_val_score(model, X, Y, cv=cv).min() > 0


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, X, Y: model.summary(),
        lambda model, X, Y: model.random_effects_,
        lambda model, X, Y: model.vcov_,
        lambda model, X, Y: model.predict_interval(X),
        lambda model, X, Y: model.simulate(X),
        lambda model, X, Y: model.residuals(X, Y),
        lambda model, X, Y: model.anova(),
        lambda model, X, Y: model.confint(),
    ],
)
def test_what_only_one_response_has_says_where_it_is(ask, data):
    model = MixedLinearRegressor(FORMULA).fit(*data)
    with pytest.raises((AttributeError, ValueError), match=r"3 responses.*estimators_\[0\]"):
        ask(model, *data)
    ask(model.estimators_[0], data[0], data[1]["weight"])


def test_other_fits_leave_nothing_behind(data):
    X, Y = data
    model = MixedLinearRegressor(FORMULA, warm_start=True).fit(X, Y)
    model.fit(X, Y["weight"])
    assert model.predict(X).shape == (180,)
    assert isinstance(model.deviance_, float)
    assert not hasattr(model, "estimators_")
    assert model.fit(X, Y).deviance_.shape == (3,)
    assert model.fit(X, Y).deviance_.shape == (3,)
    with pytest.raises(NotFittedError):
        clone(model).predict(X)
    assert not hasattr(clone(model), "coef_")


def test_pickles_and_pipelines(data):
    X, Y = data
    model = make_pipeline(FunctionTransformer(), MixedLinearRegressor(FORMULA)).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict(X), model.predict(X))
    assert again[-1].fixed_effects_.shape == (2, 3)


def test_notebooks_show_every_response(data):
    X, Y = data
    model = MixedLinearRegressor(FORMULA).fit(X, Y.rename(columns={"dose": "a < b"}))
    shown = model._repr_html_()
    assert all(f"<h3>{name}</h3>" in shown for name in ("weight", "height", "a &lt; b"))
    assert shown.count("REML criterion") == 3 * model.estimators_[0]._repr_html_().count(
        "REML criterion"
    )


def test_reports_are_of_the_rows(data):
    X, Y = data
    several, one = (MixedLinearRegressor(FORMULA).fit(X, y) for y in (Y, Y["dose"]))
    new = X[:4].assign(g=["g1", "new", None, "g2"])
    pd.testing.assert_frame_equal(several.predict_report(new), one.predict_report(new))


def test_a_response_that_explains_itself(data):
    X, Y = data
    with pytest.raises(ValueError, match="the response y is also the column 'dose' of X"):
        MixedLinearRegressor(". + (1 | g)").fit(X.assign(dose=Y["dose"]), Y)
    with pytest.raises(ValueError, match="the formula 'x' does not use them"):
        MixedLinearRegressor("x").fit(X, Y, groups=X["g"])


def test_a_singular_response_is_told(data):
    X, Y = data
    noise = np.random.default_rng(0).normal(size=180)
    with pytest.warns(SingularFitWarning):
        model = MixedLinearRegressor("x + (1 | g)").fit(X, Y.assign(noise=noise))
    assert model.is_singular_[:3].tolist() == [False] * 3


def test_exact_responses_stand_beside_others(data):
    X, Y = data
    exact = Y[["weight"]].assign(line=1 + 2 * X["x"])[["line", "weight"]]
    with pytest.warns(match="explain"):
        model = MixedLinearRegressor("x + (1 | g)").fit(X, exact)
    alone = MixedLinearRegressor("x + (1 | g)").fit(X, Y["weight"])
    assert model.deviance_[1] == pytest.approx(alone.deviance_, rel=1e-8)


@pytest.mark.parametrize(
    "cls", [MixedGLMRegressor, MixedLogisticClassifier, MixedNonlinearRegressor]
)
def test_other_models_have_one_response(cls, data):
    X, Y = data
    with pytest.raises(ValueError, match=rf"MultiOutputRegressor\({cls.__name__}\("):
        cls().fit(X[["x"]], Y, groups=X["g"])


def test_multi_output_regressor(data):
    X, Y = data
    model = MultiOutputRegressor(MixedLinearRegressor(FORMULA)).fit(X, Y)
    own = MixedLinearRegressor(FORMULA).fit(X, Y)
    np.testing.assert_allclose(model.predict(X), own.predict(X), rtol=1e-5)
