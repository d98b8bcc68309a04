"""The registry of curves: formulas, derivatives, starting values."""

import numpy as np
import pytest

from skmixed.curves import CURVES, first_order, initial_values
from skmixed.linalg.jets import differences, evaluate

X = np.linspace(0.2, 12.0, 40)
TRUTH = {
    "logistic": (3.0, 5.0, 1.5),
    "four_parameter_logistic": (0.5, 4.0, 6.0, 1.2),
    "gompertz": (4.0, 3.0, 0.6),
    "weibull": (5.0, 4.0, -2.0, 1.5),
    "asymptotic": (10.0, 2.0, -1.2),
    "asymptotic_offset": (10.0, -1.2, -0.5),
    "asymptotic_origin": (10.0, -1.2),
    "michaelis_menten": (8.0, 2.5),
    "biexponential": (3.0, 0.4, 1.0, -1.6),
    "first_order": (-2.0, 0.4, -3.0),
}


def _covariates(name):
    return (np.full_like(X, 4.0), X) if name == "first_order" else (X,)


def test_every_curve_is_tested():
    assert {curve.name for curve in CURVES.values()} == set(TRUTH)
    assert sum(name.startswith("SS") for name in CURVES) == 10


@pytest.mark.parametrize("name", TRUTH)
def test_derivatives_of_curves(name):
    curve = CURVES[name]
    phi = np.array(TRUTH[name])[:, None] * np.linspace(0.9, 1.1, len(X))
    exact = evaluate(curve.function, phi, _covariates(name))
    approximate = differences(curve.function, phi, _covariates(name))
    for one, other in zip(exact, approximate, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("name", TRUTH)
def test_starting_values_leave_little_unexplained(name):
    curve, covariates = CURVES[name], _covariates(name)
    y = curve.function(*covariates, *TRUTH[name])
    noisy = y + 0.02 * np.ptp(y) * np.random.default_rng(1).standard_normal(len(X))
    start = initial_values(curve, covariates, noisy)
    rest = noisy - curve.function(*covariates, *start)
    assert np.sum(rest**2) < 0.3 * np.sum((noisy - noisy.mean()) ** 2)


def test_values_that_are_given_stay():
    y = CURVES["logistic"].function(X, *TRUTH["logistic"])
    start = initial_values(CURVES["logistic"], (X,), y, given={"Asym": 2.5, "scal": 1.0})
    assert start[0] == 2.5
    assert start[2] == 1.0


def test_first_order_has_no_singularity_at_equal_rates():
    dose, t = np.ones(3), np.array([0.5, 1.0, 8.0])
    equal = first_order(dose, t, -1.0, -1.0, 0.0)
    k = np.exp(-1.0)
    np.testing.assert_allclose(equal, k * k * t * np.exp(-k * t), rtol=1e-11)
    close = first_order(dose, t, -1.0, -1.0 + 1e-9, 0.0)
    np.testing.assert_allclose(close, equal, rtol=1e-8)
    ke, ka = np.exp([-2.0, 0.3])
    textbook = ke * ka * (np.exp(-ke * t) - np.exp(-ka * t)) / (ka - ke)
    np.testing.assert_allclose(first_order(dose, t, -2.0, 0.3, 0.0), textbook, rtol=1e-11)


def test_a_curve_that_is_nowhere_finite_is_an_error():
    with pytest.raises(ValueError, match="no starting values for the curve 'weibull'"):
        initial_values(CURVES["weibull"], (-X,), X)
