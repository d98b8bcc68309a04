"""Fixed effects left out in turn."""

import numpy as np
import pandas as pd
import pytest

from skmixed import GeneralizedInverseRegressor, MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import load_cake, load_sleepstudy
from skmixed.inference import drop1, likelihood_ratio_test
from skmixed.inference.refits import with_fixed


@pytest.fixture(scope="module")
def cake():
    return load_cake().frame


@pytest.mark.parametrize(
    "name", ["glmm_cbpp_binomial", "glmm_cbpp_slopefree_poisson", "glmm_grouseticks_poisson"]
)
def test_tests_of_lme4(name, json_of, table_of):
    """R 4.2, lme4 1.1-31: both fits polished."""
    ref = json_of(name)
    data = table_of(ref)
    model = MixedGLMRegressor(ref["formula"], family=ref["family"]).fit(data)
    found = drop1(model, data)
    assert list(found.index) == ["<none>", *(row["term"] for row in ref["lrt_drop1"])]
    for row in ref["lrt_drop1"]:
        own = found.loc[row["term"]]
        assert -2 * own["log_likelihood"] == pytest.approx(row["objective"], rel=1e-8)
        assert own["lrt"] == pytest.approx(row["chisq"], rel=1e-6)
        assert own["df"] == row["df"]
        assert own["p_value"] == pytest.approx(row["p"], rel=1e-5)


def test_linear_models_are_fitted_by_maximum_likelihood(cake):
    formula = "angle ~ recipe + temp + (1 | recipe:replicate)"
    model = MixedLinearRegressor(formula).fit(cake)
    found = drop1(model, cake)
    small = MixedLinearRegressor("angle ~ temp + (1 | recipe:replicate)").fit(cake)
    table = likelihood_ratio_test(small, model)
    assert found.loc["recipe", "lrt"] == pytest.approx(table["Chisq"].iloc[1], rel=1e-6)
    assert found.loc["<none>", "log_likelihood"] == pytest.approx(table["logLik"].iloc[1], rel=1e-9)
    assert model.reml


def test_main_effects_stay_with_their_interactions(cake):
    formula = "angle ~ recipe * temp + I(temp**2) + (1 | recipe:replicate)"
    found = drop1(MixedLinearRegressor(formula).fit(cake), cake)
    assert list(found.index) == ["<none>", "I(temp ** 2)", "recipe:temp"]


def test_everything_else_is_as_at_the_fit():
    data = load_sleepstudy().frame.assign(w=lambda d: 1.0 + d["Days"] % 2)
    data["far from"] = data["Days"] * 2.0
    X, y = data.drop(columns="Reaction"), data["Reaction"]
    counts = 1 + np.arange(180) % 2
    formula = "0 + `far from` + I(Days**2) + offset(3 * Days) + (1 | groups) + (0 + Days | groups)"
    model = MixedLinearRegressor(formula, prior_weights="w")
    model.fit(X, y, groups=X["Subject"], sample_weight=counts)
    found = drop1(model, X, y, groups=X["Subject"], sample_weight=counts)
    smaller = MixedLinearRegressor(
        formula.replace(" + I(Days**2)", ""), prior_weights="w", reml=False
    ).fit(X, y, groups=X["Subject"], sample_weight=counts)
    assert list(found.index) == ["<none>", "far from", "I(Days ** 2)"]
    assert found.loc["I(Days ** 2)", "log_likelihood"] == pytest.approx(smaller.log_likelihood_)
    with pytest.raises(ValueError, match=r"these have other frequencies: pass what the model was"):
        drop1(model, X, y, groups=X["Subject"])
    with pytest.raises(ValueError, match="these have other response"):
        drop1(model, X, y + X["Days"], groups=X["Subject"], sample_weight=counts)


def test_formulas_of_other_fixed_effects():
    data = pd.DataFrame({"a": list("uv") * 20, "b": np.arange(40) // 4, "c.d": np.arange(40.0)})
    data["e"] = np.random.default_rng(1).normal(size=40)
    data["y"] = np.random.default_rng(0).normal(size=40) + data["b"]
    model = MixedLinearRegressor("y ~ . + offset(log(c.d + 1)) + (1 | a:b) + (1 | b)")
    model.fit(data)
    assert list(drop1(model, data).index) == ["<none>", "e"]
    text = with_fixed(model, "1").formula
    other = MixedLinearRegressor(text).fit(data)
    assert list(other.fixed_effects_.index) == ["Intercept"]
    assert list(other.random_effects_) == ["a:b", "b"]
    assert other.design_spec_.offsets and other.labels_.terms == model.labels_.terms


def test_other_models(cake):
    with pytest.raises(ValueError, match="is not a fitted model: call fit first"):
        drop1(MixedLinearRegressor("angle ~ temp"), cake)
    linear = GeneralizedInverseRegressor(formula="angle ~ temp").fit(cake)
    with pytest.raises(ValueError, match="drop1 is for mixed models, got GeneralizedInverseRegr"):
        drop1(linear, cake)
