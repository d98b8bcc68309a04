"""Plots of fitted mixed models: Display classes, as in scikit-learn; they need matplotlib."""

from skmixed.plotting.caterpillar import CaterpillarDisplay
from skmixed.plotting.coefficients import CoefficientsDisplay
from skmixed.plotting.components import VarianceComponentsDisplay
from skmixed.plotting.effects import RandomEffectsDisplay
from skmixed.plotting.means import MarginalMeansDisplay
from skmixed.plotting.profiles import ProfileDisplay
from skmixed.plotting.quantile import NormalQuantileDisplay
from skmixed.plotting.shrinkage import ShrinkageDisplay
from skmixed.plotting.smooths import SmoothDisplay
from skmixed.plotting.sparsity import SparsityDisplay
from skmixed.plotting.trellis import TrellisDisplay

__all__ = [
    "CaterpillarDisplay",
    "CoefficientsDisplay",
    "MarginalMeansDisplay",
    "NormalQuantileDisplay",
    "ProfileDisplay",
    "RandomEffectsDisplay",
    "ShrinkageDisplay",
    "SmoothDisplay",
    "SparsityDisplay",
    "TrellisDisplay",
    "VarianceComponentsDisplay",
]
