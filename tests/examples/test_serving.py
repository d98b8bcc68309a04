"""The serving example: its model, its answers, its month."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_scotssec

FOLDER = Path(__file__).parents[2] / "examples" / "serving"
PUPIL = {"verbal": 11, "sex": "M", "social": 0, "primary": "1", "second": "9"}


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Modules of the example, beside a model that its first script wrote."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("MODEL", str(tmp_path / "model.json"))
    names = "train", "service", "recondition"
    importlib.import_module("train").main(tmp_path / "model.json")
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


def test_the_service_answers_as_the_model(load):
    pytest.importorskip("fastapi")
    service = load("service")
    model = MixedLinearRegressor(load("train").FORMULA).fit(load_scotssec().frame)
    pupils = [service.Pupil(**PUPIL), service.Pupil(**PUPIL | {"primary": "new"})]
    answers = service.predict(pupils)
    X = load_scotssec().frame[:1][list(PUPIL)]
    assert answers[0].attain == pytest.approx(model.predict(X)[0], rel=1e-9)
    [limits] = model.predict_interval(X, kind="observation")
    assert [answers[0].lower, answers[0].upper] == pytest.approx(list(limits), rel=1e-9)
    assert [answer.unseen for answer in answers] == [[], ["primary"]]
    assert service.predict([]) == []
    assert service.health()["schools"] == {"primary": 148, "second": 19}


@pytest.mark.parametrize(
    "wrong", [{"sex": "X"}, {"verbal": float("nan")}, {"social": "many"}, {"more": 1}]
)
def test_what_is_no_pupil_is_refused(load, wrong):
    pydantic = pytest.importorskip("pydantic")
    pytest.importorskip("fastapi")
    with pytest.raises(pydantic.ValidationError):
        load("service").Pupil(**PUPIL | wrong)


@pytest.mark.skipif(
    not hasattr(MixedLinearRegressor, "condition"), reason="models cannot take in rows"
)
def test_a_month_is_taken_in(load, tmp_path):
    pytest.importorskip("pyarrow")
    frame = load_scotssec().frame
    frame = frame.astype(dict.fromkeys(["primary", "second"], str))
    month = frame[:40].assign(primary=lambda d: "new" + d.primary)
    month.to_parquet(tmp_path / "month.parquet")
    load("recondition").main(*(tmp_path / f for f in ("model.json", "month.parquet", "after.json")))
    read = [
        MixedLinearRegressor.from_dict(json.loads((tmp_path / name).read_text()))
        for name in ("model.json", "after.json")
    ]
    fitted = MixedLinearRegressor(load("train").FORMULA).fit(frame)
    expected = fitted.condition(month).predict(month)
    np.testing.assert_allclose(read[1].predict(month), expected, rtol=1e-8)
    assert read[1].sigma_ == read[0].sigma_
