"""Quadratic forms of the rows of the data in a matrix that is known on their pattern."""

from __future__ import annotations

import numpy as np

from skmixed.linalg.selected import at_levels, own_block


def leverages(plan, inverse):
    """z_i' M z_i (n,) with z_i a row of Z and M given on the pattern of Z'Z (SelectedInverse).

    The plan has groups, and they still have their rows. Each row meets one level of every group,
    so the form is a sum over pairs of groups of z_g' M_gh z_h with the block between these levels.
    """
    plan, inverse = at_levels(plan, inverse)
    total = np.zeros(len(plan.groups[0].codes))
    for g, group in enumerate(plan.groups):
        total += group.level_forms(own_block(plan, inverse, g))
        for h in range(g + 1, len(plan.groups)):
            total += 2.0 * group.forms(_between(plan, inverse, g, h), plan.groups[h])
    return total


def row_products(plan, inverse):
    """(M z_i) (n, s) at the levels that row i meets, for every group of the plan."""
    plan, inverse = at_levels(plan, inverse)
    products = [
        np.einsum("stn,nt->ns", own_block(plan, inverse, g)[..., group.codes], group.z)
        for g, group in enumerate(plan.groups)
    ]
    for g, group in enumerate(plan.groups):
        for h in range(g + 1, len(plan.groups)):
            block = _between(plan, inverse, g, h)
            products[g] += np.einsum("stn,nt->ns", block, plan.groups[h].z)
            products[h] += np.einsum("stn,ns->nt", block, group.z)
    return products


def _between(plan, inverse, g, h):
    """Block (s, t, n) between the levels that each row has in groups g < h."""
    group = plan.groups[g]
    if h < plan.n_chain:
        return inverse.up[g][h][..., group.codes]
    place = _places(plan, h)
    if g >= plan.n_chain:  # the later group has the later rows: the lower triangle
        return inverse.core[place[:, None, :], _places(plan, g)[:, :, None]].transpose(1, 2, 0)
    if plan.entries[g] is None:
        return inverse.border[g][:, place, group.codes[:, None]].transpose(0, 2, 1)
    cell, where = plan.cells[g, h - plan.n_chain]
    return inverse.entries[g][:, where[cell]].transpose(0, 2, 1)


def _places(plan, g):
    """Rows of the core (n, s) of every row's level in group g."""
    group, rows = plan.core_groups[g - plan.n_chain]
    return rows.start + group.codes[:, None] * group.n_columns + np.arange(group.n_columns)
