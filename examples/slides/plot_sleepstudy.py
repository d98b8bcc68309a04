"""
Sleep study: random slopes and shrinkage
========================================

Eighteen subjects slept three hours a night; their reaction times were measured on ten days. By how
much does a person slow down per day, and how different are people in that?

Two random effects for each subject, an intercept and a slope. Are they correlated? And what happens
to the line of each single subject?

Pages on this: :doc:`/guide`, :doc:`/comparing`.
"""

import matplotlib.pyplot as plt
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_sleepstudy
from skmixed.inference import likelihood_ratio_test
from skmixed.plotting import RandomEffectsDisplay, ShrinkageDisplay, TrellisDisplay

sleep = load_sleepstudy().frame
level = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(sleep)
apart = MixedLinearRegressor("Reaction ~ Days + (Days || Subject)").fit(sleep)
joint = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
print(joint.summary())

# %%
# Do slopes vary? Are they correlated with intercepts?
# ----------------------------------------------------
#
# Each model is compared with the line before it. Slopes vary beyond doubt; nothing speaks for a
# correlation between how fast somebody is and how much he slows down.

test = likelihood_ratio_test(level, apart, joint)
print(test[["npar", "AIC", "Chisq", "Df", "p-value"]].round(4).to_string(index=False))

# %%
# Every subject
# -------------
#
# The data of each subject with three lines: least squares of these ten points alone, the
# population's line, and the mixed model's. The mixed model's line lies between the two others,
# mostly close to the subject's own, since ten days say a lot. Look at 335, who gets faster by
# himself.

TrellisDisplay.from_estimator(apart, sleep)
plt.show()

# %%
# Shrinkage
# ---------
#
# The same lines as points: intercept across, slope upwards. A line leads from a subject's own least
# squares to the mixed model's estimate, inwards, towards the population's mean (the cross). Slopes,
# which ten days tell well, move less than intercepts do.

ShrinkageDisplay.from_estimator(apart, sleep)
plt.show()

# %%
# The estimated effects of the correlated model, with ellipses that should hold 50 % and 95 % of the
# subjects. They are nearly upright: a correlation of 0.07.

RandomEffectsDisplay.from_estimator(joint)
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# With one line for all subjects, 180 rows count as independent. With a random intercept alone, the
# slope of a subject is taken to be everybody's. Both have the same slope, 10.5 ms a day, and too
# short an interval for it: what is not known is mainly how *people* differ, and there are 18 of
# them.

pooled = MixedLinearRegressor("Reaction ~ Days").fit(sleep)
table = {}
for name, fit in (("one line", pooled), ("random intercept", level), ("random slope", apart)):
    table[name] = fit.coefficients().loc["Days", ["estimate", "std_error", "df", "lower", "upper"]]
print(pd.DataFrame(table).T.astype(float).round(2))
