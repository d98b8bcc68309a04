"""Designs of rows that come in batches: a first look at all of them, then the rows of each.

What a design learns from its rows is had from a `Scan` of every batch, and scans can be merged:
levels and categories, means and ranges, what functions such as ``center()`` learn, and some
thousand rows that stand for the others. `build_design` of these rows, with what was learnt from
all, is the specification from which the design of every batch is made.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.columns import Column, Table, clean, factorize, observed
from skmixed.design.design import build_design, plan_of
from skmixed.design.evaluate import Evaluator
from skmixed.design.expression import read_expression, short, spelling
from skmixed.design.formula import Terms, formulaic_formula, split_group, unknown_name
from skmixed.design.functions import FUNCTIONS
from skmixed.design.grouping import Grouping, GroupSpec, first_of, group_factor
from skmixed.design.levels import find_levels, level_kind
from skmixed.design.missing import check_missing, drop_missing, undefined_rows
from skmixed.design.parts import Numbers, coded_columns, unknown_category
from skmixed.design.plan import Plan
from skmixed.design.reference import ReferenceValues
from skmixed.design.response import read_prior_weights
from skmixed.design.spec import Design, DesignSpec
from skmixed.linalg.measure import Measure

# Rows that stand for the others: of one batch, and of all.
_SAMPLED, _MOST_SAMPLED = 256, 4096
# Nodes that hold a column's mean and variance, and one more for rounding.
_NODES = 3
_QUANTILES = ("median", "quantile", "percentile", "nanmedian", "nanquantile", "nanpercentile")


@dataclass(frozen=True, eq=False)
class Reader:
    """How a batch is read.

    Attributes
    ----------
    terms : Terms
    plan : Plan
    names : tuple of str
        The columns that are read, in the order of the data.
    levels : dict of Index
        Declared levels of grouping factors and categories of covariates.
    frequencies, prior_weights : str or None
        Columns that tell how often a row counts, and how exact it is.
    missing : {"raise", "drop"}
    """

    terms: Terms
    plan: Plan
    names: tuple[str, ...]
    levels: dict[str, pd.Index]
    frequencies: str | None
    prior_weights: str | None
    missing: str

    @classmethod
    def of(
        cls,
        terms: Terms,
        names: tuple[str, ...],
        *,
        levels: Mapping[str, Any] | None = None,
        frequencies: str | None = None,
        prior_weights: str | None = None,
        missing: str = "raise",
    ) -> Reader:
        """The reader of batches with these columns.

        Raises
        ------
        ValueError
            For columns that are not there, and formulas that need all rows at once.
        """
        check_missing(missing)
        if frequencies is not None and frequencies not in names:
            message = f"the column of sample weights {frequencies!r} is not in the data"
            raise unknown_name(frequencies, names, message)
        shown = [name for name in names if name != frequencies]
        plan = plan_of(terms, Table({name: [] for name in shown}), prior_weights, False)
        if not plan.responses:
            raise ValueError("fit_batches reads the response from the data: name it in the formula")
        _check_formula(plan)
        used = {*plan.covariates, *plan.group_columns, prior_weights, frequencies}
        read = tuple(name for name in names if name in used)
        declared = {name: _declared(name, own) for name, own in (levels or {}).items()}
        for name in declared:
            if name not in plan.covariates and name not in plan.group_columns:
                raise unknown_name(name, read, f"levels= names {name!r}, which no term uses")
        return cls(terms, plan, read, declared, frequencies, prior_weights, missing)

    def frame(self, frame: Any) -> tuple[pd.DataFrame, np.ndarray | None]:
        """The columns that are used of the rows that count, and how often they do."""
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"a batch must be a pandas DataFrame, got {type(frame).__name__}")
        lacking = [name for name in self.names if name not in frame.columns]
        if lacking:
            raise ValueError(
                f"a batch has no column {lacking[0]!r}, which the first one has: all batches need "
                f"the columns {', '.join(map(repr, self.names))}"
            )
        frame, counts = frame[list(self.names)], None
        if self.frequencies is not None:
            counts = np.asarray(frame[self.frequencies], dtype=np.float64)
            if not np.isfinite(counts).all() or (counts < 0).any():
                raise ValueError(
                    f"the sample weights {self.frequencies!r} must be finite and not negative"
                )
            frame, counts = frame[counts > 0], counts[counts > 0]
            if self.frequencies not in self._shown:
                frame = frame.drop(columns=self.frequencies)
        own = {name: _in_levels(name, frame[name], known) for name, known in self.levels.items()}
        return (frame.assign(**own) if own else frame), counts

    @property
    def _shown(self) -> frozenset[str]:
        return frozenset((*self.plan.covariates, *self.plan.group_columns))

    @property
    def text_groups(self) -> tuple[str, ...]:
        """Columns that group and are nothing else: only their levels are looked at."""
        other = {*self.plan.covariates, self.frequencies, self.prior_weights}
        return tuple(name for name in self.plan.group_columns if name not in other)

    @property
    def scanned_groups(self) -> tuple[str, ...]:
        """The grouping factors whose levels are not declared."""
        return tuple(group for group in self.plan.terms.groups if group not in self.levels)


def _check_formula(plan: Plan) -> None:
    for spec in plan.terms.random:
        if spec.is_spatial:
            raise ValueError(
                f"fit_batches cannot fit {spec}: positions are found in all rows at once. Use fit"
            )
    if len(plan.responses) > 1:
        raise ValueError("fit_batches fits one response, not cbind()")
    for call in stateful_calls(plan).values():
        name = str(spelling(call.func))
        text = short(ast.unparse(call))
        if any(c is not call and _is_stateful(c) for c in ast.walk(call)):
            raise ValueError(
                f"fit_batches cannot learn {text!r}, a function of another that learns from the "
                "rows: write one of them with numbers"
            )
        if _needs_quantiles(name, call):
            way = (
                "give its knots=[...] and no constraints" if name in _SPLINES else "write a number"
            )
            raise ValueError(
                f"fit_batches cannot learn {text!r}: it needs quantiles or means of all rows at "
                f"once. In the formula {way}"
            )


_SPLINES = ("bs", "cr", "cs", "cc")


def _needs_quantiles(name: str, call: ast.Call) -> bool:
    given = {k.arg for k in call.keywords if not _is_none(k.value)}
    given |= {("x", "df", "knots")[i] for i, v in enumerate(call.args[:3]) if not _is_none(v)}
    if name == "bs":
        return "df" in given
    if name in _SPLINES:
        return "knots" not in given or "df" in given or "constraints" in given
    return name.removeprefix("np.") in _QUANTILES


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _expressions(plan: Plan) -> Iterator[ast.expr]:
    """The trees of all Python expressions of a formula."""
    parts = (plan.fixed, *plan.random, *plan.offsets, *plan.responses)
    texts = {
        factor.expr: None
        for part in parts
        for term in formulaic_formula(part)
        for factor in term.factors
        if factor.eval_method.value == "python"
    }
    return (read_expression(text).tree for text in texts)


def _is_stateful(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = FUNCTIONS.get(str(spelling(node.func)))
    return function is not None and function.kind in ("transform", "aggregate")


def stateful_calls(plan: Plan) -> dict[str, ast.Call]:
    """The calls of functions that learn from the rows, by their text."""
    nodes = (node for tree in _expressions(plan) for node in ast.walk(tree))
    return {ast.unparse(node): node for node in nodes if _is_stateful(node)}  # type: ignore[misc]


def _nodes(call: ast.Call) -> int:
    """Nodes of the measure from which a call learns all that it needs."""
    numbers = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    whole = [n for n in numbers if isinstance(n, int) and 0 < n < 100]
    return max([_NODES, *(n + 2 for n in whole)]) if spelling(call.func) == "poly" else _NODES


class _Stateless(ast.NodeTransformer):
    """An expression without what it learns: defined in the same rows."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A function that learns becomes what it learns from, or a number."""
        self.generic_visit(node)
        if not _is_stateful(node):
            return node
        kind = FUNCTIONS[str(spelling(node.func))].kind
        return node.args[0] if kind == "transform" else ast.Constant(1.0)


