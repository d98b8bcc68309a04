"""Sums over clusters of rows that are independent of each other, for all clusters at once.

Rows of different clusters share no level of a grouping factor, so that V is block diagonal. Every
cluster is a small dense problem: its rows [X Z Lambda e], each times the root of its weight, are
reduced by an orthogonal transformation to as many rows as they have columns. Outside of the span
of [X Z] nothing depends on y. Clusters of about the same size are put side by side, filled up
with rows and columns of zeros, which change no sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Numbers held at a time for clusters that stand side by side.
_CHUNK = 1 << 22
# Directions of a cluster in which its own fit leaves less than this share of the variance.
_NOTHING_LEFT = 1e-10


@dataclass(frozen=True)
class ClusterSums:
    """What each of J clusters adds to the estimating equations of the coefficients.

    In coordinates (r,) in which the coefficients have the covariance sigma^2 I, and in units of
    sigma but for ``scores``, which are in units of the response. X, e and Om are those of one
    cluster, Om its covariance over sigma^2; h = A Om^-1 X with the adjustment A.

    Attributes
    ----------
    scores : (J, r)
        h'e, e the residuals y - X beta.
    sums : (J, r, r)
        X'h.
    spread : (J, r, r)
        h'Om h.
    """

    scores: np.ndarray
    sums: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, observed, clusters, n_clusters, *, adjusted=False):
        """Sums over the clusters of ObservedRows, with A = I or, ``adjusted``, that of CR2.

        Parameters
        ----------
        observed : ObservedRows
        clusters : (n,) codes of the clusters, 0 to n_clusters - 1
        n_clusters : int
        adjusted : bool
            A of Bell and McCaffrey: residuals times A have covariance Om where the model is right.
        """
        rows = _Rows.of(observed, clusters, n_clusters)
        r = rows.x.shape[1]
        scores = np.zeros((n_clusters, r))
        sums, spread = np.zeros((2, n_clusters, r, r))
        for chosen, block in rows.batches():
            scores[chosen], sums[chosen], spread[chosen] = _batch(block, r, adjusted)
        return cls(scores, sums, spread)


def unshared(random, clusters):
    """The terms of ``random`` of which some level, or relatives, have rows in several clusters."""
    return [term for term in random if not _is_within(term, clusters)]


def _is_within(term, clusters):
    if term.relationship is not None:
        return False
    cluster_of = np.full(term.n_levels, -1)
    cluster_of[term.codes] = clusters
    return bool((cluster_of[term.codes] == clusters).all())


@dataclass(frozen=True)
class _Rows:
    """Rows sorted by cluster.

    x (n, r), e (n,): whitened columns of X and residuals; z: for every group the rows of Z Lambda
    (n, s) at the level; columns: for every group the first column (n,) of the level among those
    of its cluster; begins, widths (J,): first row and number of columns of Z of each cluster.
    """

    x: np.ndarray
    e: np.ndarray
    z: list
    columns: list
    begins: np.ndarray
    counts: np.ndarray
    widths: np.ndarray

    @classmethod
    def of(cls, observed, clusters, n_clusters):
        order = np.argsort(clusters, kind="stable")
        root = np.sqrt(observed.weights * observed.counts)
        counts = np.bincount(clusters, minlength=n_clusters)
        z, columns, widths = [], [], np.zeros(n_clusters, dtype=np.intp)
        fit = observed.fit
        T = fit.layout.factors(fit.optimum.theta)
        for g, own in enumerate(_by_group(observed.random, fit.layout)):
            codes, covariates = own
            first, used = _numbers_within(codes, clusters, n_clusters)
            s = covariates.shape[1]
            z.append((covariates @ T[g] * root[:, None])[order])
            columns.append((widths[clusters] + s * first)[order])
            widths = widths + s * used
        return cls(
            (observed.whitened() * root[:, None])[order],
            ((observed.y - observed.fixed_part) * root)[order],
            z,
            columns,
            np.cumsum(counts) - counts,
            counts,
            widths,
        )

    def batches(self):
        """(clusters, their rows (k, n, r + m + 1)), clusters of similar sizes together."""
        n, m = _rounded(self.counts), _rounded(self.widths)
        kinds, kind = np.unique(np.column_stack([n, m]), axis=0, return_inverse=True)
        kind = kind.ravel()
        for k, (rows, columns) in enumerate(kinds):
            chosen = np.flatnonzero(kind == k)
            width = self.x.shape[1] + columns + 1
            step = max(1, _CHUNK // int(max(rows, width) * width))
            for begin in range(0, len(chosen), step):
                part = chosen[begin : begin + step]
                yield part, self._block(part, rows, width)

    def _block(self, chosen, n_rows, width):
        """[X ZLambda e] of some clusters, rows and columns of zeros after their own."""
        counts, r = self.counts[chosen], self.x.shape[1]
        place = np.repeat(np.arange(len(chosen)), counts)
        within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(self.begins[chosen], counts) + within
        block = np.zeros((len(chosen), n_rows, width))
        block[place, within, :r] = self.x[rows]
        block[place, within, -1] = self.e[rows]
        for z, first in zip(self.z, self.columns, strict=True):
            for j, values in enumerate(z.T):
                block[place, within, r + first[rows] + j] = values[rows]
        return block


def _by_group(random, layout):
    """(codes, covariates) of every group, terms of one group side by side."""
    codes, covariates = {}, {}
    for term, at in zip(random, layout.terms, strict=True):
        codes[at.group] = term.codes
        covariates.setdefault(at.group, []).append(at.covariates(term.z))
    return [(codes[g], np.hstack(covariates[g])) for g in range(len(codes))]


def _numbers_within(codes, clusters, n_clusters):
    """Number (n,) of every row's level among those of its cluster, and how many (J,) it has."""
    levels, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    cluster_of = clusters[first]
    order = np.argsort(cluster_of, kind="stable")
    used = np.bincount(cluster_of, minlength=n_clusters)
    number = np.empty(len(levels), dtype=np.intp)
    number[order] = np.arange(len(levels)) - np.repeat(np.cumsum(used) - used, used)
    return number[inverse.ravel()], used


