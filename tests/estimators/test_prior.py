"""Priors of the fixed effects: blme and bayesglm, units, separation, what a fit says of its prior.

The values in tests/data/prior are of lme4 1.1-31, blme 1.0-5 and arm 1.13-1 under R 4.2.2, by the
script beside them.
"""

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import load_cbpp, load_grouseticks
from skmixed.exceptions import RankDeficiencyWarning, SeparationWarning
from skmixed.inference import drop1, likelihood_ratio_test

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "data" / "prior" / "reference.json").read_text()
)
CBPP = "cbind(incidence, size - incidence) ~ {} + (1 | herd)"
UNSCALED = {"scaled": False}


@pytest.fixture(scope="module")
def cbpp():
    return load_cbpp().frame


def _trial():
    """The second arm has no failure, so that its coefficient has no finite estimate."""
    i = np.arange(60)
    y = ((i * 13) % 17 + 3 * (i // 6 % 3) > 9) | (i % 2 == 1)
    dose = ((i * 7) % 11 - 5) / 2
    return pd.DataFrame({"clinic": i // 6, "arm": i % 2, "dose": dose, "y": y * 1.0})


@pytest.mark.parametrize(
    ("name", "fixed", "prior"),
    [
        ("cbpp_normal", "period", UNSCALED),
        ("cbpp_narrow", "period", {**UNSCALED, "scale": 0.5, "intercept_scale": 3}),
        ("cbpp_t", "1", {**UNSCALED, "kind": "t", "df": 3, "intercept_scale": 0.5}),
    ],
)
def test_blme(cbpp, name, fixed, prior):
    ref = REFERENCE[name]
    model = MixedGLMRegressor(CBPP.format(fixed), "binomial", prior=prior).fit(cbpp)
    assert_allclose(model.fixed_effects_, ref["coef"], rtol=0, atol=3e-6)
    assert_allclose(model.theta_, ref["theta"], rtol=0, atol=3e-6)
    assert_allclose(model.deviance_, ref["deviance"], rtol=0, atol=2e-5)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_separated_data_are_blmes():
    model = MixedLogisticClassifier("y ~ arm + dose + (1 | clinic)", prior=UNSCALED).fit(_trial())
    ref = REFERENCE["separated_normal"]
    assert_allclose(model.fixed_effects_, ref["coef"], rtol=0, atol=1e-5)
    assert_allclose(model.deviance_, ref["deviance"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bayesglm_plain", "bayesglm_scaled"])
def test_bayesglm(name):
    data, prior = _trial(), UNSCALED
    if name == "bayesglm_scaled":
        data["arm"] -= data["arm"].mean()
        data["dose"] -= data["dose"].mean()
        prior = "normal"
    model = MixedLogisticClassifier("y ~ arm + dose", prior=prior).fit(data)
    assert_allclose(model.fixed_effects_, REFERENCE[name]["coef"], rtol=1e-7)
    # those of arm are with the weights of its last step but one
    assert_allclose(model.standard_errors_, REFERENCE[name]["std_error"], rtol=1e-6)


@pytest.mark.parametrize("kind", ["normal", "t"])
def test_units_and_origins_do_not_matter(cbpp, kind):
    ticks = load_grouseticks().frame
    formula = "TICKS ~ YEAR + h + offset(np.log(effort)) + (1 | BROOD)"
    ticks["effort"] = 1.0 + ticks["HEIGHT"] % 3
    near = ticks.assign(h=ticks["HEIGHT"] / 100)
    far = ticks.assign(h=1000 + 3 * ticks["HEIGHT"], effort=365.25 * ticks["effort"])
    prior = {"kind": kind, "scale": 0.5, "intercept_scale": 0.5}
    a, b = (MixedGLMRegressor(formula, prior=prior).fit(data) for data in (near, far))
    assert_allclose(a.deviance_, b.deviance_, rtol=1e-10)
    assert_allclose(a.penalised_deviance_, b.penalised_deviance_, rtol=1e-10)
    assert_allclose(a.fixed_effects_["h"] / 300, b.fixed_effects_["h"], rtol=1e-5)
    assert a.penalised_deviance_ > a.deviance_ + 0.1  # it is not that the prior says nothing
    assert_allclose(a.predict(near), b.predict(far), rtol=1e-5)


@pytest.mark.parametrize("link", ["identity", "sqrt", "inverse"])
def test_units_of_the_response_do_not_matter(link):
    rng = np.random.default_rng(0)
    g, x = np.arange(120) % 10, rng.normal(size=120)
    y = (5 + x + rng.normal(0, 0.5, 10)[g]) * rng.gamma(20, 1 / 20, 120)
    family = "poisson" if link == "sqrt" else "gamma"
    y = np.round(4 * y) if link == "sqrt" else y
    factor = 1.0 if link == "sqrt" else 1000.0
    data = pd.DataFrame({"x": x, "g": g, "y": y})
    prior = {"scale": 0.05, "intercept_scale": 0.1}
    models = [
        MixedGLMRegressor("y ~ x + (1 | g)", family, link, prior=prior).fit(data.assign(y=own))
        for own in (y, factor * y)
    ]
    means = [model.predict(data) for model in models]
    assert_allclose(means[0] * factor, means[1], rtol=1e-5)
    plain = MixedGLMRegressor("y ~ x + (1 | g)", family, link).fit(data)
    assert abs(models[0].coef_[0]) < 0.99 * abs(plain.coef_[0])


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_separation_is_left_to_the_prior():
    data = _trial()
    with pytest.warns(SeparationWarning):
        limit = MixedLogisticClassifier("y ~ arm + dose + (1 | clinic)").fit(data)
    assert np.isinf(limit.standard_errors_["arm"])
    with warnings.catch_warnings():
        warnings.simplefilter("error", SeparationWarning)
        model = MixedLogisticClassifier(limit.formula, prior="t").fit(data)
    assert 1 < model.fixed_effects_["arm"] < limit.fixed_effects_["arm"]
    assert np.isfinite(model.standard_errors_).all()
    assert "arm separates the outcomes perfectly" in str(model.summary())
    wider = MixedLogisticClassifier(limit.formula, prior={"kind": "t", "scale": 10}).fit(data)
    assert wider.fixed_effects_["arm"] > model.fixed_effects_["arm"] + 1
    assert limit.deviance_ < wider.deviance_ < model.deviance_


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_a_flat_part_of_the_prior_does_not_bound_what_separates():
    data = _trial()
    formula = "y ~ arm + dose + (1 | clinic)"
    prior = {"intercept_scale": np.inf, "coefficients": {"arm": np.inf}}
    with pytest.raises(ValueError, match=r"arm separate .*finite scale in prior"):
        MixedLogisticClassifier(formula, prior=prior).fit(data)
    prior = {"coefficients": {"dose": np.inf}}
    model = MixedLogisticClassifier(formula, prior=prior).fit(data)
    assert np.isinf(model.prior_.loc["dose", "scale"])
    assert np.isfinite(model.standard_errors_).all()


def test_one_outcome_only():
    """A constant response is an error with a prior too: nothing is there to be explained."""
    data = pd.DataFrame({"y": 0, "n": 5, "x": np.arange(12.0)})
    with pytest.raises(ValueError, match="one class"):
        MixedGLMRegressor("cbind(y, n) ~ x", "binomial", prior="normal").fit(data)
    with pytest.raises(ValueError, match="every count is zero"):
        MixedGLMRegressor("y ~ x", prior="normal").fit(data)


def test_wide_priors_are_none(cbpp):
    plain = MixedGLMRegressor(CBPP.format("period"), "binomial").fit(cbpp)
    wide = {"scale": 1e8, "intercept_scale": 1e8}
    model = MixedGLMRegressor(CBPP.format("period"), "binomial", prior=wide).fit(cbpp)
    assert_allclose(model.fixed_effects_, plain.fixed_effects_, rtol=1e-6)
    assert_allclose(model.standard_errors_, plain.standard_errors_, rtol=1e-6)
    none = {"scale": np.inf, "intercept_scale": np.inf}
    flat = MixedGLMRegressor(CBPP.format("period"), "binomial", prior=none).fit(cbpp)
    assert flat.deviance_ == flat.penalised_deviance_
    assert_allclose(flat.deviance_, plain.deviance_, rtol=1e-10)


def test_prior_of_one_coefficient(cbpp):
    prior = {"scale": np.inf, "intercept_scale": np.inf,
             "coefficients": {"period[T.2]": (3.0, 1e-4), "period[T.3]": [0.0, 1e-4]}}  # fmt: skip
    model = MixedGLMRegressor(CBPP.format("period"), "binomial", prior=prior).fit(cbpp)
    assert_allclose(model.fixed_effects_["period[T.2]"], 3.0, atol=1e-5)
    assert_allclose(model.fixed_effects_["period[T.3]"], 0.0, atol=1e-5)
    assert_allclose(model.standard_errors_["period[T.2]"], 1e-4, rtol=1e-3)
    table = pd.DataFrame(
        {"location": [0.0, 3.0, 0.0, 0.0], "scale": [np.inf, 1e-4, 1e-4, np.inf]},
        index=model.fixed_effects_.index,
    )
    pd.testing.assert_frame_equal(model.prior_, table)


def test_scales_of_columns():
    data = _trial()
    model = MixedLogisticClassifier("y ~ arm + dose", prior="normal").fit(data)
    expected = [10.0, 2.5, 2.5 / (2 * data["dose"].std(ddof=0))]
    assert_allclose(model.prior_["scale"], expected)
    weight = np.arange(60) % 3
    rows = data.loc[data.index.repeat(weight)]
    a = MixedLogisticClassifier("y ~ arm + dose", prior="t").fit(data, sample_weight=weight)
    b = MixedLogisticClassifier("y ~ arm + dose", prior="t").fit(rows)
    assert_allclose(a.fixed_effects_, b.fixed_effects_, rtol=1e-7)
    assert_allclose(a.prior_, b.prior_)


def test_aliased_columns_have_no_prior():
    data = _trial().assign(double=lambda df: 2 * df["dose"] + 1)
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLogisticClassifier("y ~ arm + dose + double", prior="normal").fit(data)
    same = MixedLogisticClassifier("y ~ arm + dose", prior="normal").fit(data)
    assert_allclose(model.fixed_effects_.drop("double"), same.fixed_effects_, rtol=1e-9)
    assert np.isnan(model.prior_.loc["double"]).all()


def test_the_fit_tells_of_its_prior(cbpp):
    model = MixedGLMRegressor(CBPP.format("period"), "binomial", prior="normal").fit(cbpp)
    text = str(model.summary())
    assert "maximum a posteriori" in text and "Prior of the fixed effects: normal" in text
    z = model.prior_["scale"]
    beta = model.fixed_effects_
    share = cbpp["period"].value_counts(normalize=True, sort=False).to_numpy()
    center = beta.iloc[0] + share[1:] @ beta.iloc[1:]
    penalty = (center / 10) ** 2 + np.sum((beta.iloc[1:] / z.iloc[1:]) ** 2)
    assert_allclose(model.penalised_deviance_ - model.deviance_, penalty, rtol=1e-9)
    assert_allclose(model.trace_["objective"].iloc[-1], model.penalised_deviance_, rtol=1e-6)
    again = pickle.loads(pickle.dumps(model))
    assert str(again.summary()) == text
    plain = MixedGLMRegressor(CBPP.format("period"), "binomial").fit(cbpp)
    assert plain.prior_ is None and plain.penalised_deviance_ == plain.deviance_
    assert "rior" not in str(plain.summary())


def test_likelihoods_are_not_compared(cbpp):
    models = [
        MixedGLMRegressor(CBPP.format(fixed), "binomial", prior="normal").fit(cbpp)
        for fixed in ("1", "period")
    ]
    with pytest.raises(ValueError, match="a model with a prior is not at one"):
        likelihood_ratio_test(*models)
    with pytest.raises(ValueError, match="drop1 compares maxima"):
        drop1(models[1], cbpp)


def test_profile_is_of_the_penalised_deviance(cbpp):
    prior = {"scaled": False, "scale": 0.3}
    model = MixedGLMRegressor(CBPP.format("period"), "binomial", prior=prior).fit(cbpp)
    name = "period[T.4]"
    lower, upper = model.confint(name, "profile", X=cbpp)[["lower", "upper"]].to_numpy()[0]
    wald = model.confint(name).to_numpy()[0]
    assert_allclose([lower, upper], wald[1:], atol=0.05)
    fixed = {**prior, "coefficients": {name: (upper, 1e-7)}}
    there = MixedGLMRegressor(CBPP.format("period"), "binomial", prior=fixed).fit(cbpp)
    rise = there.penalised_deviance_ + (upper / 0.3) ** 2 - model.penalised_deviance_
    assert_allclose(rise, 3.841459, atol=1e-3)


def test_poisson_shares_of_variance():
    ticks = load_grouseticks().frame
    prior = {"coefficients": {"cHEIGHT": 1.0}}
    model = MixedGLMRegressor("TICKS ~ cHEIGHT + (1 | BROOD)", prior=prior).fit(ticks)
    assert 0 < model.icc(ticks)["adjusted"] < 1


def test_pipeline_clone_and_grid_search():
    data = _trial()
    X, y = data.drop(columns="y"), data["y"]
    grid = [None, "normal", {"kind": "t", "scale": 1.0, "df": 3}]
    pipe = make_pipeline(MixedLogisticClassifier("arm + dose", prior={"scale": 1.0}))
    assert clone(pipe)[-1].prior == {"scale": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeparationWarning)
        search = GridSearchCV(
            pipe, {"mixedlogisticclassifier__prior": grid}, scoring="neg_log_loss", cv=3
        ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert "prior" not in MixedLinearRegressor().get_params()


@pytest.mark.parametrize(
    ("prior", "match"),
    [
        ("cauchy", "'prior' parameter .* must be"),
        (1.0, "'prior' parameter .* must be"),
        ({"kind": "laplace"}, "got 'laplace'"),
        ({"sd": 1.0}, "keys 'kind', .*got 'sd'"),
        ({"scale": 0}, "'scale' of prior must be a positive number, got 0"),
        ({"scale": "wide"}, "'scale' of prior must be a positive number"),
        ({"kind": "t", "df": -1}, "'df' of prior must be a positive number"),
        ({"df": 3}, "'df' belongs to a prior of the kind 't'"),
        ({"scaled": "yes"}, "'scaled' of prior must be True or False"),
        ({"coefficients": ["x"]}, "a dict from columns of X to scales"),
        ({"coefficients": {"arm": (1, 2, 3)}}, "the prior of 'arm' is a scale"),
        ({"coefficients": {"arm": np.nan}}, "the prior of 'arm' is a scale"),
        ({"coefficients": {"leg": 1.0}}, "'leg', which the model does not have. Its columns are"),
    ],
)
def test_messages(prior, match):
    with pytest.raises(ValueError, match=match):
        MixedLogisticClassifier("y ~ arm + dose", prior=prior).fit(_trial())
