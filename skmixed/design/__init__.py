"""Formulas, random-effects terms and design matrices."""

from skmixed.design.design import Design, DesignSpec, build_design, check_identifiable
from skmixed.design.formula import RandomSpec, Terms, parse_formula
from skmixed.design.random import RandomTerm

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
