"""The types of this package that files of skops name."""

from __future__ import annotations

from skmixed.estimators.classifier import MixedLogisticClassifier
from skmixed.estimators.ginverse import GeneralizedInverseRegressor
from skmixed.estimators.glm import MixedGLMRegressor
from skmixed.estimators.mixed import MixedLinearRegressor
from skmixed.estimators.nonlinear import MixedNonlinearRegressor
from skmixed.estimators.rank_transformer import RankDeficiencyTransformer

#: What ``skops.io.load(file, trusted=...)`` has to be told of models without code of the user's.
TRUSTED_TYPES = tuple(
    f"{cls.__module__}.{cls.__qualname__}"
    for cls in (
        GeneralizedInverseRegressor,
        MixedGLMRegressor,
        MixedLinearRegressor,
        MixedLogisticClassifier,
        MixedNonlinearRegressor,
        RankDeficiencyTransformer,
    )
)
