"""Which columns of a design matrix depend on earlier ones, decided from the stored digits.

A column is dependent if changing every stored number by a few units in its last place would make
it an exact combination of the columns kept before it. That rule needs no units: it is the same
for metres and parsecs, and the same for ``t`` and ``t + 1e12`` as long as the shift has left
enough digits to see ``t``.

Three routes reach the same decisions. Scaled cross-products settle well-conditioned designs in
one pass over the rows; where some columns look dependent, their residuals are formed explicitly
in further passes; whatever those leave open goes to an orthogonal triangularisation by blocks of
rows. None of them copies the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.linalg import blas, lapack

from skmixed.linalg.dependencies import Dependent, Kept, Means, solve_upper, with_constants
from skmixed.linalg.threads import one_thread

# Relative size of a residual below which a column is dependent whatever its digits say: rounding
# accumulated over some thousand operations when the column was computed.
TOLERANCE = 1e-12
# Units in the last place by which stored numbers may be off: a few roundings per column.
ULPS = 4.0
# 1 - R^2 above which cross-products alone prove independence, and below which they suggest
# dependence: between them squared condition numbers eat the digits that matter.
CLEAR_PIVOT = 1e-6
DOUBTFUL_PIVOT = 1e-9
# Rounding worth a warning: it may hide effects of this size relative to the column's spread.
LOST_SHARE = 1e-9
# Noise along the kept columns as a multiple of what is seen across them: a handful of rows more
# than columns shows noise at a third of its size or more.
SEEN = 10.0
BLOCK_ELEMENTS = 1 << 19


@dataclass(frozen=True)
class ColumnBasis:
    """Independent columns of X, the rest as combinations of them, and an orthogonal basis.

    Attributes
    ----------
    kept : (r,) intp
        Indices of the independent columns, ascending.
    aliased : (p,) bool
        True for a column that depends on earlier kept ones (the intercept comes before all).
    combinations : (p, r)
        ``X = X[:, kept] @ combinations.T`` in the units of X; identity rows for kept columns.
    to_coef : (r, r)
        ``beta[kept] = to_coef @ gamma`` for coefficients gamma of the orthogonal basis.
    center, offset : (r,)
        Subtracted from the kept columns, one after the other: a mean near 1e12 has no double of
        its own, a round number near it plus a small remainder has.
    factor : (r, r) upper triangular
        ``X[:, kept] - center - offset = Q @ factor`` with ``Q'WQ = sum(w) I``.
    size : (p,)
        Root mean square of every column after centring.
    lost_digits : (p,) bool
        True for an aliased column whose own variation is hidden by the rounding of its large
        values: centred before it was expanded or stored, it might count.
    intercept : int or None
        Position of the constant column among all p columns.
    """

    kept: np.ndarray
    aliased: np.ndarray
    combinations: np.ndarray
    to_coef: np.ndarray
    center: np.ndarray
    offset: np.ndarray
    factor: np.ndarray
    size: np.ndarray
    lost_digits: np.ndarray
    intercept: int | None

    @property
    def rank(self) -> int:
        return self.kept.size

    @property
    def rows(self) -> np.ndarray:
        """(r, r) with ``X[:, kept] = Q @ rows``: the inverse of :attr:`to_coef`."""
        rows = np.array(self.factor)
        if self.intercept is not None:
            at = np.searchsorted(self.kept, self.intercept)
            rows[at] += rows[at, at] * (self.center + self.offset)
        return rows

    def centred(self, X) -> np.ndarray:
        """The kept columns (n, r) less their centres."""
        columns = X if self.rank == X.shape[1] else X[:, self.kept]
        if sp.issparse(columns):
            columns = columns.toarray()
        Q = np.subtract(columns, self.center, order="F", dtype=np.float64)
        if self.intercept is not None:
            Q -= self.offset
        return Q

    def orthonormal(self, X) -> np.ndarray:
        """Q (n, r) with ``Q'WQ = sum(w) I`` on the rows that chose the basis.

        Differences from the centre are taken before anything is multiplied, so a column such as
        ``t + 1e12`` keeps the digits of ``t``.
        """
        Q = self.centred(X)  # in column order, overwritten by the triangular solve
        if self.rank == 0 or Q.shape[0] == 0:
            return Q
        return blas.dtrsm(1.0, self.factor, Q, side=1, lower=0, overwrite_b=1)


def independent_columns(X, weights=None, intercept=None, tol=None, *, add_intercept=False):
    """Columns of X that do not depend on earlier ones, as a :class:`ColumnBasis`.

    Column j is dependent on the kept columns k before it, ``x_j ~ sum_k b_k x_k`` with the least
    squares b, if its residual is at most

        tol |x_j - mean| + 4 eps (|x_j| + sum_k |b_k| |x_k|)

    (weighted norms; without an intercept the mean is 0). The second term is what rounding of the
    stored numbers can produce, with eps that of the type in which X is stored.

    Parameters
    ----------
    X : (n, p) array or sparse matrix, finite
    weights : (n,), optional
        Non-negative; rows of weight 0 do not count.
    intercept : int, optional
        Index of a constant column. It is always kept and everything else is centred.
    tol : float, default 1e-12
    add_intercept : bool
        Put a column of ones in front, as column 0, without copying X.

    Returns
    -------
    ColumnBasis

    Examples
    --------
    >>> import numpy as np
    >>> t = np.arange(5.0)
    >>> X = np.column_stack([np.ones(5), t + 1e12, 2 * t - 1, t**2 * 1e-21])
    >>> basis = independent_columns(X, intercept=0)
    >>> basis.kept.tolist(), basis.aliased.tolist()
    ([0, 1, 3], [False, False, True, False])
    >>> basis.combinations[2]
    array([-2.e+12,  2.e+00,  0.e+00])
    """
    design = RowBlocks(X, weights, 0 if add_intercept else intercept, add_intercept)
    tol = TOLERANCE if tol is None else float(tol)
    with one_thread(design.n > design.step):
        gram = _gram(design)
    found = _proved_full_rank(design, gram)
    if found is not None:
        return found
    with one_thread():
        return _from_residuals(design, gram, tol) or _from_rotations(design, tol)


class RowBlocks:
    """A matrix read by blocks of rows: centred, times sqrt(weight), ones in front if asked for.

    Sparse blocks stay sparse as long as the centre is 0, which is where it starts for them.
    """

    def __init__(self, X, weights=None, intercept=None, add_intercept=False):
        self.sparse = self.sparse_source = sp.issparse(X)
        self._memory = None
        self.X = X.tocsr() if self.sparse else X
        self.intercept = intercept
        self.ones = int(add_intercept)
        self.n, self.p = X.shape[0], X.shape[1] + self.ones
        self.root = None if weights is None else np.sqrt(weights)[:, None]
        self.total = float(self.n) if weights is None else float(np.sum(weights))
        if not self.total > 0:
            raise ValueError(f"a rank needs rows of positive weight, got {self.n} rows of weight 0")
        self.eps = np.finfo(X.dtype if X.dtype.kind == "f" else np.float64).eps
        width = self.X.nnz // self.n + 1 if self.sparse else self.p
        self.step = max(BLOCK_ELEMENTS // max(width, 1), 4 * self.p)
        self.center = np.zeros(self.p)
        self.constant = 1.0
        if intercept is not None:
            sample = self.dense(self._sample())
            self.constant = sample[0, intercept]
            if not self.sparse:
                self.center = self._middle(sample)

    def _sample(self):
        """Some thousand rows that count, spread evenly."""
        if self.root is None:
            return slice(None, None, max(1, self.n // 1024))
        counted = np.flatnonzero(self.root)
        return counted[:: max(1, counted.size // 1024)]

    def _middle(self, sample) -> np.ndarray:
        """A value amid each column. Any will do: the remainder comes with the cross-products."""
        first = sample[0]
        with np.errstate(over="ignore", invalid="ignore"):
            center = first + np.add.reduce(sample - first, axis=0) / len(sample)
        center[self.intercept] = 0.0
        return center

    def recenter(self, basis):
        """Read rows with the centre that a basis was found with."""
        if basis.center.any():
            self.center_densely()
        self.center[:] = 0.0
        self.center[basis.kept] = basis.center

    def center_densely(self):
        """Centre sparse columns too, at the price of dense blocks."""
        if self.sparse and self.intercept is not None:
            self.sparse = False
            self.step = max(BLOCK_ELEMENTS // max(self.p, 1), 4 * self.p)
            self.center = self._middle(self.dense(self._sample()))

    def dense(self, rows) -> np.ndarray:
        """Some rows as they are, neither centred nor weighted."""
        block = self.X[rows]
        block = block.toarray() if sp.issparse(block) else block
        if not self.ones:
            return np.asarray(block, dtype=np.float64)
        out = self._room(block.shape[0])
        out[:, 0] = 1.0
        out[:, 1:] = block
        return out

    def _room(self, n) -> np.ndarray:
        """Memory for n rows, the same every time: fresh pages cost more than filling them."""
        if self._memory is None or len(self._memory) < n:
            self._memory = np.empty((n, self.p))
        return self._memory[:n]

    def _sparse(self, rows):
        block = self.X[rows]
        if not self.ones:
            return block
        return sp.hstack([np.ones((block.shape[0], 1)), block], format="csr")

    def slices(self) -> Iterator[slice]:
        for start in range(0, self.n, self.step):
            yield slice(start, min(start + self.step, self.n))

    def block(self, rows):
        """sqrt(W) (X - center) for some rows, in memory that the next call overwrites."""
        if self.sparse:
            out = self._sparse(rows)
            return out if self.root is None else out.multiply(self.root[rows]).tocsr()
        if self.sparse_source:
            out = self.dense(rows)
            out -= self.center
        else:
            X = self.X[rows]
            out = self._room(len(X))
            out[:, : self.ones] = 1.0
            np.subtract(X, self.center[self.ones :], out=out[:, self.ones :], dtype=np.float64)
        if self.root is not None:
            out *= self.root[rows]
        return out


def _gram(design) -> np.ndarray:
    """(X - center)'W(X - center)."""
    gram = np.zeros((design.p, design.p))
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in design.slices():
            block = design.block(rows)
            product = block.T @ block
            gram += product.toarray() if design.sparse else product
    return gram


