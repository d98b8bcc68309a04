"""Structured random-effects terms through the estimators: formulas, tables, predictions, errors."""

import pickle

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedGLMRegressor, MixedLinearRegressor, datasets
from skmixed.inference import likelihood_ratio_test, random_effects_test

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def machines():
    return datasets.load_machines().frame


@pytest.fixture(scope="module")
def series():
    """40 subjects at 6 times, a stationary process beside noise."""
    rng = np.random.default_rng(3)
    n, s = 40, 6
    R = 0.7 ** np.abs(np.subtract.outer(np.arange(s), np.arange(s)))
    b = rng.normal(size=(n, s)) @ np.linalg.cholesky(R).T
    frame = pd.DataFrame({"id": np.repeat(np.arange(n), s), "time": np.tile(np.arange(s), n)})
    frame["y"] = 1 + 0.3 * frame["time"] + b.ravel() + 0.5 * rng.normal(size=n * s)
    frame["count"] = rng.poisson(np.exp(0.4 * b.ravel() + 1))
    return frame


@pytest.fixture(scope="module")
def field():
    """60 rows at 50 positions in two blocks."""
    rng = np.random.default_rng(4)
    xy = rng.uniform(0, 4, size=(50, 2)).round(2)
    d = np.sqrt(((xy[:, None] - xy) ** 2).sum(axis=-1))
    b = np.linalg.cholesky(np.exp(-d / 2) + 1e-9 * np.eye(50)) @ rng.normal(size=50)
    rows = np.append(np.arange(50), np.arange(10))
    return pd.DataFrame(
        {"e": xy[rows, 0], "n": xy[rows, 1], "block": rows % 2,
         "y": 2 + 1.5 * b[rows] + 0.3 * rng.normal(size=60)}
    )  # fmt: skip


def fit(formula, frame, **settings):
    return MixedLinearRegressor(formula, **settings).fit(frame)


def dense_criterion(model, frame, y, X, V):
    """REML criterion at V by dense algebra."""
    L = np.linalg.cholesky(V)
    A, r = np.linalg.solve(L, X), np.linalg.solve(L, y)
    beta = np.linalg.lstsq(A, r, rcond=None)[0]
    n, p = X.shape
    half = 2 * np.log(np.diag(L)).sum() + np.linalg.slogdet(A.T @ A)[1]
    return half + (n - p) * np.log(2 * np.pi) + np.sum((r - A @ beta) ** 2)


@pytest.mark.parametrize(
    ("structured", "plain"),
    [
        ("us(0 + Machine | Worker)", "(0 + Machine | Worker)"),
        ("homcs(0 + Machine | Worker)", "(1 | Worker/Machine)"),
        ("homdiag(0 + Machine | Worker)", "(1 | Worker:Machine)"),
    ],
)
def test_the_same_model_in_two_spellings(machines, structured, plain):
    own = fit(f"score ~ Machine + {structured}", machines)
    other = fit(f"score ~ Machine + {plain}", machines)
    assert own.deviance_ == pytest.approx(other.deviance_, abs=1e-7)
    assert own.aic_ == pytest.approx(other.aic_, abs=1e-6)
    np.testing.assert_allclose(own.predict(machines), other.predict(machines), rtol=1e-4)


def test_diag_is_the_double_bar(series):
    own, other = (fit(f"y ~ time + {t}", series) for t in ("diag(time | id)", "(time || id)"))
    assert own.deviance_ == pytest.approx(other.deviance_, abs=1e-7)


@pytest.mark.parametrize("kind", ["ar1", "expo", "mat", "gau"])
def test_criterion_is_that_of_the_dense_covariance(series, kind):
    term = {"ar1": "ar1(0 + C(time) | id)"}.get(kind, f"{kind}(time | id)")
    model = fit(f"y ~ time + {term}", series)
    [found] = model.structure_.values()
    d = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    if kind == "ar1":
        R = found["rho"] ** d
    else:
        x = d / found["range"]
        R = {"expo": np.exp(-x), "gau": np.exp(-(x**2)), "mat": (1 + x) * np.exp(-x)}[kind]
    V = np.kron(np.eye(40), found["sd"] ** 2 * R) + model.sigma_**2 * np.eye(240)
    X = np.column_stack([np.ones(240), series["time"]])
    assert model.deviance_ == pytest.approx(
        dense_criterion(model, series, series["y"].to_numpy(), X, V), abs=1e-7
    )
    # of few positions smooth fields are looked for from three ranges
    assert model.n_evaluations_ <= (15 if kind == "ar1" else 25)


