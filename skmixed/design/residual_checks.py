"""Rows that leave a residual structure open: a clear error each."""

from __future__ import annotations

from typing import Any

import numpy as np

from skmixed.design.structure_names import BY_COVARIATE, BY_LEVEL

# Visits of a covariance over visits, at most
_MOST_VISITS = 100


def check_rows(term: Any) -> None:
    """Raise an error for rows that leave the structure open."""
    factor = term.factor
    if factor.kind in BY_LEVEL:
        few = np.flatnonzero(np.bincount(term.codes, minlength=len(term.levels)) < 2)
        if len(few):
            raise ValueError(
                f"{factor} has a residual variance for every level, and {_level(term, few[0])} has "
                "one row: merge levels, or leave its rows out"
            )
        if len(term.levels) < 2:
            raise ValueError(f"{factor} has one level, whose variance is sigma^2: leave it out")
    elif factor.kind in BY_COVARIATE:
        _check_covariate(term)
    else:
        if np.bincount(term.codes).max() < 2:
            raise ValueError(
                f"{factor} correlates the rows of one level of {factor.group!r}, and every level "
                "has one row: their correlation cannot be estimated"
            )
        _check_times(term)


def _places(term):
    return term.values if term.visits is None else term.visits


def rows_by_time(term: Any) -> np.ndarray:
    """The rows by group and time; rows that are so already are left alone."""
    code, place = term.codes, _places(term)
    step = np.diff(code)
    if ((step > 0) | ((step == 0) & (np.diff(place) >= 0))).all():
        return np.arange(len(code))
    return np.lexsort((place, code))


def _level(term, at):
    return f"{str(term.levels[at])!r}"


def check_all_visits(term: Any) -> None:
    """Raise an error where a visit of the structure has no row."""
    if term.visits is None:
        return
    lost = np.flatnonzero(np.bincount(term.visits, minlength=len(term.labels)) == 0)
    if len(lost):
        raise ValueError(f"{term.factor} has no row of the visit {str(term.labels[lost[0]])!r}")


def _check_covariate(term):
    factor, x = term.factor, term.values
    zero = int((x == 0).sum())
    if factor.kind == "power" and zero:
        raise ValueError(
            f"{factor} has residual standard deviations |{factor.column}|^delta, which are zero or "
            f"infinite in {zero} row{'s' * (zero > 1)} with {factor.column} = 0: use "
            f"exponential({factor.column}), or shift the column"
        )
    if factor.kind == "power" and x.min() < 0:
        raise ValueError(
            f"{factor} is for positive covariates, and {factor.column!r} is negative in "
            f"{int((x < 0).sum())} rows: use exponential({factor.column}), or a column of sizes"
        )
    if np.ptp(x) == 0:
        raise ValueError(f"{factor}: {factor.column!r} is constant, so that delta is arbitrary")


def _check_times(term):
    factor = term.factor
    if term.visits is not None and len(term.labels) > _MOST_VISITS:
        raise ValueError(
            f"{factor} is a covariance over visits, and {factor.column!r} has {len(term.labels)} "
            f"different values, for {_MOST_VISITS} at most: write car1 or ar1 for correlation in "
            f"time, and a random intercept (1 | {factor.group}) for one correlation of all rows"
        )
    places = _places(term)
    code, place = term.codes[term.by_time], places[term.by_time]
    same = (np.diff(code) == 0) & (np.diff(place) == 0)
    if same.any():
        row = np.flatnonzero(same)[0]
        at = place[row] if term.visits is None else term.labels[int(place[row])]
        at = f"{at:g}" if isinstance(at, float) else str(at)
        raise ValueError(
            f"{factor} needs one row per {factor.column!r} in every level of {factor.group!r}, and "
            f"{_level(term, code[row])} has two with {factor.column} = {at}: what tells them apart "
            "belongs to the group, as in a:b"
        )
    if factor.kind == "ar1" and (places != np.round(places)).any():
        raise ValueError(
            f"{factor} counts whole steps of time, and {factor.column!r} has values such as "
            f"{places[places != np.round(places)][0]:g}: write car1({factor.column} | "
            f"{factor.group}) for a correlation that decays with any gap"
        )
    if factor.kind == "us":
        _check_pairs(term)


def _check_pairs(term):
    V = len(term.labels)
    if V < 2:
        raise ValueError(f"{term.factor} has one visit: there is nothing to correlate")
    seen = np.zeros((len(term.levels), V))
    seen[term.codes, term.visits] = 1.0
    never = np.argwhere(seen.T @ seen == 0)
    if len(never):
        a, b = (str(term.labels[j]) for j in never[0])
        raise ValueError(
            f"{term.factor} has a covariance for every two visits, and no level of "
            f"{term.factor.group!r} has both {a} and {b}: use ar1, toep or cs, which need not see "
            "every pair"
        )
