"""Cross-products of rows whose weights come from few parameters: A = sum of c_k A_k.

Every extended row is a row of the data, or the sum of two of them, and belongs to one cell; all
rows of a cell have one coefficient c_k. A quadratic form in the residuals with any matrix on the
pairs (a, b) is of this kind, since 2 a'b = (a + b)^2 - a^2 - b^2. Where the Gram matrices of all
cells fit in memory no row is looked at again; otherwise the rows are assembled for every c.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed.linalg.cholesky import multiply
from skmixed.linalg.crossproducts import CrossProducts, LevelBlocks, assemble
from skmixed.linalg.effects import from_parts, to_parts
from skmixed.linalg.selected import selected_inverse
from skmixed.linalg.system import Effects, System

# Numbers that the Gram matrices of all cells may have together.
_KEPT = 1 << 25
# A share of the rows of the data, 1 / _FEW, below which they are copied.
_FEW = 4


@dataclass(frozen=True, eq=False)
class ExtendedRows:
    """Rows first + second of the data, ``second`` -1 for none.

    Attributes
    ----------
    first, second, cell : (N,)
    counts : (N,) or None
        How often each of them counts.
    n_cells : int
    """

    first: np.ndarray
    second: np.ndarray
    cell: np.ndarray
    counts: np.ndarray | None
    n_cells: int

    def split_level(self, codes):
        """Whether a sum is of rows that have different codes."""
        both = self.second >= 0
        return bool((codes[self.first[both]] != codes[self.second[both]]).any())

    def some(self, at):
        counts = None if self.counts is None else self.counts[at]
        return ExtendedRows(self.first[at], self.second[at], self.cell[at], counts, self.n_cells)

    def of(self, values):
        """The rows of values (n, ...) that these are, column by column."""
        if values.ndim == 2:
            found = np.empty((len(self.first), values.shape[1]), order="F")
            for j, column in enumerate(values.T):
                found[:, j] = self.of(column)
            return found
        found = values[self.first]
        if self._all_sums:
            found += values[self.second]
        elif not self._no_sums:
            both = np.flatnonzero(self.second >= 0)
            found[both] += values[self.second[both]]
        return found

    @cached_property
    def _no_sums(self):
        return self.second.max(initial=-1) < 0

    @cached_property
    def _all_sums(self):
        return bool(len(self.second)) and self.second.min() >= 0

    def gram(self, plan, scale, X, y):
        """CrossProducts of these rows; many rows of the data are the data with weights."""
        n = len(y)
        if not self._no_sums or len(self.first) * _FEW < n:
            return assemble(self.plan(plan, scale), self.counts, self.of(X), self.of(y))
        weights = np.bincount(self.first, self.counts, n).astype(float)
        z = [g if scale is None else replace(g, z=_scaled(g.z, scale)) for g in plan.groups]
        return assemble(replace(plan, groups=tuple(z)), weights, X, y)

    def plan(self, plan, scale):
        """The plan of these rows; their covariates are those of the data times scale (n,)."""
        groups = tuple(
            replace(g, codes=g.codes[self.first], z=self.of(_scaled(g.z, scale)))
            for g in plan.groups
        )
        cells = {key: (cell[self.first], where) for key, (cell, where) in plan.cells.items()}
        return replace(plan, groups=groups, cells=cells)


def _scaled(values, scale):
    if scale is None:
        return values
    return values * (scale[:, None] if values.ndim == 2 else scale)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The systems sum_k c_k A_k of one Pattern.

    Attributes
    ----------
    template : CrossProducts
        What the blocks look like.
    grams : (K, N) or None
        A_k by row, where they are kept.
    rows : tuple or None
        (extended rows, their plan, X, y) where they are not.
    """

    template: CrossProducts
    grams: np.ndarray | None
    rows: tuple | None
    multiplicity: np.ndarray

    @classmethod
    def build(cls, pattern, rows, scale, X, y):
        """Mixture of the extended rows of the data of a Pattern.

        Parameters
        ----------
        pattern : Pattern, with its rows
        rows : ExtendedRows
        scale : (n,) or None
            Roots of the weights of the rows of the data.
        X, y : (n, r) and (n,)
        """
        plan, X, y = pattern._plan, _scaled(X, scale), _scaled(y, scale)
        if not len(rows.first):
            raise ValueError("no rows")
        few = rows.some(np.arange(1))
        template = assemble(few.plan(plan, scale), None, few.of(X), few.of(y)).without_rows()
        multiplicity = _multiplicity(template)
        if rows.n_cells * len(multiplicity) > _KEPT:
            whole = rows.plan(plan, scale), rows.of(X), rows.of(y)
            return cls(template, None, (rows, *whole), multiplicity)
        grams = np.empty((rows.n_cells, len(multiplicity)))
        for k, at in enumerate(_places(rows.cell, rows.n_cells)):
            own = rows.some(at)
            grams[k] = flat(own.gram(plan, scale, X, y))
        return cls(template, grams, None, multiplicity)

    def combined(self, c):
        """sum_k c[j, k] A_k by row (j, N), for c (j, K)."""
        if self.grams is not None:
            return c @ self.grams
        rows, plan, X, y = self.rows
        weights = c[:, rows.cell] if rows.counts is None else c[:, rows.cell] * rows.counts
        return np.array([flat(assemble(plan, own, X, y)) for own in weights])

    def system(self, c):
        """The System of coefficients c (K,)."""
        return System(self._products(self.combined(c[None])[0]))

    def _products(self, vector):
        return _blocks(self.template, vector)

    def slopes(self, factor, moved, *, fixed, response):
        """<A_j, Lt S Lt'> (j,) of ``moved`` (j, N), S = L^-T diag(1, fixed, response) L^-1."""
        inverse = selected_inverse(factor._blocked, fixed, response, every=True)
        return moved @ (self.multiplicity * _flat_inverse(inverse))

    def forms(self, factor, moved):
        """v'A_j v (j,) of ``moved`` (j, N), v = (-b, -beta, 1) at the mode."""
        outer = _flat_outer(self.template, factor._blocked.mode)
        return moved @ (self.multiplicity * outer)

    def cell_forms(self, factor):
        """v'A_k v (K,) of every cell."""
        if self.grams is not None:
            return self.forms(factor, self.grams)
        rows, plan, X, y = self.rows
        mode, e = factor._blocked.mode, y.copy()
        q, r = plan.q_core, X.shape[1]
        e -= X @ mode[-1][q : q + r, 0]
        for i, group in enumerate(plan.groups):
            if i < plan.n_chain:
                b = mode[i][:, 0]
            else:
                at = plan.core_groups[i - plan.n_chain][1]
                b = mode[-1][at, 0].reshape(group.n_levels, -1).T
            e -= group.values(b)
        squares = e**2 if rows.counts is None else e**2 * rows.counts
        return np.bincount(rows.cell, squares, rows.n_cells)

    def times_mode(self, factor, moved):
        """w_j = A_j v of ``moved`` (j, N), without the row of y: Effects of j columns."""
        plan, mode = self.template.plan, factor._blocked.mode
        found = [multiply(self._products(vector), mode) for vector in moved]
        joined = [-np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)]
        return from_parts(plan, joined)

    def fixed_slopes(self, factor, moved):
        """d(X'V0^-1X) (j, r, r) where A moves by ``moved`` (j, N).

        X'V0^-1X is the minimum over b of a quadratic form in A, whose derivative is that of A.
        """
        plan = self.template.plan
        r = plan.n_tail - 1
        none = [np.zeros((g.n_columns, r, g.n_levels)) for g in plan.groups]
        given = [none[plan.order.index(g)] for g in range(len(plan.groups))]
        unit = Effects(given, np.eye(r))
        b, _ = factor.solve(factor.system.times(unit), fixed=False)
        columns = to_parts(plan, Effects([-x for x in b.random], np.eye(r)))
        found = []
        for vector in moved:
            image = multiply(self._products(vector), columns)
            found.append(sum(_flat(x).T @ _flat(y) for x, y in _pairs(columns, image)))
        return np.array(found).reshape(len(moved), r, r)

    def fixed_grams(self):
        """X'X of the rows of every cell (K, r, r), None where they are not kept."""
        if self.grams is None:
            return None
        q, d = self.template.plan.q_core, len(self.template.core)
        cores = self.grams[:, -d * d :].reshape(-1, d, d)
        return cores[:, q:-1, q:-1]


