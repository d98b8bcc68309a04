"""The display of profiles draws their curves and limits."""

import numpy as np
import pytest
from scipy.stats import norm

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import load_cbpp, load_sleepstudy
from skmixed.plotting import ProfileDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def slopes():
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(load_sleepstudy().frame)


def test_limits_are_where_the_curves_cross_the_quantiles(slopes):
    display = ProfileDisplay.from_estimator(slopes, level=0.9)
    limits = slopes.confint(method="profile", level=0.9)
    assert [ax.get_title() for ax in display.axes_] == list(limits.index)
    for line, panel, name in zip(display.lines_, display.axes_, limits.index, strict=True):
        values, zeta = line.get_xdata(), line.get_ydata()
        assert (np.diff(values) > 0).all()
        found = np.interp([norm.ppf(0.05), 0.0, norm.ppf(0.95)], zeta, values)
        row = limits.loc[name, ["lower", "estimate", "upper"]].to_numpy(float)
        np.testing.assert_allclose(found, row, rtol=0, atol=0.01 * (row[2] - row[0]))
        marked = [float(segments.get_segments()[0][0, 0]) for segments in panel.collections]
        np.testing.assert_allclose(marked, row[[0, 2]])
    units = dict(zip(limits.index, (ax.get_xlabel() for ax in display.axes_), strict=True))
    assert units["Days"] == units["sd_Days|Subject"] == "Reaction per unit"
    assert units["sigma"] == "Reaction"
    assert units["cor_Days.(Intercept)|Subject"] == "correlation"


def test_chosen_parameters_in_axes_of_ones_own(slopes):
    figure, axes = plt.subplots(1, 2)
    names = ["sigma", "Days"]
    display = ProfileDisplay.from_estimator(slopes, parameters=names, points=3, ax=axes)
    assert display.figure_ is figure
    assert [ax.get_title() for ax in axes] == names
    assert all(len(curve) == 7 for curve in display.curves.values())
    again = display.plot()
    assert again is display
    assert display.figure_ is not figure


def test_a_generalised_model_takes_its_rows():
    data = load_cbpp().frame
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    model = MixedGLMRegressor(formula, family="binomial").fit(data)
    name = "sd_(Intercept)|herd"
    display = ProfileDisplay.from_estimator(model, data, parameters=name, points=4)
    values, zeta = display.curves[name].T
    limits = np.interp(norm.ppf([0.025, 0.975]), zeta, values)
    expected = model.confint(name, "profile", X=data)[["lower", "upper"]].to_numpy()[0]
    np.testing.assert_allclose(limits, expected, rtol=0.03)
    with pytest.raises(ValueError, match="give the X and y"):
        ProfileDisplay.from_estimator(model)
