"""Influence: R's hatvalues and cooks.distance, and refits by matrices of rows x rows."""

import pickle

import numpy as np
import pandas as pd
import pytest

from skmixed import GeneralizedInverseRegressor, MixedGLMRegressor, MixedLinearRegressor
from skmixed.datasets import load_cbpp, load_penicillin
from skmixed.exceptions import RankDeficiencyWarning, SingularFitWarning
from skmixed.inference import deletions, influence


@pytest.fixture(scope="module")
def schools(nested_data, nested_model):
    data = nested_data()
    return data, nested_model(prior_weights="w").fit(data)


def numbers(values):
    """Numbers of R, None as NaN."""
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def test_diagnostics_of_r(reference):
    """lme4's hatvalues, cooks.distance and residuals."""
    found, theirs = influence(reference.model, reference.table), reference.ref["diagnostics"]
    head = len(theirs["hat_head"])
    np.testing.assert_allclose(found.leverage[:head], theirs["hat_head"], atol=1e-6)
    assert found.leverage.sum() == pytest.approx(theirs["hat_sum"], rel=1e-6)
    assert (found.leverage**2).sum() == pytest.approx(theirs["hat_sumsq"], rel=1e-6)
    cooks = numbers(theirs["cooks_head"])
    size = np.nanmax(cooks)
    np.testing.assert_allclose(found.cooks_distance[:head], cooks, rtol=1e-5, atol=1e-6 * size)
    for kind, name in {
        "response": "response",
        "pearson": "pearson",
        "scaled": "pearson_scaled",
        "studentized": "studentized",
        "marginal": "marginal",
        "deviance": "deviance",
    }.items():
        expected = theirs["residuals"][name]
        head, size = numbers(expected["head"]), np.nanmax(np.abs(numbers(expected["head"])))
        np.testing.assert_allclose(found[kind][: len(head)], head, atol=2e-6 * size)
        if expected["sumsq"] is not None:
            assert (found[kind] ** 2).sum() == pytest.approx(expected["sumsq"], rel=2e-6)


def test_leverage_is_the_slope_of_a_rows_mean_by_its_response(schools, dense):
    data, model = schools
    matrix, _, rows = dense.of(model, data).equations()
    hat = rows @ np.linalg.solve(matrix, rows.T) / dense.of(model, data).R.diagonal()
    np.testing.assert_allclose(influence(model, data).leverage, hat.diagonal(), rtol=1e-7)


def test_cooks_distance_is_the_length_of_the_change_without_a_row(schools, dense):
    data, model = schools
    matrices, found = dense.of(model, data), influence(model, data)
    matrix, target, _ = matrices.equations()
    whole = np.linalg.solve(matrix, target)
    for i in (0, 7, len(data) - 1):
        gone = np.arange(len(data)) == i
        smaller, right, _ = matrices.without(gone).equations()
        change = whole - np.linalg.solve(smaller, right)
        expected = change @ matrix @ change / matrices.X.shape[1]
        assert found.cooks_distance[i] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("by", ["school", "own"])
def test_changes_without_a_level_are_those_of_refits_at_the_same_theta(schools, by, dense):
    """``own``: pairs of schools, which contain whole levels of every factor."""
    data, model = schools
    pairs = data["school"].str[1:].astype(int) // 2
    factor = data["school"] if by == "school" else pairs
    found = influence(model, data, level=by if by == "school" else pairs)
    matrices = dense.of(model, data)
    beta, Phi = matrices.gls()
    assert list(found.index) == sorted(set(factor))
    for level, row in found.iterrows():
        gone = (factor == level).to_numpy()
        change = beta - matrices.without(gone).gls()[0]
        np.testing.assert_allclose(row[["Intercept", "x", "kind[T.b]", "kind[T.c]"]], change,
                                   rtol=1e-6, atol=1e-9)  # fmt: skip
        distance = change @ np.linalg.solve(Phi, change) / len(beta)
        assert row["cooks_distance"] == pytest.approx(distance, rel=1e-6)
        assert row["n_rows"] == gone.sum()


