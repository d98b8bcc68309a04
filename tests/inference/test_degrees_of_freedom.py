"""Degrees of freedom and tests against lmerTest, pbkrtest and a dense computation.

The references (tests/data/inference) hold both packages' numbers and those of a dense n x n
computation with analytic derivatives. lmerTest differentiates numerically: 1e-5 is allowed there.
"""

import numpy as np
import pytest

from skmixed.inference.degrees_of_freedom import (
    joint_test,
    kenward_roger_covariance,
    row_tests,
    satterthwaite_df,
)

METHODS = ["satterthwaite", "kenward_roger"]


def _skip_unless_reml(reference, method="kenward_roger"):
    if method == "kenward_roger" and not reference.ref["reml"]:
        pytest.skip("Kenward-Roger needs REML")


def test_standard_errors(reference):
    L = reference.rows(np.eye(len(reference.record.Phi)))
    V = reference.record.sigma**2 * L @ reference.record.Phi @ L.T
    expected = np.array(reference.ref["fit"]["vcov"])
    np.testing.assert_allclose(V, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_satterthwaite_of_coefficients(reference):
    L = reference.rows(np.eye(len(reference.record.Phi)))
    df = satterthwaite_df(reference.record, L)
    np.testing.assert_allclose(df, reference.ref["oracle"]["df_satterthwaite"], rtol=1e-6)
    table = reference.ref["coef_table"]["satterthwaite"]
    np.testing.assert_allclose(df, [row["df"] for row in table], rtol=1e-5)


def test_kenward_roger_of_coefficients(reference):
    _skip_unless_reml(reference)
    L = reference.rows(np.eye(len(reference.record.Phi)))
    tests = row_tests(reference.record, reference.beta, L, "kenward_roger")
    oracle = reference.ref["oracle"]
    np.testing.assert_allclose(tests.df, oracle["df_kr"], rtol=1e-6)
    V = reference.record.sigma**2 * L @ kenward_roger_covariance(reference.record) @ L.T
    expected = np.array(oracle["vcov_kr"])
    np.testing.assert_allclose(V, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
    if "kenward_roger" in reference.ref["coef_table"]:
        table = reference.ref["coef_table"]["kenward_roger"]
        np.testing.assert_allclose(tests.df, [row["df"] for row in table], rtol=1e-6)
        np.testing.assert_allclose(tests.p_value, [row["Pr(>|t|)"] for row in table], rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_f_tests_of_terms(reference, method):
    _skip_unless_reml(reference, method)
    tables = reference.ref.get("anova", {})
    for kind in ("I", "II", "III"):
        rows = tables.get(kind, {}).get(method, [])
        for row, L in zip(
            rows, reference.ref["anova_L"][kind].values() if rows else [], strict=True
        ):
            if not L:
                continue
            found = joint_test(reference.record, reference.beta, reference.rows(L), method)
            assert found.df_num == row["NumDF"]
            np.testing.assert_allclose(found.df_den, row["DenDF"], rtol=1e-5)
            np.testing.assert_allclose(found.F, row["F value"], rtol=1e-6)
            np.testing.assert_allclose(found.p_value, row["Pr(>F)"], rtol=1e-4, atol=1e-300)


@pytest.mark.parametrize("method", METHODS)
def test_contrasts_of_several_rows(reference, method):
    _skip_unless_reml(reference, method)
    if "contest_md" not in reference.ref:
        pytest.skip("no joint contrast in this reference")
    contest = reference.ref["contest_md"]
    found = joint_test(reference.record, reference.beta, reference.rows(contest["L"]), method)
    expected = contest["oracle"][method]
    np.testing.assert_allclose(found.df_den, expected["den_df"], rtol=1e-6)
    np.testing.assert_allclose(found.F, expected["F"], rtol=1e-6)
