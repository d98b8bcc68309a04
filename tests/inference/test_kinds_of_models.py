"""Posteriors, bootstraps, checks and reports of every kind of model: right, or refused in words."""

import numpy as np
import pandas as pd
import pytest

from skmixed import (
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedNonlinearRegressor,
    UnseenGroupsWarning,
)
from skmixed.datasets import load_orange
from skmixed.inference import (
    Prior,
    bootstrap,
    bootstrap_test,
    check_model,
    diagnose_glmm,
    posterior,
    simulated_residuals,
    vif,
)
from skmixed.inference.added import added_columns
from skmixed.inference.refitted import Refitted, refits_of
from skmixed.linalg.system import Effects
from skmixed.models.resampling import Levels
from skmixed.plotting import ClusterDisplay, ModelCheckDisplay

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::skmixed.exceptions.BootstrapWarning"),
]


@pytest.fixture
def pictures():
    """Pictures are drawn without a screen, and closed."""
    pytest.importorskip("matplotlib").use("Agg")
    yield
    pytest.importorskip("matplotlib.pyplot").close("all")


def relationship(n, rng, *, singular=False):
    """K of n animals; of rank 2 n / 3 where a third of them are means of two others."""
    A = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.2) + np.eye(n)
    if singular:
        A[2::3] = (A[0::3] + A[1::3]) / 2
    names = [f"a{k:03d}" for k in range(n)]
    return pd.DataFrame(A @ A.T, index=names, columns=names)


def animals(n, n_rows, rng, *, singular=False, last=0, noise=1.0):
    """(data, K): rows of all but the last animals."""
    K = relationship(n, rng, singular=singular)
    code = rng.integers(n - last, size=n_rows)
    code[: n - last] = np.arange(n - last)
    values, vectors = np.linalg.eigh(K.to_numpy())
    b = (vectors * np.sqrt(np.maximum(values, 0))) @ rng.standard_normal((n, 2))
    data = pd.DataFrame({"animal": K.index.to_numpy()[code], "x": rng.standard_normal(n_rows)})
    data["v"] = rng.uniform(0, 6, n_rows)
    data["f"] = rng.choice(["p", "q"], n_rows)
    data["h"] = np.char.add("h", rng.integers(8, size=n_rows).astype(str))
    data["y"] = data["x"] + b[code, 0] + data["x"] * b[code, 1] / 2
    data["y"] += (
        noise * rng.standard_normal(n_rows)
        + np.sin(data["v"])
        + rng.standard_normal(8)[data["h"].str[1:].astype(int)]
    )
    return data, K


KINDS = {
    "related": "y ~ x + (1 | animal)",
    "singular": "y ~ x + (1 | animal)",
    "without rows": "y ~ x + (1 | animal)",
    "many": "y ~ x + (1 | animal)",
    "slopes": "y ~ x + (x | animal)",
    "beside others": "y ~ x + (1 | animal) + (1 | h)",
    "smooth": "y ~ x + s(v, k=7) + (1 | h)",
    "smooth by a factor": "y ~ x + f + s(v, by=f, k=6) + (x | h)",
    "smooth alone": "y ~ x + s(v)",
    "structured": "y ~ x + cs(0 + f | h) + (1 | animal)",
}


def fitted(kind, **settings):
    """(model, data, K or None) of a kind."""
    rng = np.random.default_rng(7)
    n = 120 if kind == "many" else 24
    last = 5 if kind == "without rows" else 0
    data, K = animals(n, 3 * n + 60, rng, singular=kind == "singular", last=last, **settings)
    related = {"animal": K} if "animal" in KINDS[kind] and kind != "structured" else None
    return MixedLinearRegressor(KINDS[kind], relationship=related).fit(data), data, K


