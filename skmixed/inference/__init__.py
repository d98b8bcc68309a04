"""Answers of fitted models: tests, comparisons, marginal means, robust covariances, checks."""

from skmixed.inference.bootstrap import bootstrap
from skmixed.inference.bootstrap_ratios import bootstrap_test
from skmixed.inference.check import ModelCheck, check_model
from skmixed.inference.diagnose import diagnose_glmm
from skmixed.inference.draws import simulated_residuals
from skmixed.inference.heritability import heritability
from skmixed.inference.inflation import vif
from skmixed.inference.influence import influence
from skmixed.inference.lrt import likelihood_ratio_test
from skmixed.inference.means import emmeans, emtrends, joint_tests
from skmixed.inference.model_table import ModelTable, model_table
from skmixed.inference.posterior import posterior
from skmixed.inference.posterior_draws import Posterior
from skmixed.inference.priors import Prior
from skmixed.inference.random_effects import random_effects_test
from skmixed.inference.refits import drop1
from skmixed.inference.robust import cluster_robust
from skmixed.inference.simulated import SimulatedResiduals
from skmixed.inference.smooths import smooth_curves

__all__ = [
    "ModelCheck",
    "ModelTable",
    "Posterior",
    "Prior",
    "SimulatedResiduals",
    "bootstrap",
    "bootstrap_test",
    "check_model",
    "cluster_robust",
    "diagnose_glmm",
    "drop1",
    "emmeans",
    "emtrends",
    "heritability",
    "influence",
    "joint_tests",
    "likelihood_ratio_test",
    "model_table",
    "posterior",
    "random_effects_test",
    "simulated_residuals",
    "smooth_curves",
    "vif",
]
