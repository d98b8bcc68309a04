"""The iterative solver against the direct factor of the same system."""

import numpy as np
import pytest

from skmixed.exceptions import SlowPredictionWarning
from skmixed.linalg.effects import Effects
from skmixed.linalg.groups import Group
from skmixed.linalg.iterative import IterativeSystem
from skmixed.linalg.iterative_blocks import Blocks, check_memory
from skmixed.linalg.iterative_cg import solve
from skmixed.linalg.iterative_choice import direct_seconds, prefers_iterative
from skmixed.linalg.iterative_pattern import IterativePattern
from skmixed.linalg.system import NotPositiveDefinite, Pattern

N = 1500
# (levels, effects) of every group; the largest is eliminated
CROSSED = [(90, 1), (40, 1)]
SEVERAL = [(25, 1), (70, 2), (9, 2)]
FOUR = [(60, 3), (50, 1), (11, 2), (40, 1)]


def _group(rng, levels, s):
    z = np.broadcast_to(np.ones((1, 1)), (N, 1))
    if s > 1:
        z = np.column_stack([np.ones(N), rng.standard_normal((N, s - 1))])
    return Group(rng.permutation(np.arange(N) % levels), z, levels)


def _chain(rng):
    """Pupils in classes in schools, and items that they all answer."""
    pupil, one = np.arange(N) % 120, np.broadcast_to(np.ones((1, 1)), (N, 1))
    codes = pupil, pupil // 4, pupil // 24, rng.integers(0, 30, N)
    return [Group(c, one, int(c.max()) + 1) for c in codes]


class Case:
    def __init__(self, spec, weighted=False, seed=0):
        rng = np.random.default_rng(seed)
        self.groups = _chain(rng) if spec == "chain" else [_group(rng, *one) for one in spec]
        self.weights = rng.uniform(0.5, 2.0, N) if weighted else None
        self.X = np.column_stack([np.ones(N), rng.standard_normal((N, 2))])
        self.y = rng.standard_normal(N)
        for group in self.groups:
            self.y += rng.standard_normal(group.n_levels)[group.codes]
        self.system = IterativeSystem.of(self.groups, self.weights, self.X, self.y)
        self.direct = Pattern.build(self.groups, 3).system(self.weights, self.X, self.y)
        self.T = [0.4 * np.eye(g.n_columns) for g in self.groups]
        for T in self.T:
            T[np.tril_indices(len(T), -1)] = 0.15
        self.rng = rng

    def effects(self, k=3, fixed=True):
        random = [self.rng.standard_normal((g.n_columns, k, g.n_levels)) for g in self.groups]
        return Effects(random, self.rng.standard_normal((3, k)) * fixed)


CASES = [(CROSSED, False), (CROSSED, True), (SEVERAL, True), (FOUR, False), ("chain", True)]
IDS = ["crossed", "weights", "slopes", "four groups", "nested chain"]


@pytest.fixture(params=CASES, ids=IDS)
def case(request):
    return Case(*request.param)


def _near(a, b, tolerance):
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0)


def _close(a, b, tolerance):
    for x, y in zip([*a.random, a.fixed], [*b.random, b.fixed], strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance * max(1.0, np.abs(y).max(initial=0.0)))


def test_a_pattern_makes_the_system_of_any_weights(case):
    pattern = IterativePattern.build(case.groups, 3)
    weights = case.rng.uniform(0.5, 2.0, N)
    one, two = (p.system(weights, case.X) for p in (pattern, Pattern.build(case.groups, 3)))
    for ridge in (0.0, np.diag([1.0, 2.0, 3.0])):
        found, wanted = (s.with_ridge(ridge).factor(case.T) for s in (one, two))
        _near(found.fixed_root, wanted.fixed_root, 1e-6)
        assert found.log_det_u == pytest.approx(wanted.log_det_u, rel=1e-9)
    assert found.without_rows().system.last is None
    plain = pattern.without_fixed.system(weights, case.X[:, :0]).factor(case.T)
    assert plain.log_det_u == pytest.approx(wanted.log_det_u, rel=1e-9)