def dense(model, data):
    """[X y] and the Z of every engine's group, mixed with the loadings of related levels."""
    new = model._new_rows(data).design
    layout = model.result_.layout
    z = []
    for g, group in enumerate(layout.groups_of(new.random)):
        Z = np.zeros((len(data), group.n_columns, group.plain.n_levels))
        Z[np.arange(len(data)), :, group.codes] = group.z
        z.append(Z @ layout.groups[g].loadings if hasattr(group, "loadings") else Z)
    return model.result_.basis.orthonormal(new.X), z


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_density_and_draws_beside_dense_matrices(kind):
    model, data, _ = fitted(kind)
    post = posterior(model, 20, random_state=0, prior=Prior(sd=("half_t", 3, 2.0)))
    density, fit = post._density, model.result_
    Q, z = dense(model, data)
    y = (data["y"].to_numpy() - Q @ density.objective.gamma) / density.objective.y_scale
    V = post._V[:3]
    values, logs = density.at(V)[0] - density.prior.log(density.chart, V), []
    shapes = [(x.shape[1], x.shape[2]) for x in z]
    size = Q.shape[1] + sum(s * n for s, n in shapes)
    for v in V[:, None]:
        sigma, T = density.chart.sigma(v)[0], [t[0] for t in density.chart.factors(v)]
        ZL = [np.einsum("nsl,st->ntl", x, t).reshape(len(y), -1) for x, t in zip(z, T, strict=True)]
        omega = sigma**2 * (np.eye(len(y)) + sum(x @ x.T for x in ZL))
        inverse = np.linalg.inv(omega)
        XV = Q.T @ inverse
        beta = np.linalg.solve(XV @ Q, XV @ y)
        rest = y - Q @ beta
        logs.append(-0.5 * (np.linalg.slogdet(omega)[1] + np.linalg.slogdet(XV @ Q)[1]
                            + rest @ inverse @ rest))  # fmt: skip
        # draws are affine in standard normal numbers: their mean and covariance are exact
        units, at = np.vstack([np.zeros(size), np.eye(size)]).T, 0
        random = []
        for s, n in shapes:
            random.append(units[at : at + s * n].reshape(s, n, -1).transpose(0, 2, 1))
            at += s * n
        found = density.draws(np.repeat(v, size + 1, axis=0), Effects(random, units[at:]))
        b = [x.transpose(1, 0, 2).reshape(size + 1, -1) for x in found.random]
        eta = found.fixed.T @ Q.T + sum(
            own @ x.reshape(len(y), -1).T for own, x in zip(b, z, strict=True)
        )
        spread = eta[1:] - eta[0]
        W, ZZ = np.hstack([Q, *ZL]), np.eye(size)
        ZZ[: Q.shape[1], : Q.shape[1]] = 0
        C = np.linalg.inv(W.T @ W + ZZ)
        np.testing.assert_allclose(eta[0], W @ C @ W.T @ y, atol=1e-6)
        np.testing.assert_allclose(spread.T @ spread, sigma**2 * W @ C @ W.T, atol=1e-6)
    np.testing.assert_allclose(values - values[0], np.array(logs) - logs[0], atol=1e-6)
    assert fit.sigma > 0


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_predictions_are_fixed_effects_curves_and_effects(kind):
    model, data, _ = fitted(kind)
    post = posterior(model, 50, random_state=0, prior=Prior(sd=("half_t", 3, 2.0)))
    fit, (Q, z) = model.result_, dense(model, data)
    [(_, b)] = post._blocks()
    parts = [fit.unit * np.einsum("skl,nsl->kn", *pair) for pair in zip(b.random, z, strict=True)]
    lines = post._coefficients @ Q.T
    np.testing.assert_allclose(post.predict(data), lines + sum(parts), atol=1e-8)
    smooth = {fit.layout.terms[t].group for t in fit.smooth_terms}
    curves = sum(parts[g] for g in smooth)
    found = post.predict(data, random_effects=False)
    np.testing.assert_allclose(found, lines + curves, atol=1e-8)
    for group, modes in model.random_effects_.items():
        assert post.effects(group).shape == (50, *modes.shape)
    if smooth:
        label = model.result_.source.random[fit.smooth_terms[0]][0]
        assert f"sd|{label}" in post.draws
        with pytest.raises(ValueError, match="smooth function, which has no levels"):
            post.effects(label)


