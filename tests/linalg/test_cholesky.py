"""The blocked factor against dense algebra, for every structure of grouping factors."""

import numpy as np
import pytest

from skmixed.linalg.cholesky import NotPositiveDefinite, factor, multiply
from skmixed.linalg.crossproducts import assemble
from skmixed.linalg.pattern import GramPlan
from skmixed.linalg.selected import conditional_blocks, selected_inverse

WEIGHTS = [(1.0, 7.0), (0.0, 7.0), (0.0, 0.0), (1.0, 0.0)]


@pytest.fixture
def blocked(system):
    return factor(system.products, system.T)


def _dense_inverse(system, weight_x, weight_y):
    """L^-T diag(1, weight_x, weight_y) L^-1 in the scale of Omega."""
    inverse = system.inverse_root
    weights = np.ones(len(inverse))
    weights[system.q :] = weight_x
    weights[-1] = weight_y
    return inverse.T @ (weights[:, None] * inverse)


def test_log_determinants_and_residual(system, blocked):
    pivots, q = np.diag(system.L), system.q
    assert blocked.log_det_u == pytest.approx(2 * np.log(pivots[:q]).sum(), rel=1e-10)
    assert blocked.log_det_x == pytest.approx(2 * np.log(pivots[q:-1]).sum(), rel=1e-10)
    assert blocked.pwrss == pytest.approx(pivots[-1] ** 2, rel=1e-11)


def test_mode_solves_the_penalised_system(system, blocked):
    rows = system.Lt.T @ system.A @ system.Lt
    rows[: system.q, : system.q] += np.eye(system.q)
    solution = np.linalg.solve(rows[:-1, :-1], rows[:-1, -1])
    expected = np.append(system.Lt[:-1, :-1] @ solution, -1.0)
    np.testing.assert_allclose(system.flat(blocked.mode)[:, 0], expected, atol=1e-10)


def test_scores_are_the_weighted_residuals_by_level(system, blocked):
    mode = system.flat(blocked.mode)
    scores = system.flat(blocked.scores)[: system.q]
    np.testing.assert_allclose(scores, -(system.A @ mode)[: system.q], atol=1e-9)


def test_multiply(system, blocked):
    a = np.random.default_rng(0).normal(size=(len(system.A), 3))
    product = multiply(system.products, system.parts(a))
    np.testing.assert_allclose(system.flat(product), system.A @ a, atol=1e-10)
    core = multiply(system.products, system.parts(a), rows="core")
    np.testing.assert_allclose(core, product[-1], atol=1e-10)


def test_quadratic_forms(system, blocked):
    """a' Z' P Z a, P = V^-1 - V^-1 X (X' V^-1 X)^-1 X' V^-1 and V = W^-1 + Z Lambda Lambda' Z'."""
    a = np.random.default_rng(1).normal(size=(len(system.A), 3))
    a[system.q :] = 0.0
    parts = system.parts(a)
    X, Z = system.tail[:, :-1], system.Z
    V = Z @ system.Lt[: system.q, : system.q]
    V = V @ V.T + np.diag(np.ones(len(X)) if system.weights is None else 1 / system.weights)
    VX = np.linalg.solve(V, X)
    P = np.linalg.inv(V) - VX @ np.linalg.solve(X.T @ VX, VX.T)
    Za = Z @ a[: system.q]
    found = blocked.quadratic_forms(parts, multiply(system.products, parts))
    np.testing.assert_allclose(found, Za.T @ P @ Za, atol=1e-8)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_selected_inverse_on_the_pattern(system, blocked, weights):
    dense = system.Lt @ _dense_inverse(system, *weights) @ system.Lt.T
    plan, inverse = system.plan, selected_inverse(blocked, *weights)
    first = sum(group.size for group in plan.groups[: plan.n_chain])
    blocks, begin = list(system.diagonal_blocks(dense)), 0
    for i, group in enumerate(plan.groups[: plan.n_chain]):
        rows = dense[begin : begin + group.size, first:][:, plan.border_slice(i)]
        rows = rows.reshape(group.n_levels, group.n_columns, -1)
        np.testing.assert_allclose(inverse.own[i].transpose(2, 0, 1), blocks[i], atol=1e-9)
        np.testing.assert_allclose(inverse.border[i].transpose(2, 0, 1), rows, atol=1e-9)
        begin += group.size
    lower = np.tril_indices(len(dense) - first)
    np.testing.assert_allclose(inverse.core[lower], dense[first:, first:][lower], atol=1e-9)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_information_is_the_sum_of_diagonal_blocks(system, blocked, weights):
    """information T = sum over levels of the blocks of A Lt S, for S the weighted inverse."""
    dense = system.A @ system.Lt @ _dense_inverse(system, *weights)
    information = selected_inverse(blocked, *weights).information
    blocks = system.diagonal_blocks(dense)
    for found, T, block in zip(information, system.T, blocks, strict=True):
        np.testing.assert_allclose(found @ T, block.sum(axis=0), atol=1e-8)


@pytest.mark.parametrize("size", [0.0, 1e-9])
def test_information_where_a_factor_is_singular(system, size):
    """The blocks of Z' P Z do not need T^-1: they exist where T is zero."""
    T = [np.tril(np.full_like(t, size)) for t in system.T]
    found = selected_inverse(factor(system.products, T), 1.0, 7.0).information
    X, y = system.tail[:, :-1], system.tail[:, -1]
    W = np.ones(len(X)) if system.weights is None else system.weights
    WX = W[:, None] * X
    P = np.diag(W) - WX @ np.linalg.solve(X.T @ WX, WX.T)
    Py = P @ y
    dense = system.Z.T @ (P - 7.0 * np.outer(Py, Py) / (y @ Py)) @ system.Z
    for block, expected in zip(found, system.diagonal_blocks(dense), strict=True):
        np.testing.assert_allclose(block, expected.sum(axis=0), rtol=1e-5, atol=1e-6)


def test_conditional_blocks(system, blocked):
    dense = system.Lt @ _dense_inverse(system, 0.0, 0.0) @ system.Lt.T
    found = conditional_blocks(blocked)
    for block, expected in zip(found, system.diagonal_blocks(dense), strict=True):
        np.testing.assert_allclose(block.transpose(2, 0, 1), expected, atol=1e-9)


def test_exact_response_leaves_no_residual(system):
    tail = system.tail.copy()
    tail[:, -1] = 0.0
    assert (
        factor(assemble(system.plan, system.weights, tail[:, :-1], tail[:, -1]), system.T).pwrss
        == 0.0
    )


def test_dependent_columns_have_no_factor(system):
    tail = system.tail.copy()
    tail[:, 1] = 0.0
    with pytest.raises(NotPositiveDefinite):
        factor(assemble(system.plan, system.weights, tail[:, :-1], tail[:, -1]), system.T)


def test_compact_factor_keeps_nothing_of_the_rows(system, blocked):
    compact = blocked.compact(1 << 30)
    assert compact.products.chain == ()
    assert compact.products.core.size == 0
    assert blocked.compact(0) is None
    np.testing.assert_allclose(compact.core, blocked.core, rtol=1e-9, atol=1e-9)


def test_plan_finds_the_structure(system):
    assert isinstance(system.plan, GramPlan)
    nested = [g.n_levels for g in system.plan.groups[: system.plan.n_chain]]
    assert nested == sorted(nested, reverse=True)
