"""
An animal model: breeding values from a pedigree
================================================

200 animals with their parents; weights of three quarters of them. How much of the variation of the
weight is inherited, and which animals should be bred from, those without a weight included?

Relatives share genes, so their *breeding values* are correlated, by known amounts: half for parent
and child, a quarter for half siblings. A random effect of the animal with that correlation matrix
is the animal model. The data are simulated with a heritability of one half.

Pages on this: :doc:`/formulas`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor, pedigree_relationship
from skmixed.inference import heritability
from skmixed.plotting import CaterpillarDisplay

rng = np.random.default_rng(8)
FOUNDERS, OFFSPRING = 20, 180

# %%
# The pedigree
# ------------
#
# Parents of each animal come from the 40 born before it. ``pedigree_relationship`` turns parents
# into the matrix of relationships K.

rows = [(i, None, None) for i in range(FOUNDERS)]
for i in range(FOUNDERS, FOUNDERS + OFFSPRING):
    sire, dam = rng.choice(np.arange(max(0, i - 40), i), 2, replace=False)
    rows.append((i, sire, dam))
pedigree = pd.DataFrame(rows, columns=["animal", "sire", "dam"])
K = pedigree_relationship(pedigree)

# %%
# Dark is closely related. The founders, in the lower left corner, are not related; after a few
# generations everybody is, a little. Values on the diagonal above 1 belong to inbred animals.

figure, ax = plt.subplots(figsize=(4.8, 4), layout="constrained")
drawn = ax.imshow(K, cmap="Blues", vmin=0, vmax=1, origin="lower")
figure.colorbar(drawn, label="relationship")
ax.set(xlabel="animal", ylabel="animal")
plt.show()

# %%
# The records
# -----------
#
# Breeding values with standard deviation 3 kg, males 4 kg heavier, residuals of 3 kg; two weights
# for each animal that has any.

value = pd.Series(3 * np.linalg.cholesky(K) @ rng.normal(size=len(K)), index=K.index)
recorded = rng.random(len(K)) < 0.75
data = pd.DataFrame({"animal": np.repeat(K.index[recorded], 2)})
data["sex"] = np.where(data["animal"] % 2, "f", "m")
data["weight"] = 50 + 4 * (data["sex"] == "m") + value[data["animal"]].to_numpy()
data["weight"] += 3 * rng.normal(size=len(data))

model = MixedLinearRegressor("weight ~ sex + (1 | animal)", relationship={"animal": K}).fit(data)
print(model.summary())
print(heritability(model).round(3))

# %%
# Whom to breed from?
# -------------------
#
# Predicted against true breeding values, with standard deviations. Animals without a record have
# predictions too, by their relatives: not as good, but far from nothing.

predicted = model.random_effects_["animal"]["Intercept"]
std = model.random_effects_std_["animal"]["Intercept"]
figure, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
for known, label, color in ((recorded, "two records", "C0"), (~recorded, "none", "C1")):
    style = {"fmt": "o", "markersize": 3, "linewidth": 0.6, "color": color, "label": label}
    ax.errorbar(value[known], predicted[known], yerr=std[known], **style)
    accuracy = np.corrcoef(value[known], predicted[known])[0, 1]
    print(f"{label}: correlation of predicted and true values {accuracy:.2f}")
ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8)
ax.set(xlabel="breeding value in kg", ylabel="predicted, with standard deviation")
ax.legend(fontsize="small")
plt.show()

# %%
# In order; there are too many for labels. Zero is the mean of the population that the founders come
# from.

CaterpillarDisplay.from_estimator(model)
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Without the pedigree every animal stands for itself: the two weights of one animal still show a
# variance between animals, but nothing can be said of those without a record, and those with one
# are known less well.

alone = MixedLinearRegressor("weight ~ sex + (1 | animal)").fit(data)
own = alone.random_effects_["animal"]["Intercept"]
for name, effects in (("with the pedigree", predicted[own.index]), ("without", own)):
    accuracy = np.corrcoef(value[own.index], effects)[0, 1]
    print(f"{name}: correlation with true values of recorded animals {accuracy:.3f}")
