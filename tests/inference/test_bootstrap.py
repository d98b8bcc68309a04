"""Bootstrap: refits, what is drawn, limits, failures."""

import json
import pickle
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skmixed import (
    BootstrapWarning,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
    RankDeficiencyWarning,
    SingularFitWarning,
    datasets,
)
from skmixed.inference import bootstrap
from skmixed.inference.bootstrap_limits import acceleration, draws_needed, limits_by
from skmixed.inference.refitted import refits_of

FOLDER = Path(__file__).parents[1] / "data" / "bootstrap"
SLEEP = "Reaction ~ Days + (Days | Subject)"
CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
MODELS = {
    "sleepstudy": (MixedLinearRegressor(SLEEP), datasets.load_sleepstudy),
    "sleepstudy_ml": (MixedLinearRegressor(SLEEP, reml=False), datasets.load_sleepstudy),
    "penicillin": (
        MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)"),
        datasets.load_penicillin,
    ),
    "pastes": (MixedLinearRegressor("strength ~ 1 + (1 | batch/cask)"), datasets.load_pastes),
    "machines": (
        MixedLinearRegressor("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"),
        datasets.load_machines,
    ),
    "cbpp": (MixedGLMRegressor(CBPP, family="binomial"), datasets.load_cbpp),
}


@pytest.fixture(scope="module")
def sleep():
    return datasets.load_sleepstudy().frame


@pytest.fixture(scope="module")
def model(sleep):
    return MixedLinearRegressor(SLEEP).fit(sleep)


@pytest.fixture(scope="module")
def boot(model, sleep):
    return bootstrap(model, sleep, n=400, random_state=1)


@pytest.fixture(scope="module")
def cbpp():
    return datasets.load_cbpp().frame


def responses(refits, k, kind="parametric", seed=0):
    rng, source = np.random.default_rng(seed), getattr(refits, kind)()
    return [source.draw(rng) for _ in range(k)]


def quietly(function, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*arguments)


# Refits


@pytest.mark.parametrize("name", [name for name in MODELS if name != "cbpp"])
def test_refits_are_the_fits_of_the_estimator(name):
    estimator, load = MODELS[name]
    data = load().frame
    fitted = estimator.fit(data)
    refits = refits_of(fitted, data, None, None, None, "test")
    drawn = responses(refits, 6)
    response = fitted.formula.partition("~")[0].strip()
    for y, refit in zip(drawn, refits.of_responses(drawn), strict=True):
        fit, own = refit(), type(fitted)(**fitted.get_params())
        own = quietly(own.fit, data.assign(**{response: y}))
        assert fit.deviance == pytest.approx(own.deviance_, rel=1e-8)
        assert fit.sigma == pytest.approx(own.sigma_, rel=1e-4)
        scale = own.standard_errors_.to_numpy()
        assert np.abs(fit.beta - own.fixed_effects_.to_numpy()) == pytest.approx(
            0, abs=1e-4 * scale.max()
        )
        same = fit.source.response == own.result_.source.response
        assert same and fit.optimum.converged


def test_refits_of_generalised_models_are_the_fits_of_the_estimator(cbpp):
    fitted = MixedGLMRegressor(CBPP, family="binomial").fit(cbpp)
    refits = refits_of(fitted, cbpp, None, None, None, "test")
    for y in responses(refits, 3):
        own = MixedGLMRegressor(CBPP, family="binomial").fit(cbpp.assign(incidence=y))
        fit = refits.of_response(y)
        assert fit.deviance == pytest.approx(own.deviance_, abs=1e-7)
        assert fit.beta == pytest.approx(own.fixed_effects_.to_numpy(), abs=1e-4)


def test_first_replicates_are_those_of_a_longer_run(model, sleep, boot):
    short = bootstrap(model, sleep, n=70, random_state=1)
    assert short.draws.to_numpy() == pytest.approx(
        boot.draws[:70].to_numpy(), abs=1e-6, nan_ok=True
    )


@pytest.mark.parametrize("kind", ["parametric", "residual", "cases"])
def test_one_seed_has_one_answer_whatever_shares_the_work(model, sleep, kind):
    alone = bootstrap(model, sleep, n=130, kind=kind, random_state=3)
    shared = bootstrap(model, sleep, n=130, kind=kind, random_state=3, n_jobs=2)
    pd.testing.assert_frame_equal(alone.draws, shared.draws, rtol=1e-9)
    with joblib.parallel_config(backend="threading"):
        threads = bootstrap(model, sleep, n=130, kind=kind, random_state=3, n_jobs=2)
    pd.testing.assert_frame_equal(alone.draws, threads.draws, rtol=1e-9)
    other = bootstrap(model, sleep, n=130, kind=kind, random_state=4)
    assert not np.allclose(alone.draws["Days"], other.draws["Days"])


