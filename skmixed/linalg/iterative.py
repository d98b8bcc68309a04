"""The penalised system solved by conjugate gradients, with the methods of System and Factor.

The largest group is eliminated level by level; S, what is left of the other groups, is an operator
(:mod:`skmixed.linalg.iterative_core`). With S Y = F = T'(X_c - B'N X_0) for the columns of X and y

    M = [X y]'W[X y] - X_0'N X_0 - F'Y

holds X'V0^-1X, X'V0^-1y and y'V0^-1y. All of this is exact up to the tolerance of the iterations.
Traces and log |S| are not: they are estimated from random signs.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from skmixed._warn import warn
from skmixed.exceptions import SlowPredictionWarning
from skmixed.linalg.cholesky import NotPositiveDefinite
from skmixed.linalg.core import solve_lower
from skmixed.linalg.effects import Effects
from skmixed.linalg.iterative_blocks import Blocks, check_cells, check_memory
from skmixed.linalg.iterative_cg import MAX_ITERATIONS, solve
from skmixed.linalg.iterative_core import Core, squares, times_blocks
from skmixed.linalg.iterative_logdet import log_det
from skmixed.linalg.iterative_precondition import preconditioner
from skmixed.linalg.iterative_traces import constants, information_samples

__all__ = ["MAX_ITERATIONS", "IterativeFactor", "IterativeSystem"]

# Tolerances of the iterations, relative, by what is solved for.
_EXACT, _FORMS, _VARIANCES, _ROUNDING = 1e-7, 1e-3, 1e-5, 1e-11
# That of a Newton step, relative to what is left.
_STEP = 1e-3
# Probes that are drawn at a time: more of them leave the earlier ones as they are.
_DRAWN = 8
# Signs whose vectors have to have room.
PROBES = 32
# Rows of new data solved for at a time, and how many of them are told to take long.
_BATCH, _MANY = 32, 10_000
# Effects of the smallest groups whose conditional variances are exact, and numbers they may take.
_FEW, _FEW_NUMBERS = 256, 1 << 23
_DIRECT_ONLY = (
    "{} cannot be had from a fit by the iterative solver: fit the model with solver='direct', if "
    "its crossed factors leave room for that"
)


def _by_size(groups):
    """Groups in order of elimination."""
    return sorted(range(len(groups)), key=lambda g: -groups[g].size)


class IterativeSystem:
    """Cross-products of the rows for factors by conjugate gradients.

    Attributes
    ----------
    blocks : Blocks
    order : tuple of int
        The groups as given in order of elimination.
    seed : int
        Of the random signs.
    n_probes : int or None
        Signs for log |S|, 32 at least.
    last : list
        The last factor of the same rows with other weights, from which iterations start; empty
        where there is none.
    """

    is_iterative = True

    def __init__(self, blocks, order, seed=0, n_probes=None, last=None):
        self.blocks, self.order, self.seed = blocks, tuple(order), seed
        self.n_probes, self.last = n_probes, last
        self._drawn = {}

    @classmethod
    def of(cls, groups, weights, X, y, *, seed=0, n_probes=None):
        """System of the rows of groups (in the user's order), X (n, r) and y (n,).

        Raises
        ------
        MemoryError
            Saying how much is needed, before it is asked for.
        """
        check_memory(groups, X.shape[1], n_probes or PROBES)
        order = _by_size(groups)
        return cls(Blocks.of([groups[g] for g in order], weights, X, y), order, seed, n_probes)

    @classmethod
    def of_sums(cls, sums, *, seed=0, n_probes=None):
        """System of the rows behind `Sums`, as :meth:`of` makes it.

        Raises
        ------
        MemoryError
            As :meth:`of`.
        """
        groups = sums.groups
        cells = {at: pair.weights.nnz for at, pair in sums.pairs.items()}
        check_cells(groups, cells, len(sums.tail) - 1, n_probes or PROBES)
        order = _by_size(groups)
        return cls(Blocks.of_sums(sums, order), order, seed, n_probes)

    def factor(self, T, near=None):
        """IterativeFactor at T; iterations start from what the factor ``near`` has found.

        Raises
        ------
        NotPositiveDefinite
            Where the numbers are not finite.
        """
        if self.last is None:
            return IterativeFactor(self, tuple(T), near)
        near = self.last[-1] if near is None and self.last else near
        self.last[:] = [IterativeFactor(self, tuple(T), near)]
        return self.last[-1]

    def times(self, v):
        """[Z X]'W[Z X] v."""
        first, core, fixed = self._split(v)
        below, up, cross = self._gram(first, core, fixed)
        return self._joined(below, up, cross)

    def _gram(self, first, rest, fixed):
        b, core = self.blocks, self._plain
        X_0, X_c = b.tails[0][..., :-1], self._tails[:, :-1]
        below = times_blocks(b.own[0], first) + core.down(rest) + X_0 @ fixed
        up = core.gram(rest) + core.up(first) + X_c @ fixed
        cross = np.einsum("slr,slk->rk", X_0, first) + X_c.T @ rest + b.gram[:-1, :-1] @ fixed
        return below, up, cross

    @cached_property
    def _plain(self):
        """The Core with variances of zero, for products."""
        return Core(self.blocks, [np.zeros((s, s)) for s, _ in self.blocks.sizes])

    @cached_property
    def _tails(self):
        """Z_c'W[X y] (q, r + 1)."""
        tails = self.blocks.tails[1:]
        width = len(self.blocks.gram)
        return np.concatenate([np.zeros((0, width)), *(x.reshape(-1, width) for x in tails)])

    def own(self, g):
        """Diagonal blocks of Z'WZ (s, s, l) of group g."""
        return self.blocks.own[self.order.index(g)]

    @property
    def fixed_gram(self):
        """X'WX (r, r)."""
        return self.blocks.gram[:-1, :-1].copy()

    def with_response(self, cross, square):
        """The system of another response y, from [Z X]'Wy (Effects of one column) and y'Wy."""
        b = self.blocks
        gram = b.gram.copy()
        gram[-1, :-1] = gram[:-1, -1] = cross.fixed[:, 0]
        gram[-1, -1] = square
        tails = [
            np.concatenate([x[..., :-1], cross.random[g][:, 0, :, None]], axis=-1)
            for g, x in zip(self.order, b.tails, strict=True)
        ]
        return self._with(Blocks(b.own, b.tables, tuple(tails), gram))

    def with_ridge(self, ridge):
        """The system with X'WX + ridge in the place of X'WX: a number times I, or a matrix."""
        b = self.blocks
        gram = b.gram.copy()
        gram[:-1, :-1] += ridge if np.ndim(ridge) else ridge * np.eye(len(gram) - 1)
        return IterativeSystem(
            Blocks(b.own, b.tables, b.tails, gram), self.order, self.seed, self.n_probes, self.last
        )

    def _with(self, blocks):
        return IterativeSystem(blocks, self.order, self.seed, self.n_probes)

    def without_rows(self):
        """The same system: its blocks have nothing of the length of the data."""
        return self if self.last is None else self._with(self.blocks)

    @property
    def dense_rows(self):
        """Rows of the largest matrix that is factored as one: none that matters."""
        return 0

    def memory(self):
        """Bytes of the cross-products."""
        return self.blocks.nbytes

    def signs(self, k, *, stream=0):
        """Independent signs (q, k) for the core; the first columns are those of any smaller k.

        Those of a group depend on its size and the seed alone, so that models which share a group
        share its signs.
        """
        if (k, stream) not in self._drawn:
            self._drawn = {at: z for at, z in self._drawn.items() if at[1] != stream}
            self._drawn[k, stream] = np.concatenate(
                [np.zeros((0, k)), *(self._group_signs(j, k, stream) for j in self._core_sizes)]
            )
        return self._drawn[k, stream]

    @property
    def _core_sizes(self):
        """(levels, how many earlier groups have as many, effect) of the core, effect by effect."""
        sizes, found = self.blocks.sizes[1:], []
        for i, (s, n) in enumerate(sizes):
            same = sum(n == other for _, other in sizes[:i])
            found += [(n, same, a) for a in range(s)]
        return found

    def _group_signs(self, key, k, stream):
        drawn = []
        for chunk in range(-(-k // _DRAWN)):
            rng = np.random.default_rng([self.seed, stream, chunk, *key])
            drawn.append(2.0 * rng.integers(0, 2, (key[0], _DRAWN), dtype=np.int8) - 1.0)
        return np.concatenate(drawn, axis=1)[:, :k]

    def _split(self, effects):
        """(s, l, k) of the eliminated group, (q, k) of the core, (r, k) from Effects."""
        parts = [effects.random[g].transpose(0, 2, 1) for g in self.order]
        k = effects.fixed.shape[1]
        core = [x.reshape(-1, k) for x in parts[1:]]
        return (
            np.ascontiguousarray(parts[0]),
            np.concatenate([np.zeros((0, k)), *core]),
            effects.fixed,
        )

    def _joined(self, first, core, fixed):
        """Effects from the parts of :meth:`_split`."""
        parts = [first, *self._plain.views(core)]
        return Effects(self.as_given([x.transpose(0, 2, 1) for x in parts]), fixed)

    def as_given(self, by_group):
        """A list by group in the user's order from one in order of elimination."""
        result = [None] * len(self.order)
        for g, x in zip(self.order, by_group, strict=True):
            result[g] = x
        return result


class IterativeFactor:
    """The system at T: the methods of :class:`skmixed.linalg.system.Factor` by iterations.

    Attributes
    ----------
    T : tuple of (s, s)
    system : IterativeSystem
    n_iter : int
        Iterations of the slowest column so far.
    converged : bool
        Whether all columns have reached their tolerances.
    """

    has_system = is_definite = True

    def __init__(self, system, T, near=None):
        self.system, self.T = system, T
        self.n_iter, self.converged = 0 if near is None else near.n_iter, True
        self._starts = {} if near is None else near._starts
        self._solutions = {}
        with np.errstate(all="ignore"):
            self._core = Core(system.blocks, [T[g] for g in system.order])
            try:
                self._M = preconditioner(self._core)
            except (ArithmeticError, np.linalg.LinAlgError) as error:
                raise NotPositiveDefinite(str(error)) from error
            if not np.isfinite(self._core.log_det_eliminated + self._M.log_det):
                raise NotPositiveDefinite("levels have blocks without a Cholesky factor")
            self._solve_tails(_EXACT)

    @property
    def core(self):
        """The Core: what is left of the other groups when the largest one is eliminated."""
        return self._core

    def refine(self):
        """Solve for X and y as exactly as rounding allows: sums of residuals then vanish."""
        for name in ("mode", "scores", "_combination", "_marginal"):
            self.__dict__.pop(name, None)
        self._solve_tails(_ROUNDING)

    def _solve(self, kind, F, tolerance, *, lanczos=False, start=None):
        """S^-1 F, from where an earlier solve of this kind ended.

        From a ``start`` that is given the tolerance is relative to what that leaves.
        """
        given = start is not None
        if not given:
            start = self._solutions.get(kind, self._starts.get(kind))
        if lanczos:
            start = None
        elif start is not None and start.shape != F.shape:
            more = start.shape[0] == F.shape[0] and start.shape[1] < F.shape[1]
            start = self._extended(start, F) if more else None
        try:
            found = solve(
                self._core.times,
                self._M.solve,
                F,
                tolerance,
                start,
                lanczos=lanczos,
                from_start=given,
            )
        except FloatingPointError as error:
            raise NotPositiveDefinite(str(error)) from error
        self.n_iter = max(self.n_iter, found.n_iter)
        self.converged &= found.converged
        if kind is not None and not lanczos:
            self._solutions[kind] = found.x
            self._starts = {**self._starts, kind: found.x}
        return found

    def _extended(self, start, F):
        new = np.ascontiguousarray(F[:, start.shape[1] :])
        return np.concatenate(
            [start, self._core.blockwise(self._core.diagonal_inverse, new)], axis=1
        )

    def _solve_tails(self, tolerance):
        blocks, core = self.system.blocks, self._core
        X_0 = blocks.tails[0]
        NX = times_blocks(core.N, X_0)
        self._left = self.system._tails - core.up(NX)
        F = core.scaled(self._left, transposed=True)
        self._Y = self._solve("tails", F, tolerance).x
        inside = F.T @ self._Y  # stationary at the solution: its error enters squared
        inside = inside + inside.T - self._Y.T @ core.times(self._Y)
        M = blocks.gram - np.einsum("slr,slt->rt", X_0, NX) - inside
        L, info = lapack.dpotrf((M + M.T) / 2, lower=1)
        r = len(M) - 1
        if not np.isfinite(L).all() or 0 < info <= r:
            raise NotPositiveDefinite("X'V0^-1X has no Cholesky factor")
        self._L = np.tril(L)
        if info:
            self._L[-1, -1] = 0.0

    # What the criterion and the mode are read from

    @property
    def fixed_root(self):
        """Lower root (r, r) of X'V0^-1X."""
        return self._L[:-1, :-1]

    @property
    def log_det_x(self):
        """log |X'V0^-1X|."""
        return 2.0 * float(np.sum(np.log(self.fixed_root.diagonal())))

    @property
    def pwrss(self):
        """Penalised weighted residual sum of squares r^2."""
        return float(self._L[-1, -1]) ** 2

    @property
    def log_det_u(self):
        """log |Lambda'Z'WZ Lambda + I|: exact, or estimated with the error :attr:`noise`."""
        return self._core.log_det_eliminated + self.log_det_core.value

    @property
    def noise(self):
        """Standard deviation of the Monte-Carlo error of :attr:`log_det_u`."""
        return self.log_det_core.error

    @cached_property
    def log_det_core(self):
        """LogDet of S."""
        return log_det(self)

    @cached_property
    def _combination(self):
        """(-beta, 1) (r + 1, 1)."""
        beta = solve_lower(self.fixed_root, self._L[-1:, :-1].T, transposed=True)
        return np.concatenate([-beta, np.ones((1, 1))])

    @cached_property
    def mode(self):
        """Conditional modes b and generalised least-squares coefficients (Effects, one column)."""
        core = self._core
        b = core.scaled(self._Y @ self._combination)
        left = self.system.blocks.tails[0] @ self._combination - core.down(b)
        return self.system._joined(times_blocks(core.N, left), b, -self._combination[:-1])

    @cached_property
    def _marginal(self):
        """Z'V0^-1[X y]: (s, l, r + 1) of the eliminated group and (q, r + 1) of the core."""
        core = self._core
        TY = core.scaled(self._Y)
        below = core.down(TY)
        first = times_blocks(core.J, self.system.blocks.tails[0] - below)
        return first, self._left - core.reduced(TY, below)

    @cached_property
    def scores(self):
        """c = Z'W(y - X beta - Z b), and zeros for X (Effects, one column)."""
        first, core = (v @ self._combination for v in self._marginal)
        return self.system._joined(first, core, np.zeros((len(self._L) - 1, 1)))

    # Solutions for other right-hand sides

    def solve(self, v, *, fixed=True):
        """Solution x of the mixed-model equations and the rest, as the direct factor's."""
        system, core = self.system, self._core
        v_0, v_c, v_x = system._split(v)
        F = core.scaled(v_c - core.up(times_blocks(core.N, v_0)), transposed=True)
        u, X_0 = self._solve(None, F, _EXACT).x, system.blocks.tails[0][..., :-1]
        beta = np.zeros_like(v_x)
        if fixed:
            taken = np.einsum("slr,slk->rk", X_0, times_blocks(core.N, v_0))
            half = solve_lower(self.fixed_root, v_x - taken - self._Y[:, :-1].T @ F)
            beta = solve_lower(self.fixed_root, half, transposed=True)
            u = u - self._Y[:, :-1] @ beta
        b = core.scaled(u)
        first = times_blocks(core.N, v_0 - core.down(b) - X_0 @ beta)
        x = system._joined(first, b, beta)
        return x, v - system.times(x)

    def modes(self, v, u, *, fixed=True):
        """Solution of the mixed-model equations and its spherical effects, as the direct factor's.

        Only so exact that a Newton step from u loses nothing by it.
        """
        system, core = self.system, self._core
        v_0, v_c, v_x = system._split(v)
        F = core.scaled(v_c - core.up(times_blocks(core.N, v_0)), transposed=True)
        X_0 = system.blocks.tails[0][..., :-1]
        beta = np.zeros_like(v_x)
        if fixed:
            taken = np.einsum("slr,slk->rk", X_0, times_blocks(core.N, v_0))
            half = solve_lower(self.fixed_root, v_x - taken - self._Y[:, :-1].T @ F)
            beta = solve_lower(self.fixed_root, half, transposed=True)
            F = F - core.scaled(self._left[:, :-1], transposed=True) @ beta
        start = system._split(Effects.of(u, np.zeros(0)))[1]
        moved = self._solve(None, F, _STEP, start=start).x
        b = core.scaled(moved)
        left = v_0 - core.down(b) - X_0 @ beta
        first = times_blocks(core.N, left)
        spherical = system._joined(times_blocks(core.J, left), moved, np.zeros((0, 1))).levels()
        eliminated = system.order[0]
        spherical[eliminated] = self.T[eliminated].T @ spherical[eliminated]
        return system._joined(first, b, beta), spherical

    def quadratic_forms(self, a, za=None, *, fixed=True):
        """a'Z'P0 Z a (k, k) for vectors a whose fixed part is zero, see the direct factor."""
        za = self.system.times(a) if za is None else za
        core, (first, rest, _) = self._core, self.system._split(za)
        taken = times_blocks(core.N, first)
        F = core.scaled(rest - core.up(taken), transposed=True)
        u = self._solve("forms", F, _FORMS).x
        # F'S^-1 F is stationary there: the error of u enters squared
        inside = F.T @ u
        inside = inside + inside.T - u.T @ core.times(u)
        total = a.dot(za) - np.einsum("slk,slm->km", first, taken) - inside
        if not fixed:
            return total
        own, other, _ = self.system._split(a)
        V_0, V_c = (v[..., :-1] for v in self._marginal)
        cross = np.einsum("slr,slk->rk", V_0, own) + V_c.T @ other
        half = solve_lower(self.fixed_root, cross)
        return total - half.T @ half

    # Traces

    def information_samples(self, *, n_probes, tolerance):
        """Sum over levels of diagonal blocks of Z'V0^-1Z, a sample from every probe.

        Returns
        -------
        list of (n_probes, s, s) by group in the user's order
        """
        z, x = self.probes(n_probes, tolerance)
        W_x = self.constants(tolerance)
        samples = information_samples(self._core, self._M, z, x, W_x, self._solve, tolerance)
        return self.system.as_given(samples)

    def probes(self, n_probes, tolerance):
        """Signs z (q, k) and S^-1 z."""
        z = self.system.signs(n_probes)
        return z, self._solve("probes", z, tolerance).x

    def constants(self, tolerance):
        """S^-1 times the vectors that all levels of a group share."""
        return self._solve("constants", constants(self._core), tolerance).x

    def information_known(self, *, fixed, response):
        """What P takes from Z'V0^-1Z in the sums over levels: a list of (s, s), exact.

        P = V0^-1 - fixed V0^-1 X (X'V0^-1X)^-1 X'V0^-1 - response (V0^-1 e)(V0^-1 e)'/ r^2.
        """
        first, rest = self._marginal
        result = []
        root = solve_lower(self.fixed_root, np.eye(len(self._L) - 1)).T
        for V in [first, *self._core.views(rest)]:
            c = (V @ self._combination)[..., 0]
            half = (V[..., :-1] @ root).reshape(len(V), -1)
            result.append(fixed * (half @ half.T) + response / self.pwrss * (c @ c.T))
        return self.system.as_given(result)

    def conditional_blocks(self):
        """Diagonal blocks of Lambda (Lambda'Z'WZ Lambda + I)^-1 Lambda': a list of (s, s, l).

        S^-1 is Delta^-1 of some groups, and of what these leave of the others R R', see
        :meth:`_roots`; for the eliminated levels what follows from it.
        """
        core = self._core
        rest = [np.zeros_like(D) if j in self._others else D for j, D in enumerate(core.spread)]
        first = core.N + _sandwich(core.N, core.levels_of(rest))
        for R in self._roots():
            R = core.scaled(np.ascontiguousarray(R))
            first += squares(times_blocks(core.N, core.down(R)))
            rest = [D + squares(v) for D, v in zip(rest, core.views(R), strict=True)]
        return self.system.as_given([first, *rest])

    def conditional_error(self, n_probes):
        """Relative error of standard deviations from :meth:`conditional_blocks`, by group.

        The mean over the levels of a group, from the probes; 0.0 for the eliminated group.
        """
        core, z = self._core, self.system.signs(n_probes)
        own = [np.zeros_like(D) if j in self._others else D
               for j, D in enumerate(core.diagonal_inverse)]  # fmt: skip
        known, total = core.blockwise(own, z), [np.einsum("iil->", D) for D in own]
        for R in self._roots():
            known += R @ (R.T @ z)
            total = [t + np.square(R[at]).sum() for t, at in zip(total, core.slices, strict=True)]
        missing = (self._solve("probes", z, 1e-4).x - known) * z
        found = [0.0]
        for at, size in zip(core.slices, total, strict=True):
            found.append(0.5 * float(missing[at].sum()) / n_probes / float(size))
        return self.system.as_given(found)

    @cached_property
    def _others(self):
        """Core groups in :meth:`_roots`: those of few effects, or all but the largest."""
        sizes = [s * n for s, n in self._core.sizes]
        few = [j for j in np.argsort(sizes, kind="stable") if sizes[j] <= _FEW]
        exact = bool(few) and sum(sizes[j] for j in few) <= _FEW
        if not exact or (self._M.is_coupled and len(few) < len(sizes) - 1):
            return range(1, len(sizes)) if self._M.is_coupled else ()
        return few if sum(sizes[j] for j in few) * self._core.q <= _FEW_NUMBERS else ()

    def _roots(self):
        """R (q, k) by slices, so that S^-1 is about Delta^-1 of the other groups plus R R'.

        From exact solutions for groups of few effects, else from the preconditioner.
        """
        if isinstance(self._others, range):
            yield from self._M.roots()
        elif len(self._others):
            yield from np.array_split(self._few_root, -(-self._few_root.shape[1] // _BATCH), axis=1)

    @cached_property
    def _few_root(self):
        core = self._core
        rows = np.concatenate([np.arange(core.q)[core.slices[j]] for j in self._others])
        unit = np.zeros((core.q, len(rows)))
        unit[rows, np.arange(len(rows))] = 1.0
        x = self._solve(None, unit, _VARIANCES).x
        inside = x[rows]
        L = np.linalg.cholesky((inside + inside.T) / 2)
        return solve_lower(L, x.T).T

    def row_norms(self, codes, z, x, fixed_root=None):
        """Variance (n,), in units of sigma^2, of x'(beta-hat - beta) + z'(b-hat - b).

        As the direct factor's; rows with the same levels and covariates are solved for once.
        Without ``x`` that of z'(b-hat - b) where beta is known.
        """
        order = self.system.order
        keys = np.hstack([np.stack([codes[g] for g in order], axis=1), *(z[g] for g in order)])
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        inverse = inverse.reshape(-1)
        if len(first) > _MANY:
            warn(
                f"standard errors at {len(first):,} distinct combinations of levels take as many "
                "solutions of the mixed-model equations by the iterative solver: ask for fewer",
                SlowPredictionWarning,
            )
        r = len(self._L) - 1
        random, cross = np.empty(len(first)), np.empty((len(first), r))
        for lo in range(0, len(first), _BATCH):
            at = first[lo : lo + _BATCH]
            own = [codes[g][at] for g in order], [z[g][at] for g in order]
            random[lo : lo + _BATCH], cross[lo : lo + _BATCH] = self._cell_norms(*own)
        if x is None:
            return random[inverse]
        root = self.fixed_root if fixed_root is None else fixed_root
        half = solve_lower(root, (x - cross[inverse]).T)
        return random[inverse] + np.einsum("rn,rn->n", half, half)

    def _cell_norms(self, codes, z):
        """(random part (k,), X'V0^-1Z Lambda^2 z (k, r)) of cells, groups in their order."""
        core, blocks, k = self._core, self.system.blocks, len(codes[0])
        v = [np.zeros((s, n, k)) for s, n in blocks.sizes]
        for out, code, own in zip(v, codes, z, strict=True):
            known = np.flatnonzero(code >= 0)
            out[:, code[known], known] = own[known].T
        Nv = times_blocks(core.N, v[0])
        rest = np.concatenate([np.zeros((0, k)), *(x.reshape(-1, k) for x in v[1:])])
        F = core.scaled(rest - core.up(Nv), transposed=True)
        u = self._solve(None, F, _VARIANCES).x
        random = np.einsum("slk,slk->k", v[0], Nv) + np.einsum("qk,qk->k", F, u)
        cross = np.einsum("slr,slk->kr", blocks.tails[0][..., :-1], Nv) + F.T @ self._Y[:, :-1]
        return random, cross

    def ranks(self):
        """Place of every random effect in the order of elimination: a list of (s, l)."""
        begin, ranks = 0, []
        for s, n in self.system.blocks.sizes:
            ranks.append(np.arange(begin, begin + s * n).reshape(n, s).T)
            begin += s * n
        return self.system.as_given(ranks)

    def strongest_coupling(self):
        """The two groups, in the user's order, that hold the iterations up most."""
        core, tables = self._core, self.system.blocks.tables
        spread = [core.N, *core.spread]
        strength = {}
        for (i, j), table in tables.items():
            if i or len(core.sizes) == 1:
                seen = np.einsum("stl,stl->", table.row_forms(spread[j]), spread[i])
                strength[i, j] = seen / min(table.shape)
        i, j = max(strength, key=strength.get, default=(0, 0))
        return self.system.order[i], self.system.order[j]

    def without_rows(self):
        """The same factor, with nothing in it that has the length of the data."""
        return self if self.system.last is None else self._copy(self.system.without_rows())

    def _copy(self, system):
        copy = object.__new__(IterativeFactor)
        copy.__dict__.update(self.__dict__, system=system)
        return copy

    def compact(self, limit):
        """This factor without what only more iterations need, None if it takes over limit bytes."""
        if self.system.blocks.nbytes > limit:
            return None
        copy = self._copy(self.system._with(self.system.blocks))
        copy.__dict__.update(_starts={}, _solutions={})
        return copy

    def forms(self, *, fixed):
        """Nothing: exact second derivatives are had of small systems alone."""

    def marginal(self):
        """Not of this factor."""
        raise ValueError(_DIRECT_ONLY.format("derivatives of the information"))

    def selected(self):
        """Not of this factor."""
        raise ValueError(_DIRECT_ONLY.format("leverages"))


def _sandwich(N, K):
    return np.einsum("abl,bcl,cdl->adl", N, K, N, optimize=True)
