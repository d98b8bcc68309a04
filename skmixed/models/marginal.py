"""Means of a response over a normal distribution of its linear predictor.

    m(eta, s) = E g(eta + s Z),    Z ~ N(0, 1),  g the inverse of the link

in closed form for the links identity, log, sqrt and probit, and for others by the trapezoidal
rule, whose error falls faster than any power of the step for an analytic integrand that vanishes
at both ends (Trefethen and Weideman 2014, SIAM Review 56, 385-458). For a probability p the nodes
are centred at the largest value of p(eta + s z) phi(z), where the integral is even if p is tiny;
the step is halved until two sums agree.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from skmixed.families import PROBABILITIES

# phi(z) is below rounding so many standard deviations from its centre.
_REACH = 9.0
# Agreement of two sums relative to their size: the error of the second is about its square.
_AGREE = 1e-8
# Least step tried; for the cauchit link it is enough for standard deviations of some 500.
_HALVINGS = 12

# Standard deviations to a pole of the mean from which on it lies beyond the nodes.
_FAR = 10.0

_CLOSED = {
    "identity": lambda eta, variance: eta,
    "log": lambda eta, variance: np.exp(eta + variance / 2),
    "sqrt": lambda eta, variance: eta**2 + variance,
    "probit": lambda eta, variance: ndtr(eta / np.sqrt(1 + variance)),
}


def marginal_mean(family, eta, variance):
    """E of the response (n,) where the linear predictor is N(eta, variance).

    NaN where there is none. The mean of a reciprocal exists only in practice, where zero is many
    standard deviations away; a mean outside the family's range is none.

    Parameters
    ----------
    family : Family
    eta, variance : (n,)
    """
    eta, variance = np.asarray(eta, dtype=float), np.asarray(variance, dtype=float)
    link = family.link.name
    with np.errstate(all="ignore"):
        if link in _CLOSED:
            mean = _CLOSED[link](eta, variance)
        elif link in PROBABILITIES:
            mean = _by_quadrature(family, eta, np.sqrt(variance))
        else:
            sd = np.sqrt(variance)
            mean = np.full(len(eta), np.nan)
            far = np.abs(eta) > _FAR * sd
            mean[far] = _by_quadrature(family, eta[far], sd[far])
        low, high = family.predictor_range
        if link in ("identity", "inverse", "inverse_squared", "sqrt"):
            return np.where((eta > low) & (eta < high), mean, np.nan)
        return np.where(mean <= 1, mean, np.nan) if family.name == "binomial" else mean


def _by_quadrature(family, eta, sd):
    """The trapezoidal rule with steps 1/2, 1/4, ... for the rows that are not settled."""
    center = _largest(family.link.name, eta, sd)
    mean = _sum_at(family, eta, sd, center, np.arange(-2 * _REACH, 2 * _REACH + 1) / 2) / 2
    left, step = np.flatnonzero(np.isfinite(eta)), 0.5
    for _ in range(_HALVINGS):
        between = np.arange(-_REACH + step / 2, _REACH, step)
        more = _sum_at(family, eta[left], sd[left], center[left], between)
        finer = mean[left] / 2 + step / 2 * more
        open_ = np.abs(finer - mean[left]) > _AGREE * finer
        mean[left], left, step = finer, left[open_], step / 2
        if not len(left):
            break
    mean[left] = np.nan  # two sums that do not agree are no answer
    return mean


def _sum_at(family, eta, sd, center, nodes):
    """Sum of p(eta + sd z) phi(z) over the nodes about each row's centre."""
    total = np.zeros(len(eta))
    for node in nodes:
        z = center + node
        total += family.mean(eta + sd * z) * np.exp(-(z**2) / 2)
    return total / np.sqrt(2 * np.pi)


def _largest(link, eta, sd):
    """z in [0, sd] with z = sd d/d eta log p(eta + sd z), where log p is concave; else 0."""
    low, high = np.zeros_like(eta), sd.copy()
    if link not in ("logit", "cloglog"):  # slow tails: the normal density alone says where
        return low
    slope = PROBABILITIES[link][0]
    for _ in range(20):  # the centre need not be exact
        middle = (low + high) / 2
        beyond = middle > sd * slope(eta + sd * middle)[1]
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return low


def mean_limits(family, lower, upper):
    """Least and largest mean (n, 2) between two linear predictors.

    Limits outside the family's range are moved to its bounds. NaN where a reciprocal takes both
    signs, as it may for the gaussian family: its means between the limits are two rays.
    """
    low, high = family.predictor_range
    ends = np.column_stack([lower, upper])
    with np.errstate(all="ignore"):
        mean = np.exp if family.link.name == "log" else family.mean  # which cuts off at e^300
        limits = np.sort(mean(np.clip(ends, low, high)), axis=1)
    if family.link.name == "inverse" and family.name == "gaussian":
        limits[(lower <= 0) & (upper >= 0)] = np.nan
    return limits
