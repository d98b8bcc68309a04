"""Generalised inverses against exact fractions, Penrose's conditions, SAS/IML and caret."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skmixed.linalg import (
    find_linear_combinations,
    g2_inverse,
    moore_penrose,
    null_space,
    sweep,
)

DATA = Path(__file__).parents[1] / "data" / "rank"
IML = json.loads((DATA / "iml_geninv.json").read_text())
CARET = json.loads((DATA / "caret_linear_combos.json").read_text())["matrices"]
quick = settings(max_examples=40, derandomize=True, deadline=None)


def rank(G):
    """Pivots of a G2 inverse: rows of columns that were skipped are zero."""
    return np.count_nonzero(G.diagonal())


@st.composite
def cross_products(draw):
    """X'X of a random integer X with dependent columns, as integers."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, p, r = draw(st.integers(3, 9)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    X = rng.integers(-4, 5, (n, r)) @ rng.integers(-2, 3, (r, p))
    return X.T @ X


def fractions(A):
    return np.array([[Fraction(int(v)) for v in row] for row in A], dtype=object)


@quick
@given(cross_products())
def test_sweep_is_that_of_exact_arithmetic(A):
    exact = sweep(fractions(A))
    assert (exact @ A @ exact == exact).all() and (A @ exact @ A == A).all()
    np.testing.assert_allclose(g2_inverse(A), exact.astype(float), rtol=1e-8, atol=1e-10)
    assert (g2_inverse(fractions(A)) == exact).all()


@quick
@given(cross_products())
def test_best_pivot_first_gives_a_g2_inverse_too(A):
    exact = g2_inverse(fractions(A), pivoting=True)
    assert (A @ exact @ A == A).all() and (exact @ A @ exact == exact).all()
    assert rank(g2_inverse(A, pivoting=True)) == rank(g2_inverse(A))


@quick
@given(cross_products())
def test_estimable_functions_are_the_rows_of_h(A):
    G = g2_inverse(A)
    H, size = G @ A, 1 + np.abs(A).max()
    np.testing.assert_allclose(A @ H, A, atol=1e-9 * size)
    np.testing.assert_allclose(H @ H, H, atol=1e-7)
    assert rank(G) == np.linalg.matrix_rank(A, tol=1e-8 * size)