def test_a_coefficient_that_a_level_alone_determines_has_no_change(dense, nested_data):
    data = nested_data()
    data["only"] = np.where(data["school"] == "s4", data["x"] + 1, 0.0)
    model = MixedLinearRegressor("y ~ x + only + (1 | school)").fit(data)
    found = influence(model, data, level="school")
    row, others = found.loc["s4"], found.drop(index="s4")
    assert np.isnan(row["only"]) and np.isnan(row["cooks_distance"])
    assert np.isfinite(others.to_numpy()).all()
    matrices = dense.of(model, data)
    rest = matrices.without((data["school"] == "s4").to_numpy())
    beta = dense(rest.X[:, :2], rest.Z, rest.G, rest.R, rest.y).gls()[0]
    change = matrices.gls()[0][:2] - beta
    np.testing.assert_allclose(row[["Intercept", "x"]].astype(float), change, rtol=1e-6)


def test_least_squares(nested_data):
    """Without random effects: the textbook's formulas."""
    data = nested_data()
    model = MixedLinearRegressor("y ~ x + kind").fit(data)
    found = influence(model, data)
    X = model.design_spec_.new(data).X
    h = (X @ np.linalg.inv(X.T @ X) * X).sum(axis=1)
    e = data["y"] - X @ model.fixed_effects_.to_numpy()
    np.testing.assert_allclose(found.leverage, h, rtol=1e-9)
    np.testing.assert_allclose(found.studentized, e / (model.sigma_ * np.sqrt(1 - h)), rtol=1e-9)
    cooks = (e / (model.sigma_ * (1 - h))) ** 2 * h / 4
    np.testing.assert_allclose(found.cooks_distance, cooks, rtol=1e-9)
    one = influence(model, data, level=np.arange(len(data)))
    np.testing.assert_allclose(one.cooks_distance, cooks, rtol=1e-8)


def test_a_row_that_alone_determines_a_coefficient(nested_data):
    data = nested_data()
    data["flag"] = (np.arange(len(data)) == 3) * 1.0
    found = influence(MixedLinearRegressor("y ~ x + flag + (1 | school)").fit(data), data)
    assert found.leverage[3] == pytest.approx(1.0)
    assert np.isnan(found.loc[3, ["cooks_distance", "studentized"]]).all()
    assert np.isfinite(found.drop(index=3).to_numpy()).all()


def test_a_response_that_is_explained_exactly(nested_data):
    """There is nothing to divide by; leverages are what they are."""
    data = nested_data()
    data["y"] = 3.0 + 2.0 * data["x"]
    with pytest.warns(SingularFitWarning):
        model = MixedLinearRegressor("y ~ x + (1 | school)").fit(data)
    found = influence(model, data)
    x = data["x"] - data["x"].mean()
    np.testing.assert_allclose(found.leverage, 1 / len(x) + x**2 / (x**2).sum(), rtol=1e-8)
    np.testing.assert_allclose(found.response, 0.0, atol=1e-12)


def test_rows_that_count_twice_are_two_rows(schools, nested_model):
    data, _ = schools
    counts = np.random.default_rng(1).integers(0, 3, len(data))
    repeated = data.loc[np.repeat(data.index, counts)]
    model = nested_model().fit(data, sample_weight=counts)
    twice = nested_model().fit(repeated)
    found = influence(model, data, sample_weight=counts)
    expected = influence(twice, repeated)
    assert found[counts == 0].isna().all(axis=None)
    same = expected[~expected.index.duplicated()].sort_index()
    pd.testing.assert_frame_equal(found[counts > 0], same, rtol=1e-4, atol=1e-6)
    by_level = influence(model, data, level="school", sample_weight=counts)
    pd.testing.assert_frame_equal(
        by_level, influence(twice, repeated, level="school"), rtol=1e-4, atol=1e-6
    )


def test_order_index_and_missing_rows(schools, nested_model):
    data, model = schools
    found = influence(model, data)
    shuffled = data.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(influence(model, shuffled).sort_index(), found, rtol=1e-8)
    gaps = data.set_index(pd.Index([f"row {i}" for i in range(len(data))]))
    gaps.loc["row 2", "x"] = np.nan
    gaps.loc["row 5", "y"] = np.nan
    kept = nested_model(missing="drop").fit(gaps)
    table = influence(kept, gaps)
    assert table.index.equals(gaps.index)
    assert table.index[table.isna().any(axis=1)].tolist() == ["row 2", "row 5"]


