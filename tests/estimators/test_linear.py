"""GeneralizedInverseRegressor: R, SAS and exact references, invariances, prediction, errors."""

import json
import pickle
import tracemalloc
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmixed import (
    GeneralizedInverseRegressor,
    NotEstimableError,
    RankDeficiencyWarning,
)
from skmixed.design.design import build_design
from skmixed.design.formula import parse_formula
from skmixed.linalg import sweep

DATA = Path(__file__).parents[1] / "data" / "rank"
METHODS = ["sweep", "rational_sweep", "moore_penrose", "qr"]
SWEEPS = json.loads((DATA / "glm_sweep.json").read_text())
quick = settings(max_examples=30, derandomize=True, deadline=None)


def load(name):
    return json.loads((DATA / f"{name}.json").read_text())


def table(reference):
    """The reference's data with its categories in its order."""
    data = pd.read_csv(DATA / reference["data"])
    for name, levels in (reference.get("categorical") or reference.get("levels") or {}).items():
        data[name] = pd.Categorical(data[name].astype(str), categories=levels)
    return data


@parametrize_with_checks([GeneralizedInverseRegressor(method=method) for method in METHODS])
@pytest.mark.filterwarnings("ignore::skmixed.exceptions.RankDeficiencyWarning")
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("case", SWEEPS["cases"], ids=lambda case: case["id"])
def test_over_parameterised_fits(case):
    """Exact sequential sweep of X'X as PROC GLM does it; Moore-Penrose by SVD."""
    data = table(case)
    formula = "y ~ " + " + ".join(case["terms"])
    model = GeneralizedInverseRegressor(formula=formula).fit(data)
    both = np.r_[model.intercept_, model.coef_]
    np.testing.assert_allclose(both, case["sweep_solution"], atol=1e-12)
    np.testing.assert_allclose(model.standard_errors_, case["sweep_se"], atol=1e-12)
    assert np.flatnonzero(model.aliased_).tolist() == case["zeroed_index"]
    assert (model.rank_, model.df_resid_) == (case["rank"], case["df_error"])
    assert model.sigma_**2 == pytest.approx(case["mse"], rel=1e-10)
    np.testing.assert_allclose(model.predict(data), case["fitted"], rtol=1e-10)
    model.set_params(method="moore_penrose").fit(data)
    both = np.r_[model.intercept_, model.coef_]
    np.testing.assert_allclose(both, case["moore_penrose_solution"], atol=1e-12)


LM = sorted(path.stem for path in DATA.glob("lm_*.json"))
# R's tolerance of 1e-7 drops columns here whose digits are intact; ours are told apart.
BEYOND_R = {"lm_poly_shift1e12_raw_linear", "lm_poly_shift1e12_raw", "lm_poly_shift1e6_raw"}


def treatment_design(reference):
    """(X without intercept, y, whether R has an intercept), columns in R's order."""
    data = table(reference)
    rows = reference["rows_1based"]
    data = data if rows is None else data.iloc[np.array(rows) - 1]
    design = build_design(parse_formula(reference["formula"]), data)
    names = [name.replace("[T.", "").replace("]", "") for name in design.names]
    has_intercept = names[0] == "Intercept"
    r_names = [name for name in reference["columns"] if name != "(Intercept)"]
    spelt = {_plain(name): j for j, name in enumerate(names)}
    order = [spelt[_plain(name)] for name in r_names]
    return design.X[:, order], design.y, has_intercept


def _plain(name):
    """R's and formulaic's spelling of a column brought to one."""
    name = name.replace("I(", "").replace("{", "").replace("}", "").replace("**", "^")
    for text in ("(", ")", " ", "`"):
        name = name.replace(text, "")
    return name.replace("1e+06", "1e6").replace("1000000.0", "1e6")