@dataclass(frozen=True)
class _Moments:
    """Sizes of the columns; offset is what the centre has left of the means."""

    offset: np.ndarray
    norm: np.ndarray  # after centring
    stored: np.ndarray  # as they are

    def divided(self, scale) -> _Moments:
        return _Moments(self.offset / scale, self.norm / scale, self.stored / scale)


def _central_moments(design, gram):
    """(gram about the means, moments); None where that has cost too many digits."""
    raw = gram.diagonal()
    # Squares that overflow or vanish are left to the route that scales first.
    if not np.isfinite(raw.sum()) or ((raw < 1e-200) & (raw != 0)).any() or raw.sum() > 1e200:
        return None
    if (raw == 0).any() and _vanished(design, np.flatnonzero(raw == 0)):
        return None
    offset = np.zeros(design.p)
    i = design.intercept
    if i is not None:
        offset = gram[i] / (design.constant * design.total)
        offset[i] = 0.0
        gram = gram - design.total * np.multiply.outer(offset, offset)
        gram[i] = gram[:, i] = 0.0
        gram[i, i] = raw[i]
    diagonal = gram.diagonal()
    squares = design.total * (design.center + offset) ** 2
    doubtful = (diagonal < 1e-3 * raw) | (diagonal < 1e-12 * squares)
    if (doubtful & (raw != 0)).any():
        return None
    return gram, _Moments(offset, np.sqrt(diagonal), np.sqrt(diagonal + squares))


