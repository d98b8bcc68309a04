"""
Theophylline: how a drug comes and goes
=======================================

Twelve subjects took a dose by mouth; the concentration in their serum was measured eleven times
over a day. How fast is the drug absorbed, how fast does the body clear it, and how different are
people? That decides about doses.

A model of one compartment with first-order absorption has three rates, on a log scale: elimination
``lKe``, absorption ``lKa``, clearance ``lCl``.

Pages on this: :doc:`/nonlinear`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedNonlinearRegressor
from skmixed.datasets import load_theoph
from skmixed.inference import likelihood_ratio_test
from skmixed.plotting import NormalQuantileDisplay, TrellisDisplay

theoph = load_theoph().frame
CURVE = "conc ~ first_order(Dose, Time, lKe, lKa, lCl) ~ "

# %%
# In what do subjects differ?
# ---------------------------
#
# In absorption; in absorption and clearance; these two correlated.

one = MixedNonlinearRegressor(CURVE + "(lKa | Subject)").fit(theoph)
model = MixedNonlinearRegressor(CURVE + "(lKa + lCl || Subject)").fit(theoph)
correlated = MixedNonlinearRegressor(CURVE + "(lKa + lCl | Subject)").fit(theoph)
test = likelihood_ratio_test(one, model, correlated)
print(test[["npar", "AIC", "Chisq", "Df", "p-value"]].round(4).to_string(index=False))
print(model.summary())

# %%
# Every subject
# -------------
#
# Dashed the typical subject at that dose, the line the subject's own curve. Peaks come at different
# times: absorption varies most, by a factor of two (a standard deviation of 0.64 in logarithms).

levels = sorted(theoph["Subject"].unique(), key=int)
display = TrellisDisplay.from_estimator(model, theoph, levels=levels, columns=4)
for ax in display.axes_[::4]:
    ax.set_ylabel("")
display.axes_[4].set_ylabel("theophylline in mg per l")
plt.show()

# %%
# Do heavy subjects clear more?
# -----------------------------
#
# A parameter may depend on covariates. Clearance per kg and weight: no clear relation in twelve
# subjects.

weight = MixedNonlinearRegressor(CURVE + "(lKa + lCl || Subject)", fixed={"lCl": "Wt"}).fit(theoph)
test = likelihood_ratio_test(model, weight)
print(test[["npar", "AIC", "Chisq", "p-value"]].round(3).to_string(index=False))
print(weight.confint(["lCl[Wt]"]).round(4))

# %%
# How long until half of it is gone?
# ----------------------------------
#
# Half-lives follow from the elimination rate: a function of a parameter, whose limits follow by the
# same function.

rate = np.exp(model.confint(["lKe"]).iloc[0])
estimate, low, high = np.log(2) / rate[["estimate", "upper", "lower"]]
print(f"half-life {estimate:.1f} hours, 95 % limits {low:.1f} to {high:.1f}")

# %%
# Residuals
# ---------
#
# Left by the mean: no bend that the curve missed. Right beside the quantiles of a normal
# distribution: both tails are longer, by some ten measurements.

figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.4), layout="constrained")
left.axhline(0, color="0.6", linewidth=0.8)
left.plot(model.predict(theoph), model.residuals(theoph, kind="scaled"), ".")
left.set(xlabel="predicted theophylline in mg per l", ylabel="residual / sigma")
NormalQuantileDisplay.from_estimator(model, theoph, ax=right)
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Averaging the concentrations of all subjects at each time gives a curve that nobody has: peaks at
# different times average out to a lower, broader one. The typical subject, with all random effects
# zero, is not the mean.

hours = np.linspace(0, 24, 200)
typical = pd.DataFrame({"Time": hours, "Dose": theoph["Dose"].mean()})
people = pd.concat(typical.assign(Subject=level) for level in levels)
curves = model.predict(people).reshape(len(levels), -1)
figure, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
ax.plot(hours, curves.T, color="0.75", linewidth=0.8)
ax.plot(hours, curves.mean(axis=0), color="C1", label="mean of the curves")
ax.plot(hours, model.predict(typical, random_effects=False), color="C0", label="typical subject")
ax.set(xlabel="hours since the dose", ylabel="theophylline in mg per l")
ax.legend()
plt.show()
peaks = curves.max(axis=1).mean(), curves.mean(axis=0).max()
print("mean of the peaks {:.1f}, peak of the mean {:.1f}".format(*peaks))
