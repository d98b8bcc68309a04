"""Reference grids: the rows of X at all combinations of levels, and averages of them.

A grid knows no data. Levels, means and counts are what the design kept of the rows of the fit, and
rows of X come from the design, so that ``I(x**2)`` is the square of the mean of x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.reference import ReferenceValues

WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")
# Rows of a grid that are averaged, and numbers held of them at a time.
_MOST_ROWS = 5_000_000
_AT_A_TIME = 1 << 22
# Share of a covariate's range over which its trend is taken.
_STEP = 1e-3


@dataclass(frozen=True)
class Averages:
    """Averages of rows of a grid: functions K beta + offset, one for each row of ``index``.

    K is NaN where there is nothing to average.
    """

    index: pd.Index
    K: np.ndarray
    offset: np.ndarray
    averaged: tuple[str, ...]


@dataclass(frozen=True)
class ReferenceGrid:
    """All combinations of the observed levels of factors, covariates at their means.

    Attributes
    ----------
    design : DesignSpec or GLMDesign
        Makes rows of X.
    reference : ReferenceValues
    values : dict
        The values of every factor and covariate; a covariate has one unless asked otherwise.
    n_columns : int
        Columns of X; one more than the design makes stands for a constant before them.
    places : dict
        For every factor the place of each of its levels among its values, -1 for none.
    """

    design: Any
    reference: ReferenceValues
    values: dict[str, Any]
    n_columns: int
    places: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, design, n_columns, at=None, data=None):
        """The grid of a design.

        Parameters
        ----------
        design : DesignSpec or GLMDesign
        n_columns : int
        at : dict, optional
            Values of covariates and levels of factors in the place of the usual ones.
        data : table, optional
            Rows for means, levels and counts in the place of those of the fit.

        Raises
        ------
        ValueError
            For unknown names and for levels that never occurred.
        """
        reference = design.reference if data is None else design.reference_of(data)
        at = {} if at is None else at
        if not isinstance(at, Mapping):
            raise ValueError(f"at must be a dict of values by name, got {at!r}")
        known = (*reference.factors, *reference.covariates)
        for name in at:
            check_name(name, known, "at")
        values, places = {}, {}
        for name, levels in reference.factors.items():
            found = _levels_at(name, at[name], levels) if name in at else np.arange(len(levels))
            places[name] = np.full(len(levels), -1)
            places[name][found] = np.arange(len(found))
            values[name] = levels[found]
        for name in known[len(values) :]:
            own = reference.covariates[name].mean
            values[name] = _numbers_at(name, at[name]) if name in at else np.array([own])
        return cls(design, reference, values, n_columns, places)

    @property
    def varying(self) -> tuple[str, ...]:
        """Names with more than one value."""
        return tuple(name for name, values in self.values.items() if len(values) > 1)

    def average(self, names, by=(), weights="equal", trend=None) -> Averages:
        """Averages of the grid over everything that is not named.

        Parameters
        ----------
        names, by : sequences of str
            The first of ``names`` runs fastest, those of ``by`` slowest.
        weights : str
            One of :data:`WEIGHTS`.
        trend : str, optional
            Averages of the derivative by this covariate instead.
        """
        kept = (*by, *reversed(names))
        rest = tuple(name for name in self.values if name not in kept)
        sizes = [len(self.values[name]) for name in (*kept, *rest)]
        n_rows = np.prod([float(size) for size in sizes])
        if n_rows > _MOST_ROWS:
            raise ValueError(
                f"the reference grid of {', '.join(self.varying)} has {n_rows:.3g} rows: hold some "
                "of them at fewer values with at="
            )
        share = self._shares(kept, rest, weights)
        K, offset = self._weighted(share, (*kept, *rest), sizes, trend)
        averaged = tuple(name for name in rest if len(self.values[name]) > 1)
        return Averages(self._index(kept, (*by, *names)), K, offset, averaged)

    def _index(self, kept, shown):
        if not kept:
            return pd.Index(["overall"], name="mean")
        product = pd.MultiIndex.from_product([list(self.values[n]) for n in kept], names=kept)
        own = product.to_frame(index=False)[list(shown)]
        if len(shown) == 1:
            return pd.Index(own[shown[0]], name=shown[0])
        return pd.MultiIndex.from_frame(own)

    def _shares(self, kept, rest, weights):
        """Shares (cells, combinations averaged over) that sum to 1 by cell, NaN where all are 0."""
        if weights not in WEIGHTS:
            raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}")
        inner = [len(self.values[name]) for name in rest]
        shape = [len(self.values[name]) for name in kept] + inner
        n_rest = int(np.prod(inner))
        if weights == "equal":
            return np.full((int(np.prod(shape)) // n_rest, n_rest), 1.0 / n_rest)
        counts = self._counts((*kept, *rest), shape).reshape(-1, n_rest)
        if weights == "flat":
            counts = (counts > 0).astype(float)
        elif weights != "cells":
            counts = np.broadcast_to(counts.sum(axis=0), counts.shape)
        if weights == "outer":
            counts = _product_of_margins(counts, inner)
        with np.errstate(invalid="ignore"):
            return counts / counts.sum(axis=1, keepdims=True)

    def _counts(self, order, shape):
        """Counts of the observed combinations over the whole grid; covariates have the same."""
        ref = self.reference
        if not ref.factors:
            return np.ones(shape)
        if ref.observed is None:
            raise ValueError(
                "the factors of the model have too many observed combinations for their counts to "
                "be kept: pass the rows of the fit as data="
            )
        codes = [
            place[own] for place, own in zip(self.places.values(), ref.observed.T, strict=True)
        ]
        inside = np.logical_and.reduce([code >= 0 for code in codes])
        by_factor = dict(zip(ref.factors, codes, strict=True))
        factors = [name for name in order if name in by_factor]
        sizes = [len(self.values[name]) for name in factors]
        flat = np.ravel_multi_index([by_factor[name][inside] for name in factors], sizes)
        counts = np.bincount(flat, ref.counts[inside], int(np.prod(sizes)))
        narrow = [size if name in by_factor else 1 for name, size in zip(order, shape, strict=True)]
        return np.ascontiguousarray(np.broadcast_to(counts.reshape(narrow), shape))

    def _weighted(self, share, order, sizes, trend):
        """(K (cells, p), offset (cells,)): rows of the grid weighted and summed."""
        n_cells, n_rest = share.shape
        K, offset = np.zeros((n_cells, self.n_columns)), np.zeros(n_cells)
        K[np.isnan(share).any(axis=1)] = np.nan
        rows = np.flatnonzero(share > 0)
        step = max(_AT_A_TIME // max(self.n_columns, 1), 1)
        for begin in range(0, len(rows), step):
            own = rows[begin : begin + step]
            codes = dict(zip(order, np.unravel_index(own, sizes), strict=True))
            X, added = self._rows(codes) if trend is None else self._slopes(codes, trend)
            w = share.ravel()[own]
            first = np.flatnonzero(np.diff(own // n_rest, prepend=-1))
            at = own[first] // n_rest
            K[at] += np.add.reduceat(w[:, None] * X, first, axis=0)
            offset[at] += np.add.reduceat(w * added, first)
        return K, offset

    def _rows(self, codes, change=None, by=0.0):
        """(X, offset) of rows given by the places of their values, one covariate moved."""
        table = {name: _taken(self.values[name], place) for name, place in codes.items()}
        if change is not None:
            table[change] = table[change] + by
        X, offset = self.design.fixed_rows(table)
        if X.shape[1] < self.n_columns:
            X = np.column_stack([np.ones(len(X)), X])
        return X, offset

    def _slopes(self, codes, name):
        """Central differences by a covariate, exact for squares."""
        own = self.reference.covariates[name]
        step = _STEP * (own.high - own.low)
        ahead, behind = (self._rows(codes, name, by) for by in (step / 2, -step / 2))
        return tuple((a - b) / step for a, b in zip(ahead, behind, strict=True))


def check_name(name, known, what):
    """An error for a name that is neither a factor nor a covariate of the model."""
    if name in known:
        return
    near = get_close_matches(str(name), [str(own) for own in known], 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{what} names {name!r}, which is no factor or covariate of the fixed effects.{hint} "
        f"The model has {', '.join(map(str, known)) or 'none'}"
    )


def _taken(values, place):
    """The values at some places; levels of a category stay categories."""
    if isinstance(values, pd.Index):
        return pd.Categorical.from_codes(place, categories=values)
    return values[place]


def _listed(values):
    one = isinstance(values, str) or np.ndim(values) == 0
    listed = [values] if one else list(values)
    if len(set(listed)) < len(listed):
        raise ValueError(f"at= has a value twice: {listed}")
    return listed


def _levels_at(name, wanted, levels):
    """Places of the wanted levels of a factor."""
    known, listed = list(levels), _listed(wanted)
    for level in listed:
        if level not in known:
            near = get_close_matches(str(level), [str(own) for own in known], 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
            raise ValueError(f"at: {level!r} is no level of {name!r}.{hint} The levels are {shown}")
    if not listed:
        raise ValueError(f"at: {name!r} needs one level or more, got {wanted!r}")
    return np.array([known.index(level) for level in listed])


def _numbers_at(name, wanted):
    """Values of a covariate, whole numbers as they are."""
    values = np.array(_listed(wanted))
    if values.dtype.kind not in "iuf" or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"at: {name!r} needs finite numbers, got {wanted!r}")
    return values


def _product_of_margins(counts, shape):
    """Products of the frequencies of single factors, from joint ones that all cells share."""
    joint = counts[0].reshape(shape)
    product = np.ones(shape)
    for axis in range(joint.ndim):
        others = tuple(other for other in range(joint.ndim) if other != axis)
        product = product * joint.sum(axis=others, keepdims=True)
    return np.broadcast_to(product.ravel(), counts.shape)
