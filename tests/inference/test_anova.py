"""Tests by term of mixed models: lmerTest, car, and what must not matter."""

import numpy as np
import pandas as pd
import pytest

from skmixed import GeneralizedInverseRegressor, MixedGLMRegressor, MixedLinearRegressor
from skmixed.exceptions import RankDeficiencyWarning
from skmixed.inference.anova import ALIASED_NOTE, EMPTY_NOTE, anova_of_terms
from skmixed.inference.fixed_effects import SINGULAR_NOTE

TYPES = {"I": 1, "II": 2, "III": 3}
COLUMNS = {"sum_sq": "Sum Sq", "mean_sq": "Mean Sq", "num_df": "NumDF", "F": "F value"}


@pytest.fixture(scope="module")
def general(json_of, table_of):
    """Fits of the references of generalised models."""
    fits = {}

    def fitted(name):
        if name not in fits:
            ref = json_of(name)
            family, data = ref["family"], table_of(ref)
            model = MixedGLMRegressor(ref["formula"].replace("r2 ~", "answer ~"), family=family)
            if "r2" in data:
                data["answer"] = (data["r2"] == "Y").astype(float)
            fits[name] = ref, model.fit(data), data
        return fits[name]

    return fitted


@pytest.mark.parametrize("method", ["satterthwaite", "kenward_roger"])
@pytest.mark.parametrize("type", TYPES)
def test_tables_of_lmertest(reference, plain_name, type, method):
    ref = reference.ref.get("anova", {}).get(type, {})
    if not ref.get(method) or (reference.ref["weights"] and method == "kenward_roger"):
        pytest.skip("no such table")
    found = anova_of_terms(reference.model, TYPES[type], method)
    found.index = [plain_name(name) for name in found.index]
    # lmerTest's derivatives are numerical; the dense computation has exact ones
    exact = {row["term"]: row for row in ref["oracle"]}
    name_of_df = "den_df_kr" if method == "kenward_roger" else "den_df_satterthwaite"
    for row in ref[method]:
        own, term = found.loc[plain_name(row["term"])], row["term"]
        if "rankdef" in reference.ref["id"] and term == "temp" and type != "I":
            assert own["num_df"] == 0  # lmerTest tests the coefficient that it happened to keep
            assert np.isnan([own["F"], own["p_value"]]).all()
            continue
        for name, theirs in COLUMNS.items():
            assert own[name] == pytest.approx(row[theirs], rel=1e-6), name
        assert own["den_df"] == pytest.approx(exact[term][name_of_df], rel=1e-6)
        assert own["p_value"] == pytest.approx(row["Pr(>F)"], rel=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "glmm_cbpp_binomial",
        "glmm_cbpp_slopefree_poisson",
        "glmm_grouseticks_poisson",
        "glmm_verbagg_binomial",
    ],
)
def test_wald_tables_of_car(name, general, plain_name):
    ref, model, _ = general(name)
    for type, theirs in ((2, "II"), (3, "III_sum")):
        found = anova_of_terms(model, type)
        found.index = [plain_name(name) for name in found.index]
        for row in ref["anova"][theirs]:
            own = found.loc[plain_name(row["term"])]
            # the covariance is from differences of the gradient, theirs of the deviance
            assert own["chi2"] == pytest.approx(row["Chisq"], rel=2e-4)
            assert own["df"] == row["Df"]
            p_value = row.get("Pr(>Chisq)", row.get("p"))
            assert own["p_value"] == pytest.approx(p_value, rel=1e-2)


def test_type_1_of_a_generalised_model_adds_up(general):
    """Sequential Wald tests are a decomposition of the joint test of all terms."""
    _, model, _ = general("glmm_grouseticks_poisson")
    beta, vcov = model.fixed_effects_.to_numpy()[1:], model.vcov_.to_numpy()[1:, 1:]
    found = anova_of_terms(model, 1)
    assert found["chi2"].sum() == pytest.approx(beta @ np.linalg.solve(vcov, beta), rel=1e-8)
    assert found.loc["YEAR:cHEIGHT", "chi2"] == pytest.approx(
        anova_of_terms(model, 3).loc["YEAR:cHEIGHT", "chi2"], rel=1e-8
    )


@pytest.mark.parametrize("coding", ["contr.sum", "contr.helmert", "contr.poly"])
def test_coding_does_not_matter(coding, reference_of):
    reference = reference_of("cake_unbalanced_covariate_reml")
    formula = reference.ref["formula"].replace("recipe * temp", f"C(recipe, {coding}) * temp")
    other = MixedLinearRegressor(formula).fit(reference.table)
    for type in (1, 2, 3):
        expected = anova_of_terms(reference.model, type)
        found = anova_of_terms(other, type)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_prior_weights_change_no_hypothesis(reference_of):
    """Weights of 2 for all rows are another sigma and nothing else."""
    reference = reference_of("cake_unbalanced_factors_reml")
    data = reference.table.assign(w=2.0)
    twice = MixedLinearRegressor(reference.ref["formula"], prior_weights="w").fit(data)
    uneven = data.assign(w=np.where(np.arange(len(data)) % 3, 1.0, 1.3))
    third = MixedLinearRegressor(reference.ref["formula"], prior_weights="w").fit(uneven)
    for type in (1, 2, 3):
        expected = anova_of_terms(reference.model, type)
        np.testing.assert_allclose(anova_of_terms(twice, type)[["den_df", "F"]],
                                   expected[["den_df", "F"]], rtol=1e-5)  # fmt: skip
    # rows of type 2 are those of the unweighted cross-products, whatever the weights
    moments = third.result_.source.moments
    rows = third.result_.basis.rows
    gram = reference.model.result_.basis.rows
    np.testing.assert_allclose(
        (moments.root @ rows).T @ (moments.root @ rows), gram.T @ gram, rtol=1e-8, atol=1e-10
    )


