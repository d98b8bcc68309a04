"""Adaptive importance sampling with multivariate t proposals, and Pareto-smoothed weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp

# Degrees of freedom of proposals: tails heavier than those of most posteriors.
_DF = 4.0
# Points by dimension that a covariance is made of at least; weights are flattened to get there.
_POINTS_BY_DIMENSION = 8
# Shape from which an importance sample is not to be relied on (Vehtari et al. 2024).
RELIABLE_K = 0.7
# Further rounds, each so much larger, until points are worth this share of their number.
_FURTHER, _LARGER, _ENOUGH = 3, 2, 0.1
# Components of the mixtures that are tried where one t is not enough, and steps to fit one.
_COMPONENTS, _STEPS = (2, 4), 25
# Share of their pooled covariance in that of every component.
_POOLED = 0.1


@dataclass(frozen=True)
class Proposal:
    """A mixture of multivariate t: weights (c,), means (c, d), lower roots of scales (c, d, d)."""

    weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    @classmethod
    def single(cls, mean, covariance):
        return cls(np.ones(1), mean[None], _root(covariance)[None])

    @property
    def dimension(self):
        return self.means.shape[1]

    def draw(self, n, rng):
        """Points (n, d), each component its share of them."""
        which = np.searchsorted(np.cumsum(self.weights)[:-1], _stratified(n, rng), side="right")
        normal = rng.standard_normal((n, self.dimension))
        stretch = np.sqrt(_DF / rng.chisquare(_DF, n))
        return self.means[which] + stretch[:, None] * np.einsum(
            "nij,nj->ni", self.roots[which], normal
        )

    def _components(self, V):
        """Log density (n, c) of every component times its weight, and squared distances (n, c)."""
        d, logs, squares = self.dimension, [], []
        const = gammaln((_DF + d) / 2) - gammaln(_DF / 2) - d / 2 * np.log(_DF * np.pi)
        for weight, mean, root in zip(self.weights, self.means, self.roots, strict=True):
            square = np.square(np.linalg.solve(root, (V - mean).T)).sum(axis=0)
            log_det = np.log(np.diag(root)).sum()
            logs.append(np.log(weight) + const - log_det - (_DF + d) / 2 * np.log1p(square / _DF))
            squares.append(square)
        return np.stack(logs, axis=1), np.stack(squares, axis=1)

    def log(self, V):
        """Log density (n,)."""
        return logsumexp(self._components(V)[0], axis=1)

    def refitted(self, V, weights):
        """One step of EM for weighted points.

        Peel and McLachlan (2000), Statistics and Computing 10, 339-348.
        """
        logs, squares = self._components(V)
        share = np.exp(logs - logsumexp(logs, axis=1, keepdims=True)) * weights[:, None]
        inner = (_DF + self.dimension) / (_DF + squares)
        pooled = _moments(V, weights)[1]
        found = []
        for s, u in zip(share.T, inner.T, strict=True):
            mean = (s * u) @ V / max((s * u).sum(), 1e-300)
            rest = V - mean
            scale = (rest.T * (s * u)) @ rest / max(s.sum(), 1e-300)
            found.append((s.sum(), mean, _root((1 - _POOLED) * scale + _POOLED * pooled)))
        total, means, roots = (np.array(x) for x in zip(*found, strict=True))
        total = np.maximum(total / total.sum(), 0.01)
        return Proposal(total / total.sum(), means, roots)


@dataclass(frozen=True)
class Sample:
    """Weighted points.

    Attributes
    ----------
    points : (n, d)
    weights : (n,)
        Pareto-smoothed, of sum 1.
    k : float
        Shape of the tail of the weights.
    found : object
        What the density told beside its values.
    """

    points: np.ndarray
    weights: np.ndarray
    k: float
    found: object

    @property
    def ess(self):
        """Effective sample size 1 / sum of squared weights."""
        return float(1.0 / np.square(self.weights).sum())

    @property
    def is_reliable(self):
        return self.k <= reliable_k(len(self.weights))

    def resampled(self, n, rng):
        """Indices (n,) of points drawn by stratified resampling, in order."""
        total = np.cumsum(self.weights)
        return np.searchsorted(total[:-1] / total[-1], _stratified(n, rng), side="right")

    def heavy(self):
        """Places in v in which the points of the largest weights lie apart, the furthest first."""
        mean, covariance = _moments(self.points, self.weights)
        top = np.argsort(-self.weights)[: max(1, len(self.weights) // 200)]
        apart = np.abs(self.points[top] - mean) / np.sqrt(np.diag(covariance))
        apart = np.average(apart, axis=0, weights=self.weights[top])
        order = np.argsort(-apart)
        return [int(j) for j in order if apart[j] > max(1.5, 0.5 * apart.max())] or [int(order[0])]


def importance_sample(density, mode, covariance, n, *, rounds, n_round, rng, tell):
    """Sample of n points of a density.

    Parameters
    ----------
    density : callable
        V (m, d) -> log density (m,), -inf where it is zero, and anything that has ``joined``.
    mode, covariance : (d,), (d, d)
        Of the density, for the first proposal.
    n : int
    rounds, n_round : int
        How often a proposal is refitted, and to how many points; more where these are worth few.
    rng : Generator
    tell : callable
        Called with the round's name and a Sample after every round.

    Returns
    -------
    Sample
    """
    proposal = Proposal.single(mode, covariance)
    worth = 1.0
    for j in range(rounds + _FURTHER):
        if j >= rounds and worth > _ENOUGH:
            break
        n_round = n_round if j < rounds else min(n, _LARGER * n_round)
        sample = _sampled(density, proposal, n_round, rng)
        worth = sample.ess / n_round
        tell(f"round {j + 1}", sample)
        proposal = Proposal.single(*_moments(sample.points, _flattened(sample)))
    best = _sampled(density, proposal, n, rng)
    tell("draws", best)
    for count in _COMPONENTS:
        if best.is_reliable:
            break
        sample = _sampled(density, _mixture(best, count, rng), n, rng)
        tell(f"mixture of {count}", sample)
        best = min(best, sample, key=lambda s: s.k)
    return best


def _sampled(density, proposal, n, rng):
    V = proposal.draw(n, rng)
    values, found = density(V)
    log_weights, k = pareto_smoothed(values - proposal.log(V))
    return Sample(V, np.exp(log_weights), k, found)


def _mixture(sample, count, rng):
    """A mixture fitted to weighted points, from centres among them."""
    weights = _flattened(sample)
    _, covariance = _moments(sample.points, weights)
    centres = sample.points[rng.choice(len(weights), count, replace=False, p=weights)]
    roots = np.repeat(_root(covariance)[None], count, axis=0)
    proposal = Proposal(np.full(count, 1.0 / count), centres, roots)
    for _ in range(_STEPS):
        proposal = proposal.refitted(sample.points, weights)
    return proposal


def _flattened(sample):
    """Weights raised to a power of at most 1 that leaves enough of them."""
    w = sample.weights
    wanted = min(_POINTS_BY_DIMENSION * sample.points.shape[1], len(w) / 2)
    with np.errstate(divide="ignore"):
        log = np.log(w)
    for power in np.linspace(1.0, 0.0, 21):
        flat = np.where(w > 0, np.exp(power * (log - log.max())), 0.0)
        flat /= flat.sum()
        if 1.0 / np.square(flat).sum() >= wanted:
            break
    return flat


def _moments(V, weights):
    mean = weights @ V
    rest = V - mean
    return mean, (rest.T * weights) @ rest


def _root(covariance):
    """Lower root of a covariance, with a floor for those of too few points."""
    floor = 1e-8 * np.maximum(np.diag(covariance), 1e-12)
    return np.linalg.cholesky(covariance + np.diag(floor))


def _stratified(n, rng):
    """One uniform number in each of n strata of (0, 1)."""
    return (np.arange(n) + rng.random(n)) / n


def reliable_k(n):
    """Shape up to which n weighted points can be relied on (Vehtari et al. 2024)."""
    return min(1.0 - 1.0 / np.log10(max(n, 11)), RELIABLE_K)


def pareto_smoothed(log_weights):
    """Log weights (n,) whose largest are the quantiles of a Pareto fit, of sum 1; its shape k.

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Journal of Machine Learning Research 25(72).
    k is -inf for equal weights and inf for too few points.
    """
    n = len(log_weights)
    lw = log_weights - np.max(log_weights)
    order, m = np.argsort(lw, kind="stable"), int(np.ceil(min(0.2 * n, 3.0 * np.sqrt(n))))
    cut = lw[order[-m - 1]] if m < n else -np.inf
    tail = order[-m:][lw[order[-m:]] > cut]
    if len(tail) < 5:
        k = -np.inf if n > 25 and lw[order[-1]] == cut else np.inf
        return lw - logsumexp(lw), k
    low = np.exp(cut)
    sigma, k = fit_pareto(np.exp(lw[tail]) - low)
    p = (np.arange(len(tail)) + 0.5) / len(tail)
    spread = -np.log1p(-p) if k == 0 else np.expm1(-k * np.log1p(-p)) / k
    smooth = lw.copy()
    smooth[tail] = np.minimum(np.log(low + sigma * spread), 0.0)
    return smooth - logsumexp(smooth), float(k)


def fit_pareto(x):
    """(scale, shape) of a generalised Pareto distribution for sorted positive x (n,).

    Zhang and Stephens (2009), Technometrics 51, 316-325, with the weak prior of shape 0.5 of
    Vehtari et al. (2024) that is worth ten observations.
    """
    n, points = len(x), 30 + int(np.sqrt(len(x)))
    quartile = x[int(n / 4 + 0.5) - 1]
    b = 1.0 / x[-1] + (1.0 - np.sqrt(points / (np.arange(points) + 0.5))) / (3.0 * quartile)
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    profile = n * (np.log(-b / k) - k - 1.0)
    weights = np.exp(profile - logsumexp(profile))
    b = b @ weights
    k = np.log1p(-b * x).mean()
    return float(-k / b), float((k * n + 5.0) / (n + 10.0))
