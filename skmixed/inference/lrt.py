"""Likelihood-ratio tests between nested mixed models."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom, chi2

from skmixed._warn import warn
from skmixed.exceptions import ComparisonWarning
from skmixed.inference.monte_carlo import difference_error, sure_p_value
from skmixed.inference.numbers import column, count

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
# Its Monte-Carlo error, in tables of fits by the iterative solver.
ERROR = "Chisq error"
# Share of the criterion by which optimisers may miss the optimum.
UNDONE = 1e-7


def likelihood_ratio_test(*models):
    """Table of likelihood-ratio tests between successive models, smallest first.

    Each model is compared with the one before it by the drop in -2 log-likelihood, referred to
    chi-square with as many degrees of freedom as parameters were added. Fits by REML are refitted
    by maximum likelihood first, since REML criteria of different fixed effects are not comparable.

    Where all that is added is k variances of uncorrelated terms, the null hypothesis puts them on
    the boundary of their range and the plain p-value is too large. ``p-value (boundary)`` then
    refers the statistic to the mixture sum_j C(k, j) 2^-k chi2_j; where one effect is added to a
    correlated term (its variance and r covariances), to (chi2_r + chi2_(r+1)) / 2. It is NaN for
    every other hypothesis. A simpler structure of the same effects, such as ``homdiag`` in ``ar1``,
    is a hypothesis about correlations and variances off their bounds, and has the plain p-value.

    The test needs one likelihood and one model inside the other. What is decided from the fits:

    - other rows, another response, other weights or another family make likelihoods that cannot
      be compared: an error;
    - every column of X of the smaller model has to be a combination of those of the larger one,
      every covariance of its random effects one that the larger model can have, however the
      formulas are written. Where not, the models are not nested: a warning, and p-values of NaN;
    - nonlinear models have to have the same curve, however it is written, and of different ones it
      is not known whether they are nested: a warning, and p-values of NaN;
    - offsets may differ by a combination of columns of the larger model, which is the hypothesis
      that its coefficient has a known value.

    Parameters
    ----------
    *models : fitted estimators
        Two or more mixed models fitted to the same rows, in any order.

    Returns
    -------
    LikelihoodRatioTable
        A DataFrame with one row per model, indexed by formula: npar, AIC, BIC, logLik, deviance,
        Chisq, Df, p-value, p-value (boundary); and Chisq error, the Monte-Carlo error of the
        statistic, where the iterative solver has estimated a criterion.

    Raises
    ------
    ValueError
        For fewer than two models, models that are not fitted, have a prior, are of different kinds
        or families, or were fitted to different rows, responses, weights or offsets; for REML fits
        that were loaded from a file, which cannot be refitted.

    Warns
    -----
    ComparisonWarning
        For two models of which neither contains the other, that have as many parameters, or of
        which the larger one fits worse (it contains the smaller one, so its fit has missed the
        optimum); for a fit that has not converged; and for a statistic whose Monte-Carlo error
        could change its p-value by more than a tenth. The p-values are NaN but for a fit that has
        not converged.

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
    entries.sort(key=lambda entry: (entry.fit.n_params, -entry.fit.deviance))
    _check_comparable([entry.fit for entry in entries])
    rows, found = [_row(entry.fit) for entry in entries], _not_converged(entries)
    for small, large, row in zip(entries, entries[1:], rows[1:], strict=False):
        test, problems = _test(small, large)
        row.update(test)
        found += problems
    for message in found:
        warn(f"likelihood_ratio_test: {message}", ComparisonWarning)
    index = pd.Index([entry.formula for entry in entries], name="model")
    columns = [*COLUMNS, ERROR] if any(row.get(ERROR) for row in rows) else COLUMNS
    return LikelihoodRatioTable(rows, index=index, columns=columns)