def test_sample_weights_are_rows(reference_of):
    reference = reference_of("cake_unbalanced_covariate_reml")
    data, counts = reference.table, 1 + np.arange(len(reference.table)) % 2
    X, y = data.drop(columns="angle"), data["angle"]
    formula = reference.ref["formula"].split("~")[1].strip()
    weighted = MixedLinearRegressor(formula).fit(X, y, sample_weight=counts)
    again = np.repeat(np.arange(len(data)), counts)
    repeated = MixedLinearRegressor(formula).fit(X.iloc[again], y.iloc[again])
    for type in (1, 2, 3):
        np.testing.assert_allclose(
            anova_of_terms(weighted, type), anova_of_terms(repeated, type), rtol=1e-5
        )


def test_least_squares_has_the_sums_of_squares_of_general_linear_models():
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"a": rng.choice(list("uvw"), 60), "b": rng.choice(list("st"), 60)})
    data["x"] = rng.normal(size=60)
    data["y"] = rng.normal(size=60) + (data["a"] == "u")
    model = MixedLinearRegressor("y ~ a * b + a:x").fit(data)
    for type in (1, 2, 3):
        found = anova_of_terms(model, type)
        full = GeneralizedInverseRegressor(formula="y ~ a * b + a:x").fit(data).anova(type)
        full = full.drop("Residuals")
        np.testing.assert_allclose(found["sum_sq"], full["sum_sq"], rtol=1e-8)
        np.testing.assert_allclose(found["F"], full["F"], rtol=1e-8)
        assert (found["num_df"] == full["df"]).all() and (found["den_df"] == 51).all()


@pytest.mark.parametrize("shift", [0.0, 2e3, 1e7])
def test_a_shift_of_covariates_loses_no_term(shift):
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"t": np.arange(60) % 10 + shift, "g": np.arange(60) // 10})
    data["u"] = (data["t"] - shift) ** 2
    data["y"] = rng.normal(size=60) + rng.normal(size=6)[data["g"]] + 0.1 * data["u"]
    model = MixedLinearRegressor("y ~ t + u + (1 | g)").fit(data)
    for type in (1, 2, 3):
        assert anova_of_terms(model, type)["num_df"].tolist() == [1, 1]


def test_notes_tell_what_was_lost(reference_of):
    empty = anova_of_terms(reference_of("cake_emptycell_reml").model)
    assert empty.notes[0] == EMPTY_NOTE
    lost = anova_of_terms(reference_of("cake_rankdef_reml").model, 3)
    assert [note.startswith(ALIASED_NOTE[:20]) for note in lost.notes] == [True]
    assert "Left out as combinations" in str(lost) and "Left out" in lost._repr_html_()
    assert anova_of_terms(reference_of("early_singular_reml").model).notes == (SINGULAR_NOTE,)
    assert anova_of_terms(reference_of("pastes_nested_reml").model).notes == ()


def test_a_coding_that_lumps_levels_is_taken_as_it_is(reference_of):
    reference = reference_of("cake_splitplot_reml")
    formula = "angle ~ C(recipe, contr.custom([[1], [0], [-1]])) + temperature + (1 | replicate)"
    found = anova_of_terms(MixedLinearRegressor(formula).fit(reference.table))
    assert found["num_df"].tolist() == [1, 5]


def test_other_types_are_an_error(reference_of):
    model = reference_of("pastes_nested_reml").model
    with pytest.raises(ValueError, match="types 1, 2 and 3, got type=4"):
        anova_of_terms(model, 4)


def test_a_model_of_an_intercept_has_an_empty_table(reference_of):
    found = anova_of_terms(reference_of("dyestuff2_singular_reml").model)
    assert found.shape == (0, 6)


def test_a_model_without_fixed_effects_has_an_empty_table(reference_of):
    model = MixedLinearRegressor("Yield ~ 0 + (1 | Batch)")
    model.fit(reference_of("dyestuff2_singular_reml").table)
    for type in (1, 2, 3):
        found = anova_of_terms(model, type)
        assert found.shape == (0, 6) and set(found.dtypes) == {np.dtype(float)}
    assert model.coefficients().shape == (0, 7)


def test_terms_in_empty_cells_have_no_degrees_of_freedom():
    data = pd.DataFrame({"a": list("uuvv") * 6, "b": list("sstt") * 6, "g": np.arange(24) // 4})
    data["y"] = np.random.default_rng(0).normal(size=24) + data["g"]
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor("y ~ a * b + (1 | g)").fit(data)
    assert anova_of_terms(model, 3)["num_df"].tolist() == [0, 0, 0]
    assert anova_of_terms(model, 1)["num_df"].tolist() == [1, 0, 0]
