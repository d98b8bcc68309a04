"""RankDeficiencyTransformer: finds and removes what makes a design rank-deficient."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from skmixed._warn import warn
from skmixed.design.columns import Table, clean
from skmixed.diagnostics import (
    FREQUENCY_RATIO,
    LARGE_VIF,
    near_zero_variance,
    scale_advice,
    variance_inflation,
)
from skmixed.estimators._artefact import Storable
from skmixed.estimators._categories import CategoryFinder, Finding
from skmixed.estimators._dependencies import shortened, shortlist
from skmixed.estimators._restored import check_transformer
from skmixed.estimators._table import (
    as_text_columns,
    categorical_columns,
    check_same_features,
    column_names,
    is_frame,
    remember_features,
)
from skmixed.exceptions import RankDeficiencyWarning
from skmixed.inference.fixed_effects import combination_text
from skmixed.linalg.rank import independent_columns

# The other columns leave less than 1e-8 of the spread: half of the digits are gone.
ALARMING_VIF = 1e16
_REPORT = ["feature", "reason", "action", "combination"]


@dataclass(frozen=True)
class Numbers:
    """Numeric columns as combinations of those kept: ``X = X[:, kept] @ weights + constant``.

    merged lists for each kept column the columns (position, slope, intercept) that repeat it.
    """

    kept: np.ndarray
    weights: np.ndarray
    constant: np.ndarray
    merged: dict


class RankDeficiencyTransformer(TransformerMixin, Storable, BaseEstimator):
    """Removes constant, repeated and linearly dependent columns, and merges rare categories.

    One pass over the training data finds what makes a design rank-deficient; the first findings
    are told in one RankDeficiencyWarning and all are listed in ``report_``; the same columns are
    removed from new data. Columns are compared at their own spread, so units and shifts do not
    matter, and of a group of dependent columns the first ones stay.

    Parameters
    ----------
    dependent : {"drop", "merge", "warn"}, default "drop"
        Numeric columns that are exact combinations of others: drop them; merge columns that
        repeat one other column (up to slope and intercept) into the average of all copies, in
        the units of the first, and drop the rest; or only report them.
    categories : {"merge", "drop", "keep"}, default "merge"
        Rare categories and those first met in transform become ``other_label``, or missing, or
        stay as they are. Categories that never occur are removed unless kept. With ``"merge"``
        no category leaves transform that the training data do not have after it: if none of
        theirs became ``other_label``, new ones become the most frequent category, with a warning.
        Labels that are no text become text where they stand beside ``other_label``.
    min_frequency : int or float, optional
        Count, or share of the rows, below which a category is rare. By default none is.
    other_label : str, default "other"
    constant : {"drop", "warn", "keep"}, default "drop"
        Columns with one value, which repeat the intercept.
    tol : float, default 1e-12
        Residual size, relative to a column's own spread, below which it depends on others.
    fit_intercept : bool, default True
        Whether the model that follows has an intercept: without one a constant column is no
        repetition and dummy columns that sum to 1 are not redundant.

    Attributes
    ----------
    report_ : DataFrame
        feature, reason, action, combination: one line for everything found, including near
        dependences, near-constant columns and scales, which are reported and left alone.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from skmixed import RankDeficiencyTransformer
    >>> c = np.array([1.0, 4, 2, 8, 5])
    >>> X = np.column_stack([c, c**2, 2 * c - 1])
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     transformer = RankDeficiencyTransformer().fit(X)
    >>> print(told[0].message)
    RankDeficiencyTransformer: x2 dropped (x2 = 2 x0 - 1)
    >>> transformer.transform(X).shape
    (5, 2)
    >>> np.array_equal(transformer.inverse_transform(transformer.transform(X)), X)
    True
    """

    _parameter_constraints: ClassVar = {
        "dependent": [StrOptions({"drop", "merge", "warn"})],
        "categories": [StrOptions({"merge", "drop", "keep"})],
        "min_frequency": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            None,
        ],
        "other_label": [str],
        "constant": [StrOptions({"drop", "warn", "keep"})],
        "tol": [Interval(Real, 0, 1, closed="left"), None],
        "fit_intercept": ["boolean"],
    }

    def __init__(
        self,
        dependent="drop",
        *,
        categories="merge",
        min_frequency=None,
        other_label="other",
        constant="drop",
        tol=None,
        fit_intercept=True,
    ):
        self.dependent = dependent
        self.categories = categories
        self.min_frequency = min_frequency
        self.other_label = other_label
        self.constant = constant
        self.tol = tol
        self.fit_intercept = fit_intercept

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X, y=None):
        """Find what is redundant.

        Parameters
        ----------
        X : (n, p) array, sparse matrix or DataFrame
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Missing or infinite numbers, or numbers stored as text.
        """
        self._validate_params()
        matrix, factors = self._read(X, reset=True)
        default = [f"x{j}" for j in range(matrix.shape[1])]
        self._names = column_names(X) if is_frame(X) else default
        self._integers = _integer_columns(X)
        found = CategoryFinder(
            self.categories, self.min_frequency, self.other_label, self.constant,
            self.dependent, self.fit_intercept,
        ).find(self._names, factors)  # fmt: skip
        self._rules, self._same = found.rules, found.same
        findings = list(found.findings)
        self._fit_numbers(matrix, factors, findings)
        position = np.setdiff1d(np.arange(len(self._names)), list(factors))
        support = np.zeros(len(self._names), dtype=bool)
        support[position[self._numbers.kept]] = True
        support[found.kept] = True
        self._support, self._position = support, position
        self.report_ = pd.DataFrame([[getattr(f, c) for c in _REPORT] for f in findings],
                                    columns=_REPORT)  # fmt: skip
        told = [f"{f.feature} {f.action} ({shortened(f.combination)})" for f in findings if f.told]
        if told:
            warn(
                f"{type(self).__name__}: {shortlist(told, 'report_')}",
                RankDeficiencyWarning,
            )
        return self

    def transform(self, X):
        """X without the redundant columns, categories mapped as in fit.

        Parameters
        ----------
        X : (n, p) array, sparse matrix or DataFrame

        Returns
        -------
        The same kind of container

        Warns
        -----
        RankDeficiencyWarning
            New categories became the most frequent one.
        """
        check_is_fitted(self)
        matrix, factors = self._read(X, reset=False)
        if not is_frame(X):
            return self._selected(matrix)
        self._tell_stand_ins(factors)
        return self._selected_frame(as_text_columns(X), matrix, factors)

    def inverse_transform(self, X):
        """The columns as they were: dropped ones are rebuilt from those they depend on.

        Merged categories stay merged.

        Parameters
        ----------
        X : output of transform

        Returns
        -------
        The same kind of container with all columns
        """
        check_is_fitted(self)
        k = int(self._support.sum())
        if X.shape[1] != k:
            raise ValueError(f"inverse_transform needs the {k} columns of transform, got {X.shape}")
        if is_frame(X):
            return self._rebuilt_frame(as_text_columns(X))
        rebuilt = X @ self._numbers.weights
        if sp.issparse(X) and not self._numbers.constant.any():
            return sp.csr_matrix(rebuilt)
        dense = rebuilt.toarray() if sp.issparse(rebuilt) else np.asarray(rebuilt)
        return (dense + self._numbers.constant).astype(dense.dtype, copy=False)

    def get_support(self, indices=False):
        """Mask of the input columns that stay, or their indices."""
        check_is_fitted(self)
        return np.flatnonzero(self._support) if indices else self._support.copy()

    def get_feature_names_out(self, input_features=None):
        """Names of the output columns; merged ones join their names by '|'."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)[:]
        out = np.array(names, dtype=object)
        for k, copies in self._numbers.merged.items():
            parts = [names[self._position[j]] for j in (k, *(c[0] for c in copies))]
            out[self._position[k]] = "|".join(map(str, parts))
        return out[self._support]

    def _check_restored(self):
        super()._check_restored()
        check_transformer(self)

    def _read(self, X, reset):
        """(numeric matrix, {position: clean categorical column})."""
        categorical = categorical_columns(X) if is_frame(X) else []
        if reset:
            self._categorical = categorical
        if not (categorical or self._categorical):
            matrix = validate_data(
                self, X, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32], reset=reset
            )
            return matrix, {}
        if not is_frame(X):
            raise ValueError(
                f"{type(self).__name__} was fitted on a DataFrame with the categorical columns "
                f"{self._categorical}, got {type(X).__name__}"
            )
        remember_features(self, X) if reset else check_same_features(self, X)
        return _split(as_text_columns(X), self._categorical)

    def _fit_numbers(self, matrix, factors, findings):
        names = [name for j, name in enumerate(self._names) if j not in factors]
        implicit = self.fit_intercept
        intercept = None if implicit else _first_constant(matrix)
        basis = independent_columns(
            matrix, intercept=intercept, tol=self.tol, add_intercept=implicit
        )
        labels = ["Intercept", *names] if implicit else names
        dropped = {}
        for j in np.flatnonzero(basis.aliased):
            used = np.flatnonzero(basis.combinations[j])
            finding, drop = self._judge(basis, j, used, labels)
            findings.append(finding)
            if drop:
                dropped[j - implicit] = used
        self._numbers = self._combinations(basis, dropped, int(implicit))
        findings += _near_findings(matrix, names, basis, int(implicit))

    def _judge(self, basis, j, used, labels):
        """(finding, whether to drop column j)."""
        row = basis.combinations[j, used]
        text = f"{labels[j]} = {combination_text(row, [labels[basis.kept[k]] for k in used])}"
        constant = all(basis.kept[k] == basis.intercept for k in used)
        rule = self.constant if constant else self.dependent
        action = {"drop": "dropped", "merge": "dropped", "warn": "kept", "keep": "kept"}[rule]
        if constant:
            reason = "constant"
        elif len(used) == 1 and row[0] == 1.0:
            reason = "duplicate"
        else:
            reason = "dependent"
        if not constant and rule == "merge" and self._copies(basis, used):
            action = f"merged into {labels[basis.kept[self._copies(basis, used)[0]]]}"
        if basis.lost_digits[j]:
            text += (
                "; rounding of its large values hides any difference: centre the variable "
                "before expanding or storing it"
            )
        return Finding(labels[j], reason, action, text, rule != "keep"), action != "kept"

    def _copies(self, basis, used):
        """Positions among the kept of the single column that is repeated, or nothing."""
        others = [k for k in used if basis.kept[k] != basis.intercept]
        return others if len(others) == 1 else []

    def _combinations(self, basis, dropped, implicit) -> Numbers:
        p = basis.aliased.size - implicit
        kept = np.setdiff1d(np.arange(p), list(dropped))
        weights, constant = np.zeros((kept.size, p)), np.zeros(p)
        weights[np.arange(kept.size), kept] = 1.0
        place = {column: i for i, column in enumerate(kept)}
        merged: dict = {}
        for j, used in dropped.items():
            for k in used:
                value, column = basis.combinations[j + implicit, k], basis.kept[k] - implicit
                if column < 0:
                    constant[j] = value
                else:
                    weights[place[column], j] = value
            copies = self._copies(basis, used)
            if self.dependent == "merge" and copies:
                source = basis.kept[copies[0]] - implicit
                slope = basis.combinations[j + implicit, copies[0]]
                own = basis.combinations[j + implicit] @ (basis.kept == basis.intercept)
                merged.setdefault(source, []).append((j, slope, own))
        return Numbers(kept, weights, constant, merged)

    def _selected(self, matrix):
        """Kept numeric columns, merged ones averaged."""
        numbers = self._numbers
        out = matrix[:, numbers.kept]
        for k, copies in numbers.merged.items():
            at = int(np.searchsorted(numbers.kept, k))
            dense = matrix.toarray() if sp.issparse(matrix) else matrix
            values = [(dense[:, j] - intercept) / slope for j, slope, intercept in copies]
            mean = np.mean([dense[:, k], *values], axis=0)
            out = _with_column(out, at, mean)
        return out

    def _selected_frame(self, X, matrix, factors):
        names = np.array(self._names, dtype=object)
        out_names = list(self.get_feature_names_out())
        columns = {}
        merged = {self._position[k] for k in self._numbers.merged}
        values = self._selected(matrix) if merged else None
        for at, j in enumerate(np.flatnonzero(self._support)):
            if j in factors:
                columns[out_names[at]] = self._mapped(X, names[j], factors[j])
            elif j in merged:
                place = np.searchsorted(self._position[self._numbers.kept], j)
                columns[out_names[at]] = values[:, place]
            else:
                columns[out_names[at]] = X[names[j]]
        return _frame_like(X, columns)

    def _tell_stand_ins(self, factors):
        """Warn of categories that take the place of an ordinary one."""
        told = []
        for j in np.flatnonzero(self._support):
            rule = self._rules.get(self._names[j]) if j in factors else None
            unseen = rule.unseen(factors[j].values) if rule is not None and rule.stand_in else []
            if unseen:
                levels = shortlist(list(map(repr, unseen)), separator=", ")
                told.append(f"{levels} of {self._names[j]} became {rule.other!r}")
        if told:
            warn(
                f"{type(self).__name__}.transform: the fit has not seen {shortlist(told)}: the "
                f"most frequent category, as the training data have no {self.other_label!r}. Set "
                "min_frequency so that rare categories are merged, or categories='keep' to pass "
                "new ones on",
                RankDeficiencyWarning,
            )

    def _mapped(self, X, name, column):
        """A categorical column by its rule, in the type it came in."""
        rule = self._rules.get(name)
        if rule is None:
            return X[name]
        mapped = rule.apply(column.values)
        if isinstance(X, pd.DataFrame):
            dtype = X[name].dtype
            same = isinstance(dtype, pd.CategoricalDtype)
            return pd.Series(mapped if same else np.asarray(mapped, dtype=object), index=X.index,
                             dtype=None if same else dtype)  # fmt: skip
        return [None if value != value else value for value in np.asarray(mapped, dtype=object)]

    def _rebuilt_frame(self, X):
        names = [str(name) for name in X.columns]
        kept_numbers = self._position[self._numbers.kept]
        place = {j: names[at] for at, j in enumerate(np.flatnonzero(self._support))}
        blocks = [np.asarray(X[place[j]], dtype=float) for j in kept_numbers]
        kept = np.column_stack(blocks) if blocks else np.zeros((len(X), 0))
        rebuilt = kept @ self._numbers.weights + self._numbers.constant
        columns = {}
        for j, name in enumerate(self._names):
            if j in place and place[j] == name:
                columns[name] = X[name]
            elif j in self._position:
                values = rebuilt[:, int(np.searchsorted(self._position, j))]
                columns[name] = values.round().astype(int) if name in self._integers else values
            else:
                columns[name] = self._rebuilt_factor(X, name, place)
        return _frame_like(X, columns)

    def _rebuilt_factor(self, X, name, place):
        """A dropped categorical column: constant, or a relabelling of another."""
        source, labels = self._same[name]
        if source is None:
            return np.full(len(X), labels, dtype=object)
        values = X[place[self._names.index(source)]]
        return np.array([labels.get(value) for value in values], dtype=object)


