"""What the mixed-model estimators share: tables from inputs, attributes from a fit, prediction."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from skmixed.design import build_design, parse_formula
from skmixed.design.columns import Table
from skmixed.design.design import Design, read_prior_weights
from skmixed.estimators._attributes import FittedMixedModel, Labels, TermLabels
from skmixed.estimators._dependencies import dependency_text, shortlist
from skmixed.estimators._input import GROUPS, n_rows, response_vector, unmasked, with_groups
from skmixed.estimators._table import as_text_columns, column_names, is_frame
from skmixed.exceptions import RankDeficiencyWarning, SingularFitWarning
from skmixed.linalg.rank import RowBlocks
from skmixed.models.linear import outside_row_space
from skmixed.models.lmm import NO_RESIDUAL


class MixedModelBase(FittedMixedModel, BaseEstimator):
    """Formula, input and prediction of mixed models; sub-classes fit and publish."""

    _parameter_constraints: ClassVar[dict] = {
        "formula": [str, None],
        "rank_deficient": [StrOptions({"drop", "minimum_norm", "raise"})],
        "unseen_groups": [StrOptions({"population", "raise", "nan"})],
        "missing": [StrOptions({"raise", "drop"})],
        "prior_weights": [str, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "verbose": ["verbose"],
        "trusted": ["boolean"],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "drop"
        tags.target_tags.required = self.formula is None or "~" not in self.formula
        return tags

    # Input

    def _design(self, X, y, groups, sample_weight) -> Design:
        """The design of the training rows."""
        terms = self._training_terms(groups)
        self._check_one_response(terms, y)
        table, values = self._training_table(X, y)
        mixed = groups is not None if terms is None else bool(terms.random)
        if mixed and n_rows(table) == 1:
            raise ValueError(
                f"{type(self).__name__}: random effects cannot be estimated from 1 sample"
            )
        if groups is not None:
            table = with_groups(table, groups)
        design = build_design(
            terms,
            table,
            response=values,
            sample_weight=sample_weight,
            prior_weights=self.prior_weights,
            missing=self.missing,
            trusted=self.trusted,
        )
        used = design.spec.needs()
        if groups is not None and GROUPS not in used:
            raise ValueError(
                f"{type(self).__name__}: groups were given, but the formula {self.formula!r} does "
                f"not use them: add a term such as (1 | {GROUPS}), or leave groups out"
            )
        name = getattr(y, "name", None)
        if name in used and is_frame(table) and np.array_equal(np.asarray(table[name]), values):
            raise ValueError(
                f"{type(self).__name__}: the response y is also the column {name!r} of X, which "
                "the model uses to explain it: leave the column out"
            )
        return design

    def _check_one_response(self, terms, y):
        """The response is named in the formula or given as y, and only once."""
        named = None if terms is None else terms.response
        if named is not None and y is not None:
            raise ValueError(
                f"{type(self).__name__}: the formula names the response {named!r} and y was given "
                f"too. Use fit(X, y) with the one-sided formula "
                f"{self.formula.partition('~')[2].strip()!r}, or fit(df) without y"
            )
        if y is None and named is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None: use "
                "fit(X, y), or name the response in the formula, as in 'y ~ x + (1 | g)'"
            )

    def _training_terms(self, groups):
        """The formula of a fit; ``groups=`` without a formula is an intercept per group."""
        if self.formula is not None:
            return parse_formula(self.formula)
        return None if groups is None else parse_formula(f". + (1 | {GROUPS})")

    def _training_table(self, X, y):
        X, y = self._read(X, y, reset=True)
        return self._named(X), y

    def _read(self, X, y=None, *, reset):
        """Input as a frame, or as a checked array; names and number of features recorded."""
        if isinstance(X, Mapping) and not sparse.issparse(X):
            X = pd.DataFrame(X)
        if is_frame(X):
            column_names(X)
            X = X if self.formula is None else as_text_columns(X)
            if self.formula is None:
                validate_data(self, X, reset=reset, skip_check_array=True)
            elif reset:  # a formula finds its columns by name; their order and number are free
                self.feature_names_in_ = np.asarray(X.columns, dtype=object)
                self.n_features_in_ = len(X.columns)
        else:
            if self.formula is not None and isinstance(X, list | tuple):
                X = np.array(X, dtype=object)  # else one text among numbers makes all of them text
            X = unmasked(X)
            # missing values are the design's to report: it names columns and counts
            kind = {"dtype": None if self._may_hold_text(X) else "numeric"}
            X = validate_data(self, X, reset=reset, ensure_all_finite=False, **kind)
        return X, y if y is None else self._read_response(y, len(X))

    def _may_hold_text(self, X):
        """Whether an array is read by the formula, or holds categories."""
        if self.formula is not None:
            return True
        values = X if sparse.issparse(X) else np.asarray(X)
        if values.dtype.kind == "O":
            return any(isinstance(value, str) for value in values.flat)
        return values.dtype.kind in "US"

    def _read_response(self, y, n):
        return response_vector(y, n, type(self).__name__)

    def _new_table(self, X, groups):
        """New rows by name, with the column ``groups`` if the model was fitted with one."""
        X, _ = self._read(X, reset=False)
        names = self._feature_names()
        table = self._named(X)
        if GROUPS in names or GROUPS not in self.design_spec_.needs():
            if groups is not None:
                raise ValueError(
                    f"{type(self).__name__}: groups were given for prediction, but the model was "
                    "fitted without groups"
                )
            return table
        return table if groups is None else with_groups(table, groups)

    def _new_design(self, X, groups=None, *, random=True, levels="fit") -> Design:
        """The design of new rows; rows with missing covariates are left out."""
        need = ("fixed", "random") if random else ("fixed",)
        table = self._new_table(X, groups)
        absent = (GROUPS,) if groups is None and GROUPS not in self._feature_names() else ()
        return self.design_spec_.new(
            table, need=need, missing=self.missing, levels=levels, absent=absent
        )

    def _named(self, X):
        """Columns of X by name: those of a frame, else those of the fit, or x0, x1, ..."""
        named = self.formula is not None or hasattr(self, "feature_names_in_")
        if is_frame(X) and named:
            return X
        columns = (X[name] for name in X.columns) if is_frame(X) else X.T
        return dict(zip(self._feature_names(), columns, strict=True))

    def _feature_names(self):
        names = getattr(self, "feature_names_in_", None)
        return [f"x{j}" for j in range(self.n_features_in_)] if names is None else list(names)

    # Publishing a fit

    def _publish(self, design: Design, fit):
        """Attributes of a fitted model; those that cost something are computed when read."""
        self._tell_rank(fit.basis, design.names, stacklevel=4)
        self.design_spec_ = design.spec
        self.labels_ = Labels(
            columns=design.names,
            intercept=design.intercept,
            terms=tuple(TermLabels(t.group, t.names, t.correlated) for t in design.random),
            levels={t.group: t.levels for t in design.random},
            formula=self._shown_formula(design),
        )
        self.result_ = fit
        self._tell_convergence(stacklevel=4)
        return self

    def _shown_formula(self, design):
        if self.formula is not None:
            return self.formula
        random = "".join(f" + (1 | {t.group})" for t in design.random)
        return f"every column{random}"

    def _tell_rank(self, basis, names, stacklevel):
        aliased = np.flatnonzero(basis.aliased)
        if not len(aliased):
            return
        found = [f"{names[j]} = {dependency_text(basis, j, names)}" for j in aliased]
        message = (
            f"{type(self).__name__}: the fixed effects are rank deficient: "
            f"{shortlist(found, 'linear_dependencies_')}"
        )
        lost = [names[j] for j in np.flatnonzero(basis.lost_digits)]
        if lost:
            message += (
                f". Rounding of large values hides what sets {shortlist(lost, separator=', ')} "
                "apart: centre the variable before expanding it into powers or products"
            )
        if self.rank_deficient == "raise":
            raise ValueError(
                message + ". Leave these columns out, or use rank_deficient='drop' or "
                "'minimum_norm'"
            )
        action = (
            "left out, coefficient NaN in fixed_effects_"
            if self.rank_deficient == "drop"
            else "the coefficients are the solution of smallest norm"
        )
        warnings.warn(f"{message} ({action})", RankDeficiencyWarning, stacklevel=stacklevel)

    def _tell_convergence(self, stacklevel):
        fit, who = self.result_, type(self).__name__
        if not fit.optimum.converged:
            remedy = "Raise max_iter, or simplify the random effects"
            if fit.optimum.message == NO_RESIDUAL:
                remedy = "Leave out the random-effects terms that reproduce the response"
            warnings.warn(
                f"{who} has not converged: {fit.optimum.message}. {remedy}",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )
        if fit.is_singular:
            warnings.warn(
                f"{who}: the fit is singular: {self._why_singular()}. Estimates and predictions "
                "are valid; consider a simpler model",
                SingularFitWarning,
                stacklevel=stacklevel,
            )

    def _why_singular(self):
        fit = self.result_
        terms = dict.fromkeys(
            f"({' + '.join(term.names)} | {term.group})"
            for term, singular in zip(self.labels_.terms, fit.singular_terms, strict=True)
            if singular
        )
        if not fit.sigma > 0:
            return f"{fit.optimum.message}, so there is no variance for {', '.join(terms)}"
        return (
            f"the data support fewer variance components than {', '.join(terms)} has (a variance "
            "of zero or a correlation of 1 or -1)"
        )

    # Prediction

    def _estimable(self, X):
        """Rows of X for the coefficients of the kept columns: X itself where those are used."""
        return X @ self._minimum_norm if self._shortest else X

    def _linear_predictor(self, design: Design, random_effects: bool) -> np.ndarray:
        """eta = offset + X beta + Z b for the rows of a design."""
        fit = self.result_
        # on the orthonormal basis, which subtracts centres first: X beta itself cancels
        eta = fit.basis.orthonormal(self._estimable(design.X)) @ fit.gamma
        if design.offset is not None:
            eta = eta + design.offset
        if not random_effects:
            return eta
        eta = eta + fit.random_part(design.random)
        if self.unseen_groups == "nan":
            for term in design.random:
                eta[term.codes < 0] = np.nan
        return eta

    def _check_unseen(self, design: Design):
        if self.unseen_groups != "raise":
            return
        for term in design.random:
            unseen = int(np.sum(term.codes < 0))
            if unseen:
                raise ValueError(
                    f"{type(self).__name__}: {unseen} row{'s have' if unseen > 1 else ' has'} a "
                    f"level of {term.group!r} that the training data did not have. "
                    "unseen_groups='population' predicts with a random effect of 0, 'nan' gives "
                    "NaN"
                )

    def _tell_outside(self, design: Design):
        """Warn of rows in which a dependent column is not the combination it was at the fit."""
        basis = self.result_.basis
        if not basis.aliased.any() or not len(design.X):
            return
        gap = outside_row_space(basis, RowBlocks(design.X))
        outside = np.flatnonzero(gap.any(axis=1))
        if len(outside):
            j = np.flatnonzero(basis.aliased)[np.flatnonzero(gap[outside[0]])[0]]
            names = self.labels_.columns
            rule = dependency_text(basis, j, names)
            warnings.warn(
                f"{type(self).__name__}: the training data do not determine the prediction of "
                f"{len(outside)} row{'s' * (len(outside) > 1)} (the first is row "
                f"{design.rows[outside[0]]}): they had {names[j]} = {rule}, which does "
                "not hold there, and the prediction depends on which columns were left out",
                RankDeficiencyWarning,
                stacklevel=4,
            )

    def _predict_eta(self, X, groups, random_effects, return_std):
        """(eta, standard error or None) over all rows; NaN where covariates are missing."""
        random = random_effects and bool(self.labels_.terms) if hasattr(self, "labels_") else False
        design = self._new_design(X, groups, random=random)
        if random:
            self._check_unseen(design)
        self._tell_outside(design)
        eta = _spread(self._linear_predictor(design, random), design)
        if not return_std:
            return eta, None
        X = self._estimable(design.X)
        std = _spread(self.result_.mean_std(X, design.random if random else None), design)
        return eta, np.where(np.isnan(eta), np.nan, std)

    def predict_interval(self, X, *, level=0.95, kind="mean", groups=None) -> np.ndarray:
        """Interval for the mean or for a new observation of every row.

        Parameters
        ----------
        X : array or DataFrame of n rows
        level : float
            Coverage, between 0 and 1.
        kind : {"mean", "observation"}
            Whether the interval is for x'beta + z'b, or for a new response there, which adds the
            residual variance (divided by the prior weight of the row, if the model has such).
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.

        Returns
        -------
        ndarray of shape (n, 2)
            Lower and upper limits: the prediction and normal quantiles of its standard error.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        if kind not in ("mean", "observation"):
            raise ValueError(f"kind must be 'mean' or 'observation', got {kind!r}")
        mean, std = self.predict(X, groups=groups, return_std=True)
        if kind == "observation":
            std = np.hypot(std, self.sigma_ / np.sqrt(self._new_weights(X)))
        half = norm.ppf(0.5 + level / 2) * std
        return np.column_stack([mean - half, mean + half])

    def _simulate_eta(self, X, groups, n_samples, rng, *, residual):
        """eta (n, n_samples) with new random effects and, if wanted, residuals."""
        random = bool(self.labels_.terms)
        design = self._new_design(X, groups, random=random, levels="own")
        eta = np.repeat(self._linear_predictor(design, False)[:, None], n_samples, axis=1)
        for term, T in zip(design.random, self.result_.term_factors, strict=True):
            u = rng.standard_normal((term.n_levels, len(T), n_samples))
            b = np.einsum("ij,ljk->lik", self.sigma_ * T, u)
            eta += np.einsum("ns,nsk->nk", term.z, b[term.codes])
        if residual:
            weights = np.broadcast_to(self._new_weights(X), design.n_input)[design.rows]
            eta += self.sigma_ / np.sqrt(weights)[:, None] * rng.standard_normal(eta.shape)
        full = np.full((design.n_input, n_samples), np.nan)
        full[design.rows] = eta
        return full

    def _response_of(self, X):
        """The response that the formula names, evaluated on new rows."""
        if self.design_spec_.response is None:
            raise ValueError(f"{type(self).__name__}.score needs y: the formula names no response")
        return self.design_spec_.response_of(as_text_columns(X) if is_frame(X) else X)

    def _new_weights(self, X):
        """Prior weights of all new rows: the column of X if the model has one."""
        if self.prior_weights is None:
            return 1.0
        X, _ = self._read(X, reset=False)
        table = Table(self._named(X))
        if self.prior_weights not in table.names:
            raise ValueError(
                f"the residual variance of a new row depends on its prior weight: the data need "
                f"the column {self.prior_weights!r}"
            )
        return read_prior_weights(self.prior_weights, table)


def _spread(values, design):
    """Values of the kept rows over all rows of the input, NaN elsewhere."""
    if len(values) == design.n_input:
        return values
    full = np.full(design.n_input, np.nan)
    full[design.rows] = values
    return full
