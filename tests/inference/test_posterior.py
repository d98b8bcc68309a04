"""Posterior draws beside Stan, brute force and simulation, and what is refused."""

import json
import pickle
import sys
import warnings
from copy import copy
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import (
    load_cbpp,
    load_dyestuff,
    load_dyestuff2,
    load_pastes,
    load_penicillin,
    load_sleepstudy,
)
from skmixed.exceptions import (
    PosteriorWarning,
    RankDeficiencyWarning,
    SingularFitWarning,
    UnseenGroupsWarning,
)
from skmixed.inference import Posterior, Prior, importance, posterior
from skmixed.inference.posterior_draws import highest_density
from skmixed.linalg import stacked
from skmixed.models.deviance import ProfiledDeviance

STAN = Path(__file__).parents[1] / "data" / "posterior"
SLOPES = "Reaction ~ Days + (Days | Subject)"
STAN_CASES = {
    "sleepstudy_slopes": (SLOPES, load_sleepstudy, "Subject"),
    "dyestuff": ("Yield ~ 1 + (1 | Batch)", load_dyestuff, "Batch"),
    "dyestuff2": ("Yield ~ 1 + (1 | Batch)", load_dyestuff2, "Batch"),
}
# Where our draws are in the order of Stan's names.
PLACES = {
    5: {"beta[1]": 0, "beta[2]": 1, "tau[1]": 2, "C[2,1]": 3, "tau[2]": 4, "sigma": 5},
    2: {"beta[1]": 0, "tau[1]": 1, "sigma": 2},
}


@pytest.fixture(scope="module")
def sleep():
    return MixedLinearRegressor(SLOPES).fit(load_sleepstudy().frame)


@pytest.fixture(scope="module")
def post(sleep):
    return posterior(sleep, random_state=0)


@pytest.fixture(scope="module", params=STAN_CASES)
def stan(request):
    formula, load, group = STAN_CASES[request.param]
    reml = request.param != "dyestuff2"  # the posterior knows nothing of it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        model = MixedLinearRegressor(formula, reml=reml).fit(load().frame)
    reference = json.loads((STAN / f"{request.param}.json").read_text())
    return posterior(model, random_state=1), reference, group


# Beside other ways to the same numbers


def test_moments_and_quantiles_are_those_of_stan(stan):
    post, reference, _ = stan
    table = post.summary()
    places = PLACES[5 if len(table) == 6 else 2]
    for row in reference["parameters"]:
        if row["name"] not in places:
            continue
        own, x = table.iloc[places[row["name"]]], post.draws.iloc[:, places[row["name"]]]
        assert abs(own["mean"] - row["mean"]) < 4 * np.hypot(own["mcse"], row["se_mean"])
        n = 1 / own["ess"] + 1 / row["n_eff"]
        assert abs(np.log(own["sd"] / row["sd"])) < 0.15
        for q in ("2.5%", "5%", "25%", "50%", "75%", "95%", "97.5%"):
            p = float(q[:-1]) / 100
            assert abs((x <= row[q]).mean() - p) < 4 * np.sqrt(p * (1 - p) * n), (row["name"], q)


def test_effects_are_those_of_stan(stan):
    post, reference, group = stan
    b = post.effects(group)
    rows = {row["name"]: row for row in reference["effects"]}
    assert b.shape[1] * b.shape[2] == len(rows)
    for i in range(b.shape[2]):
        for level in range(b.shape[1]):
            row, x = rows[f"b[{i + 1},{level + 1}]"], b[:, level, i]
            error = np.hypot(x.std() / np.sqrt(min(post.ess, len(x))), row["se_mean"])
            assert abs(x.mean() - row["mean"]) < 4.5 * error
            assert x.std() == pytest.approx(row["sd"], rel=0.15)


