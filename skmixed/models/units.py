"""Covariates of random-effects terms in the engine's units, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skmixed.linalg.groups import is_constant_view
from skmixed.models.structured import has_equal_variances

# Smallest pivot of the covariates' correlation matrix for which they are made orthonormal.
_INDEPENDENT = 1e-10


@dataclass(frozen=True)
class TermScale:
    """z = (z_user - center) scale: M (s, s) maps effects back, b_user = M b."""

    z: np.ndarray
    M: np.ndarray
    center: np.ndarray
    scale: np.ndarray


def standardise(term, weights=None):
    """TermScale of one term's covariates."""
    z, center = term.z, np.zeros(term.z.shape[1])
    if term.structure != "us":
        return _rescaled(term, weights)
    if z.shape[1] == 1:
        if is_constant_view(z):
            return TermScale(z, np.eye(1), center, np.eye(1))
        scale = np.diag(1 / _rms(z, weights))
        return TermScale(z * scale, scale, center, scale)
    constant = np.flatnonzero((z == z[0]).all(axis=0))
    if term.correlated and len(constant):
        center = _mean(z, weights)
        center[constant] = 0.0
        z = z - center
    size = _rms(z, weights)
    z = z / size
    scale = np.diag(1 / size)
    if term.correlated:
        R = _gram_root(z, weights)
        if R is not None:
            inverse = np.linalg.inv(R)
            z, scale = z @ inverse, scale @ inverse
    M = scale
    if center.any():
        shift = np.eye(len(M))
        shift[constant[0]] -= center / term.z[0, constant[0]]
        M = shift @ scale
    return TermScale(z, M, center, scale)


def _rescaled(term, weights):
    """TermScale of a structured term, whose columns must not be mixed.

    Columns with one standard deviation keep their proportions; a row has the mean square 1.
    """
    size = _rms(term.z, weights)
    if has_equal_variances(term.structure):
        size = np.full(len(size), np.sqrt(np.mean(size**2)))
    scale = 1.0 / (size * np.sqrt(len(size)))
    return TermScale(term.z * scale, np.diag(scale), np.zeros(len(size)), np.diag(scale))


def _gram_root(z, weights):
    """Upper R with R'R the mean cross-product of z, or None where columns are dependent."""
    gram = z.T @ (z if weights is None else z * weights[:, None])
    gram /= len(z) if weights is None else weights.sum()
    try:
        R = np.linalg.cholesky(gram).T
    except np.linalg.LinAlgError:
        return None
    return R if np.diag(R).min() ** 2 > _INDEPENDENT else None


def _mean(z, weights):
    return z.mean(axis=0) if weights is None else np.average(z, axis=0, weights=weights)


def _rms(z, weights):
    peak = np.abs(z).max(axis=0)
    peak[peak == 0] = 1.0
    size = peak * np.sqrt(_mean((z / peak) ** 2, weights))
    return np.where(size > 0, size, 1.0)


def in_scale(term, scale):
    """TermScale of covariates in given units; in one where they have one variance."""
    if term.structure != "us" and has_equal_variances(term.structure):
        scale = np.full(len(scale), np.exp(np.mean(np.log(scale))))
    return TermScale(term.z * scale, np.diag(scale), np.zeros(len(scale)), np.diag(scale))


def in_unit_variances(term, scale):
    """A TermScale in which related levels have the mean variance 1."""
    if term.relationship is None:
        return scale
    unit = np.sqrt(term.relationship.mean_variance)
    return TermScale(scale.z / unit, scale.M / unit, scale.center, scale.scale / unit)
