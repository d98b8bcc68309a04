"""Standard deviations and correlations as functions of theta: values and derivatives."""

import numpy as np
import pytest

from skmixed.models.components import Correlation, variance_parameters


@pytest.fixture(scope="module")
def parameters(marginal):
    return variance_parameters(marginal.objective.layout)


def _differences(function, x, step=1e-5):
    ends = [[function(x + s * e) for s in (step, -step)] for e in np.eye(len(x))]
    return np.array([(np.asarray(up) - down) / (2 * step) for up, down in ends])


def test_values_are_those_of_the_covariances(parameters, marginal, theta):
    layout = marginal.objective.layout
    for p in parameters:
        value = p.function(np.append(theta, np.log(1.3)))[0]
        if p.kind == "sigma":
            assert value == pytest.approx(1.3)
            continue
        T = layout.term_factor(theta, p.term)
        V = T @ T.T
        sd = np.sqrt(V.diagonal())
        if p.kind == "sd":
            assert abs(value) == pytest.approx(1.3 * sd[p.effects[0]])
        else:
            i, j = p.effects
            assert value == pytest.approx(V[i, j] / (sd[i] * sd[j]))


def test_derivatives_are_those_of_differences(parameters, theta):
    x = np.append(theta, 0.2)
    for p in parameters:
        _, gradient, H = p.function(x)
        scale = max(np.abs(gradient).max(), 0.01)  # below, differences are rounding
        expected = _differences(lambda v, f=p.function: f(v)[0], x)
        np.testing.assert_allclose(gradient, expected, atol=1e-7 * scale)
        bends = _differences(lambda v, f=p.function: f(v)[1], x)
        np.testing.assert_allclose(H, bends, atol=1e-6 * max(scale, np.abs(H).max()))


def test_a_correlation_with_an_effect_of_no_variance_is_undefined():
    function = Correlation(np.arange(2), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert np.isnan(function(np.array([0.0, 1.0]))[0])
