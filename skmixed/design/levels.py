"""Levels of grouping factors: which level of the fit a level of new rows is."""

from __future__ import annotations

import numpy as np
import pandas as pd

_NUMBERS = ("integer", "floating", "mixed-integer-float", "boolean", "decimal")
_TIMES = ("datetime", "datetime64", "date", "period")
# Frequencies of periods that are as short as the timestamps that name days and times.
_SHORT_PERIODS = ("D", "B", "h", "H", "min", "T", "s", "S", "ms", "L", "us", "U", "ns", "N")


def level_kind(levels: pd.Index) -> str:
    """``"number"``, ``"text"`` or ``"other"``: levels of different kinds can never match."""
    inferred = pd.api.types.infer_dtype(levels, skipna=True)
    if inferred in _NUMBERS:
        return "number"
    return "text" if inferred == "string" else "other"


def find_levels(levels: pd.Index, own: pd.Index) -> np.ndarray:
    """The place (k,) of each of ``own`` among ``levels``, -1 for those that are not there.

    A level is its value and not its dtype: False is 0, a number of single precision is the number
    of double precision that it was rounded from, a day as a period or date is the day's midnight.
    """
    levels, own = _common_type(levels, own)
    if isinstance(levels, pd.IntervalIndex) != isinstance(own, pd.IntervalIndex):
        return np.full(len(own), -1)  # pandas would look for the interval that holds a number
    return levels.get_indexer(own)


def _common_type(levels: pd.Index, own: pd.Index) -> tuple[pd.Index, pd.Index]:
    """Both in a dtype in which equal values are equal."""
    if levels.dtype == own.dtype and levels.dtype != object:
        return levels, own
    kinds = [pd.api.types.infer_dtype(index, skipna=True) for index in (levels, own)]
    if all(kind in _TIMES for kind in kinds):
        return _as_times(levels), _as_times(own)
    levels, own = (
        index.astype(np.int64) if kind == "boolean" else index
        for index, kind in zip((levels, own), kinds, strict=True)
    )
    widths = [index.dtype.itemsize if index.dtype.kind == "f" else 8 for index in (levels, own)]
    narrow = f"f{min(widths)}"
    if widths[0] != widths[1] and levels.astype(narrow).is_unique:
        return levels.astype(narrow), own.astype(narrow)
    return levels, own


def _as_times(index: pd.Index) -> pd.Index:
    """Timestamps of dates and short periods; what has none is left as it is."""
    if isinstance(index, pd.PeriodIndex):
        short = index.freqstr.split("-")[0] in _SHORT_PERIODS
        return index.to_timestamp() if short else index
    if isinstance(index, pd.DatetimeIndex):
        return index
    try:
        return pd.DatetimeIndex(pd.to_datetime(index))
    except (TypeError, ValueError):  # zones that differ, dates before 1677
        return index
