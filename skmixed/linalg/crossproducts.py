"""The Gram matrix [Z X y]' W [Z X y] by blocks: all that a linear mixed model needs of its rows.

Grouping factors are put in order of elimination. The *chain* holds the largest factor and every
factor that all earlier members are nested in (pupils, classes, schools): in their part of the
matrix elimination creates no new entry, so they stay block diagonal. The remaining factors and
the columns of X and y form one dense symmetric matrix, the *core*.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from skmixed.linalg.core import diagonal_blocks

# Seconds per multiply-add, measured: pairs of entries go through index arrays, the dense border
# through BLAS. Only the ratio matters, and only to choose the cheaper of two exact routes.
_PAIR_COST, _DENSE_COST = 1e-8, 4e-11
_DENSE_BORDER_BYTES = 4e8
# Pairs worked on at a time: what they read and write stays in cache.
_PAIR_CHUNK = 1 << 17


@dataclass(frozen=True)
class Group:
    """A grouping factor with the columns of all of its terms: codes (n,), z (n, s)."""

    codes: np.ndarray
    z: np.ndarray
    n_levels: int

    @property
    def n_columns(self):
        return self.z.shape[1]

    @property
    def size(self):
        return self.n_levels * self.n_columns

    @cached_property
    def transposed(self):
        """Z' as a sparse (l s, n) matrix: each row of the data has s entries in its level's rows.

        Kept for the next assembly with other weights.
        """
        n, s = self.z.shape
        codes = self.codes.astype(np.int32 if n * s < 2**31 else np.int64)
        indices = codes
        if s > 1:
            indices = (codes[:, None] * s + np.arange(s, dtype=codes.dtype)).ravel()
        indptr = np.arange(0, n * s + 1, s, dtype=codes.dtype)
        parts = np.ravel(self.z), indices, indptr
        return sparse.csc_matrix(parts, shape=(self.size, n), copy=False)


@dataclass(frozen=True)
class Entries:
    """Pattern of the sparse rows between a chain group's levels and the core.

    Entry a joins level ``rows[a]`` with core column ``cols[a]``; entries are sorted by both, and
    those of level l begin at ``starts[l]``. ``pairs``: all (a, b) with b <= a in one level, in
    chunks; ``to_parent[k]``: the entry of chain group k above each entry.
    """

    rows: np.ndarray
    cols: np.ndarray
    starts: np.ndarray
    pairs: tuple
    to_parent: dict = field(default_factory=dict)


@dataclass(frozen=True)
class LevelBlocks:
    """Gram blocks of one chain group, level-last.

    own (s, s, l); up: {later chain group: (s, s_k, l)}; border (s, w, l): columns of the core that
    every level meets; entries (s, nnz): the sparse rest of the core, or None.
    """

    own: np.ndarray
    up: dict
    border: np.ndarray
    entries: np.ndarray | None


@dataclass(frozen=True)
class CrossProducts:
    """Blocks of [Z X y]' W [Z X y]; ``core`` (d, d) holds the dense groups, X and y in its lower
    triangle (complete on the diagonal blocks of its groups)."""

    plan: GramPlan
    chain: tuple[LevelBlocks, ...]
    core: np.ndarray

    def without_rows(self):
        """The same cross-products with a plan that keeps nothing of length n."""
        return replace(self, plan=self.plan.without_rows())

    def __add__(self, other):
        """Cross-products of two batches of rows that share one plan."""
        chain = tuple(
            LevelBlocks(
                a.own + b.own,
                {k: a.up[k] + b.up[k] for k in a.up},
                a.border + b.border,
                None if a.entries is None else a.entries + b.entries,
            )
            for a, b in zip(self.chain, other.chain, strict=True)
        )
        return CrossProducts(self.plan, chain, self.core + other.core)


@dataclass(frozen=True)
class GramPlan:
    """Order of elimination and sparsity pattern, found once before the iterations.

    order: position in elimination of each group as given; n_chain: how many of them are in the
    chain; parents[i][k] (l_i,): level of chain group k above each level of chain group i;
    starts[i][k] (l_k,): where each such level's run of children begins.
    """

    groups: tuple[Group, ...]
    order: tuple[int, ...]
    positions: tuple[np.ndarray, ...]
    n_chain: int
    parents: tuple[dict, ...]
    starts: tuple[dict, ...]
    offsets: tuple[int, ...]
    entries: tuple[Entries | None, ...]
    cells: dict
    n_tail: int

    @classmethod
    def build(cls, groups, n_tail, *, chain_from=0):
        """Plan for groups (any order) beside n_tail = p + 1 columns of X and y.

        With fewer than ``chain_from`` effects in all there is no chain: few calls on one small
        dense matrix cost less than many on its blocks.
        """
        order, n_chain, above = _elimination_order(groups, chain_from)
        groups = [groups[i] for i in order]
        positions, parents, starts = _sort_chain(groups[:n_chain], above)
        positions += [None] * (len(groups) - n_chain)
        groups = [g if at is None else Group(at[g.codes], g.z, g.n_levels)
                  for g, at in zip(groups, positions, strict=True)]  # fmt: skip
        offsets = tuple(np.cumsum([0] + [g.size for g in groups[n_chain:]]).tolist())
        _check_memory(offsets[-1] + n_tail)
        entries, cells = _sparse_rows(groups, n_chain, offsets, parents, n_tail)
        return cls(tuple(groups), tuple(order), tuple(positions), n_chain, parents, starts,
                   offsets, entries, cells, n_tail)  # fmt: skip

    @property
    def q_core(self):
        return self.offsets[-1]

    @property
    def is_sparse(self):
        """Whether the chain's rows of the core are kept as entries."""
        return any(e is not None for e in self.entries)

    @cached_property
    def core_groups(self):
        """(group, slice of the core) for every group outside the chain."""
        return [(g, slice(a, a + g.size)) for g, a in
                zip(self.groups[self.n_chain :], self.offsets, strict=False)]  # fmt: skip

    def without_rows(self):
        """The plan without codes and covariates: enough to factor, not to assemble again."""
        groups = tuple(replace(g, codes=g.codes[:0], z=g.z[:0]) for g in self.groups)
        return replace(self, groups=groups, cells={})

    def without_pairs(self):
        """The plan without what only another factorisation needs."""
        entries = tuple(None if e is None else replace(e, pairs=()) for e in self.entries)
        return replace(self, entries=entries)

    def border_slice(self, i):
        """Core columns in the border of chain group i."""
        return slice(0 if self.entries[i] is None else self.q_core, self.q_core + self.n_tail)

    def assemble(self, weights, tail):
        """CrossProducts for row weights (n,) or None and tail = [X y] (n, p + 1)."""
        d = self.q_core + self.n_tail
        core = np.zeros((d, d))
        weighted_tail = _weighted(tail, weights)
        core[self.q_core :, self.q_core :] = tail.T @ weighted_tail
        for k, (group, rows) in enumerate(self.core_groups):
            zt = group.transposed
            own = zt @ _weighted(group.z, weights)
            _add_diagonal_blocks(core, rows, _by_level(own, group))
            core[self.q_core :, rows] = (zt @ weighted_tail).T
            for other, columns in self.core_groups[:k]:
                core[rows, columns] = _table(group, other, weights)
        chain = tuple(self._level_blocks(i, weights, weighted_tail) for i in range(self.n_chain))
        return CrossProducts(self, chain, core)

    def _level_blocks(self, i, weights, weighted_tail):
        group = self.groups[i]
        zt = group.transposed
        own = _by_level(zt @ _weighted(group.z, weights), group)
        up = {
            k: _by_level(zt @ _weighted(self.groups[k].z, weights), group) for k in self.parents[i]
        }
        border = _by_level(zt @ weighted_tail, group)
        if not self.q_core or self.entries[i] is not None:
            values = self._entry_values(i, weights) if self.q_core else None
            return LevelBlocks(own, up, border, values)
        tables = [
            _table(group, other, weights).reshape(group.n_levels, group.n_columns, -1)
            for other, _ in self.core_groups
        ]
        border = np.concatenate([t.transpose(1, 2, 0) for t in tables] + [border], axis=1)
        return LevelBlocks(own, up, border, None)

    def _entry_values(self, i, weights):
        group = self.groups[i]
        values = np.empty((group.n_columns, len(self.entries[i].rows)))
        for k, (other, _) in enumerate(self.core_groups):
            cell, where = self.cells[i, k]
            for s in range(group.n_columns):
                left = group.z[:, s] if weights is None else group.z[:, s] * weights
                for t in range(other.n_columns):
                    values[s, where[:, t]] = np.bincount(cell, left * other.z[:, t], len(where))
        return values


