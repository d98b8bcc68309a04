"""The door to refits of an estimator, and what is read off every one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from skmixed.inference.intervals import component_name
from skmixed.inference.limits import limits_of
from skmixed.inference.observed import check_same_rows
from skmixed.models.glmm import GLMMFit
from skmixed.models.lmm import LMMFit
from skmixed.models.prior import FixedPrior
from skmixed.models.refits import GeneralizedRefits, LinearRefits

# Share by which sums over the rows may differ by rounding.
_SAME = 1e-6


def refits_of(model, X, y, groups, sample_weight, who):
    """LinearRefits or GeneralizedRefits of a fitted estimator and the data of its fit.

    Raises
    ------
    TypeError
        For what is no linear or generalised mixed model.
    ValueError
        For a model that is not fitted, and data that are not those of the fit.
    """
    if not hasattr(model, "simulate"):
        raise TypeError(
            f"{who} takes a fitted mixed model, got {type(model).__name__}: least squares is "
            "MixedLinearRegressor with a formula without random effects"
        )
    fit: Any = vars(model).get("result_")
    if fit is None:
        raise ValueError(f"{who}: this {type(model).__name__} is not fitted: call fit first")
    if not isinstance(fit, LMMFit | GLMMFit):
        raise TypeError(
            f"{who} is for linear and generalised mixed models, got {type(model).__name__}: draw "
            "responses with its simulate, and fit clones of it to them"
        )
    own, settings = copy(model), {"max_iter": model.max_iter, "tol": model.tol}
    refits: LinearRefits | GeneralizedRefits
    if isinstance(fit, LMMFit):
        design, _ = own._design(X, y, groups, sample_weight)
        refits = LinearRefits.of(fit, design, **settings)
    else:
        design, _, problem = own._problem(fit.family, X, y, groups, sample_weight)
        prior = FixedPrior.of(own.prior, type(own).__name__)
        refits = GeneralizedRefits.of(fit, design, problem, prior, **settings)
    _check_same_data(fit.source, refits.source, who)
    return refits


def _check_same_data(mine, theirs, who):
    check_same_rows(mine, theirs, who)
    pairs = [(mine.columns, theirs.columns), (mine.offset, theirs.offset)]
    pairs += list(zip(mine.covariances, theirs.covariances, strict=True))
    for own, other in pairs:
        size = np.abs(own).max(initial=0.0)
        if own.shape != other.shape or not np.allclose(own, other, rtol=0, atol=_SAME * size):
            raise ValueError(
                f"{who} needs the data of the fit, and these have other values in X: pass what the "
                "model was fitted to"
            )


# Refitted estimators


@dataclass(frozen=True)
class Refitted:
    """Makes fitted estimators of refits: copies of one, with another fit."""

    model: Any
    design: Any

    @classmethod
    def like(cls, model, design):
        own = copy(model)
        del own.__dict__["result_"]
        return cls(own, design)

    def __call__(self, fit, random=None, rows=None):
        """The estimator of a fit; of rows of the design with their terms ``random``."""
        model = object.__new__(type(self.model))
        model.__dict__.update(self.model.__dict__, result_=fit)
        if random is not None:
            self._with_levels(model, random)
        if fit.smooth_terms:
            X = self.design.X if rows is None else self.design.X[rows]
            terms = self.design.random if random is None else random
            model.__dict__["_fixed_variance_"] = fit.fixed_variance(X, terms)
        return model

    def _with_levels(self, model, random):
        """Names of the levels; new rows are of levels that were drawn only where these are kept."""
        levels = {
            t.group: pd.Index(t.levels)
            for t in random
            if t.relationship is None and t.structure != "smooth"
        }
        groups = dict(self.model.design_spec_.groups)
        for group, own in levels.items():
            groups[group] = groups[group].of_levels(own)
        known = self.model.labels_.levels | levels
        model.__dict__["labels_"] = replace(self.model.labels_, levels=known)
        model.__dict__["design_spec_"] = replace(self.model.design_spec_, groups=groups)


# Statistics


@dataclass(frozen=True)
class Estimates:
    """Fixed effects, standard deviations, correlations and sigma of a fitted estimator."""

    layout: object
    components: tuple
    names: tuple

    @classmethod
    def of(cls, fit, layout):
        """Of a fit, to be read off refits with this layout, and off others."""
        components = tuple(limits_of(replace(fit, layout=layout)).components)
        names = (*fit.names, *(component_name(fit, c) for c in components))
        return cls(layout, components, names)

    def __call__(self, model):
        fit = model.result_
        own = self.components if fit.layout is self.layout else limits_of(fit).components
        with np.errstate(divide="ignore"):
            scale = np.log(fit.sigma) if fit.is_linear else fit.log_dispersion
        theta, rho = np.split(fit.optimum.theta, [fit.layout.n_theta])
        x = np.concatenate([theta, [scale], rho])
        return np.append(model._coef(np.nan), [c.value(x) for c in own])


@dataclass(frozen=True)
class UserStatistic:
    """A function of a fitted estimator, whose value may be a number, an array, a Series or a dict.

    Values with names are put in the order of ``names``.
    """

    function: Callable
    names: tuple

    @classmethod
    def of(cls, function, model):
        if not callable(function):
            raise TypeError(
                f"statistic must be a function of a fitted model, got {type(function).__name__}"
            )
        value = function(model)
        if isinstance(value, Mapping | pd.Series):
            names = tuple(pd.Series(value).index)
            if len(set(names)) < len(names):
                raise ValueError(f"the values of statistic must have names of their own: {names}")
            return cls(function, names)
        values = np.asarray(value)
        if values.dtype.kind not in "iufb" or values.ndim > 1 or not values.size:
            raise TypeError(
                "statistic must return a number, an array with one axis, a Series or a dict of "
                f"numbers, got {type(value).__name__} with shape {values.shape}"
            )
        name = getattr(function, "__name__", "statistic")
        name = "statistic" if name == "<lambda>" else name
        return cls(function, (name,) if not values.ndim else _numbered(name, len(values)))

    def __call__(self, model):
        value = self.function(model)
        if isinstance(value, Mapping | pd.Series):
            return pd.Series(value).reindex(self.names).to_numpy(dtype=float)
        values = np.atleast_1d(np.asarray(value, dtype=float))
        if values.shape != (len(self.names),):
            raise ValueError(f"statistic has shape {values.shape} here, not {(len(self.names),)}")
        return values


def _numbered(name, k):
    return tuple(f"{name}[{j}]" for j in range(k))
