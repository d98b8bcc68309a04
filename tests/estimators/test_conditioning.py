"""condition(X, y): further rows taken in at the theta of the fit, against dense equations."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skmixed import (
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
)


def _frame(n, seed=0, first=0, n_levels=(12, 7)):
    """Rows with two crossed factors, one nested in the first, a slope, weights and an offset."""
    rng = np.random.default_rng(seed)
    a = rng.integers(first, first + n_levels[0], n)
    b = rng.integers(0, n_levels[1], n)
    c = 3 * a + rng.integers(0, 3, n)
    x, t = rng.normal(5.0, 2.0, n), rng.integers(0, 4, n)
    effect = np.random.default_rng(1).normal(size=(4, 600))
    y = 2.0 + 0.5 * x + effect[0, a] + 0.4 * x * effect[1, a] + effect[2, b] + 0.6 * effect[3, c]
    return pd.DataFrame(
        {
            "y": y + rng.normal(size=n),
            "x": x,
            "t": t,
            "f": np.array(["u", "v", "w"])[rng.integers(0, 3, n)],
            "a": [f"a{k:03d}" for k in a],
            "b": b,
            "c": [f"c{k:04d}" for k in c],
            "w": rng.uniform(0.5, 2.0, n),
            "o": rng.normal(size=n),
        }
    )


def _dense(model, frame):
    """y less offset, X, Z, the covariance G of all random effects and weights of rows."""
    design = model.design_spec_.new(frame)
    fit, n = model.result_, len(frame)
    Z, G = [], []
    for term, covariance in zip(design.random, fit.covariances, strict=True):
        own = np.zeros((n, term.n_levels, len(covariance)))
        own[np.arange(n), term.codes] = term.z
        Z.append(own.reshape(n, -1))
        G.append(np.kron(np.eye(term.n_levels), covariance))
    whole = np.zeros((sum(map(len, G)),) * 2)
    at = 0
    for own in G:
        whole[at : at + len(own), at : at + len(own)] = own
        at += len(own)
    y = frame["y"].to_numpy() - (0 if design.offset is None else design.offset)
    w = np.ones(n) if model.prior_weights is None else frame[model.prior_weights].to_numpy()
    return y, design.X[:, fit.basis.kept], np.hstack(Z), whole, w


def _oracle(model, frame, fixed):
    """Fixed effects, modes, their standard deviations: dense equations at the theta of a fit."""
    y, X, Z, G, w = _dense(model, frame)
    V = Z @ G @ Z.T + np.diag(model.sigma_**2 / w)
    Vi = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ y) if fixed is None else fixed
    b = G @ Z.T @ Vi @ (y - X @ beta)
    C = G - G @ Z.T @ Vi @ Z @ G
    return beta, b, C, Vi


def _flat(model, tables):
    """Random effects or their deviations, in the order of the terms, level by level."""
    parts, used = [], {}
    for term in model.labels_.terms:
        start = used.get(term.group, 0)
        used[term.group] = start + len(term.names)
        table = tables[term.group].to_numpy()
        parts.append(table[:, start : used[term.group]].ravel())
    return np.concatenate(parts)


MODELS = [
    ("y ~ x + (1 | a)", {}),
    ("y ~ 0 + (1 | a) + (1 | b)", {}),
    ("y ~ x + f + (x | a)", {}),
    ("y ~ x + (x || a)", {}),
    ("y ~ x + (1 | a) + (1 | b)", {}),
    ("y ~ x + (x | a) + (1 + f | b)", {}),
    ("y ~ x + (1 | a / c)", {}),
    ("y ~ x + (1 | a / c) + (1 | b)", {}),
    ("y ~ x + offset(o) + (x | a) + (1 | b)", {"prior_weights": "w", "reml": False}),
    ("y ~ x + (1 | a:b)", {}),
    ("y ~ x + cs(0 + f | a)", {}),
    ("y ~ x + ar1(0 + C(t) | a)", {}),
]


@pytest.mark.filterwarnings("ignore::skmixed.SingularFitWarning")
@pytest.mark.parametrize("large", [False, True], ids=["small", "chain"])
@pytest.mark.parametrize(("formula", "settings"), MODELS, ids=[m[0] for m in MODELS])
def test_conditioned_models_solve_the_equations_of_all_rows(formula, settings, large):
    sizes = (70, 30) if large else (12, 7)
    frame = _frame(600 if large else 300, n_levels=sizes)
    further = _frame(40, seed=5, first=sizes[0] - 4, n_levels=(9, sizes[1] + 2))
    model = MixedLinearRegressor(formula, **settings).fit(frame)
    both = pd.concat([frame, further], ignore_index=True)
    for update in (False, True):
        found = model.condition(further, update_fixed=update)
        fixed = None if update else model.result_.beta
        beta, b, C, Vi = _oracle(found, both, fixed)
        np.testing.assert_allclose(found.result_.beta, beta, rtol=1e-9)
        np.testing.assert_allclose(_flat(found, found.random_effects_), b, rtol=0, atol=1e-10)
        std = np.sqrt(np.maximum(C.diagonal(), 0))
        np.testing.assert_allclose(_flat(found, found.random_effects_std_), std, atol=1e-8)
        # the variance of a prediction: of b given beta, and of beta from the rows that told it
        _, X, Z, G, _w = _dense(found, both)
        if not update:
            _, X0, Z0, _, w0 = _dense(found, frame)
            V0 = Z0 @ G @ Z0.T + np.diag(model.sigma_**2 / w0)
            Phi = np.linalg.inv(X0.T @ np.linalg.solve(V0, X0))
        else:
            Phi = np.linalg.inv(X.T @ Vi @ X)
        left = X - Z @ G @ Z.T @ Vi @ X
        variance = np.einsum("ni,ij,nj->n", left, Phi, left)
        variance += np.einsum("ni,ij,nj->n", Z, C, Z)
        mean, se = found.predict(both, return_std=True)
        np.testing.assert_allclose(se, np.sqrt(variance), rtol=1e-8)
        offset = both["o"].to_numpy() if "offset" in formula else 0.0
        np.testing.assert_allclose(mean, X @ beta + Z @ b + offset, rtol=1e-9)
        np.testing.assert_allclose(found.vcov_, Phi, rtol=1e-8)


def test_conditioning_accumulates_and_leaves_the_model_as_it_is():
    frame, more = _frame(300), _frame(40, seed=5, first=9)
    model = MixedLinearRegressor("y ~ x + (x | a) + (1 | b)").fit(frame)
    before = {name: table.copy() for name, table in model.random_effects_.items()}
    at_once = model.condition(more, update_fixed=True)
    for first in (False, True):  # fixed effects that waited catch up
        steps = model.condition(more[:10], update_fixed=first).condition(more[10:25])
        steps = steps.condition(more[25:], update_fixed=True)
        for name, table in at_once.random_effects_.items():
            other = steps.random_effects_[name].loc[table.index]
            np.testing.assert_allclose(other, table, rtol=0, atol=1e-10)
        np.testing.assert_allclose(steps.fixed_effects_, at_once.fixed_effects_, rtol=1e-10)
        np.testing.assert_allclose(steps.vcov_, at_once.vcov_, rtol=1e-9)
    assert at_once.n_conditioned_ == steps.n_conditioned_ == 40
    assert not hasattr(model, "n_conditioned_")
    for name, table in before.items():
        pd.testing.assert_frame_equal(model.random_effects_[name], table)
    assert at_once.deviance_ == model.deviance_ and at_once.n_obs_ == 300
    np.testing.assert_allclose(at_once.theta_, model.theta_)


def test_history_is_conditioning_for_one_call():
    frame, more = _frame(300), _frame(20, seed=5, first=9)
    model = MixedLinearRegressor("x + (1 | a)").fit(frame, frame["y"])
    found = model.predict(more, history=(more[:8], more["y"][:8]), return_std=True)
    own = model.condition(more[:8], more["y"][:8]).predict(more, return_std=True)
    np.testing.assert_allclose(found, own)
    assert np.abs(found[0] - model.predict(more)).max() > 0.1
    with pytest.raises(ValueError, match=r"history must be a tuple \(X, y\)"):
        model.predict(more, history=more)


def test_levels_of_groups_given_at_fit():
    frame, more = _frame(200), _frame(20, seed=5, first=9)
    X = ["x"]
    model = MixedLinearRegressor().fit(frame[X], frame["y"], groups=frame["a"])
    found = model.condition(more[X], more["y"], groups=more["a"])
    named = MixedLinearRegressor("y ~ x + (1 | a)").fit(frame).condition(more)
    np.testing.assert_allclose(
        found.random_effects_["groups"], named.random_effects_["a"], rtol=1e-6
    )
    by_call = model.predict(more[X], groups=more["a"], history=(more[X], more["y"], more["a"]))
    np.testing.assert_allclose(by_call, found.predict(more[X], groups=more["a"]))


@pytest.mark.parametrize("kind", ["category", "int", "backticks"])
def test_levels_of_other_types(kind):
    frame, more = _frame(200), _frame(20, seed=5, first=9)
    formula = "y ~ x + (1 | a)"
    if kind == "category":
        frame["a"], more["a"] = frame["a"].astype("category"), more["a"].astype("category")
    elif kind == "int":
        frame["a"] = frame["a"].str[1:].astype(int)
        more["a"] = more["a"].str[1:].astype(float)
    else:
        frame, more = frame.rename(columns={"a": "a b"}), more.rename(columns={"a": "a b"})
        formula = "y ~ x + (1 | `a b`)"
    found = MixedLinearRegressor(formula).fit(frame).condition(more)
    expected = MixedLinearRegressor("y ~ x + (1 | a)").fit(_frame(200))
    expected = expected.condition(_frame(20, seed=5, first=9))
    [table] = found.random_effects_.values()
    np.testing.assert_allclose(table, expected.random_effects_["a"], rtol=1e-8)
    assert table.index.is_unique


def test_rows_with_missing_values_are_left_out():
    frame, more = _frame(200), _frame(20, seed=5, first=9)
    whole = MixedLinearRegressor("y ~ x + (1 | a)", missing="drop").fit(frame)
    more = more.sort_values("a", ignore_index=True)
    first = more["a"] == more["a"][0]
    last = more["a"] == more["a"].iloc[-1]
    gaps = more.copy()
    gaps.loc[last, "y"] = np.nan
    gaps.loc[5, "x"] = np.nan
    gaps.loc[first, "a"] = None
    complete = gaps.dropna(subset=["y", "x", "a"])
    found = whole.condition(gaps)
    pd.testing.assert_frame_equal(
        found.random_effects_["a"], whole.condition(complete).random_effects_["a"]
    )
    assert found.n_conditioned_ == len(complete)
    assert more["a"].iloc[-1] not in found.random_effects_["a"].index
    with pytest.raises(ValueError, match="missing"):
        clone(whole).set_params(missing="raise").fit(frame).condition(gaps)


def test_no_rows_change_nothing():
    frame = _frame(100)
    model = MixedLinearRegressor("y ~ x + (1 | a)").fit(frame)
    found = model.condition(frame[:0])
    np.testing.assert_allclose(found.random_effects_["a"], model.random_effects_["a"])
    np.testing.assert_allclose(found.predict(frame), model.predict(frame))


def test_sample_weights_count_rows():
    frame, more = _frame(200), _frame(20, seed=5, first=9)
    model = MixedLinearRegressor("y ~ x + (1 | a)").fit(frame)
    counts = np.arange(20) % 3
    found = model.condition(more, sample_weight=counts)
    repeated = model.condition(more.loc[np.repeat(more.index, counts)])
    a = repeated.random_effects_["a"]
    np.testing.assert_allclose(found.random_effects_["a"].loc[a.index], a, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_sample_weights_are_counts(bad):
    model = MixedLinearRegressor("y ~ x + (1 | a)").fit(_frame(200))
    more = _frame(4, seed=5, first=9)
    with pytest.raises(ValueError, match="sample_weight must be finite and not negative"):
        model.condition(more, sample_weight=[1.0, bad, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"sample_weight has shape \(2,\), the data have 4 rows"):
        model.condition(more, sample_weight=[1.0, 1.0])


def test_a_missing_prior_weight_is_told_as_such():
    frame = _frame(200).assign(w=1.0)
    model = MixedLinearRegressor("y ~ x + (1 | a)", prior_weights="w").fit(frame)
    more = _frame(4, seed=5, first=9).assign(w=[1.0, np.nan, 1.0, 1.0])
    with pytest.raises(ValueError, match="the prior weight is missing in 1 row"):
        model.condition(more)


def test_pickled_models_take_in_new_levels_and_refuse_known_ones():
    frame, more = _frame(900, n_levels=(60, 7)), _frame(20, seed=5, first=70)
    model = MixedLinearRegressor("y ~ x + (x | a) + (1 | c)").fit(frame)  # c is nested in a
    loaded = pickle.loads(pickle.dumps(model))
    found, expected = loaded.condition(more), model.condition(more)
    np.testing.assert_allclose(found.random_effects_["a"], expected.random_effects_["a"], rtol=1e-9)
    np.testing.assert_allclose(found.predict(more), expected.predict(more), rtol=1e-9)
    again = loaded.condition(more[:5]).condition(_frame(5, seed=9, first=90))
    assert len(again.random_effects_["a"]) > len(loaded.random_effects_["a"])
    mixed = frame[:10].assign(c=more["c"][:10].to_numpy())  # an old level beside a new one
    unseen = _frame(10, seed=7, first=150)
    both = pd.concat([frame, more, mixed, unseen], ignore_index=True)
    std = [m.predict(both, return_std=True)[1] for m in (found, expected)]
    np.testing.assert_allclose(*std, rtol=1e-8)  # and for levels of neither
    for group, table in expected.random_effects_std_.items():
        own = found.random_effects_std_[group].loc[table.index]
        np.testing.assert_allclose(own, table, rtol=1e-7)
    steps = loaded.condition(more[more["a"] < "a074"])
    steps = pickle.loads(pickle.dumps(steps)).condition(more[more["a"] >= "a074"])
    std = [m.predict(both, return_std=True)[1] for m in (steps, expected)]
    np.testing.assert_allclose(*std, rtol=1e-8)
    with pytest.raises(ValueError, match="levels that the rows of the fit tell as well"):
        loaded.condition(frame[:5])
    with pytest.raises(ValueError, match="fixed effects, which the rows of the fit tell as well"):
        loaded.condition(more, update_fixed=True)
    with pytest.raises(ValueError, match="levels that the rows of the fit tell as well"):
        loaded.condition(more[:5]).condition(more[5:])


def test_a_conditioned_model_survives_pickling_and_takes_in_more():
    frame, more = _frame(300), _frame(20, seed=5, first=9)
    model = MixedLinearRegressor("y ~ x + (x | a) + (1 | b)").fit(frame).condition(more[:10])
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(
        loaded.predict(more, return_std=True), model.predict(more, return_std=True), rtol=1e-9
    )
    found, expected = loaded.condition(more[10:]), model.condition(more[10:])
    np.testing.assert_allclose(found.predict(more), expected.predict(more), rtol=1e-9)
    assert "further rows" in str(found.summary())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"formula": "y ~ x"}, "no random effects"),
        ({"formula": "y ~ x + (1 | a)", "residual": "ident(f)"}, "residuals have a structure"),
        ({"formula": "y ~ x + (1 | a) + (1 | b)", "solver": "iterative"}, "solver='direct'"),
    ],
)
def test_models_that_take_in_no_rows_say_why(settings, message):
    frame = _frame(200)
    model = MixedLinearRegressor(**settings).fit(frame)
    with pytest.raises(ValueError, match=message):
        model.condition(frame[:5])


def test_curves_take_in_no_rows():
    rng = np.random.default_rng(0)
    t = np.tile(np.arange(1.0, 7.0), 10)
    g = np.repeat(np.arange(10), 6)
    y = (5 + rng.normal(size=10)[g]) * np.exp(-0.3 * t) + 0.05 * rng.normal(size=60)
    data = pd.DataFrame({"y": y, "t": t, "g": g})
    curve = MixedNonlinearRegressor(
        "y ~ A * exp(-k * t) ~ (A | g)", start={"A": 5.0, "k": 0.3}
    ).fit(data)
    for ask in (lambda: curve.condition(data[:3]), lambda: curve.predict(data, history=(data,))):
        with pytest.raises(ValueError, match="modes of a nonlinear model"):
            ask()


def _counts(n, seed, first=0):
    """Counts and 0/1 outcomes with two crossed factors."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(first, first + 15, n), rng.integers(0, 6, n)
    x = rng.normal(size=n)
    effect = np.random.default_rng(2).normal(size=(3, 60))
    eta = 0.4 + 0.5 * x + 0.7 * effect[0, a] + 0.3 * x * effect[1, a] + 0.5 * effect[2, b]
    return pd.DataFrame(
        {
            "k": rng.poisson(np.exp(eta)),
            "z": np.where(rng.uniform(size=n) < 1 / (1 + np.exp(-eta)), "yes", "no"),
            "p": (1 + rng.gamma(3.0, np.exp(eta) / 3.0)),
            "x": x,
            "a": a,
            "b": b,
        }
    )


