"""check_model: whether a fitted mixed model can be believed, in one report."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from textwrap import fill

import numpy as np
import pandas as pd

from skmixed.inference import checks
from skmixed.inference.draws import check_kind, residuals_of
from skmixed.inference.inflation import vif
from skmixed.inference.observed import observed_rows
from skmixed.inference.simulated import SimulatedResiduals, check_n_samples

_WHO = "check_model"
_NOTE = (
    "ok: nothing found; look: below 5 %, or worth a look; problem: below 1 %, or large. Every "
    "p-value is its own: of 20 tests of a right model one is below 5 %. ModelCheckDisplay shows "
    "what they look at."
)


@dataclass(frozen=True)
class ModelCheck:
    """What :func:`check_model` found; it prints, and has an HTML form for notebooks.

    Attributes
    ----------
    table : DataFrame
        By check: statistic, p_value (NaN where there is no test), verdict ("ok", "look",
        "problem" or "not checked"), looked_at and advice.
    residuals : SimulatedResiduals
    rows : DataFrame
        By row: fitted (at the conditional modes), residual (studentized in linear models,
        normalised beside a residual structure, else over the standard deviation of the family),
        simulated residual and cooks_distance.
    effects : dict of str to ndarray
        Conditional modes over the standard deviations that they should have.
    influence : Series
        Cook's distances by level of a grouping factor or by row, as the name of the index says.
    inflation : DataFrame
        As :func:`~skmixed.inference.vif`.
    shrinkage : dict of str to DataFrame
        By grouping factor and level: n_rows, and for every effect 1 - Var(b | y) / Var(b): 1 where
        the level speaks for itself, 0 where nothing is left of what it says.
    title : str
    response : {"continuous", "count", "binary", "proportion"}
    clusters : (n,) array or None
        Levels of the first grouping factor, for the rows of ``residuals``.
    """

    table: pd.DataFrame
    residuals: SimulatedResiduals
    rows: pd.DataFrame
    effects: dict
    influence: pd.Series
    inflation: pd.DataFrame
    shrinkage: dict
    title: str
    response: str
    is_linear: bool
    clusters: np.ndarray | None

    @property
    def advice(self) -> pd.Series:
        """What to try next, by check; only of those that are not ok."""
        return self.table.loc[self.table["verdict"] != checks.OK, "advice"]

    def __repr__(self):
        shown = self._shown().to_string()
        lines = [fill(f"{name}: {text}", 88, subsequent_indent="    ")
                 for name, text in self._words()]  # fmt: skip
        return "\n\n".join([self.title, shown, "\n".join(lines), fill(_NOTE, 88)])

    def _repr_html_(self):
        words = "".join(f"<li><b>{escape(n)}</b>: {escape(text)}</li>" for n, text in self._words())
        return (
            f"<p><b>{escape(self.title)}</b></p>{self._shown().to_html()}<ul>{words}</ul>"
            f"<p>{escape(_NOTE)}</p>"
        )

    def _shown(self):
        table = self.table[["statistic", "p_value", "verdict"]].copy()
        table["statistic"] = table["statistic"].map(lambda v: "" if np.isnan(v) else f"{v:.3g}")
        table["p_value"] = table["p_value"].map(lambda v: "" if np.isnan(v) else f"{v:.3f}")
        return table.rename_axis(None)

    def _words(self):
        for name, row in self.table.iterrows():
            advice = f" To try: {row['advice']}." if row["advice"] else ""
            yield name, f"{row['looked_at']}.{advice}"


def check_model(
    model, X, y=None, n_samples=250, random_state=None, *, conditional=False, groups=None,
    sample_weight=None,
) -> ModelCheck:  # fmt: skip
    """Check a fitted linear or generalised mixed model by its rows.

    Simulated residuals are tested for uniformity, dispersion, outliers and zeros; score tests look
    for a wrong link and for bent covariates; residuals and random effects are compared with normal
    distributions; and the report tells of influential levels or rows, collinear terms, singular
    covariances, and how much is left of every level after shrinkage.

    Parameters
    ----------
    model : estimator
        Fitted, with random effects or without.
    X : DataFrame or array of n rows
        The rows of the fit, in any order.
    y : (n,), optional
        The response; two-sided formulas find it in X.
    n_samples : int
        Data sets that are drawn from the model, at least 39.
    random_state : int, RandomState, Generator or None
    conditional : bool, default False
        Draw with the random effects at their conditional modes instead of new ones.
    groups, sample_weight : (n,), optional
        Those of the fit.

    Returns
    -------
    ModelCheck

    Raises
    ------
    ValueError
        For rows that are not those of the fit, rows that count several times, too few samples,
        and a model from a file that was too large to keep what leverages need.
    TypeError
        For other models.

    Notes
    -----
    Residuals with a structure are normalised ones, free of their correlation; score tests and
    Cook's distances are left out there. Smooth functions count as fixed effects.

    See Also
    --------
    skmixed.plotting.ModelCheckDisplay : the picture.
    simulated_residuals : the tests by simulation, and more of them.

    Examples
    --------
    >>> from skmixed import MixedGLMRegressor
    >>> from skmixed.datasets import load_grouseticks
    >>> from skmixed.inference import check_model
    >>> ticks = load_grouseticks().frame
    >>> formula = "TICKS ~ YEAR + HEIGHT + (1 | BROOD)"
    >>> model = MixedGLMRegressor(formula, family="poisson").fit(ticks)
    >>> check = check_model(model, ticks, random_state=0)
    >>> round(float(check.table.loc["overdispersion", "statistic"]), 1)
    1.7
    >>> check.advice["overdispersion"]
    "family='negative_binomial', or an effect of every row, (1 | row)"
    """
    check_n_samples(n_samples)
    check_kind(model, _WHO)
    observed = observed_rows(model, X, y, groups, sample_weight, _WHO, structured=True)
    residuals = residuals_of(model, X, observed, n_samples, random_state, conditional, groups)
    distances = checks.influence_table(model, X, observed)
    rows = _row_table(X, observed, residuals)
    shrinkage = checks.shrinkage(model, observed)
    effects = checks.standardised_effects(model, observed)
    inflation, response = vif(model), _response_kind(observed)
    lines = [*_simulated(residuals, observed, response)]
    lines += _of_residuals(model, observed, rows, response)
    lines += [
        checks.normal_effects(observed, name, values, share)
        for name, (values, share) in effects.items()
    ]
    lines += [checks.influence_check(distances), checks.collinearity(inflation)]
    if observed.grouped:
        lines.append(checks.singularity(model))
    lines += [checks.levels(group, table) for group, table in shrinkage.items()]
    table = pd.DataFrame([line for line in lines if line is not None]).set_index("name")
    return ModelCheck(
        table=table.rename_axis("check"), residuals=residuals, rows=rows,
        effects={name: values for name, (values, _) in effects.items()},
        influence=distances, inflation=inflation, shrinkage=shrinkage,
        title=_title(model, observed, residuals), response=response,
        is_linear=observed.fit.is_linear, clusters=_clusters(observed, residuals),
    )  # fmt: skip


def _simulated(residuals, observed, response):
    yield checks.uniformity(residuals)
    if response != "binary":
        yield checks.dispersion(residuals, observed)
    yield checks.outliers(residuals)
    yield checks.extremes(residuals)
    if response == "count":
        yield checks.zeros(residuals, observed)


def _of_residuals(model, observed, rows, response):
    if observed.family.name == "poisson" or response == "proportion":
        yield checks.overdispersion(observed, model.df_resid_)
    try:
        tests = [checks.link(observed), checks.curvature(model, observed)]
    except ValueError as error:  # models from files, separated fits
        why, _, advice = str(error).partition(": ")
        tests = [checks.Check("link and curvature", np.nan, np.nan, checks.NOT, why, advice)]
    yield from tests
    if observed.fit.is_linear:
        yield checks.normal_residuals(rows["residual"].to_numpy())


def _row_table(X, observed, residuals):
    kind = "studentized" if observed.fit.is_linear else "scaled"
    kind = "normalized" if observed.residual else kind
    unknown = np.full(len(observed.y), np.nan)
    columns = {
        "fitted": observed.mean,
        "residual": observed.residuals(kind),
        "simulated": unknown.copy(),
        "cooks_distance": unknown if observed.residual else observed.cooks_distance(),
    }
    columns["simulated"][np.searchsorted(observed.rows, residuals.rows)] = residuals.residuals
    index = X.index[observed.rows] if isinstance(X, pd.DataFrame) else observed.rows
    table = pd.DataFrame(columns, index=index)
    table.attrs["residual"] = kind
    return table


def _response_kind(observed):
    if observed.family.name == "binomial":
        return "binary" if (observed.weights == 1).all() else "proportion"
    return "count" if getattr(observed.family, "discrete", False) else "continuous"


def _clusters(observed, residuals):
    """Levels of the first grouping factor of the rows that have residuals."""
    factors = [term for term in observed.grouped if term.n_levels > 1]  # a field has one
    return factors[0].codes[np.searchsorted(observed.rows, residuals.rows)] if factors else None


def _title(model, observed, residuals):
    family = observed.family
    name = "" if observed.fit.is_linear else f", {family.name} with {family.link.name} link"
    formula = f" {model.formula}" if getattr(model, "formula", None) else ""
    return (
        f"{type(model).__name__}{formula}{name}\n{len(observed.y):,} rows, "
        f"{residuals.n_samples} simulated data sets"
    )
