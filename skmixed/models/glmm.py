"""Generalised linear mixed models: start values, the fit, standard errors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skmixed.families import Family
from skmixed.linalg.iterative_pattern import IterativePattern
from skmixed.linalg.rank import independent_columns
from skmixed.linalg.system import Pattern
from skmixed.linalg.threads import one_thread
from skmixed.models.deviance import iterates
from skmixed.models.fit import MixedFit
from skmixed.models.laplace import LaplaceDeviance, Near, Start
from skmixed.models.layout import CovarianceLayout
from skmixed.models.lmm import not_solved
from skmixed.models.moments import RowMoments
from skmixed.models.optimize import NoStart, Optimum
from skmixed.models.pirls import NoMode, Rows, find_mode, mode_at
from skmixed.models.prior import Penalty
from skmixed.models.quadrature import QuadratureDeviance, product_rule
from skmixed.models.search import Search, outside_effects, outside_starts
from skmixed.models.source import Source, checksum
from skmixed.models.stochastic import MonteCarlo
from skmixed.models.stochastic_laplace import IterativeLaplace, find_root, restated

# Steps of the differences for standard errors, in (approximate) standard errors.
_DIFFERENCE, _ITERATED = (1e-5, 1e-2), 0.02
# Slope of the penalised deviance, per length of a difference, that its accuracy allows.
_SLOPE = 1e-3
# Newton decrement that is near enough for a start.
_START_STEP = 1e-2
# Share of the largest eigenvalue below which a direction of the Hessian carries no information.
_FLAT = 1e-10
# Information along such a direction of the fixed effects, in the same units.
_UNKNOWN = 1e-14
# Least information on fixed effects, as a share of what the linear model at the mode has.
_LEAST = 1e-4
# Share of squared means below which squared residuals are rounding.
_ROUNDING = 1e-26
# The logarithm of the dispersion may fall so far below that of the model without random effects;
# an optimum that comes near to this limit has none.
_EXACT_RANGE, _EXACT_MARGIN = 18.0, 3.0
_EXACT = (
    "{} the response exactly: the dispersion is zero and the likelihood has no maximum. Is a "
    "column of the data a copy or a transform of the response?"
)
_NO_QUADRATURE = (
    "solver='iterative' is for Laplace's approximation, got n_agq={}: a quadrature has one "
    "grouping factor, which solver='direct' takes at any size"
)
# Rows of the core from which a second BLAS thread pays.
_WORTH_THREADS = 2000
# Trials per parameter below which an approximated binomial deviance may have several minima, and
# the standard deviations, in those of the first start, from which these are looked for.
_LITTLE = 30
_RANGE = 0.1, 4.0
# Range of the starting standard deviations, in those at which the data say as much as the prior.
_START_RANGE = 0.5, 1e4


@dataclass(frozen=True)
class Solver:
    """How penalised systems are solved: "auto", "direct" or "iterative"; the latter's probes."""

    solver: str = "direct"
    n_probes: int | None = None
    seed: int = 0

    def iterates(self, layout, n_fixed, n_agq):
        """Whether the models of a layout go to the iterative solver."""
        if n_agq > 1:
            if self.solver == "iterative":
                raise ValueError(_NO_QUADRATURE.format(n_agq))
            return False
        return iterates(layout, n_fixed, self.solver)


@dataclass(frozen=True)
class Problem:
    """What an optimisation needs: the objective, and how it was built from the design."""

    objective: LaplaceDeviance
    basis: object
    n_obs: float
    source: Source
    n_agq: int
    solver: Solver = Solver()

    def with_response(self, y, prior=None):
        """The problem of another response to the same rows, as the family takes it.

        prior: Penalty beside this response.
        """
        objective, source = self.objective, replace(self.source, response=checksum(y))
        rows = replace(objective.rows, y=y, prior=prior)
        return replace(self, objective=replace(objective, rows=rows, near=Near()), source=source)

    @property
    def iterates(self):
        """Whether the deviance is that of the iterative solver."""
        return isinstance(self.objective, IterativeLaplace)

    def threads(self):
        """Context with as many BLAS threads as pay for a system of this size."""
        return one_thread(self.objective.rows.pattern.dense_rows < _WORTH_THREADS)


