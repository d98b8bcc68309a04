import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from skmixed.design.columns import (
    ColumnSpec,
    Table,
    clean,
    drop_unused,
    factorize,
    looks_numeric,
    observed,
)

pl = pytest.importorskip("polars")


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, 2.0, np.nan]),
        np.array([1.0, 2.0, np.nan], dtype=np.float32),
        np.array([1, 2, None], dtype=object),
        np.array([decimal.Decimal(1), decimal.Decimal(2), None], dtype=object),
        pd.array([1, 2, None], dtype="Int64"),
        pd.array([1, 2, None], dtype="Float32"),
        pd.arrays.SparseArray([1.0, 2.0, np.nan]),
    ],
)
def test_numbers(values):
    column = clean("x", values)
    assert column.kind == "number"
    np.testing.assert_array_equal(np.asarray(column.values, float)[:2], [1, 2])
    np.testing.assert_array_equal(column.missing, [False, False, True])


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, object, "Int32"])
def test_integers_stay_integers(dtype):
    column = clean(
        "k", pd.array([3, 1], dtype=dtype) if dtype == "Int32" else np.array([3, 1], dtype)
    )
    assert column.kind == "number" and column.values.dtype.kind in "iu"
    assert column.missing is None


@pytest.mark.parametrize(
    "values",
    [
        np.array([2**64 - 1, 3], dtype=np.uint64),
        pd.array([2**64 - 1, 3], dtype="UInt64"),
        np.array([2**64 - 1, 3], dtype=object),
    ],
)
def test_large_integers_are_kept(values):
    assert clean("k", values).values.tolist() == [2**64 - 1, 3]


def test_integers_beyond_all_kinds_are_floats():
    for large in ([2**70, -3], [2**64 - 1, -3]):
        assert clean("k", np.array(large, dtype=object)).values.tolist() == [float(large[0]), -3.0]


@pytest.mark.parametrize(
    "values",
    [
        np.array([True, False]),
        pd.array([True, False], dtype="boolean"),
        np.array([True, False], object),
    ],
)
def test_booleans(values):
    column = clean("b", values)
    assert column.kind == "boolean"
    np.testing.assert_array_equal(column.values, [True, False])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array(["b", "a", "b"]), True),
        (np.array(["b", "a", "b"], dtype=object), True),
        (pd.array(["b", "a", "b"], dtype="string"), True),
        (pd.Categorical(["b", "a", "b"]), False),
    ],
)
def test_text_becomes_sorted_categories(values, text):
    column = clean("f", values)
    assert (column.kind, column.text) == ("category", text)
    assert list(column.values.categories) == ["a", "b"]
    assert list(column.values.codes) == [1, 0, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0, np.inf, -np.inf]), "'x' has 2 infinite values"),
        (np.array([1.0, np.nan, np.inf]), "'x' has 1 infinite value:"),
        (np.array([1 + 1j, 2]), "complex numbers: use their real"),
        (np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]"), "dates: turn them into numbers"),
        (pd.date_range("2020", periods=2, tz="UTC").array, "dates"),
        (pd.to_timedelta([1, 2], unit="D").array, "time spans: .*total_seconds"),
        (np.array([datetime.date(2020, 1, 1)] * 2, dtype=object), "dates"),
        (np.array([1, "a"], dtype=object), "mixed types"),
        (np.array([[1], [2]], dtype=object), "mixed types|dimensions"),
        (pd.period_range("2020", periods=2, freq="D").array, "dtype period"),
        (np.ones((3, 2)), "2 dimensions"),
        (np.array([b"a", b"b"]), "not numbers"),
    ],
)
def test_columns_that_are_no_covariates(values, message):
    with pytest.raises(ValueError, match=message):
        clean("x", values)


def test_huge_finite_values_are_not_infinite():
    column = clean("x", np.array([1e308, 1e308, 1e308]))
    assert column.missing is None


@pytest.mark.parametrize(
    ("levels", "numeric"),
    [
        (["1", "2.5", "-3e4"], True),
        ([1, 2.5], True),
        (["1", "x"], False),
        (["nan"], False),
        (["inf"], False),
        (["2020_01", "2020_02"], False),
        (["1_000"], False),
    ],
)
def test_text_that_is_numbers(levels, numeric):
    assert looks_numeric(levels) is numeric


