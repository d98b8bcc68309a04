"""Conditional modes of one effect against those of another."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from skmixed.plotting._labels import name_points
from skmixed.plotting._panels import (
    MAX_LABELS,
    choose_effects,
    choose_group,
    effect_label,
    effect_units,
    panels,
)
from skmixed.plotting._rows import opens_pipelines
from skmixed.plotting._style import MIXED, accent, caption, data_ink, zero_line

# Effects of which all pairs can be looked at.
MAX_EFFECTS = 12


class RandomEffectsDisplay:
    """Scatter plots of the conditional modes of a grouping factor, effect against effect.

    The ellipses hold the given share of a normal distribution with the estimated covariance of
    the effects. Conditional modes are shrunk towards 0, so more of them lie inside.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    modes : DataFrame of shape (levels, effects)
    covariance : DataFrame of shape (effects, effects)
    units : str
        Units of the effects, for the labels.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes of shape (effects - 1, effects - 1)
        The panels below the diagonal; ``ax_`` is the first.
    lines_ : list of Line2D
        The points, one entry per panel.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_machines
    >>> from skmixed.plotting import RandomEffectsDisplay
    >>> df = load_machines().frame
    >>> model = MixedLinearRegressor("score ~ Machine + (0 + Machine | Worker)").fit(df)
    >>> display = RandomEffectsDisplay.from_estimator(model)
    >>> display.axes_.shape, len(display.lines_)
    ((2, 2), 3)
    """

    def __init__(self, modes, covariance, *, units="response"):
        self.modes = modes
        self.covariance = covariance
        self.units = units

    @classmethod
    @opens_pipelines
    def from_estimator(cls, estimator, *, group=None, effects=None, ax=None, **kwargs):
        """Plot the conditional modes of a fitted mixed model.

        Parameters
        ----------
        estimator : fitted mixed model
        group : str, optional
            Grouping factor with two effects or more; the first of these by default.
        effects : list of str, optional
            Effects to show; all by default.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        RandomEffectsDisplay
        """
        choose_group(estimator, group)
        tables = estimator.random_effects_
        if group is None:
            group = max(tables, key=lambda name: tables[name].shape[1] > 1)
        effects = choose_effects(tables[group].columns, effects)
        if len(effects) > MAX_EFFECTS:
            raise ValueError(
                f"RandomEffectsDisplay has a panel for every pair of effects, and {group!r} has "
                f"{len(effects)} effects: name some of them, effects={list(effects[:3])}"
            )
        if len(effects) < 2:
            raise ValueError(
                f"{group!r} has one effect, {effects[0]!r}: there is nothing to plot it against. "
                "CaterpillarDisplay and NormalQuantileDisplay show a single effect"
            )
        covariance = estimator.covariances_[group].loc[effects, effects]
        display = cls(tables[group][effects], covariance, units=effect_units(estimator))
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, coverage=(0.5, 0.95), labels=None, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        coverage : sequence of float
            Shares of the distribution that the ellipses hold.
        labels : bool, optional
            Write the level beside each point; by default for up to 40 levels in one panel.
        color : color

        Returns
        -------
        self
        """
        effects, n = list(self.modes), self.modes.shape[1] - 1
        labels = n == 1 and len(self.modes) <= MAX_LABELS if labels is None else labels
        self.figure_, self.axes_ = panels(ax, (n, n), (2.2 + 2.6 * n, 1.9 + 2.6 * n))
        self.ax_ = self.axes_[0, 0]
        self.lines_, named = [], []
        for i, j in np.ndindex(n, n):
            panel = self.axes_[i, j]
            if j > i:
                panel.set_axis_off()
                continue
            self.lines_.append(self._draw(panel, effects[j], effects[i + 1], coverage, color))
            if labels:
                named.append((panel, effects[j], effects[i + 1]))
            if i == n - 1:
                panel.set_xlabel(effect_label(effects[j], self.units))
            if j == 0:
                panel.set_ylabel(effect_label(effects[i + 1], self.units))
        caption(self, ax, f"Effects of {self.modes.index.name}")
        for panel, across, up in named:  # when all else has its place
            name_points(panel, self.modes[across], self.modes[up], self.modes.index)
        return self

    def _draw(self, panel, across, up, coverage, color):
        color = accent(panel, color)
        x, y = self.modes[across].to_numpy(), self.modes[up].to_numpy()
        zero_line(panel, across=True, strong=False)
        zero_line(panel, strong=False)
        for share in coverage:
            panel.plot(
                *self._ellipse(across, up, share), color=data_ink(panel), linewidth=0.8, zorder=1
            )
        size, alpha = (6, 1.0) if len(x) <= 200 else (3, 0.7) if len(x) <= 1000 else (2, 0.35)
        (points,) = panel.plot(
            x, y, "o", color=color, markersize=size, alpha=alpha, markeredgewidth=0
        )
        return points

    def _ellipse(self, across, up, share):
        """Points (2, 200) of the contour that holds a share of N(0, covariance)."""
        covariance = self.covariance.loc[[across, up], [across, up]].to_numpy()
        values, vectors = np.linalg.eigh(covariance)
        angle = np.linspace(0, 2 * np.pi, 200)
        circle = np.sqrt(chi2.ppf(share, 2)) * np.array([np.cos(angle), np.sin(angle)])
        return vectors @ (np.sqrt(np.maximum(values, 0.0))[:, None] * circle)
