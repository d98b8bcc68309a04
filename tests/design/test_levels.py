"""Which level of the fit a new one is: the value decides, not the dtype."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.design.levels import find_levels, level_kind

DAYS = pd.date_range("2020-01-01", periods=3)
TENTHS = np.array([0.1, 0.2, 0.3])
SAME = {
    "booleans and integers": ([False, True], [0, 1]),
    "booleans and floats": ([False, True], [0.0, 1.0]),
    "objects of booleans": (pd.Index([False, True], dtype=object), [0, 1]),
    "single and double precision": (TENTHS.astype(np.float32), TENTHS),
    "integers and single precision": ([1, 2, 3], np.array([1, 2, 3], np.float32)),
    "widths of integers": (np.array([1, 2], np.int8), np.array([1, 2], np.uint64)),
    "decimals": ([1, 2], [Decimal(1), Decimal(2)]),
    "text dtypes": (["a", "b"], pd.Index(["a", "b"], dtype="string")),
    "days as periods": (DAYS, DAYS.to_period("D")),
    "days as dates": (DAYS, pd.Index([day.date() for day in DAYS], dtype=object)),
    "units of time": (DAYS, DAYS.as_unit("s")),
    "hours as periods": (DAYS, DAYS.to_period("h")),
    "time zones": (DAYS.tz_localize("UTC"), DAYS.tz_localize("UTC").tz_convert("Asia/Tokyo")),
}
APART = {
    "zones and none": (DAYS, DAYS.tz_localize("UTC")),
    "months and days": (DAYS, DAYS.to_period("M").unique()),
    "intervals and what they hold": (pd.IntervalIndex.from_breaks(DAYS), DAYS[:2]),
    "values in between": ([1, 2], [1.5, 2.5]),
}


@pytest.mark.parametrize(("levels", "own"), SAME.values(), ids=SAME)
def test_equal_values_match_both_ways(levels, own):
    levels, own = pd.Index(levels), pd.Index(own)
    expected = np.arange(len(levels))[::-1]
    np.testing.assert_array_equal(find_levels(levels, own[::-1]), expected)
    np.testing.assert_array_equal(find_levels(own, levels[::-1]), expected)
    assert level_kind(levels) == level_kind(own)


@pytest.mark.parametrize(("levels", "own"), APART.values(), ids=APART)
def test_other_values_do_not(levels, own):
    levels, own = pd.Index(levels), pd.Index(own)
    assert (find_levels(levels, own) == -1).all()
    assert (find_levels(own, levels) == -1).all()


def test_narrowing_does_not_merge_levels():
    """Levels that single precision cannot tell apart stay apart."""
    levels = pd.Index([1.0, 1.0 + 1e-12])
    assert find_levels(levels, pd.Index(np.array([1.0], np.float32))).tolist() == [0]


def test_dates_before_the_timestamps_of_nanoseconds():
    levels = pd.Index([datetime.date(1066, 10, 14), datetime.date(1415, 10, 25)], dtype=object)
    assert find_levels(levels, levels[::-1]).tolist() == [1, 0]


@pytest.mark.parametrize("offset", [2**63, 2**64 - 10])
def test_integers_beyond_the_signed_ones(offset):
    keys = np.array([0, 1, 2, 1], np.uint64) + np.uint64(offset)
    design = build_design("y ~ 1 + (1 | g)", {"y": np.arange(4.0), "g": keys})
    assert design.random[0].codes.tolist() == [0, 1, 2, 1]
    assert [int(level) for level in design.random[0].levels] == [offset, offset + 1, offset + 2]


def test_half_precision_levels():
    groups = np.array([0.5, 1.5, 0.5, 1.5], np.float16)
    design = build_design("y ~ 1 + (1 | g)", {"y": np.arange(4.0), "g": groups})
    new = design.spec.new({"g": [1.5, 0.5, 2.5]})
    assert new.random[0].codes.tolist() == [1, 0, -1]
