"""Random-effects terms with a bar."""

import pytest

from skmixed.design import RandomSpec, parse_formula


def test_correlated_tells_single_from_double_bars():
    terms = parse_formula("(x | g) + (x || h)")
    assert terms.random == (
        RandomSpec("1 + x", "g", True),
        RandomSpec("1", "h", False),
        RandomSpec("0 + x", "h", False),
    )
    assert terms.groups == ("g", "h")


@pytest.mark.parametrize(
    ("formula", "message", "caret"),
    [
        ("x + ( | g)", "nothing stands left of the bar: .* write \\(1 \\| g\\)", 6),
        ("x + (x | )", "no grouping factor", 7),
        ("x + (0 | g)", "has no effects: for an intercept write \\(1 \\| g\\)", 5),
        ("(0 || g)", "has no effects", 1),
        ("(x - 1 - x | g)", "has no effects", 1),
        ("(1 | a + b)", "\\(1 \\| a\\) \\+ \\(1 \\| b\\)", 7),
        ("(1 | a*b)", "terms of their own", 6),
        ("(1 | cut(x, 3))", "is a column, a:b or a/b, not 'cut\\(x, 3\\)'", 5),
        ("(1 | a:)", "missing beside ':'", 5),
        ("(. | g)", "name the columns", 1),
        ("(offset(x) | g)", "offset has no place", 1),
    ],
)
def test_errors_point_at_the_place(formula, message, caret):
    with pytest.raises(ValueError, match=message) as raised:
        parse_formula(formula)
    assert str(raised.value).endswith(f"\n    {formula}\n    {' ' * caret}^")
