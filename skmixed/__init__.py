"""Mixed models and rank-deficient linear models as scikit-learn estimators."""

from skmixed import datasets
from skmixed.estimators.mixed import MixedLinearRegressor
from skmixed.exceptions import (
    NotEstimableError,
    RankDeficiencyWarning,
    SeparationWarning,
    SingularFitWarning,
)

__version__ = "0.1.0.dev0"

__all__ = [
    "MixedLinearRegressor",
    "NotEstimableError",
    "RankDeficiencyWarning",
    "SeparationWarning",
    "SingularFitWarning",
    "datasets",
]
