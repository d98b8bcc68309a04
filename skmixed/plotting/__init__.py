"""Plots of fitted mixed models: Display classes, as in scikit-learn; they need matplotlib."""

from skmixed.plotting.bootstrap import BootstrapDisplay
from skmixed.plotting.calibration import GroupCalibrationDisplay
from skmixed.plotting.caterpillar import CaterpillarDisplay
from skmixed.plotting.checks import ModelCheckDisplay
from skmixed.plotting.clusters import ClusterDisplay
from skmixed.plotting.coefficients import CoefficientsDisplay
from skmixed.plotting.components import VarianceComponentsDisplay
from skmixed.plotting.effects import RandomEffectsDisplay
from skmixed.plotting.marginal_effects import MarginalEffectsDisplay
from skmixed.plotting.means import MarginalMeansDisplay
from skmixed.plotting.posterior import PosteriorDisplay
from skmixed.plotting.predictions import PredictionIntervalDisplay
from skmixed.plotting.profiles import ProfileDisplay
from skmixed.plotting.quantile import NormalQuantileDisplay
from skmixed.plotting.roc import GroupRocDisplay
from skmixed.plotting.shares import VarianceSharesDisplay
from skmixed.plotting.shrinkage import ShrinkageDisplay
from skmixed.plotting.smooths import SmoothDisplay
from skmixed.plotting.sparsity import SparsityDisplay
from skmixed.plotting.trellis import TrellisDisplay

__all__ = [
    "BootstrapDisplay",
    "CaterpillarDisplay",
    "ClusterDisplay",
    "CoefficientsDisplay",
    "GroupCalibrationDisplay",
    "GroupRocDisplay",
    "MarginalEffectsDisplay",
    "MarginalMeansDisplay",
    "ModelCheckDisplay",
    "NormalQuantileDisplay",
    "PosteriorDisplay",
    "PredictionIntervalDisplay",
    "ProfileDisplay",
    "RandomEffectsDisplay",
    "ShrinkageDisplay",
    "SmoothDisplay",
    "SparsityDisplay",
    "TrellisDisplay",
    "VarianceComponentsDisplay",
    "VarianceSharesDisplay",
]
