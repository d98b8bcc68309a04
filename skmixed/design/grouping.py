"""Grouping factors: the level of every row, as the fit saw them and of new rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.columns import Table, TextColumn, factorize, few_codes, observed, same_index
from skmixed.design.levels import find_levels, level_kind
from skmixed.design.names import split_group
from skmixed.design.plan import Plan
from skmixed.design.random import cell_digits, combine_codes, find_cells, radix_key

# name -> (codes of all rows, levels) of a grouping column
Grouping = dict[str, tuple[np.ndarray, pd.Index]]


@dataclass(frozen=True)
class GroupSpec:
    """A grouping factor as the fit saw it.

    ``cells`` numbers the observed combinations of ``a:b`` in mixed radix; None for one column.
    """

    columns: tuple[str, ...]
    column_levels: tuple[pd.Index, ...]
    cells: np.ndarray | None
    levels: pd.Index

    def codes(self, grouping: Grouping, n_rows: int) -> np.ndarray:
        """The codes of new rows, -1 for levels and combinations that the fit did not have."""
        if not self.columns:
            return np.zeros(n_rows, dtype=np.intp)
        codes = [
            _known_codes(name, *grouping[name], levels)
            for name, levels in zip(self.columns, self.column_levels, strict=True)
        ]
        if self.cells is None:
            return codes[0]
        return find_cells(radix_key(codes, [len(own) for own in self.column_levels]), self.cells)

    def with_levels_of(self, grouping: Grouping) -> tuple[GroupSpec, np.ndarray]:
        """The factor with the levels of further rows too, and where its own are among them.

        New levels come last; combinations of several columns stay in the order of their numbers.
        """
        known = [
            (_known_codes(name, *grouping[name], levels), *grouping[name])
            for name, levels in zip(self.columns, self.column_levels, strict=True)
        ]
        joined = [
            _joined_levels(levels, *own)
            for levels, own in zip(self.column_levels, known, strict=True)
        ]
        levels = tuple(own for _, own in joined)
        if self.cells is None:
            spec = replace(self, column_levels=levels, levels=levels[0])
            return spec, np.arange(len(self.levels))
        sizes = [len(own) for own in levels]
        digits = cell_digits(self.cells, [len(own) for own in self.column_levels])
        before = radix_key(list(digits), sizes)
        cells = np.union1d(before, radix_key([codes for codes, _ in joined], sizes))
        cells = cells[cells >= 0]
        label = _cell_labels(levels, cells)
        return replace(self, column_levels=levels, cells=cells, levels=label), find_cells(
            before, cells
        )

    def of_places(self, places: np.ndarray) -> GroupSpec:
        """The factor with some of its levels, by their places."""
        if not self.columns:
            return replace(self, levels=self.levels[places])
        if self.cells is None:
            levels = self.levels[places]
            return replace(self, column_levels=(levels,), levels=levels)
        return replace(self, cells=self.cells[places], levels=self.levels[places])

    def cell_table(self) -> np.ndarray:
        """The code of every combination of levels, mixed radix, with one more level of each column.

        The number of levels stands for combinations that the fit did not have.
        """
        assert self.cells is not None
        sizes = [len(own) for own in self.column_levels]
        table = np.full([size + 1 for size in sizes], len(self.levels), dtype=np.int64)
        table[tuple(cell_digits(self.cells, sizes))] = np.arange(len(self.cells))
        return table.ravel()

    @property
    def wrong(self) -> str | None:
        """What no grouping factor of a fit has, None where there is nothing."""
        if self.cells is not None:
            same = len(self.cells) in (0, len(self.levels))
            return None if same else f"has {len(self.cells)} cells for {len(self.levels)} levels"
        if self.columns and not self.levels.equals(self.column_levels[0]):
            return "has its levels twice, and they differ"
        return None

    def of_levels(self, levels: pd.Index) -> GroupSpec:
        """The factor with some of its levels, or with new ones that no row of a table has."""
        place = self.levels.get_indexer(levels)
        if (place < 0).any():
            return replace(self, cells=np.zeros(0, dtype=np.intp), levels=levels)
        cells = np.arange(len(self.levels)) if self.cells is None else self.cells
        return replace(self, cells=cells[place], levels=levels)


def read_levels(name: str, raw: Any, levels: pd.Index) -> tuple[np.ndarray, pd.Index]:
    """Codes and levels of a grouping column of new rows, those of the fit where that is cheap."""
    codes = None if isinstance(raw, TextColumn) else few_codes(raw, levels)
    return factorize(name, raw, whole=True) if codes is None else (codes, levels)


def _known_codes(name: str, codes: np.ndarray, own: pd.Index, levels: pd.Index) -> np.ndarray:
    if same_index(own, levels):
        return codes
    codes, own = observed(codes, own)
    if len(own) and level_kind(own) != level_kind(levels):
        raise ValueError(
            f"grouping factor {name!r} had levels like {first_of(levels)} at the fit and has "
            f"levels like {first_of(own)} now: convert the column"
        )
    return np.append(find_levels(levels, own), -1).astype(np.intp)[codes]


def own_codes(columns: tuple[str, ...], grouping: Grouping) -> tuple[np.ndarray, pd.Index]:
    """Codes in the levels of the rows themselves; every unknown one is a level of its own."""
    codes, spec = group_factor(columns, {name: observed(*grouping[name]) for name in columns})
    unknown = np.flatnonzero(codes < 0)
    codes = codes.copy()
    codes[unknown] = len(spec.levels) + np.arange(len(unknown))
    return codes, pd.Index([*spec.levels, *(f"unknown {row}" for row in unknown)], dtype=object)


def first_of(levels: pd.Index) -> str:
    """The first level as messages show it."""
    return repr(levels[:1].tolist()[0])


def group_factor(columns: tuple[str, ...], kept: Grouping) -> tuple[np.ndarray, GroupSpec]:
    codes, levels = [kept[name][0] for name in columns], tuple(kept[name][1] for name in columns)
    if len(columns) == 1:
        return codes[0], GroupSpec(columns, levels, None, levels[0])
    sizes = [len(own) for own in levels]
    joint, cells = combine_codes(codes, sizes)
    return joint, GroupSpec(columns, levels, cells, _cell_labels(levels, cells))


def _cell_labels(levels: tuple[pd.Index, ...], cells: np.ndarray) -> pd.Index:
    """Names "a:b" of combinations."""
    digits = cell_digits(cells, [len(own) for own in levels])
    texts = [_texts(own)[digit] for own, digit in zip(levels, digits, strict=True)]
    label = texts[0]
    for text in texts[1:]:
        label = label + ":" + text
    return pd.Index(label)


def _joined_levels(
    levels: pd.Index, known: np.ndarray, codes: np.ndarray, own: pd.Index
) -> tuple[np.ndarray, pd.Index]:
    """Codes of rows, whose levels are ``own``, in ``levels`` and after them those unknown there."""
    new = np.unique(codes[(known < 0) & (codes >= 0)])
    if not len(new):
        return known, levels
    place = np.full(len(own) + 1, -1)
    place[new] = len(levels) + np.arange(len(new))
    return np.where(known < 0, place[codes], known), levels.append(pd.Index(own[new]))


def _texts(levels: pd.Index) -> np.ndarray:
    if levels.inferred_type != "string":
        levels = levels.astype(str)
    return levels.to_numpy(dtype=object)


def group_codes(
    plan: Plan, table: Table, grouping: Grouping, groups: dict[str, GroupSpec]
) -> dict[str, np.ndarray]:
    """The codes of every grouping factor; their specifications are added to ``groups``."""
    kept = {
        name: observed(table.rows_of(codes), levels) for name, (codes, levels) in grouping.items()
    }
    made = {}
    fields = {spec.group for spec in plan.terms.random if not spec.columns}
    for group in plan.terms.groups:
        if group in fields:
            made[group] = np.zeros(table.n_rows, dtype=np.intp)
            groups[group] = GroupSpec((), (), None, pd.Index(["field"]))
            continue
        made[group], groups[group] = group_factor(split_group(group), kept)
        if len(groups[group].levels) < 2:
            raise ValueError(
                f"the grouping factor {group!r} has one level, "
                f"{str(groups[group].levels[0])!r}: a variance between levels needs at least two"
            )
    return made
