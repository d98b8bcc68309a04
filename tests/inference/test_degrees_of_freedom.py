"""Degrees of freedom and tests against lmerTest, pbkrtest and a dense computation.

The references (tests/data/inference) hold both packages' numbers and those of a dense n x n
computation with analytic derivatives. lmerTest differentiates numerically: 1e-5 is allowed there.
"""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor
from skmixed.inference.degrees_of_freedom import (
    joint_test,
    kenward_roger_covariance,
    row_tests,
    satterthwaite_df,
)
from skmixed.inference.fixed_effects import AVERAGE_NOTE, DIGITS_NOTE
from skmixed.linalg import marginal as marginal_inverse
from skmixed.models.second_order import SecondOrder

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


def test_satterthwaite_at_the_fits_own_optimum(reference):
    """Degrees of freedom move to first order with theta: the record goes to the minimum."""
    record = SecondOrder.of(reference.fit)
    df = satterthwaite_df(record, reference.rows(np.eye(len(record.Phi))))
    np.testing.assert_allclose(df, reference.ref["oracle"]["df_satterthwaite"], rtol=1e-6)


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


@pytest.mark.parametrize("method", METHODS)
def test_tests_do_not_depend_on_the_rows_that_span_a_hypothesis(reference_of, method):
    """F never does, nor Kenward-Roger's degrees of freedom; a row given twice counts once."""
    reference = reference_of("cake_unbalanced_factors_reml")
    L = reference.rows(reference.ref["anova_L"]["III"]["temperature"])
    A = np.random.default_rng(0).normal(size=(len(L) + 1, len(L)))
    plain, mixed = (joint_test(reference.record, reference.beta, rows, method)
                    for rows in (L, A @ L))  # fmt: skip
    assert mixed.df_num == plain.df_num == len(L)
    assert mixed.F == pytest.approx(plain.F, rel=1e-8)
    if method == "kenward_roger":
        assert mixed.df_den == pytest.approx(plain.df_den, rel=1e-8)


def test_exact_tests_of_a_balanced_split_plot(reference_of):
    """The strata of the analysis of variance: 42 for whole plots, 210 within them."""
    reference = reference_of("cake_splitplot_reml")
    for method in METHODS:
        for term, df in (("recipe", 42), ("temperature", 210), ("recipe:temperature", 210)):
            L = reference.rows(reference.ref["anova_L"]["III"][term])
            found = joint_test(reference.record, reference.beta, L, method)
            assert found.df_den == pytest.approx(df, rel=1e-6)


def test_one_row_is_the_square_of_t(reference_of):
    reference = reference_of("scots_crossed_reml")
    L = reference.rows(np.eye(5)[2:3])
    for method in ("satterthwaite", "kenward_roger", "residual", "asymptotic"):
        t = row_tests(reference.record, reference.beta, L, method)
        F = joint_test(reference.record, reference.beta, L, method)
        assert F.F == pytest.approx(t.t[0] ** 2, rel=1e-9)
        assert F.df_den == pytest.approx(t.df[0], rel=1e-9)
        assert F.p_value == pytest.approx(t.p_value[0], rel=1e-7)


def test_a_singular_fit_drops_the_term_for_satterthwaite_and_keeps_it_for_kenward_roger(
    reference_of,
):
    reference = reference_of("dyestuff2_singular_reml")
    one = np.eye(1) @ reference.fit.basis.to_coef
    found = {m: row_tests(reference.record, reference.beta, one, m).df[0] for m in METHODS}
    assert found == pytest.approx({"satterthwaite": 29.0, "kenward_roger": 5.0})


def test_other_degrees_of_freedom(reference_of):
    reference = reference_of("sleepstudy_corr_ml")
    L = reference.rows(np.eye(2))
    assert (row_tests(reference.record, reference.beta, L, "residual").df == 178).all()
    assert np.isinf(row_tests(reference.record, reference.beta, L, "asymptotic").df).all()


def test_no_rows_are_no_test(reference_of):
    reference = reference_of("sleepstudy_corr_ml")
    found = joint_test(reference.record, reference.beta, np.zeros((0, 2)))
    assert found.df_num == 0 and np.isnan([found.F, found.df_den, found.p_value]).all()
    assert joint_test(reference.record, reference.beta, np.zeros((2, 2))).df_num == 0


def test_what_cannot_be_had_says_why(reference_of):
    ml = reference_of("sleepstudy_corr_ml")
    with pytest.raises(ValueError, match="fit it with reml=True"):
        row_tests(ml.record, ml.beta, np.eye(2), "kenward_roger")
    with pytest.raises(ValueError, match=r"ddf must be one of satterthwaite.*'kr'"):
        joint_test(ml.record, ml.beta, np.eye(2), "kr")
    with pytest.raises(ValueError, match="ask for them before pickling"):
        SecondOrder.of(pickle.loads(pickle.dumps(ml.fit)))
    saved = pickle.loads(pickle.dumps(ml.record))
    np.testing.assert_allclose(saved.hessian, ml.record.hessian, rtol=1e-9, atol=1e-9)