def test_random_states(model, sleep):
    first = bootstrap(model, sleep, n=4, random_state=np.random.default_rng(5)).draws
    again = bootstrap(model, sleep, n=4, random_state=np.random.default_rng(5)).draws
    pd.testing.assert_frame_equal(first, again)
    first = bootstrap(model, sleep, n=4, random_state=np.random.RandomState(5)).draws
    again = bootstrap(model, sleep, n=4, random_state=np.random.RandomState(5)).draws
    pd.testing.assert_frame_equal(first, again)
    seeds = np.random.SeedSequence(5)
    first = bootstrap(model, sleep, n=4, random_state=seeds).draws
    pd.testing.assert_frame_equal(first, bootstrap(model, sleep, n=4, random_state=seeds).draws)
    with pytest.raises(ValueError, match="random_state must be"):
        bootstrap(model, sleep, n=4, random_state="five")


# What is drawn


def balanced(levels=20, rows=6, sd=2.0, sigma=1.0, seed=0):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(levels), rows)
    y = 5.0 + sd * rng.standard_normal(levels)[g] + sigma * rng.standard_normal(len(g))
    return pd.DataFrame({"y": y, "g": g})


@pytest.mark.parametrize("kind", ["parametric", "residual"])
def test_balanced_one_way_layout_in_closed_form(kind):
    """sd(mean) = sqrt(sd^2 / J + sigma^2 / n) and sigma^2* ~ sigma^2 chi2 / df."""
    data = balanced()
    model = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data)
    boot = bootstrap(model, data, n=1000, kind=kind, random_state=0)
    theory = model.standard_errors_["Intercept"]
    sd = model.covariances_["g"].to_numpy().item()
    assert theory == pytest.approx(np.sqrt(sd / 20 + model.sigma_**2 / 120), rel=1e-6)
    assert boot.std_error["Intercept"] == pytest.approx(theory, rel=4 / np.sqrt(2 * 1000))
    assert abs(boot.bias["Intercept"]) < 4 * theory / np.sqrt(1000)
    if kind == "parametric":
        scaled = 100 * np.square(boot.draws["sigma"] / model.sigma_)
        assert stats.kstest(scaled, stats.chi2(100).cdf).pvalue > 1e-4


def test_cases_of_a_balanced_layout_in_closed_form():
    """The mean of level means drawn with replacement: sd of the means, by J, over root J."""
    data = balanced()
    model = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data)
    boot = bootstrap(model, data, n=400, kind="cases", random_state=0)
    theory = data.groupby("g")["y"].mean().std(ddof=0) / np.sqrt(20)
    assert boot.std_error["Intercept"] == pytest.approx(theory, rel=4 / np.sqrt(2 * 400))


def test_conditional_draws_keep_the_random_effects(model, sleep):
    refits = refits_of(model, sleep, None, None, None, "test")
    rng, source = np.random.default_rng(0), refits.parametric(conditional=True)
    drawn = np.mean([source.draw(rng) for _ in range(400)], axis=0)
    assert drawn == pytest.approx(model.predict(sleep), abs=5 * model.sigma_ / 20)
    new = bootstrap(model, sleep, n=200, random_state=0)
    kept = bootstrap(model, sleep, n=200, random_state=0, random_effects="conditional")
    assert kept.std_error["Intercept"] < 0.7 * new.std_error["Intercept"]


def test_residuals_have_the_estimated_covariances(model, sleep):
    """Reinflated: the moments of what is drawn from are those of the fit, exactly."""
    refits = refits_of(model, sleep, None, None, None, "test")
    source = refits.residuals()
    [b], [term] = source.effects, refits.layout.terms
    covariance = term.M @ (b @ b.T / b.shape[1]) @ term.M.T
    assert covariance == pytest.approx(model.covariances_["Subject"].to_numpy(), rel=1e-8)
    assert np.std(source.errors) == pytest.approx(model.sigma_, rel=1e-10)
    assert b.mean(axis=1) == pytest.approx(0, abs=1e-8) and abs(source.errors.mean()) < 1e-8


