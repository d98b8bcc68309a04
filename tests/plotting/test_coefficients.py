"""The forest plot draws the table of fixed effects."""

import numpy as np
import pandas as pd
import pytest

from skmixed import GeneralizedInverseRegressor, MixedLinearRegressor
from skmixed.datasets import load_cake, load_sleepstudy
from skmixed.inference import cluster_robust
from skmixed.plotting import CoefficientsDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def cake():
    return load_cake().frame


@pytest.fixture(scope="module")
def model(cake):
    return MixedLinearRegressor("angle ~ recipe + temp + (1 | recipe:replicate)").fit(cake)


def ends(display):
    return np.array([segment[:, 0] for segment in display.lines_[0].get_segments()])


def labels(display):
    return [text.get_text() for text in display.ax_.get_yticklabels()]


def test_rows_are_those_of_the_table_without_the_intercept(model):
    display = CoefficientsDisplay.from_estimator(model, ddf="kenward_roger", level=0.8)
    table = model.coefficients(ddf="kenward_roger", level=0.8).drop("Intercept")
    np.testing.assert_allclose(ends(display), table[["lower", "upper"]])
    (_, points) = display.ax_.get_lines()  # the first is at 0
    np.testing.assert_allclose(points.get_xdata(), table["estimate"])
    assert labels(display) == list(table.index)
    assert points.get_ydata()[0] == max(points.get_ydata())
    assert display.ax_.get_xlabel() == "coefficient  (angle; slopes per unit)"


def test_chosen_rows_and_the_intercept(model):
    assert labels(CoefficientsDisplay.from_estimator(model, intercept=True))[0] == "Intercept"
    chosen = CoefficientsDisplay.from_estimator(model, parameters=["temp", "Intercept"])
    assert labels(chosen) == ["temp", "Intercept"]
    with pytest.raises(ValueError, match="got 'tmp'; did you mean 'temp'"):
        CoefficientsDisplay.from_estimator(model, parameters="tmp")
    sleep = load_sleepstudy().frame
    mean = MixedLinearRegressor("Reaction ~ 1 + (1 | Subject)").fit(sleep)
    with pytest.raises(ValueError, match="pass intercept=True"):
        CoefficientsDisplay.from_estimator(mean)


def test_a_column_that_was_left_out_stays_blank(cake):
    model = GeneralizedInverseRegressor(formula="angle ~ recipe + temp").fit(cake)
    display = CoefficientsDisplay.from_estimator(model)
    points = display.ax_.get_lines()[1].get_xdata()
    assert np.isnan(points).tolist() == model.aliased_[1:].tolist()
    assert np.isnan(points).sum() == 1


def test_a_table_of_ones_own(model, cake):
    robust = cluster_robust(model, cake).coefficients()
    figure, ax = plt.subplots()
    display = CoefficientsDisplay(robust, label="angle").plot(ax=ax, color="red")
    assert display.ax_ is ax
    assert display.figure_ is figure
    np.testing.assert_allclose(ends(display), robust[["lower", "upper"]])


def test_more_rows_than_can_be_read_have_no_labels():
    table = pd.DataFrame({"estimate": np.arange(41.0), "lower": -1.0, "upper": 50.0})
    display = CoefficientsDisplay(table).plot()
    assert labels(display) == []
    assert display.ax_.get_ylabel() == "41 rows"
    assert len(labels(CoefficientsDisplay(table[1:]).plot())) == 40
