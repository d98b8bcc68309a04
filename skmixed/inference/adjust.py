"""Adjustments of p-values and limits for several comparisons in one family.

Step procedures are statsmodels'; the methods that rest on a distribution of the largest statistic
are computed here, each contrast with its own degrees of freedom. A contrast that is not estimable
(NaN) keeps its place in the family: the size of a family does not depend on the data.

References
----------
Hochberg and Tamhane (1987), Multiple Comparison Procedures. Lenth, emmeans (R package), for the
approximation of Dunnett's distribution by that of a studentized range.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import ndtr
from statsmodels.stats.multitest import multipletests

# Our short names of statsmodels' methods; its own names are taken too.
STEP_METHODS = {
    "bonferroni": "bonferroni",
    "sidak": "sidak",
    "holm": "holm",
    "holm-sidak": "holm-sidak",
    "simes-hochberg": "simes-hochberg",
    "hochberg": "simes-hochberg",
    "hommel": "hommel",
    "fdr": "fdr_bh",
    "fdr_bh": "fdr_bh",
    "fdr_by": "fdr_by",
    "fdr_tsbh": "fdr_tsbh",
    "fdr_tsbky": "fdr_tsbky",
}
MAXIMUM_METHODS = ("tukey", "dunnettx", "mvt", "scheffe")
METHODS = ("none", *STEP_METHODS, *MAXIMUM_METHODS)
# Correlations this close to products of two factors are such products.
_ONE_FACTOR = 1e-8
# Eigenvalues of a correlation matrix below this share of the largest are zeros.
_DEPENDENT = 1e-10
# Sidak's formula takes the logarithm of 1 - p.
_BELOW_ONE = np.nextafter(1.0, 0.0)
# 2 to this many directions: probabilities to some 1e-5, the same in every call.
_LOG_DIRECTIONS, _SEED = 15, 1
# Degrees of freedom that agree to this share have one critical value.
_SAME_DF = 1e-6


@dataclass(frozen=True)
class Family:
    """Contrasts that are judged together.

    Attributes
    ----------
    t : (m,)
        t statistics, NaN where a contrast is not estimable.
    df : (m,)
        Their degrees of freedom, infinity for z.
    n_means : int
        Number of means that are compared.
    correlation : (m, m), optional
        Of the estimates; only ``mvt`` needs it.
    rank : int, optional
        Independent contrasts among them; only ``scheffe`` needs it.
    """

    t: np.ndarray
    df: np.ndarray
    n_means: int
    correlation: np.ndarray | None = None
    rank: int | None = None

    def __len__(self):
        return len(self.t)

    @property
    def known(self):
        """Contrasts with a statistic."""
        return ~np.isnan(self.t)

    @cached_property
    def p_value(self):
        """Two-sided p-values (m,) of the contrasts by themselves."""
        return 2.0 * stats.t.sf(np.abs(self.t), self.df)

    @cached_property
    def least_df(self):
        return float(np.min(self.df[self.known])) if self.known.any() else np.inf


def adjusted_p_values(family, method) -> np.ndarray:
    """p-values (m,) adjusted for the size of the family.

    Parameters
    ----------
    family : Family
    method : str
        One of :data:`METHODS`.

    Raises
    ------
    ValueError
    """
    check_method(method)
    known, result = family.known, np.full(len(family), np.nan)
    if not known.any():
        return result
    if method in STEP_METHODS:
        # at 1 a contrast without a p-value counts for the size and changes no other one
        p = np.minimum(np.where(known, family.p_value, 1.0), _BELOW_ONE)
        found = multipletests(p, method=STEP_METHODS[method])[1]
        return np.where(known, np.minimum(found, 1.0), np.nan)
    if method == "none" or len(family) == 1:
        return family.p_value
    tail = _TAILS[method](family)
    for i in np.flatnonzero(known):
        result[i] = tail(abs(family.t[i]), family.df[i])
    return np.clip(result, 0.0, 1.0)


def critical_values(family, method, level=0.95) -> np.ndarray:
    """Multiples (m,) of the standard errors that reach simultaneous limits.

    Procedures in steps have no limits of their own; theirs are Bonferroni's.

    Raises
    ------
    ValueError
    """
    check_method(method)
    alpha, m, df = 1.0 - level, len(family), family.df
    if method == "none" or m == 1:
        return stats.t.isf(alpha / 2, df)
    if method == "sidak":
        return stats.t.isf(-np.expm1(np.log(level) / m) / 2, df)
    if method in STEP_METHODS:
        return stats.t.isf(alpha / m / 2, df)
    result = np.full(m, np.nan)
    if method == "scheffe":
        with np.errstate(invalid="ignore"):
            return np.sqrt(family.rank * _f_isf(alpha, family.rank, df))
    if method == "tukey":
        limit = lambda nu: _range_quantile(level, family.n_means, float(f"{nu:.8g}"))  # noqa: E731
    else:
        tail = _TAILS[method](family)
        limit = lambda nu: _solved(tail, alpha, m, nu)  # noqa: E731
    known = family.known
    while known.any():
        nu = family.least_df if method == "mvt" else df[known][0]
        same = known if method == "mvt" else known & np.isclose(df, nu, rtol=_SAME_DF, atol=0.0)
        result[same] = limit(nu)
        known = known & ~same
    return result


@lru_cache(maxsize=256)
def _range_quantile(level, n_means, df):
    """Of the studentized range, over sqrt(2); families of one size often share it."""
    return stats.studentized_range.ppf(level, n_means, df) / np.sqrt(2.0)


def check_method(method):
    if method not in METHODS:
        raise ValueError(f"adjust must be one of {', '.join(METHODS)}, got {method!r}")


def _solved(tail, alpha, m, nu):
    """The statistic whose adjusted p-value is alpha: above the single one, below Bonferroni's."""
    low, high = stats.t.isf(alpha / 2, nu), 1.01 * stats.t.isf(alpha / m / 4, nu)
    return brentq(lambda t: tail(t, nu) - alpha, 0.99 * low, high, xtol=1e-10)


