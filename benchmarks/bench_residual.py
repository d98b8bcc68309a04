"""Residual structures: python -m benchmarks.bench_residual [--slow] [--cases ...].

nlme fits the same models by REML; ``plain`` is skmixed's fit with independent residuals.
"""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import skmixed
from benchmarks.packages import r_version, write_codes
from benchmarks.runner import EVALUATIONS, Column, Run, above_lowest, main, timed
from skmixed import MixedLinearRegressor, datasets


@dataclass(frozen=True)
class Case:
    """A model with a residual structure, and the call of nlme that fits it."""

    name: str
    formula: str
    residual: str
    nlme: str
    data: Callable[[], pd.DataFrame]
    size: str
    repeats: int = 5
    slow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Skmixed:
    name: str = "skmixed"
    structured: bool = True

    def version(self):
        return skmixed.__version__

    def takes(self, case):
        return True

    def run(self, case, frame, repeats):
        residual = case.residual if self.structured else None
        model = MixedLinearRegressor(case.formula, residual=residual)
        return timed(lambda: model.fit(frame), self._figures, repeats)

    def _figures(self, model):
        figures = {"evaluations": model.n_evaluations_}
        return figures | ({"criterion": model.deviance_} if self.structured else {})


class Nlme:
    name = "nlme"

    def version(self):
        return r_version("nlme")

    def takes(self, case):
        return True

    def run(self, case, frame, repeats):
        with tempfile.TemporaryDirectory() as folder:
            path, factors = write_codes(frame, folder)
            script = Path(__file__).with_name("residual.R")
            arguments = [path, case.nlme, str(repeats), ",".join(factors)]
            answer = subprocess.run(
                ["Rscript", script, *arguments], capture_output=True, text=True, check=True
            )
        lines = (line.split() for line in answer.stdout.splitlines())
        return [Run(float(s), {"criterion": float(d)}) for s, d in lines]


def trial(n=1000, visits=6):
    """A trial of two arms whose subjects drop out."""
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(0.5 + 0.5 * np.eye(visits)) * np.linspace(1, 2, visits)[:, None]
    subject, visit = np.repeat(np.arange(n), visits), np.tile(np.arange(visits), n)
    arm = np.where(subject % 2, "A", "B")
    y = (rng.normal(size=(n, visits)) @ root.T).ravel() + 0.3 * visit + 0.2 * visit * (arm == "A")
    frame = pd.DataFrame({"id": subject, "visit": pd.Categorical(visit), "arm": arm, "y": y})
    stays = visit < rng.integers(2, 3 * visits, n)[subject]
    return frame[stays & (rng.random(n * visits) < 0.95)]


def series(n=100_000, k=10):
    """Groups of ten times with a random intercept and autoregressive residuals."""
    rng = np.random.default_rng(0)
    e = rng.normal(size=(n, k))
    for t in range(1, k):
        e[:, t] = 0.5 * e[:, t - 1] + np.sqrt(0.75) * e[:, t]
    g, t = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    x = rng.normal(size=n * k)
    y = 1 + x + 0.1 * t + rng.normal(size=n)[g] + e.ravel()
    return pd.DataFrame({"g": g, "t": t, "x": x, "y": y})


def _bundled(name):
    return lambda: getattr(datasets, f"load_{name}")().frame


def early():
    """The trial of early intervention, its ages as categories."""
    frame = datasets.load_early().frame
    return frame.assign(age=frame["age"].astype("category"))


GLS = (
    "gls({}, data, correlation = corSymm(form = ~ as.integer({}) | id), "
    "weights = varIdent(form = ~ 1 | {}))"
)
CASES = [
    Case(
        "machines, ident",
        "score ~ Machine + (1 | Worker)",
        "ident(Machine)",
        "lme(score ~ Machine, data, ~ 1 | Worker, weights = varIdent(form = ~ 1 | Machine))",
        _bundled("machines"),
        "54 rows",
    ),
    Case(
        "sleepstudy, ar1",
        "Reaction ~ Days + (1 | Subject)",
        "ar1(Days | Subject)",
        "lme(Reaction ~ Days, data, ~ 1 | Subject, correlation = corAR1(form = ~ Days | Subject))",
        _bundled("sleepstudy"),
        "180 rows",
    ),
    Case(
        "early, us",
        "cog ~ age * trt",
        "us(age | id)",
        GLS.format("cog ~ age * trt", "age", "age"),
        early,
        "103 subjects x 3",
    ),
    Case(
        "trial, us",
        "y ~ visit * arm",
        "us(visit | id)",
        GLS.format("y ~ visit * arm", "visit", "visit"),
        trial,
        "1,000 subjects x 6",
        repeats=2,
    ),
    Case(
        "series, ar1",
        "y ~ x + t + (1 | g)",
        "ar1(t | g)",
        "lme(y ~ x + t, data, ~ 1 | g, correlation = corAR1(form = ~ t | g))",
        series,
        "100,000 groups x 10",
        repeats=2,
        slow=frozenset({"nlme"}),
    ),
]
PACKAGES = [Skmixed(), Skmixed("plain", structured=False), Nlme()]
COLUMNS = [EVALUATIONS, Column("criterion", "criterion above the lowest", above_lowest)]

if __name__ == "__main__":
    main("benchmarks.bench_residual", CASES, PACKAGES, COLUMNS)
