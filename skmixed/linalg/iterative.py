"""The penalised system solved by conjugate gradients, with the methods of System.

The largest group is eliminated level by level; S, what is left of the other groups, is an operator
(:mod:`skmixed.linalg.iterative_core`), and factors of it are found by iterations
(:mod:`skmixed.linalg.iterative_factor`).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from skmixed.linalg.effects import Effects
from skmixed.linalg.iterative_blocks import Blocks, check_cells, check_memory
from skmixed.linalg.iterative_cg import MAX_ITERATIONS
from skmixed.linalg.iterative_core import Core, times_blocks
from skmixed.linalg.iterative_factor import IterativeFactor

__all__ = ["MAX_ITERATIONS", "IterativeSystem"]

# Probes that are drawn at a time: more of them leave the earlier ones as they are.
_DRAWN = 8
# Signs whose vectors have to have room.
PROBES = 32


def _by_size(groups):
    """Groups in order of elimination."""
    return sorted(range(len(groups)), key=lambda g: -groups[g].size)


class IterativeSystem:
    """Cross-products of the rows for factors by conjugate gradients.

    Attributes
    ----------
    blocks : Blocks
    order : tuple of int
        The groups as given in order of elimination.
    seed : int
        Of the random signs.
    n_probes : int or None
        Signs for log |S|, 32 at least.
    last : list
        The last factor of the same rows with other weights, from which iterations start; empty
        where there is none.
    """

    is_iterative = True

    def __init__(self, blocks, order, seed=0, n_probes=None, last=None):
        self.blocks, self.order, self.seed = blocks, tuple(order), seed
        self.n_probes, self.last = n_probes, last
        self._drawn = {}

    @classmethod
    def of(cls, groups, weights, X, y, *, seed=0, n_probes=None):
        """System of the rows of groups (in the user's order), X (n, r) and y (n,).

        Raises
        ------
        MemoryError
            Saying how much is needed, before it is asked for.
        """
        check_memory(groups, X.shape[1], n_probes or PROBES)
        order = _by_size(groups)
        return cls(Blocks.of([groups[g] for g in order], weights, X, y), order, seed, n_probes)

    @classmethod
    def of_sums(cls, sums, *, seed=0, n_probes=None):
        """System of the rows behind `Sums`, as :meth:`of` makes it.

        Raises
        ------
        MemoryError
            As :meth:`of`.
        """
        groups = sums.groups
        cells = {at: pair.weights.nnz for at, pair in sums.pairs.items()}
        check_cells(groups, cells, len(sums.tail) - 1, n_probes or PROBES)
        order = _by_size(groups)
        return cls(Blocks.of_sums(sums, order), order, seed, n_probes)

    def factor(self, T, near=None):
        """IterativeFactor at T; iterations start from what the factor ``near`` has found.

        Raises
        ------
        NotPositiveDefinite
            Where the numbers are not finite.
        """
        if self.last is None:
            return IterativeFactor(self, tuple(T), near)
        near = self.last[-1] if near is None and self.last else near
        self.last[:] = [IterativeFactor(self, tuple(T), near)]
        return self.last[-1]

    def times(self, v):
        """[Z X]'W[Z X] v."""
        first, core, fixed = self._split(v)
        below, up, cross = self._gram(first, core, fixed)
        return self._joined(below, up, cross)

    def _gram(self, first, rest, fixed):
        b, core = self.blocks, self._plain
        X_0, X_c = b.tails[0][..., :-1], self._tails[:, :-1]
        below = times_blocks(b.own[0], first) + core.down(rest) + X_0 @ fixed
        up = core.gram(rest) + core.up(first) + X_c @ fixed
        cross = np.einsum("slr,slk->rk", X_0, first) + X_c.T @ rest + b.gram[:-1, :-1] @ fixed
        return below, up, cross

    @cached_property
    def _plain(self):
        """The Core with variances of zero, for products."""
        return Core(self.blocks, [np.zeros((s, s)) for s, _ in self.blocks.sizes])

    @cached_property
    def _tails(self):
        """Z_c'W[X y] (q, r + 1)."""
        tails = self.blocks.tails[1:]
        width = len(self.blocks.gram)
        return np.concatenate([np.zeros((0, width)), *(x.reshape(-1, width) for x in tails)])

    def own(self, g):
        """Diagonal blocks of Z'WZ (s, s, l) of group g."""
        return self.blocks.own[self.order.index(g)]

    @property
    def fixed_gram(self):
        """X'WX (r, r)."""
        return self.blocks.gram[:-1, :-1].copy()

    def with_response(self, cross, square):
        """The system of another response y, from [Z X]'Wy (Effects of one column) and y'Wy."""
        b = self.blocks
        gram = b.gram.copy()
        gram[-1, :-1] = gram[:-1, -1] = cross.fixed[:, 0]
        gram[-1, -1] = square
        tails = [
            np.concatenate([x[..., :-1], cross.random[g][:, 0, :, None]], axis=-1)
            for g, x in zip(self.order, b.tails, strict=True)
        ]
        return self._with(Blocks(b.own, b.tables, tuple(tails), gram))

    def with_ridge(self, ridge):
        """The system with X'WX + ridge in the place of X'WX: a number times I, or a matrix."""
        b = self.blocks
        gram = b.gram.copy()
        gram[:-1, :-1] += ridge if np.ndim(ridge) else ridge * np.eye(len(gram) - 1)
        return IterativeSystem(
            Blocks(b.own, b.tables, b.tails, gram), self.order, self.seed, self.n_probes, self.last
        )

    def _with(self, blocks):
        return IterativeSystem(blocks, self.order, self.seed, self.n_probes)

    def without_rows(self):
        """The same system: its blocks have nothing of the length of the data."""
        return self if self.last is None else self._with(self.blocks)

    @property
    def dense_rows(self):
        """Rows of the largest matrix that is factored as one: none that matters."""
        return 0

    def memory(self):
        """Bytes of the cross-products."""
        return self.blocks.nbytes

    def signs(self, k, *, stream=0):
        """Independent signs (q, k) for the core; the first columns are those of any smaller k.

        Those of a group depend on its size and the seed alone, so that models which share a group
        share its signs.
        """
        if (k, stream) not in self._drawn:
            self._drawn = {at: z for at, z in self._drawn.items() if at[1] != stream}
            self._drawn[k, stream] = np.concatenate(
                [np.zeros((0, k)), *(self._group_signs(j, k, stream) for j in self._core_sizes)]
            )
        return self._drawn[k, stream]

    @property
    def _core_sizes(self):
        """(levels, how many earlier groups have as many, effect) of the core, effect by effect."""
        sizes, found = self.blocks.sizes[1:], []
        for i, (s, n) in enumerate(sizes):
            same = sum(n == other for _, other in sizes[:i])
            found += [(n, same, a) for a in range(s)]
        return found

    def _group_signs(self, key, k, stream):
        drawn = []
        for chunk in range(-(-k // _DRAWN)):
            rng = np.random.default_rng([self.seed, stream, chunk, *key])
            drawn.append(2.0 * rng.integers(0, 2, (key[0], _DRAWN), dtype=np.int8) - 1.0)
        return np.concatenate(drawn, axis=1)[:, :k]

    def _split(self, effects):
        """(s, l, k) of the eliminated group, (q, k) of the core, (r, k) from Effects."""
        parts = [effects.random[g].transpose(0, 2, 1) for g in self.order]
        k = effects.fixed.shape[1]
        core = [x.reshape(-1, k) for x in parts[1:]]
        return (
            np.ascontiguousarray(parts[0]),
            np.concatenate([np.zeros((0, k)), *core]),
            effects.fixed,
        )

    def _joined(self, first, core, fixed):
        """Effects from the parts of :meth:`_split`."""
        parts = [first, *self._plain.views(core)]
        return Effects(self.as_given([x.transpose(0, 2, 1) for x in parts]), fixed)

    def as_given(self, by_group):
        """A list by group in the user's order from one in order of elimination."""
        result = [None] * len(self.order)
        for g, x in zip(self.order, by_group, strict=True):
            result[g] = x
        return result
