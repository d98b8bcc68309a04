"""Posterior draws: python -m benchmarks.bench_posterior [--cases ...].

The clock runs from the fitted model to the draws of all parameters, the search for the mode and the
rounds of adaptation included; effects of all levels are drawn after that and not timed. It counts
time of the processor: OPENBLAS_NUM_THREADS=1 makes that of one core.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import process_time

import pandas as pd

import skmixed
from benchmarks.cases import many_slopes
from benchmarks.runner import Column, Run, main
from skmixed import MixedLinearRegressor, datasets
from skmixed.inference import posterior

INSTEVAL = "y ~ service + lectage + studage + (1 | s) + (1 | d) + (1 | dept)"


@dataclass(frozen=True)
class Case:
    """So many draws of a model."""

    name: str
    formula: str
    data: Callable[[], pd.DataFrame]
    size: str
    n_draws: int = 4000
    repeats: int = 5
    slow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Skmixed:
    name: str = "skmixed"

    def version(self):
        return skmixed.__version__

    def takes(self, case):
        return True

    def run(self, case, frame, repeats):
        model = MixedLinearRegressor(case.formula).fit(frame)
        runs = [self._run_once(case, model) for _ in range(repeats + (repeats > 1))]
        return runs[-repeats:]

    def _run_once(self, case, model):
        start = process_time()
        post = posterior(model, case.n_draws, random_state=0)
        seconds = process_time() - start
        least = int(post.summary()["ess"].min())
        rate = int(case.n_draws / seconds)
        return Run(seconds, {"draws": case.n_draws, "ess": least, "k": post.pareto_k, "rate": rate})


def _bundled(name):
    return lambda: getattr(datasets, f"load_{name}")().frame


CASES = [
    Case("dyestuff", "Yield ~ 1 + (1 | Batch)", _bundled("dyestuff"), "30 rows"),
    Case("sleepstudy", "Reaction ~ Days + (Days | Subject)", _bundled("sleepstudy"), "180 rows"),
    Case(
        "penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", _bundled("penicillin"),
        "144 rows",
    ),
    Case(
        "scotssec", "attain ~ verbal + sex + (1 | primary) + (1 | second)", _bundled("scotssec"),
        "3,435 rows", repeats=2,
    ),
    Case("many_slopes", "y ~ x + (x | g)", many_slopes, "500,000 rows", 500, 1),
    Case("insteval", INSTEVAL, _bundled("insteval"), "73,421 rows", 500, 1),
]  # fmt: skip
COLUMNS = [
    Column("draws", "draws"),
    Column("ess", "worth at least"),
    Column("k", "Pareto k", lambda value, _: f"{value:.2f}"),
    Column("rate", "draws a second"),
]

if __name__ == "__main__":
    main("benchmarks.bench_posterior", CASES, [Skmixed()], COLUMNS)