def test_exponential_decay_is_an_autoregression(series):
    ar1 = fit("y ~ time + ar1(0 + C(time) | id)", series)
    expo = fit("y ~ time + expo(time | id)", series)
    assert ar1.deviance_ == pytest.approx(expo.deviance_, abs=1e-7)
    [a], [e] = ar1.structure_.values(), expo.structure_.values()
    assert a["rho"] == pytest.approx(np.exp(-1 / e["range"]), rel=1e-4)


def test_gaps_in_time_count(series):
    some = pd.concat([series[series["time"].isin([0, 1, 4])]] * 2)
    some["y"] += 0.5 * np.random.default_rng(1).normal(size=len(some))
    ar1 = fit("y ~ ar1(0 + C(time) | id)", some)
    expo = fit("y ~ expo(time | id)", some)
    assert ar1.deviance_ == pytest.approx(expo.deviance_, abs=1e-7)


def test_terms_of_one_group_and_of_others_beside_each_other(series):
    moved = series["y"] + 2 * np.sin(series["id"]) + np.cos(3 * series["time"])
    series = series.assign(y=moved)
    model = fit("y ~ time + (1 | id) + ar1(0 + C(time) | id) + (1 | time)", series)
    smaller = fit("y ~ time + (1 | id) + (1 | time)", series)
    assert model.deviance_ <= smaller.deviance_ + 1e-7
    assert len(model.theta_) == 4
    assert model.result_.n_params == 7
    assert list(model.structure_) == ["ar1(0 + C(time) | id)"]
    np.testing.assert_array_equal(model.theta_[2:], model.trace_.iloc[-1, -2:])


def test_what_people_read(series):
    model = fit("y ~ time + ar1(0 + C(time) | id)", series)
    [found] = model.structure_.values()
    text = str(model.summary())
    assert "each (ar1)" in text
    assert f"Structure ar1(0 + C(time) | id): rho = {found['rho']:.4g}." in text
    table = model.confint()
    assert table.loc["sd|id", "estimate"] == pytest.approx(found["sd"], rel=1e-5)
    assert table.loc["rho|id", "lower"] < 0.7 < table.loc["rho|id", "upper"]
    components = model.variance_components()
    assert components.loc[0, "variance"] == pytest.approx(found["sd"] ** 2, rel=1e-5)
    covariance = model.covariances_["id"].to_numpy()
    np.testing.assert_allclose(covariance[0, 1] / covariance[0, 0], found["rho"], rtol=1e-8)
    with pytest.raises(ValueError, match="method='wald'"):
        model.confint(method="profile")
    with pytest.raises(ValueError, match="observed"):
        model.variance_components(information="expected")
    with pytest.raises(ValueError, match="likelihood_ratio_test"):
        random_effects_test(model)


def test_degrees_of_freedom_are_those_of_the_same_model_without_structure(machines):
    own = fit("score ~ Machine + homcs(0 + Machine | Worker)", machines)
    other = fit("score ~ Machine + (1 | Worker/Machine)", machines)
    for ddf in ("satterthwaite", "kenward_roger"):
        mine, theirs = (m.coefficients(ddf=ddf) for m in (own, other))
        np.testing.assert_allclose(mine["df"], theirs["df"], rtol=1e-4)
        np.testing.assert_allclose(mine["std_error"], theirs["std_error"], rtol=1e-5)


def test_likelihood_ratio_tests_know_which_structure_holds_which(machines):
    models = {
        kind: fit(f"score ~ Machine + {kind}(0 + Machine | Worker)", machines)
        for kind in ("homdiag", "diag", "homcs", "cs", "us")
    }
    table = likelihood_ratio_test(*(models[k] for k in ("homdiag", "homcs", "cs", "us")))
    np.testing.assert_array_equal(table["npar"], [5, 6, 8, 10])
    assert table["p-value"][1:].notna().all()
    assert table["p-value (boundary)"].isna().all()
    nothing = fit("score ~ Machine + (1 | Worker)", machines)
    more = fit("score ~ Machine + (1 | Worker) + homdiag(0 + Machine | Worker)", machines)
    boundary = likelihood_ratio_test(nothing, more)["p-value (boundary)"].iloc[1]
    plain = likelihood_ratio_test(nothing, more)["p-value"].iloc[1]
    assert boundary == pytest.approx(plain / 2)
    with pytest.warns(Warning, match="not nested"):
        likelihood_ratio_test(models["diag"], fit("score ~ Machine + (1 | Worker)", machines))