def test_one_variance_beside_a_grid():
    """Means over a grid of (tau, sigma), by the dense density of contrasts."""
    data = load_dyestuff().frame
    model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(data)
    prior = Prior(sd=("half_t", 3, 50.0), sigma=("half_normal", 60.0))
    table = posterior(model, random_state=2, prior=prior).summary()
    batch = np.eye(6)[pd.factorize(data["Batch"])[0]]
    values, vectors = np.linalg.eigh(batch @ batch.T)
    one = vectors.T @ np.ones(30)
    y = vectors.T @ data["Yield"].to_numpy(dtype=float)
    tau, sigma = np.meshgrid(np.linspace(0.25, 500, 1000), np.linspace(20, 140, 600))
    V = tau[..., None] ** 2 * np.maximum(values, 0) + sigma[..., None] ** 2
    information = (one**2 / V).sum(axis=-1)
    mean = (one * y / V).sum(axis=-1) / information
    squares = ((y - mean[..., None] * one) ** 2 / V).sum(axis=-1)
    log = -0.5 * (np.log(V).sum(axis=-1) + np.log(information) + squares)
    log += -2.0 * np.log1p((tau / 50) ** 2 / 3) - 0.5 * (sigma / 60) ** 2
    p = np.exp(log - log.max())
    for name, x in (("sd_(Intercept)|Batch", tau), ("sigma", sigma), ("Intercept", mean)):
        expected = (p * x).sum() / p.sum()
        assert abs(table.loc[name, "mean"] - expected) < 4 * table.loc[name, "mcse"], name


def test_given_the_variances_effects_are_normal_about_their_modes(sleep):
    """Tight priors hold the variances: moments of b and beta are those of the mixed model."""
    sd = sleep.confint().loc[:, "estimate"]
    near = {name: (value, 1e-3) for name, value in sd.items() if name in ("Intercept", "Days")}
    tight = Prior(fixed=near)
    post = posterior(sleep, random_state=0, prior=tight)
    lines = post.draws[["Intercept", "Days"]].to_numpy()
    assert np.abs(lines - [sd["Intercept"], sd["Days"]]).max() < 0.01
    total = post.effects("Subject") + lines[:, None]
    mean = post.predict(load_sleepstudy().frame[:10])
    at = np.arange(10)
    np.testing.assert_allclose(mean, total[:, :1, 0] + total[:, :1, 1] * at, atol=1e-6)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.parametrize(
    ("formula", "load"),
    [
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", load_penicillin),
        ("strength ~ 1 + (1 | batch/cask)", load_pastes),
        ("Reaction ~ Days + (Days || Subject)", load_sleepstudy),
    ],
)
def test_crossed_nested_and_split_terms(formula, load):
    model = MixedLinearRegressor(formula).fit(load().frame)
    post = posterior(model, random_state=0)
    assert post.pareto_k < 0.5 and post.ess > 2000
    table, estimates = post.summary(), model.confint()["estimate"]
    assert list(table.index) == list(estimates.index)
    # posterior means of effects are near their modes, which hold the variances at one value
    for group, modes in model.random_effects_.items():
        b = post.effects(group)
        assert b.shape == (4000, *np.shape(modes))
        gap = np.abs(b.mean(axis=0) - np.asarray(modes))
        assert (gap < 0.5 * b.std(axis=0) + 1e-9).all()


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.parametrize("kind", ["ar1", "cs", "homcs", "toep", "homdiag"])
def test_structured_terms(kind):
    data = load_sleepstudy().frame.assign(d=lambda t: t["Days"] % 3)
    model = MixedLinearRegressor(f"Reaction ~ Days + {kind}(0 + C(d) | Subject)").fit(data)
    post = posterior(model, 500, random_state=0)
    assert post.effects("Subject").shape == (500, 18, 3)
    assert list(post.draws) == list(model.confint().index)
    assert post.pareto_k < 0.7
    cors = [name for name in post.draws if name.startswith("rho")]
    assert post.draws[cors].abs().max().max() <= 1 if cors else kind == "homdiag"


def test_related_levels():
    rng = np.random.default_rng(0)
    K = pd.DataFrame(np.eye(12) + 0.5 * np.kron(np.eye(6), 1 - np.eye(2)))
    names = [f"a{k:02d}" for k in range(12)]
    K.index = K.columns = names
    b = np.linalg.cholesky(K.to_numpy()) @ rng.standard_normal(12)
    code = np.repeat(np.arange(12), 5)
    data = pd.DataFrame({"animal": np.array(names)[code], "x": rng.standard_normal(60)})
    data["y"] = data["x"] + 2 * b[code] + rng.standard_normal(60)
    model = MixedLinearRegressor("y ~ x + (1 | animal)", relationship={"animal": K}).fit(data)
    post = posterior(model, 1000, random_state=0)
    assert post.effects("animal").shape == (1000, 12, 1)
    mean = post.predict(data)
    own = post.draws[["Intercept", "x"]].to_numpy() @ np.stack([np.ones(60), data["x"]])
    np.testing.assert_allclose(mean, own + post.effects("animal")[:, code, 0], atol=1e-8)


