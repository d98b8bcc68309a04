"""Levels that were taken in apart from those of a fit, whose cross-products were gone.

Given the fixed effects gamma they are independent of the levels of the fit. With C the covariance
of their effects given gamma and M = C Z'WQ, the error of their modes is that of C alone less M
times the error of gamma. So the variance of a row with z_0 at levels of the fit, z_1 at the others
and x is that of (z_0, x - M'z_1) by the factor of the fit, and z_1'C z_1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.linalg.system import Effects, Factor


@dataclass(frozen=True, eq=False)
class Part:
    """Levels with a factor of their own.

    places: for every group (m,) their numbers among all, in order; shifts: for every group M
    (s, r, m), None for the levels of the fit.
    """

    places: tuple[np.ndarray, ...]
    factor: Factor
    shifts: tuple[np.ndarray, ...] | None = None

    @classmethod
    def of(cls, places, factor):
        """The part of rows, from the factor of a system of these alone."""
        r = len(factor.fixed_root)
        none = [np.zeros((len(T), r, len(at))) for T, at in zip(factor.T, places, strict=True)]
        moved, _ = factor.solve(factor.system.times(Effects(none, np.eye(r))), fixed=False)
        return cls(places, factor, tuple(moved.random))

    def codes(self, codes):
        """Numbers of levels among those of the part, -1 for others."""
        found = []
        for place, own in zip(self.places, codes, strict=True):
            order = np.argsort(place)
            at = np.searchsorted(place, own, sorter=order)
            at = order[np.minimum(at, len(place) - 1)] if len(place) else at
            known = (own >= 0) & (place[at] == own) if len(place) else np.zeros(len(own), bool)
            found.append(np.where(known, at, -1))
        return found

    def shift(self, codes, z):
        """M'z (n, r) of rows."""
        total = 0.0
        for own, rows, shifts in zip(codes, z, self.shifts, strict=True):
            if shifts.shape[2]:
                wide = np.where(own >= 0, shifts[..., own], 0.0)
                total = total + np.einsum("ns,srn->nr", rows, wide)
        return total


@dataclass(frozen=True, eq=False)
class Apart:
    """The levels of a fit, and others beside them: what `Factor.row_norms` is of all of them."""

    parts: tuple[Part, ...]

    def moved(self, levels):
        """The same among the levels of a larger set."""
        parts = (
            replace(part, places=tuple(at[own] for at, own in zip(levels.places, part.places,
                                                                  strict=True)))
            for part in self.parts
        )  # fmt: skip
        return Apart(tuple(parts))

    def row_norms(self, codes, z, x, fixed_root=None):
        """As of a Factor, codes among all levels."""
        fit, *others = self.parts
        total = np.zeros(len(x))
        for part in others:
            own = part.codes(codes)
            shift = np.broadcast_to(part.shift(own, z), x.shape)
            total += part.factor.row_norms(own, z, shift)
            x = x - shift
        return total + fit.factor.row_norms(fit.codes(codes), z, x, fixed_root)
