"""Residual covariance structures: R(rho) by group, its inverse as coefficients of few Grams.

R = S C S: standard deviations S, functions of groups or covariates, beside a correlation C of the
rows of one group. Both are relative to one residual standard deviation sigma. The inverse of R is
written as sum of c_k B_k over cells of rows and of sums of two rows (see `linalg.mixture`), so that
whatever depends on rho is a function of some coefficients. Names are those of nlme's classes and of
PROC MIXED's types.

References
----------
Pinheiro and Bates (2000), Mixed-Effects Models in S and S-PLUS, chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from skmixed.linalg.mixture import ExtendedRows
from skmixed.models.structured import make_structure
from skmixed.models.structures import Unstructured

# Structures over the visits of a group, each with its visits' standard deviations.
VISITS = ("us", "cs", "homcs", "toep", "hetar1")
# Correlation of neighbours where a search begins.
_START = 0.4
# Levels of ident() up to which the start with equal variances is tried too.
_FEW_LEVELS = 4
# Correlations of neighbours that are as good as 1 and 0.
_NEARLY_ONE, _NEARLY_NONE = 0.999, 1e-6
# Smallest eigenvalue of correlations to start from.
_LEAST = 0.05


@dataclass(frozen=True)
class Parameter:
    """One residual parameter as people read it: kind, name, value and gradient (p + 1,).

    The gradient is by rho and by log sigma; values of kind "sd" are in units of sigma.
    """

    kind: str
    name: str
    value: float
    gradient: np.ndarray


@dataclass(frozen=True)
class Coefficients:
    """What the likelihood reads of R(rho).

    Attributes
    ----------
    c, dc : (K,) and (p, K)
        Coefficients of the cells and their derivatives by rho.
    log_det, dlog_det : float and (p,)
        log |R|.
    expected : (p, p)
        tr(R^-1 dR_j R^-1 dR_k).
    exact : (p, p, K) or None
        Coefficients of dR^-1_j R dR^-1_k, where it is a combination of the cells' matrices.
    """

    c: np.ndarray
    dc: np.ndarray
    log_det: float
    dlog_det: np.ndarray
    expected: np.ndarray
    exact: np.ndarray | None = None


# Standard deviations of rows


@dataclass(frozen=True, eq=False)
class ByLevel:
    """ident(g): log weights relative to those of the first level."""

    text: str
    labels: tuple[str, ...]

    kind = "ident"

    @property
    def n_params(self):
        return len(self.labels) - 1

    def start(self):
        return np.zeros(self.n_params)

    def log_sd(self, rho, values):
        """log s (m,) and its derivatives (p, m) at codes (m,)."""
        levels = np.append(0.0, -0.5 * rho)
        slopes = -0.5 * (values == np.arange(1, len(levels))[:, None])
        return levels[values.astype(np.intp)], slopes

    def named(self, rho, absolute):
        for h, label in enumerate(self.labels):
            if not absolute and not h:
                continue
            gradient = np.zeros(self.n_params)
            value = 1.0
            if h:
                value = float(np.exp(-0.5 * rho[h - 1]))
                gradient[h - 1] = -0.5 * value
            yield ("sd" if absolute else "ratio"), label, value, gradient


@dataclass(frozen=True, eq=False)
class ByCovariate:
    """power(x) s = |x|^delta, exponential(x) s = exp(delta x), about a centre of log |x| or x."""

    text: str
    kind: str
    center: float

    n_params = 1

    def start(self):
        return np.zeros(1)

    def measure(self, x):
        """What delta multiplies in log s."""
        return (np.log(np.abs(x)) if self.kind == "power" else x) - self.center

    def log_sd(self, rho, values):
        return rho[0] * values, values[None]

    def named(self, rho, absolute):
        yield "number", self.kind, float(rho[0]), np.ones(1)


# Correlation of the rows of a group


@dataclass(frozen=True, eq=False)
class Markov:
    """ar1(t | g), car1(t | g): correlation phi of neighbours, by the gap between their times."""

    text: str
    kind: str
    unit: float

    n_params = 1
    has_sd = False

    def start(self):
        return np.arctanh([_START]) if self.kind == "ar1" else np.log([self.unit])

    def phi(self, rho, gaps):
        """(phi, dphi / drho) at gaps (m,)."""
        if self.kind == "ar1":
            r = np.tanh(rho[0])
            return r**gaps, gaps * r ** (gaps - 1) * (1.0 - r * r)
        x = gaps * np.exp(-rho[0])
        return np.exp(-x), x * np.exp(-x)

    def correlation(self, rho, places):
        """C (m, m) at places (m,)."""
        return self.phi(rho, np.abs(np.subtract.outer(places, places)))[0]

    def named(self, rho):
        if self.kind == "ar1":
            r = float(np.tanh(rho[0]))
            yield "cor", "rho", r, np.array([1.0 - r * r])
        else:
            reach = float(np.exp(rho[0]))
            yield "range", "range", reach, np.array([reach])

    def at_bound(self, rho):
        """What to say of a correlation that is as good as 1 or 0 at the usual gap, or None."""
        phi = float(self.phi(rho, np.array([self.unit]))[0][0])
        group = self.text.partition("|")[2].strip(" )")
        if phi > _NEARLY_ONE:
            return (
                f"the residual correlation of {self.text} has run to {phi:.6g}, with a residual "
                "variance that grows without limit: rows of one group differ by a constant and "
                f"a random walk. Write a random intercept (1 | {group}) instead, or leave that of "
                f"{group} out beside it"
            )
        if self.kind == "car1" and phi < _NEARLY_NONE:
            return (
                f"the range of {self.text} has run to zero: residuals are independent. Leave the "
                "structure out, or use ar1, whose correlation may be negative"
            )
        return None


@dataclass(frozen=True, eq=False)
class OverVisits:
    """us(v | g), cs, homcs, toep, hetar1: S S' over visits, 1 at the first one.

    ``labels`` (V,) name the visits, ``times`` (V,) count them.
    """

    text: str
    kind: str
    labels: tuple[str, ...]
    times: np.ndarray

    has_sd = True

    @cached_property
    def _inner(self):
        size = len(self.labels)
        return (
            Unstructured((size,))
            if self.kind == "us"
            else make_structure(self.kind, size, self.times)
        )

    @cached_property
    def _is_homogeneous(self):
        return self.kind == "homcs"

    @property
    def n_params(self):
        return 1 if self._is_homogeneous else self._inner.n_params - 1

    def start(self):
        if self._is_homogeneous:
            return np.array([_exchangeable(len(self.labels)).start()[0]])
        return self.from_covariance(None)

    def from_covariance(self, S):
        """rho of, or near, a covariance (V, V); of the start for None."""
        V = len(self.labels)
        S = np.where(np.eye(V, dtype=bool), 1.0, _START) if S is None else S
        T = np.linalg.cholesky(S)
        if self.kind == "us":
            return self._inner.from_factor(T / T[0, 0])[1:]
        if self._is_homogeneous:
            return self.start()
        sd = np.sqrt(S.diagonal())
        return self._inner.from_factor(np.diag(sd / sd[0]))[1:]

    def from_moments(self, S):
        """rho near mean products S (V, V) of residuals, NaN where no group has both visits."""
        sd = np.sqrt(S.diagonal())
        if not (np.isfinite(sd).all() and (sd > 0).all()):
            return self.start()
        R = np.nan_to_num(S / np.outer(sd, sd))
        values, vectors = np.linalg.eigh(R)
        R = (vectors * np.maximum(values, _LEAST)) @ vectors.T
        size = np.sqrt(R.diagonal())
        return self.from_covariance(R * np.outer(sd / size, sd / size))

    def covariance(self, rho):
        """(S (V, V), its derivatives (p, V, V))."""
        if self._is_homogeneous:
            S, slopes, _ = _exchangeable(len(self.labels)).at(rho)
            return S, slopes
        phi = np.append(1.0, rho)
        T = self._inner.factor(phi)
        return T @ T.T, self._inner.tangents(phi)[1:]

    def at_bound(self, rho):
        """What to say of a covariance that is as good as singular, or None."""
        S = self.covariance(rho)[0]
        sd = np.sqrt(S.diagonal())
        if np.linalg.eigvalsh(S / np.outer(sd, sd))[0] > 1.0 - _NEARLY_ONE:
            return None
        return (
            f"the residual covariance of {self.text} is as good as singular: some combination of "
            "visits has no residual variance. Take a structure with fewer parameters, such as "
            "ar1 or homcs"
        )

    def named(self, rho):
        S, slopes = self.covariance(rho)
        sd = np.sqrt(S.diagonal())
        dsd = np.einsum("pvv->pv", slopes) / (2.0 * sd)
        if not self._is_homogeneous:
            for v, label in enumerate(self.labels):
                yield "sd", label, float(sd[v]), dsd[:, v]
        if self.kind == "us":
            for b in range(len(sd)):
                for a in range(b + 1, len(sd)):
                    r = S[a, b] / (sd[a] * sd[b])
                    slope = slopes[:, a, b] / (sd[a] * sd[b]) - r * (
                        dsd[:, a] / sd[a] + dsd[:, b] / sd[b]
                    )
                    yield "cor", f"{self.labels[a]}.{self.labels[b]}", float(r), slope
            return
        R = _exchangeable(len(sd)) if self._is_homogeneous else self._inner.R
        own = rho if self._is_homogeneous else rho[len(sd) - 1 :]
        values, gradients, _ = R.natural(own)
        for k, name in enumerate(R.names):
            gradient = np.zeros(self.n_params)
            gradient[self.n_params - len(own) :] = gradients[k]
            yield "cor", name, float(values[k]), gradient


def _exchangeable(size):
    return make_structure("cs", size).R


def _variance(term):
    if term.values is None:
        return ByLevel(str(term.factor), tuple(map(str, term.levels)))
    part = ByCovariate(str(term.factor), term.factor.kind, 0.0)
    return replace(part, center=float(part.measure(term.values).mean()))


def _markov(term):
    order = np.lexsort((term.values, term.codes))
    same = np.diff(term.codes[order]) == 0
    gaps = np.diff(term.values[order])[same]
    return Markov(str(term.factor), term.factor.kind, float(np.median(gaps)))


# All of them together


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
        Which coefficients there are: `_Plain`, `_Chains` or `_Patterns`.
    layout : _Plain, _Chains or _Patterns
        Which coefficients there are.
    shares : (U, V)
        Share of the rows in every class and at every visit (one, without visits).
    """

    text: str
    variances: tuple
    correlation: Markov | OverVisits | None
    values: np.ndarray
    layout: _Plain | _Chains | _Patterns
    shares: np.ndarray

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
            own, (layout, rows) = None, _Plain.of(classes, U, frequencies)
        elif correlation.visits is None:
            own = _markov(correlation)
            layout, rows = _Chains.of(
                correlation.codes, correlation.values, classes, U, frequencies
            )
        else:
            own = OverVisits(
                str(correlation.factor),
                correlation.factor.kind,
                tuple(map(str, correlation.labels)),
                correlation.times,
            )
            n_levels, V = len(correlation.levels), len(own.labels)
            layout, rows = _Patterns.of(
                correlation.codes, correlation.visits, classes, n_levels, V, frequencies
            )
        shares = np.zeros((U, 1 if own is None or not own.has_sd else len(own.labels)))
        visits = correlation.visits if shares.shape[1] > 1 else np.zeros(n_rows, dtype=np.intp)
        np.add.at(shares, (classes, visits), 1.0 if frequencies is None else frequencies)
        return cls(text, tuple(variances), own, values, layout, shares / shares.sum()), rows

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
            own = None if self.correlation is None else self._split(rho)[-1]
            found = self.layout.coefficients(self.correlation, own, log_s, slopes)
        if found is None or not (np.isfinite(found.c).all() and np.isfinite(found.dc).all()):
            return None
        return found

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
        if self.correlation is None:
            return None
        return self.correlation.at_bound(self._split(rho)[-1])

    @property
    def is_correlated(self):
        return self.correlation is not None

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
    """A residual structure at its estimates rho (p,), with the residual standard deviation."""

    structure: Residual
    rho: np.ndarray

    @property
    def reference(self):
        """What the engine's sigma is a multiple of the user's."""
        return float(np.exp(self.structure.reference(self.rho)))

    @property
    def mean_variance(self):
        """Mean of the rows' residual variances over the engine's sigma^2."""
        return self.structure.mean_variance(self.rho)

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

    def _roots(self, terms):
        for rows, R in self.blocks(terms):
            yield rows, np.linalg.cholesky(R)

    def draw(self, terms, unit):
        """Residuals L u (n, k) of independent u (n, k) of variance 1."""
        if not self.is_correlated:
            return self.sd(terms)[:, None] * unit
        found = np.empty(unit.shape)
        for rows, L in self._roots(terms):
            found[rows] = L @ unit[rows]
        return found

    def whitened(self, terms, residuals):
        """L^-1 e (n,): residuals without correlation and with one variance."""
        if not self.is_correlated:
            return residuals / self.sd(terms)
        found = np.empty(residuals.shape)
        for rows, L in self._roots(terms):
            found[rows] = np.linalg.solve(L, residuals[rows])
        return found


