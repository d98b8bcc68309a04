"""
Dyestuff: one random effect, and a variance of zero
===================================================

Six batches of an intermediate product were made into dyestuff, five samples of each. How much of
the variation of the yield comes from the batches? If most of it does, the chemist has to look at
the raw product; if little, at the process.

The batches are six of very many, so the question is about a *variance*, not about six means.

Pages on this: :doc:`/tests`, :doc:`/singular`.
"""

import warnings

import matplotlib.pyplot as plt

from skmixed import MixedLinearRegressor, SingularFitWarning
from skmixed.datasets import load_dyestuff, load_dyestuff2
from skmixed.plotting import CaterpillarDisplay, ProfileDisplay

dyestuff = load_dyestuff().frame
model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(dyestuff)
print(model.summary())

# %%
# The standard deviation between batches, 42 g, is nearly as large as that between samples of one
# batch, 50 g. Batches have a share of the variance of about 42 %:

print(model.icc())

# %%
# Means and what is made of them
# ------------------------------
#
# Points are the samples, bars the mean of each batch, diamonds what the model predicts for the
# batch. Diamonds lie between the batch's own mean and the overall one (dashed): five samples are
# not enough to believe a mean fully, and the more extreme it is the more of it is luck. Here every
# deviation keeps 78 % of its size.

means = dyestuff.groupby("Batch", observed=True)["Yield"].mean()
effects = model.random_effects_["Batch"]["Intercept"]
centre = model.intercept_

figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
ax.plot(dyestuff["Yield"], dyestuff["Batch"], "o", color="0.6", markersize=4, label="sample")
ax.plot(means, means.index, "|", markersize=18, markeredgewidth=2, label="mean of batch")
ax.plot(centre + effects, effects.index, "D", color="C1", markersize=6, label="prediction")
ax.axvline(centre, color="0.5", linestyle="--", linewidth=0.8)
ax.set(xlabel="yield in g", ylabel="batch", title="Every batch is drawn towards the mean of all")
ax.legend(loc="lower right", fontsize="small")
plt.show()

kept = effects / (means - centre)
print("share of its deviation that a batch keeps:", kept.round(3).unique())

# %%
# In order, with what is not known about each: intervals that overlap zero belong to batches that
# may well be average ones.

CaterpillarDisplay.from_estimator(model)
plt.show()

# %%
# How well is the variance known?
# -------------------------------
#
# Six batches say little about a variance between batches. A profile shows how the fit gets worse
# when a parameter is held at another value. Were the curves straight, a symmetric interval would
# do; that of the standard deviation bends, and its interval reaches far to the right. (Profiles are
# of the likelihood, whose estimate of a variance from six batches is lower than REML's: 37 g, not
# 42.)

print(model.confint(method="profile").round(1))
ProfileDisplay.from_estimator(model)
plt.show()

# %%
# A variance of zero
# ------------------
#
# The same layout with other numbers (Box and Tiao made them up). Here the means of batches differ
# *less* than means of five samples would by chance. No positive variance explains that, so the
# estimate is zero, and a warning says so. It is no failure: the data show no differences between
# batches.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", SingularFitWarning)
    flat = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(load_dyestuff2().frame)
print(caught[0].category.__name__)
print(flat.confint(method="profile").round(2))

# %%
# The profile interval says what "zero" means: the standard deviation between batches may be as
# large as 2.1, beside 3.7 within. "There is no batch effect" would be too strong.
#
# What a wrong analysis would have said
# -------------------------------------
#
# Taking the 30 yields for independent ones makes the mean look better known than it is: the samples
# of one batch repeat one another.

wrong = dyestuff["Yield"].sem()
right = model.standard_errors_["Intercept"]
print(f"standard error of the mean: {wrong:.1f} g as if independent, {right:.1f} g by batches")