GENERALISED = [
    (MixedGLMRegressor("k ~ x + (x | a) + (1 | b)"), "k"),
    (MixedGLMRegressor("k ~ 0 + (1 | a)"), "k"),
    (MixedGLMRegressor("k ~ x + (x | a) + (1 | b)", "negative_binomial"), "k"),
    (MixedGLMRegressor("p ~ x + (1 | a) + (1 | b)", "gamma", "log"), "p"),
    (MixedLogisticClassifier("z ~ x + (1 | a) + (1 | b)"), "z"),
    (MixedLogisticClassifier("z ~ x + (1 | a) + (1 | b)", link="probit", n_agq=0), "z"),
    (MixedLogisticClassifier("z ~ x + (1 | a)", n_agq=7), "z"),
]


def _generalised_parts(model, frame, response):
    """y, Q, Z by level blocks and the precision of all random effects."""
    design, fit = model.design_spec_.new(frame), model.result_
    y = frame[response].to_numpy()
    y = (y == "yes").astype(float) if response == "z" else y.astype(float)
    Z, P = [], []
    for term, covariance in zip(design.random, fit.covariances, strict=True):
        own = np.zeros((len(frame), term.n_levels, len(covariance)))
        own[np.arange(len(frame)), term.codes] = term.z
        Z.append(own.reshape(len(frame), -1))
        P += [np.linalg.inv(covariance)] * term.n_levels
    size = sum(map(len, P))
    precision, at = np.zeros((size, size)), 0
    for own in P:
        precision[at : at + len(own), at : at + len(own)] = own
        at += len(own)
    return y, fit.basis.orthonormal(design.X), np.hstack(Z), precision


