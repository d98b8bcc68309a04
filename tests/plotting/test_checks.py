"""ModelCheckDisplay: which panels a model has, and that they show what the check holds."""

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import load_cbpp, load_sleepstudy
from skmixed.inference import check_model
from skmixed.inference.bands import QuantileBand
from skmixed.plotting import ModelCheckDisplay


@pytest.fixture(scope="module")
def sleep_check():
    sleep = load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
    return check_model(model, sleep, random_state=0)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    g = rng.integers(0, 40, 1200)
    x, z = rng.standard_normal((2, 1200))
    eta = 0.5 * x + 0.6 * rng.standard_normal(40)[g]
    event = (rng.random(1200) < 1 / (1 + np.exp(-eta))).astype(int)
    count = rng.poisson(np.exp(0.8 * eta + 1))
    return pd.DataFrame({"g": g, "x": x, "z": z, "event": event, "count": count})


def texts(ax):
    """What stands under the title."""
    boxes = [artist for artist in ax.artists if hasattr(artist, "get_child")]
    return [child.get_text() for box in boxes for child in box.get_child().get_children()]


def test_panels_of_a_linear_model(sleep_check):
    display = ModelCheckDisplay.from_check(sleep_check)
    assert display.panels_ == (
        "simulated", "fitted", "scale", "residuals", "predictive", "Intercept | Subject",
        "Days | Subject", "influence", "shrinkage | Subject",
    )  # fmt: skip
    assert len(display.axes_) == len(display.lines_) == 9 and display.ax_ is display.axes_[0]
    display.figure_.canvas.draw()
    by_name = dict(zip(display.panels_, display.axes_, strict=True))
    drawn = dict(zip(display.panels_, display.lines_, strict=True))
    simulated = np.sort(sleep_check.residuals.residuals)
    np.testing.assert_allclose(drawn["simulated"].get_ydata(), simulated)
    np.testing.assert_allclose(drawn["simulated"].get_xdata(), (np.arange(180) + 0.5) / 180)
    effects = np.sort(sleep_check.effects["Days | Subject"])
    np.testing.assert_allclose(drawn["Days | Subject"].get_ydata(), effects)
    points = np.asarray(drawn["fitted"].get_offsets())
    expected = sleep_check.rows[["fitted", "residual"]].sort_values("fitted", kind="stable")
    np.testing.assert_allclose(points, expected)
    labels = [text.get_text() for text in by_name["influence"].get_yticklabels()]
    assert labels == sleep_check.influence.nlargest(12)[::-1].index.astype(str).tolist()
    p = sleep_check.table.loc["uniformity", "p_value"]
    assert texts(by_name["simulated"])[0] == f"uniformity p {p:.3f}"
    assert texts(by_name["residuals"]) == ["normal residuals p < 0.001"]


def test_panels_of_binary_counts_and_shares(rows):
    cows = load_cbpp().frame
    models = {
        "event": (MixedLogisticClassifier("event ~ x + z + (1 | g)"), rows),
        "count": (MixedGLMRegressor("count ~ x + z + (1 | g)", "poisson"), rows),
        "share": (
            MixedGLMRegressor("cbind(incidence, size - incidence) ~ period + (1 | herd)",
                              "binomial"),
            cows,
        ),
    }  # fmt: skip
    found = {}
    for name, (model, data) in models.items():
        display = ModelCheckDisplay.from_estimator(model.fit(data), data, random_state=0)
        found[name] = display
    assert "binned" in found["event"].panels_ and "scale" not in found["event"].panels_
    assert "inflation" in found["count"].panels_ and "residuals" not in found["count"].panels_
    assert "scale" in found["share"].panels_ and "inflation" not in found["share"].panels_
    for name in ("count", "share"):
        display = found[name]
        bars = display.lines_[display.panels_.index("predictive")]
        y = display.check.residuals.y
        assert sum(bar.get_height() for bar in bars) == len(y)
        assert bars[0].get_height() == (y == 0).sum()


def test_many_rows_are_shown_less_their_quantiles(rows):
    model = MixedGLMRegressor("count ~ x + (1 | g)", "poisson").fit(rows)
    display = ModelCheckDisplay.from_estimator(model, rows, random_state=0, panels="simulated")
    (points,) = display.lines_
    u, expected = np.sort(display.check.residuals.residuals), (np.arange(1200) + 0.5) / 1200
    np.testing.assert_allclose(points.get_ydata(), u - expected)
    lower, _ = QuantileBand.of(1200).limits()
    band = display.ax_.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx((lower - expected).min(), abs=1e-12)


def test_binned_residuals_are_means(rows):
    model = MixedLogisticClassifier("event ~ x + (1 | g)").fit(rows)
    display = ModelCheckDisplay.from_estimator(model, rows, random_state=0, panels=["binned"])
    drawn = np.concatenate([line.get_xydata() for line in display.ax_.lines[1:]])
    fitted = display.check.rows["fitted"].to_numpy()
    order, bins = np.argsort(fitted, kind="stable"), len(drawn)
    sizes = np.array([len(part) for part in np.array_split(order, bins)])
    assert abs(drawn[:, 0].mean() - fitted.mean()) < 0.01
    assert sizes.min() > 20
    gap = rows["event"].to_numpy() - fitted
    first = drawn[np.argmin(drawn[:, 0])]
    n_first = round(len(order) / bins)
    assert first[0] == pytest.approx(fitted[order[:n_first]].mean(), abs=0.01)
    assert first[1] == pytest.approx(gap[order[:n_first]].mean(), abs=0.05)


def test_chosen_panels_and_axes(sleep_check):
    plt = pytest.importorskip("matplotlib.pyplot")
    _, axes = plt.subplots(1, 2)
    names = ["residuals", "influence"]
    display = ModelCheckDisplay.from_check(sleep_check, panels=names, ax=axes)
    assert display.panels_ == tuple(names) and display.axes_[1] is axes[1]
    _, one = plt.subplots()
    display.plot(ax=one, panels="predictive")
    assert display.panels_ == ("predictive",) and display.ax_ is one
    _, one = plt.subplots()
    assert len(display.plot(ax=one).axes_) == 9
    with pytest.raises(ValueError, match=r"no panels \['binned'\], only \['simulated'"):
        display.plot(panels=["binned"])
    with pytest.raises(ValueError, match="no panels"):
        display.plot(panels=[])


def test_a_model_without_random_effects_and_one_value(rows):
    model = MixedLinearRegressor("x ~ 1").fit(rows)
    display = ModelCheckDisplay.from_estimator(model, rows, random_state=0)
    assert display.panels_ == (
        "simulated", "fitted", "scale", "residuals", "predictive", "influence",
    )  # fmt: skip
    display.figure_.canvas.draw()


def test_many_terms_show_four_effects():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({f"g{k}": rng.integers(0, 12, 400) for k in range(6)})
    data["y"] = rng.standard_normal(400)
    for k in range(6):
        data["y"] += rng.standard_normal(12)[data[f"g{k}"]]
    formula = "y ~ 1 + " + " + ".join(f"(1 | g{k})" for k in range(6))
    model = MixedLinearRegressor(formula).fit(data)
    display = ModelCheckDisplay.from_estimator(model, data, random_state=0)
    effects = [name for name in display.panels_ if name.startswith("Intercept | ")]
    assert len(effects) == 4
    display.plot(panels="Intercept | g5")
    assert display.panels_ == ("Intercept | g5",)
