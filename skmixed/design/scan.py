"""A first look at batches of rows: what a design learns from all of them.

Levels and categories, means and ranges, what functions such as ``center()`` learn, and some
thousand rows that stand for the others. Scans of batches can be merged, in any grouping.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.batch_reader import Reader, expressions_of, is_stateful, stateful_calls
from skmixed.design.columns import Column, Table, clean, factorize, observed
from skmixed.design.evaluate import Evaluator
from skmixed.design.expression import spelling
from skmixed.design.functions import FUNCTIONS
from skmixed.design.grouping import Grouping, first_of
from skmixed.design.levels import find_levels, level_kind
from skmixed.design.missing import drop_missing
from skmixed.design.names import split_group
from skmixed.design.parts import Numbers, coded_columns
from skmixed.design.plan import Plan
from skmixed.design.reference import ReferenceValues
from skmixed.linalg.measure import Measure

# Rows that stand for the others: of one batch, and of all.
_SAMPLED, _MOST_SAMPLED = 256, 4096
# Nodes that hold a column's mean and variance, and one more for rounding.
_NODES = 3


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
    check : ndarray or 0.0
        Of :func:`column_sums`, by which the second pass is known again.
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
    check: np.ndarray | float = 0.0
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
            column_sums(plan, table),
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
        sample = concat_rows(self.sample, other.sample)
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


class _Stateless(ast.NodeTransformer):
    """An expression without what it learns: defined in the same rows."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A function that learns becomes what it learns from, or a number."""
        self.generic_visit(node)
        if not is_stateful(node):
            return node
        kind = FUNCTIONS[str(spelling(node.func))].kind
        return node.args[0] if kind == "transform" else ast.Constant(1.0)


def _stateless(plan: Plan, evaluator: Evaluator) -> Iterator[tuple[str, Any]]:
    """(text, values) of the expressions, without what functions learn."""
    for tree in expressions_of(plan):
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


def _nodes(call: ast.Call) -> int:
    """Nodes of the measure from which a call learns all that it needs."""
    numbers = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    whole = [n for n in numbers if isinstance(n, int) and 0 < n < 100]
    return max([_NODES, *(n + 2 for n in whole)]) if spelling(call.func) == "poly" else _NODES


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
    return seen, first, concat_rows(a.rows, b.rows.iloc[rows])


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.intp), *parts])


def concat_rows(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
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


def checked_columns(plan: Plan) -> tuple[str, ...]:
    """The response's columns and the covariates."""
    return tuple(dict.fromkeys([*plan.response_columns, *plan.covariates]))


def column_sums(plan: Plan, table: Table) -> np.ndarray:
    """Sums of the checked columns, sizes only: they cannot cancel; zero for categories."""
    columns = [clean(name, table.column(name)) for name in checked_columns(plan)]
    return np.array([0.0 if c.kind == "category" else _size(table, c.values) for c in columns])


def _size(table: Table, values: Any) -> float:
    return float(np.abs(table.rows_of(np.asarray(values, float))).sum())
