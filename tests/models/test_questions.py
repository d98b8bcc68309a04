"""Linear, mixed and generalised fits answer the same questions about K beta."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skmixed import GeneralizedInverseRegressor, MixedGLMRegressor, MixedLinearRegressor
from skmixed.exceptions import NotEstimableError
from skmixed.inference.hypotheses import hypothesis_test


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(size=120), "g": np.arange(120) % 12})
    data["z"] = rng.normal(size=120)
    data["both"] = data["x"] - 2 * data["z"]
    data["y"] = data["x"] + rng.normal(size=12)[data["g"]] + rng.normal(size=120)
    data["n"] = rng.poisson(np.exp(0.3 * data["x"]))
    return data


def _linear(data, fixed="x + z"):
    return GeneralizedInverseRegressor(formula=f"y ~ {fixed}").fit(data).result_


def _mixed(data, fixed="x + z", **settings):
    return MixedLinearRegressor(f"y ~ {fixed} + (1 | g)", **settings).fit(data).result_


def _generalised(data, fixed="x + z"):
    return MixedGLMRegressor(f"n ~ {fixed} + (1 | g)", family="poisson").fit(data).result_


FITS = {"linear": _linear, "mixed": _mixed, "generalised": _generalised}


@pytest.fixture(scope="module", params=FITS)
def kind(request):
    return request.param


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.RankDeficiencyWarning")
def test_columns_left_out_do_not_change_what_is_estimable(kind, data):
    full, deficient = FITS[kind](data), FITS[kind](data, "x + z + both")
    assert list(deficient.names) == ["Intercept", "x", "z", "both"]
    assert [term.name for term in deficient.terms] == ["x", "z", "both"]
    K = np.array([[0, 1, 0, 1.0], [0, 0, 1.0, -2], [0, 1, -2, 5]])  # multiples of x, z and both
    same = np.array([[0, 1, 0], [0, 0, 1], [0, 1, -2.0]])
    assert deficient.is_estimable(K).all()
    np.testing.assert_allclose(deficient.estimate(K), full.estimate(same), rtol=1e-5)
    np.testing.assert_allclose(deficient.cov(K), full.cov(same), rtol=1e-4, atol=1e-9)
    unknown = np.array([[0, 1, 0, 1.0], [0, 0, 0, 1.0]])
    assert deficient.is_estimable(unknown).tolist() == [True, False]
    assert np.isnan(deficient.estimate(unknown)).tolist() == [False, True]
    assert np.isfinite(deficient.cov(unknown)).tolist() == [[True, False], [False, False]]
    with pytest.raises(NotEstimableError, match="in the data both = "):
        hypothesis_test(deficient, unknown)


def test_wald_test_of_several_rows(kind, data):
    """(K beta)' cov^-1 (K beta) / d, whichever rows span the hypothesis."""
    fit = FITS[kind](data)
    K = np.eye(3)[1:]
    estimate, cov = fit.estimate(K), fit.cov(K)
    found = hypothesis_test(fit, K)
    assert found.statistic == pytest.approx(estimate @ np.linalg.solve(cov, estimate) / 2, rel=1e-8)
    np.testing.assert_allclose(found.standard_error, np.sqrt(np.diag(cov)), rtol=1e-10)
    again = hypothesis_test(fit, np.array([[0, 1, 1.0], [0, 1, -1], [0, 3, 0]]))
    assert again.statistic == pytest.approx(found.statistic, rel=1e-8)
    assert again.df_num == 2


def test_p_values(data):
    fit, K = _mixed(data), np.eye(3)[1:]
    t = hypothesis_test(fit, K[:1], ddf="residual")
    assert t.p_value == pytest.approx(2 * stats.t.sf(abs(t.statistic), 117))
    z = hypothesis_test(fit, K[:1], ddf="asymptotic")
    assert z.p_value == pytest.approx(2 * stats.norm.sf(abs(z.statistic)))
    both = hypothesis_test(fit, K, ddf="asymptotic")
    assert both.p_value == pytest.approx(stats.chi2.sf(2 * both.statistic, 2))
    f = hypothesis_test(fit, K, ddf="residual")
    assert f.p_value == pytest.approx(stats.f.sf(f.statistic, 2, 117))


def test_a_loaded_fit_answers_too(kind, data):
    fit, K = FITS[kind](data), np.eye(3)
    copy = pickle.loads(pickle.dumps(fit))
    np.testing.assert_allclose(copy.estimate(K), fit.estimate(K), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(copy.cov(K), fit.cov(K), rtol=1e-9, atol=1e-9)
    tests = [hypothesis_test(own, K[1:], ddf="asymptotic") for own in (fit, copy)]
    assert tests[0].statistic == pytest.approx(tests[1].statistic, rel=1e-9)


def test_one_of_several_responses(data):
    model = GeneralizedInverseRegressor().fit(data[["x", "z"]], data[["y", "n"]])
    fit, K = model.result_, np.eye(3)
    with pytest.raises(ValueError, match=r"2 responses: ask of_response\(k\) for one"):
        fit.estimate(K)
    for k in range(2):
        one = fit.of_response(k)
        np.testing.assert_allclose(one.estimate(K)[1:], model.coef_[k], rtol=1e-10)
        np.testing.assert_allclose(np.sqrt(np.diag(one.cov(K))),
                                   model.standard_errors_.iloc[:, k], rtol=1e-10)  # fmt: skip


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SeparationWarning")
def test_estimates_without_bound_have_no_statistic(data):
    """Questions about the other columns have the answers of the rows that do not separate."""
    data = data.assign(c=np.where(np.arange(120) < 10, "none", "some"))
    data.loc[:9, "n"] = 0
    fit = _generalised(data, "x + C(c, contr.treatment('some'))")
    rest = _generalised(data[10:], "x")
    K = np.eye(3)
    at = [j for j, name in enumerate(fit.names) if name in ("Intercept", "x")]
    np.testing.assert_allclose(fit.estimate(K[at]), rest.estimate(np.eye(2)), rtol=1e-5)
    np.testing.assert_allclose(fit.cov(K[at]), rest.cov(np.eye(2)), rtol=1e-4)
    [separated] = set(range(3)) - set(at)
    found = hypothesis_test(fit, K[[separated]])
    assert np.isinf(found.standard_error).all()
    assert np.isnan([found.statistic, found.p_value]).all()
    assert np.isnan(hypothesis_test(fit, K[1:]).statistic)
    assert np.isfinite(hypothesis_test(fit, K[at]).statistic)