def test_weights_scale_the_residuals_that_are_drawn():
    data = balanced().assign(w=lambda d: np.where(d.index % 2, 4.0, 1.0))
    model = MixedLinearRegressor("y ~ 1 + (1 | g)", prior_weights="w").fit(data)
    refits = refits_of(model, data, None, None, None, "test")
    for kind in ("parametric", "residuals"):
        drawn = np.array(responses(refits, 800, kind))
        within = drawn - drawn.reshape(800, 20, 6).mean(axis=2)[:, np.repeat(np.arange(20), 6)]
        # of a deviation from the mean of six: variance - variance / 3 + 3.75 / 36
        ratio = within[:, data["w"] == 1].var() / within[:, data["w"] == 4].var()
        assert ratio == pytest.approx((24 + 3.75) / (6 + 3.75), rel=0.1)


def test_offsets_are_added_to_what_is_drawn(sleep):
    data = sleep.assign(known=1e4 * sleep["Days"])
    data["Reaction"] = data["Reaction"] + data["known"]
    model = MixedLinearRegressor("Reaction ~ Days + offset(known) + (Days | Subject)").fit(data)
    plain = MixedLinearRegressor(SLEEP).fit(sleep)
    for kind in ("parametric", "residual", "cases"):
        boot = bootstrap(model, data, n=10, kind=kind, random_state=0)
        own = bootstrap(plain, sleep, n=10, kind=kind, random_state=0)
        assert boot.draws.to_numpy() == pytest.approx(own.draws.to_numpy(), rel=1e-4, abs=1e-4)


def test_a_row_that_counts_twice_is_two_rows():
    data, twice = balanced(levels=8), np.r_[2, np.ones(47)]
    model = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data, sample_weight=twice)
    boot = bootstrap(model, data, n=20, sample_weight=twice, random_state=0)
    repeated = data.iloc[np.r_[0, 0:48]].reset_index(drop=True)
    own = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(repeated)
    other = bootstrap(own, repeated, n=20, random_state=0)
    assert boot.draws.to_numpy() == pytest.approx(other.draws.to_numpy(), rel=1e-5, abs=1e-5)
    with pytest.raises(ValueError, match="whole numbers"):
        half = np.r_[1.5, np.ones(47)]
        fitted = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data, sample_weight=half)
        bootstrap(fitted, data, n=20, sample_weight=half)


def test_columns_that_were_left_out_are_nan_in_every_draw(sleep):
    data = sleep.assign(Twice=2 * sleep["Days"])
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor("Reaction ~ Days + Twice + (1 | Subject)").fit(data)
    boot = bootstrap(model, data, n=60, random_state=0)
    assert boot.draws["Twice"].isna().all() and boot.draws["Days"].notna().all()
    assert np.isnan(boot.confint("Twice")["lower"].item())
    assert "not determined" in boot.confint("Twice").attrs["notes"]["Twice"]
    with pytest.warns(RankDeficiencyWarning):
        shortest = MixedLinearRegressor(
            "Reaction ~ Days + Twice + (1 | Subject)", rank_deficient="minimum_norm"
        ).fit(data)
    draws = bootstrap(shortest, data, n=60, random_state=0).draws
    assert draws["Twice"].to_numpy() == pytest.approx(2 * draws["Days"].to_numpy(), rel=1e-8)


def test_singular_fits_are_refitted_from_elsewhere():
    """theta = 0 has no slope: a search from there would never leave it."""
    data = datasets.load_dyestuff2().frame
    with pytest.warns(SingularFitWarning):
        model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(data)
    boot = bootstrap(model, data, n=200, random_state=0)
    assert 0.35 < boot.singular_share < 0.8
    assert (boot.draws["sd_(Intercept)|Batch"] > 0.1).sum() > 20
    assert f"{100 * boot.singular_share:.3g} % of the refits are singular" in repr(boot)


# Levels


def nested():
    rng = np.random.default_rng(4)
    school = np.repeat(np.arange(6), 12)
    pupil = np.repeat(np.arange(24), 3)
    item = np.tile(np.arange(3), 24)
    y = rng.standard_normal(6)[school] + rng.standard_normal(24)[pupil] + item
    y = y + rng.standard_normal(3)[item] + 0.5 * rng.standard_normal(72)
    return pd.DataFrame({"y": y, "school": school, "pupil": pupil, "item": item})


