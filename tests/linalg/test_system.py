"""The system and its factor as the models see them: groups and levels in the user's order."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from scipy.linalg import block_diag

from skmixed.linalg import pattern
from skmixed.linalg.groups import Group
from skmixed.linalg.system import Direction, Effects, Pattern

N_ROWS = 200
STRUCTURES = {
    "one": [("pupil", 2)],
    "nested": [("region", 1), ("pupil", 2), ("school", 1)],
    "crossed": [("item", 2), ("pupil", 1), ("day", 1)],
    "nested and crossed": [("day", 1), ("school", 2), ("item", 1), ("pupil", 1)],
}


@dataclass(frozen=True)
class Rows:
    """Rows, factors T and the matrices of the mixed-model equations, all in the user's order."""

    groups: list
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    T: list

    @cached_property
    def Z(self):
        blocks = []
        for group in self.groups:
            Z = np.zeros((N_ROWS, group.n_columns, group.n_levels))
            Z[np.arange(N_ROWS), :, group.codes] = group.z
            blocks.append(Z.reshape(N_ROWS, -1))
        return np.hstack(blocks)

    @cached_property
    def Lambda(self):
        pairs = zip(self.T, self.groups, strict=True)
        return block_diag(*[np.kron(T, np.eye(group.n_levels)) for T, group in pairs])

    @cached_property
    def H(self):
        """Lambda'Z'WZ Lambda + I."""
        root = self.Z @ self.Lambda
        return root.T @ (root * self.weights[:, None]) + np.eye(len(self.Lambda))

    @cached_property
    def V(self):
        root = self.Z @ self.Lambda
        return root @ root.T + np.diag(1 / self.weights)

    @cached_property
    def P(self):
        VX = np.linalg.solve(self.V, self.X)
        return np.linalg.inv(self.V) - VX @ np.linalg.solve(self.X.T @ VX, VX.T)

    @cached_property
    def XVX(self):
        return self.X.T @ np.linalg.solve(self.V, self.X)

    @cached_property
    def joint(self):
        """Covariance of (b-hat - b, beta-hat - beta) in units of sigma^2, for regular Lambda."""
        ZX = np.hstack([self.Z, self.X])
        A = ZX.T @ (ZX * self.weights[:, None])
        inverse = np.linalg.inv(self.Lambda)
        A[: len(inverse), : len(inverse)] += inverse.T @ inverse
        return np.linalg.inv(A)

    def effects(self, flat):
        """Effects of rows (q + r, k)."""
        random, begin = [], 0
        for group in self.groups:
            block = flat[begin : begin + group.size]
            block = block.reshape(group.n_columns, group.n_levels, -1)
            random.append(block.transpose(0, 2, 1).copy())
            begin += group.size
        return Effects(random, flat[begin:].copy())

    def flat(self, effects):
        blocks = [x.transpose(0, 2, 1).reshape(-1, x.shape[1]) for x in effects.random]
        return np.vstack([*blocks, effects.fixed])

    def blocks(self, matrix):
        """Diagonal blocks (s, s, l) of a matrix (q, q), by group."""
        begin = 0
        for group in self.groups:
            s, n = group.n_columns, group.n_levels
            own = matrix[begin : begin + group.size, begin : begin + group.size]
            yield np.einsum("albl->abl", own.reshape(s, n, s, n))
            begin += group.size


def _rows(structure):
    """Levels are numbered at random, so that elimination has to put them in another order."""
    rng = np.random.default_rng(len(structure))
    pupil, school = rng.integers(0, 40, N_ROWS), rng.permutation(40) % 12
    region = rng.permutation(12) % 3
    factors = {
        "pupil": pupil,
        "school": school[pupil],
        "region": region[school[pupil]],
        "item": rng.integers(0, 15, N_ROWS),
        "day": rng.integers(0, 4, N_ROWS),
    }
    groups = []
    for name, s in STRUCTURES[structure]:
        levels, codes = np.unique(factors[name], return_inverse=True)
        z = np.broadcast_to(1.0, (N_ROWS, 1)) if s == 1 else rng.normal(size=(N_ROWS, s))
        groups.append(Group(codes, z, len(levels)))
    T = [np.tril(rng.normal(size=(g.n_columns,) * 2)) + np.eye(g.n_columns) for g in groups]
    X, y = rng.normal(size=(N_ROWS, 3)), rng.normal(size=N_ROWS)
    return Rows(groups, X, y, rng.uniform(0.5, 2.0, N_ROWS), T)


