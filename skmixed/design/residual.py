"""Residual structures: what ``residual="ar1(day | g) * ident(sex)"`` says of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.columns import Column, Table, clean, drop_unused, factorize, observed
from skmixed.design.grouping import Grouping, GroupSpec, group_factor
from skmixed.design.names import split_group, unknown_name
from skmixed.design.places import numbers_of, whole_times
from skmixed.design.residual_checks import check_all_visits, check_rows, rows_by_time
from skmixed.design.residual_formula import Factor, read_factors
from skmixed.design.structure_names import BY_COVARIATE, BY_VISIT


@dataclass(frozen=True, eq=False)
class ResidualTerm:
    """One factor of a residual structure on rows.

    Attributes
    ----------
    factor : Factor
    codes : (n,) or None
        Level of each row in the group.
    levels : Index or None
        Of the group.
    values : (n,) or None
        Times of "ar1" and "car1", the covariate of "power" and "exponential".
    visits : (n,) or None
        Visit of each row among ``labels``, and ``times`` (V,) of these.
    by_time : (n,) or None
        The rows by group and time or visit.
    """

    factor: Factor
    codes: Any = None
    levels: Any = None
    values: Any = None
    visits: Any = None
    labels: Any = None
    times: Any = None
    by_time: Any = None

    def of_rows(self, rows: np.ndarray, copies: np.ndarray) -> ResidualTerm:
        """The factor on rows (m,), which may repeat: copies (m,) of a group are several groups.

        Raises
        ------
        ValueError
            For rows that leave the structure open.
        """
        codes, values, visits = (
            None if own is None else own[rows] for own in (self.codes, self.values, self.visits)
        )
        found = replace(self, codes=codes, values=values, visits=visits)
        if self.factor.is_correlation:
            key = codes * (copies.max(initial=0) + 1) + copies
            used, codes = np.unique(key, return_inverse=True)
            found = replace(found, codes=codes.ravel(), levels=pd.RangeIndex(len(used)))
            found = replace(found, by_time=rows_by_time(found))
            check_all_visits(found)
        check_rows(found)
        return found


@dataclass(frozen=True)
class ResidualSpec:
    """What new rows need: levels of groups with a variance, visits, times; by factor."""

    factors: tuple[Factor, ...]
    groups: tuple[GroupSpec | None, ...] = ()
    visits: tuple[pd.Index | None, ...] = ()
    categories: tuple[pd.Index | None, ...] = ()

    def __str__(self) -> str:
        return " * ".join(map(str, self.factors))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of all factors, each once."""
        return tuple(dict.fromkeys(name for f in self.factors for name in f.columns))

    @property
    def groups_of_rows(self) -> tuple[str, ...]:
        """The columns of the group whose rows are correlated."""
        return tuple(
            name for f in self.factors if f.is_correlation for name in split_group(f.group)
        )

    def known(self, table: Any) -> np.ndarray:
        """(n_input,) bool: rows of a table with a value in every column of the structure."""
        table = Table(table)
        check_columns(self, table.names)
        grouping, measures = read_columns(self, table)
        known = np.ones(table.n_input, dtype=bool)
        for codes, _ in grouping.values():
            known &= codes >= 0
        for column in measures.values():
            known &= True if column.missing is None else ~column.missing
        return known

    def recognised(self, table: Any) -> np.ndarray:
        """(n_input,) bool: rows whose levels and visits, where they have some, the fit had."""
        table = Table(table)
        grouping, measures = read_columns(self, table)
        found = np.ones(table.n_input, dtype=bool)
        known = zip(self.factors, self.groups, self.visits, self.categories, strict=True)
        for factor, group, visits, categories in known:
            if group is not None and not factor.is_correlation:
                names = split_group(factor.group)
                absent = np.logical_or.reduce([grouping[name][0] < 0 for name in names])
                found &= absent | (group.codes(grouping, table.n_input) >= 0)
            if visits is not None:
                visit, named = grouping[factor.column]
                place = np.append(visits.get_indexer(named), -1)[visit]
                found &= (visit < 0) | (place >= 0)
            elif categories is not None and measures[factor.column].kind == "category":
                column = measures[factor.column]
                place = np.append(categories.get_indexer(column.values.categories), 0)
                found &= place[column.values.codes] >= 0
        return found

    def new(self, table: Any, rows: np.ndarray) -> tuple[ResidualTerm, ...]:
        """The factors on ``rows`` of a table that the fit has not seen."""
        table = Table(table)
        check_columns(self, table.names)
        table.keep(rows)
        lost = int((~self.known(table)[rows]).sum())
        if lost:
            raise ValueError(
                f"the residual structure {self} needs {', '.join(map(repr, self.columns))}, of "
                f"which {lost} row{'s lack' if lost > 1 else ' lacks'} a value"
            )
        grouping, measures = read_columns(self, table)
        kept = {name: observed(table.rows_of(c), own) for name, (c, own) in grouping.items()}
        return tuple(
            self._new_term(j, f, kept, measures, table) for j, f in enumerate(self.factors)
        )

    def _new_term(self, j, factor, kept, measures, table):
        codes = levels = None
        if factor.is_correlation:
            codes, own = group_factor(split_group(factor.group), kept)
            levels = own.levels
        elif factor.group:
            codes, levels = self.groups[j].codes(kept, table.n_rows), self.groups[j].levels
            _check_known(codes, factor)
        term = ResidualTerm(factor, codes, levels)
        if factor.kind in BY_VISIT:
            own = self.visits[j]
            visit, named = kept[factor.column]
            place = own.get_indexer(named)[visit]
            _check_known(place, factor)
            return replace(term, visits=place, labels=own, times=_times_of(own, factor))
        if not factor.column:
            return term
        return replace(term, values=_values(factor, measures, table, self.categories[j]))