def _rounded(sizes):
    """Sizes rounded up to 0, 1, 2, 3, 4, 6, 8, 12, ...: few kinds, and at most half too much."""
    power = 2 ** np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.intp)
    rounded = np.where((power > 3) & (sizes <= 3 * power // 4), 3 * power // 4, power)
    return np.where(sizes == 0, 0, rounded)


def _batch(block, r, adjusted):
    """(scores, sums, spread) of the clusters of a block."""
    if block.shape[1] > block.shape[2]:
        block = np.linalg.qr(block, mode="r")
    x, z, e = block[..., :r], block[..., r:-1], block[..., -1:]
    L = np.linalg.cholesky(np.eye(block.shape[1]) + z @ _t(z)) if z.shape[2] else None
    both = np.concatenate([x, e], axis=2)
    white = both if L is None else np.linalg.solve(L, both)
    x_white, e_white = white[..., :r], white[..., r:]
    if not adjusted:
        sums = _t(x_white) @ x_white
        return (_t(x_white) @ e_white)[..., 0], sums, sums
    h = _adjusted(x_white, L)  # L'h, so that L'h L'h' = h'Om h
    return (_t(h) @ e_white)[..., 0], _t(x_white) @ h, _t(h) @ h


def _adjusted(x, L):
    """L'A L^-T x for x = L^-1 X, L L' = Om and A = Om # (Om - X X')^+, the geometric mean.

    With U = L', A = U'(U (Om - X X') U')^(+1/2) U and U (Om - X X') U' = G'G,
    G = diag(d)^(1/2) V'L'L for I - x x' = V diag(d) V'. Which directions are zero is decided on d,
    a share of variances, whatever the sizes in Om; G itself is never squared.
    """
    n = x.shape[1]
    d, V = np.linalg.eigh(np.eye(n) - x @ _t(x))
    left = d > _NOTHING_LEFT
    G = np.sqrt(np.where(left, d, 0.0))[..., None] * _t(V)
    square = None if L is None else _t(L) @ L
    G = G if L is None else G @ square
    _, size, Qt = np.linalg.svd(G)
    known = np.arange(n) < left.sum(axis=1)[:, None]
    inverse = np.where(known, 1.0 / np.where(known, size, 1.0), 0.0)
    h = _t(Qt) @ (inverse[..., None] * (Qt @ x))
    return h if L is None else square @ h


def _t(A):
    """Every matrix of a stack transposed."""
    return A.swapaxes(-1, -2)
