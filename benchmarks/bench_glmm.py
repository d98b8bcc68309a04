"""Generalised linear mixed models: python -m benchmarks.bench_glmm [--cases ...] [--packages ...].

Every package fits the same DataFrame by the Laplace approximation with its defaults and the
packages take turns; the clock runs from the data and the formula to the fitted model. R's packages
are timed inside R. The first fit of a package imports and compiles; the time is the least of all.
"""

import argparse
import importlib.util
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.__main__ import _machine, _seconds
from benchmarks.packages import Run, _timed
from skmixed import MixedGLMRegressor, datasets

HEADER = """\
| case | rows | package | evaluations | time | times skmixed | -2 log L above the lowest |
|:--|--:|:--|--:|--:|--:|--:|"""


@dataclass(frozen=True)
class Case:
    """A model and its data; ``trials`` names the column of trials of a proportion."""

    name: str
    formula: str
    family: str
    frame: Callable[[], pd.DataFrame]
    repeats: int = 5
    trials: str | None = None
    slow: frozenset[str] = frozenset()


def _bernoulli(rng, eta):
    return (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)


def contraception(seed=5, n=1934, n_districts=60):
    """Of the size of the Bangladesh fertility survey: women in districts."""
    rng = np.random.default_rng(seed)
    district, children = rng.integers(0, n_districts, n), rng.integers(0, 4, n)
    age, urban = rng.normal(size=n), rng.integers(0, 2, n)
    eta = -1 + 0.7 * urban + np.array([0, 1.1, 1.4, 1.35])[children] - 0.03 * age
    return pd.DataFrame(
        {
            "use": _bernoulli(rng, eta + rng.normal(0, 0.5, n_districts)[district]),
            "age": age,
            "urban": urban.astype(float),
            "children": pd.Categorical(children),
            "district": pd.Categorical(district),
        }
    )


