"""Conditional modes given further rows: theta and the dispersion are held, rows are taken in.

With x = (b, gamma), A the cross-products [Z Q]'W[Z Q] behind a fit and x0 its estimates, all that
the rows of the fit say of other values of x is the quadratic form about x0

    (x - x0)' (A + P) (x - x0),    P = diag(Lambda^-T Lambda^-1, 0),

exactly for a linear model, to the second order for a generalised one. Further rows add their own
log-likelihood, so that neither the rows of the fit nor their response are needed: the change
x - x0 solves the equations of a system with the cross-products of both, whose right-hand side are
the scores of the further rows at x0. Levels that the fit did not have have b = 0 in x0 and no part
in A.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.linalg.system import Effects, NotPositiveDefinite, RelatedGroup, System
from skmixed.linalg.threads import one_thread
from skmixed.models.apart import Apart, Part
from skmixed.models.deviance import CHAIN_FROM
from skmixed.models.further_rows import DenseTold, FurtherRows, Levels, SummedTold, has_related

# Newton decrement, in units of the deviance, after which one more step is exact to rounding.
_LAST_STEP = 1e-10
_MAX_STEPS, _MAX_HALVINGS = 100, 40


class Unconditioned(ValueError):
    """Why a fit cannot take in further rows, and the way out."""


def check_conditions(fit):
    """Raise Unconditioned for a fit of a kind that takes in no further rows."""
    if not fit.layout.terms:
        raise Unconditioned("the model has no random effects, which further rows could tell")
    if fit.residual is not None:
        raise Unconditioned(
            "the residuals have a structure, and how those of further rows go with those of the "
            "fit is not known without its rows: fit the model to both"
        )
    if fit.monte_carlo is not None:
        raise Unconditioned(
            "the iterative solver keeps no factor that rows could be added to: fit with "
            "solver='direct'"
        )
    if fit.factor is not None and len(fit.factor.fixed_root) != fit.rank:
        raise Unconditioned(
            "fixed effects that separate the outcomes of the fit are reported in the limit, where "
            "its rows say nothing of others: give the coefficients a prior, prior='normal'"
        )


def with_levels(fit, levels):
    """The fit with its modes among more levels, new ones at 0; it has no factor."""
    modes = [levels.spread(b, g) for g, b in enumerate(_group_modes(fit))]
    return _with_modes(fit, levels, modes)


def conditioned(fit, observed, levels, *, update_fixed=False):
    """The fit given further rows as well.

    Parameters
    ----------
    fit : LMMFit or GLMMFit
    observed : ObservedRows
        The further rows, beside :func:`with_levels` of the fit.
    levels : Levels
    update_fixed : bool
        Whether the fixed effects are estimated anew, too.

    Returns
    -------
    LMMFit or GLMMFit
        What tells how theta was found is that of the fit.

    Raises
    ------
    Unconditioned
        Where the cross-products of the fit are needed and gone.
    """
    rows, T = FurtherRows.of(observed), fit.layout.factors(fit.optimum.theta)
    has_system, before = fit.factor is not None and fit.factor.has_system, None
    if has_system:
        told = DenseTold if has_related(fit) else SummedTold
        before, changed = told.of(fit, levels, rows), Levels.all_of(levels.sizes)
    elif not len(rows.eta):
        return fit
    else:
        _check_apart(fit, rows, levels, update_fixed)
        rows, changed = rows.compressed()
    pending = np.zeros(fit.rank) if fit.pending is None else fit.pending
    with one_thread():
        change, rest, factor = _solved(rows, before, T, pending, update_fixed)
    modes = [
        levels.spread(b, g) + changed.spread(x, g) / fit.unit
        for g, (b, x) in enumerate(zip(_group_modes(fit), change.levels(), strict=True))
    ]
    found = replace(_with_modes(fit, levels, modes), pending=rest)
    if has_system:
        found = replace(found, factor=factor)
    elif fit.factor is not None:
        found = _beside(found, fit, levels, changed, factor)
    if update_fixed:
        gamma = fit.gamma + change.fixed[:, 0]
        return replace(found, gamma=gamma, fixed_root=factor.fixed_root)
    if "second_order" in vars(fit):  # degrees of freedom of the same estimates
        vars(found)["second_order"] = fit.second_order
    return found


def _beside(found, fit, levels, changed, factor):
    """The model with levels ``changed`` beside those of the fit, whose variances are known."""
    apart = Apart((Part(Levels.all_of(_sizes(fit)).places, fit.factor),))
    apart = (apart if fit.apart is None else fit.apart).moved(levels)
    part = Part.of(changed.places, factor.without_rows())
    found = replace(found, factor=fit.factor, apart=Apart((*apart.parts, part)))
    variances, blocks = [], factor.conditional_blocks()
    for term, before in zip(fit.layout.terms, fit.relative_effects_variance, strict=True):
        g, own = term.group, blocks[term.group][term.columns, term.columns]
        wide = np.zeros((levels.sizes[g], *before.shape[1:]))
        wide[levels.places[g]] = before
        wide[changed.places[g]] = term.users_covariances(own)
        variances.append(wide)
    vars(found)["relative_effects_variance"] = tuple(variances)
    return found


def _sizes(fit):
    return tuple(group.n_levels for group in fit.layout.groups)


def _group_modes(fit):
    """Conditional modes (s, l) of every group, in the engine's units; from pickles, too."""
    if has_related(fit):
        return fit._group_modes()
    found = [np.zeros((g.n_columns, g.plain.n_levels)) for g in fit.layout.groups]
    for term, b in zip(fit.layout.terms, fit.modes, strict=True):
        found[term.group][term.columns] = b.T / fit.unit
    return found


