"""Linear mixed models of rows that come in batches: their sums, and the objective made of them.

Rows are added up in columns that are nearly orthonormal already (`Coordinates`, found from some
thousand rows). What from_design would have found in all rows at once follows from the sums by
linear changes of small matrices, so that both lead to the same numbers but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.linalg.groups import is_constant_view
from skmixed.linalg.iterative import IterativeSystem
from skmixed.linalg.refine import Provisional
from skmixed.linalg.sums import check_levels
from skmixed.linalg.system import Effects, Group, Sums, System
from skmixed.models.layout import CovarianceLayout
from skmixed.models.lmm import (
    CHAIN_FROM,
    ROUNDING,
    THINNED_FROM,
    ProfiledDeviance,
    iterates,
    row_weights,
    sum_log,
)
from skmixed.models.moments import RowMoments
from skmixed.models.search import outside_by_moments
from skmixed.models.source import Source, sample, unordered_checksum
from skmixed.models.stochastic import thinned_levels, thinned_rows
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
        check_levels(self.groups(design.random), design.X.shape[1], n_batches)

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


@dataclass(frozen=True, eq=False)
class BatchSums:
    """All that the rows of some batches add to a fit.

    Attributes
    ----------
    sums : Sums
    totals : dict of arrays or numbers
        Further sums over the rows.
    peaks : dict of float
        Largest values.
    sampled : tuple
        The rows that fingerprints are made of, by batch: (number of the first, arrays).
    thinned : Sums or None
        Of the rows with the levels ``Coordinates.thinned``.
    """

    sums: Sums
    totals: dict
    peaks: dict
    sampled: tuple
    thinned: Sums | None

    def __add__(self, other):
        totals = {key: value + other.totals[key] for key, value in self.totals.items()}
        peaks = {key: max(value, other.peaks[key]) for key, value in self.peaks.items()}
        return BatchSums(
            self.sums + other.sums,
            totals,
            peaks,
            tuple(sorted(self.sampled + other.sampled, key=lambda part: part[0])),
            None if self.thinned is None else self.thinned + other.thinned,
        )

    def of_levels(self, kept):
        """The same with some levels of every group left out: ``kept`` (l,) bool, by group."""
        numbers = [np.cumsum(mask) - 1 for mask in kept]
        sampled = tuple(
            (first, P, offset, [at[c] for at, c in zip(numbers, codes, strict=True)], z)
            for first, P, offset, codes, z in self.sampled
        )
        thinned = None if self.thinned is None else self.thinned.of_levels(kept)
        return replace(self, sums=self.sums.of_levels(kept), sampled=sampled, thinned=thinned)


def batch_sums(design, coordinates, first):
    """BatchSums of the rows of a design with one row at least.

    Parameters
    ----------
    design : Design
        Its grouping factors have the levels of all batches.
    coordinates : Coordinates
    first : int
        The number, among all rows, of the first of these.
    """
    n = len(design.y)
    weights, P = row_weights(design), coordinates.fixed.columns(design.X)
    counts = np.ones(n) if design.frequencies is None else design.frequencies
    moved = design.y if design.offset is None else design.y - design.offset
    groups = coordinates.groups(design.random)
    totals = {
        "rows": n,
        "obs": float(counts.sum()),
        "weight": float(n if weights is None else weights.sum()),
        "log_weights": sum_log(design.weights, design.frequencies),
        "columns": P.sum(axis=0) if weights is None else weights @ P,
        "response": unordered_checksum(design.y),
        "weights": 0 if design.weights is None else unordered_checksum(design.weights),
        "frequencies": 0 if design.frequencies is None else unordered_checksum(counts),
    }
    if design.weights is not None:
        counted = P * counts[:, None]
        totals["counted"] = counted.sum(axis=0)
        totals["counted_gram"] = P.T @ counted
        for g, group in enumerate(groups):
            totals[f"counted_{g}"] = group.z.T @ (group.z * counts[:, None])
    peaks = {
        "response": float(np.abs(design.y).max()),
        "weights": 1.0 if design.weights is None else float(design.weights.max()),
        "low": -float(moved.min()),
        "high": float(moved.max()),
    }
    rows = coordinates.sampled
    rows = rows[(rows >= first) & (rows < first + n)] - first
    offset = np.zeros(len(rows)) if design.offset is None else design.offset[rows]
    kept = (first, P[rows], offset, [g.codes[rows] for g in groups], [g.z[rows] for g in groups])
    y = coordinates.response(P, moved)
    sums, some = Sums.of_rows(groups, weights, P, y), None
    if coordinates.thinned:
        rows = thinned_rows(groups, coordinates.thinned)
        some = Sums.of_rows([g.of_rows(rows) for g in groups], _at(weights, rows), P[rows], y[rows])
        totals["thinned"] = float(counts[rows].sum())
    return BatchSums(sums, totals, peaks, (kept,), some)


def _at(values, rows):
    return None if values is None else values[rows]


def profiled_deviance(found, coordinates, design, *, reml, solver="direct", n_probes=None, seed=0):
    """ProfiledDeviance of all rows.

    Parameters
    ----------
    found : BatchSums
        Of all rows.
    coordinates : Coordinates
        Those in which they were added up.
    design : Design
        What the rows share: names, terms, and the levels of the grouping factors.
    reml, solver, n_probes, seed
        As of ``ProfiledDeviance.from_design``.
    """
    sums, totals, total = found.sums, found.totals, found.totals["weight"]
    p = len(sums.tail) - 1
    basis, B = coordinates.fixed.refined(sums.tail[:p, :p], total)
    gamma, y_scale = _least_squares(sums.tail, B, total)
    exact = totals["rows"] <= basis.rank or (
        y_scale * coordinates.unit <= ROUNDING * found.peaks["response"]
    )
    right = np.zeros((p + 1, basis.rank + 1))
    right[:p, :-1] = B
    if not exact:
        right[:p, -1] = -B @ gamma / y_scale
        right[p, -1] = 1.0 / y_scale
    layout, left = _refined(coordinates.layout, design, sums, total)
    mapped = sums.mapped(left, right)
    squares, cross = _mean_products(layout, mapped, total)
    moments = _row_moments(found, layout, B, left)
    gamma = coordinates.fixed.in_basis(B, coordinates.gamma) + coordinates.unit * gamma
    if iterates(layout, basis.rank, solver, mapped) and not exact:
        system = IterativeSystem.of_sums(mapped, seed=seed, n_probes=n_probes)
    else:
        system = System.of_sums(mapped, chain_from=CHAIN_FROM)
    objective = ProfiledDeviance(
        system,
        layout,
        basis,
        gamma,
        1.0 if exact else y_scale * coordinates.unit,
        reml,
        totals["obs"],
        totals["rows"],
        total,
        totals["log_weights"],
        _source(found, design, basis, B, layout, left, moments),
        bool(exact),
        outside_by_moments(layout, squares, cross),
        n_probes,
    )
    if found.thinned is None or not objective.iterates:
        return objective
    return replace(objective, thinned=_thinned(objective, found, left, right))


def _thinned(objective, found, left, right):
    """The objective of some rows, as ``ProfiledDeviance.of_rows`` makes it; None of no rows."""
    counts = found.thinned.counts
    if not counts[0].any():
        return None
    sums = found.thinned.of_levels([own > 0 for own in counts]).mapped(left, right)
    return replace(
        objective,
        system=System.of_sums(sums),
        n_obs=found.totals["thinned"],
        n_rows=int(counts[0].sum()),
    )


def absorbed(objective):
    """For every term, the mask (s,) of effects whose every level X holds.

    Such an effect Z u lies in the span of X for every u, so a random u finds it.
    """
    rng, found = np.random.default_rng(0), []
    for t, term in enumerate(objective.layout.terms):
        group = objective.layout.groups[term.group]
        if objective.rank < group.n_levels:
            found.append(np.zeros(term.size, dtype=bool))
            continue
        u = rng.standard_normal(group.n_levels)
        found.append(np.array([_is_absorbed(objective, t, s, u) for s in range(term.size)]))
    return found


def _is_absorbed(objective, t, s, u):
    term, groups = objective.layout.terms[t], objective.layout.groups
    effects = objective.system.own(term.group)
    column = term.columns.start + s
    size = float(effects[column, column] @ np.square(u))
    random = [np.zeros((g.n_columns, 1, g.n_levels)) for g in groups]
    random[term.group][column, 0] = u
    moved = objective.system.times(Effects(random, np.zeros((objective.rank, 1)))).fixed[:, 0]
    left = size - float(moved @ np.linalg.solve(objective.system.fixed_gram, moved))
    return left <= 1e-12 * size


def _least_squares(tail, B, total):
    """Coefficients on Q = P B of the last column, and the root mean square of what they leave."""
    p = len(tail) - 1
    gram, cross = B.T @ tail[:p, :p] @ B, B.T @ tail[:p, p]
    gamma = np.zeros(len(cross))
    for _ in range(2):
        gamma = gamma + (cross - gram @ gamma) / total
    left = tail[p, p] - 2.0 * gamma @ cross + gamma @ gram @ gamma
    return gamma, float(np.sqrt(max(left, 0.0) / total))


def _refined(layout, design, sums, total):
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


def _mean_products(layout, sums, total):
    """Mean products of every term's covariates, and of the basis of X with them."""
    squares, cross = [], []
    for term in layout.terms:
        own = sums.own[term.group].sum(axis=2) / total
        squares.append(own[term.columns, term.columns])
        cross.append(sums.tails[term.group][term.columns, :-1].sum(axis=2).T / total)
    return squares, cross


