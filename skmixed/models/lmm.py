"""Linear mixed models: the profiled deviance as a function of theta, and the fitted model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from operator import methodcaller
from typing import ClassVar

import numpy as np

from skmixed.linalg.iterative import MAX_ITERATIONS, IterativeSystem
from skmixed.linalg.iterative_choice import prefers_iterative
from skmixed.linalg.rank import ColumnBasis, independent_columns
from skmixed.linalg.system import (
    Effects,
    Factor,
    Group,
    NotPositiveDefinite,
    Pattern,
    RelatedGroup,
    System,
)
from skmixed.linalg.threads import one_thread
from skmixed.models.fit import MixedFit
from skmixed.models.layout import CovarianceLayout
from skmixed.models.linear_parameters import has_many_parameters
from skmixed.models.moments import RowMoments
from skmixed.models.optimize import Impossible, NoStart, Optimum, minimize_theta
from skmixed.models.residual import FittedResidual
from skmixed.models.search import LARGER, Search, outside_effects, outside_starts
from skmixed.models.second_order import Curvature, SecondOrder
from skmixed.models.source import Source, checksum
from skmixed.models.stochastic import MonteCarlo, find_root, thinned

# A residual below this share of the response is rounding.
ROUNDING = 32 * np.finfo(float).eps
# Residual standard deviations below this share of the spread about X beta are mostly rounding:
# the cross-products hold their squares.
_NO_RESIDUAL = 3e-7
# Below this share a fit is asked whether the criterion has a minimum at all.
_SMALL_RESIDUAL = 1e-3
_NO_MINIMUM = (
    "fixed and random effects together explain the response exactly, up to rounding, so that the "
    "residual variance is zero and the criterion has no minimum"
)

# Rounding of the residual sum of squares, as a share of the response's sum of squares.
_CANCELLATION = 4 * np.finfo(float).eps
# Error of the criterion that is told.
_NOTICED = 1e-3
_LOST_DIGITS = (
    "the residual standard deviation is {:.1g} of that of the response, so that rounding moves the "
    "criterion by some {:.1g} and with it variances and tests"
)
_NO_VALUES = (
    "exact values of the criterion and its second derivatives cannot be had from a fit by the "
    "iterative solver: fit the model with solver='direct', if its crossed factors leave room"
)
_NO_ITERATIONS = (
    "solver='iterative' takes grouping factors with independent levels, and {}: use solver='direct'"
)
_CONDITIONED = (
    "{} are those of the fit, and this model has taken in further rows at its theta: ask the model "
    "that was conditioned, or fit one to all rows"
)
# theta at which effects are hardly shrunk.
_UNSHRUNK = 100.0

# Effects from which a chain pays; below, the whole system is one small dense matrix.
CHAIN_FROM = 100
# Rows from which a search by iterations starts at the optimum of some of them, found to this.
THINNED_FROM, _ROUGHLY = 10_000_000, 1.0
# Rows of the core from which a second BLAS thread pays.
_WORTH_THREADS = 1000


@dataclass(frozen=True, eq=False)
class Response:
    """All that a ProfiledDeviance needs of a response: its cross-products with [Z Q].

    Attributes
    ----------
    cross : Effects
        [Z Q]'W(y - Q gamma), one column.
    square : float
        (y - Q gamma)'W(y - Q gamma).
    gamma : (r,)
        What has been subtracted already, zero for a response as it is. Where the spread about Q
        gamma is small beside y, squares of y have lost the digits: subtract from the rows.
    largest : float
        Largest absolute value of y, 0.0 if it is not known.
    checksum : int
    """

    cross: Effects
    square: float
    gamma: np.ndarray
    largest: float = 0.0
    checksum: int = 0


@dataclass(frozen=True, eq=False)
class Responses:
    """The rows of an objective as a function that makes a Response of y (n,).

    Q (n, r): basis of the columns of X; groups: with the engine's covariates.
    """

    Q: np.ndarray
    groups: tuple[Group, ...]
    weights: np.ndarray | None
    offset: np.ndarray | None

    def __call__(self, y):
        moved = y if self.offset is None else y - self.offset
        gamma, residual = _least_squares(self.Q, moved, self.weights)
        weighted = residual if self.weights is None else residual * self.weights
        cross = Effects.of([group.sums(weighted) for group in self.groups], self.Q.T @ weighted)
        return Response(cross, residual @ weighted, gamma, np.abs(y).max(initial=0.0), checksum(y))


@dataclass(frozen=True)
class ProfiledDeviance:
    """-2 log (restricted) likelihood of a linear mixed model, profiled over beta and sigma.

    Built once from the rows; every evaluation works on their cross-products alone. X enters as an
    orthonormal basis of its columns and y as the residual of least squares on it, scaled to unit
    mean square: exact changes of variables that keep the digits of badly scaled data.

    Attributes
    ----------
    system : System
    layout : CovarianceLayout
    basis : ColumnBasis
    gamma : (r,)
        Least-squares coefficients on the basis, subtracted from y.
    y_scale : float
    reml : bool
    n_obs : float
        Number of rows (sum of the frequencies).
    n_rows : int
        Number of rows, each counted once.
    total_weight : float
    log_weights : float
        Sum of log prior weights.
    source : Source
        Names and fingerprints of what the rows were.
    exact : bool
        Whether X explains the response up to rounding, so that there is no variance to divide.
    outside : tuple of (s,) bool
        For every term, which effects have a mean of their own, as X misses their covariate.
    n_probes : int or None
        Of the iterative solver.
    thinned : ProfiledDeviance or None
        That of some of the rows, from which a search by iterations starts.
    """

    larger: ClassVar[float] = LARGER

    system: System | IterativeSystem
    layout: CovarianceLayout
    basis: ColumnBasis
    gamma: np.ndarray
    y_scale: float
    reml: bool
    n_obs: float
    n_rows: int
    total_weight: float
    log_weights: float
    source: Source
    exact: bool = False
    outside: tuple[np.ndarray, ...] = ()
    n_probes: int | None = None
    thinned: ProfiledDeviance | None = None

    @classmethod
    def from_design(cls, design, *, reml=True, solver="direct", n_probes=None, seed=0):
        """The objective of a design.

        Parameters
        ----------
        design : Design
        reml : bool
        solver : {"auto", "direct", "iterative"}
        n_probes : int or None
        seed : int
            Of the random signs of the iterative solver.
        """
        weights = row_weights(design)
        basis = independent_columns(design.X, weights, design.intercept)
        Q = basis.orthonormal(design.X)
        y = design.y if design.offset is None else design.y - design.offset
        gamma, residual = _least_squares(Q, y, weights)
        frequencies = design.frequencies
        n_obs = float(len(y) if frequencies is None else frequencies.sum())
        y_scale = _root_mean_square(residual, weights)
        exact = len(y) <= basis.rank or y_scale <= ROUNDING * np.abs(design.y).max()
        if exact:
            y_scale, residual = 1.0, np.zeros(len(y))
        residual /= y_scale
        layout = CovarianceLayout.build(design.random, weights, fixed_weights=not design.residual)
        if iterates(layout, Q.shape[1], solver) and not exact:
            more = {}
            system = IterativeSystem.of(
                layout.groups, weights, Q, residual, seed=seed, n_probes=n_probes
            )
        else:
            pattern = Pattern.build(layout.groups, Q.shape[1], chain_from=CHAIN_FROM)
            system = pattern.system(weights, Q, residual)
            more = cls._of_rows(design, pattern, Q, residual)
        log_weights = sum_log(design.weights, frequencies)
        moments = RowMoments.of(Q, layout, frequencies, prior_weights=design.weights)
        objective = cls(
            system.without_rows(),
            layout.without_rows(),
            basis,
            gamma,
            y_scale,
            reml,
            n_obs,
            len(y),
            float(len(y) if weights is None else weights.sum()),
            log_weights,
            Source.of(design, basis, Q, layout, design.y, design.weights, moments),
            bool(exact),
            outside_effects(layout, Q, weights),
            n_probes,
            **more,
        )
        if not objective.iterates or len(y) < THINNED_FROM:
            return objective
        rows, groups = thinned(layout.groups, np.random.default_rng(seed))
        own = [None if x is None else x[rows] for x in (weights, frequencies, Q, residual)]
        del Q, residual, layout  # the pairs of these rows take as much memory
        return replace(objective, thinned=objective.of_rows(groups, *own))

    def of_rows(self, groups, weights, frequencies, Q, y):
        """The objective of some of the rows for the direct solver, in the same units."""
        pattern = Pattern.build(groups, Q.shape[1])
        return replace(
            self,
            system=pattern.system(weights, Q, y).without_rows(),
            n_obs=float(len(y) if frequencies is None else frequencies.sum()),
            n_rows=len(y),
        )

    @classmethod
    def _of_rows(cls, design, pattern, Q, y):
        """What else a model of another kind keeps of its rows."""
        return {}

    def response(self, design, y):
        """Response of the rows of the design, y (n,) in the place of the design's own."""
        return self.responses(design)(y)

    def responses(self, design):
        """y (n,) -> Response for the rows of a design: what does not depend on y is made once."""
        groups = self.layout.groups_of(design.random)
        Q = self.basis.orthonormal(design.X)
        return Responses(Q, groups, row_weights(design), design.offset)

    def with_response(self, response):
        """The objective of another Response to the same rows: X and Z are not assembled again."""
        cross, square = response.cross, response.square
        gamma = np.linalg.solve(self.system.fixed_gram, cross.fixed[:, 0])
        explained = self.system.times(Effects([0.0 * x for x in cross.random], gamma[:, None]))
        square = max(square - float(gamma @ cross.fixed[:, 0]), 0.0)
        y_scale = float(np.sqrt(square / self.total_weight))
        size = max(response.largest, np.sqrt(response.square / self.total_weight))
        exact = self.n_rows <= self.rank or y_scale <= ROUNDING * size
        if exact:
            y_scale, square = 1.0, 0.0
        rest = (cross - explained).times(0.0 if exact else 1.0 / y_scale)
        return replace(
            self,
            system=self.system.with_response(rest, square / y_scale**2),
            gamma=response.gamma + gamma,
            y_scale=y_scale,
            source=replace(self.source, response=response.checksum),
            exact=bool(exact),
        )

    def with_reml(self, reml):
        """The same cross-products under the other criterion."""
        return replace(self, reml=reml)

    def threads(self):
        """Context with as many BLAS threads as pay for a system of this size."""
        return one_thread(self.system.dense_rows < _WORTH_THREADS)

    @property
    def rank(self):
        return len(self.gamma)

    @property
    def dof(self):
        """m: n - rank for REML, n for ML."""
        return self.n_obs - self.rank if self.reml else self.n_obs

    @property
    def iterates(self):
        """Whether the system is solved by iterations, and the criterion has no exact value."""
        return isinstance(self.system, IterativeSystem)

    def at(self, theta, near=None):
        """Evaluation of an iterative system at theta, from the solutions of a factor nearby."""
        return Evaluation(self, theta, self.system.factor(self.layout.factors(theta), near))

    @property
    def n_parameters(self):
        """Parameters of the covariance of y, sigma apart."""
        return self.layout.n_theta

    def parameters(self, theta):
        """All parameters, for theta and what is not known of the others."""
        return theta

    def enlarged(self, parameters, factor):
        """The parameters with all entries of theta times a factor."""
        return factor * parameters

    def beginnings(self):
        """(parameters to start a search from; evaluations spent on finding them)."""
        return _starts(self), 0

    def mean_variance(self, parameters):
        """Mean over the rows of their residual variances, in units of sigma^2."""
        return 1.0

    def second_order(self, fit):
        """The second-order record of a fit of this objective."""
        return SecondOrder.of(fit)

    def fitted_residual(self, parameters):
        """FittedResidual of a model whose residuals are not independent and alike, or None."""
        return None

    def value_at(self, L, parameters):
        """The criterion at a factor that was made at these parameters."""
        return self.value(L)

    def evaluate(self, theta):
        """Evaluation at theta: value, and on demand its derivatives.

        Raises
        ------
        ValueError
            Where the system is solved by iterations.
        """
        if self.iterates:
            raise ValueError(_NO_VALUES)
        try:
            L = self.system.factor(self.layout.factors(theta))
        except NotPositiveDefinite:
            return Impossible()
        return Evaluation(self, theta, L) if L.pwrss > 0 or self.exact else Impossible()

    def __call__(self, theta):
        return self.evaluate(theta).value

    def value(self, L):
        """Objective read off a factor."""
        m = self.dof
        if not m > 0:
            return np.nan
        pwrss = L.pwrss
        if not pwrss > 0:
            return -np.inf
        value = L.log_det_u + m * (1.0 + np.log(2.0 * np.pi * pwrss / m))
        value += 2.0 * m * np.log(self.y_scale) - self.log_weights
        if self.reml:
            value += L.log_det_x + self.log_det_basis
        return float(value)

    @cached_property
    def log_det_basis(self):
        """log |X'X| - log |Q'Q|: the REML criterion depends on the units of X."""
        return -2.0 * np.linalg.slogdet(self.basis.to_coef)[1] if self.rank else 0.0


