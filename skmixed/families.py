"""Distributions of the response and link functions, with exact derivatives by the linear predictor.

A family is a distribution joined with a link. For one row with linear predictor eta it gives

    l = log p(y | eta),   s = dl/d eta,   W = -d2l/d eta2 (observed information),   W' = dW/d eta

and, where the distribution has a dispersion parameter, their derivatives by its logarithm. Each is
written so that no digit is lost far out in the tails, where textbook formulas divide zero by zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import (
    betaln,
    digamma,
    erfcx,
    expit,
    gammaln,
    log_expit,
    log_ndtr,
    ndtr,
    ndtri,
    polygamma,
    xlogy,
)

# exp() of this is still finite, and so is its square times a count.
LARGEST_EXPONENT = 300.0
# Beyond this the normal tail is replaced by its asymptotic series, exact to 1e-14 there.
_NORMAL_TAIL = 40.0
# Distance from its bound at which a mean is there; the tail of a Cauchy distribution is heavy.
_AT_BOUND = {"cauchit": 1e-8, "others": 1e-12}


class Curve(NamedTuple):
    """l, s, W and W' of every row; what was not asked for is None. Shapes as eta."""

    loglik: np.ndarray
    score: np.ndarray | None = None
    weight: np.ndarray | None = None
    slope: np.ndarray | None = None


class DispersionCurve(NamedTuple):
    """Derivatives by log dispersion: of l (first and second), of s and of W."""

    loglik: np.ndarray
    curvature: np.ndarray
    score: np.ndarray
    weight: np.ndarray


# Links: eta = link(mu)


@dataclass(frozen=True)
class Link:
    """A link function: ``link`` takes the mean to eta, ``mean`` takes eta to the mean.

    ``slope`` is the derivative of the mean by eta;
    ``power``: log mu = power * log eta; None for links that are not powers.
    """

    name: str
    link: object
    mean: object
    slope: object
    power: float | None = None

    def __reduce__(self):
        return _link, (self.name,)


def _link(name):
    return LINKS[name]


def _exp(eta):
    return np.exp(np.clip(eta, -LARGEST_EXPONENT, LARGEST_EXPONENT))


LINKS = {
    link.name: link
    for link in (
        Link("logit", lambda mu: np.log(mu) - np.log1p(-mu), expit, lambda e: expit(e) * expit(-e)),
        Link("probit", ndtri, ndtr, lambda eta: np.exp(-(eta**2) / 2) / np.sqrt(2 * np.pi)),
        Link(
            "cloglog",
            lambda mu: np.log(-np.log1p(-mu)),
            lambda eta: -np.expm1(-_exp(eta)),
            lambda eta: _exp(eta - _exp(eta)),
        ),
        Link(
            "cauchit",
            lambda mu: np.tan(np.pi * (mu - 0.5)),
            lambda e: np.arctan2(1, -e) / np.pi,
            lambda e: 1 / (np.pi * (1 + e**2)),
        ),
        Link("log", np.log, _exp, _exp),
        Link("identity", lambda mu: mu * 1.0, lambda eta: eta * 1.0, np.ones_like, 1.0),
        Link("sqrt", np.sqrt, np.square, lambda eta: 2 * eta, 2.0),
        Link("inverse", np.reciprocal, np.reciprocal, lambda eta: -(eta**-2.0), -1.0),
        Link(
            "inverse_squared",
            lambda mu: mu**-2.0,
            lambda eta: eta**-0.5,
            lambda eta: -0.5 * eta**-1.5,
            -0.5,
        ),
    )
}


# log p and its three derivatives by eta, for links of a probability


def _log_logit(eta):
    q = expit(-eta)
    pq = q * expit(eta)
    return log_expit(eta), q, -pq, pq * (1 - 2 * q)


def _log_probit(eta):
    ratio = np.sqrt(2 / np.pi) / erfcx(-eta / np.sqrt(2))
    rest = ratio + eta
    second = -ratio * rest
    third = ratio * (rest**2 - 1 + ratio * rest)
    tail = eta < -_NORMAL_TAIL
    if np.any(tail):
        x = 1 / np.where(tail, eta, -1.0) ** 2
        second = np.where(tail, -1 + x * (1 - x * (6 - 50 * x)), second)
        third = np.where(tail, np.sqrt(x) * x * (2 - x * (24 - 300 * x)), third)
    return log_ndtr(eta), ratio, second, third


