"""Nonlinear mixed models: the Laplace deviance with its exact gradient, start values, the fit.

With the mode of u, r = y - f(phi), J = df / dphi and the rows V of J o (Z Lambda)

    d(beta, theta) = log |V'WV + I| + n (1 + log(2 pi pwrss / n)) - sum log w

is the likelihood itself where f is linear in the random effects (Bates and Watts 1988; Pinheiro
and Bates 1995, JCGS 4, 12-35). sigma^2 = pwrss / n is profiled, neither the mode nor V depends on
it. The mode moves with the parameters; its derivatives come from one solve with the exact Hessian
of pwrss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed.linalg.system import Effects, Factor, NotPositiveDefinite
from skmixed.models.laplace import Near
from skmixed.models.layout import CovarianceLayout
from skmixed.models.optimize import Impossible
from skmixed.models.pirls import NoMode
from skmixed.models.pnls import Mode, NonlinearRows, factored, find_mode, mode_at, times

_EPS, _TINY = float(np.finfo(float).eps), 1e-300
# Share of the response's sum of squares below which there is no residual variance.
_EXACT = 1e-11


@dataclass(frozen=True)
class NonlinearDeviance:
    """The deviance as a function of (gamma, theta); of theta alone at the joint mode.

    ``constant`` is -sum log w over the rows as often as they count.
    """

    rows: NonlinearRows
    layout: CovarianceLayout
    constant: float
    near: Near

    @property
    def n_gamma(self):
        return 0 if self.rows.joint else self.rows.n_fixed

    def split(self, parameters):
        """gamma (empty at the joint mode) and theta."""
        n = self.n_gamma
        return parameters[:n], parameters[n : n + self.layout.n_theta]

    @property
    def evaluation(self):
        """The class of the evaluations."""
        return Evaluation

    def evaluate(self, parameters):
        """Evaluation at the parameters: value, and on demand its derivatives."""
        near = self.near.state
        if isinstance(near, Evaluation) and near.is_at(self.layout, parameters):
            return near
        gamma, theta = self.split(parameters)
        T = self.layout.factors(theta)
        try:
            mode = self._mode(parameters, gamma, T)
            return self._evaluation(parameters, mode, T)
        except NotPositiveDefinite:
            return Impossible()
        except NoMode as error:
            return Impossible(str(error))

    def _mode(self, parameters, gamma, T):
        reason = NoMode("no start")
        self.near.state = self.in_own_chart(self.near.state)
        for is_near, gamma_0, u in self.near.state.expected_modes(parameters):
            start = mode_at(self.rows, gamma_0 if self.rows.joint else gamma, u, T)
            try:
                return find_mode(start, T, near=is_near)
            except NoMode as error:
                reason = error
        raise reason

    def in_own_chart(self, state):
        """A state of the search in the coordinates of this layout, those of the start."""
        if isinstance(state, Start) or state.objective.layout is self.layout:
            return state
        theta = state.objective.split(state.parameters)[1]
        return state.in_chart(self.layout, state.objective.layout.upright(theta))

    def _evaluation(self, parameters, mode, T):
        self.near.n_steps += mode.n_steps
        check_unexplained(mode)
        state = self.at_mode(parameters, mode, T)
        if not math.isfinite(state.value):
            raise NoMode("the deviance is not finite")
        if not state.value > self.near.state.value:
            self.near.state = state
        return state

    def at_mode(self, parameters, mode, T):
        """The evaluation at a mode that is known."""
        factor = factored(self.rows.linearised(mode.J), T)
        return self.evaluation(self, parameters, replace(mode, n_steps=0), T, factor)


def check_unexplained(mode):
    """Raise an error where fixed and random effects together leave nothing to explain."""
    rows = mode.rows
    if rows.groups and mode.pwrss <= _EXACT * float(rows.w @ rows.y**2):
        raise ValueError(
            "the curve explains the response exactly: the residual variance goes to zero and the "
            "likelihood has no maximum. Is a column of the data computed from the response?"
        )


@dataclass(frozen=True)
class Start:
    """A mode in the place of an evaluation, for the first one to start from."""

    mode: Mode
    value: float = math.inf

    def expected_modes(self, parameters):
        """Whether it is near, gamma and u to start from, in the order in which to try them."""
        yield False, self.mode.gamma, self.mode.u
        yield False, self.mode.gamma, [0 * x for x in self.mode.u]


@dataclass(frozen=True)
class Evaluation:
    """The deviance at one point; ``factor`` is that of the linearised model at the mode."""

    objective: NonlinearDeviance
    parameters: np.ndarray
    mode: Mode
    T: list
    factor: Factor

    @property
    def theta(self):
        """All parameters, as the search calls them."""
        return self.parameters

    @property
    def _covariance_parameters(self):
        return self.objective.split(self.parameters)[1]

    @property
    def sigma2(self):
        return self.mode.sigma2

    @cached_property
    def value(self):
        n, sigma2 = self.objective.rows.n_obs, max(self.mode.sigma2, _TINY)
        fit = n * (1 + math.log(2 * math.pi * sigma2))
        return self.factor.log_det_u + fit + self.objective.constant

    @property
    def noise(self):
        return 4.0 * _EPS * self.objective.rows.n_obs

    @cached_property
    def exact(self):
        """Factor of half the Hessian of pwrss by u (and gamma at the joint mode)."""
        try:
            return factored(self.objective.rows.exact(self.mode.weight), self.T)
        except NotPositiveDefinite:
            raise NoMode("the mode is a saddle") from None

    @cached_property
    def _selected(self):
        return self.factor.selected()

    @cached_property
    def leverages(self):
        """g (P, n): Lambda H^-1 Lambda' z~_i, summed over the columns of every parameter."""
        rows = self.objective.rows
        g = np.zeros(self.mode.J.shape)
        if not rows.groups:
            return g
        products = self._selected.row_products()
        for group, owner, own in zip(rows.groups, rows.owners, products, strict=True):
            for k, z, product in zip(owner, group.z.T, own.T, strict=True):
                g[k] += z * product
        return g

    @cached_property
    def _scores(self):
        """c = Z's at the mode, and Q's."""
        return self.objective.rows.effects(self.mode.score)

    @cached_property
    def information(self):
        """Sum over levels of the blocks of Z~'V0^-1Z~ - c c' / sigma^2: (s, s) by group."""
        pairs = zip(self._selected.information, self._scores.levels(), strict=True)
        return [G - c @ c.T / self.sigma2 for G, c in pairs]

    @cached_property
    def gradient(self):
        """By (gamma, theta).

        Half of log |H| has the derivative h by phi at fixed Lambda. The mode follows: alpha is
        Lambda H_ex^-1 Lambda'Z'h, and ``rest`` what is left of h when u has moved.
        """
        rows, mode = self.objective.rows, self.mode
        h = rows.w * times(mode.C, self.leverages)
        alpha, rho = self.exact.solve(rows.effects(h, fixed=rows.joint), fixed=rows.joint)
        moved = rows.random_part(alpha.levels())
        if rows.joint:
            moved = moved + rows.fixed_part(alpha.fixed[:, 0])
        rest = h - times(mode.weight, moved)
        by_gamma = -2.0 / self.sigma2 * self._scores.fixed[:, 0] + 2.0 * rows.fixed_sums(rest)
        G = []
        pairs = zip(self.information, rho.levels(), self._scores.levels(), strict=True)
        for own, r, c in pairs:
            cross = r @ c.T
            G.append(own + cross + cross.T)
        by_theta = self.objective.layout.gradient(self._covariance_parameters, G)
        return np.concatenate([by_gamma[: self.objective.n_gamma], by_theta])

    @cached_property
    def hessian(self):
        """That of the linear mixed model at the mode."""
        objective = self.objective
        n, m = objective.n_gamma, objective.n_gamma + objective.layout.n_theta
        H = np.zeros((len(self.parameters),) * 2)
        H[:n, :n] = self.fixed_information
        H[n:m, n:m] = self._average_information + objective.layout.curvature(
            self._covariance_parameters, self.information
        )
        if n:
            _, rest = self.factor.solve(self._directions[1], fixed=False)
            H[:n, n:m] = 2.0 / self.sigma2 * rest.fixed
            H[n:m, :n] = H[:n, n:m].T
        if m < len(H):
            H[m] = H[:, m] = self._scale_information()
        return H

    @cached_property
    def metric(self):
        diagonal = [np.diag(self.fixed_information), np.diag(self._average_information)]
        if len(diagonal[0]) + len(diagonal[1]) < len(self.parameters):
            diagonal.append(self._scale_information()[-1:])
        return np.abs(np.concatenate(diagonal))

    @cached_property
    def fixed_information(self):
        """2 / sigma^2 Q~'V0^-1 Q~, none if gamma is no parameter."""
        L = self.factor.fixed_root[: self.objective.n_gamma]
        return 2.0 / self.sigma2 * (L @ L.T)

    @cached_property
    def _directions(self):
        """a_j = d(Lambda Lambda')_j c by theta, and their products with the linearised system."""
        a = self.objective.layout.tangents(self._covariance_parameters, self._scores)
        return a, self.factor.system.times(a)

    @cached_property
    def _average_information(self):
        """n (Q / r^2 - h h' / r^4), as of the linear mixed model."""
        n, pwrss = self.objective.rows.n_obs, self.mode.pwrss
        a, image = self._directions
        forms = self.factor.quadratic_forms(a, image, fixed=self.objective.rows.joint)
        h = a.dot(self._scores)[:, 0] / pwrss
        return n * (forms / pwrss - h[:, None] * h)

    @cached_property
    def _tangent(self):
        """Derivatives by (theta, gamma) of gamma (joint mode only), and of Z's (Effects)."""
        rows, system = self.objective.rows, self.exact.system
        fixed = rows.n_fixed if rows.joint else 0
        a = self._directions[0]
        image = system.times(Effects(a.random, a.fixed[:fixed]))
        if not rows.joint and rows.n_fixed:
            image = image.beside(self._fixed_image)
        moved, rest = self.exact.solve(image, fixed=rows.joint)
        return -moved.fixed if rows.joint else None, rest.times(-1.0)

    @property
    def _fixed_image(self):
        """Z'WQ: one vector (Effects) for every column of Q."""
        rows, W = self.objective.rows, self.mode.weight
        columns = [
            rows.effects(W[k] * q, fixed=False).random
            for q, k in zip(rows.Q.T, rows.fixed_owner, strict=True)
        ]
        groups = [np.concatenate(own, axis=1) for own in zip(*columns, strict=True)]
        return Effects(groups, np.zeros((0, rows.n_fixed)))

    def expected_modes(self, parameters):
        """Whether it is near, gamma and u to start from: u = T'c moves by T'dc + dT'c."""
        gamma, theta = self.objective.split(parameters - self.parameters)
        step = np.concatenate([theta, gamma])
        dgamma, dc = self._tangent
        mode, c = self.mode, self._scores.levels()
        factors = self.objective.layout.factors(self._covariance_parameters + theta)
        along = mode.gamma if dgamma is None else mode.gamma + dgamma @ step
        moved = zip(mode.u, dc.random, c, self.T, factors, strict=True)
        yield (
            True,
            along,
            [
                u + T.T @ np.einsum("ipl,p->il", d, step) + (new - T).T @ c_g
                for u, d, c_g, T, new in moved
            ],
        )
        yield False, mode.gamma, mode.u
        yield False, mode.gamma, [0 * x for x in mode.u]

    @property
    def scale_slope(self):
        """Derivatives of log sigma, which follows pwrss, by (gamma, theta)."""
        by_gamma = -self._scores.fixed[: self.objective.n_gamma, 0]
        by_theta = -0.5 * self._directions[0].dot(self._scores)[:, 0]
        return np.concatenate([by_gamma, by_theta]) / self.mode.pwrss

    def recharted(self):
        """This point in smooth coordinates of theta (see minimize_theta), None if it has them."""
        at = slice(self.objective.n_gamma, self.objective.n_gamma + self.objective.layout.n_theta)
        found = self.objective.layout.recharted(self._covariance_parameters)
        if found is None:
            return None
        layout, theta = found
        state = self.in_chart(layout, theta)
        self.objective.near.state = state

        def upright(parameters):
            result = parameters.copy()
            result[at] = layout.upright(parameters[at])
            return result

        return state.objective.evaluate, state, upright

    def is_at(self, layout, parameters):
        """Whether this is the point with some parameters, in the coordinates of a layout."""
        same = self.objective.layout is layout
        return same and np.array_equal(self.parameters, parameters)

    def in_chart(self, layout, theta):
        """This point with theta in the coordinates of another layout: u = T'c turns with T."""
        T = layout.factors(theta)
        u = [t.T @ c for t, c in zip(T, self._scores.levels(), strict=True)]
        parameters = self.parameters.copy()
        parameters[self.objective.n_gamma :][: len(theta)] = theta
        return replace(
            self,
            objective=replace(self.objective, layout=layout),
            parameters=parameters,
            mode=replace(self.mode, u=u),
            T=T,
        )