@dataclass(frozen=True, eq=False)
class _Plain:
    """Independent rows: one cell for every class, ``counts`` (U,) rows in it."""

    counts: np.ndarray

    @classmethod
    def of(cls, classes, n_classes, frequencies):
        counts = np.bincount(classes, frequencies, n_classes)
        n = len(classes)
        rows = ExtendedRows(np.arange(n), np.full(n, -1), classes, frequencies, n_classes)
        return cls(counts), rows

    def by_class(self, forms, n_classes):
        """(sums of squares (U,), numbers of rows (U,)) of every class, from the cells' forms."""
        return forms, self.counts

    def coefficients(self, correlation, rho, log_s, slopes):
        c = np.exp(-2.0 * log_s)
        n = self.counts
        return Coefficients(
            c,
            -2.0 * slopes * c,
            float(2.0 * n @ log_s),
            2.0 * slopes @ n,
            4.0 * (slopes * n) @ slopes.T,
            4.0 * slopes[:, None] * slopes * c,
        )


@dataclass(frozen=True, eq=False)
class _Chains:
    """Rows in the order of their times: first ones, and pairs of neighbours.

    ``first`` (U,): number of first rows by class. Pairs have cells of gap and both classes, each
    with three coefficients: of the later row, the earlier row and their sum.
    """

    first: np.ndarray
    gaps: np.ndarray
    earlier: np.ndarray
    later: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, codes, times, classes, n_classes, frequencies):
        order = np.lexsort((times, codes))
        same = codes[order][1:] == codes[order][:-1]
        a, b = order[:-1][same], order[1:][same]
        first = order[np.append(True, ~same)]
        keys = np.column_stack([times[b] - times[a], classes[a], classes[b]])
        unique, cell = np.unique(keys, axis=0, return_inverse=True)
        cell = cell.ravel()
        m, n = len(unique), np.ones(len(codes)) if frequencies is None else frequencies
        rows = ExtendedRows(
            np.concatenate([first, b, a, a]),
            np.concatenate([np.full(len(first) + 2 * len(a), -1), b]),
            np.concatenate(
                [classes[first], *(n_classes + part * m + cell for part in range(3))]
            ).astype(np.intp),
            None if frequencies is None else n[np.concatenate([first, b, a, a])],
            n_classes + 3 * m,
        )
        own = cls(
            np.bincount(classes[first], n[first], n_classes),
            unique[:, 0],
            unique[:, 1].astype(np.intp),
            unique[:, 2].astype(np.intp),
            np.bincount(cell, n[a], m),
        )
        return own, rows

    def by_class(self, forms, n_classes):
        m = len(self.gaps)
        later = np.bincount(self.later, forms[n_classes : n_classes + m], n_classes)
        return (
            forms[:n_classes] + later,
            self.first + np.bincount(self.later, self.counts, n_classes),
        )

    def coefficients(self, correlation, rho, log_s, slopes):
        phi, dphi = correlation.phi(rho, self.gaps)
        left = 1.0 - phi**2
        if not (left > 0).all():
            return None
        p, U, n = len(slopes), len(log_s), self.counts
        at = len(slopes) - 1  # the correlation's parameter comes last
        a, b = self.earlier, self.later
        w, x, y = np.exp(-2 * log_s), np.exp(-log_s[a]), np.exp(-log_s[b])
        cross = -phi / left * x * y
        last, early = y**2 / left, phi**2 / left * x**2
        both = slopes[:, a] + slopes[:, b]
        dcross, dlast, dearly = -both * cross, -2 * slopes[:, b] * last, -2 * slopes[:, a] * early
        dcross[at] -= (1 + phi**2) / left**2 * dphi * x * y
        moved = 2 * phi / left**2 * dphi
        dlast[at] += moved * y**2
        dearly[at] += moved * x**2
        dc = np.concatenate([-2 * slopes * w, dlast - dcross, dearly - dcross, dcross], axis=1)
        dlog_det = 2 * slopes @ self.first + 2 * slopes[:, b] @ n
        dlog_det[at] += -2 * n @ (phi * dphi / left)
        expected = np.zeros((p, p))
        s, t = slopes[:, a], slopes[:, b]
        inner = (slopes * self.first) @ slopes.T + (t * (n / left)) @ t.T
        inner += (s * (n * phi**2 / left)) @ s.T
        off = (s * (n * phi**2 / left)) @ t.T
        expected += 2 * (inner - off - off.T)
        expected += 2 * ((slopes * self.first) @ slopes.T + (t * n) @ t.T)
        expected[at, at] = 2 * n @ ((1 + phi**2) * dphi**2 / left**2)
        with_correlation = -2 * both @ (n * phi * dphi / left)
        with_correlation[at] = 0.0
        expected[at] += with_correlation
        expected[:, at] += with_correlation
        return Coefficients(
            np.concatenate([w, last - cross, early - cross, cross]),
            dc,
            float(2 * self.first @ log_s + n @ (2 * log_s[b] + np.log(left))),
            dlog_det,
            expected,
        )


