"""Nodes and weights of the Gauss-Hermite rules."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp, roots_hermitenorm

from skmixed.models.quadrature import Rule


@pytest.mark.parametrize("n", [1, 2, 5, 40, 149, 200])
def test_weights_are_those_of_the_rule(n):
    rule, (x, w) = Rule.product(n, 1), roots_hermitenorm(n)
    held = w > 1e-280
    assert_allclose(rule.nodes[:, 0], x)
    assert_allclose(rule.log_weights[held], np.log(w[held] / w.sum()), atol=1e-10)


@pytest.mark.parametrize("n", [400, 1000, 5000])
@pytest.mark.parametrize("t", [0.0, 5.0, 25.0])
def test_rules_with_weights_beyond_the_range_of_doubles_integrate(n, t):
    """E exp(t x - t^2 / 2) = 1 for a standard normal x."""
    rule = Rule.product(n, 1)
    assert rule.log_weights.min() < -745
    assert logsumexp(rule.log_weights + t * rule.nodes[:, 0] - t**2 / 2) == pytest.approx(
        0, abs=1e-10
    )


def test_product_rule_of_two_effects():
    rule = Rule.product(3, 2)
    assert rule.nodes.shape == (9, 2)
    moments = np.exp(rule.log_weights) @ (rule.nodes[:, 0] ** 2 * rule.nodes[:, 1] ** 4)
    assert moments == pytest.approx(3)