class LikelihoodRatioTable(pd.DataFrame):
    """The table of :func:`likelihood_ratio_test`, which prints all of its columns.

    Some of its columns, and rounded ones, print alike: numbers stand for the models, whose formulas
    are too wide. Other parts of it and what is computed from it are plain data frames.
    """

    @property
    def _constructor(self):
        return pd.DataFrame

    def __getitem__(self, key):
        """A column, rows, or columns, which are a table of the same models."""
        part = super().__getitem__(key)
        columns = isinstance(part, pd.DataFrame) and isinstance(key, list | pd.Index)
        return type(self)(part) if columns and set(key) <= set(self.columns) else part

    def round(self, decimals=0, *args, **kwargs):
        """The table with fewer decimals."""
        return type(self)(super().round(decimals, *args, **kwargs))

    def _repr_html_(self):
        models = "".join(f"<li><code>{escape(str(name))}</code></li>" for name in self.index)
        return f"<ol>{models}</ol>{self._numbered().to_html(border=0)}"

    def _numbered(self):
        """The table of text with numbers for the models, whose formulas are too wide."""
        numbers = pd.RangeIndex(1, len(self) + 1)
        return pd.DataFrame({name: _cells(name, self[name]) for name in self}, index=numbers)

    def __repr__(self):
        models = "\n".join(f"{at}: {name}" for at, name in enumerate(self.index, 1))
        lines = [line.rstrip() for line in self._numbered().to_string().splitlines()]
        return "\n".join([models, "", *lines])

    __str__ = __repr__


def _cells(name, values):
    if name.startswith("p-value"):
        return ["" if np.isnan(p) else f"{p:.4g}" for p in values]
    decimals = {"npar": 0, "Df": 0, "Chisq": 4}
    return column(values, decimals=decimals.get(name, 2))


@dataclass(frozen=True)
class _Entry:
    """A model's fit by maximum likelihood, and its name: all that is asked of an estimator."""

    formula: str
    fit: Any

    @classmethod
    def of(cls, model, at):
        if not hasattr(model, "labels_"):
            raise ValueError(
                f"model {at} of likelihood_ratio_test is not a fitted mixed model: {model!r}"
            )
        return cls(model.labels_.formula, model.result_.refit(reml=False))

    @property
    def source(self):
        return self.fit.source


def _not_converged(entries):
    return [
        f"the maximum likelihood fit of {entry.formula!r} has not converged"
        for entry in entries
        if not entry.fit.optimum.converged
    ]


def _check_comparable(fits):
    """An error unless the likelihoods are of one kind and of one data set."""
    check_no_prior(fits, "likelihood_ratio_test")
    if len({getattr(fit, "n_agq", None) for fit in fits}) > 1:  # none in a linear model
        raise ValueError(
            "the models are of different kinds (linear and not, or with different n_agq): "
            "their likelihoods are not approximated alike and cannot be compared"
        )
    families = {repr(getattr(fit, "family", None)): None for fit in fits}
    if len(families) > 1:
        raise ValueError(
            f"the models have different families or links ({', '.join(families)}): none is a "
            "special case of the other. Their aic_ can be compared"
        )
    if len({fit.n_obs for fit in fits}) > 1:
        counts = ", ".join(count(fit.n_obs) for fit in fits)
        raise ValueError(
            f"the models were fitted to different numbers of observations ({counts}): their "
            "likelihoods cannot be compared. Fit them to the same rows (missing values?)"
        )
    for first, other in pairwise(fit.source for fit in fits):
        _check_data(first, other)


def check_no_prior(fits, who):
    """An error for fits with a prior, which are not at a maximum of their likelihood."""
    if any(getattr(fit, "prior", None) is not None for fit in fits):
        raise ValueError(
            f"{who} compares maxima of likelihoods, and a model with a prior is not at one: fit "
            "the models with prior=None, or compare predictions by cross-validation"
        )


