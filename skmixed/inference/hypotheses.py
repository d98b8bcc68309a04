"""Tests of estimable functions K'beta: single hypotheses and types I, II and III by term.

A term is a named slice of columns; which terms contain which is decided from their factors, never
from column names. The sets of functions that types II and III test depend only on the row space of
the over-parameterised design, so the coding of the factors cannot change them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.linalg import qr

from skmixed.exceptions import NotEstimableError
from skmixed.inference.numbers import count, number
from skmixed.linalg.threads import one_thread

# Directions of scaled integer-like matrices count as present above this singular value.
RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Hypothesis:
    """A test of ``K beta = 0``.

    Attributes
    ----------
    K : (d, p)
        Rows of coefficients.
    name : str
    estimable : bool
        Whether the data determine every row; if not, the numbers are NaN.
    estimate, standard_error : (d,), or floats if K was given as one row
        K beta and its standard errors.
    statistic : float
        F, or t for a single row.
    df_num, df_den : float
    p_value : float
    """

    K: np.ndarray
    name: str
    estimable: bool
    estimate: np.ndarray | float
    standard_error: np.ndarray | float
    statistic: float
    df_num: float
    df_den: float
    p_value: float

    def scalar(self) -> Hypothesis:
        """The same with numbers instead of arrays of length 1."""
        return replace(
            self,
            estimate=float(np.ravel(self.estimate)[0]),
            standard_error=float(np.ravel(self.standard_error)[0]),
        )

    def __str__(self) -> str:
        kind = "t" if len(self.K) == 1 else "F"
        df = count(self.df_den) if kind == "t" else f"{self.df_num:g}, {count(self.df_den)}"
        return (
            f"estimate {_short(self.estimate)}, std. error {_short(self.standard_error)}, "
            f"{kind}({df}) = {number(self.statistic)}, p = {self.p_value:.4g}"
        )


@dataclass(frozen=True)
class Effect:
    """A term as anova sees it: its columns, its categorical factors and its covariates."""

    name: str
    columns: np.ndarray
    factors: frozenset
    covariates: tuple

    def contains(self, other) -> bool:
        """Whether this effect contains ``other``: more factors, the same covariates."""
        return other.factors < self.factors and other.covariates == self.covariates


def hypothesis_test(fit, K, *, response=0, name="", strict=True) -> Hypothesis:
    """The test of K beta = 0 for one response of a LinearFit.

    Parameters
    ----------
    fit : LinearFit
    K : (d, p) array
    strict : bool
        A non-estimable K is an error; otherwise its numbers are NaN.

    Raises
    ------
    NotEstimableError
    """
    estimable = fit.estimable(K)
    if not estimable.all():
        if strict:
            raise NotEstimableError(why_not_estimable(fit, K, np.flatnonzero(~estimable)[0], name))
        nothing = np.full(len(K), np.nan)
        return Hypothesis(K, name, False, nothing, nothing, np.nan, np.nan, np.nan, np.nan)
    L = fit.in_basis(K)
    estimate = L @ fit.gamma[:, response]
    sigma, df = fit.sigma[response], fit.df_resid
    error = sigma * np.linalg.norm(L, axis=1) / np.sqrt(fit.total)
    if len(K) == 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            t = float(np.divide(estimate, error)[0])
        p = 2 * stats.t.sf(abs(t), df) if df > 0 else np.nan
        return Hypothesis(K, name, True, estimate, error, t, 1, df, float(p))
    ss, rank = _sum_of_squares(L, fit.gamma[:, response], fit.total)
    F, p = f_test(ss, rank, sigma**2, df)
    return Hypothesis(K, name, True, estimate, error, F, rank, df, p)


def _short(values) -> str:
    if np.ndim(values) == 0:
        return number(values)
    return f"[{', '.join(map(number, values))}]"


def f_test(ss, df_num, variance, df_den):
    """(F, p) of a sum of squares; NaN where there is nothing to test or to test it with."""
    if df_num == 0 or df_den <= 0:
        return np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        F = float(np.divide(ss / df_num, variance))
    return F, float(stats.f.sf(F, df_num, df_den))


def why_not_estimable(fit, K, row, name="", names=None) -> str:
    """The message that says which dependency makes row ``row`` of K undetermined."""
    null = fit.basis.combinations[fit.basis.aliased]
    aliased = np.flatnonzero(fit.basis.aliased)
    k = np.asarray(K, dtype=float)[row]
    gap = k[aliased] - null @ k[fit.basis.kept]
    worst = int(np.argmax(np.abs(gap)))
    label = (lambda j: names[j]) if names is not None else (lambda j: f"column {j}")
    combination = combination_text(null[worst], [label(j) for j in fit.basis.kept])
    where = f"row {row} of K" if len(K) > 1 else "the contrast"
    title = f"{name}: " if name else ""
    needed = null[worst] @ k[fit.basis.kept]
    return (
        f"{title}{where} is not estimable: in the data {label(aliased[worst])} = {combination}, so "
        f"beside its other coefficients that of {label(aliased[worst])} must be {number(needed)}, "
        f"got {number(k[aliased[worst]])}"
    )


def combination_text(coefficients, names) -> str:
    """``2 c - 1`` for coefficients (2, -1) of (c, Intercept)."""
    parts = []
    for value, name in zip(coefficients, names, strict=True):
        if value == 0:
            continue
        size = f"{abs(value):.10g}"
        body = size if name == "Intercept" else name if size == "1" else f"{size} {name}"
        sign = "-" if value < 0 else "+"
        parts.append((name == "Intercept", sign, body))
    parts.sort(key=lambda part: part[0])  # the constant last
    if not parts:
        return "0"
    text = " ".join(f"{sign} {body}" for _, sign, body in parts)
    return text[2:] if text.startswith("+") else "-" + text[2:]


def _sum_of_squares(L, gamma, total):
    """(SS, rank) of L gamma: the squared length of gamma's projection on the rows of L."""
    directions = _orthonormal_rows(L)
    return total * float(((directions @ gamma) ** 2).sum()), len(directions)


