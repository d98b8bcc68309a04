"""
A field trial: soil that is better in one corner
================================================

56 varieties of wheat grew in four blocks of a field in Nebraska. Which yields most? Fertility
changes over the field and does not stop at the borders of blocks, so neighbours are alike for no
merit of theirs.

A Gaussian field, ``gau(latitude + longitude)``, is a random effect of the place: smooth, and
estimated together with the varieties. The analysis follows Pinheiro and Bates (2000, section
5.5.2).

Pages on this: :doc:`/formulas`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_wheat2

plots = load_wheat2().frame.rename(columns={"yield": "bushels"})
blocks = MixedLinearRegressor("bushels ~ variety + (1 | Block)").fit(plots)
field = MixedLinearRegressor("bushels ~ variety + gau(latitude + longitude)").fit(plots)
for name, fit in (("blocks", blocks), ("field", field)):
    print(f"{name}: AIC {fit.aic_:.1f}, residual {fit.sigma_:.2f} bushels per acre")

# %%
# Left the yields as they are; right what the model thinks of the soil, at places between the plots
# too: the difference between a prediction with and without random effects. The corner at the upper
# left yields some 20 bushels less than the middle, and no block has its shape.

ends = ((plots[c].min(), plots[c].max()) for c in ("longitude", "latitude"))
east, north = (np.linspace(*end, 80) for end in ends)
grid = pd.DataFrame([(y, x) for y in north for x in east], columns=["latitude", "longitude"])
grid["variety"] = plots["variety"].iloc[0]
soil = field.predict(grid) - field.predict(grid, random_effects=False)
most = np.abs(soil).max()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
drawn = axes[0].scatter(plots["longitude"], plots["latitude"], c=plots["bushels"], s=26)
figure.colorbar(drawn, label="bushels per acre")
picture = soil.reshape(80, 80)
drawn = axes[1].pcolormesh(east, north, picture, cmap="RdBu", vmin=-most, vmax=most)
figure.colorbar(drawn, label="field, bushels per acre")
for ax, title in zip(axes, ("yields", "what their places explain"), strict=True):
    ax.set(title=title, xlabel="longitude in m")
axes[0].set(ylabel="latitude in m", ylim=(plots["latitude"].min() - 2, plots["latitude"].max() + 2))
plt.show()

# %%
# Who is best?
# ------------
#
# A variety that happened to stand in the good corner looks good in plain means. The picture
# compares the means of all varieties by blocks (across) with those that know of the soil (upwards).

varieties = pd.DataFrame({"variety": plots["variety"].cat.categories})
varieties["latitude"], varieties["longitude"] = plots["latitude"].mean(), plots["longitude"].mean()
varieties["Block"] = plots["Block"].iloc[0]
by_block = blocks.predict(varieties, random_effects=False)
by_field = field.predict(varieties, random_effects=False)
figure, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
ax.plot(by_block, by_field, "o", markersize=4)
for k in sorted({*np.argsort(by_block)[-3:], *np.argsort(by_field)[-3:]}):
    name = varieties["variety"][k]
    ax.annotate(name, (by_block[k], by_field[k]), (4, -3), textcoords="offset points", fontsize=7)
ax.margins(x=0.12)
ax.axline((25, 25), slope=1, color="0.6", linewidth=0.8)
ax.set(xlabel="mean by blocks", ylabel="mean by field", title="56 varieties, bushels per acre")
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Blocks leave most of the soil in the residual. Differences between varieties have an error 1.7
# times as large, and the order at the top is partly an order of places.

for name, fit, means in (("blocks", blocks, by_block), ("field", field, by_field)):
    best = varieties["variety"].iloc[np.argsort(-means)[:4]].tolist()
    error = fit.standard_errors_.iloc[1:].median()
    print(f"{name:7s} best: {', '.join(best)}; error of a difference {error:.2f}")
