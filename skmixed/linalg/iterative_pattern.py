"""What the iterative solver knows of rows before any weight: which of them share their levels."""

from __future__ import annotations

import numpy as np

from skmixed.linalg.iterative import PROBES, IterativeSystem
from skmixed.linalg.iterative_blocks import Blocks, cells_of, check_memory
from skmixed.linalg.iterative_leverages import Leverages, predictors


class IterativePattern:
    """The methods of :class:`skmixed.linalg.system.Pattern`, for systems solved by iterations.

    Attributes
    ----------
    groups : tuple of Group
        In the user's order.
    order : tuple of int
        The groups in order of elimination.
    cells : dict of (i, j) to Cells
        Of pairs of groups in that order: a system of other weights takes one pass over the rows.
    seed, n_probes
        As of IterativeSystem.
    """

    dense_rows = 0

    def __init__(self, groups, *, seed=0, n_probes=None):
        self.groups, self.seed, self.n_probes = tuple(groups), seed, n_probes
        self.order = tuple(sorted(range(len(groups)), key=lambda g: -groups[g].size))
        self.cells = cells_of(self.ordered)
        self._last = []

    @classmethod
    def build(cls, groups, n_fixed, *, seed=0, n_probes=None):
        """Pattern for groups beside n_fixed columns of X.

        Raises
        ------
        MemoryError
            Saying how much is needed, before it is asked for.
        """
        check_memory(groups, n_fixed, n_probes or PROBES)
        return cls(groups, seed=seed, n_probes=n_probes)

    @property
    def ordered(self):
        """The groups in order of elimination."""
        return [self.groups[g] for g in self.order]

    @property
    def without_fixed(self):
        """The pattern of the random effects alone."""
        return self

    def system(self, weights, X, y=None):
        """IterativeSystem of the rows for weights (n,), X (n, r) and a response y (n,) if any."""
        blocks = Blocks.of(self.ordered, weights, X, y, self.cells)
        last = self._last if X.shape[1] else None
        return IterativeSystem(blocks, self.order, self.seed, self.n_probes, last)

    def leverages(self, factor, n_probes, tolerance):
        """Leverages of the rows at an IterativeFactor of one of these systems."""
        return Leverages(self, factor, n_probes, tolerance)

    def predictors(self, effects):
        """Slice of rows -> [z_i'b] (c, k), for effects b (Effects)."""
        fields = [np.ascontiguousarray(x.transpose(2, 0, 1)) for x in effects.random]
        return lambda at: predictors(self.groups, fields, at)
