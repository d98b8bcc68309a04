"""
Why is my design rank-deficient? The questions people ask
=========================================================

Too few rows, replicates, a column computed from another, odd units, time stamps, empty categories:
each with data, the answer of the package, and what to do. What matters is whether columns are
*exactly* dependent, up to rounding; the size of their numbers does not.

Pages on this: :doc:`/rank`.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import GeneralizedInverseRegressor, RankDeficiencyTransformer, RankDeficiencyWarning

rng = np.random.default_rng(2024)


def show(X, y):
    """Rank, dependencies and warnings of a design."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = GeneralizedInverseRegressor().fit(X, y)
    print(f"rank {model.rank_} of {len(model.aliased_)} columns")
    for name, row in list(model.linear_dependencies_.items())[:3]:
        terms = " + ".join(f"({value:.6g}) {other}" for other, value in row.items())
        print(f"   {name} = {terms or '0'}")
    for warning in caught:
        print("   warning:", warning.message)
    return model


# %%
# Too few rows
# ------------
#
# Four rows, six columns and an intercept. There are at most as many coefficients as rows: the fit
# is exact and has no degrees of freedom left for a standard error.

X = pd.DataFrame(rng.normal(size=(4, 6)), columns=list("abcdef"))
print(f"residual df {show(X, rng.normal(size=4)).df_resid_:g}")

# %%
# Replicates
# ----------
#
# Ten rows, but two different values of x. Two points carry a line and no curve; more rows at the
# same x do not help.

x = np.repeat([1.0, 2.0], 5)
_ = show(pd.DataFrame({"x": x, "x squared": x**2}), rng.normal(size=10))

# %%
# A covariate computed from another
# ---------------------------------
#
# Only the sum of both effects along the line is estimable. Leave one out.

height = rng.normal(1.7, 0.1, 30)
X = pd.DataFrame({"height": height, "weight": 90 * height - 85})
_ = show(X, rng.normal(size=30))

# %%
# Units
# -----
#
# Nanometres beside kiloparsecs: 1e9 and 1e-21 are units, not a deficiency.

X = pd.DataFrame({"nm": rng.normal(1.7e9, 1e8, 30), "kpc": rng.normal(8e-21, 1e-21, 30)})
model = show(X, 1e-9 * X["nm"] + 2e20 * X["kpc"] + rng.normal(0, 0.01, 30))
print("coefficients:", [f"{b:.4g}" for b in model.coef_])

# %%
# Time stamps
# -----------
#
# t + 1e12 is full rank: beside an intercept only the variation counts (R's ``lm`` drops it). Its
# *square* needs 25 digits, and a double has 16. Centre first.

t = np.arange(20.0)
stamp, y = t + 1e12, 3 + 2 * t + rng.normal(0, 0.1, 20)
near = stamp - stamp.mean()
print(f"slope {show(pd.DataFrame({'stamp': stamp}), y).coef_[0]:.6g} per unit of t")
_ = show(pd.DataFrame({"stamp": stamp, "squared": stamp**2}), y)
_ = show(pd.DataFrame({"near": near, "near squared": near**2}), y)

# %%
# Empty and rare categories
# -------------------------
#
# ``get_dummies`` makes a column of zeros for a category without rows. Give the DataFrame itself:
# then the only dependency is that dummies add up to 1, which comparisons do not mind. Rare
# categories, and those met for the first time, can be merged.

frame = pd.DataFrame({"city": pd.Categorical(list("aabbab"), categories=["a", "b", "closed"])})
_ = show(pd.get_dummies(frame).astype(float), np.arange(6.0))
_ = show(frame, np.arange(6.0))

city = ["rome"] * 12 + ["oslo"] * 9 + ["bonn", "lima"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore", RankDeficiencyWarning)
    merge = RankDeficiencyTransformer(min_frequency=3).fit(pd.DataFrame({"city": city}))
new = pd.DataFrame({"city": ["oslo", "lima", "kyiv"]})
print(new["city"].tolist(), "->", merge.transform(new)["city"].tolist())

# %%
# Near-duplicates
# ---------------
#
# Two columns that differ by a little noise, ever smaller to the left. Both are kept as long as the
# digits of a double tell them apart; the standard error, not the software, says whether the
# coefficient is worth anything. In the grey region the difference is rounding.

z, noise = rng.normal(size=(2, 200))
sizes = 10.0 ** np.arange(-15, 0)
y = z + rng.normal(size=200)
errors = []
for size in sizes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficiencyWarning)
        fit = GeneralizedInverseRegressor().fit(np.column_stack([z, z + size * noise]), y)
    errors.append(fit.standard_errors_.iloc[2] if fit.rank_ == 3 else np.nan)
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.loglog(sizes, errors, "o-", label="standard error of the second coefficient")
ax.axvline(1e-7, color="C1", label="R's lm drops it from here down (tol = 1e-7)")
ax.axvspan(1e-16, 1e-12, color="0.85", label="dependent within rounding: dropped here")
ax.set(xlabel="difference of two columns, relative to their spread", ylabel="standard error")
ax.legend(fontsize="small")
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# A rule that looks at the size of numbers drops the nanometres, the time stamp, or the difference
# that somebody measured with care; and a solver that does not look at all returns one of infinitely
# many answers without a word:

twice = np.column_stack([z, z])
beta = np.linalg.lstsq(twice, y, rcond=None)[0]
print(f"one column given twice: ({beta[0]:.3f}, {beta[1]:.3f}); as good: ({2 * beta[0]:.3f}, 0)")
