"""Standard deviations, correlations and sigma as functions of (theta, log sigma).

Each is read off the rows of A = M T, in the user's covariates: the covariance of a term's effects
is sigma^2 A A'. Row i is linear in theta, a_i = B_i theta. Where sigma is 1, as in generalised
models, x has no entry for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.models.layout import CovarianceLayout
from skmixed.models.residual import FittedResidual


@dataclass(frozen=True)
class Sigma:
    """The residual standard deviation, in units of a fixed value of it."""

    at: int

    def __call__(self, x):
        """(value, gradient, hessian) at x = (theta, log sigma, ...)."""
        gradient, H = np.zeros(len(x)), np.zeros((len(x), len(x)))
        value = float(np.exp(x[self.at]))
        gradient[self.at] = H[self.at, self.at] = value
        return value, gradient, H


@dataclass(frozen=True)
class StandardDeviation:
    """sigma |a_i| of one effect; of a term with one effect sigma a, with the sign of theta.

    rows (s, k): a_i = rows @ theta[place].
    """

    sigma_at: int | None
    place: np.ndarray
    rows: np.ndarray

    def __call__(self, x):
        """(value, gradient, hessian) at x = (theta, log sigma if ``sigma_at``, ...)."""
        at, n = self.place, self.sigma_at
        a, sigma = self.rows @ x[at], 1.0 if n is None else float(np.exp(x[n]))
        gradient, H = np.zeros(len(x)), np.zeros((len(x), len(x)))
        if len(a) == 1:
            length, unit, bend = float(a[0]), np.ones(1), np.zeros((1, 1))
        else:
            length = float(np.linalg.norm(a))
            unit = a / length if length else a
            bend = (np.eye(len(a)) - np.outer(unit, unit)) / (length or 1.0)
        value = sigma * length
        gradient[at] = sigma * (unit @ self.rows)
        H[np.ix_(at, at)] = sigma * self.rows.T @ bend @ self.rows
        if n is not None:
            H[at, n] = H[n, at] = gradient[at]
            gradient[n] = H[n, n] = value
        return value, gradient, H


@dataclass(frozen=True)
class Correlation:
    """Correlation of two effects of a term: the cosine between a_i and a_j."""

    place: np.ndarray
    rows: np.ndarray
    other: np.ndarray

    def __call__(self, x):
        """(value, gradient, hessian) at x = (theta, ...)."""
        at = self.place
        gradient, H = np.zeros(len(x)), np.zeros((len(x), len(x)))
        (length, u), (size, v) = (_length_and_unit(B @ x[at]) for B in (self.rows, self.other))
        if not length or not size:
            return np.nan, gradient, H
        c = float(u @ v)
        gradient[at] = (v - c * u) / length @ self.rows + (u - c * v) / size @ self.other
        eye, uv = np.eye(len(u)), np.outer(u, v)
        uu, vv = np.outer(u, u), np.outer(v, v)
        cross = self.rows.T @ (eye - uu - vv + c * uv) @ self.other / (length * size)
        block = cross + cross.T
        for B, own, s in ((self.rows, uu, length), (self.other, vv, size)):
            block += B.T @ (3 * c * own - uv - uv.T - c * eye) @ B / s**2
        H[np.ix_(at, at)] = block
        return c, gradient, H


@dataclass(frozen=True)
class NaturalParameter:
    """One parameter of a structured term: its sd times sigma, a correlation or a range."""

    layout: CovarianceLayout
    term: int
    number: int
    sigma_at: int | None

    def __call__(self, x):
        """(value, gradient, hessian) at x = (theta, log sigma if ``sigma_at``, ...)."""
        at, found = self.layout.natural(x[: self.layout.n_theta], self.term)
        p, n = found[self.number], self.sigma_at
        is_sd = p.kind == "sd"
        sigma = float(np.exp(x[n])) if is_sd and n is not None else 1.0
        scale = sigma * self.layout.natural_unit(self.term, p)
        gradient, H = np.zeros(len(x)), np.zeros((len(x), len(x)))
        value = scale * p.value
        gradient[at] = scale * p.gradient
        H[np.ix_(at, at)] = scale * p.hessian
        if is_sd and n is not None:
            H[at, n] = H[n, at] = gradient[at]
            gradient[n] = H[n, n] = value
        return value, gradient, H


@dataclass(frozen=True)
class ResidualParameter:
    """One parameter of the residuals: ``number`` of FittedResidual.natural, -1 for sigma."""

    residual: FittedResidual
    number: int
    sigma_at: int

    def __call__(self, x):
        """(value, gradient, None) at x = (theta, log sigma, rho)."""
        n, rho = self.sigma_at, x[self.sigma_at + 1 :]
        structure = self.residual.structure
        gradient = np.zeros(len(x))
        if self.number < 0:
            value = float(np.exp(x[n] - structure.reference(rho)))
            slope = -value * structure.reference_slope(rho)
            slope[-1] = value
        else:
            p = structure.natural(rho)[self.number]
            scale = np.exp(x[n]) if p.kind == "sd" else 1.0
            value, slope = scale * p.value, scale * p.gradient
        gradient[n + 1 :], gradient[n] = slope[:-1], slope[-1]
        return value, gradient, None


def with_residual(components, residual) -> list[Component]:
    """The components of a model with a residual structure, whose sigma comes last among them.

    Where the structure has standard deviations of its own these take the place of sigma.
    """
    *found, sigma = components
    at, natural = sigma.function.at, residual.natural()
    if not any(p.kind == "sd" for p in natural):
        found.append(replace(sigma, function=ResidualParameter(residual, -1, at)))
    for j, p in enumerate(natural):
        function = ResidualParameter(residual, j, at)
        found.append(Component(p.kind, None, (), function, sigma.layout, p.name))
    return found


def _length_and_unit(a):
    length = float(np.linalg.norm(a))
    return length, a / length if length else a


@dataclass(frozen=True)
class Component:
    """One variance parameter of a model: ``kind`` sd, cor, range or sigma, its term and effects.

    Those of structured terms have a ``name``.
    """

    kind: str
    term: int | None
    effects: tuple[int, ...]
    function: Sigma | StandardDeviation | Correlation | NaturalParameter | ResidualParameter
    layout: CovarianceLayout
    name: str = ""

    def moved_to(self, x, value):
        """x with this standard deviation or correlation at about ``value``, all else about kept.

        A start off the faces: no variance is zero there and no correlation 1 or -1.
        """
        at, k = self.layout.terms[self.term], self.layout.n_theta
        factors = self.layout.factors(x[:k])
        T = factors[at.group][at.columns, at.columns]
        A = at.M @ T
        floor = 0.1 * np.linalg.norm(at.M, axis=1)
        sd = np.maximum(np.linalg.norm(A, axis=1), floor)
        R = A @ A.T / np.outer(sd, sd)
        np.fill_diagonal(R, 1.0)
        if self.kind == "sd":
            sd[self.effects[0]] = max(abs(value), 1e-3 * floor[self.effects[0]])
        else:
            R[self.effects] = R[self.effects[::-1]] = value
        spread, V = np.linalg.eigh(R)
        R = V * np.maximum(spread, 0.01) @ V.T
        T[:] = np.linalg.solve(at.M, np.linalg.cholesky(R) * sd[:, None])
        return np.append(self.layout.from_factors(factors), x[k:])


def variance_parameters(layout, sigma=True) -> list[Component]:
    """Standard deviations and correlations of all terms by column of the triangle, then sigma.

    Without ``sigma`` that is 1, and x has no entry for it.
    """
    found, n = [], layout.n_theta if sigma else None
    for t, term in enumerate(layout.terms):
        if term.kind != "us":
            found += _natural_components(layout, t, n)
            continue
        at = layout.parameters_of(t)
        B = _row_maps(layout, term, at)
        for j in range(term.size):
            own = StandardDeviation(n, at, B[j])
            found.append(Component("sd", t, (j,), own, layout))
            for i in range(j + 1, term.size):
                both = Correlation(at, B[i], B[j])
                found.append(Component("cor", t, (i, j), both, layout))
    if not sigma:
        return found
    return [*found, Component("sigma", None, (), Sigma(layout.n_theta), layout)]


def _natural_components(layout, t, sigma_at):
    _, natural = layout.natural(layout.initial(), t)
    for j, p in enumerate(natural):
        function = NaturalParameter(layout, t, j, sigma_at)
        yield Component(p.kind, t, p.effects, function, layout, layout.natural_name(t, p))


def _row_maps(layout, term, at):
    """B (s, s, k) with row i of M T = B[i] @ theta[at]: T is linear in theta."""
    T = [layout.factors(unit)[term.group] for unit in np.eye(layout.n_theta)[at]]
    return np.stack([term.M @ T_j[term.columns, term.columns] for T_j in T], axis=-1)
