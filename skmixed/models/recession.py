"""Rows that a generalised linear model fits perfectly in the limit: directions of recession.

The likelihood of a *one-sided* row (a success or a failure, a count of zero) rises to 1 as its
linear predictor goes to one side. A direction d of the fixed effects is one of recession if no
such row moves to its wrong side (side_i x_i'd >= 0) and all other rows stay (x_i'd = 0). Along it
the likelihood rises for ever, and rows that move are fitted perfectly in the limit (Albert and
Anderson 1984, Biometrika 71, 1-10). The largest set of such rows is unique. It is found by linear
programming (Konis 2007, Oxford thesis) unless a proof that there is none comes cheaper.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog
from scipy.special import expit

from skmixed._deadline import check_time
from skmixed.linalg.rank import RowBlocks, independent_columns
from skmixed.models.linear import outside_row_space

# Rows per side (and as many per column) on which the proof is tried before all rows.
_SAMPLE, _SAMPLE_PER_COLUMN = 200, 20
# Share of the largest eigenvalue below which a direction is not taken for determined.
_UNCLEAR = 1e-6
_PROOF_STEPS = 12
# The program's tolerance, and what a row must move by (for rows and directions of length about 1).
_FEASIBLE, _MOVES = 1e-10, 1e-8
# Rows of the program to begin with, and those added at a time.
_ROWS, _MORE_ROWS = 300, 100
_MAX_ROUNDS = 200


def rows_in_recession(X, Q, side, intercept=None):
    """The rows that directions of recession move, as a mask (n,); None if there is none.

    Parameters
    ----------
    X : (n, r)
        Independent columns.
    Q : (n, r)
        An orthonormal basis of them.
    side : (n,)
        1, -1: the side to which the linear predictor of a one-sided row may go without limit,
        0: a row that must stay, NaN: a row without information.
    intercept : int, optional
        Position of the constant column of X.
    """
    found = np.zeros(len(side), dtype=bool)
    left = np.flatnonzero(~np.isnan(side))
    X, Q, side = (X, Q, side) if len(left) == len(X) else (X[left], Q[left], side[left])
    while X.shape[1] and side.any() and not _is_ruled_out(Q, side):
        moved = _moved_by_columns(X, side)
        if not moved.any():
            moved = _moved_by_program(X, Q, side, intercept)
        if not moved.any():
            break
        # what is fitted perfectly no longer minds where the next direction takes it: enough of
        # this one can be added to any other
        found[left[moved]] = True
        left, X, side = left[~moved], X[~moved], side[~moved]
        if not len(left):
            break
        basis = independent_columns(X, None, intercept)
        Q, X = basis.orthonormal(X), X[:, basis.kept]
        intercept = None if intercept is None else int(np.searchsorted(basis.kept, intercept))
    return found if found.any() else None


def _moved_by_columns(X, side):
    """Mask of the rows that directions of one column move, as where a category has no success."""
    one_sided = side != 0
    free = ~X[~one_sided].any(axis=0)
    movement = side[one_sided, None] * X[one_sided][:, free]
    keeps = (movement >= 0).all(axis=0) | (movement <= 0).all(axis=0)
    moved = np.zeros(len(side), dtype=bool)
    moved[one_sided] = movement[:, keeps].any(axis=1)
    return moved


def _moved_by_program(X, Q, side, intercept):
    """Mask of the rows that the best direction of a linear program moves."""
    one_sided, stay = side != 0, side == 0
    A = _movements(X, stay, one_sided, intercept) if stay.any() else Q
    A = side[one_sided, None] * A
    length = np.sqrt(np.einsum("ij,ij->i", A, A))
    A = A / np.where(length > 0, length, 1.0)[:, None]
    d = _direction(A[length > 0]) if A.size else None
    moved = np.zeros(len(side), dtype=bool)
    if d is not None:
        moved[one_sided] = A @ d > _MOVES
    return moved


def _movements(X, stay, rows, intercept):
    """Movements of rows along an orthonormal basis of the directions that leave others in place."""
    basis = independent_columns(X[stay], None, intercept)
    gap = outside_row_space(basis, RowBlocks(X[rows]))
    return gap @ np.linalg.inv(np.linalg.qr(gap, mode="r")) if gap.size else gap


# A proof that there is no such direction


def _is_ruled_out(Q, side):
    """Whether a sample of the rows, or else all rows, prove that nothing separates."""
    size = _SAMPLE + _SAMPLE_PER_COLUMN * Q.shape[1]
    known = [np.flatnonzero(side == value) for value in (-1, 0, 1)]
    sample = np.concatenate([_some(rows, size) for rows in known])
    return _overlaps(Q[sample], side[sample]) or (len(sample) < len(Q) and _overlaps(Q, side))


def _some(rows, size):
    """At most ``size`` of the rows: always the same, in no pattern that a design could have."""
    if len(rows) <= size:
        return rows
    return rows[np.random.default_rng(0).integers(0, len(rows), size)]


def _overlaps(Q, side):
    """Whether these rows prove that no direction is one of recession.

    If A d >= 0 for the rows a_i = side_i x_i, then for any p > 0 with g = A'p and h = p (1 - p)

        |g| |d| >= sum p_i a_i'd >= sum h_i (a_i'd)^2 / max(a_i'd) >= |d| min eig(A'hA) / max |a_i|.

    The mode of a logistic regression of all ones on A has g = 0, so that points near it are proofs.
    """
    A = side[:, None] * Q
    A = A[side != 0]
    if len(A) < len(Q):
        values, vectors = np.linalg.eigh(Q[side == 0].T @ Q[side == 0])
        A = A @ vectors[:, values <= _UNCLEAR * values[-1]]
    if not A.size:
        return not A.shape[1]
    longest = np.sqrt(np.einsum("ij,ij->i", A, A).max())
    d = np.zeros(A.shape[1])
    for _ in range(_PROOF_STEPS):
        p = expit(-(A @ d))
        g, H = A.T @ p, A.T @ (A * (p * (1 - p))[:, None])
        values, vectors = np.linalg.eigh(H)
        if not values[0] > _UNCLEAR**2 * values[-1]:
            return False
        if 2 * longest * np.sqrt(g @ g) < values[0]:
            return True
        d = d + vectors @ ((g @ vectors) / values)
    return False


# Linear programming


def _direction(A):
    """d in the unit box with A d >= 0 and the largest sum of A d; None if that is 0.

    Rows have length 1. Most do not bind: the program begins with some of them and takes in those
    that it violates.
    """
    total = A.sum(axis=0)
    size = np.abs(total).max(initial=0.0)
    if size <= _MOVES * len(A):
        return None
    used = np.zeros(len(A), dtype=bool)
    used[:: -(-len(A) // _ROWS)] = True
    for _ in range(_MAX_ROUNDS):
        check_time()
        answer = linprog(
            -total / size,
            A_ub=-A[used],
            b_ub=np.zeros(used.sum()),
            bounds=(-1, 1),
            method="highs",
            options={
                "primal_feasibility_tolerance": _FEASIBLE,
                "dual_feasibility_tolerance": _FEASIBLE,
            },
        )
        if not answer.success:
            return None
        movement = A @ answer.x
        if movement.max() <= _MOVES:
            return None
        worst = np.argsort(np.where(used, 0.0, movement), kind="stable")[:_MORE_ROWS]
        worst = worst[movement[worst] < -10 * _FEASIBLE]
        if not len(worst):
            return answer.x if np.any(movement > _MOVES) else None
        used[worst] = True
    return None
