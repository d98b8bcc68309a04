"""Hypotheses, likelihood-ratio tests, estimability and marginal means."""

from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.means import emmeans, emtrends, joint_tests

__all__ = ["emmeans", "emtrends", "joint_tests", "likelihood_ratio_test"]
