"""Tables people read: parameters with their B marks, tests by term, least-squares means."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.inference.exports import Report, Section, TextTable
from skmixed.inference.hypotheses import anova_sums, f_test, hypothesis_test
from skmixed.inference.numbers import number

B_NOTE = (
    "X'X has no inverse: {n} of {p} columns can be computed from the others, so the normal "
    "equations have infinitely many solutions. Estimates marked B depend on which solution is "
    "shown ({method}); they are not estimable on their own. Fitted values, residuals and every "
    "estimable contrast are the same for all of them."
)


@dataclass(frozen=True)
class LinearSummary:
    """Parameter table and fit statistics of a linear model; prints as text and as HTML."""

    title: str
    facts: tuple[tuple[str, str], ...]
    table: pd.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        facts = "\n".join(f"{name + ':':<26}{value}" for name, value in self.facts)
        return "\n\n".join([self.title, facts, as_text(self.table), *map(wrapped, self.notes)])

    __repr__ = __str__

    def report(self) -> Report:
        """Title, facts, table of text and notes, for every format."""
        shown = formatted(self.table)
        header = [str(self.table.index.name or ""), *map(str, shown.columns)]
        names = map(str, shown.index)
        rows = [[name, *row] for name, row in zip(names, shown.to_numpy().tolist(), strict=True)]
        facts = TextTable(["", ""], [[name, value] for name, value in self.facts], 2)
        sections = (Section(table=facts), Section(table=TextTable(header, rows, 1)))
        return Report(self.title, sections=sections, notes=self.notes)

    def to_html(self) -> str:
        """The tables as HTML, names escaped."""
        return self.report().to_html()

    _repr_html_ = to_html

    def to_markdown(self) -> str:
        """The tables with pipes, as GitHub, Quarto and Pandoc read it."""
        return self.report().to_markdown()

    def to_latex(self, caption=None, label=None) -> str:
        """The tables in LaTeX, which needs booktabs; ``caption`` is LaTeX code."""
        return self.report().to_latex(caption, label)

    def to_frame(self) -> pd.DataFrame:
        """One row for every parameter: term, estimate, mark, std_error, t and p_value."""
        return self.table.rename_axis("term").reset_index()


def parameter_table(names, coef, errors, estimable, aliased, df) -> pd.DataFrame:
    """Estimate, B mark, standard error, t and p by parameter.

    A column that the solution leaves out has nothing to test: its entries are NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, coef / errors, np.nan)
    shown = np.where(aliased, np.nan, errors)
    t = np.where(aliased, np.nan, t)
    p = 2 * stats.t.sf(np.abs(t), df) if df > 0 else np.full(len(coef), np.nan)
    return pd.DataFrame(
        {
            "estimate": coef,
            "mark": np.where(estimable, "", "B"),
            "std_error": shown,
            "t": t,
            "p_value": p,
        },
        index=pd.Index(names, name="parameter"),
    )


def anova_table(fit, type) -> pd.DataFrame:
    """Sums of squares, degrees of freedom, F and p by term, and the residual line."""
    sigma, df = fit.scale, fit.df_resid
    rows = {}
    for name, ss, d in anova_sums(fit, type):
        F, p = f_test(ss, d, sigma**2, df)
        rows[name] = [d, ss, ss / d if d else np.nan, F, p]
    rows["Residuals"] = [df, float(fit.rss[0]), sigma**2, np.nan, np.nan]
    columns = ["df", "sum_sq", "mean_sq", "F", "p_value"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("term")


def means_table(fit, K, index, level=0.95) -> pd.DataFrame:
    """Estimates of the rows of K with intervals; rows that are not estimable hold NaN."""
    tests = [hypothesis_test(fit, k[None, :], strict=False) for k in K]
    table = pd.DataFrame(
        {
            "estimate": [h.scalar().estimate for h in tests],
            "std_error": [h.scalar().standard_error for h in tests],
            "df": [h.df_den for h in tests],
            "t": [h.statistic for h in tests],
            "p_value": [h.p_value for h in tests],
            "estimable": [h.estimable for h in tests],
        },
        index=index,
    )
    with np.errstate(invalid="ignore"):
        half = stats.t.ppf(0.5 + level / 2, table["df"]) * table["std_error"]
    table.insert(2, "lower", table["estimate"] - half)
    table.insert(3, "upper", table["estimate"] + half)
    return table


def formatted(table) -> pd.DataFrame:
    """Numbers as text: p values to 4 digits, NaN as a point."""
    out = pd.DataFrame(index=table.index)
    for name, column in table.items():
        if column.dtype.kind != "f":
            out[name] = column.astype(str)
        elif name == "p_value":
            out[name] = [_p_text(p) for p in column]
        else:
            out[name] = ["." if np.isnan(v) else number(v) for v in column]
    return out


def _p_text(p) -> str:
    return "." if np.isnan(p) else "<0.0001" if p < 1e-4 else f"{p:.4f}"


def as_text(table) -> str:
    """The table as text; names of the levels of its index stand above them."""
    shown = formatted(table)
    if isinstance(shown.index, pd.MultiIndex):
        names = [str(name) for name in shown.index.names]
        header = pd.DataFrame([shown.columns], columns=shown.columns)
        header.index = pd.MultiIndex.from_tuples([tuple(names)])
        return pd.concat([header, shown.rename_axis(index=[None] * len(names))]).to_string(
            header=False
        )
    return shown.rename_axis(index=None).to_string()


def as_html(title, table, notes, facts="") -> str:
    """Title, facts, table and notes as HTML."""
    text = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<h4>{escape(title)}</h4>{facts}{formatted(table).to_html(border=0)}{text}"


def wrapped(note, width=80) -> str:
    """The note in lines."""
    lines, line = [], ""
    for word in note.split():
        if len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
