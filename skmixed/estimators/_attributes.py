"""Names and attributes of a fitted mixed model, read off its fit when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skmixed.estimators._dependencies import dependencies
from skmixed.estimators._foreign import KnowsOtherNames, attribute_elsewhere
from skmixed.linalg.dependencies import minimum_norm


@dataclass(frozen=True)
class Labels:
    """Names of everything a fit estimates; it outlives the rows they came from.

    columns (p,), intercept: position of the constant among them; terms: the random-effects terms
    in the formula's order; levels: group -> Index; formula: as the summary shows it.
    """

    columns: tuple[str, ...]
    intercept: int | None
    terms: tuple[TermLabels, ...]
    levels: dict[str, pd.Index]
    formula: str


@dataclass(frozen=True)
class TermLabels:
    """Grouping factor and effects of one random-effects term, its covariance structure and text."""

    group: str
    names: tuple[str, ...]
    correlated: bool
    structure: str = "us"
    text: str = ""

    @property
    def is_smooth(self):
        """Whether the term is a smooth function, which has no levels that users know."""
        return self.structure == "smooth"


@dataclass(frozen=True)
class Expansion:
    """sigma and the sparse factors of Lambda = T S: T unit lower triangular, S diagonal.

    P is the permutation in which the random effects are eliminated. Rows are ordered by term,
    within a term by effect, within an effect by level.
    """

    sigma: float
    T: sparse.csr_matrix
    S: sparse.dia_matrix
    P: sparse.csr_matrix


class FittedMixedModel(KnowsOtherNames):
    """Attributes of an estimator that keeps its fit in ``result_`` and its names in ``labels_``."""

    rank_deficient: str
    design_spec_: Any
    result_: Any
    labels_: Labels

    def __sklearn_is_fitted__(self):
        return "result_" in vars(self)

    def __getattr__(self, name):
        """An attribute of a fit that is not there, or one of another program: an AttributeError."""
        public = name.endswith("_") and not name.startswith("_")
        if public and not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with "
                f"appropriate arguments before reading {name}"
            )
        here = attribute_elsewhere(name)
        if here is not None:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}: here that is {here}"
            )
        return object.__getattribute__(self, name)  # which says what is missing

    # Fixed effects

    @property
    def fixed_effects_(self) -> pd.Series:
        """Coefficients of all columns of X; NaN where a column was left out."""
        coef = self._coef(np.nan)
        return pd.Series(coef, index=list(self.labels_.columns), name="estimate")

    def _coef(self, dropped):
        fit, basis = self.result_, self.result_.basis
        if self._shortest:
            return self._minimum_norm @ fit.beta
        coef = np.full(basis.aliased.size, dropped)
        coef[basis.kept] = fit.beta
        return coef

    @property
    def _shortest(self):
        """Whether the coefficients are the solution of smallest norm."""
        return self.rank_deficient == "minimum_norm" and bool(self.result_.basis.aliased.any())

    @property
    def _minimum_norm(self):
        """(p, r): solution of smallest norm from the coefficients of the kept columns.

        As in scikit-learn's LinearRegression the norm is that of the slopes: an intercept is free,
        so that shifting a column does not change its coefficient.
        """
        basis, at = self.result_.basis, self.labels_.intercept
        if at is None:
            return minimum_norm(basis.combinations, np.eye(basis.rank))
        slopes, others = np.arange(basis.aliased.size) != at, basis.kept != at
        shortest = np.zeros(basis.combinations.shape)
        shortest[np.ix_(slopes, others)] = minimum_norm(
            basis.combinations[np.ix_(slopes, others)], np.eye(basis.rank - 1)
        )
        shortest[at] = ~others - basis.combinations[slopes][:, ~others].T @ shortest[slopes]
        return shortest

    @property
    def _coefficient_rows(self):
        """(p, r): coefficients from those of the kept columns, NaN where a column has none."""
        if self._shortest:
            return self._minimum_norm
        basis = self.result_.basis
        rows = np.full(basis.combinations.shape, np.nan)
        rows[basis.kept] = np.eye(basis.rank)
        return rows

    @property
    def coef_(self) -> np.ndarray:
        """Coefficients without the intercept, 0 where a column was left out."""
        coef, at = self._coef(0.0), self.labels_.intercept
        return coef if at is None else np.delete(coef, at)

    @property
    def intercept_(self) -> float:
        """The intercept, 0.0 for a model without one."""
        at = self.labels_.intercept
        return 0.0 if at is None else float(self._coef(0.0)[at])

    @property
    def vcov_(self) -> pd.DataFrame:
        """Covariance of the fixed effects; NaN where a column was left out."""
        names = list(self.labels_.columns)
        return pd.DataFrame(self._of_all_columns(self.result_.vcov), index=names, columns=names)

    @property
    def standard_errors_(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        fit, names = self.result_, list(self.labels_.columns)
        std = fit.sigma * np.sqrt(np.diag(self._of_all_columns(fit.relative_vcov)))
        return pd.Series(std, index=names, name="std_error")

    def _of_all_columns(self, vcov):
        """A covariance (p, p) from that of the kept columns (r, r)."""
        if self._shortest:
            return _of_combinations(self._minimum_norm, vcov)
        basis = self.result_.basis
        full = np.full((basis.aliased.size, basis.aliased.size), np.nan)
        full[np.ix_(basis.kept, basis.kept)] = vcov
        return full

    @property
    def aliased_(self) -> np.ndarray:
        """(p,) bool: columns of X that depend on earlier ones."""
        return self.result_.basis.aliased.copy()

    @property
    def linear_dependencies_(self) -> dict[str, dict[str, float]]:
        """For every column of X that depends on earlier ones its coefficients on them."""
        return dependencies(self.result_.basis, self.labels_.columns)

    # Random effects

    @property
    def random_terms_(self) -> tuple[TermLabels, ...]:
        """Grouping factor and effects of every random-effects term."""
        return tuple(term for term in self.labels_.terms if not term.is_smooth)

    def _by_group(self, tables):
        """{group: DataFrame} of per-term arrays (l, s), terms of one group side by side."""
        joined: dict[str, pd.DataFrame] = {}
        for term, values in zip(self.labels_.terms, tables, strict=True):
            if term.is_smooth:
                continue
            table = pd.DataFrame(
                values, index=self.labels_.levels[term.group], columns=list(term.names)
            )
            joined[term.group] = (
                pd.concat([joined[term.group], table], axis=1) if term.group in joined else table
            )
        for group, table in joined.items():
            table.index = table.index.rename(group)
        return joined

    @property
    def random_effects_(self) -> dict[str, pd.DataFrame]:
        """Conditional modes: group -> DataFrame (levels, effects)."""
        return self._by_group(self.result_.effects)

    @property
    def random_effects_std_(self) -> dict[str, pd.DataFrame]:
        """Conditional standard deviations, given theta and the fixed effects."""
        return self._by_group(self.result_.effects_std())

    @property
    def covariances_(self) -> dict[str, pd.DataFrame]:
        """Covariance of the effects of each group: sigma^2 T T'; 0 between separate terms."""
        parts: dict[str, list] = {}
        for term, covariance in zip(self.labels_.terms, self.result_.covariances, strict=True):
            if term.is_smooth:
                continue
            covariance = covariance[: len(term.names), : len(term.names)]  # per unit of a known K
            parts.setdefault(term.group, []).append((list(term.names), covariance))
        result = {}
        for group, blocks in parts.items():
            names = [name for own, _ in blocks for name in own]
            joined, begin = np.zeros((len(names), len(names))), 0
            for own, block in blocks:
                end = begin + len(own)
                joined[begin:end, begin:end] = block
                begin = end
            result[group] = pd.DataFrame(joined, index=names, columns=names)
        return result

    @property
    def structure_(self) -> dict[str, pd.Series]:
        """Parameters of every structured random-effects term: standard deviations, rho, range."""
        found, fit = {}, self.result_
        for t, term in enumerate(self.labels_.terms):
            related = fit.layout.terms[t].loadings is not None
            if related and term.names == ("Intercept",):
                sd = fit.sigma * float(fit.term_factors[t][0, 0])
                found[term.text] = pd.Series({"sd": sd}, name=term.text)
            if term.structure == "us" or term.is_smooth:
                continue
            values = {
                fit.layout.natural_name(t, p): p.value
                * fit.layout.natural_unit(t, p)
                * (fit.sigma if p.kind == "sd" else 1.0)
                for p in fit.layout.natural(fit.optimum.theta, t)[1]
            }
            found[term.text] = pd.Series(values, name=term.text)
        return found

    @property
    def smooths_(self) -> pd.DataFrame:
        """One row for every smooth function: edf, sd, lambda and k.

        edf: effective degrees of freedom, 1 for a straight line. sd: standard deviation of the
        coefficients of the penalised splines, which levels of a factor ``by`` share. lambda: the
        weight of the penalty (mgcv's ``sp``), sigma^2 / sd^2 (1 / sd^2 of generalised models); inf
        for a straight line. k: number of B-splines.
        """
        fit, rows = self.result_, {}
        pairs = zip(fit.smooth_terms, self.design_spec_.smooths, fit.smooth_freedom, strict=True)
        for t, part, freedom in pairs:
            [ratio] = fit.layout.natural_values(fit.optimum.theta, t).values()
            penalty = 1.0 / ratio**2 if ratio > 0 else np.inf
            lines = part.lines.n_columns(fit.basis.kept)
            for curve, own, line in zip(part.curves, freedom, lines, strict=True):
                name = part.label if curve is None else f"{part.label}[{curve}]"
                rows[name] = [line + own, fit.sigma * ratio, penalty, part.k]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["edf", "sd", "lambda", "k"])
        return table.astype({"k": int}).rename_axis("term")

    @property
    def theta_(self) -> np.ndarray:
        """Relative covariance parameters: lower triangles of T, by column, in lme4's order.

        After them those of structured terms: standard deviations over sigma, rho, range.
        """
        return self.result_.theta.copy()

    @property
    def sigma_(self) -> float:
        """Residual standard deviation."""
        return self.result_.residual_sigma

    # The fit as a whole

    @property
    def deviance_(self) -> float:
        """The criterion that was minimised, without what a prior adds to it."""
        return self.result_.deviance

    @property
    def log_likelihood_(self) -> float:
        """``-deviance_ / 2``."""
        return -0.5 * self.result_.deviance

    @property
    def aic_(self) -> float:
        """``deviance_ + 2 npar``."""
        return self.result_.deviance + 2 * self.result_.n_params

    @property
    def bic_(self) -> float:
        """``deviance_ + log(n) npar``."""
        return self.result_.deviance + float(np.log(self.result_.n_obs)) * self.result_.n_params

    @property
    def n_obs_(self) -> float | int:
        """Number of rows, each counted as often as its sample weight says."""
        n = self.result_.n_obs
        return int(n) if float(n).is_integer() else n

    @property
    def df_resid_(self) -> float | int:
        """``n_obs_`` minus the number of parameters, 0 where those are more."""
        return max(self.n_obs_ - self.result_.n_params, 0)

    @property
    def is_singular_(self) -> bool:
        """Whether a covariance of random effects is singular.

        A smooth function without a variance is a straight line, and counts not.
        """
        pairs = zip(self.labels_.terms, self.result_.singular_terms, strict=True)
        return any(singular for term, singular in pairs if not term.is_smooth)

    @property
    def converged_(self) -> bool:
        """Whether the optimiser reached its tolerance."""
        return self.result_.optimum.converged

    @property
    def n_iter_(self) -> int:
        """Steps of the optimiser; the closed form of a model without random effects is one."""
        return max(1, self.result_.optimum.n_iter)

    @property
    def n_evaluations_(self) -> int:
        """Evaluations of the objective."""
        return self.result_.optimum.n_evaluations

    @property
    def trace_(self) -> pd.DataFrame:
        """One row per iteration: objective and theta (in the user's units, lme4's order)."""
        fit = self.result_
        rows = [[value, *fit.layout.user_theta(theta)] for value, theta in fit.optimum.trace]
        columns = ["objective", *(f"theta[{j}]" for j in range(len(fit.theta)))]
        return pd.DataFrame(rows, columns=columns).rename_axis("iteration")

    def expand(self) -> Expansion:
        """sigma, T, S and P with Lambda = T S (the 2008 slides' ``expand``)."""
        check_is_fitted(self)
        if self.result_.smooth_terms:
            raise ValueError("the factors of expand() are for models without smooth terms")
        if any(term.loadings is not None for term in self.result_.layout.terms):
            raise ValueError(
                "the factors of expand() are for levels without a known relationship: "
                "covariances_ times K is the covariance of related levels"
            )
        fit, lower, scale = self.result_, [], []
        for term, T in zip(self.labels_.terms, fit.term_factors, strict=True):
            eye = sparse.identity(len(self.labels_.levels[term.group]), format="csr")
            size = np.diag(T)
            unit = np.where(size > 0, T / np.where(size > 0, size, 1.0), np.eye(len(T)))
            lower.append(sparse.kron(unit, eye, format="csr"))
            scale.append(np.repeat(size, eye.shape[0]))
        order = fit.elimination_order() if scale else np.zeros(0, dtype=int)
        diagonal = np.concatenate(scale) if scale else np.zeros(0)
        q = len(diagonal)
        return Expansion(
            sigma=fit.sigma,
            T=sparse.block_diag(lower, format="csr") if lower else sparse.csr_matrix((0, 0)),
            S=sparse.diags(diagonal) if q else sparse.dia_matrix((0, 0)),
            P=sparse.csr_matrix((np.ones(q), (np.arange(q), order)), shape=(q, q)),
        )


def _of_combinations(K, vcov):
    """K vcov K'; inf for combinations with an unbounded coefficient, and NaN beside them."""
    unbounded = np.isinf(vcov.diagonal())
    known = K[:, ~unbounded]
    result = known @ vcov[np.ix_(~unbounded, ~unbounded)] @ known.T
    touched = K[:, unbounded].any(axis=1)
    result[touched] = result[:, touched] = np.nan
    result[touched, touched] = np.inf
    return result
