"""What a summary says of a fitted mixed model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.inference.exports import Report
from skmixed.inference.fixed_effects import DIGITS_NOTE, SINGULAR_NOTE
from skmixed.inference.numbers import count
from skmixed.inference.summary import MixedSummary

KNOWN_VARIANCES = "Degrees of freedom (Satterthwaite) treat what is zero there as known."


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
        structures=tuple(_structures(model)),
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
        structures=tuple(_structures(model)),
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
        structures=tuple(_structures(model)),
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


def _structures(model):
    """(component, text, parameters) of covariance structures; not the sd that the table has."""
    if model.result_.residual is not None:
        parameters = model.residual_parameters_
        yield "residual", str(parameters.name), parameters
    for text, parameters in model.structure_.items():
        rest = parameters[[not name.startswith("sd") for name in parameters.index]]
        if len(rest):
            yield "random", text, rest


def _structure_notes(model):
    for component, text, parameters in _structures(model):
        shown = ", ".join(f"{name} = {value:.4g}" for name, value in parameters.items())
        yield f"{'Residuals' if component == 'residual' else 'Structure'} {text}: {shown}."


def _counts(model):
    counts = {group: len(levels) for group, levels in model.labels_.levels.items()}
    if model.result_.residual is not None:
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
    if model.result_.pending is not None:
        notes.append(
            f"Conditioned on {model.n_conditioned_} further rows: the random effects know them; "
            "criteria and variances are those of the fit."
        )
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


class ShowsFit:
    """What notebooks show of an estimator: scikit-learn's diagram, and once fitted its estimates.

    Nothing in it is computed for the purpose: standard errors of some models take a while.
    """

    def _get_fitted_attr_html(self, doc_link=""):
        """No list of all attributes, which would compute every one of them."""
        return {}

    def _repr_html_inner(self):
        return super()._repr_html_inner() + self._fit_html()

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._fit_html()
        return bundle

    def _fit_html(self):
        return brief_report(self).to_html() if self.__sklearn_is_fitted__() else ""


def brief_report(model) -> Report:
    """Formula, groups, criterion, variances and coefficients of a fitted mixed model."""
    name = "REML criterion" if getattr(model.result_, "reml", False) else "deviance"
    residual = not hasattr(model.result_, "family")
    brief = MixedSummary(
        title=f"Fitted {type(model).__name__}",
        formula=model.labels_.formula,
        criteria=_criteria(model, name),
        variances=_variances(model, residual=residual),
        counts=_counts(model),
        fixed=pd.DataFrame({"Estimate": model.fixed_effects_}),
        correlation=None,
        notes=(*_notes(model), "summary() has standard errors and tests."),
        smooths=_smooths(model) if hasattr(model, "smooths_") else None,
    )
    return brief.report()
