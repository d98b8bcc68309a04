"""Letters share exactly what does not differ."""

from itertools import combinations

import numpy as np
import pytest

from skmixed.inference.letters import compact_letters


@pytest.mark.parametrize("k", [2, 5, 9])
@pytest.mark.parametrize("seed", range(10))
def test_means_share_a_letter_where_they_do_not_differ(k, seed):
    rng = np.random.default_rng(seed)
    different = rng.random(k * (k - 1) // 2) < rng.random()
    letters = compact_letters(different, rng.normal(size=k))
    for (i, j), differs in zip(combinations(range(k), 2), different, strict=True):
        assert bool(set(letters[i]) & set(letters[j])) != differs


def test_means_in_order_have_few_letters():
    """Differences that grow with the distance need one letter for every stretch."""
    k = 8
    different = [j - i > 2 for i, j in combinations(range(k), 2)]
    letters = compact_letters(different, np.arange(k, dtype=float))
    assert letters == ["a", "ab", "abc", "bcd", "cde", "def", "ef", "f"]


def test_the_smallest_mean_has_the_first_letter():
    assert compact_letters([True], [2.0, 1.0]) == ["b", "a"]


def test_unknown_means_have_none():
    assert compact_letters([False, False, True], [1.0, np.nan, 3.0]) == ["a", "", "a"]
    assert compact_letters([False], [np.nan, np.nan]) == ["", ""]


def test_many_means_have_names_for_all_letters():
    k = 60
    letters = compact_letters([True] * (k * (k - 1) // 2), np.arange(k, dtype=float))
    assert len(set(letters)) == k
