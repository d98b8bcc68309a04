"""The object that holds means and contrasts: identities, weights, bad input, text."""

import pickle

import numpy as np
import pandas as pd
import pytest

from skmixed import GeneralizedInverseRegressor, MixedLinearRegressor
from skmixed.datasets import load_cake, load_dyestuff2, load_machines
from skmixed.inference import emmeans, emtrends, joint_tests


@pytest.fixture(scope="module")
def cake():
    """Unbalanced rows with recipe A at 185 degrees missing."""
    rng = np.random.default_rng(4)
    df = load_cake().frame
    temperature = df["temperature"].astype(str)
    keep = (rng.random(len(df)) < 0.6) & ~((df["recipe"] == "A") & (temperature == "185"))
    df = df.assign(temperature=pd.Categorical(temperature), z=rng.normal(1, 2, len(df)))
    return df[keep].reset_index(drop=True)


@pytest.fixture(scope="module")
def additive(cake):
    return MixedLinearRegressor(
        "angle ~ recipe + temperature + z + I(z**2) + (1 | recipe:replicate)"
    ).fit(cake)


@pytest.fixture(scope="module")
def full(cake):
    formula = "angle ~ recipe * temperature + (1 | recipe:replicate)"
    with pytest.warns(UserWarning, match="rank deficient"):
        return MixedLinearRegressor(formula).fit(cake)


# Means


def test_means_are_averages_of_predictions(additive, cake):
    ref = additive.design_spec_.reference
    z = float(cake["z"].mean())
    np.testing.assert_allclose(ref.covariates["z"].mean, z)
    grid = pd.MultiIndex.from_product(
        [sorted(set(cake["recipe"])), cake["temperature"].cat.categories],
        names=["recipe", "temperature"],
    ).to_frame(index=False)
    rows = additive.predict(grid.assign(z=z), random_effects=False)
    frame = grid.assign(value=rows)
    found = emmeans(additive, "recipe").frame["estimate"]
    np.testing.assert_allclose(found, frame.groupby("recipe")["value"].mean(), rtol=1e-6)
    found = emmeans(additive, "temperature").frame["estimate"]
    np.testing.assert_allclose(found, frame.groupby("temperature")["value"].mean(), rtol=1e-6)


