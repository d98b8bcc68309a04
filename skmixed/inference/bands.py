"""Simultaneous bands for quantile plots, and the test that goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats

# Samples that calibrate a band, and order statistics that are looked at in large samples.
_SAMPLES, _PLACES = 1000, 250
_SEED = 20010101


@dataclass(frozen=True)
class QuantileBand:
    """Where the order statistics of a sample of n may lie, all of them at once.

    Pointwise limits are quantiles of beta distributions; their level is the one at which the share
    ``level`` of samples stays within all limits.

    Attributes
    ----------
    n : int
    level : float
    smallest : (m,)
        Smallest pointwise p-value of each of m samples, sorted.
    places : (j,) of int
        Ranks that are looked at, 1 to n.
    standardised : bool
        Whether samples were of a normal distribution, in units of their own mean and deviation.

    References
    ----------
    Aldor-Noiman, Brown, Buja, Rolke and Stine (2013), The power to see: a new graphical test of
    normality, The American Statistician 67, 249-260.
    """

    n: int
    level: float
    smallest: np.ndarray
    places: np.ndarray
    standardised: bool

    @classmethod
    def of(cls, n, level=0.95, *, standardised=False):
        """The band of samples of n."""
        places, smallest = _calibration(int(n), bool(standardised))
        return cls(int(n), level, smallest, places, standardised)

    def limits(self):
        """(lower, upper) of every order statistic (n,) of uniform variables."""
        tail = np.quantile(self.smallest, 1.0 - self.level) / 2
        ranks = np.arange(1, self.n + 1)
        return tuple(special.betaincinv(ranks, self.n + 1 - ranks, q) for q in (tail, 1 - tail))

    def p_value(self, u):
        """Share of samples that leave the diagonal further than uniform variables u (n,) do."""
        found = _smallest(np.sort(u)[None, self.places - 1], self.places, self.n)[0]
        return float((1 + (self.smallest <= found).sum()) / (len(self.smallest) + 1))


def normal_p_value(values, *, standardised=False):
    """p-value of values (n,) as a sample of the standard normal, or of some normal distribution."""
    z = np.asarray(values, dtype=float)
    if standardised:
        z = (z - z.mean()) / z.std(ddof=1)
    return QuantileBand.of(len(z), standardised=standardised).p_value(stats.norm.cdf(z))


def _smallest(u, places, n):
    """Smallest pointwise two-sided p-value (m,) of order statistics (m, j) of samples of n."""
    below = special.betainc(places, n + 1 - places, u)
    return np.minimum(2 * np.minimum(below, 1 - below), 1.0).min(axis=1)


def _integral(values, places, n):
    """Means (m, 1) of samples of n from values (m, j) at some places, linear between them."""
    gaps = np.diff(places)
    weight = np.ones(len(places))
    weight[:-1] += (gaps - 1) / 2
    weight[1:] += (gaps - 1) / 2
    return (values @ weight / n)[:, None]


@lru_cache(maxsize=64)
def _calibration(n, standardised):
    """(places, smallest p-values) of random samples of n."""
    rng = np.random.default_rng(_SEED)
    places = _places(n)
    # order statistics at the places: sums of exponential gaps
    gaps = np.diff(places, prepend=0, append=n + 1)
    sums = np.cumsum(rng.standard_gamma(gaps, (_SAMPLES, len(gaps))), axis=1)
    u = sums[:, :-1] / sums[:, -1:]
    if standardised:
        z = special.ndtri(u)
        mean = _integral(z, places, n)
        z = z - mean
        u = special.ndtr(z / np.sqrt(_integral(z**2, places, n) * n / (n - 1)))
    return places, np.sort(_smallest(u, places, n))


def _places(n):
    """Ranks that are looked at: all, or the ends and some between."""
    if n <= _PLACES:
        return np.arange(1, n + 1)
    end = np.arange(1, 11)
    middle = np.rint(n * stats.norm.cdf(np.linspace(-3.5, 3.5, _PLACES - 20))).astype(int)
    return np.unique(np.clip(np.concatenate([end, middle, n + 1 - end]), 1, n))
