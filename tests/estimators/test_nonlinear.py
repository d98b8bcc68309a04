"""MixedNonlinearRegressor: formulas, starting values, prediction, errors."""

import pickle
import warnings

import numpy as np
import pytest
from scipy import special
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmixed import MixedLinearRegressor, MixedNonlinearRegressor
from skmixed.datasets import load_orange, load_sleepstudy, load_theoph

CALL = "circumference ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"
FORMULA = "circumference ~ Asym / (1 + exp((xmid - age) / scal)) ~ (Asym | Tree)"
START = {"Asym": 200, "xmid": 725, "scal": 350}


@pytest.fixture(scope="module")
def orange():
    return load_orange().frame


@pytest.fixture(scope="module")
def model(orange):
    return MixedNonlinearRegressor(CALL).fit(orange)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.RankDeficiencyWarning")
@parametrize_with_checks([MixedNonlinearRegressor()])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("formula", ["Days + (Days | Subject)", "Days + (1 | Subject)"])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_linear_curve_is_the_linear_model(formula, fixed):
    sleep = load_sleepstudy().frame
    linear = MixedLinearRegressor(f"Reaction ~ {formula}", reml=False).fit(sleep)
    effects = "a + b" if "Days |" in formula else "a"
    if fixed:
        effects = effects.replace("b", "a:Days")
        mine = MixedNonlinearRegressor(
            f"Reaction ~ 1 * a ~ ({effects} | Subject)", fixed={"a": "Days"}, start={"a": 1}
        )
    else:
        mine = MixedNonlinearRegressor(
            f"Reaction ~ a + b * Days ~ ({effects} | Subject)", start={"a": 1, "b": 1}
        )
    mine.fit(sleep)
    assert mine.deviance_ == pytest.approx(linear.deviance_, abs=1e-8)
    np.testing.assert_allclose(mine.fixed_effects_, linear.fixed_effects_, rtol=1e-6)
    np.testing.assert_allclose(mine.theta_, linear.theta_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mine.predict(sleep), linear.predict(sleep), rtol=1e-6)
    np.testing.assert_allclose(
        mine.predict(sleep[:3], return_std=True)[1],
        linear.predict(sleep[:3], return_std=True)[1],
        rtol=1e-2,
    )


@pytest.mark.parametrize(
    ("formula", "more"),
    [
        (FORMULA, {}),
        (FORMULA.replace("exp(", "np.exp("), {}),
        (
            "circumference ~ grow(age, Asym, xmid, scal) ~ Asym | Tree",
            {"functions": {"grow": lambda x, A, m, s: A / (1 + np.exp((m - x) / s))}},
        ),
        ("circumference ~ SSlogis(age, Asym, xmid, scal) ~ Asym | Tree", {}),
        ("circumference ~ Asym * expit((age - xmid) / scal) ~ (Asym || Tree)", {}),
    ],
)
def test_all_ways_to_say_a_curve(formula, more, orange, model):
    own = MixedNonlinearRegressor(formula, start=START, **more).fit(orange)
    assert own.deviance_ == pytest.approx(model.deviance_, abs=1e-8)
    assert own.derivatives_ == "exact"
    assert own.start_.to_dict() == START


def test_a_function_that_jets_cannot_pass(orange, model):
    def opaque(x, asym, mid, scal):
        return asym * np.array([special.expit(float(v)) for v in np.ravel((x - mid) / scal)])

    own = MixedNonlinearRegressor(
        "circumference ~ opaque(age, Asym, xmid, scal) ~ (Asym | Tree)",
        functions={"opaque": opaque},
        start=START,
    ).fit(orange)
    assert own.derivatives_ == "differences"
    assert own.deviance_ == pytest.approx(model.deviance_, abs=1e-4)


def test_the_response_beside_the_table(orange, model):
    own = MixedNonlinearRegressor(CALL.partition("~")[2]).fit(
        orange.drop(columns="circumference"), orange["circumference"]
    )
    assert own.deviance_ == pytest.approx(model.deviance_, abs=1e-9)


def test_rows_levels_and_units_do_not_matter(orange, model):
    shuffled = orange.sample(frac=1, random_state=0)
    shuffled["Tree"] = shuffled["Tree"].astype(str).map(lambda t: "t" + t)
    own = MixedNonlinearRegressor(CALL).fit(shuffled)
    assert own.deviance_ == pytest.approx(model.deviance_, abs=1e-8)
    large = orange.assign(circumference=orange["circumference"] * 1e6, age=orange["age"] / 365)
    own = MixedNonlinearRegressor(CALL).fit(large)
    shift = 2 * len(orange) * np.log(1e6)
    assert own.deviance_ == pytest.approx(model.deviance_ + shift, abs=1e-6)
    units = np.array([1e6, 1 / 365, 1 / 365])
    np.testing.assert_allclose(own.fixed_effects_, model.fixed_effects_ * units, rtol=1e-6)


