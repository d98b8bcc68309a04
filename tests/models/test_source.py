"""Fingerprints of designs: spaces within spaces, whatever the units, and no row kept."""

import pickle
from itertools import product

import numpy as np
import pandas as pd
import pytest

from skmixed.design import build_design
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.source import _mixed


def _data(n, seed=0):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"x": rng.normal(30, 2, n), "z": rng.normal(size=n)})
    data["k"] = rng.integers(0, 4, n)
    data["g"] = np.sort(rng.integers(0, max(6, n // 20), n))
    data["h"] = rng.integers(0, 8, n)
    data["y"] = rng.normal(size=n)
    return data


def _source(formula, data, **settings):
    return ProfiledDeviance.from_design(build_design(f"y ~ {formula}", data, **settings)).source


FIXED = [
    ("x", "poly(x, 3) + z"),
    ("I(x + z)", "x * z"),
    ("k", "C(k) + x"),
    ("1", "0 + C(k)"),
    ("x", "I(x * 1e8) + z"),
    ("I((x - 5)**2)", "x + I(x**2)"),
]
RANDOM = [
    ("(x || g)", "(x | g)"),
    ("(1 | g) + (1 | g:k)", "(0 + C(k) | g)"),
    ("(x | g)", "(I(x + 1000) | g) + (1 | h)"),
    ("(0 + C(k) | g)", "(C(k) | g)"),
    ("(x + z || g)", "(x * z | g)"),
]


@pytest.mark.parametrize("n", [150, 1000, 40_000])
def test_what_is_contained_is_found(n):
    data = _data(n)
    weights = {"prior_weights": data["h"].to_numpy() + 1.0, "sample_weight": data["k"] + 1}
    for (small, large), (few, many) in zip(FIXED, RANDOM * 2, strict=False):
        inner = _source(f"{small} + {few}", data, **weights)
        outer = _source(f"{large} + {many}", data, **weights)
        assert outer.lacks_fixed(inner) == []
        assert outer.lacks_random(inner) == []


@pytest.mark.parametrize("n", [60, 1000, 40_000])
def test_what_is_not_contained_is_named(n):
    data = _data(n)
    for small, large, names in [
        ("x + z", "z + C(k)", ["x"]),
        ("1", "0 + x + z", ["Intercept"]),
        ("x * z", "x + z", ["x:z"]),
    ]:
        inner, outer = (_source(f"{text} + (1 | g)", data) for text in (small, large))
        assert outer.lacks_fixed(inner) == names
    for small, large, lacking in [
        ("(x | g)", "(x || g) + (1 | h)", [0]),
        ("(1 | g) + (1 | h)", "(1 | g) + (x | g)", [1]),
        ("(1 | h)", "(x + z | g)", [0]),
        ("(z | g)", "(x | g)", [0]),
    ]:
        inner, outer = (_source(f"1 + {text}", data) for text in (small, large))
        assert outer.lacks_random(inner) == lacking


def test_terms_are_the_same_whatever_their_names_and_units():
    data = _data(400).assign(group=lambda d: d["g"].astype(str).radd("level "))
    one = _source("1 + (x | g) + (1 | h)", data)
    other = _source("1 + (1 | h) + (I(2 - x / 7) | group)", data)
    same = [(t, k) for t, k in product(range(2), range(2)) if one.same_term(t, other, k)]
    assert same == [(0, 1), (1, 0)]


@pytest.mark.parametrize("n", [20, 300, 40_000])
def test_no_row_is_kept(n):
    """At most half as many sums as rows, a few kilobytes, and no view of an array of the rows."""
    data = _data(n)
    source = _source("x + z + (x | h)", data)
    arrays = [source.offset, source.columns, source.center, *source.covariances]
    assert len(source.columns) <= n // 2
    for array in arrays:
        while array is not None:
            assert n not in array.shape or n == len(source.covariances[0])
            array = array.base
    assert len(pickle.dumps(source)) < 40_000


def test_fingerprints_are_the_same_on_every_platform():
    """The first numbers of SplitMix64 from seed 0, as its authors publish them."""
    states = np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)
    assert [hex(v) for v in _mixed(states)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]
