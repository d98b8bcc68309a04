"""Residual covariance structures: R(rho) by group, its inverse as coefficients of few Grams.

R = S C S: standard deviations S, functions of groups or covariates, beside a correlation C of the
rows of one group. Both are relative to one residual standard deviation sigma. The inverse of R is
written as sum of c_k B_k over cells of rows and of sums of two rows (see `linalg.mixture`), so that
whatever depends on rho is a function of some coefficients.

References
----------
Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed.models.residual_parts import ByCovariate, ByLevel, Markov, OverVisits
from skmixed.models.residual_rows import Chains, Patterns, Plain

# Levels of ident() up to which the start with equal variances is tried too.
_FEW_LEVELS = 4
# Ratio of two standard deviations that sums of squares have no digits for: of a function of a
# covariate, and of levels or visits, where so much less is none.
_WIDEST, _WIDEST_BY_LEVEL = 1e7, 1e5


@dataclass(frozen=True)
class Parameter:
    """One residual parameter as people read it: kind, name, value and gradient (p + 1,).

    The gradient is by rho and by log sigma; values of kind "sd" are in units of sigma.
    """

    kind: str
    name: str
    value: float
    gradient: np.ndarray


def _variance(term):
    if term.values is None:
        return ByLevel(str(term.factor), tuple(map(str, term.levels)))
    part = ByCovariate(str(term.factor), term.factor.kind, 0.0)
    return replace(part, center=float(part.measure(term.values).mean()))


def _markov(term):
    same = np.diff(term.codes[term.by_time]) == 0
    gaps = np.diff(term.values[term.by_time])[same]
    return Markov(str(term.factor), term.factor.kind, float(np.median(gaps)))


@dataclass(frozen=True, eq=False)
class Residual:
    """R(rho), without rows.

    Attributes
    ----------
    text : str
        As the user wrote it.
    variances : tuple of ByLevel or ByCovariate
    correlation : Markov, OverVisits or None
    values : (q, U)
        What the variances read, for every class of rows with one standard deviation.
    cells : object
        Which coefficients there are: `Plain`, `Chains` or `Patterns`.
    layout : Plain, Chains or Patterns
        Which coefficients there are.
    shares : (U, V)
        Share of the rows in every class and at every visit (one, without visits).
    groups : dict of str to int
        Levels of the group whose rows are correlated.
    """

    text: str
    variances: tuple
    correlation: Markov | OverVisits | None
    values: np.ndarray
    layout: Plain | Chains | Patterns | None
    shares: np.ndarray
    groups: dict

    @classmethod
    def build(cls, text, terms, n_rows, frequencies=None):
        """The structure of rows, and its ExtendedRows.

        Parameters
        ----------
        text : str
        terms : sequence of ResidualTerm
        n_rows : int
        frequencies : (n,) or None
        """
        variances, read, correlation = [], [], None
        for term in terms:
            if term.factor.is_correlation:
                correlation = term
                continue
            part = _variance(term)
            variances.append(part)
            own = term.codes if term.values is None else part.measure(term.values)
            read.append(np.asarray(own, dtype=float))
        if read:
            values, classes = np.unique(np.array(read), axis=1, return_inverse=True)
            classes = classes.ravel()
        else:
            values, classes = np.zeros((0, 1)), np.zeros(n_rows, dtype=np.intp)
        U = values.shape[1]
        if correlation is None:
            own, (layout, rows) = None, Plain.of(classes, U, frequencies)
        elif correlation.visits is None:
            own = _markov(correlation)
            of = correlation.codes, correlation.values, correlation.by_time
            layout, rows = Chains.of(*of, classes, U, frequencies)
        else:
            own = OverVisits(
                str(correlation.factor),
                correlation.factor.kind,
                tuple(map(str, correlation.labels)),
                correlation.times,
            )
            n_levels, V = len(correlation.levels), len(own.labels)
            layout, rows = Patterns.of(
                correlation.codes, correlation.visits, classes, n_levels, V, frequencies
            )
        shares = np.zeros((U, 1 if own is None or not own.has_sd else len(own.labels)))
        visits = correlation.visits if shares.shape[1] > 1 else np.zeros(n_rows, dtype=np.intp)
        np.add.at(shares, (classes, visits), 1.0 if frequencies is None else frequencies)
        groups = {}
        if correlation is not None:
            groups[correlation.factor.group] = len(correlation.levels)
        shares /= shares.sum()
        return cls(text, tuple(variances), own, values, layout, shares, groups), rows

    def mean_variance(self, rho):
        """Mean over the rows of the fit of their residual variances over sigma^2."""
        square = np.exp(2.0 * self.log_sd(rho)[0])[:, None]
        if self.visits_carry_sd:
            square = square * self.correlation.covariance(self._split(rho)[-1])[0].diagonal()
        return float(np.sum(self.shares * square))

    @property
    def n_params(self):
        return len(self.start())

    @cached_property
    def _sizes(self):
        own = [part.n_params for part in self.variances]
        return [*own, self.correlation.n_params] if self.correlation is not None else own

    def _split(self, rho):
        return np.split(rho, np.cumsum(self._sizes)[:-1])

    def start(self):
        parts = (*self.variances, *([] if self.correlation is None else [self.correlation]))
        return np.concatenate([part.start() for part in parts])

    def log_sd(self, rho, values=None):
        """log s (U,) of every class and its derivatives (p, U) by all of rho."""
        values = self.values if values is None else values
        total, slopes = np.zeros(values.shape[1]), np.zeros((len(rho), values.shape[1]))
        begin = 0
        for part, own, x in zip(self.variances, self._split(rho), values, strict=False):
            log_s, slope = part.log_sd(own, x)
            total += log_s
            slopes[begin : begin + len(own)] = slope
            begin += len(own)
        return total, slopes

    def coefficients(self, rho):
        """Coefficients at rho, None where R is not positive definite."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
            log_s, slopes = self.log_sd(rho)
            if self._spread(rho, log_s) > np.log(self._widest):
                return None
            own = None if self.correlation is None else self._split(rho)[-1]
            found = self.layout.coefficients(self.correlation, own, log_s, slopes)
        if found is None or not (np.isfinite(found.c).all() and np.isfinite(found.dc).all()):
            return None
        return found

    @cached_property
    def _widest(self):
        by_covariate = any(isinstance(part, ByCovariate) for part in self.variances)
        return _WIDEST if by_covariate else _WIDEST_BY_LEVEL

    def _spread(self, rho, log_s):
        """log of the ratio of the largest to the smallest standard deviation of a row."""
        spread = np.ptp(log_s)
        if self.visits_carry_sd:
            S = self.correlation.covariance(self._split(rho)[-1])[0]
            spread += np.ptp(0.5 * np.log(S.diagonal()))
        return spread

    # Where a search begins

    @property
    def starts_from_moments(self):
        """Whether residuals of the model with independent ones tell where to start."""
        return self.visits_carry_sd or any(v.kind == "ident" for v in self.variances)

    @property
    def may_have_several_optima(self):
        """Whether the start with equal variances is worth a search too."""
        levels = [len(v.labels) for v in self.variances if v.kind == "ident"]
        return bool(levels) and max(levels) <= _FEW_LEVELS

    def from_moments(self, forms):
        """rho, and the first mean square, from squares (K,) of independent residuals by cell."""
        rho, begin = self.start(), 0
        total, counts = self.layout.by_class(forms, len(self.shares))
        for part, own in zip(self.variances, self.values, strict=False):
            if part.kind == "ident":
                levels = own.astype(np.intp)
                size = len(part.labels)
                square = np.bincount(levels, total, size) / np.bincount(levels, counts, size)
                if (square > 0).all():
                    rho[begin : begin + part.n_params] = np.log(square[0] / square[1:])
            begin += part.n_params
        if self.visits_carry_sd:
            S = self.layout.moments(forms, len(self.correlation.labels))
            rho[begin:] = self.correlation.from_moments(S)
        first = S[0, 0] if self.visits_carry_sd else total[0] / max(counts[0], 1.0)
        return rho, first if first > 0 else total.sum() / counts.sum()

    def at_bound(self, rho):
        """What is wrong with an estimate at, or on its way to, a bound; None if nothing is."""
        for part, own in zip(self.variances, self._split(rho), strict=False):
            found = part.at_bound(own) if part.kind == "ident" else None
            if found is not None:
                return found
        if self.correlation is None:
            return None
        return self.correlation.at_bound(self._split(rho)[-1])

    @property
    def is_correlated(self):
        return self.correlation is not None

    @property
    def is_linear(self):
        """Whether all of R are entries of one covariance over visits."""
        return self.visits_carry_sd and not self.variances

    @property
    def visits_carry_sd(self):
        return self.correlation is not None and self.correlation.has_sd

    def natural(self, rho):
        """The parameters people read, a list of Parameter."""
        found, begin, parts = [], 0, self._split(rho)
        alone = len([v for v in self.variances if v.kind == "ident"]) == 1
        for part, own in zip(self.variances, parts, strict=False):
            absolute = alone and not self.visits_carry_sd
            for kind, name, value, gradient in part.named(own, absolute):
                found.append(self._parameter(kind, name, value, gradient, begin, rho))
            begin += len(own)
        if self.correlation is not None:
            for kind, name, value, gradient in self.correlation.named(parts[-1]):
                found.append(self._parameter(kind, name, value, gradient, begin, rho))
        return found

    def _parameter(self, kind, name, value, gradient, begin, rho):
        full = np.zeros(len(rho) + 1)
        full[begin : begin + len(gradient)] = gradient
        if kind == "sd":
            full = full - value * self.reference_slope(rho)
            full[-1] = value
        if kind == "sd":
            factor = np.exp(-self.reference(rho))
            value, full = value * factor, full * factor
        prefix = {"sd": "sd ", "ratio": "ratio "}.get(kind, "")
        if kind == "cor" and "." in name:
            prefix = "cor "
        return Parameter(kind, f"{prefix}{name}", value, full)

    def reference(self, rho):
        """log of the engine's sigma over the user's: centres of covariates times their powers."""
        return sum(
            float(own[0]) * part.center
            for part, own in zip(self.variances, self._split(rho), strict=False)
            if isinstance(part, ByCovariate)
        )

    def reference_slope(self, rho):
        """Derivatives (p + 1,) of :meth:`reference` by rho and log sigma."""
        slope, begin = np.zeros(len(rho) + 1), 0
        for part, size in zip(self.variances, self._sizes, strict=False):
            if isinstance(part, ByCovariate):
                slope[begin] = part.center
            begin += size
        return slope

    def covariance(self, rho, values, places):
        """R (m, m) of the rows of one group with ``values`` (q, m) and places (m,)."""
        sd = np.exp(self.log_sd(rho, values)[0])
        if self.correlation is None:
            return np.diag(sd**2)
        own = self._split(rho)[-1]
        if isinstance(self.correlation, Markov):
            C = self.correlation.correlation(own, places)
        else:
            at = places.astype(np.intp)
            C = self.correlation.covariance(own)[0][np.ix_(at, at)]
        return sd[:, None] * C * sd

    def sd(self, rho, values, places):
        """Standard deviations (m,) of rows over sigma."""
        sd = np.exp(self.log_sd(rho, values)[0])
        if self.visits_carry_sd:
            S = self.correlation.covariance(self._split(rho)[-1])[0]
            sd = sd * np.sqrt(S.diagonal())[places.astype(np.intp)]
        return sd


