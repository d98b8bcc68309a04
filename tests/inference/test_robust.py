"""Cluster-robust covariances: clubSandwich, and matrices of rows x rows."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.linalg import block_diag

from skmixed import MixedLinearRegressor, MixedLogisticClassifier, NotEstimableError
from skmixed.datasets import load_cbpp, load_penicillin, load_sleepstudy
from skmixed.exceptions import RankDeficiencyWarning
from skmixed.inference import cluster_robust

KINDS = ["CR0", "CR1", "CR1S", "CR2"]


@pytest.fixture(scope="module")
def schools(nested_data, nested_model):
    data = nested_data()
    return data, nested_model(prior_weights="w").fit(data)


def of_coefficients(reference, plain_name):
    """Places of R's coefficients among ours."""
    names = [plain_name(name) for name in reference.model.fixed_effects_.index]
    return [names.index(plain_name(name)) for name in reference.ref["fit"]["coef_names"]]


@pytest.mark.parametrize("kind", KINDS)
def test_club_sandwich(reference, plain_name, kind):
    """clubSandwich 0.5.8: vcovCR and coef_test with Satterthwaite's degrees of freedom."""
    theirs = reference.ref.get("sandwich") or {}
    if kind not in theirs:
        pytest.skip("clubSandwich refuses: crossed factors, or prior weights")
    places = of_coefficients(reference, plain_name)
    found = cluster_robust(reference.model, reference.table, kind=kind)
    assert found.n_clusters == theirs["n_clusters"]
    expected = np.array(theirs[kind]["vcov"])
    ours = found.vcov.to_numpy()[np.ix_(places, places)]
    np.testing.assert_allclose(ours, expected, atol=1e-6 * np.abs(expected).max())
    table = found.coefficients().iloc[places]
    rows = pd.DataFrame(theirs[kind]["coef_test"])
    np.testing.assert_allclose(table["df"], rows["df_Satt"], rtol=1e-6)
    np.testing.assert_allclose(table["std_error"], rows["SE"], rtol=1e-6)
    np.testing.assert_allclose(table["t"], rows["tstat"], rtol=1e-5)
    np.testing.assert_allclose(table["p_value"], rows["p_Satt"], rtol=1e-4, atol=1e-12)


def test_hotelling_of_club_sandwich(reference, plain_name):
    """clubSandwich's Wald_test(test = 'HTZ') of the rows of contest_md."""
    theirs = (reference.ref.get("sandwich") or {}).get("CR2", {}).get("wald_HTZ")
    if theirs is None:
        pytest.skip("no joint test in this reference")
    L = np.array(reference.ref["contest_md"]["L"], dtype=float)
    basis = reference.fit.basis
    places = of_coefficients(reference, plain_name)
    K = L @ basis.combinations.T[np.searchsorted(basis.kept, places)]
    found = cluster_robust(reference.model, reference.table).contrast(K)
    F = found.statistic if len(K) > 1 else found.statistic**2
    np.testing.assert_allclose(F, theirs[0]["Fstat"], rtol=1e-6)
    np.testing.assert_allclose(found.df_den, theirs[0]["df_denom"], rtol=1e-6)
    assert found.p_value == pytest.approx(theirs[0]["p_val"], rel=1e-5, abs=1e-12)


def root(A, power):
    """Power of a symmetric matrix on its range."""
    values, vectors = np.linalg.eigh((A + A.T) / 2)
    known = values > 1e-10 * values.max()
    return (vectors[:, known] * values[known] ** power) @ vectors[:, known].T


def sandwich(matrices, clusters, kind):
    """(vcov, E h_i per cluster as (n, p) blocks, V) by definition, in the rows themselves."""
    V = matrices.V
    beta, Phi = matrices.gls()
    e, X = matrices.y - matrices.X @ beta, matrices.X
    meat, maps = np.zeros_like(Phi), []
    for c in np.unique(clusters):
        at = np.flatnonzero(clusters == c)
        Om, Xc = V[np.ix_(at, at)], X[at]
        A = np.eye(len(at))
        if kind == "CR2":
            U = root(Om, 0.5)
            A = U @ root(U @ (Om - Xc @ Phi @ Xc.T) @ U, -0.5) @ U
        h = A @ np.linalg.solve(Om, Xc)
        maps.append((at, h))
        g = h.T @ e[at]
        meat += np.outer(g, g)
    return Phi @ meat @ Phi, maps


