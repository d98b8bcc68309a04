"""Which rows, and sums of two rows, a residual structure needs, and their coefficients in R^-1.

See :mod:`skmixed.linalg.mixture` for what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from skmixed.linalg.mixture import ExtendedRows

# Share of a row's residual variance beside those of its group that the sums of squares, which grow
# by its inverse, have no digits for.
_NOTHING_LEFT = 1e-12


@dataclass(frozen=True)
class Coefficients:
    """What the likelihood reads of R(rho).

    Attributes
    ----------
    c, dc : (K,) and (p, K)
        Coefficients of the cells and their derivatives by rho.
    log_det, dlog_det : float and (p,)
        log |R|.
    exact : callable or None
        Gives coefficients (p, p, K) of dR^-1_j R dR^-1_k, where it is a combination of the cells'
        matrices.
    expected : callable or None
        Gives tr(R^-1 dR_j R^-1 dR_k) (p, p) where it is none.
    """

    c: np.ndarray
    dc: np.ndarray
    log_det: float
    dlog_det: np.ndarray
    exact: Callable | None = None
    expected: Callable | None = None


@dataclass(frozen=True, eq=False)
class Plain:
    """Independent rows: one cell for every class, ``counts`` (U,) rows in it."""

    counts: np.ndarray

    @classmethod
    def of(cls, classes, n_classes, frequencies):
        counts = np.bincount(classes, frequencies, n_classes)
        n = len(classes)
        rows = ExtendedRows(np.arange(n), np.full(n, -1), classes, frequencies, n_classes)
        return cls(counts), rows

    def by_class(self, forms, n_classes):
        """(sums of squares (U,), numbers of rows (U,)) of every class, from the cells' forms."""
        return forms, self.counts

    def coefficients(self, correlation, rho, log_s, slopes):
        c = np.exp(-2.0 * log_s)
        n = self.counts
        return Coefficients(
            c,
            -2.0 * slopes * c,
            float(2.0 * n @ log_s),
            2.0 * slopes @ n,
            lambda: 4.0 * slopes[:, None] * slopes * c,
        )


@dataclass(frozen=True, eq=False)
class Chains:
    """Rows in the order of their times: first ones, and pairs of neighbours.

    ``first`` (U,): number of first rows by class. Pairs have cells of gap and both classes, each
    with three coefficients: of the later row, the earlier row and their sum.
    """

    first: np.ndarray
    gaps: np.ndarray
    earlier: np.ndarray
    later: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, codes, times, order, classes, n_classes, frequencies):
        same = np.diff(codes[order]) == 0
        a, b = order[:-1][same], order[1:][same]
        first = order[np.append(True, ~same)]
        gaps, gap = _distinct(times[b] - times[a])
        unique, cell = _distinct((gap * n_classes + classes[a]) * n_classes + classes[b])
        unique, later = np.divmod(unique, n_classes)
        unique, earlier = np.divmod(unique, n_classes)
        m, n = len(unique), np.ones(len(codes)) if frequencies is None else frequencies
        rows = ExtendedRows(
            np.concatenate([first, b, a, a]),
            np.concatenate([np.full(len(first) + 2 * len(a), -1), b]),
            np.concatenate(
                [classes[first], *(n_classes + part * m + cell for part in range(3))]
            ).astype(np.intp),
            None if frequencies is None else n[np.concatenate([first, b, a, a])],
            n_classes + 3 * m,
        )
        own = cls(
            np.bincount(classes[first], n[first], n_classes),
            gaps[unique],
            earlier,
            later,
            np.bincount(cell, n[a], m),
        )
        return own, rows

    def by_class(self, forms, n_classes):
        m = len(self.gaps)
        later = np.bincount(self.later, forms[n_classes : n_classes + m], n_classes)
        return (
            forms[:n_classes] + later,
            self.first + np.bincount(self.later, self.counts, n_classes),
        )

    def coefficients(self, correlation, rho, log_s, slopes):
        phi, dphi = correlation.phi(rho, self.gaps)
        left = 1.0 - phi**2
        if not (left > _NOTHING_LEFT).all():
            return None
        n = self.counts
        at = len(slopes) - 1  # the correlation's parameter comes last
        a, b = self.earlier, self.later
        w, x, y = np.exp(-2 * log_s), np.exp(-log_s[a]), np.exp(-log_s[b])
        cross = -phi / left * x * y
        last, early = y**2 / left, phi**2 / left * x**2
        both = slopes[:, a] + slopes[:, b]
        dcross, dlast, dearly = -both * cross, -2 * slopes[:, b] * last, -2 * slopes[:, a] * early
        dcross[at] -= (1 + phi**2) / left**2 * dphi * x * y
        moved = 2 * phi / left**2 * dphi
        dlast[at] += moved * y**2
        dearly[at] += moved * x**2
        dc = np.concatenate([-2 * slopes * w, dlast - dcross, dearly - dcross, dcross], axis=1)
        dlog_det = 2 * slopes @ self.first + 2 * slopes[:, b] @ n
        dlog_det[at] += -2 * n @ (phi * dphi / left)

        def expected():
            return self._expected(slopes, phi, dphi, left)

        return Coefficients(
            np.concatenate([w, last - cross, early - cross, cross]),
            dc,
            float(2 * self.first @ log_s + n @ (2 * log_s[b] + np.log(left))),
            dlog_det,
            expected=expected,
        )

    def _expected(self, slopes, phi, dphi, left):
        """tr(R^-1 dR_j R^-1 dR_k) from C^-1, which has entries beside its diagonal alone."""
        n, at, p = self.counts, len(slopes) - 1, len(slopes)
        expected = np.zeros((p, p))
        s, t = slopes[:, self.earlier], slopes[:, self.later]
        both = s + t
        inner = (slopes * self.first) @ slopes.T + (t * (n / left)) @ t.T
        inner += (s * (n * phi**2 / left)) @ s.T
        off = (s * (n * phi**2 / left)) @ t.T
        expected += 2 * (inner - off - off.T)
        expected += 2 * ((slopes * self.first) @ slopes.T + (t * n) @ t.T)
        expected[at, at] = 2 * n @ ((1 + phi**2) * dphi**2 / left**2)
        with_correlation = -2 * both @ (n * phi * dphi / left)
        with_correlation[at] = 0.0
        expected[at] += with_correlation
        expected[:, at] += with_correlation
        return expected