def _places(cell, n_cells):
    """Indices of the rows of every cell."""
    if n_cells <= _FEW:
        return [np.flatnonzero(cell == k) for k in range(n_cells)]
    narrow = cell.astype(np.uint16) if n_cells < 1 << 16 else cell  # sorted by counting
    ends = np.cumsum(np.bincount(cell, minlength=n_cells))
    return np.split(np.argsort(narrow, kind="stable"), ends[:-1])


def _pairs(a, b):
    return zip(a, b, strict=True)


def _flat(part):
    return part if part.ndim == 2 else part.transpose(0, 2, 1).reshape(-1, part.shape[1])


# Blocks as one vector: by group of the chain own, up, border and entries, then the core.


def flat(products):
    """All numbers of CrossProducts (N,)."""
    return np.concatenate([block.ravel() for block in _arrays(products)])


def _arrays(products):
    for blocks in products.chain:
        yield blocks.own
        yield from blocks.up.values()
        yield blocks.border
        if blocks.entries is not None:
            yield blocks.entries
    yield products.core


def _blocks(template, vector):
    """The CrossProducts of a vector, views of it."""
    begin = 0

    def take(like):
        nonlocal begin
        end = begin + like.size
        found = vector[begin:end].reshape(like.shape)
        begin = end
        return found

    chain = []
    for own in template.chain:
        chain.append(
            LevelBlocks(
                take(own.own),
                {k: take(up) for k, up in own.up.items()},
                take(own.border),
                None if own.entries is None else take(own.entries),
            )
        )
    return CrossProducts(template.plan, tuple(chain), take(template.core))


