"""Wald and profile limits of all parameters of a fit, of any kind.

Wald limits are tuples (estimate, lower, upper, note), the note empty for an ordinary one; those of
profiles are records.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from skmixed.inference.deviances import GeneralizedDeviance
from skmixed.inference.fixed_effects import FixedEffects
from skmixed.inference.profile import (
    Limits,
    Linear,
    coefficient_limits,
    generalized_limits,
    variance_limits,
)
from skmixed.inference.variances import (
    ComponentEstimate,
    check_information,
    component_estimates,
    delta_estimate,
)
from skmixed.models.components import Component, Sigma, variance_parameters, with_residual
from skmixed.models.glmm import GLMMFit, Problem
from skmixed.models.lmm import LMMFit
from skmixed.models.separation import SeparatedFit

_AT_BOUND = "estimated at its bound, where it has no standard error"
_NO_HESSIAN = "the fit has no Hessian, so that there is no standard error"


def limits_of(fit, problem=None):
    """What knows the limits of a fit."""
    if isinstance(fit, GLMMFit):
        return GeneralizedLimits(fit, problem)
    return NonlinearLimits(fit) if fit.of_curves else LinearLimits(fit)


@dataclass(frozen=True)
class LinearLimits:
    """Limits of a linear mixed model."""

    fit: LMMFit

    @cached_property
    def components(self):
        """Standard deviations, correlations, and sigma."""
        found = variance_parameters(self.fit.layout)
        return found if self.fit.residual is None else with_residual(found, self.fit.residual)

    def estimates(self, level, information="observed"):
        """ComponentEstimate of every component."""
        record = self.fit.curvature
        own = self.fit.layout, self.components
        return component_estimates(record, *own, level=level, information=information)

    def wald(self, components, level):
        """Limits of components."""
        return _chosen(self.estimates(level), components) if components else []

    def profile(self, rows, components, level, points=0):
        """Profile Limits of rows, then of components, with points of their curves."""
        _check_unstructured(self.fit)
        ml = self.fit.refit(reml=False)
        if not ml.sigma > 0:
            raise ValueError(
                "profiles need a residual variance, and this model leaves none: it has as many "
                "parameters as the rows can tell apart"
            )
        if not ml.optimum.converged:
            raise ValueError(
                f"there is no profile without an optimum of the likelihood: "
                f"{ml.optimum.message}. {ml.optimum.remedy}"
            )
        at = ml.objective, ml.optimum.theta, ml.sigma
        with ml.objective.threads():
            own = rows @ ml.basis.to_coef
            found = coefficient_limits(*at, own, level, points) if len(rows) else []
            found += variance_limits(*at, level, components, points) if components else []
        return found


@dataclass(frozen=True)
class NonlinearLimits:
    """Limits of a nonlinear mixed model; of Wald alone."""

    fit: Any

    @cached_property
    def components(self):
        """Standard deviations, correlations, and sigma."""
        return variance_parameters(self.fit.layout)

    def estimates(self, level, information="observed"):
        """ComponentEstimate of every component."""
        _check_observed(information, "nonlinear")
        x = np.append(self.fit.optimum.theta, np.log(self.fit.sigma))
        return _estimates_at(self.components, x, self.fit.covariance, level)

    def wald(self, components, level):
        """Limits of components."""
        missing = _NO_HESSIAN if self.fit.covariance is None else _AT_BOUND
        return _chosen(self.estimates(level), components, missing)

    def profile(self, rows, components, level, points=0):
        """An error."""
        raise ValueError(
            "profiles of nonlinear models are not available: use method='wald', or compare models "
            "with and without the parameter by likelihood_ratio_test"
        )


@dataclass(frozen=True)
class GeneralizedLimits:
    """Limits of a generalised linear mixed model; profiles need its Problem with the rows."""

    fit: GLMMFit
    problem: Problem | None = None

    @cached_property
    def components(self):
        """Standard deviations, correlations, and the dispersion if the family has one."""
        layout, name = self.fit.layout, self.fit.family.dispersion
        found = variance_parameters(layout, sigma=False)
        if name is None:
            return found
        return [*found, Component(name, None, (), Sigma(layout.n_theta), layout)]

    def estimates(self, level, information="observed"):
        """ComponentEstimate of every component."""
        _check_observed(information, "generalised")
        x = np.append(self.fit.optimum.theta, self.fit.log_dispersion)
        return _estimates_at(self.components, x, self.fit.covariance, level)

    def wald(self, components, level):
        """Limits of components."""
        missing = _NO_HESSIAN if self.fit.covariance is None else _AT_BOUND
        return _chosen(self.estimates(level), components, missing)

    def profile(self, rows, components, level, points=0):
        """Profile Limits of rows, then of components, with points of their curves."""
        _check_unstructured(self.fit)
        f = GeneralizedDeviance(self._objective(), self.fit)
        t = self.fit.layout.n_theta
        parameters = [_padded(row, t, len(f.start)) for row in rows @ self.fit.basis.to_coef]
        log_dispersion = Linear(np.eye(len(f.start))[-1])
        parameters += [log_dispersion if c.term is None else c for c in components]
        with self.problem.threads():
            found = generalized_limits(f, parameters, level, points)
        own = zip([None] * len(rows) + components, found, strict=True)
        return [_exponentiated(v) if c is not None and c.term is None else v for c, v in own]

    def _objective(self):
        """The objective of the fit, with its rows."""
        if self.problem is None:
            raise ValueError(
                "profiles of a generalised model need its rows, which a fit does not keep: give "
                "the X and y that it was fitted to"
            )
        if self.problem.iterates:
            raise ValueError(
                "profiles need exact values of the likelihood, which the iterative solver has not: "
                "fit the model with solver='direct', if its crossed factors leave room"
            )
        if isinstance(self.fit, SeparatedFit):
            raise ValueError(
                "the outcomes separate, so that the likelihood has no maximum and a profile no "
                "limits: merge categories, or leave columns out"
            )
        own, given = self.fit.source, self.problem.source
        if (own.rows, own.response, own.weights) != (given.rows, given.response, given.weights):
            raise ValueError("these are not the rows that the model was fitted to")
        return profiled_objective(self.problem)


def _check_observed(information, kind):
    check_information(information)
    if information == "expected":
        raise ValueError(
            f"the expected information of a {kind} model's variances is not known: use "
            "information='observed'"
        )


def _estimates_at(components, x, covariance, level):
    """Estimates at x; without standard errors where its covariance is not known."""
    if covariance is None:
        values = [c.function(x)[0] for c in components]
        values = [abs(v) if c.kind == "sd" else v for c, v in zip(components, values, strict=True)]
        return [ComponentEstimate(c, v, *[np.nan] * 3)
                for c, v in zip(components, values, strict=True)]  # fmt: skip
    return [delta_estimate(c, x[: len(covariance)], covariance, level) for c in components]


def profiled_objective(problem):
    """The objective with the fixed effects among its parameters."""
    objective = problem.objective
    if not objective.joint:
        return objective
    if objective.n_theta:
        raise ValueError(
            "n_agq=0 estimates fixed effects at the joint mode, where the likelihood is no "
            "maximum: fit with n_agq=1 for profiles"
        )
    return replace(objective, joint=False)


def _padded(row, before, size):
    """A row on gamma as a linear function of x."""
    slope = np.zeros(size)
    slope[before : before + len(row)] = row
    return Linear(slope)


def wald_rows(fit, rows, level, ddf):
    """Wald limits of linear functions rows (d, r) of the coefficients of the kept columns."""
    K = np.asarray(rows).reshape(-1, fit.rank) @ fit.basis.combinations.T
    tests = FixedEffects(fit).row_tests(K, ddf)
    return [(*values, "") for values in zip(tests.estimate, *tests.limits(level), strict=True)]


def _exponentiated(limits):
    """Limits of what was profiled on a logarithmic scale."""
    values = (np.exp(v) for v in (limits.estimate, limits.lower, limits.upper))
    curve = np.column_stack([np.exp(limits.curve[:, 0]), limits.curve[:, 1]])
    return Limits(*values, limits.note, limits.n_evaluations, curve)


def _chosen(estimates, components, missing=_AT_BOUND):
    """Limits of components from the estimates of all."""
    by_name = {_key(e.component): e for e in estimates}
    own = [by_name[_key(c)] for c in components]
    return [(e.estimate, e.lower, e.upper, missing if np.isnan(e.std_error) else "") for e in own]


def _key(component):
    return component.kind, component.term, component.effects, component.name


def _check_unstructured(fit):
    """Profiles move along faces of the unstructured covariances, which others do not have."""
    if fit.residual is not None:
        raise ValueError(
            "profiles are for models with independent residuals of one variance: use method='wald'"
        )
    if fit.layout.is_structured:
        kinds = ", ".join(dict.fromkeys(t.kind for t in fit.layout.terms if t.kind != "us"))
        raise ValueError(
            "profiles are for models whose random-effects terms are unstructured, and this one has "
            f"terms {kinds}: confint(method='wald') has limits of their parameters"
        )
