"""Warnings and errors of skmixed, one category for each thing a user may want to filter."""


class RankDeficiencyWarning(UserWarning):
    """Some columns are linear combinations of earlier ones and were left out or merged."""


class SingularFitWarning(UserWarning):
    """An estimated random-effects covariance matrix is singular: the optimum is on the boundary."""


class SeparationWarning(UserWarning):
    """A column separates the outcomes perfectly, so its estimate grows without limit."""


class UnseenGroupsWarning(UserWarning):
    """Most rows of a prediction have levels of a grouping factor that the training data had not."""


class NoGroupsWarning(UserWarning):
    """A mixed model was fitted without a formula and without groups: it has no random effects."""


class UndefinedMeanWarning(UserWarning):
    """Some rows have no mean, or none with finite limits, under the family and the link."""


class ClassOrderWarning(UserWarning):
    """Classes stand in the order of their categories, where scikit-learn's tools sort labels."""


class ComparisonWarning(UserWarning):
    """Models that are compared are not nested, or one of them was not fitted to the end."""


class PosteriorWarning(UserWarning):
    """Draws of a posterior are not to be relied on, or too few for what is asked of them."""


class BootstrapWarning(UserWarning):
    """Some refits of a bootstrap have failed or have not converged."""


class SlowPredictionWarning(UserWarning):
    """Standard errors of so many predictions by the iterative solver that they take long."""


class NotEstimableError(ValueError):
    """The data do not determine the requested function of the coefficients."""


class FitTimeoutError(TimeoutError):
    """A fit took longer than ``max_time``; the estimator is not fitted."""


__all__ = [
    "BootstrapWarning",
    "ClassOrderWarning",
    "ComparisonWarning",
    "FitTimeoutError",
    "NoGroupsWarning",
    "NotEstimableError",
    "PosteriorWarning",
    "RankDeficiencyWarning",
    "SeparationWarning",
    "SingularFitWarning",
    "SlowPredictionWarning",
    "UndefinedMeanWarning",
    "UnseenGroupsWarning",
]
