"""Limits from bootstrap draws: percentile, basic, normal, BCa.

Quantiles are order statistics number (n + 1) p, interpolated (Davison and Hinkley 1997, section
2.4).
"""

from __future__ import annotations

from math import ceil

import numpy as np
from scipy.stats import norm

METHODS = ("percentile", "basic", "normal", "bca")
_FEW = "only {} of the draws are known, too few for these limits"


def check_enough(n, level, method):
    """Raise ValueError for fewer draws than reach into the tails."""
    need = draws_needed(level)
    if method != "normal" and n < need:
        raise ValueError(
            f"limits of level {level:g} are order statistics number (n + 1) {(1 - level) / 2:.3g}, "
            f"which takes {need} draws at least, and there are {n}: draw more, or use "
            "method='normal'"
        )


def draws_needed(level):
    """Least number of draws with an order statistic in either tail."""
    return ceil(2.0 / (1.0 - level) - 1.0 - 1e-9)


def limits_by(method, draws, estimate, level, acceleration=None):
    """(lower, upper, note) of draws (n,), NaN where there are none."""
    draws = np.asarray(draws, dtype=float)
    draws = draws[~np.isnan(draws)]
    if np.isnan(estimate) or not len(draws):
        return np.nan, np.nan, "not determined by the fit, or by no refit"
    if len(draws) < (2 if method == "normal" else draws_needed(level)):
        return np.nan, np.nan, _FEW.format(len(draws))
    if method == "bca":
        return _bca(draws, estimate, level, acceleration)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "normal":
        with np.errstate(invalid="ignore"):
            half = norm.ppf(tails[1]) * draws.std(ddof=1)
            center = 2 * estimate - draws.mean()
        return center - half, center + half, ""
    lower, upper = _quantiles(draws, tails)
    if method == "basic":
        lower, upper = 2 * estimate - upper, 2 * estimate - lower
    return lower, upper, ""


def _quantiles(draws, p):
    return np.quantile(draws, p, method="weibull")


def acceleration(values):
    """Acceleration from the statistic without every level in turn (J,): a sixth of the skewness.

    NaN where fewer than three levels are known.
    """
    values = values[np.isfinite(values)]
    if len(values) < 3:
        return np.nan
    d = values.mean() - values
    square = float(d @ d)
    return float(np.sum(d**3) / (6 * square**1.5)) if square > 0 else 0.0


def _bca(draws, estimate, level, a):
    """Efron (1987), equation 3.9: quantiles at corrected levels."""
    below = (np.sum(draws < estimate) + 0.5 * np.sum(draws == estimate)) / len(draws)
    if not 0 < below < 1:
        side = "above" if below == 0 else "below"
        return np.nan, np.nan, f"all draws are {side} the estimate, so that BCa has no limits"
    if np.isnan(a):
        return np.nan, np.nan, "fewer than three levels tell the acceleration that BCa needs"
    z0, z = norm.ppf(below), norm.ppf([(1 - level) / 2, (1 + level) / 2])
    stretch = 1 - a * (z0 + z)
    if (stretch <= 0).any():
        return np.nan, np.nan, f"the acceleration {a:.3g} is too large for limits of this level"
    p = norm.cdf(z0 + (z0 + z) / stretch)
    lower, upper = _quantiles(draws, p)
    n = len(draws)
    outside = p[0] * (n + 1) < 1 or p[1] * (n + 1) > n
    note = "a limit is the most extreme of all draws: BCa needs more of them" if outside else ""
    return lower, upper, note
