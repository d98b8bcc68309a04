"""Size and power of check_model by simulation: python -m benchmarks.model_checks.

Data sets are drawn from the model that is fitted (size) or from one with a planted fault (power).
Every one is fitted and checked; the tables, shares of p-values below 5 %, are written as Markdown.
Seeds are fixed.
"""

import argparse
import warnings
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import pandas as pd
from scipy import stats

from skmixed import MixedGLMRegressor, MixedLinearRegressor, MixedLogisticClassifier
from skmixed.exceptions import SingularFitWarning
from skmixed.inference import SimulatedResiduals, check_model


@dataclass(frozen=True)
class Design:
    """A model and how its data are drawn: mean (n,) and random part to a response."""

    name: str
    estimator: object
    slope: float
    spread: float
    respond: object
    n_groups: int = 40
    n_rows: int = 400


def linear(eta, rng):
    return eta + rng.standard_normal(eta.shape)


def binary(eta, rng):
    return (rng.random(eta.shape) < 1 / (1 + np.exp(-eta))).astype(float)


def counts(eta, rng):
    return rng.poisson(np.exp(eta)).astype(float)


FORMULA = "y ~ x + z + (1 | g)"
DESIGNS = {
    "linear": Design("linear", MixedLinearRegressor(FORMULA), 0.5, 0.7, linear),
    "binary": Design("binary", MixedLogisticClassifier(FORMULA), 0.8, 0.7, binary),
    "counts": Design("counts", MixedGLMRegressor(FORMULA, family="poisson"), 0.4, 0.5, counts),
}


def overdispersed(eta, rng):
    return rng.poisson(np.exp(eta) * rng.gamma(2.0, 0.5, eta.shape)).astype(float)


def outlying(eta, rng):
    y = linear(eta, rng)
    rows = rng.choice(len(y), 6, replace=False)
    y[rows] += 6.0 * rng.choice([-1.0, 1.0], 6)
    return y


def other_link(eta, rng):
    """A complementary log-log link where a logit is fitted."""
    return (rng.random(eta.shape) < -np.expm1(-np.exp(1.3 * eta))).astype(float)


def rooted(eta, rng):
    return rng.poisson(np.maximum(1.5 + 1.5 * eta, 0.0) ** 2).astype(float)


def squared(eta, rng):
    """The mean of a response that is normal on a root scale."""
    return (3.0 + eta + 0.5 * rng.standard_normal(eta.shape)) ** 2


# Fault: (design, what draws the response, what is added to the linear predictor).
FAULTS = {
    "overdispersion (variance mu + mu^2 / 2), Poisson": ("counts", overdispersed, 0.0),
    "6 of 400 responses off by 6 sigma, linear": ("linear", outlying, 0.0),
    "missing 0.2 x^2, linear": ("linear", linear, 0.2),
    "missing 0.3 x^2, binary": ("binary", binary, 0.3),
    "complementary log-log fitted as logit, binary": ("binary", other_link, 0.0),
    "a root link fitted as log, Poisson": ("counts", rooted, 0.0),
    "a root scale fitted as identity, linear": ("linear", squared, 0.0),
}


def draw(design, rng, respond=None, bend=0.0, n_samples=None):
    """A table with a response; with n_samples also y and draws at the true parameters."""
    g = rng.integers(0, design.n_groups, design.n_rows)
    x, z = rng.standard_normal((2, design.n_rows))

    def eta(columns=None):
        shape = (design.n_groups,) if columns is None else (design.n_groups, columns)
        b = design.spread * rng.standard_normal(shape)[g]
        fixed = design.slope * x - 0.3 * z + bend * (x**2 - 1)
        return (fixed if columns is None else fixed[:, None]) + b

    table = pd.DataFrame({"y": (respond or design.respond)(eta(), rng), "x": x, "z": z, "g": g})
    truth = None if n_samples is None else design.respond(eta(n_samples), rng)
    return table, truth


def p_values(design, rng, **kwargs):
    """p-values of the checks of one data set by name, the singular fits among them."""
    table, truth = draw(design, rng, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        model = design.estimator.fit(table)
    found = check_model(model, table, random_state=int(rng.integers(1 << 31))).table["p_value"]
    found = found[found.notna() | found.index.str.startswith("normal")].to_dict()
    if truth is not None:
        exact = SimulatedResiduals.of(
            table["y"], truth, independent=False, random_state=int(rng.integers(1 << 31))
        )
        found["uniformity, true parameters"] = exact.test_uniformity().p_value
        found["shape, true parameters"] = exact.test_uniformity("shape").p_value
        found["dispersion, true parameters"] = exact.test_scaled_dispersion().p_value
        found["extremes, true parameters"] = exact.test_extremes().p_value
        found["outliers, true parameters"] = exact.test_outliers("greater").p_value
    return found


def share(p, level):
    p = p.dropna()
    return f"{100 * (p < level).mean():.1f}"


def size(n, seed):
    """Shares below 5 % and 10 %, and Kolmogorov-Smirnov p of uniform p-values, by design."""
    print("| design | check | below 5 % | below 10 % | uniform: p |\n|:--|:--|--:|--:|--:|")
    for name, design in DESIGNS.items():
        rng = np.random.default_rng(seed)
        found = pd.DataFrame([p_values(design, rng, n_samples=250) for _ in range(n)])
        for check, p in found.items():
            uniform = stats.kstest(p.dropna(), "uniform").pvalue
            print(f"| {name} | {check} | {share(p, 0.05)} | {share(p, 0.1)} | {uniform:.3f} |")


def power(n, seed):
    """Shares of every check below 5 % by fault."""
    rows = {}
    for name, (design, respond, bend) in FAULTS.items():
        rng = np.random.default_rng(seed)
        kwargs = {"respond": respond, "bend": bend}
        found = pd.DataFrame([p_values(DESIGNS[design], rng, **kwargs) for _ in range(n)])
        rows[name] = {check: share(p, 0.05) for check, p in found.items()}
    table = pd.DataFrame(rows).T.fillna("")
    print("| fault | " + " | ".join(table.columns) + " |")
    print("|:--|" + "--:|" * table.shape[1])
    for name, row in table.iterrows():
        print(f"| {name} | " + " | ".join(row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000, help="data sets by design, 0: none")
    parser.add_argument("--faulty", type=int, default=200, help="data sets by fault, 0: none")
    parser.add_argument("--seed", type=int, default=20250)
    args = parser.parse_args()
    begin = perf_counter()
    if args.n:
        size(args.n, args.seed)
    if args.faulty:
        print()
        power(args.faulty, args.seed + 1)
    print(f"\n{perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
