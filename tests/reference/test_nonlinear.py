"""Nonlinear mixed models against optima of an R program with dense matrices.

``tests/data/nonlinear`` holds the optima of the Gauss-Newton Laplace likelihood by R 4.2.2, from
several starts and polished by Newton steps until the scaled gradient was below 1e-10.
"""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skmixed import MixedNonlinearRegressor, SingularFitWarning, datasets

FOLDER = Path(__file__).parents[1] / "data" / "nonlinear"
CASES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
MOST_EVALUATIONS = 20


def _model(case, **options):
    random = " + ".join(
        f"({' + '.join(term['parameters'])} | {term['group']})" for term in case["random"]
    )
    fixed = {name: side for name, side in case["fixed"].items() if side.replace(" ", "") != "~1"}
    return MixedNonlinearRegressor(f"{case['nonlinear']} ~ {random}", fixed=fixed, **options)


def _data(case):
    name = Path(case["data"]).stem.lower()
    return getattr(datasets, f"load_{name}")(return_X_y=True)


@pytest.fixture(scope="module", params=CASES)
def fitted(request):
    case = CASES[request.param]
    X, y = _data(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return case, _model(case).fit(X, y)


def _names(case):
    return [name.replace(".(Intercept)", "[Intercept]") for name in case["beta"]]


def test_objective(fitted):
    case, model = fitted
    assert model.deviance_ == pytest.approx(case["objective"], abs=1e-7)
    assert model.log_likelihood_ == pytest.approx(case["logLik"], abs=1e-7)
    assert model.aic_ == pytest.approx(case["AIC"], abs=1e-6)
    assert model.bic_ == pytest.approx(case["BIC"], abs=1e-6)
    assert model.converged_


def test_evaluations(fitted):
    _, model = fitted
    assert model.n_evaluations_ <= MOST_EVALUATIONS


def test_fixed_effects(fitted):
    case, model = fitted
    se = np.array(list(case["se"].values()))
    gap = model.fixed_effects_.to_numpy() - list(case["beta"].values())
    assert np.abs(gap / se).max() < 1e-5
    np.testing.assert_allclose(model.standard_errors_, se, rtol=2e-4)


def test_variances(fitted):
    case, model = fitted
    assert model.sigma_ == pytest.approx(case["sigma"], rel=1e-6)
    assert model.is_singular_ == case["singular"]
    for term in case["covariances"]:
        mine = model.covariances_[term["group"]].loc[term["names"], term["names"]].to_numpy()
        cov = np.array(term["cov"])
        sd = np.sqrt(np.maximum(np.diag(cov), 0.0))
        loose = 2e-4 if case["singular"] else 1e-5
        np.testing.assert_allclose(mine, cov, rtol=loose, atol=loose * max(sd.max() ** 2, 1e-9))


def test_random_effects(fitted):
    case, model = fitted
    for term in case["ranef"]:
        table = model.random_effects_[term["group"]][term["columns"]].sort_index()
        sums = (table**2).sum().to_numpy()
        np.testing.assert_allclose(sums, term["all_sumsq"], rtol=1e-3, atol=1e-12)


def test_predictions(fitted):
    case, model = fitted
    X, _ = _data(case)
    mean = model.predict(X)
    np.testing.assert_allclose(mean[:10], case["fitted_head"], rtol=1e-5)
    assert mean.sum() == pytest.approx(case["fitted_sum"], rel=1e-7)
    assert math.isclose(np.sum(mean**2), case["fitted_sumsq"], rel_tol=1e-6)
    new = {key: [row[key] for row in case["predict"]["newdata"]] for key in
           case["predict"]["newdata"][0]}  # fmt: skip
    new = {key: [str(v) for v in own] if key in model.random_effects_ else own
           for key, own in new.items()}  # fmt: skip
    np.testing.assert_allclose(model.predict(new), case["predict"]["conditional"], rtol=1e-5)
    population = model.predict(new, random_effects=False)
    np.testing.assert_allclose(population, case["predict"]["population"], rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["orange_asym", "loblolly_asym", "theoph_lka_lcl", "indometh_biexp_diag"]
)
def test_bad_starts_end_at_the_optimum_or_are_told(name):
    """Every parameter off by half of its size, normally distributed."""
    case, rng, reached = CASES[name], np.random.default_rng(11), 0
    X, y = _data(case)
    for _ in range(16):
        start = {k: v * (1 + 0.5 * rng.standard_normal()) for k, v in case["start"].items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularFitWarning)
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model = _model(case, start=start).fit(X, y)
            except (ValueError, ConvergenceWarning):
                continue
        assert model.deviance_ == pytest.approx(case["objective"], abs=1e-6)
        reached += 1
    assert reached >= 12
