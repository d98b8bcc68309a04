"""
Subjects and items: how many random effects?
============================================

Forty people decide whether a string is a word, for sixty words each; half of the words follow a
related word (the *prime*). Does priming make decisions faster, for people and words at large?

Both are samples, so both have effects, and the effect of priming may differ between people and
between words too. The *maximal* model has all of that, and often more than the data can tell. The
data are simulated: priming saves 30 ms, with a standard deviation of 40 ms between people and none
between words.

Pages on this: :doc:`/singular`, :doc:`/p_values`.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor, SingularFitWarning
from skmixed.inference import likelihood_ratio_test
from skmixed.plotting import RandomEffectsDisplay


def decisions(seed, effect=-30.0, people=40, words=60):
    """Each person sees each word once; the prime is related for half of them, in turn."""
    rng = np.random.default_rng(seed)
    person, word = (x.ravel() for x in np.meshgrid(range(people), range(words), indexing="ij"))
    prime = (person + word) % 2 - 0.5
    ms = 600 + rng.normal(0, 60, people)[person] + rng.normal(0, 40, words)[word]
    ms += prime * (effect + rng.normal(0, 40, people)[person]) + rng.normal(0, 100, len(word))
    frame = pd.DataFrame({"subject": person, "item": word, "prime": prime, "ms": ms})
    return frame.astype({"subject": str, "item": str})


data = decisions(seed=2)

# %%
# Look at people and words first: the mean difference, related minus unrelated, of each. How much of
# their spread is noise? A person's effect rests on 60 decisions and has an error of some 26 ms,
# that of a word rests on 40 and has some 32 ms. People spread by more than that, words do not.

figure, axes = plt.subplots(1, 2, figsize=(7.5, 3), sharex=True, layout="constrained")
for ax, by in zip(axes, ("subject", "item"), strict=True):
    means = data.pivot_table(index=by, columns="prime", values="ms")
    ax.hist(means[0.5] - means[-0.5], bins=15, color="0.6")
    ax.axvline(0, color="C1")
    ax.set(xlabel="effect of the prime in ms", ylabel=f"{by}s", title=f"by {by}")
plt.show()

# %%
# The maximal model
# -----------------
#
# It estimates slopes of words with a standard deviation of 11 ms, where there is nothing, and two
# correlations. In other samples such a fit is singular: a variance of zero or a correlation of 1 or
# -1.

maximal = MixedLinearRegressor("ms ~ prime + (prime | subject) + (prime | item)").fit(data)
print(maximal.summary())

# %%
# Simplify, from the top
# ----------------------
#
# Leave out what the data do not tell: correlations first, then the variance that is smallest. Where
# each step loses nothing (p-values, and smaller AIC), take it; the test of a variance knows that
# zero is the boundary.

steps = [
    "ms ~ prime + (1 | subject) + (1 | item)",
    "ms ~ prime + (prime || subject) + (1 | item)",
    "ms ~ prime + (prime || subject) + (prime || item)",
]
with warnings.catch_warnings():
    warnings.simplefilter("ignore", SingularFitWarning)
    fits = [MixedLinearRegressor(formula).fit(data) for formula in steps]
    test = likelihood_ratio_test(*fits, maximal)
columns = ["npar", "AIC", "Chisq", "Df", "p-value", "p-value (boundary)"]
print(test[columns].round(3).to_string(index=False))

# %%
# The second line is the model to report: slopes of people, none of words. That is how the data were
# made.

chosen = fits[1]
print(chosen.coefficients().round(3))
RandomEffectsDisplay.from_estimator(chosen, group="subject")
plt.show()

# %%
# What a wrong analysis would have said
# -------------------------------------
#
# A simulation without any effect of the prime, 100 times: how often is "p < 0.05" found? Without
# slopes of people, which are there, too often. The maximal model and the chosen one keep the
# promise of 5 %.


def rejections(formula, n=100):
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        for seed in range(n):
            fit = MixedLinearRegressor(formula).fit(decisions(1000 + seed, effect=0.0))
            count += fit.coefficients().loc["prime", "p_value"] < 0.05
    return count / n


for formula in (steps[0], steps[1], "ms ~ prime + (prime | subject) + (prime | item)"):
    print(f"{formula:52s} {100 * rejections(formula):.1f} %")
