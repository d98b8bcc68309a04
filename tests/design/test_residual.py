"""The text of residual structures, and what it says of rows."""

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.design.residual import parse_residual


def data(**columns):
    table = {
        "g": np.repeat(["a", "b", "c"], 3),
        "t": np.tile([0, 1, 3], 3),
        "x": np.arange(1.0, 10.0),
        "sex": np.repeat(["f", "m", "f"], 3),
        "y": np.array([1.0, 3, 2, 5, 4, 6, 5, 7, 7]),
    }
    return pd.DataFrame(table | columns)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ident(g)", "ident(g)"),
        ("ar1(t|g)", "ar1(t | g)"),
        ("us(C(t) | g)", "us(t | g)"),
        ("ident( a:b )*power(x)", "ident(a:b) * power(x)"),
        ("ar1(`the day` | g) * ident(sex)", "ar1(the day | g) * ident(sex)"),
    ],
)
def test_text_is_read(text, shown):
    assert str(parse_residual(text)) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  ", "residual is empty"),
        ("ar1", r"is one of ident\(g\), ar1\(time \| g\)"),
        ("ar1(t)", "the time orders the rows of a group"),
        ("us(t)", "the visit tells which variances"),
        ("ar1(1 | g)", "the column that tells the order"),
        ("ar1( | g)", "takes a column, not nothing"),
        ("ar1(t || g)", r"ar1 is written ar1\(time \| g\)"),
        ("ident(x | g)", r"ident is written ident\(g\)"),
        ("ident()", r"ident is written ident\(g\)"),
        ("ar2(t | g)", r"ident, ar1, car1, us, cs, homcs, toep, hetar1, power, exponential. Did"),
        ("corSymm(v | g)", r"Did you mean us\(visit \| g\)"),
        ("ar1(log(t) | g)", r"takes a column, not 'log\(t\)'"),
        ("ar1(t | g / h)", "is a column, or a:b for combinations"),
        ("__import__('os').system('ls')", "is no residual structure"),
        ("ar1(t | g) *", r"a '\*' joins two"),
        ("ar1(t | g) * cs(t | g)", "has two correlations"),
        ("ident(g) * ident(g)", r"ident\(g\) twice"),
        ("ident(g", "unclosed"),
    ],
)
def test_what_cannot_be_read_says_so(text, message):
    with pytest.raises(ValueError, match=message):
        parse_residual(text)


def test_times_of_any_value_are_no_visits():
    table = pd.DataFrame({"g": np.repeat(np.arange(60), 2), "t": np.arange(120.0) / 7, "y": 1.0})
    with pytest.raises(ValueError, match=r"120 different values, for 100 at most: write car1"):
        build_design("y ~ 1", table, residual="homcs(t | g)")


