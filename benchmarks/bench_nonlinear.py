"""Nonlinear mixed models: python -m benchmarks.bench_nonlinear [--cases ...] [--packages ...].

By Laplace's approximation with the Gauss-Newton Hessian, which nlmer and nlme take too. skmixed
finds its starting values, and the time of that counts; nlmer and nlme are given those of their
manuals. Times are of the processor, in skmixed and inside R alike.
"""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd

import skmixed
from benchmarks.packages import r_version, write_codes
from benchmarks.runner import EVALUATIONS, Column, Run, above_lowest, main, timed
from skmixed import datasets

COLUMNS = [EVALUATIONS, Column("criterion", "-2 log L above the lowest", above_lowest)]


@dataclass(frozen=True)
class Case:
    """A curve of some parameters, their designs, and random effects of one grouping factor.

    ``start`` has a value for every parameter; further columns of a design start from zero.
    """

    name: str
    curve: str
    effects: tuple[str, ...]
    group: str
    start: dict[str, float]
    data: Callable[[], pd.DataFrame]
    size: str
    correlated: bool = True
    fixed: dict[str, str] = field(default_factory=dict)
    columns: int = 1
    repeats: int = 5
    slow: frozenset[str] = frozenset()

    @property
    def formula(self):
        """As nlmer and skmixed have it."""
        bar = "|" if self.correlated else "||"
        return f"{self.curve} ~ ({' + '.join(self.effects)} {bar} {self.group})"

    @property
    def formula_of_nlmer(self):
        if self.correlated:
            return self.formula
        terms = " + ".join(f"({effect} | {self.group})" for effect in self.effects)
        return f"{self.curve} ~ {terms}"

    @property
    def of_nlme(self):
        """Lists of formulas for fixed and random effects."""
        fixed = ", ".join(f"{name} ~ {self.fixed.get(name, '1')}" for name in self.start)
        kind = "pdSymm" if self.correlated else "pdDiag"
        random = f"{kind}({' + '.join(self.effects)} ~ 1)"
        return f"list({fixed})", f"list({self.group} = {random})"

    @property
    def start_in_r(self):
        """Zeros for what a design has beside its constant."""
        values = []
        for name, value in self.start.items():
            values.append(f"{name} = {value}")
            if name in self.fixed:
                values += ["0"] * (self.columns - 1)
        return f"c({', '.join(values)})"


class Skmixed:
    name = "skmixed"

    def version(self):
        return skmixed.__version__

    def takes(self, case):
        return True

    def run(self, case, frame, repeats):
        def fit():
            return skmixed.MixedNonlinearRegressor(case.formula, fixed=case.fixed).fit(frame)

        def describe(model):
            return {"evaluations": model.n_evaluations_, "criterion": model.deviance_}

        return timed(fit, describe, repeats, process_time)


@dataclass(frozen=True)
class InR:
    """nlmer of lme4, or nlme, timed inside R; a fit that fails has a time and no criterion."""

    name: str

    def version(self):
        return r_version(self.name)

    def takes(self, case):
        return self.name == "nlme" or not case.fixed

    def run(self, case, frame, repeats):
        formula = case.curve if self.name == "nlme" else case.formula_of_nlmer
        with tempfile.TemporaryDirectory() as folder:
            path, factors = write_codes(frame, folder)
            script = Path(__file__).with_name("nonlinear.R")
            model = [formula, *case.of_nlme, case.start_in_r]
            arguments = [self.name, path, *model, str(repeats), ",".join(factors)]
            answer = subprocess.run(
                ["Rscript", script, *arguments], capture_output=True, text=True, check=True
            )
        return [_run(*line.split()) for line in answer.stdout.splitlines()]


def _run(seconds, count, value):
    found = {"evaluations": (int, count), "criterion": (float, value)}
    return Run(float(seconds), {name: kind(v) for name, (kind, v) in found.items() if v != "NA"})


