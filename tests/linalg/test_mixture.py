"""Cross-products as sums over cells of rows and of sums of two rows."""

import numpy as np
import pytest

from skmixed.linalg.mixture import ExtendedRows, Mixture
from skmixed.linalg.system import Group, Pattern

N = 60


def data(seed=0):
    rng = np.random.default_rng(seed)
    g = np.arange(N) // 3
    groups = (
        Group(g, rng.normal(size=(N, 2)), 20),
        Group(g % 4, rng.normal(size=(N, 1)), 4),
    )
    return groups, rng.normal(size=(N, 3)), rng.normal(size=N), rng


def dense(groups, X, y):
    columns = [X, y[:, None]]
    for group in groups:
        Z = np.zeros((N, group.size))
        for s in range(group.n_columns):
            Z[np.arange(N), group.codes * group.n_columns + s] = group.z[:, s]
        columns.insert(len(columns) - 2, Z)
    return np.hstack(columns)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("chain_from", [0, 1000])
def test_derivatives_by_coefficients_are_those_of_the_factor(kept, chain_from, monkeypatch):
    """log |A + I| + log r^2 of a factor, moved along the coefficients, and its dense value."""
    if not kept:
        monkeypatch.setattr("skmixed.linalg.mixture._KEPT", 0)
    groups, X, y, rng = data()
    pairs = np.array([(i, i + 1) for i in range(N - 1) if i // 3 == (i + 1) // 3])
    rows = ExtendedRows(
        np.concatenate([np.arange(N), pairs[:, 0]]),
        np.concatenate([np.full(N, -1), pairs[:, 1]]),
        np.concatenate([np.arange(N) % 2, np.full(len(pairs), 2)]),
        None,
        3,
    )
    scale = rng.uniform(0.5, 2.0, N)
    pattern = Pattern.build(groups, X.shape[1], chain_from=chain_from)
    mixture = Mixture.build(pattern, rows, scale, X, y)
    T = [np.array([[0.8, 0.0], [0.3, 0.5]]), np.array([[0.7]])]
    c = np.array([1.0, 1.7, 0.4])

    U = dense(groups, X, y) * scale[:, None]
    whole = np.vstack([U, U[pairs[:, 0]] + U[pairs[:, 1]]])
    A = whole.T @ (whole * c[rows.cell][:, None])
    L = np.eye(len(A))
    for k, (group, T_k) in enumerate(zip(groups, T, strict=True)):
        at = sum(g.size for g in groups[:k])
        for level in range(group.n_levels):
            own = slice(at + level * len(T_k), at + (level + 1) * len(T_k))
            L[own, own] = T_k
    q = sum(g.size for g in groups)
    omega = L.T @ A @ L + np.diag(np.repeat([1.0, 0.0], [q, len(A) - q]))
    factor = mixture.system(c).factor(T)
    inside = np.linalg.slogdet(omega[:-1, :-1])[1]
    assert factor.log_det_u + factor.log_det_x == pytest.approx(inside, rel=1e-10)
    assert factor.pwrss == pytest.approx(np.exp(np.linalg.slogdet(omega)[1] - inside), rel=1e-10)

    moved = mixture.combined(np.eye(3))
    slopes = mixture.slopes(factor, moved, fixed=1.0, response=2.5)
    forms = mixture.forms(factor, moved)
    np.testing.assert_allclose(mixture.cell_forms(factor), forms, rtol=1e-9)
    h = 1e-5
    for k, e in enumerate(h * np.eye(3)):
        high, low = (mixture.system(c + s * e).factor(T) for s in (1, -1))
        log_det = (high.log_det_u + high.log_det_x - low.log_det_u - low.log_det_x) / (2 * h)
        square = (high.pwrss - low.pwrss) / (2 * h)
        assert forms[k] == pytest.approx(square, rel=1e-6)
        assert slopes[k] == pytest.approx(log_det + 2.5 * square / factor.pwrss, rel=1e-6)
