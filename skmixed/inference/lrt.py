"""Likelihood-ratio tests between nested mixed models."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binom, chi2


def likelihood_ratio_test(*models):
    """Table of likelihood-ratio tests between successive models, smallest first.

    Each model is compared with the one before it by the drop in -2 log-likelihood, referred to
    chi-square with as many degrees of freedom as parameters were added. Fits by REML are refitted
    by maximum likelihood first, since REML criteria of different fixed effects are not comparable.

    Where all that is added is variances of uncorrelated terms, the null hypothesis puts k
    variances on the boundary of their range and the plain p-value is too large. ``p-value (boundary)``
    then refers the statistic to the mixture sum_j C(k, j) 2^-k chi2_j; where one effect is added
    to a correlated term (its variance and r covariances), to (chi2_r + chi2_(r+1)) / 2. It is
    NaN for every other hypothesis.

    Parameters
    ----------
    *models : fitted estimators
        Two or more mixed models fitted to the same rows.

    Returns
    -------
    DataFrame
        One row per model: npar, AIC, BIC, logLik, deviance, Chisq, Df, p-value, p-value (boundary).

    Raises
    ------
    ValueError
        For fewer than two models, or models with different numbers of observations or different
        responses.

    References
    ----------
    Self and Liang (1987), JASA 82, 605-610; Stram and Lee (1994), Biometrics 50, 1171-1177.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference import likelihood_ratio_test
    >>> df = load_sleepstudy().frame
    >>> small = MixedLinearRegressor("Reaction ~ Days + (Days || Subject)").fit(df)
    >>> large = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> table = likelihood_ratio_test(small, large)
    >>> print(table[["npar", "deviance", "Chisq", "Df", "p-value"]].round(4).to_string(index=False))
     npar  deviance  Chisq  Df  p-value
        5 1752.0033    NaN NaN      NaN
        6 1751.9393 0.0639 1.0   0.8004
    """
    if len(models) < 2:
        raise ValueError(f"likelihood_ratio_test compares two or more models, got {len(models)}")
    fits = sorted((model.result_.refit(reml=False) for model in models), key=lambda f: f.n_params)
    models = sorted(models, key=lambda m: m.result_.n_params)
    _check_comparable(fits)
    rows = [_row(fit) for fit in fits]
    for (small, one), (large, two), row in zip(
        zip(models, fits, strict=True),
        zip(models[1:], fits[1:], strict=True),
        rows[1:],
        strict=False,
    ):
        row.update(_test(small, one, large, two))
    index = pd.Index([model.labels_.formula for model in models], name="model")
    columns = ["npar", "AIC", "BIC", "logLik", "deviance", "Chisq", "Df", "p-value", "p-value (boundary)"]
    return pd.DataFrame(rows, index=index, columns=columns)


def _check_comparable(fits):
    if len({fit.n_obs for fit in fits}) > 1:
        counts = ", ".join(f"{fit.n_obs:g}" for fit in fits)
        raise ValueError(
            f"the models were fitted to different numbers of observations ({counts}): their "
            "likelihoods cannot be compared. Fit them to the same rows (missing values?)"
        )
    if len({fit.response_id for fit in fits}) > 1:
        raise ValueError(
            "the models were fitted to different responses (values, order or transformation): "
            "their likelihoods cannot be compared"
        )


def _row(fit):
    deviance, npar = fit.deviance, fit.n_params
    return {
        "npar": npar,
        "AIC": deviance + 2 * npar,
        "BIC": deviance + np.log(fit.n_obs) * npar,
        "logLik": -deviance / 2,
        "deviance": deviance,
    }


def _test(small, one, large, two):
    statistic = max(one.deviance - two.deviance, 0.0)
    df = two.n_params - one.n_params
    if df == 0:
        return {"Chisq": statistic, "Df": 0}
    return {
        "Chisq": statistic,
        "Df": df,
        "p-value": chi2.sf(statistic, df),
        "p-value (boundary)": _boundary_p(statistic, _term_sizes(small), _term_sizes(large), one, two),
    }


def _term_sizes(model):
    """{(group, effects): number of effects} of the random-effects terms."""
    return {(term.group, frozenset(term.names)) for term in model.random_terms_}


def _boundary_p(statistic, small, large, one, two):
    """p-value for variances on the boundary; NaN where the hypothesis is another one."""
    if one.rank != two.rank:
        return np.nan
    added, gone = large - small, small - large
    if not gone and all(len(effects) == 1 for _, effects in added):
        k = len(added)
        return float(sum(binom.pmf(j, k, 0.5) * _chi2_sf(statistic, j) for j in range(k + 1)))
    if len(added) == len(gone) == 1:
        (group, more), (other, fewer) = *added, *gone
        if group == other and fewer < more and len(more) == len(fewer) + 1:
            r = len(fewer)
            return float(0.5 * _chi2_sf(statistic, r) + 0.5 * _chi2_sf(statistic, r + 1))
    return np.nan


def _chi2_sf(statistic, df):
    """Survival function; chi-square with 0 degrees of freedom is a point mass at 0."""
    return chi2.sf(statistic, df) if df else float(statistic <= 0)