def many_levels(seed=8, n_levels=2_000, n_rows=10):
    """Growth curves whose asymptotes and midpoints are correlated."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_levels), n_rows)
    age = np.tile(np.linspace(100, 1600, n_rows), n_levels)
    b = rng.multivariate_normal([0, 0], [[900, 600], [600, 3600]], n_levels)[g]
    y = (190 + b[:, 0]) / (1 + np.exp((700 + b[:, 1] - age) / 350)) + 8 * rng.normal(size=len(g))
    return pd.DataFrame({"y": y, "age": age, "g": pd.Categorical(g)})


def _bundled(name):
    return lambda: getattr(datasets, f"load_{name}")().frame


_LOGISTIC = "circumference ~ SSlogis(age, Asym, xmid, scal)"
_ORANGE = {"Asym": 200, "xmid": 725, "scal": 350}
_FIRST_ORDER = "conc ~ SSfol(Dose, Time, lKe, lKa, lCl)"
_THEOPH = {"lKe": -2.5, "lKa": 0.5, "lCl": -3}


def _orange(name, effects, **options):
    data, size = _bundled("orange"), "35 rows, 5 levels"
    return Case(name, _LOGISTIC, effects, "Tree", _ORANGE, data, size, **options)


def _theoph(name, effects, **options):
    data, size = _bundled("theoph"), "132 rows, 12 levels"
    return Case(name, _FIRST_ORDER, effects, "Subject", _THEOPH, data, size, **options)


CASES = [
    _orange("orange_asym", ("Asym",)),
    _orange("orange_diagonal", ("Asym", "xmid"), correlated=False),
    _orange("orange_full", ("Asym", "xmid", "scal")),
    _theoph("theoph_two", ("lKa", "lCl")),
    _theoph("theoph_diagonal", ("lKe", "lKa", "lCl"), correlated=False),
    _theoph("theoph_weight", ("lKa", "lCl"), fixed={"lCl": "Wt"}, columns=2),
    Case(
        "indometh",
        "conc ~ SSbiexp(time, A1, lrc1, A2, lrc2)",
        ("A1", "lrc1", "A2"),
        "Subject",
        {"A1": 2.8, "lrc1": 0.78, "A2": 0.46, "lrc2": -1.34},
        _bundled("indometh"),
        "66 rows, 6 levels",
        correlated=False,
    ),
    Case(
        "loblolly",
        "height ~ SSasymp(age, Asym, R0, lrc)",
        ("Asym",),
        "Seed",
        {"Asym": 103, "R0": -8.5, "lrc": -3.3},
        _bundled("loblolly"),
        "84 rows, 14 levels",
    ),
    Case(
        "soybean",
        "weight ~ SSlogis(Time, Asym, xmid, scal)",
        ("Asym", "xmid", "scal"),
        "Plot",
        {"Asym": 20, "xmid": 55, "scal": 8.5},
        _bundled("soybean"),
        "412 rows, 48 levels",
        repeats=1,
    ),
    Case(
        "co2",
        "uptake ~ SSasympOff(conc, Asym, lrc, c0)",
        ("Asym", "lrc"),
        "Plant",
        {"Asym": 32, "lrc": -4.5, "c0": 50},
        _bundled("co2"),
        "84 rows, 12 levels",
        correlated=False,
        fixed={"Asym": "Type * Treatment", "lrc": "Type * Treatment"},
        columns=4,
    ),
    Case(
        "dnase",
        "density ~ SSlogis(log(conc), Asym, xmid, scal)",
        ("Asym", "xmid"),
        "Run",
        {"Asym": 2.5, "xmid": 1.5, "scal": 1},
        _bundled("dnase"),
        "176 rows, 11 levels",
    ),
    Case(
        "many_levels",
        "y ~ SSlogis(age, Asym, xmid, scal)",
        ("Asym", "xmid"),
        "g",
        _ORANGE,
        many_levels,
        "20,000 rows, 2,000 levels",
        repeats=1,
    ),
]

if __name__ == "__main__":
    main("benchmarks.bench_nonlinear", CASES, [Skmixed(), InR("lme4"), InR("nlme")], COLUMNS)
