"""
Verbal aggression: persons and items crossed
============================================

316 persons answered 24 questions such as "A bus fails to stop for me; I would want to curse". Which
behaviour do people admit to, does blaming others make it likelier, and are some questions simply
harder to say yes to?

Persons and items are both samples, of people and of situations one could think of. In education and
psychology this is an item response model (a Rasch model with covariates).

Pages on this: :doc:`/glmm`.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLogisticClassifier
from skmixed.datasets import load_verbagg
from skmixed.plotting import CaterpillarDisplay

answers = load_verbagg().frame
formula = "r2 ~ Anger + Gender + btype + situ + mode + (1 | id) + (1 | item)"
model = MixedLogisticClassifier(formula).fit(answers)
print(model.summary())

# %%
# Odds ratios, each given the person and the item. Scolding and shouting are admitted to less than
# cursing; so is anything where oneself is to blame; *doing* is admitted to less than *wanting*.

table = model.coefficients().loc["Anger":, ["estimate", "lower", "upper"]].astype(float)
odds = np.exp(table).iloc[::-1]
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
width = np.abs(odds[["lower", "upper"]].T.to_numpy() - odds["estimate"].to_numpy())
ax.errorbar(odds["estimate"], odds.index, xerr=width, fmt="o", color="C0")
ax.axvline(1, color="0.6", linewidth=0.8)
ax.set(xscale="log", xlabel="odds ratio of yes", xticks=[0.1, 0.2, 0.5, 1, 2])
ax.xaxis.set_major_formatter("{x:g}")
plt.show()

# %%
# Items beyond what the covariates say
# ------------------------------------
#
# Zero is an item as its type, situation and mode predict. Items above it are admitted to more.

CaterpillarDisplay.from_estimator(model, group="item")
plt.show()

# %%
# One person, many questions
# --------------------------
#
# Curves of the probability of a yes against the person's tendency, one for each item: the classical
# picture of item response. All are of one shape and moved sideways; the histogram below shows where
# persons are.

items = answers.drop_duplicates("item")
links = model.decision_function(items, random_effects=["item"])
tendency = np.linspace(-4, 4, 100)
figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(6, 4.6), sharex=True, height_ratios=[3, 1], layout="constrained"
)
colors = {"curse": "C0", "scold": "C1", "shout": "C2"}
for link, kind in zip(links, items["btype"], strict=True):
    top.plot(tendency, 1 / (1 + np.exp(-(link + tendency))), color=colors[kind], linewidth=0.8)
for kind, color in colors.items():
    top.plot([], [], color=color, label=kind)
top.legend(title="behaviour")
top.set_ylabel("probability of yes")
bottom.hist(model.random_effects_["id"]["Intercept"], bins=30, color="0.6")
bottom.set(xlabel="tendency of the person, in logits", ylabel="persons")
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# With persons only, items count as the only 24 there are, and the 7,584 answers make every
# comparison of items look certain. The next 24 questions about shouting might be others.

formula = "r2 ~ Anger + Gender + btype + situ + mode"
rows = {}
extras = {"neither": "", "persons": " + (1 | id)", "both": " + (1 | id) + (1 | item)"}
for name, extra in extras.items():
    fit = MixedLogisticClassifier(formula + extra).fit(answers)
    rows[name] = fit.standard_errors_[["btype[T.shout]", "Gender[T.M]"]]
print("standard errors")
print(pd.DataFrame(rows).T.round(3))

# %%
# The error of behaviour, a property of items, needs the items; that of gender, a property of
# persons, needs the persons.
