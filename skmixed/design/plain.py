"""Formulaic's record of how it coded a formula as lists, texts and numbers, and back.

The text of the formula says which terms there are. What the rows of the fit had to say beside it is
kept: which levels a factor has, what functions have learnt, and which products make the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from formulaic.materializers.base import EncodedTermStructure
from formulaic.materializers.types import EvaluatedFactor, FactorValues, ScopedFactor, ScopedTerm
from formulaic.model_spec import ModelSpec
from formulaic.parser.types import Factor, Term
from formulaic.transforms import contrasts
from formulaic.utils.sentinels import UNSET

from skmixed.design.names import formulaic_formula

_CONTRASTS = {
    name: getattr(contrasts, f"{name}Contrasts")
    for name in ("Treatment", "SAS", "Sum", "Helmert", "Diff", "Poly", "Custom")
}


def plain_spec(spec: ModelSpec) -> dict[str, Any]:
    """What `model_spec_of` needs beside the formula."""
    return {
        "terms": [
            [[_plain_product(own) for own in at.scoped_terms], list(at.columns)]
            for at in spec.structure or ()
        ],
        "factors": {expr: _plain_factor(*own) for expr, own in spec.encoder_state.items()},
        "learnt": dict(spec.transform_state),
    }


def model_spec_of(expr: str, plain: Mapping[str, Any]) -> ModelSpec:
    """Formulaic's record of the formula ``expr``, from its plain form.

    Raises
    ------
    ValueError
        For a plain form that is not one of this formula.
    """
    formula = formulaic_formula(expr)
    terms = list(formula)
    if len(terms) != len(plain["terms"]):
        raise ValueError(
            f"the formula part {expr!r} has {len(terms)} terms, its record {len(plain['terms'])}"
        )
    levels = {own: _factor(own, **made) for own, made in plain["factors"].items()}
    return ModelSpec(
        formula,
        na_action="ignore",
        output="numpy",
        structure=[
            EncodedTermStructure(term, [_product(term, levels, *own) for own in products], names)
            for term, (products, names) in zip(terms, plain["terms"], strict=True)
        ],
        transform_state=dict(plain["learnt"]),
        encoder_state=levels,
    )


def _plain_product(product: ScopedTerm) -> list:
    """A product of codings: its factors, each of all levels or of all but one, and a number."""
    return [[[f.factor.expr, bool(f.reduced)] for f in product.factors], product.scale]


def _product(term: Term, levels: Mapping[str, Any], chosen: list, scale: float) -> ScopedTerm:
    factors = {factor.expr: factor for factor in term.factors}
    unknown = [expr for expr, _ in chosen if expr not in factors or expr not in levels]
    if unknown:
        raise ValueError(f"the term {str(term)!r} has no factor {unknown[0]!r}")
    return ScopedTerm(
        [
            ScopedFactor(
                EvaluatedFactor(factors[expr], FactorValues(None, kind=levels[expr][0])), reduced
            )
            for expr, reduced in chosen
        ],
        scale=scale,
    )


def _plain_factor(kind: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": kind.value}
    if "categories" in state:
        plain["categories"] = list(state["categories"])
    if "contrasts" in state:
        own = state["contrasts"].contrasts
        [name] = [name for name, known in _CONTRASTS.items() if type(own) is known]
        settings = {key: value for key, value in vars(own).items() if value is not UNSET}
        plain["contrasts"] = [name, settings]
    return plain


def _factor(
    expr: str, kind: str, categories: list | None = None, contrasts: list | None = None
) -> tuple[Any, dict[str, Any]]:
    """Kind and state of a factor, as formulaic's encoders have them."""
    state: dict[str, Any] = {} if categories is None else {"categories": list(categories)}
    if contrasts is not None:
        name, settings = contrasts
        state["contrasts"] = _coding(name, settings, state["categories"])
    return Factor.Kind(kind), state


def _coding(name: str, settings: Mapping[str, Any], levels: list) -> Any:
    if name not in _CONTRASTS:
        raise ValueError(f"unknown contrasts {name!r}: known are {', '.join(_CONTRASTS)}")
    known = _CONTRASTS[name]
    made = known.__new__(known)
    made.__dict__.update({"base": UNSET} if issubclass(known, _CONTRASTS["Treatment"]) else {})
    made.__dict__.update(settings)
    return contrasts.ContrastsState(made, levels)