@pytest.mark.filterwarnings("ignore::skmixed.SingularFitWarning")
@pytest.mark.parametrize("update", [False, True])
@pytest.mark.parametrize(("model", "response"), GENERALISED, ids=lambda m: str(m)[:60])
def test_conditioned_generalised_models_are_at_the_mode(model, response, update):
    """The gradient of further rows, the prior and the fit's quadratic form vanishes."""
    frame, more = _counts(300, 0), _counts(50, 1, first=10)
    model = clone(model).fit(frame)
    found = model.condition(more, update_fixed=update)
    fit = found.result_
    y, Q, Z, precision = _generalised_parts(found, more, response)
    b = _flat(found, found.random_effects_)
    before = {}  # modes of the fit at all levels, 0 for new ones
    for group, table in found.random_effects_.items():
        before[group] = model.random_effects_[group].reindex(table.index).fillna(0.0)
    b0 = _flat(found, before)
    # what the rows of the fit say, to the second order
    y0, Q0, Z0, _ = _generalised_parts(found, frame, response)
    family, log_disp = fit.family, fit.log_dispersion
    one = np.ones(len(y0))
    w0 = family.curve(Q0 @ model.result_.gamma + Z0 @ b0, y0, one, log_disp).weight
    H = Z0.T @ (w0[:, None] * Z0) + precision
    curve = family.curve(Q @ fit.gamma + Z @ b, y, np.ones(len(y)), log_disp)
    change, moved = b - b0, fit.gamma - model.result_.gamma
    cross = Z0.T @ (w0[:, None] * Q0)
    np.testing.assert_allclose(Z.T @ curve.score, H @ change + cross @ moved, atol=1e-6)
    own = cross.T @ np.linalg.solve(H, cross)
    known = own + model.result_.fixed_root @ model.result_.fixed_root.T
    left = Q.T @ curve.score - known @ moved - cross.T @ change
    if update:
        np.testing.assert_allclose(left, 0.0, atol=1e-6)
    else:
        assert not moved.any()
    # curvature there: standard deviations given the fixed effects, and those of these
    whole = H + Z.T @ (curve.weight[:, None] * Z)
    std = np.sqrt(np.linalg.inv(whole).diagonal())
    np.testing.assert_allclose(_flat(found, found.random_effects_std_), std, rtol=1e-6)
    if update:
        cross = cross + Z.T @ (curve.weight[:, None] * Q)
        info = known + Q.T @ (curve.weight[:, None] * Q) - cross.T @ np.linalg.solve(whole, cross)
        np.testing.assert_allclose(fit.fixed_root @ fit.fixed_root.T, info, rtol=1e-6, atol=1e-6)


