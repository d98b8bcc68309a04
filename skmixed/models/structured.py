"""Covariance structures with fewer parameters than entries: Sigma = diag(t) R(eta) diag(t).

Standard deviations t are free numbers whose sign means nothing, as the entries of T are elsewhere,
so that a variance of zero is an ordinary point. Names are glmmTMB's (Brooks et al. 2017, R Journal
9, 378-400).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skmixed.models.correlations import (
    Autoregressive,
    Correlation,
    Decaying,
    Exchangeable,
    Independent,
    Toeplitz,
)
from skmixed.models.structures import Structure


@dataclass(frozen=True)
class Natural:
    """One parameter as people read it, in the engine's units, with its derivatives by phi.

    ``kind`` is sd, cor or range; ``effects`` the effects that an sd belongs to.
    """

    kind: str
    name: str
    effects: tuple[int, ...]
    value: float
    gradient: np.ndarray
    hessian: np.ndarray


class NamedStructure(Structure):
    """The structure of one term of ``size`` effects, whose parameters have names."""

    size: int

    @abstractmethod
    def natural(self, phi) -> list[Natural]:
        """The parameters people read."""

    @abstractmethod
    def spread(self, phi):
        """Standard deviations (s,)."""

    @abstractmethod
    def from_free(self, t, x):
        """phi of standard deviations t and numbers x in (-1, 1), one a correlation.

        Equal chances of all x are equal chances of all correlations or partial autocorrelations.
        """


@dataclass(frozen=True)
class Correlated(NamedStructure):
    """diag(t) R diag(t), t one number for all effects (``equal``) or one for each."""

    R: Correlation
    equal: bool

    @property
    def size(self):
        return self.R.size

    @cached_property
    def _n_sd(self):
        return 1 if self.equal else self.size

    @cached_property
    def n_params(self):
        return self._n_sd + self.R.n_params

    @cached_property
    def _spreading(self):
        """E (s, q) with t = E phi[:q]."""
        return np.ones((self.size, 1)) if self.equal else np.eye(self.size)

    def spread(self, phi):
        # of several, t with mixed signs would have correlations that R does not have
        return np.abs(self._spreading @ phi[: self._n_sd])

    def _parts(self, phi):
        return self.spread(phi), *self.R.at(phi[self._n_sd :])

    def factor(self, phi):
        t, R, *_ = self._parts(phi)
        return t[:, None] * _root(R)

    def tangents(self, phi):
        t, R, slopes, _ = self._parts(phi)
        if self.equal:
            by_sd = (2.0 * phi[0] * R)[None]
        else:
            at, by_sd = np.arange(len(t)), np.zeros((len(t),) * 3)
            by_sd[at, at] += R * t
            by_sd[at, :, at] += R * t
            by_sd *= np.sign(phi[: self._n_sd])[:, None, None]
        return np.concatenate([by_sd, np.multiply.outer(t, t) * slopes])

    def curvature(self, phi, G):
        t, R, slopes, bends = self._parts(phi)
        q = self._n_sd
        E = self._spreading * np.where(phi[:q] < 0, -1.0, 1.0)
        H = np.empty((len(phi),) * 2)
        H[:q, :q] = 2.0 * E.T @ (G * R) @ E
        H[:q, q:] = 2.0 * E.T @ ((G * slopes) @ t).T
        H[q:, :q] = H[:q, q:].T
        H[q:, q:] = (G * bends) @ t @ t
        return H

    def natural(self, phi):
        t, q, p = phi[: self._n_sd], self._n_sd, len(phi)
        found = []
        for j, value in enumerate(t):
            sign = np.where(value < 0, -1.0, 1.0)
            gradient = sign * np.eye(p)[j]
            found.append(Natural("sd", "sd", (j,), abs(value), gradient, np.zeros((p, p))))
        values, slopes, bends = self.R.natural(phi[q:])
        for k, kind in enumerate(self.R.kinds):
            gradient, hessian = np.zeros(p), np.zeros((p, p))
            gradient[q:], hessian[q:, q:] = slopes[k], bends[k]
            found.append(Natural(kind, self.R.names[k], (), values[k], gradient, hessian))
        return found

    def from_free(self, t, x):
        return np.concatenate([t, self.R.from_free(x)])

    def scaled(self, phi, factor):
        return np.concatenate([factor * phi[: self._n_sd], phi[self._n_sd :]])

    def from_factor(self, T):
        """The standard deviations of T T', and correlations to begin with."""
        t = np.sqrt(np.einsum("ij,ij->i", T, T))
        if self.equal:
            t = np.array([np.sqrt(np.mean(t**2))])
        return np.concatenate([t, self.R.start()])

    def settled(self, phi, negligible):
        q = self._n_sd
        t = np.where(np.abs(phi[:q]) < negligible, 0.0, phi[:q])
        if not t.any():
            return np.concatenate([t, phi[q:]])
        return np.concatenate([t, self.R.settled(phi[q:], negligible / np.abs(t).max())])

    def is_singular(self, phi, effects=slice(None)):
        q = self._n_sd
        return bool((phi[:q] == 0).any()) or self.R.is_singular(phi[q:])


