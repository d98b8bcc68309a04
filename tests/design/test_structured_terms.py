"""The text of structured terms and fields."""

import pytest

from skmixed.design import parse_formula


@pytest.mark.parametrize(
    ("formula", "random"),
    [
        ("ar1(0 + f | g)", ["ar1(0 + f | g)"]),
        ("cs(0 + f | a/b)", ["cs(0 + f | a)", "cs(0 + f | a:b)"]),
        ("us(x | g)", ["(1 + x | g)"]),
        ("expo(x + y)", ["expo(x + y)"]),
        ("gau(x + y | g)", ["gau(x + y | g)"]),
        ("mat(x + y)", ["mat(x + y, nu=1.5)"]),
        ("mat(x + y | g, nu=2.5)", ["mat(x + y | g, nu=2.5)"]),
        ("(1 | g) + toep(0 + C(t) | g)", ["(1 | g)", "toep(0 + C(t) | g)"]),
        ("((1 | g) + toep(0 + C(t) | g))", ["(1 | g)", "toep(0 + C(t) | g)"]),
    ],
)
def test_terms_are_read(formula, random):
    terms = parse_formula(formula)
    assert terms.fixed == "1"
    assert [str(spec) for spec in terms.random] == random


@pytest.mark.parametrize(
    ("formula", "message", "caret"),
    [
        ("foo(1 | g)", "'foo' is no covariance structure of random effects, which are us, ", 0),
        ("x + foo(1 || g)", "'foo' is no covariance structure", 4),
        ("un(visit | g)", "'un' is no covariance structure", 0),
        ("exp(0 + f | g)", r"'exp' is no .*did you mean expo\(x \+ y \| g\)", 0),
        ("ar1(0 + f || g)", "one bar", 10),
        ("ar1(0 + f, 2 | g)", "ar1.. takes one term", 11),
        ("mat(x, nu=3)", "nu, one of 0.5, 1.5, 2.5", 7),
        ("expo()", "has nothing inside", 5),
        ("expo(1 | g)", "needs coordinates", 5),
        ("x - ar1(0 + f | g)", "a random-effects term cannot be subtracted", 4),
    ],
)
def test_errors_point_at_the_place(formula, message, caret):
    with pytest.raises(ValueError, match=message) as raised:
        parse_formula(formula)
    assert str(raised.value).endswith(f"\n    {formula}\n    {' ' * caret}^")


@pytest.mark.parametrize(
    "text",
    ["log(a | b)", "C(a | b)", "np.where(a | b, 1, 0)", "f((x > 1) | (z < 2))", "abs(a | b)"],
)
def test_a_bar_among_conditions_is_an_or(text):
    terms = parse_formula(text)
    assert terms.fixed == text
    assert not terms.random