def _vanished(design, columns):
    """Whether some of the columns whose squares are 0 hold other numbers than 0."""
    for rows in design.slices():
        part = design.block(rows)[:, columns]
        if part.count_nonzero() if design.sparse else part.any():
            return True
    return False


def _proved_full_rank(design, gram) -> ColumnBasis | None:
    """The basis of a design whose cross-products prove that nothing depends on anything."""
    central = _central_moments(design, gram)
    if central is None or not central[1].norm.all():
        return None
    gram, moments = central
    if not design.p:
        return _basis(design, np.arange(0), np.zeros((0, 0)), moments)
    correlation = gram / np.multiply.outer(moments.norm, moments.norm)
    R, info = lapack.dpotrf(correlation, lower=0, clean=1)
    if info != 0 or R.diagonal().min() ** 2 < CLEAR_PIVOT:
        return None
    return _basis(design, np.arange(design.p), R * moments.norm, moments)


def _from_residuals(design, gram, tol) -> ColumnBasis | None:
    """Guess dependence from the cross-products, then measure every suspect's residual."""
    central = _central_moments(design, gram)
    if central is None:
        return None
    gram, moments = central
    guess = _cholesky_skipping(gram, moments, _others(design))
    if guess is None:
        return None
    kept, R = guess
    suspects = np.setdiff1d(_others(design), kept)
    b, cross = np.zeros((kept.size, suspects.size)), gram[np.ix_(kept, suspects)]
    for _ in range(3):
        b = b + solve_upper(R, solve_upper(R, cross, trans="T"))
        residual, cross = _residuals(design, moments.offset, kept, suspects, b)
        if (residual <= _allowance(design, moments, kept, suspects, b, tol)).all():
            # One more correction costs no pass: what it takes from the residuals is known.
            along = solve_upper(R, cross, trans="T")
            b = b + solve_upper(R, along)
            residual = np.sqrt(np.maximum(residual**2 - (along**2).sum(axis=0), 0.0))
            return _with_aliased(design, kept, R, moments, suspects, b, residual, tol)
    return None


