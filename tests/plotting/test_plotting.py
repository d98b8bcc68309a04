"""Displays: what they draw is what the model says, and they obey scikit-learn's conventions."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm
from sklearn.exceptions import NotFittedError

from skmixed import MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import (
    load_dyestuff,
    load_machines,
    load_pastes,
    load_penicillin,
    load_scotssec,
    load_sleepstudy,
    load_verbagg,
)
from skmixed.plotting import (
    CaterpillarDisplay,
    CoefficientsDisplay,
    NormalQuantileDisplay,
    ProfileDisplay,
    RandomEffectsDisplay,
    ShrinkageDisplay,
    SparsityDisplay,
    TrellisDisplay,
)

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def slopes(sleep):
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)


@pytest.fixture(scope="module")
def schools():
    df = load_scotssec().frame
    formula = "attain ~ verbal + sex + (1 | primary) + (verbal | second)"
    return df, MixedLinearRegressor(formula).fit(df)


@pytest.fixture(scope="module")
def workers():
    df = load_machines().frame
    return MixedLinearRegressor("score ~ Machine + (0 + Machine | Worker)").fit(df)


def _displays(model, df):
    return {
        "caterpillar": CaterpillarDisplay.from_estimator(model),
        "effects": RandomEffectsDisplay.from_estimator(model),
        "quantile": NormalQuantileDisplay.from_estimator(model),
        "residuals": NormalQuantileDisplay.from_estimator(model, df),
        "shrinkage": ShrinkageDisplay.from_estimator(model, df),
        "sparsity": SparsityDisplay.from_estimator(model, df),
        "trellis": TrellisDisplay.from_estimator(model, df),
    }


def test_every_display_keeps_its_figure_and_can_be_drawn_again(slopes, sleep):
    for name, display in _displays(slopes, sleep).items():
        assert display.ax_ is display.axes_.ravel()[0], name
        assert display.ax_.figure is display.figure_, name
        display.figure_.canvas.draw()
        first = display.figure_
        assert display.plot() is display, name
        assert display.figure_ is not first, name


def test_importing_the_displays_does_not_import_matplotlib():
    code = "import sys, skmixed.plotting; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_without_matplotlib_the_error_says_what_to_install(slopes, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'scikit-mixed\[plot\]'"):
        CaterpillarDisplay.from_estimator(slopes)


def test_one_axes_is_divided_and_several_are_used(slopes):
    figure, ax = plt.subplots()
    display = CaterpillarDisplay.from_estimator(slopes, ax=ax)
    assert display.figure_ is figure
    assert len(display.axes_) == 2
    assert not ax.axison

    _, axes = plt.subplots(2)
    display = CaterpillarDisplay.from_estimator(slopes, ax=axes)
    assert list(display.axes_) == list(axes)

    placed = plt.figure().add_axes((0.5, 0.5, 0.4, 0.4))
    display = CaterpillarDisplay.from_estimator(slopes, ax=placed)
    assert all(panel.get_position().x0 >= 0.5 - 1e-12 for panel in display.axes_)

    with pytest.raises(ValueError, match="has 2 panels, ax holds 3 Axes"):
        CaterpillarDisplay.from_estimator(slopes, ax=plt.subplots(3)[1])


# Caterpillar


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_caterpillar_draws_ordered_modes_and_their_intervals(slopes, level):
    display = CaterpillarDisplay.from_estimator(slopes, level=level)
    z = norm.ppf(0.5 + level / 2)
    for effect, lines in zip(("Intercept", "Days"), display.lines_, strict=True):
        b = slopes.random_effects_["Subject"][effect].loc[display.modes.index]
        s = slopes.random_effects_std_["Subject"][effect].loc[display.modes.index]
        ends = np.array([segment[:, 0] for segment in lines.get_segments()])
        np.testing.assert_allclose(ends, np.column_stack([b - z * s, b + z * s]), rtol=1e-10)
    assert display.modes["Intercept"].is_monotonic_increasing


def test_caterpillar_in_the_order_of_another_effect(slopes):
    display = CaterpillarDisplay.from_estimator(slopes, effects="Intercept", sort_by="Days")
    days = slopes.random_effects_["Subject"]["Days"]
    assert days.loc[display.modes.index].is_monotonic_increasing
    assert list(display.modes) == ["Intercept"]


def test_caterpillar_labels_levels_only_while_they_can_be_read(slopes, schools):
    few = CaterpillarDisplay.from_estimator(slopes)
    labels = [text.get_text() for text in few.ax_.get_yticklabels()]
    assert labels == few.modes.index.to_list()
    many = CaterpillarDisplay.from_estimator(schools[1], group="primary")
    assert len(many.ax_.get_yticks()) == 0
    assert many.ax_.get_ylabel() == "148 levels of primary"


# Random effects


def test_ellipses_hold_the_share_they_claim(slopes):
    display = RandomEffectsDisplay.from_estimator(slopes)
    contour = display._ellipse("Intercept", "Days", 0.95)
    precision = np.linalg.inv(slopes.covariances_["Subject"])
    np.testing.assert_allclose(
        np.einsum("in,ij,jn->n", contour, precision, contour), chi2.ppf(0.95, 2), rtol=1e-9
    )


def test_effects_are_plotted_against_each_other(workers):
    display = RandomEffectsDisplay.from_estimator(workers)
    modes = workers.random_effects_["Worker"]
    # panels row by row below the diagonal: (A, B), (A, C), (B, C)
    for points, (across, up) in zip(display.lines_, [(0, 1), (0, 2), (1, 2)], strict=True):
        np.testing.assert_array_equal(points.get_xdata(), modes.iloc[:, across])
        np.testing.assert_array_equal(points.get_ydata(), modes.iloc[:, up])


def test_effects_choose_a_group_that_has_two(schools):
    assert RandomEffectsDisplay.from_estimator(schools[1]).modes.index.name == "second"
    with pytest.raises(ValueError, match="'primary' has one effect, 'Intercept'"):
        RandomEffectsDisplay.from_estimator(schools[1], group="primary")


# Normal quantiles


def test_quantiles_of_modes(slopes):
    display = NormalQuantileDisplay.from_estimator(slopes, effects="Days")
    (points,) = display.lines_
    days = slopes.random_effects_["Subject"]["Days"]
    np.testing.assert_array_equal(points.get_ydata(), np.sort(days))
    np.testing.assert_allclose(norm.cdf(points.get_xdata()), (np.arange(18) + 0.5) / 18)


def test_quantiles_of_residuals_are_standardised(sleep):
    df = sleep.assign(w=np.linspace(0.5, 2, len(sleep)))
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", prior_weights="w").fit(df)
    display = NormalQuantileDisplay.from_estimator(model, df)
    expected = (df["Reaction"] - model.predict(df)) * np.sqrt(df["w"]) / model.sigma_
    np.testing.assert_allclose(display.values["residual / sigma"], expected, rtol=1e-10)


def test_normal_values_lie_on_the_line_drawn():
    quantiles = norm.ppf((np.arange(50) + 0.5) / 50)
    display = NormalQuantileDisplay(pd.DataFrame({"v": 3 + 2 * quantiles})).plot()
    line = display.ax_.lines[0]
    np.testing.assert_allclose(line.get_ydata(), 3 + 2 * line.get_xdata(), rtol=1e-2)


# Shrinkage


def test_within_level_estimates_are_least_squares_of_the_level(slopes, sleep):
    display = ShrinkageDisplay.from_estimator(slopes, sleep)
    for subject, rows in sleep.groupby("Subject", observed=True):
        slope, intercept = np.polyfit(rows["Days"], rows["Reaction"], 1)
        np.testing.assert_allclose(display.within.loc[subject], [intercept, slope], rtol=1e-9)
    expected = slopes.random_effects_["Subject"] + slopes.fixed_effects_
    pd.testing.assert_frame_equal(display.mixed, expected)


def test_shrinkage_of_a_one_way_layout_has_the_textbook_factor():
    df = load_dyestuff().frame
    model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(df)
    display = ShrinkageDisplay.from_estimator(model, df)
    mean = display.population["Intercept"]
    ratio = 5 * model.theta_[0] ** 2
    np.testing.assert_allclose(
        display.mixed - mean, (display.within - mean) * ratio / (ratio + 1), rtol=1e-9
    )


def test_levels_whose_rows_do_not_determine_a_slope_have_no_estimate(sleep):
    df = sleep[(sleep["Subject"] != "308") | (sleep["Days"] == 3)]
    model = MixedLinearRegressor("Days + (Days | Subject)").fit(df, df["Reaction"])
    display = ShrinkageDisplay.from_estimator(model, df, df["Reaction"])
    assert display.within.loc["308"].isna().all()
    assert np.isfinite(display.within.drop("308")).all(axis=None)
    display.figure_.canvas.draw()


def test_shrinkage_takes_the_other_factors_as_known():
    df = load_pastes().frame
    model = MixedLinearRegressor("strength ~ 1 + (1 | batch) + (1 | sample)").fit(df)
    display = ShrinkageDisplay.from_estimator(model, df, group="batch")
    sample = model.random_effects_["sample"]["Intercept"]
    rest = df["strength"] - df["sample"].astype(str).map(sample)
    expected = rest.groupby(df["batch"], observed=True).mean()
    np.testing.assert_allclose(display.within["Intercept"], expected, rtol=1e-10)


# Sparsity


def test_sparsity_shows_the_matrices_of_the_model(slopes, sleep):
    display = SparsityDisplay.from_estimator(slopes, sleep)
    Zt, Lambda, A, L = (pattern.matrix.toarray() for pattern in display.patterns)
    np.testing.assert_allclose(L @ L.T, A, atol=1e-10 * A.max())
    np.testing.assert_allclose(A, Lambda.T @ Zt @ Zt.T @ Lambda + np.eye(36), rtol=1e-10)
    # one block per subject in the order of elimination: nothing is filled in
    assert np.count_nonzero(L) == 18 * 3
    assert "no fill-in" in display.axes_[3].get_xlabel()
    # Lambda Lambda' sigma^2 holds the covariance of the effects
    own = np.unique(np.round(np.diag(Lambda @ Lambda.T) * slopes.sigma_**2, 6))
    expected = np.sort(np.diag(slopes.covariances_["Subject"]))
    np.testing.assert_allclose(own, expected, rtol=1e-6)


def test_crossed_factors_fill_in():
    df = load_penicillin().frame
    model = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(df)
    display = SparsityDisplay.from_estimator(model, df)
    # every sample on every plate: eliminating the plates joins all pairs of the six samples
    assert "15 filled in" in display.axes_[3].get_xlabel()


def test_large_patterns_become_small_images_that_lose_no_entry(schools):
    df, model = schools
    display = SparsityDisplay.from_estimator(model, df)
    image = display.patterns[0].image()
    assert image.shape == (186, 300)
    assert (image.max(axis=1) > 0.3).all()


def test_sparsity_refuses_more_effects_than_a_picture_can_hold(slopes, sleep, monkeypatch):
    monkeypatch.setattr("skmixed.plotting.sparsity.MAX_EFFECTS", 35)
    with pytest.raises(ValueError, match=r"36 random effects .* 35 are the most"):
        SparsityDisplay.from_estimator(slopes, sleep)


# Trellis


def test_trellis_lines(slopes, sleep):
    display = TrellisDisplay.from_estimator(slopes, sleep)
    assert display.x == "Days"
    for lines, subject in zip(display.lines_, display.points["level"].unique(), strict=True):
        rows = sleep[sleep["Subject"] == subject]
        grid = lines["mixed"].get_xdata()
        fixed = slopes.fixed_effects_
        own = fixed + slopes.random_effects_["Subject"].loc[subject]
        own_line = np.polyval(np.polyfit(rows["Days"], rows["Reaction"], 1), grid)
        np.testing.assert_allclose(
            lines["population"].get_ydata(), fixed["Intercept"] + fixed["Days"] * grid
        )
        np.testing.assert_allclose(
            lines["mixed"].get_ydata(), own["Intercept"] + own["Days"] * grid
        )
        np.testing.assert_allclose(lines["within"].get_ydata(), own_line)


def test_trellis_shows_an_even_selection_of_many_levels(schools):
    df, model = schools
    display = TrellisDisplay.from_estimator(model, df, x="verbal", max_panels=5)
    shown = display.points["level"].unique()
    ordered = model.random_effects_["primary"]["Intercept"].sort_values().index
    assert list(shown) == list(ordered[[0, 37, 74, 110, 147]])
    labels = [ax.get_xlabel() for ax in display.figure_.axes]
    assert "verbal; one panel per primary (5 of 148)" in labels


def test_trellis_of_chosen_levels(slopes, sleep):
    display = TrellisDisplay.from_estimator(slopes, sleep, levels=["335", "308"])
    assert [ax.get_title() for ax in display.axes_] == ["335", "308"]
    with pytest.raises(ValueError, match=r"no rows of the levels \['999'\] of 'Subject'"):
        TrellisDisplay.from_estimator(slopes, sleep, levels=["999"])


def test_trellis_with_polars_and_a_response_apart(sleep):
    polars = pytest.importorskip("polars")
    X = polars.DataFrame(
        {"Days": sleep["Days"].to_numpy(), "Subject": sleep["Subject"].astype(str).to_list()}
    )
    y = sleep["Reaction"]
    model = MixedLinearRegressor("Days + (Days | Subject)").fit(X, y)
    display = TrellisDisplay.from_estimator(model, X, y)
    assert display.axes_.size == 18
    assert len(display.points) == 180


@pytest.fixture(scope="module")
def nested():
    """Pupils in classes in schools, marked by crossed raters."""
    rng = np.random.default_rng(7)
    df = pd.DataFrame({"school": np.repeat(list("ABCDEFGH"), 60), "x": rng.normal(size=480)})
    df["class"] = df["school"] + np.tile(np.repeat(list("1234"), 15), 8)
    df["rater"] = rng.integers(0, 8, 480)
    df["both"] = df["rater"].astype(str) + df["school"]
    df["y"] = 5 * df["x"] + df["school"].map(dict(zip("ABCDEFGH", range(8), strict=True))) * df["x"]
    for name, sd in (("school", 4.0), ("class", 3.0), ("rater", 3.0), ("both", 2.0)):
        codes = pd.factorize(df[name])[0]
        df["y"] += sd * rng.normal(size=codes.max() + 1)[codes]
    df["y"] += 0.5 * rng.normal(size=480)
    text = "y ~ x + (x | school) + (1 | class) + (1 | rater) + (1 | rater:school)"
    return df, MixedLinearRegressor(text).fit(df)


@pytest.mark.parametrize(
    ("group", "entering"),
    [
        ("school", ["school"]),
        ("class", ["school", "class"]),
        ("rater", ["rater"]),
        ("rater:school", ["school", "rater", "rater:school"]),
    ],
)
def test_lines_have_the_effects_that_are_the_same_in_the_whole_panel(nested, group, entering):
    df, model = nested
    df = df.sample(frac=1.0, random_state=1)  # the first row of a panel is anyone's
    display = TrellisDisplay.from_estimator(model, df, x="x", group=group)
    labels = df.assign(**{"rater:school": df["rater"].astype(str) + ":" + df["school"]})
    for lines, level in zip(display.lines_, display.points["level"].unique(), strict=True):
        grid = lines["mixed"].get_xdata()
        own = labels[labels[group] == level].iloc[0]
        expected = model.fixed_effects_["Intercept"] + model.fixed_effects_["x"] * grid
        for name in entering:
            effects = model.random_effects_[name].loc[own[name]]
            expected = expected + effects["Intercept"] + effects.get("x", 0.0) * grid
        np.testing.assert_allclose(lines["mixed"].get_ydata(), expected, rtol=1e-8, atol=1e-8)
        points = display.points[display.points["level"] == level]
        assert len(points) == (labels[group] == level).sum()


def test_trellis_names_a_response_given_apart(sleep):
    model = MixedLinearRegressor("Days + (Days | Subject)").fit(sleep, sleep["Reaction"])
    display = TrellisDisplay.from_estimator(model, sleep, sleep["Reaction"])
    assert display.response == "Reaction"


def test_prior_weights_count_within_levels(sleep):
    data = sleep.assign(w=np.where(sleep["Days"] < 5, 9.0, 1.0))
    formula = "Reaction ~ Days + (Days | Subject)"
    model = MixedLinearRegressor(formula, prior_weights="w").fit(data)
    display = ShrinkageDisplay.from_estimator(model, data)
    rows = data[data["Subject"] == "308"]
    slope, level = np.polyfit(rows["Days"], rows["Reaction"], 1, w=np.sqrt(rows["w"]))
    np.testing.assert_allclose(display.within.loc["308"], [level, slope], rtol=1e-6)


# Generalised models


def test_displays_of_a_generalised_model():
    df = load_verbagg().frame
    df = df[df["id"].isin(df["id"].cat.categories[:60])]
    model = MixedLogisticClassifier("r2 ~ Anger + btype + (1 | id) + (1 | item)").fit(df)
    CaterpillarDisplay.from_estimator(model, group="item").figure_.canvas.draw()
    quantiles = NormalQuantileDisplay.from_estimator(model)
    assert quantiles.ax_.get_ylabel() == "id: Intercept  (logit of r2 = Y)"
    sparsity = SparsityDisplay.from_estimator(model, df)
    assert sparsity.patterns[0].matrix.shape == (84, len(df))

    trellis = TrellisDisplay.from_estimator(model, df, x="Anger", group="item", max_panels=4)
    assert set(trellis.points["y"]) == {0.0, 1.0}
    assert trellis.curves[["population", "mixed"]].stack().between(0, 1).all()
    assert set(trellis.lines_[0]) == {"population", "mixed"}
    level = trellis.points["level"].iloc[0]
    first = df[df["item"] == level].iloc[[0]]
    at = np.linspace(df["Anger"].min(), df["Anger"].max(), 25)
    rows = pd.concat([first] * 25).assign(Anger=at)
    eta = model.predict(rows, random_effects=False, scale="link")
    eta += model.random_effects_["item"].loc[level, "Intercept"]  # persons vary: those at 0
    np.testing.assert_allclose(trellis.lines_[0]["mixed"].get_ydata(), 1 / (1 + np.exp(-eta)))

    with pytest.raises(ValueError, match="residuals of MixedLogisticClassifier are not normal"):
        NormalQuantileDisplay.from_estimator(model, df)
    with pytest.raises(ValueError, match="within levels is for linear mixed models"):
        ShrinkageDisplay.from_estimator(model, df)


# Bad input


@pytest.mark.parametrize(
    "make",
    [
        lambda model, df: CaterpillarDisplay.from_estimator(model),
        lambda model, df: RandomEffectsDisplay.from_estimator(model),
        lambda model, df: NormalQuantileDisplay.from_estimator(model),
        lambda model, df: ShrinkageDisplay.from_estimator(model, df),
        lambda model, df: SparsityDisplay.from_estimator(model, df),
        lambda model, df: TrellisDisplay.from_estimator(model, df),
    ],
)
def test_models_without_anything_to_plot(make, sleep):
    with pytest.raises((NotFittedError, ValueError), match="not fitted"):
        make(MixedLinearRegressor("Reaction ~ Days + (Days | Subject)"), sleep)
    with pytest.raises(ValueError, match="no random effects to plot"):
        make(MixedLinearRegressor("Reaction ~ Days").fit(sleep), sleep)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"group": "subject"}, r"no grouping factor 'subject', only \['Subject'\]"),
        ({"effects": ["days"]}, r"no effect \['days'\], only \['Intercept', 'Days'\]"),
        ({"level": 95}, "level must lie between 0 and 1, got 95"),
    ],
)
def test_unknown_names(slopes, kwargs, message):
    with pytest.raises(ValueError, match=message):
        CaterpillarDisplay.from_estimator(slopes, **kwargs)


def test_a_response_that_the_formula_does_not_name_is_asked_for(sleep):
    model = MixedLinearRegressor("Days + (Days | Subject)").fit(sleep, sleep["Reaction"])
    for display in (ShrinkageDisplay, TrellisDisplay, NormalQuantileDisplay):
        with pytest.raises(ValueError, match="does not name the response: pass y"):
            display.from_estimator(model, sleep)


def test_trellis_needs_named_numeric_columns(slopes, sleep, workers):
    with pytest.raises(TypeError, match="DataFrame with named columns, got ndarray"):
        TrellisDisplay.from_estimator(slopes, sleep.to_numpy())
    with pytest.raises(ValueError, match="x must be a numeric column of X"):
        TrellisDisplay.from_estimator(slopes, sleep, x="Subject")
    with pytest.raises(ValueError, match="no effect of the model is a numeric column"):
        TrellisDisplay.from_estimator(workers, load_machines().frame)


@pytest.fixture(scope="module")
def structured():
    """A process in time, a field, and related levels, fitted to the same rows."""
    rng = np.random.default_rng(3)
    n, s = 20, 5
    R = 0.7 ** np.abs(np.subtract.outer(np.arange(s), np.arange(s)))
    b = rng.normal(size=(n, s)) @ np.linalg.cholesky(R).T
    X = pd.DataFrame({"id": np.repeat(np.arange(n), s), "time": np.tile(np.arange(s), n)})
    X["u"], X["v"] = rng.uniform(0, 4, size=(2, n * s)).round(1)
    X["y"] = 1 + 0.3 * X["time"] + b.ravel() + np.sin(X["u"] + X["v"]) + rng.normal(size=n * s) / 2
    W = rng.normal(size=(n, 30))
    K = pd.DataFrame(W @ W.T / 30)
    models = {
        "ar1": MixedLinearRegressor("y ~ time + ar1(0 + C(time) | id)"),
        "field": MixedLinearRegressor("y ~ time + expo(u + v)"),
        "K": MixedLinearRegressor("y ~ time + (time | id)", relationship={"id": K}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return X, {name: model.fit(X) for name, model in models.items()}


@pytest.mark.parametrize("name", ["ar1", "field", "K"])
def test_structured_terms_have_pictures(structured, name):
    X, models = structured
    model = models[name]
    for display in (CaterpillarDisplay, CoefficientsDisplay, NormalQuantileDisplay):
        assert display.from_estimator(model).figure_ is not None
    group = next(iter(model.random_effects_))
    trellis = TrellisDisplay.from_estimator(model, X, x="time", group=group)
    if name == "ar1":  # times are categories, with nothing between them
        assert set(trellis.curves["x"]) == set(X["time"])
    first = trellis.curves.iloc[0]
    row = X[X["id"] == first["level"]].iloc[:1] if name != "field" else X.iloc[:1]
    assert first["mixed"] == pytest.approx(model.predict(row.assign(time=first["x"]))[0])


def test_pictures_that_structured_terms_do_not_have(structured):
    X, models = structured
    with pytest.raises(ValueError, match="name some of them"):
        RandomEffectsDisplay.from_estimator(models["field"])
    two = list(models["field"].random_effects_["u + v"].columns[:2])
    with pytest.raises(ValueError, match="SparsityDisplay shows the zeros"):
        SparsityDisplay.from_estimator(models["K"], X)
    display = RandomEffectsDisplay.from_estimator(models["field"], effects=two)
    assert len(display.lines_) == 1
    with pytest.raises(ValueError, match=r"confint\(method='wald'\) has limits"):
        ProfileDisplay.from_estimator(models["ar1"])
