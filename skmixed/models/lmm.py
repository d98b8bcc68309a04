"""Fitted linear mixed models, and the search for the minimum of their profiled deviance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from operator import methodcaller
from typing import ClassVar

import numpy as np

from skmixed.linalg.iterative import MAX_ITERATIONS
from skmixed.linalg.system import NotPositiveDefinite
from skmixed.models.deviance import CANCELLATION, NO_VALUES, Evaluation, ProfiledDeviance
from skmixed.models.fit import MixedFit
from skmixed.models.linear_parameters import has_many_parameters
from skmixed.models.optimize import NoStart, Optimum, minimize_theta
from skmixed.models.residual import FittedResidual
from skmixed.models.search import Search, outside_starts
from skmixed.models.second_order import Curvature, SecondOrder
from skmixed.models.stochastic import MonteCarlo, find_root

# Residual standard deviations below this share of the spread about X beta are mostly rounding:
# the cross-products hold their squares.
_NO_RESIDUAL = 3e-7
# Below this share a fit is asked whether the criterion has a minimum at all.
_SMALL_RESIDUAL = 1e-3
_NO_MINIMUM = (
    "fixed and random effects together explain the response exactly, up to rounding, so that the "
    "residual variance is zero and the criterion has no minimum"
)

# Error of the criterion that is told.
_NOTICED = 1e-3
_LOST_DIGITS = (
    "the residual standard deviation is {:.1g} of that of the response, so that rounding moves the "
    "criterion by some {:.1g} and with it variances and tests"
)
_CONDITIONED = (
    "{} are those of the fit, and this model has taken in further rows at its theta: ask the model "
    "that was conditioned, or fit one to all rows"
)
# How exactly the optimum of some of the rows is found, from which a search by iterations starts.
_ROUGHLY = 1.0
# theta at which effects are hardly shrunk.
_UNSHRUNK = 100.0


@dataclass(frozen=True)
class LMMFit(MixedFit):
    """A fitted linear mixed model; ``objective`` allows refits and is left out of pickles.

    ``group_modes`` are those of a model that took in further rows, by group (s, l).
    """

    is_linear: ClassVar[bool] = True

    objective: ProfiledDeviance | None = None
    residual: FittedResidual | None = None
    monte_carlo: MonteCarlo | None = None
    group_modes: tuple | None = None

    @classmethod
    def at(cls, objective, optimum):
        """The model at an optimum of its profiled deviance."""
        L = optimum.state.factor
        unit = objective.y_scale
        return cls(
            layout=objective.layout,
            basis=objective.basis,
            optimum=replace(optimum, state=None),
            factor=L,
            fixed_root=L.fixed_root,
            gamma=objective.gamma + unit * L.mode.fixed[:, 0],
            sigma=unit * float(np.sqrt(L.pwrss / objective.dof)) if objective.dof > 0 else np.nan,
            unit=unit,
            deviance=optimum.value,
            reml=objective.reml,
            n_obs=objective.n_obs,
            n_params=objective.rank + objective.n_parameters + 1,
            source=objective.source,
            objective=objective,
            residual=objective.fitted_residual(optimum.theta),
        )

    def with_modes(self, layout, modes):
        """The fit with these modes (s, l) by group and without what its own rows told."""
        return replace(self, layout=layout, group_modes=modes, factor=None, objective=None)

    def _group_modes(self):
        return super()._group_modes() if self.group_modes is None else self.group_modes

    def row_derivatives(self, eta, y, w):
        """(score, weight) (n,) of every row's log-likelihood by eta, eta in units of sigma."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return w * (y - eta) / self.sigma, w

    @property
    def is_mixed(self):
        return bool(self.layout.terms) or self.residual is not None

    @property
    def no_other_df(self):
        if self.monte_carlo is not None:
            return (
                "those of Satterthwaite and of Kenward and Roger need exact second derivatives, "
                "which the iterative solver has not; solver='direct' has them"
            )
        if self.residual is not None:
            return (
                "those of Kenward and Roger are known for residuals with a covariance over visits, "
                "us, cs, homcs, toep or hetar1, without random effects and other factors"
            )
        return (
            "those of Satterthwaite and of Kenward and Roger read the derivatives by all entries "
            "of a term's covariance, which are too many here"
        )

    @cached_property
    def theta(self):
        """Covariance parameters in the user's units and lme4's order."""
        theta = self.optimum.theta[: self.layout.n_theta]
        if self.residual is not None:
            theta = self.layout.scaled(theta, self.residual.reference)
        return self.layout.user_theta(theta)

    @property
    def mean_variance(self):
        """Mean over the rows of their residual variances, in units of sigma^2."""
        return 1.0 if self.residual is None else self.residual.mean_variance

    @property
    def residual_sigma(self):
        """The residual standard deviation that users know: of the first level, or at |x| = 1."""
        return self.sigma / (1.0 if self.residual is None else self.residual.reference)

    @property
    def df_methods(self):
        """Kinds of degrees of freedom, the default first."""
        if not self.is_mixed:
            return super().df_methods
        if self.residual is not None:
            linear = self.residual.structure.is_linear and not self.layout.terms
            own = ("kenward_roger",) if linear else ()
            return ("satterthwaite", *own, "residual", "asymptotic")
        if self.monte_carlo is not None or has_many_parameters(self.layout):
            return ("asymptotic", "residual")
        return ("satterthwaite", "kenward_roger", "residual", "asymptotic")

    def refit(self, *, reml):
        """The same model under the other criterion, from the cross-products in memory."""
        if self.reml == reml:
            return self
        if self.pending is not None:
            raise ValueError(_CONDITIONED.format("refits"))
        if self.objective is None:
            raise ValueError(
                "a refit needs the cross-products of the data, which are not pickled: fit the "
                "model again in this process"
            )
        return fit_lmm(self.objective.with_reml(reml), start=self.optimum.theta)

    @cached_property
    def second_order(self):
        """SecondOrder at the optimum: what degrees of freedom read.

        Once asked for it stays with the fit, in copies and pickles too.

        Raises
        ------
        ValueError
            For a copy without cross-products, and a fit without a residual variance.
        """
        if self.monte_carlo is not None:
            raise ValueError(NO_VALUES)
        if self.pending is not None:
            raise ValueError(_CONDITIONED.format("degrees of freedom"))
        if self.objective is None:
            return SecondOrder.of(self)  # which says what is missing
        with self.objective.threads():
            return self.objective.second_order(self)

    @cached_property
    def curvature(self):
        """What standard errors of variances read: :attr:`second_order`, or a Curvature."""
        few = self.residual is not None or not has_many_parameters(self.layout)
        if few or self.objective is None or not self.sigma > 0:
            return self.second_order
        with self.objective.threads():
            return Curvature.of(self)

    @property
    def other_criterion(self):
        """The ML deviance at a REML fit's theta, and the REML criterion at an ML fit's."""
        other = self.objective.with_reml(not self.reml)
        return other.value_at(self.factor, self.optimum.theta)

    def __getstate__(self):
        return super().__getstate__() | {"objective": None}


