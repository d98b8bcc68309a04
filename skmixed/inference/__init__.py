"""Answers of fitted models: tests, comparisons, marginal means, robust covariances, influence."""

from skmixed.inference.bootstrap import bootstrap
from skmixed.inference.bootstrap_ratios import bootstrap_test
from skmixed.inference.heritability import heritability
from skmixed.inference.influence import influence
from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.means import emmeans, emtrends, joint_tests
from skmixed.inference.posterior import posterior
from skmixed.inference.posterior_draws import Posterior
from skmixed.inference.priors import Prior
from skmixed.inference.random_effects import random_effects_test
from skmixed.inference.refits import drop1
from skmixed.inference.robust import cluster_robust

__all__ = [
    "Posterior",
    "Prior",
    "bootstrap",
    "bootstrap_test",
    "cluster_robust",
    "drop1",
    "emmeans",
    "emtrends",
    "heritability",
    "influence",
    "joint_tests",
    "likelihood_ratio_test",
    "posterior",
    "random_effects_test",
]