def test_levels_that_are_drawn_twice_are_two_levels():
    data = nested()
    formula = "y ~ 1 + (1 | school) + (1 | pupil) + (1 | item)"
    model = quietly(MixedLinearRegressor(formula).fit, data)
    found = []

    def counts(own):
        found.append(own)
        sizes = [len(own.random_effects_[g]) for g in ("school", "pupil", "item")]
        return [*sizes, own.n_obs_, own.random_effects_["item"].index.isin([0, 1, 2]).all()]

    draws = bootstrap(model, data, n=5, kind="cases", by="school", statistic=counts).draws
    assert (draws.to_numpy() == [6, 24, 3, 72, 1]).all()
    draws = bootstrap(model, data, n=5, kind="cases", by="pupil", statistic=counts, random_state=0)
    draws = draws.draws.to_numpy()
    assert (draws[:, 1:] == [24, 3, 72, 1]).all() and (draws[:, 0] <= 6).all()
    with pytest.raises(ValueError, match=r"crossed: name the one to draw, by="):
        bootstrap(model, data, n=5, kind="cases")


def test_new_rows_are_of_no_level_that_was_copied(model, sleep):
    """Predictions of refits to copied levels are those of the population, not of wrong levels."""

    def predictions(own):
        whole = quietly(own.predict, sleep[:3])
        return whole - own.predict(sleep[:3], random_effects=False)

    boot = bootstrap(model, sleep, n=4, kind="cases", statistic=predictions, random_state=0)
    assert (boot.draws.to_numpy() == 0).all() and (boot.estimate != 0).all()


def test_rows_within_levels_are_drawn_where_that_is_asked(sleep, model):
    whole = bootstrap(model, sleep, n=100, kind="cases", random_state=0)
    within = bootstrap(model, sleep, n=100, kind="cases", within=True, random_state=0)
    assert within.std_error["Days"] > whole.std_error["Days"]
    ols = MixedLinearRegressor("Reaction ~ Days").fit(sleep)
    rows = bootstrap(ols, sleep, n=300, kind="cases", random_state=0)
    X = np.column_stack([np.ones(180), sleep["Days"]])
    e = sleep["Reaction"] - X @ np.linalg.lstsq(X, sleep["Reaction"], rcond=None)[0]
    bread = np.linalg.inv(X.T @ X)
    robust = np.sqrt(np.diag(bread @ (X.T * np.square(e.to_numpy())) @ X @ bread))
    assert rows.std_error[:2].to_numpy() == pytest.approx(robust, rel=4 / np.sqrt(600))


def test_a_category_that_was_not_drawn_is_nan_there():
    data = nested().assign(region=lambda d: np.where(d["school"] == 0, "a", "b"))
    model = quietly(
        MixedLinearRegressor("y ~ region + (1 | school) + (1 | school:pupil)").fit, data
    )
    boot = bootstrap(model, data, n=60, kind="cases", random_state=0)
    missing = boot.draws["region[T.b]"].isna()
    assert 5 < missing.sum() < 50 and not boot.n_failed
    assert boot.summary(level=0.8)["n"]["region[T.b]"] == 60 - missing.sum()


def test_structured_terms_and_related_levels():
    rng = np.random.default_rng(1)
    g, t = np.repeat(np.arange(15), 8), np.tile(np.arange(4).repeat(2), 15)
    L = np.linalg.cholesky(0.7 ** np.abs(np.subtract.outer(range(4), range(4))))
    b = rng.standard_normal((15, 4)) @ L.T
    data = pd.DataFrame({"g": g, "t": t, "y": b[g, t] + 0.5 * rng.standard_normal(120)})
    model = MixedLinearRegressor("y ~ 1 + ar1(0 + C(t) | g)").fit(data)
    for kind in ("parametric", "residual", "cases"):
        boot = bootstrap(model, data, n=60, kind=kind, random_state=0)
        assert list(boot.draws) == ["Intercept", "sd|g", "rho|g", "sigma"]
        assert (np.abs(boot.bias) < boot.std_error).all()
    related = pd.DataFrame(0.5 + 0.5 * np.eye(15), index=range(15), columns=range(15))
    model = MixedLinearRegressor("y ~ 1 + (1 | g)", relationship={"g": related}).fit(data)
    boot = bootstrap(model, data, n=200, random_state=0)
    sd = model.standard_errors_["Intercept"]
    assert boot.std_error["Intercept"] == pytest.approx(sd, rel=0.25)
    with pytest.raises(ValueError, match="those of 'g' are related"):
        bootstrap(model, data, kind="residual")
    for by in (None, "g"):
        with pytest.raises(ValueError, match="levels of 'g' are related"):
            bootstrap(model, data, kind="cases", by=by)
    assert bootstrap(model, data, n=3, kind="cases", by="t", random_state=0).n_failed == 0


