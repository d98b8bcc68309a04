"""Cross-products of rows that are never in memory together: sums of batches, by grouping factor.

A batch of rows knows nothing of the others, so neither the order of elimination nor the pattern of
the system is known while they are read. What is added up is therefore kept by grouping factor, in
the user's order: blocks of the levels, their sums with the columns of X and y, and a sparse table
for every pair of factors. The system is made of them at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import sparse

from skmixed.linalg.crossproducts import (
    CrossProducts,
    LevelBlocks,
    add_diagonal_blocks,
    own_blocks,
    tail_sums,
    weighted_tail,
)
from skmixed.linalg.groups import Group
from skmixed.linalg.pattern import machine_memory


@dataclass(frozen=True, eq=False)
class PairSums:
    """Z_g'W Z_h of two grouping factors.

    Attributes
    ----------
    weights : sparse (l, l') matrix
        Summed weights of the rows of two levels, positive wherever these meet; whole numbers where
        rows have none.
    values : (nnz, s, s') or None
        Cross-products of the covariates at these entries; None where both are the constant 1.
    """

    weights: sparse.csr_matrix
    values: np.ndarray | None

    @classmethod
    def of_rows(cls, group, other, weights):
        """The pair's sums over the rows of two groups, weights (n,) or None."""
        shape = group.n_levels, other.n_levels
        if group.is_intercept and other.is_intercept:
            each = np.ones(len(group.codes), dtype=np.int32) if weights is None else weights
            table = sparse.coo_matrix((each, (group.codes, other.codes)), shape=shape)
            return cls(table.tocsr(), None)
        keys = group.codes * np.int64(other.n_levels) + other.codes
        keys, at = np.unique(keys, return_inverse=True)
        values = np.empty((len(keys), group.n_columns, other.n_columns))
        for s in range(group.n_columns):
            left = group.z[:, s] if weights is None else group.z[:, s] * weights
            for t in range(other.n_columns):
                values[:, s, t] = np.bincount(at, left * other.z[:, t], len(keys))
        rows, columns = np.divmod(keys, other.n_levels)
        starts = np.searchsorted(rows, np.arange(group.n_levels + 1))
        counts = np.bincount(at, weights, len(keys))
        counts = counts.astype(np.int32) if weights is None else counts
        return cls(sparse.csr_matrix((counts, columns, starts), shape=shape), values)

    def __add__(self, other):
        weights = self.weights + other.weights
        weights.sort_indices()
        if self.values is None:
            return PairSums(weights, None)
        keys = _keys(weights)
        values = np.zeros((len(keys), *self.values.shape[1:]))
        for part in (self, other):
            values[np.searchsorted(keys, _keys(part.weights))] += part.values
        return PairSums(weights, values)

    def mapped(self, left, right):
        """The sums of the covariates ``z left`` and ``z' right``."""
        if self.values is None and left[0, 0] == right[0, 0] == 1.0:
            return self
        values = self.numbers
        return PairSums(self.weights, np.einsum("nst,sa,tb->nab", values, left, right))

    @property
    def nbytes(self):
        """Memory of the tables."""
        weights = self.weights
        size = weights.data.nbytes + weights.indices.nbytes + weights.indptr.nbytes
        return size if self.values is None else size + self.values.nbytes

    @property
    def numbers(self):
        """Cross-products (nnz, s, s') whatever the covariates."""
        if self.values is None:
            return self.weights.data.astype(np.float64, copy=False)[:, None, None]
        return self.values

    @property
    def levels(self):
        """Pairs of levels that meet: two (nnz,) arrays."""
        return _rows(self.weights), self.weights.indices.astype(np.intp)

    def some_levels(self, n):
        """The first n pairs of :attr:`levels`."""
        columns = self.weights.indices[:n].astype(np.intp)
        places = np.arange(len(columns))
        return np.searchsorted(self.weights.indptr, places, side="right") - 1, columns


def _rows(table):
    return np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))


def _keys(table):
    return _rows(table) * np.int64(table.shape[1]) + table.indices