@pytest.mark.parametrize("name", [n for n in LM if n not in BEYOND_R])
def test_lm_of_r(name):
    """R's lm: coefficients, aliased columns and their combinations, fit statistics."""
    reference = load(name)
    X, y, intercept = treatment_design(reference)
    model = GeneralizedInverseRegressor("qr", fit_intercept=intercept).fit(X, y)
    assert model.rank_ == reference["rank"]
    columns = reference["columns"]
    aliased = [c for c, gone in zip(columns, model.aliased_, strict=True) if gone]
    assert aliased == reference["aliased"]
    coef = np.r_[model.intercept_, model.coef_] if intercept else model.coef_
    expected = np.array(reference["coef_array"], dtype=float)
    rtol = 1e-7 if "poly" in name else 1e-9
    np.testing.assert_allclose(coef, np.nan_to_num(expected), rtol=rtol, atol=1e-9)
    np.testing.assert_allclose(model.predict(X), reference["fitted"], rtol=1e-8)
    assert model.df_resid_ == reference["df_residual"]
    if reference["df_residual"]:
        assert model.sigma_ == pytest.approx(reference["sigma"], rel=1e-8)
        se = model.standard_errors_.to_numpy()[~model.aliased_.to_numpy()]
        np.testing.assert_allclose(se, list(reference["se"].values()), rtol=rtol)
    if intercept and reference["r2"] is not None:
        assert model.r_squared_ == pytest.approx(reference["r2"], abs=1e-8)
    label = dict(zip(model.aliased_.index, columns, strict=True))
    for found, combination in model.linear_dependencies_.items():
        got = {label[k]: v for k, v in combination.items()}
        assert got == pytest.approx(reference["alias_complete"][label[found]] or {}, rel=1e-6)


def test_shifted_slope_that_lm_aliases():
    """x + 1e12 beside an intercept: R drops it, the stored digits give the slope of x."""
    data = pd.read_csv(DATA / "rank_poly.csv")
    assert load("lm_poly_shift1e12_raw_linear")["rank"] == 1
    shifted = GeneralizedInverseRegressor().fit(data[["xs"]], data["y"])
    plain = GeneralizedInverseRegressor().fit(data[["x"]], data["y"])
    assert shifted.rank_ == 2
    assert shifted.coef_[0] == pytest.approx(plain.coef_[0], rel=1e-3)  # xs is rounded to 1.2e-4
    np.testing.assert_allclose(shifted.predict(data[["xs"]]), plain.predict(data[["x"]]), atol=1e-3)


def test_square_of_shifted_column_that_lm_aliases():
    data = pd.read_csv(DATA / "rank_poly.csv")
    x, y = data["x"].to_numpy(), data["y"]
    far = GeneralizedInverseRegressor().fit(np.column_stack([x + 1e6, (x + 1e6) ** 2]), y)
    near = GeneralizedInverseRegressor().fit(np.column_stack([x, x**2]), y)
    assert far.rank_ == 3
    assert far.coef_[1] == pytest.approx(near.coef_[1], rel=1e-4)
    assert far.sigma_ == pytest.approx(near.sigma_, rel=1e-4)


def test_lost_digits_are_told_with_the_remedy():
    x = np.arange(20.0) + 1e12
    with pytest.warns(RankDeficiencyWarning, match=r"x1: .*centre the variable before expanding"):
        model = GeneralizedInverseRegressor().fit(np.column_stack([x, x**2]), np.arange(20.0))
    assert model.aliased_.tolist() == [False, False, True]


def test_near_dependence_is_told_and_kept():
    rng = np.random.default_rng(0)
    z, noise = rng.normal(size=(2, 50))
    X = np.column_stack([z, z + 1e-10 * noise])
    with pytest.warns(RankDeficiencyWarning, match=r"share of their spread: x1 \(.*e-1[01]\).*tol"):
        model = GeneralizedInverseRegressor().fit(X, noise)
    assert model.rank_ == 3
    assert model.predict(X) == pytest.approx(noise, abs=1e-4)
    assert GeneralizedInverseRegressor(tol=1e-8).fit(X, noise).rank_ == 2


@pytest.mark.parametrize(
    "name", ["twoway_A_B", "twoway_A_B_AB", "twoway_A_x", "emptycell_A_B", "emptycell_A_B_AB"]
)
def test_least_squares_means_of_emmeans(name):
    """R 4.2, emmeans: means and pairwise differences, NaN where emmeans has NA."""
    reference = load(f"estimable_{name}")
    model = GeneralizedInverseRegressor(formula=reference["formula"]).fit(table(reference))
    for factor, rows in reference["emmeans"].items():
        found = model.least_squares_means(factor)
        known = ~np.isnan(_ordered(rows, factor, found.index, "emmean"))
        assert found["estimable"].tolist() == known.tolist()
        for column, theirs in [("estimate", "emmean"), ("std_error", "SE"), ("df", "df"),
                               ("lower", "lower.CL"), ("upper", "upper.CL"), ("t", "t.ratio"),
                               ("p_value", "p.value")]:  # fmt: skip
            expected = _ordered(rows, factor, found.index, theirs)
            np.testing.assert_allclose(found[column], expected, rtol=1e-8, err_msg=column)
    for factor, rows in reference["pairs"].items():
        if ":" in factor:
            continue
        found = model.least_squares_means(factor, pairs=True)
        assert found.index.tolist() == [row["contrast"] for row in rows]
        expected = np.array([row["estimate"] for row in rows], dtype=float)
        np.testing.assert_allclose(found["estimate"], expected, rtol=1e-8, atol=1e-12)


