"""Predictions of ONNX graphs are those of the models."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixed import (
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
)

pytest.importorskip("skl2onnx")
runtime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("skmixed.onnx")


def _data():
    rng = np.random.default_rng(0)
    n = 240
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "t": rng.uniform(0, 1, n),
            "f": pd.Categorical(rng.choice(list("abc"), n)),
            "g": rng.choice([f"s{i}" for i in range(12)], n),
            "h": rng.integers(0, 5, n),
            "b": rng.choice([True, False], n),
            "w": rng.uniform(1, 2, n),
        }
    )
    level = rng.normal(size=12)[data.g.str[1:].astype(int)]
    data["y"] = 1 + data.x + level + rng.normal(size=n)
    data["z"] = np.where(data.y > data.y.mean(), "yes", "no")
    data["one"] = (data.z == "yes").astype(int)
    data["count"] = rng.poisson(np.exp(0.3 * level))
    return data


DATA = _data()
NEW = DATA.assign(
    g=np.where(DATA.index < 5, "never seen", DATA.g), h=np.where(DATA.index % 7 == 3, 77, DATA.h)
)


def _fit(cls, formula, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cls(formula, **settings).fit(DATA)


def _run(model, X):
    session = runtime.InferenceSession(onnx.to_onnx(model).SerializeToString())
    return session.run(None, onnx.inputs(model, X))


@pytest.mark.parametrize(
    ("formula", "X"),
    [
        ("y ~ x + (x | g)", NEW),
        ("y ~ 0 + x + f + (1 | g) + (1 | h)", NEW),
        ("y ~ x*f + b + (1 | g:h) + (0 + f | g)", NEW),
        ("y ~ x + (x || g/h)", NEW),
        ("y ~ C(h, contr.sum)*x + C(f, contr.treatment(base='b')) + (1 | g)", DATA),
        ("y ~ C(h, contr.poly) + offset(w) + (1 | g)", DATA),
        ("y ~ x + t", NEW),
    ],
)
def test_linear_models(formula, X):
    model = _fit(MixedLinearRegressor, formula)
    [made] = _run(model, X)
    assert made.dtype == np.float64
    np.testing.assert_allclose(made[:, 0], model.predict(X), rtol=1e-9)


def test_dependent_columns():
    data = DATA.assign(twice=2.0 * DATA.x)
    for rank_deficient in ("drop", "minimum_norm"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = MixedLinearRegressor(
                "y ~ x + twice + (1 | g)", rank_deficient=rank_deficient
            ).fit(data)
        np.testing.assert_allclose(_run(model, data)[0][:, 0], model.predict(data), rtol=1e-9)


@pytest.mark.parametrize(
    ("formula", "settings"),
    [
        ("count ~ x + f + (1 | g)", {"family": "poisson"}),
        ("count ~ x + (1 | g)", {"family": "negative_binomial"}),
        ("count ~ (1 | h)", {"family": "poisson", "link": "sqrt"}),
        ("exp(y) ~ x + (1 | g)", {"family": "gamma", "link": "log"}),
        ("one ~ x + (1 | g)", {"family": "binomial", "link": "cloglog"}),
        ("w ~ x + (1 | h)", {"family": "gamma", "link": "inverse"}),
        ("w ~ x + (1 | h)", {"family": "gaussian", "link": "identity"}),
    ],
)
def test_generalised_models(formula, settings):
    model = _fit(MixedGLMRegressor, formula, **settings)
    np.testing.assert_allclose(_run(model, NEW)[0][:, 0], model.predict(NEW), rtol=1e-9)


@pytest.mark.parametrize("response", ["z", "one"])
def test_classifiers(response):
    model = _fit(MixedLogisticClassifier, f"{response} ~ x + f + (1 | g)")
    label, probabilities = _run(model, NEW)
    np.testing.assert_allclose(probabilities, model.predict_proba(NEW), rtol=1e-9)
    assert (label == model.predict(NEW)).all()


def test_what_the_fit_does_not_know_is_nan():
    model = _fit(MixedLinearRegressor, "y ~ x + f + (1 | g)", unseen_groups="nan")
    X = DATA[:4].assign(
        x=[np.nan, 1.0, 1.0, 1.0], f=["a", "new", "a", "a"], g=["s1", "s1", "new", "s1"]
    )
    [made] = _run(model, X)
    assert np.isnan(made[:, 0]).tolist() == [True, True, True, False]
    classes = _fit(MixedLogisticClassifier, "z ~ x + f + (1 | g)")
    label, probabilities = _run(classes, X)
    assert label.tolist()[:2] == ["", ""]
    assert np.isnan(probabilities).all(axis=1).tolist() == [True, True, False, False]


def test_groups_beside_the_table():
    model = MixedLinearRegressor().fit(DATA[["x", "t"]], DATA.y, groups=DATA.g)
    [made] = _run(model, DATA.assign(groups=DATA.g))
    expected = model.predict(DATA[["x", "t"]], groups=DATA.g)
    np.testing.assert_allclose(made[:, 0], expected, rtol=1e-9)


def test_pipelines_of_numbers():
    from skl2onnx import to_onnx

    X = DATA[["x", "t", "h"]].to_numpy(float)
    model = make_pipeline(StandardScaler(), MixedLinearRegressor("x0*x1 + x2"))
    model.fit(X, DATA.y)
    onnx.register()
    graph = to_onnx(model, X[:1], target_opset={"": 17, "ai.onnx.ml": 3})
    [made] = runtime.InferenceSession(graph.SerializeToString()).run(None, {"X": X})
    np.testing.assert_allclose(made[:, 0], model.predict(X), rtol=1e-6)


@pytest.mark.parametrize(
    ("formula", "what"),
    [
        ("y ~ bs(t, df=4) + (1 | g)", r"'bs\(t, df=4\)'"),
        ("y ~ log(w) + (1 | g)", r"'log\(w\)'"),
        ("y ~ x + offset(log(w)) + (1 | g)", r"log\(w\)"),
        ("y ~ s(t, k=5) + (1 | g)", r"the smooth term s\(t\)"),
        ("y ~ x + (scale(x) | g)", r"'scale\(x\)'"),
        ("y ~ x + exp(x + t)", r"'exp\(x \+ t\)'"),
        ("y ~ 1", "a model that reads no column"),
    ],
)
def test_what_has_no_place_in_a_graph(formula, what):
    model = _fit(MixedLinearRegressor, formula)
    with pytest.raises(ValueError, match=rf"{what}.* has no place in an ONNX graph"):
        onnx.to_onnx(model)


def test_links_without_an_operator():
    model = _fit(MixedLogisticClassifier, "z ~ x + (1 | g)", link="probit")
    with pytest.raises(ValueError, match="the link 'probit' has no place"):
        onnx.to_onnx(model)


def test_models_that_are_none_of_these():
    with pytest.raises(ValueError, match="got GeneralizedInverseRegressor"):
        onnx.to_onnx(GeneralizedInverseRegressor().fit(DATA[["x"]], DATA.y))
    with pytest.raises(NotFittedError):
        onnx.to_onnx(MixedLinearRegressor("y ~ x + (1 | g)"))
    levels = pd.to_datetime("2024-01-01") + pd.to_timedelta(DATA.h, "D")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLinearRegressor("y ~ x + (1 | day)").fit(DATA.assign(day=levels))
    with pytest.raises(ValueError, match="'day' with levels of the type 'datetime64'"):
        onnx.to_onnx(model)


def test_infinite_covariates_give_no_number():
    new = DATA.head(3).assign(x=[np.inf, -np.inf, 0.5])
    model = _fit(MixedLinearRegressor, "y ~ x + (1 | g)", missing="drop")
    [made] = _run(model, new)
    np.testing.assert_allclose(made.ravel(), model.predict(new), rtol=1e-6)
    model = _fit(MixedLogisticClassifier, "z ~ x + (1 | g)", missing="drop")
    assert np.isnan(_run(model, new)[1][:2]).all()


def test_means_beyond_all_numbers_are_those_of_predict():
    model = _fit(MixedGLMRegressor, "count ~ x + (1 | g)", family="poisson")
    new = DATA.head(2).assign(x=[1e5, -1e5])
    [made] = _run(model, new)
    np.testing.assert_allclose(made.ravel(), model.predict(new), rtol=1e-6, atol=0)


def test_inputs_have_the_names_of_the_columns():
    data = DATA.assign(**{"a b": DATA.x, "a_b": DATA.t})
    model = MixedLinearRegressor("y ~ `a b` + a_b + (1 | g)").fit(data)
    [made] = _run(model, data)
    np.testing.assert_allclose(made.ravel(), model.predict(data), rtol=1e-6)
    model = MixedLinearRegressor("y ~ prediction + (1 | g)").fit(DATA.assign(prediction=DATA.t))
    with pytest.raises(ValueError, match="output of the graph is called 'prediction'"):
        onnx.to_onnx(model)


def test_levels_of_long_integers_are_not_rounded():
    data = DATA.assign(h=10**18 + DATA.h, y=DATA.y + DATA.h)
    model = MixedLinearRegressor("y ~ x + (1 | h)").fit(data)
    [made] = _run(model, data)
    np.testing.assert_allclose(made.ravel(), model.predict(data), rtol=1e-6)
    model = MixedLinearRegressor("y ~ C(h) + (1 | g)").fit(data)
    with pytest.raises(ValueError, match="integers that double precision rounds"):
        onnx.to_onnx(model)


LEVELS = {
    "numbers": lambda h: h.astype(float),
    "missing": lambda h: h.astype(float).mask(h == 1),
    "nullable": lambda h: h.astype("Int64").mask(h == 1),
    "no integers": lambda h: h + 0.5,
    "infinite": lambda h: h.astype(float).mask(h == 1, np.inf),
    "booleans": lambda h: h == 1,
}


@pytest.mark.filterwarnings("ignore::skmixed.UnseenGroupsWarning")
@pytest.mark.parametrize("kind", LEVELS)
def test_levels_that_are_integers_at_the_fit(kind):
    model = MixedLinearRegressor("y ~ x + (1 | h)").fit(DATA.assign(y=DATA.y + DATA.h))
    new = DATA.assign(h=LEVELS[kind](DATA.h))
    [made] = _run(model, new)
    np.testing.assert_allclose(made.ravel(), model.predict(new), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::skmixed.UnseenGroupsWarning")
@pytest.mark.parametrize("none", [None, np.nan, pd.NA])
def test_a_missing_level_is_no_level_called_so(none):
    names = dict(
        zip([f"s{i}" for i in range(12)], ["None", "nan", "<NA>", *"abcdefghi"], strict=True)
    )
    data = DATA.assign(g=DATA.g.map(names))
    model = MixedLinearRegressor("y ~ x + (1 | g)").fit(data)
    new = data.assign(g=data.g.astype(object).where(data.index % 2 == 0, none))
    [made] = _run(model, new)
    np.testing.assert_allclose(made.ravel(), model.predict(new), rtol=1e-6)
