"""One adapter per package for mixed models: fit a case some times and say how long, how far.

Every adapter takes the same DataFrame and formula and fits by the package's defaults; the clock
runs from those to the fitted model.
"""

import importlib.util
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

import skmixed
from benchmarks.runner import Run, timed


def _installed(name):
    return version(name) if importlib.util.find_spec(name) else None


class Skmixed:
    name = "skmixed"

    def version(self):
        return skmixed.__version__

    def takes(self, case):
        return True

    def run(self, case, frame, repeats):
        def fit():
            if case.family == "gaussian":
                return skmixed.MixedLinearRegressor(case.formula).fit(frame)
            settings = {"prior_weights": case.trials}
            return skmixed.MixedGLMRegressor(case.formula, case.family, **settings).fit(frame)

        def describe(model):
            return {"evaluations": model.n_evaluations_, "criterion": model.deviance_}

        return timed(fit, describe, repeats)


class Mixedlm:
    name = "mixedlm"

    def version(self):
        return _installed(self.name)

    def takes(self, case):
        return True

    def run(self, case, frame, repeats):
        import mixedlm

        if case.family == "gaussian":
            return timed(
                lambda: mixedlm.lmer(case.formula, frame),
                lambda m: {"evaluations": m.function_evals, "criterion": m.REMLcrit()},
                repeats,
            )
        family = getattr(mixedlm.families, case.family.capitalize())()
        settings = {} if case.trials is None else {"weights": frame[case.trials].to_numpy(float)}
        return timed(
            lambda: mixedlm.glmer(case.formula, frame, family=family, **settings),
            lambda m: {},
            repeats,
        )


class Gpboost:
    """Simple random intercepts only, and no trials.

    It fits linear models by ML, and its Poisson likelihood is on another scale: only that of
    binary outcomes is comparable.
    """

    name = "gpboost"

    def version(self):
        return _installed(self.name)

    def takes(self, case):
        bars = case.formula.count("|")
        return case.trials is None and bars == len(re.findall(r"\(1 \| \w+\)", case.formula))

    def run(self, case, frame, repeats):
        import gpboost
        from formulaic import model_matrix

        groups = re.findall(r"\(1 \| (\w+)\)", case.formula)
        response, _, right = case.formula.partition(" ~ ")
        fixed = right.partition(" + (")[0]
        likelihood = {"binomial": "bernoulli_logit"}.get(case.family, case.family)

        def fit():
            X = model_matrix(fixed, frame).to_numpy(float)
            codes = np.column_stack([pd.Categorical(frame[g]).codes for g in groups])
            model = gpboost.GPModel(group_data=codes, likelihood=likelihood)
            return model.fit(y=frame[response].to_numpy(), X=X)

        def describe(model):
            if case.family != "binomial":
                return {}
            return {"criterion": 2 * float(model.get_current_neg_log_likelihood())}

        return timed(fit, describe, repeats)


@cache
def r_version(package):
    """Version of a package of R and of R itself, None where one of them is not installed."""
    if shutil.which("Rscript") is None:
        return None
    code = f'cat(as.character(packageVersion("{package}")), "under", R.version.string)'
    answer = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True)
    return answer.stdout if answer.returncode == 0 else None


def write_codes(frame, folder):
    """(path, names of factors) of a file with factors as codes: R keeps the base level."""
    factors = list(frame.select_dtypes("category"))
    codes = frame.assign(**{column: frame[column].cat.codes for column in factors})
    path = Path(folder) / "data.csv"
    codes.to_csv(path, index=False, float_format="%.17g")
    return path, factors


@dataclass(frozen=True)
class InR:
    """A package of R, timed inside R.

    ``families``: those that it is asked to fit.
    """

    name: str
    families: frozenset[str]

    def version(self):
        return r_version(self.name)

    def takes(self, case):
        return case.family in self.families

    def run(self, case, frame, repeats):
        with tempfile.TemporaryDirectory() as folder:
            path, factors = write_codes(frame, folder)
            script, formula = Path(__file__).with_name("fit.R"), case.formula_in_r or case.formula
            arguments = [self.name, path, formula, case.family, str(repeats), ",".join(factors)]
            answer = subprocess.run(
                ["Rscript", script, *arguments], capture_output=True, text=True, check=True
            )
        lines = (line.split() for line in answer.stdout.splitlines())
        return [
            Run(float(seconds), {"evaluations": int(count), "criterion": float(value)})
            for seconds, count, value in lines
        ]


GENERALIZED = frozenset({"binomial", "poisson"})
PACKAGES = [
    Skmixed(),
    Mixedlm(),
    InR("lme4", GENERALIZED | {"gaussian"}),
    InR("glmmTMB", GENERALIZED),
    Gpboost(),
]
