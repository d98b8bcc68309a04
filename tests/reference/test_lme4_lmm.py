"""Every linear mixed model of the lme4 literature against lme4 itself.

The reference values in tests/data/lme4 are fits of lme4 1.1-31 under R 4.2.2: the best of ten
runs of five optimisers from several starts, polished by Newton steps until the gradient vanished
(below 1e-9 per standard error), the criterion confirmed by a dense computation where n <= 1300.
They are exact to some ten digits, so what is allowed here is what a fit may leave undone: 1e-6 in
the criterion; in units of its own spread 1e-5 for what averages over groups, and 1e-4 for
variances and conditional modes, where 1e-4 standard errors cost 1e-8 in the criterion.
"""

import json
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skmixed import MixedLinearRegressor, SingularFitWarning, datasets
from skmixed.design.design import build_design
from skmixed.design.formula import parse_formula
from skmixed.inference import likelihood_ratio_test
from skmixed.models.deviance import ProfiledDeviance

FOLDER = Path(__file__).parents[1] / "data" / "lme4"
TABLES = {"levels", "likelihood_ratio", "trace"}
CASES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem not in TABLES)
MAX_EVALUATIONS = 15
CRITERION_ABOVE, CRITERION_BELOW = 1e-6, 1e-5
TOLERANCE = 1e-5
VARIANCE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """A reference, the data it was computed from, and our fit of it."""

    ref: dict
    frame: pd.DataFrame
    model: MixedLinearRegressor

    @property
    def sd(self):
        """Standard deviation of the response: the unit of fitted values."""
        return self.frame[self.ref["formula"].split("~")[0].strip()].std()


def _read(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@lru_cache(maxsize=2)
def _frame(name):
    frame = getattr(datasets, f"load_{name.split('_')[0].lower()}")().frame
    if name == "Machines_no6B":
        return frame[(frame["Worker"] != "6") | (frame["Machine"] != "B")]
    return frame


def _formula(ref):
    """R's formula; contrasts, an attribute of the column in R, are written into it."""
    fixed, bar, random = ref["formula"].partition("(")
    for column, contrast in ref.get("contrasts", {}).items():
        fixed = fixed.replace(column, f"C({column}, {contrast})")
    return fixed + bar + random


@pytest.fixture(scope="module", params=CASES)
def case(request):
    ref = _read(request.param)
    frame = _frame(ref["data"])
    model = MixedLinearRegressor(_formula(ref), reml=ref["reml"])
    with warnings.catch_warnings():
        # test_singular_fit looks at these
        warnings.simplefilter("ignore", SingularFitWarning)
        model.fit(frame)
    return Case(ref, frame, model)


def _groups(table, group):
    """The entry of `table` for a grouping factor; R writes the nested a/b as "b:a"."""
    reversed_name = ":".join(reversed(group.split(":")))
    return table[group] if group in table else table[reversed_name]


def _labels(table, group, levels):
    """The reference's level labels as our table spells them."""
    if group in table:
        return levels
    return [":".join(reversed(level.split(":"))) for level in levels]


def _block_diagonal(blocks):
    size = sum(len(block) for block in blocks)
    joined, begin = np.zeros((size, size)), 0
    for block in blocks:
        end = begin + len(block)
        joined[begin:end, begin:end] = block
        begin = end
    return joined


def _values(mapping):
    return np.array(list(mapping.values()))


def test_criterion_and_its_evaluations(case):
    excess = case.model.deviance_ - case.ref["objective"]
    assert -CRITERION_BELOW < excess < CRITERION_ABOVE
    assert case.model.n_evaluations_ <= MAX_EVALUATIONS
    assert case.model.converged_


def test_evaluations_of_all_small_fits():
    """Their sum was 255: one or two of them may take one more, but not all of a kind."""
    counts = []
    for name in CASES:
        ref = _read(name)
        if ref["n"] < 1000:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SingularFitWarning)
                model = MixedLinearRegressor(_formula(ref), reml=ref["reml"])
                counts.append(model.fit(_frame(ref["data"])).n_evaluations_)
    assert len(counts) == 40
    assert sum(counts) <= 260