def test_new_levels_of_related_ones_are_refused():
    model, data, _ = fitted("related")
    post = posterior(model, 20, random_state=0)
    new = data[:2].assign(animal=["new one", "new two"])
    with pytest.warns(UnseenGroupsWarning), pytest.raises(ValueError, match="random_effects=False"):
        post.predict(new)
    assert post.predict(new, random_effects=False).shape == (20, 2)
    model.set_params(unseen_groups="nan")
    assert np.isnan(post.predict(new)).all() and np.isfinite(post.predict(data[:2])).all()


def test_a_curve_of_few_splines_needs_a_prior():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"v": rng.uniform(size=30), "y": rng.standard_normal(30)})
    model = MixedLinearRegressor("y ~ s(v, k=4)").fit(data)
    prior = Prior(sd={"s(v)": ("half_t", 3, 1.0)})
    assert "sd|s(v)" in posterior(model, 50, random_state=0, prior=prior).draws
    data["w"] = data["v"] ** 2
    model = MixedLinearRegressor("y ~ w + s(v, k=4)").fit(data)
    with pytest.raises(ValueError, match=r"'sd\|s\(v\)' needs 2 .* \(a curve of 4 splines\)"):
        posterior(model, 50, random_state=0)


# Bootstrap


def refits(model, data):
    return refits_of(model, data, None, None, None, "test")


