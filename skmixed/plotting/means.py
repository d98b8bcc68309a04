"""Marginal means with intervals, and letters that say which of them differ."""

from __future__ import annotations

import pandas as pd

from skmixed.inference import emmeans
from skmixed.plotting._panels import (
    draw_intervals,
    effect_units,
    interval_height,
    panels,
    response_name,
)
from skmixed.plotting._rows import opens_pipelines
from skmixed.plotting._style import MIXED, plain


class MarginalMeansDisplay:
    """Marginal means, trends or contrasts with their confidence intervals.

    One panel for every family (``by``). Means that share a letter do not differ significantly;
    intervals may overlap and the means differ all the same, since the error of a difference is
    not the sum of two errors.

    It is recommended to use :meth:`from_estimator` or :meth:`from_means`.

    Parameters
    ----------
    frame : DataFrame
        With estimate, lower and upper; the first row at the top.
    by : sequence of str
        Levels of its index that make panels.
    letters : Series, optional
        Beside the intervals.
    label : str
        Of the axis of estimates.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per family; ``ax_`` is the first.
    lines_ : list of LineCollection
        The intervals, one collection per family.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_machines
    >>> from skmixed.plotting import MarginalMeansDisplay
    >>> df = load_machines().frame
    >>> model = MixedLinearRegressor("score ~ Machine + (0 + Machine | Worker)").fit(df)
    >>> display = MarginalMeansDisplay.from_estimator(model, "Machine")
    >>> [text.get_text() for text in display.ax_.texts]
    ['a', 'b', 'b']
    """

    def __init__(self, frame, *, by=(), letters=None, label="estimate"):
        self.frame = frame
        self.by = by
        self.letters = letters
        self.label = label

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, specs, by=None, *, letters=True, alpha=0.05, adjust=None, ax=None,
        color=MIXED, **options,
    ):  # fmt: skip
        """Plot marginal means of a fitted model.

        Parameters
        ----------
        estimator : fitted model
        specs, by
            As for :func:`skmixed.inference.emmeans`.
        letters, alpha, adjust, ax, color
            As for :meth:`from_means`.
        **options
            Passed to :func:`skmixed.inference.emmeans`: ``at``, ``weights``, ``ddf``, ``level``,
            ``scale``, ``data``.

        Returns
        -------
        MarginalMeansDisplay
        """
        means = emmeans(estimator, specs, by, **options)
        units = effect_units(estimator) if means.scale == "link" else response_name(estimator)
        return cls.from_means(
            means, letters=letters, alpha=alpha, adjust=adjust, ax=ax, color=color,
            label=f"marginal mean  ({units})",
        )  # fmt: skip

    @classmethod
    def from_means(
        cls, means, *, letters=True, alpha=0.05, adjust=None, label="estimate", ax=None,
        color=MIXED,
    ):  # fmt: skip
        """Plot what :func:`~skmixed.inference.emmeans` or ``emtrends`` returned, or contrasts.

        Parameters
        ----------
        means : MarginalMeans
        letters : bool
            Write letters of the pairwise comparisons beside the intervals.
        alpha : float
            Level at which letters differ.
        adjust : str, optional
            Adjustment of the comparisons, ``tukey`` by default.
        label : str
            Of the axis of estimates.
        ax : Axes or array of Axes, optional
        color : color

        Returns
        -------
        MarginalMeansDisplay
        """
        found = means.letters(alpha, adjust=adjust) if letters else None
        display = cls(means.frame, by=means.by, letters=found, label=label)
        return display.plot(ax=ax, color=color)

    def plot(self, ax=None, *, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        color : color
            Of the intervals and points.

        Returns
        -------
        self
        """
        parts = self._parts()
        rows = max(len(frame) for _, frame, _ in parts)
        columns = min(len(parts), 3)
        shape = (-(-len(parts) // columns), columns)
        size = (1.2 + 2.9 * columns, shape[0] * interval_height(rows))
        self.figure_, axes = panels(ax, shape, size, sharex=True, sharey=True)
        for spare in axes.ravel()[len(parts) :]:
            spare.set_axis_off()
        self.axes_ = axes.ravel()[: len(parts)]
        self.ax_ = self.axes_[0]
        self.lines_ = [
            self._draw(panel, *part, color) for panel, part in zip(self.axes_, parts, strict=True)
        ]
        for k, panel in enumerate(self.axes_):
            if k + columns >= len(parts):
                panel.set_xlabel(plain(self.label))
                panel.tick_params(labelbottom=True)
        return self

    def _parts(self):
        """(title, frame, letters) of every family, its own levels as labels."""
        letters = pd.Series("", self.frame.index) if self.letters is None else self.letters
        if not self.by:
            return [("", self._labelled(self.frame), letters)]
        found = []
        keys = self.frame.index.to_frame(index=False)[list(self.by)]
        for levels in dict.fromkeys(keys.itertuples(index=False, name=None)):
            own = (keys == list(levels)).all(axis=1).to_numpy()
            title = ", ".join(f"{n} = {v}" for n, v in zip(self.by, levels, strict=True))
            found.append((title, self._labelled(self.frame[own]), letters[own]))
        return found

    def _labelled(self, frame):
        names = frame.index.to_frame(index=False).drop(columns=list(self.by))
        labels = names.astype(str).agg(" ".join, axis=1) if len(names.columns) else ["mean"]
        return frame.set_axis(pd.Index(list(labels), name=", ".join(map(str, names.columns))))

    def _draw(self, panel, title, frame, letters, color):
        lines = draw_intervals(panel, frame, frame.index, color)
        for row, text in zip(range(len(frame))[::-1], letters, strict=True):
            panel.text(1.02, row, text, transform=panel.get_yaxis_transform(), va="center",
                       fontsize=9)  # fmt: skip
        panel.set_title(plain(title), fontsize=10)
        if panel is self.ax_:
            panel.set_ylabel(plain(frame.index.name))
        return lines
