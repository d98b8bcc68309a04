"""Formulas and column names are data: only ``trusted=True`` makes Python code of a formula."""

import builtins
import io
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skmixed import (
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
)

N = 120
MIXED = [MixedLinearRegressor, MixedGLMRegressor, MixedLogisticClassifier]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    group = np.arange(N) % 10
    x = rng.normal(size=N)
    y = rng.random(N) < 1 / (1 + np.exp(-x - rng.normal(size=10)[group]))
    return pd.DataFrame({"y": y.astype(int), "x": x, "z": rng.uniform(1, 2, N), "g": group})


@pytest.fixture
def calls(monkeypatch):
    """What formulas hand to a builtin that they must not reach."""
    found = []

    def pwned(value=1.0):
        found.append(value)
        return value

    monkeypatch.setattr(builtins, "pwned", pwned, raising=False)
    return found


def _model(estimator, formula, **settings):
    if estimator is GeneralizedInverseRegressor:
        return estimator(formula=formula, **settings)
    return estimator(f"{formula} + (1 | g)", **settings)


@pytest.mark.parametrize("estimator", [*MIXED, GeneralizedInverseRegressor])
def test_python_in_a_formula_runs_only_if_it_is_trusted(data, calls, estimator):
    formula = "y ~ z + I(x * pwned())"
    model = _model(estimator, formula)
    assert model.get_params()["trusted"] is False
    with pytest.raises(ValueError, match=r"calls 'pwned'.*trusted=True"):
        model.fit(data)
    assert not calls
    model = clone(model).set_params(trusted=True).fit(data)
    at_fit = len(calls)
    assert at_fit
    expected = _model(estimator, "y ~ z + x").fit(data)
    np.testing.assert_allclose(np.ravel(model.coef_), np.ravel(expected.coef_), rtol=1e-5)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(loaded.predict(data), expected.predict(data), atol=1e-5)
    assert len(calls) > at_fit


@pytest.mark.parametrize("estimator", [*MIXED, GeneralizedInverseRegressor])
def test_trusted_is_a_boolean(data, estimator):
    with pytest.raises(ValueError, match="'trusted' parameter"):
        _model(estimator, "y ~ x", trusted="yes").fit(data)


@pytest.mark.parametrize(
    "header",
    ["x` + pwned() + `", "x`) + I(pwned()) + (`x", "`pwned()`", "x` + __import__('os') + `"],
)
def test_the_header_of_a_file_runs_no_code(data, calls, header):
    text = data.rename(columns={"x": header}).to_csv(index=False)
    table = pd.read_csv(io.StringIO(text))
    X, y, groups = table.drop(columns=["y", "g"]), table["y"], table["g"]
    for estimator in MIXED:
        with pytest.raises(ValueError, match="cannot stand in a formula"):
            estimator("y ~ . + (1 | g)").fit(table)
        with pytest.raises(ValueError, match="cannot stand in a formula"):
            estimator().fit(X, y, groups=groups)
        with pytest.raises(ValueError, match="cannot stand in a formula"):
            estimator().fit(X, y)
    with pytest.raises(ValueError, match="cannot stand in a formula"):
        GeneralizedInverseRegressor(formula="y ~ .").fit(table)
    assert not calls


def test_an_aggregate_is_that_of_the_fit(data):
    learnt = MixedLinearRegressor("y ~ I(x - np.mean(x)) + I(z / max(z)) + (1 | g)").fit(data)
    fixed = data.assign(x=data.x - data.x.mean(), z=data.z / data.z.max())
    expected = MixedLinearRegressor("y ~ x + z + (1 | g)").fit(fixed)
    for rows in (slice(0, 1), slice(5, 30)):
        found = learnt.predict(data.iloc[rows])
        np.testing.assert_allclose(found, expected.predict(fixed.iloc[rows]), atol=1e-6)


def test_weights_repeat_rows_for_transforms_too(data):
    counts = np.arange(N) % 3
    repeated = data.loc[data.index.repeat(counts)]
    formula = "y ~ bs(x, df=5) + scale(z) + (1 | g)"
    one = MixedLinearRegressor(formula).fit(data, sample_weight=counts)
    two = MixedLinearRegressor(formula).fit(repeated)
    np.testing.assert_allclose(one.deviance_, two.deviance_, rtol=1e-9)
    np.testing.assert_allclose(one.fixed_effects_, two.fixed_effects_, rtol=1e-4)
    one = GeneralizedInverseRegressor(formula="y ~ poly(x, 2)").fit(data, sample_weight=counts)
    two = GeneralizedInverseRegressor(formula="y ~ poly(x, 2)").fit(repeated)
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-7)
