"""Score tests of further columns: t tests of least squares, and matrices of rows x rows."""

import pickle

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor, SeparationWarning
from skmixed.datasets import load_cake, load_sleepstudy
from skmixed.inference.added import added_columns, curvature_columns, link_column
from skmixed.inference.observed import observed_rows


def observe(model, data):
    return observed_rows(model, data, None, None, None, "the test")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(2)
    g, h = rng.integers(0, 12, 200), rng.integers(0, 7, 200)
    x, w = rng.standard_normal(200), rng.integers(1, 4, 200).astype(float)
    eta = 0.5 * x + 0.6 * rng.standard_normal(12)[g] + 0.3 * rng.standard_normal(7)[h]
    return pd.DataFrame({
        "g": g, "h": h, "x": x, "w": w, "q": rng.standard_normal(200) + 0.3 * x,
        "y": eta + rng.standard_normal(200), "count": rng.poisson(np.exp(eta)),
    })  # fmt: skip


@pytest.mark.parametrize("weights", [None, "w"])
def test_without_random_effects_it_is_the_t_test_of_the_column(table, weights):
    model = MixedLinearRegressor("y ~ x", prior_weights=weights).fit(table)
    larger = MixedLinearRegressor("y ~ x + q", prior_weights=weights).fit(table)
    found = added_columns(observe(model, table), {"q": table["q"]})
    expected = larger.coefficients().loc["q"]
    assert found.loc["q", "statistic"] == pytest.approx(expected["t"], rel=1e-9)
    assert found.loc["q", "p_value"] == pytest.approx(expected["p_value"], rel=1e-8)


def test_crossed_random_effects_by_matrices(table):
    model = MixedLinearRegressor("y ~ x + (x | g) + (1 | h)", prior_weights="w").fit(table)
    found = added_columns(observe(model, table), {"q": table["q"], "q2": table["q"] ** 2})
    x = table["x"].to_numpy()
    Z = np.column_stack([np.ones(200), x])
    S = model.covariances_["g"].to_numpy()
    V = (Z @ S @ Z.T) * np.equal.outer(table["g"].to_numpy(), table["g"].to_numpy())
    V += model.covariances_["h"].iloc[0, 0] * np.equal.outer(*[table["h"].to_numpy()] * 2)
    V += np.diag(model.sigma_**2 / table["w"])
    B = np.linalg.inv(V)
    P = B - B @ Z @ np.linalg.solve(Z.T @ B @ Z, Z.T @ B)
    for name, q in (("q", table["q"].to_numpy()), ("q2", table["q"].to_numpy() ** 2)):
        q = q - q.mean()
        z = q @ P @ table["y"].to_numpy() / np.sqrt(q @ P @ q)
        t = z * np.sqrt(197 / (198 - z**2))
        assert found.loc[name, "statistic"] == pytest.approx(t, rel=1e-6)


def test_generalised_models_are_near_to_the_wald_test(table):
    for formula in ("count ~ x", "count ~ x + (1 | g) + (1 | h)"):
        model = MixedGLMRegressor(formula, "poisson").fit(table)
        larger = MixedGLMRegressor(formula.replace("x", "x + q", 1), "poisson").fit(table)
        found = added_columns(observe(model, table), {"q": table["q"]})
        expected = larger.coefficients().loc["q", "z"]
        assert found.loc["q", "statistic"] == pytest.approx(expected, abs=0.1)


def test_columns_of_the_model_are_no_further_ones(table):
    model = MixedLinearRegressor("y ~ x + I(x ** 2) + (1 | g)").fit(table)
    observed = observe(model, table)
    columns = {"x": 3 * table["x"] + 1, "constant": np.ones(200), "q": table["q"]}
    assert added_columns(observed, columns).index.tolist() == ["q"]
    squares = curvature_columns(observed)
    assert list(squares) == ["x squared", "I(x ** 2) squared"]
    assert added_columns(observed, squares).index.tolist() == ["I(x ** 2) squared"]


def test_squares_are_those_of_covariates_with_three_values():
    cake = load_cake().frame.assign(two=lambda d: (d["temp"] > 200).astype(int))
    model = MixedLinearRegressor("angle ~ recipe + temp + two + (1 | recipe:replicate)").fit(cake)
    observed = observe(model, cake)
    assert list(curvature_columns(observed)) == ["temp squared"]
    fixed = model.predict(cake, random_effects=False)
    square = link_column(observed)["linear predictor squared"]
    np.testing.assert_allclose(square, (fixed - fixed.mean()) ** 2)


def test_models_from_files_and_separated_fits_say_what_they_lack(table):
    sleep = load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
    copy = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="cross-products of the data, which are not pickled"):
        added_columns(observe(copy, sleep), {"q": sleep["Days"] ** 2})
    data = table.assign(s=(table["g"] < 3).astype(float))
    data["event"] = ((data["s"] == 1) | (data["q"] > 0.2)).astype(int)
    with pytest.warns(SeparationWarning):
        model = MixedGLMRegressor("event ~ x + s + (1 | h)", "binomial").fit(data)
    with pytest.raises(ValueError, match="not for a separated fit"):
        added_columns(observe(model, data), {"q": data["q"]})
