"""Fitted models as dictionaries: they predict the same, and what is no model is an error."""

import contextlib
import copy
import datetime
import json
import pickle
import random
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skmixed import (
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
    ModelVersionWarning,
    RankDeficiencyTransformer,
)
from skmixed.datasets import load_orange, load_sleepstudy
from skmixed.estimators import _records
from skmixed.inference import likelihood_ratio_test


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
            "v": np.tile(np.arange(4), n // 4),
            "id": np.repeat(np.arange(n // 4), 4),
        }
    )
    level = rng.normal(size=12)[data.g.str[1:].astype(int)]
    data["y"] = 1 + data.x + np.sin(4 * data.t) + level + rng.normal(size=n)
    data["z"] = np.where(data.y > data.y.mean(), "yes", "no")
    data["count"] = rng.poisson(np.exp(0.3 * level))
    return data


DATA = _data()
K = pd.DataFrame(0.5 * np.eye(12) + 0.5, index=np.unique(DATA.g), columns=np.unique(DATA.g))
LINEAR = {
    "slopes": {"formula": "y ~ x + (x | g)"},
    "factors": {"formula": "y ~ x*f + b + (1 | g) + (1 | h)"},
    "functions": {
        "formula": "y ~ bs(t, df=4) + poly(x, 2) + center(x):f + scale(t) + (scale(x) || g)"
    },
    "cubic": {"formula": "y ~ cr(t, df=4) + standardize(x) + (1 | g)"},
    "contrasts": {
        "formula": "y ~ C(f, contr.sum)*x + C(h, contr.poly) + C(v, contr.treatment(base=2))"
        " + (0 + f | g)"
    },
    "helmert": {"formula": "y ~ C(f, contr.helmert) + C(h, contr.diff) + (1 | g)"},
    "no intercept": {"formula": "y ~ 0 + f + x + (1 | g)"},
    "smooth": {"formula": "y ~ f + s(t, k=6) + (1 | g)"},
    "smooth by": {"formula": "y ~ f + s(t, by=f, k=6) + (1 | g/h)"},
    "structured": {"formula": "y ~ x + ar1(0 + C(v) | id)"},
    "diagonal": {"formula": "y ~ x + diag(1 + x | g) + (1 | h)"},
    "residual": {"formula": "y ~ x", "residual": "ar1(v | id) * ident(f)"},
    "offset": {"formula": "y ~ offset(log(w)) + x + C(h) + (1 | g)", "prior_weights": "w"},
    "dependent": {"formula": "y ~ x + I(2*x) + (1 | g)"},
    "shortest": {"formula": "y ~ x + I(2*x) + (1 | g)", "rank_deficient": "minimum_norm"},
    "related": {"formula": "y ~ x + (1 | g)", "relationship": {"g": K}},
    "iterative": {"formula": "y ~ x + (1 | g) + (1 | id)", "solver": "iterative"},
    "nan": {"formula": "y ~ x + (1 | g)", "unseen_groups": "nan", "missing": "drop"},
}


def _again(model):
    """The model by way of JSON, which knows no NaN."""
    return type(model).from_dict(json.loads(json.dumps(model.to_dict(), allow_nan=False)))


def _fit(cls, data=DATA, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cls(**settings).fit(data)


def _check_same(model, X, *, rtol=1e-9, atol=1e-9):
    again = _again(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for random_effects in (True, False):
            before = model.predict(X, random_effects=random_effects)
            after = again.predict(X, random_effects=random_effects)
            if before.dtype.kind == "f":
                np.testing.assert_allclose(after, before, rtol=rtol, atol=1e-9)
            else:
                assert (after == before).all()
        before, after = (m.predict_interval(X[:20]) for m in (model, again))
        np.testing.assert_allclose(after, before, rtol=1e-9)
    assert again.get_params().keys() == model.get_params().keys()
    return again


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_predict_the_same(name):
    model = _fit(MixedLinearRegressor, **LINEAR[name])
    new = DATA.sample(frac=1, random_state=1)[:100].assign(x=lambda d: d.x * 0.9)
    _check_same(model, new)


@pytest.mark.parametrize("name", ["slopes", "smooth by", "nan"])
def test_rows_that_the_fit_does_not_know_fare_the_same(name):
    model = _fit(MixedLinearRegressor, **LINEAR[name])
    new = DATA[:20].copy()
    new.loc[:4, "g"] = "never seen"
    if name == "nan":
        new.loc[7, "x"] = np.nan
    again = _check_same(model, new)
    missing = np.isnan(again.predict(new))
    assert missing.any() == (name == "nan")
    bad = DATA[:3].assign(f="q")
    if name == "smooth by":
        with pytest.raises(ValueError) as before:
            model.predict(bad)
        with pytest.raises(ValueError) as after:
            again.predict(bad)
        assert str(after.value) == str(before.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"formula": "count ~ x + s(t, k=6) + (1 | g)", "family": "negative_binomial"},
        {"formula": "count ~ x + f + (1 | g)", "family": "poisson"},
        {"formula": "exp(y) ~ x + (1 | g)", "family": "gamma", "link": "log"},
        {"formula": "count ~ x + (1 | g)", "family": "poisson", "n_agq": 5},
    ],
)
def test_generalised_models_predict_the_same(settings):
    _check_same(_fit(MixedGLMRegressor, **settings), DATA)


def test_classifiers_keep_their_classes():
    model = _fit(MixedLogisticClassifier, formula="z ~ x + f + (1 | g)")
    again = _check_same(model, DATA)
    assert list(again.classes_) == ["no", "yes"]
    np.testing.assert_allclose(
        again.predict_proba(DATA), model.predict_proba(DATA), rtol=1e-9, atol=1e-9
    )


def test_separated_fits_keep_what_is_infinite():
    data = DATA.assign(q=(DATA.index < 10) * 1, z=np.where(DATA.index < 10, "yes", DATA.z))
    model = _fit(MixedLogisticClassifier, data, formula="z ~ q + x + (1 | g)")
    again = _again(model)
    assert np.isinf(again.standard_errors_["q"])
    np.testing.assert_allclose(
        again.predict_proba(data), model.predict_proba(data), rtol=1e-9, atol=1e-9
    )


def test_nonlinear_models_predict_the_same():
    orange = load_orange().frame
    curve = "circumference ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"
    own = "circumference ~ Asym / (1 + exp((xmid - age) / scal)) ~ (Asym | Tree)"
    start = {"Asym": 200, "xmid": 725, "scal": 350}
    for settings in ({"formula": curve}, {"formula": own, "start": start}):
        _check_same(_fit(MixedNonlinearRegressor, orange, **settings), orange)


def test_arrays_and_groups():
    X, y = DATA[["x", "t"]], DATA.y
    plain = MixedLinearRegressor().fit(X.to_numpy(), y)
    np.testing.assert_allclose(_again(plain).predict(X.to_numpy()), plain.predict(X.to_numpy()))
    model = MixedLinearRegressor().fit(X, y, groups=DATA.g)
    after, before = (m.predict(X, groups=DATA.g) for m in (_again(model), model))
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


def test_several_responses():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLinearRegressor("x + (1 | g)").fit(DATA, DATA[["y", "t"]])
    again = _again(model)
    np.testing.assert_allclose(again.predict(DATA), model.predict(DATA), rtol=1e-9, atol=1e-9)
    pd.testing.assert_frame_equal(again.fixed_effects_, model.fixed_effects_)
    d = model.to_dict()
    del d["fitted"]["estimators_"][1]
    with pytest.raises(ValueError, match="are of different responses"):
        MixedLinearRegressor.from_dict(d)
    pickled = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(pickled.predict(DATA), model.predict(DATA), rtol=1e-9, atol=1e-9)


def test_callbacks_stay_behind():
    model = _fit(MixedLinearRegressor, formula="y ~ x + (1 | g)")
    model._skl_callbacks = [print]
    assert "_skl_callbacks" not in vars(_again(model))
    np.testing.assert_allclose(
        _again(model).predict(DATA), model.predict(DATA), rtol=1e-9, atol=1e-9
    )


def test_least_squares_and_the_transformer():
    X = DATA[["x", "f"]].assign(twice=2.0 * DATA.x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [
            GeneralizedInverseRegressor().fit(X, DATA.y),
            GeneralizedInverseRegressor().fit(X, DATA[["y", "t"]]),
            GeneralizedInverseRegressor(formula="y ~ f*C(h) + x + log(w)").fit(DATA),
        ]
        for model, own in zip(models, (X, X, DATA), strict=True):
            again = _again(model)
            np.testing.assert_allclose(again.predict(own), model.predict(own), rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(
                again.predict(own, return_std=True)[1], model.predict(own, return_std=True)[1]
            )
        transformer = RankDeficiencyTransformer().fit(X)
        again = _again(transformer)
    pd.testing.assert_frame_equal(again.transform(X), transformer.transform(X))
    pd.testing.assert_frame_equal(again.report_, transformer.report_)


def test_the_summary_is_the_same_once_it_was_asked_for():
    for settings in ({"formula": "y ~ x*f + (x | g)"}, {"formula": "y ~ x + s(t) + (1 | g)"}):
        model = _fit(MixedLinearRegressor, **settings)
        text = str(model.summary())
        assert "Pr(>|t|)" in text
        assert str(_again(model).summary()) == text
    early = _fit(MixedLinearRegressor, formula="y ~ x + (x | g)")
    assert "No p-values: degrees of freedom need" in str(_again(early).summary())


def test_what_a_read_model_cannot_do_it_says():
    model = _fit(MixedLinearRegressor, formula="y ~ x + (x | g)")
    again = _again(model)
    with pytest.raises(ValueError, match="fit the model again"):
        again.result_.refit(reml=False)
    with pytest.raises(ValueError, match="fit the model again"):
        likelihood_ratio_test(again, _again(_fit(MixedLinearRegressor, formula="y ~ (x | g)")))


def test_a_second_round_gives_the_same_dictionary():
    for settings in (LINEAR["functions"], LINEAR["smooth by"], LINEAR["residual"]):
        d = _again(_fit(MixedLinearRegressor, **settings)).to_dict()
        assert json.dumps(MixedLinearRegressor.from_dict(d).to_dict()) == json.dumps(d)


# What cannot be written


LABELS = {
    "intervals": pd.interval_range(0.0, 5.0),
    "periods": pd.period_range("2020-01", periods=5, freq="M"),
    "timestamps": pd.date_range("2020-01-01", periods=5, tz="Europe/Berlin"),
    "timedeltas": pd.timedelta_range("1h", periods=5),
    "times": pd.Index([datetime.time(h) for h in range(5)], dtype=object),
    "long integers": pd.Index([10**25 + i for i in range(5)], dtype=object),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("formula", ["y ~ x + q + (1 | g)", "y ~ x + (1 | q)"])
def test_labels_of_every_kind(kind, formula):
    data = DATA.assign(q=pd.Categorical.from_codes(DATA.h, LABELS[kind]))
    model = _fit(MixedLinearRegressor, data, formula=formula)
    again = _again(model)
    np.testing.assert_allclose(again.predict(data), model.predict(data), rtol=1e-9, atol=1e-9)
    assert list(again.fixed_effects_.index) == list(model.fixed_effects_.index)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(loaded.predict(data), model.predict(data), rtol=1e-9, atol=1e-9)


def test_other_programs_may_write_the_same_otherwise():
    model = _fit(MixedLinearRegressor, formula="y ~ x + (1 | g)")
    text = json.dumps(model.to_dict(), sort_keys=True, indent=1).replace("1.0,", "1,")
    again = MixedLinearRegressor.from_dict(json.loads(text))
    np.testing.assert_allclose(again.predict(DATA), model.predict(DATA), rtol=1e-9, atol=1e-9)


def test_before_fit():
    with pytest.raises(NotFittedError):
        MixedLinearRegressor("y ~ x + (1 | g)").to_dict()


def test_code_is_not_written():
    trusted = _fit(MixedLinearRegressor, formula="y ~ x + (1 | g)", trusted=True)
    with pytest.raises(ValueError, match=r"trusted=True may run its formula.*Fit with trusted=F"):
        trusted.to_dict()
    own = _fit(
        MixedNonlinearRegressor,
        load_orange().frame,
        formula="circumference ~ mine(age, Asym, xmid, scal) ~ (Asym | Tree)",
        functions={"mine": lambda x, a, m, s: a / (1 + np.exp((m - x) / s))},
        start={"Asym": 200, "xmid": 725, "scal": 350},
    )
    with pytest.raises(ValueError, match=r"functions.*is a function, which is neither numbers nor"):
        own.to_dict()


# What cannot be read


@pytest.fixture(scope="module")
def form():
    sleep = load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ bs(Days, df=4) + (Days | Subject)").fit(sleep)
    return model.to_dict()


def _state(d):
    return d["fitted"]["result_"]["state"]


def _set(path, value):
    def change(d):
        for key in path[:-1]:
            d = d[key]
        d[path[-1]] = value

    return change


_RESULT = ("fitted", "result_", "state")
_SPEC = ("fitted", "design_spec_", "state")
DAMAGES = {
    "no dictionary": (lambda d: d.clear(), "needs a dict with the format 'skmixed.model'"),
    "format": (_set(["format"], "pickle"), "needs a dict with the format"),
    "schema": (_set(["schema"], 2), "has the schema 2 and this version of skmixed .* reads 1"),
    "class": (_set(["estimator"], "MixedGLMRegressor"), "is of the class 'MixedGLMRegressor'"),
    "no params": (lambda d: d.pop("params"), "lacks 'params'"),
    "no tol": (lambda d: d["params"].pop("tol"), "params are not those of the class: 'tol'"),
    "tol": (_set(["params", "tol"], -1), "'tol' parameter"),
    "trusted": (_set(["params", "trusted"], True), "run as Python code"),
    "trusted design": (_set([*_SPEC, "trusted"], True), "run as Python code"),
    "a number": (_set([*_RESULT, "gamma", "values", 0], 1.5), "has changed since it was written"),
    "no checksum": (lambda d: d.pop("checksum"), "lacks 'checksum'"),
    "no result": (lambda d: d["fitted"].pop("result_"), "not fitted|result_"),
    "method": (_set(["fitted", "predict"], 1), "'predict' is nothing that a fit finds"),
    "dunder": (_set(["fitted", "__class__"], "int"), "'__class__' is no attribute of a fit"),
    "shadow": (_set(["fitted", "coef_"], None), "'coef_' is no attribute of a fit"),
    "raw": (_set([*_RESULT, "gamma"], {"raw": 1}), "unknown keys"),
    "record": (_set(["fitted", "result_", "record"], "os.system"), "'os.system', which is unknown"),
    "other record": (_set(["fitted", "result_"], {"record": "Range", "state": {}}), "lacks 'mean'"),
    "missing key": (lambda d: _state(d).pop("sigma"), "is no LMMFit: it lacks 'sigma'"),
    "new key": (_set([*_RESULT, "refit"], 1), "it has 'refit'"),
    "type": (_set([*_RESULT, "sigma"], "big"), "'sigma' holds other things than float"),
    "short": (lambda d: _state(d)["gamma"]["values"].pop(), "4 values and the shape"),
    "shape": (_set([*_RESULT, "gamma", "shape"], [10**12]), "5 values and the shape"),
    "negative shape": (_set([*_RESULT, "gamma", "shape"], [-5]), "5 values and the shape"),
    "dtype": (_set([*_RESULT, "gamma", "array"], "object"), "an array of 'object'"),
    "text": (_set([*_RESULT, "gamma", "values", 0], "x"), "holds a text"),
    "nan": (_set([*_RESULT, "gamma", "values", 0], "nan"), "gamma holds values that are not fini"),
    "bare nan": (_set([*_RESULT, "sigma"], float("nan")), "sigma is nan, which the plain form"),
    "giant": (_set([*_RESULT, "n_params"], 10**400), "an integer of 1329 bits"),
    "giant size": (
        _set([*_RESULT, "layout", "state", "n_theta"], 10**9),
        "n_theta is 1000000000, more than there are numbers",
    ),
    "deep": (
        lambda d: _set([*_RESULT, "gamma"], json.loads("[" * 300 + "]" * 300))(d),
        "nested too deeply",
    ),
    "code": (
        _set([*_SPEC, "fixed", "state", "expr"], "__import__('os').system('exit')"),
        "from_dict",
    ),
    "column": (_set([*_SPEC, "fixed_columns", "tuple", 0], "Nights"), "from_dict"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_told(name, form):
    damage, message = DAMAGES[name]
    d = copy.deepcopy(form)
    damage(d)
    with pytest.raises(ValueError, match=message) as error:
        MixedLinearRegressor.from_dict(d)
    assert str(error.value).startswith("MixedLinearRegressor.from_dict: ")
    assert str(error.value).endswith("that to_dict of the same class has made, unchanged")


@pytest.mark.parametrize("value", [None, [], "text", 1.0])
def test_what_is_no_dictionary(value):
    with pytest.raises(ValueError, match="needs a dict with the format"):
        MixedLinearRegressor.from_dict(value)


def test_another_version_warns(form):
    with pytest.warns(ModelVersionWarning, match="saved by skmixed 0.0.1"):
        MixedLinearRegressor.from_dict(form | {"version": "0.0.1"})


def _paths(tree, path=()):
    yield path
    if isinstance(tree, dict | list):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree[:6])
        for key, own in list(pairs):
            yield from _paths(own, (*path, key))


_STRANGE = [None, True, "nan", "x", -1, 10**30, 1e308, [], {}, {"tuple": [1]}, 2**40, -5.5, 3]


@pytest.mark.parametrize("kind", ["functions", "smooth by", "structured", "residual"])
def test_random_damage_is_a_value_error_or_a_model_that_answers(kind):
    model = _fit(MixedLinearRegressor, **LINEAR[kind])
    text = json.dumps(model.to_dict())
    paths = [path for path in _paths(json.loads(text)) if path]
    rng, refused = random.Random(1), 0
    for _ in range(60):
        d = json.loads(text)
        *above, key = rng.choice(paths)
        inside = d
        for step in above:
            inside = inside[step]
        if rng.random() < 0.3:
            del inside[key]
        else:
            inside[key] = rng.choice(_STRANGE)
        try:
            again = MixedLinearRegressor.from_dict(d)
        except ValueError:
            refused += 1
            continue
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore")
            assert again.predict(DATA[:5]).shape == (5,)
    assert 20 < refused


# The table of records


def test_every_record_is_there():
    for name in _records._PLACES:
        cls = _records.class_of(name)
        assert _records.name_of(cls) == name
