"""One door to what a fit says of its fixed effects, whatever kind of model it is of.

Tests and tables ask a :class:`FixedEffects` record. It finds the degrees of freedom that suit the
fit, refuses what the data do not determine, and hides where the numbers come from: linear mixed
models have a second-order record, least squares and generalised models need none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from skmixed.exceptions import NotEstimableError
from skmixed.inference.degrees_of_freedom import (
    METHODS,
    JointTest,
    RowTests,
    check_method,
    joint_test,
    kenward_roger_covariance,
    row_tests,
    uncertainty,
)
from skmixed.inference.numbers import number
from skmixed.models.questions import Questions

# Methods that read the second-order record of a linear mixed model.
_FROM_RECORD = ("satterthwaite", "kenward_roger")
# Directions of rows scaled to one length count as present above this singular value.
RANK_TOLERANCE = 1e-9
SINGULAR_NOTE = (
    "A variance is estimated as zero, or a correlation as 1 or -1: Satterthwaite's degrees of "
    "freedom treat it as known, Kenward and Roger's as uncertain."
)
# Relative error of degrees of freedom from which tables speak of it.
_UNSURE = 1e-4
DIGITS_NOTE = (
    "The random effects are so large beside the residuals that rounding takes digits: standard "
    "errors or degrees of freedom may be off by {:.0e} of their size, and are NaN where nothing is "
    "left."
)
AVERAGE_NOTE = (
    "The expected information does not fit in memory: Kenward and Roger's numbers are those of the "
    "average information, which may be far from it where a variance is zero."
)
SMOOTH_NOTE = (
    "Of {} the straight line alone is tested here; random_effects_test of a linear model tests "
    "the deviations from it."
)
MISSED_NOTE = (
    "The search for the variances has not converged: standard errors and tests are not those of "
    "an optimum."
)


def refuse_curves(fit, what, way_out):
    """Raise ValueError for a nonlinear model, whose mean is no function K beta."""
    if fit.of_curves:
        raise ValueError(
            f"{what} for models whose mean is linear in the coefficients, which that of a "
            f"nonlinear model is not: {way_out}"
        )


@dataclass(frozen=True)
class FixedEffects:
    """Estimates, covariances and tests of functions K beta of the coefficients of one fit.

    K (d, p) has a coefficient for every column of X, the intercept and columns that were left out
    included, in the order of ``names``.

    Attributes
    ----------
    fit : LinearFit (of one response), LMMFit or GLMMFit
    """

    fit: Any

    @classmethod
    def of(cls, model, *, output=None):
        """The fixed effects of a fitted estimator, or of a fit; they themselves of themselves.

        Parameters
        ----------
        model : estimator, fit or FixedEffects
        output : int, optional
            Which response of a model with several.

        Raises
        ------
        ValueError
            For a model that is not fitted.
        """
        if isinstance(model, FixedEffects):
            return model
        fit = model if isinstance(model, Questions) else getattr(model, "result_", None)
        if len(several := getattr(fit, "fits", ())) and output is None:
            raise ValueError(
                f"{type(model).__name__} is a model of {len(several)} responses: ask that of one "
                "of them, such as estimators_[0]"
            )
        if not isinstance(fit, Questions) and not several:
            raise ValueError(f"{type(model).__name__} is not a fitted model: call fit first")
        return cls(fit if output is None else fit.of_response(output))

    @property
    def names(self) -> tuple[str, ...]:
        """Names (p,) of the coefficients, those of columns that were left out included."""
        return tuple(self.fit.names)

    @property
    def aliased(self) -> np.ndarray:
        """(p,) bool: columns that were left out."""
        return self.fit.basis.aliased

    @property
    def beta(self) -> np.ndarray:
        """Coefficients (p,), NaN where a column was left out."""
        basis = self.fit.basis
        beta = np.full(basis.aliased.size, np.nan)
        beta[basis.kept] = basis.to_coef @ self.fit.estimates
        return beta

    @property
    def vcov(self) -> np.ndarray:
        """Covariance (p, p) of :attr:`beta`, NaN where a column was left out."""
        return self.coefficient_vcov("asymptotic")

    def coefficient_vcov(self, ddf=None) -> np.ndarray:
        """Covariance (p, p) of the coefficients that goes with a kind of degrees of freedom."""
        vcov = self.covariance(self.coefficient_rows, ddf)
        vcov[self.aliased] = vcov[:, self.aliased] = np.nan
        return vcov

    @property
    def coefficient_rows(self) -> np.ndarray:
        """Rows K (p, p): coefficients when the columns that were left out have none.

        Every row is estimable; those of columns that were left out are zeros.
        """
        basis = self.fit.basis
        rows = np.zeros((basis.aliased.size, basis.aliased.size))
        rows[basis.kept] = basis.combinations.T
        return rows

    def rows(self, K):
        """(K (d, p), whether it was one row, name) from what users write.

        Parameters
        ----------
        K : (p,) or (d, p) array, dict of coefficients by name, ``{"name": {...}}`` or list of dicts
            The intercept is a coefficient like others.

        Raises
        ------
        ValueError
            For an unknown coefficient, another number of columns, and numbers that are not finite.
        """
        if isinstance(K, Mapping) and K and all(isinstance(k, Mapping) for k in K.values()):
            rows = np.array([self._named_row(row) for row in K.values()])
            return rows, len(rows) == 1, ", ".join(map(str, K))
        if isinstance(K, Mapping):
            return self._named_row(K)[None, :], True, ""
        if isinstance(K, list | tuple) and K and all(isinstance(k, Mapping) for k in K):
            return np.array([self._named_row(k) for k in K]), False, ""
        if isinstance(K, str):
            raise ValueError(
                f"K is a dict of coefficients by name, such as {{{K!r}: 1}}, or rows of numbers, "
                f"got the text {K!r}"
            )
        rows, p = np.asarray(K, dtype=float), len(self.names)
        if rows.ndim not in (1, 2) or rows.shape[-1] != p or not rows.size:
            raise ValueError(
                f"K needs one coefficient for each of the {p} parameters "
                f"({', '.join(self.names[:6])}{', ...' if p > 6 else ''}), got shape "
                f"{rows.shape}; a dict of coefficients by name is accepted too"
            )
        if not np.isfinite(rows).all():
            raise ValueError("K contains NaN or infinity")
        return np.atleast_2d(rows), rows.ndim == 1, ""

    def _named_row(self, coefficients):
        names = list(self.names)
        unknown = [name for name in coefficients if name not in names]
        if unknown:
            near = get_close_matches(str(unknown[0]), names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{unknown} are no parameters; the parameters are {names}{hint}")
        row = np.zeros(len(names))
        for name, value in coefficients.items():
            row[names.index(name)] = value
        if not np.isfinite(row).all():
            raise ValueError("K contains NaN or infinity")
        return row

    # Degrees of freedom

    @property
    def default_ddf(self) -> str:
        """How the degrees of freedom of this fit are found unless asked otherwise."""
        return self.fit.df_methods[0]

    def method(self, ddf=None) -> str:
        """The method that ``ddf`` names, the default for None.

        Raises
        ------
        ValueError
            For a name that is none, and a method that this fit has not; the message says why.
        """
        if ddf is None:
            return self.default_ddf
        if ddf in METHODS and ddf not in self.fit.df_methods:
            known = " or ".join(map(repr, self.fit.df_methods))
            raise ValueError(f"ddf must be {known} here, got {ddf!r}: {self.fit.no_other_df}")
        check_method(ddf, self.fit.reml)
        return ddf

    def _record(self, method):
        """The second-order record, or None where the method does not need it."""
        return self.fit.second_order if self.fit.is_mixed and method in _FROM_RECORD else None

    def _plain_df(self, method):
        return np.inf if method == "asymptotic" else self.fit.n_obs - self.fit.basis.rank

    def sigma(self, ddf=None) -> float:
        """Residual standard deviation that goes with the tests of a method."""
        record = self._record(self.method(ddf))
        return self.fit.scale if record is None else record.sigma

    # Functions of the coefficients

    def is_estimable(self, K) -> np.ndarray:
        """(d,) bool: rows of K whose value is the same for all solutions."""
        return self.fit.is_estimable(K)

    def check_estimable(self, K, name="") -> None:
        """An error for rows that the data do not determine.

        Raises
        ------
        NotEstimableError
            Naming the first such row and the combination of columns that makes it so.
        """
        bad = np.flatnonzero(~self.is_estimable(K))
        if len(bad):
            raise NotEstimableError(why_not_estimable(self.fit, K, bad[0], name))

    def estimate(self, K, ddf=None) -> np.ndarray:
        """K beta (d,), NaN for rows that are not estimable."""
        return self.row_tests(K, ddf).estimate

    def covariance(self, K, ddf=None) -> np.ndarray:
        """Covariance (d, d) of K beta, Kenward and Roger's for theirs; NaN where not estimable."""
        method = self.method(ddf)
        record = self._record(method)
        if record is None:
            return self.fit.cov(K)
        adjusted = method == "kenward_roger"
        core = kenward_roger_covariance(record) if adjusted else record.Phi
        L = np.where(self.is_estimable(K)[:, None], self.fit.in_basis(K), np.nan)
        return np.square(record.sigma) * (L @ core @ L.T)

    def row_tests(self, K, ddf=None, *, rhs=0.0) -> RowTests:
        """t (or z) tests of every row of ``K beta = rhs``; NaN for rows that are not estimable.

        Parameters
        ----------
        K : (d, p) array
        ddf : str, optional
            See :meth:`method`.
        rhs : float or (d,)
        """
        K = np.asarray(K, dtype=float)
        method = self.method(ddf)
        record = self._record(method)
        L = self.fit.in_basis(K)
        if record is not None:
            tests = row_tests(record, record.beta, L, method)
        else:
            error = self.fit.scale * np.linalg.norm(self.fit.unscaled(K), axis=1)
            df = np.full(len(K), self._plain_df(method), dtype=float)
            tests = RowTests(L @ self.fit.estimates, error, df)
        return replace(tests, rhs=np.broadcast_to(rhs, len(K))).where(self.is_estimable(K))

    def joint_test(self, K, ddf=None, *, rhs=0.0, name="") -> JointTest:
        """F (or chi-square) test of ``K beta = rhs``; rows that depend on others count once.

        Parameters
        ----------
        K : (d, p) array
        ddf : str, optional
            See :meth:`method`.
        rhs : float or (d,)
        name : str
            For messages.

        Raises
        ------
        NotEstimableError
            For rows that the data do not determine.
        ValueError
            For dependent rows whose right-hand sides contradict each other.
        """
        K = np.asarray(K, dtype=float)
        self.check_estimable(K, name)
        method = self.method(ddf)
        record = self._record(method)
        rhs = np.broadcast_to(rhs, len(K))
        if record is not None:
            L = self.fit.in_basis(K)
            return joint_test(record, record.beta - particular_solution(L, rhs), L, method)
        half, df = self.fit.unscaled(K), float(self._plain_df(method))
        if np.isinf(half).any():  # an estimate without bound has no statistic
            return JointTest(len(K), df, np.nan)
        directions = orthonormal_rows(half)
        distance = directions @ (self.fit.whitened - particular_solution(half, rhs))
        with np.errstate(divide="ignore", invalid="ignore"):
            F = np.divide(distance @ distance / max(len(directions), 1), self.fit.scale**2)
        return JointTest(len(directions), df, float(F) if len(directions) else np.nan)

    def notes(self, ddf=None) -> tuple[str, ...]:
        """What a table of tests has to say of this fit."""
        fit = self.fit
        counted = fit.is_mixed and self.method(ddf) in _FROM_RECORD
        missed = fit.is_mixed and not fit.optimum.converged
        singular = counted and fit.is_singular
        own = self._notes_of_record(self.method(ddf), singular) if counted else ()
        return (MISSED_NOTE,) * missed + (SINGULAR_NOTE,) * singular + own

    @property
    def smooth_notes(self) -> tuple[str, ...]:
        """What a table of all coefficients or terms has to say of smooth terms."""
        fit = self.fit
        names = [fit.source.random[t][0] for t in fit.smooth_terms] if fit.is_mixed else []
        return (SMOOTH_NOTE.format(", ".join(names)),) * bool(names)

    def _notes_of_record(self, method, singular):
        record = self._record(method)
        share = uncertainty(record, self.fit.basis.to_coef, method)
        average = singular and method == "kenward_roger" and record.curvature is not None
        lost = (DIGITS_NOTE.format(min(share, 1.0)),) * (share > _UNSURE)
        return lost + (AVERAGE_NOTE,) * average