def test_weights_by_hand(additive, cake):
    """Averages of the rows of X at the cells, weighted with counts by pandas."""
    counts = pd.crosstab(cake["recipe"], cake["temperature"]).to_numpy(dtype=float)
    cells = emmeans(additive, ["recipe", "temperature"]).frame["estimate"]
    values = cells.to_numpy().reshape(counts.shape[1], counts.shape[0]).T  # recipe runs fastest
    shares = {
        "equal": np.ones(counts.shape), "proportional": np.tile(counts.sum(axis=0), (3, 1)),
        "outer": np.tile(counts.sum(axis=0), (3, 1)), "cells": counts, "flat": counts > 0,
    }  # fmt: skip
    for weights, share in shares.items():
        found = emmeans(additive, "recipe", weights=weights).frame["estimate"]
        expected = (share * values).sum(axis=1) / share.sum(axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_outer_and_proportional_weights_differ_over_two_factors(cake):
    two = cake.assign(half=np.where(cake["replicate"].astype(int) % 2, "odd", "even"))
    two = two[~((two["half"] == "odd") & (two["temperature"] == "225"))]
    model = MixedLinearRegressor("angle ~ recipe + temperature * half + (1 | recipe:replicate)")
    with pytest.warns(UserWarning, match="rank deficient"):
        model.fit(two)
    counts = pd.crosstab(two["temperature"], two["half"]).to_numpy(dtype=float)
    cells = emmeans(model, ["half", "temperature"], at={"recipe": ["B"]}).frame["estimate"]
    values = cells.to_numpy().reshape(counts.shape)
    at = {"recipe": ["B"]}
    own = pd.crosstab(two["temperature"], [two["recipe"], two["half"]])["B"].to_numpy(dtype=float)
    found = emmeans(model, [], at=at, weights="proportional").frame["estimate"].iloc[0]
    np.testing.assert_allclose(found, np.nansum(own * values) / own.sum(), rtol=1e-10)
    outer = np.outer(own.sum(axis=1), own.sum(axis=0))
    found = emmeans(model, [], at=at, weights="outer")
    assert not found.frame["estimable"].iloc[0]  # it gives weight to the cell without data
    assert np.isnan((outer * values).sum())


def test_cells_without_rows_have_no_mean_of_their_own(full):
    frame = emmeans(full, ["recipe", "temperature"], weights="cells").frame
    assert not frame.loc[("A", "185"), "estimable"]
    assert frame["estimable"].sum() == len(frame) - 1


def test_sample_weights_count_rows(cake):
    weight = np.arange(len(cake)) % 3 + 1
    repeated = cake.loc[np.repeat(np.arange(len(cake)), weight)]
    formula = "angle ~ recipe + temperature + z + (1 | recipe:replicate)"
    one = MixedLinearRegressor(formula).fit(cake, sample_weight=weight)
    other = MixedLinearRegressor(formula).fit(repeated)
    for weights in ("equal", "proportional", "cells"):
        np.testing.assert_allclose(
            emmeans(one, "recipe", weights=weights).frame.iloc[:, :2],
            emmeans(other, "recipe", weights=weights).frame.iloc[:, :2],
            rtol=1e-6,
        )


def test_coding_does_not_matter(cake):
    plain, coded = (
        MixedLinearRegressor(f"angle ~ {fixed} + (1 | recipe:replicate)").fit(cake)
        for fixed in ("recipe + temperature + z", "C(recipe, contr.sum) + 0 + temperature + z")
    )
    a, b = emmeans(plain, "recipe"), emmeans(coded, "recipe")
    np.testing.assert_allclose(a.frame, b.frame, rtol=1e-6)
    np.testing.assert_allclose(joint_tests(plain), joint_tests(coded), rtol=1e-5)


def test_booleans_and_coded_numbers_are_factors(cake):
    table = cake.assign(hot=cake["temp"] > 200, r=cake["recipe"].map({"A": 1, "B": 2, "C": 3}))
    model = MixedLinearRegressor("angle ~ hot * C(r) + (1 | recipe:replicate)").fit(table)
    assert list(emmeans(model, "hot").frame.index) == [False, True]
    assert list(emmeans(model, "r").pairs().frame.index) == ["r1 - r2", "r1 - r3", "r2 - r3"]
    twin = MixedLinearRegressor("angle ~ hot * recipe + (1 | recipe:replicate)").fit(table)
    np.testing.assert_allclose(emmeans(model, "r").frame, emmeans(twin, "recipe").frame, rtol=1e-6)


def test_data_takes_the_place_of_what_the_fit_kept(additive, cake):
    some = cake[cake["temperature"] != "225"]
    found = emmeans(additive, "recipe", data=some)
    at = {"temperature": sorted(set(some["temperature"])), "z": some["z"].mean()}
    expected = emmeans(additive, "recipe", at=at)
    np.testing.assert_allclose(found.frame, expected.frame, rtol=1e-10)
    with pytest.raises(ValueError, match="no complete row"):
        emmeans(additive, "recipe", data=cake.assign(z=np.nan))
    with pytest.raises(ValueError, match="the unknown category 'D'"):
        emmeans(additive, "recipe", data=cake.assign(recipe="D"))
    same = emmeans(additive, "recipe", data=cake, weights="cells")
    np.testing.assert_allclose(same.frame, emmeans(additive, "recipe", weights="cells").frame)


def test_counts_that_were_not_kept_are_asked_for(cake, monkeypatch):
    monkeypatch.setattr("skmixed.design.reference._MOST_CELLS", 3)
    model = MixedLinearRegressor("angle ~ recipe + temperature + (1 | replicate)").fit(cake)
    assert np.isfinite(emmeans(model, "recipe").frame["estimate"]).all()
    with pytest.raises(ValueError, match="pass the rows of the fit as data="):
        emmeans(model, "recipe", weights="cells")
    monkeypatch.undo()
    assert np.isfinite(emmeans(model, "recipe", weights="cells", data=cake).frame["p_value"]).all()


# Trends


def test_trends_are_derivatives(additive):
    """Of b z + c z^2: b + 2 c z."""
    b, c = additive.fixed_effects_.iloc[-2:]
    at = np.array([-1.0, 0.5, 2.0])
    found = emtrends(additive, "z", var="z", at={"z": at}).frame["estimate"]
    np.testing.assert_allclose(found, b + 2 * c * at, rtol=1e-5)


def test_trends_in_other_units(cake):
    one, other = (
        MixedLinearRegressor("angle ~ recipe * x + (1 | recipe:replicate)").fit(
            cake.assign(x=cake["temp"] * factor)
        )
        for factor in (1.0, 1e5)
    )
    a, b = emtrends(one, "recipe", var="x").frame, emtrends(other, "recipe", var="x").frame
    np.testing.assert_allclose(a["estimate"], b["estimate"] * 1e5, rtol=1e-6)
    np.testing.assert_allclose(a["df"], b["df"], rtol=1e-5)
    np.testing.assert_allclose(a["t"], b["t"], rtol=1e-6)


# Contrasts


def test_contrasts_are_differences_of_means(additive):
    means = emmeans(additive, "temperature", by="recipe")
    frame, pairs = means.frame, means.pairs()
    for (recipe, name), row in pairs.frame.iterrows():
        first, second = name.replace("temperature", "").split(" - ")
        gap = frame.loc[(recipe, first), "estimate"] - frame.loc[(recipe, second), "estimate"]
        np.testing.assert_allclose(row["estimate"], gap, rtol=1e-9, atol=1e-12)
    assert len(pairs.frame) == 3 * 15
    np.testing.assert_allclose(np.diag(pairs.vcov), pairs.frame["std_error"] ** 2, rtol=1e-10)
    assert pairs.linfct.shape == (45, len(additive.fixed_effects_))


def test_by_makes_families(additive):
    apart = emmeans(additive, "temperature", by="recipe").pairs(adjust="bonferroni").frame
    alone = emmeans(additive, "temperature", at={"recipe": "B"}).pairs(adjust="bonferroni").frame
    np.testing.assert_allclose(apart.loc["B"], alone, rtol=1e-9)
    together = emmeans(additive, ["recipe", "temperature"])
    assert len(together.pairs(adjust="none").frame) == 18 * 17 // 2
    again = together.contrast("pairwise", by="recipe", adjust="bonferroni").frame
    np.testing.assert_allclose(again.sort_index(), apart.sort_index(), rtol=1e-9)
    one = emmeans(additive, "temperature", by="recipe").contrast("pairwise", by=[], adjust="none")
    assert len(one.frame) == 18 * 17 // 2


def test_contrasts_of_contrasts(additive):
    """The interaction of an additive model is nothing."""
    steps = emmeans(additive, "temperature", by="recipe").contrast("consec", adjust="none")
    found = steps.contrast("pairwise", by="contrast", adjust="none").frame
    np.testing.assert_allclose(found["estimate"], 0.0, atol=1e-10)


def test_reference_of_treatments_against_control(additive):
    means = emmeans(additive, "temperature")
    by_level = means.contrast("trt.vs.ctrl", ref="195")
    by_label = means.contrast("trt.vs.ctrl", ref="temperature195")
    assert by_level.frame.index[0] == "temperature175 - temperature195"
    assert by_level.adjust == "dunnettx"
    np.testing.assert_allclose(by_level.frame, by_label.frame, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="ref must be one of"):
        means.contrast("trt.vs.ctrl", ref="999")


def test_custom_contrasts(additive):
    found = emmeans(additive, "recipe").contrast({"A against B and C": [1, -0.5, -0.5]})
    a, b, c = emmeans(additive, "recipe").frame["estimate"]
    np.testing.assert_allclose(found.frame["estimate"], a - (b + c) / 2)
    assert "Contrasts (custom)" in str(found)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward_roger"])
def test_joint_test_of_pairs_is_that_of_the_term(full, cake, ddf):
    model = MixedLinearRegressor("angle ~ recipe + temperature + (1 | recipe:replicate)").fit(cake)
    pairs = emmeans(model, "temperature", ddf=ddf).pairs().test(joint=True)
    term = joint_tests(model, ddf=ddf).loc["temperature"]
    np.testing.assert_allclose(pairs.loc["all", ["num_df", "F"]], term[["num_df", "F"]], rtol=1e-8)


def test_tests_against_another_value(additive):
    means = emmeans(additive, "recipe")
    estimate = means.frame["estimate"].iloc[0]
    found = means.test(null=estimate)
    np.testing.assert_allclose(found["t"].iloc[0], 0.0, atol=1e-9)
    np.testing.assert_allclose(found["p_value"].iloc[0], 1.0)
    assert means.test(joint=True, null=30.0).loc["all", "num_df"] == 3


def test_options_of_a_table(additive):
    means = emmeans(additive, "recipe")
    wide = means.summary(level=0.99, adjust="bonferroni")
    assert (wide.frame["lower"] < means.frame["lower"]).all()
    np.testing.assert_allclose(wide.frame["p_value"], np.minimum(3 * means.frame["p_value"], 1))
    np.testing.assert_allclose(
        wide.frame["estimate"], means.frame["estimate"], rtol=1e-9, atol=1e-9
    )
    pairs = means.pairs(adjust="holm").summary(adjust="tukey").frame
    pd.testing.assert_frame_equal(pairs, means.pairs().frame)
    with pytest.raises(ValueError, match="all pairs of one set"):
        means.summary(adjust="tukey")
    with pytest.raises(ValueError, match="only means have another scale"):
        means.pairs().summary(scale="response")


# What the data do not determine


def test_means_with_empty_cells_are_told(full):
    means = emmeans(full, "recipe")
    frame = means.frame
    assert frame["estimable"].tolist() == [False, True, True]
    assert np.isnan(frame.loc["A", "estimate"])
    assert "1 of 3 rows is not estimable" in str(means)
    pairs = means.pairs().frame
    assert pairs["estimable"].tolist() == [False, False, True]
    assert len(means.pairs().frame) == 3


def test_families_keep_their_size(full):
    pairs = emmeans(full, "recipe").pairs(adjust="bonferroni").frame
    plain = emmeans(full, "recipe").pairs(adjust="none").frame
    known = pairs["estimable"]
    np.testing.assert_allclose(
        pairs.loc[known, "p_value"], np.minimum(3 * plain.loc[known, "p_value"], 1.0)
    )


def test_no_contrast_is_estimable(full):
    effects = emmeans(full, "recipe").contrast("eff")
    assert effects.frame["estimate"].isna().all()
    assert "3 of 3 rows are not estimable" in str(effects)
    joint = effects.test(joint=True)
    assert "Tested is the part of them that is estimable: all" in str(joint)
    assert joint.loc["all", "num_df"] == 1  # B against C is left


def test_joint_tests_use_what_is_estimable(full):
    table = joint_tests(full)
    assert table["num_df"].tolist() == [1, 4, 9]
    within = joint_tests(full, by="temperature")
    assert within.loc[("185", "recipe"), "num_df"] == 1
    assert (within.drop(("185", "recipe"))["num_df"] == 2).all()


# Other models


def test_least_squares_models_give_the_same_object(cake):
    frame = cake[["recipe", "temperature", "z"]]
    model = GeneralizedInverseRegressor().fit(frame, cake["angle"])
    means = emmeans(model, "recipe")
    old = model.least_squares_means("recipe")
    for name in ("estimate", "std_error", "df", "t", "p_value", "lower", "upper"):
        np.testing.assert_allclose(means.frame[name], old[name], rtol=1e-9)
    assert means.ddf == "residual"
    old = model.least_squares_means("recipe", pairs=True)
    np.testing.assert_allclose(means.pairs(adjust="none").frame["p_value"], old["p_value"])
    crossed = GeneralizedInverseRegressor(formula="~ recipe * temperature").fit(
        frame, cake["angle"]
    )
    assert emmeans(crossed, "recipe").frame["estimable"].tolist() == [False, True, True]
    anova = crossed.anova(type=2)
    F = emmeans(crossed, "temperature", by="recipe").pairs().test(joint=True)["F"]
    assert np.isfinite(F).all() and len(anova) == 4


def test_least_squares_models_take_other_data(cake):
    frame = cake[["recipe", "temperature", "z"]]
    model = GeneralizedInverseRegressor().fit(frame, cake["angle"])
    some = frame[frame["temperature"] != "225"]
    found = emmeans(model, "recipe", data=some).frame
    at = {"temperature": sorted(set(some["temperature"])), "z": some["z"].mean()}
    np.testing.assert_allclose(found, emmeans(model, "recipe", at=at).frame, rtol=1e-9)
    with pytest.raises(ValueError, match="'D' is no level of 'recipe' at the fit"):
        emmeans(model, "recipe", data=some.assign(recipe="D"))


def test_booleans_of_least_squares_models_are_numbers(cake):
    frame = cake[["recipe"]].assign(hot=cake["temp"] > 200)
    model = GeneralizedInverseRegressor().fit(frame, cake["angle"])
    old = model.least_squares_means("recipe")
    found = emmeans(model, "recipe").frame
    np.testing.assert_allclose(found[["estimate", "df"]], old[["estimate", "df"]], rtol=1e-9)
    hot, cold = emmeans(model, "hot", at={"hot": [1, 0]}).frame["estimate"]
    np.testing.assert_allclose(hot - cold, model.coef_[-1], rtol=1e-9)


def test_least_squares_models_of_numbers_have_no_factors(cake):
    model = GeneralizedInverseRegressor().fit(cake[["z"]].to_numpy(), cake["angle"])
    with pytest.raises(ValueError, match="pass a DataFrame with categorical columns"):
        emmeans(model, "z")


def test_several_responses(cake):
    y = np.column_stack([cake["angle"], 2 * cake["angle"]])
    model = GeneralizedInverseRegressor().fit(cake[["recipe", "temperature"]], y)
    one, two = (emmeans(model, "recipe", output=k).frame["estimate"] for k in (0, 1))
    np.testing.assert_allclose(two, 2 * one)


def test_pickles_answer(additive):
    means = emmeans(additive, "recipe")
    expected = means.pairs().frame
    again = pickle.loads(pickle.dumps(means))
    pd.testing.assert_frame_equal(again.pairs().frame, expected)
    model = pickle.loads(pickle.dumps(additive))
    pd.testing.assert_frame_equal(emmeans(model, "recipe").pairs().frame, expected)


def test_singular_fits_are_told():
    df = load_dyestuff2().frame
    df = df.assign(half=np.where(np.arange(len(df)) % 2, "odd", "even"))
    with pytest.warns(UserWarning, match="singular"):
        model = MixedLinearRegressor("Yield ~ half + (1 | Batch)").fit(df)
    assert "A variance is estimated as zero" in str(emmeans(model, "half"))
    assert "A variance" not in str(emmeans(model, "half", ddf="asymptotic"))


def test_no_degrees_of_freedom_are_told(cake):
    rows = cake.drop_duplicates(["recipe", "temperature"])
    model = GeneralizedInverseRegressor(formula="angle ~ recipe * temperature").fit(rows)
    means = emmeans(model, "temperature", at={"recipe": ["B", "C"]})
    for table in (means, means.pairs(), means.pairs().test(joint=True), joint_tests(model)):
        assert "No residual degrees of freedom are left" in str(table)
    assert means.frame["p_value"].isna().all()
    assert np.isfinite(means.frame["estimate"]).all()


def test_one_comparison_is_not_adjusted(additive):
    means = emmeans(additive, "recipe", at={"recipe": ["A", "C"]})
    pd.testing.assert_frame_equal(means.pairs().frame, means.pairs(adjust="none").frame)
    assert "tukey" not in str(means.pairs())


# Letters


def test_letters():
    df = load_machines().frame
    model = MixedLinearRegressor("score ~ Machine + (0 + Machine | Worker)").fit(df)
    means = emmeans(model, "Machine")
    assert means.letters().tolist() == ["a", "b", "b"]
    assert means.letters(alpha=1e-6).tolist() == ["a", "a", "a"]


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: emmeans(m, "recipes"), "Did you mean 'recipe'"),
        (lambda m: emmeans(m, "replicate"), "specs names 'replicate'"),
        (lambda m: emmeans(m, "recipe", by="temprature"), "by names .* mean 'temperature'"),
        (lambda m: emmeans(m, "recipe", by="recipe"), "something twice"),
        (lambda m: emmeans(m, "recipe", at={"temperature": ["185", "186"]}),
         "'186' is no level of 'temperature'. Did you mean '185'"),
        (lambda m: emmeans(m, "recipe", at={"zz": 1}), "at names 'zz'"),
        (lambda m: emmeans(m, "recipe", at={"z": "high"}), "needs finite numbers"),
        (lambda m: emmeans(m, "recipe", at={"z": []}), "needs finite numbers"),
        (lambda m: emmeans(m, "recipe", at={"z": [np.nan]}), "needs finite numbers"),
        (lambda m: emmeans(m, "recipe", at={"z": [1, 1]}), "a value twice"),
        (lambda m: emmeans(m, "recipe", at={"temperature": []}), "one level or more"),
        (lambda m: emmeans(m, "recipe", at=[1]), "at must be a dict"),
        (lambda m: emmeans(m, "recipe", weights="prop"), "weights must be one of"),
        (lambda m: emmeans(m, "recipe", level=95), "between 0 and 1"),
        (lambda m: emmeans(m, "recipe", scale="mean"), "'link' or 'response'"),
        (lambda m: emmeans(m, "recipe", ddf="kenward"), "ddf must be one of"),
        (lambda m: emtrends(m, "recipe", var="temperature"), "var names 'temperature'"),
        (lambda m: emtrends(m, "recipe", var="zed"), "var names 'zed'"),
        (lambda m: emmeans(m, []).pairs(), "two means or more"),
        (lambda m: emmeans(m, "recipe").contrast("pairs"), "did you mean 'pairwise'"),
        (lambda m: emmeans(m, "recipe").contrast("eff", adjust="tukey"), "all pairs of one set"),
        (lambda m: emmeans(m, "recipe").pairs(adjust="tuckey"), "adjust must be one of"),
        (lambda m: emmeans(m, "recipe").pairs(by="z"), "by must be among"),
        (lambda m: emmeans(m, "recipe").contrast({"x": [1, -1]}), "needs 3 finite coefficients"),
        (lambda m: emmeans(m, "recipe").letters(alpha=5), "alpha must lie"),
        (lambda m: emmeans(MixedLinearRegressor("y ~ x + (1 | g)"), "x"), "is not a fitted model"),
    ],
)  # fmt: skip
def test_bad_input(additive, call, message):
    with pytest.raises(ValueError, match=message):
        call(additive)


