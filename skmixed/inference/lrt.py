"""Likelihood-ratio tests between nested mixed models."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom, chi2

COLUMNS = [
    "npar",
    "AIC",
    "BIC",
    "logLik",
    "deviance",
    "Chisq",
    "Df",
    "p-value",
    "p-value (boundary)",
]
# Share of the criterion by which optimisers may miss the optimum.
_UNDONE = 1e-7


def likelihood_ratio_test(*models):
    """Table of likelihood-ratio tests between successive models, smallest first.

    Each model is compared with the one before it by the drop in -2 log-likelihood, referred to
    chi-square with as many degrees of freedom as parameters were added. Fits by REML are refitted
    by maximum likelihood first, since REML criteria of different fixed effects are not comparable.

    Where all that is added is k variances of uncorrelated terms, the null hypothesis puts them on
    the boundary of their range and the plain p-value is too large. ``p-value (boundary)`` then
    refers the statistic to the mixture sum_j C(k, j) 2^-k chi2_j; where one effect is added to a
    correlated term (its variance and r covariances), to (chi2_r + chi2_(r+1)) / 2. It is NaN for
    every other hypothesis.

    Parameters
    ----------
    *models : fitted estimators
        Two or more mixed models fitted to the same rows, in any order.

    Returns
    -------
    DataFrame
        One row per model, indexed by formula: npar, AIC, BIC, logLik, deviance, Chisq, Df,
        p-value, p-value (boundary).

    Raises
    ------
    ValueError
        For fewer than two models, models that are not fitted, of different kinds, or fitted to
        different numbers of observations or different responses.

    Warns
    -----
    UserWarning
        If a model with more parameters fits worse than the one before, so that it does not
        contain it, or a refit has not converged. The test is NaN in the first case.

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
    entries = [_Entry.of(model, at) for at, model in enumerate(models, 1)]
    entries.sort(key=lambda entry: entry.fit.n_params)
    _check_comparable([entry.fit for entry in entries])
    rows = [_row(entry.fit) for entry in entries]
    for small, large, row in zip(entries, entries[1:], rows[1:], strict=False):
        row.update(_test(small, large))
    index = pd.Index([entry.model.labels_.formula for entry in entries], name="model")
    return pd.DataFrame(rows, index=index, columns=COLUMNS)


@dataclass(frozen=True)
class _Entry:
    """A model and its fit by maximum likelihood."""

    model: Any
    fit: Any

    @classmethod
    def of(cls, model, at):
        if not hasattr(model, "result_"):
            raise ValueError(
                f"model {at} of likelihood_ratio_test is not a fitted mixed model: {model!r}"
            )
        fit = model.result_.refit(reml=False)
        if not fit.optimum.converged:
            _warn(f"the maximum likelihood fit of {model.labels_.formula!r} has not converged")
        return cls(model, fit)

    @property
    def fixed(self):
        """Names of the columns of X that were kept."""
        return {self.model.labels_.columns[j] for j in self.fit.basis.kept}

    @property
    def effects(self):
        """{(group, effects)} of the random-effects terms."""
        return {(term.group, frozenset(term.names)) for term in self.model.labels_.terms}


def _warn(message):
    warnings.warn(f"likelihood_ratio_test: {message}", UserWarning, stacklevel=4)


def _check_comparable(fits):
    if len({(type(fit), getattr(fit, "n_agq", None)) for fit in fits}) > 1:
        raise ValueError(
            "the models are of different kinds (linear and generalised, or with different n_agq): "
            "their likelihoods are not approximated alike and cannot be compared"
        )
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


def _test(small, large):
    statistic = small.fit.deviance - large.fit.deviance
    df = large.fit.n_params - small.fit.n_params
    if df == 0:
        return {"Chisq": max(statistic, 0.0), "Df": 0}
    if statistic < -_UNDONE * max(1.0, abs(small.fit.deviance)):
        _warn(
            f"{large.model.labels_.formula!r} has more parameters than "
            f"{small.model.labels_.formula!r} and fits worse: it does not contain it"
        )
        return {"Chisq": statistic, "Df": df}
    statistic = max(statistic, 0.0)
    return {
        "Chisq": statistic,
        "Df": df,
        "p-value": chi2.sf(statistic, df),
        "p-value (boundary)": _boundary_p(statistic, small, large),
    }


def _boundary_p(statistic, small, large):
    """p-value for variances on the boundary; NaN where the hypothesis is another one."""
    if small.fixed != large.fixed:
        return np.nan
    added, gone = large.effects - small.effects, small.effects - large.effects
    if added and not gone and all(len(effects) == 1 for _, effects in added):
        k = len(added)
        return float(sum(binom.pmf(j, k, 0.5) * _chi2_sf(statistic, j) for j in range(k + 1)))
    if len(added) == len(gone) == 1:
        [(group, more)], [(other, fewer)] = added, gone
        if group == other and fewer < more and len(more) == len(fewer) + 1:
            r = len(fewer)
            return float(0.5 * _chi2_sf(statistic, r) + 0.5 * _chi2_sf(statistic, r + 1))
    return np.nan


def _chi2_sf(statistic, df):
    """Survival function; chi-square with 0 degrees of freedom is a point mass at 0."""
    return chi2.sf(statistic, df) if df else float(statistic <= 0)
