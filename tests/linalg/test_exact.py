"""Z'PZ of small systems against dense matrices."""

import numpy as np
import pytest

from skmixed.linalg.system import Group, Pattern


def _system(rng, weighted, n=60):
    """Groups of two effects and of one, and all matrices written out."""
    z, x, y = rng.normal(size=(n, 2)), rng.normal(size=(n, 3)), rng.normal(size=n)
    codes = rng.integers(0, 5, n), rng.integers(0, 7, n)
    groups = Group(codes[0], z, 5), Group(codes[1], np.ones((n, 1)), 7)
    w = rng.uniform(0.5, 2.0, n) if weighted else None
    system = Pattern.build(groups, 3, chain_from=100).system(w, x, y)
    Z = [np.zeros((n, group.size)) for group in groups]
    for own, group in zip(Z, groups, strict=True):
        for s in range(group.n_columns):
            own[np.arange(n), group.codes * group.n_columns + s] = group.z[:, s]
    return system, Z, x, y, np.eye(n) if w is None else np.diag(w)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_forms_against_dense_matrices(fixed, weighted):
    rng = np.random.default_rng(3)
    system, Z, X, y, W = _system(rng, weighted)
    T = [np.array([[0.8, 0.0], [0.3, 0.5]]), np.array([[1.4]])]
    factor = system.factor(T)
    forms = factor.forms(fixed=fixed)

    levels = [own.shape[1] // len(T_g) for own, T_g in zip(Z, T, strict=True)]
    sigma = [np.kron(np.eye(k), T_g @ T_g.T) for k, T_g in zip(levels, T, strict=True)]
    V = np.linalg.inv(W) + sum(own @ S @ own.T for own, S in zip(Z, sigma, strict=True))
    Vi = np.linalg.inv(V)
    P0 = Vi - Vi @ X @ np.linalg.solve(X.T @ Vi @ X, X.T @ Vi)
    P, r2 = P0 if fixed else Vi, y @ P0 @ y
    D = [rng.normal(size=(2, 2, 2)), rng.normal(size=(1, 1, 1))]
    D = [d + d.transpose(0, 2, 1) for d in D]
    G = [
        own @ np.kron(np.eye(k), d) @ own.T
        for own, k, of_group in zip(Z, levels, D, strict=True)
        for d in of_group
    ]
    places, m = [slice(0, 2), slice(2, 3)], 57.0

    average, h = forms.average(D, places, m)
    expected_h = np.array([y @ P0 @ g @ P0 @ y for g in G]) / r2
    expected = [[m * (y @ P0 @ a @ P0 @ b @ P0 @ y) / r2 for b in G] for a in G]
    np.testing.assert_allclose(h, expected_h, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        average, np.array(expected) - m * np.outer(expected_h, expected_h), rtol=1e-8, atol=1e-7
    )
    np.testing.assert_allclose(
        forms.traces(D, places),
        [[np.trace(P @ a @ P @ b) for b in G] for a in G],
        rtol=1e-8,
        atol=1e-7,
    )
    for own, other in zip(
        forms.information(m), factor.information(fixed=float(fixed), response=m), strict=True
    ):
        np.testing.assert_allclose(own, other, rtol=1e-8, atol=1e-8)


def test_no_forms_where_digits_are_lost():
    system, *_ = _system(np.random.default_rng(3), False)
    assert system.factor([1e5 * np.eye(2), np.eye(1)]).forms(fixed=True) is None
