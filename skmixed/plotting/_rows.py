"""What the displays ask of an estimator about rows: the only place that reaches into estimators."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from skmixed.design.curve_formula import parse_curve_formula
from skmixed.design.formula import parse_formula
from skmixed.estimators.mixed import MixedLinearRegressor
from skmixed.estimators.nonlinear import MixedNonlinearRegressor
from skmixed.inference.coefficients import coefficient_table
from skmixed.inference.intervals import profile_curves
from skmixed.inference.smooths import smooth_curves


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


def random_terms_of(estimator, X):
    """(terms, rows): the random-effects terms of rows X and which of them are complete.

    Without smooth terms, which predictions hold beside the fixed effects.
    """
    design = estimator._new_design(X)
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
