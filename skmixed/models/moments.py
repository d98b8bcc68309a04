"""Means and mean products over the rows of a fit, for what is asked when the rows are gone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RowMoments:
    """Means over rows, each counted as its sample weight says and without its prior weight.

    Hypotheses and shares of variance are about the rows as they are: how exact their responses
    are must not change them.

    Attributes
    ----------
    mean : (r,)
        Of the columns of the orthogonal basis of X.
    square : (r, r) or None
        Of the products of these columns; None for the identity.
    random : tuple of (s, s)
        Of the products of the engine's covariates of every random-effects term, times the variance
        of a related level.
    """

    mean: np.ndarray
    square: np.ndarray | None
    random: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, Q, layout, frequencies=None, *, prior_weights=None):
        """The moments of the rows of Q (n, r) and of a layout that still has its rows.

        Without ``prior_weights`` the basis is orthonormal in these means.
        """
        total = float(len(Q) if frequencies is None else frequencies.sum())
        mean = (Q.sum(axis=0) if frequencies is None else frequencies @ Q) / total
        square = None
        if prior_weights is not None:
            counted = Q if frequencies is None else Q * frequencies[:, None]
            square = counted.T @ Q / total
        random = []
        for term in layout.terms:
            group = layout.groups[term.group]
            z, own = group.z[:, term.columns], term.variances_of(group.codes)
            own = own if frequencies is None else own * frequencies
            random.append(np.array([(own * column) @ z for column in z.T]) / total)
        return cls(mean, square, tuple(random))

    @property
    def squares(self) -> np.ndarray:
        """:attr:`square`, written out."""
        return np.eye(len(self.mean)) if self.square is None else self.square

    @property
    def root(self) -> np.ndarray:
        """Upper triangular A (r, r) with A'A = :attr:`square`."""
        return np.linalg.cholesky(self.squares).T

    def covariance(self, n_obs) -> np.ndarray:
        """Sample covariance (r, r) of the columns of the basis."""
        spread = self.squares - np.outer(self.mean, self.mean)
        return spread * (n_obs / (n_obs - 1.0)) if n_obs > 1 else spread
