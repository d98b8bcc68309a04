"""Are the stated Monte-Carlo errors right? python -m benchmarks.calibration [--seeds 200].

Fits of one data set by the iterative solver with many seeds against the direct fit: root mean
square of error / stated error for every entry of theta and for the criterion.
"""

import argparse
import warnings

import numpy as np

from benchmarks.crossed import crossed_frame
from skmixed import MixedLinearRegressor, MixedLogisticClassifier
from skmixed.linalg import iterative_logdet

CASES = {
    "crossed": ((20_000, 800, 450), {}, "y ~ 1 + (1 | user) + (1 | item)"),
    "slopes, three factors": (
        (20_000, 800, 450),
        {"slope": True, "n_fixed": 3, "third": 100},
        "y ~ x1 + x2 + (x1 | user) + (1 | item) + (1 | context)",
    ),
    "brands": ((20_000, 800, 450), {"brands": 40}, "y ~ 1 + (1 | user) + (1 | item) + (1 | brand)"),
    "logistic": ((20_000, 800, 450), {"logistic": True}, "y ~ 1 + (1 | user) + (1 | item)"),
    "logistic, slopes, three factors": (
        (20_000, 800, 450),
        {"logistic": True, "slope": True, "n_fixed": 3, "third": 100},
        "y ~ x1 + x2 + (x1 | user) + (1 | item) + (1 | context)",
    ),
    "clusters": ((20_000, 800, 450), {"affinity": 0.9}, "y ~ 1 + (1 | user) + (1 | item)"),
}


def calibrate(name, seeds, n_probes):
    """(ratios of theta, ratio of the criterion)."""
    shape, settings, formula = CASES[name]
    data = crossed_frame(shape, **settings)
    Model = MixedLogisticClassifier if settings.get("logistic") else MixedLinearRegressor
    exact = Model(formula, solver="direct").fit(data)
    theta, criterion = [], []
    for seed in range(seeds):
        model = Model(formula, solver="iterative", n_probes=n_probes, random_state=seed)
        model.fit(data)
        theta.append((model.theta_ - exact.theta_) / model.theta_mc_std_)
        criterion.append((model.deviance_ - exact.deviance_) / model.deviance_mc_std_)
    return _size(theta), _size(criterion)


def _size(ratios):
    return np.sqrt(np.mean(np.square(ratios), axis=0))


def main():
    """Print one line for every case."""
    parser = argparse.ArgumentParser(description="Stated Monte-Carlo errors against true ones.")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--probes", type=int, default=32)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    iterative_logdet.DENSE = 0  # these cores are small enough for an exact criterion
    warnings.simplefilter("ignore")
    for name in options.cases:
        theta, criterion = calibrate(name, options.seeds, options.probes)
        print(f"{name}: theta {theta.round(2)}, "
              f"criterion {criterion:.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
