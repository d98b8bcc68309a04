"""Which rows types I, II and III test for a term, whatever coding the model was fitted with.

The *full* design has a column for every level of every factor, and for every combination of
levels in an interaction. Its inner products decide everything: kept treatment-coded columns X are
a subset of its columns, and X_full = X C. A term contains another when it has all of its factors,
at least one more, and the same covariates.

- Type I: reductions in the sum of squares as terms enter; the rows are those of R in X'X = R'DR.
- Type II: each term after all that do not contain it.
- Type III: functions that involve a term and terms containing it, orthogonal to the functions
  that involve the latter alone: with no empty cells, comparisons of unweighted marginal means.

References
----------
Goodnight (1980), Tests of hypotheses in fixed effects linear models, Communications in Statistics
A9, 167-180. SAS/STAT User's Guide, The four types of estimable functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from skmixed.design.full import FullTerm

# A column whose part outside earlier ones is below this share of its length depends on them.
_DEPENDENT = 1e-10
# And one below this share of its length with what an intercept takes of it is rounding.
_DIGITS = 1e-14
# Entries of C below this are rounding: they are sums of a few integers.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class TermStructure:
    """Terms of a fixed part over their full design, reduced to treatment-coded columns.

    Attributes
    ----------
    terms : tuple of FullTerm
        In the order of the formula; the intercept, if any, is in none of them.
    kept : (p,)
        Columns of the full design that are the treatment-coded X.
    gram : (p, p)
        X'X, rows counted by sample weight and not by prior weight.
    C : (p, p_full)
        X_full = X C.
    """

    terms: tuple[FullTerm, ...]
    kept: np.ndarray
    gram: np.ndarray
    C: np.ndarray

    @classmethod
    def build(cls, terms, root):
        """The structure for the full design (n, p_full), or for any root A of its A'A.

        Rows count as often as their sample weights say, prior weights apart.
        """
        inside = np.concatenate([t.columns for t in terms]) if terms else np.zeros(0, dtype=int)
        first = np.setdiff1d(np.arange(root.shape[1]), inside).tolist()
        order = list(first)
        for term in terms:
            order += [*term.columns[~term.base], *term.columns[term.base]]
        kept, R = _independent_columns(root, order, len(first))
        own = R[:, kept]
        C = solve_triangular(own, R) if kept else R
        C[np.abs(C) < _ROUNDING] = 0.0
        return cls(tuple(terms), np.array(kept, dtype=int), own.T @ own, C)

    def own(self, term):
        """Positions of a term's columns among the kept ones."""
        return np.flatnonzero(np.isin(self.kept, term.columns))

    def containing(self, term):
        return [other for other in self.terms if other.contains(term)]

    def rows(self, term, kind) -> np.ndarray:
        """Rows L (d, p) on the kept columns that type ``kind`` (1, 2 or 3) tests for a term."""
        if len(self.terms) == 1 or kind == 1:
            return self._type_1(term)
        return self._type_2(term) if kind == 2 else self._type_3(term)

    def in_columns(self, L, C_user) -> np.ndarray:
        """Rows on the kept columns as rows on other columns X_user with X_full = X_user C_user."""
        return np.linalg.lstsq(C_user.T, (L @ self.C).T, rcond=_DEPENDENT)[0].T

    def _type_1(self, term):
        own = self.own(term)
        before = np.eye(len(self.kept))[:, : own[0]] if len(own) else np.zeros((0, 0))
        return self._after(before, own)

    def _type_2(self, term):
        own, above = self.own(term), self.containing(term)
        before = self.C[:, self._outside([term, *above])]
        rows = self._after(before, own)
        whole = not above and len(rows) == len(own)
        return np.eye(len(self.kept))[own] if whole else rows

    def _after(self, before, own):
        """Rows v'X / v'v for what each own column v adds to the columns X before and its kind."""
        if not len(own):
            return np.zeros((0, len(self.kept)))
        root = _root(self.gram)
        Q = _orthonormal(root @ before)
        rows = []
        for column in root[:, own].T:
            v = column - Q @ (Q.T @ column)
            v -= Q @ (Q.T @ v)
            length = np.linalg.norm(v)
            if length > _DEPENDENT * np.linalg.norm(column):
                rows.append(v @ root / length**2)
                Q = np.column_stack([Q, v / length])
        return np.array(rows).reshape(-1, len(self.kept))

    def _type_3(self, term):
        own, above = self.own(term), self.containing(term)
        higher = np.concatenate([self.own(t) for t in above]) if above else own[:0]
        unit = np.eye(len(self.kept))
        rows, shared = unit[own], unit[higher]
        forbidden = self._outside([term, *above])
        if self.C[np.ix_(np.r_[own, higher], forbidden)].any():
            # columns of other terms were left out for these: few functions are the term's own
            rows, shared = self._free(forbidden), self._free(self._outside(above))
        if not len(rows) or not len(shared):
            return rows
        share = np.linalg.lstsq((shared @ self.C).T, (rows @ self.C).T, rcond=_DEPENDENT)[0].T
        share[np.abs(share) < _ROUNDING] = 0.0
        rows = rows - share @ shared
        return rows if shared.shape == (len(higher), len(unit)) else _orthonormal(rows.T).T

    def _outside(self, terms):
        """Columns of the full design in none of the terms."""
        inside = [t.columns for t in terms]
        return np.setdiff1d(np.arange(self.C.shape[1]), np.concatenate(inside) if inside else [])

    def _free(self, forbidden):
        """Rows l (d, p) with l C = 0 on the forbidden columns of the full design."""
        size = np.sqrt(self.gram.diagonal())
        scaled = self.C[:, forbidden] * size[:, None]
        norm = np.linalg.norm(scaled, axis=0)
        scaled = scaled[:, norm > 0] / norm[norm > 0]
        U, s, _ = np.linalg.svd(scaled)
        rank = int((s > _DEPENDENT * s.max(initial=0.0)).sum())
        return U[:, rank:].T * size


def _independent_columns(root, order, n_first):
    """Columns that do not depend on earlier ones in ``order``, and R (r, p) with R'R = root'root.

    The first columns, an intercept, are taken out before the others are compared with what is
    left of them, so that their shift does not matter.
    """
    left, kept, R = np.array(root), [], []
    raw = size = np.linalg.norm(left, axis=0)
    for at, j in enumerate(order):
        if at == n_first:
            size = np.linalg.norm(left, axis=0)
        length = np.linalg.norm(left[:, j])
        if length > max(_DEPENDENT * size[j], _DIGITS * raw[j]):
            q = left[:, j] / length
            row = q @ left
            left -= np.multiply.outer(q, row)
            again = q @ left  # what rounding has left of the direction
            left -= np.multiply.outer(q, again)
            kept.append(j)
            R.append(row + again)
    R = np.array(R).reshape(len(kept), root.shape[1])
    # what earlier pivots have left in the columns kept before is rounding
    for at, j in enumerate(kept):
        R[at + 1 :, j] = 0.0
    return kept, R


def _root(gram):
    """Upper triangular root of a positive definite matrix."""
    size = np.sqrt(gram.diagonal())
    return np.linalg.cholesky(gram / np.outer(size, size)).T * size


def _orthonormal(A):
    """Orthonormal basis of the columns of A, each at its own size."""
    norm = np.linalg.norm(A, axis=0)
    A = A[:, norm > 0] / norm[norm > 0]
    U, s, _ = np.linalg.svd(A, full_matrices=False)
    return U[:, s > _DEPENDENT * s.max(initial=0.0)]
