"""The single checks of a fitted model: what each looks at, its verdict, and what to try next."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.design.structure_names import SPATIAL
from skmixed.inference.added import added_columns, curvature_columns, has_whole_factor, link_column
from skmixed.inference.bands import normal_p_value
from skmixed.inference.clusters import unshared
from skmixed.inference.influence import influence_by_level

OK, LOOK, PROBLEM, NOT = "ok", "look", "problem", "not checked"
_LOOK, _PROBLEM = 0.05, 0.01
# Cook's distances and inflation factors that are worth a look, and those that are trouble.
_DISTANCES, _INFLATIONS = (0.5, 1.0), (5.0, 10.0)
# Fewer levels than this tell next to nothing about their variance.
FEW_LEVELS = 5
# Rows up to which levels that share effects are left out one by one.
_MANY_ROWS = 5000
# What shrinkage must leave of levels whose modes are to be normal in generalised models.
_SAYS_ENOUGH = 0.5
# A variance of this share of the residual one, or of its own prior, is none.
_NONE = 1e-8


class Check(NamedTuple):
    """One line of the report."""

    name: str
    statistic: float
    p_value: float
    verdict: str
    looked_at: str
    advice: str


def verdict_of(p):
    """ok, look (below 5 %) or problem (below 1 %)."""
    return NOT if np.isnan(p) else PROBLEM if p < _PROBLEM else LOOK if p < _LOOK else OK


def _judged(name, statistic, p, looked_at, advice):
    verdict = verdict_of(p)
    return Check(name, statistic, p, verdict, looked_at, "" if verdict == OK else advice)


def _graded(name, value, limits, looked_at, advice):
    """A check without a p-value: its value beside two limits."""
    verdict = PROBLEM if value > limits[1] else LOOK if value > limits[0] else OK
    return Check(name, value, np.nan, verdict, looked_at, "" if verdict == OK else advice)


# Simulated residuals


def uniformity(found):
    test = found.test_uniformity("shape")
    return _judged(
        "uniformity", test.statistic, test.p_value,
        "distance of the simulated residuals from uniform ones, mean and spread aside",
        "whatever other checks point to: family, link, a missing covariate, more random effects",
    )  # fmt: skip


def dispersion(found, observed):
    test = found.test_scaled_dispersion()
    too_much = test.statistic > 1
    return _judged(
        "dispersion", test.statistic, test.p_value,
        "variance of the responses over that of simulated ones",
        _more_spread(observed) if too_much else
        "fewer random effects, or a family of less spread",
    )  # fmt: skip


def _more_spread(observed):
    if observed.family.name == "poisson":
        return "family='negative_binomial', or an effect of every row, (1 | row)"
    if observed.family.name == "binomial":
        return "an effect of every row, (1 | row), or a missing covariate"
    return "heavier tails or unequal variances: transform y, or give prior_weights"


def outliers(found):
    test = found.test_outliers("greater")
    count = int(found.outliers.sum())
    return _judged(
        "outliers", count, test.p_value,
        f"responses outside of all {found.n_samples} simulated ones; "
        f"{2 * len(found.y) / (found.n_samples + 1):.1f} are to be expected",
        "look at these rows (residuals.outliers); a family with heavier tails, or cluster_robust",
    )  # fmt: skip


def extremes(found):
    test = found.test_extremes()
    row = int(np.argmax(np.abs(found.y - found.fitted) / np.maximum(found.spread, 1e-300)))
    return _judged(
        "extremes", test.statistic, test.p_value,
        f"largest deviation from simulated responses, in their spread: row {found.rows[row]}",
        "is this response right? Fit again without it, or a family with heavier tails",
    )  # fmt: skip


def zeros(found, observed):
    test = found.test_zero_inflation()
    return _judged(
        "zeros", test.statistic, test.p_value, "number of zeros over that of simulated responses",
        "family='negative_binomial', or model zeros apart" if test.statistic > 1 else
        "a family without zeros, if 0 is not possible at all",
    )  # fmt: skip


# Residuals


def overdispersion(observed, df):
    """Squared Pearson residuals over their degrees of freedom."""
    total = float(observed.counts @ observed.residuals("pearson") ** 2)
    p = float(stats.chi2.sf(total, df)) if df > 0 else np.nan
    return _judged(
        "overdispersion", total / df if df > 0 else np.nan, p,
        "squared Pearson residuals over the residual degrees of freedom", _more_spread(observed),
    )  # fmt: skip


def link(observed):
    tests = added_columns(observed, link_column(observed))
    if not len(tests):
        return None
    transform = "transform y" if observed.fit.is_linear else "another link"
    return _judged(
        "link", *tests.iloc[0], "score test of the squared linear predictor",
        f"{transform}, or a bent covariate: x + I(x ** 2), poly(x, 2)",
    )  # fmt: skip


def curvature(model, observed):
    """The covariate whose square is missed most; its p-value adjusted for their number."""
    smooths = model.design_spec_.smooths
    lines = {j for part in smooths for j in np.flatnonzero(part.lines.columns)}
    columns = curvature_columns(observed, lines)
    tests = added_columns(observed, columns) if columns else ()
    if not len(tests):
        return None
    worst = tests["p_value"].idxmin()
    p = -np.expm1(len(tests) * np.log1p(-min(float(tests.loc[worst, "p_value"]), 1 - 1e-16)))
    name = worst.removesuffix(" squared")
    return _judged(
        "curvature", float(tests.loc[worst, "statistic"]), p,
        f"score tests of squared covariates, the worst of {len(tests)}: {name}",
        f"add I({name} ** 2), poly or a spline of {name}",
    )  # fmt: skip


def normal_residuals(residuals):
    values = residuals[np.isfinite(residuals)]
    if len(values) < FEW_LEVELS or not np.ptp(values) > 0:
        return None
    return _judged(
        "normal residuals", np.nan, normal_p_value(values, standardised=True),
        "residuals leaving the simultaneous normal band",
        "transform y; or leave it: tests and means hardly mind, intervals for single rows do",
    )  # fmt: skip


def normal_effects(observed, name, values, share):
    """Whether conditional modes are normal; share (l,): what shrinkage leaves of the levels' own.

    Modes of generalised models whose levels say little have the shape of their responses.
    """
    if len(values) < FEW_LEVELS:
        return None
    looked_at = "conditional modes, each over its own spread, leaving the simultaneous normal band"
    name = f"normal effects ({name})"
    if not observed.fit.is_linear and np.nanmedian(share) < _SAYS_ENOUGH:
        return Check(
            name, np.nan, np.nan, NOT, looked_at,
            "nothing: levels that say so little have modes of the shape of their responses",
        )  # fmt: skip
    return _judged(
        name, np.nan, normal_p_value(values, standardised=True), looked_at,
        "a covariate of the levels; or look whether some levels are of another kind",
    )  # fmt: skip


# Influence, collinearity, random effects


def influence_table(model, X, observed):
    """Cook's distances by level of the first grouping factor that has whole levels, else by row.

    Those of generalised models are of one step of the working linear model at the mode. By row
    the length of the step is over the effective number of parameters, random effects among them.
    NaN by row for residual structures.
    """
    index = X.index[observed.rows] if isinstance(X, pd.DataFrame) else observed.rows
    index = pd.Index(index, name="row")
    if observed.residual:
        return pd.Series(np.nan, index=index)
    whole = has_whole_factor(observed.fit)
    working = observed if observed.fit.is_linear or not whole else _working(observed)
    for group, term in {term.group: term for term in observed.grouped if whole}.items():
        levels = pd.Index(model.labels_.levels[group], name=group)
        all_there = 1 < len(levels) == term.n_levels == len(np.unique(term.codes))
        if all_there and (_cheap(observed) or not unshared(observed.random, term.codes)):
            return influence_by_level(working, term.codes, levels)["cooks_distance"]
    share = max(observed.fit.rank, 1) / max(observed.leverage @ observed.counts, 1.0)
    return pd.Series(share * observed.cooks_distance(), index=index)


def _cheap(observed):
    """Whether levels that share effects can be left out one by one."""
    linear = observed.fit.is_linear and observed.fit.objective is not None
    return linear and len(observed.y) <= _MANY_ROWS


def _working(observed):
    """The rows of the linear model whose solution is the last step towards the mode."""
    score, weight = observed.derivatives
    used = weight > 0
    step = np.divide(score, weight, out=np.zeros(len(score)), where=used)
    root = observed.fit.factor.fixed_root
    return replace(
        observed, y=observed.eta + step, weights=np.where(used, weight, 0.0),
        fit=replace(observed.fit, fixed_root=root),
    )  # fmt: skip


def influence_check(distances):
    what, known = distances.index.name, distances.dropna()
    if not len(known):
        return Check(
            f"influence ({what})", np.nan, np.nan, NOT, "Cook's distances",
            "fit again without the rows in question and compare",
        ) if len(distances) else None  # fmt: skip
    worst = known.idxmax()
    return _graded(
        f"influence ({what})", float(known.max()), _DISTANCES,
        f"largest Cook's distance, that of {what} {worst!r}",
        f"fit again without {what} {worst!r} and compare",
    )  # fmt: skip


def collinearity(table):
    if len(table) < 2 or table["scaled"].isna().all():
        return None
    worst = table["scaled"].idxmax()
    return _graded(
        "collinearity", float(table.loc[worst, "scaled"]) ** 2, _INFLATIONS,
        f"largest variance inflation of the fixed effects, that of {worst}",
        "centre covariates of products and powers; else leave one of the terms out, or read them "
        "together",
    )  # fmt: skip


def singularity(model):
    """Which terms are singular and which of their effects to leave out first."""
    fit = model.result_
    advice = [
        _left_out(term, covariance)
        for term, covariance, singular in zip(
            model.labels_.terms, fit.covariances, fit.singular_terms, strict=True
        )
        if singular and not term.is_smooth
    ]
    looked_at = "variances of zero and correlations of 1 or -1"
    return Check(
        "singularity", float(len(advice)), np.nan, LOOK if advice else OK, looked_at,
        "; ".join(advice),
    )  # fmt: skip


def _left_out(term, covariance):
    if term.structure != "us":
        return f"leave {term.text} out, or give it a simpler structure"
    names, sd = list(term.names), np.sqrt(np.diag(covariance))
    written = ["1" if name == "Intercept" else name for name in names]
    written = written if "1" in written else ["0", *written]
    bar = "|" if term.correlated or len(names) == 1 else "||"
    where = f"({' + '.join(written)} {bar} {term.group})"
    none = [name for name, s in zip(names, sd, strict=True) if s <= _NONE * sd.max(initial=0.0)]
    if len(names) == 1 or not sd.max(initial=0.0) > 0:
        return f"leave {where} out: its variance is 0"
    if none:
        return f"leave {', '.join(none)} out of {where}: no variance"
    slopes = [name for name in names if name != "Intercept"]
    last = min(slopes, key=lambda name: sd[names.index(name)])
    return f"leave the correlations of {where} out (||), then {last}"


def shrinkage(model, observed):
    """{group: DataFrame}: rows of every level, and by effect 1 - Var(b | y) / Var(b)."""
    fit, found = model.result_, {}
    parts = zip(model.labels_.terms, observed.random, fit.covariances, fit.effects_variance,
                strict=True)  # fmt: skip
    for term, rows, covariance, conditional in parts:
        if not _own_levels(model, term, rows):
            continue
        prior = np.diag(covariance)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 1.0 - np.einsum("lss->ls", conditional) / prior
        share = np.where(prior > _NONE * prior.max(initial=0.0), np.clip(share, 0, 1), np.nan)
        table = pd.DataFrame(share, index=model.labels_.levels[term.group], columns=term.names)
        if term.group in found:
            known = found[term.group]
            again = {name: f"{name} (2)" for name in table if name in known}
            found[term.group] = pd.concat([known, table.rename(columns=again)], axis=1)
        else:
            counts = np.bincount(rows.codes, observed.counts, rows.n_levels)
            table.insert(0, "n_rows", counts)
            found[term.group] = table.rename_axis(term.group)
    return found


def standardised_effects(model, observed):
    """{effect | group: (modes over the standard deviations that they should have, their share)}.

    The share is 1 - Var(b | y) / Var(b).
    """
    fit, found = model.result_, {}
    parts = zip(model.labels_.terms, observed.random, fit.effects, fit.covariances,
                fit.effects_variance, strict=True)  # fmt: skip
    for term, rows, modes, covariance, conditional in parts:
        if not _own_levels(model, term, rows) or term.structure.startswith(SPATIAL):
            continue  # of a field every position would be an effect
        spread = np.diag(covariance) - np.einsum("lss->ls", conditional)
        for j, name in enumerate(term.names):
            known = spread[:, j] > _NONE * covariance[j, j]
            if covariance[j, j] > 0 and known.any():
                own = modes[known, j] / np.sqrt(spread[known, j])
                found[f"{name} | {term.group}"] = own, spread[known, j] / covariance[j, j]
    return found


def _own_levels(model, term, rows):
    """Whether the effects of a term are those of independent levels of its factor."""
    is_field = rows.n_levels == 1 and term.structure.startswith(SPATIAL)
    if term.is_smooth or is_field or rows.relationship is not None:
        return False
    return rows.n_levels == len(model.labels_.levels[term.group])


def levels(group, table):
    n, sizes = len(table), table["n_rows"]
    share = table.iloc[:, 1:].median(axis=0)
    few = n < FEW_LEVELS
    looked_at = (
        f"{n} levels of {sizes.min():g} to {sizes.max():g} rows, median {sizes.median():g}; "
        "statistic: what shrinkage leaves of a level's own estimate, median"
    )
    first = float(share.iloc[0]) if len(share) else np.nan
    return Check(
        f"levels ({group})", first, np.nan, LOOK if few else OK, looked_at,
        f"fewer than {FEW_LEVELS} levels hardly tell their variance: make {group} a fixed effect"
        if few else "",
    )  # fmt: skip
