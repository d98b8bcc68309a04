"""
Posterior draws: questions without a standard error
===================================================

Three questions of the sleep study. Who slows down most? How will a subject do who was not in the
study? How often does such a subject get faster?

None of them has a formula for its standard error. Draws from the posterior distribution of
everything together, of variances, fixed and random effects, answer each by counting.

Pages on this: :doc:`/posterior`, :doc:`/bootstrap`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_sleepstudy
from skmixed.inference import Prior, posterior
from skmixed.plotting import PosteriorDisplay

sleep = load_sleepstudy().frame
model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
post = posterior(model, random_state=0)
print(post)

# %%
# Densities of all parameters with medians and intervals. Those of standard deviations are not
# symmetric, and a normal approximation would have been wrong about them.

PosteriorDisplay.from_posterior(post)
plt.show()

# %%
# Who slows down most?
# --------------------
#
# The slope of each subject in each draw; how often it is the largest. Subject 308 is the likeliest,
# and far from sure.

slopes = post.draws[["Days"]].to_numpy() + post.effects("Subject")[:, :, 1]
subjects = np.array(sorted(sleep["Subject"].unique()))
worst = pd.Series(np.bincount(slopes.argmax(axis=1), minlength=18) / len(slopes), subjects)
print("Who slows down most, with which probability:")
print(worst.nlargest(3).round(2).to_string())

figure, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
order = np.argsort(slopes.mean(axis=0))
ax.boxplot(slopes[:, order], whis=(2.5, 97.5), showfliers=False, widths=0.5)
ax.set_xticks(range(1, 19), subjects[order], rotation=90)
ax.axhline(0, color="0.6", linewidth=0.8)
ax.set(xlabel="subject", ylabel="ms per day", title="Slopes: boxes hold 50 %, whiskers 95 %")
plt.show()

# %%
# A new subject
# -------------
#
# Its effects are drawn from the population, the population itself from the posterior. The dark band
# holds the mean of such a subject with 95 %, the light one a single reaction.

days = np.arange(10)
new = pd.DataFrame({"Days": days, "Subject": "a new one"})
new = pd.concat([new, pd.DataFrame({"Days": [9] * 10, "Subject": "308"})], ignore_index=True)
mean, seen = post.predict(new), post.predict(new, "observation")
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for draws, shade, label in ((seen, 0.2, "an observation"), (mean, 0.4, "its mean")):
    low, high = np.quantile(draws[:, :10], [0.025, 0.975], axis=0)
    ax.fill_between(days, low, high, color="C0", alpha=shade, linewidth=0, label=label)
ax.plot(days, np.median(mean[:, :10], axis=0), color="black", linewidth=1)
ax.set(xlabel="days without sleep", ylabel="reaction of a new subject in ms")
ax.legend(loc="upper left", frameon=False)
plt.show()
faster = float((mean[:, 9] < mean[:, 0]).mean())
print(f"A new subject gets faster over nine days with probability {faster:.3f}.")

# %%
# Does the prior matter?
# ----------------------
#
# Flat priors against weakly informative ones: half-t for standard deviations, LKJ(2) for the
# correlation. Eighteen subjects say enough for it not to matter much.

weak = posterior(model, prior=Prior(sd=("half_t", 3, 50.0), cor=2.0), random_state=0)
both = {"flat": post.summary()["median"], "half-t, LKJ(2)": weak.summary()["median"]}
print(pd.DataFrame(both).round(2))

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# Ranking the subjects by their estimates names 308 and stops. And plugging the estimates in for a
# new subject, as if variances and slope were known, makes the chance of getting faster too small.

rng = np.random.default_rng(0)
effects = rng.multivariate_normal([0, 0], model.covariances_["Subject"], size=100_000)
plug_in = np.mean(model.fixed_effects_["Days"] + effects[:, 1] < 0)
print(f"with estimates plugged in: {plug_in:.3f}")
