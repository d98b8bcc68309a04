"""
Visits of a clinical trial: MMRM with dropouts
==============================================

Patients of two arms are seen at four visits, and some leave before the end: those who feel worse
leave more often. What is the effect of the treatment at the last visit?

A *mixed model for repeated measures* gives the visits of a patient any covariance matrix, and uses
every visit that took place. The data are simulated, so the truth is known: the treatment lowers the
score by 6 points at visit 4.

Pages on this: :doc:`/structures`, :doc:`/emmeans`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.inference import emmeans

TRUTH = [-1.0, -2.0, -4.0, -6.0]  # of treatment - control, by visit


def trial(n=100, seed=3):
    """n patients in each arm; who stands badly after a visit may not come to the next."""
    rng = np.random.default_rng(seed)
    sd = np.array([8.0, 9.0, 10.0, 11.0])
    correlation = 0.75 ** np.abs(np.subtract.outer(range(4), range(4)))
    root = np.linalg.cholesky(correlation * np.outer(sd, sd))
    rows = []
    for patient in range(2 * n):
        treated = patient % 2
        base = rng.normal(50, 8)
        scores = 50 + 0.6 * (base - 50) - np.array([1.0, 2, 3, 4]) + treated * np.array(TRUTH)
        scores += root @ rng.normal(size=4)
        for visit, score in enumerate(scores, 1):
            rows.append((f"p{patient}", ["control", "treated"][treated], base, visit, score))
            if rng.random() < 1 / (1 + np.exp(-(score - 54) / 4)):
                break
    return pd.DataFrame(rows, columns=["patient", "arm", "baseline", "visit", "score"])


data = trial()
print(data.groupby(["arm", "visit"]).size().unstack())

# %%
# Who is still there
# ------------------
#
# The means of those who came (dots) fall faster than they should in both arms, because those who
# stood badly left. Dashed are the means that all patients would have had: the truth.

figure, ax = plt.subplots(figsize=(6.2, 3.8), layout="constrained")
visits = np.arange(1, 5)
for k, (arm, rows) in enumerate(data.groupby("arm")):
    observed = rows.groupby("visit")["score"].mean()
    truth = 50 - visits + k * np.array(TRUTH)
    ax.plot(visits, truth, "--", color=f"C{k}", label=f"{arm}, everybody")
    ax.plot(observed.index, observed, "o-", color=f"C{k}", label=f"{arm}, who came")
ax.set(xlabel="visit", ylabel="score (high is bad)", xticks=visits)
ax.legend(fontsize="small")
plt.show()

# %%
# The model
# ---------
#
# ``us(visit | patient)``: a variance for every visit and a correlation for every pair of visits. A
# patient's first visits tell what his later ones would have been like, so that what is missing is
# missing *at random given what was seen*, and the estimate is right.

formula = "score ~ baseline + arm * C(visit)"
mmrm = MixedLinearRegressor(formula, residual="us(visit | patient)").fit(data)
print(mmrm.residual_covariance_().round(1))
print(mmrm.anova(ddf="kenward_roger").round(4))

# %%
# The effect at each visit
# ------------------------


def effects(model):
    """treated - control by visit, with 95 % limits."""
    pairs = emmeans(model, "arm", by="visit", ddf="satterthwaite").pairs(reverse=True)
    return pairs.frame[["estimate", "lower", "upper"]].astype(float)


table = effects(mmrm)
print(table.round(2))

# %%
# What wrong analyses would have said
# -----------------------------------
#
# *Those who came*: compare the arms at visit 4 by whoever is there. *Carry forward*: the last score
# seen takes the place of the missing ones. One trial is one draw, so here are 60 of them. Both
# underestimate the treatment: in the first, the controls who are left are the good ones; in the
# second, patients who left early keep a score from before the treatment worked.


def estimates(data):
    last = MixedLinearRegressor("score ~ baseline + arm").fit(data[data["visit"] == 4])
    carried = MixedLinearRegressor("score ~ baseline + arm").fit(data.groupby("patient").tail(1))
    mmrm = MixedLinearRegressor(formula, residual="us(visit | patient)").fit(data)
    return {
        "mixed model": effects(mmrm)["estimate"].iloc[-1],
        "those who came": last.fixed_effects_["arm[T.treated]"],
        "carried forward": carried.fixed_effects_["arm[T.treated]"],
    }


many = pd.DataFrame([estimates(trial(seed=100 + k)) for k in range(60)])
figure, ax = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
for place, name in enumerate(reversed(many.columns)):
    ax.plot(many[name], np.full(len(many), place), "o", color="C0", alpha=0.3, markersize=5)
    ax.plot(many[name].mean(), place, "|", color="black", markersize=26, markeredgewidth=2)
ax.set_yticks(range(3), list(reversed(many.columns)))
ax.axvline(TRUTH[-1], color="C1", linestyle="--", label="truth")
ax.set(xlabel="effect of the treatment at visit 4, 60 trials and their mean", ylim=(-0.5, 2.5))
ax.legend(fontsize="small")
plt.show()
print(many.mean().round(2))
