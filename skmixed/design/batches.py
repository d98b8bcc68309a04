"""Designs of rows that come in batches: what a `Scan` of all has learnt, and the rows of each.

`build_design` of the rows that stand for the others, with what was learnt from all of them, is the
specification from which the design of every batch is made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.batch_reader import Reader, stateful_calls
from skmixed.design.columns import Table, observed
from skmixed.design.design import build_design
from skmixed.design.evaluate import Evaluator
from skmixed.design.grouping import GroupSpec, group_factor
from skmixed.design.missing import undefined_rows
from skmixed.design.names import split_group
from skmixed.design.response import read_prior_weights
from skmixed.design.scan import Scan, checked_columns, column_sums, concat_rows
from skmixed.design.spec import Design, DesignSpec


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
    rows = concat_rows(scan.rows, scan.sample)
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


def batch_design(frame: Any, reader: Reader, spec: DesignSpec) -> tuple[Design | None, Any]:
    """The design of one batch, None without rows, and the sums that :class:`Scan` checks."""
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
    return made, column_sums(reader.plan, table)


_OTHER_DATA = "the source gave other rows when it was read again"


def check_same_rows(scan: Scan, reader: Reader, n_rows: int, check: Any) -> None:
    """Raise an error for a second pass that has seen other rows than the first."""
    names = checked_columns(reader.plan)
    first, second = (np.broadcast_to(sums, len(names)) for sums in (scan.check, check))
    other = np.abs(second - first) > 1e-6 * np.maximum(first, second)
    if n_rows != sum(scan.n_rows) or other.any():
        at = int(np.argmax(other))
        raise ValueError(
            f"{_OTHER_DATA}: {sum(scan.n_rows):,} rows whose sizes in {names[at]!r} sum to "
            f"{first[at]:.9g} at first, then {n_rows:,} with {second[at]:.9g}. A callable has to "
            "start anew every time, with the same rows"
        )