def _ordered(rows, factor, index, key):
    labels = {" ".join(row[f] for f in factor.split(":")): row[key] for row in rows}
    return np.array([labels[label] for label in index], dtype=float)


def test_machines_with_an_empty_cell():
    reference = load("estimable_machines_emptycell")
    model = GeneralizedInverseRegressor(formula=reference["formula"]).fit(table(reference))
    found = model.least_squares_means("Machine")
    assert found["estimable"].tolist() == [True, False, True]
    expected = [row["emmean"] or np.nan for row in reference["emmeans"]["Machine"]]
    np.testing.assert_allclose(found["estimate"], expected, rtol=1e-10)


@pytest.mark.parametrize("reference", ["first", "last", {"A": "a2", "B": "b1"}])
def test_differences_do_not_depend_on_the_reference_level(reference):
    """emmeans under four codings of A and B in R, and PROC GLM's solutions under any order."""
    cases = load("invariant_pairs")
    data = pd.read_csv(DATA / cases["data"])
    model = GeneralizedInverseRegressor(formula=cases["formula"], reference=reference).fit(data)
    for fit in cases["fits"]:
        for factor in "AB":
            for row in fit[f"pairs_{factor}"]:
                one, two = row["contrast"].split(" - ")
                found = model.contrast({f"{factor}[{one}]": 1, f"{factor}[{two}]": -1})
                assert found.estimate == pytest.approx(row["estimate"], rel=1e-10)
                assert found.standard_error == pytest.approx(row["SE"], rel=1e-10)
                assert found.statistic == pytest.approx(row["t.ratio"], rel=1e-9)
                assert found.p_value == pytest.approx(row["p.value"], rel=1e-7)


def test_design_matrix_has_every_level_and_the_reference_last():
    data = pd.DataFrame({"g": ["b", "a", "c"], "x": [1.0, 2, 3]})
    model = GeneralizedInverseRegressor(reference={"g": "a"}).fit(data, [1.0, 2, 4])
    frame = model.design_matrix(data)
    assert list(frame) == ["Intercept", "g[b]", "g[c]", "g[a]", "x"]
    assert frame.to_numpy().tolist() == [[1, 1, 0, 0, 1], [1, 0, 0, 1, 2], [1, 0, 1, 0, 3]]


