"""Questions to nonlinear models: tables, intervals, comparisons, residuals, displays."""

import pickle
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from skmixed import MixedLinearRegressor, MixedNonlinearRegressor
from skmixed.curves import CURVES
from skmixed.datasets import load_sleepstudy, load_theoph
from skmixed.design.curve_formula import parse_curve_formula
from skmixed.design.nonlinear import build_nonlinear_design
from skmixed.exceptions import ComparisonWarning
from skmixed.inference import (
    cluster_robust,
    drop1,
    emmeans,
    influence,
    joint_tests,
    likelihood_ratio_test,
    random_effects_test,
)
from skmixed.models.source import Source, _curve_values

FOL = "conc ~ SSfol(Dose, Time, lKe, lKa, lCl)"


@pytest.fixture(scope="module")
def theoph():
    return load_theoph().frame


@pytest.fixture(scope="module")
def model(theoph):
    return _fit("(lKa + lCl | Subject)", theoph)


@pytest.fixture(scope="module")
def weight(theoph):
    return _fit("(lKa + lCl | Subject)", theoph, fixed={"lCl": "Wt"})


def _fit(random, frame, formula=FOL, **options):
    return MixedNonlinearRegressor(f"{formula} ~ {random}", **options).fit(frame)


@pytest.fixture(scope="module")
def pair():
    """A curve that is a straight line, and the linear model that it is."""
    sleep = load_sleepstudy().frame
    linear = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", reml=False).fit(sleep)
    curve = MixedNonlinearRegressor(
        "Reaction ~ a + b * Days ~ (a + b | Subject)", start={"a": 250.0, "b": 10.0}
    ).fit(sleep)
    return linear, curve


def test_tables_are_those_of_the_linear_model(pair):
    """Where the mean is linear; the Hessian knows more than the information on beta alone."""
    linear, curve = pair
    mine, theirs = curve.confint(), linear.confint(ddf="asymptotic")
    np.testing.assert_allclose(mine, theirs, rtol=2e-2, atol=2e-2)
    assert [name.split("_")[0] for name in mine.index[2:]] == ["sd", "cor", "sd", "sigma"]
    sd = slice(2, None)
    np.testing.assert_allclose(mine[sd], theirs[sd], rtol=1e-3, atol=1e-3)
    mine, theirs = curve.variance_components(), linear.variance_components()
    np.testing.assert_allclose(mine.iloc[:, 2:], theirs.iloc[:, 2:], rtol=2e-3)
    mine, theirs = (m.random_effects("prediction")["Subject"] for m in (curve, linear))
    np.testing.assert_allclose(mine["std_error"], theirs["std_error"], rtol=2e-2)


def test_coefficients_and_contrasts(weight):
    table = weight.coefficients()
    np.testing.assert_allclose(table["estimate"], weight.fixed_effects_)
    z = weight.fixed_effects_ / weight.standard_errors_
    np.testing.assert_allclose(table["p_value"], 2 * stats.norm.sf(np.abs(z)))
    test = weight.contrast({"lKa": 1, "lKe": -1})
    v = weight.vcov_
    expected = np.sqrt(v.loc["lKa", "lKa"] + v.loc["lKe", "lKe"] - 2 * v.loc["lKa", "lKe"])
    assert test.standard_error == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"other degrees of freedom are known of .* linear"):
        weight.coefficients(ddf="satterthwaite")
    with pytest.raises(ValueError, match="profiles of nonlinear models are not available"):
        weight.confint(method="profile")


@pytest.mark.parametrize("n_agq", [0, 1, 3])
def test_intervals_of_every_approximation(n_agq, theoph):
    limits = _fit("(lKa + lCl | Subject)", theoph, n_agq=n_agq).confint()
    known = limits.notna().all(axis=1)
    assert known[:3].all() and known[3:].all() == (n_agq > 0)
    inside = limits[known]
    assert (inside["lower"] < inside["estimate"]).all()
    assert (inside["estimate"] < inside["upper"]).all()


# Comparisons


