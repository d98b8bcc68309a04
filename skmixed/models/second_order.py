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

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skmixed.linalg.system import Direction, Effects
from skmixed.models.structures import triangle

# Eigenvalues of a scaled information below this share of the largest are null directions.
_NULL = 1e-9
# Deviance that may be left undone: degrees of freedom are then exact to some 1e-7.
_POLISHED = 1e-13
# Numbers held at a time in right-hand sides.
_CHUNK = 1 << 23


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
        tr(V0^-1 G_r) and tr(V0^-1 G_r V0^-1 G_s).
    n_obs : float
        Number of rows.
    reml : bool
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
        gamma, jacobian, bends = _derivatives(objective.layout, directions, theta)
        Phi, whole, one, two = _forms_of(inverse, directions, scale)
        t, tt = inverse.traces(directions)
        return cls(
            theta,
            scale * objective.y_scale,
            np.append(gamma, 1.0),
            jacobian,
            bends,
            objective.gamma + objective.y_scale * inverse.coefficients,
            Phi,
            whole,
            *_completed(whole, one, two, gamma),
            *_completed(objective.n_obs, t, tt, gamma),
            objective.n_obs,
            objective.reml,
        )

    @classmethod
    def of(cls, fit):
        """The record of an LMMFit, at the minimum that its optimum is near.

        Degrees of freedom move to first order with theta while the criterion moves to second
        order: where the search left more than _POLISHED of it undone one Newton step is taken.

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
        objective, theta = fit.objective, fit.optimum.theta
        record = cls.at(objective, fit.factor, theta)
        step, decrease = record.step
        if decrease > _POLISHED:
            evaluation = objective.evaluate(theta + step)
            if evaluation.value <= fit.deviance + 1e-12 * abs(fit.deviance):
                record = cls.at(objective, evaluation.factor, theta + step)
        return record

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
        return self._chain(trace - self.h, 2.0 * self.a - pairs, self.h, self.quadratic)

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
        """Covariance W (K + 1, K + 1) of gamma from its expected information."""
        return 2.0 * scaled_inverse(self.information)


def scaled_inverse(H):
    """Inverse of H on its positive part, in coordinates that give it a unit diagonal.

    Units of the parameters do not decide what counts as a null direction.
    """
    diagonal = H.diagonal()
    positive = diagonal > 0
    scale = np.where(positive, 1.0 / np.sqrt(np.where(positive, diagonal, 1.0)), 0.0)
    values, vectors = np.linalg.eigh((H + H.T) / 2 * np.outer(scale, scale))
    kept = values > _NULL * max(values[-1], 0.0) if len(values) else values > 0
    half = vectors[:, kept] / np.sqrt(values[kept]) * scale[:, None]
    return half @ half.T


def linear_parameters(layout):
    """Directions of the covariance entries of all terms, by column of the lower triangle."""
    directions = []
    for term in layout.terms:
        first = term.columns.start
        for i, j in zip(*(x.tolist() for x in triangle(term.size)), strict=True):
            directions.append(Direction(term.group, first + i, first + j))
    return directions


def _derivatives(layout, directions, theta):
    """gamma (K,) without the residual variance, its first and its second derivatives by theta."""
    K, k, factors = len(directions), layout.n_theta, layout.factors(theta)
    gamma, J, bends = np.empty(K), np.empty((K, k)), np.empty((K, k, k))
    for r, d in enumerate(directions):
        T = factors[d.group]
        gamma[r] = T[d.i] @ T[d.j]
        G = [np.zeros((len(T), len(T))) for T in factors]
        G[d.group][d.i, d.j] += 0.5
        G[d.group][d.j, d.i] += 0.5
        J[r], bends[r] = layout.gradient(theta, G), layout.curvature(theta, G)
    return gamma, J, bends


def _completed(whole, one, two, gamma):
    """First- and second-order forms with those of the residual variance: sum gamma_r G_r = V0."""
    K = len(gamma)
    last = whole - np.tensordot(gamma, one, 1)
    rest = one - np.tensordot(gamma, two, (0, 1))
    full = np.empty((K + 1, K + 1, *np.shape(last)))
    full[:K, :K], full[:K, K] = two, rest
    full[K, :K] = np.swapaxes(rest, -1, -2) if np.ndim(last) else rest
    full[K, K] = last - np.tensordot(gamma, rest, 1)
    return np.concatenate([one, np.asarray(last)[None]]), full


def _forms_of(inverse, directions, scale):
    """Phi, and [X e]' V0^-1 (G V0^-1)^k [X e] for k = 0, 1, 2, e in units of sigma."""
    root = inverse.fixed_root
    p = len(root) - 1
    half = np.linalg.inv(root[:p, :p])
    whole = np.zeros((p + 1, p + 1))
    whole[:p, :p], whole[p, p] = inverse.fixed[:p, :p], (root[p, p] / scale) ** 2
    seen = inverse.effects_fixed
    M = Effects([_with_scores(m, inverse.coefficients, scale) for m in seen.random], seen.fixed)
    return (
        half.T @ half,
        whole,
        _forms(directions, M, M, p + 1, p + 1),
        _second_forms(inverse, directions, M, p + 1),
    )


def _with_scores(m, beta, scale):
    """Z' V0^-1 [X e] (s, p + 1, l) from Z' V0^-1 [X y]."""
    result = m.copy()
    result[:, -1] -= np.einsum("spl,p->sl", m[:, :-1], beta)
    result[:, -1] /= scale
    return result


def _forms(directions, left, right, v, w):
    """left' D_r right (K, v, w), for effects (s, v, l) and (s, w, l) by group."""
    tables = [_table(a, b) for a, b in zip(left.random, right.random, strict=True)]
    result = np.empty((len(directions), v, w))
    for r, d in enumerate(directions):
        result[r] = tables[d.group][d.i, :, d.j]
        if d.i != d.j:
            result[r] += tables[d.group][d.j, :, d.i]
    return result


def _table(a, b):
    """Sum over levels of a[i, v] b[j, w]: (s, v, s, w)."""
    flat = a.reshape(-1, a.shape[-1]) @ b.reshape(-1, b.shape[-1]).T
    return flat.reshape(*a.shape[:2], *b.shape[:2])


def _second_forms(inverse, directions, M, v):
    """M' D_r H D_s M (K, K, v, v), some of the right-hand sides at a time."""
    K = len(directions)
    two = np.empty((K, K, v, v))
    step = max(1, _CHUNK // max(1, v * sum(m.shape[0] * m.shape[2] for m in M.random)))
    for lo in range(0, K, step):
        some = directions[lo : lo + step]
        seen = inverse.times(_applied(some, M, v))
        moved = _forms(directions, M, seen, v, len(some) * v)
        two[:, lo : lo + step] = moved.reshape(K, v, len(some), v).transpose(0, 2, 1, 3)
    return two


def _applied(directions, M, v):
    """D_r M of several parameters beside each other: Effects of K v columns."""
    result = [np.zeros((len(m), len(directions) * v, m.shape[2])) for m in M.random]
    for r, d in enumerate(directions):
        columns = slice(r * v, (r + 1) * v)
        result[d.group][d.i, columns] = M[d.group][d.j]
        result[d.group][d.j, columns] = M[d.group][d.i]
    return Effects(result, np.zeros((len(M.fixed), len(directions) * v)))