@pytest.mark.parametrize(
    ("residual", "columns", "message"),
    [
        ("ar1(time | g)", {}, r"'time' of the residual structure .* is not a column"),
        ("ident(sexx)", {}, "Did you mean 'sex'"),
        ("ar1(t | g)", {"t": np.tile([0, 1, 1], 3)}, "'a' has two with t = 1"),
        ("us(t | g)", {"t": np.tile([0, 1, 1], 3)}, "'a' has two with t = 1"),
        ("ar1(t | g)", {"t": np.tile([0, 1, 1.5], 3)}, r"write car1\(t \| g\)"),
        ("ar1(t | g)", {"g": np.arange(9)}, "every level has one row"),
        ("homcs(t | g)", {"g": np.arange(9)}, "every level has one row"),
        ("car1(sex | g)", {}, "needs numbers, and 'sex' has categories"),
        ("power(sex)", {}, "needs numbers"),
        ("ident(g)", {"g": ["z", *"aaaabbbb"]}, "'z' has one row"),
        ("ident(g)", {"g": ["a"] * 9}, "has one level"),
        ("power(x)", {"x": np.arange(9.0)}, r"1 row with x = 0: use exponential\(x\)"),
        ("power(x)", {"x": np.arange(9.0) - 3.5}, "is negative in 4 rows"),
        ("exponential(x)", {"x": np.ones(9)}, "'x' is constant"),
        ("us(t | g)", {"t": [0, 1, 2, 0, 1, 3, 0, 1, 2]}, "has both 2 and 3"),
        ("toep(t | g)", {}, "not equally spaced"),
        ("ar1(t | g)", {"t": ["w2", "w3", "w10"] * 3}, "their numbers have another one"),
        ("hetar1(t | g)", {"t": ["w2", "w3", "w10"] * 3}, "their numbers have another one"),
        (
            "hetar1(t | g)",
            {"t": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-09"] * 3)},
            "are dates",
        ),
        ("hetar1(t | g)", {"t": [0, 1, 2**0.5] * 3}, r"no multiples of one step.*car1"),
        ("ar1(t | g)", {"t": [0, 1, np.nan, 0, 1, 2, 0, 1, 2]}, r"missing values \(NaN\) in t"),
    ],
)
def test_rows_that_leave_it_open_say_so(residual, columns, message):
    with pytest.raises(ValueError, match=message):
        build_design("y ~ 1", data(**columns), residual=residual)


def test_missing_values_are_left_out():
    frame = data(t=[0, 1, np.nan, 0, 1, 2, 0, 1, 2])
    design = build_design("y ~ x", frame, residual="ar1(t | g)", missing="drop")
    np.testing.assert_array_equal(design.rows, [0, 1, 3, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(design.residual[0].values, [0, 1, 0, 1, 2, 0, 1, 2])


def test_times_that_are_categories_are_counted_in_their_order():
    day = pd.Categorical(["late", "soon", "now"] * 3, ["now", "soon", "late"], ordered=True)
    [term] = build_design("y ~ x", data(day=day), residual="ar1(day | g)").residual
    np.testing.assert_array_equal(term.values, [2, 1, 0] * 3)
    more = day.set_categories(["then", "now", "soon", "never", "late"])
    for structure in ("ar1", "hetar1"):
        [term] = build_design("y ~ x", data(day=more), residual=f"{structure}(day | g)").residual
        own = term.values if structure == "ar1" else term.times[term.visits]
        np.testing.assert_array_equal(own, [2, 1, 0] * 3)


@pytest.mark.parametrize("structure", ["ar1", "hetar1"])
def test_categories_that_are_numbers_are_times(structure):
    for day in (["10", "2", "4"] * 3, pd.Categorical([10, 2, 4] * 3, [10, 2, 4])):
        [term] = build_design("y ~ x", data(day=day), residual=f"{structure}(day | g)").residual
        own = term.values - 2 if structure == "ar1" else 2 * term.times[term.visits]
        np.testing.assert_array_equal(own, [8, 0, 2] * 3)


def test_uneven_times_keep_their_distances():
    frame = data(t=[0, 1, 2.5] * 3)
    [term] = build_design("y ~ x", frame, residual="hetar1(t | g)").residual
    np.testing.assert_array_equal(term.times, [0, 2, 5])


def test_new_rows_have_the_levels_and_visits_of_the_fit():
    design = build_design("y ~ x", data(), residual="hetar1(t | g) * ident(sex)")
    spec = design.spec.residual
    new = data(g=["q"] * 4 + ["r"] * 5, t=[3, 1, 0, 0, 1, 3, 3, 1, 0])[4:6]
    visits, levels = spec.new(new, np.arange(2))
    np.testing.assert_array_equal(visits.visits, [1, 2])
    np.testing.assert_array_equal(levels.codes, [1, 1])
    with pytest.raises(ValueError, match="a level that ident"):
        spec.new(new.assign(sex="x"), np.arange(2))
    with pytest.raises(ValueError, match="2 rows have a level that hetar1"):
        spec.new(new.assign(t=[7, 8]), np.arange(2))
    with pytest.raises(ValueError, match="'t', 'g', 'sex', of which 1 row lacks"):
        spec.new(new.assign(t=[1, np.nan]), np.arange(2))
    with pytest.raises(ValueError, match="is not a column"):
        spec.new(new.drop(columns="t"), np.arange(2))


def test_all_columns_are_those_that_do_not_group():
    design = build_design("y ~ .", data(), residual="ar1(t | g) * ident(sex)")
    assert design.names == ("Intercept", "t", "x", "sex[T.m]")
    design = build_design(None, data(), response=np.arange(9.0), residual="us(t | g)")
    assert "g" not in "".join(design.names)
