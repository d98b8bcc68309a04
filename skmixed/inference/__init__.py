"""Answers of fitted models: tests, comparisons, marginal means, robust covariances, influence."""

from skmixed.inference.heritability import heritability
from skmixed.inference.influence import influence
from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.means import emmeans, emtrends, joint_tests
from skmixed.inference.random_effects import random_effects_test
from skmixed.inference.refits import drop1
from skmixed.inference.robust import cluster_robust
from skmixed.inference.smooths import smooth_curves

__all__ = [
    "cluster_robust",
    "drop1",
    "emmeans",
    "emtrends",
    "heritability",
    "influence",
    "joint_tests",
    "likelihood_ratio_test",
    "random_effects_test",
    "smooth_curves",
]
