"""Collinearity and scale of design matrices: what is nearly dependent, and what would help."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg import svd

from skmixed.linalg.rank import independent_columns

# Report thresholds, conventional ones: caret's for 95/5 and 10 %. A factor 1e6 between a column's
# mean and spread costs 6 of its 16 digits, one of 1e8 between two columns makes X'X useless in
# double precision unless it is scaled.
LARGE_VIF = 10.0
FREQUENCY_RATIO, UNIQUE_PERCENT = 95 / 5, 10.0
LARGE_SHIFT, LARGE_RATIO = 1e6, 1e8


@dataclass(frozen=True)
class Collinearity:
    """Condition indices with variance shares, and variance inflation, of one design.

    Attributes
    ----------
    indices : DataFrame (p rows)
        ``condition_index`` (largest singular value over each) and, by column, the share of the
        coefficient's variance that comes from that direction. Two shares above 0.5 beside an
        index above 30 name a near dependence.
    inflation : Series
        Variance inflation ``1 / (1 - R_j^2)``; infinite for columns that depend exactly.
    """

    indices: pd.DataFrame
    inflation: pd.Series


def collinearity(X, *, fit_intercept=True) -> Collinearity:
    """Near dependences of the columns of X.

    Columns are centred if the model has an intercept and scaled to unit length, so units and
    shifts do not matter.

    Parameters
    ----------
    X : (n, p) array or DataFrame
        Constant columns have no spread and are left out.
    fit_intercept : bool

    References
    ----------
    Belsley, Kuh and Welsch (1980), Regression Diagnostics, chapter 3.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(8.0)
    >>> report = collinearity(np.column_stack([x, x + np.tile([0, 0.1], 4)]))
    >>> report.inflation.round().tolist()
    [2227.0, 2227.0]
    """
    names, X = _named(X)
    centre = X.mean(axis=0) if fit_intercept else 0.0
    Z = X - centre
    size = np.linalg.norm(Z, axis=0)
    varies = size > 64 * np.finfo(float).eps * np.linalg.norm(X, axis=0)
    Z = Z[:, varies] / size[varies]
    _, s, Vt = svd(Z, full_matrices=False)
    # More columns than rows: the missing singular values are 0.
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (Vt.T / s) ** 2
        shares = shares / shares.sum(axis=1, keepdims=True)
        table = pd.DataFrame(shares.T, columns=names[varies])
        table.insert(0, "condition_index", s[0] / s if s.size else s)
    inflation = pd.Series(_inflation(X, fit_intercept), index=names, name="inflation")
    return Collinearity(table, inflation[varies])


def variance_inflation(basis) -> np.ndarray:
    """1 / (1 - R^2) of every kept column given the others, (r,), from a ColumnBasis."""
    return (np.linalg.norm(basis.to_coef, axis=1) * basis.size[basis.kept]) ** 2


def _inflation(X, fit_intercept):
    """Variance inflation by column; infinite for all members of an exact dependence."""
    basis = independent_columns(X, add_intercept=fit_intercept)
    found = np.full(basis.aliased.size, np.inf)
    found[basis.kept] = variance_inflation(basis)
    found[basis.kept[(basis.combinations[basis.aliased] != 0).any(axis=0)]] = np.inf
    return found[int(fit_intercept) :]


def near_zero_variance(X) -> pd.DataFrame:
    """Columns with (almost) only one value, by caret's rule.

    ``frequency_ratio`` is the count of the most common value over that of the second; a column is
    near-constant if it exceeds 95/5 while at most 10 % of the rows hold distinct values. Missing
    values are left out of the counts.

    Returns
    -------
    DataFrame
        frequency_ratio, percent_unique, constant, near_constant by column.

    References
    ----------
    Kuhn (2008), Building predictive models in R using the caret package, J. Stat. Software 28(5).

    Examples
    --------
    >>> import numpy as np
    >>> near_zero_variance(np.array([[0] * 96 + [1, 2, 3, 4]]).T)["near_constant"].tolist()
    [True]
    """
    names, X = _named(X, missing=True)
    rows = [_value_counts(column[~np.isnan(column)]) for column in X.T]
    table = pd.DataFrame(rows, columns=["frequency_ratio", "distinct"], index=names)
    distinct = table.pop("distinct")
    percent = 100.0 * distinct / max(len(X), 1)
    table["percent_unique"] = percent
    table["constant"] = distinct <= 1
    often = (table["frequency_ratio"] > FREQUENCY_RATIO) & (percent <= UNIQUE_PERCENT)
    table["near_constant"] = often | table["constant"]
    return table


def _value_counts(column):
    """(count of the most common value over that of the second, number of distinct values)."""
    counts = np.sort(np.unique(column, return_counts=True)[1])[::-1]
    return (counts[0] / counts[1] if counts.size > 1 else 0.0), counts.size


def scale_advice(names, mean, size) -> list[tuple[str, str]]:
    """(column, advice) where a shift or a unit costs digits, from means and spreads."""
    mean, size = np.asarray(mean, dtype=float), np.asarray(size, dtype=float)
    found = []
    for name, m, s in zip(names, mean, size, strict=True):
        if s > 0 and abs(m) > LARGE_SHIFT * s:
            found.append(
                (name, f"mean {m:.3g} with spread {s:.3g}: subtract the mean, best before storing")
            )
    used = size > 0
    if used.any() and size.max() > LARGE_RATIO * size[used].min():
        small, large = names[np.where(used, size, np.inf).argmin()], names[size.argmax()]
        text = f"spreads from {size[used].min():.3g} ({small}) to {size.max():.3g} ({large})"
        found.append((small, text + ": change units or scale before penalties and distances"))
    return found


def _named(X, missing=False):
    """(names, float matrix) of an array or DataFrame."""
    values = np.asarray(X, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"a design matrix has 2 dimensions, got shape {values.shape}")
    if not missing and not np.isfinite(values).all():
        raise ValueError("the design matrix contains NaN or infinity")
    columns = getattr(X, "columns", None)
    names = [f"x{j}" for j in range(values.shape[1])] if columns is None else list(columns)
    return np.array(names, dtype=object), values