def test_new_levels_of_a_generalised_model_are_at_their_own_modes():
    """Twice as many rows of a new level, taken in at once or one by one from a pickle."""
    frame, more = _counts(300, 0), _counts(30, 1, first=40)
    model = MixedGLMRegressor("k ~ x + (1 | a)").fit(frame)
    found = pickle.loads(pickle.dumps(model)).condition(more)
    both = pd.concat([frame, more])
    std = [m.predict(both, return_std=True)[1] for m in (found, model.condition(more))]
    np.testing.assert_allclose(*std, rtol=1e-6)
    variance = float(model.covariances_["a"].iloc[0, 0])
    eta = model.predict(more, random_effects=False, scale="link")
    for level, rows in more.groupby("a"):
        b = float(found.random_effects_["a"].loc[level, "Intercept"])
        mean = np.exp(eta[rows.index] + b)
        np.testing.assert_allclose((rows["k"] - mean).sum(), b / variance, atol=1e-7)
    np.testing.assert_allclose(model.predict(more, history=(more,)), found.predict(more), rtol=1e-9)


def test_history_reaches_classes_and_probabilities():
    frame, more = _counts(300, 0), _counts(30, 1, first=40)
    model = MixedLogisticClassifier("z ~ x + (1 | a)").fit(frame)
    found = model.condition(more)
    np.testing.assert_allclose(
        model.predict_proba(more, history=(more,)), found.predict_proba(more), rtol=1e-9
    )
    assert (model.predict(more, history=(more,)) == found.predict(more)).all()
    with pytest.raises(ValueError, match="none of the classes"):
        model.condition(more.assign(z="perhaps"))


