"""Second-order quantities of a linear mixed model: what degrees of freedom and intervals read.

The covariance of y is linear in gamma, the entries of the terms' covariance matrices and the
residual variance: V = sum_r gamma_r G_r. Everything here is written in units of the residual
standard deviation, gamma = (T T' of every term by column of its lower triangle, 1), in the
engine's covariates and on the orthonormal basis of X, so that no number depends on units of the
data. It comes from cross-products and their factor alone.

References
----------
Kenward and Roger (1997), Small sample inference for fixed effects from restricted maximum
likelihood, Biometrics 53, 983-997.
Kuznetsova, Brockhoff and Christensen (2017), lmerTest package, Journal of Statistical Software
82(13), for the use of derivatives of vcov(beta) in Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed.models.linear_parameters import (
    completed,
    derivatives_of_gamma,
    first_traces,
    forms_in,
    has_many_parameters,
    linear_parameters,
)

# Eigenvalues of a scaled information below this share of the largest are null directions. That of
# gamma has small ones of its own, where a covariance has both large and small variances.
_NULL, _NULL_OF_GAMMA = 1e-9, 1e-13
# Deviance that may be left undone: degrees of freedom are then exact to some 1e-7. Steps that are
# taken for it at most, and share of the criterion that is rounding.
_POLISHED, _STEPS, _NOISE = 1e-13, 8, 1e-12
# Times the usual rounding of the criterion that a step may seem to go up.
_ROOM = 100.0
# Variances, in units of the residual one, beyond which rounding is looked at; shift of theta that
# turns it. Decrease of the criterion left undone from which a last step says what it would change.
_LARGE, _SHIFT, _UNDONE = 1e3, 1e-15, 1e-6
# Differences are taken over this share of a standard error of theta.
_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class SecondOrder:
    """Derivatives of the criterion and of vcov(beta) at one (theta, sigma).

    r, s run over the K linear parameters of the random effects and last the residual variance;
    p columns of the basis of X; everything in units of sigma (see the module).

    Attributes
    ----------
    theta : (k,)
        The engine's theta.
    sigma : float
        Residual standard deviation in units of the response.
    gamma : (K + 1,)
        Linear parameters, the last one 1.
    jacobian : (K, k)
        dgamma / dtheta.
    bends : (K, k, k)
        Second derivatives of gamma by theta.
    beta : (p,)
        Generalised least squares, in units of the response.
    Phi : (p, p)
        (X' V0^-1 X)^-1: vcov of the coefficients over sigma^2.
    whole : (p + 1, p + 1)
        [X e]' V0^-1 [X e], e the residual y - X beta.
    one : (K + 1, p + 1, p + 1)
        [X e]' V0^-1 G_r V0^-1 [X e].
    two : (K + 1, K + 1, p + 1, p + 1)
        [X e]' V0^-1 G_r V0^-1 G_s V0^-1 [X e].
    t, tt : (K + 1,), (K + 1, K + 1)
        tr(V0^-1 G_r) and tr(V0^-1 G_r V0^-1 G_s). Where the memory has no room for the latter,
        what makes the expected information the average one.
    n_obs : float
        Number of rows.
    reml : bool
    curvature : (k, k) or None
        Second derivatives by theta where they are not those of the traces.
    twin : SecondOrder or None
        The record at a theta that is as good, where rounding may matter: what both agree on is
        known.
    """

    theta: np.ndarray
    sigma: float
    gamma: np.ndarray
    jacobian: np.ndarray
    bends: np.ndarray
    beta: np.ndarray
    Phi: np.ndarray
    whole: np.ndarray
    one: np.ndarray
    two: np.ndarray
    t: np.ndarray
    tt: np.ndarray
    n_obs: float
    reml: bool
    curvature: np.ndarray | None = None
    twin: SecondOrder | None = None

    @classmethod
    def at(cls, objective, factor, theta, sigma=None):
        """The record at a factor of a ProfiledDeviance's system, at its own sigma by default.

        Parameters
        ----------
        objective : ProfiledDeviance
        factor : Factor
            Of the objective's system at theta.
        theta : (k,)
        sigma : float, optional
            In units of the response.
        """
        scale = np.sqrt(factor.pwrss / objective.dof)  # of the engine's response
        if sigma is not None:
            scale = sigma / objective.y_scale
        inverse = factor.marginal()
        directions = linear_parameters(objective.layout)
        gamma, jacobian, bends = derivatives_of_gamma(objective.layout, directions, theta)
        Phi, whole, one, two = forms_in(inverse, directions, scale)
        one, two = completed(whole, one, two, gamma)
        if inverse.has_room_for_traces(directions):
            t, tt = completed(objective.n_obs, *inverse.traces(directions), gamma)
        else:
            t = first_traces(factor, directions, objective.n_obs, gamma)
            tt = _average_traces(Phi, one, two)
        return cls(
            theta,
            scale * objective.y_scale,
            np.append(gamma, 1.0),
            jacobian,
            bends,
            objective.gamma + objective.y_scale * inverse.coefficients,
            Phi,
            whole,
            one,
            two,
            t,
            tt,
            objective.n_obs,
            objective.reml,
        )

    @classmethod
    def of(cls, fit):
        """The record of an LMMFit, at the minimum that its optimum is near.

        Degrees of freedom move to first order with theta while the criterion moves to second
        order: where the search left more than _POLISHED of it undone Newton steps are taken.

        Raises
        ------
        ValueError
            For a fit without its cross-products, and one without a residual variance.
        """
        if fit.objective is None:
            raise ValueError(
                "degrees of freedom need the cross-products of the data, which are not pickled: "
                "ask for them before pickling, or fit the model again in this process"
            )
        if not fit.sigma > 0:
            raise ValueError(
                "degrees of freedom need a residual variance, and this model leaves none: it has "
                "as many parameters as the rows can tell apart"
            )
        if has_many_parameters(fit.layout):
            raise ValueError(
                "a structured term has too many effects for the derivatives by all entries of its "
                "covariance: there are no degrees of freedom but ddf='asymptotic' or 'residual'"
            )
        objective, value = fit.objective, fit.deviance
        record, exact = cls.at(objective, fit.factor, fit.optimum.theta), _has_traces(fit)
        for _ in range(_STEPS):
            step, decrease = record.step
            evaluation = objective.evaluate(record.theta + step) if decrease > _POLISHED else None
            if evaluation is None or not np.isfinite(evaluation.value):
                break
            if evaluation.value > value + _NOISE * abs(value) + _ROOM * evaluation.noise:
                break
            nearer = cls.at(objective, evaluation.factor, record.theta + step)
            if nearer.step[1] >= decrease:  # what is left is rounding
                break
            record, value = nearer, min(value, evaluation.value)
        if not exact and len(record.theta):
            record = replace(record, curvature=_curvature_by_differences(objective, record))
        return replace(record, twin=record._twin(objective))

    def _twin(self, objective):
        """The record that other rounding, and a last step to the minimum, would have made."""
        step, undone = self.step
        if np.abs(self.gamma).max() < _LARGE and undone < 1e2 * _POLISHED:
            return None
        theta = self.theta * (1.0 + _SHIFT) + (step if undone < _UNDONE else 0.0)
        evaluation = objective.evaluate(theta)
        if not np.isfinite(evaluation.value):
            return None
        return replace(type(self).at(objective, evaluation.factor, theta), curvature=self.curvature)

    @property
    def point(self):
        """theta and log sigma, that in units of itself."""
        return np.append(self.theta, 0.0)

    @property
    def step(self):
        """(Newton step (k,) in theta, sigma following; decrease of the criterion it promises)."""
        k, H, gradient = len(self.theta), self.hessian, self.gradient[:-1]
        profiled = H[:k, :k] - np.outer(H[:k, k], H[k, :k]) / H[k, k]
        step = -scaled_inverse(profiled) @ gradient
        return step, float(-0.5 * gradient @ step)

    @property
    def dof(self):
        """n - p for REML, n for ML."""
        return self.n_obs - len(self.Phi) if self.reml else self.n_obs

    @property
    def quadratic(self):
        """y' P0 y, which is :attr:`dof` where sigma minimises the criterion."""
        return float(self.whole[-1, -1])

    @property
    def P(self):
        """d Phi^-1 / dgamma_r = -X' V0^-1 G_r V0^-1 X (K + 1, p, p)."""
        return -self.one[:, :-1, :-1]

    @property
    def Q(self):
        """X' V0^-1 G_r V0^-1 G_s V0^-1 X (K + 1, K + 1, p, p)."""
        return self.two[..., :-1, :-1]

    @property
    def h(self):
        """y' P0 G_r P0 y (K + 1,)."""
        return self.one[:, -1, -1]

    @property
    def a(self):
        """y' P0 G_r P0 G_s P0 y (K + 1, K + 1)."""
        w = self.one[:, :-1, -1]
        return self.two[..., -1, -1] - w @ self.Phi @ w.T

    @cached_property
    def derivatives(self):
        """Gradient (k + 1,) and Hessian (k + 1, k + 1) of the criterion by theta and sigma.

        sigma is in units of its value.
        """
        trace, pairs = self.t, self.tt
        if self.reml:
            trace = trace + np.einsum("ij,rji->r", self.Phi, self.P)
            pairs = self.information
        gradient, H = self._chain(trace - self.h, 2.0 * self.a - pairs, self.h, self.quadratic)
        if self.curvature is not None:
            k = len(self.theta)
            H[:k, :k] = self.curvature
        return gradient, H

    def constrained_derivatives(self, row, shift):
        """The ML criterion where a linear function of beta is held off its estimate.

        Parameters
        ----------
        row : (p,)
        shift : float
            row'beta less its estimate, in units of sigma.

        Returns
        -------
        increase : float
            Of the criterion at this theta and sigma.
        gradient, hessian : (k + 2,), (k + 2, k + 2)
            By theta, sigma (in units of its value) and row'beta (in units of sigma).
        """
        ahead = self.Phi @ row
        variance = float(row @ ahead)
        k = ahead / variance
        z = np.append(-shift * k, 1.0)
        Phi = self.Phi - np.outer(ahead, k)
        w = self.one[:, :-1] @ z
        h = z @ self.one @ z
        a = z @ (self.two @ z[:, None])[..., 0].transpose(0, 2, 1) - w @ Phi @ w.T
        increase = shift**2 / variance
        part, inner = self._chain(self.t - h, 2.0 * a - self.tt, h, self.quadratic + increase)
        n = len(part)
        gradient = np.append(part, 2.0 * shift / variance)
        H = np.empty((n + 1, n + 1))
        H[:n, :n], H[n, n] = inner, 2.0 / variance
        H[n, : n - 1] = H[: n - 1, n] = 2.0 * (self.jacobian.T @ (w[:-1] @ k))
        H[n, n - 1] = H[n - 1, n] = -4.0 * shift / variance
        return increase, gradient, H

    def _chain(self, slopes, curvature, h, quadratic):
        """From derivatives by gamma to derivatives by theta and sigma."""
        J, k = self.jacobian, len(self.theta)
        gradient = np.append(J.T @ slopes[:-1], 2.0 * (self.dof - quadratic))
        H = np.empty((k + 1, k + 1))
        H[:k, :k] = J.T @ curvature[:-1, :-1] @ J + np.tensordot(slopes[:-1], self.bends, 1)
        H[:k, k] = H[k, :k] = 2.0 * (J.T @ h[:-1])
        H[k, k] = 6.0 * quadratic - 2.0 * self.dof
        return gradient, H

    @property
    def gradient(self):
        """Derivatives (k + 1,) of the criterion by theta and sigma (in units of its value)."""
        return self.derivatives[0]

    @property
    def hessian(self):
        """Second derivatives (k + 1, k + 1) by theta and sigma (in units of its value)."""
        return self.derivatives[1]

    @cached_property
    def information(self):
        """tr(P0 G_r P0 G_s) (K + 1, K + 1): twice the expected information, REML's."""
        PhiP = self.Phi @ self.P
        return (
            self.tt
            - 2.0 * np.einsum("ij,rsji->rs", self.Phi, self.Q)
            + np.einsum("rij,sji->rs", PhiP, PhiP)
        )

    @cached_property
    def covariance(self):
        """Covariance (k + 1, k + 1) of theta and log sigma: twice the inverse of the Hessian."""
        return 2.0 * scaled_inverse(self.hessian)

    @cached_property
    def dPhi(self):
        """Derivatives (k + 1, p, p) of Phi by theta and log sigma."""
        by_gamma = -self.Phi @ self.P[:-1] @ self.Phi
        by_theta = np.tensordot(self.jacobian.T, by_gamma, 1)
        return np.concatenate([by_theta, 2.0 * self.Phi[None]])

    @cached_property
    def expected_covariance(self):
        """Covariance W (K + 1, K + 1) of gamma from its expected information.

        Where the structure of a covariance has fewer parameters than entries it moves along these
        alone. NaN where variances are so large that a direction of information may have been lost.
        """
        K, k = self.jacobian.shape
        along = np.eye(K + 1)
        if k < K:
            along = np.zeros((K + 1, k + 1))
            along[:K, :k], along[:, k] = self.jacobian, self.gamma
        information = along.T @ self.information @ along
        half = _scaled_half(information, _NULL_OF_GAMMA)
        if np.abs(self.gamma).max() >= _LARGE and half.shape[1] < len(half):
            return np.full((K + 1, K + 1), np.nan)
        half = along @ half
        return 2.0 * half @ half.T


@dataclass(frozen=True)
class Curvature:
    """Covariance (k + 1, k + 1) of theta and log sigma by differences of the exact gradient.

    For structures of so many effects that the derivatives by all entries of their covariances,
    which :class:`SecondOrder` holds, are out of reach.
    """

    theta: np.ndarray
    sigma: float
    covariance: np.ndarray

    @property
    def point(self):
        """theta and log sigma, that in units of itself."""
        return np.append(self.theta, 0.0)

    @classmethod
    def of(cls, fit):
        """At the optimum of an LMMFit that has its cross-products and a residual variance."""
        objective, theta, k = fit.objective, fit.optimum.theta, len(fit.optimum.theta)
        metric = objective.evaluate(theta).hessian.diagonal()
        steps = _DIFFERENCE / np.sqrt(np.maximum(metric, 1.0))
        H, sizes = np.empty((k + 1, k + 1)), np.empty(k)
        for j, e in enumerate(np.diag(steps)):
            high, low = (objective.evaluate(theta + sign * e) for sign in (1.0, -1.0))
            H[j, :k] = (high.gradient - low.gradient) / (2.0 * steps[j])
            sizes[j] = np.log(high.factor.pwrss / low.factor.pwrss) / (2.0 * steps[j])
        H[:k, :k] = (H[:k, :k] + H[:k, :k].T) / 2 + objective.dof * np.outer(sizes, sizes)
        H[:k, k] = H[k, :k] = -2.0 * objective.dof * sizes
        H[k, k] = 4.0 * objective.dof
        return cls(theta, fit.sigma, 2.0 * scaled_inverse(H))


def _has_traces(fit):
    return fit.factor.marginal().has_room_for_traces(linear_parameters(fit.layout))


def _average_traces(Phi, one, two):
    """tr(V0^-1 G_r V0^-1 G_s) that makes the expected information y'P0 G_r P0 G_s P0 y."""
    Q, P, w = two[..., :-1, :-1], Phi @ one[:, :-1, :-1], one[:, :-1, -1]
    average = two[..., -1, -1] - w @ Phi @ w.T
    fixed = 2.0 * np.einsum("ij,rsji->rs", Phi, Q) - np.einsum("rij,sji->rs", P, P)
    return average + (fixed + fixed.T) / 2


def _curvature_by_differences(objective, record):
    """Second derivatives (k, k) by theta at fixed sigma, by differences of the exact gradient.

    That one has sigma at its best: its derivative lacks what sigma gives way.
    """
    k, H = len(record.theta), record.hessian
    sizes = 1.0 / np.sqrt(np.maximum(H.diagonal()[:k], 1.0))
    columns = []
    for e in np.diag(_DIFFERENCE * sizes):
        ends = [objective.evaluate(record.theta + sign * e).gradient for sign in (1.0, -1.0)]
        columns.append((ends[0] - ends[1]) / (2.0 * e.sum()))
    profiled = (np.array(columns) + np.array(columns).T) / 2
    return profiled + np.outer(H[:k, k], H[k, :k]) / H[k, k]


def scaled_inverse(H):
    """Inverse of H on its positive part, in coordinates that give it a unit diagonal.

    Units of the parameters do not decide what counts as a null direction.
    """
    half = _scaled_half(H, _NULL)
    return half @ half.T


def _scaled_half(H, null):
    """half (k, rank) with half half' the scaled inverse of H."""
    diagonal = H.diagonal()
    positive = diagonal > 0
    scale = np.where(positive, 1.0 / np.sqrt(np.where(positive, diagonal, 1.0)), 0.0)
    values, vectors = np.linalg.eigh((H + H.T) / 2 * np.outer(scale, scale))
    kept = values > null * max(values[-1], 0.0) if len(values) else values > 0
    return vectors[:, kept] / np.sqrt(values[kept]) * scale[:, None]
