"""Families: derivatives by finite differences, densities against scipy, far tails."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from skmixed.families import FAMILIES, LINKS, make_family

COMBINATIONS = [(name, link) for name, family in FAMILIES.items() for link in family.links]


def _data(name, link, n=40, seed=0):
    """Responses and linear predictors inside the range of the family and link."""
    rng = np.random.default_rng(seed)
    w = rng.integers(1, 6, n).astype(float)
    eta = rng.normal(0, 1.0, n)
    if (name, link) == ("binomial", "log"):
        eta = -np.abs(eta) - 0.1
    elif link not in ("log", "logit", "probit", "cloglog", "cauchit"):
        eta = np.abs(eta) + 0.3
    mu = make_family(name, link).mean(eta)
    if name == "binomial":
        return eta, rng.binomial(w.astype(int), mu).astype(float), w
    if name in ("poisson", "negative_binomial"):
        return eta, rng.poisson(mu).astype(float), w
    return eta, np.abs(mu) * rng.gamma(4.0, 0.25, n) + 0.01, w


def _central(f, x, h):
    """Richardson-extrapolated central difference."""
    step = lambda d: (f(x + d) - f(x - d)) / (2 * d)  # noqa: E731
    return (4 * step(h / 2) - step(h)) / 3


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_derivatives_by_the_linear_predictor(name, link):
    family, log_disp = make_family(name, link), 0.4
    eta, y, w = _data(name, link)
    at = lambda e: family.curve(e, y, w, log_disp, order=3)  # noqa: E731
    curve = at(eta)
    h = 1e-3
    assert_allclose(curve.score, _central(lambda e: at(e).loglik, eta, h), rtol=1e-6, atol=1e-7)
    assert_allclose(curve.weight, -_central(lambda e: at(e).score, eta, h), rtol=1e-6, atol=1e-7)
    assert_allclose(curve.slope, _central(lambda e: at(e).weight, eta, h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("name", "link"), [c for c in COMBINATIONS if FAMILIES[c[0]].dispersion])
@pytest.mark.parametrize("log_disp", [-1.2, 0.7])
def test_derivatives_by_the_dispersion(name, link, log_disp):
    family = make_family(name, link)
    eta, y, w = _data(name, link)
    at = lambda d: family.curve(eta, y, w, d)  # noqa: E731
    found = family.by_dispersion(eta, y, w, log_disp)
    first = lambda d: family.by_dispersion(eta, y, w, d).loglik  # noqa: E731
    h = 1e-3
    tight = {"rtol": 1e-7, "atol": 1e-8}
    assert_allclose(found.loglik, _central(lambda d: at(d).loglik, log_disp, h), **tight)
    assert_allclose(found.score, _central(lambda d: at(d).score, log_disp, h), **tight)
    assert_allclose(found.weight, _central(lambda d: at(d).weight, log_disp, h), **tight)
    assert_allclose(found.curvature, _central(first, log_disp, h), **tight)


def _log_density(name, y, w, mu, disp):
    if name == "binomial":
        return stats.binom.logpmf(y, w, mu)
    if name == "poisson":
        return stats.poisson.logpmf(y, mu)
    if name == "negative_binomial":
        return stats.nbinom.logpmf(y, disp, disp / (disp + mu))
    if name == "gamma":
        return stats.gamma.logpdf(y, w / disp, scale=mu * disp / w)
    if name == "inverse_gaussian":
        return stats.invgauss.logpdf(y, mu * disp / w, scale=w / disp)
    return stats.norm.logpdf(y, mu, np.sqrt(disp / w))


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_densities_against_scipy(name, link):
    family = make_family(name, link)
    eta, y, w = _data(name, link)
    w = np.ones_like(w) if name in ("poisson", "negative_binomial") else w
    found = family.curve(eta, y, w, np.log(0.6)).loglik + family.constant(y, w)
    assert_allclose(found, _log_density(name, y, w, family.mean(eta), 0.6), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_links_invert_their_means(name, link):
    family = make_family(name, link)
    eta, _, _ = _data(name, link)
    assert_allclose(family.link.link(family.mean(eta)), eta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
@pytest.mark.parametrize("size", [30.0, 39.9, 40.1, 700.0, 1e5, 1e12])
def test_binomial_tails_stay_finite_and_monotone(link, size):
    family = make_family("binomial", link)
    eta = np.array([-size, size])
    for y in (0.0, 1.0):
        curve = family.curve(eta, np.full(2, y), np.ones(2), order=3)
        assert np.all(np.isfinite(np.array(curve)))
        assert np.all(curve.score * (1 if y else -1) >= 0)


def test_probit_tail_series_meets_the_direct_formula():
    family = make_family("binomial", "probit")
    near, far = np.array([-39.999999]), np.array([-40.000001])
    y, w = np.ones(1), np.ones(1)
    a, b = (family.curve(eta, y, w, order=3) for eta in (near, far))
    assert_allclose(a.weight, b.weight, rtol=1e-7)
    assert_allclose(a.slope, b.slope, rtol=1e-3)


def test_a_row_fitted_almost_perfectly_keeps_its_score():
    eta = np.array([40.0, -40.0])
    curve = make_family("binomial").curve(eta, np.array([1.0, 0.0]), np.ones(2))
    assert_allclose(curve.score, [np.exp(-40.0), -np.exp(-40.0)], rtol=1e-10)


def test_negative_binomial_tends_to_poisson():
    eta, y, w = _data("poisson", "log")
    poisson = make_family("poisson").curve(eta, y, w, order=3)
    close = make_family("negative_binomial").curve(eta, y, w, np.log(1e9), order=3)
    for a, b in zip(poisson, close, strict=True):
        assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    for log_theta in (100.0, 485.0, 700.0):
        by_theta = make_family("negative_binomial").by_dispersion(eta, y, w, log_theta)
        for part in by_theta:
            assert_allclose(part, 0.0, atol=1e-10)


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_expected_weights_are_positive(name, link):
    family = make_family(name, link)
    eta, y, w = _data(name, link)
    assert np.all(family.expected_weight(eta, y, w, 0.3) > 0)


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_samples_have_the_mean(name, link):
    family = make_family(name, link)
    eta, _, w = _data(name, link, n=5)
    mu = family.mean(eta)
    draws = family.sample(np.repeat(mu[:, None], 20_000, axis=1), w[:, None], 0.3,
                          np.random.default_rng(0))  # fmt: skip
    spread = draws.std(axis=1) / np.sqrt(20_000)
    assert np.all(np.abs(draws.mean(axis=1) - mu) < 5 * spread)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="binomial, poisson"):
        make_family("tweedie")
    with pytest.raises(ValueError, match="'log', 'sqrt', 'identity'"):
        make_family("poisson", "logit")


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_variance_is_that_of_the_density(name, link):
    """The expected information of a row is (d mu / d eta)^2 w / (variance times scale)."""
    family, log_disp = make_family(name, link), 0.4
    eta, _, w = _data(name, link)
    phi = np.exp(log_disp)
    slope = _central(family.mean, eta, 1e-3)
    variance = family.variance(family.mean(eta), phi) * (phi if family.scale else 1.0)
    expected = slope**2 * w / variance
    found = family.expected_weight(eta, None, w, log_disp)
    assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_unit_deviance_is_what_the_likelihood_lacks_to_its_largest(name, link):
    """Differences of log-likelihoods at two means are those of unit deviances; 0 at the best."""
    family, log_disp = make_family(name, link), 0.4
    eta, y, w = _data(name, link)
    w = w if name == "binomial" else np.ones_like(w)  # weights of a mean scale its variance
    phi = np.exp(log_disp)
    mean = y / w if name == "binomial" else y
    scale = phi if family.scale else 1.0
    near = np.where(eta > 0, 0.9 * eta, 1.1 * eta)
    drop = lambda e: w * family.unit_deviance(mean, family.mean(e), phi) / scale  # noqa: E731
    found = drop(eta) - drop(near)
    expected = 2 * (family.curve(near, y, w, log_disp).loglik
                    - family.curve(eta, y, w, log_disp).loglik)  # fmt: skip
    assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    assert_allclose(family.unit_deviance(mean, np.where(mean > 0, mean, 1e-300), phi), 0,
                    atol=1e-12)  # fmt: skip
    assert (drop(eta) >= 0).all()


@pytest.mark.parametrize("name", LINKS)
def test_slope_of_the_mean(name):
    link, eta = LINKS[name], np.linspace(0.2, 2.0, 7)
    assert_allclose(link.slope(eta), _central(link.mean, eta, 1e-3), rtol=1e-9)