def satterthwaite(matrices, maps, row):
    """2 E(v)^2 / Var(v) for v = row'vcov row under the model, by an n x n covariance."""
    V = matrices.V
    _, Phi = matrices.gls()
    residual = V - matrices.X @ Phi @ matrices.X.T
    G = np.zeros((len(V), len(maps)))
    for i, (at, h) in enumerate(maps):
        G[at, i] = h @ Phi @ row
    P = G.T @ residual @ G
    return np.trace(P) ** 2 / (P**2).sum()


@pytest.mark.parametrize("kind", ["CR0", "CR2"])
@pytest.mark.parametrize("alone", [False, True])
def test_by_definition(nested_data, dense, kind, alone):
    """Nested factors, slopes, prior weights; and a covariate of one cluster alone."""
    data = nested_data(3)
    formula = "y ~ x + kind + (x | school) + (1 | room)"
    if alone:
        data["only"] = np.where(data["school"] == "s4", data["x"] + 1, 0.0)
        formula = formula.replace("kind", "kind + only")
    model = MixedLinearRegressor(formula, prior_weights="w").fit(data)
    matrices = dense.of(model, data).of_equal_variance()
    expected, maps = sandwich(matrices, data["school"].to_numpy(), kind)
    found = cluster_robust(model, data, kind=kind)
    np.testing.assert_allclose(found.vcov, expected, rtol=1e-6, atol=1e-8 * expected.max())
    df = found.coefficients()["df"]
    for name, row in zip(df.index, np.eye(len(df)), strict=True):
        if name != "only":  # nothing is left of it to estimate a variance from
            assert df[name] == pytest.approx(satterthwaite(matrices, maps, row), rel=1e-6)


def test_wishart_degrees_of_freedom_by_definition(schools, dense):
    """eta = q (q + 1) / sum of Var(D_st), D normed to mean I: by n x n covariances."""
    data, model = schools
    matrices = dense.of(model, data).of_equal_variance()
    _, maps = sandwich(matrices, data["school"].to_numpy(), "CR2")
    V, (beta, Phi) = matrices.V, matrices.gls()
    residual = V - matrices.X @ Phi @ matrices.X.T
    K = np.eye(4)[1:]
    G = [np.zeros((len(V), len(maps))) for _ in K]
    for s, k in enumerate(K):
        for i, (at, h) in enumerate(maps):
            G[s][at, i] = h @ Phi @ k
    P = np.array([[Gs.T @ residual @ Gt for Gt in G] for Gs in G])
    half = root(np.einsum("stii->st", P), -0.5)
    P = np.einsum("as,bt,stij->abij", half, half, P)
    spread = sum((P[s, s] * P[t, t]).sum() + (P[s, t] * P[t, s]).sum()
                 for s in range(3) for t in range(3))  # fmt: skip
    eta = 3 * 4 / spread
    found = cluster_robust(model, data)
    test = found.contrast(K)
    covariance = found.vcov.to_numpy()[1:, 1:]
    Q = beta[1:] @ np.linalg.solve(covariance, beta[1:])
    assert test.df_num == 3
    assert test.df_den == pytest.approx(eta - 2, rel=1e-6)
    assert test.statistic == pytest.approx((eta - 2) / (3 * eta) * Q, rel=1e-6)
    assert test.p_value == pytest.approx(stats.f.sf(test.statistic, 3, test.df_den))


