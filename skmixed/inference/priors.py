"""Priors of a linear mixed model by name, and what they are to one fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real

import numpy as np

from skmixed.models.charts import Chart
from skmixed.models.posterior import Flat, HalfNormal, HalfT, LogPrior, Reciprocal

_SCALES = "'flat', ('half_t', df, scale) or ('half_normal', scale)"


@dataclass(frozen=True)
class Prior:
    """Priors of the fixed effects, standard deviations, correlations and sigma.

    Parameters
    ----------
    fixed : None or dict of str to (mean, sd)
        Independent normal priors of coefficients by their names; the others are flat.
    sd : "flat", ("half_t", df, scale), ("half_normal", scale), or a dict of these
        Of the standard deviations of random effects, in units of the response (of a slope, per
        unit of its covariate). A dict has names of parameters such as ``"sd_Days|Subject"`` or of
        grouping factors; what it does not name is flat.
    cor : float or dict of str to float
        eta of the LKJ distribution of the correlations of a term: 1 is uniform on correlation
        matrices, more prefers small correlations. By grouping factor in a dict, elsewhere 1.
        For a structured term the density (1 - x^2)^(eta - 1) of its correlation, or its partial
        autocorrelations, moved to (-1, 1).
    sigma : "reciprocal", "flat", ("half_t", df, scale) or ("half_normal", scale)
        Of the residual standard deviation; "reciprocal" is the density 1 / sigma.

    Examples
    --------
    >>> Prior(sd=("half_t", 3, 50.0), cor=2.0)
    Prior(fixed=None, sd=('half_t', 3, 50.0), cor=2.0, sigma='reciprocal')
    """

    fixed: Mapping[str, tuple[float, float]] | None = None
    sd: str | tuple | Mapping = "flat"
    cor: float | Mapping[str, float] = 1.0
    sigma: str | tuple = "reciprocal"

    def __post_init__(self):
        if self.fixed is not None and not isinstance(self.fixed, Mapping):
            raise ValueError(
                f"Prior: fixed must be None or a dict of names to (mean, sd), got {self.fixed!r}"
            )
        for name, own in (self.fixed or {}).items():
            if not (_is_pair(own) and np.isfinite(own[0]) and _is_positive(own[1])):
                raise ValueError(
                    f"Prior: fixed[{name!r}] must be (mean, sd) with a positive sd, got {own!r}"
                )
        for own in _values(self.sd):
            _density(own, "sd", {"flat": Flat()}, _SCALES)
        _sigma_density(self.sigma)
        for own in _values(self.cor):
            if not _is_positive(own):
                raise ValueError(f"Prior: cor must be positive, eta of LKJ(eta), got {own!r}")


def log_prior(prior, fit, chart: Chart, names, rows) -> LogPrior:
    """The LogPrior that a Prior is to a fit.

    names : of the variance parameters that the chart's logarithms are, in its order; rows (p, r):
    coefficients of all columns of X from those that were kept.
    """
    groups = [fit.source.random[t][0] for t in range(len(chart.terms))]
    group_of = [g for g, term in zip(groups, chart.terms, strict=True) for _ in range(term.n_sd)]
    known = list(dict.fromkeys(groups))
    sds = _by_name(prior.sd, "flat", "sd", names, group_of, [*names, *known])
    etas = _by_name(prior.cor, 1.0, "cor", groups, groups, known)
    return LogPrior(
        tuple(_density(own, "sd", {"flat": Flat()}, _SCALES) for own in sds),
        tuple(float(eta) for eta in etas),
        _sigma_density(prior.sigma),
        _fixed(prior.fixed, fit, rows),
    )


def _by_name(given, default, what, names, groups, known):
    """A value for every parameter: its own, that of its grouping factor, or the default."""
    if not isinstance(given, Mapping):
        return [given] * len(names)
    for name in given:
        _check_known(name, known, what)
    return [given.get(n, given.get(g, default)) for n, g in zip(names, groups, strict=True)]


def _check_known(name, known, what):
    if name not in known:
        near = get_close_matches(str(name), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Prior: {what} names {name!r}, which the model does not have, only "
            f"{', '.join(map(repr, known))}{hint}"
        )


def _fixed(given, fit, rows):
    """[C m]'P[C m] (r + 1, r + 1): rows beside those of [X y], in the engine's units of both."""
    if not given:
        return None
    for name in given:
        _check_known(name, list(fit.names), "fixed")
    at = [fit.names.index(name) for name in given]
    for name, row in zip(given, rows[at], strict=True):
        if np.isnan(row).any():
            raise ValueError(
                f"Prior: {name!r} was left out of the fit, since it depends on other columns: "
                "there is nothing for a prior to be of"
            )
    mean, sd = np.array([given[name] for name in given], dtype=float).T
    to_given = rows[at] @ fit.basis.to_coef
    subtracted = to_given @ fit.objective.gamma
    half = np.column_stack([fit.unit * to_given, mean - subtracted]) / sd[:, None]
    return half.T @ half


def _sigma_density(given):
    kinds = {"flat": Flat(), "reciprocal": Reciprocal()}
    return _density(given, "sigma", kinds, f"'reciprocal', {_SCALES}")


def _density(given, what, named, rule):
    """The density that a prior of a positive number stands for."""
    if isinstance(given, str) and given in named:
        return named[given]
    if isinstance(given, tuple | list) and given and isinstance(given[0], str):
        kind, *numbers = given
        sizes = {"half_t": 2, "half_normal": 1}
        if sizes.get(kind) == len(numbers) and all(map(_is_positive, numbers)):
            return HalfT(*map(float, numbers)) if kind == "half_t" else HalfNormal(*numbers)
        if sizes.get(kind) == len(numbers):
            raise ValueError(f"Prior: {what}={given!r} needs positive finite numbers")
    raise ValueError(f"Prior: {what} must be {rule}, got {given!r}")


def _values(given):
    return list(given.values()) if isinstance(given, Mapping) else [given]


def _is_pair(given):
    return isinstance(given, tuple | list) and len(given) == 2 and all(map(_is_number, given))


def _is_number(x):
    return isinstance(x, Real) and not isinstance(x, bool)


def _is_positive(x):
    return _is_number(x) and bool(np.isfinite(x)) and x > 0
