"""The penalised system of a mixed model and its factor: all that the models see of them.

For relative covariance factors T the system is

    Omega = Lt' A Lt + diag(I, 0, 0),    A = [Z X y]' W [Z X y],    Lt = blockdiag(Lambda, I, 1)

with Lambda = blockdiag(T, ..., T) over the levels of every group. In which order the groups are
eliminated, which of them stay sparse, how vectors are stored meanwhile: none of that is known
outside of this package. Groups and levels are in the user's order here, wherever they appear.

Another way to solve the system is another pair of classes with the methods of these two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from skmixed.linalg.cholesky import BlockedFactor, NotPositiveDefinite, factor, multiply
from skmixed.linalg.crossproducts import CrossProducts, assemble
from skmixed.linalg.effects import (
    Effects,
    as_given,
    from_parts,
    in_given_order,
    random_parts,
    to_parts,
)
from skmixed.linalg.exact import DenseForms
from skmixed.linalg.groups import Group, RelatedGroup
from skmixed.linalg.leverages import leverages, row_products
from skmixed.linalg.marginal import MarginalInverse
from skmixed.linalg.pattern import COPIES, GramPlan
from skmixed.linalg.row_norms import row_norms
from skmixed.linalg.selected import conditional_blocks, information, selected_inverse
from skmixed.linalg.stacked import draws, summaries, with_added
from skmixed.linalg.sums import Sums, cross_products, sums_of
from skmixed.linalg.traces import Direction

__all__ = [
    "Direction",
    "Effects",
    "Factor",
    "Group",
    "NotPositiveDefinite",
    "Pattern",
    "RelatedGroup",
    "Selected",
    "Sums",
    "System",
]


@dataclass(frozen=True, eq=False)
class Pattern:
    """What the rows and their grouping say of the system before any weight: found once."""

    groups: tuple[Group, ...]
    _plan: GramPlan

    @classmethod
    def build(cls, groups, n_fixed, *, chain_from=0):
        """Pattern for groups beside n_fixed columns of X.

        With fewer than ``chain_from`` effects in all the whole system is one small dense matrix.
        """
        return cls(tuple(groups), GramPlan.build(groups, n_fixed + 1, chain_from=chain_from))

    @cached_property
    def without_fixed(self):
        """The pattern of the random effects alone."""
        return replace(self, _plan=replace(self._plan, n_tail=1))

    def with_covariates(self, z):
        """The pattern of the same levels with other covariates z (n, s), one for every group."""
        pairs = zip(self.groups, z, strict=True)
        groups = tuple(replace(group, z=own) for group, own in pairs)
        moved = zip(self._plan.groups, self._plan.order, strict=True)
        own = tuple(replace(group, z=z[g]) for group, g in moved)
        return replace(self, groups=groups, _plan=replace(self._plan, groups=own))

    @property
    def dense_rows(self):
        """Rows of the largest matrix that is factored as one."""
        return _dense_rows(self._plan)

    def system(self, weights, X, y=None):
        """System of the rows for weights (n,) or None, X (n, r) and a response y (n,) if any."""
        return System(assemble(self._plan, weights, X, y))


@dataclass(frozen=True, eq=False)
class System:
    """Cross-products [Z X y]'W[Z X y]: nothing in them depends on the number of rows."""

    _products: CrossProducts

    @classmethod
    def of_sums(cls, sums, *, chain_from=0):
        """System of the rows behind `Sums`, as `Pattern.build` and `Pattern.system` make it."""
        groups, n_tail = sums.groups, len(sums.tail)
        plan = GramPlan.build(groups, n_tail, chain_from=chain_from, together=sums.together)
        return cls(cross_products(plan, sums))

    def gram(self):
        """[Z X]'W[Z X] as a dense matrix: groups as given, their levels one after the other."""
        groups, r = self._plan.groups, self._plan.n_tail - 1
        sizes = [groups[self._plan.order.index(g)] for g in range(len(groups))]
        total = sum(group.size for group in groups) + r
        random, begin = [], 0
        for group in sizes:
            unit = np.zeros((group.n_levels, group.n_columns, total))
            unit.reshape(group.size, total)[:, begin : begin + group.size] = np.eye(group.size)
            random.append(unit.transpose(1, 2, 0))
            begin += group.size
        found = self.times(Effects(random, np.eye(r, total, total - r)))
        blocks = [x.transpose(2, 0, 1).reshape(-1, total) for x in found.random]
        return np.vstack([*blocks, found.fixed])

    def with_gram(self, added):
        """The system, of one dense matrix, with a matrix as :meth:`gram` gives it added to it."""
        plan = self._plan
        if plan.n_chain:
            raise ValueError("a system with sparse groups has no dense matrix to add to")
        first, begin = {}, 0
        for g in range(len(plan.order)):
            first[g] = begin
            begin += plan.groups[plan.order.index(g)].size
        pairs = zip(plan.order, plan.groups, strict=True)
        order = [np.arange(first[g], first[g] + group.size) for g, group in pairs]
        order = np.concatenate([*order, np.arange(begin, len(added))])
        core = self._products.core.copy()
        core[:-1, :-1] += added[np.ix_(order, order)]
        return System(replace(self._products, core=core))

    def sums(self):
        """`Sums` of the rows behind the system, to which those of other rows can be added."""
        return sums_of(self._products)

    def factor(self, T):
        """Factor for relative covariance factors T, one (s, s) array for every group.

        Raises
        ------
        NotPositiveDefinite
            When the system has no factor there.
        """
        return Factor(tuple(T), factor(self._products, [T[g] for g in self._plan.order]))

    def times(self, v):
        """[Z X]'W[Z X] v."""
        return from_parts(self._plan, multiply(self._products, to_parts(self._plan, v)))

    def own(self, g):
        """Diagonal blocks of Z'WZ (s, s, l) of group g."""
        plan = self._plan
        i = plan.order.index(g)
        if i < plan.n_chain:
            return as_given(plan, i, self._products.chain[i].own)
        return self._products.core_blocks(i - plan.n_chain)

    @property
    def fixed_gram(self):
        """X'WX (r, r)."""
        at = slice(self._plan.q_core, self._plan.q_core + self._plan.n_tail - 1)
        return np.array(self._products.core[at, at])

    def with_response(self, cross, square):
        """The system of another response y, from [Z X]'Wy (Effects of one column) and y'Wy."""
        parts = to_parts(self._plan, cross)
        return System(self._products.with_response(parts, square))

    def with_ridge(self, ridge):
        """The system with X'WX + ridge in the place of X'WX: a number times I, or a matrix."""
        r = self._plan.n_tail - 1
        added = np.zeros((r + 1, r + 1))
        added[:r, :r] = ridge if np.ndim(ridge) else ridge * np.eye(r)
        return self.with_added(added)

    def with_added(self, added):
        """The system with [X y]'W[X y] + added (r + 1, r + 1) in the place of [X y]'W[X y]."""
        return System(with_added(self._products, added))

    def summaries(self, T, added=None):
        """What the factors at m relative covariance factors say, small systems all at once.

        Parameters
        ----------
        T : list of (m, s, s), by group
        added : (m, r + 1, r + 1), optional
            What :meth:`with_added` adds for each.

        Returns
        -------
        Summaries
            Arrays log_det_u, log_det_x, pwrss, fixed and fixed_root, m first; NaN where there is
            no factor.
        """
        return summaries(self._products, [T[g] for g in self._plan.order], added)

    def draws(self, T, scale, normal, added=None):
        """Normal draws of random effects b and fixed effects at m relative covariance factors.

        Their mean is the mode, their covariance scale^2 times the inverse of the mixed-model
        equations. Equal neighbours in T share a factor.

        Parameters
        ----------
        T : list of (m, s, s), by group
        scale : (m,)
        normal : Effects
            Standard normal numbers, m columns. The fixed effects depend on theirs alone.
        added : (m, r + 1, r + 1), optional
            What :meth:`with_added` adds for each.

        Returns
        -------
        Effects
        """
        plan = self._plan
        parts = [normal.random[g] for g in plan.order] + [normal.fixed]
        found, fixed = draws(self._products, [T[g] for g in plan.order], scale, parts, added)
        random = [as_given(plan, i, x) for i, x in enumerate(found)]
        return Effects(in_given_order(plan, random), fixed.T)

    def without_rows(self):
        """The same system, with nothing in it that has the length of the data."""
        return System(self._products.without_rows())

    @property
    def dense_rows(self):
        """Rows of the largest matrix that is factored as one."""
        return _dense_rows(self._plan)

    def memory(self):
        """Bytes that the system, its factor and the inverse on the pattern take together."""
        return int(COPIES * self._products.nbytes)

    @property
    def _plan(self):
        return self._products.plan


