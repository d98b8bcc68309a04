"""Marginal means, trends and joint tests of fitted models."""

from __future__ import annotations

import numpy as np

from skmixed.design.parts import usage
from skmixed.inference.contrasts import contrast_family
from skmixed.inference.fixed_effects import FixedEffects, refuse_curves
from skmixed.inference.grid import ReferenceGrid, check_name
from skmixed.inference.intervals import check_level
from skmixed.inference.joint import joint_table
from skmixed.inference.marginal_means import (
    MarginalMeans,
    check_scale,
)
from skmixed.inference.noted import NotedTable
from skmixed.inference.row_labels import named_index

_MEANS_ADVICE = (
    "predict rows of the values that you mean with random_effects=False, return_std=True; "
    "differences between levels of a factor without a curve of its own are contrasts of its "
    "coefficients, contrast()"
)
_TRENDS_ADVICE = "its slope changes along the curve, which SmoothDisplay shows"
_JOINT_ADVICE = (
    "fit the model without it as well, and compare the two with likelihood_ratio_test, which fits "
    "both by maximum likelihood"
)


def emmeans(
    model,
    specs,
    by=None,
    at=None,
    *,
    weights="equal",
    ddf=None,
    level=0.95,
    scale="link",
    data=None,
    output=None,
) -> MarginalMeans:
    """Marginal means: what the model expects for levels of factors, averaged over the others.

    The reference grid has all combinations of the observed levels of the factors of the fixed
    effects, covariates at their means over the rows of the fit (sample weights count rows) and
    random effects of zero; offsets are evaluated on it. A mean is an average of its rows.

    Parameters
    ----------
    model : fitted estimator
        A linear or generalised mixed model, or a GeneralizedInverseRegressor with factors.
    specs : str, list of str or None
        Factors, or covariates with values in ``at``, that the means are for; ``"a:b"`` is
        ``["a", "b"]``, and ``[]`` the mean over everything.
    by : str or list of str, optional
        More of them, which split the means into families that are compared by themselves.
    at : dict, optional
        Values of covariates, or some of the levels of factors, in the grid: ``{"Days": [0, 5]}``.
    weights : {"equal", "proportional", "outer", "cells", "flat"}
        How the levels that are averaged over count: equally; by the frequencies of their
        combinations; by products of the frequencies of single factors; by each mean's own
        frequencies; equally where there are rows at all.
    ddf : str, optional
        Degrees of freedom: ``"satterthwaite"`` (the default of linear mixed models),
        ``"kenward_roger"``, ``"residual"`` (of models without random effects) or ``"asymptotic"``
        (all that generalised models have).
    level : float
        Confidence level.
    scale : {"link", "response"}
        Of estimates, standard errors (delta method) and limits for generalised models. On the
        response scale contrasts are ratios (log link) or odds ratios (logit).
    data : DataFrame, optional
        Rows that means, levels and frequencies are taken from, instead of those of the fit.
    output : int, optional
        Which response of a model with several.

    Returns
    -------
    MarginalMeans
        With ``frame``, ``contrast()``, ``pairs()``, ``test()``, ``letters()``, ``linfct`` and
        ``vcov``. Means that the data do not determine are NaN, with ``estimable`` False.

    Raises
    ------
    ValueError
        For a name that is neither factor nor covariate, a level that never occurred, and
        degrees of freedom that the model has not.

    References
    ----------
    Searle, Speed and Milliken (1980), Population marginal means in the linear model: an
    alternative to least squares means, The American Statistician 34, 216-221.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_machines
    >>> from skmixed.inference import emmeans
    >>> df = load_machines().frame
    >>> model = MixedLinearRegressor("score ~ Machine + (0 + Machine | Worker)").fit(df)
    >>> means = emmeans(model, "Machine")
    >>> means.frame[["estimate", "std_error", "df"]].round(2).rename_axis(None)
       estimate  std_error   df
    A     52.36       1.68  5.0
    B     60.32       3.53  5.0
    C     66.27       1.81  5.0
    >>> means.pairs().frame[["estimate", "df", "p_value"]].round(3).rename_axis(None)
           estimate   df  p_value
    A - B    -7.967  5.0    0.048
    A - C   -13.917  5.0    0.001
    B - C    -5.950  5.0    0.125
    """
    check_no_smooth(model, "emmeans", _MEANS_ADVICE)
    question = _Question(model, specs, by, at, data, output)
    check_scale(scale)
    rows = question.grid.average(question.names, question.by, weights)
    family = getattr(question.effects.fit, "family", None)
    plain = family is None or family.link.name == "identity"
    return question.answer(
        rows, "Marginal means", weights, ddf, level,
        scale=scale, distribution=None if plain else family,
    )  # fmt: skip


