"""What cannot be a mixed model is an error or a named warning that says what to do."""

import warnings
from contextlib import nullcontext

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression

from skmixed import MixedLinearRegressor, RankDeficiencyWarning, SingularFitWarning

N = 60


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    rows = np.arange(N)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=N),
            "z": rng.normal(size=N),
            "g": np.array(list("abcdefghij"))[rows // 6],
            "h": np.array(list("uvwxyz"))[rows % 6],
            "f": np.array(["p", "q", "r"])[rows % 3],
            "one": "only",
            "id": rows,
        }
    )
    frame["y"] = 1 + frame["x"] + rng.normal(size=10)[rows // 6] + 0.5 * rng.normal(size=N)
    return frame


def _with(**columns):
    return lambda data: data.assign(
        **{name: make(data) if callable(make) else make for name, make in columns.items()}
    )


FORMULAS = {
    "unknown variable": ("y ~ zz + (1 | g)", "'zz' is not a column of the data. Did you mean 'z'?"),
    "unknown response": ("yy ~ x + (1 | g)", "'yy' is not a column .* Did you mean 'y'"),
    "unknown slope": ("y ~ x + (xx | g)", "'xx' is not a column .* Did you mean 'x'"),
    "unknown group": ("y ~ x + (1 | gg)", "the grouping factor 'gg' .* Did you mean 'g'"),
    "unknown function": ("y ~ sqr(x) + (1 | g)", "'sqr', which is no function .*'sqrt'"),
    "unclosed": ("y ~ x + (1 | g", r"unclosed '\('\n    y ~ x \+ \(1 \| g\n            \^"),
    "unopened": ("y ~ x + 1 | g)", r"'\)' that nothing opened"),
    "no parentheses": ("y ~ x + 1 | g", r"write \(x \| g\)"),
    "two tildes": ("y ~ x, random = ~1 | g", "more than one '~'"),
    "nothing on the right": ("y ~", "nothing on its right-hand side"),
    "empty": ("", "the formula is empty; for an intercept only write '1'"),
    "wrong side": ("(1 | g) ~ y", "the left-hand side is one variable or one call"),
    "sum on the left": ("y + z ~ x", r"write I\(a \+ b\)"),
    "two responses": ("cbind(y, z) ~ x + (1 | g)", "two columns, .* see MixedLogisticClassifier"),
    "response on the right": ("y ~ y + (1 | g)", "'y' also stands on the right-hand side"),
    "response as slope": ("y ~ x + (y | g)", "'y' also stands on the right-hand side"),
    "R's data frame": ("df$y ~ x", "the left-hand side is one variable"),
    "R's argument": ("y ~ x + (1 | g, REML=FALSE)", "a grouping factor is a column, a:b or a/b"),
    "smooth inside": ("y ~ f:s(x) + (1 | g)", r"a smooth term s\(x\) is added on its own"),
    "tensor product": ("y ~ te(x, x) + (1 | g)", r"te\(\) is R's: write a product of splines"),
    "R's modulus": ("y ~ x %% 2", "the operator %% is R's"),
    "subtracted term": ("y ~ x - (1 | g)", "cannot be subtracted"),
    "multiplied term": ("y ~ x * (1 | g)", "can only be added"),
    "term twice": ("y ~ x + (1 | g) + (1 | g)", r"\(1 \| g\) stands twice"),
    "effect twice": ("y ~ x + (x | g) + (1 | g)", "'Intercept' by 'g' stands in two .*0 \\+ ..."),
    "sum of groups": ("y ~ x + (1 | g + h)", r"crossed factors are terms of their own"),
    "one level": ("y ~ x + (1 | one)", "'one' has one level, 'only': .* at least two"),
    "row per level": ("y ~ x + (1 | id)", "'id' has 60 levels for 60 observations, one row per"),
    "row per cell": ("y ~ x + (1 | g / h)", "'g:h' has 60 levels for 60 observations"),
    "effects as rows": ("y ~ x + (x + z + f + x:z | g)", "has 60 effects .10 levels x 6"),
    "dependent effects": ("y ~ x + (x + I(2 * x - 1) | g)", r"linearly dependent, I\(2 \* x - 1\)"),
    "fixed and random": ("y ~ 0 + g + (1 | g)", "of 'Intercept' for every level of 'g', so REML"),
    "fixed and random slope": ("y ~ g * x + (0 + x | g)", "coefficient of 'x' for every level"),
}  # fmt: skip


@pytest.mark.parametrize(("formula", "message"), FORMULAS.values(), ids=FORMULAS)
def test_formulas(data, formula, message):
    with pytest.raises(ValueError, match=message):
        MixedLinearRegressor(formula).fit(data)


COLUMNS = {
    "missing covariate": (_with(x=lambda d: d.x.mask(d.id < 3)), r"\(NaN\) in x \(3\): .*='drop'"),
    "missing response": (_with(y=lambda d: d.y.mask(d.id < 2)), r"missing values .* in y \(2\)"),
    "missing group": (_with(g=lambda d: d.g.mask(d.id < 4)), r"missing values .* in g \(4\)"),
    "several missing": (
        _with(x=lambda d: d.x.mask(d.id < 3), g=lambda d: d.g.mask(d.id < 2)),
        r"in x \(3\), g \(2\)",
    ),
    "infinite": (_with(x=lambda d: d.x.mask(d.id < 3, np.inf)), "'x' has 3 infinite values"),
    "infinite response": (_with(y=lambda d: d.y.mask(d.id < 1, -np.inf)), "'y' has 1 infinite"),
    "constant response": (_with(y=3.0), "the response is constant .3.: there is no variance"),
    "datetime": (_with(x=pd.date_range("2020", periods=N)), "'x' holds dates: .* days since"),
    "datetime response": (_with(y=pd.date_range("2020", periods=N)), "'y' holds dates"),
    "time span": (_with(x=pd.to_timedelta(np.arange(N), unit="s")), "'x' holds time spans"),
    "complex": (_with(x=lambda d: d.x + 1j), "'x' holds complex numbers: .*modulus"),
    "complex group": (_with(g=lambda d: d.id * 1j), "'g' holds complex numbers"),
    "mixed types": (_with(x=[1, "a"] * 30), "'x' holds values of mixed types"),
    "mixed group": (_with(g=[1, "a"] * 30), "'g' holds values of mixed types"),
    "lists": (_with(x=[[1.0]] * N), "'x' holds values of mixed types"),
    "numbers as text": (_with(x=lambda d: d.x.astype(str)), "'x' holds numbers stored as text"),
    "response as text": (_with(y=lambda d: d.y.astype(str)), "'y' holds numbers stored as text"),
    "text response": (_with(y=lambda d: d.g), "'y' holds categories: it must be numbers"),
    "no rows": (lambda d: d[:0], "the data have zero rows"),
    "duplicate name": (lambda d: pd.concat([d, d[["x"]]], axis=1), "more than one column .*'x'"),
    "duplicate as text": (lambda d: d.rename(columns={"z": 3}).assign(**{"3": 1}), "named .'3'."),
}


@pytest.mark.parametrize(("change", "message"), COLUMNS.values(), ids=COLUMNS)
def test_columns(data, change, message):
    with pytest.raises(ValueError, match=message):
        MixedLinearRegressor("y ~ x + (1 | g)").fit(change(data))


RESPONSES = {
    "missing": (lambda y: y.mask(y.index < 3), r"missing values \(NaN\) in the response \(3\)"),
    "infinite": (lambda y: y.mask(y.index < 1, np.inf), "y has 1 infinite value:"),
    "short": (lambda y: y[:-1], "X has 60 rows and y has 59"),
    "two columns": (lambda y: np.array([["a", "b"]] * N), "y must be numbers, got text"),
    "a cube": (lambda y: np.zeros((N, 2, 2)), "Found array with dim 3"),
    "classes": (
        lambda y: np.array(["no", "yes"] * 30),
        r"for the classes \['no', 'yes'\] there is MixedLogisticClassifier",
    ),
    "text": (lambda y: np.array(["a"] * N), "y must be numbers, got text"),
    "numbers as text": (lambda y: y.astype(str), "got text .*pandas.to_numeric"),
    "dates": (lambda y: pd.date_range("2020", periods=N), "y must be numbers, got dates"),
    "complex": (lambda y: y.to_numpy() + 1j, "[Cc]omplex data"),
    "objects": (lambda y: np.array([1.0, "a"] * 30, dtype=object), "y must be numbers, got mixed"),
    "none": (lambda y: None, "requires y to be passed, .* or name the response in the formula"),
}


@pytest.mark.parametrize(("change", "message"), RESPONSES.values(), ids=RESPONSES)
def test_responses(data, change, message):
    with pytest.raises(ValueError, match=message):
        MixedLinearRegressor("x + (1 | g)").fit(data, change(data["y"]))


def test_response_named_twice(data):
    with pytest.raises(ValueError, match=r"names the response 'y' and y was given too. Use .*'x"):
        MixedLinearRegressor("y ~ x + (1 | g)").fit(data, data["y"])


@pytest.mark.parametrize("formula", [None, ".", "x + y", "x + (y | g)"])
def test_response_among_the_columns(data, formula):
    with pytest.raises(ValueError, match="the response y is also the column 'y' of X"):
        MixedLinearRegressor(formula).fit(data[["x", "y", "g"]], data["y"])
    MixedLinearRegressor("x + (1 | g)").fit(data, data["y"])  # it may be there


def test_one_sided_formula_with_a_tilde(data):
    """A one-sided formula with R's tilde is a one-sided formula."""
    one, other = (
        MixedLinearRegressor(f).fit(data, data["y"]) for f in ("~ x + (1 | g)", "x + (1 | g)")
    )
    assert one.deviance_ == pytest.approx(other.deviance_, abs=1e-8)


WEIGHTS = {
    "zero": ({"w": 0.0}, "prior_weights must be positive, 60 values are not: .*sample_weight 0"),
    "negative": ({"w": [-1.0] + [1.0] * 59}, "must be positive, 1 value is not"),
    "missing": ({"w": [np.nan] * 2 + [1.0] * 58}, r"in the prior weights \(2\)"),
    "infinite": ({"w": [np.inf] + [1.0] * 59}, "'w' has 1 infinite value"),
    "text": ({"w": ["a"] * N}, "the prior weights 'w' are not numbers"),
    "absent": ({"v": 1.0}, "the column of prior weights 'w' is not in the data"),
}


@pytest.mark.parametrize(("columns", "message"), WEIGHTS.values(), ids=WEIGHTS)
def test_prior_weights(data, columns, message):
    model = MixedLinearRegressor("y ~ x + (1 | g)", prior_weights="w")
    with pytest.raises(ValueError, match=message):
        model.fit(data.assign(**columns))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (-np.ones(N), "sample_weight must be finite and not negative"),
        (np.full(N, np.nan), "sample_weight must be finite"),
        (np.zeros(N), "sample_weight is zero for every row"),
        (np.ones(N - 1), r"sample_weight has shape \(59,\), the data have 60 rows"),
        (2.0, r"sample_weight has shape \(\)"),
    ],
)
def test_sample_weights(data, weights, message):
    with pytest.raises(ValueError, match=message):
        MixedLinearRegressor("y ~ x + (1 | g)").fit(data, sample_weight=weights)


