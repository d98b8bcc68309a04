"""The basis of the columns of X over all rows, from their cross-products in that of some rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.linalg.dependencies import solve_upper
from skmixed.linalg.rank import ULPS, ColumnBasis, coefficients_of, independent_columns

# Residual, as a share of a column's size, up to which cross-products call the column dependent:
# they hold squares, and with these half of the digits.
TOLERANCE = 1e-7


@dataclass(frozen=True, eq=False)
class Provisional:
    """Columns P in which rows are added up: near to orthonormal, as they are so on some rows.

    P is the orthonormal basis of these rows; where one of their columns depends on earlier ones,
    P has what is left of it in any row.

    Attributes
    ----------
    basis : ColumnBasis
        Of these rows.
    unit : (p,)
        Sizes of the columns that depend on others there; 0 where only zeros were seen.
    rounding : (p,)
        Residuals that rounding of the stored numbers can produce.
    """

    basis: ColumnBasis
    unit: np.ndarray
    rounding: np.ndarray

    @classmethod
    def of(cls, X, intercept):
        """The columns found from X (n, p)."""
        basis = independent_columns(X, intercept=intercept)
        stored = np.sqrt(np.mean(np.square(X), axis=0))
        eps = ULPS * np.finfo(float).eps
        rounding = eps * (stored + np.abs(basis.combinations) @ stored[basis.kept])
        return cls(basis, basis.size, rounding)

    def columns(self, X):
        """P (n, p) of rows X (n, p)."""
        Q = self.basis.orthonormal(X)
        if not self.basis.aliased.any():
            return Q
        P = np.empty(X.shape, order="F")
        P[:, self.basis.kept] = Q
        for j in np.flatnonzero(self.basis.aliased):
            used = np.flatnonzero(self.basis.combinations[j])
            along = X[:, self.basis.kept[used]] @ self.basis.combinations[j, used]
            P[:, j] = (X[:, j] - along) / (self.unit[j] or 1.0)
        return P

    def refined(self, gram, total):
        """The basis over all rows, and B (p, r) with Q = P B.

        Parameters
        ----------
        gram : (p, p)
            P'WP over all rows.
        total : float
            Sum of their weights.
        """
        mean, C = _centred(gram / total, self.basis.intercept)
        kept, R = self._cholesky(C)
        W, shift = self._columns_behind(kept)
        constant = self.basis.intercept
        factor = np.asfortranarray(R @ W)
        center, offset = shift[0], shift[1] + mean[kept] @ W
        combinations = self._combinations(kept, R, C, mean, W, shift.sum(axis=0))
        basis = replace(
            self.basis,
            kept=kept,
            aliased=~np.isin(np.arange(len(gram)), kept),
            combinations=combinations,
            to_coef=coefficients_of(factor, center + offset, kept, constant),
            center=center,
            offset=offset,
            factor=factor,
            size=np.linalg.norm(_slopes(combinations, kept, constant) @ factor.T, axis=1),
            lost_digits=self.basis.lost_digits & ~np.isin(np.arange(len(gram)), kept),
        )
        B = np.zeros((len(gram), len(kept)))
        B[kept] = np.linalg.inv(R) if len(kept) else np.zeros((0, 0))
        if constant is not None:
            B[constant] -= mean[kept] @ B[kept]
        return basis, B

    def in_basis(self, B, coefficients):
        """Coefficients on Q = P B of P[:, kept] times coefficients on the first basis."""
        values = np.zeros(len(B))
        values[self.basis.kept] = coefficients
        return np.linalg.lstsq(B, values, rcond=None)[0]

    def _cholesky(self, C):
        """(kept, R): columns that do not depend on earlier ones, R'R their mean products."""
        i, kept = self.basis.intercept, []
        order = [] if i is None else [i]
        order += [j for j in range(len(C)) if j != i]
        L = np.zeros(C.shape)
        for j in order:
            row = np.zeros(0)
            if kept:
                row = solve_upper(L[np.ix_(kept, range(len(kept)))].T, C[kept, j], trans="T")
            left = C[j, j] - row @ row
            own = C[j, j] if self.unit[j] == 0 else 1.0
            least = TOLERANCE + self.rounding[j] / (self.unit[j] or 1.0)
            # what some rows tell apart, all of them do
            if j in self.basis.kept or left > least**2 * own:
                L[j, : len(row)] = row
                L[j, len(row)] = np.sqrt(max(left, np.finfo(float).tiny))
                kept.append(j)
        ordered = np.sort(np.array(kept, dtype=np.intp))
        at = [kept.index(j) for j in ordered]
        return ordered, L[np.ix_(ordered, at)].T

    def _columns_behind(self, kept):
        """W (r, r) and shift (2, r) with X[:, kept] = P[:, kept] W + shift summed."""
        basis = self.basis
        first = np.searchsorted(kept, basis.kept)
        W, shift = np.zeros((len(kept),) * 2), np.zeros((2, len(kept)))
        W[np.ix_(first, first)] = basis.factor
        shift[0, first], shift[1, first] = basis.center, basis.offset
        slopes = _slopes(basis.combinations, basis.kept, basis.intercept)
        for at in np.setdiff1d(np.arange(len(kept)), first):
            j = kept[at]
            W[:, at] = W[:, first] @ slopes[j]
            W[at, at] = self.unit[j] or 1.0
            shift[:, at] = shift[:, first] @ slopes[j]
            shift[0, at] += (basis.combinations[j] - slopes[j]).sum()
        return W, shift

    def _combinations(self, kept, R, C, mean, W, shift):
        """(p, r): all columns from the kept ones."""
        basis, first = self.basis, np.searchsorted(kept, self.basis.kept)
        found = np.zeros((len(C), len(kept)))
        found[kept, np.arange(len(kept))] = 1.0
        i = basis.intercept
        others = np.array([k for k in range(len(kept)) if kept[k] != i], dtype=np.intp)
        for j in np.setdiff1d(np.arange(len(C)), kept):
            found[j, first] = basis.combinations[j]
            if C[j, j] + mean[j] ** 2 <= TOLERANCE**2:  # which holds in all rows
                continue
            own, root = C[kept[others], j], R[np.ix_(others, others)]
            beta = solve_upper(root, solve_upper(root, own, trans="T"))
            unit = self.unit[j] or 1.0
            slopes = unit * np.linalg.solve(W[np.ix_(others, others)], beta)
            found[j, others] += slopes
            if i is not None:
                constant = unit * (mean[j] - mean[kept[others]] @ beta)
                found[j, np.searchsorted(kept, i)] += constant - shift[others] @ slopes
        return found


def _centred(square, intercept):
    """Means (p,) of the columns beside the intercept, and their products about these."""
    mean = np.zeros(len(square))
    if intercept is None:
        return mean, square
    mean = square[intercept].copy()
    mean[intercept] = 0.0
    C = square - np.multiply.outer(mean, mean)
    C[intercept] = C[:, intercept] = 0.0
    C[intercept, intercept] = 1.0
    return mean, C


def _slopes(combinations, kept, intercept):
    """Combinations without the intercept's part in any other column."""
    if intercept is None:
        return combinations
    slopes = combinations.copy()
    at = np.searchsorted(kept, intercept)
    slopes[np.arange(len(slopes)) != intercept, at] = 0.0
    return slopes
