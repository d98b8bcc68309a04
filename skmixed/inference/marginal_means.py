"""Marginal means, trends and their contrasts: one kind of object, which prints as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from skmixed.families import Family as Distribution
from skmixed.inference.adjust import Family, adjusted_p_values, check_method, critical_values
from skmixed.inference.contrasts import contrast_family
from skmixed.inference.fixed_effects import FixedEffects
from skmixed.inference.intervals import check_level
from skmixed.inference.joint import joint_table
from skmixed.inference.letters import compact_letters
from skmixed.inference.means_text import notes_of, text_of
from skmixed.inference.row_labels import control_labels, named_index, names_among, row_labels
from skmixed.inference.tables import as_html, as_text, wrapped
from skmixed.models.marginal import mean_limits

SCALES = ("link", "response")
# Links whose differences are logarithms, and what is left when the logarithm is taken back.
_RATIOS = {"log": "ratios", "logit": "odds ratios"}
_PAIRS = ("pairwise", "revpairwise")
# Eigenvalues of a correlation matrix below this are zeros.
_DEPENDENT = 1e-9


@dataclass(frozen=True, eq=False)
class MarginalMeans:
    """Estimates K beta + offset of a fitted model with tests and intervals.

    Made by :func:`emmeans` and :func:`emtrends`, and by its own :meth:`contrast`.

    Attributes
    ----------
    effects : FixedEffects
        The model.
    index : pandas Index
        Levels by which the rows are known, those of ``by`` first.
    K : ndarray, (m, p)
        Coefficients of every row, NaN where there is no such mean.
    offset : ndarray, (m,)
    title : str
    by : tuple of str
        Levels of the index that split the rows into families.
    ddf : str
        Kind of degrees of freedom.
    level : float
        Confidence level.
    scale : {"link", "response"}
    adjust : str
        Adjustment of p-values and limits for the size of each family.
    distribution : Family or None
        Takes means to the response scale; None where both scales are one.
    compared : str
        The method of contrasts; empty for means and trends. Those of logarithms (links log and
        logit) are ratios on the response scale.
    n_means : tuple of int
        How many means each family compares.
    remarks : tuple of str
        Sentences below the table.
    """

    effects: FixedEffects
    index: pd.Index
    K: np.ndarray
    offset: np.ndarray
    title: str
    by: tuple[str, ...] = ()
    ddf: str = "asymptotic"
    level: float = 0.95
    scale: str = "link"
    adjust: str = "none"
    distribution: Distribution | None = None
    compared: str = ""
    n_means: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()

    # Numbers

    @property
    def frame(self) -> pd.DataFrame:
        """The table.

        estimate, std_error, df, t (z where df is infinite), p_value, lower and upper; if a row is
        not estimable its numbers are NaN, and a column ``estimable`` says so. t and p_value are
        those of the link scale.
        """
        return self._frame.copy()

    @cached_property
    def _frame(self):
        tests = self._tests
        p, reach = np.full((2, len(self.index)), np.nan)
        for own, family in zip(self.families, self._judged(tests), strict=True):
            p[own] = adjusted_p_values(family, self.adjust)
            reach[own] = critical_values(family, self.adjust, self.level)
        estimate = tests.estimate + self.offset
        with np.errstate(invalid="ignore"):
            half = reach * tests.std_error
        numbers = estimate, tests.std_error, estimate - half, estimate + half
        shown, error, lower, upper = self._on_scale(*numbers)
        statistic = "z" if self.ddf == "asymptotic" else "t"
        columns = {"estimate": shown, "std_error": error, "df": tests.df, statistic: tests.t,
                   "p_value": p, "lower": lower, "upper": upper}  # fmt: skip
        if not self.estimable.all():
            columns["estimable"] = self.estimable
        return pd.DataFrame(columns, index=self.index)

    @property
    def linfct(self) -> pd.DataFrame:
        """Coefficients (m, p) of every row."""
        return pd.DataFrame(self.K, index=self.index, columns=list(self.effects.names))

    @property
    def vcov(self) -> pd.DataFrame:
        """Covariance (m, m) of the estimates on the link scale."""
        return pd.DataFrame(self._covariance, index=self.index, columns=self.index)

    @cached_property
    def _covariance(self):
        vcov = self.effects.covariance(np.nan_to_num(self.K), self.ddf)
        vcov[~self.estimable] = vcov[:, ~self.estimable] = np.nan
        return vcov

    @cached_property
    def estimable(self) -> np.ndarray:
        """(m,) bool: rows that the data determine."""
        lost = np.isnan(self.K).any(axis=1)
        return self.effects.is_estimable(np.nan_to_num(self.K)) & ~lost

    @cached_property
    def _tests(self):
        return self._tests_of(0.0)

    def _tests_of(self, null):
        K = np.nan_to_num(self.K)
        tests = self.effects.row_tests(K, self.ddf, rhs=null - self.offset)
        return tests.where(self.estimable)

    @cached_property
    def families(self) -> list[np.ndarray]:
        """Positions of the rows of every family."""
        if not self.by:
            return [np.arange(len(self.index))]
        keys = self.index.to_frame(index=False)[list(self.by)]
        number = keys.groupby(list(self.by), sort=False, observed=True).ngroup().to_numpy()
        return [np.flatnonzero(number == k) for k in range(number.max(initial=-1) + 1)]

    def _judged(self, tests):
        """Every family as its adjustment takes it."""
        for k, own in enumerate(self.families):
            correlation, rank = None, None
            if self.adjust in ("mvt", "scheffe"):
                correlation, rank = _correlation(self._covariance[np.ix_(own, own)])
            means = self.n_means[k] if self.n_means else len(own)
            yield Family(tests.t[own], tests.df[own], means, correlation, rank)

    def _on_scale(self, estimate, error, lower, upper):
        """Estimate, standard error and limits on the scale that is shown."""
        if self.scale == "link" or self.distribution is None:
            return estimate, error, lower, upper
        with np.errstate(all="ignore"):
            if self.compared:
                ratio = np.exp(estimate)
                return ratio, ratio * error, np.exp(lower), np.exp(upper)
            link = self.distribution.link
            ends = mean_limits(self.distribution, lower, upper)
            return (
                self.distribution.mean(estimate),
                np.abs(link.slope(estimate)) * error,
                *ends.T,
            )

    # Questions

    def contrast(
        self,
        method: str | dict = "pairwise",
        *,
        adjust: str | None = None,
        by: str | Sequence[str] | None = None,
        ref=None,
    ) -> MarginalMeans:
        """Contrasts among the rows of every family.

        Parameters
        ----------
        method : str or dict
            ``pairwise``, ``revpairwise``, ``trt.vs.ctrl``, ``trt.vs.ctrlk``, ``eff``, ``del.eff``,
            ``consec``, ``poly``, ``helmert``, or ``{"name": coefficients}``.
        adjust : str, optional
            Adjustment for the size of a family: ``none``, ``tukey`` (pairs), ``dunnettx``, ``mvt``,
            ``scheffe``, ``bonferroni``, ``sidak``, ``holm``, ``fdr`` or another of statsmodels'. By
            default what suits the method: ``tukey`` for pairs, ``dunnettx`` for comparisons with
            a control, ``fdr`` for ``eff``, ``mvt`` for ``consec``, else ``none``.
        by : str or list of str, optional
            What splits the rows into families; that of the means by default, ``[]`` for one.
        ref : level or list of levels, optional
            The control of ``trt.vs.ctrl``; the first level by default.

        Returns
        -------
        MarginalMeans
            With the names of the contrasts in its index. On the response scale contrasts are
            ratios (log link) or odds ratios (logit); those of other links stay on the link scale.

        Raises
        ------
        ValueError
            For an unknown method, adjustment, reference or ``by``, and where a family has no two
            means to compare.
        """
        by = self.by if by is None else names_among(by, self.index.names, "by")
        own, ratio = replace(self, by=by), self._ratio
        found = [own._among(at, method, ref, ratio) for at in own.families]
        pairs = list(zip(own.families, found, strict=True))
        names = [(*own._group(at), name) for at, family in pairs for name in family.names]
        if not names:
            raise ValueError(
                f"contrast {method!r} needs two means or more in a family, and every family of "
                f"{self.title!r} has one"
            )
        kind = method if isinstance(method, str) else "custom"
        label = "contrast" if "contrast" not in by else f"contrast{len(by)}"
        return replace(
            own,
            index=named_index(names, (*by, label)),
            K=np.vstack([_combined(family.K, self.K[at]) for at, family in pairs]),
            offset=np.concatenate([family.K @ self.offset[at] for at, family in pairs]),
            title=f"Contrasts ({kind}) of {self.title[:1].lower()}{self.title[1:]}",
            scale="link" if ratio is None else self.scale,
            adjust=_checked(found[0].adjust if adjust is None else adjust, kind),
            distribution=None if ratio is None else self.distribution,
            compared=kind,
            n_means=tuple(len(at) for at, family in pairs if family.names),
            remarks=tuple(dict.fromkeys((*self.remarks, *self._about_scale(ratio)))),
        )

    def _among(self, at, method, ref, ratio):
        """The contrasts of one family."""
        labels, levels = row_labels(self._own_levels(at))
        control = None if ref is None else control_labels(ref, levels, labels)
        return contrast_family(method, labels, ref=control, ratio=ratio is not None)

    def pairs(self, *, adjust=None, by=None, reverse=False) -> MarginalMeans:
        """All differences between two rows of a family, the earlier minus the later one.

        Parameters
        ----------
        adjust : str, optional
            ``tukey`` by default, see :meth:`contrast`.
        by : str or list of str, optional
        reverse : bool
            The later minus the earlier one.
        """
        return self.contrast("revpairwise" if reverse else "pairwise", adjust=adjust, by=by)

    def test(self, joint=False, *, null=0.0) -> pd.DataFrame:
        """Tests that the rows, on the link scale, are ``null``.

        Parameters
        ----------
        joint : bool
            One test of all rows of a family that are estimable, instead of one for each row.
        null : float

        Returns
        -------
        DataFrame
            By row estimate, std_error, df, t (or z) and the adjusted p_value. Joint: one row by
            family with num_df, den_df, F and p_value (chi2, df and p_value for z tests).
        """
        if joint:
            return self._joint(null)
        tests = self._tests_of(null)
        p = np.full(len(self.index), np.nan)
        for own, family in zip(self.families, self._judged(tests), strict=True):
            p[own] = adjusted_p_values(family, self.adjust)
        statistic = "z" if self.ddf == "asymptotic" else "t"
        columns = {"estimate": tests.estimate + self.offset, "std_error": tests.std_error,
                   "df": tests.df, statistic: tests.t, "p_value": p}  # fmt: skip
        return pd.DataFrame(columns, index=self.index)

    def _joint(self, null):
        keys, tests = [], []
        for own in self.families:
            known = own[~np.isnan(self.K[own]).any(axis=1)]
            keys.append(self._group(own) or ("all",))
            tests.append((self.K[known], null - self.offset[known]))
        index = named_index(keys, self.by or ("family",))
        return joint_table(self.effects, tests, index, self.ddf)

    def letters(self, alpha=0.05, *, adjust=None) -> pd.Series:
        """Letters by row: two means of a family that share none differ at level ``alpha``.

        Parameters
        ----------
        alpha : float
        adjust : str, optional
            Of the pairwise comparisons, ``tukey`` by default.

        References
        ----------
        Piepho (2004), An algorithm for a letter-based representation of all-pairwise comparisons,
        Journal of Computational and Graphical Statistics 13, 456-466.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {alpha!r}")
        found = np.full(len(self.index), "", dtype=object)
        if max(map(len, self.families)) < 2:
            return pd.Series("a", index=self.index, name="letters")
        pairs = self.contrast("pairwise", adjust=adjust)
        p, begin = pairs._frame["p_value"].to_numpy(), 0
        values = self._tests.estimate + self.offset
        for own in self.families:
            m = len(own) * (len(own) - 1) // 2
            found[own] = compact_letters(p[begin : begin + m] < alpha, values[own])
            begin += m
        return pd.Series(found, index=self.index, name="letters")

    def summary(self, *, level=None, adjust=None, scale=None) -> MarginalMeans:
        """The same rows with another confidence level, adjustment or scale.

        Parameters
        ----------
        level : float, optional
        adjust : str, optional
            As in :meth:`contrast`; the rows of a family are adjusted for each other.
        scale : {"link", "response"}, optional
        """
        level = self.level if level is None else level
        check_level(level)
        adjust = self.adjust if adjust is None else _checked(adjust, self.compared)
        if scale not in (None, self.scale) and (self.compared or self.distribution is None):
            raise ValueError(
                "only means have another scale: take emmeans(..., scale='response') and then its "
                "contrasts; trends and differences belong to the link scale"
            )
        scale = self.scale if scale is None else check_scale(scale)
        return replace(self, level=level, adjust=adjust, scale=scale)

    # Names

    def _group(self, own):
        """The levels of ``by`` that a family has."""
        frame = self.index[own[:1]].to_frame(index=False)
        return tuple(frame[name].iloc[0] for name in self.by)

    def _own_levels(self, own):
        """The other levels of the rows of a family."""
        return self.index[own].to_frame(index=False).drop(columns=list(self.by))

    @property
    def _ratio(self):
        """What contrasts are on the response scale; None where they have none."""
        link = None if self.distribution is None else self.distribution.link.name
        return _RATIOS.get(link) if self.scale == "response" else None

    def _about_scale(self, ratio):
        if self.distribution is None or self.scale == "link":
            return ()
        link = self.distribution.link.name
        if ratio is None:
            return (f"Differences are those on the {link} scale.",)
        return (f"Contrasts are {ratio}: exponentials of differences on the {link} scale.",)

    # Text

    def __str__(self) -> str:
        return "\n\n".join(
            [self.title, as_text(text_of(self._frame)), "\n".join(map(wrapped, self.notes))]
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.title, text_of(self._frame), self.notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences below the table: what was averaged, how it was tested."""
        return notes_of(self)


def check_scale(scale):
    """``scale``, or an error if it is none."""
    if scale not in SCALES:
        raise ValueError(f"scale must be 'link' or 'response', got {scale!r}")
    return scale


def _checked(adjust, compared):
    """An adjustment that exists and suits what is compared."""
    check_method(adjust)
    if adjust == "tukey" and compared not in _PAIRS:
        raise ValueError(
            "adjust='tukey' is for all pairs of one set of means, contrast('pairwise'), got "
            f"{compared or 'means'!r}: take 'mvt', 'sidak' or 'holm'"
        )
    return adjust


def _combined(C, K):
    """C K, where what C leaves out is not looked at."""
    lost = np.isnan(K).any(axis=1)
    rows = C @ np.where(lost[:, None], 0.0, K)
    rows[(C != 0) @ lost] = np.nan
    return rows


def _correlation(vcov):
    """(correlation, rank) of estimates; unknown ones are NaN."""
    size = np.sqrt(vcov.diagonal())
    with np.errstate(divide="ignore", invalid="ignore"):
        R = vcov / np.outer(size, size)
    known = ~np.isnan(size)
    values = np.linalg.eigvalsh(R[np.ix_(known, known)]) if known.any() else np.zeros(0)
    return R, int((values > _DEPENDENT * len(values)).sum())
