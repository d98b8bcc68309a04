"""From theta to the relative covariance factors T, and from the user's units to the engine's.

The engine works on covariates that are centred (where the term has a constant and free
correlations) and scaled to be orthonormal over the rows: z = z_user M. With b_user = M b the
covariance M T T' M' is the user's, so that slopes on covariates of any scale and shift cost the
same number of evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from skmixed.linalg.crossproducts import Group

# Smallest pivot of the covariates' correlation matrix for which they are made orthonormal.
_INDEPENDENT = 1e-10
# Standard deviations of effects, relative to sigma in orthonormal covariates, tried at zero.
_NEGLIGIBLE = 1e-3
# Share of a column's length below which its diagonal entry makes the coordinates degenerate.
_DEGENERATE = 0.3
# A pivot of T below this share of its row is rounding.
_SINGULAR = 1e-7


@dataclass(frozen=True)
class TermScale:
    """z = (z_user - center) scale: M (s, s) maps effects back, b_user = M b."""

    z: np.ndarray
    M: np.ndarray
    center: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class TermLayout:
    """Where one random-effects term lives: its group, its columns there, its slice of theta."""

    group: int
    columns: slice
    theta: slice
    M: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @property
    def size(self):
        return len(self.M)

    def covariates(self, z):
        """The engine's covariates of rows with covariates z (n, s) in the user's units.

        The centre goes first: z M would cancel where a covariate is 1e12 plus something.
        """
        return (z - self.center) @ self.scale

    @cached_property
    def triangle(self):
        """(i, k): rows and columns of the lower triangle, by column."""
        k, i = np.triu_indices(self.size)
        return i, k


@dataclass(frozen=True)
class CovarianceLayout:
    """All random-effects terms of a model, merged by grouping factor.

    entries[g] = (j, i, k): theta[j] is entry (i, k) of the lower triangular factor of group g.
    A rotation V turns it into T = V L: covariances near a singular one have smooth coordinates L
    only in a basis that keeps the directions without variance last.
    """

    groups: tuple[Group, ...]
    terms: tuple[TermLayout, ...]
    entries: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    n_theta: int
    rotations: tuple[np.ndarray | None, ...] = ()

    @classmethod
    def build(cls, random, weights=None):
        """Layout of the terms ``random`` (RandomTerm, in the user's order)."""
        names = list(dict.fromkeys(term.group for term in random))
        columns, entries = [[] for _ in names], [[] for _ in names]
        layouts, n_theta, widths = [], 0, [0] * len(names)
        for term in random:
            g = names.index(term.group)
            scale = standardise(term, weights)
            s, first = len(scale.M), widths[g]
            k, i = np.triu_indices(s)  # column-major lower triangle
            entries[g].append((n_theta + np.arange(len(i)), first + i, first + k))
            layouts.append(TermLayout(g, slice(first, first + s),
                                      slice(n_theta, n_theta + len(i)), scale.M,
                                      scale.center, scale.scale))  # fmt: skip
            columns[g].append(scale.z)
            n_theta, widths[g] = n_theta + len(i), first + s
        groups = []
        for name, z in zip(names, columns, strict=True):
            term = next(term for term in random if term.group == name)
            groups.append(Group(term.codes, z[0] if len(z) == 1 else np.hstack(z),
                                len(term.levels)))  # fmt: skip
        entries = tuple(tuple(np.concatenate(e) for e in zip(*g, strict=True)) for g in entries)
        return cls(tuple(groups), tuple(layouts), entries, n_theta, (None,) * len(groups))

    def without_rows(self):
        """The layout without codes and covariates."""
        groups = tuple(replace(g, codes=g.codes[:0], z=g.z[:0]) for g in self.groups)
        return replace(self, groups=groups)

    def initial(self):
        """theta with every T the identity (in orthonormal covariates)."""
        theta = np.zeros(self.n_theta)
        for j, i, k in self.entries:
            theta[j[i == k]] = 1.0
        return theta

    def factors(self, theta):
        """T (s, s) of every group."""
        factors = []
        for group, entries, V in zip(self.groups, self.entries, self.rotations, strict=True):
            j, i, k = entries
            L = np.zeros((group.n_columns, group.n_columns))
            L[i, k] = theta[j]
            factors.append(L if V is None else V @ L)
        return factors

    def rotated(self, theta):
        """(layout, theta) of the same T T' in smooth coordinates; None if these are fine."""
        if self.is_scalar:
            return None
        rotations, moved = list(self.rotations), theta.copy()
        for t, term in enumerate(self.terms):
            L = self._triangle(theta, t)
            if not _is_degenerate(L):
                continue
            own = rotations[term.group]
            own = np.eye(self.groups[term.group].n_columns) if own is None else own.copy()
            block = own[term.columns, term.columns]
            V, spread, _ = np.linalg.svd(block @ L)
            block[:] = V
            rotations[term.group] = own
            moved[term.theta] = np.diag(spread)[term.triangle]
        if all(a is b for a, b in zip(rotations, self.rotations, strict=True)):
            return None
        return replace(self, rotations=tuple(rotations)), moved

    def upright(self, theta):
        """theta of the same covariances without rotations."""
        if not self.is_rotated:
            return theta
        result = theta.copy()
        for t, term in enumerate(self.terms):
            V = self.rotations[term.group]
            if V is not None:
                T = V[term.columns, term.columns] @ self._triangle(theta, t)
                result[term.theta] = canonical_factor(T)[term.triangle]
        return result

    def term_factor(self, theta, t):
        """T (s, s) of term t, lower triangular with diagonal >= 0, in the user's units."""
        return canonical_factor(self.terms[t].M @ self._triangle(theta, t))

    @cached_property
    def _user_order(self):
        """lme4's order of the terms: most levels first.

        Where the formula has that order already it stays; otherwise terms with as many levels are
        in the reverse of the formula's order, as R's ``rev(order(levels))`` leaves them.
        """
        levels = [self.groups[term.group].n_levels for term in self.terms]
        order = range(len(levels))
        if all(a >= b for a, b in pairwise(levels)):
            return list(order)
        return sorted(reversed(order), key=lambda t: -levels[t])

    def user_theta(self, theta):
        """theta in the user's units and in lme4's order."""
        parts = [self.term_factor(theta, t)[self.terms[t].triangle] for t in self._user_order]
        return np.concatenate(parts) if parts else np.zeros(0)

    def from_user_theta(self, user_theta):
        """Engine theta for a theta in the user's units and lme4's order."""
        theta, begin = np.zeros(self.n_theta), 0
        for t in self._user_order:
            term = self.terms[t]
            T = np.zeros((term.size, term.size))
            T[term.triangle] = user_theta[begin : begin + len(term.triangle[0])]
            begin += len(term.triangle[0])
            theta[term.theta] = canonical_factor(np.linalg.solve(term.M, T))[term.triangle]
        return theta

    def _triangle(self, theta, t):
        term = self.terms[t]
        T = np.zeros((term.size, term.size))
        T[term.triangle] = theta[term.theta]
        return T

    @cached_property
    def is_scalar(self):
        """Whether every term has one effect."""
        return all(term.size == 1 for term in self.terms)

    @property
    def is_rotated(self):
        return any(V is not None for V in self.rotations)

    @cached_property
    def curvature(self):
        """For every group (j, j', i, i'): pairs of parameters in one column of T.

        Their second derivative through T T' is 2 G[i, i'].
        """
        pairs = []
        for j, i, k in self.entries:
            a, b = np.nonzero(k[:, None] == k)
            pairs.append((j[a], j[b], i[a], i[b]))
        return pairs

    def tidy(self, theta):
        """theta with standard deviations below _NEGLIGIBLE (in the engine's units) put to zero."""
        tidied = theta.copy()
        for t, term in enumerate(self.terms):
            T = self._triangle(theta, t)
            variances, vectors = np.linalg.eigh(T @ T.T)
            spread = np.sqrt(np.maximum(variances, 0.0))
            if spread[0] < _NEGLIGIBLE and T.any():
                spread[spread < _NEGLIGIBLE] = 0.0
                tidied[term.theta] = canonical_factor(vectors * spread)[term.triangle]
        return tidied

    def tangents(self, plan, T, scores, width):
        """a_j = dLambda_j u + Lambda dLambda_j' c with u = Lambda' c, for every theta[j].

        Parameters
        ----------
        plan : GramPlan
        T, scores : lists of (s, s) and (s, l)
            Factors and scores c of the groups, in the order of elimination.
        width : int
            Columns of the result, zero from n_theta on.

        Returns
        -------
        parts of the plan, and the same by group: a list of (s, width, l)
        """
        by_group, core = [], np.zeros((plan.q_core + plan.n_tail, width), order="F")
        for g, (at, T_g, c) in enumerate(zip(plan.order, T, scores, strict=True)):
            j, i, k = self.entries[at]
            V = self.rotations[at]
            part = np.zeros((len(T_g), width, c.shape[1]))
            part[i, j] = (T_g.T @ c)[k]
            if V is not None:
                part = np.einsum("ab,bjl->ajl", V, part)
            part[:, j] += T_g[:, k, None] * (c if V is None else V.T @ c)[i]
            if g >= plan.n_chain:
                rows = plan.core_groups[g - plan.n_chain][1]
                core[rows] = part.transpose(2, 0, 1).reshape(-1, width)
            by_group.append(part)
        return [*by_group[: plan.n_chain], core], by_group


def _is_degenerate(L):
    """Whether a column of a triangular factor has little on its diagonal but much below it.

    There the covariance is near one of lower rank that the triangle has many coordinates for.
    """
    diagonal = L.diagonal() ** 2
    below = np.einsum("ik,ik->k", L, L) - diagonal
    return bool((diagonal < _DEGENERATE**2 * below).any())


def canonical_factor(A):
    """Lower triangular L with L L' = A A' and diagonal >= 0.

    Where A is singular the columns of L that belong to no new direction are exactly zero.
    """
    if len(A) == 1:
        return np.abs(A)
    L = np.linalg.qr(A.T, mode="r").T
    L = L * np.where(np.diag(L) < 0, -1.0, 1.0)
    size = np.sqrt(np.einsum("ij,ij->i", A, A))
    if np.all(np.diag(L) > _SINGULAR * size):
        return L
    return _semidefinite_factor(A @ A.T, _SINGULAR * size)


def _semidefinite_factor(covariance, negligible):
    """Cholesky factor that passes over pivots at rounding level."""
    L, rest = np.zeros_like(covariance), covariance.copy()
    for j in range(len(L)):
        if rest[j, j] > np.maximum(negligible[j], 1e-150) ** 2:
            L[j:, j] = rest[j:, j] / np.sqrt(rest[j, j])
            rest = rest - np.outer(L[:, j], L[:, j])
    return L


def standardise(term, weights=None):
    """TermScale of one term's covariates."""
    z, center = term.z, np.zeros(term.z.shape[1])
    if z.shape[1] == 1:
        if z.strides[0] == 0:
            return TermScale(z, np.eye(1), center, np.eye(1))
        scale = np.diag(1 / _rms(z, weights))
        return TermScale(z * scale, scale, center, scale)
    constant = np.flatnonzero((z == z[0]).all(axis=0))
    if term.correlated and len(constant):
        center = np.average(z, axis=0, weights=weights)
        center[constant] = 0.0
        z = z - center
    size = _rms(z, weights)
    z = z / size
    scale = np.diag(1 / size)
    if term.correlated:
        R = _triangle(z, weights)
        if R is not None:
            inverse = np.linalg.inv(R)
            z, scale = z @ inverse, scale @ inverse
    M = scale
    if center.any():
        shift = np.eye(len(M))
        shift[constant[0]] -= center / term.z[0, constant[0]]
        M = shift @ scale
    return TermScale(z, M, center, scale)


def _triangle(z, weights):
    """Upper R with R'R the mean cross-product of z, or None where columns are dependent."""
    gram = z.T @ (z if weights is None else z * weights[:, None])
    gram /= len(z) if weights is None else weights.sum()
    try:
        R = np.linalg.cholesky(gram).T
    except np.linalg.LinAlgError:
        return None
    return R if np.diag(R).min() ** 2 > _INDEPENDENT else None


def _rms(z, weights):
    peak = np.abs(z).max(axis=0)
    peak[peak == 0] = 1.0
    size = peak * np.sqrt(np.average((z / peak) ** 2, axis=0, weights=weights))
    return np.where(size > 0, size, 1.0)
