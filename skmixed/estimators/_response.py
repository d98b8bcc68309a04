"""Responses of generalised linear models: labels, trials, and the range of the family."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

# Successes this close to an integer are that integer.
_INTEGER = 1e-6


def encode_labels(values, classes, who):
    """0.0 and 1.0 (NaN where missing) for two labels, and the labels in order.

    Parameters
    ----------
    values : (n,) array or categorical
    classes : (2,) or None
        Known labels, or None to find them: in sorted order, of a categorical in its own.
    """
    categories = getattr(getattr(values, "dtype", None), "categories", None)
    values = pd.Series(np.asarray(values))
    missing = values.isna().to_numpy()
    if classes is None:
        known = values[~missing]
        found = set(known.unique())
        ordered = sorted(found) if categories is None else [c for c in categories if c in found]
        classes = np.asarray(ordered) if ordered else np.zeros(0)
        _check_two(classes, who)
    codes = pd.Index(classes).get_indexer(values).astype(float)
    unknown = (codes < 0) & ~missing
    if unknown.any():
        raise ValueError(
            f"{who}: y holds {values[unknown].tolist()[0]!r}, which is none of the classes "
            f"{classes.tolist()}"
        )
    return np.where(missing, np.nan, codes), classes


def _check_two(classes, who):
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


def positive_or_count(y, family, who):
    """Check a response against the range of a family other than the binomial."""
    if y.ndim == 2:
        raise ValueError(
            f"{who}: cbind(successes, failures) is a binomial response, the family is "
            f"{family.name!r}"
        )
    problem = family.problem(y)
    if problem is not None:
        raise ValueError(f"{who} with family={family.name!r}: {problem}")
    if not family.discrete:
        return
    if not y.any():
        raise ValueError(
            f"{who} with family={family.name!r}: every count is zero: the intercept has no finite "
            "estimate"
        )
    fractions = int(np.sum(y != np.round(y)))
    if fractions:
        warnings.warn(
            f"{who} with family={family.name!r}: {fractions} response{'s' * (fractions > 1)} "
            "are not whole numbers. Estimates are those of a quasi-likelihood; deviance_ and what "
            "is derived from it are not those of counts. For rates give an offset of log exposure, "
            "for positive measurements use family='gamma'",
            UserWarning,
            stacklevel=4,
        )
