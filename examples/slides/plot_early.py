"""
Early childhood: a correlation of -1
====================================

Infants were tested at 1, 1.5 and 2 years; 58 of 103 took part in a programme of enriched
environment from half a year on. Do children in the programme lose less of their score with age?

Three tests per child are few for a line of its own. The fit ends at a correlation of -1 between
intercepts and slopes: a *singular* fit. What does it mean, and what to do?

Pages on this: :doc:`/singular`, :doc:`/comparing`.
"""

import warnings

import matplotlib.pyplot as plt

from skmixed import MixedLinearRegressor, SingularFitWarning
from skmixed.datasets import load_early
from skmixed.inference import likelihood_ratio_test
from skmixed.plotting import RandomEffectsDisplay

early = load_early().frame

# %%
# Every child, by group, with the mean of the group on top. Scores fall in both groups, less so in
# the programme. ``tos`` is the time on study, zero when the programme began.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for ax, (trt, rows) in zip(axes, early.groupby("trt", observed=True), strict=True):
    for _, child in rows.groupby("id", observed=True):
        ax.plot(child["tos"], child["cog"], color="C0", alpha=0.25, linewidth=0.8)
    mean = rows.groupby("tos")["cog"].mean()
    ax.plot(mean.index, mean, "o-", color="C1", linewidth=2)
    ax.set(title={"N": "no programme", "Y": "programme"}[trt], xlabel="years on study")
axes[0].set_ylabel("cognitive score")
plt.show()

# %%
# The model of the slides, and its warning
# ----------------------------------------

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", SingularFitWarning)
    slopes = MixedLinearRegressor("cog ~ tos + tos:trt + (tos | id)").fit(early)
print(caught[0].message)
print(slopes.summary())

# %%
# All estimated effects lie on one line: who starts higher falls faster, without exception. Nobody
# believes that of children. The data just cannot tell two variances and a correlation apart.

RandomEffectsDisplay.from_estimator(slopes)
plt.show()

# %%
# Is the slope needed?
# --------------------
#
# A simpler model has one effect per child. The test and AIC lean towards slopes, BIC to the simpler
# one: three tests per child do not settle it. Report the one without the warning, and look what
# depends on it.

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SingularFitWarning)
    simple = MixedLinearRegressor("cog ~ tos + tos:trt + (1 | id)").fit(early)
    test = likelihood_ratio_test(simple, slopes)
print(test[["npar", "AIC", "BIC", "Chisq", "Df", "p-value"]].round(3).to_string(index=False))

# %%
# The answer does not: either way children in the programme gain 7.7 points a year on the others.

for name, fit in (("random intercept", simple), ("singular", slopes)):
    row = fit.coefficients().loc["tos:trt[T.Y]"]
    print(f"{name}: {row['estimate']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}] points a year")

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# One line per group through all 309 scores, as if each were of another child, does not see that a
# child's three scores are compared with one another. Its estimate mixes the change within children
# with differences between them, and its errors know nothing of which is which.

pooled = MixedLinearRegressor("cog ~ tos + tos:trt").fit(early)
for name, fit in (("all scores as independent", pooled), ("by child", simple)):
    row = fit.coefficients().loc["tos:trt[T.Y]"]
    print(f"{name}: {row['estimate']:.2f}, standard error {row['std_error']:.2f}")
for name, fit in (("all scores as independent", pooled), ("by child", simple)):
    row = fit.coefficients().loc["tos"]
    print(f"loss without the programme, {name}: {row['estimate']:.2f} +- {row['std_error']:.2f}")
