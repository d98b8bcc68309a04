"""Residuals of mixed models, of their own rows and of new ones."""

import pickle

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import load_cbpp, load_grouseticks, load_sleepstudy, load_verbagg

KINDS = ["response", "pearson", "scaled", "studentized", "marginal", "deviance"]


@pytest.fixture(scope="module")
def sleep():
    data = load_sleepstudy().frame
    return data, MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(data)


@pytest.fixture(scope="module")
def cbpp():
    data = load_cbpp().frame
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return data, MixedLogisticClassifier(formula).fit(data)


def test_linear_residuals_by_their_definitions(sleep):
    data, model = sleep
    y = data["Reaction"].to_numpy()
    response = y - model.predict(data)
    np.testing.assert_allclose(model.residuals(data), response)
    np.testing.assert_allclose(model.residuals(data, kind="pearson"), response)
    np.testing.assert_allclose(model.residuals(data, kind="deviance"), response)
    np.testing.assert_allclose(model.residuals(data, kind="scaled"), response / model.sigma_)
    marginal = y - model.predict(data, random_effects=False)
    np.testing.assert_allclose(model.residuals(data, kind="marginal"), marginal)


def test_studentized_residuals_know_the_leverage(sleep):
    """The standard error of a mean squared over sigma squared is its leverage."""
    data, model = sleep
    _, std = model.predict(data, return_std=True)
    left = 1 - (std / model.sigma_) ** 2
    expected = model.residuals(data, kind="scaled") / np.sqrt(left)
    np.testing.assert_allclose(model.residuals(data, kind="studentized"), expected, rtol=1e-9)


def test_prior_weights(sleep):
    data, _ = sleep
    data = data.assign(w=np.random.default_rng(0).uniform(0.5, 2, len(data)))
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", prior_weights="w").fit(data)
    expected = model.residuals(data) * np.sqrt(data["w"])
    np.testing.assert_allclose(model.residuals(data, kind="pearson"), expected)
    np.testing.assert_allclose(model.residuals(data, kind="deviance"), expected)


def test_offsets(sleep):
    data, model = sleep
    moved = data.assign(Reaction=data["Reaction"] + 10 * data["Days"], known=10.0 * data["Days"])
    other = MixedLinearRegressor("Reaction ~ Days + offset(known) + (Days | Subject)").fit(moved)
    for kind in KINDS:
        found, expected = other.residuals(moved, kind=kind), model.residuals(data, kind=kind)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_y_is_given_or_found(sleep):
    data, model = sleep
    X, y = data[["Days", "Subject"]], data["Reaction"]
    plain = MixedLinearRegressor("Days + (Days | Subject)").fit(X, y)
    np.testing.assert_allclose(plain.residuals(X, y), model.residuals(data), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.residuals(X, y), model.residuals(data))
    with pytest.raises(ValueError, match="needs y: the formula names no response"):
        plain.residuals(X)


def test_new_rows(sleep):
    """Means of new rows, with known levels or not; but they have no leverage."""
    data, model = sleep
    new = pd.DataFrame({"Days": [3, 3], "Subject": ["308", "new"], "Reaction": [300.0, 300.0]})
    for kind in ("response", "marginal"):
        random = kind == "response"
        expected = 300.0 - model.predict(new, random_effects=random)
        np.testing.assert_allclose(model.residuals(new, kind=kind), expected)
    with pytest.raises(ValueError, match="is about the rows of the fit: the fit had 180 rows"):
        model.residuals(new, kind="studentized")
    strict = MixedLinearRegressor(**model.get_params()).set_params(unseen_groups="nan").fit(data)
    assert np.isnan(strict.residuals(new)).tolist() == [False, True]


def test_missing_values(sleep):
    data, _ = sleep
    gaps = data.copy()
    gaps.loc[4, "Days"] = np.nan
    gaps.loc[9, "Reaction"] = np.nan
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", missing="drop").fit(gaps)
    for kind in KINDS:
        found = model.residuals(gaps, kind=kind)
        assert np.flatnonzero(np.isnan(found)).tolist() == [4, 9]
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(data)
    with pytest.raises(ValueError, match="the response is missing in 1 row: leave"):
        model.residuals(gaps.drop(index=4))


def test_minimum_norm_is_no_other_model(sleep):
    data, model = sleep
    data = data.assign(twice=2 * data["Days"])
    formula = "Reaction ~ Days + twice + (Days | Subject)"
    with pytest.warns(UserWarning, match="rank deficient"):
        other = MixedLinearRegressor(formula, rank_deficient="minimum_norm").fit(data)
    for kind in KINDS:
        found, expected = other.residuals(data, kind=kind), model.residuals(data, kind=kind)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_groups_and_arrays():
    rng = np.random.default_rng(0)
    X, g = rng.normal(size=(40, 2)), np.repeat(np.arange(8), 5)
    y = rng.normal(size=40) + rng.normal(size=8)[g]
    model = MixedLinearRegressor().fit(X, y, groups=g)
    np.testing.assert_allclose(model.residuals(X, y, groups=g), y - model.predict(X, groups=g))


@pytest.mark.parametrize("kind", ["raw", "Pearson", None])
def test_unknown_kinds(sleep, kind):
    data, model = sleep
    with pytest.raises(ValueError, match=f"kind must be one of 'response', .*, got {kind!r}"):
        model.residuals(data, kind=kind)


