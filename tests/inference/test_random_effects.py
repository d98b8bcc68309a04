"""Tests of random effects: lmerTest's ranova, and fits without the term."""

import pickle

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import load_cbpp, load_machines, load_sleepstudy
from skmixed.exceptions import ComparisonWarning
from skmixed.inference import likelihood_ratio_test, random_effects_test

pytestmark = pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")


def test_tables_of_lmertest(reference):
    if "ranova" not in reference.ref:
        pytest.skip("no table")
    found = random_effects_test(reference.model)
    assert [row["term"] for row in reference.ref["ranova"]] == list(found.index)
    for row in reference.ref["ranova"]:
        own = found.loc[row["term"]]
        assert own["n_params"] == row["npar"]
        assert own["log_likelihood"] == pytest.approx(row["logLik"], rel=1e-9, abs=1e-7)
        assert own["aic"] == pytest.approx(row["AIC"], rel=1e-9)
        if row["Df"] is None:
            assert own[["lrt", "df", "p_value", "p_value_boundary"]].isna().all()
        else:
            assert own["lrt"] == pytest.approx(row["LRT"], rel=1e-6, abs=1e-7)
            assert own["df"] == row["Df"]
            assert own["p_value"] == pytest.approx(row["Pr(>Chisq)"], rel=1e-5)


def deviance(formula, data, **settings):
    return MixedLinearRegressor(formula, **settings).fit(data).deviance_


@pytest.fixture(scope="module")
def crossed():
    rng = np.random.default_rng(5)
    n = 240
    data = pd.DataFrame({"x": rng.normal(size=n) + 3, "z": rng.normal(size=n)})
    data["f"], data["h"] = rng.choice(list("uvw"), n), rng.choice(list("st"), n)
    data["g"], data["k"] = np.arange(n) % 12, rng.integers(0, 9, n)
    slopes, effects = rng.normal(size=(12, 2)), rng.normal(size=9)
    data["y"] = slopes[data["g"], 0] + slopes[data["g"], 1] * data["x"] + effects[data["k"]]
    data["y"] += rng.normal(size=n)
    return data


SMALLER = {
    "(x + z | g) + (1 | k)": {
        "x in (x + z | g)": "(z | g) + (1 | k)",
        "z in (x + z | g)": "(x | g) + (1 | k)",
        "(1 | k)": "(x + z | g)",
    },
    "(x || g)": {"(1 | g)": "(0 + x | g)", "x in (0 + x | g)": "(1 | g)"},
    "(x * z | g)": {"x:z in (x + z + x:z | g)": "(x + z | g)"},
    "(f | g)": {"f in (f | g)": "(1 | g)"},
    "(0 + f + x | k)": {
        "f in (0 + f + x | k)": "(0 + x | k)",
        "x in (0 + f + x | k)": "(0 + f | k)",
    },
    "(0 + f + h | k)": {
        "f in (0 + f + h | k)": "(0 + h | k)",
        "h in (0 + f + h | k)": "(0 + f | k)",
    },
    "(1 | g:h)": {"(1 | g:h)": ""},
}  # fmt: skip


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("random", SMALLER)
def test_reductions_are_fits_of_the_smaller_model(random, reml, crossed):
    model = MixedLinearRegressor(f"y ~ x + {random}", reml=reml).fit(crossed)
    found = random_effects_test(model)
    assert list(found.index[1:]) == list(SMALLER[random])
    for name, smaller in SMALLER[random].items():
        formula = "y ~ x" + (f" + {smaller}" if smaller else "")
        expected = deviance(formula, crossed, reml=reml)
        assert -2 * found.loc[name, "log_likelihood"] == pytest.approx(expected, abs=2e-6)


def test_boundary_p_values_are_those_of_comparisons():
    data = load_sleepstudy().frame
    large = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", reml=False).fit(data)
    small = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", reml=False).fit(data)
    found = random_effects_test(large).iloc[1]
    table = likelihood_ratio_test(small, large).iloc[1]
    for ours, theirs in (("lrt", "Chisq"), ("p_value", "p-value"),
                         ("p_value_boundary", "p-value (boundary)")):  # fmt: skip
        assert found[ours] == pytest.approx(table[theirs], rel=1e-5)
    machines = MixedLinearRegressor("score ~ Machine + (Machine | Worker)").fit(
        load_machines().frame
    )
    assert np.isnan(random_effects_test(machines)["p_value_boundary"].iloc[1])  # two effects go


def test_units_do_not_matter():
    data = load_sleepstudy().frame.assign(far=lambda d: 1e-4 * d["Days"] + 1e3)
    formula = "Reaction ~ Days + ({} | Subject)"
    plain = random_effects_test(MixedLinearRegressor(formula.format("Days")).fit(data))
    # with free correlations a shift is no other model; without the slope both are (1 | Subject)
    shifted = random_effects_test(MixedLinearRegressor(formula.format("far")).fit(data))
    np.testing.assert_allclose(shifted.to_numpy(), plain.to_numpy(), rtol=1e-5)


def test_models_without_such_a_test():
    data = load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(data)
    with pytest.raises(ValueError, match="cross-products of the data, which are not pickled"):
        random_effects_test(pickle.loads(pickle.dumps(model)))
    with pytest.raises(ValueError, match="no random effects to test"):
        random_effects_test(MixedLinearRegressor("Reaction ~ Days").fit(data))
    with pytest.raises(ValueError, match="is not a fitted model: call fit first"):
        random_effects_test(MixedLinearRegressor("Reaction ~ Days"))
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    general = MixedGLMRegressor(formula, family="binomial").fit(load_cbpp().frame)
    with pytest.raises(ValueError, match=r"got MixedGLMRegressor: .*with likelihood_ratio_test"):
        random_effects_test(general)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_missed_optimum_is_told():
    data = load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", max_iter=1).fit(data)
    fit = model.result_
    object.__setattr__(fit, "deviance", fit.deviance + 100.0)
    with pytest.warns(ComparisonWarning, match="fits better, by"):
        found = random_effects_test(model)
    assert np.isnan(found["p_value"].iloc[1])
