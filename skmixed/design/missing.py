"""Rows that lack a value, and values that an expression does not define."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from skmixed.design.columns import Column, Table
from skmixed.design.grouping import Grouping


@dataclass(frozen=True)
class RowPolicy:
    """What becomes of new rows that lack something.

    Attributes
    ----------
    missing : {"raise", "drop"}
        Rows with missing values, and where an expression is not defined.
    unknown : {"raise", "drop"}
        Rows with a category that the fit did not have.
    levels : {"missing", "unseen"}
        Whether a missing level of a grouping factor is a missing value, or one more unseen level.
    infinite : {"raise", "drop"}
        Rows with infinite covariates, and where an expression is infinite.
    """

    missing: str = "raise"
    unknown: str = "raise"
    levels: str = "missing"
    infinite: str = "raise"

    @classmethod
    def of(cls, missing: str | RowPolicy) -> RowPolicy:
        """A policy, or that of what becomes of missing values alone."""
        if isinstance(missing, RowPolicy):
            return missing
        check_missing(missing)
        return cls(missing)


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


def drop_unknown(table: Table, cleaned: Mapping[str, Column]) -> None:
    """Leave the rows with unknown categories, where these are no error, out of ``table``."""
    masks = [column.unknown for column in cleaned.values() if column.unknown is not None]
    if masks:
        table.keep(np.flatnonzero(~table.rows_of(np.logical_or.reduce(masks))))


def undefined_rows(
    block: np.ndarray | None, names: Sequence[str], missing: str | RowPolicy
) -> np.ndarray | None:
    """A mask of the rows with NaN; None if there are none."""
    if block is None or not block.size or not block.strides[0] or np.isfinite(total(block)):
        return None
    block, policy = block.reshape(len(block), -1), RowPolicy.of(missing)
    if policy.infinite == "drop":
        mask = ~np.isfinite(block).all(axis=1)
        return mask if mask.any() else None
    for name, column in zip(names, block.T, strict=False):
        _check_finite(name, column, policy.missing)
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
            f"expression{_SPLINE if _is_spline(name) else ''}, or leave the rows out with "
            "missing='drop'"
        )


_SPLINE = " (beyond the rows of the fit, or its bounds, a spline needs extrapolation='extend')"


def _is_spline(name: str) -> bool:
    return re.search(r"\b(bs|cr|cs|cc)\(", name) is not None
