"""MixedLinearRegressor(solver="iterative") against the direct solver, and what it tells."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skmixed import MixedLinearRegressor
from skmixed.exceptions import ComparisonWarning, SingularFitWarning
from skmixed.inference import drop1, likelihood_ratio_test, random_effects_test

FORMULA = "y ~ x + (1 | user) + (1 | item)"


def ratings(seed=0, n=6000, users=250, items=120, brands=20, sd=(0.5, 0.6, 0.4, 0.3)):
    """Long-tailed ratings of items in brands by users, who differ in their slope too."""
    rng = np.random.default_rng(seed)
    popular = rng.lognormal(0.0, 1.5, items)
    user = np.append(np.arange(users), rng.integers(0, users, n - users))
    item = rng.choice(items, n, p=popular / popular.sum())
    item[:items] = np.arange(items)
    brand, x = np.arange(items) % brands, rng.standard_normal(n)
    y = 3.0 + 0.1 * x + 0.8 * rng.standard_normal(n)
    y += sd[0] * rng.standard_normal(users)[user] + sd[1] * rng.standard_normal(items)[item]
    y += sd[2] * rng.standard_normal(brands)[brand[item]]
    y += sd[3] * rng.standard_normal(users)[user] * x
    return pd.DataFrame(
        {"y": y, "x": x, "user": user, "item": item, "brand": brand[item],
         "w": rng.uniform(0.5, 2.0, n), "k": rng.integers(1, 4, n)}
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return ratings()


def both(formula, data, *, sample_weight=None, **settings):
    direct = MixedLinearRegressor(formula, solver="direct", **settings)
    iterative = MixedLinearRegressor(formula, solver="iterative", n_probes=32, **settings)
    return [m.fit(data, sample_weight=sample_weight) for m in (iterative, direct)]


def check_agreement(found, exact, theta=4.0, left=0.0):
    """``left``: share of a standard error of theta that the search may leave undone."""
    error = np.abs(found.theta_ - exact.theta_)
    undone = left * found.theta_mc_std_.max() / max(found.monte_carlo_share_, 1e-300)
    assert (error <= theta * found.theta_mc_std_ + undone + 1e-6).all(), error / found.theta_mc_std_
    std = exact.standard_errors_
    assert (np.abs(found.fixed_effects_ - exact.fixed_effects_) < 2e-3 * std).all()
    np.testing.assert_allclose(found.standard_errors_, std, rtol=0.01)
    assert found.deviance_ == pytest.approx(exact.deviance_, abs=5e-3)
    assert found.sigma_ == pytest.approx(exact.sigma_, rel=1e-3)


@pytest.mark.parametrize(
    "formula",
    [
        FORMULA,
        "y ~ x + (x | user) + (1 | item)",
        "y ~ x + (x || user) + (1 | item) + (1 | brand)",
        "y ~ x + (1 | user) + (x | item)",
        "y ~ x + (1 | brand/item)",
        "y ~ x + (1 | user)",
        "y ~ x + offset(x) + (1 | user) + (1 | item)",
        "y ~ x + (1 | user) + homdiag(1 + x | item)",
    ],
)
def test_estimates_are_those_of_the_direct_solver(data, formula):
    check_agreement(*both(formula, data))


@pytest.mark.parametrize(
    "settings", [{"reml": False}, {"prior_weights": "w"}, {"sample_weight": "k"}]
)
def test_criteria_and_weights(data, settings):
    if "sample_weight" in settings:
        settings = {"sample_weight": data["k"]}
    check_agreement(*both("y ~ x + (x | user) + (1 | item)", data, **settings))


def test_a_fit_says_how_it_was_made(data):
    found = MixedLinearRegressor(FORMULA, solver="iterative").fit(data)
    exact = MixedLinearRegressor(FORMULA, solver="direct").fit(data)
    assert (found.solver_, exact.solver_) == ("iterative", "direct")
    assert found.n_probes_ in (8, 16, 32, 64)
    assert 0 < found.monte_carlo_share_ <= 0.01 or found.n_probes_ == 64
    assert found.n_cg_iterations_ > 0
    assert "Iterative solver" in str(found.summary())
    assert f"{found.n_probes_} probes" in str(found.summary())
    assert (exact.n_probes_, exact.n_cg_iterations_) == (0, 0)
    assert (exact.monte_carlo_share_, exact.deviance_mc_std_) == (0.0, 0.0)
    np.testing.assert_array_equal(exact.theta_mc_std_, [0.0, 0.0])
    assert "Iterative" not in str(exact.summary())
    assert MixedLinearRegressor(FORMULA).fit(data).solver_ == "direct"


def test_one_seed_one_answer(data):
    model = MixedLinearRegressor(FORMULA, solver="iterative", n_probes=8)
    first, again = clone(model).fit(data), clone(model).fit(data)
    np.testing.assert_allclose(first.theta_, again.theta_, rtol=1e-6)
    assert first.deviance_ == pytest.approx(again.deviance_, rel=1e-6)
    shuffled = clone(model).fit(data.sample(frac=1.0, random_state=1))
    np.testing.assert_allclose(shuffled.theta_, first.theta_, rtol=1e-8)
    other = clone(model).set_params(random_state=1).fit(data)
    assert not np.array_equal(other.theta_, first.theta_)
    assert other.n_probes_ == 8


def test_stated_errors_are_those_of_other_seeds(data):
    exact = MixedLinearRegressor(FORMULA, solver="direct").fit(data)
    misses = []
    for seed in range(25):
        model = MixedLinearRegressor(FORMULA, solver="iterative", n_probes=16, random_state=seed)
        found = model.fit(data)
        misses.append((found.theta_ - exact.theta_) / found.theta_mc_std_)
    size = np.sqrt(np.mean(np.square(misses), axis=0))
    assert ((size > 0.5) & (size < 1.7)).all(), size


def test_modes_predictions_and_their_errors(data):
    found, exact = both("y ~ x + (x | user) + (1 | item) + (1 | brand)", data)
    for group, table in exact.random_effects_.items():
        std = exact.random_effects_std_[group]
        assert (np.abs(found.random_effects_[group] - table) < 0.02 * std).all(axis=None)
        assert np.abs(found.random_effects_std_[group] / std - 1).max(axis=None) < 0.1
    new = data[:60].assign(user=lambda d: d["user"].where(d.index > 5, -1))
    mean, std = found.predict(new, return_std=True)
    wanted, wanted_std = exact.predict(new, return_std=True)
    np.testing.assert_allclose(mean, wanted, atol=2e-3)
    np.testing.assert_allclose(std, wanted_std, rtol=0.01)
    np.testing.assert_allclose(
        found.predict(new, random_effects=["item"]), exact.predict(new, random_effects=["item"]),
        atol=2e-3,
    )  # fmt: skip


def test_a_variance_of_zero_is_exactly_zero():
    data = ratings(seed=1, sd=(0.5, 0.0, 0.0, 0.0), items=40)
    data["item"] = np.random.default_rng(3).permutation(data["item"])
    found = ends_at_zero = None
    for seed in range(1, 9):  # a design where the estimate is zero
        data["y"] = np.random.default_rng(seed).standard_normal(len(data)) + data["user"] % 7
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)
            found, exact = both(FORMULA, data)
        ends_at_zero = exact.theta_[1] == 0
        if ends_at_zero:
            break
    assert ends_at_zero
    assert found.theta_[1] == 0.0
    assert found.is_singular_
    check_agreement(found, exact)


@pytest.mark.parametrize("formula", ["y ~ x + (1 | user) + (x | item)",
                                     "y ~ x + (1 | user) + (x || item) + (1 | brand)"])  # fmt: skip
@pytest.mark.parametrize("size", [2.0, 8.0])
def test_a_slope_without_variance_beside_a_large_intercept(formula, size):
    data = ratings(seed=6, sd=(16.0, size, 0.3, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        found, exact = both(formula, data)
    assert found.monte_carlo_share_ < 0.05
    assert found.n_cg_iterations_ < 100
    assert found.deviance_ == pytest.approx(exact.deviance_, abs=0.01)
    np.testing.assert_allclose(found.sigma_, exact.sigma_, rtol=1e-3)
    assert np.abs(found.theta_ - exact.theta_).max() < 0.05


def test_a_response_that_is_explained_exactly_is_told(data):
    rng = np.random.default_rng(0)
    effects = rng.standard_normal(250)[data["user"]] + rng.standard_normal(120)[data["item"]]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = MixedLinearRegressor(FORMULA, solver="iterative")
        model.fit(data.assign(y=data["x"] + effects))
    assert any("explain the response exactly" in str(one.message) for one in told)
    assert not model.converged_


def test_large_variances_and_separate_parts():
    data = ratings(seed=2, sd=(16.0, 16.0, 0.0, 0.0))  # theta of 20
    check_agreement(*both(FORMULA, data), left=0.005)
    halves = ratings(seed=3, n=3000)
    apart = pd.concat([halves, halves.assign(user=halves.user + 1000, item=halves.item + 1000,
                                             y=halves.y[::-1].to_numpy())])  # fmt: skip
    check_agreement(*both(FORMULA, apart.reset_index(drop=True)))


def test_nested_core_factors_take_few_iterations():
    data = ratings(seed=4, n=20_000, users=800, items=400, brands=40)
    found, exact = both("y ~ x + (1 | user) + (1 | item) + (1 | brand)", data)
    assert found.n_cg_iterations_ <= 25
    assert found.monte_carlo_share_ < 0.02
    check_agreement(found, exact)


def test_many_fixed_effects_and_dependent_ones(data):
    rng = np.random.default_rng(0)
    more = {f"x{j}": rng.standard_normal(len(data)) for j in range(40)}
    wide = data.assign(**more)
    formula = "y ~ " + " + ".join(more) + " + (1 | user) + (1 | item)"
    check_agreement(*both(formula, wide))


def test_pickles_predict_alike(data):
    model = MixedLinearRegressor(FORMULA, solver="iterative").fit(data)
    loaded = pickle.loads(pickle.dumps(model))
    for a, b in zip(model.predict(data[:9], return_std=True),
                    loaded.predict(data[:9], return_std=True), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert loaded.solver_ == "iterative"
    assert loaded.monte_carlo_share_ == model.monte_carlo_share_
    assert str(loaded.summary()) == str(model.summary())


def test_tests_of_fixed_effects_have_normal_quantiles(data):
    found, exact = both(FORMULA, data)
    table = found.coefficients()
    wanted = exact.coefficients(ddf="asymptotic")
    np.testing.assert_allclose(table["p_value"], wanted["p_value"], rtol=0.05, atol=1e-20)
    assert np.isinf(table["df"]).all()
    with pytest.raises(ValueError, match="solver='direct'"):
        found.coefficients(ddf="satterthwaite")


@pytest.mark.parametrize(
    "ask",
    [
        lambda m, d: m.confint(method="profile"),
        lambda m, d: m.variance_components(),
        lambda m, d: m.result_.second_order,
    ],
)
def test_what_the_solver_has_not_is_an_error_that_names_the_other(data, ask):
    model = MixedLinearRegressor(FORMULA, solver="iterative").fit(data)
    with pytest.raises(ValueError, match="solver='direct'"):
        ask(model, data)


def test_likelihood_ratio_tests_are_those_of_exact_fits(data):
    small, exact_small = both("y ~ x + (1 | user) + (1 | item)", data)
    large, exact_large = both("y ~ x + (x | user) + (1 | item)", data)
    table, wanted = (
        likelihood_ratio_test(*m) for m in ((small, large), (exact_small, exact_large))
    )
    assert table["Chisq"].iloc[1] == pytest.approx(wanted["Chisq"].iloc[1], abs=0.02)
    assert "Chisq error" not in table
    tested = random_effects_test(small)
    np.testing.assert_allclose(tested["lrt"][1:], random_effects_test(exact_small)["lrt"][1:],
                               rtol=1e-3)  # fmt: skip


def test_paired_probes_and_no_p_value_that_could_change(data, monkeypatch):
    direct = [MixedLinearRegressor(f, solver="direct").fit(data)
              for f in ("y ~ 1 + (1 | user) + (1 | item)", FORMULA)]  # fmt: skip
    exact = likelihood_ratio_test(*direct)
    monkeypatch.setattr("skmixed.linalg.iterative_logdet.DENSE", 0)
    found = [MixedLinearRegressor(f, solver="iterative").fit(data)
             for f in ("y ~ 1 + (1 | user) + (1 | item)", FORMULA)]  # fmt: skip
    table = likelihood_ratio_test(*found)
    alone = max(m.deviance_mc_std_ for m in found)
    error = table["Chisq error"].iloc[1]
    assert 0 < error < alone
    assert abs(table["Chisq"].iloc[1] - exact["Chisq"].iloc[1]) < 4 * error + 0.01
    noise = data.assign(z=np.random.default_rng(5).standard_normal(len(data)))
    monkeypatch.setattr("skmixed.inference.lrt.difference_error", lambda *fits: 1.0)
    with pytest.warns(ComparisonWarning, match="Monte-Carlo error of 1"):
        unsure = drop1(MixedLinearRegressor("y ~ z + (1 | user)", solver="iterative").fit(noise),
                       noise)  # fmt: skip
    assert np.isnan(unsure.loc["z", "p_value"])


def test_what_does_not_converge_is_told(data, monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_cg.MAX_ITERATIONS", 1)
    model = MixedLinearRegressor("y ~ x + (1 | user) + (1 | item)", solver="iterative")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(data)
    assert any("'user' and 'item' are nested" in str(w.message) for w in told)
    assert all(issubclass(w.category, ConvergenceWarning) for w in told)
    assert not model.converged_


def test_a_large_monte_carlo_error_is_told(data, monkeypatch):
    monkeypatch.setattr("skmixed.estimators._solver.TOLD_SHARE", 1e-9)
    with pytest.warns(ConvergenceWarning, match=r"Monte-Carlo error .* raise n_probes"):
        MixedLinearRegressor(FORMULA, solver="iterative", n_probes=2).fit(data)


@pytest.mark.parametrize(
    "bad", [{"solver": "cg"}, {"n_probes": 1}, {"n_probes": "many"}, {"random_state": None}]
)
def test_parameters_are_checked(data, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MixedLinearRegressor(FORMULA, **bad).fit(data)


def test_related_levels_are_for_the_direct_solver(data):
    K = pd.DataFrame(np.eye(250), index=range(250), columns=range(250))
    model = MixedLinearRegressor(FORMULA, solver="iterative", relationship={"user": K})
    with pytest.raises(ValueError, match="solver='direct'"):
        model.fit(data)


def test_other_models_are_not_touched(data):
    plain = MixedLinearRegressor("y ~ x", solver="iterative").fit(data)
    assert plain.solver_ == "direct"
    line = data.assign(y=2.0 + data["x"])
    with pytest.warns(SingularFitWarning):
        exact = MixedLinearRegressor(FORMULA, solver="iterative").fit(line)
    assert exact.fixed_effects_["Intercept"] == pytest.approx(2.0)


def test_a_search_may_start_from_some_of_the_rows(data, monkeypatch):
    monkeypatch.setattr("skmixed.models.deviance.THINNED_FROM", 1000)
    monkeypatch.setattr("skmixed.models.stochastic._THINNED", 40)
    formula = "y ~ x + (x | user) + (1 | item)"
    started = MixedLinearRegressor(formula, solver="iterative").fit(data, sample_weight=data["k"])
    monkeypatch.undo()
    plain = MixedLinearRegressor(formula, solver="iterative").fit(data, sample_weight=data["k"])
    np.testing.assert_allclose(started.theta_, plain.theta_, atol=1e-3)
    assert np.abs(started.trace_.iloc[0, 1:] - plain.theta_).max() < 0.3


def test_residuals_and_influence_are_those_of_the_direct_solver(data):
    found, exact = both(FORMULA, data)
    X, y = data.drop(columns="y"), data["y"]
    for kind in ("response", "scaled", "studentized"):
        np.testing.assert_allclose(
            found.residuals(X, y, kind=kind), exact.residuals(X, y, kind=kind), atol=3e-3
        )


@pytest.mark.parametrize("formula", [FORMULA, "y ~ x + (x | user) + (x | item)"])
def test_standard_deviations_of_levels(data, formula):
    found, exact = both(formula, data)
    levels = {"item": list(exact.random_effects_["item"].index[[7, 2]]), "user": [3]}
    own, expected = found.random_effects_std(levels), exact.random_effects_std(levels)
    for group, table in own.items():
        assert table.index.tolist() == levels[group]
        pd.testing.assert_frame_equal(table, expected[group], rtol=2e-2)
        whole = exact.random_effects_std_[group].loc[levels[group]]
        pd.testing.assert_frame_equal(expected[group], whole)
    # at one theta they are the same
    T = exact.result_.layout.factors(exact.result_.optimum.theta)
    factor = found.result_.objective.system.factor(T)
    there = replace(found.result_, sigma=exact.sigma_, factor=factor)
    for t in range(2):
        places = np.array([5, 0])
        expected = exact.result_.level_std(t, places)
        np.testing.assert_allclose(there.level_std(t, places), expected, rtol=1e-5)


def test_levels_that_are_not_there(data):
    model = MixedLinearRegressor(FORMULA, solver="iterative", n_probes=8).fit(data)
    with pytest.raises(ValueError, match=r"'users' is not a grouping factor .* 'user', 'item'"):
        model.random_effects_std({"users": [1]})
    with pytest.raises(ValueError, match="'user' had no level -7"):
        model.random_effects_std({"user": [1, -7]})
    with pytest.raises(ValueError, match="must be a list"):
        model.random_effects_std({"user": "1"})
