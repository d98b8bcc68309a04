"""Separation: fixed effects along which the likelihood never stops growing, taken to the limit.

Rows that a direction of recession moves have a likelihood of 1 in the limit, whatever the random
effects are: they drop out, and everything that the other rows determine is estimated from them.
What they do not determine, the separated directions, gets the shortest movement that takes every
row that was dropped to where its mean is at the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.optimize import nnls

from skmixed.linalg.rank import ColumnBasis, RowBlocks
from skmixed.linalg.system import RelatedGroup
from skmixed.models.glmm import GLMMFit, Problem, approximation
from skmixed.models.laplace import LaplaceDeviance
from skmixed.models.linear import outside_row_space
from skmixed.models.recession import rows_in_recession
from skmixed.models.stochastic_laplace import IterativeLaplace

# Share of the largest effect of a direction below which a coefficient does not take part.
_INVOLVED = 1e-6
# Rows taken in at a time, and what they may lack, in the search for the shortest movement.
_MORE_ROWS, _LACKING = 20, 1e-9
_MAX_ROUNDS = 1000
# Probability that counts as certain where random effects take part in a separation.
_CERTAIN = 1e-3


@dataclass(frozen=True)
class Separation:
    """The rows that separate, and the problem that the others leave.

    Attributes
    ----------
    whole, remaining : Problem
        Of all rows, and of those that stay; X of the latter has the columns that ``whole`` kept.
    dropped : (n,) bool
    side : (n,)
        See :meth:`skmixed.families.Family.one_sided`.
    design : Design
    """

    whole: Problem
    remaining: Problem
    dropped: np.ndarray
    side: np.ndarray
    design: object

    @classmethod
    def find(cls, problem, design):
        """The separation of a problem, None if nothing separates."""
        rows, basis = problem.objective.rows, problem.basis
        side = rows.family.one_sided(rows.y, rows.w)
        if not side.any():
            return None
        X = design.X if basis.rank == design.X.shape[1] else design.X[:, basis.kept]
        at = basis.intercept
        at = None if at is None else int(np.searchsorted(basis.kept, at))
        side[rows.w == 0] = np.nan
        moved = rows_in_recession(X, rows.Q, side, at)
        if moved is None:
            return None
        dropped = moved | np.isnan(side)
        remaining = _remaining(problem, replace(design, X=X, intercept=at), ~dropped)
        movement = SeparatedBasis.of(basis, remaining.basis).movement(X[moved])
        if not movement.any(axis=1).all():  # it was rounding
            return None
        return cls(problem, remaining, dropped, side, design)

    def complete(self, fit):
        """The fit of all rows from that of the remaining ones."""
        basis = SeparatedBasis.of(self.whole.basis, fit.basis)
        own = {f.name: getattr(fit, f.name) for f in fields(fit)}
        own |= {
            "basis": basis,
            "gamma": np.concatenate([fit.gamma, self._movement(fit, basis)]),
            "n_obs": self.whole.n_obs,
            "n_params": fit.n_params + basis.rank - fit.rank,
            "source": self.whole.source,
        }
        return SeparatedFit(**own, known=fit)

    def _movement(self, fit, basis):
        """Coefficients of the separated directions."""
        moved = self.dropped & np.isfinite(self.side)
        rows, side = self.whole.objective.rows, self.side[moved]
        X = self.design.X[moved][:, basis.kept]
        eta = fit.basis.orthonormal(X) @ fit.gamma
        if rows.offset is not None:
            eta = eta + rows.offset[moved]
        eta = eta + fit.random_part([term.of_rows(moved) for term in self.design.random])
        need = rows.family.saturation(side) - side * eta
        return shortest_movement(side[:, None] * basis.movement(X), need)

    @property
    def unbounded_columns(self):
        """Indices of the columns whose coefficients take part in a separated direction."""
        known = self.remaining.basis
        return self.whole.basis.kept[SeparatedBasis.of(self.whole.basis, known).unbounded]

    def names(self):
        """The categories that are separated if that is all there is, else the columns."""
        found, covered = [], np.zeros(len(self.dropped), dtype=bool)
        for term, columns in self.design.term_slices.items():
            for name, rows in self._categories(term, columns):
                if self.dropped[rows].all():
                    found.append(name)
                    covered |= rows
        if np.array_equal(covered, self.dropped):
            return list(dict.fromkeys(found))
        columns, constant = self.unbounded_columns, self.design.intercept
        return [self.design.names[j] for j in columns if j != constant or len(columns) == 1]

    def _categories(self, term, columns):
        """Yield the name and the rows (mask) of every category, if the columns are dummies."""
        block = self.design.X[:, columns]
        if not block.shape[1] or columns.start == self.design.intercept:
            return
        if not np.isin(block, (0.0, 1.0)).all() or (block.sum(axis=1) > 1).any():
            return
        names = self.design.names[columns]
        for name, column in zip(names, block.T, strict=True):
            if column.any():
                yield name, column == 1
        others = ~block.any(axis=1)
        if others.any():
            yield term if term in names else f"the reference category of {term}", others


def _remaining(problem, design, stay):
    """The problem of the rows that stay."""
    rows = problem.objective.rows
    if not stay.any():
        return _nothing(problem)
    design = replace(
        design,
        X=design.X[stay],
        random=tuple(term.of_rows(stay) for term in design.random),
        frequencies=None if rows.frequencies is None else rows.frequencies[stay],
        offset=None if rows.offset is None else rows.offset[stay],
    )
    own = rows.y[stay], rows.w[stay], rows.family, problem.n_agq
    return approximation(design, *own, solver=problem.solver)


def _nothing(problem):
    """The problem of rows that do not count, with no fixed effects."""
    objective, basis = problem.objective, problem.basis
    rows = replace(
        objective.rows,
        prior=None,
        Q=objective.rows.Q[:, :0],
        frequencies=np.zeros(len(objective.rows.y)),
        pattern=objective.rows.pattern.without_fixed,
    )
    none = np.zeros(0, dtype=np.intp)
    basis = ColumnBasis(none, np.ones(basis.rank, dtype=bool), np.zeros((basis.rank, 0)),
                        np.zeros((0, 0)), none, none, np.zeros((0, 0)), np.zeros(basis.rank),
                        np.zeros(basis.rank, dtype=bool), None)  # fmt: skip
    laplace = IterativeLaplace if problem.iterates else LaplaceDeviance
    objective = laplace(rows, objective.layout)
    return replace(problem, objective=objective, basis=basis, n_obs=0.0)


@dataclass(frozen=True)
class SeparatedBasis(ColumnBasis):
    """A basis whose last directions are the separated ones, zero in all rows that remain.

    ``known`` is the basis of the remaining rows, over the columns that are kept.
    """

    known: ColumnBasis

    @classmethod
    def of(cls, whole, known):
        """The basis of all rows, split by what the remaining rows determine."""
        own = {f.name: getattr(whole, f.name) for f in fields(ColumnBasis)}
        own["to_coef"] = np.zeros((whole.rank, whole.rank))
        own["to_coef"][known.kept, : known.rank] = known.to_coef
        own["to_coef"][:, known.rank :] = _directions(whole, known)
        return cls(**own, known=known)

    def orthonormal(self, X):
        columns = X[:, self.kept]
        return np.hstack([self.known.orthonormal(columns), self.movement(columns)])

    def movement(self, columns):
        """Movement (n, k) of rows of the kept columns by the separated directions."""
        if not self.known.rank:
            return _triangular(self, columns)
        return outside_row_space(self.known, RowBlocks(columns))

    @property
    def unbounded(self):
        """Mask (r,) of the coefficients that the separated directions change."""
        directions = np.abs(self.to_coef[:, self.known.rank :])
        effect = directions * self.size[self.kept][:, None]
        constant = self.kept == self.intercept
        largest = effect[~constant].max(axis=0, initial=0.0)
        effect[constant] = directions[constant]
        return (effect > _INVOLVED * largest).any(axis=1)


def _triangular(basis, columns):
    """Orthonormal coordinates of all rows, where the remaining ones determine nothing."""
    return ColumnBasis.orthonormal(replace(basis, kept=np.arange(basis.rank)), columns)


def _directions(whole, known):
    """Coefficients (r, k): one more column each, less what it is on the remaining rows."""
    if not known.rank:
        return whole.to_coef
    lost = np.flatnonzero(known.aliased)
    directions = np.zeros((whole.rank, len(lost)))
    directions[lost, np.arange(len(lost))] = 1.0
    directions[known.kept] = -known.combinations[lost].T
    return directions


@dataclass(frozen=True)
class SeparatedFit(GLMMFit):
    """A fit in the limit: what the remaining rows determine is that of ``known``."""

    known: GLMMFit | None = None

    _folded = None  # its basis is not linear in the columns alone

    @property
    def relative_vcov(self):
        """That of the remaining rows; without bound where a separated direction takes part."""
        at, unbounded = self.basis.known.kept, self.basis.unbounded
        vcov = np.zeros((self.rank, self.rank))
        vcov[np.ix_(at, at)] = self.known.relative_vcov
        vcov[unbounded] = vcov[:, unbounded] = np.nan
        vcov[unbounded, unbounded] = np.inf
        return vcov

    @property
    def relative_prediction_variance(self):
        return self.known.relative_prediction_variance

    def keeping_factor(self):
        return replace(self, keep_factor=True, known=self.known.keeping_factor())

    @property
    def whitened(self):
        return np.append(self.known.whitened, np.zeros(self.rank - self.known.rank))

    def unscaled(self, K):
        """As for any fit; infinite for functions that a separated direction takes part in."""
        L, r = self.in_basis(K), self.known.rank
        half = np.zeros(L.shape)
        half[:, :r] = self.known.unscaled_on_basis(L[:, :r])
        moved = np.abs(L[:, r:]).max(axis=1, initial=0.0) > _INVOLVED * np.abs(L).max(axis=1)
        half[moved] = np.inf
        return half

    def _kept(self, X):
        """The kept columns of rows with all columns, or with these alone."""
        return X if X.shape[1] == self.rank else X[:, self.basis.kept]

    def mean_std(self, X, random):
        columns = self._kept(X)
        std = self.known.mean_std(columns, random)
        moved = outside_row_space(self.basis.known, RowBlocks(columns)).any(axis=1)
        return np.where(moved, np.inf, std)

    def mode_variances(self, X, random):
        """Those of the remaining rows: the others carry no information."""
        return self.known.mode_variances(self._kept(X), random)


def separates_beside_prior(problem):
    """Whether outcomes are separated along directions that the prior says nothing of."""
    rows = problem.objective.rows
    flat = rows.prior.flat
    side = rows.family.one_sided(rows.y, rows.w)
    if not flat.shape[1] or not side.any():
        return False
    side[rows.w == 0] = np.nan
    Q = rows.Q @ flat
    return rows_in_recession(Q, Q, side) is not None


def shortest_movement(A, need):
    """t (k,) with A t >= need and the least sum of squares of A t.

    The least-distance program of Lawson and Hanson (1974, chapter 23) on the rows that bind.
    """
    R = np.linalg.qr(A, mode="r")
    G = A @ np.linalg.inv(R)
    length = np.sqrt(np.einsum("ij,ij->i", G, G))
    G, need = G / length[:, None], need / length
    size = max(need.max(), 0.0)
    x, used = np.zeros(G.shape[1]), np.zeros(0, dtype=np.intp)
    for _ in range(_MAX_ROUNDS):
        lack = need - G @ x
        worst = np.argsort(-lack, kind="stable")[:_MORE_ROWS]
        worst = worst[lack[worst] > _LACKING * size]
        if not len(np.setdiff1d(worst, used)):
            break
        used = np.union1d(used, worst)
        x = size * _least_distance(G[used], need[used] / size)
    return np.linalg.solve(R, x)


def _least_distance(G, h):
    """The shortest x with G x >= h."""
    target = np.zeros(G.shape[1] + 1)
    target[-1] = 1.0
    E = np.vstack([G.T, h])
    rest = E @ nnls(E, target, maxiter=100 * (len(h) + 1))[0] - target
    return -rest[:-1] / rest[-1]


def separates_jointly(problem, fit):
    """Whether fixed and random effects together put every row on its side, beyond any doubt.

    As all effects and their standard deviations grow together the likelihood then tends to a
    limit, that without noise: what the search ends at says more of the approximation than of the
    data. Beyond doubt: a level one standard deviation away is predicted with certainty.
    """
    objective, rows = problem.objective, problem.objective.rows
    if not rows.groups or not problem.n_obs:
        return False
    side = rows.family.one_sided(rows.y, rows.w)
    eta = rows.Q @ fit.gamma + rows.random_part(fit.group_modes)
    if not np.all((side * eta > 0)[rows.w > 0]):
        return False
    factors = objective.layout.factors(fit.optimum.theta)
    spread = [g.z @ T for g, T in zip(rows.groups, factors, strict=True)]
    variance = sum(np.mean(np.sum(part**2, axis=1)) for part in spread)
    return bool(rows.family.mean(-np.sqrt(variance)) < _CERTAIN)


def one_sided_groups(rows):
    """Indices of groups in which every level has one outcome only, repeatedly."""
    if rows.family.name != "binomial":
        return []
    count = 1.0 if rows.frequencies is None else rows.frequencies
    found = []
    for g, group in enumerate(rows.groups):
        if isinstance(group, RelatedGroup):  # what relatives have is known of a level too
            continue
        successes = np.bincount(group.codes, count * rows.y, group.n_levels)
        trials = np.bincount(group.codes, count * rows.w, group.n_levels)
        one_sided = np.all((successes == 0) | (successes == trials))
        if one_sided and trials.sum() > np.count_nonzero(trials):
            found.append(g)
    return found
