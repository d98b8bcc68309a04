"""Rows of the data with their response beside a fitted mixed model: residuals and leverages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed.families import Gaussian
from skmixed.models.marginal import marginal_mean

RESIDUALS = ("response", "pearson", "scaled", "studentized", "marginal", "deviance")
_NORMAL = Gaussian()
KINDS = (*RESIDUALS, "normalized")
# A row whose leverage is closer to 1 determines a coefficient alone: nothing is left of it.
_ALONE = 1e-10
# What sums of residuals may differ by between a fit and its rows: as a share of their own sizes,
# and of the largest numbers that they are differences of.
_SAME, _ROUNDING = 1e-6, 1e-10


@dataclass(frozen=True)
class ObservedRows:
    """Rows with their response, as a fit takes them.

    Attributes
    ----------
    fit : LMMFit or GLMMFit
    X : (n, p)
        All columns of the design.
    random : tuple of RandomTerm
        In the order of the fit's terms; code -1 for unknown levels, whose effects are 0.
    y : (n,)
        For the binomial family the proportion of successes.
    weights : (n,)
        Prior weights; for the binomial family numbers of trials.
    offset, frequencies : (n,) or None
        The offset, and how often each row counts.
    rows, n_input : (n,) and int
        Places of these rows in the input, and its number of rows.
    residual : tuple of ResidualTerm
        The residual structure on these rows.
    """

    fit: object
    X: np.ndarray
    random: tuple
    y: np.ndarray
    weights: np.ndarray
    offset: np.ndarray | None
    frequencies: np.ndarray | None
    rows: np.ndarray
    n_input: int
    residual: tuple = ()

    @property
    def family(self):
        """The family of the response."""
        return _NORMAL if self.fit.is_linear else self.fit.family

    @property
    def dispersion(self):
        """Residual variance, or the dispersion of the family."""
        return self.fit.sigma**2 if self.fit.is_linear else self.fit.dispersion

    @cached_property
    def fixed_part(self):
        """offset + X beta."""
        eta = self.fit.basis.orthonormal(self.X) @ self.fit.gamma
        return eta if self.offset is None else eta + self.offset

    @cached_property
    def expected(self):
        """offset + X beta and the smooth functions: what every random effect of 0 leaves."""
        if not self.fit.smooth_terms:
            return self.fixed_part
        return self.fixed_part + self.fit.smooth_part(self.random)

    @cached_property
    def eta(self):
        """offset + X beta + Z b."""
        return self.fixed_part + self.fit.random_part(self.random)

    @cached_property
    def mean(self):
        """E(y | b) at the conditional modes; NaN where eta is outside of the family's range."""
        low, high = self.family.predictor_range
        mean = self.family.mean(self.eta)
        inside = (self.eta >= low) & (self.eta <= high) & np.isfinite(mean)
        return np.where(inside, mean, np.nan)

    @cached_property
    def counts(self):
        """How often every row counts (n,)."""
        return np.ones(len(self.y)) if self.frequencies is None else self.frequencies

    @cached_property
    def derivatives(self):
        """(score, weight) of every row, see ``row_derivatives`` of the fit."""
        with np.errstate(all="ignore"):
            return self.fit.row_derivatives(self.eta, self.y, self.weights)

    @cached_property
    def variances(self):
        """Variances (n,) of eta at the joint mode, in units of sigma^2."""
        return self.fit.mode_variances(self.X, self.random)

    @cached_property
    def leverage(self):
        """h (n,): how much its own response moves each row's mean, theta being held."""
        return np.where(self.derivatives[1] == 0, 0.0, self.derivatives[1] * self.variances)

    @cached_property
    def _left(self):
        """1 - h, NaN where a row alone determines a coefficient."""
        return np.where(self.leverage > 1.0 - _ALONE, np.nan, 1.0 - self.leverage)

    def cooks_distance(self):
        """Cook's distance (n,): the length of the step that leaving a row out makes.

        The step is that of Newton's method from the joint mode, which for linear models is exact.
        """
        score = self.derivatives[0]
        with np.errstate(invalid="ignore"):
            return (score / self._left) ** 2 * self.variances / max(self.fit.rank, 1)

    def over_input(self, values):
        """Values (n, ...) of these rows over all rows of the input, NaN elsewhere."""
        return over_input(values, self.rows, self.n_input)

    # Residuals

    def residuals(self, kind):
        """Residuals (n,) of one of the KINDS."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return getattr(self, f"_{kind}")()

    def _response(self):
        return self.y - self.mean

    def _marginal(self):
        if self.family.link.name == "identity":
            return self.y - self.expected
        random = self.fit.chosen(self.random, smooth=False) if self.random else ()
        variance = np.broadcast_to(self.fit.random_variance(random), self.y.shape)
        return self.y - marginal_mean(self.family, self.expected, variance)

    def _pearson(self):
        gap = self.y - self.mean
        variance = self.family.variance(self.mean, self.dispersion)
        found = np.where(gap == 0, 0.0, gap * np.sqrt(self.weights / variance))
        return found / self.fit.residual.sd(self.residual) if self.residual else found

    def _scaled(self):
        scale = np.sqrt(self.dispersion) if self.family.scale else 1.0
        return self._pearson() / scale

    def _normalized(self):
        if not self.residual:
            return self._scaled()
        gap = (self.y - self.mean) * np.sqrt(self.weights)
        return self.fit.residual.whitened(self.residual, gap) / self.fit.sigma

    def _studentized(self):
        return self._scaled() / np.sqrt(self._left)

    def _deviance(self):
        unit = self.family.unit_deviance(self.y, self.mean, self.dispersion)
        size = np.sqrt(self.weights * np.maximum(unit, 0.0))
        return np.where(self.y == self.mean, 0.0, np.copysign(size, self.y - self.mean))

    # The rows of the fit

    def whitened(self):
        """Rows of X (n, r) in coordinates in which the coefficients have covariance sigma^2 I."""
        return self.fit.unscaled_on_basis(self.fit.basis.orthonormal(self.X))

    def check_fitted_to(self, what):
        """An error if these are not the rows, responses and weights of the fit, in any order.

        A fit keeps no row. But its equations hold for its own rows alone: the modes of the random
        effects follow from sums of residuals by level, and in linear models the sums of residuals
        times columns of X vanish.
        """
        if self.residual:
            raise ValueError(
                f"{what} is known for models whose residuals are independent with one variance, "
                "and this one has a residual structure"
            )
        n = float(self.counts[self.weights > 0].sum())
        if n != self.fit.n_obs:
            raise ValueError(
                f"{what} is about the rows of the fit: the fit had {self.fit.n_obs:g} rows, X has "
                f"{n:g}. Pass the data of the fit, with its sample_weight if it had one"
            )
        if not all(self._equations()):
            raise ValueError(
                f"{what} is about the rows of the fit, and these are other rows: their sums of "
                "residuals are not those of the fit. Pass the data of the fit, with its "
                "sample_weight if it had one"
            )

    def _equations(self):
        """Whether each of the equations of the fit holds for these rows."""
        own = self.weights * (self.y - self.eta) if self.fit.is_linear else self.derivatives[0]
        scores = self.counts * np.where(self.derivatives[1] == 0, 0.0, own)
        size = self.counts * np.abs(self.derivatives[1]) * np.abs(self.y).max(initial=0.0)
        modes, layout = self.fit.modes, self.fit.layout
        T = layout.factors(self.fit.optimum.theta)
        sums, sizes = [[] for _ in T], [[] for _ in T]
        found = [[] for _ in T]
        for term, at, own in zip(self.random, layout.terms, modes, strict=True):
            if (term.codes < 0).any():
                yield False
                return
            rows = at.rows(term)
            sums[at.group].append(rows.at_levels(rows.sums(scores)))
            absolute = replace(rows, z=np.abs(rows.z))
            sizes[at.group].append(rows.at_levels(absolute.sums(size)))
            found[at.group].append(own.T)
        for t, c, s, b in zip(T, sums, sizes, found, strict=True):
            b, whole = np.concatenate(b), t @ t.T
            allowed = _SAME * np.abs(b).max() + _ROUNDING * np.abs(whole @ np.concatenate(s)).max()
            yield np.abs(whole @ np.concatenate(c) - b).max() <= allowed
        if self.fit.is_linear:
            Q = self.fit.basis.orthonormal(self.X)
            allowed = _SAME * np.abs(scores) @ np.abs(Q) + _ROUNDING * size @ np.abs(Q)
            yield (np.abs(scores @ Q) <= allowed).all()


def over_input(values, rows, n_input):
    """Values of the rows that were kept over all rows of the input, NaN elsewhere."""
    if len(values) == n_input:
        return values
    full = np.full((n_input, *values.shape[1:]), np.nan)
    full[rows] = values
    return full
