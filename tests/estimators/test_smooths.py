"""Mixed models with smooth terms: identities, brute force, and what each method says of them."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skmixed import (
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
)
from skmixed.inference import (
    cluster_robust,
    drop1,
    emmeans,
    emtrends,
    influence,
    joint_tests,
    likelihood_ratio_test,
    random_effects_test,
)

FORMULA = "y ~ f + s(x) + z + (1 | g)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    n = 240
    frame = pd.DataFrame(
        {
            "x": rng.uniform(0, 10, n),
            "z": rng.normal(size=n),
            "f": np.resize(list("pqr"), n),
            "g": rng.choice(list("abcdefgh"), n),
            "w": rng.uniform(0.5, 2.0, n),
        }
    )
    level = dict(zip("abcdefgh", rng.normal(size=8), strict=True))
    f = frame["f"].map({"p": 1.0, "q": 0.5, "r": -1.0})
    mean = np.sin(frame["x"]) + 0.2 * frame["x"] + 0.3 * frame["z"]
    frame["y"] = f + mean + frame["g"].map(level) + 0.5 * rng.normal(size=n)
    frame["v"] = f * np.sin(frame["x"]) + 0.4 * rng.normal(size=n)
    frame["count"] = rng.poisson(np.exp(0.4 * mean))
    return frame


@pytest.fixture(scope="module")
def model(data):
    return MixedLinearRegressor(FORMULA).fit(data)


def dense(model, frame, tau, reml):
    """-2 log likelihood, sigma^2, fitted values and matrices at sd over sigma of the terms."""
    design = model.design_spec_.new(frame)
    X, Z, scale = design.X, [], []
    for term, sd in zip(design.random, tau, strict=True):
        for level in range(term.n_levels):
            Z.append(term.z * (term.codes == level)[:, None])
            scale += [sd] * term.z.shape[1]
    Z, scale = np.hstack(Z), np.square(scale)
    y, n, p = frame["y"].to_numpy(), len(frame), X.shape[1]
    V = np.eye(n) + Z * scale @ Z.T
    W = np.linalg.inv(V)
    C = np.linalg.inv(X.T @ W @ X)
    beta = C @ X.T @ W @ y
    rest = y - X @ beta
    m = n - p * reml
    sigma2 = rest @ W @ rest / m
    value = np.linalg.slogdet(V)[1] + m * (1 + np.log(2 * np.pi * sigma2))
    value += np.linalg.slogdet(X.T @ W @ X)[1] if reml else 0.0
    b = scale * (Z.T @ W @ rest)
    return value, sigma2, X @ beta + Z @ b, (X, Z, scale, C, W)


@pytest.mark.parametrize("reml", [True, False])
def test_criterion_is_that_of_dense_matrices(data, reml):
    frame = data.iloc[:90]
    model = MixedLinearRegressor(FORMULA, reml=reml).fit(frame)
    tau = model.theta_[[1, 0]]  # the smooth term stands after the others there
    value, sigma2, fitted, _ = dense(model, frame, tau, reml)
    assert model.deviance_ == pytest.approx(value, abs=1e-8)
    assert model.sigma_**2 == pytest.approx(sigma2, rel=1e-9)
    np.testing.assert_allclose(model.predict(frame), fitted, atol=1e-8)
    for factor in ([1.02, 1.0], [1.0, 0.98], [0.98, 1.0], [1.0, 1.02]):
        assert dense(model, frame, tau * factor, reml)[0] > value


def test_freedom_and_errors_are_those_of_dense_matrices(data):
    frame = data.iloc[:90]
    model = MixedLinearRegressor("y ~ s(x) + (1 | g)").fit(frame)
    _, sigma2, _, (X, Z, scale, _, _) = dense(model, frame, model.theta_[[1, 0]], True)
    both = np.hstack([X, Z])
    penalty = np.append(np.zeros(X.shape[1]), 1 / scale)
    covariance = np.linalg.inv(both.T @ both + np.diag(penalty))
    share = np.diag(covariance @ both.T @ both)
    own = np.arange(X.shape[1], X.shape[1] + 8)
    assert model.smooths_.loc["s(x)", "edf"] == pytest.approx(1 + share[own].sum(), rel=1e-9)
    at = np.append([0, 1], own)  # constant, line, and the other columns of the curve
    expected = np.einsum("ni,ij,nj->n", both[:, at], covariance[np.ix_(at, at)], both[:, at])
    _, std = model.predict(frame, random_effects=False, return_std=True)
    np.testing.assert_allclose(std, np.sqrt(sigma2 * expected), rtol=1e-8)


def test_degrees_of_freedom_are_those_of_dense_matrices(data):
    """Satterthwaite's from differences of dense criteria and variances by (tau, tau, sigma^2)."""
    frame = data.iloc[:90]
    model = MixedLinearRegressor("y ~ f + s(x) + (1 | g)").fit(frame)
    at = np.append(model.theta_[[1, 0]], np.log(model.sigma_**2))

    def both(v):
        value, sigma2, _, (X, _, _, C, _) = dense(model, frame, v[:2], True)
        m = len(frame) - X.shape[1]
        ratio = sigma2 / np.exp(v[2])
        return value + m * (ratio - 1 - np.log(ratio)), np.exp(v[2]) * np.diag(C)

    steps = np.diag(2e-3 * np.array([at[0], at[1], 1.0]))
    slopes = np.stack([(both(at + e)[1] - both(at - e)[1]) / (2 * e.max()) for e in steps])
    H = np.array(
        [
            [
                (both(at + a + b)[0] - both(at + a - b)[0] - both(at - a + b)[0]
                 + both(at - a - b)[0]) / (4 * a.max() * b.max())
                for b in steps
            ]
            for a in steps
        ]
    )  # fmt: skip
    spread = np.einsum("ip,ij,jp->p", slopes, 2 * np.linalg.inv(H), slopes)
    expected = 2 * both(at)[1] ** 2 / spread
    np.testing.assert_allclose(model.coefficients()["df"], expected, rtol=2e-3)


