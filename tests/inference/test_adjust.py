"""Adjusted p-values and limits against emmeans, and against what must hold."""

import numpy as np
import pytest
from scipy import integrate, stats

from skmixed.inference.adjust import (
    METHODS,
    Family,
    _by_directions,
    _largest_along_directions,
    adjusted_p_values,
    critical_values,
    one_factor,
)

MODES = ("satterthwaite", "asymptotic")


def _number(value):
    return np.nan if value is None else float(value)


def _families(entry, mode):
    """(contrasts of one family, positions) for every family of a table of contrasts."""
    for contrast in entry.get(mode, {}).get("contrasts", []):
        rows = contrast["table"]
        by = [tuple(v for k, v in row.items() if isinstance(v, str) and k != "contrast" and
                    v != "Inf") for row in rows]  # fmt: skip
        for value in dict.fromkeys(by):
            yield contrast, [i for i, b in enumerate(by) if b == value]


@pytest.mark.parametrize("mode", MODES)
def test_against_emmeans(any_reference, mode):
    for entry in any_reference.get("emmeans", []):
        for contrast, at in _families(entry, mode):
            rows = [contrast["table"][i] for i in at]
            statistic = [row.get("t.ratio", row.get("z.ratio")) for row in rows]
            t = np.array([_number(v) for v in statistic])
            df = np.array([_number(row["df"]) for row in rows])
            m = len(rows)
            k = round((1 + np.sqrt(1 + 8 * m)) / 2) if contrast["method"] == "pairwise" else m
            family = Family(t, df, k)
            for method, expected in contrast.get("p_adjusted", {}).items():
                expected = np.array([_number(expected[i]) for i in at])
                found = adjusted_p_values(family, method)
                # R's ptukey is wrong by some 1e-7, more with few degrees of freedom
                atol = 5e-7 if method in ("tukey", "dunnettx") else 1e-12
                np.testing.assert_allclose(found, expected, rtol=1e-6, atol=atol)
            for method, limits in contrast.get("limits", {}).items():
                error = np.array([_number(row["SE"]) for row in rows])
                estimate = np.array([_number(row["estimate"]) for row in rows])
                reach = critical_values(family, method) * error
                lower = np.array([_number(limits["lower"][i]) for i in at])
                # R finds its quantiles of the studentized range to four digits or so
                np.testing.assert_allclose(estimate - reach, lower, rtol=1e-5,
                                           atol=2e-4 * np.nanmax(reach))  # fmt: skip


@pytest.fixture
def family():
    """Five means with equal variances: all ten pairs, some of them far apart."""
    rng = np.random.default_rng(1)
    means = rng.normal(size=5) * 2
    i, j = np.triu_indices(5, 1)
    K = np.eye(5)[i] - np.eye(5)[j]
    V = K @ K.T
    return Family((K @ means) / np.sqrt(2), np.full(10, 12.0), 5, V / 2, 4)


@pytest.mark.parametrize("method", METHODS)
def test_adjusted_p_values_are_not_below_the_plain_ones(family, method):
    if method.startswith("fdr_ts"):
        pytest.skip("two-stage procedures can gain power from the share of true hypotheses")
    found = adjusted_p_values(family, method)
    assert (found >= family.p_value * (1 - 1e-6)).all()
    assert (found <= 1).all()


@pytest.mark.parametrize("method", ["none", "bonferroni", "sidak", "tukey", "dunnettx", "scheffe"])
@pytest.mark.parametrize("df", [4.0, 31.5, np.inf])
def test_limits_agree_with_p_values(family, method, df):
    """At its critical value a contrast has the adjusted p-value 1 - level."""
    family = Family(family.t, np.full(10, df), 5, family.correlation, 4)
    at = critical_values(family, method, 0.9)
    moved = Family(at, family.df, 5, family.correlation, 4)
    np.testing.assert_allclose(adjusted_p_values(moved, method), 0.1, rtol=1e-6)


