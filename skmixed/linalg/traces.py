"""Exact traces tr(V0^-1 G_r) and tr(V0^-1 G_r V0^-1 G_s) by derivatives of log |V0|.

The elimination writes log |V0| as a sum of log |I + D Gamma| over the levels of its groups, each
Schur complement D a function of the parameters of the groups before. With E_r = dGamma / dgamma_r,
N = Gamma (I + D Gamma)^-1, J = (I + D Gamma)^-1 and B = J D every group adds

    t_r  =   tr(N D_r) + tr(B E_r)
    t_rs = - tr(N_s D_r) - tr(N D_rs) - tr(B_s E_r),

with indices for derivatives: N_r = J' E_r J - N D_r N and B_r = J D_r J' - B E_r B. Derivatives of
Schur complements are U' N_r U and so on for the rows U that join a group to later ones: sums with
the pattern of U, other weights. Nothing is formed that elimination itself does not form, apart
from one dense matrix of the core's size per parameter of the eliminated groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations_with_replacement

import numpy as np

from skmixed.linalg.batched import crossproduct, outer_sum, product
from skmixed.linalg.core import diagonal_blocks, mirrored


@dataclass(frozen=True)
class Direction:
    """One linear parameter: entry (i, j) and (j, i) of the covariance of a grouping factor."""

    group: int
    i: int
    j: int

    def matrix(self, s):
        """Derivative (s, s) of the group's covariance."""
        E = np.zeros((s, s))
        E[self.i, self.j] = E[self.j, self.i] = 1.0
        return E


@dataclass(frozen=True)
class Rows:
    """Rows that join one chain group to what is eliminated after it.

    up {later chain group: (s, s_k, l)}; edge (s, nnz) on the pattern of the entries, or (s, q, l),
    or None without a core.
    """

    up: dict
    edge: np.ndarray | None

    def weighted(self, W, at):
        """W_l times the rows of every level."""
        up = {k: product(W, u) for k, u in self.up.items()}
        if self.edge is None:
            return Rows(up, None)
        if at is None:
            return Rows(up, product(W, self.edge))
        return Rows(up, np.einsum("kia,ia->ka", W[:, :, at.rows], self.edge))

    def __add__(self, other):
        up = {k: u + other.up[k] for k, u in self.up.items()}
        return Rows(up, None if self.edge is None else self.edge + other.edge)


@dataclass
class Sums:
    """What the groups have added so far.

    first[r] and second[r, s] hold derivatives of the Schur complements of later chain groups by
    block: ("own", k), ("up", k, j), ("edge", k). core[r] is the derivative of the core's.
    """

    t: np.ndarray
    tt: np.ndarray
    first: dict = field(default_factory=dict)
    second: dict = field(default_factory=dict)
    core: dict = field(default_factory=dict)


def covariance_traces(inverse, directions):
    """(t_r (K,), t_rs (K, K)): traces of H D_r and of H D_r H D_s for a MarginalInverse.

    Parameters
    ----------
    inverse : MarginalInverse
    directions : sequence of Direction
        Their ``group`` counts the grouping factors in the order in which they were given.
    """
    plan = inverse.factor.plan
    place = {g: at for at, g in enumerate(plan.order)}
    at = np.array([place[d.group] for d in directions], dtype=np.intp)
    sums = Sums(np.zeros(len(at)), np.zeros((len(at), len(at))))
    E = [d.matrix(len(inverse.factor.T[k])) for d, k in zip(directions, at, strict=True)]
    for i in range(plan.n_chain):
        own, before = np.flatnonzero(at == i), np.flatnonzero(at < i)
        _add_chain_group(inverse, i, E, own, before, sums)
    if plan.q_core:
        _add_core(inverse, E, at, sums)
    return sums.t, np.triu(sums.tt) + np.triu(sums.tt, 1).T


