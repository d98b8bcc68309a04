"""What determines a linear mixed model: errors for data and terms that leave it open."""

from __future__ import annotations

import numpy as np

from skmixed.design import check_identifiable
from skmixed.estimators._dependencies import dependency_text, shortlist
from skmixed.linalg.rank import independent_columns
from skmixed.models.structured import has_equal_variances

# Largest response: sums of its squares must be numbers.
_LARGEST = 1e151
# Responses of a generalised model: third powers of means and their reciprocals, times squares of
# residuals, must be numbers.
_RANGE = 1e-50, 1e50


def check_design(design):
    """Raise an error for a design that determines no linear mixed model."""
    _check_sizes(design)
    check_identifiable(design)
    _check_effects(design)
    _check_residual(design)


def check_objective(design, objective):
    """Raise an error for a criterion that knows nothing of some variance."""
    _check_not_absorbed(design, objective)


def check_counts(design, who):
    """Raise an error for sample weights that leave a mixed model fewer observations than it needs.

    As many rows would say so in other words; weights that sum to 1 are no counts of rows.
    """
    n_obs, n_rows = design.n_obs, len(design.X)
    if not design.random or n_obs >= n_rows:
        return
    n_theta = sum(_n_parameters(term) for term in design.random)
    n_params = design.X.shape[1] + n_theta + 1
    n_levels = max(t.n_levels for t in design.random)
    if n_obs <= max(n_params, n_levels):
        raise ValueError(
            f"{who}: sample_weight counts rows, and the weights of {n_rows} rows sum to "
            f"{n_obs:g} observations, for {n_params} parameters and {n_levels} levels. Weights "
            "that are precisions are prior_weights; relative ones become counts when they are "
            f"multiplied by {n_rows / n_obs:.4g}, so that they sum to the number of rows"
        )


def _n_parameters(term):
    """Covariance parameters of a term, at least."""
    s = len(term.names)
    if term.structure != "us":
        return 2
    return s * (s + 1) // 2 if term.correlated else s


def check_magnitude(y, family, who):
    """Raise an error for responses whose powers leave the range of floating-point numbers."""
    size = np.abs(y)
    least, most = size.min(initial=np.inf, where=size > 0), size.max(initial=0.0)
    if family.name == "gaussian":  # values near zero are no problem beside larger ones
        least = most
    if most > _RANGE[1] or (family.scale and 0 < least < _RANGE[0]):
        raise ValueError(
            f"{who} with family={family.name!r}: the sizes of the responses reach from "
            f"{least:.3g} to {most:.3g}, and powers of numbers outside {_RANGE[0]:g} to "
            f"{_RANGE[1]:g} lose their digits: multiply the response by a power of ten"
        )


def _check_sizes(design):
    """Raise an error for numbers whose squares are none."""
    for what, values in (("the response", design.y), ("the prior weights", design.weights)):
        peak = 0.0 if values is None else np.abs(values).max(initial=0.0)
        if peak > _LARGEST:
            raise ValueError(
                f"{what} reach {peak:.3g}, and squares of numbers above {_LARGEST:g} overflow: "
                "divide by a power of ten"
            )


def _check_effects(design):
    """Raise an error for effects whose covariance no data could tell."""
    if design.y.ndim == 2:
        raise ValueError(
            "the response has two columns, as cbind(successes, failures) for a binomial one: "
            "a linear model has one, see MixedLogisticClassifier and MixedGLMRegressor"
        )
    for term in design.random:
        has_variances = term.structure == "us" or not has_equal_variances(term.structure)
        dependent = [] if not has_variances or _clearly_independent(term.z) else _dependent(term)
        if dependent:
            raise ValueError(
                f"the effects ({' + '.join(term.names)} | {term.group}) are linearly dependent, "
                f"{shortlist(dependent)}, so their variances cannot be told apart: leave the "
                "dependent ones out of the term"
            )


def _check_residual(design):
    """Raise an error for random effects whose covariances the residuals have already."""
    variances = {t.factor.group for t in design.residual if not t.factor.is_correlation}
    for own in design.residual:
        kind, factor = own.factor.kind, own.factor
        if factor.column in variances and own.visits is not None:
            raise ValueError(
                f"{factor} has a variance for every {factor.column!r}, and so has "
                f"ident({factor.column}): leave the latter out, or write ar1, or homcs"
                if kind != "homcs"
                else f"write cs({factor.column} | {factor.group}) for {factor} with a variance for "
                f"every {factor.column!r}"
            )
        if kind not in ("us", "cs", "homcs", "toep"):
            continue
        for term in design.random:
            by = own.visits if kind == "us" else np.zeros_like(own.visits)
            inside = _functions_of(term.z, by)
            if inside.any() and _same_partition(term.codes, own.codes):
                names = " + ".join(term.names[j] for j in np.flatnonzero(inside))
                raise ValueError(
                    f"the residual covariance {factor} has that of the random effects "
                    f"({names} | {term.group}) in it, so that the two cannot be told apart: leave "
                    "these random effects out"
                )


def _same_partition(a, b):
    pairs = len(np.unique(np.column_stack([a, b]), axis=0))
    return pairs == len(np.unique(a)) == len(np.unique(b))


def _functions_of(z, codes):
    """(s,) bool: columns of z that are equal in rows of one code."""
    first = np.zeros((codes.max() + 1, z.shape[1]))
    first[codes] = z
    return (first[codes] == z).all(axis=0)


def _clearly_independent(z):
    """Whether the cross-products alone show it, as they do but for badly scaled columns."""
    if not z.strides[0]:
        return True
    gram = z.T @ z
    size = np.sqrt(np.diag(gram))
    if not size.all() or not np.isfinite(size).all():
        return False
    return len(size) == 1 or np.linalg.eigvalsh(gram / np.outer(size, size))[0] > 1e-6


def _dependent(term):
    """The columns of a term that depend on earlier ones, with their combinations."""
    names = list(term.names)
    intercept = names.index("Intercept") if "Intercept" in names else None
    basis = independent_columns(term.z, intercept=intercept)
    return [
        f"{names[j]} = {dependency_text(basis, j, names)}" for j in np.flatnonzero(basis.aliased)
    ]


def _check_not_absorbed(design, objective):
    """Raise an error where X holds every level's effect: REML then knows nothing of its variance.

    Such an effect Z u lies in the span of X for every u, so a random u finds it.
    """
    if not objective.reml or objective.exact:
        return
    rng = np.random.default_rng(0)
    for term in design.random:
        if objective.rank < term.n_levels:
            continue
        rows = term.z * rng.standard_normal(term.n_levels)[term.codes, None]
        weights = np.ones(len(rows)) if design.weights is None else design.weights
        weights = weights if design.frequencies is None else weights * design.frequencies
        Q = objective.basis.orthonormal(design.X)
        left = rows - Q @ (Q.T @ (rows * weights[:, None]) / weights.sum())
        absorbed = np.abs(left).max(axis=0) <= 1e-8 * np.abs(rows).max(axis=0)
        if absorbed.all() if term.structure != "us" else absorbed.any():
            names = ", ".join(repr(term.names[s]) for s in np.flatnonzero(absorbed))
            raise ValueError(
                f"the fixed effects hold a coefficient of {names} for every level of "
                f"{term.group!r}, so REML cannot estimate its variance: leave it out of the fixed "
                "or out of the random effects"
            )
