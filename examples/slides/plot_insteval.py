"""
Ratings of lectures: large and crossed
======================================

73,421 ratings, 1 (poor) to 5 (very good), of 1,128 lecturers of 14 departments by 2,972 students of
ETH Zurich. Are lectures given for another department (*service*) rated lower? And whom do ratings
tell more about, the student or the lecturer?

Students and lecturers are partially crossed: every student rates some lecturers, every lecturer is
rated by some students. Nothing has to be said about it in the formula.

Pages on this: :doc:`/scale`, :doc:`/prediction`.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_insteval
from skmixed.plotting import CaterpillarDisplay

ratings = load_insteval().frame
start = time.perf_counter()
model = MixedLinearRegressor("y ~ service + (1 | s) + (1 | d) + (1 | dept)").fit(ratings)
print(f"{len(ratings)} rows, {time.perf_counter() - start:.1f} s")
print(model.summary())

# %%
# A service lecture is rated 0.09 points lower: with so many rows that is far from zero, and it is
# of no importance. Lecturers differ by half a point (standard deviation), students by a third, and
# most of the variation, more than a point, is none of the two.

# %%
# A good lecturer or lenient students?
# ------------------------------------
#
# Below, the plain mean of every lecturer's ratings against the model's estimate. The line is
# equality. Of a lecturer with few ratings (light) little is known, and the estimate stays near the
# middle; with many (dark) it follows the mean, apart from what the students who came give to
# everybody.

lecturers = ratings.groupby("d", observed=True)["y"].agg(["mean", "size"])
effects = model.random_effects_["d"]["Intercept"].loc[lecturers.index]
figure, ax = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
style = {"c": np.log10(lecturers["size"]), "s": 9, "cmap": "Blues", "vmin": -0.5}
points = ax.scatter(lecturers["mean"], ratings["y"].mean() + effects, **style)
ax.axline((3.2, 3.2), slope=1, color="0.5", linewidth=0.8)
bar = figure.colorbar(points, label="ratings of the lecturer", ticks=[0, 1, 2])
bar.ax.set_yticklabels(["1", "10", "100"])
ax.set(xlabel="mean rating", ylabel="estimate", title="1,128 lecturers")
plt.show()

# %%
# The best by the plain mean have 10 to 36 ratings; the best by the model have more.

table = lecturers.assign(estimate=effects)
for by in ("mean", "estimate"):
    print(f"\nbest five by {by}")
    print(table.nlargest(5, by).round(2))

# %%
# All lecturers in order, with intervals. There are too many for labels; the shape shows that the
# extremes at both ends differ from the average, and most of those between cannot be told from it.

CaterpillarDisplay.from_estimator(model, group="d")
plt.show()

# %%
# The departments, given their lecturers and students, differ hardly at all:

CaterpillarDisplay.from_estimator(model, group="dept")
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# The difference of two plain means compares other lecturers and other students as well. It has a
# standard error too small for what it is, and it is biased: those who give service lectures are not
# the same.

flat = MixedLinearRegressor("y ~ service").fit(ratings)
rows = {
    name: [fit.fixed_effects_.iloc[1], fit.standard_errors_.iloc[1]]
    for name, fit in (("two means", flat), ("mixed model", model))
}
print(pd.DataFrame(rows, index=["service", "std_error"]).T.round(4))
