"""Tests of the random effects of linear mixed models, each left out in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from skmixed._warn import warn
from skmixed.design.full import constant_of
from skmixed.design.terms import fixed_terms
from skmixed.exceptions import ComparisonWarning
from skmixed.inference.lrt import UNDONE, boundary_mixture
from skmixed.inference.monte_carlo import difference_error, sure_p_value
from skmixed.inference.noted import NotedTable
from skmixed.models.lmm import LMMFit, fit_lmm

COLUMNS = ["n_params", "log_likelihood", "aic", "lrt", "df", "p_value", "p_value_boundary"]


def random_effects_test(model) -> NotedTable:
    """Likelihood-ratio tests of the random-effects terms, from the cross-products in memory.

    A term with an intercept alone is left out, and of a smooth term its deviations from a straight
    line; from others one slope or factor at a time, with its covariances, unless an interaction in
    the term contains it. Where nothing else is left of a
    term, ``(0 + f | g)`` with a factor f becomes ``(1 | g)``, and ``(0 + x | g)`` is left out. The
    criterion is that of the fit: fixed effects are the same, so REML criteria can be compared.

    Parameters
    ----------
    model : fitted MixedLinearRegressor

    Returns
    -------
    NotedTable
        A DataFrame with n_params, log_likelihood, aic, lrt, df, p_value and p_value_boundary by
        term, and first the model itself, ``<none>``. ``p_value_boundary`` takes account of the
        variance being on the boundary under the hypothesis, where the plain p-value is too large;
        it is NaN where more than one variance is left out. Of smooth terms it is rather too large,
        since their effects are seen through few directions (Crainiceanu and Ruppert 2004, Journal
        of the Royal Statistical Society B 66, 165-185).

    Raises
    ------
    ValueError
        For another kind of model, one without random effects, and one that was loaded from a file.

    Warns
    -----
    ComparisonWarning
        Where a smaller model fits better, so that the fit has missed its optimum.

    References
    ----------
    Self and Liang (1987), JASA 82, 605-610; Stram and Lee (1994), Biometrics 50, 1171-1177.
    Kuznetsova, Brockhoff and Christensen (2017), Journal of Statistical Software 82(13), whose
    ``ranova`` this is.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference import random_effects_test
    >>> data = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(data)
    >>> random_effects_test(model)[["n_params", "log_likelihood", "lrt", "df"]].round(3)
                              n_params  log_likelihood     lrt   df
    term
    <none>                           6        -871.814     NaN  NaN
    Days in (Days | Subject)         4        -893.233  42.837  2.0
    """
    fit: Any = getattr(model, "result_", None)
    _check(model, fit)
    rows = {"<none>": _row(fit)}
    for name, t, space in _reductions(model.design_spec_):
        layout = fit.objective.layout.restricted(t, space)
        reduced = fit_lmm(replace(fit.objective, layout=layout, outside=()))
        smooth = fit.layout.terms[t].is_smooth  # of one variance
        lost = 1 if smooth else fit.layout.terms[t].size - space.shape[1]
        rows[name] = [*_row(reduced)[:3], *_test(reduced, fit, name, lost, space.shape[1])]
    index = pd.Index(list(rows), name="term", dtype=object)
    return NotedTable.of(list(rows.values()), COLUMNS, index)


def _check(model, fit):
    name = type(model).__name__
    if fit is None:
        raise ValueError(f"{name} is not a fitted model: call fit first")
    if not isinstance(fit, LMMFit):
        raise ValueError(
            f"random_effects_test is for linear mixed models, got {name}: fit the model without "
            "the term and compare the two with likelihood_ratio_test"
        )
    if not fit.layout.terms:
        raise ValueError("the model has no random effects to test")
    if any(term.kind != "us" and not term.is_smooth for term in fit.layout.terms):
        raise ValueError(
            "random_effects_test takes effects out of unstructured terms: fit the model without "
            "the structured term, or with a simpler one, and compare the two with "
            "likelihood_ratio_test"
        )
    if fit.objective is None:
        raise ValueError(
            "random_effects_test needs the cross-products of the data, which are not pickled: fit "
            "the model again in this process"
        )


def _row(fit):
    likelihood = -fit.deviance / 2
    return [fit.n_params, likelihood, 2 * fit.n_params - 2 * likelihood, *[np.nan] * 4]


def _test(reduced, fit, name, lost, left):
    """(statistic, df, p_value, p_value_boundary) of a term with so many effects lost and left."""
    statistic, df = reduced.deviance - fit.deviance, fit.n_params - reduced.n_params
    error = difference_error(reduced, fit)
    if statistic < -max(UNDONE * max(1.0, abs(fit.deviance)), 3.0 * error):
        warn(
            f"random_effects_test: the model without {name} fits better, by {-statistic:.4g}: the "
            "fit has missed the optimum (a local one, or too few iterations)",
            ComparisonWarning,
        )
        return statistic, df, np.nan, np.nan
    statistic = max(statistic, 0.0)
    p, problem = sure_p_value(lambda x: float(chi2.sf(x, df)), statistic, error)
    mixed = np.nan
    if lost == 1:
        mixed, other = sure_p_value(lambda x: boundary_mixture(x, left), statistic, error)
        problem = problem or other
    if problem:
        warn(f"random_effects_test: {name}: {problem}", ComparisonWarning)
    return statistic, df, p, mixed


def _reductions(spec):
    """(name, number of the term, space (s, k) of what is left) of everything that can go."""
    for t, (part, random) in enumerate(zip(spec.random, spec.terms.random, strict=True)):
        if random.is_smooth:
            yield f"deviations from a line in {random.group}", t, np.zeros((len(part.names), 0))
            continue
        shown = f"({random.expr.removeprefix('1 + ')} | {random.group})"
        terms, n = fixed_terms(part), len(part.names)
        if not terms:
            yield shown, t, np.zeros((n, 0))
        for term in terms:
            whole = term.factors.union(term.covariates)
            if not any(whole < other.factors.union(other.covariates) for other in terms):
                yield f"{term.name} in {shown}", t, _what_is_left(part, terms, term, n)


def _what_is_left(part, terms, term, n):
    """(n, k): the columns of the other terms, and a constant that only this term spans."""
    others = np.setdiff1d(np.arange(n), term.columns)
    space = np.eye(n)[:, others]
    rest = [other for other in terms if other is not term]
    one = constant_of(part, term) if part.intercept is None and not term.covariates else None
    if one is None or (rest and not any(other.factors for other in rest)):
        return space
    constant = np.zeros((n, 1))
    constant[term.columns, 0] = one
    return np.hstack([constant, space])
