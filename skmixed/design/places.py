"""Times and positions of the effects of structured random-effects terms; fields over positions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from skmixed.design.formula_terms import RandomSpec
from skmixed.design.parts import FormulaPart, Materializer, Part, PlainPart
from skmixed.design.terms import fixed_terms, is_numeric

# Positions from which one dense covariance is too much.
_MOST = 3000
# Structures of one factor's levels in order.
_ORDERED = ("ar1", "hetar1", "toep")


@dataclass(frozen=True, eq=False)
class PositionsPart:
    """One effect for every position that the fit had; rows at other positions have none.

    Attributes
    ----------
    inner : part
        The coordinates.
    positions : (s, d)
        Sorted.
    """

    inner: Part
    positions: np.ndarray

    intercept = None

    @property
    def names(self) -> tuple[str, ...]:
        """The positions as text."""
        return tuple(f"({', '.join(f'{x:g}' for x in row)})" for row in self.positions)

    @property
    def term_slices(self) -> dict[str, slice]:
        """All columns are one term."""
        return {"positions": slice(0, len(self.positions))}

    def matrix(self, rows: Materializer) -> np.ndarray:
        """(n, s): 1 at the position of a row, zeros where it is unknown."""
        return self.indicators(self.inner.matrix(rows))

    def indicators(self, coordinates: np.ndarray) -> np.ndarray:
        """(n, s) of rows with these coordinates (n, d)."""
        place = {tuple(row): j for j, row in enumerate(self.positions.tolist())}
        z = np.zeros((len(coordinates), len(place)))
        for i, row in enumerate(coordinates.tolist()):
            j = place.get(tuple(row))
            if j is not None:
                z[i, j] = 1.0
            elif not np.isfinite(row).all():
                z[i] = np.nan
        return z


def structured_part(
    made: tuple[Part, np.ndarray], spec: RandomSpec
) -> tuple[Part | PositionsPart, np.ndarray, np.ndarray | None]:
    """The part of a random-effects term, its z (n, s), and the places of its effects.

    Raises
    ------
    ValueError
        For effects that the structure has no use for.
    """
    part, z = made
    if spec.structure == "us":
        return part, z, None
    if spec.is_spatial:
        return _field(part, z, spec)
    if z.shape[1] < 2:
        raise ValueError(
            f"the term {spec} has one effect, which needs no structure: write ({spec.expr} | "
            f"{spec.group})"
        )
    if spec.structure not in _ORDERED:
        return part, z, None
    return part, z, whole_times(_levels(part, spec), spec.structure, str(spec))


def _field(part: Part, coordinates: np.ndarray, spec: RandomSpec):
    if not is_numeric(part):
        raise ValueError(f"the coordinates of {spec} must be numeric columns")
    known = coordinates[np.isfinite(coordinates).all(axis=1)]
    positions = np.unique(known, axis=0)
    if len(positions) < 3:
        raise ValueError(
            f"the rows have {len(positions)} different positions for the term {spec}: a covariance "
            "that depends on distance needs at least three"
        )
    if len(positions) > _MOST:
        raise ValueError(
            f"the rows have {len(positions)} different positions for the term {spec}, and their "
            f"covariance is one dense matrix, for {_MOST} at most: round the coordinates"
        )
    own = PositionsPart(part, positions)
    return own, own.indicators(coordinates), positions


def whole_times(levels: Any, structure: str, text: str, other: str = "expo") -> np.ndarray:
    """Times (s,) of the levels of a factor: numbers in whole steps, other levels by count.

    ``text`` is what the user wrote, ``other`` the structure for times without a common step.
    """
    values = numbers_of(levels, text)
    if values is None:
        return np.arange(len(levels))
    gaps = np.diff(np.sort(values))
    if len(values) < 2:
        return np.zeros(len(values), dtype=np.intp)
    step = gaps.min()
    whole = (values - values.min()) / step
    if np.abs(whole - np.round(whole)).max() > 1e-6:
        scaled = [gaps / (step / k) for k in range(1, 13)]
        fits = [k for k, g in enumerate(scaled, 1) if np.abs(g - np.round(g)).max() < 1e-6]
        if not fits:
            raise ValueError(
                f"the times of {text} are no multiples of one step: {list(levels)[:10]}. For any "
                f"distances there is {other}(time | group)"
            )
        whole = whole * fits[0]
    whole = np.round(whole).astype(np.intp)
    if structure == "toep" and (np.diff(np.sort(whole)) != 1).any():
        raise ValueError(
            f"the times of {text} are not equally spaced: {list(levels)[:10]}. toep() has a "
            "correlation for every distance up to the longest"
        )
    return whole


def numbers_of(levels: Any, text: str) -> np.ndarray | None:
    """Levels (s,) as numbers, in any order; None for words, which have to be in theirs."""
    if getattr(getattr(levels, "dtype", None), "kind", "") in ("M", "m"):
        raise ValueError(
            f"the times of {text} are dates: turn them into numbers, such as days since the first"
        )
    try:
        values = np.array([float(level) for level in levels])
    except (TypeError, ValueError):
        _check_order(levels, text)
        return None
    if not np.isfinite(values).all() or len(np.unique(values)) < len(values):
        raise ValueError(
            f"two levels of {text} have the same time, or one has none: {list(levels)[:10]}"
        )
    return values


def _check_order(levels: Any, text: str) -> None:
    """Raise an error for words in the order of the alphabet whose numbers have another one."""
    words = [str(level) for level in levels]
    by_number = sorted(words, key=lambda own: [int(n) for n in re.findall(r"[0-9]+", own)])
    numbered = all(re.search("[0-9]", own) for own in words)
    if numbered and words == sorted(words) and words != by_number:
        raise ValueError(
            f"the levels of {text} are text in the order {', '.join(words[:5])}, and their numbers "
            "have another one: make the column numbers, or an ordered pandas categorical"
        )


def _levels(part: Part, spec: RandomSpec):
    """Levels of the one factor whose dummy columns are all the effects."""
    advice = f"write {spec.structure}(0 + C(time) | {spec.group})"
    if isinstance(part, PlainPart):
        terms = [term for term in part.terms if term is not None]
        if len(part.terms) == len(terms) == 1 and terms[0].categories is not None:
            return terms[0].categories
    elif isinstance(part, FormulaPart):
        own = fixed_terms(part)  # other parts' factors are in the state of the encoder too
        if len(own) == 1 and len(own[0].factors) == 1 and not own[0].covariates:
            [factor] = own[0].factors
            levels = part.model_spec.encoder_state[factor][1].get("categories")
            if levels is not None and len(levels) == len(part.names) and part.intercept is None:
                return levels
    raise ValueError(
        f"{spec.structure}() orders the levels of one factor in time, which the effects of {spec} "
        f"are not: {advice}"
    )
