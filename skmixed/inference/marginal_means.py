"""Marginal means, trends and their contrasts: one kind of object, which prints as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from skmixed.design.columns import looks_numeric
from skmixed.families import Family as Distribution
from skmixed.inference.adjust import Family, adjusted_p_values, check_method, critical_values
from skmixed.inference.contrasts import contrast_family
from skmixed.inference.fixed_effects import FixedEffects
from skmixed.inference.intervals import check_level
from skmixed.inference.letters import compact_letters
from skmixed.inference.noted import NotedTable
from skmixed.inference.numbers import column, common_decimals
from skmixed.inference.tables import as_html, as_text, wrapped
from skmixed.models.marginal import mean_limits
from skmixed.models.questions import estimable_part

SCALES = ("link", "response")
# Links whose differences are logarithms, and what is left when the logarithm is taken back.
_RATIOS = {"log": "ratios", "logit": "odds ratios"}
_PAIRS = ("pairwise", "revpairwise")
# Eigenvalues of a correlation matrix below this are zeros.
_DEPENDENT = 1e-9
LOST_NOTE = "Tested is the part of them that is estimable: {}."
_DDF = {
    "satterthwaite": "Satterthwaite",
    "kenward_roger": "Kenward-Roger",
    "residual": "residual",
    "asymptotic": "infinite (z tests)",
}


@dataclass(frozen=True)
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
    logs : bool
        Whether the rows are differences of logarithms, so that the response scale has ratios.
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
    logs: bool = False
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
        for own, family in zip(self._families, self._judged(tests), strict=True):
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
        if not self._estimable.all():
            columns["estimable"] = self._estimable
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
        vcov[~self._estimable] = vcov[:, ~self._estimable] = np.nan
        return vcov

    @cached_property
    def _estimable(self):
        lost = np.isnan(self.K).any(axis=1)
        return self.effects.is_estimable(np.nan_to_num(self.K)) & ~lost

    @cached_property
    def _tests(self):
        return self._tests_of(0.0)

    def _tests_of(self, null):
        K = np.nan_to_num(self.K)
        tests = self.effects.row_tests(K, self.ddf, rhs=null - self.offset)
        return tests.where(self._estimable)

    @cached_property
    def _families(self):
        """Rows of every family."""
        if not self.by:
            return [np.arange(len(self.index))]
        keys = self.index.to_frame(index=False)[list(self.by)]
        number = keys.groupby(list(self.by), sort=False, observed=True).ngroup().to_numpy()
        return [np.flatnonzero(number == k) for k in range(number.max(initial=-1) + 1)]

    def _judged(self, tests):
        """Every family as its adjustment takes it."""
        for k, own in enumerate(self._families):
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
            if self.logs:
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
        by = self.by if by is None else _names(by, self.index.names, "by")
        own = replace(self, by=by)
        ratio = self._ratio
        blocks, rows, names, sizes, suits = [], [], [], [], "none"
        for at in own._families:
            labels, levels = own._labels(at)
            chosen = None if ref is None else _control(ref, levels, labels)
            family = contrast_family(method, labels, ref=chosen, ratio=ratio is not None)
            blocks.append(at)
            rows.append(family.K)
            names += [(*own._group(at), name) for name in family.names]
            sizes.append(len(at))
            suits = family.adjust
        if not names:
            raise ValueError(
                f"contrast {method!r} needs two means or more in a family, and every family of "
                f"{self.title!r} has one"
            )
        adjust = suits if adjust is None else adjust
        check_method(adjust)
        if adjust == "tukey" and method not in _PAIRS:
            raise ValueError(
                "adjust='tukey' is for all pairs of one set of means (method='pairwise'), got "
                f"method={method!r}: take 'mvt', 'sidak' or 'holm'"
            )
        K = np.vstack([_combined(C, self.K[at]) for C, at in zip(rows, blocks, strict=True)])
        offset = np.concatenate([C @ self.offset[at] for C, at in zip(rows, blocks, strict=True)])
        kind = method if isinstance(method, str) else "custom"
        name = "contrast" if "contrast" not in by else f"contrast{len(by)}"
        return replace(
            own,
            index=named_index(names, (*by, name)),
            K=K,
            offset=offset,
            title=f"Contrasts ({kind}) of {_lowered(self.title)}",
            scale="link" if ratio is None else self.scale,
            adjust=adjust,
            logs=ratio is not None,
            n_means=tuple(size for size, C in zip(sizes, rows, strict=True) if len(C)),
            remarks=(*self.remarks, *self._about_scale(ratio)),
        )

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
        for own, family in zip(self._families, self._judged(tests), strict=True):
            p[own] = adjusted_p_values(family, self.adjust)
        statistic = "z" if self.ddf == "asymptotic" else "t"
        columns = {"estimate": tests.estimate + self.offset, "std_error": tests.std_error,
                   "df": tests.df, statistic: tests.t, "p_value": p}  # fmt: skip
        return pd.DataFrame(columns, index=self.index)

    def _joint(self, null):
        keys, tests = [], []
        for own in self._families:
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
        if max(map(len, self._families)) < 2:
            return pd.Series("a", index=self.index, name="letters")
        pairs = self.contrast("pairwise", adjust=adjust)
        p, begin = pairs._frame["p_value"].to_numpy(), 0
        values = self._tests.estimate + self.offset
        for own in self._families:
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
        if adjust is not None:
            check_method(adjust)
            if adjust == "tukey" and self.adjust != "tukey":
                raise ValueError("adjust='tukey' is for pairs(): take 'mvt', 'sidak' or 'holm'")
        scale = self.scale if scale is None else check_scale(scale)
        return replace(self, level=level, adjust=adjust or self.adjust, scale=scale)

    # Names

    def _group(self, own):
        """The levels of ``by`` that a family has."""
        frame = self.index[own[:1]].to_frame(index=False)
        return tuple(frame[name].iloc[0] for name in self.by)

    def _labels(self, own):
        """(labels, levels) of rows within their family; numbers have the factor before them."""
        frame = self.index[own].to_frame(index=False).drop(columns=list(self.by))
        plain = {name: not looks_numeric(frame[name]) for name in frame}
        texts = [
            frame[name].map(lambda v, n=name: str(v) if plain[n] else f"{n}{_short(v)}").tolist()
            for name in frame
        ]
        levels = [row if len(row) > 1 else row[0] for row in frame.itertuples(False, None) if row]
        labels = [" ".join(parts) for parts in zip(*texts, strict=True)]
        return (labels, levels) if labels else (["mean"] * len(own), ["mean"] * len(own))

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
        return "\n\n".join([self.title, as_text(self._text), "\n".join(map(wrapped, self.notes))])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_html(self.title, self._text, self.notes)

    @property
    def _text(self):
        """The table with numbers as text: estimates and their limits with the same decimals."""
        table = self._frame.copy()
        decimals = common_decimals(table["std_error"], 4)
        for name in table.columns:
            if name in ("estimate", "std_error", "lower", "upper"):
                table[name] = column(table[name], 5, decimals, missing=".")
            elif name in ("df", "t", "z"):
                text = column(table[name], decimals=2, missing=".")
                table[name] = np.where(np.isinf(table[name]), "inf", text)
        return table

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences below the table: what was averaged, how it was tested."""
        p = f"Degrees of freedom: {_DDF[self.ddf]}. Confidence level: {self.level:g}."
        found = [*self.remarks, p]
        if self.adjust != "none":
            found.append(self._about_adjustment())
        if self.scale == "response" and self.distribution is not None:
            found.append(f"Tests are on the {self.distribution.link.name} scale.")
        lost = int((~self._estimable).sum())
        if lost:
            verb = "is" if lost == 1 else "are"
            found.append(
                f"{lost} of {len(self.index)} rows {verb} not estimable: combinations of levels "
                "without data leave them undetermined."
            )
        return (*found, *self.effects.notes(self.ddf))

    def _about_adjustment(self):
        sizes = sorted({len(own) for own in self._families})
        size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        text = f"p-values and limits: {self.adjust}, families of {size}"
        if self.adjust == "tukey":
            means = sorted({str(n) for n in self.n_means}, key=int)
            text += f" pairs of {' to '.join(means[:: max(len(means) - 1, 1)])} means"
        if self.adjust not in _OWN_LIMITS:
            text += " (limits: bonferroni)"
        return text + "."


