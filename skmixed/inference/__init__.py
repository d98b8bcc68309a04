"""Hypotheses, likelihood-ratio tests, robust covariances and influence."""

from skmixed.inference.influence import influence
from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.robust import cluster_robust

__all__ = ["cluster_robust", "influence", "likelihood_ratio_test"]
