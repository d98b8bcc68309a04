"""What a mixed model was fitted to, without its rows: names, terms, moments and fingerprints.

Whether one model contains another is a question about spaces: the columns of X, and the
covariances that the random effects can have. Both are kept as products with pseudo-random vectors
of n numbers that are the same in every model of n rows. A space that contains another does so in
these products too; that one which does not seems to is as good as impossible while there are more
products than the space has dimensions. So a model is never called foreign to another that contains
it, whatever the formulas look like.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import combinations_with_replacement
from zlib import crc32

import numpy as np
from scipy import sparse

from skmixed.linalg.system import RelatedGroup
from skmixed.models.moments import RowMoments

# Sums of rows of X that are kept at most, and in how many of them a row is.
_BUCKETS, _SEVERAL = 256, 3
# Structures whose covariances are all nonnegative combinations of some matrices.
_LINEAR = ("us", "diag", "homdiag", "homcs", "smooth")
# Of the same effects: which structures another one has among its covariances.
_INSIDE = {
    "cs": ("homdiag", "diag", "homcs"),
    "ar1": ("homdiag",),
    "hetar1": ("homdiag", "diag", "ar1"),
    "toep": ("homdiag", "diag", "homcs", "cs", "ar1", "hetar1"),
}
# Of residuals: the same by group and visit; variances of visits are those of ident(visit).
_WITHIN = {
    "us": ("cs", "homcs", "toep", "hetar1", "ar1", "ident"),
    "cs": ("homcs", "ident"),
    "toep": ("hetar1", "ar1", "cs", "homcs", "ident"),
    "hetar1": ("ar1", "ident"),
}
# Vectors whose pairs see the covariances.
_VECTORS = 12
# Rows of a large data set that these products are made of.
_STRETCHES, _STRETCH = 16, 2048
# Share of a column's length outside a space that is more than rounding.
_OUTSIDE = 3e-5
# Values of a curve that are looked at, and the decades of the parameters there: of curves that
# saturate only some of them tell much.
_VALUES, _DECADES = 256, (0.2, 0.5, 1.0, 2.0)
# Two ways to write a curve agree to this, at this share of the values, of which so many are needed.
_SAME, _AGREE, _TELLING = 1e-6, 0.9, 6


@dataclass(frozen=True)
class Source:
    """Names and fingerprints of the design of a mixed model.

    Attributes
    ----------
    names : tuple of str (p,)
        Columns of X.
    terms : tuple of FixedTerm
    random : tuple of (group, names)
        The random-effects terms in the formula's order.
    rows : tuple of (n_input, checksum)
        The rows that were kept.
    response, weights, frequencies : int
        Checksums; 0 for weights or frequencies of 1.
    offset : (m,)
        Weighted sums of rows of the offset.
    kept : (r,)
    intercept : int or None
        The columns of X that were kept, and the constant one.
    columns : (m, r)
        The same sums of the kept columns, from which ``center`` (r,) is subtracted.
    covariances : tuple of (pairs, c)
        For every random-effects term the products, with pairs of vectors from both sides, of the c
        matrices (n, n) whose linear combinations are its covariances; of a structure that is not
        linear, of matrices tangent to its covariances.
    moments : RowMoments or None
    structures : tuple of str
        The covariance structure of every random-effects term.
    residual : tuple of (kind, column, group)
        The factors of the residual structure.
    curve : (m,) or None
        What tells the curve of a nonlinear model from others: values at parameters that are the
        same for all of them, or a digest of a function of the user.
    """

    names: tuple[str, ...]
    terms: tuple
    random: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[int, int]
    response: int
    weights: int
    frequencies: int
    offset: np.ndarray
    kept: np.ndarray
    intercept: int | None
    columns: np.ndarray
    center: np.ndarray
    covariances: tuple[np.ndarray, ...]
    moments: RowMoments | None
    structures: tuple[str, ...] = ()
    residual: tuple = ()
    curve: np.ndarray | None = None

    @classmethod
    def of(cls, design, basis, Q, layout, y, weights, moments):
        """Fingerprints of a design.

        Parameters
        ----------
        design : Design
        basis, Q : ColumnBasis and its columns (n, r)
        layout : CovarianceLayout, with its rows
        y, weights : (n,) response and prior weights as the likelihood takes them
        moments : RowMoments
        """
        rows, vectors, sums = _lens(len(Q))
        offset = np.zeros(len(rows)) if design.offset is None else design.offset[rows]
        terms = [
            (layout.groups[term.group], term.columns, _matrices(layout, t))
            for t, term in enumerate(layout.terms)
        ]
        return cls(
            names=design.names,
            terms=design.fixed_terms,
            random=tuple((term.group, term.names) for term in design.random),
            rows=(design.n_input, checksum(design.rows)),
            response=checksum(y),
            weights=_unless_one(weights),
            frequencies=_unless_one(design.frequencies),
            offset=sums @ offset,
            kept=basis.kept,
            intercept=basis.intercept,
            columns=(sums @ Q[rows]) @ basis.factor,
            center=basis.center + basis.offset,
            covariances=tuple(
                _covariances(group, rows, group.z[rows, where], vectors, matrices)
                for group, where, matrices in terms
            ),
            moments=moments,
            structures=tuple(term.kind for term in layout.terms),
            residual=tuple(
                (t.factor.kind, t.factor.column, t.factor.group) for t in design.residual
            ),
        )

    @classmethod
    def of_curves(cls, design, kept, layout, owners):
        """Fingerprints of a nonlinear design: of its parameters, those of a row side by side.

        Parameters
        ----------
        design : NonlinearDesign
        kept : (r,)
            Columns of the designs side by side.
        layout : CovarianceLayout, with its rows
        owners : tuple of (s,)
            For every group the parameter of each of its columns.
        """
        n, P = len(design.rows), len(design.designs)
        rows, vectors, sums = _lens(n * P)
        at, parameter = np.divmod(rows, P)
        designs = [
            np.where(parameter[:, None] == k, X[at], 0.0) for k, X in enumerate(design.designs)
        ]
        covariances = []
        for t, term in enumerate(layout.terms):
            group, own = layout.groups[term.group], owners[term.group][term.columns]
            z = np.where(parameter[:, None] == own, group.z[at, term.columns], 0.0)
            covariances.append(_covariances(group, at, z, vectors, _matrices(layout, t)))
        return cls(
            names=design.spec.column_names,
            terms=(),
            random=tuple((term.group, term.names) for term in design.random),
            rows=(design.n_input, checksum(design.rows)),
            response=checksum(design.y),
            weights=_unless_one(design.weights),
            frequencies=_unless_one(design.frequencies),
            offset=np.zeros(sums.shape[0]),
            kept=kept,
            intercept=None,
            columns=sums @ np.hstack(designs)[:, kept],
            center=np.zeros(len(kept)),
            covariances=tuple(covariances),
            moments=None,
            structures=tuple(term.kind for term in layout.terms),
            curve=_curve_values(design, P),
        )

    def same_curve(self, other) -> bool:
        """Whether two models have the same curve, or none."""
        one, two = self.curve, other.curve
        if one is None or two is None:
            return one is two
        if one.shape != two.shape:
            return False
        told = np.isfinite(one) & np.isfinite(two) & ((one != 0) | (two != 0))
        agree = np.isclose(one[told], two[told], rtol=_SAME, atol=0.0)
        return np.array_equal(one, two, equal_nan=True) or (
            agree.size >= _TELLING and agree.mean() > _AGREE
        )

    def lacks_fixed(self, other) -> list[str]:
        """Names of the columns of X of another model that are no combinations of this one's."""
        basis = _orthonormal(self._plain_columns)
        place = {j: at for at, j in enumerate(other.kept)}
        constant = place.get(other.intercept)
        columns = other.columns
        if constant is not None and _outside(basis, other.columns[:, [constant]])[0]:
            columns = other._plain_columns
        outside = _outside(basis, columns)
        return [other.names[j] for j, at in place.items() if outside[at]]

    def lacks_offset(self, other) -> bool:
        """Whether the offsets differ by something that is no combination of the columns of X."""
        gap = self.offset - other.offset
        size = np.linalg.norm(self.offset) + np.linalg.norm(other.offset)
        if np.linalg.norm(gap) <= _OUTSIDE * size:
            return False
        return bool(_outside(_orthonormal(self._plain_columns), gap[:, None])[0])

    def lacks_random(self, other) -> list[int]:
        """The random-effects terms of another model whose covariances this one's cannot be."""
        linear = [
            own
            for own, kind in zip(self.covariances, self.structures, strict=True)
            if kind in _LINEAR
        ]
        basis = _orthonormal(np.hstack([np.zeros((_N_PAIRS, 0)), *linear]))
        return [
            t
            for t, own in enumerate(other.covariances)
            if _outside(basis, own).any() and not self._has_structure_of(other, t)
        ]

    def lacks_residual(self, other) -> list[str]:
        """The factors of the residual structure of another model that this one cannot have."""
        return [
            f"{kind}({' | '.join(filter(None, where))})"
            for kind, *where in other.residual
            if not any(
                (own == kind and at == where) or (kind in _WITHIN.get(own, ()) and _same(at, where))
                for own, *at in self.residual
            )
        ]

    def _has_structure_of(self, other, t) -> bool:
        """Whether a term of the same effects has a structure that holds that of the other."""
        kind = other.structures[t]
        return any(
            own == other.random[t] and (mine == kind or kind in _INSIDE.get(mine, ()))
            for own, mine in zip(self.random, self.structures, strict=True)
        )

    def same_term(self, t, other, k) -> bool:
        """Whether term t and term k of another model are the same but for names and units."""
        mine, theirs = self.covariances[t], other.covariances[k]
        kinds = {self.structures[t], other.structures[k]}
        if not kinds.issubset(_LINEAR):
            return len(kinds) == 1 and self.random[t] == other.random[k]
        return mine.shape == theirs.shape and self.term_within(t, other, k)

    def term_within(self, t, other, k) -> bool:
        """Whether the covariances of term t are among those of term k of another model."""
        return not _outside(_orthonormal(other.covariances[k]), self.covariances[t]).any()

    def n_effects(self, t) -> int:
        """The effects of term t."""
        return len(self.random[t][1])

    def is_one_variance(self, t) -> bool:
        """Whether one variance is all that the covariance of term t has."""
        return self.n_effects(t) == 1 or self.structures[t] in ("homdiag", "smooth")

    def is_unstructured(self, t) -> bool:
        """Whether term t may have any covariance."""
        return self.structures[t] == "us"

    @property
    def _plain_columns(self):
        """Products of the kept columns as they are."""
        if self.intercept is None:
            return self.columns
        constant = self.columns[:, np.searchsorted(self.kept, self.intercept)]
        return self.columns + np.multiply.outer(constant, self.center)


