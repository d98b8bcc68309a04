"""The fit of a nonlinear mixed model: start, search, other modes, standard errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.linalg import block_diag

from skmixed.linalg.rank import ColumnBasis, independent_columns
from skmixed.linalg.system import NotPositiveDefinite, Pattern
from skmixed.linalg.threads import one_thread
from skmixed.models.fit import MixedFit
from skmixed.models.laplace import Near
from skmixed.models.layout import CovarianceLayout
from skmixed.models.nonlinear import NonlinearDeviance, Start, check_unexplained
from skmixed.models.nonlinear_quadrature import NonlinearQuadratureDeviance
from skmixed.models.optimize import NoStart
from skmixed.models.pirls import NoMode
from skmixed.models.pnls import NonlinearRows, find_mode, joint_start, mode_at
from skmixed.models.quadrature import product_rule
from skmixed.models.search import Search
from skmixed.models.source import Source

# Steps of the differences for standard errors, in approximate standard errors: with derivatives of
# f that are exact, and with such as are differences themselves.
_DIFFERENCE, _ROUGH_DIFFERENCE = 1e-6, 1e-4
# Share of the largest eigenvalue below which a direction of the Hessian carries no information.
_FLAT = 1e-10
# Share of the linearised model's information on the fixed effects below which they are open.
_OPEN = 1e-4
# Fall of the penalised sum of squares, in units of sigma^2, that makes another mode.
_OTHER_MODE = 1e-6
# Searches that another mode at their end may begin anew.
_MAX_SEARCHES = 4
# Another start has so many times the standard deviations of the first: with more of them levels
# leave the range in which the curve looks like itself.
_LARGER = 3.0
# Rows of the core from which a second BLAS thread pays.
_WORTH_THREADS = 2000


@dataclass(frozen=True)
class NonlinearProblem:
    """The objective, where its search starts, and how it was built from the design.

    ``basis`` is that of the designs side by side, ``exact`` tells whether derivatives of f are.
    """

    objective: NonlinearDeviance
    start: np.ndarray
    basis: ColumnBasis
    n_agq: int
    source: Source
    exact: bool = True


@dataclass(frozen=True)
class NLMMFit(MixedFit):
    """A fitted nonlinear mixed model.

    ``fixed_root`` is that of the information on the fixed effects from the Hessian over all
    parameters, so that variances take account of the covariance parameters being estimated.

    Attributes
    ----------
    group_modes : tuple of (s, l)
    slices : tuple of slice
        Kept columns of every parameter.
    owners : tuple of (s,) arrays
        Parameters of the effects of every group.
    n_steps, n_agq : int
    undecided : tuple of int
        Levels with several modes between which the search did not settle.
    covariance : (t + 1, t + 1) or None
        Of theta and log sigma, from the same Hessian; None at the joint mode.
    is_open : bool
        Whether the Hessian has no information on some function of the fixed effects.
    """

    group_modes: tuple = ()
    slices: tuple = ()
    owners: tuple = ()
    n_steps: int = 0
    n_agq: int = 1
    undecided: tuple = ()
    covariance: np.ndarray | None = None
    is_open: bool = False
    df_methods = ("asymptotic",)
    no_other_df = "other degrees of freedom are known of models that are linear in their effects"
    of_curves = True

    def refit(self, *, reml):
        """This fit: it is by maximum likelihood."""
        return self

    def _group_modes(self):
        return self.group_modes

    def parameters(self, X):
        """The fixed part (n, P) of the parameters, X (n, p) their designs side by side."""
        part = self.basis.orthonormal(X)
        return np.column_stack([part[:, at] @ self.gamma[at] for at in self.slices])

    def random_parameters(self, random):
        """What the random effects add to the parameters (n, P); an unknown level adds nothing.

        A term that is None is left out.
        """
        n = max(len(term.codes) for term in random if term is not None)
        phi = np.zeros((n, len(self.slices)))
        for term, at, modes in zip(random, self.layout.terms, self.modes, strict=True):
            if term is None:
                continue
            b = np.vstack([modes, np.zeros(at.size)])[term.codes]
            owner = self.owners[at.group][at.columns]
            np.add.at(phi.T, owner, (at.covariates(term.z) * b).T)
        return phi

    def mean_std(self, X, random, J=None):
        """Standard error (n,) of f at the estimated parameters, by the delta method.

        Parameters
        ----------
        X : (n, p)
            The designs of the parameters side by side.
        random : sequence of RandomTerm or None
            Code -1 adds the term's own variance; a term that is None is left out. Without any
            term that of f at the fixed part.
        J : (P, n)
            Slopes of f by the parameters.
        """
        x = self.basis.orthonormal(X)
        for k, at in enumerate(self.slices):
            x[:, at] *= J[k][:, None]
        if random is None:
            half = self.unscaled_on_basis(x)
            return self.sigma * np.sqrt(np.einsum("nr,nr->n", half, half))
        terms = [
            None if term is None else replace(term, z=term.z * J[self._owner(at)].T)
            for term, at in zip(random, self.layout.terms, strict=True)
        ]
        what = "standard errors of predictions"
        return self.sigma * np.sqrt(self._row_variances(x, terms, self.fixed_root, what))

    def _owner(self, at):
        return self.owners[at.group][at.columns]


@np.errstate(all="ignore")  # what is not finite is looked for where it matters
def nonlinear_problem(design, beta, n_agq=1):
    """The NonlinearProblem of a NonlinearDesign.

    Parameters
    ----------
    design : NonlinearDesign
    beta : sequence of (p_k,)
        Starting coefficients of the columns of every parameter.
    n_agq : int

    Raises
    ------
    NoMode
        Where the curve is not finite at the start.
    ValueError
        Where the curve does not depend on a parameter, or not on a column of its design.
    """
    freq = design.frequencies
    counts = np.ones(len(design.y)) if freq is None else freq
    w = np.ones(len(design.y)) if design.weights is None else design.weights
    pairs = zip(design.designs, design.intercepts, strict=True)
    bases = tuple(independent_columns(X, freq, at) for X, at in pairs)
    gamma = [b.rows @ own[b.kept] for b, own in zip(bases, beta, strict=True)]
    least = _least_squares(design, bases, counts * w, float(counts.sum()), gamma)
    sizes = _slope_sizes(least.rows, least.J, design)
    units = 1 / sizes[least.rows.fixed_owner]
    layout, owners = _layout(design, least, sizes)
    rows = replace(
        least.rows,
        Q=least.rows.Q * units,
        units=1 / sizes,
        owners=owners,
        pattern=Pattern.build(layout.groups, len(units)),
        joint=True,
    )
    theta = layout.initial()
    T = layout.factors(theta)
    u = [np.zeros((group.n_columns, group.n_levels)) for group in layout.groups]
    at = joint_start(mode_at(rows, least.gamma / units, u, T), T)
    check_unexplained(at)
    _check_slopes(at, design)
    rows = replace(rows, joint=n_agq == 0 or not design.random)
    near = Near(Start(replace(at, rows=rows)))
    constant = -float(counts @ np.log(w))
    common = rows, layout.without_rows(), constant, near
    if n_agq > 1 and layout.groups:
        rule = product_rule(n_agq, layout)
        objective = NonlinearQuadratureDeviance(*common, rule=rule, curve=design.value)
        scale = [math.log(math.sqrt(at.sigma2))]
    else:
        objective, scale = NonlinearDeviance(*common), []
    start = np.concatenate([at.gamma[: objective.n_gamma], theta, scale])
    basis = _joined_basis(bases, units)
    source = Source.of_curves(design, basis.kept, layout, owners)
    return NonlinearProblem(objective, start, basis, n_agq, source, design.exact)


def _least_squares(design, bases, w, n_obs, gamma):
    """The Mode of the model without random effects, or its start where that cannot be had."""
    Q = [basis.orthonormal(X) for basis, X in zip(bases, design.designs, strict=True)]
    ends = np.cumsum([0, *(q.shape[1] for q in Q)]).tolist()
    slices = tuple(slice(*ends) for ends in pairwise(ends))
    none = Pattern.build((), ends[-1])
    one = np.ones(len(Q))
    rows = NonlinearRows(
        design.y, w, n_obs, design.function, np.hstack(Q), slices, (), none, one, True
    )
    start = mode_at(rows, np.concatenate(gamma), [], [])
    if not math.isfinite(start.pwrss):
        raise NoMode("the curve is not finite at the starting values")
    sizes = _slope_sizes(rows, start.J, design)
    units = 1 / sizes[rows.fixed_owner]
    scaled = replace(rows, Q=rows.Q * units)
    found = joint_start(replace(start, rows=scaled, gamma=start.gamma / units), [])
    return replace(found, rows=rows, gamma=found.gamma * units)


def _slope_sizes(rows, J, design):
    """Root mean squares (P,) of the weighted slopes of f by its parameters."""
    sizes = np.sqrt(np.maximum(J**2 @ rows.w / rows.n_obs, 0.0))
    for name, size in zip(design.parameters, sizes, strict=True):
        if not size > 0:
            raise ValueError(
                f"the curve does not depend on the parameter {name!r} at its starting value: take "
                "it out of the curve, or give another start"
            )
    return sizes


def _layout(design, least, sizes):
    """The layout in which T = I gives every effect a standard deviation of sigma in f."""
    w = least.rows.w / least.rows.n_obs
    scales = []
    for term, owner in zip(design.random, design.owners, strict=True):
        size = np.sqrt(w @ (term.z * least.J[owner].T) ** 2)
        scales.append(1 / np.where(size > 0, size, sizes[owner]))
    layout = CovarianceLayout.build(design.random, design.frequencies, scales=scales)
    owners = []
    for g in range(len(layout.groups)):
        pairs = zip(layout.terms, design.owners, strict=True)
        owners.append(np.concatenate([own for term, own in pairs if term.group == g]))
    return layout, tuple(owners)


def _check_slopes(at, design):
    """Columns whose effects the slopes of the curve leave open are an error."""
    rows = at.rows
    columns = at.J[rows.fixed_owner].T * rows.Q
    aliased = np.flatnonzero(independent_columns(columns, rows.w).aliased)
    if not len(aliased):
        return
    k = rows.fixed_owner[aliased[0]]
    raise ValueError(
        f"the data do not determine the fixed effects of the parameter {design.parameters[k]!r}: "
        "at the best curve found its slopes are those of the other parameters. Take a parameter "
        "or a column of its design out, or give another start"
    )


@np.errstate(all="ignore")  # what is not finite is looked for where it matters
def fit_nlmm(problem, *, max_iter=100, tol=1e-8, callback=None):
    """NLMMFit at the minimum of the deviance.

    Raises
    ------
    NoMode
        If the deviance is not finite at the start.
    """
    objective = problem.objective
    with one_thread(objective.rows.pattern.dense_rows < _WORTH_THREADS):
        optimum, undecided = _searched(problem, max_iter, tol, callback)
        return _fit_at(problem, optimum, undecided)


def _searched(problem, max_iter, tol, callback):
    """The optimum, and the levels with other modes where the search did not settle."""
    objective = problem.objective
    start, n_evaluations = _lower_modes(objective, problem.start), 0
    sigma = math.sqrt(objective.near.state.mode.sigma2)
    n = objective.n_gamma
    units = np.repeat([sigma, 1.0], [n, len(start) - n])
    search = Search(
        objective.evaluate,
        objective.layout,
        n,
        rechart=lambda state: state.recharted(),
        max_iter=max_iter,
        tol=tol,
        callback=callback,
        units=units,
        larger=_LARGER,
    )
    for _ in range(_MAX_SEARCHES):
        try:
            optimum = search.run(start)
        except NoStart as error:
            raise NoMode(str(error)) from None
        n_evaluations += optimum.n_evaluations
        state = objective.in_own_chart(optimum.state)
        other = _other_modes(state)
        optimum = replace(optimum, state=state, n_evaluations=n_evaluations)
        if other is None:
            return optimum, ()
        objective.near.state = state = other
        start = optimum.theta
    return optimum, _moved_levels(state.mode, optimum.state.mode)


def _lower_modes(objective, start):
    """The start, after the first evaluation has looked for lower modes."""
    state = objective.evaluate(start)
    other = _other_modes(state) if math.isfinite(state.value) else None
    if other is not None:
        objective.near.state = other
    return start


def _other_modes(state):
    """The evaluation at a lower mode of u that is reached from u = 0, None if there is none.

    With one grouping factor the lower mode of every level counts, otherwise that of all.
    """
    objective, mode, T = state.objective, state.mode, state.T
    rows = objective.rows
    if not rows.groups:
        return None
    try:
        found = find_mode(mode_at(rows, mode.gamma, [0 * x for x in mode.u], T), T, near=False)
        if len(rows.groups) == 1:
            lower = _by_level(found) < _by_level(mode) - _OTHER_MODE * mode.sigma2
            if not lower.any():
                return None
            u = [np.where(lower, found.u[0], mode.u[0])]
            found = find_mode(mode_at(rows, found.gamma, u, T), T, near=False)
        if not found.pwrss < mode.pwrss - _OTHER_MODE * mode.sigma2:
            return None
        return objective.at_mode(state.parameters, found, T)
    except (NoMode, NotPositiveDefinite):
        return None


def _by_level(mode):
    """The penalised sum of squares of every level of the one grouping factor."""
    group, u = mode.rows.groups[0], mode.u[0]
    return np.bincount(group.codes, mode.squares, group.n_levels) + (u * u).sum(axis=0)


def _moved_levels(one, other):
    """Levels of the first grouping factor at which two modes differ."""
    far = np.abs(one.u[0] - other.u[0]).max(axis=0) > 1e-3 * math.sqrt(one.sigma2)
    return tuple(np.flatnonzero(far).tolist())


def _fit_at(problem, optimum, undecided):
    objective, state = problem.objective, optimum.state
    theta = objective.split(optimum.theta)[1]
    mode, rows = state.mode, objective.rows
    trace = tuple((value, objective.split(at)[1]) for value, at in optimum.trace)
    difference = _DIFFERENCE if problem.exact else _ROUGH_DIFFERENCE
    root, covariance, is_open = _uncertainty(state, difference)
    return NLMMFit(
        layout=objective.layout,
        basis=problem.basis,
        optimum=replace(optimum, theta=theta, state=None, trace=trace),
        factor=state.factor.without_rows(),
        fixed_root=root,
        gamma=mode.gamma,
        sigma=math.sqrt(state.sigma2),
        unit=1.0,
        deviance=float(optimum.value),
        reml=False,
        n_obs=rows.n_obs,
        n_params=rows.n_fixed + objective.layout.n_theta + 1,
        source=problem.source,
        group_modes=tuple(t @ x for t, x in zip(state.T, mode.u, strict=True)),
        slices=rows.slices,
        owners=rows.owners,
        n_steps=objective.near.n_steps,
        n_agq=problem.n_agq,
        undecided=undecided,
        covariance=covariance,
        is_open=is_open,
    )


def _joined_basis(bases, units):
    """One basis of the designs side by side."""
    begins = np.cumsum([0, *(len(basis.aliased) for basis in bases)])
    kept = [begin + basis.kept for begin, basis in zip(begins, bases, strict=False)]
    center = np.concatenate([basis.center + basis.offset for basis in bases])
    return ColumnBasis(
        kept=np.concatenate(kept),
        aliased=np.concatenate([basis.aliased for basis in bases]),
        combinations=block_diag(*(basis.combinations for basis in bases)),
        to_coef=block_diag(*(basis.to_coef for basis in bases)) * units,
        center=center,
        offset=np.zeros(len(center)),
        factor=np.asfortranarray(block_diag(*(basis.factor for basis in bases)) / units[:, None]),
        size=np.concatenate([basis.size for basis in bases]),
        lost_digits=np.concatenate([basis.lost_digits for basis in bases]),
        intercept=None,
    )


# Standard errors


def _uncertainty(state, difference=_DIFFERENCE):
    """Lower root (r, r) of sigma^2 times the information on gamma; covariance of the others.

    These are theta and log sigma; None where the Hessian of the deviance does not tell. Last
    whether that leaves the fixed effects open.
    """
    objective, own = state.objective, state.factor.fixed_root
    n = objective.n_gamma
    if not objective.layout.n_theta:
        return own, np.full((1, 1), 1.0 / (2.0 * objective.rows.n_obs)), False
    if not n:
        return own, None, False
    try:
        H = hessian_by_differences(state, difference)
    except (NoMode, NotPositiveDefinite):  # no mode there: the linearised model has to do
        return own, None, False
    if not np.isfinite(H).all():
        return own, None, False
    covariance = _with_scale(state, 2.0 * _inverse(H, _units(state)))[n:, n:]
    cross = H[:n, n:]
    information = state.sigma2 / 2 * (H[:n, :n] - cross @ _inverse(H[n:, n:], 1.0) @ cross.T)
    half = np.linalg.solve(own, np.linalg.solve(own, information).T)
    if np.linalg.eigvalsh((half + half.T) / 2)[0] < _OPEN:
        return own, None, True
    return np.linalg.cholesky(information), covariance, False


def _with_scale(state, covariance):
    """The covariance with log sigma last, which follows the others where it is profiled out."""
    slope = state.scale_slope
    if slope is None:
        return covariance
    cross = covariance @ slope
    last = 1.0 / (2.0 * state.objective.rows.n_obs) + slope @ cross
    return np.block([[covariance, cross[:, None]], [cross, np.full((1, 1), last)]])


def hessian_by_differences(state, difference=_DIFFERENCE):
    """Hessian (r + t, r + t) of the deviance, by differences of its exact gradient.

    Along the tangent of the mode the gradient is smooth to the last digit, no iteration adds its
    noise: steps can be so short that differences to one side have six digits.
    """
    at, units = state.parameters, _units(state)
    metric = state.metric * units**2
    metric = np.maximum(metric, 1e-6 * metric.max())
    H = np.empty((len(at), len(at)))
    for j, h in enumerate(difference * units / np.sqrt(metric)):
        moved = at.copy()
        moved[j] += h
        H[j] = (_neighbour(state, moved).gradient - state.gradient) / h
    return (H + H.T) / 2


def _neighbour(state, parameters):
    """The evaluation close to a state, at the mode's tangent instead of the mode.

    What the tangent misses is of second order.
    """
    objective = state.objective
    gamma, theta = objective.split(parameters)
    T = objective.layout.factors(theta)
    _, gamma_0, u = next(iter(state.expected_modes(parameters)))
    mode = mode_at(objective.rows, gamma_0 if objective.rows.joint else gamma, u, T)
    return objective.at_mode(parameters, mode, T)


def _inverse(A, units):
    """Inverse of a symmetric matrix on the directions that carry information, in these units."""
    units = np.broadcast_to(units, len(A))
    values, vectors = np.linalg.eigh(units[:, None] * A * units)
    known = values > _FLAT * max(values[-1], 0.0)
    half = units[:, None] * vectors[:, known] / np.sqrt(values[known])
    return half @ half.T


def _units(state):
    """Sizes of the parameters of the search: gamma has the units of the response."""
    n = state.objective.n_gamma
    return np.repeat([math.sqrt(state.sigma2), 1.0], [n, len(state.parameters) - n])
