"""Smooth terms: their basis, and their columns on new rows."""

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import BSpline

from skmixed.design import build_design

N = 60


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.permutation(np.linspace(2.0, 5.0, N)),
            "z": rng.normal(size=N),
            "f": np.resize(list("pqr"), N),
            "b": np.resize([True, False], N),
            "g": rng.choice(list("abcdef"), N),
            "five": np.resize(np.arange(5.0), N),
        }
    )


def smooth_of(design):
    [part] = design.spec.smooths
    return part


def test_the_straight_line_joins_the_fixed_effects_once(table):
    alone = build_design("y ~ s(x)", table)
    assert alone.names == ("Intercept", "x")
    assert build_design("y ~ x + s(x) + z", table).names == ("Intercept", "x", "z")
    assert build_design("y ~ s(x, by=f) + f", table).names[3:] == ("x:f[p]", "x:f[q]", "x:f[r]")
    assert build_design("y ~ s(x, by=z)", table).names == ("Intercept", "z", "x:z")
    assert build_design("y ~ s(x / 10)", table).names == ("Intercept", "I(x / 10)")


def test_the_basis_is_that_of_b_splines_and_second_differences(table):
    design = build_design("y ~ s(x, k=9)", table)
    part, x = smooth_of(design), table["x"].to_numpy()
    knots = part.low + part.step * np.arange(-3, 10)
    B = np.nan_to_num(BSpline.design_matrix(x, knots, 3).toarray())
    D = np.diff(np.eye(9), 2, axis=0)
    D /= np.sqrt(np.abs(D.T @ D).sum(axis=0).max())
    Z = B @ D.T @ np.linalg.inv(D @ D.T)
    line = np.column_stack([np.ones(N), x])
    Z -= line @ np.linalg.lstsq(line, Z, rcond=None)[0]
    np.testing.assert_allclose(design.random[0].z, Z, atol=1e-10)
    # the line, the constant and Z span what the splines span
    both = np.column_stack([np.ones(N), x, Z])
    assert np.linalg.matrix_rank(both) == np.linalg.matrix_rank(np.hstack([both, B])) == 9


def test_knots_lie_where_mgcv_puts_them(table):
    part = smooth_of(build_design("y ~ s(x, k=20)", table))
    low, high = table["x"].min(), table["x"].max()
    assert part.low == pytest.approx(low - 0.001 * (high - low))
    assert part.low + 17 * part.step == pytest.approx(high + 0.001 * (high - low))


def test_curves_go_on_as_straight_lines(table):
    part = smooth_of(build_design("y ~ s(x, k=9)", table))
    first, last = part.low, part.low + 6 * part.step
    for end, away in ((first, -1.0), (last, 1.0)):
        steps = part.basis(end + away * np.array([0.0, 1.0, 2.0, 7.0]), 0)
        slope = steps[1] - steps[0]
        np.testing.assert_allclose(steps[2] - steps[0], 2 * slope, atol=1e-10)
        np.testing.assert_allclose(steps[3] - steps[0], 7 * slope, atol=1e-10)
        h = 1e-5  # value and slope are those of the curve at the end
        inside = (steps[0] - part.basis(np.array([end - away * h]), 0)[0]) / h
        np.testing.assert_allclose(inside, slope, atol=1e-3 * np.abs(slope).max())


def test_basis_in_other_units_and_far_from_zero(table):
    part = smooth_of(build_design("y ~ s(x)", table))
    moved = smooth_of(build_design("y ~ s(x)", table.assign(x=1e6 + 1e3 * table["x"])))
    x = np.linspace(1.0, 6.0, 23)
    np.testing.assert_allclose(moved.basis(1e6 + 1e3 * x, 0), part.basis(x, 0), atol=1e-8)