@pytest.fixture(scope="module", params=STRUCTURES)
def rows(request):
    return _rows(request.param)


@pytest.fixture(scope="module", params=["sparse", "dense", "small"])
def system(request, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pattern, "_PAIR_COST", 0.0 if request.param == "sparse" else 1e9)
        chain_from = 10_000 if request.param == "small" else 0
        found = Pattern.build(rows.groups, 3, chain_from=chain_from)
        return found.system(rows.weights, rows.X, rows.y)


@pytest.fixture(scope="module")
def factor(rows, system):
    return system.factor(rows.T)


def _vectors(rows, k, fixed=True):
    flat = np.random.default_rng(k).normal(size=(len(rows.Lambda) + 3, k))
    flat[len(rows.Lambda) :] *= fixed
    return flat


def test_levels_have_another_order_inside(rows):
    """Otherwise the tests below would not see it; only nested levels are moved."""
    if len(rows.groups) > 1 and {g.n_levels for g in rows.groups} >= {12, 40}:
        plan = Pattern.build(rows.groups, 3)._plan
        assert any(place is not None for place in plan.positions)


def test_times(rows, system):
    a = _vectors(rows, 2)
    ZX = np.hstack([rows.Z, rows.X])
    expected = ZX.T @ (rows.weights[:, None] * (ZX @ a))
    np.testing.assert_allclose(rows.flat(system.times(rows.effects(a))), expected, atol=1e-9)


def test_own_blocks(rows, system):
    gram = rows.Z.T @ (rows.Z * rows.weights[:, None])
    for g, expected in enumerate(rows.blocks(gram)):
        np.testing.assert_allclose(system.own(g), expected, atol=1e-10)


def test_determinants_residual_and_root(rows, factor):
    assert factor.log_det_u == pytest.approx(np.linalg.slogdet(rows.H)[1], rel=1e-11)
    assert factor.log_det_x == pytest.approx(np.linalg.slogdet(rows.XVX)[1], rel=1e-11)
    assert factor.pwrss == pytest.approx(rows.y @ rows.P @ rows.y, rel=1e-11)
    root = factor.fixed_root
    np.testing.assert_allclose(root @ root.T, rows.XVX, atol=1e-9)
    assert not np.triu(root, 1).any()
    assert factor.noise == 0.0


def test_mode_and_scores(rows, factor):
    Py = rows.P @ rows.y
    b = rows.Lambda @ rows.Lambda.T @ rows.Z.T @ Py
    beta = np.linalg.solve(rows.XVX, rows.X.T @ np.linalg.solve(rows.V, rows.y))
    np.testing.assert_allclose(rows.flat(factor.mode)[:, 0], np.r_[b, beta], atol=1e-9)
    scores = rows.flat(factor.scores)[:, 0]
    np.testing.assert_allclose(scores, np.r_[rows.Z.T @ Py, np.zeros(3)], atol=1e-9)


