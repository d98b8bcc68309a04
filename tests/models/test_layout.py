"""From theta to covariance factors, and between the user's units and the engine's."""

import numpy as np
import pytest

from skmixed.design import build_design
from skmixed.models.layout import CovarianceLayout
from skmixed.models.units import standardise


@pytest.fixture
def terms(data):
    text = "y ~ x + (x + z | g) + (1 | h) + (far || a) + (0 + x | h)"
    return build_design(text, data).random


@pytest.fixture
def layout(terms):
    return CovarianceLayout.build(terms)


def test_standardised_covariates_span_the_same_effects(terms):
    """z_user b_user = z b for b_user = M b."""
    for term in terms:
        scale = standardise(term)
        b = np.arange(1.0, len(scale.M) + 1)
        np.testing.assert_allclose(term.z @ (scale.M @ b), scale.z @ b, rtol=1e-9, atol=1e-9)


def test_covariates_of_new_rows(terms, layout):
    """New rows get the covariates that the engine made for the same rows of the fit."""
    for term, at in zip(terms, layout.terms, strict=True):
        z = layout.groups[at.group].z[:, at.columns]
        np.testing.assert_allclose(at.covariates(term.z), z, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weights", [None, "w"])
def test_covariates_of_a_correlated_term_are_orthonormal(data, terms, weights):
    weights = None if weights is None else data[weights].to_numpy()
    z = standardise(terms[0], weights).z
    gram = z.T @ (z if weights is None else z * weights[:, None])
    total = len(z) if weights is None else weights.sum()
    np.testing.assert_allclose(gram / total, np.eye(3), atol=1e-12)


def test_terms_of_one_group_share_their_factor(layout, terms):
    """The blocks of separate terms have no covariance; theta counts lower triangles."""
    assert layout.n_theta == 6 + 1 + 1 + 1 + 1
    names = dict.fromkeys(t.group for t in terms)
    by_group = dict(zip(names, layout.factors(np.ones(10)), strict=True))
    np.testing.assert_array_equal(by_group["h"], np.eye(2))
    np.testing.assert_array_equal(by_group["g"], np.tril(np.ones((3, 3))))


def test_user_theta_and_back(layout):
    """The covariance comes back; the factors may differ by signs of their columns."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=layout.n_theta)
    user = layout.user_theta(theta)
    again = layout.from_user_theta(user)
    np.testing.assert_allclose(layout.user_theta(again), user, rtol=1e-8, atol=1e-10)


def test_user_theta_is_in_lme4s_order(data):
    """Most levels first, each term's lower triangle by columns."""
    layout = CovarianceLayout.build(build_design("y ~ x + (1 | h) + (x | g)", data).random)
    user = np.array([0.9, 0.2, 0.4, 0.7])  # (x | g) has 9 levels, (1 | h) has 5
    theta = layout.from_user_theta(user)
    np.testing.assert_allclose(layout.term_factor(theta, 0), [[0.7]])
    np.testing.assert_allclose(layout.term_factor(theta, 1), [[0.9, 0.0], [0.2, 0.4]], atol=1e-12)


def test_initial_theta_is_the_identity(layout):
    for factor in layout.factors(layout.initial()):
        np.testing.assert_array_equal(factor, np.eye(len(factor)))


def test_without_rows_keeps_the_layout(layout):
    slim = layout.without_rows()
    assert all(len(group.codes) == 0 and len(group.z) == 0 for group in slim.groups)
    theta = np.arange(1.0, 11.0)
    np.testing.assert_array_equal(slim.user_theta(theta), layout.user_theta(theta))


def test_settled_puts_negligible_deviations_to_zero(data):
    layout = CovarianceLayout.build(build_design("y ~ x + (x | g)", data).random)
    theta = layout.initial() * 1.0
    theta[-1] = 1e-7
    settled = layout.settled(theta, 1e-3)
    T = layout.term_factor(settled, 0)
    assert np.linalg.matrix_rank(T) == 1
    np.testing.assert_allclose(
        T @ T.T, (lambda t: t @ t.T)(layout.term_factor(theta, 0)), atol=1e-6
    )
    well = layout.initial()
    np.testing.assert_array_equal(layout.settled(well, 1e-3), well)


def test_two_degenerate_terms_of_one_group_are_rotated_together():
    """Both go on in smooth coordinates, the covariances and the way back unchanged."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(6), 10)
    table = {name: rng.normal(size=60) for name in "yabcd"} | {"g": codes}
    design = build_design("y ~ 1 + (0 + a + b | g) + (0 + c + d | g)", table)
    layout = CovarianceLayout.build(design.random)
    theta = np.array([0.01, 1.0, 0.5, 0.02, -1.0, 0.3])
    rotated, moved = layout.recharted(theta)
    before, after = layout.factors(theta)[0], rotated.factors(moved)[0]
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-12)
    np.testing.assert_allclose(rotated.upright(moved), theta, atol=1e-12)
    assert rotated.recharted(moved) is None


def test_names_of_theta(layout, data):
    names = layout.names
    assert len(names) == layout.n_theta
    assert names[:3] == [
        (0, "Intercept", "Intercept"),
        (0, "x", "Intercept"),
        (0, "z", "Intercept"),
    ]
    assert names[6] == (4, "x", "x")  # (0 + x | h)


LME4_ORDER = {  # lme4 1.1-31: cnms of lFormula() for 6 levels of a and b, 8 of c, 3 of k
    "(1 | b) + (1 | a)": "b1 a1",
    "(1 | b) + (1 | c) + (1 | a)": "c1 a1 b1",
    "(x || b) + (1 | a)": "b1 bx a1",
    "(1 | b) + (x || a) + (1 | c)": "c1 ax a1 b1",
    "(1 | a) + (1 | c) + (0 + x | a)": "c1 ax a1",
    "(0 + x | b) + (1 | a) + (1 | b) + (1 | c)": "c1 b1 a1 bx",
    "(1 | k / c)": "k:c1 k1",
    "(1 | k) + (1 | a) + (x || b) + (0 + x | c)": "cx bx b1 a1 k1",
}


@pytest.mark.parametrize("formula", LME4_ORDER)
def test_order_of_theta_is_lme4s_also_among_factors_with_as_many_levels(formula):
    rng = np.random.default_rng(0)
    data = {name: np.arange(240) % size for name, size in zip("abck", (6, 6, 8, 3), strict=True)}
    data["b"] = np.arange(240) // 40
    data |= {"x": rng.normal(size=240), "y": rng.normal(size=240)}
    random = build_design(f"y ~ 1 + {formula}", data).random
    layout = CovarianceLayout.build(random)
    names = [t.group + t.names[0].replace("Intercept", "1") for t in random]
    for place, name in enumerate(LME4_ORDER[formula].split()):
        theta = np.zeros(layout.n_theta)
        theta[names.index(name)] = 1.0
        assert np.flatnonzero(layout.user_theta(theta)).tolist() == [place]