def test_a_response_out_of_the_family_is_an_error():
    frame = _counts(300, 0)
    model = MixedGLMRegressor("k ~ x + (1 | a)").fit(frame)
    with pytest.raises(ValueError, match="poisson"):
        model.condition(frame.assign(k=-1))


def test_a_hundred_new_groups_are_predicted_as_well_as_by_a_refit():
    """5 rows of each tell their effects: errors of new rows within 1 % of a refit's."""
    rng = np.random.default_rng(3)

    def rows(groups, n):
        g = np.repeat(groups, n)
        x = rng.normal(size=len(g))
        y = 1.0 + 0.5 * x + effects[g, 0] + x * effects[g, 1] + rng.normal(size=len(g))
        return pd.DataFrame({"y": y, "x": x, "g": g})

    effects = rng.normal(size=(500, 2)) * [1.5, 0.7]
    old, new = rows(np.arange(400), 8), rows(np.arange(400, 500), 5)
    test = rows(np.arange(400, 500), 20)
    formula = "y ~ x + (x | g)"
    model = MixedLinearRegressor(formula).fit(old)
    found = model.condition(new)
    refit = MixedLinearRegressor(formula).fit(pd.concat([old, new], ignore_index=True))

    def error(fitted):
        return np.sqrt(np.mean((fitted.predict(test) - test["y"]) ** 2))

    assert error(found) < 1.01 * error(refit)
    population = np.sqrt(np.mean((model.predict(test, random_effects=False) - test["y"]) ** 2))
    assert error(found) < 0.8 * population
    limits = found.predict_interval(test, kind="observation")
    inside = (limits[:, 0] < test["y"]) & (test["y"] < limits[:, 1])
    assert 0.93 < inside.mean() < 0.97