def test_a_field_and_new_positions(field):
    model = fit("y ~ expo(e + n)", field)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict(field), model.predict(field))
    assert list(model.random_effects_) == ["e + n"]
    assert model.random_effects_["e + n"].shape == (1, 50)
    [found] = model.structure_.values()
    elsewhere = field.iloc[:3].assign(e=[1e4, field["e"][1], field["e"][2]])
    mean, std = model.predict(elsewhere, return_std=True)
    known, known_std = model.predict(field.iloc[:3], return_std=True)
    assert mean[0] == pytest.approx(model.intercept_)
    np.testing.assert_allclose(mean[1:], known[1:])
    assert std[0] == pytest.approx(np.hypot(found["sd"], model.standard_errors_.iloc[0]), rel=1e-6)
    assert (known_std < std[0]).all()
    with pytest.raises(ValueError, match="positions of the fit alone"):
        model.simulate(elsewhere)
    draws = model.simulate(field, n_samples=4000, random_state=0)
    total = found["sd"] ** 2 + model.sigma_**2
    np.testing.assert_allclose(draws.var(axis=1).mean(), total, rtol=0.1)


@pytest.mark.parametrize("term", ["expo(e + n)", "gau(e + n)", "mat(e + n)", "expo(e + n | block)"])
def test_predictions_at_new_positions_are_those_of_universal_kriging(field, term):
    model = fit(f"y ~ e + {term}", field)
    [found] = model.structure_.values()
    rng = np.random.default_rng(1)
    new = pd.DataFrame({"e": rng.uniform(0, 4, 7), "n": rng.uniform(0, 4, 7)})
    new["block"] = [0, 1] * 3 + [7]
    if "block" not in term:
        field, new = field.assign(block=0), new.assign(block=0)
    both = pd.concat([field, new])
    d = np.sqrt(((both[["e", "n"]].to_numpy()[:, None] - both[["e", "n"]].to_numpy()) ** 2).sum(-1))
    x = d / found["range"]
    R = {"gau": np.exp(-(x**2)), "mat": (1 + x) * np.exp(-x)}.get(term[:3], np.exp(-x))
    same = np.equal.outer(both["block"].to_numpy(), both["block"].to_numpy())
    C, n = found["sd"] ** 2 * R * same, len(field)
    W = np.linalg.inv(C[:n, :n] + model.sigma_**2 * np.eye(n))
    X = np.column_stack([np.ones(len(both)), both["e"]])
    Phi = np.linalg.inv(X[:n].T @ W @ X[:n])
    beta = Phi @ X[:n].T @ W @ field["y"]
    mean, std = model.predict(new, return_std=True)
    expected = X[n:] @ beta + C[n:, :n] @ W @ (field["y"] - X[:n] @ beta)
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    a = X[n:] - C[n:, :n] @ W @ X[:n]
    total = C[n:, n:] - C[n:, :n] @ W @ C[:n, n:] + a @ Phi @ a.T
    np.testing.assert_allclose(std, np.sqrt(np.diag(total)), rtol=1e-6)


def test_a_field_for_every_block(field):
    model = fit("y ~ expo(e + n | block)", field)
    d = np.sqrt(
        ((field[["e", "n"]].to_numpy()[:, None] - field[["e", "n"]].to_numpy()) ** 2).sum(-1)
    )
    [found] = model.structure_.values()
    same = np.equal.outer(field["block"].to_numpy(), field["block"].to_numpy())
    V = found["sd"] ** 2 * np.exp(-d / found["range"]) * same + model.sigma_**2 * np.eye(60)
    value = dense_criterion(model, field, field["y"].to_numpy(), np.ones((60, 1)), V)
    assert model.deviance_ == pytest.approx(value, abs=1e-7)


def test_generalised_models(series):
    glm = MixedGLMRegressor("count ~ homcs(0 + C(f) | id)", family="poisson")
    series = series.assign(f=series["time"] % 2)
    own = glm.fit(series)
    other = MixedGLMRegressor("count ~ (1 | id) + (1 | id:f)", family="poisson").fit(series)
    assert own.deviance_ == pytest.approx(other.deviance_, abs=1e-5)
    ar1 = MixedGLMRegressor("count ~ ar1(0 + C(time) | id)", family="poisson").fit(series)
    [found] = ar1.structure_.values()
    assert 0.3 < found["rho"] < 1.0
    assert "rho|id" in ar1.confint(method="wald").index
    with pytest.raises(ValueError, match="n_agq=1"):
        MixedGLMRegressor("count ~ ar1(0 + C(time) | id)", family="poisson", n_agq=3).fit(series)


