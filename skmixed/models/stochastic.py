"""The search for theta where the criterion has no cheap value: the root of an estimated score.

The score's only random part are traces, estimated from signs that stay the same during the whole
search, so that it is a smooth function of theta. Values are integrals of the score along the steps,
by the trapezoidal rule: the search of :mod:`skmixed.models.optimize` accepts steps by them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import t as student

from skmixed.linalg.system import Group, NotPositiveDefinite
from skmixed.models.optimize import Impossible, minimize_theta

# Signs to begin with, at most, and the share of a standard error that is aimed at.
FEWEST, _MOST, _SHARE = 8, 64, 0.01
# Share that is told.
TOLD_SHARE = 0.05
# Tolerance of the traces' iterations where a Newton step promises more than so much. The last one
# is far below the Monte-Carlo error: solutions that stay behind err to one side.
_TOLERANCES = (1e3, 1e-2), (10.0, 1e-3), (0.1, 1e-4), (-np.inf, 1e-6)
# What the search may leave undone, a thousandth of it at the end: 3e-5 is 0.005 standard errors.
UNDONE = 0.03
# Standard deviations relative to that of a row that are tried at zero, and the rise allowed.
NEGLIGIBLE, UNNOTICED = (1e-2, 1e-3, 1e-4), 1e-4
# Levels of a group in a thinned design, and about how many rows, at most: their pairs take memory.
_THINNED, _THINNED_ROWS = 1500, 4_000_000
# Smallest eigenvalue of the scaled Hessian, as a share of the largest.
_FLAT = 1e-6


@dataclass(frozen=True)
class MonteCarlo:
    """How exact a fit by the iterative solver is.

    Attributes
    ----------
    n_probes : int
    theta_std : (t,)
        Monte-Carlo error of theta in the user's units and order.
    share : float
        The largest of these errors as a share of the standard error of its parameter.
    deviance_std : float
    samples : (k,) or None
        The criterion from every probe; None where it is exact.
    n_iterations : int
        Iterations of the slowest linear system of the fit.
    effects_error : tuple of float
        By grouping factor, the relative error of the conditional standard deviations.
    """

    n_probes: int
    theta_std: np.ndarray
    share: float
    deviance_std: float
    samples: np.ndarray | None
    n_iterations: int
    effects_error: tuple[float, ...]


@dataclass(frozen=True)
class Reached:
    """A point of the search without its factor, whose vectors take memory."""

    theta: np.ndarray
    value: float
    gradient: np.ndarray


@dataclass(frozen=True)
class EstimatedScore:
    """An evaluation for the search; ``exact`` holds all that is not random.

    Attributes
    ----------
    exact : Evaluation
    n_probes : int
    before : Reached or None
        From where the value is integrated.
    """

    exact: Any
    n_probes: int
    before: Reached | None = None
    offset: float = 0.0

    noise = 1e-6

    @property
    def theta(self):
        return self.exact.theta

    @property
    def factor(self):
        return self.exact.factor

    @property
    def objective(self):
        return self.exact.objective

    @cached_property
    def value(self):
        """The criterion up to a constant."""
        if self.before is None:
            return self.offset
        step = self.theta - self.before.theta
        return self.before.value + float((self.before.gradient + self.gradient) @ step) / 2

    @property
    def reached(self):
        return Reached(self.theta, self.value, self.gradient)

    @cached_property
    def _samples(self):
        """The derivative by T T' from every probe, a list of (k, s, s)."""
        known = self.factor.information_known(
            fixed=float(self.objective.reml), response=self.objective.dof
        )
        for promised, tolerance in _TOLERANCES:
            found = self.factor.information_samples(n_probes=self.n_probes, tolerance=tolerance)
            samples = [own - k for own, k in zip(found, known, strict=True)]
            if self._promised([own.mean(axis=0) for own in samples]) > promised:
                break
        return samples

    def _promised(self, G):
        gradient = self.objective.layout.gradient(self.theta, G)
        H = self.exact.average_information + self.objective.layout.curvature(self.theta, G)
        return float(gradient @ positive_solve(H, gradient)) / 2

    @cached_property
    def information(self):
        return [own.mean(axis=0) for own in self._samples]

    @cached_property
    def gradient(self):
        return self.objective.layout.gradient(self.theta, self.information)

    @cached_property
    def hessian(self):
        curvature = self.objective.layout.curvature(self.theta, self.information)
        return self.exact.average_information + curvature

    @property
    def metric(self):
        return self.exact.average_information.diagonal()

    @property
    def gradients(self):
        """(k, t), one from every probe."""
        layout = self.objective.layout
        return np.array(
            [
                layout.gradient(self.theta, [own[j] for own in self._samples])
                for j in range(self.n_probes)
            ]
        )

    def errors(self):
        """Covariance (t, t) of theta's error, and the largest share of a standard error.

        By the probes; and what the search has left undone counts as an error too.
        """
        covariance = 2.0 * positive_solve(self.hessian, np.eye(len(self.theta)))
        return estimation_errors(self.gradients, self.gradient, covariance)

    def recharted(self):
        """This point in smooth coordinates (see minimize_theta), None if it has them."""
        moved = self.objective.layout.recharted(self.theta)
        if moved is None:
            return None
        layout, theta = moved
        exact = replace(self.exact, objective=replace(self.objective, layout=layout), theta=theta)
        state = EstimatedScore(exact, self.n_probes, None, self.value)
        return Scores(exact.objective, self.n_probes, state), state, layout.upright


