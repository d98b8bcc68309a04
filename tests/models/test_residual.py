"""Residual structures beside the n x n densities that they stand for."""

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.models.correlated import CorrelatedDeviance, deviance_of
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.lmm import fit_lmm

TIMES = np.array([0, 1, 2, 4, 5])
# Residual structures, each beside a formula.
CASES = {
    "ident": ("y ~ x + (1 | h) + (1 | g)", "ident(f)"),
    "ident, crossed": ("y ~ x + (x | g) + (1 | h)", "ident(f:sex)"),
    "power": ("y ~ x + (1 | g)", "power(size)"),
    "exponential": ("y ~ x", "exponential(x)"),
    "ident and power": ("y ~ x + (1 | g)", "ident(f) * power(size)"),
    "ar1": ("y ~ x + (x | g)", "ar1(t | g)"),
    "ar1, no random term": ("y ~ x", "ar1(t | g)"),
    "ar1, nested": ("y ~ x + (1 | a / g)", "ar1(t | g)"),
    "car1": ("y ~ x + (1 | a)", "car1(when | g)"),
    "ar1 and ident by group": ("y ~ x + (1 | g)", "ar1(t | g) * ident(sex)"),
    "ar1 and ident by row": ("y ~ x + (1 | g)", "ar1(t | g) * ident(f)"),
    "ar1, ident and power": ("y ~ x", "ident(sex) * ar1(t | g) * power(size)"),
    "us": ("y ~ x", "us(t | g)"),
    "us beside slopes": ("y ~ x + (0 + x | g)", "us(t | g)"),
    "us and ident": ("y ~ x", "us(t | g) * ident(sex)"),
    "us and ident by row": ("y ~ x + (1 | a)", "us(t | g) * ident(f)"),
    "cs": ("y ~ x", "cs(t | g)"),
    "homcs": ("y ~ x + (0 + x | g)", "homcs(t | g)"),
    "homcs and power": ("y ~ x", "homcs(t | g) * power(size)"),
    "toep": ("y ~ x", "toep(v | g)"),
    "hetar1": ("y ~ x + (1 | g)", "hetar1(t | g)"),
}
SETTINGS = {
    "plain": {},
    "weighted": {"prior_weights": "w"},
    "counted": {"sample_weight": "k"},
    "both": {"prior_weights": "w", "sample_weight": "k"},
}