@pytest.mark.parametrize("fixed", [True, False])
def test_newton_steps_leave_a_thousandth_of_what_is_left(case, fixed):
    v = case.effects(1, fixed=fixed)
    u = [np.zeros((g.n_columns, g.n_levels)) for g in case.groups]
    iterative, direct = (s.factor(case.T) for s in (case.system, case.direct))
    wanted, u_wanted = direct.modes(v, u, fixed=fixed)
    size = max(np.abs(x).max() for x in [*u_wanted, wanted.fixed])
    for miss in (1e-2, 1e-5, 1e-8):  # every step starts where the last one ended
        x, u = iterative.modes(v, u, fixed=fixed)
        for a, b in zip([*u, x.fixed], [*u_wanted, wanted.fixed], strict=True):
            assert np.abs(a - b).max() < miss * size
    for T, own, b in zip(case.T, u, x.levels(), strict=True):
        _near(T @ own, b, 1e-9)


def test_leverages_with_all_unit_vectors_are_exact(case):
    pattern = IterativePattern.build(case.groups, 3)
    weights = case.rng.uniform(0.5, 2.0, N)
    found = pattern.system(weights, case.X).factor(case.T)
    wanted = Pattern.build(case.groups, 3).system(weights, case.X).factor(case.T)
    wanted = wanted.selected().leverages()
    q = found.core.q
    found.system._drawn[q, 0] = np.sqrt(q) * np.eye(q)
    estimate = pattern.leverages(found, q, 1e-10)
    _near(estimate.mean(), wanted, 1e-8)
    columns = case.rng.standard_normal((N, 2))
    samples = estimate.sums(lambda at: columns[at])
    assert samples.shape == (q, 2)
    _near(samples.mean(axis=0), wanted @ columns, 1e-6)


def test_leverages_are_unbiased_and_first_order_tells_much(case):
    pattern = IterativePattern.build(case.groups, 3)
    weights = case.rng.uniform(0.5, 2.0, N)
    wanted = Pattern.build(case.groups, 3).system(weights, case.X).factor(case.T)
    wanted = wanted.selected().leverages()
    estimate = pattern.leverages(pattern.system(weights, case.X).factor(case.T), 64, 1e-8)
    miss = estimate.mean() - wanted
    assert np.sqrt(np.mean(miss**2)) < 0.05 * wanted.mean()
    total = estimate.sums(lambda at: np.ones((at.stop - at.start, 1)))[:, 0]
    error = total.std(ddof=1) / 8
    assert abs(total.mean() - wanted.sum()) < 4 * error + 1e-6
    assert error < 0.02 * wanted.sum()


def test_a_matrix_that_is_not_definite_has_no_factor(case):
    pattern = IterativePattern.build(case.groups, 3)
    with np.errstate(all="ignore"), pytest.raises(NotPositiveDefinite):
        pattern.system(np.full(N, -2.0), case.X).factor(case.T)
    S = np.diag([1.0, -0.5, 2.0])
    with pytest.raises(FloatingPointError, match="definite"):
        solve(lambda v: S @ v, lambda r: r, np.ones((3, 1)), 1e-8)


def test_criterion_and_mode_are_those_of_the_direct_factor(case):
    exact, found = case.direct.factor(case.T), case.system.factor(case.T)
    assert found.log_det_u == pytest.approx(exact.log_det_u, rel=1e-9)
    assert found.log_det_x == pytest.approx(exact.log_det_x, rel=1e-9)
    assert found.pwrss == pytest.approx(exact.pwrss, rel=1e-9)
    np.testing.assert_allclose(found.fixed_root, exact.fixed_root, atol=1e-7)
    _close(found.mode, exact.mode, 1e-6)
    _close(found.scores, exact.scores, 1e-5)


