"""The generalised estimators among scikit-learn's tools."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmixed import MixedGLMRegressor, MixedLogisticClassifier
from skmixed.datasets import load_grouseticks, load_verbagg

FORMULA = "Anger + btype + (1 | id)"


def _row_groups(X):
    """Groups as a function of the row, since the checks fit without groups and permute rows."""
    try:
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            return np.floor(2 * np.asarray(X, dtype=float)[:, 0]) % 4
    except (TypeError, ValueError, IndexError):
        return None  # what is wrong with X is for the estimator to say


class GroupedClassifier(MixedLogisticClassifier):
    def fit(self, X, y=None, *, groups=None, sample_weight=None):
        return super().fit(X, y, groups=_row_groups(X), sample_weight=sample_weight)

    def _predict_eta(self, X, groups, random_effects, return_std):
        return super()._predict_eta(X, _row_groups(X), random_effects, return_std)


class GroupedRegressor(MixedGLMRegressor):
    def fit(self, X, y=None, *, groups=None, sample_weight=None):
        return super().fit(X, y, groups=_row_groups(X), sample_weight=sample_weight)

    def _predict_eta(self, X, groups, random_effects, return_std):
        return super()._predict_eta(X, _row_groups(X), random_effects, return_std)


def _broken_checks(estimator):
    """scikit-learn before 1.8 gives shuffled rows of a binary classifier other labels."""
    version = tuple(map(int, sklearn.__version__.split(".")[:2]))
    if version >= (1, 8) or not isinstance(estimator, MixedLogisticClassifier):
        return {}
    return {"check_sample_weight_equivalence_on_dense_data": "labels depend on the first row"}


@pytest.mark.filterwarnings(
    "ignore::skmixed.exceptions.RankDeficiencyWarning",
    "ignore::skmixed.exceptions.SingularFitWarning",
    "ignore::skmixed.exceptions.SeparationWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.*not whole numbers:UserWarning",
)
@parametrize_with_checks(
    [
        MixedLogisticClassifier(),
        MixedLogisticClassifier(prior="t"),
        MixedGLMRegressor(),
        GroupedClassifier(),
        GroupedRegressor(),
    ],
    expected_failed_checks=_broken_checks,
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def verbagg():
    frame = load_verbagg().frame
    return frame[frame["id"].astype(int) <= 60]


def test_cross_validation(verbagg):
    X, y = verbagg.drop(columns="r2"), verbagg["r2"]
    model = MixedLogisticClassifier(FORMULA)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    mixed = cross_val_score(model, X, y, cv=folds, scoring="neg_log_loss")
    fixed = cross_val_score(
        MixedLogisticClassifier("Anger + btype"), X, y, cv=folds, scoring="neg_log_loss"
    )
    assert np.all(mixed > fixed)
    p = cross_val_predict(model, X, y, cv=folds, method="predict_proba")
    assert p.shape == (len(y), 2) and np.allclose(p.sum(axis=1), 1)
    new_people = cross_val_score(
        model, X, y, cv=GroupKFold(3), groups=X["id"], scoring="neg_log_loss"
    )
    assert np.all(new_people < 0)


def test_grid_search_over_nodes_and_formulas(verbagg):
    search = GridSearchCV(
        MixedLogisticClassifier(),
        {"n_agq": [0, 1, 5], "formula": ["Anger + (1 | id)", FORMULA]},
        cv=2, scoring="neg_log_loss", error_score="raise",
    )  # fmt: skip
    shuffled = verbagg.sample(frac=1, random_state=0)
    search.fit(shuffled.drop(columns="r2"), shuffled["r2"])
    assert search.best_params_["formula"] == FORMULA
    assert list(search.classes_) == ["N", "Y"]


def test_calibration(verbagg):
    X, y = verbagg.drop(columns="r2"), verbagg["r2"]
    model = CalibratedClassifierCV(MixedLogisticClassifier(FORMULA), cv=3).fit(X, y)
    assert model.score(X, y) > 0.7


def test_one_model_per_class(verbagg):
    X = verbagg[["Anger", "id"]].astype(float).to_numpy()
    model = OneVsRestClassifier(MixedLogisticClassifier("x0 + (1 | x1)"))
    labels = verbagg["resp"].astype(str).to_numpy()
    p = model.fit(X, labels).predict_proba(X)
    assert p.shape == (len(X), 3) and np.allclose(p.sum(axis=1), 1)


def test_pipeline_of_frames():
    ticks = load_grouseticks().frame
    scale = ColumnTransformer(
        [("height", StandardScaler(), ["HEIGHT"])], remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # fmt: skip
    model = make_pipeline(scale, MixedGLMRegressor("YEAR + HEIGHT + (1 | BROOD) + (1 | LOCATION)"))
    model.fit(ticks, ticks["TICKS"])
    direct = MixedGLMRegressor("TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)").fit(ticks)
    assert model[-1].deviance_ == pytest.approx(direct.deviance_, abs=1e-6)
    np.testing.assert_allclose(model.predict(ticks), direct.predict(ticks), rtol=1e-4)


def test_groups_are_routed():
    rng = np.random.default_rng(0)
    g, X = rng.integers(0, 12, 300), rng.normal(size=(300, 2))
    y = rng.poisson(np.exp(0.5 + X[:, 0] / 3 + rng.normal(0, 0.7, 12)[g]))
    with sklearn.config_context(enable_metadata_routing=True):
        model = MixedGLMRegressor().set_fit_request(groups=True).set_predict_request(groups=True)
        model.set_score_request(groups=True)
        scores = cross_validate(model, X, y, cv=3, params={"groups": g})["test_score"]
    assert scores.mean() > 0.2
    direct = MixedGLMRegressor().fit(X, y, groups=g)
    named = MixedGLMRegressor("y ~ a + b + (1 | g)").fit(
        pd.DataFrame({"y": y, "a": X[:, 0], "b": X[:, 1], "g": g})
    )
    assert direct.deviance_ == pytest.approx(named.deviance_, abs=1e-9)
