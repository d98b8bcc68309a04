import numpy as np
import pytest

from skmixed.design.random import RandomTerm, cell_digits, combine_codes, find_cells, radix_key


@pytest.mark.parametrize("sizes", [[4, 3], [3, 2, 5], [2_000_000, 3_000_000]])
def test_combined_codes_number_the_observed_cells_in_order(sizes):
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, min(size, 6), 50) for size in sizes]
    joint, cells = combine_codes(codes, sizes)
    rows = list(zip(*codes, strict=True))
    observed = sorted(set(rows))
    assert [observed[code] for code in joint] == rows
    assert list(zip(*cell_digits(cells, sizes), strict=True)) == observed


def test_unknown_rows_and_cells_have_code_minus_one():
    codes, sizes = [np.array([0, 1, -1, 1]), np.array([2, 0, 1, -1])], [2, 3]
    joint, cells = combine_codes(codes, sizes)
    np.testing.assert_array_equal(joint, [0, 1, -1, -1])
    new = radix_key([np.array([0, 0, 1]), np.array([2, 1, 0])], sizes)
    np.testing.assert_array_equal(find_cells(new, cells), [0, -1, 1])


def test_codes_are_not_written_to():
    a, b = np.array([0, 1, 1]), np.array([1, 0, 1])
    combine_codes([a, b], [2, 2])
    np.testing.assert_array_equal(a, [0, 1, 1])
    np.testing.assert_array_equal(b, [1, 0, 1])


def test_too_many_cells():
    codes = [np.array([0])] * 3
    with pytest.raises(ValueError, match="too many cells"):
        combine_codes(codes, [3_000_000] * 3)


def test_sizes_of_a_term():
    term = RandomTerm("g", ("Intercept", "x"), np.zeros(5, int), np.arange(3), np.ones((5, 2)))
    assert (term.n_levels, term.n_effects) == (3, 6)