def _check_data(first, other):
    same_input = first.rows[0] == other.rows[0]
    if same_input and first.rows != other.rows:
        raise ValueError(
            "the models were fitted to different rows of the data: their likelihoods cannot be "
            "compared. Leave out rows with missing values in any of the columns first"
        )
    for what, mine, theirs in (
        ("responses (values, order or transformation)", first.response, other.response),
        ("prior weights or numbers of trials", first.weights, other.weights),
        ("sample weights", first.frequencies, other.frequencies),
    ):
        if mine != theirs:
            raise ValueError(
                f"the models were fitted to different {what}: their likelihoods cannot be compared"
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
    """(columns of the table, what is wrong with the test) for two models."""
    statistic = small.fit.deviance - large.fit.deviance
    df = large.fit.n_params - small.fit.n_params
    names = f"{small.formula!r} and {large.formula!r}"
    if not large.source.same_curve(small.source):
        return {"Chisq": statistic, "Df": df}, [
            f"{names} have different curves, and whether one contains the other cannot be told. "
            "Compare their AIC"
        ]
    _check_offsets(small, large, names)
    if df == 0:
        return {"Chisq": statistic, "Df": 0}, [
            f"{names} have as many parameters, so that there is nothing to test: compare their AIC"
        ]
    missing = _missing(small.source, large.source)
    if missing:
        return {"Chisq": statistic, "Df": df}, [
            f"{names} are not nested: the larger model has nothing for {missing} of the smaller "
            "one, and the statistic has no chi-square distribution. Compare their AIC"
        ]
    error = difference_error(small.fit, large.fit)
    if statistic < -max(UNDONE * max(1.0, abs(small.fit.deviance)), 3.0 * error):
        return {"Chisq": statistic, "Df": df, ERROR: error}, [
            f"{large.formula!r} contains {small.formula!r} and fits worse, by {-statistic:.4g}: "
            "its fit has missed the optimum (a local one, or too few iterations)"
        ]
    statistic = max(statistic, 0.0)
    plain, problem = sure_p_value(lambda x: chi2.sf(x, df), statistic, error)
    boundary, other = sure_p_value(
        lambda x: _boundary_p(x, small.source, large.source), statistic, error
    )
    problem = problem or other
    return {
        "Chisq": statistic,
        "Df": df,
        "p-value": plain,
        "p-value (boundary)": boundary,
        ERROR: error,
    }, [f"{names}: {problem}"] if problem else []


def _check_offsets(small, large, names):
    if large.source.lacks_offset(small.source):
        raise ValueError(
            f"{names} have different offsets, and the difference is no combination of the fixed "
            "effects of the larger model: their likelihoods cannot be compared"
        )


def _missing(small, large):
    """What the larger model lacks of the smaller one, in words; empty if it contains it."""
    fixed = [repr(name) for name in large.lacks_fixed(small)]
    random = [
        small.random[t][0]
        if small.structures[t] == "smooth"
        else f"{'' if small.is_unstructured(t) else small.structures[t]}"
        f"({' + '.join(small.random[t][1])} | {small.random[t][0]})"
        for t in large.lacks_random(small)
    ]
    residual = [f"the residual structure {text}" for text in large.lacks_residual(small)]
    return ", ".join([*fixed, *random, *residual])


def _boundary_p(statistic, small, large):
    """p-value for variances on the boundary; NaN where the hypothesis is another one."""
    if large.columns.shape[1] != small.columns.shape[1] or large.residual != small.residual:
        return np.nan
    added, gone = _without_common(large, small), _without_common(small, large)
    if added and not gone and all(large.is_one_variance(t) for t in added):
        k = len(added)
        return float(sum(binom.pmf(j, k, 0.5) * _chi2_sf(statistic, j) for j in range(k + 1)))
    if len(added) == len(gone) == 1:
        [more], [fewer] = added, gone
        if not (large.is_unstructured(more) and small.is_unstructured(fewer)):
            return np.nan
        r = small.n_effects(fewer)
        if large.n_effects(more) == r + 1 and small.term_within(fewer, large, more):
            return boundary_mixture(statistic, r)
    return np.nan


def boundary_mixture(statistic, r):
    """p-value of one more effect, its variance and r covariances: (chi2_r + chi2_(r+1)) / 2."""
    return float(0.5 * _chi2_sf(statistic, r) + 0.5 * _chi2_sf(statistic, r + 1))


def _without_common(source, other):
    """The random-effects terms that the other model has not."""
    return [
        t
        for t in range(len(source.random))
        if not any(source.same_term(t, other, k) for k in range(len(other.random)))
    ]


def _chi2_sf(statistic, df):
    """Survival function; chi-square with 0 degrees of freedom is a point mass at 0."""
    return chi2.sf(statistic, df) if df else float(statistic <= 0)