# Beside lme4


@pytest.mark.parametrize("name", ["sleepstudy", "sleepstudy_conditional", "penicillin", "cbpp"])
def test_moments_of_boot_mer(name):
    """lme4's bootMer: means and standard deviations within 4 Monte-Carlo standard errors."""
    ref = json.loads((FOLDER / "bootstrap.json").read_text())[name]
    estimator, load = MODELS[name.removesuffix("_conditional")]
    data, n = load().frame, 300 if name == "cbpp" else 1000
    effects = "conditional" if name.endswith("conditional") else "new"
    boot = bootstrap(estimator.fit(data), data, n=n, random_effects=effects, random_state=7)
    place = {_our_name(key): key for key in ref["sd"]}
    assert set(boot.draws) == set(place)
    for own, key in place.items():
        sd, kurtosis = ref["sd"][key], max(stats.kurtosis(boot.draws[own].dropna()), 0.0)
        apart = 4 * np.sqrt(1 / n + 1 / ref["n"])
        assert boot.draws[own].mean() == pytest.approx(ref["mean"][key], abs=apart * sd)
        allowed = apart * np.sqrt((2 + kurtosis) / 4)
        assert boot.std_error[own] == pytest.approx(sd, rel=allowed)
    zero = (boot.draws.filter(like="sd_") < 1e-3).any(axis=1).mean()
    assert zero == pytest.approx(ref["singular"], abs=0.03)


def _our_name(key):
    if key == "(Intercept)":
        return "Intercept"
    return f"period[T.{key[-1]}]" if key.startswith("period") else key


# Generalised models


def test_trials_are_counts_or_weights(cbpp):
    trials = cbpp.assign(p=cbpp["incidence"] / cbpp["size"])
    formula = "p ~ period + (1 | herd)"
    rates = MixedGLMRegressor(formula, family="binomial", prior_weights="size").fit(trials)
    counts = MixedGLMRegressor(CBPP, family="binomial").fit(cbpp)
    own = bootstrap(rates, trials, n=5, random_state=0).draws.to_numpy()
    other = bootstrap(counts, cbpp, n=5, random_state=0).draws.to_numpy()
    assert own == pytest.approx(other, abs=1e-5)


def test_rows_of_a_generalised_model_that_count_twice(cbpp):
    twice = np.r_[2, np.ones(55)]
    model = MixedGLMRegressor(CBPP, family="binomial").fit(cbpp, sample_weight=twice)
    repeated = cbpp.iloc[np.r_[0, 0:56]].reset_index(drop=True)
    own = MixedGLMRegressor(CBPP, family="binomial").fit(repeated)
    boot = bootstrap(model, cbpp, n=4, sample_weight=twice, random_state=0)
    other = bootstrap(own, repeated, n=4, random_state=0)
    assert boot.draws.to_numpy() == pytest.approx(other.draws.to_numpy(), abs=1e-4)


def test_labels_and_families():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(12), 20), rng.standard_normal(240)
    eta = 0.5 * x + 0.8 * rng.standard_normal(12)[g]
    outcome = np.where(rng.random(240) < 1 / (1 + np.exp(-eta)), "b", "a")
    data = pd.DataFrame({"x": x, "g": g, "y": outcome})
    labels = MixedLogisticClassifier("y ~ x + (1 | g)").fit(data)

    def chance(own):
        return own.predict_proba(data[:2])[:, 1]

    boot = bootstrap(labels, data, n=40, statistic=chance, random_state=0)
    assert boot.draws.mean().to_numpy() == pytest.approx(chance(labels), abs=0.15)
    mean = np.exp(1 + eta)
    counts = {
        "poisson": rng.poisson(mean),
        "negative_binomial": rng.negative_binomial(2, 2 / (2 + mean)),
    }
    for family, data["n"] in counts.items():
        model = MixedGLMRegressor("n ~ x + (1 | g)", family=family).fit(data)
        boot = bootstrap(model, data, n=40, random_state=0)
        assert boot.bias["x"] == pytest.approx(0, abs=4 * boot.std_error["x"] / np.sqrt(40))
        assert boot.std_error["x"] == pytest.approx(model.standard_errors_["x"], rel=0.5)