@st.composite
def integer_problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    n, r, p = draw(st.integers(4, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    X = rng.integers(-4, 5, (n, r)) @ rng.integers(-2, 3, (r, p))
    return X, rng.integers(-9, 10, n)


def _exact(X, y):
    M = np.array([[Fraction(int(v)) for v in row] for row in np.column_stack([X, y])])
    swept = sweep(M.T @ M, range(X.shape[1]))
    return swept[:-1, -1].astype(float), float(swept[-1, -1])


@quick
@given(integer_problems())
def test_sweep_is_that_of_exact_arithmetic(problem):
    X, y = problem
    model = GeneralizedInverseRegressor().fit(X, y)
    b, rss = _exact(np.column_stack([np.ones(len(X)), X]), y)
    np.testing.assert_allclose(np.r_[model.intercept_, model.coef_], b, atol=1e-9)
    if model.df_resid_:
        assert model.sigma_**2 * model.df_resid_ == pytest.approx(rss, abs=1e-9)


@quick
@given(integer_problems(), st.booleans())
def test_all_methods_agree_on_what_the_data_determine(problem, intercept):
    X, y = problem
    fits = [GeneralizedInverseRegressor(m, fit_intercept=intercept).fit(X, y) for m in METHODS]
    design = fits[0].design_matrix(X).to_numpy()
    A = design.T @ design
    for fit in fits:
        G = fit.ginverse_
        np.testing.assert_allclose(fit.predict(X), fits[0].predict(X), atol=1e-9)
        np.testing.assert_allclose(X @ fit.coef_ + fit.intercept_, fit.predict(X), atol=1e-9)
        np.testing.assert_allclose(A @ G @ A, A, atol=1e-8 * (1 + np.abs(A).max()))
        np.testing.assert_allclose(G @ A @ G, G, atol=1e-8 * (1 + np.abs(G).max()))
        np.testing.assert_allclose(design @ fit.null_space_, 0, atol=1e-9)
        if design[0].any():
            row, same = fit.contrast(design[0]), fits[0].contrast(design[0])
            assert row.estimate == pytest.approx(fits[0].predict(X)[0], abs=1e-9)
            assert row.standard_error == pytest.approx(same.standard_error, abs=1e-9, nan_ok=True)
    for name, fit in zip(METHODS, fits, strict=True):
        assert fit.aliased_.sum() == (design.shape[1] - fit.rank_), name


@quick
@given(integer_problems(), st.integers(0, 10**6))
def test_moore_penrose_is_the_shortest_solution(problem, seed):
    X, y = problem
    model = GeneralizedInverseRegressor("moore_penrose").fit(X, y)
    b = np.r_[model.intercept_, model.coef_]
    np.testing.assert_allclose(model.null_space_.T @ b, 0, atol=1e-9)
    alpha = np.random.default_rng(seed).normal(size=model.null_space_.shape[1])
    other = model.solutions(alpha)
    assert np.linalg.norm(other) >= np.linalg.norm(b) - 1e-12
    np.testing.assert_allclose(X @ other[1:] + other[0], model.predict(X), atol=1e-8)


def test_an_intercept_among_several_dependencies_is_estimable():
    X = np.array([[-1, -1, -2, 8], [-1, -2, 2, -2], [1, 1, -1, 1], [-2, -2, -2, 10]])
    model = GeneralizedInverseRegressor().fit(X, [3, 7, 1, 6])
    assert model.estimable_.tolist() == [True, True, False, False, False]
    assert model.linear_dependencies_ == {"x3": {"x1": -2.0, "x2": -3.0}}


def _exactly_estimable(K, X):
    """Whether K is a combination of the rows of X, in fractions."""
    A = np.vectorize(Fraction, otypes=[object])(X)
    A = A.T @ A
    K = np.array([Fraction(float(v)) for v in K])
    return bool((K @ sweep(A) @ A == K).all())


@pytest.mark.parametrize("decades", [0, 6])
def test_estimable_is_what_exact_arithmetic_says_in_any_units(decades):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n, p, r = rng.integers(3, 10), rng.integers(2, 7), rng.integers(1, 5)
        X = rng.integers(-4, 5, (n, r)) @ rng.integers(-4, 5, (r, p))
        scale = np.r_[1.0, 10.0 ** rng.integers(-decades, decades + 1, p)]
        model = GeneralizedInverseRegressor().fit(X * scale[1:], rng.normal(size=n))
        full = np.column_stack([np.ones(n, dtype=int), X])
        K = np.vstack([np.eye(p + 1, dtype=int), rng.integers(-3, 4, (3, n)) @ full])
        K = np.vstack([K, K[-3:] + rng.integers(-1, 2, (3, p + 1))])
        expected = [_exactly_estimable(k, full) for k in K]
        assert model.is_estimable(K * scale).tolist() == expected
        assert model.estimable_.tolist() == expected[: p + 1]


def test_a_mean_is_estimable_in_any_units():
    """Cell means by a factor, with covariates on which the levels nearly depend."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        f = rng.integers(0, 3, 9)
        a, b = rng.integers(-3, 4, (2, 9))
        covariates = np.column_stack([a, b, a - 2 * b + (f == 1), 3 * a + b - (f == 0)])
        found = []
        for unit in (1.0, 1e-6, 1e5):
            table = pd.DataFrame(covariates * [1, unit, 1, unit], columns=list("abcd"))
            table["f"] = np.array(list("uvw"))[f]
            model = GeneralizedInverseRegressor().fit(table, rng.normal(size=9))
            found.append(model.least_squares_means("f")["estimable"].tolist())
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("decades", [0, 6, 12, 15])
def test_units_cost_no_digits(method, decades):
    """Coefficients and G against fractions; powers of two keep the dependencies exact."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n, p, r = rng.integers(5, 9), rng.integers(2, 5), rng.integers(1, 4)
        X = rng.integers(-4, 5, (n, r)) @ rng.integers(-3, 4, (r, p))
        X = X * 2.0 ** rng.integers(-3 * decades, 3 * decades + 1, p)
        y = rng.integers(0, 9, n)
        model = GeneralizedInverseRegressor(method).fit(X, y)
        D = np.vectorize(Fraction, otypes=[object])(np.column_stack([np.ones(n), X]))
        used = np.flatnonzero(~model.aliased_)
        A = D.T @ D
        G = np.zeros(A.shape, dtype=object)
        G[np.ix_(used, used)] = sweep(A[np.ix_(used, used)])
        if method == "moore_penrose":
            C = G @ A
            C = C[used]
            G = C.T @ sweep(C @ C.T) @ G[np.ix_(used, used)] @ sweep(C @ C.T) @ C
        size = np.sqrt(G.diagonal().astype(float))
        size[size == 0] = 1.0
        unit = np.multiply.outer(size, size)
        np.testing.assert_allclose(model.ginverse_ / unit, G.astype(float) / unit, atol=1e-8)
        b = (G @ D.T @ y).astype(float)
        np.testing.assert_allclose(np.r_[model.intercept_, model.coef_] / size, b / size, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_units_and_shifts_change_no_fitted_value(method):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    X = np.column_stack([X, X @ [1.0, -2, 0.5]])
    y = X @ [1.0, 2, 3, 0] + rng.normal(size=40)
    plain = GeneralizedInverseRegressor(method).fit(X, y)
    other = GeneralizedInverseRegressor(method).fit(X * [1e9, 1e-21, 1, 1e3] + [0, 0, 1e6, 0], y)
    np.testing.assert_allclose(
        other.predict(X * [1e9, 1e-21, 1, 1e3] + [0, 0, 1e6, 0]), plain.predict(X), atol=1e-6
    )
    assert other.rank_ == plain.rank_ == 4


def test_weights_repeat_rows():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(12, 2))
    X = np.column_stack([X, X.sum(axis=1)])
    y, counts = rng.normal(size=12), rng.integers(0, 3, 12)
    one = GeneralizedInverseRegressor().fit(X, y, sample_weight=counts)
    two = GeneralizedInverseRegressor().fit(np.repeat(X, counts, 0), np.repeat(y, counts))
    np.testing.assert_allclose(one.coef_, two.coef_, atol=1e-12)
    np.testing.assert_allclose(one.vcov_, two.vcov_, atol=1e-12)
    assert (one.df_resid_, one.sigma_) == pytest.approx((two.df_resid_, two.sigma_))


def test_weighted_covariate_mean_in_least_squares_means():
    data = pd.DataFrame({"g": list("aabb"), "x": [0.0, 1, 2, 5]})
    y, counts = [1.0, 2, 2, 7], [1, 2, 3, 1]
    repeated = data.loc[np.repeat(data.index, counts)]
    one = GeneralizedInverseRegressor().fit(data, y, sample_weight=counts)
    two = GeneralizedInverseRegressor().fit(repeated, np.repeat(y, counts))
    np.testing.assert_allclose(one.least_squares_means("g")["estimate"],
                               two.least_squares_means("g")["estimate"])  # fmt: skip


def test_several_responses_are_fitted_as_one_by_one():
    rng = np.random.default_rng(2)
    X, Y = rng.normal(size=(15, 2)) @ [[1, 0, 1], [0, 1, 1]], rng.normal(size=(15, 2))
    both = GeneralizedInverseRegressor().fit(X, Y)
    for k in range(2):
        one = GeneralizedInverseRegressor().fit(X, Y[:, k])
        np.testing.assert_allclose(both.coef_[k], one.coef_, atol=1e-12)
        np.testing.assert_allclose(both.predict(X)[:, k], one.predict(X))
        assert both.sigma_[k] == pytest.approx(one.sigma_)
        np.testing.assert_allclose(both.standard_errors_[k], one.standard_errors_)
        np.testing.assert_allclose(both.vcov_[k], one.vcov_, atol=1e-12)
        assert both.contrast([1, 0, 0, 0], output=k).estimate == pytest.approx(one.intercept_)
    with pytest.raises(ValueError, match="2 responses; say which"):
        both.anova()


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_sparse_input(kind):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 6, 60)
    X = np.column_stack([np.eye(6)[codes], rng.normal(size=60)])
    y = rng.normal(size=60)
    dense = GeneralizedInverseRegressor().fit(X, y)
    sparse = GeneralizedInverseRegressor().fit(kind(X), y)
    np.testing.assert_allclose(sparse.coef_, dense.coef_, atol=1e-12)
    mean, std = sparse.predict(kind(X), return_std=True)
    np.testing.assert_allclose(mean, dense.predict(X), atol=1e-12)
    np.testing.assert_allclose(std, dense.predict(X, return_std=True)[1], atol=1e-12)


def test_frames_of_pandas_and_polars_give_names_and_numbers():
    data = pd.DataFrame({"g": ["u", "v", "u", "w"], "x": [1.0, 2, 4, 7]})
    y = [1.0, 3, 2, 5]
    one = GeneralizedInverseRegressor().fit(data, y)
    two = GeneralizedInverseRegressor().fit(pl.DataFrame(data.to_dict("list")), y)
    assert one.aliased_.index.tolist() == ["Intercept", "g[u]", "g[v]", "g[w]", "x"]
    pd.testing.assert_series_equal(one.standard_errors_, two.standard_errors_)
    np.testing.assert_allclose(two.predict(pl.DataFrame(data.to_dict("list"))), one.predict(data))
    numbers = pl.DataFrame({"a": [1.0, 2, 3], "b": [2.0, 4, 6]})
    model = GeneralizedInverseRegressor().fit(numbers, [1.0, 2, 4])
    assert model.feature_names_in_.tolist() == ["a", "b"]
    assert model.linear_dependencies_ == {"b": {"a": 2.0}}


def test_standard_error_of_a_prediction():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(20, 2)) @ [[1, 0, 1], [0, 1, -1.0]]
    model = GeneralizedInverseRegressor("moore_penrose").fit(X, rng.normal(size=20))
    full = np.column_stack([np.ones(20), X])
    expected = np.sqrt(np.einsum("ij,jk,ik->i", full, model.vcov_.to_numpy(), full))
    np.testing.assert_allclose(model.predict(X, return_std=True)[1], expected)


