"""Sums over levels of the diagonal blocks of Z'V0^-1Z from random signs, with control variates.

For independent signs z (q,) and x = S^-1 z, with d = Delta^-1 z, C~_d the diagonal blocks of C~ and
J_c = (I + C~_d T T')^-1, in the core

    sum (Z'V0^-1Z)_ll = sum J_c C~_d + E sum [T^-T (d - x) - J_c (C~ - C~_d) T d]_l z_l' T^-1,

where the second term has the mean zero and is what the first one is in first order. With a coupled
preconditioner M, which is far nearer to S, and e = M^-1 z it is

    sum (Z'V0^-1Z)_ll = sum J_c C~_d - sum T^-T (M^-1 - Delta^-1)_ll T^-1
                        + E sum [T^-T (e - x)]_l z_l' T^-1.

Of the levels that are eliminated

    sum (Z'V0^-1Z)_ll = sum J (D - K J') - E sum (J B T (x - d))_l (J B T z)_l'

with K_l = sum_m B_lm (T Delta^-1 T')_m B_lm', which is exact too. Where T is nearly singular no
division by it is possible. With T = U s V', the directions U_1 with singular values s_1 by which
results are divided, the others U_0, and the signs z_0 of that group along these alone,

    (U_1 U_1' + U_0 U_0') sum (Z'V0^-1Z)_ll U_0 U_0'
        = E sum [U_1 V_1'x_0 / s_1 - U_0 U_0'C~ T x_0]_l z_0l' + U_0 U_0' sum C~_d U_0 U_0'

with x_0 = S^-1 T'C~ z_0; among U_1 the formulas above hold. With unit vectors in the place of signs
that is exact: a group of few effects takes no more solutions so than with signs, which tell least
of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skmixed.linalg.batched import diagonal_add, product
from skmixed.linalg.iterative_core import shrinkage, times_blocks

# Smallest singular value of T by which results are divided.
_DIVIDE = 0.03
# Effects of a group up to which its sum is exact, and the tolerance of its solutions, whose error
# enters squared.
_FEW, _UNITS = 32, 1e-6


def information_samples(core, M, z, x, W_x, solve, tolerance):
    """[(k, s, s)] by group in order of elimination from signs z (q, k) and x = S^-1 z.

    M: the preconditioner. W_x: S^-1 times :func:`constants`. solve(kind, F, tolerance) finds
    further solutions where T is nearly singular.
    """
    signs, W = z, constants(core)
    z = np.concatenate([z, W], axis=1)
    x = np.concatenate([x, W_x], axis=1)
    outer = Deflated(W.T @ signs)
    d = core.blockwise(core.diagonal_inverse, z)
    Td = core.scaled(d)
    below = core.down(Td)
    samples = [_eliminated(core, z, x, below, outer)]
    if M.is_coupled:
        change, first_order = core.views(M.solve(z) - x), None
    else:
        change = core.views(d - x)
        first_order = core.views(core.reduced(Td, below) - core.blockwise(core.own, Td))
    for j, own in enumerate(core.views(z)):
        T = core.T[j + 1]
        if own[..., 0].size <= _FEW:
            samples.append(np.repeat(_by_units(core, j, solve)[None], signs.shape[1], axis=0))
            continue
        inverse, onto = _divisible(T)
        own_way = {"excess": M.excess[j]} if M.is_coupled else {"first_order": first_order[j]}
        found = _divided(core, j, own, change[j], outer, inverse, onto, **own_way)
        rest = np.eye(len(T)) - onto
        if np.trace(rest) > 0.5:
            found += _undivided(core, j, signs, solve, tolerance, inverse, rest)
        samples.append(found)
    return samples


def _divisible(T):
    """T^-1 in the directions in which T is not nearly singular, and the projection (s, s) on them.

    The other directions leave those by which results can be divided as exact as they are.
    """
    U, sizes, Vt = np.linalg.svd(T)
    kept = sizes >= _DIVIDE
    return (Vt[kept].T / sizes[kept]) @ U[:, kept].T, U[:, kept] @ U[:, kept].T


@dataclass(frozen=True)
class Deflated:
    """Sums over levels of (E z)_l z_l' from signs z, with orthonormal W taken out exactly.

    E z z' has the mean E W W' + E (I - W W'): the columns of W come after those of z.

    Attributes
    ----------
    along : (w, k)
        W'z.
    """

    along: np.ndarray

    def __call__(self, a, b):
        """(k, s, t) from a = E [z W] (s, l, k + w) and the rows b of [z W] (t, l, k + w)."""
        k = self.along.shape[1]
        rest = a[..., :k] - a[..., k:] @ self.along
        return _outer(rest, b[..., :k]) + _outer(a[..., k:], b[..., k:]).sum(axis=0)


def constants(core):
    """W (q, w): for every effect of every core group one that all of its levels share.

    There Z'V0^-1Z is far from its diagonal blocks, since other groups hold a constant too.
    """
    W = np.zeros((core.q, sum(s for s, _ in core.sizes)))
    column = 0
    for view, (s, n) in zip(core.views(W), core.sizes, strict=True):
        for a in range(s):
            view[a, :, column] = 1.0 / np.sqrt(n)
            column += 1
    return W


def _eliminated(core, z, x, below, outer):
    """The samples of the eliminated levels; below: B T Delta^-1 z."""
    J, D = core.J, core.blocks.own[0]
    Jx = times_blocks(J, core.down(core.scaled(x)) - below)
    Jz = times_blocks(J, core.down(core.scaled(z)))
    exact = _sum(product(J, D - product(core.below_spread, J.transpose(1, 0, 2))))
    return _symmetric(exact - outer(Jx, Jz))


def _divided(core, j, z, change, outer, inverse, onto, *, first_order=None, excess=None):
    """The samples of core group j along ``onto``, with one of the two control variates."""
    T, C = core.T[j + 1], core.own[j]
    s = len(T)
    J_c = diagonal_add(-product(C, shrinkage(C, T)[0]), 1.0)
    moved = (inverse.T @ change.reshape(s, -1)).reshape(change.shape)
    exact = onto @ _sum(product(J_c, C)) @ onto
    if excess is None:
        other = times_blocks(J_c, first_order)
        moved -= (onto @ other.reshape(s, -1)).reshape(other.shape)
    else:
        exact = exact - inverse.T @ _sum(excess) @ inverse
    return _symmetric(exact + outer(moved, z) @ inverse)


def _undivided(core, j, z, solve, tolerance, inverse, rest):
    """What the directions ``rest`` add to the samples of core group j, where T is nearly zero."""
    s, n = core.sizes[j]
    alone = np.zeros_like(z)
    alone[core.slices[j]] = (rest @ z[core.slices[j]].reshape(s, -1)).reshape(s * n, -1)
    F = core.scaled(core.reduced(alone), transposed=True)
    x = solve(("alone", j), F, tolerance).x
    own, taken = (core.views(v)[j] for v in (alone, core.reduced(core.scaled(x))))
    within = rest @ _sum(core.own[j]) @ rest - rest @ _outer(taken, own)
    beside = inverse.T @ _outer(core.views(x)[j], own)
    return _symmetric(within) + beside + beside.transpose(0, 2, 1)


def _by_units(core, j, solve):
    """The sum (s, s) of core group j, exact."""
    s, n = core.sizes[j]
    unit = np.zeros((core.q, s * n))
    unit[core.slices[j]] = np.eye(s * n)
    F = core.scaled(core.reduced(unit), transposed=True)
    x = solve(("units", j), F, _UNITS).x
    F, x, Sx = (v.reshape(core.q, s, n) for v in (F, x, core.times(x)))
    inside = np.einsum("qal,qbl->ab", F, x)
    G = _sum(core.own[j]) - inside - inside.T + np.einsum("qal,qbl->ab", x, Sx)
    return (G + G.T) / 2


def _outer(a, b):
    """Sum over levels of a_l b_l' for every column: (s, l, k), (t, l, k) -> (k, s, t)."""
    return np.einsum("slk,tlk->kst", a, b)


def _sum(blocks):
    return blocks.sum(axis=-1)


def _symmetric(samples):
    return (samples + samples.transpose(0, 2, 1)) / 2
