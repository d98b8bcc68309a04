"""MixedLogisticClassifier and MixedGLMRegressor: responses, prediction, hard data."""

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.metrics import r2_score

from skmixed import (
    ClassOrderWarning,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    RankDeficiencyWarning,
    SeparationWarning,
    SingularFitWarning,
)
from skmixed.datasets import load_cbpp, load_grouseticks, load_sleepstudy, load_verbagg
from skmixed.inference import likelihood_ratio_test

FORMULA = "y ~ x + (1 | g)"


def _table(n=200, seed=0):
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 10, n), rng.normal(size=n)
    eta = 0.3 + x + rng.normal(0, 1, 10)[g]
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    f = rng.choice(list("abc"), n)
    return pd.DataFrame(
        {"y": y, "x": x, "g": g.astype(str), "f": f, "count": rng.poisson(np.exp(eta / 2))}
    )


@pytest.fixture(scope="module")
def table():
    return _table()


@pytest.fixture(scope="module")
def fitted(table):
    return MixedLogisticClassifier(FORMULA).fit(table)


# Responses


@pytest.mark.parametrize(
    "labels",
    [("no", "yes"), (False, True), (1, 2), (-1.0, 1.0), (7, 9)],
    ids=["text", "bool", "1/2", "-1/1", "7/9"],
)
def test_two_labels_of_any_kind(table, fitted, labels):
    y = np.where(table["y"] > 0, labels[1], labels[0])
    sides = (
        MixedLogisticClassifier("x + (1 | g)").fit(table.drop(columns="y"), y),
        MixedLogisticClassifier(FORMULA).fit(table.assign(y=y)),
    )
    for model in sides:
        assert model.classes_.tolist() == list(labels)
        assert model.deviance_ == pytest.approx(fitted.deviance_, abs=1e-9)
        assert set(model.predict(table)) <= set(labels)
        assert model.score(table, y) == fitted.score(table)
    assert sides[1].score(table.assign(y=y)) == fitted.score(table)


def test_a_categorical_response_has_its_own_order(table, fitted):
    y = pd.Categorical(np.where(table["y"] > 0, "a", "b"), categories=["b", "a"])
    with pytest.warns(ClassOrderWarning, match=r"classes_ is \['b', 'a'\].*scorers"):
        model = MixedLogisticClassifier(FORMULA).fit(table.assign(y=y))
    assert model.classes_.tolist() == ["b", "a"]
    assert_allclose(model.coef_, fitted.coef_, rtol=1e-8)


def test_text_labels_in_polars_and_for_the_regressor(table, fitted):
    labelled = table.assign(y=np.where(table["y"] > 0, "yes", "no"))
    model = MixedLogisticClassifier(FORMULA).fit(pl.DataFrame(labelled.to_dict("list")))
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.deviance_ == pytest.approx(fitted.deviance_, abs=1e-9)
    regressor = MixedGLMRegressor(FORMULA, "binomial").fit(labelled)
    assert_allclose(regressor.predict(table), fitted.predict_proba(table)[:, 1], rtol=1e-9)


def test_proportions_counts_and_single_trials_are_one_model():
    cbpp = load_cbpp().frame
    cbpp["share"] = cbpp["incidence"] / cbpp["size"]
    both = MixedGLMRegressor("cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial")
    share = MixedLogisticClassifier("share ~ period + (1 | herd)", prior_weights="size")
    one_sided = MixedLogisticClassifier("period + (1 | herd)", prior_weights="size")
    both.fit(cbpp), share.fit(cbpp)
    one_sided.fit(cbpp.drop(columns="share"), cbpp["share"])
    for model in (share, one_sided):
        assert model.deviance_ == pytest.approx(both.deviance_, abs=1e-9)
        assert model.classes_.tolist() == [0, 1]
    rows = cbpp.loc[cbpp.index.repeat(cbpp["size"])]
    within = rows.groupby(level=0).cumcount().to_numpy()
    rows = rows.assign(y=within < rows["incidence"].to_numpy())
    single = MixedLogisticClassifier("y ~ period + (1 | herd)").fit(rows)
    assert_allclose(single.fixed_effects_, both.fixed_effects_, rtol=1e-6)
    assert_allclose(single.standard_errors_, both.standard_errors_, rtol=1e-6)


