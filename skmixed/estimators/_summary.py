"""Summaries of mixed models that print as lme4's do and have an HTML form."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.inference.fixed_effects import DIGITS_NOTE, SINGULAR_NOTE
from skmixed.inference.numbers import column, common_decimals, count

# Fixed effects whose correlations are printed; the table itself has them all.
MAX_CORRELATIONS = 12
KNOWN_VARIANCES = "Degrees of freedom (Satterthwaite) treat what is zero there as known."


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

    def __str__(self):
        parts = [f"{self.title}\nFormula: {self.formula}", _text(_criteria_table(self.criteria))]
        if len(self.variances):
            table = _text(_variance_table(self.variances), n_left=2, indent=" ")
            parts.append(f"Random effects:\n{table}\n{self.counts}")
        else:
            parts.append(self.counts)
        if len(self.fixed):
            parts.append("Fixed effects:\n" + _text(_fixed_table(self.fixed), n_left=1))
        if self.smooths is not None:
            parts.append("Smooth terms:\n" + _text(_smooth_table(self.smooths), n_left=1))
        if self._shows_correlation:
            triangle = _text(_triangle_table(self.correlation), n_left=1)
            parts.append("Correlation of fixed effects:\n" + triangle)
        return "\n\n".join([*parts, *self.notes])

    __repr__ = __str__

    @property
    def _shows_correlation(self):
        return self.correlation is not None and 1 < len(self.correlation) <= MAX_CORRELATIONS

    def _repr_html_(self):
        parts = [
            f"<h4>{escape(self.title)}</h4><p><code>{escape(self.formula)}</code></p>",
            _html(_criteria_table(self.criteria)),
        ]
        if len(self.variances):
            parts.append("<h5>Random effects</h5>")
            parts.append(_html(_variance_table(self.variances), n_left=2))
        parts.append(f"<p>{escape(self.counts)}</p>")
        if len(self.fixed):
            parts.append("<h5>Fixed effects</h5>" + _html(_fixed_table(self.fixed), n_left=1))
        if self.smooths is not None:
            parts.append("<h5>Smooth terms</h5>" + _html(_smooth_table(self.smooths), n_left=1))
        if self._shows_correlation:
            parts.append("<h5>Correlation of fixed effects</h5>")
            parts.append(_html(_triangle_table(self.correlation), n_left=1))
        parts += [f"<p>{escape(note)}</p>" for note in self.notes]
        return "<div>" + "".join(parts) + "</div>"


def linear_summary(model) -> MixedSummary:
    """Summary of a fitted linear mixed model."""
    how = "REML" if model.result_.reml else "maximum likelihood"
    name = "REML criterion" if model.result_.reml else "deviance"
    fixed, more = _linear_fixed(model)
    return MixedSummary(
        title=f"{model_kind(model)} fit by {how}",
        formula=model.labels_.formula,
        criteria=_criteria(model, name),
        variances=_variances(model, residual=True),
        counts=_counts(model),
        fixed=fixed,
        correlation=_correlation(model),
        notes=(*_solver_notes(model), *_notes(model), *more),
        smooths=_smooths(model),
    )


def model_kind(model, generalised=""):
    """What kind of model it is: linear or additive, with random effects or without."""
    additive = bool(model.result_.smooth_terms)
    kind = "additive" if additive else "linear"
    text = f"{generalised}{kind} {'mixed ' if model.random_terms_ else ''}model"
    return text[0].upper() + text[1:]


def _smooths(model):
    return model.smooths_ if model.result_.smooth_terms else None


def generalised_summary(model, title, criterion, *, residual) -> MixedSummary:
    """Summary of a fitted generalised linear mixed model, with z values and p-values."""
    fixed = _fixed(model, "z value")
    fixed["Pr(>|z|)"] = 2 * stats.norm.sf(np.abs(fixed["z value"]))
    return MixedSummary(
        title=title,
        formula=model.labels_.formula,
        criteria=_criteria(model, criterion),
        variances=_variances(model, residual=residual),
        counts=_counts(model),
        fixed=fixed,
        correlation=_correlation(model),
        notes=(*_solver_notes(model), *_notes(model)),
        smooths=_smooths(model),
    )


def nonlinear_summary(model, how) -> MixedSummary:
    """Summary of a fitted nonlinear mixed model, as nlmer prints it."""
    mixed = bool(model.random_terms_)
    return MixedSummary(
        title=f"Nonlinear {'mixed ' if mixed else ''}model fit by maximum likelihood{how}",
        formula=model.labels_.formula,
        criteria=_criteria(model, "deviance"),
        variances=_variances(model, residual=True),
        counts=_counts(model),
        fixed=_fixed(model, "t value"),
        correlation=_correlation(model),
        notes=_notes(model),
    )


def _criteria(model, name):
    return pd.Series(
        {
            "AIC": model.aic_,
            "BIC": model.bic_,
            "logLik": model.log_likelihood_,
            name: model.deviance_,
            "df.resid": model.df_resid_,
        }
    )


def _variances(model, *, residual):
    rows = []
    for term, T in zip(model.labels_.terms, model.result_.term_factors, strict=True):
        if term.is_smooth:
            continue
        if term.structure != "us":
            rows += _structured_rows(term, model.structure_[term.text])
            continue
        length = np.sqrt(np.einsum("ij,ij->i", T, T))
        with np.errstate(divide="ignore", invalid="ignore"):
            unit = T / length[:, None]
        correlation, sd = unit @ unit.T, model.result_.sigma * length
        for s, name in enumerate(term.names):
            group = term.group if s == 0 else ""
            rows.append([group, name, sd[s] ** 2, sd[s], *correlation[s, :s]])
    if rows and residual:
        rows.append(["Residual", "", model.sigma_**2, model.sigma_])
    elif model.result_.smooth_terms and residual:
        rows.append(["Residual", "", model.sigma_**2, model.sigma_])
    width = max((len(row) for row in rows), default=4)
    columns = ["Groups", "Name", "Variance", "Std.Dev.", *(f"Corr{j}" for j in range(1, width - 3))]
    if width == 5:
        columns[-1] = "Corr"
    return pd.DataFrame([row + [np.nan] * (width - len(row)) for row in rows], columns=columns)


def _structured_rows(term, parameters):
    """Variances of a structured term; its correlations are in the notes."""
    sd = parameters[[name.startswith("sd") for name in parameters.index]]
    name = {"sd": f"each ({term.structure})"}
    return [
        ["" if j else term.group, name.get(key, key.removeprefix("sd ")), value**2, value]
        for j, (key, value) in enumerate(sd.items())
    ]


def _structure_notes(model):
    if getattr(model.result_, "residual", None) is not None:
        parameters = model.residual_parameters_
        shown = ", ".join(f"{name} = {value:.4g}" for name, value in parameters.items())
        yield f"Residuals {parameters.name}: {shown}."
    for text, parameters in model.structure_.items():
        rest = parameters[[not name.startswith("sd") for name in parameters.index]]
        shown = ", ".join(f"{name} = {value:.4g}" for name, value in rest.items())
        if shown:
            yield f"Structure {text}: {shown}."


def _counts(model):
    counts = {group: len(levels) for group, levels in model.labels_.levels.items()}
    if getattr(model.result_, "residual", None) is not None:
        counts = model.result_.residual.structure.groups | counts
    groups = "; ".join(f"{group}, {n}" for group, n in counts.items())
    return f"Number of obs: {count(model.n_obs_)}" + (f", groups: {groups}" if groups else "")


def _fixed(model, statistic):
    table = pd.DataFrame({"Estimate": model.fixed_effects_, "Std. Error": model.standard_errors_})
    # a coefficient without finite estimate has no statistic: 0 would speak against an effect
    known = np.isfinite(table["Std. Error"])
    table[statistic] = (table["Estimate"] / table["Std. Error"]).where(known)
    return table


def _linear_fixed(model):
    """(table of the fixed effects, notes): a fit that cannot have df shows t values alone."""
    table = _fixed(model, "t value")
    try:
        tests = model.coefficients()
    except ValueError as error:
        return table, (f"No p-values: {error}.",)
    table.insert(2, "df", tests["df"])
    table["Pr(>|t|)"] = 2 * stats.t.sf(np.abs(table["t value"]), table["df"])
    lost = tuple(note for note in tests.notes if note.startswith(DIGITS_NOTE.partition("{")[0]))
    return table, (KNOWN_VARIANCES,) * (SINGULAR_NOTE in tests.notes) + lost


def _correlation(model):
    se = model.standard_errors_
    se = se[np.isfinite(se)]
    if not len(se) or not (se > 0).all():
        return None
    half = model.vcov_.loc[se.index, se.index].div(se, axis=0)
    return half.div(se, axis=1)


def _notes(model):
    notes = list(_structure_notes(model))
    if model.result_.smooth_terms:
        notes.append("Smooth terms include their straight lines, which are fixed effects above.")
    if model.is_singular_:
        notes.append("The fit is singular: a variance is zero or a correlation is 1 or -1.")
    if not model.converged_:
        notes.append(f"The optimiser did not converge: {model.result_.optimum.message}.")
    if model.result_.optimum.doubt:
        notes.append(f"The end of the search is in doubt: {model.result_.optimum.doubt}.")
    dropped = [n for n, out in zip(model.labels_.columns, model.aliased_, strict=True) if out]
    if dropped:
        verb = "depend" if len(dropped) > 1 else "depends"
        notes.append(f"Rank deficient: {', '.join(dropped)} {verb} on earlier columns.")
    return tuple(notes)


def _solver_notes(model):
    """How a fit by the iterative solver was made, and how exact it is."""
    record = model.result_.monte_carlo
    if record is None:
        return
    error = f"{record.deviance_std:.2g}" if record.deviance_std else "0"
    yield (
        f"Iterative solver: {record.n_probes} probes; Monte-Carlo error of the variances "
        f"{100 * record.share:.1g} % of their standard errors, of the criterion {error}."
    )


# Tables as (header, rows of text), for the terminal and for HTML alike


def _criteria_table(criteria):
    cells = [*column(criteria.iloc[:-1], decimals=1), count(criteria.iloc[-1])]
    return list(criteria.index), [cells]


def _variance_table(table):
    numbers = [
        column(table[name], 5, common_decimals(table[name], 5)) for name in ("Variance", "Std.Dev.")
    ]
    correlations = [column(table[name], decimals=2) for name in table.columns[4:]]
    rows = zip(table["Groups"], table["Name"], *numbers, *correlations, strict=True)
    blank = [""] * max(len(correlations) - 1, 0)
    return [*table.columns[:4], *["Corr"] * bool(correlations), *blank], [list(row) for row in rows]


def _fixed_table(table):
    decimals = common_decimals(table["Std. Error"], 4, beside=table["Estimate"])
    columns = []
    for name, values in table.items():
        if name in ("Estimate", "Std. Error"):
            columns.append(column(values, 5, decimals, missing="NaN"))
        elif name.startswith("Pr"):
            columns.append(["" if np.isnan(v) else f"{v:.3g}" for v in values])
        else:
            columns.append(column(values, decimals=2))
    rows = zip(map(str, table.index), *columns, strict=True)
    return ["", *table.columns], [list(row) for row in rows]


def _smooth_table(table):
    columns = [
        column(table["edf"], decimals=2),
        column(table["sd"], 5, common_decimals(table["sd"], 5)),
        [f"{value:.4g}" for value in table["lambda"]],
        [str(k) for k in table["k"]],
    ]
    rows = zip(map(str, table.index), *columns, strict=True)
    return ["", "edf", "Std.Dev.", "lambda", "k"], [list(row) for row in rows]


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
    return ["", *numbered[:-1]], rows if numbered != names else rows[1:]


def _text(table, n_left=0, indent=""):
    """A table for the terminal, its first columns to the left and its numbers to the right."""
    lines = [table[0], *table[1]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        indent
        + "  ".join(
            cell.ljust(width) if at < n_left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _html(table, n_left=0):
    header, rows = table

    def line(cells, tag):
        sides = ["left"] * n_left + ["right"] * (len(cells) - n_left)
        return "".join(
            f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{line(header, 'th')}</tr></thead><tbody>{body}</tbody></table>"
