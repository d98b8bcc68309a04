"""Terms of the fixed effects: columns, variables and kinds come from the design, not from names."""

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.normal(size=40),
            "x": rng.normal(size=40),
            "a:b": rng.normal(size=40),
            "f": list("abcd") * 10,
            "h": np.arange(40) % 3,
            "yes": np.arange(40) // 20 == 0,
        }
    )


def _terms(formula, table):
    return {term.name: term for term in build_design(formula, table).fixed_terms}


@pytest.mark.parametrize("formula", ["y ~ x + f + yes", "y ~ x + f + yes + x:f"])
def test_plain_and_general_formulas_agree(formula, table):
    terms = _terms(formula, table)
    assert terms["x"].covariates == ("x",)
    assert terms["x"].columns.tolist() == [1]
    assert terms["f"].factors == {"f"}
    assert terms["f"].columns.tolist() == [2, 3, 4]
    assert terms["yes"].factors == {"yes"}
    if "x:f" in terms:
        assert terms["x:f"].contains(terms["x"])
        assert not terms["x:f"].contains(terms["f"])


def test_expressions(table):
    terms = _terms("y ~ poly(x, 2) * C(h) + I(x * h):f + `a:b`", table)
    assert terms["poly(x, 2):C(h)"].factors == {"C(h)"}
    assert terms["poly(x, 2):C(h)"].covariates == ("poly(x, 2)",)
    assert terms["poly(x, 2):C(h)"].variables == {"x", "h"}
    assert terms["poly(x, 2):C(h)"].contains(terms["poly(x, 2)"])
    assert terms["I(x * h):f"].variables == {"x", "h", "f"}
    assert terms["`a:b`"].covariates == ("a:b",)
    assert terms["`a:b`"].factors == frozenset()


def test_columns_are_those_of_X(table):
    design = build_design("y ~ x * f + C(h)", table)
    columns = np.concatenate([term.columns for term in design.fixed_terms])
    assert columns.tolist() == list(range(1, design.X.shape[1]))
    for term in design.fixed_terms:
        names = [design.names[j] for j in term.columns]
        assert all(variable in name for name in names for variable in term.variables)
