"""Estimates, conditional modes and prediction variances against the dense formulas."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from skmixed.design import build_design
from skmixed.models import fit as module
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.lmm import LMMFit, fit_lmm

NEW = slice(5, 40)


@pytest.fixture(scope="module")
def fit(marginal, theta):
    """The model at a theta that is not the optimum: every formula holds there too."""
    optimum = fit_lmm(marginal.objective, max_iter=1).optimum
    state = marginal.objective.evaluate(theta)
    return LMMFit.at(
        marginal.objective, replace(optimum, theta=theta, value=state.value, state=state)
    )


@pytest.fixture(scope="module")
def beta(marginal, theta):
    V = marginal.V(theta)
    VX = np.linalg.solve(V, marginal.X)
    return np.linalg.solve(marginal.X.T @ VX, VX.T @ marginal.y)


def _effects(marginal, theta):
    """Z (n, q) and G = Lambda Lambda' (q, q) of one term after the other, level by level."""
    for t, term in enumerate(marginal.design.random):
        Z = np.zeros((len(marginal.rows), term.n_levels, len(term.names)))
        Z[np.arange(len(Z)), term.codes[marginal.rows]] = term.z[marginal.rows]
        T = marginal.layout.term_factor(theta, t)
        yield Z.reshape(len(Z), -1), np.kron(np.eye(term.n_levels), T @ T.T)


def test_fixed_effects(marginal, theta, fit, beta, formula):
    tolerance = 1e-6 if formula == "shifted" else 1e-9
    np.testing.assert_allclose(fit.beta, beta, rtol=tolerance, atol=tolerance)
    V, m = marginal.V(theta), marginal.objective.dof
    sigma2 = marginal.y @ marginal.P(theta) @ marginal.y / m
    assert fit.sigma == pytest.approx(np.sqrt(sigma2), rel=1e-8)
    vcov = sigma2 * np.linalg.inv(marginal.X.T @ np.linalg.solve(V, marginal.X))
    np.testing.assert_allclose(fit.vcov, vcov, rtol=1e-5, atol=1e-10)


def test_conditional_modes(marginal, theta, fit):
    """b = G Z' V^-1 (y - X beta) = G Z' P y."""
    Py = marginal.P(theta) @ marginal.y
    for found, (Z, G) in zip(fit.effects, _effects(marginal, theta), strict=True):
        np.testing.assert_allclose(found.ravel(), G @ Z.T @ Py, rtol=1e-6, atol=1e-7)


def test_conditional_variances(marginal, theta, fit):
    """sigma^2 (G - G Z' V^-1 Z G), given theta and beta."""
    inverse = np.linalg.inv(marginal.V(theta))
    for found, (Z, G) in zip(fit.effects_variance, _effects(marginal, theta), strict=True):
        dense = fit.sigma**2 * (G - G @ Z.T @ inverse @ Z @ G)
        for level, block in enumerate(found):
            at = slice(level * len(block), (level + 1) * len(block))
            np.testing.assert_allclose(block, dense[at, at], rtol=1e-5, atol=1e-8)


def test_variances_of_predicted_effects(marginal, theta, fit, monkeypatch):
    """Var(b-hat - b) = sigma^2 (G - G Z' P Z G), also from few right-hand sides at a time."""
    monkeypatch.setattr(module, "_NUMBERS", 1)
    P = marginal.P(theta)
    for found, (Z, G) in zip(fit.effects_std("prediction"), _effects(marginal, theta), strict=True):
        dense = fit.sigma**2 * (G - G @ Z.T @ P @ Z @ G)
        np.testing.assert_allclose(found.ravel() ** 2, dense.diagonal(), rtol=1e-5, atol=1e-8)


def test_variances_of_predicted_effects_stay_with_the_fit(data):
    fit = fit_lmm(ProfiledDeviance.from_design(build_design("y ~ x + (x | g) + (1 | h)", data)))
    before = pickle.loads(pickle.dumps(fit))
    expected = fit.effects_std("prediction")
    after = pickle.loads(pickle.dumps(fit))
    np.testing.assert_allclose(
        after.effects_std("prediction")[0], expected[0], rtol=1e-9, atol=1e-9
    )
    assert (expected[1] > fit.effects_std("conditional")[1]).all()
    with pytest.raises(ValueError, match="not pickled: ask for them before pickling"):
        before.effects_std("prediction")
    with pytest.raises(ValueError, match="'conditional' or 'prediction', got 'both'"):
        fit.effects_std("both")