@quick
@given(cross_products(), st.booleans())
def test_moore_penrose_meets_all_four_conditions(A, tall):
    A = A[:, : 1 + len(A) // 2] if tall else A
    G = moore_penrose(A)
    size = 1 + np.abs(A).max()
    np.testing.assert_allclose(A @ G @ A, A, atol=1e-9 * size)
    np.testing.assert_allclose(G @ A @ G, G, atol=1e-9 * (1 + np.abs(G).max()))
    np.testing.assert_allclose(A @ G, (A @ G).T, atol=1e-9)
    np.testing.assert_allclose(G @ A, (G @ A).T, atol=1e-9)


@quick
@given(cross_products())
def test_null_space_is_orthonormal_and_annihilated(A):
    N = null_space(A)
    assert N.shape[1] == len(A) - rank(g2_inverse(A))
    np.testing.assert_allclose(N.T @ N, np.eye(N.shape[1]), atol=1e-12)
    np.testing.assert_allclose(A @ N, 0, atol=1e-9 * (1 + np.abs(A).max()))


def shortest_inverse(X):
    """The Moore-Penrose inverse in fractions, of columns that hold integers or powers of two."""
    A = X.T @ X
    columns = [j for j in range(len(A)) if sweep(A)[j].any()]
    B = X[:, columns]
    C = sweep(B.T @ B) @ B.T @ X
    return C.T @ sweep(C @ C.T) @ sweep(B.T @ B) @ B.T


@pytest.mark.parametrize("decades", [0, 6, 12, 15])
def test_units_cost_moore_penrose_no_digits(decades):
    for seed in range(15):
        rng = np.random.default_rng(seed)
        n, p, r = rng.integers(4, 9), rng.integers(2, 6), rng.integers(1, 4)
        X = rng.integers(-4, 5, (n, r)) @ rng.integers(-3, 4, (r, p))
        X = X * 2.0 ** rng.integers(-3 * decades, 3 * decades + 1, p)
        exact = shortest_inverse(np.vectorize(Fraction, otypes=[object])(X)).astype(float)
        size = np.linalg.norm(exact, axis=1, keepdims=True) + np.finfo(float).tiny
        np.testing.assert_allclose(moore_penrose(X) / size, exact / size, atol=1e-11)
        N = null_space(X)
        np.testing.assert_allclose(N.T @ N, np.eye(N.shape[1]), atol=1e-12)
        assert (np.abs(X @ N) <= 1e-14 * (np.abs(X) @ np.abs(N))).all()


@pytest.mark.parametrize("decades", [0, 9])
@pytest.mark.parametrize("largest", [5, 60, 900])
def test_ranks_of_cross_products_are_those_of_exact_arithmetic(largest, decades):
    """Pivots after nearly dependent columns carry their noise many times over."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, p = rng.integers(2, 8), rng.integers(2, 8)
        X = rng.integers(-largest, largest + 1, (n, p))
        exact = sweep(fractions(X.T @ X))
        scale = 2.0 ** rng.integers(-3 * decades, 3 * decades + 1, p)
        A = (X.T @ X) * np.multiply.outer(scale, scale)
        size = np.sqrt(A.diagonal())
        for pivoting in (False, True):
            G = g2_inverse(A, pivoting=pivoting)
            assert rank(G) == rank(exact)
            error = (A @ G @ A - A) / np.multiply.outer(size, size)
            size_of_terms = np.abs(A) @ np.abs(G) @ np.abs(A) / np.multiply.outer(size, size)
            assert (np.abs(error) <= 1e-12 * size_of_terms).all()
        for swept in (g2_inverse(A), sweep(A)):
            assert ((swept.diagonal() != 0) == (exact.diagonal() != 0)).all()


def test_rank_after_nearly_dependent_columns():
    X = [[55, -30, 489, 25, -20, 404], [-54, -6, -387, 4, 63, -138],
         [61, -61, 324, 4, -36, 216], [-65, 17, -858, -68, 91, -537]]  # fmt: skip
    A = np.array(X).T @ X
    G = g2_inverse(A)
    assert rank(G) == 4
    np.testing.assert_allclose(A @ G @ A, A, rtol=1e-7)


def test_sas_iml_example():
    A, c = np.array(IML["A"]), np.array(IML["c"])
    np.testing.assert_allclose(g2_inverse(A), IML["sweep_inverse"], atol=1e-12)
    np.testing.assert_allclose(g2_inverse(A) @ c, [-3, 7, 4, 0], atol=1e-12)
    np.testing.assert_allclose(moore_penrose(A), IML["ginv"], atol=2e-17)
    np.testing.assert_allclose(moore_penrose(A) @ c, [-3, 7, 3.2, 1.6], atol=1e-12)
    np.testing.assert_allclose(null_space(A)[:, 0], np.array([0, 0, 1, -2]) / 5**0.5, atol=1e-12)
    exact = [[str(v) for v in row] for row in sweep(fractions(A))]
    assert exact == IML["sweep_inverse_exact"]


def test_sas_iml_norms_are_smallest_at_moore_penrose():
    A, c = np.array(IML["A"]), np.array(IML["c"])
    b, N = moore_penrose(A) @ c, null_space(A)[:, 0]
    for alpha in (-2.0, 2.0):
        assert np.linalg.norm(b + alpha * N) == pytest.approx(IML["norms"]["ginv_plus_2null"])
    assert np.linalg.norm(b) == pytest.approx(IML["norms"]["ginv"], abs=1e-12)
    moved = g2_inverse(A) @ c - b
    np.testing.assert_allclose(np.abs(moved @ N), abs(IML["alpha_of_sweep"]), atol=1e-12)


def test_sweep_undoes_itself():
    A = np.array(IML["A"])
    np.testing.assert_allclose(sweep(sweep(A, [0, 2]), [2, 0]), A, atol=1e-12)
    assert (sweep(A, []) == A).all()


def test_sweeping_normal_equations_gives_coefficients_and_error_sum_of_squares():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    M = np.column_stack([X, y])
    S = sweep(M.T @ M, range(3))
    b, rss = np.linalg.lstsq(X, y, rcond=None)[:2]
    np.testing.assert_allclose(S[:3, 3], b, atol=1e-12)
    np.testing.assert_allclose(S[3, 3], rss[0], rtol=1e-10)


def test_rank_of_moore_penrose_ignores_units():
    A = np.diag([1e18, 1e-42])
    np.testing.assert_allclose(moore_penrose(A) @ A, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(g2_inverse(A) @ A, np.eye(2), atol=1e-12)


@pytest.mark.parametrize("name", CARET)
def test_linear_combinations_are_carets(name):
    """caret 6.0.93, findLinearCombos, at its tolerance of 1e-7."""
    case = CARET[name]
    found = find_linear_combinations(np.array(case["matrix"], dtype=float), tol=1e-7)
    assert [j + 1 for j in found.remove] == list(np.atleast_1d(case["remove"]))
    groups = {g[0] + 1: {j + 1 for j in g[1:]} for g in found.groups}
    expected = {g[0]: set(g[1:]) for g in map(list, map(np.atleast_1d, case["linearCombos"]))}
    if name == "scaled_columns":  # column 4 is column 1 plus 1: caret adds a multiple of column 2
        expected[4] = groups[4] | {2}
        groups[4] |= {2}
    assert groups == expected


@pytest.mark.parametrize("name", sorted(set(CARET) - {"scaled_columns"}))
def test_linear_combinations_at_the_default_tolerance(name):
    found = find_linear_combinations(np.array(CARET[name]["matrix"], dtype=float))
    assert [j + 1 for j in found.remove] == list(np.atleast_1d(CARET[name]["remove"]))


def test_a_sum_with_1_is_no_multiple_where_no_intercept_is():
    """height + 1 in nanometres: the digits tell it from height, and caret's tolerance does not."""
    X = np.array(CARET["scaled_columns"]["matrix"], dtype=float)
    assert find_linear_combinations(X).remove == [2]
    with_ones = np.column_stack([np.ones(len(X)), X])
    assert find_linear_combinations(with_ones).coefficients == {3: {2: 2.0}, 4: {0: 1.0, 1: 1.0}}


def test_linear_combinations_reproduce_the_columns():
    X = np.array(CARET["helppage_testData1"]["matrix"], dtype=float)
    for j, row in find_linear_combinations(X).coefficients.items():
        np.testing.assert_allclose(sum(v * X[:, k] for k, v in row.items()), X[:, j], atol=1e-12)


def test_linear_combinations_name_the_columns_of_a_frame():
    c = np.array([1.0, 4, 2, 8])
    frame = pd.DataFrame({"one": 1.0, "c": c, "e": 2 * c - 1})
    assert find_linear_combinations(frame).coefficients == {"e": {"one": -1.0, "c": 2.0}}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sweep(np.ones((2, 3))), "square"),
        (lambda: sweep(np.eye(2), 5), "rows 0 to 1"),
        (lambda: g2_inverse([[1.0, 2], [3, 4]]), "symmetric"),
        (lambda: g2_inverse([[0.0, 1], [1, 0]]), "semidefinite"),
        (lambda: g2_inverse([[-1.0, 0], [0, 1]]), "semidefinite"),
        (lambda: moore_penrose([[1.0, np.nan]]), "finite"),
        (lambda: null_space([1.0, 2.0]), "2 dimensions"),
        (lambda: moore_penrose([["a"]]), "real numbers"),
        (lambda: moore_penrose([[1j]]), "real numbers"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
