"""Summaries, their HTML form, and every fitted attribute."""

from copy import copy
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skmixed import MixedLinearRegressor
from skmixed.datasets import (
    load_cake,
    load_dyestuff2,
    load_machines,
    load_pastes,
    load_penicillin,
    load_sleepstudy,
)

SLEEP = """\
Linear mixed model fit by REML
Formula: Reaction ~ Days + (Days | Subject)

   AIC     BIC  logLik  REML criterion  df.resid
1755.6  1774.8  -871.8          1743.6       174

Random effects:
 Groups    Name       Variance  Std.Dev.  Corr
 Subject   Intercept    612.10    24.741
           Days          35.07     5.922  0.07
 Residual               654.94    25.592
Number of obs: 180, groups: Subject, 18

Fixed effects:
           Estimate  Std. Error     df  t value  Pr(>|t|)
Intercept   251.405       6.825  17.00    36.84  1.17e-17
Days         10.467       1.546  17.00     6.77  3.26e-06

Correlation of fixed effects:
      Intercept
Days     -0.138"""


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def model(sleep):
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", tol=1e-12).fit(sleep)


def _same_text(found, expected):
    """Equal lines, numbers within two units of their last digit."""
    for line, other in zip(found.splitlines(), expected.splitlines(), strict=True):
        assert len(line) == len(other)
        for word, known in zip(line.split(), other.split(), strict=True):
            if word != known:
                digits = len(known.partition(".")[2])
                assert float(word) == pytest.approx(float(known), abs=2.1 * 10.0**-digits)


def test_summary_is_lmertests(model):
    """The tables of lmerTest 3.1-3, `summary(lmer(Reaction ~ Days + (Days | Subject), ...))`."""
    _same_text(str(model.summary()), SLEEP)
    assert repr(model.summary()) == str(model.summary())


MODELS = {
    "least squares": (load_sleepstudy, "Reaction ~ Days", {}),
    "ML": (load_sleepstudy, "Reaction ~ Days + (Days || Subject)", {"reml": False}),
    "no fixed effect": (load_sleepstudy, "Reaction ~ 0 + (1 | Subject)", {}),
    "nested": (load_pastes, "strength ~ 1 + (1 | batch / cask)", {}),
    "crossed": (load_penicillin, "diameter ~ 1 + (1 | plate) + (1 | sample)", {}),
    "three effects": (load_machines, "score ~ Machine + (Machine | Worker)", {}),
    "many columns": (load_cake, "angle ~ recipe * temperature + (1 | recipe:replicate)", {}),
}


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    load, formula, settings = MODELS[request.param]
    return MixedLinearRegressor(formula, **settings).fit(load().frame)


def test_summary_names_everything(fitted):
    text = str(fitted.summary())
    assert f"Formula: {fitted.formula}" in text
    assert f"Number of obs: {fitted.n_obs_}" in text
    for group, table in fitted.random_effects_.items():
        assert f"{group}, {len(table)}" in text
        assert all(f" {name} " in text for name in table.columns)
    lines = text.partition("Fixed effects:")[2].splitlines()
    for name in fitted.fixed_effects_.index:
        assert any(line.startswith(f"{name} ") for line in lines)
    assert all(len(line) <= 100 and line == line.rstrip() for line in text.splitlines())
    assert ("REML criterion" in text) == fitted.reml
    assert ("Random effects" in text) == bool(fitted.random_effects_)


def test_html_is_well_formed(fitted):
    """The same cells as the printed tables."""
    tree = ElementTree.fromstring(fitted.summary()._repr_html_())
    cells = [cell.text or "" for cell in tree.iter("td")]
    text = str(fitted.summary())
    assert all(cell in text for cell in cells)
    assert len(cells) >= 5 + 4 * len(fitted.fixed_effects_)


def test_html_escapes_names():
    data = pd.DataFrame(
        {"a<b": [0.0, 1.0, 3.0, 4.0, 5.5, 6.0], "y": [1.0, 2.0, 2.5, 5.0, 5.5, 7.0]}
    )
    html = MixedLinearRegressor("`a<b`").fit(data, data["y"]).summary()._repr_html_()
    assert "a&lt;b" in html
    assert ElementTree.fromstring(html) is not None


def test_long_names_are_numbered_in_the_correlations():
    text = str(
        MixedLinearRegressor("score ~ Machine + (1 | Worker)").fit(load_machines().frame).summary()
    )
    lines = text.partition("Correlation of fixed effects:\n")[2].splitlines()
    assert lines[0].split() == ["1.", "2."]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["1.", "Intercept"],
        ["2.", "Machine[T.B]"],
        ["3.", "Machine[T.C]"],
    ]


