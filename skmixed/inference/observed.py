"""The door for questions that need the rows again: the data beside a fitted model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.inference.clusters import unshared


def observed_rows(model, X, y, groups, sample_weight, who):
    """ObservedRows of the data of a fitted estimator; an error if they are not those of its fit.

    Parameters
    ----------
    model : estimator
    X, y, groups, sample_weight
        As at the fit; two-sided formulas find y in X.
    who : str
        The function that asks, for messages.
    """
    if not hasattr(model, "_observe"):
        raise TypeError(
            f"{who} takes a fitted mixed model, got {type(model).__name__}: least squares is "
            "MixedLinearRegressor with a formula without random effects"
        )
    if not hasattr(model, "result_"):
        raise ValueError(f"{who}: this {type(model).__name__} is not fitted: call fit first")
    observed = model._observe(X, y, groups, sample_weight)
    observed.check_fitted_to(who)
    return observed


def level_codes(model, X, observed, by, groups, who):
    """(codes (n,), levels) of the observed rows in a factor.

    ``by``: the name of a grouping factor of the model or of a column of X, or an array with a
    value for every row of X.
    """
    if isinstance(by, str):
        for term in observed.random:
            if term.group == by and term.n_levels > 1:  # else related levels, or a field
                return _in_use(term.codes, pd.Index(term.levels, name=by))
        name, by = by, model._column(X, by, groups)
    else:
        name = getattr(by, "name", None)
    if np.shape(by) != (observed.n_input,):
        raise ValueError(
            f"{who} needs one level for each of the {observed.n_input} rows of X, got shape "
            f"{np.shape(by)}"
        )
    codes, levels = pd.factorize(pd.Series(by).iloc[observed.rows], sort=True)
    if (codes < 0).any():
        raise ValueError(
            f"{who}: the level is missing in {int(np.sum(codes < 0))} rows: fill it in, or fit "
            "without these rows"
        )
    return codes, pd.Index(levels, name=name)


def _in_use(codes, levels):
    """Codes among the levels that occur, and these levels."""
    used, codes = np.unique(codes, return_inverse=True)
    return codes.ravel(), levels[used]


def outermost(observed, who):
    """Name of the grouping factor whose levels contain whole levels of all others."""
    names = list(dict.fromkeys(term.group for term in observed.random))
    codes = {term.group: term.codes for term in observed.random}
    if not names:
        raise ValueError(
            f"{who}: the model has no grouping factor: name the clusters, cluster='column'"
        )
    _check_clusters(observed, who)
    for name in names:
        if not unshared(observed.random, codes[name]):
            return name
    raise ValueError(
        f"{who}: no grouping factor contains whole levels of the others ({', '.join(names)} are "
        "crossed), so that no rows are independent of the rest. Use the model's own covariance "
        "with ddf='kenward_roger', or name clusters that contain whole levels of all factors"
    )


def _check_clusters(observed, who):
    """An error for effects that all rows share."""
    for term in observed.random:
        if term.relationship is not None or term.n_levels == 1:
            what = (
                "related levels of"
                if term.relationship is not None
                else "one function or field over"
            )
            raise ValueError(
                f"{who}: the model has {what} {term.group!r}, so that no rows are independent of "
                "the rest. Use the model's own covariance"
            )


def check_independent(observed, codes, by, who):
    """An error if some level of a grouping factor has rows in several clusters."""
    _check_clusters(observed, who)
    shared = dict.fromkeys(term.group for term in unshared(observed.random, codes))
    if not shared:
        return
    name = f"of {by!r} " if isinstance(by, str) else ""
    raise ValueError(
        f"{who}: levels of {', '.join(map(repr, shared))} have rows in several levels {name}, "
        "which are therefore not independent of each other. Take levels that contain whole levels "
        "of every grouping factor, such as those of the outermost one; with crossed factors there "
        "are none: leave a factor out, or use ddf='kenward_roger' for tests"
    )