def test_normalised_weights_are_no_counts(data):
    message = "counts rows, and the weights of 60 rows sum to 1 observations, .* multiplied by 60"
    for settings in ({}, {"reml": False}):
        with pytest.raises(ValueError, match=message):
            MixedLinearRegressor("y ~ x + (1 | g)", **settings).fit(
                data, sample_weight=np.full(N, 1 / N)
            )
    with pytest.raises(ValueError, match="sum to 12 observations, for 14 parameters"):
        MixedLinearRegressor("y ~ poly(x, 11) + (1 | h)").fit(data, sample_weight=np.full(N, 0.2))
    unweighted = MixedLinearRegressor("y ~ x").fit(data)
    weighted = MixedLinearRegressor("y ~ x").fit(data, sample_weight=np.full(N, 1 / N))
    np.testing.assert_allclose(weighted.fixed_effects_, unweighted.fixed_effects_)
    assert np.isnan(weighted.sigma_)
    assert weighted.df_resid_ == 0


def test_weight_zero_may_leave_one_level(data):
    weights = (data["g"] == "a").astype(float)
    with pytest.raises(ValueError, match="'g' has one level, 'a'"):
        MixedLinearRegressor("y ~ x + (1 | g)").fit(data, sample_weight=weights)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"formula": 3}, "'formula' parameter .* must be an instance of 'str' or None. Got 3"),
        ({"formula": b"y ~ x"}, "'formula' parameter"),
        ({"reml": "no"}, "'reml' parameter"),
        ({"rank_deficient": "qr"}, "'rank_deficient' parameter"),
        ({"unseen_groups": "zero"}, "'unseen_groups' parameter"),
        ({"missing": "ignore"}, "'missing' parameter"),
        ({"prior_weights": [1.0]}, "'prior_weights' parameter"),
        ({"max_iter": 0}, "'max_iter' parameter"),
        ({"tol": 0.0}, "'tol' parameter"),
        ({"verbose": "yes"}, "'verbose' parameter"),
    ],
)
def test_parameters(data, settings, message):
    with pytest.raises(ValueError, match=message):
        MixedLinearRegressor(**settings).fit(data[["x"]], data["y"])


