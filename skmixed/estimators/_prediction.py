"""Prediction: new rows come in by one way, which tells what the fit does not know of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from skmixed._warn import warn
from skmixed.design.columns import Table, TextColumn
from skmixed.design.missing import RowPolicy
from skmixed.design.response import read_prior_weights
from skmixed.design.spec import Design
from skmixed.estimators._attributes import FittedMixedModel
from skmixed.estimators._dependencies import dependency_text
from skmixed.estimators._input import GROUPS, ReadsTables, with_groups
from skmixed.exceptions import RankDeficiencyWarning, UnseenGroupsWarning
from skmixed.linalg.rank import RowBlocks
from skmixed.models.linear import outside_row_space
from skmixed.models.observed import over_input


@dataclass(frozen=True)
class NewRows:
    """New rows as a prediction takes them.

    terms: the random-effects terms that enter and smooth terms, None for the others; known: the
    same with codes in the levels of the fit, where those of ``terms`` are in the rows' own; unseen
    (n,): rows with a level of theirs that the fit did not have.
    """

    table: Table
    design: Design
    terms: tuple
    unseen: np.ndarray
    known: tuple

    def over_input(self, values):
        """Values of the rows that were kept over all rows of the input, NaN elsewhere."""
        return over_input(values, self.design.rows, self.design.n_input)


class PredictsNewRows(ReadsTables, FittedMixedModel):
    """Rows, linear predictors, intervals and simulations of a fitted mixed model."""

    unseen_groups: str
    unknown_categories: str
    missing: str
    prior_weights: Any
    design_spec_: Any

    # Rows

    def _new_rows(
        self, X, groups=None, random_effects=True, *, levels="fit", complete=False
    ) -> NewRows:
        """New rows, with a word on unseen levels and on rows outside the row space.

        ``levels``: codes in those of the fit, in the rows' "own", or "none", which reads no
        grouping column; the terms that enter are the same. ``complete``: rows without a level
        lack a value, as at the fit, instead of being those of one more unseen level.
        """
        entering = self._entering(random_effects)
        table = self._new_table(X, groups)
        no_groups = groups is None and GROUPS not in self._feature_names()
        used = {name for group in entering if levels != "none" for name in self._columns_of(group)}
        unread = {name for group in self.labels_.levels for name in self._columns_of(group)} - used
        absent = unread | {GROUPS} if no_groups else unread
        need = ("fixed", "random") if entering else ("fixed",)
        policy = self._row_policy(complete)
        design = self._read_rows(table, need, absent, policy)
        unseen = np.zeros(len(design.rows), dtype=bool)
        if levels != "none":
            unseen = self._unseen(design, entering, table, no_groups and GROUPS in used)
        fit = design
        if levels == "own" and entering:
            design = self._read_rows(table, need, absent, policy, levels="own")
        self._tell_outside(design)
        terms = _entering_terms(design.random, entering)
        known = terms if fit is design else _entering_terms(fit.random, entering)
        return NewRows(table, design, terms, unseen, known)

    def _new_design(self, X) -> Design:
        """The design of rows that have all columns of the fit."""
        return self._new_rows(X).design

    def _row_policy(self, complete=False):
        """What becomes of new rows, each by itself, that lack something."""
        return RowPolicy(
            missing=self.missing,
            unknown="drop" if self.unknown_categories == "nan" else "raise",
            levels="missing" if complete or self.unseen_groups == "raise" else "unseen",
            infinite=self.missing,
        )

    def _read_rows(self, table, need, absent, policy, levels="fit"):
        return self.design_spec_.new(
            table, need=need, missing=policy, levels=levels, absent=tuple(absent)
        )

    def _new_table(self, X, groups) -> Table:
        """New rows by name, with the column ``groups`` if the model was fitted with one."""
        table = self._table(X, reset=False)
        if GROUPS in self._feature_names() or GROUPS not in self.design_spec_.needs():
            if groups is not None:
                raise ValueError(
                    f"{type(self).__name__}: groups were given for prediction, but the model was "
                    "fitted without groups"
                )
            return table
        return table if groups is None else with_groups(table, groups)

    def _columns_of(self, group):
        return self.design_spec_.groups[group].columns

    def _entering(self, random_effects) -> tuple[str, ...]:
        """The grouping factors whose random effects enter a prediction."""
        known = tuple(self.labels_.levels)
        if isinstance(random_effects, bool | np.bool_):
            return known if random_effects else ()
        listed = isinstance(random_effects, Iterable) and not isinstance(random_effects, str)
        names = list(random_effects) if listed else None
        if names is None or not all(isinstance(name, str) and name in known for name in names):
            have = f"those of the model are {', '.join(map(repr, known))}"
            raise ValueError(
                f"{type(self).__name__}: random_effects must be True, False or a list of grouping "
                f"factors, got {random_effects!r}: "
                f"{have if known else 'the model has no grouping factor'}"
            )
        return tuple(name for name in known if name in names)

    # What the fit does not know

    def _unseen(self, design, entering, table, without_groups):
        """Mask of the rows with an unseen level; an error or a warning as ``unseen_groups`` has it.

        A warning is due where most rows with a level are unseen: often the levels are the same and
        have another type. Levels of several columns are new where one of these has told so.
        """
        unseen, told_of = np.zeros(len(design.rows), dtype=bool), []
        codes = {t.group: t.codes for t in design.random if t is not None and t.group in entering}
        for group, own in codes.items():
            new = own < 0
            unseen |= new
            count = int(new.sum())
            strict = self.unseen_groups == "raise" and count
            if not (strict or (self.unseen_groups == "population" and 2 * count > len(new))):
                continue
            columns = set(self._columns_of(group))
            missing = without_groups and GROUPS in columns
            if strict:
                told = self._without_groups() if missing else _unseen_error(group, count)
                raise ValueError(f"{type(self).__name__}: {told}")
            if any(own <= columns for own in told_of):
                continue
            if missing:
                told = self._without_groups()
            else:
                present = ~self._lacks_level(group, design, table)
                told = self._mostly_unseen(group, design, table, new & present, present.sum())
            if told:
                told_of.append(columns)
                warn(f"{type(self).__name__}: {told}", UnseenGroupsWarning)
        return unseen

    def _lacks_level(self, group, design, table):
        """Mask of the rows in which a column of a grouping factor has no value."""
        lacks = np.zeros(len(design.rows), dtype=bool)
        for name in self._columns_of(group):
            if name in table.names:
                column = table.column(name)
                column = column.values if isinstance(column, TextColumn) else column
                lacks |= np.asarray(pd.isna(column))[design.rows]
        return lacks

    def _without_groups(self):
        return (
            "the model was fitted with groups and predicts without them: every row is one of an "
            "unseen group. Pass groups=, or random_effects=False if that is meant"
        )

    def _mostly_unseen(self, group, design, table, new, n):
        """What to say where more than half of n rows with a level have one that is unseen."""
        count, columns = int(new.sum()), self._columns_of(group)
        if 2 * count <= n:
            return None
        levels = ""
        if len(columns) == 1:
            now, fit = table.column(columns[0]), self.labels_.levels[group]
            now = now.values if isinstance(now, TextColumn) else now
            first = design.rows[np.flatnonzero(new)[0]]
            levels = f" (now like {_shown(now[first])}, at the fit like {_shown(fit[0])})"
        rows = f"{count} of {n} rows are of levels"
        if count == n:
            rows = "the row is one of a level" if n == 1 else f"all {n} rows are of levels"
        return (
            f"{rows} of {group!r} that the training data did not have{levels} and count as unseen. "
            "If the levels should be known, convert the column to its type at the fit; if new "
            "groups are meant, filter this warning out, as in warnings.filterwarnings('ignore', "
            "category=UnseenGroupsWarning)"
        )

    def _tell_outside(self, design: Design):
        """Warn of rows in which a dependent column is not the combination it was at the fit."""
        basis = self.result_.basis
        if not basis.aliased.any():
            return
        gap = self._outside(design)
        outside = np.flatnonzero(gap.any(axis=1))
        if len(outside):
            j = np.flatnonzero(basis.aliased)[np.flatnonzero(gap[outside[0]])[0]]
            names = self.labels_.columns
            rule = dependency_text(basis, j, names)
            warn(
                f"{type(self).__name__}: the training data do not determine the prediction of "
                f"{len(outside)} row{'s' * (len(outside) > 1)} (the first is row "
                f"{design.rows[outside[0]]}): they had {names[j]} = {rule}, which does "
                "not hold there, and the prediction depends on which columns were left out",
                RankDeficiencyWarning,
            )

    def _outside(self, design):
        """(n, a): which dependent columns are not the combinations that they were at the fit."""
        basis = self.result_.basis
        if not basis.aliased.any() or not len(design.X):
            return np.zeros((len(design.X), 0), dtype=bool)
        return outside_row_space(basis, RowBlocks(design.X))

    # Linear predictors

    def _estimable(self, X):
        """Rows of X for the coefficients of the kept columns: X itself where those are used."""
        return X @ self._minimum_norm if self._shortest else X

    def _fixed_part(self, rows: NewRows) -> np.ndarray:
        """offset + X beta and smooth terms; NaN for rows of unseen levels where that is wanted."""
        fit, design = self.result_, rows.design
        eta = fit.fixed_part(self._estimable(design.X))
        if design.offset is not None:
            eta = eta + design.offset
        if fit.smooth_terms:
            eta = eta + fit.smooth_part(rows.terms)
        return np.where(rows.unseen, np.nan, eta) if self.unseen_groups == "nan" else eta

    def _predict_eta(self, X, groups, random_effects, return_std):
        """(eta, standard error or None) over all rows; NaN where covariates are missing."""
        return self._eta_of(self._new_rows(X, groups, random_effects), return_std)

    def _eta_of(self, rows: NewRows, return_std):
        eta = self._fixed_part(rows)
        random = self._random_terms(rows)
        if any(term is not None for term in random):
            eta = eta + self.result_.random_part(random)
        if not return_std:
            return rows.over_input(eta), None
        std = self.result_.mean_std(
            self._estimable(rows.design.X), rows.terms if rows.terms else None
        )
        return rows.over_input(eta), rows.over_input(np.where(np.isnan(eta), np.nan, std))

    def _random_terms(self, rows: NewRows) -> tuple:
        """The terms of rows with None for smooth terms, which are in the fixed part."""
        return self.result_.chosen(rows.terms, smooth=False) if rows.terms else ()

    def _eta_limits(self, X, groups, random_effects, level, residual=0.0):
        """(eta, lower, upper): normal limits of the linear predictor plus a residual of that sd."""
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        eta, std = self._predict_eta(X, groups, random_effects, True)
        half = norm.ppf(0.5 + level / 2) * np.hypot(std, residual)
        return eta, eta - half, eta + half

    def _residual_sd(self, X):
        """Residual standard deviation (n,) of a new observation in every row."""
        return self.sigma_ / np.sqrt(self._residual_weights(self._table(X, reset=False)))

    def _interval(self, X, level, kind, groups, random_effects):
        """Limits (n, 2) for the mean or for a new observation with the residual variance."""
        if kind not in ("mean", "observation"):
            raise ValueError(f"kind must be 'mean' or 'observation', got {kind!r}")
        residual = self._residual_sd(X) if kind == "observation" else 0.0
        _, lower, upper = self._eta_limits(X, groups, random_effects, level, residual)
        return np.column_stack([lower, upper])

    def _simulate_eta(self, X, groups, random_effects, n_samples, rng, conditional):
        """(rows, eta): eta (n, n_samples) of the kept rows, with new random effects.

        If ``conditional`` those of known levels are their conditional modes.
        """
        check_n_samples(n_samples)
        rows = self._new_rows(X, groups, random_effects, levels="own")
        eta, fit = self._fixed_part(rows), self.result_
        known = fit.chosen(rows.known, smooth=False) if rows.known else ()
        if conditional and any(term is not None for term in known):
            eta = eta + fit.random_part(known)
        eta = np.repeat(eta[:, None], n_samples, axis=1)
        terms = zip(
            self._random_terms(rows), known, fit.layout.terms, fit.term_factors, strict=False
        )
        for term, seen, at, T in terms:
            if term is not None:
                u = at.drawn(term, rng, n_samples)
                b = np.einsum("ij,ljk->lik", fit.sigma * T, u)
                z = np.where(seen.codes[:, None] < 0, term.z, 0.0) if conditional else term.z
                eta += np.einsum("ns,nsk->nk", z, b[term.codes])
        return rows, eta

    # Columns of new rows

    def _response_of(self, X):
        """The response that the formula names, evaluated on new rows."""
        if self.design_spec_.response is None:
            raise ValueError(f"{type(self).__name__} needs y: the formula names no response")
        return self.design_spec_.response_of(self._table(X, reset=False))

    def _new_weights(self, X):
        """Prior weights of all new rows: the column of X if the model has one."""
        return self._weights_in(self._table(X, reset=False))

    def _residual_weights(self, table: Table):
        """Weights by which residual variances of new rows are divided, NaN where there is none."""
        return self._weights_in(table, lenient=self.missing == "drop")

    def _weights_in(self, table: Table, lenient=False):
        if self.prior_weights is None:
            return np.ones(table.n_input)
        if self.prior_weights not in table.names:
            raise ValueError(
                f"the residual variance of a new row depends on its prior weight: the data need "
                f"the column {self.prior_weights!r}"
            )
        return read_prior_weights(self.prior_weights, Table(table), lenient)


def _entering_terms(random, entering):
    """Terms of these grouping factors and smooth terms, None for the others."""
    return tuple(
        term if term is None or term.structure == "smooth" or term.group in entering else None
        for term in random
    )


def check_n_samples(n_samples):
    """Raise ValueError for a number of simulated samples that is none."""
    if not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(f"n_samples must be a positive integer, got {n_samples!r}")


def _unseen_error(group, count):
    return (
        f"{count} row{'s have' if count > 1 else ' has'} a level of {group!r} that the "
        "training data did not have. unseen_groups='population' predicts with a random effect of "
        "0, 'nan' gives NaN"
    )


def _shown(value):
    plain = isinstance(value, np.number) and not isinstance(value, np.float32)
    return repr(value.item() if plain else value)
