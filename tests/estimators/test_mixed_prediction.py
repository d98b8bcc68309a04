"""Prediction, intervals and simulation, against the joint covariance of responses and effects."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from skmixed import MixedLinearRegressor, RankDeficiencyWarning, UnseenGroupsWarning
from skmixed.datasets import load_machines, load_pastes, load_penicillin, load_sleepstudy
from skmixed.design import build_design

# data, formula, and columns that get unseen levels in the new rows
MODELS = {
    "single": (load_sleepstudy, "Reaction ~ Days + (Days | Subject)", ["Subject"]),
    "uncorrelated": (load_sleepstudy, "Reaction ~ Days + (Days || Subject)", ["Subject"]),
    "nested": (load_pastes, "strength ~ 1 + (1 | batch / cask)", ["cask"]),
    "new parent": (load_pastes, "strength ~ 1 + (1 | batch / cask)", ["batch"]),
    "crossed": (load_penicillin, "diameter ~ 1 + (1 | plate) + (1 | sample)", ["plate"]),
    "factor slopes": (load_machines, "score ~ Machine + (Machine | Worker)", ["Worker"]),
}


def _sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def sleep_model():
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(_sleep())


def _new_rows(frame, columns):
    """Rows of the training data, half of them with levels that it did not have."""
    new = frame.iloc[::4].copy()
    for name in columns:
        new[name] = new[name].astype(str)
        new.iloc[::2, new.columns.get_loc(name)] = "new"
    return new


def _joint(model, frame, new):
    """X, V of the training rows; X, cov(b'z, y) and var(b'z) of the new ones, from covariances_."""
    old_design, new_design = build_design(model.formula, frame), model.design_spec_.new(new)
    V = model.sigma_**2 * np.eye(len(frame))
    cross, prior = np.zeros((len(new), len(frame))), np.zeros(len(new))
    covariances = iter(model.result_.covariances)
    for old, term in zip(old_design.random, new_design.random, strict=True):
        G = next(covariances)
        V += (old.codes[:, None] == old.codes) * (old.z @ G @ old.z.T)
        cross += (term.codes[:, None] == old.codes) * (term.z @ G @ old.z.T)
        prior += np.einsum("ni,ij,nj->n", term.z, G, term.z)
    return old_design, V, new_design, cross, prior


@pytest.mark.parametrize(("load", "formula", "columns"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("reml", [True, False])
def test_mean_and_std(load, formula, columns, reml):
    """Best linear unbiased predictor and the variance of its error."""
    frame = load().frame
    model = MixedLinearRegressor(formula, reml=reml).fit(frame)
    new = _new_rows(frame, columns)
    old, V, design, cross, prior = _joint(model, frame, new)
    inverse = np.linalg.inv(V)
    info = old.X.T @ inverse @ old.X
    beta = np.linalg.solve(info, old.X.T @ inverse @ old.y)
    mean = design.X @ beta + cross @ inverse @ (old.y - old.X @ beta)
    rest = design.X - cross @ inverse @ old.X
    variance = prior - np.einsum("nm,mk,nk->n", cross, inverse, cross)
    variance += np.einsum("np,np->n", rest, np.linalg.solve(info, rest.T).T)

    found, std = model.predict(new, return_std=True)
    np.testing.assert_allclose(found, mean, rtol=1e-7)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-6)

    fixed, fixed_std = model.predict(new, random_effects=False, return_std=True)
    np.testing.assert_allclose(fixed, design.X @ beta, rtol=1e-7)
    np.testing.assert_allclose(
        fixed_std**2,
        np.einsum("np,np->n", design.X, np.linalg.solve(info, design.X.T).T),
        rtol=1e-6,
    )


def test_an_unseen_level_has_the_variance_between_levels(sleep_model):
    new = pd.DataFrame({"Days": [0.0, 4.0], "Subject": ["new", "new"]})
    _, std = sleep_model.predict(new, return_std=True)
    _, fixed = sleep_model.predict(new, random_effects=False, return_std=True)
    Z = np.column_stack([np.ones(2), new["Days"]])
    between = np.einsum("ni,ij,nj->n", Z, sleep_model.covariances_["Subject"].to_numpy(), Z)
    np.testing.assert_allclose(std**2, fixed**2 + between)


def test_one_level_of_a_nested_pair_is_known():
    """A new cask of a known batch is predicted with the batch's effect."""
    frame = load_pastes().frame
    model = MixedLinearRegressor("strength ~ 1 + (1 | batch / cask)").fit(frame)
    new = pd.DataFrame({"batch": ["A", "new"], "cask": ["new", "a"]})
    expected = model.intercept_ + np.array([model.random_effects_["batch"].loc["A"].iloc[0], 0.0])
    np.testing.assert_allclose(model.predict(new), expected)