def test_weights_and_aliased_columns():
    data = load_sleepstudy().frame.assign(hours=lambda t: 24.0 * t["Days"], w=2.0)
    formula = "Reaction ~ Days + hours + (1 | Subject)"
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor(formula, prior_weights="w").fit(data)
    post = posterior(model, 2000, random_state=0)
    assert "hours" not in post.draws and "hours" in post.notes[1]
    plain = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(data)
    other = posterior(plain, 2000, random_state=0)
    # sigma^2 / w is the variance of a row
    ratio = post.draws["sigma"].mean() / other.draws["sigma"].mean()
    assert ratio == pytest.approx(np.sqrt(2), rel=0.02)
    spread = post.predict(data, "observation").std(axis=0).mean()
    assert spread == pytest.approx(other.predict(data, "observation").std(axis=0).mean(), rel=0.05)


# Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788)


def ranks(n_sims, n_draws, seed):
    """Ranks (n_sims, parameters) of the true parameters among their draws."""
    rng = np.random.default_rng(seed)
    prior = Prior(
        fixed={"Intercept": (0.0, 2.0), "x": (1.0, 1.0)},
        sd=("half_normal", 1.5), cor=2.0, sigma=("half_t", 4, 1.0),
    )  # fmt: skip
    code = np.repeat(np.arange(7), 5)
    x = np.tile(np.linspace(-1, 1, 5), 7)
    found = []
    for _ in range(n_sims):
        beta = rng.normal([0.0, 1.0], [2.0, 1.0])
        sd = np.abs(rng.normal(0, 1.5, 2))
        rho = 2 * rng.beta(2, 2) - 1  # LKJ(2) of one correlation
        sigma = abs(rng.standard_t(4))
        L = sd[:, None] * np.array([[1, 0], [rho, np.sqrt(1 - rho**2)]])
        b = rng.standard_normal((7, 2)) @ L.T
        y = beta[0] + b[code, 0] + (beta[1] + b[code, 1]) * x + sigma * rng.standard_normal(35)
        data = pd.DataFrame({"y": y, "x": x, "g": code})
        model = MixedLinearRegressor("y ~ x + (x | g)").fit(data)
        post = posterior(model, n_draws, prior=prior, random_state=rng)
        truth = np.array([*beta, sd[0], rho, sd[1], sigma, b[0, 1]])
        draws = np.column_stack([post.draws, post.effects("g")[:, 0, 1]])
        found.append((draws < truth).sum(axis=0))
    return np.array(found)


