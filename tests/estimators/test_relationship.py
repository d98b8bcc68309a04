"""Models of related levels: the animal model, markers, levels without rows, cross-validation."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_predict

from skmixed import MixedGLMRegressor, MixedLinearRegressor, marker_relationship
from skmixed.inference import heritability, influence

FOLDER = Path(__file__).parents[1] / "data" / "structures"


@pytest.fixture(scope="module")
def ref():
    return json.loads((FOLDER / "pedigree_animal.json").read_text())


@pytest.fixture(scope="module")
def records():
    return pd.read_csv(FOLDER / "pedigree_records.csv")


@pytest.fixture(scope="module")
def K():
    return pd.read_csv(FOLDER / "pedigree_K.csv", index_col=0)


@pytest.fixture(scope="module")
def model(ref, records, K):
    return MixedLinearRegressor(ref["formula"], relationship={"animal": K}).fit(records)


@pytest.fixture(scope="module")
def lines():
    """40 lines, 25 markers, two plots each in 4 blocks: a singular relationship."""
    rng = np.random.default_rng(5)
    M = rng.integers(0, 3, size=(40, 25))
    value = (M - M.mean(axis=0)) @ rng.normal(size=25) * 0.5
    line = np.tile(np.arange(40), 2)
    block = rng.integers(0, 4, size=80)
    y = value[line] + block + rng.normal(size=80)
    names = np.array([f"l{i:02d}" for i in range(40)])
    frame = pd.DataFrame({"line": names[line], "block": block, "y": y})
    return frame, marker_relationship(pd.DataFrame(M, index=names)), value


def test_the_animal_model(ref, records, model):
    assert model.deviance_ == pytest.approx(ref["objective"], abs=1e-8)
    assert model.n_evaluations_ <= 5
    assert model.sigma_ == pytest.approx(ref["sigma"], rel=1e-5)
    sd = model.structure_["(1 | animal)"]["sd"]
    assert sd == pytest.approx(ref["parameters"]["sd_animal"], rel=1e-5)
    assert model.covariances_["animal"].iloc[0, 0] == pytest.approx(sd**2)
    np.testing.assert_allclose(model.predict(records)[:10], ref["fitted_head"], rtol=1e-6)


def test_effects_of_animals_without_records(ref, model, K):
    b = model.random_effects_["animal"]["Intercept"]
    assert list(b.index) == list(K.index)
    np.testing.assert_allclose(b, ref["predict"]["all_levels"], atol=1e-6)


def test_conditional_covariances_and_standard_errors_are_those_of_the_dense_model(
    records, model, K
):
    sd, s2 = model.structure_["(1 | animal)"]["sd"], model.sigma_**2
    Z = (records["animal"].to_numpy()[:, None] == K.index.to_numpy()).astype(float)
    G = sd**2 * K.to_numpy()
    V = Z @ G @ Z.T + s2 * np.eye(len(records))
    given = G - G @ Z.T @ np.linalg.solve(V, Z @ G)
    std = model.random_effects_std_["animal"]["Intercept"]
    np.testing.assert_allclose(std, np.sqrt(np.diag(given)), rtol=1e-6)
    X = np.column_stack([np.ones(len(records)), records["sex"] == "M"]).astype(float)
    vcov = np.linalg.inv(X.T @ np.linalg.solve(V, X))
    new = pd.DataFrame({"animal": K.index[:5], "sex": "F"})
    a = np.array([1.0, 0.0]) - G[:5] @ Z.T @ np.linalg.solve(V, X)
    total = np.diag(given)[:5] + np.einsum("ij,jk,ik->i", a, vcov, a)
    np.testing.assert_allclose(model.predict(new, return_std=True)[1], np.sqrt(total), rtol=1e-6)


def test_unknown_levels(records, model, K):
    new = records.iloc[:2].assign(animal=["stranger", records["animal"][1]])
    mean, std = model.predict(new, return_std=True)
    assert mean[0] == pytest.approx(model.predict(new, random_effects=False)[0])
    assert std[0] > std[1]
    with pytest.raises(ValueError, match="lacks 1 levels of the data: 'a21'"):
        clone(model).set_params(relationship={"animal": K.drop("a21").drop(columns="a21")}).fit(
            records
        )
    with pytest.raises(ValueError, match="does not have"):
        model.simulate(new)


def test_identity_is_the_plain_term(lines):
    frame, K, _ = lines
    eye = pd.DataFrame(np.eye(len(K)), index=K.index, columns=K.index)
    own = MixedLinearRegressor("y ~ 1 + (1 | line) + (1 | block)", relationship={"line": eye})
    plain = MixedLinearRegressor("y ~ 1 + (1 | line) + (1 | block)").fit(frame)
    own.fit(frame)
    assert own.deviance_ == pytest.approx(plain.deviance_, abs=1e-7)
    np.testing.assert_allclose(own.predict(frame), plain.predict(frame), rtol=1e-4)
    single = frame.drop_duplicates("line")
    with pytest.raises(ValueError, match="no two levels of 'line' are related"):
        MixedLinearRegressor("y ~ 1 + (1 | line)", relationship={"line": eye}).fit(single)


def test_singular_relationships_beside_crossed_factors(lines):
    frame, K, _ = lines
    model = MixedLinearRegressor("y ~ 1 + (1 | line) + (1 | block)", relationship={"line": K})
    model.fit(frame)
    Zl = (frame["line"].to_numpy()[:, None] == K.index.to_numpy()).astype(float)
    same = np.equal.outer(frame["block"].to_numpy(), frame["block"].to_numpy())
    sd, block = model.structure_["(1 | line)"]["sd"], model.covariances_["block"].iloc[0, 0]
    V = sd**2 * Zl @ K.to_numpy() @ Zl.T + block * same + model.sigma_**2 * np.eye(len(frame))
    y, X = frame["y"].to_numpy(), np.ones((len(frame), 1))
    W = np.linalg.inv(V)
    P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
    value = np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ W @ X)[1] + y @ P @ y
    value += (len(y) - 1) * np.log(2 * np.pi)
    assert model.deviance_ == pytest.approx(value, abs=1e-7)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict(frame), model.predict(frame))


def test_genomic_prediction_of_lines_left_out(lines):
    frame, K, value = lines
    model = MixedLinearRegressor("1 + (1 | line)", relationship={"line": K})
    predicted = cross_val_predict(
        model, frame[["line"]], frame["y"], groups=frame["line"], cv=GroupKFold(5)
    )
    assert np.corrcoef(predicted[:40], value)[0, 1] > 0.5


def test_a_generalised_model(lines):
    frame, K, value = lines
    counts = np.random.default_rng(0).poisson(np.exp(0.3 * value[np.tile(np.arange(40), 2)] + 1))
    model = MixedGLMRegressor(
        "count ~ 1 + (1 | line)", family="poisson", relationship={"line": lambda: K}
    ).fit(frame.assign(count=counts))
    b = model.random_effects_["line"]["Intercept"]
    assert np.corrcoef(b, value)[0, 1] > 0.8


def test_what_related_levels_do_not_have(model):
    with pytest.raises(ValueError, match="covariances_ times K"):
        model.expand()


def test_influence_of_related_levels_is_that_of_leaving_them_out(records, model, K):
    table = influence(model, records, level="animal")
    assert len(table) == records["animal"].nunique()
    sd, s2 = model.structure_["(1 | animal)"]["sd"], model.sigma_**2
    rest = records[records["animal"] != "a21"]
    Z = (rest["animal"].to_numpy()[:, None] == K.index.to_numpy()).astype(float)
    V = sd**2 * Z @ K.to_numpy() @ Z.T + s2 * np.eye(len(rest))
    X = np.column_stack([np.ones(len(rest)), rest["sex"] == "M"]).astype(float)
    beta = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, rest["weight"]))
    change = table.loc["a21", ["Intercept", "sex[T.M]"]].to_numpy(dtype=float)
    np.testing.assert_allclose(change, model.fixed_effects_ - beta, atol=1e-6)


def test_heritability_and_its_standard_error(lines, model):
    frame, K, _ = lines
    eye = pd.DataFrame(np.eye(len(K)), index=K.index, columns=K.index)
    own = MixedLinearRegressor("y ~ 1 + (1 | line)", relationship={"line": eye}).fit(frame)
    plain = MixedLinearRegressor("y ~ 1 + (1 | line)").fit(frame)
    # the delta method in variances of the plain model
    record = plain.result_.second_order
    [theta] = record.theta
    share = theta**2 / (theta**2 + 1)
    slope = 2 * theta / (theta**2 + 1) ** 2
    found = heritability(own).loc["(1 | line)"]
    assert found["estimate"] == pytest.approx(share, rel=1e-5)
    error = slope * np.sqrt(record.covariance[0, 0])
    assert found["std_error"] == pytest.approx(error, rel=1e-3)
    assert 0 < found["lower"] < found["estimate"] < found["upper"] < 1
    animal = heritability(model).iloc[0]
    assert 0 < animal["std_error"] < animal["estimate"]
    with pytest.raises(ValueError, match="relationship"):
        heritability(plain)


@pytest.mark.filterwarnings("ignore::skmixed.SingularFitWarning")
@pytest.mark.parametrize("formula", ["y ~ x + (1 | line)", "y ~ x + (x | line)"])
@pytest.mark.parametrize("residual", ["power(x)", "ident(site)", "ar1(t | line) * ident(site)"])
def test_residual_structures_beside_related_levels(lines, formula, residual):
    frame, K, value = lines
    rng = np.random.default_rng(8)
    frame = frame.loc[frame.index.repeat(2)].reset_index(drop=True)
    frame["t"] = frame.groupby("line").cumcount()
    frame["site"] = np.where(frame["t"] % 2, "far", "near")
    frame["x"], frame["w"] = rng.uniform(1, 4, size=(2, len(frame)))
    code = K.index.get_indexer(frame["line"])
    slope = 0.5 * np.roll(value, 1)[code]
    e = rng.normal(size=len(frame)) * frame["x"] ** 0.5
    frame["y"] = 3 + value[code] + slope * frame["x"] + e
    frame = frame.sample(frac=0.9, random_state=1)
    code = K.index.get_indexer(frame["line"])
    model = MixedLinearRegressor(
        formula, relationship={"line": K}, residual=residual, prior_weights="w"
    ).fit(frame)
    Z = np.column_stack([np.ones(len(frame)), frame["x"]])
    q = len(model.covariances_["line"])
    inner = Z[:, :q] @ model.covariances_["line"].to_numpy() @ Z[:, :q].T
    R = np.zeros((len(frame),) * 2)
    for line in frame["line"].unique():
        at = np.flatnonzero(frame["line"] == line)
        R[np.ix_(at, at)] = model.residual_covariance_(frame.iloc[at])
    root = np.sqrt(frame["w"].to_numpy())
    V = inner * K.to_numpy()[np.ix_(code, code)] + R / np.outer(root, root)
    inverse = np.linalg.inv(V)
    XVX = Z.T @ inverse @ Z
    beta = np.linalg.solve(XVX, Z.T @ inverse @ frame["y"])
    e = frame["y"] - Z @ beta
    value = np.linalg.slogdet(V)[1] + np.linalg.slogdet(XVX)[1] + e @ inverse @ e
    assert model.deviance_ == pytest.approx(value + (len(e) - 2) * np.log(2 * np.pi), abs=1e-6)
    np.testing.assert_allclose(model.fixed_effects_, beta, rtol=1e-6)
    np.testing.assert_allclose(model.vcov_, np.linalg.inv(XVX), rtol=1e-6)
