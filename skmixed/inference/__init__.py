"""Hypotheses, likelihood-ratio tests and estimability."""

from skmixed.inference.lrt import likelihood_ratio_test

__all__ = ["likelihood_ratio_test"]
