"""Tests of mixed models by term, of types I, II and III.

What a term's hypothesis is depends on the cells that the data have and on nothing else: not on
codings, not on estimated variances, not on prior weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from skmixed.design.full import full_design
from skmixed.inference.fixed_effects import FixedEffects, refuse_curves
from skmixed.inference.noted import NotedTable
from skmixed.inference.term_rows import TermStructure

TYPES = {1: 1, 2: 2, 3: 3, "I": 1, "II": 2, "III": 3}
EMPTY_NOTE = (
    "Combinations of levels are missing in the data: which functions of the coefficients a term "
    "tests depends on which, and terms without degrees of freedom have nothing left to test."
)
ALIASED_NOTE = "Left out as combinations of other columns: {}."


def anova_of_terms(model, type=3, ddf=None) -> NotedTable:
    """Tests of all terms of a fitted mixed model.

    Parameters
    ----------
    model : fitted MixedLinearRegressor, MixedGLMRegressor or MixedLogisticClassifier
    type : {1, 2, 3}
        1: each term after those before it. 2: each after all that do not contain it. 3: the
        functions of a term and of those containing it that are orthogonal to what the latter have
        alone; without empty cells they compare unweighted marginal means.
    ddf : str, optional
        How denominator degrees of freedom are found.

    Returns
    -------
    NotedTable
        Of linear models num_df, den_df, F, p_value, sum_sq (F num_df sigma^2, F before its
        scaling by Kenward and Roger) and mean_sq by term; of generalised models chi2, df, p_value.

    Raises
    ------
    ValueError
        For another type, and degrees of freedom that the fit has not.
    """
    if type not in TYPES:
        raise ValueError(f"anova has types 1, 2 and 3, got type={type!r}")
    effects = FixedEffects.of(model)
    refuse_curves(
        effects.fit,
        "tests by term are",
        "compare models with and without the term by likelihood_ratio_test, or test coefficients "
        "by contrast()",
    )
    method = effects.method(ddf)
    general = effects.fit.df_methods == ("asymptotic",)
    rows = _term_rows(model, effects, TYPES[type], general)
    tests = [effects.joint_test(K, method) for K in rows.values()]
    index = pd.Index(list(rows), name="term", dtype=object)
    notes = (*effects.notes(method), *effects.smooth_notes, *_rank_notes(effects))
    if general:
        found = [(t.df_num * t.F, t.df_num, t.p_value) for t in tests]
        return NotedTable.of(found, ["chi2", "df", "p_value"], index, notes)
    found = [_row(test, effects.sigma(method) ** 2) for test in tests]
    columns = ["sum_sq", "mean_sq", "num_df", "den_df", "F", "p_value"]
    return NotedTable.of(found, columns, index, notes)


def _row(test, variance):
    mean = test.F / test.scale * variance
    return mean * test.df_num, mean, test.df_num, test.df_den, test.F, test.p_value


def _rank_notes(effects):
    """Why terms may have lost degrees of freedom."""
    lost = np.flatnonzero(effects.aliased)
    terms = [term for term in effects.fit.terms if np.isin(lost, term.columns).any()]
    cells = any(len(term.factors) > 1 for term in terms)
    names = ", ".join(effects.names[j] for j in lost)
    return (EMPTY_NOTE,) * cells + (ALIASED_NOTE.format(names),) * bool(len(lost))


def _term_rows(model, effects, kind, general):
    """{name of a term: rows K (d, p) that a type tests}."""
    fit, full = effects.fit, full_design(model.design_spec_.fixed)
    basis = fit.basis
    columns = basis.combinations.T @ full.C  # of the full design on those that were kept
    structure = TermStructure.build(full.terms, fit.source.moments.root @ basis.rows @ columns)
    to_user = structure.in_columns(np.eye(len(structure.kept)), full.C)
    to_user = to_user[:, basis.kept] @ basis.combinations.T
    if general and kind < 3:
        structure = _by_likelihood(structure, effects, to_user)
    return {term.name: structure.rows(term, kind) @ to_user for term in structure.terms}


def _by_likelihood(structure, effects, to_user):
    """The structure with information in the place of X'X, and containment by all variables.

    A term is contained in another that has all of its factors and covariates, as in Wald tests of
    R's car: covariates are no different from factors where there are no sums of squares.
    """
    terms = tuple(
        replace(term, factors=term.factors.union(term.covariates), covariates=())
        for term in structure.terms
    )
    vcov = effects.covariance(to_user)
    if not np.isfinite(vcov).all():
        raise ValueError(
            "coefficients without finite estimates have no tests of types 1 and 2: leave the "
            "columns out that separate the outcomes, or merge categories"
        )
    return replace(structure, terms=terms, gram=np.linalg.inv(vcov))