def test_nested_models_however_they_are_written(model, weight, theoph):
    one = _fit("(lKa | Subject)", theoph, "conc ~ first_order(Dose, Time, lKe, lKa, lCl)")
    two = _fit(
        "(lKa + lCl || Subject)",
        theoph,
        "conc ~ Dose * exp(lKe + lKa - lCl) * (exp(-exp(lKe) * Time) - exp(-exp(lKa) * Time)) "
        "/ (exp(lKa) - exp(lKe))",
        start={"lKe": -2.5, "lKa": 0.5, "lCl": -3},
    )
    table = likelihood_ratio_test(weight, two, model, one)
    assert table["npar"].to_list() == [5, 6, 7, 8]
    np.testing.assert_allclose(table["Chisq"][1:], -np.diff(table["deviance"]), atol=1e-9)
    np.testing.assert_allclose(table["p-value"][1:], stats.chi2.sf(table["Chisq"][1:], 1))
    assert table["p-value (boundary)"].iloc[1] == pytest.approx(table["p-value"].iloc[1] / 2)
    assert table["p-value (boundary)"].iloc[[0, 2, 3]].isna().all()
    again = likelihood_ratio_test(pickle.loads(pickle.dumps(model)), weight)
    assert again["p-value"].iloc[1] == table["p-value"].iloc[3]


@pytest.mark.parametrize(
    ("random", "options", "message"),
    [
        ("(lKe | Subject) + (lCl | Subject)", {}, "not nested"),
        ("(lKa + lCl + lKe || Subject)", {"formula": "conc ~ SSbiexp(Time, lKe, lKa, lCl, d)"},
         "different curves"),
    ],
)  # fmt: skip
def test_models_that_are_not_nested(random, options, message, theoph):
    one = _fit("(lKa | Subject)", theoph)
    if "formula" in options:
        random, options = "(lKe | Subject)", options
    with pytest.warns(ComparisonWarning, match=message):
        table = likelihood_ratio_test(one, _fit(random, theoph, **options))
    assert table["p-value"].isna().all()
    assert np.isfinite(table["AIC"]).all()


def test_designs_of_other_parameters_are_not_nested(model, weight, theoph):
    other = _fit("(lKa + lCl | Subject)", theoph, fixed={"lKa": "Wt"})
    with pytest.warns(ComparisonWarning, match="as many parameters"):
        likelihood_ratio_test(weight, other)
    more = _fit("(lKa + lCl | Subject)", theoph, fixed={"lKa": "Wt + I(Wt**2)"})
    with pytest.warns(ComparisonWarning, match=r"nothing for 'lCl\[Wt\]'"):
        likelihood_ratio_test(weight, more)


def test_likelihoods_that_cannot_be_compared(model, theoph):
    linear = MixedLinearRegressor("conc ~ Time + (1 | Subject)").fit(theoph)
    for other, message in (
        (linear, "different kinds"),
        (_fit("(lKa + lCl | Subject)", theoph, n_agq=3), "different n_agq"),
        (_fit("(lKa + lCl | Subject)", theoph[1:]), "different numbers of observations"),
        (_fit("(lKa | Subject)", theoph.assign(conc=2 * theoph["conc"])), "different responses"),
    ):
        with pytest.raises(ValueError, match=message):
            likelihood_ratio_test(model, other)


@pytest.mark.parametrize("most", [1.0, 20.0, 2000.0])
def test_no_named_curve_is_taken_for_another(most):
    x = np.linspace(0, most, 60)
    frame = {"y": 0 * x, "x": x, "d": 1 + 0 * x, "g": np.arange(60) % 6}
    values = {}
    for name in (name for name in CURVES if not name.startswith("SS")):
        curve = CURVES[name]
        covariates = ", ".join(["d", "x"][-len(curve.covariates) :])
        text = f"y ~ {name}({covariates}, {', '.join(curve.parameters)}) ~ (1 | g)"
        terms = parse_curve_formula(text.replace("(1 |", f"({curve.parameters[0]} |"))
        design = build_nonlinear_design(terms, frame)
        values[name] = _curve_values(design, len(curve.parameters))
    source = Source(*[None] * 15, curve=None)
    for one, two in combinations(values, 2):
        pair = [_with_curve(source, values[name]) for name in (one, two)]
        assert not pair[0].same_curve(pair[1])
        assert pair[0].same_curve(_with_curve(source, values[one] * (1 + 1e-9)))


