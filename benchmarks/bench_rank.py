"""Rank-deficient least squares: python -m benchmarks.bench_rank [--rows N] [--rounds N].

Every package solves the same problem, n rows and p columns of which r are independent, in a process
of its own that generates the data, fits, and reports the best time of its rounds and by how much
the fit raised the peak of resident memory. R's lm.fit runs if Rscript is there; its data
come from a binary file.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

import numpy as np

PROBLEMS = [(1_000_000, 100, 90), (1_000_000, 10, 9), (100_000, 100, 100), (10_000, 200, 150),
            (200, 20, 15)]  # fmt: skip
R_CODE = """
path <- commandArgs(TRUE)[1]; n <- as.integer(commandArgs(TRUE)[2]); p <- as.integer(commandArgs(TRUE)[3])
rounds <- as.integer(commandArgs(TRUE)[4])
con <- file(path, "rb"); v <- readBin(con, "double", n * (p + 1)); close(con)
X <- cbind(1, matrix(v[1:(n * p)], n, p)); y <- v[(n * p + 1):(n * (p + 1))]; rm(v); invisible(gc())
best <- Inf
for (i in seq_len(rounds)) { start <- Sys.time(); m <- lm.fit(X, y); best <- min(best, as.numeric(Sys.time() - start, units = "secs")) }
cat(sprintf('{"seconds": %.6f, "rank": %d, "growth": null}', best, m$rank))
"""  # noqa: E501


def data(n, p, r):
    """(X, y): r independent normal columns, the rest combinations of them."""
    rng = np.random.default_rng(0)
    X, mix = np.empty((n, p)), rng.standard_normal((r, p - r))
    for start in range(0, n, 20_000):
        rows = X[start : start + 20_000]
        rows[:, :r] = rng.standard_normal((len(rows), r))
        rows[:, r:] = rows[:, :r] @ mix
    return X, X[:, : min(5, r)].sum(axis=1) + rng.standard_normal(n)


def skmixed(X, y):
    from skmixed import GeneralizedInverseRegressor

    return GeneralizedInverseRegressor().fit(X, y).rank_


def linear_regression(X, y):
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(X, y).rank_ + 1


def statsmodels_ols(X, y):
    import statsmodels.api as sm

    return int(sm.OLS(y, sm.add_constant(X, has_constant="add")).fit().model.rank)


def scipy_lstsq(X, y):
    from scipy.linalg import lstsq

    return int(lstsq(np.column_stack([np.ones(len(X)), X]), y)[2])


PACKAGES = {
    "skmixed": skmixed,
    "LinearRegression": linear_regression,
    "statsmodels OLS": statsmodels_ols,
    "scipy lstsq": scipy_lstsq,
}


def _peak_mb():
    """Peak of resident memory of this process; ru_maxrss would include that of its parent."""
    with open("/proc/self/status", encoding="ascii") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def measure(name, n, p, r, rounds):
    """Run one package in this process and print what it took."""
    X, y = data(n, p, r)
    PACKAGES[name](X[:1000], y[:1000])  # imports and first calls
    before, best = _peak_mb(), np.inf
    for _ in range(rounds):
        start = time.perf_counter()
        rank = PACKAGES[name](X, y)
        best = min(best, time.perf_counter() - start)
    growth = (_peak_mb() - before) * 2**20 / X.nbytes
    print(json.dumps({"seconds": best, "rank": int(rank), "growth": growth}))


def _run(name, n, p, r, rounds):
    if name != "R lm.fit":
        command = [sys.executable, "-m", "benchmarks.bench_rank", "--measure", name,
                   "--problem", *map(str, (n, p, r)), "--rounds", str(rounds)]  # fmt: skip
        return json.loads(_last_line(command))
    X, y = data(n, p, r)
    with tempfile.TemporaryDirectory() as folder:
        path, script = os.path.join(folder, "data"), os.path.join(folder, "fit.R")
        with open(path, "wb") as file:
            file.writelines((X.tobytes(order="F"), y.tobytes()))
        with open(script, "w", encoding="utf-8") as file:
            file.write(R_CODE)
        return json.loads(_last_line(["Rscript", script, path, *map(str, (n, p, rounds))]))


def _last_line(command):
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return run.stdout.strip().splitlines()[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10**9, help="leave out larger problems")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--problem", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure, *options.problem, options.rounds)
    names = [*PACKAGES, *(["R lm.fit"] if shutil.which("Rscript") else [])]
    packages = ["numpy", "scipy", "scikit-learn", "statsmodels"]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          + ", ".join(f"{name} {version(name)}" for name in packages), end="\n\n")  # fmt: skip
    print("| rows x columns, rank | package | seconds | times skmixed | memory above the data | "
          "rank found |\n|:--|:--|--:|--:|--:|--:|")  # fmt: skip
    for n, p, r in (problem for problem in PROBLEMS if problem[0] <= options.rows):
        ours = None
        for name in names:
            found = _run(name, n, p, r, options.rounds if n * p < 10**8 else 1)
            ours = found["seconds"] if name == "skmixed" else ours
            memory = "" if found["growth"] is None else f"{found['growth']:.2f}"
            cells = [f"{n:,} x {p}, {r}", name, f"{found['seconds']:.3g}",
                     f"{found['seconds'] / ours:.1f}", memory, str(found["rank"])]  # fmt: skip
            print("| " + " | ".join(cells) + " |", flush=True)
    return None


if __name__ == "__main__":
    main()