def fit_lmm(objective, *, start=None, max_iter=100, tol=1e-8, callback=None):
    """LMMFit at the minimum of a ProfiledDeviance."""
    if objective.exact:
        return LMMFit.at(objective, _without_variances(objective))
    if objective.iterates:
        return _fit_by_iterations(objective, start, max_iter, tol, callback)
    search = Search(
        objective.evaluate,
        objective.layout,
        rechart=methodcaller("recharted"),
        max_iter=max_iter,
        tol=tol,
        callback=callback,
        larger=objective.larger,
    )
    with objective.threads():
        starts, spent = objective.beginnings(_starts) if start is None else ([start], 0)
        optimum = search.run(starts[0], starts[1:])
        fit = LMMFit.at(objective, replace(optimum, n_evaluations=optimum.n_evaluations + spent))
    lost = _without_digits(fit)
    if lost is None:
        return fit
    message, remedy = lost
    optimum = replace(fit.optimum, converged=False, message=message, remedy=remedy)
    return replace(fit, optimum=optimum)


def _thinned_start(objective):
    """theta of the rows that a search by iterations starts from."""
    start, some = objective.layout.initial(), objective.thinned
    if some is None:
        return start
    try:
        with some.threads():
            return minimize_theta(
                some.evaluate, start, rechart=Evaluation.recharted, tol=_ROUGHLY
            ).theta
    except NoStart:
        return start


