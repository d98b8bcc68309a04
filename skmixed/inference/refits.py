"""The same model with other fixed effects: what is fitted again to the data for a comparison."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from skmixed.design.names import term_names
from skmixed.design.rewriting import formula_text
from skmixed.exceptions import RankDeficiencyWarning, SingularFitWarning
from skmixed.inference.fixed_effects import FixedEffects, refuse_curves
from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.noted import NotedTable
from skmixed.models.fit import MixedFit

COLUMNS = ["n_params", "log_likelihood", "aic", "lrt", "df", "p_value"]


def with_fixed(model, fixed, *, smooths=True, **settings):
    """An unfitted copy of an estimator whose formula has other fixed effects.

    Parameters
    ----------
    model : fitted mixed model
    fixed : str
        The right-hand side without offsets, smooth terms and random effects.
    smooths : bool
        Whether the copy has the smooth terms.
    **settings
        Parameters of the copy that differ.
    """
    text = formula_text(model.design_spec_.terms, fixed, smooths=smooths)
    return type(model)(**{**model.get_params(deep=False), "formula": text, **settings})


def drop1(model, data, y=None, *, groups=None, sample_weight=None) -> NotedTable:
    """Likelihood-ratio tests of the fixed effects, each term left out in turn.

    The model is fitted again by maximum likelihood without every term that no other term contains:
    a main effect stays as long as its interactions are there.

    Parameters
    ----------
    model : fitted MixedLinearRegressor, MixedGLMRegressor or MixedLogisticClassifier
    data : DataFrame
        The X of the fit.
    y, groups, sample_weight : optional
        As at the fit.

    Returns
    -------
    NotedTable
        A DataFrame with n_params, log_likelihood, aic, lrt, df and p_value by term, and first the
        model itself, ``<none>``, by maximum likelihood.

    Raises
    ------
    ValueError
        For a model that is not fitted, and data that are not those of the fit.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_cake
    >>> from skmixed.inference import drop1
    >>> cake = load_cake().frame
    >>> model = MixedLinearRegressor("angle ~ recipe + temp + (1 | recipe:replicate)").fit(cake)
    >>> drop1(model, cake)[["n_params", "lrt", "df"]].round(3)
            n_params     lrt   df
    term
    <none>         6     NaN  NaN
    recipe         4   0.530  2.0
    temp           5  79.531  1.0
    """
    effects = FixedEffects.of(model)
    if not isinstance(effects.fit, MixedFit):
        raise ValueError(f"drop1 is for mixed models, got {type(model).__name__}")
    refuse_curves(
        effects.fit,
        "drop1 is",
        "fit the models without a term yourself and compare them by likelihood_ratio_test",
    )
    settings = {"reml": False} if hasattr(model, "reml") else {}
    given = {"groups": groups, "sample_weight": sample_weight}

    def fitted(names):
        with warnings.catch_warnings():  # those of the fit itself have been told
            warnings.simplefilter("ignore", RankDeficiencyWarning)
            warnings.simplefilter("ignore", SingularFitWarning)
            return with_fixed(model, " + ".join(names), **settings).fit(data, y, **given)

    names = term_names(model.design_spec_.terms.fixed)
    names = names if "1" in names else ["0", *names]
    whole = fitted(names)
    _check_data(model, whole)
    rows = {"<none>": [*_likelihood(whole), np.nan, np.nan, np.nan]}
    for term, text in _with_texts(model, effects.fit.terms, _without_constant(names)):
        if not _is_contained(term, effects.fit.terms):
            smaller = fitted([name for name in names if name != text])
            test = likelihood_ratio_test(smaller, whole).iloc[1]
            rows[term.name] = [*_likelihood(smaller), *test[["Chisq", "Df", "p-value"]]]
    index = pd.Index(list(rows), name="term", dtype=object)
    return NotedTable.of(list(rows.values()), COLUMNS, index)


def _without_constant(names):
    return [name for name in names if name not in ("0", "1")]


def _with_texts(model, terms, texts):
    """(term of X, text in the formula); the lines of smooth terms stay with these."""
    smooths = model.design_spec_.smooths
    lines = {j for part in smooths for j in np.flatnonzero(part.lines.columns)}
    own = [term for term in terms if lines.isdisjoint(term.columns)]
    texts = [text for text in texts if not smooths or any(t.name == _plain(text) for t in own)]
    return zip(own, texts, strict=True)


def _plain(text):
    return text.replace("`", "")


def _is_contained(term, terms):
    own = term.factors.union(term.covariates)
    return any(own < other.factors.union(other.covariates) for other in terms)


def _check_data(model, whole):
    mine, theirs = model.result_.source, whole.result_.source
    for what in ("rows", "response", "weights", "frequencies"):
        if getattr(mine, what) != getattr(theirs, what):
            raise ValueError(
                f"drop1 needs the data of the fit, and these have other {what}: pass what the "
                "model was fitted to, with the same y, groups and sample_weight"
            )


def _likelihood(model):
    return [model.result_.n_params, model.log_likelihood_, model.aic_]
