"""One descent: its stages on small functions with known minima."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest

from skmixed.models.optimize import Impossible, NoStart, minimize_theta


@dataclass(frozen=True)
class Point:
    """A function at theta, with the Hessian that the search is to be given."""

    theta: np.ndarray
    f: object
    g: object
    H: object
    units: object = 1.0

    @cached_property
    def value(self):
        return float(self.f(self.theta))

    @cached_property
    def gradient(self):
        return np.asarray(self.g(self.theta), dtype=float)

    @cached_property
    def hessian(self):
        return np.asarray(self.H(self.theta), dtype=float)

    @property
    def metric(self):
        return np.ones(len(self.theta)) / np.square(self.units)


def _search(f, g, H, start, **settings):
    return minimize_theta(lambda theta: Point(theta, f, g, H), np.array(start), **settings)


def _rosenbrock(given):
    def f(t):
        return (1 - t[0]) ** 2 + 100 * (t[1] - t[0] ** 2) ** 2

    def g(t):
        valley = t[1] - t[0] ** 2
        return [-2 * (1 - t[0]) - 400 * t[0] * valley, 200 * valley]

    return f, g, given


def _double_well(t):
    return 0.25 * np.sum(t**4) - 0.5 * np.sum(t**2)


WELL = (_double_well, lambda t: t**3 - t, lambda t: np.diag(3 * t**2 - 1))


def test_an_indefinite_hessian_is_no_obstacle():
    end = _search(*WELL, [0.1, -0.2])
    assert end.converged
    np.testing.assert_allclose(np.abs(end.theta), 1.0, atol=1e-5)
    assert end.smallest_eigenvalue > 0.5


def test_the_hard_case_leaves_a_saddle():
    """At the saddle's own line the slope along the way down is exactly zero."""
    end = _search(*WELL, [0.0, 1.0])
    assert end.converged
    np.testing.assert_allclose(np.abs(end.theta), 1.0, atol=1e-5)


def test_refused_steps_shorten_the_radius():
    """The logarithm is not defined beyond 0: the first steps lead there."""
    calls = []

    def evaluate(theta):
        calls.append(theta)
        if theta[0] <= 0:
            return Impossible("negative")
        return Point(theta, lambda t: t[0] - np.log(t[0]), lambda t: 1 - 1 / t,
                     lambda t: np.diag(1 / t**2))  # fmt: skip

    end = minimize_theta(evaluate, np.array([5.0]))
    assert end.converged
    assert any(theta[0] <= 0 for theta in calls)
    assert end.theta[0] == pytest.approx(1.0, abs=1e-5)
    assert end.n_evaluations == len(calls)


def test_noise_in_the_value_ends_the_search():
    rng = np.random.default_rng(0)
    end = _search(
        lambda t: 1e3 + np.sum(t**2) + 1e-12 * rng.normal(),
        lambda t: 2 * t,
        lambda t: 2.2 * np.eye(2),
        [3.0, -4.0],
    )
    assert end.converged
    assert end.value == pytest.approx(1e3, abs=1e-8)


def test_a_collapsed_radius_is_no_convergence():
    """Beyond a wall across the slope nothing is defined: no step is left, and the slope stays."""

    def evaluate(theta):
        if theta[0] < 1.0:
            return Impossible("beyond the wall")
        return Point(theta, lambda t: np.sum(t**2), lambda t: 2 * t, lambda t: 2 * np.eye(1))

    end = minimize_theta(evaluate, np.array([1.5]))
    assert not end.converged
    assert end.scaled_gradient > 0.5
    assert "slope" in end.doubt


def test_a_start_without_a_value():
    with pytest.raises(NoStart, match="nowhere"):
        minimize_theta(lambda theta: Impossible("nowhere"), np.ones(2))


def test_no_parameter():
    end = minimize_theta(lambda theta: Point(theta, lambda t: 3.0, None, None), np.zeros(0))
    assert end.converged and end.value == 3.0 and end.doubt is None


def test_a_misleading_hessian_is_replaced_by_what_is_learnt():
    """A thousand times too much curvature, and another error at every point."""
    f, g, H = _rosenbrock(lambda t: np.diag([2e4 * (1 + 0.3 * np.sin(9 * t[0])), 200.0]))
    end = _search(f, g, H, [0.9, 0.8])
    assert end.converged
    np.testing.assert_allclose(end.theta, 1.0, atol=1e-4)
    assert end.n_evaluations < 40


def test_units_do_not_matter():
    f, g, H = WELL
    units = np.array([1e6, 1e-6])
    plain = _search(f, g, H, [2.0, 3.0])
    moved = minimize_theta(
        lambda theta: Point(
            theta,
            lambda t: f(t / units),
            lambda t: g(t / units) / units,
            lambda t: H(t / units) / np.outer(units, units),
            units,
        ),
        units * [2.0, 3.0],
        units=units,
    )
    assert abs(moved.n_evaluations - plain.n_evaluations) <= 1
    np.testing.assert_allclose(moved.theta / units, plain.theta, rtol=1e-6)


def test_a_descent_to_a_known_optimum_is_given_up():
    known = _search(*WELL, [2.0])
    again = _search(*WELL, [3.0], known=known)
    assert not again.converged
    assert again.n_evaluations < known.n_evaluations
    other = _search(
        lambda t: _double_well(t) + 0.1 * t[0], lambda t: t**3 - t + 0.1, WELL[2], [-2.0]
    )
    lower = _search(
        lambda t: _double_well(t) + 0.1 * t[0],
        lambda t: t**3 - t + 0.1,
        WELL[2],
        [-2.0],
        known=_search(
            lambda t: _double_well(t) + 0.1 * t[0], lambda t: t**3 - t + 0.1, WELL[2], [2.0]
        ),
    )
    assert lower.converged and lower.value == pytest.approx(other.value, abs=1e-9)