# Groups


def test_groups_that_cannot_be(data):
    X, y, g = data[["x"]], data["y"], data["g"]
    with pytest.raises(ValueError, match="have a column named 'groups' too"):
        MixedLinearRegressor().fit(X.assign(groups=1), y, groups=g)
    with pytest.raises(ValueError, match=r"groups must have shape \(60,\), got \(59,\)"):
        MixedLinearRegressor().fit(X, y, groups=g[:-1])
    with pytest.raises(ValueError, match=r"groups must have shape \(60,\), got \(60, 1\)"):
        MixedLinearRegressor().fit(X, y, groups=data[["g"]])
    with pytest.raises(ValueError, match="the formula 'x' does not use them: add a term such as"):
        MixedLinearRegressor("x").fit(X, y, groups=g)
    with pytest.raises(ValueError, match="the grouping factor 'groups' is not a column"):
        MixedLinearRegressor("x + (1 | groups)").fit(X, y)
    with pytest.raises(ValueError, match=r"missing values .* in groups \(1\)"):
        MixedLinearRegressor().fit(X, y, groups=g.mask(g.index == 0))
    model = MixedLinearRegressor("x").fit(X, y)
    with pytest.raises(ValueError, match="groups were given for prediction, but the model was fi"):
        model.predict(X, groups=g)


