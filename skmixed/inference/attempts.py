"""Fits of one generalised model in several ways, each of which may fail without stopping others."""

from __future__ import annotations

import time
import warnings
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from skmixed.models.prior import FixedPrior

# Characters of a message that are quoted.
_LENGTH = 400


@dataclass(frozen=True)
class Attempt:
    """What became of a fit.

    Attributes
    ----------
    settings : dict
        Parameters that are not those of the estimator given.
    model : estimator or None
        None where the fit failed.
    error : str
        Why, empty if it did not.
    told : tuple of (category, message)
        Its warnings.
    seconds : float
    """

    settings: dict
    model: Any
    error: str
    told: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def fit(self):
        return None if self.model is None else self.model.result_

    def has(self, category):
        """Whether it warned of such a thing."""
        return any(name == category for name, _ in self.told)

    @cached_property
    def estimates(self):
        """Fixed effects and standard deviations of random effects (Series), by name."""
        deviations = {
            f"sd_{'(Intercept)' if name == 'Intercept' else name}|{group}": np.sqrt(value)
            for group, table in self.model.covariances_.items()
            for name, value in zip(table.index, np.diag(table), strict=True)
        }
        return pd.concat([self.model.fixed_effects_, pd.Series(deviations, dtype=float)])

    def row(self):
        """Of the table of fits."""
        fit = self.fit
        known = {} if fit is None else {
            "converged": fit.optimum.converged,
            "singular": fit.is_singular,
            "deviance": fit.deviance,
            "evaluations": fit.optimum.n_evaluations,
        }  # fmt: skip
        told = ", ".join(dict.fromkeys(name.removesuffix("Warning") for name, _ in self.told))
        return {"fitted": fit is not None, **known, "warned of": told, "seconds": self.seconds}


@dataclass(frozen=True)
class Given:
    """An estimator with its data: what is fitted again and again, and never itself.

    Attributes
    ----------
    model : estimator
    X, y, groups, sample_weight
        As at its fit.
    """

    model: Any
    X: Any
    y: Any = None
    groups: Any = None
    sample_weight: Any = None
    settings: dict = field(default_factory=dict)

    @classmethod
    def of(cls, model, X, y, groups, sample_weight):
        """Of a model, or of the last step of a pipeline, which is given what the others make."""
        if hasattr(model, "steps"):
            before, model = model[:-1], model[-1]
            if len(before.steps):
                X = deepcopy(before).fit_transform(X, y)
        if not hasattr(model, "_own_family"):
            raise TypeError(
                "diagnose_glmm takes a MixedLogisticClassifier or MixedGLMRegressor, or a pipeline "
                f"that ends in one, got {type(model).__name__}"
            )
        given = cls(model, X, y, groups, sample_weight)
        given._check_parameters()
        return given

    def _check_parameters(self):
        """An error for parameters with which nothing could be fitted, whatever the data."""
        copy = self.copy()
        copy._validate_params()
        copy._own_family()
        FixedPrior.of(copy.prior, type(copy).__name__)

    def having(self, **settings):
        """The same with other parameters, in all fits."""
        return replace(self, settings={**self.settings, **settings})

    def copy(self, **settings):
        """An unfitted copy of the estimator."""
        parameters = self.model.get_params(deep=False) | self.settings | settings | {"verbose": 0}
        return type(self.model)(**parameters)

    def fit(self, *, weight=None, **settings) -> Attempt:
        """A fit of a copy with other parameters, or with other weights of the rows."""
        begin = time.perf_counter()
        weight = self.sample_weight if weight is None else weight
        model, error = self.copy(**settings), ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                model.fit(self.X, self.y, groups=self.groups, sample_weight=weight)
            except Exception as problem:  # whatever it is: what failed is quoted
                model, error = None, quoted(problem)
        told = tuple((w.category.__name__, str(w.message)) for w in caught)
        return Attempt(settings, model, error, told, time.perf_counter() - begin)

    def problem(self):
        """(Design, Outcome, Problem), without any prior."""
        copy = self.copy(prior=None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return copy._problem(
                copy._own_family(), self.X, self.y, self.groups, self.sample_weight
            )

    def design(self):
        """(Design, labels of the response or None)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.copy()._design(self.X, self.y, self.groups, self.sample_weight)

    def outcomes(self):
        """(Design, y, trials), also of a response that the model refuses to fit."""
        try:
            design, outcome, _ = self.problem()
        except ValueError:
            design, labels = self.design()
            binary = self.model._own_family().name == "binomial"
            return design, *raw_outcomes(design, labels, binary)
        return design, outcome.y, outcome.trials


def raw_outcomes(design, labels, binary):
    """(y, trials) of a response that the model refuses."""
    y = design.y
    if labels is not None and len(labels) == 1:
        y = np.full(len(y), float(labels[0] == 1))
    if y.ndim == 2:
        return y[:, 0], y.sum(axis=1)
    if binary and (y.min() < 0 or y.max() > 1):
        raise ValueError("the response has more than two kinds of outcomes")
    trials = np.ones(len(y)) if design.weights is None or not binary else design.weights
    return y * trials, trials


def quoted(error):
    """An error as one line of text, the kind of it where that is not a ValueError."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _LENGTH else text[:_LENGTH] + " ..."
    return text if type(error) is ValueError else f"{type(error).__name__}: {text}"


def subset_weights(weight, n_rows, rows, codes, fraction, rng):
    """Weights (n_rows,) that leave out a random part of the clusters.

    Parameters
    ----------
    weight : (n_rows,) or None
    n_rows : int
        Of the input.
    rows, codes : (n,)
        Places in the input of the rows of a design, and their clusters.
    fraction : float
        Share of the clusters that stay.
    rng : Generator
    """
    clusters = np.unique(codes)
    n_left = max(1, round(fraction * len(clusters)))
    stays = np.isin(codes, rng.choice(clusters, n_left, replace=False))
    result = np.ones(n_rows) if weight is None else np.array(weight, dtype=float)
    result[rows[~stays]] = 0.0
    return result