def test_unseen_groups_population_nan_and_raise():
    frame = _sleep()
    new = pd.DataFrame({"Days": [1.0, 2.0, 3.0], "Subject": ["308", "new", "newer"]})
    formula = "Reaction ~ Days + (Days | Subject)"
    population = MixedLinearRegressor(formula).fit(frame)
    predicted = population.predict(new)
    np.testing.assert_allclose(predicted[1:], population.predict(new, random_effects=False)[1:])
    assert predicted[0] == population.predict(new[:1])[0]

    mean, std = (
        MixedLinearRegressor(formula, unseen_groups="nan").fit(frame).predict(new, return_std=True)
    )
    assert np.isnan(mean).tolist() == [False, True, True]
    assert np.isnan(std).tolist() == [False, True, True]

    strict = MixedLinearRegressor(formula, unseen_groups="raise").fit(frame)
    with pytest.raises(ValueError, match=r"2 rows have a level of 'Subject' .*'population'"):
        strict.predict(new)
    np.testing.assert_allclose(strict.predict(new[:1]), predicted[:1])
    np.testing.assert_allclose(
        strict.predict(new, random_effects=False), population.predict(new, random_effects=False)
    )


def test_fixed_effects_do_not_need_the_groups(sleep_model):
    expected = sleep_model.predict(_sleep(), random_effects=False)
    only_days = _sleep()[["Days"]]
    np.testing.assert_allclose(sleep_model.predict(only_days, random_effects=False), expected)


def test_offset_is_added():
    frame = _sleep().assign(known=np.arange(180.0))
    model = MixedLinearRegressor("Reaction ~ Days + offset(known) + (1 | Subject)").fit(frame)
    shifted = frame.assign(known=frame["known"] + 7)
    np.testing.assert_allclose(model.predict(shifted), model.predict(frame) + 7)
    by_hand = MixedLinearRegressor("Days + (1 | Subject)").fit(
        frame, frame["Reaction"] - frame["known"]
    )
    np.testing.assert_allclose(model.predict(frame), by_hand.predict(frame) + frame["known"])


def test_missing_rows_are_predicted_as_nan():
    frame = _sleep()
    frame.loc[[3, 50], "Days"] = np.nan
    model = MixedLinearRegressor("Days + (1 | Subject)", missing="drop")
    model.fit(frame, frame["Reaction"])
    assert model.n_obs_ == 178
    mean, std = model.predict(frame, return_std=True)
    assert np.flatnonzero(np.isnan(mean)).tolist() == [3, 50]
    assert np.flatnonzero(np.isnan(std)).tolist() == [3, 50]
    complete = frame.drop([3, 50])
    same = MixedLinearRegressor("Days + (1 | Subject)").fit(complete, complete["Reaction"])
    np.testing.assert_allclose(mean[~np.isnan(mean)], same.predict(complete))
    assert model.score(frame, frame["Reaction"]) == pytest.approx(
        same.score(complete, complete["Reaction"])
    )
    assert np.isnan(model.simulate(frame, random_state=0)).sum() == 2
    assert np.isnan(model.predict_interval(frame)).any(axis=1).sum() == 2