def test_solve(rows, factor):
    v, q = _vectors(rows, 2), len(rows.Lambda)
    ZX = np.hstack([rows.Z, rows.X])
    inner = rows.Lambda @ np.linalg.solve(rows.H, rows.Lambda.T @ v[:q])
    expected = {True: rows.joint @ v, False: np.vstack([inner, np.zeros((3, 2))])}
    for fixed, x in expected.items():
        found, rest = factor.solve(rows.effects(v), fixed=fixed)
        np.testing.assert_allclose(rows.flat(found), x, atol=1e-8)
        left = v - ZX.T @ (rows.weights[:, None] * (ZX @ x))
        np.testing.assert_allclose(rows.flat(rest), left, atol=1e-7)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_quadratic_forms(rows, system, factor, fixed, known):
    a, q = _vectors(rows, 3, fixed=False), len(rows.Lambda)
    Za = rows.Z @ a[:q]
    effects = rows.effects(a)
    za = system.times(effects) if known else None
    found = factor.quadratic_forms(effects, za, fixed=fixed)
    np.testing.assert_allclose(
        found, Za.T @ (rows.P if fixed else np.linalg.inv(rows.V)) @ Za, atol=1e-8
    )


def test_information(rows, factor):
    e = rows.P @ rows.y
    P = rows.P - 5.0 * np.outer(e, e) / (rows.y @ e)
    expected = rows.blocks(rows.Z.T @ P @ rows.Z)
    for found, blocks in zip(factor.information(fixed=1.0, response=5.0), expected, strict=True):
        np.testing.assert_allclose(found, blocks.sum(axis=2), atol=1e-8)


def test_selected_inverse(rows, factor):
    selected = factor.selected()
    M = rows.Lambda @ np.linalg.solve(rows.H, rows.Lambda.T)
    np.testing.assert_allclose(
        selected.leverages(), np.einsum("nq,qr,nr->n", rows.Z, M, rows.Z), atol=1e-9
    )
    expected = rows.blocks(rows.Z.T @ np.linalg.solve(rows.V, rows.Z))
    for found, blocks in zip(selected.information, expected, strict=True):
        np.testing.assert_allclose(found, blocks.sum(axis=2), atol=1e-8)
    for found, blocks in zip(factor.conditional_blocks(), rows.blocks(M), strict=True):
        np.testing.assert_allclose(found, blocks, atol=1e-9)


@pytest.mark.parametrize("root", [None, np.array([[2.0, 0, 0], [1.0, 3.0, 0], [0.5, 0.2, 1.5]])])
def test_row_norms(rows, factor, root):
    """Unknown levels add nothing; another root of the information replaces X'V^-1 X."""
    rng = np.random.default_rng(2)
    codes = [rng.integers(-1, group.n_levels, 23) for group in rows.groups]
    z = [rng.normal(size=(23, group.n_columns)) for group in rows.groups]
    x, Z = rng.normal(size=(23, 3)), []
    for group, code, own in zip(rows.groups, codes, z, strict=True):
        block = np.zeros((23, group.n_columns, group.n_levels))
        known = np.flatnonzero(code >= 0)
        block[known, :, code[known]] = own[known]
        Z.append(block.reshape(23, -1))
    Z = np.hstack(Z)
    M = rows.Lambda @ np.linalg.solve(rows.H, rows.Lambda.T)
    rest = x - Z @ M @ rows.Z.T @ (rows.weights[:, None] * rows.X)
    information = rows.XVX if root is None else root @ root.T
    expected = np.einsum("nq,qr,nr->n", Z, M, Z)
    expected += np.einsum("nr,nr->n", rest, np.linalg.solve(information, rest.T).T)
    np.testing.assert_allclose(factor.row_norms(codes, z, x, root), expected, rtol=1e-8)
    small = factor.compact(1 << 30)
    np.testing.assert_allclose(small.row_norms(codes, z, x, root), expected, rtol=1e-8)


def test_ranks_count_every_effect_once(rows, factor):
    ranks = np.concatenate([rank.ravel() for rank in factor.ranks()])
    np.testing.assert_array_equal(np.sort(ranks), np.arange(len(rows.Lambda)))


