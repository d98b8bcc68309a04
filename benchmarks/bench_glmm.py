"""Generalised linear mixed models: python -m benchmarks.bench_glmm [--slow] [--cases ...].

Every package fits by the Laplace approximation.
"""

import numpy as np
import pandas as pd

from benchmarks.cases import Case
from benchmarks.packages import PACKAGES
from benchmarks.runner import EVALUATIONS, Column, above_lowest, main
from skmixed import datasets

COLUMNS = [EVALUATIONS, Column("criterion", "-2 log L above the lowest", above_lowest)]


def _bernoulli(rng, eta):
    return (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)


def contraception(seed=5, n=1934, n_districts=60):
    """Of the size of the Bangladesh fertility survey: women in districts."""
    rng = np.random.default_rng(seed)
    district, children = rng.integers(0, n_districts, n), rng.integers(0, 4, n)
    age, urban = rng.normal(size=n), rng.integers(0, 2, n)
    eta = -1 + 0.7 * urban + np.array([0, 1.1, 1.4, 1.35])[children] - 0.03 * age
    return pd.DataFrame(
        {
            "use": _bernoulli(rng, eta + rng.normal(0, 0.5, n_districts)[district]),
            "age": age,
            "urban": urban.astype(float),
            "children": pd.Categorical(children),
            "district": pd.Categorical(district),
        }
    )


def many_groups(seed=6, n=200_000, n_groups=10_000):
    """0/1 outcomes of 20 rows per group on average."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, n_groups, n), rng.normal(size=n)
    y = _bernoulli(rng, -0.5 + 0.8 * x + rng.normal(0, 1, n_groups)[g])
    return pd.DataFrame({"y": y, "x": x, "g": pd.Categorical(g)})


def _cbpp():
    frame = datasets.load_cbpp().frame
    return frame.assign(share=frame["incidence"] / frame["size"])


def _verbagg():
    frame = datasets.load_verbagg().frame
    return frame.assign(yes=(frame["r2"] == "Y").astype(float))


CASES = [
    Case(
        "cbpp",
        "share ~ period + (1 | herd)",
        _cbpp,
        "56 rows",
        10,
        family="binomial",
        trials="size",
        formula_in_r="cbind(incidence, size - incidence) ~ period + (1 | herd)",
    ),
    Case(
        "contraception",
        "use ~ age + urban + children + (1 | district)",
        contraception,
        "1,934 rows",
        5,
        family="binomial",
    ),
    Case(
        "verbagg",
        "yes ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)",
        _verbagg,
        "7,584 rows",
        3,
        family="binomial",
    ),
    Case(
        "grouseticks",
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        lambda: datasets.load_grouseticks().frame,
        "403 rows",
        3,
        family="poisson",
    ),
    Case(
        "many_groups",
        "y ~ x + (1 | g)",
        many_groups,
        "200,000 rows",
        2,
        frozenset({"mixedlm", "lme4", "glmmTMB"}),
        family="binomial",
    ),
]

if __name__ == "__main__":
    main("benchmarks.bench_glmm", CASES, PACKAGES, COLUMNS)