def _others(design) -> np.ndarray:
    """Indices of all columns but the intercept."""
    columns = np.arange(design.p)
    return columns if design.intercept is None else np.delete(columns, design.intercept)


def _cholesky_skipping(gram, moments, columns):
    """(kept, R) over columns with clear pivots; None if a pivot is neither clear nor doubtful."""
    columns = columns[moments.norm[columns] > 0]
    norm = moments.norm[columns]
    C = gram[np.ix_(columns, columns)] / np.multiply.outer(norm, norm)
    L = np.zeros_like(C)
    taken: list[int] = []
    for j in range(columns.size):
        k = len(taken)
        pivot = C[j, j] - L[j, :k] @ L[j, :k]
        if pivot < DOUBTFUL_PIVOT:
            continue
        if pivot < CLEAR_PIVOT:
            return None
        L[j:, k] = (C[j:, j] - L[j:, :k] @ L[j, :k]) / np.sqrt(pivot)
        taken.append(j)
    return columns[taken], L[taken, : len(taken)].T * norm[taken]


def _residuals(design, offset, kept, suspects, b):
    """Norms of x_j - X[:, kept] b_j after centring, and X[:, kept]'W times the residuals."""
    M = np.zeros((design.p, suspects.size))
    M[suspects, np.arange(suspects.size)] = 1.0
    M[kept] = -b
    shift = offset @ M
    squares, sums, cross = np.zeros(suspects.size), np.zeros(suspects.size), np.zeros(M.shape)
    for rows in design.slices():
        block = design.block(rows)
        root = np.ones((block.shape[0], 1)) if design.root is None else design.root[rows]
        E = block @ M - shift * root
        squares += np.einsum("ij,ij->j", E, E)
        sums += root[:, 0] @ E
        cross += block.T @ E
    return np.sqrt(squares), (cross - np.multiply.outer(offset, sums))[kept]


