"""What stands in the way of a generalised mixed model, and what to do about it: one report."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from skmixed.inference.gee import MarginalFit
from skmixed.inference.numbers import column, number
from skmixed.inference.outcomes import LevelOutcomes

# Levels and columns that are printed; the tables have them all.
_PRINTED = 15


@dataclass(frozen=True)
class GLMMDiagnosis:
    """The answer of :func:`diagnose_glmm`. Tables are empty where there was nothing to know.

    Attributes
    ----------
    formula, family : str
    n_obs : float
    clusters : DataFrame
        By grouping factor: number of levels, smallest, median and largest number of outcomes, and
        how many levels have one outcome, zeros only, or successes only.
    levels : dict of str to DataFrame
        By grouping factor a table with rows, outcomes, mean and kind of every level.
    columns : DataFrame
        By column of X: ``combination`` of other columns that it is (empty if it is none), whether
        it ``separates`` the outcomes, and ``varies within``, the number of clusters within which
        it varies.
    fits : DataFrame
        By fit: whether it was fitted, converged and is singular, its deviance, evaluations, the
        warnings it gave, and the seconds it took.
    estimates, standard_errors : DataFrame
        By parameter and fit; beside them what a marginal model should have (``attenuated``) and
        the ``marginal`` model's own.
    shares : DataFrame
        By grouping factor: variance on the scale of the linear predictor (a mean over rows), and
        ``icc``, its share; for logit links the median odds ratio of two clusters.
    subsets : DataFrame
        By parameter: mean, standard deviation, least and largest estimate of the refits on random
        halves, and ``ratio``: their standard deviation over the one to expect.
    marginal : MarginalFit or None
        The marginal model: ``coef``, ``std_error``, the ``correlation`` of two outcomes of one
        cluster, and how many clusters of all were taken (``n_sampled``, ``n_clusters``).
    units : {"clusters", "rows"}
        What the refits are on random halves of.
    n_subsets, n_failed : int
        Refits, and those of them that gave no estimates.
    certificate : str
        How the search of the main fit ended, in words.
    failures : DataFrame
        ``part`` and ``reason`` of everything that failed, as it was told.
    advice : tuple of str
        What to do next.
    model : estimator or None
        The fit in which to read on, None if none succeeded.
    """

    formula: str
    family: str
    n_obs: float = 0.0
    clusters: pd.DataFrame = field(default_factory=pd.DataFrame)
    levels: dict[str, pd.DataFrame] = field(default_factory=dict)
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    fits: pd.DataFrame = field(default_factory=pd.DataFrame)
    estimates: pd.DataFrame = field(default_factory=pd.DataFrame)
    standard_errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    shares: pd.DataFrame = field(default_factory=pd.DataFrame)
    subsets: pd.DataFrame = field(default_factory=pd.DataFrame)
    marginal: MarginalFit | None = None
    units: str = "clusters"
    n_subsets: int = 0
    n_failed: int = 0
    certificate: str = ""
    failures: pd.DataFrame = field(default_factory=pd.DataFrame)
    advice: tuple[str, ...] = ()
    model: Any = None

    def __str__(self):
        parts = [f"Diagnosis of {self.formula}\n{self._heading}"]
        for title, table, remark in self._sections():
            text = "" if table is None else "\n" + _printed(table).to_string()
            remark = "".join(f"\n{fill(line, 88)}" for line in remark)
            parts.append(f"{title}{text}{remark}")
        lines = [fill(f"{at}. {text}", 88, subsequent_indent="   ") for at, text in
                 enumerate(self.advice, 1)]  # fmt: skip
        return "\n\n".join([*parts, "What to do next\n" + "\n".join(lines)])

    __repr__ = __str__

    def _repr_html_(self):
        parts = [f"<h4>Diagnosis of <code>{escape(self.formula)}</code></h4>"
                 f"<p>{escape(self._heading)}</p>"]  # fmt: skip
        for title, table, remark in self._sections():
            parts.append(f"<h5>{escape(title)}</h5>")
            if table is not None:
                parts.append(_printed(table).to_html())
            parts += [f"<p>{escape(line)}</p>" for line in remark]
        items = "".join(f"<li>{escape(text)}</li>" for text in self.advice)
        return "<div>" + "".join([*parts, f"<h5>What to do next</h5><ol>{items}</ol>"]) + "</div>"

    @property
    def _heading(self):
        return f"Family: {self.family}; observations: {number(self.n_obs)}"

    def _sections(self):
        """Yield (title, table or None, lines of text) of every part that has something to say."""
        if len(self.failures):
            lines = [f"{part}: {why}" for part, why in self.failures.to_numpy().tolist()]
            yield "What failed", None, lines
        if len(self.clusters):
            yield "Clusters", self.clusters, ()
        for group, table in self.levels.items():
            if len(table) <= _PRINTED:
                yield f"Levels of {group}", table, ()
        if len(self.columns):
            yield "Columns", self._telling_columns, self._other_columns
        if len(self.shares):
            yield "Variance between clusters", self.shares, ()
        if len(self.fits):
            yield "Fits", self.fits, [self.certificate] * bool(self.certificate)
        if len(self.estimates):
            yield "Estimates", self.estimates, self._about_marginal
            yield "Standard errors", self.standard_errors, ()
        if self.n_subsets:
            failed = f"{self.n_failed} of {self.n_subsets} refits failed."
            table = self.subsets if len(self.subsets) else None
            yield f"Refits on random halves of the {self.units}", table, [failed]

    @property
    def _about_marginal(self):
        """How the last two columns of the estimates came about."""
        if "attenuated" in self.estimates:
            yield "attenuated: what averaging over the random effects makes of the main fit"
        if self.marginal is not None:
            own = self.marginal
            some = f", {own.n_sampled:,} of {own.n_clusters:,} clusters" * (
                own.n_sampled < own.n_clusters
            )
            yield (
                "marginal: generalised estimating equations, correlation "
                f"{own.correlation:.3f} within clusters{some}"
            )

    @property
    def _telling_columns(self):
        """Columns that are combinations or separate, and of many others the first ones."""
        special = (self.columns["combination"] != "") | self.columns["separates"]
        shown = self.columns[special] if len(self.columns) > _PRINTED else self.columns
        return shown[:_PRINTED]

    @property
    def _other_columns(self):
        left = len(self.columns) - len(self._telling_columns)
        return [f"{left} more columns are in the table"] * (left > 0)


def _printed(table):
    """The table with numbers as text."""
    shown = {}
    for name in table:
        values = table[name]
        if values.dtype == bool:
            shown[name] = ["yes" if value else "" for value in values]
        elif values.dtype.kind in "iu":
            shown[name] = [f"{value:,}" for value in values]
        elif values.dtype.kind == "f":
            whole = bool((values.dropna() % 1 == 0).all()) and name != "deviance"
            shown[name] = column(values, 4, 0 if whole else None)
        else:
            shown[name] = ["" if _is_missing(v) else str(v) for v in values]
    return pd.DataFrame(shown, index=table.index)


def _is_missing(value):
    return value is None or (isinstance(value, float) and np.isnan(value))


def tables_of(levels: list[LevelOutcomes]):
    """(clusters, levels) of the report."""
    table = pd.DataFrame([own.summary() for own in levels])
    counts = ["levels", "of one row", "all 0", "all 1"]
    return table.astype(dict.fromkeys(counts, int)), {own.group: own.table for own in levels}
