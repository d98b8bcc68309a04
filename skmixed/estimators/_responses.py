"""Several responses of the same rows: one linear mixed model for each, one reading of the rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_consistent_length

from skmixed.estimators._attributes import FittedMixedModel
from skmixed.estimators._checks import check_design, check_objective
from skmixed.estimators._input import response_vector, unmasked
from skmixed.estimators._residual import tell_of_residual


@dataclass(frozen=True)
class SeveralFits:
    """In the place of one fit: whoever asks it something is told where the single ones are."""

    fits: tuple

    def of_response(self, k):
        """The fit of one response."""
        return self.fits[k]

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.refusal()

    def refusal(self):
        """The error for a question that has an answer for one response only."""
        return AttributeError(
            f"the model was fitted to {len(self.fits)} responses, and only the model of one of "
            "them has an answer: estimators_[0] is that of the first"
        )


def _of_each(name, join):
    """The attribute of a model of one response, joined over several of them."""

    def read(self):
        models = vars(self).get("estimators_")
        if models is None:
            return getattr(super(SeveralResponses, self), name)
        return join([getattr(model, name) for model in models], self)

    return property(read, doc=getattr(FittedMixedModel, name).__doc__)


def _table(columns, model):
    return pd.concat(columns, axis=1, keys=model.response_names_)


def _array(values, model):
    return np.array(values)


def _first(values, model):
    return values[0]


class SeveralResponses(FittedMixedModel):
    """Fit, predictions and attributes of models of several responses."""

    fixed_effects_ = _of_each("fixed_effects_", _table)
    standard_errors_ = _of_each("standard_errors_", _table)
    coef_ = _of_each("coef_", _array)
    intercept_ = _of_each("intercept_", _array)
    theta_ = _of_each("theta_", _array)
    sigma_ = _of_each("sigma_", _array)
    deviance_ = _of_each("deviance_", _array)
    log_likelihood_ = _of_each("log_likelihood_", _array)
    aic_ = _of_each("aic_", _array)
    bic_ = _of_each("bic_", _array)
    is_singular_ = _of_each("is_singular_", _array)
    converged_ = _of_each("converged_", _array)
    n_iter_ = _of_each("n_iter_", _array)
    n_evaluations_ = _of_each("n_evaluations_", _array)
    n_obs_ = _of_each("n_obs_", _first)
    df_resid_ = _of_each("df_resid_", _first)
    aliased_ = _of_each("aliased_", _first)
    linear_dependencies_ = _of_each("linear_dependencies_", _first)

    def _fit_several(self, X, Y, groups, sample_weight):
        """A model of each column of Y: the rows are read once, and crossed with themselves once.

        Rows in which one response is missing are left out of all of them, where that is wanted.
        """
        names, Y = _read_responses(Y, type(self).__name__)
        whole = np.where(np.isnan(Y).any(axis=1), np.nan, Y[:, 0])
        design, _ = self._design(X, whole, groups, sample_weight)
        table = self._table(X, reset=False)
        for name, y in zip(names, Y.T, strict=True):
            self._check_use(design, table, pd.Series(y, name=name), y, None)
        check_design(design)
        first = self._objective(design)
        responses = None if first.source.residual or first.iterates else first.responses(design)
        models = []
        for y in Y[design.rows].T:
            own = replace(design, y=y)
            if not models:
                objective = first
            elif responses is None:
                objective = self._objective(own)
            else:
                objective = first.with_response(responses(y))
            models.append(self._model_of(own, objective))
        self.__dict__.update(
            estimators_=models,
            response_names_=names,
            design_spec_=models[0].design_spec_,
            labels_=models[0].labels_,
            result_=SeveralFits(tuple(model.result_ for model in models)),
        )
        return self

    def _model_of(self, design, objective):
        """The fitted model of one response."""
        check_objective(design, objective)
        model = clone(self)
        vars(model).pop("_skl_callbacks", None)  # they hear of the whole
        for name in ("n_features_in_", "feature_names_in_"):
            if name in vars(self):
                setattr(model, name, vars(self)[name])
        fit = self._search(objective)
        model._tell_monte_carlo(fit.monte_carlo)
        model._publish(design, fit)
        tell_of_residual(model)
        return model

    def _predict_eta(self, X, groups, random_effects, return_std):
        models = vars(self).get("estimators_")
        if models is None:
            return super()._predict_eta(X, groups, random_effects, return_std)
        rows = models[0]._new_rows(X, groups, random_effects)
        eta, std = zip(*(model._eta_of(rows, return_std) for model in models), strict=True)
        return np.column_stack(eta), np.column_stack(std) if return_std else None

    def _interval(self, *args):
        if "estimators_" in vars(self):
            raise self.result_.refusal()
        return super()._interval(*args)

    def _fit_html(self):
        models = vars(self).get("estimators_")
        if models is None:
            return super()._fit_html()
        parts = zip(self.response_names_, models, strict=True)
        return "".join(f"<h3>{escape(name)}</h3>{model._fit_html()}" for name, model in parts)

    def predict_report(self, X, *, groups=None, kind="counts"):
        models = vars(self).get("estimators_")
        answers = super() if models is None else models[0]
        return answers.predict_report(X, groups=groups, kind=kind)


def is_several(y):
    """Whether y holds several responses."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    return len(shape) == 2 and shape[1] > 1


def _read_responses(Y, who):
    """Names of the responses, and their values (n, q), NaN where one is missing."""
    names = [str(name) for name in getattr(Y, "columns", ())]
    values = unmasked(Y) if isinstance(Y, np.ma.MaskedArray) else np.asarray(Y)
    columns = [response_vector(column, len(values), who) for column in values.T]
    return names or [f"y{k}" for k in range(len(columns))], np.column_stack(columns)


def several_responses(y, mean):
    """Responses (n, q) that predictions are compared with."""
    _, Y = _read_responses(y, "score")
    check_consistent_length(Y, mean)
    if Y.shape != mean.shape:
        raise ValueError(f"the model has {mean.shape[1]} responses, y has {Y.shape[1]}")
    return Y
