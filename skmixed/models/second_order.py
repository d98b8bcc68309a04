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

from skmixed.linalg.marginal import MarginalInverse
from skmixed.linalg.traces import Direction, covariance_traces

# Eigenvalues of a scaled information below this share of the largest are null directions.
_NULL = 1e-9
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
    curvature : (k, k)
        Sum of d_r times the second derivatives of gamma_r.
    Phi : (p, p)
        (X' V0^-1 X)^-1: vcov of the coefficients over sigma^2.
    P : (K + 1, p, p)
        d Phi^-1 / dgamma_r = -X' V0^-1 G_r V0^-1 X.
    Q : (K + 1, K + 1, p, p)
        X' V0^-1 G_r V0^-1 G_s V0^-1 X.
    h : (K + 1,)
        y' P0 G_r P0 y.
    a : (K + 1, K + 1)
        y' P0 G_r P0 G_s P0 y.
    t, tt : (K + 1,), (K + 1, K + 1)
        tr(V0^-1 G_r) and tr(V0^-1 G_r V0^-1 G_s).
    quadratic : float
        y' P0 y, which is :attr:`dof` where sigma minimises the criterion.
    n_obs : float
        Number of rows.
    reml : bool
    """

    theta: np.ndarray
    sigma: float
    gamma: np.ndarray
    jacobian: np.ndarray
    curvature: np.ndarray
    Phi: np.ndarray
    P: np.ndarray
    Q: np.ndarray
    h: np.ndarray
    a: np.ndarray
    t: np.ndarray
    tt: np.ndarray
    quadratic: float
    n_obs: float
    reml: bool

    @property
    def dof(self):
        """n - p for REML, n for ML."""
        return self.n_obs - len(self.Phi) if self.reml else self.n_obs

    @classmethod
    def at(cls, objective, factor, theta, sigma=None):
        """The record at a factor of a ProfiledDeviance's system, at its own sigma by default.

        Parameters
        ----------
        objective : ProfiledDeviance
        factor : BlockedFactor
            Of the objective's cross-products at theta.
        theta : (k,)
        sigma : float, optional
            In units of the response.
        """
        scale = np.sqrt(factor.pwrss / objective.dof)  # of the engine's response
        if sigma is not None:
            scale = sigma / objective.y_scale
        inverse = MarginalInverse(factor)
        directions, jacobian = linear_parameters(objective.layout, theta)
        forms = _Forms.at(inverse, directions, scale)
        t, tt = covariance_traces(inverse, directions)
        gamma = _linear_values(objective.layout, directions, theta)
        t, tt = _complete_traces(t, tt, gamma, objective.n_obs)
        P, Q, h, a = forms.completed(gamma)
        slopes = (t + _traces_with(forms.Phi, P) if objective.reml else t) - h
        curvature = _theta_curvature(objective.layout, directions, slopes[:-1])
        return cls(theta, scale * objective.y_scale, np.append(gamma, 1.0), jacobian, curvature,
                   forms.Phi, P, Q, h, a, t, tt, forms.quadratic, objective.n_obs,
                   objective.reml)  # fmt: skip

    @cached_property
    def slopes(self):
        """Derivatives (K + 1,) of the criterion by gamma."""
        return (self.t + _traces_with(self.Phi, self.P) if self.reml else self.t) - self.h

    @cached_property
    def gradient(self):
        """Derivatives (k + 1,) of the criterion by theta and sigma (in units of its value)."""
        by_sigma = 2.0 * (self.dof - self.quadratic)
        return np.append(self.jacobian.T @ self.slopes[:-1], by_sigma)

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
    def hessian(self):
        """Second derivatives (k + 1, k + 1) of the criterion by theta and sigma.

        sigma is in units of its value.
        """
        twice = 2.0 * self.a - (self.information if self.reml else self.tt)
        J, k = self.jacobian, len(self.theta)
        H = np.empty((k + 1, k + 1))
        H[:k, :k] = J.T @ twice[:-1, :-1] @ J + self.curvature
        H[:k, k] = H[k, :k] = 2.0 * (J.T @ self.h[:-1])
        H[k, k] = 6.0 * self.quadratic - 2.0 * self.dof
        return H

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


def linear_parameters(layout, theta):
    """Directions of the covariance entries of all terms, and dgamma / dtheta."""
    directions, factors = [], layout.factors(theta)
    for term in layout.terms:
        i, j = term.triangle
        first = term.columns.start
        directions += [Direction(term.group, first + x, first + y) for x, y in
                       zip(i.tolist(), j.tolist(), strict=True)]  # fmt: skip
    J = np.zeros((len(directions), layout.n_theta))
    for g, (at, rows, columns) in enumerate(layout.entries):
        # dGamma = E T' + T E' with one entry (row, column) in E
        here = [r for r, d in enumerate(directions) if d.group == g]
        i, j = (np.array([getattr(directions[r], name) for r in here]) for name in "ij")
        T = factors[g]
        J[np.ix_(here, at)] = (i[:, None] == rows) * T[j[:, None], columns]
        J[np.ix_(here, at)] += (j[:, None] == rows) * T[i[:, None], columns]
    return directions, J


def _linear_values(layout, directions, theta):
    """gamma (K,) without the residual variance."""
    products = [T @ T.T for T in layout.factors(theta)]
    return np.array([products[d.group][d.i, d.j] for d in directions])


def _theta_curvature(layout, directions, slopes):
    """Sum over r of slopes_r d2gamma_r / dtheta dtheta."""
    H = np.zeros((layout.n_theta, layout.n_theta))
    for g, (at, rows, columns) in enumerate(layout.entries):
        s = layout.groups[g].n_columns
        twice = np.zeros((s, s))
        for d, slope in zip(directions, slopes, strict=True):
            if d.group == g:
                twice[d.i, d.j] += slope
                twice[d.j, d.i] += slope
        same = columns[:, None] == columns
        H[np.ix_(at, at)] = np.where(same, twice[np.ix_(rows, rows)], 0.0)
    return H


def _traces_with(Phi, P):
    """tr(Phi P_r) for all r."""
    return np.einsum("ij,rji->r", Phi, P)


def _complete_traces(t, tt, gamma, n):
    """Traces with the row of the residual variance, from sum_r gamma_r G_r = V0."""
    rest = t - tt @ gamma
    last = n - gamma @ t
    tt = np.block([[tt, rest[:, None]], [rest, np.array([last - rest @ gamma])]])
    return np.append(t, last), tt


@dataclass(frozen=True)
class _Forms:
    """Forms in M = Z' V0^-1 [X e], e the residual y - X beta in units of sigma.

    whole: [X e]' V0^-1 [X e]; one (K, p + 1, p + 1): M' D_r M; two (K, K, p + 1, p + 1):
    M' D_r H D_s M.
    """

    Phi: np.ndarray
    whole: np.ndarray
    one: np.ndarray
    two: np.ndarray

    @classmethod
    def at(cls, inverse, directions, scale):
        root = inverse.fixed_root
        p = len(root) - 1
        half = np.linalg.inv(root[:p, :p])
        whole = np.zeros((p + 1, p + 1))
        whole[:p, :p], whole[p, p] = inverse.fixed[:p, :p], (root[p, p] / scale) ** 2
        beta = inverse.coefficients
        M = [_with_scores(m, beta, scale) for m in inverse.effects_fixed]
        one = _forms(directions, M, M)
        return cls(half.T @ half, whole, one, _second_forms(inverse, directions, M))

    @property
    def quadratic(self):
        return float(self.whole[-1, -1])

    def completed(self, gamma):
        """(P, Q, h, a) with the row of the residual variance, from sum_r gamma_r G_r = V0."""
        one, two, p, K = self.one, self.two, len(self.Phi), len(gamma)
        last = self.whole - np.tensordot(gamma, one, 1)
        rest = one - np.tensordot(gamma, two, (0, 1))
        full = np.empty((K + 1, K + 1, p + 1, p + 1))
        full[:K, :K], full[:K, K] = two, rest
        full[K, :K] = rest.transpose(0, 2, 1)
        full[K, K] = last - np.tensordot(gamma, rest, 1)
        one = np.concatenate([one, last[None]])
        w = one[:, :p, p]
        a = full[..., p, p] - w @ self.Phi @ w.T
        return -one[:, :p, :p], full[..., :p, :p], one[:, p, p], a


def _with_scores(m, beta, scale):
    """Z' V0^-1 [X e] (s, p + 1, l) from Z' V0^-1 [X y]."""
    result = m.copy()
    result[:, -1] -= np.einsum("spl,p->sl", m[:, :-1], beta)
    result[:, -1] /= scale
    return result


def _forms(directions, left, right):
    """left' D_r right (K, v, w), for effects (s, v, l) and (s, w, l) by group."""
    v, w = left[0].shape[1] if left else 1, right[0].shape[1] if right else 1
    tables = [_table(a, b) for a, b in zip(left, right, strict=True)]
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


def _second_forms(inverse, directions, M):
    """M' D_r H D_s M (K, K, v, v), some of the right-hand sides at a time."""
    K, v = len(directions), M[0].shape[1] if M else 1
    two = np.empty((K, K, v, v))
    step = max(1, _CHUNK // max(1, v * sum(m.shape[0] * m.shape[2] for m in M)))
    for lo in range(0, K, step):
        some = directions[lo : lo + step]
        moved = _forms(directions, M, inverse.times(_applied(some, M)))
        two[:, lo : lo + step] = moved.reshape(K, v, len(some), v).transpose(0, 2, 1, 3)
    return two


def _applied(directions, M):
    """D_r M of several parameters beside each other: (s, K v, l) by group."""
    v = M[0].shape[1]
    result = [np.zeros((len(m), len(directions) * v, m.shape[2])) for m in M]
    for r, d in enumerate(directions):
        columns = slice(r * v, (r + 1) * v)
        result[d.group][d.i, columns] = M[d.group][d.j]
        result[d.group][d.j, columns] = M[d.group][d.i]
    return result
