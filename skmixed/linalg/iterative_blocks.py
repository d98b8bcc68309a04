"""Cross-products [Z X y]'W[Z X y] for the iterative solver: small blocks and sparse tables.

Groups are in order of elimination: the first is eliminated level by level, the others, by size, are
the core. Vectors over a group are (s, l, k): effects, levels, columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise

import numpy as np
from scipy import sparse

from skmixed.linalg.pattern import machine_memory

# Bytes of an entry of a table beside its values: the index of its column.
_INDEX = 4
# Entries whose products are made at a time.
_CHUNK = 1 << 22


@dataclass(frozen=True, eq=False)
class Cells:
    """Which rows share their levels in two groups: what tables of any weights have in common.

    Attributes
    ----------
    indptr, indices, n_columns
        As of the Table.
    order : (n,) or None
        The rows in the order of the cells, None where they are in that order.
    starts : (nnz,) or slice
        Where cells begin in that order, a slice where every row has its own.
    """

    indptr: np.ndarray
    indices: np.ndarray
    n_columns: int
    order: np.ndarray | None
    starts: np.ndarray | slice
    n_rows: int

    @classmethod
    def of(cls, rows, columns, shape):
        """Cells of rows with levels rows, columns (n,) of so many."""
        if max(shape) < 2**31:
            rows, columns = rows.astype(np.int32), columns.astype(np.int32)
        order = _sorted_by(columns, shape[1])
        order = order[_sorted_by(rows[order], shape[0])]
        rows, columns = rows[order], columns[order]
        first = np.ones(len(order), dtype=bool)
        np.not_equal(columns[1:], columns[:-1], out=first[1:])
        first[1:] |= rows[1:] != rows[:-1]
        starts = slice(None) if first.all() else np.flatnonzero(first)  # mostly all are distinct
        indices, counts = columns[starts], np.bincount(rows[starts], minlength=shape[0])
        dtype = np.int32 if len(indices) < 2**31 else np.int64
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(dtype)
        if bool((order[1:] > order[:-1]).all()):
            order = None
        return cls(indptr, indices.astype(dtype, copy=False), shape[1], order, starts, len(rows))

    def table(self, products, sizes):
        """Table of the sums of products(a, b) (n,), None for ones."""
        values = np.empty((*sizes, len(self.indices)))
        for a in range(sizes[0]):
            for b in range(sizes[1]):
                values[a, b] = self._sums(products(a, b))
        return Table(self.indptr, self.indices, values, self.n_columns)

    def _sums(self, values):
        distinct = isinstance(self.starts, slice)
        if values is None:
            return 1.0 if distinct else np.diff(np.append(self.starts, self.n_rows))
        values = values if self.order is None else values[self.order]
        return values if distinct else np.add.reduceat(values, self.starts)

    @cached_property
    def of_row(self):
        """The cell (n,) of every row."""
        cells = np.arange(len(self.indices), dtype=self.indices.dtype)
        if not isinstance(self.starts, slice):
            cells = np.repeat(cells, np.diff(np.append(self.starts, self.n_rows)))
        if self.order is None:
            return cells
        found = np.empty_like(cells)
        found[self.order] = cells
        return found

    @cached_property
    def rows(self):
        """The level (nnz,) of the first group in every cell."""
        levels = np.arange(len(self.indptr) - 1, dtype=self.indices.dtype)
        return np.repeat(levels, np.diff(self.indptr))


@dataclass(frozen=True, eq=False)
class Table:
    """Z_i'WZ_j of two groups, where some row has both levels.

    Attributes
    ----------
    indptr, indices : pattern of levels (l_i, l_j) in compressed rows
    values : (s_i, s_j, nnz)
    n_columns : int
        l_j.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    n_columns: int

    @classmethod
    def of(cls, rows, columns, shape, products, sizes):
        """Table of cells (rows, columns) (n,); products(a, b) -> (n,) is what is summed in them.

        ``products`` may return None for ones.
        """
        return Cells.of(rows, columns, shape).table(products, sizes)

    @classmethod
    def of_pair(cls, pair, *, flipped=False):
        """Table of PairSums; with the levels of its second group as rows where it is flipped."""
        weights, values = pair.weights, pair.blocks.transpose(1, 2, 0)
        if flipped:
            place = np.arange(weights.nnz, dtype=weights.indptr.dtype)
            parts = place, weights.indices, weights.indptr
            weights = sparse.csr_matrix(parts, shape=weights.shape, copy=False).tocsc()
            values = values.transpose(1, 0, 2)[..., weights.data]
        indices, n_columns = weights.indices, weights.shape[0 if flipped else 1]
        return cls(weights.indptr, indices, np.ascontiguousarray(values), n_columns)

    @property
    def shape(self):
        return len(self.indptr) - 1, self.n_columns

    @property
    def nbytes(self):
        return self.values.nbytes + self.indices.nbytes + self.indptr.nbytes

    @cached_property
    def parts(self):
        """{(a, b): sparse (l_i, l_j)}, which share one pattern."""
        return {at: self._matrix(self.values[at]) for at in np.ndindex(self.values.shape[:2])}

    def _matrix(self, values):
        return sparse.csr_matrix((values, self.indices, self.indptr), shape=self.shape, copy=False)

    def add_times(self, v, out):
        """out (s_i, l_i, k) += Z_i'WZ_j v, v (s_j, l_j, k)."""
        for (a, b), part in self.parts.items():
            out[a] += part @ v[b]

    def add_transposed(self, v, out):
        """out (s_j, l_j, k) += Z_j'WZ_i v, v (s_i, l_i, k)."""
        for (a, b), part in self.parts.items():
            out[b] += part.T @ v[a]

    def forms(self, N):
        """Sum over m of B_ml'N_m B_ml (s_j, s_j, l_j), N (s_i, s_i, l_i)."""
        s_i, s_j = self.values.shape[:2]
        out = np.zeros((s_j, s_j, self.n_columns))
        for lo, hi, square in self._squares():
            for a, c in np.ndindex(s_i, s_i):
                for b, d in np.ndindex(s_j, s_j):
                    out[b, d] += square((a, b), (c, d)).T @ N[a, c, lo:hi]
        return out

    def row_forms(self, N):
        """Sum over m of B_lm N_m B_lm' (s_i, s_i, l_i), N (s_j, s_j, l_j)."""
        s_i, s_j = self.values.shape[:2]
        out = np.zeros((s_i, s_i, len(self.indptr) - 1))
        for lo, hi, square in self._squares():
            for a, c in np.ndindex(s_i, s_i):
                for b, d in np.ndindex(s_j, s_j):
                    out[a, c, lo:hi] += square((a, b), (c, d)) @ N[b, d]
        return out

    def _squares(self):
        """(first row, last row, products of two values as a sparse matrix), by chunks of rows."""
        n, nnz = len(self.indptr) - 1, len(self.indices)
        cuts = np.searchsorted(self.indptr, np.arange(0, nnz, _CHUNK))
        cuts = np.unique(np.r_[0, cuts, n])
        for lo, hi in pairwise(cuts):
            at = slice(self.indptr[lo], self.indptr[hi])
            parts = self.indices[at], self.indptr[lo : hi + 1] - self.indptr[lo]
            shape = hi - lo, self.n_columns

            def square(first, second, at=at, parts=parts, shape=shape):
                values = self.values[first][at] * self.values[second][at]
                return sparse.csr_matrix((values, *parts), shape=shape, copy=False)

            yield lo, hi, square

    def __add__(self, other):
        """The table of the rows of two batches."""
        rows = [np.repeat(np.arange(t.shape[0]), np.diff(t.indptr)) for t in (self, other)]
        columns = np.concatenate([self.indices, other.indices])

        def products(a, b):
            return np.concatenate([self.values[a, b], other.values[a, b]])

        sizes = self.values.shape[:2]
        return Table.of(np.concatenate(rows), columns, self.shape, products, sizes)


