"""Denominator degrees of freedom: Satterthwaite and Kenward-Roger.

Functions of a SecondOrder record, coefficients beta (p,) and rows L (d, p), these two on the
record's basis of X and in units of the response. Nothing here looks at data.

References
----------
Satterthwaite (1946), An approximate distribution of estimates of variance components,
Biometrics Bulletin 2, 110-114; Fai and Cornelius (1996), Approximate F-tests of multiple degree
of freedom hypotheses, Journal of Statistical Computation and Simulation 54, 363-378, for several
rows.
Kenward and Roger (1997), Small sample inference for fixed effects from restricted maximum
likelihood, Biometrics 53, 983-997; Halekoh and Hojsgaard (2014), Journal of Statistical Software
59(9), for the form of the computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from scipy import stats

METHODS = ("satterthwaite", "kenward_roger", "residual", "asymptotic")
# Eigenvalues of the correlation of L beta below this share of the largest are no row of their own.
_DEPENDENT = 1.5e-8
# Degrees of freedom of rows closer than this are one number.
_EQUAL = 1e-8
# Relative difference of records that rounding alone tells apart at which nothing is known.
_NOTHING = 2e-3
# What two records differ by tells the error to a factor of some ten.
_SAFETY = 10.0


@dataclass(frozen=True)
class RowTests:
    """t tests of single rows: estimate, std_error, df, rhs, t and p_value, each (d,).

    Infinite degrees of freedom make t a z; an estimate without bound has no t.
    """

    estimate: np.ndarray
    std_error: np.ndarray
    df: np.ndarray
    rhs: np.ndarray | float = 0.0

    @property
    def t(self):
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (self.estimate - self.rhs) / self.std_error
        return np.where(np.isinf(self.std_error), np.nan, t)

    @property
    def p_value(self):
        return 2.0 * stats.t.sf(np.abs(self.t), self.df)

    def limits(self, level):
        """Limits (lower, upper), each (d,), of intervals of one level."""
        with np.errstate(invalid="ignore"):
            reach = stats.t.isf((1.0 - level) / 2.0, self.df) * self.std_error
        return self.estimate - reach, self.estimate + reach

    def where(self, known):
        """NaN in the place of all numbers but those known."""
        own = (np.where(known, x, np.nan) for x in (self.estimate, self.std_error, self.df))
        return RowTests(*own, self.rhs)


@dataclass(frozen=True)
class JointTest:
    """F test of several rows; F includes Kenward and Roger's ``scale``."""

    df_num: int
    df_den: float
    F: float
    scale: float = 1.0

    @property
    def p_value(self):
        if not self.df_num:
            return np.nan
        if np.isinf(self.df_den):
            return float(stats.chi2.sf(self.df_num * self.F, self.df_num))
        return float(stats.f.sf(self.F, self.df_num, self.df_den))


def row_tests(record, beta, L, method="satterthwaite") -> RowTests:
    """t tests of L beta = 0 row by row.

    Raises
    ------
    ValueError
        For an unknown method, and for Kenward-Roger on a fit by maximum likelihood.
    """
    check_method(method, record.reml)
    L = np.asarray(L, dtype=float)
    df, variance = _known(record, lambda r: _row_numbers(r, L, method))
    with np.errstate(invalid="ignore"):  # without digits an adjusted variance may be negative
        return RowTests(L @ beta, record.sigma * np.sqrt(variance), df)


def _row_numbers(record, L, method):
    """(df, variances of L beta over sigma^2), (2, d)."""
    if method == "kenward_roger":
        covariance = kenward_roger_covariance(record)
        df = np.array([_kenward_roger(record, row[None])[0] for row in _scaled_rows(record, L)])
    else:
        covariance = record.Phi
        df = _plain_df(record, L, method)
    return np.array([df, _quadratic(L, covariance)])


def _known(record, numbers):
    """numbers(record), NaN where its twin contradicts it."""
    found = np.asarray(numbers(record))
    return np.where(_gap(record, found, numbers) <= _NOTHING, found, np.nan)


def _gap(record, found, numbers):
    """Relative differences between what a record and its twin say."""
    if record.twin is None:
        return np.zeros(found.shape)
    other = np.asarray(numbers(record.twin))
    with np.errstate(invalid="ignore"):
        gap = np.abs(other - found) / np.maximum(np.abs(found), 1e-300)
    return np.where(other == found, 0.0, np.where(np.isnan(gap), np.inf, gap))


def uncertainty(record, L, method) -> float:
    """Relative error that rounding and the end of the search may leave in df of rows L."""
    L = L[_quadratic(L, record.Phi) > 0]
    if record.twin is None or not len(L):
        return 0.0
    found = _row_numbers(record, L, method)
    return _SAFETY * float(_gap(record, found, lambda r: _row_numbers(r, L, method)).max())


