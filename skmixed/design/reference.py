"""What a fit keeps of its covariates, so that means can be asked for when its rows are gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.random import cell_digits, combine_codes

# With more observed combinations of factors than this the table of their counts is not kept.
_MOST_CELLS = 100_000


@dataclass(frozen=True)
class Range:
    """Mean of a covariate over the counted rows, and its smallest and largest value."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ReferenceValues:
    """Observed levels of the factors, typical values of the covariates, and counts of cells.

    Attributes
    ----------
    factors : dict
        Levels (an Index, or an array of numbers or booleans) of every factor, in order.
    covariates : dict of Range
        Mean and range of every numeric column.
    observed : ndarray of int, (m, number of factors), or None
        Codes of the combinations of levels that occur; None where they are too many.
    counts : ndarray, (m,), or None
        How many rows each of them has.
    """

    factors: dict[str, Any] = field(default_factory=dict)
    covariates: dict[str, Range] = field(default_factory=dict)
    observed: np.ndarray | None = None
    counts: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Any],
        coded: Collection[str] = (),
        counts: np.ndarray | None = None,
    ) -> ReferenceValues:
        """The values of clean columns, categories with observed levels only.

        Parameters
        ----------
        columns : dict of arrays or Series of categories, n rows
        coded : names, optional
            Numbers that are levels, since the formula has them in ``C()``.
        counts : ndarray, (n,), optional
            How often each row counts.
        """
        codes, factors, covariates = [], {}, {}
        for name, values in columns.items():
            if hasattr(values.dtype, "categories"):
                codes.append(np.asarray(values.array.codes))
                factors[name] = values.array.categories
            elif values.dtype.kind == "b" or name in coded:
                levels, own = np.unique(values, return_inverse=True)
                codes.append(own)
                factors[name] = levels
            else:
                x = np.asarray(values, dtype=np.float64)
                mean = float(x.mean() if counts is None else np.average(x, weights=counts))
                covariates[name] = Range(mean, float(x.min()), float(x.max()))
        return cls(factors, covariates, *_cells(codes, [len(f) for f in factors.values()], counts))

    def merged(self, other: ReferenceValues, share: float) -> ReferenceValues:
        """The values of two sets of rows; ``share``: of the counted rows, how many are other's."""
        factors = {name: _union(own, other.factors[name]) for name, own in self.factors.items()}
        covariates = {
            name: Range(
                own.mean + share * (other.covariates[name].mean - own.mean),
                min(own.low, other.covariates[name].low),
                max(own.high, other.covariates[name].high),
            )
            for name, own in self.covariates.items()
        }
        if self.observed is None or other.observed is None:
            return ReferenceValues(factors, covariates)
        parts = (self, other)
        codes = np.vstack([part._codes_in(factors) for part in parts])
        sizes = [len(levels) for levels in factors.values()]
        counts = np.concatenate([part.counts for part in parts])
        return ReferenceValues(factors, covariates, *_cells(list(codes.T), sizes, counts))

    def in_levels(self, factors: Mapping[str, Any]) -> ReferenceValues:
        """The same with the levels of factors in another order."""
        factors = {name: factors.get(name, own) for name, own in self.factors.items()}
        if self.observed is None:
            return ReferenceValues(factors, self.covariates)
        codes, sizes = self._codes_in(factors), [len(levels) for levels in factors.values()]
        return ReferenceValues(factors, self.covariates, *_cells(list(codes.T), sizes, self.counts))

    def _codes_in(self, factors: Mapping[str, Any]) -> np.ndarray:
        """``observed`` in other levels."""
        assert self.observed is not None
        places = [
            pd.Index(factors[name]).get_indexer(pd.Index(own)) for name, own in self.factors.items()
        ]
        pairs = zip(places, self.observed.T, strict=True)
        return np.column_stack([place[code] for place, code in pairs])


def _union(levels: Any, others: Any) -> Any:
    """Levels of both: as they are where they are equal, else sorted."""
    same = len(levels) == len(others) and bool((np.asarray(levels) == np.asarray(others)).all())
    if same:
        return levels
    both = pd.Index(levels).union(pd.Index(others), sort=False)
    both = both.sort_values()
    return both if isinstance(levels, pd.Index) else both.to_numpy()


def _cells(codes, sizes, counts):
    """(observed, counts) of the observed combinations, or two None."""
    if not codes:
        return None, None
    if np.prod([float(size) for size in sizes]) > np.iinfo(np.intp).max:
        return None, None
    joint, cells = combine_codes(codes, sizes)
    if len(cells) > _MOST_CELLS:
        return None, None
    digits = np.column_stack(cell_digits(cells, sizes))
    return digits, np.bincount(joint, weights=counts, minlength=len(cells)).astype(float)