def test_quadrature_and_joint_mode(cbpp):
    for n_agq in (0, 5):
        model = MixedGLMRegressor(CBPP, family="binomial", n_agq=n_agq).fit(cbpp)
        refits = refits_of(model, cbpp, None, None, None, "test")
        [y] = responses(refits, 1)
        own = MixedGLMRegressor(CBPP, family="binomial", n_agq=n_agq).fit(cbpp.assign(incidence=y))
        assert refits.of_response(y).deviance == pytest.approx(own.deviance_, abs=1e-7)


def test_separated_refits_are_told(cbpp):
    model = MixedGLMRegressor(CBPP, family="binomial").fit(cbpp)
    with pytest.warns(BootstrapWarning, match="outcomes separate in"):
        boot = bootstrap(model, cbpp, n=120, kind="cases", random_state=1)
    assert 0 < boot.separated.sum() < 20


# Limits


def test_limits_by_hand():
    draws, z = np.arange(1.0, 100.0), stats.norm.ppf(0.975)
    assert limits_by("percentile", draws, 40.0, 0.9)[:2] == pytest.approx((5, 95))
    assert limits_by("basic", draws, 40.0, 0.9)[:2] == pytest.approx((80 - 95, 80 - 5))
    center, half = 80 - 50, z * draws.std(ddof=1)
    assert limits_by("normal", draws, 40.0, 0.95)[:2] == pytest.approx(
        (center - half, center + half)
    )
    symmetric = limits_by("bca", draws, 50.0, 0.9, 0.0)[:2]
    assert symmetric == pytest.approx(limits_by("percentile", draws, 50.0, 0.9)[:2])


def test_bca_of_a_mean_is_that_of_scipy():
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.exponential(size=40)})
    model = MixedLinearRegressor("y ~ 1").fit(data)
    boot = bootstrap(model, data, n=800, kind="cases", random_state=0)
    own = boot.confint("Intercept", method="bca", level=0.9)
    theirs = stats.bootstrap(
        (data["y"].to_numpy(),), np.mean, n_resamples=20000, confidence_level=0.9, random_state=rng
    ).confidence_interval
    found = own[["lower", "upper"]].to_numpy()[0]
    assert found == pytest.approx(theirs, abs=0.25 * boot.std_error["Intercept"])
    e = data["y"] - data["y"].mean()
    skewness = np.sum(e**3) / (6 * np.sum(e**2) ** 1.5)
    assert acceleration(boot.left_out[:, 0]) == pytest.approx(skewness, rel=1e-6)


def test_bca_without_limits():
    draws = np.linspace(0, 1, 99)
    assert "above" in limits_by("bca", draws, -1.0, 0.9, 0.0)[2]
    assert "three levels" in limits_by("bca", draws, 0.5, 0.9, acceleration(np.ones(2)))[2]
    assert "too large" in limits_by("bca", draws, 0.5, 0.9, 0.9)[2]
    assert "most extreme" in limits_by("bca", draws, 0.05, 0.9, 0.0)[2]
    assert np.isnan(limits_by("percentile", np.full(99, np.nan), 0.5, 0.9)[0])


def test_tails_need_draws(model, sleep, boot):
    assert [draws_needed(level) for level in (0.5, 0.9, 0.95, 0.999)] == [3, 19, 39, 1999]
    with pytest.raises(ValueError, match="1999 draws at least, and there are 400"):
        boot.confint(level=0.999)
    assert boot.confint(level=0.999, method="normal").notna().all(axis=None)
    few = bootstrap(model, sleep, n=10, random_state=0)
    assert "Parametric bootstrap, 10 refits" in repr(few)


def test_the_door_of_the_estimator(model, sleep):
    own = model.confint(["Days", "sigma"], method="bootstrap", X=sleep, random_state=0)
    boot = bootstrap(model, sleep, random_state=0)
    pd.testing.assert_frame_equal(own, boot.confint(["Days", "sigma"]))
    with pytest.raises(ValueError, match="draws new responses for the data of the fit: give X"):
        model.confint(method="bootstrap")


def test_percentile_limits_cover():
    """40 simulated data sets: 95 % limits of the mean miss about two of them."""
    missed = 0
    for seed in range(40):
        data = balanced(levels=15, rows=4, seed=seed)
        model = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data)
        limits = bootstrap(model, data, n=99, random_state=seed).confint("Intercept")
        missed += not limits["lower"].item() < 5.0 < limits["upper"].item()
    assert missed <= 9


