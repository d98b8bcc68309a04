"""What the displays ask of an estimator about rows: the only place that reaches into estimators."""

from __future__ import annotations

from functools import partial, wraps
from inspect import signature

import numpy as np
import pandas as pd

from skmixed.design.curve_formula import parse_curve_formula
from skmixed.design.formula import parse_formula
from skmixed.estimators._input import GROUPS
from skmixed.estimators.mixed import MixedLinearRegressor
from skmixed.estimators.nonlinear import MixedNonlinearRegressor
from skmixed.inference.coefficients import coefficient_table
from skmixed.inference.intervals import profile_curves
from skmixed.inference.shares import random_variances, shares_of
from skmixed.inference.smooths import smooth_curves


def opens_pipelines(from_estimator):
    """A ``from_estimator`` that takes pipelines too: their last step, and rows as it sees them."""
    form = signature(from_estimator)

    @wraps(from_estimator)
    def opened(cls, estimator, *args, **kwargs):
        if not hasattr(estimator, "steps"):
            return from_estimator(cls, estimator, *args, **kwargs)
        given = form.bind(cls, estimator, *args, **kwargs)
        given.arguments["estimator"] = estimator.steps[-1][1]
        if given.arguments.get("X") is not None and len(estimator.steps) > 1:
            given.arguments["X"] = estimator[:-1].transform(given.arguments["X"])
        return from_estimator(*given.args, **given.kwargs)

    return opened


def models_by_name(models):
    """{name: fitted model} of a dict or list of models; the last steps of pipelines."""
    if not isinstance(models, dict):
        models = {f"model {k}": model for k, model in enumerate(models, 1)}
    if not models:
        raise ValueError("there is no model to plot: pass a dict or list of fitted models")
    return {
        str(name): model.steps[-1][1] if hasattr(model, "steps") else model
        for name, model in models.items()
    }


def as_pandas(X, who):
    """Rows as a pandas DataFrame."""
    if isinstance(X, pd.DataFrame):
        return X
    if hasattr(X, "columns"):  # polars, whose own conversion needs pyarrow
        return pd.DataFrame({name: X[name].to_list() for name in X.columns})
    raise TypeError(
        f"{who} needs the rows as a DataFrame with named columns, got {type(X).__name__}"
    )


def is_linear(estimator) -> bool:
    """Whether the model is a linear one."""
    return isinstance(estimator, MixedLinearRegressor)


def is_curve(estimator) -> bool:
    """Whether the model is a nonlinear one."""
    return isinstance(estimator, MixedNonlinearRegressor)


def curve_covariates(estimator) -> tuple[str, ...]:
    """The columns in the curve of a nonlinear model, in its order."""
    return estimator.design_spec_.mean.columns


def covariate(estimator, X, x):
    """The numeric column along the axis."""
    numeric = [name for name in X if pd.api.types.is_numeric_dtype(X[name])]
    if x is None:
        random = [name for term in estimator.random_terms_ for name in term.names]
        candidates = [*random, *estimator.fixed_effects_.index]
        if is_curve(estimator):
            candidates = curve_covariates(estimator)[::-1]
        x = next((name for name in candidates if name in numeric), None)
        if x is None:
            raise ValueError("no effect of the model is a numeric column of X: name one as x=")
    if x not in numeric:
        raise ValueError(f"x must be a numeric column of X, one of {numeric}, got {x!r}")
    return x


def named_response(estimator):
    """The response as the formula names it, or None."""
    if estimator.formula is None:
        return None
    parse = parse_curve_formula if is_curve(estimator) else parse_formula
    return parse(estimator.formula).response


def response_of(estimator, X, y):
    """The response (n,) as numbers: y, or what the formula names; of two classes, 1 the second."""
    classes = getattr(estimator, "classes_", None)
    if y is None:
        response = named_response(estimator)
        if response is None:
            raise ValueError("the formula does not name the response: pass y")
        labels = classes is not None and response in X
        y = X[response] if labels else estimator._response_of(X)
    y = np.asarray(y)
    if classes is not None and np.isin(y, classes).all():
        return (y == classes[1]).astype(float)
    return y.astype(float)


def random_terms_of(estimator, X, groups=None):
    """(terms, rows): the random-effects terms of rows X and which of them are complete.

    Without smooth terms, which predictions hold beside the fixed effects.
    """
    needed = estimator.design_spec_.needs()
    if groups is None and GROUPS in needed and GROUPS not in estimator._feature_names():
        raise ValueError(
            f"the {type(estimator).__name__} was fitted with groups=, and a display finds the "
            "levels of its rows in X: fit it with the column in the formula, as in 'x + (1 | g)'"
        )
    design = estimator._new_rows(X, groups).design
    return tuple(term for term in design.random if term.structure != "smooth"), design.rows


