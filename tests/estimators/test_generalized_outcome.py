"""Responses of generalised models: one rule for labels, and rows that say nothing."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skmixed import MixedGLMRegressor, MixedLogisticClassifier, SeparationWarning
from skmixed.datasets import load_cbpp

N = 240


@pytest.fixture(scope="module")
def table():
    rng, g = np.random.default_rng(3), np.arange(N) % 12
    x = rng.normal(size=N)
    y = rng.random(N) < 1 / (1 + np.exp(-(x + 1.5 * rng.normal(size=12)[g])))
    return pd.DataFrame({"x": x, "g": g, "y": y.astype(int)})


@pytest.fixture(scope="module")
def expected(table):
    return MixedLogisticClassifier("y ~ x + (1 | g)").fit(table)


def _classifier(formula, **settings):
    return MixedLogisticClassifier(formula, **settings)


def _regressor(formula, **settings):
    return MixedGLMRegressor(formula, "binomial", **settings)


# How y spells failures and successes, and the classes in order
LABELS = {
    "text": (lambda y: np.where(y, "yes", "no"), ["no", "yes"]),
    "categorical": (
        lambda y: pd.Categorical(np.where(y, "die", "live"), categories=["live", "?", "die"]),
        ["live", "die"],
    ),
    "booleans": (lambda y: y.astype(bool), [False, True]),
    "objects": (lambda y: np.where(y, "b", "a").astype(object), ["a", "b"]),
}
NUMBERS = {
    "integers": (lambda y: 3 * y + 2, [2, 5]),
    "categories of integers": (
        lambda y: pd.Categorical(np.where(y, 1, 7), categories=[7, 1]),
        [7, 1],
    ),
    "nullable": (lambda y: pd.array(y + 1, dtype="Int64"), [1, 2]),
}


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.ClassOrderWarning")
@pytest.mark.parametrize(
    ("estimator", "spell", "classes"),
    [
        *((_classifier, *pair) for pair in (LABELS | NUMBERS).values()),
        *((_regressor, *pair) for pair in LABELS.values()),
    ],
)
def test_y_and_formula_order_the_classes_alike(table, expected, estimator, spell, classes):
    spelled = pd.Series(spell(table["y"].to_numpy()), name="label")
    by_y = estimator("x + (1 | g)").fit(table, spelled)
    by_formula = estimator("label ~ x + (1 | g)").fit(table.assign(label=spelled))
    for model in (by_y, by_formula):
        assert model.classes_.tolist() == classes
        assert_allclose(model.coef_, expected.coef_, rtol=1e-6)
    assert by_y.score(table, spelled) == by_formula.score(table.assign(label=spelled))


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.ClassOrderWarning")
def test_a_polars_enum_has_its_own_order(table, expected):
    frame = pl.DataFrame({"x": table["x"].to_numpy(), "g": table["g"].to_numpy()})
    label = pl.Series("e", np.where(table["y"], "die", "live"), dtype=pl.Enum(["live", "die"]))
    by_y = MixedLogisticClassifier("x + (1 | g)").fit(frame, label)
    by_formula = MixedLogisticClassifier("e ~ x + (1 | g)").fit(frame.with_columns(label))
    for model in (by_y, by_formula):
        assert model.classes_.tolist() == ["live", "die"]
        assert_allclose(model.coef_, expected.coef_, rtol=1e-6)


def test_summaries_say_which_class_is_modelled(table, expected):
    label = np.where(table["y"], "yes", "no")
    for estimator in (_classifier, _regressor):
        summary = str(estimator("x + (1 | g)").fit(table, label).summary())
        assert "Response: probability of 'yes', against 'no'" in summary
    assert "Response" not in str(expected.summary())


def test_numbers_have_no_classes_for_the_regressor(table):
    model = MixedGLMRegressor("y ~ x + (1 | g)", "binomial").fit(table)
    assert not hasattr(model, "classes_")


@pytest.mark.parametrize("labels", [["no", "yes", "?"], [0, 1, 2]])
@pytest.mark.parametrize("named", [True, False])
def test_a_class_of_weight_zero_is_none(table, labels, named):
    weight = np.where(np.arange(N) < 7, 0.0, 1.0)
    label = np.array(labels)[np.where(weight == 0, 2, table["y"])]
    without = MixedLogisticClassifier("x + (1 | g)").fit(table[7:], label[7:])
    if named:
        model = MixedLogisticClassifier("label ~ x + (1 | g)")
        model.fit(table.assign(label=label), sample_weight=weight)
    else:
        model = MixedLogisticClassifier("x + (1 | g)").fit(table, label, sample_weight=weight)
    assert model.classes_.tolist() == labels[:2]
    assert model.n_obs_ == N - 7
    assert_allclose(model.coef_, without.coef_, rtol=1e-8)
    assert model.score(table, label) == pytest.approx(without.score(table[7:], label[7:]) * 233 / N)


def test_a_class_that_rows_with_missing_values_have(table):
    holes = table.assign(
        x=table["x"].mask(np.arange(N) < 3), y=table["y"].mask(np.arange(N) < 3, 2)
    )
    model = MixedLogisticClassifier("y ~ x + (1 | g)", missing="drop").fit(holes)
    assert model.classes_.tolist() == [0, 1]


def test_labels_of_mixed_types_are_an_error(table):
    label = table["y"].astype(object).mask(table["y"] == 0, "no")
    with pytest.raises(ValueError, match="mixed types"):
        MixedLogisticClassifier("x + (1 | g)").fit(table, label)


def test_missing_predictions_keep_numbers_numbers(table):
    holes = table.assign(x=table["x"].mask(np.arange(N) == 4))
    model = MixedLogisticClassifier("y ~ x + (1 | g)", missing="drop").fit(holes)
    predicted = model.predict(holes)
    assert predicted.dtype == float
    assert np.flatnonzero(np.isnan(predicted)).tolist() == [4]
    assert model.predict(table).dtype == int
    rest = holes.drop(index=4)
    assert model.score(holes) == model.score(rest) == np.mean(model.predict(rest) == rest["y"])


def test_missing_predictions_of_text_labels_are_scored(table):
    holes = table.assign(x=table["x"].mask(np.arange(N) == 4), y=np.where(table["y"], "yes", "no"))
    model = MixedLogisticClassifier("y ~ x + (1 | g)", missing="drop").fit(holes)
    assert pd.isna(model.predict(holes)).sum() == 1
    assert model.score(holes) == model.score(holes.drop(index=4))
    model.set_params(missing="raise")
    with pytest.raises(ValueError, match="missing values"):
        model.score(holes)


# Counts


@pytest.fixture(scope="module")
def cbpp():
    return load_cbpp().frame.assign(
        healthy=lambda d: d["size"] - d["incidence"], share=lambda d: d["incidence"] / d["size"]
    )


COUNTS = "cbind(incidence, healthy) ~ period + (1 | herd)"


def test_scores_of_counts_are_those_of_single_trials(cbpp):
    """Accuracy by trials: the same for counts, proportions with trials, and one row per animal."""
    counts = MixedLogisticClassifier(COUNTS).fit(cbpp)
    share = MixedLogisticClassifier("share ~ period + (1 | herd)", prior_weights="size").fit(cbpp)
    by_y = MixedLogisticClassifier("period + (1 | herd)", prior_weights="size")
    by_y.fit(cbpp, cbpp["share"])
    rows = cbpp.loc[cbpp.index.repeat(cbpp["size"])].copy()
    order = np.concatenate([np.arange(size) for size in cbpp["size"]])
    rows["ill"] = (order < rows["incidence"]).astype(int)
    single = MixedLogisticClassifier("ill ~ period + (1 | herd)").fit(rows)
    expected = np.mean(single.predict(rows) == rows["ill"])
    assert single.score(rows) == pytest.approx(expected)
    for found in (counts.score(cbpp), share.score(cbpp), by_y.score(cbpp, cbpp["share"])):
        assert found == pytest.approx(expected)
    weight = np.arange(len(cbpp)) % 2
    half = counts.score(cbpp, sample_weight=weight)
    assert half == pytest.approx(counts.score(cbpp[weight == 1]))


def test_scores_of_the_regressor_take_labels_and_counts(cbpp, table):
    counts = MixedGLMRegressor(COUNTS, "binomial").fit(cbpp)
    share = MixedGLMRegressor("share ~ period + (1 | herd)", "binomial", prior_weights="size")
    assert counts.score(cbpp) == pytest.approx(share.fit(cbpp).score(cbpp))
    label = np.where(table["y"], "yes", "no")
    model = MixedGLMRegressor("x + (1 | g)", "binomial").fit(table, label)
    assert model.score(table, label) == pytest.approx(model.score(table, table["y"]))
    with pytest.raises(ValueError, match=r"y holds '\?', which is none of the classes"):
        model.score(table, np.where(table["y"], "?", "no"))


@pytest.mark.parametrize("estimator", [_classifier, _regressor])
def test_rows_without_trials_are_no_observations(cbpp, estimator):
    empty = cbpp[:5].assign(incidence=0, healthy=0)
    model = estimator(COUNTS).fit(cbpp)
    more = estimator(COUNTS).fit(pd.concat([cbpp, empty]))
    assert more.n_obs_ == model.n_obs_ == len(cbpp)
    assert more.df_resid_ == model.df_resid_
    assert more.bic_ == pytest.approx(model.bic_, rel=1e-9)
    assert_allclose(more.coef_, model.coef_, rtol=1e-6)
    assert more.score(pd.concat([cbpp, empty])) == pytest.approx(model.score(cbpp))
    weight = np.ones(len(cbpp) + 5)
    weight[:3] = 2
    assert estimator(COUNTS).fit(pd.concat([cbpp, empty]), sample_weight=weight).n_obs_ == 59


# Weights and sizes


def test_weight_two_is_two_outcomes_of_one_kind(table):
    table = table.assign(row=np.arange(N))
    twice = table.loc[np.repeat(np.arange(N), 2)]
    model = MixedLogisticClassifier("y ~ x + (1 | row)")
    for data, weight in ((twice, None), (table, np.full(N, 2))):
        with warnings.catch_warnings(), pytest.warns(SeparationWarning, match="every level of row"):
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", SeparationWarning)
            model.fit(data, sample_weight=weight)
    with pytest.raises(ValueError, match="one level per row"):
        model.fit(table)


@pytest.mark.parametrize("total", [1, 4, 11])
def test_weights_that_are_no_counts_are_named(table, total):
    message = f"the weights of 240 rows sum to {total} observations.* prior_weights"
    with pytest.raises(ValueError, match=message):
        MixedLogisticClassifier("y ~ x + (1 | g)").fit(table, sample_weight=np.full(N, total / N))


@pytest.mark.parametrize("size", [1e150, 1e-150, 1e60])
@pytest.mark.parametrize(("family", "link"), [("gamma", "identity"), ("inverse_gaussian", "log")])
def test_responses_whose_powers_overflow(table, size, family, link):
    y = size * np.random.default_rng(0).gamma(5, size=N)
    with pytest.raises(ValueError, match="multiply the response by a power of ten"):
        MixedGLMRegressor("x + (1 | g)", family, link).fit(table, y)


def test_a_log_link_without_a_fit_names_another(table):
    noise = np.random.default_rng(1).random(N) < 0.95
    try:
        model = MixedLogisticClassifier("x + (1 | g)", link="log").fit(table, noise)
    except ValueError as error:
        assert "Use the link 'logit'" in str(error)
    else:
        assert (model.predict_proba(table) <= 1).all()


def test_failed_fits_leave_no_classes(table):
    model = MixedLogisticClassifier("y ~ x + (1 | g)").fit(table)
    with pytest.raises(ValueError, match="multiclass"):
        model.fit(table.assign(y=np.arange(N) % 3))
    for name in ("classes_", "family_", "dispersion_", "coef_"):
        assert not hasattr(model, name)
    assert_array_equal(model.fit(table).classes_, [0, 1])
