"""Covariance structures and known relationships: python -m benchmarks.bench_structures.

Every model is fitted by REML, by the package in R that has it: glmmTMB for structures, nlme's gls
for a field, lme4 with Z L, K = L L', for related levels. Times are of the processor.
"""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd

import skmixed
from benchmarks.packages import r_version
from benchmarks.runner import EVALUATIONS, Column, Run, above_lowest, main, timed

COLUMNS = [EVALUATIONS, Column("criterion", "REML criterion above the lowest", above_lowest)]


@dataclass(frozen=True)
class Case:
    """A model by the name of its structure; ``data()`` is a table and K, or None."""

    name: str
    kind: str
    formula: str
    package: str
    data: Callable[[], tuple]
    size: str
    repeats: int = 3
    slow: frozenset[str] = frozenset()


class Skmixed:
    name = "skmixed"

    def version(self):
        return skmixed.__version__

    def takes(self, case):
        return True

    def run(self, case, data, repeats):
        frame, K = data
        relationship = None if K is None else {"g": K}

        def fit():
            return skmixed.MixedLinearRegressor(case.formula, relationship=relationship).fit(frame)

        def describe(model):
            return {"evaluations": model.n_evaluations_, "criterion": model.deviance_}

        return timed(fit, describe, repeats, process_time)


@dataclass(frozen=True)
class InR:
    """A package of R, timed inside of it."""

    name: str

    def version(self):
        return r_version(self.name)

    def takes(self, case):
        return self.name == case.package

    def run(self, case, data, repeats):
        frame, K = data
        with tempfile.TemporaryDirectory() as folder:
            table, matrix = Path(folder, "table.csv"), Path(folder, "K.bin")
            frame.to_csv(table, index=False)
            if K is not None:
                size = np.array([len(K)], dtype=np.int32).tobytes()
                matrix.write_bytes(size + K.to_numpy().tobytes())
            script = Path(__file__).with_name("structures.R")
            command = ["Rscript", script, case.kind, table, str(repeats), matrix]
            answer = subprocess.run(command, capture_output=True, text=True, check=True)
        return [_run(*line.split()) for line in answer.stdout.splitlines()]


def _run(seconds, count, value):
    found = {"evaluations": (int, count), "criterion": (float, value)}
    return Run(float(seconds), {name: kind(v) for name, (kind, v) in found.items() if v != "NA"})


def series(n_levels, n_times, rho=0.7, each=1, seed=0):
    """Levels at several times, with an autoregressive process beside noise."""
    rng = np.random.default_rng(seed)
    R = rho ** np.abs(np.subtract.outer(np.arange(n_times), np.arange(n_times)))
    b = rng.normal(size=(n_levels, n_times)) @ np.linalg.cholesky(R).T
    g, t = np.divmod(np.tile(np.arange(b.size), each), n_times)
    x = rng.normal(size=len(g))
    y = 1 + x + b.ravel()[g * n_times + t] + 0.7 * rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "g": g, "t": t}), None


def field(side, seed=1):
    """A square of plots with a smooth trend beside noise."""
    rng = np.random.default_rng(seed)
    u, v = (a.ravel() for a in np.meshgrid(np.arange(side), np.arange(side)))
    squares = np.subtract.outer(u, u) ** 2 + np.subtract.outer(v, v) ** 2
    R = np.exp(-squares / 9.0) + 1e-9 * np.eye(side**2)
    x = rng.normal(size=side**2)
    y = 1 + x + np.linalg.cholesky(R) @ rng.normal(size=side**2) + 0.5 * rng.normal(size=side**2)
    return pd.DataFrame({"y": y, "x": x, "u": u, "v": v}), None


def animals(q, seed=2):
    """A pedigree of q animals with two records for each on average."""
    rng = np.random.default_rng(seed)
    founders = q // 10
    sire, dam = (np.full(q, -1) for _ in range(2))
    for own in range(founders, q):
        sire[own], dam[own] = rng.choice(np.arange(max(0, own - q // 3), own), 2, replace=False)
    parents = {name: np.where(p < 0, None, p) for name, p in (("sire", sire), ("dam", dam))}
    A = skmixed.pedigree_relationship(pd.DataFrame({"animal": np.arange(q), **parents}))
    A = A.loc[np.arange(q), np.arange(q)]
    g, x = rng.integers(0, q, 2 * q), rng.normal(size=2 * q)
    b = np.linalg.cholesky(A.to_numpy()) @ rng.normal(size=q)
    return pd.DataFrame({"y": 1 + x + b[g] + rng.normal(size=2 * q), "x": x, "g": g}), A


def _animals(q, **options):
    data, size = (lambda: animals(q)), f"{2 * q:,} rows, {q:,} animals"
    return Case(f"pedigree {q}", "K", "y ~ x + (1 | g)", "lme4", data, size, **options)


_AR1, _CS = "y ~ x + ar1(0 + C(t) | g)", "y ~ x + cs(0 + C(t) | g)"
CASES = [
    Case("ar1", "ar1", _AR1, "glmmTMB", lambda: series(300, 8), "2,400 rows, 300 levels"),
    Case("cs", "cs", _CS, "glmmTMB", lambda: series(200, 4, each=2), "1,600 rows, 200 levels"),
    Case("field", "gau", "y ~ x + gau(u + v)", "nlme", lambda: field(15), "225 plots"),
    _animals(500),
    _animals(2000, repeats=1, slow=frozenset({"lme4"})),
    _animals(5000, repeats=1, slow=frozenset({"lme4"})),
]
PACKAGES = [Skmixed(), InR("glmmTMB"), InR("nlme"), InR("lme4")]

if __name__ == "__main__":
    main("benchmarks.bench_structures", CASES, PACKAGES, COLUMNS)
