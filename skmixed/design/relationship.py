"""Known relationships between levels: K of a grouping factor, and K from a pedigree or markers.

Effects of related levels are L u with K = L L' and independent u. Levels without rows are levels
of K like others, so that their effects are predicted from those of their relatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.levels import find_levels

# Eigenvalues of K below this share of the largest are rounding; below minus ten times it K is none.
_ROUNDING = 1e-9
# Asymmetry of K as a share of its largest entry.
_ASYMMETRY = 1e-8
# Levels up to which a dense factor of K and its Gram matrix are reasonable.
_MOST = 8000


@dataclass(frozen=True, eq=False)
class Relationship:
    """K of the levels of one grouping factor.

    Attributes
    ----------
    group : str
    levels : Index (q,)
    K : (q, q)
        Symmetric. Pickles leave it out: a fit keeps a factor.
    """

    group: str
    levels: pd.Index
    K: np.ndarray

    @property
    def mean_variance(self) -> float:
        """Mean of the diagonal of K."""
        return float(np.mean(self.K.diagonal()))

    @cached_property
    def factor(self) -> np.ndarray:
        """L (q, r) with L L' = K, r the rank of K."""
        return self._checked(_factor(self.K, self._size))

    def diagonalising(self, sums: np.ndarray) -> np.ndarray:
        """L (q, r) with L L' = K for which L' diag(sums) L is diagonal.

        Of the levels with sums above zero it is D^-1/2 U d^1/2 with the eigenvectors U and values d
        of D^1/2 K D^1/2; others are what these predict of them, and a rest of their own.
        """
        seen, root = sums > 0, np.sqrt(sums[sums > 0])
        scaled = self.K[np.ix_(seen, seen)] * np.multiply.outer(root, root)
        d, U = np.linalg.eigh(scaled)
        self._checked(None if d[0] < -10 * _ROUNDING * d[-1] or not d[-1] > 0 else d)
        U, d = U[:, d > _ROUNDING * d[-1]], np.sqrt(d[d > _ROUNDING * d[-1]])
        L = np.empty((len(self.K), len(d)))
        L[seen] = U * d / root[:, None]
        if seen.all():
            return L
        L[~seen] = (self.K[np.ix_(~seen, seen)] * root) @ (U / d)
        rest = self.K[np.ix_(~seen, ~seen)] - L[~seen] @ L[~seen].T
        own = self._checked(_factor(rest, self._size))
        beside = np.zeros((len(L), own.shape[1]))
        beside[~seen] = own
        return np.hstack([L, beside])

    @property
    def _size(self) -> float:
        return float(self.K.diagonal().max())

    def _checked(self, found: np.ndarray | None) -> np.ndarray:
        """What was found, an error where there is none as K is no covariance."""
        if found is None:
            raise _no_covariance(self.group, self.K)
        return found

    def __getstate__(self) -> dict:
        return {"group": self.group, "levels": self.levels, "K": None}


def read_relationships(relationship: Any, groups: tuple[str, ...]) -> dict[str, Relationship]:
    """Relationships by grouping factor from what a user gave.

    Raises
    ------
    ValueError
        For a factor that the formula has not, and a K that is no covariance of labelled levels.
    """
    if relationship is None:
        return {}
    if not isinstance(relationship, Mapping):
        raise ValueError(
            "relationship is a dict from grouping factors to matrices K, as in "
            f"{{'animal': K}}, got {type(relationship).__name__}"
        )
    for group in relationship:
        if ":" in group or group not in groups:
            have = ", ".join(repr(g) for g in groups if ":" not in g) or "none"
            raise ValueError(
                f"relationship names the grouping factor {group!r}, which is no column that "
                f"groups in the formula: there is {have}"
            )
    return {group: _relationship(group, K) for group, K in relationship.items()}


