"""Terms of related levels against dense covariances: slopes, several, beside other terms."""

import numpy as np
import pandas as pd
import pytest
from scipy import linalg
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_predict

from skmixed import MixedGLMRegressor, MixedLinearRegressor
from skmixed.design import build_design
from skmixed.inference import heritability, influence, random_effects_test
from skmixed.linalg.system import Pattern
from skmixed.models import layout as layouts


@pytest.fixture(scope="module")
def data():
    """30 related animals of which 24 have records in 5 pens, and 12 sires related by markers."""
    rng = np.random.default_rng(8)
    W = rng.normal(size=(30, 40))
    K = W @ W.T / 40 * 3.0
    names = np.array([f"a{i:02d}" for i in range(30)])
    M = rng.normal(size=(12, 5))
    G = M @ M.T / 5
    n = 300
    animal, sire, pen = rng.integers(0, 24, n), rng.integers(0, 12, n), rng.integers(0, 5, n)
    x = rng.normal(size=n) + 0.5
    L = np.linalg.cholesky(K) @ rng.normal(size=(30, 2)) @ np.array([[1.0, 0.2], [0.0, 0.7]])
    y = 5 + 0.4 * x + L[animal, 0] + L[animal, 1] * x + (M @ rng.normal(size=5))[sire]
    y += 0.8 * rng.normal(size=24)[animal] + rng.normal(size=n)
    y += 1.5 * rng.normal(size=5)[pen]
    frame = pd.DataFrame({"y": y, "x": x, "pen": pen, "w": rng.uniform(0.5, 2.0, n)})
    frame["animal"] = names[animal]
    frame["same"] = frame["animal"]
    frame["sire"] = [f"s{i}" for i in sire]
    sires = pd.Index([f"s{i}" for i in range(12)])
    return frame, {
        "animal": pd.DataFrame(K, index=names, columns=names),
        "sire": pd.DataFrame(G, index=sires, columns=sires),
    }


class Dense:
    """The model by its covariance V, parameters from the fit."""

    def __init__(self, model, frame, K):
        self.model, n = model, len(frame)
        w = np.ones(n) if model.prior_weights is None else frame[model.prior_weights].to_numpy()
        self.X = np.column_stack([np.ones(n), frame["x"]])
        self.y, self.V, self.terms = frame["y"].to_numpy(), np.diag(model.sigma_**2 / w), {}
        for group, cov in model.covariances_.items():
            levels = K[group].index if group in K else pd.Index(sorted(frame[group].unique()))
            own = K[group].to_numpy() if group in K else np.eye(len(levels))
            Z = (frame[group].to_numpy()[:, None] == levels.to_numpy()).astype(float)
            x = np.column_stack([np.ones(n) if c == "Intercept" else frame[c] for c in cov.columns])
            Z = np.einsum("nl,ns->nls", Z, x).reshape(n, -1)
            G = np.kron(own, cov.to_numpy())
            self.terms[group] = Z, G, len(cov)
            self.V += Z @ G @ Z.T

    def criterion(self, reml):
        root = linalg.cho_factor(self.V)
        A = self.X.T @ linalg.cho_solve(root, self.X)
        self.beta = np.linalg.solve(A, self.X.T @ linalg.cho_solve(root, self.y))
        e = self.y - self.X @ self.beta
        n = len(self.y)
        value = 2 * np.log(np.diag(root[0])).sum() + e @ linalg.cho_solve(root, e)
        if reml:
            return value + np.linalg.slogdet(A)[1] + (n - 2) * np.log(2 * np.pi)
        return value + n * np.log(2 * np.pi)

    def effects(self, group):
        """(modes, conditional covariance, covariance with beta-hat) of all effects."""
        Z, G, s = self.terms[group]
        W = np.linalg.inv(self.V)
        e = self.y - self.X @ np.linalg.solve(self.X.T @ W @ self.X, self.X.T @ W @ self.y)
        return (G @ Z.T @ W @ e).reshape(-1, s), G - G @ Z.T @ W @ Z @ G

    def new_std(self, group, x, column):
        """Standard error of (1, x) beta + b of a row of one level, its effect number ``column``."""
        Z, G, s = self.terms[group]
        W = np.linalg.inv(self.V)
        Phi = np.linalg.inv(self.X.T @ W @ self.X)
        z = np.zeros(len(G))
        z[column * s : (column + 1) * s] = [1.0, x][:s]
        a = np.array([1.0, x]) - self.X.T @ W @ Z @ G @ z
        _, given = self.effects(group)
        return np.sqrt(z @ given @ z + a @ Phi @ a)


