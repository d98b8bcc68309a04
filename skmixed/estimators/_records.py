"""The classes that files of fitted models may name: nothing else is ever made from a file."""

from __future__ import annotations

import importlib
from dataclasses import fields, is_dataclass
from functools import cache, cached_property

# Module: its classes. What a fit keeps, and nothing that holds rows.
_TABLE = {
    "design.columns": "ColumnSpec",
    "design.curve_formula": "CurveTerm Effect MeanFunction",
    "design.formula_terms": "RandomSpec Terms",
    "design.glm": "Factor GLMDesign",
    "design.grouping": "GroupSpec",
    "design.nonlinear": "NonlinearSpec",
    "design.parts": "FormulaPart PlainPart PlainTerm",
    "design.places": "PositionsPart",
    "design.reference": "Range ReferenceValues",
    "design.relationship": "Relationship",
    "design.residual": "Factor ResidualSpec",
    "design.smooth": "SmoothLines SmoothPart",
    "design.spec": "DesignSpec",
    "design.terms": "FixedTerm",
    "estimators._attributes": "Labels TermLabels",
    "estimators._categories": "Categories CategoryRule",
    "estimators.rank_transformer": "Numbers",
    "families": "Binomial Gamma Gaussian InverseGaussian NegativeBinomial Poisson",
    "linalg.cholesky": "BlockedFactor Eliminated",
    "linalg.crossproducts": "CrossProducts LevelBlocks",
    "linalg.effects": "Effects",
    "linalg.groups": "Group RelatedGroup",
    "linalg.iterative": "IterativeFactor IterativeSystem",
    "linalg.iterative_blocks": "Blocks Table",
    "linalg.iterative_core": "Core",
    "linalg.iterative_logdet": "LogDet",
    "linalg.iterative_precondition": "Coupled Diagonal",
    "linalg.pattern": "Entries GramPlan",
    "linalg.rank": "ColumnBasis",
    "linalg.system": "Factor",
    "models.components": "Sigma StandardDeviation Correlation NaturalParameter ResidualParameter",
    "models.correlated_order": "CorrelatedSecondOrder LinearForms",
    "models.correlations": "Autoregressive Decaying Exchangeable Independent Toeplitz",
    "models.glmm": "GLMMFit",
    "models.layout": "CovarianceLayout TermLayout TermScale",
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
NAMES = frozenset(f"{module}.{name}" for module, own in _TABLE.items() for name in own.split())
# Those whose state is not their fields.
_STATES = {
    "design.curve_formula.MeanFunction": frozenset({"text", "parameters", "functions"}),
    "design.relationship.Relationship": frozenset({"group", "levels", "K"}),
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
}


def name_of(cls: type) -> str | None:
    """The name of a class in files, None for one that they may not name."""
    name = f"{cls.__module__.removeprefix('skmixed.')}.{cls.__qualname__}"
    return name if name in NAMES else None


@cache
def class_of(name: str) -> type:
    """The class of a name, which is one of `NAMES`."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(f"skmixed.{module}"), own)


@cache
def _fields(name: str) -> dict[str, tuple[type, ...] | None]:
    """Fields of a record with the types that they may have; None where that is left open."""
    cls = class_of(name)
    known = {f.name: _types(str(f.type)) for f in fields(cls)} if is_dataclass(cls) else {}
    own = _STATES.get(name)
    return known if own is None else {key: known.get(key) for key in own}


def _types(annotation: str) -> tuple[type, ...] | None:
    heads = [part.split("[")[0].strip() for part in annotation.split(" | ")]
    found = [_TYPES.get(head) for head in heads]
    return None if None in found else tuple(t for own in found if own for t in own)


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
    for key, types in known.items():
        value = state[key]
        if types is not None and not isinstance(value, types):
            return f"{key!r} is a {type(value).__name__}"
        if isinstance(value, bool) and types is not None and bool not in types:
            return f"{key!r} is a bool"
    return None
