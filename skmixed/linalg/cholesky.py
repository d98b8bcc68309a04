"""Cholesky factor of the penalised system, and everything that is read off it.

For relative covariance factors T (one per grouping factor, Lambda = blockdiag(T)) the system is

    Omega = Lt' A Lt + diag(I, 0, 0),    A = [Z X y]' W [Z X y],    Lt = diag(Lambda, I, 1).

The chain groups are eliminated level by level on *unscaled* blocks: with D the blocks of a group,
H = L^-1 T' and N = H'H = T (T'DT + I)^-1 T', its elimination takes B' N B from the rest, so the
cross-products B are never rescaled. What remains, the core, is scaled once and factored densely.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from scipy.linalg import blas, lapack

from skmixed.linalg.batched import (
    cholesky,
    crossproduct,
    diagonal_add,
    lower_solve,
    outer_sum,
    product,
    sandwich,
)
from skmixed.linalg.core import mirror_diagonal_blocks, rows_matrix, scale_rows, solve_lower
from skmixed.linalg.crossproducts import CrossProducts, LevelBlocks


class NotPositiveDefinite(ArithmeticError):
    """The penalised system has no Cholesky factor at this theta."""


@dataclass(frozen=True)
class Eliminated:
    """A chain group after elimination of those before it: D, B unscaled, H and N (s, s, l)."""

    blocks: LevelBlocks
    H: np.ndarray

    @cached_property
    def N(self):
        return crossproduct(self.H, self.H)

    @cached_property
    def J(self):
        """(I + D T T')^-1 = I - D N."""
        return diagonal_add(-product(self.blocks.own, self.N), 1.0)


@dataclass(frozen=True)
class BlockedFactor:
    """Factor of Omega: eliminated chain groups, and the core's lower Cholesky factor (d, d).

    Vectors over the random effects are *parts*: a list with one array (s, k, l) per chain group
    and last one array (d, k) for the core, whose final rows belong to X (and y).

    ``half``: Lt' A (d, d) where the whole system is one small dense matrix.
    """

    products: CrossProducts
    T: tuple[np.ndarray, ...]
    chain: tuple[Eliminated, ...]
    core: np.ndarray
    log_det_u: float
    half: np.ndarray | None = None

    @property
    def plan(self):
        return self.products.plan

    @cached_property
    def log_det_x(self):
        """2 log |R_X|."""
        return 2.0 * float(np.log(self.core.diagonal()[self.plan.q_core : -1]).sum())

    @property
    def pwrss(self):
        """Penalised weighted residual sum of squares r^2."""
        return float(self.core[-1, -1]) ** 2

    @property
    def fixed_root(self):
        """Lower root (r, r) of X' V0^-1 X."""
        at = slice(self.plan.q_core, self.plan.q_core + self.plan.n_tail - 1)
        return np.tril(self.core[at, at])

    @cached_property
    def mode(self):
        """Parts of (b, beta, -1): conditional modes b = Lambda u and coefficients."""
        rhs = self.core[-1:].T.copy()
        rhs[-1] = 0.0
        tail = solve_lower(self.core, rhs, transposed=True)
        tail[-1] = -1.0
        for (_, rows), T in zip(self.plan.core_groups, self.T[self.plan.n_chain :], strict=True):
            tail[rows, 0] = (tail[rows, 0].reshape(-1, len(T)) @ T.T).ravel()
        parts = [None] * self.plan.n_chain + [tail]
        for i in range(self.plan.n_chain - 1, -1, -1):
            parts[i] = -product(self.chain[i].N, self._rest(i, self.chain[i].blocks, parts))
        return parts

    @cached_property
    def scores(self):
        """Parts of c = Z' W (y - X beta - Z b)."""
        parts = []
        for i, group in enumerate(self.chain):
            parts.append(-product(group.J, self._rest(i, group.blocks, self.mode)))
        if not self.plan.q_core:  # the rows of X and y have no score
            return [*parts, np.zeros(self.mode[-1].shape)]
        return [*parts, -multiply(self.products, self.mode, rows="core")]

    def back_substituted(self, i, x, parts):
        """Chain group i of Lt Lf'^-1 x, Lf the factor, from its part x and parts that follow."""
        group = self.chain[i]
        moved = product(group.N, self._rest(i, group.blocks, parts))
        return crossproduct(group.H, x) - moved

    def _rest(self, i, blocks, parts):
        """Rows of chain group i times the parts of all later unknowns: (s, k, l)."""
        plan, tail = self.plan, parts[-1]
        border = plan.border_slice(i)
        result = np.matmul(blocks.border.transpose(0, 2, 1), tail[border]).transpose(0, 2, 1)
        for k, parent in plan.parents[i].items():
            result = result + product(blocks.up[k], parts[k][..., parent])
        if blocks.entries is not None:
            at = plan.entries[i]
            for s, values in enumerate(blocks.entries):
                result[s] += (rows_matrix(values, at, plan) @ tail[: plan.q_core]).T
        return result

    def solve(self, rhs, *, fixed=True):
        """Parts of x = Lt Omega^-1 Lt' rhs, y left out, and of the rest rhs - A x.

        With ``fixed`` False X stays at zero too. The rest of a chain group is J times what N makes
        x of: no difference, so that it keeps its digits where x explains nearly all of rhs.
        """
        plan, rest = self.plan, [x.copy() for x in rhs]
        for i, group in enumerate(self.chain):
            self._propagate(i, group, product(group.N, rest[i]), rest)
        core_factors = list(zip(plan.core_groups, self.T[plan.n_chain :], strict=True))
        for (_, rows), T in core_factors:
            scale_rows(rest[-1], rows, T)
        last = -1 if fixed else plan.q_core
        tail = solve_lower(self.core, rest[-1])
        tail[last:] = 0.0
        tail = solve_lower(self.core, tail, transposed=True)
        for (_, rows), T in core_factors:
            scale_rows(tail, rows, T.T)
        parts = [None] * plan.n_chain + [tail]
        for i in range(plan.n_chain - 1, -1, -1):
            rest[i] -= self._rest(i, self.chain[i].blocks, parts)
            parts[i] = product(self.chain[i].N, rest[i])
            rest[i] = product(self.chain[i].J, rest[i])
        if plan.q_core or not fixed:
            rest[-1] = rhs[-1] - multiply(self.products, parts, rows="core")
        else:
            rest[-1][:] = 0.0
        return parts, rest

    def quadratic_forms(self, a, za, *, fixed=True):
        """a' Z' P0 Z a (k, k), for parts a with za = Z'WZ a (rows of X included).

        With ``fixed`` False the effects of X are known: V0^-1 in place of P0.
        """
        plan = self.plan
        rest = [None if x is None else x.copy() for x in za]
        total = sum(_flat(x).T @ _flat(y) for x, y in zip(a[:-1], za[:-1], strict=True))
        total = total + a[-1][: plan.q_core].T @ za[-1][: plan.q_core]
        for i, group in enumerate(self.chain):
            x = product(group.H, rest[i])
            total = total - _flat(x).T @ _flat(x)
            self._propagate(i, group, product(group.N, rest[i]), rest)
        for (_, rows), T in zip(plan.core_groups, self.T[plan.n_chain :], strict=True):
            scale_rows(rest[-1], rows, T)
        # the row of y takes no part, but cutting it off the factor would copy d x d numbers
        x = solve_lower(self.core, rest[-1])[: -1 if fixed else plan.q_core]
        return total - x.T @ x

    def _propagate(self, i, group, nx, rest):
        """Take B' N x from the unknowns that come after chain group i."""
        plan, blocks = self.plan, group.blocks
        for k in plan.parents[i]:
            moved = crossproduct(blocks.up[k], nx)
            rest[k] -= np.add.reduceat(moved, plan.starts[i][k], axis=-1)
        rest[-1][plan.border_slice(i)] -= outer_sum(blocks.border, nx)
        if blocks.entries is not None:
            at = plan.entries[i]
            for values, x in zip(blocks.entries, nx, strict=True):
                rest[-1][: plan.q_core] -= rows_matrix(values, at, plan).T @ x.T

    def __getstate__(self):
        """Fields with the core as its lower triangle alone."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {"core": self.core[np.tril_indices(len(self.core))], "half": None}

    def __setstate__(self, state):
        lower = state["core"]
        d = int(np.sqrt(2 * len(lower)))  # of d (d + 1) / 2 entries
        core = np.zeros((d, d))
        core[np.tril_indices(d)] = lower
        self.__dict__.update(state | {"core": core})

    def compact(self, limit):
        """What row norms need of the factor, or None if that is above limit bytes."""
        small = replace(self.products, chain=(), core=self.products.core[:0, :0])
        chain = tuple(
            replace(group, blocks=replace(group.blocks, own=group.blocks.own[..., :0]))
            for group in self.chain
        )
        products = replace(small, plan=small.plan.without_pairs())
        small = replace(self, products=products, chain=chain, half=None)
        arrays = [group.H for group in self.chain]
        for group in self.chain:
            blocks = group.blocks
            arrays += [blocks.border, *blocks.up.values()]
            arrays += [] if blocks.entries is None else [blocks.entries]
        size = self.core.nbytes / 2 + sum(a.nbytes for a in arrays)
        return small if size <= limit else None


def factor(products, T):
    """BlockedFactor of Omega(T), T one (s, s) factor for each group of the plan, in its order.

    Raises
    ------
    NotPositiveDefinite
        When the core has no Cholesky factor.
    """
    plan, half = products.plan, None
    if products.is_small:
        chain, log_det, half = (), 0.0, products.dense.copy()
        core_factors = list(zip(plan.core_groups, T, strict=True))
        for (_, rows), factor_k in core_factors:
            scale_rows(half, rows, factor_k)
        core = half.copy()
        for (_, rows), factor_k in core_factors:
            scale_rows(core.T, rows, factor_k)
    else:
        chain, core, log_det = eliminate(products, T)
        for (_, rows), factor_k in zip(plan.core_groups, T[plan.n_chain :], strict=True):
            mirror_diagonal_blocks(core, rows, len(factor_k))
            scale_rows(core, rows, factor_k)
            scale_rows(core[rows.start :].T, rows, factor_k)
    core.ravel()[: plan.q_core * len(core) : len(core) + 1] += 1.0
    L, info = lapack.dpotrf(core.T, lower=0, clean=0, overwrite_a=1)
    if info == len(core):
        L[-1, -1] = 0.0  # the response is explained exactly; all other pivots are there
    elif info != 0:
        raise NotPositiveDefinite(info)
    L = L.T
    log_det += 2.0 * float(np.log(L.diagonal()[: plan.q_core]).sum())
    return BlockedFactor(products, tuple(T), chain, L, log_det, half)


def eliminate(products, T):
    """Chain groups eliminated in turn, the core's unscaled Schur complement, 2 log |L_chain|."""
    plan = products.plan
    core = products.core.copy()
    blocks = list(products.chain)
    chain, log_det = [], 0.0
    for i in range(plan.n_chain):
        D = blocks[i].own
        L = cholesky(diagonal_add(sandwich(T[i], D), 1.0))
        for row in range(len(L)):
            log_det += 2.0 * float(np.sum(np.log(L[row, row])))
        H = T[i] / L if len(L) == 1 else lower_solve(L, _repeated(T[i].T, D.shape))
        chain.append(Eliminated(blocks[i], H))
        _update(plan, i, H, blocks, core)
    return tuple(chain), core, log_det


def _repeated(A, shape):
    return np.broadcast_to(A[:, :, None], shape)


def _update(plan, i, H, blocks, core):
    """Subtract the outer products of V = H B of chain group i from all later blocks."""
    own = blocks[i]
    up = {k: product(H, u) for k, u in own.up.items()}
    border = product(H, own.border)
    entries = None
    if own.entries is not None:
        at = plan.entries[i]
        entries = np.einsum("kia,ia->ka", H[:, :, at.rows], own.entries)
    for k in up:
        later = blocks[k]
        starts = plan.starts[i][k]
        blocks[k] = LevelBlocks(
            later.own - _run_sums(up[k], up[k], starts),
            {j: later.up[j] - _run_sums(up[k], up[j], starts) for j in later.up},
            later.border - _run_sums(up[k], border, starts),
            None if entries is None else later.entries - _entry_sums(up[k], entries, at, k),
        )
    tail = plan.border_slice(i)
    core[tail, tail] -= outer_sum(border, border)
    if entries is not None:
        for values, edge in zip(entries, border, strict=True):
            core[tail, : plan.q_core] -= (rows_matrix(values, at, plan).T @ edge.T).T
        _subtract_pairs(core, entries, at)


def _run_sums(A, B, starts):
    return np.add.reduceat(crossproduct(A, B), starts, axis=-1)


def _entry_sums(up, entries, at, k):
    """Sum over children of V_up' V_entry, at the parent's entries: (s_k, nnz_k)."""
    size = int(at.to_parent[k].max()) + 1
    return np.stack(
        [
            np.bincount(at.to_parent[k], np.einsum("ka,ka->a", row[:, at.rows], entries), size)
            for row in up.transpose(1, 0, 2)
        ]
    )


def _subtract_pairs(core, entries, at):
    """core[col a, col b] -= v_a' v_b over all pairs of entries in one level."""
    d = len(core)
    for a, b in at.pairs:
        first, last = int(at.cols[a[0]]), int(at.cols[a[-1]]) + 1
        products = entries[0][a] * entries[0][b]
        for v in entries[1:]:
            products += v[a] * v[b]
        target = at.cols[a]
        target = (target - first) * d + at.cols[b]
        sums = np.bincount(target, products, (last - first) * d)
        core[first:last] -= sums.reshape(-1, d)


def multiply(products, parts, rows="all"):
    """A times parts (columns of y excluded unless given): parts, or only the core's rows."""
    plan, tail = products.plan, parts[-1]
    below = np.array(blas.dsymm(1.0, products.core.T, tail, lower=0))
    for i, blocks in enumerate(products.chain):
        x, edge = parts[i], plan.border_slice(i)
        below[edge] += outer_sum(blocks.border, x)
        if blocks.entries is not None:
            for values, xs in zip(blocks.entries, x, strict=True):
                below[: plan.q_core] += rows_matrix(values, plan.entries[i], plan).T @ xs.T
    if rows == "core":
        return below
    result = []
    for i, blocks in enumerate(products.chain):
        y = product(blocks.own, parts[i])
        y += np.matmul(blocks.border.transpose(0, 2, 1), tail[plan.border_slice(i)]).transpose(
            0, 2, 1
        )
        for k, parent in plan.parents[i].items():
            y += product(blocks.up[k], parts[k][..., parent])
        if blocks.entries is not None:
            for s, values in enumerate(blocks.entries):
                y[s] += (rows_matrix(values, plan.entries[i], plan) @ tail[: plan.q_core]).T
        result.append(y)
    for i, blocks in enumerate(products.chain):
        for k in plan.parents[i]:
            moved = crossproduct(blocks.up[k], parts[i])
            result[k] += np.add.reduceat(moved, plan.starts[i][k], axis=-1)
    return [*result, below]


def _flat(part):
    """(s, k, l) -> (s l, k)."""
    return part.transpose(0, 2, 1).reshape(-1, part.shape[1])