def _add_chain_group(inverse, i, E, own, before, sums):
    """Contributions of chain group i, and of its elimination to what comes after it."""
    group = inverse.factor.chain[i]
    N, J = group.N, inverse.level_inverse(i)
    B = product(J, group.blocks.own)
    D = {r: sums.first[r]["own", i] for r in before}
    ND = {r: product(N, D[r]) for r in before}
    _add_pairs_of_own(np.ascontiguousarray(B), E, own, sums)
    for r in before:
        sums.t[r] += np.einsum("iil->", ND[r])
        seen = np.einsum("ijl,jkl,mkl->im", J, D[r], J)
        for s in own:
            _add(sums.tt, r, s, -np.sum(E[s] * seen))
    for r, s in combinations_with_replacement(before, 2):
        second = sums.second[r, s]["own", i]
        found = np.einsum("ijl,jil->", ND[r], ND[s]) - np.einsum("ijl,jil->", N, second)
        _add(sums.tt, r, s, found)
    if inverse.factor.plan.parents[i] or inverse.factor.plan.q_core:
        changes = _Changes(N, J, B, E, D, ND, sums.second, i)
        _propagate(inverse, i, changes, [*before, *own], sums)


def _add_pairs_of_own(B, E, own, sums):
    """tr(B E_r) and tr(B E_r B E_s) for parameters of one group."""
    total = B.sum(axis=-1)
    for r in own:
        sums.t[r] += np.sum(total * E[r])
    _add_contracted(sums.tt, B, B, E, own)


def _add_contracted(tt, A, B, E, own, factor=1.0):
    """tt_rs += factor sum over levels tr(E_r A E_s B), for symmetric blocks A, B (s, s, l)."""
    s = len(A)
    both = A.reshape(s * s, -1) @ B.reshape(s * s, -1).T
    _add_pairs(tt, factor * both.reshape(s, s, s, s), E, own, own)


def _add_pairs(tt, both, E, own, others):
    """tt_rs += sum both[i, u, j, v] E_r[i, j] E_s[u, v] for parameters r, s of two groups."""
    if not len(own) or not len(others):
        return
    left, right = (np.array([E[r].ravel() for r in rs]) for rs in (own, others))
    found = left @ both.transpose(0, 2, 1, 3).reshape(left.shape[1], -1) @ right.T
    rows = own[:, None]
    # where the groups are one, (r, s) and (s, r) are the same sum and the same place
    tt[np.minimum(rows, others), np.maximum(rows, others)] += found


def _add(tt, r, s, value):
    tt[min(r, s), max(r, s)] += value


@dataclass(frozen=True)
class _Changes:
    """First and second derivatives of N for one chain group."""

    N: np.ndarray
    J: np.ndarray
    B: np.ndarray
    E: list
    D: dict
    ND: dict
    second: dict
    i: int

    def first(self, r):
        """J' E_r J, or - N D_r N."""
        if r in self.D:
            return -product(self.ND[r], self.N)
        return product(crossproduct(self.J, self._E(r)), self.J)

    def pair(self, r, s):
        if r in self.D and s in self.D:
            half = product(product(self.ND[r], self.ND[s]), self.N)
            curved = product(product(self.N, self.second[r, s]["own", self.i]), self.N)
            return half + _turned(half) - curved
        if r in self.D or s in self.D:
            before, own = (r, s) if r in self.D else (s, r)
            half = product(self.ND[before], crossproduct(self.J, self.first_left(own)))
            return -(half + _turned(half))
        half = product(product(self._E(r), self.B), self._E(s))
        half = product(crossproduct(self.J, half), self.J)
        return -(half + _turned(half))

    def first_left(self, r):
        return product(self._E(r), self.J)

    def _E(self, r):
        return np.broadcast_to(self.E[r][:, :, None], self.N.shape)