def test_mvt_of_independent_contrasts_is_sidak_for_normal_statistics():
    t = np.array([0.5, 2.0, 2.5])
    family = Family(t, np.full(3, np.inf), 3, np.eye(3), 3)
    expected = adjusted_p_values(family, "sidak")
    np.testing.assert_allclose(adjusted_p_values(family, "mvt"), expected, atol=1e-4)


@pytest.mark.parametrize("df", [7.0, np.inf])
def test_comparisons_with_a_control_by_quadrature(df):
    """Against SciPy's Dunnett distribution, by simulation of the largest statistic."""
    lam = np.sqrt([0.5, 0.6, 0.2, 0.7])
    R = np.outer(lam, lam)
    np.fill_diagonal(R, 1.0)
    np.testing.assert_allclose(one_factor(R), lam, rtol=1e-9)
    family = Family(np.array([2.4, 1.0, 2.4, -1.0]), np.full(4, df), 5, R, 4)
    rng = np.random.default_rng(0)
    draws = np.abs(rng.multivariate_normal(np.zeros(4), R, size=400_000)).max(axis=1)
    draws /= 1.0 if np.isinf(df) else np.sqrt(rng.chisquare(df, 400_000) / df)
    expected = [(draws > abs(t)).mean() for t in family.t]
    np.testing.assert_allclose(adjusted_p_values(family, "mvt"), expected, atol=4e-3)
    critical = critical_values(family, "mvt", 0.95)
    np.testing.assert_allclose((draws > critical[0]).mean(), 0.05, atol=2e-3)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.7])
def test_two_contrasts_are_bivariate_t(rho):
    """By quadrature given the factor and by directions, against the integrated density."""
    R = np.array([[1.0, rho], [rho, 1.0]])
    law, t = stats.multivariate_t(shape=R, df=9), 1.3
    inside = integrate.dblquad(lambda y, x: law.pdf([x, y]), -t, t, -t, t, epsabs=1e-8)[0]
    family = Family(np.array([t, -t]), np.array([9.0, 9.0]), 3, R, 2)
    np.testing.assert_allclose(adjusted_p_values(family, "mvt"), 1 - inside, atol=1e-7)
    directions = _largest_along_directions(R)
    np.testing.assert_allclose(_by_directions(t, directions, 9.0), inside, atol=1e-4)


@pytest.mark.parametrize("df", [5.0, np.inf])
def test_tukey_by_directions(df):
    """The pairs of means with one variance have four independent directions out of ten."""
    i, j = np.triu_indices(5, 1)
    K = np.eye(5)[i] - np.eye(5)[j]
    directions = _largest_along_directions(K @ K.T / 2)
    assert directions[0] == 4
    for t in (1.0, 2.5, 4.0):
        expected = stats.studentized_range.cdf(np.sqrt(2) * t, 5, df)
        np.testing.assert_allclose(_by_directions(t, directions, df), expected, atol=1e-4)


def test_a_contrast_that_is_not_estimable_keeps_its_place():
    with_gap = Family(np.array([2.5, np.nan, 1.0]), np.array([9.0, np.nan, 9.0]), 3, np.eye(3), 3)
    for method in METHODS:
        found = adjusted_p_values(with_gap, method)
        assert np.isnan(found[1]) and not np.isnan(found[[0, 2]]).any()
    plain = with_gap.p_value
    np.testing.assert_allclose(adjusted_p_values(with_gap, "bonferroni")[0], 3 * plain[0])
    np.testing.assert_allclose(adjusted_p_values(with_gap, "holm")[0], 3 * plain[0])
    assert np.isnan(critical_values(with_gap, "tukey")[1])


def test_nothing_estimable_is_nothing_adjusted():
    nothing = Family(np.full(2, np.nan), np.full(2, np.nan), 2, np.eye(2), 1)
    for method in METHODS:
        assert np.isnan(adjusted_p_values(nothing, method)).all()
        assert np.isnan(critical_values(nothing, method)).all()


def test_unknown_method_names_the_known_ones(family):
    with pytest.raises(ValueError, match=r"adjust must be one of none, bonferroni.*'turkey'"):
        adjusted_p_values(family, "turkey")
