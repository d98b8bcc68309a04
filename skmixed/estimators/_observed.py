"""Rows of the data with their response: what residuals and diagnostics look at."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skmixed.design.columns import TextColumn
from skmixed.design.names import unknown_name
from skmixed.design.response import read_counts
from skmixed.estimators._input import response_vector
from skmixed.estimators._report import ReportsOnRows
from skmixed.models.observed import KINDS, ObservedRows


class ObservesRows(ReportsOnRows):
    """Residuals of a fitted mixed model, of its own rows or of new ones."""

    def residuals(self, X, y=None, kind="response", *, groups=None):
        """Residuals of every row: what the predictions leave of the responses.

        ============= ============================================================================
        response      y - mu, mu the mean of :meth:`predict` at the conditional modes
        pearson       (y - mu) sqrt(w / V(mu)), V the variance function of the family (1 in linear
                      models), w the prior weight or the number of trials
        scaled        pearson over sqrt(dispersion), in linear models over sigma; of variance 1
        studentized   scaled over sqrt(1 - h), h the leverage; only for the rows of the fit
        marginal      y - E(y), the mean averaged over the random effects: X beta in linear models
        deviance      signed square roots of the rows' deviances; pearson in linear models
        normalized    scaled, and free of the correlation that a residual structure gives the rows
                      of a group: these have variance 1 and are independent
        ============= ============================================================================

        Parameters
        ----------
        X : DataFrame or array of n rows
            The rows of the fit, or new ones.
        y : (n,), optional
            The response; two-sided formulas find it in X. Labels count as 0 and 1, binomial
            responses as proportions of successes.
        kind : {"response", "pearson", "scaled", "studentized", "marginal", "deviance", \
                "normalized"}
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.

        Returns
        -------
        ndarray of shape (n,)
            In units of y, or without units. NaN for rows with missing values where
            ``missing="drop"``, for rows of unseen levels where ``unseen_groups="nan"``, for a row
            without trials, and studentized for a row that alone determines a coefficient.

        Raises
        ------
        ValueError
            For an unknown kind, for responses outside of the family's range, and for studentized
            residuals of rows that are not those of the fit.

        Notes
        -----
        Leverages of generalised models are those of the linear model that the last step of the
        search for the mode solves, with its working weights.
        """
        check_is_fitted(self)
        if kind not in KINDS:
            known = ", ".join(map(repr, KINDS))
            raise ValueError(f"kind must be one of {known}, got {kind!r}")
        observed = self._observe(X, y, groups)
        if kind == "studentized":
            observed.check_fitted_to(f"{type(self).__name__}: the leverage of a row")
        return observed.over_input(observed.residuals(kind))

    def _observe(self, X, y=None, groups=None, sample_weight=None) -> ObservedRows:
        """Rows with their response, weights and counts; those with missing values are left out."""
        new = self._new_rows(X, groups, complete=True)
        y, weights = self._observed_response(X, y)
        counts = None if sample_weight is None else read_counts(sample_weight, new.table)
        known = np.isfinite(y) & np.isfinite(weights)
        lacking = int(np.sum(~known & ~(weights == 0)))
        if self.missing == "raise" and lacking:
            what = "prior weight" if np.isfinite(y).all() else "response"
            raise ValueError(
                f"{type(self).__name__}: the {what} is missing in {lacking} "
                f"row{'s' * (lacking > 1)}: leave them out, or set missing='drop'"
            )
        known &= weights > 0  # a proportion of no trials is none
        if counts is not None:
            known &= counts > 0
        keep = known[new.design.rows]
        if self.unseen_groups == "nan":
            keep &= ~new.unseen
        design, rows = new.design, new.design.rows[keep]
        return ObservedRows(
            fit=self.result_,
            X=self._estimable(design.X[keep]),
            random=tuple(term.of_rows(keep) for term in design.random),
            y=y[rows],
            weights=weights[rows],
            offset=None if design.offset is None else design.offset[keep],
            frequencies=None if counts is None else counts[rows],
            rows=rows,
            n_input=design.n_input,
            residual=self._residual_terms(new.table, rows),
        )

    def _residual_terms(self, table, rows):
        """The residual structure on rows of a table, empty for independent residuals."""
        spec = getattr(self.design_spec_, "residual", None)
        return () if spec is None else spec.new(table, rows)

    def _observed_response(self, X, y):
        """The response as numbers and the prior weights, of all rows of the input."""
        n = self._table(X, reset=False).n_rows
        y = self._response_of(X) if y is None else response_vector(y, n, type(self).__name__)
        return np.asarray(y, dtype=float), self._new_weights(X)

    def _column(self, X, name, groups):
        """A column of X by name, as it came."""
        table = self._new_table(X, groups)
        if name not in table.names:
            known = dict.fromkeys([*self.labels_.levels, *table.names])
            raise unknown_name(name, known, f"{name!r} is no grouping factor and no column of X")
        column = table.column(name)
        return column.values if isinstance(column, TextColumn) else column