def test_smooth_functions_take_in_rows_too():
    frame, more = _frame(300), _frame(40, seed=5, first=9)
    model = MixedLinearRegressor("y ~ s(x, k=6) + (1 | a)").fit(frame)
    more = more[more["x"].between(frame["x"].min(), frame["x"].max())]
    found = model.condition(more)
    both = pd.concat([frame, more], ignore_index=True)
    beta, b, _, _ = _oracle(found, both, model.result_.beta)
    _, X, Z, _, _ = _dense(found, both)
    np.testing.assert_allclose(found.predict(both), X @ beta + Z @ b, rtol=1e-8)
    with pytest.raises(ValueError, match="the rows tell of the smooth functions"):
        pickle.loads(pickle.dumps(model)).condition(more)


def test_degrees_of_freedom_are_those_of_the_fit():
    frame, more = _frame(300), _frame(20, seed=5, first=9)
    model = MixedLinearRegressor("y ~ x + (1 | a)").fit(frame)
    with pytest.raises(ValueError, match="ask the model that was conditioned"):
        model.condition(more).confint()
    with pytest.raises(ValueError, match="refits are those of the fit"):
        model.condition(more).result_.refit(reml=False)
    own = model.confint(["Intercept", "x"])
    pd.testing.assert_frame_equal(model.condition(more).confint(["Intercept", "x"]), own)
    with pytest.raises(ValueError, match="ask the model that was conditioned"):
        model.condition(more, update_fixed=True).confint(["Intercept", "x"])


