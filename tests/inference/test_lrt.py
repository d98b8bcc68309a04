"""Likelihood-ratio tests: the table, its p-values on the boundary, and what cannot be compared."""

import pickle
import re
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from skmixed import (
    ComparisonWarning,
    MixedGLMRegressor,
    MixedLinearRegressor,
    SingularFitWarning,
)
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
    with pytest.warns(ComparisonWarning, match="nothing for 'Days' of the smaller one"):
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
    models = _fit("Days + (1 | Subject)", sleep), _fit("Days + (0 + Days | Subject)", sleep)
    for pair in (models, models[::-1], models[:1] * 2):
        with pytest.warns(ComparisonWarning, match="have as many parameters"):
            table = likelihood_ratio_test(*pair)
        assert table["Df"].iloc[1] == 0
        assert table["Chisq"].iloc[1] >= 0
        assert np.isnan(table["p-value"].iloc[1])


def test_models_that_are_not_nested(sleep):
    noise = sleep.assign(
        a=np.random.default_rng(0).normal(size=180), b=np.random.default_rng(1).normal(size=180)
    )
    small, large = _fit("Days + (1 | Subject)", noise), _fit("a + b + (1 | Subject)", noise)
    with pytest.warns(ComparisonWarning, match="not nested: .* nothing for 'Days' of"):
        table = likelihood_ratio_test(small, large)
    assert table["Chisq"].iloc[1] < 0
    assert np.isnan(table["p-value"].iloc[1])


