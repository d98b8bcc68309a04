"""Several models side by side, as in the tables of papers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from skmixed.inference.exports import Report, Section, TextTable, great_table
from skmixed.inference.numbers import column, common_decimals, count

_DIGITS = 4
_PARTS = {"fixed": "Fixed effects", "random": "Random effects", "residual": "Random effects",
          "criteria": "Fit"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ModelTable:
    """Estimates, variances and criteria of several models; prints as text and as HTML.

    Attributes
    ----------
    frame : DataFrame
        One row for every model and term: the columns of ``MixedSummary.to_frame`` after ``model``;
        criteria and numbers of rows and levels have the component ``criteria``.
    notes : tuple of str
        What the reader must know before comparing.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    def to_frame(self):
        """The numbers, one row for every model and term (tidy); missing terms have no row."""
        return self.frame.copy()

    def __str__(self):
        table, parts = self._text()
        starts = [k for k, part in enumerate(parts) if part not in parts[:k]]
        lines = table.to_text().splitlines()
        for k in reversed(starts):
            lines.insert(k + 1, parts[k])
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])

    __repr__ = __str__

    def report(self, title="") -> Report:
        """The table of text, for every format."""
        table, parts = self._text()
        starts = tuple(k for k, part in enumerate(parts) if part not in parts[:k])
        table = TextTable(table.header, table.rows, table.n_left, starts)
        return Report(title, sections=(Section(table=table),), notes=self.notes)

    def to_html(self):
        """The table as HTML, names escaped."""
        return self.report().to_html()

    _repr_html_ = to_html

    def to_markdown(self):
        """The table with pipes, as GitHub, Quarto and Pandoc read it."""
        return self.report().to_markdown()

    def to_latex(self, caption=None, label=None):
        """The table in LaTeX, which needs the package booktabs.

        Parameters
        ----------
        caption : str, optional
            LaTeX code, taken as it is.
        label : str, optional
        """
        return self.report().to_latex(caption, label)

    def to_gt(self):
        """The table as a ``great_tables.GT``, which must be installed.

        Raises
        ------
        ImportError
            Where it is not.
        """
        table, parts = self._text()
        return great_table(table, parts, "Models")

    def _text(self):
        """(table of text, heading of every row)."""
        models = list(dict.fromkeys(self.frame["model"]))
        keys = list(
            dict.fromkeys(
                self.frame[["component", "group", "term"]].itertuples(index=False, name=None)
            )
        )
        keys.sort(key=lambda key: list(_PARTS).index(key[0]))
        by_key = {key: own for key, own in self.frame.groupby(["component", "group", "term"])}
        rows = []
        for key in keys:
            own = by_key[key].set_index("model").reindex(models)
            rows.append([_name(*key), *_cells(key[0], key[2], own)])
        return TextTable(["", *models], rows, 1), [_PARTS[key[0]] for key in keys]


