"""Linear mixed models with a residual covariance structure: the deviance by theta and rho.

The inverse of R(rho) is a sum of coefficients times few matrices, and so is the system A(rho); with
v = (-b, -beta, 1) and w_j = dA_j v

    gradient_j = <dA_j, Lt S Lt'> + d log |R|,    Q_jk = F_jk - w_j' (Lt Omega^-1 Lt') w_k

where F = e' dR^-1_j R dR^-1_k e, or its expectation. Theta's derivatives are those of the model
with independent residuals.

References
----------
Gilmour, Thompson and Cullis (1995), Average information REML, Biometrics 51, 1440-1450.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from skmixed.linalg.mixture import Mixture
from skmixed.linalg.system import Effects, NotPositiveDefinite
from skmixed.models.correlated_order import CorrelatedSecondOrder
from skmixed.models.deviance import Evaluation, ProfiledDeviance
from skmixed.models.lmm import fit_lmm
from skmixed.models.optimize import Impossible
from skmixed.models.residual import FittedResidual, Residual
from skmixed.models.residual_rows import Coefficients

# Decrease of the criterion left undone where a fit is but a start.
_ROUGH = 0.1
# Share of the rows of a level that the fixed effects leave, as residual degrees of freedom.
_NOTHING_LEFT = 1e-8


@dataclass(frozen=True)
class CorrelatedDeviance(ProfiledDeviance):
    """A ProfiledDeviance whose parameters are theta, then those of the residuals, rho.

    Attributes
    ----------
    residual : Residual
    mixture : Mixture
    """

    larger: ClassVar[float] = 5.0

    residual: Residual | None = None
    mixture: Mixture | None = None

    @classmethod
    def _of_rows(cls, design, pattern, Q, y):
        text = str(design.spec.residual)
        residual, rows = Residual.build(text, design.residual, len(Q), design.frequencies)
        _check_rows(design, rows, text)
        _check_levels(design, Q)
        scale = None if design.weights is None else np.sqrt(design.weights)
        return {"residual": residual, "mixture": Mixture.build(pattern, rows, scale, Q, y)}

    @property
    def n_parameters(self):
        return self.layout.n_theta + self.residual.n_params

    def parameters(self, theta):
        return np.append(theta, self.residual.start())

    def enlarged(self, parameters, factor):
        theta, rho = self.split(parameters)
        return np.append(factor * theta, rho)

    def split(self, parameters):
        """(theta, rho)."""
        k = self.layout.n_theta
        return parameters[:k], parameters[k:]

    def mean_variance(self, parameters):
        return self.residual.mean_variance(self.split(parameters)[1])

    def second_order(self, fit):
        return CorrelatedSecondOrder.of(fit)

    def fitted_residual(self, parameters):
        return FittedResidual.at(self.residual, self.split(parameters)[1])

    def with_response(self, response):
        return self.response(None, response)

    def response(self, design, y):
        raise ValueError(
            "a model with a residual structure is fitted to its own response alone: fit the "
            "estimator again for another one"
        )

    @property
    def independent(self):
        """The same model with independent residuals of one variance."""
        own = {f.name: getattr(self, f.name) for f in fields(ProfiledDeviance)}
        return ProfiledDeviance(**own)

    def beginnings(self, starts):
        """Variances and covariances of visits from the residuals of the independent model."""
        plain = self.independent
        thetas = starts(plain)
        rho = self.residual.start()
        if not self.residual.starts_from_moments:
            return [np.append(theta, rho) for theta in thetas], 0
        factor, theta, spent = _fitted(plain, thetas[0])
        if factor is None:
            return [np.append(theta, rho)], spent
        moments, first = self.residual.from_moments(self.mixture.cell_forms(factor))
        # theta is relative to the standard deviation of the first level, or at the first visit
        share = np.sqrt(factor.pwrss / self.n_obs / first)
        starts = [np.append(self.layout.scaled(theta, share), moments)]
        if self.residual.may_have_several_optima and theta.size:
            starts.append(np.append(theta, rho))
        return starts, spent

    def evaluate(self, parameters):
        theta, rho = self.split(parameters)
        coefficients = self.residual.coefficients(rho)
        if coefficients is None:
            return Impossible("the residual covariance is not positive definite")
        try:
            system = self.mixture.system(coefficients.c)
            L = system.factor(self.layout.factors(theta))
        except NotPositiveDefinite:
            return Impossible()
        if not L.pwrss > 0 and not self.exact:
            return Impossible()
        return CorrelatedEvaluation(self, parameters, L, coefficients)

    def value_at(self, L, parameters):
        return self.value(L) + self.residual.coefficients(self.split(parameters)[1]).log_det


@dataclass(frozen=True)
class CorrelatedEvaluation(Evaluation):
    """The objective at one (theta, rho); derivatives are computed when they are read."""

    coefficients: Coefficients | None = None

    exact_hessian = None  # rho moves more than the covariances of the effects

    @cached_property
    def value(self):
        return self.objective.value(self.factor) + self.coefficients.log_det

    @property
    def _own_theta(self):
        return self.theta[: self.objective.layout.n_theta]

    @cached_property
    def moved(self):
        """dA_j (p, N), as the mixture stores it."""
        return self.objective.mixture.combined(self.coefficients.dc)

    @cached_property
    def gradient(self):
        objective = self.objective
        by_rho = objective.mixture.slopes(
            self.factor, self.moved, fixed=float(objective.reml), response=objective.dof
        )
        by_theta = objective.layout.gradient(self._own_theta, self.information)
        return np.concatenate([by_theta, by_rho + self.coefficients.dlog_det])

    @cached_property
    def hessian(self):
        H = self.average_information.copy()
        k = self.objective.layout.n_theta
        H[:k, :k] += self.objective.layout.curvature(self._own_theta, self.information)
        return H

    @cached_property
    def average_information(self):
        L, objective = self.factor, self.objective
        m, mixture = objective.dof, objective.mixture
        a = objective.layout.tangents(self._own_theta, L.scores)
        w = mixture.times_mode(L, self.moved)
        x, rest = L.solve(w)
        k, n = objective.layout.n_theta, len(self.theta)
        Q = np.empty((n, n))
        Q[:k, :k] = L.quadratic_forms(a)
        Q[:k, k:] = -a.dot(Effects(rest.random, 0.0 * rest.fixed))
        Q[k:, :k] = Q[:k, k:].T
        Q[k:, k:] = self._forms - w.dot(x)
        h = self.score
        return m * (Q / L.pwrss - h[:, None] * h)

    @cached_property
    def score(self):
        """h (k + p,): minus the derivative of log r^2, r^2 the weighted sum of squares."""
        L, layout = self.factor, self.objective.layout
        a = layout.tangents(self._own_theta, L.scores)
        return np.append(a.dot(L.scores)[:, 0], -self.quadratics) / L.pwrss

    @cached_property
    def quadratics(self):
        """v'dA_j v (p,)."""
        return self.objective.mixture.forms(self.factor, self.moved)

    @property
    def _forms(self):
        """F (p, p), observed where it can be."""
        found = self.coefficients
        if found.exact is None:
            return self.factor.pwrss / self.objective.dof * found.expected()
        return found.exact() @ self.objective.mixture.cell_forms(self.factor)

    def recharted(self):
        moved = self.objective.layout.recharted(self._own_theta)
        if moved is None:
            return None
        layout, theta = moved
        k = len(theta)
        objective = replace(self.objective, layout=layout)
        point = np.append(theta, self.theta[k:])
        state = CorrelatedEvaluation(objective, point, self.factor, self.coefficients)

        def upright(x):
            return np.append(layout.upright(x[:k]), x[k:])

        return objective.evaluate, state, upright


