"""Whether what was read is a fitted mixed model: its parts fit together, and it predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skmixed.design.nonlinear import NonlinearSpec
from skmixed.design.spec import DesignSpec
from skmixed.estimators._artefact import Storable
from skmixed.estimators._attributes import Labels
from skmixed.estimators._input import GROUPS
from skmixed.estimators._plain import Malformed
from skmixed.models.fit import MixedFit
from skmixed.models.linear import LinearFit

# Most rows that a model is tried on.
_MOST = 100_000


class StorableModel(Storable):
    """A mixed model in files."""

    def _check_restored(self):
        super()._check_restored()
        check_mixed_model(self)


def check_mixed_model(model: Any) -> None:
    """Raise an error where the attributes are not those of one fit.

    Raises
    ------
    Malformed
        With the part that is wrong. Other errors come from what does not fit together.
    """
    if "estimators_" in vars(model):
        _check_several(model)
        return
    fit, labels, spec = model.result_, model.labels_, model.design_spec_
    kinds = (fit, MixedFit), (labels, Labels), (spec, DesignSpec | NonlinearSpec)
    for value, kind in kinds:
        if not isinstance(value, kind):
            raise Malformed(f"a {type(value).__name__} stands in the place of a {kind}")
    _check_estimates(fit, labels)
    _check_effects(fit, labels, spec)
    model.summary()
    rows = _rows(spec)
    if model.prior_weights is not None:
        rows[model.prior_weights] = 1.0
    X, groups = _arguments(model, rows, spec)
    made = np.asarray(model.predict(X, **groups))
    if fit.factor is not None:
        model.predict_interval(X, **groups)
    if getattr(spec, "residual", None) is None:
        model.simulate(X[:1], **{name: own[:1] for name, own in groups.items()})
    if made.shape[:1] != (len(rows),):
        raise Malformed(f"predictions of {len(rows)} rows have the shape {made.shape}")


def _check_several(model):
    """Models of several responses."""
    fits = model.result_.fits
    if not len(fits) == len(model.estimators_) == len(model.response_names_) > 0:
        raise Malformed("fits, estimators and names are of different responses")
    for own in model.estimators_:
        if type(own) is not type(model) or "estimators_" in vars(own):
            raise Malformed(f"a {type(own).__name__} stands in the place of one response's model")
        check_mixed_model(own)
    first, fits = model.estimators_[0], tuple(own.result_ for own in model.estimators_)
    own = {"result_": type(model.result_)(fits)}  # which stand there twice
    model.__dict__.update(own, design_spec_=first.design_spec_, labels_=first.labels_)


def check_least_squares(model: Any) -> None:
    """Raise an error where the attributes are not those of a fit by a generalised inverse."""
    fit, design, names = model.result_, model._design, model._names
    if not isinstance(fit, LinearFit) or not isinstance(names, list):
        raise Malformed(f"a {type(fit).__name__} stands in the place of a LinearFit")
    p, r = len(names), np.shape(fit.gamma)[0]
    _check_array("gamma", fit.gamma, (r, *np.shape(fit.gamma)[1:]))
    _check_basis(fit.basis, p, r)
    if not np.isfinite(fit.gamma).all():
        raise Malformed("gamma holds values that are not finite")
    if design is None:
        X = _zeros(model, model.n_features_in_)
    else:
        known = design.reference
        values = {name: [own.mean] for name, own in known.covariates.items()} | known.factors
        X = _frame_of(values)
        X = X if model.formula is not None else X[list(model.feature_names_in_)]
    model.predict(X)
    model.summary(**({} if model._single else {"output": 0}))


def check_transformer(model: Any) -> None:
    """Raise an error where the attributes are not those of a fitted transformer of columns."""
    n = len(model._names)
    _check_array("_support", model._support, (n,))
    X = _zeros(model, n)
    for name in model._categorical:
        rule = model._rules.get(name)
        X[name] = pd.Categorical(["a"] if rule is None else list(rule.kept[:1]))
    out = model.transform(X)
    if out.shape[1] != int(model._support.sum()) != len(model.get_feature_names_out()):
        raise Malformed(f"the output has {out.shape[1]} columns")


def _zeros(model, n):
    names = getattr(model, "feature_names_in_", None)
    if type(n) is not int or not 0 < n <= _MOST * 10:
        raise Malformed(f"the model has {n!r} features")
    X = np.zeros((1, n))
    return X if names is None else pd.DataFrame(X, columns=list(names))


def _check_estimates(fit, labels):
    basis, r = fit.basis, len(np.ravel(fit.gamma))
    _check_array("gamma", fit.gamma, (r,))
    _check_array("fixed_root", fit.fixed_root, np.shape(fit.fixed_root)[:1] * 2)
    _check_array("optimum.theta", fit.optimum.theta, np.shape(fit.optimum.theta)[:1])
    _check_basis(basis, len(labels.columns), r)
    for name, values in {"gamma": fit.gamma, "optimum.theta": fit.optimum.theta}.items():
        if not np.isfinite(values).all():
            raise Malformed(f"{name} holds values that are not finite")


def _check_basis(basis, p, r):
    shapes = {
        "basis.kept": (basis.kept, (r,)),
        "basis.aliased": (basis.aliased, (p,)),
        "basis.combinations": (basis.combinations, (p, r)),
        "basis.to_coef": (basis.to_coef, (r, r)),
        "basis.factor": (basis.factor, (r, r)),
        "basis.center": (basis.center, (r,)),
    }
    for name, (values, shape) in shapes.items():
        _check_array(name, values, shape)
    if not np.isfinite(basis.center).all():
        raise Malformed("basis.center holds values that are not finite")
    if np.any((basis.kept < 0) | (basis.kept >= p)):
        raise Malformed(f"basis.kept names columns that are not among the {p}")


def _check_effects(fit, labels, spec):
    if not len(labels.terms) == len(fit.layout.terms) == len(fit.modes):
        raise Malformed("labels, layout and modes are of different terms")
    groups = spec.groups
    for term, at, modes in zip(labels.terms, fit.layout.terms, fit.modes, strict=True):
        own = groups[term.group]
        wrong = own.wrong
        if wrong is not None:
            raise Malformed(f"{term.group!r} {wrong}")
        levels = len(own.levels)
        _check_array(f"modes of {term.group!r}", modes, (levels, at.size))
        for name in ("M", "scale"):
            _check_array(f"{name} of {term.group!r}", getattr(at, name), (at.size, at.size))
        if not np.isfinite(modes).all():
            raise Malformed(f"modes of {term.group!r} holds values that are not finite")


def _check_array(name, values, shape):
    if not isinstance(values, np.ndarray) or values.shape != shape:
        raise Malformed(f"{name} has the shape {np.shape(values)} instead of {shape}")


def _rows(spec):
    """Rows with every level and every category, numbers at their means."""
    values: dict[str, Any] = {}
    for own in _specs(spec):
        for name, column in own.columns.items():
            seen = own.reference.covariates.get(name)
            number = [1.0 if seen is None else float(seen.mean)]
            kinds = {"category": column.categories, "boolean": [True, False]}
            values[name] = kinds.get(column.kind, number)
        for group in own.groups.values():
            values |= dict(zip(group.columns, group.column_levels, strict=True))
    return _frame_of(values)


def _frame_of(values):
    """Values by column, each repeated to the length of the longest."""
    n = min(max([len(own) for own in values.values()], default=1), _MOST)
    at = {name: np.arange(n) % max(len(own), 1) for name, own in values.items()}
    return pd.DataFrame({name: pd.Index(own).take(at[name]) for name, own in values.items()})


def _specs(spec):
    if isinstance(spec, DesignSpec):
        return (spec,)
    return (spec.carrier, *(part for part in spec.parts if part is not None))


def _arguments(model, rows, spec):
    """X of these rows as the model takes it, with the groups beside it where it has some."""
    names = getattr(model, "feature_names_in_", None)
    if model.formula is not None:
        X = rows
    elif names is not None:
        X = rows[list(names)]
    else:
        X = rows[[f"x{j}" for j in range(model.n_features_in_)]].to_numpy()
    apart = GROUPS in spec.needs() and (names is None or GROUPS not in names)
    return X, {"groups": rows[GROUPS]} if apart else {}
