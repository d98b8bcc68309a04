"""Sums of batches of rows make the system that all rows make at once."""

from dataclasses import replace

import numpy as np
import pytest

from skmixed.linalg import pattern
from skmixed.linalg.sums import Sums
from skmixed.linalg.system import Effects, Pattern, System


def _sums(system, rows):
    groups = [replace(g, codes=g.codes[rows], z=g.z[rows]) for g in system.plan.groups]
    weights = np.ones(len(system.tail)) if system.weights is None else system.weights
    return Sums.of_rows(groups, weights[rows], system.tail[rows, :-1], system.tail[rows, -1])


def _parts(system):
    """Sums of three batches, one of a single row."""
    n = len(system.tail)
    cuts = np.split(np.arange(n), [n // 3, n // 3 + 1])
    return [_sums(system, rows) for rows in cuts]


def _vectors(groups, n_fixed):
    rng = np.random.default_rng(0)
    random = [rng.normal(size=(g.n_columns, 2, g.n_levels)) for g in groups]
    return Effects(random, rng.normal(size=(n_fixed, 2)))


def _assert_same(found, expected, groups, T):
    v = _vectors(groups, len(expected.fixed_gram))
    np.testing.assert_allclose(found.fixed_gram, expected.fixed_gram, rtol=1e-10, atol=1e-10)
    for own, given in zip(found.times(v).random, expected.times(v).random, strict=True):
        np.testing.assert_allclose(own, given, rtol=1e-10, atol=1e-9)
    one, two = found.factor(T), expected.factor(T)
    for name in ("log_det_u", "log_det_x", "pwrss"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-11)
    pairs = zip(
        one.information(fixed=1.0, response=3.0),
        two.information(fixed=1.0, response=3.0),
        strict=True,
    )
    for own, given in pairs:
        np.testing.assert_allclose(own, given, rtol=1e-9, atol=1e-9)


def _compare(system, chain_from):
    a, b, c = _parts(system)
    groups, tail = system.plan.groups, system.tail
    found = System.of_sums((a + b) + c, chain_from=chain_from)
    made = Pattern.build(groups, tail.shape[1] - 1, chain_from=chain_from)
    _assert_same(found, made.system(system.weights, tail[:, :-1], tail[:, -1]), groups, system.T)


@pytest.mark.parametrize("cost", [1e9, 0.0])
def test_sums_of_batches_make_the_system(system, cost, monkeypatch):
    monkeypatch.setattr(pattern, "_PAIR_COST", cost)
    _compare(system, 0)


def test_sums_make_a_small_system_without_a_chain(system):
    _compare(system, 10_000)


def test_a_change_of_columns_is_that_of_the_rows(system):
    rng = np.random.default_rng(1)
    a, b, c = _parts(system)
    left = [rng.normal(size=(g.n_columns,) * 2) for g in system.plan.groups]
    right = rng.normal(size=(system.tail.shape[1],) * 2)
    groups = [replace(g, z=g.z @ A) for g, A in zip(system.plan.groups, left, strict=True)]
    tail = system.tail @ right
    expected = Pattern.build(groups, tail.shape[1] - 1).system(
        system.weights, tail[:, :-1], tail[:, -1]
    )
    found = System.of_sums((a + (b + c)).mapped(left, right))
    _assert_same(found, expected, groups, system.T)


def test_levels_without_rows_are_left_out(system):
    rows = np.arange(40)
    sums = _sums(system, rows)
    kept = [counts > 0 for counts in sums.counts]
    groups = []
    for group, mask in zip(system.plan.groups, kept, strict=True):
        codes = (np.cumsum(mask) - 1)[group.codes[rows]]
        groups.append(replace(group, codes=codes, z=group.z[rows], n_levels=int(mask.sum())))
    weights = None if system.weights is None else system.weights[rows]
    tail = system.tail[rows]
    made = Pattern.build(groups, tail.shape[1] - 1).system(weights, tail[:, :-1], tail[:, -1])
    _assert_same(System.of_sums(sums.of_levels(kept)), made, groups, system.T)


def test_sums_that_cancel_leave_their_pairs_of_levels():
    from skmixed.linalg.groups import Group
    from skmixed.linalg.sums import PairSums

    one = Group(np.array([0, 1]), np.ones((2, 1)), 2)
    other = Group(np.array([0, 0]), np.array([[1.0], [2.0]]), 1)
    opposite = replace(other, z=-other.z)
    both = PairSums.of_rows(one, other, np.ones(2)) + PairSums.of_rows(one, opposite, np.ones(2))
    np.testing.assert_array_equal(both.values, 0.0)
    np.testing.assert_array_equal(np.transpose(both.levels), [[0, 0], [1, 0]])
