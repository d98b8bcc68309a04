"""The estimated score of generalised models against the exact one, and the search for its root."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.families import make_family
from skmixed.models.glmm import Solver, approximation, fit_glmm, starting_values
from skmixed.models.optimize import Impossible

CASES = [
    ("y ~ x + (1 | a) + (1 | b)", "binomial", "logit"),
    ("y ~ x + (x | a) + (1 | b) + (x || c)", "binomial", "cloglog"),
    ("y ~ x + (1 | b) + (1 | c/d)", "poisson", "log"),
    ("y ~ x + (1 | a) + (x | b)", "gamma", "log"),
    ("y ~ x + offset(o) + (1 | a) + (1 | b)", "negative_binomial", "log"),
]


def _problems(formula, family, link, seed=0, n=700, n_agq=1):
    """Problems of the same data for the iterative and for the direct solver."""
    rng = np.random.default_rng(seed)
    columns = {
        "x": rng.standard_normal(n),
        "o": 0.3 * rng.standard_normal(n),
        "a": rng.integers(0, 60, n),
        "b": rng.integers(0, 34, n),
        "c": rng.integers(0, 12, n),
        "d": rng.integers(0, 9, n),
    }
    eta = 0.4 * columns["x"] + sum(0.6 * rng.standard_normal(100)[columns[g]] for g in "abc")
    w = rng.integers(1, 4, n).astype(float)
    y = {
        "binomial": lambda: rng.binomial(w.astype(int), 1 / (1 + np.exp(-eta))).astype(float),
        "poisson": lambda: rng.poisson(np.exp(eta)).astype(float),
        "negative_binomial": lambda: rng.poisson(np.exp(eta) * rng.gamma(2, 0.5, n)).astype(float),
        "gamma": lambda: rng.gamma(2.0, np.exp(eta) / 2),
    }[family]()
    design = build_design(
        formula,
        pd.DataFrame({**columns, "y": y}),
        sample_weight=rng.integers(1, 3, n).astype(float),
    )
    return [
        approximation(design, y, w, make_family(family, link), n_agq, solver=Solver(kind))
        for kind in ("iterative", "direct")
    ]


def _objectives(problems):
    """Objectives that begin at the same start, and parameters at some distance from it."""
    objectives = [p.objective for p in problems]
    at = starting_values(objectives[1]) * 1.1 + 0.02
    starting_values(objectives[0])
    return *objectives, at


def _with_unit_vectors(objective, monkeypatch):
    """The objective with all unit vectors in the place of signs: nothing is random then."""
    monkeypatch.setattr("skmixed.models.stochastic_laplace._TOLERANCE", 1e-10)
    monkeypatch.setattr("skmixed.linalg.iterative_traces._UNITS", 1e-7)
    monkeypatch.setattr("skmixed.linalg.iterative_factor._FORMS", 1e-7)
    sizes = [g.size for g in objective.rows.groups]
    q = sum(sizes) - max(sizes)
    monkeypatch.setattr(
        "skmixed.linalg.iterative.IterativeSystem.signs",
        lambda self, k, *, stream=0: np.sqrt(q) * np.eye(q),
    )
    return replace(objective, n_probes=q)


@pytest.mark.parametrize(("formula", "family", "link"), CASES)
@pytest.mark.parametrize("n_agq", [0, 1])
def test_score_and_hessian_with_all_unit_vectors_are_exact(
    formula, family, link, n_agq, monkeypatch
):
    objective, exact, at = _objectives(_problems(formula, family, link, n_agq=n_agq))
    objective = _with_unit_vectors(objective, monkeypatch)
    found, wanted = objective.evaluate(at), exact.evaluate(at)
    size = np.sqrt(wanted.metric)
    np.testing.assert_allclose(found.gradient / size, wanted.gradient / size, atol=1e-5)
    scale = np.multiply.outer(size, size)
    np.testing.assert_allclose(found.hessian / scale, wanted.hessian / scale, atol=1e-5)
    np.testing.assert_allclose(found.leverages, wanted.leverages, atol=1e-7)
    np.testing.assert_allclose(found.mode.eta, wanted.mode.eta, atol=1e-5)
    assert found.estimated_value == pytest.approx(wanted.value, abs=1e-6)


@pytest.mark.parametrize(("formula", "family", "link"), CASES)
def test_the_score_is_the_slope_of_the_exact_deviance(formula, family, link):
    objective, exact, at = _objectives(_problems(formula, family, link))
    state = replace(objective, n_probes=64).evaluate(at)
    g, error = state.gradient, state.gradients.std(axis=0, ddof=1) / 8
    size = np.sqrt(state.metric)
    for j, step in enumerate(np.diag(0.01 / size)):
        slope = (exact.evaluate(at + step).value - exact.evaluate(at - step).value) / 2
        assert abs(g[j] * step[j] - slope) < 5 * error[j] * step[j] + 1e-4, j


def test_the_mean_of_the_score_over_seeds_is_exact():
    problems = _problems(*CASES[1])
    objective, exact, at = _objectives(problems)
    wanted = exact.evaluate(at)
    size, misses, ratios = np.sqrt(wanted.metric), [], []
    for seed in range(40):
        objective.rows.pattern.seed = seed
        g = replace(objective, n_probes=32).evaluate(at).gradients
        misses.append((g.mean(axis=0) - wanted.gradient) / size)
        ratios.append(misses[-1] * size / (g.std(axis=0, ddof=1) / np.sqrt(32) + 1e-9))
    misses = np.array(misses)
    error = misses.std(axis=0, ddof=1) / np.sqrt(40) + 1e-4
    assert (np.abs(misses.mean(axis=0)) < 4 * error).all()
    spread = np.sqrt(np.mean(np.square(ratios), axis=0))
    assert ((spread > 0.5) & (spread < 1.7)).all(), spread


def test_values_are_integrals_of_the_score():
    objective, exact, at = _objectives(_problems(*CASES[0]))
    objective = replace(objective, n_probes=32)
    first = objective.evaluate(at)
    assert first.value == 0.0
    step = -0.5 * first.gradient / first.metric
    second = objective.evaluate(at + step)
    gain = exact.evaluate(at + step).value - exact.evaluate(at).value
    assert second.value == pytest.approx(gain, rel=0.1)
    assert objective.near.state is second


def test_where_there_is_no_mode_the_search_steps_back():
    objective, _, at = _objectives(_problems(*CASES[0]))
    assert isinstance(objective.evaluate(np.full(len(at), np.nan)), Impossible)


@pytest.mark.parametrize(("formula", "family", "link"), CASES)
def test_fits_are_those_of_the_direct_solver(formula, family, link):
    found, exact = (fit_glmm(p) for p in _problems(formula, family, link, n=1500))
    assert (found.solver, exact.solver) == ("iterative", "direct")
    assert found.optimum.converged
    std = np.sqrt(exact.covariance.diagonal())
    size = np.where(std > 0, std, 1.0)[: exact.layout.n_theta]
    assert np.abs((found.optimum.theta - exact.optimum.theta) / size).max() < 0.02
    assert found.dispersion == pytest.approx(exact.dispersion, rel=2e-3)
    beta = np.sqrt(exact.vcov.diagonal())
    assert np.abs((found.beta - exact.beta) / beta).max() < 5e-3
    np.testing.assert_allclose(np.sqrt(found.vcov.diagonal()), beta, rtol=2e-3)
    assert found.deviance == pytest.approx(exact.deviance, abs=1e-3)
    assert found.monte_carlo.share < 0.02


def test_a_refit_of_another_response_starts_where_the_fit_ended():
    problem = _problems(*CASES[0])[0]
    fit = fit_glmm(problem)
    again = fit_glmm(problem.with_response(problem.objective.rows.y), near=fit)
    assert again.optimum.n_evaluations <= 3
    np.testing.assert_allclose(again.theta, fit.theta, atol=2e-3)
