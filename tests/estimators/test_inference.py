"""Tables, tests and intervals as methods of fitted mixed models."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.exceptions import NotFittedError

from skmixed import GeneralizedInverseRegressor, MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import load_cbpp, load_machines, load_sleepstudy
from skmixed.exceptions import NotEstimableError, RankDeficiencyWarning


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def model(sleep):
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)


@pytest.fixture(scope="module")
def counts():
    return load_cbpp().frame


@pytest.fixture(scope="module")
def general(counts):
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return MixedGLMRegressor(formula, family="binomial").fit(counts)


# Coefficients


def test_coefficients_of_lmertest(model):
    """lmerTest 3.1-3: coef(summary(m)), and confint by contest1D."""
    table = model.coefficients(level=0.95)
    assert list(table.columns) == ["estimate", "std_error", "df", "t", "p_value", "lower", "upper"]
    days = table.loc["Days"]
    assert days["df"] == pytest.approx(17.0, rel=1e-6)
    assert days["t"] == pytest.approx(6.77148476399, rel=1e-6)
    assert days["p_value"] == pytest.approx(3.26378799e-06, rel=1e-5)
    assert (days["lower"] + days["upper"]) / 2 == pytest.approx(days["estimate"])
    assert table.notes == ()
    narrow = model.coefficients(level=0.5)
    assert (narrow["upper"] < table["upper"]).all() and (narrow["lower"] > table["lower"]).all()


def test_kinds_of_degrees_of_freedom(model, sleep):
    z = model.coefficients("asymptotic")
    assert "z" in z and "t" not in z and np.isinf(z["df"]).all()
    assert (model.coefficients("residual")["df"] == 178).all()
    plain = MixedLinearRegressor("Reaction ~ Days").fit(sleep)
    default = plain.coefficients()
    assert (default["df"] == 178).all()
    pd.testing.assert_frame_equal(plain.coefficients("satterthwaite"), default)


def test_bad_input(model, general):
    for level in (0, 1, 95, -0.1, "0.95", None):
        with pytest.raises(ValueError, match="level must lie between 0 and 1, got"):
            model.coefficients(level=level)
    with pytest.raises(ValueError, match=r"ddf must be one of .*did you mean 'satterthwaite'"):
        model.coefficients("Satterthwaite")
    for ask in (general.coefficients, lambda ddf: general.anova(ddf=ddf)):
        with pytest.raises(ValueError, match=r"must be 'asymptotic' here, got 'kenward_roger'"):
            ask("kenward_roger")
    by_ml = MixedLinearRegressor("Days + (1 | Subject)", reml=False)
    X, y = load_sleepstudy(return_X_y=True)
    by_ml.fit(X, y)
    for ask in (by_ml.coefficients, lambda ddf: by_ml.anova(ddf=ddf), by_ml.vcov):
        with pytest.raises(ValueError, match="fit it with reml=True"):
            ask("kenward_roger")
    with pytest.raises(ValueError, match="kind must be 'model' or 'kenward_roger', got 'CR2'"):
        model.vcov("CR2")
    for method in ("coefficients", "anova", "vcov", "r2", "icc", "confint", "random_effects"):
        with pytest.raises(NotFittedError):
            getattr(MixedLinearRegressor("y ~ x"), method)()


def test_a_loaded_model_says_what_it_lacks(model):
    fresh = MixedLinearRegressor(model.formula).fit(load_sleepstudy().frame)
    copy = pickle.loads(pickle.dumps(fresh))
    with pytest.raises(ValueError, match="ask for them before pickling, or fit the model again"):
        copy.coefficients()
    with pytest.raises(ValueError, match="ask for them before pickling, or fit the model again"):
        copy.anova()
    assert copy.coefficients("asymptotic").shape == (2, 7)
    asked = fresh.coefficients()
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(fresh)).coefficients(), asked)


@pytest.mark.parametrize("how", ["drop", "minimum_norm"])
def test_columns_that_were_left_out(how, sleep):
    data = sleep.assign(Hours=24 * sleep["Days"])
    formula = "Reaction ~ Days + Hours + (1 | Subject)"
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor(formula, rank_deficient=how).fit(data)
    table, full = model.coefficients(), MixedLinearRegressor("Reaction ~ Days + (1 | Subject)")
    known = full.fit(data).coefficients()
    np.testing.assert_allclose(table["estimate"], model.fixed_effects_, rtol=1e-6)
    np.testing.assert_allclose(table["std_error"], model.standard_errors_, rtol=1e-5)
    np.testing.assert_allclose(table.loc["Days", ["df", "t"]], known.loc["Days", ["df", "t"]],
                               rtol=1e-5)  # fmt: skip
    assert table.loc["Hours"].isna().all() == (how == "drop")
    assert len(table.notes) == (how == "drop")
    np.testing.assert_allclose(model.vcov("kenward_roger"), model.vcov(), rtol=1e-4)  # balanced
    with pytest.raises(NotEstimableError, match=r"Hours = 24 Days, so beside .*of Hours must be 0"):
        model.contrast({"Hours": 1})


def test_coefficients_of_a_generalised_model(general):
    table = general.coefficients()
    np.testing.assert_allclose(table["estimate"], general.fixed_effects_, rtol=1e-10)
    np.testing.assert_allclose(table["std_error"], general.standard_errors_, rtol=1e-10)
    # R 4.2, lme4 1.1-31: coef(summary(glmer(cbind(incidence, size - incidence) ~ ...)))
    np.testing.assert_allclose(table["z"], [-6.016, -3.236, -3.455, -3.697], atol=2e-3)
    np.testing.assert_allclose(table["p_value"], 2 * stats.norm.sf(np.abs(table["z"])), rtol=1e-10)
    reach = stats.norm.isf(0.025) * table["std_error"]
    np.testing.assert_allclose(table["upper"], table["estimate"] + reach, rtol=1e-10)


def test_no_residual_degrees_of_freedom(sleep):
    table = MixedLinearRegressor("Reaction ~ Days + I(Days**2)").fit(sleep[:3]).coefficients()
    assert (table["df"] == 0).all()
    assert table[["std_error", "t", "p_value", "lower", "upper"]].isna().all(axis=None)


# Contrasts


def test_contrasts_of_every_form(model):
    t = model.contrast({"Days": 1})
    assert model.contrast([0, 1]).statistic == t.statistic
    named = model.contrast({"slope": {"Days": 1}})
    assert (named.statistic, named.name) == (t.statistic, "slope")
    assert isinstance(named.estimate, float)
    both = model.contrast({"slope": {"Days": 1}, "day ten": {"Intercept": 1, "Days": 9}})
    assert both.df_num == 2 and both.name == "slope, day ten"
    as_list = model.contrast([{"Days": 1}, {"Intercept": 1, "Days": 9}])
    assert both.statistic == pytest.approx(as_list.statistic)
    assert model.contrast(np.array([[0, 1], [1, 9]])).statistic == pytest.approx(both.statistic)
    assert t.statistic**2 == pytest.approx(model.contrast([{"Days": 1}]).statistic ** 2)


def test_right_hand_sides(model):
    table = model.coefficients().loc["Days"]
    at_limit = model.contrast({"Days": 1}, rhs=table["upper"])
    assert at_limit.p_value == pytest.approx(0.05, rel=1e-8)
    assert at_limit.estimate == pytest.approx(table["estimate"])
    with pytest.raises(ValueError, match="one for each of the 1 rows of K"):
        model.contrast({"Days": 1}, rhs=[1, 2])
    with pytest.raises(ValueError, match="rhs must be a finite number"):
        model.contrast({"Days": 1}, rhs=np.nan)


def test_bad_contrasts(model):
    with pytest.raises(ValueError, match=r"\['days'\] are no parameters.*did you mean 'Days'"):
        model.contrast({"days": 1})
    with pytest.raises(ValueError, match=r"one coefficient for each of the 2 parameters.*\(3,\)"):
        model.contrast([1, 2, 3])
    nothing = model.contrast([0, 0])
    assert nothing.estimate == 0 and np.isnan([nothing.statistic, nothing.p_value]).all()
    with pytest.raises(ValueError, match="K contains NaN or infinity"):
        model.contrast({"Days": np.inf})
    with pytest.raises(ValueError, match="one coefficient for each of the 2 parameters"):
        model.contrast(np.zeros((0, 2)))


def test_generalised_contrasts_are_wald_tests(general):
    test = general.contrast(np.eye(4)[1:])
    beta, V = general.fixed_effects_.to_numpy()[1:], general.vcov_.to_numpy()[1:, 1:]
    chi2 = beta @ np.linalg.solve(V, beta)
    assert test.statistic == pytest.approx(chi2 / 3) and np.isinf(test.df_den)
    assert f"chi2(3) = {chi2:.6g}, p = " in str(test)
    assert ", z = -3.2361" in str(general.contrast({"period[T.2]": 1}))
    assert general.anova().loc["period", "chi2"] == pytest.approx(chi2)


def test_contrasts_of_least_squares_take_right_hand_sides(sleep):
    model = GeneralizedInverseRegressor(formula="Reaction ~ Days").fit(sleep)
    test = model.contrast({"slope": {"Days": 1}}, rhs=5)
    other = MixedLinearRegressor("Reaction ~ Days").fit(sleep).contrast({"Days": 1}, rhs=5)
    assert test.statistic == pytest.approx(other.statistic) and test.name == "slope"


# Covariances, intervals, random effects


def test_covariances(model):
    """Treatment means of a balanced layout need no adjustment."""
    pd.testing.assert_frame_equal(model.vcov(), model.vcov_)
    formula = "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"
    balanced = MixedLinearRegressor(formula).fit(load_machines().frame)
    np.testing.assert_allclose(balanced.vcov("kenward_roger"), balanced.vcov_, rtol=1e-4)
    uneven = MixedLinearRegressor(formula).fit(load_machines().frame[:-4])
    adjusted = uneven.vcov("kenward_roger")
    assert list(adjusted.columns) == list(uneven.fixed_effects_.index)
    std = uneven.coefficients("kenward_roger")["std_error"]
    np.testing.assert_allclose(np.sqrt(np.diag(adjusted)), std, rtol=1e-10)
    ratio = std / uneven.standard_errors_
    assert (ratio > 1 - 1e-4).all()
    assert ratio.max() > 1.001


def test_intervals_and_components_are_those_of_the_functions(model):
    table = model.confint(["Days", "sigma"], level=0.9)
    own = model.coefficients(level=0.9).loc["Days"]
    np.testing.assert_allclose(table.loc["Days"], own[["estimate", "lower", "upper"]], rtol=1e-7)
    assert table.loc["sigma", "estimate"] == pytest.approx(model.sigma_, rel=1e-6)
    components = model.variance_components()
    assert components["variance"].iloc[-1] == pytest.approx(model.sigma_**2, rel=1e-5)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        model.confint(level=1.2)


def test_profiles_of_a_generalised_model_need_its_rows(general, counts):
    """R, glmmTMB: confint(m, "period2", method = "profile")."""
    limits = general.confint("period[T.2]", method="profile", X=counts)[["lower", "upper"]]
    np.testing.assert_allclose(limits.loc["period[T.2]"], [-1.616758, -0.407780], rtol=1e-4)
    with pytest.raises(ValueError, match="rows"):
        general.confint("period[T.2]", method="profile")
    with pytest.raises(ValueError, match="not the rows that the model was fitted to"):
        general.confint("period[T.2]", method="profile", X=counts[::-1])
    table = general.confint(["period[T.2]", "sd_(Intercept)|herd"])
    own = general.coefficients().loc["period[T.2]"]
    np.testing.assert_allclose(table.iloc[0], own[["estimate", "lower", "upper"]], rtol=1e-8)


def test_intervals_leave_out_what_the_fit_left_out(sleep):
    data = sleep.assign(Hours=24 * sleep["Days"])
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor("Reaction ~ Days + Hours + (1 | Subject)").fit(data)
    assert model.confint("Hours").isna().all(axis=None)


def test_random_effects_with_standard_errors(model):
    table = model.random_effects()["Subject"]
    assert (
        table.loc[("308", "Days"), "estimate"]
        == model.random_effects_["Subject"].loc["308", "Days"]
    )
    std = model.random_effects_std_["Subject"].loc["335", "Intercept"]
    assert table.loc[("335", "Intercept"), "std_error"] == pytest.approx(std)
    wider = model.random_effects("prediction")["Subject"]
    assert (wider["std_error"] > table["std_error"]).all()
    with pytest.raises(ValueError, match=r"std must be .*got 'marginal'"):
        model.random_effects("marginal")


# Shares of variance


def test_shares_of_variance(model, general, counts):
    """R 4.2, performance 0.10.2: r2_nakagawa and icc."""
    np.testing.assert_allclose(model.r2(), [0.278652033614, 0.799218907597], rtol=1e-6)
    np.testing.assert_allclose(model.icc(), [0.721658475854, 0.520566873983], rtol=1e-6)
    np.testing.assert_allclose(general.r2(), [0.0854160614566, 0.187314541729], rtol=1e-5)
    poisson = MixedGLMRegressor(
        "incidence ~ period + offset(log(size)) + (1 | herd)", family="poisson"
    ).fit(counts)
    np.testing.assert_allclose(poisson.r2(counts), [0.0940024213196, 0.180034253904], rtol=1e-5)
    np.testing.assert_allclose(poisson.icc(counts), [0.0949581263892, 0.0860318325846], rtol=1e-5)
    with pytest.raises(ValueError, match=r"give the data of the fit, as in r2\(X, y\)"):
        poisson.r2()
    gamma = MixedGLMRegressor("incidence ~ period + (1 | herd)", family="gamma", link="log")
    with pytest.raises(ValueError, match="got gamma with log"):
        gamma.fit(counts[counts["incidence"] > 0]).icc()


def test_shares_need_no_rows_and_no_cross_products(model):
    copy = pickle.loads(pickle.dumps(model))
    pd.testing.assert_series_equal(copy.r2(), model.r2())


def test_prior_weights_do_not_enter_the_spread_of_predictors(sleep):
    data = sleep.assign(w=1.0 + np.arange(180) % 3)
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", prior_weights="w").fit(data)
    fixed = model.predict(data, random_effects=False).var(ddof=1)
    random = float(model.covariances_["Subject"].iloc[0, 0])
    total = fixed + random + model.sigma_**2
    np.testing.assert_allclose(model.r2(), [fixed / total, (fixed + random) / total], rtol=1e-8)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SeparationWarning")
@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_separated_outcomes():
    """Other terms have the tests of the rows that do not separate."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(size=120), "g": np.arange(120) % 12})
    data["n"] = rng.poisson(np.exp(0.3 * data["x"]))
    data["c"] = np.where(np.arange(120) < 10, "none", "some")
    data.loc[:9, "n"] = 0
    model = MixedGLMRegressor("n ~ x + c + (1 | g)", family="poisson").fit(data)
    rest = MixedGLMRegressor("n ~ x + (1 | g)", family="poisson").fit(data[10:])
    found = model.anova(3)
    assert found.loc["x", "chi2"] == pytest.approx(rest.anova(3).loc["x", "chi2"], rel=1e-4)
    assert found.loc["c"].isna().tolist() == [True, False, True]
    table = model.coefficients()
    assert np.isinf(table.loc["c[T.some]", ["std_error", "upper"]].to_numpy(dtype=float)).all()
    assert table.loc["c[T.some]", ["z", "p_value"]].isna().all()
    with pytest.raises(ValueError, match="no tests of types 1 and 2: leave the columns out"):
        model.anova(2)
    with pytest.raises(ValueError, match="explain no share of a variance"):
        model.r2(data)


# Summary


def test_summaries_have_p_values_or_say_why_not(sleep):
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
    early = pickle.loads(pickle.dumps(model)).summary()
    assert list(early.fixed.columns) == ["Estimate", "Std. Error", "t value"]
    assert early.notes[-1].startswith("No p-values: degrees of freedom need the cross-products")
    summary = model.summary()
    assert list(summary.fixed.columns) == [
        "Estimate", "Std. Error", "df", "t value", "Pr(>|t|)",
    ]  # fmt: skip
    assert summary.notes == ()
    assert str(pickle.loads(pickle.dumps(model)).summary()) == str(summary)
