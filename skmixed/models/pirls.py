"""Rows of a generalised linear mixed model, and the mode of its random effects.

Given the fixed effects gamma, the factors T and the dispersion, the mode of the spherical effects
u minimises

    g(u) = -2 log p(y | eta) + u'u,    eta = offset + Q gamma + Z Lambda u.

With a prior of gamma its penalty is part of g. Each Newton step is one pass over the rows and one
factorisation of the re-weighted Gram blocks (penalised iteratively re-weighted least squares). The
u of all groups are a list with one array (s, l) per grouping factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed._deadline import check_time
from skmixed.families import Curve, Family
from skmixed.linalg.system import Effects, NotPositiveDefinite, Pattern
from skmixed.models.prior import Penalty

# Newton decrement (in units of the deviance) after which one more step is exact to rounding.
_LAST_STEP = 1e-10
# Distance of u and eta, in the same units, that is more than rounding of large weights leaves.
_DRIFT = 1e-3
_MAX_STEPS = 200
_MAX_HALVINGS = 40
# After so many steps in a row of which hardly anything is left, a wall is what is approached.
_SHORT, _MAX_SHORT = 1e-3, 8
_BOUNDARY = "the penalised likelihood is largest on the boundary of the mean's range"


class NoMode(ArithmeticError):
    """The penalised likelihood has no usable mode at these parameters."""


@dataclass(frozen=True)
class Rows:
    """Response, basis of the fixed effects and grouping of all rows.

    y, w (n,): response and prior weights as the family takes them; frequencies (n,) or None: how
    often each row counts; Q (n, r): orthonormal basis of the columns of X; prior: of gamma, if any.
    """

    family: Family
    y: np.ndarray
    w: np.ndarray
    frequencies: np.ndarray | None
    offset: np.ndarray | None
    Q: np.ndarray
    pattern: Pattern
    prior: Penalty | None = None

    @property
    def n_fixed(self):
        return self.Q.shape[1]

    @cached_property
    def constant(self):
        """The part of -2 log p(y | eta) that no parameter enters."""
        terms = self.family.constant(self.y, self.w)
        return -2.0 * float(np.sum(terms if self.frequencies is None else terms * self.frequencies))

    @property
    def groups(self):
        """The grouping factors in the order in which the formula names them."""
        return self.pattern.groups

    def without_groups(self):
        """The same rows without random effects."""
        return replace(self, pattern=Pattern.build((), self.n_fixed))

    def fixed_part(self, gamma):
        """offset + Q gamma."""
        eta = self.Q @ gamma
        return eta if self.offset is None else eta + self.offset

    def random_part(self, b):
        """Z b (n,) for a list of (s, l)."""
        parts = [group.values(own) for group, own in zip(self.groups, b, strict=True)]
        if not parts:
            return np.zeros(len(self.y))
        for part in parts[1:]:
            parts[0] += part
        return parts[0]

    def level_sums(self, v):
        """Z'v: a list of (s, l)."""
        return [group.sums(v) for group in self.groups]

    def effects(self, v, *, fixed=True):
        """[Z Q]'v as Effects; Z'v alone, without a fixed part, if not ``fixed``."""
        return Effects.of(self.level_sums(v), self.Q.T @ v if fixed else np.zeros(0))

    def curve(self, eta, log_disp, order=2) -> Curve:
        """Log-likelihood and its derivatives by eta, each row as often as it counts."""
        curve = self.family.curve(eta, self.y, self.w, log_disp, order)
        return curve if self.frequencies is None else self._counted(curve)

    def by_dispersion(self, eta, log_disp):
        """Derivatives by log dispersion, each row as often as it counts."""
        curve = self.family.by_dispersion(eta, self.y, self.w, log_disp)
        return curve if self.frequencies is None else self._counted(curve)

    def _counted(self, curve):
        return type(curve)(*(None if x is None else x * self.frequencies for x in curve))

    def expected_weight(self, eta, log_disp):
        """Fisher information of every row, positive where the observed one need not be."""
        weight = self.family.expected_weight(eta, self.y, self.w, log_disp)
        return weight if self.frequencies is None else weight * self.frequencies

    def penalty(self, gamma):
        """What the prior of gamma adds to g, 0 without one."""
        return 0.0 if self.prior is None else self.prior.value(gamma)

    def prior_information(self, gamma, *, definite=False):
        """Half of the second derivative of :meth:`penalty`, or of a bound; None without one."""
        return None if self.prior is None else self.prior.information(gamma, definite=definite)

    def factor(self, weight, T, *, fixed=True, ridge=None):
        """Factor of Lambda'Z'WZ Lambda + I, bordered by the columns of X if ``fixed``.

        ``ridge`` (r, r) is added to the information on the columns of X.

        Raises
        ------
        NotPositiveDefinite
            Where negative weights leave no positive definite matrix.
        """
        if fixed:
            system = self.pattern.system(weight, self.Q)
            system = system if ridge is None else system.with_ridge(ridge)
        else:
            system = self.pattern.without_fixed.system(weight, self.Q[:, :0])
        f = system.factor(T)
        if not f.is_definite:
            raise NotPositiveDefinite
        return f


