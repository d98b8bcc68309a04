"""The profiled deviance against the marginal density, and its derivatives."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.linalg.system import Effects
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.lmm import fit_lmm
from skmixed.models.response import Response


def _criterion(marginal, theta):
    """-2 log (restricted) likelihood at theta, maximised over beta and sigma, densely."""
    V, P, X, y = marginal.V(theta), marginal.P(theta), marginal.X, marginal.y
    m = len(y) - (X.shape[1] if marginal.objective.reml else 0)
    value = np.linalg.slogdet(V)[1] + m * (1 + np.log(2 * np.pi * (y @ P @ y) / m))
    if marginal.objective.reml and X.size:
        value += np.linalg.slogdet(X.T @ np.linalg.solve(V, X))[1]
    return value


def test_objective_is_the_marginal_density(marginal, theta, formula):
    expected = _criterion(marginal, theta)
    # a column near 1000 leaves the dense X'V^-1 X, not the objective, with fewer digits
    tolerance = 1e-8 if formula == "shifted" else 1e-10
    assert marginal.objective(theta) == pytest.approx(expected, rel=tolerance)


def test_gradient_by_finite_differences(marginal, theta):
    step = 1e-5 * np.eye(len(theta))
    objective = marginal.objective
    expected = [(objective(theta + e) - objective(theta - e)) / 2e-5 for e in step]
    gradient = objective.evaluate(theta).gradient
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("text", ["(x | g)", "(x | g) + (0 + x + z | h)"])
def test_derivatives_in_rotated_coordinates(data, text):
    upright = ProfiledDeviance.from_design(build_design(f"y ~ x + {text}", data))
    theta = np.resize([0.02, 0.5, 0.1], upright.layout.n_theta)
    state = upright.evaluate(theta)
    evaluate, moved, back = state.recharted()
    assert evaluate(moved.theta).value == pytest.approx(state.value, rel=1e-10)
    np.testing.assert_allclose(moved.gradient, evaluate(moved.theta).gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moved.hessian, evaluate(moved.theta).hessian, rtol=1e-8, atol=1e-8)
    T = upright.layout.factors(back(moved.theta))
    for a, b in zip(T, upright.layout.factors(theta), strict=True):
        np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-12)
    step = 1e-5 * np.eye(len(theta))
    expected = [
        (evaluate(moved.theta + e).value - evaluate(moved.theta - e).value) / 2e-5 for e in step
    ]
    np.testing.assert_allclose(moved.gradient, expected, rtol=1e-6, atol=1e-6)


def _directions(marginal, theta):
    """dV_j for every theta_j, and the function (i, j) -> d2V_ij, in the engine's covariates."""
    factors = marginal.layout.factors(theta)
    first, entries = [], []
    for g, same, z, dT in marginal.derivatives():
        first.append(same * (z @ (dT @ factors[g].T + factors[g] @ dT.T) @ z.T))
        entries.append((g, same, z, dT))

    def second(a, b):
        (g, same, z, dA), (other, _, _, dB) = entries[a], entries[b]
        return same * (z @ (dA @ dB.T + dB @ dA.T) @ z.T) if g == other else np.zeros(same.shape)

    return first, second


def test_average_information_by_its_definition(marginal, theta):
    """AI = m (Py' dV_i P dV_j Py / r^2 - (Py' dV_i Py) (Py' dV_j Py) / r^4)."""
    P, (first, _) = marginal.P(theta), _directions(marginal, theta)
    Py = P @ marginal.y
    r2, m = marginal.y @ Py, marginal.objective.dof
    pushed = np.array([dV @ Py for dV in first])
    h = pushed @ Py
    expected = m * (pushed @ P @ pushed.T / r2 - np.outer(h, h) / r2**2)
    found = marginal.objective.evaluate(theta).average_information
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_curvature_of_the_covariance_is_exact(marginal, theta):
    """The Hessian adds tr(M d2V_ij) to the average information, M = d(objective) / dV."""
    P, (first, second) = marginal.P(theta), _directions(marginal, theta)
    Py = P @ marginal.y
    trace = P if marginal.objective.reml else np.linalg.inv(marginal.V(theta))
    M = trace - marginal.objective.dof * np.outer(Py, Py) / (marginal.y @ Py)
    t = len(first)
    expected = np.array([[np.sum(M * second(a, b)) for b in range(t)] for a in range(t)])
    state = marginal.objective.evaluate(theta)
    curvature = state.hessian - state.average_information
    np.testing.assert_allclose(curvature, expected.reshape(t, t), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("reml", [True, False])
def test_hessian_is_close_to_the_true_one_at_the_optimum(reml):
    """The average information replaces expectations, so it is close where levels are many."""
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(200), 8), rng.normal(size=1600)
    b = rng.multivariate_normal([0, 0], [[1, 0.3], [0.3, 0.5]], 200)
    data = pd.DataFrame({"x": x, "g": g, "y": b[g, 0] + b[g, 1] * x + rng.normal(size=1600)})
    objective = ProfiledDeviance.from_design(build_design("y ~ x + (x | g)", data), reml=reml)
    theta = fit_lmm(objective, tol=1e-13).optimum.theta
    state = objective.evaluate(theta)
    np.testing.assert_allclose(state.gradient, 0.0, atol=1e-4)
    exact = np.array(
        [
            (objective.evaluate(theta + e).gradient - objective.evaluate(theta - e).gradient) / 2e-5
            for e in 1e-5 * np.eye(len(theta))
        ]
    )
    scale = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(
        state.hessian / np.outer(scale, scale), exact / np.outer(scale, scale), atol=0.1
    )


