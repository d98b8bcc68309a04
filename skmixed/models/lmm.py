"""Linear mixed models: the profiled deviance as a function of theta, and the fitted model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed.linalg.cholesky import BlockedFactor, NotPositiveDefinite, factor, multiply
from skmixed.linalg.crossproducts import CrossProducts, GramPlan
from skmixed.linalg.rank import ColumnBasis, independent_columns
from skmixed.linalg.selected import information
from skmixed.linalg.threads import one_thread
from skmixed.models.covariance import CovarianceLayout
from skmixed.models.fit import MixedFit
from skmixed.models.optimize import Optimum, minimize_theta
from skmixed.models.source import Source

# A residual below this share of the response is rounding.
_ROUNDING = 32 * np.finfo(float).eps
# Residual standard deviations below this share of the spread about X beta are mostly rounding:
# the cross-products hold their squares.
_NO_RESIDUAL = 3e-7
# Below this share a fit is asked whether the criterion has a minimum at all.
_SMALL_RESIDUAL = 1e-3
NO_RESIDUAL = (
    "fixed and random effects together explain the response exactly, up to rounding, so that the "
    "residual variance is zero and the criterion has no minimum"
)

# Effects from which a chain pays; below, the whole system is one small dense matrix.
_CHAIN_FROM = 100
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
    products : CrossProducts
    layout : CovarianceLayout
    basis : ColumnBasis
    gamma : (r,)
        Least-squares coefficients on the basis, subtracted from y.
    y_scale : float
    reml : bool
    n_obs : float
        Number of rows (sum of the frequencies).
    log_weights : float
        Sum of log prior weights.
    source : Source
        Names and fingerprints of what the rows were.
    exact : bool
        Whether X explains the response up to rounding, so that there is no variance to divide.
    """

    products: CrossProducts
    layout: CovarianceLayout
    basis: ColumnBasis
    gamma: np.ndarray
    y_scale: float
    reml: bool
    n_obs: float
    log_weights: float
    source: Source
    exact: bool = False

    @classmethod
    def from_design(cls, design, *, reml=True):
        weights = _row_weights(design)
        basis = independent_columns(design.X, weights, design.intercept)
        Q = basis.orthonormal(design.X)
        y = design.y if design.offset is None else design.y - design.offset
        gamma, residual = _least_squares(Q, y, weights)
        frequencies = design.frequencies
        n_obs = float(len(y) if frequencies is None else frequencies.sum())
        y_scale = _root_mean_square(residual, weights)
        exact = len(y) <= basis.rank or y_scale <= _ROUNDING * np.abs(design.y).max()
        if exact:
            y_scale, residual = 1.0, np.zeros(len(y))
        layout = CovarianceLayout.build(design.random, weights)
        plan = GramPlan.build(layout.groups, Q.shape[1] + 1, chain_from=_CHAIN_FROM)
        products = plan.assemble(weights, np.column_stack([Q, residual / y_scale]))
        log_weights = _sum_log(design.weights, frequencies)
        return cls(
            products.without_rows(),
            layout.without_rows(),
            basis,
            gamma,
            y_scale,
            reml,
            n_obs,
            log_weights,
            Source.of(design, basis, Q, layout, design.y, design.weights),
            bool(exact),
        )

    def with_reml(self, reml):
        """The same cross-products under the other criterion."""
        return replace(self, reml=reml)

    @property
    def rank(self):
        return len(self.gamma)

    @property
    def dof(self):
        """m: n - rank for REML, n for ML."""
        return self.n_obs - self.rank if self.reml else self.n_obs

    def evaluate(self, theta):
        """Evaluation at theta: value, and on demand its derivatives."""
        try:
            L = factor(self.products, self.plan_factors(theta))
        except NotPositiveDefinite:
            return Impossible()
        return Evaluation(self, theta, L) if L.pwrss > 0 or self.exact else Impossible()

    def __call__(self, theta):
        return self.evaluate(theta).value

    def plan_factors(self, theta):
        """T of every group, in the order of elimination."""
        factors = self.layout.factors(theta)
        return [factors[g] for g in self.products.plan.order]

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


class Impossible:
    """An evaluation where the system has no factor: the optimiser steps back."""

    value = np.inf