@dataclass(frozen=True, eq=False)
class _Patterns:
    """Groups by the visits that they have: cells of every visit, and of every pair of them.

    Attributes
    ----------
    visits, classes : tuple of (v,)
        Of every pattern.
    counts : (P,)
        Groups with it.
    """

    visits: tuple
    classes: tuple
    counts: np.ndarray

    @classmethod
    def of(cls, codes, visits, classes, n_levels, n_visits, frequencies):
        table = np.full((n_levels, n_visits), -1)
        table[codes, visits] = np.arange(len(codes))
        table = table[(table >= 0).any(axis=1)]
        key = np.where(table >= 0, classes[table], -1)
        found, pattern = np.unique(key, axis=0, return_inverse=True)
        pattern = pattern.ravel()
        first, second, cell, begin = [], [], [], 0
        own_visits, own_classes, counts = [], [], []
        for k, signature in enumerate(found):
            at = np.flatnonzero(signature >= 0)
            rows = table[pattern == k][:, at]
            own_visits.append(at)
            own_classes.append(signature[at])
            weights = 1.0 if frequencies is None else frequencies[rows[:, 0]]
            counts.append(float(np.sum(weights * np.ones(len(rows)))))
            i, j = np.triu_indices(len(at), 1)
            first += [rows.T.ravel(), rows[:, i].T.ravel()]
            second += [np.full(rows.size, -1), rows[:, j].T.ravel()]
            cell.append(begin + np.repeat(np.arange(len(at) + len(i)), len(rows)))
            begin += len(at) + len(i)
        first = np.concatenate(first)
        extended = ExtendedRows(
            first,
            np.concatenate(second),
            np.concatenate(cell),
            None if frequencies is None else frequencies[first],
            begin,
        )
        return cls(tuple(own_visits), tuple(own_classes), np.array(counts)), extended

    def by_class(self, forms, n_classes):
        total, counts, begin = np.zeros(n_classes), np.zeros(n_classes), 0
        for classes, n in zip(self.classes, self.counts, strict=True):
            v = len(classes)
            np.add.at(total, classes, forms[begin : begin + v])
            np.add.at(counts, classes, n)
            begin += v * (v + 1) // 2
        return total, counts

    def coefficients(self, correlation, rho, log_s, slopes):
        S, dS = correlation.covariance(rho)
        p, own = len(slopes), len(slopes) - len(rho)
        c, dc, exact = [], [], []
        log_det, dlog_det, expected = 0.0, np.zeros(p), np.zeros((p, p))
        for visits, classes, n in zip(self.visits, self.classes, self.counts, strict=True):
            at, s = np.ix_(visits, visits), np.exp(log_s[classes])
            R = s[:, None] * S[at] * s
            dR = (slopes[:, classes, None] + slopes[:, None, classes]) * R
            dR[own:] += s[:, None] * dS[(slice(None), *at)] * s
            try:
                L = np.linalg.cholesky(R)
            except np.linalg.LinAlgError:
                return None
            half = np.linalg.inv(L)
            M = half.T @ half
            moved = M @ dR
            log_det += 2 * n * float(np.log(L.diagonal()).sum())
            dlog_det += n * np.einsum("jvv->j", moved)
            expected += n * np.einsum("jvw,kwv->jk", moved, moved)
            c.append(_by_cell(M))
            dc.append(-_by_cell(moved @ M))
            exact.append(_by_cell(np.einsum("jvw,kwx->jkvx", moved, moved @ M)))
        return Coefficients(
            np.concatenate(c),
            np.concatenate(dc, axis=-1),
            log_det,
            dlog_det,
            expected,
            np.concatenate(exact, axis=-1),
        )

    def observed_pairs(self, n_visits):
        """Number of groups that have each pair of visits (V, V)."""
        found = np.zeros((n_visits, n_visits))
        for visits, n in zip(self.visits, self.counts, strict=True):
            found[np.ix_(visits, visits)] += n
        return found

    def moments(self, forms, n_visits):
        """Mean products (V, V) of residuals from the forms (K,) of all cells; NaN for no pair."""
        total, begin = np.zeros((n_visits, n_visits)), 0
        for visits in self.visits:
            i, j = np.triu_indices(len(visits), 1)
            own = forms[begin : begin + len(visits)]
            both = forms[begin + len(visits) : begin + len(visits) + len(i)]
            cross = np.diag(own)
            cross[i, j] = cross[j, i] = (both - own[i] - own[j]) / 2
            total[np.ix_(visits, visits)] += cross
            begin += len(visits) + len(i)
        with np.errstate(invalid="ignore"):
            return total / self.observed_pairs(n_visits)


def _by_cell(M):
    """Coefficients of the visits, then of the pairs, of symmetric matrices M (..., v, v)."""
    i, j = np.triu_indices(M.shape[-1], 1)
    M = (M + np.swapaxes(M, -1, -2)) / 2
    own = 2 * np.einsum("...vv->...v", M) - M.sum(axis=-1)
    return np.concatenate([own, M[..., i, j]], axis=-1)