# Prediction


@pytest.fixture
def fitted(data):
    return MixedLinearRegressor("y ~ x + f + (1 | g)").fit(data)


PREDICTIONS = {
    "absent column": (lambda d: d[["x", "g"]], "was fitted with 'f', which the new data do not"),
    "absent group": (lambda d: d[["x", "f"]], "was fitted with 'g', which the new data do not"),
    "unknown category": (_with(f="s"), "'f' has the unknown category 's'; .*'p', 'q', 'r'"),
    "missing": (_with(x=lambda d: d.x.mask(d.id < 2)), r"missing values .* in x \(2\)"),
    "infinite": (_with(x=np.inf), "'x' has 60 infinite values"),
    "text": (_with(x="a"), "'x' was a number at the fit and is a category now"),
    "other levels": (_with(g=1), "'g' had levels like 'a' at the fit and has levels like 1 now"),
    "dates": (_with(x=pd.date_range("2020", periods=N)), "'x' holds dates"),
}


@pytest.mark.parametrize(("change", "message"), PREDICTIONS.values(), ids=PREDICTIONS)
def test_predictions(fitted, data, change, message):
    with pytest.raises(ValueError, match=message):
        fitted.predict(change(data))


def test_prediction_needs_no_response_and_no_unused_column(fitted, data):
    needed = data[["g", "f", "x"]]
    np.testing.assert_allclose(fitted.predict(needed), fitted.predict(data), rtol=1e-9, atol=1e-9)
    assert fitted.predict(needed[:0]).shape == (0,)
    assert [a.shape for a in fitted.predict(needed[:0], return_std=True)] == [(0,), (0,)]


@pytest.mark.parametrize(
    "use",
    [
        lambda m, d: m.predict(d),
        lambda m, d: m.predict_interval(d),
        lambda m, d: m.simulate(d),
        lambda m, d: m.score(d),
        lambda m, d: m.summary(),
        lambda m, d: m.expand(),
    ],
)
def test_not_fitted(data, use):
    with pytest.raises(NotFittedError, match="MixedLinearRegressor instance is not fitted yet"):
        use(MixedLinearRegressor("y ~ x + (1 | g)"), data)


def test_attributes_appear_with_the_fit():
    model = MixedLinearRegressor("y ~ x + (1 | g)")
    for name in ("coef_", "random_effects_", "theta_", "deviance_", "n_obs_", "is_singular_"):
        assert not hasattr(model, name)


