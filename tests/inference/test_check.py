"""check_model: R's over-dispersion, planted faults, words, and models that lack something."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skmixed import (
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    SeparationWarning,
    SingularFitWarning,
)
from skmixed.datasets import load_cbpp, load_grouseticks, load_penicillin, load_sleepstudy
from skmixed.inference import check_model, influence, simulated_residuals, vif

R = json.loads((Path(__file__).parents[1] / "data" / "checks" / "checks.json").read_text())
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def sleep_model(sleep):
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)


@pytest.fixture(scope="module")
def cows():
    return load_cbpp().frame


def drawn(seed=0, n=300, groups=30):
    """x, z, a grouping factor, and a linear predictor of them."""
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((2, n))
    g = rng.integers(0, groups, n)
    eta = 0.5 * x - 0.3 * z + 0.6 * rng.standard_normal(groups)[g]
    return rng, pd.DataFrame({"x": x, "z": z, "g": g, "eta": eta})


def verdicts(formula, data, model=MixedLinearRegressor, **kwargs):
    found = check_model(model(formula, **kwargs).fit(data), data, random_state=0)
    return found.table["verdict"]


# Against R


def test_overdispersion_is_that_of_performance(cows):
    ticks = load_grouseticks().frame
    ticks["H"] = (ticks["HEIGHT"] - ticks["HEIGHT"].mean()) / 100
    models = {
        "grouseticks": (MixedGLMRegressor("TICKS ~ YEAR + H + (1 | BROOD)", "poisson"), ticks),
        "cbpp": (MixedGLMRegressor(CBPP, "binomial"), cows),
    }
    for name, (model, data) in models.items():
        found = check_model(model.fit(data), data, random_state=0).table.loc["overdispersion"]
        theirs = R["overdispersion"][name]
        assert model.df_resid_ == theirs["df"]
        assert found["statistic"] == pytest.approx(theirs["ratio"], rel=5e-4)  # of its search
        assert found["p_value"] == pytest.approx(theirs["p"], rel=5e-3)


# What is in it


def test_the_report_of_a_linear_model(sleep_model, sleep):
    check = check_model(sleep_model, sleep, random_state=0)
    assert check.table.index.tolist() == [
        "uniformity", "dispersion", "outliers", "extremes", "link", "curvature",
        "normal residuals", "normal effects (Intercept | Subject)",
        "normal effects (Days | Subject)", "influence (Subject)", "singularity",
        "levels (Subject)",
    ]  # fmt: skip
    by_level = influence(sleep_model, sleep, level="Subject")["cooks_distance"]
    pd.testing.assert_series_equal(check.influence, by_level)
    assert check.table.loc["influence (Subject)", "statistic"] == by_level.max()
    rows = influence(sleep_model, sleep)
    np.testing.assert_allclose(check.rows["residual"], rows["studentized"])
    np.testing.assert_allclose(check.rows["fitted"], sleep_model.predict(sleep))
    alone = simulated_residuals(sleep_model, sleep, random_state=0)
    np.testing.assert_allclose(check.rows["simulated"], alone.residuals)
    pd.testing.assert_frame_equal(check.inflation, vif(sleep_model))
    shrunk = check.shrinkage["Subject"]
    std = sleep_model.random_effects_std_["Subject"]
    prior = np.sqrt(np.diag(sleep_model.covariances_["Subject"]))
    np.testing.assert_allclose(shrunk[["Intercept", "Days"]], 1 - (std / prior) ** 2, rtol=1e-9)
    assert (shrunk["n_rows"] == 10).all()
    modes = sleep_model.random_effects_["Subject"]["Days"]
    spread = prior[1] * np.sqrt(shrunk["Days"])
    np.testing.assert_allclose(check.effects["Days | Subject"], modes / spread)
    assert check.table.loc["normal residuals", "verdict"] == "problem"  # two rows are far off
    assert list(check.advice.index) == ["normal residuals"]


def test_words_and_tables(sleep_model, sleep):
    check = check_model(sleep_model, sleep, random_state=0)
    text, html = repr(check), check._repr_html_()
    for part in (
        "Reaction ~ Days + (Days | Subject)", "180 rows", "250 simulated", "To try: transform y",
        "largest Cook's distance, that of Subject '309'",
    ):  # fmt: skip
        assert part in text.replace("\n    ", " ")
    assert "<table" in html and "To try: transform y" in html and "Cook&#x27;s" in html
    assert max(map(len, text.splitlines())) <= 88
    assert (check.table["looked_at"] != "").all()
    worse = check.table["verdict"] != "ok"
    assert (check.table.loc[worse, "advice"] != "").all()
    assert (check.table.loc[~worse, "advice"] == "").all()
    again = pickle.loads(pickle.dumps(check))
    assert repr(again) == text


def test_which_checks_a_response_has(cows):
    rng, data = drawn()
    data["event"] = (rng.random(300) < 1 / (1 + np.exp(-data["eta"]))).astype(int)
    data["count"] = rng.poisson(np.exp(data["eta"]))
    data["positive"] = np.exp(data["eta"]) * rng.gamma(3, 1 / 3, 300)
    binary = MixedLogisticClassifier("event ~ x + (1 | g)").fit(data)
    table = check_model(binary, data, random_state=0).table
    assert not {"zeros", "dispersion", "overdispersion", "normal residuals"} & set(table.index)
    counts = MixedGLMRegressor("count ~ x + (1 | g)", "poisson").fit(data)
    assert {"zeros", "dispersion", "overdispersion"} <= set(check_model(counts, data).table.index)
    gamma = MixedGLMRegressor("positive ~ x + (1 | g)", "gamma", "log").fit(data)
    assert "overdispersion" not in check_model(gamma, data).table.index
    shares = MixedGLMRegressor(CBPP, "binomial").fit(cows)
    assert check_model(shares, cows).response == "proportion"
    plain = check_model(MixedLinearRegressor("eta ~ x").fit(data), data)
    assert plain.influence.index.name == "row" and plain.clusters is None
    assert "singularity" not in plain.table.index


def test_influence_of_levels_is_close_to_refits_without_them(cows):
    """One step of Newton's method, for a generalised model."""
    model = MixedGLMRegressor(CBPP, "binomial").fit(cows)
    found = check_model(model, cows, random_state=0).influence
    assert found.index.name == "herd"
    beta, V = model.fixed_effects_.to_numpy(), model.vcov_.to_numpy()
    for herd in ("1", "5", "11", "14"):
        other = MixedGLMRegressor(CBPP, "binomial").fit(cows[cows["herd"] != herd])
        change = beta - other.fixed_effects_.to_numpy()
        distance = change @ np.linalg.solve(V, change) / len(beta)
        assert found[herd] == pytest.approx(distance, rel=0.25)


