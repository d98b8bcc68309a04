"""What users may give a nonlinear model: functions, designs, weights, other tools around it."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from skmixed import MixedNonlinearRegressor, SingularFitWarning
from skmixed.datasets import load_orange, load_theoph
from skmixed.design.curve_formula import parse_curve_formula
from skmixed.design.nonlinear import build_nonlinear_design
from skmixed.models.nlmm import _other_modes, fit_nlmm, nonlinear_problem
from skmixed.models.nonlinear import NonlinearDeviance
from skmixed.models.pnls import find_mode, mode_at

CALL = "circumference ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"
OWN = "circumference ~ f(age, Asym, xmid, scal) ~ (Asym | Tree)"
START = {"Asym": 200, "xmid": 725, "scal": 350}


@pytest.fixture(scope="module")
def orange():
    return load_orange().frame


@pytest.fixture(scope="module")
def deviance(orange):
    return MixedNonlinearRegressor(CALL).fit(orange).deviance_


def logistic(x, asym, mid, scal):
    return asym / (1 + np.exp((mid - x) / scal))


def writes_to_the_covariate(x, asym, mid, scal):
    x[:] = x / 350
    return asym / (1 + np.exp(mid / 350 - x))


def writes_to_a_parameter(x, asym, mid, scal):
    asym *= 2
    return logistic(x, asym, mid, scal)


# Functions


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda *args: logistic(*args) + 0j, "complex128"),
        (lambda *args: np.ones(3), r"shape \(3,\): it must give real numbers of shape \(35,\)"),
        (lambda *args: logistic(*args)[:, None], r"shape \(35, 1\)"),
        (lambda *args: None, "object"),
        (lambda *args: 5.0, "does not depend on the parameter 'Asym'"),
        (lambda x: x, r"raised TypeError \(.*positional argument"),
        (lambda *args: 1 / 0, "not finite at the starting values in 35 rows"),
        (writes_to_the_covariate, "read-only.* which it must not change"),
        (writes_to_a_parameter, "read-only.* which it must not change"),
    ],
)
def test_functions_that_are_no_curves(function, message, orange):
    before = orange.copy()
    model = MixedNonlinearRegressor(OWN, functions={"f": function}, start=START)
    with pytest.raises(ValueError, match=message):
        model.fit(orange)
    pd.testing.assert_frame_equal(orange, before)


def with_a_method(x, asym, mid, scal):
    return logistic(x, asym.astype(float), mid, scal)


def of_series(x, asym, mid, scal):
    return logistic(pd.Series(x), asym, mid, scal)


def by_rows(x, asym, mid, scal):
    return np.array([logistic(x[i], asym[i], mid[i], scal[i]) for i in range(len(x))])


def of_arrays_alone(x, asym, mid, scal):
    if not isinstance(asym, np.ndarray):
        raise RuntimeError("asym must be an array")
    return logistic(x, asym, mid, scal)


def into_one_array(x, asym, mid, scal, kept={}):  # noqa: B006
    result = kept.setdefault(len(x), np.empty(len(x)))
    result[:] = logistic(x, asym, mid, scal)
    return result


def large_alone(x, asym, mid, scal):
    if np.all(asym == 1.0):
        raise ValueError("asym must be more than 1")
    return logistic(x, *map(np.asarray, (asym, mid, scal)))


@pytest.mark.parametrize(
    "function",
    [with_a_method, of_series, by_rows, of_arrays_alone, into_one_array, large_alone],
)
def test_functions_of_arrays_alone_have_differences(function, orange, deviance):
    model = MixedNonlinearRegressor(OWN, functions={"f": function}, start=START).fit(orange)
    assert model.derivatives_ == "differences"
    assert model.deviance_ == pytest.approx(deviance, abs=1e-4)
    exact = MixedNonlinearRegressor(OWN, functions={"f": logistic}, start=START).fit(orange)
    for own, other in zip(
        model.predict(orange[:9], return_std=True),
        exact.predict(orange[:9], return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(own, other, rtol=1e-3)


def test_a_function_in_single_precision(orange):
    def single(*args):
        return np.float32(logistic(*(np.asarray(v, dtype=np.float32) for v in args)))

    model = MixedNonlinearRegressor(OWN, functions={"f": single}, start=START)
    with pytest.raises(ValueError, match=r"gives float32.* must compute in float64"):
        model.fit(orange)


@pytest.mark.parametrize("functions", [{"f": 3}, {3: logistic}])
def test_functions_that_are_none(functions, orange):
    model = MixedNonlinearRegressor(OWN, functions=functions, start=START)
    with pytest.raises(ValueError, match="must be a dict of names to functions"):
        model.fit(orange)


@pytest.mark.parametrize("name", ["exp", "print", "logistic", "len", "open"])
def test_a_function_may_have_the_name_of_another(name, orange, deviance):
    formula = OWN.replace("f(", f"{name}(")
    model = MixedNonlinearRegressor(formula, functions={name: logistic}, start=START).fit(orange)
    assert model.deviance_ == pytest.approx(deviance, abs=1e-8)
    assert model.derivatives_ == "exact"


def not_far(x, asym, mid, scal):
    away = (asym > 260) | (scal < 200)
    return np.where(away, np.nan, logistic(x, asym, mid, scal))


def raises_far(x, asym, mid, scal):
    if np.any(np.asarray(getattr(scal, "value", scal)) < 300):
        raise FloatingPointError
    return logistic(x, asym, mid, scal)


@pytest.mark.parametrize("function", [not_far, raises_far])
def test_a_curve_that_is_not_everywhere(function, orange, deviance):
    """The search stays where there are values, whether the others are NaN or an error."""
    model = MixedNonlinearRegressor(OWN, functions={"f": function}, start=START).fit(orange)
    assert model.deviance_ == pytest.approx(deviance, abs=1e-8)
    assert model.converged_


def test_a_curve_without_values_where_the_effects_are(orange):
    model = MixedNonlinearRegressor(
        OWN,
        functions={"f": lambda x, A, m, s: np.where(A > 205, np.nan, logistic(x, A, m, s))},
        start=START,
    )
    with pytest.raises(ValueError, match="no likelihood at the starting values"):
        model.fit(orange)


# Designs and data


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("1 + (1 | Tree)", "it must have fixed effects alone"),
        ("offset(age)", "it must have fixed effects alone"),
        ("circumference ~ age", "it must have fixed effects alone"),
        ("0", "has no column: write '1'"),
        ("nowhere", "'nowhere' is not a column"),
    ],
)
def test_designs_that_a_parameter_cannot_have(side, message, orange):
    with pytest.raises(ValueError, match=message):
        MixedNonlinearRegressor(CALL, fixed={"Asym": side}).fit(orange)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (lambda d: d["age"].astype(str), "numbers stored as text"),
        (lambda d: d["age"] > 500, "'age' of the curve is not numeric"),
        (lambda d: pd.to_datetime(d["age"], unit="D"), "holds dates"),
        (lambda d: d["age"] + 0j, "complex"),
        (lambda d: np.where(d["age"] > 1500, np.inf, d["age"]), "infinite"),
    ],
)
def test_covariates_that_are_no_numbers(column, message, orange):
    with pytest.raises(ValueError, match=message):
        MixedNonlinearRegressor(CALL).fit(orange.assign(age=column))


@pytest.mark.parametrize("random", ["Asym", "Asym + xmid"])
def test_one_row_per_level(random, orange):
    rows = orange.assign(Tree=np.arange(len(orange)).astype(str))
    with pytest.raises(ValueError, match="one row per level"):
        MixedNonlinearRegressor(CALL.replace("(Asym", f"({random}")).fit(rows)


def test_two_rows_per_level_leave_two_effects_open(orange):
    rows = orange.groupby("Tree", observed=True).head(2)
    with pytest.raises(ValueError, match=r"10 effects .* for 10 observations"):
        MixedNonlinearRegressor(CALL.replace("(Asym", "(Asym + xmid"), start=START).fit(rows)


def test_some_levels_may_have_one_row(orange):
    few = orange[(orange["Tree"].astype(str) != "1") | (orange["age"] == 1004)]
    model = MixedNonlinearRegressor(CALL.replace("(Asym", "(Asym + xmid"), start=START)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        model.fit(few)
    assert model.converged_
    assert len(model.random_effects_["Tree"]) == 5


def test_parameters_that_only_their_product_tells(orange):
    """Each has other slopes once trees differ, but the likelihood is flat along the hyperbola."""
    model = MixedNonlinearRegressor(
        "circumference ~ a * b * age ~ (a | Tree)", start={"a": 1.0, "b": 0.1}
    )
    with pytest.warns(ConvergenceWarning, match="fixed effects are not determined"):
        model.fit(orange)


def test_levels_and_rows_without_weight_are_not_there(orange):
    weight = np.where(orange["Tree"].astype(str) == "1", 0.0, 1.0)
    left_out = MixedNonlinearRegressor(CALL).fit(orange[weight > 0])
    model = MixedNonlinearRegressor(CALL).fit(orange, sample_weight=weight)
    assert model.deviance_ == pytest.approx(left_out.deviance_, abs=1e-8)
    with pytest.raises(ValueError, match="zero for every row"):
        MixedNonlinearRegressor(CALL).fit(orange, sample_weight=0 * weight)


def test_prior_weights_of_one_size_are_units_of_sigma(orange, deviance):
    model = MixedNonlinearRegressor(CALL, prior_weights="w").fit(orange.assign(w=4.0))
    assert model.deviance_ == pytest.approx(deviance, abs=1e-8)
    plain = MixedNonlinearRegressor(CALL).fit(orange)
    assert model.sigma_ == pytest.approx(2 * plain.sigma_, rel=1e-6)
    np.testing.assert_allclose(model.standard_errors_, plain.standard_errors_, rtol=1e-5)


@pytest.mark.parametrize("n_agq", [1, 3])
@pytest.mark.parametrize("factor", [1e9, 1e-6])
def test_errors_and_limits_have_the_units_of_the_response(n_agq, factor, orange):
    model = MixedNonlinearRegressor(CALL, n_agq=n_agq).fit(orange)
    scaled = orange.assign(circumference=factor * orange["circumference"])
    other = MixedNonlinearRegressor(CALL, n_agq=n_agq).fit(scaled)
    units = np.array([factor, 1, 1, factor, factor])
    np.testing.assert_allclose(other.standard_errors_ / units[:3], model.standard_errors_, 1e-5)
    np.testing.assert_allclose(other.confint().T / units, model.confint().T, 1e-4)


@pytest.mark.parametrize("n_agq", [0, 1, 3])
def test_invariances_with_correlated_effects(n_agq):
    theoph = load_theoph().frame
    formula = "conc ~ SSfol(Dose, Time, lKe, lKa, lCl) ~ (lKa + lCl | Subject)"
    plain = MixedNonlinearRegressor(formula, n_agq=n_agq).fit(theoph)
    other = theoph.sample(frac=1, random_state=1)
    other["Subject"] = "s" + other["Subject"].astype(str)
    other = other.assign(
        Time=other["Time"] * 60, conc=other["conc"] * 1e3, Dose=other["Dose"] * 1e3
    )
    model = MixedNonlinearRegressor(formula, n_agq=n_agq).fit(other)
    shift = 2 * len(theoph) * np.log(1e3)
    assert model.deviance_ == pytest.approx(plain.deviance_ + shift, abs=1e-6)
    moved = plain.fixed_effects_ - np.log([60, 60, 60])
    assert model.fixed_effects_["lKe"] < model.fixed_effects_["lKa"]
    np.testing.assert_allclose(model.fixed_effects_, moved, atol=1e-5)
    np.testing.assert_allclose(
        model.covariances_["Subject"], plain.covariances_["Subject"], rtol=1e-3, atol=1e-5
    )


# Other tools around it


def test_grid_search_over_curves_effects_and_quadrature(orange):
    curve = "logistic(age, Asym, xmid, scal) ~ "
    grid = {
        "formula": [curve + "(Asym | Tree)", "michaelis_menten(age, Vm, K) ~ (Vm | Tree)"],
        "n_agq": [0, 1, 3],
    }
    search = GridSearchCV(MixedNonlinearRegressor(), grid, cv=3, error_score="raise")
    search.fit(orange, orange["circumference"])
    assert search.best_score_ > 0.5
    assert search.best_estimator_.converged_


def test_in_a_pipeline_and_pickled_with_a_function(orange):
    model = MixedNonlinearRegressor(OWN, functions={"f": logistic}, start=START)
    pipeline = Pipeline([("model", model)]).fit(orange)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_allclose(
        again.predict(orange), pipeline.predict(orange), rtol=1e-9, atol=1e-9
    )


def test_fits_in_threads_are_those_of_one(orange, deviance):
    trees = [[str(t) for t in range(1, 6) if t != left] for left in (0, 1, 2, 3, 4, 5)]
    frames = [orange[orange["Tree"].astype(str).isin(own)] for own in trees]

    def value(frame):
        return MixedNonlinearRegressor(CALL).fit(frame).deviance_

    alone = [value(frame) for frame in frames]
    assert alone[0] == pytest.approx(deviance, abs=1e-9)
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_allclose(list(pool.map(value, frames)), alone, rtol=1e-9, atol=1e-9)


def _problem(frame, n_agq=1):
    design = build_nonlinear_design(parse_curve_formula(CALL), frame)
    return nonlinear_problem(design, [np.array([v]) for v in (200.0, 725.0, 350.0)], n_agq)


@pytest.mark.parametrize("n_agq", [0, 1, 3])
def test_a_fit_that_was_interrupted_leaves_nothing(n_agq, orange):
    def stop(iteration, value, parameters):
        if iteration == 2:
            raise KeyboardInterrupt

    problem = _problem(orange, n_agq)
    with pytest.raises(KeyboardInterrupt):
        fit_nlmm(problem, callback=stop)
    again = fit_nlmm(problem)
    assert again.deviance == pytest.approx(fit_nlmm(_problem(orange, n_agq)).deviance, abs=1e-8)


def test_a_failed_fit_leaves_the_model_unfitted(orange):
    model = MixedNonlinearRegressor(CALL).fit(orange)
    with pytest.raises(ValueError, match="constant"):
        model.fit(orange.assign(circumference=1.0))
    assert not hasattr(model, "result_")


# Several modes


def _periodic():
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(8), 12)
    x = np.tile(np.linspace(0, 6, 12), 8)
    phase = 0.4 * rng.standard_normal(8)
    y = 3 * np.cos(x - phase[codes]) + 0.3 * rng.standard_normal(96)
    frame = {"y": y, "x": x, "g": codes.astype(str)}
    terms = parse_curve_formula("y ~ A * cos(x - p) ~ (p | g)")
    design = build_nonlinear_design(terms, frame, start={"A": 2.0, "p": 0.0})
    return nonlinear_problem(design, [np.array([2.0]), np.array([0.0])])


def test_a_lower_mode_is_found_level_by_level():
    """The curve repeats after a phase of 2 pi: a mode there fits as well and costs more."""
    problem = _periodic()
    objective: NonlinearDeviance = problem.objective
    state = objective.evaluate(problem.start)
    assert _other_modes(state) is None
    turned = state.mode.u[0].copy()
    turned[0, [1, 4]] += 2 * np.pi / (state.T[0][0, 0] * objective.layout.terms[0].M[0, 0])
    start = mode_at(objective.rows, state.mode.gamma, [turned], state.T)
    worse = objective.at_mode(state.parameters, find_mode(start, state.T), state.T)
    assert worse.mode.pwrss > 1.01 * state.mode.pwrss
    found = _other_modes(worse)
    assert found.mode.pwrss == pytest.approx(state.mode.pwrss, rel=1e-10)
    assert found.value == pytest.approx(state.value, abs=1e-7)


def test_modes_between_which_the_search_alternates_are_told(orange, monkeypatch):
    """Whatever the search ends at, there is another one: levels 0 and 3 have it."""
    from skmixed.models import nlmm

    def elsewhere(state):
        mode = state.mode
        u = mode.u[0].copy()
        u[0, [0, 3]] += 1.0
        moved = mode_at(mode.rows, mode.gamma, [u], state.T)
        return state.objective.at_mode(state.parameters, moved, state.T)

    monkeypatch.setattr(nlmm, "_other_modes", elsewhere)
    with pytest.warns(ConvergenceWarning, match=r"several modes at 1, 4, between which"):
        MixedNonlinearRegressor(CALL).fit(orange)