@pytest.mark.parametrize(
    ("values", "codes", "levels"),
    [
        (np.array([7, 3, 7, 5]), [2, 0, 2, 1], [3, 5, 7]),
        (np.array([10**12, 3, 10**12]), [1, 0, 1], [3, 10**12]),
        (np.array([-2, 5, -2], dtype=np.int8), [0, 1, 0], [-2, 5]),
        (np.array([127, -128, 127], dtype=np.int8), [1, 0, 1], [-128, 127]),
        (np.array([2**64 - 1, 2**64 - 5], dtype=np.uint64), [1, 0], [2**64 - 5, 2**64 - 1]),
        (np.array([2**63, 2**63 - 2], dtype=np.uint64), [1, 0], [2**63 - 2, 2**63]),
        (np.array([2**64 - 1, 0], dtype=np.uint64), [1, 0], [0, 2**64 - 1]),
        (np.array([-(2**63), 3 - 2**63]), [0, 1], [-(2**63), 3 - 2**63]),
        (np.array([1.5, np.nan, 0.5]), [1, -1, 0], [0.5, 1.5]),
        (np.array(["b", None, "a"], dtype=object), [1, -1, 0], ["a", "b"]),
        (np.array(["10", "9"]), [0, 1], ["10", "9"]),
        (pd.Categorical(["b", None, "a"], categories=["z", "b", "a"]), [0, -1, 1], ["b", "a"]),
        (pd.array([4, None, 2], dtype="Int64"), [1, -1, 0], [2, 4]),
        (np.array([True, False, True]), [1, 0, 1], [False, True]),
        (pd.array(["x", pd.NA], dtype="string"), [0, -1], ["x"]),
    ],
)
def test_factorize(values, codes, levels):
    found, own = factorize("g", values)
    assert found.dtype == np.intp
    np.testing.assert_array_equal(found, codes)
    assert list(own) == levels


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1, "1"], dtype=object), "'g' holds values of mixed types"),
        (np.array([1j, 2]), "'g' holds complex"),
        (np.array([[1, 2], [3, 4]]), "2 dimensions"),
    ],
)
def test_columns_that_do_not_group(values, message):
    with pytest.raises(ValueError, match=message):
        factorize("g", values)


def test_unused_levels_are_dropped_and_order_kept():
    values = pd.Categorical(["c", "a", None], categories=["d", "c", "b", "a"])
    assert list(drop_unused(values).categories) == ["c", "a"]
    assert list(drop_unused(values).codes) == [0, 1, -1]
    codes, levels = np.array([1, 0]), pd.Index(["p", "q"])
    assert observed(codes, levels) == (codes, levels)  # the same objects when all occur


def test_polars_columns_are_read_by_their_text():
    # the categories of both columns share one numbering, which is not the order of either
    frame = pl.DataFrame(
        {"f": ["q", "z", None, "p"], "g": ["b", "z", "a", "b"]},
        schema={"f": pl.Categorical, "g": pl.Categorical},
    ).with_columns(
        e=pl.Series(["hi", "lo", "hi", None], dtype=pl.Enum(["lo", "mid", "hi"])),
        s=pl.col("g").cast(pl.String),
        b=pl.Series([True, None, False, True]),
        k=pl.Series([1, None, 3, 4]),
    )
    table = Table(frame)
    for name in frame.columns[:4]:
        codes, levels = factorize(name, table.column(name))
        assert [None if c < 0 else levels[c] for c in codes] == frame[name].to_list()
    assert list(factorize("e", table.column("e"))[1]) == ["lo", "hi"]
    assert clean("s", table.column("s")).text and not clean("g", table.column("g")).text
    assert list(clean("b", table.column("b")).missing) == [False, True, False, False]
    assert list(clean("k", table.column("k")).missing) == [False, True, False, False]


def test_tables():
    with pytest.raises(ValueError, match="more than one column named 'x'"):
        Table(pd.DataFrame(np.ones((2, 3)), columns=["x", "y", "x"]))
    with pytest.raises(ValueError, match=r"differ in length: {'x': 2, 'y': 3}"):
        Table({"x": np.ones(2), "y": np.ones(3)})
    with pytest.raises(TypeError, match=r"named columns: .* got ndarray"):
        Table(np.ones((2, 2)))


def test_keep_counts_among_the_rows_that_are_left():
    table = Table({"x": np.arange(6)})
    table.keep(np.array([1, 3, 5]))
    table.keep(np.array([0, 2]))
    np.testing.assert_array_equal(table.kept, [1, 5])
    np.testing.assert_array_equal(table.rows_of(np.arange(6) * 10), [10, 50])


def test_new_columns_conform_to_the_fit():
    spec = ColumnSpec("category", pd.Index(["c", "a"]))
    found = spec.conform("f", clean("f", np.array(["a", "c", None], dtype=object)))
    assert list(found.values.codes) == [1, 0, -1]
    with pytest.raises(ValueError, match=r"'f' has the unknown category 'b'; .* are 'c', 'a'"):
        spec.conform("f", clean("f", np.array(["a", "b"])))
    with pytest.raises(ValueError, match="'x' was a number at the fit and is a category now"):
        ColumnSpec("number").conform("x", clean("x", np.array(["a"])))
    boolean = ColumnSpec("boolean")
    assert list(boolean.conform("b", clean("b", np.array([0, 1]))).values) == [False, True]
    with pytest.raises(ValueError, match="numbers beside 0 and 1"):
        boolean.conform("b", clean("b", np.array([0, 2])))
