"""The over-parameterised design of general linear models: every level of every factor a column.

It is the parameterisation of SAS PROC GLM. No level is left out and no contrast chosen: which
columns are redundant is found afterwards, from the data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from skmixed.design.columns import Column, Table, clean, looks_numeric
from skmixed.design.design import build_design
from skmixed.design.expression import read_expression
from skmixed.design.formula import parse_formula
from skmixed.design.names import formulaic_formula, is_call
from skmixed.design.plan import make_plan
from skmixed.design.reference import ReferenceValues
from skmixed.design.rewriting import has_dot, resolve
from skmixed.design.spec import DesignSpec
from skmixed.design.terms import FixedTerm

_CODED = re.compile(r"C\(\s*([^\W\d]\w*)\s*(?:,.*)?\)")


@dataclass(frozen=True)
class Factor:
    """One factor of a term: a numeric column, a categorical one, or an expression.

    levels holds the observed levels, the reference level last; ``part`` evaluates an expression.
    """

    name: str
    levels: tuple | None = None
    variables: tuple[str, ...] = ()
    part: DesignSpec | None = None
    part_names: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its columns."""
        if self.levels is not None:
            return tuple(f"{self.name}[{level}]" for level in self.levels)
        return (self.name,) if self.part is None else self.part_names

    def columns(self, columns, n) -> np.ndarray:
        """Its columns (n, k) for a mapping of clean columns; a new level gets a row of zeros."""
        if self.part is not None:
            return self.evaluate({name: columns[name].values for name in self.variables})
        column = columns[self.variables[0]]
        if self.levels is None:
            if column.kind == "category":
                raise ValueError(f"column {self.name!r} was numeric at the fit, now it holds text")
            return np.asarray(column.values, dtype=float)[:, None]
        codes = self.codes(column)
        out = np.zeros((n, len(self.levels)))
        out[np.flatnonzero(codes >= 0), codes[codes >= 0]] = 1.0
        return out

    def evaluate(self, values) -> np.ndarray:
        """Columns of an expression for a mapping of its variables' values."""
        assert self.part is not None
        return np.asarray(self.part.new(values, need=("fixed",)).X, dtype=float)

    def codes(self, column) -> np.ndarray:
        """Position of every row's level, -1 for levels the fit has not seen."""
        place = {level: k for k, level in enumerate(self.levels or ())}
        if column.kind == "category":
            own = np.array([place.get(level, -1) for level in column.values.categories] + [-1])
            return own[column.values.codes]
        return np.array([place.get(value, -1) for value in column.values.tolist()], dtype=np.intp)


