"""Adaptive quadrature of nonlinear mixed models: gradient, one node, values of other programs.

``tests/data/nonlinear_quadrature`` holds -2 log-likelihoods at Laplace optima by product rules in
R 4.2.2, and the optimum of the integral itself by ``integrate()`` for one effect.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from skmixed import MixedNonlinearRegressor, datasets
from skmixed.datasets import load_orange, load_theoph
from skmixed.design.curve_formula import parse_curve_formula
from skmixed.design.nonlinear import build_nonlinear_design
from skmixed.models.nlmm import fit_nlmm, nonlinear_problem

DATA = Path(__file__).parents[1] / "data"
VALUES = json.loads((DATA / "nonlinear_quadrature" / "quadrature_values.json").read_text())
CHECK = json.loads((DATA / "nonlinear_quadrature" / "quadrature_check.json").read_text())
FOL = "conc ~ SSfol(Dose, Time, lKe, lKa, lCl)"
START = {"lKe": -2.4, "lKa": 0.5, "lCl": -3.2}


def _problem(formula, frame, start, n_agq, fixed=None, **options):
    terms = parse_curve_formula(formula)
    design = build_nonlinear_design(terms, frame, fixed=fixed, start=start, **options)
    pairs = zip(design.parameters, design.designs, strict=True)
    beta = [np.r_[start[k], np.zeros(X.shape[1] - 1)] for k, X in pairs]
    return nonlinear_problem(design, beta, n_agq)


@pytest.mark.parametrize(
    ("random", "fixed", "options"),
    [
        ("(lKa + lCl | Subject)", {"lCl": "Wt"}, {}),
        ("(lCl + lCl:Wt || Subject)", {}, {}),
        ("(lKa + lCl | Subject)", {}, {"prior_weights": "w"}),
        ("(lKa | Subject)", {}, {"sample_weight": 1 + np.arange(132) % 3}),
    ],
)
def test_gradient_is_that_of_differences(random, fixed, options):
    theoph = load_theoph().frame.assign(w=lambda d: 1 + d["Time"])
    problem = _problem(f"{FOL} ~ {random}", theoph, START, 3, fixed, **options)
    rng, n = np.random.default_rng(0), problem.objective.n_gamma
    parameters = problem.start + 0.1 * rng.standard_normal(len(problem.start))
    parameters[n:-1] = rng.uniform(0.3, 1.5, len(parameters) - n - 1)
    state, expected, h = problem.objective.evaluate(parameters), [], 1e-4
    for step in h * np.eye(len(parameters)):
        one, two, three, four = (
            problem.objective.evaluate(parameters + k * step).value for k in (-2, -1, 1, 2)
        )
        expected.append((one - 8 * two + 8 * three - four) / (12 * h))
    np.testing.assert_allclose(state.gradient, expected, atol=1e-6 * np.abs(expected).max())


def test_one_node_is_the_laplace_approximation():
    """A rule of one node, sigma at its closed form: the same value and the same optimum."""
    frame = load_theoph().frame
    one = _problem(f"{FOL} ~ (lKa + lCl | Subject)", frame, START, 1)
    fit = fit_nlmm(one)
    many = _problem(f"{FOL} ~ (lKa + lCl | Subject)", frame, START, 2)
    rule = type(many.objective.rule).product(1, 2)
    objective = type(many.objective)(
        **(vars(many.objective) | {"rule": rule})  # the same rows, mode and layout
    )
    at = np.concatenate([fit.gamma, fit.optimum.theta, [math.log(fit.sigma)]])
    state = objective.evaluate(at)
    assert state.value == pytest.approx(fit.deviance, abs=1e-8)
    scale = np.sqrt(np.abs(state.metric))
    np.testing.assert_allclose(state.gradient / scale, 0.0, atol=1e-5)


@pytest.mark.parametrize("reference", VALUES, ids=lambda own: own["id"])
def test_values_at_the_laplace_optimum(reference):
    case = json.loads((DATA / "nonlinear" / f"{reference['id']}.json").read_text())
    frame = getattr(datasets, f"load_{Path(case['data']).stem.lower()}")().frame
    (term,) = case["random"]
    random = f"({' + '.join(term['parameters'])} | {term['group']})"
    formula = f"{case['response']} ~ {case['nonlinear']} ~ {random}"
    fit = fit_nlmm(_problem(formula, frame, case["start"], 1))
    for n_agq, value in zip(reference["n_agq"], reference["minus2loglik"], strict=True):
        if 1 < n_agq < 10:
            objective = _problem(formula, frame, case["start"], n_agq).objective
            at = np.concatenate([fit.gamma, fit.optimum.theta, [math.log(fit.sigma)]])
            # theta of a singular covariance is not unique, and the nodes turn with it
            loose = 1e-3 if case["singular"] else 2e-6
            assert objective.evaluate(at).value == pytest.approx(value, abs=loose)


@pytest.mark.parametrize(("n_agq", "gap"), [(5, 2e-5), (9, 1e-8), (15, 1e-9)])
def test_the_optimum_of_the_integral(n_agq, gap):
    exact = CHECK["exact"]
    model = MixedNonlinearRegressor(
        "circumference ~ SSlogis(age, Asym, xmid, scal) ~ (xmid | Tree)", n_agq=n_agq
    ).fit(load_orange().frame)
    assert model.deviance_ == pytest.approx(exact["objective"], abs=gap)
    gaps = (model.fixed_effects_ - exact["beta"]) / model.standard_errors_
    assert gaps.abs().max() < 1e-4
    assert model.sigma_ == pytest.approx(exact["sigma"], rel=1e-5)
    assert model.covariances_["Tree"].iloc[0, 0] == pytest.approx(exact["sd_xmid"] ** 2, rel=1e-4)
    assert model.n_evaluations_ <= 10


def test_a_linear_curve_needs_no_nodes():
    frame = load_orange().frame
    options = {"start": {"a": 20.0, "b": 0.1}}
    formula = "circumference ~ a + b * age ~ (b | Tree)"
    one = MixedNonlinearRegressor(formula, **options).fit(frame)
    five = MixedNonlinearRegressor(formula, n_agq=5, **options).fit(frame)
    assert five.deviance_ == pytest.approx(one.deviance_, abs=1e-8)
    np.testing.assert_allclose(five.standard_errors_, one.standard_errors_, rtol=1e-5)
    assert five.sigma_ == pytest.approx(one.sigma_, rel=1e-6)


def test_the_quadrature_needs_one_factor_and_few_effects():
    theoph = load_theoph().frame.assign(half=lambda d: np.arange(len(d)) % 2)
    model = MixedNonlinearRegressor(f"{FOL} ~ (lKa | Subject) + (lKe | half)", n_agq=3)
    with pytest.raises(ValueError, match=r"one grouping factor and the model has 2.*n_agq=1"):
        model.fit(theoph)
    model = MixedNonlinearRegressor(f"{FOL} ~ (lKe + lKa + lCl | Subject)", n_agq=40)
    with pytest.raises(ValueError, match=r"40\^3 nodes.*use n_agq <= 27"):
        model.fit(theoph)
