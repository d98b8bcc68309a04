"""Likelihood-ratio tests: the table, its p-values on the boundary, and what cannot be compared."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from skmixed import MixedLinearRegressor, SingularFitWarning
from skmixed.datasets import load_sleepstudy
from skmixed.inference import likelihood_ratio_test


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


def _fit(formula, frame, **settings):
    return MixedLinearRegressor(f"Reaction ~ {formula}", **settings).fit(frame)


def test_table_of_lme4(sleep):
    """lme4 1.1-31: anova(fm2, fm1), fm1 <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy),
    fm2 <- lmer(Reaction ~ Days + (1 | Subject) + (0 + Days | Subject), sleepstudy)."""
    table = likelihood_ratio_test(
        _fit("Days + (1 | Subject) + (0 + Days | Subject)", sleep),
        _fit("Days + (Days | Subject)", sleep),
    )
    assert table["npar"].tolist() == [5, 6]
    np.testing.assert_allclose(table["AIC"], [1762.0, 1763.9], atol=0.05)
    np.testing.assert_allclose(table["BIC"], [1778.0, 1783.1], atol=0.05)
    np.testing.assert_allclose(table["logLik"], [-876.00, -875.97], atol=0.005)
    np.testing.assert_allclose(table["Chisq"].iloc[1], 0.0639, atol=5e-5)
    assert table["Df"].iloc[1] == 1
    np.testing.assert_allclose(table["p-value"].iloc[1], 0.8004, atol=5e-5)
    assert np.isnan(table["p-value (boundary)"].iloc[1])
    assert table.iloc[0, 5:].isna().all()


def test_reml_fits_are_refitted(sleep):
    formulas = ["Days + (1 | Subject)", "Days + (Days | Subject)"]
    by_reml, by_ml = (
        likelihood_ratio_test(*(_fit(f, sleep, reml=reml) for f in formulas))
        for reml in (True, False)
    )
    pd.testing.assert_frame_equal(by_reml, by_ml, atol=1e-6, rtol=0)


def test_models_are_left_as_they_were(sleep):
    model = _fit("Days + (1 | Subject)", sleep)
    before = model.deviance_
    likelihood_ratio_test(model, _fit("Days + (Days | Subject)", sleep))
    assert model.deviance_ == before
    assert model.result_.reml


def test_order_does_not_matter(sleep):
    models = [_fit(f, sleep) for f in ("Days + (1 | Subject)", "Days", "Days + (Days | Subject)")]
    expected = likelihood_ratio_test(*models)
    for order in ([2, 0, 1], [1, 2, 0], [2, 1, 0]):
        found = likelihood_ratio_test(*(models[i] for i in order))
        pd.testing.assert_frame_equal(found, expected)
    assert [name.count("|") for name in expected.index] == [0, 1, 1]


def test_fixed_effects(sleep):
    table = likelihood_ratio_test(
        _fit("1 + (1 | Subject)", sleep), _fit("poly(Days, 2) + (1 | Subject)", sleep)
    )
    statistic = table["deviance"].iloc[0] - table["deviance"].iloc[1]
    assert table["Chisq"].iloc[1] == pytest.approx(statistic)
    assert table["Df"].iloc[1] == 2
    assert table["p-value"].iloc[1] == pytest.approx(chi2.sf(statistic, 2))
    assert np.isnan(table["p-value (boundary)"].iloc[1])


def test_one_variance_halves_the_p_value(sleep):
    table = likelihood_ratio_test(_fit("Days", sleep), _fit("Days + (1 | Subject)", sleep))
    row = table.iloc[1]
    assert row["p-value (boundary)"] == pytest.approx(row["p-value"] / 2)


def test_two_variances(sleep):
    table = likelihood_ratio_test(_fit("Days", sleep), _fit("Days + (Days || Subject)", sleep))
    row = table.iloc[1]
    expected = chi2.sf(row["Chisq"], 1) / 2 + chi2.sf(row["Chisq"], 2) / 4
    assert row["p-value (boundary)"] == pytest.approx(expected)


def test_a_correlated_slope(sleep):
    """Stram and Lee: one variance and one covariance, (chi2_1 + chi2_2) / 2."""
    table = likelihood_ratio_test(
        _fit("Days + (1 | Subject)", sleep), _fit("Days + (Days | Subject)", sleep)
    )
    row = table.iloc[1]
    expected = (chi2.sf(row["Chisq"], 1) + chi2.sf(row["Chisq"], 2)) / 2
    assert row["p-value (boundary)"] == pytest.approx(expected)
    assert row["p-value (boundary)"] < row["p-value"]


def test_no_boundary_where_fixed_effects_change_too(sleep):
    table = likelihood_ratio_test(_fit("1", sleep), _fit("Days + (1 | Subject)", sleep))
    assert np.isnan(table["p-value (boundary)"].iloc[1])
    other = likelihood_ratio_test(
        _fit("Days", sleep), _fit("I(Days**2) + (1 | Subject)", sleep)
    )  # as many columns, but not the same
    assert np.isnan(other["p-value (boundary)"].iloc[1])


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_boundary_p_value_holds_its_level():
    """Without a group effect the corrected test rejects 5 % of the time, the plain one less."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(size=200), "g": np.repeat(np.arange(40), 5)})
    plain, corrected = [], []
    for _ in range(300):
        data["y"] = data["x"] + rng.normal(size=200)
        row = likelihood_ratio_test(
            MixedLinearRegressor("y ~ x", reml=False).fit(data),
            MixedLinearRegressor("y ~ x + (1 | g)", reml=False).fit(data),
        ).iloc[1]
        plain.append(row["p-value"])
        corrected.append(row["p-value (boundary)"])
    # 300 draws: 5 % has a standard error of 1.3 %
    assert 0.02 < np.mean(np.array(corrected) < 0.05) < 0.09
    assert np.mean(np.array(plain) < 0.05) < np.mean(np.array(corrected) < 0.05)
    assert 0.4 < np.mean(np.array(corrected) == 1.0) < 0.65  # the point mass at zero