def test_a_correlation_of_one_is_found_and_told(series):
    constant = series.assign(y=series.groupby("id")["y"].transform("mean") + RNG.normal(size=240))
    with pytest.warns(Warning, match=r"singular: .* ar1\(0 \+ C\(time\) \| id\)"):
        model = fit("y ~ ar1(0 + C(time) | id)", constant)
    plain = fit("y ~ (1 | id)", constant)
    assert model.deviance_ == pytest.approx(plain.deviance_, abs=1e-6)
    [found] = model.structure_.values()
    assert found["rho"] == 1.0


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("exp(e | block)", "expo"),
        ("cs(1 | block)", "one effect"),
        ("ar1(e | block)", "levels of one factor"),
        ("ar1(0 + C(t) || block)", "one bar"),
        ("toep(0 + C(t) | block)", "not equally spaced"),
        ("ar1(0 + C(u) | block)", "no multiples of one step"),
        ("expo(C(t))", "numeric"),
        ("expo(one)", "at least three"),
        ("expo(1 | block)", "coordinates"),
        ("mat(e, nu=3)", "0.5, 1.5, 2.5"),
        ("cs(0 + C(t) | block) - ar1(0 + C(t) | block)", "cannot be subtracted"),
        ("hetar1(0 + C(id) | block)", "their variances cannot be told from the residual's"),
    ],
)
def test_what_is_no_structure(field, term, message):
    third = np.arange(60) % 3
    frame = field.assign(
        t=np.array([0, 1, 3])[third],
        u=np.array([0.0, 1.0, np.pi])[third],
        one=1.0,
        id=np.arange(60) // 2,
    )
    with pytest.raises(ValueError, match=message):
        fit(f"y ~ {term}", frame)


def test_a_negative_correlation_over_gaps_in_time_is_found():
    rng = np.random.default_rng(11)
    times = np.array([0, 2, 4, 7])
    R = (-0.6) ** np.abs(np.subtract.outer(times, times)).astype(float)
    b = rng.normal(size=(60, 4)) @ np.linalg.cholesky(R).T
    frame = pd.DataFrame({"g": np.repeat(np.arange(60), 4), "t": np.tile(times, 60)})
    frame = pd.concat([frame, frame])
    frame["y"] = np.tile(b.ravel(), 2) + 0.5 * rng.normal(size=480)
    [found] = fit("y ~ 1 + ar1(0 + C(t) | g)", frame).structure_.values()
    assert -0.8 < found["rho"] < -0.4


def test_times_as_text_have_an_order_or_none(series):
    names = {0: "v1", 1: "v2", 2: "v9", 3: "v10", 4: "v11", 5: "v12"}
    frame = series.assign(visit=series["time"].map(names))
    with pytest.raises(ValueError, match="in the order v1, v10, v11, v12, v2, and their numbers"):
        fit("y ~ ar1(0 + visit | id)", frame)
    ordered = frame.assign(visit=pd.Categorical(frame["visit"], list(names.values()), ordered=True))
    own = fit("y ~ ar1(0 + visit | id)", ordered)
    numbers = fit("y ~ ar1(0 + C(time) | id)", series)
    assert own.deviance_ == pytest.approx(numbers.deviance_, abs=1e-8)


@pytest.mark.parametrize("kind", ["ar1", "hetar1", "toep"])
def test_contrasts_of_times_are_no_times(series, kind):
    with pytest.raises(ValueError, match=rf"write {kind}\(0 \+ C\(time\) \| id\)"):
        fit(f"y ~ {kind}(C(time) | id)", series)


def test_units_and_types_of_times_change_nothing(series):
    expected = fit("y ~ ar1(0 + C(time) | id)", series)
    rho = expected.structure_["ar1(0 + C(time) | id)"]["rho"]
    own = series["time"]
    for time in (own * 1000, own.astype("float32"), own.astype("int8")):
        frame = series.assign(time=time).sample(frac=1, random_state=0)
        own = fit("y ~ ar1(0 + C(time) | id)", frame)
        assert own.deviance_ == pytest.approx(expected.deviance_, abs=1e-7)
        [found] = own.structure_.values()
        assert found["rho"] == pytest.approx(rho, abs=1e-5)
        expo = fit("y ~ expo(time | id)", frame)
        assert expo.deviance_ == pytest.approx(expected.deviance_, abs=1e-7)


