"""Conditional modes with intervals, in order."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from skmixed.plotting._labels import spread
from skmixed.plotting._panels import (
    MAX_LABELS,
    choose_effects,
    choose_group,
    effect_label,
    effect_units,
    level_ticks,
    panels,
)
from skmixed.plotting._rows import opens_pipelines
from skmixed.plotting._style import (
    MIXED,
    PANEL,
    SMALL,
    accent,
    caption,
    data_ink,
    ink,
    plain,
    to_pale,
    zero_line,
)

# Names at either end where not all levels have one; height in inches of such a figure.
_EXTREMES, _TALL = 4, 6.0


class CaterpillarDisplay:
    """Conditional modes of the levels of a grouping factor with their prediction intervals.

    One panel per effect. The interval of level l is b_l +- z sd_l, with the conditional standard
    deviation given theta and the fixed effects; an interval that does not hold 0 marks a level
    that differs from the average one.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    modes, std : DataFrame of shape (levels, effects)
        Conditional modes and standard deviations, the first level at the bottom.
    level : float
        Coverage of the intervals.
    units : str
        Units of the effects, for the labels.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per effect; ``ax_`` is the first.
    lines_ : list of LineCollection
        The intervals, one collection per effect.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.plotting import CaterpillarDisplay
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> display = CaterpillarDisplay.from_estimator(model)
    >>> [str(ax.get_xlabel()) for ax in display.axes_]
    ['Intercept  (Reaction)', 'Days  (Reaction per unit)']
    """

    def __init__(self, modes, std, *, level=0.95, units="response"):
        self.modes = modes
        self.std = std
        self.level = level
        self.units = units

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, *, group=None, effects=None, sort_by=None, level=0.95, ax=None, **kwargs
    ):
        """Plot the conditional modes of a fitted mixed model.

        Parameters
        ----------
        estimator : fitted mixed model
        group : str, optional
            Grouping factor; the first of the model by default.
        effects : str or list of str, optional
            Effects to show; all by default.
        sort_by : str, optional
            Effect that orders the levels; the first by default.
        level : float, default 0.95
            Coverage of the intervals.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        CaterpillarDisplay
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        group = choose_group(estimator, group)
        modes = estimator.random_effects_[group]
        effects = choose_effects(modes.columns, effects)
        (order,) = choose_effects(modes.columns, effects[0] if sort_by is None else sort_by)
        place = np.argsort(modes[order].to_numpy(), kind="stable")
        modes = modes[effects].iloc[place]
        std = estimator.random_effects_std_[group][effects].iloc[place]
        display = cls(modes, std, level=level, units=effect_units(estimator))
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, color=MIXED, extremes=None):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        color : color
            Of the intervals and points; intervals that hold 0 are pale.
        extremes : int, optional
            How many of the lowest and of the highest levels have their name beside them; by
            default 4 where there are more than 40 levels, which have no axis of names then.

        Returns
        -------
        self
        """
        n_levels, n_effects = self.modes.shape
        height = np.clip(1.4 + 0.22 * n_levels, 2.6, 9) if n_levels <= MAX_LABELS else _TALL
        self.figure_, axes = panels(ax, (1, n_effects), (1.2 + 3.4 * n_effects, float(height)))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        if extremes is None:
            extremes = _EXTREMES if n_levels > MAX_LABELS else 0
        self.lines_ = [
            self._draw(panel, effect, color, extremes)
            for panel, effect in zip(self.axes_, self.modes, strict=True)
        ]
        level_ticks(self.ax_, self.modes.index, self.modes.index.name)
        for panel in self.axes_[1:]:
            panel.set_yticks(self.ax_.get_yticks(), labels=[])
        what = f"Effects of {self.modes.index.name} with {100 * self.level:g} % intervals"
        caption(self, ax, what)
        return self

    def _draw(self, panel, effect, color, extremes):
        color = accent(panel, color)
        modes, std = self.modes[effect].to_numpy(), self.std[effect].to_numpy()
        rows = np.arange(len(modes))
        half = norm.ppf(0.5 + self.level / 2) * std
        many = len(modes) > MAX_LABELS
        apart = np.abs(modes) > half
        zero_line(panel)
        lines = panel.hlines(
            rows, modes - half, modes + half, linewidth=0.8 if many else 1.8,
            colors=np.where(apart[:, None], to_pale(panel, color, True), to_pale(panel, color)),
        )  # fmt: skip
        panel.plot(modes, rows, "o", color=ink(panel) if many else color,
                   markersize=_point_size(len(modes)), markeredgewidth=0)  # fmt: skip
        panel.set_ylim(-0.8, len(modes) - 0.2)
        panel.set_xlabel(effect_label(effect, self.units))
        if extremes:
            _name_extremes(panel, self.modes.index, modes, half, extremes)
        return lines


def _point_size(n):
    return 4 if n <= MAX_LABELS else 2.2 if n <= 500 else 1.2


def _name_extremes(panel, names, modes, half, n):
    """Names of the lowest levels at the left of their intervals, of the highest at the right."""
    order = np.argsort(modes, kind="stable")
    n = min(n, len(modes) // 2)
    height = panel.figure.get_figheight() * panel.get_position().height
    gap = SMALL * 1.3 / 72 / height * len(modes)
    for found, side in ((order[:n], -1), (order[len(order) - n :], 1)):
        found = np.sort(found)
        places = spread(found, gap, 0.5 * gap, len(modes) - 0.5 * gap)
        end = (modes + side * half)[found]
        edge = end.max() if side > 0 else end.min()
        for level, at, own, place in zip(found, end, found, places, strict=True):
            panel.annotate(
                plain(names[level], PANEL), (at, own), xytext=(edge, place), va="center",
                ha="left" if side > 0 else "right", fontsize=SMALL, color=ink(panel),
                arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": data_ink(panel)},
            )  # fmt: skip
    widest = 0.62 * SMALL / 72 * max(len(plain(names[k], PANEL)) for k in (*order[:n], *order[-n:]))
    width = panel.figure.get_figwidth() * panel.get_position().width
    panel.margins(x=0.05 + min(widest / width, 0.3))
