"""Posteriors, bootstraps, checks and reports of every kind of model: right, or refused in words."""

import numpy as np
import pandas as pd
import pytest

from skmixed import (
    MixedLinearRegressor,
    UnseenGroupsWarning,
)
from skmixed.inference import Prior, posterior
from skmixed.linalg.system import Effects

pytestmark = [
    pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning"),
    pytest.mark.filterwarnings("ignore::skmixed.exceptions.BootstrapWarning"),
]


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