def approximation(design, y, w, family: Family, n_agq, prior=None, solver=Solver()):
    """Problem for a design, with the response as the family takes it.

    Parameters
    ----------
    design : Design
    y, w : (n,)
        Response and prior weights; for the binomial family successes and trials.
    family : Family
    n_agq : int
        0: joint mode, 1: Laplace, more: nodes of the adaptive quadrature.
    prior : FixedPrior, optional
    solver : Solver
    """
    frequencies = design.frequencies
    basis = independent_columns(design.X, frequencies, design.intercept)
    Q = basis.orthonormal(design.X)
    layout = CovarianceLayout.build(design.random, frequencies)
    by_iterations = solver.iterates(layout, Q.shape[1], n_agq)
    if by_iterations:
        own = {"seed": solver.seed, "n_probes": solver.n_probes}
        pattern = IterativePattern.build(layout.groups, Q.shape[1], **own)
    else:
        pattern = Pattern.build(layout.groups, Q.shape[1])
    penalty = None if prior is None else prior.penalty(design, basis, Q, family, y, w)
    rows = Rows(family, y, w, frequencies, design.offset, Q, pattern, penalty)
    n_obs = float(len(y) if frequencies is None else frequencies.sum())
    outside = outside_effects(layout, Q, frequencies)
    # without random effects the joint mode is the maximum of the likelihood itself
    joint = n_agq == 0 or not layout.groups
    if joint or n_agq == 1:
        laplace = IterativeLaplace if by_iterations else LaplaceDeviance
        objective = laplace(rows, layout.without_rows(), joint, outside)
    else:
        rule = product_rule(n_agq, layout)
        objective = QuadratureDeviance(rows, layout.without_rows(), outside=outside, rule=rule)
    source = Source.of(design, basis, Q, layout, y, w, RowMoments.of(Q, layout, frequencies))
    return Problem(objective, basis, n_obs, source, n_agq, solver)


@dataclass(frozen=True)
class GLMMFit(MixedFit):
    """A fitted generalised linear mixed model.

    ``fixed_root`` is that of the information on the fixed effects from the Hessian over all
    parameters, so that variances take account of the covariance parameters being estimated.

    Attributes
    ----------
    family : Family
    group_modes : tuple of (s, l) arrays
        Conditional modes of every group.
    log_dispersion : float
    covariance : (t + d, t + d) or None
        Of theta and log dispersion, from the same Hessian; None where there is none.
    n_steps : int
        Steps of the search for modes, over all evaluations.
    n_agq : int
    prior : Penalty or None
        Of gamma; ``deviance`` is without it.
    decided : tuple of str
        What separates the outcomes, so that the prior decides how far its estimates go.
    monte_carlo : MonteCarlo or None
        How exact a fit by the iterative solver is.
    """

    family: Family | None = None
    group_modes: tuple = ()
    log_dispersion: float = 0.0
    covariance: np.ndarray | None = None
    n_steps: int = 0
    n_agq: int = 1
    prior: Penalty | None = None
    decided: tuple[str, ...] = ()
    monte_carlo: MonteCarlo | None = None
    df_methods = ("asymptotic",)
    no_other_df = (
        "without a residual variance that is estimated beside the others, z tests are what the "
        "likelihood of a generalised model gives"
    )

    @classmethod
    def at(cls, problem, optimum):
        """The model at an optimum of its approximated deviance."""
        objective, state = problem.objective, optimum.state
        _, theta, log_disp = objective.split(optimum.theta)
        root, covariance = _information(objective, state)
        trace = tuple((value, objective.split(at)[1]) for value, at in optimum.trace)
        n_steps = objective.near.n_steps
        return cls(
            layout=objective.layout,
            basis=problem.basis,
            optimum=replace(optimum, theta=theta, state=None, trace=trace),
            factor=state.factor.without_rows(),
            fixed_root=root,
            gamma=state.mode.gamma,
            sigma=1.0,
            unit=1.0,
            deviance=float(optimum.value) - objective.rows.penalty(state.mode.gamma),
            reml=False,
            n_obs=problem.n_obs,
            n_params=objective.rows.n_fixed + objective.n_theta + objective.n_dispersion,
            family=objective.rows.family,
            group_modes=tuple(t @ x for t, x in zip(state.T, state.mode.u, strict=True)),
            log_dispersion=log_disp,
            covariance=covariance,
            n_steps=n_steps,
            n_agq=problem.n_agq,
            prior=objective.rows.prior,
            source=problem.source,
        )

    @property
    def dispersion(self):
        """phi, or theta of the negative binomial; 1 for families without."""
        return float(np.exp(self.log_dispersion))

    @property
    def penalty(self):
        """-2 log prior density of the fixed effects, over that at its mode; 0 without a prior."""
        return 0.0 if self.prior is None else self.prior.value(self.gamma)

    def _group_modes(self):
        return self.group_modes

    def with_modes(self, layout, modes):
        """The fit with these modes (s, l) by group and without what its own rows told."""
        return replace(self, layout=layout, group_modes=modes, factor=None)

    def row_derivatives(self, eta, y, w):
        """(score, weight) (n,) of every row's log-likelihood by eta, y a mean of w outcomes."""
        y = y * w if self.family.name == "binomial" else y
        curve = self.family.curve(eta, y, w, self.log_dispersion)
        return curve.score, curve.weight

    def refit(self, *, reml):
        """This fit: it is by maximum likelihood."""
        return self


