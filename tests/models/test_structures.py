"""Covariance structures: factors, derivatives, charts."""

from dataclasses import replace

import numpy as np
import pytest

from skmixed.design import build_design
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.structures import Restricted, Structure, Unstructured, canonical_factor


class CompoundSymmetry(Structure):
    """One variance and one covariance: T = a 11'/s + b (I - 11'/s), linear in (a, b)."""

    n_params = 2

    def __init__(self, s):
        self.mean = np.full((s, s), 1.0 / s)
        self.rest = np.eye(s) - self.mean

    def factor(self, phi):
        return phi[0] * self.mean + phi[1] * self.rest

    def tangents(self, phi):
        return np.stack([2.0 * phi[0] * self.mean, 2.0 * phi[1] * self.rest])

    def curvature(self, phi, G):
        return np.diag([2.0 * np.sum(G * self.mean), 2.0 * np.sum(G * self.rest)])

    def from_factor(self, T):
        Sigma = T @ T.T
        rest = np.sum(Sigma * self.rest) / (len(Sigma) - 1)
        return np.sqrt([np.sum(Sigma * self.mean), rest])


def _chart(rng):
    V = np.zeros((4, 4))
    V[:3, :3], V[3, 3] = np.linalg.qr(rng.normal(size=(3, 3)))[0], 1.0
    return V


@pytest.fixture(params=["upright", "rotated", "restricted", "compound symmetry"])
def structure(request):
    if request.param == "restricted":
        B = np.zeros((4, 3))
        B[:3, :2] = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 2)))[0]
        B[3, 2] = 1.0
        return Restricted(Unstructured((2, 1)), B)
    if request.param == "compound symmetry":
        return CompoundSymmetry(4)
    rotated = request.param == "rotated"
    return Unstructured((3, 1), _chart(np.random.default_rng(1)) if rotated else None)


@pytest.fixture
def phi(structure):
    return np.random.default_rng(0).normal(size=structure.n_params)


def _sigma(structure, phi):
    T = structure.factor(phi)
    return T @ T.T


def _numerically(f, phi, h=1e-5):
    return np.array([(f(phi + e) - f(phi - e)) / (2 * h) for e in h * np.eye(len(phi))])


def test_derivatives_of_a_structure(structure, phi):
    rng = np.random.default_rng(2)
    G, c = rng.normal(size=(4, 4)), rng.normal(size=(4, 7))
    G = G + G.T
    tangents = structure.tangents(phi)
    expected = _numerically(lambda at: _sigma(structure, at), phi)
    np.testing.assert_allclose(tangents, expected, atol=1e-8)
    gradient = np.einsum("pst,st->p", tangents, G)
    np.testing.assert_allclose(structure.gradient(phi, G), gradient, atol=1e-12)
    directions = np.einsum("pst,tl->spl", tangents, c)
    np.testing.assert_allclose(structure.directions(phi, c), directions, atol=1e-12)
    curvature = _numerically(lambda at: structure.gradient(at, G), phi)
    np.testing.assert_allclose(structure.curvature(phi, G), curvature, atol=1e-8)


def test_parameters_of_a_factor(structure, phi):
    again = structure.from_factor(structure.factor(phi))
    np.testing.assert_allclose(_sigma(structure, again), _sigma(structure, phi), atol=1e-12)


def test_a_single_effect_has_the_square_of_its_parameter():
    structure, phi = Unstructured((1,)), np.array([-0.7])
    G, c = np.array([[1.3]]), np.arange(4.0)[None]
    np.testing.assert_allclose(structure.factor(phi) ** 2, 0.49)
    np.testing.assert_allclose(structure.gradient(phi, G), [-1.4 * 1.3])
    np.testing.assert_allclose(structure.curvature(phi, G), [[2.6]])
    np.testing.assert_allclose(structure.directions(phi, c), -1.4 * c[:, None])
    np.testing.assert_allclose(structure.tangents(phi), [[[-1.4]]])
    assert structure.recharted(phi) is None


