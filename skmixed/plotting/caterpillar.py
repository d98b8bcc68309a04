"""Conditional modes with intervals, in order."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from skmixed.plotting._panels import (
    MAX_LABELS,
    MIXED,
    choose_effects,
    choose_group,
    effect_label,
    effect_units,
    level_ticks,
    panels,
)


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
        n_levels, n_effects = self.modes.shape
        size = (1.2 + 3.4 * n_effects, float(np.clip(1.2 + 0.22 * n_levels, 2.4, 9)))
        self.figure_, axes = panels(ax, (1, n_effects), size)
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        self.lines_ = [
            self._draw(panel, effect, color)
            for panel, effect in zip(self.axes_, self.modes, strict=True)
        ]
        level_ticks(self.ax_, self.modes.index, self.modes.index.name)
        for panel in self.axes_[1:]:
            panel.set_yticks(self.ax_.get_yticks(), labels=[])
        return self

    def _draw(self, panel, effect, color):
        modes, std = self.modes[effect].to_numpy(), self.std[effect].to_numpy()
        rows = np.arange(len(modes))
        half = norm.ppf(0.5 + self.level / 2) * std
        many = len(modes) > MAX_LABELS
        panel.axvline(0, color="black", linewidth=0.8, zorder=0)
        lines = panel.hlines(
            rows, modes - half, modes + half, color=color, linewidth=0.6 if many else 1.5,
            alpha=0.5 if many else 1.0,
        )  # fmt: skip
        panel.plot(modes, rows, ".", color="black" if many else color, markersize=1 if many else 7)
        panel.set_ylim(-0.8, len(modes) - 0.2)
        panel.set_xlabel(effect_label(effect, self.units))
        return lines
