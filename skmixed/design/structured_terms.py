"""Structured terms, ``ar1(0 + f | g)``, and fields over coordinates, ``expo(x + y)``."""

from __future__ import annotations

from dataclasses import replace

from skmixed.design.expression import is_known_name
from skmixed.design.formula_terms import RandomSpec
from skmixed.design.random_terms import read_effects, read_term
from skmixed.design.spellings import is_spelled_otherwise
from skmixed.design.structure_names import SPATIAL, STRUCTURES, no_structure_of_effects
from skmixed.design.tokens import Token, formula_error, is_bar, is_one_call, split, tokenize

# Smoothness of a Matern covariance for which there is a closed form
_SMOOTHNESS = ("0.5", "1.5", "2.5")
# What stands in a condition, whose bar is an "or"
_IN_CONDITIONS = ("<", ">", "<=", ">=", "==", "!=", "&", "!")


def is_structured(piece: list[Token]) -> bool:
    """Whether a summand is one call of coordinates or with a bar, and no function of columns."""
    if not is_one_call(piece):
        return False
    name = piece[0].text
    if name in SPATIAL:
        return True
    if not any(is_bar(token) and len(token.context) == 1 for token in piece):
        return False
    return name in (*STRUCTURES, "exp") or not _may_join_conditions(name, piece)


def _may_join_conditions(name: str, piece: list[Token]) -> bool:
    known = is_known_name(name) or is_spelled_otherwise(name) or "." in name or name == "offset"
    return known or any(token.text in _IN_CONDITIONS for token in piece)


def read_structured(text: str, piece: list[Token]) -> list[RandomSpec]:
    """The terms of ``ar1(0 + f | g)``, one for each group."""
    name = piece[0]
    if name.text not in STRUCTURES:
        raise formula_error(text, name.start, no_structure_of_effects(name.text))
    inside, structure = _smoothness(text, name, _inside(text, piece))
    bars = [token for token in inside if is_bar(token) and not token.context]
    if len(bars) > 1 or any(token.text == "||" for token in bars):
        message = f"a structured term has one bar: {name.text}(x | g)"
        raise formula_error(text, bars[-1].start, message)
    if bars:
        specs = read_term(text, inside, bars[0])
    else:
        specs = [RandomSpec(read_effects(text, inside), "")]
    if name.text in SPATIAL:
        specs = [_of_coordinates(text, name.text, inside[0].start, spec) for spec in specs]
    return [replace(spec, structure=structure) for spec in specs]


def _inside(text: str, piece: list[Token]) -> list[Token]:
    """The tokens inside of a call, as they would be outside of it."""
    begin, end = piece[1].start + 1, piece[-1].start
    inside = tokenize(" " * begin + text[begin:end])
    if not inside:
        raise formula_error(text, end, f"{piece[0].text}() has nothing inside")
    return inside


def _smoothness(text: str, name: Token, inside: list[Token]) -> tuple[list[Token], str]:
    """The tokens without ``nu=``, and the name of the structure."""
    first, *rest = split(inside, ",")
    structure = "mat1.5" if name.text == "mat" else name.text
    for part in rest:
        words = [token.text for token in part]
        given = name.text == "mat" and words[:2] == ["nu", "="]
        if not given or "".join(words[2:]) not in _SMOOTHNESS:
            message = f"{name.text}() takes one term"
            if name.text == "mat":
                message += f" and nu, one of {', '.join(_SMOOTHNESS)}: mat(x + y, nu=2.5)"
            raise formula_error(text, part[0].start if part else name.start, message)
        structure = f"mat{words[2]}"
    return first, structure


def _of_coordinates(text: str, name: str, start: int, spec: RandomSpec) -> RandomSpec:
    """A spatial term: coordinates without an intercept; one field for all rows has no group."""
    coordinates = spec.expr.removeprefix("1 + ").removeprefix("0 + ")
    if coordinates in ("1", "0"):
        raise formula_error(text, start, f"{name}() needs coordinates: {name}(x + y | g)")
    return RandomSpec(f"0 + {coordinates}", spec.group or coordinates)
