"""Summaries of mixed models as tables: printed as lme4 does, and in other formats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.inference.exports import Report, Section, TextTable, great_table
from skmixed.inference.numbers import column, common_decimals, count

# Fixed effects whose correlations are printed; the table itself has them all.
MAX_CORRELATIONS = 12
RANDOM = "Random effects"
_PARTS = {"fixed": "Fixed effects", "random": RANDOM, "residual": "Residual",
          "smooth": "Smooth terms"}  # fmt: skip


@dataclass(frozen=True)
class MixedSummary:
    """Tables of a fitted mixed model.

    Attributes
    ----------
    title, formula : str
    criteria : Series
        AIC, BIC, logLik, the criterion minimised, residual degrees of freedom.
    variances : DataFrame
        Group, effect, variance, standard deviation and correlations.
    smooths : DataFrame or None
        ``smooths_`` of a model with smooth terms.
    counts : str
        Numbers of observations and of levels.
    fixed : DataFrame
        Estimate, standard error, df, t and p (or z and p) of every fixed effect.
    correlation : DataFrame or None
        Correlations of the fixed-effects estimates; None where an error is 0.
    notes : tuple of str
    structures : tuple of (component, text, Series)
        Parameters of covariance structures that are no standard deviation of an effect.
    """

    title: str
    formula: str
    criteria: pd.Series
    variances: pd.DataFrame
    counts: str
    fixed: pd.DataFrame
    correlation: pd.DataFrame | None
    notes: tuple[str, ...]
    smooths: pd.DataFrame | None = None
    structures: tuple = ()

    def __str__(self):
        parts = [f"{self.title}\nFormula: {self.formula}"]
        for section in self.report().sections:
            indent = " " if section.heading == RANDOM else ""
            heading = [f"{section.heading}:"] if section.heading else []
            table = [section.table.to_text(indent)] if section.table is not None else []
            parts.append("\n".join([*heading, *table, *filter(None, [section.line])]))
        return "\n\n".join([*parts, *self.notes])

    __repr__ = __str__

    def report(self) -> Report:
        """Title, tables of text and notes, for every format."""
        found = [Section(table=_criteria_table(self.criteria))]
        random = _variance_table(self.variances) if len(self.variances) else None
        found.append(Section(RANDOM if random else "", random, self.counts))
        if len(self.fixed):
            found.append(Section("Fixed effects", _fixed_table(self.fixed)))
        if self.smooths is not None:
            found.append(Section("Smooth terms", _smooth_table(self.smooths)))
        if self.correlation is not None and 1 < len(self.correlation) <= MAX_CORRELATIONS:
            triangle = _triangle_table(self.correlation)
            found.append(Section("Correlation of fixed effects", triangle))
        return Report(self.title, self.formula, tuple(found), self.notes)

    def to_html(self):
        """The tables as HTML, names and formula escaped."""
        return self.report().to_html()

    _repr_html_ = to_html

    def to_markdown(self):
        """The tables as Markdown with pipes, as GitHub, Quarto and Pandoc read it."""
        return self.report().to_markdown()

    def to_latex(self, caption=None, label=None):
        """The tables as a LaTeX table, which needs the package booktabs.

        Parameters
        ----------
        caption : str, optional
            LaTeX code, taken as it is; by default title and formula.
        label : str, optional
            For ``\\ref``.
        """
        return self.report().to_latex(caption, label)

    def to_gt(self):
        """Fixed and random effects as a ``great_tables.GT``, which must be installed.

        Raises
        ------
        ImportError
            Where it is not.
        """
        terms = self.to_frame()
        columns = ["estimate", "std_error", "statistic", "df", "p_value"]
        numbers = [column(terms[name], 4) for name in columns]
        names = [
            f"{t} | {g}" if g else t for t, g in zip(terms["term"], terms["group"], strict=True)
        ]
        rows = [list(row) for row in zip(names, *numbers, strict=True)]
        table = TextTable(["", *columns], rows, 1)
        parts = [_PARTS[name] for name in terms["component"]]
        return great_table(table, parts, self.title, self.formula)

    def to_frame(self, level=0.95):
        """One row for every estimate: fixed effects, standard deviations, correlations.

        Parameters
        ----------
        level : float, default 0.95
            Of the confidence limits of the fixed effects.

        Returns
        -------
        DataFrame
            component (``fixed``, ``random``, ``residual`` or ``smooth``), group (empty for fixed
            effects; the text of a structure for its parameters), term (name of the fixed effect;
            ``sd Days`` or ``cor Intercept, Days`` of random effects, ``rho`` of structures, ``edf
            s(x)`` and ``sd s(x)`` of smooth terms), estimate, std_error, statistic (t or z), df
            (infinite for z), p_value, lower and upper. NaN where the summary has no such number:
            ``confint`` of the model has limits of standard deviations, in its own time.

        Examples
        --------
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_sleepstudy
        >>> df = load_sleepstudy().frame
        >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
        >>> terms = model.summary().to_frame()
        >>> terms[["component", "group", "term", "estimate"]].round(2)
          component    group                 term  estimate
        0     fixed                     Intercept    251.41
        1     fixed                          Days     10.47
        2    random  Subject         sd Intercept     24.74
        3    random  Subject              sd Days      5.92
        4    random  Subject  cor Intercept, Days      0.07
        5  residual                            sd     25.59
        """
        others = _estimates(
            *_variance_rows(self.variances),
            *(
                (component, text, str(name), value)
                for component, text, values in self.structures
                for name, value in values.items()
            ),
            *_smooth_rows(self.smooths),
        )
        return pd.concat([_tidy_fixed(self.fixed, level), others], ignore_index=True)


def _tidy_fixed(table, level):
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")
    normal = "z value" in table
    nothing = pd.Series(np.nan, table.index)
    df = pd.Series(np.inf, table.index) if normal else table.get("df", nothing)
    half = stats.t.ppf(0.5 + level / 2, df) * table["Std. Error"]
    found = pd.DataFrame(
        {"component": "fixed", "group": "", "term": [str(name) for name in table.index],
         "estimate": table["Estimate"], "std_error": table["Std. Error"],
         "statistic": table["z value" if normal else "t value"], "df": df,
         "p_value": table.get("Pr(>|z|)" if normal else "Pr(>|t|)", nothing),
         "lower": table["Estimate"] - half, "upper": table["Estimate"] + half}
    )  # fmt: skip
    return found.reset_index(drop=True)


def _variance_rows(table):
    """Standard deviations and correlations of the table of variances, by group and term."""
    rows, group, before = [], "", []
    for _, (label, name, _, sd, *correlations) in table.iterrows():
        if label == "Residual" and not name:
            rows.append(("residual", "", "sd", sd))
            continue
        if label:
            group, before = label, []
        rows.append(("random", group, f"sd {name}", sd))
        found = zip(before, correlations, strict=False)
        rows += [("random", group, f"cor {other}, {name}", r) for other, r in found if r == r]
        before.append(name)
    return rows


def _smooth_rows(table):
    rows = [] if table is None else list(table[["edf", "sd"]].iterrows())
    return [("smooth", "", f"{key} {name}", own[key]) for name, own in rows for key in own.index]


def _estimates(*rows):
    """A tidy table of rows (component, group, term, estimate) without errors."""
    found = pd.DataFrame(rows, columns=["component", "group", "term", "estimate"])
    missing = ["std_error", "statistic", "df", "p_value", "lower", "upper"]
    return found.assign(**dict.fromkeys(missing, np.nan)).astype({"estimate": float})


# Tables of text, for every format alike


def _criteria_table(criteria):
    cells = [*column(criteria.iloc[:-1], decimals=1), count(criteria.iloc[-1])]
    return TextTable(list(criteria.index), [cells])


def _variance_table(table):
    numbers = [
        column(table[name], 5, common_decimals(table[name], 5)) for name in ("Variance", "Std.Dev.")
    ]
    correlations = [column(table[name], decimals=2) for name in table.columns[4:]]
    rows = zip(table["Groups"], table["Name"], *numbers, *correlations, strict=True)
    blank = [""] * max(len(correlations) - 1, 0)
    header = [*table.columns[:4], *["Corr"] * bool(correlations), *blank]
    return TextTable(header, [list(row) for row in rows], 2)


def _fixed_table(table):
    errors = table.get("Std. Error", table["Estimate"])
    decimals = common_decimals(errors, 4, beside=table["Estimate"])
    columns = []
    for name, values in table.items():
        if name in ("Estimate", "Std. Error"):
            columns.append(column(values, 5, decimals, missing="NaN"))
        elif name.startswith("Pr"):
            columns.append(["" if np.isnan(v) else f"{v:.3g}" for v in values])
        else:
            columns.append(column(values, decimals=2))
    rows = zip(map(str, table.index), *columns, strict=True)
    return TextTable(["", *table.columns], [list(row) for row in rows], 1)


def _smooth_table(table):
    columns = [
        column(table["edf"], decimals=2),
        column(table["sd"], 5, common_decimals(table["sd"], 5)),
        [f"{value:.4g}" for value in table["lambda"]],
        [str(k) for k in table["k"]],
    ]
    rows = zip(map(str, table.index), *columns, strict=True)
    header = ["", "edf", "Std.Dev.", "lambda", "k"]
    return TextTable(header, [list(row) for row in rows], 1)


def _triangle_table(correlation):
    """Lower triangle; long names of columns give way to the numbers of the rows."""
    names = [str(name) for name in correlation.index]
    if max(map(len, names)) > 9:
        names = [f"{i}. {name}" for i, name in enumerate(names, 1)]
    values = correlation.to_numpy()
    rows = [
        [name, *(f"{values[i, j]:.3f}" if j < i else "" for j in range(len(names) - 1))]
        for i, name in enumerate(names)
    ]
    numbered = [name.split(" ")[0] if name != correlation.index[j] else name
                for j, name in enumerate(names)]  # fmt: skip
    return TextTable(["", *numbered[:-1]], rows if numbered != names else rows[1:], 1)
