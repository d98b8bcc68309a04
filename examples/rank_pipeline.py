"""From a broken one-hot design to a fitted model and a mixed model, in one Pipeline each.

Run with `python examples/rank_pipeline.py [folder for the picture]`.

Productivity scores of six workers on three machines (Pinheiro and Bates 2000), as such data arrive:
with a constant site column, the same time in two units, an empty machine type, and one worker who
appears twice only.
"""

import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skmixed import (
    GeneralizedInverseRegressor,
    MixedLinearRegressor,
    RankDeficiencyTransformer,
    RankDeficiencyWarning,
)
from skmixed.datasets import load_machines


def messy_table():
    """(X, y): the Machines data with the troubles of real tables."""
    rng = np.random.default_rng(0)
    frame = load_machines().frame
    X = frame[["Machine", "Worker"]].astype(str)
    X["Machine"] = pd.Categorical(X["Machine"], categories=["A", "B", "C", "retired"])
    X["minutes"] = rng.integers(20, 60, len(X))
    X["hours"] = X["minutes"] / 60
    X["site"] = "north"
    X.loc[X.index[:2], "Worker"] = "temp"
    X["Worker"] = X["Worker"].astype("category")  # labels, though most look like numbers
    return X, frame["score"]


def one_hot_alone(X, y):
    print("1. One-hot encoding alone")
    encoded = pd.get_dummies(X).astype(float)
    coef = LinearRegression().fit(encoded, y).coef_
    rank = np.linalg.matrix_rank(np.column_stack([np.ones(len(X)), encoded]))
    print(f"   {encoded.shape[1] + 1} columns of rank {rank}; LinearRegression says nothing")
    print(
        "   and returns one of infinitely many solutions: "
        + ", ".join(f"{n} {b:.3g}" for n, b in list(zip(encoded, coef, strict=True))[:4]),
        "...",
    )


def transformer_first(X):
    print("\n2. RankDeficiencyTransformer says what is wrong")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        transformer = RankDeficiencyTransformer(min_frequency=3).fit(X)
    print("   " + str(told[0].message).replace("; ", ";\n   "))
    print("\n" + transformer.report_.to_string(index=False))
    back = transformer.inverse_transform(transformer.transform(X))
    print("   hours rebuilt from minutes, largest error:", np.abs(back["hours"] - X["hours"]).max())


def pipelines(X, y):
    print("\n3. Pipelines")
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["Machine", "Worker"]), remainder="passthrough"
    )
    encoded = make_pipeline(
        RankDeficiencyTransformer(min_frequency=3),
        encode,
        RankDeficiencyTransformer(),
        LinearRegression(),
    )
    direct = make_pipeline(
        RankDeficiencyTransformer(min_frequency=3), GeneralizedInverseRegressor()
    )
    mixed = make_pipeline(
        RankDeficiencyTransformer(min_frequency=3),
        MixedLinearRegressor("Machine + minutes + (1 | Worker)"),
    )
    # A fold without the temp learns no "other": predictions for it rest on what is estimable, and
    # GeneralizedInverseRegressor would say so; the warnings are silenced here to keep the table.
    models = {
        "one-hot, transformer, LinearRegression": encoded,
        "transformer, GeneralizedInverseRegressor": direct,
        "transformer, MixedLinearRegressor": mixed,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankDeficiencyWarning)
        for name, model in models.items():
            scores = cross_val_score(model, X, y, cv=KFold(5, shuffle=True, random_state=1))
            print(f"   {name:<42} R^2 in 5 folds: {scores.round(3)}")
            model.fit(X, y)
    print("\n" + str(direct[-1].summary()))
    print("\n" + str(mixed[-1].summary()))
    return models


def draw(models, X, y, folder):
    fixed = models["transformer, GeneralizedInverseRegressor"]
    mixed = models["transformer, MixedLinearRegressor"]
    fig, ax = plt.subplots(figsize=(6, 5), layout="constrained")
    ax.scatter(y, fixed.predict(X), label="workers as fixed effects")
    ax.scatter(y, mixed.predict(X), marker="x", label="workers as random effects")
    ax.axline((60, 60), slope=1, color="0.6", linewidth=0.8)
    ax.set(xlabel="productivity score", ylabel="fitted", title="One table, two models")
    ax.legend()
    path = folder / "rank_pipeline.png"
    fig.savefig(path, dpi=120)
    means = fixed[-1].least_squares_means("Machine")
    print(f"\n4. Fitted against observed: {path}\n   Machine means, workers averaged equally:")
    print(means[["estimate", "std_error", "lower", "upper"]].round(3).to_string())


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    folder.mkdir(parents=True, exist_ok=True)
    X, y = messy_table()
    one_hot_alone(X, y)
    transformer_first(X)
    models = pipelines(X, y)
    draw(models, X, y, folder)


if __name__ == "__main__":
    main()
