"""Separated rows leave everything else as it is without them, for every family and link."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from skmixed import MixedGLMRegressor, MixedLogisticClassifier, SeparationWarning
from skmixed.families import make_family
from skmixed.models.separation import shortest_movement

LINKS = [("poisson", "log"), ("negative_binomial", "log")]
LINKS += [("binomial", link) for link in ("logit", "probit", "cloglog", "cauchit", "log")]
CASES = {
    "category": ("x + f + (1 | g)", 1, lambda d: d["f"] == "b", "f[T.b]"),
    "slopes": ("x + f + (x | g)", 1, lambda d: d["f"] == "b", "f[T.b]"),
    "reference": ("x + f + (1 | g)", 5, lambda d: d["f"] == "a", "the reference category of f"),
    "cell": (
        "x + f * h + (1 | g)",
        0,
        lambda d: (d["f"] == "c") & (d["h"] == "q"),
        "f[T.c]:h[T.q]",
    ),
    "two": ("f + x + (1 | g)", 5, lambda d: d["f"].isin(["b", "d"]), "f[T.b], f[T.d]"),
    "line": ("f:x + f + (1 | g)", 1, lambda d: d["f"] == "d", "f[T.d]"),
    "no intercept": ("0 + f + x + (1 | g)", 1, lambda d: d["f"] == "a", "f[a]"),
}


def _table(family, seed, n=160):
    rng = np.random.default_rng(seed)
    g, f, h = rng.integers(0, 12, n), rng.choice(list("abcd"), n), rng.choice(list("pq"), n)
    x = rng.normal(size=n)
    eta = 0.4 * x + rng.normal(0, 0.6, 12)[g] + rng.normal(0, 0.3, 12)[g] * x + 0.5 * (f == "c")
    w = rng.integers(1, 6, n)
    if family.name == "binomial":
        if family.link.name == "log":
            eta = np.minimum(-1.5 + 0.3 * eta, -0.3)
        y = rng.binomial(w, family.mean(eta))
    else:
        y = rng.poisson(np.exp(eta + 0.5) * (rng.gamma(2, 0.5, n) if family.dispersion else 1.0))
    return pd.DataFrame({"y": y, "w": w, "x": x, "g": g.astype(str), "f": f, "h": h})


def _fit(data, effects, family, n_agq):
    """The model and the texts of its separation warnings."""
    counts = family.name != "binomial"
    formula = f"{'y' if counts else 'cbind(y, failures)'} ~ {effects}"
    model = MixedGLMRegressor(formula, family.name, family.link.name, n_agq=n_agq)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(data.assign(failures=data["w"] - data["y"]))
    told = [str(w.message) for w in caught if w.category is SeparationWarning]
    return model, [text.partition(": ")[2] for text in told]


def _assert_same(model, rest, data, rows):
    """All that the rest determines is the same; the rows (mask) are predicted at the limit."""
    std = model.standard_errors_
    same = [name for name in rest.fixed_effects_.index if np.isfinite(std.get(name, np.inf))]
    assert "x" in same or "f[b]:x" in same
    assert model.deviance_ == pytest.approx(rest.deviance_, abs=1e-6)
    assert_allclose(model.fixed_effects_[same], rest.fixed_effects_[same], rtol=1e-6, atol=1e-6)
    assert_allclose(std[same], rest.standard_errors_[same], rtol=2e-6)
    assert_allclose(model.covariances_["g"], rest.covariances_["g"], rtol=1e-5, atol=1e-7)
    assert model.dispersion_ == pytest.approx(rest.dispersion_, rel=1e-5)
    levels = rest.random_effects_["g"].index
    assert_allclose(model.random_effects_["g"].loc[levels], rest.random_effects_["g"], atol=1e-6)
    both = data[~rows]
    assert_allclose(model.predict(both), rest.predict(both), rtol=1e-6, atol=1e-6)
    std, expected = (m.predict(both, return_std=True)[1] for m in (model, rest))
    assert_allclose(std, expected, rtol=2e-6)
    assert np.isinf(model.predict(data[rows], return_std=True)[1]).all()
    assert np.isfinite(model.fixed_effects_).all()
    assert model.n_obs_ == len(data)


@pytest.mark.parametrize("seed", [2, 11])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "link"), LINKS)
def test_separated_rows_leave_everything_else_as_without_them(name, link, case, seed):
    family = make_family(name, link)
    effects, n_agq, choose, named = CASES[case]
    data = _table(family, seed)
    rows = choose(data).to_numpy()
    successes = name == "binomial" and link != "log" and seed % 2
    data.loc[rows, "y"] = data["w"][rows] if successes else 0
    model, told = _fit(data, effects, family, n_agq)
    separate = "separate the" if "," in named else "separates the"
    assert len(told) == 1 and told[0].startswith(f"{named} {separate} outcomes perfectly")
    rest, told = _fit(data[~rows], effects, family, n_agq)
    assert not told
    _assert_same(model, rest, data, rows)
    assert_allclose(model.predict(data[rows]), float(successes), atol=1e-7)
    assert model.result_.n_params > rest.result_.n_params


@pytest.mark.parametrize(("name", "link"), LINKS)
def test_a_covariate_that_separates_one_end(name, link):
    """Beyond x = 1 a hinge sees zeros only: no category, and a direction of several columns."""
    family = make_family(name, link)
    data = _table(family, 3)
    rows = (data["x"] > 1).to_numpy()
    data = data.assign(
        hinge=np.maximum(data["x"] - 1, 0.0), y=np.where(rows, 0, data["y"]), z=data["x"] ** 2
    )
    model, told = _fit(data, "x + hinge + (1 | g)", family, 1)
    rest, _ = _fit(data[~rows], "x + (1 | g)", family, 1)
    assert told[0].startswith("hinge separates the outcomes")
    assert f"{rows.sum()} rows" in told[0]
    _assert_same(model, rest, data, rows)
    assert model.predict(data[rows], random_effects=False).max() < 1e-6


def _with_zeros(seed=5):
    data = _table(make_family("poisson"), seed)
    return data.assign(y=np.where(data["f"] == "b", 0, data["y"]))


def test_order_and_units_do_not_matter():
    data = _with_zeros()
    model, _ = _fit(data, "x + f + (x | g)", make_family("poisson"), 1)
    moved = data.sample(frac=1, random_state=0).assign(x=lambda d: 1e3 * d["x"] + 1e5)
    other, told = _fit(moved, "x + f + (x | g)", make_family("poisson"), 1)
    assert told[0].startswith("f[T.b] separates")
    assert other.deviance_ == pytest.approx(model.deviance_, abs=1e-6)
    assert other.fixed_effects_["x"] * 1e3 == pytest.approx(model.fixed_effects_["x"], rel=1e-5)
    assert other.fixed_effects_["f[T.b]"] == pytest.approx(model.fixed_effects_["f[T.b]"], rel=1e-6)


def test_offsets_weights_and_frequencies():
    data = _with_zeros().assign(o=lambda d: 0.1 * d["w"] + 3)
    family, weight = make_family("poisson"), data["w"].to_numpy()
    rows = (data["f"] == "b").to_numpy()
    formula = "y ~ x + f + offset(o) + (1 | g)"

    def fit(data, weight):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SeparationWarning)
            model = MixedGLMRegressor(formula, family.name, prior_weights="h")
            return model.fit(data.assign(h=2.0), sample_weight=weight)

    model, rest = fit(data, weight), fit(data[~rows], weight[~rows])
    assert model.deviance_ == pytest.approx(rest.deviance_, abs=1e-6)
    same = rest.fixed_effects_.index
    assert_allclose(model.fixed_effects_[same], rest.fixed_effects_, atol=1e-6)
    assert model.predict(data[rows]).max() < 1e-10
    assert model.n_obs_ == weight.sum()


def test_levels_that_only_separated_rows_have_get_the_prior():
    data = _with_zeros()
    alone = data["g"].isin(["0", "1"])
    data = data.assign(f=np.where(alone, "b", data["f"]), y=np.where(alone, 0, data["y"]))
    model, _ = _fit(data, "x + f + (1 | g)", make_family("poisson"), 1)
    assert model.random_effects_["g"].loc[["0", "1"]].to_numpy() == pytest.approx(0)
    std = model.random_effects_std_["g"].loc[["0", "1"]].to_numpy()
    assert std == pytest.approx(np.sqrt(model.covariances_["g"].to_numpy()[0, 0]))
    _assert_same(
        model,
        _fit(data[data["f"] != "b"], "x + f + (1 | g)", make_family("poisson"), 1)[0],
        data,
        (data["f"] == "b").to_numpy(),
    )


@pytest.mark.parametrize("n_agq", [0, 1, 5])
@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "cauchit"])
def test_complete_separation_has_deviance_zero(link, n_agq):
    data = _table(make_family("binomial"), 4)
    data = data.assign(y=np.where(data["x"] > 0.1, data["w"], 0))
    model, told = _fit(data, "x + (1 | g)", make_family("binomial", link), n_agq)
    assert told[0].startswith("x separates the outcomes")
    assert model.deviance_ == 0
    assert model.covariances_["g"].to_numpy() == 0
    assert_allclose(model.predict(data), data["x"] > 0.1, atol=1e-7)
    assert np.isinf(model.standard_errors_).all()


def test_names_of_interactions_are_columns_where_no_category_says_it():
    data = _with_zeros().assign(y=lambda d: np.where((d["f"] == "c") & (d["x"] > 0), 0, d["y"]))
    data = data.assign(up=1 * (data["x"] > 0), z=data["x"])
    _, told = _fit(data, "z + f * up + (1 | g)", make_family("poisson"), 1)
    assert "f[T.b]" in told[0] and "f[T.c]:up" in told[0]


def test_a_copy_from_a_pickle_says_the_same():
    data = _with_zeros()
    model, _ = _fit(data, "x + f + (1 | g)", make_family("poisson"), 1)
    copy = pickle.loads(pickle.dumps(model))
    assert_allclose(copy.predict(data), model.predict(data))
    assert_allclose(copy.vcov_, model.vcov_)
    assert_allclose(*(m.predict(data, return_std=True)[1] for m in (copy, model)))


def test_the_summary_shows_no_statistic_for_an_unbounded_coefficient():
    model, _ = _fit(_with_zeros(), "x + f + (1 | g)", make_family("poisson"), 1)
    summary = model.summary()
    assert np.isinf(summary.fixed.loc["f[T.b]", "Std. Error"])
    assert summary.fixed.loc["f[T.b]"].iloc[2:].isna().all()
    assert summary.fixed.drop("f[T.b]").notna().all(axis=None)
    assert list(summary.correlation) == ["Intercept", "x", "f[T.c]", "f[T.d]"]
    assert "inf" in str(summary)


def test_minimum_norm_coefficients_beside_a_separated_category():
    data = _with_zeros().assign(x2=lambda d: 2 * d["x"])
    formula = "y ~ x + x2 + f + (1 | g)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedGLMRegressor(formula, rank_deficient="minimum_norm").fit(data)
        rest = MixedGLMRegressor(formula, rank_deficient="minimum_norm").fit(data[data.f != "b"])
    assert_allclose(model.standard_errors_["x2"], rest.standard_errors_["x2"], rtol=1e-5)
    assert np.isinf(model.standard_errors_["f[T.b]"])


@pytest.mark.parametrize("n_agq", [1, 5])
def test_fixed_effects_and_levels_that_separate_together_are_told(n_agq):
    rng = np.random.default_rng(0)
    g, x = rng.integers(0, 10, 200), rng.normal(size=200)
    data = pd.DataFrame({"x": x, "g": g, "y": 1.0 * (x > rng.normal(0, 1, 10)[g])})
    with pytest.warns(SeparationWarning, match="levels of g together separate"):
        MixedLogisticClassifier("y ~ x + (1 | g)", n_agq=n_agq).fit(data)


def test_quadrature_of_many_nodes():
    """Far more nodes than doubles have weights for."""
    data = _table(make_family("poisson"), 0)
    few, _ = _fit(data, "x + (1 | g)", make_family("poisson"), 25)
    many, _ = _fit(data, "x + (1 | g)", make_family("poisson"), 600)
    assert many.deviance_ == pytest.approx(few.deviance_, abs=1e-7)
    assert_allclose(many.fixed_effects_, few.fixed_effects_, atol=1e-6)


def test_the_shortest_movement_meets_every_need():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(500, 3))
    A[:, 0] = 0.5 + np.abs(4 + A[:, 0])
    need = rng.uniform(-5, 30, len(A))
    t = shortest_movement(A, need)
    assert (A @ t - need).min() == pytest.approx(0, abs=1e-6)
    shorter = [t + 1e-3 * d for d in rng.normal(size=(200, 3))]
    assert all(
        np.sum((A @ s) ** 2) >= np.sum((A @ t) ** 2) - 1e-6 or (A @ s < need - 1e-9).any()
        for s in shorter
    )
    assert_allclose(shortest_movement(A * [1, 1e6, 1e-6], need) * [1, 1e6, 1e-6], t, rtol=1e-6)