def test_boundary_p_value_of_a_statistic_of_zero():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.repeat(np.arange(20), 5), "y": rng.normal(size=100)})
    data["y"] -= data.groupby("g")["y"].transform("mean")
    with pytest.warns(SingularFitWarning):
        large = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data)
    row = likelihood_ratio_test(MixedLinearRegressor("y ~ 1").fit(data), large).iloc[1]
    assert row["Chisq"] == pytest.approx(0.0, abs=1e-9)
    assert row["p-value"] == pytest.approx(1.0, abs=1e-4)


def test_ml_fits_can_be_compared_after_pickling(sleep):
    models = [_fit(f, sleep, reml=False) for f in ("Days", "Days + (Days | Subject)")]
    copies = pickle.loads(pickle.dumps(models))
    pd.testing.assert_frame_equal(likelihood_ratio_test(*copies), likelihood_ratio_test(*models))


def test_equally_many_parameters_are_not_tested(sleep):
    table = likelihood_ratio_test(
        _fit("Days + (1 | Subject)", sleep), _fit("Days + (0 + Days | Subject)", sleep)
    )
    assert table["Df"].iloc[1] == 0
    assert np.isnan(table["p-value"].iloc[1])


def test_models_that_are_not_nested(sleep):
    noise = sleep.assign(
        a=np.random.default_rng(0).normal(size=180), b=np.random.default_rng(1).normal(size=180)
    )
    small, large = _fit("Days + (1 | Subject)", noise), _fit("a + b + (1 | Subject)", noise)
    with pytest.warns(UserWarning, match="fits worse: it does not contain it"):
        table = likelihood_ratio_test(small, large)
    assert table["Chisq"].iloc[1] < 0
    assert np.isnan(table["p-value"].iloc[1])


def test_what_cannot_be_compared(sleep):
    model = _fit("Days + (1 | Subject)", sleep)
    with pytest.raises(ValueError, match="two or more models, got 1"):
        likelihood_ratio_test(model)
    with pytest.raises(ValueError, match=r"different numbers of observations .*180.*170|170.*180"):
        likelihood_ratio_test(model, _fit("Days + (Days | Subject)", sleep[:170]))
    other = MixedLinearRegressor("log(Reaction) ~ Days + (Days | Subject)").fit(sleep)
    with pytest.raises(ValueError, match=r"different responses .values, order or transformation"):
        likelihood_ratio_test(model, other)
    with pytest.raises(ValueError, match="model 2 of likelihood_ratio_test is not a fitted"):
        likelihood_ratio_test(model, MixedLinearRegressor("Days"))
    with pytest.raises(ValueError, match="not pickled: fit the model again"):
        likelihood_ratio_test(*pickle.loads(pickle.dumps((model, _fit("Days", sleep)))))