def _log_cauchit(eta):
    p = np.arctan2(1, -eta) / np.pi
    x = 1 / (1 + eta**2)
    f1 = x / np.pi / p
    f2 = -2 * eta * x * f1
    f3 = (6 * eta**2 - 2) * x**2 * f1
    return np.log(p), f1, f2 - f1**2, f3 - 3 * f1 * f2 + 2 * f1**3


def _log_cloglog(eta):
    t = _exp(eta)
    h = np.divide(t, np.expm1(np.minimum(t, 700.0)))
    h = np.where(t > 700.0, 0.0, h)
    rest = np.where(t < 1e-3, -t / 2 - t**2 / 12, 1 - t - h)
    second = h * rest
    with np.errstate(divide="ignore"):
        loglik = np.where(t > 1e-15, np.log(-np.expm1(-t)), eta)
    return loglik, h, second, second * rest - h * (t + second)


def _log_log(eta):
    inside = np.where(eta < 0, 0.0, np.nan)
    return eta + inside, 1 + inside, inside, inside


def _log_complement_cloglog(eta):
    t = -_exp(eta)
    return t, t, t, t


def _log_complement_log(eta):
    with np.errstate(all="ignore"):
        odds = np.where(eta < 0, 1 / np.expm1(-eta), np.nan)
        second = -odds * (1 + odds)
        return np.log(-np.expm1(eta)), -odds, second, second * (1 + 2 * odds)


def _mirrored(log_p):
    """log(1 - p) for a symmetric link, from log p at -eta."""

    def log_complement(eta):
        value, first, second, third = log_p(-eta)
        return value, -first, second, -third

    return log_complement


PROBABILITIES = {
    "logit": (_log_logit, _mirrored(_log_logit)),
    "probit": (_log_probit, _mirrored(_log_probit)),
    "cauchit": (_log_cauchit, _mirrored(_log_cauchit)),
    "cloglog": (_log_cloglog, _log_complement_cloglog),
    "log": (_log_log, _log_complement_log),
}


# Families


class Family:
    """A distribution with a link.

    ``y`` is the response (for the binomial the number of successes) and ``w`` the prior weight
    (for the binomial the number of trials), both (n,); eta is (n,) or (k, n); ``log_disp`` is the
    logarithm of the dispersion parameter, ignored by families without one.
    """

    name: str
    links: tuple[str, ...]
    dispersion: str | None = None  # what the dispersion parameter is called in summaries
    discrete = False
    safe_link = "log"
    scale = False  # whether the dispersion is a residual scale, variance = dispersion * V(mu)

    def __init__(self, link=None):
        link = self.links[0] if link is None else link
        if link not in self.links:
            raise ValueError(
                f"family {self.name!r} has the links {', '.join(map(repr, self.links))}, "
                f"got link={link!r}"
            )
        self.link = LINKS[link]

    def __repr__(self):
        return f"{type(self).__name__}(link={self.link.name!r})"

    @property
    def predictor_range(self):
        """(lowest, highest) linear predictor for which there is a mean."""
        return (-np.inf, np.inf) if self.link.power is None else (0.0, np.inf)

    @property
    def remedy(self):
        """What to do where linear predictors leave that range."""
        return f"The link {self.safe_link!r} keeps means in their range"

    def mean(self, eta):
        """E(y | eta); for the binomial the probability of success."""
        with np.errstate(all="ignore"):
            return self.link.mean(np.asarray(eta, dtype=float))

    def curve(self, eta, y, w, log_disp=0.0, order=2):
        """:class:`Curve` up to derivative ``order`` (0 to 3), without :meth:`constant`."""
        raise NotImplementedError

    def by_dispersion(self, eta, y, w, log_disp):
        """:class:`DispersionCurve`."""
        raise NotImplementedError

    def expected_weight(self, eta, y, w, log_disp=0.0):
        """E(W), which is never negative: W at the mean instead of y."""
        return self.curve(eta, self._typical(eta, w), w, log_disp).weight

    def _typical(self, eta, w):
        return self.mean(eta)

    def constant(self, y, w):
        """The part of l that depends on neither eta nor dispersion, for every row."""
        return np.zeros(len(y))

    def variance(self, mu, dispersion=1.0):
        """V(mu): the variance of a response is V(mu) / w, times the dispersion where it scales.

        For the binomial family the response is here, and in :meth:`unit_deviance`, the proportion.
        """
        raise NotImplementedError

    def unit_deviance(self, y, mu, dispersion=1.0):
        """d(y, mu) >= 0: twice what the log-likelihood of a row with w = 1 lacks to its largest.

        Where the dispersion is a scale it is not divided by it.
        """
        raise NotImplementedError

    def initial_mean(self, y, w):
        """A mean for every row, near its response and inside the family's range."""
        return y

    def initial_log_dispersion(self, y, w, mu):
        """A moment estimate of the logarithm of the dispersion."""
        return 0.0

    def problem(self, y):
        """Why a response is outside the family's range; None if it is not."""
        return None

    def one_sided(self, y, w):
        """Where the likelihood of a row rises to 1 without reaching it, (n,).

        1: as eta rises without limit, -1: as eta falls, 0: the likelihood has a maximum.
        """
        return np.zeros(len(y))

    def saturation(self, side):
        """|eta| beyond which the mean is at its bound, for sides (n,) of :meth:`one_sided`."""
        raise NotImplementedError

    def sample(self, mu, w, dispersion, rng):
        """Draws of the response, of the shape of ``mu``."""
        raise NotImplementedError


