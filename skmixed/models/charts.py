"""Free coordinates of all variance parameters: logarithms, and Fisher's z of correlations.

v = (log tau_i and z_j of every term, log sigma). tau are standard deviations of the effects in the
user's units, tanh z canonical partial correlations of an unstructured term and the correlations of
a structured one, moved to (-1, 1). No point is on a boundary, whatever the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skmixed.models.layout import CovarianceLayout
from skmixed.models.structured import NamedStructure, SideBySide
from skmixed.models.term_layout import TermLayout

# Standard deviations, in the engine's units, and eigenvalues of correlations below which no search
# starts, since there the likelihood is flat in these coordinates.
_FLOOR, _FLOOR_COR = 0.1, 0.05


@dataclass(frozen=True)
class TermChart:
    """One term: its place in v, n_sd logarithms and then n_cor of Fisher's z.

    own : the structure of a structured term, None for an unstructured one
    units : (n_sd,) standard deviations of unit effects, of a structured term
    """

    term: TermLayout
    begin: int
    n_sd: int
    n_cor: int
    own: NamedStructure | None
    units: np.ndarray

    @property
    def sds(self):
        """Places of the logarithms in v."""
        return slice(self.begin, self.begin + self.n_sd)

    @property
    def cors(self):
        """Places of Fisher's z in v."""
        return slice(self.sds.stop, self.sds.stop + self.n_cor)

    def factors(self, V, log_sigma):
        """T (m, s, s) of points V (m, d)."""
        tau = np.exp(V[:, self.sds] - log_sigma[:, None])
        if self.own is None:
            return np.linalg.solve(self.term.M, tau[:, :, None] * self._root(V))
        return np.array([self.own.factor(phi) for phi in self._params(V, tau)])

    def values(self, V):
        """Standard deviations and correlations (m, c) by column of the triangle, or as named."""
        tau = np.exp(V[:, self.sds])
        if self.own is not None:
            found = [self.own.natural(phi)[self.n_sd :] for phi in self._params(V, tau)]
            cors = np.array([[p.value for p in own] for own in found])
            return np.hstack([tau, cors.reshape(len(V), -1)])
        L, columns = self._root(V), []
        for j in range(self.n_sd):
            columns.append(tau[:, j])
            columns += [np.einsum("mk,mk->m", L[:, i], L[:, j]) for i in range(j + 1, self.n_sd)]
        return np.stack(columns, axis=1)

    def start(self, T, sigma):
        """Places in v for the covariance sigma^2 T T' (engine's units), off the boundary."""
        if self.own is not None:
            spread = np.linalg.norm(T, axis=1)[: self.n_sd]
            tau = sigma * self.units * np.maximum(spread, _FLOOR * spread.max() or _FLOOR)
            return np.append(np.log(np.maximum(tau, sigma * self.units * _FLOOR)),
                             np.zeros(self.n_cor))  # fmt: skip
        A, size = self.term.M @ T, np.linalg.norm(self.term.M, axis=1)
        tau = np.maximum(np.linalg.norm(A, axis=1), _FLOOR * size)
        R = A @ A.T / np.outer(tau, tau)
        np.fill_diagonal(R, 1.0)
        values, vectors = np.linalg.eigh(R)
        A = vectors * np.sqrt(np.maximum(values, _FLOOR_COR))
        return np.append(np.log(sigma * tau), np.arctanh(_partials(A @ A.T)))

    def log_cor(self, V, eta):
        """Logarithm (m,) of LKJ(eta), Jacobian of z included, up to a constant.

        Of a structured term the product of (1 - x^2)^(eta - 1) over its numbers x.
        """
        z = np.abs(V[:, self.cors])
        log_rest = 2.0 * (np.log(2.0) - z - np.log1p(np.exp(-2.0 * z)))  # log (1 - tanh(z)^2)
        if self.own is None:
            _, j = _lower(self.n_sd)
            return log_rest @ (eta + (self.n_sd - 2 - j) / 2)
        return log_rest.sum(axis=1) * eta

    def _root(self, V):
        """Lower roots (m, s, s) of the correlation matrices (Lewandowski et al. 2009)."""
        s, x = self.n_sd, np.tanh(V[:, self.cors])
        L = np.zeros((len(V), s, s))
        L[(slice(None), *_lower(s))] = x
        for i in range(s):
            left = np.ones(len(V))
            for j in range(i):
                partial = L[:, i, j].copy()
                L[:, i, j] *= np.sqrt(left)
                left = left * (1.0 - partial**2)
            L[:, i, i] = np.sqrt(left)
        return L

    def _params(self, V, tau):
        pairs = zip(tau / self.units, np.tanh(V[:, self.cors]), strict=True)
        return [self.own.from_free(t, x) for t, x in pairs]


