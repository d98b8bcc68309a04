"""Hypotheses, likelihood-ratio tests and estimability."""
