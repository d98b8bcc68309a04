"""
Cattle disease by herd: proportions with random effects
=======================================================

New cases of contagious bovine pleuropneumonia in 15 herds, in four quarters. Does the incidence
fall over the year, and how different are herds?

Every row has a number of cases out of a number of animals: a binomial response with trials. The
herds are few and small, so the approximation of the likelihood deserves a look.

Pages on this: :doc:`/glmm`, :doc:`/checks`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedGLMRegressor
from skmixed.datasets import load_cbpp
from skmixed.inference import check_model
from skmixed.plotting import CaterpillarDisplay

cbpp = load_cbpp().frame
formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
model = MixedGLMRegressor(formula, family="binomial").fit(cbpp)
print(model.summary())

# %%
# The picture has a line for each herd, points as large as the herd. Black is the mean over herds
# that the model expects, ``marginal=True``; dashed the typical herd, with an effect of 0. They
# differ, since a logistic curve bends: the average of many herds is not the herd with average
# effect.

periods = pd.DataFrame({"period": list("1234")})
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for _, herd in cbpp.groupby("herd", observed=True):
    share, when = herd["incidence"] / herd["size"], herd["period"].astype(int)
    ax.plot(when, share, color="C0", alpha=0.35, linewidth=0.8)
    ax.scatter(when, share, s=2 * herd["size"], color="C0", alpha=0.35)
typical = model.predict(periods, random_effects=False)
average = model.predict(periods, random_effects=False, marginal=True)
ax.plot([1, 2, 3, 4], average, "k-", label="mean over herds")
ax.plot([1, 2, 3, 4], typical, "k--", label="typical herd")
ax.set(xlabel="quarter", ylabel="new cases per animal", xticks=[1, 2, 3, 4])
ax.legend()
plt.show()
print(periods.assign(typical=typical, mean=average).round(3))

# %%
# Odds of the disease, relative to the first quarter: less than half, with intervals that stay below
# 1.

table = model.coefficients().loc["period[T.2]":, ["estimate", "lower", "upper"]]
print(np.exp(table.astype(float)).round(2))

# %%
# Is the approximation good enough?
# ---------------------------------
#
# Laplace's approximation is quadrature with one node. With 9 or 25 nodes nothing of importance
# moves.

rows = {}
for nodes in (1, 9, 25):
    fit = MixedGLMRegressor(formula, family="binomial", n_agq=nodes).fit(cbpp)
    sd = fit.covariances_["herd"].to_numpy().item() ** 0.5
    rows[nodes] = [*fit.fixed_effects_, sd]
print(pd.DataFrame(rows, index=[*fit.fixed_effects_.index, "sd of herds"]).T.round(3))

# %%
# Herds in order, on the scale of the logit.

CaterpillarDisplay.from_estimator(model)
plt.show()

# %%
# Does it fit?
# ------------
#
# No check objects. But 56 rows cannot object to much, and a disease spreads: animals of one herd
# and quarter fall ill together, more than binomial ones would. An effect of every row takes that
# in, and by its AIC the data agree.

check = check_model(model, cbpp, random_state=0)
print(check.table.loc[["overdispersion", "uniformity"], ["statistic", "p_value", "verdict"]])
cbpp["row"] = [f"row {i}" for i in range(len(cbpp))]
wider = MixedGLMRegressor(formula + " + (1 | row)", family="binomial").fit(cbpp)

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Without herds every animal counts as independent, and errors are too small. The more of what
# animals share is in the model, the larger the error of the same comparison becomes:

formula = "cbind(incidence, size - incidence) ~ period"
plain = MixedGLMRegressor(formula, family="binomial").fit(cbpp)
fits = {"no herds": plain, "herds": model, "herds and rows": wider}
for name, fit in fits.items():
    estimate, error = fit.fixed_effects_["period[T.2]"], fit.standard_errors_["period[T.2]"]
    print(
        f"{name:15s} second quarter {estimate:.2f}, standard error {error:.2f}, AIC {fit.aic_:.1f}"
    )