def _split(X, categorical):
    """(numeric matrix, {position: clean categorical column}) of a DataFrame."""
    table = Table(X)
    factors, numbers = {}, []
    for j, name in enumerate(table.names):
        column = clean(name, table.column(name))
        if name in categorical:
            if column.kind != "category":
                raise ValueError(
                    f"column {name!r} was categorical at the fit, now it holds numbers"
                )
            factors[j] = column
            continue
        if column.kind == "category" or column.missing is not None:
            what = "text" if column.kind == "category" else f"{column.missing.sum()} missing values"
            raise ValueError(f"column {name!r} holds {what} where numbers are needed (NaN or text)")
        numbers.append(np.asarray(column.values, dtype=np.float64))
    return np.column_stack(numbers) if numbers else np.zeros((table.n_rows, 0)), factors


def _integer_columns(X):
    """Names of the integer columns of a DataFrame."""
    if not is_frame(X):
        return frozenset()
    return frozenset(
        name
        for name, dtype in zip(column_names(X), X.dtypes, strict=True)
        if (dtype.kind in "iu" if isinstance(X, pd.DataFrame) else dtype.is_integer())
    )


def _first_constant(matrix):
    """Index of the first constant column that is not 0, or None."""
    if sp.issparse(matrix):
        low, high = matrix.min(axis=0).toarray()[0], matrix.max(axis=0).toarray()[0]
    else:
        low, high = matrix.min(axis=0, initial=np.inf), matrix.max(axis=0, initial=-np.inf)
    found = np.flatnonzero((low == high) & (low != 0))
    return int(found[0]) if found.size else None