@np.errstate(all="ignore")  # what is not finite is looked for where it matters
def fit_glmm(problem: Problem, *, near=None, max_iter=100, tol=1e-8, callback=None):
    """GLMMFit at the minimum of the approximated deviance.

    ``near``: a GLMMFit of the same rows with another response, at whose parameters to start.

    Raises
    ------
    NoMode
        If the likelihood is zero or not finite at every start that was tried.
    """
    objective = problem.objective
    with problem.threads():
        if not problem.n_obs:
            return GLMMFit.at(problem, _without_rows(objective))
        start = starting_values(objective) if near is None else _start_at(objective, near)
        if objective.rows.family.scale:
            least = start[-1] - _EXACT_RANGE
            objective = replace(objective, least_log_dispersion=least)
        settings = {"max_iter": max_iter, "tol": tol, "callback": callback}
        try:
            objective, optimum, record = _found(objective, start, problem, settings)
        except NoStart as error:
            raise NoMode(str(error)) from None
        if objective.split(optimum.theta)[2] < objective.least_log_dispersion + _EXACT_MARGIN:
            raise ValueError(_EXACT.format("fixed and random effects together explain"))
        if optimum.obstacle and np.isfinite(objective.rows.family.predictor_range).any():
            optimum = replace(optimum, remedy=objective.rows.family.remedy)
        fit = GLMMFit.at(replace(problem, objective=objective), optimum)
        if record is not None and fit.covariance is not None:
            record = restated(record, optimum.state, fit.covariance)
        return fit if record is None else replace(fit, monte_carlo=record)


def _found(objective, start, problem, settings):
    """(objective, Optimum, MonteCarlo or None) of the search from a start."""
    if not problem.iterates:
        search = _search(objective, **settings)
        return objective, search.run(start, _others(objective, search, start)), None
    unit, units = _units(objective)
    probes = problem.solver.n_probes
    optimum, record = find_root(
        objective, start, n_probes=probes, unit=unit, units=units, **settings
    )
    factor = optimum.state.factor
    if not factor.converged:
        stuck = not_solved(problem.source, *factor.strongest_coupling())
        optimum = replace(optimum, converged=False, **stuck)
    return optimum.state.objective, optimum, record


def _search(objective, **settings):
    """The search, with gamma and theta in units of one row's working standard deviation.

    The linear predictor of an identity link has the units of the response, log dispersion none.
    """
    unit, units = _units(objective)
    return Search(
        objective.evaluate, objective.layout, objective.n_gamma, unit, units=units, **settings
    )


def _units(objective):
    """One row's working standard deviation, and what is typical of every parameter (m,)."""
    unit = _working_deviation(objective.near.state)
    n = objective.n_gamma + objective.n_theta
    return unit, np.repeat([unit, 1.0], [n, objective.n_dispersion])


def _others(objective, search, start):
    """Other starts: for random effects that have means of their own, and for little binary data.

    There the approximation bends down again at large variances.
    """
    theta = search.theta(start)
    others = outside_starts(objective.layout, objective.outside, theta)
    rows = objective.rows
    if rows.family.name == "binomial" and rows.w.sum() < _LITTLE * len(start):
        others += [objective.layout.scaled(theta, factor) for factor in _RANGE]
    return [search.with_theta(start, theta) for theta in others]


def _without_rows(objective):
    """The optimum of a problem in which no row counts: no variance, likelihood 1."""
    none = np.zeros(objective.n_theta)
    u = [np.zeros((g.n_columns, g.n_levels)) for g in objective.rows.groups]
    T = objective.layout.factors(none)
    objective.near.state = Start(mode_at(objective.rows, np.zeros(0), u, T, 0.0))
    state = objective.evaluate(none)
    message = "the fixed effects separate all outcomes"
    return Optimum(none, state.value, state, 0, 1, True, message, ((state.value, none),))


