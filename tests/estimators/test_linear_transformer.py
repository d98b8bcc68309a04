"""RankDeficiencyTransformer: what it finds, drops, merges, rebuilds, and says."""

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmixed import (
    MixedLinearRegressor,
    RankDeficiencyTransformer,
    RankDeficiencyWarning,
    SingularFitWarning,
)
from skmixed.diagnostics import collinearity, near_zero_variance, scale_advice

DATA = Path(__file__).parents[1] / "data" / "rank"
ignore = pytest.mark.filterwarnings("ignore::skmixed.exceptions.RankDeficiencyWarning")
quick = settings(max_examples=30, derandomize=True, deadline=None)


@parametrize_with_checks(
    [
        RankDeficiencyTransformer(),
        RankDeficiencyTransformer("merge"),
        RankDeficiencyTransformer("warn", constant="keep", fit_intercept=False),
    ]
)
@ignore
def test_estimator_checks(estimator, check):
    check(estimator)


def people(n=40):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"height_m": rng.normal(1.7, 0.1, n), "c": rng.integers(0, 9, n)})
    frame["height_cm"] = 100 * frame["height_m"]
    frame["e"] = 2 * frame["c"] - 1
    frame["k"] = 3.5
    frame["both"] = frame["height_m"] + frame["c"]
    frame["tiny"] = rng.normal(size=n) * 1e-21
    frame["huge"] = rng.normal(size=n) * 1e9
    frame["g"] = pd.Categorical(np.resize(["a", "b", "a"], n), list("abz"))
    frame["rare"] = ["x"] * (n - 12) + ["y"] * 10 + ["q", "r"]
    frame["one"] = "u"
    frame["same"] = frame["g"].astype(str).str.upper()
    return frame