@dataclass(frozen=True)
class Mode:
    """A point (gamma, u) with its linear predictor; ``penalised`` is g there."""

    gamma: np.ndarray
    u: list
    eta: np.ndarray
    curve: Curve
    penalised: float
    n_steps: int = 0


def _sum_of_squares(x):
    return float(np.vdot(x, x))


def _predictor(rows, gamma, u, T):
    b = [t @ x for t, x in zip(T, u, strict=True)]
    return rows.fixed_part(gamma) + rows.random_part(b)


def mode_at(rows, gamma, u, T, log_disp, eta=None):
    """The point (gamma, u), whether or not it is a mode."""
    if eta is None:
        eta = _predictor(rows, gamma, u, T)
    curve = rows.curve(eta, log_disp, order=3)
    penalised = -2.0 * float(curve.loglik.sum()) + sum(map(_sum_of_squares, u))
    penalised += rows.penalty(gamma)
    return Mode(gamma, u, eta, curve, penalised if math.isfinite(penalised) else math.inf)


def find_mode(rows, start, T, log_disp, *, joint=False, last_step=_LAST_STEP):
    """The mode of u, or with ``joint`` of (gamma, u), by Newton's method with step halving.

    Parameters
    ----------
    rows : Rows
    start : Mode
        A point with a finite likelihood at these parameters.
    T : list of (s, s) arrays
    log_disp : float
    joint : bool
    last_step : float
        Newton decrement, in units of the deviance, at which a step is the last one.

    Raises
    ------
    NoMode
        If the start is outside the family's range or no step decreases g.
    """
    if not math.isfinite(start.penalised):
        raise NoMode("the linear predictor leaves the range of the family's mean")
    at, n_short = start, 0
    for step in range(1, _MAX_STEPS + 1):
        check_time()
        gamma, u, change, decrement = _newton_step(rows, at, T, log_disp, joint)
        at, length = _shortened(rows, at, gamma, u, change, T, log_disp, decrement)
        if decrement <= last_step and length in (0.0, 1.0):
            # far from the mode eta, which is summed up, and u drift apart
            eta = _predictor(rows, at.gamma, at.u, T)
            gap = float(np.abs(at.curve.weight) @ (eta - at.eta) ** 2)
            if gap <= max(last_step, _DRIFT):
                return replace(at, n_steps=start.n_steps + step)
            at = mode_at(rows, at.gamma, at.u, T, log_disp, eta)
        n_short = n_short + 1 if length < _SHORT else 0
        if n_short == _MAX_SHORT:
            raise NoMode(_BOUNDARY)
    raise NoMode("the penalised likelihood has no mode")


def _newton_step(rows, at, T, log_disp, joint):
    """Full step: gamma, u, change of eta, and the decrease of g that it promises."""
    f, weight, ridge = _positive_factor(rows, at, T, log_disp, joint)
    z_b = rows.random_part([t @ x for t, x in zip(T, at.u, strict=True)])
    working = at.curve.score + weight * z_b
    if joint:
        working = working + weight * (rows.Q @ at.gamma)
    target = rows.effects(working, fixed=joint)
    if ridge is not None:
        target.fixed[:, 0] += ridge @ at.gamma - rows.prior.gradient(at.gamma) / 2
    # of the linear model with the working weights
    solution, u = f.modes(target, at.u, fixed=joint)
    change = rows.random_part(solution.levels()) - z_b
    gamma = at.gamma
    if joint:
        gamma = solution.fixed[:, 0]
        change = change + rows.Q @ (gamma - at.gamma)
    decrement = float(weight @ change**2)
    decrement += sum(_sum_of_squares(x - y) for x, y in zip(u, at.u, strict=True))
    if ridge is not None:
        decrement += float((gamma - at.gamma) @ ridge @ (gamma - at.gamma))
    return gamma, u, change, decrement


def _positive_factor(rows, at, T, log_disp, joint):
    """Factor with the observed information, or the expected one where that is not definite.

    Also the weights, and what the prior added (None: nothing).
    """
    ridge = rows.prior_information(at.gamma) if joint else None
    try:
        return rows.factor(at.curve.weight, T, fixed=joint, ridge=ridge), at.curve.weight, ridge
    except NotPositiveDefinite:
        weight = np.maximum(rows.expected_weight(at.eta, log_disp), np.abs(at.curve.weight))
    ridge = rows.prior_information(at.gamma, definite=True) if joint else None
    try:
        return rows.factor(weight, T, fixed=joint, ridge=ridge), weight, ridge
    except NotPositiveDefinite:
        raise NoMode("the information on the fixed effects is singular") from None


def _shortened(rows, at, gamma, u, change, T, log_disp, decrement):
    """The point reached, with the step halved until g decreases, and the length of the step."""
    noise = 1e-13 * max(1.0, abs(at.penalised))
    length = 1.0
    for _ in range(_MAX_HALVINGS):
        new_gamma = at.gamma + length * (gamma - at.gamma)
        new_u = [x + length * (y - x) for x, y in zip(at.u, u, strict=True)]
        trial = mode_at(rows, new_gamma, new_u, T, log_disp, at.eta + length * change)
        if trial.penalised <= at.penalised + noise:
            return trial, length
        length /= 2
    if decrement <= 1e3 * noise:
        return at, 0.0
    raise NoMode(_BOUNDARY)
