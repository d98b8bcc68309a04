"""Separation: directions of the fixed effects along which the likelihood never stops growing.

A direction d separates the outcomes if no row gets worse along it (x_i'd >= 0 for a success, <= 0
for a failure or a count of zero, = 0 for any other row) and some row gets better (Albert and
Anderson 1984, Biometrika 71, 1-10). Coefficients then have no finite maximum likelihood estimate.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

# A row can take part in a separation only if it is fitted better than this at the optimum.
_FITTED = 1e-4
# Directions that the other rows determine less than this are free.
_FREE = 1e-10
# Share of the largest effect of a direction that a column must have to be named.
_NAMED = 1e-6


def separating_columns(rows, eta, basis):
    """Indices (among the kept columns) of columns that separate the outcomes; empty for none.

    Parameters
    ----------
    rows : Rows
    eta : (n,)
        Linear predictor of the fit.
    basis : ColumnBasis
    """
    sign = _perfect_rows(rows, eta)
    if sign is None or not np.any(sign):
        return np.zeros(0, dtype=int)
    free = _free_directions(rows.Q[sign == 0], rows.Q.shape[1])
    if not free.shape[1]:
        return np.zeros(0, dtype=int)
    gains = sign[sign != 0, None] * (rows.Q[sign != 0] @ free)
    direction = _best_direction(gains)
    if direction is None:
        return np.zeros(0, dtype=int)
    effect = np.abs(basis.to_coef @ (free @ direction)) * basis.size[basis.kept]
    if basis.intercept is not None:
        effect = np.where(basis.kept == basis.intercept, 0.0, effect)
    named = np.flatnonzero(effect > _NAMED * effect.max())
    return named if effect.max() > 0 else np.flatnonzero(basis.kept == basis.intercept)


def _perfect_rows(rows, eta):
    """+1 for rows whose mean may grow without limit, -1 where it may fall, 0 for all others."""
    family, y, w = rows.family, rows.y, rows.w
    mu = family.mean(eta)
    if family.name == "binomial":
        fitted = np.abs(y - w * mu) < _FITTED * w
        return np.where(fitted & (y == w), 1, np.where(fitted & (y == 0), -1, 0))
    if family.name in ("poisson", "negative_binomial") and family.link.name == "log":
        return np.where((y == 0) & (mu < _FITTED), -1, 0)
    return None


def _free_directions(Q, r):
    """Orthonormal basis (r, k) of the directions d with Q d = 0."""
    values, vectors = np.linalg.eigh(Q.T @ Q) if len(Q) else (np.zeros(r), np.eye(r))
    return vectors[:, values <= _FREE * max(values[-1], 1.0)]


def _best_direction(gains):
    """d in the unit box with gains @ d >= 0 and a positive sum, None if there is none."""
    gains = np.unique(np.round(gains, 12), axis=0)
    slack = 1e-9 * max(1.0, np.abs(gains).max())
    answer = linprog(-gains.sum(axis=0), A_ub=-gains, b_ub=np.full(len(gains), slack),
                     bounds=(-1, 1), method="highs")  # fmt: skip
    if not answer.success or -answer.fun <= 1e-6 * np.abs(gains).sum(axis=0).max():
        return None
    return answer.x


def one_sided_groups(rows):
    """Positions (in the plan) of groups in which every level has one outcome only, repeatedly."""
    if rows.family.name != "binomial":
        return []
    found = []
    for g, group in enumerate(rows.plan.groups):
        successes = np.bincount(group.codes, rows.y, group.n_levels)
        trials = np.bincount(group.codes, rows.w, group.n_levels)
        if np.all((successes == 0) | (successes == trials)) and trials.sum() > group.n_levels:
            found.append(g)
    return found
