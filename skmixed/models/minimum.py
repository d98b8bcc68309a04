"""Minima of a function with exact value, gradient and Hessian, also on a surface psi = value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Point:
    """The deviance at x with its first two derivatives."""

    x: np.ndarray
    value: float
    gradient: np.ndarray
    hessian: np.ndarray


def tangent_space(normal):
    """Orthonormal basis (n, n - 1) of what is orthogonal to a vector."""
    return np.linalg.svd(normal[None])[2][1:].T


def _newton_step(H, gradient):
    """Step that goes down also where H is indefinite, in coordinates scaled by its diagonal."""
    scale = 1.0 / np.sqrt(np.maximum(np.abs(H.diagonal()), 1e-12))
    values, vectors = np.linalg.eigh(H * np.outer(scale, scale))
    slope = vectors.T @ (gradient * scale)
    step = -vectors @ (slope / np.maximum(np.abs(values), 1e-8)) * scale
    return step, 0.5 * float(np.sum(slope**2 / np.maximum(np.abs(values), 1e-8)))


def minimum(f, point, basis=None):
    """Minimum of f over x + basis z by Newton's method with step halving."""
    basis = np.eye(len(point.x)) if basis is None else basis
    for _ in range(60):
        H = basis.T @ point.hessian @ basis
        step, decrease = _newton_step(H, basis.T @ point.gradient)
        if decrease < 1e-13 * max(1.0, abs(point.value)):
            break
        step = basis @ step
        near = _first_not_above(f, point, step)
        if near is None:
            break
        point = near
    return point


def _first_not_above(f, point, step):
    for share in 0.4 ** np.arange(25):
        near = f(point.x + share * step)
        if near is not None and near.value <= point.value + 1e-12 * abs(point.value):
            return near
    return None


def constrained_minimum(f, psi, value, point):
    """Minimum of f at psi = value: Newton steps on the tangent space and back to the surface."""
    weight = 0.0
    for _ in range(40):
        now, slope, bend = psi(point.x)
        scale = 1.0 / np.sqrt(np.maximum(np.abs(point.hessian.diagonal()), 1e-8))
        normal, gradient = slope * scale, point.gradient * scale
        size = float(normal @ normal)
        if size < 1e-20:
            return None
        lam = float(gradient @ normal) / size
        H = (point.hessian - lam * bend) * np.outer(scale, scale)
        back = (value - now) / size * normal
        tangent = tangent_space(normal)
        step, decrease = _newton_step(
            tangent.T @ H @ tangent, tangent.T @ (gradient - lam * normal + H @ back)
        )
        if abs(value - now) < 1e-11 * max(1.0, abs(value)) and decrease < 1e-12:
            return point
        weight = max(weight, 2.0 * abs(lam) + 1.0)
        ahead = (back + tangent @ step) * scale
        merit = point.value + weight * abs(value - now)
        for share in 0.4 ** np.arange(12):
            near = f(point.x + share * ahead)
            if near is None:
                continue
            if near.value + weight * abs(value - psi(near.x)[0]) <= merit + 1e-12 * abs(merit):
                break
        else:
            return point if abs(value - now) < 1e-9 else None
        point = near
    return point


def next_root(known, sign):
    """Secant step between the nearest values below and above the level, kept inside them."""
    below = [k for k in known if k[1] <= 0]
    above = [k for k in known if k[1] > 0]
    low = max(below, key=lambda k: sign * k[0])
    if not above:
        first = known[0]
        step = low[0] - first[0]
        rise = low[1] - first[1]
        ahead = step * min(3.0, -low[1] / rise + 0.1) if rise > 0 else step
        return low[0] + (ahead or sign * 0.1)
    high = min(above, key=lambda k: sign * k[0])
    width = high[0] - low[0]
    # an end that stays weighs half as much each time (the Illinois rule)
    sides = [k[1] > 0 for k in known]
    stays = next((n for n, side in enumerate(sides[::-1]) if side != sides[-1]), 1) - 1
    lower, upper = low[1], high[1]
    if sides[-1]:
        lower *= 0.5**stays
    else:
        upper *= 0.5**stays
    return low[0] - lower / (upper - lower) * width
