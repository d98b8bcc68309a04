"""Curves of profiles against closed forms, at bounds, and their cost."""

import numpy as np
import pandas as pd
import pytest
from scipy import interpolate, stats

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import load_dyestuff, load_sleepstudy
from skmixed.exceptions import SingularFitWarning
from skmixed.inference import profile
from skmixed.inference.intervals import profile_curves


def test_of_least_squares_is_the_closed_form():
    """zeta^2 = n log(1 + t^2 / (n - p)) for a coefficient."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"x": rng.normal(size=30)})
    data["y"] = 1 + data["x"] + rng.normal(size=30)
    fit = MixedLinearRegressor("y ~ x").fit(data).result_
    _, curves = profile_curves(fit, "x", points=5)
    values, zeta = curves["x"].T
    t = (values - fit.beta[1]) / np.sqrt(fit.vcov[1, 1])
    np.testing.assert_allclose(zeta, np.sign(t) * np.sqrt(30 * np.log1p(t**2 / 28)), atol=1e-6)


def test_of_sigma_without_random_effects_is_the_closed_form():
    """zeta^2 = n (r - 1 - log r), r = (sigma_hat / sigma)^2."""
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"y": rng.normal(size=40)})
    fit = MixedLinearRegressor("y ~ 1", reml=False).fit(data).result_
    limits, curves = profile_curves(fit, "sigma", points=5)
    values, zeta = curves["sigma"].T
    r = (limits["estimate"].iloc[0] / values) ** 2
    np.testing.assert_allclose(zeta**2, 40 * (r - 1 - np.log(r)), atol=1e-6)


def test_limits_of_other_levels_lie_on_the_curve():
    model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(load_dyestuff().frame)
    _, curves = profile_curves(model.result_, points=20)
    for level in (0.5, 0.8):
        limits = model.confint(method="profile", level=level)
        for name, row in limits.iterrows():
            zeta = interpolate.CubicSpline(*curves[name].T)(row[["lower", "upper"]].to_numpy(float))
            reach = stats.norm.ppf(0.5 + level / 2)
            np.testing.assert_allclose(zeta, [-reach, reach], rtol=1e-3)


def test_points_cost_a_few_evaluations_each(monkeypatch):
    costs, follow = [], profile.curve

    def counted(own, *args):
        before = own.f.n_evaluations
        found = follow(own, *args)
        costs.append((own.f.n_evaluations - before) / (len(found) - 1))
        return found

    monkeypatch.setattr(profile, "curve", counted)
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(load_sleepstudy().frame)
    profile_curves(model.result_, points=6)
    assert len(costs) == 6
    assert max(costs) < 8


def test_of_a_standard_deviation_begins_at_zero():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), 5), "x": np.tile(np.arange(5.0), 6)})
    data["y"] = np.tile(rng.normal(size=5), 6) + 0.5 * rng.normal(size=30)
    for formula, term in (("y ~ 1 + (1 | g)", "g"), ("y ~ x + (x | g)", "g")):
        with pytest.warns(SingularFitWarning):
            model = MixedLinearRegressor(formula).fit(data)
        name = f"sd_(Intercept)|{term}"
        limits, curves = profile_curves(model.result_, name, points=4)
        values, zeta = curves[name].T
        assert limits.loc[name, "lower"] == 0
        assert 0 <= values[0] < 0.01 * values[-1]
        assert zeta[-1] > stats.norm.ppf(0.975)
        assert (np.diff(zeta) > 0).all()


def test_a_dispersion_is_profiled_on_its_logarithm_and_shown_on_its_own_scale():
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 8), "x": rng.normal(size=96)})
    mean = np.exp(1 + 0.3 * data["x"] + 0.5 * rng.normal(size=12)[data["g"]])
    data["y"] = rng.gamma(4.0, mean / 4.0)
    model = MixedGLMRegressor("y ~ x + (1 | g)", family="gamma", link="log").fit(data)
    problem = model._problem_of(data, None, None, None)
    name = model.confint().index[-1]
    limits, curves = profile_curves(model.result_, name, points=5, problem=problem)
    values, zeta = curves[name].T
    assert values[0] > 0
    found = np.interp(stats.norm.ppf([0.025, 0.5, 0.975]), zeta, values)
    np.testing.assert_allclose(found, limits.loc[name, ["lower", "estimate", "upper"]], rtol=0.02)


# predict(attr(profile(m), "forward")[[name]], at)$y of lme4 1.1-31, R 4.2.2, with
# m <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)
LME4 = {
    "sd_(Intercept)|Subject": ((16, 32), (-1.589837, 1.271700)),
    "cor_Days.(Intercept)|Subject": ((-0.4, 0.6), (-1.624677, 1.660505)),
    "sd_Days|Subject": ((4, 8), (-1.721958, 1.564894)),
    "sigma": ((23, 28), (-1.878956, 1.481785)),
    "Intercept": ((240, 262), (-1.654668, 1.544827)),
    "Days": ((8, 13), (-1.585414, 1.624550)),
}


def test_of_the_sleep_study_are_those_of_lme4():
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(load_sleepstudy().frame)
    _, curves = profile_curves(model.result_)
    for name, (at, zeta) in LME4.items():
        found = interpolate.CubicSpline(*curves[name].T)(at)
        np.testing.assert_allclose(found, zeta, atol=1e-3)  # both are splines