@dataclass(frozen=True)
class HomogeneousExchangeable(NamedStructure):
    """a^2 J + b^2 (I - J), J = 11' / s: equal variances and one correlation.

    Linear in the squares of two free numbers, rho at both of its bounds where one of them is 0.
    """

    size: int
    n_params = 2

    @cached_property
    def _projections(self):
        J = np.full((self.size,) * 2, 1.0 / self.size)
        return np.stack([J, np.eye(self.size) - J])

    def factor(self, phi):
        return np.tensordot(phi, self._projections, 1)

    def tangents(self, phi):
        return 2.0 * phi[:, None, None] * self._projections

    def curvature(self, phi, G):
        return 2.0 * np.diag(np.einsum("pst,st->p", self._projections, G))

    def from_factor(self, T):
        # equal spread in all directions, the start of the unstructured case
        return np.full(2, np.sqrt(np.einsum("ij,ij->", T, T) / self.size))

    def from_free(self, t, x):
        # a^2 = sd^2 (1 + (s - 1) rho) and b^2 = sd^2 (1 - rho), rho from -1 / (s - 1) to 1
        up = 0.5 * (1.0 + x[0]) * self.size
        return t[0] * np.sqrt([up, max(self.size - up, 0.0) / (self.size - 1)])

    def scaled(self, phi, factor):
        return factor * phi

    def spread(self, phi):
        a, b = phi
        return np.full(self.size, np.sqrt((a**2 + (self.size - 1) * b**2) / self.size))

    def natural(self, phi):
        s = self.size
        D = np.diag([1.0, s - 1.0]) / s
        square = phi @ D @ phi
        sd = np.sqrt(square)
        slope = D @ phi / (sd or 1.0)
        bend = (D - np.outer(slope, slope)) / (sd or 1.0)
        # rho = (a^2 - b^2) / (a^2 + (s - 1) b^2)
        N = np.diag([1.0, -1.0]) / s
        whole = square or 1.0
        rho = phi @ N @ phi / whole if square else np.nan
        M = N - np.nan_to_num(rho) * D
        by = 2.0 * M @ phi / whole
        cross = np.outer(by, 2.0 * D @ phi) / whole
        return [
            Natural("sd", "sd", (0,), float(sd), slope, bend),
            Natural("cor", "rho", (), float(rho), by, 2.0 * M / whole - cross - cross.T),
        ]

    def settled(self, phi, negligible):
        return np.where(np.abs(phi) < negligible, 0.0, phi)

    def is_singular(self, phi, effects=slice(None)):
        return bool(min(abs(phi)) <= 1e-10 * max(abs(phi)))