def _propagate(inverse, i, changes, params, sums):
    """Derivatives of the Schur complements that group i's elimination leaves behind."""
    plan = inverse.factor.plan
    blocks, at = inverse.factor.chain[i].blocks, plan.entries[i]
    U = Rows(blocks.up, _edge(blocks, plan, i))
    NU = U.weighted(changes.N, at)
    kept = {r: _rows_of(sums.first[r], i, U) for r in params if r in changes.D}
    N_first = {r: changes.first(r) for r in params}
    WU = {r: U.weighted(N_first[r], at) for r in params}
    for r, dU in kept.items():
        WU[r] = WU[r] + dU.weighted(changes.N, at)
    for r in params:
        folds = [(U, WU[r])] + ([(kept[r], NU)] if r in kept else [])
        _subtract(sums.first.setdefault(r, {}), plan, i, folds)
        if plan.q_core:
            _subtract_outer(sums.core, r, plan, i, folds)
    seen = {r: _times_core(inverse, dU.edge, at) for r, dU in kept.items()} if plan.q_core else {}
    UK = _times_core(inverse, U.edge, at) if plan.q_core else None
    own = np.array([r for r in params if r not in kept])
    if plan.q_core:  # all pairs of the group's own parameters at once: tr(N_core D_rs)
        form = product(product(changes.J, _level_forms(UK, U.edge, at)), _turned(changes.J))
        _add_contracted(sums.tt, changes.B, (form + _turned(form)) / 2, changes.E, own, -2.0)
    for r, s in combinations_with_replacement(sorted(params), 2):
        of_own = r not in kept and s not in kept
        if of_own and not plan.parents[i]:
            continue
        Y = U.weighted(changes.pair(r, s), at)
        folds = []
        for a, b in ((r, s), (s, r)):
            if a in kept:
                Y = Y + kept[a].weighted(N_first[b], at)
                folds.append((kept[a], WU[b]))
        if r in kept and s in kept:
            second = _rows_of(sums.second[r, s], i, U)
            Y = Y + second.weighted(changes.N, at)
            folds.append((second, NU))
        _subtract(sums.second.setdefault((r, s), {}), plan, i, [(U, Y), *folds])
        if plan.q_core and not of_own:
            value = np.vdot(UK, Y.edge)
            value += sum(np.vdot(seen[a], WU[b].edge) for a, b in ((r, s), (s, r)) if a in seen)
            if r in kept and s in kept:
                value += np.vdot(UK, second.weighted(changes.N, at).edge)
            sums.tt[r, s] += value


def _turned(A):
    return A.transpose(1, 0, 2)


def _level_forms(left, right, at):
    """Sum over the core's columns of left right' on every level: (s, s, l)."""
    if at is None:
        return np.einsum("sql,tql->stl", left, right)
    return np.add.reduceat(left[:, None] * right, at.starts, axis=-1)


def _edge(blocks, plan, i):
    if not plan.q_core:
        return None
    return blocks.border[:, : plan.q_core] if plan.entries[i] is None else blocks.entries


def _rows_of(derivative, i, like):
    """Rows of chain group i in a derivative of the Schur complements."""
    up = {k: derivative["up", i, k] for k in like.up}
    return Rows(up, None if like.edge is None else derivative["edge", i])


def _subtract(target, plan, i, folds):
    """target -= sum over levels of left' right, on the blocks of later chain groups."""
    for k in plan.parents[i]:
        for left, right in folds:
            _sub(target, ("own", k), _runs(plan, i, k, left.up[k], right.up[k]))
            for j in plan.parents[k]:
                _sub(target, ("up", k, j), _runs(plan, i, k, left.up[k], right.up[j]))
            if left.edge is not None:
                _sub(target, ("edge", k), _edge_sums(plan, i, k, left.up[k], right.edge))


def _sub(target, key, value):
    target[key] = target[key] - value if key in target else -value


def _runs(plan, i, k, A, B):
    return np.add.reduceat(crossproduct(A, B), plan.starts[i][k], axis=-1)


def _edge_sums(plan, i, k, up, edge):
    """Sum over children of up' edge, on the pattern of chain group k."""
    at = plan.entries[i]
    if at is None:
        return _runs(plan, i, k, up, edge)
    size = len(plan.entries[k].rows)
    values = np.einsum("kba,ka->ba", up[:, :, at.rows], edge)
    return np.stack([np.bincount(at.to_parent[k], row, size) for row in values])