def test_models_from_files_answer_the_same(schools):
    data, model = schools
    loaded = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(influence(loaded, data), influence(model, data))
    pd.testing.assert_frame_equal(
        influence(loaded, data, level="school"), influence(model, data, level="school")
    )


def test_arrays_with_groups():
    rng = np.random.default_rng(0)
    X, g = rng.normal(size=(30, 2)), np.repeat(np.arange(6), 5)
    y = rng.normal(size=30) + 2 * rng.normal(size=6)[g]
    model = MixedLinearRegressor().fit(X, y, groups=g)
    found = influence(model, X, y, level="groups", groups=g)
    assert list(found.columns) == ["n_rows", "cooks_distance", "Intercept", "x0", "x1"]
    frame = pd.DataFrame(X, columns=["x0", "x1"]).assign(g=g, y=y)
    named = MixedLinearRegressor("y ~ x0 + x1 + (1 | g)").fit(frame)
    np.testing.assert_allclose(found, influence(named, frame, level="g"), rtol=1e-6)


@pytest.mark.parametrize("change", ["fewer", "response", "covariate", "counts"])
def test_other_rows_than_those_of_the_fit(schools, change):
    data, model = schools
    other, counts = data.copy(), None
    if change == "fewer":
        other = data[1:]
    elif change == "response":
        other.loc[4, "y"] += 1
    elif change == "covariate":
        other["x"] = other["x"] + 0.1
    else:
        counts = np.full(len(data), 1)
        counts[0], counts[1] = 2, 0
    match = "the fit had" if change == "fewer" else "these are other rows"
    with pytest.raises(ValueError, match=match):
        influence(model, other, sample_weight=counts)


@pytest.mark.parametrize(
    ("formula", "by"),
    [
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "plate"),
        ("diameter ~ 1 + (1 | plate) + (1 | sample)", "sample"),
        ("diameter ~ sample + (1 | plate)", "half"),
    ],
)
def test_levels_that_share_random_effects(dense, formula, by):
    """Crossed factors, and a column that cuts through levels."""
    data = load_penicillin().frame[:131]
    data["half"] = np.random.default_rng(0).choice(["one", "other"], 131)
    model = MixedLinearRegressor(formula).fit(data)
    check_changes(model, data, by, dense)


@pytest.mark.parametrize("parts", [1, 1 << 24])
def test_inner_levels_with_slopes_and_weights(schools, dense, monkeypatch, parts):
    data, model = schools
    monkeypatch.setattr(deletions, "_CHUNK", parts)
    monkeypatch.setattr(deletions, "_COLUMNS", 7)
    check_changes(model, data, "room", dense)


def check_changes(model, data, by, dense):
    found, matrices = influence(model, data, level=by), dense.of(model, data)
    beta, Phi = matrices.gls()
    for level, row in found.iterrows():
        gone = (data[by] == level).to_numpy()
        change = beta - matrices.without(gone).gls()[0]
        size = np.sqrt(Phi.diagonal()).max()
        np.testing.assert_allclose(row.iloc[2:].astype(float), change, rtol=1e-6, atol=1e-8 * size)
        distance = change @ np.linalg.solve(Phi, change) / len(beta)
        assert row["cooks_distance"] == pytest.approx(distance, rel=1e-6)


def test_crossed_levels_of_rows_that_count_twice():
    data = load_penicillin().frame
    counts = np.random.default_rng(0).integers(1, 3, len(data))
    repeated = data.loc[np.repeat(data.index, counts)]
    formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"
    model = MixedLinearRegressor(formula).fit(data, sample_weight=counts)
    twice = MixedLinearRegressor(formula).fit(repeated)
    pd.testing.assert_frame_equal(
        influence(model, data, level="plate", sample_weight=counts),
        influence(twice, repeated, level="plate"),
        rtol=1e-4,
        atol=1e-7,
    )


