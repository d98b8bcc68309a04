"""Covariance structures: from parameters phi to the covariance Sigma = T T' of a level's effects.

A structure is asked for T, for dSigma / dphi and for the curvature of Sigma, never for a derivative
of T, which a singular Sigma need not have. With G the derivative of a criterion by Sigma, summed
over levels, and c the scores of the effects (s, l):

    gradient_j = <G, dSigma_j>      curvature_jk = <G, d2Sigma_jk>      direction_j = dSigma_j c
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

# Share of a column's length below which its diagonal entry makes the coordinates degenerate.
_DEGENERATE = 0.3
# A pivot of T below this share of its row is rounding.
SINGULAR = 1e-7
# Share of the largest singular value below which one is rounding.
_ROUNDING = 1e-10


class Structure(ABC):
    """Covariance of the s effects of one level, with p parameters phi (unconstrained)."""

    n_params: int

    @abstractmethod
    def factor(self, phi):
        """T (s, s) with T T' = Sigma."""

    @abstractmethod
    def tangents(self, phi):
        """dSigma / dphi (p, s, s)."""

    @abstractmethod
    def curvature(self, phi, G):
        """<G, d2Sigma / dphi dphi'> (p, p)."""

    @abstractmethod
    def from_factor(self, T):
        """phi of the covariance T T'."""

    def parameters_of(self, effects):
        """Indices of the parameters that the covariance of a term's effects (a slice) has."""
        return np.arange(self.n_params)

    def gradient(self, phi, G):
        """<G, dSigma> (p,)."""
        return np.einsum("pst,st->p", self.tangents(phi), G)

    def directions(self, phi, c):
        """dSigma_j c (s, p, l)."""
        return np.einsum("pst,tl->spl", self.tangents(phi), c)

    def scaled(self, phi, factor):
        """phi of the covariance times factor^2."""
        return factor * phi

    def is_singular(self, phi, effects):
        """Whether the covariance of a term's effects (a slice) is singular."""
        return is_singular(self.factor(phi)[effects, effects])

    def settled(self, phi, negligible):
        """phi with standard deviations below ``negligible`` at exactly zero."""
        return phi

    def recharted(self, phi):
        """(structure, phi) of the same Sigma in better coordinates; None if these are fine."""
        return None

    def upright(self, phi):
        """phi of the same Sigma in the coordinates that the structure was made with."""
        return phi


