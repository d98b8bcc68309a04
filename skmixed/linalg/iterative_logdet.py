"""log |S| by Lanczos quadrature on random signs, the strongest directions taken out (Hutch++).

With M = L L' and B = L^-1 S L^-T: log |S| = log |M| + tr log B. For a start z the coefficients of
conjugate gradients on S x = L z make the Lanczos matrix t of B, and z'log(B) z = |z|^2 (log t)_11
(Golub and Meurant 2010; Ubaru, Chen and Saad 2017). The vectors Q, from two rounds of B^-1 on
Gaussian vectors, are where B is far from I at its lower end: exact quadrature there, signs on the
rest (Meyer, Musco, Musco and Woodruff 2021). Where B has a unit diagonal, z'(B - I)z has a known
mean and is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack
from scipy.stats import t as student

# Rows of S up to which its determinant is exact.
DENSE = 2500
# Signs at least, directions taken out, tolerances.
_PROBES, _DIRECTIONS = 32, 16
_TOLERANCE, _ROUGH = 1e-3, 1e-2


@dataclass(frozen=True)
class LogDet:
    """log |S| with its Monte-Carlo error; ``samples`` (k,), one from every probe, if estimated."""

    value: float
    error: float = 0.0
    samples: np.ndarray | None = None


def log_det(factor):
    """LogDet of S of an IterativeFactor."""
    core, M = factor._core, factor._M
    if core.q <= DENSE:
        return LogDet(_dense(core))
    Q = _directions(factor)
    on_Q = _quadrature(factor, Q)
    z = factor.system.signs(max(_PROBES, factor.system.n_probes or 0), stream=1)
    z = z - Q @ (Q.T @ z)
    on_rest = _quadrature(factor, z)
    samples = on_rest[0]
    total = M.log_det + on_Q[0].sum()
    if not M.is_coupled:
        samples = samples - on_rest[1]
        total -= on_Q[1].sum()
    k = len(samples)
    quantile = student.ppf(0.975, k - 1) / 1.959964
    error = quantile * float(np.std(samples, ddof=1)) / np.sqrt(k)
    return LogDet(float(total + samples.mean()), error, total + samples)


def _directions(factor):
    """Orthonormal Q (q, r)."""
    core, M = factor._core, factor._M
    rng = np.random.default_rng([factor.system.seed, 2])
    Q = rng.standard_normal((core.q, _DIRECTIONS))
    for _ in range(2):
        Q = M.upper(factor._solve(None, M.lower(Q), _ROUGH).x)
        Q = np.linalg.qr(Q)[0]
    return np.ascontiguousarray(Q)


def _quadrature(factor, z):
    """z'log(B) z and z'(B - I) z (k,) of the columns of z."""
    found = factor._solve(None, factor._M.lower(z), _TOLERANCE, lanczos=True)
    size = np.einsum("qk,qk->k", z, z)
    logs, excess = np.empty(len(size)), np.empty(len(size))
    for j, (diagonal, off) in enumerate(found.tridiagonals):
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
        logs[j] = np.square(vectors[0]) @ np.log(values)
        excess[j] = diagonal[0] - 1.0
    return size * logs, size * excess


def _dense(core):
    """Exact log |S|."""
    if not core.q:
        return 0.0
    L, info = lapack.dpotrf(core.dense(), lower=1, overwrite_a=1)
    if info:
        return np.nan
    return 2.0 * float(np.sum(np.log(L.diagonal())))
