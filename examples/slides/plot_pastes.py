"""
Pastes: nested factors
======================

Ten deliveries (batches) of a chemical paste came in casks. Three casks of each were sampled, and
every sample was assayed twice. Does the strength vary between deliveries, between the casks of a
delivery, or is it the assay?

Casks are *nested* in batches: cask ``a`` of batch A has nothing to do with cask ``a`` of batch B.

Pages on this: :doc:`/formulas`, :doc:`/comparing`.
"""

import matplotlib.pyplot as plt
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_pastes
from skmixed.inference import likelihood_ratio_test
from skmixed.plotting import ProfileDisplay

pastes = load_pastes().frame
print(pastes.head(4))

# %%
# One line for each cask, from its first assay to its second. The two points of a line are close,
# the lines of one batch are far apart: casks differ much more than assays.

order = pastes.groupby("batch", observed=True)["strength"].mean().sort_values().index
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for place, batch in enumerate(order):
    for k, (_, cask) in enumerate(pastes[pastes["batch"] == batch].groupby("cask", observed=True)):
        height = [place + 0.22 * (k - 1)] * len(cask)
        ax.plot(cask["strength"], height, "o-", color=f"C{k}", markersize=4)
ax.set_yticks(range(len(order)), order)
ax.set(xlabel="strength", ylabel="batch, by its mean", title="Two assays of three casks per batch")
plt.show()

# %%
# Three ways to say it
# --------------------
#
# ``sample`` names every cask once, so batches and samples can be written side by side: that they
# are nested is seen in the data. With casks called a, b, c in every batch, ``batch/cask`` or
# ``batch:cask`` says what belongs to what. All three are one model.

formulas = [
    "strength ~ 1 + (1 | batch) + (1 | sample)",
    "strength ~ 1 + (1 | batch/cask)",
    "strength ~ 1 + (1 | batch) + (1 | batch:cask)",
]
fits = [MixedLinearRegressor(formula).fit(pastes) for formula in formulas]
print(pd.Series({fit.formula: fit.deviance_ for fit in fits}, name="REML criterion").round(4))
print(fits[0].variance_components()[["group", "variance", "std_dev"]].round(2))

# %%
# Is there anything between batches beyond the casks?
# ---------------------------------------------------
#
# The hypothesis that a variance is zero lies at the end of the scale, where the usual p-value is
# about twice too large. The last column knows that. Either way the data leave it open.

casks = MixedLinearRegressor("strength ~ 1 + (1 | sample)").fit(pastes)
test = likelihood_ratio_test(casks, fits[0])
print(test[["Chisq", "Df", "p-value", "p-value (boundary)"]].round(3).to_string(index=False))

# %%
# Left open is not the same as absent. The profile of the standard deviation between batches runs
# into zero on the left, so its interval has no lower limit above 0; on the right it goes up to 2.9,
# as large as that of the casks.

ProfileDisplay.from_estimator(fits[0])
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# The labels a, b, c taken for levels by themselves are a crossed factor with three levels: all
# casks called ``a`` would have one effect. The casks' variance disappears into the residual, which
# becomes more than three times too large.

crossed = MixedLinearRegressor("strength ~ 1 + (1 | batch) + (1 | cask)").fit(pastes)
print(f"residual: nested {fits[0].sigma_:.2f}, casks taken as crossed {crossed.sigma_:.2f}")
