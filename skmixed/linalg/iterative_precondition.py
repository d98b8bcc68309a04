"""Preconditioners M = L L' of the Schur complement S: its diagonal blocks, alone or coupled."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from skmixed.linalg.batched import cholesky, diagonal_add, product, sandwich
from skmixed.linalg.core import solve_lower
from skmixed.linalg.iterative_core import (
    inverse_blocks,
    invert_lower,
    log_det,
    squares,
    times_blocks,
)

# Rows of the dense rest of the coupled preconditioner, and products of entries in its making.
_DENSE, _PRODUCTS = 2000, 5e8
_WIDTH = 32


def preconditioner(core):
    """The preconditioner of a Core that takes fewest iterations for what it costs."""
    rest = core.q - (core.slices[0].stop if core.slices else 0)
    if len(core.sizes) < 2 or rest > _DENSE or _products(core, rest) > _PRODUCTS:
        return Diagonal(core)
    return Coupled(core)


def _products(core, rest):
    """Products of entries that it takes to eliminate the largest core group."""
    return rest * sum(core.blocks.tables[1, j].values.size for j in range(2, len(core.sizes) + 1))


class Diagonal:
    """M = Delta, the diagonal blocks of S."""

    is_coupled = False

    def __init__(self, core):
        self._core = core
        self._roots = [cholesky(D) for D in core.diagonal]
        self.log_det = sum(log_det(L) for L in self._roots)

    def solve(self, r):
        """M^-1 r."""
        return self._core.blockwise(self._core.diagonal_inverse, r)

    def lower(self, z):
        """L z."""
        return self._core.blockwise(self._roots, z)

    def upper(self, z):
        """L'z."""
        return self._core.blockwise([L.transpose(1, 0, 2) for L in self._roots], z)


