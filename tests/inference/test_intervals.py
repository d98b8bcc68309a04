"""Tables of intervals and variances: names, kinds, boundaries, copies, errors."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skmixed import MixedLinearRegressor
from skmixed.inference.degrees_of_freedom import row_tests
from skmixed.inference.intervals import confint, variance_components

LIMITS = ["lower", "upper"]


def _names(reference, table, plain_name):
    """Rows of a reference's table under our names, random effects as theirs."""
    own = {plain_name(name): name for name in reference.fit.names}
    return [own.get(plain_name(name), name) for name in table]


def _expected(reference, plain_name):
    rows = reference.ref["confint"]["profile_ml_exact"]["rows"]
    fixed = [row for row in rows if row["kind"] == "beta"]
    names = _names(reference, reference.ref["fit"]["coef_names"], plain_name)
    return dict(zip(names, fixed, strict=True))


def test_profiles_of_fixed_effects(reference, plain_name):
    found = confint(reference.fit, method="profile")
    kept = [n for n in reference.fit.names if n in found.dropna().index]
    expected = _expected(reference, plain_name)
    assert sorted(kept) == sorted(expected)
    for name, row in expected.items():
        width = row["upper"] - row["lower"]
        np.testing.assert_allclose(
            found.loc[name, ["estimate", *LIMITS]].astype(float),
            [row["estimate"], row["lower"], row["upper"]], rtol=0, atol=1e-5 * width)  # fmt: skip


def test_profiles_are_those_of_lme4(reference_of, plain_name):
    """Names too. Its limits are interpolated by splines."""
    for name in ("sleepstudy_corr_reml", "penicillin_crossed_reml", "pastes_nested_reml"):
        reference = reference_of(name)
        found = confint(reference.fit, method="profile")
        rows = reference.ref["confint"]["profile_ml_lme4"]
        names = _names(reference, [row["parameter"] for row in rows], plain_name)
        for own, row in zip(names, rows, strict=True):
            expected = np.array([row["2.5 %"], row["97.5 %"]])
            limits = found.loc[own, LIMITS].to_numpy(float)
            np.testing.assert_allclose(limits, expected, rtol=0, atol=1e-3 * np.ptp(expected))


def test_wald_intervals_of_fixed_effects(reference, plain_name):
    fit = reference.fit
    expected = reference.ref["confint"]["wald_fixed_normal"]
    found = confint(fit, list(fit.names), ddf="asymptotic").dropna()
    names = _names(reference, [row["parameter"] for row in expected], plain_name)
    limits = np.array([[row["2.5 %"], row["97.5 %"]] for row in expected])
    error = np.ptp(limits, axis=1)
    assert (np.abs(found.loc[names, LIMITS] - limits) < 1e-5 * error[:, None]).all(axis=None)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward_roger", "residual"])
def test_quantiles_of_wald_intervals(reference_of, ddf):
    fit = reference_of("sleepstudy_corr_reml").fit
    found = confint(fit, list(fit.names), ddf=ddf, level=0.9)
    tests = row_tests(fit.second_order, fit.gamma, fit.basis.to_coef, ddf)
    reach = tests.std_error * stats.t.ppf(0.95, tests.df)
    np.testing.assert_allclose(found["upper"] - found["estimate"], reach, rtol=1e-6)
    np.testing.assert_allclose(found["estimate"] - found["lower"], reach, rtol=1e-6)
    if ddf == "satterthwaite":
        pd.testing.assert_frame_equal(found, confint(fit, list(fit.names), level=0.9))


def test_names_and_their_order(reference_of):
    fit = reference_of("sleepstudy_corr_reml").fit
    expected = ["Intercept", "Days", "sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject",
                "sd_Days|Subject", "sigma"]  # fmt: skip
    for method in ("wald", "profile"):
        table = confint(fit, method=method)
        assert table.index.name == "parameter" and list(table.index) == expected
        assert list(table.columns) == ["estimate", "lower", "upper"]
        some = confint(fit, ["sigma", "Days"], method=method)
        pd.testing.assert_frame_equal(some, table.loc[["sigma", "Days"]])
        assert confint(fit, "sigma", method=method).shape == (1, 3)