@dataclass(frozen=True, eq=False)
class Patterns:
    """Groups by the visits that they have: cells of every visit, and of every pair of them.

    Attributes
    ----------
    visits, classes : tuple of (v,)
        Of every pattern.
    counts : (P,)
        Groups with it.
    """

    visits: tuple
    classes: tuple
    counts: np.ndarray

    @classmethod
    def of(cls, codes, visits, classes, n_levels, n_visits, frequencies):
        table = np.full((n_levels, n_visits), -1)
        table[codes, visits] = np.arange(len(codes))
        table = table[(table >= 0).any(axis=1)]
        key = np.where(table >= 0, classes[table], -1)
        found, pattern = np.unique(key, axis=0, return_inverse=True)
        pattern = pattern.ravel()
        first, second, cell, begin = [], [], [], 0
        own_visits, own_classes, counts = [], [], []
        for k, signature in enumerate(found):
            at = np.flatnonzero(signature >= 0)
            rows = table[pattern == k][:, at]
            own_visits.append(at)
            own_classes.append(signature[at])
            weights = 1.0 if frequencies is None else frequencies[rows[:, 0]]
            counts.append(float(np.sum(weights * np.ones(len(rows)))))
            i, j = np.triu_indices(len(at), 1)
            first += [rows.T.ravel(), rows[:, i].T.ravel()]
            second += [np.full(rows.size, -1), rows[:, j].T.ravel()]
            cell.append(begin + np.repeat(np.arange(len(at) + len(i)), len(rows)))
            begin += len(at) + len(i)
        first = np.concatenate(first)
        extended = ExtendedRows(
            first,
            np.concatenate(second),
            np.concatenate(cell),
            None if frequencies is None else frequencies[first],
            begin,
        )
        return cls(tuple(own_visits), tuple(own_classes), np.array(counts)), extended

    def by_class(self, forms, n_classes):
        total, counts, begin = np.zeros(n_classes), np.zeros(n_classes), 0
        for classes, n in zip(self.classes, self.counts, strict=True):
            v = len(classes)
            np.add.at(total, classes, forms[begin : begin + v])
            np.add.at(counts, classes, n)
            begin += v * (v + 1) // 2
        return total, counts

    def coefficients(self, correlation, rho, log_s, slopes):
        S, dS = correlation.covariance(rho)
        p, own = len(slopes), len(slopes) - len(rho)
        c, dc, moves = [], [], []
        log_det, dlog_det = 0.0, np.zeros(p)
        for visits, classes, n in zip(self.visits, self.classes, self.counts, strict=True):
            at, s = np.ix_(visits, visits), np.exp(log_s[classes])
            R = s[:, None] * S[at] * s
            dR = (slopes[:, classes, None] + slopes[:, None, classes]) * R
            dR[own:] += s[:, None] * dS[(slice(None), *at)] * s
            try:
                L = np.linalg.cholesky(R)
            except np.linalg.LinAlgError:
                return None
            if not (L.diagonal() ** 2 > _NOTHING_LEFT * R.diagonal()).all():
                return None
            half = np.linalg.inv(L)
            M = half.T @ half
            moved = M @ dR
            log_det += 2 * n * float(np.log(L.diagonal()).sum())
            dlog_det += n * np.einsum("jvv->j", moved)
            back = moved @ M
            moves.append((moved, back))
            c.append(_by_cell(M))
            dc.append(-_by_cell(back))

        def exact():
            own = [_by_cell(moved[:, None] @ back) for moved, back in moves]
            return np.concatenate(own, axis=-1)

        return Coefficients(
            np.concatenate(c), np.concatenate(dc, axis=-1), log_det, dlog_det, exact
        )

    def linear_forms(self, S, grams):
        """Forms in the entries of R over visits, by column of its lower triangle.

        Parameters
        ----------
        S : (V, V)
        grams : (K, r, r)
            X'X of all cells.

        Returns
        -------
        P, Q, tt : (E, r, r), (E, E, r, r), (E, E)
            -X'R^-1 G R^-1 X, the symmetric part of X'R^-1 G R^-1 G R^-1 X, and the trace of
            R^-1 G R^-1 G.
        """
        a, b = _above(len(S))
        rows = np.concatenate([np.arange(len(S)), b])
        columns = np.concatenate([np.arange(len(S)), a])
        E, r, begin = len(rows), grams.shape[1], 0
        P, Q, tt = np.zeros((E, r, r)), np.zeros((E, E, r, r)), np.zeros((E, E))
        for visits, n in zip(self.visits, self.counts, strict=True):
            v = len(visits)
            place = np.full(len(S), -1)
            place[visits] = np.arange(v)
            known = np.flatnonzero((place[rows] >= 0) & (place[columns] >= 0))
            i, j, at = place[rows[known]], place[columns[known]], np.arange(len(known))
            G = np.zeros((len(known), v, v))
            G[at, i, j] = G[at, j, i] = 1.0
            M = np.linalg.inv(S[np.ix_(visits, visits)])
            moved = M @ G
            back = moved @ M
            own = grams[begin : begin + v * (v + 1) // 2]
            P[known] -= np.tensordot(_by_cell(back), own, 1)
            Q[np.ix_(known, known)] += np.tensordot(_by_cell(moved[:, None] @ back), own, 1)
            tt[np.ix_(known, known)] += n * np.einsum("jvw,kwv->jk", moved, moved)
            begin += len(own)
        return P, Q, tt

    def observed_pairs(self, n_visits):
        """Number of groups that have each pair of visits (V, V)."""
        found = np.zeros((n_visits, n_visits))
        for visits, n in zip(self.visits, self.counts, strict=True):
            found[np.ix_(visits, visits)] += n
        return found

    def moments(self, forms, n_visits):
        """Mean products (V, V) of residuals from the forms (K,) of all cells; NaN for no pair."""
        total, begin = np.zeros((n_visits, n_visits)), 0
        for visits in self.visits:
            i, j = np.triu_indices(len(visits), 1)
            own = forms[begin : begin + len(visits)]
            both = forms[begin + len(visits) : begin + len(visits) + len(i)]
            cross = np.diag(own)
            cross[i, j] = cross[j, i] = (both - own[i] - own[j]) / 2
            total[np.ix_(visits, visits)] += cross
            begin += len(visits) + len(i)
        with np.errstate(invalid="ignore"):
            return total / self.observed_pairs(n_visits)


def _distinct(values):
    """(distinct values in order, place of each among them); whole numbers by a table."""
    if not len(values):
        return values, np.zeros(0, dtype=np.intp)
    low, high = values.min(), values.max()
    if high - low > 4 * len(values) or (values != np.floor(values)).any():
        found, place = np.unique(values, return_inverse=True)
        return found, place.ravel()
    shifted = (values - low).astype(np.intp)
    seen = np.flatnonzero(np.bincount(shifted))
    table = np.zeros(int(high - low) + 1, dtype=np.intp)
    table[seen] = np.arange(len(seen))
    return (seen + low).astype(values.dtype), table[shifted]


@lru_cache
def _above(v):
    return np.triu_indices(v, 1)


def _by_cell(M):
    """Coefficients of the visits, then of the pairs, of symmetric matrices M (..., v, v)."""
    i, j = _above(M.shape[-1])
    M = (M + np.swapaxes(M, -1, -2)) / 2
    own = 2 * np.einsum("...vv->...v", M) - M.sum(axis=-1)
    return np.concatenate([own, M[..., i, j]], axis=-1)
