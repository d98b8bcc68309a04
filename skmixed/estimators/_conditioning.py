"""Fitted models that take in further rows: new groups and news of known ones, without a refit."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmixed.estimators._observed import ObservesRows
from skmixed.models.conditioning import Unconditioned, check_conditions, conditioned, with_levels
from skmixed.models.further_rows import Levels


class ConditionsOnRows(ObservesRows):
    """Conditional modes given further rows, theta and the residual variance being held."""

    def condition(self, X, y=None, *, groups=None, sample_weight=None, update_fixed=False):
        """The fitted model with random effects that know these rows, too.

        Levels that the fit did not have get the conditional modes given their rows; known ones
        those given the rows of the fit and these together. theta, sigma and, unless
        ``update_fixed``, the fixed effects are those of the fit. The model itself is unchanged.

        Parameters
        ----------
        X : DataFrame or array of n rows
            Rows that are not yet in the model: neither those of the fit nor those of an earlier
            ``condition``, which would count twice.
        y : (n,), optional
            Their response; two-sided formulas find it in X.
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        sample_weight : (n,), optional
            How often each row counts.
        update_fixed : bool, default False
            Estimate the fixed effects anew, from the rows of the fit and these.

        Returns
        -------
        estimator
            A new fitted model. ``random_effects_``, predictions, their standard errors and
            intervals are given all rows, with ``update_fixed`` the fixed effects and their
            covariance too; ``n_conditioned_`` counts the rows taken in. What tells how theta was
            found (``deviance_``, ``n_obs_``, ``trace_``) is that of the fit.

        Raises
        ------
        ValueError
            For models that cannot take in rows (nonlinear ones, residual structures, the iterative
            solver), for levels that a relationship matrix does not have, and where cross-products
            of the fit are needed that this copy of the model has not, as after unpickling.

        Notes
        -----
        In a linear model the result is that of the mixed-model equations of all rows at the theta
        of the fit (Henderson 1975, Biometrics 31, 423-447). In a generalised model it is the mode
        given these rows; what the rows of the fit say of known levels enters by its second-order
        expansion about their modes, that of Laplace's approximation.

        Examples
        --------
        >>> import pandas as pd
        >>> from skmixed import MixedLinearRegressor
        >>> from skmixed.datasets import load_sleepstudy
        >>> sleep = load_sleepstudy().frame
        >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
        >>> news = pd.DataFrame({"Days": [0, 1, 2], "Subject": "new", "Reaction": [310, 330, 335]})
        >>> model.condition(news).random_effects_["Subject"].loc["new"].round(1).tolist()
        [44.4, 3.1]
        """
        check_is_fitted(self)
        return self._given(X, y, groups, sample_weight, update_fixed, "condition")

    def _given(self, X, y, groups, sample_weight, update_fixed, asked):
        try:
            check_conditions(self.result_)
            wider, levels, observed = self._among_all_levels(X, y, groups, sample_weight)
            fit = conditioned(self.result_, observed, levels, update_fixed=bool(update_fixed))
        except Unconditioned as error:
            raise ValueError(f"{type(self).__name__}: {asked}: {error}") from None
        wider.result_ = fit
        wider.n_conditioned_ = vars(self).get("n_conditioned_", 0) + len(observed.rows)
        return wider

    def _with_history(self, history):
        """The model for one prediction: this one, or conditioned on ``history``."""
        if history is None:
            return self
        if not isinstance(history, tuple) or not 1 <= len(history) <= 3:
            raise ValueError(
                f"{type(self).__name__}: history must be a tuple (X, y), or (X, y, groups) for a "
                f"model fitted with groups, got {type(history).__name__}"
            )
        X, y, groups = (*history, None, None)[:3]
        return self._given(X, y, groups, None, False, "history")

    def _among_all_levels(self, X, y, groups, sample_weight):
        """(copy of the model with the levels of the rows, Levels, ObservedRows)."""
        table, spec = self._new_table(X, groups), self.design_spec_
        joined, places = spec.with_levels_of(table)
        wider = self._with_levels(joined, places)
        observed = wider._observe(X, y, groups, sample_weight)
        if any(term.elsewhere is not None for term in observed.random):
            raise Unconditioned(
                "rows at positions that the fit did not have tell of the field between its own: "
                "fit the model to all rows"
            )
        for term in observed.random:
            if (term.codes < 0).any():
                raise Unconditioned(
                    f"{(term.codes < 0).sum()} rows have levels that the relationship matrix of "
                    f"{term.group!r} does not have: fit the model with a matrix that has them"
                )
        # levels whose rows were all left out are no levels
        kept = self._used(places, joined, observed.random)
        last = {name: np.cumsum(mask) - 1 for name, mask in kept.items()}
        pruned = joined.of_places({name: np.flatnonzero(mask) for name, mask in kept.items()})
        places = {name: last[name][place] for name, place in places.items()}
        wider = self._with_levels(pruned, places)
        keys = [own.group for own in spec.terms.random]
        random = tuple(
            replace(term, codes=last[key][term.codes], levels=pruned.groups[key].levels)
            for key, term in zip(keys, observed.random, strict=True)
        )
        observed = replace(observed, fit=wider.result_, random=random)
        return wider, self._layout_levels(pruned, places), observed

    @staticmethod
    def _used(places, joined, random):
        """For every grouping factor the mask of the levels of the fit and of these rows."""
        kept = {}
        for name, spec in joined.groups.items():
            kept[name] = np.zeros(len(spec.levels), dtype=bool)
            kept[name][places[name]] = True
        for own, term in zip(joined.terms.random, random, strict=True):
            kept[own.group][term.codes] = True
        return kept

    def _with_levels(self, spec, places):
        """A copy of the model with these levels, new ones without an effect."""
        model = copy(self)
        keys = {term.group: own.group for term, own in zip(self.labels_.terms, spec.terms.random,
                                                           strict=True)}  # fmt: skip
        levels = {name: spec.groups[keys[name]].levels for name in self.labels_.levels}
        model.design_spec_, model.labels_ = spec, replace(self.labels_, levels=levels)
        model.result_ = with_levels(self.result_, self._layout_levels(spec, places))
        return model

    def _layout_levels(self, spec, places):
        """Levels by group of the fit's layout."""
        layout, found = self.result_.layout, {}
        for own, term in zip(spec.terms.random, layout.terms, strict=True):
            found[term.group] = places[own.group], len(spec.groups[own.group].levels)
        return Levels.of(layout, [found[g] for g in range(len(layout.groups))])
