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
from scipy import sparse
from scipy.linalg import blas, lapack

from skmixed.linalg.batched import (
    cholesky,
    crossproduct,
    diagonal_add,
    lower_solve,
    outer_sum,
    product,
    product_sum,
)
from skmixed.linalg.crossproducts import CrossProducts, LevelBlocks, diagonal_blocks

# Below this share of information relative to the prior, I - S_ll has lost half of its digits.
_WELL_DETERMINED = 1e-6
# Rows of a core that is inverted by few calls instead of few operations.
_SMALL_CORE = 400


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
    """

    products: CrossProducts
    T: tuple[np.ndarray, ...]
    chain: tuple[Eliminated, ...]
    core: np.ndarray
    log_det_u: float

    @property
    def plan(self):
        return self.products.plan

    @property
    def n_fixed(self):
        return self.plan.n_tail - 1

    @cached_property
    def log_det_x(self):
        """2 log |R_X|."""
        return 2.0 * float(np.sum(np.log(self.core.diagonal()[self.plan.q_core : -1])))

    @property
    def pwrss(self):
        """Penalised weighted residual sum of squares r^2."""
        return float(self.core[-1, -1]) ** 2

    @cached_property
    def mode(self):
        """Parts of (b, beta, -1): conditional modes b = Lambda u and coefficients."""
        rhs = self.core[-1:].T.copy()
        rhs[-1] = 0.0
        tail = _solve_lower(self.core, rhs, transposed=True)
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

    def level_part(self, parts, g):
        """Part of group g as (s, l), from parts with one column."""
        if g < self.plan.n_chain:
            return parts[g][:, 0]
        _, rows = self.plan.core_groups[g - self.plan.n_chain]
        return parts[-1][rows, 0].reshape(-1, len(self.T[g])).T

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
                result[s] += (_rows_matrix(values, at, plan) @ tail[: plan.q_core]).T
        return result

    def solve(self, rhs, *, fixed=True):
        """Parts of Lt Omega^-1 Lt' rhs, y left out; with ``fixed`` False X stays at zero too."""
        plan, rest = self.plan, [x.copy() for x in rhs]
        for i, group in enumerate(self.chain):
            self._propagate(i, group, product(group.N, rest[i]), rest)
        core_factors = list(zip(plan.core_groups, self.T[plan.n_chain :], strict=True))
        for (_, rows), T in core_factors:
            _scale_rows(rest[-1], rows, T)
        last = -1 if fixed else plan.q_core
        tail = _solve_lower(self.core, rest[-1])
        tail[last:] = 0.0
        tail = _solve_lower(self.core, tail, transposed=True)
        for (_, rows), T in core_factors:
            _scale_rows(tail, rows, T.T)
        parts = [None] * plan.n_chain + [tail]
        for i in range(plan.n_chain - 1, -1, -1):
            below = self._rest(i, self.chain[i].blocks, parts)
            parts[i] = product(self.chain[i].N, rest[i] - below)
        return parts

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
            _scale_rows(rest[-1], rows, T)
        # the row of y takes no part, but cutting it off the factor would copy d x d numbers
        x = _solve_lower(self.core, rest[-1])[: -1 if fixed else plan.q_core]
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
                rest[-1][: plan.q_core] -= _rows_matrix(values, at, plan).T @ x.T

    def conditional_blocks(self):
        """Lambda (Omega_uu)^-1 Lambda' on the diagonal blocks: (s, s, l) for every group."""
        inverse = _selected_inverse(self, 0.0, 0.0)
        blocks = list(inverse.own)
        for group, rows in self.plan.core_groups:
            view = diagonal_blocks(inverse.core, rows, group.n_columns)
            blocks.append(np.ascontiguousarray(view.transpose(1, 2, 0)))
        return blocks

    def __getstate__(self):
        """Fields with the core as its lower triangle alone."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {"core": self.core[np.tril_indices(len(self.core))]}

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
        small = replace(self, products=products, chain=chain)
        arrays = [group.H for group in self.chain]
        for group in self.chain:
            blocks = group.blocks
            arrays += [blocks.border, *blocks.up.values()]
            arrays += [] if blocks.entries is None else [blocks.entries]
        size = self.core.nbytes / 2 + sum(a.nbytes for a in arrays)
        return small if size <= limit else None

    def selected_inverse(self, weight_x, weight_y, *, entries=False):
        """SelectedInverse of S = L^-T diag(1, weight_x, weight_y) L^-1 on the pattern of A."""
        return _selected_inverse(self, weight_x, weight_y, entries)


@dataclass(frozen=True)
class SelectedInverse:
    """Blocks of Lt S Lt' on the pattern of A.

    core (d, d), in a sparse plan only its lower triangle; own[i] (s, s, l) and border[i] (s, w, l) of chain group i;
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


