"""The display of variance components draws limits of standard deviations."""

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import load_cbpp, load_sleepstudy
from skmixed.exceptions import SingularFitWarning
from skmixed.plotting import VarianceComponentsDisplay


def ends(display):
    return np.array([segment[:, 0] for segment in display.lines_[0].get_segments()])


@pytest.mark.parametrize("method", ["wald", "profile"])
def test_rows_are_effects_by_group_and_the_residual(method):
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(load_sleepstudy().frame)
    display = VarianceComponentsDisplay.from_estimator(model, method=method, level=0.9)
    names = ["sd_(Intercept)|Subject", "sd_Days|Subject", "sigma"]
    table = model.confint(names, method, 0.9)
    np.testing.assert_allclose(ends(display), table[["lower", "upper"]])
    assert list(display.frame.index) == [
        ("Subject", "Intercept"), ("Subject", "Days"), ("Residual", "")
    ]  # fmt: skip
    assert display.ax_.get_xlabel() == "standard deviation  (Reaction; slopes per unit)"


def test_a_variance_of_zero_has_a_point_and_no_interval():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdef"), 5), "y": np.tile(rng.normal(size=5), 6)})
    data["y"] += 0.5 * rng.normal(size=30)
    with pytest.warns(SingularFitWarning):
        model = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data)
    wald = VarianceComponentsDisplay.from_estimator(model)
    assert wald.frame["estimate"].iloc[0] == 0
    assert len(wald.lines_[0].get_segments()[0]) == 0
    profile = VarianceComponentsDisplay.from_estimator(model, method="profile")
    assert ends(profile)[0][0] == 0 < ends(profile)[0][1]


def test_a_generalised_model_takes_its_rows_for_profiles():
    data = load_cbpp().frame
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    model = MixedGLMRegressor(formula, family="binomial").fit(data)
    display = VarianceComponentsDisplay.from_estimator(model, data, method="profile")
    table = model.confint("sd_(Intercept)|herd", "profile", X=data)
    np.testing.assert_allclose(ends(display), table[["lower", "upper"]], rtol=1e-6)
    with pytest.raises(ValueError, match="give the X and y"):
        VarianceComponentsDisplay.from_estimator(model, method="profile")


def test_a_model_without_random_effects_has_nothing_to_show():
    sleep = load_sleepstudy().frame
    with pytest.raises(ValueError, match="not fitted"):
        VarianceComponentsDisplay.from_estimator(MixedLinearRegressor("y ~ 1 + (1 | g)"))
    with pytest.raises(ValueError, match="no random effects"):
        VarianceComponentsDisplay.from_estimator(MixedLinearRegressor("Reaction ~ Days").fit(sleep))
