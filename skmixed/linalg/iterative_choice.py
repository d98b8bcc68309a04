"""Which solver suits a design: what a direct fit would cost."""

from __future__ import annotations

import numpy as np

from skmixed.linalg.groups import RelatedGroup
from skmixed.linalg.pattern import elimination_order, machine_memory

# Rows of the core below which nothing needs to be estimated.
_SMALL = 2000
# Evaluations of a fit; seconds of one per cube of the core's rows, per pair of entries of a level
# and per multiply-add of a dense border.
_EVALUATIONS, _PER_CUBE, _PER_PAIR, _PER_DENSE = 7, 1 / 4e10, 2e-8, 8e-11
# Seconds of a direct fit that are worth an exact solution, and the share of memory it may take.
_PATIENCE, _SHARE = 20.0, 0.5
_BYTES = 28.0
# Effects of one level up to which its blocks are small.
_NARROW = 12


def prefers_iterative(groups, n_fixed, *, sums=None, memory=None):
    """Whether a direct fit of groups beside n_fixed columns of X takes too long or too much.

    ``sums``: the `Sums` of groups that have no rows.
    """
    sizes = [group.size for group in groups]
    if not sizes or sum(sizes) - max(sizes) + n_fixed < _SMALL:
        return False
    if any(isinstance(g, RelatedGroup) or g.n_columns > _NARROW for g in groups):
        return False
    order, n_chain, _ = elimination_order(groups, 0, None if sums is None else sums.some_together)
    d = sum(sizes[g] for g in order[n_chain:]) + n_fixed + 1
    memory = machine_memory() if memory is None else memory
    if _BYTES * d**2 > _SHARE * memory:
        return True
    first = groups[order[0]]
    if sums is None:
        rows = np.bincount(first.codes, minlength=first.n_levels)
    else:
        rows = sums.counts[order[0]]
    return direct_seconds(first, rows, d) > _PATIENCE


def direct_seconds(first, rows, d):
    """Estimated seconds of a direct fit with a core of d rows beside an eliminated group.

    rows (l,): number of rows of its levels.
    """
    rows = np.minimum(rows, d).astype(float)
    pairs = min(_PER_PAIR * float(rows @ rows) / 2, _PER_DENSE * first.size * float(d) ** 2)
    return _EVALUATIONS * (_PER_CUBE * float(d) ** 3 + pairs)
