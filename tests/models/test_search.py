"""Where the search ends: several minima, means of random effects, singular covariances."""

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.families import make_family
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.glmm import approximation, fit_glmm, starting_values
from skmixed.models.lmm import fit_lmm


def _objective(formula, data, *, reml=True):
    return ProfiledDeviance.from_design(build_design(formula, data), reml=reml)


def _lowest(objective):
    """The lowest criterion over many starts, each followed to its end."""
    start = objective.layout.initial()
    ends = [
        fit_lmm(objective, start=f * start).deviance for f in (0.03, 0.3, 1.0, 3.0, 10.0, 100.0)
    ]
    return min(ends)


def _common_slope(seed):
    """A slope that all levels share and X lacks, on a covariate far from zero."""
    rng = np.random.default_rng(seed)
    b, c, x = rng.integers(0, 7, 100), rng.integers(0, 4, 100), rng.normal(30, 1, 100)
    slope = rng.choice([0.2, 0.4, 0.8])
    y = 100 + 2 * rng.normal(size=7)[b] + slope * x + rng.normal(size=100)
    return pd.DataFrame({"b": b, "c": c, "x": x, "y": y})


def _no_intercept(seed):
    rng = np.random.default_rng(seed)
    c, x = rng.integers(0, 6, 100), rng.normal(size=100)
    y = 100 + 2 * rng.normal(size=6)[c] + (1 + rng.normal(size=6)[c]) * x + rng.normal(size=100)
    return pd.DataFrame({"c": c, "x": x, "y": y})


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("seed", [2, 9, 14, 18])
def test_a_local_optimum_is_not_the_answer(seed, reml):
    data = _common_slope(seed)
    objective = _objective("y ~ 1 + (1 | b) + (0 + x | c)", data, reml=reml)
    fit = fit_lmm(objective)
    assert fit.optimum.converged
    assert fit.deviance < _lowest(objective) + 1e-4
    assert fit.deviance < fit_lmm(_objective("y ~ 1 + (1 | b)", data, reml=reml)).deviance + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_either_factor_may_hold_a_mean_that_x_lacks(seed):
    rng = np.random.default_rng(seed)
    b, c = rng.integers(0, 7, 100), rng.integers(0, 5, 100)
    y = 5 + rng.normal(size=7)[b] + rng.normal(size=5)[c] + rng.normal(size=100)
    data = pd.DataFrame({"b": b, "c": c, "y": y})
    objective = _objective("y ~ 0 + (1 | b) + (1 | c)", data)
    start = objective.layout.initial()
    lowest = min(
        fit_lmm(objective, start=start * scale).deviance
        for scale in ([10, 0.3], [0.3, 10], [10, 10], [1, 1])
    )
    assert fit_lmm(objective).deviance < lowest + 1e-4


@pytest.mark.parametrize("seed", [0, 4, 7, 10])
def test_models_without_a_fixed_intercept(seed):
    objective = _objective("y ~ 0 + x + (x | c)", _no_intercept(seed))
    fit = fit_lmm(objective)
    assert fit.optimum.converged
    assert fit.optimum.n_evaluations < 30
    assert fit.optimum.doubt is None
    assert fit.deviance < _lowest(objective) + 1e-4


@pytest.mark.parametrize("seed", [6, 7, 16])
def test_a_mean_that_x_can_hold_is_not_looked_for_among_the_random_effects(seed):
    rng = np.random.default_rng(7000 + seed)
    c, x = np.arange(80) % 8, rng.normal(size=80)
    y = 100 + 10 * rng.normal(size=8)[c] + x + rng.normal(size=80)
    data = pd.DataFrame({"c": c, "x": x, "y": y})
    objective = _objective("y ~ 0 + x + (x | c)", data)
    fit = fit_lmm(objective)
    assert fit.optimum.converged
    assert fit.optimum.n_evaluations < 30
    assert fit.deviance < _lowest(objective) + 1e-4


@pytest.mark.parametrize("seed", [16, 28])
def test_a_step_refused_for_rounding_ends_the_search(seed):
    rng = np.random.default_rng(7000 + seed)
    c, x = np.arange(63) % 9, rng.normal(4, 1, 63)
    y = -800 + 30 * rng.normal(size=9)[c] + (1 + rng.normal(size=9)[c]) * x
    data = pd.DataFrame({"c": c, "x": x, "y": y + 2 * rng.normal(size=63)})
    optimum = fit_lmm(_objective("y ~ 0 + x + (x | c)", data)).optimum
    assert optimum.converged
    assert optimum.doubt is None
    assert optimum.n_evaluations < 25


