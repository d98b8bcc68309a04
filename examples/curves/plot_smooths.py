"""
Smooth curves: uptake of grasses and growth of soybeans
=======================================================

Where no formula of a curve is known, ``s(x)`` in the fixed part is a smooth function whose
wiggliness is estimated like a variance. Beside random effects this is a generalised additive mixed
model.

How does the uptake of CO2 depend on its concentration, in grasses of two origins? And which of two
varieties of soybean grows faster, and when?

Pages on this: :doc:`/smooths`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_co2, load_soybean
from skmixed.inference import random_effects_test
from skmixed.plotting import SmoothDisplay

grasses = load_co2().frame
uptake = MixedLinearRegressor(
    "uptake ~ Type * Treatment + s(log(conc), k=7, by=Type) + (1 | Plant)"
).fit(grasses)
print(uptake.summary())

# %%
# A curve for each origin, with pointwise 95 % bands and partial residuals. Both rise and level off;
# plants from Quebec take up more where there is more. The curves are centred: how much more is in
# the coefficients of ``Type``.

SmoothDisplay.from_estimator(uptake, grasses, residuals=True)
plt.show()

# %%
# Is it more than a line in log(conc)? The variance of the deviations from a line is tested like
# that of any random effect. ``edf`` counts the degrees of freedom that a curve uses, at most k - 1
# = 6.

print(random_effects_test(uptake)[["lrt", "df", "p_value_boundary"]].iloc[1:].round(4).to_string())
print(uptake.smooths_.round(2))

# %%
# Growth of soybeans
# ------------------
#
# Weights of leaves in 48 plots, on a log scale, with a curve for each variety in one panel. Steep
# is fast: growth is exponential for a month and then slows down.

beans = load_soybean().frame
growth = MixedLinearRegressor("log(weight) ~ Variety + s(Time, k=8, by=Variety) + (1 | Plot)").fit(
    beans
)
SmoothDisplay.from_estimator(growth, beans, overlay=True)
plt.show()

# %%
# In grams, with the raw data: predictions of both varieties, back on the scale of weights. The
# experimental one (P) is ahead all along; its advantage is a factor, so it grows with the plant.

days = np.linspace(beans["Time"].min(), beans["Time"].max(), 100)
figure, ax = plt.subplots(figsize=(6.2, 3.8), layout="constrained")
for k, variety in enumerate(["F", "P"]):
    rows = beans[beans["Variety"] == variety]
    new = pd.DataFrame({"Time": days, "Variety": variety})
    ax.plot(rows["Time"], rows["weight"], ".", color=f"C{k}", alpha=0.3, markersize=4)
    ax.plot(days, np.exp(growth.predict(new, random_effects=False)), color=f"C{k}", label=variety)
ax.set(xlabel="days after planting", ylabel="leaf weight in g", title="Two varieties")
ax.legend(title="variety")
plt.show()

# %%
# What wrong analyses would have said
# -----------------------------------
#
# A straight line in the concentration misses that the uptake levels off, and its residuals are 1.6
# times as large. A polynomial follows, and runs away outside of the data; a smooth curve goes on as
# a line. Without the plants, their differences count as noise, and the effect of chilling looks
# twice as well known as twelve plants can tell.

formulas = {
    "line": "uptake ~ Type * Treatment + Type:log(conc) + (1 | Plant)",
    "smooth": uptake.formula,
    "no plants": "uptake ~ Type * Treatment + s(log(conc), k=7, by=Type)",
}
rows = {}
for name, formula in formulas.items():
    fit = MixedLinearRegressor(formula).fit(grasses)
    rows[name] = [fit.sigma_, fit.standard_errors_["Treatment[T.nonchilled]"]]
print(pd.DataFrame(rows, index=["residual", "error of chilling"]).T.round(2))
