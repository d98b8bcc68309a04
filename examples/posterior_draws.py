"""How sure are we of the sleep study? Posterior draws in the place of formulas.

    python examples/posterior_draws.py [folder]

answers three questions that have no standard error: how the subjects rank, how a subject who was
not in the study will do, and how often such a subject gets faster. It writes a picture to the
folder, by default the current one: the posterior of the standard deviations, and the reaction times
of a new subject.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_sleepstudy
from skmixed.inference import Prior, posterior
from skmixed.plotting import PosteriorDisplay


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    sleep = load_sleepstudy().frame
    model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
    post = posterior(model, random_state=0)
    print(post)

    slopes = post.draws[["Days"]].to_numpy() + post.effects("Subject")[:, :, 1]
    subjects = np.array(sorted(sleep["Subject"].unique()))
    worst = pd.Series(np.bincount(slopes.argmax(axis=1), minlength=18) / len(slopes), subjects)
    print("\nWho slows down most, with which probability:")
    print(worst.nlargest(3).round(2).to_string())

    days = np.arange(10)
    new = pd.DataFrame({"Days": [*days, 9], "Subject": ["a new one"] * 10 + ["308"]})
    mean, seen = post.predict(new), post.predict(new, "observation")
    faster = float((mean[:, 9] < mean[:, 0]).mean())
    print(f"\nA new subject gets faster over nine days with probability {faster:.3f}.")

    weak = posterior(model, prior=Prior(sd=("half_t", 3, 50.0), cor=2.0), random_state=0)
    both = pd.DataFrame(
        {"flat": post.summary()["median"], "half-t, LKJ(2)": weak.summary()["median"]}
    )
    print("\nMedians under two priors:")
    print(both.round(2).to_string())

    figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    names = ["sd_(Intercept)|Subject", "sd_Days|Subject"]
    PosteriorDisplay.from_posterior(post, names, ax=axes[:2])
    for draws, shade, label in ((seen, 0.2, "an observation"), (mean, 0.4, "its mean")):
        low, high = np.quantile(draws[:, :10], [0.025, 0.975], axis=0)
        axes[2].fill_between(days, low, high, color="#0072B2", alpha=shade, lw=0, label=label)
    axes[2].plot(days, np.median(mean[:, :10], axis=0), color="black", lw=1)
    axes[2].set(xlabel="days without sleep", ylabel="reaction of a new subject (ms)")
    axes[2].legend(loc="upper left", frameon=False)
    figure.savefig(folder / "new_subject.png", dpi=100)


if __name__ == "__main__":
    main()