def test_missing_response_and_group():
    frame = _sleep()
    frame.loc[[0, 1], "Reaction"] = np.nan
    frame["Subject"] = frame["Subject"].astype(object)
    frame.loc[[2], "Subject"] = None
    model = MixedLinearRegressor("Days + (1 | Subject)", missing="drop")
    assert model.fit(frame, frame["Reaction"]).n_obs_ == 177
    population = model.predict(frame, random_effects=False)
    assert np.isfinite(population).all()
    assert model.predict(frame)[2] == pytest.approx(population[2])
    strict = MixedLinearRegressor("Days + (1 | Subject)", unseen_groups="raise")
    strict.fit(frame[3:], frame["Reaction"][3:])
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in Subject \(1\)"):
        strict.predict(frame)


def test_two_sided_score_drops_rows_without_response():
    frame = _sleep()
    frame.loc[[0, 1], "Reaction"] = np.nan
    model = MixedLinearRegressor("log(Reaction) ~ Days + (1 | Subject)", missing="drop").fit(frame)
    complete = frame.iloc[2:]
    assert model.score(frame) == pytest.approx(
        model.score(complete[["Days", "Subject"]], np.log(complete["Reaction"]))
    )


def test_score_replays_a_transform_of_the_response():
    """The centre of the training responses, not of the new ones."""
    frame = _sleep()
    model = MixedLinearRegressor("center(Reaction) ~ Days + (1 | Subject)").fit(frame)
    plain = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(frame)
    assert model.score(frame[:50]) == pytest.approx(plain.score(frame[:50]))


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals(sleep_model, level):
    new = _new_rows(_sleep(), ["Subject"])
    mean, std = sleep_model.predict(new, return_std=True)
    half = norm.ppf(0.5 + level / 2) * std
    found = sleep_model.predict_interval(new, level=level)
    np.testing.assert_allclose(found, np.column_stack([mean - half, mean + half]))
    half = norm.ppf(0.5 + level / 2) * np.sqrt(std**2 + sleep_model.sigma_**2)
    found = sleep_model.predict_interval(new, level=level, kind="observation")
    np.testing.assert_allclose(found, np.column_stack([mean - half, mean + half]))


def test_interval_of_an_observation_uses_its_prior_weight():
    frame = _sleep().assign(w=np.tile([1.0, 4.0], 90))
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", prior_weights="w").fit(frame)
    _, std = model.predict(frame, return_std=True)
    lower, upper = model.predict_interval(frame, level=0.9, kind="observation").T
    half = norm.ppf(0.95) * np.sqrt(std**2 + model.sigma_**2 / frame["w"])
    np.testing.assert_allclose(upper - lower, 2 * half)
    with pytest.raises(ValueError, match=r"depends on its prior weight: the data need .*'w'"):
        model.predict_interval(frame.drop(columns="w"), kind="observation")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": 1.0}, "level must lie between 0 and 1, got 1.0"),
        ({"level": 95}, "got 95"),
        ({"kind": "new"}, "kind must be 'mean' or 'observation', got 'new'"),
    ],
)
def test_interval_arguments(sleep_model, settings, message):
    with pytest.raises(ValueError, match=message):
        sleep_model.predict_interval(_sleep(), **settings)