@pytest.mark.filterwarnings("ignore::skmixed.SeparationWarning")
def test_separated_outcomes_take_a_prior():
    frame, more = _counts(300, 0), _counts(30, 1, 10).assign(s="r")
    frame["s"] = np.where(frame["x"] > 0.8, "q", "r")
    frame.loc[frame["s"] == "q", "z"] = "yes"
    model = MixedLogisticClassifier("z ~ x + s + (1 | a)").fit(frame)
    with pytest.raises(ValueError, match="prior='normal'"):
        model.condition(more)
    held = clone(model).set_params(prior="normal").fit(frame).condition(more)
    assert np.isfinite(held.predict_proba(more)).all()


@pytest.mark.filterwarnings("ignore::skmixed.RankDeficiencyWarning")
@pytest.mark.parametrize("rank_deficient", ["drop", "minimum_norm"])
def test_dependent_columns_change_nothing(rank_deficient):
    frame, more = _frame(300), _frame(20, seed=5, first=9)
    plain = MixedLinearRegressor("y ~ x + (1 | a)").fit(frame)
    twice = MixedLinearRegressor("y ~ x + I(2 * x) + (1 | a)", rank_deficient=rank_deficient)
    twice.fit(frame)
    for update in (False, True):
        found = twice.condition(more, update_fixed=update).predict(more)
        expected = plain.condition(more, update_fixed=update).predict(more)
        np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.filterwarnings("ignore::skmixed.SingularFitWarning")
@pytest.mark.parametrize("n_levels", [12, 110])
@pytest.mark.parametrize("random", ["(1 | a)", "(1 | a) + (1 | b)", "(x | a) + (1 | b)"])
def test_related_levels_learn_from_further_rows(random, n_levels):
    frame = _frame(5 * n_levels, n_levels=(n_levels - 4, 7))
    more = _frame(30, seed=5, first=n_levels - 9, n_levels=(8, 9))
    levels = [f"a{k:03d}" for k in range(n_levels)]  # some have rows in none, some in the second
    half = np.random.default_rng(0).normal(size=(n_levels, n_levels + 4))
    K = pd.DataFrame(half @ half.T / n_levels + 0.3 * np.eye(n_levels), levels, levels)
    model = MixedLinearRegressor(f"y ~ x + {random}", relationship={"a": K}).fit(frame)
    both = pd.concat([frame, more], ignore_index=True)
    for update in (False, True):
        found = model.condition(more[:10], update_fixed=update).condition(
            more[10:], update_fixed=update
        )
        design, V, terms = found.design_spec_.new(both), model.sigma_**2 * np.eye(len(both)), []
        for term, covariance in zip(design.random, model.result_.covariances, strict=True):
            own = np.zeros((len(both), term.n_levels, term.z.shape[1]))
            own[np.arange(len(both)), term.codes] = term.z
            Z = own.reshape(len(both), -1)
            related = K.loc[term.levels, term.levels] if term.group == "a" else None
            G = np.kron(np.eye(term.n_levels) if related is None else related, covariance)
            V += Z @ G @ Z.T
            terms.append((term.group, Z, G))
        Vi, X, y = np.linalg.inv(V), design.X, both["y"].to_numpy()
        beta = np.linalg.solve(X.T @ Vi @ X, X.T @ Vi @ y) if update else model.fixed_effects_
        np.testing.assert_allclose(found.fixed_effects_, beta, rtol=1e-8)
        for group, Z, G in terms:
            b = G @ Z.T @ Vi @ (y - X @ np.asarray(beta))
            np.testing.assert_allclose(np.ravel(found.random_effects_[group]), b, atol=1e-8)
            std = np.sqrt((G - G @ Z.T @ Vi @ Z @ G).diagonal())
            np.testing.assert_allclose(np.ravel(found.random_effects_std_[group]), std, atol=1e-7)
    loaded = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="levels that the rows of the fit tell as well"):
        loaded.condition(more)
    with pytest.raises(ValueError, match="2 rows have levels that the relationship matrix"):
        model.condition(more.assign(a=["a999", "a998", *more["a"][2:]]))


@pytest.mark.parametrize("unseen", ["population", "nan", "raise"])
def test_new_levels_are_taken_in_whatever_predictions_do_with_them(unseen):
    frame, more = _frame(200), _frame(20, seed=5, first=9)
    model = MixedLinearRegressor("y ~ x + (1 | a)").fit(frame)
    own = clone(model).set_params(unseen_groups=unseen).fit(frame).condition(more)
    np.testing.assert_allclose(own.predict(more), model.condition(more).predict(more), rtol=1e-9)