def test_many_correlations_are_kept_and_not_printed():
    model = MixedLinearRegressor("angle ~ recipe * temperature + (1 | recipe:replicate)")
    summary = model.fit(load_cake().frame).summary()
    assert summary.correlation.shape == (18, 18)
    np.testing.assert_allclose(np.diag(summary.correlation), 1.0)
    assert "Correlation of fixed effects" not in str(summary)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_numbers_of_very_different_size_keep_their_digits(sleep, scale):
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)")
    text = str(model.fit(sleep.assign(Days=scale * sleep["Days"])).summary())
    line = next(line for line in text.splitlines() if line.startswith("Days "))
    assert float(line.split()[1]) == pytest.approx(10.46729 / scale, rel=1e-4)
    assert float(line.split()[2]) == pytest.approx(1.545790 / scale, rel=1e-3)


def test_notes(sleep):
    with pytest.warns(UserWarning, match="singular"):
        singular = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(load_dyestuff2().frame)
    assert "The fit is singular: a variance is zero" in str(singular.summary())
    with pytest.warns(UserWarning, match="rank deficient"):
        deficient = MixedLinearRegressor("Reaction ~ Days + twice + (1 | Subject)").fit(
            sleep.assign(twice=2 * sleep["Days"])
        )
    text = str(deficient.summary())
    assert "Rank deficient: twice depends on earlier columns." in text
    assert "twice           NaN         NaN" in text
    assert deficient.summary().correlation.shape == (2, 2)


# Attributes


def test_types_and_labels(model, sleep):
    effects = ["Intercept", "Days"]
    assert model.coef_.shape == (1,)
    assert isinstance(model.intercept_, float)
    for series in (model.fixed_effects_, model.standard_errors_):
        assert isinstance(series, pd.Series)
        assert list(series.index) == effects
    assert list(model.vcov_.index) == list(model.vcov_.columns) == effects
    for tables in (model.random_effects_, model.random_effects_std_):
        assert list(tables) == ["Subject"]
        table = tables["Subject"]
        assert list(table.columns) == effects
        assert list(table.index) == sorted(sleep["Subject"].unique())
        assert table.index.name == "Subject"
    assert list(model.covariances_["Subject"].index) == effects
    assert list(model.covariances_["Subject"].columns) == effects
    for name in ("sigma_", "deviance_", "log_likelihood_", "aic_", "bic_"):
        assert isinstance(getattr(model, name), float)
    for name in ("n_obs_", "df_resid_", "n_iter_", "n_evaluations_", "n_features_in_"):
        assert isinstance(getattr(model, name), int)
    assert model.is_singular_ is False
    assert model.converged_ is True
    assert model.aliased_.tolist() == [False, False]
    assert list(model.feature_names_in_) == list(sleep.columns)
    assert model.n_features_in_ == len(sleep.columns)


def test_relations_between_attributes(fitted):
    se = np.sqrt(np.diag(fitted.vcov_))
    np.testing.assert_allclose(fitted.standard_errors_, se)
    npar = len(fitted.fixed_effects_) + len(fitted.theta_) + 1
    assert fitted.log_likelihood_ == -fitted.deviance_ / 2
    assert fitted.aic_ == pytest.approx(fitted.deviance_ + 2 * npar)
    assert fitted.bic_ == pytest.approx(fitted.deviance_ + np.log(fitted.n_obs_) * npar)
    assert fitted.df_resid_ == fitted.n_obs_ - npar
    trace = fitted.trace_
    assert len(trace) == fitted.n_iter_ + 1 or not len(fitted.theta_)
    assert trace["objective"].is_monotonic_decreasing or len(trace) == 1
    assert trace["objective"].iloc[-1] == pytest.approx(fitted.deviance_, abs=1e-9)
    np.testing.assert_allclose(trace.iloc[-1, 1:], fitted.theta_, atol=1e-9)
    assert fitted.n_evaluations_ <= 15


def test_theta_gives_the_covariances(fitted):
    """Lower triangles by column, the factor with most levels first: sigma^2 T T'."""
    at = 0
    terms = fitted.random_terms_
    sizes = {term.group: len(fitted.random_effects_[term.group]) for term in terms}
    for term in sorted(terms, key=lambda term: -sizes[term.group]):
        s = len(term.names)
        T = np.zeros((s, s))
        k, i = np.triu_indices(s)
        T[i, k] = fitted.theta_[at : at + len(i)]
        at += len(i)
        found = fitted.covariances_[term.group].loc[list(term.names), list(term.names)]
        np.testing.assert_allclose(found, fitted.sigma_**2 * T @ T.T, atol=1e-9)
    assert at == len(fitted.theta_)