BEFORE = ["coef_", "theta_", "result_", "random_terms_", "deviance_", "n_obs_", "n_features_in_"]


@pytest.mark.parametrize("name", BEFORE)
def test_attributes_before_the_fit_are_not_fitted_errors(name):
    with pytest.raises(NotFittedError, match=f"is not fitted yet. .* before reading {name}"):
        getattr(MixedLinearRegressor(), name)


def test_names_that_are_none_are_attribute_errors(fitted):
    for name in ("coef__", "fixed_effect_", "fixed_effects"):
        with pytest.raises(AttributeError, match=name) as caught:
            getattr(fitted, name)
        assert not isinstance(caught.value, NotFittedError)


FAILURES = {
    "data": lambda m, d: m.fit(d.drop(columns="g")),
    "parameter": lambda m, d: m.set_params(tol=-1.0).fit(d),
    "warning as error": lambda m, d: m.fit(d.assign(x=1.0)),
    "interrupt": lambda m, d: m.fit(_Interrupting(d)),
}


class _Interrupting(dict):
    """A dict of columns in the reading of which the user presses Ctrl-C."""

    def __getitem__(self, name):
        raise KeyboardInterrupt


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
def test_after_a_failed_fit_the_model_is_not_fitted(data, fail):
    model = MixedLinearRegressor("y ~ x + (1 | g)").fit(data)
    with pytest.raises((ValueError, RankDeficiencyWarning, KeyboardInterrupt)):
        fail(model, data)
    for use in (lambda: model.predict(data), model.summary, lambda: model.coef_):
        with pytest.raises(NotFittedError):
            use()
    assert not hasattr(model, "theta_")


def test_an_interrupt_in_the_search_leaves_no_model(data, monkeypatch):
    model = MixedLinearRegressor("y ~ x + (1 | g)", verbose=1).fit(data)

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(data)
    monkeypatch.undo()
    with pytest.raises(NotFittedError):
        model.predict(data)


def test_arrays_without_rows_are_predicted(data):
    model = MixedLinearRegressor().fit(data[["x"]].to_numpy(), data["y"], groups=data["g"])
    none = np.empty((0, 1))
    assert model.predict(none, groups=[]).shape == (0,)
    assert model.predict_interval(none, groups=[]).shape == (0, 2)
    assert model.simulate(none, 3, groups=[]).shape == (0, 3)


def test_other_errors(fitted, data):
    with pytest.raises(ValueError, match="needs y: the formula names no response"):
        MixedLinearRegressor("x + (1 | g)").fit(data, data["y"]).score(data)
    with pytest.raises(ValueError, match="n_samples must be a positive integer, got -1"):
        fitted.simulate(data, -1)
    with pytest.raises(ValueError, match="from 1 sample"):
        MixedLinearRegressor("x + (1 | g)").fit(data[:1], data["y"][:1])
    with pytest.raises(ValueError, match=r"no row is complete"):
        MixedLinearRegressor("y ~ x", missing="drop").fit(data.assign(x=np.nan))


def test_polars_names_missing_values(data):
    table = pl.DataFrame(data.assign(x=data["x"].mask(data["id"] < 3)).to_dict("list"))
    with pytest.raises(ValueError, match=r"missing values .* in x \(3\)"):
        MixedLinearRegressor("y ~ x + (1 | g)").fit(table)


def test_masked_values_are_missing(data):
    X = np.ma.masked_greater(data[["x", "z"]].to_numpy(), 1.0)
    with pytest.raises(ValueError, match=r"missing values .* in x0 \(\d+\), x1"):
        MixedLinearRegressor().fit(X, data["y"])
    with pytest.raises(ValueError, match=r"missing values .* in the response \(2\)"):
        MixedLinearRegressor().fit(data[["x"]], np.ma.array(data["y"], mask=data["id"] < 2))
    model = MixedLinearRegressor(missing="drop").fit(X, data["y"])
    assert model.n_obs_ == (data[["x", "z"]] <= 1).all(axis=1).sum()


def test_the_offset_may_be_all_of_the_variation(data):
    formula, data = "x + offset(z) + (1 | g)", data.assign(z=np.round(8 * data["y"]) / 8)
    with pytest.raises(ValueError, match=r"the response less the offset is constant .2.:"):
        MixedLinearRegressor(formula).fit(data, 2 + data["z"])
    constant = MixedLinearRegressor(formula).fit(data, np.ones(N))
    shifted = MixedLinearRegressor("x + (1 | g)").fit(data, 1 - data["z"])
    assert constant.deviance_ == pytest.approx(shifted.deviance_)