def _declared(name: str, levels: Any) -> pd.Index:
    levels = levels.categories if isinstance(levels, pd.CategoricalDtype) else levels
    if levels is None:
        raise ValueError(f"levels={{{name!r}: ...}} needs the levels, got none")
    index = pd.Index(levels)
    if not len(index) or index.hasnans or not index.is_unique:
        raise ValueError(f"levels={{{name!r}: ...}} must be different, and none of them missing")
    return index


def _in_levels(name: str, values: pd.Series, levels: pd.Index) -> pd.Categorical:
    """A column as a categorical with declared levels; others are an error."""
    codes, own = factorize(name, Table({name: values}).column(name))
    if len(own) and level_kind(own) != level_kind(levels):
        raise ValueError(
            f"column {name!r} has levels like {first_of(own)}, and levels= declares such as "
            f"{first_of(levels)}: convert one of them"
        )
    place = find_levels(levels, own)
    if (place < 0).any():
        raise ValueError(
            "levels= does not declare all that a batch has: "
            f"{unknown_category(name, own[place < 0].tolist(), levels.tolist())}"
        )
    return pd.Categorical.from_codes(np.append(place, -1)[codes], categories=levels)


# ---- the first pass ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scan:
    """What one pass over some batches has found.

    Attributes
    ----------
    n_input : int
        Rows that were read.
    n_rows : tuple of int
        Rows that are left, by batch.
    n_obs : float
    check : float
        Sum of the response's column, by which the second pass is known again.
    kinds : dict of str
        The kind of every covariate.
    reference : ReferenceValues or None
    measures : dict of Measure
        By the calls that learn.
    groups : dict of tuple of Index
        Levels of every grouping factor, or those that make up its combinations.
    categories : dict
        Categories in their own order of columns that group, where all batches have the same.
    rows : DataFrame
        Rows with every label of a covariate, ``first[key]`` for the labels ``seen[key]``.
    sample : DataFrame
    """

    n_input: int
    n_rows: tuple[int, ...]
    n_obs: float = 0.0
    check: float = 0.0
    kinds: dict[str, str] = field(default_factory=dict)
    reference: ReferenceValues | None = None
    measures: dict[str, Measure] = field(default_factory=dict)
    groups: dict[str, tuple[pd.Index, ...]] = field(default_factory=dict)
    categories: dict[str, pd.Index | None] = field(default_factory=dict)
    seen: dict[str, pd.Index] = field(default_factory=dict)
    first: dict[str, np.ndarray] = field(default_factory=dict)
    rows: pd.DataFrame | None = None
    sample: pd.DataFrame | None = None

    @classmethod
    def of(cls, frame: Any, reader: Reader) -> Scan:
        """The scan of one batch."""
        n_input = len(frame)
        frame, counts = reader.frame(frame)
        table, cleaned, grouping = _complete(frame, reader)
        if not table.n_rows:
            return cls(n_input, (0,))
        plan, counts = reader.plan, table.rows_of(counts)
        columns = {name: column.values_in(table) for name, column in cleaned.items()}
        weights = np.ones(table.n_rows) if counts is None else counts
        evaluator = Evaluator(columns, Numbers(columns), counts, table.n_rows)
        keys = _labels(plan, columns, cleaned, evaluator)
        kept = {name: (table.rows_of(codes), own) for name, (codes, own) in grouping.items()}
        keys |= {f"| {name}": _two_levels(*own) for name, own in kept.items()}
        first = {key: _first_rows(*own) for key, own in keys.items()}
        used, at = np.unique(_joined(first.values()), return_inverse=True)
        ends = np.cumsum([len(own) for own in first.values()])[:-1]
        sampled = np.unique(np.linspace(0, table.n_rows - 1, _SAMPLED).astype(np.intp))
        names = [name for name in reader.names if name in frame.columns]
        frame = frame[names]
        return cls(
            n_input,
            (table.n_rows,),
            float(weights.sum()),
            _response_sum(frame, plan, table),
            {name: column.kind for name, column in cleaned.items()},
            ReferenceValues.of(
                {name: columns[name] for name in plan.fixed_columns},
                coded_columns((plan.fixed, *plan.offsets)),
                counts,
            ),
            {text: _measure(evaluator, c, weights) for text, c in stateful_calls(plan).items()},
            {group: _levels_of(group, kept) for group in reader.scanned_groups},
            {name: _own_categories(frame[name]) for name in kept},
            {key: pd.Index(own) for key, (_, own) in keys.items()},
            dict(zip(first, np.split(at, ends), strict=True)) if first else {},
            frame.iloc[table.kept[used]],
            frame.iloc[table.kept[sampled]],
        )

    def merged(self, other: Scan, reader: Reader) -> Scan:
        """The scan of the batches of both, in this order."""
        n_input, n_rows = self.n_input + other.n_input, self.n_rows + other.n_rows
        if self.rows is None or other.rows is None:
            some = other if self.rows is None else self
            return replace(some, n_input=n_input, n_rows=n_rows)
        assert self.sample is not None and other.sample is not None
        assert self.reference is not None and other.reference is not None
        _check_kinds(self.kinds, other.kinds)
        n_obs = self.n_obs + other.n_obs
        seen, first, rows = _joined_rows(self, other)
        sample = _concat(self.sample, other.sample)
        while len(sample) > _MOST_SAMPLED:
            sample = sample.iloc[::2]
        calls = stateful_calls(reader.plan)
        return Scan(
            n_input,
            n_rows,
            n_obs,
            self.check + other.check,
            self.kinds,
            self.reference.merged(other.reference, other.n_obs / n_obs),
            {t: m.merged(other.measures[t], _nodes(calls[t])) for t, m in self.measures.items()},
            {g: _union(g, own, other.groups[g]) for g, own in self.groups.items()},
            {n: _same_categories(own, other.categories[n]) for n, own in self.categories.items()},
            seen,
            first,
            rows,
            sample,
        )


