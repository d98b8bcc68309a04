"""The marginal inverse V0^-1 between the columns of Z, X and y, and its traces.

With Gamma = Lambda Lambda' the marginal covariance is V0 = W^-1 + Z Gamma Z', and for few columns U

    Z' V0^-1 U = (I + A_zz Gamma)^-1 Z' W U,    H = Z' V0^-1 Z = (I + A_zz Gamma)^-1 A_zz.

Both are solved for by blocks: J = (I + D Gamma)^-1 on every eliminated level, then the core. The
difference A - A Lambda (LL')^-1 Lambda' A would lose Gamma times the rounding. H itself is never
formed over an eliminated factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from skmixed.linalg.batched import diagonal_add, product
from skmixed.linalg.cholesky import BlockedFactor, eliminate, multiply
from skmixed.linalg.core import mirrored, solve_lower
from skmixed.linalg.effects import from_parts, to_parts
from skmixed.linalg.pattern import machine_memory
from skmixed.linalg.traces import covariance_traces

# Matrices of the core's size that traces take, and those for every parameter of the chain.
_COPIES, _COPIES_OF_A_PARAMETER = 9, 2


@dataclass(frozen=True)
class MarginalInverse:
    """V0^-1 at the parameters of a BlockedFactor that still has its cross-products."""

    factor: BlockedFactor

    @cached_property
    def fixed(self):
        """[X y]' V0^-1 [X y] (p + 1, p + 1)."""
        root = self.fixed_root
        return root @ root.T

    @cached_property
    def fixed_root(self):
        """Lower triangular root of :attr:`fixed`."""
        q = self.factor.plan.q_core
        return np.tril(self.factor.core[q:, q:])

    @cached_property
    def coefficients(self):
        """Generalised least squares of y on X (p,)."""
        root = self.fixed_root
        return solve_lower(root[:-1, :-1], root[-1:, :-1].T, transposed=True)[:, 0]

    @cached_property
    def effects_fixed(self):
        """Z' V0^-1 [X y]: Effects of p + 1 columns, zeros for X."""
        f, plan = self.factor, self.factor.plan
        rhs = [blocks.border[:, -plan.n_tail :] for blocks in f.products.chain]
        tail = np.zeros((plan.q_core + plan.n_tail, plan.n_tail))
        tail[: plan.q_core] = f.products.core[plan.q_core :, : plan.q_core].T
        return from_parts(plan, self._solve([*rhs, tail]))

    def times(self, effects):
        """H R = Z' V0^-1 Z R, and zeros for X, for Effects R whose fixed part is zero."""
        f = self.factor
        return from_parts(f.plan, self._solve(multiply(f.products, to_parts(f.plan, effects))))

    def traces(self, directions):
        """tr(V0^-1 G_r) (K,) and tr(V0^-1 G_r V0^-1 G_s) (K, K), G_r = Z D_r Z' by Direction."""
        return covariance_traces(self, directions)

    def has_room_for_traces(self, directions):
        """Whether the machine's memory holds what the traces need."""
        plan = self.factor.plan
        chain = sum(plan.order.index(d.group) < plan.n_chain for d in directions)
        copies = _COPIES + _COPIES_OF_A_PARAMETER * chain
        return copies * 8.0 * plan.q_core**2 <= machine_memory()

    def _solve(self, rhs):
        """Parts of (I + A_zz Gamma)^-1 rhs."""
        f, plan = self.factor, self.factor.plan
        rest = [x.copy() for x in rhs]
        for i, group in enumerate(f.chain):
            f._propagate(i, group, product(group.N, rest[i]), rest)
        tail, found = np.zeros(rest[-1].shape), [None] * plan.n_chain
        seen = np.zeros(rest[-1].shape)
        if plan.q_core:
            seen[: plan.q_core] = self._solve_core(rest[-1][: plan.q_core])
            tail[: plan.q_core] = self._core_gamma(seen[: plan.q_core])
        effects = [*found, tail]
        for i in range(plan.n_chain - 1, -1, -1):
            left = rest[i] - f._rest(i, f.chain[i].blocks, effects)
            effects[i], found[i] = product(f.chain[i].N, left), product(self.level_inverse(i), left)
        return [*found, seen]

    def level_inverse(self, i):
        """J = (I + D Gamma)^-1 (s, s, l) of chain group i, to its own rounding.

        One step of Newton's iteration mends what I - D N loses.
        """
        return self._level_inverses[i]

    @cached_property
    def _level_inverses(self):
        inverses = []
        for group, T in zip(self.factor.chain, self.factor.T, strict=False):
            gamma = (T @ T.T)[:, :, None]
            X = diagonal_add(product(group.blocks.own, np.broadcast_to(gamma, group.N.shape)), 1.0)
            if len(T) == 1:
                inverses.append(1.0 / X)
                continue
            J = group.J
            gap = diagonal_add(-product(X, J), 1.0)
            inverses.append(J + product(J, gap))
        return inverses

    @cached_property
    def core(self):
        """Symmetric Schur complement E (q, q) of the core's random effects."""
        f, q = self.factor, self.factor.plan.q_core
        core = eliminate(f.products, f.T)[1] if f.plan.n_chain else f.products.core
        return mirrored(core[:q, :q])

    @cached_property
    def _core_lu(self):
        X = self._core_gamma(self.core)
        X.reshape(-1)[:: len(X) + 1] += 1.0
        lu, pivots, _ = lapack.dgetrf(X.T, overwrite_a=1)
        return lu, pivots

    def _solve_core(self, rhs):
        """(I + E Gamma)^-1 rhs."""
        return lapack.dgetrs(*self._core_lu, rhs)[0]

    @cached_property
    def core_inverse(self):
        """J = (I + E Gamma)^-1 (q, q)."""
        return self._solve_core(np.eye(len(self.core)))

    @cached_property
    def core_information(self):
        """(I + E Gamma)^-1 E (q, q), the core's block of H."""
        found = self._solve_core(self.core)
        return (found + found.T) / 2

    @cached_property
    def core_covariance(self):
        """Gamma (I + E Gamma)^-1 (q, q)."""
        found = self._core_gamma(self.core_inverse)
        return (found + found.T) / 2

    def _core_gamma(self, A):
        """Gamma A for rows A of the core's random effects."""
        plan, result = self.factor.plan, np.empty(A.shape)
        T = self.factor.T[plan.n_chain :]
        for (group, rows), T_g in zip(plan.core_groups, T, strict=True):
            stacked = A[rows].reshape(group.n_levels, len(T_g), -1)
            result[rows] = np.matmul(T_g @ T_g.T, stacked).reshape(-1, A.shape[1])
        return result