@dataclass(frozen=True, eq=False)
class Blocks:
    """All that the iterative solver needs of the rows; blocks of batches add up.

    Attributes
    ----------
    own : tuple of (s, s, l)
        Z_g'WZ_g by level.
    tables : dict of (i, j) to Table
        Z_i'WZ_j, i before j.
    tails : tuple of (s, l, p + 1)
        Z_g'W[X y].
    gram : (p + 1, p + 1)
        [X y]'W[X y].
    """

    own: tuple
    tables: dict
    tails: tuple
    gram: np.ndarray

    @classmethod
    def of(cls, groups, weights, X, y, cells=None):
        """Blocks of rows: groups as they are eliminated, weights (n,) or None, X (n, p), y (n,).

        Without a response, y = None, its numbers are zero. cells: those of :func:`cells_of`.
        """
        cells = cells_of(groups) if cells is None else cells
        columns = [*X.T] if y is None else [*X.T, y]
        weighted = columns if weights is None else [x * weights for x in columns]
        missing = X.shape[1] + 1 - len(columns)
        gram = _gram(columns, weighted)
        tails = (_tail(g, weighted, missing) for g in groups)
        own = tuple(_own(g, weights) for g in groups)
        tables = {(i, j): _table(groups[i], groups[j], weights, c) for (i, j), c in cells.items()}
        return cls(own, tables, tuple(tails), np.pad(gram, (0, missing)))

    @classmethod
    def of_sums(cls, sums, order):
        """Blocks of `Sums`, whose groups are eliminated in this order."""
        tables = {}
        for j, h in enumerate(order):
            for i, g in enumerate(order[:j]):
                pair = sums.pairs[min(g, h), max(g, h)]
                tables[i, j] = Table.of_pair(pair, flipped=g > h)
        own = tuple(np.ascontiguousarray(sums.own[g]) for g in order)
        tails = tuple(np.ascontiguousarray(sums.tails[g].transpose(0, 2, 1)) for g in order)
        return cls(own, tables, tails, sums.tail)

    @property
    def sizes(self):
        """(s, l) of every group."""
        return [x.shape[1:] for x in self.own]

    @property
    def nbytes(self):
        tables = sum(table.nbytes for table in self.tables.values())
        return tables + sum(x.nbytes for x in (*self.own, *self.tails)) + self.gram.nbytes

    def __add__(self, other):
        return Blocks(
            tuple(a + b for a, b in zip(self.own, other.own, strict=True)),
            {at: table + other.tables[at] for at, table in self.tables.items()},
            tuple(a + b for a, b in zip(self.tails, other.tails, strict=True)),
            self.gram + other.gram,
        )


