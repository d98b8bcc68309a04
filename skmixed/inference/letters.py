"""Letters that say which means differ."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, combinations_with_replacement
from string import ascii_letters

import numpy as np


def compact_letters(different, values) -> list[str]:
    """Letters of k means: two that share one do not differ significantly.

    Starting from one letter for all, every pair that differs splits the letters that both have
    (insert), and letters whose means are among those of another are dropped (absorb). At the end
    letters go that say nothing that others do not say.

    Parameters
    ----------
    different : (k (k - 1) / 2,) bool
        For the pairs (0, 1), (0, 2), ..., whether they differ.
    values : (k,)
        The means; ``a`` goes to the smallest. NaN ones have no letter.

    Examples
    --------
    >>> from skmixed.inference.letters import compact_letters
    >>> compact_letters([False, True, False], [1.0, 2.0, 3.0])
    ['a', 'ab', 'b']
    """
    values = np.asarray(values, dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    groups = [frozenset(known.tolist())] if len(known) else []
    for (i, j), differs in zip(combinations(range(len(values)), 2), different, strict=True):
        if differs:
            split = [own - {k} for own in groups if {i, j} <= own for k in (i, j)]
            groups = _absorbed([own for own in groups if not {i, j} <= own] + split)
    groups = _needed(groups)
    groups.sort(key=lambda own: sorted(values[list(own)]))
    found = [""] * len(values)
    for name, own in zip(_names(), groups, strict=False):
        for k in own:
            found[k] += name
    return found


def _absorbed(groups):
    """Groups that are not within another one."""
    distinct = list(dict.fromkeys(groups))
    return [own for own in distinct if not any(own < other for other in distinct)]


def _needed(groups):
    """Groups without those whose pairs all share another one, the smallest first."""
    said = Counter(pair for own in groups for pair in _pairs(own))
    found = list(groups)
    for own in sorted(groups, key=len):
        if all(said[pair] > 1 for pair in _pairs(own)):
            said.subtract(_pairs(own))
            found.remove(own)
    return found


def _pairs(own):
    """Pairs of members, each with itself too."""
    return combinations_with_replacement(sorted(own), 2)


def _names():
    yield from ascii_letters
    yield from (f"{a}{b}." for a in ascii_letters for b in ascii_letters)