def test_sample_weight_two_is_the_row_twice(orange):
    weight = np.where(np.arange(len(orange)) % 3 == 0, 2.0, 1.0)
    weighted = MixedNonlinearRegressor(CALL).fit(orange, sample_weight=weight)
    twice = orange.loc[orange.index.repeat(weight.astype(int))]
    repeated = MixedNonlinearRegressor(CALL).fit(twice)
    assert weighted.deviance_ == pytest.approx(repeated.deviance_, abs=1e-8)
    assert weighted.n_obs_ == len(twice)


def test_missing_values_are_left_out(orange, model):
    holes = orange.assign(w=1.0)
    holes.loc[3, "age"] = holes.loc[7, "circumference"] = np.nan
    with pytest.raises(ValueError, match="missing values"):
        MixedNonlinearRegressor(CALL).fit(holes)
    own = MixedNonlinearRegressor(CALL, missing="drop", prior_weights="w").fit(holes)
    rest = MixedNonlinearRegressor(CALL).fit(orange.drop(index=[3, 7]))
    assert own.deviance_ == pytest.approx(rest.deviance_, abs=1e-9)
    assert np.flatnonzero(np.isnan(own.predict(holes))).tolist() == [3]


def test_parameters_and_unseen_levels(orange, model):
    phi = model.parameters_of(orange)
    f = phi["Asym"] / (1 + np.exp((phi["xmid"] - orange["age"]) / phi["scal"]))
    np.testing.assert_allclose(f, model.predict(orange), rtol=1e-10)
    new = orange[:2].assign(Tree="9")
    with pytest.warns(UserWarning, match="count as unseen"):
        mean, std = model.predict(new, return_std=True)
    np.testing.assert_allclose(mean, model.predict(new, random_effects=False))
    assert (std > model.predict(orange[:2], return_std=True)[1]).all()
    strict = clone(model).set_params(unseen_groups="raise").fit(orange)
    with pytest.raises(ValueError, match="2 rows have a level of 'Tree'"):
        strict.predict(new)
    limits = model.predict_interval(orange, kind="observation")
    inside = (limits[:, 0] < orange["circumference"]) & (orange["circumference"] < limits[:, 1])
    assert inside.mean() > 0.85


def test_simulated_responses_have_the_variance_of_the_model(orange, model):
    draws = model.simulate(orange, 2000, random_state=0)
    slope = model.predict(orange, random_effects=False) / model.fixed_effects_["Asym"]
    variance = slope**2 * model.covariances_["Tree"].iloc[0, 0] + model.sigma_**2
    np.testing.assert_allclose(draws.var(axis=1), variance, rtol=0.2)


def test_pickles_scores_and_summaries(orange, model):
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict(orange), model.predict(orange), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        again.predict(orange, return_std=True)[1],
        model.predict(orange, return_std=True)[1],
        rtol=1e-9,
        atol=1e-9,
    )
    assert 0.9 < model.score(orange) < 1
    text = str(model.summary())
    assert "Laplace approximation" in text
    assert "t value" in text and "Residual" in text


def test_the_joint_mode(orange, model):
    """The value of R's nlmer with nAGQ = 0 is close to the optimum and never below it."""
    own = MixedNonlinearRegressor(CALL, n_agq=0).fit(orange)
    assert model.deviance_ <= own.deviance_ < model.deviance_ + 0.1
    assert len(own.trace_.columns) == 2


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        (FORMULA, {}, "start is needed"),
        (CALL.replace("age", "agee"), {}, "'agee' in .* is neither a column"),
        (CALL.replace("Asym |", "b |"), {}, "is not of one parameter"),
        (CALL.replace("Asym |", "1 |"), {}, "names no parameter"),
        (CALL.replace(", scal", ""), {}, "does not fit the curve logistic"),
        (CALL.replace("logistic", "logistik"), {}, "which is no function of curves"),
        (CALL, {"start": {"b": 1}}, "start names 'b', which is no parameter"),
        (CALL, {"start": {"Asym": [1, 2]}}, "start has 2 values for the parameter 'Asym'"),
        (CALL, {"start": {"Asym": "big"}}, r"start\['Asym'\] must be a finite number"),
        (CALL, {"start": {"Asym": np.nan}}, r"start\['Asym'\] must be a finite number"),
        (CALL, {"fixed": {"b": "age"}}, "fixed names 'b'"),
        (CALL.replace("age,", "Tree,"), {}, "'Tree' of the curve is not numeric"),
        (CALL.replace("xmid", "age"), {}, "is also a column"),
        ("y ~ a ~ b ~ (Asym | Tree)", {}, "is not of the form"),
        (
            FORMULA,
            {"start": {**START, "xmid": 118, "scal": 0}},
            "not finite at the starting values",
        ),
        (FORMULA, {"start": {**START, "k": 0}}, "start names the parameter 'k'"),
        (FORMULA.replace("xmid", "0 * xmid"), {"start": START}, "does not depend on .* 'xmid'"),
    ],
)
def test_errors(formula, options, message, orange):
    with pytest.raises(ValueError, match=message):
        MixedNonlinearRegressor(formula, **options).fit(orange)


