"""Distributions of bootstrap draws."""

from __future__ import annotations

import numpy as np

from skmixed.plotting._panels import panels, wrapped
from skmixed.plotting._style import MIXED, accent, caption, data_ink, ink

# Panels side by side, and bars of a histogram.
_COLUMNS, _BARS = 3, 30


class BootstrapDisplay:
    """Histograms of bootstrap draws, one panel per parameter, with the estimate and its limits.

    A line stands at the estimate, a bar below spans the interval. Draws that pile up at a bound,
    such as a standard deviation of zero, show where symmetric intervals are wrong.

    It is recommended to use :meth:`from_bootstrap`.

    Parameters
    ----------
    draws : DataFrame of shape (n, k)
    limits : DataFrame
        With estimate, lower and upper by parameter.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per parameter; ``ax_`` is the first.
    bars_ : list of BarContainer
        The histograms.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_dyestuff
    >>> from skmixed.inference import bootstrap
    >>> from skmixed.plotting import BootstrapDisplay
    >>> df = load_dyestuff().frame
    >>> model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(df)
    >>> boot = bootstrap(model, df, n=100, random_state=0)
    >>> display = BootstrapDisplay.from_bootstrap(boot)
    >>> [ax.get_xlabel() for ax in display.axes_]
    ['Intercept', 'sd_(Intercept)|Batch', 'sigma']
    """

    def __init__(self, draws, limits):
        self.draws = draws
        self.limits = limits

    @classmethod
    def from_bootstrap(
        cls, boot, *, parameters=None, level=0.95, method="percentile", ax=None, color=MIXED
    ):
        """Plot the draws of a bootstrap.

        Parameters
        ----------
        boot : Bootstrap
        parameters : str or list of str, optional
            All of them by default.
        level, method
            Of the limits, as of ``boot.confint``.
        ax : Axes or array of Axes, optional
        color : color

        Returns
        -------
        BootstrapDisplay

        Raises
        ------
        ValueError
            As ``boot.confint``.
        """
        limits = boot.confint(parameters, level=level, method=method)
        return cls(boot.draws[list(limits.index)], limits).plot(ax=ax, color=color)

    def plot(self, ax=None, *, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        color : color
            Of the intervals.

        Returns
        -------
        self
        """
        names = list(self.limits.index)
        columns = min(_COLUMNS, len(names))
        rows = -(-len(names) // columns)
        self.figure_, axes = panels(ax, (rows, columns), (3.0 * columns, 2.3 * rows))
        for unused in axes.ravel()[len(names) :]:
            unused.set_axis_off()
        self.axes_ = axes.ravel()[: len(names)]
        self.ax_ = self.axes_[0]
        self.bars_ = [
            self._panel(own, name, color) for own, name in zip(self.axes_, names, strict=True)
        ]
        caption(self, ax, f"{len(self.draws):,} bootstrap draws, estimates and limits")
        return self

    def _panel(self, ax, name, color):
        draws = self.draws[name].to_numpy()
        _, _, bars = ax.hist(draws[np.isfinite(draws)], bins=_BARS, color=data_ink(ax), alpha=0.5)
        estimate, lower, upper = self.limits.loc[name]
        ax.axvline(estimate, color=ink(ax), linewidth=1)
        ax.hlines(0, lower, upper, color=accent(ax, color), linewidth=5)
        ax.set_yticks([])
        ax.set_xlabel(wrapped(name, 30))
        return bars