def _rows(mask):
    count = int(np.sum(mask))
    return f"{count} row" + "s" * (count > 1)


class Binomial(Family):
    """Successes in w trials; the mean is the probability of success."""

    name, links, discrete = "binomial", ("logit", "probit", "cloglog", "cauchit", "log"), True
    safe_link = "logit"

    def curve(self, eta, y, w, log_disp=0.0, order=2):
        if self.link.name == "logit":
            return _logit_curve(eta, y, w, order)
        log_p, log_q = (f(eta) for f in PROBABILITIES[self.link.name])
        parts = [_mix(y, a, w - y, b) for a, b in zip(log_p, log_q, strict=True)]
        return Curve(parts[0], parts[1], -parts[2], -parts[3])

    @property
    def predictor_range(self):
        return -np.inf, 0.0 if self.link.name == "log" else np.inf

    def _typical(self, eta, w):
        return w * self.mean(eta)

    def constant(self, y, w):
        if np.all(w == 1):
            return np.zeros(len(y))
        return gammaln(w + 1) - gammaln(y + 1) - gammaln(w - y + 1)

    def initial_mean(self, y, w):
        return (y + 0.5) / (w + 1)

    def one_sided(self, y, w):
        rises = (y == w) & (self.link.name != "log")  # there eta = 0 is a success for certain
        return np.where(w > 0, 1.0 * rises - (y == 0), 0.0)

    def saturation(self, side):
        gap = _AT_BOUND["cauchit" if self.link.name == "cauchit" else "others"]
        return np.where(side > 0, self.link.link(1 - gap), -self.link.link(gap))

    def variance(self, mu, dispersion=1.0):
        return mu * (1 - mu)

    def unit_deviance(self, y, mu, dispersion=1.0):
        return 2 * (_relative_log(y, mu) + _relative_log(1 - y, 1 - mu))

    def sample(self, mu, w, dispersion, rng):
        return rng.binomial(np.broadcast_to(w, mu.shape).astype(int), np.clip(mu, 0, 1)) / w


def _relative_log(y, mu):
    """y log(y / mu), 0 at y = 0."""
    return xlogy(y, np.where(y > 0, y, 1.0) / mu)


def _mix(y, a, failures, b):
    """y a + failures b, where nothing times infinity is nothing."""
    return np.where(y > 0, y * a, 0.0) + np.where(failures > 0, failures * b, 0.0)


