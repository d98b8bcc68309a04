"""Likelihood-ratio tests whose reference distribution is drawn from the smaller model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from skmixed._warn import warn
from skmixed.exceptions import BootstrapWarning
from skmixed.inference.bootstrap import REFUSALS, drawn_response
from skmixed.inference.lrt import UNDONE, likelihood_ratio_test
from skmixed.inference.noted import NotedTable
from skmixed.inference.refitted import refits_of
from skmixed.inference.replicates import check_count, reason_of, replicate, told_reasons

_WHO = "bootstrap_test"
COLUMNS = ["statistic", "df", "p_value"]


def bootstrap_test(
    small, large, X, y=None, *, n=1000, groups=None, sample_weight=None, random_state=None,
    n_jobs=None, verbose=0,
) -> BootstrapTest:  # fmt: skip
    """Parametric bootstrap of the likelihood-ratio test between two nested models.

    Responses are drawn from the smaller model as fitted by maximum likelihood, and both models are
    fitted to each. The p-value is (r + 1) / (m + 1) with r of the m statistics at least as large as
    that of the data. It needs no chi-square distribution: neither few levels nor a variance on the
    boundary of its range, as for a random-effects term that is left out, are in its way.

    Parameters
    ----------
    small, large : fitted mixed models
        One a special case of the other, in any order; the smaller one may be without random
        effects. Linear ones fitted by REML are fitted by maximum likelihood first.
    X : DataFrame or array of n rows
        The data of both fits.
    y : (n,), optional
        The response; two-sided formulas find it in X.
    n : int, default 1000
        Number of responses drawn.
    groups, sample_weight : optional
        As at the fits.
    random_state, n_jobs, verbose : optional
        As for :func:`bootstrap`.

    Returns
    -------
    BootstrapTest
        With ``statistic``, ``df``, ``p_value``, ``draws`` and a ``table`` of the p-values by other
        reference distributions.

    Raises
    ------
    ValueError
        For models that are not nested, and as :func:`likelihood_ratio_test` and :func:`bootstrap`.

    Warns
    -----
    BootstrapWarning
        How many refits failed, and why; the p-value is of the others.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, section 4.2. Halekoh and
    Hojsgaard (2014), Journal of Statistical Software 59(9), whose ``PBmodcomp`` this is.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_cake
    >>> from skmixed.inference import bootstrap_test
    >>> cake = load_cake().frame
    >>> small = MixedLinearRegressor("angle ~ temp + (1 | recipe:replicate)").fit(cake)
    >>> large = MixedLinearRegressor("angle ~ recipe + temp + (1 | recipe:replicate)").fit(cake)
    >>> test = bootstrap_test(small, large, cake, n=100, random_state=0)
    >>> print(f"{test.statistic:.2f}, {test.df} df, p > 0.5: {test.p_value > 0.5}")
    0.53, 2 df, p > 0.5: True
    """
    check_count(n, 1, _WHO)
    table = likelihood_ratio_test(small, large)
    if small.result_.n_params > large.result_.n_params:
        small, large = large, small
    row = table.iloc[1]
    if np.isnan(row["p-value"]):
        raise ValueError(
            f"{_WHO}: no model is a special case of the other, as the warning says, so that there "
            "is no hypothesis to draw from"
        )
    given = groups, sample_weight, _WHO
    pair = [refits_of(m, X, y, *given).by_maximum_likelihood() for m in (small, large)]
    task = _Statistic(pair[0].parametric(), *pair)
    found = replicate(task, n, random_state=random_state, n_jobs=n_jobs, verbose=verbose, who=_WHO)
    test = BootstrapTest.of(row, table.index, found)
    if test.n_failed:
        reasons = told_reasons(test.failures)
        message = f"{_WHO}: {test.n_failed} of {n} refits failed: {reasons}"
        if test.n_failed == n:
            raise ValueError(message)
        warn(message, BootstrapWarning)
    return test


class _Drawn(NamedTuple):
    value: float
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Statistic:
    """Statistics of responses that ``source`` draws."""

    source: Any
    small: Any
    large: Any

    @property
    def together(self):
        return max(self.small.together, self.large.together)

    def __call__(self, rngs):
        drawn = [drawn_response(self.source, rng) for rng in rngs]
        known = [y for y, _ in drawn if y is not None]
        refits = zip(self.small.of_responses(known), self.large.of_responses(known), strict=True)
        return [
            _Drawn(np.nan, reason) if y is None else self._read(y, *next(refits))
            for y, reason in drawn
        ]

    def _read(self, y, small, large):
        try:
            null = small().deviance
            value = null - large().deviance
            if not value >= -UNDONE * max(1.0, abs(null)):
                value = null - self.large.of_response(y, near=False).deviance
        except REFUSALS as error:
            return _Drawn(np.nan, reason_of(error))
        if not np.isfinite(value):
            return _Drawn(np.nan, "a criterion has no minimum: nothing is left to explain")
        if value < -UNDONE * max(1.0, abs(null)):
            return _Drawn(np.nan, "the larger model fits worse: its search has missed the optimum")
        return _Drawn(max(value, 0.0))


@dataclass(frozen=True, eq=False)
class BootstrapTest:
    """A likelihood-ratio test with a reference distribution that was drawn.

    Attributes
    ----------
    statistic : float
        Of the data: the drop in -2 log-likelihood.
    df : int
        Parameters added.
    draws : ndarray of shape (n,)
        The statistic of every response drawn; NaN where a refit failed.
    failures : Series of str
        Reasons, by the number of the replicate.
    models : tuple of str
        The formulas, the smaller one first.
    boundary : float
        The p-value of the mixture of chi-square distributions for variances on the boundary; NaN
        for other hypotheses.
    """

    statistic: float
    df: int
    draws: np.ndarray
    failures: pd.Series
    models: tuple
    boundary: float

    @classmethod
    def of(cls, row, models, found):
        """Of a row of the table of likelihood-ratio tests, and a list of drawn statistics."""
        draws = np.array([drawn.value for drawn in found])
        numbers = pd.RangeIndex(len(found), name="replicate")
        reasons = pd.Series([d.reason for d in found], index=numbers, name="reason", dtype=object)
        return cls(
            float(row["Chisq"]), int(row["Df"]), draws, reasons[reasons != ""], tuple(models),
            float(row["p-value (boundary)"]),
        )  # fmt: skip

    @property
    def n_failed(self) -> int:
        """Number of responses that were not fitted."""
        return len(self.failures)

    @property
    def _known(self):
        return self.draws[~np.isnan(self.draws)]

    @property
    def p_value(self) -> float:
        """(r + 1) / (m + 1), r of m statistics at least as large as that of the data."""
        # a statistic is known as well as its two criteria
        extreme = np.sum(self._known >= self.statistic * (1 - UNDONE))
        return float((extreme + 1) / (len(self._known) + 1))

    @property
    def p_value_error(self) -> float:
        """Monte-Carlo standard error of the p-value."""
        p = self.p_value
        return float(np.sqrt(p * (1 - p) / (len(self._known) + 1)))

    @property
    def table(self) -> NotedTable:
        """The p-value beside those of other reference distributions.

        Chi-square; for a variance on the boundary the mixture of chi-squares, for other hypotheses
        Bartlett's correction, which gives the statistic the mean that the draws have, and an F
        distribution with their mean; and the gamma distribution with their mean and variance.

        Returns
        -------
        NotedTable
            A DataFrame with statistic, df and p_value by ``LRT``, ``bootstrap``, ...
        """
        T, df = self.statistic, self.df
        rows = {"LRT": (T, df, stats.chi2.sf(T, df)), "bootstrap": (T, np.nan, self.p_value)}
        if np.isnan(self.boundary):
            rows |= self._corrected()
        else:
            rows["boundary"] = T, np.nan, self.boundary
        mean, variance = self._moments()
        gamma = stats.gamma.sf(T, mean**2 / variance, scale=variance / mean) if variance else np.nan
        rows["gamma"] = T, np.nan, gamma
        index = pd.Index(list(rows), name="reference", dtype=object)
        return NotedTable.of(list(rows.values()), COLUMNS, index, self._notes())

    def _corrected(self):
        """Bartlett's statistic, and F with the denominator df that give it the mean of the draws.

        F(df, d) has the mean d / (d - 2).
        """
        T, df, (mean, _) = self.statistic, self.df, self._moments()
        if not mean > 0:
            return {}
        scaled, excess = T * df / mean, mean - df
        rows = {"Bartlett": (scaled, df, stats.chi2.sf(scaled, df))}
        if excess > 0:
            rows["F"] = T / df, df, stats.f.sf(T / df, df, 2 * mean / excess)
        return rows

    def _moments(self):
        known = self._known
        return float(known.mean()), float(known.var(ddof=1)) if len(known) > 1 else 0.0

    def _notes(self):
        small, large = self.models
        known = len(self._known)
        notes = [
            f"small: {small}",
            f"large: {large}",
            f"{known} responses drawn from the smaller model; Monte-Carlo standard error of the "
            f"bootstrap p-value {self.p_value_error:.2g}",
        ]
        if self.n_failed:
            reasons = told_reasons(self.failures)
            notes.append(f"{self.n_failed} of {len(self.draws)} refits failed: {reasons}")
        return notes

    def __repr__(self):
        return repr(self.table)

    def _repr_html_(self):
        return self.table._repr_html_()
