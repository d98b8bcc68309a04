"""The rows of one grouping factor: which level each row belongs to, and its covariates there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse


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

    @property
    def plain(self):
        """The group of the levels that the codes count."""
        return self

    def at_levels(self, x):
        """Effects (..., l) at the levels that the codes count, from those of the group's own."""
        return x

    def mixed(self, x):
        """Sums (..., l) over the group's own levels from those over what the codes count."""
        return x

    @property
    def is_intercept(self):
        """Whether the only covariate is the constant 1: a view that repeats one number."""
        return is_constant_view(self.z)

    def of_rows(self, rows):
        """The group of some of its rows."""
        z = self.z[: len(rows)] if self.is_intercept else self.z[rows]
        return Group(self.codes[rows], z, self.n_levels)

    def without_rows(self):
        """The group without codes and covariates; copies, since a view would keep all rows."""
        return Group(self.codes[:0].copy(), self.z[:0].copy(), self.n_levels)

    def related(self, loadings, squares=None):
        """The group whose levels are mixtures of independent ones."""
        return RelatedGroup(self.codes, self.z, loadings.shape[1], loadings, squares)

    def values(self, b):
        """z_i'b of every row's level (n,), for effects b (s, l)."""
        if self.is_intercept:
            return b[0][self.codes]
        total = self.z[:, 0] * b[0][self.codes]
        for z, row in zip(self.z.T[1:], b[1:], strict=True):
            total += z * row[self.codes]
        return total

    def sums(self, v, *, power=1):
        """Z'v (s, l) for v (n,); with power 2 the covariates are squared."""
        if self.is_intercept:
            return np.bincount(self.codes, v, self.n_levels)[None]
        columns = self.z.T if power == 1 else self.z.T**power
        return np.array([np.bincount(self.codes, v * z, self.n_levels) for z in columns])

    def forms(self, block, other=None):
        """z_i' block_i z_i (n,) of every row, block (s, s, n); or z_i of another group right."""
        other = self if other is None else other
        if block.shape[:2] == (1, 1):
            total = block[0, 0]
            for group in (self, other):
                total = total if group.is_intercept else total * group.z[:, 0]
            return total
        return np.einsum("ns,stn,nt->n", self.z, block, other.z)

    def level_forms(self, blocks):
        """z_i' M_l z_i (n,) with the block M (s, s, l) of each row's level."""
        return self.forms(blocks[..., self.codes])

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
class RelatedGroup(Group):
    """A factor whose levels are mixtures of l independent ones: effects b L' from b (s, l).

    The codes count the rows of ``loadings`` L (q, l). ``squares`` (q,): of one covariate, the
    weighted sums Z'WZ of its squares for which L'Z'WZ L has no entries between levels.
    """

    loadings: np.ndarray
    squares: np.ndarray | None = None

    @property
    def diagonal(self):
        """Whether independent levels are eliminated one by one."""
        return self.squares is not None

    @cached_property
    def plain(self):
        return Group(self.codes, self.z, len(self.loadings))

    def without_rows(self):
        return self.plain.without_rows().related(self.loadings, self.squares)

    def at_levels(self, x):
        return x @ self.loadings.T

    def mixed(self, x):
        return x @ self.loadings

    def values(self, b):
        return self.plain.values(self.at_levels(b))

    def sums(self, v, *, power=1):
        return self.plain.sums(v, power=power) @ self.loadings**power


def is_constant_view(z):
    """Whether the column z (n, 1) repeats one number in memory, as an intercept does."""
    return z.shape[1] == 1 and z.strides[0] == 0