def test_coverage_of_intervals():
    """95 % intervals of new observations hold about 95 % of them."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(60), 6)
    x = rng.normal(size=len(g))

    def responses(b):
        return 1 + x + b[g] + rng.normal(size=len(g))

    b = rng.normal(size=60)
    data = pd.DataFrame({"x": x, "g": g})
    model = MixedLinearRegressor("x + (1 | g)").fit(data, responses(b))
    lower, upper = model.predict_interval(data, kind="observation").T
    fresh = responses(b)
    assert 0.92 < np.mean((lower < fresh) & (fresh < upper)) < 0.98
    lower, upper = model.predict_interval(data.assign(g=g + 100), kind="observation").T
    other = responses(rng.normal(size=60))
    assert 0.92 < np.mean((lower < other) & (other < upper)) < 0.98


def test_predictions_of_shifted_covariates_keep_their_digits():
    """x + 1e12 leaves an intercept near -1e13, which must not cancel in the prediction."""
    frame = _sleep()
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(frame)
    shifted = frame.assign(Days=frame["Days"] + 2.0**40)
    other = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(shifted)
    np.testing.assert_allclose(other.predict(shifted), model.predict(frame), rtol=1e-6)
    np.testing.assert_allclose(
        other.predict(shifted, return_std=True)[1],
        model.predict(frame, return_std=True)[1],
        rtol=1e-4,
    )
    np.testing.assert_allclose(
        other.predict(shifted, random_effects=False, return_std=True)[1],
        model.predict(frame, random_effects=False, return_std=True)[1],
        rtol=1e-4,
    )


# Simulation


def _simulated_covariance(model, rows, n=40_000):
    samples = model.simulate(rows, n_samples=n, random_state=0)
    assert samples.shape == (len(rows), n)
    return samples.mean(axis=1), np.cov(samples)


@pytest.mark.parametrize(("load", "formula", "columns"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("unseen", [False, True])
def test_moments_of_simulated_responses(load, formula, columns, unseen):
    """Mean x'beta; covariance between rows that share a level, seen in the fit or not."""
    frame = load().frame
    model = MixedLinearRegressor(formula).fit(frame)
    rows = frame.iloc[[0, 1, 2, 5, 11, 40]].copy()
    if unseen:
        for name in columns:
            rows[name] = "new " + rows[name].astype(str)
    mean, covariance = _simulated_covariance(model, rows)
    expected = model.sigma_**2 * np.eye(len(rows))
    design = model.design_spec_.new(rows, levels="own")
    for term, G in zip(design.random, model.result_.covariances, strict=True):
        expected += (term.codes[:, None] == term.codes) * (term.z @ G @ term.z.T)
    size = np.sqrt(np.diag(expected))
    tolerance = 5 / np.sqrt(40_000)  # of 72 sums of 40,000 draws, in standard errors
    np.testing.assert_allclose(
        (mean - model.predict(rows, random_effects=False)) / size, 0.0, atol=tolerance
    )
    np.testing.assert_allclose(
        (covariance - expected) / np.outer(size, size), 0.0, atol=np.sqrt(2) * tolerance
    )


def test_unseen_levels_are_drawn_apart(sleep_model):
    rows = pd.DataFrame({"Days": np.zeros(4), "Subject": ["a", "b", "a", "308"]})
    _, covariance = _simulated_covariance(sleep_model, rows)
    between = sleep_model.covariances_["Subject"].iloc[0, 0]
    expected = between * np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
    expected = expected + sleep_model.sigma_**2 * np.eye(4)
    np.testing.assert_allclose(covariance, expected, atol=0.04 * expected[0, 0])


def test_rows_without_groups_are_drawn_apart():
    frame = _sleep()
    model = MixedLinearRegressor().fit(frame[["Days"]], frame["Reaction"], groups=frame["Subject"])
    _, covariance = _simulated_covariance(model, frame[["Days"]][:3])
    total = model.covariances_["groups"].iloc[0, 0] + model.sigma_**2
    np.testing.assert_allclose(covariance, total * np.eye(3), atol=0.04 * total)


def test_simulation_uses_prior_weights():
    frame = _sleep().assign(w=np.tile([1.0, 25.0], 90))
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", prior_weights="w").fit(frame)
    rows = frame.iloc[:2]
    _, covariance = _simulated_covariance(model, rows)
    residual = np.diag(covariance) - covariance[0, 1]
    np.testing.assert_allclose(residual, model.sigma_**2 / rows["w"], rtol=0.15)


