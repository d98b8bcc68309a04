"""Cross-products by blocks: against dense algebra, and their structure."""

import numpy as np

from skmixed.linalg.cholesky import multiply
from skmixed.linalg.groups import Group
from skmixed.linalg.pattern import GramPlan


def test_assemble_equals_the_dense_product(system):
    unit = system.parts(np.eye(len(system.A)))
    np.testing.assert_allclose(system.flat(multiply(system.products, unit)), system.A, atol=1e-10)


def test_without_rows_keeps_the_products(system):
    unit = system.parts(np.eye(len(system.A)))
    slim = system.products.without_rows()
    assert all(len(group.codes) == 0 for group in slim.plan.groups)
    np.testing.assert_allclose(system.flat(multiply(slim, unit)), system.A, atol=1e-10)


def _group(codes, s=1):
    levels, codes = np.unique(codes, return_inverse=True)
    return Group(codes, np.ones((len(codes), s)), len(levels))


def test_nested_factors_form_a_chain():
    pupil = np.arange(60) % 30
    groups = [_group(pupil // 10), _group(pupil), _group(pupil // 5)]
    plan = GramPlan.build(groups, 2)
    assert plan.n_chain == 3
    assert plan.order == (1, 2, 0)
    assert plan.q_core == 0


def test_crossed_factors_stay_in_the_core():
    subject, item = np.divmod(np.arange(60), 6)
    plan = GramPlan.build([_group(item), _group(subject)], 2)
    assert (plan.n_chain, plan.order, plan.q_core) == (1, (1, 0), 6)


def test_the_larger_block_is_eliminated_first():
    """12 levels of 2 effects outweigh 20 levels of 1."""
    rng = np.random.default_rng(0)
    plan = GramPlan.build([_group(np.arange(240) % 20), _group(rng.permutation(240) % 12, 2)], 2)
    assert plan.order == (1, 0)
