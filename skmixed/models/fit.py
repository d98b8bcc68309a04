"""A fitted mixed model in the user's units: what linear and generalised fits have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.linalg import solve_triangular

from skmixed.linalg.iterative_factor import IterativeFactor
from skmixed.linalg.rank import ColumnBasis
from skmixed.linalg.system import Effects, Factor
from skmixed.linalg.threads import one_thread
from skmixed.models.apart import Apart
from skmixed.models.layout import CovarianceLayout
from skmixed.models.optimize import Optimum
from skmixed.models.questions import Questions
from skmixed.models.source import Source

# A factor larger than this stays out of pickles.
_PICKLED_FACTOR_BYTES = 1 << 24
# A column's share in the linear predictor, as a multiple of the whole, up to which coefficients are
# multiplied with the columns themselves: beyond, the digits that cancel are kept by the basis.
_FOLDED = 1e4
# Numbers held at a time in right-hand sides.
_NUMBERS = 1 << 23
# Kinds of standard deviations of random effects, and where their variances are.
EFFECTS_STD = {
    "conditional": "relative_effects_variance",
    "prediction": "relative_prediction_variance",
}


@dataclass(frozen=True)
class MixedFit(Questions):
    """Estimates of a mixed model.

    Attributes
    ----------
    layout : CovarianceLayout
        Terms and grouping factors, without rows.
    basis : ColumnBasis
    optimum : Optimum
    factor : Factor, IterativeFactor or None
        None after unpickling a model whose factor is large.
    fixed_root : (r, r)
        Lower root of the information on gamma, in units of 1 / sigma^2: the factor's own, or one
        that also knows that the covariance parameters are estimated.
    gamma : (r,)
        Fixed effects on the orthonormal basis.
    sigma : float
        Residual standard deviation (1 where the family has no scale).
    unit : float
        Units of the response in one unit of the engine's effects.
    deviance : float
        The criterion minimised.
    reml : bool
    n_obs : float
    n_params : int
        Fixed effects, covariance parameters and scale.
    source : Source
        Names, terms and fingerprints of what it was fitted to.
    pending : (r,) or None
        Of a model that took in further rows (`models.conditioning`) their scores by gamma at its
        estimates: zero where these were estimated anew.
    apart : Apart or None
        Levels beside those of ``factor``, of a model that took in new ones without the
        cross-products of its fit.
    keep_factor : bool
        Whether files keep the factor, however large it is, with the cross-products behind it.
    """

    is_linear: ClassVar[bool] = False

    layout: CovarianceLayout
    basis: ColumnBasis
    optimum: Optimum
    factor: Factor | IterativeFactor | None
    fixed_root: np.ndarray
    gamma: np.ndarray
    sigma: float
    unit: float
    deviance: float
    reml: bool
    n_obs: float
    n_params: int
    source: Source
    pending: np.ndarray | None = field(default=None, kw_only=True)
    apart: Apart | None = field(default=None, kw_only=True)
    keep_factor: bool = field(default=False, kw_only=True)

    @property
    def monte_carlo(self):
        """How exact a fit by the iterative solver is, None for one by the direct solver."""
        return None

    @property
    def solver(self):
        """How the mixed-model equations were solved."""
        return "direct" if self.monte_carlo is None else "iterative"

    @property
    def residual(self):
        """FittedResidual of residuals with a structure, None where they are independent."""
        return None

    @property
    def rank(self):
        return len(self.gamma)

    @cached_property
    def beta(self):
        """Coefficients (r,) of the columns that were kept."""
        return self.basis.to_coef @ self.gamma

    @property
    def residual_sigma(self):
        """The residual standard deviation as users know it."""
        return self.sigma

    @property
    def mean_variance(self):
        """Mean over the rows of their residual variances, in units of sigma^2."""
        return 1.0

    @cached_property
    def _folded(self):
        """Coefficients (r,) of the centred columns, or None where these nearly cancel."""
        basis = self.basis
        if not basis.rank:
            return np.zeros(0)
        folded = solve_triangular(basis.factor, self.gamma, check_finite=False)
        parts = np.abs(folded) * np.sqrt(np.einsum("jk,jk->k", basis.factor, basis.factor))
        size = np.linalg.norm(self.gamma)
        return folded if np.isfinite(size) and parts.max() <= _FOLDED * size else None

    def fixed_part(self, X):
        """x'beta (n,) of rows of X (n, p), by differences to the centre: X beta itself cancels."""
        if self._folded is None:
            with one_thread():
                return self.basis.orthonormal(X) @ self.gamma
        return self.basis.centred(X) @ self._folded

    @cached_property
    def vcov(self):
        """Covariance (r, r) of :attr:`beta`: sigma^2 (X' V0^-1 X)^-1."""
        return np.square(self.sigma) * self.relative_vcov

    @cached_property
    def relative_vcov(self):
        """:attr:`vcov` in units of sigma^2, which may overflow where sigma does not."""
        half = self.basis.to_coef @ self._inverse_root
        return half @ half.T

    @cached_property
    def _inverse_root(self):
        return np.linalg.inv(self.fixed_root.T)

    # Answers to questions about the fixed effects

    @property
    def is_mixed(self):
        """Whether there are random effects."""
        return bool(self.layout.terms)

    @property
    def names(self):
        return self.source.names

    @property
    def terms(self):
        return self.source.terms

    @property
    def estimates(self):
        return self.gamma

    @property
    def scale(self):
        return self.sigma

    @property
    def whitened(self):
        return np.linalg.solve(self._inverse_root, self.gamma)

    def unscaled(self, K):
        return self.unscaled_on_basis(self.in_basis(K))

    def unscaled_on_basis(self, L):
        """H (d, r) with Var(L estimates) = sigma^2 H H'."""
        return L @ self._inverse_root

    # Covariances and random effects

    @cached_property
    def theta(self):
        """Covariance parameters in the user's units and lme4's order."""
        return self.layout.user_theta(self.optimum.theta)

    @cached_property
    def term_factors(self):
        """T (s, s) of every term: covariance sigma^2 T T'."""
        return tuple(
            self.layout.term_factor(self.optimum.theta, t) for t in range(len(self.layout.terms))
        )

    @property
    def covariances(self):
        """Covariance (s, s) of every term's effects."""
        return tuple(np.square(self.sigma) * (T @ T.T) for T in self.term_factors)

    @cached_property
    def modes(self):
        """Conditional modes (l, s) of every term for the engine's covariates."""
        if not self.layout.terms:
            return ()
        pairs = zip(self.layout.groups, self._group_modes(), strict=True)
        modes = [group.at_levels(b) for group, b in pairs]
        return tuple(self.unit * modes[t.group][t.columns].T for t in self.layout.terms)

    def _group_modes(self):
        """Conditional modes (s, l) of every group."""
        return self.factor.mode.levels()

    @property
    def effects(self):
        """Conditional modes (l, s) of every term, levels as in the design."""
        return tuple(t.users_effects(b) for b, t in zip(self.modes, self.layout.terms, strict=True))

    def random_part(self, random):
        """z'b (n,) of the rows of terms; an unknown level (code -1) adds nothing.

        A term that is None is left out.
        """
        total = 0.0
        random = [term for term, _ in self._kriged(random)]
        for term, at, modes in zip(random, self.layout.terms, self.modes, strict=True):
            if term is None:
                continue
            b = modes[term.codes]
            b[term.codes < 0] = 0.0
            total = total + np.einsum("ns,ns->n", at.covariates(term.z), b)
        return total

    def _kriged(self, random):
        """Terms with the covariates of the conditional mean where rows are at new positions.

        Each with the variance (n,) of the effect about it, in units of sigma^2.
        """
        for t, term in enumerate(random):
            if term is None or term.elsewhere is None:
                yield term, 0.0
                continue
            at, theta = self.layout.terms[t], self.optimum.theta
            new = np.isfinite(term.elsewhere).all(axis=1) & (term.codes >= 0)
            z, added = term.z.copy(), np.zeros(len(term.z))
            T = self.layout.factors(theta)[at.group][at.columns]
            whole = np.sum((at.covariates(z[new]) @ T) ** 2, axis=1)
            z[new], left = self.layout.kriged(theta, t, term.places, term.elsewhere[new])
            added[new] = whole * left
            yield replace(term, z=z), added

    @property
    def effects_variance(self):
        """Conditional covariances (l, s, s) of every term's effects, given theta and beta."""
        return tuple(np.square(self.sigma) * v for v in self.relative_effects_variance)

    @cached_property
    def relative_effects_variance(self):
        """:attr:`effects_variance` in units of sigma^2."""
        if not self.layout.terms:
            return ()
        blocks = self._factor("standard deviations of random effects").conditional_blocks()
        return tuple(
            t.users_covariances(blocks[t.group][t.columns, t.columns]) for t in self.layout.terms
        )

    def effects_std(self, kind="conditional"):
        """Standard deviations (l, s) of every term's effects.

        Parameters
        ----------
        kind : {"conditional", "prediction"}
            Of b given the response, theta and beta; or of b-hat - b, where beta is estimated too.

        Raises
        ------
        ValueError
            For other kinds, and for "prediction" on a copy without cross-products that was never
            asked for it before.
        """
        if kind not in EFFECTS_STD:
            known = " or ".join(map(repr, EFFECTS_STD))
            raise ValueError(f"std must be {known}, got {kind!r}")
        variances = getattr(self, EFFECTS_STD[kind])
        return tuple(
            self.sigma * np.sqrt(np.maximum(np.einsum("lii->li", v), 0.0)) for v in variances
        )

    def level_std(self, t, places):
        """Standard deviations (k, s) of effects of term t given theta and beta, of some levels.

        Where :meth:`effects_std` approximates those of all levels, these are solved for.
        """
        if self.monte_carlo is None:
            return self.effects_std()[t][places]
        at, T = self.layout.terms[t], self.layout.factors(self.optimum.theta)
        n = len(places) * at.size
        codes, z = [np.full(n, -1) for _ in T], [np.zeros((n, len(own))) for own in T]
        codes[at.group] = np.repeat(places, at.size)
        z[at.group][:, at.columns] = np.tile(at.M, (len(places), 1))
        variances = self._factor("standard deviations of levels").row_norms(codes, z, None)
        return self.sigma * np.sqrt(variances).reshape(len(places), at.size)

    @cached_property
    def relative_prediction_variance(self):
        """Covariances (l, s, s) of b-hat - b of every term in units of sigma^2.

        The conditional ones and E Phi E', E = Z'V0^-1 X times the covariance of the effects: what
        the estimation of the fixed effects adds (Henderson 1975, Biometrics 31, 423-447).
        """
        if not self.layout.terms:
            return ()
        what = "standard deviations of predicted random effects"
        factor = self._factor(what)
        if not factor.has_system:
            raise ValueError(
                f"{what} need the cross-products of the data, which are not pickled: ask for them "
                "before pickling, or fit the model again in this process"
            )
        added = self._variance_of_means(self._inverse_root)
        pairs = zip(self.layout.terms, self.relative_effects_variance, strict=True)
        return tuple(
            own + t.users_covariances(added[t.group][t.columns, t.columns]) for t, own in pairs
        )

    def _variance_of_means(self, half):
        """E Phi E' (s, s, l) of every group, E the covariance times Z'V0^-1 X, Phi = half half'."""
        factor, groups = self.factor, self.layout.groups
        added = [np.zeros((g.n_columns, g.n_columns, g.plain.n_levels)) for g in groups]
        width = max(1, _NUMBERS // max(1, sum(g.size for g in groups)))
        for lo in range(0, self.rank, width):
            fixed = half[:, lo : lo + width]
            none = [np.zeros((g.n_columns, fixed.shape[1], g.n_levels)) for g in groups]
            moved, _ = factor.solve(factor.system.times(Effects(none, fixed)), fixed=False)
            for total, group, x in zip(added, groups, moved.random, strict=True):
                x = group.at_levels(x)
                total += np.einsum("ikl,jkl->ijl", x, x)
        return added

    # Smooth functions

    @property
    def smooth_terms(self):
        """Numbers of the terms that are smooth functions."""
        return tuple(t for t, term in enumerate(self.layout.terms) if term.is_smooth)

    @cached_property
    def smooth_freedom(self):
        """Effective degrees of freedom (c,) of the curves of every smooth term, less their lines.

        s - tr(C) / tau^2, C the covariance of b-hat - b in units of sigma^2 given theta: the trace
        of what takes the unpenalised effects to the estimated ones.
        """
        if not self.smooth_terms:
            return ()
        factor = self._factor("effective degrees of freedom")
        blocks = factor.conditional_blocks()
        added = self._variance_of_means(np.linalg.inv(factor.fixed_root.T))
        T, found = self.layout.factors(self.optimum.theta), []
        for t in self.smooth_terms:
            term = self.layout.terms[t]
            at = (term.columns, term.columns)
            variance = np.square(T[term.group][at][0, 0])
            left = np.einsum("iil->l", blocks[term.group][at] + added[term.group][at])
            found.append(term.size - left / variance if variance > 0 else np.zeros(len(left)))
        return tuple(found)

    def smooth_part(self, random):
        """The part (n,) of rows of terms that smooth functions add to their straight lines."""
        return self.random_part(self.chosen(random, smooth=True))

    def fixed_variance(self, X, random, counts=None):
        """Variance of X beta and the smooth functions over rows that count ``counts`` times."""
        eta = self.basis.orthonormal(X) @ self.gamma + self.smooth_part(random)
        counts = np.ones(len(eta)) if counts is None else counts
        total = counts.sum()
        mean = counts @ eta / total
        return float(counts @ np.square(eta - mean) / (total - 1.0))

    def chosen(self, random, *, smooth):
        """Terms of rows, None in the place of those that are smooth functions, or are not."""
        pairs = zip(random, self.layout.terms, strict=True)
        return tuple(own if term.is_smooth == smooth else None for own, term in pairs)

    def function_std(self, K, random):
        """Standard errors (m,) of K beta + z'b as predictions, K (m, p) and terms of m rows."""
        what = "standard errors of smooth functions"
        variance = self._row_variances(self.in_basis(K), random, self.fixed_root, what)
        return self.sigma * np.sqrt(np.maximum(variance, 0.0))

    @cached_property
    def singular_terms(self):
        """For every term, whether its covariance is singular (in any units of its covariates)."""
        return self.layout.singular_terms(self.optimum.theta)

    @property
    def is_singular(self):
        return any(self.singular_terms)

    def elimination_order(self):
        """Indices of the effects (term by term, effect by effect) in the order of elimination."""
        if self.apart is not None:
            raise ValueError("the factors of expand() are those of a model with one factor")
        ranks = self._factor("the factors of expand()").ranks()
        by_effect = [ranks[t.group][t.columns].ravel() for t in self.layout.terms]
        return np.argsort(np.concatenate(by_effect))

    def _factor(self, what):
        if self.factor is None and self.pending is not None:
            raise ValueError(
                f"{what} cannot be had from this model: it was conditioned without the factor of "
                "its fit, which was too large for the pickle that it came from"
            )
        if self.factor is None:
            raise ValueError(
                f"{what} cannot be had from this copy of the model: they need its factor, which "
                "was too large to be pickled. Fit with keep_factor=True, or fit the model again in "
                "this process"
            )
        return self.factor

    def mean_std(self, X, random):
        """Standard error (n,) of x'(beta-hat) + z'(b-hat) as a prediction of x'beta + z'b.

        Without random effects (``random`` None) that of x'(beta-hat).

        Parameters
        ----------
        X : (n, p)
            Rows of the design matrix, aliased columns included.
        random : sequence of RandomTerm or None
            Terms of the new rows; code -1 (an unseen level) adds the term's own variance. A term
            that is None is left out of z'b.
        """
        if random is None:
            half = self.unscaled_on_basis(self.basis.orthonormal(X))
            return self.sigma * np.sqrt(np.einsum("nr,nr->n", half, half))
        what = "standard errors of predictions"
        return self.sigma * np.sqrt(
            self._row_variances(self.basis.orthonormal(X), random, self.fixed_root, what)
        )

    def mode_variances(self, X, random):
        """(n,) Variances of x'beta-hat + z'b-hat given theta, in units of sigma^2.

        They are those at the joint mode of fixed and random effects, from the factor alone; times
        the weight of a row of the fit they are its leverage.
        """
        return self._row_variances(self.basis.orthonormal(X), random, None, "leverages")

    def _row_variances(self, Q, random, fixed_root, what):
        factor = self._factor(what)
        codes, z = {}, {}
        variance, T = np.zeros(len(Q)), self.layout.factors(self.optimum.theta)
        for (term, added), at in zip(self._kriged(random), self.layout.terms, strict=True):
            variance += added
            if term is None:
                z.setdefault(at.group, []).append(np.zeros((len(Q), at.size)))
                continue
            own = at.covariates(term.z)
            codes[at.group] = term.codes
            z.setdefault(at.group, []).append(own)
            unseen = term.codes < 0
            spread = own[unseen] @ T[at.group][at.columns, at.columns]
            variance[unseen] += at.mean_variance * np.einsum("ns,ns->n", spread, spread)
        unknown = np.full(len(Q), -1)
        groups = range(len(self.layout.groups))
        return variance + (self.apart or factor).row_norms(
            [codes.get(g, unknown) for g in groups],
            [np.hstack(z[g]) for g in groups],
            Q,
            fixed_root,
        )

    def random_variance(self, random):
        """Variance z'Cov(b)z (n,) of the rows of terms; a term that is None is left out."""
        total = 0.0
        terms = zip(random, self.layout.terms, self.covariances, strict=True)
        for term, at, covariance in terms:
            if term is not None:
                own = np.einsum("ni,ij,nj->n", term.z, covariance, term.z)
                total = total + own * at.variances_of(term.codes)
        return total

    def keeping_factor(self):
        """The same fit, whose factor stays with it in files."""
        return replace(self, keep_factor=True)

    def __getstate__(self):
        """State without cross-products; what needs them and is small is computed first."""
        for name in ("beta", "relative_vcov", "modes"):
            getattr(self, name)
        if self.factor is not None or self.pending is None:
            self.relative_effects_variance  # noqa: B018  a cached value
        if self.factor is not None and self.factor.has_system:
            self.smooth_freedom  # noqa: B018  a cached value
        state = dict(self.__dict__)
        state["optimum"] = replace(self.optimum, state=None)
        if self.factor is not None and not self._keeps_system:
            state["factor"] = self.factor.compact(_PICKLED_FACTOR_BYTES)
        return state

    @property
    def _keeps_system(self):
        """Whether pickles keep the cross-products behind the factor: more rows are to come."""
        return self.pending is not None or self.keep_factor