def test_boundaries(reference_of):
    zero = reference_of("dyestuff2_singular_reml").fit
    name = "sd_(Intercept)|Batch"
    wald, profile = (confint(zero, method=method) for method in ("wald", "profile"))
    assert wald.loc[name, "estimate"] == 0 and wald.loc[name, LIMITS].isna().all()
    assert "no standard error" in wald.attrs["notes"][name]
    assert profile.loc[name, "lower"] == 0 and profile.loc[name, "upper"] > 0
    bound = reference_of("early_singular_reml").fit
    name = next(n for n in confint(bound).index if n.startswith("cor_"))
    table = confint(bound, name, method="profile")
    assert table.loc[name, "lower"] == -1.0
    assert "at its bound" in table.attrs["notes"][name]


def test_columns_that_were_left_out(reference_of):
    fit = reference_of("cake_rankdef_reml").fit
    lost = [fit.names[j] for j in np.flatnonzero(fit.basis.aliased)]
    for method in ("wald", "profile"):
        table = confint(fit, method=method)
        assert lost and table.loc[lost].isna().all(axis=None)
        assert table.drop(lost).notna().all(axis=None)
        assert "depends on other columns" in table.attrs["notes"][lost[0]]
    alone = confint(fit, lost)
    assert alone.isna().all(axis=None)


def test_rows_of_another_solution(reference_of):
    """The coefficients of another solution of the normal equations have their own intervals."""
    fit = reference_of("cake_rankdef_reml").fit
    rows = np.full((len(fit.names), fit.rank), 1.0 / fit.rank)
    found = confint(fit, fit.names[0], rows=rows)
    assert found.loc[fit.names[0], "estimate"] == pytest.approx(fit.beta.mean())


def test_a_model_without_random_effects():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(size=40)})
    data["y"] = data["x"] + rng.normal(size=40)
    fit = MixedLinearRegressor("y ~ x").fit(data).result_
    wald = confint(fit)
    assert list(wald.index) == ["Intercept", "x", "sigma"]
    expected = fit.beta[1] + np.sqrt(fit.vcov[1, 1]) * stats.t.ppf([0.025, 0.975], 38)
    np.testing.assert_allclose(wald.loc["x", LIMITS].astype(float), expected, rtol=1e-7)


def test_copies(reference_of):
    fit = reference_of("penicillin_crossed_reml").fit
    bare = pickle.loads(pickle.dumps(fit.refit(reml=False).refit(reml=True)))
    assert confint(bare, list(fit.names), ddf="asymptotic").notna().all(axis=None)
    with pytest.raises(ValueError, match="ask for them before pickling, or fit the model again"):
        confint(bare)
    with pytest.raises(ValueError, match="fit the model again"):
        confint(bare, method="profile")
    table = confint(fit)
    copy = pickle.loads(pickle.dumps(fit))
    pd.testing.assert_frame_equal(confint(copy), table)
    pd.testing.assert_frame_equal(variance_components(copy), variance_components(fit))


def test_variance_components(reference):
    fit = reference.fit
    table = variance_components(fit)
    assert list(table.columns) == [
        "group", "effect", "variance", "std_error", "lower", "upper", "std_dev"
    ]  # fmt: skip
    variances = np.concatenate([np.diag(V) for V in fit.covariances] + [[fit.sigma**2]])
    np.testing.assert_allclose(table["variance"], variances, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(table["std_dev"] ** 2, table["variance"])
    assert table["group"].iloc[-1] == "Residual"
    inside = table["variance"] > 0
    assert table.loc[~inside, ["std_error", *LIMITS]].isna().all(axis=None)
    assert (table.loc[inside, "std_error"] > 0).all()
    intervals = confint(fit).filter(regex="^sd_|^sigma$", axis=0)
    np.testing.assert_allclose(np.sqrt(table[LIMITS]), intervals[LIMITS], rtol=1e-10)


def test_the_variance_of_a_variance_is_that_of_gamma(reference_of):
    """Var(sigma^2) = 2 sigma^4 / df in a balanced layout, where the residual has its own df."""
    fit = reference_of("penicillin_crossed_reml").fit
    last = variance_components(fit, information="expected").iloc[-1]
    n, plates, samples = 144, 24, 6
    df = n - plates - samples + 1
    assert last["std_error"] == pytest.approx(last["variance"] * np.sqrt(2 / df), rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": "Day"}, r"got 'Day'; did you mean 'Days'\?"),
        ({"parameters": ["Days", 7]}, "must be among Intercept, Days, .*got 7"),
        ({"method": "boot"}, "'wald' or 'profile', or, of an estimator, 'bootstrap', got 'boot'"),
        ({"level": 95}, "level must lie between 0 and 1, got 95"),
        ({"level": "high"}, "level must lie between 0 and 1, got 'high'"),
        ({"ddf": "kr"}, "ddf must be one of satterthwaite, .*got 'kr'"),
        ({"method": "profile", "ddf": "residual"}, "belongs to method='wald'"),
    ],
)
def test_bad_input(reference_of, settings, message):
    with pytest.raises(ValueError, match=message):
        confint(reference_of("sleepstudy_corr_reml").fit, **settings)


