"""Names of columns and grouping factors."""

from skmixed.design import parse_formula
from skmixed.design.names import group_label, split_group


def test_split_group():
    assert split_group("a:b") == ("a", "b")
    assert split_group(parse_formula("(1 | `a:b`:c)").groups[0]) == ("a:b", "c")


def test_a_group_is_shown_by_its_name():
    assert group_label("g", ["g"]) == "g"
    assert group_label("`a:b`", ["`a:b`", "a"]) == "a:b"
    assert group_label("a:b", ["a:b", "`a:b`"]) == "a:b"
    assert group_label("`a:b`", ["a:b", "`a:b`"]) == "`a:b`"
    assert group_label("`a:b`:c", ["`a:b`:c"]) == "`a:b`:c"
