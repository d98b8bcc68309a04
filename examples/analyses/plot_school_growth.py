"""
A whole analysis: how pupils grow, school by school
===================================================

Reading scores of pupils, once a year for five years, in forty schools. Do girls read better, does
the gap change with age, does a smaller class help, and how much do schools matter for where
children start and for how fast they learn?

Explore, choose the random effects, check, test, plot, report, predict, serve. The data are
simulated with effects that stand in the code, so that you can compare.

Pages on this: :doc:`/checks`, :doc:`/tests`, :doc:`/emmeans`, :doc:`/prediction`,
:doc:`/cross-validation`, :doc:`/serving`, :doc:`/artefacts`.
"""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.inference import check_model, drop1, emmeans, emtrends, likelihood_ratio_test
from skmixed.model_selection import cross_validate_groups
from skmixed.plotting import (
    CaterpillarDisplay,
    ModelCheckDisplay,
    VarianceComponentsDisplay,
)


def pupils(n_schools=40, seed=4):
    rng = np.random.default_rng(seed)
    rows = []
    for school in range(n_schools):
        level, growth = rng.normal(0, 5), rng.normal(0, 1.0)
        size = rng.integers(15, 33)
        for pupil in range(rng.integers(8, 20)):
            girl = rng.random() < 0.5
            own, own_growth = rng.normal(0, 8), rng.normal(0, 1.2)
            for year in range(5):
                if year and rng.random() < 0.08:
                    continue
                score = 40 + 8 * year + 2 * girl + 0.5 * girl * year - 0.25 * (size - 24)
                score += level + own + (growth + own_growth) * year + rng.normal(0, 4)
                rows.append((f"s{school:02d}", pupil, "girl" if girl else "boy", size, year, score))
    return pd.DataFrame(rows, columns=["school", "pupil", "sex", "size", "year", "score"])


data = pupils()
print(data.nunique().to_string(), f"\n{len(data)} rows")

# %%
# 1. Explore
# ----------
#
# Six schools, one line for each pupil. Lines are straight enough; they start at different heights
# and are not quite parallel; schools differ as a whole.

figure, axes = plt.subplots(1, 6, figsize=(10, 2.8), sharey=True, layout="constrained")
for ax, school in zip(axes, sorted(data["school"].unique())[:6], strict=True):
    for _, pupil in data[data["school"] == school].groupby("pupil"):
        ax.plot(pupil["year"], pupil["score"], color="C0", alpha=0.5, linewidth=0.8)
    ax.set(title=school, xlabel="year")
axes[0].set_ylabel("reading score")
plt.show()

# %%
# 2. Choose the random effects
# ----------------------------
#
# Pupils are numbered within schools: ``school:pupil``. What the design says must be there: schools
# and pupils. What the data decide: whether growth differs between pupils and between schools. The
# fixed part is the largest that one would consider.

fixed = "score ~ sex * year + size + "
terms = [
    "(1 | school) + (1 | school:pupil)",
    "(1 | school) + (year | school:pupil)",
    "(year | school) + (year | school:pupil)",
]
fits = [MixedLinearRegressor(fixed + term).fit(data) for term in terms]
test = likelihood_ratio_test(*fits)
test.index = terms
print(test[["npar", "AIC", "Chisq", "Df", "p-value"]].round(4).to_string())
model = fits[2]

# %%
# Both are needed. In which units do pupils and schools differ?

VarianceComponentsDisplay.from_estimator(model)
plt.show()

# %%
# 3. Check
# --------
#
# Points or lines should stay within the grey bands, orange lines near the horizontal.

check = check_model(model, data, random_state=0)
print(check.table["verdict"].value_counts().to_string())
panels = ["fitted", "scale", "residuals", "Intercept | school", "year | school", "predictive"]
ModelCheckDisplay.from_check(check, panels=panels)
plt.show()

# %%
# 4. Test
# -------
#
# Leaving out each term in turn, by likelihood ratio; and by F with degrees of freedom after
# Satterthwaite, which tell apart what is known from 40 schools (size), some 500 pupils (sex) and
# all rows.

print(drop1(model, data).round(4))
print(model.anova().round(4))

# %%
# 5. Plot
# -------
#
# Schools in order of their growth: with forty schools and intervals this wide, few can be called
# better or worse than average, and a league table would be mostly noise.

CaterpillarDisplay.from_estimator(model, group="school", sort_by="year")
plt.show()

# %%
# 6. Report
# ---------
#
# Growth per year of girls and boys and their difference, means at the start and at the end, and the
# rest with intervals.

print(emtrends(model, "sex", var="year").frame[["estimate", "lower", "upper"]])
pairs = emmeans(model, "sex", by="year", at={"year": [0, 4]}).pairs()
print(pairs.frame[["estimate", "lower", "upper"]])
print(model.coefficients().drop(columns=["t", "p_value"]).astype(float).round(3))

# %%
# What a wrong analysis would have said: with intercepts only, growth looks far more certain than it
# is; least squares takes 2421 rows for as many class sizes, where there are forty.

ols = MixedLinearRegressor("score ~ sex * year + size").fit(data)
errors = {"least squares": ols, "intercepts only": fits[0], "chosen": model}
table = pd.DataFrame({name: fit.standard_errors_ for name, fit in errors.items()})
print(table.loc[["sex[T.girl]:year", "year", "size"]].T.round(3))

# %%
# 7. Predict
# ----------
#
# A pupil of the data, and one about whom nothing is known at a school we do not: expected scores
# with 95 % intervals for an observation.

years = np.arange(5)
one = data[(data["school"] == "s00") & (data["pupil"] == 0)].iloc[0]
cases = {"a known pupil": (one["school"], one["pupil"]), "a new one": ("s99", 0)}
rows = [(*who, one["sex"], 24, year) for who in cases.values() for year in years]
new = pd.DataFrame(rows, columns=["school", "pupil", "sex", "size", "year"])
limits = model.predict_interval(new, kind="observation")
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for k, label in enumerate(cases):
    low, high = limits[5 * k : 5 * k + 5].T
    ax.fill_between(years, low, high, alpha=0.25, linewidth=0)
    ax.plot(years, model.predict(new)[5 * k : 5 * k + 5], label=label)
ax.set(xlabel="year", ylabel="reading score", xticks=years)
ax.legend()
plt.show()

# %%
# How well is that predicted? For pupils of the data, for new pupils of their schools, and for
# schools that are not in the data, three answers: R^2 where one row in five is left out, one pupil
# in five, one school in five. A service should promise the one that it will meet.

data["person"] = data["school"] + "/" + data["pupil"].astype(str)
for factor in ("person", "school"):
    scores = cross_validate_groups(model, data, groups=factor)
    print(f"by {factor}:", scores["mean"].round(2).to_dict())

# %%
# 8. Serve
# --------
#
# A fitted model keeps no rows of the training data. As a dictionary of plain values it goes into
# JSON, holds no code, and predicts the same elsewhere.

text = json.dumps(model.to_dict())
loaded = MixedLinearRegressor.from_dict(json.loads(text))
difference = np.abs(loaded.predict(new) - model.predict(new)).max()
print(f"{len(text) / 1024:.0f} KiB; largest difference {difference:.1g}")

# %%
# The new pupil's first two scores are in: far above the mean. The model takes them in without a
# refit, and expects more of the years that follow.

first = new[5:7].assign(score=[55.0, 62.0])
informed = loaded.condition(first)
after = {"before": loaded.predict(new)[5:], "after": informed.predict(new)[5:]}
print(pd.DataFrame(after, index=years).round(1))
