"""Monte-Carlo errors of differences of criteria, and what they leave of a p-value."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chi2

from skmixed.inference.monte_carlo import difference_error, sure_p_value


def _fit(samples=None, std=0.0):
    return SimpleNamespace(monte_carlo=SimpleNamespace(samples=samples, deviance_std=std))


def test_exact_criteria_have_no_error():
    assert difference_error(SimpleNamespace(), SimpleNamespace(monte_carlo=None)) == 0.0
    assert difference_error(_fit(), _fit()) == 0.0


def test_errors_of_different_kinds_add_up():
    assert difference_error(_fit(np.zeros(32), 3.0), _fit(None, 4.0)) == 5.0
    assert difference_error(_fit(np.zeros(32), 3.0), _fit(np.zeros(64), 4.0)) == 5.0


def test_what_paired_probes_have_in_common_cancels():
    rng = np.random.default_rng(0)
    common, own = 100 * rng.standard_normal(400), rng.standard_normal(400)
    error = difference_error(_fit(common, 5.0), _fit(common + own, 5.0))
    assert error == pytest.approx(1 / 20, rel=0.15)


@pytest.mark.parametrize(("statistic", "error", "sure"), [
    (3.84, 0.0, True), (3.84, 0.001, True), (3.84, 0.2, False), (60.0, 1.0, True),
])  # fmt: skip
def test_no_p_value_that_the_error_could_change(statistic, error, sure):
    p, problem = sure_p_value(lambda x: chi2.sf(x, 1), statistic, error)
    assert np.isfinite(p) == sure
    assert bool(problem) != sure
    if not sure:
        assert "raise n_probes" in problem


def test_a_statistic_of_zero_is_no_less_sure_for_rounding():
    def at_boundary(x):
        return 0.5 * chi2.sf(x, 1) if x > 0 else 1.0

    assert sure_p_value(at_boundary, 0.0, 5e-8) == (1.0, "")
    assert np.isnan(sure_p_value(at_boundary, 0.0, 0.1)[0])
