"""Contrast families against emmeans' coefficients and against what each stands for."""

import numpy as np
import pytest

from skmixed.inference.contrasts import METHODS, contrast_family


def test_against_emmeans(reference):
    """Rows on the coefficients: family times the rows of the means."""
    seen = 0
    for entry in reference.ref.get("emmeans", []):
        if "|" in entry["spec"] or "satterthwaite" not in entry:
            continue
        means = np.array(entry["linfct"], dtype=float)
        levels = [" ".join(str(v) for v in row.values()) for row in entry["grid"]]
        for contrast in entry["satterthwaite"].get("contrasts", []):
            family = contrast_family(contrast["method"], levels)
            expected = np.array(contrast["linfct"], dtype=float)
            assert len(family.names) == len(expected)
            # emmeans writes a seventh of a mean with 14 digits
            np.testing.assert_allclose(family.K @ means, expected, atol=1e-10)
            seen += 1
    if not seen:
        pytest.skip("no contrast without by= in this reference")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [2, 3, 7])
def test_contrasts_compare_means(method, k):
    family = contrast_family(method, list("abcdefg")[:k])
    np.testing.assert_allclose(family.K.sum(axis=1), 0.0, atol=1e-12)
    assert len(family.names) == len(family.K) == len(set(family.names))
    assert np.linalg.matrix_rank(family.K) == k - 1


@pytest.mark.parametrize("method", METHODS)
def test_one_mean_has_no_contrasts(method):
    assert contrast_family(method, ["only"]).K.shape == (0, 1)


def test_names_and_signs():
    names = {m: contrast_family(m, list("ABC")).names for m in METHODS}
    assert names["pairwise"] == ("A - B", "A - C", "B - C")
    assert names["revpairwise"] == ("B - A", "C - A", "C - B")
    assert names["trt.vs.ctrlk"] == ("A - C", "B - C")
    assert names["consec"] == ("B - A", "C - B")
    assert names["helmert"] == ("B - A", "C - mean(A, B)")
    assert names["eff"] == ("A effect", "B effect", "C effect")
    assert names["poly"] == ("linear", "quadratic")
    assert contrast_family("pairwise", list("AB"), ratio=True).names == ("A / B",)
    assert contrast_family("pairwise", ["x - y", "z"]).names == ("(x - y) - z",)
    assert contrast_family("pairwise", [1, 2]).names == ("1 - 2",)


def test_effects_are_deviations():
    means = np.array([1.0, 2.0, 6.0])
    np.testing.assert_allclose(contrast_family("eff", "abc").K @ means, means - 3.0)
    expected = [1.0 - 4.0, 2.0 - 3.5, 6.0 - 1.5]
    np.testing.assert_allclose(contrast_family("del.eff", "abc").K @ means, expected)


@pytest.mark.parametrize("k", [3, 5, 6, 12])
def test_polynomials_are_orthogonal_integers_without_common_divisor(k):
    K = contrast_family("poly", range(k)).K
    gram = K @ K.T
    np.testing.assert_array_equal(gram, np.diag(gram.diagonal()))
    np.testing.assert_array_equal(np.gcd.reduce(K.astype(int), axis=1), 1)
    assert (K[:, -1] > 0).all()


def test_polynomials_of_the_textbook():
    expected = [[-5, -3, -1, 1, 3, 5], [5, -1, -4, -4, -1, 5], [-5, 7, 4, -4, -7, 5],
                [1, -3, 2, 2, -3, 1], [-1, 5, -10, 10, -5, 1]]  # fmt: skip
    np.testing.assert_array_equal(contrast_family("poly", range(6)).K, expected)


def test_reference_can_be_any_level_or_the_mean_of_several():
    family = contrast_family("trt.vs.ctrl", [10, 20, 30, 40], ref=[20, 30])
    assert family.names == ("10 - mean(20, 30)", "40 - mean(20, 30)")
    np.testing.assert_array_equal(family.K, [[1, -0.5, -0.5, 0], [0, -0.5, -0.5, 1]])


def test_own_contrasts():
    family = contrast_family({"first": [1, -1, 0], "mean": [1 / 3] * 3}, "abc")
    assert family.names == ("first", "mean") and family.adjust == "none"


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("pairwaise", {}, "contrast method must be one of pairwise.*did you mean 'pairwise'"),
        ("trt.vs.ctrl", {"ref": "D"}, "ref must be one of A, B, C, got 'D'"),
        ("trt.vs.ctrl", {"ref": []}, "ref must be one of A, B, C"),
        ("eff", {"ref": "A"}, "ref= belongs to 'trt.vs.ctrl'"),
        ({"short": [1, -1]}, {}, "contrast 'short' needs 3 finite coefficients"),
        ({"wrong": [1, np.nan, -1]}, {}, "contrast 'wrong' needs 3 finite coefficients"),
        ({}, {}, "at least one"),
    ],
)
def test_bad_families(method, options, message):
    with pytest.raises(ValueError, match=message):
        contrast_family(method, list("ABC"), **options)
