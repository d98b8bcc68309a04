"""One descent to a minimum over unconstrained parameters: a trust-region Newton method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from skmixed._deadline import check_time

_MIN_RADIUS = 1e-10
_EPS = float(np.finfo(float).eps)
_TINY = float(np.finfo(float).tiny)
# Steps that promise less than this (in units of the objective) are short enough to learn from.
_NEAR = 0.05
# And so short that the exact Hessian, where it is known, leads faster than the approximate one with
# what was learnt, which is the better model of what is further away.
_CLOSE = 1e-5
# What a Newton step with the exact Hessian leaves, at most, in squares of what it promises.
_SQUARED = 100.0
# Share of the given curvature below which what was learnt replaces the Hessian that is given.
_MISLEADING = 0.1
# Fall of the objective that makes another optimum.
LOWER = 1e-6
# A descent may end so many times lower than its model promises.
_HOPE = 3.0
# Share of the way to another optimum that the next step may leave.
_TOWARDS = 0.5
# Steps after which a descent that is still above another optimum is given up.
_PATIENCE = 30
# Scaled curvature below which a direction counts as flat, and as a way down from a saddle.
_FLAT, _SADDLE = 1e-6, 1e-5
# Slope per standard error, in units of the objective, that is told.
_STEEP = 1e-2


@dataclass(frozen=True)
class Optimum:
    """How a search ended; ``state`` is the evaluation at ``theta``.

    Attributes
    ----------
    theta : (t,)
    value : float
    state : object
    n_iter, n_evaluations : int
    converged : bool
    message : str
    trace : tuple of (value, theta)
    scaled_gradient : float
        Largest slope at the end, per approximate standard error of its parameter, in units of the
        objective.
    smallest_eigenvalue : float
        Of the Hessian at the end, scaled to a diagonal of (about) one; negative at a saddle.
    remedy : str
        What to do where it has not converged.
    obstacle : str
        Why the objective is not defined beside the end, where that stopped the search.
    """

    theta: np.ndarray
    value: float
    state: object
    n_iter: int
    n_evaluations: int
    converged: bool
    message: str
    trace: tuple[tuple[float, np.ndarray], ...]
    scaled_gradient: float = 0.0
    smallest_eigenvalue: float = math.inf
    remedy: str = "Raise max_iter, or simplify the random effects"
    obstacle: str = ""

    @property
    def doubt(self):
        """What at the end is not as at a minimum, None if all is."""
        if self.smallest_eigenvalue < -_SADDLE:
            return f"curvature {self.smallest_eigenvalue:.1g} of the scaled Hessian: a saddle"
        if not self.scaled_gradient <= _STEEP:
            return f"slope {self.scaled_gradient:.1g} per standard error of a parameter"
        return None


@dataclass(frozen=True)
class Impossible:
    """An evaluation where the objective is not defined: the search steps back."""

    reason: str = "the system has no factor"
    value: float = math.inf


class NoStart(ArithmeticError):
    """The objective is not defined where the search was to start."""


def minimize_theta(
    evaluate,
    theta,
    *,
    max_iter=100,
    tol=1e-8,
    callback=None,
    rechart=None,
    units=1.0,
    known=None,
):
    """Minimum of an objective given with exact gradient and an approximate Hessian.

    The model step minimises g's + s'Hs/2 over |D s| <= radius (More and Sorensen, by
    eigen-decomposition, so an indefinite H is no obstacle) with D = sqrt(metric), and is accepted
    on the true objective.

    Parameters
    ----------
    evaluate : callable
        theta -> state with ``value``, ``gradient`` (t,), ``hessian`` (t, t) and ``metric`` (t,);
        derivatives are read only where a step is accepted. A value of inf refuses a step. Its
        ``noise``, if it has one, is the error of the value.
    theta : (t,)
    max_iter : int
    tol : float
        Largest decrease that the model may still promise at the end, in units of the objective.
    callback : callable, optional
        Called with the iteration, the value and theta after every step; the search ends where it
        returns True.
    rechart : callable, optional
        state -> None, or (evaluate, state, upright) of the same point in other coordinates, in
        which the search goes on; ``upright`` takes theta back to the coordinates of the start.
    units : (t,) or float
        Typical sizes of the parameters, for those that the data say nothing about.
    known : Optimum, optional
        Give up as soon as the descent is on its way to this one, or to none below it.

    Raises
    ------
    NoStart
        If the objective is not finite at ``theta``.
    """
    walk = _Walk(evaluate, theta, units, rechart, callback)
    if not len(theta):
        return walk.end(True, "no covariance parameter")
    while walk.n_iter < max_iter:
        step = walk.propose()
        if not math.isfinite(step.promised):
            return walk.end(False, "the derivatives of the objective are not finite")
        if step.decrement <= max(1e-3 * tol, walk.noise / 4):
            return walk.end(True, "model promises no further decrease")
        if known is not None and walk.is_hopeless(step, known):
            return walk.end(False, "ends no lower than another optimum")
        accepted = walk.take(step, tol)
        if walk.is_stopped:
            return walk.end(False, "a callback has stopped the search")
        if accepted and walk.left(step) <= 1e-3 * tol:
            return walk.end(True, "promised decrease below tol")
        if not accepted and max(step.decrement, -walk.gain) <= tol:
            return walk.end(True, "what is left is rounding of the objective")
        if walk.radius < _MIN_RADIUS:
            converged = walk.propose().decrement <= max(tol, 1e3 * walk.noise)
            return walk.end(converged, "the objective cannot be decreased further", walk.refused)
    return walk.end(False, f"stopped after max_iter={max_iter} iterations")


@dataclass(frozen=True)
class _Step:
    """A step of the parameters: what the model promises, and its length in the metric.

    ``scale`` (t,) is the root of the metric, ``decrement`` what the model promises whatever the
    radius: infinite at a saddle. ``is_exact``: the model has the exact Hessian.
    """

    change: np.ndarray
    scale: np.ndarray
    promised: float
    length: float
    decrement: float
    is_exact: bool = False


class _Walk:
    """A descent under way: where it is, how far it trusts its model, what it has learnt."""

    def __init__(self, evaluate, theta, units, rechart, callback):
        self.evaluate, self.theta, self.units = evaluate, theta, units
        self.rechart, self.callback, self.upright = rechart, callback, np.asarray
        self.is_stopped = False
        check_time()
        self.state = evaluate(theta)
        if len(theta) and not math.isfinite(self.state.value):
            raise NoStart(getattr(self.state, "reason", "the objective is not finite"))
        self.radius, self.before = math.inf, _TINY
        self.n_iter, self.n_evaluations, self.refused, self.gain = 0, 1, "", 0.0
        self.trace, self.model = [(self.state.value, theta)], None
        self.curvature = _Curvature(len(theta), units)

    @property
    def noise(self):
        """Rounding of the objective, as far as the evaluation tells and at least its own."""
        return max(8 * _EPS * max(1.0, abs(self.state.value)), getattr(self.state, "noise", 0.0))

    def propose(self):
        """The minimiser of the model within the radius."""
        g, H, scale = self._model()
        self.model = H, scale
        change, promised, length, decrement = _model_step(g, H, self.radius)
        exact = self._exact(scale) if promised < _CLOSE else None
        if exact is not None:
            self.model = exact, scale
            change, promised, length, decrement = _model_step(g, exact, self.radius)
        return _Step(change / scale, scale, promised, length, decrement, exact is not None)

    def _exact(self, scale):
        """The exact Hessian where the state has one that is definite, else None."""
        exact = getattr(self.state, "exact_hessian", None)
        if exact is None or self.curvature.is_own:
            return None
        exact = exact / (scale[:, None] * scale)
        return exact if _is_definite(exact) else None

    def _model(self):
        """Slope and curvature in coordinates in which the curvature is about one."""
        H, metric = self.curvature.model(self.state)
        scale = _scale(metric * np.square(self.units)) / self.units
        return self.state.gradient / scale, H / (scale[:, None] * scale), scale

    def take(self, step, tol):
        """Go there if the objective agrees; whether it did."""
        check_time()
        trial = self.evaluate(self.theta + step.change)
        self.n_evaluations += 1
        self.refused = getattr(trial, "reason", self.refused)
        self.gain = gain = self.state.value - trial.value
        accepted = gain > 1e-4 * step.promised or (step.promised < tol and gain > -self.noise)
        near = step.promised < _NEAR and not step.is_exact
        if (accepted and near) or (self.curvature.is_own and math.isfinite(trial.value)):
            self.curvature = self.curvature.learnt(step.change, self.state, trial)
        if accepted:
            self._move(step, trial)
        self.radius = _next_radius(self.radius, step.length, gain, step.promised)
        return accepted

    def _move(self, step, trial):
        self.theta, self.state = self.theta + step.change, trial
        self.n_iter += 1
        self.trace.append((trial.value, self.upright(self.theta)))
        if self.callback is not None:
            self.is_stopped = bool(self.callback(self.n_iter, *self.trace[-1]))
        moved = None if self.rechart is None else self.rechart(self.state)
        if moved is not None:
            self.evaluate, self.state, self.upright = moved
            self.theta = self.state.theta
            self.curvature = _Curvature(len(self.theta), self.units)
            self.model = None

    def is_hopeless(self, step, known):
        """Whether the descent will end at or above a known optimum, as far as can be told.

        The next step goes most of the way there and the slope agrees, as of a convex objective;
        or the model promises too little; or it takes too long.
        """
        above = self.state.value - known.value
        hope = _HOPE * step.decrement
        if (hope < 1.0 and above - hope > -LOWER) or (self.n_iter >= _PATIENCE and above > 0):
            return True
        way = known.theta - self.theta
        is_upright = self.upright is np.asarray
        is_convex = is_upright and above > 0 and self.state.gradient @ way < -above
        missed = np.linalg.norm((step.change - way) * step.scale)
        return bool(is_convex and missed < _TOWARDS * np.linalg.norm(way * step.scale))

    def left(self, step):
        """What is still to gain: it falls at least as fast as from the step before to this one.

        With an exact Hessian it falls with the square of what a step promises.
        """
        rate = max(1e-4, min(1.0, step.decrement / self.before))
        if step.is_exact:
            rate = min(rate, _SQUARED * step.decrement)
        self.before = step.decrement
        return rate * step.decrement if step.decrement <= 2 * step.promised else math.inf

    def end(self, converged, message, obstacle=""):
        """The Optimum here: the slope is of the end, the curvature of the last model."""
        slope, eigenvalue = 0.0, math.inf
        if len(self.theta):
            H, scale = self.model or self._model()[1:]
            slope = float(np.abs(self.state.gradient / scale).max())
            finite = np.isfinite(H).all()
            eigenvalue = float(lapack.dsyevd(H, 0, lower=1)[0][0]) if finite else math.nan
        return Optimum(
            self.upright(self.theta),
            self.state.value,
            self.state,
            self.n_iter,
            self.n_evaluations,
            converged,
            message,
            tuple(self.trace),
            slope,
            eigenvalue,
            obstacle="" if converged else obstacle,
        )


class _Curvature:
    """The Hessian of the model: the given one plus what its gradients say is missing.

    The Hessian given is approximate, its error changes little from step to step and is learnt
    from the change of the gradient by symmetric rank-one updates. Where that leaves little of the
    given Hessian, as where the mean of random effects is far from zero, the error is as large as
    the Hessian and changes as much: from there on the matrix learnt takes its place.
    """

    def __init__(self, t, units=1.0, correction=None, own=None):
        self.correction = np.zeros((t, t)) if correction is None else correction
        self.own, self.units = own, units

    @property
    def is_own(self):
        return self.own is not None

    def model(self, state):
        """Hessian and metric for the next step."""
        if self.is_own:
            return self.own, np.abs(self.own.diagonal())
        given = state.hessian
        return given + self.correction, np.maximum(state.metric, given.diagonal())

    def learnt(self, step, old, new):
        change = new.gradient - old.gradient
        if not np.isfinite(change).all():
            return self
        if self.is_own:
            return self._with(own=self.own + self._update(change - self.own @ step, step))
        mean = (old.hessian + new.hessian) / 2 + self.correction
        correction = self.correction + self._update(change - mean @ step, step)
        if _keeps(new.hessian + correction, new.hessian):
            return self._with(correction)
        own = old.hessian + self.correction
        return self._with(own=own + self._update(change - own @ step, step))

    def _with(self, correction=None, own=None):
        return _Curvature(len(self.correction), self.units, correction, own)

    def _update(self, miss, step):
        """Symmetric, of rank one, adds ``miss`` to the product with ``step``; zero if unclear."""
        along = float(miss @ step)
        a, b = miss * self.units, step / self.units
        if along * along <= 1e-16 * float(a @ a) * float(b @ b):
            return np.zeros_like(self.correction)
        return miss[:, None] * (miss / along)


def _keeps(H, given):
    """Whether H has a fair share of the curvature given, where that is positive."""
    if not _is_definite(given):
        return True
    return _is_definite(H - _MISLEADING * given)


def _is_definite(H):
    return lapack.dpotrf(H, lower=1)[1] == 0


def _scale(metric):
    largest = metric.max()
    return np.sqrt(np.maximum(metric, 1e-8 * largest if largest > 0 else 1.0))


def _next_radius(radius, length, gain, promised):
    ratio = gain / promised if np.isfinite(gain) else -1.0
    if ratio < 0.25:
        return 0.25 * length
    if ratio > 0.75 and length > 0.99 * radius:
        return 2.0 * radius
    return radius


def _model_step(g, H, radius):
    """Minimiser of g's + s'Hs/2 with |s| <= radius: step, promised decrease, length, decrement."""
    eigenvalues, vectors, _ = lapack.dsyevd(H, lower=1)
    slope = g @ vectors
    floor = 1e-14 * max(-eigenvalues[0], eigenvalues[-1])
    coordinates = -slope / eigenvalues if eigenvalues[0] > floor else None
    if coordinates is None or coordinates @ coordinates > radius * radius:
        limit = radius if np.isfinite(radius) else _default_radius(slope, eigenvalues)
        shift = _multiplier(slope, eigenvalues, limit, floor)
        coordinates = _add_escape(-slope / (eigenvalues + shift), eigenvalues, limit)
    promised = -float(slope @ coordinates + 0.5 * (eigenvalues @ (coordinates * coordinates)))
    return (
        vectors @ coordinates,
        promised,
        math.sqrt(coordinates @ coordinates),
        _decrement(slope, eigenvalues),
    )


def _decrement(slope, eigenvalues):
    """Decrease to the stationary point of the model, infinite at a saddle."""
    if eigenvalues[0] < -_SADDLE:
        return math.inf
    return float(slope @ (slope / np.maximum(eigenvalues, _FLAT))) / 2


def _default_radius(slope, eigenvalues):
    """Length of the Newton step for |H|: a natural first radius where H is indefinite."""
    size = np.maximum(np.abs(eigenvalues), 1e-2 * np.abs(eigenvalues).max())
    return max(float(np.linalg.norm(slope / size)), 1e-3)


def _multiplier(slope, eigenvalues, radius, floor):
    """Shift of the eigenvalues at which the step has length ``radius`` (secular equation)."""
    low = max(0.0, floor - eigenvalues[0])
    shift = low + floor + _TINY
    for _ in range(50):
        shifted = eigenvalues + shift
        step = slope / shifted
        length = np.linalg.norm(step)
        if length == 0:
            break
        if length <= radius * 1.001 and (shift <= low or length >= radius * 0.999):
            break
        change = (length - radius) / radius * length**2 / float(step**2 @ (1 / shifted))
        if shift + change <= low:
            return low + floor + _TINY
        shift += change
    return shift


def _add_escape(coordinates, eigenvalues, radius):
    """Hard case: fill the radius along the direction of most negative curvature."""
    short = radius**2 - coordinates @ coordinates
    if eigenvalues[0] < -1e-6 and short > 1e-2 * radius**2:
        coordinates = coordinates.copy()
        coordinates[0] += math.copysign(math.sqrt(short), coordinates[0])
    return coordinates