def emtrends(
    model,
    specs,
    var,
    by=None,
    at=None,
    *,
    weights="equal",
    ddf=None,
    level=0.95,
    data=None,
    output=None,
) -> MarginalMeans:
    """Trends: slopes of the linear predictor along a covariate, averaged like marginal means.

    The slope is a central difference of the rows of the reference grid over a thousandth of the
    covariate's range, which is exact for straight lines and parabolas.

    Parameters
    ----------
    model : fitted estimator
    specs : str, list of str or None
        Factors that the trends are for, see :func:`emmeans`; ``[]`` is the trend over everything.
    var : str
        The covariate.
    by, at, weights, ddf, level, data, output
        See :func:`emmeans`. A trend that is no straight line depends on ``at={var: ...}``.

    Returns
    -------
    MarginalMeans

    Raises
    ------
    ValueError
        As :func:`emmeans`, and for a ``var`` that is no covariate or has one value.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_cake
    >>> from skmixed.inference import emtrends
    >>> df = load_cake().frame
    >>> model = MixedLinearRegressor("angle ~ recipe * temp + (1 | recipe:replicate)").fit(df)
    >>> trends = emtrends(model, "recipe", var="temp")
    >>> trends.frame[["estimate", "std_error", "df"]].round(4).rename_axis(None)
       estimate  std_error     df
    A    0.1537     0.0282  222.0
    B    0.1646     0.0282  222.0
    C    0.1558     0.0282  222.0
    """
    check_no_smooth(model, "emtrends", _TRENDS_ADVICE, var)
    question = _Question(model, specs, by, at, data, output)
    covariates = question.grid.reference.covariates
    if var not in covariates:
        check_name(var, tuple(covariates), "var")
    if not covariates[var].high > covariates[var].low:
        raise ValueError(f"var={var!r} has one value, {covariates[var].low:g}: it has no trend")
    rows = question.grid.average(question.names, question.by, weights, trend=var)
    return question.answer(rows, f"Trends by {var}", weights, ddf, level)


def joint_tests(model, by=None, at=None, *, ddf=None, data=None, output=None) -> NotedTable:
    """Tests by term that the contrasts among marginal means are all zero.

    For every term of the fixed effects the interaction contrasts of its factors, averaged over
    the other factors with equal weights and with covariates at their means. Without empty cells
    and covariates they are the tests of type III; with empty cells the estimable part of each set
    is tested.

    Parameters
    ----------
    model : fitted estimator
    by : str or list of str, optional
        Factors within whose levels the others are tested.
    at : dict, optional
        See :func:`emmeans`. A covariate with several values counts as a factor.
    ddf : str, optional
        See :func:`emmeans`.
    data : DataFrame, optional
        See :func:`emmeans`.
    output : int, optional
        Which response of a model with several.

    Returns
    -------
    NotedTable
        One row by term (and levels of ``by``): num_df, den_df, F and p_value; for generalised
        models chi2, df and p_value. A term without an estimable contrast has 0 degrees of freedom.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_cake
    >>> from skmixed.inference import joint_tests
    >>> df = load_cake().frame
    >>> model = MixedLinearRegressor("angle ~ recipe * temperature + (1 | recipe:replicate)")
    >>> joint_tests(model.fit(df)).round(4).rename_axis(None)
                        num_df  den_df        F  p_value
    recipe                   2    42.0   0.2488   0.7809
    temperature              5   210.0  20.5199   0.0000
    recipe:temperature      10   210.0   1.0062   0.4393
    """
    for name in _curved(model, at or {}):
        check_no_smooth(model, "joint_tests", _JOINT_ADVICE, name)
    question = _Question(model, [], by, at, data, output)
    method = question.effects.method(ddf)
    tests = []
    for names in _tested(question):
        averages = question.grid.average(names, question.by)
        C = _interactions([len(question.grid.values[name]) for name in names])
        for place, (cell, K) in enumerate(_by_cell(averages, question.by, C.shape[1])):
            tests.append((place, (*cell, ":".join(names)), (C @ K, np.zeros(len(C)))))
    if not tests:
        raise ValueError(
            "joint_tests needs a factor with two levels or more among the fixed effects; a "
            "covariate counts as one with several values in at="
        )
    tests.sort(key=lambda test: test[0])
    index = named_index([key for _, key, _ in tests], (*question.by, "term"))
    return joint_table(question.effects, [test for *_, test in tests], index, method)


