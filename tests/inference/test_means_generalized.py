"""Marginal means of generalised models on both scales, against emmeans and by hand."""

import warnings
from functools import cache

import numpy as np
import pytest

from skmixed import MixedGLMRegressor, MixedLogisticClassifier
from skmixed.datasets import load_cbpp, load_grouseticks
from skmixed.inference import emmeans, emtrends, joint_tests

NAMES = ("cbpp_binomial", "cbpp_slopefree_poisson", "grouseticks_poisson", "verbagg_binomial")
# the references' optimum and covariance, by other means, are as exact as this
RTOL = 2e-5


@pytest.fixture(scope="session")
def generalised(json_of, table_of):
    @cache
    def fitted(name):
        ref = json_of(f"glmm_{name}")
        table = table_of(ref)
        if name == "verbagg_binomial":
            return ref, MixedLogisticClassifier(ref["formula"]).fit(table)
        return ref, MixedGLMRegressor(ref["formula"], family=name.split("_")[-1]).fit(table)

    return fitted


def column(rows, *names):
    key = next(name for name in names if name in rows[0])
    return np.array([row[key] for row in rows], dtype=float)


def means_of(model, entry, **more):
    names, _, by = entry["spec"].lstrip("~ ").partition("|")
    at = None
    if "offset" in model.design_spec_.terms.fixed or model.design_spec_.offsets:
        # emmeans takes the mean of the offsets, which is the offset of the geometric mean
        at = {"size": float(np.exp(np.log(load_cbpp().frame["size"]).mean()))}
    return emmeans(model, names.strip(), by=by.strip() or None, at=at, **more)


def entries(ref):
    return [e for e in ref["emmeans"] if "emmean" in e["asymptotic"]["table"][0]]


