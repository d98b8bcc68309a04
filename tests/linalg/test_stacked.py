"""Many factors at a time say what each factor says, and draws have the covariance they should."""

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_pastes, load_penicillin, load_sleepstudy
from skmixed.linalg import stacked
from skmixed.linalg.system import Effects

# made-up data, whose fit is of no interest
pytestmark = pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")


def many_levels():
    rng = np.random.default_rng(3)
    n = 1500
    data = pd.DataFrame({"g": rng.integers(0, 150, n), "x": rng.standard_normal(n)})
    data["h"], data["k"] = rng.integers(0, 5, n), rng.integers(0, 90, n)
    data["y"] = rng.standard_normal(n) + rng.standard_normal(150)[data["g"]]
    data["y"] += rng.standard_normal(5)[data["h"]] + 0.5 * rng.standard_normal(90)[data["k"]]
    return data


CASES = {
    "dense": ("Reaction ~ Days + (Days | Subject)", load_sleepstudy),
    "side by side": ("Reaction ~ Days + (Days || Subject)", load_sleepstudy),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", load_penicillin),
    "nested": ("strength ~ 1 + (1 | batch/cask)", load_pastes),
    "chain": ("y ~ x + (x | g)", many_levels),
    "chain and core": ("y ~ x + (1 | h) + (x | g)", many_levels),
    "nested chain": ("y ~ x + (1 | h/g)", many_levels),
    "large core": ("y ~ x + (1 | h) + (x | g) + (1 | k)", many_levels),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """An objective, T at some points, and a prior's rows."""
    formula, load = CASES[request.param]
    data = load()
    data = data if isinstance(data, pd.DataFrame) else data.frame
    objective = MixedLinearRegressor(formula).fit(data).result_.objective
    rng = np.random.default_rng(1)
    thetas = rng.normal(0.8, 0.5, (5, objective.layout.n_theta))
    T = [np.stack(own) for own in zip(*map(objective.layout.factors, thetas), strict=True)]
    half = rng.standard_normal((5, 2, objective.rank + 1))
    return objective, T, half.swapaxes(1, 2) @ half


def normals(objective, m):
    rng = np.random.default_rng(2)
    random = [rng.standard_normal((g.n_columns, m, g.n_levels)) for g in objective.layout.groups]
    return Effects(random, rng.standard_normal((objective.rank, m)))


@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_summaries_are_those_of_single_factors(case, with_prior, one_by_one, monkeypatch):
    objective, T, added = case
    if one_by_one:
        monkeypatch.setattr(stacked, "_NUMBERS", 0)
    found = objective.system.summaries(T, added if with_prior else None)
    for j in range(len(added)):
        system = objective.system.with_added(added[j]) if with_prior else objective.system
        L = system.factor([own[j] for own in T])
        np.testing.assert_allclose(found.log_det_u[j], L.log_det_u, rtol=1e-9)
        np.testing.assert_allclose(found.log_det_x[j], L.log_det_x, rtol=1e-9)
        np.testing.assert_allclose(found.pwrss[j], L.pwrss, rtol=1e-9)
        np.testing.assert_allclose(found.fixed_root[j], L.fixed_root, atol=1e-8)
        np.testing.assert_allclose(found.fixed[j], L.mode.fixed[:, 0], atol=1e-8)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_without_spread_draws_are_modes(case, one_by_one, monkeypatch):
    objective, T, added = case
    if one_by_one:
        monkeypatch.setattr(stacked, "_NUMBERS", 0)
    drawn = objective.system.draws(T, np.zeros(5), normals(objective, 5), added)
    for j in range(5):
        L = objective.system.with_added(added[j]).factor([own[j] for own in T])
        np.testing.assert_allclose(drawn.fixed[:, j], L.mode.fixed[:, 0], atol=1e-7)
        for own, mode in zip(drawn.random, L.mode.levels(), strict=True):
            np.testing.assert_allclose(own[:, j], mode, atol=1e-7)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_draws_of_unit_vectors_are_a_root_of_the_inverse(case, one_by_one, monkeypatch):
    """A A' is the inverse of the mixed-model equations, solved for unit vectors."""
    objective, T, _ = case
    if one_by_one:
        monkeypatch.setattr(stacked, "_NUMBERS", 0)
    groups, r = objective.layout.groups, objective.rank
    sizes = [g.size for g in groups]
    n = sum(sizes) + r
    eye = np.eye(n)
    ends = np.cumsum(sizes)[:-1]
    unit = Effects(
        [x.reshape(g.n_columns, g.n_levels, n).swapaxes(1, 2)
         for x, g in zip(np.split(eye[: n - r], ends), groups, strict=True)],
        eye[n - r :],
    )  # fmt: skip
    one = [np.repeat(own[:1], n, axis=0) for own in T]
    none = Effects([0.0 * x for x in unit.random], 0.0 * unit.fixed)
    system = objective.system
    A = system.draws(one, np.ones(n), unit) - system.draws(one, np.zeros(n), none)
    L = system.factor([own[0] for own in T])
    x, _ = L.solve(unit)

    def flat(v):
        parts = [own.swapaxes(1, 2).reshape(-1, n) for own in v.random]
        return np.concatenate([*parts, v.fixed])

    np.testing.assert_allclose(flat(A) @ flat(A).T, flat(x), atol=1e-8 * np.abs(flat(x)).max())


def test_fixed_draws_of_summaries_are_those_of_the_joint_draws(case):
    objective, T, added = case
    normal, scale = normals(objective, 5), np.arange(1.0, 6.0)
    joint = objective.system.draws(T, scale, normal, added).fixed.T
    found = objective.system.summaries(T, added)
    np.testing.assert_allclose(
        found.fixed_draws(np.arange(5), scale, normal.fixed.T), joint, atol=1e-8
    )


def test_a_point_without_a_factor_is_nan_and_the_others_are_not():
    objective = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(
        load_sleepstudy().frame
    ).result_.objective  # fmt: skip
    T = [np.stack([np.eye(2), np.eye(2), np.eye(2)])]
    added = np.zeros((3, 3, 3))
    added[1] = -1e6 * np.eye(3)
    found = objective.system.summaries(T, added)
    assert np.isnan(found.pwrss).tolist() == [False, True, False]
    assert np.isnan(found.fixed[1]).all() and np.isfinite(found.fixed[[0, 2]]).all()
