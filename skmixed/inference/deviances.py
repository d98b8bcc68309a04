"""The deviance of maximum likelihood as a function of all parameters, for profiles.

Each is a callable of x with value, gradient and Hessian, and counts how often it was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from skmixed.models.glmm import hessian_by_differences
from skmixed.models.laplace import Start
from skmixed.models.minimum import Point
from skmixed.models.pirls import mode_at
from skmixed.models.second_order import SecondOrder

# Entries of x beyond this are as good as infinite.
_FARTHEST = 1e5
# Share of its largest singular value at which a factor is nearly singular.
_SINGULAR = 1e-3


class _Deviance:
    """A function of x that counts its evaluations."""

    n_evaluations: int

    def checked(self, point, is_minimum):
        """The point with a Hessian that may be trusted to say what kind of point it is."""
        return point

    def differenced(self, point):
        """The point with a better Hessian, None where there is none."""
        return None


@dataclass
class LinearDeviance(_Deviance):
    """That of a linear mixed model at x = (theta, log sigma), and beta_j with a ``row``.

    sigma is relative to ``unit``, a coefficient is row'beta in that unit from ``origin``, so that
    all entries of x are of moderate size.
    """

    objective: object
    unit: float
    row: np.ndarray | None = None
    origin: float = 0.0
    n_evaluations: int = field(default=0)

    def __call__(self, x):
        """Point, or None where there is no deviance."""
        self.n_evaluations += 1
        k = self.objective.layout.n_theta
        if not np.isfinite(x).all() or np.abs(x).max() > _FARTHEST or abs(x[k]) > 300:
            return None
        theta, relative = x[:k], np.exp(x[k])
        evaluation = self.objective.evaluate(theta)
        value = evaluation.value
        if not np.isfinite(value):
            return None
        factor = evaluation.factor
        record = SecondOrder.at(self.objective, factor, theta, relative * self.unit)
        # the criterion has sigma at its best; n (r - 1 - log r) is what another one costs
        share = record.quadratic / record.n_obs
        value += record.n_obs * (share - 1.0 - np.log(share))
        if self.row is None:
            gradient, H = record.derivatives
        else:
            estimate = float(self.row @ record.beta)
            shift = (x[k + 1] - (estimate - self.origin) / self.unit) / relative
            more, gradient, H = record.constrained_derivatives(self.row, shift)
            value += more
            gradient, H = gradient.copy(), H.copy()
            gradient[k + 1] /= relative
            H[k + 1] /= relative
            H[:, k + 1] /= relative
        H = H.copy()
        H[k, k] += gradient[k]  # from sigma to its logarithm
        return Point(x, value, gradient, H)


@dataclass
class GeneralizedDeviance(_Deviance):
    """That of a generalised linear mixed model at x = (theta, gamma, log dispersion).

    Values and gradients are exact. The Hessian is differenced where the search begins, and follows
    the gradients from there by symmetric rank-one updates.

    Attributes
    ----------
    objective : LaplaceDeviance or QuadratureDeviance
        With its rows.
    fit : GLMMFit
        Its minimum.
    """

    objective: object
    fit: object
    n_evaluations: int = field(default=0)
    _known: list = field(default_factory=list)

    def __post_init__(self):
        fit, objective = self.fit, self.objective
        T = objective.layout.factors(fit.optimum.theta)
        u = [np.zeros(modes.shape) for modes in fit.group_modes]
        mode = mode_at(objective.rows, fit.gamma, u, T, fit.log_dispersion)
        objective.near.state = Start(mode)

    @property
    def start(self):
        """x of the fit."""
        fit, d = self.fit, self.objective.n_dispersion
        return np.concatenate([fit.optimum.theta, fit.gamma, [fit.log_dispersion] * d])

    @cached_property
    def _order(self):
        """Places in x of the objective's parameters (gamma, theta, log dispersion)."""
        t, r = self.objective.n_theta, self.objective.n_gamma
        return np.r_[t : t + r, :t, t + r : t + r + self.objective.n_dispersion]

    def __call__(self, x):
        """Point, or None where there is no deviance."""
        self.n_evaluations += 1
        if not np.isfinite(x).all():
            return None
        state = self.objective.evaluate(x[self._order])
        if not np.isfinite(state.value):
            return None
        gradient = np.empty(len(x))
        gradient[self._order] = state.gradient
        if not np.isfinite(gradient).all():
            return None
        H = self._updated(x, gradient) if self._known else self._differenced(state)
        if H is None:
            H = self._by_x(state.hessian)
        if not np.isfinite(H).all():
            return None
        point = Point(x, float(state.value), gradient, H)
        self._known.append(point)
        return point

    def checked(self, point, is_minimum):
        """With a differenced Hessian where a covariance is nearly singular, or d seems to fall."""
        T = self.objective.layout.factors(point.x[: self.objective.n_theta])
        spread = [np.linalg.svd(t, compute_uv=False) for t in T]
        regular = all(s[-1] > _SINGULAR * s[0] > 0 for s in spread) and self._has_variances(spread)
        if regular and is_minimum:
            return point
        sure = self.differenced(point)
        return point if sure is None else sure

    def differenced(self, point):
        """The point with a Hessian from differences there, None where they are refused."""
        state = self.objective.evaluate(point.x[self._order])
        H = self._differenced(state) if np.isfinite(state.value) else None
        if H is None:
            return None
        sure = replace(point, hessian=H)
        self._known = [p for p in self._known if p is not point] + [sure]
        return sure

    def _has_variances(self, spread):
        """Whether every covariance is more than nothing beside what the fit found."""
        found = self.objective.layout.factors(self.fit.optimum.theta)
        return all(
            s[0] > _SINGULAR * np.linalg.norm(T, 2) for s, T in zip(spread, found, strict=True)
        )

    def _differenced(self, state):
        """Hessian by x, by differences of the gradient; None where they are refused."""
        self.n_evaluations += len(self._order)
        sizes = 1.0 / np.sqrt(np.maximum(np.abs(state.hessian.diagonal()), 1.0))
        if not np.isfinite(sizes).all():
            return None
        H = hessian_by_differences(self.objective, state, np.diag(sizes)) / np.outer(sizes, sizes)
        return self._by_x(H) if np.isfinite(H).all() else None

    def _by_x(self, H):
        by_x = np.empty(H.shape)
        by_x[np.ix_(self._order, self._order)] = H
        return by_x

    def _updated(self, x, gradient):
        """The Hessian of the nearest known point, changed to agree with both gradients."""
        size = np.sqrt(np.maximum(np.abs(self._known[0].hessian.diagonal()), 1e-12))
        near = min(self._known, key=lambda p: float(np.sum(((p.x - x) * size) ** 2)))
        step = (x - near.x) * size
        missed = (gradient - near.gradient) / size - (near.hessian @ (x - near.x)) / size
        along = float(missed @ step)
        if abs(along) < 1e-8 * np.linalg.norm(missed) * np.linalg.norm(step) or not along:
            return near.hessian
        missed = missed * size
        return near.hessian + np.outer(missed, missed) / along
