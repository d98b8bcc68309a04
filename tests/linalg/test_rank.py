"""Rank decisions: exact arithmetic, units, shifts, stored digits, and the basis they lead to."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from skmixed.linalg import rank
from skmixed.linalg.rank import RowBlocks, independent_columns

quick = settings(max_examples=40, derandomize=True, deadline=None)


def exact_basis(X):
    """(kept, combinations): the first independent columns and all columns as sums of them."""
    rows = [[Fraction(int(v)) for v in row] for row in X]
    kept = []
    for j in range(X.shape[1]):
        k = len(kept)
        at = next((i for i in range(k, len(rows)) if rows[i][j]), None)
        if at is None:
            continue
        rows[k], rows[at] = rows[at], rows[k]
        rows[k] = [v / rows[k][j] for v in rows[k]]
        for i, row in enumerate(rows):
            if i != k and row[j]:
                rows[i] = [a - row[j] * b for a, b in zip(row, rows[k], strict=True)]
        kept.append(j)
    return kept, np.array(rows[: len(kept)], dtype=object).reshape(len(kept), X.shape[1]).T


def exact_kept(X):
    """Columns that do not depend on earlier ones, by elimination with fractions."""
    return exact_basis(X)[0]


@st.composite
def integer_designs(draw):
    """Random integer matrices with dependent columns: n x p, the first column ones."""
    seed = draw(st.integers(0, 10**6))
    n, p, extra = draw(st.integers(2, 12)), draw(st.integers(1, 5)), draw(st.integers(0, 4))
    rng = np.random.default_rng(seed)
    base = np.column_stack([np.ones(n), rng.integers(-4, 5, (n, p))])
    mixed = base @ rng.integers(-3, 4, (p + 1, extra))
    order = rng.permutation(p + extra)
    return np.column_stack([base[:, :1], np.column_stack([base[:, 1:], mixed])[:, order]])


@quick
@given(integer_designs())
def test_kept_columns_are_those_of_exact_arithmetic(X):
    basis = independent_columns(X, intercept=0)
    assert basis.kept.tolist() == exact_kept(X)
    np.testing.assert_allclose(X[:, basis.kept] @ basis.combinations.T, X, atol=1e-9)


@quick
@given(integer_designs(), st.integers(0, 10**6))
def test_units_and_shifts_do_not_matter(X, seed):
    rng = np.random.default_rng(seed)
    p = X.shape[1]
    scale = 10.0 ** rng.integers(-21, 22, p)
    shift = rng.integers(-(10**6), 10**6, p).astype(float)
    scale[0], shift[0] = 1.0, 0.0
    plain = independent_columns(X, intercept=0)
    changed = independent_columns((X + shift) * scale, intercept=0)
    assert changed.kept.tolist() == plain.kept.tolist()


@pytest.mark.parametrize(
    ("shift", "decades", "dtype"),
    [(0, 0, "f8"), (0, 6, "f8"), (100, 0, "f8"), (10**4, 3, "f8"), (0, 0, "f4"), (100, 3, "f4")],
)
def test_zeros_of_several_dependencies_are_those_of_exact_arithmetic(shift, decades, dtype):
    """Coefficients and constants that are noise would make estimable functions non-estimable."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, p, r = rng.integers(2, 12), rng.integers(3, 10), rng.integers(1, 5)
        X = rng.integers(-4, 5, (n, r)) @ rng.integers(-4, 5, (r, p))
        X = X + rng.integers(-shift, shift + 1, p)
        scale = 10.0 ** rng.integers(-decades, decades + 1, p)
        kept, exact = exact_basis(np.column_stack([np.ones(n), X]))
        basis = independent_columns((X * scale).astype(dtype), add_intercept=True)
        assert basis.kept.tolist() == kept
        assert ((basis.combinations != 0) == (exact != 0)).all()
        scale = np.r_[1.0, scale]
        unscaled = basis.combinations / scale[:, None] * scale[kept]
        np.testing.assert_allclose(unscaled, exact.astype(float), rtol=1e-4)


def test_a_small_part_of_a_dependency_beside_a_large_one_is_no_noise():
    a, b = np.random.default_rng(0).integers(-4, 5, (2, 12)).astype(float)
    big = 2.0**42 * b
    basis = independent_columns(np.column_stack([a, big, a + big]), add_intercept=True)
    assert basis.combinations[3, 0] == 0
    np.testing.assert_allclose(basis.combinations[3, 1:], 1.0, rtol=1e-2)