def test_optimum_is_stationary(marginal):
    fit = fit_lmm(marginal.objective)
    assert fit.optimum.converged
    state = marginal.objective.evaluate(fit.optimum.theta)
    spread = np.sqrt(np.maximum(np.diag(state.average_information), 1e-8))
    np.testing.assert_allclose(state.gradient / spread, 0.0, atol=1e-3)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("factor", "shift"), [(1e9, 0.0), (1e-9, 0.0), (1.0, 1e9), (1e3, -1e6)])
def test_units_of_a_covariate_do_not_matter(data, reml, factor, shift):
    moved = data.assign(x=factor * data["x"] + shift)
    one, other = (
        ProfiledDeviance.from_design(build_design("y ~ x + (x | g)", d), reml=reml)
        for d in (data, moved)
    )
    theta = np.array([0.8, 0.3, 0.5])
    units = -2 * np.log(factor) if reml else 0.0
    assert other(theta) == pytest.approx(one(theta) - units, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
def test_units_of_the_response_do_not_matter(data, scale):
    one, other = (
        ProfiledDeviance.from_design(build_design("y ~ x + (x | g)", d), reml=False)
        for d in (data, data.assign(y=scale * data["y"]))
    )
    theta = np.array([0.8, 0.3, 0.5])
    expected = one(theta) + 2 * len(data) * np.log(scale)
    assert other(theta) == pytest.approx(expected, rel=1e-10)


def test_weights_of_one_are_no_weights(data):
    data = data.assign(w=1.0)
    one, other = (
        ProfiledDeviance.from_design(build_design("y ~ x + (x | g)", data, prior_weights=w))
        for w in (None, "w")
    )
    theta = np.array([0.8, 0.3, 0.5])
    assert other(theta) == pytest.approx(one(theta), rel=1e-11)


def _other_response(marginal):
    """Another response to the same rows, and the objective that is made from scratch for it."""
    rng = np.random.default_rng(8)
    y = 50.0 + 3.0 * rng.normal(size=len(marginal.design.y)) + marginal.design.X.sum(axis=1)
    design = replace(marginal.design, y=y)
    return y, ProfiledDeviance.from_design(design, reml=marginal.objective.reml)


def test_another_response_without_another_assembly(marginal, theta):
    y, fresh = _other_response(marginal)
    objective = marginal.objective
    moved = objective.with_response(objective.response(marginal.design, y))
    state, expected = moved.evaluate(theta), fresh.evaluate(theta)
    assert state.value == pytest.approx(expected.value, rel=1e-10)
    np.testing.assert_allclose(state.gradient, expected.gradient, rtol=1e-8, atol=1e-8)
    assert moved.source.response == fresh.source.response
    np.testing.assert_allclose(fit_lmm(moved).beta, fit_lmm(fresh).beta, rtol=1e-5, atol=1e-6)


def test_another_response_from_its_cross_products_alone(marginal, theta, formula):
    """[Z Q]'Wy and y'Wy, and no row."""
    y, fresh = _other_response(marginal)
    design, objective = marginal.design, marginal.objective
    offset = 0.0 if design.offset is None else design.offset
    counted = (1.0 if design.weights is None else design.weights) * (
        1.0 if design.frequencies is None else design.frequencies
    )
    weighted = counted * (y - offset)
    Q = objective.basis.orthonormal(design.X)
    cross = Effects.of([group.sums(weighted) for group in marginal.layout.groups], Q.T @ weighted)
    response = Response(cross, weighted @ (y - offset), np.zeros(Q.shape[1]))
    assert objective.with_response(response)(theta) == pytest.approx(
        fresh.evaluate(theta).value, rel=1e-8 if formula == "shifted" else 1e-10
    )


def test_a_response_that_is_explained_exactly(data):
    design = build_design("y ~ x + (x | g)", data)
    objective = ProfiledDeviance.from_design(design)
    moved = objective.with_response(objective.response(design, 2.0 + 3.0 * design.X[:, 1]))
    assert moved.exact
    np.testing.assert_allclose(fit_lmm(moved).beta, [2.0, 3.0], rtol=1e-10)
    assert not moved.with_response(moved.response(design, design.y)).exact


def test_refit_is_the_fit_by_the_other_criterion(data):
    design = build_design("y ~ x + (x | g)", data)
    by_reml = fit_lmm(ProfiledDeviance.from_design(design, reml=True))
    by_ml = fit_lmm(ProfiledDeviance.from_design(design, reml=False))
    again = by_reml.refit(reml=False)
    assert again.deviance == pytest.approx(by_ml.deviance, abs=1e-8)
    np.testing.assert_allclose(again.theta, by_ml.theta, atol=1e-4)
    assert by_reml.refit(reml=True) is by_reml
    assert by_reml.other_criterion == pytest.approx(
        by_reml.objective.with_reml(False)(by_reml.optimum.theta)
    )


def test_least_squares_may_fit_exactly():
    data = pd.DataFrame({"x": [0.0, 1.0], "y": [1.0, 3.0]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saturated = fit_lmm(ProfiledDeviance.from_design(build_design("y ~ x", data)))
        exact = fit_lmm(
            ProfiledDeviance.from_design(build_design("y ~ x", data.assign(y=0.0)), reml=False)
        )
    np.testing.assert_allclose(saturated.beta, [1.0, 2.0])
    assert np.isnan(saturated.sigma)
    assert exact.sigma == 0.0
    assert exact.deviance == -np.inf