FORMULAS = [
    "y ~ x + (1 | animal)",
    "y ~ x + (1 | sire)",
    "y ~ x + (x | animal)",
    "y ~ x + (x || animal)",
    "y ~ x + diag(x | animal)",
    "y ~ x + (1 | animal) + (1 | same)",
    "y ~ x + (1 | animal) + (1 | sire) + (1 | pen)",
    "y ~ x + (x | animal) + (1 | sire)",
    "y ~ x + (0 + x | animal) + (1 | pen)",
]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("weights", [None, "w"])
def test_related_terms_are_those_of_the_dense_model(data, formula, reml, weights):
    frame, K = data
    K = {group: own for group, own in K.items() if group in formula}
    model = MixedLinearRegressor(formula, reml=reml, relationship=K, prior_weights=weights)
    model.fit(frame)
    dense = Dense(model, frame, K)
    assert model.deviance_ == pytest.approx(dense.criterion(reml), abs=1e-7)
    np.testing.assert_allclose(model.fixed_effects_, dense.beta, rtol=1e-8)
    for group in K:
        modes, given = dense.effects(group)
        np.testing.assert_allclose(model.random_effects_[group], modes, atol=1e-7)
        std = model.random_effects_std_[group].to_numpy().ravel()
        np.testing.assert_allclose(std, np.sqrt(np.diag(given)), rtol=1e-5, atol=1e-7)
    # a minimum: every covariance times 1.1 or 0.9, sigma at its best, is no better
    for group, (Z, G, _) in dense.terms.items():
        for factor in (0.1, -0.1):
            other = Dense(model, frame, K)
            other.V = dense.V + factor * Z @ G @ Z.T
            assert other.criterion(reml) >= model.deviance_ - 1e-8, group


@pytest.mark.parametrize("formula", FORMULAS[:4])
def test_new_rows_of_levels_with_and_without_records(data, formula):
    frame, K = data
    [group] = [g for g in K if g in formula]
    model = MixedLinearRegressor(formula, relationship={group: K[group]}).fit(frame)
    dense = Dense(model, frame, K)
    levels = K[group].index[[0, 5, -1, -4]]
    new = pd.DataFrame({"x": 1.5, group: levels})
    mean, std = model.predict(new, return_std=True)
    modes, _ = dense.effects(group)
    at = K[group].index.get_indexer(levels)
    dense.criterion(True)
    expected = dense.beta @ [1.0, 1.5] + modes[at] @ np.array([1.0, 1.5][: modes.shape[1]])
    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    own = [dense.new_std(group, 1.5, column) for column in at]
    np.testing.assert_allclose(std, own, rtol=1e-6)
    new = pd.concat([new, new.assign(**{group: "stranger"})])
    stranger = model.predict(new, return_std=True)[1]
    assert (stranger[4:] > std).all()


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("group", "weights"), [("animal", None), ("sire", "w")])
def test_the_rotated_levels_are_those_of_the_dense_path(data, group, weights, reml, monkeypatch):
    frame, K = data
    K = {group: K[group]}
    formula = f"y ~ x + (1 | {group})"

    def fitted():
        model = MixedLinearRegressor(formula, reml=reml, prior_weights=weights, relationship=K)
        return model.fit(frame)

    rotated = fitted()
    own = layouts._loadings
    monkeypatch.setattr(layouts, "_loadings", lambda term, z, w, alone: own(term, z, w, False))
    group_of = layouts._group
    monkeypatch.setattr(layouts, "_group", lambda *args: group_of(*args[:4], False))
    dense = fitted()
    assert rotated.result_.layout.groups[0].diagonal
    assert not dense.result_.layout.groups[0].diagonal
    assert rotated.deviance_ == pytest.approx(dense.deviance_, abs=1e-9)
    assert max(rotated.n_evaluations_, dense.n_evaluations_) <= 5
    np.testing.assert_allclose(rotated.theta_, dense.theta_, rtol=1e-6)
    for name in ("random_effects_", "random_effects_std_"):
        a, b = getattr(rotated, name)[group], getattr(dense, name)[group]
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
    for kind in ("conditional", "prediction"):
        a, b = rotated.result_.effects_std(kind)[0], dense.result_.effects_std(kind)[0]
        np.testing.assert_allclose(a, b, rtol=1e-8)
    a, b = heritability(rotated), heritability(dense)
    np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(rotated.coefficients(), dense.coefficients(), rtol=1e-6)
    for ddf in ("satterthwaite", "kenward_roger")[: 1 + reml]:
        a, b = rotated.coefficients(ddf=ddf), dense.coefficients(ddf=ddf)
        np.testing.assert_allclose(a, b, rtol=1e-6)
    a, b = (m.variance_components()["std_error"] for m in (rotated, dense))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    a, b = (influence(m, frame) for m in (rotated, dense))
    np.testing.assert_allclose(a["leverage"], b["leverage"], rtol=1e-7)
    draws = [m.simulate(frame, 4000, random_state=0) for m in (rotated, dense)]
    variances = [d.var(axis=1).mean() for d in draws]
    assert variances[0] == pytest.approx(variances[1], rel=0.05)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("formula", ["y ~ x + (1 | animal)", "y ~ x + (x | animal)"])
