"""Prediction intervals of rows, one panel per level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.plotting._panels import choose_group, level_panels, response_name
from skmixed.plotting._rows import (
    as_pandas,
    covariate,
    is_curve,
    is_linear,
    levels_of,
    limits_of_rows,
    named_response,
    opens_pipelines,
    response_of,
)
from skmixed.plotting._style import (
    LABEL,
    MIXED,
    PANEL,
    SMALL,
    WITHIN,
    accent,
    caption,
    data_ink,
    legend_below,
    plain,
)

# Rows of a panel that can be told apart.
_ROWS = 60
_WORDS = {"mean": "the mean", "observation": "a new observation"}


class PredictionIntervalDisplay:
    """Rows of every level with their predictions and intervals.

    The interval of a row is that of ``predict_interval``: for a new observation in that row, or
    for its mean. Rows of levels that the fit did not have get the wide intervals that belong to
    them. Where intervals are for observations the title of a panel counts the rows inside, and
    rows outside are drawn in another colour. Of more than 60 rows of a level an even selection
    along x is drawn.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    frame : DataFrame with columns level, x, prediction, lower, upper and y
        One row for every row of the data; y is NaN where it is not known.
    coverage : float
        Nominal coverage of the intervals.
    kind : {"observation", "mean"}
    x, response, group : str
        Names, for the labels.
    levels : list, optional
        Levels with a panel, in this order; all by default.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per level; ``ax_`` is the first.
    lines_ : list of LineCollection
        The intervals, one collection per panel.
    inside_ : float
        Share of the rows of the frame, shown or not, that are inside; NaN for means.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.plotting import PredictionIntervalDisplay
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> display = PredictionIntervalDisplay.from_estimator(model, df)
    >>> round(display.inside_, 3)
    0.978
    """

    def __init__(self, frame, *, coverage=0.95, kind="observation", x, response, group,
                 levels=None):  # fmt: skip
        self.frame = frame
        self.coverage = coverage
        self.kind = kind
        self.x = x
        self.response = response
        self.group = group
        self.levels = levels

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, X, y=None, *, x=None, group=None, levels=None, max_panels=12, kind=None,
        level=0.95, groups=None, random_effects=True, ax=None, **kwargs,
    ):  # fmt: skip
        """Plot the intervals of rows.

        Parameters
        ----------
        estimator : fitted mixed model
        X : DataFrame of n rows
            Those of the fit or new ones, of levels known or not.
        y : (n,), optional
            Their response. Without it, and where X has no column that the formula names, there
            are intervals alone.
        x : str, optional
            Numeric column along the axis; by default the first that is an effect of the model.
        group : str, optional
            Grouping factor or column of X with a panel per level; the first factor by default.
        levels : list, optional
            Levels to show; by default all, or an even selection in the order of their mean
            predictions where there are more than ``max_panels``.
        max_panels : int, default 12
        kind : {"observation", "mean"}, optional
            As for ``predict_interval``; observations of linear and nonlinear models by default,
            means of generalised ones.
        level : float, default 0.95
            Coverage of the intervals.
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        random_effects : bool or list of str, default True
            As for ``predict``.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        PredictionIntervalDisplay
        """
        X = as_pandas(X, cls.__name__)
        group = group if group in X else choose_group(estimator, group)
        kind = kind or ("observation" if _is_normal(estimator) else "mean")
        options = {"groups": groups, "random_effects": random_effects}
        prediction, lower, upper = limits_of_rows(estimator, X, level, kind, options)
        x = covariate(estimator, X, x)
        frame = pd.DataFrame(
            {"level": levels_of(estimator, X, group, groups), "x": X[x].to_numpy(),
             "prediction": prediction, "lower": lower, "upper": upper,
             "y": _known_response(estimator, X, y)}
        )  # fmt: skip
        display = cls(
            frame.dropna(subset=["level", "prediction"]), coverage=level, kind=kind, x=x,
            response=response_name(estimator, y), group=group,
        )  # fmt: skip
        display.levels = display._chosen(levels, max_panels)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, columns=None, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        columns : int, optional
            Panels side by side.
        color : color
            Of the intervals and predictions.

        Returns
        -------
        self
        """
        levels = self._chosen(self.levels, None)
        self.inside_ = self._inside(self.frame)
        axes = level_panels(
            self, ax, len(levels), columns, lambda c, r: (1.0 + 1.8 * c, 1.6 + 1.6 * r)
        )
        self.lines_ = [
            self._draw(panel, level, color) for panel, level in zip(self.axes_, levels, strict=True)
        ]
        self._label(axes, len(levels), ax)
        return self

    def _chosen(self, levels, most):
        """The levels asked for, or an even selection in the order of their mean predictions."""
        means = self.frame.groupby("level", sort=False)["prediction"].mean().sort_values()
        if levels is not None:
            by_text = {str(level): level for level in means.index}
            unknown = [level for level in levels if str(level) not in by_text]
            if unknown:
                raise ValueError(f"X has no rows of the levels {unknown} of {self.group!r}")
            return [by_text[str(level)] for level in levels]
        most = len(means) if most is None else min(most, len(means))
        return list(means.index[np.linspace(0, len(means) - 1, most).round().astype(int)])

    def _is_inside(self, rows):
        return (rows["y"] >= rows["lower"]) & (rows["y"] <= rows["upper"])

    def _inside(self, rows):
        """Share of rows inside their intervals, NaN where that says nothing."""
        known = rows[rows["y"].notna()]
        if self.kind == "mean" or known.empty:
            return float("nan")
        return float(self._is_inside(known).mean())

    def _draw(self, panel, level, color):
        every = self.frame[self.frame["level"] == level].sort_values("x", kind="stable")
        rows = every.iloc[np.unique(np.linspace(0, len(every) - 1, _ROWS).astype(int))]
        color = accent(panel, color)
        wide = 4 if len(rows) <= 30 else 1.5
        lines = panel.vlines(rows["x"], rows["lower"], rows["upper"], color=color, alpha=0.35,
                             linewidth=wide, label="interval")  # fmt: skip
        panel.plot(rows["x"], rows["prediction"], "_", color=color, markersize=wide + 4,
                   label="prediction")  # fmt: skip
        observed = self.kind == "observation"
        out = ~self._is_inside(rows) & rows["y"].notna() & observed
        for own, tone, name in (
            (~out, data_ink(panel), "observed"), (out, WITHIN, "outside"),
        ):  # fmt: skip
            panel.plot(rows["x"][own], rows["y"][own], "o", color=tone, markersize=3.5,
                       markeredgewidth=0, label=name)  # fmt: skip
        known = every[every["y"].notna()]
        count = f": {self._is_inside(known).sum()} of {len(known)}"
        title = plain(level, PANEL - len(count)) + (count if observed and len(known) else "")
        panel.set_title(title, fontsize=LABEL, pad=3)
        panel.tick_params(labelsize=SMALL)
        return lines

    def _label(self, axes, n, ax):
        """Names of the axes, title and legend, once for the whole figure."""
        rows, columns = axes.shape
        total = self.frame["level"].nunique()
        shown = f" ({n} of {total:,})" if n < total else ""
        for place in range(max(n - columns, 0), n):
            axes.ravel()[place].tick_params(labelbottom=True)
        axes[-1, 0].set_xlabel(
            plain(f"{self.x}; one panel per {self.group}{shown}"), fontsize=LABEL, loc="left"
        )
        axes[rows // 2 if rows > 2 else 0, 0].set_ylabel(plain(self.response), fontsize=LABEL)
        inside = "" if np.isnan(self.inside_) else f": {100 * self.inside_:.1f} % of rows inside"
        caption(self, ax, f"{100 * self.coverage:g} % intervals for {_WORDS[self.kind]}{inside}")
        lines, names = self.ax_.get_legend_handles_labels()
        known = self.frame["y"].notna().any()
        kept = [k for k, name in enumerate(names) if known or name not in ("observed", "outside")]
        kept = [k for k in kept if names[k] != "outside" or self.kind == "observation"]
        legend_below(self.figure_, self.ax_, [lines[k] for k in kept], [names[k] for k in kept])


def _is_normal(estimator):
    return is_linear(estimator) or is_curve(estimator)


def _known_response(estimator, X, y):
    """The response (n,) where there is one, else NaN."""
    named = named_response(estimator)
    if y is None and (named is None or not _has_response(estimator, X)):
        return np.full(len(X), np.nan)
    return response_of(estimator, X, y)


def _has_response(estimator, X):
    """Whether X has all columns of the response that the formula names."""
    columns = getattr(estimator.design_spec_, "response_columns", ())
    return all(name in X for name in columns or (named_response(estimator),))
