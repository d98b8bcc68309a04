"""What a fitted model does not know of new rows: counts and masks, without an error."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skmixed.design.columns import Table
from skmixed.design.grouping import read_levels
from skmixed.design.missing import RowPolicy
from skmixed.estimators._input import GROUPS
from skmixed.estimators._prediction import PredictsNewRows

PROBLEMS = ("unseen", "missing", "unknown", "undefined", "outside")
# Rows of a report that are about no single column.
_EXPRESSIONS, _ROW_SPACE, _ANY = "(expressions)", "(row space)", "(any)"


class ReportsOnRows(PredictsNewRows):
    """A report on new rows, whatever predictions would do with them."""

    def predict_report(self, X, *, groups=None, kind="counts"):
        """What the model does not know of the rows of X, by column.

        Nothing is an error or a warning here, whatever ``missing``, ``unseen_groups`` and
        ``unknown_categories`` say.

        ========= ================================================================================
        unseen    the level of a grouping factor was not in the training data
        missing   there is no value (also infinite covariates)
        unknown   the category of a covariate was not in the training data
        undefined an expression of the formula has no value, such as the logarithm of 0, a spline
                  beyond its bounds or ``C(year)`` of a year that the training data did not have;
                  only of rows without missing and unknown values
        outside   a column of X that depends on others in the training data does not do so here:
                  the prediction is not determined; only of rows that have one
        ========= ================================================================================

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them; without them all are missing.
        kind : {"counts", "rows"}, default "counts"

        Returns
        -------
        DataFrame
            Numbers of rows by grouping factor and covariate, and in the rows ``(expressions)``,
            ``(row space)`` and ``(any)``; ``attrs["n_rows"]`` is n. With ``kind="rows"`` masks of
            n rows, the columns by problem and name.

        Examples
        --------
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_sleepstudy
        >>> sleep = load_sleepstudy().frame
        >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
        >>> new = {"Days": [1, 2, None], "Subject": ["308", "0308", None]}
        >>> model.predict_report(new)[["kind", "unseen", "missing"]]
                             kind  unseen  missing
        Subject          grouping       1        1
        Days            covariate       0        1
        (expressions)  expression       0        0
        (row space)     row space       0        0
        (any)                 any       1        1
        """
        check_is_fitted(self)
        if kind not in ("counts", "rows"):
            raise ValueError(f"kind must be 'counts' or 'rows', got {kind!r}")
        table = self._new_table(X, groups)
        absent = tuple({GROUPS} - set(table.names))
        design = self.design_spec_.new(Table(table), missing=_LENIENT, absent=absent)
        covariates = list(self._covariate_problems(table))
        found = [
            *self._grouping_problems(table),
            *covariates,
            *self._design_problems(table, design, covariates),
        ]
        every = {
            problem: np.logical_or.reduce([masks[problem] for *_, masks in found])
            for problem in PROBLEMS
        }
        found.append((_ANY, "any", every))
        if kind == "rows":
            masks = {
                (problem, name): own[problem] for problem in PROBLEMS for name, _, own in found
            }
            return pd.DataFrame(masks, index=X.index if isinstance(X, pd.DataFrame) else None)
        counts = {problem: [int(own[problem].sum()) for *_, own in found] for problem in PROBLEMS}
        report = pd.DataFrame(
            {"kind": [role for _, role, _ in found]} | counts, index=[name for name, *_ in found]
        )
        report.attrs["n_rows"] = table.n_input
        return report

    def _grouping_problems(self, table):
        for name in self.labels_.levels:
            spec = self.design_spec_.groups[name]
            if not spec.columns:
                continue
            lacking = np.zeros(table.n_input, dtype=bool)
            if GROUPS in spec.columns and GROUPS not in table.names:
                yield name, "grouping", _masks(table, missing=~lacking)
                continue
            grouping = {
                column: read_levels(column, table.column(column), levels)
                for column, levels in zip(spec.columns, spec.column_levels, strict=True)
            }
            for codes, _ in grouping.values():
                lacking |= codes < 0
            unseen = (spec.codes(grouping, table.n_input) < 0) & ~lacking
            yield name, "grouping", _masks(table, unseen=unseen, missing=lacking)

    def _covariate_problems(self, table):
        known = set()
        for spec in self.design_spec_.specs:
            for name in (*spec.fixed_columns, *spec.random_columns):
                if name in known:
                    continue
                known.add(name)
                column = spec.columns[name].read(name, table.column(name), _LENIENT)
                none = np.zeros(table.n_input, dtype=bool)
                unknown = none if column.unknown is None else column.unknown
                missing = none if column.missing is None else column.missing & ~unknown
                yield name, "covariate", _masks(table, missing=missing, unknown=unknown)

    def _design_problems(self, table, design, covariates):
        """Rows without a value of an expression, and rows outside the row space."""
        undefined = np.ones(table.n_input, dtype=bool)
        for *_, own in covariates:
            undefined &= ~(own["missing"] | own["unknown"])
        undefined[design.rows] = False
        outside = np.zeros(table.n_input, dtype=bool)
        outside[design.rows] = self._outside(design).any(axis=1)
        yield _EXPRESSIONS, "expression", _masks(table, undefined=undefined)
        yield _ROW_SPACE, "row space", _masks(table, outside=outside)


_LENIENT = RowPolicy(missing="drop", unknown="drop", levels="unseen", infinite="drop")


def _masks(table, **found):
    none = np.zeros(table.n_input, dtype=bool)
    return {problem: found.get(problem, none) for problem in PROBLEMS}
