"""The linear parameters gamma of a marginal covariance V = sum_r gamma_r G_r, and forms in G_r.

gamma holds the entries of the covariance matrix of every term by column of its lower triangle (of
smooth terms the diagonal), and last the residual variance, all in units of the latter.
"""

from __future__ import annotations

import numpy as np

from skmixed.linalg.system import Direction, Effects

# Numbers held at a time in right-hand sides.
_CHUNK = 1 << 23
# Entries of structured covariances from which the forms in them are too many.
_MOST = 150


def linear_parameters(layout):
    """Directions of the covariance entries of all terms, by column of the lower triangle."""
    directions = []
    for term in layout.terms:
        first, end = term.columns.start, term.columns.start + term.size
        for j in range(first, end):
            last = j + 1 if term.is_smooth else end
            directions += [Direction(term.group, i, j) for i in range(j, last)]
    return directions


def has_many_parameters(layout):
    """Whether structured terms have too many entries, where these parameters are no way to go."""
    return layout.is_structured and len(linear_parameters(layout)) > _MOST


def derivatives_of_gamma(layout, directions, theta):
    """gamma (K,) without the residual variance, its first and its second derivatives by theta."""
    K, k = len(directions), layout.n_theta
    gamma, J, bends = np.empty(K), np.zeros((K, k)), np.zeros((K, k, k))
    groups = [layout.covariance(theta, g) for g in range(len(layout.groups))]
    for r, d in enumerate(directions):
        at, covariance, tangents, curvature = groups[d.group]
        gamma[r], J[r, at] = covariance[d.i, d.j], tangents[:, d.i, d.j]
        G = np.zeros(covariance.shape)
        G[d.i, d.j] += 0.5
        G[d.j, d.i] += 0.5
        bends[r][at[:, None], at] = curvature(G)
    return gamma, J, bends


def completed(whole, one, two, gamma):
    """First- and second-order forms with those of the residual variance: sum gamma_r G_r = V0."""
    K, shape, size = len(gamma), np.shape(whole), np.size(whole)
    full, first = np.empty((K + 1, K + 1, *shape)), np.empty((K + 1, *shape))
    rest = one - (gamma @ two.reshape(K, K, size)).reshape(one.shape)
    first[:K], full[:K, :K], full[:K, K] = one, two, rest
    full[K, :K] = np.swapaxes(rest, -1, -2) if shape else rest
    first[K] = whole - (gamma @ one.reshape(K, size)).reshape(shape)
    full[K, K] = first[K] - (gamma @ rest.reshape(K, size)).reshape(shape)
    return first, full


def first_traces(factor, directions, n_obs, gamma):
    """tr(V0^-1 G_r) (K + 1,) from the information on the covariances."""
    G = factor.information(fixed=0.0, response=0.0)
    own = [G[d.group][d.i, d.j] + (G[d.group][d.j, d.i] if d.i != d.j else 0.0) for d in directions]
    return np.append(own, n_obs - gamma @ own)


def forms_in(inverse, directions, scale):
    """Phi, and [X e]' V0^-1 (G V0^-1)^k [X e] for k = 0, 1, 2, e in units of sigma."""
    root = inverse.fixed_root
    p = len(root) - 1
    half = np.linalg.inv(root[:p, :p])
    whole = np.zeros((p + 1, p + 1))
    whole[:p, :p], whole[p, p] = inverse.fixed[:p, :p], (root[p, p] / scale) ** 2
    seen = inverse.effects_fixed
    M = Effects([_with_scores(m, inverse.coefficients, scale) for m in seen.random], seen.fixed)
    return (
        half.T @ half,
        whole,
        _forms(directions, M, M, p + 1, p + 1),
        _second_forms(inverse, directions, M, p + 1),
    )


def _with_scores(m, beta, scale):
    """Z' V0^-1 [X e] (s, p + 1, l) from Z' V0^-1 [X y]."""
    result = m.copy()
    result[:, -1] -= np.einsum("spl,p->sl", m[:, :-1], beta)
    result[:, -1] /= scale
    return result


def _forms(directions, left, right, v, w):
    """left' D_r right (K, v, w), for effects (s, v, l) and (s, w, l) by group."""
    tables = [_table(a, b) for a, b in zip(left.random, right.random, strict=True)]
    result = np.empty((len(directions), v, w))
    for r, d in enumerate(directions):
        result[r] = tables[d.group][d.i, :, d.j]
        if d.i != d.j:
            result[r] += tables[d.group][d.j, :, d.i]
    return result


def _table(a, b):
    """Sum over levels of a[i, v] b[j, w]: (s, v, s, w)."""
    flat = a.reshape(-1, a.shape[-1]) @ b.reshape(-1, b.shape[-1]).T
    return flat.reshape(*a.shape[:2], *b.shape[:2])


def _second_forms(inverse, directions, M, v):
    """M' D_r H D_s M (K, K, v, v), some of the right-hand sides at a time."""
    K = len(directions)
    two = np.empty((K, K, v, v))
    step = max(1, _CHUNK // max(1, v * sum(m.shape[0] * m.shape[2] for m in M.random)))
    for lo in range(0, K, step):
        some = directions[lo : lo + step]
        seen = inverse.times(_applied(some, M, v))
        moved = _forms(directions, M, seen, v, len(some) * v)
        two[:, lo : lo + step] = moved.reshape(K, v, len(some), v).transpose(0, 2, 1, 3)
    return two


def _applied(directions, M, v):
    """D_r M of several parameters beside each other: Effects of K v columns."""
    result = [np.zeros((len(m), len(directions) * v, m.shape[2])) for m in M.random]
    for r, d in enumerate(directions):
        columns = slice(r * v, (r + 1) * v)
        result[d.group][d.i, columns] = M[d.group][d.j]
        result[d.group][d.j, columns] = M[d.group][d.i]
    return Effects(result, np.zeros((len(M.fixed), len(directions) * v)))
