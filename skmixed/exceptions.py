"""Warnings and errors of skmixed, one category for each thing a user may want to filter."""


class RankDeficiencyWarning(UserWarning):
    """Some columns are linear combinations of earlier ones and were left out or merged."""


class SingularFitWarning(UserWarning):
    """An estimated random-effects covariance matrix is singular: the optimum is on the boundary."""


class SeparationWarning(UserWarning):
    """A column separates the outcomes perfectly, so its estimate grows without limit."""


class NotEstimableError(ValueError):
    """The data do not determine the requested function of the coefficients."""


__all__ = [
    "NotEstimableError",
    "RankDeficiencyWarning",
    "SeparationWarning",
    "SingularFitWarning",
]
