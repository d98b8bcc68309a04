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
from skmixed.design.structure_names import (
    BY_COVARIATE,
    BY_LEVEL,
    BY_TIME,
    BY_VISIT,
    RESIDUAL_STRUCTURES,
    no_structure_of_residuals,
    residual_usage,
)
from skmixed.design.tokens import Token, formula_error, source, tokenize

# Visits of a covariance over visits, at most
_MOST_VISITS = 100


@dataclass(frozen=True)
class Factor:
    """One factor of a residual structure: name, the column before the bar, the group after it."""

    kind: str
    column: str = ""
    group: str = ""

    def __str__(self) -> str:
        return f"{self.kind}({' | '.join(filter(None, (self.column, self.group)))})"

    @property
    def is_correlation(self) -> bool:
        """Whether it correlates the rows of a group."""
        return self.kind in (*BY_TIME, *BY_VISIT)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        own = (self.column,) if self.column else ()
        return (*own, *split_group(self.group))


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
            found = replace(found, by_time=_by_time(found))
            _check_all_visits(found)
        _check_rows(found)
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
    tokens = tokenize(text)
    if not tokens:
        raise ValueError("residual is empty: leave it out for independent residuals")
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == "*" and not token.context:
            parts.append([])
        else:
            parts[-1].append(token)
    factors = tuple(_factor(text, part) for part in parts)
    if len(set(factors)) < len(factors):
        twice = next(f for f in factors if factors.count(f) > 1)
        raise ValueError(f"the residual structure has {twice} twice: {text!r}")
    correlations = [f for f in factors if f.is_correlation]
    if len(correlations) > 1:
        raise ValueError(
            f"the residual structure has two correlations, {correlations[0]} and "
            f"{correlations[1]}: it may have one, beside variances such as ident(g) and power(x)"
        )
    return ResidualSpec(factors)


def _factor(text: str, part: Sequence[Token]) -> Factor:
    if not part:
        raise formula_error(text, len(text.rstrip()) - 1, "a '*' joins two residual structures")
    name = part[0]
    if name.kind != "name" or len(part) < 3 or part[1].text != "(" or part[-1].text != ")":
        known = ", ".join(map(residual_usage, RESIDUAL_STRUCTURES))
        message = f"a residual structure is one of {known}, or several joined by '*'"
        raise formula_error(text, name.start, message)
    if name.text not in RESIDUAL_STRUCTURES:
        raise formula_error(text, name.start, no_structure_of_residuals(name.text))
    usage = residual_usage(name.text)
    inside = [token.shifted(1) for token in part[2:-1]]
    bars = [i for i, token in enumerate(inside) if token.text in ("|", "||")]
    if not inside or len(bars) != ("|" in usage) or any(inside[i].text == "||" for i in bars):
        why = ""
        if name.text in BY_TIME and not bars:
            why = ": the time orders the rows of a group"
        elif name.text in BY_VISIT and not bars:
            why = ": the visit tells which variances and covariances a row has"
        raise formula_error(text, name.start, f"{name.text} is written {usage}{why}")
    if name.text in BY_LEVEL:
        return Factor(name.text, "", _group(text, inside, usage))
    before = inside[: bars[0]] if bars else inside
    after = inside[bars[0] + 1 :] if bars else []
    return Factor(
        name.text, _column(text, before, name, usage), _group(text, after, usage) if bars else ""
    )


def _column(text, tokens, name, usage):
    if len(tokens) == 4 and tokens[0].text in ("C", "factor") and tokens[1].text == "(":
        tokens = tokens[2:3]
    if len(tokens) == 1 and tokens[0].text == "1":
        raise formula_error(
            text, tokens[0].start, f"{usage} needs the column that tells the order of the rows"
        )
    if len(tokens) != 1 or tokens[0].kind not in ("name", "quoted"):
        where = tokens[0].start if tokens else name.start
        shown = repr(source(text, tokens)) if tokens else "nothing"
        raise formula_error(
            text, where, f"{usage} takes a column, not {shown}: make the column before the fit"
        )
    return tokens[0].text.strip("`")


def _group(text, tokens, usage):
    names, begin = [], 0
    marks = [i for i, token in enumerate(tokens) if token.text == ":"]
    for end in (*marks, len(tokens)):
        part = tokens[begin:end]
        if len(part) != 1 or part[0].kind not in ("name", "quoted"):
            where = tokens[0].start if tokens else 0
            raise formula_error(
                text, where, f"the group g of {usage} is a column, or a:b for combinations"
            )
        name = part[0].text.strip("`")
        names.append(f"`{name}`" if ":" in name else name)
        begin = end + 1
    return ":".join(names)


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
            term = replace(term, by_time=_by_time(term))
        _check_rows(term)
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


