"""Pictures can be read on light and dark backgrounds, with few and with many levels."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import cbook
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.text import Text
from numpy.testing import assert_allclose
from scipy.stats import norm

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_sleepstudy
from skmixed.inference.bands import QuantileBand
from skmixed.plotting import (
    CaterpillarDisplay,
    CoefficientsDisplay,
    MarginalEffectsDisplay,
    MarginalMeansDisplay,
    NormalQuantileDisplay,
    PredictionIntervalDisplay,
    ProfileDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    SparsityDisplay,
    TrellisDisplay,
    VarianceComponentsDisplay,
    VarianceSharesDisplay,
)
from skmixed.plotting._labels import name_points, spread
from skmixed.plotting._style import background, ink, plain

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def slopes(sleep):
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)


def _many(n, m):
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(n), m)
    df = pd.DataFrame({"g": [f"level {k}" for k in g], "x": np.tile(np.linspace(0, 1, m), n)})
    b = rng.normal(size=(n, 2)) * 2
    df["y"] = b[g, 0] + (1 + b[g, 1]) * df["x"] + rng.normal(size=n * m) / 2
    return df, MixedLinearRegressor("y ~ x + (x | g)").fit(df)


@pytest.fixture(scope="module")
def hundred():
    return _many(100, 5)


@pytest.fixture(scope="module")
def thousands():
    return _many(1500, 4)


def _contrast(a, b):
    def luminance(color):
        c = np.array(to_rgb(color))
        c = np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return c @ (0.2126, 0.7152, 0.0722)

    bright, dark = sorted([luminance(a), luminance(b)], reverse=True)
    return (bright + 0.05) / (dark + 0.05)


DISPLAYS = {
    "caterpillar": lambda m, df: CaterpillarDisplay.from_estimator(m),
    "coefficients": lambda m, df: CoefficientsDisplay.from_estimator(m),
    "components": lambda m, df: VarianceComponentsDisplay.from_estimator(m),
    "effects": lambda m, df: RandomEffectsDisplay.from_estimator(m),
    "marginal": lambda m, df: MarginalEffectsDisplay.from_estimator(m, "Days", X=df),
    "predictions": lambda m, df: PredictionIntervalDisplay.from_estimator(m, df),
    "profiles": lambda m, df: ProfileDisplay.from_estimator(m, parameters="Days", points=4),
    "quantiles": lambda m, df: NormalQuantileDisplay.from_estimator(m),
    "residuals": lambda m, df: NormalQuantileDisplay.from_estimator(m, df),
    "shares": lambda m, df: VarianceSharesDisplay.from_estimator(m),
    "shrinkage": lambda m, df: ShrinkageDisplay.from_estimator(m, df),
    "sparsity": lambda m, df: SparsityDisplay.from_estimator(m, df),
    "trellis": lambda m, df: TrellisDisplay.from_estimator(m, df),
}


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", DISPLAYS)
def test_lines_and_words_stand_out_from_the_background(slopes, sleep, name, style):
    with plt.style.context(style):
        figure = DISPLAYS[name](slopes, sleep).figure_
    seen = 0
    for ax in figure.axes:
        behind = background(ax)
        lines = [line for line in ax.lines if line.get_alpha() is None and len(line.get_xdata())]
        for color in [line.get_color() for line in lines]:
            assert _contrast(color, behind) > 2.5
            seen += 1
        on_bars = name == "shares"
        for text in ax.texts:
            assert on_bars or _contrast(text.get_color(), behind) > 4
    assert seen or name in ("shares", "sparsity")


def test_axes_keep_the_theme_they_were_made_in(slopes):
    with plt.style.context("dark_background"):
        _, ax = plt.subplots()
    CaterpillarDisplay.from_estimator(slopes, effects="Days", ax=ax)
    zero = ax.lines[0]
    assert _contrast(zero.get_color(), (0, 0, 0)) > 4
    assert background(ax) == (0, 0, 0) and ink(ax) == (1, 1, 1)


def test_without_a_background_that_of_the_page_is_taken(slopes):
    for text, expected in (("black", 1.0), ("white", 0.0)):
        with plt.rc_context({"axes.labelcolor": text}):
            _, ax = plt.subplots(facecolor="none")
            ax.set_facecolor("none")
        assert background(ax) == (expected,) * 3


# Caterpillar


def _collide(texts):
    """Whether words overlap, the lines that lead to them and a little of their edges apart."""
    boxes = [Text.get_window_extent(text).shrunk(0.95, 0.8) for text in texts]
    return any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_extremes_of_many_levels_have_names(hundred):
    _, model = hundred
    display = CaterpillarDisplay.from_estimator(model)
    for panel, effect in zip(display.axes_, ("Intercept", "x"), strict=True):
        modes = model.random_effects_["g"][effect].sort_values()
        named = {text.get_text(): text for text in panel.texts}
        assert set(named) == {*modes.index[:4], *modes.index[-4:]}
        order = list(display.modes.index)
        for name, text in named.items():  # the other end of its line is at the level's interval
            half = norm.ppf(0.975) * display.std[effect][name]
            side = 1 if modes[name] > 0 else -1
            assert_allclose(text.xy, [modes[name] + side * half, order.index(name)])
    display.figure_.canvas.draw()
    assert not _collide(display.axes_[0].texts)


def test_few_levels_have_an_axis_of_names_instead(slopes, hundred):
    assert not CaterpillarDisplay.from_estimator(slopes).ax_.texts
    assert len(CaterpillarDisplay.from_estimator(slopes, extremes=2).ax_.texts) == 4
    assert not CaterpillarDisplay.from_estimator(hundred[1], extremes=0).ax_.texts


def test_intervals_that_hold_zero_are_pale(slopes):
    display = CaterpillarDisplay.from_estimator(slopes, effects="Intercept", color="#D55E00")
    modes, std = display.modes["Intercept"], display.std["Intercept"]
    apart = (modes.abs() > norm.ppf(0.975) * std).to_numpy()
    colors = display.lines_[0].get_colors()
    assert 0 < apart.sum() < 18
    assert_allclose(colors[apart], np.tile(to_rgba("#D55E00"), (apart.sum(), 1)))
    assert (np.abs(colors[~apart] - to_rgba("#D55E00")).max(axis=1) > 0.1).all()


def test_places_are_spread_within_their_limits():
    found = spread([0.0, 0.1, 9.9, 10.0, 10.0], 1.0, 0.0, 10.0)
    assert_allclose(found, [0.0, 1.0, 8.0, 9.0, 10.0])


# Quantiles


def test_values_outside_the_band_are_named():
    rng = np.random.default_rng(5)
    values = pd.DataFrame({"v": rng.normal(size=80)}, index=[f"row {k}" for k in range(80)])
    values.loc["row 7"], values.loc["row 8"] = 9.0, -7.0
    display = NormalQuantileDisplay(values).plot()
    ordered = values["v"].sort_values()
    mean, sd = ordered.mean(), ordered.std()
    low, high = (mean + sd * norm.ppf(u) for u in QuantileBand.of(80, standardised=True).limits())
    outside = ordered.index[(ordered < low) | (ordered > high)]
    assert list(display.outliers_["v"]) == list(outside)
    assert {"row 7", "row 8"} <= {text.get_text() for text in display.ax_.texts}
    band = display.bands_[0].get_paths()[0].vertices
    at = norm.ppf((np.arange(80) + 0.5) / 80)
    for k in (0, 40, 79):
        own = band[np.isclose(band[:, 0], at[k]), 1]
        assert_allclose([own.min(), own.max()], [low[k], high[k]])


def test_residuals_keep_the_labels_of_their_rows(slopes, sleep):
    df = sleep.set_index(sleep["Subject"].astype(str) + "-" + sleep["Days"].astype(str))
    display = NormalQuantileDisplay.from_estimator(slopes, df)
    residual = (df["Reaction"] - slopes.predict(df)) / slopes.sigma_
    assert residual.abs().idxmax() in display.outliers_["residual / sigma"]
    assert residual.abs().idxmax() in [text.get_text() for text in display.ax_.texts]
    bare = NormalQuantileDisplay.from_estimator(slopes, df, outliers=0)
    assert not bare.ax_.texts and len(bare.outliers_["residual / sigma"])


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0], [3.0, 3.0, 3.0]])
def test_too_little_for_a_band(values):
    display = NormalQuantileDisplay(pd.DataFrame({"v": values})).plot()
    assert not display.bands_ and not len(display.outliers_["v"])


# Names and arrows


def _arrows(panel):
    return [text for text in panel.texts if getattr(text, "arrow_patch", None) is not None]


def test_arrows_lead_from_the_level_to_the_model_and_names_do_not_collide(slopes, sleep):
    display = ShrinkageDisplay.from_estimator(slopes, sleep)
    arrows = _arrows(display.ax_)
    assert len(arrows) == 18
    for arrow, level in zip(arrows, display.mixed.index, strict=True):
        assert_allclose(arrow.xyann, display.within.loc[level])
        assert_allclose(arrow.xy, display.mixed.loc[level])
    display.figure_.canvas.draw()
    names = [text for text in display.ax_.texts if text.get_text()]
    assert len(names) >= 16
    assert not _collide(names)


def test_names_without_room_are_left_out(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "adjustText", None)
    _, ax = plt.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    found = name_points(ax, np.full(30, 0.5), np.full(30, 0.5), [f"name {k}" for k in range(30)])
    assert 1 <= len(found) <= 8
    assert name_points(ax, [], [], []) == []


def test_thousands_are_drawn_by_density(thousands):
    df, model = thousands
    display = ShrinkageDisplay.from_estimator(model, df)
    counts = display.ax_.collections[0].get_array()
    within = display.within.dropna()
    assert 0.98 * len(within) < counts.sum() <= len(within)
    assert len(_arrows(display.ax_)) == 40
    x, y = display.ax_.get_xlim(), display.ax_.get_ylim()
    inside = within["Intercept"].between(*x) & within["x"].between(*y)
    assert inside.mean() > 0.98


HOSTILE = ["$x^2$", "cost $ per $", "$\\frac{", "_u", "L" * 200, "two\nlines", "a & b", "100 %"]


@pytest.fixture(scope="module")
def hostile():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(len(HOSTILE)), 12), rng.normal(size=96)
    y = 2 * rng.normal(size=len(HOSTILE))[g] + x * (1 + rng.normal(size=len(HOSTILE))[g])
    names = np.array(HOSTILE, dtype=object)
    data = pd.DataFrame({"$y_": y + rng.normal(size=96), "_x $": x, "g $": names[g]})
    data["f"] = names[rng.integers(2, 5, 96)]
    formula = "`$y_` ~ `_x $` + f + (`_x $` | `g $`)"
    return data, MixedLinearRegressor(formula).fit(data)


def _hostile_displays(model, data):
    for cls in (TrellisDisplay, PredictionIntervalDisplay, ShrinkageDisplay, NormalQuantileDisplay):
        yield cls.from_estimator(model, data)
    for cls in (CaterpillarDisplay, CoefficientsDisplay, RandomEffectsDisplay,
                VarianceSharesDisplay, VarianceComponentsDisplay):  # fmt: skip
        yield cls.from_estimator(model)
    yield MarginalMeansDisplay.from_estimator(model, "f")
    yield MarginalEffectsDisplay.from_estimator(model, "_x $", by="f")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_of_the_data_are_text(hostile):
    """No name is read as mathematics, is dropped from a legend or runs over the figure."""
    data, model = hostile
    for display in _hostile_displays(model, data):
        figure = display.figure_
        figure.canvas.draw()
        for text in figure.findobj(Text):
            shown = text.get_text()
            assert not cbook.is_math_text(shown), (type(display).__name__, shown)
            assert max(map(len, shown.split("\n"))) <= 130
        plt.close(figure)


def test_underscores_stay_in_legends(hostile):
    _, model = hostile
    [legend] = CoefficientsDisplay.from_estimators({"_u": model, "v": model}).figure_.legends
    assert " _u" in [text.get_text() for text in legend.get_texts()]


def test_long_names_lose_their_middle():
    assert plain("abcdefghij", 5) == "ab…ij"
    assert plain("a$b\n c") == r"a\$b c"
    assert plain(plain("a$b")) == plain("a$b")


def test_the_axis_has_the_name_of_the_column(hostile):
    data, model = hostile
    panel = TrellisDisplay.from_estimator(model, data).axes_[0]
    assert panel.get_ylabel() == r"\$y_"
