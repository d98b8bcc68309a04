"""Confidence intervals of everything that a mixed model estimates, and its variances as a table."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pandas as pd

from skmixed.inference.fixed_effects import FixedEffects
from skmixed.inference.limits import limits_of, wald_rows
from skmixed.inference.noted import NotedTable

KINDS = ("wald", "profile")
COLUMNS = ["estimate", "lower", "upper"]
_OF_ML = (
    "The model was fitted by REML; estimates and limits of profiles are those of maximum "
    "likelihood."
)
_LEFT_OUT = "left out of the fit, since it depends on other columns"


def confint(fit, parameters=None, *, method="wald", level=0.95, ddf=None, rows=None, problem=None):
    """Confidence intervals of fixed effects, standard deviations, correlations and sigma.

    Wald intervals of fixed effects are estimate +- t std_error; those of standard deviations are
    symmetric in the logarithm, those of correlations in Fisher's z. Profile limits are where the
    deviance of maximum likelihood, all else at its best, has risen by the quantile of chi-square; a
    fit by REML is refitted by maximum likelihood for them, which needs no rows. A standard
    deviation of zero, or a correlation of 1 or -1, that the deviance does not rule out is a limit.

    Parameters
    ----------
    fit : LMMFit or GLMMFit
        ``result_`` of a fitted mixed model.
    parameters : str or list of str, optional
        Names as in the index of the result, by default all of them.
    method : {"wald", "profile"}
    level : float
        Coverage, between 0 and 1.
    ddf : {"satterthwaite", "kenward_roger", "residual", "asymptotic"}, optional
        Degrees of freedom of Wald intervals of fixed effects, by default Satterthwaite's. With
        ``kenward_roger`` standard errors are adjusted too. Generalised models have z intervals.
    rows : (p, r) array, optional
        Coefficients of all p columns of X from those of the r that were kept; NaN for none. By
        default a column that was left out has none.
    problem : Problem, optional
        The rows of a generalised model, which its fit does not keep: profiles need them.

    Returns
    -------
    NotedTable
        A DataFrame; columns ``estimate, lower, upper``; index ``parameter``: columns of X, then
        term by term ``sd_(Intercept)|Subject``, ``cor_Days.(Intercept)|Subject``, ..., and
        ``sigma``, or the name of the dispersion of a generalised model if it has one. The
        estimates of profile intervals are those of maximum likelihood, which a note below the
        table says of a fit by REML. ``attrs["notes"]`` says by parameter, and the notes do, why a
        limit is not an ordinary one, or is missing.

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
    <BLANKLINE>
    The model was fitted by REML; estimates and limits of profiles are those of
    maximum likelihood.
    """
    check_level(level)
    if method not in KINDS:
        raise ValueError(
            f"method must be 'wald' or 'profile', or, of an estimator, 'bootstrap', got {method!r}"
        )
    if method == "profile" and ddf is not None:
        raise ValueError(f"ddf belongs to method='wald'; a profile has none, got ddf={ddf!r}")
    own = limits_of(fit, problem)
    ddf = FixedEffects(fit).method(ddf)
    chosen = _Chosen.of(fit, own, parameters, rows)
    if method == "wald":
        found = [*wald_rows(fit, chosen.rows, level, ddf), *own.wald(chosen.components, level)]
    else:
        found = [_plain(f) for f in own.profile(chosen.rows, chosen.components, level)]
    reml = method == "profile" and getattr(fit, "reml", False)
    return chosen.table(found, [_OF_ML] if reml else [])


def profile_curves(fit, parameters=None, *, level=0.95, points=12, rows=None, problem=None):
    """Profile limits, and the curves of the profiles from limit to limit and a little beyond.

    Parameters
    ----------
    fit, parameters, level, rows, problem
        As for :func:`confint`.
    points : int
        Of every curve on either side of the estimate.

    Returns
    -------
    limits : DataFrame
        As of ``confint(method="profile")``.
    curves : dict of str to (m, 2) array
        By parameter: values in order, and zeta, the signed root of what the deviance of maximum
        likelihood rises above its minimum.
    """
    check_level(level)
    own = limits_of(fit, problem)
    chosen = _Chosen.of(fit, own, parameters, rows)
    found = own.profile(chosen.rows, chosen.components, level, points)
    curves = dict(zip(chosen.known, (f.curve for f in found), strict=True))
    limits = chosen.table([_plain(f) for f in found])
    return limits, {chosen.names[j]: curves[j] for j in chosen.wanted if j in curves}


def _plain(limits):
    return limits.estimate, limits.lower, limits.upper, limits.note


@dataclass(frozen=True)
class _Chosen:
    """Parameters that were asked for: all names, places among them, and what these stand for.

    ``rows`` are of coefficients, ``components`` of variances; ``known`` has the places of both.
    """

    names: list
    wanted: list
    known: list
    rows: np.ndarray
    components: list

    @classmethod
    def of(cls, fit, limits, parameters, rows):
        names = [*fit.names, *(component_name(fit, c) for c in limits.components)]
        wanted = find_parameters(parameters, names)
        rows = _kept_rows(fit) if rows is None else rows
        fixed = [j for j in wanted if j < len(rows) and not np.isnan(rows[j]).any()]
        others = [j for j in wanted if j >= len(rows)]
        components = [limits.components[j - len(rows)] for j in others]
        return cls(names, wanted, [*fixed, *others], rows[fixed], components)

    def table(self, found, notes=()):
        """Estimates and limits, with notes, from those of the known ones."""
        limits = dict(zip(self.known, found, strict=True))
        none = np.nan, np.nan, np.nan, _LEFT_OUT
        values = [limits.get(j, none) for j in self.wanted]
        index = pd.Index([self.names[j] for j in self.wanted], name="parameter")
        own = {n: v[3] for n, v in zip(index, values, strict=True) if v[3]}
        notes = [*notes, *(f"{name}: {note}." for name, note in own.items())]
        table = NotedTable.of([v[:3] for v in values], COLUMNS, index, notes)
        table.attrs["notes"] = own
        return table


def check_level(level):
    """Raise ValueError unless a level lies between 0 and 1."""
    if not (np.isscalar(level) and np.isreal(level) and 0.0 < level < 1.0):
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")


def component_name(fit, component) -> str:
    """A variance parameter as lme4 names it: sd_(Intercept)|Subject."""
    if component.term is None:
        name = component.name.replace(" ", "_", 1)
        return f"{name}|Residual" if name else component.kind
    group, effects = fit.source.random[component.term]
    if component.name:
        return f"{component.name.replace(' ', '_', 1)}|{group}"
    names = ["(Intercept)" if name == "Intercept" else name for name in effects]
    return f"{component.kind}_{'.'.join(names[i] for i in component.effects)}|{group}"


def find_parameters(parameters, names):
    """Places among the names of the parameters asked for, by default all; ValueError if unknown."""
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


def variance_components(fit, *, level=0.95, information="observed"):
    """Variances of the random effects and of the residual with standard errors.

    Parameters
    ----------
    fit : LMMFit or GLMMFit
        ``result_`` of a fitted mixed model.
    level : float
        Of the limits, which are symmetric in the logarithm.
    information : {"observed", "expected"}
        Second derivatives of the criterion, or their expectation; of generalised models the former.

    Returns
    -------
    DataFrame
        One row for every effect, and last the residual of a linear model: ``group, effect,
        variance``, of the variance ``std_error, lower, upper``, which are NaN for a variance
        estimated as zero, and ``std_dev``, its root. Limits of standard deviations, and
        correlations: :func:`confint`.

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
    >>> variance_components(model.result_).round(1)
          group     effect  variance  std_error   lower   upper  std_dev
    0     Batch  Intercept    1764.0     1432.8   359.1  8666.7     42.0
    1  Residual               2451.3      707.6  1392.1  4316.3     49.5
    """
    check_level(level)
    own = limits_of(fit)
    rows = []
    for e in own.estimates(level, information):
        c, sd = e.component, e.estimate
        if c.kind not in ("sd", "sigma"):
            continue
        own = c.name.removeprefix("sd ")
        group, effects = ("Residual", (own,)) if c.term is None else fit.source.random[c.term]
        effect = effects[c.effects[0] if c.effects else 0]
        if c.name == "sd":  # of all effects of a structured term
            effect = c.layout.terms[c.term].kind
        # limits symmetric in the logarithm are squared with the estimate
        rows.append([group, effect, sd**2, 2 * sd * e.std_error, e.lower**2, e.upper**2, sd])
    columns = ["group", "effect", "variance", "std_error", "lower", "upper", "std_dev"]
    return pd.DataFrame(rows, columns=columns)
