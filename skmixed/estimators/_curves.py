"""Predictions of nonlinear models: curves at the parameters of the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmixed.estimators._observed import ObservesRows
from skmixed.estimators._prediction import check_n_samples

_RESIDUALS = ("response", "pearson", "scaled", "marginal")


class PredictsCurves(ObservesRows):
    """Means, parameters, intervals, residuals and simulations of a fitted nonlinear model."""

    def predict(self, X, *, groups=None, random_effects=True, return_std=False, history=None):
        """Predicted mean of every row: f at its parameters.

        With ``random_effects=False`` that is f at the fixed part, the curve of a typical member
        of the population, which is not the mean of the members' curves.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        random_effects : bool or list of str, default True
            Use the conditional modes of all, of no, or of the listed grouping factors.
        return_std : bool, default False
            Also return the standard error of the prediction, by the delta method.
        history : None
            Nonlinear models take in no further rows, see :meth:`condition`.

        Returns
        -------
        ndarray of shape (n,), or two of them
        """
        check_is_fitted(self)
        if history is not None:
            self.condition(*history)
        mean, std = self._predict_eta(X, groups, random_effects, return_std)
        return (mean, std) if return_std else mean

    def _predict_eta(self, X, groups, random_effects, return_std):
        """(f, standard error or None) over all rows."""
        rows = self._new_rows(X, groups, random_effects)
        phi = self._parameters(rows).T
        known = np.isfinite(phi).all(axis=0)
        with np.errstate(all="ignore"):
            mean = np.where(known, rows.design.value(phi), np.nan)
            if not return_std:
                return rows.over_input(mean), None
            _, J, _ = rows.design.function(phi)
        std = self.result_.mean_std(rows.design.X, rows.terms or None, J)
        return rows.over_input(mean), rows.over_input(np.where(known, std, np.nan))

    def _parameters(self, rows):
        """phi (n, P) of rows, NaN for those of unseen levels where that is wanted."""
        fit = self.result_
        phi = fit.parameters(rows.design.X)
        if any(term is not None for term in rows.terms):
            phi = phi + fit.random_parameters(rows.terms)
        if self.unseen_groups == "nan":
            phi[rows.unseen] = np.nan
        return phi

    def condition(self, X, y=None, *, groups=None, sample_weight=None, update_fixed=False):
        """An error: nonlinear models take in no further rows."""
        check_is_fitted(self)
        raise ValueError(
            f"{type(self).__name__}: condition: the modes of a nonlinear model are not had from "
            "cross-products: fit the model to the rows of the fit and these together, from "
            "start=model.fixed_effects_"
        )

    def parameters_of(self, X, *, groups=None, random_effects=True):
        """The parameters of the curve of every row.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups, random_effects
            As for :meth:`predict`.

        Returns
        -------
        DataFrame of shape (n, P)
        """
        check_is_fitted(self)
        rows = self._new_rows(X, groups, random_effects)
        phi = self._parameters(rows)
        columns = {
            name: rows.over_input(own)
            for name, own in zip(rows.design.parameters, phi.T, strict=True)
        }
        return pd.DataFrame(columns, index=X.index if isinstance(X, pd.DataFrame) else None)

    def predict_interval(self, X, *, level=0.95, kind="mean", groups=None, random_effects=True):
        """Interval for the mean or for a new observation of every row, by the delta method.

        Parameters
        ----------
        X : array or DataFrame of n rows
        level : float
            Coverage, between 0 and 1.
        kind : {"mean", "observation"}
            Whether the interval is for f, or for a new response there.
        groups, random_effects
            As for :meth:`predict`.

        Returns
        -------
        ndarray of shape (n, 2)
        """
        check_is_fitted(self)
        return self._interval(X, level, kind, groups, random_effects)

    def simulate(self, X, n_samples=1, random_state=None, *, groups=None, random_effects=True,
                 conditional=False):  # fmt: skip
        """Responses drawn from the fitted model for the rows of X.

        Every sample draws new random effects for all levels, seen or not, and new residuals.

        Parameters
        ----------
        X : DataFrame or array of n rows
        n_samples : int
        random_state : int, RandomState or None
        groups : (n,), optional
        random_effects : bool or list of str, default True
            Of all grouping factors, of none, or of those in the list.
        conditional : bool, default False
            Keep the conditional modes of known levels and draw effects of the others alone: new
            responses of the same groups.

        Returns
        -------
        ndarray of shape (n, n_samples)
        """
        check_is_fitted(self)
        check_n_samples(n_samples)
        rng = check_random_state(random_state)
        rows = self._new_rows(X, groups, random_effects, levels="own")
        fixed = self.result_.parameters(rows.design.X)
        weight = self._residual_weights(rows.table)[rows.design.rows]
        draws = np.empty((len(fixed), n_samples))
        if conditional and any(term is not None for term in rows.known):
            fixed = fixed + self.result_.random_parameters(rows.known)
        for k in range(n_samples):
            phi = fixed + self._drawn_effects(rows, rng, conditional)
            noise = self.sigma_ / np.sqrt(weight) * rng.standard_normal(len(phi))
            with np.errstate(all="ignore"):
                draws[:, k] = rows.design.value(phi.T) + noise
        return rows.over_input(draws)

    def _drawn_effects(self, rows, rng, conditional):
        """What new random effects, of unknown levels if ``conditional``, add to phi (n, P)."""
        phi = np.zeros((len(rows.design.rows), len(rows.design.parameters)))
        factors, owners = self.result_.term_factors, self.design_spec_.owners
        terms = zip(rows.terms, rows.known, factors, owners, strict=bool(rows.terms))
        for term, known, T, owner in terms:
            if term is not None:
                b = self.sigma_ * rng.standard_normal((term.n_levels, len(T))) @ T.T
                drawn = (known.codes < 0) | (not conditional)
                np.add.at(phi.T, owner, (drawn[:, None] * term.z * b[term.codes]).T)
        return phi

    def residuals(self, X, y=None, kind="response", *, groups=None):
        """Residuals of every row: what the predictions leave of the responses.

        Parameters
        ----------
        X : DataFrame or array of n rows
            The rows of the fit, or new ones.
        y : (n,), optional
            The response, for a formula without one.
        kind : {"response", "pearson", "scaled", "marginal"}
            y - f at the conditional modes; that times the root of the prior weight; that over
            sigma, of variance 1; y - f at the fixed part, the curve of a typical member.
        groups : (n,), optional

        Returns
        -------
        ndarray of shape (n,)
            In units of y, scaled ones without. NaN where there is no prediction.
        """
        check_is_fitted(self)
        if kind not in _RESIDUALS:
            known = ", ".join(map(repr, _RESIDUALS))
            raise ValueError(f"kind must be one of {known}, got {kind!r}")
        y, weights = self._observed_response(X, y)
        rest = y - self.predict(X, groups=groups, random_effects=kind != "marginal")
        if kind in ("pearson", "scaled"):
            rest = rest * np.sqrt(weights)
        return rest / self.sigma_ if kind == "scaled" else rest

    def _observe(self, X, y=None, groups=None, sample_weight=None):
        """An error: what asks for rows with their design has formulas for linear means alone."""
        raise ValueError(
            "leverages, influence and cluster-robust covariances are for models whose mean is "
            f"linear in the coefficients, which that of a {type(self).__name__} is not. Fit again "
            "without the rows in question and compare fixed_effects_"
        )
