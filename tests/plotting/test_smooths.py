"""SmoothDisplay: what it draws, and the table behind it."""

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed.inference import smooth_curves
from skmixed.plotting import ShrinkageDisplay, SmoothDisplay, TrellisDisplay


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    n = 150
    frame = pd.DataFrame(
        {
            "x": rng.uniform(0, 6, n),
            "z": rng.normal(size=n),
            "f": np.resize(list("pq"), n),
            "g": np.resize(list("abcdef"), n),
        }
    )
    level = frame["g"].map(dict(zip("abcdef", rng.normal(size=6), strict=True)))
    frame["y"] = np.sin(frame["x"]) * np.where(frame["f"] == "p", 1, 2) + level
    frame["y"] += 0.3 * rng.normal(size=n)
    frame["count"] = rng.poisson(np.exp(0.5 * frame["y"]))
    return frame


@pytest.fixture(scope="module")
def model(data):
    return MixedLinearRegressor("y ~ f + s(x, by=f) + s(z, k=6) + (1 | g)").fit(data)


def test_a_curve_is_what_predictions_differ_by(data):
    model = MixedLinearRegressor("y ~ z + s(x) + (1 | g)").fit(data)
    x = np.linspace(-1, 7, 9)
    table = smooth_curves(model, x=x)
    rows = pd.DataFrame({"x": x, "z": 0.3})
    predicted = model.predict(rows, random_effects=False)
    np.testing.assert_allclose(np.diff(table["estimate"]), np.diff(predicted), atol=1e-10)
    at_rows = smooth_curves(model, "s(x)", x=data["x"])["estimate"]
    assert at_rows.mean() == pytest.approx(0.0, abs=1e-10)
    half = (table["upper"] - table["lower"]) / 2
    np.testing.assert_allclose(half, 1.959964 * table["std_error"], rtol=1e-6)
    narrow = smooth_curves(model, level=0.5)
    assert len(narrow) == 200
    with pytest.raises(ValueError, match="level"):
        smooth_curves(model, level=95)


def test_levels_are_centred_over_their_own_rows(data, model):
    table = smooth_curves(model, "s(x, by=f)", x=data["x"])
    for curve, own in table.groupby("curve"):
        rows = (data["f"] == curve).to_numpy()
        assert own["estimate"].to_numpy()[rows].mean() == pytest.approx(0.0, abs=1e-10)


def test_a_number_by_has_a_coefficient(data):
    model = MixedLinearRegressor("y ~ s(x, by=z)").fit(data)
    x = np.array([1.0, 4.0])
    one, none = (model.predict(pd.DataFrame({"x": x, "z": z})) for z in (1.0, 0.0))
    np.testing.assert_allclose(smooth_curves(model, x=x)["estimate"], one - none, atol=1e-10)


def test_the_picture_shows_the_table(data, model):
    display = SmoothDisplay.from_estimator(model, data, residuals=True, points=50)
    assert len(display.axes_) == len(display.lines_) == len(display.bands_) == 3
    assert [panel.get_title() for panel in display.axes_] == ["f = p", "f = q", ""]
    assert [panel.get_xlabel() for panel in display.axes_] == ["x", "x", "z"]
    table = smooth_curves(model, points=50)
    drawn = np.concatenate([line.get_ydata() for line in display.lines_])
    np.testing.assert_array_equal(drawn, table["estimate"])
    assert display.axes_[0].get_ylim() == display.axes_[1].get_ylim()


def test_partial_residuals_and_marks(data, model):
    display = SmoothDisplay.from_estimator(model, data, term="s(z)", residuals=True)
    points, marks, *_ = display.ax_.lines
    np.testing.assert_allclose(np.sort(marks.get_xdata()), np.sort(data["z"]), atol=1e-10)
    curve = smooth_curves(model, "s(z)", x=data["z"])["estimate"].to_numpy()
    left = data["y"] - model.predict(data)
    np.testing.assert_allclose(points.get_ydata(), curve + left, atol=1e-9)
    by_level = SmoothDisplay.from_estimator(model, data, term="s(x, by=f)")
    marks = by_level.axes_[0].lines[1].get_xdata()
    np.testing.assert_allclose(np.sort(marks), np.sort(data["x"][data["f"] == "p"]), atol=1e-10)


def test_levels_in_one_panel(model):
    display = SmoothDisplay.from_estimator(model, overlay=True)
    assert len(display.axes_) == 2
    assert len(display.lines_) == 3
    assert len({line.get_color() for line in display.lines_[:2]}) == 2
    legend = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    assert legend == ["f = p", "f = q"]


def test_a_generalised_model(data):
    model = MixedGLMRegressor("count ~ s(x)", family="poisson").fit(data)
    display = SmoothDisplay.from_estimator(model, data)
    assert "log of count" in display.ax_.get_ylabel().replace("\n", " ")
    with pytest.raises(ValueError, match="partial residuals are drawn of a linear model"):
        SmoothDisplay.from_estimator(model, data, residuals=True)


def test_bad_input(data, model):
    with pytest.raises(ValueError, match=r"term must be one of 's\(x, by=f\)', 's\(z\)'"):
        SmoothDisplay.from_estimator(model, term="s(x)")
    plain = MixedLinearRegressor("y ~ x").fit(data)
    with pytest.raises(ValueError, match="no fitted model with smooth terms"):
        SmoothDisplay.from_estimator(plain)
    with pytest.raises(ValueError, match="of rows X that are passed"):
        SmoothDisplay.from_estimator(model, residuals=True)


def test_other_displays_of_models_with_smooth_terms(data, model):
    assert TrellisDisplay.from_estimator(model, data, x="x").group == "g"
    assert len(ShrinkageDisplay.from_estimator(model, data).mixed) == 6