@dataclass(frozen=True, eq=False)
class Sums:
    """[Z X y]'W[Z X y] of some rows, groups and levels in the user's order.

    Attributes
    ----------
    own : tuple of (s, s, l)
        Blocks Z'WZ of the levels of every group.
    tails : tuple of (s, p + 1, l)
        Z'W[X y].
    pairs : dict of PairSums
        By (g, h), g < h.
    tail : (p + 1, p + 1)
    counts : tuple of (l,)
        Number of rows of every level.
    """

    own: tuple[np.ndarray, ...]
    tails: tuple[np.ndarray, ...]
    pairs: dict
    tail: np.ndarray
    counts: tuple[np.ndarray, ...]

    @classmethod
    def of_rows(cls, groups, weights, X, y):
        """Sums over rows: groups, weights (n,) or None, X (n, p) and y (n,)."""
        tail = weighted_tail(X, y, weights)
        columns = np.column_stack([X, y])
        return cls(
            tuple(own_blocks(group, weights) for group in groups),
            tuple(tail_sums(group, tail) for group in groups),
            {
                (g, h): PairSums.of_rows(groups[g], groups[h], weights)
                for g, h in combinations(range(len(groups)), 2)
            },
            columns.T @ tail,
            tuple(np.bincount(group.codes, minlength=group.n_levels) for group in groups),
        )

    @staticmethod
    def check_memory(groups, n_fixed, n_batches):
        """Raise MemoryError where sums of so many batches by level have no room."""
        numbers = sum(g.size * (g.n_columns + n_fixed + 1) + g.n_levels for g in groups)
        waiting = 2 + int(np.log2(max(1, n_batches)))  # those of a binary counter
        check_room(8 * numbers * waiting, f"the levels of grouping factors in {n_batches} batches")

    @property
    def nbytes(self):
        """Memory of all arrays."""
        arrays = [*self.own, *self.tails, *self.counts]
        return sum(x.nbytes for x in arrays) + sum(pair.nbytes for pair in self.pairs.values())

    def __add__(self, other):
        """The sums of the rows of both.

        Raises
        ------
        MemoryError
            Where both and their sum have no room.
        """
        check_room(2 * (self.nbytes + other.nbytes), "pairs of levels that meet in some row")
        return Sums(
            tuple(a + b for a, b in zip(self.own, other.own, strict=True)),
            tuple(a + b for a, b in zip(self.tails, other.tails, strict=True)),
            {key: own + other.pairs[key] for key, own in self.pairs.items()},
            self.tail + other.tail,
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
        )

    def mapped(self, left, right):
        """Sums of other columns: covariates ``z left[g]``, and ``[X y] right``."""
        return Sums(
            tuple(
                np.einsum("stl,sa,tb->abl", x, A, A, optimize=True)
                for x, A in zip(self.own, left, strict=True)
            ),
            tuple(
                np.einsum("swl,sa,wb->abl", x, A, right, optimize=True)
                for x, A in zip(self.tails, left, strict=True)
            ),
            {(g, h): own.mapped(left[g], left[h]) for (g, h), own in self.pairs.items()},
            right.T @ self.tail @ right,
            self.counts,
        )

    def of_levels(self, kept):
        """Sums without levels that have no rows: ``kept`` (l,) bool, by group."""
        return Sums(
            tuple(x[..., k] for k, x in zip(kept, self.own, strict=True)),
            tuple(x[..., k] for k, x in zip(kept, self.tails, strict=True)),
            {
                (g, h): PairSums(own.weights[kept[g]][:, kept[h]], own.values)
                for (g, h), own in self.pairs.items()
            },
            self.tail,
            tuple(x[k] for k, x in zip(kept, self.counts, strict=True)),
        )

    @property
    def groups(self):
        """The groups, without rows."""
        none = np.zeros(0, dtype=np.intp)
        return tuple(Group(none, np.zeros((0, len(own))), own.shape[2]) for own in self.own)

    def together(self, i, k):
        """Pairs of levels of two groups that meet."""
        if i < k:
            return self.pairs[i, k].levels
        return self.pairs[k, i].levels[::-1]

    def some_together(self, i, k):
        """Pairs of levels that meet, as many as tell whether i is nested in k.

        With more pairs than levels of i, one level of i is in two of them.
        """
        n = self.own[i].shape[2] + 1
        if i < k:
            return self.pairs[i, k].some_levels(n)
        return self.pairs[k, i].some_levels(n)[::-1]

    def between(self, i, k):
        """Cross-products (nnz, s_i, s_k) of two groups, in the order of :meth:`together`."""
        pair = self.pairs[min(i, k), max(i, k)]
        values = pair.numbers
        return values if i < k else values.transpose(0, 2, 1)


