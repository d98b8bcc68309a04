"""Tokens of a formula with their places and brackets, and errors that point at the place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<quoted>`[^`]+`)
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?L?(?!\w))
      | (?P<name>[^\W\d][\w.]*)
      | (?P<operator>\*\*|\|\||%[^%\s]*%|<=|>=|==|!=|[-+*/:^~|,=<>!&%$@.])
      | (?P<open>[(\[{])
      | (?P<close>[)\]}])""",
    re.VERBOSE,
)
_CLOSER = {"(": ")", "call": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Token:
    """One token: its kind, text, place in the formula and the brackets it stands in."""

    kind: str
    text: str
    start: int
    context: tuple[str, ...] = ()

    @property
    def in_python(self) -> bool:
        """Whether the token belongs to a Python expression (a call, an index or braces)."""
        return any(opener != "(" for opener in self.context)

    def shifted(self, depth: int) -> Token:
        """The same token seen from inside its ``depth`` outermost brackets."""
        return Token(self.kind, self.text, self.start, self.context[depth:])


def formula_error(text: str, position: int, message: str) -> ValueError:
    """A ValueError whose message shows the formula with a caret under ``position``."""
    return ValueError(f"{message}\n    {text}\n    {' ' * position}^")


def tokenize(text: str) -> list[Token]:
    """Return the tokens of ``text``; what is not closed is an error that points at it."""
    tokens: list[Token] = []
    opened: list[Token] = []
    context: tuple[str, ...] = ()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise formula_error(text, position, _unreadable(text[position]))
        kind, position = str(match.lastgroup), match.end()
        if kind == "space":
            continue
        if kind == "close":
            context = _close(text, match.start(), context, opened)
        tokens.append(Token(kind, match.group(), match.start(), context))
        if kind == "open":
            opened.append(tokens[-1])
            context = (*context, _opener(tokens))
    if opened:
        start = opened[-1].start
        raise formula_error(text, start, f"the formula has an unclosed {text[start]!r}")
    return tokens


def _unreadable(character: str) -> str:
    if character in "\"'`":
        return f"the formula has an unclosed quote {character}"
    return f"the formula has a character that means nothing here: {character!r}"


def _opener(tokens: list[Token]) -> str:
    """``"call"`` for the parenthesis after a name, else the bracket itself."""
    bracket = tokens[-1]
    before = tokens[-2] if len(tokens) > 1 else None
    # a name before "(" makes a call, with or without a blank between, in R as in Python
    called = before is not None and before.kind in ("name", "quoted")
    called = called or (before is not None and before.kind == "close" and bool(bracket.context))
    if bracket.text == "(" and (called or bracket.in_python):
        return "call"
    return bracket.text


def _close(text: str, start: int, context: tuple[str, ...], opened: list[Token]) -> tuple[str, ...]:
    if not opened:
        raise formula_error(text, start, f"the formula has a {text[start]!r} that nothing opened")
    if _CLOSER[context[-1]] != text[start]:
        wanted = _CLOSER[context[-1]]
        raise formula_error(text, start, f"the formula has {text[start]!r} where {wanted!r} closes")
    opened.pop()
    return context[:-1]


def backticked(text: str) -> str:
    """The formula with ``Q("a name")`` of patsy and statsmodels as the name between backticks."""
    if "Q" not in text:
        return text
    tokens = tokenize(text)
    parts, end = [], 0
    for i, token in enumerate(tokens):
        call = tokens[i : i + 4]
        texts = [t.text if t.kind != "string" or "`" in t.text else "" for t in call]
        if texts == ["Q", "(", "", ")"]:
            parts += [text[end : token.start], f"`{call[2].text[1:-1]}`"]
            end = call[-1].start + 1
    return "".join(parts) + text[end:]


def check_tilde(text: str, tokens: Sequence[Token]) -> None:
    """Raise an error for '=' or '==' in place of '~'."""
    signs = [token for token in tokens if token.text in ("=", "==") and not token.context]
    if signs and not any(token.text == "~" for token in tokens):
        at, sign = signs[0].start, signs[0].text
        left, right = text[:at].strip(), text[at + len(sign) :].strip()
        message = f"the response and its model are joined by '~', not {sign!r}: {left} ~ {right}"
        raise formula_error(text, at, message)


def check_names(text: str, tokens: Sequence[Token]) -> None:
    """Raise an error for names side by side, such as those of columns with blanks."""
    for i, token in enumerate(tokens):
        run = _side_by_side(tokens[i:])
        if len(run) > 1:
            message = (
                "two names stand side by side: an operator is missing, or the name of a column "
                f"has blanks and needs backticks: `{source(text, run)}`"
            )
            raise formula_error(text, token.start, message)


def _side_by_side(tokens: Sequence[Token]) -> list[Token]:
    """The names and numbers at the beginning with nothing between them; Python has words there."""
    words = ("name", "number")
    return list(takewhile(lambda token: token.kind in words and not token.in_python, tokens))


def source(text: str, tokens: Iterable[Token]) -> str:
    """The stretch of ``text`` that ``tokens`` cover."""
    tokens = list(tokens)
    return text[tokens[0].start : tokens[-1].start + len(tokens[-1].text)] if tokens else ""


def is_bar(token: Token) -> bool:
    """Whether a token is the bar of a random-effects term, or two of them."""
    return token.text in ("|", "||")


def split(tokens: Iterable[Token], separator: str, depth: int = 0) -> list[list[Token]]:
    """``tokens`` between the ``separator`` tokens that stand inside ``depth`` brackets."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == separator and len(token.context) == depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def encloses(tokens: Sequence[Token]) -> bool:
    """Whether the first token opens a bracket that the last one closes."""
    first, last = tokens[0], tokens[-1]
    return (
        first.kind == "open"
        and last.kind == "close"
        and first.context == last.context
        and all(len(token.context) > len(first.context) for token in tokens[1:-1])
    )


def is_one_call(tokens: Sequence[Token]) -> bool:
    """Whether ``tokens`` are a name and its arguments, and nothing else."""
    return len(tokens) > 2 and tokens[0].kind == "name" and encloses(tokens[1:])


def is_called(tokens: Sequence[Token], name: Token) -> bool:
    """Whether ``name`` is followed by the parenthesis of a call."""
    after = list(tokens).index(name) + 1
    return name.kind == "name" and after < len(tokens) and tokens[after].text == "("