def _working_deviation(state):
    """The standard deviation that one row's information amounts to: sigma of a linear model."""
    return 1 / np.sqrt(max(float(np.mean(np.abs(state.mode.curve.weight))), 1e-300))


# Start


def starting_values(objective):
    """Parameters at the joint mode of (gamma, u), theta by moments of the scores by level.

    The mode is left in ``objective.near`` for the first evaluation.
    """
    rows = objective.rows
    glm, log_disp = _without_random_effects(rows)
    theta = _moment_theta(objective, glm)
    T = objective.layout.factors(theta)
    u = [np.zeros((g.n_columns, g.n_levels)) for g in rows.groups]
    start = mode_at(rows, glm.gamma, u, T, log_disp, glm.eta)
    mode = start
    if u:
        mode = find_mode(rows, start, T, log_disp, joint=True, last_step=_START_STEP)
    objective.near.n_steps += mode.n_steps
    objective.near.state = Start(mode)
    gamma = mode.gamma[: objective.n_gamma]
    return np.concatenate([gamma, theta, [log_disp] * objective.n_dispersion])


def _start_at(objective, fit):
    """The parameters of a fit, with random effects of zero for the first search for a mode."""
    T = objective.layout.factors(fit.optimum.theta)
    u = [np.zeros((g.n_columns, g.n_levels)) for g in objective.rows.groups]
    start = mode_at(objective.rows, fit.gamma, u, T, fit.log_dispersion)
    objective.near.state = Start(start)
    gamma = fit.gamma[: objective.n_gamma]
    own = [fit.log_dispersion] * objective.n_dispersion
    return np.concatenate([gamma, fit.optimum.theta, own])


def _without_random_effects(rows):
    """The generalised linear model's mode and a moment estimate of log dispersion."""
    plain = rows.without_groups()
    family, freq = rows.family, rows.frequencies
    typical = family.initial_mean(rows.y, rows.w)
    weight = rows.w if freq is None else rows.w * freq
    center = np.average(typical, weights=weight)
    log_disp = family.initial_log_dispersion(rows.y, weight, np.full(len(rows.y), center))
    start = _constant_start(plain, center, log_disp)
    for _ in range(2 if family.dispersion else 1):
        mode = find_mode(plain, start, [], log_disp, joint=True)
        if family.dispersion:
            mu = family.mean(mode.eta)
            if family.scale and _explained(rows.y, mu, weight):
                raise ValueError(_EXACT.format("the fixed effects explain"))
            log_disp = family.initial_log_dispersion(rows.y, weight, mu)
            start = mode_at(plain, mode.gamma, [], [], log_disp, mode.eta)
    return mode, log_disp


def _explained(y, mu, weight):
    """Whether the residuals are rounding."""
    return np.average((y - mu) ** 2, weights=weight) <= _ROUNDING * np.average(
        mu**2, weights=weight
    )


def _constant_start(plain, center, log_disp):
    """The point where every row has nearly the same mean."""
    eta = np.full(len(plain.y), float(plain.family.link.link(center)))
    if plain.offset is not None:
        eta = eta - plain.offset
    total = len(eta) if plain.frequencies is None else plain.frequencies.sum()
    weighted = eta if plain.frequencies is None else eta * plain.frequencies
    return mode_at(plain, plain.Q.T @ weighted / total, [], [], log_disp)


def _moment_theta(objective, glm):
    """theta with diagonal tau: E c^2 = D + D^2 tau^2 for the scores c and informations D."""
    spreads = []
    for group in objective.rows.groups:
        c = group.sums(glm.curve.score)
        D = group.sums(np.maximum(glm.curve.weight, 0.0), power=2)
        tau2 = (c**2 - D).sum(axis=1) / np.maximum((D**2).sum(axis=1), 1e-300)
        known = np.maximum(np.count_nonzero(D, axis=1), 1)
        unit = 1 / np.sqrt(np.maximum(D.sum(axis=1) / known, 1e-300))
        least, most = _START_RANGE[0] * unit, _START_RANGE[1] * unit
        spreads.append(np.clip(np.sqrt(np.maximum(tau2, 0.0)), least, most))
    return objective.layout.diagonal(spreads)


# End


