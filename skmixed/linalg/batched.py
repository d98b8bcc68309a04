"""Small dense operations on one block per level, all levels at once.

Blocks of l levels are stored level-last, shape (rows, columns, l): a Python loop runs over the few
rows of a block, never over levels, and every inner operation walks contiguous memory.
"""

from __future__ import annotations

import numpy as np

# Rows from which a library call per level beats a Python loop over the rows of all levels.
_LARGE = 12


def cholesky(A):
    """Lower factors L (s, s, l) with A = L L' for symmetric positive definite A (s, s, l)."""
    if len(A) > _LARGE:
        return np.linalg.cholesky(A.transpose(2, 0, 1)).transpose(1, 2, 0)
    L = np.zeros_like(A)
    for j in range(len(A)):
        column = A[j:, j] if j == 0 else A[j:, j] - _weighted_sum(L[j:, :j], L[j, :j])
        pivot = np.sqrt(column[0])
        L[j, j] = pivot
        L[j + 1 :, j] = column[1:] / pivot
    return L


def lower_solve(L, B):
    """L^-1 B for lower factors L (s, s, l) and right-hand sides B (s, w, l)."""
    if len(L) > _LARGE:
        solved = np.linalg.solve(L.transpose(2, 0, 1), B.transpose(2, 0, 1))
        return solved.transpose(1, 2, 0)
    X = np.empty(B.shape)
    for i in range(len(L)):
        rest = B[i] if i == 0 else B[i] - _weighted_sum(X[:i].swapaxes(0, 1), L[i, :i])
        np.divide(rest, L[i, i], out=X[i])
    return X


def _weighted_sum(A, x):
    """Sum over k of A[:, k] x[k]: (s, k, l) and (k, l) -> (s, l)."""
    return A[:, 0] * x[0] if len(x) == 1 else np.einsum("ikl,kl->il", A, x)


def product(A, B):
    """A_l B_l: (s, k, l) and (k, w, l) -> (s, w, l)."""
    if A.shape[1] == 1:
        return A * B[:1] if A.shape[0] == 1 else A[:, 0, None] * B[0]
    if min(A.shape[:2]) > _LARGE:
        return np.matmul(A.transpose(2, 0, 1), B.transpose(2, 0, 1)).transpose(1, 2, 0)
    return np.einsum("ikl,kwl->iwl", A, B)


def crossproduct(A, B):
    """A_l' B_l: (k, v, l) and (k, w, l) -> (v, w, l)."""
    if len(A) == 1:
        return A[0][:, None] * B[0]
    if len(A) > _LARGE:
        return product(A.transpose(1, 0, 2), B)
    return np.einsum("kvl,kwl->vwl", A, B)


def product_sum(A, B):
    """Sum over levels of A_l B_l: (s, k, l) and (k, w, l) -> (s, w)."""
    return A.reshape(len(A), -1) @ B.transpose(0, 2, 1).reshape(-1, B.shape[1])


def outer_sum(A, B):
    """Sum over levels of A_l' B_l: (k, v, l) and (k, w, l) -> (v, w)."""
    total = A[0] @ B[0].T
    for k in range(1, len(A)):
        total += A[k] @ B[k].T
    return total


def sandwich(T, D):
    """T' D_l T for all levels: (s, s), (s, s, l) -> (s, s, l)."""
    s = len(T)
    if s == 1:
        return D * (T[0, 0] * T[0, 0])
    left = (T.T @ D.reshape(s, -1)).reshape(D.shape)
    return np.matmul(T.T, left)


def diagonal_add(A, value):
    """A + value * I, in place, for blocks (s, s, l)."""
    for i in range(len(A)):
        A[i, i] += value
    return A
