"""Exact second derivatives of the criterion where the whole system is one small dense matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skmixed.linalg.core import diagonal_blocks, solve_lower
from skmixed.linalg.effects import in_given_order

# Largest pivot at which the difference that Z'PZ is has its digits.
_LARGE_PIVOT = 1e3


@dataclass(frozen=True, eq=False)
class DenseForms:
    """Z'PZ between all random effects, which are in the order of the core.

    Attributes
    ----------
    groups : list of (group, slice)
        In the user's order, with their rows.
    C : (q, q)
        Z'P0Z, P0 = V0^-1 - V0^-1 X (X'V0^-1X)^-1 X'V0^-1.
    traced : (q, q)
        The one whose traces the criterion has: C for REML, Z'V0^-1 Z for ML.
    c : (q,)
        Scores Z'P0y.
    pwrss : float
    """

    groups: list
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
        groups = in_given_order(plan, plan.core_groups)
        return cls(groups, C, C if fixed else traced, V[-1] * f.core[-1, -1], f.pwrss)

    def information(self, response):
        """Sum over levels of diagonal blocks of Z'PZ (s, s), by group."""
        found = []
        for group, rows in self.groups:
            c = self.c[rows].reshape(-1, group.n_columns)
            blocks = diagonal_blocks(self.traced, rows, group.n_columns).sum(axis=0)
            found.append(blocks - (response / self.pwrss) * (c.T @ c))
        return found

    def moved(self, tangents):
        """D_j Z'PZ (p, size, q) for derivatives D (p, s, s) of the covariances of every group."""
        found = []
        for (group, rows), D in zip(self.groups, tangents, strict=True):
            own = self.traced[rows]
            if group.n_columns > 1:
                stacked = own.reshape(-1, group.n_columns, len(self.c))
                found.append((D[:, None] @ stacked).reshape(len(D), *own.shape))
            else:
                found.append(D * own)
        return found

    def average(self, tangents, response):
        """Average information (t, t) of the parameters of all groups side by side, and h (t,).

        h_j = c'D_j c / r^2, tangents as in :meth:`moved`.
        """
        parts = [(rows, D) for (_, rows), D in zip(self.groups, tangents, strict=True)]
        a, begin = np.zeros((sum(len(D) for D in tangents), len(self.c))), 0
        for rows, D in parts:
            own = self.c[rows].reshape(-1, D.shape[1]) @ D
            if len(D):
                a[begin : begin + len(D), rows] = own.reshape(len(D), -1)
            begin += len(D)
        h = a @ self.c / self.pwrss
        return response * ((a @ self.C @ a.T) / self.pwrss - h[:, None] * h), h

    def traces(self, tangents):
        """tr(D_j Z'PZ D_k Z'PZ) (t, t), tangents as in :meth:`moved`."""
        moved, groups = self.moved(tangents), [rows for _, rows in self.groups]
        ends = np.cumsum([0, *map(len, moved)]).tolist()
        found = np.empty((ends[-1],) * 2)
        for g, own in enumerate(moved):
            for h, other in enumerate(moved[: g + 1]):
                left, right = own[:, :, groups[h]], other[:, :, groups[g]]
                block = np.einsum("jab,kba->jk", left, right)
                found[ends[g] : ends[g + 1], ends[h] : ends[h + 1]] = block
                found[ends[h] : ends[h + 1], ends[g] : ends[g + 1]] = block.T
        return found
