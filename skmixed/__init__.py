"""Mixed models and rank-deficient linear models as scikit-learn estimators."""

from skmixed import datasets
from skmixed._version import __version__
from skmixed.design.relationship import marker_relationship, pedigree_relationship
from skmixed.estimators._artefact import ModelVersionWarning
from skmixed.estimators.classifier import MixedLogisticClassifier
from skmixed.estimators.ginverse import GeneralizedInverseRegressor
from skmixed.estimators.glm import MixedGLMRegressor
from skmixed.estimators.mixed import MixedLinearRegressor
from skmixed.estimators.nonlinear import MixedNonlinearRegressor
from skmixed.estimators.rank_transformer import RankDeficiencyTransformer
from skmixed.estimators.trusted import TRUSTED_TYPES
from skmixed.exceptions import (
    BootstrapWarning,
    ClassOrderWarning,
    ComparisonWarning,
    FitTimeoutError,
    NoGroupsWarning,
    NotEstimableError,
    RankDeficiencyWarning,
    SeparationWarning,
    SingularFitWarning,
    SlowPredictionWarning,
    UndefinedMeanWarning,
    UnseenGroupsWarning,
)

__all__ = [
    "BootstrapWarning",
    "ClassOrderWarning",
    "ComparisonWarning",
    "FitTimeoutError",
    "GeneralizedInverseRegressor",
    "MixedGLMRegressor",
    "MixedLinearRegressor",
    "MixedLogisticClassifier",
    "MixedNonlinearRegressor",
    "ModelVersionWarning",
    "NoGroupsWarning",
    "NotEstimableError",
    "RankDeficiencyTransformer",
    "RankDeficiencyWarning",
    "SeparationWarning",
    "SingularFitWarning",
    "SlowPredictionWarning",
    "UndefinedMeanWarning",
    "UnseenGroupsWarning",
    "datasets",
    "marker_relationship",
    "pedigree_relationship",
]