def smoothed_rows(estimator, X, y, groups, residuals):
    """(term, curve, x, residual) of rows X: values of the arguments of smooth terms.

    residual : the curve plus the residual of the row, where they are asked for.
    """
    design = estimator._new_rows(X, groups).design
    left = np.full(len(design.rows), np.nan)
    if residuals:
        left = estimator.residuals(X, y, groups=groups)[design.rows]
    random = {t.group: t.codes for t in design.random if t is not None}
    tables = []
    for part in estimator.design_spec_.smooths:
        codes = random[part.label]
        x = part.lines.arguments(design.X, codes)
        table = pd.DataFrame(
            {"term": part.label, "curve": [part.curves[c] for c in codes], "x": x, "residual": left}
        )
        if residuals:
            table["residual"] += _at_rows(estimator, part, x, codes)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _at_rows(estimator, part, x, codes):
    """Value (n,) of the curve of every row; NaN where the curve multiplies a number."""
    if part.multiplies:
        return np.full(len(x), np.nan)
    curves = smooth_curves(estimator, part.label, x=x)["estimate"].to_numpy()
    return curves.reshape(len(part.curves), len(x))[codes, np.arange(len(x))]


def weights_of(estimator, X):
    """Prior weights (n,) of rows X; 1 for a model without."""
    return np.broadcast_to(estimator._new_weights(X), len(X)).astype(float)


def mean_of(estimator, X, groups):
    """Predicted means (n,) with the conditional modes of some grouping factors, 0 of the others.

    groups : names, or True for all of them and False for none.
    """
    normal = is_linear(estimator) or is_curve(estimator)
    scale = {} if normal else {"scale": "response"}
    effects = groups if isinstance(groups, bool) else list(groups)
    return estimator.predict(X, random_effects=effects, **scale)


def variance_shares(estimator, X, y, groups):
    """Share of variance of the fixed effects, of every random-effects term, and of the residual."""
    total = shares_of(estimator, estimator._null_mean(X, y, groups))
    parts = {"fixed effects": max(total.fixed, 0.0)}  # rounding
    for term, variance in zip(
        estimator.labels_.terms, random_variances(estimator.result_), strict=True
    ):
        if not term.is_smooth:
            name = f"{' + '.join(term.names)} | {term.group}" if len(term.names) < 4 else term.text
            parts[name] = parts.get(name, 0.0) + variance
    parts["residual"] = total.residual
    return pd.Series(parts) / sum(parts.values())


def limits_of_rows(estimator, X, level, kind, options):
    """(prediction, lower, upper) of rows X: intervals for their mean, or a new observation.

    options : groups and random_effects, as for ``predict``.
    """
    limits = estimator.predict_interval(X, level=level, kind=kind, **options)
    normal = is_linear(estimator) or is_curve(estimator)
    scale = {} if normal else {"scale": "response"}
    return estimator.predict(X, **options, **scale), limits[:, 0], limits[:, 1]


def levels_of(estimator, X, group, groups=None):
    """Level (n,) of a grouping factor in every row of X, or the values of a column."""
    if group in X:
        return X[group].to_numpy(dtype=object)
    if groups is not None and group == GROUPS:
        return np.asarray(groups, dtype=object)
    terms, rows = random_terms_of(estimator, X, groups)
    codes = next((term.codes for term in terms if term.group == group), None)
    if codes is None:
        raise ValueError(f"group must be a column of X or a grouping factor, got {group!r}")
    found = np.full(len(X), None, dtype=object)
    known = codes >= 0
    found[rows[known]] = np.asarray(estimator.labels_.levels[group], dtype=object)[codes[known]]
    return found


def has_events(estimator, y):
    """Whether the response y (n,) is events: zeros and ones of a binomial family."""
    family = getattr(estimator, "family_", None)
    return family is not None and family.name == "binomial" and np.isin(y, (0.0, 1.0)).all()


def coefficients_of(estimator, ddf, level):
    """The table of fixed effects of a mixed model, or of one without random effects."""
    mixed = hasattr(estimator, "coefficients")
    table = estimator.coefficients if mixed else partial(coefficient_table, estimator)
    return table(ddf=ddf, level=level)


def curves_of(estimator, parameters, level, points, data):
    """(limits, curves) of profiles; ``data`` is X, y, groups and sample_weight of the fit."""
    problem = None if data[0] is None else estimator._problem_of(*data)
    return profile_curves(
        estimator.result_, parameters, level=level, points=points,
        rows=estimator._coefficient_rows, problem=problem,
    )  # fmt: skip
