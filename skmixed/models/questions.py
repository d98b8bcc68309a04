"""What every fit is asked about its fixed effects, whatever model it is of: functions K beta.

K (d, p) has a coefficient for every column of X, columns that were left out included. A row is
estimable if K beta is the same for all solutions of the normal equations; of other rows estimates
and covariances are NaN.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from skmixed.linalg.rank import ColumnBasis

# A contrast is estimable up to rounding: this share of its own terms, and so much of its largest
# coefficient in units of the columns.
CONTRAST_TOLERANCE = 1e-8
CONTRAST_NOISE = 1e-13


class Questions:
    """Answers about K beta from a basis of the columns of X and the estimates on it.

    A fit has ``basis`` (ColumnBasis), ``n_obs``, ``names`` (of the p columns of X), ``terms``
    (their FixedTerms) and what is abstract below. ``df_methods`` names the kinds of degrees of
    freedom that tests of it can have, the default first; without random effects those of
    Satterthwaite and of Kenward and Roger are the residual ones. ``no_other_df`` says why there
    are no others; ``reml`` whether sigma allows for the estimated coefficients; ``of_curves``
    whether the mean is a curve, which no K beta is.
    """

    basis: ColumnBasis
    df_methods: tuple[str, ...] = ("residual", "satterthwaite", "kenward_roger", "asymptotic")
    no_other_df: str = ""
    is_mixed: bool = False
    of_curves: bool = False

    @property
    @abstractmethod
    def estimates(self) -> np.ndarray:
        """Coefficients (r,) of the orthogonal basis."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """Residual standard deviation sigma; 1 where the family has none."""

    @property
    @abstractmethod
    def whitened(self) -> np.ndarray:
        """Estimates (r,) in coordinates where their covariance is sigma^2 I."""

    @abstractmethod
    def unscaled(self, K) -> np.ndarray:
        """H (d, r) with ``K beta = H whitened`` and ``Var(K beta) = sigma^2 H H'``."""

    def in_basis(self, K) -> np.ndarray:
        """L (d, r) with ``K beta = L estimates`` for estimable K."""
        return np.asarray(K, dtype=float)[:, self.basis.kept] @ self.basis.to_coef

    def is_estimable(self, K) -> np.ndarray:
        """(d,) bool: whether K beta has one value for all solutions."""
        gap, size = gap_to_row_space(self.basis, K)
        # Entries that are rounding beside the largest one, in units of the columns, are zeros.
        units = column_rms(self.basis)
        noise = CONTRAST_NOISE * (np.abs(K) / units).max(axis=1, initial=0.0)
        allowed = CONTRAST_TOLERANCE * size + np.multiply.outer(noise, units[self.basis.aliased])
        return (np.abs(gap) <= allowed).all(axis=1)

    def estimate(self, K) -> np.ndarray:
        """K beta (d,), NaN where it is not estimable."""
        return np.where(self.is_estimable(K), self.in_basis(K) @ self.estimates, np.nan)

    def cov(self, K) -> np.ndarray:
        """Covariance (d, d) of the estimates of K beta, NaN where one is not estimable."""
        half = np.where(self.is_estimable(K)[:, None], self.unscaled(K), np.nan)
        with np.errstate(invalid="ignore"):
            return np.square(self.scale) * (half @ half.T)


def column_rms(basis) -> np.ndarray:
    """Root mean square (p,) of every column, 1 for columns of zeros."""
    mean = basis.center + basis.offset
    if basis.intercept is not None:
        mean = np.where(basis.kept == basis.intercept, 1.0, mean)
    rms = np.hypot(basis.size, basis.combinations @ mean)
    if basis.intercept is not None:
        rms[basis.intercept] = basis.size[basis.intercept]
    return np.where(rms > 0, rms, 1.0)


def gap_to_row_space(basis, K):
    """(gap, size) (d, p - r) between the aliased columns of K and what they should be."""
    K = np.asarray(K, dtype=float)
    combinations = basis.combinations[basis.aliased].T
    kept = K[:, basis.kept]
    expected = kept @ combinations
    actual = K[:, basis.aliased]
    return actual - expected, np.abs(actual) + np.abs(kept) @ np.abs(combinations)


def estimable_part(fit, K):
    """A (k, d) such that the rows of A K span all estimable functions among those of K (d, p).

    The identity where every row is estimable; else orthonormal rows.
    """
    K = np.asarray(K, dtype=float)
    if fit.is_estimable(K).all():
        return np.eye(len(K))
    gap, _ = gap_to_row_space(fit.basis, K)
    U, s, _ = np.linalg.svd(gap / column_rms(fit.basis)[fit.basis.aliased])
    return U[:, int((s > CONTRAST_TOLERANCE * s[0]).sum()) :].T