def _orthonormal_rows(L):
    """Orthonormal basis of the row space of L, rows compared at their own sizes."""
    size = np.linalg.norm(L, axis=1)
    L = L[size > 0] / size[size > 0, None]
    if not len(L):
        return np.zeros((0, L.shape[1]))
    _, s, Vt = np.linalg.svd(L, full_matrices=False)
    return Vt[s > RANK_TOLERANCE * s[0]]


def anova_sums(fit, effects, type, response=0):
    """[(name, SS, df)] for every effect: its sum of squares of type 1, 2 or 3."""
    with one_thread():
        rows = {1: _type_1, 2: _type_2, 3: _type_3}[type](fit, effects)
    gamma = fit.gamma[:, response]
    return [
        (effect.name, fit.total * float(((q @ gamma) ** 2).sum()), len(q))
        for effect, q in zip(effects, rows, strict=True)
    ]


def type_3_functions(fit, effects, effect) -> np.ndarray:
    """Rows K (d, p) that type III tests for an effect.

    They are the estimable functions that involve only the effect and effects containing it, and
    that are orthogonal to those which involve the containing effects alone. With no empty cells
    they compare unweighted marginal means.

    References
    ----------
    Goodnight (1980), Tests of hypotheses in fixed effects linear models, Communications in
    Statistics A9, 167-180.
    """
    containing = [e for e in effects if e.contains(effect)]
    above = _columns(containing)
    allowed = np.concatenate([effect.columns, above])
    rows = estimable_functions(fit, allowed)
    if not len(above):
        return rows
    only_above = estimable_functions(fit, above)
    if not len(only_above):
        return rows
    # Units of the shared covariates are the same in all of these columns: one scale will do.
    Q = qr(only_above.T, mode="economic")[0]
    # Singular vectors, so that what the projection has wiped out can be told from what is left.
    _, s, Vt = np.linalg.svd(rows - (rows @ Q) @ Q.T, full_matrices=False)
    found = Vt[s > RANK_TOLERANCE]
    found[:, np.setdiff1d(np.arange(rows.shape[1]), allowed)] = 0.0
    return found


def estimable_functions(fit, allowed) -> np.ndarray:
    """Orthonormal rows K (d, p): all estimable functions of the columns ``allowed`` alone."""
    C = fit.basis.combinations
    forbidden = np.setdiff1d(np.arange(len(C)), allowed)
    size = fit.column_rms
    # K = k C'; in columns scaled to unit size, k runs over the null space of the forbidden rows.
    scaled = C / size[:, None] * size[fit.basis.kept]
    k = _null_rows(scaled[forbidden])
    rows = (k @ scaled.T) * size
    rows[:, forbidden] = 0.0
    if not len(rows):
        return rows
    unit = np.linalg.norm(rows, axis=1)[:, None]
    Q, R = np.linalg.qr((rows / unit).T)
    found = Q.T[np.abs(R.diagonal()) > RANK_TOLERANCE]
    found[:, forbidden] = 0.0  # columns in other units would turn rounding into something
    return found


def _null_rows(A):
    """Orthonormal rows k with A k = 0."""
    if not len(A):
        return np.eye(A.shape[1])
    size = np.linalg.norm(A, axis=1)
    _, s, Vt = np.linalg.svd(A[size > 0] / size[size > 0, None], full_matrices=True)
    rank = int((s > RANK_TOLERANCE * s[0]).sum()) if s.size else 0
    return Vt[rank:]


def _columns(effects):
    return np.concatenate([e.columns for e in effects]) if effects else np.zeros(0, dtype=np.intp)


def _coordinates(fit):
    """Columns of the design in the orthogonal basis, each of unit length: (p, r)."""
    rows = fit.basis.combinations @ fit.basis.factor.T
    size = np.linalg.norm(rows, axis=1)
    return rows / np.where(size > 0, size, 1.0)[:, None]


def _new_directions(before, added):
    """Orthonormal rows that span what ``added`` brings beyond the span of ``before``."""
    if len(before):
        added = added - (added @ before.T) @ before
        added = added - (added @ before.T) @ before
    _, s, Vt = np.linalg.svd(added, full_matrices=False)
    return Vt[s > RANK_TOLERANCE]


def _intercept_rows(fit, coordinates):
    i = fit.basis.intercept
    return coordinates[:0] if i is None else coordinates[i : i + 1]


def _type_1(fit, effects):
    """Each effect after those before it."""
    coordinates = _coordinates(fit)
    seen = _intercept_rows(fit, coordinates)
    found = []
    for effect in effects:
        found.append(_new_directions(seen, coordinates[effect.columns]))
        seen = np.vstack([seen, found[-1]])
    return found


def _type_2(fit, effects):
    """Each effect after all that do not contain it."""
    coordinates = _coordinates(fit)
    first = _intercept_rows(fit, coordinates)
    found = []
    for effect in effects:
        others = [e for e in effects if e is not effect and not e.contains(effect)]
        before = _new_directions(coordinates[:0], np.vstack([first, coordinates[_columns(others)]]))
        found.append(_new_directions(before, coordinates[effect.columns]))
    return found


def _type_3(fit, effects):
    """Directions of gamma that the type III functions of each effect test."""
    functions = [type_3_functions(fit, effects, effect) for effect in effects]
    return [_orthonormal_rows(fit.in_basis(K)) for K in functions]