def test_kenward_roger_needs_reml(cake):
    model = MixedLinearRegressor("angle ~ recipe + (1 | replicate)", reml=False).fit(cake)
    with pytest.raises(ValueError, match="fit it with reml=True"):
        emmeans(model, "recipe", ddf="kenward_roger")


def test_covariates_with_one_value_have_no_trend(cake):
    formula = "angle ~ recipe + one + (1 | replicate)"
    with pytest.warns(UserWarning, match="rank deficient"):
        model = MixedLinearRegressor(formula).fit(cake.assign(one=1.0))
    with pytest.raises(ValueError, match="has one value, 1: it has no trend"):
        emtrends(model, "recipe", var="one")


def test_a_model_without_factors(cake):
    model = MixedLinearRegressor("angle ~ z + (1 | replicate)").fit(cake)
    with pytest.raises(ValueError, match="joint_tests needs a factor"):
        joint_tests(model)
    assert joint_tests(model, at={"z": [0.0, 1.0]}).index.tolist() == ["z"]
    assert emmeans(model, []).frame.index.tolist() == ["overall"]


def test_too_large_a_grid(cake, monkeypatch):
    monkeypatch.setattr("skmixed.inference.grid._MOST_ROWS", 10)
    model = MixedLinearRegressor("angle ~ recipe + temperature + (1 | replicate)").fit(cake)
    with pytest.raises(ValueError, match="the reference grid of recipe, temperature has 18 rows"):
        emmeans(model, "recipe")


