"""Coverage of 95 % intervals and size of 5 % tests by simulation: python -m benchmarks.coverage.

Three small unbalanced designs, data drawn from the model that is fitted. Every data set is fitted
by REML (and ML for profile limits and likelihood ratios) from the cross-products of the design,
with a new response. Seeds are fixed; the table is written as Markdown.
"""

import argparse
import warnings
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.design import build_design
from skmixed.inference.clusters import ClusterSums
from skmixed.inference.fixed_effects import FixedEffects
from skmixed.inference.profile import coefficient_limits
from skmixed.inference.robust import RobustEffects
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.lmm import fit_lmm
from skmixed.models.observed import ObservedRows

HEADING = "| design | method | 95 %: factor | 95 %: covariate | 5 %: factor |"
METHODS = {
    "asymptotic": "z, chi-square",
    "satterthwaite": "Satterthwaite",
    "kenward_roger": "Kenward-Roger",
    "cr2": "CR2",
    "profile": "profile, likelihood ratio",
}


@dataclass(frozen=True)
class Plan:
    """A design, what is true of it, and what is asked: two coefficients and the rows of a factor.

    random: standard deviations of the terms' effects, by term (a covariance matrix for several).
    """

    name: str
    title: str
    formula: str
    null: str
    table: pd.DataFrame
    random: tuple
    between: str
    within: str
    factor: tuple
    cluster: str
    seed: int


def clinics():
    """Ten clinics of 2 to 9 patients, three arms by clinic, a covariate of patients."""
    rng = np.random.default_rng(11)
    sizes = [2, 9, 4, 3, 7, 2, 5, 8, 3, 4]
    clinic = np.repeat(np.arange(10), sizes)
    arm = np.array(list("abcabcabca"))[clinic]
    table = pd.DataFrame({"arm": arm, "x": rng.normal(size=len(clinic)).round(2)})
    table["clinic"] = [f"c{k}" for k in clinic]
    return Plan(
        "clinics", "10 clinics of 2 to 9 patients, arms by clinic",
        "y ~ arm + x + (1 | clinic)", "y ~ x + (1 | clinic)", table, (1.0,),
        "arm[T.b]", "x", ("arm[T.b]", "arm[T.c]"), "clinic", 1,
    )  # fmt: skip


def growth():
    """Twelve subjects seen 3 to 7 times, correlated intercepts and slopes, slopes by group."""
    rng = np.random.default_rng(12)
    visits = [3, 7, 4, 5, 3, 6, 4, 3, 7, 5, 4, 6]
    subject = np.repeat(np.arange(12), visits)
    week = np.concatenate([np.sort(rng.choice(9, n, replace=False)) for n in visits])
    group = np.array(list("abcabcabcaab"))[subject]
    table = pd.DataFrame({"group": group, "week": week.astype(float)})
    table["subject"] = [f"s{k}" for k in subject]
    return Plan(
        "growth", "12 subjects seen 3 to 7 times, random slopes, slopes by group",
        "y ~ group * week + (week | subject)", "y ~ group + week + (week | subject)", table,
        (np.array([[1.0, 0.1], [0.1, 0.09]]),),
        "group[T.b]:week", "week", ("group[T.b]:week", "group[T.c]:week"), "subject", 2,
    )  # fmt: skip


def split_plot():
    """Seven blocks of two or three whole plots with one to four subplots: two strata."""
    rng = np.random.default_rng(13)
    rows = []
    for block in range(7):
        plots = list("abc") if block % 2 else list(np.roll(list("abc"), block)[:2])
        for variety in plots:
            doses = rng.choice(4, rng.integers(1, 5), replace=False)
            rows += [(f"b{block}", f"b{block}{variety}", variety, float(dose)) for dose in doses]
    table = pd.DataFrame(rows, columns=["block", "plot", "variety", "dose"])
    return Plan(
        "split plot", "7 blocks of 2 or 3 plots with 1 to 4 subplots, varieties by plot",
        "y ~ variety + dose + (1 | block) + (1 | plot)", "y ~ dose + (1 | block) + (1 | plot)",
        table, (1.0, 1.0),
        "variety[T.b]", "dose", ("variety[T.b]", "variety[T.c]"), "block", 3,
    )  # fmt: skip