@pytest.mark.parametrize("name", NAMES)
def test_means_on_the_link_scale(generalised, name):
    ref, model = generalised(name)
    for entry in entries(ref):
        rows, found = entry["asymptotic"]["table"], means_of(model, entry).frame
        assert np.isinf(found["df"]).all()
        np.testing.assert_allclose(found["estimate"], column(rows, "emmean"), RTOL, 1e-6)
        np.testing.assert_allclose(found["std_error"], column(rows, "SE"), RTOL)
        np.testing.assert_allclose(found["z"], column(rows, "z.ratio"), RTOL, 1e-5)
        np.testing.assert_allclose(found["lower"], column(rows, "asymp.LCL"), RTOL, 1e-5)
        np.testing.assert_allclose(found["upper"], column(rows, "asymp.UCL"), RTOL, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_means_on_the_response_scale(generalised, name):
    ref, model = generalised(name)
    for entry in entries(ref):
        rows = entry["asymptotic"]["response"]
        found = means_of(model, entry, scale="response").frame
        np.testing.assert_allclose(found["estimate"], column(rows, "prob", "rate"), RTOL)
        np.testing.assert_allclose(found["std_error"], column(rows, "SE"), RTOL)
        np.testing.assert_allclose(found["lower"], column(rows, "asymp.LCL"), RTOL)
        np.testing.assert_allclose(found["upper"], column(rows, "asymp.UCL"), RTOL)


@pytest.mark.parametrize("name", NAMES)
def test_contrasts_are_ratios_on_the_response_scale(generalised, name):
    ref, model = generalised(name)
    for entry in entries(ref):
        means = means_of(model, entry, scale="response")
        for wanted in entry["asymptotic"]["contrasts"]:
            found = means.contrast(wanted["method"], adjust="none")
            rows = wanted["response"]
            assert [str(c) for c in found.frame.index.get_level_values("contrast")] == [
                row["contrast"] for row in rows
            ]
            expected = column(rows, "odds.ratio", "ratio")
            np.testing.assert_allclose(found.frame["estimate"], expected, RTOL)
            np.testing.assert_allclose(found.frame["std_error"], column(rows, "SE"), RTOL)
            np.testing.assert_allclose(found.frame["lower"], column(rows, "asymp.LCL"), RTOL)
            adjusted = means.contrast(wanted["method"], adjust="holm").frame["p_value"]
            np.testing.assert_allclose(adjusted, wanted["p_adjusted"]["holm"], 1e-3, 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_trends_are_on_the_link_scale(generalised, name):
    ref, model = generalised(name)
    for entry in ref["emmeans"]:
        trend = next((k for k in entry["asymptotic"]["table"][0] if k.endswith(".trend")), None)
        if trend:
            rows = entry["asymptotic"]["table"]
            found = emtrends(model, "YEAR", var=trend.removesuffix(".trend"))
            np.testing.assert_allclose(found.frame["estimate"], column(rows, trend), RTOL)
            pairs = found.pairs(adjust="none").frame
            expected = column(entry["asymptotic"]["contrasts"][0]["table"], "estimate")
            np.testing.assert_allclose(pairs["estimate"], expected, RTOL)


@pytest.mark.parametrize("name", NAMES)
def test_joint_tests_are_chi_square(generalised, name):
    ref, model = generalised(name)
    found = joint_tests(model)
    assert list(found) == ["chi2", "df", "p_value"]
    for row in ref["joint_tests"]["asymptotic"]:
        own = found.loc[row["model term"]]
        assert own["df"] == row["df1"]
        np.testing.assert_allclose(own["chi2"] / own["df"], row["F_exact"], 1e-4)


def test_means_are_predictions_without_random_effects(generalised):
    _, model = generalised("grouseticks_poisson")
    df = load_grouseticks().frame
    grid = df.drop_duplicates("YEAR").sort_values("YEAR")
    grid = grid.assign(cHEIGHT=model.design_spec_.reference.covariates["cHEIGHT"].mean)
    expected = model.predict(grid, random_effects=False)
    found = emmeans(model, "YEAR", scale="response").frame
    np.testing.assert_allclose(found["estimate"], expected, rtol=1e-9)


def test_an_offset_is_evaluated_on_the_grid(generalised):
    _, model = generalised("cbpp_slopefree_poisson")
    one, ten = (
        emmeans(model, "period", at={"size": n}, scale="response").frame["estimate"]
        for n in (1.0, 10.0)
    )
    np.testing.assert_allclose(ten / one, 10.0, rtol=1e-10)
    pairs = emmeans(model, "period", at={"size": [1.0, 10.0]}).pairs().frame
    np.testing.assert_allclose(
        pairs["estimate"], emmeans(model, "period").pairs().frame["estimate"]
    )


@pytest.mark.parametrize(("family", "link"), [("binomial", "probit"), ("binomial", "cloglog"),
                                              ("poisson", "sqrt")])  # fmt: skip
def test_other_links_have_no_ratios(family, link):
    df = load_cbpp().frame
    left = "cbind(incidence, size - incidence)" if family == "binomial" else "incidence"
    model = MixedGLMRegressor(f"{left} ~ period + (1 | herd)", family=family, link=link).fit(df)
    on_link, means = emmeans(model, "period"), emmeans(model, "period", scale="response")
    link = model.family_.link
    eta = on_link.frame["estimate"].to_numpy()
    np.testing.assert_allclose(means.frame["estimate"], model.family_.mean(eta))
    slope = (model.family_.mean(eta + 1e-6) - model.family_.mean(eta - 1e-6)) / 2e-6
    np.testing.assert_allclose(
        means.frame["std_error"], np.abs(slope) * on_link.frame["std_error"], rtol=1e-7
    )
    np.testing.assert_allclose(means.pairs().frame, on_link.pairs().frame, rtol=1e-9, atol=1e-9)
    assert f"on the {link.name} scale" in str(means.pairs())


def test_the_scale_of_means_can_be_changed(generalised):
    _, model = generalised("cbpp_binomial")
    means = emmeans(model, "period")
    other = emmeans(model, "period", scale="response")
    np.testing.assert_allclose(
        means.summary(scale="response").frame, other.frame, rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(other.summary(scale="link").frame, means.frame, rtol=1e-9, atol=1e-9)
    for differences in (means.pairs(), other.pairs(), emmeans(model, "period").contrast("eff")):
        scale = {"link": "response", "response": "link"}[differences.scale]
        with pytest.raises(ValueError, match="only means have another scale"):
            differences.summary(scale=scale)


def test_ratios_of_ratios(generalised):
    _, model = generalised("verbagg_binomial")
    odds = emmeans(model, "btype", by="situ", scale="response").pairs(adjust="none")
    found = odds.contrast("pairwise", by="contrast", adjust="none")
    values = odds.frame["estimate"].unstack("situ")
    expected = values.iloc[:, 0] / values.iloc[:, 1]
    np.testing.assert_allclose(
        found.frame["estimate"].to_numpy(), expected[found.index.get_level_values(0)], rtol=1e-9
    )
    assert str(found).count("Contrasts are odds ratios") == 1


def test_degrees_of_freedom_of_generalised_models(generalised):
    _, model = generalised("cbpp_binomial")
    with pytest.raises(ValueError, match="ddf must be 'asymptotic' here, got 'satterthwaite'"):
        emmeans(model, "period", ddf="satterthwaite")


def test_separated_outcomes_have_means_at_the_bound():
    df = load_cbpp().frame.copy()
    df["incidence"] = np.where(df["period"].astype(str) == "4", 0, df["incidence"])
    model = MixedGLMRegressor(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", family="binomial"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(df)
    found = emmeans(model, "period", scale="response")
    assert found.frame["estimate"].iloc[3] < 1e-9
    assert (found.frame["lower"].iloc[3], found.frame["upper"].iloc[3]) == (0.0, 1.0)
    assert np.isnan(found.frame["p_value"].iloc[3])
    assert found.frame["estimate"].iloc[:3].between(0, 1, inclusive="neither").all()
    assert np.isfinite(found.pairs().frame["p_value"]).sum() == 3
