"""Adaptive Gauss-Hermite quadrature of nonlinear mixed models, one grouping factor.

With u the mode of one level, H = V'WV + I = L L' there (Gauss-Newton), and the nodes
u_k = u + sigma L^-T x_k of a rule (x_k, w_k) for the standard normal, twice the negative log
integral of a level with n rows is

    n log(2 pi sigma^2) - sum log w + log |H| - 2 log sum_k w_k exp(h(u_k) + x_k'x_k / 2),
    h(u) = -S(u) / (2 sigma^2),    S(u) = sum w (y - f)^2 + u'u.

sigma has no closed form any more: its logarithm is one more parameter. Mode and H do not depend on
it. The gradient is that of the rule itself, nodes moving with the mode and with H: with posterior
weights pi_k, g_k = -grad S(u_k) / 2, D = L^-1 dH L^-T,

    d = -2 sum_k pi_k dh(u_k) - 2 q'du / sigma^2 + <I + M, D>,
    q = sum_k pi_k g_k,   M = sum_k pi_k x_k (L^-1 g_k)' / sigma, lower triangle mirrored

and dH by the parameters of f is twice that of half of it, see :class:`Evaluation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from skmixed.linalg.batched import cholesky, diagonal_add, lower_solve, product, sandwich
from skmixed.models.nonlinear import Evaluation, NonlinearDeviance
from skmixed.models.pirls import NoMode
from skmixed.models.pnls import times
from skmixed.models.quadrature import Rule, log_sums


@dataclass(frozen=True)
class NonlinearQuadratureDeviance(NonlinearDeviance):
    """The deviance by adaptive quadrature, of (gamma, theta, log sigma).

    ``curve`` gives f (n,) at parameters (P, n), without derivatives.
    """

    rule: Rule = field(kw_only=True)
    curve: Callable = field(kw_only=True)

    @property
    def evaluation(self):
        return QuadratureEvaluation


@dataclass(frozen=True)
class _Averages:
    """Means over the nodes: scores of the rows (P, n), c u' (s, s), q (s, l), M (s, s, l).

    ``by_scale`` is half the slope that log sigma has through h.
    """

    scores: np.ndarray
    by_factor: np.ndarray
    q: np.ndarray
    M: np.ndarray
    by_scale: float


@dataclass(frozen=True)
class QuadratureEvaluation(Evaluation):
    """The rule and its gradient; what is left is that of the Laplace approximation."""

    @property
    def sigma2(self):
        return math.exp(2.0 * self.parameters[-1])

    @property
    def _group(self):
        return self.objective.rows.groups[0]

    @cached_property
    def _own(self):
        """Z~'WZ~ of every level (s, s, l)."""
        return self.factor.system.own(0)

    @cached_property
    def _root(self):
        """L^-T (s, s, l)."""
        return _inverse_root(self.T[0], self._own)

    def _nodes(self):
        """Yield u_k (s, l) and phi_k (P, n) of every node."""
        rows, T = self.objective.rows, self.T[0]
        shift = math.sqrt(self.sigma2) * self._root
        for x in self.objective.rule.nodes:
            moved = np.einsum("ijl,j->il", shift, x)
            yield self.mode.u[0] + moved, self.mode.phi + rows.random_part([T @ moved])

    @cached_property
    def _squares(self):
        """S(u_k) (K, l); infinite where f is not finite."""
        rows, group = self.objective.rows, self._group
        S = np.empty((len(self.objective.rule.nodes), group.n_levels))
        with np.errstate(all="ignore"):
            for own, (u, phi) in zip(S, self._nodes(), strict=True):
                squares = rows.w * (rows.y - self.objective.curve(phi)) ** 2
                own[:] = np.bincount(group.codes, squares, group.n_levels) + (u * u).sum(axis=0)
        return np.where(np.isnan(S), np.inf, S)

    @cached_property
    def _log_terms(self):
        """log w_k + x_k'x_k / 2 - S(u_k) / (2 sigma^2), (K, l)."""
        return self.objective.rule.log_factors[:, None] - self._squares / (2.0 * self.sigma2)

    @cached_property
    def _log_sums(self):
        return log_sums(self._log_terms)

    @cached_property
    def value(self):
        objective = self.objective
        scale = objective.rows.n_obs * math.log(2 * math.pi * self.sigma2)
        fit = scale - 2.0 * float(self._log_sums.sum())
        return fit + self.factor.log_det_u + objective.constant

    @cached_property
    def _averages(self):
        rows, group, T = self.objective.rows, self._group, self.T[0]
        s, sigma, sigma2 = len(T), math.sqrt(self.sigma2), self.sigma2
        scores, by_factor = np.zeros(self.mode.J.shape), np.zeros((s, s))
        q, M, by_scale = np.zeros((s, group.n_levels)), np.zeros(self._own.shape), 0.0
        weights = np.exp(self._log_terms - self._log_sums)
        nodes = zip(self._nodes(), self.objective.rule.nodes, weights, self._squares, strict=True)
        with np.errstate(all="ignore"):
            for (u, phi), x, weight, squares in nodes:
                used = weight > 0
                by_row = weight[group.codes]
                f, J, _ = rows.function(phi)
                score = np.where(by_row > 0, by_row * rows.w * (rows.y - f) * J, 0.0)
                scores += score
                c = rows.effects(score, fixed=False).levels()[0]
                by_factor += c @ u.T
                slope = T.T @ c - weight * u
                q += slope
                turned = np.einsum("jil,jl->il", self._root, slope) / sigma
                M += x[:, None, None] * turned
                by_scale += float(np.sum(weight * squares, where=used)) / sigma2
                by_scale += float(np.sum(x @ turned))
        return _Averages(scores, by_factor, q, M, by_scale)

    @cached_property
    def _spread(self):
        """What stands in the place of H^-1: L^-T (I + M) L^-1, (s, s, l)."""
        M = self._averages.M.copy()
        for i in range(len(M)):
            M[:i, i] = M[i, :i]
        diagonal_add(M, 1.0)
        return product(product(self._root, M), self._root.transpose(1, 0, 2))

    @cached_property
    def leverages(self):
        T = self.T[0]
        blocks = np.einsum("ia,abl,jb->ijl", T, self._spread, T)
        group, owner = self._group, self.objective.rows.owners[0]
        tilted = self.mode.J[owner] * group.z.T
        moved = np.einsum("ijn,jn->in", blocks[..., group.codes], tilted)
        g = np.zeros(self.mode.J.shape)
        for k, z, own in zip(owner, group.z.T, moved, strict=True):
            g[k] += z * own
        return g

    @cached_property
    def gradient(self):
        """By (gamma, theta, log sigma); by T itself, since the nodes turn with T."""
        rows, mode, T, means = self.objective.rows, self.mode, self.T[0], self._averages
        h = rows.w * times(mode.C, self.leverages)
        force = 2.0 * (T.T @ rows.effects(h, fixed=False).levels()[0] - means.q / self.sigma2)
        half = np.einsum("jil,jl->il", self._exact_root, force)
        moved = np.einsum("ijl,jl->il", self._exact_root, half)
        rest = 2.0 * h - times(mode.weight, rows.random_part([T @ moved]))
        by_gamma = rows.fixed_sums(rest - 2.0 / self.sigma2 * means.scores)
        r = rows.effects(rest, fixed=False).levels()[0]
        log_det = 2.0 * np.einsum("ijl,ja,akl->ik", self._own, T, self._spread)
        D = log_det - 2.0 / self.sigma2 * means.by_factor
        D += r @ mode.u[0].T + self._scores.levels()[0] @ moved.T
        by_theta = self.objective.layout.gradient_by_factors([D])
        by_scale = 2.0 * (rows.n_obs - means.by_scale)
        return np.concatenate([by_gamma, by_theta, [by_scale]])

    @cached_property
    def _exact_root(self):
        """Inverse transposed root (s, s, l) of half the Hessian of S at the mode."""
        root = _inverse_root(self.T[0], self.exact.system.own(0))
        if not np.isfinite(root).all():
            raise NoMode("the mode is a saddle")
        return root

    @cached_property
    def _average_information(self):
        """Q / sigma^2: what is profiled out elsewhere is the part of log sigma."""
        a, image = self._directions
        return self.factor.quadratic_forms(a, image, fixed=False) / self.sigma2

    @property
    def scale_slope(self):
        """None: log sigma is a parameter."""
        return None

    def _scale_information(self):
        """That of log sigma, and its products with gamma and theta."""
        cross = np.append(-super().scale_slope, 1.0)
        return 4.0 * self.mode.pwrss / self.sigma2 * cross

    def recharted(self):
        """None: the nodes would turn with the coordinates, and the rule would be another one."""
        return None


def _inverse_root(T, own):
    """L^-T (s, s, l) of T' D T + I = L L' for the blocks D (s, s, l) of all levels."""
    L = cholesky(diagonal_add(sandwich(T, own), 1.0))
    eye = np.broadcast_to(np.eye(len(T))[:, :, None], own.shape)
    return np.ascontiguousarray(lower_solve(L, eye).transpose(1, 0, 2))
