"""The posterior density against dense normal densities, closed forms and the REML criterion."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import invgamma, multivariate_normal

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_dyestuff, load_pastes, load_penicillin, load_sleepstudy
from skmixed.models.charts import Chart
from skmixed.models.posterior import (
    Flat,
    HalfNormal,
    HalfT,
    LogPosterior,
    LogPrior,
    Reciprocal,
)

pytestmark = pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")


def density_of(model, sd=None, eta=1.0, sigma=None, fixed=None):
    fit = model.result_
    chart = Chart.of(fit.layout, fit.unit)
    prior = LogPrior(
        (sd or Flat(),) * len(chart.sds), (eta,) * len(chart.terms), sigma or Flat(), fixed
    )
    return LogPosterior(fit.objective, chart, prior)


def sleep():
    data = load_sleepstudy().frame
    rng = np.random.default_rng(0)
    return data.assign(w=rng.uniform(0.5, 2, 180), o=rng.normal(0, 30, 180), d=data["Days"] % 4)


def indicator(values):
    codes, levels = pd.factorize(values)
    return np.eye(len(levels))[codes]


def slopes(data, covariances):
    """Sum over terms of the covariance of the rows, from z (n, s) and S (s, s) for each."""
    same = indicator(data["Subject"]) @ indicator(data["Subject"]).T
    return sum(same * (z @ S @ z.T) for z, S in covariances)


def unstructured(sd, cor):
    R = np.eye(len(sd))
    R[np.tril_indices(len(sd), -1)] = cor
    R = np.tril(R) + np.tril(R, -1).T
    return np.outer(sd, sd) * R


def _one_term(data, p):
    z = np.column_stack([np.ones(len(data)), data["Days"]])
    return slopes(data, [(z, unstructured([p[0], p[2]], [p[1]]))])


def _split(data, p):
    z = np.column_stack([np.ones(len(data)), data["Days"]])
    return slopes(data, [(z[:, :1], p[:1, None] ** 2), (z[:, 1:], p[1:2, None] ** 2)])


def _autoregressive(data, p):
    return slopes(data, [(indicator(data["d"]), p[0] ** 2 * p[1] ** np.abs(
        np.subtract.outer(np.arange(4), np.arange(4))))])  # fmt: skip


def _exchangeable(data, p):
    R = np.full((4, 4), p[1]) + (1 - p[1]) * np.eye(4)
    return slopes(data, [(indicator(data["d"]), p[0] ** 2 * R)])


def _by(*names):
    def covariance(data, p):
        return sum(
            p[k] ** 2 * indicator(data[name]) @ indicator(data[name]).T
            for k, name in enumerate(names)
        )

    return covariance


CASES = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", sleep, _one_term),
    "offset": ("Reaction ~ Days + offset(o) + (Days | Subject)", sleep, _one_term),
    "weights": ("Reaction ~ Days + (Days | Subject)", sleep, _one_term),
    "split": ("Reaction ~ Days + (Days || Subject)", sleep, _split),
    "ar1": ("Reaction ~ Days + ar1(0 + C(d) | Subject)", sleep, _autoregressive),
    "homcs": ("Reaction ~ Days + homcs(0 + C(d) | Subject)", sleep, _exchangeable),
    "crossed": (
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        lambda: load_penicillin().frame,
        _by("plate", "sample"),
    ),
    "nested": (
        "strength ~ 1 + (1 | batch) + (1 | sample)",
        lambda: load_pastes().frame,
        _by("batch", "sample"),
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    formula, load, covariance = CASES[request.param]
    data = load()
    settings = {"prior_weights": "w"} if request.param == "weights" else {}
    model = MixedLinearRegressor(formula, **settings).fit(data)
    y = data[formula.split()[0]].to_numpy(dtype=float)
    y = y - data["o"].to_numpy() if request.param == "offset" else y
    X = np.ones((len(y), 1))
    X = np.column_stack([X, data["Days"]]) if "Days" in data else X
    w = data["w"].to_numpy() if settings else np.ones(len(y))
    return model, y, X, w, lambda p: covariance(data, p)


def points(density, n=4):
    start = density.chart.start(*_at(density))
    return start + np.random.default_rng(1).normal(0, 0.4, (n, len(start)))


def _at(density):
    theta = density.objective.layout.initial()
    return theta, density.objective.y_scale


def without_prior(density, V):
    """The log density less that of the prior."""
    return density.at(V)[0] - density.prior.log(density.chart, V)


def test_beta_is_integrated_out(case):
    """Beside the dense density, up to a constant: with flat beta, that of contrasts A'y."""
    model, y, X, w, covariance = case
    density = density_of(model)
    V = points(density)
    A = np.linalg.qr(X, mode="complete")[0][:, X.shape[1] :]
    expected = []
    for p in density.chart.values(V):
        S = covariance(p) + p[-1] ** 2 * np.diag(1 / w)
        expected.append(multivariate_normal(cov=A.T @ S @ A).logpdf(A.T @ y))
    gap = without_prior(density, V) - expected
    np.testing.assert_allclose(gap, gap[0], atol=1e-6)