def factor(products, T):
    """BlockedFactor of Omega(T), T one (s, s) factor for each group of the plan, in its order.

    Raises
    ------
    NotPositiveDefinite
        When the core has no Cholesky factor.
    """
    chain, core, log_det = _eliminate(products, T)
    plan = products.plan
    for (_, rows), factor_k in zip(plan.core_groups, T[plan.n_chain :], strict=True):
        _mirror_diagonal_blocks(core, rows, len(factor_k))
        _scale_rows(core, rows, factor_k)
        _scale_rows(core[rows.start :].T, rows, factor_k)
    core.ravel()[: plan.q_core * len(core) : len(core) + 1] += 1.0
    L, info = lapack.dpotrf(core.T, lower=0, clean=0, overwrite_a=1)
    if info == len(core):
        L[-1, -1] = 0.0  # the response is explained exactly; all other pivots are there
    elif info != 0:
        raise NotPositiveDefinite(info)
    L = L.T
    log_det += 2.0 * float(np.sum(np.log(L.diagonal()[: plan.q_core])))
    return BlockedFactor(products, tuple(T), chain, L, log_det)


def _eliminate(products, T):
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
            core[tail, : plan.q_core] -= (_rows_matrix(values, at, plan).T @ edge.T).T
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


def _rows_matrix(values, at, plan):
    """Entries as a sparse (levels, q_core) matrix."""
    indptr = np.append(at.starts, len(values))
    return sparse.csr_matrix((values, at.cols, indptr), shape=(len(at.starts), plan.q_core))


def _selected_inverse(f, weight_x, weight_y, every=False):
    plan = f.plan
    core = _core_inverse(plan, f.core, weight_x, weight_y)
    if plan.is_sparse:
        for group, rows in plan.core_groups:
            _mirror_diagonal_blocks(core, rows, group.n_columns)
    information = [None] * plan.n_chain + _core_information(f, core, (weight_x, weight_y))
    for (_, rows), T in zip(plan.core_groups, f.T[plan.n_chain :], strict=True):
        _scale_rows(core, rows, T.T)
        _scale_rows(core[rows.start if plan.is_sparse else 0 :].T, rows, T.T)
    own, border = [None] * plan.n_chain, [None] * plan.n_chain
    above = {}
    for i in range(plan.n_chain - 1, -1, -1):
        group = f.chain[i]
        # no group has the first one's levels above its own and would ask for its entries
        every_entry = every or i > 0
        up, edge, entries = _times_inverse(plan, i, group.blocks, core, above, own, border,
                                           every_entry)  # fmt: skip
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
    return SelectedInverse(core, tuple(own), tuple(border), tuple(information), tuple(up),
                           tuple(entries))  # fmt: skip


