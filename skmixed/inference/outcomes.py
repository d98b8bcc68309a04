"""Outcomes by level of a grouping factor: how many, how many of either kind, what varies within."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

# Share of a column's size below which a difference within a level is rounding.
_SAME = 1e-12


@dataclass(frozen=True)
class LevelOutcomes:
    """Rows and outcomes of every level of one grouping factor.

    Attributes
    ----------
    group : str
    codes : (n,)
        The level of every row.
    table : DataFrame
        By level: ``rows`` (each as often as it counts), ``outcomes`` (trials), ``mean`` of the
        response (the share of successes), and ``kind``: ``"all 0"``, ``"all 1"`` or ``"mixed"``.
        Only levels that occur.
    binary : bool
        Whether outcomes are of two kinds.
    """

    group: str
    codes: np.ndarray
    table: pd.DataFrame
    binary: bool

    @classmethod
    def of(cls, term, y, trials, counts, *, binary):
        """Of a random-effects term's factor.

        Parameters
        ----------
        term : RandomTerm
        y : (n,)
            Responses; of two kinds, the numbers of successes.
        trials, counts : (n,)
            Numbers of trials (1 for other responses), and how often every row counts.
        """
        codes, n = term.codes, term.n_levels

        def sums(values):
            return np.bincount(codes, counts * values, n)

        rows = np.bincount(codes, counts, n)
        total, outcomes = sums(y), sums(trials if binary else np.ones(len(y)))
        nothing = sums(y != 0) == 0
        everything = (total == outcomes) & (outcomes > 0) if binary else np.zeros(n, dtype=bool)
        kind = np.select([nothing, everything], ["all 0", "all 1"], "mixed")
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / outcomes
        columns = {"rows": rows, "outcomes": outcomes, "mean": mean, "kind": kind}
        table = pd.DataFrame(columns, index=pd.Index(term.levels, name=term.group))
        return cls(term.group, codes, table[rows > 0], binary)

    def summary(self):
        """One line (Series): how many levels, their sizes, and how many have one outcome only."""
        size, kind = self.table["outcomes"], self.table["kind"]
        return pd.Series(
            {
                "levels": len(size),
                "smallest": size.min(),
                "median": size.median(),
                "largest": size.max(),
                "of one row": int((size == 1).sum()),
                "all 0": int((kind == "all 0").sum()),
                "all 1": int((kind == "all 1").sum()) if self.binary else 0,
            },
            name=self.group,
        )

    @property
    def one_sided(self):
        """Share of the levels whose outcomes are all alike."""
        return float((self.table["kind"] != "mixed").mean()) if len(self.table) else 0.0


def levels_with_variation(codes, X):
    """Number of levels (p,) within which every column of X (n, p) varies."""
    order = np.argsort(codes, kind="stable")
    begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
    X = X[order]
    spread = np.maximum.reduceat(X, begins) - np.minimum.reduceat(X, begins)
    return (spread > _SAME * np.abs(X).max(axis=0, initial=0.0)).sum(axis=0)