def _subtract_outer(core, r, plan, i, folds):
    """Symmetric core[r] -= sum over levels of left' right over the core's columns."""
    q, at = plan.q_core, plan.entries[i]
    target = core.setdefault(r, np.zeros((q, q)))
    if at is None:
        for left, right in folds:
            target -= outer_sum(left.edge, right.edge)
        return
    lower = np.zeros(q * q)
    for a, b in at.pairs:
        values = sum(
            x[a] * y[b] for left, right in folds for x, y in zip(left.edge, right.edge, strict=True)
        )
        first, last = int(at.cols[a[0]]), int(at.cols[a[-1]]) + 1
        where = (at.cols[a] - first) * q + at.cols[b]
        lower[first * q : last * q] += np.bincount(where, values, (last - first) * q)
    target -= mirrored(lower.reshape(q, q))


def _times_core(inverse, edge, at):
    """Rows times N of the core, on the pattern of the rows."""
    K = inverse.core_covariance
    if at is None:
        return np.einsum("kl,slj->skj", K, edge, optimize=True)
    result, size = np.zeros_like(edge), edge.shape[1]
    flat = K.ravel()
    for a, b in at.pairs:
        value = flat.take(at.cols[a] * len(K) + at.cols[b])
        for s, v in enumerate(edge):
            result[s] += np.bincount(a, value * v[b], size)
            result[s] += np.bincount(b, value * v[a], size)
    return result - K.diagonal()[at.cols] * edge  # a = b was counted twice


def _add_core(inverse, E, at, sums):
    """Contributions of the core, which is one level with all of its groups."""
    plan = inverse.factor.plan
    chain = sorted(sums.core)
    K = inverse.core_covariance if chain else None
    KD = {}
    for r in chain:
        KD[r] = K @ sums.core[r]
        sums.t[r] += np.trace(KD[r])
        JD = inverse.core_inverse @ sums.core[r]
        _add_chain_with_core(inverse, r, JD, E, at, sums)
        for s in chain[: chain.index(r) + 1]:
            _add(sums.tt, r, s, np.vdot(KD[s], KD[r].T))
    B = inverse.core_information
    groups = list(enumerate(plan.core_groups, start=plan.n_chain))
    for n, (g, (group, rows)) in enumerate(groups):
        total = diagonal_blocks(B, rows, group.n_columns).sum(axis=0)
        for r in np.flatnonzero(at == g):
            sums.t[r] += np.sum(total * E[r])
        for h, (other, columns) in groups[: n + 1]:
            _add_core_pairs(B, (g, group, rows), (h, other, columns), E, at, sums)


def _add_chain_with_core(inverse, r, JD, E, at, sums):
    """- tr(E_s J D_r J') for every parameter s of the core."""
    plan = inverse.factor.plan
    for g, (group, rows) in enumerate(plan.core_groups, start=plan.n_chain):
        shape = group.n_levels, group.n_columns, -1
        left, right = JD[rows].reshape(shape), inverse.core_inverse[rows].reshape(shape)
        seen = np.einsum("lid,ljd->ij", left, right)
        for s in np.flatnonzero(at == g):
            _add(sums.tt, r, s, -np.sum(E[s] * seen))


def _add_core_pairs(B, first, second, E, at, sums):
    """tr(B E_r B E_s) for parameters r, s of two groups of the core."""
    (g, group, rows), (h, other, columns) = first, second
    s, w = group.n_columns, other.n_columns
    block = B[rows, columns]
    parts = [block[i::s, u::w].ravel() for i in range(s) for u in range(w)]
    both = np.empty((len(parts), len(parts)))
    for k, x in enumerate(parts):
        both[k, : k + 1] = both[: k + 1, k] = [x @ y for y in parts[: k + 1]]
    own, others = np.flatnonzero(at == g), np.flatnonzero(at == h)
    _add_pairs(sums.tt, both.reshape(s, w, s, w), E, own, others)
