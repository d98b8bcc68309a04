"""MixedLinearRegressor with a residual structure."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmixed import MixedGLMRegressor, MixedLinearRegressor, SingularFitWarning
from skmixed.datasets import load_machines, load_sleepstudy
from skmixed.design import build_design
from skmixed.exceptions import ComparisonWarning
from skmixed.inference import (
    cluster_robust,
    influence,
    likelihood_ratio_test,
    random_effects_test,
)
from skmixed.models.correlated import deviance_of


def frame(seed=0, n=60, k=5, sd=(1.0, 1.3, 1.6, 1.9, 2.2), rho=0.6):
    """Groups with up to k visits in any order: correlated residuals, a variance per visit."""
    rng = np.random.default_rng(seed)
    gap = np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    e = rng.normal(size=(n, k)) @ np.linalg.cholesky(rho**gap).T * sd
    data = pd.DataFrame({"id": np.repeat(np.arange(n), k), "visit": np.tile(np.arange(k), n)})
    data["trt"] = np.where(data["id"] % 2, "A", "B")
    data["x"] = rng.uniform(1, 4, n * k)
    data["w"] = rng.uniform(0.5, 2, n * k)
    data["y"] = 10 + 0.5 * data["visit"] * (data["trt"] == "A") + data["x"] + e.ravel()
    kept = data[rng.random(n * k) < 0.85]
    return kept.sample(frac=1.0, random_state=seed).reset_index(drop=True)


@pytest.fixture(scope="module")
def data():
    return frame()


def fit(data, residual, formula="y ~ x + trt", **options):
    return MixedLinearRegressor(formula, residual=residual, **options).fit(data)


def same(a, b, rtol=1e-6):
    assert a.deviance_ == pytest.approx(b.deviance_, abs=1e-6)
    np.testing.assert_allclose(a.fixed_effects_, b.fixed_effects_, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(a.standard_errors_, b.standard_errors_, rtol=rtol)


def test_exchangeable_residuals_are_a_random_intercept(data):
    residual = fit(data, "homcs(visit | id)")
    random = fit(data, None, "y ~ x + trt + (1 | id)")
    same(residual, random)
    assert residual.n_evaluations_ <= 15
    assert residual.aic_ == pytest.approx(random.aic_, abs=1e-6)
    [rho] = residual.residual_parameters_
    tau = random.covariances_["id"].iloc[0, 0]
    assert rho == pytest.approx(tau / (tau + random.sigma_**2), rel=1e-4)
    assert residual.sigma_**2 == pytest.approx(tau + random.sigma_**2, rel=1e-4)
    for ddf in ("satterthwaite", "kenward_roger"):
        own, other = residual.coefficients(ddf), random.coefficients(ddf)
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(residual.anova(ddf=ddf)["F"], random.anova(ddf=ddf)["F"],
                                   rtol=1e-4)  # fmt: skip


def test_heterogeneous_ar1_is_a_product(data):
    one, two = fit(data, "hetar1(visit | id)"), fit(data, "ar1(visit | id) * ident(visit)")
    same(one, two)
    assert one.n_obs_ - one.df_resid_ == two.n_obs_ - two.df_resid_ == 3 + 1 + 4 + 1
    np.testing.assert_allclose(
        np.sort(one.residual_parameters_), np.sort(two.residual_parameters_), rtol=1e-4
    )
    rows = data[data["id"] == 7]
    np.testing.assert_allclose(
        one.residual_covariance_(rows), two.residual_covariance_(rows), rtol=1e-4
    )


def test_continuous_times_in_whole_steps_are_ar1(data):
    one, two = fit(data, "ar1(visit | id)"), fit(data, "car1(visit | id)")
    same(one, two)
    rho, reach = one.residual_parameters_["rho"], two.residual_parameters_["range"]
    assert rho == pytest.approx(np.exp(-1 / reach), rel=1e-4)


@pytest.mark.parametrize(
    "residual", ["us(visit | id)", "ar1(visit | id)", "ident(visit)", "power(x) * car1(visit | id)"]
)
def test_order_of_rows_and_units_do_not_matter(data, residual):
    model = fit(data, residual)
    shuffled = fit(data.sample(frac=1.0, random_state=3), residual)
    same(model, shuffled)
    np.testing.assert_allclose(
        model.residual_parameters_, shuffled.residual_parameters_, rtol=1e-4, atol=1e-4
    )
    units = data.assign(y=1e6 * data["y"], visit=data["visit"] * 7, x=1e-4 * data["x"])
    other = fit(units, residual.replace("ar1", "car1") if residual[:3] == "ar1" else residual)
    jacobian = 2 * (len(data) - 3) * np.log(1e6) + 2 * np.log(1e-4)
    assert other.deviance_ == pytest.approx(model.deviance_ + jacobian, abs=1e-5)
    assert other.fixed_effects_["x"] == pytest.approx(1e10 * model.fixed_effects_["x"], rel=1e-5)


def test_power_of_the_covariate_is_relative_to_one(data):
    model = fit(data, "power(x)", "y ~ x + (1 | id)")
    delta = model.residual_parameters_["power"]
    limits = model.predict_interval(data, kind="observation")
    std = model.predict(data, return_std=True)[1]
    half = np.square(np.diff(limits)[:, 0] / 2 / 1.959963984540054) - np.square(std)
    np.testing.assert_allclose(np.sqrt(half), model.sigma_ * data["x"] ** delta, rtol=1e-6)
    T = model.theta_[0] * model.sigma_
    assert model.covariances_["id"].iloc[0, 0] == pytest.approx(T**2)


def test_intervals_of_observations_have_the_rows_own_variance():
    machines = load_machines().frame
    model = fit(machines, "ident(Machine)", "score ~ Machine + (1 | Worker)")
    std = model.predict(machines, return_std=True)[1]
    limits = model.predict_interval(machines, kind="observation")
    sd = model.residual_parameters_["sd " + machines["Machine"].astype(str)].to_numpy()
    half = 1.959963984540054 * np.hypot(std, sd)
    np.testing.assert_allclose(np.diff(limits)[:, 0], 2 * half, rtol=1e-9)
    unknown = machines.assign(Machine="D")[:2]
    with pytest.raises(ValueError):
        model.predict_interval(unknown, kind="observation")


def test_simulated_residuals_have_the_covariance(data):
    model = fit(data, "us(visit | id)")
    rows = data[data["id"] == 3]
    draws = model.simulate(rows, 20_000, random_state=0)
    own = model.residual_covariance_(rows).to_numpy()
    scale = np.sqrt(np.outer(own.diagonal(), own.diagonal()))
    np.testing.assert_allclose(np.cov(draws) / scale, own / scale, atol=0.05)
    np.testing.assert_allclose(draws.mean(axis=1), model.predict(rows), atol=0.1)


def test_normalized_residuals_are_free_of_correlation(data):
    model = fit(data, "ar1(visit | id) * ident(visit)", prior_weights="w")
    found = model.residuals(data, kind="normalized")
    raw = model.residuals(data) * np.sqrt(data["w"])
    for level in (0, 11, 40):
        at = np.flatnonzero(data["id"] == level)
        L = np.linalg.cholesky(model.residual_covariance_(data.iloc[at]))
        np.testing.assert_allclose(found[at], np.linalg.solve(L, raw.iloc[at]), rtol=1e-9)
    sd = model.residual_parameters_["sd " + data["visit"].astype(str)].to_numpy()
    np.testing.assert_allclose(model.residuals(data, kind="scaled"), raw / sd)
    np.testing.assert_allclose(model.residuals(data, kind="pearson"), raw / sd * model.sigma_)
    plain = fit(data, None)
    np.testing.assert_allclose(
        plain.residuals(data, kind="normalized"), plain.residuals(data, kind="scaled")
    )


def test_whole_groups_may_count_several_times(data):
    counts = (data["id"] % 3).to_numpy()
    weighted = MixedLinearRegressor("y ~ x", residual="us(visit | id)").fit(
        data, sample_weight=counts
    )
    copies = [data[counts > c].assign(id=data["id"] + 1000 * c) for c in range(2)]
    same(weighted, fit(pd.concat(copies), "us(visit | id)", "y ~ x"))
    with pytest.raises(ValueError, match="counts whole groups of the correlated rows"):
        MixedLinearRegressor("y ~ x", residual="us(visit | id)").fit(
            data, sample_weight=1 + np.arange(len(data)) % 2
        )


def test_counts_of_independent_rows_are_copies(data):
    counts = 1 + np.arange(len(data)) % 2
    weighted = MixedLinearRegressor("y ~ x", residual="ident(visit)").fit(
        data, sample_weight=counts
    )
    same(weighted, fit(data.loc[data.index.repeat(counts)], "ident(visit)", "y ~ x"))


def test_scikit_learn_takes_it(data):
    model = MixedLinearRegressor("y ~ x + trt", residual="ar1(visit | id)")
    assert clone(model).get_params()["residual"] == "ar1(visit | id)"
    assert clone(model).set_params(residual=None).residual is None
    pipe = make_pipeline(FunctionTransformer(), clone(model)).fit(data)
    np.testing.assert_allclose(pipe.predict(data), model.fit(data).predict(data))
    with pytest.raises(ValueError, match="must be an instance of 'str'"):
        model.set_params(residual=3).fit(data)
    with pytest.raises(TypeError, match="residual"):
        MixedGLMRegressor("y ~ x", residual="ident(trt)")


def test_pickles_keep_what_was_found(data):
    model = fit(data, "power(x) * us(visit | id)")
    table = model.coefficients()
    copy = pickle.loads(pickle.dumps(model))
    pd.testing.assert_series_equal(copy.residual_parameters_, model.residual_parameters_)
    pd.testing.assert_frame_equal(copy.coefficients(), table)
    rows = data[:7]
    np.testing.assert_allclose(
        copy.predict_interval(rows, kind="observation"),
        model.predict_interval(rows, kind="observation"),
    )
    small = len(pickle.dumps(model.result_.residual))
    assert small < 8 * len(data)  # no number for every row


def test_summary_tells_of_it(data):
    text = str(fit(data, "ar1(visit | id)").summary())
    assert "Residuals ar1(visit | id): rho = 0." in text
    assert "groups: id, 60" in text


def test_intervals_and_variances(data):
    model = fit(data, "us(visit | id)", "y ~ x")
    limits = model.confint()
    assert "sigma" not in limits.index
    names = [n for n in limits.index if n.endswith("|Residual")]
    assert len(names) == 15
    values = limits.loc[names]
    assert (values["lower"] < values["estimate"]).all()
    assert (values["estimate"] < values["upper"]).all()
    np.testing.assert_allclose(values["estimate"], model.residual_parameters_)
    variances = model.variance_components()
    assert (variances["group"] == "Residual").all()
    np.testing.assert_allclose(
        variances["variance"], model.residual_covariance_().to_numpy().diagonal()
    )
    ar1 = fit(data, "ar1(visit | id)")
    assert {"sigma", "rho|Residual"} <= set(ar1.confint().index)
    with pytest.raises(ValueError, match="method='wald'"):
        ar1.confint(method="profile")


def test_wald_errors_are_those_of_the_criterion(data):
    """Against second differences of the criterion of all parameters, sigma among them."""
    model = fit(data, "ar1(visit | id)", "y ~ x")
    limits = model.confint(["rho|Residual"])
    objective, eta = model.result_.objective, model.result_.optimum.theta
    h = 1e-3
    bend = (objective(eta + h) - 2 * objective(eta) + objective(eta - h)) / h**2
    rho = np.tanh(eta[0])
    error = np.sqrt(2 / bend) * (1 - rho**2)
    reach = 1.959963984540054 * error / (1 - rho**2)
    expected = np.tanh(np.arctanh(rho) + np.array([-reach, reach]))
    np.testing.assert_allclose(limits[["lower", "upper"]].to_numpy()[0], expected, rtol=1e-4)


def test_likelihood_ratios(data):
    plain, cs, us = (fit(data, r, reml=False) for r in (None, "cs(visit | id)", "us(visit | id)"))
    table = likelihood_ratio_test(plain, cs, us)
    np.testing.assert_array_equal(table["Df"][1:], [5, 9])
    assert (table["p-value"][1:] < 1).all()
    assert table["p-value (boundary)"].isna().all()
    ident = fit(data, "ident(visit)")
    assert likelihood_ratio_test(ident, us)["p-value"].iloc[1] < 1e-10
    with pytest.warns(ComparisonWarning, match=r"the residual structure ident\(trt\)"):
        likelihood_ratio_test(fit(data, "ident(trt)"), us)


def test_random_effects_beside_it_are_tested():
    sleep = load_sleepstudy().frame
    model = fit(sleep, "ar1(Days | Subject)", "Reaction ~ Days + (1 | Subject)")
    table = random_effects_test(model)
    smaller = fit(sleep, "ar1(Days | Subject)", "Reaction ~ Days")
    assert table["log_likelihood"].iloc[1] == pytest.approx(smaller.log_likelihood_, abs=1e-5)
    with pytest.raises(ValueError, match="no random effects"):
        random_effects_test(smaller)


@pytest.mark.parametrize("ask", [influence, cluster_robust])
def test_what_is_not_known_says_so(data, ask):
    model = fit(data, "ident(visit)", "y ~ x + (1 | id)")
    with pytest.raises(ValueError, match="this one has a residual structure"):
        ask(model, data)
    with pytest.raises(ValueError, match="Kenward and Roger are known for residuals"):
        model.coefficients("kenward_roger")
    with pytest.raises(ValueError, match="this one has a residual structure"):
        model.residuals(data, kind="studentized")


def test_without_it_there_are_no_parameters(data):
    with pytest.raises(ValueError, match="belongs to models with a residual structure"):
        _ = fit(data, None).residual_parameters_
    with pytest.raises(ValueError, match="depends on the rows"):
        fit(data, "ar1(visit | id)").residual_covariance_()


@pytest.mark.parametrize(
    ("formula", "residual", "message"),
    [
        ("y ~ x + (1 | id)", "us(visit | id)", r"\(Intercept \| id\) in it"),
        ("y ~ x + (1 | id)", "toep(visit | id)", r"\(Intercept \| id\) in it"),
        ("y ~ x + (x | id)", "homcs(visit | id)", r"\(Intercept \| id\) in it"),
        ("y ~ x + (0 + visit | id)", "us(visit | id)", r"\(visit \| id\) in it"),
        ("y ~ x", "us(visit | id) * ident(visit)", "leave the latter out"),
        ("y ~ x", "homcs(visit | id) * ident(visit)", r"write cs\(visit \| id\)"),
        ("y ~ x + (1 | half)", "ar1(visit | id)", "correlates rows of different levels of 'half'"),
        ("y ~ x * two", "ident(two)", "rows the fixed effects fit exactly"),
    ],
)
def test_what_cannot_be_told_apart_says_so(data, formula, residual, message):
    more = data.assign(
        half=np.arange(len(data)) % 4, two=np.where(np.arange(len(data)) < 2, "p", "q")
    )
    with pytest.raises(ValueError, match=message):
        fit(more, residual, formula)


def test_slopes_beside_a_covariance_over_visits(data):
    model = fit(data, "homcs(visit | id)", "y ~ x + (0 + visit | id)")
    assert model.converged_


def test_correlation_that_runs_to_one_says_so():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(30), 6)
    y = 50 * rng.normal(size=30)[group] + rng.normal(size=(30, 6)).cumsum(axis=1).ravel()
    table = pd.DataFrame({"g": group, "t": np.tile(np.arange(6), 30), "y": y})
    with pytest.warns(SingularFitWarning, match=r"Write a random intercept \(1 \| g\) instead"):
        fit(table, "ar1(t | g)", "y ~ t")
    with pytest.warns(SingularFitWarning, match=r"Write a random intercept \(1 \| g\) instead"):
        fit(table.assign(y=50 * rng.normal(size=30)[group] + rng.normal(size=180)),
            "homcs(t | g)", "y ~ t")  # fmt: skip


def test_unequal_variances_have_several_optima():
    machines = load_machines().frame
    model = fit(machines, "ident(Machine)", "score ~ Machine + (1 | Worker)")
    assert model.deviance_ == pytest.approx(266.759369069026, abs=1e-6)
    flipped = machines.assign(Machine=machines["Machine"].astype(str).map({"A": "c", "B": "a",
                                                                           "C": "b"}))  # fmt: skip
    other = fit(flipped, "ident(Machine)", "score ~ Machine + (1 | Worker)")
    assert other.deviance_ == pytest.approx(model.deviance_, abs=1e-6)


def test_array_input_has_columns_by_number(data):
    X = data[["x", "id", "visit"]].to_numpy()
    model = MixedLinearRegressor("x0", residual="ar1(x2 | x1)").fit(X, data["y"].to_numpy())
    same(model, fit(data, "ar1(visit | id)", "y ~ x"))


def test_new_rows_that_lack_a_value(data):
    model = fit(data, "ident(visit)", missing="drop")
    rows = data[:4].assign(visit=[0, np.nan, 1, 2], x=[1.0, 1, np.nan, 1])
    limits = model.predict_interval(rows, kind="observation")
    np.testing.assert_array_equal(np.isnan(limits[:, 0]), [False, True, True, False])
    strict = fit(data, "ident(visit)")
    with pytest.raises(ValueError, match="'visit', of which 1 row lacks a value"):
        strict.predict_interval(rows.assign(x=1.0), kind="observation")


@pytest.mark.parametrize("step", [7, 30])
def test_times_in_other_units_are_the_same_correlation(data, step):
    model = fit(data, "ar1(visit | id)")
    other = fit(data.assign(visit=step * data["visit"]), "ar1(visit | id)")
    same(model, other)
    rho = other.residual_parameters_["rho"] ** step
    assert rho == pytest.approx(model.residual_parameters_["rho"], abs=1e-4)


def test_shares_of_variance_have_the_mean_of_the_rows():
    machines = load_machines().frame
    model = fit(machines, "ident(Machine)", "score ~ Machine + (1 | Worker)")
    sd = model.residual_parameters_["sd " + machines["Machine"].astype(str)].to_numpy()
    tau = model.covariances_["Worker"].iloc[0, 0]
    expected = tau / (tau + np.mean(sd**2))
    assert model.icc().iloc[0] == pytest.approx(expected, rel=1e-9)


def test_formula_tells_of_the_structure():
    sleep = load_sleepstudy().frame
    formula = "Reaction ~ Days + (1 | Subject)"
    plain, series = (fit(sleep, r, formula) for r in (None, "ar1(Days | Subject)"))
    table = likelihood_ratio_test(series, plain)
    assert list(table.index) == [formula, f"{formula}, residual ar1(Days | Subject)"]


@pytest.mark.parametrize(
    ("residual", "nearly", "beyond", "told"),
    [
        ("power(x)", [5.0], [15.0], None),
        ("ident(trt)", [20.0], [26.0], "variance of 'B' in ident"),
        ("hetar1(visit | id)", [0, 0, 0, -10.0, 0.3], [0, 0, 0, -13.0, 0.3], "variance at '4' in"),
        ("us(visit | id)", [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 5e-5],
         [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1e-7], "variance at '4' in"),
        ("ar1(visit | id)", [9.0], [15.0], "has run to 1"),
    ],
)  # fmt: skip
def test_a_search_stays_where_sums_of_squares_have_digits(data, residual, nearly, beyond, told):
    objective = deviance_of(build_design("y ~ x + trt", data, residual=residual))
    exact = np.array(nearly, dtype=float)
    assert np.isfinite(objective.evaluate(exact).value)
    assert not np.isfinite(objective.evaluate(np.array(beyond, dtype=float)).value)
    found = objective.residual.at_bound(exact)
    assert told in found if told else found is None
