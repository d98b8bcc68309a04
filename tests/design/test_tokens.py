"""Tokens with their brackets, and what cannot be a token."""

import pytest

from skmixed.design import parse_formula
from skmixed.design.tokens import split, tokenize


def test_tokens_know_their_brackets():
    tokens = {token.text: token for token in tokenize("(a + f(b)[c])")}
    assert tokens["a"].context == ("(",) and not tokens["a"].in_python
    assert tokens["b"].context == ("(", "call") and tokens["b"].in_python
    assert tokens["c"].in_python


def test_tokens_are_split_at_a_depth_of_brackets():
    tokens = tokenize("f(a, g(b, c), '|')")
    parts = split(tokens[2:-1], ",", depth=1)
    assert [len(part) for part in parts] == [1, 6, 1]
    assert split(tokens, ",") == [tokens]


@pytest.mark.parametrize(
    ("formula", "message", "caret"),
    [
        ("x + (1 | g", "unclosed '\\('", 4),
        ("x + 1 | g)", "'\\)' that nothing opened", 9),
        ("x + f(a]", "'\\]' where '\\)' closes", 7),
        ("x + 'abc", "unclosed quote", 4),
        ("x + `abc", "unclosed quote", 4),
        ("x ? y", "means nothing here: '\\?'", 2),
    ],
)
def test_errors_point_at_the_place(formula, message, caret):
    with pytest.raises(ValueError, match=message) as raised:
        parse_formula(formula)
    assert str(raised.value).endswith(f"\n    {formula}\n    {' ' * caret}^")
