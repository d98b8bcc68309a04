"""Simulated residuals of fitted models: data sets drawn from them, beside their own rows."""

from __future__ import annotations

import numpy as np

from skmixed.inference.observed import observed_rows
from skmixed.inference.simulated import SimulatedResiduals, check_n_samples, generator

_WHO = "simulated_residuals"


def simulated_residuals(
    model, X, y=None, n_samples=250, random_state=None, *, conditional=False, groups=None,
    sample_weight=None,
):  # fmt: skip
    """Simulated residuals of a fitted mixed model, linear or generalised.

    Data sets are drawn from the fit for the rows of X. A residual is the share of draws that lie
    below the response, at random among those that are equal to it. Whatever the family, residuals
    of the right model are uniform between 0 and 1.

    Parameters
    ----------
    model : estimator
        A fitted linear or generalised mixed model, with random effects or without.
    X : DataFrame or array of n rows
        The rows of the fit, in any order.
    y : (n,), optional
        The response; two-sided formulas find it in X.
    n_samples : int
        Number of data sets, 39 at least: a two-sided p-value is at least 2 / (n_samples + 1).
    random_state : int, RandomState, Generator or None
    conditional : bool, default False
        Draw new random effects for every data set, or keep them at their conditional modes.
        Conditional residuals see the rows within clusters better, and have a little too small a
        spread, since the modes were fitted to the same responses.
    groups : (n,), optional
        Levels of ``groups``, for a model fitted with them.
    sample_weight : (n,), optional
        That of the fit; ones, and zeros for rows that do not count.

    Returns
    -------
    SimulatedResiduals

    Raises
    ------
    ValueError
        For rows that are not those of the fit, rows that count several times, and too few samples.
    TypeError
        For other models, which :meth:`SimulatedResiduals.of` takes by their draws.

    References
    ----------
    Dunn and Smyth (1996), Randomized quantile residuals, Journal of Computational and Graphical
    Statistics 5, 236-244. The tests are those of the R package DHARMa (Hartig).

    Examples
    --------
    >>> from skmixed import MixedGLMRegressor
    >>> from skmixed.datasets import load_grouseticks
    >>> from skmixed.inference import simulated_residuals
    >>> ticks = load_grouseticks().frame
    >>> formula = "TICKS ~ YEAR + (1 | BROOD)"
    >>> model = MixedGLMRegressor(formula, family="poisson").fit(ticks)
    >>> found = simulated_residuals(model, ticks, conditional=True, random_state=0)
    >>> bool(found.test_dispersion().p_value < 0.05)
    True
    """
    check_n_samples(n_samples)
    check_kind(model, _WHO)
    observed = observed_rows(model, X, y, groups, sample_weight, _WHO, structured=True)
    return residuals_of(model, X, observed, n_samples, random_state, conditional, groups)


def residuals_of(model, X, observed, n_samples, random_state, conditional, groups):
    """Simulated residuals of rows that are known to be those of the fit."""
    if observed.fit.is_linear and not observed.fit.sigma > 0:
        raise ValueError(
            f"{_WHO}: the model fits its rows exactly (sigma_ is 0), which leaves nothing to check"
        )
    if not np.isin(observed.counts, (0, 1)).all():
        raise ValueError(
            f"{_WHO}: some rows count several times or in part (sample_weight), which has no draw "
            "of its own for each: fit with every row once, X.loc[X.index.repeat(weight)]"
        )
    rng = generator(random_state)
    if conditional:
        draws = conditional_draws(observed, n_samples, rng)
    else:
        seed = int(rng.integers(1 << 31))
        draws = model.simulate(X, n_samples, seed, groups=groups)[observed.rows]
    own, discrete = observed.y, getattr(observed.family, "discrete", False)
    if observed.family.name == "binomial":  # proportions may have been rounded
        own, draws = (np.rint(v * w) for v, w in _pairs(own, draws, observed.weights))
    keep = np.isfinite(draws).all(axis=1)
    return SimulatedResiduals.of(
        own[keep], draws[keep], discrete=discrete, rows=observed.rows[keep], random_state=rng,
        independent=observed.is_independent and (conditional or not observed.grouped),
    )  # fmt: skip


def conditional_draws(observed, n_samples, rng):
    """Responses (n, n_samples) at the conditional modes."""
    mean = np.repeat(observed.mean[:, None], n_samples, axis=1)
    w = observed.weights[:, None]
    if observed.fit.is_linear:
        noise = rng.standard_normal(mean.shape)
        if observed.residual:
            noise = observed.fit.residual.draw(observed.residual, noise)
        return mean + observed.fit.sigma / np.sqrt(w) * noise
    known = np.isfinite(mean)
    draws = observed.family.sample(np.where(known, mean, 0.5), w, observed.dispersion, rng)
    return np.where(known, draws, np.nan)


def check_kind(model, who):
    """An error for models that draw data but keep nothing to know their rows by."""
    is_curve = getattr(getattr(model, "result_", None), "of_curves", False)
    if is_curve or (hasattr(model, "simulate") and not hasattr(model, "_observe")):
        raise TypeError(
            f"{who} takes a linear or generalised mixed model, got {type(model).__name__}: draw "
            "from it yourself, SimulatedResiduals.of(y, model.simulate(X, 250))"
        )


def _pairs(own, draws, weights):
    return (own, weights), (draws, weights[:, None])
