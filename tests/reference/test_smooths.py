"""Smooth terms against mgcv, see tests/data/smooths, and against dense matrices."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier, datasets
from skmixed.inference import smooth_curves

DATA = Path(__file__).parents[1] / "data"
REFERENCES = json.loads((DATA / "smooths" / "smooths.json").read_text())
# name: formula, column of x, other parameters
LINEAR = {
    "plain": ("accel ~ s(times, k=20)", "times"),
    "by_factor": ("accel ~ g + s(times, by=g)", "times"),
    "by_number": ("y ~ s(times, k=12) + s(times, by=z, k=8)", "times"),
    "with_intercept": ("uptake ~ s(conc, k=7) + (1 | Plant)", "conc"),
}
AT = {
    "times": pd.DataFrame({"times": [1.0, 10, 20, 40, 60], "g": list("abcba"), "z": 1.0}),
    "conc": pd.DataFrame({"conc": [50.0, 150, 300, 600, 1100]}),
}
GENERALISED = {
    "poisson": (MixedGLMRegressor, "count ~ s(times, k=12) + (1 | h)", {"family": "poisson"}),
    "logistic": (MixedLogisticClassifier, "up ~ s(times, k=8)", {}),
}


def mcycle():
    frame = pd.read_csv(DATA / "structures" / "mcycle.csv")
    number = np.arange(1, len(frame) + 1)
    return frame.assign(
        g=np.resize(list("abc"), len(frame)),
        z=(number % 7 - 3) / 3,
        y=frame["accel"] + 40 * (number % 7 - 3) / 3 * np.sin(frame["times"] / 8),
        h=(number % 19).astype(str),
        count=np.round((frame["accel"] + 140) / 15) + 3 * (number % 19 % 5),
        up=frame["accel"] > 0,
    )


@pytest.fixture(scope="module", params=LINEAR)
def case(request):
    formula, x = LINEAR[request.param]
    frame = mcycle() if x == "times" else datasets.load_co2().frame
    return REFERENCES[request.param], x, MixedLinearRegressor(formula).fit(frame), frame


def test_smoothness_and_sigma(case):
    ref, _, model, _ = case
    n = len(model.smooths_)
    np.testing.assert_allclose(model.smooths_["edf"], np.atleast_1d(ref["edf"])[:n], rtol=1e-6)
    penalties = model.smooths_["lambda"].unique()
    np.testing.assert_allclose(penalties, np.atleast_1d(ref["sp"])[: len(penalties)], rtol=1e-5)
    assert model.sigma_ == pytest.approx(ref["sigma"], rel=1e-7)
    assert model.n_evaluations_ <= 15


def test_fitted_values(case):
    ref, _, model, frame = case
    np.testing.assert_allclose(model.predict(frame)[:10], ref["fitted"], atol=1e-6)


def test_curves_and_their_errors(case):
    """Inside of the range and outside, where curves are straight lines."""
    ref, x, model, _ = case
    own = [c for c, name in enumerate(np.atleast_1d(ref["columns"])) if name.startswith(f"s({x})")]
    at, terms, se = AT[x], np.array(ref["terms"])[:, own], np.array(ref["se"])[:, own]
    curves = smooth_curves(model, x=at[x].to_numpy())
    for j, first in enumerate(range(0, len(curves), len(at))):
        found = curves.iloc[first : first + len(at)]
        curve, estimate = found["curve"].iloc[0], found["estimate"].to_numpy()
        if curve is None:
            np.testing.assert_allclose(estimate, terms[:, j], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found["std_error"], se[:, j], rtol=1e-5)
        else:  # centred over the rows of the level here, over all rows there
            rows = np.flatnonzero(at["g"] == curve)
            gap = estimate[rows] - terms[rows, j]
            np.testing.assert_allclose(gap, gap[0], atol=1e-5)


def test_dense_reference():
    ref = json.loads((DATA / "structures" / "mcycle_pspline.json").read_text())
    frame = mcycle()
    model = MixedLinearRegressor(ref["formula"]).fit(frame)
    fitted = model.predict(frame)
    np.testing.assert_allclose(fitted[:10], ref["fitted_head"], atol=1e-7)
    assert fitted.sum() == pytest.approx(ref["fitted_sum"], rel=1e-9)
    assert np.square(fitted).sum() == pytest.approx(ref["fitted_sumsq"], rel=1e-8)
    assert model.sigma_ == pytest.approx(ref["sigma"], rel=1e-8)
    [row] = model.smooths_.itertuples()
    assert row.edf + 1 == pytest.approx(ref["crosscheck"]["edf"], rel=1e-4)  # and the intercept
    assert 1 / model.theta_[0] ** 2 == pytest.approx(ref["parameters"]["lambda_mgcv"], rel=1e-5)
    assert model.n_evaluations_ <= 15


def test_maximum_likelihood():
    ref, frame = REFERENCES["by_ml"], mcycle()
    model = MixedLinearRegressor("accel ~ s(times, k=12)", reml=False).fit(frame)
    [row] = model.smooths_.itertuples()
    assert row.edf == pytest.approx(ref["edf"], rel=1e-7)
    assert model.smooths_["lambda"].item() == pytest.approx(ref["sp"], rel=1e-6)
    np.testing.assert_allclose(model.predict(frame)[:10], ref["fitted"], atol=1e-6)


@pytest.mark.parametrize("name", GENERALISED)
def test_generalised(name):
    """mgcv has the fixed effects at the joint mode, as n_agq=0."""
    estimator, formula, options = GENERALISED[name]
    ref, frame = REFERENCES[name], mcycle()
    model = estimator(formula, n_agq=0, **options).fit(frame)
    assert model.smooths_["edf"].item() == pytest.approx(ref["edf"], rel=1e-4)
    assert model.smooths_["lambda"].item() == pytest.approx(ref["sp"], rel=1e-4)
    np.testing.assert_allclose(model.fixed_effects_, ref["beta"], rtol=1e-4)
    whole = estimator(formula, **options).fit(frame)  # Laplace's approximation by all parameters
    assert whole.smooths_["edf"].item() == pytest.approx(ref["edf"], rel=0.01)
    assert whole.deviance_ <= model.deviance_ + 1e-6