def _complete(frame: pd.DataFrame, reader: Reader) -> tuple[Table, dict[str, Column], Grouping]:
    """A batch without the rows that lack a value."""
    plan, table = reader.plan, Table(frame)
    cleaned = {name: clean(name, table.column(name)) for name in plan.covariates}
    grouping = {name: factorize(name, table.column(name)) for name in plan.group_columns}
    looked_at = dict(cleaned)
    if reader.prior_weights is not None:
        name = reader.prior_weights
        looked_at.setdefault(name, clean(name, table.column(name)))
    drop_missing(table, looked_at, grouping, reader.missing)
    if reader.missing == "drop" and table.n_rows:
        columns = {name: column.values_in(table) for name, column in cleaned.items()}
        undefined = _undefined(plan, Evaluator(columns, Numbers(columns), None, table.n_rows))
        if undefined.any():
            table.keep(np.flatnonzero(~undefined))
    return table, cleaned, grouping


def _stateless(plan: Plan, evaluator: Evaluator) -> Iterator[tuple[str, Any]]:
    """(text, values) of the expressions, without what functions learn."""
    for tree in _expressions(plan):
        text = ast.unparse(tree)
        if isinstance(tree, ast.Call) and spelling(tree.func) in ("C", "hashed"):
            values = evaluator.labels(tree.args[0])
        else:
            values = evaluator.value(_Stateless().visit(deepcopy(tree)))
        yield text, values


