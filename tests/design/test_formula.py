import pytest

from skmixed.design import parse_formula


@pytest.mark.parametrize(
    ("formula", "fixed", "random"),
    [
        ("x + (x | g)", "x", ["(1 + x | g)"]),
        ("(1 | g)", "1", ["(1 | g)"]),
        ("0 + (1 | g)", "0", ["(1 | g)"]),
        ("x - 1 + (0 + x | g)", "x - 1", ["(0 + x | g)"]),
        ("x+(x-1|g)", "x", ["(0 + x | g)"]),
        ("(x || g)", "1", ["(1 | g)", "(0 + x | g)"]),
        ("(0 + x || g)", "1", ["(0 + x | g)"]),
        ("(x*f || g)", "1", ["(1 | g)", "(0 + x | g)", "(0 + f | g)", "(0 + x:f | g)"]),
        ("(x*f | g)", "1", ["(1 + x + f + x:f | g)"]),
        ("(1 | a/b/c)", "1", ["(1 | a)", "(1 | a:b)", "(1 | a:b:c)"]),
        ("(1 | (a:b)/c)", "1", ["(1 | a:b)", "(1 | a:b:c)"]),
        ("(x || a/b)", "1", ["(1 | a)", "(0 + x | a)", "(1 | a:b)", "(0 + x | a:b)"]),
        ("~ x + ((1 | g) + (1 | h)) + z", "x + z", ["(1 | g)", "(1 | h)"]),
        ("(1 | factor(g)) + x", "x", ["(1 | g)"]),
        ("({log(x) + z} | g)", "1", ["(1 + {log(x) + z} | g)"]),
        ("(poly(x, 2) | g)", "1", ["(1 + poly(x, 2) | g)"]),
        ("I((a > 0) | (b > 0)) + (1 | g)", "I((a > 0) | (b > 0))", ["(1 | g)"]),
        ("x + - 1 + (1 | g)", "x - 1", ["(1 | g)"]),
        ("(a + b)^2 + (1 | g)", "(a + b)**2", ["(1 | g)"]),
        ("`my var` + (`my var` | `my g`)", "`my var`", ["(1 + `my var` | my g)"]),
    ],
)
def test_parts(formula, fixed, random):
    terms = parse_formula(formula)
    assert terms.response is None
    assert terms.fixed == fixed
    assert [str(spec) for spec in terms.random] == random


@pytest.mark.parametrize(
    ("formula", "response", "responses"),
    [
        ("y ~ x", "y", ("y",)),
        ("log(y) ~ x", "log(y)", ("log(y)",)),
        ("I(y^2) ~ x", "I(y**2)", ("I(y**2)",)),
        ("{y - 1} ~ x", "{y - 1}", ("{y - 1}",)),
        ("cbind(s, n - s) ~ x", "cbind(s, n - s)", ("s", "n - s")),
        ("cbind(f(s, 1), t) ~ x", "cbind(f(s, 1), t)", ("f(s, 1)", "t")),
        ("~ x", None, ()),
    ],
)
def test_response(formula, response, responses):
    terms = parse_formula(formula)
    assert terms.response == response
    assert terms.responses == responses


def test_offsets_are_taken_out_of_the_sum():
    terms = parse_formula("offset(log(t)) + x + offset(a - b) + (1 | g)")
    assert terms.offsets == ("log(t)", "a - b")
    assert terms.fixed == "x"


@pytest.mark.parametrize(
    ("formula", "message", "caret"),
    [
        ("x | g", "stands in parentheses: write \\(x \\| g\\)", 2),
        ("x + (a | b | c)", "one bar", 11),
        ("x * (1 | g)", "can only be added", 7),
        ("x - (1 | g)", "cannot be subtracted", 4),
        ("x - offset(z)", "write offset\\(-x\\)", 4),
        ("x + offset()", "needs an expression", 4),
        ("x:offset(z)", "added on its own", 2),
        ("x +", "nothing follows the sign", 2),
        ("y ~", "nothing on its right-hand side", 3),
        ("y ~ x ~ z", "more than one '~'", 6),
        ("y ~ (x ~ z)", "inside brackets", 7),
        ("y + z ~ x", "one variable or one call: write I\\(a \\+ b\\)", 0),
        ("cbind(s) ~ x", "takes two columns", 0),
    ],
)
def test_errors_point_at_the_place(formula, message, caret):
    with pytest.raises(ValueError, match=message) as raised:
        parse_formula(formula)
    assert str(raised.value).endswith(f"\n    {formula}\n    {' ' * caret}^")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("", "formula is empty"),
        ("(1 | g) + x + (1 | g)", r"\(1 \| g\) stands twice"),
        ("(x: | g)", "'x:' cannot be read"),
    ],
)
def test_errors_without_a_place(formula, message):
    with pytest.raises(ValueError, match=message):
        parse_formula(formula)


def test_a_formula_is_text():
    with pytest.raises(TypeError, match="a formula is a str, got int: 3"):
        parse_formula(3)


@pytest.mark.parametrize("text", ["s/n ~ x", "(s + n)/2 ~ x", "2*s - log(n) ~ x"])
def test_arithmetic_on_the_left_is_arithmetic(text):
    """As in R, I() is implied; only a bare sum, which reads like two responses, needs it."""
    left = text.partition("~")[0].strip()
    assert parse_formula(text).response == f"I({left})"
    assert parse_formula(f"I({left}) ~ x").response == f"I({left})"
