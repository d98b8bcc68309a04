"""Names of columns and grouping factors."""

import re

import pytest

from skmixed.design import parse_formula
from skmixed.design.names import group_label, split_group, unknown_name


def test_split_group():
    assert split_group("a:b") == ("a", "b")
    assert split_group(parse_formula("(1 | `a:b`:c)").groups[0]) == ("a:b", "c")


def test_a_group_is_shown_by_its_name():
    assert group_label("g", ["g"]) == "g"
    assert group_label("`a:b`", ["`a:b`", "a"]) == "a:b"
    assert group_label("a:b", ["a:b", "`a:b`"]) == "a:b"
    assert group_label("`a:b`", ["a:b", "`a:b`"]) == "`a:b`"
    assert group_label("`a:b`:c", ["`a:b`:c"]) == "`a:b`:c"


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (["x0", "x1"], "without names of columns.*set_output"),
        (["scale__Days", "remainder__g"], "verbose_feature_names_out=False"),
        (["days", "g"], "Did you mean 'days'"),
    ],
)
def test_an_unknown_name_after_a_transformer(columns, hint):
    assert re.search(hint, str(unknown_name("Days", columns, "no column")))
    assert str(unknown_name("Days", ["a"], "no column")) == "no column. Columns: a"