def _relationship(group: str, K: Any) -> Relationship:
    levels, values = _labelled(group, K() if callable(K) else K)
    what = _name(group)
    if len(levels) > _MOST:
        raise ValueError(
            f"{what} has {len(levels)} levels, and its dense factor is for {_MOST} at most: leave "
            "out levels that are no relatives of those in the data"
        )
    if not levels.is_unique:
        repeated = levels[levels.duplicated()][0]
        raise ValueError(f"{what} has the level {repeated!r} twice")
    if not np.isfinite(values).all():
        raise ValueError(f"{what} has entries that are missing or infinite")
    if not np.array_equal(values, values.T):
        size = np.abs(values).max(initial=0.0)
        off = np.abs(values - values.T).max(initial=0.0)
        if not off <= _ASYMMETRY * size:
            raise ValueError(f"{what} is not symmetric: two entries differ by {off:.3g}")
        values = (values + values.T) / 2
    if not (np.diag(values) > 0).any():
        raise _no_covariance(group, values)
    return Relationship(group, levels, values)


def _labelled(group: str, K: Any) -> tuple[pd.Index, np.ndarray]:
    """Levels and values of a DataFrame, or of (array, labels)."""
    if isinstance(K, pd.DataFrame):
        if len(K.index) != len(K.columns) or not K.index.equals(K.columns):
            raise ValueError(
                f"index and columns of the relationship matrix of {group!r} must be the same "
                "levels in the same order: K.loc[levels, levels]"
            )
        return K.index, K.to_numpy(dtype=float)
    if isinstance(K, tuple) and len(K) == 2:
        values, levels = np.asarray(K[0], dtype=float), pd.Index(K[1])
        if values.shape != (len(levels), len(levels)):
            raise ValueError(
                f"the relationship matrix of {group!r} has shape {values.shape} for {len(levels)} "
                "labels"
            )
        return levels, values
    raise ValueError(
        f"the relationship matrix of {group!r} is a DataFrame whose index and columns are the "
        f"levels, or a pair (array, levels), got {type(K).__name__}"
    )


def _name(group: str) -> str:
    return f"the relationship matrix of {group!r}"


def _factor(K: np.ndarray, size: float) -> np.ndarray | None:
    """L (q, r) with L L' = K: Cholesky's where it is regular, else by eigenvectors.

    Variances are rounding below a share of ``size``. None where some are negative.
    """
    try:
        L = np.linalg.cholesky(K)
        if np.diag(L).min() ** 2 > _ROUNDING * size:
            return L
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(K)
    least = _ROUNDING * max(values[-1], size)
    if values[0] < -10 * least:
        return None
    kept = values > least
    return vectors[:, kept] * np.sqrt(values[kept])


def _no_covariance(group: str, K: np.ndarray) -> ValueError:
    values = np.linalg.eigvalsh(K)
    return ValueError(
        f"{_name(group)} is no covariance: its smallest eigenvalue is {values[0]:.3g} beside a "
        f"largest of {values[-1]:.3g}"
    )


def known_codes(
    group: str, relationship: Relationship, codes: np.ndarray, levels: pd.Index
) -> np.ndarray:
    """Codes of the rows of a fit among the levels of K.

    Raises
    ------
    ValueError
        For a level that K does not have.
    """
    place = find_levels(relationship.levels, levels)
    unknown = levels[place < 0]
    if len(unknown):
        shown = ", ".join(map(repr, unknown[:5].tolist())) + (", ..." if len(unknown) > 5 else "")
        raise ValueError(f"{_name(group)} lacks {len(unknown)} levels of the data: {shown}")
    found = place[codes].astype(np.intp)
    K = relationship.K
    if len(levels) == len(codes) and np.count_nonzero(K) == np.count_nonzero(K.diagonal()):
        raise ValueError(
            f"no two levels of {group!r} are related, and each has one row: their variance cannot "
            "be told from the residual's"
        )
    return found