def test_a_straight_line_needs_no_curve(data):
    frame = data.assign(y=2.0 + 0.5 * data["x"] + 0.1 * np.resize([1, -1, -1, 1], len(data)))
    curve = MixedLinearRegressor("y ~ s(x)").fit(frame)
    line = MixedLinearRegressor("y ~ x").fit(frame)
    assert curve.smooths_.loc["s(x)", "edf"] == 1.0
    assert curve.smooths_.loc["s(x)", "lambda"] == np.inf
    assert not curve.is_singular_
    np.testing.assert_allclose(curve.predict(frame), line.predict(frame), rtol=1e-9)
    assert curve.deviance_ == pytest.approx(line.deviance_, abs=1e-7)


def test_units_shifts_and_order_of_rows_do_not_matter(data, model):
    moved = data.assign(x=1e5 + 1e-3 * data["x"], y=7.0 - 100.0 * data["y"]).sample(
        frac=1, random_state=1
    )
    other = MixedLinearRegressor(FORMULA).fit(moved)
    expected = 7.0 - 100.0 * model.predict(data.loc[moved.index])
    np.testing.assert_allclose(other.predict(moved), expected, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(other.smooths_["edf"], model.smooths_["edf"], rtol=1e-6)


def test_sample_weights_are_copies_of_rows(data):
    counts = np.resize([1, 2, 0, 3], len(data))
    weighted = MixedLinearRegressor(FORMULA).fit(data, sample_weight=counts)
    copies = MixedLinearRegressor(FORMULA).fit(data.loc[np.repeat(data.index, counts)])
    np.testing.assert_allclose(weighted.predict(data), copies.predict(data), rtol=1e-7)
    np.testing.assert_allclose(weighted.smooths_["edf"], copies.smooths_["edf"], rtol=1e-7)
    np.testing.assert_allclose(weighted.r2(), copies.r2(), rtol=1e-6)


def test_prior_weights(data):
    model = MixedLinearRegressor("y ~ s(x)", prior_weights="w").fit(data)
    doubled = data.assign(w=2 * data["w"])
    other = MixedLinearRegressor("y ~ s(x)", prior_weights="w").fit(doubled)
    np.testing.assert_allclose(other.predict(doubled), model.predict(data), atol=1e-5)
    assert other.sigma_ == pytest.approx(np.sqrt(2) * model.sigma_, rel=1e-7)


def test_predictions_hold_the_curve_without_random_effects(data, model):
    new = data.drop(columns=["g", "y"])
    population = model.predict(new, random_effects=False)
    levels = model.random_effects_["g"]["Intercept"]
    np.testing.assert_allclose(
        model.predict(data), population + levels[data["g"]].to_numpy(), atol=1e-9
    )
    grid = pd.DataFrame({"x": np.linspace(0, 10, 30), "z": 0.0, "f": "p"})
    curve = model.predict(grid, random_effects=False)
    wave = np.sin(grid["x"]) + 0.2 * grid["x"]
    assert np.corrcoef(curve, wave)[0, 1] > 0.98


def test_groups_that_are_named_passed_or_unseen(data, model):
    np.testing.assert_allclose(
        model.predict(data, random_effects=["g"]), model.predict(data), rtol=1e-9, atol=1e-9
    )
    population = model.predict(data, random_effects=False)
    new = data.assign(g=np.where(np.arange(len(data)) % 2, data["g"], "new"))
    np.testing.assert_allclose(model.predict(new)[::2], population[::2])
    unknown = clone(model).set_params(unseen_groups="nan").fit(data)
    assert np.isnan(unknown.predict(new)[::2]).all()
    passed = MixedLinearRegressor("f + s(x) + z + (1 | groups)").fit(
        data[["f", "x", "z"]], data["y"], groups=data["g"]
    )
    np.testing.assert_allclose(passed.predict(data[["f", "x", "z"]], random_effects=False),
                               population, atol=1e-8)  # fmt: skip


def test_curves_leave_the_range_as_lines(model):
    grid = pd.DataFrame({"x": [20.0, 30.0, 40.0, -5.0, -15.0, -25.0], "z": 0.0, "f": "p"})
    high, low = model.predict(grid, random_effects=False).reshape(2, 3)
    for own in (high, low):
        assert own[2] - own[1] == pytest.approx(own[1] - own[0], rel=1e-9)


def test_users_see_their_grouping_factors_alone(model):
    assert list(model.random_effects_) == list(model.covariances_) == ["g"]
    assert list(model.random_effects_std_) == list(model.random_effects("prediction")) == ["g"]
    assert [term.group for term in model.random_terms_] == ["g"]
    assert model.structure_ == {}
    assert list(model.smooths_.index) == ["s(x)"]
    components = model.variance_components()
    assert list(components["group"]) == ["s(x)", "g", "Residual"]
    assert components["std_dev"][0] == pytest.approx(model.smooths_["sd"].item())
    with pytest.raises(ValueError, match=r"random_effects must be .* those of the model are 'g'"):
        model.predict(pd.DataFrame(), random_effects=["s(x)"])


def test_summary(model):
    text = str(model.summary())
    assert text.startswith("Additive mixed model fit by REML")
    assert "Smooth terms:\n" in text
    assert "groups: g, 8\n" in text
    row = next(line for line in text.splitlines() if line.startswith("s(x)"))
    assert row.split()[1] == f"{model.smooths_['edf'].item():.2f}"
    assert "<h5>Smooth terms</h5>" in model.summary()._repr_html_()


def test_copies_and_pickles(data, model):
    for copy in (clone(model).fit(data), pickle.loads(pickle.dumps(model))):
        pd.testing.assert_frame_equal(copy.smooths_, model.smooths_)
        expected = model.predict(data, random_effects=False, return_std=True)
        np.testing.assert_allclose(
            copy.predict(data, random_effects=False, return_std=True), expected, rtol=1e-9
        )


def test_grid_search_over_formulas(data):
    X, y = data[["x", "z", "g"]], data["y"]
    search = GridSearchCV(
        MixedLinearRegressor(), {"formula": ["x + (1 | g)", "s(x) + (1 | g)", "s(x, k=5)"]}, cv=3
    ).fit(X, y)
    assert search.best_params_["formula"] == "s(x) + (1 | g)"


def test_arrays_without_names(data):
    X, y = data[["x", "z"]].to_numpy(), data["y"]
    model = MixedLinearRegressor("s(x0) + x1").fit(X, y)
    named = MixedLinearRegressor("y ~ s(x) + z").fit(data)
    np.testing.assert_allclose(model.predict(X), named.predict(data))
    assert model.n_features_in_ == 2


def test_missing_values(data, model):
    holes = data.assign(x=data["x"].where(np.arange(len(data)) % 50 > 0))
    dropping = MixedLinearRegressor(FORMULA, missing="drop").fit(holes)
    without = MixedLinearRegressor(FORMULA).fit(holes.dropna())
    predicted = dropping.predict(holes, random_effects=False)
    assert np.isnan(predicted).sum() == holes["x"].isna().sum()
    np.testing.assert_allclose(predicted[~np.isnan(predicted)],
                               without.predict(holes.dropna(), random_effects=False))  # fmt: skip
    with pytest.raises(ValueError, match="missing values"):
        model.predict(holes)


def test_levels_of_a_factor_share_a_variance(data):
    model = MixedLinearRegressor("v ~ f + s(x, by=f)").fit(data)
    assert list(model.smooths_.index) == [f"s(x, by=f)[{level}]" for level in "pqr"]
    assert model.smooths_["sd"].nunique() == 1
    assert model.result_.n_params == 6 + 1 + 1  # three constants and slopes, sd, sigma
    apart = data.assign(f=data["f"].replace("r", "q"))
    assert MixedLinearRegressor("v ~ f + s(x, by=f)").fit(apart).deviance_ > model.deviance_ + 50
    with pytest.raises(ValueError, match="unknown category 'u'"):
        model.predict(data.assign(f="u"))


def test_levels_of_a_factor_are_the_model_of_each_where_the_variance_is(data):
    """With one sd over sigma the curves of levels are fitted apart."""
    model = MixedLinearRegressor("v ~ f + s(x, by=f)").fit(data)
    knots = model.design_spec_.smooths[0]
    for level in "pqr":
        own = data[data["f"] == level]
        x = own["x"].to_numpy()
        both = np.column_stack([np.ones(len(x)), x, knots.splines(x)])
        penalty = np.append([0, 0], np.full(8, model.smooths_["lambda"].iloc[0]))
        b = np.linalg.solve(both.T @ both + np.diag(penalty), both.T @ own["v"])
        np.testing.assert_allclose(model.predict(own), both @ b, atol=1e-8)


def test_simulations_keep_the_curve(data, model):
    rows = data.iloc[:4]
    draws = model.simulate(rows, 4000, random_state=0)
    expected = model.predict(rows, random_effects=False)
    sd = np.hypot(model.sigma_, np.sqrt(model.covariances_["g"].iloc[0, 0]))
    np.testing.assert_allclose(draws.mean(axis=1), expected, atol=5 * sd / np.sqrt(4000))
    np.testing.assert_allclose(draws.std(axis=1), sd, rtol=0.1)


def test_residuals_and_influence(data, model):
    marginal = model.residuals(data, kind="marginal")
    np.testing.assert_allclose(marginal, data["y"] - model.predict(data, random_effects=False))
    table = influence(model, data)
    rank, g = len(model.fixed_effects_), model.result_.relative_effects_variance
    assert rank < table["leverage"].sum() < rank + 8 + 8
    assert len(g) == 2
    by_level = influence(model, data, level="g")
    left = data[data["g"] != "a"]
    again = MixedLinearRegressor(FORMULA, tol=1e-10).fit(left)
    assert (
        np.abs(by_level.loc["a", "z"] - (model.fixed_effects_ - again.fixed_effects_)["z"]) < 0.02
    )
    with pytest.raises(ValueError, match=r"one function or field over 's\(x\)'"):
        cluster_robust(model, data, cluster="g")


def test_shares_of_variance_count_the_curve_as_fixed(data, model):
    fixed = np.var(model.predict(data, random_effects=False), ddof=1)
    random = model.covariances_["g"].iloc[0, 0]
    whole = fixed + random + model.sigma_**2
    assert model.r2()["marginal"] == pytest.approx(fixed / whole, rel=1e-9)
    assert model.r2()["conditional"] == pytest.approx((fixed + random) / whole, rel=1e-9)
    assert model.icc()["adjusted"] == pytest.approx(random / (random + model.sigma_**2), rel=1e-9)


def test_tests_of_the_curve(data, model):
    table = random_effects_test(model)
    row = table.loc["deviations from a line in s(x)"]
    line = MixedLinearRegressor("y ~ f + x + z + (1 | g)").fit(data)
    assert row["lrt"] == pytest.approx(line.deviance_ - model.deviance_, rel=1e-8)
    assert row["df"] == 1
    assert row["p_value_boundary"] == pytest.approx(row["p_value"] / 2)
    found = likelihood_ratio_test(line, model).iloc[1]
    assert found["Df"] == 1
    assert found["p-value (boundary)"] == pytest.approx(found["p-value"] / 2)


def test_tables_of_coefficients_say_what_the_line_is(model):
    note = "Of s(x) the straight line alone is tested here"
    for table in (model.coefficients(), model.anova()):
        assert any(text.startswith(note) for text in table.notes)
    assert np.isfinite(model.coefficients()["df"]).all()  # Satterthwaite's
    whole = model.coefficients(ddf="kenward_roger")
    assert (whole["std_error"] >= model.coefficients()["std_error"] * (1 - 1e-9)).all()


def test_drop1_leaves_the_lines_alone(data, model):
    table = drop1(model, data)
    assert list(table.index) == ["<none>", "f", "z"]
    small = MixedLinearRegressor("y ~ f + s(x) + (1 | g)", reml=False).fit(data)
    whole = MixedLinearRegressor(FORMULA, reml=False).fit(data)
    assert table.loc["z", "lrt"] == pytest.approx(small.deviance_ - whole.deviance_, abs=1e-6)


def test_marginal_means(data, model):
    with pytest.raises(ValueError, match=r"emmeans averages .* s\(x\) is more than these"):
        emmeans(model, "f")
    with pytest.raises(ValueError, match=r"emtrends averages .* SmoothDisplay"):
        emtrends(model, [], "x")
    assert emtrends(model, [], "z").frame["estimate"].item() == pytest.approx(
        model.fixed_effects_["z"]
    )
    assert joint_tests(model).loc["f", "F"] == pytest.approx(model.anova().loc["f", "F"])
    with pytest.raises(ValueError, match=r"joint_tests averages .* s\(x, by=f\)"):
        joint_tests(MixedLinearRegressor("v ~ f + s(x, by=f)").fit(data))
    with pytest.raises(ValueError, match="joint_tests averages"):
        joint_tests(model, at={"x": [1.0, 2.0]})


def test_models_that_have_no_smooth_terms(data, model):
    with pytest.raises(ValueError, match="use MixedLinearRegressor"):
        GeneralizedInverseRegressor(formula="y ~ s(x)").fit(data)
    with pytest.raises(ValueError, match=r"fixed\['a'\] is 's\(z\)': it must have fixed effects"):
        MixedNonlinearRegressor("y ~ SSlogis(x, a, b, c) ~ (a | g)", fixed={"a": "s(z)"}).fit(data)
    with pytest.raises(ValueError, match=r"n_agq=5: .*without smooth terms"):
        MixedGLMRegressor("count ~ s(x) + (1 | g)", family="poisson", n_agq=5).fit(data)
    with pytest.raises(ValueError, match="without smooth terms"):
        model.expand()


def test_a_generalised_model(data):
    model = MixedGLMRegressor("count ~ s(x) + (1 | g)", family="poisson").fit(data)
    assert 2 < model.smooths_["edf"].item() < 9
    new = data[["x"]].iloc[:5]
    population = model.predict(new, random_effects=False, scale="link")
    variance = model.covariances_["g"].iloc[0, 0]
    np.testing.assert_allclose(
        model.predict(new, marginal=True, random_effects=False), np.exp(population + variance / 2)
    )
    assert "Generalised additive mixed model" in str(model.summary())
    shares = model.r2(data)
    assert 0 < shares["marginal"] <= shares["conditional"] < 1
    classes = MixedLogisticClassifier("up ~ s(x) + (1 | g)").fit(data.assign(up=data["y"] > 1))
    probability = classes.predict_proba(data)[:, 1]
    assert np.corrcoef(probability, data["y"])[0, 1] > 0.5


def test_two_curves_of_one_covariate_are_looked_at_from_two_starts():
    rng = np.random.default_rng(5)
    x, z = rng.uniform(0, 1, 100), rng.uniform(0, 3, 100)
    y = np.sin(6 * x) + rng.uniform(0, 1.5) * np.cos(5 * x) * z + 1.2 * rng.normal(size=100)
    frame = pd.DataFrame({"x": x, "z": z, "y": y})
    model = MixedLinearRegressor("y ~ z + s(x) + s(x, by=z)").fit(frame)
    assert model.deviance_ == pytest.approx(313.92553, abs=1e-3)  # another minimum: 313.99534