@dataclass(frozen=True)
class SideBySide(Structure):
    """Terms of one grouping factor, each with a structure of its own: block diagonal.

    parts: (structure, slice of the effects, slice of the parameters) of every term.
    """

    parts: tuple[tuple[Structure, slice, slice], ...]

    @classmethod
    def of(cls, structures, sizes):
        parts, effect, param = [], 0, 0
        for own, s in zip(structures, sizes, strict=True):
            p = own.n_params
            parts.append((own, slice(effect, effect + s), slice(param, param + p)))
            effect, param = effect + s, param + p
        return cls(tuple(parts))

    @property
    def n_params(self):
        return self.parts[-1][2].stop

    @property
    def _size(self):
        return self.parts[-1][1].stop

    def _joined(self, by_part):
        return np.concatenate(list(by_part))

    def factor(self, phi):
        T = np.zeros((self._size,) * 2)
        for own, at, params in self.parts:
            T[at, at] = own.factor(phi[params])
        return T

    def tangents(self, phi):
        D = np.zeros((len(phi), self._size, self._size))
        for own, at, params in self.parts:
            D[params, at, at] = own.tangents(phi[params])
        return D

    def gradient(self, phi, G):
        return self._joined(own.gradient(phi[p], G[at, at]) for own, at, p in self.parts)

    def directions(self, phi, c):
        moved = np.zeros((len(c), len(phi), c.shape[1]))
        for own, at, params in self.parts:
            moved[at, params] = own.directions(phi[params], c[at])
        return moved

    def curvature(self, phi, G):
        H = np.zeros((len(phi),) * 2)
        for own, at, params in self.parts:
            H[params, params] = own.curvature(phi[params], G[at, at])
        return H

    def from_factor(self, T):
        return self._joined(own.from_factor(T[at, at]) for own, at, _ in self.parts)

    def parameters_of(self, effects):
        [at] = [params for _, own, params in self.parts if own == effects]
        return np.arange(at.start, at.stop)

    def part(self, effects):
        """(structure, slice of its parameters) of the term with these effects."""
        [found] = [(own, params) for own, at, params in self.parts if at == effects]
        return found

    def scaled(self, phi, factor):
        return self._joined(own.scaled(phi[p], factor) for own, _, p in self.parts)

    def settled(self, phi, negligible):
        return self._joined(own.settled(phi[p], negligible) for own, _, p in self.parts)

    def is_singular(self, phi, effects):
        own, params = self.part(effects)
        return own.is_singular(phi[params], slice(0, effects.stop - effects.start))


def make_structure(kind, size, places=None):
    """The structure of a term that is not unstructured.

    Parameters
    ----------
    kind : str
        "diag", "homdiag", "smooth" (as the latter), "cs", "homcs", "ar1", "hetar1", "toep",
        "expo", "gau", "mat0.5", "mat1.5" or "mat2.5".
    size : int
        Effects s.
    places : (s,) or (s, d) array, optional
        Times of the autoregressive ones and of "toep", whole numbers; positions of spatial ones.
    """
    if kind == "homcs":
        return HomogeneousExchangeable(size)
    correlations = {
        "diag": Independent,
        "homdiag": Independent,
        "smooth": Independent,
        "cs": Exchangeable,
    }
    if kind in correlations:
        return Correlated(correlations[kind](size), has_equal_variances(kind))
    if kind == "toep":
        return Correlated(Toeplitz.of_times(np.arange(size) if places is None else places), False)
    if kind in ("ar1", "hetar1"):
        return Correlated(Autoregressive.of_times(places), kind == "ar1")
    return Correlated(Decaying.of_positions(places, kind), True)


def has_equal_variances(kind):
    """Whether the effects of a term of this kind have one standard deviation."""
    return kind not in ("diag", "cs", "hetar1", "toep")


def _root(R):
    """A matrix T with T T' = R, a Cholesky factor where there is one."""
    try:
        return np.linalg.cholesky(R)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(R)
        return vectors * np.sqrt(np.maximum(values, 0.0))
