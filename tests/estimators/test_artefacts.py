"""Fitted models in files: versions, what skops trusts, what is kept."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skmixed
from skmixed import (
    TRUSTED_TYPES,
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
    MixedNonlinearRegressor,
    ModelVersionWarning,
    RankDeficiencyTransformer,
)
from skmixed.datasets import load_cbpp, load_orange, load_sleepstudy
from skmixed.estimators import _artefact
from skmixed.models import fit as fit_module


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture
def model(sleep):
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)


def _read_as(saved, version, monkeypatch):
    monkeypatch.setattr(_artefact, "__version__", version)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = pickle.loads(saved)
    return made, told


# Versions


def test_a_model_of_another_version_warns_as_scikit_learn_does(model, sleep, monkeypatch):
    saved = pickle.dumps(model)
    made, told = _read_as(saved, "99.0", monkeypatch)
    [warning] = told
    assert issubclass(warning.category, InconsistentVersionWarning)
    assert warning.category is ModelVersionWarning
    text = str(warning.message)
    assert "MixedLinearRegressor was saved by skmixed " + skmixed.__version__ in text
    assert "read by 99.0" in text
    assert warning.message.original_sklearn_version == skmixed.__version__
    np.testing.assert_allclose(made.predict(sleep), model.predict(sleep), rtol=1e-9, atol=1e-9)


def test_the_same_version_is_silent(model):
    for saved in (pickle.dumps(model), pickle.dumps(MixedLinearRegressor())):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pickle.loads(saved)


def test_a_model_without_a_version_warns_and_works(model, sleep):
    old = object.__new__(MixedLinearRegressor)
    with pytest.warns(ModelVersionWarning, match=r"saved by skmixed 0\.1 or earlier"):
        old.__setstate__(vars(model).copy())
    np.testing.assert_allclose(old.predict(sleep), model.predict(sleep), rtol=1e-9, atol=1e-9)


def test_models_that_are_not_fitted_have_a_version_too(monkeypatch):
    classes = RankDeficiencyTransformer, GeneralizedInverseRegressor, MixedNonlinearRegressor
    for saved in [pickle.dumps(cls()) for cls in classes]:
        _, told = _read_as(saved, "0.0", monkeypatch)
        assert [w.category for w in told] == [ModelVersionWarning]


def test_the_parameters_come_back(sleep):
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", tol=1e-9, reml=False)
    assert pickle.loads(pickle.dumps(model)).get_params() == model.get_params()


def test_a_shallow_copy_shares_the_fit(model):
    other = copy.copy(model)
    assert other.result_ is model.result_
    assert copy.deepcopy(model).result_ is not model.result_


# skops


def _fitted():
    sleep, cbpp, orange = (f().frame for f in (load_sleepstudy, load_cbpp, load_orange))
    long = sleep.assign(slow=np.where(sleep.Reaction > 300, "yes", "no"))
    columns = sleep[["Days"]].assign(twice=2.0 * sleep.Days, who="s" + sleep.Subject.astype(str))
    share = "incidence / size ~ period + (1 | herd)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield (
            MixedLinearRegressor("Reaction ~ bs(Days, df=4) + (Days || Subject)").fit(sleep),
            sleep,
        )
        yield MixedLinearRegressor("Reaction ~ s(Days, k=6) + (1 | Subject)").fit(sleep), sleep
        coded = "Reaction ~ C(Days, contr.poly) + ar1(0 + C(Days) | Subject)"
        yield MixedLinearRegressor(coded).fit(sleep), sleep
        yield (
            MixedLinearRegressor("Reaction ~ Days", residual="ar1(Days | Subject)").fit(sleep),
            sleep,
        )
        yield MixedLinearRegressor().fit(sleep[["Days"]], sleep.Reaction), sleep[["Days"]]
        yield MixedGLMRegressor(share, family="binomial", prior_weights="size").fit(cbpp), cbpp
        yield MixedLogisticClassifier("slow ~ scale(Days) + (1 | Subject)").fit(long), long
        curve = "circumference ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"
        yield MixedNonlinearRegressor(curve).fit(orange), orange
        yield GeneralizedInverseRegressor(formula="Reaction ~ C(Days)").fit(sleep), sleep
        yield GeneralizedInverseRegressor().fit(columns, sleep.Reaction), columns
        yield RankDeficiencyTransformer().fit(columns), columns


def _answer(model, X):
    made = model.predict(X) if hasattr(model, "predict") else model.transform(X)
    return made.to_numpy() if isinstance(made, pd.DataFrame) else made


def test_skops_needs_no_trust_beyond_the_estimators():
    sio = pytest.importorskip("skops.io")
    for model, X in _fitted():
        saved = sio.dumps(model)
        assert set(sio.get_untrusted_types(data=saved)) <= set(TRUSTED_TYPES), type(model)
        again = sio.loads(saved, trusted=TRUSTED_TYPES)
        before, after = _answer(model, X), _answer(again, X)
        if before.dtype.kind == "f":
            np.testing.assert_allclose(after, before, rtol=1e-10, atol=1e-10)
        else:
            assert (after == before).all()


def test_skops_reads_pipelines(sleep):
    sio = pytest.importorskip("skops.io")
    model = make_pipeline(
        StandardScaler().set_output(transform="pandas"),
        MixedLinearRegressor("bs(Days, df=4) + (1 | Subject)"),
    )
    X = sleep[["Days", "Subject"]].astype(float)
    model.fit(X, sleep.Reaction)
    saved = sio.dumps(model)
    again = sio.loads(saved, trusted=TRUSTED_TYPES)
    np.testing.assert_allclose(again.predict(X), model.predict(X), rtol=1e-9, atol=1e-9)


def test_skops_names_a_formula_that_is_code(sleep):
    sio = pytest.importorskip("skops.io")
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", trusted=True).fit(sleep)
    saved = sio.dumps(model)
    [code] = set(sio.get_untrusted_types(data=saved)) - set(TRUSTED_TYPES)
    assert code.endswith("PythonFormula")
    again = sio.loads(saved, trusted=[*TRUSTED_TYPES, code])
    np.testing.assert_allclose(again.predict(sleep), model.predict(sleep), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("claim", [True, 1, 2.5, "yes", np.array([1]), {"tuple": [1]}])
def test_a_state_that_only_says_it_is_trusted_is_refused(sleep, claim):
    formula = "Reaction ~ Days + (1 | Subject)"
    for place in ("model", "design"):
        state = MixedLinearRegressor(formula).fit(sleep).__getstate__()
        tree = state["_skmixed_state"]
        (tree if place == "model" else tree["design_spec_"]["state"])["trusted"] = claim
        with pytest.raises(ValueError, match="asks for a formula to be run as Python code"):
            MixedLinearRegressor().__setstate__(state)


def test_the_trusted_types_are_all_estimators():
    public = [getattr(skmixed, name) for name in skmixed.__all__]
    own = {f"{c.__module__}.{c.__qualname__}" for c in public if hasattr(c, "get_params")}
    assert own == set(TRUSTED_TYPES)


# What is in a file


def _types(value, found):
    found.add(type(value))
    if isinstance(value, dict):
        for pair in value.items():
            for own in pair:
                _types(own, found)
    elif isinstance(value, list):
        for own in value:
            _types(own, found)
    return found


def test_the_state_is_plain():
    plain = {type(None), bool, int, float, str, list, dict, np.ndarray}
    for model, _ in _fitted():
        assert _types(model.__getstate__(), set()) <= plain, type(model)


def test_levels_keep_their_kind(sleep):
    sleep = sleep.assign(Subject=sleep.Subject.astype(int))
    day = pd.Timestamp("2024-01-01", tz="Europe/Paris")
    number = sleep.Subject.to_numpy()
    kinds = {
        "text": number.astype(str),
        "integers": number,
        "floats": number / 2,
        "times": day + pd.to_timedelta(number, "D"),
        "dates": [pd.Timestamp(2024, 1, 1).date() + pd.Timedelta(days=int(n)) for n in number],
        "periods": pd.PeriodIndex([pd.Period("2024-01", "M") + int(n) for n in number]),
        "intervals": pd.IntervalIndex.from_arrays(number, number + 1),
        "nullable": pd.array(number, dtype="Int64"),
    }
    for kind, levels in kinds.items():
        data = sleep.assign(Subject=levels)
        model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(data)
        again = pickle.loads(pickle.dumps(model))
        pd.testing.assert_index_equal(
            again.random_effects_["Subject"].index,
            model.random_effects_["Subject"].index,
            obj=kind,
        )
        np.testing.assert_allclose(again.predict(data), model.predict(data), rtol=1e-9, atol=1e-9)
        plain = MixedLinearRegressor.from_dict(model.to_dict())
        np.testing.assert_allclose(plain.predict(data), model.predict(data), rtol=1e-9, atol=1e-9)


# keep_factor


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(fit_module, "_PICKLED_FACTOR_BYTES", 100)


@pytest.mark.parametrize("kind", ["linear", "generalised", "nonlinear"])
def test_keep_factor_keeps_what_intervals_need(kind, sleep, small_files, tmp_path):
    orange = load_orange().frame
    curve = "circumference ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"
    cls, formula, data, more = {
        "linear": (MixedLinearRegressor, "Reaction ~ Days + (1 | Subject)", sleep, {}),
        "generalised": (
            MixedGLMRegressor,
            "Reaction ~ Days + (1 | Subject)",
            sleep,
            {"family": "gamma", "link": "log"},
        ),
        "nonlinear": (MixedNonlinearRegressor, curve, orange, {}),
    }[kind]
    without = cls(formula, **more).fit(data)
    kept = cls(formula, keep_factor=True, **more).fit(data)
    expected = kept.predict(data, return_std=True)[1]
    np.testing.assert_allclose(without.predict(data, return_std=True)[1], expected, rtol=1e-9)
    joblib.dump(kept, tmp_path / "kept.joblib")
    for again in (joblib.load(tmp_path / "kept.joblib"), cls.from_dict(kept.to_dict())):
        np.testing.assert_allclose(again.predict(data, return_std=True)[1], expected, rtol=1e-9)
        again.predict_interval(data)
    for again in (pickle.loads(pickle.dumps(without)), cls.from_dict(without.to_dict())):
        np.testing.assert_allclose(again.predict(data), without.predict(data), rtol=1e-9)
        with pytest.raises(ValueError, match="Fit with keep_factor=True"):
            again.predict(data, return_std=True)


def test_keep_factor_keeps_the_cross_products(sleep):
    data = sleep.assign(slow=np.where(sleep.Reaction > 300, "yes", "no"), first=sleep.index < 1)
    data.loc[0, "slow"] = "yes"
    formula = "slow ~ first + Days + (1 | Subject)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        separated = MixedLogisticClassifier(formula, keep_factor=True).fit(data)
        linear = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", keep_factor=True).fit(
            sleep
        )
    for model in (linear, separated):
        [again] = pickle.loads(pickle.dumps(model)).result_.effects_std("prediction")
        [plain] = type(model).from_dict(model.to_dict()).result_.effects_std("prediction")
        [expected] = model.result_.effects_std("prediction")
        np.testing.assert_allclose(again, expected, rtol=1e-9)
        np.testing.assert_allclose(plain, expected, rtol=1e-9)
    without = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(sleep)
    with pytest.raises(ValueError, match="cross-products of the data, which are not pickled"):
        pickle.loads(pickle.dumps(without)).result_.effects_std("prediction")


def test_keep_factor_is_checked(sleep):
    with pytest.raises(ValueError, match="keep_factor"):
        MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", keep_factor=1).fit(sleep)
