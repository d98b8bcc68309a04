"""Formulas written anew."""

from skmixed.design import RandomSpec, parse_formula
from skmixed.design.rewriting import formula_text, resolve


def test_resolve_writes_the_dot_out_and_quotes_dotted_names():
    terms = parse_formula("log(a.b) ~ . - a.b + np.log(c.d) + (x.y | g)")
    found = resolve(terms, ("a.b", "c.d", "x.y", "g", "h"), ("h", "c.d"))
    assert found.response == "log(`a.b`)"
    assert found.fixed == "(`h` + `c.d`) - `a.b` + np.log(`c.d`)"
    assert found.random == (RandomSpec("1 + `x.y`", "g"),)


def test_a_formula_is_written_with_other_fixed_effects():
    terms = parse_formula("y ~ x + offset(t) + (x || g) + s(z) + mat(x + z | g, nu=2.5)")
    text = formula_text(terms, "1")
    assert text == (
        "y ~ 1 + offset(t) + (1 | g) + (0 + x | g) + s(z, k=10) + mat(x + z | g, nu=2.5)"
    )
    again = parse_formula(text)
    assert [str(spec) for spec in again.random] == [str(spec) for spec in terms.random]
    assert "s(z" not in formula_text(terms, "1", smooths=False)
