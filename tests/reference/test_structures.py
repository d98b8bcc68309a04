"""Structured models against nlme, glmmTMB and dense computations, see tests/data/structures."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor, SingularFitWarning, datasets

FOLDER = Path(__file__).parents[1] / "data" / "structures"
TERMS = {
    "machines_cs": ["sd", "sd", "sd", "rho"],
    "machines_diag": ["sd", "sd", "sd"],
    "machines_homcs": ["sd", "rho"],
    "sleepstudy_ar1_term": ["sd", "rho"],
    "wheat2_gau": ["sd", "range"],
}
# Residual structures.
RESIDUALS = ("early_mmrm", "machines_varident", "sleepstudy_corar1", "sleepstudy_corar1_intercept")


def reference(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def frame_of(ref):
    path = FOLDER / ref["data"]
    bundled = Path(ref["data"]).stem.lower()
    frame = pd.read_csv(path) if path.exists() else getattr(datasets, f"load_{bundled}")().frame
    for column, levels in ref["categorical"].items():
        frame[column] = pd.Categorical(frame[column].astype(str), categories=levels)
    return frame


def fitted(name):
    ref = reference(name)
    frame = frame_of(ref)
    with warnings.catch_warnings():
        if name == "sleepstudy_corar1":  # the correlation of its random effects is 1
            warnings.simplefilter("ignore", SingularFitWarning)
        model = MixedLinearRegressor(ref["formula"], residual=ref["residual"]).fit(frame)
    return ref, frame, model


@pytest.fixture(scope="module", params=[*TERMS, *RESIDUALS])
def case(request):
    return fitted(request.param)


def test_criterion_and_effort(case):
    """The hardest takes 15 evaluations, or 16: its last step is a matter of rounding."""
    ref, _, model = case
    within = 1e-8 * abs(ref["objective"]) if ref["residual"] else 1e-7
    assert model.deviance_ == pytest.approx(ref["objective"], abs=within)
    assert model.n_evaluations_ <= 16


def test_fixed_effects(case):
    ref, frame, model = case
    se = np.array(list(ref["se"].values()))
    np.testing.assert_allclose(model.fixed_effects_ / se, list(ref["beta"].values()) / se,
                               atol=1e-5)  # fmt: skip
    np.testing.assert_allclose(model.standard_errors_, se, rtol=1e-4)
    fitted = model.predict(frame)
    sd = frame[ref["formula"].split("~")[0].strip()].std()
    np.testing.assert_allclose(fitted[:10] / sd, np.array(ref["fitted_head"]) / sd, atol=1e-4)
    assert fitted.sum() == pytest.approx(ref["fitted_sum"], rel=1e-5)


def test_covariance_parameters(case):
    ref, _, model = case
    assert model.sigma_ == pytest.approx(ref["sigma"], rel=1e-4)
    if ref["residual"]:  # see test_residual_parameters
        assert model.structure_ == {}
        return
    [found] = model.structure_.values()
    expected = np.hstack([ref["parameters"][name] for name in dict.fromkeys(TERMS[ref["id"]])])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_conditional_modes(case):
    ref, _, model = case
    if not ref["terms"]:
        assert model.random_effects_ == {}
        return
    [own] = model.random_effects_.values()
    modes, term = own.to_numpy(), ref["terms"][0]
    assert np.square(modes).sum() == pytest.approx(term["sumsq"], rel=1e-3)
    if ref["id"] != "wheat2_gau":  # where positions are sorted
        head = modes.ravel()[: len(term["head"])]
        np.testing.assert_allclose(head, term["head"][: len(head)], atol=1e-3 * modes.std())


def test_residual_covariance_over_visits():
    ref, frame, model = fitted("early_mmrm")
    expected = np.array(ref["parameters"]["cov"])
    found = model.residual_covariance_()
    assert list(found.index) == [1.0, 1.5, 2.0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    pd.testing.assert_frame_equal(model.residual_covariance_("68"), found)
    rows = frame[frame["id"] == "68"].iloc[::-1]
    np.testing.assert_allclose(model.residual_covariance_(rows), found.iloc[::-1, ::-1], rtol=1e-10)
    np.testing.assert_allclose(model.vcov_, ref["vcov"], rtol=1e-4)


@pytest.mark.parametrize("name", RESIDUALS[1:])
def test_residual_parameters(name):
    ref, _, model = fitted(name)
    own = ref["parameters"]
    expected = own.get("residual_sd", [own.get("rho")])
    np.testing.assert_allclose(model.residual_parameters_, expected, rtol=1e-4)
    if "sd" in own:
        [covariance] = model.covariances_.values()
        assert np.sqrt(covariance.iloc[0, 0]) == pytest.approx(own["sd"], rel=1e-4)
