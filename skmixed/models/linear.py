"""Linear models whatever their rank: fitted values, residual variance and estimable functions.

Everything is computed in the orthogonal basis of the independent columns, where nothing depends
on units; the kinds of solutions differ only in how its coefficients are written in the columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.linalg.dependencies import (
    exchange,
    minimum_norm,
    orthonormal_null_space,
    solve_upper,
)
from skmixed.linalg.rank import ColumnBasis, RowBlocks, independent_columns
from skmixed.linalg.threads import one_thread
from skmixed.models.questions import Questions, gap_to_row_space

METHODS = ("sweep", "rational_sweep", "moore_penrose", "qr")
# A row is in the row space up to rounding: this share of a column's spread, and so many units in
# the last place of the numbers themselves.
ROW_TOLERANCE = 1e-7
ROW_ULPS = 64.0


@dataclass(frozen=True)
class LinearFit(Questions):
    """Least squares of y (n, q) on X (n, p) of any rank r.

    Attributes
    ----------
    basis : ColumnBasis
        Independent columns of the design (with its intercept as column 0, if it has one).
    gamma : (r, q)
        Coefficients of the orthogonal basis.
    rss, tss : (q,)
        Weighted sums of squares of residuals, and of y about its mean (about 0 without intercept).
    total : float
        Sum of weights: the number of rows they stand for.
    names : tuple of str (p,)
    terms : tuple of FixedTerm
    """

    basis: ColumnBasis
    gamma: np.ndarray
    rss: np.ndarray
    tss: np.ndarray
    total: float
    names: tuple[str, ...] = ()
    terms: tuple = ()

    @property
    def rank(self) -> int:
        return self.basis.rank

    @property
    def df_resid(self) -> float:
        return self.total - self.rank

    @property
    def sigma(self) -> np.ndarray:
        """Residual standard deviation (q,), NaN without residual degrees of freedom."""
        if self.df_resid <= 0:
            return np.full(self.rss.shape, np.nan)
        return np.sqrt(self.rss / self.df_resid)

    @property
    def r_squared(self) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.tss > 0, 1.0 - self.rss / self.tss, np.nan)

    @property
    def kept_coef(self) -> np.ndarray:
        """Coefficients (r, q) of the kept columns when the others have none."""
        return self.basis.to_coef @ self.gamma

    @property
    def null_space(self) -> np.ndarray:
        """Orthonormal (p, p - r) with X N = 0."""
        return orthonormal_null_space(self.basis.kept, self.basis.aliased, self.basis.combinations)

    def solution(self, method) -> Solution:
        """Coefficients and generalised inverse of one of the four methods."""
        basis = self.basis
        kept, p, q = basis.kept, basis.aliased.size, self.gamma.shape[1]
        both = np.hstack([self.kept_coef, basis.to_coef / np.sqrt(self.total)])
        if method == "moore_penrose" and basis.aliased.any():
            both = minimum_norm(basis.combinations, both)
            return Solution(both[:, :q], both[:, q:], np.zeros(p, dtype=bool))
        if method == "rational_sweep" and basis.aliased.any():
            kept, both = on_columns(basis, best_columns(basis), both)
        coef, root = np.zeros((p, q)), np.zeros((p, self.rank))
        coef[kept], root[kept] = both[:, :q], both[:, q:]
        left_out = np.ones(p, dtype=bool)
        left_out[kept] = False
        return Solution(coef, root, left_out)

    def outside(self, X) -> np.ndarray:
        """How far each aliased column of the rows X is from its combination (n, p - r).

        0 where the difference is within rounding, so a row is in the row space of the design
        exactly if its entries are all 0.
        """
        return outside_row_space(self.basis, self._rows(X))

    def predict(self, X, gap, aliased_coef) -> np.ndarray:
        """X beta (n, q) for a solution with these coefficients of aliased columns (p - r, q)."""
        rows = self._rows(X)
        rows.recenter(self.basis)
        b = np.zeros((rows.p, self.gamma.shape[1]))
        if self.rank:
            b[self.basis.kept] = solve_upper(self.basis.factor, self.gamma)
        shift = self.basis.offset @ b[self.basis.kept]
        found = gap @ aliased_coef
        with one_thread():
            for part in rows.slices():
                found[part] += rows.block(part) @ b - shift
        return found

    def leverage(self, X) -> np.ndarray:
        """x'Gx (n,) of rows x in the row space."""
        rows = self._rows(X)
        rows.recenter(self.basis)
        found = np.zeros(rows.n)
        for part in rows.slices() if self.rank else ():
            block = rows.block(part)
            block = block.toarray() if rows.sparse else block
            centred = (block[:, self.basis.kept] - self.basis.offset).T
            q = solve_upper(self.basis.factor, centred, trans="T")
            found[part] = np.einsum("ij,ij->j", q, q) / self.total
        return found

    def _rows(self, X) -> RowBlocks:
        implicit = X.shape[1] == self.basis.aliased.size - 1
        return RowBlocks(X, None, 0 if implicit else None, implicit)

    # Answers to questions about one response

    @property
    def reml(self) -> bool:
        """True: sigma is that of residuals over their degrees of freedom."""
        return True

    @property
    def n_obs(self) -> float:
        return self.total

    @property
    def estimates(self) -> np.ndarray:
        return self.gamma[:, self._only]

    @property
    def scale(self) -> float:
        return float(self.sigma[self._only])

    @property
    def whitened(self) -> np.ndarray:
        return np.sqrt(self.total) * self.estimates

    def unscaled(self, K) -> np.ndarray:
        return self.in_basis(K) / np.sqrt(self.total)

    @property
    def _only(self) -> int:
        """The one response, number 0."""
        if len(self.rss) > 1:
            raise ValueError(f"the fit has {len(self.rss)} responses: ask of_response(k) for one")
        return 0

    def of_response(self, k) -> LinearFit:
        """The fit of response k alone."""
        one = {name: getattr(self, name)[..., [k]] for name in ("gamma", "rss", "tss")}
        return replace(self, **one)


