"""
Scottish schools: partially crossed factors
===========================================

Attainment of 3435 pupils of Fife, who came from 148 primary schools to 19 secondary schools. Does
it matter which secondary school a pupil attends, given the primary school and what the pupil could
do on entry?

Pupils of one primary school go to several secondary schools and the reverse. Neither factor is
nested in the other, nor are they fully crossed; the formula is the same in any case.

Pages on this: :doc:`/formulas`, :doc:`/comparing`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_scotssec
from skmixed.inference import likelihood_ratio_test
from skmixed.plotting import CaterpillarDisplay, VarianceComponentsDisplay

pupils = load_scotssec().frame

# %%
# Who goes where
# --------------
#
# A dot for every pair of schools that occurs, as large as the number of pupils. Most primary
# schools send nearly all of their pupils to one secondary school: the factors are close to nested,
# and hard to tell apart.

counts = pd.crosstab(pupils["second"], pupils["primary"])
counts = counts[counts.idxmax().astype(int).sort_values(kind="stable").index]
place = np.argwhere(counts.to_numpy())
figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
ax.scatter(place[:, 1], place[:, 0], s=counts.to_numpy()[tuple(place.T)], alpha=0.6, linewidth=0)
ax.set(
    xlabel="primary school, by where most of its pupils go", ylabel="secondary school", xticks=[]
)
ax.set_yticks(range(19), counts.index, fontsize=6)
plt.show()

# %%
# Both schools, and slopes
# ------------------------
#
# Primary schools alone; secondary schools too; and an effect of verbal reasoning that differs
# between secondary schools. Given the primary school, nothing speaks for either.

fixed = "attain ~ verbal + sex + "
primary = MixedLinearRegressor(fixed + "(1 | primary)").fit(pupils)
both = MixedLinearRegressor(fixed + "(1 | primary) + (1 | second)").fit(pupils)
slopes = MixedLinearRegressor(fixed + "(1 | primary) + (verbal | second)").fit(pupils)
test = likelihood_ratio_test(primary, both, slopes)
print(test[["npar", "AIC", "Chisq", "Df", "p-value (boundary)"]].round(4).to_string(index=False))
print(both.summary())

# %%
# How large are the differences?
# ------------------------------
#
# Standard deviations of both kinds of schools are small beside that of pupils, whose marks are on a
# scale from 1 to 10; that of secondary schools is the smallest and the least well known.

VarianceComponentsDisplay.from_estimator(both)
plt.show()

# %%
# The nineteen secondary schools in order: none can be told from the average.

CaterpillarDisplay.from_estimator(both, group="second")
plt.show()

# %%
# What wrong analyses would have said
# -----------------------------------
#
# Means of attainment by secondary school compare their pupils on entry rather than the schools:
# their spread is several times larger. And without the primary schools, what these have done is
# credited to the secondary ones.

alone = MixedLinearRegressor(fixed + "(1 | second)").fit(pupils)
means = pupils.groupby("second", observed=True)["attain"].mean()
print(f"plain means: standard deviation {means.std():.2f}")
for name, fit in (("given verbal and sex", alone), ("and the primary school", both)):
    print(f"{name}: {fit.covariances_['second'].to_numpy().item() ** 0.5:.2f}")
