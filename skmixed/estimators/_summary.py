"""Summaries of mixed models that print as lme4's do and have an HTML form."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from scipy.stats import norm

MAX_CORRELATIONS = 20


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
    counts : str
        Numbers of observations and of levels.
    fixed : DataFrame
        Estimate, standard error and t (or z and p) of every fixed effect.
    correlation : DataFrame or None
        Correlations of the fixed-effects estimates; None for more than 20 of them.
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

    def __str__(self):
        parts = [f"{self.title}\nFormula: {self.formula}", _criteria_text(self.criteria)]
        if len(self.variances):
            text = _variance_text(self.variances).to_string(index=False, justify="left")
            parts.append("Random effects:\n" + text + "\n" + self.counts)
        else:
            parts.append(self.counts)
        if len(self.fixed):
            parts.append("Fixed effects:\n" + _fixed_text(self.fixed).to_string())
        if self.correlation is not None and len(self.correlation) > 1:
            parts.append("Correlation of fixed effects:\n" + _triangle_text(self.correlation))
        return "\n\n".join([*parts, *self.notes])

    __repr__ = __str__

    def _repr_html_(self):
        facts = "".join(
            f"<tr><th>{escape(str(name))}</th><td>{value:.6g}</td></tr>"
            for name, value in self.criteria.items()
        )
        parts = [
            f"<h4>{escape(self.title)}</h4><p><code>{escape(self.formula)}</code></p>",
            f"<table>{facts}</table>",
        ]
        if len(self.variances):
            parts.append("<h5>Random effects</h5>")
            parts.append(_variance_text(self.variances).to_html(index=False, border=0))
        parts.append(f"<p>{escape(self.counts)}</p>")
        if len(self.fixed):
            parts.append("<h5>Fixed effects</h5>" + _fixed_text(self.fixed).to_html(border=0))
        if self.correlation is not None and len(self.correlation) > 1:
            parts.append("<h5>Correlation of fixed effects</h5>")
            parts.append(self.correlation.round(3).to_html(border=0))
        return "".join([*parts, *(f"<p>{escape(note)}</p>" for note in self.notes)])


def linear_summary(model) -> MixedSummary:
    """Summary of a fitted linear mixed model."""
    mixed = bool(model.random_terms_)
    how = "REML" if model.result_.reml else "maximum likelihood"
    name = "REML criterion" if model.result_.reml else "deviance"
    return MixedSummary(
        title=f"Linear {'mixed ' if mixed else ''}model fit by {how}",
        formula=model.labels_.formula,
        criteria=_criteria(model, name),
        variances=_variances(model, residual=True),
        counts=_counts(model),
        fixed=_fixed(model, "t value"),
        correlation=_correlation(model),
        notes=_notes(model),
    )


def generalised_summary(model, title, criterion, *, residual) -> MixedSummary:
    """Summary of a fitted generalised linear mixed model, with z values and p-values."""
    fixed = _fixed(model, "z value")
    fixed["Pr(>|z|)"] = 2 * norm.sf(np.abs(fixed["z value"]))
    return MixedSummary(
        title=title,
        formula=model.labels_.formula,
        criteria=_criteria(model, criterion),
        variances=_variances(model, residual=residual),
        counts=_counts(model),
        fixed=fixed,
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
    for term, covariance in zip(model.random_terms_, model.result_.covariances, strict=True):
        sd = np.sqrt(np.diag(covariance))
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = covariance / np.outer(sd, sd)
        for s, name in enumerate(term.names):
            group = term.group if s == 0 else ""
            rows.append([group, name, covariance[s, s], sd[s], *correlation[s, :s]])
    if rows and residual:
        rows.append(["Residual", "", model.sigma_**2, model.sigma_])
    width = max((len(row) for row in rows), default=4)
    columns = ["Groups", "Name", "Variance", "Std.Dev.", *(f"Corr{j}" for j in range(1, width - 3))]
    if width == 5:
        columns[-1] = "Corr"
    return pd.DataFrame([row + [np.nan] * (width - len(row)) for row in rows], columns=columns)


def _counts(model):
    groups = "; ".join(f"{group}, {len(levels)}" for group, levels in model.labels_.levels.items())
    return f"Number of obs: {model.n_obs_:g}" + (f", groups: {groups}" if groups else "")


def _fixed(model, statistic):
    table = pd.DataFrame({"Estimate": model.fixed_effects_, "Std. Error": model.standard_errors_})
    table[statistic] = table["Estimate"] / table["Std. Error"]
    return table


def _correlation(model):
    vcov = model.vcov_.dropna(how="all").dropna(how="all", axis=1)
    if not 1 < len(vcov) <= MAX_CORRELATIONS:
        return None
    se = np.sqrt(np.diag(vcov))
    return vcov / np.outer(se, se)


def _notes(model):
    notes = []
    if model.is_singular_:
        notes.append("The fit is singular: a variance is zero or a correlation is 1 or -1.")
    if not model.converged_:
        notes.append(f"The optimiser did not converge: {model.result_.optimum.message}.")
    dropped = [n for n, out in zip(model.labels_.columns, model.aliased_, strict=True) if out]
    if dropped:
        notes.append(f"Rank deficient: {', '.join(dropped)} depend on earlier columns.")
    return tuple(notes)


def _criteria_text(criteria):
    cells = [f"{value:.1f}" for value in criteria.iloc[:-1]] + [f"{criteria.iloc[-1]:g}"]
    widths = [max(len(name), len(cell)) for name, cell in zip(criteria.index, cells, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True))
        for line in (criteria.index, cells)
    )


def _decimals(values, digits):
    """Decimals that show the largest value with at least that many significant digits."""
    sizes = np.abs([v for v in values if np.isfinite(v) and v != 0])
    if not len(sizes):
        return 1
    most, least = np.log10(sizes.max()), np.log10(sizes.min())
    return int(np.clip(max(digits - 1 - np.floor(most), 2 - np.floor(least)), 0, 10))


def _column_text(values, digits):
    decimals = _decimals(values, digits)
    return ["" if np.isnan(v) else f"{v:.{decimals}f}" for v in values]


def _variance_text(table):
    shown = table.copy().astype(object)
    for name in ("Variance", "Std.Dev."):
        shown[name] = _column_text(table[name], 5)
    for name in table.columns[4:]:
        shown[name] = ["" if np.isnan(v) else f"{v:.2f}" for v in table[name].astype(float)]
    return shown


def _fixed_text(table):
    shown = pd.DataFrame(index=table.index)
    decimals = _decimals(table["Std. Error"], 4)
    for name, column in table.items():
        if name in ("Estimate", "Std. Error"):
            shown[name] = ["NaN" if np.isnan(v) else f"{v:.{decimals}f}" for v in column]
        elif name.startswith("Pr"):
            shown[name] = ["" if np.isnan(v) else f"{v:.3g}" for v in column]
        else:
            shown[name] = ["" if np.isnan(v) else f"{v:.2f}" for v in column]
    return shown


def _triangle_text(correlation):
    names = [str(name) for name in correlation.index]
    lower = [
        [f"{correlation.iloc[i, j]:.3f}" if j < i else "" for j in range(len(names) - 1)]
        for i in range(1, len(names))
    ]
    short = [name[:9] for name in names[:-1]]
    return pd.DataFrame(lower, index=names[1:], columns=short).to_string()
