"""Exact second derivatives of the criterion where the whole system is one small dense matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skmixed.linalg.core import diagonal_blocks, solve_lower
from skmixed.linalg.pattern import GramPlan

# Largest pivot at which the difference that Z'PZ is has its digits.
_LARGE_PIVOT = 1e3


@dataclass(frozen=True, eq=False)
class DenseForms:
    """Z'PZ between all random effects, in the order of the core.

    Attributes
    ----------
    plan : GramPlan
    C : (q, q)
        Z'P0Z, P0 = V0^-1 - V0^-1 X (X'V0^-1X)^-1 X'V0^-1.
    traced : (q, q)
        The one whose traces the criterion has: C for REML, Z'V0^-1 Z for ML.
    c : (q,)
        Scores Z'P0y.
    pwrss : float
    """

    plan: GramPlan
    C: np.ndarray
    traced: np.ndarray
    c: np.ndarray
    pwrss: float

    @classmethod
    def of(cls, f, fixed):
        """Of a BlockedFactor; None where its size or its digits do not allow it.

        With L of the scaled system, V = L^-1 [Lambda'Z'; X'; y'] W Z has the rows of the effects,
        of X and of y: Z'V0^-1 Z is Z'WZ without the squares of the first, P0 takes those of X too,
        and the last one is c' / r.
        """
        plan = f.plan
        if f.half is None or not plan.q_core or not f.pwrss > 0:
            return None
        if f.core.diagonal()[: plan.q_core].max() > _LARGE_PIVOT:
            return None
        q = plan.q_core
        V = solve_lower(f.core, f.half[:, :q])
        traced = f.products.dense[:q, :q] - V[:q].T @ V[:q]
        C = traced - V[q:-1].T @ V[q:-1]
        return cls(plan, C, C if fixed else traced, V[-1] * f.core[-1, -1], f.pwrss)

    def information(self, response):
        """Sum over levels of diagonal blocks of Z'PZ (s, s), by group of the core."""
        found = []
        for group, rows in self.plan.core_groups:
            c = self.c[rows].reshape(-1, group.n_columns)
            blocks = diagonal_blocks(self.traced, rows, group.n_columns).sum(axis=0)
            found.append(blocks - (response / self.pwrss) * (c.T @ c))
        return found

    def second(self, tangents, response):
        """Average information, and the exact part of the Hessian that is linear in no curvature.

        Parameters
        ----------
        tangents : list of (p, s, s)
            Derivatives of the covariance of every group of the core by its parameters.
        response : float

        Returns
        -------
        average, exact : (t, t)
            Parameters of all groups side by side.
        """
        moved, a = [], []
        for (group, rows), D in zip(self.plan.core_groups, tangents, strict=True):
            own = self.traced[rows].reshape(-1, group.n_columns, len(self.c))
            moved.append((D[:, None] @ own).reshape(len(D), -1, len(self.c)))
            c = self.c[rows].reshape(-1, group.n_columns)
            along = np.zeros((len(D), len(self.c)))
            along[:, rows] = (c @ D).reshape(len(D), -1)
            a.append(along)
        a = np.concatenate(a)
        h = a @ self.c / self.pwrss
        squares = h[:, None] * h
        average = response * ((a @ self.C @ a.T) / self.pwrss - squares)
        exact = 2.0 * average + response * squares - self._traces(moved)
        return average, exact

    def _traces(self, moved):
        """tr(D_j C D_k C) (t, t) from D_j C of every group."""
        sizes = [len(own) for own in moved]
        ends = np.cumsum([0, *sizes])
        found = np.empty((ends[-1],) * 2)
        groups = [rows for _, rows in self.plan.core_groups]
        for g, own in enumerate(moved):
            for h, other in enumerate(moved[: g + 1]):
                left = own[:, :, groups[h]].reshape(sizes[g], -1)
                right = other[:, :, groups[g]].transpose(0, 2, 1).reshape(sizes[h], -1)
                block = left @ right.T
                found[ends[g] : ends[g + 1], ends[h] : ends[h + 1]] = block
                found[ends[h] : ends[h + 1], ends[g] : ends[g + 1]] = block.T
        return found