def test_another_response_is_another_assembly(rows, system):
    """From [Z X]'Wy and y'Wy alone."""
    y = np.random.default_rng(3).normal(size=N_ROWS)
    ZX = np.hstack([rows.Z, rows.X])
    cross = rows.effects(ZX.T @ (rows.weights * y)[:, None])
    moved = system.with_response(cross, y @ (rows.weights * y)).factor(rows.T)
    assert moved.pwrss == pytest.approx(y @ rows.P @ y, rel=1e-10)
    b = rows.Lambda @ rows.Lambda.T @ rows.Z.T @ rows.P @ y
    np.testing.assert_allclose(rows.flat(moved.mode)[:-3, 0], b, atol=1e-9)
    assert system.factor(rows.T).pwrss == pytest.approx(rows.y @ rows.P @ rows.y, rel=1e-11)


def test_without_rows_nothing_has_their_length(rows, system, factor):
    for slim in (system.without_rows(), factor.without_rows().system):
        found = slim.factor(rows.T)
        assert found.pwrss == pytest.approx(factor.pwrss, rel=1e-11)
        for group in found._plan.groups:
            assert group.codes.base is None and group.z.base is None and not len(group.codes)


def test_memory_grows_with_the_system(rows, system):
    assert system.memory() > system.dense_rows**2 * 8


def test_arithmetic_of_effects(rows):
    a, b = _vectors(rows, 2), _vectors(rows, 3)
    left, right = rows.effects(a), rows.effects(b)
    np.testing.assert_allclose(left.dot(right), a.T @ b, atol=1e-12)
    np.testing.assert_allclose(rows.flat(left + left.times(2.0) - left), 2 * a, atol=1e-12)
    np.testing.assert_array_equal(rows.flat(left.beside(right)), np.hstack([a, b]))
    np.testing.assert_array_equal(rows.flat(right.columns(slice(1, 3))), b[:, 1:])
    np.testing.assert_array_equal(right[0], right.random[0])
    assert left.columns(slice(0, 1)).levels()[0].shape == left[0][:, 0].shape


def test_marginal_inverse(rows, factor):
    """[Z X y]'V^-1 [Z X y] and the traces of Z'V^-1 Z with the derivatives of V."""
    found, inverse = factor.marginal(), np.linalg.inv(rows.V)
    Xy = np.column_stack([rows.X, rows.y])
    np.testing.assert_allclose(found.fixed, Xy.T @ inverse @ Xy, atol=1e-9)
    np.testing.assert_allclose(found.fixed_root @ found.fixed_root.T, found.fixed, atol=1e-9)
    beta = np.linalg.solve(rows.XVX, rows.X.T @ inverse @ rows.y)
    np.testing.assert_allclose(found.coefficients, beta, atol=1e-10)
    seen = rows.flat(found.effects_fixed)
    np.testing.assert_allclose(seen[:-3], rows.Z.T @ inverse @ Xy, atol=1e-9)
    a = _vectors(rows, 2, fixed=0.0)
    seen = rows.flat(found.times(rows.effects(a)))
    np.testing.assert_allclose(seen[:-3], rows.Z.T @ inverse @ rows.Z @ a[:-3], atol=1e-9)
    H = rows.Z.T @ inverse @ rows.Z
    directions = [
        Direction(g, i, j) for g, group in enumerate(rows.groups)
        for j in range(group.n_columns) for i in range(j, group.n_columns)
    ]  # fmt: skip
    D = [_embedded(rows, d) for d in directions]
    t, tt = found.traces(directions)
    np.testing.assert_allclose(t, [np.trace(H @ d) for d in D], rtol=1e-9)
    expected = [[np.trace(H @ d @ H @ e) for e in D] for d in D]
    np.testing.assert_allclose(tt, expected, rtol=1e-9, atol=1e-9)


def _embedded(rows, direction):
    """I kron E (q, q) for the derivative E of one group's covariance."""
    blocks = []
    for g, group in enumerate(rows.groups):
        s = group.n_columns
        E = direction.matrix(s) if g == direction.group else np.zeros((s, s))
        blocks.append(np.kron(E, np.eye(group.n_levels)))
    return block_diag(*blocks)


def test_a_compact_factor_has_no_system(factor):
    assert factor.has_system and factor.without_rows().has_system
    assert not factor.compact(1e12).has_system
