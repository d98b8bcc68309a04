"""R's spellings: translated, or answered with what to write."""

import pytest

from skmixed.design import parse_formula


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("I(x^2)", "I(x**2)"),
        ("I(x^2 + z^(1/2))", "I(x**2 + z**(1/2))"),
        ("factor(x)", "C(x)"),
        ("as.factor(x)", "C(x)"),
        ("poly(x, 2L, raw = TRUE)", "poly(x, 2, raw = True)"),
        ("scale(x, scale=F)", "scale(x, scale=False)"),
        ("b %in% a", "b : a"),
        ("C(f, contr.sum)", "C(f, contr.sum)"),
        ("C(f, contr.treatment('T'))", "C(f, contr.treatment('T'))"),
    ],
)
def test_r_spellings_with_one_meaning_are_translated(written, read):
    assert parse_formula(written).fixed == read


@pytest.mark.parametrize(
    ("formula", "message", "caret"),
    [
        ("x^2", "write I\\(x\\*\\*2\\)", 1),
        ("a + x**3", "write I\\(x\\*\\*3\\)", 5),
        ("b %in% (a + c)", "write the nesting out", 2),
        ("x + I(a %/% b)", "%/% is R's", 8),
        ("d$x", "x, not data\\$x", 1),
        ("relevel(f, ref='b')", "contr.treatment\\(base='b'\\)", 0),
        ("x + ns(z, 3)", "cr\\(x, df=3", 4),
        ("as.numeric(f)", "column made before the fit", 0),
    ],
)
def test_errors_point_at_the_place(formula, message, caret):
    with pytest.raises(ValueError, match=message) as raised:
        parse_formula(formula)
    assert str(raised.value).endswith(f"\n    {formula}\n    {' ' * caret}^")


@pytest.mark.parametrize(
    ("formula", "message", "caret"),
    [
        ("x + ar1(Worker)", r"is written ar1\(0 \+ C\(time\) \| g\) and added on its own", 4),
        ("x:ar1(0 + C(t) | g)", r"written ar1\(0 \+ C\(time\) \| g\) and added on its own", 2),
        ("ar1(t | g) * x", r'residual="ar1\(time \| g\)"', 0),
        ("us(Worker)", r"written us\(0 \+ f \| g\) and added", 0),
        ("diag(Worker)", r"written diag\(0 \+ f \| g\)", 0),
        ("x + cs(Machine)", r"no spline, cs\(x, df=4\).* written cs\(0 \+ f \| g\)", 4),
        ("x:cs(0 + f | g)", r"no spline.* written cs\(0 \+ f \| g\)", 2),
        ("AR1(Worker)", r"'AR1' is no covariance .*did you mean ar1\(0 \+ C\(time\) \| g\)", 0),
        ("SP(EXP)(x | g)", r"'SP' is no covariance .*did you mean expo\(x \+ y \| g\)", 0),
        ("x + Expo(x + z)", r"did you mean expo\(x \+ y \| g\)", 4),
        ("corAR1(1 | g):x", r'argument residual="ar1\(time \| g\)"', 0),
        ("corAR1(form = ~t | g)", r'argument residual="ar1\(time \| g\)"', 0),
    ],
)
def test_structures_that_are_no_terms_say_how_they_are_written(formula, message, caret):
    with pytest.raises(ValueError, match=message) as raised:
        parse_formula(formula)
    assert str(raised.value).endswith(f"\n    {formula}\n    {' ' * caret}^")


@pytest.mark.parametrize(
    "text", ["cs(x, 3)", "cs(x, df=4)", "cs(log(x), df=f(3, 4))", "sp + un:ar1", "exp(x)"]
)
def test_functions_and_columns_of_these_names_are_left_alone(text):
    assert parse_formula(text).fixed == text