def test_a_response_without_noise_is_an_error(orange):
    mean = 190 / (1 + np.exp((700 - orange["age"]) / 350)) * (1 + 0.1 * orange["Tree"].astype(int))
    with pytest.raises(ValueError, match="explains the response exactly"):
        MixedNonlinearRegressor(CALL).fit(orange.assign(circumference=mean))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "a.__class__",
        "(lambda: a)()",
        "[a for a in age]",
        "open('x')",
        "a if age else a",
        "age[0] * a",
        "np.random.rand(35) * a",
        "exp(a, out=age)",
        "_a * a",
        "'text' * a",
    ],
)
def test_expressions_are_never_run(text, orange):
    with pytest.raises(ValueError, match=r"curve|function|begins|argument|expression"):
        MixedNonlinearRegressor(f"circumference ~ {text} ~ (a | Tree)", start={"a": 1.0}).fit(
            orange
        )


def test_a_covariate_in_a_parameter():
    theoph = load_theoph().frame
    own = MixedNonlinearRegressor(
        "conc ~ SSfol(Dose, Time, lKe, lKa, lCl) ~ (lKa + lCl | Subject)", fixed={"lCl": "Wt"}
    ).fit(theoph)
    assert list(own.fixed_effects_.index) == ["lKe", "lKa", "lCl[Intercept]", "lCl[Wt]"]
    assert list(own.random_effects_["Subject"].columns) == ["lKa", "lCl"]


def test_bad_starts_end_at_the_optimum_or_are_told(orange, model):
    rng = np.random.default_rng(3)
    reached = 0
    for _ in range(8):
        start = {k: v * (1 + 0.5 * rng.standard_normal()) for k, v in START.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                own = MixedNonlinearRegressor(CALL, start=start).fit(orange)
            except (ValueError, ConvergenceWarning):
                continue
        assert own.deviance_ == pytest.approx(model.deviance_, abs=1e-6)
        reached += 1
    assert reached >= 6


CURVE = "circumference ~ SSlogis(age, Asym, xmid, scal) ~ "


def test_structures_of_the_effects_of_parameters():
    orange = load_orange().frame

    def fit(random):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return MixedNonlinearRegressor(CURVE + random).fit(orange)

    bars = fit("(Asym + xmid || Tree)")
    diag = fit("diag(Asym + xmid | Tree)")
    assert diag.deviance_ == pytest.approx(bars.deviance_, abs=1e-6)
    [found] = diag.structure_.values()
    sd = [bars.covariances_["Tree"].loc[p, p] ** 0.5 for p in ("Asym", "xmid")]
    np.testing.assert_allclose(found, sd, rtol=1e-3)
    one = fit("homdiag(Asym + xmid | Tree)")
    assert one.deviance_ >= diag.deviance_ - 1e-8
    V = one.covariances_["Tree"].to_numpy()
    np.testing.assert_allclose(V, V[0, 0] * np.eye(2), rtol=1e-10, atol=1e-8)
    full, cs = fit("(Asym + xmid | Tree)"), fit("cs(Asym + xmid | Tree)")
    assert cs.deviance_ == pytest.approx(full.deviance_, abs=1e-5)  # two effects: the same model


@pytest.mark.parametrize("kind", ["ar1", "toep", "expo"])
def test_parameters_have_no_order(kind):
    with pytest.raises(ValueError, match="no order and no positions"):
        MixedNonlinearRegressor(CURVE + f"{kind}(Asym + xmid | Tree)").fit(load_orange().frame)