def _logit_curve(eta, y, w, order):
    e = np.exp(-np.abs(eta))
    loglik = y * eta - w * (np.maximum(eta, 0.0) + np.log1p(e))
    if not order:
        return Curve(loglik)
    d = 1 / (1 + e)
    tail = e * d
    p = np.where(eta >= 0, d, tail)
    weight = w * (tail * d)
    # y - w p would lose the small score of a row fitted almost perfectly
    score = np.where(eta >= 0, w * tail - (w - y), y - w * tail)
    return Curve(loglik, score, weight, weight * (1 - 2 * p) if order > 2 else None)


class _PositiveMean(Family):
    """A family with mean mu > 0, given by derivatives with respect to log mu."""

    links: tuple[str, ...] = ("log", "sqrt", "identity")

    def curve(self, eta, y, w, log_disp=0.0, order=2):
        with np.errstate(all="ignore"):
            if self.link.power is None:
                l0, d1, d2, d3 = self._by_log_mean(
                    np.clip(eta, -LARGEST_EXPONENT, LARGEST_EXPONENT), y, w, log_disp
                )
                return Curve(l0, d1, -d2, -d3)
            z0, z1, z2, z3 = self._log_mean(eta)
            l0, d1, d2, d3 = self._by_log_mean(z0, y, w, log_disp)
            weight = -(d2 * z1**2 + d1 * z2)
            slope = -(d3 * z1**3 + 3 * d2 * z1 * z2 + d1 * z3)
            return Curve(l0, d1 * z1, weight, slope)

    def _log_mean(self, eta):
        """log mu and its derivatives for log mu = power * log eta, NaN where eta <= 0."""
        inside = np.where(eta > 0, eta, np.nan)
        x = 1 / inside
        k = self.link.power
        return k * np.log(inside), k * x, -k * x**2, 2 * k * x**3

    def _by_log_mean(self, z, y, w, log_disp):
        """l and its first three derivatives by z = log mu."""
        raise NotImplementedError


class Poisson(_PositiveMean):
    """Counts with variance mu; prior weights multiply the log-likelihood."""

    name, discrete = "poisson", True

    def _by_log_mean(self, z, y, w, log_disp):
        mu = w * np.exp(z)
        return w * y * z - mu, w * y - mu, -mu, -mu

    def constant(self, y, w):
        return -w * gammaln(y + 1)

    def initial_mean(self, y, w):
        return np.maximum(y, 0.3)

    def one_sided(self, y, w):
        return -1.0 * ((y == 0) & (w > 0)) if self.link.name == "log" else np.zeros(len(y))

    def saturation(self, side):
        return np.full(np.shape(side), -np.log(_AT_BOUND["others"]))

    def problem(self, y):
        if np.any(y < 0):
            return f"counts cannot be negative, and {_rows(y < 0)} are"
        return None

    def variance(self, mu, dispersion=1.0):
        return mu

    def unit_deviance(self, y, mu, dispersion=1.0):
        return 2 * (_relative_log(y, mu) - (y - mu))

    def sample(self, mu, w, dispersion, rng):
        return rng.poisson(mu).astype(float)


class NegativeBinomial(_PositiveMean):
    """Counts with variance mu + mu^2 / theta; theta is the dispersion parameter."""

    name, discrete, dispersion = "negative_binomial", True, "theta"

    def _by_log_mean(self, z, y, w, log_disp):
        k, x = np.exp(log_disp), z - log_disp
        p, q = expit(x), expit(-x)
        pq = w * (y + k) * p * q
        loglik = w * (y * log_expit(x) + k * log_expit(-x) + _log_rising(y, k))
        return loglik, w * (y * q - k * p), -pq, pq * (p - q)

    def by_dispersion(self, eta, y, w, log_disp):
        with np.errstate(all="ignore"):
            power = self.link.power
            z0, z1, z2, _ = (eta, 1.0, 0.0, 0.0) if power is None else self._log_mean(eta)
            k, x = np.exp(log_disp), z0 - log_disp
            p, q = expit(x), expit(-x)
            pq = (y + k) * p * q
            first = k * log_expit(-x) + k * _digamma_rising(y, k)
            d1, d2 = pq - k * p, pq * (q - p) - k * p * q
            return DispersionCurve(
                w * (k * p - y * q + first),
                w * (2 * k * p - pq + first + _trigamma_rising(y, k)),
                w * d1 * z1,
                -w * (d2 * z1**2 + d1 * z2),
            )

    def constant(self, y, w):
        return -w * gammaln(y + 1)

    initial_mean, problem = Poisson.initial_mean, Poisson.problem
    one_sided, saturation = Poisson.one_sided, Poisson.saturation

    def initial_log_dispersion(self, y, w, mu):
        excess = np.average((y - mu) ** 2 - mu, weights=w) / np.average(mu**2, weights=w)
        return -np.log(np.clip(0.5 * excess, 0.05, 20.0))

    def variance(self, mu, dispersion=1.0):
        return mu + mu**2 / dispersion

    def unit_deviance(self, y, mu, dispersion=1.0):
        rest = (y + dispersion) * np.log1p((y - mu) / (mu + dispersion))
        return 2 * (_relative_log(y, mu) - rest)

    def sample(self, mu, w, dispersion, rng):
        return rng.poisson(mu * rng.gamma(dispersion, 1 / dispersion, mu.shape)).astype(float)