def _undefined(plan: Plan, evaluator: Evaluator) -> np.ndarray:
    mask = np.zeros(evaluator.n_rows, dtype=bool)
    with np.errstate(all="ignore"):
        for _, values in _stateless(plan, evaluator):
            if getattr(getattr(values, "dtype", None), "kind", "") == "f" and np.ndim(values) == 1:
                mask |= np.isnan(values)
    return mask


def _labels(
    plan: Plan, columns: Mapping[str, Any], cleaned: Mapping[str, Column], evaluator: Evaluator
) -> dict[str, tuple[np.ndarray, Any]]:
    """(codes, labels) of everything whose labels the design has to know."""
    coded, found = coded_columns((plan.fixed, *plan.random)), {}
    for name, values in columns.items():
        if cleaned[name].kind == "category":
            found[name] = np.asarray(values.array.codes), values.array.categories
        elif cleaned[name].kind == "boolean" or name in coded:
            labels, codes = np.unique(np.asarray(values), return_inverse=True)
            found[name] = codes, labels
    with np.errstate(all="ignore"):
        for text, values in _stateless(plan, evaluator):
            plain = isinstance(values, np.ndarray) and values.ndim == 1
            if plain and (values.dtype.kind == "b" or text.startswith(("C(", "hashed("))):
                labels, codes = np.unique(values, return_inverse=True)
                found[f"({text})"] = codes, labels
    return found