def test_crossed_factors_of_generalised_models_are_by_row():
    rng, data = drawn()
    h = rng.integers(0, 8, 300)
    eta = data["eta"] + rng.standard_normal(8)[h]
    data = data.assign(h=h, count=rng.poisson(np.exp(eta)))
    model = MixedGLMRegressor("count ~ x + (1 | g) + (1 | h)", "poisson").fit(data)
    rows = influence(model, data)
    share = 2 / rows["leverage"].sum()
    found = check_model(model, data, random_state=0).influence
    np.testing.assert_allclose(found, share * rows["cooks_distance"])


# Planted faults, and none


def test_right_models_are_mostly_ok():
    bad = 0
    for seed in range(12):
        rng, data = drawn(seed)
        found = verdicts("y ~ x + z + (1 | g)", data.assign(y=data["eta"] + rng.normal(size=300)))
        bad += (found == "problem").sum()
    assert bad <= 5  # of 132


def test_wrong_link():
    rng, data = drawn()
    data["y"] = np.exp(2 + data["eta"] + 0.3 * rng.standard_normal(300))
    assert verdicts("y ~ x + z + (1 | g)", data)["link"] == "problem"


def test_overdispersion_and_outliers_and_a_missing_square():
    rng, data = drawn()
    counts = data.assign(y=rng.poisson(np.exp(data["eta"]) * rng.gamma(1, 1, 300)))
    found = check_model(
        MixedGLMRegressor("y ~ x + z + (1 | g)", "poisson").fit(counts), counts, random_state=0
    )
    assert found.table.loc["overdispersion", "verdict"] == "problem"
    assert "negative_binomial" in found.advice["overdispersion"]
    far = data.assign(y=data["eta"] + rng.standard_normal(300))
    far.loc[[7, 70], "y"] += [9, -8]
    found = verdicts("y ~ x + z + (1 | g)", far)
    assert found[["extremes", "normal residuals"]].tolist() == ["problem"] * 2
    bent = data.assign(y=data["eta"] + 0.4 * data["z"] ** 2 + rng.standard_normal(300))
    check = check_model(MixedLinearRegressor("y ~ x + z + (1 | g)").fit(bent), bent)
    assert check.table.loc["curvature", "verdict"] == "problem"
    assert check.advice["curvature"] == "add I(z ** 2), poly or a spline of z"


def test_collinear_terms_and_few_levels():
    rng, data = drawn()
    data = data.assign(
        twin=data["x"] + 0.1 * rng.standard_normal(300), few=data["g"] % 3,
        y=data["eta"] + rng.standard_normal(300),
    )  # fmt: skip
    data["y"] += 2.0 * data["few"]
    check = check_model(MixedLinearRegressor("y ~ x + twin + (1 | few)").fit(data), data)
    assert check.table.loc["collinearity", "verdict"] == "problem"
    assert check.table.loc["levels (few)", "verdict"] == "look"
    assert "make few a fixed effect" in check.advice["levels (few)"]
    assert "normal effects (Intercept | few)" not in check.table.index