def _log_rising(y, k):
    """log Gamma(y + k) - log Gamma(k), also for k far larger than y."""
    known = np.where(y > 0, y, 1.0)
    return np.where(y > 0, gammaln(known) - betaln(known, k), 0.0)


def _digamma_rising(y, k):
    """digamma(y + k) - digamma(k)."""
    if k < 1e3:
        return digamma(y + k) - digamma(k)
    x, x0 = 1 / (y + k), 1 / k
    return np.log1p(y / k) - (x - x0) / 2 - (x**2 - x0**2) / 12 + (x**4 - x0**4) / 120


def _trigamma_rising(y, k):
    """k^2 (trigamma(y + k) - trigamma(k)), k far beyond the root of the largest number too."""
    if k < 1e3:
        return k**2 * (polygamma(1, y + k) - polygamma(1, k))
    x, x0 = 1 / (y + k), 1 / k
    return -y * (k / (y + k)) * (1 + (x + x0) / 2 + (x**2 + x * x0 + x0**2) / 6)


class _Scaled(Family):
    """Dispersion that divides the log-likelihood's derivatives by eta: s and W are ~ 1 / phi."""

    scale = True
    dispersion = "dispersion"

    def by_dispersion(self, eta, y, w, log_disp):
        with np.errstate(all="ignore"):
            curve = self.curve(eta, y, w, log_disp)
            first, second = self._loglik_by_dispersion(eta, y, w, log_disp)
            return DispersionCurve(first, second, -curve.score, -curve.weight)

    def _log_mean_of(self, eta):
        return self._log_mean(eta)[0] if self.link.power is not None else eta


class Gamma(_Scaled, _PositiveMean):
    """Positive response with variance phi mu^2 / w."""

    name, links = "gamma", ("log", "inverse", "identity")

    def _by_log_mean(self, z, y, w, log_disp):
        shape = w * np.exp(-log_disp)
        ratio = shape * y * np.exp(-z)
        loglik = shape * (np.log(shape) + np.log(y) - z) - ratio - gammaln(shape)
        return loglik, ratio - shape, -ratio, ratio

    def _loglik_by_dispersion(self, eta, y, w, log_disp):
        shape, z = w * np.exp(-log_disp), self._log_mean_of(eta)
        slope = np.log(shape) - digamma(shape) + 1 + np.log(y) - z - y * np.exp(-z)
        first = -shape * slope
        return first, -first + shape - shape**2 * polygamma(1, shape)

    def constant(self, y, w):
        return -np.log(y)

    def problem(self, y):
        if np.any(y <= 0):
            return f"the response must be positive, and {_rows(y <= 0)} are not"
        return None

    def initial_log_dispersion(self, y, w, mu):
        return np.log(max(np.average(((y - mu) / mu) ** 2, weights=w), 1e-8))

    def variance(self, mu, dispersion=1.0):
        return mu**2

    def unit_deviance(self, y, mu, dispersion=1.0):
        return 2 * ((y - mu) / mu - np.log(y / mu))

    def sample(self, mu, w, dispersion, rng):
        shape = w / dispersion
        return rng.gamma(shape, mu / shape)