def joint_test(record, beta, L, method="satterthwaite") -> JointTest:
    """F test of L beta = 0; rows that depend on others count once.

    With ``satterthwaite`` the degrees of freedom depend on the rows that are chosen to span the
    hypothesis; F never does.

    Raises
    ------
    ValueError
        For an unknown method, and for Kenward-Roger on a fit by maximum likelihood.
    """
    check_method(method, record.reml)
    rows = _independent(record, np.asarray(L, dtype=float))
    q = len(rows)
    if not q:
        return JointTest(0, np.nan, np.nan)
    estimate = rows @ beta / record.sigma
    if method == "kenward_roger":
        df, scale = _known(record, lambda r: _kenward_roger(r, _independent(r, rows)))
        adjusted = rows @ kenward_roger_covariance(record) @ rows.T
        return JointTest(q, df, float(scale * estimate @ np.linalg.solve(adjusted, estimate) / q),
                         scale)  # fmt: skip
    df = _known(record, lambda r: _pooled_df(_plain_df(r, rows, method)))
    return JointTest(q, float(df), float(estimate @ estimate / q))


def satterthwaite_df(record, L) -> np.ndarray:
    """2 var^2 / Var(var) (d,) of the variances of the rows of L beta."""
    variance = _quadratic(L, record.Phi)
    slopes = np.einsum("di,vij,dj->dv", L, record.dPhi, L)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2.0 * variance**2 / _quadratic(slopes, record.covariance)


def kenward_roger_covariance(record) -> np.ndarray:
    """Covariance (p, p) of the coefficients adjusted for the estimation of V, over sigma^2."""
    Phi, P, W = record.Phi, record.P, record.expected_covariance
    middle = np.tensordot(W, record.Q, 2)
    middle -= np.einsum("rs,rij,jk,skl->il", W, P, Phi, P, optimize=True)
    middle = (middle + middle.T) / 2
    return Phi + 2.0 * Phi @ middle @ Phi


def check_method(method, reml):
    """An error for an unknown method, and for Kenward-Roger on a fit by maximum likelihood."""
    if method not in METHODS:
        near = get_close_matches(str(method), METHODS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"ddf must be one of {', '.join(METHODS)}, got {method!r}{hint}")
    if method == "kenward_roger" and not reml:
        raise ValueError(
            "Kenward and Roger's degrees of freedom are defined for fits by restricted maximum "
            "likelihood, and this model was fitted by maximum likelihood: fit it with reml=True"
        )


def _plain_df(record, L, method):
    if method == "satterthwaite":
        return satterthwaite_df(record, L)
    residual = record.n_obs - len(record.Phi)
    return np.full(len(L), residual if method == "residual" else np.inf)


def _quadratic(L, A):
    """l' A l for every row."""
    return np.einsum("di,ij,dj->d", L, A, L)


def _scaled_rows(record, L):
    """Rows with l' Phi l = 1."""
    size = np.sqrt(_quadratic(L, record.Phi))
    return L / np.where(size > 0, size, 1.0)[:, None]


def _independent(record, L):
    """Rows U'L / sqrt(e) with L Phi L' = U diag(e) U', without those that depend on others.

    How many there are is decided with every row at its own size, so that units do not matter.
    """
    if not len(L):
        return L
    V = L @ record.Phi @ L.T
    size = np.sqrt(V.diagonal())
    size[size == 0] = 1.0
    scaled = np.linalg.eigvalsh(V / np.outer(size, size))
    rank = int((scaled > _DEPENDENT * max(scaled[-1], 0.0)).sum())
    e, U = np.linalg.eigh(V)
    first = len(e) - rank
    return U[:, first:].T @ L / np.sqrt(e[first:, None])


def _pooled_df(df):
    """Denominator of the F statistic whose mean is that of the average of squared t(df)."""
    q = len(df)
    if q == 1 or np.ptp(df) < _EQUAL or np.isinf(df).all():
        return float(df.mean())
    if (df <= 2).any():
        return 2.0
    with np.errstate(invalid="ignore"):
        expected = float(np.where(np.isinf(df), 1.0, df / (df - 2.0)).sum())
    return 2.0 * expected / (expected - q)


def _kenward_roger(record, rows):
    """(df, scale) for rows with L Phi L' = I."""
    q, W = len(rows), record.expected_covariance
    half = rows @ record.Phi
    u = half @ record.P @ half.T
    trace = np.einsum("rii->r", u)
    A1 = float(trace @ W @ trace)
    A2 = float(np.einsum("rs,rij,sji->", W, u, u))
    if A2 <= 0:
        return np.inf, 1.0
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    D = 3.0 * q + 2.0 * (1.0 - g)
    V0, V1, V2 = 1.0 + g / D * B, 1.0 - (q - g) / D * B, 1.0 - (q + 2 - g) / D * B
    V0 = 0.0 if abs(V0) < 1e-10 else V0
    E = 1.0 - A2 / q
    ratio = 1.0 if max(abs(E), abs(V1)) < 1e-14 else E / V1
    excess = ratio**2 * V0 / V2 - 1.0  # q rho - 1
    df = 4.0 + (q + 2) / excess if excess else np.inf
    if np.isinf(df):
        return df, E
    return df, 1.0 if abs(df - 2.0) < 0.01 else df * E / (df - 2.0)
