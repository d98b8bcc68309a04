"""Numbers in tables: significant digits, common decimals, no needless powers of ten."""

import numpy as np
import pytest

from skmixed.inference.numbers import column, common_decimals, count, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567.0, "1234567"),
        (999999.7, "1000000"),
        (123456.7, "123457"),
        (-24.74, "-24.74"),
        (0.0, "0"),
        (1.5e-7, "1.5e-07"),
        (4e15, "4e+15"),
        (np.nan, "nan"),
        (np.inf, "inf"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_counts():
    assert [count(v) for v in (1234567.0, 12, 12.5, np.inf)] == ["1234567", "12", "12.5", "inf"]


def test_columns_share_decimals_where_that_suits_all_numbers():
    def text(values):
        return column(values, 5, common_decimals(values, 5))

    assert text([612.1, 35.07, 654.94]) == ["612.10", "35.07", "654.94"]
    assert text([24.74, 5922132.6, 25.592]) == ["24.740", "5922133", "25.592"]
    assert text([1234567.0, 24.74, 0.0]) == ["1234567", "24.740", "0"]
    assert text([0.0, 0.0]) == ["0.0", "0.0"]
    assert text([99999.7, 3.2e-7]) == ["100000", "3.2000e-07"]
    assert text([np.nan, 1.5]) == ["", "1.5000"]


@pytest.mark.parametrize("size", 10.0 ** np.arange(-12, 15))
def test_every_number_keeps_four_digits(size):
    values = size * np.array([1.2345, 0.0098764, 321.98, 7.0e4])
    for value, text in zip(values, column(values, 5, common_decimals(values, 5)), strict=True):
        assert float(text) == pytest.approx(value, rel=6e-4)
