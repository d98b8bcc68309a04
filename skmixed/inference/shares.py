"""R2 and intraclass correlations of fitted mixed models."""

from __future__ import annotations

import numpy as np

from skmixed.inference.fixed_effects import refuse_curves
from skmixed.inference.variances import VarianceShares, link_variance


def shares_of(model, mean=None) -> VarianceShares:
    """Shares of variance of a fitted mixed model, on the scale of its linear predictor.

    Parameters
    ----------
    model : fitted mixed model
    mean : float, optional
        For Poisson models with a log link, see :func:`link_variance`.

    Raises
    ------
    ValueError
        Where outcomes separate, and for families and links without such a variance.
    """
    fit = model.result_
    refuse_curves(fit, "shares of variance are", "score() is the R^2 of the predictions")
    if np.isinf(fit.relative_vcov).any():
        raise ValueError(
            "coefficients without finite estimates explain no share of a variance: leave the "
            "columns out that separate the outcomes, or merge categories"
        )
    moments = fit.source.moments
    spread = fit.gamma @ moments.covariance(fit.n_obs) @ fit.gamma
    if fit.smooth_terms:  # these are fixed effects to users
        spread = model._fixed_variance_
    T = fit.layout.factors(fit.optimum.theta)
    random = 0.0
    for term, square in zip(fit.layout.terms, moments.random, strict=True):
        if term.is_smooth:
            continue
        own = fit.sigma * T[term.group][term.columns, term.columns]
        random += float(np.sum((own @ own.T) * square))
    family = getattr(fit, "family", None)
    if family is None:
        residual = fit.sigma**2 * fit.mean_variance
    elif (family.name, family.link.name) == ("gaussian", "identity"):
        residual = fit.dispersion
    else:
        residual = link_variance(family.name, family.link.name, mean)
    return VarianceShares(float(spread), random, float(residual))
