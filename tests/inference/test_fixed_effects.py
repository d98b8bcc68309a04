"""One record of questions for linear, mixed and generalised models."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skmixed import GeneralizedInverseRegressor, MixedGLMRegressor, MixedLinearRegressor
from skmixed.exceptions import NotEstimableError
from skmixed.inference.fixed_effects import MISSED_NOTE, SINGULAR_NOTE, FixedEffects

METHODS = ("satterthwaite", "kenward_roger")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(size=90), "g": np.repeat(np.arange(9), 10)})
    data["z"] = rng.normal(size=90)
    data["both"] = data["x"] - 2 * data["z"]
    data["y"] = data["x"] + rng.normal(size=9)[data["g"]] + rng.normal(size=90)
    data["n"] = rng.poisson(np.exp(0.3 * data["x"]))
    return data


def mixed(data, fixed="x + z", **settings):
    return MixedLinearRegressor(f"y ~ {fixed} + (1 | g)", **settings).fit(data)


def rows_of(reference, plain_name, L):
    """Rows on the reference's coefficients as rows on all columns of the model's X."""
    names = [plain_name(name) for name in FixedEffects.of(reference.model).names]
    L = np.atleast_2d(np.array(L, dtype=float))
    K = np.zeros((len(L), len(names)))
    K[:, [names.index(plain_name(n)) for n in reference.ref["fit"]["coef_names"]]] = L
    basis = reference.fit.basis
    return K[:, basis.kept] @ basis.combinations.T  # as when the other columns are left out


@pytest.mark.parametrize("method", METHODS)
def test_coefficients_of_the_references(reference, plain_name, method):
    table = reference.ref["coef_table"].get(method)
    if table is None:
        pytest.skip("no such method for this fit")
    p = len(reference.ref["fit"]["coef_names"])
    found = FixedEffects.of(reference.model).row_tests(
        rows_of(reference, plain_name, np.eye(p)), method
    )
    # lmerTest's derivatives are numerical; the dense computation has exact ones
    df = reference.ref["oracle"]["df_satterthwaite" if method == METHODS[0] else "df_kr"]
    np.testing.assert_allclose(found.df, df, rtol=1e-6)
    if reference.ref["weights"] and method == METHODS[1]:
        return  # pbkrtest does without the weights
    for name, own in (("Estimate", found.estimate), ("Std. Error", found.std_error)):
        np.testing.assert_allclose(own, [row[name] for row in table], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.t, [row["t value"] for row in table], rtol=1e-6, atol=1e-9)
    p_values = [row["Pr(>|t|)"] for row in table]
    np.testing.assert_allclose(found.p_value, p_values, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_joint_tests_of_the_references(reference, plain_name, method):
    contest = reference.ref.get("contest_md", {})
    if method not in contest.get("oracle", {}) or method not in reference.ref["coef_table"]:
        pytest.skip("no such test for this fit")
    K = rows_of(reference, plain_name, contest["L"])
    found = FixedEffects.of(reference.model).joint_test(K, method)
    expected = contest["oracle"][method]
    assert found.df_num == expected["num_df"]
    np.testing.assert_allclose(found.df_den, expected["den_df"], rtol=1e-6)
    np.testing.assert_allclose(found.F, expected["F"], rtol=1e-6)


def test_covariance_is_that_of_pbkrtest(reference_of, plain_name):
    reference = reference_of("cake_unbalanced_factors_reml")
    p = len(reference.ref["fit"]["coef_names"])
    K = rows_of(reference, plain_name, np.eye(p))
    found = FixedEffects.of(reference.model).covariance(K, "kenward_roger")
    np.testing.assert_allclose(found, reference.ref["vcov_kr"], rtol=1e-6, atol=1e-9)


def test_defaults(data):
    linear = GeneralizedInverseRegressor(formula="y ~ x + z").fit(data)
    plain = MixedLinearRegressor("y ~ x + z").fit(data)
    general = MixedGLMRegressor("n ~ x + (1 | g)", family="poisson").fit(data)
    asked = [FixedEffects.of(model) for model in (linear, plain, mixed(data), general)]
    found = [own.default_ddf for own in asked]
    assert found == ["residual", "residual", "satterthwaite", "asymptotic"]
    for own in asked[:2]:
        for ddf in (None, "residual", "satterthwaite", "kenward_roger"):
            np.testing.assert_array_equal(own.row_tests(np.eye(3), ddf).df, 87)
    assert np.isinf(asked[2].row_tests(np.eye(3), "asymptotic").df).all()
    np.testing.assert_array_equal(asked[2].row_tests(np.eye(3), "residual").df, 87)


def test_least_squares_of_both_estimators_agree(data):
    linear = FixedEffects.of(GeneralizedInverseRegressor(formula="y ~ x + z").fit(data))
    plain = FixedEffects.of(MixedLinearRegressor("y ~ x + z").fit(data))
    K = np.array([[0, 1, 1.0], [1, 0, 0]])
    for name in ("estimate", "std_error", "t", "p_value"):
        one, other = (getattr(own.row_tests(K), name) for own in (linear, plain))
        np.testing.assert_allclose(one, other, rtol=1e-9)
    one, other = linear.joint_test(K), plain.joint_test(K)
    assert (one.df_num, one.df_den) == (other.df_num, other.df_den) == (2, 87)
    assert one.F == pytest.approx(other.F, rel=1e-9)


def test_methods_that_a_fit_has_not(data):
    general = FixedEffects.of(MixedGLMRegressor("n ~ x + (1 | g)", family="poisson").fit(data))
    with pytest.raises(ValueError, match=r"must be 'asymptotic' here, got 'satter.*z tests are"):
        general.row_tests(np.eye(2), "satterthwaite")
    by_ml = FixedEffects.of(mixed(data, reml=False))
    with pytest.raises(ValueError, match=r"maximum likelihood: fit it with reml=True"):
        by_ml.joint_test(np.eye(3)[1:], "kenward_roger")
    with pytest.raises(ValueError, match=r"ddf must be one of .*did you mean 'kenward_roger'"):
        by_ml.covariance(np.eye(3), "kenward-roger")
    with pytest.raises(ValueError, match="MixedLinearRegressor is not a fitted model"):
        FixedEffects.of(MixedLinearRegressor("y ~ x"))


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.RankDeficiencyWarning")
def test_what_is_not_estimable_says_why(data):
    own = FixedEffects.of(mixed(data, "x + z + both"))
    full = FixedEffects.of(mixed(data))
    assert own.names == ("Intercept", "x", "z", "both")
    assert np.isnan(own.beta).tolist() == [False, False, False, True]
    np.testing.assert_allclose(own.beta[:3], full.beta, rtol=1e-6)
    np.testing.assert_allclose(own.vcov[:3, :3], full.vcov, rtol=1e-6)
    assert np.isnan(own.vcov[3]).all()
    K = np.array([[0, 1, 0, 1.0], [0, 0, 0, 1]])
    rows = own.row_tests(K)
    assert np.isnan(rows.t).tolist() == np.isnan(rows.df).tolist() == [False, True]
    with pytest.raises(NotEstimableError, match="mine: row 1 of K is not estimable: in the data"):
        own.joint_test(K, name="mine")


def test_right_hand_sides_shift_the_hypothesis(data):
    """K beta = rhs is what a response without K beta says of 0."""
    own = FixedEffects.of(mixed(data))
    moved = FixedEffects.of(mixed(data.assign(y=data["y"] - 0.7 * data["x"] + 0.2 * data["z"])))
    K = np.array([[0, 1, 0], [0, 1, 1.0], [0, 2, 1]])
    for method in METHODS:
        one, other = own.joint_test(K, method, rhs=[0.7, 0.5, 1.2]), moved.joint_test(K, method)
        assert one.df_num == other.df_num == 2
        assert one.F == pytest.approx(other.F, rel=1e-6)
        t = own.row_tests(K, method, rhs=[0.7, 0.5, 1.2]).t
        np.testing.assert_allclose(t, moved.row_tests(K, method).t, rtol=1e-6)
    with pytest.raises(ValueError, match="right-hand sides contradict each other"):
        own.joint_test(K, rhs=[0.7, 0.5, 2.0])


def test_pickles_keep_the_record_once_it_is_there(data):
    model = mixed(data)
    early = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match=r"ask for them before pickling, or fit the model again"):
        FixedEffects.of(early).row_tests(np.eye(3))
    z = FixedEffects.of(early).row_tests(np.eye(3), "asymptotic")  # needs no record
    np.testing.assert_allclose(z.std_error, model.standard_errors_, rtol=1e-9)
    expected = FixedEffects.of(model).row_tests(np.eye(3), "kenward_roger")
    late = FixedEffects.of(pickle.loads(pickle.dumps(model)))
    np.testing.assert_allclose(
        late.row_tests(np.eye(3), "kenward_roger").df, expected.df, rtol=1e-9, atol=1e-9
    )


def test_limits_are_those_of_t(data):
    rows = FixedEffects.of(mixed(data)).row_tests(np.eye(3))
    lower, upper = rows.limits(0.9)
    np.testing.assert_allclose((lower + upper) / 2, rows.estimate)
    np.testing.assert_allclose(upper - lower, 2 * stats.t.ppf(0.95, rows.df) * rows.std_error)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_notes_of_fits_that_missed_the_optimum(data):
    assert FixedEffects.of(mixed(data, max_iter=1)).notes("asymptotic") == (MISSED_NOTE,)
    assert FixedEffects.of(mixed(data)).notes() == ()


def test_notes_of_singular_fits(reference_of):
    singular = FixedEffects.of(reference_of("dyestuff2_singular_reml").model)
    assert singular.notes() == singular.notes("kenward_roger") == (SINGULAR_NOTE,)
    assert singular.notes("asymptotic") == ()
    assert FixedEffects.of(reference_of("pastes_nested_reml").model).notes() == ()
