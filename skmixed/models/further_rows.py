"""Further rows beside a fit, and the cross-products that both have together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.linalg.system import Effects, Group, Pattern, RelatedGroup, Sums, System
from skmixed.models.deviance import CHAIN_FROM


@dataclass(frozen=True, eq=False)
class Levels:
    """Where the levels of a fit are among those of a larger set, by group.

    places: for every group (l,) indices; sizes: the number of all levels.
    """

    places: tuple[np.ndarray, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, layout, found):
        """Levels from (places, size) by group; those of related levels stay as they are."""
        found = [
            (np.arange(group.n_levels), group.n_levels) if isinstance(group, RelatedGroup) else own
            for group, own in zip(layout.groups, found, strict=True)
        ]
        return cls(tuple(place for place, _ in found), tuple(size for _, size in found))

    @classmethod
    def all_of(cls, sizes):
        """All levels, where they are."""
        return cls(tuple(np.arange(size) for size in sizes), sizes)

    def spread(self, x, g):
        """Values (..., l) of a group's levels among all of them, 0 elsewhere."""
        wide = np.zeros((*x.shape[:-1], self.sizes[g]))
        wide[..., self.places[g]] = x
        return wide


@dataclass(frozen=True, eq=False)
class FurtherRows:
    """Rows as the engine takes them: groups, basis of X, response, and eta at x0."""

    groups: tuple[Group, ...]
    Q: np.ndarray
    eta: np.ndarray
    observed: object

    @classmethod
    def of(cls, observed):
        """The rows of ObservedRows."""
        fit = observed.fit
        groups = fit.layout.groups_of(observed.random) if observed.random else ()
        return cls(groups, fit.basis.orthonormal(observed.X), observed.eta, observed)

    def compressed(self):
        """The rows with their own levels alone, and Levels of these among all."""
        places, groups = [], []
        for group in self.groups:
            place, codes = np.unique(group.codes, return_inverse=True)
            places.append(place)
            groups.append(replace(group, codes=codes, n_levels=len(place)))
        sizes = tuple(group.n_levels for group in self.groups)
        return replace(self, groups=tuple(groups)), Levels(tuple(places), sizes)

    def effects(self, v):
        """[Z Q]'v as Effects."""
        return Effects.of([group.sums(v) for group in self.groups], self.Q.T @ v)

    def predictor(self, x):
        """Z b + Q gamma (n,) of Effects with one column."""
        eta = self.Q @ x.fixed[:, 0]
        for group, b in zip(self.groups, x.levels(), strict=True):
            eta = eta + group.values(b)
        return eta

    def sums(self, weight):
        """Cross-products with these weights."""
        return _explicit(Sums.of_rows(self.groups, weight, self.Q, np.zeros(len(weight))))

    @property
    def is_linear(self):
        """Whether one step is exact."""
        return self.observed.fit.is_linear

    def curve(self, change):
        """(summed log-likelihood, scores, weights) at eta + change.

        Those of a linear model are in units of sigma^2.
        """
        observed, counts = self.observed, self.observed.counts
        fit, w = observed.fit, observed.weights
        if fit.is_linear:
            w, rest = w * counts, observed.y - self.eta - change
            return -0.5 * float(w @ rest**2), w * rest, w
        y = observed.y * w if fit.family.name == "binomial" else observed.y
        with np.errstate(all="ignore"):
            found = fit.family.curve(self.eta + change, y, w, fit.log_dispersion)
        return float((counts * found.loglik).sum()), counts * found.score, counts * found.weight

    def expected_weight(self, change):
        """Weights that are positive where those of :meth:`curve` need not be."""
        observed, w = self.observed, self.observed.weights
        fit = observed.fit
        y = observed.y * w if fit.family.name == "binomial" else observed.y
        found = fit.family.expected_weight(self.eta + change, y, w, fit.log_dispersion)
        return observed.counts * found


def has_related(fit):
    return any(isinstance(group, RelatedGroup) for group in fit.layout.groups)


def _missing_information(fit):
    """What to add to X'WX for fixed effects with the covariance that the fit tells, or None.

    In a generalised model that knows that theta was estimated.
    """
    if fit.is_linear or fit.pending is not None:
        return None
    root = fit.factor.fixed_root
    return fit.fixed_root @ fit.fixed_root.T - root @ root.T


@dataclass(frozen=True, eq=False)
class SummedTold:
    """Cross-products behind a fit among all levels, by grouping factor."""

    sums: Sums

    @classmethod
    def of(cls, fit, levels, rows):
        sums = fit.factor.system.sums().without_response().among(levels.places, levels.sizes)
        more = _missing_information(fit)
        if more is not None:
            tail = sums.tail.copy()
            tail[:-1, :-1] += more
            sums = replace(sums, tail=tail)
        return cls(sums)

    def system(self, rows, weight):
        """The system of the fit's rows and further ones; of two unit pivots for y one is left."""
        sums = self.sums + rows.sums(weight)
        sums.tail[-1, -1] = 1.0
        return System.of_sums(sums.complete(), chain_from=CHAIN_FROM)


@dataclass(frozen=True, eq=False)
class DenseTold:
    """The same as one dense matrix, where rows meet all levels of a group of related ones."""

    gram: np.ndarray
    pattern: Pattern

    @classmethod
    def of(cls, fit, levels, rows):
        own, more = fit.factor.system.gram(), _missing_information(fit)
        if more is not None:
            own[len(own) - fit.rank :, len(own) - fit.rank :] += more
        places, begin = [], 0
        for group, place in zip(rows.groups, levels.places, strict=True):
            columns = np.arange(group.n_columns)
            places.append((begin + place[:, None] * group.n_columns + columns).ravel())
            begin += group.size
        at = np.concatenate([*places, begin + np.arange(fit.rank)])
        gram = np.zeros((begin + fit.rank,) * 2)
        gram[np.ix_(at, at)] = own
        return cls(gram, Pattern.build(rows.groups, fit.rank, chain_from=np.inf))

    def system(self, rows, weight):
        """The system of the fit's rows and further ones."""
        return self.pattern.system(weight, rows.Q).with_gram(self.gram).without_rows()


def _explicit(sums):
    """Sums whose pairs are there whatever their weights are."""
    every = Levels.all_of(tuple(len(own) for own in sums.counts))
    return sums.among(every.places, every.sizes).without_response()
