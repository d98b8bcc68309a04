"""The penalty of a prior inside of the approximated deviance, against dense densities."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp
from scipy.stats import norm, t

from skmixed.design import build_design
from skmixed.families import make_family
from skmixed.models.glmm import approximation, fit_glmm, hessian_by_differences
from skmixed.models.laplace import Start
from skmixed.models.pirls import find_mode, mode_at
from skmixed.models.prior import FixedPrior

PRIORS = {
    "normal": {"kind": "normal", "scale": 0.7, "intercept_scale": 0.5},
    "t": {"kind": "t", "scale": 0.1, "intercept_scale": 0.2, "df": 2.5},
    "partly flat": {"kind": "t", "df": 1.0, "coefficients": {"x": np.inf, "z": (0.8, 0.1)}},
}


def _data(n=160, n_groups=8):
    rng = np.random.default_rng(3)
    df = pd.DataFrame({"x": rng.normal(2, 1, n), "z": rng.normal(size=n)})
    df["g"] = np.arange(n) % n_groups
    eta = 1 - 0.8 * df["x"] + 0.5 * df["z"] + rng.normal(0, 1.5, n_groups)[df["g"]]
    df["y"] = 1.0 * (rng.random(n) < 1 / (1 + np.exp(-eta)))
    return df


def _problem(prior, n_agq, random="(1 | g)", family="binomial"):
    df = _data()
    design = build_design(f"y ~ x + z + {random}", df)
    prior = None if prior is None else FixedPrior.of(prior, "test")
    return approximation(design, design.y, np.ones(len(df)), make_family(family), n_agq, prior)


def _point(objective):
    rows = objective.rows
    gamma = np.array([0.3, -0.4, 0.2])
    theta = 0.8 * objective.layout.initial()
    T = objective.layout.factors(theta)
    u = [np.zeros((g.n_columns, g.n_levels)) for g in rows.groups]
    mode = mode_at(rows, gamma, u, T, 0.0)
    if objective.joint:
        mode = find_mode(rows, mode, T, 0.0, joint=True)
    objective.near.state = Start(mode)
    return np.concatenate([gamma[: objective.n_gamma], theta])


@pytest.mark.parametrize("name", PRIORS)
def test_penalty_is_minus_twice_the_log_density(name):
    penalty = _problem(PRIORS[name], 1).objective.rows.prior
    gamma = np.array([0.4, -0.2, 0.9])
    z = penalty.rows @ gamma - penalty.origin
    density = norm() if np.isinf(penalty.df) else t(penalty.df)
    expected = -2 * (density.logpdf(z) - density.logpdf(0)).sum()
    assert_allclose(penalty.value(gamma), expected, rtol=1e-10)
    step = 1e-5 * np.eye(3)
    numeric = [penalty.value(gamma + e) - penalty.value(gamma - e) for e in step]
    assert_allclose(penalty.gradient(gamma), np.array(numeric) / 2e-5, rtol=1e-7, atol=1e-8)
    numeric = [penalty.gradient(gamma + e) - penalty.gradient(gamma - e) for e in step]
    assert_allclose(2 * penalty.information(gamma), np.array(numeric) / 2e-5, atol=1e-6)
    bound = penalty.information(gamma, definite=True)
    assert np.linalg.eigvalsh(bound - penalty.information(gamma)).min() > -1e-12
    assert penalty.flat.shape[1] == (name == "partly flat")
    assert_allclose(penalty.rows @ penalty.flat, 0, atol=1e-12)


@pytest.mark.parametrize("n_agq", [0, 1, 5])
@pytest.mark.parametrize("name", PRIORS)
def test_value_and_gradient(name, n_agq):
    objective = _problem(PRIORS[name], n_agq).objective
    plain = _problem(None, n_agq).objective
    at = _point(objective)
    _point(plain)
    state = objective.evaluate(at)
    if n_agq:
        gamma = objective.split(at)[0]
        without = plain.evaluate(at).value
        assert_allclose(state.value - without, objective.rows.penalty(gamma), rtol=1e-9)
    numeric = []
    for e in 1e-4 * np.eye(len(at)):
        value = [objective.evaluate(at + k * e).value for k in (-2, -1, 1, 2)]
        numeric.append((value[0] - 8 * value[1] + 8 * value[2] - value[3]) / 1.2e-3)
    assert_allclose(state.gradient, numeric, rtol=1e-6, atol=1e-6)


def _dense(df, penalty, basis):
    """Penalised deviance of (beta, log sd), by the trapezoidal rule on a fine grid."""
    x = np.linspace(-9, 9, 400)
    log_w = norm.logpdf(x) + np.log(x[1] - x[0])
    X = np.column_stack([np.ones(len(df)), df[["x", "z"]]])
    to_gamma = np.linalg.inv(basis.to_coef)
    sign = (2 * df["y"] - 1).to_numpy()[:, None]

    def deviance(p):
        eta = (X @ p[:3])[:, None] + np.exp(p[3]) * x
        rows = pd.DataFrame(log_expit(sign * eta)).groupby(df["g"].to_numpy()).sum()
        z = penalty.rows @ (to_gamma @ p[:3]) - penalty.origin
        density = norm() if np.isinf(penalty.df) else t(penalty.df)
        prior = density.logpdf(z).sum() - len(z) * density.logpdf(0)
        return -2 * (logsumexp(rows.to_numpy() + log_w, axis=1).sum() + prior)

    return deviance


@pytest.mark.parametrize("name", PRIORS)
def test_optimum_and_standard_errors_by_brute_force(name):
    problem = _problem(PRIORS[name], 40)
    fit = fit_glmm(problem)
    deviance = _dense(_data(), problem.objective.rows.prior, problem.basis)
    start = np.append(fit.beta + 0.2, np.log(0.5))
    found = minimize(deviance, start, method="BFGS", options={"gtol": 1e-7})
    assert_allclose(fit.deviance + fit.penalty, found.fun, rtol=1e-9)
    assert_allclose(fit.beta, found.x[:3], atol=2e-4)
    assert_allclose(fit.theta, np.exp(found.x[3]), atol=5e-4)
    at = np.append(fit.beta, np.log(fit.theta))
    H = np.empty((4, 4))
    e = 1e-3 * np.eye(4)
    for i in range(4):
        for j in range(4):
            pair = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            values = [deviance(at + a * e[i] + b * e[j]) for a, b in pair]
            H[i, j] = (values[0] - values[1] - values[2] + values[3]) / 4e-6
    assert_allclose(fit.vcov, 2 * np.linalg.inv(H)[:3, :3], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", PRIORS)
def test_hessian_by_differences_has_the_prior(name):
    objective = _problem(PRIORS[name], 1).objective
    state = objective.evaluate(_point(objective))
    plain = _problem(None, 1).objective
    other = plain.evaluate(_point(plain))
    steps = np.eye(len(state.parameters))
    H = hessian_by_differences(objective, state, steps)
    without = hessian_by_differences(plain, other, steps)
    own = 2 * objective.rows.prior_information(state.mode.gamma)
    assert_allclose((H - without)[:3, :3], own, atol=1e-3 * np.abs(H).max())
    assert_allclose((state.hessian - other.hessian)[:3, :3], own, atol=1e-8 * np.abs(H).max())


@pytest.mark.parametrize("scale", [1e-3, 1e-2])
def test_a_density_that_is_not_concave(scale):
    """Far from its centre the information of Student's t is negative; the search gets by."""
    prior = {"kind": "t", "df": 1.0, "scale": scale, "intercept_scale": scale}
    problem = _problem(prior, 1)
    fit = fit_glmm(problem)
    assert fit.optimum.converged
    at = np.append(fit.gamma, fit.optimum.theta)
    for step in np.random.default_rng(0).normal(0, 0.02, (10, len(at))):
        assert problem.objective.evaluate(at + step).value > fit.optimum.value - 1e-9
    joint = fit_glmm(_problem(prior, 0))  # at one of the modes that there are
    assert joint.optimum.converged and np.isfinite(joint.vcov).all()
