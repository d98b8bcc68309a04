"""Conditional variances of random effects, and variances of new rows, by conjugate gradients."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from skmixed._warn import warn
from skmixed.exceptions import SlowPredictionWarning
from skmixed.linalg.core import solve_lower
from skmixed.linalg.iterative_core import squares, times_blocks

# Tolerance of the iterations, relative, and for the mean error of what is not iterated.
_VARIANCES, _ERROR = 1e-5, 1e-4
# Rows of new data solved for at a time, and how many of them are told to take long.
_BATCH, _MANY = 32, 10_000
# Effects of the smallest groups whose conditional variances are exact, and numbers they may take.
_FEW, _FEW_NUMBERS = 256, 1 << 23


class Variances:
    """The part of an IterativeFactor that tells how sure effects and predictions are."""

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
        missing = (self._solve("probes", z, _ERROR).x - known) * z
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


def _sandwich(N, K):
    return np.einsum("abl,bcl,cdl->adl", N, K, N, optimize=True)