@dataclass(frozen=True)
class Chart:
    """v for all terms of a layout and sigma; ``unit``: sigma in the units of the engine's."""

    layout: CovarianceLayout
    unit: float
    terms: tuple[TermChart, ...]

    @classmethod
    def of(cls, layout, unit):
        """The chart of a layout.

        Raises
        ------
        ValueError
            For a term with a parameter that is neither a standard deviation nor a correlation.
        """
        terms, begin = [], 0
        for t, term in enumerate(layout.terms):
            terms.append(_term_chart(layout, t, term, begin))
            begin = terms[-1].cors.stop
        return cls(layout, unit, tuple(terms))

    @cached_property
    def size(self):
        """d."""
        return 1 + (self.terms[-1].cors.stop if self.terms else 0)

    @cached_property
    def sds(self):
        """Places of the logarithms of standard deviations in v, sigma left out."""
        return np.concatenate([np.arange(t.sds.start, t.sds.stop) for t in self.terms])

    def sigma(self, V):
        """sigma (m,) in the engine's units."""
        return np.exp(V[:, -1]) / self.unit

    def factors(self, V):
        """T (m, s, s) of every group."""
        T = [np.zeros((len(V), g.n_columns, g.n_columns)) for g in self.layout.groups]
        for own in self.terms:
            at = own.term.columns
            T[own.term.group][:, at, at] = own.factors(V, V[:, -1])
        return T

    def values(self, V):
        """All variance parameters (m, c) in the order of `components.variance_parameters`."""
        columns = [own.values(V) for own in self.terms]
        return np.hstack([*columns, np.exp(V[:, -1:])])

    def start(self, theta, sigma):
        """v near a theta of the layout and a sigma in the user's units, off the boundary."""
        T = self.layout.factors(theta)
        parts = [
            own.start(T[own.term.group][own.term.columns, own.term.columns], sigma)
            for own in self.terms
        ]
        return np.concatenate([*parts, [np.log(sigma)]])


def _term_chart(layout, t, term, begin):
    if term.kind == "us":
        s = term.size
        return TermChart(term, begin, s, s * (s - 1) // 2, None, np.ones(s))
    own = layout.structures[term.group]
    if isinstance(own, SideBySide):
        own, _ = own.part(term.columns)
    natural = own.natural(layout.initial()[layout.parameters_of(t)])
    kinds = [p.kind for p in natural]
    if set(kinds) - {"sd", "cor"}:
        raise ValueError(f"the term {term.kind}(...) has a range, for which no prior is known here")
    n_sd = kinds.count("sd")
    units = np.array([layout.natural_unit(t, p) for p in natural[:n_sd]])
    return TermChart(term, begin, n_sd, len(kinds) - n_sd, own, units)


def _lower(s):
    """(i, j) of a strict lower triangle, by column."""
    j, i = np.triu_indices(s, 1)
    return i, j


def _partials(R):
    """Canonical partial correlations of R (s, s), by column of the lower triangle."""
    L = np.linalg.cholesky(R)
    L = L / np.linalg.norm(L, axis=1, keepdims=True)
    i, j = _lower(len(R))
    left = 1.0 - np.cumsum(L**2, axis=1) + L**2
    return L[i, j] / np.sqrt(left[i, j])
