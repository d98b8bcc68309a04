"""Rows that lack a value, and values that an expression does not define."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from skmixed.design.columns import Column, Table
from skmixed.design.grouping import Grouping


def check_missing(missing: str) -> None:
    if missing not in ("raise", "drop"):
        raise ValueError(f"missing is 'raise' or 'drop', got {missing!r}")


def drop_missing(
    table: Table,
    cleaned: Mapping[str, Column],
    grouping: Grouping,
    missing: str,
    vectors: Mapping[str, np.ndarray | None] | None = None,
) -> None:
    """Leave the rows with missing values out of ``table``, or raise an error that names them."""
    masks = {name: column.missing for name, column in cleaned.items()}
    for name, (codes, _) in grouping.items():
        masks[name] = codes < 0 if codes.size and codes.min() < 0 else None
    for name, values in (vectors or {}).items():
        if values is not None and np.isnan(total(values)):
            masks[name] = np.isnan(values.reshape(len(values), -1)).any(axis=1)
    left = {name: table.rows_of(mask) for name, mask in masks.items() if mask is not None}
    found = {name: mask for name, mask in left.items() if mask.any()}
    if not found:
        return
    if missing == "raise":
        counts = ", ".join(f"{name} ({int(mask.sum())})" for name, mask in found.items())
        raise ValueError(
            f"missing values (NaN) in {counts}: fill them in, or leave the rows out with "
            "missing='drop'"
        )
    keep = ~np.logical_or.reduce(list(found.values()))
    if not keep.any() and vectors is not None:
        raise ValueError(
            "no row is complete: every row has a missing value in a column that is used"
        )
    table.keep(np.flatnonzero(keep))


def undefined_rows(
    block: np.ndarray | None, names: Sequence[str], missing: str
) -> np.ndarray | None:
    """A mask of the rows with NaN; None if there are none."""
    if block is None or not block.size or not block.strides[0] or np.isfinite(total(block)):
        return None
    block = block.reshape(len(block), -1)
    for name, column in zip(names, block.T, strict=False):
        _check_finite(name, column, missing)
    mask = np.isnan(block).any(axis=1)
    return mask if mask.any() else None


def total(block: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        return float(block.sum())


def _check_finite(name: str, column: np.ndarray, missing: str) -> None:
    infinite, undefined = int(np.isinf(column).sum()), int(np.isnan(column).sum())
    if infinite:
        raise ValueError(f"{name!r} is infinite in {infinite} row{'s' * (infinite > 1)}")
    if undefined and missing == "raise":
        raise ValueError(
            f"{name!r} is not defined in {undefined} row{'s' * (undefined > 1)}: change the "
            "expression, or leave the rows out with missing='drop'"
        )
