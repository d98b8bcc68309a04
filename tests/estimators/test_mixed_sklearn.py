"""MixedLinearRegressor among scikit-learn's tools."""

import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_pastes, load_penicillin, load_sleepstudy

FORMULA = "Days + (Days | Subject)"


class RowGroups(MixedLinearRegressor):
    """A mixed model whose groups are a function of the row, as the checks need it.

    They fit without groups, repeat rows, and predict subsets of rows.
    """

    def fit(self, X, y=None, *, groups=None, sample_weight=None):
        return super().fit(X, y, groups=self._groups(X), sample_weight=sample_weight)

    def predict(self, X, *, groups=None, random_effects=True, return_std=False):
        return super().predict(
            X, groups=self._groups(X), random_effects=random_effects, return_std=return_std
        )

    def _groups(self, X):
        try:
            with np.errstate(invalid="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
                return np.floor(2 * np.asarray(X, dtype=float)[:, 0]) % 4
        except (TypeError, ValueError, IndexError):
            return None  # what is wrong with X is for the estimator to say


@pytest.mark.filterwarnings(
    "ignore::skmixed.exceptions.RankDeficiencyWarning",
    "ignore::skmixed.exceptions.SingularFitWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
@parametrize_with_checks(
    [
        MixedLinearRegressor(),
        MixedLinearRegressor(reml=False),
        MixedLinearRegressor(missing="drop"),
        MixedLinearRegressor(rank_deficient="minimum_norm"),
        RowGroups(),
        RowGroups(reml=False),
        RowGroups(missing="drop", unseen_groups="nan"),
    ]
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def X(sleep):
    return sleep[["Days", "Subject"]]


@pytest.fixture(scope="module")
def y(sleep):
    return sleep["Reaction"]


@pytest.fixture(scope="module")
def model(X, y):
    return MixedLinearRegressor(FORMULA).fit(X, y)


# Sample weights


WEIGHTED = {
    "one factor": "x + (x | g)",
    "crossed": "x + (1 | g) + (1 | h)",
    "nested": "f + (1 | h / g)",
    "uncorrelated": "x + (x || g) + offset(o)",
    "factor slopes": "f + (0 + f | h)",
}


def _weighted_data():
    rng = np.random.default_rng(0)
    n = 120
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "o": rng.normal(size=n),
            "g": np.arange(n) % 12,
            "h": np.arange(n) // 30,
            "f": np.array(["p", "q", "r"])[np.arange(n) % 3],
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    effects = rng.normal(size=12)[data.g] + rng.normal(size=4)[data.h]
    slopes = (
        rng.normal(size=12)[data.g] * data.x + rng.normal(size=(4, 3))[data.h, np.arange(n) % 3]
    )
    return data, (1 + data.x + effects + slopes + rng.normal(size=n)).to_numpy()


def _assert_same_fit(one, other, data, y):
    """The same model, to what the optimiser leaves undone (1e-8 in the criterion)."""
    assert other.deviance_ == pytest.approx(one.deviance_, abs=1e-7)
    assert other.sigma_ == pytest.approx(one.sigma_, rel=1e-5)
    assert other.n_obs_ == one.n_obs_
    np.testing.assert_allclose(other.fixed_effects_, one.fixed_effects_, atol=1e-5)
    np.testing.assert_allclose(other.predict(data), one.predict(data), atol=1e-5)
    for group, table in one.random_effects_.items():
        pd.testing.assert_frame_equal(other.random_effects_[group], table, atol=1e-4)
    assert other.score(data, y) == pytest.approx(one.score(data, y), abs=1e-6)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("prior", [None, "w"])
@pytest.mark.parametrize("formula", WEIGHTED.values(), ids=WEIGHTED)
def test_weights_count_rows(formula, prior, reml):
    """Weight 0 is the row left out, weight 2 the row repeated."""
    data, y = _weighted_data()
    counts = np.random.default_rng(1).integers(0, 3, len(y))
    rows = np.repeat(np.arange(len(y)), counts)
    model = MixedLinearRegressor(formula, reml=reml, prior_weights=prior)
    weighted = clone(model).fit(data, y, sample_weight=counts)
    repeated = clone(model).fit(data.iloc[rows], y[rows])
    kept = data[counts > 0], y[counts > 0]
    _assert_same_fit(weighted, repeated, *kept)
    assert weighted.score(data, y, sample_weight=counts) == pytest.approx(
        repeated.score(data.iloc[rows], y[rows]), abs=1e-6
    )


@pytest.mark.parametrize("gone", ["g == 3", "f == 'q'", "h == 1"])
def test_weight_zero_removes_levels_and_categories(gone):
    data, y = _weighted_data()
    keep = ~data.eval(gone).to_numpy()
    model = MixedLinearRegressor("f + x + (1 | g) + (1 | h)")
    weighted = clone(model).fit(data, y, sample_weight=keep.astype(float))
    left_out = clone(model).fit(data[keep], y[keep])
    _assert_same_fit(weighted, left_out, data[keep], y[keep])
    assert list(weighted.fixed_effects_.index) == list(left_out.fixed_effects_.index)


def test_weight_zero_hides_missing_values():
    data, y = _weighted_data()
    data = data.assign(g="g" + data["g"].astype(str))
    weights = np.ones(len(y))
    weights[:7] = 0.0
    holes = data.assign(x=data["x"].mask(weights == 0), g=data["g"].mask(data.index < 3))
    weighted = MixedLinearRegressor("x + (1 | g)").fit(
        holes, np.where(np.arange(len(y)) < 5, np.nan, y), sample_weight=weights
    )
    left_out = MixedLinearRegressor("x + (1 | g)").fit(data[7:], y[7:])
    _assert_same_fit(weighted, left_out, data[7:], y[7:])


def test_fractional_weights_scale_the_likelihood():
    """Half weights are half the log-likelihood of ordinary least squares."""
    data, y = _weighted_data()
    full = MixedLinearRegressor("x", reml=False).fit(data, y)
    half = MixedLinearRegressor("x", reml=False).fit(data, y, sample_weight=np.full(len(y), 0.5))
    assert half.deviance_ == pytest.approx(full.deviance_ / 2, rel=1e-10)
    assert half.n_obs_ == 60


# Parameters, pickles, processes


def test_clone_and_parameters(model):
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "result_")
    assert copy.set_params(reml=False, tol=1e-6).get_params()["tol"] == 1e-6
    assert "MixedLinearRegressor(formula=" in repr(copy)


def test_fit_leaves_parameters_and_data_alone(X, y):
    before, data = FORMULA, X.copy()
    model = MixedLinearRegressor(before).fit(data, y)
    assert model.formula is before
    pd.testing.assert_frame_equal(data, X)


def _arrays(thing, seen):
    """Every array that is reachable from an object."""
    if id(thing) in seen or isinstance(thing, str | bytes | int | float | type):
        return
    seen[id(thing)] = thing
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, pd.DataFrame | pd.Series | pd.Index):
        yield np.asarray(thing)
    elif isinstance(thing, dict):
        for part in thing.values():
            yield from _arrays(part, seen)
    elif isinstance(thing, list | tuple | set | frozenset):
        for part in thing:
            yield from _arrays(part, seen)
    elif hasattr(thing, "__dict__"):
        yield from _arrays(vars(thing), seen)


@pytest.mark.parametrize(
    "formula", ["x + f + (x | g)", "x + (1 | g) + (1 | h)", "poly(x, 2) + (f | h) + offset(o)"]
)
@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_no_training_row_is_kept(formula):
    data, y = _weighted_data()
    data, y = pd.concat([data] * 3, ignore_index=True), np.tile(y, 3)  # 360 is no other size
    model = MixedLinearRegressor(formula).fit(data, y + np.random.default_rng(2).normal(size=360))
    model.predict(data, return_std=True)
    shapes = [array.shape for array in _arrays(pickle.loads(pickle.dumps(model)), {})]
    assert len(shapes) > 5
    assert not [shape for shape in shapes if 360 in shape]
    in_memory = [array.shape for array in _arrays(model, {})]
    assert not [shape for shape in in_memory if 360 in shape]


def test_pickle_predicts_in_a_fresh_process(tmp_path, model, X):
    expected_summary = str(model.summary())  # what its tests need is kept from now on
    joblib.dump((model, X), tmp_path / "model.joblib")
    code = (
        "import joblib, sys\n"
        f"model, X = joblib.load({str(tmp_path / 'model.joblib')!r})\n"
        "mean, std = model.predict(X, return_std=True)\n"
        f"joblib.dump((mean, std, str(model.summary()), model.random_effects_['Subject']), "
        f"{str(tmp_path / 'out.joblib')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    mean, std, summary, effects = joblib.load(tmp_path / "out.joblib")
    expected = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-10)
    np.testing.assert_allclose(std, expected[1], rtol=1e-10)
    assert summary == expected_summary
    pd.testing.assert_frame_equal(effects, model.random_effects_["Subject"])


def test_pickle_of_many_groups_is_small():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(20_000), 3)
    y = rng.normal(size=20_000)[g] + rng.normal(size=len(g))
    model = MixedLinearRegressor().fit(rng.normal(size=(len(g), 1)), y, groups=g)
    assert len(pickle.dumps(model)) < 3e6
    copy = pickle.loads(pickle.dumps(model))
    new = np.ones((3, 1))
    for one, other in zip(
        copy.predict(new, groups=[0, 19_999, -1], return_std=True),
        model.predict(new, groups=[0, 19_999, -1], return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-10)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_parallel_fits_are_the_same(X, y):
    formulas = [FORMULA, "Days + (1 | Subject)", "(1 | Subject)", "Days"]
    parallel = joblib.Parallel(n_jobs=2)(
        joblib.delayed(MixedLinearRegressor(formula).fit)(X, y) for formula in formulas
    )
    for formula, model in zip(formulas, parallel, strict=True):
        assert model.deviance_ == MixedLinearRegressor(formula).fit(X, y).deviance_


# Model selection and pipelines


def test_cross_validation_by_group(X, y):
    model = MixedLinearRegressor(FORMULA)
    scores = cross_val_score(model, X, y, groups=X["Subject"], cv=GroupKFold(6))
    train, test = next(GroupKFold(6).split(X, y, X["Subject"]))
    fitted = clone(model).fit(X.iloc[train], y.iloc[train])
    assert scores[0] == pytest.approx(fitted.score(X.iloc[test], y.iloc[test]))
    np.testing.assert_allclose(
        fitted.predict(X.iloc[test]), fitted.predict(X.iloc[test], random_effects=False)
    )


def test_cross_validation_of_a_two_sided_formula(sleep, X, y):
    two_sided = cross_val_score(MixedLinearRegressor(f"Reaction ~ {FORMULA}"), sleep, cv=3)
    one_sided = cross_val_score(MixedLinearRegressor(FORMULA), X, y, cv=3)
    np.testing.assert_allclose(two_sided, one_sided)


def test_cross_val_predict(X, y):
    predicted = cross_val_predict(MixedLinearRegressor(FORMULA), X, y, cv=KFold(3))
    fitted = MixedLinearRegressor(FORMULA).fit(X.iloc[60:], y.iloc[60:])
    np.testing.assert_allclose(predicted[:60], fitted.predict(X.iloc[:60]))


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_grid_search_over_formulas(X, y):
    grid = {"formula": ["Days + (1 | Subject)", FORMULA, "Days"], "reml": [True, False]}
    search = GridSearchCV(
        MixedLinearRegressor(), grid, cv=KFold(5, shuffle=True, random_state=0), n_jobs=2
    ).fit(X, y)
    assert search.best_params_["formula"] == FORMULA
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_pipeline_with_column_transformer(sleep, y, output):
    table = sleep.assign(Subject=sleep["Subject"].astype(str))
    table = table if output == "pandas" else pl.DataFrame(table.to_dict("list"))
    columns = ColumnTransformer(
        [("scale", StandardScaler(), ["Days"]), ("keep", "passthrough", ["Subject"])],
        verbose_feature_names_out=False,
    ).set_output(transform=output)
    pipeline = Pipeline([("columns", columns), ("model", MixedLinearRegressor(FORMULA))])
    pipeline.fit(table, y)
    expected = MixedLinearRegressor(FORMULA).fit(sleep, y).predict(sleep)
    np.testing.assert_allclose(pipeline.predict(table), expected, rtol=1e-6)


def test_polars_and_pandas_agree(sleep, X, y, model):
    table = pl.DataFrame({"Days": X["Days"].to_numpy(), "Subject": X["Subject"].tolist()})
    from_polars = MixedLinearRegressor(FORMULA).fit(table, pl.Series(y.to_numpy()))
    assert from_polars.deviance_ == pytest.approx(model.deviance_)
    np.testing.assert_allclose(from_polars.predict(table[:5]), model.predict(X[:5]))
    assert list(from_polars.feature_names_in_) == ["Days", "Subject"]


def test_arrays_of_objects(X, y, model):
    """Text is a grouping factor in an array too; columns are x0, x1, ..."""
    from_array = MixedLinearRegressor("x0 + (x0 | x1)").fit(X.astype(object).to_numpy(), y)
    assert from_array.deviance_ == pytest.approx(model.deviance_)
    assert list(from_array.fixed_effects_.index) == ["Intercept", "x0"]
    assert from_array.n_features_in_ == 2
    rows = X.astype(object).to_numpy().tolist()
    assert MixedLinearRegressor("x0 + (x0 | x1)").fit(rows, y).deviance_ == pytest.approx(
        model.deviance_
    )


def test_dicts_of_columns(X, y, model):
    columns = {"Days": X["Days"].to_numpy(), "Subject": X["Subject"].to_numpy()}
    from_dict = MixedLinearRegressor(FORMULA).fit(columns, y)
    assert from_dict.deviance_ == pytest.approx(model.deviance_)
    new = {"Days": [0, 3], "Subject": ["308", "309"]}
    np.testing.assert_allclose(from_dict.predict(new), model.predict(pd.DataFrame(new)))


def test_an_array_for_a_model_of_a_frame_is_read_by_position(X, model):
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        predicted = model.predict(X.astype(object).to_numpy())
    np.testing.assert_allclose(predicted, model.predict(X))


def test_frames_with_numbers_as_names():
    """A column called 1 is not the intercept."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 3))
    y = values @ [1.0, 2.0, 3.0] + rng.normal(size=30)
    named = MixedLinearRegressor().fit(pd.DataFrame(values), y)
    np.testing.assert_allclose(named.coef_, MixedLinearRegressor().fit(values, y).coef_)


@pytest.mark.parametrize("name", ["1", "", "\\", "Intercept"])
def test_names_that_a_formula_cannot_have(name):
    values = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ValueError, match=r"a column named .* rename it"):
        MixedLinearRegressor().fit(pd.DataFrame(values, columns=[name, "x"]), values[:, 0])


@pytest.mark.parametrize(
    "name", ["a b", "a:b", "log(x)", "np", "C", "x.y", "0", "-1", "a|b", "~", "(1|g)", "True", "ü"]
)
def test_names_that_look_like_formulas(name):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 2))
    y = values @ [1.0, 2.0] + rng.normal(size=30)
    named = MixedLinearRegressor().fit(pd.DataFrame(values, columns=[name, "x"]), y)
    assert list(named.fixed_effects_.index) == ["Intercept", name, "x"]
    np.testing.assert_allclose(named.coef_, MixedLinearRegressor().fit(values, y).coef_)


# Groups


def test_groups_are_a_random_intercept(X, y):
    days = X[["Days"]]
    by_groups = MixedLinearRegressor().fit(days, y, groups=X["Subject"])
    by_formula = MixedLinearRegressor("Days + (1 | Subject)").fit(X, y)
    assert by_groups.deviance_ == pytest.approx(by_formula.deviance_)
    np.testing.assert_allclose(by_groups.predict(days, groups=X["Subject"]), by_formula.predict(X))
    np.testing.assert_allclose(by_groups.predict(days), by_formula.predict(X, random_effects=False))
    assert by_groups.score(days, y, groups=X["Subject"]) == pytest.approx(by_formula.score(X, y))


@pytest.mark.parametrize("kind", ["array", "pandas", "polars", "categorical"])
def test_groups_of_any_kind(X, y, kind):
    labels = X["Subject"].astype(str).to_numpy(dtype=object)
    days = X[["Days"]]
    groups = {
        "array": labels,
        "pandas": pd.Series(labels),
        "polars": pl.Series(labels.tolist()),
        "categorical": pd.Categorical(labels),
    }[kind]
    table = pl.DataFrame({"Days": X["Days"].to_numpy()}) if kind == "polars" else days
    model = MixedLinearRegressor("Days + (Days | groups)").fit(table, y, groups=groups)
    assert model.deviance_ == pytest.approx(1743.6282719580)
    np.testing.assert_allclose(
        model.predict(table, groups=groups), MixedLinearRegressor(FORMULA).fit(X, y).predict(X)
    )


def test_routing_of_groups_and_weights(X, y):
    days, groups, weights = X[["Days"]], X["Subject"].to_numpy(), np.tile([1.0, 2.0], 90)
    with sklearn.config_context(enable_metadata_routing=True):
        model = (
            MixedLinearRegressor()
            .set_fit_request(groups=True, sample_weight=True)
            .set_predict_request(groups=True)
            .set_score_request(groups=True, sample_weight=True)
        )
        cv = KFold(3, shuffle=True, random_state=0)
        found = cross_validate(
            model, days, y, params={"groups": groups, "sample_weight": weights}, cv=cv
        )
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        pipeline.fit(days, y, groups=groups, sample_weight=weights)
        predicted = pipeline.predict(days, groups=groups)
    train, test = next(cv.split(days))
    fitted = MixedLinearRegressor().fit(
        days.iloc[train], y.iloc[train], groups=groups[train], sample_weight=weights[train]
    )
    expected = fitted.score(
        days.iloc[test], y.iloc[test], groups=groups[test], sample_weight=weights[test]
    )
    assert found["test_score"][0] == pytest.approx(expected)
    whole = MixedLinearRegressor().fit(days, y, groups=groups, sample_weight=weights)
    np.testing.assert_allclose(predicted, whole.predict(days, groups=groups), rtol=1e-6)


# Invariances


@pytest.mark.parametrize(
    ("load", "formula"),
    [
        (load_sleepstudy, "Reaction ~ Days + (Days | Subject)"),
        (load_penicillin, "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        (load_pastes, "strength ~ 1 + (1 | batch / cask)"),
    ],
)
def test_row_order_and_level_names_do_not_matter(load, formula):
    frame = load().frame
    model = MixedLinearRegressor(formula).fit(frame)
    order = np.random.default_rng(0).permutation(len(frame))
    shuffled = MixedLinearRegressor(formula).fit(frame.iloc[order])
    assert shuffled.deviance_ == pytest.approx(model.deviance_, abs=1e-8)
    np.testing.assert_allclose(shuffled.predict(frame), model.predict(frame), rtol=1e-7)
    renamed = frame.copy()
    for name in frame.select_dtypes("category"):
        renamed[name] = [f"level {str(value)[::-1]}" for value in frame[name]]
    other = MixedLinearRegressor(formula).fit(renamed)
    assert other.deviance_ == pytest.approx(model.deviance_, abs=1e-8)
    np.testing.assert_allclose(other.predict(renamed), model.predict(frame), rtol=1e-7)
