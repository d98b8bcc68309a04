"""Structures with fewer parameters than entries: derivatives, bounds, parameters people read."""

import numpy as np
import pytest

from skmixed.models.correlations import _autocorrelations
from skmixed.models.structured import SideBySide, make_structure
from skmixed.models.structures import Unstructured

TIMES = np.array([0, 1, 2, 5])
POSITIONS = np.random.default_rng(0).uniform(size=(4, 2))
PLACES = {"ar1": TIMES, "hetar1": TIMES, "expo": POSITIONS, "gau": POSITIONS}
PLACES |= {f"mat{nu}": POSITIONS for nu in (0.5, 1.5, 2.5)}
KINDS = ["diag", "homdiag", "cs", "homcs", "toep", *PLACES]


def make(kind):
    if kind == "side by side":
        return SideBySide.of([make("ar1"), Unstructured((2,)), make("cs")], [4, 2, 4])
    return make_structure(kind, 4, PLACES.get(kind))


def some_phi(structure, seed=0):
    return np.random.default_rng(seed).uniform(0.3, 1.2, structure.n_params)


def differences(f, phi, step=1e-4):
    """Five-point differences of f along every entry of phi."""
    out = []
    for e in np.eye(len(phi)) * step:
        near, far = f(phi + e) - f(phi - e), f(phi + 2 * e) - f(phi - 2 * e)
        out.append((8 * near - far) / (12 * step))
    return np.array(out)


def sigma(structure, phi):
    T = structure.factor(phi)
    return T @ T.T


@pytest.mark.parametrize("kind", [*KINDS, "side by side"])
def test_derivatives(kind):
    own = make(kind)
    phi = some_phi(own)
    s = len(own.factor(phi))
    rng = np.random.default_rng(1)
    G, c = rng.normal(size=(s, s)), rng.normal(size=(s, 3))
    G = G + G.T
    D = own.tangents(phi)
    np.testing.assert_allclose(D, differences(lambda p: sigma(own, p), phi), atol=1e-8)
    np.testing.assert_allclose(own.gradient(phi, G), np.einsum("pst,st->p", D, G), atol=1e-12)
    np.testing.assert_allclose(own.directions(phi, c), np.einsum("pst,tl->spl", D, c), atol=1e-12)
    bend = differences(lambda p: own.gradient(p, G), phi)
    np.testing.assert_allclose(own.curvature(phi, G), bend, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_natural_parameters_and_their_derivatives(kind):
    own = make(kind)
    phi = some_phi(own)
    values = lambda p: np.array([n.value for n in own.natural(p)])  # noqa: E731
    slopes = lambda p: np.array([n.gradient for n in own.natural(p)])  # noqa: E731
    np.testing.assert_allclose(slopes(phi).T, differences(values, phi), atol=1e-8)
    bends = np.array([n.hessian for n in own.natural(phi)])
    np.testing.assert_allclose(bends.transpose(2, 0, 1), differences(slopes, phi), atol=1e-7)
    Sigma, found = sigma(own, phi), own.natural(phi)
    sd = np.sqrt(np.diag(Sigma))
    np.testing.assert_allclose([n.value for n in found if n.kind == "sd"], sd[: own.n_params][
        : sum(n.kind == "sd" for n in found)])  # fmt: skip
    np.testing.assert_allclose(own.spread(phi) ** 2, sd**2)
    if "rho" in [n.name for n in found]:
        rho = next(n.value for n in found if n.name == "rho")
        assert Sigma[0, 1] / sd[0] / sd[1] == pytest.approx(rho)


def test_what_the_correlations_are():
    phi = np.array([1.0, np.arcsin(0.5)])
    np.testing.assert_allclose(sigma(make("ar1"), phi)[0], 0.5 ** np.array([0, 1, 2, 5]))
    phi = np.array([1.0, np.log(0.7)])
    x = np.sqrt(((POSITIONS - POSITIONS[0]) ** 2).sum(axis=1)) / 0.7
    forms = {
        "expo": np.exp(-x),
        "gau": np.exp(-(x**2)),
        "mat0.5": np.exp(-x),
        "mat1.5": (1 + x) * np.exp(-x),
        "mat2.5": (1 + x + x**2 / 3) * np.exp(-x),
    }
    for kind, R in forms.items():
        np.testing.assert_allclose(sigma(make(kind), phi)[0], R, rtol=1e-10)


def test_partial_autocorrelations_of_an_autoregression():
    r = [jet.f for jet in _autocorrelations(np.arcsin([0.6, 0.0, 0.0]))]
    np.testing.assert_allclose(r, [1, 0.6, 0.36, 0.216])


@pytest.mark.parametrize("kind", ["cs", "homcs", "ar1", "hetar1", "toep"])
def test_bounds_are_stationary_and_reached_exactly(kind):
    own = make(kind)
    G = np.random.default_rng(2).normal(size=(4, 4))
    bound = some_phi(own)
    at = {"cs": 0.0, "homcs": 0.0}.get(kind, np.pi / 2)
    which = 1 if kind == "homcs" else -1
    bound[which] = at
    assert own.gradient(bound, G + G.T)[which] == pytest.approx(0.0, abs=1e-12)
    near = bound.copy()
    near[which] += 1e-5
    settled = own.settled(near, 1e-3)
    np.testing.assert_allclose(settled, bound, atol=1e-12)
    assert own.is_singular(settled)
    assert not own.is_singular(some_phi(own))
    values = np.linalg.eigvalsh(sigma(own, settled))
    assert abs(values[0]) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_and_zero(kind):
    own = make(kind)
    phi = some_phi(own)
    np.testing.assert_allclose(sigma(own, own.scaled(phi, 3.0)), 9 * sigma(own, phi))
    nothing = own.settled(own.scaled(phi, 1e-9), 1e-3)
    assert not sigma(own, nothing).any()
    assert own.is_singular(nothing)
    start = own.from_factor(2.0 * np.eye(4))
    np.testing.assert_allclose(np.diag(sigma(own, start)), 4.0)
    assert np.isfinite(own.tangents(nothing)).all()


@pytest.mark.parametrize("kind", ["cs", "hetar1", "toep"])
def test_signs_of_standard_deviations_mean_nothing(kind):
    own = make_structure(kind, 3, np.arange(3))
    phi = own.from_factor(np.diag([1.0, 0.5, 2.0]))
    mixed = phi * np.append([1.0, -1.0, 1.0], np.ones(len(phi) - 3))
    T, turned = own.factor(phi), own.factor(mixed)
    np.testing.assert_allclose(turned @ turned.T, T @ T.T)
    D, moved = own.tangents(phi), own.tangents(mixed)
    np.testing.assert_allclose(moved[1], -D[1])
    G = np.arange(9.0).reshape(3, 3)
    H, bent = own.curvature(phi, G + G.T), own.curvature(mixed, G + G.T)
    np.testing.assert_allclose(bent[0, 1], -H[0, 1])
    np.testing.assert_allclose(bent[1, 1], H[1, 1])