def test_arrays_frames_of_polars_and_batches():
    polars = pytest.importorskip("polars")
    frame, more = _frame(200), _frame(20, seed=5, first=9)
    model = MixedLinearRegressor("y ~ x + (1 | a)").fit(frame)
    expected = model.condition(more).predict(more)
    other = polars.DataFrame(more.to_dict("list"))
    found = model.condition(other).predict(other)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    batches = MixedLinearRegressor("y ~ x + (1 | a)").fit_batches(
        lambda: iter([frame[:90], frame[90:]])
    )
    np.testing.assert_allclose(batches.condition(more).predict(more), expected, rtol=1e-6)
    numbers = [rows.assign(a=rows["a"].str[1:].astype(float))[["x", "a"]] for rows in (frame, more)]
    array = MixedLinearRegressor("x0 + (1 | x1)").fit(numbers[0].to_numpy(), frame["y"])
    found = array.condition(numbers[1].to_numpy(), more["y"]).predict(numbers[1].to_numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_proportions_count_their_trials():
    frame, more = _counts(300, 0), _counts(40, 1, first=12)
    model = MixedLogisticClassifier("z ~ x + (1 | a)").fit(frame)
    more["x"], frame["n"] = more["x"].round(), 1.0
    more["one"] = (more["z"] == "yes").astype(float)
    frame["one"] = (frame["z"] == "yes").astype(float)
    grouped = more.groupby(["a", "x"], as_index=False).agg(one=("one", "mean"), n=("one", "size"))
    trials = MixedGLMRegressor("one ~ x + (1 | a)", "binomial", prior_weights="n").fit(frame)
    counts = MixedGLMRegressor("one ~ x + (1 | a)", "binomial").fit(frame)
    expected = model.condition(more).random_effects_["a"]
    for found in (
        trials.condition(grouped.assign(n=grouped["n"].astype(float))),
        counts.condition(more[["x", "a", "one"]].drop_duplicates(), sample_weight=more.groupby(
            ["x", "a", "one"], sort=False).size()),
    ):  # fmt: skip
        table = found.random_effects_["a"].loc[expected.index]
        np.testing.assert_allclose(table, expected, atol=1e-5)


def test_no_rows_leave_a_loaded_model_its_intervals():
    frame = _frame(100)
    model = MixedLinearRegressor("y ~ x + (1 | a)").fit(frame)
    loaded = pickle.loads(pickle.dumps(model)).condition(frame[:0])
    np.testing.assert_allclose(loaded.predict_interval(frame), model.predict_interval(frame))
    kept = pickle.loads(pickle.dumps(model.condition(frame[:0])))  # with its cross-products
    more = _frame(20, seed=5, first=9)
    expected = model.condition(more).predict(more)
    np.testing.assert_allclose(kept.condition(more).predict(more), expected, rtol=1e-9)


def test_the_plain_form_of_conditioned_models():
    frame, more = _frame(300), _frame(20, seed=5, first=9)
    new, later = _frame(20, seed=5, first=50), _frame(20, seed=6, first=70)
    model = MixedLinearRegressor("y ~ x + (x | a)").fit(frame)

    def written(model):
        text = json.dumps(model.to_dict(), allow_nan=False)
        return MixedLinearRegressor.from_dict(json.loads(text))

    taken = model.condition(more)
    for found in (written(taken), written(written(taken))):
        np.testing.assert_allclose(found.predict_interval(more), taken.predict_interval(more))
        np.testing.assert_allclose(
            found.condition(new).predict(new), taken.condition(new).predict(new)
        )
    apart = written(written(model).condition(new))
    expected = model.condition(new)
    np.testing.assert_allclose(apart.predict_interval(new), expected.predict_interval(new))
    twice = written(apart.condition(later))
    expected = expected.condition(later)
    both = pd.concat([frame, new, later])
    np.testing.assert_allclose(twice.predict_interval(both), expected.predict_interval(both))
    assert twice.n_conditioned_ == 40
    kept = MixedLinearRegressor("y ~ x + (x | a)", keep_factor=True).fit(frame)
    for loaded in (written(kept), pickle.loads(pickle.dumps(kept))):
        np.testing.assert_allclose(loaded.condition(more).predict(more), taken.predict(more))
