"""Parametric bootstrap of likelihood ratios."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from skmixed import (
    BootstrapWarning,
    ComparisonWarning,
    MixedGLMRegressor,
    MixedLinearRegressor,
    datasets,
)
from skmixed.inference import bootstrap_test, likelihood_ratio_test
from skmixed.inference.bootstrap_ratios import BootstrapTest, _Drawn
from skmixed.inference.refitted import refits_of
from skmixed.models import refits

FOLDER = Path(__file__).parents[1] / "data" / "bootstrap"


@pytest.fixture(scope="module")
def cake():
    data = datasets.load_cake().frame
    small = MixedLinearRegressor("angle ~ temp + (1 | recipe:replicate)").fit(data)
    large = MixedLinearRegressor("angle ~ recipe + temp + (1 | recipe:replicate)").fit(data)
    return data, small, large


def few_days():
    data = datasets.load_sleepstudy().frame
    return data[data["Subject"].isin(sorted(data["Subject"].unique())[:5]) & (data["Days"] < 4)]


@pytest.mark.parametrize("name", ["cake_recipe", "sleepstudy_few_days"])
def test_p_values_of_pbkrtest(name, cake):
    """PBmodcomp: statistic to rounding, p-value and mean within 4 Monte-Carlo errors."""
    ref, (data, small, large) = json.loads((FOLDER / "bootstrap.json").read_text())[name], cake
    if name == "sleepstudy_few_days":
        data = few_days()
        small = MixedLinearRegressor("Reaction ~ 1 + (1 | Subject)").fit(data)
        large = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(data)
    n = 600
    test = bootstrap_test(small, large, data, n=n, random_state=0)
    assert test.statistic == pytest.approx(ref["statistic"], rel=1e-5)
    p = dict(zip(ref["rows"], ref["p"], strict=True))
    apart = 4 * np.sqrt(1 / n + 1 / ref["n"])
    assert test.p_value == pytest.approx(
        p["PBtest"], abs=apart * np.sqrt(p["PBtest"] * (1 - p["PBtest"])) + 1 / n
    )
    positive = test.draws[test.draws > 1e-9]
    assert positive.mean() == pytest.approx(ref["mean"], abs=apart * positive.std())
    assert test.table.loc["LRT", "p_value"] == pytest.approx(p["LRT"], rel=1e-4)


def test_p_values_are_counted():
    """By hand: (r + 1) / (m + 1), Bartlett, F and gamma from the moments."""
    row = {"Chisq": 4.0, "Df": 2, "p-value (boundary)": np.nan}
    draws = np.array([0.5, 1.0, 4.0, 5.0, 2.5, np.nan])
    found = [_Drawn(value, "planted" if np.isnan(value) else "") for value in draws]
    test = BootstrapTest.of(row, ("small", "large"), found)
    assert test.p_value == pytest.approx(3 / 6) and test.n_failed == 1
    mean, variance = draws[:5].mean(), draws[:5].var(ddof=1)
    p = test.table["p_value"]
    assert p["Bartlett"] == pytest.approx(stats.chi2.sf(8.0 / mean, 2))
    assert p["F"] == pytest.approx(stats.f.sf(2.0, 2, 2 * mean / (mean - 2)))
    gamma = stats.gamma(mean**2 / variance, scale=variance / mean)
    assert p["gamma"] == pytest.approx(gamma.sf(4.0))
    assert gamma.mean() == pytest.approx(mean) and gamma.var() == pytest.approx(variance)


def test_statistics_are_those_of_the_estimators(cake):
    data, small, large = cake
    test = bootstrap_test(large, small, data, n=3, random_state=0)
    assert test.models == (small.formula, large.formula)
    source = refits_of(small, data, None, None, None, "test").by_maximum_likelihood().parametric()
    seeds = np.random.SeedSequence(0).spawn(3)
    for value, seed in zip(test.draws, seeds, strict=True):
        drawn = data.assign(angle=source.draw(np.random.default_rng(seed)))
        own = [
            MixedLinearRegressor(model.formula, reml=False).fit(drawn).deviance_
            for model in (small, large)
        ]
        assert value == pytest.approx(own[0] - own[1], abs=1e-6)


def test_a_variance_on_the_boundary():
    """Where there is none the statistic is often 0 and its p-value 1; chi2_1 is too wide."""
    data = datasets.load_dyestuff().frame
    small = MixedLinearRegressor("Yield ~ 1").fit(data)
    large = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(data)
    test = bootstrap_test(small, large, data, n=400, random_state=0)
    assert 0.4 < np.mean(test.draws == 0) < 0.8
    boundary = likelihood_ratio_test(small, large)["p-value (boundary)"].iloc[1]
    assert test.boundary == boundary
    assert abs(test.p_value - boundary) < 4 * np.sqrt(boundary / 400) + 1 / 400
    assert list(test.table.index) == ["LRT", "bootstrap", "boundary", "gamma"]


def test_one_seed_has_one_answer_whatever_shares_the_work(cake):
    data, small, large = cake
    alone = bootstrap_test(small, large, data, n=100, random_state=1)
    shared = bootstrap_test(small, large, data, n=100, random_state=1, n_jobs=2)
    np.testing.assert_allclose(alone.draws, shared.draws, rtol=1e-9, atol=1e-12)


def test_generalised_models_and_text():
    data = datasets.load_cbpp().frame
    response = "cbind(incidence, size - incidence) ~ "
    small = MixedGLMRegressor(response + "1 + (1 | herd)", family="binomial").fit(data)
    large = MixedGLMRegressor(response + "period + (1 | herd)", family="binomial").fit(data)
    test = bootstrap_test(small, large, data, n=19, random_state=0)
    assert test.p_value == 1 / 20
    assert test.p_value_error == pytest.approx(np.sqrt(0.05 * 0.95 / 20))
    assert "19 responses drawn from the smaller model" in repr(test)
    assert response + "period + (1 | herd)" in test._repr_html_()


def test_the_level_is_kept_with_few_levels():
    """5 subjects, no effect: p-values of 50 data sets are about uniform."""
    rng, p = np.random.default_rng(3), []
    data = few_days().assign(x=np.tile([0.0, 0, 1, 1], 5))
    for _ in range(50):
        b = rng.standard_normal(5)
        data["y"] = b[data["Subject"].factorize()[0]] + rng.standard_normal(20)
        small = _quietly("y ~ 1 + (1 | Subject)", data)
        large = _quietly("y ~ x + (1 | Subject)", data)
        p.append(bootstrap_test(small, large, data, n=19, random_state=rng).p_value)
    assert stats.kstest(p, stats.uniform().cdf).pvalue > 1e-3


def _quietly(formula, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MixedLinearRegressor(formula).fit(data)


def test_models_that_are_not_nested(cake):
    data, small, _ = cake
    other = MixedLinearRegressor("angle ~ recipe + (1 | recipe:replicate)").fit(data)
    with (
        pytest.warns(ComparisonWarning, match="not nested"),
        pytest.raises(ValueError, match="no hypothesis to draw from"),
    ):
        bootstrap_test(small, other, data)
    with pytest.raises(ValueError, match="bootstrap_test needs the data of the fit"):
        bootstrap_test(cake[1], cake[2], data.assign(angle=data["angle"] + 1))
    with pytest.raises(ValueError, match="n must be an integer of at least 1"):
        bootstrap_test(cake[1], cake[2], data, n=0)


def test_failures_are_counted_and_told(cake, monkeypatch):
    """A planted error in some refits of the larger model."""
    data, small, large = cake
    usual = refits.fit_lmm

    scales = []
    monkeypatch.setattr(refits, "fit_lmm", lambda o, **s: scales.append(o.y_scale) or usual(o, **s))
    bootstrap_test(small, large, data, n=20, random_state=0)
    middle = float(np.median(scales))

    def planted(objective, **settings):
        if objective.rank == 4 and objective.y_scale > middle:
            raise ArithmeticError("planted")
        return usual(objective, **settings)

    monkeypatch.setattr(refits, "fit_lmm", planted)
    with pytest.warns(BootstrapWarning, match="of 20 refits failed: ArithmeticError: planted"):
        test = bootstrap_test(small, large, data, n=20, random_state=0)
    assert 0 < test.n_failed == np.isnan(test.draws).sum() < 20
    assert "refits failed: ArithmeticError: planted" in repr(test)