def _check_memory(d):
    """Raise MemoryError where the core and the two copies that a fit makes of it have no room."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return
    needed = 3.5 * 8 * d**2
    if needed > memory:
        raise MemoryError(
            f"crossed grouping factors leave a dense matrix of {d:,} rows once the largest is "
            f"eliminated: a fit needs {needed / 2**30:.0f} GiB and the machine has "
            f"{memory / 2**30:.0f}. Merge rare levels, or leave a factor out"
        )


def _elimination_order(groups, chain_from):
    """Chain first (largest factor, then each factor that all chain members are nested in)."""
    if not groups:
        return [], 0, {}
    by_size = sorted(range(len(groups)), key=lambda i: -groups[i].size)
    if sum(group.size for group in groups) < chain_from:
        return by_size, 0, {}
    chain, rest, above = [by_size[0]], [], {}
    for k in by_size[1:]:
        maps = {i: _parent_levels(groups[i], groups[k]) for i in chain}
        if all(m is not None for m in maps.values()):
            above.update({(chain.index(i), len(chain)): m for i, m in maps.items()})
            chain.append(k)
        else:
            rest.append(k)
    return chain + rest, len(chain), above


def _parent_levels(child, parent):
    """Level of ``parent`` for every level of ``child``, None if child is not nested in it."""
    if child.n_levels < parent.n_levels:
        return None
    levels = np.zeros(child.n_levels, dtype=np.intp)
    levels[child.codes] = parent.codes
    return levels if np.array_equal(levels[child.codes], parent.codes) else None


def _sort_chain(chain, above):
    """Positions that make the children of every level contiguous, from the chain's top down."""
    m = len(chain)
    positions = [np.arange(g.n_levels) for g in chain]
    parents, starts = tuple({} for _ in chain), tuple({} for _ in chain)
    for i in range(m - 2, -1, -1):
        nearest = positions[i + 1][above[i, i + 1]]
        ordered = np.argsort(nearest, kind="stable")
        positions[i][ordered] = np.arange(chain[i].n_levels)
        for k in range(i + 1, m):
            parents[i][k] = positions[k][above[i, k]][ordered]
            starts[i][k] = np.searchsorted(parents[i][k], np.arange(chain[k].n_levels))
    return positions if m > 1 else [None] * m, parents, starts


