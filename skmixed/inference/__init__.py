"""Hypotheses, likelihood-ratio tests, robust covariances and influence."""

from skmixed.inference.influence import influence
from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.random_effects import random_effects_test
from skmixed.inference.refits import drop1
from skmixed.inference.robust import cluster_robust

__all__ = [
    "cluster_robust",
    "drop1",
    "influence",
    "likelihood_ratio_test",
    "random_effects_test",
]