# Nested or not: (the smaller model, the larger one, what it lacks)
NESTED = {
    "another basis": ("poly(Days, 2) + (1 | Subject)", "Days + I(Days**2) + (Days | Subject)", ""),
    "shifted": ("Days + (Days || Subject)", "I(Days + 1000) + (I(Days + 1000) | Subject)", ""),
    "cells": ("early + (1 | Subject) + (1 | Subject:early)", "early + (0 + early | Subject)", ""),
    "own label": ("Days + (1 | Subject)", "Days + (Days | person)", ""),
    "means": ("Days + (1 | Subject)", "C(Days) + (1 | Subject)", ""),
    "no constant": ("0 + Days + (1 | Subject)", "Days + (1 | Subject)", ""),
    "deficient": ("Days + twice + (1 | Subject)", "twice + noise + (1 | Subject)", ""),
    "a column": ("noise + (1 | Subject)", "Days + (Days | Subject)", "'noise'"),
    "the constant": ("1 + (1 | Subject)", "0 + Days + noise + (1 | Subject)", "'Intercept'"),
    "covariance": ("1 + (Days | Subject)", "C(Days) + (Days || Subject)", r"\(Intercept \+ Days"),
    "intercepts": ("Days + (1 | Subject)", "Days + (0 + Days | Subject) + (1 | half)",
                   r"\(Intercept \| Subject\)"),
    "labels": ("Days + (1 | shuffled)", "Days + (Days | Subject)", r"\(Intercept \| shuffled\)"),
    "no effects": ("Days + (1 | Subject)", "C(Days)", r"\(Intercept \| Subject\)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def more(sleep):
    rng = np.random.default_rng(3)
    return sleep.assign(
        early=np.where(sleep["Days"] < 4, "yes", "no"),
        person=sleep["Subject"].astype(str).radd("s"),
        twice=2 * sleep["Days"],
        noise=rng.normal(size=180),
        half=np.arange(180) % 2,
        shuffled=rng.permutation(sleep["Subject"]),
    )


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.filterwarnings("ignore::skmixed.exceptions.RankDeficiencyWarning")
@pytest.mark.parametrize("case", NESTED)
def test_nestedness_is_decided_from_the_fits(case, more):
    small, large, lacking = NESTED[case]
    models = [_fit(text, more, reml=False) for text in (small, large)]
    assert models[0].result_.n_params < models[1].result_.n_params
    for pair in (models, models[::-1], pickle.loads(pickle.dumps(models))):
        if not lacking:
            row = likelihood_ratio_test(*pair).iloc[1]
            assert row["p-value"] == pytest.approx(chi2.sf(row["Chisq"], row["Df"]))
            continue
        with pytest.warns(ComparisonWarning, match=f"not nested: .*nothing for {lacking}"):
            row = likelihood_ratio_test(*pair).iloc[1]
        assert np.isnan(row["p-value"])
        assert np.isnan(row["p-value (boundary)"])


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_boundary_hypotheses_do_not_depend_on_how_they_are_written(more):
    def boundary(small, large):
        return likelihood_ratio_test(_fit(small, more), _fit(large, more)).iloc[1].iloc[-1]

    expected = boundary("Days + (1 | Subject)", "Days + (Days | Subject)")
    again = boundary("I(Days * 2 - 1) + (1 | person)", "Days + (I(7 - Days) | Subject)")
    assert again == pytest.approx(expected, rel=1e-3)


def test_large_data_are_compared_by_some_of_their_rows():
    rng = np.random.default_rng(5)
    n = 70_000
    data = pd.DataFrame(
        {"x": rng.normal(size=n), "z": rng.normal(size=n), "g": np.arange(n) // 100}
    )
    data["h"] = rng.integers(0, 50, n)
    data["y"] = data["x"] + rng.normal(size=700)[data["g"]] + rng.normal(size=n)
    first = MixedLinearRegressor("y ~ x + (1 | g)").fit(data)
    row = likelihood_ratio_test(first, MixedLinearRegressor("y ~ x + z + (1 | g)").fit(data))
    assert 0 < row["p-value"].iloc[1] <= 1
    other = MixedLinearRegressor("y ~ z + C(h) + (1 | g)").fit(data)
    with pytest.warns(ComparisonWarning, match="nothing for 'x' of the"):
        likelihood_ratio_test(first, other)


def test_a_submodel_that_fits_better_is_a_missed_optimum(sleep):
    small, large = _fit("Days + (1 | Subject)", sleep), _fit("Days + (Days | Subject)", sleep)
    stopped = copy(large)
    stopped.result_ = replace(large.result_.refit(reml=False), deviance=1800.0)
    with pytest.warns(ComparisonWarning, match=r"contains .* fits worse, by 5\.9.* missed the opt"):
        table = likelihood_ratio_test(small, stopped)
    assert np.isnan(table["p-value"].iloc[1])


def test_a_fit_that_has_not_converged(sleep):
    with pytest.warns(UserWarning, match="has not converged"):
        large = _fit("Days + (Days | Subject)", sleep, max_iter=1, reml=False)
    with pytest.warns(ComparisonWarning, match=r"\(Days \| Subject\)' has not converged"):
        likelihood_ratio_test(_fit("Days + (1 | Subject)", sleep), large)


def test_weights_and_offsets_are_part_of_the_data(sleep):
    data = sleep.assign(w=np.tile([1.0, 2.0], 90), one=1.0, other=np.sqrt(np.arange(180.0)))
    plain = _fit("Days + (1 | Subject)", data)
    weighted = _fit("Days + (Days | Subject)", data, prior_weights="w")
    with pytest.raises(ValueError, match="different prior weights"):
        likelihood_ratio_test(plain, weighted)
    assert len(likelihood_ratio_test(plain, _fit("Days + (Days | Subject)", data,
                                                 prior_weights="one"))) == 2  # fmt: skip
    twice = np.where(np.arange(180) < 90, 2, 0)
    thrice = np.where(np.arange(180) % 2, 3, 1) * (twice > 0)  # as many in all
    repeated = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)")
    counted = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)")
    with pytest.raises(ValueError, match="different sample weights"):
        likelihood_ratio_test(repeated.fit(data, sample_weight=twice),
                              counted.fit(data, sample_weight=thrice))  # fmt: skip
    with pytest.raises(ValueError, match="different offsets, and the difference is no combination"):
        likelihood_ratio_test(plain, _fit("Days + offset(other) + (Days | Subject)", data))
    # a known coefficient is a hypothesis about the model that estimates it
    known = _fit("1 + offset(10 * Days) + (1 | Subject)", data)
    row = likelihood_ratio_test(known, plain).iloc[1]
    assert row["Df"] == 1
    z = (plain.fixed_effects_["Days"] - 10) / plain.standard_errors_["Days"]
    assert row["Chisq"] == pytest.approx(z**2, rel=0.03)


def test_other_rows_of_the_same_response():
    """Rows that a missing value left out are others, even where the response reads the same."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"g": np.arange(60) % 6, "x": rng.normal(size=60), "z": rng.normal(size=60),
                         "y": rng.normal(size=6)[np.arange(60) % 6]})  # fmt: skip
    data["y"] += np.tile(rng.normal(size=6), 10)  # rows repeat every six
    data.loc[:5, "x"], data.loc[54:, "z"] = np.nan, np.nan
    models = [MixedLinearRegressor(f, missing="drop") for f in ("y ~ x", "y ~ z + (1 | g)")]
    with pytest.warns(UserWarning):
        models[1].fit(data)
    with pytest.raises(ValueError, match="different rows of the data"):
        likelihood_ratio_test(models[0].fit(data), models[1])


def test_generalised_models():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"x": rng.normal(size=200), "g": np.arange(200) % 20})
    data["z"] = rng.normal(size=200)
    data["y"] = rng.poisson(np.exp(0.5 * data["x"] + 0.7 * rng.normal(size=20)[data["g"]]))

    def fit(formula, family="poisson", **settings):
        return MixedGLMRegressor(f"y ~ {formula}", family=family, **settings).fit(data)

    small, large = fit("z + (1 | g)"), fit("x + z + (1 | g)")
    row = likelihood_ratio_test(large, small).iloc[1]
    assert row["Df"] == 1
    assert row["p-value"] == pytest.approx(chi2.sf(row["Chisq"], 1))
    with pytest.raises(ValueError, match=r"families or links .*Poisson.*log.*NegativeBinomial"):
        likelihood_ratio_test(small, fit("x + z + (1 | g)", "negative_binomial"))
    with pytest.raises(ValueError, match=r"families or links .*log.*sqrt"):
        likelihood_ratio_test(small, fit("x + z + (1 | g)", link="sqrt"))
    with pytest.raises(ValueError, match="different kinds"):
        likelihood_ratio_test(small, fit("x + z + (1 | g)", n_agq=5))
    linear = MixedLinearRegressor("y ~ x + z + (1 | g)").fit(data)
    with pytest.raises(ValueError, match="different kinds"):
        likelihood_ratio_test(small, linear)
    with pytest.warns(ComparisonWarning, match="nothing for 'z'"):
        likelihood_ratio_test(small, fit("x + I(x**2) + (1 | g)"))


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SeparationWarning")
def test_a_category_that_separates_can_be_tested():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(size=120), "g": np.arange(120) % 12})
    data["y"] = rng.poisson(np.exp(rng.normal(size=12))[data["g"]])
    data["c"] = np.where(np.arange(120) < 10, "none", "some")
    data.loc[:9, "y"] = 0
    small, large = (
        MixedGLMRegressor(f"y ~ {text} + (1 | g)", family="poisson").fit(data)
        for text in ("x", "x + c")
    )
    for pair in ((small, large), pickle.loads(pickle.dumps((large, small)))):
        row = likelihood_ratio_test(*pair).iloc[1]
        assert row["Df"] == 1
        assert row["p-value"] < 0.01


def test_all_columns_are_printed(sleep):
    models = [_fit(f, sleep) for f in ("Days + (1 | Subject)", "Days + (Days | Subject)")]
    table = likelihood_ratio_test(*models)
    with pd.option_context("display.width", 40, "display.max_columns", 3):
        text = str(table)
    assert repr(table) == text
    assert "..." not in text
    head, body = text.split("\n\n")
    assert head.splitlines()[1] == "2: Reaction ~ Days + (Days | Subject)"
    assert (
        body.splitlines()[0].split()
        == "npar AIC BIC logLik deviance Chisq Df p-value p-value (boundary)".split()
    )
    found = [float(word) for word in body.splitlines()[2].split()[-2:]]
    assert found == pytest.approx([7.07e-10, 3.96e-10], rel=0.01)


def test_parts_print_numbers_in_the_place_of_formulas(sleep):
    models = [_fit(f, sleep) for f in ("Days + (1 | Subject)", "Days + (Days | Subject)")]
    table = likelihood_ratio_test(*models)
    for part in (table.round(2), table[["Df", "AIC"]], table[["AIC"]].round(1)):
        assert max(map(len, str(part).split("\n\n")[1].splitlines())) < 100
        assert str(part).startswith("1: Reaction ~ Days + (1 | Subject)\n2: ")
        assert part.index.tolist() == table.index.tolist()
    assert str(table[["AIC"]]).splitlines()[-1].split() == ["2", "1763.94"]
    for part in (table[table["Df"] > 1], table.iloc[1:], table * 2, table[[True, False]]):
        assert type(part) is pd.DataFrame
    assert table["Df"].iloc[1] == 2


def test_the_table_in_a_notebook_is_the_one_that_is_printed(sleep):
    table = likelihood_ratio_test(
        _fit("Days + (1 | Subject)", sleep), _fit("Days + (Days | Subject)", sleep)
    )
    html = table._repr_html_()
    assert html.startswith("<ol><li><code>Reaction ~ Days + (1 | Subject)</code></li>")
    assert re.findall("<th>([0-9])</th>", html) == ["1", "2"]
    cells = re.findall("<td>(.*)</td>", html)
    assert cells[:9] == ["4", "1802.08", "1814.85", "-897.04", "1794.08", "", "", "", ""]
    assert cells[9:16] == ["6", "1763.94", "1783.10", "-875.97", "1751.94", "42.1393", "2"]
    assert "nan" not in table._repr_html_().lower()
    with pd.option_context("display.width", 40, "display.max_columns", 3):
        assert "p-value (boundary)" in str(table)
        assert "p-value (boundary)" in table._repr_html_()


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