class Scores:
    """theta -> EstimatedScore; each starts from the last factor, and from the lowest value."""

    def __init__(self, objective, n_probes, lowest=None, offset=0.0):
        self.objective, self.n_probes, self.offset = objective, n_probes, offset
        self.lowest, self.n_iterations, self.converged = lowest, 0, True
        self._near = None if lowest is None else lowest.factor

    def __call__(self, theta):
        try:
            exact = self.objective.at(theta, self._near)
            before = None if self.lowest is None else self.lowest.reached
            state = EstimatedScore(exact, self.n_probes, before, self.offset)
            if not (exact.factor.pwrss > 0 and np.isfinite(state.value + state.gradient.sum())):
                return Impossible()
        except NotPositiveDefinite:
            return Impossible()
        self._near = exact.factor
        if self.lowest is None or state.value < self.lowest.value:
            self.lowest = state
        return state


def positive_solve(H, b):
    """|H|^-1 b by the eigenvalues of the scaled H, none of them near zero."""
    scale = np.sqrt(np.maximum(np.abs(H.diagonal()), 1e-300))
    values, vectors = np.linalg.eigh(H / (scale[:, None] * scale))
    values = np.maximum(np.abs(values), _FLAT * np.abs(values).max(initial=1e-300))
    scaled = (b.T / scale).T
    return ((vectors @ ((vectors.T @ scaled).T / values).T).T / scale).T


def estimation_errors(gradients, gradient, covariance):
    """Covariance (t, t) of the error of a root, and the largest share of a standard error.

    gradients (k, t): one from every probe. covariance (t, t): of the estimates.
    """
    k, inverse = len(gradients), covariance / 2.0
    spread, left = inverse @ (gradients - gradients.mean(axis=0)).T, inverse @ gradient
    widened = student.ppf(0.975, k - 1) / 1.959964
    errors = widened**2 * spread @ spread.T / (k * (k - 1)) + np.outer(left, left)
    standard = covariance.diagonal()
    share = np.sqrt(errors.diagonal() / np.where(standard > 0, standard, np.inf))
    return errors, float(share.max(initial=0.0))


def more_probes(k, share):
    """So many more probes than k, with that share of a standard error, as get it below 1 %."""
    wanted = k * (share / _SHARE) ** 2
    return min(_MOST, k * 2 ** max(1, int(np.ceil(np.log2(wanted / k)))))


def are_enough(k, share):
    """Whether k probes, with that share of a standard error, are all that is taken."""
    return share <= _SHARE or k >= _MOST


def find_root(objective, start, *, n_probes=None, max_iter=100, tol=1e-8, callback=None):
    """(Optimum, MonteCarlo) at the root of the estimated score.

    Parameters
    ----------
    objective : ProfiledDeviance, with an iterative system
    start : (t,)
    n_probes : int, optional
        None for 8, and so many more that the error is below 1 % of every standard error, 64 at
        most.
    max_iter, tol, callback
        As of minimize_theta; what would be below the Monte-Carlo error is not looked for.
    """
    settings = {"max_iter": max_iter, "tol": max(tol, UNDONE), "callback": callback}
    k = n_probes or FEWEST
    optimum = _descend(Scores(objective, k), start, settings)
    optimum = _settled(objective, optimum)
    share = optimum.state.errors()[1]
    while n_probes is None and not are_enough(k, share):
        k = more_probes(k, share)
        optimum = _again(objective, optimum, k, settings)
        share = optimum.state.errors()[1]
    return _finished(objective, optimum, share)