def test_cr2_is_unbiased_where_the_model_is_right(schools, dense):
    """The mean of the covariance under the model is the model's own."""
    data, model = schools
    matrices = dense.of(model, data).of_equal_variance()
    _, maps = sandwich(matrices, data["school"].to_numpy(), "CR2")
    _, Phi = matrices.gls()
    residual = matrices.V - matrices.X @ Phi @ matrices.X.T
    mean = sum(h.T @ residual[np.ix_(at, at)] @ h for at, h in maps)
    np.testing.assert_allclose(Phi @ mean @ Phi, Phi, rtol=1e-6, atol=1e-9)
    found = cluster_robust(model, data)
    rows = model.result_.unscaled(np.eye(4))
    covariance = found.effects._under_the_model(rows)[0] * model.sigma_**2
    np.testing.assert_allclose(covariance, model.vcov_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_least_squares(nested_data, kind):
    """Without random effects: the sandwich of White and Arellano, times its factor."""
    data = nested_data()
    model = MixedLinearRegressor("y ~ x + kind").fit(data)
    found = cluster_robust(model, data, cluster="school", kind=kind)
    X = model.design_spec_.new(data).X
    e = (data["y"] - model.predict(data)).to_numpy()
    bread = np.linalg.inv(X.T @ X)
    meat = np.zeros((4, 4))
    for school in data["school"].unique():
        at = (data["school"] == school).to_numpy()
        left = np.eye(at.sum()) - X[at] @ bread @ X[at].T
        own = root(left, -0.5) @ e[at] if kind == "CR2" else e[at]
        meat += np.outer(X[at].T @ own, X[at].T @ own)
    n, J = len(X), data["school"].nunique()
    factor = {"CR1": J / (J - 1), "CR1S": J / (J - 1) * (n - 1) / (n - 4)}.get(kind, 1.0)
    np.testing.assert_allclose(found.vcov, factor * bread @ meat @ bread, rtol=1e-7, atol=1e-12)


def test_rows_that_count_twice_are_two_rows(nested_data, nested_model):
    data = nested_data()
    counts = np.random.default_rng(1).integers(1, 3, len(data))
    repeated = data.loc[np.repeat(data.index, counts)]
    model, twice = nested_model(), nested_model()
    found = cluster_robust(model.fit(data, sample_weight=counts), data, sample_weight=counts)
    expected = cluster_robust(twice.fit(repeated), repeated)
    pd.testing.assert_frame_equal(found.coefficients(), expected.coefficients(), rtol=1e-4)


def test_clusters_by_name_array_or_default(schools):
    data, model = schools
    default = cluster_robust(model, data).vcov
    for cluster in ("school", data["school"], data["school"].astype("category").to_numpy()):
        pd.testing.assert_frame_equal(cluster_robust(model, data, cluster=cluster).vcov, default)
    pairs = data["school"].str[1:].astype(int) // 2
    wider = cluster_robust(model, data, cluster=pairs)
    assert wider.n_clusters == 8
    named = cluster_robust(model, data.assign(pair=pairs), cluster="pair")
    pd.testing.assert_frame_equal(named.vcov, wider.vcov)


def test_tests_do_not_depend_on_units_or_on_the_rows_that_span_a_hypothesis(schools, nested_model):
    data, model = schools
    found = cluster_robust(model, data)
    K = np.eye(4)[2:]
    plain = found.contrast(K)
    mixed = found.contrast(np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]) @ K)
    assert mixed.df_num == plain.df_num == 2
    assert mixed.statistic == pytest.approx(plain.statistic, rel=1e-8)
    assert mixed.df_den == pytest.approx(plain.df_den, rel=1e-8)
    scaled = data.assign(x=1e6 * data["x"], y=1e-3 * data["y"])
    other = cluster_robust(nested_model(prior_weights="w").fit(scaled), scaled)
    columns = ["df", "t", "p_value"]
    pd.testing.assert_frame_equal(
        other.coefficients()[columns], found.coefficients()[columns], rtol=1e-4, atol=1e-12
    )


def test_one_row_is_a_t_test(schools):
    data, model = schools
    found = cluster_robust(model, data)
    row = found.coefficients(level=0.9).loc["x"]
    for K in ({"x": 1.0}, [0, 1, 0, 0]):
        test = found.contrast(K)
        assert test.estimate == row["estimate"] == pytest.approx(model.fixed_effects_["x"])
        assert (test.standard_error, test.df_den) == pytest.approx((row["std_error"], row["df"]))
        assert (test.statistic, test.p_value) == pytest.approx((row["t"], row["p_value"]))
    width = stats.t.ppf(0.95, row["df"]) * row["std_error"]
    assert row[["lower", "upper"]].tolist() == pytest.approx([row["estimate"] - width,
                                                              row["estimate"] + width])  # fmt: skip
    assert row["std_error"] ** 2 == pytest.approx(found.vcov.loc["x", "x"])


def test_aliased_columns(nested_data):
    data = nested_data()
    formula = "y ~ x + I(2 * x) + kind + (1 | school) + (1 | room)"
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor(formula).fit(data)
    plain = MixedLinearRegressor(formula.replace("I(2 * x) + ", "")).fit(data)
    found = cluster_robust(model, data)
    table, expected = found.coefficients(), cluster_robust(plain, data).coefficients()
    assert table.loc["I(2 * x)"].isna().all() and found.vcov["I(2 * x)"].isna().all()
    pd.testing.assert_frame_equal(table.drop(index="I(2 * x)"), pd.DataFrame(expected), rtol=1e-6)
    with pytest.raises(NotEstimableError, match=r"I\(2 \* x\) = 2 x"):
        found.contrast({"x": 1.0})
    assert found.contrast({"x": 1.0, "I(2 * x)": 2.0}).estimate == pytest.approx(
        plain.fixed_effects_["x"], rel=1e-6
    )