@dataclass(frozen=True, eq=False)
class Factor:
    """A factor of the penalised system at T; it holds what it is a factor of and nothing else.

    Attributes
    ----------
    T : tuple of (s, s)
    noise : float
        Standard deviation of the numerical error of :attr:`log_det_u`, in its own units: 0.0, this
        factor is exact.
    """

    T: tuple
    _blocked: BlockedFactor

    noise: ClassVar[float] = 0.0

    @property
    def system(self):
        """The system that was factored."""
        return System(self._blocked.products)

    @property
    def has_system(self):
        """Whether :attr:`system` is still there, as it is not in a :meth:`compact` factor."""
        return len(self._blocked.products.core) == _dense_rows(self._plan)

    @property
    def log_det_u(self):
        """log |Lambda'Z'WZ Lambda + I|."""
        return self._blocked.log_det_u

    @property
    def log_det_x(self):
        """log |X'V0^-1X|, V0 = W^-1 + Z Lambda Lambda'Z'."""
        return self._blocked.log_det_x

    @property
    def pwrss(self):
        """Penalised weighted residual sum of squares r^2."""
        return self._blocked.pwrss

    @property
    def fixed_root(self):
        """Lower root (r, r) of X'V0^-1X."""
        return self._blocked.fixed_root

    @cached_property
    def mode(self):
        """Conditional modes b and generalised least-squares coefficients (Effects, one column)."""
        return from_parts(self._plan, self._blocked.mode)

    @cached_property
    def scores(self):
        """c = Z'W(y - X beta - Z b), and zeros for X (Effects, one column)."""
        plan = self._plan
        return Effects(random_parts(plan, self._blocked.scores), np.zeros((plan.n_tail - 1, 1)))

    @property
    def is_definite(self):
        """Whether Lambda'Z'WZ Lambda + I is."""
        return bool(np.isfinite(self.log_det_u))

    def modes(self, v, u, *, fixed=True):
        """Solution of the mixed-model equations as :meth:`solve`, and its spherical effects.

        The latter are a list of (s, l) with Lambda times them the solution. u: what they may be
        near to, which factors that iterate start from.
        """
        x, rest = self.solve(v, fixed=fixed)
        return x, [t.T @ c for t, c in zip(self.T, rest.levels(), strict=True)]

    def solve(self, v, *, fixed=True):
        """Solution x of the mixed-model equations, and the rest v - [Z X]'W[Z X] x.

        (Lambda^-T Lambda^-1 + Z'WZ) b + Z'WX beta = v and X'WZ b + X'WX beta = v.fixed, written
        so that a singular Lambda is allowed; with ``fixed`` False beta is zero instead.
        """
        x, rest = self._blocked.solve(to_parts(self._plan, v), fixed=fixed)
        return from_parts(self._plan, x), from_parts(self._plan, rest)

    def quadratic_forms(self, a, za=None, *, fixed=True):
        """a'Z'P0 Z a (k, k) for vectors a whose fixed part is zero.

        P0 = V0^-1 - V0^-1 X (X'V0^-1X)^-1 X'V0^-1, or V0^-1 with ``fixed`` False. za: the system
        times a, where that is known.
        """
        a = to_parts(self._plan, a)
        if za is None:
            za = multiply(self._blocked.products, a)
        else:
            za = to_parts(self._plan, za)
        return self._blocked.quadratic_forms(a, za, fixed=fixed)

    def information(self, *, fixed, response):
        """Sum over levels of diagonal blocks of Z'PZ: a list of (s, s).

        P = V0^-1 - fixed V0^-1 X (X'V0^-1X)^-1 X'V0^-1 - response (V0^-1 e)(V0^-1 e)'/ r^2 with e
        the residual of generalised least squares.
        """
        return self._as_given(information(self._blocked, fixed, response))

    def forms(self, *, fixed):
        """Forms that exact second derivatives are had from, None where the system is not small."""
        forms = DenseForms.of(self._blocked, fixed)
        return None if forms is None else Forms(forms)

    def marginal(self):
        """V0^-1 between the columns of Z, X and y: ``fixed``, ``fixed_root``, ``coefficients``,
        ``effects_fixed``, ``times(effects)``, ``traces(directions)`` if they have room."""
        return MarginalInverse(self._blocked)

    def selected(self):
        """The inverse of the random effects' part of the system, on the pattern of Z'WZ."""
        return Selected(self._plan, selected_inverse(self._blocked, 0.0, 0.0, every=True))

    def conditional_blocks(self):
        """Diagonal blocks of Lambda (Lambda'Z'WZ Lambda + I)^-1 Lambda': a list of (s, s, l)."""
        blocks = conditional_blocks(self._blocked)
        return self._as_given([as_given(self._plan, i, x) for i, x in enumerate(blocks)])

    def row_norms(self, codes, z, x, fixed_root=None):
        """Variance (n,), in units of sigma^2, of x'(beta-hat - beta) + z'(b-hat - b).

        Parameters
        ----------
        codes : list of (n,)
            Level of every row in every group, -1 for an unknown one.
        z : list of (n, s)
        x : (n, r)
        fixed_root : (r, r), optional
            Lower root of the information on the fixed effects, if not :attr:`fixed_root`.
        """
        order, positions = self._plan.order, self._plan.positions
        moved = [
            codes[g] if place is None else np.append(place, -1)[codes[g]]
            for g, place in zip(order, positions, strict=True)
        ]
        return row_norms(self._blocked, moved, [z[g] for g in order], x, fixed_root)

    def ranks(self):
        """Place of every random effect in the order of elimination: a list of (s, l)."""
        plan, begin, ranks = self._plan, 0, []
        for i, group in enumerate(plan.groups):
            own = np.arange(begin, begin + group.size).reshape(group.n_levels, group.n_columns).T
            ranks.append(as_given(plan, i, own))
            begin += group.size
        return self._as_given(ranks)

    def without_rows(self):
        """The same factor, with nothing in it that has the length of the data."""
        products = self._blocked.products.without_rows()
        return replace(self, _blocked=replace(self._blocked, products=products))

    def compact(self, limit):
        """What :meth:`row_norms` and :meth:`ranks` need, or None if it takes over limit bytes."""
        small = self._blocked.compact(limit)
        return None if small is None else replace(self, _blocked=small)

    def _as_given(self, by_group):
        return in_given_order(self._plan, by_group)

    @property
    def _plan(self):
        return self._blocked.plan