@dataclass(frozen=True)
class GLMDesign:
    """Terms of the design and how to build its columns (without the intercept) for any table.

    Attributes
    ----------
    factors : dict of Factor
    terms : tuple of tuples of factor names
    intercept : bool
    response : str or None
        Column to the left of the formula's ``~``.
    variables : tuple of columns the design reads
    reference : ReferenceValues
        Levels, (weighted) means and counts of the variables.
    """

    factors: dict[str, Factor]
    terms: tuple[tuple[str, ...], ...]
    intercept: bool
    response: str | None
    variables: tuple[str, ...]
    reference: ReferenceValues

    @property
    def term_names(self) -> tuple[str, ...]:
        return tuple(":".join(term) for term in self.terms)

    @property
    def names(self) -> tuple[str, ...]:
        """Column names; in an interaction the last factor's levels run fastest."""
        found = []
        for term in self.terms:
            labels = product(*(self.factors[f].labels for f in term))
            found += [":".join(parts) for parts in labels]
        return tuple(found)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Columns of every term."""
        ends = np.cumsum([0] + [self.width(term) for term in self.terms]).tolist()
        return tuple(slice(a, b) for a, b in pairwise(ends))

    def fixed_terms(self, first: int) -> tuple[FixedTerm, ...]:
        """The terms with their columns, of which the first has number ``first``."""
        found = []
        for name, term, where in zip(self.term_names, self.terms, self.slices, strict=True):
            factors = [self.factors[f] for f in term]
            found.append(
                FixedTerm(
                    name,
                    np.arange(where.start, where.stop) + first,
                    frozenset(f.name for f in factors if f.levels is not None),
                    tuple(sorted(f.name for f in factors if f.levels is None)),
                    frozenset(variable for f in factors for variable in f.variables),
                )
            )
        return tuple(found)

    def width(self, term) -> int:
        return int(np.prod([len(self.factors[f].labels) for f in term]))

    def matrix(self, data) -> np.ndarray:
        """The (n, p) columns for a table, in column order."""
        table = data if isinstance(data, Table) else Table(data)
        columns = self.read(table)
        n = table.n_rows
        out = np.zeros((n, self.slices[-1].stop if self.terms else 0), order="F")
        for term, where in zip(self.terms, self.slices, strict=True):
            self._fill(out[:, where], [self.factors[f] for f in term], columns)
        return out

    def _fill(self, out, factors, columns):
        """Write the columns of one term into zeros: a row has one cell, times its covariates."""
        cell, known = 0, np.ones(len(out), dtype=bool)
        for factor in (f for f in factors if f.levels is not None):
            codes = factor.codes(columns[factor.variables[0]])
            known &= codes >= 0
            cell = cell * len(factor.levels) + codes
        numeric = [f.columns(columns, len(out)) for f in factors if f.levels is None]
        if len(numeric) == len(factors):
            out[:] = row_product(numeric)
        elif not numeric:
            rows = np.flatnonzero(known)
            out[rows, cell[rows]] = 1.0
        else:
            out[:] = row_product([f.columns(columns, len(out)) for f in factors])

    def fixed_rows(self, table) -> tuple[np.ndarray, np.ndarray]:
        """Columns (n, p) without the intercept, and the offset (n,), which such a model has not."""
        matrix = self.matrix(table)
        return matrix, np.zeros(len(matrix))

    def reference_of(self, data) -> ReferenceValues:
        """Levels, means and counts of other rows."""
        for _, name, value in self.unseen(data)[:1]:
            raise ValueError(f"{value!r} is no level of {name!r} at the fit")
        table = Table(data)
        return _reference_values(self.read(table), self.labels, table)

    @property
    def labels(self) -> set[str]:
        """Columns whose values are levels."""
        return {f.variables[0] for f in self.factors.values() if f.levels is not None}

    def read(self, table) -> dict[str, Column]:
        """Clean columns without missing values."""
        absent = [name for name in self.variables if name not in table.names]
        if absent:
            raise ValueError(f"the data lack the columns {absent} that the model was fitted on")
        labels = self.labels
        return {name: complete(name, table, name in labels) for name in self.variables}

    def at_means(self, factor) -> np.ndarray:
        """Columns (1, k) of a numeric factor with every variable at its mean."""
        means = {name: own.mean for name, own in self.reference.covariates.items()}
        other = [v for v in factor.variables if v not in means]
        if other:
            raise ValueError(
                f"{factor.name} has no value at the mean of {other[0]!r}, which is categorical; "
                "make the expression a column of its own"
            )
        if factor.part is None:
            return np.array([[means[factor.variables[0]]]])
        point = {v: np.array([means[v]]) for v in factor.variables}
        return factor.evaluate(point)

    def unseen(self, data) -> list[tuple[int, str, object]]:
        """(row, column, value) for every value of a factor that the fit has not seen."""
        table = Table(data)
        found = []
        for factor in self.factors.values():
            if factor.levels is not None:
                column = complete(factor.variables[0], table, labels=True)
                rows = np.flatnonzero(factor.codes(column) < 0)
                found += [(int(i), factor.variables[0], column.values[i]) for i in rows[:1000]]
        return sorted(found, key=lambda item: item[0])


def row_product(blocks) -> np.ndarray:
    """Products of one column from each block, those of the last block running fastest."""
    out = blocks[0]
    for block in blocks[1:]:
        out = (out[:, :, None] * block[:, None, :]).reshape(len(out), -1)
    return out


def complete(name, table, labels=False) -> Column:
    """A clean column; missing values are an error, and so are numbers stored as text unless they
    are known to be labels."""
    column = clean(name, table.column(name))
    if column.missing is not None:
        rows = np.flatnonzero(column.missing)
        raise ValueError(
            f"column {name!r} contains NaN: {rows.size} missing values, the first in row "
            f"{rows[0]}; drop or impute them"
        )
    if column.text and not labels and looks_numeric(column.values.categories):
        raise ValueError(
            f"column {name!r} holds numbers stored as text: convert it with pandas.to_numeric, or "
            "with .astype('category') if the numbers are labels"
        )
    return column


def build_glm_design(
    data, *, formula=None, reference="last", weights=None, trusted=False
) -> GLMDesign:
    """The over-parameterised design of a formula, or of all columns as main effects.

    Parameters
    ----------
    data : DataFrame or mapping of columns
    formula : str, optional
    reference : {"last", "first"} or dict
        The level of each factor that comes last and so gets the coefficient 0: its last or first
        in sorted (categorical: category) order, or by name, ``{"A": "control"}``.
    weights : (n,), optional
        How often each row counts: for the means of covariates and what transforms learn.
    trusted : bool
        Let expressions be any Python code, as in `build_design`.
    """
    table = Table(data)
    if formula is None:
        terms, intercept, response = tuple((name,) for name in table.names), True, None
    else:
        terms, intercept, response = _read_formula(formula, table.names)
    factors, variables = _make_factors(table, terms, reference, weights, trusted)
    if isinstance(reference, Mapping):
        known = [f.variables[0] for f in factors.values() if f.levels is not None]
        named = [n for n in reference if n not in known]
        if named:
            raise ValueError(f"reference names {named}, but the factors of the model are {known}")
    labels = {f.variables[0] for f in factors.values() if f.levels is not None}
    values = _reference_values(variables, labels, table, weights)
    return GLMDesign(factors, terms, intercept, response, tuple(variables), values)


def _reference_values(variables, labels, table, weights=None):
    """Levels, means and counts of clean columns over the rows that count; booleans are numbers."""
    counted = Table(table)
    if weights is not None:
        counted.keep(np.flatnonzero(weights))
    columns = {name: column.values_in(counted) for name, column in variables.items()}
    for name, column in variables.items():
        if column.kind == "boolean" and name not in labels:
            columns[name] = columns[name].astype(float)
    return ReferenceValues.of(columns, labels, counted.rows_of(weights))


def _read_formula(formula, names):
    """(terms, intercept, response) of a formula without random effects."""
    parsed = parse_formula(formula)
    if has_dot(parsed):
        fill = tuple(n for n in names if n != parsed.response)
        parsed = resolve(parsed, tuple(names), fill)
    if parsed.random or parsed.offsets:
        raise ValueError(
            f"formula {formula!r} has random effects or offsets, which a linear model has not; use "
            "MixedLinearRegressor"
        )
    terms, intercept = [], False
    for term in formulaic_formula(parsed.fixed):
        names = tuple(factor.expr for factor in term.factors)
        if names == ("1",):
            intercept = True
        else:
            terms.append(names)
    return tuple(terms), intercept, parsed.response


def _make_factors(table, terms, reference, weights, trusted):
    """(factors, clean columns) for all factors that occur in the terms."""
    counts = slice(None) if weights is None else np.asarray(weights) > 0
    factors, variables = {}, {}
    for name in dict.fromkeys(f for term in terms for f in term):
        coded = _CODED.fullmatch(name)
        variable = coded.group(1) if coded else name
        if coded and not trusted:
            read_expression(name).check()
        if variable in table.names:
            column = variables.setdefault(variable, complete(variable, table, bool(coded)))
            levels = _levels(variable, column, reference, bool(coded), counts)
            factors[name] = Factor(name, levels, (variable,))
        else:
            factors[name] = _expression(name, table, variables, weights, trusted)
    return factors, variables


def _levels(name, column, reference, coded, counts):
    """Levels in the rows that count, the reference level last; None for a numeric column."""
    if column.kind == "category":
        levels = [column.values.categories[k] for k in np.unique(column.values.codes[counts])]
    elif coded:
        levels = np.unique(column.values[counts]).tolist()
    else:
        return None
    wanted = reference.get(name, "last") if isinstance(reference, Mapping) else reference
    if wanted == "last" and wanted not in levels:
        return tuple(levels)
    if wanted == "first" and wanted not in levels:
        return (*levels[1:], levels[0])
    if wanted not in levels:
        raise ValueError(f"reference level {wanted!r} of {name!r} is none of its levels {levels}")
    return (*(level for level in levels if level != wanted), wanted)


def _expression(name, table, variables, weights, trusted):
    """A factor such as ``np.log(x)`` or ``poly(x, 2)``."""
    terms = parse_formula(f"0 + {name if is_call(name) else f'{{{name}}}'}")
    plan = make_plan(terms, tuple(n for n in table.names if isinstance(n, str)), None, trusted)
    columns = {v: complete(v, table) for v in plan.fixed_columns}
    variables.update(columns)
    values = {v: column.values for v, column in columns.items()}
    design = build_design(terms, values, sample_weight=weights, trusted=trusted)
    return Factor(name, None, plan.fixed_columns, design.spec, tuple(design.names))