def test_missing_rows_and_models_from_files(schools, nested_model):
    data, _ = schools
    gaps = data.copy()
    gaps.loc[[3, 40], "x"] = np.nan
    kept = nested_model(missing="drop").fit(gaps)
    complete = gaps.dropna()
    expected = cluster_robust(nested_model().fit(complete), complete).coefficients()
    loaded = pickle.loads(pickle.dumps(kept))
    for model in (kept, loaded):
        pd.testing.assert_frame_equal(
            cluster_robust(model, gaps, cluster=gaps["school"]).coefficients(), expected, rtol=1e-5
        )


def test_sizes_that_stand_side_by_side():
    """Clusters of 1 to 40 rows: those filled up with zeros give what they give alone."""
    rng = np.random.default_rng(5)
    sizes = np.r_[1, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 17, 25, 40]
    g = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=len(g))
    b = rng.normal(size=(2, len(sizes)))
    y = x + 2 * b[0][g] + b[1][g] * x + rng.normal(size=len(g))
    data = pd.DataFrame({"y": y, "x": x, "g": g.astype(str)})
    model = MixedLinearRegressor("y ~ x + (x | g)").fit(data)
    T = model.covariances_["g"].to_numpy()
    z = np.column_stack([np.ones_like(x), x])
    blocks = [z[g == k] @ T @ z[g == k].T for k in range(len(sizes))]
    inverse = np.linalg.inv(block_diag(*blocks) + model.sigma_**2 * np.eye(len(g)))
    scores = (inverse @ (y - z @ model.fixed_effects_.to_numpy()))[:, None] * z
    sums = np.array([scores[g == k].sum(axis=0) for k in range(len(sizes))])
    Phi = np.linalg.inv(z.T @ inverse @ z)
    expected = Phi @ sums.T @ sums @ Phi
    np.testing.assert_allclose(cluster_robust(model, data, kind="CR0").vcov, expected, rtol=1e-7)


# What has no answer


def test_crossed_factors():
    data = load_penicillin().frame
    model = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(data)
    with pytest.raises(ValueError, match=r"plate, sample are crossed.*ddf='kenward_roger'"):
        cluster_robust(model, data)
    with pytest.raises(ValueError, match="levels of 'sample' have rows in several levels of 'pla"):
        cluster_robust(model, data, cluster="plate")


def test_clusters_within_levels(schools):
    data, model = schools
    with pytest.raises(ValueError, match="levels of 'school' have rows in several levels of 'room"):
        cluster_robust(model, data, cluster="room")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "CR3"}, "kind must be one of 'CR0', 'CR1', 'CR1S', 'CR2', got 'CR3'"),
        (
            {"cluster": "scool"},
            "'scool' is no grouping factor and no column of X. Did you",
        ),
        ({"cluster": [1, 2]}, "one level for each of the"),
        ({"cluster": 0}, "needs at least two clusters, got 1"),
        ({"cluster": np.nan}, "the level is missing in"),
    ],
)
def test_clusters_that_are_none(schools, options, message):
    data, model = schools
    if np.ndim(options.get("cluster", "")) == 0 and not isinstance(options.get("cluster", ""), str):
        options = {"cluster": np.full(len(data), options["cluster"])}
    with pytest.raises(ValueError, match=re.escape(message)):
        cluster_robust(model, data, **options)


def test_more_rows_than_the_clusters_can_test(nested_data):
    data = nested_data()
    model = MixedLinearRegressor("y ~ x + kind + (1 | school) + (1 | room)").fit(data)
    half = data["school"].str[1:].astype(int) % 3
    found = cluster_robust(model, data, cluster=half)
    with pytest.raises(ValueError, match="3 clusters cannot test 3 rows of K together"):
        found.contrast(np.eye(4)[1:])


def test_rows_of_another_width_and_levels(schools):
    data, model = schools
    found = cluster_robust(model, data)
    with pytest.raises(ValueError, match=r"one coefficient for each of the 4 parameters"):
        found.contrast([1, 0])
    with pytest.raises(ValueError, match=r"\['z'\] are no parameters"):
        found.contrast({"z": 1})
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        found.coefficients(level=95)


def test_models_without_groups_need_a_cluster(nested_data):
    data = nested_data()
    model = MixedLinearRegressor("y ~ x").fit(data)
    with pytest.raises(ValueError, match="the model has no grouping factor: name the clusters"):
        cluster_robust(model, data)


def test_generalised_models():
    data = load_cbpp().frame
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    model = MixedLogisticClassifier(formula).fit(data)
    with pytest.raises(ValueError, match="is for linear models, got MixedLogisticClassifier"):
        cluster_robust(model, data)


def test_other_rows_than_those_of_the_fit():
    data = load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(data)
    with pytest.raises(ValueError, match="the fit had 180 rows, X has 170"):
        cluster_robust(model, data[10:])
