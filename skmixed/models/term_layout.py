"""One random-effects term in its group: columns, units, and the way back to the user's effects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skmixed.linalg.system import Group


@dataclass(frozen=True)
class TermLayout:
    """Where one random-effects term lives: its group, its columns there, its units.

    ``loadings`` (q, l): effects of the q levels of the user from those of the l independent ones of
    the group, where levels are related.
    """

    group: int
    columns: slice
    names: tuple[str, ...]
    M: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    kind: str = "us"
    loadings: np.ndarray | None = None

    @property
    def size(self):
        return len(self.M)

    @property
    def is_smooth(self):
        """Whether these are the effects of a smooth function."""
        return self.kind == "smooth"

    @cached_property
    def variances(self):
        """Variances (q,) of the levels where those that are independent of others have 1."""
        return None if self.loadings is None else np.einsum("ql,ql->q", *(self.loadings,) * 2)

    @property
    def mean_variance(self):
        """Mean of :attr:`variances`, which an unknown level has."""
        return 1.0 if self.loadings is None else float(self.variances.mean())

    def variances_of(self, codes):
        """Variances (n,) of the levels of rows, in those of independent levels."""
        return (
            1.0 if self.loadings is None else np.append(self.variances, self.mean_variance)[codes]
        )

    def drawn(self, term, rng, k):
        """Standard normal effects (l, s, k) of the levels of a term, related as these are."""
        if self.loadings is None:
            return rng.standard_normal((term.n_levels, self.size, k))
        u = rng.standard_normal((self.loadings.shape[1], self.size * k))
        return (self.loadings @ u).reshape(-1, self.size, k)

    def users_effects(self, b):
        """Effects (..., l, s) in the user's units from the engine's (..., l, s)."""
        return b @ self.M.T

    def users_covariances(self, blocks):
        """Covariances (l, s, s) in the user's units from those (s, s, l) of the engine's."""
        return self.M @ blocks.transpose(2, 0, 1) @ self.M.T

    def covariates(self, z):
        """The engine's covariates of rows with covariates z (n, s) in the user's units.

        The centre goes first: z M would cancel where a covariate is 1e12 plus something.
        """
        return (z - self.center) @ self.scale

    def rows(self, term):
        """Group of other rows with this term's columns alone, none of an unknown level."""
        group = Group(term.codes, self.covariates(term.z), term.n_levels)
        return group if self.loadings is None else group.related(self.loadings)
