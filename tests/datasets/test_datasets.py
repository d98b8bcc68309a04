"""The bundled data agree with the published ones, as R holds them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from skmixed import datasets

LEVELS = json.loads((Path(__file__).parents[1] / "data" / "lme4" / "levels.json").read_text())

# nrow(x) and colSums(Filter(is.numeric, x)) in R 4.2.2 with lme4 1.1-31, mlmRev 1.0-8 and
# nlme 3.1-162; tos is age - 0.5.
FACTS = {
    "dyestuff": (30, {"Yield": 45825}),
    "dyestuff2": (30, {"Yield": 169.968}),
    "pastes": (60, {"strength": 3603.2}),
    "penicillin": (144, {"diameter": 3308}),
    "cake": (270, {"angle": 8673, "temp": 54000}),
    "cbpp": (56, {"incidence": 99, "size": 842}),
    "sleepstudy": (180, {"Reaction": 53731.4205, "Days": 810}),
    "early": (309, {"cog": 31709, "age": 463.5, "tos": 309}),
    "scotssec": (3435, {"verbal": -7542, "attain": 19506, "social": 23512}),
    "machines": (54, {"score": 3221.1}),
    "insteval": (73421, {"y": 235369}),
    "verbagg": (7584, {"Anger": 151704}),
    "grouseticks": (403, {"TICKS": 2567, "HEIGHT": 186283}),
    "orange": (35, {"age": 32275.0, "circumference": 4055.0}),
    "theoph": (132, {"Wt": 9185.0, "Dose": 610.61, "Time": 778.09, "conc": 654.78}),
    "loblolly": (84, {"height": 2718.61, "age": 1092.0}),
    "indometh": (66, {"time": 190.5, "conc": 39.06}),
    "dnase": (176, {"conc": 546.77734364, "density": 126.572}),
    "co2": (84, {"conc": 36540.0, "uptake": 2285.9}),
    "soybean": (412, {"Time": 17990.0, "weight": 2621.210619}),
    "wheat2": (224, {"yield": 5718.05, "latitude": 6097.4}),
}


def _load(name, **options):
    return getattr(datasets, f"load_{name}")(**options)


@pytest.mark.parametrize("name", FACTS)
def test_rows_and_sums(name):
    frame = _load(name).frame
    rows, sums = FACTS[name]
    assert len(frame) == rows
    for column, total in sums.items():
        assert frame[column].sum() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("name", FACTS)
def test_every_column_is_numeric_or_a_factor_with_text_levels(name):
    frame = _load(name).frame
    assert not frame.isna().any(axis=None)
    for column in frame.columns:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            assert all(type(level) is str for level in frame[column].cat.categories)
        else:
            assert pd.api.types.is_numeric_dtype(frame[column])


@pytest.mark.parametrize("name", LEVELS)
def test_levels_are_in_the_published_order(name):
    frame = _load(name).frame
    for column, levels in LEVELS[name].items():
        assert frame[column].cat.categories.to_list() == levels


@pytest.mark.parametrize("name", FACTS)
def test_data_and_target_make_up_the_frame(name):
    bunch = _load(name)
    X, y = _load(name, return_X_y=True)
    pd.testing.assert_frame_equal(X, bunch.data)
    pd.testing.assert_series_equal(y, bunch.target)
    assert bunch.feature_names == X.columns.to_list()
    assert bunch.target_names == [y.name]
    assert set(bunch.feature_names + bunch.target_names) == set(bunch.frame.columns)
    assert len(bunch.feature_names) + 1 == bunch.frame.shape[1]


@pytest.mark.parametrize("name", FACTS)
def test_description_names_every_column_and_the_source(name):
    bunch = _load(name)
    described = {line.split()[0] for line in bunch.DESCR.splitlines() if line.strip()}
    assert set(bunch.frame.columns) <= described
    assert "Source: " in bunch.DESCR


def test_every_loader_is_checked():
    assert sorted(f"load_{name}" for name in FACTS) == sorted(datasets.__all__)
