"""Normal quantile plots of conditional modes and of residuals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm

from skmixed.plotting._panels import (
    DATA,
    MAX_LABELS,
    MIXED,
    choose_effects,
    choose_group,
    effect_label,
    effect_units,
    panels,
)
from skmixed.plotting._rows import is_curve, is_linear, response_of, weights_of


class NormalQuantileDisplay:
    """Ordered values against the quantiles of the standard normal distribution.

    Values from a normal distribution lie on a line; the one drawn goes through the quartiles.

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
        Coverage of the intervals.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per column; ``ax_`` is the first.
    lines_ : list of Line2D
        The points, one entry per panel.

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
            Coverage of the intervals about conditional modes.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        NormalQuantileDisplay
        """
        if X is not None:
            return cls(_residuals(estimator, X, y)).plot(ax=ax, **kwargs)
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

    def plot(self, ax=None, *, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        color : color

        Returns
        -------
        self
        """
        n = self.values.shape[1]
        self.figure_, axes = panels(ax, (1, n), (0.8 + 3.6 * n, 3.8))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        self.lines_ = [
            self._draw(panel, name, color)
            for panel, name in zip(self.axes_, self.values, strict=True)
        ]
        return self

    def _draw(self, panel, name, color):
        values = self.values[name].to_numpy()
        order = np.argsort(values, kind="stable")
        values, n = values[order], len(values)
        quantiles = norm.ppf((np.arange(n) + 0.5) / n)
        panel.plot(*_quartile_line(quantiles, values), color=DATA, linewidth=0.8, zorder=0)
        many = n > MAX_LABELS
        if self.std is not None:
            half = norm.ppf(0.5 + self.level / 2) * self.std[name].to_numpy()[order]
            panel.vlines(
                quantiles, values - half, values + half, color=color,
                linewidth=0.5 if many else 1.2, alpha=0.3 if many else 0.6,
            )  # fmt: skip
        (points,) = panel.plot(quantiles, values, ".", color=color, markersize=3 if many else 7)
        panel.set_xlabel("Standard normal quantile")
        panel.set_ylabel(name if self.labels is None else self.labels[name])
        return points


def _residuals(estimator, X, y):
    """Standardised residuals (n, 1) of the rows that can be predicted."""
    if not (is_linear(estimator) or is_curve(estimator)):
        raise ValueError(
            f"residuals of {type(estimator).__name__} are not normal: quantile plots are for those "
            "of linear and nonlinear models, and for conditional modes (leave X out)"
        )
    if getattr(estimator.result_, "residual", None) is not None:
        residuals = estimator.residuals(X, y, kind="normalized")
    else:
        residuals = response_of(estimator, X, y) - estimator.predict(X)
        residuals = residuals * np.sqrt(weights_of(estimator, X)) / estimator.sigma_
    return pd.DataFrame({"residual / sigma": residuals[np.isfinite(residuals)]})


def _quartile_line(quantiles, values):
    """Ends of the line through the first and third quartiles."""
    low, high = np.quantile(values, [0.25, 0.75], method="hazen")
    slope = (high - low) / (norm.ppf(0.75) - norm.ppf(0.25))
    ends = quantiles[[0, -1]]
    return ends, (low + high) / 2 + slope * ends