@pytest.mark.parametrize(
    ("family", "y", "message"),
    [
        ("binomial", 2.0, "between 0 and 1, got 2"),
        ("binomial", 0.5, "proportions such as 0.5 and no number of trials"),
        ("poisson", -1.0, "counts cannot be negative, and 1 row are|counts cannot be negative"),
        ("gamma", 0.0, "must be positive"),
        ("inverse_gaussian", -2.0, "must be positive"),
    ],
)
def test_a_response_outside_the_range_is_an_error(table, family, y, message):
    bad = table.assign(
        y=np.where(np.arange(len(table)) == 3, y, 1.0 + (table["x"] > 0) * (family != "binomial"))
    )
    with pytest.raises(ValueError, match=message):
        MixedGLMRegressor(FORMULA, family).fit(bad)


def test_score_takes_the_response_from_the_formula(table, fitted):
    cbpp = load_cbpp().frame
    model = MixedGLMRegressor(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial"
    )
    share = cbpp["incidence"] / cbpp["size"]
    expected = r2_score(share, model.fit(cbpp).predict(cbpp))
    assert model.score(cbpp) == pytest.approx(expected)
    labelled = table.assign(y=np.where(table["y"] > 0, "yes", "no"))
    labels = MixedGLMRegressor(FORMULA, "binomial").fit(labelled)
    p = fitted.predict_proba(table)[:, 1]
    assert labels.score(labelled) == pytest.approx(r2_score(table["y"], p))


@pytest.mark.parametrize("n_agq", [0, 1, 3])
def test_smallest_norm_of_aliased_columns(table, fitted, n_agq):
    data = table.assign(x2=2 * table["x"])
    model = MixedLogisticClassifier(
        "y ~ x + x2 + (1 | g)", rank_deficient="minimum_norm", n_agq=n_agq
    )
    with pytest.warns(RankDeficiencyWarning):
        model.fit(data)
    assert model.coef_[1] == pytest.approx(2 * model.coef_[0], rel=1e-9)
    plain = clone(fitted).set_params(n_agq=n_agq).fit(table)
    assert_allclose(model.predict_proba(data), plain.predict_proba(table), rtol=1e-7)
    refuse = clone(model).set_params(rank_deficient="raise")
    with pytest.raises(ValueError, match="x2 = 2 x"):
        refuse.fit(data)


def test_fractional_counts_warn(table):
    with pytest.warns(UserWarning, match="200 responses are not whole numbers"):
        MixedGLMRegressor(FORMULA).fit(table.assign(y=table["count"] + 0.5))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_one_outcome_only_is_an_error(table, value):
    constant = table.assign(y=value)
    with pytest.raises(ValueError, match="one class"):
        MixedLogisticClassifier(FORMULA).fit(constant)
    with pytest.raises(ValueError, match="every outcome is a"):
        MixedGLMRegressor(FORMULA, "binomial").fit(constant)


def test_no_counts_at_all_are_an_error(table):
    with pytest.raises(ValueError, match="every count is zero"):
        MixedGLMRegressor(FORMULA).fit(table.assign(y=0))


def test_three_classes_name_what_to_use(table):
    with pytest.raises(ValueError, match="OneVsRestClassifier"):
        MixedLogisticClassifier("x + (1 | g)").fit(table, table["f"])


def test_trials_must_be_whole(table):
    halves = MixedGLMRegressor(FORMULA, "binomial", prior_weights="w")
    with pytest.raises(ValueError, match=r"not whole, such as 1 x 1\.5"):
        halves.fit(table.assign(w=1.5))
    with pytest.raises(ValueError, match="prior_weights must be positive"):
        halves.fit(table.assign(w=0.0))
    both = MixedGLMRegressor("cbind(y, 1 - y) ~ x + (1 | g)", "binomial", prior_weights="w")
    with pytest.raises(ValueError, match="leave prior_weights out"):
        both.fit(table.assign(w=1.0))


def test_a_variance_between_single_outcomes_is_an_error(table):
    with pytest.raises(ValueError, match="'row' has one level per row"):
        MixedLogisticClassifier("y ~ x + (1 | row)").fit(table.assign(row=np.arange(len(table))))


def test_a_wrong_link_lists_the_right_ones(table):
    with pytest.raises(ValueError, match="'log', 'sqrt', 'identity'"):
        MixedGLMRegressor(FORMULA, "poisson", "probit").fit(table)