def test_crossed_levels_of_models_from_files():
    data = load_penicillin().frame
    model = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(data)
    loaded = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="needs the cross-products of the data, which are not pi"):
        influence(loaded, data, level="plate")


def test_levels_that_are_none():
    data = load_penicillin().frame
    model = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(data)
    with pytest.raises(ValueError, match=r"'plat' is no grouping factor.*Did you mean 'plate'"):
        influence(model, data, level="plat")
    with pytest.raises(ValueError, match=r"each of the 144 rows of X, got shape \(3,\)"):
        influence(model, data, level=np.arange(3))


def test_what_is_no_fitted_mixed_model(nested_data):
    with pytest.raises(ValueError, match="is not fitted: call fit first"):
        influence(MixedLinearRegressor("y ~ x"), nested_data())
    with pytest.raises(TypeError, match="takes a fitted mixed model"):
        influence(GeneralizedInverseRegressor(), nested_data())


# Generalised models


@pytest.fixture(scope="module")
def cbpp():
    data = load_cbpp().frame
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return data, MixedGLMRegressor(formula, family="binomial", tol=1e-12).fit(data)


def working(model, data):
    """Mixed-model equations, rows, scores and weights of the logistic model at its mode."""
    design = model.design_spec_.new(data)
    eta = model.predict(data, scale="link")
    p = 1 / (1 + np.exp(-eta))
    size, y = data["size"].to_numpy(), data["incidence"].to_numpy()
    term = design.random[0]
    rows = np.hstack([np.eye(term.n_levels)[term.codes], design.X])
    weight = size * p * (1 - p)
    matrix = (rows.T * weight) @ rows
    prior = 1 / model.covariances_["herd"].to_numpy().item()
    matrix[: term.n_levels, : term.n_levels] += prior * np.eye(term.n_levels)
    return matrix, rows, y - size * p, weight


def test_generalised_leverage_and_distance_are_those_of_a_newton_step(cbpp):
    data, model = cbpp
    matrix, rows, score, weight = working(model, data)
    found = influence(model, data)
    hat = weight * (rows * np.linalg.solve(matrix, rows.T).T).sum(axis=1)
    np.testing.assert_allclose(found.leverage, hat, rtol=1e-6)
    for i in (0, 2, 30):
        without = matrix - weight[i] * np.outer(rows[i], rows[i])
        step = np.linalg.solve(without, rows[i] * score[i])
        assert found.cooks_distance[i] == pytest.approx(step @ matrix @ step / 4, rel=1e-6)


@pytest.mark.parametrize(
    "name", ["glmm_cbpp_binomial", "glmm_grouseticks_poisson", "glmm_verbagg_binomial"]
)
def test_generalised_residuals_of_r(json_of, table_of, name):
    """lme4's residuals of the three types."""
    ref = json_of(name)
    data, family = table_of(ref), name.rpartition("_")[2]
    model = MixedGLMRegressor(ref["formula"], family=family, tol=1e-12).fit(data)
    found = influence(model, data)
    for kind in ("response", "pearson", "deviance"):
        expected = ref["diagnostics"]["residuals"][kind]
        head = np.array(expected["head"])
        np.testing.assert_allclose(found[kind][: len(head)], head, rtol=1e-5, atol=1e-7)
        assert (found[kind] ** 2).sum() == pytest.approx(expected["sumsq"], rel=1e-6)


def test_generalised_models_have_no_influence_by_level(cbpp):
    data, model = cbpp
    with pytest.raises(ValueError, match="by level is for linear models, got MixedGLMRegressor"):
        influence(model, data, level="herd")


def test_aliased_columns(schools):
    data, _ = schools
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor("y ~ x + I(2 * x) + kind + (1 | school)").fit(data)
    plain = MixedLinearRegressor("y ~ x + kind + (1 | school)").fit(data)
    found = influence(model, data, level="school")
    assert found["I(2 * x)"].isna().all()
    pd.testing.assert_frame_equal(
        found.drop(columns="I(2 * x)"), influence(plain, data, level="school"), rtol=1e-6
    )
