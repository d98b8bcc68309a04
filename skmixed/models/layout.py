"""The random-effects terms of a model: which entries of theta are whose, and in which units.

The engine works on covariates that are centred (where the term has a constant and free
correlations) and scaled to be orthonormal over the rows: z = z_user M. With b_user = M b the
covariance M T T' M' is the user's, so that slopes on covariates of any scale and shift cost the
same number of evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from skmixed.linalg.system import Effects, Group
from skmixed.models.structured import Correlated, SideBySide, has_equal_variances, make_structure
from skmixed.models.structures import (
    SINGULAR,
    Restricted,
    Structure,
    Unstructured,
    canonical_factor,
    is_singular,
    triangle,
    unstructured,
)
from skmixed.models.term_layout import TermLayout
from skmixed.models.units import in_scale, in_unit_variances, standardise

# Singular values of correlations at positions that are close, as a share of the largest.
_RANK = 1e-11
# Standard deviations of several curves in another start, as a share of those in the first.
_STIFFER = 0.1


@dataclass(frozen=True)
class CovarianceLayout:
    """All random-effects terms of a model, merged by grouping factor; the owner of theta.

    Attributes
    ----------
    groups : tuple of Group
        In the order in which the formula names them.
    terms : tuple of TermLayout
    structures : tuple of Structure
        Covariance of every group's effects.
    places : tuple of slice or array
        Where every group's parameters are in theta.
    n_theta : int
    """

    groups: tuple[Group, ...]
    terms: tuple[TermLayout, ...]
    structures: tuple[Structure, ...]
    places: tuple
    n_theta: int

    @classmethod
    def build(cls, random, weights=None, *, scales=None, fixed_weights=False):
        """Layout of the terms ``random`` (RandomTerm, in the user's order).

        ``scales``: for every term the factors (s,) that its covariates are to be taken times,
        instead of being centred and made orthonormal. ``fixed_weights``: the rows keep these
        weights, so that independent levels behind related ones may be chosen for them.
        """
        names = list(dict.fromkeys(term.group for term in random))
        columns, places, structures = ([[] for _ in names] for _ in range(3))
        layouts, n_theta, groups, loadings = [], 0, {}, {}
        alone = fixed_weights and len(random) == 1
        for t, term in enumerate(random):
            g = names.index(term.group)
            groups.setdefault(g, term)
            scale = standardise(term, weights) if scales is None else in_scale(term, scales[t])
            scale = in_unit_variances(term, scale)
            s, first = len(scale.M), sum(z.shape[1] for z in columns[g])
            if g not in loadings:
                loadings[g] = _loadings(term, scale.z, weights, alone and s == 1)
            layouts.append(
                TermLayout(
                    g,
                    slice(first, first + s),
                    term.names,
                    scale.M,
                    scale.center,
                    scale.scale,
                    term.structure,
                    loadings[g],
                )
            )
            columns[g].append(scale.z)
            structures[g].append(_structure_of(term))
            end = n_theta + structures[g][-1].n_params
            places[g].append(np.arange(n_theta, end))
            n_theta = end
        return cls(
            tuple(_group(groups[g], z, loadings[g], weights, alone) for g, z in enumerate(columns)),
            tuple(layouts),
            tuple(_of_group(own, z) for own, z in zip(structures, columns, strict=True)),
            tuple(_as_slice(np.concatenate(at)) for at in places),
            n_theta,
        )

    def restricted(self, t, space):
        """The layout where term t has fewer effects.

        Parameters
        ----------
        t : int
        space : (s, k) array
            The covariates of the fewer effects are ``z @ space``, z the user's covariates.
        """
        term, structures, places = self.terms[t], [], []
        for g, group in enumerate(self.groups):
            own = self.structures[g]
            if g == term.group:
                own = _within(self._terms_of(g), t, group.n_columns, space)
            structures.append(own)
            begin = places[-1].stop if places else 0
            places.append(slice(begin, begin + own.n_params))
        return replace(self, structures=tuple(structures), places=tuple(places),
                       n_theta=places[-1].stop)  # fmt: skip

    def _terms_of(self, g):
        """{number: TermLayout} of the terms of a group."""
        return {t: term for t, term in enumerate(self.terms) if term.group == g}

    def without_rows(self):
        """The layout without codes and covariates."""
        return replace(self, groups=tuple(group.without_rows() for group in self.groups))

    def groups_of(self, random):
        """The groups with the rows of terms (RandomTerm, in the order of this layout's)."""
        z, rows = [[] for _ in self.groups], {}
        for term, at in zip(random, self.terms, strict=True):
            rows[at.group] = at.rows(term)
            z[at.group].append(at.covariates(term.z))
        return tuple(replace(rows[g], z=np.hstack(own)) for g, own in enumerate(z))

    # What the engine asks

    def _by_group(self, theta):
        """(structure, its parameters) of every group."""
        for structure, at in zip(self.structures, self.places, strict=True):
            yield structure, theta[at]

    def _joined(self, by_group):
        """theta from the parameters of every group."""
        theta = np.empty(self.n_theta)
        for at, phi in zip(self.places, by_group, strict=True):
            theta[at] = phi
        return theta

    def initial(self):
        """theta with every T the identity (in orthonormal covariates)."""
        return self.diagonal([np.ones(group.n_columns) for group in self.groups])

    def other_starts(self, theta):
        """theta where another mode may be: other correlations, several curves stiffer.

        Two curves may share the wiggles of the response in more than one way.
        """
        starts = []
        curves = [self.parameters_of(t) for t, term in enumerate(self.terms) if term.is_smooth]
        if len(curves) > 1:
            starts.append(theta.copy())
            starts[-1][np.concatenate(curves)] *= _STIFFER
        for t in self._structured:
            own, at = self._own_structure(t), self.parameters_of(t)[-1:]
            if not isinstance(own, Correlated) or not own.R.n_params:
                continue
            for eta in own.R.other_starts(*theta[at]):
                starts.append(theta.copy())
                starts[-1][at] = eta
        return starts

    def _own_structure(self, t):
        """The structure of a structured term."""
        own = self.structures[self.terms[t].group]
        return own.part(self.terms[t].columns)[0] if isinstance(own, SideBySide) else own

    def diagonal(self, spreads):
        """theta of independent effects with these standard deviations (s,), by group."""
        return self.from_factors([np.diag(spread) for spread in spreads])

    def from_factors(self, T):
        """theta of the covariances T T', T (s, s) by group."""
        pairs = zip(self.structures, T, strict=True)
        return self._joined([own.from_factor(T_g) for own, T_g in pairs])

    def scaled(self, theta, factor):
        """theta of all covariances times factor^2."""
        return self._joined([own.scaled(phi, factor) for own, phi in self._by_group(theta)])

    def singular_terms(self, theta):
        """For every term, whether its covariance is singular (in any units of its covariates)."""
        found = list(self._by_group(theta))
        return tuple(
            found[t.group][0].is_singular(found[t.group][1], t.columns) for t in self.terms
        )

    @property
    def is_structured(self):
        """Whether a term has another structure than the unstructured one."""
        return any(term.kind != "us" for term in self.terms)

    def natural(self, theta, t):
        """Indices in theta of the parameters of a structured term, and these as people read them.

        They are in the engine's units, see :class:`skmixed.models.structured.Natural`.
        """
        at = self.parameters_of(t)
        return at, self._own_structure(t).natural(theta[at])

    def kriged(self, theta, t, places, new):
        """(weights (n, s), share of the variance that is left (n,)) of a spatial term elsewhere.

        Parameters
        ----------
        places : (s, d)
            Where the effects of the term are.
        new : (n, d)
            Where they are wanted: the conditional mean given the effects has these weights.
        """
        R, steps = self._own_structure(t).R, new[:, None, :] - places
        eta = theta[self.parameters_of(t)][-1:]
        k = R.between(np.sqrt(np.einsum("nsd,nsd->ns", steps, steps)), eta)
        weights = np.linalg.lstsq(R.at(eta)[0], k.T, rcond=_RANK)[0].T
        return weights, np.clip(1.0 - np.einsum("ns,ns->n", weights, k), 0.0, 1.0)

    def correlations(self, theta, t):
        """Correlations (s (s - 1) / 2,) between the effects of term t, none without variances."""
        term = self.terms[t]
        T = self.structures[term.group].factor(theta[self.places[term.group]])[term.columns]
        size = np.sqrt(np.einsum("sk,sk->s", T, T))
        if not size.all():
            return np.zeros(0)
        R = T @ T.T / np.multiply.outer(size, size)
        return R[np.triu_indices(len(R), 1)]

    def natural_values(self, theta, t):
        """{name: value} of a structured term, standard deviations in the user's units."""
        return {
            self.natural_name(t, p): p.value * self.natural_unit(t, p)
            for p in self.natural(theta, t)[1]
        }

    def natural_name(self, t, p):
        """How a natural parameter of term t is called: by its effect where there are several."""
        several = p.kind == "sd" and not has_equal_variances(self.terms[t].kind)
        return f"sd {self.terms[t].names[p.effects[0]]}" if several else p.name

    def natural_unit(self, t, p):
        """What takes a natural parameter of term t to the user's units, sigma = 1."""
        return abs(self.terms[t].M[p.effects[0], p.effects[0]]) if p.kind == "sd" else 1.0

    def parameters_of(self, t):
        """Indices in theta of the parameters of term t."""
        term = self.terms[t]
        own = self.structures[term.group].parameters_of(term.columns)
        return np.arange(self.n_theta)[self.places[term.group]][own]

    def factors(self, theta):
        """T (s, s) of every group."""
        return [structure.factor(phi) for structure, phi in self._by_group(theta)]

    def gradient(self, theta, G):
        """Derivative (t,) of a criterion whose derivative by T T' is G[g] (s, s), by group."""
        pairs = zip(self._by_group(theta), G, strict=True)
        return self._joined([own.gradient(phi, G_g) for (own, phi), G_g in pairs])

    def gradient_by_factors(self, D):
        """Derivative (t,) of a criterion whose derivative by T itself is D[g] (s, s), by group.

        For what depends on more of T than the covariance T T': the nodes of a quadrature.
        """
        pairs = zip(self.structures, D, strict=True)
        return self._joined([own.gradient_by_factor(D_g) for own, D_g in pairs])

    def curvature(self, theta, G):
        """Second derivative (t, t) through T T' alone, G[g] (s, s) as in :meth:`gradient`."""
        H = np.zeros((self.n_theta,) * 2)
        for (structure, phi), at, G_g in zip(self._by_group(theta), self.places, G, strict=True):
            H[at if isinstance(at, slice) else at[:, None], at] = structure.curvature(phi, G_g)
        return H

    def covariance(self, theta, g):
        """Covariance of the effects of group g with its derivatives.

        Returns
        -------
        tuple
            Indices (p,) of its parameters in theta; T T' (s, s); its derivatives (p, s, s); and
            <G, second derivatives> (p, p) as a function of G (s, s).
        """
        structure, at = self.structures[g], np.arange(self.n_theta)[self.places[g]]
        phi = theta[at]
        T = structure.factor(phi)
        return at, T @ T.T, structure.tangents(phi), partial(structure.curvature, phi)

    def covariance_tangents(self, theta):
        """Derivatives (p, s, s) of T T' of every group by its own parameters."""
        return [structure.tangents(phi) for structure, phi in self._by_group(theta)]

    def tangents(self, theta, scores):
        """a_j = d(Lambda Lambda')_j c for every theta[j]: Effects with t columns, for scores c."""
        random, t = [], self.n_theta
        for (structure, phi), at, c in zip(
            self._by_group(theta), self.places, scores.levels(), strict=True
        ):
            moved = structure.directions(phi, c)
            if len(phi) < t:
                own, moved = moved, np.zeros((len(c), t, c.shape[1]))
                moved[:, at] = own
            random.append(moved)
        return Effects(random, np.zeros((len(scores.fixed), t)))

    # Coordinates

    def recharted(self, theta):
        """(layout, theta) of the same covariances in smooth coordinates; None if these are so."""
        moved = [own.recharted(phi) for own, phi in self._by_group(theta)]
        if all(m is None for m in moved):
            return None
        pairs = zip(moved, self._by_group(theta), strict=True)
        kept = [as_it_is if found is None else found for found, as_it_is in pairs]
        layout = replace(self, structures=tuple(structure for structure, _ in kept))
        return layout, layout._joined([phi for _, phi in kept])

    def upright(self, theta):
        """theta of the same covariances in the coordinates of :meth:`build`."""
        return self._joined([own.upright(phi) for own, phi in self._by_group(theta)])

    def settled(self, theta, negligible):
        """theta with standard deviations below ``negligible`` (in the engine's units) at zero."""
        return self._joined([own.settled(phi, negligible) for own, phi in self._by_group(theta)])

    # What the user sees

    def term_factor(self, theta, t):
        """T (s, s) of term t, lower triangular with diagonal >= 0, in the user's units."""
        return self._in_user_units(self.factors(theta), t)

    def _in_user_units(self, factors, t):
        term = self.terms[t]
        T = factors[term.group][term.columns, term.columns]
        # what is regular stays so in any units, however far from zero the covariates are
        return canonical_factor(term.M @ T, SINGULAR if is_singular(T) else 0.0)

    @property
    def _user_order(self):
        """lme4's order of the terms: most levels first.

        Where the formula has that order already it stays; otherwise terms with as many levels are
        in the reverse of the formula's order, as R's ``rev(order(levels))`` leaves them.
        """
        levels = {
            t: self.groups[term.group].n_levels
            for t, term in enumerate(self.terms)
            if term.kind == "us"
        }
        order = list(levels)
        if all(a >= b for a, b in pairwise(levels.values())):
            return order
        return sorted(reversed(order), key=lambda t: -levels[t])

    def user_theta(self, theta):
        """theta in the user's units and lme4's order, then the parameters of structured terms."""
        factors = self.factors(theta)
        parts = [
            self._in_user_units(factors, t)[triangle(self.terms[t].size)] for t in self._user_order
        ]
        for t in self._structured:
            parts.append(np.array(list(self.natural_values(theta, t).values())))
        return np.concatenate(parts) if parts else np.zeros(0)

    @property
    def _structured(self):
        """The structured terms, in the formula's order."""
        return [t for t, term in enumerate(self.terms) if term.kind != "us"]

    def from_user_theta(self, user_theta):
        """Engine theta for a theta in the user's units and lme4's order, of unstructured terms."""
        if self.is_structured:
            raise ValueError("parameters of structured terms are not made from a vector theta")
        factors, begin = [np.zeros((g.n_columns,) * 2) for g in self.groups], 0
        for t in self._user_order:
            term = self.terms[t]
            T, own = np.zeros((term.size, term.size)), triangle(term.size)
            end = begin + len(own[0])
            T[own] = user_theta[begin:end]
            factors[term.group][term.columns, term.columns] = np.linalg.solve(term.M, T)
            begin = end
        return self.from_factors(factors)

    @property
    def names(self):
        """(term, row, column) of the entries of :meth:`user_theta` in triangles: two effects."""
        return [
            (t, self.terms[t].names[i], self.terms[t].names[k])
            for t in self._user_order
            for i, k in zip(*triangle(self.terms[t].size), strict=True)
        ]


def _group(term, columns, loadings, weights, alone):
    """The grouping factor of a term with the covariates of all of its terms."""
    z = columns[0] if len(columns) == 1 else np.hstack(columns)
    group = Group(term.codes, z, term.n_levels)
    if loadings is None:
        return group
    diagonal = alone and z.shape[1] == 1
    return group.related(loadings, _square_sums(term, z, weights) if diagonal else None)


def _square_sums(term, z, weights):
    """Weighted sums (q,) of the squares of the only covariate."""
    squares = np.square(z[:, 0])
    return np.bincount(term.codes, squares if weights is None else squares * weights, term.n_levels)


def _structure_of(term):
    """Structure of one term."""
    if term.structure == "us":
        return Unstructured((len(term.names),))
    return make_structure(term.structure, len(term.names), term.places)


def _of_group(structures, columns):
    """The structure of all terms of a group, with covariates z (n, s) each."""
    if all(isinstance(own, Unstructured) for own in structures):
        return unstructured(tuple(z.shape[1] for z in columns))
    if len(structures) == 1:
        return structures[0]
    return SideBySide.of(structures, [z.shape[1] for z in columns])


def _within(terms, t, n_columns, space):
    """The Restricted structure of a group in which term t has the covariates z @ space."""
    blocks, sizes = [], []
    for number, term in terms.items():
        block = np.zeros((n_columns, term.size))
        block[term.columns] = np.eye(term.size)
        if number == t:
            inside = np.linalg.solve(term.M, space) if space.size else np.zeros((term.size, 0))
            block = block @ np.linalg.qr(inside)[0]
        blocks.append(block)
        sizes.append(block.shape[1])
    return Restricted(Unstructured(tuple(s for s in sizes if s)), np.hstack(blocks))


def _loadings(term, z, weights, alone):
    """L (q, l) of related levels; where z is the only covariate L'Z'WZ L is diagonal."""
    if term.relationship is None:
        return None
    if not alone:
        return term.relationship.factor
    return term.relationship.diagonalising(_square_sums(term, z, weights))


def _as_slice(at):
    """Indices as a slice where they follow one another: views instead of copies."""
    contiguous = len(at) and np.array_equal(at, np.arange(at[0], at[0] + len(at)))
    return slice(int(at[0]), int(at[0]) + len(at)) if contiguous else at
