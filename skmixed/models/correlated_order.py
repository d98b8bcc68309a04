"""Second-order quantities of a model with a residual structure: what tests and intervals read.

The covariance of y is not linear in rho, and the Hessian is had from differences of the exact
gradient; derivatives of vcov(beta) are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skmixed.models.second_order import scaled_inverse

# Differences are taken over this share of a standard error; the decrease of the criterion that may
# be left undone, and the Newton steps that are taken for it at most.
_DIFFERENCE, _POLISHED, _STEPS = 1e-3, 1e-11, 3


@dataclass(frozen=True)
class LinearForms:
    """Forms in the entries gamma of R over visits, in which V is linear.

    P (E, r, r), Q (E, E, r, r): derivatives of X'V^-1X, see ``SecondOrder``; covariance (E, E) of
    gamma from its expected information, along the directions in which the structure moves.
    """

    P: np.ndarray
    Q: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, objective, rho, Phi):
        """The forms of a model without random effects, or None where V is not linear."""
        residual, grams = objective.residual, objective.mixture.fixed_grams()
        if not residual.is_linear or objective.layout.terms or grams is None:
            return None
        S, slopes = residual.correlation.covariance(rho)
        P, Q, tt = residual.layout.linear_forms(S, grams)
        PhiP = Phi @ P
        information = tt - 2.0 * np.einsum("ij,rsji->rs", Phi, Q)
        information += np.einsum("rij,sji->rs", PhiP, PhiP)
        i, j = np.triu_indices(len(S), 1)
        along = np.concatenate([slopes, S[None]])
        along = np.concatenate([np.einsum("pvv->pv", along), along[:, i, j]], axis=1).T
        covariance = 2.0 * scaled_inverse(along.T @ information @ along)
        return cls(P, Q, along @ covariance @ along.T)


@dataclass(frozen=True)
class CorrelatedSecondOrder:
    """Derivatives of the criterion and of vcov(beta) at one (theta, rho).

    Parameters stand in the order theta (k), log sigma, rho (p); all in units of sigma.

    Attributes
    ----------
    theta, rho : (k,) and (p,)
    sigma : float
    beta : (r,)
    Phi : (r, r)
    dPhi : (k + 1 + p, r, r)
    hessian : (k + 1 + p, k + 1 + p)
        Second derivatives of the criterion.
    n_obs : float
    reml : bool
    linear : LinearForms or None
        Forms in the entries of R, which Kenward and Roger's method reads.
    """

    theta: np.ndarray
    rho: np.ndarray
    sigma: float
    beta: np.ndarray
    Phi: np.ndarray
    dPhi: np.ndarray
    hessian: np.ndarray
    n_obs: float
    reml: bool

    linear: LinearForms | None = None

    twin = None
    curvature = None

    @property
    def point(self):
        """The parameters, sigma in units of itself."""
        return np.concatenate([self.theta, [0.0], self.rho])

    @property
    def P(self):
        """d Phi^-1 by the entries of R."""
        return self.linear.P

    @property
    def Q(self):
        """Second-order forms of X in the entries of R."""
        return self.linear.Q

    @property
    def expected_covariance(self):
        """Covariance of the entries of R from their expected information."""
        return self.linear.covariance

    @cached_property
    def covariance(self):
        """Covariance of theta, log sigma and rho: twice the inverse of the Hessian."""
        return 2.0 * scaled_inverse(self.hessian)

    @classmethod
    def of(cls, fit):
        """The record of an LMMFit with a residual structure, at the minimum nearby."""
        if fit.objective is None:
            raise ValueError(
                "degrees of freedom need the cross-products of the data, which are not pickled: "
                "ask for them before pickling, or fit the model again in this process"
            )
        if not fit.sigma > 0:
            raise ValueError("degrees of freedom need a residual variance, and this model has none")
        objective, x = fit.objective, fit.optimum.theta
        state = objective.evaluate(x)
        H = _profiled_hessian(objective, x, state)
        for _ in range(_STEPS):
            step = -scaled_inverse(H) @ state.gradient
            if not -0.5 * state.gradient @ step > _POLISHED:
                break
            nearer = objective.evaluate(x + step)
            if not nearer.value <= state.value + 1e-12 * abs(state.value):
                break
            x, state = x + step, nearer
            H = _profiled_hessian(objective, x, state)
        return cls._at(objective, x, state, H)

    @classmethod
    def _at(cls, objective, x, state, H):
        m, L = objective.dof, state.factor
        scale = np.sqrt(L.pwrss / m)
        theta, rho = objective.split(x)
        k, n = len(theta), len(x) + 1
        cross = 2.0 * m * state.score  # second derivative by log sigma and x
        order = [*range(k), n - 1, *range(k, n - 1)]
        full = np.empty((n, n))
        full[:-1, :-1] = H + np.outer(cross, cross) / (4.0 * m)
        full[-1, :-1] = full[:-1, -1] = cross
        full[-1, -1] = 4.0 * m
        half = np.linalg.inv(L.fixed_root)
        Phi = half.T @ half
        moved = -Phi @ np.concatenate([_by_theta(objective, theta, L), _by_rho(state)]) @ Phi
        dPhi = np.concatenate([moved, 2.0 * Phi[None]])
        return cls(
            theta,
            rho,
            scale * objective.y_scale,
            objective.gamma + objective.y_scale * L.mode.fixed[:, 0],
            Phi,
            dPhi[order],
            full[np.ix_(order, order)],
            objective.n_obs,
            objective.reml,
            LinearForms.of(objective, rho, Phi),
        )


def _profiled_hessian(objective, x, state):
    """Second derivatives of the criterion, sigma at its best, by differences of the gradient."""
    sizes = _DIFFERENCE / np.sqrt(np.maximum(state.hessian.diagonal(), 1.0))
    columns = []
    for e in np.diag(sizes):
        ends = [objective.evaluate(x + sign * e).gradient for sign in (1.0, -1.0)]
        columns.append((ends[0] - ends[1]) / (2.0 * e.max()))
    H = np.array(columns).reshape(len(x), len(x))
    return (H + H.T) / 2


def _by_theta(objective, theta, L):
    """d(X'V0^-1X) / dtheta (k, r, r)."""
    seen = L.marginal().effects_fixed.columns(slice(0, objective.rank))
    found = np.zeros((len(theta), objective.rank, objective.rank))
    for j in range(objective.rank if len(theta) else 0):
        moved = objective.layout.tangents(theta, seen.columns(slice(j, j + 1)))
        found[:, :, j] = -sum(
            np.einsum("stl,srl->tr", a, b) for a, b in zip(moved.random, seen.random, strict=True)
        )
    return found


def _by_rho(state):
    return state.objective.mixture.fixed_slopes(state.factor, state.moved)