@pytest.mark.parametrize("chart", [None, _chart(np.random.default_rng(1))], ids=["none", "chart"])
def test_derivative_by_the_factor_itself(chart):
    structure = Unstructured((3, 1), chart)
    rng = np.random.default_rng(3)
    phi, D = rng.normal(size=structure.n_params), rng.normal(size=(4, 4))
    expected = _numerically(lambda at: np.sum(D * structure.factor(at)), phi)
    np.testing.assert_allclose(structure.gradient_by_factor(D), expected, atol=1e-8)


@pytest.mark.parametrize("chart", [None, _chart(np.random.default_rng(1))], ids=["none", "chart"])
def test_settled_in_any_coordinates(chart):
    """What is negligible becomes zero, whatever the basis; other terms are left as they are."""
    structure = Unstructured((3, 1), chart)
    T = np.zeros((4, 4))
    T[:3, :3] = np.diag([2.0, 1.0, 1e-5]) + np.outer([0.0, 0.0, 1e-5], [1.0, 1.0, 0.0])
    T[3, 3] = 0.7
    phi = structure.from_factor(T)
    settled = structure.settled(phi, 1e-3)
    found = _sigma(structure, settled)
    assert np.linalg.matrix_rank(found[:3, :3], tol=1e-12) == 2
    np.testing.assert_allclose(found, T @ T.T, atol=1e-4)
    assert settled[-1] == phi[-1]
    np.testing.assert_array_equal(structure.settled(phi, 1e-7), phi)


def test_the_layout_takes_any_structure(data):
    """A restricted covariance in the place of a free one: the engine sees factors and G alone."""
    objective = ProfiledDeviance.from_design(build_design("y ~ x + (x | g) + (1 | h)", data))
    layout = objective.layout
    structures = (CompoundSymmetry(2), layout.structures[1])
    layout = replace(layout, structures=structures, places=(slice(0, 2), slice(2, 3)), n_theta=3)
    restricted = replace(objective, layout=layout)
    theta = np.array([0.8, 0.5, 0.4])
    state = restricted.evaluate(theta)
    T = layout.factors(theta)
    free = np.concatenate(
        [s.from_factor(t) for s, t in zip(objective.layout.structures, T, strict=True)]
    )
    assert state.value == pytest.approx(objective(free), rel=1e-10)
    expected = _numerically(lambda at: restricted(at), theta)
    np.testing.assert_allclose(state.gradient, expected, rtol=1e-6, atol=1e-6)
    assert restricted.layout.recharted(theta) is None


@pytest.mark.parametrize("s", [1, 2, 3, 6])
def test_canonical_factor(s):
    A = np.random.default_rng(s).normal(size=(s, s))
    L = canonical_factor(A)
    np.testing.assert_allclose(L @ L.T, A @ A.T, atol=1e-12)
    assert (np.diag(L) >= 0).all()
    assert not np.triu(L, 1).any()


@pytest.mark.parametrize(
    "A",
    [
        np.zeros((2, 2)),
        np.array([[0.0, 0.0], [1.0, 2.0]]),
        np.outer([1.0, -2.0, 0.5], [1.0, 1.0, 0.0]),
    ],
)
def test_canonical_factor_of_singular_covariances(A):
    """Columns that belong to no new direction are exactly zero."""
    L = canonical_factor(A)
    np.testing.assert_allclose(L @ L.T, A @ A.T, atol=1e-12)
    assert np.count_nonzero(np.diag(L)) == np.linalg.matrix_rank(A @ A.T)


@pytest.mark.parametrize("unit", [1e-160, 1e-9, 1e9, 1e150])
def test_canonical_factor_in_any_units(unit):
    """Effects of very different size are not a singular covariance."""
    L = canonical_factor(np.diag([unit, 1.0]) @ np.array([[1.0, 0.0], [0.5, 2.0]]))
    np.testing.assert_allclose(L, [[unit, 0.0], [0.5, 2.0]], rtol=1e-10)