def test_batches_of_grid_rows_make_no_difference(full, monkeypatch):
    expected = emmeans(full, "recipe", weights="proportional").linfct
    monkeypatch.setattr("skmixed.inference.grid._AT_A_TIME", 5 * len(full.fixed_effects_))
    pd.testing.assert_frame_equal(emmeans(full, "recipe", weights="proportional").linfct, expected)


# Text


def test_text(additive, full):
    text = str(emmeans(additive, "recipe", by="temperature").pairs())
    for part in (
        "Contrasts (pairwise) of marginal means of recipe by temperature", "std_error",
        "Degrees of freedom: Satterthwaite. Confidence level: 0.95.",
        "tukey, families of 3 pairs of 3 means",
    ):  # fmt: skip
        assert part in text
    means = emmeans(additive, "recipe")
    assert "Averaged over temperature (weights: equal)." in repr(means)
    text = repr(emmeans(full, "recipe"))
    assert "(weights: equal); the model has interactions with temperature." in text.replace(
        "\n", " "
    )
    assert "<table" in means._repr_html_()
    assert "(limits: bonferroni)" in str(means.pairs(adjust="holm"))


def test_none_is_the_mean_over_everything(additive):
    for ask in (emmeans, lambda model, specs: emtrends(model, specs, var="z")):
        pd.testing.assert_frame_equal(ask(additive, None).frame, ask(additive, []).frame)
