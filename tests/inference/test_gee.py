"""The marginal model is statsmodels' own on single outcomes; attenuation is that of an integral."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm

from skmixed.families import make_family
from skmixed.inference.gee import attenuated, attenuation, marginal_fit


def _rows(n=120, n_clusters=15):
    rng = np.random.default_rng(0)
    codes = np.arange(n) % n_clusters
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    eta = X @ [0.2, 0.5] + rng.normal(size=n_clusters)[codes]
    return rng, codes, X, expit(eta)


def test_trials_are_single_outcomes():
    rng, codes, X, p = _rows()
    trials, counts = rng.integers(0, 4, len(p)).astype(float), rng.integers(0, 3, len(p)) * 1.0
    y = rng.binomial(trials.astype(int), p).astype(float)
    family = make_family("binomial")
    found = marginal_fit(X, y, trials, counts, None, codes, family, 1.0, rng)
    single = [
        (value, *X[i], codes[i])
        for i in range(len(p))
        for _ in range(int(counts[i]))
        for value in [1.0] * int(y[i]) + [0.0] * int(trials[i] - y[i])
    ]
    frame = pd.DataFrame(single, columns=["y", "a", "b", "g"]).sort_values("g", kind="stable")
    other = sm.GEE(
        frame["y"], frame[["a", "b"]], groups=frame["g"], family=sm.families.Binomial(),
        cov_struct=sm.cov_struct.Exchangeable(),
    ).fit()  # fmt: skip
    assert_allclose(found.coef, other.params, rtol=1e-6)
    assert_allclose(found.std_error, other.bse, rtol=1e-6)
    assert 0 < found.correlation < 1 and found.n_sampled == 15


def test_offsets_and_counts():
    rng, codes, X, _ = _rows()
    offset = rng.uniform(0, 1, len(X))
    y = rng.poisson(np.exp(X @ [0.2, 0.5] + offset)).astype(float)
    one = np.ones(len(X))
    found = marginal_fit(X, y, one, one, offset, codes, make_family("poisson"), 1.0, rng)
    assert_allclose(found.coef, [0.2, 0.5], atol=4 * found.std_error.max())
    with pytest.raises(ValueError, match="no prior weights"):
        marginal_fit(X, y, 2 * one, one, offset, codes, make_family("poisson"), 1.0, rng)
    with pytest.raises(ValueError, match="not whole numbers"):
        marginal_fit(X, y, one, one / 2, offset, codes, make_family("poisson"), 1.0, rng)


def test_separated_outcomes_have_no_marginal_fit():
    rng, codes, X, _ = _rows()
    y, one = (X[:, 1] > 0) * 1.0, np.ones(len(X))
    with pytest.raises(Exception, match=r"not solved|[Ss]eparation|ingular"):
        marginal_fit(X, y, one, one, None, codes, make_family("binomial"), 1.0, rng)


@pytest.mark.parametrize(("link", "tolerance"), [("logit", 0.07), ("probit", 1e-8)])
@pytest.mark.parametrize("variance", [0.3, 1.0, 3.0])
def test_attenuation_is_that_of_the_average(link, tolerance, variance):
    """The slope at which averaged probabilities rise through a half."""
    mean = expit if link == "logit" else norm.cdf
    back = logit if link == "logit" else norm.ppf
    z = np.linspace(-9, 9, 4001)
    density = norm.pdf(z) * (z[1] - z[0])

    def averaged(eta):
        return back(density @ mean(eta + np.sqrt(variance) * z))

    factor, shift = attenuation(link, variance)
    assert shift == 0
    eta = brentq(lambda e: averaged(e) - 0.5, 0, 5)
    assert_allclose(0.5 / eta, factor, rtol=tolerance)


def test_links_without_a_formula():
    assert attenuated(pd.Series([1.0]), "cloglog", 1.0, 0) is None
    found = attenuated(pd.Series([1.0, 2.0]), "log", 0.5, 0)
    assert found.tolist() == [1.25, 2.0]
