"""Coefficients of dependent columns on the kept ones: which are noise, which are short decimals,
and the shortest solutions and null spaces that follow from them.

A coefficient counts as 0 if a change of the dependent column by no more than its digits are worth
makes it 0. That bound differs by coefficient: it is the noise of the column divided by what the
other kept columns leave of the one that the coefficient belongs to, and for the constant it grows
with the distance of the columns from 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

# A decimal is believed if chance would hit one as near only once in so many coefficients.
CHANCE = 1e4
DIGITS = 10
# Combinations with larger coefficients are rewritten on other columns before they are inverted.
LARGE_COEFFICIENT = 2.0


def solve_upper(R, B, trans="N"):
    """R^-1 B or R^-T B for an upper triangle; SciPy before 1.14 refuses systems without rows."""
    return solve_triangular(R, B, trans=trans) if R.size else np.zeros(np.shape(B))


@dataclass(frozen=True)
class Kept:
    """The kept columns, each divided by its length: root (r, r) with root'root their
    cross-products, and the inverse of root, whose row k bounds the error of coefficient k."""

    root: np.ndarray
    inverse: np.ndarray

    @classmethod
    def centred(cls, R) -> Kept:
        """Columns about their means, from their triangle R."""
        return cls(R, solve_upper(R, np.eye(len(R))))

    def with_constant(self, mean) -> Kept:
        """The same columns about 0, mean (r,) being theirs, and the constant after them."""
        zero, one = np.zeros((len(mean), 1)), np.ones((1, 1))
        inverse = np.block([[self.inverse, zero], [-(mean @ self.inverse)[None, :], one]])
        return Kept(np.block([[self.root, zero], [mean[None, :], one]]), inverse)

    def errors(self, noise):
        """What changes of length noise (m,) in a dependent column do to coefficients (r, m)."""
        return np.multiply.outer(np.linalg.norm(self.inverse, axis=1), noise)

    def length(self, change):
        """Lengths (m,) of the combinations with coefficients ``change`` (r, m)."""
        return np.linalg.norm(self.root @ change, axis=0)

    def without_noise(self, b, noise):
        """b (r, m) with 0 for all coefficients that noise explains, the others making up for it."""
        found = np.where(np.abs(b) <= self.errors(noise), 0.0, b)
        for j in np.flatnonzero(self.length(found - b) > 0.5 * noise):
            found[:, j] = self._dropped_in_turn(b[:, j], noise[j])
        return found

    def _dropped_in_turn(self, b, noise):
        """One column's coefficients: the least one dropped and the others refitted, while the
        combination stays within the noise."""
        b, inverse, free, spent = b.copy(), self.inverse.copy(), b != 0, 0.0
        while free.any():
            size = np.linalg.norm(inverse, axis=1)
            cost = np.divide(np.abs(b), size, where=free & (size > 0), out=np.full(b.size, np.inf))
            k = int(np.argmin(cost))
            spent += cost[k] ** 2
            if not spent <= noise**2:
                break
            direction = inverse @ inverse[k] / size[k] ** 2
            b -= direction * b[k]
            inverse -= np.multiply.outer(direction, inverse[k])
            free[k] = False
            b[~free] = inverse[~free] = 0.0
        return b


@dataclass(frozen=True)
class Dependent:
    """m dependent columns and what is known of their digits.

    Attributes
    ----------
    scale : (r, m)
        Lengths of the kept columns over lengths of the dependent ones.
    rounding, noise : (m,)
        What rounding of the stored numbers can do to a column, and that with the other errors
        that are seen in it, as shares of the column's length.
    """

    scale: np.ndarray
    rounding: np.ndarray
    noise: np.ndarray

    def __getitem__(self, columns):
        return Dependent(self.scale[:, columns], self.rounding[columns], self.noise[columns])

    def coefficients(self, kept, b):
        """b (r, m) without noise, decimals restored; and where all of a column's are decimals."""
        found = kept.without_noise(b * self.scale, self.noise) / self.scale
        short, hit = short_decimals(found, kept.errors(self.rounding) / np.abs(self.scale))
        fits = kept.length((short - b) * self.scale) <= self.noise
        return np.where(fits, short, found), fits & hit.all(axis=0)


@dataclass(frozen=True)
class Means:
    """Means of the kept (2, r) and the dependent columns (2, m), each the sum of two numbers, and
    the length of the constant column over those of the dependent ones (m,)."""

    kept: np.ndarray
    dependent: np.ndarray
    scale: np.ndarray
    constant: float

    def __getitem__(self, columns):
        return Means(self.kept, self.dependent[:, columns], self.scale[columns], self.constant)

    def constants(self, b, rounding):
        """What the combinations b (r, m) of the kept columns leave of the means (m,)."""
        left = (self.dependent - self.kept @ b).sum(axis=0) / self.constant
        error = rounding / np.abs(self.scale)
        return short_decimals(np.where(np.abs(left) <= error, 0.0, left), error)[0]