@dataclass(frozen=True, eq=False)
class Unstructured(Structure):
    """No restriction within a term, no covariance between the terms of one grouping factor.

    T is block diagonal with one lower triangle for each term, and phi their entries by column,
    term after term. Hence dSigma = E_ik T' + T E_ki for the entry (i, k), and the second derivative
    by (i, k) and (i', k) is E_ii' + E_i'i, by other pairs zero.

    Attributes
    ----------
    sizes : tuple of int
        Effects of every term.
    chart : (s, s) or None
        A rotation V, block diagonal too, which turns the triangles L into T = V L: covariances
        near a singular one have smooth coordinates L only in a basis that keeps the directions
        without variance last.
    """

    sizes: tuple[int, ...]
    chart: np.ndarray | None = None

    @cached_property
    def n_params(self):
        return sum(s * (s + 1) // 2 for s in self.sizes)

    @cached_property
    def _blocks(self):
        """(effects, parameters, rows, columns) of every term: slices, and its triangle."""
        blocks, effect, param = [], 0, 0
        for s in self.sizes:
            i, k = triangle(s)
            blocks.append((slice(effect, effect + s), slice(param, param + len(i)), i, k))
            effect, param = effect + s, param + len(i)
        return blocks

    @cached_property
    def _entries(self):
        """Rows and columns (p,) of all parameters in the factor of the group."""
        rows = [at.start + i for at, _, i, _ in self._blocks]
        columns = [at.start + k for at, _, _, k in self._blocks]
        none = np.zeros(0, dtype=np.intp)
        return np.concatenate([none, *rows]), np.concatenate([none, *columns])

    @cached_property
    def _all(self):
        return np.arange(self.n_params)

    @cached_property
    def _same_column(self):
        """(a, b, i_a, i_b): pairs of parameters in one column of L, and their rows."""
        i, k = self._entries
        a, b = np.nonzero(k[:, None] == k)
        return a, b, i[a], i[b]

    def _triangles(self, phi):
        """L (s, s)."""
        if len(phi) == 1:
            return np.array(phi).reshape(1, 1)
        L = np.zeros((sum(self.sizes),) * 2)
        L[self._entries] = phi
        return L

    def factor(self, phi):
        L = self._triangles(phi)
        return L if self.chart is None else self.chart @ L

    def from_factor(self, T):
        phi = np.empty(self.n_params)
        for effects, params, i, k in self._blocks:
            block = T[effects, effects]
            if self.chart is not None:
                block = self.chart[effects, effects].T @ block
            phi[params] = canonical_factor(block)[i, k]
        return phi

    def parameters_of(self, effects):
        i, _ = self._entries
        return np.flatnonzero((i >= effects.start) & (i < effects.stop))

    def tangents(self, phi):
        if len(phi) == 1:
            return (2.0 * phi).reshape(1, 1, 1)
        i, k = self._entries
        T, a = self.factor(phi), self._all
        moved = np.zeros((len(phi), len(T), len(T)))
        if self.chart is None:
            moved[a, i] = T.T[k]
            moved[a, :, i] += T.T[k]
            return moved
        moved[:] = self.chart.T[i][:, :, None] * T.T[k][:, None, :]
        return moved + moved.transpose(0, 2, 1)

    def directions(self, phi, c):
        if len(phi) == 1:  # most terms have one effect: Sigma = phi^2, here and below
            return (2.0 * phi[0]) * c[:, None]
        i, k = self._entries
        T = self.factor(phi)
        moved = np.zeros((len(T), len(phi), c.shape[1]))
        moved[i, self._all] = (T.T @ c)[k]
        if self.chart is not None:
            moved = np.einsum("ab,bjl->ajl", self.chart, moved)
            c = self.chart.T @ c
        moved += T[:, k, None] * c[i]
        return moved

    def _in_chart(self, G):
        return G if self.chart is None else self.chart.T @ G @ self.chart

    def gradient(self, phi, G):
        if len(phi) == 1:
            return 2.0 * G[0] * phi
        return 2.0 * (self._in_chart(G) @ self._triangles(phi))[self._entries]

    def gradient_by_factor(self, D):
        """Derivative by phi of a criterion with derivative D (s, s) by T itself."""
        return (D if self.chart is None else self.chart.T @ D)[self._entries]

    def curvature(self, phi, G):
        if len(phi) == 1:
            return 2.0 * G
        a, b, i, j = self._same_column
        H = np.zeros((len(phi),) * 2)
        H[a, b] = 2.0 * self._in_chart(G)[i, j]
        return H

    def settled(self, phi, negligible):
        T, settled = self.factor(phi), phi
        for effects, params, i, k in self._blocks:
            block = T[effects, effects]
            variances, vectors = np.linalg.eigh(block @ block.T)
            spread = np.sqrt(np.maximum(variances, 0.0))
            if spread[0] < negligible and block.any():
                spread[spread < negligible] = 0.0
                turned = vectors if self.chart is None else self.chart[effects, effects].T @ vectors
                settled = settled.copy() if settled is phi else settled
                settled[params] = canonical_factor(turned * spread)[i, k]
        return settled

    def recharted(self, phi):
        if len(self.sizes) == len(phi):  # every triangle is one number
            return None
        L, chart, moved = self._triangles(phi), self.chart, phi
        for effects, params, i, k in self._blocks:
            block = L[effects, effects]
            if not _is_degenerate(block):
                continue
            if moved is phi:
                chart = np.eye(len(L)) if chart is None else chart.copy()
                moved = phi.copy()
            V, spread, _ = np.linalg.svd(chart[effects, effects] @ block)
            chart[effects, effects] = V
            moved[params] = np.diag(spread)[i, k]
        return None if moved is phi else (replace(self, chart=chart), moved)

    def upright(self, phi):
        if self.chart is None:
            return phi
        return replace(self, chart=None).from_factor(self.factor(phi))


@lru_cache(maxsize=256)
def unstructured(sizes):
    """The Unstructured of terms of these sizes: one for all models, with the indices it keeps."""
    return Unstructured(sizes)


@dataclass(frozen=True, eq=False)
class Restricted(Structure):
    """Effects B e of fewer effects e, B (s, k), which have a structure of their own."""

    inner: Structure
    B: np.ndarray

    @property
    def n_params(self):
        return self.inner.n_params

    def factor(self, phi):
        T = np.zeros((len(self.B),) * 2)
        T[:, : self.B.shape[1]] = self.B @ self.inner.factor(phi)
        return T

    def from_factor(self, T):
        inside = np.linalg.pinv(self.B) @ T
        return self.inner.from_factor(canonical_factor(inside) if len(inside) else inside)

    def tangents(self, phi):
        return self.B @ self.inner.tangents(phi) @ self.B.T

    def gradient(self, phi, G):
        return self.inner.gradient(phi, self.B.T @ G @ self.B)

    def directions(self, phi, c):
        return np.einsum("sk,kpl->spl", self.B, self.inner.directions(phi, self.B.T @ c))

    def curvature(self, phi, G):
        return self.inner.curvature(phi, self.B.T @ G @ self.B)

    def settled(self, phi, negligible):
        return self.inner.settled(phi, negligible)

    def recharted(self, phi):
        found = self.inner.recharted(phi)
        return None if found is None else (replace(self, inner=found[0]), found[1])

    def upright(self, phi):
        return self.inner.upright(phi)


def triangle(s):
    """(i, k): rows and columns of a lower triangle (s, s), by column."""
    k, i = np.triu_indices(s)
    return i, k


def _is_degenerate(L):
    """Whether a column of a triangular factor has little on its diagonal but much below it.

    There the covariance is near one of lower rank that the triangle has many coordinates for.
    """
    columns = L.T.tolist()  # of a few numbers each
    return any(
        column[k] ** 2 < _DEGENERATE**2 * sum(x * x for x in column[k + 1 :])
        for k, column in enumerate(columns)
    )


def is_singular(T):
    """Whether T T' has lower rank than T has rows, up to rounding."""
    if len(T) == 1:
        return bool(T[0, 0] == 0)
    values = np.linalg.svd(T, compute_uv=False)
    return bool(values[-1] <= _ROUNDING * values[0])


def canonical_factor(A, negligible=SINGULAR):
    """Lower triangular L with L L' = A A' and diagonal >= 0.

    Where A is singular the columns of L that belong to no new direction are exactly zero.
    """
    if len(A) == 1:
        return np.abs(A) if A.shape[1] == 1 else np.linalg.norm(A, axis=1, keepdims=True)
    if A.shape[0] == A.shape[1] and not np.count_nonzero(A - np.diag(A.diagonal())):
        return np.abs(A)
    L = np.linalg.qr(A.T, mode="r").T
    L = L * np.where(np.diag(L) < 0, -1.0, 1.0)
    size = np.sqrt(np.einsum("ij,ij->i", A, A))
    if np.all(np.diag(L) > negligible * size):
        return L
    return _semidefinite_factor(A @ A.T, SINGULAR * size)


def _semidefinite_factor(covariance, negligible):
    """Cholesky factor that passes over pivots at rounding level."""
    L, rest = np.zeros_like(covariance), covariance.copy()
    for j in range(len(L)):
        if rest[j, j] > np.maximum(negligible[j], 1e-150) ** 2:
            L[j:, j] = rest[j:, j] / np.sqrt(rest[j, j])
            rest = rest - np.outer(L[:, j], L[:, j])
    return L