def _tukey(family):
    """Range of all means; the pairs of one set."""
    return lambda t, df: stats.studentized_range.sf(np.sqrt(2.0) * t, family.n_means, df)


def _dunnettx(family):
    """Close to Dunnett's distribution for comparisons with one control."""
    m = len(family)
    size = (1.0 + np.sqrt(1.0 + 8.0 * m)) / 2.0

    def tail(t, df):
        inside = stats.studentized_range.cdf(np.sqrt(2.0) * t, size, df)
        alone = 1.0 - 2.0 * stats.t.sf(t, df)
        return 1.0 - ((m - 1) / m * inside + alone**m / m)

    return tail


def _scheffe(family):
    r = family.rank
    return lambda t, df: stats.chi2.sf(t**2, r) if np.isinf(df) else stats.f.sf(t**2 / r, r, df)


def _f_isf(alpha, r, df):
    finite = np.where(np.isinf(df), 1.0, df)
    return np.where(np.isinf(df), stats.chi2.isf(alpha, r) / r, stats.f.isf(alpha, r, finite))


def _mvt(family):
    """Multivariate t with the family's correlation and its smallest degrees of freedom."""
    R = family.correlation[np.ix_(family.known, family.known)]
    lam = one_factor(R)
    if lam is not None:
        return lambda t, df: 1.0 - _by_quadrature(t, lam, family.least_df)
    shape = _largest_along_directions(R)
    return lambda t, df: 1.0 - _by_directions(t, shape, family.least_df)


def one_factor(R):
    """lam (m,) with R_ij = lam_i lam_j off the diagonal, None if there is none."""
    if len(R) < 3:
        rho = R[0, 1] if len(R) == 2 else 0.0
        lam = np.sqrt(abs(rho)) * np.array([1.0, np.sign(rho) or 1.0])[: len(R)]
        return lam if (np.abs(lam) < 1 - _ONE_FACTOR).all() else None
    first = next((j for j in range(2, len(R)) if abs(R[1, j]) > _ONE_FACTOR), None)
    if first is None:
        return None
    square = R[0, 1] * R[0, first] / R[1, first]
    if not _ONE_FACTOR < square < 1.0:
        return None
    lam = np.append(np.sqrt(square), R[0, 1:] / np.sqrt(square))
    gap = np.abs(np.outer(lam, lam) - R)
    np.fill_diagonal(gap, 0.0)
    return lam if gap.max() < _ONE_FACTOR and (np.abs(lam) < 1 - _ONE_FACTOR).all() else None


def _by_quadrature(t, lam, df):
    """P(max |T| <= t) for correlations lam_i lam_j: given the factor they are independent."""
    z, w = np.polynomial.legendre.leggauss(96)
    z, w = 9.0 * z, 9.0 * w * np.exp(-((9.0 * z) ** 2) / 2) / np.sqrt(2 * np.pi)
    s, ws = _scale_nodes(df)
    spread = np.sqrt(1.0 - lam**2)
    shift, reach = np.multiply.outer(z, lam), t * s[:, None, None]
    inside = ndtr((reach - shift) / spread) - ndtr((-reach - shift) / spread)
    return float(ws @ inside.prod(axis=-1) @ w)


def _scale_nodes(df):
    """Nodes and weights of sqrt(chi2_df / df)."""
    if np.isinf(df):
        return np.ones(1), np.ones(1)
    low, high = stats.chi.ppf(1e-14, df), stats.chi.isf(1e-14, df)
    x, w = np.polynomial.legendre.leggauss(64)
    s = (high - low) / 2 * x + (high + low) / 2
    return s / np.sqrt(df), w * (high - low) / 2 * stats.chi.pdf(s, df)


def _by_directions(t, shape, df):
    """P(max |T| <= t): the radius integrated exactly, directions by quasi Monte Carlo."""
    rank, largest = shape
    reach = (t / largest) ** 2
    law = stats.chi2.cdf(reach, rank) if np.isinf(df) else stats.f.cdf(reach / rank, rank, df)
    return float(law.mean())


def _largest_along_directions(R):
    """(rank, largest (N,)): the largest |contrast| on directions spread evenly over the sphere."""
    root = _root_in_order(R)
    rank = root.shape[1]
    points = stats.qmc.Sobol(rank, seed=_SEED).random_base2(_LOG_DIRECTIONS)
    z = stats.norm.ppf(np.clip(points, 1e-12, 1 - 1e-12))
    z /= np.linalg.norm(z, axis=1)[:, None]
    return rank, np.abs(z @ root.T).max(axis=1)


def _root_in_order(R):
    """root (m, rank) with root root' = R, row by row, so that it does not turn with rounding.

    Eigenvectors of equal eigenvalues would, and the sum over directions with them.
    """
    left, columns = R.copy(), []
    for j in range(len(R)):
        if left[j, j] > _DEPENDENT * R[j, j]:
            columns.append(left[:, j] / np.sqrt(left[j, j]))
            left = left - np.outer(columns[-1], columns[-1])
    return np.column_stack(columns)


_TAILS = {"tukey": _tukey, "dunnettx": _dunnettx, "mvt": _mvt, "scheffe": _scheffe}
