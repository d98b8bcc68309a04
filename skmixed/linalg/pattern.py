"""Order of elimination and sparsity pattern of the penalised system, found once.

Grouping factors are put in order of elimination. The *chain* holds the largest factor and every
factor that all earlier members are nested in (pupils, classes, schools): in their part of the
matrix elimination creates no new entry, so they stay block diagonal. The remaining factors and
the columns of X and y form one dense symmetric matrix, the *core*.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from skmixed.linalg.groups import Group, RelatedGroup

# Seconds per multiply-add, measured: pairs of entries go through index arrays, the dense border
# through BLAS. Only the ratio matters, and only to choose the cheaper of two exact routes.
_PAIR_COST, _DENSE_COST = 1e-8, 4e-11
_DENSE_BORDER_BYTES = 4e8
# Copies of the core that a fit holds at a time: cross-products, factor, inverse, and workspace.
COPIES = 3.5
# Effects of one level from which its blocks are no longer small: loops run over their rows.
_WIDE = 100
# Pairs worked on at a time: what they read and write stays in cache.
_PAIR_CHUNK = 1 << 17


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
class GramPlan:
    """Order of elimination and sparsity pattern, found once before the iterations.

    groups, order: the groups as they are eliminated and their indices as given; positions[i]: the
    place of each given level of group i in elimination, None where levels keep their order.
    n_chain: how many groups are in the chain; parents[i][k] (l_i,): level of chain group k above
    each level of chain group i; starts[i][k] (l_k,): where each such level's run of children
    begins. offsets: first column of each core group. entries[i]: the sparse rows of chain group i,
    None beside a dense border; cells[i, k]: the entry of every row of the data (n,). n_tail: p + 1.
    """

    groups: tuple[Group, ...]
    order: tuple[int, ...]
    positions: tuple[np.ndarray | None, ...]
    n_chain: int
    parents: tuple[dict, ...]
    starts: tuple[dict, ...]
    offsets: tuple[int, ...]
    entries: tuple[Entries | None, ...]
    cells: dict
    n_tail: int

    @classmethod
    def build(cls, groups, n_tail, *, chain_from=0, together=None):
        """Plan for groups (any order) beside n_tail = p + 1 columns of X and y.

        With fewer than ``chain_from`` effects in all there is no chain: few calls on one small
        dense matrix cost less than many on its blocks. ``together(i, k)``: the pairs of levels of
        two groups that meet in a row, where the groups have no rows that tell.
        """
        together = together or _met_in_rows(groups)
        order, n_chain, above = elimination_order(groups, chain_from, together)
        groups = [groups[i] for i in order]
        positions, parents, starts = _sort_chain(groups[:n_chain], above)
        positions += [None] * (len(groups) - n_chain)
        groups = [
            group if at is None else Group(at[group.codes], group.z, group.n_levels)
            for group, at in zip(groups, positions, strict=True)
        ]
        offsets = tuple(np.cumsum([0] + [g.size for g in groups[n_chain:]]).tolist())
        _check_memory(offsets[-1] + n_tail)
        together = _moved(together, order, positions)
        entries, cells = _sparse_rows(groups, n_chain, offsets, parents, n_tail, together)
        return cls(
            tuple(groups),
            tuple(order),
            tuple(positions),
            n_chain,
            parents,
            starts,
            offsets,
            entries,
            cells,
            n_tail,
        )

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
        groups = self.groups[self.n_chain :]
        return [(g, slice(a, a + g.size)) for g, a in zip(groups, self.offsets, strict=False)]

    def without_rows(self):
        """The plan without codes and covariates: enough to factor, not to assemble again."""
        groups = tuple(group.without_rows() for group in self.groups)
        return replace(self, groups=groups, cells={})

    def without_pairs(self):
        """The plan without what only another factorisation needs."""
        entries = tuple(None if e is None else replace(e, pairs=()) for e in self.entries)
        return replace(self, entries=entries)

    def border_slice(self, i):
        """Core columns in the border of chain group i."""
        return slice(0 if self.entries[i] is None else self.q_core, self.q_core + self.n_tail)


def _check_memory(d):
    """Raise MemoryError where the copies of a core of d rows that a fit makes have no room."""
    memory, needed = machine_memory(), COPIES * 8 * d**2
    if needed > memory:
        raise MemoryError(
            f"crossed grouping factors leave a dense matrix of {d:,} rows once the largest is "
            f"eliminated: a fit needs {needed / 2**30:.0f} GiB and the machine has "
            f"{memory / 2**30:.0f}. Merge rare levels, or leave a factor out"
        )


def machine_memory():
    """Bytes of memory that the machine has; inf where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _met_in_rows(groups):
    return lambda i, k: (groups[i].codes, groups[k].codes)


def _moved(together, order, positions):
    """``together`` of the groups and levels in the order of elimination."""

    def moved(i, k):
        pairs = zip((i, k), together(order[i], order[k]), strict=True)
        return [own if positions[j] is None else positions[j][own] for j, own in pairs]

    return moved


def elimination_order(groups, chain_from, together=None):
    """Chain first (largest factor, then each factor that all chain members are nested in)."""
    if not groups:
        return [], 0, {}
    together = together or _met_in_rows(groups)
    by_size = sorted(range(len(groups)), key=lambda i: (_is_mixed(groups[i]), -groups[i].size))
    first = groups[by_size[0]]
    few = sum(g.size for g in groups) < chain_from
    if few or first.n_columns > _WIDE or _is_mixed(first):
        return by_size, 0, {}
    chain, rest, above = [by_size[0]], [], {}
    for k in by_size[1:]:
        if _is_mixed(groups[k]):
            rest.append(k)
            continue
        maps = {i: _parent_levels(groups[i], groups[k], *together(i, k)) for i in chain}
        if all(m is not None for m in maps.values()):
            above.update({(chain.index(i), len(chain)): m for i, m in maps.items()})
            chain.append(k)
        else:
            rest.append(k)
    return chain + rest, len(chain), above


def _is_mixed(group):
    """Whether a row meets all levels of a group, so that none is eliminated by itself."""
    return isinstance(group, RelatedGroup) and not group.diagonal


def _parent_levels(child, parent, codes, above):
    """Level of ``parent`` for every level of ``child``, None if child is not nested in it.

    ``codes`` and ``above``: levels of both that meet.
    """
    if child.n_levels < parent.n_levels:
        return None
    levels = np.zeros(child.n_levels, dtype=np.intp)
    levels[codes] = above
    return levels if np.array_equal(levels[codes], above) else None


def _sort_chain(chain, above):
    """Positions that make the children of every level contiguous, from the chain's top down.

    None for levels that are so already, as those of nested factors made from sorted keys are.
    """
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
    return [None if _is_range(at) else at for at in positions], parents, starts


def _is_range(at):
    return np.array_equal(at, np.arange(len(at)))


def _sparse_rows(groups, n_chain, offsets, parents, n_tail, together):
    """Entries of the chain groups where they beat a dense border, with the rows' cells."""
    none = (None,) * n_chain
    chain, others, q = groups[:n_chain], groups[n_chain:], offsets[-1]
    if not q or any(isinstance(o, RelatedGroup) for o in others):
        return none, {}
    unique = [
        [_unique(*together(i, k), g.n_levels, o.n_levels) for k, o in enumerate(others, n_chain)]
        for i, g in enumerate(chain)
    ]
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


def _unique(codes, others, n_levels, n_others):
    """Sorted keys of distinct pairs of levels and the index of each row's pair among them."""
    keys, size = codes * np.int64(n_others) + others, n_levels * n_others
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
