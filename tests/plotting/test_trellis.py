"""Lines of a trellis lie where the model says, whatever factors vary within its panels."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from statsmodels.stats.proportion import proportion_confint

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.plotting import TrellisDisplay
from skmixed.plotting._bins import binned_shares, equal_parts, wilson_limits


@pytest.fixture(scope="module")
def pupils():
    """Pupils in classes in schools, with slopes by school, a crossed rater and a covariate."""
    rng = np.random.default_rng(11)
    school = np.repeat(np.arange(10), 48)
    df = pd.DataFrame({"school": [f"s{k}" for k in school], "x": rng.normal(size=480)})
    df["class"] = [f"{s}c{k}" for s, k in zip(df["school"], np.tile(np.repeat(range(4), 12), 10),
                                              strict=True)]  # fmt: skip
    df["rater"] = rng.choice(list("uvwxyz"), 480)
    df["z"] = rng.normal(size=480)
    eta = 0.5 * df["x"] + 0.8 * df["z"]
    eta += (rng.normal(size=10)[school]) * (1 + df["x"])
    for name, sd in (("class", 1.5), ("rater", 1.0)):
        codes = pd.factorize(df[name])[0]
        eta += sd * rng.normal(size=codes.max() + 1)[codes]
    df["y"] = 3 + eta + 0.3 * rng.normal(size=480)
    df["event"] = 1 * (rng.random(480) < 1 / (1 + np.exp(-eta)))
    return df.sample(frac=1.0, random_state=2).reset_index(drop=True)


@pytest.fixture(scope="module")
def model(pupils):
    text = "y ~ x + z + (x | school) + (1 | class) + (1 | rater)"
    return MixedLinearRegressor(text).fit(pupils)


def _fixed_part(model, x, z):
    beta = model.fixed_effects_
    return beta["Intercept"] + beta["x"] * x + beta["z"] * z


def _random_part(model, name, level, x):
    effects = model.random_effects_[name].loc[level]
    return effects["Intercept"] + effects.get("x", 0.0) * x


def _panels(display):
    return zip(display.lines_, dict.fromkeys(display.points["level"]), strict=True)


@pytest.mark.parametrize(
    ("group", "asked", "entering"),
    [
        ("school", None, ["school"]),
        ("class", None, ["school", "class"]),
        ("class", ["class"], ["class"]),
        ("class", ["school"], ["school"]),
        ("rater", None, ["rater"]),
        ("rater", False, []),
    ],
)
def test_lines_have_the_effects_asked_for_at_the_first_row(pupils, model, group, asked, entering):
    display = TrellisDisplay.from_estimator(
        model, pupils, x="x", group=group, random_effects=asked, max_panels=5
    )
    for lines, level in _panels(display):
        first = pupils[pupils[group] == level].iloc[0]
        x = lines["mixed"].get_xdata()
        expected = _fixed_part(model, x, first["z"])
        assert_allclose(lines["population"].get_ydata(), expected, rtol=1e-8, atol=1e-8)
        for name in entering:
            expected = expected + _random_part(model, name, first[name], x)
        assert_allclose(lines["mixed"].get_ydata(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("asked", "entering"), [(None, ["school"]), (True, None)])
def test_lines_averaged_over_the_rows(pupils, model, asked, entering):
    entering = entering or ["school", "class", "rater"]
    display = TrellisDisplay.from_estimator(
        model, pupils, x="x", random_effects=asked, average=True
    )
    for lines, level in _panels(display):
        rows = pupils[pupils["school"] == level]
        x = lines["mixed"].get_xdata()
        expected = _fixed_part(model, x, rows["z"].mean())  # linear in z
        assert_allclose(lines["population"].get_ydata(), expected, rtol=1e-8, atol=1e-8)
        for name in entering:
            own = [_random_part(model, name, at, x) for at in rows[name]]
            expected = expected + np.mean(own, axis=0)
        assert_allclose(lines["mixed"].get_ydata(), expected, rtol=1e-8, atol=1e-8)


def test_averages_of_a_generalised_model_are_of_the_response(pupils):
    model = MixedLogisticClassifier("event ~ x + z + (1 | school) + (1 | class)").fit(pupils)
    display = TrellisDisplay.from_estimator(model, pupils, x="x", average=True)
    one = TrellisDisplay.from_estimator(model, pupils, x="x")
    for (lines, level), at_first in zip(_panels(display), one.lines_, strict=True):
        rows = pupils[pupils["school"] == level]
        x = lines["mixed"].get_xdata()[:, None]
        own = _random_part(model, "school", level, x)
        p = 1 / (1 + np.exp(-_fixed_part(model, x, rows["z"].to_numpy()) - own))
        assert_allclose(lines["mixed"].get_ydata(), p.mean(axis=1), rtol=1e-8)
        first = 1 / (1 + np.exp(-_fixed_part(model, x, rows["z"].iloc[0]) - own))
        assert_allclose(at_first["mixed"].get_ydata(), first[:, 0], rtol=1e-8)


def test_unknown_factors_are_errors(pupils, model):
    with pytest.raises(ValueError, match="list of grouping factors"):
        TrellisDisplay.from_estimator(model, pupils, x="x", random_effects=["pupil"])


def test_events_are_drawn_as_shares_with_intervals(pupils):
    model = MixedGLMRegressor("event ~ x + (1 | school)", family="binomial").fit(pupils)
    display = TrellisDisplay.from_estimator(model, pupils, x="x", levels=["s1", "s2"])
    assert len(display.shares_) == 2
    bins = display.bins[display.bins["level"] == "s1"]
    rows = pupils[pupils["school"] == "s1"].sort_values("x")
    assert len(bins) == 4  # 48 rows, 10 for each share
    for part, (_, found) in zip(np.array_split(np.arange(48), 4), bins.iterrows(), strict=True):
        own = rows.iloc[part]
        low, high = proportion_confint(own["event"].sum(), len(own), method="wilson")
        assert_allclose(
            found[["x", "mean", "lower", "upper", "n"]].to_numpy(dtype=float),
            [own["x"].mean(), own["event"].mean(), low, high, 12], rtol=1e-9, atol=1e-12,
        )  # fmt: skip
    assert TrellisDisplay.from_estimator(
        MixedLinearRegressor("y ~ x + (1 | school)").fit(pupils), pupils
    ).bins is None  # fmt: skip


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("events", [0, 3, 20])
def test_limits_are_wilsons(events, level):
    expected = proportion_confint(events, 20, alpha=1 - level, method="wilson")
    assert_allclose(wilson_limits([events / 20], [20], level), np.array(expected)[:, None],
                    rtol=1e-9, atol=1e-12)  # fmt: skip


def test_ties_stay_in_one_part():
    x = np.array([1.0] * 7 + [2.0, 3.0, 4.0])
    parts = equal_parts(x, 3)
    assert len(set(parts[:7])) == 1 and parts.max() <= 2
    shares = binned_shares(x, np.arange(10) % 2, np.ones(10), parts)
    assert shares["n"].sum() == 10
    assert (shares["mean"] * shares["n"]).sum() == pytest.approx(5)


def test_shares_count_trials():
    shares = binned_shares(np.array([1.0, 1.0]), np.array([0.5, 1.0]), np.array([4.0, 1.0]), [0, 0])
    assert shares.loc[0, ["mean", "n"]].to_list() == [0.6, 5.0]