def test_quadrature_needs_one_factor(table):
    with pytest.raises(ValueError, match="one grouping factor"):
        MixedLogisticClassifier("y ~ x + (1 | g) + (1 | f)", n_agq=5).fit(table)


# Separation and other hard data


def test_a_category_without_successes_is_named(table):
    data = table.assign(y=np.where(table["f"] == "b", 0.0, table["y"]))
    with pytest.warns(SeparationWarning, match=r"f\[T\.b\] separates"):
        model = MixedLogisticClassifier("y ~ x + f + (1 | g)").fit(data)
    assert model.predict_proba(data)[data["f"] == "b", 1].max() < 1e-6
    # the other estimates are those of a fit without that category
    rest = MixedLogisticClassifier("y ~ x + f + (1 | g)").fit(data[data["f"] != "b"])
    both = rest.fixed_effects_.index
    assert_allclose(model.fixed_effects_[both], rest.fixed_effects_, rtol=1e-6)
    assert_allclose(model.standard_errors_[both], rest.standard_errors_, rtol=1e-6)
    assert np.isinf(model.standard_errors_["f[T.b]"])


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + (1 | g)"])
def test_perfect_separation_is_named_and_predicted(table, formula):
    data = table.assign(y=table["x"] > 0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = MixedLogisticClassifier(formula).fit(data)
    named = [str(w.message) for w in caught if w.category is SeparationWarning]
    assert named and "x separates" in named[0]
    assert model.score(data) == 1.0
    assert model.deviance_ == 0
    assert np.all(np.isfinite(model.fixed_effects_)) and np.abs(model.fixed_effects_).max() < 1e5


def test_counts_of_zero_in_a_category_are_separation_and_in_a_level_are_not(table):
    data = table.assign(y=np.where(table["f"] == "c", 0, table["count"]))
    with pytest.warns(SeparationWarning, match=r"f\[T\.c\] separates"):
        MixedGLMRegressor("y ~ x + f + (1 | g)").fit(data)
    data = table.assign(y=np.where(table["g"] == "4", 0, table["count"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MixedGLMRegressor(FORMULA).fit(data)
    assert model.random_effects_["g"].loc["4", "Intercept"] < -0.5


def test_groups_of_one_outcome_each(table):
    data = table.assign(y=table["g"].astype(int) % 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MixedLogisticClassifier(FORMULA).fit(data)
    assert any(
        w.category is SeparationWarning and "every level of g" in str(w.message) for w in caught
    )


def test_one_group_of_one_outcome_is_no_problem(table):
    data = table.assign(y=np.where(table["g"] == "4", 1.0, table["y"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MixedLogisticClassifier(FORMULA).fit(data)
    assert 0 < model.random_effects_["g"].loc["4", "Intercept"] < 10


def test_no_variance_between_groups(table):
    rng = np.random.default_rng(0)
    data = table.assign(y=(rng.random(len(table)) < 0.5).astype(float))
    with pytest.warns(SingularFitWarning, match=r"\(Intercept \| g\)"):
        model = MixedLogisticClassifier(FORMULA).fit(data)
    alone = MixedLogisticClassifier("y ~ x").fit(data)
    assert model.covariances_["g"].to_numpy() == 0
    assert model.deviance_ == pytest.approx(alone.deviance_, abs=1e-8)
    assert_allclose(model.standard_errors_, alone.standard_errors_, rtol=1e-3)


@pytest.mark.parametrize("size", [50.0, 500.0, 1e5])
def test_large_offsets_only_move_the_intercept(table, fitted, size):
    far = MixedLogisticClassifier("y ~ x + offset(o) + (1 | g)").fit(table.assign(o=size))
    assert far.deviance_ == pytest.approx(fitted.deviance_, abs=1e-6)
    assert far.intercept_ + size == pytest.approx(fitted.intercept_, abs=1e-4)


def test_covariates_of_any_scale_and_shift(table, fitted):
    sized = MixedLogisticClassifier("y ~ x + (x | g)").fit(table)
    moved = MixedLogisticClassifier("y ~ x + (x | g)").fit(table.assign(x=1e-9 * table["x"]))
    assert moved.deviance_ == pytest.approx(sized.deviance_, abs=1e-7)
    assert abs(moved.n_evaluations_ - sized.n_evaluations_) <= 1
    far = MixedLogisticClassifier(FORMULA).fit(table.assign(x=1e9 * table["x"] + 1e12))
    assert far.deviance_ == pytest.approx(fitted.deviance_, abs=1e-6)


def test_a_single_extreme_covariate(table):
    data = table.assign(x=np.where(np.arange(len(table)) == 0, 1e6, table["x"]))
    model = MixedLogisticClassifier(FORMULA).fit(data)
    assert model.converged_
    assert np.isfinite(model.deviance_)


def test_aliased_columns_are_named(table, fitted):
    with pytest.warns(RankDeficiencyWarning, match="x2 = 2 x"):
        model = MixedLogisticClassifier("y ~ x + x2 + (1 | g)").fit(table.assign(x2=2 * table["x"]))
    assert model.deviance_ == pytest.approx(fitted.deviance_, abs=1e-9)
    assert np.isnan(model.fixed_effects_["x2"])
    assert_allclose(model.coef_, [fitted.coef_[0], 0.0], rtol=1e-9)


@pytest.mark.parametrize("family", ["gaussian", "gamma", "inverse_gaussian"])
@pytest.mark.parametrize("formula", ["y ~ x", FORMULA])
def test_an_exact_fit_is_an_error(table, family, formula):
    data = table.assign(y=np.exp(1 + 0.2 * table["x"]))
    with pytest.raises(ValueError, match="the fixed effects explain the response exactly"):
        MixedGLMRegressor(formula, family, "log").fit(data)


def test_random_effects_that_fit_exactly_are_an_error(table):
    data = table.assign(y=np.exp(table["g"].astype(int) / 5))
    with pytest.raises(ValueError, match="fixed and random effects together explain"):
        MixedGLMRegressor(FORMULA, "gamma").fit(data)


def test_counts_with_no_more_than_poisson_variance(table):
    counts = np.random.default_rng(0).binomial(10, 0.3, len(table))
    model = MixedGLMRegressor("y ~ x", "negative_binomial")
    with pytest.warns(SingularFitWarning, match="theta has no finite estimate"):
        model.fit(table.assign(y=counts))
    poisson = MixedGLMRegressor("y ~ x").fit(table.assign(y=counts))
    assert model.deviance_ == pytest.approx(poisson.deviance_, abs=1e-5)
    assert_allclose(model.fixed_effects_, poisson.fixed_effects_, atol=1e-6)


def test_counts_of_a_thousand_million(table):
    """Almost Gaussian on the log scale: standard errors are those of the group means."""
    rng = np.random.default_rng(0)
    b = rng.normal(0, 0.3, 10)[table["g"].astype(int)]
    y = rng.poisson(1e9 * np.exp(0.3 * table["x"] + b))
    model = MixedGLMRegressor(FORMULA).fit(table.assign(y=y))
    sd = np.sqrt(model.covariances_["g"].to_numpy().item())
    assert model.standard_errors_["Intercept"] == pytest.approx(sd / np.sqrt(10), rel=5e-3)
    assert model.coef_[0] == pytest.approx(0.3, abs=1e-4)
    assert model.n_evaluations_ <= 15


@pytest.mark.parametrize("size", [1e-12, 1e12])
def test_units_of_a_positive_response(table, size):
    rng = np.random.default_rng(0)
    y = np.exp(0.3 * table["x"] + table["g"].astype(int) / 9) * rng.gamma(20, 0.05, len(table))
    for link in ("log", "identity", "inverse"):
        one = MixedGLMRegressor(FORMULA, "gamma", link).fit(table.assign(y=y))
        two = MixedGLMRegressor(FORMULA, "gamma", link).fit(table.assign(y=size * y))
        assert abs(two.n_evaluations_ - one.n_evaluations_) <= 1
        assert two.dispersion_ == pytest.approx(one.dispersion_, rel=1e-8)
        statistic = [m.fixed_effects_ / m.standard_errors_ for m in (one, two)]
        assert_allclose(statistic[1]["x"], statistic[0]["x"], rtol=1e-4)
        assert_allclose(two.predict(table), size * one.predict(table), rtol=1e-4)


def test_a_mean_that_leaves_its_range_names_a_link(table):
    with pytest.raises(ValueError, match="Use the link 'logit'"):
        MixedLogisticClassifier("y ~ x", link="log").fit(table.assign(y=table["x"] > 0.1))


def test_rows_without_trials_say_nothing():
    cbpp = load_cbpp().frame.assign(healthy=lambda d: d["size"] - d["incidence"])
    formula = "cbind(incidence, healthy) ~ period + (1 | herd)"
    model = MixedGLMRegressor(formula, "binomial").fit(cbpp)
    empty = cbpp[:5].assign(incidence=0, healthy=0)
    longer = MixedGLMRegressor(formula, "binomial").fit(pd.concat([cbpp, empty]))
    assert longer.deviance_ == pytest.approx(model.deviance_, abs=1e-8)
    assert_allclose(longer.fixed_effects_, model.fixed_effects_, rtol=1e-6)


# Without random effects


@pytest.mark.parametrize("family", ["gamma", "gaussian", "inverse_gaussian", "negative_binomial"])
def test_dispersion_without_random_effects(table, family):
    """The gradient by the dispersion vanishes at its maximum likelihood estimate."""
    rng = np.random.default_rng(0)
    y = np.exp(1 + 0.3 * table["x"]) * rng.gamma(5, 0.2, len(table))
    y = rng.poisson(y * 3) if family == "negative_binomial" else y
    model = MixedGLMRegressor("y ~ x", family, "log").fit(table.assign(y=y))
    eta, ones = model.predict(table, scale="link"), np.ones(len(table))
    curve = model.family_.by_dispersion(eta, np.asarray(y, float), ones, np.log(model.dispersion_))
    assert curve.loglik.sum() == pytest.approx(0, abs=1e-3)
    loglik = model.family_.curve(eta, np.asarray(y, float), ones, np.log(model.dispersion_)).loglik
    total = loglik.sum() + model.family_.constant(np.asarray(y, float), ones).sum()
    assert model.log_likelihood_ == pytest.approx(total, rel=1e-10)


def test_without_random_effects_it_is_logistic_regression(table):
    X = table[["x", "count"]].to_numpy(float)
    ours = MixedLogisticClassifier().fit(X, table["y"])
    theirs = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(X, table["y"])
    assert_allclose(ours.coef_, theirs.coef_[0], rtol=1e-5)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-4)
    assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-4, atol=1e-5)


def test_without_random_effects_it_is_poisson_regression(table):
    X = table[["x"]].to_numpy()
    ours = MixedGLMRegressor().fit(X, table["count"])
    theirs = PoissonRegressor(alpha=0, tol=1e-12, max_iter=1000).fit(X, table["count"])
    assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)
    assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)


def test_a_gaussian_response_with_the_identity_is_the_linear_model():
    sleep, formula = load_sleepstudy().frame, "Reaction ~ Days + (Days | Subject)"
    general = MixedGLMRegressor(formula, "gaussian").fit(sleep)
    linear = MixedLinearRegressor(formula, reml=False).fit(sleep)
    assert general.deviance_ == pytest.approx(linear.deviance_, abs=1e-6)
    assert_allclose(general.fixed_effects_, linear.fixed_effects_, rtol=1e-6)
    assert_allclose(general.covariances_["Subject"], linear.covariances_["Subject"], rtol=1e-3)
    assert general.dispersion_ == pytest.approx(linear.sigma_**2, rel=1e-4)


# Prediction


def test_unseen_levels(table, fitted):
    new = table[:4].assign(g=["new", "0", "newer", "1"])
    own = fitted.predict_proba(new)
    population = fitted.predict_proba(new, random_effects=False)
    assert_allclose(own[[0, 2]], population[[0, 2]])
    assert np.all(own[[1, 3]] != population[[1, 3]])
    nan = clone(fitted).set_params(unseen_groups="nan").fit(table)
    assert np.isnan(nan.predict_proba(new)[:, 1]).tolist() == [True, False, True, False]
    assert pd.isna(nan.predict(new)).tolist() == [True, False, True, False]
    with pytest.raises(ValueError, match="2 rows have a level of 'g'"):
        clone(fitted).set_params(unseen_groups="raise").fit(table).predict(new)


def test_marginal_means_average_over_the_random_effects(table, fitted):
    """Against Monte Carlo, and flatter than at random effects of zero."""
    new = table[:5]
    marginal = fitted.predict_proba(new, marginal=True)[:, 1]
    sd = np.sqrt(fitted.covariances_["g"].to_numpy().item())
    eta = fitted.decision_function(new, random_effects=False)
    draws = eta[:, None] + sd * np.random.default_rng(0).standard_normal(400_000)
    assert_allclose(marginal, (1 / (1 + np.exp(-draws))).mean(axis=1), atol=2e-3)
    conditional = fitted.predict_proba(new, random_effects=False)[:, 1]
    assert np.all(np.abs(marginal - 0.5) < np.abs(conditional - 0.5))


def test_marginal_means_of_a_log_link_are_known():
    ticks = load_grouseticks().frame
    model = MixedGLMRegressor("TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)").fit(ticks)
    variance = sum(c.to_numpy().item() for c in model.covariances_.values())
    expected = model.predict(ticks, random_effects=False) * np.exp(variance / 2)
    assert_allclose(model.predict(ticks, marginal=True), expected, rtol=1e-8)


def test_scales_and_standard_errors(table, fitted):
    regressor = MixedGLMRegressor(FORMULA, "binomial").fit(table)
    eta, std = regressor.predict(table, scale="link", return_std=True)
    assert_allclose(eta, fitted.decision_function(table))
    assert_allclose(regressor.predict(table), 1 / (1 + np.exp(-eta)))
    assert np.all((std > 0.2) & (std < 1))
    assert_allclose(regressor.predict(table, return_std=True)[1], std)
    unseen = regressor.predict(table.assign(g="?"), scale="link", return_std=True)[1]
    assert np.all(unseen > np.sqrt(regressor.covariances_["g"].to_numpy().item()))
    fixed = regressor.predict(table, random_effects=False, scale="link", return_std=True)[1]
    X = np.column_stack([np.ones(len(table)), table["x"]])
    assert_allclose(fixed**2, np.einsum("ni,ij,nj->n", X, regressor.vcov_, X), rtol=1e-8)
    low, high = regressor.predict_interval(table).T
    assert np.all((0 < low) & (low < regressor.predict(table)) & (high < 1))
    with pytest.raises(ValueError, match="scale must be one of 'response', 'link'"):
        regressor.predict(table, scale="logit")
    with pytest.raises(ValueError, match="no marginal linear predictor"):
        regressor.predict(table, scale="link", marginal=True)
    with pytest.raises(ValueError, match="simulate"):
        regressor.predict_interval(table, kind="observation")


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
def test_classes_probabilities_and_decisions_agree(table, link):
    model = MixedLogisticClassifier(FORMULA, link=link).fit(table)
    likelier = model.predict_proba(table)[:, 1] > 0.5
    assert np.array_equal(model.decision_function(table) > 0, likelier)
    assert np.array_equal(model.predict(table) == model.classes_[1], likelier)
    assert_allclose(np.exp(model.predict_log_proba(table)), model.predict_proba(table))


@pytest.mark.parametrize("missing", ["x", "g", "y"])
def test_missing_values(table, missing):
    holes = table.copy()
    holes[missing] = holes[missing].where(np.arange(len(holes)) >= 5)
    with pytest.raises(ValueError, match=rf"missing values .*in {missing} \(5\)"):
        MixedLogisticClassifier(FORMULA).fit(holes)
    dropped = MixedLogisticClassifier(FORMULA, missing="drop").fit(holes)
    short = MixedLogisticClassifier(FORMULA).fit(table[5:])
    assert dropped.deviance_ == pytest.approx(short.deviance_, abs=1e-9)
    if missing == "x":
        assert np.isnan(dropped.predict_proba(holes)[:5]).all()


def test_text_labels_with_missing_ones(table):
    y = np.where(table["y"] > 0, "yes", "no").astype(object)
    y[:5] = None
    model = MixedLogisticClassifier("x + (1 | g)", missing="drop").fit(table, y)
    short = MixedLogisticClassifier(FORMULA).fit(table[5:])
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.deviance_ == pytest.approx(short.deviance_, abs=1e-9)


@pytest.mark.parametrize("family", ["binomial", "poisson", "negative_binomial", "gamma"])
def test_simulated_responses_have_the_marginal_mean(table, family):
    y = {"binomial": table["y"], "gamma": np.exp(table["x"] / 3) * (1 + table["y"])}
    spread = np.random.default_rng(0).gamma(1, 1, len(table))
    many = np.round(table["count"] * (1 + spread * (family == "negative_binomial")))
    data = table.assign(y=y.get(family, many))
    model = MixedGLMRegressor(FORMULA, family).fit(data)
    draws = model.simulate(data[:3], 4000, random_state=0)
    assert draws.shape == (3, 4000)
    spread = draws.std(axis=1) / np.sqrt(4000)
    assert np.all(np.abs(draws.mean(axis=1) - model.predict(data[:3], marginal=True)) < 5 * spread)


# Reports


def test_likelihood_ratio_test():
    verbagg = load_verbagg().frame
    small = MixedLogisticClassifier("r2 ~ Anger + btype + situ + (1 | id) + (1 | item)").fit(
        verbagg
    )
    large = MixedLogisticClassifier("r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)")
    test = likelihood_ratio_test(small, large.fit(verbagg))
    row = test.iloc[1]
    assert row["Df"] == 1
    assert row["Chisq"] == pytest.approx(small.deviance_ - large.deviance_)
    assert 0.05 < row["p-value"] < 0.15


def test_summary_and_trace(table):
    rng = np.random.default_rng(0)
    mean = np.exp(table["g"].astype(int) / 4) * rng.gamma(1, 1, len(table))
    data = table.assign(y=rng.poisson(mean))
    model = MixedGLMRegressor(FORMULA, "negative_binomial").fit(data)
    text = str(model.summary())
    assert "Laplace approximation" in text and "negative_binomial (link log), theta" in text
    assert "Pr(>|z|)" in text and "z value" in text
    trace = model.trace_
    assert trace["objective"].iloc[-1] == pytest.approx(model.deviance_)
    assert trace["theta[0]"].iloc[-1] == pytest.approx(model.theta_[0])
    assert "<table" in model.summary()._repr_html_()


def test_verbose_prints_the_path(table, capsys):
    MixedLogisticClassifier(FORMULA, verbose=1).fit(table)
    assert len(capsys.readouterr().out.splitlines()) >= 3


@pytest.mark.parametrize("n_agq", [0, 1, 5])
def test_pickles_predict_and_hold_no_rows(table, n_agq):
    many = pd.concat([_table(2000, seed) for seed in range(5)])
    model = MixedLogisticClassifier("y ~ x + (x | g)", n_agq=n_agq).fit(many)
    data = pickle.dumps(model)
    assert len(data) < 20_000
    loaded = pickle.loads(data)
    assert_allclose(loaded.predict_proba(table), model.predict_proba(table))
    assert_allclose(loaded.predict(table, scale="link", return_std=True)[1],
                    model.predict(table, scale="link", return_std=True)[1])  # fmt: skip
    assert_allclose(loaded.standard_errors_, model.standard_errors_)


def test_all_three_approximations_are_close(table):
    deviance = [
        MixedLogisticClassifier(FORMULA, n_agq=k).fit(table).deviance_ for k in (0, 1, 7, 25)
    ]
    assert deviance[0] >= deviance[1] - 1e-9
    assert_allclose(deviance, deviance[1], atol=0.5)
    assert deviance[2] == pytest.approx(deviance[3], abs=1e-3)


def test_a_search_that_ends_at_the_limit_of_the_mean_says_so():
    rng = np.random.default_rng(0)
    g = np.arange(40) % 8
    x = rng.normal(size=40)
    eta = -1.2 + np.tanh(0.5 + x + rng.normal(0, 1, 8)[g])
    frame = pd.DataFrame({"y": 1.0 * (rng.random(40) < np.exp(eta)), "x": x, "g": g})
    with pytest.warns(ConvergenceWarning, match="beyond, the penalised .* The link 'logit'"):
        model = MixedGLMRegressor("y ~ x + (1 | g)", "binomial", "log").fit(frame)
    assert not model.converged_
    assert model.deviance_ < 52.424
    assert "in doubt" in str(model.summary())


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_the_warning_says_in_words_what_stopped_the_search(seed):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"x": rng.normal(size=60), "g": np.arange(60) % 6})
    data["y"] = rng.normal(size=60)  # no exponential: the search ends beside what has no factor
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = MixedGLMRegressor("y ~ x + (1 | g)", family="gaussian", link="log").fit(data)
    texts = [str(w.message) for w in told if w.category is ConvergenceWarning]
    assert model.converged_ != bool(texts)
    assert not any(re.search(r"beyond, [^a-z]", text) for text in texts)
    assert model.result_.optimum.obstacle == "" or model.result_.optimum.obstacle[0].isalpha()
