"""Formulas, random-effects terms and design matrices."""

from skmixed.design.design import build_design
from skmixed.design.formula import parse_formula
from skmixed.design.formula_terms import RandomSpec, Terms
from skmixed.design.identifiable import check_identifiable
from skmixed.design.random import RandomTerm
from skmixed.design.spec import Design, DesignSpec

__all__ = [
    "Design",
    "DesignSpec",
    "RandomSpec",
    "RandomTerm",
    "Terms",
    "build_design",
    "check_identifiable",
    "parse_formula",
]
