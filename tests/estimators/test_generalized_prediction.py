"""Predictions of generalised models: one way in, and means that cannot be are said to be none."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from scipy.stats import norm

from skmixed import (
    MixedGLMRegressor,
    MixedLogisticClassifier,
    RankDeficiencyWarning,
    UndefinedMeanWarning,
    UnseenGroupsWarning,
)
from skmixed.datasets import load_cbpp, load_verbagg

N = 240
WAYS = {
    "predict": lambda m, X, **k: m.predict(X, **k),
    "std": lambda m, X, **k: m.predict(X, return_std=True, **k)[1],
    "interval": lambda m, X, **k: m.predict_interval(X, **k),
    "simulate": lambda m, X, **k: m.simulate(X, 2, random_state=0, **k),
    "marginal": lambda m, X, **k: m.predict_proba(X, marginal=True, **k),
    "probability": lambda m, X, **k: m.predict_proba(X, **k),
    "log probability": lambda m, X, **k: m.predict_log_proba(X, **k),
    "decision": lambda m, X, **k: m.decision_function(X, **k),
}


def assert_same(found, expected):
    """Labels are equal, numbers up to rounding."""
    if np.asarray(expected).dtype.kind == "f":
        assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    else:
        assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def table():
    rng, g = np.random.default_rng(5), np.arange(N) % 8
    x = rng.normal(size=N)
    eta = 0.5 * x + np.linspace(-2, 2, 8)[g]
    return pd.DataFrame({"x": x, "g": g.astype(str), "y": (rng.random(N) < expit(eta)).astype(int)})


@pytest.fixture(scope="module")
def model(table):
    return MixedLogisticClassifier("y ~ x + (1 | g)").fit(table)


@pytest.fixture(scope="module")
def crossed():
    data = load_verbagg().frame[::3]
    return data, MixedLogisticClassifier("r2 ~ btype + (1 | id) + (1 | item)").fit(data)


@pytest.mark.parametrize("name", [name for name in WAYS if name != "marginal"])
def test_every_way_tells_of_an_unseen_batch(table, model, name):
    new, way = table.assign(g="new"), WAYS[name]
    with pytest.warns(UnseenGroupsWarning, match="all 240 rows are of levels of 'g'"):
        way(model, new)
    way(model, new.drop(columns="g"), random_effects=False)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_refuses_unseen_levels_or_gives_nan(table, way):
    new = table[:3].assign(g=["0", "a", "b"])
    model = MixedLogisticClassifier("y ~ x + (1 | g)", unseen_groups="raise").fit(table)
    with pytest.raises(ValueError, match="2 rows have a level of 'g'"):
        way(model, new)
    model.set_params(unseen_groups="nan")
    values = pd.isna(np.asarray(way(model, new)).reshape(3, -1)[:, 0])
    assert values.tolist() == [False, True, True]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_tells_of_rows_outside_the_row_space(table, way):
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLogisticClassifier("y ~ x + z + (1 | g)").fit(table.assign(z=2 * table["x"]))
    with pytest.warns(RankDeficiencyWarning, match="do not determine the prediction of 240 rows"):
        way(model, table.assign(z=100.0))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_takes_a_list_of_factors(crossed, way):
    data, model = crossed
    new = data[:4]
    with pytest.raises(ValueError, match=r"list of grouping factors, got 'id': .* 'id', 'item'"):
        way(model, new, random_effects="id")
    assert_same(way(model, new, random_effects=["item", "id"]), way(model, new))
    assert_same(
        way(model, new[["btype", "item"]], random_effects=["item"]),
        way(model, new, random_effects=["item"]),
    )
    if way is not WAYS["predict"]:
        assert not np.array_equal(way(model, new, random_effects=["id"]), way(model, new))


def test_parts_of_the_linear_predictor_add_up(crossed):
    data, model = crossed
    fixed, person, item, both = (
        model.predict(data, scale="link", random_effects=part)
        for part in (False, ["id"], ["item"], True)
    )
    assert_allclose(person + item - fixed, both, atol=1e-9)
    modes = model.random_effects_["item"]["Intercept"]
    assert_allclose(item - fixed, modes.loc[data["item"]], atol=1e-9)


def test_marginal_means_average_over_the_listed_factors(crossed):
    data, model = crossed
    eta = model.predict(data[:5], scale="link", random_effects=False)
    z, w = np.polynomial.hermite_e.hermegauss(80)
    for listed in (["id"], ["item"], ["id", "item"]):
        variance = sum(model.covariances_[name].iloc[0, 0] for name in listed)
        expected = expit(eta[:, None] + np.sqrt(variance) * z) @ w / w.sum()
        found = model.predict_proba(data[:5], marginal=True, random_effects=listed)[:, 1]
        assert_allclose(found, expected, rtol=1e-7)
    everyone = model.predict_proba(data[:5], marginal=True)
    fixed = model.predict_proba(data[["btype"]][:5], marginal=True, random_effects=False)
    assert_allclose(fixed, everyone, rtol=1e-9, atol=1e-9)


def test_marginal_means_of_a_wide_distribution():
    """Between levels with a standard deviation near 10 sixty fixed nodes are off by 0.01."""
    rng, g = np.random.default_rng(0), np.arange(1200) % 60
    b = 10 * norm.ppf((np.arange(60) + 0.5) / 60)
    y = rng.random(1200) < expit(2.5 + b[g])
    model = MixedLogisticClassifier("y ~ 1 + (1 | g)").fit(pd.DataFrame({"y": y, "g": g}))
    sd, eta = np.sqrt(model.covariances_["g"].iloc[0, 0]), model.intercept_
    assert sd > 5
    nodes = np.linspace(-9, 9, 20001)
    expected = np.sum(expit(eta + sd * nodes) * norm.pdf(nodes)) * (nodes[1] - nodes[0])
    found = model.predict_proba(pd.DataFrame({"g": [0]}), marginal=True)[0, 1]
    assert found == pytest.approx(expected, abs=1e-8)


# Means that cannot be


@pytest.fixture(scope="module")
def positive():
    rng, g = np.random.default_rng(0), np.arange(N) % 6
    x = rng.uniform(0, 2, N)
    mean = 1 / (0.4 + 0.5 * x + 0.2 * (g % 3))
    return pd.DataFrame({"x": x, "g": g, "y": mean * rng.gamma(4, 0.25, N)})


def _at(model, eta):
    """Rows of the first group with these linear predictors."""
    rows = pd.DataFrame({"x": np.zeros(len(eta)), "g": 0})
    return rows.assign(x=(eta - model.predict(rows, scale="link")) / model.coef_[0])


def test_inverse_links_say_where_there_is_no_mean(positive):
    model = MixedGLMRegressor("y ~ x + (1 | g)", "gamma", "inverse").fit(positive)
    new = _at(model, [0.9, 0.01, -1.0])
    eta = model.predict(new, scale="link")
    assert_allclose(eta, [0.9, 0.01, -1.0])
    with pytest.warns(UndefinedMeanWarning, match="1 row has a linear predictor that gives no"):
        mean = model.predict(new)
    assert_allclose(mean[:2], 1 / eta[:2])
    assert np.isnan(mean[2])
    with pytest.warns(UndefinedMeanWarning, match="the interval ends at a bound of the mean"):
        lower, upper = model.predict_interval(new[:2]).T
    assert (lower < mean[:2]).all() and (mean[:2] < upper).all()
    assert np.isfinite(upper[0]) and np.isinf(upper[1])
    with pytest.warns(UndefinedMeanWarning, match="no mean over the distribution"):
        assert np.isnan(model.predict(new[1:2], marginal=True)).all()
    with pytest.warns(UndefinedMeanWarning):
        draws = model.simulate(new, 4, random_state=0)
    assert np.isfinite(draws[0]).all() and np.isnan(draws[2]).all()


def test_identity_links_keep_intervals_in_the_range(positive):
    model = MixedGLMRegressor("y ~ x + (1 | g)", "gamma", "identity").fit(positive)
    edge = _at(model, [0.01, 0.02])
    with pytest.warns(UndefinedMeanWarning, match="2 rows have an interval"):
        interval = model.predict_interval(edge)
    assert (interval[:, 0] == 0).all() and (interval[:, 1] > 0).all()
    with pytest.warns(UndefinedMeanWarning, match="The link 'log' keeps means in their range"):
        assert np.isnan(model.predict(_at(model, [-0.1]))).all()


def test_rows_without_covariates_are_nan_and_not_undefined(positive):
    model = MixedGLMRegressor("y ~ x + (1 | g)", "gamma", "log", missing="drop").fit(positive)
    holes = positive[:3].assign(x=[1.0, np.nan, 1.0])
    for way in ("predict", "std", "interval", "simulate"):
        values = np.asarray(WAYS[way](model, holes)).reshape(3, -1)
        assert np.isnan(values).any(axis=1).tolist() == [False, True, False]


def test_one_row_no_row_and_pickles(table, model):
    copy = pickle.loads(pickle.dumps(model))
    for way in WAYS.values():
        whole = np.asarray(way(model, table))
        assert_same(way(copy, table), whole)
        assert len(way(model, table[:0])) == 0
    one = model.predict_proba(table[7:8])
    assert_allclose(one, model.predict_proba(table)[7:8], rtol=1e-10)


def test_simulated_counts_have_the_trials_of_their_rows():
    """Both ways to give the trials draw the same shares; rows without counts are one trial."""
    cows = load_cbpp().frame
    counts = MixedGLMRegressor(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial"
    ).fit(cows)
    shares = MixedGLMRegressor("share ~ period + (1 | herd)", "binomial", prior_weights="size").fit(
        cows.assign(share=cows["incidence"] / cows["size"])
    )
    draws = counts.simulate(cows, 50, random_state=0)
    assert_allclose(draws, shares.simulate(cows, 50, random_state=0))
    successes = draws * cows[["size"]].to_numpy()
    assert_allclose(successes, np.round(successes), atol=1e-9)
    assert len(np.unique(draws)) > 20
    alone = counts.simulate(cows[["herd", "period"]], 50, random_state=0)
    assert set(np.unique(alone)) == {0.0, 1.0}


def test_the_mean_over_all_groups_needs_no_groups(table, crossed):
    new = table[["x"]][:5]
    model = MixedLogisticClassifier("y ~ x + (1 | g)").fit(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.predict_proba(new, marginal=True)
        unseen = model.predict_proba(new.assign(g="new"), marginal=True)
    assert_same(found, model.predict_proba(table[:5], marginal=True))
    assert_same(found, unseen)
    data, two = crossed
    listed = two.predict_proba(data[["btype"]][:5], marginal=True, random_effects=["id"])
    assert_same(listed, two.predict_proba(data[:5], marginal=True, random_effects=["id"]))
    counts = MixedGLMRegressor("y ~ x + (1 | g)", family="binomial").fit(table)
    assert_same(counts.predict(new, marginal=True), found[:, 1])
    strict = model.set_params(unseen_groups="raise")
    with pytest.raises(ValueError, match="'g'"):
        strict.predict_proba(new.assign(g="new"), marginal=True)
