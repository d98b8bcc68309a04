"""Generalised models by the iterative solver: the root of an estimated score of the deviance.

At a mode all of the approximated deviance's derivative is exact, up to the tolerance of the
iterations, but what log |H| adds: traces of Z'V^-1Z, and leverages times the change of the weights.
Both are estimated from the same random signs, which stay as they are during a search. Values are
integrals of that score, as in :mod:`skmixed.models.stochastic`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np

from skmixed.models.laplace import Evaluation, LaplaceDeviance, Start
from skmixed.models.optimize import minimize_theta
from skmixed.models.stochastic import (
    FEWEST,
    NEGLIGIBLE,
    UNDONE,
    UNNOTICED,
    MonteCarlo,
    are_enough,
    estimation_errors,
    more_probes,
    positive_solve,
    slopes_of,
)

# Tolerance of the iterations for probes.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class IterativeLaplace(LaplaceDeviance):
    """The deviance whose score is estimated from so many probes, of rows with such a pattern."""

    n_probes: int = FEWEST

    @property
    def evaluation(self):
        """Makes evaluations, whose values are integrated from the lowest one so far."""
        near = self.near.state
        known = isinstance(near, EstimatedLaplace)
        anchor = (near.parameters, near.value, near.gradient) if known else None
        return partial(EstimatedLaplace, anchor=anchor)

    def restarted(self, state, n_probes):
        """The objective with so many probes, which begins at the mode of a state."""
        self.near.state = Start(state.mode)
        return replace(self, n_probes=n_probes)


@dataclass(frozen=True)
class EstimatedLaplace(Evaluation):
    """An evaluation with estimated derivatives; ``anchor``: where its value is integrated from."""

    anchor: Any = None
    noise: ClassVar[float] = 1e-6

    @cached_property
    def value(self):
        """The deviance up to a constant."""
        if self.anchor is None:
            return 0.0 if np.isfinite(self.mode.penalised + self.gradient.sum()) else np.inf
        begin, value, slope = self.anchor
        return value + float((slope + self.gradient) @ (self.parameters - begin)) / 2

    @property
    def estimated_value(self):
        """The deviance, its determinant estimated."""
        return self.mode.penalised + self.objective.rows.constant + self.factor.log_det_u

    @property
    def n_probes(self):
        return self.objective.n_probes

    @cached_property
    def _estimates(self):
        return self.objective.rows.pattern.leverages(self.factor, self.n_probes, _TOLERANCE)

    @cached_property
    def leverages(self):
        return self._estimates.mean()

    @cached_property
    def _traces(self):
        """What stands in :attr:`information`, from every probe: a list of (k, s, s)."""
        found = self.factor.information_samples(n_probes=self.n_probes, tolerance=_TOLERANCE)
        pairs = zip(found, self._scores.levels(), strict=True)
        return [own - c @ c.T for own, c in pairs]

    @cached_property
    def information(self):
        return [own.mean(axis=0) for own in self._traces]

    @cached_property
    def gradients(self):
        """(k, m), one from every probe, by (gamma, theta, log dispersion)."""
        objective, k = self.objective, self.n_probes
        n, t = objective.n_gamma, objective.n_theta
        found = self._estimates.sums(self._weight_changes())
        by_gamma = self._by_gamma()[:n]
        if n and objective.rows.prior is not None:
            by_gamma = by_gamma + objective.rows.prior.gradient(self.mode.gamma)
        found[:, :n] += by_gamma
        for j in range(k):
            own = [samples[j] for samples in self._traces]
            found[j, n : n + t] += objective.layout.gradient(self._theta, own)
        if objective.n_dispersion:
            found[:, -1] += self._direct_dispersion()
        return found

    def _weight_changes(self):
        """Slice of rows -> derivatives (c, m) of the weights by the parameters, along the mode."""
        objective, curve = self.objective, self._curve
        moved = self._moved
        random, Q = objective.rows.pattern.predictors(moved), objective.rows.Q
        n, t = objective.n_gamma, objective.n_theta
        places = np.r_[t : t + n, 0:t, t + n : moved.fixed.shape[1]]

        def of(at):
            change = (random(at) + Q[at] @ moved.fixed) * curve.slope[at, None]
            if objective.n_dispersion:
                change[:, -1] += self._dispersion_curve.weight[at]
            return change[:, places]

        return of

    @property
    def _moved(self):
        """Derivatives of (b, gamma) by (theta, gamma, log dispersion), along the mode."""
        objective = self.objective
        n, t = objective.n_gamma, objective.n_theta
        followed, along = self._followed[0].times(-1.0), self._directions[0]
        for moved, own in zip(followed.random, along.random, strict=True):
            moved[:, :t] += own[:, :t]
        if n:
            followed.fixed[:, t : t + n] += np.eye(n)
        return followed

    @cached_property
    def gradient(self):
        return self.gradients.mean(axis=0)

    @property
    def covariance(self):
        """Of the estimates, by the Hessian of the linear model with the working weights."""
        return 2.0 * positive_solve(self.hessian, np.eye(len(self.parameters)))

    def errors(self):
        """Covariance of the parameters' error, and the largest share of a standard error."""
        return estimation_errors(self.gradients, self.gradient, self.covariance)

    def curvature_along(self, step):
        """Second derivative along a step of theta where the first one vanishes by symmetry."""
        _, rest = self.factor.solve(
            self.objective.rows.effects(self.leverages * self._curve.slope),
            fixed=self.objective.joint,
        )
        G = self._slopes(rest.levels())
        return float(step @ self.objective.layout.curvature(self._theta, G) @ step)


