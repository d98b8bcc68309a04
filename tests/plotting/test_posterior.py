"""The display of posterior draws."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gamma

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_sleepstudy
from skmixed.inference import posterior
from skmixed.plotting import PosteriorDisplay
from skmixed.plotting.posterior import density_curve


@pytest.fixture(scope="module")
def post():
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(load_sleepstudy().frame)
    return posterior(model, 1000, random_state=0)


def test_one_panel_a_parameter_with_median_and_interval(post):
    display = PosteriorDisplay.from_posterior(post, level=0.9)
    table = post.summary(0.9)
    assert len(display.axes_) == len(table) == 6
    assert display.axes_[4].get_xlabel() == "sd_Days\n| Subject"
    for name, (lower, median, upper) in display.intervals_.items():
        expected = table.loc[name, ["lower", "median", "upper"]]
        np.testing.assert_allclose([lower, median, upper], expected)
    [line] = [c for c in display.axes_[1].collections if type(c).__name__ == "LineCollection"]
    assert line.get_segments()[0][0, 0] == pytest.approx(table.loc["Days", "median"])


def test_chosen_parameters_and_axes(post):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    display = PosteriorDisplay.from_posterior(post, "sigma", ax=ax)
    assert list(display.axes_) == [ax]
    with pytest.raises(ValueError, match="did you mean 'sigma'"):
        PosteriorDisplay.from_posterior(post, ["sigm"])


def test_pairs(post):
    names = ["sd_(Intercept)|Subject", "sd_Days|Subject", "sigma"]
    display = PosteriorDisplay.from_posterior(post, names, kind="pairs")
    assert display.axes_.shape == (3, 3)
    x, y = display.axes_[2, 0].lines[0].get_data()
    np.testing.assert_array_equal(x, post.draws[names[0]])
    np.testing.assert_array_equal(y, post.draws["sigma"])
    assert not display.axes_[0, 2].axison
    with pytest.raises(ValueError, match="kind must be"):
        PosteriorDisplay.from_posterior(post, kind="violin")


def test_too_many_pairs_are_refused():
    display = PosteriorDisplay(pd.DataFrame(np.zeros((20, 9))).rename(columns=str))
    with pytest.raises(ValueError, match="pairs of 9 parameters"):
        display.plot(kind="pairs")


def test_densities_do_not_fall_at_a_bound():
    x = gamma(1.0).rvs(4000, random_state=0)
    at, height = density_curve(x, (0.0, np.inf))
    assert at[0] == 0
    assert height[0] == pytest.approx(1.0, abs=0.2)
    area = float(np.sum(0.5 * (height[1:] + height[:-1]) * np.diff(at)))
    assert area == pytest.approx(1.0, abs=0.03)
