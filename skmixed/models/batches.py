"""Linear mixed models of rows that come in batches: their sums, and the objective made of them.

Rows are added up in columns that are nearly orthonormal already (`Coordinates`, found from some
thousand rows). What from_design would have found in all rows at once follows from the sums by
linear changes of small matrices, so that both lead to the same numbers but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.linalg.iterative import IterativeSystem
from skmixed.linalg.system import Effects, Group, Sums, System
from skmixed.models.batch_coordinates import refined_layout
from skmixed.models.deviance import CHAIN_FROM, ROUNDING, ProfiledDeviance, iterates
from skmixed.models.moments import RowMoments
from skmixed.models.response import row_weights, sum_log
from skmixed.models.search import outside_by_moments
from skmixed.models.source import Source, unordered_checksum
from skmixed.models.stochastic import thinned_rows


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
    layout, left = refined_layout(coordinates.layout, design, sums, total)
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
