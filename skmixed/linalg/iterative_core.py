"""The Schur complement of the core at T, as an operator: nothing of it is formed.

With N = T (T'DT + I)^-1 T' and J = I - D N of the levels that are eliminated, and the
cross-products B between them and the core and C within the core,

    C~ = C - B'N B,    S = I + T'C~T.

Vectors over the core are (q, k) arrays: by group, then by effect, then by level.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np

from skmixed.linalg.batched import (
    cholesky,
    crossproduct,
    diagonal_add,
    lower_solve,
    product,
    sandwich,
)


class Core:
    """C~ and S of Blocks at factors T, by group in order of elimination."""

    def __init__(self, blocks, T):
        self.blocks, self.T = blocks, T
        self.sizes = blocks.sizes[1:]
        ends = np.cumsum([0] + [s * n for s, n in self.sizes])
        self.slices = [slice(a, b) for a, b in pairwise(ends)]
        self.q = int(ends[-1])
        D = blocks.own[0]
        self.N, self.log_det_eliminated = shrinkage(D, T[0])
        self.J = diagonal_add(-product(D, self.N), 1.0)
        self._border = [blocks.tables[0, j + 1] for j in range(len(self.sizes))]

    def views(self, v):
        """(s, l, k) of every core group, views of v (q, k)."""
        k = v.shape[1]
        return [v[at].reshape(*size, k) for at, size in zip(self.slices, self.sizes, strict=True)]

    def scaled(self, v, *, transposed=False):
        """T v, or T'v."""
        out = np.empty_like(v)
        for at, T in zip(self.slices, self.T[1:], strict=True):
            T = T.T if transposed else T
            s = len(T)
            out[at] = (
                T[0, 0] * v[at] if s == 1 else (T @ v[at].reshape(s, -1)).reshape(-1, v.shape[1])
            )
        return out

    def blockwise(self, blocks, v):
        """Blocks (s, s, l) of every group times v (q, k)."""
        out = np.empty_like(v)
        for A, x, y in zip(blocks, self.views(v), self.views(out), strict=True):
            y[:] = times_blocks(A, x)
        return out

    def down(self, w):
        """B w (s_0, l_0, k)."""
        s, n = self.blocks.sizes[0]
        out = np.zeros((s, n, w.shape[1]))
        for table, x in zip(self._border, self.views(w), strict=True):
            table.add_times(x, out)
        return out

    def up(self, y):
        """B'y (q, k)."""
        out = np.zeros((self.q, y.shape[-1]))
        for table, x in zip(self._border, self.views(out), strict=True):
            table.add_transposed(y, x)
        return out

    def gram(self, w):
        """C w."""
        out = self.blockwise(self.blocks.own[1:], w)
        x, y = self.views(w), self.views(out)
        for j in range(len(x)):
            for i in range(j):
                table = self.blocks.tables[i + 1, j + 1]
                table.add_times(x[j], y[i])
                table.add_transposed(x[i], y[j])
        return out

    def reduced(self, w, below=None):
        """C~ w; ``below``: B w, where that is known."""
        below = self.down(w) if below is None else below
        return self.gram(w) - self.up(times_blocks(self.N, below))

    def times(self, v):
        """S v."""
        return v + self.scaled(self.reduced(self.scaled(v)), transposed=True)

    @cached_property
    def own(self):
        """Diagonal blocks (s, s, l) of C~, exact."""
        pairs = zip(self.blocks.own[1:], self._border, strict=True)
        return [D - table.forms(self.N) for D, table in pairs]

    @cached_property
    def diagonal(self):
        """Diagonal blocks Delta (s, s, l) of S."""
        return [
            _symmetric(diagonal_add(sandwich(T, D), 1.0))
            for T, D in zip(self.T[1:], self.own, strict=True)
        ]

    @cached_property
    def diagonal_inverse(self):
        return [inverse_blocks(cholesky(D)) for D in self.diagonal]

    @cached_property
    def spread(self):
        """T Delta^-1 T' (s, s, l): covariances of effects in first order."""
        return [sandwich(T.T, D) for T, D in zip(self.T[1:], self.diagonal_inverse, strict=True)]

    @cached_property
    def below_spread(self):
        """Sum over m of B_lm (T Delta^-1 T')_m B_lm' (s, s, l) of the eliminated levels."""
        return self.levels_of(self.spread)

    def levels_of(self, blocks):
        """Sum over m of B_lm M_m B_lm' (s, s, l), blocks M of every core group."""
        total = np.zeros_like(self.blocks.own[0])
        for table, M in zip(self._border, blocks, strict=True):
            total += table.row_forms(M)
        return total

    def dense(self):
        """S as a matrix (q, q)."""
        S, step = np.empty((self.q, self.q)), 32
        for lo in range(0, self.q, step):
            unit = np.zeros((self.q, min(step, self.q - lo)))
            unit[lo + np.arange(unit.shape[1]), np.arange(unit.shape[1])] = 1.0
            S[:, lo : lo + step] = self.times(unit)
        return S


def shrinkage(D, T):
    """N = T (T'DT + I)^-1 T' (s, s, l) and log |T'DT + I| of blocks D."""
    L = cholesky(diagonal_add(sandwich(T, D), 1.0))
    s, n = len(T), D.shape[-1]
    H = lower_solve(L, np.repeat(T.T[:, :, None], n, axis=2)) if s > 1 else T[0, 0] / L
    return crossproduct(H, H), log_det(L)


def log_det(L):
    """log |L L'| of lower blocks (s, s, l)."""
    return 2.0 * sum(float(np.sum(np.log(L[i, i]))) for i in range(len(L)))


def inverse_blocks(L):
    """(L L')^-1 of lower blocks (s, s, l)."""
    half = invert_lower(L)
    return crossproduct(half, half)


def invert_lower(L):
    """L^-1 of lower blocks (s, s, l)."""
    eye = np.repeat(np.eye(len(L))[:, :, None], L.shape[-1], axis=2)
    return lower_solve(L, eye)


def times_blocks(A, v):
    """Blocks (s, t, l) times v (t, l, k)."""
    if A.shape[:2] == (1, 1):
        return A[0, 0][:, None] * v
    out = np.empty((len(A), *v.shape[1:]))
    for a, row in enumerate(A):
        out[a] = row[0][:, None] * v[0]
        for b in range(1, len(row)):
            out[a] += row[b][:, None] * v[b]
    return out


def squares(v):
    """Sum over columns of v_l v_l' (s, s, l), v (s, l, k)."""
    return np.einsum("alk,blk->abl", v, v)


def _symmetric(A):
    return A if len(A) == 1 else (A + A.transpose(1, 0, 2)) / 2
