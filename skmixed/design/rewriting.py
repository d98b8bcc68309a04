"""Formulas written anew: for other fixed effects, and with what the names of columns tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from skmixed.design.formula_terms import RandomSpec, Terms
from skmixed.design.names import quoted_name
from skmixed.design.tokens import tokenize


def formula_text(terms: Terms, fixed: str, *, smooths: bool = True) -> str:
    """The formula of ``terms`` with another part of fixed effects, with or without its smooths."""
    left = "" if terms.response is None else f"{terms.response} ~ "
    offsets = [f"offset({text})" for text in terms.offsets]
    random = [str(spec) for spec in terms.random if smooths or not spec.is_smooth]
    return left + " + ".join([fixed, *offsets, *random])


def linear_part(spec: RandomSpec, kinds: Mapping[str, str] | None = None) -> list[str]:
    """What a smooth term adds to the fixed part: its straight line or lines.

    Where ``by`` is a column of numbers (which ``kinds`` tells) the curve has a constant too.
    """
    if spec.by is None:
        return [spec.argument]
    if kinds is not None and not spec.by.startswith("C(") and kinds[spec.by_column] == "number":
        return [spec.by, f"{spec.argument}:{spec.by}"]
    return [f"{spec.argument}:{spec.by}"]


def resolve(terms: Terms, columns: tuple[str, ...], fill: tuple[str, ...]) -> Terms:
    """``terms`` with ``.`` written out as the columns ``fill`` and dotted column names quoted."""
    dotted = frozenset(name for name in columns if "." in name and not name.isidentifier())

    def quoted(text: str, fill: tuple[str, ...] = ()) -> str:
        return _with_columns(text, dotted, fill) if "." in text else text

    return replace(
        terms,
        response=terms.response and quoted(terms.response),
        fixed=quoted(terms.fixed, fill),
        random=tuple(
            replace(spec, expr=quoted(spec.expr), by=spec.by and quoted(spec.by))
            for spec in terms.random
        ),
        offsets=tuple(quoted(text) for text in terms.offsets),
    )


def has_dot(terms: Terms) -> bool:
    """Whether the fixed part has the term ``.``."""
    return any(
        token.text == "." and token.kind == "operator" and not token.in_python
        for token in tokenize(terms.fixed)
    )


def _with_columns(text: str, dotted: frozenset[str], fill: tuple[str, ...]) -> str:
    out, end = [], 0
    for token in tokenize(text):
        out.append(text[end : token.start])
        end = token.start + len(token.text)
        if token.text == "." and token.kind == "operator" and not token.in_python:
            out.append(f"({' + '.join(map(quoted_name, fill))})")
        elif token.text in dotted and token.kind == "name":
            out.append(quoted_name(token.text))
        else:
            out.append(token.text)
    return "".join(out) + text[end:]
