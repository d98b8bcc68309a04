"""Inference on linear mixed models: python -m benchmarks.bench_inference [--slow] [--cases ...].

Every question is asked of a model fitted for it, so that nothing is known from an earlier one, and
only the answer is timed, in time of the processor: OPENBLAS_NUM_THREADS=1 makes that of one core.
"""

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import pandas as pd

import skmixed
from benchmarks.cases import many_slopes
from benchmarks.packages import r_version, write_codes
from benchmarks.runner import Column, Run, main
from skmixed import MixedLinearRegressor, datasets
from skmixed.inference import bootstrap

QUESTIONS = {
    "fit": lambda model, data: model,
    "Satterthwaite": lambda model, data: model.coefficients(),
    "type III": lambda model, data: model.anova(type=3),
    "Kenward-Roger": lambda model, data: model.coefficients(ddf="kenward_roger"),
    "profiles": lambda model, data: model.confint(method="profile"),
    "200 refits": lambda model, data: bootstrap(model, data, n=200, random_state=0),
}
SLEEPSTUDY = "Reaction ~ Days + (Days | Subject)"
CAKE = "angle ~ recipe * temperature + (1 | recipe:replicate)"
INSTEVAL = "y ~ service + lectage + studage + (1 | s) + (1 | d) + (1 | dept)"


@dataclass(frozen=True)
class Case:
    """A question to a model; the packages of ``never`` have no room for it."""

    model: str
    question: str
    formula: str
    data: Callable[[], pd.DataFrame]
    size: str
    repeats: int = 1
    slow: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()

    @property
    def name(self):
        return f"{self.model}: {self.question}"


@dataclass(frozen=True)
class Skmixed:
    name: str = "skmixed"

    def version(self):
        return skmixed.__version__

    def takes(self, case):
        return True

    def run(self, case, frame, repeats):
        runs = [self._run_once(case, frame) for _ in range(repeats + (repeats > 1))]
        return runs[-repeats:]

    def _run_once(self, case, frame):
        forget_peak()
        start = process_time()
        model = MixedLinearRegressor(case.formula).fit(frame)
        fitted = process_time()
        QUESTIONS[case.question](model, frame)
        asked = process_time() - fitted
        if case.question == "fit":
            asked = fitted - start
        return Run(asked, {"fits": asked / (fitted - start), "memory": peak_memory()})


@dataclass(frozen=True)
class InR:
    """A package of R that answers some of the questions about a fit of lme4."""

    name: str
    questions: frozenset[str]

    def version(self):
        return r_version(self.name)

    def takes(self, case):
        return case.question in self.questions and self.name not in case.never

    def run(self, case, frame, repeats):
        with tempfile.TemporaryDirectory() as folder:
            path, factors = write_codes(frame, folder)
            script = Path(__file__).with_name("infer.R")
            arguments = [path, case.formula, case.question, str(repeats), ",".join(factors)]
            answer = subprocess.run(
                ["Rscript", script, *arguments], capture_output=True, text=True, check=True
            )
        lines = (map(float, line.split()) for line in answer.stdout.splitlines())
        return [Run(s, {"fits": fits, "memory": memory}) for s, fits, memory in lines]


def forget_peak():
    """Let peak memory begin at what is in use (Linux)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_memory():
    """Largest resident memory of this process in MB, None where the system does not tell."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(s.split()[1]) / 1e3 for s in lines if s.startswith("VmHWM")), None)


def _cases(model, formula, data, size, repeats, questions=tuple(QUESTIONS), **settings):
    return [Case(model, q, formula, data, size, repeats, **settings) for q in questions]


def _bundled(name):
    return lambda: getattr(datasets, f"load_{name}")().frame


TABLES = tuple(QUESTIONS)[:4]
NO_ROOM = frozenset({"pbkrtest"})  # crossed factors make its n x n matrices dense
CASES = [
    *_cases("sleepstudy", SLEEPSTUDY, _bundled("sleepstudy"), "180 rows", 5),
    *_cases("cake", CAKE, _bundled("cake"), "270 rows", 5),
    *_cases("insteval", INSTEVAL, _bundled("insteval"), "73,421 rows", 2, TABLES, never=NO_ROOM),
    *_cases("many_slopes", "y ~ x + (x | g)", many_slopes, "500,000 rows", 2, TABLES),
]
PACKAGES = [
    Skmixed(),
    InR("lme4", frozenset({"fit", "profiles", "200 refits"})),
    InR("lmerTest", frozenset({"Satterthwaite", "type III"})),
    InR("pbkrtest", frozenset({"Kenward-Roger"})),
]
COLUMNS = [
    Column("fits", "in fits", lambda value, _: f"{value:.2f}"),
    Column("memory", "peak memory, MB", lambda value, _: f"{value:,.0f}"),
]

if __name__ == "__main__":
    main("benchmarks.bench_inference", CASES, PACKAGES, COLUMNS)
