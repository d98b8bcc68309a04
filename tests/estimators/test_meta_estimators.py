"""Mixed models inside scikit-learn's tools that draw rows, leave out columns or stack models."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, StackingRegressor, VotingRegressor
from sklearn.feature_selection import RFE, SequentialFeatureSelector
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multioutput import RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skmixed import MixedLinearRegressor, MixedLogisticClassifier

FORMULA = "x + z + (1 | g)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(15), 12)
    X = pd.DataFrame({"x": rng.normal(size=180), "z": rng.normal(size=180)})
    X["g"] = [f"g{k}" for k in codes]
    y = 2 * X["x"] + 3 * rng.normal(size=15)[codes] + rng.normal(size=180)
    return X, y


@pytest.fixture
def model():
    return MixedLinearRegressor(FORMULA)


def _named(model, X):
    """The model for arrays with these columns."""
    names = FunctionTransformer(pd.DataFrame, kw_args={"columns": list(X)})
    return make_pipeline(names, model)


def test_bagging_passes_arrays_on(data, model):
    X, y = data
    with pytest.raises(ValueError, match=r"BaggingRegressor, use make_pipeline\(FunctionTransf"):
        BaggingRegressor(model, n_estimators=2).fit(X, y)
    bagged = BaggingRegressor(_named(model, X), n_estimators=5, random_state=0).fit(X, y)
    np.testing.assert_allclose(bagged.predict(X), model.fit(X, y).predict(X), atol=1.0)
    array = X.assign(g=X["g"].str[1:].astype(float)).to_numpy()
    by_place = MixedLinearRegressor("x0 + x1 + (1 | x2)")
    other = BaggingRegressor(by_place, n_estimators=5, random_state=0).fit(array, y)
    np.testing.assert_allclose(other.predict(array), bagged.predict(X), rtol=1e-6)


def test_bagging_of_classifiers(data):
    X, y = data
    model = _named(MixedLogisticClassifier("x + (1 | g)"), X)
    bagged = BaggingClassifier(model, n_estimators=3, random_state=0).fit(X, y > 0)
    assert bagged.score(X, y > 0) > 0.8


def test_rfe_selects_columns_beside_groups(data, model):
    X, y = data
    with pytest.raises(ValueError, match=r"RFE and other selectors a model without formula"):
        RFE(model, n_features_to_select=1).fit(X.assign(g=X["g"].str[1:].astype(int)), y)
    found = RFE(MixedLinearRegressor(), n_features_to_select=1).fit(X[["z", "x"]], y, groups=X["g"])
    assert found.get_support().tolist() == [False, True]


def test_sequential_selection_with_routed_groups(data, model):
    X, y = data
    cv = KFold(3, shuffle=True, random_state=0)
    with pytest.raises(ValueError, match="a model without formula, and groups="):
        numbers = X.assign(g=X["g"].str[1:].astype(int))
        SequentialFeatureSelector(model, n_features_to_select=1, cv=cv).fit(numbers, y)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = MixedLinearRegressor().set_fit_request(groups=True).set_score_request(groups=True)
        selector = SequentialFeatureSelector(routed, n_features_to_select=1, cv=cv)
        selector.fit(X[["z", "x"]], y, groups=X["g"])
    assert selector.get_support().tolist() == [False, True]


def test_fixed_effects_are_selected_by_a_grid_of_formulas(data):
    X, y = data
    formulas = ["1 + (1 | g)", "x + (1 | g)", "z + (1 | g)"]
    cv = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(MixedLinearRegressor(), {"formula": formulas}, cv=cv).fit(X, y)
    assert search.best_params_ == {"formula": "x + (1 | g)"}


def test_models_side_by_side(data, model):
    X, y = data
    other = MixedLinearRegressor("x + (1 | g)", reml=False)
    pair = [("a", model), ("b", other)]
    voted = VotingRegressor(pair).fit(X, y).predict(X)
    mean = (model.fit(X, y).predict(X) + other.fit(X, y).predict(X)) / 2
    np.testing.assert_allclose(voted, mean, rtol=1e-6)
    assert StackingRegressor(pair, cv=KFold(3, shuffle=True)).fit(X, y).score(X, y) > 0.8
    chain = RegressorChain(MixedLinearRegressor(".")).fit(X[["x", "z"]].to_numpy(), np.c_[y, -y])
    assert chain.predict(X[["x", "z"]].to_numpy()).shape == (180, 2)


def test_transformed_targets_and_importances(data, model):
    X, y = data
    shifted = y - y.min() + 1
    log = TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp).fit(X, shifted)
    direct = model.fit(X, np.log(shifted))
    np.testing.assert_allclose(log.predict(X), np.exp(direct.predict(X)), rtol=1e-8)
    found = permutation_importance(model.fit(X, y), X, y, n_repeats=2, random_state=0)
    assert found.importances_mean[0] > 10 * abs(found.importances_mean[1])
    assert found.importances_mean[2] > 10 * abs(found.importances_mean[1])


def test_column_transformers_tell_how_names_stay(data, model):
    X, y = data
    scale = ColumnTransformer([("s", StandardScaler(), ["x"])], remainder="passthrough")
    with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\)"):
        make_pipeline(scale, model).fit(X, y)
    with pytest.raises(ValueError, match="verbose_feature_names_out=False"):
        make_pipeline(scale.set_output(transform="pandas"), model).fit(X, y)
    scale.set_params(verbose_feature_names_out=False)
    assert make_pipeline(scale, model).fit(X, y).score(X, y) > 0.8
