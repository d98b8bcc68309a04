"""What a fit keeps of its covariates, so that means can be asked for when its rows are gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