def check_uniform(found, n_draws, bins):
    """Chi-squared tests of ranks 0 to n_draws in bins, one for each parameter."""
    for own in found.T:
        counts = np.bincount(own * bins // (n_draws + 1), minlength=bins)
        expected = len(own) / bins
        assert chi2.sf(((counts - expected) ** 2 / expected).sum(), bins - 1) > 1e-4


CALIBRATION = (
    "ignore::skmixed.exceptions.SingularFitWarning",
    "ignore::skmixed.exceptions.PosteriorWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)


@pytest.mark.filterwarnings(*CALIBRATION)
def test_calibration():
    check_uniform(ranks(80, 99, 5), 99, 5)


@pytest.mark.slow
@pytest.mark.filterwarnings(*CALIBRATION)
def test_calibration_of_many():
    check_uniform(ranks(2000, 99, 6), 99, 20)


# Draws


def test_one_seed_one_answer(sleep, post):
    again = posterior(sleep, random_state=0)
    pd.testing.assert_frame_equal(again.draws, post.draws)
    np.testing.assert_allclose(
        again.effects("Subject"), post.effects("Subject"), rtol=1e-9, atol=1e-9
    )
    rows = load_sleepstudy().frame[:3]
    np.testing.assert_allclose(
        again.predict(rows, "observation"), post.predict(rows, "observation"), rtol=1e-9, atol=1e-9
    )
    assert not np.allclose(posterior(sleep, random_state=1).draws, post.draws)
    state = posterior(sleep, 50, random_state=np.random.RandomState(3)).draws
    pd.testing.assert_frame_equal(
        posterior(sleep, 50, random_state=np.random.RandomState(3)).draws, state
    )


def test_it_does_not_matter_whether_the_fit_is_by_ml(sleep, post):
    other = posterior(MixedLinearRegressor(SLOPES, reml=False).fit(load_sleepstudy().frame),
                      random_state=7).summary()  # fmt: skip
    own = post.summary()
    gap = np.abs(other["mean"] - own["mean"]) / np.hypot(other["mcse"], own["mcse"])
    assert (gap < 4).all()


def test_effects_belong_to_the_draws_of_the_fixed_effects(post):
    """Given all else the intercept and the mean of its effects are negatively correlated."""
    b = post.effects("Subject")[:, :, 0].mean(axis=1)
    x = post.draws["Intercept"]
    assert np.corrcoef(b, x)[0, 1] < -0.8
    assert (x + b).std() < 0.6 * x.std()


def test_blocks_of_draws_do_not_matter_to_what_is_kept(sleep, monkeypatch):
    module = Posterior.__module__
    post = posterior(sleep, 300, random_state=0)
    kept = post.effects("Subject")
    again = posterior(sleep, 300, random_state=0)
    monkeypatch.setattr(f"{module}._KEPT", 0)
    np.testing.assert_allclose(again.effects("Subject"), kept, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(again.effects("Subject"), kept, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(f"{module}._AT_A_TIME", 50 * 36)
    apart = posterior(sleep, 300, random_state=0).effects("Subject")
    assert apart.shape == kept.shape
    assert np.abs(apart.mean(axis=0) - kept.mean(axis=0)).max() < 6.0


def test_many_fixed_effects_are_drawn_without_keeping_roots(post, monkeypatch):
    monkeypatch.setattr(stacked, "_FEW_FIXED", 0)
    again = posterior(post._model, random_state=0)
    np.testing.assert_allclose(again.draws, post.draws, rtol=1e-6, atol=1e-6)


def test_summary(post):
    table = post.summary(0.9)
    assert list(table.columns) == ["mean", "sd", "median", "lower", "upper", "mcse", "ess"]
    x = post.draws["sigma"]
    row = table.loc["sigma"]
    assert ((x >= row["lower"]) & (x <= row["upper"])).mean() == pytest.approx(0.9, abs=1e-3)
    assert row["upper"] - row["lower"] <= np.diff(x.quantile([0.05, 0.95]))[0]
    assert row["mcse"] == pytest.approx(row["sd"] / np.sqrt(row["ess"]))
    assert (table["ess"] <= 4000).all() and (table["ess"] > 2000).all()
    assert table.loc["Days", "ess"] > table.loc["sigma", "ess"]  # drawn anew at every point


def test_standard_errors_are_those_of_repetition(sleep):
    means = [posterior(sleep, 400, random_state=s).summary() for s in range(40)]
    spread = np.std([t["mean"] for t in means], axis=0)
    told = np.mean([t["mcse"] for t in means], axis=0)
    assert (np.abs(np.log(spread / told)) < 0.5).all()


def test_highest_density_is_the_shortest_interval():
    x = np.array([0.0, 1.0, 1.1, 1.2, 1.3, 5.0, 9.0])
    assert highest_density(x, 0.5) == (1.0, 1.3)


def test_new_rows(sleep, post):
    rows = pd.DataFrame({"Days": [0.0, 3.0, 3.0, 5.0], "Subject": ["308", "new", "new", "other"]})
    mean = post.predict(rows)
    assert mean.shape == (4000, 4)
    b, beta = post.effects("Subject")[:, 0], post.draws[["Intercept", "Days"]].to_numpy()
    np.testing.assert_allclose(mean[:, 0], beta[:, 0] + b[:, 0], atol=1e-8)
    np.testing.assert_allclose(
        mean[:, 1], mean[:, 2], rtol=1e-9, atol=1e-9
    )  # one level, one effect
    expected = post.draws["sd_(Intercept)|Subject"] ** 2 + 9 * post.draws["sd_Days|Subject"] ** 2
    expected += 6 * post.draws.iloc[:, 2:5].prod(axis=1)
    spread = (mean[:, 1] - beta @ [1.0, 3.0]).var()
    assert spread == pytest.approx(expected.mean(), rel=0.12)
    seen = post.predict(rows, "observation")
    noise = seen - mean
    assert noise.std() == pytest.approx(post.draws["sigma"].mean(), rel=0.05)
    assert abs(np.corrcoef(noise[:, 1], noise[:, 2])[0, 1]) < 0.08
    np.testing.assert_allclose(
        post.predict(rows, random_effects=False), beta @ [[1, 1, 1, 1], [0, 3, 3, 5]], atol=1e-8
    )


def test_unseen_levels_as_the_model_has_it():
    data = load_sleepstudy().frame
    rows = pd.DataFrame({"Days": [0.0, 3.0], "Subject": ["308", "new"]})
    for setting in ("nan", "raise"):
        model = MixedLinearRegressor(SLOPES, unseen_groups=setting).fit(data)
        post = posterior(model, 100, random_state=0)
        if setting == "raise":
            with pytest.raises(ValueError, match="training data did not have"):
                post.predict(rows)
        else:
            assert np.isnan(post.predict(rows)).mean(axis=0).tolist() == [0.0, 1.0]
    post = posterior(MixedLinearRegressor(SLOPES).fit(data), 100, random_state=0)
    with pytest.warns(UnseenGroupsWarning) as told:
        post.predict(rows[1:])
    assert len(told) == 1


def test_missing_covariates_are_nan():
    data = load_sleepstudy().frame
    model = MixedLinearRegressor(SLOPES, missing="drop").fit(data)
    rows = data[:4].astype({"Days": float})
    rows.loc[rows.index[1], "Days"] = np.nan
    for kind in ("mean", "observation"):
        found = posterior(model, 50, random_state=0).predict(rows, kind)
        assert np.isnan(found).any(axis=0).tolist() == [False, True, False, False]


def test_a_model_with_groups_beside_x():
    data = load_sleepstudy().frame
    model = MixedLinearRegressor().fit(data[["Days"]], data["Reaction"], groups=data["Subject"])
    post = posterior(model, 200, random_state=0)
    found = post.predict(data[["Days"]][:2], groups=data["Subject"][:2])
    assert found.shape == (200, 2)


def test_text(post):
    text = str(post)
    assert text.startswith(f"Posterior of {SLOPES}: 4000 draws")
    assert "Importance weights: k = " in text and "sd_Days|Subject" in text
    assert post._repr_html_().startswith("<h4>Posterior of")
    few = str(posterior(post._model, 2, random_state=0))
    assert "2 draws" in few and "Limits need more draws." in few


def test_pickles_answer_as_before(post):
    other = pickle.loads(pickle.dumps(post))
    np.testing.assert_allclose(
        other.effects("Subject"), post.effects("Subject"), rtol=1e-9, atol=1e-9
    )


def test_verbose_tells_every_round(sleep, capsys, monkeypatch):
    posterior(sleep, 100, random_state=0, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[posterior]") for line in lines)
    assert any("round 3: 1000 points, worth" in line for line in lines)
    monkeypatch.setattr(sys.modules[posterior.__module__], "_DEAR", 0.0)
    post = posterior(sleep, 200, random_state=0, verbose=1)
    assert "50 of 200 points" in capsys.readouterr().out
    assert len(post.draws) == 200


# What is refused or told


def test_heavy_weights_warn(sleep, monkeypatch):
    monkeypatch.setattr(importance, "RELIABLE_K", -5.0)
    with pytest.warns(PosteriorWarning, match=r"k = .*above -5.00.*unusual values of \S"):
        post = posterior(sleep, 100, random_state=0)
    assert "not to be relied on" in str(post)


def test_too_few_levels_for_a_flat_prior():
    data = load_sleepstudy().frame
    two = data[data["Subject"].isin(["308", "309"])]
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(two)
    with pytest.raises(ValueError, match=r"have 1 \(2 levels\): .*half_t"):
        posterior(model)
    post = posterior(model, 200, prior=Prior(sd=("half_t", 3, 50.0)), random_state=0)
    assert post.effects("Subject").shape == (200, 2, 1)
    three = data[data["Subject"].isin(["308", "309", "310"])]
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(three)
    assert "no finite mean" in posterior(model, 100, random_state=0).notes[1]


def test_a_column_constant_within_levels_takes_their_contrasts():
    data = load_sleepstudy().frame
    three = data[data["Subject"].isin(["308", "309", "310"])]
    three = three.assign(age=three["Subject"].map({"308": 20.0, "309": 31.0, "310": 55.0}))
    model = MixedLinearRegressor("Reaction ~ Days + age + (1 | Subject)").fit(three)
    with pytest.raises(ValueError, match=r"have 1 \(3 levels\)"):
        posterior(model)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_many_flat_priors_need_many_contrasts():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"a": np.repeat(range(3), 6), "b": np.tile(np.repeat(range(3), 2), 3)})
    data["c"] = (data["a"] + data["b"]) % 3
    data["y"] = rng.standard_normal(18)
    model = MixedLinearRegressor("y ~ 1 + (1 | a) + (1 | b) + (1 | c)").fit(data)
    assert len(posterior(model, 50, random_state=0).draws) == 50  # 6 contrasts for 3


def test_other_models_are_refused(sleep):
    with pytest.raises(TypeError, match="takes a fitted MixedLinearRegressor, got int"):
        posterior(3)
    with pytest.raises(ValueError, match="not fitted: call fit first"):
        posterior(MixedLinearRegressor(SLOPES))
    glm = MixedGLMRegressor("incidence ~ period + (1 | herd)", family="poisson")
    with pytest.raises(TypeError, match=r"for linear mixed models.*confint"):
        posterior(glm.fit(load_cbpp().frame))
    with pytest.raises(ValueError, match="no random effects"):
        posterior(MixedLinearRegressor("Reaction ~ Days").fit(load_sleepstudy().frame))
    with pytest.raises(ValueError, match="cross-products of the data, which are not pickled"):
        posterior(pickle.loads(pickle.dumps(sleep)))


def test_another_objective_is_refused(sleep):
    class Other(ProfiledDeviance):
        """Some model of the residuals."""

    fit = sleep.result_
    values = {field.name: getattr(fit.objective, field.name) for field in fields(fit.objective)}
    model = copy(sleep)
    model.result_ = replace(fit, objective=Other(**values))
    with pytest.raises(ValueError, match="residuals that are independent"):
        posterior(model)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_a_range_is_refused():
    model = MixedLinearRegressor("Reaction ~ Days + expo(Days | Subject)")
    with pytest.raises(ValueError, match=r"posterior: the term expo.*confint.*bootstrap"):
        posterior(model.fit(load_sleepstudy().frame))


@pytest.mark.parametrize("n_draws", [0, -3, 2.5, "many", True])
def test_numbers_of_draws(sleep, n_draws):
    with pytest.raises(ValueError, match="n_draws must be a positive integer"):
        posterior(sleep, n_draws)


def test_other_arguments(sleep, post):
    with pytest.raises(TypeError, match="prior must be a Prior"):
        posterior(sleep, prior={"sd": "flat"})
    with pytest.raises(ValueError, match="no grouping factor 'subject', only 'Subject'"):
        post.effects("subject")
    with pytest.raises(ValueError, match="kind must be 'mean' or 'observation', got 'y'"):
        post.predict(load_sleepstudy().frame, "y")
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        post.summary(95)


def test_draws_that_are_too_few_for_a_level(sleep):
    post = posterior(sleep, 50, random_state=0)
    with pytest.raises(ValueError, match="n_draws=1000 or more"):
        post.summary(0.99)
    with pytest.warns(PosteriorWarning, match="n_draws=200 or more"):
        post.summary(0.95)
    post.summary(0.8)


# ArviZ


def test_arviz(post):
    pytest.importorskip("arviz_base")
    data = load_sleepstudy().frame
    tree = post.to_arviz(data)
    np.testing.assert_array_equal(tree["posterior"]["sigma"].values[0], post.draws["sigma"])
    effects = tree["posterior"]["effects|Subject"]
    assert effects.dims == ("chain", "draw", "level|Subject", "effect|Subject")
    np.testing.assert_allclose(effects.values[0], post.effects("Subject"), rtol=1e-9, atol=1e-9)
    assert tree["posterior_predictive"]["y"].shape == (1, 4000, 180)
    np.testing.assert_array_equal(tree["observed_data"]["y"], data["Reaction"])


def test_without_arviz_there_is_a_way_to_it(post, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ImportError, match="pip install 'scikit-mixed"):
        post.to_arviz()