def test_expand(fitted):
    """sigma^2 (T S)(T S)' is the covariance of all effects; P permutes them."""
    found = fitted.expand()
    assert found.sigma == fitted.sigma_
    assert all(sparse.issparse(part) for part in (found.T, found.S, found.P))
    blocks = []
    for term, G in zip(fitted.random_terms_, fitted.result_.covariances, strict=True):
        blocks.append(sparse.kron(G, sparse.eye(len(fitted.random_effects_[term.group]))))
    if not blocks:
        assert found.T.shape == found.S.shape == found.P.shape == (0, 0)
        return
    lower = found.T.toarray()
    np.testing.assert_array_equal(np.diag(lower), 1.0)
    assert not np.triu(lower, 1).any()
    factor = lower @ found.S.toarray()
    np.testing.assert_allclose(
        found.sigma**2 * factor @ factor.T, sparse.block_diag(blocks).toarray(), atol=1e-9
    )
    P = found.P.toarray()
    np.testing.assert_array_equal(P @ P.T, np.eye(len(P)))


def test_terms_of_one_group_are_joined(sleep):
    """(Days || Subject) is one table with a covariance of zero."""
    model = MixedLinearRegressor("Reaction ~ Days + (Days || Subject)").fit(sleep)
    assert list(model.random_effects_["Subject"].columns) == ["Intercept", "Days"]
    assert model.covariances_["Subject"].loc["Intercept", "Days"] == 0.0
    assert len(model.random_terms_) == 2


def test_conditional_modes_sum_to_zero(model):
    """The scores of the fixed effects that have random counterparts vanish."""
    np.testing.assert_allclose(model.random_effects_["Subject"].sum(), 0.0, atol=1e-8)


def test_results_are_copies(model):
    theta = model.theta_
    model.theta_[:] = 7.0
    model.aliased_[:] = True
    table = model.random_effects_["Subject"]
    table.iloc[:, :] = 0.0
    np.testing.assert_array_equal(model.theta_, theta)
    assert not model.aliased_.any()
    assert model.random_effects_["Subject"].to_numpy().any()


def test_ml_and_reml(sleep):
    by_reml, by_ml = (
        MixedLinearRegressor("Reaction ~ Days + (Days | Subject)", reml=reml).fit(sleep)
        for reml in (True, False)
    )
    assert by_reml.deviance_ == pytest.approx(1743.6282719599)  # lme4 1.1-31, REMLcrit
    assert by_ml.deviance_ == pytest.approx(1751.9393445)  # lme4 1.1-31, deviance
    assert "fit by maximum likelihood" in str(by_ml.summary())


def test_verbose_prints_the_steps(sleep, capsys):
    model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)", verbose=1).fit(sleep)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == model.n_iter_
    step, value, theta = lines[-1].replace("[", " ").replace("]", " ").replace(":", " ").split()
    assert int(step) == model.n_iter_
    assert float(value) == pytest.approx(model.deviance_, rel=1e-7)
    assert float(theta) == pytest.approx(model.theta_[0], abs=1e-5)


