"""Simultaneous bands: coverage, and agreement of bands with their p-values."""

import numpy as np
import pytest
from scipy import stats

from skmixed.inference.bands import QuantileBand, normal_p_value


@pytest.mark.parametrize("n", [1, 2, 7, 60, 900])
def test_samples_leave_the_band_where_their_p_value_is_small(n):
    band, rng = QuantileBand.of(n), np.random.default_rng(n)
    lower, upper = band.limits()
    outside, below = [], []
    for _ in range(300):
        u = np.sort(rng.random(n))
        outside.append(bool(((u < lower) | (u > upper))[band.places - 1].any()))
        below.append(band.p_value(u) <= 0.05)
    assert np.mean(np.array(outside) != np.array(below)) < 0.01  # p-values come in thousandths
    assert np.mean(below) < 0.1


def test_bands_of_all_ranks_and_of_some_are_alike():
    """Above 250 order statistics some are looked at: the level they miss is little."""
    band, rng = QuantileBand.of(2000), np.random.default_rng(0)
    lower, upper = band.limits()
    u = np.sort(rng.random((600, 2000)), axis=1)
    inside = ((u >= lower) & (u <= upper)).all(axis=1).mean()
    assert 0.9 < inside < 0.98
    assert len(band.places) < 300 and band.places[[0, -1]].tolist() == [1, 2000]


@pytest.mark.parametrize("n", [12, 80, 1500])
def test_normal_samples_of_unknown_mean_and_deviation_keep_their_level(n):
    rng = np.random.default_rng(n)
    p = [normal_p_value(5 + 3 * rng.standard_normal(n), standardised=True) for _ in range(500)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09
    assert 0.3 < np.mean(np.array(p) <= 0.5) < 0.7


def test_long_tails_shifts_and_skewness_are_seen():
    rng = np.random.default_rng(1)
    assert normal_p_value(rng.standard_t(2, 200), standardised=True) < 0.01
    assert normal_p_value(rng.exponential(size=200), standardised=True) < 0.01
    assert normal_p_value(rng.standard_normal(200) + 0.5) < 0.01
    assert normal_p_value(rng.standard_normal(200) + 0.5, standardised=True) > 0.05


def test_limits_are_beta_quantiles():
    lower, upper = QuantileBand.of(9, level=0.9).limits()
    tail = stats.beta.cdf(lower, np.arange(1, 10), np.arange(9, 0, -1))
    np.testing.assert_allclose(tail, tail[0], rtol=1e-6)
    np.testing.assert_allclose(lower, 1 - upper[::-1], rtol=1e-6)