@dataclass(frozen=True)
class Solution:
    """Coefficients (p, q) and a root (p, r) of the generalised inverse G = root root'."""

    coef: np.ndarray
    root: np.ndarray
    left_out: np.ndarray  # (p,) bool: columns without a coefficient

    @property
    def ginverse(self) -> np.ndarray:
        return self.root @ self.root.T

    @property
    def unscaled_errors(self) -> np.ndarray:
        """Square roots of the diagonal of G (p,)."""
        return np.linalg.norm(self.root, axis=1)


def outside_row_space(basis, rows) -> np.ndarray:
    """:meth:`LinearFit.outside` for a ColumnBasis and RowBlocks."""
    spread = basis.size[basis.aliased]
    found = np.zeros((rows.n, spread.size))
    with one_thread():
        for part in rows.slices() if spread.size else ():
            gap, size = gap_to_row_space(basis, rows.dense(part))
            rounding = ROW_TOLERANCE * spread + ROW_ULPS * rows.eps * size
            found[part] = np.where(np.abs(gap) <= rounding, 0.0, gap)
    return found


def best_columns(basis) -> np.ndarray:
    """r columns by largest remaining pivot of the scaled cross-products, the intercept first."""
    R = basis.factor @ basis.combinations.T
    i = basis.intercept
    if i is not None:
        R = np.delete(R, np.searchsorted(basis.kept, i), axis=0)
    norm = np.linalg.norm(R, axis=0)
    usable = np.flatnonzero(norm > 0 if i is None else (norm > 0) & (np.arange(norm.size) != i))
    order = usable[_pivoted(R[:, usable] / norm[usable])[: len(R)]]
    return np.sort(order if i is None else np.r_[i, order])


def on_columns(basis, wanted, solution):
    """(columns, solution (r, q)): coefficients of the kept columns rewritten on those wanted."""
    C, solution, columns = np.array(basis.combinations), np.array(solution), basis.kept.copy()
    # Exchanges by largest share of the column that enters: units must not choose.
    size = np.where(basis.size > 0, basis.size, 1.0)
    while True:
        enter = np.setdiff1d(wanted, columns)
        leave = np.flatnonzero(~np.isin(columns, wanted))
        if not enter.size:
            return columns, solution
        share = np.abs(C[np.ix_(enter, leave)]) / size[enter, None] * size[columns[leave]]
        j, k = np.unravel_index(np.argmax(share), share.shape)
        exchange(C, solution, enter[j], leave[k])
        columns[leave[k]] = enter[j]


