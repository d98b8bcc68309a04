"""The Laplace approximation of a generalised linear mixed model's deviance, exactly differentiated.

    d(gamma, theta, phi) = -2 log p(y | eta) + u'u + log |H|,    H = Lambda' Z'WZ Lambda + I

at the mode u, with W the observed information. The derivatives of u follow from one adjoint solve
with the factor of H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from skmixed.linalg.cholesky import BlockedFactor, NotPositiveDefinite, multiply
from skmixed.linalg.crossproducts import diagonal_blocks
from skmixed.linalg.selected import selected_inverse
from skmixed.models.covariance import CovarianceLayout
from skmixed.models.pirls import (
    Mode,
    NoMode,
    Rows,
    find_mode,
    fixed_rows,
    from_parts,
    mode_at,
    to_parts,
)


@dataclass(frozen=True)
class Impossible:
    """An evaluation where the likelihood is not defined: the optimiser steps back."""

    reason: str
    value: float = np.inf

    @property
    def hessian(self):
        """Asked for only at the start, where there is no step back."""
        raise NoMode(self.reason)


@dataclass
class Near:
    """The best evaluation so far, where the next search for a mode starts; what the start told."""

    state: object = None
    n_steps: int = 0
    least_log_dispersion: float = -math.inf


@dataclass(frozen=True)
class LaplaceDeviance:
    """The deviance as a function of (gamma, theta, log dispersion).

    With ``joint`` the fixed effects are those of the joint mode of (gamma, u) and no longer
    parameters: faster, and not quite the maximum (n_agq = 0).
    """

    rows: Rows
    layout: CovarianceLayout
    joint: bool = False
    near: Near = field(default_factory=Near)

    @property
    def n_gamma(self):
        return 0 if self.joint else self.rows.n_fixed

    @property
    def n_theta(self):
        return self.layout.n_theta

    @property
    def n_dispersion(self):
        return int(self.rows.family.dispersion is not None)

    def split(self, parameters):
        """gamma (empty if joint), theta, log dispersion (0 for families without)."""
        begin, end = self.n_gamma, self.n_gamma + self.n_theta
        log_disp = float(parameters[end]) if len(parameters) > end else 0.0
        return parameters[:begin], parameters[begin:end], log_disp

    def plan_factors(self, theta):
        """T of every group, in the order of elimination."""
        factors = self.layout.factors(theta)
        return [factors[g] for g in self.rows.plan.order]

    def evaluate(self, parameters):
        """Evaluation at the parameters: value, and on demand its derivatives."""
        gamma, theta, log_disp = self.split(parameters)
        T = self.plan_factors(theta)
        if log_disp < self.near.least_log_dispersion:
            return Impossible("the dispersion vanishes")
        try:
            mode = self._mode(parameters, gamma, T, log_disp)
            self.near.n_steps += mode.n_steps
            return self._evaluation(parameters, mode, T, log_disp)
        except (NoMode, NotPositiveDefinite) as error:
            return Impossible(str(error))

    def _mode(self, parameters, gamma, T, log_disp):
        """The mode, sought from where the best one known points, or failing that from zero."""
        near = self.near.state
        for gamma_0, u in near.expected_modes(parameters):
            start = mode_at(self.rows, gamma_0 if self.joint else gamma, u, T, log_disp)
            try:
                return find_mode(self.rows, start, T, log_disp, joint=self.joint)
            except NoMode as error:
                reason = error
        raise reason

    def evaluate_along(self, state, parameters, tolerance):
        """Evaluation at parameters close to a state's, at the mode's tangent instead of the mode.

        Differences of its gradient over steps h are exact to order h, as at the mode itself.
        Where the tangent leaves a slope above ``tolerance`` at u the mode is sought from there.
        """
        gamma, theta, log_disp = self.split(parameters)
        T = self.plan_factors(theta)
        expected, u = next(iter(state.expected_modes(parameters)))
        mode = mode_at(self.rows, expected if self.joint else gamma, u, T, log_disp)
        slopes = zip(T, self.rows.level_sums(mode.curve.score), u, strict=True)
        if max((float(np.abs(t.T @ c - x).max()) for t, c, x in slopes), default=0.0) > tolerance:
            mode = find_mode(self.rows, mode, T, log_disp, joint=self.joint)
        f = self.rows.factor(mode.curve.weight, T)
        return self.approximation(self, parameters, mode, T, log_disp, f)

    def _evaluation(self, parameters, mode, T, log_disp):
        f = self.rows.factor(mode.curve.weight, T)
        state = self.approximation(self, parameters, mode, T, log_disp, f)
        if not math.isfinite(state.value):
            raise NoMode("the deviance is not finite")
        if not state.value > self.near.state.value:
            self.near.state = state
        return state

    @property
    def approximation(self):
        """The class of the evaluations."""
        return Evaluation


@dataclass(frozen=True)
class Start:
    """A mode in the place of an evaluation, for the first one to start from."""

    mode: Mode
    value: float = np.inf

    def expected_modes(self, parameters):
        """gamma and u to start from, in the order in which to try them."""
        yield self.mode.gamma, self.mode.u
        yield self.mode.gamma, [0 * x for x in self.mode.u]


@dataclass(frozen=True)
class Evaluation:
    """The approximated deviance at one point; derivatives are computed when they are read.

    ``factor`` is that of H, bordered by the columns of X, with the weights at the mode.
    """

    objective: LaplaceDeviance
    parameters: np.ndarray
    mode: Mode
    T: list
    log_disp: float
    factor: BlockedFactor

    @cached_property
    def value(self):
        return self.mode.penalised + self.objective.rows.constant + self.factor.log_det_u

    # In a quadrature averages over its nodes take the place of values at the mode: there leverages
    # and the methods up to _pull are others.

    @cached_property
    def _inverse(self):
        return selected_inverse(self.factor, 0.0, 0.0, every=True)

    @cached_property
    def leverages(self):
        """z_i' Lambda H^-1 Lambda' z_i (n,)."""
        return leverages(self.objective.rows, self._inverse)

    @property
    def _curve(self):
        return self.mode.curve

    @cached_property
    def _scores(self):
        """c = Z's at the mode."""
        return self.objective.rows.level_sums(self._curve.score)

    def _log_det_by_factors(self):
        """d log |H| / d T at fixed W: (s, s) for every group."""
        return [2.0 * G @ t for G, t in zip(self._inverse.information, self.T, strict=True)]

    def _direct(self):
        """Derivative of the penalised deviance at fixed u: by gamma, and (s, s) by every T."""
        by_gamma = -2.0 * (self.objective.rows.Q.T @ self._curve.score)
        by_factor = [-2.0 * c @ (t.T @ c).T for c, t in zip(self._scores, self.T, strict=True)]
        return by_gamma, by_factor

    def _direct_dispersion(self):
        return -2.0 * float(np.sum(self._dispersion_curve.loglik))

    def _pull(self):
        """Derivative p of the penalised deviance by u, and T H^-1 p; None where p = 0, a mode."""
        return None

    @cached_property
    def _dispersion_curve(self):
        return self.objective.rows.by_dispersion(self.mode.eta, self.log_disp)

    @cached_property
    def gradient(self):
        """By (gamma, theta, log dispersion)."""
        rows, joint = self.objective.rows, self.objective.joint
        plan = rows.plan
        v = self.leverages * self._curve.slope
        pulled = rows.level_sums(v)
        fixed = rows.Q.T @ v
        alpha = self.factor.solve(to_parts(plan, pulled, fixed if joint else None), fixed=joint)
        pull = self._pull()
        if pull is not None:
            alpha = [x + y for x, y in zip(alpha, to_parts(plan, pull[1]), strict=True)]
        image = multiply(self.factor.products, alpha)
        rest = [x - y for x, y in zip(pulled, from_parts(plan, image), strict=True)]
        a = [t.T @ r for t, r in zip(self.T, rest, strict=True)]
        if pull is not None:
            a = [x + y for x, y in zip(a, pull[0], strict=True)]
        by_gamma, by_factor = self._direct()
        by_factor = [
            direct + log_det + r @ (t.T @ c).T + c @ own.T
            for direct, log_det, r, c, own, t in zip(
                by_factor, self._log_det_by_factors(), rest, self._scores, a, self.T, strict=True
            )
        ]
        by_gamma = by_gamma + fixed - fixed_rows(plan, image)
        parts = [by_gamma[: self.objective.n_gamma], self._by_theta(by_factor)]
        if self.objective.n_dispersion:
            moved = rows.random_part(from_parts(plan, alpha))
            if joint:
                moved = moved + rows.Q @ fixed_rows(plan, alpha)
            curve = self._dispersion_curve
            total = self.leverages @ curve.weight + moved @ curve.score
            parts.append([self._direct_dispersion() + float(total)])
        return np.concatenate(parts)

    def _by_theta(self, by_factor):
        objective = self.objective
        gradient = np.zeros(objective.n_theta)
        for at, D in zip(objective.rows.plan.order, by_factor, strict=True):
            j, i, k = objective.layout.entries[at]
            gradient[j] = D[i, k]
        return gradient

    @cached_property
    def hessian(self):
        """That of the linear mixed model with the working weights.

        As in average information, the mean of what is observed and what is expected: between
        gamma and the rest half of the penalised deviance's block, since 0 is expected.
        """
        objective = self.objective
        n, t = objective.n_gamma, objective.n_theta
        H = np.zeros((len(self.parameters),) * 2)
        H[:n, :n] = self._fixed_information
        H[n : n + t, n : n + t] = self._average_information + self._curvature()
        H[n + t :, n + t :] = self._dispersion_information
        if n:
            cross = self._tangent[2]
            others = np.r_[0:t, t + n : len(H)]
            H[:n, n:] = -cross[:, others]
            H[n:, :n] = -cross[:, others].T
        return H

    @cached_property
    def metric(self):
        return np.concatenate(
            [
                np.diag(self._fixed_information),
                np.diag(self._average_information),
                np.full(self.objective.n_dispersion, self._dispersion_information),
            ]
        )

    @cached_property
    def _fixed_information(self):
        """2 Q'V^-1 Q, the Schur complement that the factor holds."""
        n, q = self.objective.n_gamma, self.objective.rows.plan.q_core
        L = np.tril(self.factor.core[q : q + n, q : q + n])
        return 2.0 * L @ L.T

    @cached_property
    def _dispersion_information(self):
        if not self.objective.n_dispersion:
            return 0.0
        curvature = -2.0 * float(np.sum(self._dispersion_curve.curvature))
        return max(abs(curvature), 1e-4 * len(self.objective.rows.y))

    @cached_property
    def _average_information(self):
        """a_j' Z'V^-1 Z a_k with a_j = dLambda_j u + Lambda dLambda_j' c."""
        t = slice(0, self.objective.n_theta)
        a, image = ([x[:, t] for x in parts] for parts in self._directions)
        return self.factor.quadratic_forms(a, image, fixed=self.objective.joint)

    @cached_property
    def _directions(self):
        """a_j by theta, then unit vectors by gamma (parts), and their products with Z'WZ."""
        objective, plan = self.objective, self.objective.rows.plan
        t, width = objective.n_theta, objective.n_theta + objective.n_gamma
        parts, _ = objective.layout.tangents(plan, self.T, self._scores, width)
        core = parts[-1]
        core[plan.q_core + np.arange(width - t), t + np.arange(width - t)] = 1.0
        return parts, multiply(self.factor.products, parts)

    @cached_property
    def _tangent(self):
        """Derivatives by (theta, gamma, log dispersion) of gamma, of every u, and of Q's.

        With b = Lambda Lambda' c and c = Z's, db = a - Lambda H^-1 Lambda' Z'WZ a along theta;
        the same holds along gamma with a = 0 and Z'WQ, along the dispersion with Z' ds.
        """
        objective, plan = self.objective, self.objective.rows.plan
        joint = objective.joint
        a, image = self._directions
        if objective.n_dispersion:
            force = objective.rows.level_sums(self._dispersion_curve.score)
            fixed = objective.rows.Q.T @ self._dispersion_curve.score
            force = to_parts(plan, force, fixed)
            a = [np.concatenate([x, 0 * y], axis=1) for x, y in zip(a, force, strict=True)]
            image = [np.concatenate([x, -y], axis=1) for x, y in zip(image, force, strict=True)]
        moved = self.factor.solve(image, fixed=joint)
        dc = multiply(self.factor.products, moved)
        dc = [x - y for x, y in zip(dc, image, strict=True)]
        dgamma = -moved[-1][plan.q_core : -1] if joint else None
        du = []
        for g, (at, T, c) in enumerate(zip(plan.order, self.T, self._scores, strict=True)):
            j, i, k = objective.layout.entries[at]
            own = np.einsum("ji,jpl->ipl", T, _group_part(plan, dc, g))
            np.add.at(own, (k, j), c[i])
            du.append(own)
        return dgamma, du, dc[-1][plan.q_core : -1]

    def expected_modes(self, parameters):
        """gamma and u to start a search from, in the order in which to try them."""
        gamma, theta, log_disp = self.objective.split(parameters - self.parameters)
        step = np.concatenate([theta, gamma, [log_disp] * self.objective.n_dispersion])
        dgamma, du, _ = self._tangent
        mode = self.mode
        along = mode.gamma if dgamma is None else mode.gamma + dgamma @ step
        yield along, [u + np.einsum("ipl,p->il", d, step) for u, d in zip(mode.u, du, strict=True)]
        yield mode.gamma, mode.u
        yield mode.gamma, [0 * x for x in mode.u]

    def _curvature(self):
        """2 (Z'V^-1Z - c c') summed over levels, for parameters in one column of a group's T."""
        objective = self.objective
        H = np.zeros((objective.n_theta,) * 2)
        for at, G, c in zip(
            objective.rows.plan.order, self._inverse.information, self._scores, strict=True
        ):
            j, other, i, k = objective.layout.curvature[at]
            H[j, other] = 2.0 * (G - c @ c.T)[i, k]
        return H