def model_table(*models, names=None) -> ModelTable:
    """Coefficients with standard errors, variances, criteria and sizes of several models.

    Parameters
    ----------
    *models : fitted mixed models
        Or one list of them, or one dict by name.
    names : list of str, optional
        Headings of the models, by default (1), (2), ...

    Returns
    -------
    ModelTable
        With ``to_frame``, ``to_markdown``, ``to_latex``, ``to_html`` and ``to_gt``.

    Raises
    ------
    TypeError
        For models without such a summary.
    ValueError
        For names that are not as many and different.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference import model_table
    >>> df = load_sleepstudy().frame
    >>> one = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", reml=False).fit(df)
    >>> two = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", reml=False).fit(df)
    >>> model_table({"intercepts": one, "slopes": two})
                                         intercepts            slopes
    Fixed effects
    Intercept                       251.405 (9.506)   251.405 (6.632)
    Days                           10.4673 (0.8017)  10.4673 (1.5022)
    Random effects
    sd Intercept | Subject                    36.01             23.78
    sd Days | Subject                                           5.717
    cor Intercept, Days | Subject                                0.08
    residual sd                               30.90             25.59
    Fit
    deviance                                 1794.1            1751.9
    logLik                                   -897.0            -876.0
    AIC                                      1802.1            1763.9
    BIC                                      1814.9            1783.1
    rows                                        180               180
    levels of Subject                            18                18
    """
    if len(models) == 1 and isinstance(models[0], dict):
        if names is not None:
            raise ValueError("names are the keys of the dict: pass either names or a dict")
        names, models = list(models[0]), tuple(models[0].values())
    if len(models) == 1 and isinstance(models[0], list | tuple):
        models = tuple(models[0])
    names = [f"({k})" for k in range(1, len(models) + 1)] if names is None else list(names)
    if not models or len(names) != len(models) or len(set(map(str, names))) < len(names):
        raise ValueError(
            f"model_table needs fitted models and a different name for each, got {len(models)} "
            f"models and the names {names}"
        )
    tables = [_table_of(model, str(name)) for name, model in zip(names, models, strict=True)]
    return ModelTable(pd.concat(tables, ignore_index=True), tuple(_notes(models)))


def _table_of(model, name):
    model = model.steps[-1][1] if hasattr(model, "steps") else model
    summary = model.summary() if hasattr(model, "summary") else None
    if not hasattr(summary, "to_frame"):
        raise TypeError(
            f"model_table takes fitted mixed models, got {type(model).__name__} under {name!r}"
        )
    criteria = summary.criteria.drop(["df.resid"])
    order = [c for c in criteria.index if c not in ("logLik", "AIC", "BIC")]
    sizes = {"rows": model.n_obs_} | {
        f"levels of {group}": len(levels) for group, levels in model.labels_.levels.items()
    }
    numbers = {**criteria[[*order, "logLik", "AIC", "BIC"]], **sizes}
    fit = pd.DataFrame({"component": "criteria", "group": "", "term": list(numbers),
                        "estimate": list(map(float, numbers.values()))})  # fmt: skip
    table = summary.to_frame()
    table = pd.concat([table, fit.reindex(columns=table.columns)], ignore_index=True)
    table.insert(0, "model", name)
    return table


def _notes(models):
    """What makes the criteria of these models hard to compare."""
    fits = [(m.steps[-1][1] if hasattr(m, "steps") else m).result_ for m in models]
    if len({fit.n_obs for fit in fits}) > 1:
        yield "The models have different numbers of rows: their criteria cannot be compared."
    reml = [getattr(fit, "reml", False) for fit in fits]
    if any(reml) and not all(reml):
        yield "Criteria of REML and of maximum likelihood cannot be compared."
    elif any(reml) and len({tuple(fit.names) for fit in fits}) > 1:
        yield (
            "Fitted by REML: criteria of models with different fixed effects cannot be compared; "
            "fit with reml=False for that."
        )


def _name(component, group, term):
    if component == "residual":
        return f"residual {term}"
    return f"{term} | {group}" if group else term


def _cells(component, term, rows):
    """Text of one row, empty where a model has no such term."""
    values = rows["estimate"].to_numpy(dtype=float)
    if component == "criteria":
        sizes = term == "rows" or term.startswith("levels of ")
        if sizes:
            return ["" if np.isnan(v) else count(v) for v in values]
        return column(values, decimals=1)
    if term.startswith("cor ") and component == "random":
        return column(values, decimals=2)
    if component != "fixed":
        return column(values, decimals=common_decimals(values, _DIGITS), digits=_DIGITS)
    errors = rows["std_error"].to_numpy(dtype=float)
    decimals = common_decimals(errors, _DIGITS, beside=values)
    estimates = column(values, _DIGITS, decimals)
    shown = column(errors, _DIGITS, decimals)
    return [f"{e} ({s})" if s else e for e, s in zip(estimates, shown, strict=True)]