@dataclass(frozen=True)
class Evaluation:
    """The objective at one theta; derivatives are computed when they are read.

    gradient: <G, d(T T')> with G the summed diagonal blocks of Z' P Z (Murray 2016,
    arXiv:1602.07527). hessian: average information plus the exact curvature of T T'.
    """

    objective: ProfiledDeviance
    theta: np.ndarray
    factor: Factor

    @cached_property
    def value(self):
        return self.objective.value(self.factor)

    @property
    def noise(self):
        """Error of the value by rounding of the residual sum of squares, as it usually is."""
        return 0.05 * _CANCELLATION * self.objective.dof**2 / max(self.factor.pwrss, 1e-300)

    @cached_property
    def information(self):
        """Derivative of the objective by T T': (s, s) for every group."""
        objective = self.objective
        if self.forms is not None:
            return self.forms.information(objective.dof)
        return self.factor.information(fixed=float(objective.reml), response=objective.dof)

    @cached_property
    def gradient(self):
        return self.objective.layout.gradient(self.theta, self.information)

    @cached_property
    def forms(self):
        """Forms of a small system, None where it is not small."""
        return self.factor.forms(fixed=self.objective.reml)

    @cached_property
    def _tangents(self):
        return self.objective.layout.covariance_tangents(self.theta)

    @cached_property
    def _average(self):
        """Average information of a small system, and h."""
        places = self.objective.layout.places
        return self.forms.average(self._tangents, places, self.objective.dof)

    @cached_property
    def _curvature(self):
        return self.objective.layout.curvature(self.theta, self.information)

    @cached_property
    def hessian(self):
        return self.average_information + self._curvature

    @property
    def exact_hessian(self):
        """The Hessian, None where only :attr:`hessian` is known, which has an approximate part.

        The average information is half the sum of the observed and the expected one, whose part
        -tr(D_j Z'PZ D_k Z'PZ) it does without.
        """
        if self.forms is None:
            return None
        average, h = self._average
        traces = self.forms.traces(self._tangents, self.objective.layout.places)
        return 2.0 * average + self.objective.dof * h[:, None] * h - traces + self._curvature

    @property
    def metric(self):
        return self.average_information.diagonal()

    def recharted(self):
        """This point in smooth coordinates (see minimize_theta), None if it has them."""
        moved = self.objective.layout.recharted(self.theta)
        if moved is None:
            return None
        layout, theta = moved
        objective = replace(self.objective, layout=layout)
        return objective.evaluate, Evaluation(objective, theta, self.factor), layout.upright

    @cached_property
    def average_information(self):
        """AI = m (Q / r^2 - h h' / r^4), h_j = a_j'c: Gilmour et al. 1995, for T T'."""
        if self.forms is not None:
            return self._average[0]
        L, dof = self.factor, self.objective.dof
        a = self.objective.layout.tangents(self.theta, L.scores)
        Q = L.quadratic_forms(a) / L.pwrss
        h = a.dot(L.scores)[:, 0] / L.pwrss
        return dof * (Q - h[:, None] * h)


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
            raise ValueError(_NO_VALUES)
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

    @property
    def solver(self):
        """How the mixed-model equations were solved."""
        return "direct" if self.monte_carlo is None else "iterative"

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
        starts, spent = objective.beginnings() if start is None else ([start], 0)
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
    if fit.sigma / fit.unit > _NO_RESIDUAL:
        return fit
    optimum = replace(fit.optimum, converged=False, message=_NO_MINIMUM)
    return replace(fit, optimum=optimum)


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