def test_noise_on_columns_that_are_nearly_dependent_is_taken_up_by_the_others():
    rng = np.random.default_rng(0)
    a, noise, c = rng.normal(size=(3, 50))
    near = a + 1e-7 * noise
    X = np.column_stack([a, near, c, (a + c) / 7])
    basis = independent_columns(X, add_intercept=True)
    assert (basis.combinations[4] != 0).tolist() == [False, True, False, True]
    np.testing.assert_allclose(X[:, :3] @ basis.combinations[4, 1:], X[:, 3], rtol=1e-10)


@quick
@given(integer_designs(), st.integers(0, 10**6))
def test_basis_is_orthonormal_and_leads_back_to_coefficients(X, seed):
    weights = np.random.default_rng(seed).integers(1, 4, len(X)).astype(float)
    basis = independent_columns(X, weights, intercept=0)
    Q = basis.orthonormal(X)
    np.testing.assert_allclose(Q.T @ (Q * weights[:, None]), weights.sum() * np.eye(basis.rank),
                               atol=1e-8 * weights.sum())  # fmt: skip
    np.testing.assert_allclose(X[:, basis.kept] @ basis.to_coef, Q, atol=1e-7)


@quick
@given(integer_designs())
def test_routes_agree(X):
    by_rotations = rank._from_rotations(RowBlocks(X.astype(float), None, 0), rank.TOLERANCE)
    basis = independent_columns(X, intercept=0)
    assert by_rotations.kept.tolist() == basis.kept.tolist()
    np.testing.assert_allclose(by_rotations.combinations, basis.combinations, atol=1e-9)


@quick
@given(integer_designs())
def test_blocks_of_rows_and_sparse_input_change_nothing(X):
    whole = independent_columns(X[:, 1:], add_intercept=True)
    old, rank.BLOCK_ELEMENTS = rank.BLOCK_ELEMENTS, 1
    try:
        blocks = RowBlocks(X[:, 1:].astype(float), None, 0, True)
        assert blocks.step == 4 * X.shape[1]
        blocks.step = 3
        gram = rank._gram(blocks)
    finally:
        rank.BLOCK_ELEMENTS = old
    centred = X - blocks.center
    np.testing.assert_allclose(gram, centred.T @ centred, atol=1e-10)
    sparse = independent_columns(sp.csr_matrix(X[:, 1:]), add_intercept=True)
    assert sparse.kept.tolist() == whole.kept.tolist() == exact_kept(X)


@quick
@given(integer_designs(), st.integers(0, 10**6))
def test_weights_count_rows(X, seed):
    counts = np.random.default_rng(seed).integers(0, 3, len(X))
    counts[0] = 1
    weighted = independent_columns(X, counts.astype(float), intercept=0)
    repeated = independent_columns(np.repeat(X, counts, axis=0), intercept=0)
    assert weighted.kept.tolist() == repeated.kept.tolist()
    np.testing.assert_allclose(np.abs(weighted.to_coef), np.abs(repeated.to_coef), rtol=1e-6,
                               atol=1e-9)  # fmt: skip


@pytest.mark.parametrize("intercept", [True, False])
def test_sizes_1e9_and_1e_minus_21_are_no_deficiency(intercept):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3)) * [1e9, 1e-21, 1.0]
    assert independent_columns(X, add_intercept=intercept).rank == 3 + intercept


def test_sizes_that_overflow_when_squared():
    t = np.arange(20.0)
    X = np.column_stack([t * 1e-200, t**2 * 1e200, t * 3e-200])
    basis = independent_columns(X, add_intercept=True)
    assert basis.kept.tolist() == [0, 1, 2]
    assert basis.combinations[3] == pytest.approx([0, 3, 0])


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("intercept", [True, False])
def test_sizes_that_vanish_when_squared(kind, intercept):
    t = np.array([1.0, 3.0, 1.0, 0.0, -5.0])
    X = np.column_stack([t, 0 * t, 2 * t, t**2]) * 1e-300
    basis = independent_columns(kind(X), add_intercept=intercept)
    assert basis.kept.tolist() == ([0, 1, 4] if intercept else [0, 3])
    assert basis.combinations[2 + intercept, -2] == 2.0


def test_numbers_without_a_finite_spread_are_named():
    X = np.column_stack([np.arange(3.0), [1e308, -1e308, 0]])
    with pytest.raises(ValueError, match="column 1 of X has numbers too far apart"):
        independent_columns(X, add_intercept=True)


@pytest.mark.parametrize("shift", [1e3, 1e6, 1e9, 1e12, 1e14])
def test_a_shifted_slope_is_no_constant(shift):
    t = np.arange(20.0)
    X = np.column_stack([np.ones(20), t + shift])
    basis = independent_columns(X, intercept=0)
    assert basis.rank == 2
    np.testing.assert_allclose(basis.orthonormal(X)[:, 1], (t - t.mean()) / t.std(), atol=1e-12)