def _pivoted(R):
    """Column order by largest remaining norm, the first of equals first."""
    left, order = np.array(R), []
    for _ in range(min(R.shape)):
        squares = np.einsum("ij,ij->j", left, left)
        squares[order] = -1.0
        # Rounding must not decide between equals, or the choice would differ by platform.
        best = int(np.argmax(squares >= squares.max() * (1 - 1e-9)))
        q = left[:, best] / np.sqrt(squares[best])
        left -= np.multiply.outer(q, q @ left)
        order.append(best)
    return order


def fit_linear(X, y, weights=None, *, add_intercept=False, tol=None) -> LinearFit:
    """Least squares of y (n, q) on the columns of X, dense or sparse, in passes over its rows.

    Coefficients come from the triangular factor and are corrected with the residuals they leave
    (corrected seminormal equations), which makes them as accurate as an orthogonal solution
    without storing one.

    Parameters
    ----------
    X : (n, p) array or sparse matrix
    y : (n, q) array
    weights : (n,), optional
        Non-negative numbers of repetitions.
    add_intercept : bool
        Put a column of ones in front of X, without copying it.
    tol : float, optional
        See :func:`skmixed.linalg.rank.independent_columns`.

    References
    ----------
    Björck (1987), Stability analysis of the method of seminormal equations, Linear Algebra and
    its Applications 88/89, 31-48.
    """
    basis = independent_columns(X, weights, tol=tol, add_intercept=add_intercept)
    rows = RowBlocks(X, weights, 0 if add_intercept else None, add_intercept)
    rows.recenter(basis)
    middle = _weighted_mean(y, weights) if add_intercept else np.zeros(y.shape[1])
    with one_thread():
        gamma, rss, tss = _corrected(rows, basis, y - middle)
    if add_intercept:
        gamma[0] += middle
    # Residuals at the level of rounding are an exact fit.
    rss = np.where(rss <= tss * (64 * np.finfo(float).eps) ** 2, 0.0, rss)
    return LinearFit(basis, gamma, rss, tss, rows.total)


def _corrected(rows, basis, y):
    """(gamma, rss, tss): seminormal equations, corrected until nothing changes."""
    gamma = np.zeros((basis.rank, y.shape[1]))
    step, tss = _correction(rows, basis, y, gamma)
    size, rss = np.abs(step).max(axis=0, initial=0.0), tss
    for _ in range(3):
        gamma += step
        step, rss = _correction(rows, basis, y, gamma)
        if (np.abs(step).max(axis=0, initial=0.0) <= 1e-14 * size).all():
            break
    # The last step is too small to be worth a pass, but not its effect on a tiny residual.
    gamma += step
    return gamma, np.maximum(rss - rows.total * (step**2).sum(axis=0), 0.0), tss


def _weighted_mean(y, weights):
    first = y[0] if weights is None else y[np.argmax(weights > 0)]
    return first + np.average(y - first, axis=0, weights=weights)


def _correction(rows, basis, y, gamma):
    """(Q'We / sum(w), e'We) for the residuals e = y - Q gamma, with no Q in memory."""
    b = np.zeros((rows.p, y.shape[1]))
    offset = np.zeros(rows.p)
    offset[basis.kept] = basis.offset
    if basis.rank:
        b[basis.kept] = solve_upper(basis.factor, gamma)
    cross, sums, rss = np.zeros(b.shape), np.zeros(y.shape[1]), np.zeros(y.shape[1])
    for part in rows.slices():
        block = rows.block(part)
        root = np.ones((block.shape[0], 1)) if rows.root is None else rows.root[part]
        e = y[part] * root - (block @ b - (offset @ b) * root)
        cross += block.T @ e
        sums += root[:, 0] @ e
        rss += np.einsum("ij,ij->j", e, e)
    cross = (cross - np.multiply.outer(offset, sums))[basis.kept]
    if not basis.rank:
        return cross, rss
    return solve_upper(basis.factor, cross, trans="T") / rows.total, rss
