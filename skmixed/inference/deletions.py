"""What leaving out a level's rows does where these rows share random effects with others.

With B = V^-1 and D the rows of one level, the inverse covariance of the other rows is what is left
of B after elimination of D, so that

    X'V^-1 X without D = X'B X - (B X)_D' B_DD^-1 (B X)_D,    and e in the place of the second X.

B X and B e of all rows follow from one solution of the mixed-model equations. The entries of B_DD
are those of 1 - z'S z between rows of D, S the conditional covariance of the random effects over
sigma^2, for which every row of D is one right-hand side.
"""

from __future__ import annotations

import numpy as np

from skmixed.linalg.system import Effects, Group, RelatedGroup

# Right-hand sides and numbers held at a time.
_COLUMNS, _CHUNK = 512, 1 << 24


def deletion_sums(observed, codes, n_levels):
    """(scores (J, r), sums (J, r, r)) of every level, as :class:`ClusterSums` has them.

    Parameters
    ----------
    observed : ObservedRows
        Of a model with its factor and cross-products.
    codes : (n,) levels of the rows
    n_levels : int
    """
    rows = _Rows(observed)
    x, e = rows.whitened(), rows.residuals()
    scores = np.zeros((n_levels, x.shape[1]))
    sums = np.zeros((n_levels, x.shape[1], x.shape[1]))
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=n_levels)
    for first, last in _parts(counts):
        begin = counts[:first].sum()
        own = order[begin : begin + counts[first:last].sum()]
        place = np.repeat(np.arange(last - first), counts[first:last])
        within = np.arange(len(own)) - (np.cumsum(counts[first:last]) - counts[first:last])[place]
        size = (last - first, int(counts[first:last].max(initial=0)))
        B = np.zeros((*size, size[1])) + np.eye(size[1])
        both = np.zeros((*size, x.shape[1] + 1))
        both[place, within] = np.column_stack([x[own], e[own]])
        for i, j, values in rows.covariances(own, place):
            B[place[i], within[i], within[j]] -= values
        left = both[..., :-1].swapaxes(1, 2) @ np.linalg.solve(B, both)
        sums[first:last], scores[first:last] = left[..., :-1], left[..., -1]
    return scores, sums


def _parts(counts):
    """Ranges of levels whose matrices are held at a time."""
    first = 0
    while first < len(counts):
        last, most = first + 1, counts[first]
        while last < len(counts):
            most = max(most, counts[last])
            if (last + 1 - first) * most**2 > _CHUNK:
                break
            last += 1
        yield first, last
        first = last


def _like(group, term, z):
    """Group of rows with covariates z whose levels are those of another group."""
    rows = Group(term.codes, z, term.n_levels)
    return rows.related(group.loadings) if isinstance(group, RelatedGroup) else rows


class _Rows:
    """The rows in the engine's coordinates, each times the root of its weight."""

    def __init__(self, observed):
        self.observed, self.factor = observed, observed.fit.factor
        self.root = np.sqrt(observed.weights * observed.counts)
        by_group: dict[int, list] = {}
        codes = {}
        for term, at in zip(observed.random, observed.fit.layout.terms, strict=True):
            codes[at.group] = term
            by_group.setdefault(at.group, []).append(at.covariates(term.z))
        self.groups = [
            _like(group, codes[g], np.hstack(by_group[g]) * self.root[:, None])
            for g, group in enumerate(observed.fit.layout.groups)
        ]

    def whitened(self):
        """W^1/2 V^-1 X (n, r) less the weights: X - Z S Z'X for weighted rows."""
        X = self.observed.whitened() * self.root[:, None]
        columns = [np.stack([g.sums(x) for x in X.T], axis=1) for g in self.groups]
        moved = self._solve(columns, X.shape[1])
        for group, b in zip(self.groups, moved, strict=True):
            X = X - np.column_stack([group.values(b[:, k]) for k in range(X.shape[1])])
        return X

    def residuals(self):
        """V^-1 (y - X beta) of weighted rows: what fixed and random effects leave."""
        return self.root * (self.observed.y - self.observed.eta)

    def covariances(self, own, place):
        """(i, j, z_i'S z_j) of pairs of the rows ``own`` at equal places, some j at a time."""
        ends = np.append(np.flatnonzero(np.diff(place)) + 1, len(place))
        begins = np.concatenate([[0], ends[:-1]])
        for lo in range(0, len(own), _COLUMNS):
            columns = np.arange(lo, min(lo + _COLUMNS, len(own)))
            b = self._solve([self._units(g, own[columns]) for g in self.groups], len(columns))
            # every pair of a column with a row of its level
            begin, count = begins[place[columns]], (ends - begins)[place[columns]]
            k = np.repeat(np.arange(len(columns)), count)
            i = np.arange(len(k)) - np.repeat(np.cumsum(count) - count, count)
            i += np.repeat(begin, count)
            total = 0.0
            for group, x in zip(self.groups, b, strict=True):
                rows, x = own[i], group.at_levels(x)
                total = total + np.einsum("sp,ps->p", x[:, k, group.codes[rows]], group.z[rows])
            yield i, columns[k], total

    def _units(self, group, rows):
        """Z'(rows of the identity) (s, k, l)."""
        units = np.zeros((group.n_columns, len(rows), group.plain.n_levels))
        units[:, np.arange(len(rows)), group.codes[rows]] = group.z[rows].T
        return group.mixed(units)

    def _solve(self, random, k):
        """S times vectors over the random effects: a list of (s, k, l)."""
        v = Effects(random, np.zeros((self.observed.fit.rank, k)))
        return self.factor.solve(v, fixed=False)[0].random