def test_information_criteria(case):
    model, ref = case.model, case.ref
    tolerance = {"rel": 0, "abs": 1e-5}
    assert model.log_likelihood_ == pytest.approx(ref["logLik"], **tolerance)
    assert model.aic_ == pytest.approx(ref["AIC"], **tolerance)
    assert model.bic_ == pytest.approx(ref["BIC"], **tolerance)
    assert model.n_obs_ == ref["n"]


def test_fixed_effects(case):
    model, ref = case.model, case.ref
    estimated = ~model.aliased_
    se = _values(ref["se"])
    assert estimated.sum() == ref["p"]
    # One standard error is the unit of an estimate, and of an entry of vcov its square.
    error = (model.fixed_effects_.to_numpy()[estimated] - _values(ref["beta"])) / se
    np.testing.assert_allclose(error, 0, atol=TOLERANCE)
    np.testing.assert_allclose(model.standard_errors_.to_numpy()[estimated], se, rtol=TOLERANCE)
    vcov = model.vcov_.to_numpy()[np.ix_(estimated, estimated)]
    np.testing.assert_allclose(
        vcov / np.outer(se, se), ref["vcov"] / np.outer(se, se), atol=TOLERANCE
    )


def test_residual_standard_deviation(case):
    assert case.model.sigma_ == pytest.approx(case.ref["sigma"], rel=TOLERANCE)


def test_theta(case):
    # Where the optimum is singular theta is rotated and scaled freely; test_covariances holds.
    if case.ref["singular"]:
        pytest.skip("theta is not unique at a singular optimum")
    theta = np.array(case.ref["theta"])
    np.testing.assert_allclose(case.model.theta_, theta, atol=TOLERANCE * theta.max())


def test_covariances(case):
    blocks = {}
    for term in case.ref["varcorr"]:
        blocks.setdefault(term["group"], []).append(np.array(term["cov"]))
    for group, parts in blocks.items():
        expected = _block_diagonal(parts)
        # A variance of zero is judged by the residual variance.
        sd = np.sqrt(np.maximum(np.diag(expected), 1e-3 * case.ref["sigma"] ** 2))
        ours = _groups(case.model.covariances_, group).to_numpy()
        np.testing.assert_allclose((ours - expected) / np.outer(sd, sd), 0, atol=VARIANCE_TOLERANCE)


def test_conditional_modes(case):
    ours = case.model.random_effects_
    for group, expected in case.ref["ranef"].items():
        table = _groups(ours, group)
        head = table.loc[_labels(ours, group, expected["levels"])].to_numpy()
        rms = np.sqrt(np.array(expected["all_sumsq"]) / expected["n_levels"])
        unit = np.maximum(rms, 1e-2 * case.ref["sigma"])
        assert len(table) == expected["n_levels"]
        np.testing.assert_allclose((head - expected["values"]) / unit, 0, atol=VARIANCE_TOLERANCE)
        error = table.to_numpy().sum(axis=0) - expected["all_sum"]
        np.testing.assert_allclose(error / unit / len(table), 0, atol=VARIANCE_TOLERANCE)
        error = np.square(table.to_numpy()).sum(axis=0) - expected["all_sumsq"]
        np.testing.assert_allclose(error / unit**2 / len(table), 0, atol=VARIANCE_TOLERANCE)


def test_conditional_standard_deviations(case):
    ours = case.model.random_effects_std_
    for group, expected in case.ref["condsd"].items():
        head = _groups(ours, group).loc[_labels(ours, group, expected["levels"])].to_numpy()
        np.testing.assert_allclose(
            head, expected["values"], rtol=TOLERANCE, atol=1e-2 * TOLERANCE * case.ref["sigma"]
        )