@pytest.mark.parametrize("structure", ["ar1", "hetar1", "toep"])
def test_times_beside_other_factors_of_the_fixed_effects(series, structure):
    frame = pd.concat([series, series.assign(y=series["y"] + RNG.normal(size=len(series)))])
    frame = frame.assign(x=RNG.normal(size=len(frame)), a=frame["id"] % 3)
    for name, level in (("a", 1), ("a", 2), *(("time", t) for t in range(1, 6))):
        frame[f"{name}{level}"] = (frame[name] == level).astype(float)
    term = f"{structure}(0 + C(time) | id)"
    for factors, columns in (
        ("x + C(a)", "x + a1 + a2"),
        ("C(a) + C(time)", "a1 + a2 + " + " + ".join(f"time{t}" for t in range(1, 6))),
    ):
        one, two = fit(f"y ~ {factors} + {term}", frame), fit(f"y ~ {columns} + {term}", frame)
        assert one.deviance_ == pytest.approx(two.deviance_, abs=1e-6)
        assert len(one.structure_[term]) == one.theta_.size


@pytest.mark.parametrize("structure", ["ar1", "hetar1", "toep"])
def test_times_of_a_category_in_any_order(series, structure):
    frame = pd.concat([series, series.assign(y=series["y"] + RNG.normal(size=len(series)))])
    mixed = frame.assign(time=pd.Categorical(frame["time"], [3, 0, 5, 1, 2, 4], ordered=True))
    one = fit(f"y ~ 1 + {structure}(0 + C(time) | id)", frame)
    two = fit(f"y ~ 1 + {structure}(0 + time | id)", mixed)
    assert two.deviance_ == pytest.approx(one.deviance_, abs=1e-6)
    text = frame.assign(time=(frame["time"] * 2 + 2).astype(str), rep=np.arange(len(frame)) // 240)
    one = fit("y ~ 1", frame.assign(rep=text["rep"]), residual=f"{structure}(time | id:rep)")
    two = fit("y ~ 1", text, residual=f"{structure}(time | id:rep)")
    assert two.deviance_ == pytest.approx(one.deviance_, abs=1e-6)


def test_visits_far_from_their_common_step(series):
    """Times that are many steps apart start with a correlation of neighbours as others do."""
    uneven = series.assign(time=series["time"].map(dict(enumerate([0, 1, 2.5, 4.2, 5, 7.3]))))
    hetar1 = fit("y ~ 1", uneven, residual="hetar1(time | id)")
    assert hetar1.deviance_ < fit("y ~ 1", uneven, residual="car1(time | id)").deviance_


def test_a_field_of_few_positions_has_the_better_of_two_ranges():
    """Two clusters of positions: a short range within them, or a long one across."""
    place = np.array([[0.0, 0.03], [0.0, 0.95], [0.0, 0.99], [0.01, 0.97]])
    d = np.sqrt(((place[:, None] - place) ** 2).sum(axis=-1))
    C = np.exp(-(d**2) / 4) + 0.3 * np.exp(-((d / 0.05) ** 2)) + 1e-6 * np.eye(4)
    frame = pd.DataFrame({"g": np.repeat(np.arange(14), 4), "at": np.tile(np.arange(4), 14)})
    frame["u"], frame["v"] = place[frame["at"]].T
    for seed in (6, 11, 32):
        rng = np.random.default_rng(seed)
        b = rng.normal(size=(14, 4)) @ np.linalg.cholesky(C).T
        model = fit("y ~ 1 + gau(u + v | g)", frame.assign(y=b.ravel() + 0.5 * rng.normal(size=56)))
        assert model.structure_["gau(u + v | g)"]["range"] > 1.0
    for seed in (11, 15, 17):  # effects of positions that hardly know of each other
        rng = np.random.default_rng(seed)
        b = rng.normal(size=(12, 1)) * 0.5 + rng.normal(size=(12, 5)) * 0.8
        rows = {
            "g": np.repeat(np.arange(12), 10),
            "u": np.tile(np.repeat([0, 4, 7, 7.5, 8], 2), 12),
        }
        rows["y"] = np.repeat(b.ravel(), 2) + 0.5 * rng.normal(size=120)
        model = fit("y ~ 1 + mat(u | g, nu=2.5)", pd.DataFrame(rows))
        assert model.structure_["mat(u | g, nu=2.5)"]["range"] < 0.5
