"""Influence of single rows, and of all rows of a level, on a fitted model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.inference.clusters import ClusterSums, unshared
from skmixed.inference.deletions import deletion_sums
from skmixed.inference.observed import level_codes, observed_rows
from skmixed.linalg.threads import one_thread
from skmixed.models.observed import RESIDUALS

_WHO = "influence"
# Rows of the core from which a second BLAS thread pays.
_WORTH_THREADS = 1000
# Share of the information on a direction of the coefficients that must be left without a level.
_LOST = 1e-10
# Share of a coefficient's length in lost directions that is more than rounding.
_INVOLVED = 1e-8


def influence(model, X, y=None, level=None, *, groups=None, sample_weight=None) -> pd.DataFrame:
    """What every row, or every level of a factor, does to a fitted model.

    The covariance parameters are held at their estimates: everything follows from one pass over
    the rows, without a refit.

    By row, with h the leverage and e the Pearson residual, p coefficients:

    .. math:: h_i = w_i \\lVert L^{-1} [\\Lambda'z_i; x_i] \\rVert^2, \\quad
        D_i = \\frac{e_i^2 h_i}{\\sigma^2 p (1 - h_i)^2}

    The leverages add up to the effective number of parameters. In generalised models they are
    those of the linear model with the working weights at the mode, and D is that of one step of
    Newton's method from there without the row.

    By level, for the rows X, e and the covariance V of one level, e the residuals y - X beta:

    .. math:: \\beta - \\beta_{(l)} = (\\Phi^{-1} - X'V^{-1}X)^{-1} X'V^{-1}e, \\quad
        D_l = (\\beta - \\beta_{(l)})' \\Phi^{-1} (\\beta - \\beta_{(l)}) / p

    Where the level shares random effects with others, as with crossed factors, what is left of the
    information without its rows takes the place of these two products.

    Parameters
    ----------
    model : estimator
        A fitted mixed model, with random effects or without.
    X : DataFrame or array of n rows
        The rows of the fit, in any order.
    y : (n,), optional
        The response; two-sided formulas find it in X.
    level : str or (n,) array, optional
        A grouping factor of the model, a column of X, or the level of every row: one line per
        level instead of one per row, for linear models. Levels that share random effects with
        others, as with crossed factors, cost a solution of the equations for every row.
    groups : (n,), optional
        Levels of ``groups``, for a model fitted with them.
    sample_weight : (n,), optional
        That of the fit. A row that counts twice is one of two rows by row, and both by level.

    Returns
    -------
    DataFrame
        By row, with the index of X: ``leverage``, ``cooks_distance`` and the residuals
        ``response, pearson, scaled, studentized, marginal, deviance`` of
        :meth:`~skmixed.MixedLinearRegressor.residuals`; NaN in rows that the fit left out. By
        level: ``n_rows``, ``cooks_distance``, and for every fixed effect the change
        beta - beta_(l), NaN where the other levels do not determine the coefficient.

    Raises
    ------
    ValueError
        For rows that are not those of the fit; with ``level`` for generalised models, and for
        models from files where levels share random effects.

    References
    ----------
    Demidenko and Stukel (2005), Influence analysis for linear mixed-effects models, Statistics in
    Medicine 24, 893-909; Pregibon (1981), Logistic regression diagnostics, Annals of Statistics 9,
    705-724, for the single step.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference import influence
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> influence(model, df)[["leverage", "cooks_distance"]].head(2).round(3)
       leverage  cooks_distance
    0     0.229           0.005
    1     0.170           0.040
    >>> influence(model, df, level="Subject").round(2).head(2)
             n_rows  cooks_distance  Intercept  Days
    Subject
    308          10            0.09      -0.42  0.66
    309          10            0.15      -2.73 -0.48
    """
    observed = observed_rows(model, X, y, groups, sample_weight, _WHO)
    if level is None:
        return _by_row(observed, X)
    if not observed.fit.is_linear:
        raise ValueError(
            f"{_WHO} by level is for linear models, got {type(model).__name__}: without a level's "
            "rows its likelihood has no closed form. Fit again without them"
        )
    return influence_by_level(observed, *level_codes(model, X, observed, level, groups, _WHO))


def _by_row(observed, X):
    columns = {"leverage": observed.leverage, "cooks_distance": observed.cooks_distance()}
    columns |= {kind: observed.residuals(kind) for kind in RESIDUALS}
    index = X.index if isinstance(X, pd.DataFrame) else None
    return pd.DataFrame({k: observed.over_input(v) for k, v in columns.items()}, index=index)


def influence_by_level(observed, codes, levels):
    """The lines by level of observed rows of a linear model, with codes (n,) of their levels."""
    fit = observed.fit
    change, lost = _changes(*_sums(observed, codes, len(levels)))
    half = fit.unscaled_on_basis(fit.basis.to_coef)
    involved = np.abs(half @ lost).max(axis=2, initial=0.0)
    unknown = involved > _INVOLVED * np.linalg.norm(half, axis=1)
    by_coefficient = np.full((len(levels), len(fit.names)), np.nan)
    by_coefficient[:, fit.basis.kept] = np.where(unknown, np.nan, change @ half.T)
    distance = (change**2).sum(axis=1) / (fit.sigma**2 * max(fit.rank, 1))
    counts = np.bincount(codes, observed.counts, len(levels))
    counts = counts.astype(int) if (counts == counts.round()).all() else counts
    table = pd.DataFrame(by_coefficient, index=levels, columns=list(fit.names))
    table.insert(0, "n_rows", counts)
    table.insert(1, "cooks_distance", np.where(unknown.any(axis=1), np.nan, distance))
    return table


def _sums(observed, codes, n_levels):
    """(scores (J, r), sums (J, r, r)): X'V^-1 e and X'V^-1 X of the rows of every level.

    Where levels share random effects with others V is not that of the level's rows alone.
    """
    if not unshared(observed.random, codes):
        sums = ClusterSums.of(observed, codes, n_levels)
        return sums.scores, sums.sums
    if observed.fit.objective is None:
        raise ValueError(
            f"{_WHO} by levels that share random effects needs the cross-products of the data, "
            "which are not pickled: fit the model again in this process"
        )
    with one_thread(observed.fit.factor.system.dense_rows < _WORTH_THREADS):
        return deletion_sums(observed, codes, n_levels)


def _changes(scores, sums):
    """Changes (J, r) of the whitened coefficients, and directions (J, r, r) that get lost."""
    left, V = np.linalg.eigh(np.eye(scores.shape[1]) - sums)
    known = left > _LOST
    along = np.einsum("jrk,jr->jk", V, scores)
    along = np.where(known, along / np.where(known, left, 1.0), 0.0)
    return np.einsum("jrk,jk->jr", V, along), np.where(known[:, None], 0.0, V)
