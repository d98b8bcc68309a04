"""Families of contrasts among the means of a factor's levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from itertools import combinations
from math import gcd, lcm

import numpy as np

# Adjustment of p-values that suits each family.
DEFAULT_ADJUST = {
    "pairwise": "tukey",
    "revpairwise": "tukey",
    "trt.vs.ctrl": "dunnettx",
    "trt.vs.ctrlk": "dunnettx",
    "eff": "fdr",
    "del.eff": "fdr",
    "consec": "mvt",
    "poly": "none",
    "helmert": "none",
}
METHODS = tuple(DEFAULT_ADJUST)
_DEGREES = ("linear", "quadratic", "cubic", "quartic")
_MAX_DEGREE = 6


@dataclass(frozen=True)
class Contrasts:
    """Contrasts K (m, k) among k means, with a name for each and the adjustment that suits them."""

    names: tuple[str, ...]
    K: np.ndarray
    adjust: str


def contrast_family(method, levels, *, ref=None, ratio=False) -> Contrasts:
    """The contrasts of a family among the means of ``levels``.

    Parameters
    ----------
    method : str or dict
        ``pairwise`` (every level minus every later one), ``revpairwise``, ``trt.vs.ctrl`` (every
        other level minus the reference), ``trt.vs.ctrlk`` (the same with the last level),
        ``eff`` (minus the mean of all), ``del.eff`` (minus the mean of the others), ``consec``
        (minus the level before), ``poly`` (orthogonal polynomials of the positions, in integers),
        ``helmert`` (minus the mean of all levels before), or ``{"name": coefficients}``.
    levels : sequence of k
        Names of the means, in order.
    ref : level or list of levels, optional
        The reference of ``trt.vs.ctrl``, by default the first; a list stands for its mean.
    ratio : bool
        Names for differences of logarithms: "A / B" instead of "A - B".

    Raises
    ------
    ValueError
        For an unknown method or reference, and coefficients that do not fit the levels.

    Examples
    --------
    >>> from skmixed.inference.contrasts import contrast_family
    >>> family = contrast_family("trt.vs.ctrl", ["A", "B", "C"], ref="B")
    >>> family.names
    ('A - B', 'C - B')
    >>> family.K
    array([[ 1., -1.,  0.],
           [ 0., -1.,  1.]])
    >>> contrast_family("poly", ["1", "2", "3", "4"]).K[1]
    array([ 1., -1., -1.,  1.])
    """
    labels = [str(level) for level in levels]
    if isinstance(method, Mapping):
        return _custom(method, len(labels))
    if method not in METHODS:
        raise ValueError(_unknown("contrast method", method, METHODS))
    if ref is not None and method != "trt.vs.ctrl":
        raise ValueError(f"ref= belongs to 'trt.vs.ctrl', got it with method {method!r}")
    if method == "poly":
        names, rows = _polynomials(len(labels))
    elif method in ("eff", "del.eff"):
        names, rows = _effects(labels, method == "eff")
    else:
        if method == "trt.vs.ctrl":
            pairs = _against(labels, _positions(ref, list(levels)))
        elif method == "trt.vs.ctrlk":
            pairs = _against(labels, [len(labels) - 1])
        else:
            pairs = _PAIRS[method](len(labels))
        names, rows = _differences(pairs, labels, " / " if ratio else " - ")
    return Contrasts(tuple(names), np.array(rows, dtype=float).reshape(-1, len(labels)),
                     DEFAULT_ADJUST[method])  # fmt: skip


def _unknown(what, value, known):
    near = get_close_matches(str(value), [str(k) for k in known], 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{what} must be one of {', '.join(map(str, known))}, got {value!r}{hint}"


def _custom(method, k):
    names, rows = [], []
    for name, coefficients in method.items():
        row = np.asarray(coefficients, dtype=float)
        if row.shape != (k,) or not np.isfinite(row).all():
            raise ValueError(
                f"contrast {name!r} needs {k} finite coefficients, one for each mean, got "
                f"{coefficients!r}"
            )
        names.append(str(name))
        rows.append(row)
    if not rows:
        raise ValueError("a dict of contrasts needs at least one of them, got none")
    return Contrasts(tuple(names), np.array(rows), "none")


def _positions(ref, levels):
    """Positions of the reference levels."""
    if ref is None:
        return [0]
    several = ref if isinstance(ref, list | tuple | np.ndarray) else [ref]
    missing = [level for level in several if level not in levels]
    if missing or not len(several):
        raise ValueError(_unknown("ref", missing[0] if missing else several, levels))
    return [levels.index(level) for level in several]


def _against(labels, control):
    """Every other level against the mean of the control levels."""
    return [([i], control) for i in range(len(labels)) if i not in control]


# method -> [(positions added, positions subtracted)], each side a mean
_PAIRS = {
    "pairwise": lambda k: [([i], [j]) for i, j in combinations(range(k), 2)],
    "revpairwise": lambda k: [([j], [i]) for j in range(k) for i in range(j)],
    "consec": lambda k: [([i + 1], [i]) for i in range(k - 1)],
    "helmert": lambda k: [([i], list(range(i))) for i in range(1, k)],
}


def _differences(pairs, labels, sign):
    names, rows = [], []
    for plus, minus in pairs:
        row = np.zeros(len(labels))
        row[plus] += 1.0 / len(plus)
        row[minus] -= 1.0 / len(minus)
        names.append(sign.join(_side(part, labels) for part in (plus, minus)))
        rows.append(row)
    return names, rows


def _side(positions, labels):
    """A label, in brackets where it could be read as more than one; or a mean of several."""
    if len(positions) > 1:
        return f"mean({', '.join(labels[i] for i in positions)})"
    label = labels[positions[0]]
    return f"({label})" if any(sign in label for sign in (" - ", " / ", " + ", " * ")) else label


def _effects(labels, with_own):
    k = len(labels)
    share = np.full((k, k), 1.0 / k if with_own else 1.0 / max(k - 1, 1))
    if not with_own:
        np.fill_diagonal(share, 0.0)
    return [f"{label} effect" for label in labels], (np.eye(k) - share)[: k if k > 1 else 0]


def _polynomials(k):
    """Orthogonal polynomials at 1..k by Gram and Schmidt in fractions, the last value positive."""
    names, rows, basis = [], [], []
    for degree in range(min(_MAX_DEGREE, k - 1) + 1):
        row = [Fraction((2 * x - k + 1) ** degree) for x in range(k)]
        for other in basis:
            share = _dot(row, other) / _dot(other, other)
            row = [a - share * b for a, b in zip(row, other, strict=True)]
        basis.append(row)
        if degree:
            multiple = lcm(*(value.denominator for value in row))
            whole = [int(value * multiple) for value in row]
            divisor = gcd(*whole)
            rows.append([value // divisor for value in whole])
            names.append(_DEGREES[degree - 1] if degree <= 4 else f"degree {degree}")
    return names, rows


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))