def iterates(layout, rank, solver, sums=None):
    """Whether a design goes to the iterative solver; ``sums``: those of groups without rows."""
    if solver == "auto":
        return prefers_iterative(layout.groups, rank, sums=sums)
    if solver == "direct":
        return False
    if not layout.groups:
        return False
    if any(term.is_smooth for term in layout.terms):
        raise ValueError(_NO_ITERATIONS.format("a smooth term has none"))
    if any(isinstance(group, RelatedGroup) for group in layout.groups):
        raise ValueError(_NO_ITERATIONS.format("these are related"))
    return True


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
    lost = _CANCELLATION * fit.objective.dof / share**2
    if not lost > _NOTICED:
        return None
    return _LOST_DIGITS.format(share, lost), "Subtract large known effects from the response"


def row_weights(design):
    if design.weights is None or design.frequencies is None:
        return design.weights if design.frequencies is None else design.frequencies
    return design.weights * design.frequencies


def _least_squares(Q, y, weights):
    """Coefficients on Q and residual, twice: the second pass mends the rounding of the first."""
    total = len(y) if weights is None else weights.sum()
    gamma, residual = np.zeros(Q.shape[1]), y
    for _ in range(2):
        change = Q.T @ (residual if weights is None else residual * weights) / total
        gamma, residual = gamma + change, residual - Q @ change
    return gamma, residual


def _root_mean_square(residual, weights):
    peak = np.abs(residual).max(initial=0.0)
    if peak == 0:
        return 0.0
    squares = (residual / peak) ** 2
    mean = squares.mean() if weights is None else np.average(squares, weights=weights)
    return float(peak * np.sqrt(mean))


def sum_log(weights, frequencies):
    if weights is None:
        return 0.0
    return float(np.sum(np.log(weights) * (1.0 if frequencies is None else frequencies)))
