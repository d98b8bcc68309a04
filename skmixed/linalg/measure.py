"""What polynomials of a column mean over the rows, in a few numbers that can be merged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh_tridiagonal


@dataclass(frozen=True, eq=False)
class Measure:
    """Nodes and weights with the moments of weighted numbers (a Gauss quadrature), and their range.

    m nodes have the moments up to degree 2 m - 1 of any number of rows. Unlike sums of powers they
    lose no digits, wherever the numbers lie (Golub and Welsch 1969).
    """

    nodes: np.ndarray
    weights: np.ndarray
    low: float
    high: float

    @classmethod
    def of(cls, x, weights, m):
        """The measure of numbers x (n,) with weights (n,) by at most m nodes."""
        if not len(x):
            return cls(np.zeros(0), np.zeros(0), np.inf, -np.inf)
        nodes, weights = _quadrature(x, weights, m) if len(x) > m else (x, weights)
        return cls(nodes, weights, float(x.min()), float(x.max()))

    def merged(self, other, m):
        """The measure of the rows of both."""
        nodes, weights = (
            np.concatenate(pair)
            for pair in ((self.nodes, other.nodes), (self.weights, other.weights))
        )
        both = Measure.of(nodes, weights, m)
        low, high = min(self.low, other.low), max(self.high, other.high)
        return Measure(both.nodes, both.weights, low, high)

    def rows(self):
        """Rows (x, counts) with these moments and range: the extremes count zero times."""
        x = np.concatenate([self.nodes, [self.low, self.high]])
        return x, np.concatenate([self.weights, [0.0, 0.0]])


def _quadrature(x, weights, m):
    """Nodes and weights by m steps of Lanczos' method with full orthogonalisation."""
    total = float(weights.sum())
    middle = float(np.average(x, weights=weights))
    spread = float(np.abs(x - middle).max())
    if spread == 0:
        return np.array([middle]), np.array([total])
    t, basis = (x - middle) / spread, [np.sqrt(weights / total)]
    diagonal, beside = [], []
    while True:
        moved = t * basis[-1]
        diagonal.append(float(basis[-1] @ moved))
        for _ in range(2):
            for q in basis:
                moved -= (q @ moved) * q
        norm = float(np.linalg.norm(moved))
        if len(diagonal) == m or norm <= 1e-14:
            break
        beside.append(norm)
        basis.append(moved / norm)
    nodes, vectors = eigh_tridiagonal(np.array(diagonal), np.array(beside))
    return middle + spread * nodes, total * vectors[0] ** 2
