"""A field trial with a smooth trend, and animals related by a pedigree.

    python examples/fields_and_families.py [folder]

prints both fits and writes a picture of each to the folder, by default the current one: the yields
of wheat plots and the fertility of the soil that a Gaussian field finds behind them, and breeding
values of animals, those without a record too.

The field is that of Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, section
5.5.2; the animals are simulated.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedLinearRegressor, pedigree_relationship
from skmixed.datasets import load_wheat2
from skmixed.inference import heritability


def wheat():
    """The model of the trial, and its field on a grid of places where no plot was."""
    plots = load_wheat2().frame.rename(columns={"yield": "bushels"})
    model = MixedLinearRegressor("bushels ~ variety + gau(latitude + longitude)").fit(plots)
    ends = ((plots[c].min(), plots[c].max()) for c in ("longitude", "latitude"))
    east, north = (np.linspace(*end, 80) for end in ends)
    grid = pd.DataFrame([(y, x) for y in north for x in east], columns=["latitude", "longitude"])
    grid["variety"] = plots["variety"].iloc[0]
    soil = model.predict(grid) - model.predict(grid, random_effects=False)
    most = np.abs(soil).max()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
    drawn = axes[0].scatter(plots["longitude"], plots["latitude"], c=plots["bushels"], s=26)
    figure.colorbar(drawn, label="bushels per acre")
    drawn = axes[1].pcolormesh(
        east, north, soil.reshape(80, 80), cmap="RdBu", vmin=-most, vmax=most
    )
    figure.colorbar(drawn, label="field, bushels per acre")
    for ax, title in zip(axes, ("yields", "what their places explain"), strict=True):
        ax.set(title=title, xlabel="longitude in m")
    axes[0].set_ylabel("latitude in m")
    return model, figure


def pedigree(rng, founders=20, offspring=180):
    """Animals with their parents, each generation from animals of the one before."""
    rows = [(i, None, None) for i in range(founders)]
    for i in range(founders, founders + offspring):
        sire, dam = rng.choice(np.arange(max(0, i - 40), i), 2, replace=False)
        rows.append((i, sire, dam))
    return pd.DataFrame(rows, columns=["animal", "sire", "dam"])


def animals():
    """The model of weights of most animals, and how well it predicts the values of all."""
    rng = np.random.default_rng(6)
    K = pedigree_relationship(pedigree(rng))
    value = pd.Series(3 * np.linalg.cholesky(K) @ rng.normal(size=len(K)), index=K.index)
    recorded = rng.random(len(K)) < 0.75
    rows = pd.DataFrame({"animal": np.repeat(K.index[recorded], 2)})
    rows["sex"] = np.where(rows["animal"] % 2, "f", "m")
    rows["weight"] = 50 + 4 * (rows["sex"] == "m") + value[rows["animal"]].to_numpy()
    rows["weight"] += 3 * rng.normal(size=len(rows))
    model = MixedLinearRegressor("weight ~ sex + (1 | animal)", relationship={"animal": K})
    model.fit(rows)
    predicted = model.random_effects_["animal"]["Intercept"]
    std = model.random_effects_std_["animal"]["Intercept"]
    figure, ax = plt.subplots(figsize=(5, 4.4), layout="constrained")
    for known, label, color in ((recorded, "two records", "C0"), (~recorded, "none", "C1")):
        own = predicted[known]
        style = {"fmt": "o", "markersize": 3, "linewidth": 0.6, "color": color, "label": label}
        ax.errorbar(value[known], own, yerr=std[known], **style)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8)
    ax.set(xlabel="breeding value in kg", ylabel="predicted, with standard deviation")
    ax.legend(fontsize="small")
    return model, figure


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (("wheat", wheat), ("animals", animals)):
        model, figure = make()
        print(model.summary())
        if name == "animals":
            print(heritability(model).round(3).to_string())
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=80)
        print(f"\n{path}\n")


if __name__ == "__main__":
    main()
