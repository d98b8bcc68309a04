"""The dense core of the penalised system: its groups' rows, diagonal blocks and triangle."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.linalg import lapack


def rows_matrix(values, at, plan):
    """Entries as a sparse (levels, q_core) matrix."""
    indptr = np.append(at.starts, len(values))
    return sparse.csr_matrix((values, at.cols, indptr), shape=(len(at.starts), plan.q_core))


def scale_rows(A, rows, T):
    """A[rows] = (I_l kron T') A[rows], in place."""
    part = A[rows]
    if len(T) == 1:
        part *= T[0, 0]
        return
    stacked = part.reshape(-1, len(T), part.shape[1])
    A[rows] = np.matmul(T.T, stacked).reshape(part.shape)


def mirrored(A):
    """Symmetric matrix from the lower triangle of A."""
    return np.where(np.tri(len(A), dtype=bool), A, A.T)


def mirror_diagonal_blocks(A, rows, s):
    """Complete the diagonal blocks of one group from their lower triangles."""
    if s > 1:
        view = diagonal_blocks(A, rows, s)
        for i in range(s - 1):
            view[:, i, i + 1 :] = view[:, i + 1 :, i]


def solve_lower(L, B, transposed=False):
    """L^-1 B or L^-T B for a C-ordered lower triangle."""
    if not len(L):
        return np.zeros(B.shape)
    x, _ = lapack.dtrtrs(L.T, B, lower=0, trans=0 if transposed else 1)
    return x.reshape(B.shape)


def diagonal_sum(core, rows, s):
    """Sum (s, s) of the diagonal blocks of one group in the core."""
    if s == 1:
        return core[rows, rows].trace().reshape(1, 1)
    return diagonal_blocks(core, rows, s).sum(axis=0)


def diagonal_blocks(core, rows, s):
    """Writable view (l, s, s) of the diagonal blocks of one group in the core."""
    part = core[rows, rows]
    n_levels = len(part) // s
    return np.einsum("aiaj->aij", part.reshape(n_levels, s, n_levels, s))