def test_simulation_is_reproducible(sleep_model):
    one, other = (sleep_model.simulate(_sleep(), 3, random_state=1) for _ in range(2))
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
    assert not np.array_equal(one, sleep_model.simulate(_sleep(), 3, random_state=2))


def test_simulation_without_random_effects():
    frame = _sleep()
    model = MixedLinearRegressor("Reaction ~ Days").fit(frame)
    samples = model.simulate(frame, 2000, random_state=0)
    np.testing.assert_allclose(samples.mean(axis=1), model.predict(frame), atol=5)


def test_refit_to_simulated_responses_recovers_the_parameters(sleep_model):
    """The mean of 40 estimates is within their scatter of what they estimate."""
    frame = _sleep()
    samples = sleep_model.simulate(frame, 40, random_state=0)
    model = MixedLinearRegressor("Days + (1 | Subject)")
    slopes = [model.fit(frame, y).fixed_effects_["Days"] for y in samples.T]
    error = np.std(slopes) / np.sqrt(40)
    assert abs(np.mean(slopes) - sleep_model.fixed_effects_["Days"]) < 4 * error


def test_rows_that_the_training_data_do_not_determine_are_told():
    """R: "prediction from a rank-deficient fit may be misleading"; ours says which row and why."""
    rng = np.random.default_rng(0)
    a, g = rng.normal(size=40), np.repeat(np.arange(8), 5)
    data = pd.DataFrame({"a": a, "b": 2 * a - 1, "g": g})
    data["y"] = a + rng.normal(size=8)[g] + rng.normal(size=40)
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor("y ~ a + b + (1 | g)").fit(data)
    model.predict(data)  # no warning: the dependence holds
    new = data[:3].assign(b=[2 * a[0] - 1, 5.0, 2 * a[2] - 1])
    with pytest.warns(RankDeficiencyWarning, match=r"1 row \(the first is row 1\).* b = 2 a - 1"):
        model.predict(new)


# Part of the random effects


@pytest.fixture(scope="module")
def pastes_model():
    return MixedLinearRegressor("strength ~ 1 + (1 | batch / cask)").fit(load_pastes().frame)


def test_listed_factors_enter_and_the_others_do_not(pastes_model):
    pastes = load_pastes().frame
    fixed = pastes_model.predict(pastes, random_effects=False)
    parts = {name: pastes_model.predict(pastes, random_effects=[name]) - fixed
             for name in ("batch", "batch:cask")}  # fmt: skip
    modes = pastes_model.random_effects_["batch"]["Intercept"]
    np.testing.assert_allclose(parts["batch"], modes.loc[pastes["batch"]])
    np.testing.assert_allclose(sum(parts.values()) + fixed, pastes_model.predict(pastes))
    np.testing.assert_allclose(
        pastes_model.predict(pastes, random_effects=[]), fixed, rtol=1e-9, atol=1e-9
    )
    both = pastes_model.predict(pastes, random_effects=("batch:cask", "batch"))
    np.testing.assert_allclose(both, pastes_model.predict(pastes), rtol=1e-9, atol=1e-9)


