"""The Laplace approximation of a generalised linear mixed model's deviance, exactly differentiated.

    d(gamma, theta, phi) = -2 log p(y | eta) + u'u + log |H|,    H = Lambda' Z'WZ Lambda + I

at the mode u, with W the observed information; a prior of gamma adds its penalty. The derivatives
of u follow from one adjoint solve with the factor of H.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from skmixed.linalg.system import Effects, Factor, NotPositiveDefinite
from skmixed.models.layout import CovarianceLayout
from skmixed.models.optimize import Impossible
from skmixed.models.pirls import Mode, NoMode, Rows, find_mode, mode_at

# Ridge on the columns of X, in the sum of all rows' information, where these have no factor.
_RIDGE = 2.0
_EPS = float(np.finfo(float).eps)


@dataclass
class Near:
    """The best evaluation so far, where the next mode is sought; steps of all searches so far."""

    state: object = None
    n_steps: int = 0


@dataclass(frozen=True)
class LaplaceDeviance:
    """The deviance as a function of (gamma, theta, log dispersion).

    With ``joint`` the fixed effects are those of the joint mode of (gamma, u) and no longer
    parameters: faster, and not quite the maximum (n_agq = 0). ``outside``: for every term, which
    effects X misses the covariate of. Below ``least_log_dispersion`` nothing is left to explain.
    """

    rows: Rows
    layout: CovarianceLayout
    joint: bool = False
    outside: tuple[np.ndarray, ...] = ()
    least_log_dispersion: float = -math.inf
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

    def evaluate(self, parameters):
        """Evaluation at the parameters: value, and on demand its derivatives."""
        gamma, theta, log_disp = self.split(parameters)
        T = self.layout.factors(theta)
        if log_disp < self.least_log_dispersion:
            return Impossible("the dispersion vanishes")
        try:
            mode = self._mode(parameters, gamma, T, log_disp)
            self.near.n_steps += mode.n_steps
            return self._evaluation(parameters, mode, T, log_disp)
        except NotPositiveDefinite:
            return Impossible()
        except NoMode as error:
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
        T = self.layout.factors(theta)
        expected, u = next(iter(state.expected_modes(parameters)))
        mode = mode_at(self.rows, expected if self.joint else gamma, u, T, log_disp)
        slopes = zip(T, self.rows.level_sums(mode.curve.score), u, strict=True)
        slope = max((float(np.abs(t.T @ c - x).max()) for t, c, x in slopes), default=0.0)
        try:
            if not slope <= tolerance:
                mode = find_mode(self.rows, mode, T, log_disp, joint=self.joint)
            return self._at(parameters, mode, T, log_disp)
        except (NoMode, NotPositiveDefinite) as error:
            return Impossible(str(error))

    def _at(self, parameters, mode, T, log_disp):
        """The evaluation at a mode.

        The deviance needs the random effects' part H of the factor alone, and is smooth where
        the part of X is not positive definite: there a ridge on X makes the factor.
        """
        weight, ridge = mode.curve.weight, 0.0
        own = self.rows.prior_information(mode.gamma)
        try:
            f = self.rows.factor(weight, T, ridge=own)
        except NotPositiveDefinite:
            if self.joint:
                raise
            own = 0.0 if own is None else own
            ridge = _RIDGE * float(np.abs(weight).sum() + np.linalg.norm(own))
            f = self.rows.factor(weight, T, ridge=own + ridge * np.eye(self.rows.n_fixed))
        return self.evaluation(self, parameters, mode, T, log_disp, f, ridge)

    def _evaluation(self, parameters, mode, T, log_disp):
        state = self._at(parameters, mode, T, log_disp)
        if not math.isfinite(state.value):
            raise NoMode("the deviance is not finite")
        if not state.value > self.near.state.value:
            self.near.state = state
        return state

    @property
    def evaluation(self):
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

    ``factor`` is that of H, bordered by the columns of X, with the weights at the mode and with
    the information of a prior.
    """

    objective: LaplaceDeviance
    parameters: np.ndarray
    mode: Mode
    T: list
    log_disp: float
    factor: Factor
    ridge: float = 0.0

    @cached_property
    def value(self):
        return self.mode.penalised + self.objective.rows.constant + self.factor.log_det_u

    @cached_property
    def noise(self):
        """Rounding of the value: log-likelihoods of large counts are differences of larger sums."""
        return 2.0 * _EPS * float(np.linalg.norm(self.mode.curve.loglik))

    # In a quadrature averages over its nodes take the place of values at the mode: there leverages
    # and the methods up to _pull are others.

    @cached_property
    def _selected(self):
        return self.factor.selected()

    @cached_property
    def leverages(self):
        """z_i' Lambda H^-1 Lambda' z_i (n,)."""
        rows = self.objective.rows
        return self._selected.leverages() if rows.groups else np.zeros(len(rows.y))

    @property
    def _curve(self):
        return self.mode.curve

    @cached_property
    def _scores(self):
        """c = Z's at the mode, and Q's."""
        return self.objective.rows.effects(self._curve.score)

    @cached_property
    def information(self):
        """Sum over levels of the blocks of Z'V^-1Z - c c': (s, s) for every group."""
        pairs = zip(self._selected.information, self._scores.levels(), strict=True)
        return [G - c @ c.T for G, c in pairs]

    def _by_gamma(self):
        """Derivative of the penalised deviance by gamma at fixed u, without a prior."""
        return -2.0 * self._scores.fixed[:, 0]

    def _direct_dispersion(self):
        return -2.0 * float(np.sum(self._dispersion_curve.loglik))

    def _pull(self):
        """What moves the mode besides the leverages: T H^-1 p (Effects), p the slope at u.

        None where p = 0, at a mode.
        """
        return None

    @cached_property
    def _dispersion_curve(self):
        return self.objective.rows.by_dispersion(self.mode.eta, self.log_disp)

    @cached_property
    def gradient(self):
        """By (gamma, theta, log dispersion).

        log |H| has the derivative v by eta. The mode follows it: alpha is Lambda H^-1 Lambda'Z'v,
        one solve for all parameters, and ``rest`` what is left of Z'v when u has moved.
        """
        rows, joint = self.objective.rows, self.objective.joint
        v = self.leverages * self._curve.slope
        pulled = rows.effects(v)
        alpha, rest = self.factor.solve(pulled, fixed=joint)
        pull = self._pull()
        if pull is not None:
            alpha, rest = alpha + pull, rest - self.factor.system.times(pull)
        by_gamma = self._by_gamma() + rest.fixed[:, 0]
        if rows.prior is not None:
            by_gamma = by_gamma + rows.prior.gradient(self.mode.gamma)
        parts = [by_gamma[: self.objective.n_gamma], self._by_theta(rest.levels())]
        if self.objective.n_dispersion:
            moved = rows.random_part(alpha.levels()) + rows.Q @ alpha.fixed[:, 0]
            curve = self._dispersion_curve
            total = self.leverages @ curve.weight + moved @ curve.score
            parts.append([self._direct_dispersion() + float(total)])
        return np.concatenate(parts)

    def _by_theta(self, rest):
        """Through T T' alone: <G, d(T T')>."""
        return self.objective.layout.gradient(self._theta, self._slopes(rest))

    def _slopes(self, rest):
        """G = sum_l Z'V^-1Z - c c' + (r c' + c r') / 2: (s, s) for every group."""
        G = []
        for own, r, c in zip(self.information, rest, self._scores.levels(), strict=True):
            cross = r @ c.T
            G.append(own + (cross + cross.T) / 2)
        return G

    @property
    def _theta(self):
        return self.objective.split(self.parameters)[1]

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
        curvature = objective.layout.curvature(self._theta, self.information)
        H[n : n + t, n : n + t] = self._average_information + curvature
        H[n + t :, n + t :] = self._dispersion_information
        if n:
            cross = self._tangent[1].fixed
            others = np.r_[0:t, t + n : len(H)]
            H[:n, n:] = -cross[:, others]
            H[n:, :n] = -cross[:, others].T
        return H

    @cached_property
    def metric(self):
        return np.concatenate(
            [
                np.abs(np.diag(self._fixed_information)),
                np.diag(self._average_information),
                np.full(self.objective.n_dispersion, self._dispersion_information),
            ]
        )

    @cached_property
    def _fixed_information(self):
        """2 Q'V^-1 Q, none if gamma is no parameter."""
        L = self.factor.fixed_root[: self.objective.n_gamma]
        return 2.0 * (L @ L.T - self.ridge * np.eye(len(L)))

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
        a, image = (vectors.columns(t) for vectors in self._directions)
        return self.factor.quadratic_forms(a, image, fixed=self.objective.joint)

    @cached_property
    def _directions(self):
        """a_j by theta, then unit vectors by gamma (Effects), and their products with Z'WZ."""
        objective = self.objective
        directions = objective.layout.tangents(self._theta, self._scores)
        if objective.n_gamma:
            directions = directions.beside(_unit_vectors(objective.rows))
        return directions, self.factor.system.times(directions)

    @cached_property
    def _tangent(self):
        """Derivatives by (theta, gamma, log dispersion) of gamma, and of [Z Q]'s (Effects).

        With b = Lambda Lambda' c and c = Z's, db = a - Lambda H^-1 Lambda' Z'WZ a along theta;
        the same holds along gamma with a = 0 and Z'WQ, along the dispersion with Z' ds.
        """
        moved, rest = self._followed
        return -moved.fixed if self.objective.joint else None, rest.times(-1.0)

    @cached_property
    def _followed(self):
        """Lambda H^-1 Lambda'Z'WZ a by (theta, gamma, log dispersion), and what that leaves."""
        objective = self.objective
        image = self._directions[1]
        if objective.n_dispersion:
            force = objective.rows.effects(self._dispersion_curve.score)
            image = image.beside(force.times(-1.0))
        return self.factor.solve(image, fixed=objective.joint)

    def expected_modes(self, parameters):
        """gamma and u to start a search from, in the order in which to try them.

        The first one follows the mode's tangent: u = T'c, so u moves by T'dc + dT'c.
        """
        gamma, theta, log_disp = self.objective.split(parameters - self.parameters)
        step = np.concatenate([theta, gamma, [log_disp] * self.objective.n_dispersion])
        dgamma, dc = self._tangent
        mode, c = self.mode, self._scores.levels()
        factors = self.objective.layout.factors(self._theta + theta)
        along = mode.gamma if dgamma is None else mode.gamma + dgamma @ step
        yield (
            along,
            [
                u + T.T @ np.einsum("ipl,p->il", d, step) + (new - T).T @ c_g
                for u, d, c_g, T, new in zip(mode.u, dc.random, c, self.T, factors, strict=True)
            ],
        )
        yield mode.gamma, mode.u
        yield mode.gamma, [0 * x for x in mode.u]

    def recharted(self):
        """This point in smooth coordinates of theta (see minimize_theta), None if it has them."""
        begin, end = self.objective.n_gamma, self.objective.n_gamma + self.objective.n_theta
        moved = self.objective.layout.recharted(self._theta)
        if moved is None:
            return None
        layout, theta = moved

        def upright(parameters):
            result = parameters.copy()
            result[begin:end] = layout.upright(parameters[begin:end])
            return result

        state = self.in_chart(layout, theta)
        return state.objective.evaluate, state, upright

    def in_chart(self, layout, theta):
        """This point with theta in the coordinates of another layout, the covariances the same.

        u turns with T: at a mode it is T'c. The factor is that of the covariances.
        """
        begin, end = self.objective.n_gamma, self.objective.n_gamma + self.objective.n_theta
        parameters = self.parameters.copy()
        parameters[begin:end] = theta
        T = layout.factors(theta)
        u = [t.T @ c for t, c in zip(T, self._scores.levels(), strict=True)]
        objective = replace(self.objective, layout=layout)
        state = replace(
            self, objective=objective, parameters=parameters, T=T, mode=replace(self.mode, u=u)
        )
        objective.near.state = state  # the next search for a mode starts in these coordinates
        return state


def _unit_vectors(rows):
    """One vector (Effects) for every column of Q."""
    r = rows.n_fixed
    zeros = [np.zeros((group.n_columns, r, group.n_levels)) for group in rows.groups]
    return Effects(zeros, np.eye(r))
