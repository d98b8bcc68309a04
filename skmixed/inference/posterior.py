"""Draws from the posterior distribution of a linear mixed model."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from time import perf_counter
from typing import Any

import numpy as np

from skmixed._log import tell as log_line
from skmixed._warn import warn
from skmixed.exceptions import PosteriorWarning
from skmixed.inference.importance import importance_sample, reliable_k
from skmixed.inference.intervals import component_name
from skmixed.inference.posterior_draws import Posterior
from skmixed.inference.priors import Prior, log_prior
from skmixed.models.charts import Chart
from skmixed.models.components import variance_parameters
from skmixed.models.deviance import ProfiledDeviance
from skmixed.models.lmm import LMMFit
from skmixed.models.posterior import Flat, LogPosterior, Reciprocal

# Rounds that refit the proposal, and the points of each: at least so many, more for more
# dimensions. Of a dear density they are fewer, this share of the draws, which are then its last.
_ROUNDS, _ROUND, _ROUND_BY_DIMENSION, _SHARE = 3, 1000, 40, 0.2
# Points for every draw, where they cost little.
_POINTS = 2
# Operations of a factorisation from which a density is dear, and points told of at a time.
_DEAR, _PIECE = 5e6, 50


def posterior(model, n_draws=4000, *, prior=None, random_state=None, verbose=0) -> Posterior:
    """Draws from the posterior distribution of a linear mixed model.

    Independent draws, no chain: the variance parameters by importance sampling from their
    posterior density, fixed effects and random effects exactly from their normal distribution
    given these. It does not matter whether the model was fitted by REML or by maximum likelihood:
    the data and the prior determine the posterior.

    Parameters
    ----------
    model : fitted MixedLinearRegressor
        Fitted in this process: the density needs the cross-products of the data.
    n_draws : int, default 4000
    prior : Prior, optional
        By default flat for fixed effects and standard deviations, 1 / sigma, and uniform on
        correlation matrices.
    random_state : int, RandomState instance, Generator or None
        One integer, one set of draws.
    verbose : int, default 0
        Whether to print a line for every round of the sampling.

    Returns
    -------
    Posterior

    Raises
    ------
    TypeError
        For another kind of model.
    ValueError
        For a model that is not fitted or was loaded from a file, a prior of something that the
        model does not have, and a flat prior with which the posterior is none, as for a grouping
        factor of two levels.

    Warns
    -----
    PosteriorWarning
        Where the importance weights are so uneven that the draws are not to be relied on.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling, Journal of
    Machine Learning Research 25(72).
    Lewandowski, Kurowicka and Joe (2009), Journal of Multivariate Analysis 100, 1989-2001.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference import posterior
    >>> data = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(data)
    >>> post = posterior(model, random_state=0)
    >>> round(float(post.summary().loc["Days", "mean"]), 1)
    10.5
    >>> post.effects("Subject").shape
    (4000, 18, 2)
    """
    fit: Any = _fit_of(model)
    if not isinstance(n_draws, Integral) or isinstance(n_draws, bool) or n_draws < 1:
        raise ValueError(f"posterior: n_draws must be a positive integer, got {n_draws!r}")
    prior = Prior() if prior is None else prior
    if not isinstance(prior, Prior):
        raise TypeError(f"posterior: prior must be a Prior, got {prior!r}")
    rng = _generator(random_state)
    with fit.objective.threads():
        density, names = _density(model, fit, prior)
        start = density.chart.start(fit.optimum.theta, fit.sigma)
        remarks = _check_proper(density, fit, start, names)
        sample = _sample(density, start, int(n_draws), rng, verbose)
    _tell_heavy(sample, _free_names(fit, density.chart))
    return Posterior(model, density, prior, sample, int(n_draws), rng, remarks)


def _fit_of(model) -> LMMFit:
    fit: Any = getattr(model, "result_", None)
    name = type(model).__name__
    if fit is None and not hasattr(model, "formula"):
        raise TypeError(f"posterior takes a fitted MixedLinearRegressor, got {name}")
    if fit is None:
        raise ValueError(f"posterior: this {name} is not fitted: call fit first")
    if not isinstance(fit, LMMFit):
        raise TypeError(
            f"posterior is for linear mixed models, whose effects are normal given the variances, "
            f"got {name}. confint has intervals of other models"
        )
    if not fit.is_mixed:
        raise ValueError(
            "posterior: the model has no random effects; with flat priors the t intervals of "
            "confint() are those of the posterior"
        )
    if fit.objective is None:
        raise ValueError(
            "posterior needs the cross-products of the data, which are not pickled: fit the model "
            "again in this process"
        )
    if type(fit.objective) is not ProfiledDeviance:
        raise ValueError(
            "posterior is for residuals that are independent, with one variance times known "
            "weights; confint has intervals of other models, and bootstrap"
        )
    if fit.objective.exact:
        raise ValueError("posterior: the fixed effects explain the response exactly")
    return fit


def _generator(random_state):
    """A Generator from whatever scikit-learn takes; a RandomState gives it a seed."""
    if isinstance(random_state, np.random.RandomState):
        random_state = int(random_state.randint(2**31))
    return np.random.default_rng(random_state)


def _density(model, fit, prior):
    """LogPosterior of a fit, and the names of the standard deviations in the chart's order."""
    try:
        chart = Chart.of(fit.layout, fit.unit)
    except ValueError as error:
        raise ValueError(
            f"posterior: {error}; confint has intervals of such models, and bootstrap"
        ) from None
    components = variance_parameters(fit.layout)
    names = [component_name(fit, c) for c in components if c.kind == "sd"]
    priors = log_prior(prior, fit, chart, names, model._coefficient_rows)
    return LogPosterior(replace(fit.objective, reml=True), chart, priors), names


