"""Means over the distribution of the random effects, against adaptive quadrature in pieces."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import norm

from skmixed.families import make_family
from skmixed.models.marginal import marginal_mean, mean_limits

ETAS = np.array([-25.0, -8.0, -1.0, 0.0, 2.0, 9.0])


def _expected(family, eta, sd):
    """The integral in pieces around the step of the mean and the centre of the density."""
    edges = np.clip(-eta / sd + np.array([-40, -8, -2, 0, 2, 8, 40]) / sd, -25, 25)
    edges = np.unique(np.concatenate([edges, [-25, -5, 0, 5, min(sd, 20), 25]]))
    pieces = (
        quad(lambda z: family.mean(eta + sd * z) * norm.pdf(z), a, b, epsabs=0, limit=200)[0]
        for a, b in pairwise(edges)
    )
    return sum(pieces)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
@pytest.mark.parametrize("sd", [0.05, 1.0, 10.0, 60.0])
def test_probabilities(link, sd):
    family = make_family("binomial", link)
    found = marginal_mean(family, ETAS, np.full(len(ETAS), sd**2))
    assert_allclose(found, [_expected(family, eta, sd) for eta in ETAS], rtol=1e-6)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit", "log"])
def test_without_variance_it_is_the_mean(link):
    family, eta = make_family("binomial", link), np.array([-5.0, -0.5])
    assert_allclose(marginal_mean(family, eta, np.zeros(2)), family.mean(eta), rtol=1e-10)


def test_closed_forms():
    eta, variance = np.array([1.0, 2.0]), np.array([0.5, 3.0])
    assert_allclose(
        marginal_mean(make_family("poisson", "log"), eta, variance), np.exp(eta + variance / 2)
    )
    assert_allclose(marginal_mean(make_family("poisson", "sqrt"), eta, variance), eta**2 + variance)
    assert_allclose(marginal_mean(make_family("gaussian", "identity"), -eta, variance), -eta)


def test_means_that_cannot_be_are_nan():
    inverse = make_family("gamma", "inverse")
    assert np.isnan(marginal_mean(inverse, np.array([0.3]), np.array([0.1]))).all()
    assert np.isnan(marginal_mean(inverse, np.array([-30.0]), np.array([0.01]))).all()
    # a share of more than one, a negative count
    assert np.isnan(marginal_mean(make_family("binomial", "log"), np.array([-0.1]), np.ones(1)))
    assert np.isnan(marginal_mean(make_family("poisson", "identity"), np.array([-1.0]), np.ones(1)))


def test_a_reciprocal_far_from_zero():
    """E 1 / (m + s Z) is the asymptotic series 1/m (1 + r + 3 r^2 + ...) in r = (s / m)^2."""
    r = (0.1 / 3) ** 2
    expected = (1 + r + 3 * r**2 + 15 * r**3 + 105 * r**4) / 3
    found = marginal_mean(make_family("gamma", "inverse"), np.array([3.0]), np.array([0.01]))
    assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("family", "link", "limits", "expected"),
    [
        ("gamma", "inverse", (0.5, 2.0), (0.5, 2.0)),
        ("gamma", "inverse", (-0.5, 2.0), (0.5, np.inf)),
        ("poisson", "identity", (-1.0, 3.0), (0.0, 3.0)),
        ("poisson", "sqrt", (-1.0, 3.0), (0.0, 9.0)),
        ("binomial", "log", (np.log(0.5), 0.5), (0.5, 1.0)),
        ("poisson", "log", (-np.inf, np.inf), (0.0, np.inf)),
        ("binomial", "probit", (-np.inf, 0.0), (0.0, 0.5)),
        ("gaussian", "inverse", (-2.0, -0.5), (-2.0, -0.5)),
        ("gaussian", "inverse", (-0.5, 2.0), (np.nan, np.nan)),
    ],
)
def test_limits_of_means(family, link, limits, expected):
    lower, upper = np.array(limits)[:, None]
    assert_allclose(mean_limits(make_family(family, link), lower, upper), [expected])
