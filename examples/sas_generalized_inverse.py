"""Generalised inverses step by step: what SAS/IML and PROC GLM compute, and why it is safe.

Run with `python examples/sas_generalized_inverse.py [folder for the picture]`.

Four parts: a singular system and its solutions by sweep and by Moore-Penrose; the whole line of
solutions and its shortest member (the picture); the over-parameterised design of PROC GLM; and
reference levels, which change every coefficient and nothing that the data determine.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import GeneralizedInverseRegressor
from skmixed.linalg import g2_inverse, moore_penrose, null_space

# The matrix and right-hand side of the SAS/IML documentation of SWEEP and GINV; column 3 is twice
# column 4, so the rank is 3.
A = np.array([[100, 50, 20, 10], [50, 106, 46, 23], [20, 46, 56, 28], [10, 23, 28, 14]])
C = np.array([130, 776, 486, 243])


def solve_a_singular_system():
    print("1. A b = c with a singular A")
    by_sweep, by_moore_penrose = g2_inverse(A) @ C, moore_penrose(A) @ C
    print("   sweep:          ", by_sweep.round(12))
    print("   Moore-Penrose:  ", by_moore_penrose.round(12))
    print(
        "   A b - c, both:  ",
        np.abs(A @ by_sweep - C).max().round(12),
        np.abs(A @ by_moore_penrose - C).max().round(12),
    )
    print("   null vector * sqrt(5):", (null_space(A)[:, 0] * 5**0.5).round(12))
    print("   Read: b3 and b4 differ, 2 b3 + b4 does not (8 in both): only that is estimable.")
    for name, G in [("sweep", g2_inverse(A)), ("Moore-Penrose", moore_penrose(A))]:
        holds = [
            np.allclose(A @ G @ A, A),
            np.allclose(G @ A @ G, G),
            np.allclose(A @ G, (A @ G).T),
            np.allclose(G @ A, (G @ A).T),
        ]
        print(f"   Penrose conditions of {name}: AGA=A, GAG=G, AG and GA symmetric: {holds}")


def draw_the_line_of_solutions(folder):
    b, null = moore_penrose(A) @ C, null_space(A)[:, 0]
    alpha = np.linspace(-2.5, 2.5, 201)
    norms = np.linalg.norm(b + alpha[:, None] * null, axis=1)
    swept = (g2_inverse(A) @ C - b) @ null
    fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    ax.plot(alpha, norms, color="tab:blue")
    for at, label, side in [(0.0, "Moore-Penrose", "left"), (swept, "sweep (b4 = 0)", "right")]:
        ax.axvline(at, color="0.6", linewidth=0.8)
        height = np.linalg.norm(b + at * null)
        ax.plot(at, height, "o", color="tab:red")
        ax.annotate(
            f"{label}\nlength {height:.3f}",
            (at, height),
            (at + (0.1 if side == "left" else -0.1), height + 0.06),
            ha=side,
        )
    ax.set(
        xlabel="alpha",
        ylabel="length of b + alpha * null vector",
        title="Every point of the curve solves A b = c",
    )
    path = folder / "generalized_inverse_norms.png"
    fig.savefig(path, dpi=120)
    print(f"\n2. The line of solutions: {path}")
    print(
        f"   Lengths: Moore-Penrose {norms.min():.5f} (the smallest), sweep at alpha = "
        f"{abs(swept):.5f}: {np.linalg.norm(b + swept * null):.5f}"
    )


def diet_data():
    """Weight gain of 12 animals by diet and sex, unbalanced: made-up numbers in grams."""
    return pd.DataFrame(
        {
            "diet": list("aaaabbbbcccc"),
            "sex": list("mmfmfffmmmff"),
            "gain": [31.0, 29, 25, 33, 30, 28, 29, 36, 41, 40, 34, 35],
        }
    )


def show_the_glm_design():
    data = diet_data()
    model = GeneralizedInverseRegressor(formula="gain ~ diet + sex").fit(data)
    print("\n3. PROC GLM's design: one column for every level, none left out")
    print(model.design_matrix(data).head(3).astype(int).to_string(index=False))
    print()
    print(model.summary())


def change_the_reference_level():
    data = diet_data()
    print("\n4. Reference levels change coefficients, not what the data determine")
    rows = {}
    for reference in ["a", "b", "c"]:
        for method in ["sweep", "moore_penrose"]:
            model = GeneralizedInverseRegressor(
                method, formula="gain ~ diet + sex", reference={"diet": reference}
            ).fit(data)
            coef = dict(zip(model.aliased_.index, [model.intercept_, *model.coef_], strict=True))
            difference = model.contrast({"diet[c]": 1, "diet[a]": -1})
            rows[f"{method}, {reference} last"] = {
                **{name: coef[name] for name in ["diet[a]", "diet[b]", "diet[c]"]},
                "c - a": difference.estimate,
                "its error": difference.standard_error,
                "first fitted": model.predict(data)[0],
            }
    table = pd.DataFrame(rows).T
    print(table.round(4).to_string())
    spread = table[["c - a", "its error", "first fitted"]].agg(np.ptp)
    print(f"   Largest change in the last three columns: {spread.max():.1e}")
    print("   Least-squares means (every reference level gives these):")
    print(model.least_squares_means("diet").round(4).to_string())


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    folder.mkdir(parents=True, exist_ok=True)
    solve_a_singular_system()
    draw_the_line_of_solutions(folder)
    show_the_glm_design()
    change_the_reference_level()


if __name__ == "__main__":
    main()
