"""
Seizures over time: longitudinal counts
=======================================

Sixty patients with epilepsy count their seizures: for eight weeks before treatment, then in four
periods of two weeks on a drug or on placebo. Does the drug lower the rate of seizures?

Periods have different lengths, which an *offset* takes in; patients differ in their rate by orders
of magnitude, which a random intercept takes in; and they may differ in how the rate changes. The
data are simulated after the layout of a well-known trial, with a rate that the drug multiplies by
exp(-0.5) = 0.61.

Pages on this: :doc:`/glmm`, :doc:`/comparing`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedGLMRegressor
from skmixed.inference import check_model, likelihood_ratio_test
from skmixed.plotting import CaterpillarDisplay

TRUTH = -0.5


def seizures(n=60, seed=8):
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n), 5)
    period = np.tile(np.arange(5), n)
    weeks = np.where(period == 0, 8.0, 2.0)
    on = (period > 0).astype(float)
    drug = (patient % 2).astype(float)
    level, change = rng.normal(0, [[0.8], [0.45]], (2, n))
    log_rate = np.log(3.0) + level[patient] + on * (0.1 + change[patient] + TRUTH * drug)
    frame = pd.DataFrame({"patient": patient.astype(str), "weeks": weeks, "on": on, "drug": drug})
    frame["period"] = period
    frame["count"] = rng.poisson(weeks * np.exp(log_rate))
    return frame


data = seizures()

# %%
# Seizures per week, one line for each patient, on a logarithmic scale. Patients keep their order:
# who had many before has many later.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
for ax, (drug, rows) in zip(axes, data.groupby("drug"), strict=True):
    for _, patient in rows.groupby("patient"):
        rate = (patient["count"] + 0.25) / patient["weeks"]
        ax.plot(patient["period"], rate, color="C0", alpha=0.35, linewidth=0.9)
    total = rows.groupby("period")[["count", "weeks"]].sum()
    ax.plot(total.index, total["count"] / total["weeks"], "o-", color="C1", label="all patients")
    ax.set(yscale="log", xlabel="period (0 is before)", title=["placebo", "drug"][int(drug)])
axes[0].set_ylabel("seizures per week")
axes[1].legend()
plt.show()

# %%
# Two models
# ----------
#
# ``offset(log(weeks))`` makes rates out of counts. ``on:drug`` is the effect of the drug: before
# treatment both arms are alike, so there is no main effect of it.

formula = "count ~ on + on:drug + offset(log(weeks))"
level = MixedGLMRegressor(formula + " + (1 | patient)", family="poisson").fit(data)
change = MixedGLMRegressor(formula + " + (on | patient)", family="poisson").fit(data)
test = likelihood_ratio_test(level, change)
print(test[["npar", "AIC", "Chisq", "Df", "p-value (boundary)"]].round(4).to_string(index=False))
print(change.summary())

# %%
# The model with a random change is better by far. The checks agree: rates that change in every
# patient by the same factor leave too much variation.

for name, fit in (("intercepts", level), ("and changes", change)):
    check = check_model(fit, data, random_state=0)
    statistic, verdict = check.table.loc["overdispersion", ["statistic", "verdict"]]
    print(f"{name}: overdispersion {statistic:.2f}, {verdict}")

# %%
# Who responded? Conditional modes of each patient, level and change, in the order of the change.

CaterpillarDisplay.from_estimator(change, effects=["on"])
plt.show()

# %%
# What wrong analyses would have said
# -----------------------------------
#
# The same effect, with 95 % intervals. Poisson regression without patients finds an interval that
# is much too short, at a wrong place: patients with the highest rates decide. With intercepts alone
# all changes count as equal, and the interval is too short as well.

plain = MixedGLMRegressor(formula, family="poisson").fit(data)
figure, ax = plt.subplots(figsize=(6.5, 2.4), layout="constrained")
fits = {"random change": change, "random intercept": level, "no patients": plain}
for place, (name, fit) in enumerate(reversed(fits.items())):
    row = fit.coefficients().loc["on:drug"]
    low, high = row["estimate"] - row["lower"], row["upper"] - row["estimate"]
    ax.errorbar(np.exp(row["estimate"]), place, fmt="o", color="C0",
                xerr=[[np.exp(row["estimate"]) - np.exp(row["lower"])],
                      [np.exp(row["upper"]) - np.exp(row["estimate"])]])  # fmt: skip
    print(f"{name:17s} ratio of rates {np.exp(row['estimate']):.2f}, error of its log "
          f"{row['std_error']:.3f}")  # fmt: skip
ax.set_yticks(range(3), list(reversed(fits)))
ax.axvline(np.exp(TRUTH), color="C1", linestyle="--", label="truth")
ax.axvline(1, color="0.6", linewidth=0.8)
ax.set(xlabel="rate on the drug / rate on placebo", ylim=(-0.5, 2.5))
ax.legend(fontsize="small")
plt.show()