@dataclass(frozen=True)
class Evaluation:
    """The objective at one theta; derivatives are computed when they are read.

    gradient: 2 tril(G_t T_t) with G_t the summed diagonal blocks of Z' P Z (Murray 2016,
    arXiv:1602.07527). hessian: average information plus the exact curvature of T T'.
    """

    objective: ProfiledDeviance
    theta: np.ndarray
    factor: BlockedFactor

    @cached_property
    def value(self):
        return self.objective.value(self.factor)

    @cached_property
    def information(self):
        objective = self.objective
        weight_y = objective.dof
        return information(self.factor, float(objective.reml), weight_y)

    @cached_property
    def T(self):
        """Factors at theta: those of the BlockedFactor up to a rotation from the right."""
        if not self.objective.layout.is_rotated:
            return self.factor.T
        return self.objective.plan_factors(self.theta)

    def _in_chart(self, g, at):
        """Information of group g in the coordinates of theta, and its triangular factor."""
        V, G, T = self.objective.layout.rotations[at], self.information[g], self.T[g]
        return (G, T) if V is None else (V.T @ G @ V, V.T @ T)

    @cached_property
    def gradient(self):
        gradient = np.zeros(len(self.theta))
        for g, at in enumerate(self.objective.products.plan.order):
            j, i, k = self.objective.layout.entries[at]
            G, L = self._in_chart(g, at)
            gradient[j] = 2.0 * (G @ L)[i, k]
        return gradient

    @cached_property
    def hessian(self):
        H = self.average_information.copy()
        for g, at in enumerate(self.objective.products.plan.order):
            j, other, i, k = self.objective.layout.curvature[at]
            H[j, other] += 2.0 * self._in_chart(g, at)[0][i, k]
        return H

    @property
    def metric(self):
        return self.average_information.diagonal()

    def recharted(self):
        """This point in smooth coordinates (see minimize_theta), None if it has them."""
        moved = self.objective.layout.rotated(self.theta)
        if moved is None:
            return None
        layout, theta = moved
        objective = replace(self.objective, layout=layout)
        return objective.evaluate, Evaluation(objective, theta, self.factor), layout.upright

    @cached_property
    def average_information(self):
        """AI = m (Q / r^2 - h h' / r^4), h_j = a_j'c: Gilmour et al. 1995, for T T'."""
        objective, L = self.objective, self.factor
        plan = objective.products.plan
        c = [L.level_part(L.scores, g) for g in range(len(plan.groups))]
        a, by_group = objective.layout.tangents(plan, self.T, c, len(self.theta))
        Q = L.quadratic_forms(a, multiply(objective.products, a))
        h = sum(np.einsum("sjl,sl->j", part, own) for part, own in zip(by_group, c, strict=True))
        h = h / L.pwrss
        return objective.dof * (Q / L.pwrss - h[:, None] * h)


@dataclass(frozen=True)
class LMMFit(MixedFit):
    """A fitted linear mixed model; ``objective`` allows refits and is left out of pickles."""

    objective: ProfiledDeviance | None = None

    @classmethod
    def at(cls, objective, optimum):
        """The model at an optimum of its profiled deviance."""
        L = optimum.state.factor
        unit = objective.y_scale
        tail = L.mode[-1][L.plan.q_core : -1, 0]
        return cls(
            layout=objective.layout,
            basis=objective.basis,
            optimum=replace(optimum, state=None),
            factor=L,
            gamma=objective.gamma + unit * tail,
            sigma=unit * float(np.sqrt(L.pwrss / objective.dof)) if objective.dof > 0 else np.nan,
            unit=unit,
            deviance=optimum.value,
            reml=objective.reml,
            n_obs=objective.n_obs,
            n_params=objective.rank + objective.layout.n_theta + 1,
            source=objective.source,
            objective=objective,
        )

    def refit(self, *, reml):
        """The same model under the other criterion, from the cross-products in memory."""
        if self.reml == reml:
            return self
        if self.objective is None:
            raise ValueError(
                "a refit needs the cross-products of the data, which are not pickled: fit the "
                "model again in this process"
            )
        return fit_lmm(self.objective.with_reml(reml), start=self.optimum.theta)

    @property
    def other_criterion(self):
        """The ML deviance at a REML fit's theta, and the REML criterion at an ML fit's."""
        return self.objective.with_reml(not self.reml).value(self.factor)

    def __getstate__(self):
        return super().__getstate__() | {"objective": None}


def fit_lmm(objective, *, start=None, max_iter=100, tol=1e-8, callback=None):
    """LMMFit at the minimum of a ProfiledDeviance."""
    if objective.exact:
        return LMMFit.at(objective, _without_variances(objective))
    start = objective.layout.initial() if start is None else start
    with one_thread(len(objective.products.core) < _WORTH_THREADS):
        optimum = minimize_theta(
            objective.evaluate,
            start,
            max_iter=max_iter,
            tol=tol,
            callback=callback,
            rechart=Evaluation.recharted,
        )
        fit = LMMFit.at(objective, _settle(objective, optimum))
    if _has_no_minimum(fit):
        fit = replace(fit, optimum=replace(fit.optimum, converged=False, message=NO_RESIDUAL))
    return fit


def _without_variances(objective):
    """The optimum where the fixed effects leave nothing to random ones: theta = 0."""
    theta = np.zeros(objective.layout.n_theta)
    state = objective.evaluate(theta)
    message = "the fixed effects explain the response exactly"
    return Optimum(theta, state.value, state, 0, 1, True, message, ((state.value, theta),))


def _has_no_minimum(fit):
    """Whether the criterion falls without bound as the residual variance goes to zero."""
    share = fit.sigma / fit.unit
    if not fit.layout.n_theta or (fit.optimum.converged and share > _SMALL_RESIDUAL):
        return False
    further = [fit.objective(factor * fit.optimum.theta) for factor in (2.0, 10.0, 1e2, 1e3)]
    return share <= _NO_RESIDUAL or min(further) < fit.deviance - 1.0


def _settle(objective, optimum):
    """The optimum with negligible variances at exactly zero, if the criterion does not mind."""
    theta = objective.layout.tidy(optimum.theta)
    if np.array_equal(theta, optimum.theta):
        return optimum
    state = objective.evaluate(theta)
    noise = 1e-11 * max(1.0, abs(optimum.value))
    if state.value > optimum.value + noise:
        return optimum
    return replace(optimum, theta=theta, value=state.value, state=state,
                   n_evaluations=optimum.n_evaluations + 1)  # fmt: skip


def _row_weights(design):
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
    return float(peak * np.sqrt(np.average((residual / peak) ** 2, weights=weights)))


def _sum_log(weights, frequencies):
    if weights is None:
        return 0.0
    return float(np.sum(np.log(weights) * (1.0 if frequencies is None else frequencies)))
