"""Heritability: the share of the variance that effects with a known relationship have."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

# Differences are taken over this share of a parameter.
_STEP = 1e-4


def heritability(model, level=0.95) -> pd.DataFrame:
    """Shares of the variance of terms with a known relationship, with standard errors.

    h2 = v / (sum of v + sigma^2), v the variance of a term: of those with a relationship K times
    the mean of its diagonal, of others the mean over the rows. It depends on theta alone, so that
    its standard error follows from the Hessian of the criterion with sigma profiled out.

    Parameters
    ----------
    model : MixedLinearRegressor
        Fitted with ``relationship``.
    level : float
        Of the limits, which are symmetric in log(h2 / (1 - h2)).

    Returns
    -------
    DataFrame
        estimate, std_error, lower, upper by term; NaN for errors where a variance is zero.

    Raises
    ------
    ValueError
        For a model without such terms, and a copy without cross-products.

    References
    ----------
    Lynch and Walsh (1998), Genetics and Analysis of Quantitative Traits, chapter 26.
    """
    fit = model.result_
    known = [t for t, term in enumerate(fit.layout.terms) if term.loadings is not None]
    objective = getattr(fit, "objective", None)
    if not known or not fit.is_linear:
        raise ValueError(
            "heritability is a share of the variance of a linear mixed model that was fitted with "
            "relationship={group: K}"
        )
    if objective is None:
        raise ValueError(
            "the standard error of a heritability needs the cross-products of the data, which are "
            "not pickled: fit the model again in this process"
        )
    theta = fit.optimum.theta
    steps = _STEP * np.maximum(np.abs(theta), 1e-2)
    with objective.threads():
        H = _slopes(lambda x: objective.evaluate(x).gradient, theta, steps)
    slopes = _slopes(lambda x: _shares(fit, x)[known], theta, steps).T
    regular = not fit.is_singular and np.linalg.eigvalsh(H + H.T)[0] > 0
    spread = slopes @ np.linalg.solve((H + H.T) / 4.0, slopes.T) if regular else np.nan
    error = np.sqrt(np.diag(spread)) if regular else np.full(len(known), np.nan)
    h2 = _shares(fit, theta)[known]
    with np.errstate(divide="ignore", invalid="ignore"):
        middle, reach = np.log(h2 / (1 - h2)), error / (h2 * (1 - h2))
    reach = stats.norm.isf((1 - level) / 2) * reach
    lower, upper = (1 / (1 + np.exp(-(middle + s * reach))) for s in (-1.0, 1.0))
    index = pd.Index([model.labels_.terms[t].text for t in known], name="term")
    return pd.DataFrame(
        {"estimate": h2, "std_error": error, "lower": lower, "upper": upper}, index=index
    )


def _shares(fit, theta):
    """Share of every term in the variance of an observation."""
    T, variances = fit.layout.factors(theta), []
    for term, square in zip(fit.layout.terms, fit.source.moments.random, strict=True):
        own = T[term.group][term.columns, term.columns]
        if term.is_smooth:  # no share of the variance to users, for whom it is a fixed effect
            variances.append(0.0)
        elif term.loadings is not None and term.names == ("Intercept",):
            variances.append(term.mean_variance * float(term.M[0, 0] * own[0, 0]) ** 2)
        else:
            variances.append(np.einsum("ij,ik,kj->", own, square, own))
    variances = np.array(variances)
    return variances / (variances.sum() + fit.objective.mean_variance(theta))


def _slopes(f, x, steps):
    """Central differences of f by every entry of x: (k, ...)."""
    return np.array([(f(x + e) - f(x - e)) / (2 * e.max()) for e in np.diag(steps)])
