"""The panels of raw outcomes by cluster hold the rows, their means and the model's curves."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skmixed import MixedGLMRegressor, MixedLogisticClassifier
from skmixed.datasets import load_cbpp, load_verbagg
from skmixed.plotting import ClusterDisplay

plt = pytest.importorskip("matplotlib.pyplot")
FORMULA = "y ~ x + (1 | g)"


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    g, x = np.arange(300) % 15, rng.normal(size=300)
    eta = x + rng.normal(0, 1.5, 15)[g]
    return pd.DataFrame({"g": g, "x": x, "y": 1 * (rng.random(300) < 1 / (1 + np.exp(-eta)))})


def _points(panel):
    return np.asarray(panel.collections[0].get_offsets())


def test_an_unfitted_model_shows_its_rows(data):
    model = MixedLogisticClassifier(FORMULA)
    display = ClusterDisplay.from_estimator(model, data, max_panels=5)
    assert not hasattr(model, "result_") and len(display.axes_) == 5
    means = data.groupby("g")["y"].mean().sort_values(kind="stable")
    shown = list(display.titles)
    assert shown[0] == means.index[0] and shown[-1] == means.index[-1]
    for panel, level in zip(display.axes_, shown, strict=True):
        own = data[data["g"] == level]
        assert panel.get_title() == f"{level}: {own['y'].sum()} of {len(own)}"
        points = _points(panel)
        assert_allclose(points[:, 0], own["x"])
        assert_allclose(np.round(points[:, 1]), own["y"])
        assert len(set(points[:, 1])) == len(own)  # spread, so that none hides another
        mean = display.means[display.means["level"] == level]["mean"]
        assert_allclose(mean.mean(), own["y"].mean())  # parts of 10 rows each
    assert set(display.lines_[0]) == {"mean"}
    assert "(5 of 15)" in display.axes_[-1].get_xlabel() + display.axes_[0].get_xlabel() + "".join(
        ax.get_xlabel() for ax in display.figure_.axes
    )


def test_curves_of_a_fitted_model(data):
    model = MixedLogisticClassifier(FORMULA).fit(data)
    display = ClusterDisplay.from_estimator(model, data, levels=[3, 8])
    for panel, level in zip(display.lines_, (3, 8), strict=True):
        x, p = panel["mixed"].get_data()
        new = pd.DataFrame({"x": x, "g": level})
        assert_allclose(p, model.predict_proba(new)[:, 1])
        assert_allclose(
            panel["population"].get_ydata(), model.predict_proba(new, random_effects=False)[:, 1]
        )


def test_categories_and_labels():
    verbagg = load_verbagg().frame
    verbagg = verbagg[verbagg["id"].astype(int) <= 30]
    model = MixedLogisticClassifier("r2 ~ btype + (1 | id)").fit(verbagg)
    display = ClusterDisplay.from_estimator(model, verbagg, max_panels=4)
    assert display.categories == list(verbagg["btype"].cat.categories)
    assert [t.get_text() for t in display.axes_[-1].get_xticklabels()] == display.categories
    curve = display.lines_[0]["mixed"].get_ydata()
    level = next(iter(display.titles))
    new = pd.DataFrame({"btype": display.categories, "id": level})
    assert_allclose(curve, model.predict_proba(new)[:, 1])
    assert display.axes_[0].get_ylabel() == "r2 = Y" or any(
        ax.get_ylabel() == "r2 = Y" for ax in display.axes_
    )


def test_trials_and_counts():
    cbpp = load_cbpp().frame
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    display = ClusterDisplay.from_estimator(MixedGLMRegressor(formula, "binomial"), cbpp)
    own = cbpp[cbpp["herd"] == cbpp["herd"].cat.categories[0]]
    level = own["herd"].iloc[0]
    assert display.titles[level] == f"{level}: {own['incidence'].sum()} of {own['size'].sum()}"
    place = list(display.titles).index(level)
    assert_allclose(_points(display.axes_[place])[:, 1], own["incidence"] / own["size"])
    counts = ClusterDisplay.from_estimator(
        MixedGLMRegressor("incidence ~ size + (1 | herd)"), cbpp, levels=[level]
    )
    assert counts.titles[level] == f"{level}: {len(own)} rows"
    assert_allclose(_points(counts.ax_), own[["size", "incidence"]])


def test_outcomes_of_one_kind_can_be_looked_at(data):
    display = ClusterDisplay.from_estimator(MixedLogisticClassifier(FORMULA), data.assign(y=1))
    assert all(" of 20" in title and ": 20" in title for title in display.titles.values())


def test_groups_and_axes(data):
    model = MixedLogisticClassifier()
    figure, axes = plt.subplots(1, 3)
    display = ClusterDisplay.from_estimator(
        model, data[["x"]], data["y"], groups=data["g"], levels=[0, 1, 2], ax=axes
    )
    assert display.figure_ is figure and list(display.axes_) == list(axes)


def test_messages(data):
    model = MixedLogisticClassifier(FORMULA)
    with pytest.raises(ValueError, match="no grouping factor 'h'"):
        ClusterDisplay.from_estimator(model, data, group="h")
    with pytest.raises(ValueError, match="x must be a column of X"):
        ClusterDisplay.from_estimator(model, data, x="z")
    with pytest.raises(ValueError, match=r"no rows of the levels \[99\]"):
        ClusterDisplay.from_estimator(model, data, levels=[99])
    with pytest.raises(ValueError, match="no clusters to plot"):
        ClusterDisplay.from_estimator(MixedLogisticClassifier("y ~ x"), data)
    with pytest.raises(ValueError, match="name one as x="):
        ClusterDisplay.from_estimator(MixedLogisticClassifier("y ~ 1 + (1 | g)"), data)
    with pytest.raises(TypeError, match="as a DataFrame"):
        ClusterDisplay.from_estimator(model, data.to_numpy())
