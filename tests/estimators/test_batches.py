"""Fits of rows in batches are those of the same rows in memory."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skmixed import MixedLinearRegressor, MixedLogisticClassifier
from skmixed.exceptions import RankDeficiencyWarning, SingularFitWarning


def _table(n=3000, seed=0, n_users=60, n_items=25):
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, n_users, n), rng.integers(0, n_items, n)
    user[:n_users], item[:n_items] = np.arange(n_users), np.arange(n_items)
    x, t = rng.normal(3.0, 2.0, n), rng.uniform(0, 10, n)
    kind = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
    effect = rng.normal(0, 1, n_users)[user] + rng.normal(0, 0.4, n_users)[user] * t
    y = 2 + x - 0.1 * t + (kind == "b") + effect + rng.normal(0, 0.7, n_items)[item]
    return pd.DataFrame(
        {
            "y": y + rng.normal(0, 1.0, n),
            "x": x,
            "t": t,
            "kind": kind,
            "flag": x > 4,
            "day": rng.integers(1, 4, n),
            "user": [f"u{k:03d}" for k in user],
            "item": item * 3,
            "brand": [f"b{k % 5}" for k in item],
            "city": [f"c{k % 7}" for k in user],
            "w": rng.uniform(0.5, 2.0, n),
            "f": rng.integers(0, 4, n),
            "off": rng.normal(0, 1, n),
        }
    )


def _batches(table, size=700):
    return lambda: (table[k : k + size] for k in range(0, len(table), size))


def _quiet(fit, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return fit(*args, **kwargs)


def _assert_same_fit(found, expected, table, rtol=1e-10):
    """All that a fit tells, at the precision of the estimates."""
    n = expected.n_obs_
    assert found.n_obs_ == n
    assert found.df_resid_ == expected.df_resid_
    np.testing.assert_allclose(found.deviance_, expected.deviance_, rtol=rtol)
    np.testing.assert_allclose(found.theta_, expected.theta_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.sigma_, expected.sigma_, rtol=rtol)
    pd.testing.assert_series_equal(
        found.fixed_effects_, expected.fixed_effects_, rtol=rtol, atol=rtol
    )
    pd.testing.assert_series_equal(
        found.standard_errors_, expected.standard_errors_, rtol=rtol, atol=rtol
    )
    pd.testing.assert_frame_equal(found.vcov_, expected.vcov_, rtol=rtol, atol=rtol)
    for group, effects in expected.random_effects_.items():
        pd.testing.assert_frame_equal(
            found.random_effects_[group], effects, rtol=rtol, atol=10 * rtol
        )
        pd.testing.assert_frame_equal(
            found.random_effects_std_[group],
            expected.random_effects_std_[group],
            rtol=rtol,
            atol=10 * rtol,
        )
    np.testing.assert_array_equal(found.aliased_, expected.aliased_)
    assert found.random_terms_ == expected.random_terms_
    for own, given in zip(
        found.predict(table[:50], return_std=True),
        expected.predict(table[:50], return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(own, given, rtol=10 * rtol, atol=10 * rtol)


FORMULAS = [
    "y ~ x + (1 | user)",
    "y ~ x + t + kind + (t | user)",
    "y ~ x + kind + (1 | user) + (1 | item)",
    "y ~ x * kind + (t || user) + (1 | item)",
    "y ~ x + (t | user) + (x | item)",
    "y ~ x + (1 | item) + (1 | brand)",
    "y ~ x + (t | user) + (1 | city)",
    "y ~ x + (1 | item) + (1 | brand) + (t | user) + (1 | city)",
    "y ~ x + (1 | city) + (1 | brand) + (1 | kind)",
    "y ~ x + (1 | city:brand) + (1 | user)",
    "y ~ x + (1 | city/user)",
    "y ~ 0 + kind + x + (0 + x | user)",
    "y ~ flag * kind + C(day) + (0 + kind | city)",
    "y ~ center(x) + scale(t) + standardize(x*t) + (center(t) | user)",
    "y ~ poly(t, 3) + I(x**2) + (poly(t, 2) | city)",
    "y ~ bs(t, knots=[3.0, 6.0]) + (1 | user)",
    "y ~ 0 + cr(x, knots=[0.0, 3.0, 6.0]) + (1 | user)",
    "log(y**2 + 1) ~ I(x - mean(x)) + np.minimum(t, max(t) / 2) + (1 | user)",
    "y ~ x + offset(off) + (t | user)",
    "y ~ x + ar1(0 + C(day) | city) + (1 | user)",
    "y ~ x + cs(0 + kind | user)",
    "y ~ . - y + (1 | user)",
    "y ~ x + kind",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_batches_give_the_fit_of_all_rows(formula):
    table = _table()
    if "." in formula.split("~")[1].split():
        table, formula = table[["y", "x", "t", "kind", "user"]], "y ~ . + (1 | user)"
    model = MixedLinearRegressor(formula)
    expected = _quiet(model.fit, table)
    found = _quiet(MixedLinearRegressor(formula).fit_batches, _batches(table))
    _assert_same_fit(found, expected, table)


@pytest.mark.parametrize("size", [1, 13, 999, 10_000])
@pytest.mark.parametrize("reml", [True, False])
def test_the_size_of_the_batches_does_not_matter(size, reml):
    table = _table(600, n_users=20, n_items=8)
    formula = "y ~ x + kind + (t | user) + (1 | item)"
    expected = MixedLinearRegressor(formula, reml=reml).fit(table)
    found = MixedLinearRegressor(formula, reml=reml).fit_batches(_batches(table, size))
    _assert_same_fit(found, expected, table)


def test_the_order_of_the_batches_does_not_matter():
    table = _table().sort_values("user", kind="stable")
    parts = [table[k : k + 400] for k in range(0, len(table), 400)]
    formula = "y ~ x + poly(t, 2) + kind + (t | user) + (1 | item)"
    one = MixedLinearRegressor(formula).fit_batches(lambda: iter(parts))
    other = MixedLinearRegressor(formula).fit_batches(lambda: iter(parts[::-1]))
    _assert_same_fit(other, one, table)
    assert list(other.random_effects_["user"].index) == sorted(table["user"].unique())


@pytest.mark.parametrize("formula", ["y ~ x + kind + (t | user) + (1 | item)", "y ~ scale(t) + x"])
def test_weights_and_frequencies_are_columns(formula):
    table = _table()
    expected = MixedLinearRegressor(formula, prior_weights="w").fit(
        table, sample_weight=table["f"].to_numpy()
    )
    model = MixedLinearRegressor(formula, prior_weights="w")
    found = model.fit_batches(_batches(table), sample_weight="f")
    _assert_same_fit(found, expected, table)
    for own, given in (
        (found.anova(), expected.anova()),
        (found.r2(), expected.r2()),
    ):
        pd.testing.assert_frame_equal(
            pd.DataFrame(own), pd.DataFrame(given), rtol=1e-7, check_dtype=False
        )


def test_a_column_of_frequencies_is_no_covariate():
    table = _table()[["y", "x", "user", "f"]]
    model = MixedLinearRegressor("y ~ . + (1 | user)").fit_batches(
        _batches(table), sample_weight="f"
    )
    assert list(model.fixed_effects_.index) == ["Intercept", "x"]


def test_rows_with_missing_values_are_left_out_of_every_batch():
    table = _table()
    rng = np.random.default_rng(3)
    for name in ("y", "x", "kind", "user", "w"):
        table.loc[rng.choice(len(table), 40, replace=False), name] = None
    table.loc[:699, "x"] = np.nan  # a whole batch
    formula = "y ~ log(x + 2) + kind + center(t) + (t | user) + (1 | item)"
    settings = {"missing": "drop", "prior_weights": "w"}
    expected = MixedLinearRegressor(formula, **settings).fit(table)
    found = MixedLinearRegressor(formula, **settings).fit_batches(_batches(table))
    assert found.n_obs_ < 2300
    _assert_same_fit(found, expected, table.dropna())
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in"):
        MixedLinearRegressor(formula).fit_batches(_batches(table))


def test_large_values_keep_their_digits():
    table = _table()
    table["t"] = table["t"].round(3) + 1e7
    table["x"] = 1e-9 * table["x"]
    formula = "y ~ x + t + (t | user)"
    expected = MixedLinearRegressor(formula).fit(table)
    found = MixedLinearRegressor(formula).fit_batches(_batches(table))
    _assert_same_fit(found, expected, table, rtol=1e-8)


def test_a_first_batch_unlike_the_others():
    table = _table().sort_values(["kind", "t"])
    formula = "y ~ kind * t + I(t**2) + (t | user)"
    expected = MixedLinearRegressor(formula).fit(table)
    found = MixedLinearRegressor(formula).fit_batches(_batches(table, 100))
    _assert_same_fit(found, expected, table)


def test_a_rare_cell_that_no_sample_holds():
    rng = np.random.default_rng(0)
    n = 40_000
    table = pd.DataFrame(
        {
            "a": rng.choice(["p", "q"], n),
            "b": rng.choice(["r", "s"], n),
            "g": rng.integers(0, 30, n),
            "x": rng.normal(0, 1, n),
        }
    )
    table.loc[table["a"] == "q", "b"] = "r"
    table.loc[[7777, 23456], ["a", "b"]] = ["q", "s"]
    table["y"] = table["x"] + rng.normal(0, 1, n) + rng.normal(0, 1, 30)[table["g"]]
    formula = "y ~ a * b + x + (1 | g)"
    expected = MixedLinearRegressor(formula).fit(table)
    found = MixedLinearRegressor(formula).fit_batches(_batches(table, 9000))
    assert not found.aliased_.any()
    _assert_same_fit(found, expected, table, rtol=1e-8)


@pytest.mark.parametrize("rank_deficient", ["drop", "minimum_norm"])
def test_dependent_columns_are_told_and_left_out(rank_deficient):
    table = _table()
    table["twice"] = 2 * table["x"] - 1
    formula = "y ~ x + twice + kind + t + I(x + t) + (1 | user)"
    model = MixedLinearRegressor(formula, rank_deficient=rank_deficient)
    with pytest.warns(RankDeficiencyWarning):
        expected = model.fit(table)
    other = MixedLinearRegressor(formula, rank_deficient=rank_deficient)
    with pytest.warns(RankDeficiencyWarning, match="a fit in memory decides at 1e-12"):
        found = other.fit_batches(_batches(table))
    _assert_same_fit(found, expected, table)
    assert found.linear_dependencies_.keys() == expected.linear_dependencies_.keys()
    for name, own in expected.linear_dependencies_.items():
        assert found.linear_dependencies_[name] == pytest.approx(own, rel=1e-9)
    with pytest.raises(ValueError, match="rank deficient"):
        MixedLinearRegressor(formula, rank_deficient="raise").fit_batches(_batches(table))


def test_declared_levels_are_not_scanned_and_may_have_no_rows():
    table = _table()
    formula = "y ~ x + kind + (t | user) + (1 | item)"
    users = [f"u{k:03d}" for k in range(80)]  # the last 20 have no rows
    levels = {"user": users, "kind": pd.CategoricalDtype(["c", "b", "a", "none"])}
    found = MixedLinearRegressor(formula).fit_batches(_batches(table), levels=levels)
    declared = table.assign(
        user=pd.Categorical(table["user"], users), kind=table["kind"].astype(levels["kind"])
    )
    _assert_same_fit(found, MixedLinearRegressor(formula).fit(declared), table)
    with pytest.raises(ValueError, match="'user' has the unknown category 'u059'"):
        MixedLinearRegressor(formula).fit_batches(_batches(table), levels={"user": users[:59]})
    with pytest.raises(ValueError, match="which no term uses"):
        MixedLinearRegressor(formula).fit_batches(_batches(table), levels={"city": ["c1"]})
    with pytest.raises(ValueError, match="must be different"):
        MixedLinearRegressor(formula).fit_batches(_batches(table), levels={"user": ["a", "a"]})
    with pytest.raises(ValueError, match=r"levels like 'u000'.*declares such as 1"):
        MixedLinearRegressor(formula).fit_batches(_batches(table), levels={"user": [1, 2]})


def test_categories_keep_their_order_where_all_batches_agree_on_it():
    table = _table()
    table["kind"] = pd.Categorical(table["kind"], ["c", "a", "b"], ordered=True)
    table["item"] = pd.Categorical(table["item"], sorted(table["item"].unique(), reverse=True))
    formula = "y ~ kind + (1 | item)"
    expected = MixedLinearRegressor(formula).fit(table)
    _assert_same_fit(MixedLinearRegressor(formula).fit_batches(_batches(table)), expected, table)
    plain = table.assign(kind=table["kind"].astype(str), item=table["item"].astype(int))
    own = [part.astype({"kind": "category"}) for part in _batches(plain)()]
    own[1]["kind"] = own[1]["kind"].cat.reorder_categories(["b", "c", "a"])
    for parts in (own, own[::-1]):
        found = MixedLinearRegressor(formula).fit_batches(lambda p=parts: iter(p))
        _assert_same_fit(found, MixedLinearRegressor(formula).fit(plain), plain)


def test_tests_means_and_comparisons_know_no_difference():
    from skmixed.inference import emmeans, likelihood_ratio_test

    table = _table()
    formula = "y ~ x + kind + (t | user) + (1 | item)"
    expected = MixedLinearRegressor(formula).fit(table)
    found = MixedLinearRegressor(formula).fit_batches(_batches(table))
    pd.testing.assert_frame_equal(found.coefficients(), expected.coefficients(), rtol=1e-7)
    pd.testing.assert_frame_equal(
        pd.DataFrame(emmeans(found, "kind").frame), pd.DataFrame(emmeans(expected, "kind").frame)
    )
    null = MixedLinearRegressor("y ~ x + kind + (1 | user) + (1 | item)")
    other = MixedLinearRegressor(null.formula).fit(table)
    null.fit_batches(_batches(table, 450))
    pd.testing.assert_frame_equal(
        likelihood_ratio_test(null, found), likelihood_ratio_test(other, expected), rtol=1e-6
    )
    np.testing.assert_allclose(
        found.residuals(table, kind="studentized"),
        expected.residuals(table, kind="studentized"),
        rtol=1e-8,
    )


def test_empty_batches_and_batches_without_a_complete_row():
    table = _table(500)
    formula = "y ~ x + (1 | user)"
    parts = [table[:0], table[:200], table[:0], table[200:]]
    found = MixedLinearRegressor(formula).fit_batches(lambda: iter(parts))
    _assert_same_fit(found, MixedLinearRegressor(formula).fit(table), table)
    sizes = [len(part) for part in found.predict_batches(lambda: iter(parts))]
    assert sizes == [0, 200, 0, 300]
    nothing = [pd.DataFrame(), table[:200], pd.DataFrame(), table[200:]]
    found = MixedLinearRegressor(formula).fit_batches(lambda: iter(nothing))
    _assert_same_fit(found, MixedLinearRegressor(formula).fit(table), table)


def test_predictions_come_batch_by_batch():
    table = _table(500)
    model = MixedLinearRegressor("y ~ x + (t | user)").fit(table)
    for source in (_batches(table, 90), iter(_batches(table, 90)())):
        found = list(model.predict_batches(source))
        assert len(found) == 6
        np.testing.assert_allclose(
            np.concatenate(found), model.predict(table), rtol=1e-9, atol=1e-9
        )
    fixed = next(model.predict_batches(_batches(table, 90), random_effects=False))
    np.testing.assert_allclose(
        fixed, model.predict(table[:90], random_effects=False), rtol=1e-9, atol=1e-9
    )


def test_progress_is_told(capsys):
    table = _table(500)
    MixedLinearRegressor("y ~ x + (1 | user)", verbose=1).fit_batches(_batches(table))
    told = capsys.readouterr()
    assert "levels and means" in told.out + told.err
    assert "cross-products" in told.out + told.err


def test_generalised_models_have_no_batches():
    assert not hasattr(MixedLogisticClassifier("y ~ x + (1 | g)"), "fit_batches")


SIMPLE = "y ~ x + (1 | user)"


def _message(source, match, error=ValueError, formula=SIMPLE, **settings):
    with pytest.raises(error, match=match):
        MixedLinearRegressor(formula, **settings).fit_batches(source)


def test_sources_that_cannot_be_read_twice():
    table = _table(300)
    generator = _batches(table)()
    _message(generator, "got an iterator, which can be read only once", TypeError)
    _message(lambda: generator, "returned the same iterator again")
    _message(table, "DataFrame in memory is for fit", TypeError)
    _message(3, "got int", TypeError)
    _message(lambda: [table.to_numpy()], r"pandas DataFrame, got numpy\.ndarray", TypeError)
    _message(lambda: table, "must return an iterator", TypeError)
    _message(lambda: iter([]), "no rows")
    _message(lambda: [table[:0]], "the source has no row")


def test_arguments_of_the_wrong_kind():
    table = _table(300)
    model = MixedLinearRegressor(SIMPLE)
    with pytest.raises(TypeError, match=r"levels= must be a dict.*got list"):
        model.fit_batches(_batches(table), levels=["user"])
    with pytest.raises(TypeError, match=r"the name of a column.*got ndarray"):
        model.fit_batches(_batches(table), sample_weight=np.ones(300))
    model.fit_batches(_batches(table))
    with pytest.raises(TypeError, match=r"predict_batches reads batches; .* is for predict"):
        list(model.predict_batches(table))
    with pytest.raises(TypeError, match=r"predict_batches reads batches: .*got list"):
        list(model.predict_batches([table]))


def test_sources_that_change():
    table, calls = _table(1500), []

    def fewer():
        calls.append(1)
        return iter([table if len(calls) < 3 else table[:900]])

    _message(fewer, "1,500 rows .* then 900")
    calls.clear()

    def nothing():
        calls.append(1)
        return iter([table] if len(calls) < 3 else [])

    _message(nothing, "1,500 rows .* then 0")
    calls.clear()

    def other():
        calls.append(1)
        return iter([table if len(calls) < 3 else table.assign(y=2 * table["y"])])

    _message(other, "the source gave other rows .* in 'y'")
    calls.clear()

    def other_covariate():
        calls.append(1)
        return iter([table if len(calls) < 3 else table.assign(x=table["x"][::-1].to_numpy() * 2)])

    _message(other_covariate, "the source gave other rows .* in 'x'")
    calls.clear()

    def new_level():
        calls.append(1)
        return iter([table if len(calls) < 3 else table.assign(user="z" + table["user"])])

    _message(new_level, "was not there in the first pass")


def test_batches_that_do_not_fit_together():
    table = _table(600)
    first, second = table[:300], table[300:]
    _message(lambda: iter([first, second.drop(columns="x")]), "a batch has no column 'x'")
    text = second.assign(x=second["x"].map("v{}".format))
    _message(lambda: iter([first, text]), "'x' is a number in one batch and a category in another")
    numbers = second.assign(user=3)
    _message(lambda: iter([first, numbers]), "'user' has levels like 'u.*' in one batch and like 3")


@pytest.mark.parametrize(
    ("formula", "match"),
    [
        ("x + (1 | user)", "two sides"),
        (None, "two sides"),
        ("y ~ bs(t, df=5) + (1 | user)", "cannot learn 'bs.*knots"),
        ("y ~ cr(t, df=5) + (1 | user)", "cannot learn 'cr.*knots"),
        ("y ~ I(t > median(t)) + (1 | user)", "cannot learn 'median"),
        ("y ~ scale(center(t)) + (1 | user)", "a function of another"),
        ("y ~ nothing + (1 | user)", "'nothing' is not a column"),
        ("y ~ x + (1 | nothing)", "'nothing' is not a column"),
        ("y ~ s(t, k=6) + (1 | user)", "a smooth term is built of all rows"),
        ("y ~ x + expo(0 + x + t | user)", "positions are found in all rows"),
    ],
)
def test_formulas_that_need_all_rows(formula, match):
    _message(_batches(_table(300)), match, formula=formula)


def test_settings_that_need_all_rows():
    K = pd.DataFrame(np.eye(2), index=["a", "b"], columns=["a", "b"])
    _message(_batches(_table(300)), "no relationship=", relationship={"user": K})
    _message(_batches(_table(300)), "trusted=False", trusted=True)
    _message(_batches(_table(300)), "no residual= structure", residual="ident(kind)")
    with pytest.raises(ValueError, match="sample weights 'n' is not in the data"):
        MixedLinearRegressor(SIMPLE).fit_batches(_batches(_table(300)), sample_weight="n")


def test_data_that_determine_no_model():
    table = _table(300)
    _message(_batches(table.assign(y=1.0)), "the response is constant")
    _message(_batches(table.assign(user="one")), "has one level")
    _message(_batches(table.assign(user=range(300))), "one row per level")
    _message(_batches(table), "hold a coefficient", formula="y ~ kind + (1 | kind)")
    _message(_batches(table.assign(y=np.inf)), "infinite")
    _message(_batches(table.assign(w=-1.0)), "must be positive", prior_weights="w")


def test_a_response_that_is_explained_exactly():
    table = _table(400).assign(y=lambda rows: 2 * rows["x"] + 1)
    with pytest.warns(SingularFitWarning, match="exactly"):
        expected = MixedLinearRegressor(SIMPLE).fit(table)
    with pytest.warns(SingularFitWarning, match="exactly"):
        found = MixedLinearRegressor(SIMPLE).fit_batches(_batches(table, 90))
    np.testing.assert_allclose(found.fixed_effects_, expected.fixed_effects_, rtol=1e-10)
    np.testing.assert_allclose(found.theta_, expected.theta_, rtol=1e-6)


def test_quoted_names_and_functions_of_them():
    table = _table(900).rename(columns={"x": "my x", "t": "t (s)"})
    formula = "y ~ center(`my x`) + poly(`t (s)`, 2) + np.exp(-`my x`) + (1 | user)"
    found = MixedLinearRegressor(formula).fit_batches(_batches(table, 200))
    _assert_same_fit(found, MixedLinearRegressor(formula).fit(table), table)


def test_fits_are_pickled_without_their_rows():
    table = _table(2000)
    model = MixedLinearRegressor("y ~ x + (t | user)").fit_batches(_batches(table, 200))
    text = pickle.dumps(model)
    np.testing.assert_allclose(
        pickle.loads(text).predict(table), model.predict(table), rtol=1e-9, atol=1e-9
    )
    assert len(text) < 8 * len(table) * 4


def test_memory_does_not_grow_with_the_rows():
    """Beyond some 40,000 rows: so many are kept at most, for fingerprints."""
    table = _table(6000)

    def peak(n_batches):
        def batches():
            for number in range(n_batches):
                yield table.assign(y=table["y"] + np.sin(number * table["t"]))

        tracemalloc.start()
        MixedLinearRegressor("y ~ x + kind + (1 | user)").fit_batches(batches)
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(10), peak(30)  # 60,000 rows and 180,000
    assert many < few + 2e6  # the numbers of 120,000 rows are 5 MB and more


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 | user) + (1 | item)",
        "y ~ x + (1 | item) + (t | user)",
        "y ~ x + (x || item) + (1 | user) + (1 | city)",
        "y ~ x + (1 | brand/item) + (1 | user)",
        "y ~ x + (t | user)",
        "y ~ x",
    ],
)
def test_iterations_take_the_same_path_as_with_all_rows_in_memory(formula):
    table = _table()
    model = MixedLinearRegressor(formula, solver="iterative")
    expected = _quiet(model.fit, table)
    found = _quiet(clone(model).fit_batches, _batches(table))
    assert found.solver_ == expected.solver_
    assert found.n_evaluations_ == expected.n_evaluations_
    assert found.n_probes_ == expected.n_probes_
    _assert_same_fit(found, expected, table, rtol=1e-7)
    np.testing.assert_allclose(found.theta_mc_std_, expected.theta_mc_std_, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("settings", [{"sample_weight": "f"}, {"prior_weights": "w"}])
def test_iterations_start_from_the_same_rows_as_in_memory(settings, monkeypatch):
    for module in ("deviance", "batch_coordinates"):
        monkeypatch.setattr(f"skmixed.models.{module}.THINNED_FROM", 1000)
    monkeypatch.setattr("skmixed.models.stochastic._THINNED", 10)
    table = _table()
    weight = settings.pop("sample_weight", None)
    model = MixedLinearRegressor(
        "y ~ x + (t | user) + (1 | item)", solver="iterative", random_state=3, **settings
    )
    given = None if weight is None else table[weight]
    columns = table if weight is None else table.drop(columns=weight)
    expected = _quiet(model.fit, columns, sample_weight=given)
    found = clone(model).fit_batches(_batches(table), sample_weight=weight)
    np.testing.assert_allclose(found.trace_, expected.trace_, rtol=1e-6, atol=1e-6)
    plain = _quiet(clone(model).set_params(random_state=4).fit, columns, sample_weight=given)
    assert np.abs(plain.trace_.iloc[0, 1:] - expected.trace_.iloc[0, 1:]).max() > 1e-3


def test_the_solver_is_chosen_as_in_memory(monkeypatch):
    table = _table()
    for patience, name in ((1e9, "direct"), (0.0, "iterative")):
        monkeypatch.setattr("skmixed.linalg.iterative_choice._SMALL", 10)
        monkeypatch.setattr("skmixed.linalg.iterative_choice._PATIENCE", patience)
        model = MixedLinearRegressor("y ~ x + (1 | user) + (1 | item)")
        assert model.fit(table).solver_ == name
        assert model.fit_batches(_batches(table)).solver_ == name


def test_nested_factors_are_seen_in_sums_of_batches(monkeypatch):
    monkeypatch.setattr("skmixed.linalg.iterative_choice._SMALL", 10)
    monkeypatch.setattr("skmixed.linalg.iterative_choice._PATIENCE", 0.01)
    table = pd.concat([_table(6000, n_users=2000).assign(school=0)] * 2)
    table["school"] = table["user"].str[1:].astype(int) // 2
    model = MixedLinearRegressor("y ~ x + (1 | school) + (1 | user)")
    assert _quiet(model.fit_batches, _batches(table)).solver_ == "direct"
    table["school"] = np.random.default_rng(0).permutation(table["school"])
    assert _quiet(model.fit_batches, _batches(table)).solver_ == "iterative"


def test_a_large_monte_carlo_error_is_told(monkeypatch):
    monkeypatch.setattr("skmixed.estimators._solver.TOLD_SHARE", 0.0)
    model = MixedLinearRegressor("y ~ x + (1 | user) + (1 | item)", solver="iterative", n_probes=2)
    with pytest.warns(ConvergenceWarning, match="with 2 probes"):
        model.fit_batches(_batches(_table(n_users=200, n_items=80)))


def test_memory_is_checked_before_it_is_taken(monkeypatch):
    batches = _batches(_table())
    model = MixedLinearRegressor("y ~ x + (1 | user) + (1 | item)", solver="iterative")
    for module, size, match in (
        ("sums", 4000, r"for the levels of grouping factors in 5 batches, and the machine has"),
        ("sums", 30_000, r"for pairs of levels that meet in some row, and the machine has"),
        ("iterative_blocks", 40_000, "the iterative solver needs some .* GiB"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"skmixed.linalg.{module}.machine_memory", lambda size=size: size)
            with pytest.raises(MemoryError, match=match):
                model.fit_batches(batches)
