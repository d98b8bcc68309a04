"""
Generalised inverses: what PROC GLM computes, and why it is safe
================================================================

A singular system has infinitely many solutions. SAS picks one by *sweeping*, others pick the
shortest, by Moore and Penrose. Coefficients then depend on the choice; which answers do not?

Four parts: a singular system and its solutions; all of its solutions and the shortest of them; the
over-parameterised design of PROC GLM; and reference levels, which change every coefficient and
nothing that the data determine.

Pages on this: :doc:`/rank`, :doc:`/sas`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import GeneralizedInverseRegressor
from skmixed.exceptions import NotEstimableError
from skmixed.linalg import g2_inverse, moore_penrose, null_space

# %%
# 1. A b = c with a singular A
# ----------------------------
#
# The matrix and right-hand side of the documentation of SWEEP and GINV in SAS/IML. Column 3 is
# twice column 4: the rank is 3.

A = np.array([[100, 50, 20, 10], [50, 106, 46, 23], [20, 46, 56, 28], [10, 23, 28, 14]])
C = np.array([130, 776, 486, 243])
swept, shortest, null = g2_inverse(A) @ C, moore_penrose(A) @ C, null_space(A)[:, 0]
print("sweep:        ", swept.round(12))
print("Moore-Penrose:", shortest.round(12))
print("what is left of A b - c:", np.abs(A @ np.array([swept, shortest]).T - C[:, None]).max())

# %%
# b3 and b4 differ; 2 b3 + b4 does not (8 in both). Only that is *estimable*.
#
# 2. The line of solutions
# ------------------------
#
# Every point of the curve solves the system: one solution plus alpha times the null vector.
# Moore-Penrose is at the bottom, where the solution is shortest; sweep at the point where the last
# coefficient is zero.

alpha = np.linspace(-2.5, 2.5, 201)
norms = np.linalg.norm(shortest + alpha[:, None] * null, axis=1)
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
ax.plot(alpha, norms)
for at, label in ((0.0, "Moore-Penrose"), ((swept - shortest) @ null, "sweep (b4 = 0)")):
    height = np.linalg.norm(shortest + at * null)
    ax.plot(at, height, "o", color="C1")
    place = {"xytext": (0, 12), "textcoords": "offset points", "ha": "center"}
    ax.annotate(f"{label}\nlength {height:.3f}", (at, height), **place)
ax.set(xlabel="alpha", ylabel="length of b + alpha null vector", title="All of them solve A b = c")
ax.set_ylim(top=9.2)
plt.show()

# %%
# 3. The design of PROC GLM
# -------------------------
#
# Gains of 12 animals by diet and sex: a column for every level, none left out. The columns of each
# factor add up to the intercept.

data = pd.DataFrame(
    {
        "diet": list("aaaabbbbcccc"),
        "sex": list("mmfmfffmmmff"),
        "gain": [31.0, 29, 25, 33, 30, 28, 29, 36, 41, 40, 34, 35],
    }
)
model = GeneralizedInverseRegressor(formula="gain ~ diet + sex").fit(data)
print(model.design_matrix(data).head(3).astype(int).to_string(index=False))
print(model.summary())

# %%
# What can be asked? A difference of diets can. The coefficient of one diet cannot, and the error
# says why.

print(model.contrast({"diet[c]": 1, "diet[a]": -1}))
try:
    model.contrast({"diet[c]": 1})
except NotEstimableError as error:
    print(error)

# %%
# 4. Reference levels
# -------------------
#
# Three reference levels by two generalised inverses. Left the coefficients of the diets: sweep has
# another solution for every reference level, Moore-Penrose always the shortest. Right what the data
# determine, the means of diets: one answer.

coefficients, means = {}, {}
for reference in "abc":
    for method in ("sweep", "moore_penrose"):
        fit = GeneralizedInverseRegressor(
            method, formula="gain ~ diet + sex", reference={"diet": reference}
        ).fit(data)
        coef = pd.Series([fit.intercept_, *fit.coef_], index=fit.aliased_.index)
        name = f"{method}, {reference} last"
        coefficients[name] = coef[["diet[a]", "diet[b]", "diet[c]"]]
        means[name] = fit.least_squares_means("diet")["estimate"].loc[list("abc")]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for ax, table, title in ((axes[0], coefficients, "coefficients"), (axes[1], means, "means")):
    for name, values in table.items():
        ax.plot(["a", "b", "c"], values.to_numpy(), "o-", alpha=0.7, label=name)
    ax.set(title=f"{title} of diets", xlabel="diet", ylabel="gain in g")
axes[0].legend(fontsize="x-small")
plt.show()
print(f"largest difference between means: {np.ptp(pd.DataFrame(means), axis=1).max():.1e}")
print(model.least_squares_means("diet").round(3))

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Reading a coefficient as "the effect of diet a": it is 0, or -5, or something else, as the
# software pleases. SAS marks such coefficients with a B; ask for contrasts and means instead.
