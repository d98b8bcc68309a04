"""Searches for many responses at once: derivatives and minima are those of one at a time."""

import numpy as np
import pytest

from skmixed import MixedLinearRegressor, datasets
from skmixed.inference.refitted import refits_of
from skmixed.models.lmm import fit_lmm
from skmixed.models.lockstep import Lockstep, unit_crosses

FORMULAS = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
    "machines": "score ~ Machine + (Machine | Worker)",
    "pastes": "strength ~ cask + (1 | batch)",
}


def made(name, reml, k):
    """Refits of a model, and k responses drawn from it."""
    data = getattr(datasets, f"load_{name}")().frame
    model = MixedLinearRegressor(FORMULAS[name], reml=reml).fit(data)
    refits = refits_of(model, data, None, None, None, "test")
    rng, source = np.random.default_rng(0), refits.parametric()
    return refits, [source.draw(rng) for _ in range(k)]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_values_and_derivatives_are_those_of_the_objective(name, reml):
    refits, drawn = made(name, reml, 3)
    lockstep = Lockstep.of(refits.objective)
    t = refits.layout.n_theta
    theta = 0.2 * np.random.default_rng(1).standard_normal((3, t)) + refits.layout.initial()
    cross = unit_crosses([refits.responses(y) for y in drawn], refits.objective.total_weight)
    values, gradients, hessians = lockstep._evaluate(cross, theta)
    for k, y in enumerate(drawn):
        objective = refits.objective.with_response(refits.responses(y))
        own = objective.evaluate(theta[k])
        assert gradients[k] == pytest.approx(own.gradient, abs=1e-7)
        assert hessians[k] == pytest.approx(own.hessian, abs=1e-7)
        shift = objective.evaluate(np.ones(t)).value - own.value
        other = lockstep._evaluate(cross[[k]], np.ones((1, t)))[0][0] - values[k]
        assert other == pytest.approx(shift, abs=1e-7)


@pytest.mark.parametrize("name", FORMULAS)
def test_minima_are_those_of_the_search(name):
    refits, drawn = made(name, True, 12)
    responses = [refits.responses(y) for y in drawn]
    cross = unit_crosses(responses, refits.objective.total_weight)
    minima = Lockstep.of(refits.objective).minima(cross, refits.fit.optimum.theta)
    found = ~np.isnan(minima).any(axis=1)
    assert found.sum() >= 4
    for theta, response in zip(
        minima[found], np.array(responses, dtype=object)[found], strict=True
    ):
        objective = refits.objective.with_response(response)
        assert objective(theta) == pytest.approx(fit_lmm(objective).deviance, abs=1e-7)


def test_large_and_structured_models_have_none():
    data = datasets.load_scotssec().frame
    model = MixedLinearRegressor("attain ~ verbal + (1 | primary)").fit(data)
    assert Lockstep.of(model.result_.objective) is None
    sleep = datasets.load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ Days + cs(Days | Subject)").fit(sleep)
    assert Lockstep.of(model.result_.objective) is None
    model = MixedLinearRegressor("Reaction ~ Days").fit(sleep)
    assert Lockstep.of(model.result_.objective) is None
