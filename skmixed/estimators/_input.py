"""Inputs of mixed models before the design reads them: the groups= column, the response."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils.validation import column_or_1d

from skmixed.estimators._table import is_frame

# Name of the column that groups= adds.
GROUPS = "groups"


def n_rows(table):
    """Number of rows of a frame or of a dict of columns."""
    return len(table) if is_frame(table) else len(next(iter(table.values()), ()))


def with_groups(table, groups):
    """The table with one more column, ``groups``."""
    groups = np.asarray(groups)
    names = list(table.columns) if is_frame(table) else list(table)
    if GROUPS in names:
        raise ValueError(
            "groups= was given, but the data have a column named 'groups' too: use the column in "
            "the formula, or rename it"
        )
    n = n_rows(table)
    if groups.shape != (n,):
        raise ValueError(f"groups must have shape ({n},), got {groups.shape}")
    if not is_frame(table):
        return table | {GROUPS: groups}
    if isinstance(table, pd.DataFrame):
        return table.assign(**{GROUPS: groups})
    series = type(table.get_column(names[0]))  # of polars
    return table.hstack([series(GROUPS, groups.tolist())])


def response_vector(y, n, who):
    """The response as a vector of float64, NaN where it is missing, which the design looks at."""
    values = np.asarray(unmasked(y))
    if values.ndim == 2 and values.shape[1] != 1:
        raise ValueError(
            f"{who} models one response, y has shape {values.shape}: fit one model per column"
        )
    values = column_or_1d(values, warn=True)
    if len(values) != n:
        raise ValueError(f"{who}: X has {n} rows and y has {len(values)}: they must be the same")
    if values.dtype.kind not in "biuf":
        values = _numbers(values, who)
    values = values.astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum()
    infinite = 0 if np.isfinite(total) else int(np.isinf(values).sum())
    if infinite:
        raise ValueError(
            f"{who}: y has {infinite} infinite value{'s' * (infinite > 1)}: remove or replace the "
            "rows"
        )
    return values


def unmasked(values):
    """Masked values as the missing values they are; NumPy would bring the hidden ones back."""
    if not isinstance(values, np.ma.MaskedArray) or not np.ma.is_masked(values):
        return values
    return values.astype(np.result_type(values.dtype, np.float64)).filled(np.nan)


_KINDS = {
    "string": "text",
    "datetime64": "dates",
    "complex": "complex data",
    "mixed": "mixed types",
    "mixed-integer": "mixed types",
    "empty": "nothing but missing values",
}


def _numbers(values, who):
    """A response that came without a numeric dtype: Python numbers in an object array."""
    found = pd.api.types.infer_dtype(values, skipna=True)
    if found in ("integer", "floating", "mixed-integer-float", "boolean", "decimal"):
        return pd.Series(values).to_numpy(np.float64, na_value=np.nan)
    raise ValueError(
        f"{who}: y must be numbers, got {_KINDS.get(found, found)} (dtype {values.dtype}): convert "
        "it, for text that spells numbers with pandas.to_numeric"
    )