def test_kenward_roger_needs_reml(reference_of):
    with pytest.raises(ValueError, match="fit it with reml=True"):
        confint(reference_of("sleepstudy_corr_ml").fit, ddf="kenward_roger")


def test_no_residual_variance():
    data = pd.DataFrame({"x": np.arange(8.0), "g": np.arange(8) % 4})
    model = MixedLinearRegressor("y ~ x + (1 | g)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data.assign(y=2 + data["x"]))
    for method in ("wald", "profile"):
        with pytest.raises(ValueError, match="need a residual variance"):
            confint(model.result_, method=method)


def _small(seed, formula):
    """Fourteen rows of five levels: likelihoods with several valleys and faces."""
    rng = np.random.default_rng(seed)
    s = rng.integers(0, 5, 14)
    data = pd.DataFrame({"s": s, "k": s % 3, "x": rng.normal(size=14)})
    spread = rng.choice([0.0, 0.3, 1.0, 5.0], 2)
    noise, effects = rng.normal(size=14), spread * rng.normal(size=(5, 2))[s]
    data["y"] = noise + effects[:, 0] + effects[:, 1] * data["x"]
    return MixedLinearRegressor(formula).fit(data).result_


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
@pytest.mark.parametrize(
    ("seed", "formula"),
    [
        (19, "y ~ x + (1 | s) + (1 | k)"),
        (33, "y ~ x + (1 | s) + (1 | k)"),
        (45, "y ~ x + (1 | s) + (1 | k)"),
        (46, "y ~ 1 + (1 | k) + (x || s)"),
        (48, "y ~ 1 + (1 | k) + (x || s)"),
        (74, "y ~ x + (x | s)"),
        (68, "y ~ x + (x | s)"),
    ],
)
def test_profiles_of_little_data(seed, formula):
    """A limit beyond zero is zero, never its mirror image; every limit is found."""
    table = confint(_small(seed, formula), method="profile")
    assert (table["lower"] <= table["estimate"] + 1e-9).all()
    assert (table["estimate"] <= table["upper"] + 1e-9).all()
    assert (table.filter(regex="^sd_", axis=0)["lower"] >= 0).all()


def test_no_optimum_no_profile(reference_of):
    fit = reference_of("penicillin_crossed_reml").fit.refit(reml=False)
    lost = replace(fit, optimum=replace(fit.optimum, converged=False, message="it fell"))
    with pytest.raises(ValueError, match="without an optimum of the likelihood: it fell"):
        confint(lost, method="profile")


def test_order_of_rows_and_units():
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"x": rng.normal(size=90), "g": np.arange(90) % 9,
                         "h": rng.integers(0, 5, 90)})  # fmt: skip
    intercept, slope = rng.normal(size=(2, 9))[:, data["g"]]
    data["y"] = intercept + (1 + slope) * data["x"] + rng.normal(size=90)
    moved = data.sample(frac=1, random_state=0).assign(x=lambda d: 1e6 * d["x"])
    formula = "y ~ x + (x | g) + (1 | h)"
    a, b = (MixedLinearRegressor(formula).fit(d).result_ for d in (data, moved))
    unit = np.array([1e6 if name in ("x", "sd_x|g") else 1.0 for name in confint(a).index])
    for method in ("wald", "profile"):
        found, expected = (confint(f, method=method).to_numpy() for f in (b, a))
        np.testing.assert_allclose(found * unit[:, None], expected, rtol=1e-4, atol=1e-6)


def test_profiles_of_reml_fits_say_whose_estimates_they_show(reference_of):
    fit = reference_of("sleepstudy_corr_reml").fit
    ml = fit.refit(reml=False)
    profile = confint(fit, "sigma", method="profile")
    assert "fitted by REML; estimates and limits of profiles" in " ".join(repr(profile).split())
    assert profile.loc["sigma", "estimate"] == pytest.approx(ml.sigma)
    assert not confint(ml, "sigma", method="profile").notes
    assert not confint(fit, "sigma").notes
    assert "fitted by REML" in repr(profile.round(2))


def test_notes_of_limits_are_printed(reference_of):
    table = confint(reference_of("dyestuff2_singular_reml").fit)
    [(name, note)] = table.attrs["notes"].items()
    assert " ".join(repr(table).split()).endswith(f"{name}: {note}.")
