"""
A table as it arrives: rank deficiency in pipelines
===================================================

Productivity of six workers on three machines, with the troubles of real tables: a constant column,
the same time in two units, a machine type without rows, and one worker who appears twice only. How
to get from there to a model that can be trusted, and to a mixed model, in one pipeline each?

Pages on this: :doc:`/rank`, :doc:`/scikit-learn`.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skmixed import (
    GeneralizedInverseRegressor,
    MixedLinearRegressor,
    RankDeficiencyTransformer,
    RankDeficiencyWarning,
)
from skmixed.datasets import load_machines

rng = np.random.default_rng(0)
frame = load_machines().frame
y = frame["score"]
X = frame[["Machine", "Worker"]].astype(str)
X["Machine"] = pd.Categorical(X["Machine"], categories=["A", "B", "C", "retired"])
X["minutes"] = rng.integers(20, 60, len(X))
X["hours"] = X["minutes"] / 60
X["site"] = "north"
X.loc[X.index[:2], "Worker"] = "temp"
X["Worker"] = X["Worker"].astype("category")
print(X.head(3))

# %%
# One-hot encoding alone
# ----------------------
#
# Fifteen columns of rank ten. ``LinearRegression`` says nothing and returns one of infinitely many
# solutions.

encoded = pd.get_dummies(X).astype(float)
rank = np.linalg.matrix_rank(np.column_stack([np.ones(len(X)), encoded]))
print(f"{encoded.shape[1] + 1} columns of rank {rank}")
coef = pd.Series(LinearRegression().fit(encoded, y).coef_, index=encoded.columns)

# %%
# The picture shows its coefficients, and again after one more copy of a column. They change; the
# predictions do not. Nobody should read them.

copied = encoded.assign(again=encoded["Machine_A"])
other = pd.Series(LinearRegression().fit(copied, y).coef_, index=copied.columns)
names = [name for name in encoded if name.startswith("Machine")]
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.plot(coef[names], names, "o", label="LinearRegression")
ax.plot(other[names], names, "s", label="with a copy of Machine_A")
ax.axvline(0, color="0.6", linewidth=0.8)
ax.set(xlabel="coefficient")
ax.legend()
plt.show()

# %%
# What is wrong with the table
# ----------------------------
#
# ``RankDeficiencyTransformer`` says it, repairs it, and can rebuild what it dropped.

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    transformer = RankDeficiencyTransformer(min_frequency=3).fit(X)
print(str(caught[0].message).replace("; ", ";\n"))
back = transformer.inverse_transform(transformer.transform(X))
print("hours rebuilt from minutes, largest error:", np.abs(back["hours"] - X["hours"]).max())

# %%
# Pipelines
# ---------
#
# Three models behind it. A fold without the temp learns no "other"; predictions for it rest on what
# is estimable, and warnings say so. They are silenced here.

encode = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore"), ["Machine", "Worker"]), remainder="passthrough"
)
first = RankDeficiencyTransformer(min_frequency=3)
models = {
    "one-hot, LinearRegression": make_pipeline(
        first, encode, RankDeficiencyTransformer(), LinearRegression()
    ),
    "GeneralizedInverseRegressor": make_pipeline(first, GeneralizedInverseRegressor()),
    "MixedLinearRegressor": make_pipeline(
        first, MixedLinearRegressor("Machine + minutes + (1 | Worker)")
    ),
}
folds = KFold(5, shuffle=True, random_state=1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", RankDeficiencyWarning)
    for name, model in models.items():
        print(f"{name:28s} R^2 in 5 folds: {cross_val_score(model, X, y, cv=folds).round(2)}")
        model.fit(X, y)

# %%
# Means of machines, workers averaged equally, from the model with fixed workers:

fixed, mixed = models["GeneralizedInverseRegressor"], models["MixedLinearRegressor"]
means = fixed[-1].least_squares_means("Machine")
print(means[["estimate", "std_error", "lower", "upper"]].round(2))
print(mixed[-1].summary())

# %%
# Workers fixed or random: fitted values are nearly the same. The difference is what can be said of
# a worker who comes tomorrow: nothing, or an interval.

figure, ax = plt.subplots(figsize=(5, 4.2), layout="constrained")
ax.scatter(y, fixed.predict(X), label="workers as fixed effects")
ax.scatter(y, mixed.predict(X), marker="x", label="workers as random effects")
ax.axline((60, 60), slope=1, color="0.6", linewidth=0.8)
ax.set(xlabel="productivity score", ylabel="fitted")
ax.legend()
plt.show()
