"""How many calls small fits and predictions take: a guard of their cost that no machine moves."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import skmixed
from skmixed import MixedLinearRegressor, UnseenGroupsWarning
from skmixed.datasets import load_machines, load_sleepstudy

FOLDER = str(Path(skmixed.__file__).parent)
SLEEP = "Reaction ~ Days + (Days | Subject)"
MACHINES = "score ~ Machine + (1 | Worker) + (1 | Worker:Machine)"


def _calls(function):
    """Calls of functions of this package."""
    count = 0

    def profile(frame, event, _):
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(FOLDER)

    function()  # what is kept from the first call on
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize(
    ("formula", "load", "most"), [(SLEEP, load_sleepstudy, 1200), (MACHINES, load_machines, 1500)]
)
def test_calls_of_a_fit(formula, load, most):
    frame = load().frame
    assert _calls(lambda: MixedLinearRegressor(formula).fit(frame)) <= most


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("formula", "load", "most"), [(SLEEP, load_sleepstudy, 135), (MACHINES, load_machines, 170)]
)
def test_calls_of_a_prediction(formula, load, most, as_text):
    frame = load().frame
    model = MixedLinearRegressor(formula).fit(frame)
    row = frame.iloc[[3]]
    if as_text:
        row = row.astype(dict.fromkeys(row.select_dtypes("category"), object))
    assert _calls(lambda: model.predict(row)) <= most


def test_calls_do_not_grow_with_rows():
    frame = load_sleepstudy().frame
    model = MixedLinearRegressor(SLEEP).fit(frame)
    many = pd.concat([frame] * 6, ignore_index=True)
    one, all_rows = _calls(lambda: model.predict(frame[:1])), _calls(lambda: model.predict(many))
    assert abs(one - all_rows) <= 10


@pytest.mark.parametrize("kind", [str, object, "string", int])
def test_few_rows_are_read_like_many(kind):
    frame = load_sleepstudy().frame
    frame = frame.assign(Subject=frame["Subject"].astype(str).astype(kind))
    with pytest.warns(UnseenGroupsWarning):  # the first ten rows are of one subject
        model = MixedLinearRegressor(SLEEP).fit(frame[10:])
        alone = model.predict(frame.iloc[[8]])
    together = model.predict(frame)
    np.testing.assert_allclose(alone, together[8], rtol=1e-10)
    apart = [model.predict(frame.iloc[[i]])[0] for i in range(10, 40)]
    np.testing.assert_allclose(apart, together[10:40], rtol=1e-10)
    mixed = model.predict(frame.iloc[8:12])  # of a level that is not known, and of one that is
    np.testing.assert_allclose(mixed, together[8:12], rtol=1e-10)
