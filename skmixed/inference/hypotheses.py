"""Tests of estimable functions K'beta: single hypotheses and types I, II and III by term.

Which columns a term has and which terms contain it is what the design knows of it, never a matter
of names. The sets of functions that types II and III test depend only on the row space of
the over-parameterised design, so the coding of the factors cannot change them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.linalg import qr

from skmixed.inference.fixed_effects import RANK_TOLERANCE, FixedEffects, orthonormal_rows
from skmixed.inference.numbers import count, number
from skmixed.linalg.threads import one_thread
from skmixed.models.questions import column_rms


@dataclass(frozen=True)
class Hypothesis:
    """A test of ``K beta = rhs``.

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
    rhs : float or (d,)
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
    rhs: np.ndarray | float = 0.0

    def scalar(self) -> Hypothesis:
        """The same with numbers instead of arrays of length 1."""
        return replace(
            self,
            estimate=float(np.ravel(self.estimate)[0]),
            standard_error=float(np.ravel(self.standard_error)[0]),
        )

    def __str__(self) -> str:
        return (
            f"estimate {_short(self.estimate)}, std. error {_short(self.standard_error)}, "
            f"{self._shown_statistic}, p = {self.p_value:.4g}"
        )

    @property
    def _shown_statistic(self) -> str:
        asymptotic = np.isinf(self.df_den)
        if len(self.K) == 1:
            name = "z" if asymptotic else f"t({count(self.df_den)})"
        elif asymptotic:
            return f"chi2({self.df_num:g}) = {number(self.df_num * self.statistic)}"
        else:
            name = f"F({self.df_num:g}, {count(self.df_den)})"
        return f"{name} = {number(self.statistic)}"


def hypothesis_test(fit, K, *, rhs=0.0, ddf=None, name="", strict=True) -> Hypothesis:
    """The test of K beta = rhs for any fit that answers questions (:class:`Questions`).

    Parameters
    ----------
    fit : LinearFit (of one response), LMMFit or GLMMFit
    K : (d, p) array
        One row is tested by t, several by F.
    rhs : float or (d,)
    ddf : str, optional
        How the denominator degrees of freedom are found, see ``FixedEffects.method``. An infinite
        number makes t a z and F a chi-square over its degrees of freedom.
    strict : bool
        A non-estimable K is an error; otherwise its numbers are NaN.

    Raises
    ------
    NotEstimableError
    """
    effects = FixedEffects.of(fit)
    if strict:
        effects.check_estimable(K, name)
    elif not effects.is_estimable(K).all():
        nothing = np.full(len(K), np.nan)
        return Hypothesis(K, name, False, nothing, nothing, np.nan, np.nan, np.nan, np.nan)
    rows = effects.row_tests(K, ddf, rhs=rhs)
    shown = rows.estimate, rows.std_error
    if len(K) == 1:
        t, df, p = (float(x[0]) for x in (rows.t, rows.df, rows.p_value))
        return Hypothesis(K, name, True, *shown, t, 1, df, p, rhs)
    test = effects.joint_test(K, ddf, rhs=rhs, name=name)
    return Hypothesis(K, name, True, *shown, test.F, test.df_num, test.df_den, test.p_value, rhs)


def contrast(effects, K, rhs=0.0, ddf=None) -> Hypothesis:
    """The test of K beta = rhs, K as users write it (:meth:`FixedEffects.rows`)."""
    rows, single, name = effects.rows(K)
    rhs = np.asarray(rhs, dtype=float)
    if rhs.shape not in ((), (len(rows),)) or not np.isfinite(rhs).all():
        raise ValueError(
            f"rhs must be a finite number, or one for each of the {len(rows)} rows of K, got {rhs}"
        )
    test = hypothesis_test(effects.fit, rows, rhs=rhs, ddf=ddf, name=name)
    return test.scalar() if single else test


def _short(values) -> str:
    if np.ndim(values) == 0:
        return number(values)
    return f"[{', '.join(map(number, values))}]"


def f_test(ss, df_num, variance, df_den):
    """(F, p) of a sum of squares; NaN where there is nothing to test or to test it with."""
    if df_num == 0 or not df_den > 0:
        return np.nan, np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        F = float(np.divide(ss / df_num, variance))
    if np.isinf(df_den):
        return F, float(stats.chi2.sf(df_num * F, df_num))
    return F, float(stats.f.sf(F, df_num, df_den))


def anova_sums(fit, type):
    """[(name, SS, df)] for every term of a LinearFit of one response, of type 1, 2 or 3."""
    with one_thread():
        rows = {1: _type_1, 2: _type_2, 3: _type_3}[type](fit)
    return [
        (term.name, fit.total * float(((q @ fit.estimates) ** 2).sum()), len(q))
        for term, q in zip(fit.terms, rows, strict=True)
    ]


def type_3_functions(fit, term) -> np.ndarray:
    """Rows K (d, p) that type III tests for one of the terms of a fit.

    They are the estimable functions that involve only the term and terms containing it, and
    that are orthogonal to those which involve the containing effects alone. With no empty cells
    they compare unweighted marginal means.

    References
    ----------
    Goodnight (1980), Tests of hypotheses in fixed effects linear models, Communications in
    Statistics A9, 167-180.
    """
    above = _columns([other for other in fit.terms if other.contains(term)])
    allowed = np.concatenate([term.columns, above])
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
    size = column_rms(fit.basis)
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


def _columns(terms):
    return np.concatenate([t.columns for t in terms]) if terms else np.zeros(0, dtype=np.intp)


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


def _type_1(fit):
    """Each term after those before it."""
    coordinates = _coordinates(fit)
    seen = _intercept_rows(fit, coordinates)
    found = []
    for term in fit.terms:
        found.append(_new_directions(seen, coordinates[term.columns]))
        seen = np.vstack([seen, found[-1]])
    return found


def _type_2(fit):
    """Each term after all that do not contain it."""
    coordinates = _coordinates(fit)
    first = _intercept_rows(fit, coordinates)
    found = []
    for term in fit.terms:
        others = [t for t in fit.terms if t is not term and not t.contains(term)]
        before = _new_directions(coordinates[:0], np.vstack([first, coordinates[_columns(others)]]))
        found.append(_new_directions(before, coordinates[term.columns]))
    return found


def _type_3(fit):
    """Directions of the estimates that the type III functions of each term test."""
    return [orthonormal_rows(fit.in_basis(type_3_functions(fit, term))) for term in fit.terms]
