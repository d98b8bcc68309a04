"""Text of residual structures: ``ar1(day | g) * ident(sex)`` to its factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skmixed.design.names import split_group
from skmixed.design.structure_names import (
    BY_LEVEL,
    BY_TIME,
    BY_VISIT,
    RESIDUAL_STRUCTURES,
    no_structure_of_residuals,
    residual_usage,
)
from skmixed.design.tokens import Token, formula_error, source, tokenize


@dataclass(frozen=True)
class Factor:
    """One factor of a residual structure: name, the column before the bar, the group after it."""

    kind: str
    column: str = ""
    group: str = ""

    def __str__(self) -> str:
        return f"{self.kind}({' | '.join(filter(None, (self.column, self.group)))})"

    @property
    def is_correlation(self) -> bool:
        """Whether it correlates the rows of a group."""
        return self.kind in (*BY_TIME, *BY_VISIT)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        own = (self.column,) if self.column else ()
        return (*own, *split_group(self.group))


def read_factors(text: str) -> tuple[Factor, ...]:
    """The factors of a residual structure, in the order of its text."""
    tokens = tokenize(text)
    if not tokens:
        raise ValueError("residual is empty: leave it out for independent residuals")
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == "*" and not token.context:
            parts.append([])
        else:
            parts[-1].append(token)
    factors = tuple(_factor(text, part) for part in parts)
    if len(set(factors)) < len(factors):
        twice = next(f for f in factors if factors.count(f) > 1)
        raise ValueError(f"the residual structure has {twice} twice: {text!r}")
    correlations = [f for f in factors if f.is_correlation]
    if len(correlations) > 1:
        raise ValueError(
            f"the residual structure has two correlations, {correlations[0]} and "
            f"{correlations[1]}: it may have one, beside variances such as ident(g) and power(x)"
        )
    return factors


def _factor(text: str, part: Sequence[Token]) -> Factor:
    if not part:
        raise formula_error(text, len(text.rstrip()) - 1, "a '*' joins two residual structures")
    name = part[0]
    if name.kind != "name" or len(part) < 3 or part[1].text != "(" or part[-1].text != ")":
        known = ", ".join(map(residual_usage, RESIDUAL_STRUCTURES))
        message = f"a residual structure is one of {known}, or several joined by '*'"
        raise formula_error(text, name.start, message)
    if name.text not in RESIDUAL_STRUCTURES:
        raise formula_error(text, name.start, no_structure_of_residuals(name.text))
    usage = residual_usage(name.text)
    inside = [token.shifted(1) for token in part[2:-1]]
    bars = [i for i, token in enumerate(inside) if token.text in ("|", "||")]
    if not inside or len(bars) != ("|" in usage) or any(inside[i].text == "||" for i in bars):
        why = ""
        if name.text in BY_TIME and not bars:
            why = ": the time orders the rows of a group"
        elif name.text in BY_VISIT and not bars:
            why = ": the visit tells which variances and covariances a row has"
        raise formula_error(text, name.start, f"{name.text} is written {usage}{why}")
    if name.text in BY_LEVEL:
        return Factor(name.text, "", _group(text, inside, usage))
    before = inside[: bars[0]] if bars else inside
    after = inside[bars[0] + 1 :] if bars else []
    return Factor(
        name.text, _column(text, before, name, usage), _group(text, after, usage) if bars else ""
    )


def _column(text, tokens, name, usage):
    if len(tokens) == 4 and tokens[0].text in ("C", "factor") and tokens[1].text == "(":
        tokens = tokens[2:3]
    if len(tokens) == 1 and tokens[0].text == "1":
        raise formula_error(
            text, tokens[0].start, f"{usage} needs the column that tells the order of the rows"
        )
    if len(tokens) != 1 or tokens[0].kind not in ("name", "quoted"):
        where = tokens[0].start if tokens else name.start
        shown = repr(source(text, tokens)) if tokens else "nothing"
        raise formula_error(
            text, where, f"{usage} takes a column, not {shown}: make the column before the fit"
        )
    return tokens[0].text.strip("`")


def _group(text, tokens, usage):
    names, begin = [], 0
    marks = [i for i, token in enumerate(tokens) if token.text == ":"]
    for end in (*marks, len(tokens)):
        part = tokens[begin:end]
        if len(part) != 1 or part[0].kind not in ("name", "quoted"):
            where = tokens[0].start if tokens else 0
            raise formula_error(
                text, where, f"the group g of {usage} is a column, or a:b for combinations"
            )
        name = part[0].text.strip("`")
        names.append(f"`{name}`" if ":" in name else name)
        begin = end + 1
    return ":".join(names)