def _fitted(plain, theta):
    """(factor, theta, evaluations) at, or near, the optimum of a model of independent residuals."""
    if theta.size:
        fit = fit_lmm(plain, tol=_ROUGH)
        # a variance of zero is a stationary point, and none to start from
        at = theta if fit.is_singular else fit.optimum.theta
        return fit.factor, at, fit.optimum.n_evaluations
    state = plain.evaluate(theta)
    return getattr(state, "factor", None), theta, 1


def _check_rows(design, rows, text):
    """Raise an error for correlated rows that differ in what they must share."""
    for term in design.random:
        if rows.split_level(term.codes):
            raise ValueError(
                f"the residual structure {text} correlates rows of different levels of "
                f"{term.group!r}: beside it a random-effects term needs a grouping factor whose "
                "levels hold whole groups of correlated rows"
            )
    counts = design.frequencies
    if counts is not None and rows.split_level(np.unique(counts, return_inverse=True)[1].ravel()):
        raise ValueError(
            f"sample_weight counts whole groups of the correlated rows of {text}, and it differs "
            "within one: give all rows of a group the same weight, or use prior_weights"
        )


def _check_levels(design, Q):
    """Raise an error for a level with a variance of its own whose rows X fits exactly."""
    weights = np.ones(len(Q)) if design.weights is None else design.weights
    leverage = np.einsum("nr,nr->n", Q, Q) * weights
    total = weights if design.frequencies is None else weights * design.frequencies
    leverage /= total.sum()
    counts = np.ones(len(Q)) if design.frequencies is None else design.frequencies
    for term in design.residual:
        if term.factor.kind != "ident":
            continue
        size = np.bincount(term.codes, counts)
        left = size - np.bincount(term.codes, leverage * counts)
        exact = np.flatnonzero(left <= _NOTHING_LEFT * size)
        if len(exact):
            raise ValueError(
                f"{term.factor} has a residual variance for {str(term.levels[exact[0]])!r}, whose "
                "rows the fixed effects fit exactly: the likelihood has no maximum. Merge the "
                "level with another one, or leave its rows out"
            )


def deviance_of(design, *, reml=True, solver="direct", n_probes=None, seed=0):
    """The ProfiledDeviance of a design, whatever its residuals are; see its ``from_design``."""
    if not design.residual:
        return ProfiledDeviance.from_design(
            design, reml=reml, solver=solver, n_probes=n_probes, seed=seed
        )
    if solver == "iterative":
        raise ValueError(
            "solver='iterative' takes independent residuals of one variance, and this model has "
            "residual=: use solver='direct'"
        )
    return CorrelatedDeviance.from_design(design, reml=reml)
