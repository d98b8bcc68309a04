"""
Ticks on grouse chicks: counts that vary too much
=================================================

Ticks were counted on the heads of 403 chicks of 118 broods at 63 places, over three years. Do ticks
become fewer with height above sea level, and do chicks of a brood share them?

Counts of ticks vary far more than Poisson counts of one mean would. The model has to say where
from: places, broods, or the chick itself.

Pages on this: :doc:`/glmm`, :doc:`/checks`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedGLMRegressor
from skmixed.datasets import load_grouseticks
from skmixed.inference import check_model
from skmixed.plotting import ModelCheckDisplay, VarianceComponentsDisplay

ticks = load_grouseticks().frame
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for year, rows in ticks.groupby("YEAR", observed=True):
    ax.plot(rows["HEIGHT"], rows["TICKS"] + 0.5, ".", alpha=0.6, label=f"19{year}")
ax.set(yscale="log", xlabel="height above sea level in m", ylabel="ticks + 1/2", title="403 chicks")
ax.legend()
plt.show()

# %%
# Broods and places
# -----------------
#
# A Poisson model with effects of broods and places first. The checks simulate from the fit and find
# that rows vary more than it says.

formula = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)"
poisson = MixedGLMRegressor(formula, family="poisson").fit(ticks)
check = check_model(poisson, ticks, random_state=0)
print(check.table.loc[["overdispersion"], ["statistic", "p_value", "verdict"]])
print("to try:", check.table.loc["overdispersion", "advice"])

# %%
# Two ways out
# ------------
#
# An effect for every chick (``INDEX`` has a level per row), or a negative binomial response. Both
# say that chicks of one brood differ beyond chance; the data prefer neither.

rows = MixedGLMRegressor(formula + " + (1 | INDEX)", family="poisson").fit(ticks)
negative = MixedGLMRegressor(formula, family="negative_binomial").fit(ticks)
fits = {"broods and places": poisson, "and chicks": rows, "negative binomial": negative}
table = {
    name: [fit.aic_, fit.fixed_effects_["cHEIGHT"], fit.standard_errors_["cHEIGHT"]]
    for name, fit in fits.items()
}
print(pd.DataFrame(table, index=["AIC", "height", "std_error"]).T.round(4))

# %%
# Where the variation comes from, in logarithms: a standard deviation of 0.75 between broods means
# that a brood one standard deviation up has twice as many ticks.

VarianceComponentsDisplay.from_estimator(rows)
plt.show()

# %%
# The checks have nothing left to say about the rows:

panels = ["simulated", "fitted", "scale", "predictive"]
ModelCheckDisplay.from_estimator(rows, ticks, panels=panels, random_state=0)
plt.show()

# %%
# The answer
# ----------
#
# Expected ticks by height: black the mean over all broods and places, dashed a typical brood. On a
# log scale they are parallel: with a log link, averaging multiplies by exp(v / 2). The band is that
# of the typical brood.

heights = np.linspace(ticks["cHEIGHT"].min(), ticks["cHEIGHT"].max(), 50)
new = pd.DataFrame({"YEAR": "96", "cHEIGHT": heights})
typical = rows.predict(new, random_effects=False)
low, high = rows.predict_interval(new, random_effects=False).T
mean = rows.predict(new, random_effects=False, marginal=True)
x = heights + ticks["HEIGHT"].mean()
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.fill_between(x, low, high, alpha=0.25, linewidth=0)
ax.plot(x, typical, "k--", label="typical brood")
ax.plot(x, mean, "k-", label="mean")
ax.set(yscale="log", xlabel="height above sea level in m", ylabel="ticks per chick, 1996")
ax.legend()
plt.show()
effect = rows.coefficients().loc["cHEIGHT", ["estimate", "lower", "upper"]].astype(float)
print("ticks per 10 m, multiplied by:", np.exp(10 * effect).round(2).to_dict())

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# A Poisson regression of 403 independent chicks believes in far too much information: chicks of a
# brood share their ticks, so there are some 118 answers and not 403.

plain = MixedGLMRegressor("TICKS ~ YEAR + cHEIGHT", family="poisson").fit(ticks)
for name, fit in (("independent chicks", plain), ("mixed model", rows)):
    print(f"{name}: standard error of height {fit.standard_errors_['cHEIGHT']:.5f}")
