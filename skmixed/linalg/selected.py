"""Entries of the inverse of the penalised system, on the pattern of the cross-products alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lapack

from skmixed.linalg.batched import product, product_sum
from skmixed.linalg.cholesky import eliminate
from skmixed.linalg.core import (
    diagonal_blocks,
    diagonal_sum,
    mirror_diagonal_blocks,
    mirrored,
    rows_matrix,
    scale_rows,
    solve_lower,
)
from skmixed.linalg.groups import RelatedGroup

# Below this share of information relative to the prior, I - S_ll has lost half of its digits.
_WELL_DETERMINED = 1e-6
# Rows of a core that is inverted by few calls instead of few operations.
_SMALL_CORE = 400


@dataclass(frozen=True)
class SelectedInverse:
    """Blocks of Lt S Lt' on the pattern of A.

    core (d, d), in a sparse plan only its lower triangle;
    own[i] (s, s, l) and border[i] (s, w, l) of chain group i;
    up[i] {later chain group: (s, s_k, l)} and entries[i] (s, nnz) or None likewise (entries[0]
    only if they were asked for);
    information[g] (s, s): sum over levels of the blocks of Z' P Z, for every group.
    """

    core: np.ndarray
    own: tuple[np.ndarray, ...]
    border: tuple[np.ndarray, ...]
    information: tuple[np.ndarray, ...]
    up: tuple[dict, ...]
    entries: tuple[np.ndarray | None, ...]


def selected_inverse(f, weight_x, weight_y, *, every=False):
    """SelectedInverse of S = L^-T diag(1, weight_x, weight_y) L^-1 for a BlockedFactor f.

    Takahashi's recurrence (Erisman and Tinney 1975), from the last group back to the first. Let a
    level have rows B in the columns R of everything later, and S* = Lt S Lt'. Its rows of the
    factor are L_l = (T'DT + I)^(1/2) and V = L_l^-1 T'B; from L'S = diag(w) L^-1 follows
    S_lR = -L_l^-T V S_RR, which in the scale of the data is, with N = T (T'DT + I)^-1 T',

        S*_lR = -N (B S*_RR),    S*_ll = N + N (B S*_RR B') N.

    B is zero outside the level's own pattern (parents, border, entries), and elimination makes no
    new entries there: so S* is needed on that pattern alone, where the groups that come later
    have left it. With K = B S*_RR B' and J = I - DN the information is J (D - K J').

    The entries of the first chain group, which only the rows themselves need, are computed if
    ``every`` is set.
    """
    plan = f.plan
    core = _core_inverse(plan, f.core, weight_x, weight_y)
    if plan.is_sparse:
        for group, rows in plan.core_groups:
            mirror_diagonal_blocks(core, rows, group.n_columns)
    information = [None] * plan.n_chain + _core_information(f, core, (weight_x, weight_y))
    for (_, rows), T in zip(plan.core_groups, f.T[plan.n_chain :], strict=True):
        scale_rows(core, rows, T.T)
        scale_rows(core[rows.start if plan.is_sparse else 0 :].T, rows, T.T)
    own, border = [None] * plan.n_chain, [None] * plan.n_chain
    above = {}
    for i in range(plan.n_chain - 1, -1, -1):
        group = f.chain[i]
        # no group has the first one's levels above its own and would ask for its entries
        every_entry = every or i > 0
        known = core, above, own, border
        up, edge, entries = _times_inverse(plan, i, group.blocks, known, every_entry)
        K = _quadratic(plan, i, group.blocks, up, edge, entries)
        if not every_entry and entries is not None:
            K = K + _pair_forms(core, group.blocks.entries, plan.entries[0])
        N, J = group.N, group.J
        seen = group.blocks.own - product(K, J.transpose(1, 0, 2))
        information[i] = product_sum(J, seen)
        own[i] = N + product(product(N, K), N)
        border[i] = -product(N, edge)
        above[i] = (
            {k: -product(N, u) for k, u in up.items()},
            None if entries is None else -_at_entries(N, entries, plan.entries[i]),
        )
    up, entries = ([above[i][j] for i in range(plan.n_chain)] for j in range(2))
    if entries and not every:
        entries[0] = None
    own, border, information, up = map(tuple, (own, border, information, up))
    return SelectedInverse(core, own, border, information, up, tuple(entries))


def information(f, weight_x, weight_y):
    """Sum over levels of the diagonal blocks of Z' P Z (s, s), for every group of the plan."""
    if f.plan.n_chain:
        return selected_inverse(f, weight_x, weight_y).information
    inverse = _core_inverse(f.plan, f.core, weight_x, weight_y)
    return _core_information(f, inverse, (weight_x, weight_y))


def _core_inverse(plan, L, weight_x, weight_y):
    """L^-T diag(1, weight_x, weight_y) L^-1.

    Where rows of the core are sparse only the lower triangle is complete.
    """
    d, q = len(L), plan.q_core
    weights = np.full(d - q, weight_x, dtype=float)
    weights[-1] = weight_y
    if d <= _SMALL_CORE:
        rows = solve_lower(L, np.eye(d), transposed=True)
        scaled = rows.copy()
        scaled[:, q:] *= weights
        return scaled @ rows.T
    inverse, _ = lapack.dpotri(np.array(L).T, lower=0, overwrite_c=1)
    inverse = inverse.T
    changed = np.flatnonzero(weights != 1.0)
    unit = np.zeros((d, len(changed)), order="F")
    unit[q + changed, np.arange(len(changed))] = 1.0
    rows = solve_lower(L, unit, transposed=True)
    for j, w in enumerate(weights[changed] - 1.0):
        _rank_one(inverse, rows[:, j], w)
    complete = inverse[q:, q:] if plan.is_sparse else inverse
    complete[:] = mirrored(complete)
    return inverse


def _rank_one(A, x, weight):
    """A += weight x x', by bands of rows so that no second d x d array is made."""
    band = max(1, (1 << 22) // len(x))
    for lo in range(0, len(x), band):
        A[lo : lo + band] += np.outer(weight * x[lo : lo + band], x)


def _core_information(f, S, weights):
    """Sum over levels of the diagonal blocks of Z' P Z, for every group of the core.

    Since Omega S = L diag(w) L^-1, the block is T^-T (I - S_ll) T^-1 summed; where T is (nearly)
    singular that difference is empty of digits and the blocks are computed from the Schur
    complement instead.
    """
    result, direct = {}, []
    for k, (group, rows) in enumerate(f.plan.core_groups, start=f.plan.n_chain):
        T, s = f.T[k], group.n_columns
        own = diagonal_sum(f.products.core, rows, s) / group.n_levels
        if _least_eigenvalue(T.T @ own @ T) < _WELL_DETERMINED:
            direct.append(k)
            continue
        excess = diagonal_sum(S, rows, s)
        shrunk = np.eye(s) * group.n_levels - (excess + excess.T) / 2
        result[k] = shrunk / T**2 if s == 1 else _solve_both(T.T, shrunk)
    if direct:
        result.update(_direct_information(f, direct, weights))
    return [result[k] for k in sorted(result)]


def _solve_both(A, B):
    """A^-1 B A^-T."""
    half = lapack.dgesv(A, B)[2]
    return lapack.dgesv(A, half.T)[2]


def _least_eigenvalue(A):
    return A[0, 0] if len(A) == 1 else lapack.dsyevd(A, compute_v=0)[0][0]


def _direct_information(f, direct, weights):
    """{group: sum of diagonal blocks} of C - C Lt S Lt' C, C the Schur complement of the chain."""
    plan, result = f.plan, {}
    _, core, _ = eliminate(f.products, f.T)
    for k in direct:
        group, rows = plan.core_groups[k - plan.n_chain]
        s = group.n_columns
        mirror_diagonal_blocks(core, rows, s)
        block = core[rows, rows]
        block = mirrored(block)
        columns = np.concatenate([core[rows, : rows.start].T, block, core[rows.stop :, rows]])
        own = diagonal_sum(block, slice(0, len(block)), s)
        for (_, at), T in zip(plan.core_groups, f.T[plan.n_chain :], strict=True):
            scale_rows(columns, at, T)
        x = solve_lower(f.core, columns)
        x[plan.q_core : -1] *= np.sqrt(weights[0])
        x[-1] *= np.sqrt(weights[1])
        x = x.reshape(len(x), -1, s)
        result[k] = own - np.einsum("dls,dlt->st", x, x)
    return result


def _times_inverse(plan, i, blocks, known, every_entry):
    """Rows of chain group i times the scaled inverse of the rest, on the rows' own pattern.

    Every column of the pattern sums over everything that the level meets: its parents, the
    border, its entries. ``known``: core, above, own, border of the groups that come later.
    Returns {k: (s, s_k, l)}, (s, w, l) and (s, nnz) or None.
    """
    core, above, own, border = known
    q, edge = plan.q_core, plan.border_slice(i)
    at, parents = plan.entries[i], plan.parents[i]
    on_border = np.matmul(core[edge, edge], blocks.border)
    for k, parent in parents.items():
        on_border = on_border + product(blocks.up[k], border[k][..., parent])
    up = {}
    for k in parents:
        up[k] = product(blocks.border, border[k][..., parents[k]].transpose(1, 0, 2))
        for j in parents:
            up[k] = up[k] + product(blocks.up[j], _between(j, k, parents, above, own))
    if at is None:
        return up, on_border, None
    on_entries = np.zeros_like(blocks.entries)
    for s, values in enumerate(blocks.entries):
        on_border[s] += (rows_matrix(values, at, plan) @ core[edge, :q].T).T
        for r, row in enumerate(core[edge, :q]):
            on_entries[s] += blocks.border[s, r, at.rows] * row[at.cols]
    for k in parents:
        shared = above[k][1][:, at.to_parent[k]]
        on_entries += np.einsum("ska,ka->sa", blocks.up[k][:, :, at.rows], shared)
        up[k] = up[k] + np.add.reduceat(blocks.entries[:, None] * shared, at.starts, axis=-1)
    if every_entry:
        _add_pairs(on_entries, core, blocks.entries, at)
    return up, on_border, on_entries


def _between(j, k, parents, above, own):
    """Block (s_j, s_k, l) of the scaled inverse between the parents of each level in j and k.

    A level's parents form a chain themselves (class, school, region): the parent in the earlier
    group has the parent in the later one above it, so that the block was stored with the earlier
    one's levels, in ``above[earlier][0][later]``.
    """
    if j == k:
        return own[k][..., parents[k]]
    if j < k:
        return above[j][0][k][..., parents[j]]
    return above[k][0][j][..., parents[k]].transpose(1, 0, 2)


def _pair_values(core, at):
    """(a, b, core[col a, col b]) by chunks."""
    flat, d = core.ravel(), len(core)
    for a, b in at.pairs:
        yield a, b, flat.take(at.cols[a] * d + at.cols[b])


def _add_pairs(result, core, entries, at):
    """result_a += sum of core[col a, col b] v_b over the entries b in a's level."""
    size = entries.shape[1]
    for a, b, value in _pair_values(core, at):
        for s, v in enumerate(entries):
            result[s] += np.bincount(a, value * v[b], size)
            result[s] += np.bincount(b, value * v[a], size)
    result -= core.diagonal()[at.cols] * entries  # a = b was counted twice


def _pair_forms(core, entries, at):
    """Sum of v_a core[col a, col b] v_b' over all entries a, b of each level: (s, s, l)."""
    s, n_levels = len(entries), len(at.starts)
    forms = np.zeros((s, s, n_levels))
    for a, b, value in _pair_values(core, at):
        level = at.rows[a]
        for i, v in enumerate(entries):
            for j, w in enumerate(entries[: i + 1]):
                both = v[a] * w[b] + w[a] * v[b] if i != j else 2.0 * v[a] * v[b]
                forms[i, j] += np.bincount(level, value * both, n_levels)
    for i in range(s):
        forms[:i, i] = forms[i, :i]
    twice = core.diagonal()[at.cols] * entries[:, None] * entries  # a = b was counted twice
    return forms - np.add.reduceat(twice, at.starts, axis=-1)


def _at_entries(N, entries, at):
    return np.einsum("kia,ia->ka", N[:, :, at.rows], entries)


def _quadratic(plan, i, blocks, up, edge, entries):
    """K_l = B_l S B_l' (s, s, l)."""
    K = product(blocks.border, edge.transpose(1, 0, 2))
    for k, u in up.items():
        K = K + product(blocks.up[k], u.transpose(1, 0, 2))
    if entries is not None:
        products = blocks.entries[:, None] * entries[None]
        K = K + np.add.reduceat(products, plan.entries[i].starts, axis=-1)
    return K


def conditional_blocks(f):
    """Lambda (Omega_uu)^-1 Lambda' on the diagonal blocks: (s, s, l) for every group.

    Levels are those that the codes count.
    """
    plan, inverse = at_levels(f.plan, selected_inverse(f, 0.0, 0.0))
    return [own_block(plan, inverse, g) for g in range(len(plan.groups))]


def at_levels(plan, inverse):
    """Plan and SelectedInverse of the random effects at the levels that the codes count.

    Elsewhere those of related levels are at the independent ones that these are mixtures of. A
    related group that was eliminated is alone.
    """
    if not any(isinstance(group, RelatedGroup) for group in plan.groups):
        return plan, inverse
    groups = tuple(group.plain for group in plan.groups)
    offsets = tuple(np.cumsum([0] + [g.size for g in groups[plan.n_chain :]]).tolist())
    at = replace(plan, groups=groups, offsets=offsets)
    if plan.n_chain and isinstance(plan.groups[0], RelatedGroup):
        own = (inverse.own[0] @ np.square(plan.groups[0].loadings).T,)
        return at, replace(inverse, own=own)
    core = _at_levels(plan, _at_levels(plan, inverse.core).T)
    border = tuple(
        _at_levels(plan, b.transpose(1, 0, 2)).transpose(1, 0, 2) for b in inverse.border
    )
    return at, replace(inverse, core=core, border=border)


def _at_levels(plan, A):
    """Rows A (d, ...) of the core at the levels that the codes count."""
    parts = []
    for group, rows in plan.core_groups:
        part = A[rows]
        if isinstance(group, RelatedGroup):
            flat = group.loadings @ part.reshape(group.n_levels, -1)
            part = flat.reshape(-1, *part.shape[1:])
        parts.append(part)
    return np.concatenate([*parts, A[plan.q_core :]])


def own_block(plan, inverse, g):
    """Diagonal blocks (s, s, l) of a SelectedInverse for group g of the plan."""
    if g < plan.n_chain:
        return inverse.own[g]
    group, rows = plan.core_groups[g - plan.n_chain]
    view = diagonal_blocks(inverse.core, rows, group.n_columns)
    full = np.tril(view) + np.tril(view, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(full.transpose(1, 2, 0))
