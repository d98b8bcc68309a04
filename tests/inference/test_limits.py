"""Limits of generalised models: against glmmTMB's profiles, constrained minima, and errors."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import minimize

from skmixed import MixedGLMRegressor
from skmixed.design import build_design
from skmixed.exceptions import SeparationWarning
from skmixed.families import make_family
from skmixed.inference.deviances import GeneralizedDeviance
from skmixed.inference.intervals import confint, variance_components
from skmixed.inference.limits import profiled_objective
from skmixed.models.glmm import approximation, fit_glmm

LIMITS = ["lower", "upper"]
NAMES = ["cbpp_binomial", "cbpp_slopefree_poisson", "grouseticks_poisson", "verbagg_binomial"]


@cache
def _reference(name, folder, table_of):
    ref = json.loads((folder / f"glmm_{name}.json").read_text())
    model = MixedGLMRegressor(ref["formula"], family=ref["family"])
    data = table_of(ref)
    model.fit(data)
    problem = model._problem(model.result_.family, data, None, None, None)[2]
    return ref, model.result_, problem


@pytest.fixture(params=NAMES)
def generalized(request, table_of, inference_folder):
    return _reference(request.param, inference_folder, table_of)


def test_profiles(generalized, plain_name):
    """glmmTMB brackets its roots to some 2e-5."""
    ref, fit, problem = generalized
    found = confint(fit, method="profile", problem=problem)
    own = {plain_name(name): name for name in fit.names}
    for row in ref["confint"]["profile_tmb"]["rows"]:
        name = own.get(plain_name(row["parameter"]), row["parameter"])
        for side in LIMITS:
            if row[side] is not None:
                size = max(1.0, row["upper"] - (row["lower"] or 0.0))
                assert found.loc[name, side] == pytest.approx(row[side], abs=4e-5 * size)
    if ref["id"] == "glmm_grouseticks_poisson":
        assert found.loc["sd_(Intercept)|LOCATION", "lower"] == 0.0


def test_wald_intervals(generalized, plain_name):
    ref, fit, _ = generalized
    found = confint(fit)
    own = {plain_name(name): name for name in fit.names}
    for row in ref["wald"]:
        limits = found.loc[own[plain_name(row["term"])], LIMITS].to_numpy(float)
        np.testing.assert_allclose(limits, [row["lower"], row["upper"]], atol=1e-3 * row["se"])
    V = np.array(ref["fit"]["vcov_theta_beta"])
    theta, error = np.array(ref["fit"]["theta"]), np.sqrt(V.diagonal()[: fit.layout.n_theta])
    if (theta > 0.01).all():
        reach = np.exp(stats.norm.ppf(0.975) * error / theta)
        rows = [name for name in found.index if name.startswith("sd_")]
        expected = np.column_stack([theta / reach, theta * reach])
        found = found.loc[rows, LIMITS].to_numpy(float)
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), rtol=2e-3)


def _problem(family, link, formula="y ~ x + (1 | g)", n_agq=1, n=90):
    rng = np.random.default_rng(1)
    g = np.arange(n) % 9
    data = pd.DataFrame({"x": rng.normal(size=n), "g": g})
    mu = np.exp(0.5 + 0.4 * data["x"] + 0.7 * rng.normal(size=9)[g])
    data["y"] = mu * rng.gamma(3.0, 1 / 3.0, n)
    if family != "gamma":
        data["y"] = rng.poisson(data["y"]).astype(float)
    design = build_design(formula, data)
    y = design.y
    return approximation(design, y, np.ones(n), make_family(family, link), n_agq)


def _constrained(f, psi, value, start):
    """The least deviance at psi = value, by a general optimiser."""
    rule = {"type": "eq", "fun": lambda x: psi(x) - value}
    return minimize(lambda x: f(x).value, start, jac=lambda x: f(x).gradient, constraints=rule,
                    options={"ftol": 1e-12, "maxiter": 200}).fun  # fmt: skip


@pytest.mark.parametrize(
    ("family", "link", "n_agq", "parameter", "place"),
    [
        ("gamma", "log", 1, "dispersion", -1),
        ("negative_binomial", "log", 1, "theta", -1),
        ("poisson", "log", 5, "sd_(Intercept)|g", 0),
        ("poisson", "log", 5, "x", None),
    ],
)
def test_profiles_are_at_the_level(family, link, n_agq, parameter, place):
    problem = _problem(family, link, n_agq=n_agq)
    fit = fit_glmm(problem)
    row = confint(fit, parameter, method="profile", problem=problem).loc[parameter]
    f = GeneralizedDeviance(profiled_objective(problem), fit)
    n = len(f.start)
    slope = np.zeros(n)
    slope[1:3] = fit.basis.to_coef[list(fit.names).index("x")] if place is None else 0.0

    def psi(x):
        return slope @ x if place is None else x[0] if place == 0 else np.exp(x[-1])

    assert psi(f.start) == pytest.approx(row["estimate"], rel=1e-4)
    for side in LIMITS:
        if np.isinf(row[side]):  # overdispersion may be none
            assert family == "negative_binomial" and side == "upper"
            far = np.append(f.start[:-1], 20.0)
            assert f(far).value - fit.deviance < stats.chi2.ppf(0.95, 1)
            continue
        least = _constrained(f, psi, row[side], f.start)
        assert least - fit.deviance == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-4)


def test_a_generalised_model_without_random_effects():
    """Limits of a Poisson mean: the likelihood ratio in closed form."""
    problem = _problem("poisson", "log", "y ~ 1")
    fit = fit_glmm(problem)
    row = confint(fit, "Intercept", method="profile", problem=problem).loc["Intercept"]
    y = problem.objective.rows.y
    for side in LIMITS:
        rise = 2 * (y.sum() * (row["estimate"] - row[side]) - len(y) * np.exp(row["estimate"])
                    + len(y) * np.exp(row[side]))  # fmt: skip
        assert rise == pytest.approx(stats.chi2.ppf(0.95, 1), abs=1e-6)


def test_variances():
    fit = fit_glmm(_problem("poisson", "log"))
    table = variance_components(fit)
    assert table["group"].tolist() == ["g"] and table["effect"].tolist() == ["Intercept"]
    assert table["variance"].iloc[0] == pytest.approx(fit.covariances[0][0, 0])
    sd = confint(fit, "sd_(Intercept)|g").iloc[0]
    np.testing.assert_allclose(np.sqrt(table[LIMITS].iloc[0].astype(float)), sd[LIMITS])
    with pytest.raises(ValueError, match=r"expected information .* is not known"):
        variance_components(fit, information="expected")


def test_the_joint_mode_has_no_standard_errors_of_variances():
    problem = _problem("poisson", "log", n_agq=0)
    fit = fit_glmm(problem)
    table = confint(fit)
    assert table.loc["x"].notna().all() and table.loc["sd_(Intercept)|g", LIMITS].isna().all()
    assert "no Hessian" in table.attrs["notes"]["sd_(Intercept)|g"]
    with pytest.raises(ValueError, match="fit with n_agq=1 for profiles"):
        confint(fit, method="profile", problem=problem)


def test_bad_input():
    problem = _problem("poisson", "log")
    fit = fit_glmm(problem)
    with pytest.raises(ValueError, match="must be 'asymptotic' here, got 'satterthwaite'"):
        confint(fit, ddf="satterthwaite")
    with pytest.raises(ValueError, match="give the X and y that it was fitted to"):
        confint(fit, method="profile")
    with pytest.raises(ValueError, match="not the rows that the model was fitted to"):
        confint(fit, method="profile", problem=_problem("poisson", "log", n=81))


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_separated_outcomes_have_no_profile():
    data = pd.DataFrame({"y": [0, 0, 1, 0, 1, 1, 1, 1] * 4, "g": np.arange(32) % 5})
    data["x"] = (np.arange(32) % 8 > 5).astype(float)
    model = MixedGLMRegressor("y ~ x + (1 | g)", family="binomial")
    with pytest.warns(SeparationWarning):
        model.fit(data)
    table = confint(model.result_)
    assert table.loc["x", "lower"] == -np.inf and table.loc["x", "upper"] == np.inf
    problem = model._problem(model.result_.family, data, None, None, None)[2]
    with pytest.raises(ValueError, match="outcomes separate"):
        confint(model.result_, method="profile", problem=problem)


def test_correlations_keep_their_sign_without_a_hessian():
    """Fixed effects at the joint mode have none, and no standard errors of variances."""
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(30), 12), np.tile(np.linspace(-1, 1, 12), 30)
    b = rng.multivariate_normal([0, 0], [[0.5, -0.35], [-0.35, 0.5]], size=30)
    data = pd.DataFrame({"g": g, "x": x, "y": rng.poisson(np.exp(1 + b[g, 0] + b[g, 1] * x))})
    model = MixedGLMRegressor("y ~ x + (x | g)", family="poisson", n_agq=0).fit(data)
    found = model.confint("cor_x.(Intercept)|g")["estimate"].item()
    own = model.covariances_["g"].to_numpy()
    assert found == pytest.approx(own[0, 1] / np.sqrt(own[0, 0] * own[1, 1]), rel=1e-8)
    assert found < -0.4
