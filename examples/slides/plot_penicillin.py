"""
Penicillin: crossed factors
===========================

Six samples of penicillin were tested on 24 plates of agar; each sample is on each plate once. The
wider the zone without bacteria, the stronger the sample. Are the samples equally strong, and how
precise is the assay?

Plates and samples are *crossed*: no plate belongs to a sample or the reverse. Each has effects of
its own, ``(1 | plate) + (1 | sample)``.

Pages on this: :doc:`/plots`, :doc:`/formulas`.
"""

import matplotlib.pyplot as plt
import numpy as np

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_penicillin
from skmixed.plotting import CaterpillarDisplay, SparsityDisplay, VarianceComponentsDisplay

penicillin = load_penicillin().frame
model = MixedLinearRegressor("diameter ~ 1 + (1 | plate) + (1 | sample)").fit(penicillin)
print(model.summary())

# %%
# Look at the data first: one line for each sample, plates in the order of their means. The lines
# are nearly parallel, which is what the model says: a plate moves all samples up or down together.

table = penicillin.pivot(index="plate", columns="sample", values="diameter")
table = table.loc[table.mean(axis=1).sort_values().index]
figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
for sample in table:
    ax.plot(table.index, table[sample], "o-", markersize=3, linewidth=0.9, label=sample)
ax.set(xlabel="plate, by its mean", ylabel="diameter in mm", title="Lines of samples are parallel")
ax.legend(title="sample", ncols=6, fontsize="small", loc="upper left")
ax.set_ylim(top=29.5)
plt.show()

# %%
# Where the variation comes from
# ------------------------------
#
# Intervals tell which of the three standard deviations is well known. That of samples rests on six
# levels and is not; that of plates and the residual are.

VarianceComponentsDisplay.from_estimator(model, method="profile")
plt.show()

# %%
# Samples in order. Their intervals are short beside the differences: F is the weakest, A and C are
# the strongest, beyond doubt.

CaterpillarDisplay.from_estimator(model, group="sample")
plt.show()

# %%
# Plates in order: here shrinkage is at work, since a plate has six zones only.

CaterpillarDisplay.from_estimator(model, group="plate")
plt.show()

# %%
# What crossing costs
# -------------------
#
# The matrices behind the fit. Z' has one row for every plate and sample. Crossed factors meet in
# the long strip of Lambda'Z'Z Lambda + I, and its Cholesky factor L fills in only in the small
# corner of the samples: plates, the larger factor, are eliminated first.

SparsityDisplay.from_estimator(model, penicillin)
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Without the plates, their variation counts as noise of the assay, and a comparison of two samples
# looks half as precise as it is: within one plate the plate cancels.

without = MixedLinearRegressor("diameter ~ 1 + (1 | sample)").fit(penicillin)
for name, fit in (("plates in the model", model), ("plates left out", without)):
    error = fit.sigma_ * np.sqrt(2 / 24)
    print(f"{name}: residual {fit.sigma_:.2f} mm, error of a difference {error:.2f} mm")
