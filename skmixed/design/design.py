"""Design matrices: a formula and a table of columns become y, X and the random-effects terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skmixed.design.columns import Column, ColumnSpec, Table, clean, factorize, looks_numeric
from skmixed.design.formula import parse_formula
from skmixed.design.formula_terms import RandomSpec, Terms
from skmixed.design.grouping import GroupSpec, group_codes
from skmixed.design.missing import check_missing, drop_missing
from skmixed.design.names import quoted_name, unknown_name
from skmixed.design.parts import Materializer, PartBuilder, coded_columns
from skmixed.design.places import structured_part
from skmixed.design.plan import Plan, make_plan
from skmixed.design.reference import ReferenceValues
from skmixed.design.relationship import known_codes, read_relationships
from skmixed.design.residual import (
    ResidualSpec,
    check_columns,
    parse_residual,
    read_columns,
    residual_terms,
)
from skmixed.design.response import counts_of, read_prior_weights, response_of_rows
from skmixed.design.rewriting import linear_part
from skmixed.design.smooth import smooth_part, with_lines
from skmixed.design.spec import Blocks, Design, DesignSpec, smooth_group, sum_of


def build_design(
    terms: Terms | str | None,
    table: Any,
    *,
    response: Any = None,
    sample_weight: Any = None,
    prior_weights: str | Any | None = None,
    missing: str = "raise",
    trusted: bool = False,
    relationship: Any = None,
    residual: str | None = None,
) -> Design:
    """Return the design of a formula on a table.

    Parameters
    ----------
    terms : Terms, str or None
        The formula; None makes every column a fixed effect beside an intercept.
    table : DataFrame or dict of arrays, n_input rows
        pandas, polars, or columns by name.
    response : array, (n_input,) or (n_input, 2), optional
        The response where the formula has no left-hand side.
    sample_weight : array, (n_input,), optional
        How often each row counts. Rows with weight 0 are left out before anything else.
    prior_weights : str or array, (n_input,), optional
        A column of ``table``, or the weights w themselves: residual variance sigma^2 / w.
    missing : {"raise", "drop"}
        What to do with rows that have missing values in a column that is used, or in which an
        expression is not defined. Rows that are left out teach transforms nothing.
    trusted : bool
        Let expressions be any Python code, which runs now and whenever the design of new rows is
        built: only for formulas of your own. By default they are evaluated as arithmetic on
        columns, and what is more than that is an error.
    relationship : dict, optional
        From grouping factors to matrices K: covariances of their levels are proportional to K.
    residual : str, optional
        The covariance structure of the residuals, see
        :func:`skmixed.design.residual.parse_residual`.

    Returns
    -------
    Design

    Raises
    ------
    ValueError
        For expressions that would have to be trusted, and for columns that cannot be what the
        formula makes of them; the message names column and remedy.

    Examples
    --------
    >>> from skmixed.design import build_design
    >>> table = {"y": [1.0, 2.0, 4.0, 3.0], "x": [0.0, 1.0, 0.0, 1.0], "g": ["a", "a", "b", "b"]}
    >>> design = build_design("y ~ x + (1 | g)", table)
    >>> design.names
    ('Intercept', 'x')
    >>> design.random[0].codes
    array([0, 0, 1, 1])
    """
    check_missing(missing)
    table = Table(table)
    if not table.n_rows:
        raise ValueError("the data have zero rows")
    frequencies = counts_of(sample_weight, table)
    structure = None if residual is None else parse_residual(residual)
    if structure is not None:
        check_columns(structure, table.names)
    plan = _plan(terms, table, prior_weights, trusted, structure)
    if response is not None and plan.responses:
        raise ValueError(
            f"the formula has the response {plan.terms.response!r} and y was given too: leave one "
            "of them out"
        )
    factors = tuple(dict.fromkeys(spec.group for spec in plan.terms.random if spec.columns))
    relationships = read_relationships(relationship, factors)
    cleaned = {name: clean(name, table.column(name)) for name in plan.covariates}
    _check_text(cleaned, plan)
    grouping = {name: factorize(name, table.column(name)) for name in plan.group_columns}
    within, measures = ({}, {}) if structure is None else read_columns(structure, table)
    given = response_of_rows(response, table)
    weights = read_prior_weights(prior_weights, table)
    vectors = {"the response": given, "the prior weights": weights}
    drop_missing(table, cleaned | measures, grouping | within, missing, vectors)
    spec, blocks = _defined_expressions(plan, table, cleaned, given, frequencies, missing)
    codes = group_codes(plan, table, grouping, spec.groups) | blocks.curves
    spec.groups.update({part.label: smooth_group(part) for part in spec.smooths})
    for group, own in relationships.items():
        columns = spec.groups[group].columns
        codes[group] = known_codes(group, own, codes[group], spec.groups[group].levels)
        spec.groups[group] = GroupSpec(columns, (own.levels,), None, own.levels)
    spec.relationships.update(relationships)
    made: tuple = ()
    if structure is not None:
        structure, made = residual_terms(structure, table, within, measures)
        spec = replace(spec, residual=structure)
    design = spec._design(
        table, blocks, codes, weights=table.rows_of(weights), frequencies=table.rows_of(frequencies)
    )
    return replace(design, residual=made) if made else design


def _plan(
    terms: Terms | str | None,
    table: Table,
    prior_weights: Any,
    trusted: bool,
    structure: ResidualSpec | None,
) -> Plan:
    apart = () if structure is None else structure.groups_of_rows
    weights = prior_weights if isinstance(prior_weights, str) else None
    if weights is not None and weights not in table.names:
        message = f"the column of prior weights {weights!r} is not in the data"
        raise unknown_name(weights, table.names, message)
    if terms is None:
        terms = _all_columns(table, (weights, *apart))
    elif isinstance(terms, str):
        terms = parse_formula(terms)
    names = tuple(name for name in table.names if isinstance(name, str))
    return make_plan(terms, names, weights, trusted, apart)


def _all_columns(table: Table, apart: tuple[str | None, ...]) -> Terms:
    names = [name for name in table.names if name not in apart]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("the names of the columns must be strings")
    return Terms(None, " + ".join(["1", *map(quoted_name, names)]))


def _defined_expressions(
    plan: Plan,
    table: Table,
    cleaned: Mapping[str, Column],
    given: np.ndarray | None,
    frequencies: np.ndarray | None,
    missing: str,
) -> tuple[DesignSpec, Blocks]:
    """The expressions of the formula on the rows in which all of them are defined.

    Rows that one expression loses teach the others nothing: what is left is evaluated anew.
    """
    while True:
        counts = table.rows_of(frequencies)
        spec, blocks = _expressions(plan, table, cleaned, given, counts)
        undefined = blocks.undefined(spec, missing)
        if undefined is None:
            return spec, blocks
        if undefined.all():
            raise ValueError("in every row of the data an expression of the formula is undefined")
        table.keep(np.flatnonzero(~undefined))
        if (
            spec.trusted
        ):  # what Python code does with the rows is unknown, it may look at neighbours
            return spec, blocks.without(undefined)


def _expressions(
    plan: Plan,
    table: Table,
    cleaned: Mapping[str, Column],
    given: np.ndarray | None,
    counts: np.ndarray | None,
) -> tuple[DesignSpec, Blocks]:
    """Evaluate the expressions of the formula on the rows that are left."""
    columns = {name: column.values_in(table) for name, column in cleaned.items()}
    kinds = {name: column.kind for name, column in cleaned.items()}
    make = Materializer(columns, table.n_rows, counts=counts, trusted=plan.trusted)
    builder = PartBuilder(make, kinds)
    specs = plan.terms.random
    fixed, X = builder.make(_with_constants(plan, kinds))
    random, curves = _random_parts(builder, make, specs, kinds, counts)
    grouping = frozenset(plan.group_columns)
    random = [
        (with_lines(part, fixed, X, make, z, _smoothed(specs), grouping, counts), z, None)
        if spec.is_smooth
        else (part, z, places)
        for spec, (part, z, places) in zip(specs, random, strict=True)
    ]
    offsets = [builder.make_vector(expr, "the offset") for expr in plan.offsets]
    responses = [builder.make_vector(expr, "the response") for expr in plan.responses]
    y = _one_array([values for _, values in responses]) if responses else table.rows_of(given)
    spec = DesignSpec(
        plan.terms,
        fixed,
        tuple(part for part, _, _ in random),
        tuple(part for part, _ in offsets),
        {},
        {name: ColumnSpec.of(c.kind, columns[name]) for name, c in cleaned.items()},
        plan.fixed_columns,
        plan.random_columns,
        _reference(plan, columns, counts),
        responses[0][0] if len(responses) == 1 else None,
        plan.response_columns,
        plan.trusted,
        tuple(places for _, _, places in random),
    )
    X = X if X.strides[0] or not X.size else np.ones(X.shape)
    return spec, Blocks(X, [z for _, z, _ in random], sum_of(z for _, z in offsets), y, curves)


def _with_constants(plan: Plan, kinds: Mapping[str, str]) -> str:
    """The fixed part, with the constants of smooth terms that multiply a number."""
    smooths = [spec for spec in plan.terms.random if spec.by is not None]
    added = [term for spec in smooths for term in linear_part(spec, kinds)]
    return " + ".join([plan.fixed, *added])


def _random_parts(
    builder: PartBuilder,
    rows: Materializer,
    specs: tuple[RandomSpec, ...],
    kinds: Any,
    counts: np.ndarray | None,
) -> tuple[list[tuple[Any, np.ndarray, Any]], dict[str, np.ndarray]]:
    """(part, z, places) of every random-effects term, and by smooth term the curve of every row."""
    random: list[tuple[Any, np.ndarray, Any]] = []
    curves = {}
    for spec in specs:
        if spec.is_smooth:
            part, z, curves[spec.group] = smooth_part(builder, rows, spec, kinds, counts)
            random.append((part, z, None))
        else:
            random.append(structured_part(builder.make(spec.expr), spec))
    return random, curves


def _smoothed(specs: tuple[RandomSpec, ...]) -> frozenset[str]:
    """What smooth terms without ``by`` are functions of."""
    return frozenset(spec.argument for spec in specs if spec.is_smooth and spec.by is None)


def _reference(
    plan: Plan, columns: Mapping[str, Any], counts: np.ndarray | None
) -> ReferenceValues:
    own = {name: columns[name] for name in plan.fixed_columns}
    return ReferenceValues.of(own, coded_columns((plan.fixed, *plan.offsets)), counts)


def _one_array(columns: list[np.ndarray]) -> np.ndarray:
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def _check_text(cleaned: Mapping[str, Column], plan: Plan) -> None:
    """Numbers stored as text would silently become categories."""
    for name, column in cleaned.items():
        if column.text and name not in plan.coded and looks_numeric(column.values.categories):
            shown = column.values.categories[0]
            raise ValueError(
                f"column {name!r} holds numbers stored as text, such as {shown!r}: convert it with "
                f"pandas.to_numeric, or write C({name}) if they are categories"
            )