def _fit_by_iterations(objective, start, max_iter, tol, callback):
    """LMMFit at the root of the estimated score."""
    start = _thinned_start(objective) if start is None else start
    with objective.threads():
        optimum, record = find_root(
            objective,
            start,
            n_probes=objective.n_probes,
            max_iter=max_iter,
            tol=tol,
            callback=callback,
        )
        factor = optimum.state.factor
        if not factor.converged:
            stuck = not_solved(objective.source, *factor.strongest_coupling())
            optimum = replace(optimum, converged=False, **stuck)
        fit = replace(LMMFit.at(objective, optimum), monte_carlo=record)
    if fit.sigma / fit.unit > _NO_RESIDUAL and not _falls_on(fit):
        return fit
    optimum = replace(fit.optimum, converged=False, message=_NO_MINIMUM)
    return replace(fit, optimum=optimum)


def _falls_on(fit):
    """Whether the criterion falls far at larger variances, where a search got stuck there."""
    if fit.optimum.converged or fit.sigma / fit.unit > _SMALL_RESIDUAL:
        return False
    objective, floor = fit.objective, fit.deviance - 1.0 - 10.0 * fit.monte_carlo.deviance_std
    for factor in (2.0, 10.0, 1e2):
        try:
            further = objective.at(objective.enlarged(fit.optimum.theta, factor), fit.factor)
        except NotPositiveDefinite:
            continue
        if objective.value(further.factor) < floor:
            return True
    return False


def not_solved(source, first, second):
    """Message and remedy where groups first and second hold conjugate gradients up."""
    names = list(dict.fromkeys(group for group, _ in source.random))
    return {
        "message": (
            f"conjugate gradients did not reach their tolerance in {MAX_ITERATIONS} iterations: "
            f"{names[first]!r} and {names[second]!r} are nested or nearly confounded"
        ),
        "remedy": "Leave one of them out, merge levels, or use solver='direct'",
    }


def _starts(objective):
    """theta to start from: unit factors, or what random effects with means of their own suggest."""
    start = objective.layout.initial()
    if not any(outside.any() for outside in objective.outside):
        return [start, *objective.layout.other_starts(start)]
    return [_moment_start(objective), *outside_starts(objective.layout, objective.outside, start)]


def _moment_start(objective):
    """theta by moments of the effects where they are hardly shrunk (a first step of EM).

    A mean that X can hold is taken for the fixed effects': there it costs nothing.
    """
    layout = objective.layout
    theta = layout.scaled(layout.initial(), _UNSHRUNK)
    state = objective.evaluate(theta)
    if not np.isfinite(state.value):
        return layout.initial()
    fit = LMMFit.at(objective, Optimum(theta, state.value, state, 0, 1, True, "", ()))
    T = layout.factors(layout.initial())
    terms = zip(
        layout.terms, objective.outside, fit.effects, fit.relative_effects_variance, strict=True
    )
    for term, outside, b, own in terms:
        b = b - np.where(outside, 0.0, b.mean(axis=0))
        moments = (b.T @ b / len(b) / fit.sigma**2 + own.mean(axis=0)) / term.mean_variance
        try:
            half = np.linalg.solve(term.M, np.linalg.cholesky(moments))
        except np.linalg.LinAlgError:  # a covariate without any size
            continue
        T[term.group][term.columns, term.columns] = half
    return layout.from_factors(T)


def _without_variances(objective):
    """The optimum where the fixed effects leave nothing to random ones: theta = 0."""
    theta = objective.parameters(np.zeros(objective.layout.n_theta))
    state = objective.evaluate(theta)
    message = "the fixed effects explain the response exactly"
    return Optimum(theta, state.value, state, 0, 1, True, message, ((state.value, theta),))


def _without_digits(fit):
    """Why not to trust the criterion where hardly any residual is left, and a way out, or None."""
    share = fit.sigma / fit.unit
    if not fit.layout.n_theta or (fit.optimum.converged and share > _SMALL_RESIDUAL):
        return None
    at, objective = fit.optimum.theta, fit.objective
    further = [objective(objective.enlarged(at, factor)) for factor in (2.0, 10.0, 1e2, 1e3)]
    if share <= _NO_RESIDUAL or min(further) < fit.deviance - 1.0:
        return _NO_MINIMUM, "Leave out the random-effects terms that reproduce the response"
    lost = CANCELLATION * fit.objective.dof / share**2
    if not lost > _NOTICED:
        return None
    return _LOST_DIGITS.format(share, lost), "Subtract large known effects from the response"