@pytest.mark.parametrize("fixed", [True, False])
def test_solutions_are_those_of_the_direct_factor(case, fixed):
    exact, found = case.direct.factor(case.T), case.system.factor(case.T)
    v = case.effects()
    for a, b in zip(found.solve(v, fixed=fixed), exact.solve(v, fixed=fixed), strict=True):
        _close(a, b, 1e-5)
    _close(case.system.times(v), case.direct.times(v), 1e-10)
    a = exact.solve(case.effects(), fixed=True)[0]  # as smooth as the tangents of a search
    a = Effects(a.random, 0.0 * a.fixed)
    wanted = exact.quadratic_forms(a, fixed=fixed)
    np.testing.assert_allclose(
        found.quadratic_forms(a, fixed=fixed), wanted, atol=1e-3 * np.abs(wanted).max()
    )


def test_operator_blocks_and_preconditioner(case):
    core, M = case.system.factor(case.T)._core, case.system.factor(case.T)._M
    S = core.dense()
    np.testing.assert_allclose(S, S.T, atol=1e-10)
    L = M.lower(np.eye(core.q))
    np.testing.assert_allclose(M.solve(L @ L.T), np.eye(core.q), atol=1e-9)
    np.testing.assert_allclose(M.upper(np.eye(core.q)), L.T, atol=1e-10)
    assert M.log_det == pytest.approx(np.linalg.slogdet(L @ L.T)[1], abs=1e-8)
    for at, (s, n), own in zip(core.slices, core.sizes, core.diagonal, strict=True):
        for A in (S, L @ L.T):  # M and S share their diagonal blocks
            blocks = np.einsum("albl->abl", A[at, at].reshape(s, n, s, n))
            np.testing.assert_allclose(blocks, own, atol=1e-9)


@pytest.mark.parametrize("at", ["inside", "no variance", "no variance below", "singular"])
def test_traces_with_all_unit_vectors_are_exact(case, at):
    T = [t.copy() for t in case.T]
    if at == "no variance":
        T[1][:] = 0.0
    elif at == "no variance below":
        T[np.argmax([g.size for g in case.groups])][:] = 0.0
    elif at == "singular":
        for t in T:
            t[-1, -1] = 0.0
    found, exact = case.system.factor(T), case.direct.factor(T)
    q = found._core.q
    case.system._drawn[q, 0] = np.sqrt(q) * np.eye(q)
    for fixed, response in ((1.0, 17.0), (0.0, 20.0)):
        wanted = exact.information(fixed=fixed, response=response)
        known = found.information_known(fixed=fixed, response=response)
        samples = found.information_samples(n_probes=q, tolerance=1e-9)
        for own, k, G, g in zip(samples, known, wanted, case.groups, strict=True):
            size = np.abs(G).max() + np.abs(k).max()
            few = g.size <= 32  # solved for by unit vectors, to another tolerance
            np.testing.assert_allclose(own.mean(axis=0) - k, G, atol=(1e-5 if few else 1e-6) * size)


def test_a_direction_without_variance_leaves_the_others_exact():
    case = Case([(90, 1), (45, 2)])
    T = [np.array([[1.0]]), np.array([[5.0, 0.0], [0.02, 0.0]])]
    wanted = case.direct.factor(T).information(fixed=0.0, response=0.0)[1]
    samples = case.system.factor(T).information_samples(n_probes=64, tolerance=1e-8)[1]
    spread, size = samples.std(axis=0), np.sqrt(np.outer(*[wanted.diagonal()] * 2))
    assert spread[0, 0] < 0.05 * size[0, 0]
    assert (spread[0, 1], spread[1, 0]) < (0.5 * size[0, 1],) * 2
    assert (np.abs(samples.mean(axis=0) - wanted) <= 4 * spread / 8 + 1e-6 * size).all()


def test_traces_are_unbiased_and_nested_groups_tell_much(case):
    found, exact = case.system.factor(case.T), case.direct.factor(case.T)
    wanted = exact.information(fixed=0.0, response=0.0)
    for own, G in zip(found.information_samples(n_probes=256, tolerance=1e-5), wanted, strict=True):
        error = own.std(axis=0, ddof=1) / 16 + 1e-4 * np.abs(G).max()
        assert (np.abs(own.mean(axis=0) - G) < 5 * error).all()


