"""Random-effects terms with a bar, ``(x | g)``: their effects and their grouping factors."""

from __future__ import annotations

from collections.abc import Sequence

from skmixed.design.formula_terms import RandomSpec
from skmixed.design.names import split_group, term_names
from skmixed.design.spellings import translate
from skmixed.design.tokens import Token, encloses, formula_error, is_called, source, split


def read_term(text: str, inside: list[Token], bar: Token) -> list[RandomSpec]:
    """The terms of ``effects | groups`` at its bar: one for each group, or for each effect too."""
    at = inside.index(bar)
    left, right = inside[:at], inside[at + 1 :]
    if not left:
        message = "nothing stands left of the bar: for a random intercept write (1 | g)"
        raise formula_error(text, bar.start, message)
    if not right:
        raise formula_error(text, bar.start, "no grouping factor stands right of the bar")
    expr = read_effects(text, left)
    if expr == "0":
        message = "the random-effects term has no effects: for an intercept write (1 | g)"
        raise formula_error(text, left[0].start, message)
    apart = bar.text == "||"
    parts = _uncorrelated(expr) if apart else (expr,)
    return [
        RandomSpec(part, group, not apart) for group in _grouping(text, right) for part in parts
    ]


def read_effects(text: str, left: list[Token]) -> str:
    """The terms left of the bar, written out: ``x*f`` becomes ``1 + x + f + x:f``."""
    check_effects(text, left)
    return _written_out(term_names(translate(text, left)))


def check_effects(text: str, left: list[Token]) -> None:
    """Raise an error for what has no meaning among random effects."""
    for token in left:
        if token.text == "." and not token.in_python:
            message = "'.' has no meaning in a random-effects term: name the columns"
            raise formula_error(text, token.start, message)
        if token.text == "offset" and is_called(left, token):
            message = "an offset has no place in a random-effects term"
            raise formula_error(text, token.start, message)


def _written_out(names: Sequence[str]) -> str:
    return " + ".join(names if "1" in names else ["0", *names])


def _uncorrelated(expr: str) -> tuple[str, ...]:
    """The terms of ``expr`` as expressions of their own: ``1 + x`` gives ``1`` and ``0 + x``."""
    return tuple("1" if name == "1" else f"0 + {name}" for name in term_names(expr))


def _grouping(text: str, right: list[Token]) -> list[str]:
    """The grouping factors of ``a/b/c``: ``a``, ``a:b``, ``a:b:c``."""
    for token in right:
        if token.text in ("+", "*", "-", "%in%", "^", "**") and not token.in_python:
            message = (
                "a grouping factor is a column, a:b or a/b; crossed factors are terms of their "
                "own: (1 | a) + (1 | b)"
            )
            raise formula_error(text, token.start, message)
    groups: list[str] = []
    for part in split(right, "/"):
        names = [*groups[-1:], *_interaction(text, part, right[0].start)]
        columns = dict.fromkeys(name for group in names for name in split_group(group))
        groups.append(":".join(f"`{name}`" if ":" in name else name for name in columns))
    return groups


def _interaction(text: str, tokens: list[Token], start: int) -> list[str]:
    """The columns of ``a:b``; parentheses round it and ``factor(a)`` are seen through."""
    while tokens and encloses(tokens) and tokens[0].text == "(":
        tokens = [token.shifted(1) for token in tokens[1:-1]]
    names: list[str] = []
    for part in split(tokens, ":"):
        if not part:
            raise formula_error(text, start, "a grouping factor is missing beside ':' or '/'")
        if part is not tokens and encloses(part) and part[0].text == "(":
            names += _interaction(text, part, start)
        else:
            names.append(_group_name(text, part))
    return names


def _group_name(text: str, part: list[Token]) -> str:
    wrapped = part[0].text in ("factor", "as.factor", "C") and len(part) == 4
    column = part[2] if wrapped else part[0]
    if column.kind not in ("name", "quoted") or (len(part) > 1 and not wrapped):
        message = (
            f"a grouping factor is a column, a:b or a/b, not {source(text, part)!r}: make the "
            "column before the fit"
        )
        raise formula_error(text, part[0].start, message)
    name = column.text.strip("`")
    return f"`{name}`" if ":" in name else name