def _row_moments(found, layout, B, left):
    """RowMoments: sample weights count, prior weights do not."""
    totals, weighted = found.totals, "counted" in found.totals
    n = totals["obs"]
    square = B.T @ totals["counted_gram"] @ B / n if weighted else None
    mean = totals["counted" if weighted else "columns"] @ B / n
    random = []
    for term in layout.terms:
        g = term.group
        own = totals[f"counted_{g}"] if weighted else found.sums.own[g].sum(axis=2)
        own = left[g].T @ own @ left[g] / n
        random.append(own[term.columns, term.columns])
    return RowMoments(mean, square, tuple(random))


def _source(found, design, basis, B, layout, left, moments):
    """Fingerprints of the rows; their checksums do not depend on the order of the batches."""
    totals = found.totals
    _, P, offset, codes, z = zip(*found.sampled, strict=True)
    groups = [
        Group(np.concatenate(c), np.concatenate(own) @ A, group.n_levels)
        for c, own, A, group in zip(
            zip(*codes, strict=True), zip(*z, strict=True), left, layout.groups, strict=True
        )
    ]
    rows = replace(design, offset=np.concatenate(offset), rows=np.zeros(0), frequencies=None)
    found_there = replace(layout, groups=tuple(groups))
    Q = np.concatenate(P) @ B
    source = Source.of(
        rows, basis, Q, found_there, np.zeros(0), None, moments, n_rows=totals["rows"]
    )
    return replace(
        source,
        rows=(totals["rows"], 0),
        **{name: totals[name] % 2**32 for name in ("response", "weights", "frequencies")},
    )
