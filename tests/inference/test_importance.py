"""Importance sampling of densities that are known, and Pareto-smoothed weights."""

import numpy as np
import pytest
from scipy.stats import genpareto, multivariate_normal, multivariate_t

from skmixed.inference import importance
from skmixed.inference.importance import (
    Proposal,
    Sample,
    fit_pareto,
    importance_sample,
    pareto_smoothed,
    reliable_k,
)


def sampled(density, d, n=4000, seed=0, told=None):
    told = {} if told is None else told
    return importance_sample(
        lambda V: (density(V), None), np.zeros(d), np.eye(d), n,
        rounds=3, n_round=1000, rng=np.random.default_rng(seed), tell=told.__setitem__,
    )  # fmt: skip


def error(sample, x):
    """Monte-Carlo standard error of a weighted mean."""
    return np.sqrt(np.square(sample.weights[:, None] * (x - sample.weights @ x)).sum(axis=0))


def test_moments_of_a_normal_far_from_the_first_proposal():
    A = np.array([[1.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, -1.0, 3.0]])
    mean, covariance = np.array([3.0, -2.0, 1.0]), A @ A.T
    sample = sampled(multivariate_normal(mean, covariance).logpdf, 3)
    assert sample.is_reliable and sample.ess > 2000
    assert sample.weights.sum() == pytest.approx(1.0)
    x = sample.points
    assert (np.abs(sample.weights @ x - mean) < 5 * error(sample, x)).all()
    squares = (x - mean) ** 2
    gap = sample.weights @ squares - np.diag(covariance)
    assert (np.abs(gap) < 5 * error(sample, squares)).all()


def test_proposals_integrate_to_one():
    rng = np.random.default_rng(1)
    roots = np.linalg.cholesky(np.stack([np.eye(2), [[2.0, 0.9], [0.9, 1.0]]]))
    proposal = Proposal(np.array([0.3, 0.7]), np.array([[0.0, 0.0], [4.0, -3.0]]), roots)
    one = 0.3 * multivariate_t([0, 0], np.eye(2), df=4).pdf([[1.0, 2.0]])
    two = 0.7 * multivariate_t([4, -3], [[2, 0.9], [0.9, 1]], df=4).pdf([[1.0, 2.0]])
    assert np.exp(proposal.log(np.array([[1.0, 2.0]])))[0] == pytest.approx(one + two)
    V = proposal.draw(20000, rng)
    share = (np.linalg.norm(V, axis=1) < np.linalg.norm(V - [4, -3], axis=1)).mean()
    assert 0.25 < share < 0.4


def test_mixtures_are_tried_and_the_best_is_kept(monkeypatch):
    monkeypatch.setattr(importance, "RELIABLE_K", -5.0)
    told = {}
    density = multivariate_t(np.zeros(2), np.eye(2), df=2).logpdf
    sample = sampled(density, 2, told=told)
    assert list(told)[-3:] == ["draws", "mixture of 2", "mixture of 4"]
    assert sample.k == min(told[name].k for name in list(told)[-3:])


def test_em_finds_two_clusters():
    rng = np.random.default_rng(0)
    V = rng.standard_normal((2000, 2)) + np.repeat([[0.0, 0.0], [9.0, 4.0]], 1000, axis=0)
    weights = np.repeat([3.0, 1.0], 1000) / 4000
    proposal = Proposal(np.full(2, 0.5), V[[0, 1500]], np.stack([3.0 * np.eye(2)] * 2))
    for _ in range(30):
        proposal = proposal.refitted(V, weights)
    np.testing.assert_allclose(proposal.weights, [0.75, 0.25], atol=0.01)
    np.testing.assert_allclose(proposal.means, [[0, 0], [9, 4]], atol=0.15)


def test_tails_beyond_those_of_the_proposal_are_told():
    heavy = multivariate_t(np.zeros(2), np.diag([1.0, 1.0]), df=0.05)
    sample = sampled(heavy.logpdf, 2)
    assert not sample.is_reliable
    assert sample.k > 0.7


def test_the_coordinate_with_heavy_weights_is_named():
    points = np.random.default_rng(0).standard_normal((1000, 3))
    points[7] = [0.1, 9.0, -0.2]
    weights = np.ones(1000)
    weights[7] = 60.0
    sample = Sample(points, weights / weights.sum(), 1.2, None)
    assert sample.heavy()[0] == 1


def test_resampling_draws_points_as_often_as_their_weights_say():
    weights = np.array([0.5, 0.125, 0.0, 0.375])
    sample = Sample(np.zeros((4, 1)), weights, 0.0, None)
    counts = np.bincount(sample.resampled(800, np.random.default_rng(0)), minlength=4)
    assert (np.abs(counts - 800 * weights) <= 1).all() and counts[2] == 0


@pytest.mark.parametrize("k", [-0.4, 0.2, 0.9])
def test_shape_of_a_pareto_sample(k):
    x = np.sort(genpareto(k, scale=3.0).rvs(20000, random_state=0))
    scale, shape = fit_pareto(x)
    assert shape == pytest.approx(k, abs=0.06)
    assert scale == pytest.approx(3.0, rel=0.06)


def test_smoothed_weights_keep_the_bulk_and_are_not_above_the_largest():
    raw = 2.0 * np.random.default_rng(3).standard_normal(1000)
    smooth, k = pareto_smoothed(raw)
    order = np.argsort(raw)
    np.testing.assert_allclose(np.diff(smooth[order[:900]]), np.diff(raw[order[:900]]))
    assert np.exp(smooth).sum() == pytest.approx(1.0)
    assert (np.diff(smooth[order]) >= -1e-12).all()
    assert 0.3 < k < 1.1


def test_equal_weights_and_too_few():
    smooth, k = pareto_smoothed(np.full(500, -3.0))
    np.testing.assert_allclose(smooth, -np.log(500))
    assert k == -np.inf
    assert pareto_smoothed(np.array([0.0, 1.0, 2.0]))[1] == np.inf
    smooth, _ = pareto_smoothed(np.append(np.zeros(400), [-np.inf] * 50))
    assert np.exp(smooth).sum() == pytest.approx(1.0)


def test_few_points_need_a_smaller_shape():
    assert reliable_k(100) == pytest.approx(0.5)
    assert reliable_k(10**6) == 0.7


def test_beside_arviz():
    array = pytest.importorskip("arviz_stats.base.array")
    rng = np.random.default_rng(0)
    for n, spread in ((100, 0.5), (100, 2.0), (1000, 1.0), (4000, 2.0)):
        raw = spread * rng.standard_normal(n)
        smooth, k = pareto_smoothed(raw)
        theirs, their_k = array.array_stats.psislw(-raw)
        assert k == pytest.approx(their_k, abs=0.03)  # tails of one point more or less
        np.testing.assert_allclose(np.exp(smooth), np.exp(theirs), atol=2e-4)