_OWN_LIMITS = ("tukey", "dunnettx", "mvt", "scheffe", "bonferroni", "sidak")


def joint_table(effects, tests, index, ddf) -> NotedTable:
    """Table of F tests, of chi-square tests where they have no denominator.

    ``tests`` holds (K, rhs) for each row, of which the estimable part is tested.
    """
    rows, lost = [], []
    for name, (K, rhs) in zip(index, tests, strict=True):
        A = estimable_part(effects.fit, K)
        lost += [name] * (len(A) < len(K))
        rows.append(effects.joint_test(A @ K, ddf, rhs=A @ rhs))
    notes = effects.notes(ddf)
    if lost:
        names = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
        notes = (*notes, LOST_NOTE.format(names))
    if ddf == "asymptotic":
        found = [(t.df_num * t.F, t.df_num, t.p_value) for t in rows]
        return NotedTable.of(found, ["chi2", "df", "p_value"], index, notes)
    found = [(t.df_num, t.df_den, t.F, t.p_value) for t in rows]
    return NotedTable.of(found, ["num_df", "den_df", "F", "p_value"], index, notes)


def check_scale(scale):
    """``scale``, or an error if it is none."""
    if scale not in SCALES:
        raise ValueError(f"scale must be 'link' or 'response', got {scale!r}")
    return scale


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


def named_index(keys, names):
    """An Index of tuples; of one level each where there is one name."""
    if len(names) == 1:
        return pd.Index([key[0] for key in keys], name=names[0])
    return pd.MultiIndex.from_tuples(keys, names=names)


def _names(by, known, what):
    wanted = (by,) if isinstance(by, str) else tuple(by)
    for name in wanted:
        if name not in known:
            raise ValueError(f"{what} must be among {', '.join(map(str, known))}, got {name!r}")
    return wanted


def _control(ref, levels, labels):
    """Labels of the reference levels, which may be given as levels or as labels."""
    several = ref if isinstance(ref, list) else [ref]
    found = [labels[levels.index(own)] if own in levels else own for own in several]
    return found


def _short(value):
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _lowered(title):
    return title[:1].lower() + title[1:]
