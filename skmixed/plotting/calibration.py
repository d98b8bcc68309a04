"""Whether predicted probabilities are met, over all rows and level by level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.plotting._bins import binned_shares, equal_parts, wilson_limits
from skmixed.plotting._events import event_rows
from skmixed.plotting._labels import name_points
from skmixed.plotting._panels import MAX_LABELS, panels, response_name
from skmixed.plotting._rows import opens_pipelines
from skmixed.plotting._style import MIXED, WITHIN, accent, caption, data_ink, legend_below, plain


class GroupCalibrationDisplay:
    """Observed shares of events against predicted probabilities, in bins and by level.

    On the left rows are binned by their predicted probability; on the right there is one point for
    every level of a grouping factor, the mean prediction of its rows against their share of events.
    Intervals are Wilson's. Points on the diagonal are well calibrated; levels whose interval
    misses it are drawn in another colour, and one in twenty does by chance.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    bins : DataFrame with columns x, mean, lower, upper and n
        Mean prediction, share of events with limits, and rows of every bin.
    levels : DataFrame by level with the same columns
    group, response : str
        Names, for the labels.
    level : float
        Coverage of the intervals.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes, two
        ``ax_`` is the first.
    lines_ : list of Line2D
        Points on and off the diagonal of the bins, then of the levels.

    Examples
    --------
    >>> from skmixed import MixedLogisticClassifier
    >>> from skmixed.datasets import load_verbagg
    >>> from skmixed.plotting import GroupCalibrationDisplay
    >>> df = load_verbagg().frame
    >>> model = MixedLogisticClassifier("r2 ~ Anger + btype + (1 | item)").fit(df)
    >>> display = GroupCalibrationDisplay.from_estimator(model, df)
    >>> len(display.bins), len(display.levels)
    (10, 24)
    """

    def __init__(self, bins, levels, *, group, response, level=0.95):
        self.bins = bins
        self.levels = levels
        self.group = group
        self.response = response
        self.level = level

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, X, y=None, *, group=None, n_bins=10, random_effects=True, level=0.95,
        ax=None, **kwargs,
    ):  # fmt: skip
        """Compare the probabilities of a fitted model with the outcomes of rows.

        Parameters
        ----------
        estimator : fitted MixedLogisticClassifier, or MixedGLMRegressor of a binomial family
        X : DataFrame of n rows
            Better rows that the fit has not seen than its own.
        y : (n,), optional
            Their outcomes, for a model whose formula does not name them.
        group : str, optional
            Grouping factor, or a column of X; the first factor by default.
        n_bins : int, default 10
            Bins of about as many rows each.
        random_effects : bool or list of str, default True
            Of the predictions, as for ``predict``.
        level : float, default 0.95
            Coverage of the intervals.
        ax : Axes or array of two Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        GroupCalibrationDisplay

        Raises
        ------
        ValueError
            For outcomes that are not of two classes.
        """
        rows, group = event_rows(estimator, X, y, group, random_effects, cls.__name__)
        p, outcome, ones = rows["p"].to_numpy(), rows["y"].to_numpy(), np.ones(len(rows))
        bins = binned_shares(p, outcome, ones, equal_parts(p, n_bins), level=level)
        by_level = rows.groupby("level", sort=False)
        levels = pd.DataFrame(
            {"x": by_level["p"].mean(), "mean": by_level["y"].mean(), "n": by_level.size()}
        )
        levels["lower"], levels["upper"] = wilson_limits(levels["mean"], levels["n"], level)
        display = cls(
            bins, levels[list(bins)], group=group, response=response_name(estimator, y), level=level
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, labels=None, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of two Axes, optional
        labels : bool, optional
            Write the names of levels beside them; by default of those that miss the diagonal,
            where there are up to 40 levels.
        color : color

        Returns
        -------
        self
        """
        self.figure_, axes = panels(ax, (1, 2), (8.6, 4.4), sharex=True, sharey=True)
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        left, right = self.axes_
        missed = self._misses(self.levels).to_numpy()
        titles = f"{len(self.bins)} bins of rows", f"{len(self.levels):,} levels of {self.group}"
        self.lines_ = [
            *self._draw(left, self.bins, color, titles[0]),
            *self._draw(right, self.levels, color, titles[1]),
        ]
        left.set_ylabel(plain(f"share of {self.response}"))
        caption(self, ax, f"Calibration with {100 * self.level:g} % intervals")
        lines, names = right.get_legend_handles_labels()
        legend_below(self.figure_, right, lines, names)
        if labels if labels is not None else len(self.levels) <= MAX_LABELS:
            shown = self.levels[missed] if labels is None else self.levels
            name_points(right, shown["x"], shown["mean"], shown.index)
        return self

    def _misses(self, table):
        return (table["lower"] > table["x"]) | (table["upper"] < table["x"])

    def _draw(self, panel, table, color, title):
        many = len(table) > MAX_LABELS
        panel.plot([0, 1], [0, 1], "--", color=data_ink(panel), linewidth=0.8, label="calibrated")
        missed = self._misses(table).to_numpy()
        found = []
        for own, tone, name in (
            (~missed, accent(panel, color), "interval holds the diagonal"),
            (missed, WITHIN, "interval misses it"),
        ):
            rows = table[own]
            panel.vlines(rows["x"], rows["lower"], rows["upper"], color=tone,
                         linewidth=0.5 if many else 1.2, alpha=0.25 if many else 0.7)  # fmt: skip
            found += panel.plot(
                rows["x"], rows["mean"], "o", color=tone, markersize=2 if many else 4.5,
                markeredgewidth=0, label=name,
            )  # fmt: skip
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean predicted probability")
        panel.set_title(plain(f"{title}: {missed.sum():,} miss the diagonal"), fontsize=10)
        panel.set_aspect("equal")
        return found
