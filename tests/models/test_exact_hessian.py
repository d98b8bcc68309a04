"""The exact Hessian of small systems, against differences of the exact gradient."""

import numpy as np
import pytest

from skmixed.datasets import load_machines, load_penicillin, load_scotssec, load_sleepstudy
from skmixed.design import build_design
from skmixed.models.deviance import ProfiledDeviance

MODELS = [
    (load_sleepstudy, "Reaction ~ Days + (Days | Subject)"),
    (load_sleepstudy, "Reaction ~ Days + (Days || Subject)"),
    (load_penicillin, "diameter ~ 1 + (1 | sample) + (1 | plate)"),
    (load_machines, "score ~ Machine + (0 + Machine | Worker)"),
    (load_machines, "score ~ Machine + (1 | Worker) + cs(0 + Machine | Worker)"),
]


def _objective(load, formula, reml=True):
    return ProfiledDeviance.from_design(build_design(formula, load().frame), reml=reml)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("load", "formula"), MODELS)
def test_differences_of_the_gradient(load, formula, reml):
    objective = _objective(load, formula, reml)
    theta = objective.layout.initial()
    theta = 0.7 * theta + np.linspace(0.05, 0.25, len(theta))
    h = 1e-5
    differences = [
        (objective.evaluate(theta + e).gradient - objective.evaluate(theta - e).gradient) / (2 * h)
        for e in h * np.eye(len(theta))
    ]
    H = objective.evaluate(theta).exact_hessian
    np.testing.assert_allclose(H, differences, rtol=0, atol=1e-6 * np.abs(H).max())


def test_coordinates_of_a_singular_covariance():
    objective = _objective(*MODELS[0])
    recharted = objective.layout.recharted(np.array([0.1, 1.0, 0.05]))
    layout, theta = recharted
    evaluation = type(objective.evaluate(theta))
    state = evaluation(objective, theta, objective.system.factor(layout.factors(theta)))
    evaluate, state, _ = evaluation(objective, np.array([0.1, 1.0, 0.05]), state.factor).recharted()
    differences = [
        (evaluate(theta + e).gradient - evaluate(theta - e).gradient) / 2e-5
        for e in 1e-5 * np.eye(3)
    ]
    H = state.exact_hessian
    np.testing.assert_allclose(H, differences, rtol=0, atol=1e-6 * np.abs(H).max())


def test_none_for_large_systems():
    objective = _objective(load_scotssec, "attain ~ 1 + (1 | primary) + (1 | second)")
    assert objective.evaluate(objective.layout.initial()).exact_hessian is None