def test_columns_that_look_odd_but_are_fine(data):
    """Objects, nullable numbers, float32, booleans and sparse columns are the numbers they hold."""
    reference = MixedLinearRegressor("y ~ x + (1 | g)").fit(data).deviance_
    for x in (
        data["x"].astype(object),
        data["x"].astype("Float64"),
        pd.arrays.SparseArray(data["x"]),
    ):
        model = MixedLinearRegressor("y ~ x + (1 | g)").fit(data.assign(x=x))
        assert model.deviance_ == pytest.approx(reference, abs=1e-9)
    single = MixedLinearRegressor("y ~ x + (1 | g)").fit(data.astype({"x": "float32"}))
    assert single.deviance_ == pytest.approx(reference, abs=1e-3)


# Rank


def test_rank_deficient_columns_are_named(data):
    data = data.assign(x2=2 * data["x"] + 1, x3=data["x"] * (1 + 1e-15))
    with pytest.warns(RankDeficiencyWarning, match=r"x2 = 2 x \+ 1; x3 = x \(left out") as found:
        model = MixedLinearRegressor("y ~ x + x2 + x3 + (1 | g)").fit(data)
    assert found[0].filename == __file__
    plain = MixedLinearRegressor("y ~ x + (1 | g)").fit(data)
    assert model.aliased_.tolist() == [False, False, True, True]
    assert model.fixed_effects_.isna().tolist() == [False, False, True, True]
    assert model.coef_[1:].tolist() == [0.0, 0.0]
    assert model.deviance_ == pytest.approx(plain.deviance_, abs=1e-9)
    assert model.df_resid_ == plain.df_resid_
    np.testing.assert_allclose(model.vcov_.iloc[:2, :2], plain.vcov_, rtol=1e-6)
    np.testing.assert_allclose(model.predict(data), plain.predict(data))


def test_near_duplicates_that_differ_are_kept(data):
    """A difference of 1e-9 is information; one of 1e-15 is rounding."""
    noise = np.random.default_rng(1).normal(size=N)
    model = MixedLinearRegressor("y ~ x + x2 + (1 | g)").fit(
        data.assign(x2=data["x"] * (1 + 1e-9 * noise))
    )
    direct = MixedLinearRegressor("y ~ x + d + (1 | g)").fit(data.assign(d=data["x"] * noise))
    np.testing.assert_allclose(
        model.fixed_effects_["x2"] * 1e-9, direct.fixed_effects_["d"], rtol=1e-5
    )


def test_rank_deficiency_may_be_an_error(data):
    data = data.assign(x2=2 * data["x"] + 1)
    model = MixedLinearRegressor("y ~ x + x2 + (1 | g)", rank_deficient="raise")
    with pytest.raises(ValueError, match=r"x2 = 2 x \+ 1. Leave these columns out, or use"):
        model.fit(data)
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("formula", ["x + x2 + x3", "0 + x + x2 + x3", "x + x2 + x3 + (1 | g)"])
def test_minimum_norm(data, formula):
    """The shortest slopes; the intercept is free, as in scikit-learn's LinearRegression."""
    data = data.assign(x2=2 * data["x"] + 1, x3=data["z"])
    dropped = MixedLinearRegressor(formula)
    shortest = MixedLinearRegressor(formula, rank_deficient="minimum_norm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficiencyWarning)
        dropped.fit(data, data["y"])
        shortest.fit(data, data["y"])
    np.testing.assert_allclose(shortest.predict(data), dropped.predict(data))
    for one, other in zip(
        shortest.predict(data, return_std=True), dropped.predict(data, return_std=True), strict=True
    ):
        np.testing.assert_allclose(one, other)
    if not formula.startswith("0"):
        # the slopes lie in the row space of the centred columns
        null = np.array([2.0, -1.0, 0.0])
        assert shortest.coef_ @ null == pytest.approx(0.0, abs=1e-12)
        assert np.linalg.norm(shortest.coef_) < np.linalg.norm(dropped.coef_)
    columns = data[["x", "x2", "x3"]].to_numpy()
    fixed = columns @ shortest.coef_ + shortest.intercept_
    np.testing.assert_allclose(fixed, shortest.predict(data, random_effects=False))
    X = np.column_stack([np.ones(N), columns]) if shortest.intercept_ else columns
    np.testing.assert_allclose(
        np.sqrt(np.einsum("np,pq,nq->n", X, shortest.vcov_, X)),
        shortest.predict(data, random_effects=False, return_std=True)[1],
    )


def test_minimum_norm_is_that_of_linear_regression(data):
    X = np.column_stack([data["x"], 2 * data["x"] + 100, data["z"], data["z"] - data["x"]])
    theirs = LinearRegression().fit(X, data["y"])
    with pytest.warns(RankDeficiencyWarning, match="the solution of smallest norm"):
        ours = MixedLinearRegressor(rank_deficient="minimum_norm").fit(X, data["y"])
    np.testing.assert_allclose(ours.coef_, theirs.coef_)
    assert ours.intercept_ == pytest.approx(theirs.intercept_)


def test_fewer_rows_than_columns(data):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5, 8)), rng.normal(size=5)
    with pytest.warns(RankDeficiencyWarning, match="x4 = .*x6 = .*and 1 more"):
        model = MixedLinearRegressor().fit(X, y)
    np.testing.assert_allclose(model.predict(X), y)
    assert np.isnan(model.sigma_)
    assert model.df_resid_ == 0
    with (
        pytest.warns(RankDeficiencyWarning),
        pytest.warns(SingularFitWarning, match="explain the response exactly, so there is no var"),
    ):
        MixedLinearRegressor().fit(X, y, groups=[0, 0, 1, 1, 1])


