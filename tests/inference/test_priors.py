"""Priors by name: what they may be, and whom they reach."""

import numpy as np
import pytest

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_sleepstudy
from skmixed.exceptions import RankDeficiencyWarning
from skmixed.inference import Prior, posterior
from skmixed.models.posterior import Flat, HalfNormal, HalfT, Reciprocal


@pytest.fixture(scope="module")
def model():
    return MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(load_sleepstudy().frame)


def priors(model, prior):
    return posterior(model, 20, prior=prior, random_state=0)._density.prior


def test_by_parameter_before_grouping_factor_before_flat(model):
    both = Prior(
        sd={"Subject": ("half_t", 3, 40), "sd_Days|Subject": ("half_normal", 10.0)},
        cor={"Subject": 2},
        sigma=("half_t", 4.0, 20.0),
    )
    found = priors(model, both)
    assert found.sds == (HalfT(3.0, 40.0), HalfNormal(10.0))
    assert found.etas == (2.0,) and found.sigma == HalfT(4.0, 20.0)
    one = priors(model, Prior(sd={"sd_Days|Subject": ("half_normal", 10.0)}))
    assert one.sds == (Flat(), HalfNormal(10.0))
    assert one.etas == (1.0,) and one.sigma == Reciprocal() and one.fixed is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sd": "flt"}, "sd must be 'flat', .*got 'flt'"),
        ({"sd": "reciprocal"}, "sd must be 'flat'"),
        ({"sd": ("half_t", 3)}, "sd must be 'flat'"),
        ({"sd": ("half_normal", -1.0)}, "needs positive finite numbers"),
        ({"sd": {"Subject": ("half_t", 3, np.inf)}}, "needs positive finite numbers"),
        ({"sigma": ("cauchy", 3)}, "sigma must be 'reciprocal'"),
        ({"cor": 0}, "cor must be positive"),
        ({"cor": {"Subject": "2"}}, "cor must be positive"),
        ({"fixed": {"Days": 3}}, r"fixed\['Days'\] must be \(mean, sd\)"),
        ({"fixed": {"Days": (0.0, 0.0)}}, "positive sd"),
        ({"fixed": (0.0, 1.0)}, "fixed must be None or a dict"),
    ],
)
def test_what_is_no_prior(given, message):
    with pytest.raises(ValueError, match=message):
        Prior(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sd": {"sd_days|Subject": "flat"}}, "did you mean 'sd_Days|Subject'"),
        ({"sd": {"Subjects": "flat"}}, "did you mean 'Subject'"),
        ({"cor": {"sd_Days|Subject": 2.0}}, "only 'Subject'"),
        ({"fixed": {"days": (0.0, 1.0)}}, "did you mean 'Days'"),
    ],
)
def test_names_that_the_model_does_not_have(model, given, message):
    with pytest.raises(ValueError, match=message):
        posterior(model, 20, prior=Prior(**given))


def test_a_column_that_was_left_out_has_no_prior():
    data = load_sleepstudy().frame.assign(hours=lambda t: 24.0 * t["Days"])
    with pytest.warns(RankDeficiencyWarning):
        model = MixedLinearRegressor("Reaction ~ Days + hours + (1 | Subject)").fit(data)
    with pytest.raises(ValueError, match="'hours' was left out of the fit"):
        posterior(model, 20, prior=Prior(fixed={"hours": (0.0, 1.0)}))


def test_a_tight_prior_of_a_coefficient_is_its_posterior(model):
    prior = Prior(fixed={"Days": (5.0, 0.01), "Intercept": (300.0, 0.5)})
    post = posterior(model, 2000, prior=prior, random_state=0)
    table = post.summary()
    assert table.loc["Days", "mean"] == pytest.approx(5.0, abs=0.002)
    assert table.loc["Intercept", "mean"] == pytest.approx(300.0, abs=0.2)
    assert table.loc["Days", "sd"] == pytest.approx(0.01, rel=0.1)
    # effects of subjects take up what the prior leaves
    assert table.loc["sd_(Intercept)|Subject", "mean"] > 40


def test_priors_pull_and_eta_shrinks_correlations(model):
    wide = posterior(model, 4000, random_state=0).draws
    name = "cor_Days.(Intercept)|Subject"
    tight = posterior(
        model, 4000, random_state=0,
        prior=Prior(sd={"sd_Days|Subject": ("half_normal", 1.0)}, cor=50.0),
    ).draws  # fmt: skip
    assert tight[name].std() < 0.5 * wide[name].std()
    assert tight["sd_Days|Subject"].mean() < 0.7 * wide["sd_Days|Subject"].mean()
