"""Covariance structures: factors, derivatives, charts."""

import numpy as np
import pytest

from skmixed.models.structures import canonical_factor


@pytest.mark.parametrize("s", [1, 2, 3, 6])
def test_canonical_factor(s):
    A = np.random.default_rng(s).normal(size=(s, s))
    L = canonical_factor(A)
    np.testing.assert_allclose(L @ L.T, A @ A.T, atol=1e-12)
    assert (np.diag(L) >= 0).all()
    assert not np.triu(L, 1).any()


@pytest.mark.parametrize(
    "A",
    [
        np.zeros((2, 2)),
        np.array([[0.0, 0.0], [1.0, 2.0]]),
        np.outer([1.0, -2.0, 0.5], [1.0, 1.0, 0.0]),
    ],
)
def test_canonical_factor_of_singular_covariances(A):
    """Columns that belong to no new direction are exactly zero."""
    L = canonical_factor(A)
    np.testing.assert_allclose(L @ L.T, A @ A.T, atol=1e-12)
    assert np.count_nonzero(np.diag(L)) == np.linalg.matrix_rank(A @ A.T)


@pytest.mark.parametrize("unit", [1e-160, 1e-9, 1e9, 1e150])
def test_canonical_factor_in_any_units(unit):
    """Effects of very different size are not a singular covariance."""
    L = canonical_factor(np.diag([unit, 1.0]) @ np.array([[1.0, 0.0], [0.5, 2.0]]))
    np.testing.assert_allclose(L, [[unit, 0.0], [0.5, 2.0]], rtol=1e-12)