def test_a_shift_that_swallows_the_slope_is_told():
    t = np.arange(20.0)
    basis = independent_columns(np.column_stack([np.ones(20), t / 100 + 1e16]), intercept=0)
    assert basis.aliased.tolist() == [False, True]


@pytest.mark.parametrize(("shift", "rank", "lost"), [(1e6, 3, False), (1e9, 2, True)])
def test_square_of_a_shifted_column(shift, rank, lost):
    x = np.linspace(1, 2, 21) + shift
    basis = independent_columns(np.column_stack([np.ones(21), x, x**2]), intercept=0)
    assert basis.rank == rank
    assert basis.lost_digits[2] == lost


def test_exact_dependence_has_not_lost_digits():
    t = np.arange(10.0) + 1e12
    basis = independent_columns(np.column_stack([np.ones(10), t, 2 * t]), intercept=0)
    assert basis.aliased[2] and not basis.lost_digits[2]
    assert basis.combinations[2].tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("noise", "rank"),
    [(1e-3, 3), (1e-6, 3), (1e-7, 3), (1e-8, 3), (1e-10, 3), (1e-13, 2), (1e-15, 2)],
)
def test_ladder_of_near_duplicates(noise, rank):
    """R's lm (tol 1e-7) stops at 1e-7; here stored digits decide, down to 1e-12."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=60)
    X = np.column_stack([z, z + noise * rng.normal(size=60)])
    assert independent_columns(X, add_intercept=True).rank == rank


def test_tol_is_relative_to_the_columns_own_spread():
    rng = np.random.default_rng(1)
    z = rng.normal(size=60)
    X = 1e9 + np.column_stack([z, z + 1e-4 * rng.normal(size=60)])
    assert independent_columns(X, add_intercept=True).rank == 3
    assert independent_columns(X, add_intercept=True, tol=1e-3).rank == 2


def test_single_precision_is_judged_by_its_own_digits():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 50)).astype(np.float32)
    X = np.column_stack([a, b, np.float32(0.1) * a + np.float32(0.7) * b])
    assert independent_columns(X, add_intercept=True).rank == 3
    assert independent_columns(X.astype(np.float64), add_intercept=True).rank == 4


def test_intercept_is_never_dropped_wherever_it_stands():
    t = np.arange(6) % 3
    X = np.column_stack([t == 0, t == 1, t == 2, np.full(6, 2.5)]).astype(float)
    basis = independent_columns(X, intercept=3)
    assert basis.kept.tolist() == [0, 1, 3]
    assert basis.combinations[2].tolist() == [-1.0, -1.0, 0.4]
    assert independent_columns(X).kept.tolist() == [0, 1, 2]


def test_dummies_spanning_the_constant_keep_a_shifted_slope():
    t = np.arange(20.0)
    X = np.column_stack([t % 2 == 0, t % 2 == 1, t + 1e12]).astype(float)
    assert independent_columns(X).rank == 3


def test_zero_constant_and_rounded_constant_columns():
    t = np.arange(7.0)
    rounded = np.where(t % 2 == 0, 0.1 + 0.2, 0.3)
    basis = independent_columns(np.column_stack([0 * t, t, 0 * t + 7, rounded]), add_intercept=True)
    assert basis.kept.tolist() == [0, 2]
    assert basis.combinations[[1, 3]].tolist() == [[0, 0], [7, 0]]


@pytest.mark.parametrize("shape", [(5, 0), (1, 3), (3, 7)])
def test_shapes_at_the_edge(shape):
    X = np.random.default_rng(0).normal(size=shape)
    assert independent_columns(X).rank == min(shape)
    basis = independent_columns(X, add_intercept=True)
    assert basis.rank == min(shape[0], shape[1] + 1)


def test_zero_weight_rows_do_not_count():
    X = np.column_stack([np.arange(5.0), 2 * np.arange(5.0)])
    X[3, 1] = 99.0
    assert independent_columns(X, np.array([1, 1, 1, 0, 1.0]), add_intercept=True).rank == 2
    with pytest.raises(ValueError, match="positive weight"):
        independent_columns(X, np.zeros(5))


def test_combinations_are_exact_where_the_coefficients_are_short_decimals():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 40))
    X = np.column_stack([a, b, 1.8 * a + 32, 0.1 * a - 0.7 * b])
    basis = independent_columns(X, add_intercept=True)
    assert basis.combinations[3].tolist() == [32.0, 1.8, 0.0]
    assert basis.combinations[4].tolist() == [0.0, 0.1, -0.7]