def test_crossed_factors_have_no_acceleration_but_of_a_named_one():
    data = nested()
    model = quietly(MixedLinearRegressor("y ~ 1 + (1 | pupil) + (1 | item)").fit, data)
    with pytest.raises(ValueError, match="with crossed factors name one"):
        bootstrap(model, data, n=40, random_state=0).confint(method="bca")
    boot = bootstrap(model, data, n=40, by="pupil", random_state=0)
    assert boot.left_out.shape == (24, 4)
    assert boot.confint("sigma", method="bca").notna().all(axis=None)
    kept = pickle.loads(pickle.dumps(boot))
    limits = [own.confint("sigma", method="bca") for own in (kept, boot)]
    pd.testing.assert_frame_equal(*limits)
    fresh = pickle.loads(pickle.dumps(bootstrap(model, data, n=40, by="pupil", random_state=0)))
    with pytest.raises(ValueError, match="before it is pickled"):
        fresh.confint(method="bca")


def test_summary_and_text(boot, model):
    table = boot.summary()
    assert list(table) == ["estimate", "bias", "std_error", "lower", "upper", "n"]
    estimates = model.confint()["estimate"].to_numpy()
    assert table["estimate"].to_numpy() == pytest.approx(estimates, rel=1e-4)
    assert list(table.index) == list(model.confint().index)
    assert "Parametric bootstrap, 400 refits; percentile intervals of level 0.95" in repr(boot)
    assert "<table" in boot._repr_html_()
    with pytest.raises(ValueError, match="method must be one of"):
        boot.confint(method="studentized")
    with pytest.raises(ValueError, match="did you mean 'Days'"):
        boot.confint("days")


# Statistics and failures


def test_statistics_of_the_user(model, sleep):
    def slope(own):
        return own.fixed_effects_["Days"]

    number = bootstrap(model, sleep, n=5, statistic=slope, random_state=0)
    assert list(number.draws) == ["slope"]
    plain = bootstrap(model, sleep, n=5, random_state=0)
    assert number.draws["slope"].to_numpy() == pytest.approx(plain.draws["Days"].to_numpy())
    series = bootstrap(model, sleep, n=5, statistic=lambda m: m.icc(), random_state=0)
    assert list(series.draws) == ["adjusted", "unadjusted"]
    array = bootstrap(model, sleep, n=5, statistic=lambda m: m.predict(sleep[:2]), random_state=0)
    assert list(array.draws) == ["statistic[0]", "statistic[1]"]
    pairs = {"a": 1, "b": 2}
    named = bootstrap(model, sleep, n=5, statistic=lambda m: pairs, random_state=0)
    assert (named.draws.to_numpy() == [1, 2]).all()
    for wrong, what in ((3, "function of a fitted"), (lambda m: "x", "must return a number")):
        with pytest.raises(TypeError, match=what):
            bootstrap(model, sleep, n=5, statistic=wrong)


def test_failures_are_counted_and_told(model, sleep):
    def planted(own):
        if own is not model and own.sigma_ > 26:
            raise RuntimeError("planted")
        return own.sigma_

    with pytest.warns(
        BootstrapWarning, match=r"of 60 refits failed: statistic: RuntimeError: planted"
    ):
        boot = bootstrap(model, sleep, n=60, statistic=planted, random_state=0)
    failed = boot.draws["planted"].isna()
    assert 0 < boot.n_failed == failed.sum() < 60
    assert list(boot.failures.index) == list(np.flatnonzero(failed))
    assert boot.summary()["n"].item() == 60 - boot.n_failed
    assert "failed: statistic: RuntimeError: planted" in repr(boot)

    def always(own):
        if own is model:
            return 1.0
        raise RuntimeError("planted")

    with pytest.raises(ValueError, match="every refit failed: statistic: RuntimeError"):
        bootstrap(model, sleep, n=3, statistic=always)


def test_refits_that_are_no_fits_are_failures():
    """Cases of two levels: a response that is constant, and rows without a level in common."""
    data = pd.DataFrame({"y": [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 1.5], "g": list("aaaabbbb")})
    model = MixedLinearRegressor("y ~ 1 + (1 | g)").fit(data)
    with pytest.warns(
        BootstrapWarning, match=r"refits failed: ValueError: the response is constant"
    ):
        boot = bootstrap(model, data, n=60, kind="cases", random_state=0)
    assert 5 < boot.n_failed < 30


