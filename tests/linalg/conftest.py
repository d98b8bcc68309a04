"""Penalised systems of every structure, beside the same matrices written out densely."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pytest
from scipy.linalg import block_diag

from skmixed.linalg import pattern
from skmixed.linalg.crossproducts import assemble
from skmixed.linalg.groups import Group
from skmixed.linalg.pattern import GramPlan

N_ROWS = 240


@dataclass(frozen=True)
class Dense:
    """A plan with its cross-products and factors T, and A, Lt and chol(Omega) as dense arrays.

    Unknowns are ordered as the plan eliminates them: group by group, level by level.
    """

    plan: GramPlan
    weights: np.ndarray | None
    tail: np.ndarray
    T: list

    @cached_property
    def products(self):
        return assemble(self.plan, self.weights, self.tail[:, :-1], self.tail[:, -1])

    @cached_property
    def Z(self):
        blocks = []
        for group in self.plan.groups:
            Z = np.zeros((len(self.tail), group.size))
            for s in range(group.n_columns):
                Z[np.arange(len(Z)), group.codes * group.n_columns + s] = group.z[:, s]
            blocks.append(Z)
        return np.hstack(blocks) if blocks else np.zeros((len(self.tail), 0))

    @cached_property
    def inverse_root(self):
        """L^-1."""
        return np.linalg.inv(self.L)

    @property
    def q(self):
        return sum(group.size for group in self.plan.groups)

    @cached_property
    def A(self):
        rows = np.hstack([self.Z, self.tail])
        return rows.T @ (rows if self.weights is None else rows * self.weights[:, None])

    @cached_property
    def Lt(self):
        blocks = [
            np.kron(np.eye(g.n_levels), T) for g, T in zip(self.plan.groups, self.T, strict=True)
        ]
        return block_diag(*blocks, np.eye(self.tail.shape[1]))

    @cached_property
    def L(self):
        prior = np.diag(np.repeat([1.0, 0.0], [self.q, self.tail.shape[1]]))
        return np.linalg.cholesky(self.Lt.T @ self.A @ self.Lt + prior)

    def flat(self, parts):
        """Parts of the blocked factor as one array of rows in the order of the unknowns."""
        levels = [part.transpose(2, 0, 1).reshape(-1, part.shape[1]) for part in parts[:-1]]
        return np.vstack([*levels, parts[-1]])

    def parts(self, rows):
        """The inverse of :meth:`flat`."""
        result, begin = [], 0
        for group in self.plan.groups[: self.plan.n_chain]:
            block = rows[begin : begin + group.size]
            block = block.reshape(group.n_levels, group.n_columns, -1)
            result.append(np.ascontiguousarray(block.transpose(1, 2, 0)))
            begin += group.size
        return [*result, rows[begin:].copy()]

    def diagonal_blocks(self, matrix):
        """(l, s, s) blocks of every group on the diagonal of a matrix over the unknowns."""
        begin = 0
        for group in self.plan.groups:
            s = group.n_columns
            at = begin + np.arange(group.n_levels) * s
            yield np.stack([matrix[i : i + s, i : i + s] for i in at])
            begin += group.size


def _covariates(rng, s):
    if s == 1:
        return np.broadcast_to(1.0, (N_ROWS, 1))
    return np.column_stack([np.ones(N_ROWS), rng.normal(size=(N_ROWS, s - 1))])


def _factors(rng):
    """Codes of pupils in classes in schools, and of items and days that cross all of them."""
    pupil, school = rng.integers(0, 40, N_ROWS), rng.permutation(40) % 12
    region = rng.permutation(12) % 3
    return {
        "pupil": pupil,
        "school": school[pupil],
        "region": region[school[pupil]],
        "item": rng.integers(0, 15, N_ROWS),
        "day": rng.integers(0, 4, N_ROWS),
    }


def random_system(structure, seed):
    """Dense for (factor, number of effects) pairs, weighted for odd seeds."""
    rng = np.random.default_rng(seed)
    factors, groups = _factors(rng), []
    for name, s in structure:
        levels, codes = np.unique(factors[name], return_inverse=True)
        groups.append(Group(codes, _covariates(rng, s), len(levels)))
    tail = rng.normal(size=(N_ROWS, 4))
    plan = GramPlan.build(groups, tail.shape[1])
    T = [np.tril(rng.normal(size=(g.n_columns, g.n_columns))) for g in plan.groups]
    return Dense(plan, rng.uniform(0.5, 2.0, N_ROWS) if seed % 2 else None, tail, T)


STRUCTURES = {
    "none": [],
    "one-1": [("pupil", 1)],
    "one-2": [("pupil", 2)],
    "one-3": [("pupil", 3)],
    "chain-2": [("school", 2), ("pupil", 1)],
    "chain-3": [("school", 1), ("pupil", 2), ("region", 3)],
    "crossed-2": [("item", 1), ("pupil", 1)],
    "crossed-3": [("item", 2), ("pupil", 3), ("day", 1)],
    "chain-crossed": [("item", 2), ("school", 1), ("pupil", 2), ("day", 1), ("region", 2)],
}
# The crossed factors meet the chain through a dense border or through sparse entries, whichever
# costs less; both are exact, and both are tested by making the other one expensive.
ROUTES = {"dense": 1e9, "sparse": 0.0}
CASES = [
    (name, route)
    for name in STRUCTURES
    for route in ROUTES
    if "crossed" in name or route == "dense"
]


@cache
def _system(name, route):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pattern, "_PAIR_COST", ROUTES[route])
        return random_system(STRUCTURES[name], seed=len(name))


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def system(request):
    """The same system for all tests: nothing may change it."""
    name, route = request.param
    made = _system(name, route)
    sparse = [entries is not None for entries in made.plan.entries]
    assert all(sparse) if route == "sparse" else not any(sparse)
    return made