def test_a_normal_prior_of_beta_is_integrated_out(case):
    model, y, X, w, covariance = case
    fit, r = model.result_, X.shape[1]
    mean, sd = np.array([200.0, 3.0])[:r], np.array([50.0, 4.0])[:r]
    half = np.column_stack(
        [fit.unit * fit.basis.to_coef, mean - fit.basis.to_coef @ fit.objective.gamma]
    )
    half /= sd[:, None]
    density = density_of(model, fixed=half.T @ half)
    V = points(density)
    expected = []
    for p in density.chart.values(V):
        S = covariance(p) + p[-1] ** 2 * np.diag(1 / w) + X @ np.diag(sd**2) @ X.T
        expected.append(multivariate_normal(X @ mean, S).logpdf(y))
    gap = without_prior(density, V) - expected
    np.testing.assert_allclose(gap, gap[0], atol=1e-6)


def test_frequencies_are_rows_written_down_several_times():
    data, counts = load_sleepstudy().frame, np.arange(180) % 3 + 1
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)")
    once = density_of(model.fit(data, sample_weight=counts))
    V = points(once)
    values = without_prior(once, V)
    several = density_of(model.fit(data.loc[data.index.repeat(counts)]))
    gap = without_prior(several, V) - values
    np.testing.assert_allclose(gap, gap[0], atol=1e-7)


@pytest.mark.parametrize("with_prior", [False, True])
def test_gradient_is_that_of_the_values(case, with_prior):
    model = case[0]
    half = np.random.default_rng(0).standard_normal((2, model.result_.rank + 1))
    fixed = half.T @ half if with_prior else None
    density = density_of(model, HalfT(3.0, 10.0), 2.0, HalfNormal(30.0), fixed)
    for v in points(density, 2):
        value, gradient = density.value_and_gradient(v)
        steps = 1e-5 * np.eye(len(v))
        slopes = (density.at(v + steps)[0] - density.at(v - steps)[0]) / 2e-5
        assert value == pytest.approx(density.at(v[None])[0][0], abs=1e-8)
        np.testing.assert_allclose(gradient, slopes, atol=1e-5 * np.abs(gradient).max())


def test_mode_has_no_gradient_and_the_precision_is_that_of_the_values(case):
    density = density_of(case[0], sigma=Reciprocal())
    v, covariance = density.mode(density.chart.start(*_at(density)))
    root = np.linalg.cholesky(covariance)
    assert np.abs(root.T @ density.value_and_gradient(v)[1]).max() < 0.1
    best = density.at(v[None])[0][0]
    far = density.at(v + 0.3 * root.T)[0]
    assert (far < best + 0.01).all() and (far > best - 0.3).all()


def test_largest_over_sigma_is_the_reml_criterion():
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep())
    fit = model.result_
    density = density_of(model)
    gaps = []
    for theta in (fit.optimum.theta, 0.5 * fit.optimum.theta, fit.layout.initial()):
        state = fit.objective.evaluate(theta)
        sigma = fit.unit * np.sqrt(state.factor.pwrss / fit.objective.dof)
        v = density.chart.start(theta, sigma)
        scales = np.append(density.chart.sds, len(v) - 1)  # together, so that theta stays
        around = v + np.outer([-0.01, 0.0, 0.01], np.isin(np.arange(len(v)), scales))
        values = without_prior(density, around)
        assert values[1] == max(values)
        gaps.append(values[1] + 0.5 * state.value)
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-8)


def test_of_one_theta_sigma_squared_is_inverse_gamma():
    """Balanced one-way layout with a known ratio of variances: sums of squares in closed form."""
    data = load_dyestuff().frame.astype({"Batch": str})
    model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(data)
    density = density_of(model, sigma=Reciprocal())
    ratio = 0.8  # tau / sigma
    means = data.groupby("Batch")["Yield"].mean()
    within = ((data["Yield"] - data["Batch"].map(means)) ** 2).sum()
    between = 5 * ((means - means.mean()) ** 2).sum()
    scale = within + between / (1 + 5 * ratio**2)
    sigma = np.array([30.0, 50.0, 80.0])
    V = np.log(np.column_stack([ratio * sigma, sigma]))
    expected = invgamma(29 / 2, scale=scale / 2).logpdf(sigma**2) + 2 * np.log(sigma)
    # less the prior of tau, flat, in its logarithm
    gap = density.at(V)[0] - V[:, 0] - expected
    np.testing.assert_allclose(gap, gap[0], atol=1e-8)


def test_tails_count_contrasts():
    data = sleep()
    density = density_of(MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(data))
    v = density.chart.start(*_at(density))
    assert density.tails(v, density.chart.sds) == pytest.approx(17, abs=0.1)
    density = density_of(MixedLinearRegressor("Reaction ~ 0 + Days + (1 | Subject)").fit(data))
    assert density.tails(v, density.chart.sds) == pytest.approx(18, abs=0.1)
    # a column that is constant within subjects takes one of them
    taller = data.assign(height=data["Subject"].astype("category").cat.codes ** 2.0)
    model = MixedLinearRegressor("Reaction ~ Days + height + (1 | Subject)").fit(taller)
    assert density_of(model).tails(v, density.chart.sds) == pytest.approx(16, abs=0.1)
