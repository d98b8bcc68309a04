"""What estimators need to know about an input before scikit-learn validates it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils.validation import _check_feature_names, _check_n_features


def is_frame(X) -> bool:
    """Whether X is a pandas or polars DataFrame."""
    # asked of the type: reading a frame's dtypes would build a Series
    return hasattr(type(X), "columns") and hasattr(type(X), "dtypes")


def has_text_names(X) -> bool:
    """Whether the columns of a DataFrame have different names, all of them text."""
    if not isinstance(X, pd.DataFrame):
        return False
    # both are kept by the index, which frames of other rows share
    return X.columns.is_unique and X.columns.inferred_type == "string"


def column_names(X) -> list[str]:
    """Column names of a DataFrame as text, an error if two are equal."""
    names = [str(name) for name in X.columns]
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the data have more than one column named {repeated}: rename them")
    return names


def categorical_columns(X) -> list[str]:
    """Names of the columns of a DataFrame that hold no numbers."""
    names = column_names(X)
    if isinstance(X, pd.DataFrame):
        numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in X.dtypes]
    else:
        numeric = [dtype.is_numeric() or str(dtype) == "Boolean" for dtype in X.dtypes]
    return [name for name, number in zip(names, numeric, strict=True) if not number]


def as_text_columns(X):
    """A DataFrame whose column names are text."""
    if isinstance(X, pd.DataFrame) and not has_text_names(X):
        return X.set_axis(column_names(X), axis="columns")
    return X


def as_columns(X):
    """A DataFrame with text names from a DataFrame or, with names x0, x1, ..., from an array."""
    if is_frame(X):
        return as_text_columns(X)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(np.shape(X)[1])])


def remember_features(estimator, X) -> None:
    """Set n_features_in_ and feature_names_in_ as scikit-learn does."""
    _check_feature_names(estimator, X, reset=True)
    _check_n_features(estimator, X, reset=True)


def check_same_features(estimator, X) -> None:
    """Names and number of columns must be those of the fit."""
    _check_feature_names(estimator, X, reset=False)
    _check_n_features(estimator, X, reset=False)
