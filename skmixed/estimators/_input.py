"""The door: inputs of mixed models as a `Table`, the groups= column, the response as a vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils.validation import column_or_1d, validate_data

from skmixed.design.columns import Table
from skmixed.estimators._table import as_text_columns, column_names, has_text_names, is_frame

# Name of the column that groups= adds.
GROUPS = "groups"


class ReadsTables:
    """How an estimator reads X: by name from a frame or a dict, by position from an array."""

    formula: Any
    n_features_in_: int

    def _table(self, X, *, reset) -> Table:
        """X by name, checked as scikit-learn does; ``reset`` records names and their number."""
        if isinstance(X, Mapping) and not sparse.issparse(X):
            X = pd.DataFrame(X)
        return self._table_of_frame(X, reset) if is_frame(X) else self._table_of_array(X, reset)

    def _table_of_frame(self, X, reset):
        if not has_text_names(X):
            column_names(X)
        if self.formula is not None:  # its columns are found by name; order and number are free
            X = as_text_columns(X)
            if reset:
                self.feature_names_in_ = np.asarray(X.columns, dtype=object)
                self.n_features_in_ = len(X.columns)
            return Table(X)
        validate_data(self, X, reset=reset, skip_check_array=True)
        if hasattr(self, "feature_names_in_"):
            return Table(X)
        columns = (X[name] for name in X.columns)
        return Table(dict(zip(self._feature_names(), columns, strict=True)))

    def _table_of_array(self, X, reset):
        if self.formula is not None and isinstance(X, list | tuple):
            X = np.array(X, dtype=object)  # else one text among numbers makes all of them text
        X = unmasked(X)
        # missing values are the design's to report: it names columns and counts
        kind = {"dtype": None if self._may_hold_text(X) else "numeric"}
        if not reset:
            kind["ensure_min_samples"] = 0
        X = validate_data(self, X, reset=reset, ensure_all_finite=False, **kind)
        return Table(dict(zip(self._feature_names(), X.T, strict=True)))

    def _may_hold_text(self, X):
        """Whether an array is read by the formula, or holds categories."""
        if self.formula is not None:
            return True
        values = X if sparse.issparse(X) else np.asarray(X)
        if values.dtype.kind == "O":
            return any(isinstance(value, str) for value in values.flat)
        return values.dtype.kind in "US"

    def _feature_names(self):
        names = getattr(self, "feature_names_in_", None)
        return [f"x{j}" for j in range(self.n_features_in_)] if names is None else list(names)


def with_groups(table: Table, groups) -> Table:
    """The table with one more column, ``groups``."""
    if GROUPS in table.names:
        raise ValueError(
            "groups= was given, but the data have a column named 'groups' too: use the column in "
            "the formula, or rename it"
        )
    if isinstance(groups, str):
        column = f"data[{groups!r}]" if groups in table.names else "a column of the data"
        raise ValueError(
            f"groups are the levels of {table.n_rows} rows, got the text {groups!r}: pass "
            f"groups={column} and leave it out of X, or name it in the formula, as in (1 | g)"
        )
    shape = np.shape(groups)
    if shape != (table.n_rows,):
        raise ValueError(f"groups must have shape ({table.n_rows},), got {shape}")
    return table.with_column(GROUPS, groups)


def response_column(y):
    """The response as one column, a categorical with its categories."""
    if isinstance(y, pd.DataFrame) or (is_frame(y) and len(y.columns) == 1):
        y = y[y.columns[0]] if len(y.columns) == 1 else y
    if hasattr(y, "to_physical") or isinstance(getattr(y, "dtype", None), pd.CategoricalDtype):
        return y
    return column_or_1d(np.asarray(unmasked(y)), warn=True)


def response_vector(y, n, who):
    """The response as a vector of float64, NaN where it is missing, which the design looks at."""
    values = np.asarray(unmasked(y))
    check_one_response(values, n, who)
    values = column_or_1d(values, warn=True)
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


def check_one_response(y, n, who):
    """Raise an error for several responses, or for one of another length than X."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    if len(shape) == 2 and shape[1] != 1:
        raise ValueError(
            f"{who} models one response, y has shape {shape}: fit one model per column, as "
            f"MultiOutputRegressor({who}(...)) does"
        )
    if shape and shape[0] != n:
        raise ValueError(f"{who}: X has {n} rows and y has {shape[0]}: they must be the same")


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
    labels = pd.unique(values[~pd.isna(values)])
    if found == "string" and len(labels) == 2:
        way = f"for the classes {sorted(labels.tolist())} there is MixedLogisticClassifier"
    else:
        way = "convert it, for text that spells numbers with pandas.to_numeric"
    raise ValueError(
        f"{who}: y must be numbers, got {_KINDS.get(found, found)} (dtype {values.dtype}): {way}"
    )