def _near_findings(matrix, names, basis, implicit):
    """What is reported and left alone: near dependence, near-constant columns, scales."""
    kept = basis.kept[basis.kept != basis.intercept]
    inflation = variance_inflation(basis)[basis.kept != basis.intercept]
    for j, value in zip(kept - implicit, inflation, strict=True):
        if value > LARGE_VIF:
            text = f"variance inflation {value:.3g} given the other columns"
            yield Finding(names[j], "near dependence", "kept", text, value > ALARMING_VIF)
    for j in _mostly_one_value(matrix):
        column = matrix[:, [j]].toarray() if sp.issparse(matrix) else matrix[:, [j]]
        row = near_zero_variance(column).iloc[0]
        if row["near_constant"] and not row["constant"]:
            text = f"most common value {row['frequency_ratio']:.3g} times as often as the next"
            yield Finding(names[j], "near-constant", "kept", text, False)
    mean = (basis.center + basis.offset)[basis.kept != basis.intercept]
    labels = [names[j] for j in kept - implicit]
    for name, text in scale_advice(labels, mean, basis.size[kept]):
        yield Finding(name, "scale", "kept", text, False)


def _mostly_one_value(matrix):
    """Columns worth counting in full: one value fills most of some thousand rows."""
    sample = matrix[:: max(1, matrix.shape[0] // 1024)]
    sample = sample.toarray() if sp.issparse(sample) else sample
    if not len(sample):
        return []
    middle = np.sort(sample, axis=0)[len(sample) // 2]
    share = (sample == middle).mean(axis=0)
    return np.flatnonzero(share > 0.8 * FREQUENCY_RATIO / (FREQUENCY_RATIO + 1))


def _with_column(matrix, at, values):
    if not sp.issparse(matrix):
        matrix = np.array(matrix)
        matrix[:, at] = values
        return matrix
    parts = [matrix[:, :at], sp.csr_matrix(values[:, None]), matrix[:, at + 1 :]]
    return sp.hstack(parts, format="csr")


def _frame_like(X, columns):
    """A DataFrame of X's library."""
    if isinstance(X, pd.DataFrame):
        return pd.DataFrame(columns, index=X.index)
    return type(X)(columns)