class TestRowsOutsideTheRowSpace:
    X = np.column_stack([np.arange(6.0), 2 * np.arange(6.0) - 1])
    y = np.array([1.0, 2, 2, 5, 4, 6])
    new = np.array([[1.0, 1.0], [2.0, 7.0], [3.0, 5.0]])

    def fit(self, **options):
        return GeneralizedInverseRegressor(**options).fit(self.X, self.y)

    def test_warning_says_which_row_and_why(self):
        with pytest.warns(
            RankDeficiencyWarning,
            match=r"1 row is .*row 1: x1 is 7, but the training data have x1 = 2 x0 - 1.* 3 here",
        ) as told:
            self.fit().predict(self.new)
        assert told[0].filename == __file__

    def test_nan(self):
        mean, std = self.fit(non_estimable="nan").predict(self.new, return_std=True)
        assert np.isnan(mean).tolist() == np.isnan(std).tolist() == [False, True, False]

    def test_raise(self):
        with pytest.raises(NotEstimableError, match="row 1: x1 is 7"):
            self.fit(non_estimable="raise").predict(self.new)

    @pytest.mark.parametrize("method", METHODS)
    def test_ignore_gives_the_solution_shown(self, method):
        model = self.fit(method=method, non_estimable="ignore")
        expected = self.new @ model.coef_ + model.intercept_
        np.testing.assert_allclose(model.predict(self.new), expected, atol=1e-12)

    def test_inside_rows_do_not_warn(self):
        self.fit().predict(self.X)

    def test_unseen_level(self):
        data = pd.DataFrame({"g": list("aabb")})
        model = GeneralizedInverseRegressor().fit(data, [1.0, 2, 3, 4])
        with pytest.warns(RankDeficiencyWarning, match="row 1: g is 'c', a level the fit has not"):
            model.predict(pd.DataFrame({"g": ["a", "c"]}))

    def test_constant_column_that_changes(self):
        X = np.column_stack([np.full(4, 5.0), np.arange(4.0)])
        model = GeneralizedInverseRegressor(non_estimable="raise").fit(X, [1.0, 2, 2, 3])
        with pytest.raises(NotEstimableError, match="x0 is 6, but the training data have x0 = 5"):
            model.predict([[6.0, 1.0]])


