"""Simulated residuals: R's tests of them, exchangeable draws, brute force, and bad input."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skmixed import (
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
)
from skmixed.datasets import load_cbpp, load_orange, load_sleepstudy
from skmixed.inference import SimulatedResiduals, simulated_residuals

R = json.loads((Path(__file__).parents[1] / "data" / "checks" / "checks.json").read_text())
FAMILIES = ("binomial", "poisson", "negative_binomial", "gamma", "inverse_gaussian", "gaussian")


def of_uniform(u, n_samples=999):
    """Residuals that are exactly u, with draws that do not matter."""
    found = SimulatedResiduals.of(u, np.tile(np.linspace(0, 1, n_samples), (len(u), 1)))
    return SimulatedResiduals(**{**vars(found), "residuals": np.asarray(u, dtype=float)})


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def sleep_model(sleep):
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)


@pytest.fixture(scope="module")
def table():
    """300 rows of 25 groups with a response for every family."""
    rng = np.random.default_rng(4)
    g, x = rng.integers(0, 25, 300), rng.standard_normal(300)
    eta = 0.4 * x + 0.5 * rng.standard_normal(25)[g]
    data = pd.DataFrame({"g": g, "x": x, "trials": rng.integers(1, 9, 300)})
    data["binomial"] = rng.binomial(1, 1 / (1 + np.exp(-eta)))
    data["share"] = rng.binomial(data["trials"], 1 / (1 + np.exp(-eta))) / data["trials"]
    data["poisson"] = rng.poisson(np.exp(eta))
    data["negative_binomial"] = rng.poisson(np.exp(eta) * rng.gamma(2, 0.5, 300))
    data["gamma"] = np.exp(eta) * rng.gamma(3, 1 / 3, 300)
    data["inverse_gaussian"] = rng.wald(np.exp(eta), 3.0)
    data["gaussian"] = np.exp(eta) + 0.2 * rng.standard_normal(300)
    return data


def fitted(table, family):
    link = "logit" if family == "binomial" else "log"
    return MixedGLMRegressor(f"{family} ~ x + (1 | g)", family, link).fit(table)


# The tests, against R


@pytest.mark.parametrize("size", ["small", "large"])
def test_uniformity_is_ks_test(size):
    theirs = R["ks"][size]
    found = of_uniform(theirs["x"]).test_uniformity("ks")
    assert found.statistic == pytest.approx(theirs["D"], rel=1e-9)
    assert found.p_value == pytest.approx(theirs["p"], rel=1e-5)
    assert found.p_value == pytest.approx(theirs["asymptotic"], rel=0.3)


@pytest.mark.parametrize("case", R["binom"], ids=lambda c: str(c["count"]))
def test_outliers_are_binomial(case):
    draws = np.tile(np.linspace(-1, 1, 250), (case["n"], 1))
    y = np.where(np.arange(case["n"]) < case["count"], 2.0, 0.001)
    found = SimulatedResiduals.of(y, draws)
    assert found.outliers.sum() == case["count"]
    for alternative, name in (("two-sided", "two"), ("greater", "greater"), ("less", "less")):
        test = found.test_outliers(alternative)
        assert test.p_value == pytest.approx(case[name], rel=1e-9)
        assert test.statistic == pytest.approx(case["count"] / case["n"])


def test_levels_are_those_of_r():
    x = R["ks"]["large"]["x"]
    levels = of_uniform(x).test_levels(np.tile([1, 2, 3, 4], 100))
    np.testing.assert_allclose(levels["p_value"], R["holm"], rtol=1e-5)
    assert levels["n"].tolist() == [100] * 4
    assert levels.attrs["levene"].statistic == pytest.approx(R["levene"]["F"], rel=1e-9)
    assert levels.attrs["levene"].p_value == pytest.approx(R["levene"]["p"], rel=1e-9)


# What they are


def test_residuals_are_ranks_among_the_draws():
    draws = np.tile(np.arange(40.0), (2000, 1))
    above = SimulatedResiduals.of(np.full(2000, 9.5), draws, random_state=0)
    assert 10 / 41 <= above.residuals.min() and above.residuals.max() <= 11 / 41
    tied = SimulatedResiduals.of(np.full(2000, 9.0), draws, random_state=0)
    assert 9 / 41 <= tied.residuals.min() < 9.1 / 41
    assert 10.9 / 41 < tied.residuals.max() <= 11 / 41
    assert (not above.discrete) and tied.discrete
    np.testing.assert_allclose(tied.fitted, 19.5)


def test_ranks_of_draws_are_residuals_of_draws():
    """Column j of the ranks is what ``of`` makes of column j among the others."""
    values = np.random.default_rng(1).standard_normal((7, 41))
    found = SimulatedResiduals.of(values[:, 0], values[:, 1:], random_state=2)
    for j in (0, 1, 40):
        other = SimulatedResiduals.of(values[:, j], np.delete(values, j, axis=1))
        assert np.array_equal(np.floor(41 * found.ranks[:, j]), np.floor(41 * other.residuals))


def test_statistics_by_brute_force():
    rng = np.random.default_rng(3)
    values = rng.poisson(1.5, (30, 50)).astype(float)
    found = SimulatedResiduals.of(values[:, 0], values[:, 1:])
    gaps = [values[:, j] - values.mean(axis=1) for j in range(50)]
    spread = np.array([np.var(gap, ddof=1) for gap in gaps])
    test = found.test_dispersion("greater")
    assert test.statistic == pytest.approx(spread[0] / spread[1:].mean())
    assert test.p_value == pytest.approx(np.mean(spread >= spread[0]))
    zeros = (values == 0).sum(axis=0)
    less = found.test_zero_inflation("less")
    assert less.statistic == pytest.approx(zeros[0] / zeros[1:].mean())
    assert less.p_value == pytest.approx(np.mean(zeros <= zeros[0]))
    outside = [
        sum(row[j] > np.delete(row, j).max() or row[j] < np.delete(row, j).min() for row in values)
        for j in range(50)
    ]
    outliers = found.test_outliers("greater")
    assert found.outliers.sum() == outside[0]
    assert outliers.p_value == pytest.approx(np.mean(np.array(outside) >= outside[0]))
    largest = [np.abs(gap / values.std(axis=1)).max() for gap in gaps]
    extremes = found.test_extremes()
    assert extremes.statistic == pytest.approx(largest[0])
    assert extremes.p_value == pytest.approx(np.mean(np.array(largest) >= largest[0] - 1e-12))


def test_p_values_hold_for_correlated_and_discrete_rows():
    """Counts of 8 clusters: tests by simulation keep their level, that of independence does not."""
    rng = np.random.default_rng(7)
    found = []
    for seed in range(400):
        effects = 0.7 * rng.standard_normal((8, 100))
        values = rng.poisson(np.exp(0.5 + np.repeat(effects, 6, axis=0))).astype(float)
        one = SimulatedResiduals.of(
            values[:, 0], values[:, 1:], independent=False, random_state=seed
        )
        tests = (one.test_uniformity(), one.test_dispersion(), one.test_scaled_dispersion(),
                 one.test_zero_inflation(), one.test_extremes(), one.test_outliers(),
                 one.test_uniformity("shape"), one.test_uniformity("ks"))  # fmt: skip
        found.append([test.p_value for test in tests])
    below = (np.array(found) <= 0.1).mean(axis=0)
    assert (below[:7] < 0.16).all()  # 4 standard errors
    assert (below[[0, 1, 2, 4, 6]] > 0.04).all()
    assert below[7] > 0.2


def test_aggregates_are_sums(sleep_model, sleep):
    found = simulated_residuals(sleep_model, sleep, n_samples=60, random_state=0)
    subjects = found.aggregate(sleep["Subject"])
    sums = sleep.groupby("Subject", observed=True)["Reaction"].sum()
    np.testing.assert_allclose(subjects.y, sums)
    first = found.simulated[(sleep["Subject"] == sleep["Subject"].iloc[0]).to_numpy()]
    np.testing.assert_allclose(subjects.simulated[0], first.sum(axis=0))


# Of fitted models


def test_draws_of_a_linear_model(sleep_model, sleep):
    """Conditional ones about the modes with sigma, others with the marginal covariance."""
    near = simulated_residuals(sleep_model, sleep, None, 4000, 0, conditional=True)
    mean = sleep_model.predict(sleep)
    np.testing.assert_allclose(near.fitted, mean, atol=5 * sleep_model.sigma_ / np.sqrt(4000))
    assert near.spread.mean() == pytest.approx(sleep_model.sigma_, rel=0.01)
    far = simulated_residuals(sleep_model, sleep, None, 4000, 0)
    S = sleep_model.covariances_["Subject"].to_numpy()
    Z = np.column_stack([np.ones(10), np.arange(10)])
    sd = np.sqrt(np.einsum("ni,ij,nj->n", Z, S, Z) + sleep_model.sigma_**2)
    np.testing.assert_allclose(far.spread[:10], sd, rtol=0.06)
    assert near.independent and not far.independent


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_right_models_have_uniform_residuals(table, family, conditional):
    model = fitted(table, family)
    found = simulated_residuals(model, table, None, 200, 1, conditional=conditional)
    assert found.test_uniformity().p_value > 0.001
    assert 0.5 < found.test_scaled_dispersion().statistic < 1.5
    assert found.discrete == (family in ("binomial", "poisson", "negative_binomial"))


def test_overdispersed_counts_are_told(table):
    model = MixedGLMRegressor("y ~ x + (1 | g)", "poisson")
    wrong = table.assign(y=3 * table["negative_binomial"])
    found = simulated_residuals(model.fit(wrong), wrong, conditional=True, random_state=0)
    assert found.test_dispersion("greater").p_value < 0.01
    assert found.test_uniformity().p_value < 0.01
    assert found.test_zero_inflation("greater").p_value < 0.01


def test_trials_count_in_both_ways_to_give_them():
    cows = load_cbpp().frame
    counts = MixedGLMRegressor(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial"
    ).fit(cows)
    rounded = cows.assign(share=(cows["incidence"] / cows["size"]).round(12))
    shares = MixedGLMRegressor("share ~ period + (1 | herd)", "binomial", prior_weights="size").fit(
        rounded
    )
    one = simulated_residuals(counts, cows, random_state=3)
    other = simulated_residuals(shares, rounded, random_state=3)
    assert np.array_equal(one.y, cows["incidence"])
    np.testing.assert_allclose(one.y, other.y)
    np.testing.assert_allclose(one.residuals, other.residuals)
    assert (one.simulated <= cows[["size"]].to_numpy()).all()


def test_labels_are_0_and_1(table):
    labels = np.where(table["binomial"] == 1, "yes", "no")
    model = MixedLogisticClassifier("x + (1 | g)").fit(table, labels)
    assert np.array_equal(simulated_residuals(model, table, labels).y, table["binomial"])


def test_rows_that_were_left_out_have_no_residual(sleep):
    holes = sleep.assign(Reaction=sleep["Reaction"].where(np.arange(180) != 4))
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", missing="drop").fit(holes)
    found = simulated_residuals(model, holes)
    assert np.array_equal(found.rows, np.delete(np.arange(180), 4))


def test_rows_of_weight_zero_have_no_residual(sleep):
    weight = (sleep["Days"] > 1).to_numpy(dtype=float)
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)")
    model.fit(sleep, sample_weight=weight)
    found = simulated_residuals(model, sleep, sample_weight=weight)
    assert np.array_equal(found.rows, np.flatnonzero(weight))


def test_one_seed_one_answer(sleep_model, sleep):
    def again(state, model=sleep_model):
        return simulated_residuals(model, sleep, None, 50, state).residuals

    np.testing.assert_allclose(again(1), again(1))
    assert not np.array_equal(again(1), again(2))
    np.testing.assert_allclose(again(1), again(1, pickle.loads(pickle.dumps(sleep_model))))
    legacy = np.random.RandomState
    np.testing.assert_allclose(again(legacy(1)), again(legacy(1)))
    one = simulated_residuals(sleep_model, sleep, None, 50, 1)
    np.testing.assert_allclose(
        one.ranks, simulated_residuals(sleep_model, sleep, None, 50, 1).ranks
    )


# Bad input


@pytest.mark.parametrize("n_samples", [0, 38, 100.0, None, "many"])
def test_too_few_samples(sleep_model, sleep, n_samples):
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 39"):
        simulated_residuals(sleep_model, sleep, n_samples=n_samples)


def test_data_that_are_not_those_of_the_fit(sleep_model, sleep):
    with pytest.raises(ValueError, match="the fit had 180 rows, X has 170"):
        simulated_residuals(sleep_model, sleep[10:])
    with pytest.raises(ValueError, match="these are other rows"):
        simulated_residuals(sleep_model, sleep.assign(Reaction=sleep["Reaction"] ** 1.01))


def test_rows_that_count_twice(sleep):
    weight = 1.0 + (sleep["Days"] > 1)
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)")
    model.fit(sleep, sample_weight=weight)
    with pytest.raises(ValueError, match="count several times"):
        simulated_residuals(model, sleep, sample_weight=weight)


def test_exact_fits(sleep):
    model = MixedLinearRegressor("y ~ Days").fit(sleep.assign(y=2.0 * sleep["Days"]))
    with pytest.raises(ValueError, match="fits its rows exactly"):
        simulated_residuals(model, sleep.assign(y=2.0 * sleep["Days"]))


def test_other_models(sleep):
    plain = GeneralizedInverseRegressor().fit(sleep[["Days"]], sleep["Reaction"])
    with pytest.raises(TypeError, match="got GeneralizedInverseRegressor"):
        simulated_residuals(plain, sleep[["Days"]], sleep["Reaction"])
    with pytest.raises(ValueError, match="not fitted"):
        simulated_residuals(MixedLinearRegressor("Reaction ~ Days"), sleep)
    trees = load_orange().frame
    curve = MixedNonlinearRegressor(
        "circumference ~ Asym / (1 + exp(-(age - xmid) / scal)) ~ (Asym | Tree)",
        start={"Asym": 200, "xmid": 700, "scal": 350},
    ).fit(trees)
    with pytest.raises(TypeError, match=r"of\(y, model.simulate\(X, 250\)\)"):
        simulated_residuals(curve, trees)
    draws = curve.simulate(trees, 100, random_state=0)
    found = SimulatedResiduals.of(trees["circumference"], draws, independent=False)
    assert found.test_uniformity().p_value > 0.01


@pytest.mark.parametrize(
    ("y", "shape", "message"),
    [
        (np.zeros(3), (4, 40), r"got shapes \(3,\)"),
        (np.zeros(3), (3,), "takes y"),
        (np.zeros(0), (0, 40), "takes y"),
        (np.zeros(3), (3, 20), "at least 39"),
        (np.array([0, np.nan, 0]), (3, 40), "must be finite"),
    ],
)
def test_arrays_that_do_not_fit(y, shape, message):
    with pytest.raises(ValueError, match=message):
        SimulatedResiduals.of(y, np.zeros(shape))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.test_uniformity("kuiper"), "method must be one of 'auto', 'ks'"),
        (lambda s: s.test_dispersion("both"), "alternative must be one of 'two-sided'"),
        (lambda s: s.test_outliers("both"), "alternative must be one of 'two-sided'"),
        (lambda s: s.test_outliers(method="exact"), "method must be one of 'auto', 'binomial'"),
        (lambda s: s.test_levels(["a"]), "one level per residual"),
        (lambda s: s.aggregate(["a", None, "b", "b"]), "missing levels"),
    ],
)
def test_unknown_choices(ask, message):
    found = SimulatedResiduals.of(np.zeros(4), np.ones((4, 40)))
    with pytest.raises(ValueError, match=message):
        ask(found)
