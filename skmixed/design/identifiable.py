"""Whether the rows can tell the parameters of a model apart."""

from __future__ import annotations

import numpy as np

from skmixed.design.random import RandomTerm
from skmixed.design.spec import Design
from skmixed.design.structure_names import SPATIAL

# Structures with one variance and correlations that decay: even with one row per effect these tell
# it from the residual variance.
_TOLD_BY_CORRELATION = ("ar1", "smooth", *SPATIAL)


def check_identifiable(design: Design, *, residual: bool = True) -> None:
    """Raise an error for a mixed model that the data cannot determine.

    No effect may stand in two terms of one grouping factor. With a residual variance to estimate,
    a term needs fewer effects than there are observations (so that levels, too, are fewer), and
    the response must vary.

    Parameters
    ----------
    design : Design
    residual : bool
        Whether the model has a residual variance.

    Raises
    ------
    ValueError
        Naming the term and the counts.
    """
    seen: set[tuple[str, str]] = set()
    for term in design.random:
        if residual:
            _check_term_size(term, design)
        for name in term.names:
            if (term.group, name) in seen:
                raise ValueError(
                    f"the effect {name!r} by {term.group!r} stands in two random-effects terms, so "
                    "their variances cannot be told apart: leave it out of one with (0 + ... | "
                    f"{term.group})"
                )
            seen.add((term.group, name))
    if residual and design.random and design.y is not None and design.y.size:
        _check_varies(design.y, design.offset)


def _check_varies(y: np.ndarray, offset: np.ndarray | None) -> None:
    y = y if offset is None else (y.T - offset).T
    if np.ptp(y, axis=0).max() == 0:
        what = "the response" if offset is None else "the response less the offset"
        raise ValueError(f"{what} is constant ({y.flat[0]:g}): there is no variance to explain")


def _way_out(term: RandomTerm) -> str:
    """What to write in the place of a term with as many effects as rows."""
    if not np.array_equal(np.count_nonzero(term.z, axis=1), np.ones(len(term.z))):
        return "take columns out of the term"
    name = {"homcs": "cs", "diag": "ident", "homdiag": "ident"}.get(term.structure, term.structure)
    if name == "ident":
        return (
            "take the term out, or, for a residual variance by column, write residual='ident(...)'"
        )
    return (
        "a covariance between single observations of a level is one of their residuals: write "
        f"residual='{name.removeprefix('het')}(... | {term.group})' in the place of the term"
    )


def _check_term_size(term: RandomTerm, design: Design) -> None:
    n_obs = design.n_obs
    if term.relationship is not None:
        return
    if term.n_effects < n_obs or term.structure.startswith(_TOLD_BY_CORRELATION):
        return
    if term.n_levels >= n_obs:
        message = (
            f"the grouping factor {term.group!r} has {term.n_levels} levels for {n_obs:g} "
            "observations, one row per level: its variance cannot be told from the residual's"
        )
    else:
        message = (
            f"the random-effects term of {term.group!r} has {term.n_effects} effects "
            f"({term.n_levels} levels x {len(term.names)} columns) for {n_obs:g} observations: "
            "their variances cannot be told from the residual's; "
        )
        message += _way_out(term)
    if n_obs < len(design.X):
        message += (
            f". The sample weights count rows, and those of {len(design.X)} rows sum to "
            f"{n_obs:g}: weights that are precisions are prior_weights"
        )
    raise ValueError(message)