def _sparse_rows(groups, n_chain, offsets, parents, n_tail):
    """Entries of the chain groups where they beat a dense border, with the rows' cells."""
    none = (None,) * n_chain
    chain, others, q = groups[:n_chain], groups[n_chain:], offsets[-1]
    if not q:
        return none, {}
    unique = [[_unique(g.codes * np.int64(o.n_levels) + o.codes, g.n_levels * o.n_levels)
               for o in others] for g in chain]  # fmt: skip
    if _dense_border_is_cheaper(chain, others, unique, q + n_tail):
        return none, {}
    cells = {}
    entries = [_entries(i, g, others, offsets, unique[i], cells) for i, g in enumerate(chain)]
    for i in range(n_chain):
        for k, parent in parents[i].items():
            keys = entries[k].rows * np.int64(q) + entries[k].cols
            mine = parent[entries[i].rows] * np.int64(q) + entries[i].cols
            entries[i].to_parent[k] = np.searchsorted(keys, mine)
    return tuple(entries), cells


def _unique(keys, size):
    """Sorted distinct keys and the index of each row's key among them."""
    if size > 4 * len(keys):
        return np.unique(keys, return_inverse=True)
    seen = np.zeros(size, dtype=bool)
    seen[keys] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[keys]


def _dense_border_is_cheaper(chain, others, unique, d):
    pairs = 0.0
    for group, keys in zip(chain, unique, strict=True):
        per_level = sum(
            np.bincount(key // other.n_levels, minlength=group.n_levels) * other.n_columns
            for other, (key, _) in zip(others, keys, strict=True)
        )
        pairs += 0.5 * float(np.sum(np.square(per_level, dtype=float))) * group.n_columns
    dense = float(d) * sum(group.size for group in chain)
    return 8 * dense < _DENSE_BORDER_BYTES and dense * d * _DENSE_COST < pairs * _PAIR_COST


def _entries(i, group, others, offsets, unique, cells):
    rows, cols = [], []
    for (keys, _), other, offset in zip(unique, others, offsets, strict=False):
        level, code = np.divmod(keys, other.n_levels)
        column = offset + code[:, None] * other.n_columns + np.arange(other.n_columns)
        rows.append(np.repeat(level, other.n_columns))
        cols.append(column.ravel())
    ordered = np.argsort(np.concatenate(rows), kind="stable")
    place = np.empty(len(ordered), dtype=np.intp)
    place[ordered] = np.arange(len(ordered))
    begin = 0
    for k, ((keys, cell), other) in enumerate(zip(unique, others, strict=True)):
        size = len(keys) * other.n_columns
        cells[i, k] = cell, place[begin : begin + size].reshape(-1, other.n_columns)
        begin += size
    rows, cols = np.concatenate(rows)[ordered], np.concatenate(cols)[ordered]
    starts = np.searchsorted(rows, np.arange(group.n_levels))
    return Entries(rows, cols, starts, _pairs(rows, cols, starts))


def _pairs(rows, cols, starts):
    """Chunks (a, b) of all pairs of entries b <= a in one level, in the order of a's column.

    In this order a chunk writes to a narrow range of core rows, which stays in cache.
    """
    by_column = np.argsort(cols, kind="stable")
    partners = (by_column - starts[rows[by_column]]) + 1
    ends = np.cumsum(partners)
    cuts = np.searchsorted(ends, np.arange(_PAIR_CHUNK, ends[-1], _PAIR_CHUNK)) + 1
    chunks = []
    for entry, count in zip(np.split(by_column, cuts), np.split(partners, cuts), strict=True):
        if len(entry):
            a = np.repeat(entry, count)
            within = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
            b = np.repeat(starts[rows[entry]], count) + within
            chunks.append((a.astype(np.int32), b.astype(np.int32)))
    return tuple(chunks)


def _weighted(columns, weights):
    return columns if weights is None else columns * weights[:, None]


def _by_level(blocks, group):
    """(l s, w) -> (s, w, l)."""
    stacked = blocks.reshape(group.n_levels, group.n_columns, -1)
    return np.ascontiguousarray(stacked.transpose(1, 2, 0))


def _table(group, other, weights):
    """Z_group' W Z_other as a dense (l s, l' s') array."""
    key = group.codes * np.intp(other.n_levels) + other.codes
    shape = group.n_levels, group.n_columns, other.n_levels, other.n_columns
    table = np.empty(shape)
    for s in range(group.n_columns):
        left = group.z[:, s] if weights is None else group.z[:, s] * weights
        for t in range(other.n_columns):
            sums = np.bincount(key, left * other.z[:, t], shape[0] * shape[2])
            table[:, s, :, t] = sums.reshape(shape[0], shape[2])
    return table.reshape(group.size, other.size)


def _add_diagonal_blocks(core, rows, blocks):
    view = diagonal_blocks(core, rows, blocks.shape[0])
    view += blocks.transpose(2, 0, 1)
