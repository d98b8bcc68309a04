"""The posterior density of the variance parameters of a linear mixed model, and its mode.

Given these everything else is normal. With beta integrated out (Gelman et al. 2013, Bayesian Data
Analysis, chapter 15, for the construction)

    log p(y | theta, sigma) = -log |L|^2 / 2 - log |R_X| - (n - r) log sigma - r^2 / (2 sigma^2)

up to a constant, which at its largest over sigma is -1/2 of the REML criterion. A normal prior of
beta adds its precision times sigma^2 to X'X, and so to R_X and r^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from skmixed.linalg.system import NotPositiveDefinite
from skmixed.models.charts import Chart
from skmixed.models.deviance import ProfiledDeviance

# Steps of differences: of the chart and of priors, which are exact functions; of gradients.
_FINE, _COARSE = 1e-5, 1e-3
# Curvatures at the mode in free coordinates are not taken to be less.
_LEAST_CURVATURE = 0.05
# Gradient, in standard deviations of the posterior, at which the mode is found.
_AT_THE_MODE = 0.02


@dataclass(frozen=True)
class Flat:
    """Density 1 on the positive numbers."""

    proper = False

    def log(self, x):
        return np.zeros(x.shape)


@dataclass(frozen=True)
class Reciprocal:
    """Density 1 / x on the positive numbers."""

    proper = False

    def log(self, x):
        return -np.log(x)


@dataclass(frozen=True)
class HalfT:
    """Student's t with df degrees of freedom times scale, its positive half."""

    df: float
    scale: float
    proper = True

    def log(self, x):
        return -0.5 * (self.df + 1.0) * np.log1p((x / self.scale) ** 2 / self.df)


@dataclass(frozen=True)
class HalfNormal:
    """A normal distribution with this scale, its positive half."""

    scale: float
    proper = True

    def log(self, x):
        return -0.5 * (x / self.scale) ** 2


@dataclass(frozen=True)
class LogPrior:
    """Priors of everything.

    Attributes
    ----------
    sds : tuple
        A density for every standard deviation of the chart, in its order.
    etas : tuple of float
        Of LKJ(eta), a number for every term.
    sigma : density
    fixed : (r + 1, r + 1) or None
        [C m]'P[C m] for C gamma ~ N(m, P^-1), gamma and m in the engine's units.
    """

    sds: tuple
    etas: tuple[float, ...]
    sigma: Flat | Reciprocal | HalfT | HalfNormal
    fixed: np.ndarray | None = None

    def log(self, chart, V):
        """Log density (m,) of points V of the chart, up to a constant."""
        total = self.sigma.log(np.exp(V[:, -1])) + V[:, -1]
        for place, density in zip(chart.sds, self.sds, strict=True):
            total = total + density.log(np.exp(V[:, place])) + V[:, place]
        for term, eta in zip(chart.terms, self.etas, strict=True):
            if term.n_cor:
                total = total + term.log_cor(V, eta)
        return total


