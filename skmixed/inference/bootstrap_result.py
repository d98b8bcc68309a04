"""What a bootstrap has found: draws, limits, failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from skmixed.inference.bootstrap_limits import METHODS, acceleration, check_enough, limits_by
from skmixed.inference.intervals import check_level, find_parameters
from skmixed.inference.noted import NotedTable
from skmixed.inference.replicates import told_reasons

COLUMNS = ["estimate", "lower", "upper"]


class Replicate(NamedTuple):
    """One refit: values (k,) of the statistic, why they are NaN, and how the fit ended."""

    values: np.ndarray
    reason: str = ""
    singular: bool = False
    converged: bool = True
    separated: bool = False


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Replicates of a statistic, and what they say of its estimate.

    Attributes
    ----------
    draws : DataFrame of shape (n, k)
        The statistic of every refit by parameter; NaN where it failed, or does not determine it.
    estimate : Series of k
        The statistic of the fit itself.
    kind : str
    failures : Series of str
        Reasons, by the number of the replicate.
    singular, converged, separated : ndarray of bool, shape (n,)
        How the fits ended: with a singular covariance; at an optimum; with outcomes that the fixed
        effects separate, so that coefficients are those of the limit.
    """

    draws: pd.DataFrame
    estimate: pd.Series
    kind: str
    failures: pd.Series
    singular: np.ndarray
    converged: np.ndarray
    separated: np.ndarray
    _jackknife: Callable | None = None

    @classmethod
    def of(cls, found, names, estimate, kind, jackknife=None):
        """Of a list of Replicates."""
        numbers = pd.RangeIndex(len(found), name="replicate")
        columns = pd.Index(names, name="parameter")
        reasons = pd.Series([r.reason for r in found], index=numbers, name="reason", dtype=object)
        ends = np.array([(r.singular, r.converged, r.separated) for r in found]).T
        draws = pd.DataFrame(np.array([r.values for r in found]), numbers, columns)
        own = pd.Series(estimate, index=columns, name="estimate", dtype=float)
        return cls(draws, own, kind, reasons[reasons != ""], *ends, jackknife)

    @property
    def n(self) -> int:
        """Number of replicates, those that failed included."""
        return len(self.draws)

    @property
    def n_failed(self) -> int:
        """Number of refits that failed."""
        return len(self.failures)

    @property
    def singular_share(self) -> float:
        """Share of the refits with a singular covariance, of those that did not fail."""
        return float(self.singular.sum() / max(self.n - self.n_failed, 1))

    @property
    def bias(self) -> pd.Series:
        """Mean of the draws less the estimate."""
        return (self.draws.mean() - self.estimate).rename("bias")

    @property
    def std_error(self) -> pd.Series:
        """Standard deviation of the draws."""
        return self.draws.std().rename("std_error")

    def confint(self, parameters=None, level=0.95, method="percentile") -> pd.DataFrame:
        """Confidence intervals.

        ========== =============================================================================
        percentile quantiles q of the draws
        basic      2 estimate - q, the quantiles at the other end
        normal     estimate - bias +- z std_error
        bca        quantiles at levels corrected for bias and acceleration; the latter by leaving
                   out every level of the factor ``by`` in turn, in further refits
        ========== =============================================================================

        Parameters
        ----------
        parameters : str or list of str, optional
            All of them by default.
        level : float
            Coverage, between 0 and 1.
        method : {"percentile", "basic", "normal", "bca"}

        Returns
        -------
        DataFrame
            estimate, lower and upper by parameter; ``attrs["notes"]`` says by parameter why a limit
            is missing, or no ordinary one.

        Raises
        ------
        ValueError
            For fewer draws than the quantiles need, unknown parameters or methods, and BCa
            intervals of crossed factors where none was named, or of a bootstrap from a file that
            was never asked for them.

        References
        ----------
        Davison and Hinkley (1997), Bootstrap Methods and their Application, chapter 5. Efron
        (1987), Journal of the American Statistical Association 82, 171-185, for BCa.
        """
        check_level(level)
        if method not in METHODS:
            known = ", ".join(map(repr, METHODS))
            raise ValueError(f"method must be one of {known}, got {method!r}")
        check_enough(self.n - self.n_failed, level, method)
        wanted = find_parameters(parameters, list(self.draws.columns))
        left_out = self.left_out if method == "bca" else None
        rows, notes = [], {}
        for j in wanted:
            own = None if left_out is None else acceleration(left_out[:, j])
            value, name = self.estimate.iloc[j], self.draws.columns[j]
            lower, upper, note = limits_by(method, self.draws.iloc[:, j], value, level, own)
            rows.append([value, lower, upper])
            if note:
                notes[name] = note
        table = pd.DataFrame(rows, self.draws.columns[wanted], COLUMNS, dtype=float)
        table.attrs["notes"] = notes
        return table

    @property
    def left_out(self) -> np.ndarray:
        """The statistic without every level in turn (J, k): refits, when first read."""
        known = self.__dict__.get("_left_out")
        if known is not None:
            return known
        if self._jackknife is None:
            raise ValueError(
                "BCa intervals leave out every level of a factor in turn, and there is none to be "
                "had: with crossed factors name one, bootstrap(..., by='...'); a bootstrap from a "
                "file has to be asked before it is pickled. Or use another method"
            )
        self.__dict__["_left_out"] = self._jackknife()
        return self.__dict__["_left_out"]

    def summary(self, level=0.95, method="percentile") -> NotedTable:
        """Estimates with bias, standard error and intervals.

        Parameters
        ----------
        level : float
        method : {"percentile", "basic", "normal", "bca"}

        Returns
        -------
        NotedTable
            A DataFrame with estimate, bias, std_error, lower, upper and n, the number of draws, by
            parameter. What has to be known of the refits stands below.
        """
        limits = self.confint(level=level, method=method)
        columns = {
            "estimate": self.estimate,
            "bias": self.bias,
            "std_error": self.std_error,
            "lower": limits["lower"],
            "upper": limits["upper"],
            "n": self.draws.count(),
        }
        table = pd.DataFrame(columns)
        notes = [f"{self._title()}; {method} intervals of level {level:g}", *self._singular()]
        notes += self.troubles()
        notes += [f"{name}: {note}" for name, note in limits.attrs["notes"].items()]
        return NotedTable.of(table, list(columns), table.index, notes)

    def troubles(self) -> list[str]:
        """What is wrong with refits, in words."""
        found, left = [], self.n - self.n_failed
        if self.n_failed:
            reasons = told_reasons(self.failures)
            found.append(f"{self.n_failed} of {self.n} refits failed: {reasons}")
        ended = np.ones(self.n, dtype=bool)
        ended[self.failures.index] = False
        unfinished = int(np.sum(ended & ~self.converged))
        if unfinished:
            found.append(f"{unfinished} of {left} refits have not converged; their draws count")
        if self.separated.any():
            found.append(
                f"outcomes separate in {int(self.separated.sum())} of {left} refits, whose "
                "coefficients are those of the limit: quantiles stand, moments do not"
            )
        return found

    def _singular(self):
        share = self.singular_share
        return [f"{100 * share:.3g} % of the refits are singular"] if share else []

    def _title(self):
        return f"{self.kind.capitalize()} bootstrap, {self.n} refits"

    def _shown(self) -> Any:
        try:
            return self.summary()
        except ValueError:  # too few draws for limits
            columns = {"estimate": self.estimate, "bias": self.bias, "std_error": self.std_error}
            table = pd.DataFrame(columns)
            return NotedTable.of(table, list(columns), table.index, [self._title()])

    def __repr__(self):
        return repr(self._shown())

    def _repr_html_(self):
        return self._shown()._repr_html_()

    def __getstate__(self):
        """State without the data, which leaving out levels needs."""
        return self.__dict__ | {"_jackknife": None}
