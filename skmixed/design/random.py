"""Grouping factors and random-effects terms: which level a row has, and its covariates there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np


@dataclass(frozen=True)
class RandomTerm:
    r"""One random-effects term: row i adds :math:`z_i' b_{codes_i}` to the linear predictor.

    Attributes
    ----------
    group : str
        The grouping factor, ``"g"`` or ``"a:b"``.
    names : tuple of str, (s,)
        The names of the columns of ``z``; ``"Intercept"`` for the constant one.
    codes : ndarray of intp, (n,)
        The level of each row, -1 where it is unknown or missing (new data only).
    levels : array or Index, (l,)
        The observed levels, sorted (categories in their own order). Terms with one grouping
        factor share the same ``codes`` and ``levels`` objects.
    z : ndarray of float64, (n, s)
        The covariates; an intercept alone is a read-only view that takes no memory.
    correlated : bool
        False for a term that ``||`` split off.
    structure : str
        The covariance of a level's effects: "us" for any, or one of `structure_names.STRUCTURES`.
    places : ndarray, (s,) or (s, d), or None
        Times or positions of the effects, for structures that have them.
    relationship : Relationship or None
        K of the levels, where they are related.
    elsewhere : ndarray, (n, d), or None
        Positions of the rows that are where the fit had none (new data only), NaN in others.
    """

    group: str
    names: tuple[str, ...]
    codes: np.ndarray
    levels: Any
    z: np.ndarray
    correlated: bool = True
    structure: str = "us"
    places: np.ndarray | None = None
    relationship: Any = None
    elsewhere: np.ndarray | None = None

    @property
    def n_levels(self) -> int:
        """The number of levels l."""
        return len(self.levels)

    @property
    def n_effects(self) -> int:
        """The number of effects l s."""
        return len(self.levels) * len(self.names)

    def of_rows(self, rows: np.ndarray) -> RandomTerm:
        """The term of some rows, a mask or indices, with all levels."""
        codes = self.codes[rows]
        elsewhere = None if self.elsewhere is None else self.elsewhere[rows]
        return replace(self, codes=codes, z=rows_of(self.z, rows), elsewhere=elsewhere)


def rows_of(z: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """z[rows]; a constant stays a view without memory."""
    return z[rows] if z.strides[0] else np.broadcast_to(1.0, (len(z[rows]), 1))


def combine_codes(codes: list[np.ndarray], sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the observed combinations, in lexicographic order, and their mixed-radix numbers.

    A row with a -1 among its codes has the code -1.
    """
    key = radix_key(codes, sizes)
    n_cells = prod(sizes)
    if n_cells <= 4 * len(key) + 1000:  # a table over all cells is cheaper than sorting the rows
        used = np.zeros(n_cells + 1, dtype=bool)
        used[key] = True
        cells = np.flatnonzero(used[:-1])
        return np.append(np.cumsum(used[:-1]) - 1, -1)[key], cells
    cells = np.unique(key)
    cells = cells[cells >= 0]
    return find_cells(key, cells), cells


def radix_key(codes: list[np.ndarray], sizes: list[int]) -> np.ndarray:
    """The number of every row's combination, the first factor varying slowest; -1 if one is -1."""
    if prod(sizes) > np.iinfo(np.intp).max:
        raise ValueError(f"the interaction of factors with {sizes} levels has too many cells")
    key = codes[0].astype(np.intp)
    missing = key < 0
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        key *= size
        key += code
        missing |= code < 0
    key[missing] = -1
    return key


def find_cells(key: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The places of ``key`` in the sorted ``cells``, -1 where it has none."""
    place = np.searchsorted(cells, key)
    place[place == len(cells)] = 0
    return np.where(cells[place] == key, place, -1) if len(cells) else np.full(len(key), -1)


def cell_digits(cells: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """The codes of the factors that make up each cell."""
    return list(np.unravel_index(cells, sizes))
