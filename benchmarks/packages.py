"""One adapter per package: fit a case some times and say how long, how many evaluations, how far.

Every adapter takes the same DataFrame and formula; the clock runs from those to the fitted model.
"""

import importlib.util
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np

from skmixed import MixedLinearRegressor


@dataclass(frozen=True)
class Run:
    """One fit. `criterion` is the REML criterion reached, `evaluations` of it (None: unknown)."""

    seconds: float
    evaluations: int | None
    criterion: float | None


def _timed(fit, describe, repeats):
    """`repeats` runs of fit(); describe(fitted) -> (evaluations, criterion) is not timed."""
    runs = []
    for _ in range(repeats):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = perf_counter()
            fitted = fit()
            seconds = perf_counter() - start
        runs.append(Run(seconds, *describe(fitted)))
    return runs


class Skmixed:
    name = "skmixed"

    def version(self):
        return version("skmixed")

    def run(self, case, frame, repeats):
        def fit():
            return MixedLinearRegressor(case.formula).fit(frame)

        return _timed(fit, lambda model: (model.n_evaluations_, model.deviance_), repeats)


class Mixedlm:
    name = "mixedlm"

    def version(self):
        return version("mixedlm") if importlib.util.find_spec("mixedlm") else None

    def run(self, case, frame, repeats):
        import mixedlm

        def fit():
            return mixedlm.lmer(case.formula, frame)

        return _timed(fit, lambda model: (model.function_evals, model.REMLcrit()), repeats)


class Lme4:
    name = "lme4"

    def version(self):
        if shutil.which("Rscript") is None:
            return None
        command = 'cat(as.character(packageVersion("lme4")), "under", R.version.string)'
        answer = subprocess.run(["Rscript", "-e", command], capture_output=True, text=True)
        return answer.stdout if answer.returncode == 0 else None

    def run(self, case, frame, repeats):
        """The clock runs inside R; factors travel as their codes, so the base level is the same."""
        factors = list(frame.select_dtypes("category"))
        codes = frame.assign(**{column: frame[column].cat.codes for column in factors})
        script = Path(__file__).with_name("lme4.R")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.csv"
            codes.to_csv(path, index=False, float_format="%.17g")
            arguments = [path, case.formula, str(repeats), ",".join(factors)]
            answer = subprocess.run(
                ["Rscript", script, *arguments], capture_output=True, text=True, check=True
            )
        rows = (line.split() for line in answer.stdout.splitlines())
        return [Run(float(s), int(count), float(value)) for s, count, value in rows]


class Gpboost:
    """Fits by ML and only simple random intercepts, so its criterion is not comparable."""

    name = "gpboost"
    cases = frozenset({"insteval", "many_groups", "grades"})

    def version(self):
        return version("gpboost") if importlib.util.find_spec("gpboost") else None

    def run(self, case, frame, repeats):
        import gpboost
        from formulaic import model_matrix

        groups = [g for g in frame.select_dtypes("category") if f"(1 | {g})" in case.formula]
        fixed = case.formula.partition("~")[2].partition(" + (")[0]

        def fit():
            X = model_matrix(fixed, frame).to_numpy()
            codes = np.column_stack([frame[g].cat.codes for g in groups])
            model = gpboost.GPModel(group_data=codes, likelihood="gaussian")
            return model.fit(y=frame["y"].to_numpy(), X=X)

        return _timed(fit, lambda model: (None, None), repeats)


PACKAGES = [Skmixed(), Mixedlm(), Lme4(), Gpboost()]
