"""Quadratic forms v' (A-hat)^-1 v of single rows: the uncertainty of predictions."""

from __future__ import annotations

import numpy as np

from skmixed.linalg.core import rows_matrix, scale_rows, solve_lower
from skmixed.linalg.groups import RelatedGroup

_CHUNK = 1 << 21


def row_norms(factor, codes, z, x, fixed_root=None):
    """|L^-1 Lt' v_i|^2 for rows v_i = (z_i in the columns of its levels, x_i).

    This is the variance, in units of sigma^2, of x_i'(beta-hat - beta) + z_i'(b-hat - b).

    Parameters
    ----------
    factor : BlockedFactor
    codes : list of (n,) arrays
        Level (position in elimination) of every row in every group of the plan, -1 for none.
    z : list of (n, s) arrays
    x : (n, p)
    fixed_root : (p, p), optional
        Lower root of the information on the fixed effects, where it is not the factor's own.

    Returns
    -------
    (n,)
    """
    n = len(x)
    result = np.empty(n)
    root = _regular(factor.core)
    # in the last rows of L^-1 v another root F replaces the factor's own R: F^-1 (R w) for w
    turn = None if fixed_root is None else solve_lower(fixed_root, factor.fixed_root)
    most = max(len(factor.core), factor.plan.groups[0].n_levels if _is_alone(factor) else 0)
    step = max(1, _CHUNK // most)
    for lo in range(0, n, step):
        rows = slice(lo, min(lo + step, n))
        result[rows] = _chunk(factor, [c[rows] for c in codes], [a[rows] for a in z], x[rows],
                              root, turn)  # fmt: skip
    return result


def _regular(core):
    """The core with another last pivot where that of y is 0, as no row of y is asked for."""
    if core[-1, -1] > 0:
        return core
    core = core.copy()
    core[-1, -1] = 1.0
    return core


def _chunk(factor, codes, z, x, root, turn):
    plan = factor.plan
    core = _core_rows(factor, codes, z, x)
    if _is_alone(factor):
        return _related_chunk(factor, codes[0], z[0], core, root, turn)
    slots = [[_known(c, a)] for c, a in zip(codes[: plan.n_chain], z, strict=False)]
    total = np.zeros(len(x))
    for i, group in enumerate(factor.chain):
        for levels, vector in _merged(slots[i]):
            whitened = np.einsum("ijn,jn->in", group.H[..., levels], vector)
            total += np.einsum("in,in->n", whitened, whitened)
            moved = np.einsum("ijn,jn->in", group.N[..., levels], vector)
            _move(plan, i, group.blocks, levels, moved, slots, core)
    for (_, rows), T in zip(plan.core_groups, factor.T[plan.n_chain :], strict=True):
        scale_rows(core, rows, T)
    return total + _core_norms(plan, core, root, turn)


def _core_norms(plan, core, root, turn):
    solved = solve_lower(root, core)[:-1]
    if turn is not None:
        solved[plan.q_core :] = turn @ solved[plan.q_core :]
    return np.einsum("dn,dn->n", solved, solved)


def _is_alone(factor):
    """Whether the only group has levels that are mixtures of those that were eliminated."""
    return factor.plan.n_chain == 1 and isinstance(factor.plan.groups[0], RelatedGroup)


def _related_chunk(factor, codes, z, core, root, turn):
    """_chunk where a row meets all levels of the only group, one effect each."""
    [group], plan = factor.chain, factor.plan
    L = plan.groups[0].loadings[codes] * np.where(codes >= 0, z[:, 0], 0.0)[:, None]
    core -= group.blocks.border[0] @ (L * group.N[0, 0]).T
    return np.square(L) @ group.N[0, 0] + _core_norms(plan, core, root, turn)


def _core_rows(factor, codes, z, x):
    plan, n = factor.plan, len(x)
    core = np.zeros((len(factor.core), n), order="F")
    core[plan.q_core : -1] = x.T
    for k, (group, rows) in enumerate(plan.core_groups, start=plan.n_chain):
        levels, vector = _known(codes[k], z[k])
        if isinstance(group, RelatedGroup):
            own = np.einsum("nl,sn->lsn", group.loadings[levels], vector)
            core[rows] = own.reshape(group.size, n)
            continue
        for s, values in enumerate(vector):
            core[rows.start + levels * group.n_columns + s, np.arange(n)] = values
    return core


def _known(codes, z):
    """Levels and covariates (s, n), zero covariates where the level is unknown."""
    known = codes >= 0
    return np.where(known, codes, 0), np.where(known, z.T, 0.0)


def _merged(slots):
    """Slots in which no row has the same level twice (equal levels are added up)."""
    slots = list(slots)
    for second in range(1, len(slots)):
        levels, vector = slots[second]
        for first in range(second):
            same = (slots[first][0] == levels)[None]
            slots[first] = slots[first][0], slots[first][1] + np.where(same, vector, 0.0)
            vector = np.where(same, 0.0, vector)
        slots[second] = levels, vector
    return slots


def _move(plan, i, blocks, levels, moved, slots, core):
    """Take B' N v from the later unknowns of every row."""
    for k, parent in plan.parents[i].items():
        change = -np.einsum("ijn,in->jn", blocks.up[k][..., levels], moved)
        slots[k].append((parent[levels], change))
    core[plan.border_slice(i)] -= np.einsum("iwn,in->wn", blocks.border[..., levels], moved)
    if blocks.entries is not None:
        for values, v in zip(blocks.entries, moved, strict=True):
            rows = rows_matrix(values, plan.entries[i], plan)[levels].multiply(v[:, None])
            core[: plan.q_core] -= rows.toarray().T
