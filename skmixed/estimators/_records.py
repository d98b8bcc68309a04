"""The classes that files of fitted models may name: nothing else is ever made from a file."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import fields, is_dataclass
from functools import cache, cached_property
from types import UnionType
from typing import Any

import numpy as np
import pandas as pd

# Module: its classes, with the names that files have for them where those are others. What a fit
# keeps, and nothing that holds rows. Modules may change, names in files do not.
_TABLE = {
    "design.columns": "ColumnSpec",
    "design.curve_formula": "CurveTerm Effect MeanFunction",
    "design.formula_terms": "RandomSpec Terms",
    "design.glm": "Factor=DesignFactor GLMDesign",
    "design.grouping": "GroupSpec",
    "design.nonlinear": "NonlinearSpec",
    "design.parts": "FormulaPart PlainPart PlainTerm",
    "design.places": "PositionsPart",
    "design.reference": "Range ReferenceValues",
    "design.relationship": "Relationship",
    "design.residual": "ResidualSpec",
    "design.residual_formula": "Factor=ResidualFactor",
    "design.smooth": "SmoothLines SmoothPart",
    "design.spec": "DesignSpec",
    "design.terms": "FixedTerm",
    "estimators._attributes": "Labels TermLabels",
    "estimators._categories": "Categories CategoryRule",
    "estimators._responses": "SeveralFits",
    "estimators.mixed": "MixedLinearRegressor",
    "estimators.rank_transformer": "Numbers",
    "families": "Binomial Gamma Gaussian InverseGaussian NegativeBinomial Poisson",
    "linalg.cholesky": "BlockedFactor Eliminated",
    "linalg.crossproducts": "CrossProducts LevelBlocks",
    "linalg.effects": "Effects",
    "linalg.groups": "Group RelatedGroup",
    "linalg.iterative": "IterativeSystem",
    "linalg.iterative_blocks": "Blocks Table",
    "linalg.iterative_core": "Core",
    "linalg.iterative_factor": "IterativeFactor",
    "linalg.iterative_logdet": "LogDet",
    "linalg.iterative_precondition": "Coupled Diagonal",
    "linalg.pattern": "Entries GramPlan",
    "linalg.rank": "ColumnBasis",
    "linalg.system": "Factor Pattern System",
    "models.apart": "Apart Part",
    "models.correlated_order": "CorrelatedSecondOrder LinearForms",
    "models.correlations": "Autoregressive Decaying Exchangeable Independent Toeplitz",
    "models.glmm": "GLMMFit",
    "models.layout": "CovarianceLayout",
    "models.term_layout": "TermLayout",
    "models.linear": "LinearFit Solution",
    "models.lmm": "LMMFit",
    "models.moments": "RowMoments",
    "models.nlmm": "NLMMFit",
    "models.optimize": "Optimum",
    "models.prior": "FixedPrior Penalty",
    "models.residual": "FittedResidual Parameter Residual",
    "models.residual_parts": "ByCovariate ByLevel Markov OverVisits",
    "models.second_order": "Curvature SecondOrder",
    "models.separation": "SeparatedBasis SeparatedFit",
    "models.source": "Source",
    "models.stochastic": "MonteCarlo",
    "models.structured": "Correlated HomogeneousExchangeable SideBySide",
    "models.structures": "Restricted Unstructured",
}
_PLACES = {
    tag or own: (f"skmixed.{module}", own)
    for module, classes in _TABLE.items()
    for own, _, tag in (name.partition("=") for name in classes.split())
}
_NAMES = {place: name for name, place in _PLACES.items()}
# Modules whose records' integers are sizes of what the same file holds.
_SIZED = tuple(
    f"skmixed.{name}"
    for name in (
        "design.formula_terms design.smooth linalg. models.layout models.term_layout models.struct "
        "models.correlations models.residual"
    ).split()
)
# Those whose state is not their fields.
_STATES = {
    "MeanFunction": dict(text="str", parameters="tuple", functions="dict"),
    "Relationship": dict(group="str", levels="pd.Index", K="None"),
}
_TYPES = {
    "None": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "tuple": (tuple,),
    "dict": (dict,),
    "slice": (slice,),
    "np.ndarray": (np.ndarray,),
    "pd.Index": (pd.Index,),
}


def name_of(cls: type) -> str | None:
    """The name of a class in files, None for one that they may not name."""
    return _NAMES.get((cls.__module__, cls.__qualname__))


def is_name(name: object) -> bool:
    """Whether files may name a class so."""
    return isinstance(name, str) and name in _PLACES


@cache
def class_of(name: str) -> Any:
    """The class of a name that `is_name` has."""
    module, own = _PLACES[name]
    return getattr(importlib.import_module(module), own)


@cache
def has_sizes(name: str) -> bool:
    """Whether the integers of a record are sizes of what the same file holds."""
    return class_of(name).__module__.startswith(_SIZED)


@cache
def _fields(name: str) -> dict[str, str]:
    """Fields of a record with their annotations."""
    cls = class_of(name)
    known = {f.name: str(f.type) for f in fields(cls)} if is_dataclass(cls) else {}
    if hasattr(cls, "__setstate__"):  # which looks at the values itself
        known = dict.fromkeys(known, "Any")
    return _STATES.get(name, known)


@cache
def _types(annotation: str, module: str) -> tuple[Any, ...] | None:
    """The types that an annotation in a module allows; None where it leaves that open."""
    found: list[Any] = []
    for part in re.split(r" \| (?![^\[]*\])", annotation):
        head = part.split("[")[0].strip()
        known = _TYPES.get(head, getattr(sys.modules[module], head, None))
        if known is Any or not isinstance(known, type | UnionType | tuple):
            return None
        found += known if isinstance(known, tuple) else [known]
    return tuple(found)


def _is_one(value: Any, annotation: str, module: str) -> bool:
    types = _types(annotation, module)
    if types is None:
        return True
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        return False
    inside = re.fullmatch(r"tuple\[([^,]+), \.\.\.\]", annotation)
    return inside is None or all(_is_one(own, inside[1], module) for own in value)


def check_state(name: str, state: dict) -> str | None:
    """What is wrong with the state of a record, or None."""
    known, cls = _fields(name), class_of(name)
    missing = [key for key in known if key not in state]
    if missing:
        return f"it lacks {missing[0]!r}"
    if is_dataclass(cls):
        for key in state:
            if key not in known and not isinstance(getattr(cls, key, None), cached_property):
                return f"it has {key!r}, which no {name} has"
    for key, annotation in known.items():
        if not _is_one(state[key], annotation, cls.__module__):
            return f"{key!r} holds other things than {annotation}"
    return None
