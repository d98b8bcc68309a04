"""New data from a fitted mixed model: responses drawn from it, residuals or levels drawn again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

# Share of the largest variance of a group's effects below which a direction has none.
_NONE = 1e-10


def each_row_once(design, *arrays):
    """The design with a row of frequency 2 as two rows, and the rows of arrays (n,) or None.

    Raises
    ------
    ValueError
        For frequencies that are not whole.
    """
    counts = design.frequencies
    if counts is None:
        return design, *arrays
    if (counts != np.round(counts)).any():
        raise ValueError(
            "sample_weight counts rows, and rows can be drawn only if the counts are whole numbers:"
            f" they include {counts[counts != np.round(counts)][0]:g}. Weights that are precisions "
            "are prior_weights"
        )
    counts = counts.astype(np.intp)
    rows = np.repeat(np.arange(len(counts)), counts)
    copies = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    random = _terms_of(design.random, rows)
    return taken(design, rows, random, copies), *(None if x is None else x[rows] for x in arrays)


def taken(design, rows, random, copies):
    """A design of some rows (m,), which may repeat, with their random-effects terms.

    copies (m,): rows of a group whose residuals are correlated are so within one copy of it.
    """

    def own(values):
        return None if values is None else values[rows]

    return replace(
        design,
        y=own(design.y),
        X=design.X[rows],
        random=random,
        weights=own(design.weights),
        offset=own(design.offset),
        frequencies=None,
        rows=design.rows[rows],
        residual=tuple(term.of_rows(rows, copies) for term in design.residual),
    )


def _terms_of(random, rows):
    """Terms of some rows; those of one grouping factor share their codes."""
    codes = {term.group: term.codes[rows] for term in random}
    return tuple(replace(t.of_rows(rows), codes=codes[t.group]) for t in random)


# Responses


@dataclass(frozen=True, eq=False)
class Parametric:
    """Responses drawn from a fitted model.

    eta (n,): what stays; groups and spreads (s, s): random effects that are drawn, with covariance
    spread spread'; outcome: (eta, rng) -> responses.
    """

    eta: np.ndarray
    groups: tuple
    spreads: tuple
    outcome: Callable

    @classmethod
    def of(cls, fit, design, groups, outcome, *, conditional):
        """Of the rows of a design; ``conditional`` on the modes, which then stay as they are."""
        if conditional:
            eta = _fixed_part(fit, design) + fit.random_part(design.random)
            return cls(eta, (), (), outcome)
        T, drawn = fit.layout.factors(fit.optimum.theta), _drawn(fit)
        spreads = tuple(fit.sigma * T[g] for g in drawn)
        return cls(_kept_part(fit, design), tuple(groups[g] for g in drawn), spreads, outcome)

    def draw(self, rng):
        """One response (n,)."""
        eta = self.eta.copy()
        for group, spread in zip(self.groups, self.spreads, strict=True):
            u = rng.standard_normal((spread.shape[1], group.n_levels))
            eta += group.values(spread @ u)
        return self.outcome(eta, rng)


@dataclass(frozen=True)
class NormalOutcome:
    """Normal responses with a standard deviation, or one (n,) for every row."""

    deviation: float | np.ndarray

    def __call__(self, eta, rng):
        return eta + self.deviation * rng.standard_normal(len(eta))


@dataclass(frozen=True, eq=False)
class CorrelatedOutcome:
    """Normal responses whose residuals are correlated; roots: pairs (rows, L) of R = L L'."""

    deviation: float | np.ndarray
    roots: tuple

    def __call__(self, eta, rng):
        noise = rng.standard_normal(len(eta))
        for rows, L in self.roots:
            noise[rows] = L @ noise[rows]
        return eta + self.deviation * noise


@dataclass(frozen=True)
class FamilyOutcome:
    """Responses of a family with weights w (n,); of the binomial one successes in w trials."""

    family: object
    w: np.ndarray
    dispersion: float

    def __call__(self, eta, rng):
        low, high = self.family.predictor_range
        mu = self.family.mean(eta)
        if not (np.isfinite(mu) & (eta >= low) & (eta <= high)).all():
            raise ArithmeticError("the drawn random effects give linear predictors without a mean")
        drawn = self.family.sample(mu, self.w, self.dispersion, rng)
        return np.round(drawn * self.w) if self.family.name == "binomial" else drawn


@dataclass(frozen=True, eq=False)
class Residuals:
    """Responses of a linear model made of its own residuals, drawn with replacement.

    Modes of the random effects and residuals of the rows vary less than the effects and errors that
    they predict. They are centred, and taken times what gives them the estimated covariances:
    Carpenter, Goldstein and Rasbash (2003), Applied Statistics 52, 431-443.

    eta (n,): fixed part; groups and effects (s, l): level residuals; errors (m,): of rows of weight
    1, roots (n,) or None of the weights.
    """

    eta: np.ndarray
    groups: tuple
    effects: tuple
    errors: np.ndarray
    roots: np.ndarray | None

    @classmethod
    def of(cls, fit, design, groups, scores):
        """Of an LMMFit with ``scores``, a list of (s, l) by group."""
        T, names, drawn = fit.layout.factors(fit.optimum.theta), _group_names(design), _drawn(fit)
        effects = []
        for name, t, c in ((names[g], T[g], scores[g]) for g in drawn):
            if c.shape[1] <= len(c):
                raise ValueError(
                    "kind='residual' draws among independent levels, more of them than effects: "
                    f"{name!r} has {c.shape[1]} for {len(c)} effects. Use kind='parametric'"
                )
            effects.append(fit.sigma * t @ _whitened(t.T @ c))
        roots = None if design.weights is None else np.sqrt(design.weights)
        errors = design.y - _fixed_part(fit, design) - fit.random_part(design.random)
        errors = errors if roots is None else errors * roots
        errors = errors - errors.mean()
        size = np.sqrt(np.mean(errors**2))
        errors = errors * (fit.sigma / size if size > 0 else 0.0)
        groups = tuple(groups[g] for g in drawn)
        return cls(_kept_part(fit, design), groups, tuple(effects), errors, roots)

    def draw(self, rng):
        """One response (n,)."""
        y = self.eta.copy()
        for group, b in zip(self.groups, self.effects, strict=True):
            y += group.values(b[:, rng.integers(b.shape[1], size=b.shape[1])])
        errors = self.errors[rng.integers(len(self.errors), size=len(y))]
        return y + (errors if self.roots is None else errors / self.roots)