def thinned_levels(groups, n_rows, rng):
    """{group: mask (l,)} of some levels of every group but the largest that has many."""
    masks, largest = {}, max(range(len(groups)), key=lambda g: groups[g].size)
    many = [g for g, own in enumerate(groups) if g != largest and own.n_levels > _THINNED]
    share = np.prod([_THINNED / groups[g].n_levels for g in many])
    kept = min(1.0, _THINNED_ROWS / (share * n_rows)) ** (1.0 / max(1, len(many)))
    for g in many:
        n_levels = groups[g].n_levels
        masks[g] = np.zeros(n_levels, dtype=bool)
        masks[g][rng.choice(n_levels, max(2, round(kept * _THINNED)), replace=False)] = True
    return masks


def thinned_rows(groups, masks):
    """Numbers (m,) of the rows with these levels alone."""
    keep = np.ones(len(groups[0].codes), dtype=bool)
    for g, chosen in masks.items():
        keep &= chosen[groups[g].codes]
    return np.flatnonzero(keep)


def thinned(groups, rng):
    """(rows, groups) of the rows whose levels are among some of every group but the largest."""
    masks = thinned_levels(groups, len(groups[0].codes), rng)
    rows, fewer = thinned_rows(groups, masks), []
    for group in groups:
        own = group.of_rows(rows)
        levels, codes = np.unique(own.codes, return_inverse=True)
        fewer.append(Group(codes, own.z, len(levels)))
    return rows, fewer


def _descend(scores, start, settings):
    return minimize_theta(scores, start, rechart=EstimatedScore.recharted, **settings)


def _again(objective, optimum, k, settings):
    """The Optimum with k probes, from one with fewer."""
    scores = Scores(objective, k, offset=optimum.value)
    scores._near = optimum.state.factor
    found = _settled(objective, _descend(scores, optimum.theta, settings))
    return replace(
        found,
        n_iter=optimum.n_iter + found.n_iter,
        n_evaluations=optimum.n_evaluations + found.n_evaluations,
        trace=optimum.trace + found.trace[1:],
    )


def _settled(objective, optimum):
    """The optimum with negligible variances at exactly zero, if the criterion does not mind.

    Between a root of the score and a zero its even part is a polynomial of fourth degree: the rise
    is read off both scores and the curvature at zero.
    """
    layout, state = objective.layout, optimum.state
    state = EstimatedScore(
        replace(state.exact, objective=objective, theta=optimum.theta), state.n_probes
    )
    for negligible in NEGLIGIBLE:
        theta = layout.settled(optimum.theta, negligible)
        if np.array_equal(theta, optimum.theta):
            break
        scores = Scores(objective, state.n_probes, state)
        zero = scores(theta)
        optimum = replace(optimum, n_evaluations=optimum.n_evaluations + 1)
        if isinstance(zero, Impossible):
            continue
        step = optimum.theta - theta
        curvature = layout.curvature(theta, zero.information)
        fall = 0.75 * zero.gradient @ step + 0.25 * state.gradient @ step
        if fall + 0.25 * step @ curvature @ step >= -UNNOTICED:
            return replace(optimum, theta=theta, state=zero)
    return optimum


def _finished(objective, optimum, share):
    """The Optimum with its criterion, and how exact all is."""
    state = optimum.state
    factor = state.factor
    factor.refine()
    covariance, _ = state.errors()
    layout = state.objective.layout
    user_theta = objective.layout.user_theta
    slopes = slopes_of(lambda theta: user_theta(layout.upright(theta)), state.theta)
    std = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", slopes, covariance, slopes), 0.0))
    error = tuple(abs(e) for e in factor.conditional_error(state.n_probes))
    value = objective.value(factor)
    estimated = factor.log_det_core.samples
    record = MonteCarlo(
        state.n_probes,
        std,
        share,
        factor.noise,
        None if estimated is None else value + estimated - factor.log_det_core.value,
        factor.n_iter,
        error,
    )
    shift = value - optimum.trace[-1][0]
    optimum = replace(
        optimum, value=value, trace=tuple((v + shift, theta) for v, theta in optimum.trace)
    )
    return optimum, record


def slopes_of(function, theta):
    """Derivative (m, t) of a function of theta, by differences."""
    columns = []
    for j, size in enumerate(np.abs(theta)):
        step = np.zeros_like(theta)
        step[j] = 1e-6 * max(1.0, size)
        columns.append((function(theta + step) - function(theta - step)) / (2 * step[j]))
    return np.array(columns).T.reshape(-1, len(theta))
