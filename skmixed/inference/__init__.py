"""Hypotheses, likelihood-ratio tests and estimability."""

from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.random_effects import random_effects_test
from skmixed.inference.refits import drop1

__all__ = ["drop1", "likelihood_ratio_test", "random_effects_test"]