def test_fitted_values(case):
    ref, n = case.ref, case.ref["n"]
    fitted = case.model.predict(case.frame)
    np.testing.assert_allclose(
        fitted[: len(ref["fitted_head"])], ref["fitted_head"], rtol=0, atol=TOLERANCE * case.sd
    )
    mean_square = ref["fitted_sumsq"] / n
    assert fitted.sum() / n == pytest.approx(ref["fitted_sum"] / n, abs=TOLERANCE * case.sd)
    assert np.square(fitted).mean() == pytest.approx(mean_square, rel=TOLERANCE)
    response = case.frame[ref["formula"].split("~")[0].strip()]
    assert np.square(response - fitted).sum() == pytest.approx(ref["resid_sumsq"], rel=TOLERANCE)


def test_singular_fit(case):
    assert case.model.is_singular_ == case.ref["singular"]
    if case.ref["singular"]:
        with pytest.warns(SingularFitWarning):
            MixedLinearRegressor(_formula(case.ref), reml=case.ref["reml"]).fit(case.frame)


WITH_PREDICTIONS = [name for name in CASES if "predict" in _read(name)]


@pytest.mark.parametrize("case", WITH_PREDICTIONS, indirect=True)
def test_predictions_for_new_data(case):
    """Among them levels that the fit has not seen, one at a time and together."""
    expected = case.ref["predict"]
    new = pd.DataFrame(expected["newdata"])
    tolerance = {"rtol": 0, "atol": TOLERANCE * case.sd}
    np.testing.assert_allclose(case.model.predict(new), expected["conditional"], **tolerance)
    np.testing.assert_allclose(
        case.model.predict(new, random_effects=False), expected["population"], **tolerance
    )


def _objective(ref, *, reml):
    design = build_design(parse_formula(_formula(ref)), _frame(ref["data"]))
    return ProfiledDeviance.from_design(design, reml=reml)


def _criterion(objective, theta):
    """The objective at theta in lme4's units and order."""
    return objective(objective.layout.from_user_theta(np.array(theta, dtype=float)))


@pytest.mark.parametrize("name", CASES)
def test_criteria_at_the_optimum_of_lme4(name):
    """At fixed theta no optimiser stands between the two programs: REML and ML, to 1e-11."""
    ref = _read(name)
    own = _criterion(_objective(ref, reml=ref["reml"]), ref["theta"])
    other = _criterion(_objective(ref, reml=not ref["reml"]), ref["theta"])
    assert own == pytest.approx(ref["objective"], rel=1e-11)
    if ref["criterion_other"] is not None:
        assert other == pytest.approx(ref["criterion_other"], rel=1e-11)


@pytest.mark.parametrize("name", _read("trace"))
def test_criterion_along_the_path_of_another_optimiser(name):
    objective = _objective(_read(name), reml=True)
    for point in _read("trace")[name]:
        assert _criterion(objective, point["theta"]) == pytest.approx(point["value"], rel=1e-11)


@pytest.mark.parametrize("pair", _read("likelihood_ratio"))
@pytest.mark.parametrize("reml", [True, False], ids=["refitted", "as fitted"])
def test_likelihood_ratio(pair, reml):
    """lme4's anova(); REML fits are refitted by ML first."""
    expected = _read("likelihood_ratio")[pair]
    models = []
    for name in (expected["small"], expected["big"]):
        ref = _read(name)
        model = MixedLinearRegressor(_formula(ref), reml=reml)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)
            models.append(model.fit(_frame(ref["data"])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        table = likelihood_ratio_test(*models)
    for ours, row in zip(table.to_dict("records"), expected["rows"], strict=True):
        assert ours["npar"] == row["npar"]
        for column in ("AIC", "BIC", "logLik", "deviance"):
            assert ours[column] == pytest.approx(row[column], rel=0, abs=1e-5)
    assert ours["Chisq"] == pytest.approx(row["chisq"], rel=0, abs=1e-5)
    assert ours["Df"] == row["df"]
    assert ours["p-value"] == pytest.approx(row["p"], rel=1e-4)