def many_groups(seed=6, n=200_000, n_groups=10_000):
    """0/1 outcomes of 20 rows per group on average."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, n_groups, n), rng.normal(size=n)
    y = _bernoulli(rng, -0.5 + 0.8 * x + rng.normal(0, 1, n_groups)[g])
    return pd.DataFrame({"y": y, "x": x, "g": pd.Categorical(g)})


def _cbpp():
    frame = datasets.load_cbpp().frame
    return frame.assign(share=frame["incidence"] / frame["size"])


def _verbagg():
    frame = datasets.load_verbagg().frame
    return frame.assign(yes=(frame["r2"] == "Y").astype(float))


CASES = [
    Case("cbpp", "share ~ period + (1 | herd)", "binomial", _cbpp, 20, "size"),
    Case("contraception", "use ~ age + urban + children + (1 | district)", "binomial",
         contraception, 10),
    Case("verbagg", "yes ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)", "binomial",
         _verbagg),
    Case("grouseticks", "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
         "poisson", lambda: datasets.load_grouseticks().frame),
    Case("many_groups", "y ~ x + (1 | g)", "binomial", many_groups, 2,
         slow=frozenset({"mixedlm", "lme4", "glmmTMB"})),
]  # fmt: skip


class Skmixed:
    name = "skmixed"

    def available(self, case):
        return True

    def run(self, case, frame, repeats):
        def fit():
            model = MixedGLMRegressor(case.formula, case.family, prior_weights=case.trials)
            return model.fit(frame)

        return _timed(fit, lambda model: (model.n_evaluations_, model.deviance_), repeats)


class Mixedlm:
    name = "mixedlm"

    def available(self, case):
        return importlib.util.find_spec("mixedlm") is not None

    def run(self, case, frame, repeats):
        import mixedlm

        family = getattr(mixedlm.families, case.family.capitalize())()
        settings = {} if case.trials is None else {"weights": frame[case.trials].to_numpy(float)}

        def fit():
            return mixedlm.glmer(case.formula, frame, family=family, **settings)

        return _timed(fit, lambda model: (None, None), repeats)


class Gpboost:
    """No trials; its Poisson log-likelihood is on another scale."""

    name = "gpboost"

    def available(self, case):
        return case.trials is None and importlib.util.find_spec("gpboost") is not None

    def run(self, case, frame, repeats):
        import gpboost
        from formulaic import model_matrix

        groups = re.findall(r"\(1 \| (\w+)\)", case.formula)
        response, _, right = case.formula.partition(" ~ ")
        fixed = right.partition(" + (")[0]
        likelihood = {"binomial": "bernoulli_logit", "poisson": "poisson"}[case.family]

        def fit():
            X = model_matrix(fixed, frame).to_numpy(float)
            codes = np.column_stack([pd.Categorical(frame[g]).codes for g in groups])
            model = gpboost.GPModel(group_data=codes, likelihood=likelihood)
            return model.fit(y=frame[response].to_numpy(), X=X)

        def describe(model):
            value = 2 * float(model.get_current_neg_log_likelihood())
            return None, value if case.family == "binomial" else None

        return _timed(fit, describe, repeats)


@dataclass(frozen=True)
class InR:
    """lme4 or glmmTMB; factors travel as their codes, so the base level is the same."""

    name: str

    def available(self, case):
        if shutil.which("Rscript") is None:
            return False
        test = f'quit(status = !requireNamespace("{self.name}", quietly = TRUE))'
        return subprocess.run(["Rscript", "-e", test], capture_output=True).returncode == 0

    def run(self, case, frame, repeats):
        factors = list(frame.select_dtypes("category"))
        codes = frame.assign(**{column: frame[column].cat.codes for column in factors})
        formula = case.formula
        if case.trials is not None:
            formula = formula.replace("share", "cbind(incidence, size - incidence)")
        script = Path(__file__).with_name("glmm.R")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.csv"
            codes.to_csv(path, index=False, float_format="%.17g")
            arguments = [self.name, path, formula, case.family, str(repeats), ",".join(factors)]
            answer = subprocess.run(
                ["Rscript", script, *arguments], capture_output=True, text=True, check=True
            )
        rows = (line.split() for line in answer.stdout.splitlines())
        return [Run(float(s), int(count), float(value)) for s, count, value in rows]


PACKAGES = [Skmixed(), Mixedlm(), InR("lme4"), InR("glmmTMB"), Gpboost()]


def main():
    options = _parse()
    warnings.simplefilter("ignore")
    print(_machine(), end="\n\n")
    print(HEADER)
    for case in (case for case in CASES if case.name in options.cases):
        frame = case.frame()
        runs = {}
        for package in PACKAGES:
            wanted = options.slow or package.name not in case.slow
            if package.name in options.packages and wanted and package.available(case):
                repeats = case.repeats if package.name == "skmixed" else min(case.repeats, 3)
                runs[package.name] = package.run(case, frame, repeats)
        for row in _rows(case, len(frame), runs):
            print(row, flush=True)


def _parse():
    names, packages = [case.name for case in CASES], [package.name for package in PACKAGES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_glmm")
    parser.add_argument("--slow", action="store_true", help="also packages that take minutes")
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE")
    parser.add_argument("--packages", nargs="+", choices=packages, default=packages)
    return parser.parse_args()


def _rows(case, n_rows, runs):
    best = {name: min(fits, key=lambda run: run.seconds) for name, fits in runs.items()}
    lowest = min((r.criterion for r in best.values() if r.criterion is not None), default=None)
    own = best.get("skmixed")
    for name, run in best.items():
        ratio = "" if own is None else f"{run.seconds / own.seconds:.1f}"
        above = "" if run.criterion is None else f"{run.criterion - lowest:.1e}"
        evaluations = "" if run.evaluations is None else run.evaluations
        cells = (case.name, f"{n_rows:,}", name, evaluations, _seconds(run), ratio, above)
        yield "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
