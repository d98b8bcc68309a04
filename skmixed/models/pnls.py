"""Rows of a nonlinear mixed model, and the mode of its random effects.

Given the fixed effects gamma and the factors T the mode of the spherical effects u minimises the
penalised weighted residual sum of squares

    pwrss(u) = sum w (y - f(phi))^2 + u'u,    phi_k = Q_k gamma_k + (Z Lambda u)_k

where every column of Q and Z belongs to one of the P parameters of f. With r = y - f, J = df / dphi
and C its second derivatives, Gauss-Newton steps have the row weights w J J' (P, P), Newton's
w (J J' - r C).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from skmixed._deadline import check_time
from skmixed.linalg.system import Effects, Group, NotPositiveDefinite, Pattern
from skmixed.models.pirls import NoMode

# Newton decrement, in units of sigma^2, after which one more step is exact to rounding, and below
# which the second derivatives of f are used.
_LAST_STEP, _NEWTON = 1e-9, 1.0
# Rounding of the penalised sum of squares.
_ROUNDING = 1e-13
_MAX_STEPS, _MAX_HALVINGS = 100, 30
# Share of the response's sum of squares below which residuals are rounding.
_EXACT = 1e-26
# Damping of the joint mode: first, largest, and factors between steps; the decrement that is near
# enough for a start.
_FIRST_DAMPING, _MOST_DAMPING, _MORE, _LESS = 1e-3, 1e12, 10.0, 0.1
_START_STEP = 1e-2


@dataclass(frozen=True)
class NonlinearRows:
    """Response, function, fixed effects and grouping of all rows.

    Attributes
    ----------
    y, w : (n,)
        Response, and weights: prior weights times frequencies.
    n_obs : float
    function : callable
        phi (P, n) -> f (n,), J (P, n), C (P, P, n).
    Q : (n, r)
        Columns of the fixed effects, those of parameter k in ``slices[k]``.
    slices : tuple of slice (P,)
    owners : tuple of (s,) intp
        For every group the parameter of each of its columns.
    pattern : Pattern
    units : (P,)
        Sizes of the parameters, 1 / rms(J_k).
    joint : bool
        Whether the mode of gamma is sought with that of u.
    """

    y: np.ndarray
    w: np.ndarray
    n_obs: float
    function: Callable
    Q: np.ndarray
    slices: tuple[slice, ...]
    owners: tuple[np.ndarray, ...]
    pattern: Pattern
    units: np.ndarray
    joint: bool = False

    @property
    def n_fixed(self):
        return self.Q.shape[1]

    @property
    def groups(self):
        return self.pattern.groups

    @cached_property
    def fixed_owner(self):
        """The parameter (r,) of every column of Q."""
        owner = np.empty(self.n_fixed, dtype=np.intp)
        for k, at in enumerate(self.slices):
            owner[at] = k
        return owner

    def fixed_part(self, gamma):
        """The part (P, n) of the parameters that the fixed effects make."""
        return np.array([self.Q[:, at] @ gamma[at] for at in self.slices])

    def random_part(self, b):
        """That of the random effects, for a list of (s, l)."""
        phi = np.zeros((len(self.slices), len(self.y)))
        for group, owner, own in zip(self.groups, self.owners, b, strict=True):
            for z, k, row in zip(group.z.T, owner, own, strict=True):
                phi[k] += z * row[group.codes]
        return phi

    def effects(self, v, *, fixed=True):
        """[Z Q]'v as Effects for v (P, n); Z'v alone, without a fixed part, if not ``fixed``."""
        levels = [
            np.array(
                [
                    np.bincount(group.codes, v[k] * z, group.n_levels)
                    for z, k in zip(group.z.T, owner, strict=True)
                ]
            )
            for group, owner in zip(self.groups, self.owners, strict=True)
        ]
        return Effects.of(levels, self.fixed_sums(v) if fixed else np.zeros(0))

    def fixed_sums(self, v):
        """Q'v (r,)."""
        return np.concatenate([self.Q[:, at].T @ v[k] for k, at in enumerate(self.slices)])

    def linearised(self, J, *, fixed=True):
        """System of Gauss and Newton: the columns of Z and Q times the J of their parameters."""
        pairs = zip(self.groups, self.owners, strict=True)
        pattern = self.pattern if fixed else self.pattern.without_fixed
        pattern = pattern.with_covariates([J[owner].T * group.z for group, owner in pairs])
        columns = J[self.fixed_owner].T * self.Q if fixed else self.Q[:, :0]
        return pattern.system(self.w, columns)

    @cached_property
    def _copies(self):
        """Parameters of the rows' copies, see :meth:`exact`: pairs (k, k) and (k, m)."""
        owners = range(len(self.slices)) if self.joint else np.unique(np.concatenate(self.owners))
        return [(k, k) for k in owners], list(combinations(owners, 2))

    @cached_property
    def _stacked(self):
        """Pattern of the copies, and their columns of Q (none unless ``joint``)."""
        own, pairs = self._copies
        present = np.zeros((len(own) + len(pairs), len(self.slices)))
        for row, pair in zip(present, own + pairs, strict=True):
            row[list(pair)] = 1.0
        groups = []
        for group, owner in zip(self.groups, self.owners, strict=True):
            z = present[:, None, owner] * (group.z / self.units[owner])
            codes = np.tile(group.codes, len(present))
            groups.append(Group(codes, z.reshape(len(codes), -1), group.n_levels))
        Q = self.Q if self.joint else self.Q[:, :0]
        owner = self.fixed_owner[: Q.shape[1]]
        Q = (present[:, None, owner] * (Q / self.units[owner])).reshape(
            len(present) * len(Q), -1 if Q.size else 0
        )
        return Pattern.build(tuple(groups), Q.shape[1]), Q

    def exact(self, W):
        """System with row weights W (P, P, n), beside the columns of Q if ``joint``.

        W = sum_k (W_kk - sum_m W_km) e_k e_k' + sum_k<m W_km (e_k + e_m)(e_k + e_m)': the rows
        are stacked once for every term, with covariates of 0 or 1 times their own, so that only
        scalar weights change.
        """
        own, pairs = self._copies
        d = self.units
        between = [W[k, m] * (d[k] * d[m]) for k, m in pairs]
        alone = {k: W[k, k] * d[k] ** 2 for k, _ in own}
        for (k, m), weight in zip(pairs, between, strict=True):
            alone[k] = alone[k] - weight
            alone[m] = alone[m] - weight
        pattern, Q = self._stacked
        return pattern.system(np.concatenate([*alone.values(), *between]), Q)


