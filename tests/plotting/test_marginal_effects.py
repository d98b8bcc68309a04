"""Lines and bands of marginal effects are means of the model; data stand behind them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skmixed import GeneralizedInverseRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import load_cake, load_sleepstudy, load_verbagg
from skmixed.inference import emmeans
from skmixed.plotting import MarginalEffectsDisplay


@pytest.fixture(scope="module")
def cake():
    return load_cake().frame


@pytest.fixture(scope="module")
def crossing(cake):
    return MixedLinearRegressor("angle ~ recipe * temp + (1 | recipe:replicate)").fit(cake)


def test_a_line_is_the_fixed_part_and_its_band_that_of_its_variance():
    df = load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    display = MarginalEffectsDisplay.from_estimator(model, "Days", points=7, ddf="asymptotic")
    x, y = display.lines_[0].get_data()
    assert_allclose(x, np.linspace(0, 9, 7))
    rows = np.column_stack([np.ones(7), x])
    assert_allclose(y, rows @ model.fixed_effects_, rtol=1e-9)
    error = np.sqrt(np.einsum("ij,jk,ik->i", rows, model.vcov_.to_numpy(), rows))
    assert_allclose(display.frame["upper"] - y, 1.959964 * error, rtol=1e-6)
    band = display.bands_[0].get_paths()[0].vertices
    assert_allclose([band[:, 1].min(), band[:, 1].max()],
                    [display.frame["lower"].min(), display.frame["upper"].max()])  # fmt: skip


def test_interactions_have_a_line_for_every_level(crossing, cake):
    display = MarginalEffectsDisplay.from_estimator(
        crossing, "temp", by="recipe", X=cake, level=0.9
    )
    beta = crossing.fixed_effects_
    for line, level in zip(display.lines_, "ABC", strict=True):
        extra = 0.0 if level == "A" else beta[f"recipe[T.{level}]"]
        bend = 0.0 if level == "A" else beta[f"recipe[T.{level}]:temp"]
        x, y = line.get_data()
        assert_allclose(y, beta["Intercept"] + extra + (beta["temp"] + bend) * x, rtol=1e-9)
    points = [line for line in display.ax_.lines if line not in display.lines_]
    assert [len(line.get_xdata()) for line in points] == [90, 90, 90]
    for line, level in zip(points, "ABC", strict=True):
        assert_allclose(line.get_ydata(), cake.loc[cake["recipe"] == level, "angle"])
    assert len(display.figure_.legends[0].get_texts()) == 3


def test_covariates_are_shown_at_three_values_or_those_asked_for(crossing):
    display = MarginalEffectsDisplay.from_estimator(crossing, "recipe", by="temp")
    assert [line.get_label() for line in display.lines_] == [f"temp = {t}" for t in (175, 200, 225)]
    means = emmeans(crossing, ["recipe"], ["temp"], at={"temp": [175, 200, 225]}).frame
    assert_allclose(
        np.concatenate([line.get_ydata() for line in display.lines_]), means["estimate"]
    )
    segments = np.concatenate([band.get_segments() for band in display.bands_])
    assert_allclose(segments[:, :, 1], means[["lower", "upper"]])
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["A", "B", "C"]
    own = MarginalEffectsDisplay.from_estimator(crossing, "recipe", by="temp", at={"temp": [180]})
    assert len(own.lines_) == 1


def test_outcomes_are_shares_on_the_response_scale():
    df = load_verbagg().frame.iloc[::5]
    model = MixedLogisticClassifier("r2 ~ Anger * Gender + btype + (1 | item)").fit(df)
    display = MarginalEffectsDisplay.from_estimator(model, "Anger", by=["Gender", "btype"], X=df)
    assert [ax.get_title() for ax in display.axes_] == [
        f"btype = {b}" for b in ("curse", "scold", "shout")
    ]
    means = emmeans(
        model, ["Anger"], ["Gender", "btype"], at={"Anger": display.lines_[0].get_xdata()},
        scale="response",
    ).frame  # fmt: skip
    own = means.xs(("M", "scold"), level=("Gender", "btype"))
    line = display.axes_[1].lines[-1]
    assert line.get_label() == "Gender = M"
    assert_allclose(line.get_ydata(), own["estimate"])
    assert display.events and display.frame[["lower", "upper"]].stack().between(0, 1).all()
    shares = display.axes_[1].lines[0].get_ydata()  # of the women
    assert len(shares) <= 10 and ((shares >= 0) & (shares <= 1)).all()


def test_least_squares_has_marginal_effects_too(cake):
    model = GeneralizedInverseRegressor(formula="angle ~ recipe + temp").fit(cake)
    display = MarginalEffectsDisplay.from_estimator(model, "recipe")
    assert_allclose(display.lines_[0].get_ydata(), emmeans(model, "recipe").frame["estimate"])


@pytest.mark.parametrize(
    ("x", "by", "message"),
    [
        ("temp", ["recipe", "a", "b"], "one or two names"),
        ("temp", "temp", "other than x"),
        ("tmep", None, "tmep"),
        ("temp", "recip", "recip"),
    ],
)
def test_unknown_and_repeated_names(crossing, x, by, message):
    with pytest.raises(ValueError, match=message):
        MarginalEffectsDisplay.from_estimator(crossing, x, by)


def test_rows_in_the_place_of_the_variable(crossing, cake):
    with pytest.raises(ValueError, match=r"name of a variable, got DataFrame: rows .* are X="):
        MarginalEffectsDisplay.from_estimator(crossing, cake)
