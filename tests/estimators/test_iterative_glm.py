"""Generalised models with solver="iterative" against the direct solver, and what they tell."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skmixed import MixedGLMRegressor, MixedLogisticClassifier
from skmixed.exceptions import SeparationWarning, SingularFitWarning
from skmixed.inference import bootstrap, influence, likelihood_ratio_test

FORMULA = "y ~ x + (1 | user) + (1 | item)"


def outcomes(seed=0, n=4000, users=160, items=90, sd=(0.6, 0.7, 0.4, 0.3)):
    """Long-tailed answers of users to items: right or wrong, of some trials, and counts."""
    rng = np.random.default_rng(seed)
    popular = rng.lognormal(0.0, 1.3, items)
    user = np.append(np.arange(users), rng.integers(0, users, n - users))
    item = rng.choice(items, n, p=popular / popular.sum())
    item[:items] = np.arange(items)
    x, o, brand = rng.standard_normal(n), 0.3 * rng.standard_normal(n), np.arange(items) % 15
    eta = -0.4 + 0.3 * x + sd[0] * rng.standard_normal(users)[user]
    eta += sd[1] * rng.standard_normal(items)[item] + sd[2] * rng.standard_normal(15)[brand[item]]
    eta += sd[3] * rng.standard_normal(users)[user] * x
    trials = rng.integers(1, 6, n)
    p = 1 / (1 + np.exp(-eta))
    right = rng.binomial(trials, p)
    return pd.DataFrame(
        {"y": (rng.random(n) < p).astype(int), "x": x, "o": o, "user": user, "item": item,
         "brand": brand[item], "right": right, "wrong": trials - right,
         "count": rng.poisson(np.exp(np.clip(eta + o, None, 4.0))), "k": rng.integers(1, 3, n)}
    )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return outcomes()


def both(formula, data, *, sample_weight=None, Model=MixedGLMRegressor, **settings):
    models = [Model(formula, solver=s, **settings) for s in ("iterative", "direct")]
    return [m.fit(data, sample_weight=sample_weight) for m in models]


def check_agreement(found, exact, share=0.02):
    """theta within 2 % of a standard error, and all else with it."""
    assert (found.solver_, exact.solver_) == ("iterative", "direct")
    k = len(found.theta_)
    std = np.sqrt(np.diag(exact.result_.covariance))[:k]
    miss = np.abs(found.result_.optimum.theta - exact.result_.optimum.theta)
    assert (miss <= share * std + 1e-6).all(), miss / std
    beta = exact.standard_errors_
    assert (np.abs(found.fixed_effects_ - exact.fixed_effects_) < 1e-2 * beta).all()
    np.testing.assert_allclose(found.standard_errors_, beta, rtol=5e-3)
    assert found.deviance_ == pytest.approx(exact.deviance_, abs=2e-3)
    assert found.dispersion_ == pytest.approx(exact.dispersion_, rel=2e-3)


@pytest.mark.parametrize(
    ("formula", "settings"),
    [
        (FORMULA, {"family": "binomial"}),
        (FORMULA, {"family": "binomial", "link": "probit"}),
        (FORMULA, {"family": "binomial", "prior": "normal"}),
        ("cbind(right, wrong) ~ x + (1 | user) + (1 | item)", {"family": "binomial"}),
        ("y ~ x + (x | user) + (1 | item) + (1 | brand)", {"family": "binomial"}),
        ("y ~ x + (x || user) + (1 | brand/item)", {"family": "binomial"}),
        ("y ~ x + (1 | user) + homdiag(1 + x | item)", {"family": "binomial"}),
        ("count ~ x + offset(o) + (1 | user) + (1 | item)", {}),
        ("count ~ x + offset(o) + (1 | user) + (x | item)", {}),
        ("count ~ x + (1 | user) + (1 | item)", {"family": "negative_binomial"}),
        ("count ~ x + (1 | user)", {}),
    ],
)
def test_estimates_are_those_of_the_direct_solver(data, formula, settings):
    check_agreement(*both(formula, data, **settings))


def test_frequencies(data):
    formula = "count ~ x + offset(o) + (1 | user) + (1 | item)"
    found, exact = both(formula, data, sample_weight=data["k"])
    check_agreement(found, exact)


def test_a_joint_mode(data):
    found, exact = both(FORMULA, data, family="binomial", n_agq=0)
    np.testing.assert_allclose(found.theta_, exact.theta_, rtol=2e-3)
    np.testing.assert_allclose(found.fixed_effects_, exact.fixed_effects_, atol=1e-3)
    np.testing.assert_allclose(found.standard_errors_, exact.standard_errors_, rtol=1e-3)


def test_a_classifier_says_how_it_was_made(data):
    found, exact = both(FORMULA, data, Model=MixedLogisticClassifier)
    check_agreement(found, exact)
    assert found.n_probes_ in (8, 16, 32, 64)
    assert 0 < found.monte_carlo_share_ <= 0.01 or found.n_probes_ == 64
    assert found.n_cg_iterations_ > 0
    assert found.theta_mc_std_.shape == (2,)
    assert (found.theta_mc_std_ > 0).all()
    assert f"Iterative solver: {found.n_probes_} probes" in str(found.summary())
    assert "Iterative" not in str(exact.summary())
    assert (exact.n_probes_, exact.n_cg_iterations_, exact.monte_carlo_share_) == (0, 0, 0.0)
    np.testing.assert_allclose(found.predict_proba(data), exact.predict_proba(data), atol=2e-3)
    for group, std in exact.random_effects_std_.items():
        np.testing.assert_allclose(found.random_effects_std_[group], std, rtol=0.05)
    np.testing.assert_allclose(
        found.predict_interval(data[:40]), exact.predict_interval(data[:40]), atol=3e-3
    )
    components, wanted = found.variance_components(), exact.variance_components()
    np.testing.assert_allclose(components["std_error"], wanted["std_error"], rtol=0.05)
    assert (MixedLogisticClassifier(FORMULA).fit(data)).solver_ == "direct"


def test_auto_takes_the_iterative_solver_where_the_core_is_too_large(data, monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_choice._SMALL", 10)
    monkeypatch.setattr("skmixed.linalg.iterative_choice._PATIENCE", 0.0)
    assert MixedLogisticClassifier(FORMULA).fit(data).solver_ == "iterative"
    assert MixedGLMRegressor(FORMULA, family="binomial").fit(data).solver_ == "iterative"
    assert MixedLogisticClassifier(FORMULA, solver="direct").fit(data).solver_ == "direct"
    quadrature = MixedLogisticClassifier("y ~ x + (1 | user)", n_agq=3).fit(data)
    assert quadrature.solver_ == "direct"


def test_one_seed_one_answer(data):
    model = MixedLogisticClassifier(FORMULA, solver="iterative", n_probes=8)
    first, again = clone(model).fit(data), clone(model).fit(data)
    np.testing.assert_allclose(first.theta_, again.theta_, rtol=1e-9)
    shuffled = clone(model).fit(data.sample(frac=1.0, random_state=1))
    np.testing.assert_allclose(shuffled.theta_, first.theta_, rtol=1e-6)
    other = clone(model).set_params(random_state=1).fit(data)
    assert np.abs(other.theta_ - first.theta_).max() > 1e-7
    assert other.n_probes_ == 8


def test_stated_errors_are_those_of_other_seeds(data, monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_logdet.DENSE", 0)
    some = data[:1500]
    exact = MixedLogisticClassifier(FORMULA, solver="direct").fit(some)
    misses = []
    for seed in range(20):
        model = MixedLogisticClassifier(
            FORMULA, solver="iterative", n_probes=16, random_state=seed
        ).fit(some)
        miss = (model.theta_ - exact.theta_) / model.theta_mc_std_
        misses.append([*miss, (model.deviance_ - exact.deviance_) / model.deviance_mc_std_])
    size = np.sqrt(np.mean(np.square(misses), axis=0))
    assert ((size > 0.4) & (size < 1.9)).all(), size


def test_a_variance_of_zero_is_exactly_zero(data):
    ends_at_zero = False
    for seed in range(1, 9):  # outcomes where the estimate is zero
        rng = np.random.default_rng(seed)
        eta = 0.3 * data["x"] + 0.8 * rng.standard_normal(160)[data["user"]]
        plain = data.assign(y=(rng.random(len(data)) < 1 / (1 + np.exp(-eta))).astype(int))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)
            found, exact = both(FORMULA, plain, family="binomial")
        ends_at_zero = exact.theta_[1] == 0
        if ends_at_zero:
            break
    assert ends_at_zero
    assert found.theta_[1] == 0.0
    assert found.is_singular_
    assert found.theta_[0] == pytest.approx(exact.theta_[0], rel=1e-3)
    assert found.deviance_ == pytest.approx(exact.deviance_, abs=2e-3)


def test_large_variances_and_separate_parts(data):
    check_agreement(*both(FORMULA, outcomes(seed=2, sd=(4.0, 4.0, 0.0, 0.0)), family="binomial"))
    half = len(data) // 2
    apart = data.copy()
    apart.loc[half:, ["user", "item"]] += 1000
    check_agreement(*both(FORMULA, apart, family="binomial"))


def test_separated_outcomes(data):
    rare = data.assign(rare=(np.arange(len(data)) < 25).astype(float))
    rare.loc[:24, "y"] = 1
    with pytest.warns(SeparationWarning, match="rare separates"):
        found, exact = both("y ~ x + rare + (1 | user) + (1 | item)", rare, family="binomial")
    assert found.solver_ == "iterative"
    np.testing.assert_allclose(found.theta_, exact.theta_, rtol=2e-3)
    assert np.isinf(found.standard_errors_["rare"])
    everything = rare.assign(rare=rare["y"])
    with (
        pytest.warns(SeparationWarning, match="rare separates"),
        pytest.warns(SingularFitWarning),
    ):
        found = MixedLogisticClassifier("y ~ rare + (1 | user) + (1 | item)", solver="iterative")
        found.fit(everything)
    assert found.deviance_ == pytest.approx(0.0, abs=1e-9)


def test_what_does_not_converge_is_told(data, monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_cg.MAX_ITERATIONS", 1)
    model = MixedLogisticClassifier(FORMULA, solver="iterative")
    with pytest.warns(ConvergenceWarning, match="'user' and 'item' are nested"):
        model.fit(data)
    assert not model.converged_


def test_a_large_monte_carlo_error_is_told(data, monkeypatch):
    monkeypatch.setattr("skmixed.estimators._solver.TOLD_SHARE", 1e-9)
    with pytest.warns(ConvergenceWarning, match=r"Monte-Carlo error .* raise n_probes"):
        MixedLogisticClassifier(FORMULA, solver="iterative", n_probes=2).fit(data)


def test_pickles_predict_alike(data):
    model = MixedLogisticClassifier(FORMULA, solver="iterative").fit(data)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(loaded.predict_proba(data[:9]), model.predict_proba(data[:9]))
    assert loaded.solver_ == "iterative"
    assert str(loaded.summary()) == str(model.summary())
    assert len(pickle.dumps(model)) < 8 * len(data) * 20


def test_likelihood_ratio_tests_have_paired_probes(data, monkeypatch):
    formulas = "y ~ 1 + (1 | user) + (1 | item)", FORMULA
    direct = [MixedLogisticClassifier(f, solver="direct").fit(data) for f in formulas]
    monkeypatch.setattr("skmixed.linalg.iterative_logdet.DENSE", 0)
    found = [MixedLogisticClassifier(f, solver="iterative").fit(data) for f in formulas]
    table, exact = likelihood_ratio_test(*found), likelihood_ratio_test(*direct)
    error = table["Chisq error"].iloc[1]
    assert 0 < error < max(m.deviance_mc_std_ for m in found)
    assert abs(table["Chisq"].iloc[1] - exact["Chisq"].iloc[1]) < 5 * error + 0.01


def test_what_reads_the_fit_reads_that_of_the_direct_solver(data):
    found, exact = both(FORMULA, data[:1500], family="binomial")
    one, two = (influence(m, data[:1500]) for m in (found, exact))
    np.testing.assert_allclose(one["leverage"], two["leverage"], rtol=0.02)
    one, two = (bootstrap(m, data[:1500], n=3, random_state=0) for m in (found, exact))
    np.testing.assert_allclose(one.draws, two.draws, rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_agq": 3}, "n_agq=3.*solver='direct'"),
        ({"solver": "cg"}, "solver"),
        ({"n_probes": 1}, "n_probes"),
        ({"random_state": None}, "random_state"),
        ({"relationship": {"user": pd.DataFrame(np.eye(160))}}, "solver='direct'"),
        ({"formula": "y ~ s(x) + (1 | user)"}, "solver='direct'"),
    ],
)
@pytest.mark.parametrize("Model", [MixedGLMRegressor, MixedLogisticClassifier])
def test_what_the_solver_does_not_take(data, Model, settings, message):
    model = Model(**{"formula": FORMULA, "solver": "iterative", **settings})
    if Model is MixedGLMRegressor:
        model.set_params(family="binomial")
    with pytest.raises(ValueError, match=message):
        model.fit(data)


def test_profiles_are_for_the_direct_solver(data):
    model = MixedLogisticClassifier(FORMULA, solver="iterative").fit(data)
    with pytest.raises(ValueError, match="solver='direct'"):
        model.confint(method="profile", X=data)


def test_memory_is_checked_before_it_is_asked_for(data, monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_blocks.machine_memory", lambda: 1000)
    with pytest.raises(MemoryError, match="iterative solver needs"):
        MixedLogisticClassifier(FORMULA, solver="iterative").fit(data)


def test_models_without_random_effects_are_not_touched(data):
    assert MixedLogisticClassifier("y ~ x", solver="iterative").fit(data).solver_ == "direct"