def pedigree_relationship(
    pedigree: Any, *, animal: str = "animal", sire: str = "sire", dam: str = "dam"
) -> pd.DataFrame:
    """Additive relationship matrix A of a pedigree, with inbreeding.

    By Henderson's recursive rules: an animal's relationship with an older one is the mean of its
    parents', a_ii = 1 + a_(sire, dam) / 2. Parents that have no row of their own are founders.

    Parameters
    ----------
    pedigree : DataFrame
        One row for each animal, in any order.
    animal, sire, dam : str
        Its columns; missing parents are unknown and unrelated to all others.

    Returns
    -------
    DataFrame (q, q)
        Indexed by animals on both sides, founders first and parents before offspring.

    Raises
    ------
    ValueError
        For an animal with two rows, and one that is its own ancestor.

    References
    ----------
    Henderson (1976), A simple method for computing the inverse of a numerator relationship matrix,
    Biometrics 32, 69-83.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmixed import pedigree_relationship
    >>> pedigree = pd.DataFrame(
    ...     {"animal": ["c", "d", "e"], "sire": ["a", "a", "c"], "dam": ["b", "b", "d"]}
    ... )
    >>> pedigree_relationship(pedigree)
         a    b     c     d     e
    a  1.0  0.0  0.50  0.50  0.50
    b  0.0  1.0  0.50  0.50  0.50
    c  0.5  0.5  1.00  0.50  0.75
    d  0.5  0.5  0.50  1.00  0.75
    e  0.5  0.5  0.75  0.75  1.25
    """
    table = pd.DataFrame(pedigree)
    for name in (animal, sire, dam):
        if name not in table.columns:
            raise ValueError(f"the pedigree has no column {name!r}: it has {list(table.columns)}")
    if table[animal].isna().any() or table[animal].duplicated().any():
        raise ValueError(f"every row of the pedigree needs an animal of its own in {animal!r}")
    parents = {
        own: tuple(None if pd.isna(p) else p for p in pair)
        for own, *pair in zip(table[animal], table[sire], table[dam], strict=True)
    }
    order = _parents_first(parents)
    place = {own: i for i, own in enumerate(order)}
    A = np.zeros((len(order),) * 2)
    for i, own in enumerate(order):
        known = [place[p] for p in parents.get(own, ()) if p is not None]
        A[i, :i] = A[:i, i] = A[known, :i].sum(axis=0) / 2
        A[i, i] = 1.0 + (A[known[0], known[1]] / 2 if len(known) == 2 else 0.0)
    return pd.DataFrame(A, index=order, columns=order)


def _parents_first(parents: dict) -> list:
    """All animals in an order in which parents come before their offspring."""
    founders = dict.fromkeys(
        p for pair in parents.values() for p in pair if p is not None and p not in parents
    )
    order, placed = list(founders), set(founders)
    waiting = list(parents)
    while waiting:
        ready = [a for a in waiting if all(p is None or p in placed for p in parents[a])]
        if not ready:
            raise ValueError(f"in the pedigree {waiting[0]!r} is among its own ancestors")
        order += ready
        placed.update(ready)
        waiting = [a for a in waiting if a not in placed]
    return order


def marker_relationship(markers: Any) -> pd.DataFrame:
    """Genomic relationship matrix of marker genotypes.

    VanRaden's first one, G = W W' / (2 sum p (1 - p)) with W the genotypes less twice the allele
    frequencies p of their columns.

    Parameters
    ----------
    markers : DataFrame (q, m)
        Counts 0, 1, 2 of one allele: lines or animals by markers. Missing ones count as the mean
        of their marker.

    Returns
    -------
    DataFrame (q, q)

    Raises
    ------
    ValueError
        For counts outside 0 to 2, and markers of which none varies.

    References
    ----------
    VanRaden (2008), Efficient methods to compute genomic predictions, Journal of Dairy Science 91,
    4414-4423.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmixed import marker_relationship
    >>> markers = pd.DataFrame([[0, 2], [2, 2], [1, 0]], index=["u", "v", "w"])
    >>> marker_relationship(markers).round(2)
          u     v     w
    u  1.53 -0.59 -0.94
    v -0.59  1.53 -0.94
    w -0.94 -0.94  1.88
    """
    table = pd.DataFrame(markers)
    values = table.to_numpy(dtype=float)
    if np.nanmin(values, initial=0.0) < 0 or np.nanmax(values, initial=0.0) > 2:
        raise ValueError(
            "marker genotypes are counts from 0 to 2 of one allele, got values from "
            f"{np.nanmin(values):g} to {np.nanmax(values):g}"
        )
    known = np.isfinite(values)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    scale = float(np.sum(mean * (1 - mean / 2)))
    W = np.where(known, values, mean) - mean
    if not (scale > 0 and W.any()):
        raise ValueError("no marker varies, so that there is no relationship to tell")
    return pd.DataFrame(W @ W.T / scale, index=table.index, columns=table.index)
