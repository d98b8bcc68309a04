"""Which rows types I, II and III test for a term, whatever coding the model was fitted with.

The *full* design has a column for every level of every factor, and for every combination of
levels in an interaction. Its Gram matrix decides everything: kept treatment-coded columns X are a
subset of its columns, and X_full = X C. A term contains another when it has all of its factors,
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

# A column whose part outside earlier ones is below this share of its length depends on them.
_DEPENDENT = 1e-9
# A pivot of the scaled Gram matrix below this is rounding.
_PIVOT = 1e-11
# Entries of C below this are rounding: they are sums of a few integers.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class Term:
    """A term of the fixed part.

    Attributes
    ----------
    name : str
    factors : frozenset
    covariates : tuple
        Sorted names.
    columns : (c,) int
        Its columns in the full design, the first factor's levels running fastest.
    base : (c,) bool
        Which of them belong to the first level of one of its factors.
    """

    name: str
    factors: frozenset
    covariates: tuple
    columns: np.ndarray
    base: np.ndarray

    def contains(self, other) -> bool:
        """More factors, the same covariates."""
        return other.factors < self.factors and other.covariates == self.covariates


@dataclass(frozen=True)
class TermStructure:
    """Terms of a fixed part over their full design, reduced to treatment-coded columns.

    Attributes
    ----------
    terms : tuple of Term
        In the order of the formula; the intercept, if any, is in none of them.
    kept : (p,)
        Columns of the full design that are the treatment-coded X.
    gram : (p, p)
        X'X, rows counted by sample weight and not by prior weight.
    C : (p, p_full)
        X_full = X C.
    """

    terms: tuple[Term, ...]
    kept: np.ndarray
    gram: np.ndarray
    C: np.ndarray

    @classmethod
    def build(cls, terms, gram):
        """The structure for the Gram matrix (p_full, p_full) of the full design."""
        inside = np.concatenate([t.columns for t in terms]) if terms else np.zeros(0, dtype=int)
        order = np.setdiff1d(np.arange(len(gram)), inside).tolist()
        for term in terms:
            order += [*term.columns[~term.base], *term.columns[term.base]]
        kept, R = _independent_columns(gram, order)
        C = solve_triangular(R[:, kept], R)
        C[np.abs(C) < _ROUNDING] = 0.0
        return cls(tuple(terms), np.array(kept, dtype=int), gram[np.ix_(kept, kept)], C)

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


def _independent_columns(gram, order):
    """Columns that do not depend on earlier ones in ``order``, and R (r, p) with gram = R'R."""
    size = np.sqrt(gram.diagonal())
    scale = np.where(size > 0, 1.0 / np.where(size > 0, size, 1.0), 0.0)
    left, kept, R = gram * np.outer(scale, scale), [], []
    for j in order:
        if left[j, j] > _PIVOT:
            row = left[j] / np.sqrt(left[j, j])
            left = left - np.outer(row, row)
            kept.append(j)
            R.append(row * size)
    R = np.array(R).reshape(-1, len(gram))
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
