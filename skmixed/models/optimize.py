"""Trust-region Newton minimisation over unconstrained theta."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

# Scaled by the metric below, a step of length 1 moves theta by about one standard error.
_INITIAL_RADIUS = np.inf
_MIN_RADIUS = 1e-10
_EPS = float(np.finfo(float).eps)
_TINY = float(np.finfo(float).tiny)
# Steps that promise less than this (in units of the objective) are short enough to learn from.
_NEAR = 0.05


@dataclass(frozen=True)
class Optimum:
    """Result of :func:`minimize_theta`; ``state`` is the evaluation at ``theta``."""

    theta: np.ndarray
    value: float
    state: object
    n_iter: int
    n_evaluations: int
    converged: bool
    message: str
    trace: tuple[tuple[float, np.ndarray], ...]


def minimize_theta(evaluate, theta, *, max_iter=100, tol=1e-8, callback=None, rechart=None):
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
    """
    state, upright = evaluate(theta), np.asarray
    n_evaluations, radius = 1, _INITIAL_RADIUS
    trace = [(state.value, theta)]
    correction = np.zeros((len(theta), len(theta)))
    converged, message = len(theta) == 0, "no covariance parameter"
    n_iter, before = 0, _TINY
    while not converged:
        if n_iter >= max_iter:
            message = f"stopped after max_iter={max_iter} iterations"
            break
        hessian = state.hessian
        scale = _scale(np.maximum(state.metric, hessian.diagonal()))
        g = state.gradient / scale
        H = (hessian + correction) / (scale[:, None] * scale)
        step, promised, length = _model_step(g, H, radius)
        noise = 8 * _EPS * max(1.0, abs(state.value))
        if not math.isfinite(promised):
            message = "the derivatives of the objective are not finite"
            break
        if promised <= max(1e-3 * tol, noise / 4):
            converged, message = True, "model promises no further decrease"
            break
        trial = evaluate(theta + step / scale)
        n_evaluations += 1
        gain = state.value - trial.value
        if gain > 1e-4 * promised or (promised < tol and gain > -noise):
            if promised < _NEAR:
                correction = _corrected(correction, step / scale, state, trial)
            theta, state = theta + step / scale, trial
            n_iter += 1
            trace.append((state.value, upright(theta)))
            if callback is not None:
                callback(n_iter, state.value, upright(theta))
            moved = None if rechart is None else rechart(state)
            if moved is not None:
                evaluate, state, upright = moved
                theta, correction = state.theta, np.zeros_like(correction)
            # what is left falls at least as fast as from the step before to this one
            left, before = promised * max(1e-4, min(1.0, promised / before)), promised
            if left <= 1e-3 * tol:
                converged, message = True, "promised decrease below tol"
        radius = _next_radius(radius, length, gain, promised)
        if radius < _MIN_RADIUS:
            converged = promised <= max(tol, 1e3 * noise)
            message = "the objective cannot be decreased further"
            break
    return Optimum(upright(theta), state.value, state, n_iter, n_evaluations, converged, message,
                   tuple(trace))  # fmt: skip


def _corrected(correction, step, old, new):
    """Symmetric rank-one update towards what the gradients say of the Hessian along the step.

    The Hessian given is approximate, its error changes little from step to step and is learnt
    here: what is left of the change of gradient after the mean of both Hessians.
    """
    miss = new.gradient - old.gradient
    miss = miss - ((old.hessian + new.hessian) / 2 + correction) @ step
    along = float(miss @ step)
    if along * along <= 1e-16 * float(miss @ miss) * float(step @ step):
        return correction
    learnt = correction + miss[:, None] * (miss / along)
    if _is_definite(new.hessian) and not _is_definite(new.hessian + learnt):
        return np.zeros_like(correction)
    return learnt


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
    """Step, promised decrease and length of the minimiser of g's + s'Hs/2 with |s| <= radius."""
    eigenvalues, vectors, _ = lapack.dsyevd(H, lower=1)
    slope = g @ vectors
    floor = 1e-14 * max(-eigenvalues[0], eigenvalues[-1])
    coordinates = -slope / eigenvalues if eigenvalues[0] > floor else None
    if coordinates is None or coordinates @ coordinates > radius * radius:
        limit = radius if np.isfinite(radius) else _default_radius(slope, eigenvalues)
        shift = _multiplier(slope, eigenvalues, limit, floor)
        coordinates = _add_escape(-slope / (eigenvalues + shift), eigenvalues, limit)
    promised = -float(slope @ coordinates + 0.5 * (eigenvalues @ (coordinates * coordinates)))
    return vectors @ coordinates, promised, math.sqrt(coordinates @ coordinates)


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
