"""Types I to III and estimable functions: R's car, model comparison, invariance to coding."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skmixed import GeneralizedInverseRegressor
from skmixed.inference.fixed_effects import combination_text

DATA = Path(__file__).parents[1] / "data" / "rank"
ANOVA = sorted(path.stem for path in DATA.glob("anova_*.json"))


def load(name):
    return json.loads((DATA / f"{name}.json").read_text())


def fitted(case, **options):
    data = pd.read_csv(DATA / case["data"])
    return GeneralizedInverseRegressor(formula=case["formula"], **options).fit(data)


@pytest.mark.parametrize("type", [1, 2, 3])
@pytest.mark.parametrize("name", ANOVA)
def test_anova_of_r(name, type):
    """R 4.2: anova(lm) for type I, car::Anova for II and, with sum contrasts, III."""
    reference = load(name)
    theirs = reference[f"type{type}"]
    if "error" in theirs:
        assert reference["id"] == "emptycell_A_B_AB"  # car refuses; see the next tests
        return
    found = fitted(reference).anova(type)
    for term, row in theirs.items():
        if term == "(Intercept)":
            continue
        assert found.loc[term, "df"] == row["Df"]
        assert found.loc[term, "sum_sq"] == pytest.approx(row["Sum Sq"], rel=1e-9)
        if row["F value"] is not None:
            assert found.loc[term, "F"] == pytest.approx(row["F value"], rel=1e-9)
            assert found.loc[term, "p_value"] == pytest.approx(row["Pr(>F)"], rel=1e-7)


@pytest.mark.parametrize("type", [1, 2, 3])
@pytest.mark.parametrize("name", ["anova_emptycell_A_B_AB", "anova_twoway_A_x_AB"])
@pytest.mark.parametrize("reference_level", ["first", {"A": "a2", "B": "b3"}])
def test_coding_does_not_matter(name, type, reference_level):
    reference = load(name)
    one = fitted(reference).anova(type)
    two = fitted(reference, reference=reference_level).anova(type)
    pd.testing.assert_frame_equal(one, two, rtol=1e-9)


@pytest.mark.parametrize("method", ["sweep", "rational_sweep", "moore_penrose", "qr"])
def test_the_solution_shown_does_not_matter(method):
    reference = load("anova_emptycell_A_B_AB")
    pd.testing.assert_frame_equal(fitted(reference, method=method).anova(3),
                                  fitted(reference).anova(3))  # fmt: skip


def test_type_3_functions_are_estimable_and_give_the_sums_of_squares():
    reference = load("anova_emptycell_A_B_AB")
    model = fitted(reference)
    table = model.anova(3)
    for term in ("A", "B", "A:B"):
        K = model.estimable_functions(term)
        assert model.is_estimable(K.to_numpy()).all()
        test = model.contrast(K.to_numpy())
        assert test.df_num == table.loc[term, "df"] == len(K)
        assert test.statistic == pytest.approx(table.loc[term, "F"], rel=1e-9)


def test_type_3_functions_with_an_empty_cell_by_hand():
    """Goodnight's construction for A in a 2 x 2 design without the cell (2, 2).

    The estimable functions of A1 - A2 alone involve only the first level of B: the type III test
    of A compares the cells (1, 1) and (2, 1).
    """
    data = pd.DataFrame({"A": list("aabbaa"), "B": list("uuuuvv")})
    y = np.array([1.0, 2, 4, 7, 9, 8])
    model = GeneralizedInverseRegressor(formula="A + B + A:B").fit(data, y)
    K = model.estimable_functions("A")
    expected = np.array([0, 1, -1, 0, 0, 1, 0, -1])
    names = ["Intercept", "A[a]", "A[b]", "B[u]", "B[v]", "A[a]:B[u]", "A[a]:B[v]", "A[b]:B[u]"]
    row = K[names].to_numpy()[0]
    np.testing.assert_allclose(row / row[1], expected, atol=1e-9)
    means = y[:2].mean() - y[2:4].mean()
    test = model.contrast(K.to_numpy() / row[1])
    assert test.estimate[0] == pytest.approx(means)


def test_type_2_is_the_comparison_of_models():
    reference = load("anova_twoway_A_x_AB")
    data = pd.read_csv(DATA / reference["data"])

    def rss(formula):
        model = GeneralizedInverseRegressor(formula=formula).fit(data)
        return model.sigma_**2 * model.df_resid_

    found = fitted(reference).anova(2)["sum_sq"]
    assert found["A"] == pytest.approx(rss("y ~ B + x") - rss("y ~ A + B + x"))
    assert found["x"] == pytest.approx(rss("y ~ A * B") - rss("y ~ A * B + x"))
    assert found["A:B"] == pytest.approx(rss("y ~ A + B + x") - rss("y ~ A * B + x"))


def test_covariate_is_contained_in_its_interaction_with_a_factor():
    """PROC GLM: x is contained in A:x (same covariate, more factors), A is not."""
    reference = load("anova_twoway_A_x_AB")
    data = pd.read_csv(DATA / reference["data"])

    def rss(formula):
        model = GeneralizedInverseRegressor(formula=formula).fit(data)
        return model.sigma_**2 * model.df_resid_

    found = GeneralizedInverseRegressor(formula="y ~ A * x").fit(data).anova(2)["sum_sq"]
    assert found["x"] == pytest.approx(rss("y ~ A") - rss("y ~ A + x"))
    assert found["A"] == pytest.approx(rss("y ~ A:x") - rss("y ~ A * x"))


def test_columns_of_an_array_are_terms():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 3))
    X[:, 2] = X[:, 0] + X[:, 1]
    y = rng.normal(size=20)
    model = GeneralizedInverseRegressor().fit(X, y)
    one, three = model.anova(1), model.anova(3)
    assert one["df"].tolist() == [1, 1, 0, 17]
    assert three["df"].tolist() == [0, 0, 0, 17]  # each can be replaced by the other two
    only = GeneralizedInverseRegressor().fit(X[:, :1], y)
    explained = only.r_squared_ * ((y - y.mean()) ** 2).sum()
    assert one.loc["x0", "sum_sq"] == pytest.approx(explained)


@pytest.mark.parametrize("scale", [1e-21, 1e9])
def test_units_of_a_covariate_do_not_matter(scale):
    data = pd.read_csv(DATA / "twoway_unbalanced.csv")
    one = GeneralizedInverseRegressor(formula="y ~ A * x").fit(data)
    two = GeneralizedInverseRegressor(formula="y ~ A * x").fit(data.assign(x=data["x"] * scale))
    for type in (1, 2, 3):
        pd.testing.assert_frame_equal(one.anova(type), two.anova(type), rtol=1e-8)


@pytest.mark.parametrize(
    ("coefficients", "text"),
    [
        ([-1.0, 2.0], "2 c - 1"),
        ([0.0, -1.0], "-c"),
        ([3.5, 0.0], "3.5"),
        ([0.0, 0.0], "0"),
        ([-2.0, 0.0], "-2"),
        ([1.0, 1.0], "c + 1"),
    ],
)
def test_combinations_read_as_formulas(coefficients, text):
    assert combination_text(coefficients, ["Intercept", "c"]) == text
