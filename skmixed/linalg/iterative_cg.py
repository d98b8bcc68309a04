"""Preconditioned conjugate gradients, many right-hand sides in lockstep."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from skmixed._deadline import check_time

# Iterations after which a system counts as one that does not converge.
MAX_ITERATIONS = 500
# Square of a residual, relative to that of zero, that is rounding.
_ROUNDING = 1e-26
# Columns worked on at a time: a block of them stays in cache.
_WIDTH = 32


@dataclass
class Solved:
    """Solutions x (q, k), iterations of the slowest column, whether all columns converged.

    ``tridiagonals``: for every column the diagonal and off-diagonal of its Lanczos matrix, if asked
    for.
    """

    x: np.ndarray
    n_iter: int
    converged: bool
    tridiagonals: list = field(default_factory=list)


def solve(times, precondition, F, tolerance, start=None, *, lanczos=False, from_start=False):
    """S X = F (q, k), each column to its tolerance in the norm of M^-1, relative to F.

    Parameters
    ----------
    times, precondition : callable
        S v and M^-1 r for blocks of columns.
    F : (q, k)
    tolerance : float or (k,)
    start : (q, k), optional
        Solutions of a system nearby.
    from_start : bool
        The tolerance is relative to what the start leaves.
    lanczos : bool
        Keep the coefficients that make Lanczos matrices of M^-1/2 S M^-1/2; not with a start.

    Raises
    ------
    FloatingPointError
        Where the numbers are no longer finite, or S turns out not to be positive definite.
    """
    q, k = F.shape
    tolerance = np.broadcast_to(np.asarray(tolerance, dtype=float), (k,))
    if k <= _WIDTH:
        return _lockstep(times, precondition, F, tolerance, start, lanczos, from_start)
    x, found = np.empty((q, k)), []
    for lo in range(0, k, _WIDTH):
        at = slice(lo, lo + _WIDTH)
        own = None if start is None else np.ascontiguousarray(start[:, at])
        part = np.ascontiguousarray(F[:, at])
        slice_of = part, tolerance[at], own, lanczos, from_start
        found.append(_lockstep(times, precondition, *slice_of))
        x[:, at] = found[-1].x
    return Solved(
        x,
        max(one.n_iter for one in found),
        all(one.converged for one in found),
        [t for one in found for t in one.tridiagonals],
    )


def _lockstep(times, precondition, F, tolerance, start, lanczos, from_start=False):
    q, k = F.shape
    if not q or not k:
        return Solved(np.zeros((q, k)), 0, True, [([], [])] * k)
    x, r, z = np.zeros((q, k)), F.copy(), precondition(F)
    rho = _dots(F, z)
    target = np.square(tolerance) * rho
    if start is not None:
        x, r, z, rho = _started(times, precondition, F, start, z, rho, from_start)
    p = z.copy()
    if from_start:
        target = np.maximum(np.square(tolerance) * rho, _ROUNDING * target / np.square(tolerance))
    alphas, betas = [[] for _ in range(k)], [[] for _ in range(k)]
    active = np.arange(k)
    for n_iter in range(MAX_ITERATIONS + 1):
        if not np.isfinite(rho).all():
            raise FloatingPointError("conjugate gradients met numbers that are not finite")
        going = rho > target[active]
        if not going.all():
            active = active[going]
            if not len(active):
                break
            r, p, rho = (np.ascontiguousarray(v[..., going]) for v in (r, p, rho))
        if n_iter == MAX_ITERATIONS:
            break
        check_time()
        Sp = times(p)
        curvature = _dots(p, Sp)
        if not (curvature > 0).all():
            raise FloatingPointError("conjugate gradients met a matrix that is not definite")
        alpha = rho / curvature
        x[:, active] += alpha * p
        r -= alpha * Sp
        z = precondition(r)
        before, rho = rho, _dots(r, z)
        beta = rho / before
        p *= beta
        p += z
        if lanczos:
            for j, a, b in zip(active, alpha, beta, strict=True):
                alphas[j].append(a)
                betas[j].append(b)
    tridiagonals = [_tridiagonal(a, b) for a, b in zip(alphas, betas, strict=True)]
    return Solved(x, n_iter, not len(active), tridiagonals if lanczos else [])


def _started(times, precondition, F, start, z, rho, always):
    """x, residual r, M^-1 r and r'M^-1 r at the start, or at zero for columns nearer to that.

    Of a column F that has vanished a start would have to be worn off to below its own rounding.
    """
    x, r = start.copy(), F - times(start)
    z_start = precondition(r)
    rho_start = _dots(r, z_start)
    if not always and (worse := ~(rho_start <= rho)).any():
        x[:, worse], r[:, worse], z_start[:, worse] = 0.0, F[:, worse], z[:, worse]
        rho_start[worse] = rho[worse]
    return x, r, z_start, rho_start


def _dots(a, b):
    return np.einsum("qk,qk->k", a, b)


def _tridiagonal(alpha, beta):
    """Diagonal and off-diagonal of the Lanczos matrix from the coefficients of a column."""
    alpha, beta = np.array(alpha), np.array(beta)
    if not len(alpha):
        return np.ones(1), np.zeros(0)
    diagonal = 1.0 / alpha
    diagonal[1:] += beta[:-1] / alpha[:-1]
    return diagonal, np.sqrt(beta[:-1]) / alpha[:-1]
