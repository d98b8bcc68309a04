"""
Known schools and new ones: pipelines and cross-validation
==========================================================

Marks of 3435 pupils in Fife, Scotland, who came from 148 primary schools to 19 secondary schools.
How well can the attainment of a pupil be predicted: at a school we know, and at one we do not?

These are two questions, and cross-validation answers one or the other depending on what it leaves
out.

Pages on this: :doc:`/scikit-learn`, :doc:`/prediction`.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixed import MixedLinearRegressor, SingularFitWarning, UnseenGroupsWarning
from skmixed.datasets import load_scotssec

X, y = load_scotssec(return_X_y=True)

# %%
# A pipeline
# ----------
#
# Scale the covariates, pass the factors through, fit. Grouping factors are columns like any other.
# The formula speaks of columns by name, so the transformer must return a DataFrame (``set_output``)
# with the names that it was given.


def make_model(formula):
    scale = ColumnTransformer(
        [("scale", StandardScaler(), ["verbal", "social"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    return make_pipeline(scale.set_output(transform="pandas"), MixedLinearRegressor(formula))


pipeline = make_model("verbal + sex + social + (1 | primary)").fit(X, y)
print(pipeline[-1].coefficients()[["estimate", "std_error", "p_value"]].round(3))

# %%
# A grid search over formulas
# ---------------------------
#
# ``KFold`` leaves out pupils, whose schools stay in training; ``GroupKFold`` leaves out whole
# primary schools. Warnings of unseen schools are what the second is about.

FORMULAS = [
    "verbal + sex",
    "verbal + sex + social",
    "verbal + sex + social + (1 | primary)",
    "verbal + sex + social + (1 | primary) + (1 | second)",
    "verbal + sex + social + (verbal | primary) + (1 | second)",
]


def search(cv, groups=None):
    grid = GridSearchCV(make_model(None), {"mixedlinearregressor__formula": FORMULAS}, cv=cv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        warnings.simplefilter("ignore", UnseenGroupsWarning)
        return grid.fit(X, y, groups=groups).cv_results_["mean_test_score"]


table = pd.DataFrame(
    {
        "known schools": search(KFold(5, shuffle=True, random_state=0)),
        "new schools": search(GroupKFold(5), groups=X["primary"]),
    },
    index=FORMULAS,
)
print(table.round(4).to_string())

# %%
# Random effects improve predictions for schools that were there in training; for a new school they
# are zero, and the model is about as good as one without them.

figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for name, marker in (("known schools", "o"), ("new schools", "s")):
    ax.plot(table[name][::-1], table.index[::-1], marker, label=name)
ax.set(xlabel="R squared in cross-validation", title="What random effects are good for")
ax.legend()
plt.show()

# %%
# One pupil, three schools
# ------------------------
#
# The lowest school, the highest, and one that is not in the data: an average one, whose standard
# error and interval say what we do not know.

model = MixedLinearRegressor("verbal + sex + (1 | primary)").fit(X, y)
schools = model.random_effects_["primary"]["Intercept"].sort_values().index
pupil = {"verbal": 0.0, "sex": "F", "primary": [schools[0], schools[-1], "a new school"]}
pupil = pd.DataFrame(pupil)
mean, std = model.predict(pupil, return_std=True)
low, high = model.predict_interval(pupil, kind="observation").T
print(pupil.assign(prediction=mean, std_error=std, low=low, high=high).round(2).to_string())

# %%
# Do intervals hold?
# ------------------
#
# For pupils of schools that were left out: 95 % intervals should contain 95 % of them. The picture
# shows the share by fold.

groups = X["primary"].to_numpy()
inside = []
for train, test in GroupKFold(10).split(X, y, groups):
    model.fit(X.iloc[train], y.iloc[train])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnseenGroupsWarning)
        low, high = model.predict_interval(X.iloc[test], kind="observation").T
    inside.append(np.mean((low <= y.iloc[test]) & (y.iloc[test] <= high)))
figure, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
ax.plot(range(1, 11), 100 * np.array(inside), "o")
ax.axhline(95, color="C1", linestyle="--")
ax.set(xlabel="fold of schools", ylabel="% inside", ylim=(85, 100), xticks=range(1, 11))
plt.show()
print(f"{100 * np.mean(inside):.1f} % inside")

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# A plain ``KFold`` promises its R squared for any school. For schools that are new it is too high;
# and without random effects the intervals of known schools would all be as wide as those of new
# ones.