def _check_rows(term: ResidualTerm) -> None:
    """Raise an error for rows that leave the structure open."""
    factor = term.factor
    if factor.kind in BY_LEVEL:
        few = np.flatnonzero(np.bincount(term.codes, minlength=len(term.levels)) < 2)
        if len(few):
            raise ValueError(
                f"{factor} has a residual variance for every level, and {_level(term, few[0])} has "
                "one row: merge levels, or leave its rows out"
            )
        if len(term.levels) < 2:
            raise ValueError(f"{factor} has one level, whose variance is sigma^2: leave it out")
    elif factor.kind in BY_COVARIATE:
        _check_covariate(term)
    else:
        if np.bincount(term.codes).max() < 2:
            raise ValueError(
                f"{factor} correlates the rows of one level of {factor.group!r}, and every level "
                "has one row: their correlation cannot be estimated"
            )
        _check_times(term)


def _places(term):
    return term.values if term.visits is None else term.visits


def _by_time(term):
    """The rows by group and time; rows that are so already are left alone."""
    code, place = term.codes, _places(term)
    step = np.diff(code)
    if ((step > 0) | ((step == 0) & (np.diff(place) >= 0))).all():
        return np.arange(len(code))
    return np.lexsort((place, code))


def _level(term, at):
    return f"{str(term.levels[at])!r}"


def _check_all_visits(term):
    if term.visits is None:
        return
    lost = np.flatnonzero(np.bincount(term.visits, minlength=len(term.labels)) == 0)
    if len(lost):
        raise ValueError(f"{term.factor} has no row of the visit {str(term.labels[lost[0]])!r}")


def _check_covariate(term):
    factor, x = term.factor, term.values
    zero = int((x == 0).sum())
    if factor.kind == "power" and zero:
        raise ValueError(
            f"{factor} has residual standard deviations |{factor.column}|^delta, which are zero or "
            f"infinite in {zero} row{'s' * (zero > 1)} with {factor.column} = 0: use "
            f"exponential({factor.column}), or shift the column"
        )
    if factor.kind == "power" and x.min() < 0:
        raise ValueError(
            f"{factor} is for positive covariates, and {factor.column!r} is negative in "
            f"{int((x < 0).sum())} rows: use exponential({factor.column}), or a column of sizes"
        )
    if np.ptp(x) == 0:
        raise ValueError(f"{factor}: {factor.column!r} is constant, so that delta is arbitrary")


def _check_times(term):
    factor = term.factor
    if term.visits is not None and len(term.labels) > _MOST_VISITS:
        raise ValueError(
            f"{factor} is a covariance over visits, and {factor.column!r} has {len(term.labels)} "
            f"different values, for {_MOST_VISITS} at most: write car1 or ar1 for correlation in "
            f"time, and a random intercept (1 | {factor.group}) for one correlation of all rows"
        )
    places = _places(term)
    code, place = term.codes[term.by_time], places[term.by_time]
    same = (np.diff(code) == 0) & (np.diff(place) == 0)
    if same.any():
        row = np.flatnonzero(same)[0]
        at = place[row] if term.visits is None else term.labels[int(place[row])]
        at = f"{at:g}" if isinstance(at, float) else str(at)
        raise ValueError(
            f"{factor} needs one row per {factor.column!r} in every level of {factor.group!r}, and "
            f"{_level(term, code[row])} has two with {factor.column} = {at}: what tells them apart "
            "belongs to the group, as in a:b"
        )
    if factor.kind == "ar1" and (places != np.round(places)).any():
        raise ValueError(
            f"{factor} counts whole steps of time, and {factor.column!r} has values such as "
            f"{places[places != np.round(places)][0]:g}: write car1({factor.column} | "
            f"{factor.group}) for a correlation that decays with any gap"
        )
    if factor.kind == "us":
        _check_pairs(term)


def _check_pairs(term):
    V = len(term.labels)
    if V < 2:
        raise ValueError(f"{term.factor} has one visit: there is nothing to correlate")
    seen = np.zeros((len(term.levels), V))
    seen[term.codes, term.visits] = 1.0
    never = np.argwhere(seen.T @ seen == 0)
    if len(never):
        a, b = (str(term.labels[j]) for j in never[0])
        raise ValueError(
            f"{term.factor} has a covariance for every two visits, and no level of "
            f"{term.factor.group!r} has both {a} and {b}: use ar1, toep or cs, which need not see "
            "every pair"
        )
