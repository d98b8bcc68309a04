"""Linear regression with X'X of any rank: GeneralizedInverseRegressor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from skmixed._warn import warn
from skmixed.design.columns import Table
from skmixed.design.glm import GLMDesign, build_glm_design, complete
from skmixed.design.terms import FixedTerm
from skmixed.estimators._artefact import Storable
from skmixed.estimators._dependencies import MOST, dependencies, dependency_text, shortlist
from skmixed.estimators._estimable import EstimableFunctionsMixin
from skmixed.estimators._restored import check_least_squares
from skmixed.estimators._table import (
    as_columns,
    as_text_columns,
    categorical_columns,
    is_frame,
    remember_features,
)
from skmixed.exceptions import NotEstimableError, RankDeficiencyWarning
from skmixed.linalg.threads import one_thread
from skmixed.models.linear import METHODS, LinearFit, fit_linear

# Share of a column's spread that earlier columns leave: below this half of the digits are gone,
# and more often it is rounding from earlier computations than information.
NEAR_DEPENDENCE = 1e-8


class GeneralizedInverseRegressor(
    EstimableFunctionsMixin, MultiOutputMixin, RegressorMixin, Storable, BaseEstimator
):
    """Least squares by a generalised inverse, for designs whose X'X has no inverse.

    The normal equations ``X'X b = X'y`` have infinitely many solutions when columns of X depend
    on each other. They differ in the coefficients and agree in everything that the data
    determine: fitted values, residuals and estimable functions K'b. This estimator shows one of
    the solutions, says which of its coefficients are estimable, and refuses the questions that
    have no answer.

    Categorical columns of a DataFrame enter with one column per level and none left out, as in
    SAS PROC GLM; numeric columns enter as they are.

    Parameters
    ----------
    method : {"sweep", "rational_sweep", "moore_penrose", "qr"}, default "sweep"
        Which solution: ``"sweep"`` gives columns that depend on earlier ones the coefficient 0;
        ``"rational_sweep"`` picks columns by largest remaining pivot; ``"moore_penrose"`` is the
        shortest solution; ``"qr"`` is that of ``"sweep"`` with NaN in the tables for the
        redundant columns, as in R.
    fit_intercept : bool, default True
    tol : float, default 1e-12
        Residual size, relative to a column's own spread, below which the column is redundant.
        Rounding of the stored digits is allowed for in any case.
    non_estimable : {"warn", "nan", "raise", "ignore"}, default "warn"
        What predict does with rows outside the row space of the training design.
    formula : str, optional
        Terms of the model, such as ``"A * B + x"``; with a left-hand side, ``fit(df)`` needs no
        y. By default every column is one term.
    reference : {"last", "first"} or dict, default "last"
        Which level of a categorical column comes last, and so gets the coefficient 0 with
        ``method="sweep"``: the last or first, or by column, ``{"A": "control"}``.
    trusted : bool, default False
        Evaluate expressions of the formula as Python code, at the fit and at every prediction,
        where they are more than arithmetic on columns: only for formulas of your own.

    Attributes
    ----------
    coef_ : (p,) or (q, p) array
        0 for columns that the solution leaves out.
    intercept_ : float or (q,) array
    rank_ : int
    aliased_, estimable_ : Series of bool by parameter, the intercept first
        Columns the solution leaves out (with Moore-Penrose, those that depend on earlier ones);
        coefficients that all solutions agree on.
    ginverse_ : (p, p) array
        Generalised inverse G of X'WX, the intercept first.
    null_space_ : (p, p - rank) array
        Orthonormal columns N with X N = 0.
    linear_dependencies_ : dict of dict
        For every redundant column its coefficients on the others.
    standard_errors_ : Series (DataFrame with several responses)
    vcov_ : DataFrame ((q, p, p) array with several responses)
        sigma^2 G.
    sigma_, r_squared_ : float or (q,) array
    df_resid_ : float
        Sum of sample weights minus rank.
    result_ : LinearFit
        The fit, without labels.
    glm_design_ : GLMDesign or None
        How rows of a table become columns; None for a model of plain numbers.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    References
    ----------
    Searle (1971), Linear Models, chapter 5. Goodnight (1979), A tutorial on the SWEEP operator,
    The American Statistician 33, 149-158.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmixed import GeneralizedInverseRegressor
    >>> data = pd.DataFrame({"diet": ["a", "a", "b", "b", "c", "c"]})
    >>> model = GeneralizedInverseRegressor().fit(data, [1.0, 3, 4, 6, 9, 11])
    >>> model.coef_.round(10)
    array([-8., -5.,  0.])
    >>> model.estimable_.to_dict()
    {'Intercept': False, 'diet[a]': False, 'diet[b]': False, 'diet[c]': False}
    >>> round(model.contrast({"diet[b]": 1, "diet[a]": -1}).estimate, 10)
    3.0
    """

    _parameter_constraints: ClassVar = {
        "method": [StrOptions(set(METHODS))],
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, 1, closed="left"), None],
        "non_estimable": [StrOptions({"warn", "nan", "raise", "ignore"})],
        "formula": [str, None],
        "reference": [StrOptions({"last", "first"}), Mapping],
        "trusted": ["boolean"],
    }

    def __init__(
        self,
        method="sweep",
        *,
        fit_intercept=True,
        tol=None,
        non_estimable="warn",
        formula=None,
        reference="last",
        trusted=False,
    ):
        self.method = method
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.non_estimable = non_estimable
        self.formula = formula
        self.reference = reference
        self.trusted = trusted

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X, y=None, sample_weight=None):
        """Solve the normal equations.

        Parameters
        ----------
        X : (n, p) array, sparse matrix or DataFrame
        y : (n,) or (n, q) array
            Left out if the formula names the response.
        sample_weight : (n,), optional
            Non-negative; weight 2 is the same as repeating the row, 0 as leaving it out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Missing or infinite values, text where numbers are needed, or lengths that differ.
        """
        self._validate_params()
        weights = self._weights(sample_weight, X)
        design = self._build_design(X, y, weights)
        X, y = self._read(X, y, design)
        intercept = self.fit_intercept and (design is None or design.intercept)
        Y = y.reshape(len(y), -1).astype(np.float64, copy=False)
        with one_thread():
            fit = fit_linear(X, Y, weights, add_intercept=intercept, tol=self.tol)
            return self._publish(fit, design, y.ndim)

    def predict(self, X, return_std=False):
        """Predicted means.

        Rows outside the row space of the training design have no determined prediction: solutions
        of the normal equations disagree on them. ``non_estimable`` says what happens to them.

        Parameters
        ----------
        X : (n, p) array, sparse matrix or DataFrame
        return_std : bool
            Also return the standard error of the predicted mean (NaN for rows outside).

        Returns
        -------
        (n,) or (n, q) array, and a second one of standard errors if asked for

        Raises
        ------
        NotEstimableError
            With ``non_estimable="raise"``, for rows outside the row space.
        """
        check_is_fitted(self)
        matrix = self._new_matrix(X)
        gap = self.result_.outside(matrix)
        outside = gap.any(axis=1)
        mean = self.result_.predict(matrix, gap, self._full_coef[self.result_.basis.aliased])
        if outside.any():
            self._tell_outside(X, matrix, gap)
            if self.non_estimable == "nan":
                mean[outside] = np.nan
        mean = mean[:, 0] if self._single else mean
        if not return_std:
            return mean
        return mean, self._std(matrix, outside)

    def design_matrix(self, X):
        """The columns that the model uses for X, every level of every factor among them.

        Returns
        -------
        DataFrame (n, p)
            The intercept first; reference levels last.
        """
        check_is_fitted(self)
        matrix = self._new_matrix(X)
        matrix = matrix.toarray() if sp.issparse(matrix) else matrix
        frame = pd.DataFrame(matrix, columns=self._names[self._fit_has_intercept :])
        if self._fit_has_intercept:
            frame.insert(0, "Intercept", 1.0)
        return frame if not isinstance(X, pd.DataFrame) else frame.set_axis(X.index)

    def _build_design(self, X, y, weights) -> GLMDesign | None:
        """The over-parameterised design, or None if X is numbers only and there is no formula."""
        frame = is_frame(X)
        if self.formula is None and not (frame and categorical_columns(X)):
            return None
        if not frame:
            X = check_array(X, dtype=np.float64)
        data = as_columns(X)
        design = build_glm_design(
            data,
            formula=self.formula,
            reference=self.reference,
            weights=weights,
            trusted=self.trusted,
        )
        if design.response is not None and y is not None:
            raise ValueError(
                f"formula {self.formula!r} names the response {design.response!r} and y was given "
                "too; use fit(X) or take the left-hand side out of the formula"
            )
        return design

    def _read(self, X, y, design):
        """(X, y) as validated numbers."""
        if y is None and (design is None or design.response is None):
            raise ValueError(
                "GeneralizedInverseRegressor requires y to be passed, but the target y is None; "
                "pass fit(X, y), or name the response in formula='y ~ ...'"
            )
        if design is None:
            return validate_data(
                self,
                X,
                y,
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                multi_output=True,
                y_numeric=True,
            )
        remember_features(self, X)
        data = as_columns(X)
        if design.response is not None:
            y = complete(design.response, Table(data)).values
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(X, y)
        return design.matrix(data), y

    def _weights(self, sample_weight, X):
        if sample_weight is None:
            return None
        return _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)

    def _publish(self, fit: LinearFit, design, y_ndim):
        self._design, self._method = design, self.method
        self._fit_has_intercept = int(fit.basis.intercept is not None)
        self._single = y_ndim == 1
        self._names = self._parameter_names()
        fit = replace(fit, names=tuple(self._names), terms=self._terms())
        self.result_ = fit
        self._index = pd.Index(self._names)
        solution = fit.solution(self.method)
        self._full_coef, self._unscaled_errors = solution.coef, solution.unscaled_errors
        coef = solution.coef[self._fit_has_intercept :].T
        constant = solution.coef[0] if self._fit_has_intercept else np.zeros(len(coef))
        self.coef_ = coef[0] if self._single else coef
        self.intercept_ = float(constant[0]) if self._single else constant
        self.rank_ = fit.rank
        left_out = solution.left_out if self.method != "moore_penrose" else fit.basis.aliased
        self.aliased_ = pd.Series(left_out, index=self._index)
        self.estimable_ = pd.Series(fit.is_estimable(np.eye(len(self._names))), index=self._index)
        self.ginverse_ = solution.ginverse
        self.null_space_ = fit.null_space
        self.linear_dependencies_ = dependencies(fit.basis, self._names)
        self._publish_errors()
        self._tell_lost_digits()
        self._tell_near_dependence()
        return self

    def _publish_errors(self):
        fit = self.result_
        sigma = fit.sigma
        errors = np.multiply.outer(sigma, self._unscaled_errors)
        if self.method == "qr":
            errors = np.where(self.aliased_.to_numpy(), np.nan, errors)
        self.df_resid_ = fit.df_resid
        if self._single:
            self.sigma_, self.r_squared_ = float(sigma[0]), float(fit.r_squared[0])
            self.standard_errors_ = pd.Series(errors[0], index=self._index)
            vcov = self.ginverse_ * sigma[0] ** 2
            self.vcov_ = pd.DataFrame(vcov, index=self._index, columns=self._index)
        else:
            self.sigma_, self.r_squared_ = sigma, fit.r_squared
            self.standard_errors_ = pd.DataFrame(errors.T, index=self._index)
            self.vcov_ = np.multiply.outer(sigma**2, self.ginverse_)

    def _check_restored(self):
        super()._check_restored()
        check_least_squares(self)

    def _terms(self) -> tuple[FixedTerm, ...]:
        """The terms of the design; without one every column is a term of its own."""
        start = self._fit_has_intercept
        if self._design is not None:
            return self._design.fixed_terms(start)
        return tuple(
            FixedTerm(name, np.array([j]), frozenset(), (name,), frozenset([name]))
            for j, name in enumerate(self._names[start:], start)
        )

    def _parameter_names(self):
        if self._design is not None:
            names = list(self._design.names)
        else:
            default = [f"x{j}" for j in range(self.n_features_in_)]
            names = [str(name) for name in getattr(self, "feature_names_in_", default)]
        return ["Intercept", *names] if self._fit_has_intercept else names

    def _tell_lost_digits(self):
        lost = [self._names[j] for j in np.flatnonzero(self.result_.basis.lost_digits)]
        if lost:
            warn(
                f"{type(self).__name__}: {shortlist(lost, separator=', ')}: the values are so "
                "large that rounding hides what sets the column apart from the others, and it "
                "counts as redundant; centre the variable before expanding it into powers or "
                "products, or store it with a smaller shift",
                RankDeficiencyWarning,
            )

    def _tell_near_dependence(self):
        basis = self.result_.basis
        left = basis.factor.diagonal() / np.where(basis.size > 0, basis.size, 1.0)[basis.kept]
        near = [f"{self._names[basis.kept[k]]} ({left[k]:.1e})" for k in
                np.flatnonzero(np.abs(left) < NEAR_DEPENDENCE)]  # fmt: skip
        if near:
            warn(
                f"{type(self).__name__}: almost combinations of earlier columns, with what is left "
                f"as a share of their spread: {shortlist(near, separator=', ')}; they are kept, "
                "with standard errors to match; set tol above these shares to count them as "
                "redundant",
                RankDeficiencyWarning,
            )

    def _new_matrix(self, X):
        if self._design is not None:
            data = as_columns(X) if is_frame(X) else as_columns(check_array(X, dtype=np.float64))
            return self._design.matrix(data)
        return validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )

    def _std(self, matrix, outside):
        root = np.sqrt(self.result_.leverage(matrix))
        root[outside] = np.nan
        std = np.multiply.outer(root, self.result_.sigma)
        return std[:, 0] if self._single else std

    def _tell_outside(self, X, matrix, gap):
        if self.non_estimable in ("nan", "ignore"):
            return
        rows = np.flatnonzero(gap.any(axis=1))
        verb = "rows are" if rows.size > 1 else "row is"
        reasons = "; ".join(self._reasons(X, matrix, gap, rows[:MOST]))
        more = f"; and {rows.size - MOST} more" if rows.size > MOST else ""
        message = (
            f"{type(self).__name__}.predict: {rows.size} {verb} outside the row space of the "
            f"training design, so the data do not determine the prediction: {reasons}{more}"
        )
        if self.non_estimable == "raise":
            raise NotEstimableError(message)
        warn(message, RankDeficiencyWarning)

    def _reasons(self, X, matrix, gap, rows):
        """Why each of these rows is outside: an unseen level, or a broken dependency."""
        unseen = {}
        if self._design is not None:
            for row, column, value in self._design.unseen(as_text_columns(as_columns(X))):
                unseen.setdefault(row, f"{column} is {value!r}, a level the fit has not seen")
        basis = self.result_.basis
        aliased = np.flatnonzero(basis.aliased)
        for i in rows:
            if i in unseen:
                yield f"row {i}: {unseen[i]}"
                continue
            size = np.abs(gap[i]) / np.where(basis.size[aliased] > 0, basis.size[aliased], 1.0)
            j = int(np.argmax(size))
            name = self._names[aliased[j]]
            rule = dependency_text(basis, aliased[j], self._names)
            line = matrix[[i]].toarray()[0] if sp.issparse(matrix) else matrix[i]
            value = line[aliased[j] - self._fit_has_intercept]
            yield (
                f"row {i}: {name} is {value:.6g}, but the training data have {name} = {rule}, "
                f"which is {value - gap[i, j]:.6g} here"
            )
