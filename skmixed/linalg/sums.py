"""Cross-products of rows that are never in memory together: sums of batches, by grouping factor.

A batch of rows knows nothing of the others, so neither the order of elimination nor the pattern of
the system is known while they are read. What is added up is therefore kept by grouping factor, in
the user's order: blocks of the levels, their sums with the columns of X and y, and a sparse table
for every pair of factors. The system is made of them at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from skmixed.linalg.effects import as_given
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

    @classmethod
    def of_blocks(cls, rows, columns, blocks, shape):
        """Sums from blocks (m, s, s') at different pairs of levels."""
        order = np.argsort(rows * np.int64(shape[1]) + columns)
        starts = np.searchsorted(rows[order], np.arange(shape[0] + 1))
        ones = np.ones(len(order))
        return cls(sparse.csr_matrix((ones, columns[order], starts), shape=shape), blocks[order])

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
        return PairSums(self.weights, np.einsum("nst,sa,tb->nab", self.blocks, left, right))

    @property
    def blocks(self):
        """Cross-products (nnz, s, s') of the covariates, written out."""
        if self.values is None:
            return self.weights.data.astype(np.float64, copy=False)[:, None, None]
        return self.values

    def among(self, rows, columns, shape):
        """The sums among more levels, those of these being ``rows`` and ``columns`` there."""
        own = self.levels
        return PairSums.of_blocks(rows[own[0]], columns[own[1]], self.blocks, shape)

    def complete(self):
        """The same with blocks of zero for levels that meet none, as those of rows never do.

        Blocks that are zero by chance are not seen where sums were read off a dense matrix, and
        the order of elimination counts on every level having another one above it.
        """
        rows, columns = self.levels
        shape = self.weights.shape
        lone = [
            np.setdiff1d(np.arange(size), own)
            for size, own in zip(shape, (rows, columns), strict=True)
        ]
        if not any(map(len, lone)):
            return self
        keys = np.unique(np.concatenate([lone[0] * np.int64(shape[1]), lone[1]]))
        more = np.divmod(keys, shape[1])
        none = np.zeros((len(keys), *self.blocks.shape[1:]))
        return PairSums.of_blocks(
            np.concatenate([rows, more[0]]),
            np.concatenate([columns, more[1]]),
            np.concatenate([self.blocks, none]),
            shape,
        )

    @property
    def nbytes(self):
        """Memory of the tables."""
        weights = self.weights
        size = weights.data.nbytes + weights.indices.nbytes + weights.indptr.nbytes
        return size if self.values is None else size + self.values.nbytes

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

    def among(self, places, sizes):
        """The sums among more levels: ``places`` (l,) of these by group, ``sizes`` of all."""

        def spread(x, at, size):
            wide = np.zeros((*x.shape[:-1], size))
            wide[..., at] = x
            return wide

        wider = [
            tuple(map(spread, own, places, sizes)) for own in (self.own, self.tails, self.counts)
        ]
        pairs = {
            (g, h): own.among(places[g], places[h], (sizes[g], sizes[h]))
            for (g, h), own in self.pairs.items()
        }
        return Sums(wider[0], wider[1], pairs, self.tail, wider[2])

    def complete(self):
        """The sums with pairs for all levels, see :meth:`PairSums.complete`."""
        return replace(self, pairs={key: own.complete() for key, own in self.pairs.items()})

    def without_response(self):
        """The sums without y: its row is zero beside a unit pivot."""
        tails = tuple(own.copy() for own in self.tails)
        for own in tails:
            own[:, -1] = 0.0
        tail = self.tail.copy()
        tail[-1], tail[:, -1] = 0.0, 0.0
        tail[-1, -1] = 1.0
        return replace(self, tails=tails, tail=tail)

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
        blocks = self.pairs[min(i, k), max(i, k)].blocks
        return blocks if i < k else blocks.transpose(0, 2, 1)


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


def sums_of(products):
    """Sums that :func:`cross_products` makes these of; numbers of rows are not known: zeros."""
    plan, dense = products.plan, products.dense
    n, q, own, tails = len(plan.groups), plan.q_core, {}, {}
    for i, g in enumerate(plan.order):
        if i < plan.n_chain:
            blocks = products.chain[i]
            own[g] = as_given(plan, i, blocks.own)
            tails[g] = as_given(plan, i, blocks.border[:, -plan.n_tail :])
            continue
        group, rows = plan.core_groups[i - plan.n_chain]
        own[g] = products.core_blocks(i - plan.n_chain)
        wide = dense[q:, rows].reshape(plan.n_tail, group.n_levels, group.n_columns)
        tails[g] = wide.transpose(2, 0, 1)
    return Sums(
        tuple(own[g] for g in range(n)),
        tuple(tails[g] for g in range(n)),
        {
            tuple(sorted((plan.order[i], plan.order[k]))): _pair_of(products, dense, i, k)
            for i, k in combinations(range(n), 2)
        },
        dense[q:, q:],
        tuple(np.zeros(own[g].shape[2]) for g in range(n)),
    )


def _pair_of(products, dense, i, k):
    """PairSums of plan groups i < k, levels and groups in the user's order."""
    plan = products.plan
    *met, blocks = _pair_blocks(products, dense, i, k)
    rows, columns = (
        level if plan.positions[j] is None else np.argsort(plan.positions[j])[level]
        for j, level in zip((i, k), met, strict=True)
    )
    sizes = plan.groups[i].n_levels, plan.groups[k].n_levels
    if plan.order[i] < plan.order[k]:
        return PairSums.of_blocks(rows, columns, blocks, sizes)
    return PairSums.of_blocks(columns, rows, blocks.transpose(0, 2, 1), sizes[::-1])


def _pair_blocks(products, dense, i, k):
    """Levels of plan groups i < k that meet, in the order of elimination, and blocks (m, s, s')."""
    plan = products.plan
    a, b = plan.groups[i], plan.groups[k]
    if k < plan.n_chain:
        up = products.chain[i].up[k]
        return np.arange(a.n_levels), plan.parents[i][k], up.transpose(2, 0, 1)
    columns = plan.core_groups[k - plan.n_chain][1]
    if i >= plan.n_chain:
        table = dense[plan.core_groups[i - plan.n_chain][1], columns]
        table = table.reshape(a.n_levels, a.n_columns, b.n_levels, b.n_columns)
    elif plan.entries[i] is None:
        wide = products.chain[i].border[:, columns]
        table = wide.transpose(2, 0, 1).reshape(a.n_levels, a.n_columns, b.n_levels, b.n_columns)
    else:
        return _entry_blocks(products, i, b, columns)
    rows, others = np.nonzero(table.any(axis=(1, 3)))
    return rows, others, table[rows, :, others]


def _entry_blocks(products, i, group, columns):
    """:func:`_pair_blocks` from the sparse entries between a chain group and the core."""
    entries, values = products.plan.entries[i], products.chain[i].entries
    inside = (entries.cols >= columns.start) & (entries.cols < columns.stop)
    level, column = np.divmod(entries.cols[inside] - columns.start, group.n_columns)
    keys, at = np.unique(entries.rows[inside] * np.int64(group.n_levels) + level,
                         return_inverse=True)  # fmt: skip
    blocks = np.zeros((len(keys), len(values), group.n_columns))
    blocks[at, :, column] = values[:, inside].T
    return *np.divmod(keys, group.n_levels), blocks
