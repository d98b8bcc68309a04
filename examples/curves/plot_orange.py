"""
Growth of orange trees: a nonlinear mixed model
===============================================

The circumference of five orange trees was measured at seven ages. How large does such a tree
become, and in which way do trees differ: in their final size, in when they grow, or both?

The curve is a logistic one with an asymptote, the age at half of it, and a time scale. A tree has
an asymptote of its own. The analysis follows Pinheiro and Bates (2000, section 8.2).

Pages on this: :doc:`/nonlinear`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.optimize import curve_fit

from skmixed import MixedNonlinearRegressor
from skmixed.datasets import load_orange
from skmixed.inference import likelihood_ratio_test
from skmixed.plotting import NormalQuantileDisplay, TrellisDisplay

orange = load_orange().frame
CURVE = "circumference ~ logistic(age, Asym, xmid, scal) ~ "
model = MixedNonlinearRegressor(CURVE + "(Asym | Tree)").fit(orange)
print(model.summary())

# %%
# No starting values were needed: a named curve finds its own. A typical tree ends at 192 mm; trees
# differ by 31 mm (standard deviation), measurements by 8 mm.
#
# Every tree beside a typical one
# -------------------------------
#
# Dashed is the typical tree, the line the tree's own curve: the same shape, higher or lower.

display = TrellisDisplay.from_estimator(model, orange, levels=list("12345"), columns=5)
display.axes_[0].set_ylabel("circumference in mm")
plt.show()

# %%
# Do trees also differ in when they grow?
# ---------------------------------------
#
# A second variance, of the age at half the asymptote, adds nothing.

both = MixedNonlinearRegressor(CURVE + "(Asym + xmid || Tree)").fit(orange)
test = likelihood_ratio_test(model, both)
print(test[["npar", "AIC", "Chisq", "Df", "p-value", "p-value (boundary)"]].round(3).to_string())

# %%
# Residuals
# ---------
#
# Left: residuals by fitted value, measurements of one tree joined. There is a common pattern (all
# trees were measured on the same days, one of which was in a good season) that the curve does not
# know. Right: their quantiles lie on a line.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
residual = pd.Series(model.residuals(orange, kind="scaled"), index=orange.index)
for _, tree in orange.groupby("Tree", observed=True):
    left.plot(tree["age"], residual[tree.index], ".-", linewidth=0.8)
left.axhline(0, color="0.6", linewidth=0.8)
left.set(xlabel="age in days", ylabel="residual / sigma", title="by tree")
NormalQuantileDisplay.from_estimator(model, orange, ax=right)
plt.show()

# %%
# A tree that was not in the study
# --------------------------------
#
# Its interval contains the variation between trees, so it is much wider than that of tree 1, and
# widens with age.

ages = np.linspace(100, 1600, 60)
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
trees = pd.concat(pd.DataFrame({"age": ages, "Tree": tree}) for tree in ("new", "1"))
trees[["low", "high"]] = model.predict_interval(trees)
trees["mean"] = model.predict(trees)
for k, (tree, rows) in enumerate(trees.groupby("Tree")):
    ax.fill_between(ages, rows["low"], rows["high"], alpha=0.25, color=f"C{k}", linewidth=0)
    ax.plot(ages, rows["mean"], color=f"C{k}", label=f"tree {tree}")
ax.set(xlabel="age in days", ylabel="circumference in mm", title="mean curve with 95 % limits")
ax.legend()
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# One curve through all 35 points: its residual standard deviation is three times that of the
# measurements, so it cannot see the shape well, and it takes an error of the asymptote from
# measurements that repeat each other. Five curves, one for each tree, have fifteen parameters for
# 35 points and say nothing of a sixth tree.


def logistic(age, Asym, xmid, scal):
    return Asym / (1 + np.exp((xmid - age) / scal))


fit, covariance = curve_fit(logistic, orange["age"], orange["circumference"], p0=[190, 700, 350])
spread = (orange["circumference"] - logistic(orange["age"], *fit)).std(ddof=3)
print(f"one curve: residual {spread:.1f} mm; mixed model: {model.sigma_:.1f} mm")
errors = covariance[1, 1] ** 0.5, model.standard_errors_["xmid"]
print("error of xmid: {:.0f} against {:.0f} days".format(*errors))
