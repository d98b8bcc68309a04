"""The columns in which rows of batches are added up, and the layout that their sums then give."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.linalg.groups import is_constant_view
from skmixed.linalg.refine import Provisional
from skmixed.linalg.system import Group, Sums
from skmixed.models.deviance import THINNED_FROM
from skmixed.models.layout import CovarianceLayout
from skmixed.models.source import sample
from skmixed.models.stochastic import thinned_levels
from skmixed.models.structured import has_equal_variances

# Smallest pivot of the covariates' correlation matrix for which they are made orthonormal.
_INDEPENDENT = 1e-10


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The columns in which rows are added up.

    Attributes
    ----------
    fixed : Provisional
    gamma : (r,)
        Coefficients on the basis of ``fixed``, subtracted from y.
    unit : float
        What the rest of y is divided by.
    layout : CovarianceLayout
        Units of the covariates of the random-effects terms, from some rows.
    sampled : (m,)
        Numbers, among all rows, of those that fingerprints are made of.
    thinned : dict of (l,) bool
        By group, the levels of the rows from which an iterative search starts; they are added up
        by themselves too.
    """

    fixed: Provisional
    gamma: np.ndarray
    unit: float
    layout: CovarianceLayout
    sampled: np.ndarray
    thinned: dict

    @classmethod
    def of(cls, design, n_rows, *, solver="direct", seed=0):
        """Coordinates found from the design of some of n_rows rows.

        solver, seed: as of ``ProfiledDeviance.from_design``.
        """
        fixed = Provisional.of(design.X, design.intercept)
        Q = fixed.basis.orthonormal(design.X)
        y = design.y if design.offset is None else design.y - design.offset
        gamma = Q.T @ y / len(y)
        rest = y - Q @ gamma
        gamma = gamma + Q.T @ rest / len(y)
        unit = float(np.sqrt(np.mean(np.square(y - Q @ gamma))))
        layout = CovarianceLayout.build(design.random)
        if any(t.center.any() and "Intercept" not in t.names for t in layout.terms):
            sizes = [np.sqrt(np.mean(np.square(term.z), axis=0)) for term in design.random]
            scales = [1.0 / np.where(size > 0, size, 1.0) for size in sizes]
            layout = CovarianceLayout.build(design.random, scales=scales)
        found = cls(fixed, gamma, unit or 1.0, layout.without_rows(), sample(n_rows), {})
        if solver == "direct" or n_rows < THINNED_FROM or not design.random:
            return found
        groups, rng = found.groups(design.random), np.random.default_rng(seed)
        return replace(found, thinned=thinned_levels(groups, n_rows, rng))

    def check_memory(self, design, n_batches):
        """Raise MemoryError where the sums of so many batches have no room, whatever the rows."""
        Sums.check_memory(self.groups(design.random), design.X.shape[1], n_batches)

    def response(self, P, moved):
        """What P[:, kept] gamma leaves of y less the offset, in ``unit``."""
        return (moved - P[:, self.fixed.basis.kept] @ self.gamma) / self.unit

    def groups(self, random):
        """Groups of the rows with these terms."""
        names = list(dict.fromkeys(term.group for term in random))
        columns, first = [[] for _ in names], {}
        for term, at in zip(random, self.layout.terms, strict=True):
            first.setdefault(at.group, term)
            unscaled = at.size == 1 and at.M[0, 0] == 1.0
            view = is_constant_view(term.z) and unscaled
            columns[at.group].append(term.z if view else at.covariates(term.z))
        return [
            Group(first[g].codes, z[0] if len(z) == 1 else np.hstack(z), first[g].n_levels)
            for g, z in enumerate(columns)
        ]


def refined_layout(layout, design, sums, total):
    """The layout over all rows, and for every group A (s, s) that takes its covariates there."""
    left = [np.eye(len(own)) for own in sums.own]
    terms = []
    for at, term in zip(layout.terms, design.random, strict=True):
        square = sums.own[at.group].sum(axis=2)[at.columns, at.columns] / total
        own, A = _refined_term(at, square, term.correlated)
        left[at.group][at.columns, at.columns] = A
        terms.append(own)
    groups = tuple(
        replace(group, n_levels=own.shape[2])
        for group, own in zip(layout.groups, sums.own, strict=True)
    )
    return replace(layout, terms=tuple(terms), groups=groups), left


def _refined_term(at, square, correlated):
    """TermLayout from mean products (s, s) of its covariates, and A that takes them there.

    It is what `models.units.standardise` makes of the rows.
    """
    size = np.sqrt(square.diagonal())
    size = np.where(size > 0, size, 1.0)
    if at.kind != "us":
        return _rescaled(at, size)
    if at.size == 1:
        intercept = at.names == ("Intercept",) and at.M[0, 0] == 1.0
        A = np.eye(1) if intercept else np.diag(1.0 / size)
        return replace(at, M=at.M @ A, scale=at.scale @ A), A
    constant = at.names.index("Intercept") if "Intercept" in at.names and correlated else None
    about, mean = np.eye(at.size), np.zeros(at.size)
    if constant is not None:
        mean = square[constant] / size[constant]
        mean[constant] = 0.0
        about[constant] -= mean / size[constant]
        square = about.T @ square @ about
        size = np.sqrt(square.diagonal())
    A = np.diag(1.0 / np.where(size > 0, size, 1.0))
    if correlated:
        A = A @ _inverse_root(A @ square @ A)
    center = at.center + mean @ np.linalg.inv(at.scale)
    scale = at.scale @ A
    shift = np.eye(at.size)
    if constant is not None:
        center[constant] = 0.0
        shift[constant] -= center
    return replace(at, M=shift @ scale, center=center, scale=scale), about @ A


def _rescaled(at, size):
    """A structured term, whose columns must not be mixed."""
    before = at.scale.diagonal()
    size = size / before
    if has_equal_variances(at.kind):
        size = np.full(len(size), np.sqrt(np.mean(size**2)))
    scale = np.diag(1.0 / (size * np.sqrt(len(size))))
    return replace(at, M=scale, scale=scale), scale / before[:, None]


def _inverse_root(square):
    """R^-1 with R'R = square, the identity where the columns are dependent."""
    try:
        R = np.linalg.cholesky(square).T
    except np.linalg.LinAlgError:
        return np.eye(len(square))
    return np.linalg.inv(R) if R.diagonal().min() ** 2 > _INDEPENDENT else np.eye(len(R))
