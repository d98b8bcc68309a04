"""Measures have the moments of the numbers, in whatever batches these come."""

import numpy as np
import pytest

from skmixed.linalg.measure import Measure


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("m", [1, 2, 4, 7])
def test_moments_of_batches(m, shift):
    rng = np.random.default_rng(0)
    x, w = rng.gamma(2.0, 3.0, 5000) + shift, rng.uniform(0, 2, 5000)
    found = Measure.of(x[:0], w[:0], m)
    for rows in np.split(np.arange(5000), [3, 400, 401, 2000]):
        found = found.merged(Measure.of(x[rows], w[rows], m), m)
    assert len(found.nodes) <= m
    assert (found.low, found.high) == (x.min(), x.max())
    middle, spread = np.average(x, weights=w), np.std(x)
    for k in range(2 * m):
        own = found.weights @ ((found.nodes - middle) / spread) ** k
        size = w @ np.abs((x - middle) / spread) ** k
        assert own == pytest.approx(w @ ((x - middle) / spread) ** k, abs=1e-10 * size)


def test_few_and_equal_numbers():
    few = Measure.of(np.array([1.0, 2.0]), np.array([1.0, 3.0]), 3)
    np.testing.assert_array_equal(few.nodes, [1.0, 2.0])
    equal = Measure.of(np.full(9, 4.0), np.ones(9), 3)
    np.testing.assert_array_equal(equal.nodes, [4.0])
    two = Measure.of(np.repeat([0.0, 1.0], 50), np.ones(100), 6)
    np.testing.assert_allclose(np.sort(two.nodes), [0.0, 1.0], atol=1e-12)
    x, counts = two.rows()
    assert counts.sum() == pytest.approx(100)
    assert (x.min(), x.max()) == pytest.approx((0.0, 1.0))
