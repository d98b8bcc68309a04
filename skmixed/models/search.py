"""The search for covariance parameters: one way down for linear and generalised models.

``Search`` is the whole of it: a descent from the start, variances put to exactly zero where the
criterion does not mind, looks from other starts where the criterion may have several minima.
``minimize_theta`` is one descent, a trust-region Newton method.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lapack

from skmixed.models.layout import CovarianceLayout
from skmixed.models.structures import is_singular

_MIN_RADIUS = 1e-10
_EPS = float(np.finfo(float).eps)
_TINY = float(np.finfo(float).tiny)
# Steps that promise less than this (in units of the objective) are short enough to learn from.
_NEAR = 0.05
# Share of the given curvature below which what was learnt replaces the Hessian that is given.
_MISLEADING = 0.1
# Standard deviations, relative to that of a row, that are tried at zero.
_NEGLIGIBLE = 1e-2, 1e-3, 1e-4
# Rise of the objective that goes unnoticed, and fall that makes another optimum.
_UNNOTICED, _LOWER = 1e-8, 1e-6
# Other starts have so many times the standard deviations of the first one.
_LARGER, _SMALLER = 10.0, 0.3
# Share of the square of a random effect's column outside the column space of X.
_OUTSIDE = 1e-8
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


@dataclass(frozen=True)
class Search:
    """The search for the minimum of an objective that holds covariance parameters.

    Attributes
    ----------
    evaluate : callable
        Parameters -> evaluation, see :func:`minimize_theta`.
    layout : CovarianceLayout
    begin : int
        Where theta begins among the parameters.
    unit : float
        Standard deviation of one row, in the units of theta.
    rechart : callable, optional
    max_iter, tol, callback
        As in :func:`minimize_theta`.
    units : (t,) or float
    """

    evaluate: Callable
    layout: CovarianceLayout
    begin: int = 0
    unit: float = 1.0
    rechart: Callable | None = None
    max_iter: int = 100
    tol: float = 1e-8
    callback: Callable | None = None
    units: np.ndarray | float = 1.0

    def run(self, start, others=()):
        """The lowest Optimum from ``start`` and from ``others``.

        A singular end is a minimum among the models with fewer variances. There, and where the
        search has not converged, it is looked for a lower one with large variances too.
        """
        best = self._descend(start)
        others = list(others)
        if not best.converged or any(singular_terms(self.layout, self.theta(best.theta))):
            others.append(self._larger(start))
        for other in others:
            best = self._lower(best, other)
        return best

    def theta(self, parameters):
        return parameters[self._at]

    @property
    def _at(self):
        return slice(self.begin, self.begin + self.layout.n_theta)

    def with_theta(self, parameters, theta):
        """The parameters with other covariance parameters."""
        moved = parameters.copy()
        moved[self._at] = theta
        return moved

    def _larger(self, start):
        return self.with_theta(start, _LARGER * self.theta(start))

    def _descend(self, start, known=None):
        return self._settled(
            minimize_theta(
                self.evaluate,
                start,
                max_iter=self.max_iter,
                tol=self.tol,
                callback=self.callback,
                rechart=self.rechart,
                units=self.units,
                known=known,
            )
        )

    def _lower(self, best, start):
        """The lower of an optimum and the one reached from another start."""
        try:
            other = self._descend(start, best)
        except NoStart:
            return best
        spent = best.n_evaluations + other.n_evaluations
        if not other.value < best.value - _LOWER:
            other = best
        return replace(other, n_evaluations=spent)

    def _settled(self, optimum):
        """The optimum with negligible variances at exactly zero, if the objective does not mind.

        What it does not mind is far above rounding and far below what anybody could tell apart,
        so that order of rows and units do not decide.
        """
        theta, tried = self.theta(optimum.theta) / self.unit, None
        for negligible in _NEGLIGIBLE:
            tidied = self.layout.settled(theta, negligible)
            if np.array_equal(tidied, theta):
                break
            if tried is not None and np.array_equal(tidied, tried):
                continue
            parameters = self.with_theta(optimum.theta, self.unit * tidied)
            state, tried = self.evaluate(parameters), tidied
            optimum = replace(optimum, n_evaluations=optimum.n_evaluations + 1)
            if state.value <= optimum.value + max(_UNNOTICED, 1e-11 * abs(optimum.value)):
                return replace(optimum, theta=parameters, value=state.value, state=state)
        return optimum


def singular_terms(layout, theta):
    """For every term, whether its covariance is singular (in any units of its covariates)."""
    T = layout.factors(theta)
    return tuple(is_singular(T[t.group][t.columns, t.columns]) for t in layout.terms)


def outside_terms(layout, Q, weights=None):
    """For every term, whether X misses a column of it: its effects have a mean of their own.

    Parameters
    ----------
    layout : CovarianceLayout
        With its rows.
    Q : (n, r)
        Basis of the columns of X, orthonormal over the rows.
    weights : (n,) or None
    """
    total = len(Q) if weights is None else weights.sum()
    found = []
    for term in layout.terms:
        z = layout.groups[term.group].z[:, term.columns]
        weighted = z if weights is None else z * weights[:, None]
        size = np.einsum("ns,ns->s", z, weighted) / total
        explained = np.square(Q.T @ weighted / total).sum(axis=0)
        found.append(bool((size - explained > _OUTSIDE * size).any()))
    return tuple(found)


def outside_starts(layout, outside, theta):
    """Other starts where effects have a mean of their own, which X or either factor may hold.

    A term of several effects needs none: its covariance with the others tells where the mean is.
    """
    terms = [t for t, out in zip(layout.terms, outside, strict=True) if out]
    starts = [theta] if any(term.size == 1 for term in terms) else []
    for group in dict.fromkeys(term.group for term in terms) if len(layout.groups) > 1 else ():
        start = _SMALLER * theta
        start[layout.places[group]] = _LARGER * theta[layout.places[group]]
        starts.append(start)
    return starts


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
        derivatives are read only where a step is accepted. A value of inf refuses a step.
    theta : (t,)
    max_iter : int
    tol : float
        Largest decrease that the model may still promise at the end, in units of the objective.
    callback : callable, optional
        Called with the iteration, the value and theta after every step.
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
        if walk.take(step, tol) and walk.left(step) <= 1e-3 * tol:
            return walk.end(True, "promised decrease below tol")
        if walk.radius < _MIN_RADIUS:
            converged = walk.propose().decrement <= max(tol, 1e3 * walk.noise)
            return walk.end(converged, "the objective cannot be decreased further")
    return walk.end(False, f"stopped after max_iter={max_iter} iterations")


@dataclass(frozen=True)
class _Step:
    """A step of the parameters: what the model promises, and its length in the metric.

    ``scale`` (t,) is the root of the metric, ``decrement`` what the model promises whatever the
    radius: infinite at a saddle.
    """

    change: np.ndarray
    scale: np.ndarray
    promised: float
    length: float
    decrement: float


class _Walk:
    """A descent under way: where it is, how far it trusts its model, what it has learnt."""

    def __init__(self, evaluate, theta, units, rechart, callback):
        self.evaluate, self.theta, self.units = evaluate, theta, units
        self.rechart, self.callback, self.upright = rechart, callback, np.asarray
        self.state = evaluate(theta)
        if not math.isfinite(self.state.value):
            raise NoStart(getattr(self.state, "reason", "the objective is not finite"))
        self.radius, self.before = math.inf, _TINY
        self.n_iter, self.n_evaluations = 0, 1
        self.trace, self.model = [(self.state.value, theta)], None
        self.curvature = _Curvature(len(theta))

    @property
    def noise(self):
        return 8 * _EPS * max(1.0, abs(self.state.value))

    def propose(self):
        """The minimiser of the model within the radius."""
        g, H, scale = self._model()
        self.model = H, scale
        change, promised, length, decrement = _model_step(g, H, self.radius)
        return _Step(change / scale, scale, promised, length, decrement)

    def _model(self):
        """Slope and curvature in coordinates in which the curvature is about one."""
        H, metric = self.curvature.model(self.state)
        scale = _scale(metric * np.square(self.units)) / self.units
        return self.state.gradient / scale, H / (scale[:, None] * scale), scale

    def take(self, step, tol):
        """Go there if the objective agrees; whether it did."""
        trial = self.evaluate(self.theta + step.change)
        self.n_evaluations += 1
        gain = self.state.value - trial.value
        accepted = gain > 1e-4 * step.promised or (step.promised < tol and gain > -self.noise)
        near = step.promised < _NEAR
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
            self.callback(self.n_iter, *self.trace[-1])
        moved = None if self.rechart is None else self.rechart(self.state)
        if moved is not None:
            self.evaluate, self.state, self.upright = moved
            self.theta, self.curvature = self.state.theta, _Curvature(len(self.theta))
            self.model = None

    def is_hopeless(self, step, known):
        """Whether the descent will end at or above a known optimum, as far as can be told.

        The next step goes most of the way there and the slope agrees, as of a convex objective;
        or the model promises too little; or it takes too long.
        """
        above = self.state.value - known.value
        hope = _HOPE * step.decrement
        if (hope < 1.0 and above - hope > -_LOWER) or (self.n_iter >= _PATIENCE and above > 0):
            return True
        way = known.theta - self.theta
        is_upright = self.upright is np.asarray
        is_convex = is_upright and above > 0 and self.state.gradient @ way < -above
        missed = np.linalg.norm((step.change - way) * step.scale)
        return bool(is_convex and missed < _TOWARDS * np.linalg.norm(way * step.scale))

    def left(self, step):
        """What is still to gain: it falls at least as fast as from the step before to this one."""
        rate = max(1e-4, min(1.0, step.decrement / self.before))
        self.before = step.decrement
        return rate * step.decrement if step.decrement <= 2 * step.promised else math.inf

    def end(self, converged, message):
        """The Optimum here: the slope is of the end, the curvature of the last model."""
        slope, eigenvalue = 0.0, math.inf
        if len(self.theta):
            H, scale = self.model or self._model()[1:]
            slope = float(np.abs(self.state.gradient / scale).max())
            eigenvalue = float(np.linalg.eigvalsh(H)[0]) if np.isfinite(H).all() else math.nan
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
        )


class _Curvature:
    """The Hessian of the model: the given one plus what its gradients say is missing.

    The Hessian given is approximate, its error changes little from step to step and is learnt
    from the change of the gradient by symmetric rank-one updates. Where that leaves little of the
    given Hessian, as where the mean of random effects is far from zero, the error is as large as
    the Hessian and changes as much: from there on the matrix learnt takes its place.
    """

    def __init__(self, t, correction=None, own=None):
        self.correction = np.zeros((t, t)) if correction is None else correction
        self.own = own

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
            return _Curvature(len(step), own=self.own + _rank_one(change - self.own @ step, step))
        mean = (old.hessian + new.hessian) / 2 + self.correction
        correction = self.correction + _rank_one(change - mean @ step, step)
        if _keeps(new.hessian + correction, new.hessian):
            return _Curvature(len(step), correction)
        own = old.hessian + self.correction
        return _Curvature(len(step), own=own + _rank_one(change - own @ step, step))


def _rank_one(miss, step):
    """Symmetric update that adds ``miss`` to the product with ``step``; zero if there is none."""
    along = float(miss @ step)
    if along * along <= 1e-16 * float(miss @ miss) * float(step @ step):
        return np.zeros((len(step),) * 2)
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