def test_many_aliased_columns_make_a_short_message():
    rng = np.random.default_rng(0)
    with pytest.warns(
        RankDeficiencyWarning, match=r"x20 = .* \.\.\.; .*and 78 more, see linear"
    ) as found:
        model = MixedLinearRegressor().fit(rng.normal(size=(20, 100)), rng.normal(size=20))
    assert len(str(found[0].message)) < 900
    assert list(model.linear_dependencies_) == [f"x{j}" for j in range(19, 100)]
    assert len(model.linear_dependencies_["x99"]) == 20


# Fits at the edge


def test_max_iter_too_small(data):
    with pytest.warns(ConvergenceWarning, match="stopped after max_iter=1 .* Raise max_iter") as w:
        model = MixedLinearRegressor("y ~ x + (1 | g) + (1 | h)", max_iter=1).fit(data)
    assert w[0].filename == __file__
    assert not model.converged_
    assert "The optimiser did not converge" in str(model.summary())


def test_singular_fit(data):
    with pytest.warns(
        SingularFitWarning, match=r"variance components than \(Intercept \| h\)"
    ) as w:
        model = MixedLinearRegressor("y ~ 1 + (1 | g) + (1 | h)").fit(
            data.assign(y=data["y"] - data.groupby("h")["y"].transform("mean"))
        )
    assert w[0].filename == __file__
    assert model.is_singular_
    assert model.covariances_["h"].iloc[0, 0] == 0.0
    assert not model.random_effects_["h"].to_numpy().any()
    assert np.isfinite(model.predict(data, return_std=True)).all()


def test_least_squares_may_be_exact(data):
    model = MixedLinearRegressor("y ~ x").fit(data.assign(y=2 * data["x"] + 1))
    np.testing.assert_allclose(model.fixed_effects_, [1.0, 2.0])
    assert model.sigma_ == 0.0
    assert model.deviance_ == -np.inf
    assert not model.standard_errors_.any()