def _allowance(design, moments, kept, columns, b, tol):
    """Residual norm (m,) up to which a column counts as dependent."""
    return tol * moments.norm[columns] + _rounding(design, moments, kept, columns, b)


def _rounding(design, moments, kept, columns, b):
    """Residual norm (m,) that rounding of the stored numbers can produce."""
    return ULPS * design.eps * (moments.stored[columns] + np.abs(b).T @ moments.stored[kept])


def _from_rotations(design, tol) -> ColumnBasis:
    """The basis by orthogonal triangularisation of scaled columns, which squares nothing."""
    design.center_densely()
    columns = _others(design)
    scale = _powers_of_two(design)
    R, moments = _triangularise(design, columns, scale)
    scaled = moments.divided(scale)

    def dependent(j, kept, b, tail):
        at = columns[j : j + 1]
        return tail <= _allowance(design, scaled, columns[kept], at, b, tol)[0]

    kept, triangle, b, residual = _householder_skipping(R, scaled.stored[columns], dependent)
    aliased = np.setdiff1d(np.arange(columns.size), kept)
    kept, aliased, b, residual = columns[kept], columns[aliased], b[:, aliased], residual[aliased]
    b = b * scale[aliased] / scale[kept, None]
    R = triangle * scale[kept]
    return _with_aliased(design, kept, R, moments, aliased, b, residual * scale[aliased], tol)


def _powers_of_two(design) -> np.ndarray:
    """Power of two near the largest deviation of every column from its centre."""
    largest = np.zeros(design.p)
    for rows in design.slices():
        with np.errstate(over="ignore", invalid="ignore"):
            block = np.abs(design.block(rows))
        top = block.max(axis=0)
        np.maximum(largest, top.toarray()[0] if sp.issparse(top) else top, out=largest)
    if not np.isfinite(largest).all():
        j = np.flatnonzero(~np.isfinite(largest))[0] - design.ones
        raise ValueError(
            f"column {j} of X has numbers too far apart for their differences from the mean to be "
            "finite; store it in a larger unit"
        )
    return np.where(largest > 0, np.ldexp(1.0, np.frexp(largest)[1]), 1.0)


def _triangularise(design, columns, scale):
    """(R, moments): R'R = scaled cross-products about the mean, by QR of stacked blocks."""
    i = design.intercept
    order = columns if i is None else np.r_[i, columns]
    R = np.zeros((0, order.size))
    for rows in design.slices():
        block = design.block(rows)
        block = block.toarray() if sp.issparse(block) else block
        R = np.linalg.qr(np.concatenate([R, block[:, order] / scale[order]]), mode="r")
    offset = np.zeros(design.p)
    if i is not None:
        offset[columns] = R[0, 1:] / R[0, 0] * (design.constant / scale[i]) * scale[columns]
        R = R[1:, 1:]
    norm, stored = np.full((2, design.p), abs(design.constant) * np.sqrt(design.total))
    norm[columns] = np.linalg.norm(R, axis=0) * scale[columns]
    mean = design.center + offset
    stored[columns] = np.hypot(norm, np.sqrt(design.total) * mean)[columns]
    return R, _Moments(offset, norm, stored)


def _householder_skipping(R, stored, dependent):
    """Triangularise R column by column, skipping those that ``dependent`` calls so.

    Returns (kept, triangle (r, r), b (r, q), residual (q,)): the kept columns' factor, every
    skipped column's coefficients on them and what is left of it.
    """
    T = np.array(R)
    q = T.shape[1]
    kept: list[int] = []
    coefficients, residual = {}, np.zeros(q)
    clear = True
    for j in range(q):
        k = len(kept)
        tail = np.linalg.norm(T[k:, j])
        if not (clear and tail > 1e-2 * stored[j]):
            b = solve_upper(T[:k, kept], T[:k, j])
            if dependent(j, kept, b[:, None], tail):
                coefficients[j], residual[j] = b, tail
                continue
            clear = False
        _reflect(T[k:, j:], tail)
        kept.append(j)
    r = len(kept)
    b = np.zeros((r, q))
    for j, values in coefficients.items():
        b[: values.size, j] = values
    triangle = np.triu(T[:r, kept])
    triangle *= np.where(triangle.diagonal() < 0, -1.0, 1.0)[:, None]
    return np.array(kept, dtype=np.intp), triangle, b, residual


