"""Another response to the same rows: what a profiled deviance needs of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skmixed.linalg.system import Effects, Group
from skmixed.models.source import checksum


@dataclass(frozen=True, eq=False)
class Response:
    """All that a ProfiledDeviance needs of a response: its cross-products with [Z Q].

    Attributes
    ----------
    cross : Effects
        [Z Q]'W(y - Q gamma), one column.
    square : float
        (y - Q gamma)'W(y - Q gamma).
    gamma : (r,)
        What has been subtracted already, zero for a response as it is. Where the spread about Q
        gamma is small beside y, squares of y have lost the digits: subtract from the rows.
    largest : float
        Largest absolute value of y, 0.0 if it is not known.
    checksum : int
    """

    cross: Effects
    square: float
    gamma: np.ndarray
    largest: float = 0.0
    checksum: int = 0


@dataclass(frozen=True, eq=False)
class Responses:
    """The rows of an objective as a function that makes a Response of y (n,).

    Q (n, r): basis of the columns of X; groups: with the engine's covariates.
    """

    Q: np.ndarray
    groups: tuple[Group, ...]
    weights: np.ndarray | None
    offset: np.ndarray | None

    def __call__(self, y):
        moved = y if self.offset is None else y - self.offset
        gamma, residual = least_squares(self.Q, moved, self.weights)
        weighted = residual if self.weights is None else residual * self.weights
        cross = Effects.of([group.sums(weighted) for group in self.groups], self.Q.T @ weighted)
        return Response(cross, residual @ weighted, gamma, np.abs(y).max(initial=0.0), checksum(y))


def row_weights(design):
    if design.weights is None or design.frequencies is None:
        return design.weights if design.frequencies is None else design.frequencies
    return design.weights * design.frequencies


def least_squares(Q, y, weights):
    """Coefficients on Q and residual, twice: the second pass mends the rounding of the first."""
    total = len(y) if weights is None else weights.sum()
    gamma, residual = np.zeros(Q.shape[1]), y
    for _ in range(2):
        change = Q.T @ (residual if weights is None else residual * weights) / total
        gamma, residual = gamma + change, residual - Q @ change
    return gamma, residual


def root_mean_square(residual, weights):
    peak = np.abs(residual).max(initial=0.0)
    if peak == 0:
        return 0.0
    squares = (residual / peak) ** 2
    mean = squares.mean() if weights is None else np.average(squares, weights=weights)
    return float(peak * np.sqrt(mean))


def sum_log(weights, frequencies):
    if weights is None:
        return 0.0
    return float(np.sum(np.log(weights) * (1.0 if frequencies is None else frequencies)))