def _without_variance(seed, slopes):
    """Data whose slopes, or intercepts, do not vary beyond the noise."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(8), 6), rng.normal(size=48)
    y = x + slopes * rng.normal(size=8)[g] * x + rng.normal(size=48)
    return pd.DataFrame({"g": g, "x": x, "y": y})


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)"])
@pytest.mark.parametrize("slopes", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(6))
def test_singular_or_not_in_any_order_and_units(seed, slopes, formula):
    data = _without_variance(seed, slopes)
    order = np.random.default_rng(seed).permutation(len(data))
    versions = [
        data.iloc[order],
        data.assign(y=data["y"] * 1e3 / 7),
        data.assign(x=data["x"] * 3e-3),
        data.assign(x=2 * data["x"] + 5),
        data.assign(g=(5 * data["g"] + 3) % 8),
    ]
    expected = fit_lmm(_objective(formula, data)).singular_terms
    for version in versions:
        fit = fit_lmm(_objective(formula, version))
        assert fit.singular_terms == expected
        zero = any((np.diag(T) == 0).any() for T in fit.term_factors)
        assert zero == fit.is_singular


def test_a_column_far_from_zero_is_not_singular_in_its_own_units():
    rng = np.random.default_rng(3)
    g, x = np.repeat(np.arange(30), 10), rng.normal(size=300)
    y = x + rng.normal(size=30)[g] * (1 + x) + rng.normal(size=30)[g] * x + rng.normal(size=300)
    fit = fit_lmm(_objective("y ~ x + (x | g)", pd.DataFrame({"g": g, "x": 1e9 + x, "y": y})))
    assert not fit.is_singular
    assert np.diag(fit.term_factors[0]).min() > 0


@pytest.mark.parametrize("ratio", [2e6, 1e9])
def test_lost_digits_are_told(ratio):
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(10), 10), rng.normal(size=100)
    y = ratio * rng.normal(size=10)[g] + x + rng.normal(size=100)
    fit = fit_lmm(_objective("y ~ x + (1 | g)", pd.DataFrame({"g": g, "x": x, "y": y})))
    assert not fit.optimum.converged
    assert "rounding" in fit.optimum.message
    assert "max_iter" not in fit.optimum.remedy


def test_ordinary_ratios_lose_none():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(10), 10), rng.normal(size=100)
    y = 1e4 * rng.normal(size=10)[g] + x + rng.normal(size=100)
    fit = fit_lmm(_objective("y ~ x + (1 | g)", pd.DataFrame({"g": g, "x": x, "y": y})))
    assert fit.optimum.converged


def test_the_end_is_certified(marginal):
    optimum = fit_lmm(marginal.objective).optimum
    assert optimum.scaled_gradient < 1e-3
    assert optimum.smallest_eigenvalue > -1e-5
    assert optimum.doubt is None


def _problem(formula, data, family, link):
    return approximation(
        build_design(formula, data),
        data["y"].to_numpy(dtype=float),
        np.ones(len(data)),
        make_family(family, link),
        1,
    )


@pytest.mark.parametrize("seed", [6, 21])
def test_little_binary_data_may_have_several_minima(seed):
    rng = np.random.default_rng(seed)
    g, x = np.arange(16) % 4, rng.normal(size=16)
    eta = x + 2 * rng.normal(size=4)[g]
    data = pd.DataFrame({"g": g, "x": x, "y": (rng.random(16) < 1 / (1 + np.exp(-eta))) * 1.0})
    problem = _problem("y ~ x + (1 | g)", data, "binomial", "logit")
    fit = fit_glmm(problem)
    objective = problem.objective
    gammas = [fit.gamma + shift for shift in (0.0, 0.5)]
    values = [
        objective.evaluate(np.r_[gamma, theta]).value
        for gamma in gammas
        for theta in np.geomspace(0.01, 30.0, 25)
    ]
    assert fit.optimum.converged
    assert fit.deviance <= min(values) + 1e-6


def test_an_indefinite_information_on_x_does_not_refuse_a_point():
    """Cauchit far from the data: the deviance needs the random effects' part alone."""
    rng = np.random.default_rng(1)
    g, x = np.arange(60) % 10, rng.normal(size=60)
    data = pd.DataFrame({"g": g, "x": x, "y": (rng.random(60) < 0.5) * 1.0})
    objective = _problem("y ~ x + (1 | g)", data, "binomial", "cauchit").objective
    start = starting_values(objective)
    far = start + np.r_[4.0, 6.0, -0.5 * start[2]]
    state = objective.evaluate(far)
    assert state.ridge > 0
    step = 1e-5 * np.eye(len(far))
    slopes = [(objective.evaluate(far + e).value - objective.evaluate(far - e).value) / 2e-5
              for e in step]  # fmt: skip
    np.testing.assert_allclose(state.gradient, slopes, rtol=1e-4, atol=1e-4)
    assert np.linalg.eigvalsh(state.hessian[:2, :2])[0] < 0


@pytest.mark.parametrize("seed", range(4))
def test_the_same_optimum_as_a_linear_model(seed):
    """A normal response with the identity link, and slopes that X lacks."""
    rng = np.random.default_rng(seed)
    g, h, x = rng.integers(0, 8, 80), rng.integers(0, 5, 80), rng.normal(3, 1, 80)
    y = 2 + x * (1 + 0.4 * rng.normal(size=8)[g]) + rng.normal(size=8)[g]
    y = y + rng.normal(size=5)[h] + rng.normal(size=80)
    data = pd.DataFrame({"g": g, "h": h, "x": x, "y": y})
    formula = "y ~ 1 + (x | g) + (1 | h)"
    objective = _objective(formula, data, reml=False)
    linear = fit_lmm(objective)
    general = fit_glmm(_problem(formula, data, "gaussian", "identity"))
    assert linear.optimum.converged and general.optimum.converged
    assert linear.deviance < _lowest(objective) + 1e-4
    assert general.deviance == pytest.approx(linear.deviance, abs=1e-4)
