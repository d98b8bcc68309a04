"""Profile limits of variance parameters and coefficients, by Newton's method on their definition.

A limit of psi is a point x = (theta, log sigma[, beta_j]) and a multiplier lam with

    grad d(x) = lam grad psi(x),    d(x) = d_min + chi2_level,1,

d the deviance of maximum likelihood. Newton's method on this bordered system takes few evaluations
because value, gradient and Hessian of d are exact. A solution must be a minimum of d at its psi:
on the face of a zero variance every point is stationary in the missing direction, and the profile
may have left it. Where that fails d is minimised at fixed psi and the level found by its root.

References
----------
Venzon and Moolgavkar (1988), A method for computing profile-likelihood-based confidence
intervals, Applied Statistics 37, 87-94.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from skmixed.inference.curves import curve
from skmixed.inference.deviances import LinearDeviance
from skmixed.models.components import (
    Component,
    Correlation,
    Sigma,
    StandardDeviation,
    variance_parameters,
)
from skmixed.models.minimum import (
    Point,
    constrained_minimum,
    minimum,
    next_root,
    tangent_space,
)
from skmixed.models.second_order import SecondOrder, scaled_inverse

# Solved when what is left of the system changes the deviance by less than this.
_SOLVED = 1e-11
# A negative eigenvalue of the scaled Lagrangian beyond this is a direction in which d falls.
_SADDLE = -1e-6
# Correlations beyond this are at their bound.
_BOUND = 1.0 - 1e-7
_EDGE = 1.0 - 1e-4
# Share of its size at which a standard deviation is next to zero.
_NEARLY = 1e-3
# The level is met this closely where it is found by its root.
_LEVEL = 1e-8
# Where no point meets it, this close in the root of the rise, relative to the level's, will do.
_CLOSE = 1e-3
# Evaluations after which a limit is given up.
_MOST = 1200
# A rise below this share of the level's, over half the distance again, is none.
_FLAT = 1e-6


@dataclass(frozen=True)
class Limits:
    """Limits of one parameter; ``note`` says what is not an ordinary limit.

    n_evaluations counts evaluations of the deviance for both. ``curve`` (m, 2) has values of the
    parameter and the signed roots of their profiled deviance, where points were asked for.
    """

    estimate: float
    lower: float
    upper: float
    note: str
    n_evaluations: int
    curve: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))


@dataclass(frozen=True)
class Linear:
    """A linear function of x as the parameter."""

    slope: np.ndarray

    def __call__(self, x):
        return float(self.slope @ x), self.slope, np.zeros((len(x), len(x)))


def variance_limits(objective, theta, sigma, level=0.95, components=None, points=0) -> list[Limits]:
    """Limits of standard deviations, correlations and sigma, in units of the response.

    Parameters
    ----------
    objective : ProfiledDeviance
        Of maximum likelihood.
    theta : (k,)
        Its minimum.
    sigma : float
    level : float
    components : list of Component, optional
        By default all of :func:`variance_parameters`.
    points : int
        Of the curve on either side of the estimate.
    """
    if components is None:
        components = variance_parameters(objective.layout)
    f = LinearDeviance(objective, sigma)
    best = minimum(f, f(np.append(theta, 0.0)))
    found = []
    for component in components:
        scale = 1.0 if component.kind == "cor" else sigma
        before = f.n_evaluations
        own = Profile(f, component.function, best, stats.chi2.ppf(level, 1), component)
        found.append(_limits(own, points, 0.0, scale, before))
    return found


def coefficient_limits(objective, theta, sigma, rows, level=0.95, points=0) -> list[Limits]:
    """Limits of rows'beta, rows (d, p) on the basis of X."""
    inner = LinearDeviance(objective, sigma)
    start = minimum(inner, inner(np.append(theta, 0.0)))
    factor = objective.evaluate(start.x[: len(theta)]).factor
    beta = SecondOrder.at(objective, factor, start.x[: len(theta)]).beta
    found = []
    for row in rows:
        f = LinearDeviance(objective, sigma, row, float(row @ beta))
        best = f(np.append(start.x, 0.0))
        last = Linear(np.eye(len(best.x))[-1])
        own = Profile(f, last, best, stats.chi2.ppf(level, 1))
        found.append(_limits(own, points, f.origin, sigma))
    return found


def generalized_limits(f, parameters, level=0.95, points=0) -> list[Limits]:
    """Limits of parameters of a generalised linear mixed model.

    Parameters
    ----------
    f : GeneralizedDeviance
    parameters : list of Component or Linear
        Functions of f's x; a Component stands for its own.
    level : float
    points : int
        Of the curve on either side of the estimate.
    """
    best = minimum(f, f(f.start))
    found = []
    for parameter in parameters:
        component = parameter if isinstance(parameter, Component) else None
        psi = parameter if component is None else component.function
        before = f.n_evaluations
        own = Profile(f, psi, best, stats.chi2.ppf(level, 1), component)
        found.append(_limits(own, points, 0.0, 1.0, before))
    return found