def _reflect(T, norm):
    """Householder reflection of T, in place, that leaves its first column (-+norm, 0, 0, ...)."""
    v = T[:, 0].copy()
    v[0] += np.copysign(norm, v[0])
    T -= np.multiply.outer(v, (2.0 / (v @ v)) * (v @ T))


def _with_aliased(design, kept, R, moments, aliased, b, residual, tol) -> ColumnBasis:
    """The basis from kept columns beside the intercept, and the aliased ones' coefficients b."""
    own = moments.stored[aliased]
    own = np.where(own > 0, own, 1.0)
    unit = moments.norm[kept]
    rounding = _rounding(design, moments, kept, aliased, b)
    # The residual shows how far the numbers are off by more than their last digits.
    noise = rounding + np.minimum(tol * moments.norm[aliased], SEEN * residual)
    with np.errstate(over="ignore"):
        scale = np.clip(np.divide.outer(unit, own), 1e-290, 1e290)
    dependent = Dependent(scale, rounding / own, noise / own)
    columns = Kept.centred(R / unit)
    i = design.intercept
    if i is None:
        b, _ = dependent.coefficients(columns, b)
    else:
        length = design.constant * np.sqrt(design.total)
        means = Means(
            np.stack([design.center[kept], moments.offset[kept]]),
            np.stack([design.center[aliased], moments.offset[aliased]]),
            length / own,
            design.constant,
        )
        b = with_constants(dependent, means, columns, unit / np.sqrt(design.total), b)
        at = np.searchsorted(kept, i)
        b = np.insert(b[:-1], at, b[-1], axis=0)
        R = np.insert(np.insert(R, at, 0.0, axis=0), at, 0.0, axis=1)
        R[at, at] = abs(length)
        kept = np.insert(kept, at, i)
    lost = residual > max(tol, LOST_SHARE) * moments.norm[aliased]
    return _basis(design, kept, R, moments, aliased, b, lost)


def _basis(design, kept, R, moments, aliased=(), b=None, lost=None) -> ColumnBasis:
    """The record, with R'R = cross-products of the centred kept columns."""
    p, r = design.p, kept.size
    combinations = np.zeros((p, r))
    combinations[kept, np.arange(r)] = 1.0
    is_aliased = np.zeros(p, dtype=bool)
    lost_digits = np.zeros(p, dtype=bool)
    if len(aliased):
        combinations[aliased] = b.T
        is_aliased[aliased] = True
        lost_digits[aliased] = lost
    root = np.sqrt(design.total)
    factor = np.asfortranarray(R / root)
    center, offset = design.center[kept], moments.offset[kept]
    return ColumnBasis(
        kept=kept,
        aliased=is_aliased,
        combinations=combinations,
        to_coef=coefficients_of(factor, center + offset, kept, design.intercept, design.constant),
        center=center,
        offset=offset,
        factor=factor,
        size=moments.norm / root,
        lost_digits=lost_digits,
        intercept=design.intercept,
    )


def coefficients_of(factor, mean, kept, intercept, constant=1.0) -> np.ndarray:
    """factor^-1, with the intercept's row taking up what centring took out."""
    if not kept.size:
        return np.zeros((0, 0))
    inverse = lapack.dtrtri(factor)[0]
    if intercept is not None:
        at = int(np.searchsorted(kept, intercept))
        inverse[at] -= (mean / constant) @ inverse
    return inverse
