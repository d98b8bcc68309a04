"""The text of smooth terms."""

import pytest

from skmixed.design import parse_formula
from skmixed.design.rewriting import formula_text


def test_a_smooth_term_is_read_from_the_formula():
    terms = parse_formula("y ~ z + s(x, k=20) + (1 | g) + s(log(z), by=f)")
    assert terms.fixed == "z"
    assert [str(spec) for spec in terms.random] == [
        "s(x, k=20)",
        "(1 | g)",
        "s(log(z), k=10, by=f)",
    ]
    assert [spec.group for spec in terms.random if spec.is_smooth] == ["s(x)", "s(log(z), by=f)"]
    again = parse_formula(formula_text(terms, "z"))
    assert again.random == terms.random


BAD = {
    "y ~ s()": r"s\(\) needs the column to smooth first",
    "y ~ s(k=5)": r"s\(\) needs the column to smooth first",
    "y ~ s(x, z)": r"s\(\) smooths one column.*a surface over two is a field",
    "y ~ s(x, bs='cr')": r"k= and by=, and no bs=",
    "y ~ s(x, m=2)": r"k= and by=, and no m=",
    "y ~ s(x, k=3)": "k of s.. is a whole number of B-splines, 4 or more.*got k=3",
    "y ~ s(x, k=z)": "k of s.. is a whole number of B-splines",
    "y ~ s(x, by=x)": r"s\(x, by=x\) multiplies the curve by what it is a function of",
    "y ~ s(x, by=f:g)": "by of s.. is a column, got f:g",
    "y ~ s(x) + s(x, k=5)": r"the smooth term s\(x\) stands twice",
    "y ~ z - s(x)": "a smooth term cannot be subtracted",
    "y ~ f * s(x)": "a smooth term s.x. is added on its own; one curve for every level",
    "y ~ (s(x) | g)": "a smooth term s.x. is added on its own",
    "s(y) ~ x": "a smooth term s.x. is added on its own",
    "y ~ s(.)": "'.' has no meaning",
}


@pytest.mark.parametrize("formula", BAD)
def test_what_cannot_be_read_says_so(formula):
    with pytest.raises(ValueError, match=f"(?s){BAD[formula]}"):
        parse_formula(formula)