def test_columns_of_factors_that_are_left_out_may_be_absent(pastes_model):
    pastes = load_pastes().frame
    expected = pastes_model.predict(pastes, random_effects=["batch"])
    found = pastes_model.predict(pastes[["batch"]], random_effects=["batch"])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "formula", ["1 + (Days | Subject) + (1 | week)", "Days + (1 | Subject) + (1 | day)"]
)
def test_one_term_of_a_slope_model(formula):
    day = np.arange(180) % 7
    frame = _sleep().assign(day=day, week=lambda d: d["Days"] // 4)
    frame["Reaction"] += 30.0 * np.sin(day)
    model = MixedLinearRegressor("Reaction ~ " + formula).fit(frame)
    group, effects = next(iter(model.random_effects_.items()))
    z = np.column_stack([np.ones(len(frame)), frame["Days"]])[:, : effects.shape[1]]
    expected = np.einsum("ns,ns->n", z, effects.loc[frame[group]])
    part = model.predict(frame, random_effects=[group])
    fixed = model.predict(frame, random_effects=False)
    np.testing.assert_allclose(part - fixed, expected, atol=1e-9 * np.abs(part).max())


@pytest.mark.parametrize("part", ["batch", "batch:cask"])
def test_standard_errors_are_those_of_the_listed_part(pastes_model, part):
    """Prediction variance of x'beta + z'b with the other factors part of the noise."""
    pastes = load_pastes().frame
    old = build_design(pastes_model.formula, pastes)
    V, cross = pastes_model.sigma_**2 * np.eye(60), np.zeros((60, 60))
    for term, G in zip(old.random, pastes_model.result_.covariances, strict=True):
        share = G.item() * (term.codes[:, None] == term.codes)
        V += share
        cross += share * (term.group == part)
    inverse = np.linalg.inv(V)
    rest = old.X - cross @ inverse @ old.X
    variance = np.diag(cross) - np.einsum("nm,mk,nk->n", cross, inverse, cross)
    variance += (rest**2 / (old.X.T @ inverse @ old.X).item())[:, 0]
    mean, std = pastes_model.predict(pastes, random_effects=[part], return_std=True)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=1e-6)
    interval = pastes_model.predict_interval(pastes, random_effects=[part])
    np.testing.assert_allclose(interval.mean(axis=1), mean)
    np.testing.assert_allclose(np.diff(interval)[:, 0], 2 * norm.ppf(0.975) * std)


@pytest.mark.parametrize("wrong", ["nonsense", "batch", ["x"], ["batch", "x"], [1], None, 1, 0.5])
def test_anything_else_names_the_factors(pastes_model, wrong):
    message = "must be True, False or a list of grouping factors, .* are 'batch', 'batch:cask'"
    pastes = load_pastes().frame
    for use in (pastes_model.predict, pastes_model.predict_interval, pastes_model.simulate):
        with pytest.raises(ValueError, match=message):
            use(pastes, random_effects=wrong)


def test_a_model_without_factors_says_so():
    model = MixedLinearRegressor("Reaction ~ Days").fit(_sleep())
    with pytest.raises(ValueError, match="the model has no grouping factor"):
        model.predict(_sleep(), random_effects=["Subject"])


def test_simulations_draw_the_listed_effects(pastes_model):
    row = load_pastes().frame[:1]
    between = {name: G.iloc[0, 0] for name, G in pastes_model.covariances_.items()}
    for listed in (["batch"], ["batch:cask"], False):
        samples = pastes_model.simulate(row, 20000, random_state=0, random_effects=listed)
        expected = pastes_model.sigma_**2 + sum(between[name] for name in listed or ())
        assert samples.var() == pytest.approx(expected, rel=0.06)


# What the fit does not know is told by every way of predicting