class Forms:
    """Z'PZ between all random effects at a factor of a small system.

    ``tangents`` are the derivatives D (p, s, s) of T T' by the p parameters of every group,
    ``places`` where these are among all t: a list of slices, one after the other, or indices (p,).
    """

    def __init__(self, dense):
        self._dense = dense

    def information(self, response):
        """As :meth:`Factor.information`."""
        return self._dense.information(response)

    def average(self, tangents, places, response):
        """Average information (t, t), and h (t,): c'D_j c / r^2 with the scores c."""
        found, h = self._dense.average(tangents, response)
        at = _moved(places)
        return (found, h) if at is None else (found[at[:, None], at], h[at])

    def traces(self, tangents, places):
        """tr(D_j Z'PZ D_k Z'PZ) (t, t)."""
        found, at = self._dense.traces(tangents), _moved(places)
        return found if at is None else found[at[:, None], at]


def _moved(places):
    """Indices (t,) that take parameters by group to their places, None if these are the same."""
    if all(isinstance(at, slice) for at in places):
        return None
    t = sum(at.stop - at.start if isinstance(at, slice) else len(at) for at in places)
    return np.argsort(np.concatenate([np.arange(t)[at] for at in places]))


class Selected:
    """M = Lambda (Lambda'Z'WZ Lambda + I)^-1 Lambda' where Z'WZ has entries.

    Attributes
    ----------
    information : list of (s, s)
        Sum over levels of the diagonal blocks of Z'V0^-1 Z, by group.
    """

    def __init__(self, plan, inverse):
        self._plan, self._inverse = plan, inverse
        self.information = in_given_order(plan, inverse.information)

    def leverages(self):
        """z_i'M z_i (n,) of the rows that the system was made of."""
        return leverages(self._plan, self._inverse)

    def row_products(self):
        """M z_i at the effects of the row's own levels: a list of (n, s) by group."""
        return in_given_order(self._plan, row_products(self._plan, self._inverse))


def _dense_rows(plan):
    return plan.q_core + plan.n_tail