def _check_proper(density, fit, v, names):
    """Sentences on posteriors without moments; ValueError where a flat prior leaves none at all.

    With d contrasts of effects beside the fixed effects the likelihood falls as the power -d of a
    standard deviation, and with it the posterior under a flat prior.
    """
    chart, prior, remarks = density.chart, density.prior, []
    flat = np.array([not own.proper for own in prior.sds])
    for j in np.flatnonzero(flat):
        contrasts = density.tails(v, chart.sds[[j]])
        if contrasts < 1.5:
            _raise_flat(names[j], fit, _term_of(chart, chart.sds[j]), round(contrasts))
        if contrasts < 3.5:
            lost = "mean" if contrasts < 2.5 else "standard deviation"
            remarks.append(
                f"The posterior of {names[j]} has no finite {lost}, since the prior is flat and "
                f"the levels are few: read its median and interval, or choose a half-t prior."
            )
    together, n_flat = density.tails(v, chart.sds), int(flat.sum())
    if flat.any() and together < n_flat + 0.5:
        raise ValueError(
            f"posterior: flat priors of {n_flat} standard deviations need more than {n_flat} "
            f"independent contrasts of the levels, and the data have {round(together)}: "
            f"{_way_out(fit)}"
        )
    _check_sigma(prior.sigma, fit, together, n_flat)
    return remarks


def _check_sigma(prior, fit, together, n_flat):
    """Raise ValueError where the prior of sigma leaves no posterior."""
    left = fit.objective.n_rows - fit.rank
    too_few = left <= n_flat + isinstance(prior, Flat)
    explained = isinstance(prior, Reciprocal) and together > left - 0.5
    if not prior.proper and (too_few or explained):
        raise ValueError(
            f"posterior: the {fit.objective.n_rows} rows do not tell sigma from the standard "
            "deviations of the random effects, so that the posterior is improper: give it "
            f"Prior(sigma=('half_t', 3, {fit.unit:.2g})), or leave out a random-effects term"
        )


def _term_of(chart, place):
    """The TermChart that has a place in v."""
    return next(t for t in chart.terms if t.sds.start <= place < t.sds.stop)


def _raise_flat(name, fit, term, contrasts):
    n_levels = fit.layout.groups[term.term.group].n_levels
    levels = f"{n_levels} level{'s' * (n_levels != 1)}"
    if term.term.is_smooth:
        levels = f"a curve of {term.term.size + 2} splines"
    raise ValueError(
        f"posterior: a flat prior of {name!r} needs 2 independent contrasts of effects beside the "
        f"fixed effects (3 levels beside an intercept), and the data have {max(contrasts, 0)} "
        f"({levels}): {_way_out(fit)}"
    )


def _way_out(fit):
    return (
        f"choose a proper prior, such as Prior(sd=('half_t', 3, {fit.unit:.2g})), with a scale of "
        "the size that standard deviations may have"
    )


def _sample(density, start, n_draws, rng, verbose):
    """Sample of the variance parameters, from a search for the mode on."""
    d, dear = density.chart.size, _is_dear(density.objective)
    tell = _Progress(verbose)
    tell(f"{d} variance parameters, looking for the mode")
    mode, covariance = density.mode(start)
    wanted = max(_ROUND, _ROUND_BY_DIMENSION * d)
    points = max(n_draws, 25 * d)
    return importance_sample(
        _in_pieces(density, tell) if dear else density.at,
        mode,
        covariance,
        points if dear else _POINTS * points,
        rounds=_ROUNDS,
        n_round=min(wanted, max(10 * d, int(_SHARE * n_draws))) if dear else wanted,
        rng=rng,
        tell=lambda name, s: tell(
            f"{name}: {len(s.points)} points, worth {s.ess:.0f}, k = {s.k:.2f}"
        ),
    )


def _is_dear(objective):
    """Whether a value of the density takes more than some milliseconds."""
    effects = sum(group.size for group in objective.layout.groups)
    return objective.system.dense_rows**3 / 3 + 500 * effects > _DEAR


def _in_pieces(density, tell):
    """The density some points at a time, so that there is something to tell."""

    def at(V):
        values, found = [], []
        for lo in range(0, len(V), _PIECE):
            own, summaries = density.at(V[lo : lo + _PIECE])
            values.append(own)
            found.append(summaries)
            tell(f"  {min(lo + _PIECE, len(V))} of {len(V)} points")
        return np.concatenate(values), found[0].joined(found)

    return at


class _Progress:
    """Tells what it is told, with the seconds since it was made."""

    def __init__(self, shown):
        self._begin, self._shown = perf_counter(), shown

    def __call__(self, text):
        seconds = perf_counter() - self._begin
        log_line(f"[posterior] {seconds:6.1f} s  {text}", self._shown)


def _free_names(fit, chart):
    """Names of the chart's coordinates: those of the parameters that they mostly are."""
    components = variance_parameters(fit.layout)
    names = []
    for t in range(len(chart.terms)):
        own = [c for c in components if c.term == t]
        for kind in ("sd", "cor"):
            names += [component_name(fit, c) for c in own if c.kind == kind]
    return [*names, "sigma"]


def _tell_heavy(sample, names):
    if sample.is_reliable:
        return
    heavy = ", ".join(names[j] for j in sample.heavy()[:3])
    limit, n = reliable_k(len(sample.weights)), len(sample.points)
    warn(
        "posterior: the draws are not to be relied on: the importance weights have the shape "
        f"k = {sample.k:.2f}, above {limit:.2f}, and {n} points are worth {sample.ess:.0f}. The "
        f"largest weights are at unusual values of {heavy}. Give these a proper prior, leave a "
        "term out, or take more draws",
        PosteriorWarning,
    )