def _prediction_variance(marginal, theta, X, terms, sigma):
    """Var(x'(beta-hat - beta) + z'(b-hat - b)) from the joint covariance of b and y."""
    V = marginal.V(theta)
    inverse = np.linalg.inv(V)
    info = marginal.X.T @ inverse @ marginal.X
    prior, cross = np.zeros(len(X)), np.zeros((len(X), len(V)))
    for t, (term, own) in enumerate(zip(terms, marginal.design.random, strict=True)):
        T = marginal.layout.term_factor(theta, t)
        z = term.z @ T
        prior += np.einsum("ns,ns->n", z, z)
        same = term.codes[:, None] == own.codes[marginal.rows]
        cross += same * (z @ (own.z[marginal.rows] @ T).T)
    conditional = prior - np.einsum("nm,mk,nk->n", cross, inverse, cross)
    rest = X[:, marginal.objective.basis.kept] - cross @ inverse @ marginal.X
    return sigma**2 * (conditional + np.einsum("nr,nr->n", rest, np.linalg.solve(info, rest.T).T))


@pytest.mark.parametrize("unseen", [False, True])
def test_prediction_variance(marginal, theta, fit, unseen):
    X = marginal.design.X[NEW]
    terms = [replace(t, codes=t.codes[NEW].copy(), z=t.z[NEW]) for t in marginal.design.random]
    if unseen:
        for term in {id(t.codes): t for t in terms}.values():
            term.codes[:: 2 + term.n_levels % 3] = -1
    expected = _prediction_variance(marginal, theta, X, terms, fit.sigma)
    np.testing.assert_allclose(fit.mean_std(X, terms) ** 2, expected, rtol=1e-5, atol=1e-9)


def test_variance_of_the_fixed_part(marginal, fit):
    X = marginal.design.X[NEW]
    kept = X[:, fit.basis.kept]
    expected = np.einsum("nr,rs,ns->n", kept, fit.vcov, kept)
    np.testing.assert_allclose(fit.mean_std(X, None) ** 2, expected, rtol=1e-4, atol=1e-10)


def test_pickled_fit_has_no_cross_products(fit, marginal):
    copy = pickle.loads(pickle.dumps(fit))
    assert copy.objective is None
    np.testing.assert_allclose(copy.beta, fit.beta, rtol=1e-9, atol=1e-9)
    terms = [replace(t, codes=t.codes[NEW], z=t.z[NEW]) for t in marginal.design.random]
    X = marginal.design.X[NEW]
    np.testing.assert_allclose(copy.mean_std(X, terms), fit.mean_std(X, terms), rtol=1e-10)


def test_refit_of_a_pickled_fit_is_an_error(data):
    fit = fit_lmm(ProfiledDeviance.from_design(build_design("y ~ x + (1 | g)", data)))
    copy = pickle.loads(pickle.dumps(fit))
    with pytest.raises(ValueError, match="not pickled: fit the model again"):
        copy.refit(reml=False)


def test_elimination_order_is_a_permutation(fit):
    if fit.layout.terms:
        order = fit.elimination_order()
        np.testing.assert_array_equal(np.sort(order), np.arange(len(order)))


@pytest.mark.parametrize("factor", [1e-15, 1.0, 1e15])
def test_units_of_a_covariate_are_not_a_singular_fit(data, factor):
    data = data.assign(x=factor * data["x"])
    fit = fit_lmm(ProfiledDeviance.from_design(build_design("y ~ x + (x | g)", data)))
    assert fit.singular_terms == (False,)


def test_a_factor_too_large_to_pickle(monkeypatch, data):
    monkeypatch.setattr(module, "_PICKLED_FACTOR_BYTES", 0)
    design = build_design("y ~ x + (1 | g) + (1 | h)", data)
    fit = fit_lmm(ProfiledDeviance.from_design(design))
    copy = pickle.loads(pickle.dumps(fit))
    np.testing.assert_allclose(copy.modes[0], fit.modes[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        copy.effects_variance[1], fit.effects_variance[1], rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(copy.mean_std(design.X, None), fit.mean_std(design.X, None))
    with pytest.raises(ValueError, match="standard errors of predictions cannot be had"):
        copy.mean_std(design.X, design.random)
    with pytest.raises(ValueError, match=r"factors of expand\(\) cannot be had"):
        copy.elimination_order()
