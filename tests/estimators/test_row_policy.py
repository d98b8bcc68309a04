"""New rows that lack something: each has its own fate, and a report tells of it."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixed import (
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
    UnseenGroupsWarning,
)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 240
    g, h = rng.integers(0, 12, n), rng.integers(0, 5, n)
    x = rng.uniform(1.0, 9.0, n)
    y = 1.0 + 0.3 * x + rng.normal(size=12)[g] + rng.normal(size=5)[h] + 0.5 * rng.normal(size=n)
    return pd.DataFrame(
        {
            "y": y,
            "k": rng.poisson(np.exp(0.3 * y)),
            "z": np.where(y + rng.logistic(size=n) > 3.0, "yes", "no"),
            "x": x,
            "f": rng.choice(["u", "v", "w"], n),
            "b": rng.integers(0, 2, n).astype(bool),
            "g": [f"g{k:02d}" for k in g],
            "h": h.astype(float),
        }
    )


RANDOM = "+ (1 | g) + (1 | h)"
LENIENT = {"missing": "drop", "unknown_categories": "nan"}
MODELS = [
    MixedLinearRegressor(f"y ~ x + f + b {RANDOM}", **LENIENT),
    MixedGLMRegressor(f"k ~ x + f + b {RANDOM}", **LENIENT),
    MixedLogisticClassifier(f"z ~ x + f + b {RANDOM}", **LENIENT),
]


def _broken(frame):
    """Rows with one fault each, after one without; and those whose prediction is no number."""
    rows = frame.iloc[np.zeros(7, dtype=int)].astype({"f": object, "g": object, "b": object})
    rows = rows.reset_index(drop=True)
    rows.loc[1, "f"] = "nowhere"
    rows.loc[2, "x"] = np.nan
    rows.loc[3, "x"] = np.inf
    rows.loc[4, "g"] = "g99"
    rows.loc[5, "g"] = None
    rows.loc[6, "h"] = np.nan
    return rows, [1, 2, 3]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_a_batch_is_its_rows_one_by_one(frame, model):
    model = clone(model).fit(frame)
    rows, lost = _broken(frame)
    scale = {} if isinstance(model, MixedLinearRegressor) else {"scale": "link"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnseenGroupsWarning)
        alone = [
            np.ravel(model.predict(rows[i : i + 1], return_std=True, **scale)) for i in range(7)
        ]
        together = np.transpose(model.predict(rows, return_std=True, **scale))
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    assert np.flatnonzero(np.isnan(together[:, 0])).tolist() == lost
    assert np.flatnonzero(np.isnan(model.simulate(rows, 2, random_state=0)[:, 0])).tolist() == lost
    assert np.flatnonzero(np.isnan(model.predict_interval(rows)[:, 0])).tolist() == lost


def test_a_missing_level_is_an_unseen_one(frame):
    rows, _ = _broken(frame)
    rows = rows.iloc[[0, 4, 5, 6]]
    settings = {"formula": f"y ~ x + f {RANDOM}"}
    model = MixedLinearRegressor(**settings).fit(frame)
    mean, std = model.predict(rows, return_std=True)
    assert mean[2] == pytest.approx(mean[1]) and std[2] == pytest.approx(std[1])
    part = model.predict(rows, random_effects=["g"])
    assert mean[3] == pytest.approx(part[0])  # the effect of g stays
    assert model.simulate(rows, 3, random_state=0).shape == (4, 3)
    nan = MixedLinearRegressor(**settings, unseen_groups="nan").fit(frame)
    assert np.isnan(nan.predict(rows)).tolist() == [False, True, True, True]
    strict = MixedLinearRegressor(**settings, unseen_groups="raise").fit(frame)
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in g \(1\), h \(1\)"):
        strict.predict(rows)


def test_residuals_of_rows_without_a_level_are_left_out_as_at_the_fit(frame):
    gaps = frame.astype({"g": object}).copy()
    gaps.loc[3, "g"] = None
    model = MixedLinearRegressor("y ~ x + (1 | g)", missing="drop").fit(gaps)
    found = model.residuals(gaps, kind="studentized")
    assert np.flatnonzero(np.isnan(found)).tolist() == [3]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_unknown_categories_are_an_error_unless_asked_for(frame, model):
    rows, _ = _broken(frame)
    model = clone(model).set_params(unknown_categories="raise").fit(frame)
    with pytest.raises(ValueError, match="'f' has the unknown category 'nowhere'"):
        model.predict(rows[:2])
    with pytest.raises(ValueError, match="unknown_categories"):
        clone(model).set_params(unknown_categories="drop").fit(frame)


def test_other_unknown_values(frame):
    model = MixedLinearRegressor("y ~ x + f + b + (0 + f | g)", unknown_categories="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame)
    rows = frame[:4].assign(b=[0.0, 1.0, 2.0, 0.0], f=pd.Categorical(["u", "v", "w", "q"]))
    assert np.isnan(model.predict(rows)).tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="missing values"):  # is still an error
        model.predict(rows.assign(x=[1.0, np.nan, 1.0, 1.0]))
    with pytest.raises(ValueError, match="was a number at the fit"):
        model.predict(rows.assign(x="text"))
    assert np.isnan(model.predict(rows[3:])).all()


def test_nonlinear_models_have_the_same_policies():
    rng = np.random.default_rng(0)
    t, g = np.tile(np.arange(1.0, 7.0), 10), np.repeat(np.arange(10), 6)
    f = np.where(g % 2, "u", "v")
    y = (5 + (f == "u") + rng.normal(size=10)[g]) * np.exp(-0.3 * t) + 0.05 * rng.normal(size=60)
    data = pd.DataFrame({"y": y, "t": t, "g": g, "f": f})
    model = MixedNonlinearRegressor(
        "y ~ A * exp(-k * t) ~ (A | g)",
        fixed={"A": "f"},
        start={"A": 5.0, "k": 0.3},
        **LENIENT,
    ).fit(data)
    rows = data[:4].astype({"g": float, "f": object}).reset_index(drop=True)
    rows.loc[1, "f"] = "nowhere"
    rows.loc[2, "g"] = np.nan
    rows.loc[3, "t"] = np.inf
    assert np.isnan(model.predict(rows)).tolist() == [False, True, False, True]
    report = model.predict_report(rows)
    assert (
        report.loc["f", "unknown"] == report.loc["g", "missing"] == report.loc["t", "missing"] == 1
    )
    kept = model.simulate(data, 400, random_state=0, conditional=True)
    assert np.abs(kept.mean(axis=1) - model.predict(data)).max() < 0.02
    assert (
        kept.std(axis=1).max() < 0.1 < model.simulate(data, 400, random_state=0).std(axis=1).max()
    )


@pytest.mark.parametrize("spline", ["bs(x, df=4)", "bs(x, knots=(4, 6), lower_bound=0)"])
def test_a_spline_beyond_its_bounds_is_undefined_there_alone(frame, spline):
    formula = f"y ~ {spline} + (1 | g)"
    rows = frame[:3].assign(x=[5.0, 100.0, -100.0])
    model = MixedLinearRegressor(formula, missing="drop").fit(frame)
    assert np.isnan(model.predict(rows)).tolist() == [False, True, True]
    assert model.predict_report(rows).loc["(expressions)", "undefined"] == 2
    strict = MixedLinearRegressor(formula).fit(frame)
    with pytest.raises(ValueError, match=r"not defined in 2 rows: .*extrapolation='extend'"):
        strict.predict(rows)
    free = MixedLinearRegressor(formula.replace("bs(x, ", "bs(x, extrapolation='extend', "))
    assert np.isfinite(free.fit(frame).predict(rows)).all()


def test_an_infinite_transform_is_undefined(frame):
    model = MixedLinearRegressor("y ~ log(x) + (1 | g)", missing="drop").fit(frame)
    rows = frame[:3].assign(x=[1.0, 0.0, -1.0])
    assert np.isnan(model.predict(rows)).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="infinite"):  # at the fit it is a mistake
        clone(model).fit(frame.assign(x=np.where(np.arange(len(frame)) == 3, 0.0, frame["x"])))


def test_predict_report_counts_and_masks(frame):
    data = frame.assign(x2=2 * frame["x"])
    model = MixedLinearRegressor(f"y ~ x + x2 + f + log(x + 1) {RANDOM} + (1 | g:h)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.set_params(unseen_groups="raise").fit(data)
    rows, _ = _broken(frame)
    rows = rows.assign(x2=2 * rows["x"]).set_index(pd.Index(list("abcdefg")))
    rows.loc["a", "x2"] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = model.predict_report(rows)
        masks = model.predict_report(rows, kind="rows")
    assert report.attrs["n_rows"] == 7
    found = report.drop(columns="kind")
    expected = pd.DataFrame(0, index=found.index, columns=found.columns)
    expected.loc["g", ["unseen", "missing"]] = 1, 1
    expected.loc["h", "missing"] = 1
    expected.loc["g:h", ["unseen", "missing"]] = 1, 2
    expected.loc[["x", "x2"], "missing"] = 2
    expected.loc["f", "unknown"] = 1
    expected.loc["(row space)", "outside"] = 1
    expected.loc["(any)"] = 1, 4, 1, 0, 1
    pd.testing.assert_frame_equal(found, expected)
    assert masks["unseen"]["g"].tolist() == [False] * 4 + [True] + [False] * 2
    assert masks.index.tolist() == list("abcdefg")
    assert masks["outside"]["(row space)"].tolist() == [True] + [False] * 6
    pd.testing.assert_series_equal(
        masks.sum().loc["missing"].astype(int), found["missing"], check_names=False
    )
    low = rows[:1].assign(x=-1.0, x2=-2.0)
    assert model.predict_report(low).loc["(expressions)", "undefined"] == 1
    with pytest.raises(ValueError, match="kind must be 'counts' or 'rows'"):
        model.predict_report(rows, kind="all")
    with pytest.raises(ValueError, match="'f', which the new data do not have"):
        model.predict_report(rows.drop(columns="f"))


def test_predict_report_of_groups_that_were_not_given(frame):
    model = MixedLinearRegressor().fit(frame[["x"]], frame["y"], groups=frame["g"])
    assert model.predict_report(frame[["x"]]).loc["groups", "missing"] == len(frame)
    report = model.predict_report(frame[["x"]], groups=frame["g"].replace("g00", "new"))
    assert report.loc["groups", "unseen"] == (frame["g"] == "g00").sum()


def _told(model, rows):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict(rows)
    return [str(w.message) for w in caught if w.category is UnseenGroupsWarning]


def test_most_rows_of_unseen_levels_are_told_once(frame):
    model = MixedLinearRegressor("y ~ x + (1 | g / f) + (1 | h)").fit(frame)
    rows = frame[:10].astype({"g": object}).copy()
    assert not _told(model, rows.assign(g=["new"] * 5 + rows["g"].tolist()[5:]))
    [told] = _told(model, rows.assign(g=["new"] * 6 + rows["g"].tolist()[6:]))
    assert "6 of 10 rows are of levels of 'g'" in told and "now like 'new'" in told
    [told] = _told(model, rows.assign(g=["new"] * 3 + [None] * 5 + rows["g"].tolist()[8:]))
    assert "3 of 5 rows" in told  # of those with a level
    assert not _told(model, rows.assign(g=None))
    assert len(_told(model, rows.assign(g="new", h=-1.0))) == 2


def test_part_of_the_random_effects_everywhere(frame):
    model = MixedLogisticClassifier(f"z ~ x {RANDOM}").fit(frame)
    rows = frame[:6].drop(columns="h")
    link = model.predict(rows, scale="link", random_effects=["g"])
    own = model.random_effects_["g"].loc[rows["g"], "Intercept"]
    population = model.predict(rows, scale="link", random_effects=False)
    np.testing.assert_allclose(link, population + own.to_numpy())
    p = model.predict_proba(rows, random_effects=["g"])[:, 1]
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-link)))
    limits = model.predict_interval(rows, random_effects=["g"])
    assert ((limits[:, 0] < p) & (p < limits[:, 1])).all()
    for ask in (
        model.predict,
        model.predict_proba,
        model.decision_function,
        model.predict_interval,
        model.simulate,
    ):
        with pytest.raises(ValueError, match="list of grouping factors, got \\['school'\\]"):
            ask(frame[:6], random_effects=["school"])


def test_conditional_simulation_keeps_the_modes_of_known_levels(frame):
    model = MixedLinearRegressor(f"y ~ x {RANDOM}").fit(frame)
    rows = frame[:4].astype({"g": object}).copy()
    rows.iloc[3, rows.columns.get_loc("g")] = "new"
    kept = model.simulate(rows, 4000, random_state=0, conditional=True)
    mean, sigma = model.predict(rows), model.sigma_
    assert np.abs(kept.mean(axis=1) - mean).max() < 0.12
    np.testing.assert_allclose(kept[:3].std(axis=1), sigma, rtol=0.06)
    variance = float(model.covariances_["g"].iloc[0, 0])
    assert kept[3].std() == pytest.approx(np.hypot(sigma, np.sqrt(variance)), rel=0.06)
    counts = MixedGLMRegressor("k ~ x + (1 | g)").fit(frame)
    drawn = counts.simulate(frame[:5], 4000, random_state=0, conditional=True)
    mean = counts.predict(frame[:5])
    assert (np.abs(drawn.mean(axis=1) - mean) < 5 * np.sqrt(mean / 4000)).all()


def test_intervals_and_standard_errors_through_a_pipeline(frame):
    scale = ColumnTransformer(
        [("scale", StandardScaler(), ["x"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    pipe = make_pipeline(scale, MixedLinearRegressor("x + (1 | g)"))
    X, y = frame[["x", "g"]], frame["y"]
    pipe.fit(X, y)
    plain = MixedLinearRegressor("x + (1 | g)").fit(X, y)
    found = pipe.predict(X[:5], return_std=True, random_effects=["g"])
    np.testing.assert_allclose(found, plain.predict(X[:5], return_std=True), rtol=1e-6)
    own = pipe[-1].predict_interval(pipe[:-1].transform(X[:5]), kind="observation")
    np.testing.assert_allclose(own, plain.predict_interval(X[:5], kind="observation"), rtol=1e-6)
    more, y_more = X[:3].assign(g="new"), y[:3]
    taken = pipe[-1].condition(pipe[:-1].transform(more), y_more)
    np.testing.assert_allclose(
        taken.predict(pipe[:-1].transform(more)), plain.condition(more, y_more).predict(more),
        rtol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("re_form", "random_effects= of predict: True, False or a list"),
        ("se_fit", "return_std=True"),
        ("interval", "predict_interval"),
        ("allow_new_levels", "unseen_groups"),
        ("class_weight", "sample_weight= of fit"),
        ("newdata", "X, the first argument"),
        ("missing", "belongs to the constructor"),
        ("nonsense", "unexpected keyword argument 'nonsense'. It has X, groups, random_effects"),
    ],
)
def test_arguments_by_other_names_are_told(frame, name, told):
    for model in (MixedLinearRegressor("y ~ x + (1 | g)"), MODELS[1], MODELS[2]):
        model = clone(model).fit(frame)
        with pytest.raises(TypeError, match=told):
            model.predict(frame[:2], **{name: True})


@pytest.mark.parametrize(
    ("settings", "column", "value"),
    [
        ({"residual": "ident(f)"}, "f", "nowhere"),
        ({"residual": "ident(f)"}, "f", None),
        ({"residual": "power(x)"}, "x", np.nan),
        ({"residual": "power(x)"}, "x", np.inf),
        ({"residual": "us(v | u)"}, "v", "never"),
        ({"residual": "us(v | u)"}, "u", None),
        ({"prior_weights": "x"}, "x", np.inf),
        ({"prior_weights": "x"}, "x", -1.0),
    ],
)
def test_rows_without_a_residual_variance_are_nan_alone(frame, settings, column, value):
    data = frame.assign(u=np.arange(len(frame)) // 3, v=np.tile(["a", "b", "c"], len(frame) // 3))
    formula = "y ~ h" if "us(v | u)" in settings.values() else "y ~ h + (1 | g)"
    model = MixedLinearRegressor(formula, **settings, **LENIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data)
    rows = data[:3].astype({"f": object, "v": object, "u": object}).reset_index(drop=True)
    good = model.predict_interval(rows, kind="observation")
    rows.loc[1, column] = value
    limits = model.predict_interval(rows, kind="observation")
    assert np.isnan(limits).any(axis=1).tolist() == [False, True, False]
    np.testing.assert_allclose(limits[[0, 2]], good[[0, 2]], rtol=1e-9)
    drawn = model.simulate(rows, 5, random_state=0)
    assert np.isnan(drawn).all(axis=1).tolist() == [False, True, False]
    assert np.isfinite(model.predict(rows)).all() or column == "x"
    strict = clone(model).set_params(missing="raise", unknown_categories="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strict.fit(data)
    with pytest.raises(ValueError):
        strict.predict_interval(rows, kind="observation")


@pytest.mark.parametrize("coded", ["C(h)", "C(h, contr.sum) * x", "C(x // 4)", "C(b)"])
def test_categories_of_expressions_are_the_fate_of_their_rows(frame, coded):
    model = MixedLinearRegressor(f"y ~ {coded} + (1 | g)", unknown_categories="nan").fit(frame)
    rows = frame.head(4).assign(h=[1.0, 99.0, 2.0, 3.0], x=[2.0, 2.0, 3.0, 400.0])
    lost = [1] if "h" in coded else [3] if "//" in coded else []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = model.predict(rows)
        alone = np.ravel([model.predict(rows[i : i + 1]) for i in range(4)])
    assert np.flatnonzero(np.isnan(made)).tolist() == lost
    np.testing.assert_allclose(made, alone, rtol=1e-9)
    assert model.predict_report(rows).loc["(expressions)", "undefined"] == len(lost)
    if lost:
        with pytest.raises(ValueError, match="unknown category"):
            model.set_params(unknown_categories="raise").predict(rows)


def test_tables_of_effects_leave_the_model_as_it_is(frame):
    model = clone(MODELS[0]).fit(frame)
    names = [levels.name for levels in model.labels_.levels.values()]
    assert [table.index.name for table in model.random_effects_.values()] == ["g", "h"]
    assert [levels.name for levels in model.labels_.levels.values()] == names


def test_masks_of_lists_have_plain_rows():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(40, 2)), np.arange(40) % 4
    y = groups + rng.normal(size=40)
    model = MixedLinearRegressor().fit(X, y, groups=groups)
    for rows in (X[:2].tolist(), tuple(map(tuple, X[:2]))):
        masks = model.predict_report(rows, groups=[1, 9], kind="rows")
        assert masks["unseen", "groups"].tolist() == [False, True]
        assert masks.index.tolist() == [0, 1]
