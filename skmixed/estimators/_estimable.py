"""Questions to a fitted linear model: which have an answer, and what it is."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skmixed.design.glm import GLMDesign, row_product
from skmixed.estimators._dependencies import shortened, shortlist
from skmixed.inference.fixed_effects import FixedEffects, combination_text
from skmixed.inference.hypotheses import Hypothesis, contrast, type_3_functions
from skmixed.inference.numbers import count, number
from skmixed.inference.tables import (
    B_NOTE,
    LinearSummary,
    anova_table,
    means_table,
    parameter_table,
)
from skmixed.models.linear import LinearFit

_METHOD_TEXT = {
    "sweep": "sequential sweep: later dependent columns are set to 0",
    "rational_sweep": "sweep by largest pivot: the columns never reached are set to 0",
    "moore_penrose": "Moore-Penrose: the shortest of all solutions",
    "qr": "QR: later dependent columns are left out",
}


class EstimableFunctionsMixin:
    """Contrasts, least-squares means, tests by term and the summary of a linear model.

    Expects ``result_`` (LinearFit), ``_design`` (GLMDesign or None), ``_names`` and the published
    attributes of the estimator.
    """

    result_: LinearFit
    _design: GLMDesign | None
    _names: list[str]
    _method: str
    _full_coef: np.ndarray
    _unscaled_errors: np.ndarray
    _fit_has_intercept: int
    aliased_: pd.Series
    estimable_: pd.Series
    linear_dependencies_: dict[str, dict[str, float]]
    null_space_: np.ndarray

    @property
    def glm_design_(self) -> GLMDesign | None:
        """How rows of a table become columns; None for a model of plain numbers."""
        return self._design

    def solutions(self, alpha):
        """Other solutions of the normal equations, ``b + null_space_ @ alpha``.

        Parameters
        ----------
        alpha : float, (k,) or (m, k) array
            Coordinates in the k = p - rank columns of ``null_space_``; a 1-d array is read as m
            values when k = 1.

        Returns
        -------
        (p,) or (m, p) array
            The intercept first. With several responses use one model for each.
        """
        check_is_fitted(self)
        b = self._full_coef[:, self._one_output(None)]
        k = self.null_space_.shape[1]
        alpha = np.asarray(alpha, dtype=float)
        if alpha.ndim == 0 or (alpha.ndim == 1 and k == 1 and alpha.size != 1):
            alpha = alpha[..., None]
        if alpha.shape[-1] != k:
            raise ValueError(
                f"solutions needs {k} coordinates alpha, one for each column of null_space_, got "
                f"shape {alpha.shape}"
            )
        return b + alpha @ self.null_space_.T

    def is_estimable(self, K):
        """Whether K'beta has the same value for all solutions of the normal equations.

        Parameters
        ----------
        K : (p,) or (d, p) array, or dict of coefficients by parameter name
            The intercept first.

        Returns
        -------
        bool, or (d,) array of bool
        """
        check_is_fitted(self)
        rows, single, _ = FixedEffects.of(self).rows(K)
        estimable = self.result_.is_estimable(rows)
        return bool(estimable[0]) if single else estimable

    def contrast(self, K, rhs=0.0, *, output=None) -> Hypothesis:
        """Estimate and test of K'beta = rhs.

        Parameters
        ----------
        K : (p,) or (d, p) array, dict of coefficients by parameter name, or several of these
            The intercept first; several dicts as a list or by name, ``{"name": {...}}``. One row
            is tested by t, several by F.
        rhs : float or (d,)
        output : int, optional
            Which response, if there are several.

        Returns
        -------
        Hypothesis
            With estimate, standard_error, statistic, df_num, df_den and p_value.

        Raises
        ------
        NotEstimableError
            K'beta depends on the solution chosen; the message names the dependency.
        """
        check_is_fitted(self)
        return contrast(FixedEffects.of(self._asked(output)), K, rhs)

    def least_squares_means(self, factor, *, pairs=False, level=0.95, output=None):
        """Means of the response by level of a factor, as if the design were balanced.

        The other factors are averaged with equal weights over their levels and the covariates are
        held at their means.

        Parameters
        ----------
        factor : str
            A categorical column, or ``"A:B"`` for cell means.
        pairs : bool
            Differences between levels instead of means.
        level : float
            Confidence level of the intervals.
        output : int, optional
            Which response, if there are several.

        Returns
        -------
        DataFrame
            estimate, std_error, lower, upper, df, t, p_value, estimable. A mean that the data do
            not determine, such as that of a level with an empty cell, is NaN with
            ``estimable=False``.
        """
        check_is_fitted(self)
        names, K = self._mean_functions(factor)
        if pairs:
            both = list(combinations(range(len(K)), 2))
            names = [f"{names[i]} - {names[j]}" for i, j in both]
            K = [K[i] - K[j] for i, j in both]
        index = pd.Index(names, name=factor if isinstance(factor, str) else ":".join(factor))
        return means_table(self._asked(output), K, index, level)

    def anova(self, type=3, *, output=None):
        """Tests by term.

        Type 1: each term after those before it. Type 2: each after all terms that do not contain
        it. Type 3: the estimable functions of a term that are orthogonal to those of the terms
        containing it; without empty cells these compare unweighted marginal means. None of them
        depends on the coding or the order of levels.

        Parameters
        ----------
        type : {1, 2, 3}
        output : int, optional
            Which response, if there are several.

        Returns
        -------
        DataFrame
            df, sum_sq, mean_sq, F and p_value by term and for the residuals.
        """
        check_is_fitted(self)
        types = {1: 1, 2: 2, 3: 3, "I": 1, "II": 2, "III": 3}
        if type not in types:
            raise ValueError(f"anova has types 1, 2 and 3, got type={type!r}")
        return anova_table(self._asked(output), types[type])

    def estimable_functions(self, term):
        """The functions of the parameters that type III tests for a term.

        Returns
        -------
        DataFrame (d, p)
            Orthonormal rows of coefficients by parameter.
        """
        check_is_fitted(self)
        terms = {known.name: known for known in self.result_.terms}
        if term not in terms:
            raise ValueError(f"{term!r} is no term of the model; the terms are {list(terms)}")
        K = type_3_functions(self.result_, terms[term])
        return pd.DataFrame(K, columns=self._names)

    def summary(self, *, output=None) -> LinearSummary:
        """The parameter table with fit statistics; non-estimable coefficients are marked B."""
        check_is_fitted(self)
        k = self._one_output(output)
        fit = self.result_
        aliased = self.aliased_.to_numpy() & (self._method != "moore_penrose")
        coef = self._full_coef[:, k]
        if self._method == "qr":
            coef = np.where(aliased, np.nan, coef)
        table = parameter_table(
            self._names,
            coef,
            fit.sigma[k] * self._unscaled_errors,
            self.estimable_.to_numpy(),
            aliased,
            fit.df_resid,
        )
        facts = (
            ("Method", _METHOD_TEXT[self._method]),
            ("Observations", count(fit.total)),
            ("Columns, rank", f"{len(self._names)}, {fit.rank}"),
            ("Residual df", count(fit.df_resid)),
            ("Residual std. deviation", number(fit.sigma[k])),
            ("R-squared", number(fit.r_squared[k])),
        )
        return LinearSummary("Linear model by generalised inverse", facts, table, self._notes())

    def _notes(self):
        if not self.linear_dependencies_:
            return ()
        note = B_NOTE.format(
            n=len(self.linear_dependencies_), p=len(self._names), method=self._method
        )
        found = [
            f"{name} = {shortened(combination_text(row.values(), row.keys()))}"
            for name, row in self.linear_dependencies_.items()
        ]
        return note, f"In the data: {shortlist(found, 'linear_dependencies_')}."

    def _asked(self, output) -> LinearFit:
        """The fit of one response."""
        return self.result_.of_response(self._one_output(output))

    def _one_output(self, output) -> int:
        q = self._full_coef.shape[1]
        if output is None and q > 1:
            raise ValueError(f"the model has {q} responses; say which, output=0 to {q - 1}")
        k = 0 if output is None else output
        if not 0 <= k < q:
            raise ValueError(f"output must be 0 to {q - 1}, got {output}")
        return k

    def _mean_functions(self, factor):
        """(names, rows of K) of the least-squares means of a factor or cells of several."""
        wanted = factor.split(":") if isinstance(factor, str) else list(factor)
        factors = {} if self._design is None else self._design.factors
        known = [name for name, f in factors.items() if f.levels is not None]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ValueError(
                f"least_squares_means needs categorical factors of the model, got {unknown}; the "
                f"model has {known or 'none (pass a DataFrame with categorical columns)'}"
            )
        names, rows = [], []
        for levels in product(*(range(len(factors[name].levels)) for name in wanted)):
            at = dict(zip(wanted, levels, strict=True))
            names.append(" ".join(str(factors[n].levels[k]) for n, k in at.items()))
            rows.append(self._mean_row(at))
        return names, rows

    def _mean_row(self, at):
        """K of one mean: products of each factor's average column values."""
        average = {name: self._average(f, at.get(name)) for name, f in self._design.factors.items()}
        parts = [np.ones(1)] if self._fit_has_intercept else []
        parts += [row_product([average[f] for f in term])[0] for term in self._design.terms]
        return np.concatenate(parts)

    def _average(self, factor, level):
        """Column values (1, k) of a factor at one level, or on average."""
        if factor.levels is not None:
            k = len(factor.levels)
            return np.full((1, k), 1 / k) if level is None else np.eye(k)[[level]]
        return self._design.at_means(factor)
