"""
A split plot: chocolate cakes
=============================

Three recipes, 15 mixes of each; every mix was divided over six baking temperatures. At which angle
does the cake break, by recipe and temperature? A cake that bends further is better.

The mix is the *whole plot*: a recipe is compared between mixes. The cake is the *subplot*:
temperatures are compared within a mix. The two comparisons have errors of their own, and a mixed
model finds both from one term, ``(1 | recipe:replicate)``.

Pages on this: :doc:`/tests`, :doc:`/emmeans`, :doc:`/sas`.
"""

import matplotlib.pyplot as plt
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_cake
from skmixed.inference import check_model, emmeans
from skmixed.plotting import MarginalMeansDisplay, ModelCheckDisplay

cake = load_cake().frame

# %%
# One line for each mix, the mean of the recipe on top. Mixes differ a lot, and each keeps its place
# over all temperatures: this is what the random effect takes in.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
for ax, (recipe, rows) in zip(axes, cake.groupby("recipe", observed=True), strict=True):
    for _, mix in rows.groupby("replicate", observed=True):
        ax.plot(mix["temp"], mix["angle"], color="C0", alpha=0.35, linewidth=0.8)
    mean = rows.groupby("temp")["angle"].mean()
    ax.plot(mean.index, mean, color="C1", linewidth=2)
    ax.set(title=f"recipe {recipe}", xlabel="temperature in degrees F")
axes[0].set_ylabel("breaking angle in degrees")
plt.show()

# %%
# The analysis
# ------------
#
# ``recipe`` is tested with 42 degrees of freedom, those of 45 mixes in three recipes;
# ``temperature`` with 210, those of cakes within mixes. Nothing had to be said about strata. With
# temperature as a factor:

model = MixedLinearRegressor("angle ~ recipe * temperature + (1 | recipe:replicate)").fit(cake)
print(model.anova(ddf="kenward_roger"))

# %%
# Means
# -----
#
# Intervals overlap a lot, and yet temperatures differ clearly: an interval for a mean contains the
# variation between mixes, a comparison within mixes does not. Compare letters, not intervals.

MarginalMeansDisplay.from_estimator(model, "temperature", ddf="kenward_roger")
plt.show()

# %%
# The means rise along a line: of the five contrasts of a polynomial only the first is there. So one
# slope does for the temperatures.

print(emmeans(model, "temperature").contrast("poly").frame[["estimate", "t", "p_value"]].round(4))
line = MixedLinearRegressor("angle ~ recipe + temp + (1 | recipe:replicate)").fit(cake)
print(line.coefficients()[["estimate", "std_error", "df", "p_value"]].round(4))

# %%
# Ten degrees Fahrenheit more make the cake bend 1.6 degrees further; recipes cannot be told apart.
#
# Does it fit?
# ------------
#
# The checks find that mixes do not spread evenly: a few are far above the rest (right), and
# residuals with them (left). In each panel the points should stay within the grey band.

check = check_model(line, cake, random_state=0)
print(check.table["verdict"].value_counts().to_string())
panels = ["simulated", "residuals", "Intercept | recipe:replicate"]
ModelCheckDisplay.from_check(check, panels=panels)
plt.show()

# %%
# On the scale of the logarithm they come nearer, and the answer is the same: a rise of half a
# percent for each degree, and no recipe ahead.

logs = MixedLinearRegressor("log(angle) ~ recipe + temp + (1 | recipe:replicate)").fit(cake)
ModelCheckDisplay.from_estimator(logs, cake, panels=panels, random_state=0)
plt.show()
print(logs.coefficients()[["estimate", "std_error", "df", "p_value"]].round(4))

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# ``replicate`` alone has 15 levels, as if mix 1 of recipe A were the same mix as number 1 of recipe
# B. And with no mixes at all, every cake is a new one. Both get the error of a recipe wrong, and
# the plain analysis that of temperatures too:

formulas = {
    "split plot": "angle ~ recipe + temp + (1 | recipe:replicate)",
    "replicate alone": "angle ~ recipe + temp + (1 | replicate)",
    "270 cakes": "angle ~ recipe + temp",
}
rows = {}
for name, formula in formulas.items():
    table = MixedLinearRegressor(formula).fit(cake).coefficients()
    recipe, temp = table.loc["recipe[T.C]"], table.loc["temp"]
    rows[name] = [recipe["std_error"], recipe["df"], temp["std_error"], temp["df"]]
columns = ["error of C - A", "df", "error of slope", "df of slope"]
print(pd.DataFrame(rows, index=columns).T.round(3))
