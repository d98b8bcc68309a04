"""The deviance of nonlinear mixed models: dense matrices, differences, several modes."""

import numpy as np
import pytest

from skmixed.datasets import load_co2, load_sleepstudy, load_theoph
from skmixed.design.curve_formula import parse_curve_formula
from skmixed.design.nonlinear import build_nonlinear_design
from skmixed.models.nlmm import (
    _uncertainty,
    fit_nlmm,
    hessian_by_differences,
    nonlinear_problem,
)
from skmixed.models.pnls import find_mode, mode_at

FOL = "conc ~ SSfol(Dose, Time, lKe, lKa, lCl)"


def _theoph():
    frame = load_theoph().frame
    return frame.assign(
        half=np.where(np.arange(len(frame)) % 3 == 0, "a", "b"), w=1 + frame["Time"]
    )


CASES = {
    "correlated": (f"{FOL} ~ (lKa + lCl | Subject)", {"lCl": "Wt"}, {}),
    "crossed": (f"{FOL} ~ (lKa + lCl | Subject) + (lKe | half)", {}, {}),
    "slope": (f"{FOL} ~ (lCl + lCl:Wt || Subject)", {}, {}),
    "weighted": (f"{FOL} ~ (lKa + lCl | Subject)", {}, {"prior_weights": "w"}),
}


def _problem(name, n_agq=1):
    formula, fixed, options = CASES[name]
    design = build_nonlinear_design(parse_curve_formula(formula), _theoph(), fixed=fixed, **options)
    start = [np.r_[v, np.zeros(X.shape[1] - 1)] for v, X in zip((-2.4, 0.5, -3.2), design.designs,
                                                                strict=True)]  # fmt: skip
    return design, nonlinear_problem(design, start, n_agq)


def _points(problem):
    rng = np.random.default_rng(0)
    for _ in range(2):
        parameters = problem.start.copy()
        n = problem.objective.n_gamma
        parameters[:n] += 0.1 * rng.standard_normal(n)
        parameters[n:] = rng.uniform(0.3, 1.5, len(parameters) - n)
        yield parameters


@pytest.mark.parametrize("n_agq", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_differences(name, n_agq):
    _, problem = _problem(name, n_agq)
    for parameters in _points(problem):
        state = problem.objective.evaluate(parameters)
        expected = np.empty(len(parameters))
        for j in range(len(parameters)):
            h = np.zeros(len(parameters))
            h[j] = 1e-4
            one, two, three, four = (
                problem.objective.evaluate(parameters + k * h).value for k in (-2, -1, 1, 2)
            )
            expected[j] = (one - 8 * two + 8 * three - four) / (12 * 1e-4)
        np.testing.assert_allclose(state.gradient, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_deviance_is_that_of_dense_matrices(name):
    """log |V'WV + I| + n (1 + log(2 pi pwrss / n)) - sum log w at a mode found by plain Newton."""
    design, problem = _problem(name)
    objective = problem.objective
    rows = objective.rows
    for parameters in _points(problem):
        state = objective.evaluate(parameters)
        gamma, theta = objective.split(parameters)
        blocks = []
        factors = objective.layout.factors(theta)
        for group, owner, T in zip(rows.groups, rows.owners, factors, strict=True):
            Z = np.zeros((3, len(rows.y), group.n_levels, group.n_columns))
            for t, k in enumerate(owner):
                Z[k, np.arange(len(rows.y)), group.codes, t] = group.z[:, t]
            blocks.append((Z @ T).reshape(3, len(rows.y), -1))
        L = np.concatenate(blocks, axis=2)
        fixed, u = rows.fixed_part(gamma), np.zeros(L.shape[2])
        for _ in range(200):
            f, J, _ = design.function(fixed + L @ u)
            V = np.einsum("kn,knq->nq", J, L)
            H = V.T @ (rows.w[:, None] * V) + np.eye(len(u))
            u = u + 0.7 * np.linalg.solve(H, V.T @ (rows.w * (rows.y - f)) - u)
        n = len(rows.y)
        pwrss = np.sum(rows.w * (rows.y - f) ** 2) + u @ u
        fit = n * (1 + np.log(2 * np.pi * pwrss / n)) - np.log(rows.w).sum()
        value = np.linalg.slogdet(H)[1] + fit
        assert state.value == pytest.approx(value, abs=1e-8)


def test_information_is_that_of_the_gradient():
    _, problem = _problem("correlated")
    fit = fit_nlmm(problem)
    state = problem.objective.near.state
    H = hessian_by_differences(state)
    np.testing.assert_allclose(H, H.T)
    assert np.linalg.eigvalsh(H)[0] > 0
    n = problem.objective.n_gamma
    schur = np.linalg.inv(np.linalg.inv(H)[:n, :n])
    root, covariance, is_open = _uncertainty(state)
    assert not is_open
    np.testing.assert_allclose(root @ root.T, state.mode.sigma2 / 2 * schur, rtol=1e-8)
    assert fit.optimum.converged
    own = np.linalg.inv(H)[n:, n:] * 2.0
    np.testing.assert_allclose(covariance[:-1, :-1], own, rtol=1e-8)
    assert fit.covariance.shape == (4, 4)


def test_log_sigma_is_as_uncertain_as_where_it_is_a_parameter():
    """A curve that is linear in the effects: one node or three, sigma profiled out or not."""
    frame, covariances = load_sleepstudy().frame, []
    for n_agq in (1, 3):
        terms = parse_curve_formula("Reaction ~ a + b * Days ~ (a + b | Subject)")
        design = build_nonlinear_design(terms, frame, start={"a": 250.0, "b": 10.0})
        problem = nonlinear_problem(design, [np.array([250.0]), np.array([10.0])], n_agq)
        covariances.append(fit_nlmm(problem).covariance)
    one, three = covariances
    std = np.sqrt(np.diag(three))
    assert abs(three[0, -1]) > 0.1 * std[0] * std[-1]
    np.testing.assert_allclose(one / std / std[:, None], three / std / std[:, None], atol=1e-4)


def test_the_mode_is_the_same_from_near_and_far():
    _, problem = _problem("crossed")
    state = problem.objective.evaluate(problem.start)
    rows, mode = problem.objective.rows, state.mode
    far = mode_at(rows, mode.gamma, [0 * x for x in mode.u], state.T)
    again = find_mode(far, state.T, near=False)
    for one, other in zip(again.u, mode.u, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_a_design_with_categories_in_two_parameters():
    co2 = load_co2().frame
    design = build_nonlinear_design(
        parse_curve_formula("uptake ~ SSasympOff(conc, Asym, lrc, c0) ~ (Asym | Plant)"),
        co2,
        fixed={"Asym": "Type", "lrc": "Type * Treatment"},
    )
    assert [X.shape[1] for X in design.designs] == [2, 4, 1]
    assert design.spec.column_names[-1] == "c0"
    assert design.X.shape == (84, 7)
