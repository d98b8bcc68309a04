"""Why is my design rank-deficient? The questions people ask, each with data, answer and remedy.

Run with `python examples/rank_cases.py [folder for the picture]`.
"""

import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skmixed import GeneralizedInverseRegressor, RankDeficiencyTransformer

RNG = np.random.default_rng(2024)


def told(call):
    """The result of call() and the text of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in caught]


def show(title, X, y, remark):
    """Rank and dependencies of a design, and what to make of them."""
    model, messages = told(lambda: GeneralizedInverseRegressor().fit(X, y))
    print(f"\n{title}\n   rank {model.rank_} of {len(model.aliased_)} columns")
    for name, row in list(model.linear_dependencies_.items())[:3]:
        terms = " + ".join(f"({value:.6g}) {other}" for other, value in row.items())
        print(f"   {name} = {terms or '0'}")
    for message in messages:
        print("   warning:", message)
    print("  ", remark)
    return model


def too_few_rows():
    X = pd.DataFrame(RNG.normal(size=(4, 6)), columns=list("abcdef"))
    model = show(
        "Too few rows: 4 rows, 6 columns and an intercept",
        X,
        RNG.normal(size=4),
        "At most as many coefficients as rows: the fit is exact, 0 degrees of freedom.",
    )
    print(f"   residual df {model.df_resid_:g}, sigma {model.sigma_}")


def replicates():
    x = np.repeat([1.0, 2.0], 5)
    X = pd.DataFrame({"x": x, "x squared": x**2})
    show(
        "Replicates: ten rows, but only two different values of x",
        X,
        RNG.normal(size=10),
        "Two points carry a line and no curve. More rows at the same x do not help.",
    )


def points_on_a_line():
    height = RNG.normal(1.7, 0.1, 30)
    X = pd.DataFrame({"height": height, "weight": 90 * height - 85})
    show(
        "Points on a line: a covariate computed from another",
        X,
        RNG.normal(size=30),
        "Only the sum of the two effects along the line is estimable. Drop one of them.",
    )


def units():
    X = pd.DataFrame(
        {"height_nm": RNG.normal(1.7e9, 1e8, 30), "shoe_kpc": RNG.normal(8e-21, 1e-21, 30)}
    )
    y = 1e-9 * X["height_nm"] + 2e20 * X["shoe_kpc"] + RNG.normal(0, 0.01, 30)
    model = show(
        "Units: nanometres beside kiloparsecs",
        X,
        y,
        "Full rank. Sizes of 1e9 and 1e-21 are units, not a deficiency.",
    )
    print("   coefficients:", [f"{b:.4g}" for b in model.coef_])


def shifts():
    t = np.arange(20.0)
    y = 3 + 2 * t + RNG.normal(0, 0.1, 20)
    model = show(
        "Shift: a time stamp, t + 1e12",
        pd.DataFrame({"stamp": t + 1e12}),
        y,
        "Full rank: beside an intercept only the variation counts. R's lm drops it.",
    )
    print(f"   slope {model.coef_[0]:.6g} per unit of t")
    stamp = t + 1e12
    show(
        "Shift, then square",
        pd.DataFrame({"stamp": stamp, "squared": stamp**2}),
        y,
        "The square needs 25 digits and a double stores 16. Centre first:",
    )
    near = stamp - stamp.mean()
    show("Centred, then squared", pd.DataFrame({"near": near, "squared": near**2}), y, "Full rank.")


def empty_categories():
    frame = pd.DataFrame({"city": pd.Categorical(list("aabbab"), categories=["a", "b", "closed"])})
    dummies = pd.get_dummies(frame).astype(float)
    show(
        "Empty category: get_dummies makes a column of zeros",
        dummies,
        np.arange(6.0),
        "Give the DataFrame itself: levels without rows get no column.",
    )
    show(
        "The same, from the DataFrame",
        frame,
        np.arange(6.0),
        "The one dependency left is that the dummies sum to 1.",
    )


def rare_and_other():
    city = ["rome"] * 12 + ["oslo"] * 9 + ["bonn", "lima"]
    frame = pd.DataFrame({"city": city, "x": RNG.normal(size=23)})
    transformer, messages = told(lambda: RankDeficiencyTransformer(min_frequency=3).fit(frame))
    print("\nOther: rare categories, and those met for the first time")
    print("   warning:", *messages)
    new = pd.DataFrame({"city": ["oslo", "lima", "kyiv"], "x": [0.0, 1.0, 2.0]})
    print("   new data:", new["city"].tolist(), "->", transformer.transform(new)["city"].tolist())


def draw_the_ladder(folder):
    """Near-duplicates x2 = x1 + noise: when each rule gives up the second column."""
    z, noise = RNG.normal(size=(2, 200))
    sizes = 10.0 ** np.arange(-15, 0)
    y = z + RNG.normal(size=200)
    errors, ranks = [], []
    for size in sizes:
        X = np.column_stack([z, z + size * noise])
        model, _ = told(lambda X=X: GeneralizedInverseRegressor().fit(X, y))
        ranks.append(model.rank_)
        errors.append(model.standard_errors_.iloc[2] if model.rank_ == 3 else np.nan)
    fig, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    ax.loglog(sizes, errors, "o-", label="standard error of the second coefficient")
    ax.axvline(1e-7, color="tab:orange", label="R's lm drops it from here down (tol = 1e-7)")
    ax.axvspan(1e-16, 1e-12, color="0.85", label="dependent within rounding: dropped here")
    ax.set(
        xlabel="size of the difference between two columns, relative to their spread",
        ylabel="standard error",
        title="Near-duplicates: kept as long as digits tell them apart",
    )
    ax.legend()
    path = folder / "rank_ladder.png"
    fig.savefig(path, dpi=120)
    lowest = sizes[np.array(ranks) == 3].min()
    print(
        f"\nNear-duplicates: {path}\n   kept down to a difference of {lowest:.0e}; the standard "
        "error, not the software, says whether the coefficient is worth anything."
    )


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    folder.mkdir(parents=True, exist_ok=True)
    for case in (
        too_few_rows,
        replicates,
        points_on_a_line,
        units,
        shifts,
        empty_categories,
        rare_and_other,
    ):
        case()
    draw_the_ladder(folder)


if __name__ == "__main__":
    main()