def test_variances_of_rows(case):
    found, exact = case.system.factor(case.T), case.direct.factor(case.T)
    n, rng = 60, case.rng
    codes = [np.append(rng.integers(0, g.n_levels, n - 1), -1) for g in case.groups]
    z = [rng.standard_normal((n, g.n_columns)) for g in case.groups]
    x = rng.standard_normal((n, 3))
    np.testing.assert_allclose(
        found.row_norms(codes, z, x), exact.row_norms(codes, z, x), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.row_norms(codes, z, x, 2 * np.eye(3)),
        exact.row_norms(codes, z, x, 2 * np.eye(3)),
        rtol=1e-6,
    )


def test_conditional_blocks_are_near_and_their_error_is_told(case):
    found, exact = case.system.factor(case.T), case.direct.factor(case.T)
    told = found.conditional_error(32)
    pairs = zip(found.conditional_blocks(), exact.conditional_blocks(), told, strict=True)
    for near, block, error in pairs:
        share = np.einsum("iil->", near) / np.einsum("iil->", block) - 1
        assert abs(share) < 0.05
        assert abs(share) < 2 * abs(error) + 0.03


def test_signs_of_fewer_probes_are_the_first_and_belong_to_the_groups():
    case, other = Case(FOUR), Case(FOUR[:2] + FOUR[3:])
    np.testing.assert_array_equal(case.system.signs(5), case.system.signs(20)[:, :5])
    assert set(np.unique(case.system.signs(3))) == {-1.0, 1.0}
    assert not np.array_equal(case.system.signs(8), case.system.signs(8, stream=1))
    np.testing.assert_array_equal(case.system.signs(8)[:50], other.system.signs(8)[:50])


def test_groups_of_equal_size_have_other_signs():
    case = Case([(60, 1), (30, 1), (30, 1)])
    z = case.system.signs(8)
    assert not np.array_equal(z[:30], z[30:])