class TestContrasts:
    model = GeneralizedInverseRegressor().fit(
        np.column_stack([np.arange(6.0), 2 * np.arange(6.0), [1.0, 0, 2, 5, 3, 1]]),
        [1.0, 2, 2, 5, 4, 7],
    )

    def test_estimability(self):
        assert self.model.is_estimable({"x0": 1, "x1": 2})
        assert not self.model.is_estimable({"x0": 1})
        assert self.model.is_estimable(np.eye(4)).tolist() == [True, False, False, True]
        assert self.model.estimable_.tolist() == [True, False, False, True]

    def test_several_rows_are_tested_by_f(self):
        both = self.model.contrast([{"x0": 1, "x1": 2}, {"x2": 1}])
        null = GeneralizedInverseRegressor().fit(np.zeros((6, 1)), [1.0, 2, 2, 5, 4, 7])
        rss0, rss = null.sigma_**2 * 5, self.model.sigma_**2 * 3
        assert both.statistic == pytest.approx((rss0 - rss) / 2 / (rss / 3))
        assert (both.df_num, both.df_den) == (2, 3)

    def test_repeated_rows_do_not_add_degrees_of_freedom(self):
        K = np.array([[0, 0, 0, 1], [0, 0, 0, 2.0]])
        one, two = self.model.contrast(K[0]), self.model.contrast(K)
        assert two.df_num == 1
        assert two.statistic == pytest.approx(one.statistic**2)
        assert two.p_value == pytest.approx(one.p_value)

    def test_not_estimable_says_why(self):
        with pytest.raises(
            NotEstimableError, match=r"x1 = 2 x0, so .* that of x1 must be 2, got 0"
        ):
            self.model.contrast({"x0": 1})

    @pytest.mark.parametrize(
        ("K", "message"),
        [
            ([1, 2], r"each of the 4 parameters \(Intercept, x0, x1, x2\), got shape \(2,\)"),
            ({"nope": 1}, r"\['nope'\] are no parameters"),
            ([np.nan, 0, 0, 0], "NaN"),
        ],
    )
    def test_bad_contrasts(self, K, message):
        with pytest.raises(ValueError, match=message):
            self.model.contrast(K)