def _check_known(codes, factor):
    unknown = int((codes < 0).sum())
    if unknown:
        raise ValueError(
            f"{unknown} row{'s have' if unknown > 1 else ' has'} a level that {factor} had not at "
            "the fit: their residual variance is unknown"
        )


@lru_cache(maxsize=64)
def parse_residual(text: str) -> ResidualSpec:
    """Return the factors of a residual structure.

    Parameters
    ----------
    text : str
        ``ident(g)``, ``ar1(t | g)``, ``car1(t | g)``, ``us(v | g)``, ``cs(v | g)``,
        ``homcs(v | g)``, ``toep(v | g)``, ``hetar1(v | g)``, ``power(x)``, ``exponential(x)``, or
        several of them joined by ``*``.

    Returns
    -------
    ResidualSpec

    Raises
    ------
    ValueError
        If it cannot be read; the message shows the place.

    Examples
    --------
    >>> from skmixed.design.residual import parse_residual
    >>> str(parse_residual("ar1(day|Subject)*ident(sex)"))
    'ar1(day | Subject) * ident(sex)'
    """
    return ResidualSpec(read_factors(text))


def check_columns(spec: ResidualSpec, names: Sequence[str]) -> None:
    """Raise an error for a column that the data do not have."""
    for name in spec.columns:
        if name not in names:
            message = f"{name!r} of the residual structure {spec} is not a column of the data"
            raise unknown_name(name, names, message)


def read_columns(spec: ResidualSpec, table: Table) -> tuple[Grouping, dict[str, Column]]:
    """Codes of groups and visits, and the columns that are numbers or have an order."""
    grouping, measures = {}, {}
    for factor in spec.factors:
        for name in split_group(factor.group):
            grouping[name] = factorize(name, table.column(name))
        if factor.kind in BY_VISIT:
            grouping[factor.column] = factorize(factor.column, table.column(factor.column))
        elif factor.column:
            measures[factor.column] = clean(factor.column, table.column(factor.column))
    return grouping, measures


def residual_terms(
    spec: ResidualSpec, table: Table, grouping: Grouping, measures: Mapping[str, Column]
) -> tuple[ResidualSpec, tuple[ResidualTerm, ...]]:
    """The structure on the rows of a fit, and what new rows need of it."""
    kept = {
        name: observed(table.rows_of(grouping[name][0]), grouping[name][1])
        for name in spec.columns
        if name in grouping
    }
    terms, groups, visits, categories = [], [], [], []
    for factor in spec.factors:
        term, group, named, ordered = ResidualTerm(factor), None, None, None
        if factor.group:
            codes, group = group_factor(split_group(factor.group), kept)
            term = replace(term, codes=codes, levels=group.levels)
        if factor.kind in BY_VISIT:
            visit, named = kept[factor.column]
            term = replace(term, visits=visit, labels=named, times=_times_of(named, factor))
        elif factor.column:
            own = measures[factor.column]
            if own.kind == "category":
                ordered = drop_unused(table.rows_of(own.values)).categories
            term = replace(term, values=_values(factor, measures, table, ordered))
        if factor.is_correlation:
            term = replace(term, by_time=rows_by_time(term))
        check_rows(term)
        terms.append(term)
        groups.append(None if factor.is_correlation else group)
        visits.append(named)
        categories.append(ordered)
    return replace(
        spec, groups=tuple(groups), visits=tuple(visits), categories=tuple(categories)
    ), tuple(terms)


def _values(factor, measures, table, categories):
    """Times, or a covariate (n,); levels of a category are numbers, or count 0, 1, 2."""
    own = measures[factor.column]
    values = table.rows_of(own.values)
    if own.kind != "category":
        if categories is not None:
            raise ValueError(f"{factor.column!r} had categories at the fit and has numbers now")
        return np.asarray(values, dtype=float)
    if factor.kind in BY_COVARIATE or factor.kind == "car1":
        raise ValueError(f"{factor} needs numbers, and {factor.column!r} has categories")
    place = categories.get_indexer(values.categories)
    found = np.append(place, -1)[values.codes]
    _check_known(found, factor)
    numbers = numbers_of(categories, str(factor))
    return found.astype(float) if numbers is None else numbers[found]


def _times_of(levels, factor) -> np.ndarray:
    """Times (V,) of visits in whole steps; by number where the structure asks for no times."""
    if factor.kind not in ("hetar1", "toep"):
        return np.arange(len(levels))
    return whole_times(levels, factor.kind, str(factor), "car1")
