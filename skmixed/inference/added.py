"""Score tests of columns that a model does not have: a squared covariate, a squared predictor."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.linalg.system import Effects

# Share of a column that must be left beside the columns and effects of the model.
_NEW = 1e-8
_WHAT = "score tests of further columns"
# A covariate needs a third value for its square to be another column.
_VALUES = 3


def added_columns(observed, columns):
    """Tests of each of some further columns, the covariance parameters being held.

    With W the weights and s the scores of the rows at the joint mode, and q what the fixed and the
    random effects leave of a column Q,

        z = Q's / sqrt(Q'W q),

    the score test of its coefficient. In linear models t^2 = z^2 (v - 1) / (v - z^2) with v
    residual degrees of freedom, which without random effects is the t test of the added column.

    Parameters
    ----------
    observed : ObservedRows
        Of the rows of the fit, whose factor must be there.
    columns : dict of str to (n,)

    Returns
    -------
    DataFrame
        statistic and p_value by column; columns that the model has are left out.

    Raises
    ------
    ValueError
        For a model from a file, which has no cross-products, for separated fits, and for residual
        structures.
    """
    if observed.residual:
        raise ValueError(
            f"{_WHAT} are known for residuals that are independent with one variance: fit again "
            "with the column, and test it"
        )
    names = list(columns)
    Q = np.column_stack([np.asarray(columns[name], dtype=float) for name in names])
    Q = Q - Q.mean(axis=0)
    size = np.sqrt((Q**2).mean(axis=0))
    Q = Q / np.where(size > 0, size, 1.0)
    score, weight = (observed.counts * part for part in observed.derivatives)
    left = Q - _explained(observed, Q, weight)
    variance = np.einsum("n,nq,nq->q", weight, Q, left)
    new = (size > 0) & (variance > _NEW * (weight @ Q**2))
    z = (score @ Q)[new] / np.sqrt(variance[new])
    index = [name for name, is_new in zip(names, new, strict=True) if is_new]
    return pd.DataFrame(_tests(z, observed), index=index)


def has_whole_factor(fit):
    """Whether the factor of a fit knows all coefficients; that of a separated fit does not."""
    return fit.factor is not None and len(fit.factor.fixed_root) == fit.rank


def curvature_columns(observed, lines=frozenset()):
    """Squares of the covariates that enter X in straight lines, by name.

    lines : columns of X that smooth functions bend.
    """
    found = {}
    for term in observed.fit.terms:
        is_line = not term.factors and len(term.covariates) == 1 and len(term.columns) == 1
        if is_line and lines.isdisjoint(term.columns):
            x = observed.X[:, term.columns[0]]
            if len(np.unique(x)) >= _VALUES:
                found[f"{term.name} squared"] = _square(x)
    return found


def link_column(observed):
    """The square of the part of the linear predictor that the fixed effects make."""
    return {"linear predictor squared": _square(observed.expected)}


def _square(x):
    return (x - x.mean()) ** 2


def _explained(observed, Q, weight):
    """What X and Z explain of columns (n, q), by the mixed-model equations."""
    fit = observed.fit
    X = fit.basis.orthonormal(observed.X)
    groups = fit.layout.groups_of(observed.random)
    right = [np.stack([g.sums(weight * q) for q in Q.T], axis=1) for g in groups]
    factor = fit._factor(_WHAT)
    if not has_whole_factor(fit):
        raise ValueError(
            f"{_WHAT} are not for a separated fit, whose coefficients have no information: leave "
            "the separated rows or columns out"
        )
    if not factor.has_system:
        raise ValueError(
            f"{_WHAT} need the cross-products of the data, which are not pickled: fit the model "
            "again in this process"
        )
    x, _ = factor.solve(Effects(right, X.T @ (weight[:, None] * Q)))
    found = X @ x.fixed
    for group, b in zip(groups, x.random, strict=True):
        found += np.column_stack([group.values(b[:, k]) for k in range(Q.shape[1])])
    return found


def _tests(z, observed):
    if not observed.fit.is_linear:
        return {"statistic": z, "p_value": 2 * stats.norm.sf(np.abs(z))}
    df = observed.fit.n_obs - observed.fit.rank
    with np.errstate(divide="ignore", invalid="ignore"):
        t = z * np.sqrt((df - 1) / np.maximum(df - z**2, 0.0))
    return {"statistic": t, "p_value": 2 * stats.t.sf(np.abs(t), max(df - 1, 1))}
