"""Free coordinates of variance parameters: there and back, and the density of correlations."""

import numpy as np
import pytest

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_penicillin, load_sleepstudy
from skmixed.exceptions import SingularFitWarning
from skmixed.models.charts import Chart
from skmixed.models.components import variance_parameters
from skmixed.models.layout import CovarianceLayout


def fitted(formula, data=None):
    if data is None:
        data = load_sleepstudy().frame.assign(d=lambda t: t["Days"] % 4)
    return MixedLinearRegressor(formula).fit(data).result_


@pytest.mark.parametrize(
    "formula",
    [
        "Reaction ~ Days + (Days | Subject)",
        "Reaction ~ Days + (Days || Subject)",
        "Reaction ~ Days + (Days + I(Days**2) | Subject)",
    ],
)
def test_start_is_the_fit_where_that_is_inside(formula):
    fit = fitted(formula)
    chart = Chart.of(fit.layout, fit.unit)
    v = chart.start(fit.optimum.theta, fit.sigma)
    x = np.append(fit.optimum.theta, np.log(fit.sigma))
    values = [c.function(x)[0] for c in variance_parameters(fit.layout)]
    np.testing.assert_allclose(chart.values(v[None])[0], values, rtol=1e-6)
    T = fit.layout.factors(fit.optimum.theta)
    for own, found in zip(T, chart.factors(v[None]), strict=True):
        np.testing.assert_allclose(found[0] @ found[0].T, own @ own.T, atol=1e-8)
    assert chart.sigma(v[None])[0] * fit.unit == pytest.approx(fit.sigma)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.parametrize("kind", ["ar1", "hetar1", "cs", "homcs", "toep", "diag", "homdiag"])
def test_values_are_those_of_the_covariance_that_the_chart_makes(kind):
    fit = fitted(f"Reaction ~ Days + {kind}(0 + C(d) | Subject)")
    chart = Chart.of(fit.layout, fit.unit)
    V = np.random.default_rng(0).normal(0.3, 0.8, (6, chart.size))
    values, T = chart.values(V), chart.factors(V)[0]
    M = fit.layout.terms[0].M
    for found, own, log_sigma in zip(values, T, V[:, -1], strict=True):
        S = np.exp(2 * log_sigma) * M @ own @ own.T @ M.T
        sd = np.sqrt(np.diag(S))
        R = S / np.outer(sd, sd)
        n_sd = chart.terms[0].n_sd
        np.testing.assert_allclose(found[:n_sd], sd[:n_sd], rtol=1e-8)
        if kind == "toep":
            np.testing.assert_allclose(found[n_sd:-1], R[0, 1:], atol=1e-8)
        elif found.size > n_sd + 1:
            assert found[n_sd] == pytest.approx(R[0, 1], abs=1e-8)


def test_a_singular_fit_starts_off_the_boundary():
    with pytest.warns(SingularFitWarning):
        fit = fitted("Reaction ~ Days + ar1(0 + C(d) | Subject)")
    chart = Chart.of(fit.layout, fit.unit)
    assert np.isfinite(chart.start(fit.optimum.theta, fit.sigma)).all()
    crossed = fitted("diameter ~ 1 + (1 | plate) + (1 | sample)", load_penicillin().frame)
    chart = Chart.of(crossed.layout, crossed.unit)
    assert np.isfinite(chart.start(0 * crossed.optimum.theta, crossed.sigma)).all()


@pytest.mark.parametrize("s", [2, 3, 4])
@pytest.mark.parametrize("eta", [0.7, 1.0, 3.0])
def test_correlations_have_the_density_of_lkj(s, eta):
    """(eta - 1) log |R| plus the Jacobian of z -> R, by differences, up to a constant."""
    layout = CovarianceLayout.build([_Term(s)])
    term = Chart.of(layout, 1.0).terms[0]
    i, j = np.tril_indices(s, -1)

    def correlations(v):
        L = term._root(v[None])[0]
        return (L @ L.T)[i, j]

    rest = []
    for v in np.random.default_rng(5).normal(0, 0.7, (6, s + s * (s - 1) // 2)):
        steps = 1e-6 * np.eye(len(v))[term.cors]
        slopes = np.array([correlations(v + e) - correlations(v - e) for e in steps]) / 2e-6
        L = term._root(v[None])[0]
        log_density = (eta - 1) * np.linalg.slogdet(L @ L.T)[1] + np.linalg.slogdet(slopes)[1]
        rest.append(term.log_cor(v[None], eta)[0] - log_density)
    np.testing.assert_allclose(rest, rest[0], atol=1e-6)


class _Term:
    """A random-effects term of s covariates, no more than a layout reads."""

    group, correlated, structure, relationship, places = "g", True, "us", None, None
    n_levels = 5

    def __init__(self, s):
        rng = np.random.default_rng(0)
        self.codes = np.arange(40) % 5
        self.z = np.column_stack([np.ones(40), rng.standard_normal((40, s - 1))])
        self.names = tuple(f"x{k}" for k in range(s))


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_a_range_has_no_chart():
    fit = fitted("Reaction ~ Days + expo(Days | Subject)")
    with pytest.raises(ValueError, match=r"expo.* has a range"):
        Chart.of(fit.layout, fit.unit)