def _with_modes(fit, levels, modes):
    groups = tuple(
        replace(group, n_levels=size)
        for group, size in zip(fit.layout.groups, levels.sizes, strict=True)
    )
    layout = replace(fit.layout, groups=groups)
    return fit.with_modes(layout, tuple(modes))


def _check_apart(fit, rows, levels, update_fixed):
    """Raise Unconditioned where the rows say something that those of the fit say as well."""
    way = ""
    if update_fixed:
        what = "the fixed effects, which the rows of the fit tell as well"
    elif fit.smooth_terms:
        what = "the smooth functions, which the rows of the fit tell as well"
    elif _tell_of_known(rows, levels):
        what = "levels that the rows of the fit tell as well"
        way = ". Otherwise leave the rows of known levels out"
    else:
        return
    raise Unconditioned(
        f"the rows tell of {what}, so that the cross-products of the fit are needed, and this copy "
        "of the model has none: files of a fit leave them out, unless it was fitted with "
        f"keep_factor=True, or conditioned, if on no rows, in the process of the fit{way}"
    )


def _tell_of_known(rows, levels):
    """Whether rows have levels that the fit has, or such as are related to these."""
    return any(
        isinstance(group, RelatedGroup) or np.isin(group.codes, place).any()
        for group, place in zip(rows.groups, levels.places, strict=True)
    )


def _factor(rows, before, T, weight):
    """Factor of the system of both at weights of the further rows.

    With nothing known of X its columns are held, beside pivots of their own.
    """
    if before is not None:
        return before.system(rows, weight).factor(T)
    own = rows.sums(weight)
    tail = own.tail.copy()
    tail[:-1, :-1] += np.eye(len(tail) - 1)
    return System.of_sums(replace(own, tail=tail), chain_from=CHAIN_FROM).factor(T)


def _definite_factor(rows, before, T, at):
    """Factor at a point with the observed weights or, where it has none, the expected ones."""
    try:
        return _factor(rows, before, T, at.weight), at.weight
    except NotPositiveDefinite:
        weight = np.maximum(rows.expected_weight(at.eta), np.abs(at.weight))
        return _factor(rows, before, T, weight), weight


@dataclass(frozen=True, eq=False)
class _Point:
    """A change x - x0 with ``force`` = (A + P)(x - x0), and the further rows there.

    eta (n,): change of the linear predictor; value: the penalised log-likelihood.
    """

    change: Effects
    force: Effects
    eta: np.ndarray
    value: float
    score: np.ndarray
    weight: np.ndarray

    @classmethod
    def at(cls, rows, pending, change, force, eta):
        value, score, weight = rows.curve(eta)
        value += float(pending @ change.fixed[:, 0]) - 0.5 * float(change.dot(force)[0, 0])
        return cls(change, force, eta, value if np.isfinite(value) else -np.inf, score, weight)


def _solved(rows, before, T, pending, update_fixed):
    """(change of x, scores of X that are left (r,), factor), by Newton's method with halving."""
    none = Effects([np.zeros((g.n_columns, 1, g.n_levels)) for g in rows.groups],
                   np.zeros((len(pending), 1)))  # fmt: skip
    waiting = Effects(none.random, pending[:, None])
    at = _Point.at(rows, pending, none, none, np.zeros(len(rows.eta)))
    if not np.isfinite(at.value):
        raise Unconditioned(
            "a further row has a response that is impossible at its linear predictor"
        )
    for _ in range(_MAX_STEPS):
        factor, weight = _definite_factor(rows, before, T, at)
        v = rows.effects(at.score + weight * at.eta) + waiting
        change, rest = factor.solve(v, fixed=update_fixed)
        eta = rows.predictor(change)
        force = v - rows.effects(weight * eta)
        step = change - at.change
        decrement = float(step.dot(force - at.force)[0, 0]) + float(weight @ (eta - at.eta) ** 2)
        if rows.is_linear:
            return change, rest.fixed[:, 0], factor
        at = _ahead(rows, pending, at, change, force, eta)
        if decrement <= _LAST_STEP:
            factor, _ = _definite_factor(rows, before, T, at)
            return at.change, rest.fixed[:, 0], factor
    raise Unconditioned("the penalised likelihood of the further rows has no mode")


def _ahead(rows, pending, at, change, force, eta):
    """The point after a step, halved until the penalised likelihood does not fall."""
    noise, length = 1e-13 * max(1.0, abs(at.value)), 1.0
    for _ in range(_MAX_HALVINGS):
        new = _Point.at(
            rows,
            pending,
            at.change + (change - at.change).times(length),
            at.force + (force - at.force).times(length),
            at.eta + length * (eta - at.eta),
        )
        if new.value >= at.value - noise:
            return new
        length /= 2
    return at
