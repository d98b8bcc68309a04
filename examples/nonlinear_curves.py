"""Growth of orange trees and concentrations of theophylline: two nonlinear mixed models.

    python examples/nonlinear_curves.py [folder]

prints both fits and writes a picture of each to the folder, by default the current one: a panel for
every tree or subject with its own curve, and the curve of a typical one.

The analyses are those of Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS,
section 8.2.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import MixedNonlinearRegressor
from skmixed.datasets import load_orange, load_theoph

GROWTH = "circumference ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"
KINETICS = "conc ~ first_order(Dose, Time, lKe, lKa, lCl) ~ (lKa + lCl | Subject)"


def trellis(model, frame, group, x, y, labels):
    """A panel for every level: its rows, its curve, and the curve of a typical level."""
    levels = sorted(frame[group].unique(), key=int)
    columns = min(len(levels), 5 if len(levels) < 6 else 4)
    rows = -(-len(levels) // columns)
    size = (2.2 * columns, 2.0 * rows + 0.6)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    grid = np.linspace(frame[x].min(), frame[x].max(), 120)
    for ax, level in zip(axes.flat, levels, strict=False):
        own = frame[frame[group] == level]
        new = pd.concat([own.iloc[[0]]] * len(grid), ignore_index=True).assign(**{x: grid})
        ax.plot(grid, model.predict(new, random_effects=False), "--", color="0.6", label="typical")
        ax.plot(grid, model.predict(new), color="C0", label="own")
        ax.plot(own[x], own[y], "o", color="0.2", markersize=3)
        ax.set_title(f"{group} {level}", fontsize="small")
    axes.flat[0].legend(fontsize="x-small")
    figure.supxlabel(labels[0])
    figure.supylabel(labels[1])
    return figure


def fits():
    orange, theoph = load_orange().frame, load_theoph().frame
    growth = MixedNonlinearRegressor(GROWTH).fit(orange)
    labels = "age in days", "circumference in mm"
    yield "orange", growth, trellis(growth, orange, "Tree", "age", "circumference", labels)
    kinetics = MixedNonlinearRegressor(KINETICS).fit(theoph)
    labels = "hours since the dose", "theophylline in mg per l"
    yield "theoph", kinetics, trellis(kinetics, theoph, "Subject", "Time", "conc", labels)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for name, model, figure in fits():
        print(model.summary())
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=80)
        print(f"\n{path}\n")


if __name__ == "__main__":
    main()