@dataclass(frozen=True, eq=False)
class FittedResidual:
    """A residual structure, without what has the length of the data, at its estimates.

    Attributes
    ----------
    structure : Residual
    rho : (p,)
    mean_variance : float
        Mean of the rows' residual variances over sigma^2.
    """

    structure: Residual
    rho: np.ndarray
    mean_variance: float

    @property
    def reference(self):
        """What the engine's sigma is a multiple of the user's."""
        return float(np.exp(self.structure.reference(self.rho)))

    @classmethod
    def at(cls, structure, rho):
        """The structure at rho."""
        none = np.zeros((len(structure.values), 0))
        small = replace(structure, values=none, layout=None, shares=none)
        return cls(small, rho, structure.mean_variance(rho))

    @property
    def is_correlated(self):
        """Whether residuals of one group are correlated."""
        return self.structure.is_correlated

    def natural(self):
        """The parameters people read, those of kind "sd" in units of the engine's sigma."""
        return self.structure.natural(self.rho)

    @property
    def visits_covariance(self):
        """R (V, V) over all visits."""
        return self.structure.correlation.covariance(self.rho)[0]

    def at_bound(self):
        """What is wrong with an estimate at, or on its way to, a bound; None if nothing is."""
        return self.structure.at_bound(self.rho)

    def _read(self, terms):
        """(values (q, n), places (n,), codes (n,) or None) of ResidualTerms on rows."""
        variances = iter(self.structure.variances)
        values, places, codes = [], None, None
        for term in terms:
            if term.factor.is_correlation:
                codes = term.codes
                places = term.values if term.visits is None else term.visits
            else:
                part = next(variances)
                own = term.codes if term.values is None else part.measure(term.values)
                values.append(np.asarray(own, dtype=float))
        n = next(len(x) for t in terms for x in (t.codes, t.values, t.visits) if x is not None)
        places = np.zeros(n) if places is None else np.asarray(places, dtype=float)
        return np.array(values).reshape(len(values), n), places, codes

    def sd(self, terms):
        """Residual standard deviations (n,) of rows over the engine's sigma."""
        values, places, _ = self._read(terms)
        return self.structure.sd(self.rho, values, places)

    def blocks(self, terms):
        """Pairs (rows, R of these rows) of all groups of rows that are correlated."""
        values, places, codes = self._read(terms)
        if codes is None:
            codes = np.arange(len(places))
        order = np.argsort(codes, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            if len(rows):
                yield rows, self.structure.covariance(self.rho, values[:, rows], places[rows])

    def roots(self, terms):
        """Pairs (rows, L) with L L' = R of these rows, of all groups of correlated rows."""
        for rows, R in self.blocks(terms):
            yield rows, np.linalg.cholesky(R)

    def draw(self, terms, unit):
        """Residuals L u (n, k) of independent u (n, k) of variance 1."""
        if not self.is_correlated:
            return self.sd(terms)[:, None] * unit
        found = np.empty(unit.shape)
        for rows, L in self.roots(terms):
            found[rows] = L @ unit[rows]
        return found

    def solved(self, terms, residuals):
        """R^-1 e (n,)."""
        if not self.is_correlated:
            return residuals / self.sd(terms) ** 2
        found = np.empty(residuals.shape)
        for rows, R in self.blocks(terms):
            found[rows] = np.linalg.solve(R, residuals[rows])
        return found

    def whitened(self, terms, residuals):
        """L^-1 e (n,): residuals without correlation and with one variance."""
        if not self.is_correlated:
            return residuals / self.sd(terms)
        found = np.empty(residuals.shape)
        for rows, L in self.roots(terms):
            found[rows] = np.linalg.solve(L, residuals[rows])
        return found