@pytest.mark.parametrize(
    ("term", "advice"),
    [
        ("(1 | f)", "leave (1 | f) out: its variance is 0"),
        ("(x | f)", "leave the correlations of (1 + x | f) out (||), then x"),
        ("(x || g)", "leave (0 + x | g) out: its variance is 0"),
    ],
)
def test_singular_terms_are_named(term, advice):
    rng, data = drawn(3)
    f = np.tile(np.arange(20), 15)
    part = 0.5 * rng.standard_normal(20)[f] * (1 + data["x"]) if term == "(x | f)" else 0.0
    noise = rng.standard_normal(300)
    for by in (f, data["g"].to_numpy()):  # no differences between levels in mean or slope
        if by is f and term == "(x | f)":
            continue
        for v in (np.ones(300), data["x"].to_numpy()):
            noise = noise - (np.bincount(by, noise * v) / np.bincount(by, v * v))[by] * v
    data = data.assign(f=f, y=data["eta"] + part + noise)
    with pytest.warns(SingularFitWarning):
        model = MixedLinearRegressor(f"y ~ x + z + {term}").fit(data)
    check = check_model(model, data, random_state=0)
    assert check.advice["singularity"] == advice


# Other data and models


def test_rows_in_another_order_and_of_another_kind(sleep_model, sleep):
    whole = check_model(sleep_model, sleep, random_state=0)
    mixed = check_model(sleep_model, sleep.sample(frac=1, random_state=0), random_state=0)
    other = check_model(sleep_model, pl.DataFrame(sleep.to_dict("list")), random_state=0)
    for found in (mixed, other):
        for name in ("link", "normal residuals", "influence (Subject)"):
            assert found.table.loc[name, "statistic"] == pytest.approx(
                whole.table.loc[name, "statistic"], rel=1e-6, nan_ok=True
            )


def test_models_from_files_do_without_score_tests(sleep_model, sleep):
    whole = check_model(sleep_model, sleep, random_state=0).table
    copy = pickle.loads(pickle.dumps(sleep_model))
    found = check_model(copy, sleep, random_state=0).table
    lost = found.loc["link and curvature"]
    assert lost["verdict"] == "not checked" and "fit the model again" in lost["advice"]
    rest = found.index.drop("link and curvature")
    pd.testing.assert_frame_equal(found.loc[rest], whole.loc[rest])


def test_separated_fits_do_without_score_tests():
    rng, data = drawn(n=120, groups=12)
    data["s"] = (data["g"] < 3).astype(float)
    data["event"] = ((rng.random(120) < 0.5) | (data["s"] == 1)).astype(int)
    with pytest.warns(SeparationWarning):
        model = MixedGLMRegressor("event ~ x + s + (1 | g)", "binomial").fit(data)
    found = check_model(model, data, random_state=0)
    assert found.table.loc["link and curvature", "verdict"] == "not checked"
    assert found.influence.index.name == "row"
    assert found.inflation["gvif"].isna().all()


def test_modes_of_levels_that_say_little_are_not_held_normal():
    """An effect of every count is as skewed as the counts, in the right model too."""
    ticks = load_grouseticks().frame
    model = MixedGLMRegressor("TICKS ~ YEAR + (1 | BROOD) + (1 | INDEX)", "poisson").fit(ticks)
    table = check_model(model, ticks, random_state=0).table
    assert table.loc["levels (INDEX)", "statistic"] < 0.5
    assert table.loc["normal effects (Intercept | INDEX)", "verdict"] == "not checked"
    assert table.loc["levels (BROOD)", "statistic"] > 0.5
    assert table.loc["normal effects (Intercept | BROOD)", "p_value"] > 0


def test_crossed_factors(sleep):
    plates = load_penicillin().frame
    model = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(plates)
    check = check_model(model, plates, random_state=0)
    expected = influence(model, plates, level="plate")["cooks_distance"]
    pd.testing.assert_series_equal(check.influence, expected)
    assert set(check.shrinkage) == {"plate", "sample"}
    assert "curvature" not in check.table.index  # no covariate


def test_bad_input(sleep_model, sleep):
    with pytest.raises(ValueError, match="n_samples must be an integer of at least 39, got 10"):
        check_model(sleep_model, sleep, n_samples=10)
    with pytest.raises(ValueError, match="check_model is about the rows of the fit"):
        check_model(sleep_model, sleep[:-1])
    with pytest.raises(ValueError, match="check_model: this MixedLinearRegressor is not fitted"):
        check_model(MixedLinearRegressor("Reaction ~ Days"), sleep)
    plain = GeneralizedInverseRegressor().fit(sleep[["Days"]], sleep["Reaction"])
    with pytest.raises(TypeError, match="check_model takes a fitted mixed model, got Generalized"):
        check_model(plain, sleep[["Days"]], sleep["Reaction"])