def test_new_rows_have_the_knots_of_the_fit(table):
    design = build_design("y ~ f + s(x, by=f) + s(x, by=z)", table)
    rows = [31, 5, 17]
    new = design.spec.new(table.iloc[rows].drop(columns=["y", "g"]))
    for own, term in zip(design.random, new.random, strict=True):
        np.testing.assert_allclose(term.z, own.z[rows], rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(term.codes, own.codes[rows])
    np.testing.assert_allclose(new.X, design.X[rows], rtol=1e-9, atol=1e-9)


def test_fixed_rows_hold_smooth_terms_and_no_others(table):
    spec = build_design("y ~ s(x) + (z | g)", table).spec
    new = spec.new(table[["x"]], need=("fixed",))
    assert new.random[1] is None
    assert new.random[0].z.shape == (N, 8)


def test_factor_by_has_a_curve_for_each_level(table):
    design = build_design("y ~ s(x, by=f) + f", table)
    [term] = design.random
    assert list(term.levels) == ["p", "q", "r"]
    np.testing.assert_array_equal(term.codes, np.resize([0, 1, 2], N))
    [booleans] = build_design("y ~ b + s(x, by=b)", table).random
    assert list(booleans.levels) == [False, True]


def test_number_by_multiplies_the_curve(table):
    plain = build_design("y ~ s(x)", table).random[0].z
    times = build_design("y ~ s(x, by=z)", table).random[0].z
    z = table["z"].to_numpy()
    line = np.column_stack([z, z * table["x"]])
    gap = times - plain * z[:, None]
    np.testing.assert_allclose(gap, line @ np.linalg.lstsq(line, gap, rcond=None)[0], atol=1e-10)
    np.testing.assert_allclose(line.T @ times, 0.0, atol=1e-8)


def test_missing_and_undefined_values(table):
    holes = table.assign(x=table["x"].where(np.arange(N) != 4))
    with pytest.raises(ValueError, match=r"missing values \(NaN\) in x"):
        build_design("y ~ s(x)", holes)
    design = build_design("y ~ s(log(x - 2.5))", holes, missing="drop")
    assert 4 not in design.rows
    assert len(design.rows) < N - 4
    kept = build_design("y ~ s(log(x - 2.5))", table.iloc[design.rows])
    np.testing.assert_allclose(kept.random[0].z, design.random[0].z, rtol=1e-9, atol=1e-9)


BAD = {
    "y ~ s(five)": r"s\(five\) has k=10 basis functions for 5 different values of five: "
    r"write s\(five, k=5\)",
    "y ~ s(I(five // 3))": "for 2 different values of .*: use the column itself, or C",
    "y ~ s(f)": r"s\(f\) smooths 'f', which is not one column of numbers",
    "y ~ s(b)": r"s\(b\) smooths 'b', which is not one column of numbers",
    "y ~ s(poly(x, 2))": "which is not one column of numbers",
    "y ~ z + s(x, by=f)": "centred curve for every level of 'f', .* add f, or .1 . f.",
    "y ~ s(w)": "the variable 'w' is not a column of the data",
    "y ~ s(x, by=w)": "the variable 'w' is not a column of the data",
}


@pytest.mark.parametrize("formula", BAD)
def test_bad_input(table, formula):
    with pytest.raises(ValueError, match=f"(?s){BAD[formula]}"):
        build_design(formula, table)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_level_without_a_defined_value(table, trusted):
    negative = table.assign(x=table["x"].where(table["f"] != "p", -1.0))
    design = build_design("y ~ f + s(np.log(x), by=f)", negative, missing="drop", trusted=trusted)
    assert list(design.random[0].levels) == ["q", "r"]
    assert np.isfinite(design.random[0].z).all()
    assert np.isfinite(design.spec.smooths[0].lines.means).all()


def test_an_expression_beside_factors(table):
    """What other terms have learnt of their factors is no matter of this one."""
    by = build_design("y ~ f * b + s(log(x), by=f)", table)
    assert [name for name in by.names if "log" in name] == [f"log(x):f[{f}]" for f in "pqr"]
    field = build_design("y ~ f * b + expo(log(x) + z)", table)
    assert field.random[0].z.shape == (N, N)


def test_a_factor_made_by_the_formula(table):
    by = build_design("y ~ C(f) + s(x, by=C(f))", table)
    np.testing.assert_array_equal(by.random[0].codes, np.resize([0, 1, 2], N))
    numbers = build_design("y ~ C(five) + s(x, by=C(five))", table)
    np.testing.assert_array_equal(numbers.random[0].codes, table["five"].astype(int))
    new = numbers.spec.new(table[["x", "five"]].iloc[7:9])
    np.testing.assert_array_equal(new.random[0].codes, [2, 3])
    quoted = build_design(
        "y ~ C(`my f`) + s(x, by=C(`my f`))", table.assign(**{"my f": table["f"]})
    )
    np.testing.assert_allclose(quoted.random[0].z, by.random[0].z, rtol=1e-9, atol=1e-9)
    assert quoted.spec.smooths[0].lines.slopes.any()


def test_columns_that_two_smooth_terms_need(table):
    design = build_design("y ~ s(z) + s(x, by=z)", table)
    single, times = design.spec.smooths
    np.testing.assert_array_equal(single.lines.slopes, [[0, 1, 0]])
    np.testing.assert_array_equal(times.lines.slopes, [[0, 0, 1]])
    assert not times.lines.constants.any()


def test_a_name_in_quotes_and_one_with_a_dot(table):
    frame = table.rename(columns={"x": "x.1", "z": "my z"})
    plain = build_design("y ~ s(x)", table).random[0].z
    np.testing.assert_allclose(
        build_design("y ~ s(x.1)", frame).random[0].z, plain, rtol=1e-9, atol=1e-9
    )
    assert build_design("y ~ s(x.1, by=`my z`)", frame).names[1] == "my z"


def test_the_dot_and_smooth_terms(table):
    names = build_design("y ~ . + s(x) + (1 | g)", table.drop(columns=["b", "five"])).names
    assert sorted(names) == ["Intercept", "f[T.q]", "f[T.r]", "x", "z"]