class Simulation:
    """One plan: the design and cross-products that all of its data sets share."""

    def __init__(self, plan):
        self.plan, self.rng = plan, np.random.default_rng(plan.seed)
        table = plan.table.assign(y=np.linspace(-1, 1, len(plan.table)) ** 2)
        self.design = build_design(plan.formula, table)
        self.reml = ProfiledDeviance.from_design(self.design, reml=True)
        null = build_design(plan.null, table)
        self.null_design, self.null = null, ProfiledDeviance.from_design(null, reml=False)
        names = list(self.design.names)
        coefficients = np.eye(len(names))
        self.single = coefficients[[names.index(plan.between), names.index(plan.within)]]
        self.joint = coefficients[[names.index(name) for name in plan.factor]]
        self.clusters, levels = pd.factorize(table[plan.cluster])
        self.n_clusters = len(levels)
        n = len(table)
        none = np.zeros(0)
        self.untested = 0
        self.rows = ObservedRows(None, self.design.X, self.design.random, none, np.ones(n), None,
                                 None, np.arange(n), n)  # fmt: skip

    def response(self):
        """A response whose fixed effects are all zero, residuals of variance 1."""
        y = self.rng.normal(size=len(self.design.X))
        for term, covariance in zip(self.design.random, self.plan.random, strict=True):
            root = np.linalg.cholesky(np.atleast_2d(covariance))
            if np.ndim(covariance) == 0:
                root = np.atleast_2d(covariance)
            b = self.rng.normal(size=(term.n_levels, len(root))) @ root.T
            y += np.einsum("ns,ns->n", term.z, b[term.codes])
        return y

    def outcomes(self, y):
        """By method: whether each interval holds 0 (two), and whether the joint test rejects."""
        fit = fit_lmm(self.reml.with_response(self.reml.response(self.design, y)))
        effects, found = FixedEffects.of(fit), {}
        for method in ("asymptotic", "satterthwaite", "kenward_roger"):
            held = effects.row_tests(self.single, method).p_value > 0.05
            found[method] = [*held, effects.joint_test(self.joint, method).p_value < 0.05]
        found["cr2"] = self._robust(fit, y)
        found["profile"] = self._profile(fit, fit.in_basis(self.single), y)
        return found

    def _robust(self, fit, y):
        rows = replace(self.rows, fit=fit, y=y)
        sums = ClusterSums.of(rows, self.clusters, self.n_clusters, adjusted=True)
        robust = RobustEffects(fit, sums, self.n_clusters, 1.0)
        held = robust.row_tests(self.single).p_value > 0.05
        try:
            return [*held, robust.joint_test(self.joint).p_value < 0.05]
        except ValueError:  # too few clusters for two rows: nothing is rejected
            self.untested += 1
            return [*held, False]

    def _profile(self, fit, single, y):
        ml = fit.refit(reml=False)
        limits = coefficient_limits(ml.objective, ml.optimum.theta, ml.sigma, single)
        held = [not (own.lower > 0 or own.upper < 0) for own in limits]
        null = fit_lmm(self.null.with_response(self.null.response(self.null_design, y)))
        drop = null.deviance - ml.deviance
        return [*held, drop > stats.chi2.isf(0.05, len(self.joint))]

    def shares(self, n):
        """DataFrame by method: coverage of both intervals and share of rejections, in percent."""
        found = [self.outcomes(self.response()) for _ in range(n)]
        columns = ["between", "within", "rejected"]
        means = {m: np.mean([data[m] for data in found], axis=0) for m in METHODS}
        return 100 * pd.DataFrame.from_dict(means, orient="index", columns=columns)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--data-sets", type=int, default=2000, help="of every design")
    n = parser.parse_args().data_sets
    print(HEADING)
    print("|:--|:--|--:|--:|--:|", flush=True)
    times, untested = [], []
    for plan in (clinics(), growth(), split_plot()):
        start = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            simulation = Simulation(plan)
            table = simulation.shares(n)
        times.append(perf_counter() - start)
        for method, row in table.iterrows():
            cells = [plan.title, METHODS[method], *(f"{value:.1f}" for value in row)]
            print("| " + " | ".join(cells) + " |", flush=True)
        untested.append(simulation.untested)
    error = 100 * np.sqrt(0.05 * 0.95 / n)
    print(f"\n{n} data sets each, {sum(times):.0f} s; Monte Carlo standard error {error:.1f}")
    print(f"data sets without a CR2 test of two rows: {untested}")


if __name__ == "__main__":
    main()
