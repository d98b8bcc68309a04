"""Variance of predictions row by row, against the inverse of the mixed-model equations."""

from dataclasses import replace

import numpy as np
import pytest

from skmixed.linalg import row_norms as module
from skmixed.linalg.cholesky import factor
from skmixed.linalg.row_norms import row_norms


def _new_rows(system, n=31):
    """Codes (some unknown), covariates and X of new rows, and the rows as dense vectors."""
    rng = np.random.default_rng(5)
    codes = [rng.integers(-1, g.n_levels, n) for g in system.plan.groups]
    z = [rng.normal(size=(n, g.n_columns)) for g in system.plan.groups]
    x = rng.normal(size=(n, system.plan.n_tail - 1))
    blocks = []
    for group, code, values in zip(system.plan.groups, codes, z, strict=True):
        block = np.zeros((n, group.n_levels, group.n_columns))
        known = code >= 0
        block[np.flatnonzero(known), code[known]] = values[known]
        blocks.append(block.reshape(n, -1))
    return codes, z, x, np.hstack([*blocks, x])


def _expected(system, rows):
    """v' Lt Omega^-1 Lt' v without the row of y."""
    root = np.linalg.solve(system.L[:-1, :-1], (rows @ system.Lt[:-1, :-1]).T)
    return (root**2).sum(axis=0)


def test_norms(system):
    codes, z, x, rows = _new_rows(system)
    found = row_norms(factor(system.products, system.T), codes, z, x)
    np.testing.assert_allclose(found, _expected(system, rows), rtol=1e-9)


@pytest.mark.parametrize("chunk", [1, 100])
def test_chunks_give_the_same_norms(system, monkeypatch, chunk):
    codes, z, x, rows = _new_rows(system)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    found = row_norms(factor(system.products, system.T), codes, z, x)
    np.testing.assert_allclose(found, _expected(system, rows), rtol=1e-9)


def test_norms_of_a_compact_factor(system):
    """A factor without its cross-products, as it is pickled, gives the same variances."""
    codes, z, x, rows = _new_rows(system)
    compact = factor(system.products, system.T).compact(1 << 30)
    np.testing.assert_allclose(row_norms(compact, codes, z, x), _expected(system, rows), rtol=1e-9)


def test_nested_levels_need_not_match_their_parents(system):
    """A known pupil in a school that is not its own is still the sum of two effects."""
    codes, z, x, rows = _new_rows(system)
    codes = [np.zeros_like(code) for code in codes]
    dense = np.zeros_like(rows)
    begin = 0
    for group, values in zip(system.plan.groups, z, strict=True):
        dense[:, begin : begin + group.n_columns] = values
        begin += group.size
    dense[:, begin:] = x
    found = row_norms(factor(system.products, system.T), codes, z, x)
    np.testing.assert_allclose(found, _expected(system, dense), rtol=1e-9)


def test_norms_beside_a_response_that_is_explained_exactly(system):
    """The last pivot, that of y, is then 0, and no row of y is asked for."""
    codes, z, x, rows = _new_rows(system)
    whole = factor(system.products, system.T)
    core = whole.core.copy()
    core[-1, -1] = 0.0
    found = row_norms(replace(whole, core=core), codes, z, x)
    np.testing.assert_allclose(found, _expected(system, rows), rtol=1e-9)
