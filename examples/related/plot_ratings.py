"""
Ratings at scale: who is lenient, what is good?
===============================================

300,000 ratings of 6,000 films by 20,000 users. Some users are lenient, some films are good, and
popular films are rated by users who rate a lot. How good is a film, given who rated it, and how
sure is that of a film with five ratings?

Users and films are crossed, and both are too many for the sparse matrices that a direct solver
factors quickly. The *iterative solver* solves the same equations without forming them. The data are
simulated: standard deviations of 0.4 for users, 0.5 for films and 0.9 for a rating.

Pages on this: :doc:`/scale`.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor

USERS, FILMS, ROWS = 20_000, 6_000, 300_000
rng = np.random.default_rng(1)
# A few films are seen by many, and a few users see a lot.
popularity = rng.gamma(0.5, size=FILMS) + 0.01
activity = rng.gamma(1.0, size=USERS) + 0.05
film = rng.choice(FILMS, ROWS, p=popularity / popularity.sum())
user = rng.choice(USERS, ROWS, p=activity / activity.sum())
quality, leniency = 0.5 * rng.normal(size=FILMS), 0.4 * rng.normal(size=USERS)
year = rng.integers(0, 10, ROWS)
rating = 3.4 - 0.02 * year + quality[film] + leniency[user] + 0.9 * rng.normal(size=ROWS)
ratings = pd.DataFrame({"user": user, "film": film, "year": year, "rating": rating})

# %%
# The fit
# -------
#
# ``solver="auto"`` would choose by the size of the problem; here the iterative solver is asked for.
# Variances have a Monte-Carlo error, since traces are estimated from random signs: its share of a
# standard error is told.

start = time.perf_counter()
formula = "rating ~ year + (1 | user) + (1 | film)"
model = MixedLinearRegressor(formula, solver="iterative").fit(ratings)
print(f"{ROWS} rows in {time.perf_counter() - start:.1f} s, solver {model.solver_}")
print(f"Monte-Carlo error: {100 * model.monte_carlo_share_:.1f} % of a standard error")
print(model.summary())

# %%
# Films with few ratings
# ----------------------
#
# Estimates of the quality against the truth, for films with few and with many ratings. The plain
# mean (top) is far off for few ratings: luck, and who happened to rate. The model (bottom) stays
# near the middle when it does not know.

effects = model.random_effects_["film"]["Intercept"]
films = ratings.groupby("film")["rating"].agg(["mean", "size"]).reindex(effects.index)
films["mean"] -= ratings["rating"].mean()
films["model"], films["truth"] = effects, quality[effects.index]
groups = {"1 to 5 ratings": films[films["size"] <= 5], "100 and more": films[films["size"] >= 100]}
figure, axes = plt.subplots(2, 2, figsize=(7.5, 6), sharex=True, sharey=True, layout="constrained")
for column, (title, some) in zip(axes.T, groups.items(), strict=True):
    for ax, kind in zip(column, ("mean", "model"), strict=True):
        ax.plot(some["truth"], some[kind], ".", markersize=3, alpha=0.5)
        ax.axline((0, 0), slope=1, color="0.5", linewidth=0.8)
        error = np.sqrt(np.mean((some[kind] - some["truth"]) ** 2))
        ax.set_title(f"{kind}, {title}: error {error:.2f}", fontsize="medium")
axes[0, 0].set_ylabel("plain mean")
axes[1, 0].set_ylabel("mixed model")
for ax in axes[1]:
    ax.set_xlabel("true quality")
plt.show()

# %%
# The error of a film's effect by its number of ratings: known levels have small ones, and a film
# nobody rated would have the standard deviation of all films (dashed).

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
std = model.random_effects_std_["film"]["Intercept"]
ax.plot(films["size"], std, ".", markersize=3, alpha=0.4)
ax.axhline(model.covariances_["film"].to_numpy().item() ** 0.5, color="C1", linestyle="--")
ax.set(xscale="log", xlabel="ratings of the film", ylabel="standard deviation", ylim=(0, None))
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# The ten best films by the plain mean, and by the model, with their true quality: the first list is
# made of films that one person liked.

for by in ("mean", "model"):
    best = films.nlargest(10, by)
    print(f"best ten by {by}: median of {best['size'].median():g} ratings, "
          f"true quality {best['truth'].mean():.2f}")  # fmt: skip
