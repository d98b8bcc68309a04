"""What to do next, in words, from what was found about a generalised mixed model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from skmixed.inference.numbers import number

# Levels below which a variance between them is hardly known, and outcomes per level that are few.
FEW_LEVELS, FEW_OUTCOMES = 6, 5
# Outcomes of the rarer kind per coefficient that are few.
FEW_EVENTS = 10
# Difference of two approximations, in standard errors, and of standard deviations, that matters.
_APART, _APART_SD = 0.25, 0.05
# Ratio of the spread of refits to the expected one that is large.
_UNSTABLE = 2.0
# Share of levels with one kind of outcome that is large.
_MANY = 0.5
_NAMED = 5
# Name of the fit with a weak prior.
WITH_PRIOR = "prior='normal'"


@dataclass
class Findings:
    """All that advice rests on; see the attributes of the same names of GLMMDiagnosis."""

    n_obs: float = 0.0
    rank: int = 0
    link: str = ""
    events: float | None = None
    levels: list = field(default_factory=list)
    related: bool = False
    dropped_missing: bool = False
    failures: list = field(default_factory=list)
    has_problem: bool = False
    combinations: dict[str, str] = field(default_factory=dict)
    separating: list[str] = field(default_factory=list)
    unbounded: list[str] = field(default_factory=list)
    one_sided: list[str] = field(default_factory=list)
    attempts: dict[str, Any] = field(default_factory=dict)
    main: str | None = None
    refits: list = field(default_factory=list)
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)
    shares: pd.DataFrame = field(default_factory=pd.DataFrame)
    subsets: pd.DataFrame = field(default_factory=pd.DataFrame)
    estimates: pd.DataFrame = field(default_factory=pd.DataFrame)
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def model(self):
        return None if self.main is None else self.attempts[self.main].model

    @property
    def unbounded_jointly(self):
        """Whether fixed and random effects together separate the outcomes."""
        told = self.model is not None and self.attempts[self.main].has("SeparationWarning")
        return told and not self.separating and not self.one_sided

    @property
    def is_bounded(self):
        """Whether all estimates are finite ones that the data decide."""
        return not (self.separating or self.one_sided or self.unbounded_jointly)


def certificate(fit) -> str:
    """How the search of a fit ended, in words."""
    end = fit.optimum
    if not end.converged:
        return f"The search has not converged: {end.message}. {end.remedy}."
    text = f"The search converged after {end.n_evaluations} evaluations"
    if end.doubt:
        return f"{text}, but its end is in doubt: {end.doubt}."
    text += f": the slope left is {end.scaled_gradient:.1g} per standard error of a parameter"
    if np.isfinite(end.smallest_eigenvalue):
        text += (
            f", the smallest eigenvalue of the scaled Hessian is {end.smallest_eigenvalue:.2g}, "
            + ("as at a minimum" if end.smallest_eigenvalue > 0 else "as on a plane")
        )
    return text + "."


def advice_of(found: Findings) -> tuple[str, ...]:
    """Sentences, the most pressing first; one that all is well where nothing is wrong."""
    rules = _RULES if found.has_problem else (_about_failure, _about_rank)
    told = [text for rule in rules for text in rule(found)]
    if not told and found.model is not None:
        told.append("Nothing was found that stands in the way: read on in model.summary().")
    return tuple([*told, *_about_one_step(found), *_about_marginal(found)])


def _named(names):
    more = len(names) - _NAMED
    return ", ".join([*names[:_NAMED], *[f"{more} more"] * (more > 0)])


def _about_failure(found):
    if not found.has_problem:
        own = [why for part, why in found.failures if part.startswith(("the data", "the response"))]
        yield f"There is nothing to fit before this is mended: {own[-1]}."
    elif found.model is None:
        yield (
            "No fit succeeded. Mend what failed above; then begin with the smallest model, one "
            "random intercept and the covariates of most interest, and add to it step by step."
        )
    if found.dropped_missing:
        yield (
            "Rows with missing values were left out here: decide whether that may be done "
            "(missing='drop'), or fill them in."
        )


def _about_rank(found):
    if not found.combinations:
        return
    pairs = [f"{name} = {text}" for name, text in found.combinations.items()]
    verb = "is a combination" if len(pairs) == 1 else "are combinations"
    yield (
        f"{_named(pairs)} {verb} of other columns. The fit leaves them out and predictions do not "
        "mind, but no test of these columns alone means anything: leave out of the formula what "
        "says the same twice."
    )


def _about_separation(found):
    if found.separating:
        verb = "separates" if len(found.separating) == 1 else "separate"
        way = (
            "report the fit with prior='normal', whose estimates are in the table"
            if WITH_PRIOR in found.attempts
            else "rely on the prior, which then decides how large they are"
        )
        yield (
            f"{_named(found.separating)} {verb} the outcomes: these coefficients have no finite "
            "estimate from the data alone, and Wald tests of them mean nothing. Merge categories, "
            f"leave the columns out, or {way}; say how they change with the prior's scale, as in "
            "prior={'scale': 1.0}."
        )
    if found.one_sided:
        yield (
            f"Every level of {_named(found.one_sided)} has outcomes of one kind only: its variance "
            "has no finite estimate. Take the term out, or model one outcome per level."
        )
    if found.unbounded_jointly:
        yield (
            "Fixed effects and levels together separate the outcomes: the data bound neither the "
            "effects nor their variance. Leave a term out, or give the fixed effects a narrow "
            "prior, as in prior={'scale': 1.0}."
        )


def _about_levels(found):
    for own in found.levels:
        n, median = len(own.table), float(own.table["outcomes"].median())
        if n < FEW_LEVELS:
            yield (
                f"{own.group} has {n} levels, which say hardly anything of a variance between "
                "levels: make it a fixed effect, or take its standard deviation as a guess."
            )
        if median < FEW_OUTCOMES and own.binary:
            yield (
                f"Levels of {own.group} have few outcomes (median {number(median)}): Laplace's "
                "approximation and n_agq=0 are biased there. Use quadrature, n_agq=7 or more, "
                "where there is one grouping factor."
            )
        if own.one_sided > _MANY and own.group not in found.one_sided:
            yield (
                f"{own.one_sided:.0%} of the levels of {own.group} have outcomes of one kind only. "
                "They tell of the variance between levels, and hardly of covariates that vary "
                "within them."
            )


def _about_clusters(found):
    if "varies within" not in found.columns or not len(found.columns):
        return
    table = found.columns[(found.columns["combination"] == "").to_numpy()]
    between = [name for name in table.index[table["varies within"] == 0] if name != "Intercept"]
    n_levels = len(found.levels[0].table) if found.levels else 0
    if between and n_levels < FEW_EVENTS * len(between):
        yield (
            f"{_named(between)} {'vary' if len(between) > 1 else 'varies'} between clusters only, "
            f"and there are {n_levels} clusters for {len(between)} such "
            f"column{'s' * (len(between) > 1)}: standard errors of these rest on the clusters, not "
            "on the rows."
        )


def _about_events(found):
    if found.events is not None and found.rank > 1 and found.events < FEW_EVENTS * (found.rank - 1):
        yield (
            f"There are {number(found.events)} outcomes of the rarer kind for {found.rank - 1} "
            "coefficients: estimates are too large on average and unstable. Leave covariates out, "
            "or give them a prior."
        )


def _about_search(found):
    model = found.model
    if model is None:
        return
    end = model.result_.optimum
    if not end.converged or end.doubt:
        yield (
            "The search did not end at a clear minimum: centre and scale covariates, raise "
            "max_iter, and take random slopes out until it does."
        )
    if model.is_singular_ and not found.separating:
        yield (
            "The fit is singular: a variance is zero or a correlation is 1 or -1. It is valid, but "
            "holds random effects that these data do not show: take them out one by one and "
            "compare (likelihood_ratio_test)."
        )


def _about_approximation(found):
    others = [n for n in found.attempts if n.startswith("n_agq=") and n in found.estimates]
    if found.main not in others or not found.is_bounded:
        return
    best, own = found.estimates[others[-1]], found.estimates[found.main]
    far = ((best - own) / found.errors[found.main]).abs().reindex(found.errors.index).max()
    deviations = [name for name in own.index if name not in found.errors.index]
    apart = ((best - own).abs() / best.where(best > 0))[deviations].max()
    if far > _APART or apart > _APART_SD:
        yield (
            f"{others[-1]} moves estimates by up to {far:.2g} standard errors and standard "
            f"deviations of random effects by up to {0 if np.isnan(apart) else apart:.0%}: "
            f"report {others[-1]}, not {found.main}."
        )


def _about_one_step(found):
    if found.main in (None, "n_agq=0") or "n_agq=0" not in found.estimates:
        return
    if not found.is_bounded:
        return
    gap = found.estimates["n_agq=0"] - found.estimates[found.main]
    quick = (gap / found.errors[found.main]).abs().max()
    if quick > _APART:
        yield (
            f"The one-step fit, n_agq=0, is off by up to {quick:.2g} standard errors: good for a "
            "look, not for a report."
        )


def _about_stability(found):
    n = len(found.refits)
    failed = sum(attempt.model is None for attempt in found.refits)
    if failed:
        yield (
            f"{failed} of {n} refits on random halves failed: the data are at their limit for this "
            "model. Look in the halves that failed for categories without rows or outcomes."
        )
    separated = sum(attempt.has("SeparationWarning") for attempt in found.refits)
    if separated and found.is_bounded:
        yield (
            f"In {separated} of {n} random halves the outcomes are separated: a few rows keep the "
            "estimates finite. A prior makes them less dependent on these."
        )
    if len(found.subsets):
        ratio = found.subsets["ratio"]
        loose = ratio.index[ratio > _UNSTABLE]
        if len(loose) and n - failed > 2:
            yield (
                f"Estimates of {_named(list(loose))} differ between random halves by more than "
                "their standard errors allow: look for clusters or rows of great influence, and "
                "for covariates whose effect differs between clusters."
            )


def _about_marginal(found):
    if not len(found.shares) or found.one_sided or found.unbounded_jointly:
        return
    if found.link in ("logit", "probit", "cloglog", "cauchit"):
        text = (
            "Conditional coefficients say what happens within a cluster, marginal ones what "
            "happens to the average of all; "
        )
        if "attenuated" in found.estimates and found.main in found.estimates:
            whole, shrunk = found.estimates[found.main], found.estimates["attenuated"]
            factor = (shrunk / whole).replace([np.inf, -np.inf], np.nan).median()
            text += f"with this variance the latter are {factor:.2f} of the former. "
        else:
            text += "the latter are smaller. "
        yield text + "Report the one that the question is about (predict with marginal=True)."
    elif found.link == "log":
        yield (
            "With a log link slopes are the same within clusters and on average; the intercept of "
            "the average is larger by half the variance between clusters."
        )


_RULES = (
    _about_failure,
    _about_rank,
    _about_separation,
    _about_levels,
    _about_clusters,
    _about_events,
    _about_search,
    _about_approximation,
    _about_stability,
)