def find_root(objective, start, *, n_probes=None, unit, units, max_iter, tol, callback):
    """(Optimum, MonteCarlo) at the root of the estimated score.

    Parameters
    ----------
    objective : IterativeLaplace
    start : (m,)
    n_probes : int, optional
        None for 8, and so many more that the error is below 1 % of every standard error, 64 at
        most.
    unit, units : float, (m,)
        Standard deviation of one row in the units of theta, and typical sizes of the parameters.
    max_iter, tol, callback
        As of minimize_theta; what would be below the Monte-Carlo error is not looked for.
    """
    settings = {
        "max_iter": max_iter, "tol": max(tol, UNDONE), "callback": callback, "units": units,
    }  # fmt: skip
    k = n_probes or FEWEST
    objective = replace(objective, n_probes=k)
    optimum = _settled(objective, minimize_theta(objective.evaluate, start, **settings), unit)
    share = optimum.state.errors()[1]
    while n_probes is None and optimum.converged and not are_enough(k, share):
        k = more_probes(k, share)
        optimum = _again(objective, optimum, k, unit, settings)
        share = optimum.state.errors()[1]
    return _finished(optimum)


def _again(objective, optimum, k, unit, settings):
    """The Optimum with k probes, from one with fewer."""
    objective = objective.restarted(optimum.state, k)
    found = minimize_theta(objective.evaluate, optimum.theta, **settings)
    found = _settled(objective, found, unit)
    return replace(
        found,
        n_iter=optimum.n_iter + found.n_iter,
        n_evaluations=optimum.n_evaluations + found.n_evaluations,
        trace=optimum.trace + found.trace[1:],
    )


def _settled(objective, optimum, unit):
    """The optimum with negligible variances at exactly zero, if the deviance does not mind.

    Between a root of the score and a zero the part that is even in theta is a polynomial of fourth
    degree: the rise is read off both scores and the curvature at zero.
    """
    layout, state = objective.layout, optimum.state
    begin, end = objective.n_gamma, objective.n_gamma + objective.n_theta
    theta = layout.scaled(optimum.theta[begin:end], 1.0 / unit)
    for negligible in NEGLIGIBLE:
        tidied = layout.settled(theta, negligible)
        if np.array_equal(tidied, theta):
            break
        parameters = optimum.theta.copy()
        parameters[begin:end] = layout.scaled(tidied, unit)
        zero = objective.evaluate(parameters)
        optimum = replace(optimum, n_evaluations=optimum.n_evaluations + 1)
        if not np.isfinite(zero.value):
            continue
        step = optimum.theta - parameters
        fall = 0.75 * zero.gradient @ step + 0.25 * state.gradient @ step
        if fall + 0.25 * zero.curvature_along(step[begin:end]) >= -UNNOTICED:
            return replace(optimum, theta=parameters, value=zero.value, state=zero)
    return optimum


def _finished(optimum):
    """The Optimum with its deviance, and how exact all is."""
    state = optimum.state
    objective, factor = state.objective, state.factor
    covariance, share = state.errors()
    begin, end = objective.n_gamma, objective.n_gamma + objective.n_theta
    value, estimated = state.estimated_value, factor.log_det_core
    samples = estimated.samples
    record = MonteCarlo(
        state.n_probes,
        _user_std(state, covariance[begin:end, begin:end]),
        share,
        factor.noise,
        None if samples is None else value + samples - estimated.value,
        factor.n_iter,
        tuple(abs(e) for e in factor.conditional_error(state.n_probes)),
    )
    shift = value - optimum.trace[-1][0]
    trace = tuple((v + shift, at) for v, at in optimum.trace)
    return replace(optimum, value=value, trace=trace), record


def _user_std(state, covariance):
    """Standard deviations of theta in the user's units, from a covariance (t, t)."""
    layout = state.objective.layout
    slopes = slopes_of(layout.user_theta, state._theta)
    return np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", slopes, covariance, slopes), 0.0))


def restated(record, state, covariance):
    """The MonteCarlo record with errors by the curvature that standard errors are from.

    covariance (t + d, t + d): of theta and log dispersion. That of a linear model with the working
    weights, which a search goes by, may be half of it or twice where a level has few rows.
    """
    objective, n = state.objective, state.objective.n_gamma
    g, mean, H = state.gradients, state.gradient, state.hessian
    along = positive_solve(H[:n, :n], H[:n, n:]).T if n else np.zeros((len(H), 0))
    g, mean = (v[..., n:] - v[..., :n] @ along.T for v in (g, mean))
    errors, share = estimation_errors(g, mean, covariance)
    t = objective.n_theta
    return replace(record, theta_std=_user_std(state, errors[:t, :t]), share=share)
