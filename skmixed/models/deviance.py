"""The profiled deviance of a linear mixed model as a function of theta, with its derivatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from skmixed.linalg.iterative import IterativeSystem
from skmixed.linalg.iterative_choice import prefers_iterative
from skmixed.linalg.rank import ColumnBasis, independent_columns
from skmixed.linalg.system import (
    Effects,
    Factor,
    NotPositiveDefinite,
    Pattern,
    RelatedGroup,
    System,
)
from skmixed.linalg.threads import one_thread
from skmixed.models.layout import CovarianceLayout
from skmixed.models.moments import RowMoments
from skmixed.models.optimize import Impossible
from skmixed.models.response import Responses, least_squares, root_mean_square, row_weights, sum_log
from skmixed.models.search import LARGER, outside_effects
from skmixed.models.second_order import SecondOrder
from skmixed.models.source import Source
from skmixed.models.stochastic import thinned

# A residual below this share of the response is rounding.
ROUNDING = 32 * np.finfo(float).eps
# Rounding of the residual sum of squares, as a share of the response's sum of squares.
CANCELLATION = 4 * np.finfo(float).eps
NO_VALUES = (
    "exact values of the criterion and its second derivatives cannot be had from a fit by the "
    "iterative solver: fit the model with solver='direct', if its crossed factors leave room"
)
_NO_ITERATIONS = (
    "solver='iterative' takes grouping factors with independent levels, and {}: use solver='direct'"
)

# Effects from which a chain pays; below, the whole system is one small dense matrix.
CHAIN_FROM = 100
# Rows from which a search by iterations starts at the optimum of some of them.
THINNED_FROM = 10_000_000
# Rows of the core from which a second BLAS thread pays.
_WORTH_THREADS = 1000


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
        gamma, residual = least_squares(Q, y, weights)
        frequencies = design.frequencies
        n_obs = float(len(y) if frequencies is None else frequencies.sum())
        y_scale = root_mean_square(residual, weights)
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

    def beginnings(self, starts):
        """(parameters to start a search from; evaluations spent on finding them).

        starts: a ProfiledDeviance of independent residuals to the list of theta to start from.
        """
        return starts(self), 0

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
            raise ValueError(NO_VALUES)
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
        return 0.05 * CANCELLATION * self.objective.dof**2 / max(self.factor.pwrss, 1e-300)

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
