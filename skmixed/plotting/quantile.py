"""Normal quantile plots of conditional modes and of residuals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm

from skmixed.inference.bands import QuantileBand
from skmixed.plotting._labels import name_points
from skmixed.plotting._panels import (
    MAX_LABELS,
    choose_effects,
    choose_group,
    effect_label,
    effect_units,
    panels,
)
from skmixed.plotting._rows import is_curve, is_linear, opens_pipelines, response_of, weights_of
from skmixed.plotting._style import MIXED, POPULATION, accent, caption, data_ink, ink, plain

# Levels that have an interval, evenly chosen of more.
_INTERVALS = 400


class NormalQuantileDisplay:
    """Ordered values against the quantiles of the standard normal distribution.

    Values from a normal distribution lie near the line of their mean and standard deviation. The
    grey band holds all points of a share ``level`` of normal samples at once; those outside it
    have their names beside them.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    values : DataFrame of shape (n, panels)
        One panel per column.
    std : DataFrame of shape (n, panels), optional
        Standard deviations of the values, drawn as intervals.
    labels : dict of str to str, optional
        Axis label of each column.
    level : float
        Coverage of the intervals and of the band.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per column; ``ax_`` is the first.
    lines_ : list of Line2D
        The points, one entry per panel.
    bands_ : list of PolyCollection
        The bands of panels with three values or more.
    outliers_ : dict of Index
        Names of all values outside the band, by column of ``values``, the lowest first.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.plotting import NormalQuantileDisplay
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> display = NormalQuantileDisplay.from_estimator(model)
    >>> residuals = NormalQuantileDisplay.from_estimator(model, df)
    >>> residuals.values.columns.to_list()
    ['residual / sigma']
    """

    def __init__(self, values, *, std=None, labels=None, level=0.95):
        self.values = values
        self.std = std
        self.labels = labels
        self.level = level

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, X=None, y=None, *, group=None, effects=None, level=0.95, ax=None, **kwargs
    ):
        """Plot the conditional modes of a grouping factor or, given rows, their residuals.

        Parameters
        ----------
        estimator : fitted mixed model
        X : DataFrame or array of n rows, optional
            With X the plot shows the residuals (y - prediction) sqrt(w) / sigma of a linear model.
        y : (n,), optional
            Their response, for a model whose formula does not name it.
        group : str, optional
            Grouping factor whose conditional modes are shown; the first by default.
        effects : str or list of str, optional
            Effects to show; all by default.
        level : float, default 0.95
            Coverage of the intervals about conditional modes, and of the band.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        NormalQuantileDisplay
        """
        if X is not None:
            return cls(_residuals(estimator, X, y), level=level).plot(ax=ax, **kwargs)
        group = choose_group(estimator, group)
        modes = estimator.random_effects_[group]
        effects = choose_effects(modes.columns, effects)
        units = effect_units(estimator)
        display = cls(
            modes[effects],
            std=estimator.random_effects_std_[group][effects],
            labels={effect: f"{group}: {effect_label(effect, units)}" for effect in effects},
            level=level,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, color=MIXED, outliers=6):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        color : color
        outliers : int
            At most so many of the points outside the band have their name beside them.

        Returns
        -------
        self
        """
        n = self.values.shape[1]
        self.figure_, axes = panels(ax, (1, n), (0.8 + 3.6 * n, 3.8))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        self.outliers_, self.bands_, self.lines_ = {}, [], []
        for panel, name in zip(self.axes_, self.values, strict=True):
            self._draw(panel, name, color, outliers)
        caption(self, ax, f"Normal quantiles, {100 * self.level:g} % band")
        return self

    def _draw(self, panel, name, color, most):
        color = accent(panel, color)
        values = self.values[name].to_numpy()
        order = np.argsort(values, kind="stable")
        values, n = values[order], len(values)
        quantiles = norm.ppf((np.arange(n) + 0.5) / n)
        many = n > MAX_LABELS
        if self.std is not None:
            half = norm.ppf(0.5 + self.level / 2) * self.std[name].to_numpy()[order]
            at = np.unique(np.linspace(0, n - 1, _INTERVALS).astype(int))
            panel.vlines(
                quantiles[at], (values - half)[at], (values + half)[at], color=color,
                linewidth=0.5 if many else 1.2, alpha=0.3 if many else 0.6,
            )  # fmt: skip
        outside = self._band(panel, quantiles, values)
        size = 6 if not many else 3.5 if n <= 2000 else 2
        (points,) = panel.plot(
            quantiles, values, "o", color=ink(panel) if many and self.std is not None else color,
            markersize=size, markeredgewidth=0,
        )  # fmt: skip
        panel.margins(x=0.1)
        panel.set_xlabel("Standard normal quantile")
        panel.set_ylabel(plain(name if self.labels is None else self.labels[name]))
        self.lines_.append(points)
        self.outliers_[name] = self.values.index[order[np.sort(outside)]]
        shown = outside[:most]
        names = self.values.index[order[shown]]
        name_points(panel, quantiles[shown], values[shown], names)

    def _band(self, panel, quantiles, values):
        """Draw line and band; places of the points outside, those furthest out first."""
        n, mean = len(values), values.mean()
        sd = values.std(ddof=1) if n > 1 else 0.0
        style = {"color": data_ink(panel), "linewidth": 0.8, "zorder": 0.5}
        panel.plot(quantiles[[0, -1]], mean + sd * quantiles[[0, -1]], **style)
        if n < 3 or not sd > 0:
            return np.empty(0, dtype=int)
        limits = QuantileBand.of(n, self.level, standardised=True).limits()
        low, high = (mean + sd * norm.ppf(limit) for limit in limits)
        band = panel.fill_between(quantiles, low, high, color=POPULATION, alpha=0.25, linewidth=0,
                                  zorder=0)  # fmt: skip
        self.bands_.append(band)
        gap = np.maximum(values - high, low - values)
        outside = np.flatnonzero(gap > 0)
        return outside[np.argsort(-gap[outside], kind="stable")]


def _residuals(estimator, X, y):
    """Standardised residuals (n, 1) of the rows that can be predicted."""
    if not (is_linear(estimator) or is_curve(estimator)):
        raise ValueError(
            f"residuals of {type(estimator).__name__} are not normal: quantile plots are for those "
            "of linear and nonlinear models, and for conditional modes (leave X out)"
        )
    if estimator.result_.residual is not None:
        residuals = estimator.residuals(X, y, kind="normalized")
    else:
        residuals = response_of(estimator, X, y) - estimator.predict(X)
        residuals = residuals * np.sqrt(weights_of(estimator, X)) / estimator.sigma_
    known = np.isfinite(residuals)
    labels = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(known))
    return pd.DataFrame({"residual / sigma": residuals[known]}, index=labels[known])
