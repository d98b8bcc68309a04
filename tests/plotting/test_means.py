"""The display of marginal means draws what the table says."""

import numpy as np
import pytest

from skmixed import GeneralizedInverseRegressor, MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import load_cake, load_cbpp
from skmixed.inference import emmeans
from skmixed.plotting import MarginalMeansDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def cake():
    df = load_cake().frame
    formula = "angle ~ recipe * temperature + (1 | recipe:replicate)"
    return MixedLinearRegressor(formula).fit(df)


def ends(lines):
    return np.array([segment[:, 0] for segment in lines.get_segments()])


def test_intervals_points_and_letters(cake):
    means = emmeans(cake, "temperature")
    display = MarginalMeansDisplay.from_estimator(cake, "temperature")
    np.testing.assert_allclose(ends(display.lines_[0]), means.frame[["lower", "upper"]])
    (points,) = display.ax_.get_lines()
    np.testing.assert_allclose(points.get_xdata(), means.frame["estimate"])
    assert [text.get_text() for text in display.ax_.texts] == means.letters().tolist()
    ticks = dict(zip(display.ax_.get_yticks(), display.ax_.get_yticklabels(), strict=True))
    rows = points.get_ydata()
    assert [ticks[row].get_text() for row in rows] == list(means.frame.index)
    assert rows[0] == max(rows)  # the first level is at the top
    assert display.ax_.get_xlabel() == "marginal mean  (angle)"


def test_one_panel_by_family(cake):
    means = emmeans(cake, "recipe", by="temperature")
    display = MarginalMeansDisplay.from_estimator(cake, "recipe", by="temperature", letters=False)
    assert len(display.axes_) == len(display.lines_) == 6
    assert display.axes_[1].get_title() == "temperature = 185"
    np.testing.assert_allclose(ends(display.lines_[1]), means.frame.loc["185", ["lower", "upper"]])
    assert not any(text.get_text() for text in display.ax_.texts)


def test_options_are_those_of_the_means(cake):
    display = MarginalMeansDisplay.from_estimator(
        cake, "recipe", at={"temperature": ["175"]}, level=0.5, ddf="kenward_roger"
    )
    means = emmeans(cake, "recipe", at={"temperature": ["175"]}, level=0.5, ddf="kenward_roger")
    np.testing.assert_allclose(ends(display.lines_[0]), means.frame[["lower", "upper"]])


def test_response_scale_and_contrasts():
    df = load_cbpp().frame
    model = MixedGLMRegressor(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", family="binomial"
    ).fit(df)
    display = MarginalMeansDisplay.from_estimator(model, "period", scale="response")
    assert 0 < display.ax_.get_xlim()[1] < 1
    pairs = emmeans(model, "period", scale="response").pairs()
    drawn = MarginalMeansDisplay.from_means(pairs, letters=False, label="odds ratio")
    assert drawn.ax_.get_xlabel() == "odds ratio"
    np.testing.assert_allclose(ends(drawn.lines_[0]), pairs.frame[["lower", "upper"]])


def test_means_that_are_not_estimable_stay_blank():
    df = load_cake().frame
    empty = (df["recipe"] == "A") & (df["temperature"].astype(str) == "185")
    model = GeneralizedInverseRegressor(formula="angle ~ recipe * temperature").fit(df[~empty])
    display = MarginalMeansDisplay.from_estimator(model, "recipe")
    assert np.isnan(display.ax_.get_lines()[0].get_xdata()).tolist() == [True, False, False]
    assert display.ax_.texts[0].get_text() == ""


def test_axes_of_ones_own(cake):
    figure, axes = plt.subplots(1, 3)
    display = MarginalMeansDisplay.from_estimator(cake, "temperature", by="recipe", ax=axes)
    assert display.figure_ is figure
    assert list(display.axes_) == list(axes)
    again = display.plot(color="red")
    assert again is display
    assert display.figure_ is not figure