def fit(X, *args, **options):
    """(transformer, text of its one warning)."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        transformer = RankDeficiencyTransformer(*args, **options).fit(X)
    assert [w.category for w in told] == [RankDeficiencyWarning] * len(told)
    assert len(told) <= 1
    return transformer, str(told[0].message) if told else ""


def test_one_warning_says_where_everything_is():
    transformer, text = fit(people(), min_frequency=3)
    assert text.count("; ") == 3 and text.endswith("; and 5 more, see report_")
    listed = [f"{f.feature} {f.action} ({f.combination})" for f in transformer.report_.itertuples()]
    for part in [
        "height_cm dropped (height_cm = 100 height_m)",
        "e dropped (e = 2 c - 1)",
        "k dropped (k = 3.5)",
        "both dropped (both = height_m + c)",
        "g categories removed (no rows in 'z')",
        "rare merged into 'other' (q (1), r (1))",
        "one dropped (always 'u')",
        "same dropped (same has the same groups as g)",
    ]:
        assert part in listed
    kept = ["height_m", "c", "tiny", "huge", "g", "rare"]
    assert transformer.get_feature_names_out().tolist() == kept
    report = transformer.report_.set_index("feature")
    assert list(transformer.report_) == ["feature", "reason", "action", "combination"]
    assert report.loc["height_cm", ["reason", "action"]].tolist() == ["dependent", "dropped"]
    assert report.loc["k", "reason"] == "constant"
    assert "tiny" not in fit(people()[["tiny", "c"]])[1]  # size is no deficiency: advice only
    assert report.loc["tiny", ["reason", "action"]].tolist() == ["scale", "kept"]


def test_transform_keeps_types_and_inverse_rebuilds():
    frame = people()
    transformer, _ = fit(frame, min_frequency=3)
    out = transformer.transform(frame)
    assert out.dtypes["c"] == frame.dtypes["c"]
    assert out["g"].cat.categories.tolist() == ["a", "b"]
    assert set(out["rare"]) == {"x", "y", "other"}
    back = transformer.inverse_transform(out)
    assert list(back) == list(frame)
    for name in ["height_m", "c", "height_cm", "e", "k", "both", "tiny", "huge"]:
        np.testing.assert_array_equal(back[name], frame[name], err_msg=name)
    assert back["one"].tolist() == frame["one"].tolist()
    assert back["same"].tolist() == frame["same"].tolist()


def test_new_categories_are_treated_as_rare_ones():
    frame = people()
    new = frame.head(3).assign(rare=["newcomer", "q", "y"])
    assert fit(frame, min_frequency=3)[0].transform(new)["rare"].tolist() == ["other", "other", "y"]
    dropped = fit(frame, categories="drop", min_frequency=3)[0].transform(new)["rare"]
    assert dropped.isna().tolist() == [True, True, False]
    kept = fit(frame, categories="keep", min_frequency=3)[0].transform(new)["rare"]
    assert kept.tolist() == ["newcomer", "q", "y"]


@pytest.mark.parametrize(("least", "kept"), [(11, {"x", "other"}), (0.2, {"x", "y", "other"}),
                                             (None, {"x", "y", "q", "r"})])  # fmt: skip
def test_min_frequency_counts_or_shares(least, kept):
    frame = people()[["rare"]]
    assert set(fit(frame, min_frequency=least)[0].transform(frame)["rare"]) == kept


def test_merge_averages_the_copies_in_units_of_the_first():
    frame = people()[["height_m", "height_cm", "c", "both"]]
    transformer, text = fit(frame, "merge")
    assert "height_cm merged into height_m (height_cm = 100 height_m)" in text
    assert transformer.get_feature_names_out().tolist() == ["height_m|height_cm", "c"]
    new = frame.head(2).assign(height_cm=[180.0, 150.0], height_m=[1.7, 1.5])
    assert transformer.transform(new)["height_m|height_cm"].tolist() == pytest.approx([1.75, 1.5])
    matrix = transformer.transform(frame)
    np.testing.assert_allclose(matrix.iloc[:, 0], frame["height_m"])


def test_merge_on_arrays_and_sparse_matrices():
    frame = people()[["height_m", "height_cm", "c"]].to_numpy()
    dense = fit(frame, "merge")[0].transform(frame)
    sparse = fit(sp.csr_matrix(frame), "merge")[0].transform(sp.csr_matrix(frame))
    np.testing.assert_allclose(sparse.toarray(), dense)
    np.testing.assert_allclose(dense[:, 0], frame[:, 0])


def test_warn_keeps_every_column():
    frame = people()[["c", "e"]]
    transformer, text = fit(frame, "warn")
    assert "e kept (e = 2 c - 1)" in text
    pd.testing.assert_frame_equal(transformer.transform(frame), frame)


@pytest.mark.parametrize(("constant", "columns", "told"), [("drop", 1, True), ("warn", 2, True),
                                                           ("keep", 2, False)])  # fmt: skip
def test_constant_columns(constant, columns, told):
    X = np.column_stack([np.arange(5.0), np.full(5, 0.1)])
    transformer, text = fit(X, constant=constant)
    assert transformer.transform(X).shape[1] == columns
    assert bool(text) == told


def test_without_an_intercept_a_constant_is_a_column_like_any_other():
    X = np.column_stack([np.ones(4), np.full(4, 2.0), np.zeros(4), np.arange(4.0)])
    transformer, text = fit(X, fit_intercept=False)
    assert transformer.get_support().tolist() == [True, False, False, True]
    assert "x1 dropped (x1 = 2 x0)" in text and "x2 dropped (x2 = 0)" in text
    one_hot = np.eye(3)[[0, 1, 2, 0, 1]]
    assert fit(one_hot, fit_intercept=False)[0].get_support().all()
    assert fit(one_hot)[0].get_support().tolist() == [True, True, False]


def test_lost_digits_come_with_the_remedy():
    x = np.arange(20.0) + 1e12
    text = fit(np.column_stack([x, x**2]))[1]
    assert "x1 dropped" in text and "centre the variable before expanding" in text


def test_polars_frames_stay_polars():
    frame = people().astype({"g": str})
    data = pl.DataFrame(frame.to_dict("list"))
    transformer, _ = fit(data, min_frequency=3)
    out = transformer.transform(data)
    assert isinstance(out, pl.DataFrame)
    assert out.columns == ["height_m", "c", "tiny", "huge", "g", "rare"]
    assert set(out["rare"]) == {"x", "y", "other"}
    back = transformer.inverse_transform(out)
    np.testing.assert_array_equal(back["both"].to_numpy(), frame["both"])
    assert back["same"].to_list() == frame["same"].tolist()


@ignore
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output(container):
    X = people()[["height_m", "height_cm", "c"]].to_numpy()
    out = RankDeficiencyTransformer().set_output(transform=container).fit_transform(X)
    assert list(out.columns) == ["x0", "x2"]


@st.composite
def dependent_arrays(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, r, extra = draw(st.integers(3, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    base = rng.integers(-4, 5, (n, r)).astype(float)
    mixed = base @ rng.integers(-3, 4, (r, extra)) + rng.integers(-2, 3, extra)
    return np.column_stack([base, mixed])[:, rng.permutation(r + extra)]


@ignore
@quick
@given(dependent_arrays(), st.sampled_from([np.asarray, sp.csr_matrix]))
def test_inverse_restores_and_output_has_full_rank(X, kind):
    transformer = RankDeficiencyTransformer().fit(kind(X))
    out = transformer.transform(kind(X))
    back = transformer.inverse_transform(out)
    dense = out.toarray() if sp.issparse(out) else out
    np.testing.assert_allclose(back.toarray() if sp.issparse(back) else back, X, atol=1e-12)
    full = np.column_stack([np.ones(len(X)), dense])
    assert np.linalg.matrix_rank(full) == full.shape[1]
    assert np.linalg.matrix_rank(np.column_stack([np.ones(len(X)), X])) == full.shape[1]
    assert fit(kind(dense))[1] == ""  # nothing is left to find


@ignore
def test_cross_validation_where_a_fold_loses_a_category():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": ["rare", *np.resize(["a", "b", "c"], 39)],
                          "x": rng.normal(size=40)})  # fmt: skip
    y = frame["x"] + (frame["g"] == "b")
    model = make_pipeline(
        RankDeficiencyTransformer(min_frequency=2),
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["g"]), remainder="passthrough"
        ),
        RankDeficiencyTransformer(),
        LinearRegression(),
    )
    assert cross_val_score(model, frame, y, cv=5).min() > 0.9


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("min_frequency", [None, 2])
@ignore
def test_encoders_and_models_know_every_category_that_transform_emits(library, min_frequency):
    rng = np.random.default_rng(4)
    f = rng.permutation(["once", "twice", "twice", *np.resize(["a", "b", "c"], 57)])
    frame = library({"f": f.tolist(), "x": rng.normal(size=60)})
    y = frame["x"].to_numpy() + (f == "b")
    encoded = make_pipeline(
        RankDeficiencyTransformer(min_frequency=min_frequency),
        make_column_transformer((OneHotEncoder(), ["f"]), remainder=StandardScaler()),
        LinearRegression(),
    )
    mixed = make_pipeline(
        RankDeficiencyTransformer(min_frequency=min_frequency),
        MixedLinearRegressor("x + C(f) + (1 | f)"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        for model in (encoded, mixed):
            scores = cross_val_score(model, frame, y, cv=KFold(12), error_score="raise")
            assert len(scores) == 12


def test_new_categories_become_the_most_frequent_where_none_were_merged():
    frame = pd.DataFrame({"f": list("aabbbc"), "x": np.arange(6.0)})
    new = pd.DataFrame({"f": ["b", "z", None, "other"], "x": np.arange(4.0)})
    transformer = fit(frame)[0]
    with pytest.warns(RankDeficiencyWarning, match="'other', 'z' of f became 'b': the most") as w:
        found = transformer.transform(new)["f"]
    assert w[0].filename == __file__
    assert found.isna().tolist() == [False, False, True, False]
    assert found.dropna().tolist() == ["b", "b", "b"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transformer.transform(frame.assign(f=frame["f"].astype("category")).head(2))
        own = fit(frame.assign(f=[*"aabb", "other", "a"]))[0]
        assert own.transform(new)["f"].tolist()[1] == "other"


def test_numbers_as_categories_become_text_beside_other():
    f = pd.Categorical([1, 1, 2, 2, 2, 3])
    frame = pd.DataFrame({"f": f, "x": np.arange(6.0)})
    merged = fit(frame, min_frequency=2)[0].transform(frame)["f"]
    assert merged.tolist() == ["1", "1", "2", "2", "2", "other"]
    assert OneHotEncoder().fit_transform(merged.to_frame()).shape == (6, 3)
    assert fit(frame)[0].transform(frame)["f"].tolist() == f.tolist()


def test_warning_of_a_wide_table_is_short():
    X = np.random.default_rng(0).normal(size=(20, 100))
    transformer, text = fit(X)
    assert text.endswith("; and 78 more, see report_") and len(text) < 800
    assert len(transformer.report_.query("reason == 'dependent'")) == 81


def test_refit_forgets_the_first_fit():
    transformer, _ = fit(people(), min_frequency=3)
    X = np.array([[1.0, 2], [3, 1], [2, 2]])
    transformer.fit(X)
    np.testing.assert_array_equal(transformer.transform(X), X)
    assert transformer.report_.empty


def test_pickles():
    frame = people()
    transformer = pickle.loads(pickle.dumps(fit(frame, min_frequency=3)[0]))
    pd.testing.assert_frame_equal(
        transformer.transform(frame), fit(frame, min_frequency=3)[0].transform(frame)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(c=np.nan), "'c' holds 40 missing values"),
        (lambda f: f.assign(c=np.inf), "infinite"),
        (lambda f: f.drop(columns="c"), "feature names"),
        (lambda f: f[list(f)[::-1]], "feature names"),
        (lambda f: f.to_numpy(), "was fitted on a DataFrame"),
        (lambda f: f.assign(g=1.0), "'g' was categorical at the fit"),
        (lambda f: f.assign(c="low"), "'c' holds text where numbers are needed"),
    ],
)
def test_new_data_that_do_not_fit(change, message):
    transformer, _ = fit(people())
    with pytest.raises(ValueError, match=message):
        transformer.transform(change(people()))


def test_inverse_of_the_wrong_width():
    transformer, _ = fit(np.arange(6.0).reshape(3, 2) ** 2)
    with pytest.raises(ValueError, match="needs the 2 columns"):
        transformer.inverse_transform(np.ones((3, 4)))


def test_near_dependence_is_reported_and_left_alone():
    rng = np.random.default_rng(4)
    x = rng.normal(size=100)
    X = np.column_stack([x, x + 1e-3 * rng.normal(size=100), rng.normal(size=100)])
    transformer, text = fit(X)
    assert text == "" and transformer.get_support().all()
    assert transformer.report_["reason"].tolist() == ["near dependence"] * 2


def test_variance_inflation_is_that_of_regressions():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(50, 3)) @ np.array([[1, 0.9, 0], [0, 0.3, 0], [0, 0, 1.0]])
    found = collinearity(X + 1e3).inflation
    for j in range(3):
        others = np.delete(X, j, axis=1)
        r2 = LinearRegression().fit(others, X[:, j]).score(others, X[:, j])
        assert found.iloc[j] == pytest.approx(1 / (1 - r2), rel=1e-6)
    exact = collinearity(np.column_stack([X, X[:, 0] + X[:, 1]])).inflation
    assert np.isinf(exact).tolist() == [True, True, False, True]


def test_condition_indices_name_the_columns_involved():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(2, 80))
    frame = pd.DataFrame({"a": a, "b": b, "c": a + 1e-4 * rng.normal(size=80)})
    table = collinearity(frame).indices
    assert table["condition_index"].iloc[-1] > 1e3
    assert (table[["a", "c"]].iloc[-1] > 0.99).all() and table["b"].iloc[-1] < 0.1
    np.testing.assert_allclose(table[["a", "b", "c"]].sum(), 1)


def test_near_zero_variance_of_caret():
    """caret 6.0.93, nearZeroVar(saveMetrics = TRUE)."""
    reference = json.loads((DATA / "caret_nearzerovar.json").read_text())
    frame = pd.DataFrame({k: np.array(v, dtype=float) for k, v in reference["data"].items()})
    found = near_zero_variance(frame)
    for name, row in reference["metrics"].items():
        assert found.loc[name, "frequency_ratio"] == pytest.approx(row["freqRatio"])
        assert found.loc[name, "percent_unique"] == pytest.approx(row["percentUnique"])
        assert (found.loc[name, "constant"], found.loc[name, "near_constant"]) == (
            row["zeroVar"], row["nzv"],
        )  # fmt: skip


def test_advice_on_scale_and_shift():
    found = dict(scale_advice(["year", "mass", "speed"], [2e9, 0, 0], [10.0, 1e-21, 1.0]))
    assert "subtract the mean" in found["year"]
    assert "from 1e-21 (mass) to 10 (year)" in found["mass"]
    assert scale_advice(["a", "b"], [1.0, 2.0], [1.0, 3.0]) == []