class InverseGaussian(_Scaled, _PositiveMean):
    """Positive response with variance phi mu^3 / w."""

    name, links = "inverse_gaussian", ("log", "inverse_squared", "inverse", "identity")

    def _by_log_mean(self, z, y, w, log_disp):
        ratio = y * np.exp(-z)
        scale = w * np.exp(-log_disp) / y
        loglik = -0.5 * (log_disp + scale * (ratio - 1) ** 2)
        return (
            loglik,
            scale * ratio * (ratio - 1),
            -scale * ratio * (2 * ratio - 1),
            scale * ratio * (4 * ratio - 1),
        )

    def _loglik_by_dispersion(self, eta, y, w, log_disp):
        ratio = y * np.exp(-self._log_mean_of(eta))
        half = 0.5 * w * np.exp(-log_disp) / y * (ratio - 1) ** 2
        return half - 0.5, -half

    def constant(self, y, w):
        return 0.5 * np.log(w) - 0.5 * np.log(2 * np.pi) - 1.5 * np.log(y)

    problem = Gamma.problem

    def initial_log_dispersion(self, y, w, mu):
        return np.log(max(np.average((y - mu) ** 2 / mu**3, weights=w), 1e-8 / mu.mean()))

    def variance(self, mu, dispersion=1.0):
        return mu**3

    def unit_deviance(self, y, mu, dispersion=1.0):
        return (y - mu) ** 2 / (mu**2 * y)

    def sample(self, mu, w, dispersion, rng):
        return rng.wald(mu, w / dispersion * np.ones_like(mu))


class Gaussian(_Scaled):
    """Normal response with variance phi / w, and a link other than the linear model's."""

    name, links = "gaussian", ("identity", "log", "inverse")

    def curve(self, eta, y, w, log_disp=0.0, order=2):
        with np.errstate(all="ignore"):
            m0, m1, m2, m3 = self._mean_derivatives(eta)
            scale, residual = w * np.exp(-log_disp), y - m0
            loglik = -0.5 * (log_disp + scale * residual**2)
            weight = scale * (m1**2 - residual * m2)
            slope = scale * (3 * m1 * m2 - residual * m3)
            return Curve(loglik, scale * residual * m1, weight, slope)

    @property
    def predictor_range(self):
        return -np.inf, np.inf

    def _mean_derivatives(self, eta):
        if self.link.name == "identity":
            return eta, np.ones_like(eta), np.zeros_like(eta), np.zeros_like(eta)
        if self.link.name == "log":
            mu = _exp(eta)
            return mu, mu, mu, mu
        x = 1 / np.where(eta == 0, np.nan, eta)
        return x, -(x**2), 2 * x**3, -6 * x**4

    def _loglik_by_dispersion(self, eta, y, w, log_disp):
        half = 0.5 * w * np.exp(-log_disp) * (y - self.mean(eta)) ** 2
        return half - 0.5, -half

    def constant(self, y, w):
        return 0.5 * np.log(w) - 0.5 * np.log(2 * np.pi)

    def initial_mean(self, y, w):
        if self.link.name == "identity":
            return y
        return np.maximum(y, 0.1 * np.abs(y).mean())

    def initial_log_dispersion(self, y, w, mu):
        return np.log(max(np.average((y - mu) ** 2, weights=w), 1e-300))

    def variance(self, mu, dispersion=1.0):
        return np.ones_like(mu)

    def unit_deviance(self, y, mu, dispersion=1.0):
        return (y - mu) ** 2

    def sample(self, mu, w, dispersion, rng):
        return mu + np.sqrt(dispersion / w) * rng.standard_normal(mu.shape)


FAMILIES = {
    family.name: family
    for family in (Binomial, Poisson, NegativeBinomial, Gamma, InverseGaussian, Gaussian)
}


def make_family(name, link=None):
    """The :class:`Family` of a name and a link (None: the family's first, usual one).

    Examples
    --------
    >>> from skmixed.families import make_family
    >>> make_family("gamma")
    Gamma(link='log')
    >>> float(make_family("binomial", "probit").mean(0.0))
    0.5
    """
    if name not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {name!r}")
    return FAMILIES[name](link)
