"""Minima with and without a surface to stay on."""

import numpy as np
import pytest

from skmixed.models.minimum import Point, constrained_minimum, minimum


def _quartic(x):
    """(x0^2 - 1)^2 + (x1 - x0)^2: minima at (1, 1) and (-1, -1), a saddle between them."""
    a, b = x
    gradient = np.array([4 * a * (a**2 - 1) - 2 * (b - a), 2 * (b - a)])
    H = np.array([[12 * a**2 - 4 + 2, -2.0], [-2.0, 2.0]])
    return Point(x, (a**2 - 1) ** 2 + (b - a) ** 2, gradient, H)


def _radius(x):
    return float(x @ x), 2 * x, 2 * np.eye(len(x))


@pytest.mark.parametrize("start", [(3.0, -2.0), (0.1, 0.0), (-0.2, 5.0)])
def test_newton_steps_lead_down_from_where_the_function_is_indefinite(start):
    found = minimum(_quartic, _quartic(np.array(start)))
    np.testing.assert_allclose(np.abs(found.x), [1.0, 1.0], atol=1e-6)
    assert found.value == pytest.approx(0.0, abs=1e-12)


def test_minimum_on_a_line():
    basis = np.array([[1.0], [0.0]])
    found = minimum(_quartic, _quartic(np.array([2.0, 0.5])), basis)
    assert found.x[1] == 0.5
    assert basis[:, 0] @ found.gradient == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("value", [0.5, 2.0, 9.0])
def test_minimum_on_a_circle(value):
    """Against the best of many points on it."""
    found = constrained_minimum(_quartic, _radius, value, _quartic(np.array([1.0, 0.3])))
    assert found.x @ found.x == pytest.approx(value, abs=1e-9)
    angle = np.linspace(0, 2 * np.pi, 200_001)
    x = np.sqrt(value) * np.array([np.cos(angle), np.sin(angle)])
    best = ((x[0] ** 2 - 1) ** 2 + (x[1] - x[0]) ** 2).min()
    assert found.value == pytest.approx(best, abs=1e-8)


def test_steps_out_of_the_domain_are_halved():
    def log(x):
        if x[0] <= 0:
            return None
        return Point(x, x[0] - np.log(x[0]), 1 - 1 / x, np.array([[x[0] ** -2.0]]))

    assert minimum(log, log(np.array([8.0]))).x[0] == pytest.approx(1.0, abs=1e-6)


def test_no_surface_no_minimum():
    """Where psi has no slope there is no way to its surface."""
    assert constrained_minimum(_quartic, _radius, 1.0, _quartic(np.zeros(2))) is None
