"""Hypotheses, likelihood-ratio tests, estimability and marginal means."""

from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.means import emmeans, emtrends, joint_tests
from skmixed.inference.random_effects import random_effects_test
from skmixed.inference.refits import drop1

__all__ = [
    "drop1",
    "emmeans",
    "emtrends",
    "joint_tests",
    "likelihood_ratio_test",
    "random_effects_test",
]
