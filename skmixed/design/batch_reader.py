"""How batches of rows are read, and which formulas can be: nothing may need all rows at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.columns import Table, factorize
from skmixed.design.design import plan_of
from skmixed.design.expression import read_expression, short, spelling
from skmixed.design.formula_terms import Terms
from skmixed.design.functions import FUNCTIONS
from skmixed.design.grouping import first_of
from skmixed.design.levels import find_levels, level_kind
from skmixed.design.missing import check_missing
from skmixed.design.names import formulaic_formula, unknown_name
from skmixed.design.parts import unknown_category
from skmixed.design.plan import Plan

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
        TypeError
            For levels or frequencies of the wrong kind.
        ValueError
            For columns that are not there, and formulas that need all rows at once.
        """
        check_missing(missing)
        if frequencies is not None and not isinstance(frequencies, str):
            raise TypeError(
                "in batches, sample_weight= is the name of a column that tells how often each row "
                f"counts; got {type(frequencies).__name__}"
            )
        if levels is not None and not isinstance(levels, Mapping):
            raise TypeError(
                "levels= must be a dict, such as {'user': index}; got " + type(levels).__name__
            )
        if frequencies is not None and frequencies not in names:
            message = f"the column of sample weights {frequencies!r} is not in the data"
            raise unknown_name(frequencies, names, message)
        shown = [name for name in names if name != frequencies]
        plan = plan_of(terms, Table({name: [] for name in shown}), prior_weights, False, None)
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
            raise no_frame(frame)
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
        if spec.is_smooth:
            raise ValueError(
                f"fit_batches cannot fit {spec}: a smooth term is built of all rows at once. Use "
                "fit, or bs(x, knots=[...])"
            )
        if spec.is_spatial:
            raise ValueError(
                f"fit_batches cannot fit {spec}: positions are found in all rows at once. Use fit"
            )
    if len(plan.responses) > 1:
        raise ValueError("fit_batches fits one response, not cbind()")
    for call in stateful_calls(plan).values():
        name = str(spelling(call.func))
        text = short(ast.unparse(call))
        if any(c is not call and is_stateful(c) for c in ast.walk(call)):
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


def expressions_of(plan: Plan) -> Iterator[ast.expr]:
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


def is_stateful(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = FUNCTIONS.get(str(spelling(node.func)))
    return function is not None and function.kind in ("transform", "aggregate")


def stateful_calls(plan: Plan) -> dict[str, ast.Call]:
    """The calls of functions that learn from the rows, by their text."""
    nodes = (node for tree in expressions_of(plan) for node in ast.walk(tree))
    return {ast.unparse(node): node for node in nodes if is_stateful(node)}  # type: ignore[misc]


def no_frame(batch: Any) -> TypeError:
    """The error for a batch that is no pandas DataFrame."""
    kind = f"{type(batch).__module__.partition('.')[0]}.{type(batch).__name__}"
    hint = ": convert it by to_pandas()" if hasattr(batch, "to_pandas") else ""
    return TypeError(f"a batch must be a pandas DataFrame, got {kind}{hint}")


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