def _two_levels(codes: np.ndarray, levels: pd.Index) -> tuple[np.ndarray, pd.Index]:
    """Codes of two levels that occur, -1 for all others: more are not needed."""
    own = np.unique(codes[:: max(1, len(codes) // 1024)])
    other = codes != codes[0]
    chosen = own[:2] if len(own) > 1 else np.unique([codes[0], codes[np.argmax(other)]])
    found = np.full(len(codes), -1)
    for i, code in enumerate(chosen):
        found[codes == code] = i
    return found, levels[chosen]


def _first_rows(codes: np.ndarray, labels: Any) -> np.ndarray:
    """The first row of every label."""
    first = np.zeros(len(labels) + 1, dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return first[:-1]


def _measure(evaluator: Evaluator, call: ast.Call, weights: np.ndarray) -> Measure:
    with np.errstate(all="ignore"):
        x = evaluator.argument(call)
    known = np.isfinite(x)
    return Measure.of(x[known], weights[known], _nodes(call))


def _levels_of(group: str, kept: Grouping) -> tuple[pd.Index, ...]:
    """The levels of a grouping factor that occur, or the parts of its combinations."""
    own = [observed(*kept[name]) for name in split_group(group)]
    if len(own) == 1:
        return (own[0][1],)
    pairs = np.unique(np.column_stack([codes for codes, _ in own]), axis=0)
    return tuple(levels[code] for (_, levels), code in zip(own, pairs.T, strict=True))


def _own_categories(values: Any) -> pd.Index | None:
    return values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else None


def _same_categories(own: pd.Index | None, other: pd.Index | None) -> pd.Index | None:
    return own if own is not None and other is not None and own.equals(other) else None


def _union(
    group: str, own: tuple[pd.Index, ...], other: tuple[pd.Index, ...]
) -> tuple[pd.Index, ...]:
    """The levels of both, in no order; the same objects where the other has none of its own."""
    for a, b in zip(own, other, strict=True):
        if level_kind(a) != level_kind(b):
            raise ValueError(
                f"the grouping factor {group!r} has levels like {first_of(a)} in one batch and "
                f"like {first_of(b)} in another: convert the column"
            )
    if len(own) == 1:
        new = find_levels(own[0], other[0]) < 0
        return (own[0].append(other[0][new]),) if new.any() else own
    a, b = pd.MultiIndex.from_arrays(own), pd.MultiIndex.from_arrays(other)
    new = a.get_indexer(b) < 0
    return tuple(x.append(y[new]) for x, y in zip(own, other, strict=True)) if new.any() else own


def _check_kinds(own: Mapping[str, str], other: Mapping[str, str]) -> None:
    for name, kind in own.items():
        if other[name] != kind:
            raise ValueError(
                f"column {name!r} is a {kind} in one batch and a {other[name]} in another: "
                "convert it"
            )


def _joined_rows(a: Scan, b: Scan) -> tuple[dict, dict, pd.DataFrame]:
    """Labels of both, and a row for each of them."""
    assert a.rows is not None and b.rows is not None
    seen, first, used = {}, {}, []
    for key, own in a.seen.items():
        new = own.get_indexer(b.seen[key]) < 0
        new &= not (key.startswith("| ") and len(own) > 1)
        seen[key] = own.append(b.seen[key][new]) if new.any() else own
        used.append(b.first[key][new])
    rows, at = np.unique(_joined(used), return_inverse=True)
    parts = np.split(at, np.cumsum([len(own) for own in used])[:-1]) if used else []
    for key, part in zip(a.seen, parts, strict=True):
        first[key] = np.append(a.first[key], len(a.rows) + part)
    return seen, first, _concat(a.rows, b.rows.iloc[rows])


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.intp), *parts])


def _concat(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Rows of both; categories in another order, or other ones, become their values."""
    if not len(a) or not len(b):
        return a if len(a) else b
    for name in a.columns:
        one, two = _own_categories(a[name]), _own_categories(b[name])
        if one is None and two is None:
            continue
        if _same_categories(one, two) is None or a[name].dtype != b[name].dtype:
            a, b = a.astype({name: object}), b.astype({name: object})
    return pd.concat([a, b], ignore_index=True)


# ---- the second pass --------------------------------------------------------------------------


def learnt_design(scan: Scan, reader: Reader) -> Design:
    """The design of the rows that stand for all others, with what was learnt from all of them.

    Its specification makes the design of every batch; ``random`` has the levels of all.
    """
    assert scan.rows is not None and scan.sample is not None and scan.reference is not None
    calls = stateful_calls(reader.plan)
    learnt = {}
    for text, measure in scan.measures.items():
        x, counts = measure.rows()
        learnt[text] = Evaluator({}, {}, counts, len(x)).learnt(calls[text], x)
    rows = _concat(scan.rows, scan.sample)
    design = build_design(reader.terms, rows, prior_weights=reader.prior_weights, learnt=learnt)
    groups = {group: _group_spec(group, scan, reader) for group in reader.plan.terms.groups}
    categories = {n: c.categories for n, c in design.spec.columns.items() if c.kind == "category"}
    spec = replace(design.spec, groups=groups, reference=scan.reference.in_levels(categories))
    return with_spec(design, spec)


def with_spec(design: Design, spec: DesignSpec) -> Design:
    """A design with the levels of another specification."""
    assert spec.terms is not None
    random = tuple(
        replace(term, levels=spec.groups[own.group].levels)
        for term, own in zip(design.random, spec.terms.random, strict=True)
    )
    return replace(design, spec=spec, random=random)


def _group_spec(group: str, scan: Scan, reader: Reader) -> GroupSpec:
    if group in reader.levels:
        levels = reader.levels[group]
        return GroupSpec((group,), (levels,), None, levels)
    names = split_group(group)
    grouping = {
        name: _in_order(values, scan.categories[name])
        for name, values in zip(names, scan.groups[group], strict=True)
    }
    return group_factor(names, grouping)[1]


def _in_order(values: pd.Index, categories: pd.Index | None) -> tuple[np.ndarray, pd.Index]:
    """Codes and levels: categories in their own order, others sorted."""
    if categories is not None:
        return observed(categories.get_indexer(values), categories)
    levels = values.unique().sort_values()
    return levels.get_indexer(values), levels


def batch_design(frame: Any, reader: Reader, spec: DesignSpec) -> tuple[Design | None, float]:
    """The design of one batch, None without rows, and the sum that :class:`Scan` checks."""
    frame, counts = reader.frame(frame)
    if not len(frame):
        return None, 0.0
    table = Table(frame)
    weights = read_prior_weights(reader.prior_weights, table)
    y = spec.response_of(table)
    design = spec.new(table, missing=reader.missing)
    undefined = undefined_rows(y[design.rows], ("the response",), reader.missing)
    lost = np.zeros(len(design.rows), dtype=bool) if undefined is None else undefined
    if weights is not None:
        lost = lost | np.isnan(weights[design.rows])
    rows = design.rows[~lost]
    if not len(rows):
        return None, 0.0
    random = tuple(term.of_rows(~lost) for term in design.random) if lost.any() else design.random
    for term in random:
        if (term.codes < 0).any():
            raise ValueError(
                f"a level of {term.group!r} was not there in the first pass: {_OTHER_DATA}"
            )
    made = replace(
        design,
        y=y[rows],
        X=design.X[~lost] if lost.any() else design.X,
        random=random,
        offset=None if design.offset is None else design.offset[~lost],
        weights=None if weights is None else weights[rows],
        frequencies=None if counts is None else counts[rows],
        rows=rows,
    )
    table.keep(rows)
    return made, _response_sum(frame, reader.plan, table)


_OTHER_DATA = "the source gave other rows when it was read again"


def check_same_rows(scan: Scan, n_rows: int, check: float) -> None:
    """Raise an error for a second pass that has seen other rows than the first."""
    gap = abs(check - scan.check)
    if n_rows != sum(scan.n_rows) or gap > 1e-6 * max(abs(check), abs(scan.check)):
        raise ValueError(
            f"{_OTHER_DATA}: {sum(scan.n_rows):,} rows with a response that sums to "
            f"{scan.check:.9g} at first, then {n_rows:,} with {check:.9g}. A callable has to start "
            "anew every time, with the same rows"
        )


def _response_sum(frame: pd.DataFrame, plan: Plan, table: Table) -> float:
    """Sum of the response's columns, sizes only: it cannot cancel."""
    columns = [clean(name, table.column(name)) for name in plan.response_columns]
    numbers = [c.values for c in columns if c.kind != "category"]
    return float(sum(np.abs(table.rows_of(np.asarray(v, float))).sum() for v in numbers))
