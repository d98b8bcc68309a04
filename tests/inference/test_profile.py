"""Profile limits against exactly solved ones, and the derivatives that find them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skmixed import MixedLinearRegressor
from skmixed.inference.deviances import LinearDeviance
from skmixed.inference.profile import coefficient_limits, variance_limits
from skmixed.models.components import variance_parameters

# Evaluations for both ends of an ordinary fit.
ORDINARY = 16


@pytest.fixture
def ml(reference):
    return reference.fit.refit(reml=False)


def _expected(reference):
    rows = reference.ref["confint"]["profile_ml_exact"]["rows"]
    return [r for r in rows if r["kind"] == "beta"], {
        (r["kind"], r["term"], r["i"], r["j"]): r for r in rows if r["kind"] != "beta"
    }


def _check(found, row):
    width = row["upper"] - row["lower"]
    assert row["ok_lower"] and row["ok_upper"]
    np.testing.assert_allclose([found.lower, found.upper], [row["lower"], row["upper"]],
                               rtol=0, atol=1e-6 * width)  # fmt: skip


def test_variances_against_exact_limits(reference, ml):
    _, expected = _expected(reference)
    layout = ml.layout
    # the reference counts terms in lme4's order, most levels first
    sizes = [-layout.groups[t.group].n_levels for t in layout.terms]
    place = {t: at for at, t in enumerate(np.argsort(sizes, kind="stable").tolist())}
    found = variance_limits(ml.objective, ml.optimum.theta, ml.sigma)
    for p, limits in zip(variance_parameters(layout), found, strict=True):
        first, last = (p.effects[0], p.effects[-1]) if p.effects else (None, None)
        _check(limits, expected[p.kind, place.get(p.term), first, last])
        if not reference.ref["fit"]["singular"]:
            assert not limits.note
    if not reference.ref["fit"]["singular"]:
        assert np.mean([limits.n_evaluations for limits in found]) <= ORDINARY


def test_coefficients_against_exact_limits(reference, ml):
    rows, _ = _expected(reference)
    found = coefficient_limits(ml.objective, ml.optimum.theta, ml.sigma, reference.to_coef)
    for row, limits in zip(rows, found, strict=True):
        _check(limits, row)
    if not reference.ref["fit"]["singular"]:
        # one intercept of a model with a variance near zero takes the long way
        assert np.median([limits.n_evaluations for limits in found]) <= ORDINARY


@pytest.mark.parametrize(
    "name", ["sleepstudy_corr_ml", "machines_vector_reml", "pastes_nested_reml"]
)
@pytest.mark.parametrize("with_row", [False, True])
def test_derivatives_of_the_deviance(reference_of, name, with_row):
    """Central differences of value and gradient, away from the minimum."""
    reference = reference_of(name)
    ml = reference.fit.refit(reml=False)
    row = reference.to_coef[-1] if with_row else None
    f = LinearDeviance(
        ml.objective, ml.sigma, row, 0.0 if row is None else float(row @ reference.beta)
    )
    x = np.append(ml.optimum.theta * 0.9 + 0.05, 0.1)
    x = np.append(x, 0.7) if with_row else x
    point, step = f(x), 1e-5
    ends = [(f(x + step * e), f(x - step * e)) for e in np.eye(len(x))]
    slopes = [(a.value - b.value) / (2 * step) for a, b in ends]
    bends = [(a.gradient - b.gradient) / (2 * step) for a, b in ends]
    size = np.abs(point.gradient).max()
    np.testing.assert_allclose(point.gradient, slopes, rtol=1e-5, atol=1e-5 * size)
    size = np.abs(point.hessian).max()
    np.testing.assert_allclose(point.hessian, bends, rtol=1e-5, atol=1e-7 * size)


def test_deviance_is_the_criterion_of_maximum_likelihood(reference_of):
    ml = reference_of("sleepstudy_corr_ml").fit
    f = LinearDeviance(ml.objective, ml.sigma)
    assert f(np.append(ml.optimum.theta, 0.0)).value == pytest.approx(ml.deviance, abs=1e-9)
    off = f(np.append(ml.optimum.theta, np.log(2.0))).value
    n = ml.n_obs
    assert off == pytest.approx(ml.deviance + n * (0.25 - 1 + 2 * np.log(2)), abs=1e-8)


def test_without_random_effects_the_limits_are_those_of_least_squares():
    """d - d_min = n log(1 + t^2 / (n - p)): the coefficient's limits have a closed form."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"x": rng.normal(size=30)})
    data["y"] = 1 + data["x"] + rng.normal(size=30)
    fit = MixedLinearRegressor("y ~ x", reml=False).fit(data).result_
    rows = fit.basis.to_coef
    found = coefficient_limits(fit.objective, fit.optimum.theta, fit.sigma, rows)
    error = np.sqrt(fit.vcov.diagonal() * 30 / 28)
    t = np.sqrt(28 * np.expm1(stats.chi2.ppf(0.95, 1) / 30))
    np.testing.assert_allclose([f.lower for f in found], fit.beta - t * error, rtol=1e-6)
    np.testing.assert_allclose([f.upper for f in found], fit.beta + t * error, rtol=1e-6)


def test_units_do_not_matter():
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(10), 8)
    x = rng.normal(size=80)
    y = 1 + x + rng.normal(size=10)[g] + rng.normal(size=10)[g] * x + rng.normal(size=80)
    found = []
    for unit in (1.0, 1e4):
        data = pd.DataFrame({"y": y * unit, "x": x * 100 * unit, "g": g})
        fit = MixedLinearRegressor("y ~ x + (x | g)", reml=False).fit(data).result_
        limits = variance_limits(fit.objective, fit.optimum.theta, fit.sigma, 0.9)
        scale = np.array([unit, 1.0, 1.0, unit])
        found.append(np.array([[p.lower, p.upper] for p in limits]) / scale[:, None])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