def _group_part(plan, parts, g):
    """Part of group g as (s, k, l)."""
    if g < plan.n_chain:
        return parts[g]
    group, rows = plan.core_groups[g - plan.n_chain]
    values = parts[-1][rows]
    return values.reshape(group.n_levels, group.n_columns, -1).transpose(1, 2, 0)


def leverages(rows, inverse):
    """z_i' M z_i (n,) with z_i a row of Z and M given on the pattern of Z'Z (SelectedInverse)."""
    plan, total = rows.plan, np.zeros(len(rows.y))
    for g, group in enumerate(plan.groups):
        total = total + leverages_of_blocks(group, _own_block(plan, inverse, g))
        for h in range(g + 1, len(plan.groups)):
            total = total + 2.0 * _quadratic(group, plan.groups[h], _cross(plan, inverse, g, h))
    return total


def leverages_of_blocks(group, blocks):
    """z_i' M_l z_i (n,) for one group with blocks M (s, s, l)."""
    return _quadratic(group, group, blocks[..., group.codes])


def _quadratic(left, right, block):
    """z_left' block z_right of every row, block (s, t, n)."""
    if block.shape[:2] == (1, 1):
        total = block[0, 0]
        for group in (left, right):
            total = total if group.z.strides[0] == 0 else total * group.z[:, 0]
        return total
    return np.einsum("ns,stn,nt->n", left.z, block, right.z)


