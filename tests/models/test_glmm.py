"""The approximated deviance of generalised linear mixed models, its gradient, and its optimum."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import dblquad, quad

from skmixed.design import build_design
from skmixed.families import FAMILIES, make_family
from skmixed.linalg.system import NotPositiveDefinite
from skmixed.models.glmm import approximation, fit_glmm, hessian_by_differences, starting_values
from skmixed.models.laplace import LaplaceDeviance, Start
from skmixed.models.pirls import NoMode, find_mode, mode_at
from skmixed.models.quadrature import QuadratureDeviance, Rule

COMBINATIONS = [(name, link) for name, family in FAMILIES.items() for link in family.links]
LOG_DISP = 0.3
# single evaluations meet indefinite matrices on their way; a fit expects them
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")


def _table(family, n=200, n_groups=9, n_other=6, seed=0):
    rng = np.random.default_rng(seed)
    df = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "g": rng.integers(0, n_groups, n),
            "h": rng.integers(0, n_other, n),
        }
    )
    df["k"] = df["g"] // 3
    eta = 0.3 * df["x"] + rng.normal(0, 0.4, n_groups)[df["g"]]
    if family.link.power is not None:
        eta = np.abs(eta) * 0.2 + 1.5
    elif (family.name, family.link.name) == ("binomial", "log"):
        eta = 0.2 * eta - 1.5
    mu, w = np.asarray(family.mean(eta)), rng.integers(1, 5, n).astype(float)
    if family.name == "binomial":
        y = rng.binomial(w.astype(int), mu).astype(float)
    elif family.discrete:
        y = rng.poisson(mu * rng.gamma(3, 1 / 3, n)).astype(float)
    else:
        y = np.abs(mu) * rng.gamma(5, 0.2, n)
    df["y"] = y
    return df, y, w, rng.integers(1, 4, n).astype(float)


def _problem(formula, name="binomial", link="logit", *, n_agq=1, counted=True, **settings):
    family = make_family(name, link)
    df, y, w, frequencies = _table(family, **settings)
    design = build_design(f"y ~ x + {formula}", df, sample_weight=frequencies if counted else None)
    return approximation(design, y, w, family, n_agq)


def _point(objective):
    """Parameters inside the family's range, and the mode there as the start."""
    rows, family = objective.rows, objective.rows.family
    rng = np.random.default_rng(1)
    gamma = np.zeros(rows.n_fixed)
    bounded = (family.name, family.link.name) == ("binomial", "log")
    gamma[0] = 1.8 if family.link.power is not None else -1.5 if bounded else 0.1
    size = 0.1 if family.link.power is not None else 0.3
    theta = size * (objective.layout.initial() + 0.2 * rng.normal(size=objective.n_theta))
    T = objective.layout.factors(theta)
    u = [np.zeros((g.n_columns, g.n_levels)) for g in rows.groups]
    mode = mode_at(rows, gamma, u, T, LOG_DISP)
    if objective.joint:
        mode = find_mode(rows, mode, T, LOG_DISP, joint=True)
    objective.near.state = Start(mode)
    return np.concatenate([gamma[: objective.n_gamma], theta, [LOG_DISP] * objective.n_dispersion])


def _numerical_gradient(objective, at, h=1e-4):
    value = lambda p: objective.evaluate(p).value  # noqa: E731
    gradient = np.empty_like(at)
    for j, e in enumerate(h * np.eye(len(at))):
        near, far = value(at + e) - value(at - e), value(at + 2 * e) - value(at - 2 * e)
        gradient[j] = (8 * near - far) / (12 * h)
    return gradient