def _whitened(u):
    """u (s, l), centred, with the identity for a covariance, where it has any variance."""
    u = u - u.mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(u @ u.T / u.shape[1])
    known = values > _NONE * values.max(initial=0.0)
    half = vectors[:, known] / np.sqrt(values[known])
    return vectors[:, known] @ (half.T @ u)


def _fixed_part(fit, design):
    eta = fit.basis.orthonormal(design.X) @ fit.gamma
    return eta if design.offset is None else eta + design.offset


def _kept_part(fit, design):
    """offset + X beta and the smooth functions, which are fixed effects to users."""
    eta = _fixed_part(fit, design)
    return eta + fit.smooth_part(design.random) if fit.smooth_terms else eta


def _drawn(fit):
    """Numbers of the groups whose effects are random ones to users."""
    return list(dict.fromkeys(term.group for term in fit.layout.terms if not term.is_smooth))


def _group_names(design):
    return list(dict.fromkeys(term.group for term in design.random))


# Levels


@dataclass(frozen=True, eq=False)
class Levels:
    """Rows drawn by whole levels of a factor.

    A level that is drawn twice is two levels, and so are the levels of factors that are nested in
    it. Levels of the other grouping factors, related levels and smooth functions stay what they
    are.

    Attributes
    ----------
    design : Design
    by_level, begins : (n,) and (J + 1,)
        Rows level by level, and where every level begins.
    inside : dict of str to bool
        For every grouping factor, whether its levels are nested in those that are drawn.
    within : bool
        Whether the rows of every level drawn are drawn again, with replacement.
    """

    design: object
    by_level: np.ndarray
    begins: np.ndarray
    inside: dict
    within: bool = False

    @classmethod
    def of(cls, design, codes, n_levels, *, within=False):
        """Of codes (n,) of the levels to draw."""
        inside = {
            term.group: not _stays(term) and is_nested(term.codes, codes, term.n_levels)
            for term in design.random
        }
        ends = np.cumsum(np.bincount(codes, minlength=n_levels))
        starts = np.concatenate([[0], ends])
        return cls(design, np.argsort(codes, kind="stable"), starts, inside, within)

    @property
    def n_levels(self):
        return len(self.begins) - 1

    def draw(self, rng):
        """(rows (m,), their terms, copies (m,)) of as many levels as there are."""
        drawn = rng.integers(self.n_levels, size=self.n_levels)
        return self.of_levels(drawn, rng if self.within else None)

    def without(self, level):
        """(rows, their terms, copies) of all levels but one."""
        return self.of_levels(np.delete(np.arange(self.n_levels), level))

    def of_levels(self, drawn, rng=None):
        """(rows, their terms, copies) of levels that may repeat."""
        sizes = np.diff(self.begins)[drawn]
        copy = np.repeat(np.arange(len(drawn)), sizes)
        begins = np.repeat(np.cumsum(sizes) - sizes, sizes)
        place = np.arange(sizes.sum()) - begins
        if rng is not None:
            place = rng.integers(np.repeat(sizes, sizes))
        rows = self.by_level[self.begins[drawn][copy] + place]
        return rows, self._terms(rows, copy), copy

    def _terms(self, rows, copy):
        found = {}
        for term in self.design.random:
            if term.group not in found:
                found[term.group] = self._levels(term, term.codes[rows], copy)
        terms = []
        for term in self.design.random:
            codes, levels = found[term.group]
            terms.append(replace(term.of_rows(rows), codes=codes, levels=levels))
        return tuple(terms)

    def _levels(self, term, codes, copy):
        """(codes, levels) of the rows, (level, copy) where levels are copied."""
        if _stays(term):
            return codes, term.levels
        if not self.inside[term.group]:
            used, codes = np.unique(codes, return_inverse=True)
            return codes.ravel(), term.levels[used]
        used, codes = np.unique(copy * term.n_levels + codes, return_inverse=True)
        numbers, own = np.divmod(used, term.n_levels)
        names = [f"{term.levels[j]} [{k + 1}]" for k, j in zip(numbers, own, strict=True)]
        return codes.ravel(), np.array(names, dtype=object)


def _stays(term):
    """Whether the levels of a term are what they are, whichever rows are drawn."""
    return term.n_levels == 1 or term.relationship is not None or term.structure == "smooth"


def is_nested(codes, outer, n_levels):
    """Whether all rows of every level have one level of the outer factor."""
    first = np.full(n_levels, -1)
    first[codes] = outer
    return bool((first[codes] == outer).all())
