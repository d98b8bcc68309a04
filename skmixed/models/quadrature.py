"""Adaptive Gauss-Hermite quadrature over the random effects of one grouping factor.

The likelihood factors over levels. With u the mode of one level, H = L L' its information and
nodes u_k = u + L^-T x_k of a product rule (x_k, w_k) for the standard normal,

    log integral = -log |L| + log sum_k w_k exp(h(u_k) + x_k'x_k / 2),
    h(u) = log p(y | eta(u)) - u'u / 2.

One node is the Laplace approximation. The gradient is that of the rule itself, nodes moving with
the mode and the factor: with posterior weights pi_k of the nodes, S = L^-1 dH L^-T,

    d(-2 log integral) = -2 sum_k pi_k dh(u_k) - 2 q'du + <I + M, S>,
    q = sum_k pi_k grad h(u_k),   M = sum_k pi_k x_k (L^-1 grad h(u_k))', lower triangle mirrored

(Pinheiro and Chao 2006, JCGS 15, 58-81, for the rule).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import roots_hermitenorm

from skmixed.linalg.batched import cholesky, diagonal_add, lower_solve, product, sandwich
from skmixed.linalg.system import Effects, RelatedGroup
from skmixed.models.laplace import Evaluation, LaplaceDeviance

MAX_NODES = 20_000
# Rows times nodes that are evaluated together.
_CHUNK = 1 << 19
# Steps of the recurrence for the weights after which it is scaled.
_RESCALED = 32


@dataclass(frozen=True)
class Rule:
    """Product rule for the standard normal in s dimensions: nodes (K, s), log weights (K,)."""

    nodes: np.ndarray
    log_weights: np.ndarray

    @cached_property
    def log_factors(self):
        """log w_k + x_k'x_k / 2 (K,), of integrals over the density of the nodes' scale."""
        return self.log_weights + 0.5 * np.einsum("ks,ks->k", self.nodes, self.nodes)

    @classmethod
    def product(cls, n_nodes, s):
        x, _ = roots_hermitenorm(n_nodes)
        log_w = _log_weights(x)
        at = np.indices((n_nodes,) * s).reshape(s, -1)
        return cls(x[at].T, log_w[at].sum(axis=0))


def _log_weights(x):
    """log w_k = -log sum_j h_j(x_k)^2 over the orthonormal Hermite polynomials of degree < n.

    Weights and polynomials leave the range of doubles before the outermost nodes lose all
    influence: the recurrence is scaled by powers of two as it goes.
    """
    before, h = np.zeros_like(x), np.ones_like(x)
    total, exponent = np.ones_like(x), np.zeros(len(x))
    for j in range(1, len(x)):
        before, h = h, (x * h - np.sqrt(j - 1) * before) / np.sqrt(j)
        total = total + h**2
        if j % _RESCALED == 0:
            shift = np.frexp(total)[1] // 2
            before, h = np.ldexp(before, -shift), np.ldexp(h, -shift)
            total, exponent = np.ldexp(total, -2 * shift), exponent + 2 * shift
    log_w = -np.log(total) - exponent * np.log(2.0)
    return log_w - np.log(np.sum(np.exp(log_w)))


def log_sums(terms):
    """log of the sums (l,) over the nodes of exp(terms), (K, l)."""
    peak = terms.max(axis=0)
    return peak + np.log(np.exp(terms - peak).sum(axis=0))


def product_rule(n_agq, layout):
    """The product rule for the effects of a single grouping factor."""
    groups = layout.groups
    if layout.is_structured:
        raise ValueError(
            f"n_agq={n_agq}: the quadrature is for unstructured random-effects terms, and "
            "models without smooth terms: use the Laplace approximation, n_agq=1"
        )
    if isinstance(groups[0], RelatedGroup):
        raise ValueError(
            f"n_agq={n_agq}: the quadrature needs levels that are independent, and relationship "
            "relates them: use the Laplace approximation, n_agq=1"
        )
    if len(groups) > 1:
        raise ValueError(
            f"n_agq={n_agq}: the quadrature needs one grouping factor and the model has "
            f"{len(groups)}: use the Laplace approximation, n_agq=1"
        )
    s = groups[0].n_columns
    if n_agq**s > MAX_NODES:
        most = int(np.floor(MAX_NODES ** (1 / s) + 1e-9))
        raise ValueError(
            f"n_agq={n_agq} makes {n_agq}^{s} nodes for {s} effects per level, more than "
            f"{MAX_NODES}: use n_agq <= {most}"
        )
    return Rule.product(n_agq, s)


@dataclass(frozen=True)
class QuadratureDeviance(LaplaceDeviance):
    """The deviance by adaptive quadrature; ``rows`` has one grouping factor."""

    rule: Rule = field(kw_only=True)

    @property
    def evaluation(self):
        return QuadratureEvaluation


@dataclass(frozen=True)
class QuadratureEvaluation(Evaluation):
    """The rule and its gradient; what is left is that of the Laplace approximation."""

    @property
    def _group(self):
        return self.objective.rows.groups[0]

    @cached_property
    def _own(self):
        """Z'WZ of every level (s, s, l)."""
        return self.factor.system.own(0)

    @cached_property
    def _root(self):
        """L^-T (s, s, l)."""
        T, own = self.T[0], self._own
        L = cholesky(diagonal_add(sandwich(T, own), 1.0))
        eye = np.broadcast_to(np.eye(len(T))[:, :, None], own.shape)
        return np.ascontiguousarray(lower_solve(L, eye).transpose(1, 0, 2))

    def _chunks(self):
        """Yield (slice of nodes, u_k (K, s, l), eta_k (K, n))."""
        rows, group, rule = self.objective.rows, self._group, self.objective.rule
        step = max(1, _CHUNK // len(rows.y))
        for lo in range(0, len(rule.nodes), step):
            at = slice(lo, lo + step)
            shift = np.einsum("ijl,kj->kil", self._root, rule.nodes[at])
            b = np.einsum("ij,kjl->kil", self.T[0], shift)
            moved = np.einsum("kin,ni->kn", b[..., group.codes], group.z)
            yield at, self.mode.u[0] + shift, self.mode.eta + moved

    @cached_property
    def _log_terms(self):
        """log w_k + h(u_k) + x_k'x_k / 2 (K, l)."""
        rows, group, rule = self.objective.rows, self._group, self.objective.rule
        terms = np.empty((len(rule.nodes), group.n_levels))
        with np.errstate(all="ignore"):
            for at, u, eta in self._chunks():
                loglik = rows.curve(eta, self.log_disp, order=0).loglik
                terms[at] = _level_sums(group, loglik) - 0.5 * np.einsum("kil,kil->kl", u, u)
        terms += rule.log_factors[:, None]
        return np.where(np.isnan(terms), -np.inf, terms)

    @cached_property
    def _log_sums(self):
        return log_sums(self._log_terms)

    @cached_property
    def value(self):
        fit = -2.0 * float(self._log_sums.sum())
        rows = self.objective.rows
        return fit + rows.constant + self.factor.log_det_u + rows.penalty(self.mode.gamma)

    @cached_property
    def _averages(self):
        """Averages over the nodes: rows' scores (n,), c u' (s, s), q (s, l), M (s, s, l), l_phi."""
        rows, group, T = self.objective.rows, self._group, self.T[0]
        s, n_levels = len(T), group.n_levels
        scores, by_factor = np.zeros(len(rows.y)), np.zeros((s, s))
        q, M, by_dispersion = np.zeros((s, n_levels)), np.zeros((s, s, n_levels)), 0.0
        for at, u, eta in self._chunks():
            weight = np.exp(self._log_terms[at] - self._log_sums)
            used = weight[:, group.codes] > 0
            curve = rows.curve(eta, self.log_disp)
            score = np.where(used, weight[:, group.codes] * curve.score, 0.0)
            scores += score.sum(axis=0)
            c = np.stack([_level_sums(group, score * z) for z in group.z.T], axis=1)
            by_factor += np.einsum("kil,kjl->ij", c, u)
            slope = np.einsum("ji,kjl->kil", T, c) - weight[:, None] * u
            q += slope.sum(axis=0)
            turned = np.einsum("jil,kjl->kil", self._root, slope)
            M += np.einsum("ka,kbl->abl", self.objective.rule.nodes[at], turned)
            if self.objective.n_dispersion:
                loglik = rows.by_dispersion(eta, self.log_disp).loglik
                by_dispersion += float(np.sum(weight[:, group.codes] * loglik, where=used))
        return scores, by_factor, q, M, by_dispersion

    @cached_property
    def _spread(self):
        """What stands in the place of H^-1: L^-T (I + M) L^-1, (s, s, l)."""
        M = self._averages[3].copy()
        for i in range(len(M)):
            M[:i, i] = M[i, :i]
        diagonal_add(M, 1.0)
        return product(product(self._root, M), self._root.transpose(1, 0, 2))

    @cached_property
    def leverages(self):
        T = self.T[0]
        blocks = np.einsum("ia,abl,jb->ijl", T, self._spread, T)
        return self._group.level_forms(blocks)

    def _by_gamma(self):
        return -2.0 * (self.objective.rows.Q.T @ self._averages[0])

    def _by_theta(self, rest):
        """By T itself, not through T T' alone: the nodes turn with T."""
        T, r, c = self.T[0], rest[0], self._scores[0][:, 0]
        log_det = 2.0 * np.einsum("ijl,ja,akl->ik", self._own, T, self._spread)
        turned = T.T @ r - 2.0 * self._averages[2]
        D = log_det - 2.0 * self._averages[1] + r @ (T.T @ c).T + c @ turned.T
        return self.objective.layout.gradient_by_factors([D])

    def _direct_dispersion(self):
        return -2.0 * self._averages[4]

    def _pull(self):
        half = np.einsum("jil,jl->il", self._root, -2.0 * self._averages[2])
        moved = self.T[0] @ np.einsum("ijl,jl->il", self._root, half)
        return Effects.of([moved], np.zeros(self.objective.rows.n_fixed))

    def recharted(self):
        """None: the nodes would turn with the coordinates, and the rule would be another one."""
        return None


def _level_sums(group, values):
    """Sums over levels of values (K, n): (K, l)."""
    k = len(values)
    key = group.codes + group.n_levels * np.arange(k)[:, None]
    return np.bincount(key.ravel(), values.ravel(), k * group.n_levels).reshape(k, -1)