def _multiplicity(template):
    """How often each number stands in the symmetric matrix (N,); the core by its lower triangle."""
    once = {id(blocks.own) for blocks in template.chain}
    parts = [np.full(x.size, 1.0 if id(x) in once else 2.0) for x in _arrays(template)]
    d = len(template.core)
    parts[-1] = (2.0 * np.tri(d, k=-1) + np.eye(d)).ravel()
    return np.concatenate(parts)


def _flat_inverse(inverse):
    """The blocks of a SelectedInverse in the order of :func:`flat`."""
    parts = []
    for own, up, border, entries in zip(
        inverse.own, inverse.up, inverse.border, inverse.entries, strict=True
    ):
        parts += [own.ravel(), *(block.ravel() for block in up.values()), border.ravel()]
        parts += [] if entries is None else [entries.ravel()]
    return np.concatenate([*parts, inverse.core.ravel()])


def _flat_outer(template, v):
    """v v' on the pattern in the order of :func:`flat`, for parts v of one column."""
    plan, tail, parts = template.plan, v[-1][:, 0], []
    for i, blocks in enumerate(template.chain):
        own = v[i][:, 0]
        parts.append((own[:, None] * own).ravel())
        for k in blocks.up:
            parts.append((own[:, None] * v[k][:, 0][..., plan.parents[i][k]]).ravel())
        parts.append((own[:, None] * tail[plan.border_slice(i)][:, None]).ravel())
        if blocks.entries is not None:
            at = plan.entries[i]
            parts.append((own[:, at.rows] * tail[at.cols]).ravel())
    return np.concatenate([*parts, np.outer(tail, tail).ravel()])