def _limits(profile, points, origin, scale, before=0):
    """Limits, and points of the curve, of a parameter in units of ``scale``."""
    *values, notes = profile.limits()
    count = profile.f.n_evaluations - before
    estimate, lower, upper = (origin + scale * v for v in values)
    if not points:
        return Limits(estimate, lower, upper, "; ".join(notes), count)
    found = curve(profile, *values, points) * [scale, 1.0] + [origin, 0.0]
    return Limits(estimate, lower, upper, "; ".join(notes), count, found)


@dataclass(frozen=True)
class Profile:
    """One parameter psi, the minimum of the deviance, and the rise c that limits allow."""

    f: object
    psi: object
    best: Point
    c: float
    component: Component | None = None

    @property
    def target(self):
        return self.best.value + self.c

    def limits(self):
        """(estimate, lower, upper, notes)."""
        estimate = self.psi(self.best.x)[0]
        ends, notes = [], []
        for sign in (-1.0, 1.0):
            end, note = self._end(estimate, sign)
            ends.append(end)
            notes += [note] if note else []
        if isinstance(self.psi, StandardDeviation):
            if estimate < 0:
                estimate, ends = -estimate, [-ends[1], -ends[0]]
            ends[0] = max(ends[0], 0.0)  # beyond zero is the mirror image
        return estimate, *ends, notes

    def _end(self, estimate, sign):
        if np.isnan(estimate):
            return np.nan, "a variance is zero, so that the correlation is not defined"
        inward = isinstance(self.psi, StandardDeviation) and sign != (-1.0 if estimate < 0 else 1.0)
        # where a straight line gets close to zero it is asked first whether zero is inside
        unsure = inward and abs(estimate) - self._wald_reach() < 0.25 * abs(estimate)
        if unsure and self.without_effect(self.psi.rows) <= self.target:
            return 0.0, ""
        correlation = isinstance(self.psi, Correlation)
        if correlation and sign * estimate > _BOUND:
            return sign, "the correlation is estimated at its bound"
        # at its bound a parameter has no slope to start with
        kink = (correlation and -sign * estimate > _BOUND) or self._is_near_zero(estimate)
        point = None if kink else self._newton(sign)
        if point is not None:
            way_out = self._saddle(point)
            if way_out is None:
                return self.psi(point.x)[0], ""
            moved = self.f(point.x + 0.2 * way_out)
            if moved is not None:
                return self._by_root(sign, self.psi(point.x)[0], moved)
        if correlation and self._is_free():
            return sign, "one of its variances may be zero, where the correlation is free"
        if inward and not unsure and self.without_effect(self.psi.rows) <= self.target:
            return 0.0, ""
        return self._by_root(sign)

    def _is_near_zero(self, estimate):
        """Whether a standard deviation is where |a| has its kink."""
        several = isinstance(self.psi, StandardDeviation) and len(self.psi.rows) > 1
        return several and estimate < 0.05 * np.linalg.norm(self.psi.rows)

    def _is_free(self):
        """Whether a fit without one of the two effects is as good: then any correlation is."""
        maps = self.psi.rows, self.psi.other
        return any(self.without_effect(rows) <= self.target for rows in maps)

    def _wald_reach(self):
        """How far the limit would be if the deviance were quadratic."""
        slope = self.psi(self.best.x)[1]
        return np.sqrt(2.0 * self.c * max(slope @ scaled_inverse(self.best.hessian) @ slope, 0.0))

    def _newton(self, sign):
        """The point that solves the bordered system, None where Newton's method fails."""
        f, best, c = self.f, self.best, self.c
        inverse = scaled_inverse(best.hessian)
        estimate, slope, _ = self.psi(best.x)
        ahead = inverse @ slope
        spread = float(slope @ ahead)
        if not spread > 0:
            return None
        lam = sign * np.sqrt(2.0 * c / spread)
        x = best.x + lam * ahead
        point = f(x)
        for _ in range(6):  # a start far outside comes nearer first
            if point is not None and point.value - best.value < 6.0 * c:
                break
            x, lam = best.x + 0.6 * (x - best.x), 0.6 * lam
            point = f(x)
        if point is None:
            return None
        merit, system = self._merit(point, lam, inverse)
        improved = False
        for _ in range(25):
            if merit < _SOLVED:
                return point
            step = np.linalg.lstsq(self._jacobian(point, lam), -system, rcond=1e-14)[0]
            share = 1.0
            for _ in range(8):
                near = f(point.x + share * step[:-1])
                other = lam + share * step[-1]
                if near is not None and (self.psi(near.x)[0] - estimate) * sign > 0:
                    value, left = self._merit(near, other, inverse)
                    if value < merit * (1.0 - 1e-4 * share):
                        break
                share *= 0.4
            else:
                point = None if improved else f.differenced(point)
                if point is None:
                    return None
                improved = True
                continue
            point, lam, merit, system = near, other, value, left
        return point if merit < _SOLVED else None

    def _merit(self, point, lam, inverse):
        slope = self.psi(point.x)[1]
        system = np.append(point.gradient - lam * slope, point.value - self.target)
        return float(system[:-1] @ inverse @ system[:-1] + system[-1] ** 2 / self.c), system

    def _jacobian(self, point, lam):
        _, slope, bend = self.psi(point.x)
        n = len(slope)
        K = np.zeros((n + 1, n + 1))
        K[:n, :n] = point.hessian - lam * bend
        K[:n, n], K[n, :n] = -slope, point.gradient
        return K

    def _saddle(self, point):
        """A direction in which the deviance falls at fixed psi, None at a minimum."""
        way_out = self._falling(point)
        sure = self.f.checked(point, way_out is None)
        return way_out if sure is point else self._falling(sure)

    def _falling(self, point):
        _, slope, bend = self.psi(point.x)
        scale = 1.0 / np.sqrt(np.maximum(np.abs(point.hessian.diagonal()), 1e-8))
        normal = slope * scale
        size = float(normal @ normal)
        lam = float((point.gradient * scale) @ normal) / size if size > 1e-16 else 0.0
        tangent = tangent_space(normal) if size > 1e-16 else np.eye(len(normal))
        curved = (point.hessian - lam * bend) * np.outer(scale, scale)
        values, vectors = np.linalg.eigh(tangent.T @ curved @ tangent)
        if not len(values) or values[0] >= _SADDLE:
            return None
        return scale * (tangent @ vectors[:, 0])

    def without_effect(self, rows):
        """Least deviance with the standard deviation of the effect of these rows at zero."""
        at = self.psi.place
        _, s, Vt = np.linalg.svd(rows)
        free = Vt[int((s > 1e-12 * s[0]).sum()) :].T
        n = len(self.best.x)
        basis = np.zeros((n, n - len(at) + free.shape[1]))
        others = np.setdiff1d(np.arange(n), at)
        basis[others, np.arange(len(others))] = 1.0
        basis[at, len(others) :] = free
        starts = [self.best.x]
        if self.component is not None:  # the best point may be on a face that this one is not near
            starts.append(self.component.moved_to(self.best.x, 0.0))
        points = [self.f(basis @ (basis.T @ x)) for x in starts]
        values = [minimum(self.f, p, basis).value for p in points if p is not None]
        return min(values, default=np.inf)

    def at(self, value, near=None):
        """The least deviance at psi = value, from a point near by or from off the faces."""
        starts = [self.best if near is None else near]
        if self.component is not None and self.component.term is not None:
            starts.append(self.f(self.component.moved_to(self.best.x, value)))
        for point in starts:
            for _ in range(3):
                if point is None:
                    break
                point = constrained_minimum(self.f, self.psi, value, point)
                way_out = None if point is None else self._saddle(point)
                if way_out is None:
                    break
                point = self.f(point.x + 0.2 * way_out)
            else:
                continue
            if point is not None:
                return point
        return None

    def _by_root(self, sign, guess=None, near=None):
        """(limit, note): the level by the root of least deviances at fixed psi."""
        estimate, before = self.psi(self.best.x)[0], self.f.n_evaluations
        edge, bound, note = self.edge(sign, estimate)
        known = [(estimate, -np.sqrt(self.c), None)]
        value = guess
        if guess is None:
            near_by = isinstance(self.psi, Correlation)
            value = estimate + sign * (0.3 if near_by else 0.7 * max(self._wald_reach(), 0.02))
        for _ in range(30):
            if self.f.n_evaluations - before > _MOST:
                break
            if edge is not None:
                value = sign * min(sign * value, sign * edge)
            point = self.at(value, near)
            if point is None:
                value = (value + known[-1][0]) / 2.0
                continue
            rise = np.sqrt(max(point.value - self.best.value, 0.0)) - np.sqrt(self.c)
            known.append((value, rise, point))
            if abs(point.value - self.target) < _LEVEL:
                return value, ""
            if value == edge and rise <= 0:
                return bound, note
            if self._is_flat(known):
                return sign * np.inf, "the deviance stays below the level however far"
            value = next_root(known, sign)
            near = min(known[1:], key=lambda k: abs(k[0] - value))[2]
        nearest = min(known, key=lambda k: abs(k[1]))
        if abs(nearest[1]) < _CLOSE * np.sqrt(self.c):  # minima are only so exact there
            return nearest[0], ""
        return np.nan, "the limit was not found"

    def edge(self, sign, estimate):
        """(value next to a bound, the bound, what to say where the level is beyond it)."""
        if isinstance(self.psi, Correlation):
            return sign * _EDGE, sign, "the deviance stays below the level up to the bound"
        if sign < 0 and isinstance(self.psi, Sigma):
            return _NEARLY * estimate, 0.0, "the deviance stays below the level down to zero"
        if sign < 0 and isinstance(self.psi, StandardDeviation) and len(self.psi.rows) > 1:
            return _NEARLY * np.linalg.norm(self.psi.rows), 0.0, ""
        return None, None, ""

    def _is_flat(self, known):
        """Whether the profile of a parameter without bounds has come to its end below the level."""
        if not isinstance(self.psi, Linear) or len(known) < 3 or known[-1][1] > 0:
            return False
        (first, *_), (before, lower, _), (last, rise, _) = known[0], known[-2], known[-1]
        farther = abs(last - first) > 1.5 * abs(before - first)
        return farther and abs(rise - lower) < _FLAT * np.sqrt(self.c)
