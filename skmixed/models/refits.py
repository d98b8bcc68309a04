"""A fitted model fitted again: to other responses of its rows, or to rows drawn from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from skmixed.design import check_identifiable
from skmixed.models.correlated import deviance_of
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.glmm import GLMMFit, Problem, approximation, fit_glmm
from skmixed.models.lmm import LMMFit, fit_lmm
from skmixed.models.lockstep import Lockstep, unit_crosses
from skmixed.models.prior import FixedPrior
from skmixed.models.resampling import (
    CorrelatedOutcome,
    FamilyOutcome,
    NormalOutcome,
    Parametric,
    Residuals,
    each_row_once,
    taken,
)
from skmixed.models.response import Responses
from skmixed.models.separation import SeparatedFit, Separation, separates_beside_prior
from skmixed.models.source import Source

# Responses whose searches start together: enough to share the cost of calls, in little memory.
_TOGETHER = 64


@dataclass(frozen=True, eq=False)
class LinearRefits:
    """Refits of a linear mixed model.

    Another response changes the cross-products with y alone, and the search starts at the
    parameters of the fit: unless these are singular, where the criterion has no slope, or some
    effects have means of their own, where the criterion may have several minima.

    Attributes
    ----------
    fit : LMMFit
    design : Design
        Every row once.
    objective : ProfiledDeviance
        Of the design.
    source : Source
        Of the data as they were given.
    settings : dict
        Of the search: max_iter and tol.
    """

    fit: LMMFit
    design: object
    objective: ProfiledDeviance
    source: Source
    settings: dict

    @classmethod
    def of(cls, fit, design, **settings):
        objective = deviance_of(design, reml=fit.reml)
        source = objective.source
        if design.frequencies is not None:
            design = each_row_once(design)[0]
            objective = deviance_of(design, reml=fit.reml)
        return cls(fit, design, objective, source, settings)

    @property
    def layout(self):
        """The layout of all refits to other responses."""
        return self.objective.layout

    @cached_property
    def responses(self) -> Responses:
        """y -> Response."""
        return self.objective.responses(self.design)

    @cached_property
    def _start(self):
        outside = any(own.any() for own in self.objective.outside)
        return None if outside or self.fit.is_singular else self.fit.optimum.theta

    def parametric(self, *, conditional=False):
        """Responses drawn from the fit."""
        weights = self.design.weights
        deviation = self.fit.sigma if weights is None else self.fit.sigma / np.sqrt(weights)
        outcome, residual, terms = NormalOutcome, self.fit.residual, self.design.residual
        if residual is not None and residual.is_correlated:
            outcome = partial(CorrelatedOutcome, roots=tuple(residual.roots(terms)))
        elif residual is not None:
            deviation = deviation * residual.sd(terms)
        return Parametric.of(
            self.fit, self.design, self.responses.groups, outcome(deviation),
            conditional=conditional,
        )  # fmt: skip

    def residuals(self):
        """Responses made of the residuals of the fit."""
        if self.fit.residual is not None:
            raise ValueError(
                "kind='residual' draws residuals of one distribution, and this model has the "
                f"residual structure {self.fit.residual.structure.text}: use kind='parametric' or "
                "kind='cases'"
            )
        for term in self.design.random:
            if term.relationship is not None:
                raise ValueError(
                    "kind='residual' draws among independent levels, and those of "
                    f"{term.group!r} are related: use kind='parametric'"
                )
        theta = self.fit.optimum.theta
        scores = self.objective.evaluate(theta).factor.scores.levels()
        return Residuals.of(self.fit, self.design, self.responses.groups, scores)

    def by_maximum_likelihood(self):
        """The same for the fit by maximum likelihood."""
        if not self.fit.reml:
            return self
        objective = self.objective.with_reml(False)
        fit = fit_lmm(objective, start=self._start, **self.settings)
        return replace(self, fit=fit, objective=objective)

    def of_response(self, y, *, near=True):
        """LMMFit of the same rows with another response (n,), from the parameters of the fit.

        Without ``near`` the search starts as that of any fit.
        """
        start = self._start if near else None
        return self._fitted(y, start)

    def of_responses(self, several):
        """Functions that make the fits of other responses, a list of (n,).

        The searches of small models start where descents in lockstep have ended.
        """
        starts = np.full((len(several), self.objective.n_parameters), np.nan)
        if self.together > 1:
            responses = [self.responses(y) for y in several]
            cross = unit_crosses(responses, self.objective.total_weight)
            starts = self._lockstep.minima(cross, self.fit.optimum.theta)
        found = [self._start if np.isnan(own).any() else own for own in starts]
        return [partial(self._fitted, *pair) for pair in zip(several, found, strict=True)]

    @property
    def together(self):
        """How many responses are best fitted together."""
        return 1 if self._lockstep is None or self._start is None else _TOGETHER

    @cached_property
    def _lockstep(self):
        return None if self.fit.residual is not None else Lockstep.of(self.objective)

    def _fitted(self, y, start):
        return fit_lmm(self._objective_of(y), start=start, **self.settings)

    def _objective_of(self, y):
        """The objective of another response; cross-products of residual cells are made again."""
        if self.fit.residual is None:
            return self.objective.with_response(self.responses(y))
        return deviance_of(replace(self.design, y=y), reml=self.objective.reml)

    def of_rows(self, rows, random, copies):
        """LMMFit of rows (m,) of the design, which may repeat, with their terms and copies."""
        design = taken(self.design, rows, random, copies)
        check_identifiable(design)
        objective = deviance_of(design, reml=self.fit.reml)
        return fit_lmm(objective, **self.settings)


@dataclass(frozen=True, eq=False)
class GeneralizedRefits:
    """Refits of a generalised linear mixed model; see :class:`LinearRefits`.

    ``problem`` is that of the design, whose rows count once each; ``prior`` that of the fixed
    effects, whose scales follow the response where the estimator's do.
    """

    fit: GLMMFit
    design: object
    problem: Problem
    source: Source
    settings: dict
    prior: FixedPrior | None = None

    @classmethod
    def of(cls, fit, design, problem, prior=None, **settings):
        source = problem.source
        if design.frequencies is not None:
            rows = problem.objective.rows
            design, y, w = each_row_once(design, rows.y, rows.w)
            problem = approximation(design, y, w, fit.family, fit.n_agq, prior, problem.solver)
        return cls(fit, design, problem, source, settings, prior)

    @property
    def layout(self):
        """The layout of all refits to other responses."""
        return self.problem.objective.layout

    @property
    def _rows(self):
        return self.problem.objective.rows

    def parametric(self, *, conditional=False):
        """Responses drawn from the fit."""
        outcome = FamilyOutcome(self.fit.family, self._rows.w, self.fit.dispersion)
        return Parametric.of(
            self.fit, self.design, self._rows.groups, outcome, conditional=conditional
        )

    def residuals(self):
        """An error: rows of a generalised model have no residuals of one distribution."""
        raise ValueError(
            "kind='residual' needs residuals of one distribution, which rows of a generalised "
            "model have not: use kind='parametric' or kind='cases'"
        )

    def by_maximum_likelihood(self):
        """These: the fit is by maximum likelihood."""
        return self

    def of_response(self, y, *, near=True):
        """GLMMFit of the same rows with another response (n,), as the family takes it."""
        start = self.fit if near and self._is_start else None
        return self._fitted(self.problem.with_response(y, self._penalty(y)), self.design, start)

    def _penalty(self, y):
        """The Penalty of the prior beside a response."""
        if self.prior is None:
            return None
        own = self.problem.basis, self._rows.Q, self.fit.family
        return self.prior.penalty(self.design, *own, y, self._rows.w)

    @cached_property
    def _is_start(self):
        """Whether the search may start at the parameters of the fit."""
        outside = any(own.any() for own in self.problem.objective.outside)
        separated = isinstance(self.fit, SeparatedFit)
        return not (outside or separated or self.fit.is_singular)

    together = 1

    def of_responses(self, several):
        """Functions that make the fits of other responses, a list of (n,)."""
        return [partial(self.of_response, y) for y in several]

    def of_rows(self, rows, random, copies):
        """GLMMFit of rows (m,) of the design, which may repeat, with their terms and copies."""
        design = taken(self.design, rows, random, copies)
        family = self.fit.family
        check_identifiable(design, residual=family.scale)
        own = self._rows
        y, w = own.y[rows], own.w[rows]
        own = self.fit.n_agq, self.prior, self.problem.solver
        problem = approximation(design, y, w, family, *own)
        return self._fitted(problem, design, None)

    def _fitted(self, problem, design, near):
        limit = Separation.find(problem, design)
        if limit is not None and self.prior is not None:
            if separates_beside_prior(problem):
                raise ValueError("the outcomes separate where the prior has no scale")
            limit = None
        if limit is None:
            return fit_glmm(problem, near=near, **self.settings)
        return limit.complete(fit_glmm(limit.remaining, **self.settings))
