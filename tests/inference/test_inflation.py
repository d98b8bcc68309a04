"""Variance inflation of terms: car's vif, identities, and models without it."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from skmixed import (
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    RankDeficiencyWarning,
)
from skmixed.datasets import load_grouseticks
from skmixed.diagnostics import collinearity
from skmixed.inference import vif

R = json.loads((Path(__file__).parents[1] / "data" / "checks" / "checks.json").read_text())
FORMULA = "length ~ Species + width + petal_length * petal_width"


@pytest.fixture(scope="module")
def iris():
    frame = load_iris(as_frame=True).frame
    frame.columns = ["length", "width", "petal_length", "petal_width", "Species"]
    return frame.assign(Species=np.repeat(list("svw"), 50), b=np.tile(np.arange(10), 15))


@pytest.mark.filterwarnings("ignore::skmixed.SingularFitWarning")
@pytest.mark.parametrize(
    ("formula", "name"), [(FORMULA, "vif_iris"), (FORMULA + " + (1 | b)", "vif_iris_mixed")]
)
def test_terms_of_car(iris, formula, name):
    found, theirs = vif(MixedLinearRegressor(formula).fit(iris)), R[name]
    assert found["df"].tolist() == theirs["df"]
    np.testing.assert_allclose(found["gvif"], theirs["gvif"], rtol=2e-5)
    np.testing.assert_allclose(found["scaled"], theirs["scaled"], rtol=2e-5)


def test_a_generalised_model_of_car():
    ticks = load_grouseticks().frame
    ticks["H"] = (ticks["HEIGHT"] - ticks["HEIGHT"].mean()) / 100
    model = MixedGLMRegressor("TICKS ~ YEAR + H + (1 | BROOD)", "poisson").fit(ticks)
    np.testing.assert_allclose(vif(model)["gvif"], R["vif_grouseticks"]["gvif"], rtol=1e-4)


def test_one_column_each_is_the_usual_factor(iris):
    columns = ["width", "petal_length", "petal_width"]
    model = MixedLinearRegressor("length ~ " + " + ".join(columns)).fit(iris)
    expected = collinearity(iris[columns]).inflation
    np.testing.assert_allclose(vif(model)["gvif"], expected, rtol=1e-8)
    np.testing.assert_allclose(vif(model)["scaled"] ** 2, expected, rtol=1e-8)


def test_dependent_columns_do_not_count(iris):
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor("length ~ width + petal_width + I(2 * width)").fit(iris)
    smaller = MixedLinearRegressor("length ~ width + petal_width").fit(iris)
    found = vif(model)
    assert found.index.tolist() == ["width", "petal_width"]
    np.testing.assert_allclose(found["gvif"], vif(smaller)["gvif"], rtol=1e-8)


def test_few_terms(iris):
    assert vif(MixedLinearRegressor("length ~ 1 + (1 | Species)").fit(iris)).empty
    one = vif(MixedLinearRegressor("length ~ Species").fit(iris))
    np.testing.assert_allclose(one["gvif"], 1.0)


def test_other_models(iris):
    columns = ["width", "petal_width"]
    plain = GeneralizedInverseRegressor().fit(iris[columns], iris["length"])
    mixed = MixedLinearRegressor("length ~ width + petal_width").fit(iris)
    np.testing.assert_allclose(vif(plain)["gvif"], vif(mixed)["gvif"], rtol=1e-8)
    with pytest.raises(TypeError, match="vif takes a fitted"):
        vif(MixedLinearRegressor(FORMULA))
