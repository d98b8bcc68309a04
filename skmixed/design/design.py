"""Design matrices: a formula and a table of columns become y, X and the random-effects terms."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.columns import (
    Column,
    ColumnSpec,
    Table,
    clean,
    factorize,
    looks_numeric,
    observed,
)
from skmixed.design.formula import (
    Terms,
    group_label,
    parse_formula,
    quoted_name,
    split_group,
    unknown_name,
)
from skmixed.design.levels import find_levels, level_kind
from skmixed.design.parts import Materializer, Part, PartBuilder, coded_columns
from skmixed.design.plan import Plan, make_plan
from skmixed.design.random import (
    RandomTerm,
    cell_digits,
    combine_codes,
    find_cells,
    radix_key,
    rows_of,
)
from skmixed.design.reference import ReferenceValues
from skmixed.design.terms import FixedTerm, fixed_terms

# name -> (codes of all rows, levels) of a grouping column
Grouping = dict[str, tuple[np.ndarray, pd.Index]]


@dataclass(frozen=True)
class Design:
    r"""The matrices of :math:`y = X\beta + \sum_t Z_t b_t + \text{offset} + \varepsilon`.

    Attributes
    ----------
    y : ndarray, (n,) or (n, 2), or None
        The response; two columns for ``cbind(successes, failures)``.
    X : ndarray, (n, p)
        The fixed-effects columns, with their ``names`` (p,), the place of the constant column in
        ``intercept`` (None without one) and the columns of every term in ``term_slices``.
    random : tuple of RandomTerm
        In the order of the formula.
    weights : ndarray, (n,), or None
        Prior weights w: residual variance sigma^2 / w.
    frequencies : ndarray, (n,), or None
        How often each row counts; rows that count zero times are gone already.
    offset : ndarray, (n,), or None
        The sum of the offsets.
    rows : ndarray of intp, (n,)
        The rows of the input that were kept, of ``n_input``.
    spec : DesignSpec
        Builds the design of new rows.
    """

    y: np.ndarray | None
    X: np.ndarray
    names: tuple[str, ...]
    intercept: int | None
    term_slices: dict[str, slice]
    random: tuple[RandomTerm, ...]
    weights: np.ndarray | None
    frequencies: np.ndarray | None
    offset: np.ndarray | None
    rows: np.ndarray
    n_input: int
    spec: DesignSpec

    @property
    def fixed_terms(self) -> tuple[FixedTerm, ...]:
        """The terms of X with their columns, variables and factors."""
        return fixed_terms(self.spec.fixed)

    @property
    def n_obs(self) -> float:
        """The number of observations: rows, each counted as often as its frequency says."""
        return len(self.X) if self.frequencies is None else float(self.frequencies.sum())


@dataclass(frozen=True)
class GroupSpec:
    """A grouping factor as the fit saw it.

    ``cells`` numbers the observed combinations of ``a:b`` in mixed radix; None for one column.
    """

    columns: tuple[str, ...]
    column_levels: tuple[pd.Index, ...]
    cells: np.ndarray | None
    levels: pd.Index

    def codes(self, grouping: Grouping) -> np.ndarray:
        """The codes of new rows, -1 for levels and combinations that the fit did not have."""
        codes = [
            _known_codes(name, *grouping[name], levels)
            for name, levels in zip(self.columns, self.column_levels, strict=True)
        ]
        if self.cells is None:
            return codes[0]
        return find_cells(radix_key(codes, [len(own) for own in self.column_levels]), self.cells)


def _known_codes(name: str, codes: np.ndarray, own: pd.Index, levels: pd.Index) -> np.ndarray:
    if len(own) and level_kind(own) != level_kind(levels):
        raise ValueError(
            f"grouping factor {name!r} had levels like {_shown(levels)} at the fit and has levels "
            f"like {_shown(own)} now: convert the column"
        )
    return np.append(find_levels(levels, own), -1).astype(np.intp)[codes]


def _own_codes(columns: tuple[str, ...], grouping: Grouping) -> tuple[np.ndarray, pd.Index]:
    """Codes in the levels of the rows themselves; every unknown one is a level of its own."""
    codes, spec = _group_factor(columns, {name: observed(*grouping[name]) for name in columns})
    unknown = np.flatnonzero(codes < 0)
    codes = codes.copy()
    codes[unknown] = len(spec.levels) + np.arange(len(unknown))
    return codes, pd.Index([*spec.levels, *(f"unknown {row}" for row in unknown)], dtype=object)


def _shown(levels: pd.Index) -> str:
    return repr(levels[:1].tolist()[0])


@dataclass(frozen=True)
class DesignSpec:
    """All that is needed to build the design of new rows; it holds no row of the fit.

    Attributes
    ----------
    terms : Terms or None
        The formula with ``.`` written out; None for a design without a formula.
    fixed : part
        The columns of X.
    random : tuple of parts
        The columns of ``z`` of each random-effects term.
    offsets : tuple of parts
        One column each.
    groups : dict of str to GroupSpec
        The grouping factors.
    columns : dict of str to ColumnSpec
        The kind and the categories of every covariate.
    fixed_columns, random_columns : tuple of str
        The covariates that X and the offsets, and the random-effects terms need.
    reference : ReferenceValues
        Levels, means and counts of the columns of X and the offsets.
    response : part or None
        The response where the formula names one column, with ``response_columns``.
    trusted : bool
        Whether expressions are Python code beyond what formulas hold, and trusted to be.
    """

    terms: Terms | None
    fixed: Part
    random: tuple[Part, ...]
    offsets: tuple[Part, ...]
    groups: dict[str, GroupSpec]
    columns: dict[str, ColumnSpec]
    fixed_columns: tuple[str, ...]
    random_columns: tuple[str, ...]
    reference: ReferenceValues
    response: Part | None = None
    response_columns: tuple[str, ...] = ()
    trusted: bool = False

    def needs(self) -> frozenset[str]:
        """All columns that new rows are read from."""
        groups = (name for group in self.groups.values() for name in group.columns)
        return frozenset((*self.fixed_columns, *self.random_columns, *groups))

    def new(
        self,
        table: Any,
        *,
        need: Collection[str] = ("fixed", "random"),
        missing: str = "raise",
        levels: str = "fit",
        absent: Collection[str] = (),
    ) -> Design:
        """Return the design of new rows, with the transforms and categories of the fit.

        Parameters
        ----------
        table : DataFrame or dict of arrays
            The new rows. The response need not be there.
        need : {"fixed", "random"}
            Which parts to build; columns of other parts may be absent. ``"fixed"`` includes
            the offset. A part that is not built has no columns.
        missing : {"raise", "drop"}
            Missing values are an error, or their rows are left out of the result, which ``rows``
            tells.
        levels : {"fit", "own"}
            Codes in the levels of the fit, -1 for others, or in the levels of the new rows
            themselves, where every unknown one is a level of its own.
        absent : names, optional
            Grouping columns that the new rows need not have: their levels are unknown.

        Returns
        -------
        Design
            With ``y``, ``weights`` and ``frequencies`` None.

        Raises
        ------
        ValueError
            For an absent column, an unknown category of a covariate, or missing values with
            ``missing="raise"``.
        """
        _check_missing(missing)
        table = Table(table)
        fixed, random = "fixed" in need, "random" in need
        groups = self.groups if random else {}
        names = (*self.fixed_columns * fixed, *self.random_columns * random)
        names = tuple(dict.fromkeys(names))
        grouped = dict.fromkeys(name for spec in groups.values() for name in spec.columns)
        _check_present(table, (*names, *(name for name in grouped if name not in absent)))
        cleaned = {
            name: self.columns[name].conform(name, clean(name, table.column(name)))
            for name in names
        }
        grouping = {
            name: factorize(name, table.column(name)) for name in grouped if name not in absent
        }
        _drop_missing(table, cleaned, grouping, missing)
        columns = {name: column.values_in(table, fitting=False) for name, column in cleaned.items()}
        make = Materializer(columns, table.n_rows, trusted=self.trusted)
        blocks = _Blocks(
            fixed=self.fixed.matrix(make) if fixed else np.empty((table.n_rows, 0)),
            random=[part.matrix(make) for part in self.random] if random else [],
            offset=_sum(part.matrix(make)[:, 0] for part in self.offsets) if fixed else None,
            response=None,
        )
        undefined = blocks.undefined(self, missing)
        if undefined is not None:
            table.keep(np.flatnonzero(~undefined))
            blocks = blocks.without(undefined)
        unknown = np.full(table.n_rows, -1, dtype=np.intp), pd.Index([], dtype=object)
        kept = {name: (table.rows_of(code), own) for name, (code, own) in grouping.items()}
        kept |= dict.fromkeys(absent, unknown)
        codes, own = {}, {}
        for name, spec in groups.items():
            if levels == "own":
                codes[name], own[name] = _own_codes(spec.columns, kept)
            else:
                codes[name] = spec.codes(kept)
        return self._design(table, blocks, codes, need, own)

    def fixed_rows(self, table: Any) -> tuple[np.ndarray, np.ndarray]:
        """X (n, p) and the offset (n,) of rows that need have no other columns."""
        design = self.new(table, need=("fixed",))
        return design.X, np.zeros(len(design.X)) if design.offset is None else design.offset

    def reference_of(self, table: Any) -> ReferenceValues:
        """Levels, means and counts of other rows, those with missing values left out."""
        table = Table(table)
        _check_present(table, self.fixed_columns)
        cleaned = {
            name: self.columns[name].conform(name, clean(name, table.column(name)))
            for name in self.fixed_columns
        }
        _drop_missing(table, cleaned, {}, "drop")
        if not table.n_rows:
            raise ValueError("the data have no complete row")
        columns = {name: column.values_in(table) for name, column in cleaned.items()}
        coded = [name for name in self.reference.factors if self.columns[name].kind == "number"]
        return ReferenceValues.of(columns, coded)

    def response_of(self, table: Any) -> np.ndarray:
        """The response of new rows (n,), NaN where it is missing, of a formula that names one."""
        assert self.response is not None
        table = Table(table)
        _check_present(table, self.response_columns)
        cleaned = {
            name: self.columns[name].conform(name, clean(name, table.column(name)))
            for name in self.response_columns
        }
        columns = {name: column.values_in(table, fitting=False) for name, column in cleaned.items()}
        make = Materializer(columns, table.n_rows, trusted=self.trusted)
        y = self.response.matrix(make)[:, 0]
        missing = [column.missing for column in cleaned.values() if column.missing is not None]
        return np.where(np.logical_or.reduce(missing), np.nan, y) if missing else y

    def _design(
        self,
        table: Table,
        blocks: _Blocks,
        codes: Mapping[str, np.ndarray],
        need: Collection[str] = ("fixed", "random"),
        levels: Mapping[str, pd.Index] | None = None,
        **vectors: np.ndarray | None,
    ) -> Design:
        """The parts put together; ``levels`` are those of the fit unless given."""
        fixed = "fixed" in need
        levels = levels or {name: spec.levels for name, spec in self.groups.items()}
        specs = self.terms.random if self.terms is not None and "random" in need else ()
        return Design(
            y=blocks.response,
            X=blocks.fixed,
            names=self.fixed.names if fixed else (),
            intercept=self.fixed.intercept if fixed else None,
            term_slices=self.fixed.term_slices if fixed else {},
            random=tuple(
                RandomTerm(
                    group_label(spec.group, self.groups),
                    part.names,
                    codes[spec.group],
                    levels[spec.group],
                    z,
                    spec.correlated,
                )
                for spec, part, z in zip(specs, self.random, blocks.random, strict=False)
            ),
            weights=vectors.get("weights"),
            frequencies=vectors.get("frequencies"),
            offset=blocks.offset,
            rows=table.kept,
            n_input=table.n_input,
            spec=self,
        )


@dataclass(frozen=True)
class _Blocks:
    """The matrices that expressions gave, before rows without a defined value are dealt with."""

    fixed: np.ndarray
    random: list[np.ndarray]
    offset: np.ndarray | None
    response: np.ndarray | None

    def undefined(self, spec: DesignSpec, missing: str) -> np.ndarray | None:
        """The mask of the rows in which a transform gave NaN, or None; infinity is an error."""
        named = [(self.fixed, spec.fixed.names), (self.offset, ("the offset",))]
        named += [(z, part.names) for z, part in zip(self.random, spec.random, strict=False)]
        named += [(self.response, ("the response",))]
        masks = [_undefined_rows(block, names, missing) for block, names in named]
        found = [mask for mask in masks if mask is not None]
        return np.logical_or.reduce(found) if found else None

    def without(self, rows: np.ndarray) -> _Blocks:
        """These blocks without the rows of a mask."""
        kept = np.flatnonzero(~rows)
        return _Blocks(
            self.fixed[kept],
            [rows_of(z, kept) for z in self.random],
            None if self.offset is None else self.offset[kept],
            None if self.response is None else self.response[kept],
        )


def _undefined_rows(
    block: np.ndarray | None, names: Sequence[str], missing: str
) -> np.ndarray | None:
    """A mask of the rows with NaN; None if there are none."""
    if block is None or not block.size or not block.strides[0] or np.isfinite(_total(block)):
        return None
    block = block.reshape(len(block), -1)
    for name, column in zip(names, block.T, strict=False):
        _check_finite(name, column, missing)
    mask = np.isnan(block).any(axis=1)
    return mask if mask.any() else None


def _total(block: np.ndarray) -> float:
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


def _sum(offsets: Iterable[np.ndarray]) -> np.ndarray | None:
    offsets = list(offsets)
    return np.sum(offsets, axis=0) if offsets else None


def build_design(
    terms: Terms | str | None,
    table: Any,
    *,
    response: Any = None,
    sample_weight: Any = None,
    prior_weights: str | Any | None = None,
    missing: str = "raise",
    trusted: bool = False,
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
    _check_missing(missing)
    table = Table(table)
    if not table.n_rows:
        raise ValueError("the data have zero rows")
    frequencies = _counts(sample_weight, table)
    plan = _plan(terms, table, prior_weights, trusted)
    if response is not None and plan.responses:
        raise ValueError(
            f"the formula has the response {plan.terms.response!r} and y was given too: leave one "
            "of them out"
        )
    cleaned = {name: clean(name, table.column(name)) for name in plan.covariates}
    _check_text(cleaned, plan)
    grouping = {name: factorize(name, table.column(name)) for name in plan.group_columns}
    given = _response(response, table)
    weights = read_prior_weights(prior_weights, table)
    vectors = {"the response": given, "the prior weights": weights}
    _drop_missing(table, cleaned, grouping, missing, vectors)
    spec, blocks = _defined_expressions(plan, table, cleaned, given, frequencies, missing)
    codes = _group_codes(plan, table, grouping, spec.groups)
    return spec._design(
        table, blocks, codes, weights=table.rows_of(weights), frequencies=table.rows_of(frequencies)
    )


def _check_missing(missing: str) -> None:
    if missing not in ("raise", "drop"):
        raise ValueError(f"missing is 'raise' or 'drop', got {missing!r}")


def _check_present(table: Table, names: Iterable[str]) -> None:
    for name in names:
        if name not in table.names:
            message = f"the model was fitted with {name!r}, which the new data do not have"
            raise unknown_name(name, table.names, message)


def _plan(terms: Terms | str | None, table: Table, prior_weights: Any, trusted: bool) -> Plan:
    weights = prior_weights if isinstance(prior_weights, str) else None
    if weights is not None and weights not in table.names:
        message = f"the column of prior weights {weights!r} is not in the data"
        raise unknown_name(weights, table.names, message)
    if terms is None:
        terms = _all_columns(table, weights)
    elif isinstance(terms, str):
        terms = parse_formula(terms)
    names = tuple(name for name in table.names if isinstance(name, str))
    return make_plan(terms, names, weights, trusted)


def _all_columns(table: Table, weights: str | None) -> Terms:
    names = [name for name in table.names if name != weights]
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
) -> tuple[DesignSpec, _Blocks]:
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
) -> tuple[DesignSpec, _Blocks]:
    """Evaluate the expressions of the formula on the rows that are left."""
    columns = {name: column.values_in(table) for name, column in cleaned.items()}
    kinds = {name: column.kind for name, column in cleaned.items()}
    make = Materializer(columns, table.n_rows, counts=counts, trusted=plan.trusted)
    builder = PartBuilder(make, kinds)
    fixed, X = builder.make(plan.fixed)
    random = [builder.make(expr) for expr in plan.random]
    offsets = [builder.make_vector(expr, "the offset") for expr in plan.offsets]
    responses = [builder.make_vector(expr, "the response") for expr in plan.responses]
    y = _one_array([values for _, values in responses]) if responses else table.rows_of(given)
    spec = DesignSpec(
        plan.terms,
        fixed,
        tuple(part for part, _ in random),
        tuple(part for part, _ in offsets),
        {},
        {name: ColumnSpec.of(c.kind, columns[name]) for name, c in cleaned.items()},
        plan.fixed_columns,
        plan.random_columns,
        _reference(plan, columns, counts),
        responses[0][0] if len(responses) == 1 else None,
        plan.response_columns,
        plan.trusted,
    )
    X = X if X.strides[0] or not X.size else np.ones(X.shape)
    return spec, _Blocks(X, [z for _, z in random], _sum(z for _, z in offsets), y)


def _reference(
    plan: Plan, columns: Mapping[str, Any], counts: np.ndarray | None
) -> ReferenceValues:
    own = {name: columns[name] for name in plan.fixed_columns}
    return ReferenceValues.of(own, coded_columns((plan.fixed, *plan.offsets)), counts)


def _one_array(columns: list[np.ndarray]) -> np.ndarray:
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


def _group_codes(
    plan: Plan, table: Table, grouping: Grouping, groups: dict[str, GroupSpec]
) -> dict[str, np.ndarray]:
    """The codes of every grouping factor; their specifications are added to ``groups``."""
    kept = {
        name: observed(table.rows_of(codes), levels) for name, (codes, levels) in grouping.items()
    }
    made = {}
    for group in plan.terms.groups:
        made[group], groups[group] = _group_factor(split_group(group), kept)
        if len(groups[group].levels) < 2:
            raise ValueError(
                f"the grouping factor {group!r} has one level, "
                f"{str(groups[group].levels[0])!r}: a variance between levels needs at least two"
            )
    return made


def _group_factor(columns: tuple[str, ...], kept: Grouping) -> tuple[np.ndarray, GroupSpec]:
    codes, levels = [kept[name][0] for name in columns], tuple(kept[name][1] for name in columns)
    if len(columns) == 1:
        return codes[0], GroupSpec(columns, levels, None, levels[0])
    sizes = [len(own) for own in levels]
    joint, cells = combine_codes(codes, sizes)
    texts = [
        own.astype(str).to_numpy(dtype=object)[digit]
        for own, digit in zip(levels, cell_digits(cells, sizes), strict=True)
    ]
    label = texts[0]
    for text in texts[1:]:
        label = label + ":" + text
    return joint, GroupSpec(columns, levels, cells, pd.Index(label))


def _drop_missing(
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
        if values is not None and np.isnan(_total(values)):
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


def _check_text(cleaned: Mapping[str, Column], plan: Plan) -> None:
    """Numbers stored as text would silently become categories."""
    for name, column in cleaned.items():
        if column.text and name not in plan.coded and looks_numeric(column.values.categories):
            shown = column.values.categories[0]
            raise ValueError(
                f"column {name!r} holds numbers stored as text, such as {shown!r}: convert it with "
                f"pandas.to_numeric, or write C({name}) if they are categories"
            )


def _counts(sample_weight: Any, table: Table) -> np.ndarray | None:
    """How often each row counts, None if every row counts once; rows that do not are left out."""
    if sample_weight is None:
        return None
    counts = _vector(sample_weight, table, "sample_weight")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("sample_weight must be finite and not negative")
    if not counts.any():
        raise ValueError("sample_weight is zero for every row")
    if not counts.all():
        table.keep(np.flatnonzero(counts))
    return None if (counts[counts > 0] == 1).all() else counts


def read_prior_weights(prior_weights: Any, table: Table) -> np.ndarray | None:
    """The prior weights of all rows, missing ones NaN."""
    if prior_weights is None:
        return None
    if isinstance(prior_weights, str):
        column = clean(prior_weights, table.column(prior_weights))
        if column.kind == "category":
            raise ValueError(f"the prior weights {prior_weights!r} are not numbers")
        weights = np.asarray(column.values, dtype=np.float64)
        weights = weights if column.missing is None else np.where(column.missing, np.nan, weights)
    else:
        weights = _vector(prior_weights, table, "prior_weights")
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


def _response(response: Any, table: Table) -> np.ndarray | None:
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
    infinite = int(np.isinf(values).sum()) if not np.isfinite(_total(values)) else 0
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


def check_identifiable(design: Design, *, residual: bool = True) -> None:
    """Raise an error for a mixed model that the data cannot determine.

    No effect may stand in two terms of one grouping factor. With a residual variance to estimate,
    a term needs fewer effects than there are observations (so that levels, too, are fewer), and
    the response must vary.

    Parameters
    ----------
    design : Design
    residual : bool
        Whether the model has a residual variance.

    Raises
    ------
    ValueError
        Naming the term and the counts.
    """
    seen: set[tuple[str, str]] = set()
    for term in design.random:
        if residual:
            _check_term_size(term, design)
        for name in term.names:
            if (term.group, name) in seen:
                raise ValueError(
                    f"the effect {name!r} by {term.group!r} stands in two random-effects terms, so "
                    "their variances cannot be told apart: leave it out of one with (0 + ... | "
                    f"{term.group})"
                )
            seen.add((term.group, name))
    if residual and design.random and design.y is not None and design.y.size:
        _check_varies(design.y, design.offset)


def _check_varies(y: np.ndarray, offset: np.ndarray | None) -> None:
    y = y if offset is None else (y.T - offset).T
    if np.ptp(y, axis=0).max() == 0:
        what = "the response" if offset is None else "the response less the offset"
        raise ValueError(f"{what} is constant ({y.flat[0]:g}): there is no variance to explain")


def _check_term_size(term: RandomTerm, design: Design) -> None:
    n_obs = design.n_obs
    if term.n_effects < n_obs:
        return
    if term.n_levels >= n_obs:
        message = (
            f"the grouping factor {term.group!r} has {term.n_levels} levels for {n_obs:g} "
            "observations, one row per level: its variance cannot be told from the residual's"
        )
    else:
        message = (
            f"the random-effects term of {term.group!r} has {term.n_effects} effects "
            f"({term.n_levels} levels x {len(term.names)} columns) for {n_obs:g} observations: "
            "their variances cannot be told from the residual's; take columns out of the term"
        )
    if n_obs < len(design.X):
        message += (
            f". The sample weights count rows, and those of {len(design.X)} rows sum to "
            f"{n_obs:g}: weights that are precisions are prior_weights"
        )
    raise ValueError(message)