@dataclass(frozen=True)
class Mode:
    """A point (gamma, u) with the parameters of all rows and f there."""

    rows: NonlinearRows
    gamma: np.ndarray
    u: list
    phi: np.ndarray
    f: np.ndarray
    J: np.ndarray
    C: np.ndarray
    n_steps: int = 0

    @cached_property
    def residual(self):
        return self.rows.y - self.f

    @cached_property
    def squares(self):
        """w r^2 (n,)."""
        return self.rows.w * self.residual**2

    @cached_property
    def pwrss(self):
        total = float(self.squares.sum()) + sum(float(np.vdot(x, x)) for x in self.u)
        return total if math.isfinite(total) else math.inf

    @property
    def is_exact(self):
        """Whether the residuals are rounding of the response."""
        rows = self.rows
        return self.pwrss <= _EXACT * float(rows.w @ rows.y**2)

    @property
    def sigma2(self):
        return self.pwrss / self.rows.n_obs

    @cached_property
    def score(self):
        """w r J (P, n): half the slope of the sum of squares, downwards."""
        return self.rows.w * self.residual * self.J

    @cached_property
    def expected_weight(self):
        """w J J' (P, P, n)."""
        return self.rows.w * (self.J[:, None] * self.J)

    @cached_property
    def weight(self):
        """w (J J' - r C) (P, P, n)."""
        return self.expected_weight - (self.rows.w * self.residual) * self.C


def times(W, v):
    """W v by rows: (P, n) for W (P, P, n) and v (P, n)."""
    return np.einsum("kmn,mn->kn", W, v)


@np.errstate(invalid="ignore")
def factored(system, T):
    """The factor of a system.

    Raises
    ------
    NotPositiveDefinite
        Where row weights that are not definite leave it none.
    """
    factor = system.factor(T)
    if not math.isfinite(factor.log_det_u):
        raise NotPositiveDefinite
    return factor


def mode_at(rows, gamma, u, T, phi=None, n_steps=0):
    """The point (gamma, u), whether or not it is a mode."""
    if phi is None:
        b = [t @ x for t, x in zip(T, u, strict=True)]
        phi = rows.fixed_part(gamma) + rows.random_part(b)
    return Mode(rows, gamma, u, phi, *rows.function(phi), n_steps)


