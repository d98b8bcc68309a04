"""Smooth functions ``s(x, k=10)``: cubic P-splines as random effects beside a straight line.

B (n, k) holds cubic B-splines on equally spaced knots, and b = N (constant, slope)' + D'(DD')^-1 u
are their coefficients, D the matrix of second differences: the penalty |D b|^2 = |u|^2 leaves the
straight line alone. So the line is a fixed effect, and the columns Z = B D'(DD')^-1 have effects u
of one variance tau^2 (Eilers and Marx 1996, Statistical Science 11, 89-121; Wood 2017, Generalized
Additive Models, section 5.8). D is divided by the root of the 1-norm of D'D, as mgcv does it, so
that sigma^2 / tau^2 is its ``sp``. Outside of the knots a curve goes on as a straight line.

From every column of Z its line of least squares over the rows is taken. That is a change of the
fixed effects alone, which the restricted likelihood does not see; by maximum likelihood, where
lines inside of Z would have to be paid for as random effects, smoothness comes out as by REML.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skmixed.design.formula_terms import RandomSpec
from skmixed.design.parts import Materializer, Part, PartBuilder
from skmixed.design.terms import FixedTerm, fixed_terms, is_numeric

# Share of the range of x by which the outer knots lie beyond it.
_BEYOND = 1e-3


@dataclass(frozen=True, eq=False)
class SmoothPart:
    """One smooth term as the fit saw it: its argument, its knots and what it multiplies.

    Attributes
    ----------
    label : str
        ``"s(x)"``, ``"s(x, by=g)"``.
    inner : part
        The argument x.
    k : int
        Number of B-splines.
    low, step : float
        The first of the k - 2 knots between which curves are cubic, and their distance.
    bounds : (float, float)
        The smallest and the largest x of the fit.
    by : str or None
        A column: of categories, with a curve for every one of the ``levels``, or of numbers, which
        the curve multiplies.
    levels : tuple
        Levels of a factor ``by``; empty without one.
    tilts : (c, 2, k - 2)
        Lines of the columns over the rows of every curve, in knots from ``low``.
    lines : SmoothLines or None
        Where X has the straight line, None while the design is being built.
    """

    label: str
    inner: Part
    k: int
    low: float
    step: float
    bounds: tuple[float, float]
    by: str | None = None
    levels: tuple = ()
    tilts: np.ndarray | None = None
    lines: SmoothLines | None = None

    intercept = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the k - 2 columns."""
        return tuple(f"{self.label}.{j + 1}" for j in range(self.k - 2))

    @property
    def term_slices(self) -> dict[str, slice]:
        """All columns are one term."""
        return {self.label: slice(0, self.k - 2)}

    @property
    def curves(self) -> tuple:
        """What tells the curves of this term apart: levels of a factor, else one None."""
        return self.levels or (None,)

    @property
    def multiplies(self) -> bool:
        """Whether the curve is the coefficient of a number."""
        return self.by is not None and not self.levels

    def matrix(self, rows: Materializer) -> np.ndarray:
        """Z (n, k - 2) of rows."""
        z = self.basis(self.inner.matrix(rows)[:, 0], self.codes(rows))
        return z if not self.multiplies else z * self.factors(rows)[:, None]

    def factors(self, rows: Materializer) -> np.ndarray:
        """The numbers (n,) that the curve multiplies."""
        return np.asarray(rows.data[str(self.by)], dtype=float)

    def codes(self, rows: Materializer) -> np.ndarray:
        """The curve (n,) of every row; X has told of unknown levels before."""
        if not self.levels:
            return np.zeros(rows.nrows, dtype=np.intp)
        codes, own = _level_codes(rows.data[self.by])
        place = {level: j for j, level in enumerate(self.levels)}
        return np.array([place.get(level, -1) for level in own] or [-1], dtype=np.intp)[codes]

    def basis(self, x: np.ndarray, curve: np.ndarray | int) -> np.ndarray:
        """Z (m, k - 2) of curves at values x (m,) of the argument; NaN where it is NaN."""
        assert self.tilts is not None
        own = self.tilts[curve]
        return self.splines(x) - own[..., 0, :] - self.place(x)[:, None] * own[..., 1, :]

    def place(self, x: np.ndarray) -> np.ndarray:
        """x in knots from ``low``."""
        return (np.asarray(x, dtype=float) - self.low) / self.step

    def splines(self, x: np.ndarray) -> np.ndarray:
        """B D'(DD')^-1 (m, k - 2) at values x (m,), with the lines of its columns."""
        t = self.place(x)
        end = self.k - 3.0
        inside = np.clip(t, 0.0, end)
        known = np.isfinite(inside)
        cell = np.where(known, np.minimum(inside, self.k - 4.0), 0.0).astype(np.intp)
        u, P = inside - cell, _coefficients(self.k)
        z = np.zeros((len(t), self.k - 2))
        for j, w in enumerate(_pieces(u)):
            z += w[:, None] * P[cell + j]
        outside = np.flatnonzero(known & (t != inside))
        slopes = _slopes(u[outside])
        for j, w in enumerate(slopes):
            z[outside] += ((t - inside)[outside] * w)[:, None] * P[cell[outside] + j]
        return z


