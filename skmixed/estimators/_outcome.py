"""What a generalised model explains: labels, trials, and the range of the family."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from skmixed._warn import warn
from skmixed.design.columns import TextColumn, as_column
from skmixed.estimators._checks import check_magnitude

# Successes this close to an integer are that integer.
_INTEGER = 1e-6


@dataclass(frozen=True)
class Outcome:
    """The response as a family takes it.

    y (n,): the response, for the binomial family the number of successes; trials (n,): its prior
    weights, for the binomial family the numbers of trials; classes (2,): the labels that were
    failure and success, None for a response of numbers.
    """

    y: np.ndarray
    trials: np.ndarray
    classes: np.ndarray | None = None

    @classmethod
    def of(cls, design, family, labels, who) -> Outcome:
        """The outcome of the rows of a design; ``labels`` are those that its response numbers."""
        y, classes = (design.y, None) if labels is None else _two_classes(design.y, labels, who)
        if family.name == "binomial":
            successes, trials = successes_and_trials(y, design.weights, who)
            return cls(successes, trials, classes)
        _check_range(y, family, who)
        return cls(y, np.ones(len(y)) if design.weights is None else design.weights)


# Labels


def is_numeric(values) -> bool:
    """Whether a response is numbers; booleans are labels."""
    values = as_column(values)
    kind = getattr(getattr(values, "dtype", None), "kind", "")
    if kind == "O" and not isinstance(values, TextColumn):
        found = pd.api.types.infer_dtype(np.asarray(values), skipna=True)
        return found in ("integer", "floating", "mixed-integer-float", "decimal", "empty")
    return kind in "iufc"


def numbered_labels(values):
    """Numbers 0.0, 1.0, ... of labels, NaN where they are missing, and the labels (k,) in order.

    The order is that of the categories of a categorical, else the sorted one. The labels need not
    occur in the rows that a fit uses: see :func:`_two_classes`.
    """
    values = as_column(values)
    values = values.values if isinstance(values, TextColumn) else values
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, labels = values.codes, values.categories
    else:
        codes, labels = pd.factorize(values, sort=True)
        found = pd.api.types.infer_dtype(labels, skipna=True)
        if found.startswith("mixed") and found != "mixed-integer-float":
            raise ValueError(
                f"the labels of the response have mixed types ({found}): make them all text, or "
                "all numbers"
            )
    return np.where(codes < 0, np.nan, codes.astype(float)), np.asarray(list(labels))


def codes_of(values, classes):
    """0.0 and 1.0 of the two classes, NaN where a label is missing, 2.0 for any other label."""
    numbers, labels = numbered_labels(values)
    place = pd.Index(classes).get_indexer(pd.Index(labels)).astype(float)
    place = np.append(np.where(place < 0, 2.0, place), np.nan)
    return place[np.where(np.isnan(numbers), -1, numbers).astype(int)]


def _two_classes(numbers, labels, who):
    """0.0 and 1.0 for the two labels that occur, and these labels."""
    used, codes = np.unique(numbers.astype(int), return_inverse=True)
    classes = labels[used]
    if len(classes) > 2:
        shown = ", ".join(map(repr, classes[:4].tolist())) + (", ..." if len(classes) > 4 else "")
        raise ValueError(
            f"{who}: Only binary classification is supported. The type of the target is "
            f"multiclass, with the {len(classes)} classes {shown}. Fit one model per class with "
            "sklearn.multiclass.OneVsRestClassifier"
        )
    if len(classes) < 2:
        only = f"only one class, {classes.tolist()[0]!r}" if len(classes) else "no class at all"
        raise ValueError(f"{who}: y holds {only}: a classifier needs rows of two classes")
    return codes.reshape(-1).astype(float), classes


# Counts and the range of the family


def successes_and_trials(y, weights, who):
    """The binomial response as counts, from 0/1, proportions with trials, or both counts."""
    if y.ndim == 2:
        if weights is not None:
            raise ValueError(
                f"{who}: cbind(successes, failures) gives the trials, prior_weights give them "
                "again: leave prior_weights out"
            )
        if np.any(y < 0) or np.any(np.abs(y - np.round(y)) > _INTEGER):
            raise ValueError(f"{who}: successes and failures must be whole numbers, 0 or more")
        successes, trials = np.round(y[:, 0]), np.round(y.sum(axis=1))
        _check_outcomes(successes, trials, who)
        return successes, trials
    if np.any((y < 0) | (y > 1)):
        bad = y[(y < 0) | (y > 1)][0]
        raise ValueError(
            f"{who}: a binomial response lies between 0 and 1, got {bad:g}. Use 0/1, proportions "
            "with prior_weights= the column of trials, or cbind(successes, failures) on the left "
            "of the formula"
        )
    trials = np.ones(len(y)) if weights is None else weights
    successes = y * trials
    whole = np.abs(successes - np.round(successes)) <= _INTEGER * np.maximum(1.0, trials)
    if not whole.all():
        raise ValueError(_fractions(y, weights, whole, who))
    if np.any(np.abs(trials - np.round(trials)) > _INTEGER * np.maximum(1.0, trials)):
        raise ValueError(
            f"{who}: prior_weights of a binomial response are numbers of trials and must be whole: "
            "weights that count rows are sample_weight"
        )
    successes, trials = np.round(successes), np.round(trials)
    _check_outcomes(successes, trials, who)
    return successes, trials


def _fractions(y, weights, whole, who):
    first = np.flatnonzero(~whole)[0]
    if weights is None:
        return (
            f"{who}: the response holds proportions such as {y[first]:g} and no number of trials: "
            "name the column of trials in prior_weights"
        )
    count = int(np.sum(~whole))
    return (
        f"{who}: {count} proportion{'s' * (count > 1)} times trials {'are' if count > 1 else 'is'} "
        f"not whole, such as {y[first]:g} x {weights[first]:g}: check the response and "
        "prior_weights"
    )


def _check_outcomes(successes, trials, who):
    if not successes.any() or np.array_equal(successes, trials):
        outcome = "success" if successes.any() else "failure"
        raise ValueError(
            f"{who}: every outcome is a {outcome} (one class): there is nothing to explain, and no "
            "finite estimate of the intercept"
        )


def _check_range(y, family, who):
    """Check a response against the range of a family other than the binomial."""
    if y.ndim == 2:
        raise ValueError(
            f"{who}: cbind(successes, failures) is a binomial response, the family is "
            f"{family.name!r}"
        )
    problem = family.problem(y)
    if problem is not None:
        raise ValueError(f"{who} with family={family.name!r}: {problem}")
    check_magnitude(y, family, who)
    if not family.discrete:
        return
    if not y.any():
        raise ValueError(
            f"{who} with family={family.name!r}: every count is zero: the intercept has no finite "
            "estimate"
        )
    fractions = int(np.sum(y != np.round(y)))
    if fractions:
        warn(
            f"{who} with family={family.name!r}: {fractions} response{'s' * (fractions > 1)} "
            "are not whole numbers. Estimates are those of a quasi-likelihood; deviance_ and what "
            "is derived from it are not those of counts. For rates give an offset of log exposure, "
            "for positive measurements use family='gamma'",
            UserWarning,
        )