def why_not_estimable(fit, K, row, name="") -> str:
    """The message that says which dependency makes row ``row`` of K undetermined."""
    null = fit.basis.combinations[fit.basis.aliased]
    aliased = np.flatnonzero(fit.basis.aliased)
    k = np.asarray(K, dtype=float)[row]
    gap = k[aliased] - null @ k[fit.basis.kept]
    worst = int(np.argmax(np.abs(gap)))
    names = fit.names or tuple(f"column {j}" for j in range(k.size))
    combination = combination_text(null[worst], [names[j] for j in fit.basis.kept])
    where = f"row {row} of K" if len(K) > 1 else "the contrast"
    title = f"{name}: " if name else ""
    needed = null[worst] @ k[fit.basis.kept]
    return (
        f"{title}{where} is not estimable: in the data {names[aliased[worst]]} = {combination}, so "
        f"beside its other coefficients that of {names[aliased[worst]]} must be {number(needed)}, "
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


def orthonormal_rows(L):
    """Orthonormal basis of the row space of L, rows compared at their own sizes."""
    size = np.linalg.norm(L, axis=1)
    L = L[size > 0] / size[size > 0, None]
    if not len(L):
        return np.zeros((0, L.shape[1]))
    _, s, Vt = np.linalg.svd(L, full_matrices=False)
    return Vt[s > RANK_TOLERANCE * s[0]]


def particular_solution(L, rhs):
    """Some x with L x = rhs."""
    if not np.any(rhs):
        return np.zeros(L.shape[1])
    size = np.linalg.norm(L, axis=1)
    size[size == 0] = 1.0
    x = np.linalg.lstsq(L / size[:, None], rhs / size, rcond=RANK_TOLERANCE)[0]
    if not np.allclose(L @ x, rhs, rtol=1e-6, atol=1e-8 * np.abs(rhs).max()):
        raise ValueError(
            "rows of K depend on each other and their right-hand sides contradict each other: "
            f"no coefficients have K beta = {rhs.tolist()}"
        )
    return x
