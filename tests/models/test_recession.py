"""Which rows separate: against one linear program per row, and where no program is needed."""

import numpy as np
import pytest
from scipy.optimize import linprog

from skmixed.linalg.rank import independent_columns
from skmixed.models import recession
from skmixed.models.recession import rows_in_recession


def _find(X, side, intercept=0):
    basis = independent_columns(X, None, intercept)
    found = rows_in_recession(X[:, basis.kept], basis.orthonormal(X), side, intercept)
    return np.zeros(len(X), dtype=bool) if found is None else found


def _by_rows(X, side):
    """Rows that some direction moves to their side while no other moves to its wrong one."""
    one, stay = side != 0, X[side == 0]
    A = side[one, None] * X[one]
    equal = {"A_eq": stay, "b_eq": np.zeros(len(stay))} if len(stay) else {}
    found = np.zeros(len(X), dtype=bool)
    for i, a in zip(np.flatnonzero(one), A, strict=True):
        answer = linprog(-a, A_ub=-A, b_ub=np.zeros(len(A)), bounds=(-1, 1), **equal)
        found[i] = -answer.fun > 1e-6
    return found


def _design(kind, rng, n, p):
    if kind == "whole numbers":
        return rng.integers(-2, 3, (n, p)).astype(float)
    if kind == "dummies":
        return np.eye(p + 1)[rng.integers(0, p + 1, n)][:, 1:]
    return rng.normal(size=(n, p))


@pytest.mark.parametrize("kind", ["whole numbers", "dummies", "continuous"])
@pytest.mark.parametrize("shares", [(0.5, 0, 0.5), (0.6, 0.4, 0), (0.45, 0.1, 0.45)])
def test_the_largest_set_is_that_of_one_program_per_row(kind, shares):
    separated = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        n = rng.integers(5, 25)
        X = np.column_stack([np.ones(n), _design(kind, rng, n, rng.integers(1, 4))])
        X = X[:, independent_columns(X, None, 0).kept]
        side = rng.choice([-1.0, 0.0, 1.0], n, p=shares)
        eta = X @ rng.integers(-1, 2, X.shape[1])
        if seed % 2:  # near a separation, or there
            side = np.where(np.abs(eta) > 0.2, np.sign(eta), side)
        expected = _by_rows(X, side)
        assert np.array_equal(_find(X, side), expected), seed
        separated += expected.any()
    assert separated > 2


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_units_and_order_of_rows_do_not_matter(scale):
    rng = np.random.default_rng(1)
    f, x = rng.integers(0, 4, 300), rng.normal(size=300)
    X = np.column_stack([np.ones(300), f == 1, f == 2, f == 3, x])
    side = np.where(f == 2, -1.0, rng.choice([-1.0, 1.0], 300))
    found = _find(X * [1, 1, scale, 1, 1 / scale], side)
    assert np.array_equal(found, f == 2)
    order = rng.permutation(300)
    assert np.array_equal(_find(X[order], side[order]), found[order])


def test_rows_without_information_neither_hold_nor_move():
    X = np.column_stack([np.ones(6), [0, 0, 0, 1, 1, 1]])
    side = np.array([-1.0, 1, 1, -1, -1, np.nan])
    assert _find(X, side).tolist() == [False, False, False, True, True, False]


def test_a_chain_of_separations():
    """Once the rows beyond 0 are fitted, those at 0 are separated by the second column."""
    x = np.array([-2.0, -1, 0, 0, 0, 0, 1, 2])
    z = np.array([3.0, -5, -2, -1, 1, 2, 4, -7])
    assert _find(np.column_stack([x, z]), np.sign(np.where(x != 0, x, z)), None).all()


def test_many_rows_of_which_few_bind():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(20_000), rng.normal(size=(20_000, 4))])
    eta = X @ [0.2, 1, -1, 0.5, 0]
    assert _find(X, np.sign(eta)).all()
    side = np.sign(eta)
    side[np.argsort(np.abs(eta))[-1]] *= -1
    assert not _find(X, side).any()


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_outcomes_that_overlap_need_no_program(monkeypatch, share):
    def refuse(*args, **kwargs):
        raise AssertionError("a linear program")

    monkeypatch.setattr(recession, "linprog", refuse)
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(5000), rng.normal(size=(5000, 3)), rng.random(5000) < 0.02])
    side = np.where(rng.random(5000) < share, 1.0, -1.0)
    assert not _find(X, side).any()
    counts = np.where(rng.random(5000) < share, 0.0, -1.0)
    assert not _find(X, counts).any()