# Generalised models


def test_counts_of_successes_are_proportions(cbpp):
    data, model = cbpp
    p = model.predict_proba(data)[:, 1]
    share, n = data["incidence"] / data["size"], data["size"]
    np.testing.assert_allclose(model.residuals(data), share - p)
    pearson = (share - p) * np.sqrt(n / (p * (1 - p)))
    np.testing.assert_allclose(model.residuals(data, kind="pearson"), pearson)
    np.testing.assert_allclose(model.residuals(data, kind="scaled"), pearson)
    marginal = share - model.predict_proba(data, marginal=True)[:, 1]
    np.testing.assert_allclose(model.residuals(data, kind="marginal"), marginal)
    named = data.assign(share=share)
    other = MixedGLMRegressor(
        "share ~ period + (1 | herd)", family="binomial", prior_weights="size"
    ).fit(named)
    for kind in KINDS:
        found, expected = other.residuals(named, kind=kind), model.residuals(data, kind=kind)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_rows_without_trials(cbpp):
    data, model = cbpp
    empty = pd.concat([data, data[:1].assign(size=0, incidence=0)], ignore_index=True)
    again = MixedLogisticClassifier(model.formula).fit(empty)
    for kind in KINDS:
        found, expected = again.residuals(empty, kind=kind), model.residuals(data, kind=kind)
        np.testing.assert_allclose(found[:-1], expected, rtol=1e-5, atol=1e-7)
        assert np.isnan(found[-1])


def test_labels():
    data = load_verbagg().frame[:1500]
    model = MixedLogisticClassifier("r2 ~ Anger + btype + (1 | id)").fit(data)
    y = (data["r2"] == "Y").astype(float)
    expected = y - model.predict_proba(data)[:, 1]
    np.testing.assert_allclose(model.residuals(data), expected)
    X = data.drop(columns="r2")
    np.testing.assert_allclose(model.residuals(X, data["r2"]), expected)
    other = data["r2"].astype(str).replace("N", "never")
    with pytest.raises(ValueError, match="y holds 'never', which is none of the classes"):
        model.residuals(X, other)
    with pytest.raises(ValueError, match="y holds 'never', which is none of the classes"):
        model.residuals(X.assign(r2=other))


@pytest.mark.parametrize(
    ("family", "variance"),
    [
        ("poisson", lambda mu, phi: mu),
        ("negative_binomial", lambda mu, phi: mu + mu**2 / phi),
        ("gamma", lambda mu, phi: phi * mu**2),
    ],
)
def test_scaled_residuals_have_variance_one_under_the_model(family, variance):
    data = load_grouseticks().frame
    data["TICKS"] = data["TICKS"] + (family == "gamma") * 1.0
    model = MixedGLMRegressor("TICKS ~ YEAR + (1 | LOCATION)", family=family).fit(data)
    mu = model.predict(data)
    expected = (data["TICKS"] - mu) / np.sqrt(variance(mu, model.dispersion_))
    np.testing.assert_allclose(model.residuals(data, kind="scaled"), expected, rtol=1e-10)
    drawn = model.simulate(data, 1, random_state=0)[:, 0]
    means = MixedGLMRegressor("TICKS ~ YEAR + (1 | LOCATION)", family=family)
    again = means.fit(data.assign(TICKS=drawn)).residuals(data.assign(TICKS=drawn), kind="scaled")
    assert np.mean(again**2) == pytest.approx(1.0, abs=0.35)


def test_responses_outside_of_the_range(cbpp):
    data = load_grouseticks().frame
    model = MixedGLMRegressor("TICKS ~ YEAR + (1 | LOCATION)").fit(data)
    with pytest.raises(ValueError, match="counts cannot be negative, and 1 row are"):
        model.residuals(data[:3], [-1, 0, 2])
    data, model = cbpp
    with pytest.raises(ValueError, match="a binomial response lies between 0 and 1"):
        model.residuals(data[:2].assign(incidence=[0, 99]))


def test_separated_rows_leave_nothing():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(30), 8)
    x = rng.normal(size=240)
    flag = np.arange(240) % 11 == 0
    p = 1 / (1 + np.exp(-(x + rng.normal(size=30)[g])))
    y = np.where(flag, 1.0, rng.uniform(size=240) < p)
    data = pd.DataFrame({"y": y, "x": x, "flag": flag * 1.0, "g": g})
    with pytest.warns(UserWarning, match="flag separates the outcomes"):
        model = MixedLogisticClassifier("y ~ x + flag + (1 | g)").fit(data)
    rest = data[~flag]
    known = MixedLogisticClassifier("y ~ x + (1 | g)").fit(rest)
    for kind in ("response", "pearson", "scaled", "studentized", "deviance"):
        found = model.residuals(data, kind=kind)
        np.testing.assert_allclose(found[flag], 0.0, atol=1e-5)
        np.testing.assert_allclose(found[~flag], known.residuals(rest, kind=kind),
                                   rtol=1e-4, atol=1e-5)  # fmt: skip


def test_models_from_files(sleep, cbpp):
    for data, model in (sleep, cbpp):
        loaded = pickle.loads(pickle.dumps(model))
        for kind in KINDS:
            np.testing.assert_allclose(
                loaded.residuals(data, kind=kind), model.residuals(data, kind=kind)
            )
