"""The Gram matrix [Z X y]' W [Z X y] by blocks: all that a linear mixed model needs of its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed.linalg.core import diagonal_blocks, mirrored
from skmixed.linalg.groups import RelatedGroup
from skmixed.linalg.pattern import GramPlan

# Rows of a dense system up to which operations cost less than their calls.
_SMALL = 128
# Numbers in [Z X y] up to which it is written out.
_WRITTEN = 1 << 14


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

    @property
    def nbytes(self):
        """Memory of all blocks."""
        chain = sum(
            blocks.own.nbytes
            + blocks.border.nbytes
            + sum(up.nbytes for up in blocks.up.values())
            + (0 if blocks.entries is None else blocks.entries.nbytes)
            for blocks in self.chain
        )
        return self.core.nbytes + chain

    @property
    def is_small(self):
        """Whether the whole system is one small dense matrix."""
        return not self.plan.n_chain and len(self.core) <= _SMALL

    @cached_property
    def dense(self):
        """The core with both of its triangles."""
        return mirrored(self.core)

    def core_blocks(self, k):
        """Diagonal blocks (s, s, l) of the k-th group of the core."""
        group, rows = self.plan.core_groups[k]
        return diagonal_blocks(self.core, rows, group.n_columns).transpose(1, 2, 0)

    def with_response(self, parts, square):
        """The cross-products of another response y: parts of [Z X]'Wy, one column, and y'Wy."""
        core = self.core.copy()
        core[-1, :-1] = parts[-1][:-1, 0]
        core[-1, -1] = square
        chain = []
        for blocks, part in zip(self.chain, parts, strict=False):
            border = blocks.border.copy()
            border[:, -1] = part[:, 0]
            chain.append(replace(blocks, border=border))
        return CrossProducts(self.plan, tuple(chain), core)


def assemble(plan, weights, X, y=None):
    """CrossProducts of the rows of a plan for weights (n,) or None, X (n, p) and y (n,) or None.

    Without a response y its row is zero beside a unit pivot, so that nothing else is different.
    """
    if _may_be_written(plan, len(X)):
        return CrossProducts(plan, (), _written_gram(plan, weights, X, y))
    q, tail = plan.q_core, weighted_tail(X, y, weights)
    core = np.zeros((q + plan.n_tail,) * 2)
    core[q:-1, q:] = X.T @ tail
    core[-1, q:] = 0.0 if y is None else y @ tail
    if y is None:
        core[-1, -1] = 1.0
    for k, (group, rows) in enumerate(plan.core_groups):
        own, cross = own_blocks(group, weights), tail_sums(group, tail)
        if isinstance(group, RelatedGroup):
            core[rows, rows] = _related_gram(group, own)
        else:
            add_diagonal_blocks(core, rows, own)
        core[q:, rows] = cross.transpose(2, 0, 1).reshape(group.size, -1).T
        for other, columns in plan.core_groups[:k]:
            core[rows, columns] = _table(group, other, weights)
    chain = tuple(_level_blocks(plan, i, weights, tail) for i in range(plan.n_chain))
    return CrossProducts(plan, chain, core)


def _may_be_written(plan, n):
    related = any(isinstance(group, RelatedGroup) for group in plan.groups)
    return not (plan.n_chain or related) and n * (plan.q_core + plan.n_tail) <= _WRITTEN


def _written_gram(plan, weights, X, y):
    """The core by one product of [Z X y] (n, d), where that takes no memory to speak of."""
    q, rows = plan.q_core, np.arange(len(X))
    A = np.zeros((len(X), q + plan.n_tail))
    for group, at in plan.core_groups:
        for s in range(group.n_columns):
            A[rows, at.start + group.codes * group.n_columns + s] = group.z[:, s]
    A[:, q:-1] = X
    if y is not None:
        A[:, -1] = y
    core = A.T @ (A if weights is None else A * weights[:, None])
    if y is None:
        core[-1, -1] = 1.0
    return core


def weighted_tail(X, y, weights):
    """W [X y] (n, p + 1), the last column zero where there is no y; by columns, as X is."""
    tail = np.empty((X.shape[0], X.shape[1] + 1), order="F")
    np.multiply(X, 1.0 if weights is None else weights[:, None], out=tail[:, :-1])
    tail[:, -1] = 0.0 if y is None else y if weights is None else y * weights
    return tail


def _level_blocks(plan, i, weights, tail):
    group = plan.groups[i]
    if isinstance(group, RelatedGroup):  # alone, and diagonal
        blocks = own_blocks(group, weights)
        if not np.allclose(blocks[0, 0], group.squares, rtol=1e-9, atol=0.0):
            raise ValueError("related levels were made independent for rows of other weights")
        own = blocks @ np.square(group.loadings)
        return LevelBlocks(own, {}, tail_sums(group, tail), None)
    zt = group.transposed
    own = _by_level(zt @ _weighted(group.z, weights), group)
    up = {k: _by_level(zt @ _weighted(plan.groups[k].z, weights), group) for k in plan.parents[i]}
    border = _by_level(zt @ tail, group)
    if not plan.q_core or plan.entries[i] is not None:
        values = _entry_values(plan, i, weights) if plan.q_core else None
        return LevelBlocks(own, up, border, values)
    tables = [
        _table(group, other, weights).reshape(group.n_levels, group.n_columns, -1)
        for other, _ in plan.core_groups
    ]
    border = np.concatenate([t.transpose(1, 2, 0) for t in tables] + [border], axis=1)
    return LevelBlocks(own, up, border, None)


def _entry_values(plan, i, weights):
    group = plan.groups[i]
    values = np.empty((group.n_columns, len(plan.entries[i].rows)))
    for k, (other, _) in enumerate(plan.core_groups):
        cell, where = plan.cells[i, k]
        for s in range(group.n_columns):
            left = group.z[:, s] if weights is None else group.z[:, s] * weights
            for t in range(other.n_columns):
                values[s, where[:, t]] = np.bincount(cell, left * other.z[:, t], len(where))
    return values


def _weighted(columns, weights):
    return columns if weights is None else columns * weights[:, None]


def _by_level(blocks, group):
    """(l s, w) -> (s, w, l)."""
    stacked = blocks.reshape(group.n_levels, group.n_columns, -1)
    return np.ascontiguousarray(stacked.transpose(1, 2, 0))


def own_blocks(group, weights):
    """Z'WZ (s, s, q) of the levels that the codes of a group count."""
    group = group.plain
    return _by_level(group.transposed @ _weighted(group.z, weights), group)


