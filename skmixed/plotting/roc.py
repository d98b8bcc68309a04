"""ROC curves level by level."""

from __future__ import annotations

import numpy as np

from skmixed.plotting._events import auc, auc_by_level, event_rows, roc_curve
from skmixed.plotting._panels import panels, response_name
from skmixed.plotting._rows import opens_pipelines
from skmixed.plotting._style import (
    MIXED,
    POPULATION,
    accent,
    caption,
    data_ink,
    legend_below,
    plain,
)

# More curves than this hide one another.
_CURVES = 30


class GroupRocDisplay:
    """ROC curves of all rows and of every level of a grouping factor, and their areas.

    The area under a curve (AUC) is the share of pairs of an event and a non-event in which the
    event has the larger probability. Over all rows most pairs are of two levels, which random
    effects tell apart; within a level only covariates that vary there can. A large difference
    says that the model knows groups rather than rows.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    rows : DataFrame with columns level, p and y
        Level, predicted probability, and 1 for an event or 0.
    levels : DataFrame by level with columns auc, n and events
        Sorted by auc; NaN for levels with one class alone.
    group, response : str
        Names, for the labels.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes, two
        Curves and areas; ``ax_`` is the first.
    lines_ : list of Line2D
        The curve of all rows, then those of levels: an even selection of more than 30.
    auc_ : float
        Area of all rows.
    within_auc_ : float
        Mean of the areas of levels, weighted by their pairs of an event and a non-event: the share
        of pairs of rows of one level that are in order.

    Examples
    --------
    >>> from skmixed import MixedLogisticClassifier
    >>> from skmixed.datasets import load_verbagg
    >>> from skmixed.plotting import GroupRocDisplay
    >>> df = load_verbagg().frame
    >>> model = MixedLogisticClassifier("r2 ~ Anger + (1 | item)").fit(df)
    >>> display = GroupRocDisplay.from_estimator(model, df)
    >>> round(display.auc_, 2), round(display.within_auc_, 2)
    (0.72, 0.56)
    """

    def __init__(self, rows, levels, *, group, response):
        self.rows = rows
        self.levels = levels
        self.group = group
        self.response = response

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, X, y=None, *, group=None, random_effects=True, ax=None, **kwargs
    ):
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
        random_effects : bool or list of str, default True
            Of the predictions, as for ``predict``.
        ax : Axes or array of two Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        GroupRocDisplay

        Raises
        ------
        ValueError
            For outcomes that are not of two classes, or all of one.
        """
        rows, group = event_rows(estimator, X, y, group, random_effects, cls.__name__)
        if rows["y"].nunique() < 2:
            raise ValueError("a ROC curve needs outcomes of both classes: all of them are the same")
        display = cls(rows, auc_by_level(rows), group=group, response=response_name(estimator, y))
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of two Axes, optional
        color : color
            Of the curve of all rows.

        Returns
        -------
        self
        """
        p, y = self.rows["p"].to_numpy(), self.rows["y"].to_numpy()
        known = self.levels.dropna(subset="auc")
        pairs = known["events"] * (known["n"] - known["events"])
        self.auc_ = auc(p, y)
        self.within_auc_ = (
            float((known["auc"] * pairs).sum() / pairs.sum()) if len(known) else np.nan
        )
        self.figure_, axes = panels(ax, (1, 2), (8.6, 4.4))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        self._draw_curves(self.axes_[0], known, color)
        self._draw_areas(self.axes_[1], known, color)
        caption(self, ax, f"ROC curves of {self.response} by {self.group}")
        legend_below(self.figure_, self.ax_, *self.ax_.get_legend_handles_labels())
        return self

    def _draw_curves(self, panel, known, color):
        panel.plot([0, 1], [0, 1], "--", color=data_ink(panel), linewidth=0.8, label="chance")
        (own,) = panel.plot(
            *roc_curve(self.rows["p"].to_numpy(), self.rows["y"].to_numpy()), zorder=3,
            color=accent(panel, color), linewidth=2.2, label=f"all rows, AUC {self.auc_:.3f}",
        )  # fmt: skip
        self.lines_ = [own]
        places = (
            np.unique(np.linspace(0, len(known) - 1, _CURVES).astype(int)) if len(known) else []
        )
        by_level = dict(list(self.rows.groupby("level", sort=False)))
        label = f"levels, AUC within {self.within_auc_:.3f}"
        for level in known.index[places]:
            rows = by_level[level]
            self.lines_ += panel.plot(
                *roc_curve(rows["p"].to_numpy(), rows["y"].to_numpy()), color=POPULATION,
                linewidth=0.7, alpha=0.5 if len(known) > 10 else 1.0, label=label,
            )  # fmt: skip
            label = None
        panel.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01),
                  ylim=(-0.01, 1.01))  # fmt: skip
        panel.set_aspect("equal")

    def _draw_areas(self, panel, known, color):
        sizes = known["n"] / max(known["n"].max(), 1) if len(known) else known["n"]
        small = 1.0 if len(known) <= 60 else 0.3
        panel.scatter(known["auc"], np.arange(len(known)), s=small * (4 + 26 * sizes),
                      color=POPULATION, linewidth=0)  # fmt: skip
        panel.axvline(self.auc_, color=accent(panel, color), linewidth=1.5)
        panel.axvline(0.5, color=data_ink(panel), linewidth=0.8, linestyle="--")
        left_out = len(self.levels) - len(known)
        words = f"; {left_out:,} have one class alone" if left_out else ""
        panel.set_title(plain(f"{len(known):,} levels of {self.group}{words}"), fontsize=10)
        panel.set_xlabel("AUC of the level (large points: many rows)")
        panel.set_yticks([])
        panel.set_ylabel("levels in order")
