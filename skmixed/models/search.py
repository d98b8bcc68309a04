"""The search for covariance parameters, the same for linear and generalised models.

A descent from the start, variances put to exactly zero where the criterion does not mind, and
looks from other starts where the criterion may have several minima.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from skmixed._deadline import check_time
from skmixed.models.layout import CovarianceLayout
from skmixed.models.optimize import LOWER, NoStart, minimize_theta

# Standard deviations, relative to that of a row, that are tried at zero.
_NEGLIGIBLE = 1e-2, 1e-3, 1e-4
# Rise of the objective that goes unnoticed.
_UNNOTICED = 1e-8
# Other starts have so many times the standard deviations of the first one.
LARGER, _SMALLER = 10.0, 0.3
# Share of the square of a random effect's column outside the column space of X.
_OUTSIDE = 1e-8


@dataclass(frozen=True)
class Search:
    """The search for the minimum of an objective that holds covariance parameters.

    Attributes
    ----------
    evaluate : callable
        Parameters -> evaluation, see :func:`minimize_theta`.
    layout : CovarianceLayout
    begin : int
        Where theta begins among the parameters.
    unit : float
        Standard deviation of one row, in the units of theta.
    rechart : callable, optional
    max_iter, tol, callback
        As in :func:`minimize_theta`.
    units : (t,) or float
    larger : float
        How many times the standard deviations of the first start those of another one are, from
        which singular ends are looked at.
    """

    evaluate: Callable
    layout: CovarianceLayout
    begin: int = 0
    unit: float = 1.0
    rechart: Callable | None = None
    max_iter: int = 100
    tol: float = 1e-8
    callback: Callable | None = None
    units: np.ndarray | float = 1.0
    larger: float = LARGER

    def run(self, start, others=()):
        """The lowest Optimum from ``start`` and from ``others``.

        A singular end is a minimum among the models with fewer variances. There, and where the
        search has not converged, it is looked for a lower one with large variances too.
        """
        best = self._settled(self._descend(start))
        others = list(others)
        if not best.converged or any(self.layout.singular_terms(self.theta(best.theta))):
            others.append(self._larger(start))
        for other in others:
            best = self._lower(best, other)
        return best

    def theta(self, parameters):
        return parameters[self._at]

    @property
    def _at(self):
        return slice(self.begin, self.begin + self.layout.n_theta)

    def with_theta(self, parameters, theta):
        """The parameters with other covariance parameters."""
        moved = parameters.copy()
        moved[self._at] = theta
        return moved

    def _larger(self, start):
        return self.with_theta(start, self.layout.scaled(self.theta(start), self.larger))

    def _descend(self, start, known=None):
        return minimize_theta(
            self.evaluate,
            start,
            max_iter=self.max_iter,
            tol=self.tol,
            callback=self.callback,
            rechart=self.rechart,
            units=self.units,
            known=known,
        )

    def _lower(self, best, start):
        """The lower of an optimum and the one reached from another start."""
        try:
            other = self._descend(start, best)
        except NoStart:
            return best
        n_evaluations = best.n_evaluations + other.n_evaluations
        if other.value < best.value - LOWER:
            return self._settled(replace(other, n_evaluations=n_evaluations))
        return replace(best, n_evaluations=n_evaluations)

    def _settled(self, optimum):
        """The optimum with negligible variances at exactly zero, if the objective does not mind.

        What it does not mind is far above rounding and far below what anybody could tell apart,
        so that order of rows and units do not decide.
        """
        theta = self.layout.scaled(self.theta(optimum.theta), 1.0 / self.unit)
        tried = None
        for negligible in _NEGLIGIBLE:
            tidied = self.layout.settled(theta, negligible)
            if np.array_equal(tidied, theta):
                break
            if tried is not None and np.array_equal(tidied, tried):
                continue
            check_time()
            parameters = self.with_theta(optimum.theta, self.layout.scaled(tidied, self.unit))
            state, tried = self.evaluate(parameters), tidied
            optimum = replace(optimum, n_evaluations=optimum.n_evaluations + 1)
            if state.value <= optimum.value + max(_UNNOTICED, 1e-11 * abs(optimum.value)):
                return replace(optimum, theta=parameters, value=state.value, state=state)
        return optimum


def outside_effects(layout, Q, weights=None):
    """For every term, which effects have a mean of their own, as X misses their covariate.

    Parameters
    ----------
    layout : CovarianceLayout
        With its rows.
    Q : (n, r)
        Basis of the columns of X, orthonormal over the rows.
    weights : (n,) or None

    Returns
    -------
    tuple of (s,) bool, over the effects in the user's units
    """
    found = []
    for term in layout.terms:
        z = layout.groups[term.group].z[:, term.columns]
        outside = _outside(z, Q, weights) if term.kind == "us" else np.zeros(term.size, dtype=bool)
        if outside.any() and term.size > 1:
            users = _outside(np.linalg.solve(term.M.T, z.T).T, Q, weights)
            outside = users if users.any() else np.ones_like(users)
        found.append(outside)
    return tuple(found)


def _outside(z, Q, weights):
    """Mask (s,) of the columns that are not in the column space of Q."""
    total = len(Q) if weights is None else weights.sum()
    weighted = z if weights is None else z * weights[:, None]
    size = np.einsum("ns,ns->s", z, weighted) / total
    return _is_outside(size, Q.T @ weighted / total)


def outside_by_moments(layout, squares, cross):
    """:func:`outside_effects` from mean products over the rows.

    Parameters
    ----------
    squares : sequence of (s, s)
        Of the engine's covariates of every term.
    cross : sequence of (r, s)
        Of the basis of X with them.
    """
    found = []
    for term, square, C in zip(layout.terms, squares, cross, strict=True):
        outside = np.zeros(term.size, dtype=bool)
        if term.kind == "us":
            outside = _is_outside(square.diagonal(), C)
        if outside.any() and term.size > 1:
            back = np.linalg.inv(term.M)
            users = _is_outside((back.T @ square @ back).diagonal(), C @ back)
            outside = users if users.any() else np.ones_like(users)
        found.append(outside)
    return tuple(found)


def _is_outside(size, cross):
    """Mask (s,) of columns of mean square size (s,), by their mean products (r, s) with Q."""
    return size - np.square(cross).sum(axis=0) > _OUTSIDE * size


def outside_starts(layout, outside, theta):
    """Other starts where effects have a mean of their own, which X or either factor may hold.

    A term of several effects needs none: its covariance with the others tells where the mean is.
    """
    terms = [t for t, out in zip(layout.terms, outside, strict=True) if out.any()]
    starts = [theta] if any(term.size == 1 for term in terms) else []
    for group in dict.fromkeys(term.group for term in terms) if len(layout.groups) > 1 else ():
        start, place = layout.scaled(theta, _SMALLER), layout.places[group]
        start[place] = layout.scaled(theta, LARGER)[place]
        starts.append(start)
    return starts