@dataclass(frozen=True)
class SmoothLines:
    """The straight lines of the curves of a smooth term in X, and what centres the curves.

    Attributes
    ----------
    slopes : (c, p)
        Coefficients of the columns of X that add up to the slope of every curve.
    constants : (c, p)
        And to its value at 0, where the curve multiplies a number.
    centers : (c,)
        Mean of x over the rows of a curve; 0 for curves that are not centred.
    means : (c, k - 2)
        Mean of Z over these rows.
    """

    slopes: np.ndarray
    constants: np.ndarray
    centers: np.ndarray
    means: np.ndarray

    @property
    def columns(self) -> np.ndarray:
        """Mask (p,) of the columns of X that belong to the curves."""
        return (self.slopes != 0).any(axis=0) | (self.constants != 0).any(axis=0)

    def n_columns(self, kept: np.ndarray) -> np.ndarray:
        """How many of the columns of X that were kept belong to every curve (c,)."""
        slopes, constants = self.slopes[:, kept] != 0, self.constants[:, kept] != 0
        return slopes.any(axis=1).astype(int) + constants.any(axis=1)

    def arguments(self, X: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """x (n,) of rows of X and their curves, NaN where X does not tell."""
        along = np.einsum("np,np->n", X, self.slopes[codes])
        size = np.square(self.slopes[codes]).sum(axis=1)
        scale = np.einsum("np,np->n", X, self.constants[codes])
        scale = np.where(self.constants[codes].any(axis=1), scale, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return along / (size * scale)

    def rows(self, curve: int, x: np.ndarray) -> np.ndarray:
        """K (m, p): the line of a curve at x (m,), centred, is K beta."""
        return self.constants[curve] + np.multiply.outer(
            x - self.centers[curve], self.slopes[curve]
        )


def _level_codes(values: Any) -> tuple[np.ndarray, list]:
    """Codes and levels of a column of categories, of True and False, or of numbers in C()."""
    values = getattr(values, "array", values)
    if hasattr(values, "categories"):
        return np.asarray(values.codes), list(values.categories)
    levels, codes = np.unique(np.asarray(values), return_inverse=True)
    return codes, levels.tolist()


def _coefficients(k: int) -> np.ndarray:
    """D'(DD')^-1 (k, k - 2), D the second differences over their norm."""
    D = np.diff(np.eye(k), 2, axis=0)
    D /= np.sqrt(np.linalg.norm(D.T @ D, 1))
    return np.linalg.solve(D @ D.T, D).T


def _pieces(u: np.ndarray) -> list[np.ndarray]:
    """The four cubic B-splines of unit knots that are not zero at a share u of a cell."""
    v = 1.0 - u
    return [
        v**3 / 6.0,
        (3.0 * u**3 - 6.0 * u**2 + 4.0) / 6.0,
        (3.0 * v**3 - 6.0 * v**2 + 4.0) / 6.0,
        u**3 / 6.0,
    ]


def _slopes(u: np.ndarray) -> list[np.ndarray]:
    """Derivatives of :func:`_pieces`."""
    v = 1.0 - u
    return [-(v**2) / 2.0, 1.5 * u**2 - 2.0 * u, 2.0 * v - 1.5 * v**2, u**2 / 2.0]


def smooth_part(
    builder: PartBuilder,
    rows: Materializer,
    spec: RandomSpec,
    kinds: Any,
    counts: np.ndarray | None = None,
):
    """(SmoothPart, Z (n, k - 2), codes (n,)) of a smooth term at the fit.

    Raises
    ------
    ValueError
        For an argument that is not one numeric column, or has too few values for k.
    """
    inner, argument = builder.make(spec.expr)
    _check_numeric(inner, argument, spec)
    x = argument[:, 0]
    known = x[np.isfinite(x)]
    n_values = len(np.unique(known))
    if n_values < spec.k:
        way = f"write s({spec.argument}, k={n_values})" if n_values >= 4 else (
            "use the column itself, or C() of it"
        )  # fmt: skip
        raise ValueError(
            f"{spec.group} has k={spec.k} basis functions for {n_values} different values of "
            f"{spec.argument}: {way}"
        )
    low, high = float(known.min()), float(known.max())
    beyond = _BEYOND * (high - low)
    step = (high - low + 2.0 * beyond) / (spec.k - 3)
    part = SmoothPart(
        spec.group, inner, spec.k, low - beyond, step, (low, high), *_by(rows, spec, kinds)
    )
    codes = part.codes(rows)
    part = replace(part, tilts=_tilts(part, x, codes, rows, counts))
    return part, part.matrix(rows), codes


def _tilts(part, x, codes, rows, counts):
    """Lines (c, 2, k - 2) of least squares of the splines over the rows of every curve."""
    root = np.ones(len(x)) if counts is None else np.sqrt(counts)
    if part.multiplies:
        root = root * np.abs(part.factors(rows))
    line, z = np.column_stack([np.ones(len(x)), part.place(x)]), part.splines(x)
    known, found = np.isfinite(x), []
    for curve in range(len(part.curves)):
        own = known & (codes == curve)
        w = root[own, None]
        found.append(np.linalg.lstsq(w * line[own], w * z[own], rcond=1e-10)[0])
    return np.stack(found)


def _check_numeric(inner: Part, argument: np.ndarray, spec: RandomSpec) -> None:
    if argument.shape[1] != 1 or not is_numeric(inner):
        raise ValueError(
            f"{spec.group} smooths {spec.argument!r}, which is not one column of numbers"
        )


def _by(rows: Materializer, spec: RandomSpec, kinds: Any) -> tuple[str | None, tuple]:
    """(column, levels) of what tells curves apart or multiplies them."""
    if spec.by is None:
        return None, ()
    column = spec.by_column
    if kinds[column] == "number" and not spec.by.startswith("C("):
        return column, ()
    return column, tuple(_level_codes(rows.data[column])[1])


def with_lines(
    part: SmoothPart,
    fixed: Part,
    X: np.ndarray,
    rows: Materializer,
    z: np.ndarray,
    others: frozenset[str],
    grouping: frozenset[str],
    counts: np.ndarray | None,
) -> SmoothPart:
    """The part with its straight lines in X (n, p).

    Parameters
    ----------
    part : SmoothPart
    fixed : part of X
    rows : Materializer of the same rows
    z : (n, k - 2)
    others : names of expressions that other smooth terms are of, without ``by``
    grouping : columns of grouping factors
    counts : (n,) or None
        How often every row counts.
    """
    x, codes = part.inner.matrix(rows)[:, 0], part.codes(rows)
    weights = np.ones(len(x)) if counts is None else counts
    own = _own_terms(part, fixed_terms(fixed), others)
    slopes, constants = np.zeros((2, len(part.curves), X.shape[1]))
    centers, means = np.zeros(len(part.curves)), np.zeros((len(part.curves), part.k - 2))
    if part.multiplies:
        for term in own:
            (constants if len(term.covariates) == 1 else slopes)[:, term.columns] = 1.0
        return replace(part, lines=SmoothLines(slopes, constants, centers, means))
    _check_constants(part, fixed_terms(fixed), grouping)
    columns = np.concatenate([term.columns for term in own])
    for c in range(len(part.curves)):
        mine = np.flatnonzero((codes == c) & np.isfinite(x))
        if not len(mine):  # undefined in all its rows, which will be left out
            continue
        largest = mine[np.argmax(np.abs(x[mine]))]
        slopes[c, columns] = X[largest, columns] / (x[largest] or 1.0)
        centers[c] = np.average(x[mine], weights=weights[mine])
        means[c] = np.average(z[mine], axis=0, weights=weights[mine])
    return replace(part, lines=SmoothLines(slopes, constants, centers, means))


def _check_constants(part: SmoothPart, terms: tuple[FixedTerm, ...], grouping: frozenset[str]):
    """An error for centred curves of levels that have no constants of their own."""
    if not part.levels or part.by in grouping:
        return
    if not any(part.by in t.variables and t.factors and not t.covariates for t in terms):
        raise ValueError(
            f"{part.label} has a centred curve for every level of {part.by!r}, and the levels need "
            f"constants: add {part.by}, or (1 | {part.by})"
        )


def _own_terms(part: SmoothPart, terms: tuple[FixedTerm, ...], others: frozenset[str]):
    """The terms of X that the curves of a smooth term have a share in."""
    [(argument,)] = [term.covariates for term in fixed_terms(part.inner)]
    by = str(part.by)
    if part.multiplies:
        wanted = [tuple(sorted((argument, by)))] + [(by,)] * (by not in others)
        return [t for t in terms if t.covariates in wanted and not t.factors]
    factors = frozenset([by, f"C({by})", f"C(`{by}`)"] if part.by else [])
    return [
        t
        for t in terms
        if t.covariates == (argument,)
        and t.factors <= factors
        and (t.factors or not part.levels or argument not in others)
    ]
