"""Outcomes by level against counting by hand."""

import numpy as np
import pandas as pd

from skmixed.design.random import RandomTerm
from skmixed.inference.outcomes import LevelOutcomes, levels_with_variation


def _term(codes, levels):
    return RandomTerm("g", ("Intercept",), np.asarray(codes), levels, np.ones((len(codes), 1)))


def test_counts_by_level():
    term = _term([0, 0, 1, 1, 2, 4], list("abcde"))
    y, trials = np.array([0, 2, 0, 0, 3, 1.0]), np.array([2, 2, 1, 5, 3, 1.0])
    counts = np.array([1, 2, 1, 1, 1, 0.0])
    found = LevelOutcomes.of(term, y, trials, counts, binary=True)
    expected = pd.DataFrame(
        {
            "rows": [3.0, 2.0, 1.0],
            "outcomes": [6.0, 6.0, 3.0],
            "mean": [4 / 6, 0.0, 1.0],
            "kind": ["mixed", "all 0", "all 1"],
        },
        index=pd.Index(list("abc"), name="g"),
    )
    pd.testing.assert_frame_equal(found.table, expected)
    summary = found.summary()
    assert summary[["levels", "all 0", "all 1", "of one row"]].tolist() == [3, 1, 1, 0]
    assert found.one_sided == 2 / 3


def test_counts_that_are_no_successes():
    term = _term([0, 0, 1], ["a", "b"])
    one = np.ones(3)
    found = LevelOutcomes.of(term, np.array([1.0, 4.0, 0.0]), one, one, binary=False)
    assert found.table["mean"].tolist() == [2.5, 0.0]
    assert found.table["kind"].tolist() == ["mixed", "all 0"]
    assert found.summary()["all 1"] == 0


def test_levels_within_which_columns_vary():
    codes = np.array([2, 0, 2, 0, 1])
    X = np.column_stack([np.ones(5), [1, 2, 1, 3, 4], [1e6, 0, 1e6 + 1e-9, 0, 5]])
    assert levels_with_variation(codes, X).tolist() == [0, 1, 0]
