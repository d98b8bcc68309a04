"""The response and the weights as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmixed.design.columns import Table, clean, without_infinity
from skmixed.design.missing import total


def counts_of(sample_weight: Any, table: Table) -> np.ndarray | None:
    """How often each row counts, None if every row counts once; rows that do not are left out."""
    if sample_weight is None:
        return None
    counts = read_counts(sample_weight, table)
    if not counts.any():
        raise ValueError("sample_weight is zero for every row")
    if not counts.all():
        table.keep(np.flatnonzero(counts))
    return None if (counts[counts > 0] == 1).all() else counts


def read_counts(sample_weight: Any, table: Table) -> np.ndarray:
    """How often every row of the input counts."""
    counts = _vector(sample_weight, table, "sample_weight")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("sample_weight must be finite and not negative")
    return counts


def read_prior_weights(
    prior_weights: Any, table: Table, lenient: bool = False
) -> np.ndarray | None:
    """The prior weights of all rows, missing ones NaN; if ``lenient`` impossible ones, too."""
    if prior_weights is None:
        return None
    if isinstance(prior_weights, str):
        raw = table.column(prior_weights)
        column = clean(prior_weights, without_infinity(raw) if lenient else raw)
        if column.kind == "category":
            raise ValueError(f"the prior weights {prior_weights!r} are not numbers")
        weights = np.asarray(column.values, dtype=np.float64)
        weights = weights if column.missing is None else np.where(column.missing, np.nan, weights)
    else:
        weights = _vector(prior_weights, table, "prior_weights")
    if lenient:
        return np.where(weights > 0, weights, np.nan)
    bad = int((table.rows_of(weights) <= 0).sum())
    if bad:
        raise ValueError(
            f"prior_weights must be positive, {bad} value{'s are' if bad > 1 else ' is'} not: to "
            "leave a row out give it sample_weight 0"
        )
    return weights


def _vector(values: Any, table: Table, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (table.n_input,):
        raise ValueError(f"{name} has shape {values.shape}, the data have {table.n_input} rows")
    return values


def response_of_rows(response: Any, table: Table) -> np.ndarray | None:
    """A response given beside the formula, of all rows."""
    if response is None:
        return None
    values = np.asarray(response)
    if values.dtype.kind == "c":
        raise ValueError("the response holds complex numbers")
    if values.dtype.kind not in "fiub":
        values = _from_text(values)
    values = values.astype(np.float64, copy=False)
    if len(values) != table.n_input or values.ndim > 2:
        raise ValueError(f"y has shape {values.shape}, the data have {table.n_input} rows")
    infinite = int(np.isinf(values).sum()) if not np.isfinite(total(values)) else 0
    if infinite:
        raise ValueError(f"the response has {infinite} infinite value{'s' * (infinite > 1)}")
    return values


def _from_text(values: np.ndarray) -> np.ndarray:
    """An object array of numbers; anything else is an error."""
    column = clean("y", values)
    if column.kind == "category":
        raise ValueError("the response is text: it must be numbers")
    numbers = np.asarray(column.values, dtype=np.float64)
    return numbers if column.missing is None else np.where(column.missing, np.nan, numbers)
