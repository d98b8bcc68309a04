"""Vectors over all unknowns of a mixed model, and their storage in the blocked factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Effects:
    """Vectors over all unknowns, k of them side by side.

    Attributes
    ----------
    random : sequence of (s, k, l)
        By group in the user's order, levels as the user's codes count them.
    fixed : (r, k)
    """

    random: Sequence[np.ndarray]
    fixed: np.ndarray

    @classmethod
    def of(cls, random, fixed):
        """One vector from arrays (s, l) and (r,)."""
        return cls([x[:, None] for x in random], fixed[:, None])

    def __getitem__(self, g):
        return self.random[g]

    def __add__(self, other):
        return Effects(
            [x + y for x, y in zip(self.random, other.random, strict=True)],
            self.fixed + other.fixed,
        )

    def __sub__(self, other):
        return Effects(
            [x - y for x, y in zip(self.random, other.random, strict=True)],
            self.fixed - other.fixed,
        )

    def times(self, number):
        """The vectors times a number."""
        return Effects([number * x for x in self.random], number * self.fixed)

    def dot(self, other):
        """Inner products (k, m) with m other vectors."""
        pairs = zip(self.random, other.random, strict=True)
        random = sum(np.einsum("skl,sml->km", x, y) for x, y in pairs)
        return random + self.fixed.T @ other.fixed

    def columns(self, at):
        """The vectors in a slice of the columns."""
        return Effects([x[:, at] for x in self.random], self.fixed[:, at])

    def beside(self, other):
        """These vectors, then the other ones."""
        pairs = zip(self.random, other.random, strict=True)
        return Effects(
            [np.concatenate(pair, axis=1) for pair in pairs],
            np.concatenate([self.fixed, other.fixed], axis=1),
        )

    def levels(self):
        """The random effects of a single vector: a list of (s, l)."""
        return [x[:, 0] for x in self.random]


# Inside the factor a vector is a list of *parts*: one array (s, k, l) per chain group and last one
# array (d, k) for the core, whose final rows belong to X and y.


def to_parts(plan, effects):
    """Parts of Effects for the groups of a plan; the row of y is zero."""
    r, k = effects.fixed.shape
    core = np.zeros((plan.q_core + plan.n_tail, k), order="F")
    parts = []
    for i, g in enumerate(plan.order):
        x, place = effects.random[g], plan.positions[i]
        if i < plan.n_chain:
            parts.append(x if place is None else _placed(x, place))
        else:
            moved = x.transpose(2, 0, 1).reshape(x.shape[0] * x.shape[2], k)
            core[plan.core_groups[i - plan.n_chain][1]] = moved
    core[plan.q_core : plan.q_core + r] = effects.fixed
    return [*parts, core]


def from_parts(plan, parts):
    """Effects of parts."""
    return Effects(random_parts(plan, parts), parts[-1][plan.q_core : -1])


def random_parts(plan, parts):
    """The random effects (s, k, l) of parts, a list by group in the user's order."""
    random = [as_given(plan, i, part) for i, part in enumerate(parts[:-1])]
    for group, rows in plan.core_groups:
        block = parts[-1][rows].reshape(group.n_levels, group.n_columns, -1)
        random.append(block.transpose(1, 2, 0))
    return in_given_order(plan, random)


def in_given_order(plan, by_group):
    """A list by group in the user's order from one in the order of elimination."""
    if len(by_group) == 1:
        return by_group
    result = [None] * len(by_group)
    for g, x in zip(plan.order, by_group, strict=True):
        result[g] = x
    return result


def as_given(plan, i, part):
    """An array (..., l) over the levels of plan group i, in the user's order of levels."""
    place = plan.positions[i]
    return part if place is None else part[..., place]


def _placed(x, place):
    moved = np.empty_like(x)
    moved[..., place] = x
    return moved