def check_memory(groups, n_fixed, n_probes, *, largest=None):
    """Raise MemoryError where tables and vectors of an iterative fit have no room."""
    n = len(groups[0].codes)
    cells = {
        (i, j): min(n, groups[i].n_levels * g.n_levels)
        for j, g in enumerate(groups)
        for i in range(j)
    }
    check_cells(groups, cells, n_fixed, n_probes, largest=largest)


def check_cells(groups, cells, n_fixed, n_probes, *, largest=None):
    """As :func:`check_memory`, for so many pairs of levels: {(i, j): number}."""
    largest = machine_memory() if largest is None else largest
    pairs = sum(
        number * (8 * groups[i].n_columns * groups[j].n_columns + _INDEX)
        for (i, j), number in cells.items()
    )
    vectors = 4 * 8 * sum(g.size for g in groups) * (n_fixed + 1 + n_probes)
    if pairs + vectors > largest:
        raise MemoryError(
            f"the iterative solver needs some {(pairs + vectors) / 2**30:.1f} GiB for pairs of "
            f"levels and vectors of effects, and the machine has {largest / 2**30:.1f}. Merge rare "
            "levels, or leave a factor or covariates out"
        )


def _sorted_by(codes, n_levels):
    """Stable order (n,) of codes, by counting."""
    n = len(codes)
    dtype = np.int32 if n < 2**31 else np.int64
    if n < 2 or bool((codes[1:] >= codes[:-1]).all()):
        return np.arange(n, dtype=dtype)
    parts = np.zeros(n, dtype=np.int8), codes.astype(dtype), np.arange(n + 1, dtype=dtype)
    return sparse.csr_matrix(parts, shape=(n, n_levels)).tocsc().indices


def _gram(columns, weighted):
    """Inner products (p, p) of columns with the same ones weighted."""
    gram = np.empty((len(columns),) * 2)
    for i, x in enumerate(columns):
        for j, v in enumerate(weighted[: i + 1]):
            gram[i, j] = gram[j, i] = x @ v
    return gram


def cells_of(groups):
    """{(i, j): Cells} of all pairs of groups."""
    return {
        (i, j): Cells.of(groups[i].codes, groups[j].codes, (groups[i].n_levels, groups[j].n_levels))
        for j in range(len(groups))
        for i in range(j)
    }


def _tail(group, weighted, missing):
    """Z'W[X y] (s, l, p + 1), the last column zero where y is missing."""
    sums = [group.sums(v) for v in weighted]
    zeros = [np.zeros((group.n_columns, group.n_levels))] * missing
    return np.stack([*sums, *zeros], axis=-1)


def _table(group, other, weights, cells):
    def products(a, b):
        columns = [g.z[:, at] for g, at in ((group, a), (other, b)) if not _is_one(g)]
        columns += [] if weights is None else [weights]
        return reduce(np.multiply, columns) if columns else None

    return cells.table(products, (group.n_columns, other.n_columns))


def _is_one(group):
    return group.is_intercept and group.z[0, 0] == 1.0


def _own(group, weights):
    columns = [z if weights is None else z * weights for z in group.z.T]
    return np.stack([group.sums(z) for z in columns], axis=1)
