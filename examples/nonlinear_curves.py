"""Growth of orange trees and concentrations of theophylline: two nonlinear mixed models.

    python examples/nonlinear_curves.py [folder]

Both analyses are those of Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS,
section 8.2. For each data set the example compares structures of the random effects, prints the
chosen fit, and writes two pictures to the folder, by default the current one: a panel for every
tree or subject with its own curve beside that of a typical one, and the residuals.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from skmixed import MixedNonlinearRegressor
from skmixed.datasets import load_orange, load_theoph
from skmixed.inference import likelihood_ratio_test
from skmixed.plotting import NormalQuantileDisplay, TrellisDisplay

GROWTH = "circumference ~ logistic(age, Asym, xmid, scal) ~ "
KINETICS = "conc ~ first_order(Dose, Time, lKe, lKa, lCl) ~ "
LABELS = {
    "orange": ("age in days", "circumference in mm"),
    "theoph": ("hours since the dose", "theophylline in mg per l"),
}


def growth(orange):
    """Trees differ in their asymptote; that they differ in the midpoint too is not to be seen."""
    asymptote = MixedNonlinearRegressor(GROWTH + "(Asym | Tree)").fit(orange)
    both = MixedNonlinearRegressor(GROWTH + "(Asym + xmid || Tree)").fit(orange)
    return asymptote, likelihood_ratio_test(asymptote, both)


def kinetics(theoph):
    """Subjects differ in absorption and clearance, without correlation; then in elimination."""
    one = MixedNonlinearRegressor(KINETICS + "(lKa | Subject)").fit(theoph)
    two = MixedNonlinearRegressor(KINETICS + "(lKa + lCl || Subject)").fit(theoph)
    correlated = MixedNonlinearRegressor(KINETICS + "(lKa + lCl | Subject)").fit(theoph)
    return two, likelihood_ratio_test(one, two, correlated)


def curves(model, frame, name):
    """A panel for every level: its rows, its curve, and the curve of a typical level."""
    group = model.random_terms_[0].group
    levels = sorted(frame[group].unique(), key=int)
    display = TrellisDisplay.from_estimator(
        model, frame, levels=levels, columns=5 if len(levels) == 5 else 4
    )
    x, response = LABELS[name]
    for ax in display.axes_:
        if ax.get_xlabel():
            ax.set_xlabel(f"{x}; one panel per {group}", loc="left")
        if ax.get_ylabel():
            ax.set_ylabel(response)
    return display.figure_


def residuals(model, frame, name):
    """Scaled residuals by the mean, and beside the quantiles of a normal distribution."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.4), layout="constrained")
    left.axhline(0, color="0.6", linewidth=0.8)
    left.plot(model.predict(frame), model.residuals(frame, kind="scaled"), ".", color="C0")
    left.set_xlabel(f"predicted {LABELS[name][1]}")
    left.set_ylabel("residual / sigma")
    NormalQuantileDisplay.from_estimator(model, frame, ax=right)
    return figure


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame, fit in (
        ("orange", load_orange().frame, growth),
        ("theoph", load_theoph().frame, kinetics),
    ):
        model, comparison = fit(frame)
        print(f"{comparison}\n\n{model.summary()}\n\n{model.confint().round(3)}\n")
        for kind, draw in (("", curves), ("_residuals", residuals)):
            path = folder / f"{name}{kind}.png"
            draw(model, frame, name).savefig(path, dpi=80)
            print(path)
        print()
    between = np.ptp(model.parameters_of(frame), axis=0)
    print("Range of the parameters over the subjects:", between.round(2).to_dict())


if __name__ == "__main__":
    main()
