"""Folds of known and of new groups, and the scores of both."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmixed import MixedLinearRegressor, MixedLogisticClassifier, UnseenGroupsWarning
from skmixed.datasets import load_sleepstudy
from skmixed.model_selection import KnownGroupsKFold, NewGroupsKFold, cross_validate_groups

BOTH = pytest.mark.parametrize("splitter", [KnownGroupsKFold, NewGroupsKFold])


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def ragged():
    """Groups of 1 to 40 rows in no order, some rows without a group."""
    rng = np.random.default_rng(0)
    sizes = [1, 1, 2, 2, 3, 5, 8, 13, 40]
    g = np.repeat([f"g{k}" for k in range(len(sizes))], sizes).astype(object)
    g = rng.permutation(np.concatenate([g, [None, np.nan]]))
    return pd.DataFrame({"g": g, "x": rng.normal(size=len(g))})


@BOTH
@pytest.mark.parametrize("n_splits", [2, 5])
def test_folds_are_a_partition_of_the_rows_that_are_tested(splitter, n_splits, ragged):
    folds = list(splitter("g", n_splits).split(ragged))
    assert len(folds) == n_splits == splitter("g", n_splits).get_n_splits()
    tested = np.concatenate([test for _, test in folds])
    assert len(np.unique(tested)) == len(tested)
    assert not ragged["g"].isna()[tested].any()
    for train, test in folds:
        np.testing.assert_array_equal(np.sort(np.append(train, test)), np.arange(len(ragged)))


def test_known_groups_are_trained_on(ragged):
    sizes = ragged["g"].value_counts()
    for train, test in KnownGroupsKFold("g").split(ragged):
        assert set(ragged["g"][test]) <= set(ragged["g"][train])
        assert abs(len(test) - sizes[sizes > 1].sum() / 5) < 1
        share = ragged["g"][test].value_counts() / sizes
        assert share.max() <= 0.5
    tested = np.concatenate([test for _, test in KnownGroupsKFold("g").split(ragged)])
    assert set(ragged["g"][tested]) == set(sizes.index[sizes > 1])


def test_new_groups_are_not_trained_on(ragged):
    for train, test in NewGroupsKFold("g").split(ragged):
        assert not set(ragged["g"][test]) & set(ragged["g"][train])
        assert len(test)
    equal = pd.DataFrame({"g": np.repeat(np.arange(20), 6)})
    assert {len(test) for _, test in NewGroupsKFold("g").split(equal)} == {24}


@BOTH
def test_the_seed_decides(splitter):
    equal = pd.DataFrame({"g": np.arange(60) % 12})

    def tests(**seed):
        return [test.tolist() for _, test in splitter("g", 3, **seed).split(equal)]

    assert tests() == tests() == tests(random_state=0) != tests(random_state=1)


@BOTH
def test_groups_by_name_or_by_value(splitter, ragged):
    by_name = [test.tolist() for _, test in splitter("g").split(ragged)]
    by_value = [test.tolist() for _, test in splitter().split(ragged, None, ragged["g"])]
    table = pl.DataFrame({"g": pl.Series([v if isinstance(v, str) else None for v in ragged["g"]])})
    assert by_name == by_value == [test.tolist() for _, test in splitter("g").split(table)]
    assert repr(splitter("g", 4)).endswith("KFold('g', n_splits=4, random_state=0)")


@BOTH
def test_what_cannot_be_split(splitter, ragged):
    with pytest.raises(ValueError, match="X has no column 'h'"):
        next(splitter("h").split(ragged))
    with pytest.raises(ValueError, match="needs the groups: name their column"):
        next(splitter().split(ragged))
    with pytest.raises(ValueError, match="n_splits must be an integer from 2 on, got 1"):
        next(splitter("g", 1).split(ragged))


def test_too_few_groups_or_rows(ragged):
    with pytest.raises(ValueError, match="n_splits=10 folds need as many groups, and there are 9"):
        next(NewGroupsKFold("g", 10).split(ragged))
    with pytest.raises(ValueError, match=r"no group has two rows.*use NewGroupsKFold"):
        next(KnownGroupsKFold("x").split(ragged))


@BOTH
def test_in_the_tools_of_scikit_learn(splitter, sleep):
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    model = MixedLinearRegressor("Days + (Days | Subject)")
    cv = splitter("Subject", 3)
    scores = cross_val_score(model, X, y, cv=cv)
    np.testing.assert_allclose(cross_val_score(model, X, y, cv=splitter(n_splits=3),
                                               groups=X["Subject"]), scores)  # fmt: skip
    formulas = {"formula": ["Days + (1 | Subject)", "Days + (Days | Subject)"]}
    search = GridSearchCV(model, formulas, cv=cv).fit(X, y)
    assert search.cv_results_["mean_test_score"][1] == pytest.approx(scores.mean())
    with sklearn.config_context(enable_metadata_routing=True):
        told = clone(model).set_fit_request(groups=False).set_score_request(groups=False)
        routed = cross_val_score(
            told, X, y, cv=splitter(n_splits=3), params={"groups": X["Subject"]}
        )
    np.testing.assert_allclose(routed, scores)


def test_both_scores_in_one_line(sleep):
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnseenGroupsWarning)
        table = cross_validate_groups(model, sleep, groups="Subject")
    assert table.index.tolist() == ["known", "new"]
    assert table.loc["known", "mean"] > table.loc["new", "mean"] + 0.3
    X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    one_sided = MixedLinearRegressor("Days + (Days | Subject)")
    expected = cross_val_score(one_sided, X, y, cv=NewGroupsKFold("Subject"))
    np.testing.assert_allclose(table.loc["new", "fold 1":], expected)
    assert table.loc["new", "mean"] == pytest.approx(expected.mean())
    assert table.loc["new", "std"] == pytest.approx(expected.std(ddof=1))
    by_value = cross_validate_groups(one_sided, X, y, groups=X["Subject"], kind="new")
    np.testing.assert_allclose(by_value.loc["new"], table.loc["new"])
    pipeline = make_pipeline(FunctionTransformer(), one_sided)
    in_pipeline = cross_validate_groups(pipeline, X, y, groups="Subject", kind=["new"], n_splits=5)
    np.testing.assert_allclose(in_pipeline.loc["new"], table.loc["new"])
    with pytest.raises(ValueError, match="kind must be 'known' or 'new', got 'old'"):
        cross_validate_groups(model, sleep, groups="Subject", kind="old")


def test_scores_of_classes():
    rng = np.random.default_rng(0)
    g, x = np.repeat(np.arange(30), 20), rng.normal(size=600)
    eta = x + 2 * rng.normal(size=30)[g] + rng.logistic(size=600)
    X, y = pd.DataFrame({"g": g, "x": x}), np.where(eta > 0, "yes", "no")
    table = cross_validate_groups(
        MixedLogisticClassifier("x + (1 | g)"), X, y, groups="g", scoring="roc_auc", n_splits=3
    )
    assert table.loc["known", "mean"] > table.loc["new", "mean"] + 0.05


def test_what_the_folds_cannot_be(sleep):
    few = pd.DataFrame({"g": list("aabcd")})
    with pytest.raises(ValueError, match=r"5 folds need as many rows with others.*there are 2"):
        list(KnownGroupsKFold("g").split(few))
    for splitter in (KnownGroupsKFold, NewGroupsKFold):
        with pytest.raises(ValueError, match=r"one column of X.*shape \(180, 2\)"):
            list(splitter().split(sleep, groups=sleep[["Subject", "Days"]]))


def test_scores_that_cannot_be(sleep):
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)")
    with pytest.raises(ValueError, match="scoring='r2' compares with y"):
        cross_validate_groups(model, sleep, groups="Subject", scoring="r2")
    with pytest.raises(ValueError, match=r"one score.*got \['r2'\]"):
        cross_validate_groups(model, sleep, groups="Subject", scoring=["r2"])
    own = cross_validate_groups(
        model, sleep, groups="Subject", scoring=lambda m, X, y=None: m.score(X), n_splits=3
    )
    plain = cross_validate_groups(model, sleep, groups="Subject", n_splits=3)
    pd.testing.assert_frame_equal(own, plain)