def _with_curve(source, values):
    from dataclasses import replace

    return replace(source, curve=values)


# What nonlinear models do not answer


@pytest.mark.parametrize(
    "question",
    [
        lambda m, X: m.anova(),
        lambda m, X: m.r2(),
        lambda m, X: m.icc(),
        lambda m, X: m.vcov("kenward_roger"),
        lambda m, X: emmeans(m, "Wt"),
        lambda m, X: joint_tests(m),
        lambda m, X: drop1(m, X),
        lambda m, X: influence(m, X),
        lambda m, X: cluster_robust(m, X, cluster="Subject"),
        lambda m, X: random_effects_test(m),
    ],
)
def test_what_is_for_linear_means_says_so(question, weight, theoph):
    with pytest.raises(ValueError, match="linear"):
        question(weight, theoph)


# Residuals


def test_residuals(theoph):
    model = _fit("(lKa | Subject)", theoph.assign(w=2.0), prior_weights="w")
    X = theoph.assign(w=2.0)
    plain = model.residuals(X)
    np.testing.assert_allclose(plain, theoph["conc"] - model.predict(X))
    np.testing.assert_allclose(model.residuals(X, kind="pearson"), plain * np.sqrt(2))
    scaled = model.residuals(X, kind="scaled")
    np.testing.assert_allclose(scaled, plain * np.sqrt(2) / model.sigma_)
    marginal = model.residuals(X, X["conc"], kind="marginal")
    np.testing.assert_allclose(marginal, X["conc"] - model.predict(X, random_effects=False))
    with pytest.raises(ValueError, match=r"kind must be one of .*'marginal', got 'studentized'"):
        model.residuals(X, kind="studentized")


# Displays


@pytest.fixture
def plotting():
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    from skmixed import plotting

    yield plotting
    plt.close("all")


def test_a_panel_for_every_subject(plotting, model, theoph):
    display = plotting.TrellisDisplay.from_estimator(model, theoph)
    assert display.x == "Time" and display.response == "conc"
    assert len(display.axes_) == 12
    assert set(display.lines_[0]) == {"population", "mixed"}
    curve = display.curves[display.curves["level"] == display.points["level"].iloc[0]]
    level = curve["level"].iloc[0]
    own = theoph[theoph["Subject"].astype(str) == str(level)]
    new = own.iloc[[0] * len(curve)].assign(Time=curve["x"].to_numpy())
    np.testing.assert_allclose(curve["mixed"], model.predict(new))
    np.testing.assert_allclose(curve["population"], model.predict(new, random_effects=False))


def test_displays_of_estimates_and_residuals(plotting, model, theoph):
    own = plotting.NormalQuantileDisplay.from_estimator(model, theoph)
    np.testing.assert_allclose(own.values.iloc[:, 0], model.residuals(theoph, kind="scaled"))
    modes = plotting.CaterpillarDisplay.from_estimator(model)
    assert "own units" in modes.ax_.get_xlabel() + modes.ax_.get_title() + modes.ax_.get_ylabel()
    assert len(plotting.VarianceComponentsDisplay.from_estimator(model).frame) == 3
    assert len(plotting.CoefficientsDisplay.from_estimator(model).frame) == 3
    plotting.RandomEffectsDisplay.from_estimator(model)
    for refuse in (
        lambda: plotting.ProfileDisplay.from_estimator(model),
        lambda: plotting.ShrinkageDisplay.from_estimator(model, theoph),
        lambda: plotting.MarginalMeansDisplay.from_estimator(model, "Wt"),
    ):
        with pytest.raises(ValueError, match="linear"):
            refuse()