def _own_block(plan, inverse, g):
    if g < plan.n_chain:
        return inverse.own[g]
    group, rows = plan.core_groups[g - plan.n_chain]
    view = diagonal_blocks(inverse.core, rows, group.n_columns)
    return (np.tril(view) + np.tril(view, -1).transpose(0, 2, 1)).transpose(1, 2, 0)


def _cross(plan, inverse, g, h):
    """Block (s, t, n) between the levels that each row has in groups g < h."""
    group, other = plan.groups[g], plan.groups[h]
    if h < plan.n_chain:
        return inverse.up[g][h][..., group.codes]
    columns = plan.core_groups[h - plan.n_chain][1].start
    place = columns + other.codes[:, None] * other.n_columns + np.arange(other.n_columns)
    if g >= plan.n_chain:
        rows = plan.core_groups[g - plan.n_chain][1].start
        own = rows + group.codes[:, None] * group.n_columns + np.arange(group.n_columns)
        return inverse.core[place[:, None, :], own[:, :, None]].transpose(1, 2, 0)
    if plan.entries[g] is None:
        return inverse.border[g][:, place, group.codes[:, None]].transpose(0, 2, 1)
    cell, where = plan.cells[g, h - plan.n_chain]
    return inverse.entries[g][:, where[cell]].transpose(0, 2, 1)