def find_mode(start, T, *, near=True):
    """The mode of u, or of (gamma, u) where the rows say so, by Newton's method.

    Parameters
    ----------
    start : Mode
        A point where f is finite.
    T : list of (s, s)
    near : bool
        Whether the start is close enough for the second derivatives of f.

    Raises
    ------
    NoMode
        If f is not finite at the start or no step decreases pwrss.
    """
    if not math.isfinite(start.pwrss):
        raise NoMode("the curve is not finite")
    at, exact = start, near
    if at.is_exact:
        return at
    for _ in range(_MAX_STEPS):
        check_time()
        gamma, u, change, decrement, exact = _newton_step(at, T, exact)
        reached, length = _shortened(at, T, gamma, u, change)
        if length == 0.0 and decrement > 1e3 * _ROUNDING * at.pwrss:
            if not exact:
                raise NoMode("no step decreases the sum of squares")
            exact = False
            continue
        at = replace(reached, n_steps=at.n_steps + 1)
        near_enough = exact and length == 1.0 and decrement <= _LAST_STEP * at.sigma2
        if length == 0.0 or near_enough or decrement <= _ROUNDING * at.pwrss:
            return at
        exact = length == 1.0 and decrement <= _NEWTON * at.sigma2
    raise NoMode("the sum of squares has no minimum by the random effects")


def _newton_step(at, T, exact):
    """Full step (gamma, u, change of phi), promised decrease, and whether it is Newton's."""
    rows = at.rows
    if exact:
        try:
            return *_step(at, T, at.weight, factored(rows.exact(at.weight), T)), True
        except NotPositiveDefinite:
            pass
    try:
        factor = factored(rows.linearised(at.J, fixed=rows.joint), T)
    except NotPositiveDefinite:
        raise NoMode("the slopes of the curve do not determine the fixed effects") from None
    return *_step(at, T, at.expected_weight, factor), False


def _step(at, T, W, factor):
    """The step of the linear model with row weights W, whose factor is given."""
    rows = at.rows
    z_b = rows.random_part([t @ x for t, x in zip(T, at.u, strict=True)])
    # the fixed part of the solution is the change of gamma
    target = rows.effects(at.score + times(W, z_b), fixed=rows.joint)
    solution, scores = factor.solve(target, fixed=rows.joint)
    u = [t.T @ c for t, c in zip(T, scores.levels(), strict=True)]
    change = rows.random_part(solution.levels()) - z_b
    gamma = at.gamma
    if rows.joint:
        move = solution.fixed[:, 0]
        gamma = gamma + move
        change = change + rows.fixed_part(move)
    decrement = float(np.vdot(change, times(W, change)))
    decrement += sum(float(np.vdot(x - y, x - y)) for x, y in zip(u, at.u, strict=True))
    return gamma, u, change, decrement


def _shortened(at, T, gamma, u, change):
    """The point reached, with the step halved until pwrss decreases, and the step's length."""
    length, most = 1.0, at.pwrss * (1 + _ROUNDING)
    for _ in range(_MAX_HALVINGS):
        new_gamma = at.gamma + length * (gamma - at.gamma)
        new_u = [x + length * (y - x) for x, y in zip(at.u, u, strict=True)]
        trial = mode_at(at.rows, new_gamma, new_u, T, at.phi + length * change)
        if trial.pwrss <= most:
            return trial, length
        length /= 2
    return at, 0.0


def joint_start(start, T):
    """A point near the mode of (gamma, u) by Levenberg's damped Gauss-Newton steps.

    ``start.rows`` are joint. Damping is added to the information on gamma where a step fails.

    Raises
    ------
    NoMode
        If f is not finite at the start.
    """
    if not math.isfinite(start.pwrss):
        raise NoMode("the curve is not finite at the starting values")
    at, damping = start, 0.0
    for _ in range(_MAX_STEPS):
        check_time()
        system = at.rows.linearised(at.J)
        size = float(np.mean(system.fixed_gram.diagonal())) if at.rows.n_fixed else 1.0
        while True:
            found = _damped(at, T, system, damping * size)
            if found is not None:
                break
            damping = max(_FIRST_DAMPING, damping * _MORE)
            if damping > _MOST_DAMPING:
                return at
        at, decrement = found
        if decrement <= _START_STEP * at.sigma2 or at.is_exact:
            return at
        damping = damping * _LESS if damping > _FIRST_DAMPING else 0.0
    return at


def _damped(at, T, system, ridge):
    """The point that a damped step reaches and what it promised; None if pwrss does not fall."""
    try:
        factor = factored(system.with_ridge(ridge) if ridge else system, T)
    except NotPositiveDefinite:
        return None
    gamma, u, change, decrement = _step(at, T, at.expected_weight, factor)
    trial = mode_at(at.rows, gamma, u, T, at.phi + change, at.n_steps + 1)
    return (trial, decrement) if trial.pwrss <= at.pwrss * (1 + _ROUNDING) else None