def _latin_square(ratio):
    """Six rows, six columns, three treatments twice in each, and effects of rows and columns."""
    rng = np.random.default_rng(3)
    g, h = np.divmod(np.arange(36), 6)
    data = pd.DataFrame({"g": g, "h": h, "f": np.array(["p", "q", "r"])[(g + h) % 3]})
    data["y"] = ratio * (rng.normal(size=6)[g] + rng.normal(size=6)[h]) + rng.normal(size=36)
    return data


@pytest.mark.parametrize("method", ["satterthwaite", "kenward_roger"])
@pytest.mark.parametrize("ratio", [100.0, 3000.0])
def test_crossed_effects_far_larger_than_the_residuals(ratio, method):
    """The F test of a Latin square is exact: 36 - 1 - 5 - 5 - 2 degrees of freedom."""
    data = _latin_square(ratio)
    table = MixedLinearRegressor("y ~ f + (1 | g) + (1 | h)").fit(data).anova(ddf=method)
    assert table.loc["f", "den_df"] == pytest.approx(23, rel=1e-5)
    assert not table.notes
    centred = data["y"] - data["y"].mean()
    squares = {name: (centred.groupby(data[name]).mean() ** 2).sum() for name in "fgh"}
    rest = (centred**2).sum() - 12 * squares["f"]
    rest -= 6 * squares["g"] + 6 * squares["h"]
    assert table.loc["f", "F"] == pytest.approx(12 * squares["f"] / 2 / (rest / 23), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_lost_digits_are_told(method):
    """Where records that rounding tells apart differ tables say so, or have no number."""
    model = MixedLinearRegressor("y ~ f + (1 | g) + (1 | h)").fit(_latin_square(1.0).iloc[:31])
    fit = model.result_
    record = fit.second_order
    assert record.twin is None
    for shift, lost in ((1e-12, False), (1e-4, False), (0.2, True)):
        theta = record.theta * (1.0 + shift)
        twin = SecondOrder.at(fit.objective, fit.objective.evaluate(theta).factor, theta)
        fit.__dict__["second_order"] = replace(record, twin=twin)
        found = model.coefficients(ddf=method)
        told = [note.startswith(DIGITS_NOTE.partition("{")[0]) for note in found.notes]
        assert told == [True] * (shift > 1e-9)
        assert found["df"].isna().any() == found["p_value"].isna().any() == lost
        assert bool(model.anova(ddf=method).notes) == (shift > 1e-9)
        if method == "satterthwaite":
            text = " ".join(str(model.summary()).split())
            assert (DIGITS_NOTE.partition("{")[0] in text) == (shift > 1e-9)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_kenward_roger_of_a_covariance_with_large_and_small_variances():
    """The same model on rotated covariates: its covariance is diagonal in one, not in the other."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame(rng.normal(size=(60, 3)), columns=["x", "w", "y"])
    data["g"] = np.arange(60) % 8
    data["a"], data["b"] = (data["x"] + data["w"]) / 2**0.5, (data["x"] - data["w"]) / 2**0.5
    for name in "ab":
        data["y"] += rng.normal(size=8)[data["g"]] * data[name]
    turn, found = np.array([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5, []
    for names, R in (("a + b", np.eye(2)), ("x + w", turn)):
        fit = MixedLinearRegressor(f"y ~ a + b + (0 + {names} | g)").fit(data).result_
        T = np.linalg.cholesky(R @ np.diag([1e5, 0.1]) @ R.T)
        theta = fit.layout.from_user_theta(T[[0, 1, 1], [0, 0, 1]])
        record = SecondOrder.at(fit.objective, fit.objective.evaluate(theta).factor, theta)
        found.append(row_tests(record, record.beta, fit.basis.to_coef, "kenward_roger"))
    np.testing.assert_allclose(found[1].df, found[0].df, rtol=0.05)
    np.testing.assert_allclose(found[1].std_error, found[0].std_error, rtol=0.05)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_average_information_at_a_singular_fit_is_told(monkeypatch):
    model = MixedLinearRegressor("y ~ f + (1 | g) + (1 | h)").fit(_latin_square(0.0))
    assert model.result_.is_singular
    assert AVERAGE_NOTE not in model.coefficients(ddf="kenward_roger").notes
    monkeypatch.setattr(marginal_inverse, "machine_memory", lambda: -1.0)
    model.fit(_latin_square(0.0))
    assert AVERAGE_NOTE in model.coefficients(ddf="kenward_roger").notes
    assert AVERAGE_NOTE not in model.coefficients(ddf="satterthwaite").notes
