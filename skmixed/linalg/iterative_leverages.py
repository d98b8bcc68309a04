"""Leverages z_i'Lambda H^-1 Lambda'z_i of rows from random signs, H = Lambda'Z'WZ Lambda + I.

With f_i what a row has in the core once the largest group is eliminated, N the eliminated blocks,

    lev_i = z_i0'N z_i0 + f_i'S^-1 f_i.

In first order S^-1 is Delta^-1, whose forms f_i'Delta^-1 f_i are exact: they need the levels of the
row and what they share. What is left is estimated from signs z of the core, A = S^-1 - Delta^-1:

    f_i'A f_i = E (f_i'A (I - W W') z) (f_i'(I - W W') z) + sum over W of (f_i'A w) (f_i'w)

with the vectors W that all levels of a group share taken out (Deflated of
:mod:`skmixed.linalg.iterative_traces`). f_i'v is the linear predictor of the core's effects T v
with the eliminated ones at what they are then, -N B T v.
"""

from __future__ import annotations

import numpy as np

from skmixed.linalg.iterative_core import times_blocks
from skmixed.linalg.iterative_traces import constants

# Rows worked on at a time.
_CHUNK = 1 << 14


def predictors(groups, fields, at):
    """z_i'b (c, k) of the rows in a slice, for effects b as fields (l, s, k) of every group."""
    total = 0.0
    for group, field in zip(groups, fields, strict=True):
        own = field[group.codes[at]]
        if group.is_intercept:
            total = total + own[:, 0]
        else:
            total = total + np.einsum("ns,nsk->nk", group.z[at], own)
    return total


class Leverages:
    """Leverages of the rows of an IterativePattern by k signs.

    Attributes
    ----------
    known : (n,)
        Their part that is not estimated.
    """

    def __init__(self, pattern, factor, n_probes, tolerance):
        self._pattern, self._core, self._k = pattern, factor.core, n_probes
        self._fields = [self._gathered(v) for v in self._vectors(factor, tolerance)]
        self.known = self._known()

    def _vectors(self, factor, tolerance):
        """[(I - W W') z, W] and A times these (q, k + w)."""
        core = self._core
        z, x = factor.probes(self._k, tolerance)
        W, xW = constants(core), factor.constants(tolerance)
        along = W.T @ z
        right = np.concatenate([z - W @ along, W], axis=1)
        left = np.concatenate([x - xW @ along, xW], axis=1)
        return right, left - core.blockwise(core.diagonal_inverse, right)

    def _gathered(self, v):
        """Effects (l, s, k) of the groups in order of elimination, whose predictor is f_i'v."""
        core = self._core
        b = core.scaled(v)
        first = -times_blocks(core.N, core.down(b))
        parts = [first, *core.views(b)]
        return [np.ascontiguousarray(x.transpose(1, 0, 2)) for x in parts]

    def _known(self):
        """z_0'N z_0 + f'Delta^-1 f of every row."""
        core, groups = self._core, self._pattern.ordered
        N = core.N
        around = np.einsum("abl,bcl,cdl->adl", N, core.below_spread, N, optimize=True)
        total = groups[0].level_forms(N + around)
        for j, (group, spread) in enumerate(zip(groups[1:], core.spread, strict=True), start=1):
            total = total + group.level_forms(spread)
            table, cells = core.blocks.tables[0, j], self._pattern.cells[0, j]
            shared = np.einsum(
                "bel,cel,cal->bal",
                spread[..., table.indices],
                table.values,
                N[..., cells.rows],
                optimize=True,
            )
            total -= 2.0 * group.forms(shared[..., cells.of_row], groups[0])
        return total

    def _estimated(self, at):
        """f_i'A .. times f_i'.. (c, k + w) of the rows in a slice."""
        right, left = (predictors(self._pattern.ordered, fields, at) for fields in self._fields)
        right *= left
        return right

    def _chunks(self):
        n = len(self.known)
        return (slice(lo, min(lo + _CHUNK, n)) for lo in range(0, n, _CHUNK))

    def mean(self):
        """Estimated leverages (n,)."""
        total = self.known.copy()
        for at in self._chunks():
            found = self._estimated(at)
            total[at] += found[:, : self._k].mean(axis=1) + found[:, self._k :].sum(axis=1)
        return total

    def sums(self, columns):
        """Sums over rows of leverage times column (k, m), from every probe.

        columns: slice of rows -> (c, m).
        """
        samples, exact = 0.0, 0.0
        for at in self._chunks():
            found, own = self._estimated(at), columns(at)
            samples = samples + found[:, : self._k].T @ own
            exact = exact + (self.known[at] + found[:, self._k :].sum(axis=1)) @ own
        return samples + exact
