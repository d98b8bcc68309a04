"""diagnose_glmm: what it finds is there, what fails is quoted, and the rest goes on."""

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.datasets import load_cbpp, load_grouseticks
from skmixed.inference import diagnose_glmm

FORMULA = "y ~ x + (1 | g)"


@pytest.fixture(autouse=True)
def _silent():
    """The report tells of everything: nothing is left for warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _data(n=240, n_groups=12, sd=1.0, seed=0):
    rng = np.random.default_rng(seed)
    g, x = np.arange(n) % n_groups, rng.normal(size=n)
    f = np.array(list("abc"))[rng.integers(0, 3, n)]
    eta = 0.8 * x + rng.normal(0, sd, n_groups)[g]
    return pd.DataFrame({"g": g, "x": x, "f": f, "y": 1 * (rng.random(n) < 1 / (1 + np.exp(-eta)))})


def _advice(report):
    return "\n".join(report.advice)


def test_a_model_without_fault():
    data = _data(n=1200, n_groups=40)
    model = MixedLogisticClassifier(FORMULA).fit(data)
    before = model.result_
    report = diagnose_glmm(model, data)
    assert model.result_ is before  # the model given stays as it is
    fit = report.model
    assert_allclose(fit.deviance_, model.deviance_, rtol=1e-10)
    assert not len(report.failures)
    assert list(report.fits.index) == ["n_agq=0", "n_agq=1", "n_agq=7"]
    for name, n_agq in (("n_agq=0", 0), ("n_agq=7", 7)):
        other = MixedLogisticClassifier(FORMULA, n_agq=n_agq).fit(data)
        own = report.estimates[name]
        assert_allclose(own[:2], other.fixed_effects_, rtol=1e-10)
        assert_allclose(own["sd_(Intercept)|g"] ** 2, other.covariances_["g"].iloc[0, 0])
        assert_allclose(report.standard_errors[name], other.standard_errors_, rtol=1e-10)
    assert_allclose(report.shares.loc["g", "icc"], model.icc()["adjusted"], rtol=1e-10)
    variance = report.shares.loc["g", "variance"]
    odds = np.exp(np.sqrt(2 * variance) * 0.6744897501960817)
    assert_allclose(report.shares.loc["g", "median odds ratio"], odds)
    assert "converged after" in report.certificate and "minimum" in report.certificate
    assert report.n_failed == 0 and report.n_subsets == 10 and report.units == "clusters"
    assert report.subsets["ratio"][:2].between(0.3, 2).all()
    assert report.advice[0].startswith("Nothing was found")
    assert "one-step" in report.advice[1] and "marginal=True" in report.advice[2]


def test_marginal_coefficients_are_the_attenuated_ones():
    data = _data(n=20_000, n_groups=1000, sd=1.5, seed=1)
    report = diagnose_glmm(MixedLogisticClassifier(FORMULA, n_agq=9), data, n_subsets=0)
    found, error = report.estimates, report.standard_errors["marginal"]
    factor = found["attenuated"] / found["n_agq=9"]
    variance = report.shares.loc["g", "variance"]
    assert_allclose(factor[:2], 1 / np.sqrt(1 + 0.34584 * variance), rtol=1e-4)
    gap = (found["marginal"] - found["attenuated"])[:2]
    assert (abs(gap) < 3 * error).all()
    assert abs(found["marginal"]["x"] - found["n_agq=9"]["x"]) > 5 * error["x"]
    assert report.marginal.n_sampled == report.marginal.n_clusters == 1000


def test_log_links_move_the_intercept_alone():
    ticks = load_grouseticks().frame
    model = MixedGLMRegressor("TICKS ~ cHEIGHT + (1 | BROOD)")
    report = diagnose_glmm(model, ticks, n_subsets=0)
    own, shrunk = report.estimates["n_agq=1"], report.estimates["attenuated"]
    assert_allclose(shrunk["cHEIGHT"], own["cHEIGHT"])
    half = report.shares.loc["BROOD", "variance"] / 2
    assert_allclose(shrunk["Intercept"] - own["Intercept"], half)
    fitted = model.fit(ticks)
    assert_allclose(report.shares.loc["BROOD", "icc"], fitted.icc(ticks)["adjusted"])


def test_columns_that_depend_on_others():
    data = _data().assign(double=lambda d: 2 * d["x"] + 1, size=lambda d: 1.0 * (d["g"] > 5))
    for rank_deficient in ("drop", "raise", "minimum_norm"):
        model = MixedLogisticClassifier(
            "y ~ x + double + size + (1 | g)", rank_deficient=rank_deficient
        )
        report = diagnose_glmm(model, data, n_subsets=2)
        assert report.columns["combination"].to_dict() == {
            "Intercept": "", "x": "", "double": "2 x + 1", "size": "",
        }  # fmt: skip
        assert report.columns["varies within"].tolist() == [0, 12, 12, 0]
        assert "double = 2 x + 1 is a combination" in _advice(report)
        assert report.fits["fitted"].all()
        told = report.failures["part"].tolist()
        assert told == (["rank_deficient='raise'"] if rank_deficient == "raise" else [])


def test_separation_by_a_level():
    data = _data()
    data.loc[data["f"] == "c", "y"] = 1
    report = diagnose_glmm(MixedLogisticClassifier("y ~ x + f + (1 | g)"), data, n_subsets=3)
    assert report.columns.index[report.columns["separates"]].tolist() == ["f[T.c]"]
    assert "f[T.c] separates the outcomes" in _advice(report)
    prior = MixedLogisticClassifier("y ~ x + f + (1 | g)", prior="normal").fit(data)
    assert_allclose(report.estimates["prior='normal'"][:4], prior.fixed_effects_, rtol=1e-8)
    assert np.isinf(report.standard_errors.loc["f[T.c]", "n_agq=1"])
    assert "Separation" in report.fits.loc["n_agq=1", "warned of"]
    assert "marginal" not in report.estimates
    shrunk = report.estimates["attenuated"]
    assert np.isnan(shrunk["f[T.c]"]) and np.isfinite(shrunk["f[T.b]"])
    own = MixedLogisticClassifier("y ~ x + f + (1 | g)", prior={"scale": 1.0})
    assert "or rely on the prior" in _advice(diagnose_glmm(own, data, n_subsets=0))
    assert report.failures["part"].tolist() == ["the marginal model"]
    assert 0 < report.shares.loc["g", "icc"] < 1


def test_one_outcome_only():
    for value in (0, 1):
        report = diagnose_glmm(MixedLogisticClassifier(FORMULA), _data().assign(y=value))
        assert report.clusters.loc["g", f"all {value}"] == 12
        assert report.clusters.loc["g", f"all {1 - value}"] == 0
        assert "only one class" in _advice(report)
        assert report.model is None and not len(report.fits)
    report = diagnose_glmm(MixedGLMRegressor(FORMULA), _data().assign(y=0))
    assert "every count is zero" in _advice(report)


def test_two_clusters():
    report = diagnose_glmm(MixedLogisticClassifier(FORMULA), _data(n_groups=2))
    assert "g has 2 levels" in _advice(report)
    assert report.units == "rows" and report.n_failed == 0
    assert "Refits on random halves of the rows" in str(report)


def test_tiny_clusters():
    data = _data(n=400, n_groups=200, sd=1.5)
    report = diagnose_glmm(MixedLogisticClassifier(FORMULA), data, n_subsets=3)
    assert "few outcomes (median 2)" in _advice(report)
    assert "report n_agq=7, not n_agq=1" in _advice(report)
    assert "of the levels of g have outcomes of one kind only" in _advice(report)
    sizes = report.clusters.loc["g", ["smallest", "median", "largest"]]
    assert sizes.tolist() == [2, 2, 2]
    one = diagnose_glmm(MixedLogisticClassifier(FORMULA), _data(n=50, n_groups=50))
    assert "one level per row" in _advice(one)


def test_few_events():
    data = _data()
    data["y"] = (np.arange(240) % 40 == 0).astype(int)
    report = diagnose_glmm(MixedLogisticClassifier("y ~ x + f + (1 | g)"), data)
    assert "6 outcomes of the rarer kind for 3 coefficients" in _advice(report)


def test_many_clusters_are_summarised():
    data = _data(n=30_000, n_groups=10_000)
    report = diagnose_glmm(MixedLogisticClassifier(FORMULA), data, n_nodes=3, n_subsets=1)
    assert len(report.levels["g"]) == 10_000
    assert len(str(report)) < 5000 and len(report._repr_html_()) < 20_000
    assert report.marginal.n_clusters == 10_000 and report.marginal.n_sampled == 2000
    assert "2,000 of 10,000 clusters" in " ".join(str(report).split())


def test_missing_values():
    data = _data()
    data.loc[::7, "x"] = np.nan
    report = diagnose_glmm(MixedLogisticClassifier(FORMULA), data, n_subsets=2)
    assert "missing values" in report.failures["reason"][0]
    assert report.n_obs == data["x"].notna().sum()
    assert report.fits["fitted"].all() and "Rows with missing values" in _advice(report)
    dropped = diagnose_glmm(MixedLogisticClassifier(FORMULA, missing="drop"), data, n_subsets=2)
    assert not len(dropped.failures)
    pd.testing.assert_frame_equal(dropped.estimates, report.estimates)


def test_what_cannot_be_read_is_quoted():
    report = diagnose_glmm(MixedLogisticClassifier("y ~ z + (1 | g)"), _data())
    assert report.failures["part"].tolist() == ["the data"]
    assert "'z' is not a column" in _advice(report)
    three = diagnose_glmm(MixedLogisticClassifier("f ~ x + (1 | g)"), _data())
    assert "multiclass" in _advice(three) and not len(three.clusters)
    empty = diagnose_glmm(MixedLogisticClassifier(FORMULA), _data()[:0])
    assert "zero rows" in _advice(empty)


def test_a_setting_that_fails_leaves_the_others():
    model = MixedLogisticClassifier("y ~ x + (1 | g) + (1 | f)", n_agq=9)
    report = diagnose_glmm(model, _data(), n_subsets=2)
    assert report.fits["fitted"].to_dict() == {"n_agq=0": True, "n_agq=1": True, "n_agq=9": False}
    assert "one grouping factor" in report.failures["reason"][0]
    assert report.model.n_agq == 1
    assert report.failures["part"].tolist()[1] == "the marginal model"
    assert "crossed" in report.failures["reason"][1]


def test_refits_that_fail_are_counted(monkeypatch):
    data = _data()

    class Fragile(MixedLogisticClassifier):
        def fit(self, X, y=None, *, groups=None, sample_weight=None):
            if sample_weight is not None and sample_weight[0] == 0:
                raise ArithmeticError("the first row is needed")
            return super().fit(X, y, groups=groups, sample_weight=sample_weight)

    report = diagnose_glmm(Fragile(FORMULA), data, random_state=1)
    assert 0 < report.n_failed < 10
    assert "ArithmeticError: the first row is needed" in report.failures["reason"].tolist()
    assert f"{report.n_failed} of 10 refits" in _advice(report)


def test_weights_trials_and_rows_say_the_same():
    data = _data(n=60, n_groups=10)
    count = np.arange(60) % 3 + 1
    weighted = diagnose_glmm(
        MixedLogisticClassifier(FORMULA), data, sample_weight=count, n_subsets=0
    )
    rows = data.loc[data.index.repeat(count)]
    repeated = diagnose_glmm(MixedLogisticClassifier(FORMULA), rows, n_subsets=0)
    trials = data.assign(k=data["y"] * count, n=(1 - data["y"]) * count)
    binomial = diagnose_glmm(
        MixedGLMRegressor("cbind(k, n) ~ x + (1 | g)", "binomial"), trials, n_subsets=0
    )
    for other in (repeated, binomial):
        assert_allclose(weighted.estimates, other.estimates, rtol=1e-5, atol=1e-6)
        assert_allclose(weighted.standard_errors, other.standard_errors, rtol=1e-4)
        pd.testing.assert_series_equal(weighted.levels["g"]["mean"], other.levels["g"]["mean"])
    assert_allclose(weighted.levels["g"]["rows"], repeated.levels["g"]["rows"])
    half = diagnose_glmm(
        MixedLogisticClassifier(FORMULA), data, sample_weight=count + 0.5, n_subsets=1
    )
    assert "not whole numbers" in half.failures["reason"][0]


@pytest.mark.parametrize(
    ("family", "formula"),
    [
        ("poisson", "count ~ x + offset(np.log(time)) + (1 | g)"),
        ("negative_binomial", "count ~ x + (1 | g)"),
        ("gamma", "time ~ x + (1 | g)"),
        ("gaussian", "x ~ time + (1 | g)"),
    ],
)
def test_families(family, formula):
    rng = np.random.default_rng(2)
    data = _data()
    data["time"] = rng.uniform(1, 3, len(data))
    data["count"] = rng.negative_binomial(2, 0.4, len(data))
    report = diagnose_glmm(MixedGLMRegressor(formula, family), data, n_subsets=2)
    assert report.fits["fitted"].all()
    gap = (report.estimates["marginal"] - report.estimates["attenuated"])[:2]
    assert (abs(gap) < 2 * report.standard_errors["marginal"]).all()


def test_inputs():
    data = _data()
    X, y = data[["x", "g"]], data["y"]
    plain = diagnose_glmm(MixedLogisticClassifier(FORMULA), data, n_subsets=2)
    deviance = plain.fits.loc["n_agq=1", "deviance"]
    scaled = ColumnTransformer(
        [("x", StandardScaler(), ["x"])], remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    pipe = make_pipeline(scaled, MixedLogisticClassifier("x + (1 | g)"))
    for report in (
        diagnose_glmm(pipe, X, y, n_subsets=2),
        diagnose_glmm(pipe.fit(X, y), X, y, n_subsets=2),
        diagnose_glmm(MixedLogisticClassifier("x0 + (1 | x1)"), X.to_numpy(), y, n_subsets=2),
        diagnose_glmm(MixedLogisticClassifier(), X[["x"]], y, groups=data["g"], n_subsets=2),
        diagnose_glmm(MixedLogisticClassifier(FORMULA), data.to_dict("list"), n_subsets=2),
    ):
        assert_allclose(report.fits.loc["n_agq=1", "deviance"], deviance, rtol=1e-9)
        assert report.n_failed == 0
    again = diagnose_glmm(MixedLogisticClassifier(FORMULA), data, n_subsets=2)
    pd.testing.assert_frame_equal(again.subsets, plain.subsets)
    other = diagnose_glmm(MixedLogisticClassifier(FORMULA), data, n_subsets=2, random_state=1)
    assert not again.subsets.equals(other.subsets)


def test_a_prior_of_ones_own():
    report = diagnose_glmm(MixedLogisticClassifier(FORMULA, prior="t"), _data(), n_subsets=1)
    assert list(report.fits.index) == ["n_agq=0", "n_agq=1", "n_agq=7", "no prior"]
    assert report.model.prior == "t"
    plain = MixedLogisticClassifier(FORMULA).fit(_data())
    assert_allclose(report.estimates["no prior"][:2], plain.fixed_effects_, rtol=1e-8)


def test_without_random_effects():
    report = diagnose_glmm(MixedLogisticClassifier("y ~ x + f"), _data(), n_subsets=2)
    assert list(report.fits.index) == ["n_agq=1"]
    assert not len(report.clusters) and not len(report.shares) and report.units == "rows"


def test_text_and_html():
    cbpp = load_cbpp().frame
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    report = diagnose_glmm(MixedGLMRegressor(formula, "binomial"), cbpp, n_subsets=2)
    text, html = str(report), report._repr_html_()
    for part in ("Clusters", "Columns", "Fits", "Estimates", "What to do next", "0 of 2 refits"):
        assert part in text and part in html
    assert "Levels of herd" in text  # 15 of them can be read
    assert html.startswith("<div>") and html.endswith("</div>")
    assert "period[T.2]" in html and "<script" not in html
    assert max(map(len, text.splitlines())) < 110


def test_messages():
    with pytest.raises(TypeError, match=r"diagnose_glmm takes .* got MixedLinearRegressor"):
        diagnose_glmm(MixedLinearRegressor(FORMULA), _data())
    with pytest.raises(ValueError, match="n_nodes=1"):
        diagnose_glmm(MixedLogisticClassifier(FORMULA), _data(), n_nodes=1)


def test_levels_of_one_kind_leave_no_variance():
    data = _data().assign(y=lambda d: 1 * (d["g"] > 4))
    report = diagnose_glmm(MixedLogisticClassifier(FORMULA), data, n_subsets=2)
    assert report.clusters.loc["g", ["all 0", "all 1"]].tolist() == [5, 7]
    assert report.advice == (report.advice[0],)
    assert report.advice[0].startswith("Every level of g has outcomes of one kind only")


def test_units_and_origins_of_columns_do_not_matter():
    data = _data()
    far = data.assign(x=1e9 + 1e6 * data["x"])
    near = diagnose_glmm(MixedLogisticClassifier(FORMULA), data, n_subsets=0)
    moved = diagnose_glmm(MixedLogisticClassifier(FORMULA), far, n_subsets=0)
    assert not len(moved.failures)
    slopes = moved.estimates.loc["x"] * 1e6
    assert_allclose(slopes, near.estimates.loc["x"], rtol=1e-4)
    errors = moved.standard_errors.loc["x"] * 1e6
    assert_allclose(errors, near.standard_errors.loc["x"], rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"link": "identity"}, "'link' parameter"),
        ({"prior": {"scale": -1}}, "'scale' of prior"),
        ({"n_agq": -1}, "'n_agq' parameter"),
    ],
)
def test_parameters_that_are_none_are_errors(settings, match):
    with pytest.raises(ValueError, match=match):
        diagnose_glmm(MixedLogisticClassifier(FORMULA, **settings), _data())
