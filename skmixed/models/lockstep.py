"""Minima of one small linear mixed model for many responses at once: where its searches start.

With A = [Z X]'W[Z X], c = [Z X]'Wy and Lt = blockdiag(Lambda, I) everything is dense, a stack of
matrices with one for each response: Omega = Lt'A Lt + diag(I, 0) = L L' and

    Z'P0 Z = A_zz - V V',   V = A_z. Lt L^-T
    scores = c_z - V h,     h = L^-1 Lt'c,      r^2 = y'Wy - h'h.

Derivatives are those of :class:`skmixed.models.lmm.Evaluation`. The descent is a plain one; what it
does not bring to an end is left to the search, as is the last word on what it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, lapack

from skmixed.linalg.system import Effects
from skmixed.models.structures import Unstructured, triangle

# Effects and columns of X up to which dense matrices are cheap.
_SMALL = 120
# Newton steps, halvings of one, and the decrement after which the search has nothing to do.
_STEPS, _HALVINGS, _DONE = 12, 4, 5e-12
# Largest length of a step, and least curvature as a share of the largest.
_LONGEST, _FLAT = 3.0, 1e-6
# Smallest standard deviation, relative to that of a row, of a start that is off the boundary.
_INSIDE = 1e-2


@dataclass(frozen=True, eq=False)
class Lockstep:
    """The deviance of a ProfiledDeviance for responses given by their cross-products.

    A (N, N); shapes: (effects, levels) of every group; triangles: rows and columns in T of the
    parameters of every group; places: where these are in theta.
    """

    A: np.ndarray
    shapes: tuple
    triangles: tuple
    places: tuple
    n_theta: int
    dof: float
    reml: bool
    total: float

    @property
    def n_effects(self):
        return sum(s * levels for s, levels in self.shapes)

    @classmethod
    def of(cls, objective):
        """Of an objective, None where it is large, structured or without random effects."""
        layout = objective.layout
        if not layout.n_theta or not all(_is_plain(own) for own in layout.structures):
            return None
        shapes = tuple((group.n_columns, group.n_levels) for group in layout.groups)
        q = sum(s * levels for s, levels in shapes)
        if q + objective.rank > _SMALL:
            return None
        A = _flat(objective.system.times(_identity(shapes, objective.rank)))
        return cls(
            A, shapes, tuple(map(_triangles, layout.structures)), layout.places, layout.n_theta,
            objective.dof, objective.reml, objective.total_weight,
        )  # fmt: skip

    def minima(self, cross, theta):
        """theta (B, t) at the minima for cross-products (B, N) of y at unit mean square.

        Starts at theta (t,); NaN for those that are not found, or on the boundary.
        """
        theta = np.repeat(theta[None], len(cross), axis=0)
        found, active = np.full(theta.shape, np.nan), np.arange(len(cross))
        state = self._evaluate(cross, theta)
        for _ in range(_STEPS):
            if not len(active):
                break
            step, decrement = _newton(*state[1:])
            done = decrement <= _DONE
            found[active[done]] = theta[done]
            if done.all():
                break
            theta, state, kept = self._descend(cross[active], theta, state, step, ~done)
            active = active[kept]
        return np.where(self._is_inside(found)[:, None], found, np.nan)

    def _descend(self, cross, theta, state, step, going):
        """(theta, state, kept) after a step that is halved until the value falls."""
        kept = np.flatnonzero(going)
        theta, step, values = theta[kept], step[kept], state[0][kept]
        moved = theta + step
        for _ in range(_HALVINGS):
            new = self._evaluate(cross[kept], moved)
            worse = ~(new[0] <= values + 1e-9)
            if not worse.any():
                break
            step = np.where(worse[:, None], step / 4, step)
            moved = theta + step
        good = ~worse
        return moved[good], tuple(x[good] for x in new), kept[good]

    def _own_blocks(self, part, k):
        """Sum over levels of the diagonal blocks (s, s) of Z'WZ of a group."""
        blocks = self.A[part, part].reshape(k, -1, k, (part.stop - part.start) // k)
        return np.einsum("ilkl->ik", blocks)

    def _is_inside(self, theta):
        inside = ~np.isnan(theta).any(axis=1)
        for T in self._factors(np.nan_to_num(theta)):
            inside &= np.linalg.svd(T, compute_uv=False)[:, -1] > _INSIDE
        return inside

    def _factors(self, theta):
        """T (B, s, s) of every group."""
        found = []
        for (i, j), at, (s, _) in zip(self.triangles, self.places, self.shapes, strict=True):
            T = np.zeros((len(theta), s, s))
            T[:, i, j] = theta[:, at]
            found.append(T)
        return found

    def _times(self, M, T):
        """M Lt (B, k, N) for M (k, N) or (B, k, N)."""
        parts, begin = [], 0
        for (s, levels), own in zip(self.shapes, T, strict=True):
            block = M[..., begin : begin + s * levels].reshape(*M.shape[:-1], s, levels)
            moved = np.einsum("...ksl,...st->...ktl", block, own)
            parts.append(moved.reshape(*moved.shape[:-2], s * levels))
            begin += s * levels
        rest = np.broadcast_to(M[..., begin:], (*parts[0].shape[:-1], M.shape[-1] - begin))
        return np.concatenate([*parts, rest], axis=-1)

    def _evaluate(self, cross, theta):
        """(values (B,), gradients (B, t), hessians (B, t, t))."""
        T, q = self._factors(theta), self.n_effects
        AL = self._times(self.A, T)
        omega = self._times(AL.swapaxes(1, 2), T)
        at = np.arange(q)
        omega[:, at, at] += 1.0
        right = np.concatenate([AL[:, :q], self._times(cross[:, None], T)], axis=1)
        half, logs = _half_solved(omega, right)
        V, hc = half[:, :q], half[:, q]
        pwrss = self.total - np.einsum("bn,bn->b", hc, hc)
        s = cross[:, :q] - np.einsum("bqn,bn->bq", V, hc)
        pwrss = np.maximum(pwrss, 1e-300)
        value = logs[:, : None if self.reml else q].sum(axis=1) + self.dof * np.log(pwrss)
        return value, *self._derivatives(T, s, pwrss, V)

    def _derivatives(self, T, s, pwrss, V):
        gradient = np.zeros((len(s), self.n_theta))
        hessian = np.zeros((len(s), self.n_theta, self.n_theta))
        tangents, begin = np.zeros((len(s), self.n_theta, s.shape[1])), 0
        numbers = np.arange(self.n_theta)
        for g, (k, levels) in enumerate(self.shapes):
            part, place = slice(begin, begin + k * levels), numbers[self.places[g]]
            c = s[:, part].reshape(-1, k, levels)
            own = V[:, part, : None if self.reml else s.shape[1]].reshape(len(s), k, -1)
            G = self._own_blocks(part, k) - own @ own.swapaxes(1, 2)
            G = G - (self.dof / pwrss)[:, None, None] * (c @ c.swapaxes(1, 2))
            i, j = self.triangles[g]
            gradient[:, place] = 2.0 * (G @ T[g])[:, i, j]
            same = j[:, None] == j
            hessian[:, place[:, None], place] = np.where(same, 2.0 * G[:, i[:, None], i], 0.0)
            moved = np.zeros((len(s), len(i), k, levels))
            moved[:, np.arange(len(i)), i] = (T[g].swapaxes(1, 2) @ c)[:, j]
            moved += T[g][:, :, j].swapaxes(1, 2)[..., None] * c[:, i][:, :, None]
            tangents[:, place, part] = moved.reshape(len(s), len(i), k * levels)
            begin += k * levels
        reduced = tangents @ V
        forms = tangents @ self.A[: s.shape[1], : s.shape[1]] @ tangents.swapaxes(1, 2)
        forms = (forms - reduced @ reduced.swapaxes(1, 2)) / pwrss[:, None, None]
        h = np.einsum("btq,bq->bt", tangents, s) / pwrss[:, None]
        hessian += self.dof * (forms - h[:, :, None] * h[:, None, :])
        return gradient, hessian


def _half_solved(omega, right):
    """(right L^-T (B, k, N), 2 log diagonals of L (B, N)) for omega = L L' and right (B, k, N)."""
    half, logs = np.empty(right.shape), np.empty(right.shape[::2])
    for b, (own, rows) in enumerate(zip(omega, right, strict=True)):
        R = lapack.dpotrf(own.T, lower=0, clean=0)[0]  # in the lower triangle by rows
        logs[b] = R.diagonal()
        half[b] = blas.dtrsm(1.0, R, rows.T, side=0, lower=0, trans_a=1).T
    with np.errstate(all="ignore"):  # a descent that has left what can be factored is given up
        return half, 2.0 * np.log(logs)


def _newton(gradient, hessian):
    """Steps (B, t) and decrements (B,), with positive curvature in every direction."""
    values, vectors = np.linalg.eigh(hessian)
    size = np.abs(values)
    size = np.maximum(size, _FLAT * size.max(axis=1, keepdims=True))
    slope = np.einsum("btk,bt->bk", vectors, gradient)
    saddle = (values < 0).any(axis=1)
    decrement = np.where(saddle, np.inf, 0.5 * np.sum(slope**2 / size, axis=1))
    step = -np.einsum("btk,bk->bt", vectors, slope / size)
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return step * np.minimum(1.0, _LONGEST / np.maximum(length, 1e-300)), decrement


def _is_plain(structure):
    return isinstance(structure, Unstructured) and structure.chart is None


def _triangles(structure):
    """Rows and columns (p,) of the parameters of an unstructured T."""
    rows, columns, begin = [], [], 0
    for size in structure.sizes:
        i, j = triangle(size)
        rows.append(begin + i)
        columns.append(begin + j)
        begin += size
    return np.concatenate(rows), np.concatenate(columns)


def _identity(shapes, r):
    q = sum(s * levels for s, levels in shapes)
    eye, random, begin = np.eye(q + r), [], 0
    for s, levels in shapes:
        own = eye[begin : begin + s * levels].reshape(s, levels, q + r)
        random.append(own.transpose(0, 2, 1))
        begin += s * levels
    return Effects(random, eye[q:])


def _flat(effects):
    """(N, k) of Effects."""
    k = effects.fixed.shape[1]
    parts = [x.transpose(0, 2, 1).reshape(-1, k) for x in effects.random]
    return np.concatenate([*parts, effects.fixed])


def unit_crosses(responses, total):
    """Cross-products (B, N) of Responses, each of them times what gives it unit mean square."""
    scales = np.sqrt([max(response.square / total, 1e-300) for response in responses])
    return np.array([_flat(response.cross)[:, 0] for response in responses]) / scales[:, None]
