"""Rank-deficient least squares: python -m benchmarks.bench_rank [--slow] [--cases ...].

Every package solves the same problem, n rows and p columns of which r are independent, in processes
of its own that generate the data and fit. The table also says by how much the fit raised the peak
of resident memory, in sizes of X, and which rank it found. R's data come from a binary file.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

import skmixed
from benchmarks.runner import Column, Run, main, timed

R_CODE = """
args <- commandArgs(TRUE); n <- as.integer(args[2]); p <- as.integer(args[3])
con <- file(args[1], "rb"); v <- readBin(con, "double", n * (p + 1)); close(con)
X <- cbind(1, matrix(v[1:(n * p)], n, p)); y <- v[(n * p + 1):(n * (p + 1))]; rm(v); invisible(gc())
for (i in seq_len(as.integer(args[4]))) {
  start <- Sys.time(); m <- lm.fit(X, y)
  seconds <- as.numeric(Sys.time() - start, units = "secs")
  cat(sprintf('{"seconds": %.6f, "figures": {"rank": %d}}\n', seconds, m$rank))
}
"""


@dataclass(frozen=True)
class Problem:
    """n rows and p columns, r of them independent."""

    n: int
    p: int
    r: int
    repeats: int = 3
    slow: frozenset[str] = frozenset()

    @property
    def name(self):
        return f"rank {self.r} of {self.p}"

    @property
    def size(self):
        return f"{self.n:,} rows"

    def data(self):
        """Nothing: every process makes the data for itself."""


CASES = [
    Problem(1_000_000, 100, 90, repeats=1),
    Problem(1_000_000, 10, 9),
    Problem(100_000, 100, 100),
    Problem(10_000, 200, 150),
    Problem(200, 20, 15),
]
COLUMNS = [
    Column("memory", "memory above the data", lambda value, _: f"{value:.2f}"),
    Column("rank", "rank found"),
]


def data(n, p, r):
    """(X, y): r independent normal columns, the rest combinations of them."""
    rng = np.random.default_rng(0)
    X, mix = np.empty((n, p)), rng.standard_normal((r, p - r))
    for start in range(0, n, 20_000):
        rows = X[start : start + 20_000]
        rows[:, :r] = rng.standard_normal((len(rows), r))
        rows[:, r:] = rows[:, :r] @ mix
    return X, X[:, : min(5, r)].sum(axis=1) + rng.standard_normal(n)


def _skmixed(X, y):
    return skmixed.GeneralizedInverseRegressor().fit(X, y).rank_


def _linear_regression(X, y):
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(X, y).rank_ + 1


def _statsmodels_ols(X, y):
    import statsmodels.api as sm

    return int(sm.OLS(y, sm.add_constant(X, has_constant="add")).fit().model.rank)


def _scipy_lstsq(X, y):
    from scipy.linalg import lstsq

    return int(lstsq(np.column_stack([np.ones(len(X)), X]), y)[2])


FITS = {
    "skmixed": (_skmixed, lambda: skmixed.__version__),
    "LinearRegression": (_linear_regression, lambda: version("scikit-learn")),
    "statsmodels OLS": (_statsmodels_ols, lambda: version("statsmodels")),
    "scipy lstsq": (_scipy_lstsq, lambda: version("scipy")),
}


def measure(name, n, p, r, repeats):
    """Fit in this process and print a line per fit."""
    X, y = data(n, p, r)
    fit, _ = FITS[name]
    fit(X[:1000], y[:1000])  # imports and first calls
    before = _peak_bytes()
    runs = timed(lambda: fit(X, y), lambda rank: {"rank": int(rank)}, repeats)
    memory = (_peak_bytes() - before) / X.nbytes
    for run in runs:
        print(json.dumps({"seconds": run.seconds, "figures": run.figures | {"memory": memory}}))


def _peak_bytes():
    """Peak of resident memory of this process; ru_maxrss would include that of its parent."""
    with open("/proc/self/status", encoding="ascii") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


def _runs(command):
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return [Run(**json.loads(line)) for line in answer.stdout.splitlines()]


@dataclass(frozen=True)
class InProcess:
    """One of `FITS`, in a process of its own."""

    name: str

    def version(self):
        return FITS[self.name][1]()

    def takes(self, case):
        return True

    def run(self, case, _, repeats):
        numbers = map(str, (case.n, case.p, case.r, repeats))
        return _runs(
            [sys.executable, "-m", "benchmarks.bench_rank", "--measure", self.name, *numbers]
        )


class LmFit:
    name = "R lm.fit"

    def version(self):
        return "of this machine" if shutil.which("Rscript") else None

    def takes(self, case):
        return True

    def run(self, case, _, repeats):
        X, y = data(case.n, case.p, case.r)
        with tempfile.TemporaryDirectory() as folder:
            path, script = Path(folder, "data"), Path(folder, "fit.R")
            with path.open("wb") as file:
                file.writelines((X.tobytes(order="F"), y.tobytes()))
            script.write_text(R_CODE, encoding="utf-8")
            return _runs(["Rscript", script, path, *map(str, (case.n, case.p, repeats))])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        main("benchmarks.bench_rank", CASES, [*map(InProcess, FITS), LmFit()], COLUMNS)
