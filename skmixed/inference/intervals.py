"""Confidence intervals of everything that a mixed model estimates, and its variances as a table."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.inference.degrees_of_freedom import METHODS, row_tests
from skmixed.inference.profile import coefficient_limits, variance_limits
from skmixed.inference.variances import component_estimates
from skmixed.models.components import variance_parameters

KINDS = ("wald", "profile")
_AT_BOUND = "estimated at its bound, where it has no standard error"


def confint(fit, parameters=None, *, method="wald", level=0.95, ddf=None, rows=None):
    """Confidence intervals of fixed effects, standard deviations, correlations and sigma.

    Wald intervals of fixed effects are estimate +- t std_error; those of standard deviations are
    symmetric in the logarithm, those of correlations in Fisher's z. Profile limits are where the
    deviance of maximum likelihood, all else at its best, has risen by the quantile of chi-square; a
    fit by REML is refitted by maximum likelihood for them, which needs no rows. A standard
    deviation of zero, or a correlation of 1 or -1, that the deviance does not rule out is a limit.

    Parameters
    ----------
    fit : LMMFit
        ``result_`` of a fitted MixedLinearRegressor.
    parameters : str or list of str, optional
        Names as in the index of the result, by default all of them.
    method : {"wald", "profile"}
    level : float
        Coverage, between 0 and 1.
    ddf : {"satterthwaite", "kenward_roger", "residual", "asymptotic"}, optional
        Degrees of freedom of Wald intervals of fixed effects, by default Satterthwaite's. With
        ``kenward_roger`` standard errors are adjusted too.
    rows : (p, r) array, optional
        Coefficients of all p columns of X from those of the r that were kept; NaN for none. By
        default a column that was left out has none.

    Returns
    -------
    DataFrame
        Columns ``estimate, lower, upper``; index ``parameter``: columns of X, then term by term
        ``sd_(Intercept)|Subject``, ``cor_Days.(Intercept)|Subject``, ..., and ``sigma``. The
        estimates of profile intervals are those of maximum likelihood. ``attrs["notes"]`` says by
        parameter why a limit is not an ordinary one, or is missing.

    Raises
    ------
    ValueError
        For an unknown parameter, method, ddf or level, ``kenward_roger`` on a fit by maximum
        likelihood, and a fit that was unpickled without what is needed.

    References
    ----------
    Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4, for scales of Wald
    intervals; Venzon and Moolgavkar (1988), Applied Statistics 37, 87-94, for profiles.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference.intervals import confint
    >>> data = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(data)
    >>> confint(model.result_, ["Days", "sigma"], method="profile").round(2)
               estimate  lower  upper
    parameter
    Days          10.47   7.36  13.58
    sigma         25.59  22.90  28.86
    """
    check_level(level)
    if method not in KINDS:
        raise ValueError(f"method must be 'wald' or 'profile', got {method!r}")
    if method == "wald":
        ddf = "satterthwaite" if ddf is None else ddf
        if ddf not in METHODS:
            raise ValueError(f"ddf must be one of {', '.join(METHODS)}, got {ddf!r}")
    elif ddf is not None:
        raise ValueError(f"ddf belongs to method='wald'; a profile has none, got ddf={ddf!r}")
    components = variance_parameters(fit.layout)
    names = [*fit.names, *(component_name(fit, c) for c in components)]
    wanted = _wanted(parameters, names)
    fixed = [j for j in wanted if j < len(fit.names)]
    others = [j for j in wanted if j >= len(fit.names)]
    rows = _kept_rows(fit) if rows is None else rows
    limits = dict.fromkeys(fixed, (np.nan,) * 3)
    notes = dict.fromkeys((j for j in fixed if np.isnan(rows[j]).any()), _LEFT_OUT)
    known = [j for j in fixed if j not in notes]
    find = _wald if method == "wald" else _profile
    chosen = [components[j - len(fit.names)] for j in others]
    found = find(fit, rows[known] @ fit.basis.to_coef, chosen, level, ddf)
    for j, (*values, note) in zip([*known, *others], found, strict=True):
        limits[j] = values
        if note:
            notes[j] = note
    table = pd.DataFrame(
        [limits[j] for j in wanted],
        columns=["estimate", "lower", "upper"],
        index=pd.Index([names[j] for j in wanted], name="parameter"),
        dtype=float,
    )
    table.attrs["notes"] = {names[j]: notes[j] for j in wanted if j in notes}
    return table


_LEFT_OUT = "left out of the fit, since it depends on other columns"


def check_level(level):
    """Raise ValueError unless a level lies between 0 and 1."""
    if not (np.isscalar(level) and np.isreal(level) and 0.0 < level < 1.0):
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")


def component_name(fit, component) -> str:
    """A variance parameter as lme4 names it: sd_(Intercept)|Subject."""
    if component.kind == "sigma":
        return "sigma"
    group, effects = fit.source.random[component.term]
    names = ["(Intercept)" if name == "Intercept" else name for name in effects]
    return f"{component.kind}_{'.'.join(names[i] for i in component.effects)}|{group}"


def _wanted(parameters, names):
    """Positions of the parameters asked for."""
    if parameters is None:
        return list(range(len(names)))
    several = [parameters] if isinstance(parameters, str) else list(parameters)
    for name in several:
        if name not in names:
            near = get_close_matches(str(name), names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"parameters must be among {', '.join(names)}, got {name!r}{hint}")
    return [names.index(name) for name in several]


def _kept_rows(fit):
    rows = np.full((len(fit.names), fit.rank), np.nan)
    rows[fit.basis.kept] = np.eye(fit.rank)
    return rows


def _wald(fit, L, components, level, ddf):
    """(estimate, lower, upper, note) of L gamma, then of the components."""
    if len(L):
        estimate, error, df = _row_estimates(fit, L, ddf)
        reach = error * stats.t.isf((1.0 - level) / 2.0, df)
        for value, half in zip(estimate, reach, strict=True):
            yield value, value - half, value + half, ""
    if not components:
        return
    own = {
        (e.component.kind, e.component.term, e.component.effects): e
        for e in component_estimates(fit.second_order, fit.layout, level=level)
    }
    for c in components:
        found = own[c.kind, c.term, c.effects]
        note = _AT_BOUND if np.isnan(found.std_error) else ""
        yield found.estimate, found.lower, found.upper, note


def _row_estimates(fit, L, ddf):
    """(estimate, std_error, df) of L gamma."""
    if ddf in ("residual", "asymptotic"):  # without a record that copies may lack
        error = fit.sigma * np.linalg.norm(fit.unscaled_on_basis(L), axis=1)
        df = fit.n_obs - fit.rank if ddf == "residual" else np.inf
        return L @ fit.gamma, error, np.full(len(L), df)
    tests = row_tests(fit.second_order, fit.gamma, L, ddf)
    return tests.estimate, tests.std_error, tests.df


def _profile(fit, L, components, level, ddf):
    """(estimate, lower, upper, note) of L gamma, then of the components."""
    ml = fit.refit(reml=False)
    if not ml.sigma > 0:
        raise ValueError(
            "profiles need a residual variance, and this model leaves none: it explains the "
            "response exactly"
        )
    at = ml.objective, ml.optimum.theta, ml.sigma
    found = coefficient_limits(*at, L, level) if len(L) else []
    found += variance_limits(*at, level, components) if components else []
    return [(f.estimate, f.lower, f.upper, f.note) for f in found]


def variance_components(fit, *, level=0.95, information="observed"):
    """Variances of the random effects and of the residual with standard errors.

    Parameters
    ----------
    fit : LMMFit
        ``result_`` of a fitted MixedLinearRegressor.
    level : float
        Of the limits, which are symmetric in the logarithm.
    information : {"observed", "expected"}
        Second derivatives of the criterion, or their expectation.

    Returns
    -------
    DataFrame
        One row for every effect and last the residual: ``group, effect, variance, std_dev``, and of
        the variance ``std_error, lower, upper``: NaN for a variance estimated as zero. Limits of
        standard deviations, and correlations: :func:`confint`.

    Raises
    ------
    ValueError
        For other kinds of information, a level outside (0, 1), and a fit that was unpickled without
        what is needed.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_dyestuff
    >>> from skmixed.inference.intervals import variance_components
    >>> model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(load_dyestuff().frame)
    >>> variance_components(model.result_).iloc[:, :4].round(1)
          group     effect  variance  std_dev
    0     Batch  Intercept    1764.0     42.0
    1  Residual               2451.3     49.5
    """
    check_level(level)
    rows = []
    estimates = component_estimates(
        fit.second_order, fit.layout, level=level, information=information
    )
    for own in estimates:
        c, sd = own.component, own.estimate
        if c.kind == "cor":
            continue
        group, effects = ("Residual", ("",)) if c.term is None else fit.source.random[c.term]
        effect = effects[c.effects[0] if c.effects else 0]
        # limits symmetric in the logarithm are squared with the estimate
        rows.append([group, effect, sd**2, sd, 2 * sd * own.std_error, own.lower**2, own.upper**2])
    columns = ["group", "effect", "variance", "std_dev", "std_error", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns)