def test_fixed_effects_may_explain_everything(data):
    with pytest.warns(SingularFitWarning, match="the fixed effects explain the response exactly"):
        model = MixedLinearRegressor("y ~ x + (1 | g)").fit(data.assign(y=2 * data["x"] + 1))
    np.testing.assert_allclose(model.predict(data), 2 * data["x"] + 1)
    assert not model.theta_.any()
    assert model.sigma_ == 0.0


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_random_effects_may_explain_everything(data, noise):
    rng = np.random.default_rng(1)
    exact = data["x"] + rng.normal(size=10)[np.arange(N) // 6] + noise * rng.normal(size=N)
    with pytest.warns(ConvergenceWarning, match="together explain the response exactly, .* Leave"):
        model = MixedLinearRegressor("y ~ x + (1 | g)").fit(data.assign(y=exact))
    assert not model.converged_
    np.testing.assert_allclose(model.predict(data), exact, atol=1e-4)


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
def test_small_residuals_are_found(data, noise):
    """sigma is that of least squares within the groups, to the order of its square.

    Squares of the smallest ones have lost digits of the criterion, which is told.
    """
    rng = np.random.default_rng(1)
    y = data["x"] + rng.normal(size=10)[np.arange(N) // 6] + noise * rng.normal(size=N)
    lost = pytest.warns(ConvergenceWarning, match="rounding moves the criterion")
    with lost if noise < 1e-5 else nullcontext():
        model = MixedLinearRegressor("y ~ x + (1 | g)").fit(data.assign(y=y))
    within = MixedLinearRegressor("y ~ x + g").fit(data.assign(y=y))
    assert model.sigma_ == pytest.approx(within.sigma_, rel=1e-3)


def test_no_fixed_effect(data):
    model = MixedLinearRegressor("y ~ 0 + (1 | g)").fit(data)
    assert model.fixed_effects_.empty
    assert model.intercept_ == 0.0
    assert model.coef_.shape == (0,)
    assert model.vcov_.shape == (0, 0)
    assert not model.predict(data, random_effects=False).any()
    assert np.isfinite(model.predict(data, return_std=True)).all()


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e150])
def test_scale_of_the_response(data, scale):
    one = MixedLinearRegressor("y ~ x + (x | h) + (1 | g)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        model, other = (one.fit(data), MixedLinearRegressor(one.formula).fit(
            data.assign(y=scale * data["y"])))  # fmt: skip
    np.testing.assert_allclose(other.fixed_effects_ / scale, model.fixed_effects_, rtol=1e-6)
    np.testing.assert_allclose(other.predict(data) / scale, model.predict(data), rtol=1e-6)
    np.testing.assert_allclose(other.theta_, model.theta_, atol=1e-4)
    np.testing.assert_allclose(other.standard_errors_ / scale, model.standard_errors_, rtol=1e-4)
    for group, table in model.random_effects_std_.items():
        scaled = other.random_effects_std_[group] / scale
        np.testing.assert_allclose(scaled, table, rtol=1e-3, atol=1e-6)
    for random in (True, False):
        one, two = (
            m.predict(data, random_effects=random, return_std=True)[1] for m in (model, other)
        )
        np.testing.assert_allclose(two / scale, one, rtol=1e-4)
    assert other.sigma_ / scale == pytest.approx(model.sigma_, rel=1e-6)


def test_numbers_whose_squares_overflow(data):
    with pytest.raises(ValueError, match=r"the response reach .*e\+200, .* divide by a power of"):
        MixedLinearRegressor("y ~ x + (1 | g)").fit(data.assign(y=1e200 * data["y"]))
    with pytest.raises(ValueError, match=r"the prior weights reach 1e\+200"):
        MixedLinearRegressor("y ~ x + (1 | g)", prior_weights="w").fit(data.assign(w=1e200))


@pytest.mark.parametrize(
    ("factor", "shift"), [(1e9, 0.0), (1e-9, 0.0), (1.0, 1e9), (1.0, 1e12), (1e-6, -1e3)]
)
def test_scale_and_shift_of_a_covariate(factor, shift):
    """Fixed effects and random slopes fit as on the rescaled covariate."""
    rng = np.random.default_rng(0)
    # multiples of 1/16 stay exact beside 1e12
    x, g = np.round(rng.normal(size=300) * 16) / 16, np.arange(300) % 30
    y = x + rng.normal(size=30)[g] + rng.normal(size=30)[g] * x + rng.normal(size=300)
    data = pd.DataFrame({"x": x, "g": g, "y": y})
    moved = data.assign(x=factor * x + shift)
    model, other = (
        MixedLinearRegressor("y ~ x + (x | g)", reml=False).fit(d) for d in (data, moved)
    )
    assert other.deviance_ == pytest.approx(model.deviance_, abs=1e-5)
    assert other.n_evaluations_ <= model.n_evaluations_ + 2
    assert other.fixed_effects_["x"] * factor == pytest.approx(model.fixed_effects_["x"], rel=1e-4)
    slope = other.covariances_["g"].loc["x", "x"] * factor**2
    assert slope == pytest.approx(model.covariances_["g"].loc["x", "x"], rel=1e-3)
    for one, two in zip(
        other.predict(moved, return_std=True), model.predict(data, return_std=True), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
