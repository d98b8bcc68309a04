"""Tokens with their brackets, and what cannot be a token."""

import pytest

from skmixed.design import parse_formula
from skmixed.design.curve_formula import parse_curve_formula
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


@pytest.mark.parametrize("parse", [parse_formula, parse_curve_formula])
def test_an_equals_sign_is_no_tilde(parse):
    with pytest.raises(ValueError, match=r"joined by '~', not '=': y ~ f\(x, k=3\)\n") as error:
        parse("y = f(x, k=3)")
    assert str(error.value).splitlines()[-1] == "      ^"
    with pytest.raises(ValueError, match=r"joined by '~', not '==': y ~ x\n"):
        parse("y == x")
    assert parse("y ~ f(x, k=3)").response == "y"


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        ("y ~ days of study + (1 | g)", "days of study"),
        ("y ~ x + (1 | the school)", "the school"),
        ("reaction time ~ x", "reaction time"),
        ("y ~ x + (2nd day | g)", None),
        ("y ~ x + (day 2 | g)", "day 2"),
        ("y ~ x + offset(log(n)) + a b", "a b"),
    ],
)
def test_names_with_blanks_need_backticks(formula, name):
    with pytest.raises(ValueError, match="backticks: `" + name + "`" if name else "means nothing"):
        parse_formula(formula)
    if name:
        parse_formula(formula.replace(name, f"`{name}`"))


def test_words_of_python_stand_side_by_side():
    assert parse_formula("y ~ I(a if b else c) + {not a and b}").response == "y"


@pytest.mark.parametrize("quotes", ["'", '"'])
def test_quoted_names_of_patsy_are_backticks(quotes):
    def q(name):
        return f"Q({quotes}{name}{quotes})"

    text = f"{q('my y')} ~ log({q('a b')}) + ({q('a b')} | {q('g g')}/h) + offset({q('o o')})"
    terms = parse_formula(text)
    assert terms == parse_formula("`my y` ~ log(`a b`) + (`a b` | `g g`/h) + offset(`o o`)")
    assert terms.groups == ("g g", "g g:h")
    assert parse_formula("Q + Qx + f('Q(1)')").fixed == "Q + Qx + f('Q(1)')"
    assert parse_curve_formula(f"{q('my y')} ~ a * {q('x x')}").mean == "a * `x x`"
