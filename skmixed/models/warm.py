"""Where a search starts after an earlier fit: its parameters in the coordinates of other rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skmixed.models.fit import MixedFit
from skmixed.models.glmm import GLMMFit
from skmixed.models.nlmm import NLMMFit


def warm_theta(before, objective):
    """theta of an earlier fit where an objective's search may start, or None.

    A singular fit is no start, as the criterion has no slope there. Nor are one with other terms,
    and one with structures, whose parameters depend on the rows; where effects have means of their
    own the criterion may have several minima, and only a search from all starts tells them apart.
    """
    theta = _theta(before, objective.layout, objective.source)
    if theta is None or any(own.any() for own in objective.outside):
        return None
    return theta


def warm_generalised(before, problem):
    """An earlier GLMMFit in the coordinates of a Problem, or None."""
    family = problem.objective.rows.family
    same = type(before) is GLMMFit and _kind(before.family) == _kind(family)
    theta = _theta(before, problem.objective.layout, problem.source) if same else None
    gamma = None if theta is None else _gamma(before, problem)
    if gamma is None:
        return None
    return replace(before, gamma=gamma, optimum=replace(before.optimum, theta=theta))


def warm_nonlinear(before, problem):
    """A NonlinearProblem that starts at an earlier fit, or None."""
    objective, source = problem.objective, problem.source
    same = isinstance(before, NLMMFit) and np.array_equal(before.source.curve, source.curve)
    theta = _theta(before, objective.layout, source) if same else None
    gamma = None if theta is None else _gamma(before, problem)
    if gamma is None or not before.sigma > 0:
        return None
    n = objective.n_gamma
    scale = np.full(len(problem.start) - n - len(theta), np.log(before.sigma))
    return replace(problem, start=np.concatenate([gamma[:n], theta, scale]))


def _theta(before, layout, source):
    same = (
        isinstance(before, MixedFit)
        and before.source.random == source.random
        and before.layout.names == layout.names
        and before.source.residual == source.residual == ()
    )
    if not same or layout.is_structured or not layout.terms or before.is_singular:
        return None
    theta = layout.from_user_theta(before.layout.user_theta(before.optimum.theta))
    return theta if np.isfinite(theta).all() else None


def _kind(family):
    return family.name, family.link.name


def _gamma(before, problem):
    """Coefficients of an earlier fit on the basis of a problem with the same columns, or None."""
    basis = problem.basis
    same = before.source.names == problem.source.names
    if not same or not np.array_equal(before.basis.kept, basis.kept):
        return None
    gamma = np.linalg.solve(basis.to_coef, before.beta)
    return gamma if np.isfinite(gamma).all() else None
