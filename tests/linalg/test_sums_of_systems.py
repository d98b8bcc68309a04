"""Cross-products read back from a system, whatever its storage."""

import numpy as np
import pytest

from skmixed.linalg.system import Group, Pattern, System


def _groups(kind, rng, n):
    a = rng.integers(0, 300, n)
    one = np.broadcast_to(1.0, (n, 1))
    slopes = np.column_stack([np.ones(n), rng.normal(size=n)])
    if kind == "alone":
        return [Group(a, slopes, 300)]
    if kind == "nested":
        return [Group(a // 20, slopes, 15), Group(a, one, 300)]
    if kind == "dense core":
        return [Group(rng.integers(0, 5, n), slopes, 5), Group(a, slopes, 300)]
    if kind == "sparse core":
        return [Group(a, slopes, 300), Group(rng.integers(0, 250, n), slopes, 250),
                Group(a // 20, one, 15)]  # fmt: skip
    return [Group(rng.integers(0, 3, n), one, 3), Group(rng.integers(0, 4, n), slopes, 4)]


@pytest.mark.parametrize("kind", ["alone", "nested", "dense core", "sparse core", "small"])
def test_sums_of_a_system_make_it_again(kind):
    rng = np.random.default_rng(0)
    n = 600
    groups, X, y = _groups(kind, rng, n), rng.normal(size=(n, 3)), rng.normal(size=n)
    pattern = Pattern.build(groups, 3, chain_from=100)
    system = pattern.system(rng.uniform(0.5, 2.0, n), X, y)
    assert (kind == "sparse core") == pattern._plan.is_sparse
    again = System.of_sums(system.without_rows().sums(), chain_from=100)
    T = [np.tril(rng.normal(size=(g.n_columns,) * 2)) for g in groups]
    one, two = system.factor(T), again.factor(T)
    assert one.pwrss == pytest.approx(two.pwrss, rel=1e-9)
    assert one.log_det_u == pytest.approx(two.log_det_u, rel=1e-9)
    for x, z in zip(one.mode.levels(), two.mode.levels(), strict=True):
        np.testing.assert_allclose(x, z, atol=1e-9)


@pytest.mark.parametrize("kind", ["alone", "nested", "dense core", "sparse core", "small"])
def test_sums_among_more_levels_are_those_of_these_levels(kind):
    rng = np.random.default_rng(0)
    n = 600
    groups, X, y = _groups(kind, rng, n), rng.normal(size=(n, 3)), rng.normal(size=n)
    sums = Pattern.build(groups, 3, chain_from=100).system(None, X, y).sums()
    sizes = [g.n_levels + 7 for g in groups]
    places = [rng.permutation(size)[: g.n_levels] for g, size in zip(groups, sizes, strict=True)]
    T = [np.tril(rng.normal(size=(g.n_columns,) * 2)) for g in groups]
    one = System.of_sums(sums, chain_from=100).factor(T)
    two = System.of_sums(sums.among(places, sizes).complete(), chain_from=100).factor(T)
    assert one.log_det_u == pytest.approx(two.log_det_u, rel=1e-9)
    for x, z, at in zip(one.mode.levels(), two.mode.levels(), places, strict=True):
        np.testing.assert_allclose(x, z[:, at], atol=1e-9)
        assert np.count_nonzero(z) == np.count_nonzero(x)


def test_pairs_that_are_zero_by_chance_leave_the_factor_as_it_is():
    """Slopes that are 0 in all rows of a school: its pupils meet it, and no product tells."""
    rng = np.random.default_rng(0)
    pupil = np.repeat(np.arange(60), 4)
    school = pupil // 5
    x = np.where(school == 3, 0.0, rng.normal(size=240))[:, None]
    groups = [Group(school, np.broadcast_to(1.0, (240, 1)), 12), Group(pupil, x, 60)]
    X, y = rng.normal(size=(240, 2)), rng.normal(size=240)
    sums = Pattern.build(groups, 2).system(None, X, y).sums()  # nested: no matrix is dense
    dense = Pattern.build(groups, 2, chain_from=1000).system(None, X, y)
    T = [np.array([[0.7]]), np.array([[1.3]])]
    expected = dense.factor(T).log_det_u
    for own in (sums, dense.sums()):
        found = System.of_sums(own.complete()).factor(T).log_det_u
        assert found == pytest.approx(expected, rel=1e-9)