def frame(seed=0, n_groups=40):
    """Groups of two to five rows in any order; a holds whole groups, h crosses them."""
    rng = np.random.default_rng(seed)
    rows = []
    for g in range(n_groups):
        seen = np.sort(rng.choice(5, rng.integers(2, 6), replace=False))
        rows += [(g, v) for v in seen]
    g, v = np.array(rows).T
    n = len(g)
    data = pd.DataFrame({"g": g, "v": v, "t": TIMES[v], "when": TIMES[v] / 3.0, "a": g // 8})
    data["x"] = rng.normal(size=n)
    data["size"] = rng.uniform(0.5, 20.0, n)
    data["h"] = rng.integers(0, 6, n)
    data["f"] = np.array(["p", "q", "r"])[rng.integers(0, 3, n)]
    data["sex"] = np.array(["f", "m"])[g % 2]
    data["w"] = rng.uniform(0.5, 2.0, n)
    data["k"] = (rng.permutation(n_groups) % 2 + 1)[g]
    own = rng.normal(size=n_groups)
    data["y"] = 3 + data["x"] + own[g] + rng.normal(size=6)[data["h"]] + rng.normal(size=n)
    return data.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def design_of(name, setting):
    data = frame()
    formula, residual = CASES[name]
    options = {
        key: data[v] if key == "sample_weight" else v for key, v in SETTINGS[setting].items()
    }
    return data, build_design(formula, data, residual=residual, **options)


def dense_R(data, residual, found):
    """R of rows over the engine's sigma, written out from natural parameters."""
    n = len(data)
    sd, C = np.ones(n), np.eye(n)
    single = (
        residual.count("ident(") == 1
        and not any(
            f"{kind}(" in residual.replace("homcs(", "").replace("hetar1(", "hetar(")
            for kind in ("us", "cs", "toep", "hetar")
        )
        and "homcs" not in residual
    )
    for part in residual.split(" * "):
        kind, inside = part.rstrip(")").split("(")
        columns = [c.strip() for c in inside.split("|")]
        if kind == "ident":
            labels = data[columns[0].split(":")].astype(str).agg(":".join, axis=1)
            own = [found.get(f"{'sd' if single else 'ratio'} {v}", 1.0) for v in labels]
            sd *= own
            continue
        if kind in ("power", "exponential"):
            delta, x = found[kind], data[columns[0]].to_numpy()
            sd *= x**delta if kind == "power" else np.exp(delta * x)
            continue
        place, g = data[columns[0]].to_numpy(), data[columns[1]].to_numpy()
        same, gap = g[:, None] == g, np.abs(place[:, None] - place)
        if kind in ("ar1", "hetar1"):
            own = found["rho"] ** gap
        elif kind == "car1":
            own = np.exp(-gap / found["range"])
        elif kind in ("cs", "homcs"):
            own = np.where(gap == 0, 1.0, found["rho"])
        elif kind == "toep":
            own = np.array([[found[f"rho{d}"] if d else 1.0 for d in row] for row in gap])
        else:
            own = np.array([[found.get(f"cor {max(a, b)}.{min(a, b)}", 1.0) for b in place]
                            for a in place])  # fmt: skip
        C = np.where(same, own, 0.0)
        if kind in ("us", "cs", "toep", "hetar1"):
            sd *= [found[f"sd {v}"] for v in place]
    return sd[:, None] * C * sd


def dense_value(data, design, objective, x, counted):
    """The profiled criterion from the n x n covariance, rows repeated as often as they count."""
    theta, _ = objective.split(x)
    fitted = objective.fitted_residual(x)
    found = {p.name: p.value * (fitted.reference if p.kind == "sd" else 1.0)
             for p in fitted.natural()}  # fmt: skip
    R = dense_R(data, str(design.spec.residual), found) / fitted.reference**2
    w = np.ones(len(data)) if design.weights is None else design.weights
    V = R / np.sqrt(np.outer(w, w))
    T = objective.layout.factors(theta)
    if design.random:
        layout = type(objective.layout).build(design.random, _row_weights(design))
    for g in range(len(T)):
        group = layout.groups[g]
        if counted:
            continue
        z = group.z @ T[g]
        V += (z @ z.T) * (group.codes[:, None] == group.codes)
    counts = np.ones(len(data)) if design.frequencies is None else design.frequencies
    X, y = design.X, design.y
    P, value, n = np.linalg.inv(V), 0.0, counts.sum()
    if counted:  # copies of whole groups, without random effects: each block of V counts
        root = np.sqrt(counts)
        P = P * np.outer(root, root)
        log_det = _log_det_counted(V, data["g"].to_numpy(), counts)
    else:
        log_det = np.linalg.slogdet(V)[1]
    value += log_det
    beta = np.linalg.solve(X.T @ P @ X, X.T @ P @ y)
    e = y - X @ beta
    m = n - X.shape[1] if objective.reml else n
    value += m * (1 + np.log(2 * np.pi * (e @ P @ e) / m))
    return value + (np.linalg.slogdet(X.T @ P @ X)[1] if objective.reml else 0.0)


def _row_weights(design):
    w = np.ones(len(design.X)) if design.weights is None else design.weights
    return w if design.frequencies is None else w * design.frequencies


def _log_det_counted(V, g, counts):
    total = 0.0
    for level in np.unique(g):
        rows = np.flatnonzero(g == level)
        total += counts[rows[0]] * np.linalg.slogdet(V[np.ix_(rows, rows)])[1]
    return total


def some_point(objective, seed=1):
    """Parameters where nothing is special."""
    rng = np.random.default_rng(seed)
    start = np.append(objective.layout.initial(), objective.residual.start())
    return start + 0.2 * rng.normal(size=len(start))


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("setting", ["plain", "weighted"])
@pytest.mark.parametrize("name", CASES)
def test_criterion_is_that_of_the_dense_covariance(name, setting, reml):
    data, design = design_of(name, setting)
    objective = CorrelatedDeviance.from_design(design, reml=reml)
    x = some_point(objective)
    expected = dense_value(data, design, objective, x, False)
    assert objective(x) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("setting", ["counted", "both"])
@pytest.mark.parametrize(
    "name", [n for n, (f, r) in CASES.items() if "(" not in f.split("~")[1] and "| g" in r]
)
def test_counts_are_copies_of_whole_groups(name, setting):
    data, design = design_of(name, setting)
    objective = CorrelatedDeviance.from_design(design)
    x = some_point(objective)
    expected = dense_value(data, design, objective, x, True)
    assert objective(x) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_differences(name, setting):
    _, design = design_of(name, setting)
    objective = CorrelatedDeviance.from_design(design)
    x = some_point(objective)
    steps = 1e-4 * np.eye(len(x))
    slopes = [
        (objective(x - 2 * h) - 8 * objective(x - h) + 8 * objective(x + h) - objective(x + 2 * h))
        / 12e-4
        for h in steps
    ]
    np.testing.assert_allclose(objective.evaluate(x).gradient, slopes, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_cells_that_do_not_fit_in_memory_are_assembled_anew(name, monkeypatch):
    _, design = design_of(name, "both")
    kept = CorrelatedDeviance.from_design(design)
    monkeypatch.setattr("skmixed.linalg.mixture._KEPT", 0)
    anew = CorrelatedDeviance.from_design(design)
    assert anew.mixture.grams is None
    x = some_point(kept)
    a, b = kept.evaluate(x), anew.evaluate(x)
    assert a.value == pytest.approx(b.value, rel=1e-11)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(a.hessian, b.hessian, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("chain_from", [0, 10**9])
@pytest.mark.parametrize("name", ["ar1, nested", "ident, crossed", "us beside slopes"])
def test_order_of_elimination_does_not_matter(name, chain_from, monkeypatch):
    _, design = design_of(name, "weighted")
    expected = CorrelatedDeviance.from_design(design)
    monkeypatch.setattr("skmixed.models.deviance.CHAIN_FROM", chain_from)
    found = CorrelatedDeviance.from_design(design)
    x = some_point(expected)
    a, b = expected.evaluate(x), found.evaluate(x)
    assert a.value == pytest.approx(b.value, rel=1e-10)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(a.hessian, b.hessian, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("residual", ["ident(f)", "ar1(t | g)", "power(size)", "homcs(v | g)"])
def test_independent_residuals_are_the_plain_model(residual):
    data = frame()
    formula = "y ~ x + (0 + x | g) + (1 | a)"
    objective = deviance_of(build_design(formula, data, residual=residual))
    plain = deviance_of(build_design(formula, data))
    assert type(plain) is ProfiledDeviance
    rho = np.zeros(objective.residual.n_params)
    if "homcs" in residual:
        rho[:] = np.arcsin(np.sqrt(0.8))  # rho = 0
    theta = np.array([0.7, 0.4])
    assert objective(np.append(theta, rho)) == pytest.approx(plain(theta), rel=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_fits_end_at_a_stationary_point(name):
    _, design = design_of(name, "plain")
    fit = fit_lmm(deviance_of(design))
    assert fit.optimum.converged
    assert fit.optimum.scaled_gradient < 1e-3 or fit.is_singular


def test_derivatives_of_vcov_are_those_of_differences():
    _, design = design_of("ar1 and ident by row", "weighted")
    fit = fit_lmm(deviance_of(design))
    record = fit.second_order
    objective, k = fit.objective, len(record.theta)
    x = np.append(record.theta, record.rho)
    for j in range(len(x)):
        e = 1e-5 * np.eye(len(x))[j]
        ends = [np.linalg.inv(objective.evaluate(x + s * e).factor.fixed_root) for s in (1, -1)]
        slope = (ends[0].T @ ends[0] - ends[1].T @ ends[1]) / 2e-5
        own = record.dPhi[j if j < k else j + 1]
        np.testing.assert_allclose(own, slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(record.dPhi[k], 2 * record.Phi)