WAYS = {
    "predict": lambda m, X, **k: m.predict(X, **k),
    "std": lambda m, X, **k: m.predict(X, return_std=True, **k),
    "interval": lambda m, X, **k: m.predict_interval(X, **k),
    "simulate": lambda m, X, **k: m.simulate(X, 2, random_state=0, **k),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_batch_of_unseen_levels_is_told(sleep_model, way):
    new = _sleep().assign(Subject=lambda d: "S" + d["Subject"].astype(str))
    message = "all 180 rows are of levels of 'Subject' .*now like 'S308', at the fit like '308'"
    with pytest.warns(UnseenGroupsWarning, match=message):
        way(sleep_model, new)
    with pytest.warns(UnseenGroupsWarning, match="the row is one of a level of 'Subject'"):
        way(sleep_model, new[:1])
    way(sleep_model, new, random_effects=False)
    way(sleep_model, new[:0])
    new["Subject"] = new["Subject"].where(new["Days"] > 0, "308")
    way(sleep_model, new)  # some are known


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_missing_groups_are_told(way):
    frame = _sleep()
    model = MixedLinearRegressor().fit(frame[["Days"]], frame["Reaction"], groups=frame["Subject"])
    with pytest.warns(UnseenGroupsWarning, match="fitted with groups and predicts without them"):
        way(model, frame[["Days"]])
    way(model, frame[["Days"]], random_effects=False)
    way(model, frame[["Days"]], groups=frame["Subject"])
    model.set_params(unseen_groups="raise")
    with pytest.raises(ValueError, match="fitted with groups and predicts without them"):
        way(model, frame[["Days"]])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_unseen_groups_may_be_an_error_or_nan_everywhere(way):
    new = _sleep()[:3].assign(Subject=["308", "x", "y"])
    settings = {"formula": "Reaction ~ Days + (1 | Subject)"}
    model = MixedLinearRegressor(**settings, unseen_groups="raise").fit(_sleep())
    with pytest.raises(ValueError, match="2 rows have a level of 'Subject'"):
        way(model, new)
    model = MixedLinearRegressor(**settings, unseen_groups="nan").fit(_sleep())
    result = way(model, new)
    for values in result if isinstance(result, tuple) else (result,):
        np.testing.assert_array_equal(np.isnan(values).reshape(3, -1)[:, 0], [False, True, True])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_rows_outside_the_row_space_are_told_everywhere(way):
    frame = _sleep().assign(twice=lambda d: 2 * d["Days"])
    with pytest.warns(RankDeficiencyWarning, match="twice = 2 Days"):
        model = MixedLinearRegressor("Reaction ~ Days + twice + (1 | Subject)").fit(frame)
    with pytest.warns(RankDeficiencyWarning, match="do not determine the prediction of 180 rows"):
        way(model, frame.assign(twice=1000.0))


KEYS = {
    "booleans as integers": (lambda k: k % 2 == 1, lambda k: k % 2),
    "integers as booleans": (lambda k: k % 2, lambda k: (k % 2).astype(bool)),
    "single precision": (lambda k: k / 10, lambda k: (k / 10).astype(np.float32)),
    "categories of integers": (lambda k: k, pd.Categorical),
    "periods as timestamps": (lambda k: _days(k).to_period("D"), lambda k: _days(k)),
    "objects": (lambda k: _days(k).astype(str).to_numpy(), lambda k: list(_days(k).astype(str))),
}


def _days(k):
    return pd.DatetimeIndex(np.datetime64("2024-02-27") + k)


@pytest.mark.parametrize(("fitted", "new"), KEYS.values(), ids=KEYS)
def test_groups_of_another_type_are_the_same_groups(fitted, new):
    rng, k = np.random.default_rng(0), np.arange(60) % 6
    x, y = rng.normal(size=(60, 1)), rng.normal(size=60) + 3 * (k % 2) + k
    model = MixedLinearRegressor().fit(x, y, groups=fitted(k))
    expected = model.predict(x, groups=fitted(k))
    np.testing.assert_allclose(model.predict(x, groups=new(k)), expected, rtol=1e-9, atol=1e-9)
    assert not np.allclose(expected, model.predict(x, random_effects=False))


def test_a_number_among_text_does_not_become_text(sleep_model):
    new = {"Days": [1.0, 1.0], "Subject": [308, "309"]}
    with pytest.raises(ValueError, match="column 'Subject' holds values of mixed types"):
        sleep_model.predict(new)
    model = MixedLinearRegressor().fit(
        _sleep()[["Days"]], _sleep()["Reaction"], groups=list(_sleep()["Subject"])
    )
    with pytest.raises(ValueError, match="column 'groups' holds values of mixed types"):
        model.predict(_sleep()[["Days"]][:2], groups=[308, "309"])