def test_solutions_of_sas_iml():
    iml = load("iml_geninv")
    model = GeneralizedInverseRegressor("moore_penrose", fit_intercept=False).fit(
        iml["A"], iml["c"]
    )
    np.testing.assert_allclose(model.coef_, [-3, 7, 3.2, 1.6], atol=1e-12)
    alpha = np.array([0, 2.0, -2.0])
    norms = np.linalg.norm(model.solutions(alpha), axis=1)
    expected = [iml["norms"][k] for k in ("ginv", "ginv_plus_2null", "ginv_minus_2null")]
    np.testing.assert_allclose(norms, expected, rtol=1e-10)
    with pytest.raises(ValueError, match="1 coordinates alpha"):
        model.solutions([[1.0, 2.0]])


def test_summary_marks_what_is_not_estimable():
    data = pd.DataFrame({"g": list("aabb"), "x": [1.0, 2, 3, 5]})
    model = GeneralizedInverseRegressor().fit(data, [1.0, 2, 4, 9])
    summary = model.summary()
    assert summary.table["mark"].to_dict() == {"Intercept": "B", "g[a]": "B", "g[b]": "B", "x": ""}
    text = str(summary)
    assert "g[b] = -g[a] + 1" in text and "Columns, rank:            4, 3" in text
    assert ">B</td>" in summary._repr_html_()
    full = str(GeneralizedInverseRegressor().fit(data[["x"]], [1.0, 2, 4, 9]).summary())
    assert "no inverse" not in full


def test_one_row_and_all_zero_columns():
    one = GeneralizedInverseRegressor().fit([[2.0, 3.0]], [5.0])
    assert (one.intercept_, one.rank_, one.df_resid_) == (5.0, 1, 0)
    assert np.isnan(one.sigma_)
    zero = GeneralizedInverseRegressor().fit(np.zeros((4, 2)), [1.0, 2, 3, 4])
    assert (zero.intercept_, zero.coef_.tolist(), zero.rank_) == (2.5, [0, 0], 1)


