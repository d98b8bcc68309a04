"""Smooth terms in mixed models: uptake of CO2 by grasses, and growth of soybeans.

    python examples/smooth_terms.py [folder]

prints both fits and writes a picture of each to the folder, by default the current one: the curve
of each origin of the grasses with its partial residuals, and growth of two varieties in one panel.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from skmixed import MixedLinearRegressor
from skmixed.datasets import load_co2, load_soybean
from skmixed.inference import random_effects_test
from skmixed.plotting import SmoothDisplay

UPTAKE = "uptake ~ Type * Treatment + s(log(conc), k=7, by=Type) + (1 | Plant)"
GROWTH = "log(weight) ~ Variety + s(Time, k=8, by=Variety) + (1 | Plot)"


def fits():
    grasses, beans = load_co2().frame, load_soybean().frame
    uptake = MixedLinearRegressor(UPTAKE).fit(grasses)
    yield "uptake", uptake, SmoothDisplay.from_estimator(uptake, grasses, residuals=True)
    growth = MixedLinearRegressor(GROWTH).fit(beans)
    yield "growth", growth, SmoothDisplay.from_estimator(growth, beans, overlay=True)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for name, model, display in fits():
        print(model.summary(), end="\n\n")
        tests = random_effects_test(model)[["lrt", "df", "p_value_boundary"]]
        print(tests.iloc[1:].to_string(), end="\n\n")
        path = folder / f"{name}.png"
        display.figure_.savefig(path, dpi=80)
        print(f"{path}\n")


if __name__ == "__main__":
    main()