def _core_inverse(plan, L, weight_x, weight_y):
    """L^-T diag(1, weight_x, weight_y) L^-1.

    Where rows of the core are sparse only the lower triangle is complete.
    """
    d, q = len(L), plan.q_core
    weights = np.full(d - q, weight_x, dtype=float)
    weights[-1] = weight_y
    if d <= _SMALL_CORE:
        rows = _solve_lower(L, np.eye(d), transposed=True)
        scaled = rows.copy()
        scaled[:, q:] *= weights
        return scaled @ rows.T
    inverse, _ = lapack.dpotri(np.array(L).T, lower=0, overwrite_c=1)
    inverse = inverse.T
    changed = np.flatnonzero(weights != 1.0)
    unit = np.zeros((d, len(changed)), order="F")
    unit[q + changed, np.arange(len(changed))] = 1.0
    rows = _solve_lower(L, unit, transposed=True)
    for j, w in enumerate(weights[changed] - 1.0):
        _rank_one(inverse, rows[:, j], w)
    complete = inverse[q:, q:] if plan.is_sparse else inverse
    complete[:] = np.tril(complete) + np.tril(complete, -1).T
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
        own = diagonal_blocks(f.products.core, rows, s).sum(axis=0) / group.n_levels
        if _least_eigenvalue(T.T @ own @ T) < _WELL_DETERMINED:
            direct.append(k)
            continue
        excess = diagonal_blocks(S, rows, s).sum(axis=0)
        shrunk = np.eye(s) * group.n_levels - (excess + excess.T) / 2
        result[k] = shrunk / T**2 if s == 1 else _solve_both(T.T, shrunk)
    if direct:
        result.update(_direct_information(f, direct, weights))
    return [result[k] for k in sorted(result)]


def _solve_both(A, B):
    """A^-1 B A^-T."""
    return np.linalg.solve(A, np.linalg.solve(A, B).T)


def _least_eigenvalue(A):
    return A[0, 0] if len(A) == 1 else np.linalg.eigvalsh(A)[0]


def _direct_information(f, direct, weights):
    """{group: sum of diagonal blocks} of C - C Lt S Lt' C, C the Schur complement of the chain."""
    plan, result = f.plan, {}
    _, core, _ = _eliminate(f.products, f.T)
    for k in direct:
        group, rows = plan.core_groups[k - plan.n_chain]
        s = group.n_columns
        _mirror_diagonal_blocks(core, rows, s)
        block = core[rows, rows]
        block = np.tril(block) + np.tril(block, -1).T
        columns = np.concatenate([core[rows, : rows.start].T, block, core[rows.stop :, rows]])
        own = diagonal_blocks(block, slice(0, len(block)), s).sum(axis=0)
        for (_, at), T in zip(plan.core_groups, f.T[plan.n_chain :], strict=True):
            _scale_rows(columns, at, T)
        x = _solve_lower(f.core, columns)
        x[plan.q_core : -1] *= np.sqrt(weights[0])
        x[-1] *= np.sqrt(weights[1])
        x = x.reshape(len(x), -1, s)
        result[k] = own - np.einsum("dls,dlt->st", x, x)
    return result


def _times_inverse(plan, i, blocks, core, above, own, border, every_entry):
    """Rows of chain group i times the scaled inverse of the rest, on the rows' own pattern.

    Returns {k: (s, s_k, l)}, (s, w, l) and (s, nnz) or None.
    """
    q, edge = plan.q_core, plan.border_slice(i)
    at, parents = plan.entries[i], plan.parents[i]
    on_border = np.matmul(core[edge, edge], blocks.border)
    for k, parent in parents.items():
        on_border = on_border + product(blocks.up[k], border[k][..., parent])
    up = {}
    for k in parents:
        up[k] = product(blocks.border, border[k][..., parents[k]].transpose(1, 0, 2))
        for j in parents:
            cross = own[k] if j == k else above[j][0][k] if j < k else None
            between = (
                cross[..., parents[j if j < k else k]]
                if cross is not None
                else above[k][0][j][..., parents[k]].transpose(1, 0, 2)
            )
            up[k] = up[k] + product(blocks.up[j], between)
    if at is None:
        return up, on_border, None
    on_entries = np.zeros_like(blocks.entries)
    for s, values in enumerate(blocks.entries):
        on_border[s] += (_rows_matrix(values, at, plan) @ core[edge, :q].T).T
        for r, row in enumerate(core[edge, :q]):
            on_entries[s] += blocks.border[s, r, at.rows] * row[at.cols]
    for k in parents:
        shared = above[k][1][:, at.to_parent[k]]
        on_entries += np.einsum("ska,ka->sa", blocks.up[k][:, :, at.rows], shared)
        up[k] = up[k] + np.add.reduceat(
            blocks.entries[:, None] * shared, at.starts, axis=-1
        )
    if every_entry:
        _add_pairs(on_entries, core, blocks.entries, at)
    return up, on_border, on_entries