def test_the_unit_of_the_relationship_changes_its_variance_alone(data, scale, formula):
    frame, K = data
    plain = MixedLinearRegressor(formula, relationship={"animal": K["animal"]}).fit(frame)
    other = MixedLinearRegressor(formula, relationship={"animal": scale * K["animal"]}).fit(frame)
    assert other.deviance_ == pytest.approx(plain.deviance_, abs=1e-8)
    assert abs(other.n_evaluations_ - plain.n_evaluations_) <= 1
    np.testing.assert_allclose(
        scale * other.covariances_["animal"], plain.covariances_["animal"], rtol=1e-4
    )


def test_tests_of_related_effects(data):
    frame, K = data
    model = MixedLinearRegressor("y ~ x + (x | animal)", relationship={"animal": K["animal"]})
    model.fit(frame)
    table = random_effects_test(model)
    smaller = MixedLinearRegressor("y ~ x + (1 | animal)", relationship={"animal": K["animal"]})
    smaller.fit(frame)
    gain = smaller.deviance_ - model.deviance_
    assert table["lrt"].iloc[1] == pytest.approx(gain, abs=1e-6)


def test_a_generalised_model_with_slopes(data):
    frame, K = data
    rng = np.random.default_rng(1)
    frame = frame.assign(y=rng.poisson(np.exp(frame["y"] / 6)))
    own = MixedGLMRegressor(
        "y ~ x + (x | animal)", family="poisson", relationship={"animal": K["animal"]}
    ).fit(frame)
    eye = pd.DataFrame(np.eye(30), index=K["animal"].index, columns=K["animal"].index)
    related = MixedGLMRegressor(
        "y ~ x + (x | animal)", family="poisson", relationship={"animal": eye}
    ).fit(frame)
    plain = MixedGLMRegressor("y ~ x + (x | animal)", family="poisson").fit(frame)
    assert related.deviance_ == pytest.approx(plain.deviance_, abs=1e-6)
    seen = plain.random_effects_["animal"].index
    np.testing.assert_allclose(
        related.random_effects_["animal"].loc[seen], plain.random_effects_["animal"], atol=1e-4
    )
    assert own.deviance_ != pytest.approx(plain.deviance_, abs=1e-3)
    with pytest.raises(ValueError, match="levels that are independent"):
        own.set_params(formula="y ~ x + (1 | animal)", n_agq=5).fit(frame)


def test_cross_validation_over_lines_is_the_formula_of_gblup(data):
    frame, K = data
    K = K["animal"]
    model = MixedLinearRegressor("x + (1 | animal)", relationship={"animal": K})
    folds = list(GroupKFold(4).split(frame, groups=frame["animal"]))
    found = cross_val_predict(model, frame[["x", "animal"]], frame["y"], cv=folds)
    for train, test in folds:
        old, new = frame.iloc[train], frame.iloc[test]
        own = clone(model).fit(old[["x", "animal"]], old["y"])
        variance, n = own.covariances_["animal"].iloc[0, 0], len(old)
        V = variance * K.loc[old["animal"], old["animal"]].to_numpy()
        W = np.linalg.inv(V + own.sigma_**2 * np.eye(n))
        X = np.column_stack([np.ones(n), old["x"]])
        beta = np.linalg.solve(X.T @ W @ X, X.T @ W @ old["y"])
        between = variance * K.loc[new["animal"], old["animal"]].to_numpy()
        expected = beta[0] + beta[1] * new["x"] + between @ W @ (old["y"] - X @ beta)
        np.testing.assert_allclose(found[test], expected, rtol=1e-7)


def test_levels_made_independent_are_so_under_their_own_weights_alone(data):
    frame, K = data
    design = build_design("y ~ x + (1 | animal)", frame, relationship={"animal": K["animal"]})
    layout = layouts.CovarianceLayout.build(design.random, fixed_weights=True)
    pattern = Pattern.build(layout.groups, 2)
    pattern.system(None, design.X, design.y)
    with pytest.raises(ValueError, match="rows of other weights"):
        pattern.system(np.linspace(1, 2, len(frame)), design.X, design.y)
