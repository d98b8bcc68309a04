"""Many factors of one system at a time: the same blocks at m relative covariance factors T.

One group is eliminated first, level by level, and what remains is dense, as in
:mod:`skmixed.linalg.cholesky`; here every block has a further axis of length m. That pays where a
system is so small that a factorisation is mostly calls. Otherwise one factor follows the other.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np

from skmixed.linalg.batched import cholesky, crossproduct, diagonal_add, lower_solve, product
from skmixed.linalg.cholesky import NotPositiveDefinite, factor
from skmixed.linalg.core import mirrored, solve_lower
from skmixed.linalg.groups import RelatedGroup
from skmixed.linalg.pattern import GramPlan

# Numbers in the largest array of a stack, and the least worth of stacking, factors at a time.
_NUMBERS, _AT_LEAST = 1 << 19, 8
# Effects of a level up to which all levels are worked on at once.
_NARROW = 12
# Fixed effects up to which the roots of their information are kept for all factors.
_FEW_FIXED = 64


@dataclass(frozen=True)
class Summaries:
    """What m factors say: arrays with m first.

    Attributes
    ----------
    log_det_u, log_det_x, pwrss : (m,)
        As of a Factor; NaN where there is none.
    fixed : (m, r)
        Generalised least-squares coefficients.
    fixed_root : (m, r, r) or None
        Lower roots of X'V0^-1X; None where they would take too much memory.
    """

    log_det_u: np.ndarray
    log_det_x: np.ndarray
    pwrss: np.ndarray
    fixed: np.ndarray
    fixed_root: np.ndarray | None

    @classmethod
    def of_tails(cls, log_det_u, tails):
        """From the last rows (m, r + 1, r + 1) of the factors, those of X and y."""
        root, explained = tails[:, :-1, :-1], tails[:, -1, :-1, None]
        with np.errstate(divide="ignore"):
            log_det_x = 2.0 * np.log(np.einsum("mii->mi", root)).sum(axis=1)
        fixed = _solve_upper(root, explained)[..., 0]
        kept = root if root.shape[1] <= _FEW_FIXED else None
        return cls(log_det_u, log_det_x, tails[:, -1, -1] ** 2, fixed, kept)

    def fixed_draws(self, at, scale, normal):
        """Draws (m, r) of the fixed effects at factors ``at`` (m,), from normal (m, r).

        Of kept roots; otherwise :meth:`System.draws` has them.
        """
        rest = _solve_upper(self.fixed_root[at], normal[..., None])[..., 0]
        return self.fixed[at] + scale[:, None] * rest

    @classmethod
    def joined(cls, several):
        """Summaries of all factors of several."""
        columns = [[getattr(s, field.name) for s in several] for field in fields(cls)]
        return cls(*(None if own[0] is None else np.concatenate(own) for own in columns))


@dataclass(frozen=True)
class Stack:
    """A system by the blocks of one group, own (s, s, l) and border (s, w, l), and the dense rest.

    others: (place in the order of elimination, slice of the rest) of every other group.
    """

    plan: GramPlan
    own: np.ndarray
    border: np.ndarray
    rest: np.ndarray
    others: tuple

    @classmethod
    def of(cls, products):
        """The stack of cross-products, or None where one factor after the other is as good."""
        plan = products.plan
        lead = plan.groups[0]
        mixed = isinstance(lead, RelatedGroup) and not lead.diagonal  # levels are not apart
        if plan.n_chain > 1 or mixed or lead.n_columns > _NARROW:
            return None
        q = plan.q_core - (0 if plan.n_chain else lead.size)
        w, size = q + plan.n_tail, lead.size
        sparse = plan.n_chain and plan.entries[0] is not None
        if sparse or size * w + w * w > _NUMBERS / _AT_LEAST:
            return None
        core = mirrored(products.core)
        if plan.n_chain:
            own, border = products.chain[0].own, products.chain[0].border
            return cls(plan, own, border, core, _places(plan.groups[1:]))
        own = products.core_blocks(0)
        border = core[:size, size:].reshape(lead.n_levels, lead.n_columns, w).transpose(1, 2, 0)
        rest = core[size:, size:]
        return cls(plan, own, np.ascontiguousarray(border), rest, _places(plan.groups[1:]))

    @property
    def at_a_time(self):
        """Factors worked on at a time."""
        w = len(self.rest)
        return max(1, _NUMBERS // (self.border.size + self.own.size + w * w))

    def factor(self, T, added=None):
        """StackedFactor for T, (m, s, s) for each group in the order of elimination.

        added (m, r + 1, r + 1): what is to be added to the rows of X and y.
        """
        s, _, n_levels = self.own.shape
        lead = T[0].transpose(1, 2, 0)
        m = lead.shape[-1]
        half = np.einsum("aim,abl->ibml", lead, self.own)
        D = np.einsum("ibml,bjm->ijml", half, lead).reshape(s, s, -1)
        L = cholesky(diagonal_add(D, 1.0))
        log_det = 2.0 * np.log(np.einsum("iin->in", L)).reshape(s, m, n_levels).sum(axis=(0, 2))
        turned = np.broadcast_to(lead.swapaxes(0, 1)[..., None], (s, s, m, n_levels))
        H = lower_solve(L, turned.reshape(s, s, -1))
        V = np.einsum("ikml,kwl->mwil", H.reshape(s, s, m, n_levels), self.border)
        V = V.reshape(m, len(self.rest), -1)
        S = self.rest - V @ V.transpose(0, 2, 1)
        q = len(self.rest) - self.plan.n_tail
        for i, rows in self.others:
            _scale(S[:, rows], T[i])
            _scale(S[:, :, rows].transpose(0, 2, 1), T[i])
        S[:, np.arange(q), np.arange(q)] += 1.0
        if added is not None:
            S[:, q:, q:] += added
        core = _cholesky_or_nan(S)
        log_det += 2.0 * np.log(np.einsum("mii->mi", core[:, :q, :q])).sum(axis=1)
        return StackedFactor(self, T, H, core, log_det)


@dataclass(frozen=True)
class StackedFactor:
    """Factors at m factors T: H (s, s, m l) of the group eliminated first, the rest (m, w, w)."""

    stack: Stack
    T: list
    H: np.ndarray
    core: np.ndarray
    log_det_u: np.ndarray

    def summaries(self):
        q = self.core.shape[1] - self.stack.plan.n_tail
        return Summaries.of_tails(self.log_det_u, self.core[:, q:, q:])

    def draws(self, normal, scale):
        """Draws (as `draws` of the module) from standard normal parts, scaled by scale (m,)."""
        stack, m = self.stack, len(scale)
        s, _, n_levels = stack.own.shape
        q = self.core.shape[1] - stack.plan.n_tail
        rhs = self.core[:, -1, :-1] + scale[:, None] * np.concatenate(normal[1:], axis=1)
        tail = np.full((m, self.core.shape[1]), -1.0)
        tail[:, :-1] = _solve_upper(self.core[:, :-1, :-1], rhs[..., None])[..., 0]
        found = []
        for i, rows in stack.others:
            part = tail[:, rows].reshape(m, -1, self.T[i].shape[1])
            part = part @ self.T[i].transpose(0, 2, 1)
            tail[:, rows] = part.reshape(m, -1)
            found.append(part.transpose(2, 0, 1))
        rest = np.einsum("swl,mw->sml", stack.border, tail).reshape(s, 1, -1)
        u = (normal[0] * scale[:, None]).reshape(s, 1, -1) - product(self.H, rest)
        lead = crossproduct(self.H, u).reshape(s, m, n_levels)
        return [lead, *found], tail[:, q:-1]


def summaries(products, T, added=None):
    """Summaries of the factors at T, (m, s, s) for each group in the order of elimination."""
    stack, m = Stack.of(products), len(T[0])
    if stack is None:
        return Summaries.joined([_summary(f) for f in _one_by_one(products, T, added, m)])
    parts = _slices(m, stack.at_a_time)
    return Summaries.joined([stack.factor(*_cut(T, added, at)).summaries() for at in parts])


def draws(products, T, scale, normal, added=None):
    """Draws of the random and the fixed effects: modes plus scale times Omega^-1/2 normal.

    Parameters
    ----------
    products : CrossProducts
    T : list of (m, s, s), in the order of elimination
    scale : (m,)
    normal : list of (s, m, l), in the order of elimination, and last (r, m)
        Standard normal numbers.
    added : (m, r + 1, r + 1), optional

    Returns
    -------
    list of (s, m, l), and (m, r)
    """
    stack, m = Stack.of(products), len(scale)
    if stack is None:
        return _draws_one_by_one(products, T, scale, normal, added)
    found = []
    for at in _slices(m, stack.at_a_time):
        own = [normal[0][:, at]]
        own += [x[:, at].transpose(1, 2, 0).reshape(at.stop - at.start, -1) for x in normal[1:-1]]
        own.append(normal[-1][:, at].T)
        found.append(stack.factor(*_cut(T, added, at)).draws(own, scale[at]))
    random = [np.concatenate(blocks, axis=1) for blocks in zip(*(f[0] for f in found), strict=True)]
    return random, np.concatenate([f[1] for f in found])


def _draws_one_by_one(products, T, scale, normal, added):
    """Draws where equal neighbours in T share a factor."""
    random, fixed = [np.empty_like(x) for x in normal[:-1]], np.empty(normal[-1].T.shape)
    for at in _runs(T, added, len(scale)):
        own, extra = _cut(T, added, slice(at.start, at.start + 1))
        f = _factor(products, [t[0] for t in own], None if extra is None else extra[0])
        parts = draw_parts(f, [x[:, at] for x in normal], scale[at])
        for whole, part in zip(random, parts[0], strict=True):
            whole[:, at] = part
        fixed[at] = parts[1].T
    return random, fixed


def draw_parts(f, normal, scale):
    """Draws (s, k, l) and (r, k) from one factor; normal as `draws` takes it, in its order."""
    plan, k = f.plan, len(scale)
    core = [x.transpose(2, 0, 1).reshape(-1, k) for x in normal[plan.n_chain : -1]]
    rhs = np.zeros((len(f.core), k))
    rhs[:-1] = f.core[-1:, :-1].T + scale * np.concatenate([*core, normal[-1]])
    tail = solve_lower(f.core, rhs, transposed=True)
    tail[-1] = -1.0
    found = []
    for (_, rows), T in zip(plan.core_groups, f.T[plan.n_chain :], strict=True):
        part = np.einsum("st,ltk->skl", T, tail[rows].reshape(-1, len(T), k))
        tail[rows] = part.transpose(2, 0, 1).reshape(-1, k)
        found.append(part)
    parts = [None] * plan.n_chain + [tail]
    for i in range(plan.n_chain - 1, -1, -1):
        parts[i] = f.back_substituted(i, scale[:, None] * normal[i], parts)
    return [*parts[:-1], *found], tail[plan.q_core : -1]


def _summary(f):
    """Summaries of one factor, or of none."""
    if isinstance(f, int):
        return Summaries.of_tails(np.full(1, np.nan), np.full((1, f, f), np.nan))
    q = f.plan.q_core
    return Summaries.of_tails(np.array([f.log_det_u]), np.tril(f.core[q:, q:])[None])


def _one_by_one(products, T, added, m):
    """A factor for each T, or n_tail where there is none."""
    for j in range(m):
        own, extra = _cut(T, added, slice(j, j + 1))
        try:
            yield _factor(products, [t[0] for t in own], None if extra is None else extra[0])
        except NotPositiveDefinite:
            yield products.plan.n_tail


def _factor(products, T, added):
    return factor(products if added is None else with_added(products, added), T)


def with_added(products, added):
    """Cross-products with ``added`` (r + 1, r + 1) added to those of X and y."""
    core, q = products.core.copy(), products.plan.q_core
    core[q:, q:] += added
    return replace(products, core=core)


def _places(groups):
    """(place, slice of the rest) of the groups that stay in it, the first one eliminated."""
    ends = np.cumsum([0, *(g.size for g in groups)]).tolist()
    return tuple((k, slice(a, b)) for k, (a, b) in enumerate(pairwise(ends), 1))


def _scale(rows, T):
    """rows (m, l s, w) times (I_l kron T'), in place."""
    m, size, w = rows.shape
    s = T.shape[1]
    moved = T.transpose(0, 2, 1)[:, None] @ rows.reshape(m, size // s, s, w)
    rows[...] = moved.reshape(m, size, w)


def _solve_upper(L, B):
    """L'^-1 B for lower triangles L (m, d, d) and B (m, d, k)."""
    if L.shape[1] == 0:
        return np.zeros(B.shape)
    X = np.empty(np.broadcast_shapes(L.shape[:1], B.shape[:1]) + B.shape[1:])
    for i in range(L.shape[1] - 1, -1, -1):
        rest = B[:, i] - np.einsum("mj,mjk->mk", L[:, i + 1 :, i], X[:, i + 1 :])
        X[:, i] = rest / L[:, i, i, None]
    return X


def _cholesky_or_nan(S):
    try:
        return np.linalg.cholesky(S)
    except np.linalg.LinAlgError:
        if len(S) == 1:
            return np.full(S.shape, np.nan)
        half = len(S) // 2
        return np.concatenate([_cholesky_or_nan(S[:half]), _cholesky_or_nan(S[half:])])


def _cut(T, added, at):
    return [t[at] for t in T], None if added is None else added[at]


def _slices(m, width):
    return [slice(lo, min(lo + width, m)) for lo in range(0, m, width)]


def _runs(T, added, m):
    """Slices of equal neighbours."""
    new = np.zeros(m, dtype=bool)
    new[0] = True
    for array in [*T, *([] if added is None else [added])]:
        new[1:] |= (array[1:] != array[:-1]).any(axis=(1, 2))
    begins = np.append(np.flatnonzero(new), m)
    return [slice(a, b) for a, b in pairwise(begins.tolist())]
