"""R's spellings in formulas, written as Python or answered with what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from skmixed.design.expression import is_known_name
from skmixed.design.structure_names import (
    STRUCTURES,
    is_known_elsewhere,
    no_structure_of_effects,
    structure_out_of_place,
)
from skmixed.design.tokens import Token, formula_error, is_called, split

# R functions with one unambiguous translation
_TRANSLATED = {"factor": "C", "as.factor": "C"}
# R functions that exist here under another spelling, or whose meaning depends on the data
_ADVICE = {
    "relevel": "C(f, contr.treatment(base='b'))",
    "ordered": "C(f, contr.poly), or make the column an ordered pandas categorical first",
    "as.ordered": "C(f, contr.poly), or make the column an ordered pandas categorical first",
    "as.numeric": "a numeric column made before the fit",
    "as.integer": "a numeric column made before the fit",
    "as.character": "C(f)",
    "as.logical": "a boolean column made before the fit",
    "ns": 'cr(x, df=3, constraints="center"), a natural cubic regression spline',
    "te": "a product of splines, bs(x, df=4):bs(z, df=4)",
    "rcs": 'cr(x, df=3, constraints="center")',
    "cut": "a categorical column made before the fit (pandas.cut)",
    "ifelse": "np.where(condition, a, b)",
    "interaction": "a:b",
    "pmin": "np.minimum(a, b)",
    "pmax": "np.maximum(a, b)",
}


def is_spelled_otherwise(name: str) -> bool:
    """Whether ``name`` is a function of R that has another name here."""
    return name in _TRANSLATED or name in _ADVICE


def translate(text: str, tokens: Sequence[Token]) -> str:
    """The source of ``tokens`` with R spellings written as Python."""
    out, end = [], tokens[0].start
    for i, token in enumerate(tokens):
        out.append(text[end : token.start])
        out.append(_python_spelling(text, tokens, i))
        end = token.start + len(token.text)
    return re.sub(r"\s+", " ", "".join(out)) if not _has_strings(tokens) else "".join(out)


def _has_strings(tokens: Iterable[Token]) -> bool:
    return any(token.kind in ("string", "quoted") for token in tokens)


def _python_spelling(text: str, tokens: Sequence[Token], i: int) -> str:
    """Token ``i`` as Python, or an error that names the Python spelling."""
    token = tokens[i]
    before = tokens[i - 1] if i else None
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    if token.kind == "name":
        return _python_name(text, tokens, i)
    if token.kind == "number":
        return token.text.removesuffix("L")
    if token.text in ("^", "**"):
        return _python_power(text, token, before, after)
    if token.text == "%in%" and not token.in_python:
        if after is not None and after.text == "(":
            message = "write the nesting out with ':', as in b:a for b %in% a"
            raise formula_error(text, token.start, message)
        return ":"
    if token.text.startswith("%") and len(token.text) > 1:
        message = f"the operator {token.text} is R's: make the column before the fit"
        raise formula_error(text, token.start, message)
    if token.text == "$" or (token.text == "@" and not token.in_python):
        raise formula_error(text, token.start, "name the column alone: x, not data$x")
    return token.text


def _python_name(text: str, tokens: Sequence[Token], i: int) -> str:
    token = tokens[i]
    called = tokens[i + 1 : i + 2] and tokens[i + 1].text == "("
    if called and token.text in _TRANSLATED:
        return _TRANSLATED[token.text]
    if called and token.text == "s":
        message = (
            "a smooth term s(x) is added on its own; one curve for every level of a factor is "
            "s(x, by=g)"
        )
        raise formula_error(text, token.start, message)
    if called and token.text in _ADVICE:
        message = f"{token.text}() is R's: write {_ADVICE[token.text]}"
        raise formula_error(text, token.start, message)
    if called:
        _refuse_structure(text, tokens, i)
    if token.in_python and token.text in ("TRUE", "FALSE"):
        return token.text.capitalize()
    if token.in_python and token.text in ("T", "F") and i and tokens[i - 1].text == "=":
        return "True" if token.text == "T" else "False"
    return token.text


def _python_power(text: str, token: Token, before: Token | None, after: Token | None) -> str:
    """``**``; at the level of terms a power of one variable is the variable, which nobody means."""
    if token.in_python:
        return "**"
    if before is not None and before.kind in ("name", "quoted", "close") and before.text != ")":
        shown = f"{before.text}**{after.text if after is not None else 2}"
        message = (
            f"between terms a power expands interactions, so a power of one variable is the "
            f"variable itself: write I({shown})"
        )
        raise formula_error(text, token.start, message)
    return "**"


def refuse_structures(text: str, tokens: Sequence[Token]) -> None:
    """Raise an error for a call of a covariance structure, which stands on its own."""
    for i, token in enumerate(tokens):
        if token.kind == "name" and is_called(tokens, token):
            _refuse_structure(text, tokens, i)


def _refuse_structure(text: str, tokens: Sequence[Token], i: int) -> None:
    name = tokens[i].text
    if name == "cs" and not _is_spline(tokens[i + 1 :]):
        raise formula_error(text, tokens[i].start, structure_out_of_place(name))
    if is_known_name(name):
        return
    if name in STRUCTURES:
        raise formula_error(text, tokens[i].start, structure_out_of_place(name))
    if is_known_elsewhere(name):
        raise formula_error(text, tokens[i].start, no_structure_of_effects(name))


def _is_spline(tokens: Sequence[Token]) -> bool:
    """Whether the call whose brackets open here has more than one argument."""
    depth = len(tokens[0].context)
    end = next(j for j, token in enumerate(tokens[1:], 1) if len(token.context) <= depth)
    return len(split(tokens[1:end], ",", depth + 1)) > 1
