"""Variance inflation of the terms of the fixed effects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skmixed.models.questions import Questions


def vif(model) -> pd.DataFrame:
    """Generalised variance inflation factors of the terms of a fitted model.

    With R the correlation of the estimated coefficients without the intercept, ``R_t`` that of the
    columns of a term and ``R_-t`` that of the others,

    .. math:: GVIF_t = |R_t| |R_{-t}| / |R|

    is how much larger the confidence region of the term is than beside uncorrelated terms. Its
    root ``gvif ** (1 / (2 df))`` compares terms of different degrees of freedom; of one column it
    is the root of the usual factor.

    Parameters
    ----------
    model : estimator
        A fitted linear, mixed or rank-deficient linear model. Of smooth functions it is the
        straight lines that count.

    Returns
    -------
    DataFrame
        df, gvif and scaled = gvif^(1 / (2 df)) by term. Columns that depend on others, and were
        left out of the fit, do not count; a model of one term has no inflation. NaN for
        separated fits, some coefficients of which have no variance.

    Raises
    ------
    TypeError
        For other models, and those that are not fitted.

    References
    ----------
    Fox and Monette (1992), Generalized collinearity diagnostics, JASA 87, 178-183; ``vif`` of the
    R package car.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_scotssec
    >>> from skmixed.inference import vif
    >>> pupils = load_scotssec().frame
    >>> model = MixedLinearRegressor("attain ~ verbal + sex + (1 | primary)").fit(pupils)
    >>> vif(model).round(3)
            df   gvif  scaled
    term
    verbal   1  1.009   1.005
    sex      1  1.009   1.005
    """
    fit: Any = getattr(model, "result_", None)
    fitted = isinstance(fit, Questions)
    if fitted and fit.of_curves:
        raise TypeError(
            f"vif is for terms of a linear predictor, got {type(model).__name__}: vcov_ has the "
            "correlations of its parameters"
        )
    if not fitted:
        raise TypeError(f"vif takes a fitted linear or mixed model, got {type(model).__name__}")
    kept = np.asarray(fit.basis.kept)
    place = np.full(len(fit.names), -1)
    place[kept] = np.arange(len(kept))
    own = {term.name: place[term.columns][place[term.columns] >= 0] for term in fit.terms}
    own = {name: columns for name, columns in own.items() if len(columns)}
    used = np.concatenate([*own.values(), np.zeros(0, dtype=int)]).astype(int)
    half = fit.unscaled(np.eye(len(fit.names))[kept])  # columns left out have coefficient 0
    with np.errstate(invalid="ignore"):  # separated fits have variances without bound
        cov = half @ half.T
        size = np.sqrt(np.diag(cov))
        R = cov / np.outer(size, size)
    whole = _log_det(R, used)
    rows = [(len(c), np.exp(_log_det(R, c) + _log_det(R, np.setdiff1d(used, c)) - whole))
            for c in own.values()]  # fmt: skip
    table = pd.DataFrame(rows, index=pd.Index(own, name="term"), columns=["df", "gvif"])
    table["scaled"] = table["gvif"] ** (0.5 / table["df"])
    return table


def _log_det(R, columns):
    own = R[np.ix_(columns, columns)]
    return float(np.linalg.slogdet(own)[1]) if np.isfinite(own).all() else np.nan