class Coupled:
    """M = D A D', A = I + T'CT and D block diagonal so that M and S share their diagonal blocks.

    A is factored by elimination of the largest core group; the Schur complement of the others is
    dense.
    """

    is_coupled = True

    def __init__(self, core):
        self._core, self._at = core, core.slices[0]
        T, own = core.T[1:], core.blocks.own[1:]
        plain = [cholesky(diagonal_add(sandwich(t, C), 1.0)) for t, C in zip(T, own, strict=True)]
        roots = [cholesky(D) for D in core.diagonal]
        self._D = [product(L, invert_lower(P)) for L, P in zip(roots, plain, strict=True)]
        self._D_inverse = [product(P, invert_lower(L)) for L, P in zip(roots, plain, strict=True)]
        self._D_inverse_transposed = [D.transpose(1, 0, 2) for D in self._D_inverse]
        self._root, self._root_inverse = plain[0], invert_lower(plain[0])
        self._inverse = inverse_blocks(plain[0])
        self._rest = _cholesky(self._schur())
        scale = sum(log_det(L) - log_det(P) for L, P in zip(roots, plain, strict=True))
        dense = 2.0 * float(np.sum(np.log(self._rest.diagonal())))
        self.log_det = scale + log_det(plain[0]) + dense

    def roots(self):
        """V (q, k) by slices: M^-1 is Delta^-1 of the largest group alone, and V V'."""
        for begin in range(0, len(self._rest), _WIDTH):
            unit = np.zeros((len(self._rest), min(_WIDTH, len(self._rest) - begin)))
            unit[begin + np.arange(unit.shape[1]), np.arange(unit.shape[1])] = 1.0
            below = solve_lower(self._rest, unit, transposed=True)
            top = -_flat(_first(self._inverse, self._back(below), self._core))
            yield self._core.blockwise(self._D_inverse_transposed, np.concatenate([top, below]))

    @cached_property
    def excess(self):
        """Diagonal blocks (s, s, l) of M^-1 - Delta^-1 for every core group."""
        core = self._core
        found = [np.zeros_like(D) for D in core.diagonal_inverse]
        for V in self.roots():
            for total, v in zip(found, core.views(V), strict=True):
                total += squares(v)
        for total, D in zip(found[1:], core.diagonal_inverse[1:], strict=True):
            total -= D
        return found

    def _schur(self):
        """A of the other groups less what the elimination of the first one takes."""
        core, begin = self._core, self._at.stop
        K = np.zeros((core.q - begin,) * 2)
        N = sandwich(core.T[1].T, self._inverse)
        rows = [slice(at.start - begin, at.stop - begin) for at in core.slices[1:]]
        for i, at in enumerate(rows, start=2):
            s, n = core.sizes[i - 1]
            view = K[at, at].reshape(s, n, s, n)
            levels = np.arange(n)
            for a, b in np.ndindex(s, s):
                view[a, levels, b, levels] += core.blocks.own[i][a, b]
            K[at, at] -= _between(core.blocks.tables[1, i], core.blocks.tables[1, i], N)
            for j, to in enumerate(rows[: i - 2], start=2):
                taken = _between(core.blocks.tables[1, i], core.blocks.tables[1, j], N)
                K[at, to] = _dense(core.blocks.tables[j, i]).T - taken
                K[to, at] = K[at, to].T
        for at, T, (_, n) in zip(rows, core.T[2:], core.sizes[1:], strict=True):
            K[at] = (T.T @ K[at].reshape(len(T), -1)).reshape(len(T) * n, -1)
            K[:, at] = (T.T @ K[:, at].T.reshape(len(T), -1)).reshape(len(T) * n, -1).T
        K[np.diag_indices(len(K))] += 1.0
        return K

    def _across(self, x):
        """Rows of the other groups in A times x (s, l, k) of the first group."""
        core = self._core
        full = np.zeros((core.q, x.shape[-1]))
        full[self._at] = x.reshape(-1, x.shape[-1])
        scaled = core.views(core.scaled(full))[0]
        out = np.zeros_like(full)
        for j, y in enumerate(core.views(out)[1:], start=2):
            core.blocks.tables[1, j].add_transposed(scaled, y)
        return core.scaled(out, transposed=True)[self._at.stop :]

    def _back(self, x):
        """Rows of the first group in A times x (q_rest, k) of the others, (q_1, k)."""
        core = self._core
        full = np.zeros((core.q, x.shape[-1]))
        full[self._at.stop :] = x
        out = np.zeros_like(full)
        scaled, first = core.views(core.scaled(full)), core.views(out)[0]
        for j, w in enumerate(scaled[1:], start=2):
            core.blocks.tables[1, j].add_times(w, first)
        return core.scaled(out, transposed=True)[self._at]

    def solve(self, r):
        """M^-1 r."""
        core = self._core
        r = core.blockwise(self._D_inverse, r)
        first = _first(self._inverse, r[self._at], core)
        below = r[self._at.stop :] - self._across(first)
        below = solve_lower(self._rest, below)
        below = solve_lower(self._rest, below, transposed=True)
        top = r[self._at] - self._back(below)
        out = np.concatenate([_flat(_first(self._inverse, top, core)), below])
        return core.blockwise(self._D_inverse_transposed, out)

    def lower(self, z):
        """L z."""
        core, at = self._core, self._at
        first = _first(self._root, z[at], core)
        half = _first(self._root_inverse.transpose(1, 0, 2), z[at], core)
        below = self._across(half) + self._rest @ z[at.stop :]
        return core.blockwise(self._D, np.concatenate([_flat(first), below]))

    def upper(self, z):
        """L'z."""
        core, at = self._core, self._at
        z = core.blockwise([D.transpose(1, 0, 2) for D in self._D], z)
        top = _first(self._root.transpose(1, 0, 2), z[at], core)
        top = top + _first(self._root_inverse, self._back(z[at.stop :]), core)
        return np.concatenate([_flat(top), self._rest.T @ z[at.stop :]])


def _first(blocks, x, core):
    """Blocks times rows x of the first core group, as (s, l, k)."""
    return times_blocks(blocks, x.reshape(*core.sizes[0], -1))


def _flat(x):
    return x.reshape(-1, x.shape[-1])


def _between(left, right, N):
    """B_i'N B_j (s_i l_i, s_j l_j) of two tables whose rows are levels of one group."""
    out = np.zeros((left.values.shape[1], left.n_columns, right.values.shape[1], right.n_columns))
    rows = np.repeat(np.arange(right.shape[0]), np.diff(right.indptr))
    for (a, b), part in left.parts.items():
        for (c, d), other in right.parts.items():
            scaled = other.copy()
            scaled.data *= N[a, c][rows]
            out[b, :, d] += (part.T @ scaled).toarray()
    return out.reshape(out.shape[0] * out.shape[1], -1)


def _dense(table):
    """A table as a matrix (s_i l_i, s_j l_j)."""
    s_i, s_j = table.values.shape[:2]
    return np.block([[table.parts[a, b].toarray() for b in range(s_j)] for a in range(s_i)])


def _cholesky(A):
    L, info = lapack.dpotrf(A.T, lower=0)
    if info:
        raise ArithmeticError("the preconditioner is not positive definite")
    return np.ascontiguousarray(np.triu(L).T)
