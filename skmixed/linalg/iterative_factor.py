"""A penalised system at T, solved by conjugate gradients, with the methods of Factor.

With S Y = F = T'(X_c - B'N X_0) for the columns of X and y, S what is left of the core,

    M = [X y]'W[X y] - X_0'N X_0 - F'Y

holds X'V0^-1X, X'V0^-1y and y'V0^-1y. All of this is exact up to the tolerance of the iterations.
Traces and log |S| are not: they are estimated from random signs.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from skmixed.linalg.cholesky import NotPositiveDefinite
from skmixed.linalg.core import solve_lower
from skmixed.linalg.effects import Effects
from skmixed.linalg.iterative_cg import solve
from skmixed.linalg.iterative_core import Core, times_blocks
from skmixed.linalg.iterative_logdet import log_det
from skmixed.linalg.iterative_precondition import preconditioner
from skmixed.linalg.iterative_traces import constants, information_samples
from skmixed.linalg.iterative_variances import Variances

# Tolerances of the iterations, relative, by what is solved for.
_EXACT, _FORMS, _ROUNDING = 1e-7, 1e-3, 1e-11
# That of a Newton step, relative to what is left.
_STEP = 1e-3
_DIRECT_ONLY = (
    "{} cannot be had from a fit by the iterative solver: fit the model with solver='direct', if "
    "its crossed factors leave room for that"
)


class IterativeFactor(Variances):
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