def test_more_columns_than_rows_fits_exactly():
    rng = np.random.default_rng(5)
    X, y = rng.normal(size=(4, 9)), rng.normal(size=4)
    for method in METHODS:
        model = GeneralizedInverseRegressor(method).fit(X, y)
        np.testing.assert_allclose(model.predict(X), y, atol=1e-10)
        assert model.rank_ == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, d: m().fit([[1.0], [np.nan]], [1, 2]), "NaN"),
        (lambda m, d: m().fit([[1.0], [np.inf]], [1, 2]), "infinity"),
        (lambda m, d: m().fit([["a"], ["b"]], [1, 2]), "could not convert"),
        (lambda m, d: m().fit(d.assign(g=[None, "a", "b", "b"]), range(4)), "'g' contains NaN: 1"),
        (lambda m, d: m().fit(d.assign(g=list("1234")), range(4)), "numbers stored as text"),
        (lambda m, d: m().fit(d), "requires y to be passed"),
        (lambda m, d: m(formula="x ~ g").fit(d, range(4)), "y was given too"),
        (lambda m, d: m(formula="x ~ (1 | g)").fit(d), "MixedLinearRegressor"),
        (lambda m, d: m(formula="g + nope").fit(d, range(4)), "'nope' is not a column of the data"),
        (lambda m, d: m(reference={"q": "a"}).fit(d, range(4)), r"names \['q'\]"),
        (lambda m, d: m(reference={"g": "z"}).fit(d, range(4)), "level 'z' of 'g'"),
        (lambda m, d: m().fit(d, range(4), [-1, 1, 1, 1]), "Negative values"),
        (lambda m, d: m().fit(d, range(3)), "inconsistent numbers"),
        (lambda m, d: m().fit(d, range(4)).least_squares_means("x"), r"factors .* got \['x'\]"),
        (lambda m, d: m().fit(d, range(4)).least_squares_means("q"), r"got \['q'\]"),
        (lambda m, d: m().fit(d[["x"]], range(4)).least_squares_means("g"), "pass a DataFrame"),
        (lambda m, d: m().fit(d, range(4)).anova(4), "types 1, 2 and 3"),
        (lambda m, d: m().fit(d, range(4)).predict(d[["g"]]), r"lack the columns \['x'\]"),
        (lambda m, d: m().fit(d, range(4)).estimable_functions("z"), "no term"),
        (lambda m, d: m().fit(pd.concat([d, d], axis=1), range(4)), "more than one column"),
    ],
)
def test_errors_name_the_rule_and_the_value(call, message):
    data = pd.DataFrame({"g": list("aabb"), "x": [1.0, 2, 3, 5]})
    with pytest.raises(ValueError, match=message):
        call(GeneralizedInverseRegressor, data)


def test_transforms_are_replayed_on_new_rows():
    rng = np.random.default_rng(6)
    data = pd.DataFrame({"x": rng.uniform(1, 9, 30), "g": rng.choice(list("ab"), 30)})
    y = np.log(data["x"]) + (data["g"] == "a") + rng.normal(0, 0.1, 30)
    model = GeneralizedInverseRegressor(formula="poly(x, 2) * C(g)").fit(data, y)
    np.testing.assert_allclose(model.predict(data.head(3)), model.predict(data)[:3])
    at_mean = data.head(1).assign(x=data["x"].mean(), g="a")
    means = model.least_squares_means("C(g)")
    assert means.loc["a", "estimate"] == pytest.approx(model.predict(at_mean)[0])


def test_pickles_hold_no_rows():
    X = np.random.default_rng(7).normal(size=(20_000, 5))
    model = GeneralizedInverseRegressor().fit(X, X[:, 0])
    text = pickle.dumps(model)
    assert len(text) < 20_000
    np.testing.assert_allclose(
        pickle.loads(text).predict(X[:5]), model.predict(X[:5]), rtol=1e-9, atol=1e-9
    )


def test_tall_data_are_not_copied():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(100_000, 40))
    X[:, 30:] = X[:, :30] @ rng.normal(size=(30, 10))
    y = X[:, 0] + rng.normal(size=len(X))
    tracemalloc.start()
    model = GeneralizedInverseRegressor().fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.rank_ == 31
    assert peak < X.nbytes / 2


def test_sparse_data_are_not_densified():
    n, levels = 100_000, 200
    codes = np.arange(n) % levels
    X = sp.csr_matrix((np.ones(n), (np.arange(n), codes)), shape=(n, levels))
    tracemalloc.start()
    model = GeneralizedInverseRegressor().fit(X, codes.astype(float))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.rank_ == levels
    assert model.intercept_ == pytest.approx(levels - 1)
    assert peak < 8 * n * levels / 4


def test_fit_of_full_rank_data_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GeneralizedInverseRegressor().fit([[1.0], [2], [4]], [1.0, 2, 3]).summary()