def tail_sums(group, tail):
    """Z'W[X y] (s, w, l)."""
    plain = group.plain
    sums = _by_level(plain.transposed @ tail, plain)
    return group.mixed(sums)


def _related_gram(group, own):
    """(L x I)' Z'WZ (L x I) as (l s, l s), from the blocks (s, s, q) of Z'WZ."""
    s, n_levels = len(own), group.n_levels
    used = own.any(axis=(0, 1))
    L, gram = group.loadings[used], np.empty((n_levels, s, n_levels, s))
    for i in range(s):
        for j in range(i + 1):
            gram[:, i, :, j] = (L.T * own[i, j, used]) @ L
            gram[:, j, :, i] = gram[:, i, :, j]
    return gram.reshape(group.size, group.size)


def _table(group, other, weights):
    """Z_group' W Z_other as a dense (l s, l' s') array."""
    if isinstance(group, RelatedGroup):
        table = _table(group.plain, other, weights).reshape(len(group.loadings), -1)
        mixed = group.loadings.T @ table
        return mixed.reshape(group.size, other.size)
    if isinstance(other, RelatedGroup):
        return _table(other, group, weights).T
    key = group.codes * np.intp(other.n_levels) + other.codes
    shape = group.n_levels, group.n_columns, other.n_levels, other.n_columns
    table = np.empty(shape)
    for s in range(group.n_columns):
        left = group.z[:, s] if weights is None else group.z[:, s] * weights
        for t in range(other.n_columns):
            sums = np.bincount(key, left * other.z[:, t], shape[0] * shape[2])
            table[:, s, :, t] = sums.reshape(shape[0], shape[2])
    return table.reshape(group.size, other.size)


def add_diagonal_blocks(core, rows, blocks):
    view = diagonal_blocks(core, rows, blocks.shape[0])
    view += blocks.transpose(2, 0, 1)