def _pair_values(core, at):
    """(a, b, core[col a, col b]) by chunks, the value halved where a is b."""
    flat, d = core.ravel(), len(core)
    for a, b in at.pairs:
        value = flat.take(at.cols[a] * d + at.cols[b])
        value[a == b] *= 0.5
        yield a, b, value


def _add_pairs(result, core, entries, at):
    """result_a += sum of core[col a, col b] v_b over the entries b in a's level."""
    size = entries.shape[1]
    for a, b, value in _pair_values(core, at):
        for s, v in enumerate(entries):
            result[s] += np.bincount(a, value * v[b], size)
            result[s] += np.bincount(b, value * v[a], size)


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
    return forms


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


def multiply(products, parts, rows="all"):
    """A times parts (columns of y excluded unless given): parts, or only the core's rows."""
    plan, tail = products.plan, parts[-1]
    below = np.array(blas.dsymm(1.0, products.core.T, tail, lower=0))
    for i, blocks in enumerate(products.chain):
        x, edge = parts[i], plan.border_slice(i)
        below[edge] += outer_sum(blocks.border, x)
        if blocks.entries is not None:
            for values, xs in zip(blocks.entries, x, strict=True):
                below[: plan.q_core] += _rows_matrix(values, plan.entries[i], plan).T @ xs.T
    if rows == "core":
        return below
    result = []
    for i, blocks in enumerate(products.chain):
        y = product(blocks.own, parts[i])
        y += np.matmul(
            blocks.border.transpose(0, 2, 1), tail[plan.border_slice(i)]
        ).transpose(0, 2, 1)
        for k, parent in plan.parents[i].items():
            y += product(blocks.up[k], parts[k][..., parent])
        if blocks.entries is not None:
            for s, values in enumerate(blocks.entries):
                y[s] += (_rows_matrix(values, plan.entries[i], plan) @ tail[: plan.q_core]).T
        result.append(y)
    for i, blocks in enumerate(products.chain):
        for k in plan.parents[i]:
            moved = crossproduct(blocks.up[k], parts[i])
            result[k] += np.add.reduceat(moved, plan.starts[i][k], axis=-1)
    return [*result, below]


def sandwich(T, D):
    """T' D_l T for all levels: (s, s), (s, s, l) -> (s, s, l)."""
    s = len(T)
    if s == 1:
        return D * (T[0, 0] * T[0, 0])
    left = (T.T @ D.reshape(s, -1)).reshape(D.shape)
    return np.matmul(T.T, left)


def _scale_rows(A, rows, T):
    """A[rows] = (I_l kron T') A[rows], in place."""
    part = A[rows]
    if len(T) == 1:
        part *= T[0, 0]
        return
    shape = part.shape
    stacked = part.reshape(-1, len(T), *shape[1:])
    A[rows] = np.einsum("lk...,ki->li...", stacked, T).reshape(shape)


def _mirror_diagonal_blocks(A, rows, s):
    """Complete the diagonal blocks of one group from their lower triangles."""
    if s > 1:
        view = diagonal_blocks(A, rows, s)
        i, j = np.triu_indices(s, 1)
        view[:, i, j] = view[:, j, i]


def _solve_lower(L, B, transposed=False):
    """L^-1 B or L^-T B for a C-ordered lower triangle."""
    if not len(L):
        return np.zeros(B.shape)
    x, _ = lapack.dtrtrs(L.T, B, lower=0, trans=0 if transposed else 1)
    return x.reshape(B.shape)


def _flat(part):
    """(s, k, l) -> (s l, k)."""
    return part.transpose(0, 2, 1).reshape(-1, part.shape[1])