def check_no_smooth(model, who, advice, var=None):
    """An error for what depends on smooth functions: all of them, or those of a covariate."""
    spec = getattr(model, "design_spec_", None)
    for term in getattr(getattr(spec, "terms", None), "random", ()):
        if term.is_smooth and var in (None, term.by_column, *usage(term.expr).names):
            raise ValueError(
                f"{who} averages combinations of the coefficients, and {term.group} is more than "
                f"these: {advice}"
            )


def _curved(model, at):
    """Names whose joint tests would ask for values of a smooth function."""
    spec = getattr(model, "design_spec_", None)
    terms = getattr(getattr(spec, "terms", None), "random", ())
    return [*at, *(term.by_column for term in terms if term.is_smooth and term.by)]


class _Question:
    """A model, its reference grid, and the names that are asked about."""

    def __init__(self, model, specs, by, at, data, output):
        self.effects = FixedEffects.of(model, output=output)
        refuse_curves(
            self.effects.fit,
            "marginal means are",
            "predict() and parameters_of() give curves and parameters for rows that you make, "
            "contrast() tests functions of the coefficients",
        )
        design = getattr(model, "design_spec_", None) or getattr(model, "glm_design_", None)
        if design is None:
            raise ValueError(
                f"marginal means need the factors of the model, and {type(model).__name__} was "
                "fitted on numbers without a formula: pass a DataFrame with categorical columns"
            )
        self.grid = ReferenceGrid.of(design, len(self.effects.names), at, data)
        known = tuple(self.grid.values)
        self.names, self.by = _split(specs, known), _split(by, known)
        for name in (*self.names, *self.by):
            check_name(name, known, "specs" if name in self.names else "by")
        both = (*self.names, *self.by)
        if len(set(both)) < len(both):
            raise ValueError(f"specs and by name something twice: {', '.join(both)}")

    def answer(self, rows, what, weights, ddf, level, **more):
        """The object that holds averages of the grid."""
        check_level(level)
        title = what + (f" of {', '.join(self.names)}" if self.names else "")
        title += f" by {', '.join(self.by)}" if self.by else ""
        remarks = (self._averaging(rows.averaged, weights),) if rows.averaged else ()
        return MarginalMeans(
            self.effects, rows.index, rows.K, rows.offset, title, self.by,
            self.effects.method(ddf), level, remarks=remarks, **more,
        )  # fmt: skip

    def _averaging(self, averaged, weights):
        """What was averaged over, and whether that depends on what was asked for."""
        own = {*self.names, *self.by}
        terms = [t.variables for t in self.effects.fit.terms if not own.isdisjoint(t.variables)]
        both = [name for name in averaged if any(name in variables for variables in terms)]
        text = f"Averaged over {', '.join(averaged)} (weights: {weights})"
        if not both:
            return text + "."
        return f"{text}; the model has interactions with {', '.join(both)}."


def _split(specs, known):
    """Names of ``"a"``, ``"a:b"`` or a list of them."""
    if isinstance(specs, str):
        return (specs,) if specs in known else tuple(specs.replace(" ", "").split(":"))
    return tuple(specs or ())


def _tested(question):
    """Factors of every term, by order of interaction; those of ``by`` left out."""
    grid, found = question.grid, {}
    for term in question.effects.fit.terms:
        names = [n for n in grid.varying if n in term.variables and n not in question.by]
        found.setdefault(tuple(names), None)
    return sorted((names for names in found if names), key=len)


def _interactions(sizes):
    """Products of comparisons with the first level; the first factor runs fastest."""
    C = np.ones((1, 1))
    for size in sizes:
        C = np.kron(contrast_family("trt.vs.ctrl", range(size)).K, C)
    return C


def _by_cell(averages, by, size):
    """(levels of ``by``, rows K) of every cell; ``by`` runs slowest."""
    first = averages.index[::size].to_frame(index=False)[list(by)]
    levels = first.itertuples(index=False, name=None) if by else [()]
    return zip(levels, averages.K.reshape(-1, size, averages.K.shape[1]), strict=True)