@dataclass(frozen=True)
class LogPosterior:
    """log p(v | y) up to a constant, for points v of a chart."""

    objective: ProfiledDeviance
    chart: Chart
    prior: LogPrior

    @property
    def _dof(self):
        return self.objective.n_obs - self.objective.rank

    def _added(self, sigma):
        return None if self.prior.fixed is None else sigma[:, None, None] ** 2 * self.prior.fixed

    def at(self, V):
        """Log density (m,) of points V (m, d), -inf where there is none, and their Summaries."""
        sigma = self.chart.sigma(V)
        with np.errstate(all="ignore"):
            found = self.objective.system.summaries(self.chart.factors(V), self._added(sigma))
            value = -0.5 * (found.log_det_u + found.log_det_x + found.pwrss / sigma**2)
            value += self.prior.log(self.chart, V) - self._dof * np.log(sigma)
        return np.where(np.isfinite(value), value, -np.inf), found

    def draws(self, V, normal):
        """Draws of random effects and of gamma in the engine's units, from standard normals."""
        sigma = self.chart.sigma(V)
        factors, added = self.chart.factors(V), self._added(sigma)
        return self.objective.system.draws(factors, sigma, normal, added)

    def value_and_gradient(self, v):
        """Log density at one point v (d,) and its derivative; -inf where there is none."""
        V, sigma = v[None], self.chart.sigma(v[None])
        system, added = self.objective.system, self._added(sigma)
        system = system if added is None else system.with_added(added[0])
        try:
            L = system.factor([T[0] for T in self.chart.factors(V)])
        except NotPositiveDefinite:
            return -np.inf, np.zeros(len(v))
        r2 = L.pwrss / sigma[0] ** 2
        value = -0.5 * (L.log_det_u + L.log_det_x + r2) - self._dof * np.log(sigma[0])
        G = L.information(fixed=1.0, response=r2)
        gradient = self._slopes(v, G)
        gradient[-1] += r2 - self._dof
        if added is not None:
            gradient[-1] -= _by_log_sigma(L, added[0], sigma[0])
        return value + self.prior.log(self.chart, V)[0], gradient

    def _slopes(self, v, G):
        """Derivative (d,) of the prior, and of the rest through T T' with the derivative -G / 2."""
        steps = _FINE * np.eye(len(v))
        V = np.vstack([v + steps, v - steps])
        prior = self.prior.log(self.chart, V)
        for T, own in zip(self.chart.factors(V), G, strict=True):
            prior = prior - 0.5 * np.einsum("mst,mut,su->m", T, T, own)
        return (prior[: len(v)] - prior[len(v) :]) / (2.0 * _FINE)

    def precision(self, v):
        """Minus the Hessian (d, d) at v by differences of gradients, made positive definite."""
        H = []
        for step in _COARSE * np.eye(len(v)):
            up, down = self.value_and_gradient(v + step)[1], self.value_and_gradient(v - step)[1]
            H.append((down - up) / (2.0 * _COARSE))
        values, vectors = np.linalg.eigh(0.5 * (np.array(H) + np.array(H).T))
        return vectors * np.maximum(np.abs(values), _LEAST_CURVATURE) @ vectors.T

    def mode(self, start):
        """(v, covariance): a mode near v, and the inverse of the precision there."""
        root = np.linalg.cholesky(np.linalg.inv(self.precision(start)))

        def criterion(w):
            value, gradient = self.value_and_gradient(start + root @ w)
            return (-value, -root.T @ gradient) if np.isfinite(value) else (1e300, 0.0 * w)

        found = minimize(
            criterion, np.zeros(len(start)), jac=True, method="BFGS",
            options={"gtol": _AT_THE_MODE, "maxiter": 200},
        )  # fmt: skip
        v = start + root @ found.x
        return v, np.linalg.inv(self.precision(v))

    def tails(self, v, which):
        """How fast the likelihood falls where standard deviations grow: -d log p / d log scale.

        which : places in v of the standard deviations that grow together.
        """
        values = []
        for size in (1e3, 1e4):
            V = v[None].copy()
            V[0, which] = V[0, -1] + np.log(size * self._scale(which))
            found = self.objective.system.summaries(self.chart.factors(V))
            values.append(0.5 * float(found.log_det_u[0] + found.log_det_x[0]))
        return (values[1] - values[0]) / np.log(10.0)

    def _scale(self, which):
        """Standard deviations of unit effects, in the user's units, at places in v."""
        V = np.zeros((1, self.chart.size))
        T = self.chart.factors(V)
        sizes = np.concatenate(
            [np.linalg.norm(T[t.term.group][0][t.term.columns, t.term.columns], axis=1)[: t.n_sd]
             for t in self.chart.terms]
        )  # fmt: skip
        by_place = dict(zip(self.chart.sds.tolist(), 1.0 / sizes, strict=True))
        return np.array([by_place[j] for j in which])


def _by_log_sigma(L, added, sigma):
    """Derivative by log sigma of (log |R_X|^2 + r^2 / sigma^2) / 2 through ``added``, sigma^2 K."""
    half = np.linalg.solve(L.fixed_root, added[:-1, :-1])
    trace = np.trace(np.linalg.solve(L.fixed_root, half.T))
    g = np.append(L.mode.fixed[:, 0], -1.0)
    return trace + g @ added @ g / sigma**2
