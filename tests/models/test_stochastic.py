"""The estimated score against the exact one, and the search for its root."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.linalg.groups import Group
from skmixed.linalg.iterative import IterativeSystem
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.lmm import fit_lmm
from skmixed.models.optimize import Impossible
from skmixed.models.stochastic import EstimatedScore, Scores, positive_solve, thinned

FORMULAS = [
    "y ~ x + (1 | a) + (1 | b)",
    "y ~ x + (x | a) + (1 | b) + (x || c)",
    "y ~ x + (1 | b) + (1 | c/d)",
]


def _design(formula, seed=0, n=900):
    rng = np.random.default_rng(seed)
    columns = {
        "x": rng.standard_normal(n),
        "a": rng.integers(0, 70, n),
        "b": rng.integers(0, 40, n),
        "c": rng.integers(0, 12, n),
        "d": rng.integers(0, 9, n),
        "w": rng.uniform(0.5, 2.0, n),
    }
    effects = [0.6 * rng.standard_normal(100)[columns[g]] for g in "abc"]
    columns["y"] = columns["x"] + sum(effects) + rng.standard_normal(n)
    return build_design(
        formula,
        pd.DataFrame(columns),
        sample_weight=rng.integers(1, 3, n).astype(float),
        prior_weights="w",
    )


@pytest.fixture(params=FORMULAS)
def pair(request):
    design = _design(request.param)
    return [ProfiledDeviance.from_design(design, solver=s) for s in ("iterative", "direct")]


@pytest.mark.parametrize("reml", [True, False])
def test_score_and_hessian_with_all_unit_vectors_are_exact(pair, reml, monkeypatch):
    monkeypatch.setattr("skmixed.models.stochastic._TOLERANCES", [(-np.inf, 1e-10)])
    monkeypatch.setattr("skmixed.linalg.iterative_traces._UNITS", 1e-7)
    monkeypatch.setattr("skmixed.linalg.iterative_factor._FORMS", 1e-7)
    objective, exact = (one.with_reml(reml) for one in pair)
    theta = 0.7 * exact.layout.initial() + 0.05
    wanted = exact.evaluate(theta)
    q = objective.system.signs(1).shape[0]
    objective.system._drawn[q, 0] = np.sqrt(q) * np.eye(q)
    found = EstimatedScore(objective.at(theta), q)
    size = np.sqrt(wanted.hessian.diagonal())
    np.testing.assert_allclose(found.gradient / size, wanted.gradient / size, atol=2e-6)
    scale = np.multiply.outer(size, size)
    np.testing.assert_allclose(found.hessian / scale, wanted.hessian / scale, atol=2e-6)
    np.testing.assert_allclose(found.metric, wanted.metric, rtol=1e-5)


def test_values_are_integrals_of_the_score(pair):
    objective, exact = pair
    theta = exact.layout.initial()
    scores = Scores(objective, 32)
    for step in (0.05, 0.1):
        first, second = scores(theta), scores(theta - step)
        gain = exact(theta) - exact(theta - step)
        assert first.value - second.value == pytest.approx(gain, rel=0.05, abs=0.2)
        assert scores.lowest is second
        theta = theta - step


def test_where_there_is_no_factor_the_search_steps_back(pair):
    objective, _ = pair
    theta = np.full(objective.layout.n_theta, np.nan)
    assert isinstance(Scores(objective, 8)(theta), Impossible)


def test_the_mean_of_the_score_over_seeds_is_exact():
    design = _design(FORMULAS[1])
    objective, exact = (
        ProfiledDeviance.from_design(design, solver=s) for s in ("iterative", "direct")
    )
    theta = 0.6 * exact.layout.initial()
    wanted, misses, ratios = exact.evaluate(theta).gradient, [], []
    for seed in range(60):
        objective.system.seed = seed
        objective.system._drawn.clear()
        g = EstimatedScore(objective.at(theta), 32).gradients
        misses.append(g.mean(axis=0) - wanted)
        ratios.append(misses[-1] / (g.std(axis=0, ddof=1) / np.sqrt(32) + 1e-6))
    misses = np.array(misses)
    error = misses.std(axis=0, ddof=1) / np.sqrt(60) + 1e-4 * np.abs(wanted).max()
    assert (np.abs(misses.mean(axis=0)) < 4 * error).all()
    random = misses.std(axis=0) > 1e-5  # small groups have no error
    size = np.sqrt(np.mean(np.square(ratios), axis=0))[random]
    assert ((size > 0.6) & (size < 1.6)).all(), size


def test_a_refit_starts_where_the_fit_ended(pair):
    fit = fit_lmm(replace(pair[0], n_probes=16))
    again = fit_lmm(fit.objective, start=fit.optimum.theta)
    assert again.optimum.n_evaluations <= 3
    np.testing.assert_allclose(again.theta, fit.theta, atol=1e-3)
    other = fit.refit(reml=False)
    assert other.monte_carlo is not None
    assert other.deviance == pytest.approx(fit_lmm(pair[1].with_reml(False)).deviance, abs=0.01)


def test_exact_values_are_refused(pair):
    with pytest.raises(ValueError, match="solver='direct'"):
        pair[0].evaluate(pair[0].layout.initial())


def test_positive_solve():
    H = np.diag([4.0, -2.0, 1e6])
    np.testing.assert_allclose(positive_solve(H, np.ones(3)), [0.25, 0.5, 1e-6])


def test_thinned_designs_keep_rows_of_some_levels(monkeypatch):
    monkeypatch.setattr("skmixed.models.stochastic._THINNED", 10)
    rng = np.random.default_rng(0)
    one = np.broadcast_to(np.ones((1, 1)), (500, 1))
    groups = [Group(rng.integers(0, k, 500), one, k) for k in (90, 40, 5)]
    groups[1] = Group(groups[1].codes, rng.standard_normal((500, 2)), 40)
    rows, fewer = thinned(groups, rng)
    assert 50 < len(rows) < 250
    assert [g.n_levels for g in fewer][1:] == [10, 5]
    np.testing.assert_array_equal(fewer[1].z, groups[1].z[rows])
    for group, part in zip(groups, fewer, strict=True):
        kept = np.unique(group.codes[rows])
        np.testing.assert_array_equal(kept[part.codes], group.codes[rows])


def test_a_search_keeps_few_factors(monkeypatch):
    made, alive = [], []
    make = IterativeSystem.factor

    def factor_kept(self, T, near=None):
        found = make(self, T, near)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(IterativeSystem, "factor", factor_kept)

    def count(*_):
        gc.collect()
        alive.append(sum(one() is not None for one in made))

    objective = ProfiledDeviance.from_design(_design(FORMULAS[0]), solver="iterative")
    fit_lmm(objective, start=20.0 * objective.layout.initial(), callback=count)
    assert len(made) > 5
    assert max(alive) <= 3
