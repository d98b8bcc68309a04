"""The basis of all rows, found from cross-products in the basis of some of them."""

import numpy as np
import pytest

from skmixed.linalg.rank import independent_columns
from skmixed.linalg.refine import Provisional


def _design(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    x, t = rng.normal(1e5, 3.0, n), rng.uniform(1, 2, n)
    a, rare = (rng.random(n) < 0.3) * 1.0, (np.arange(n) >= n - 20) * 1.0
    columns = [np.ones(n), x, a, 1.0 - a, t, t**2, 2 * t - x, rare, rare * t, 3 * rare, 0 * t]
    return np.column_stack(columns), rng.uniform(0.5, 2.0, n)


@pytest.mark.parametrize("intercept", [0, None])
def test_the_basis_is_that_of_all_rows(intercept):
    X, w = _design()
    X = X if intercept == 0 else X[:, [4, 5, 2, 7, 8, 9, 10]]
    expected = independent_columns(X, w, intercept)
    start = Provisional.of(X[:300], intercept)  # which never saw the rare ones
    P = start.columns(X)
    found, B = start.refined((P * w[:, None]).T @ P, w.sum())
    np.testing.assert_array_equal(found.kept, expected.kept)
    np.testing.assert_array_equal(found.aliased, expected.aliased)
    Q = expected.orthonormal(X)
    np.testing.assert_allclose(P @ B, Q, atol=1e-8)
    np.testing.assert_allclose(found.orthonormal(X), Q, atol=1e-8)
    np.testing.assert_allclose(found.size, expected.size, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.combinations, expected.combinations, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(X[:, found.kept] @ found.to_coef, Q, atol=1e-6)


def test_coefficients_move_with_the_basis():
    X, w = _design()
    start = Provisional.of(X[:300], 0)
    P = start.columns(X)
    _, B = start.refined((P * w[:, None]).T @ P, w.sum())
    c = np.arange(1.0, start.basis.rank + 1)
    moved = P @ B @ start.in_basis(B, c)
    np.testing.assert_allclose(moved, P[:, start.basis.kept] @ c, atol=1e-8)