def test_refits_without_convergence_are_told(model, sleep):
    short = MixedLinearRegressor(SLEEP).fit(sleep)
    short.max_iter, short.tol = 1, 1e-12
    with pytest.warns(BootstrapWarning, match="have not converged; their draws count"):
        boot = bootstrap(short, sleep, n=20, kind="cases", random_state=0)
    assert boot.n_failed == 0 and boot.draws.notna().all(axis=None)
    assert (~boot.converged).sum() > 10


# Bad input


def test_other_data_are_refused(model, sleep):
    with pytest.raises(ValueError, match=r"bootstrap needs the data of the fit.*other response"):
        bootstrap(model, sleep.assign(Reaction=sleep["Reaction"] + 1), n=5)
    with pytest.raises(ValueError, match="other values in X"):
        bootstrap(model, sleep.assign(Days=sleep["Days"] + sleep["Days"] ** 2), n=5)
    with pytest.raises(ValueError, match="other values in X"):
        bootstrap(model, sleep.assign(Subject=np.roll(sleep["Subject"], 3)), n=5)
    with pytest.raises(ValueError, match="other rows"):
        bootstrap(model, sleep[:100], n=5)


def test_wrong_arguments(model, sleep):
    for wrong in (0, 1, 2.5, True):
        with pytest.raises(ValueError, match="n must be an integer of at least 2"):
            bootstrap(model, sleep, n=wrong)
    with pytest.raises(ValueError, match="kind must be one of 'parametric'"):
        bootstrap(model, sleep, kind="wild")
    with pytest.raises(ValueError, match="random_effects must be one of 'new'"):
        bootstrap(model, sleep, random_effects=True)
    with pytest.raises(ValueError, match="'conditional' belongs to kind='parametric', got"):
        bootstrap(model, sleep, kind="residual", random_effects="conditional")
    with pytest.raises(ValueError, match="within=True belongs to kind='cases', got"):
        bootstrap(model, sleep, within=True)
    with pytest.raises(ValueError, match="is not fitted"):
        bootstrap(MixedLinearRegressor(SLEEP), sleep)
    with pytest.raises(TypeError, match="takes a fitted mixed model"):
        bootstrap(sleep, sleep)
    with pytest.raises(ValueError, match="'Subjekt' is no grouping factor"):
        bootstrap(model, sleep, kind="cases", by="Subjekt")
    with pytest.raises(ValueError, match="has one level"):
        bootstrap(model, sleep.assign(one=1), kind="cases", by=np.ones(180))


def test_kinds_that_a_model_has_not(cbpp):
    model = MixedGLMRegressor(CBPP, family="binomial").fit(cbpp)
    with pytest.raises(ValueError, match="residuals of one distribution"):
        bootstrap(model, cbpp, kind="residual")
    few = balanced(levels=3, rows=8).assign(x=np.tile(np.arange(8.0), 3))
    slopes = quietly(MixedLinearRegressor("y ~ 1 + (x + I(x ** 2) | g)").fit, few)
    with pytest.raises(ValueError, match="'g' has 3 for 3 effects"):
        bootstrap(slopes, few, kind="residual")


def test_models_from_files_are_refitted_to_the_data(model, sleep, boot):
    loaded = pickle.loads(pickle.dumps(model))
    again = bootstrap(loaded, sleep, n=400, random_state=1)
    assert again.draws.to_numpy() == pytest.approx(boot.draws.to_numpy(), abs=1e-6)


def test_nonlinear_models_are_refused():
    data = datasets.load_orange().frame
    model = MixedNonlinearRegressor(
        "circumference ~ SSlogis(age, Asym, xmid, scal) ~ (Asym | Tree)"
    ).fit(data)
    with pytest.raises(TypeError, match="is for linear and generalised mixed models"):
        bootstrap(model, data)


def test_progress_is_printed(model, sleep, capsys):
    bootstrap(model, sleep, n=130, random_state=0, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("bootstrap: 130 of 130 refits") and 2 <= len(lines) <= 20
    bootstrap(model, sleep, n=130, random_state=0)
    assert capsys.readouterr().out == ""


def test_an_interrupt_leaves_everything_as_it_was(model, sleep):
    def interrupted(own):
        if own is not model:
            raise KeyboardInterrupt
        return 1.0

    before = dict(vars(model))
    with pytest.raises(KeyboardInterrupt):
        bootstrap(model, sleep, n=5, statistic=interrupted)
    assert vars(model) == before