def with_constants(dependent, means, kept, unit, b):
    """Coefficients (r + 1, m) of dependent columns, that of the constant after the slopes.

    Slopes that are all short decimals are those of the data, and rounding alone blurs the
    constant. Others take their errors to the constant, times the means.
    """
    slopes, sure = dependent.coefficients(kept, b)
    found = np.vstack([slopes, means.constants(slopes, dependent.rounding)])
    rest = np.flatnonzero(~sure)
    if rest.size:
        means, own = means[rest], dependent[rest]
        own = replace(own, scale=np.vstack([own.scale, means.scale]))
        both = np.vstack([b[:, rest], means.constants(b[:, rest], 0.0 * own.rounding)])
        kept = kept.with_constant(means.kept.sum(axis=0) / unit)
        both = own.coefficients(kept, both)[0]
        constants = means.constants(both[:-1], own.rounding)
        both[-1] = np.where(both[-1] != 0, constants, 0.0)
        found[:, rest] = both
    return found


def short_decimals(b, error):
    """(b, hit): decimals of up to ten digits where they are within the error of b and nearer than
    chance would have it; hit is True for them and for zeros."""
    size = np.abs(b, where=b != 0, out=np.ones_like(b))
    with np.errstate(divide="ignore", over="ignore"):
        digits = np.floor(np.log10(size / (error * CHANCE)))
    unit = 10.0 ** (np.floor(np.log10(size)) + 1 - np.clip(digits, 1, DIGITS))
    near = np.minimum(error, unit / CHANCE)
    # Powers of ten find the candidates, text gives their nearest double.
    short = np.round(b / unit) * unit
    candidates = (b != 0) & (np.abs(short - b) <= near + 4 * np.spacing(size))
    decimal = b.copy()
    decimal[candidates] = [float(f"{v:.9e}") for v in short[candidates]]
    return decimal, candidates | (b == 0)


def minimum_norm(combinations, solution):
    """The shortest beta (p, q) with the fitted values of beta[kept] = solution (r, q), 0 elsewhere:
    ``C (C'C)^-1 solution``."""
    C, solution, _ = on_large_columns(combinations, solution)
    # Triangles of cross-products, unlike reflections, keep the digits of small rows and columns.
    R = np.linalg.cholesky(C.T @ C).T
    return C @ solve_upper(R, solve_upper(R, solution, trans="T"))


def on_large_columns(combinations, solution):
    """(C (p, r), solution (r, q), exchanges): the same combinations and coefficients on columns
    that leave no element of C far above 1, which makes C well conditioned in any units.

    An exchange (j, k) puts column j in the place of the k-th of those that the others are
    combinations of.

    References
    ----------
    Goreinov et al. (2010), How to find a good submatrix, in Matrix Methods: Theory, Algorithms
    and Applications, 247-256.
    """
    C, solution = np.array(combinations), np.array(solution)
    exchanges = []
    while C.size:
        j, k = np.unravel_index(np.argmax(np.abs(C)), C.shape)
        if abs(C[j, k]) <= LARGE_COEFFICIENT:
            break
        exchange(C, solution, j, k)
        exchanges.append((j, k))
    return C, solution, exchanges


def exchange(C, solution, j, k):
    """Column j takes the place of the k-th kept one in C (p, r) and solution (r, q), in place."""
    pivot = C[j, k]
    row, column = C[j] / pivot, C[:, k] / pivot
    row[k] = 0.0
    C -= np.multiply.outer(C[:, k], row)
    C[:, k] = column
    C[j] = 0.0
    C[j, k] = 1.0
    solution -= np.multiply.outer(row, solution[k])
    solution[k] /= pivot


def orthonormal_null_space(kept, aliased, combinations):
    """Null space of X = X[:, kept] combinations', orthonormalised: a vector per aliased column."""
    C, _, exchanges = on_large_columns(combinations, np.zeros((kept.size, 0)))
    kept, p = kept.copy(), aliased.size
    for j, k in exchanges:
        kept[k] = j
    others = np.setdiff1d(np.arange(p), kept)
    N = np.zeros((p, others.size))
    N[kept] = C[others].T
    N[others, np.arange(others.size)] = -1.0
    if not N.size:
        return N
    # Rows differ in size as the columns of X do; dividing by triangles keeps the digits of each.
    for _ in range(2):
        R = np.linalg.qr(N, mode="r")
        rounding = 1e-15 * np.abs(N) @ np.abs(solve_upper(R, np.eye(len(R))))
        N = solve_upper(R, N.T, trans="T").T
    N[np.abs(N) < rounding] = 0.0
    first = N[np.argmax(N != 0, axis=0), np.arange(N.shape[1])]
    return N * np.where(first < 0, -1.0, 1.0) + 0.0  # + 0.0: no -0