def check_room(needed, what):
    """Raise MemoryError where the machine has less than the bytes that are needed."""
    largest = machine_memory()
    if needed > largest:
        raise MemoryError(
            f"sums of batches need some {needed / 2**30:.2g} GiB for {what}, and the machine has "
            f"{largest / 2**30:.2g}. Merge rare levels, make batches larger, or leave a factor or "
            "covariates out"
        )


def cross_products(plan, sums):
    """CrossProducts on a plan that was built for the pairs of levels of these sums."""
    q = plan.q_core
    core = np.zeros((q + plan.n_tail,) * 2)
    core[q:, q:] = sums.tail
    for k, (group, rows) in enumerate(plan.core_groups, plan.n_chain):
        g = plan.order[k]
        add_diagonal_blocks(core, rows, sums.own[g])
        core[q:, rows] = sums.tails[g].transpose(2, 0, 1).reshape(group.size, -1).T
        for j, (_, columns) in enumerate(plan.core_groups[: k - plan.n_chain], plan.n_chain):
            core[rows, columns] = _table(plan, sums, k, j)
    chain = tuple(_level_blocks(plan, sums, i) for i in range(plan.n_chain))
    return CrossProducts(plan, chain, core)


def _level_blocks(plan, sums, i):
    g, at = plan.order[i], plan.positions[i]
    back = slice(None) if at is None else np.argsort(at)
    own, border = sums.own[g][..., back], sums.tails[g][..., back]
    up = {k: _up(plan, sums, i, k) for k in plan.parents[i]}
    values = None
    if plan.entries[i] is not None:
        values = _entry_values(plan, sums, i)
    elif plan.q_core:
        shape = plan.groups[i].n_levels, plan.groups[i].n_columns, -1
        tables = [
            _table(plan, sums, i, k).reshape(shape).transpose(1, 2, 0)
            for k in range(plan.n_chain, len(plan.groups))
        ]
        border = np.concatenate([*tables, border], axis=1)
    return LevelBlocks(np.ascontiguousarray(own), up, np.ascontiguousarray(border), values)


def _up(plan, sums, i, k):
    """Z_i'W Z_k (s_i, s_k, l_i): every level of i meets one level of k, or has no rows."""
    levels, _ = _met(plan, sums, i, k)
    shape = plan.groups[i].n_columns, plan.groups[k].n_columns, plan.groups[i].n_levels
    up = np.zeros(shape)
    up[..., levels] = sums.between(plan.order[i], plan.order[k]).transpose(1, 2, 0)
    return up


def _entry_values(plan, sums, i):
    values = np.zeros((plan.groups[i].n_columns, len(plan.entries[i].rows)))
    for k in range(len(plan.groups) - plan.n_chain):
        cell, where = plan.cells[i, k]
        blocks = sums.between(plan.order[i], plan.order[plan.n_chain + k])
        for t in range(blocks.shape[2]):
            values[:, where[cell, t]] = blocks[:, :, t].T
    return values


def _table(plan, sums, i, k):
    """Z_i'W Z_k as a dense (l s, l' s') array."""
    a, b = plan.groups[i], plan.groups[k]
    table = np.zeros((a.n_levels, a.n_columns, b.n_levels, b.n_columns))
    rows, columns = _met(plan, sums, i, k)
    table[rows, :, columns, :] = sums.between(plan.order[i], plan.order[k])
    return table.reshape(a.size, b.size)


def _met(plan, sums, i, k):
    """Pairs of levels of two groups, in the order of elimination."""
    met = sums.together(plan.order[i], plan.order[k])
    places = plan.positions[i], plan.positions[k]
    return [own if at is None else at[own] for own, at in zip(met, places, strict=True)]