def _check_gradient(objective):
    at = _point(objective)
    gradient = objective.evaluate(at).gradient
    assert_allclose(gradient, _numerical_gradient(objective, at), rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_gradient_for_every_family_and_link(name, link):
    _check_gradient(_problem("(1 | g) + (1 | h)", name, link).objective)


@pytest.mark.parametrize("formula", ["(1 | g)", "(x | g)", "(x | g) + (x || h) + (1 | k)"])
@pytest.mark.parametrize("n_agq", [0, 1])
@pytest.mark.parametrize(("name", "link"), [("binomial", "probit"), ("gamma", "log")])
def test_gradient_for_every_structure(formula, n_agq, name, link):
    """One factor, slopes, crossed and nested factors; joint mode and Laplace."""
    _check_gradient(_problem(formula, name, link, n_agq=n_agq).objective)


@pytest.mark.parametrize("formula", ["(1 | g)", "(x | g)"])
@pytest.mark.parametrize("n_agq", [2, 3, 6])
@pytest.mark.parametrize(("name", "link"), [("binomial", "cauchit"), ("negative_binomial", "log")])
def test_gradient_of_the_quadrature(formula, n_agq, name, link):
    _check_gradient(_problem(formula, name, link, n_agq=n_agq).objective)


def _in_rotated_coordinates(objective):
    """The evaluation at a nearly singular covariance, and the layout that is made for it."""
    at = _point(objective)
    begin, end = objective.n_gamma, objective.n_gamma + objective.n_theta
    at[begin : begin + 3] = [0.02, 0.5, 0.1]  # little on the diagonal of (x | g), much below
    moved = objective.layout.recharted(at[begin:end])
    assert moved is not None
    return objective.evaluate(at), *moved


@pytest.mark.parametrize("formula", ["(x | g)", "(x | g) + (x || h) + (1 | k)"])
@pytest.mark.parametrize("n_agq", [0, 1])
@pytest.mark.parametrize(("name", "link"), [("poisson", "log"), ("gamma", "log")])
def test_gradient_in_rotated_coordinates(formula, n_agq, name, link):
    objective = _problem(formula, name, link, n_agq=n_agq).objective
    state, *_ = _in_rotated_coordinates(objective)
    evaluate, moved, upright = state.recharted()
    assert any((a != b).any() for a, b in zip(moved.T, state.T, strict=True))
    assert moved.value == state.value
    assert evaluate(moved.parameters).value == pytest.approx(state.value, abs=1e-9)
    assert_allclose(upright(moved.parameters), state.parameters, atol=1e-12)
    at = moved.parameters + 0.05 * np.random.default_rng(4).normal(size=len(moved.parameters))
    for point in (moved.parameters, at):
        gradient = evaluate(point).gradient
        expected = _numerical_gradient(moved.objective, point)
        assert_allclose(gradient, expected, rtol=1e-7, atol=1e-6)
    assert_allclose(moved.gradient, evaluate(moved.parameters).gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n_agq", [2, 5])
def test_gradient_of_the_quadrature_in_rotated_coordinates(n_agq):
    """The nodes turn with the coordinates, so that a search stays in those that it began in."""
    objective = _problem("(x | g)", "poisson", "log", n_agq=n_agq).objective
    state, layout, theta = _in_rotated_coordinates(objective)
    assert state.recharted() is None
    at = state.parameters.copy()
    at[objective.n_gamma :] = theta
    turned = replace(objective, layout=layout)
    gradient = turned.evaluate(at).gradient
    assert_allclose(gradient, _numerical_gradient(turned, at), rtol=1e-7, atol=1e-6)


def test_an_evaluation_goes_back_to_upright_coordinates():
    objective = _problem("(x | g) + (1 | h)", "poisson", "log").objective
    state, *_ = _in_rotated_coordinates(objective)
    moved = state.recharted()[1]
    theta = moved.objective.layout.upright(moved.objective.split(moved.parameters)[1])
    back = moved.in_chart(objective.layout, theta)
    assert objective.near.state is back
    assert_allclose(back.gradient, state.gradient, rtol=1e-6, atol=1e-6)
    assert_allclose(back.hessian, state.hessian, rtol=1e-6, atol=1e-6)
    for u, v in zip(back.mode.u, state.mode.u, strict=True):
        assert_allclose(u, v, atol=1e-7)


def test_tangent_of_the_mode_in_rotated_coordinates():
    objective = _problem("(x | g)", "poisson", "log").objective
    state, *_ = _in_rotated_coordinates(objective)
    moved = state.recharted()[1]
    at = moved.parameters
    for e in 1e-4 * np.eye(len(at)):
        u = moved.objective.evaluate(at + e).mode.u
        _, expected = next(iter(moved.expected_modes(at + e)))
        for a, b, start in zip(u, expected, moved.mode.u, strict=True):
            assert np.abs(a - b).max() < 1e-3 * max(np.abs(a - start).max(), 1e-6)


@pytest.mark.parametrize(("n_groups", "n_other"), [(60, 6), (500, 400)], ids=["dense", "sparse"])
def test_gradient_beside_a_dense_and_a_sparse_border(n_groups, n_other):
    settings = {"n": 1200, "n_groups": n_groups, "n_other": n_other}
    objective = _problem("(x | g) + (1 | h)", **settings).objective
    sparse = objective.rows.pattern._plan.is_sparse
    assert sparse == (n_other == 400)
    at = _point(objective)
    gradient = objective.evaluate(at).gradient
    direction = np.random.default_rng(0).normal(size=len(at))
    value = lambda t: objective.evaluate(at + t * direction).value  # noqa: E731
    h = 1e-4
    slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    assert gradient @ direction == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("formula", ["(1 | g)", "(x | g)"])
def test_one_node_is_the_laplace_approximation(formula):
    laplace = _problem(formula).objective
    at = _point(laplace)
    s = laplace.rows.groups[0].n_columns
    settings = {"rule": Rule.product(1, s), "near": laplace.near}
    one = QuadratureDeviance(laplace.rows, laplace.layout, **settings).evaluate(at)
    two = laplace.evaluate(at)
    assert one.value == pytest.approx(two.value, abs=1e-11)
    assert_allclose(one.gradient, two.gradient, rtol=1e-9, atol=1e-9)


def _log_integrand(rows, gamma, T, level):
    """u -> log p(y_level | u) - u'u / 2 of one level."""
    group = rows.groups[0]
    mine = group.codes == level
    z, eta0 = group.z[mine], rows.fixed_part(gamma)[mine]
    y, w = rows.y[mine], rows.w[mine]

    def log_density(*u):
        eta = eta0 + z @ T @ np.array(u)
        loglik = rows.family.curve(eta, y, w, LOG_DISP).loglik + rows.family.constant(y, w)
        return float(loglik.sum()) - 0.5 * float(np.dot(u, u))

    return log_density


def _log_integral(f, s):
    peak = f(*np.zeros(s))

    def density(*u):
        return np.exp(f(*u[::-1]) - peak) / (2 * np.pi) ** (s / 2)

    if s == 1:
        return peak + np.log(quad(density, -9, 9, epsabs=0, epsrel=1e-11, limit=200)[0])
    return peak + np.log(dblquad(density, -9, 9, -9, 9, epsabs=1e-9, epsrel=1e-9)[0])


def _brute_force(objective, at):
    """-2 log likelihood by numerical integration, level by level."""
    gamma, theta, _ = objective.split(at)
    T, total = objective.layout.factors(theta)[0], 0.0
    for level in range(objective.rows.groups[0].n_levels):
        total -= 2 * _log_integral(_log_integrand(objective.rows, gamma, T, level), len(T))
    return total


@pytest.mark.parametrize(
    ("name", "link"),
    [("binomial", "logit"), ("binomial", "cloglog"), ("poisson", "log"), ("gamma", "log"),
     ("negative_binomial", "log"), ("inverse_gaussian", "log")],
)  # fmt: skip
def test_quadrature_tends_to_the_integral(name, link):
    problem = _problem("(1 | g)", name, link, n_agq=35, counted=False, n=30, n_groups=4)
    objective = problem.objective
    at = _point(objective)
    exact = _brute_force(objective, at)
    assert objective.evaluate(at).value == pytest.approx(exact, abs=1e-8)
    laplace = LaplaceDeviance(objective.rows, objective.layout, near=objective.near)
    assert laplace.evaluate(at).value == pytest.approx(exact, abs=0.3)


def test_quadrature_over_vectors_tends_to_the_integral():
    problem = _problem("(x | g)", n_agq=15, counted=False, n=18, n_groups=2)
    at = _point(problem.objective)
    exact = _brute_force(problem.objective, at)
    assert problem.objective.evaluate(at).value == pytest.approx(exact, abs=1e-6)


def test_a_gaussian_response_is_integrated_exactly():
    """Identity link: one node, many nodes and the marginal normal density agree."""
    problem = _problem("(x | g)", "gaussian", "identity", counted=False)
    objective = problem.objective
    at = _point(objective)
    gamma, theta, log_disp = objective.split(at)
    rows, group = objective.rows, objective.rows.groups[0]
    T = objective.layout.factors(theta)[0]
    V = np.diag(np.exp(log_disp) / rows.w)
    same = group.codes[:, None] == group.codes
    V += same * (group.z @ T @ T.T @ group.z.T)
    e = rows.y - rows.fixed_part(gamma)
    exact = np.linalg.slogdet(2 * np.pi * V)[1] + e @ np.linalg.solve(V, e)
    assert objective.evaluate(at).value == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("joint", [False, True])
def test_the_mode_is_stationary(joint):
    objective = _problem("(x | g) + (1 | h)", "binomial", "cauchit", n_agq=int(not joint)).objective
    state = objective.evaluate(_point(objective))
    rows = objective.rows
    score = rows.curve(state.mode.eta, 0.0).score
    for u, t, c in zip(state.mode.u, state.T, rows.level_sums(score), strict=True):
        assert_allclose(u, t.T @ c, atol=1e-9)
    if joint:
        assert_allclose(rows.Q.T @ score, 0, atol=1e-8)


def test_the_mode_from_far_away():
    """Where counts of e^33 were expected eta, which is summed up, does not part from u."""
    objective = _problem("(1 | g)", "poisson", "log").objective
    at = _point(objective)
    state, rows = objective.evaluate(at), objective.rows
    u = [
        np.full(x.shape, 33.0 / float(np.abs(t).max()))
        for x, t in zip(state.mode.u, state.T, strict=True)
    ]
    found = find_mode(rows, mode_at(rows, state.mode.gamma, u, state.T, 0.0), state.T, 0.0)
    assert_allclose(found.penalised, state.mode.penalised, rtol=1e-9)
    assert_allclose(found.u[0], state.mode.u[0], atol=1e-6)


def test_the_tangent_of_the_mode():
    objective = _problem("(x | g) + (1 | h)", "negative_binomial", "log").objective
    at = _point(objective)
    state = objective.evaluate(at)
    for e in 1e-4 * np.eye(len(at)):
        moved = objective.evaluate(at + e).mode.u
        _, expected = next(iter(state.expected_modes(at + e)))
        for u, v, start in zip(moved, expected, state.mode.u, strict=True):
            assert np.abs(u - v).max() < 1e-3 * max(np.abs(u - start).max(), 1e-7)


def test_hessian_for_standard_errors():
    """Differences of the gradient along the mode's tangent against differences at modes."""
    objective = _problem("(x | g)", "gamma", "log").objective
    at = _point(objective)
    state = objective.evaluate(at)
    steps = np.diag(1 / np.sqrt(state.metric))
    steps[0, 1] = steps[0, 0] / 2
    H = hessian_by_differences(objective, state, steps)
    h = 1e-3
    for j, step in enumerate(h * steps.T):
        ends = (objective.evaluate(at + sign * step).gradient for sign in (1, -1))
        assert_allclose(H[j], np.subtract(*ends) @ steps / (2 * h), atol=2e-5)


@pytest.mark.parametrize("refused", ["ahead", "everywhere"])
def test_hessian_where_evaluations_are_refused(monkeypatch, refused):
    """Differences to the other side, and NaN where that is refused too."""
    objective = _problem("(x | g)", "gamma", "log").objective
    at = _point(objective)
    state = objective.evaluate(at)
    steps = np.diag(1 / np.sqrt(state.metric))
    plain, no_factor = hessian_by_differences(objective, state, steps), type(objective.rows).factor

    def factor(self, weight, T, **settings):
        ahead = T[0][0, 0] > state.T[0][0, 0]
        if refused == "everywhere" or ahead:
            raise NotPositiveDefinite
        return no_factor(self, weight, T, **settings)

    monkeypatch.setattr(type(objective.rows), "factor", factor)
    H = hessian_by_differences(objective, state, steps)
    if refused == "ahead":
        assert_allclose(H, plain, atol=1e-3)
    else:
        assert np.isnan(H).all()


@pytest.mark.parametrize(("name", "link"), COMBINATIONS)
def test_the_gradient_vanishes_at_the_optimum(name, link):
    problem = _problem("(1 | g)", name, link, counted=False)
    try:
        fit = fit_glmm(problem)
    except NoMode:
        assert link in ("log", "identity", "sqrt") and make_family(name, link).discrete
        pytest.skip("the optimum lies on the boundary of the mean's range")
    assert fit.optimum.converged
    assert fit.optimum.n_evaluations <= 15
    state = problem.objective.near.state
    step = np.linalg.solve(state.hessian, state.gradient)
    assert abs(state.gradient @ step) < 1e-6


@pytest.mark.parametrize("n_agq", [0, 1, 4])
def test_frequencies_are_repeated_rows(n_agq):
    family = make_family("binomial")
    df, y, w, count = _table(family)
    weighted = build_design("y ~ x + (x | g)", df, sample_weight=count)
    repeated = np.repeat(np.arange(len(df)), count.astype(int))
    one = fit_glmm(approximation(weighted, y, w, family, n_agq))
    longer = build_design("y ~ x + (x | g)", df.iloc[repeated])
    two = fit_glmm(approximation(longer, y[repeated], w[repeated], family, n_agq))
    assert one.deviance == pytest.approx(two.deviance, abs=1e-7)
    assert_allclose(one.beta, two.beta, rtol=1e-5)
    assert_allclose(one.vcov, two.vcov, rtol=1e-4)
    assert one.n_obs == two.n_obs


@pytest.mark.parametrize("link", ["logit", "probit", "cauchit"])
def test_swapping_success_and_failure_changes_signs_only(link):
    family = make_family("binomial", link)
    df, y, w, _ = _table(family)
    design = build_design("y ~ x + (1 | g)", df)
    one = fit_glmm(approximation(design, y, w, family, 1))
    two = fit_glmm(approximation(design, w - y, w, family, 1))
    assert one.deviance == pytest.approx(two.deviance, abs=1e-8)
    assert_allclose(one.beta, -two.beta, rtol=1e-5, atol=1e-7)
    assert_allclose(one.covariances[0], two.covariances[0], rtol=1e-4)


def test_order_of_rows_does_not_matter():
    family = make_family("poisson")
    df, y, *_ = _table(family)
    order = np.random.default_rng(3).permutation(len(df))
    fits = [
        fit_glmm(approximation(build_design("y ~ x + (x | g) + (1 | h)", df.iloc[at]),
                               y[at], np.ones(len(y)), family, 1))
        for at in (np.arange(len(df)), order)
    ]  # fmt: skip
    assert fits[0].deviance == pytest.approx(fits[1].deviance, abs=1e-8)
    assert_allclose(fits[0].beta, fits[1].beta, rtol=1e-5)


def test_trials_are_rows():
    """A row of w trials and w rows of one trial differ by the binomial coefficients only."""
    family = make_family("binomial")
    df, y, w, _ = _table(family)
    at = np.repeat(np.arange(len(df)), w.astype(int))
    ones = np.concatenate([np.arange(int(k)) < s for s, k in zip(y, w, strict=True)]).astype(float)
    together = fit_glmm(approximation(build_design("y ~ x + (1 | g)", df), y, w, family, 1))
    apart = build_design("y ~ x + (1 | g)", df.iloc[at])
    apart = fit_glmm(approximation(apart, ones, np.ones(len(ones)), family, 1))
    constant = -2 * float(family.constant(y, w).sum())
    assert together.deviance == pytest.approx(apart.deviance + constant, abs=1e-7)
    assert_allclose(together.beta, apart.beta, rtol=1e-6)
    assert_allclose(together.vcov, apart.vcov, rtol=1e-5)


def test_negative_weights_are_handled():
    """Cauchit: rows far from their prediction have negative observed information."""
    objective = _problem("(1 | g)", "binomial", "cauchit").objective
    at = starting_values(objective)
    rows = objective.rows
    far = replace(rows, y=np.where(np.arange(len(rows.y)) < 12, rows.w - rows.y, rows.y))
    start = mode_at(far, np.array([3.0, 2.0]), objective.near.state.mode.u,
                    objective.layout.factors(objective.split(at)[1]), 0.0)  # fmt: skip
    assert start.curve.weight.min() < 0
    mode = find_mode(far, start, objective.layout.factors(objective.split(at)[1]), 0.0)
    c = far.level_sums(mode.curve.score)[0]
    assert_allclose(mode.u[0], objective.layout.factors(objective.split(at)[1])[0].T @ c, atol=1e-8)


def test_a_rule_integrates_polynomials():
    rule = Rule.product(4, 2)
    moments = np.exp(rule.log_weights) @ (rule.nodes[:, 0] ** 4 * rule.nodes[:, 1] ** 2)
    assert moments == pytest.approx(3.0, rel=1e-10)


@pytest.mark.parametrize(
    ("formula", "n_agq", "message"),
    [("(1 | g) + (1 | h)", 3, "one grouping factor and the model has 2"),
     ("(x | g)", 200, "200\\^2 nodes")],
)  # fmt: skip
def test_quadratures_that_are_impossible(formula, n_agq, message):
    with pytest.raises(ValueError, match=message):
        _problem(formula, n_agq=n_agq)