def drawn(source, k, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([source.draw(rng) for _ in range(k)])


def again(model, data, **settings):
    """A new fit of the estimator to other data."""
    return type(model)(**{**model.get_params(), **settings}).fit(data)


@pytest.mark.parametrize("kind", KINDS)
def test_refits_are_fits_of_the_estimator(kind):
    model, data, _ = fitted(kind)
    found = refits(model, data)
    [y] = drawn(found.parametric(), 1)
    own = again(model, data.assign(y=y))
    assert found.of_response(y).deviance == pytest.approx(own.deviance_, abs=1e-6)
    [refit] = found.of_responses([y])
    assert refit().deviance == pytest.approx(own.deviance_, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_responses_drawn_have_the_moments_of_simulated_ones(kind):
    """Curves stay, related levels are drawn with K, and levels without rows do no harm."""
    model, data, _ = fitted(kind)
    fit = model.result_
    own = drawn(refits(model, data).parametric(), 3000)
    Q, z = dense(model, data)
    smooth = {fit.layout.terms[t].group for t in fit.smooth_terms}
    mean, T = model.predict(data, random_effects=False), fit.layout.factors(fit.optimum.theta)
    ZL = [
        np.einsum("nsl,st->ntl", z[g], T[g]).reshape(len(Q), -1)
        for g in range(len(z)) if g not in smooth
    ]  # fmt: skip
    V = fit.sigma**2 * (np.eye(len(Q)) + sum(x @ x.T for x in ZL))
    spread = np.sqrt(np.diag(V))
    assert np.abs((own.mean(axis=0) - mean) / spread).max() < 0.09
    error = (np.cov(own.T) - V) / np.outer(spread, spread)
    assert np.abs(error).max() < 0.13


@pytest.mark.parametrize("kind", ["smooth", "smooth by a factor", "smooth alone"])
def test_curves_stay_when_residuals_or_levels_are_drawn(kind):
    model, data, _ = fitted(kind)
    found = refits(model, data)
    mean = model.predict(data, random_effects=False)
    own = drawn(found.residuals(), 2000)
    spread = own.std(axis=0)
    assert np.abs((own.mean(axis=0) - mean) / spread).max() < 0.12
    boot = bootstrap(model, data, n=12, kind="cases", random_state=0)
    assert boot.n_failed == 0
    for source in ("parametric", "cases"):  # all that a statistic may ask of a refit
        boot = bootstrap(
            model, data, n=3, kind=source, random_state=0,
            statistic=lambda m: np.append(m.predict(data[:3], random_effects=False), m.r2()),
        )  # fmt: skip
        assert boot.n_failed == 0


def test_shares_of_refits_are_of_their_own_curves():
    model, data, _ = fitted("smooth")
    found = refits(model, data)
    [y] = drawn(found.parametric(), 1)
    own = again(model, data.assign(y=y))
    refit = Refitted.like(model, found.design)(found.of_response(y))
    np.testing.assert_allclose(refit.r2(), own.r2(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["related", "slopes", "beside others"])
def test_related_levels_are_drawn_by_the_model_alone(kind):
    model, data, _ = fitted(kind)
    with pytest.raises(ValueError, match=r"'animal' are related: use kind='parametric'"):
        bootstrap(model, data, kind="residual")
    for by in (None, "animal"):
        with pytest.raises(ValueError, match="'animal' are related to each other"):
            bootstrap(model, data, kind="cases", by=by)
    assert bootstrap(model, data, n=4, kind="cases", by="h", random_state=0).n_failed == 0


# Residual structures

RESIDUALS = {
    "us": ("y ~ x", "us(t | g)"),
    "ar1 beside a level": ("y ~ x + (1 | g)", "ar1(t | g)"),
    "ident": ("y ~ x + (1 | g)", "ident(f)"),
    "power": ("y ~ x", "power(w)"),
    "cs of outer levels": ("y ~ x + (1 | h)", "cs(t | g)"),
    "two": ("y ~ x", "homcs(t | g) * ident(f)"),
}


def repeated(n_groups=30, n_times=4):
    rng = np.random.default_rng(3)
    lag = np.abs(np.subtract.outer(np.arange(n_times), np.arange(n_times)))
    e = rng.standard_normal((n_groups, n_times)) @ np.linalg.cholesky(0.7**lag).T
    g = np.repeat(np.arange(n_groups), n_times)
    data = pd.DataFrame({"g": g, "t": np.tile(np.arange(n_times), n_groups)})
    data["x"], data["w"] = rng.standard_normal(len(g)), rng.uniform(1, 3, len(g))
    data["f"], data["h"] = np.where(g % 2, "p", "q"), g // 3
    b = rng.standard_normal(n_groups)[g] + rng.standard_normal(n_groups)[data["h"]]
    data["y"] = data["x"] + b + e.ravel() * data["w"] / 2
    return data.sample(frac=0.9, random_state=1).reset_index(drop=True)


def structured(kind, **settings):
    """(model, data, covariance of the residuals)."""
    data = repeated()
    formula, residual = RESIDUALS[kind]
    model = MixedLinearRegressor(formula, residual=residual, **settings).fit(data)
    return model, data, model.residual_covariance_(data).to_numpy()


@pytest.mark.parametrize("kind", RESIDUALS)
def test_residuals_are_drawn_with_their_structure(kind):
    model, data, R = structured(kind)
    found = refits(model, data)
    for conditional in (True, False):
        own = drawn(found.parametric(conditional=conditional), 3000)
        mean = model.predict(data, random_effects=conditional)
        V = R.copy()
        if not conditional:
            for group, C in model.covariances_.items():
                same = np.equal.outer(data[group].to_numpy(), data[group].to_numpy())
                V += C.to_numpy()[0, 0] * same
        spread = np.sqrt(np.diag(V))
        assert np.abs((own.mean(axis=0) - mean) / spread).max() < 0.08
        assert np.abs((np.cov(own.T) - V) / np.outer(spread, spread)).max() < 0.12
    y = own[0]
    again_ = again(model, data.assign(y=y))
    assert found.of_response(y).deviance == pytest.approx(again_.deviance_, abs=1e-5)
    boot = bootstrap(model, data, n=3, random_state=0)
    assert boot.n_failed == 0 and list(boot.draws) == list(model.confint().index)
    np.testing.assert_allclose(
        boot.summary(level=0.5)["estimate"], model.confint()["estimate"], rtol=1e-6
    )


@pytest.mark.parametrize("kind", RESIDUALS)
def test_levels_are_drawn_with_the_groups_of_their_residuals(kind):
    """A refit to levels drawn is the fit of the estimator to these, copies being new levels."""
    model, data, _ = structured(kind)
    found = refits(model, data)
    by = "h" if kind == "cs of outer levels" else "g"
    codes = data[by].to_numpy()
    levels = pd.factorize(codes, sort=True)[0]
    from_ = Levels.of(found.design, levels, levels.max() + 1)
    rows, random, copies = from_.draw(np.random.default_rng(5))
    frame = data.iloc[rows].reset_index(drop=True)
    for name in ("g", "h"):
        frame[name] = frame[name] * 1000 + copies
    own = again(model, frame)
    refit = found.of_rows(rows, random, copies)
    assert refit.deviance == pytest.approx(own.deviance_, abs=1e-5)
    boot = bootstrap(model, data, n=6, kind="cases", random_state=0)
    assert boot.n_failed == 0
    assert boot.confint(method="bca", level=0.3).notna().any().all()


@pytest.mark.parametrize("kind", ["us", "ident"])
def test_groups_that_count_twice_are_two_groups(kind):
    data = repeated()
    weight = np.where(data["g"] < 10, 2.0, 1.0)
    formula, residual = RESIDUALS[kind]
    model = MixedLinearRegressor(formula, residual=residual).fit(data, sample_weight=weight)
    found = refits_of(model, data, None, None, weight, "test")
    assert len(found.design.X) == weight.sum()
    assert found.objective(model.result_.optimum.theta) == pytest.approx(model.deviance_, abs=1e-6)


def test_what_residual_structures_do_not_have():
    model, data, _ = structured("us")
    with pytest.raises(ValueError, match=r"residual structure us\(t | g\): use kind='parametric'"):
        bootstrap(model, data, kind="residual")
    with pytest.raises(ValueError, match=r"us\(t | g\) correlates them"):
        bootstrap(model, data, kind="cases", within=True)
    with pytest.raises(ValueError, match="parts of groups whose rows"):
        bootstrap(model, data, kind="cases", by="t")
    with pytest.raises(ValueError, match=r"residuals that are independent.*bootstrap"):
        posterior(MixedLinearRegressor("y ~ x + (1 | g)", residual="ar1(t | g)").fit(data))


def test_likelihood_ratios_of_residual_structures_are_drawn():
    large, data, _ = structured("ar1 beside a level")
    small = MixedLinearRegressor("y ~ x + (1 | g)").fit(data)
    test = bootstrap_test(small, large, data, n=19, random_state=0)
    assert test.n_failed == 0 and test.df == 1 and test.draws.min() >= 0
    assert test.p_value == (1 + (test.draws >= test.statistic).sum()) / 20


@pytest.mark.parametrize("kind", RESIDUALS)
def test_conditional_draws_follow_the_residual_structure(kind):
    model, data, R = structured(kind)
    found = simulated_residuals(model, data, None, 3000, random_state=0, conditional=True)
    spread = np.sqrt(np.diag(R))
    mean = model.predict(data)
    assert np.abs((found.fitted - mean) / spread).max() < 0.08
    error = (np.cov(found.simulated) - R) / np.outer(spread, spread)
    assert np.abs(error).max() < 0.12
    assert found.independent == (kind in ("ident", "power"))
    with pytest.raises(ValueError, match="these are other rows"):
        simulated_residuals(model, data.assign(y=data["y"][::-1].to_numpy()))


@pytest.mark.parametrize("kind", RESIDUALS)
def test_checks_beside_a_residual_structure(kind, pictures):
    model, data, _ = structured(kind)
    check = check_model(model, data, random_state=0)
    own = model.residuals(data, kind="normalized")
    np.testing.assert_allclose(check.rows["residual"], own)
    verdicts = check.table["verdict"]
    assert verdicts["link and curvature"] == verdicts["influence (row)"] == "not checked"
    assert verdicts["normal residuals"] != "not checked"
    assert "residuals that are independent" in check.table.loc["link and curvature", "looked_at"]
    assert "fit again" in check.advice["influence (row)"]
    display = ModelCheckDisplay.from_estimator(model, data, random_state=0)
    labels = [ax.get_ylabel() for ax in display.axes_.ravel()]
    assert "normalized residual" in labels and not any("Cook" in label for label in labels)


# Checks


@pytest.mark.parametrize("kind", KINDS)
def test_checks_count_curves_as_fixed_and_related_levels_apart(kind, pictures):
    model, data, _ = fitted(kind)
    check = check_model(model, data, random_state=0)
    assert "not checked" not in set(check.table["verdict"])
    independent = {g for g in model.random_effects_ if g != "animal" or not model.relationship}
    assert set(check.shrinkage) == independent
    assert {name.split(" | ")[1] for name in check.effects} == independent
    assert ("singularity" in check.table.index) == bool(model.random_effects_)
    assert check.residuals.independent == (not model.random_effects_)
    ModelCheckDisplay.from_estimator(model, data, random_state=0)


@pytest.mark.parametrize("kind", ["slopes", "beside others", "many", "smooth"])
def test_score_tests_beside_dense_matrices(kind):
    model, data, _ = fitted(kind)
    observed = model._observe(data)
    fit, (Q, z) = model.result_, dense(model, data)
    T = fit.layout.factors(fit.optimum.theta)
    ZL = [np.einsum("nsl,st->ntl", *pair).reshape(len(Q), -1) for pair in zip(z, T, strict=True)]
    inverse = np.linalg.inv(fit.sigma**2 * (np.eye(len(Q)) + sum(x @ x.T for x in ZL)))
    P = inverse - inverse @ Q @ np.linalg.solve(Q.T @ inverse @ Q, Q.T @ inverse)
    column = (data["x"].to_numpy() - data["x"].mean()) ** 2
    z2 = (column @ P @ data["y"]) ** 2 / (column @ P @ column)
    df = len(Q) - Q.shape[1]
    found = added_columns(observed, {"square": column})
    assert found["statistic"].iloc[0] ** 2 == pytest.approx(z2 * (df - 1) / (df - z2), rel=1e-6)


@pytest.mark.parametrize("kind", ["related", "slopes", "smooth"])
def test_influence_of_levels_beside_dense_matrices(kind):
    model, data, _ = fitted(kind)
    group = "h" if kind == "smooth" else "animal"
    found = check_model(model, data, random_state=0).influence
    fit, (Q, z) = model.result_, dense(model, data)
    T, y = fit.layout.factors(fit.optimum.theta), data["y"].to_numpy()
    ZL = [np.einsum("nsl,st->ntl", *pair).reshape(len(Q), -1) for pair in zip(z, T, strict=True)]
    V = fit.sigma**2 * (np.eye(len(Q)) + sum(x @ x.T for x in ZL))

    def solved(rows):
        weighted = np.linalg.solve(V[np.ix_(rows, rows)], Q[rows]).T
        return weighted @ Q[rows], np.linalg.solve(weighted @ Q[rows], weighted @ y[rows])

    whole, beta = solved(np.arange(len(y)))
    for level in found.index[:4]:
        change = beta - solved(np.flatnonzero(data[group] != level))[1]
        assert found[level] == pytest.approx(change @ whole @ change / len(beta), rel=1e-5)


def test_fields_have_no_levels_to_check():
    rng = np.random.default_rng(0)
    at = rng.uniform(size=(80, 2))
    gaps = np.linalg.norm(at[:, None] - at, axis=2)
    field = np.linalg.cholesky(np.exp(-gaps / 0.3) + 1e-9 * np.eye(80)) @ rng.standard_normal(80)
    data = pd.DataFrame({"u": at[:, 0], "v": at[:, 1], "g": rng.integers(8, size=80)})
    data["y"] = 2 * field + rng.standard_normal(8)[data["g"]] + 0.5 * rng.standard_normal(80)
    model = MixedLinearRegressor("y ~ 1 + expo(u + v) + (1 | g)").fit(data)
    check = check_model(model, data, random_state=0)
    assert set(check.shrinkage) == {"g"} and set(check.effects) == {"Intercept | g"}
    np.testing.assert_array_equal(check.clusters, data["g"])
    boot = bootstrap(model, data, n=3, random_state=0)
    assert boot.n_failed == 0 and "range|u + v" in boot.draws
    for settings, match in (({"kind": "residual"}, "has 1 for 80"), ({"kind": "cases"}, "related")):
        with pytest.raises(ValueError, match=match):
            bootstrap(model, data, **settings)
    assert bootstrap(model, data, n=3, kind="cases", by="g", random_state=0).n_failed == 0
    with pytest.raises(ValueError, match=r"has a range.*bootstrap"):
        posterior(model)


def test_the_line_of_a_curve_needs_no_square():
    model, data, _ = fitted("smooth")
    check = check_model(model, data, random_state=0)
    assert "the worst of 1: x" in check.table.loc["curvature", "looked_at"]


# Generalised models


def counts(kind, **settings):
    model, data, _ = fitted(kind)
    rng = np.random.default_rng(1)
    data["y"] = rng.poisson(np.exp(0.3 * data["y"].clip(-4, 6)))
    settings = {"family": "poisson", "relationship": model.relationship, **settings}
    return MixedGLMRegressor(KINDS[kind], **settings).fit(data), data


@pytest.mark.parametrize("prior", [None, "normal", "t"])
@pytest.mark.parametrize("kind", ["slopes", "smooth", "structured"])
def test_generalised_refits_and_checks(kind, prior):
    model, data = counts(kind, prior=prior)
    found = refits(model, data)
    [y] = drawn(found.parametric(), 1)
    own = again(model, data.assign(y=y))
    refit = found.of_response(y)
    assert refit.deviance == pytest.approx(own.deviance_, abs=1e-5)
    own_coef = own.fixed_effects_.to_numpy()
    np.testing.assert_allclose(refit.beta, own_coef, atol=1e-4)
    check = check_model(model, data, random_state=0)
    assert set(check.shrinkage) == set(model.random_effects_) - {
        "animal" if model.relationship else ""
    }


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_refits_keep_the_prior_and_its_units(family):
    """Scales in units of the response follow the response, as the estimator's do."""
    data = repeated()
    data["y"] = 5 + data["y"] if family == "gaussian" else data["t"] + data["g"] % 3
    prior = {"kind": "normal", "scale": 0.2, "intercept_scale": 0.5}
    model = MixedGLMRegressor("y ~ x + (1 | g)", family=family, prior=prior).fit(data)
    found = refits(model, data)
    [y] = drawn(found.parametric(), 1)
    own = again(model, data.assign(y=y))
    refit = found.of_response(y)
    np.testing.assert_allclose(refit.prior.scale, own.result_.prior.scale, rtol=1e-9)
    np.testing.assert_allclose(refit.beta, own.result_.beta, atol=1e-4)
    rows = np.arange(len(data))
    whole = found.of_rows(rows, found.design.random, np.zeros(len(rows), dtype=int))
    np.testing.assert_allclose(whole.beta, model.result_.beta, atol=1e-4)


@pytest.mark.parametrize("kind", ["slopes", "beside others", "smooth", "smooth alone"])
def test_reports_on_generalised_models(kind, pictures):
    model, data = counts(kind)
    report = diagnose_glmm(model, data, n_subsets=2)
    groups = set(model.random_effects_)
    assert set(report.shares.index) == groups
    assert set(report.clusters.index) == groups - {"animal"}
    reasons = set(report.failures["reason"])
    smooth = any("smooth functions" in reason for reason in reasons)
    assert smooth == (kind == "smooth")
    assert any("related" in reason for reason in reasons) == ("animal" in groups)
    assert str(report) and report._repr_html_()
    if not groups:
        with pytest.raises(ValueError, match="no clusters to plot"):
            ClusterDisplay.from_estimator(model, data)
        return
    display = ClusterDisplay.from_estimator(model, data, max_panels=4)
    assert display.group in groups and len(display.axes_) == 4


# Nonlinear models


def test_nonlinear_models_are_told_where_to_go():
    trees = load_orange().frame
    model = MixedNonlinearRegressor(
        "circumference ~ Asym / (1 + exp(-(age - xmid) / scal)) ~ (Asym | Tree)",
        start={"Asym": 200, "xmid": 700, "scal": 350},
    ).fit(trees)
    doors = [
        (posterior, (), "confint has intervals"),
        (bootstrap, (trees,), "draw responses with its simulate"),
        (simulated_residuals, (trees,), "SimulatedResiduals.of"),
        (check_model, (trees,), "SimulatedResiduals.of"),
        (ModelCheckDisplay.from_estimator, (trees,), "SimulatedResiduals.of"),
        (vif, (), "vcov_ has the correlations"),
        (diagnose_glmm, (trees,), "takes a MixedLogisticClassifier"),
    ]
    for function, arguments, match in doors:
        with pytest.raises(TypeError, match=match):
            function(model, *arguments)
    with pytest.raises(TypeError, match="draw responses with its simulate"):
        model.confint(method="bootstrap", X=trees)