_PAIRS = tuple(zip(*combinations_with_replacement(range(_VECTORS), 2), strict=True))
_N_PAIRS = len(_PAIRS[0])


def checksum(values) -> int:
    values = np.ascontiguousarray(values)
    return crc32(values + 0.0 if values.dtype.kind == "f" else values)  # -0.0 is 0.0


def _unless_one(values) -> int:
    return 0 if values is None or (values == 1).all() else checksum(values)


def _sample(n):
    """Rows whose products are kept: all, or stretches of neighbours from everywhere.

    What holds for all rows holds for some; neighbours are often of one level, whose covariances
    can only be seen together.
    """
    if n <= _STRETCHES * _STRETCH:
        return np.arange(n)
    starts = np.linspace(0, n - _STRETCH, _STRETCHES).astype(np.intp)
    return (starts[:, None] + np.arange(_STRETCH)).ravel()


@lru_cache(maxsize=4)
def _lens(n):
    """Rows of n that are looked at, the vectors of their products, and their bucket sums."""
    rows = _sample(n)
    vectors = _vectors(rows.astype(np.uint64))
    return rows, vectors, _bucket_sums(rows.astype(np.uint64), vectors[:, :_SEVERAL])


def _bucket_sums(numbers, values):
    """Sparse (m, n): weighted sums of the rows in m buckets, every row in several of them.

    There are at most half as many sums as rows, from which no row can be had back.
    """
    n, several = values.shape
    m = max(min(n // 2, _BUCKETS), 1)
    bits = _mixed(~numbers)
    buckets = np.empty((n, several), dtype=np.intp)
    for k in range(several):
        buckets[:, k] = (bits >> np.uint64(16 * k)) & np.uint64(0xFFFF)
    buckets %= m
    ends = several * np.arange(n + 1)
    return sparse.csc_matrix((values.ravel(), buckets.ravel(), ends), shape=(m, n))


def _vectors(numbers):
    """(n, _VECTORS) values of unit variance for row numbers, the same everywhere and for ever."""
    vectors = np.empty((len(numbers), _VECTORS))
    for word in range(_VECTORS // 4):
        bits = _mixed(numbers * np.uint64(_VECTORS // 4) + np.uint64(word))
        for part in range(4):
            vectors[:, 4 * word + part] = (bits >> np.uint64(16 * part)) & np.uint64(0xFFFF)
    vectors -= 32767.5
    vectors /= 18918.6
    return vectors


def _mixed(x):
    """SplitMix64 (Steele, Lea and Flood 2014): every bit of x decides every bit of the result."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _matrices(layout, t):
    """Matrices (c, s, s) among which the covariances of a structured term move, else None."""
    if layout.terms[t].kind == "us":
        return None
    at, start = layout.parameters_of(t), layout.initial()
    group, found = layout.terms[t].group, []
    for share in (1.0, 0.6, 0.3):
        moved = start.copy()
        moved[at] *= share
        _, _, tangents, _ = layout.covariance(moved, group)
        own = np.isin(np.arange(layout.n_theta)[layout.places[group]], at)
        columns = layout.terms[t].columns
        found.append(tangents[own][:, columns, columns])
    return np.concatenate(found[: 1 if layout.terms[t].kind in _LINEAR else 3])


def _covariances(group, rows, z, vectors, matrices=None):
    """(pairs, c): a'Z E Z'b for all pairs a, b of vectors and all c matrices E of a term.

    ``z`` are the covariates of the term in these rows of the group.
    These are all symmetric ones if there are no ``matrices`` (c, s, s).
    """
    codes = group.codes[rows]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sums = [np.add.reduceat((column[:, None] * vectors)[order], starts) for column in z.T]
    if isinstance(group, RelatedGroup):
        loadings = group.loadings[codes[order][starts]]
        sums = [loadings.T @ own for own in sums]
    if matrices is not None:
        seen = np.stack(sums)
        products = np.einsum("ilv,cij,jlw->cvw", seen, matrices, seen, optimize=True)
        return np.column_stack([(p + p.T)[_PAIRS] for p in products])
    found = []
    for i, k in combinations_with_replacement(range(len(sums)), 2):
        product = sums[i].T @ sums[k]
        found.append((product + product.T)[_PAIRS])
    return np.column_stack(found)


def _same(own, other):
    """Whether a structure over visits of groups is about the rows that another one is about."""
    return own == other or other == ["", own[0]]


@np.errstate(all="ignore")
def _curve_values(design, P):
    """Values of a curve with parameters of all sizes and signs, other ones in every row.

    What a function of the user does there nobody knows: that one is told by its name and code.
    """
    mean = design.spec.mean
    if mean.is_own:
        digest = sha256(repr([mean.text, *map(_code, mean.functions.items())]).encode()).digest()
        return np.frombuffer(digest, dtype=np.uint8).astype(float)
    rows = np.linspace(0, len(design.rows) - 1, _VALUES).astype(np.intp)
    draws = _vectors(np.arange(_VALUES * P, dtype=np.uint64))[:, :2].reshape(_VALUES, P, 2)
    decades = np.resize(_DECADES, _VALUES)[:, None]
    phi = 10.0 ** (decades * draws[..., 0]) * np.where(draws[..., 1] < -0.9, -1.0, 1.0)
    values = mean({name: x[rows] for name, x in design.columns.items()}, phi.T)
    values = np.broadcast_to(np.asarray(values, dtype=float), _VALUES)
    return np.where(np.isfinite(values), values, np.nan)


def _code(item):
    name, function = item
    code = getattr(function, "__code__", None)
    own = getattr(function, "__qualname__", type(function).__qualname__)
    return name, own, None if code is None else (code.co_code, code.co_names)


def _orthonormal(A):
    """Orthonormal basis of the columns of A, compared at their own sizes."""
    U, singular, _ = np.linalg.svd(_unit(A), full_matrices=False)
    return U[:, singular > 1e-13 * singular.max(initial=0.0)]


def _outside(basis, A):
    """(k,) bool: columns of A with more than rounding outside the space of an orthonormal basis."""
    A = _unit(A)
    rest = A - basis @ (basis.T @ A)
    return np.linalg.norm(rest, axis=0) > _OUTSIDE


def _unit(A):
    size = np.linalg.norm(A, axis=0)
    return A / np.where(size > 0, size, 1.0)