def test_log_determinant_is_estimated_with_a_stated_error(monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_logdet.DENSE", 0)
    misses = []
    for seed in range(30):
        case = Case([(150, 1), (100, 1)] if seed % 2 else FOUR, seed=seed)
        found = case.system.factor(case.T)
        assert found.noise > 0
        misses.append((found.log_det_u - case.direct.factor(case.T).log_det_u) / found.noise)
    assert 0.6 < np.sqrt(np.mean(np.square(misses))) < 1.6


def test_another_response():
    case = Case(SEVERAL, weighted=True)
    y = case.rng.standard_normal(N)
    other = IterativeSystem.of(case.groups, case.weights, case.X, y)
    w = case.weights
    cross = Effects.of([g.sums(w * y) for g in case.groups], case.X.T @ (w * y))
    moved = case.system.with_response(cross, float(y @ (w * y)))
    a, b = moved.factor(case.T), other.factor(case.T)
    assert a.pwrss == pytest.approx(b.pwrss, rel=1e-10)
    _close(a.mode, b.mode, 1e-8)


def test_blocks_of_batches_add_up():
    case = Case(FOUR, weighted=True)
    order = np.argsort([-g.size for g in case.groups], kind="stable")
    groups = [case.groups[g] for g in order]

    def blocks(rows):
        part = [Group(g.codes[rows], g.z[rows], g.n_levels) for g in groups]
        return Blocks.of(part, case.weights[rows], case.X[rows], case.y[rows])

    whole = blocks(slice(None))
    total = blocks(slice(0, 400)) + blocks(slice(400, 401)) + blocks(slice(401, N))
    np.testing.assert_allclose(total.gram, whole.gram, rtol=1e-10)
    for a, b in zip((*total.own, *total.tails), (*whole.own, *whole.tails), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11)
    for at, table in whole.tables.items():
        np.testing.assert_array_equal(total.tables[at].indices, table.indices)
        np.testing.assert_array_equal(total.tables[at].indptr, table.indptr)
        np.testing.assert_allclose(total.tables[at].values, table.values, atol=1e-12)


def test_numbers_that_are_not_finite_have_no_factor():
    case = Case(CROSSED)
    with pytest.raises(NotPositiveDefinite):
        case.system.factor([np.array([[np.nan]]), np.eye(1)])


def test_iterations_that_do_not_end_are_told(monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_cg.MAX_ITERATIONS", 2)
    A = np.diag(np.linspace(1.0, 1e4, 50))
    found = solve(lambda v: A @ v, lambda r: r, np.ones((50, 3)), 1e-10)
    assert not found.converged
    assert found.n_iter == 2


def test_columns_leave_at_their_own_tolerance_and_start_where_told():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((80, 80))
    A = A @ A.T + 5 * np.eye(80)
    F = rng.standard_normal((80, 40))
    tolerance = np.where(np.arange(40) % 2, 1e-10, 1e-2)
    found = solve(lambda v: A @ v, lambda r: r, F, tolerance)
    error = np.abs(found.x - np.linalg.solve(A, F)).max(axis=0)
    assert error[1::2].max() < 1e-8 < error[::2].min()
    again = solve(lambda v: A @ v, lambda r: r, F, tolerance, found.x)
    assert again.n_iter == 0
    np.testing.assert_allclose(again.x, found.x, rtol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-250, 1e-12])
def test_columns_that_have_vanished_take_no_iterations(size):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((80, 80))
    A = A @ A.T + 5 * np.eye(80)
    F = np.column_stack([rng.standard_normal(80), np.full(80, size)])
    start = np.ones((80, 2))
    found, alone = (solve(lambda v: A @ v, lambda r: r, F, 1e-3, own) for own in (start, None))
    assert found.converged
    assert found.n_iter <= alone.n_iter + 5
    np.testing.assert_allclose(found.x[:, 1], alone.x[:, 1], rtol=1e-6)


def test_tolerances_may_be_relative_to_a_start():
    rng = np.random.default_rng(0)
    S = np.diag(np.linspace(1.0, 50.0, 40))
    F = rng.standard_normal((40, 1))
    start = np.linalg.solve(S, F) * (1 + 1e-4 * rng.standard_normal((40, 1)))
    left = np.linalg.norm(F - S @ start)
    one, two = (
        solve(lambda v: S @ v, lambda r: r, F, 1e-2, start, from_start=relative)
        for relative in (True, False)
    )
    assert np.linalg.norm(F - S @ one.x) <= 1.01e-2 * left
    assert one.n_iter > two.n_iter == 0
    exact = solve(lambda v: S @ v, lambda r: r, F, 1e-2, np.linalg.solve(S, F), from_start=True)
    assert exact.n_iter <= 1


def test_memory_is_checked_before_it_is_asked_for():
    case = Case(CROSSED)
    check_memory(case.groups, 3, 8, largest=1e9)
    with pytest.raises(MemoryError, match=r"needs some .* GiB .* Merge rare levels"):
        check_memory(case.groups, 3, 8, largest=1e4)


def test_only_large_cores_go_to_the_iterative_solver():
    rng = np.random.default_rng(0)
    one = np.broadcast_to(np.ones((1, 1)), (60_000, 1))

    def crossed(a, b):
        return [Group(rng.permutation(np.arange(60_000) % k), one, k) for k in (a, b)]

    assert not prefers_iterative(crossed(5000, 500), 3)
    assert not prefers_iterative(crossed(3000, 2500), 3)
    assert prefers_iterative(crossed(9000, 7000), 3)
    assert prefers_iterative(crossed(3000, 2500), 3, memory=1e8)
    assert not prefers_iterative(crossed(50_000, 100), 3)
    child = rng.permutation(np.arange(60_000) % 20_000)
    nested = [Group(child, one, 20_000), Group(child // 2, one, 10_000)]
    assert not prefers_iterative(nested, 3)
    rows = np.full(20_000, 3)
    assert direct_seconds(nested[0], rows, 10_000) > direct_seconds(nested[0], rows, 1000)


def test_many_combinations_of_levels_are_told(monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_variances._MANY", 5)
    case = Case(CROSSED)
    codes = [case.rng.integers(0, g.n_levels, 20) for g in case.groups]
    with pytest.warns(SlowPredictionWarning, match="distinct combinations of levels"):
        case.system.factor(case.T).row_norms(codes, [np.ones((20, 1))] * 2, np.ones((20, 3)))