def _information(objective, state):
    """Root of the information on gamma, and the covariance of the other parameters.

    Both from the Hessian; of the joint mode only the factor's own root is known.
    """
    own = state.factor.fixed_root
    if objective.joint:
        return own, None
    scale, values, vectors = _scaled_eigen(own)
    known = values > _FLAT * values.max(initial=0.0)
    half = scale[:, None] * vectors * np.sqrt(np.where(known, values, _UNKNOWN))
    steps = _unit_steps(
        objective, state, vectors[:, known] / scale[:, None] / np.sqrt(2.0 * values[known])
    )
    H = hessian_by_differences(objective, state, steps)
    if not np.isfinite(H).all():  # no likelihood near by: the approximation has to do
        return own, None
    r = int(known.sum())
    among, cross, rest = H[:r, :r], H[:r, r:], H[r:, r:]
    half[:, known] @= _root(among - cross @ _inverse(rest) @ cross.T)
    back = steps[objective.n_gamma :, r:]
    covariance = 2.0 * back @ _inverse(rest - cross.T @ _inverse(among) @ cross) @ back.T
    return _lower(half), covariance


def _scaled_eigen(root):
    """Scale, and eigenvalues and vectors of root root' scaled to unit diagonal."""
    scale = np.sqrt(np.einsum("ij,ij->i", root, root))
    return scale, *np.linalg.eigh((root @ root.T) / np.outer(scale, scale))


def _unit_steps(objective, state, gamma_steps):
    """Columns: changes of the parameters along which the Hessian is near the identity.

    Directions of gamma along which nothing is known, as where outcomes are almost separated,
    are left out: what is known of the others is as if those were given.
    """
    r, k = gamma_steps.shape
    metric = state.metric[r:]
    units = np.ones(len(metric))
    units[: objective.n_theta] = _working_deviation(state)
    # a variance of zero has no information on its standard deviation
    scale = np.sqrt(np.maximum(metric, 1e-6 * len(objective.rows.y) / units**2))
    steps = np.zeros((len(state.parameters), k + len(metric)))
    steps[:r, :k] = gamma_steps
    steps[r:, k:] = np.diag(1 / scale)
    return steps


def hessian_by_differences(objective, state, steps):
    """steps' H steps for the Hessian H of the approximated deviance, by differences of gradients.

    Along the tangent of the mode the gradient is smooth to the last digit, no iteration adds its
    noise: steps can be so short that differences to one side have six digits. NaN where there is
    no likelihood to either side.
    """
    H = np.empty((steps.shape[1],) * 2)
    h = _difference(objective, state, steps)
    for j, step in enumerate(steps.T):
        H[j] = _gradient_along(objective, state, step, h) @ steps
    return (H + H.T) / 2


def _gradient_along(objective, state, step, h):
    """Derivative of the gradient along a step, by a difference to a side that is not refused."""
    for signed in (h, -h):
        ahead = objective.evaluate_along(state, state.parameters + signed * step, _SLOPE * h)
        if np.isfinite(ahead.value):
            return (ahead.gradient - state.gradient) / signed
    return np.full(len(state.parameters), np.nan)


def _difference(objective, state, steps):
    """Length of the differences: the rounding of the scores over it should stay small.

    eta has relative errors of one rounding, which the information multiplies: counts of a million
    have scores that are sums of large numbers with opposite signs. Iterations leave more.
    """
    if isinstance(objective, IterativeLaplace):
        return _ITERATED
    rows, mode = objective.rows, state.mode
    rounding = np.finfo(float).eps * np.abs(mode.curve.weight) * (1.0 + np.abs(mode.eta))
    along = rows.Q @ steps[: rows.n_fixed]
    noise = np.sqrt((rounding**2 @ along**2).max(initial=0.0))
    return float(np.clip(3.0 * np.sqrt(noise), *_DIFFERENCE))


def _inverse(A):
    """Inverse of a symmetric matrix on the directions that carry information."""
    if not A.size:
        return A
    values, vectors = np.linalg.eigh(A)
    known = values > _FLAT * max(values[-1], 0.0)
    half = vectors[:, known] / np.sqrt(values[known])
    return half @ half.T


def _root(A):
    """R with R R' = A, a matrix that would be the identity were the approximation exact."""
    values, vectors = np.linalg.eigh(A)
    return vectors * np.sqrt(np.maximum(values, _LEAST))


def _lower(half):
    """Lower L with L L' = half half' and positive diagonal."""
    L = np.linalg.qr(half.T, mode="r").T
    return L * np.where(np.diag(L) < 0, -1.0, 1.0)
