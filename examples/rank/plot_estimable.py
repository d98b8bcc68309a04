"""
Estimable functions: an empty cell, and three types of tests
============================================================

Yields of two varieties under three fertilisers, with unequal numbers of plots and no plot at all of
variety B with fertiliser 3. Which means can be compared, and what do the Type I, II and III tests
of SAS test?

A function of the coefficients is *estimable* if it is a combination of expected values of cells
that were observed. Everything that is well defined follows from that; everything else depends on
the coding.

Pages on this: :doc:`/rank`, :doc:`/sas`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import GeneralizedInverseRegressor
from skmixed.exceptions import NotEstimableError

plots = pd.DataFrame(
    {
        "variety": list("AAAAAAAABBBBB"),
        "fertiliser": list("ppqqqqrrppppq"),
        "bushels": [41.0, 44, 47, 50, 49, 51, 55, 53, 36, 38, 35, 37, 46],
    }
)
print(plots.pivot_table(index="variety", columns="fertiliser", values="bushels", aggfunc="size"))

# %%
# Plots as points, means of cells as lines. Nothing is known of B with fertiliser r, unless one
# assumes that the varieties differ by the same amount everywhere.

figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for k, (variety, rows) in enumerate(plots.groupby("variety")):
    means = rows.groupby("fertiliser")["bushels"].mean()
    ax.plot(rows["fertiliser"], rows["bushels"], "o", color=f"C{k}", alpha=0.5)
    ax.plot(means.index, means, color=f"C{k}", label=f"variety {variety}")
ax.set(xlabel="fertiliser", ylabel="bushels per plot")
ax.legend()
plt.show()

# %%
# With an interaction
# -------------------
#
# Six cells, five of them seen. Means of a variety over all fertilisers are equal weights of its
# cells; that of B needs one that is empty. So does a comparison of the varieties, and the error
# says which coefficient cannot be had.

full = GeneralizedInverseRegressor(formula="bushels ~ variety * fertiliser").fit(plots)
print(full.least_squares_means("variety")[["estimate", "std_error", "estimable"]].round(3))
equal = {f"variety[{v}]:fertiliser[{f}]": s / 3 for v, s in (("A", 1), ("B", -1)) for f in "pqr"}
try:
    full.contrast({"variety[A]": 1, "variety[B]": -1} | equal)
except NotEstimableError as error:
    print(error)

# %%
# Over the two fertilisers that both varieties had, the difference is there.

half = {f"variety[{v}]:fertiliser[{f}]": s / 2 for v, s in (("A", 1), ("B", -1)) for f in "pq"}
print(full.contrast({"variety[A]": 1, "variety[B]": -1} | half))

# %%
# Without an interaction
# ----------------------
#
# The assumption of parallel lines makes all means estimable. It is an assumption: the interaction
# below has one degree of freedom to speak against it.

additive = GeneralizedInverseRegressor(formula="bushels ~ variety + fertiliser").fit(plots)
print(additive.least_squares_means("variety")[["estimate", "std_error", "estimable"]].round(3))

# %%
# Three types
# -----------
#
# Type I tests terms in their order, each given those before it; Type II given all that do not
# contain it; Type III with cells weighted equally, as far as they exist. In balanced data they
# agree. Here the first line differs, since the varieties had other fertilisers.

tables = {f"type {t}": full.anova(type=t) for t in (1, 2, 3)}
tests = pd.DataFrame({name: table["F"] for name, table in tables.items()}).dropna().astype(float)
print(tests.round(2))
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for k, name in enumerate(tests):
    ax.bar(np.arange(3) + 0.25 * (k - 1), tests[name], width=0.24, label=name)
ax.set_xticks(range(3), tests.index)
ax.set(ylabel="F", yscale="log", title="Three questions, three answers")
ax.legend()
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Plain means of the varieties compare A with mostly good fertilisers to B with mostly the first
# one.

plain = plots.groupby("variety")["bushels"].mean()
adjusted = additive.least_squares_means("variety")["estimate"]
print(f"A - B: {plain['A'] - plain['B']:.1f} from plain means, "
      f"{adjusted['A'] - adjusted['B']:.1f} at equal fertilisers")  # fmt: skip
