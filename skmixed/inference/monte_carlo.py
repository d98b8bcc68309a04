"""Monte-Carlo errors of criteria: what they leave of a likelihood-ratio test."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import t as student

# Change of a p-value, as a share of itself, that may change its reading, and p-values that are read
# alike.
_CHANGE, _TINY = 0.1, 1e-4
# Errors up to which a statistic is exact but for rounding: zero where a variance is zero.
_ROUNDING = 1e-6


def difference_error(first, other) -> float:
    """Standard error of the difference of two fits' criteria; 0.0 where both are exact.

    The iterative solver takes the same random vectors for all models of the same data, so that what
    their criteria have in common cancels.
    """
    one, two = (getattr(fit, "monte_carlo", None) for fit in (first, other))
    mine, theirs = (None if record is None else record.samples for record in (one, two))
    if mine is None or theirs is None or len(mine) != len(theirs):
        return math.hypot(*(0.0 if r is None else r.deviance_std for r in (one, two)))
    k = len(mine)
    widened = student.ppf(0.975, k - 1) / 1.959964
    return float(widened * np.std(mine - theirs, ddof=1) / np.sqrt(k))


def sure_p_value(p_value, statistic, error):
    """(p-value of the statistic, what is wrong with it): NaN where the error could change it.

    Parameters
    ----------
    p_value : callable
        statistic -> p-value.
    statistic : float
    error : float
        Standard deviation of its Monte-Carlo error.
    """
    p = p_value(statistic)
    if error <= _ROUNDING or not np.isfinite(p):
        return p, ""
    low, high = p_value(statistic + 2 * error), p_value(max(statistic - 2 * error, 0.0))
    if high <= _TINY or max(high - p, p - low) <= _CHANGE * p:
        return p, ""
    return np.nan, (
        f"the statistic {statistic:.4g} has a Monte-Carlo error of {error:.2g}, with which its "
        f"p-value could be anything from {low:.2g} to {high:.2g}: raise n_probes, or use "
        "solver='direct'"
    )
