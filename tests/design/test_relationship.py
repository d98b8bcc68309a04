"""Relationship matrices: from pedigrees, from markers, and what is none."""

import numpy as np
import pandas as pd
import pytest

from skmixed import marker_relationship, pedigree_relationship
from skmixed.design.relationship import read_relationships


def read(K):
    return read_relationships({"g": K}, ("g",))["g"]


def test_inbreeding_and_order():
    # full sibs c, d of unrelated parents; e of a mating between them; any order of rows
    pedigree = pd.DataFrame(
        {"animal": ["e", "d", "c"], "sire": ["c", "a", "a"], "dam": ["d", "b", "b"]}
    )
    A = pedigree_relationship(pedigree)
    assert A.loc["c", "d"] == 0.5
    assert A.loc["e", "e"] == 1.25
    assert A.loc["e", "a"] == 0.5
    assert np.linalg.eigvalsh(A)[0] > 0


def test_a_pedigree_without_order_is_an_error():
    loop = pd.DataFrame({"animal": ["a", "b"], "sire": ["b", "a"], "dam": [None, None]})
    with pytest.raises(ValueError, match="its own ancestors"):
        pedigree_relationship(loop)
    with pytest.raises(ValueError, match="an animal of its own"):
        pedigree_relationship(pd.DataFrame({"animal": ["a", "a"], "sire": None, "dam": None}))


def test_markers():
    rng = np.random.default_rng(0)
    M = rng.integers(0, 3, size=(6, 40)).astype(float)
    p = M.mean(axis=0) / 2
    W = M - 2 * p
    G = marker_relationship(M)
    np.testing.assert_allclose(G, W @ W.T / (2 * np.sum(p * (1 - p))))
    M[0, 0] = np.nan
    assert np.isfinite(marker_relationship(M).to_numpy()).all()
    with pytest.raises(ValueError, match="from 0 to 2"):
        marker_relationship([[3.0, 1.0]])
    with pytest.raises(ValueError, match="no marker varies"):
        marker_relationship([[1.0, 2.0], [1.0, 2.0]])


@pytest.mark.parametrize("n_markers", [3, 20])
def test_the_factor_also_of_a_singular_matrix(n_markers):
    W = np.random.default_rng(1).normal(size=(6, n_markers))
    K = pd.DataFrame(W @ W.T)
    own = read(K)
    np.testing.assert_allclose(own.factor @ own.factor.T, K, atol=1e-8)
    assert own.factor.shape[1] == min(6, n_markers)


@pytest.mark.parametrize("n_markers", [3, 20])
@pytest.mark.parametrize("sums", [[1, 2, 3, 1, 1, 5], [0, 2, 0, 1, 1, 5], [0, 0, 0, 2, 0, 0]])
def test_a_factor_that_makes_the_sums_of_rows_diagonal(n_markers, sums):
    W = np.random.default_rng(1).normal(size=(6, n_markers))
    own = read(pd.DataFrame(W @ W.T))
    L = own.diagonalising(np.array(sums, dtype=float))
    np.testing.assert_allclose(L @ L.T, W @ W.T, atol=1e-8)
    assert L.shape[1] == min(6, n_markers)
    gram = (L.T * sums) @ L
    np.testing.assert_allclose(gram, np.diag(gram.diagonal()), atol=1e-8)


def test_a_matrix_with_a_negative_eigenvalue_has_no_factor():
    own = read((np.array([[1.0, 2.0], [2.0, 1.0]]), ["a", "b"]))
    with pytest.raises(ValueError, match="smallest eigenvalue is -1"):
        own.factor  # noqa: B018
    for sums in ([1.0, 1.0], [0.0, 1.0]):
        with pytest.raises(ValueError, match="smallest eigenvalue is -1"):
            own.diagonalising(np.array(sums))


@pytest.mark.parametrize(
    ("K", "message"),
    [
        (np.eye(2), "a DataFrame whose index"),
        (pd.DataFrame(np.eye(2), index=["a", "b"]), "same levels"),
        ((np.eye(2), ["a"]), "shape"),
        ((np.eye(2), ["a", "a"]), "twice"),
        ((np.array([[1.0, 0.5], [0.0, 1.0]]), ["a", "b"]), "not symmetric"),
        ((np.zeros((2, 2)), ["a", "b"]), "largest of 0"),
        ((np.array([[1.0, np.nan], [np.nan, 1.0]]), ["a", "b"]), "missing"),
    ],
)
def test_what_is_no_relationship(K, message):
    with pytest.raises(ValueError, match=message):
        read(K)
    with pytest.raises(ValueError, match="groups in the formula"):
        read_relationships({"h": K}, ("g",))
