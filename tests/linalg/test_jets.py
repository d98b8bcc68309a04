"""Derivatives by jets, against complex steps and differences of gradients."""

import numpy as np
import pytest
from scipy import special

from skmixed.linalg.jets import Jet, differences, evaluate, parameters

FUNCTIONS = {
    "arithmetic": lambda a, b: (a * b - 2 / (a + 3)) / (1 + b * b) + (1 - a),
    "powers": lambda a, b: a**b + a**2 - b**-1.5 + 2.0**a + b**1 + a**0,
    "exponentials": lambda a, b: np.exp(a) + np.expm1(b) * np.log(a) + np.log1p(b) - np.log10(a),
    "roots": lambda a, b: np.sqrt(a * b) + np.square(a) + np.reciprocal(b) + np.log2(a),
    "waves": lambda a, b: np.sin(a * b) * np.cos(b) + np.tanh(a) - np.arctan(a * b),
    "negative": lambda a, b: -a * -b + (+a),
}


@pytest.fixture
def phi():
    return np.random.default_rng(0).uniform(0.5, 2.0, size=(2, 7))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_complex_steps(name, phi):
    f = FUNCTIONS[name]
    value, J, C = evaluate(f, phi)
    np.testing.assert_allclose(value, f(*phi), rtol=1e-11)
    for k in range(2):
        step = np.zeros((2, 1), dtype=complex)
        step[k] = 1e-30j
        np.testing.assert_allclose(J[k], f(*(phi + step)).imag / 1e-30, rtol=1e-10)
        h = 1e-6
        ahead, behind = (
            evaluate(f, phi + s * h * (np.arange(2) == k)[:, None])[1] for s in (1, -1)
        )
        np.testing.assert_allclose(C[k], (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)


def test_expit_and_choices_by_row(phi):
    def f(a, b):
        return np.where(a > 1, special.expit(a * b), np.maximum(a, b)) + np.minimum(b, 1.0)

    value, J, C = evaluate(f, phi)
    np.testing.assert_allclose(value, f(*phi), rtol=1e-11)
    expected = differences(f, phi)
    np.testing.assert_allclose(J, expected[1], atol=1e-7)
    np.testing.assert_allclose(C, expected[2], atol=1e-5)


@np.errstate(all="ignore")
@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: b / (1 + np.exp(a)),
        lambda a, b: b * np.exp(-np.exp(a)),
        lambda a, b: b * np.tanh(np.exp(a)) + np.arctan(a * np.exp(a)),
        lambda a, b: b * special.expit(np.square(np.exp(a))) - np.expm1(-np.exp(a)),
    ],
)
def test_a_curve_is_flat_where_what_it_saturates_in_overflows(function):
    phi = np.array([[900.0, 5.0], [2.0, 2.0]])
    value, J, C = evaluate(function, phi)
    assert np.isfinite(value).all()
    assert J[0, 0] == 0 and not C[:, :, 0].any()
    expected = differences(function, phi[:, 1:])
    np.testing.assert_allclose(J[:, 1:], expected[1], rtol=1e-5, atol=1e-6)


def test_a_function_without_parameters_has_no_slopes(phi):
    value, J, C = evaluate(lambda a, b: np.ones(7), phi)
    assert value.shape == (7,)
    assert not J.any() and not C.any()


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: np.array([float(x) for x in a]) * b,
        lambda a, b: np.cumsum(a) + b,
        lambda a, b: special.gamma(a) + b,
    ],
)
def test_what_jets_cannot_pass_is_a_type_error(function, phi):
    with pytest.raises(TypeError):
        evaluate(function, phi)


def test_differences_agree(phi):
    f = FUNCTIONS["exponentials"]
    for exact, approximate in zip(evaluate(f, phi), differences(f, phi), strict=True):
        np.testing.assert_allclose(approximate, exact, rtol=1e-5, atol=1e-5)


def test_parameters_are_jets_of_themselves(phi):
    a, _ = parameters(phi)
    assert isinstance(a, Jet) and len(a) == 7
    assert a.gradient.tolist() == np.outer([1.0, 0.0], np.ones(7)).tolist()
    assert not a.second.any()