@pytest.mark.filterwarnings("ignore::skmixed.exceptions.SingularFitWarning")
def test_trace_holds_criterion_and_theta_of_every_step():
    """Also where the search goes on in rotated coordinates, near a singular covariance."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.normal(size=(200, 3)), columns=["x", "z", "w"])
    data["g"] = np.arange(200) % 20
    effects = rng.normal(size=20)[data["g"]] * (1 + data["x"] - data["z"] / 2)
    model = MixedLinearRegressor("x + (x + z + w | g)").fit(data, effects + rng.normal(size=200))
    assert model.is_singular_
    objective = model.result_.objective
    for _, (value, *theta) in model.trace_.iterrows():
        at = objective.layout.from_user_theta(np.array(theta))
        assert objective(at) == pytest.approx(value, abs=1e-6)


def test_large_and_small_numbers_beside_each_other(sleep):
    """No power of ten for 1234567, and no lost digit of what stands beside it."""
    text = str(
        MixedLinearRegressor("Reaction ~ Days + (Days | Subject)")
        .fit(sleep.assign(Days=1e-6 * sleep["Days"]))
        .summary()
    )
    assert "e+" not in text
    numbers = [float(word) for word in text.split() if word.replace(".", "").isdigit()]
    for value in (24.741, 5922138.0, 25.592, 251.405, 6.8246, 10467286.0, 1545790.0):
        assert min(abs(np.array(numbers) / value - 1)) < 3e-4


def test_counts_of_millions_are_written_out(model):
    fit = replace(model.result_, n_obs=1234567.0)
    large = copy(model)
    large.result_ = fit
    text = str(large.summary())
    assert "Number of obs: 1234567," in text
    assert "1234561" in text.splitlines()[4]


# Other formats


def test_tidy_frames_hold_the_tables_of_the_model(fitted):
    frame = fitted.summary().to_frame(level=0.9)
    fixed = frame[frame["component"] == "fixed"].set_index("term")
    table = fitted.coefficients(level=0.9)
    columns = ["estimate", "std_error", "df", "p_value", "lower", "upper"]
    assert frame[[*columns, "statistic"]].dtypes.map(pd.api.types.is_float_dtype).all()
    np.testing.assert_allclose(fixed[columns], table[columns], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(fixed["statistic"], table["t"], rtol=1e-5)
    random = frame[frame["component"] == "random"].set_index(["group", "term"])["estimate"]
    count = 0
    for group, covariance in fitted.covariances_.items():
        sd = np.sqrt(np.diag(covariance))
        free = any(len(t.names) > 1 for t in fitted.random_terms_ if t.group == group)
        for i, name in enumerate(covariance):
            assert random[group, f"sd {name}"] == pytest.approx(sd[i])
            for j in range(i) if free else ():
                expected = covariance.iloc[i, j] / (sd[i] * sd[j])
                found = random[group, f"cor {list(covariance)[j]}, {name}"]
                assert found == pytest.approx(expected)
            count += 1 + (i if free else 0)
    assert count == len(random)
    residual = frame[frame["component"] == "residual"]
    assert residual["estimate"].to_list() == ([fitted.sigma_] if len(random) else [])
    assert frame["estimate"].notna().all()


def test_tidy_limits_have_a_level(model):
    with pytest.raises(ValueError, match="level must lie between 0 and 1, got 95"):
        model.summary().to_frame(level=95)


def test_all_formats_have_the_cells_of_the_text(fitted):
    summary = fitted.summary()
    assert summary._repr_html_() == summary.to_html()
    cells = [c.text or "" for c in ElementTree.fromstring(summary.to_html()).iter("td")]
    plain = summary.to_markdown().replace("\\", "")
    table = summary.to_latex().replace("$-$", "-").replace("\\_", "_")
    for cell in cells:
        assert cell in plain
        assert cell in table or "e-" in cell
    assert f"`{fitted.formula}`" in summary.to_markdown()


def test_latex_has_caption_and_label_by_choice(model):
    text = model.summary().to_latex(caption=r"Sleep, $n = 180$", label="tab:sleep")
    assert r"\caption{Sleep, $n = 180$}" in text and r"\label{tab:sleep}" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4


# What notebooks show


def test_notebooks_show_the_estimates_of_a_fit(fitted):
    shown = fitted._repr_mimebundle_()
    html = shown["text/html"]
    assert "sk-top-container" in html and html.endswith(fitted._fit_html())
    assert fitted._repr_html_().endswith(fitted._fit_html())
    brief = ElementTree.fromstring(fitted._fit_html())
    words = "".join(brief.itertext())
    assert fitted.formula in words and f"Number of obs: {fitted.n_obs_}" in words
    for group, levels in fitted.labels_.levels.items():
        assert f"{group}, {len(levels)}" in words
    cells = [cell.text or "" for cell in brief.iter("td")]
    assert f"{fitted.aic_:.1f}" in cells
    cells = [cell.text for cell in list(brief.iter("table"))[-1].iter("td")]
    for name, value in fitted.fixed_effects_.items():
        assert float(cells[cells.index(name) + 1]) == pytest.approx(value, rel=1e-2, abs=1e-2)


def test_before_a_fit_notebooks_show_what_scikit_learn_does():
    model = MixedLinearRegressor("y ~ x + (1 | g)")
    assert "Fitted MixedLinearRegressor" not in model._repr_html_()
    assert model._fit_html() == ""


def test_what_notebooks_show_is_text_where_that_is_asked_for(model):
    from sklearn import config_context

    with config_context(display="text"):
        assert "text/html" not in model._repr_mimebundle_()
        assert not hasattr(model, "_repr_html_")


def test_the_names_of_all_attributes_can_be_listed(fitted):
    assert "fixed_effects_" in dir(fitted)
    assert not hasattr(fitted, "residual_parameters_")
