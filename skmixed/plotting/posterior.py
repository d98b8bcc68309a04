"""Draws of a posterior: densities with their intervals, and pairs of parameters."""

from __future__ import annotations

import numpy as np
from scipy.stats import gaussian_kde

from skmixed.inference.intervals import check_level, find_parameters
from skmixed.inference.posterior_draws import highest_density
from skmixed.plotting._panels import panels
from skmixed.plotting._style import MIXED, accent, caption, ink, plain

KINDS = ("density", "pairs")
# Columns of panels, and parameters that pairs are shown of at most.
_COLUMNS, _MOST_PAIRS = 3, 8
# Draws shown as points, and points of a curve.
_DOTS, _CURVE = 1500, 200
_LINE = (-np.inf, np.inf)
# Width of the kernel by Scott's rule, and somewhat more.
_WIDER = 1.25


class PosteriorDisplay:
    """Densities of the parameters with median and interval, or scatter plots of their pairs.

    Densities are smoothed; of a standard deviation nothing is below 0, of a correlation nothing
    beyond -1 and 1. The shaded part is the interval of highest density.

    It is recommended to use :meth:`from_posterior`.

    Parameters
    ----------
    draws : DataFrame (n_draws, parameters)
    bounds : dict of str to (lower, upper), optional
        What a parameter lies between, as standard deviations and correlations do.
    level : float
        Probability of the intervals.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One for each parameter, or (p, p) for pairs.
    intervals_ : dict of str to (lower, median, upper)

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference import posterior
    >>> from skmixed.plotting import PosteriorDisplay
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> display = PosteriorDisplay.from_posterior(posterior(model, random_state=0))
    >>> len(display.axes_)
    6
    """

    def __init__(self, draws, *, bounds=None, level=0.95):
        self.draws = draws
        self.bounds = bounds or {}
        self.level = level

    @classmethod
    def from_posterior(
        cls, posterior, parameters=None, *, kind="density", level=0.95, ax=None, color=MIXED
    ):
        """Plot the draws of a posterior.

        Parameters
        ----------
        posterior : Posterior
        parameters : str or list of str, optional
            Names of columns of ``posterior.draws``, by default all.
        kind : {"density", "pairs"}
        level : float, default 0.95
        ax : Axes or array of Axes, optional
        color : color

        Returns
        -------
        PosteriorDisplay

        Raises
        ------
        ValueError
            For an unknown parameter or kind, a level that is none, and pairs of more than eight
            parameters.
        """
        check_level(level)
        wanted = find_parameters(parameters, list(posterior.draws.columns))
        draws = posterior.draws.iloc[:, wanted]
        display = cls(draws, bounds=posterior.bounds, level=level)
        return display.plot(ax=ax, kind=kind, color=color)

    def plot(self, ax=None, *, kind="density", color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        kind : {"density", "pairs"}
        color : color

        Returns
        -------
        self
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be 'density' or 'pairs', got {kind!r}")
        self.intervals_ = {name: self._interval(x) for name, x in self.draws.items()}
        if kind == "density":
            self._plot_densities(ax, color)
        else:
            self._plot_pairs(ax, color)
        caption(self, ax, f"Posterior with medians and {100 * self.level:g} % intervals")
        return self

    def _interval(self, x):
        lower, upper = highest_density(x.to_numpy(), self.level)
        return lower, float(x.median()), upper

    def _plot_densities(self, ax, color):
        n = self.draws.shape[1]
        columns = min(n, _COLUMNS)
        rows = -(-n // columns)
        self.figure_, axes = panels(ax, (rows, columns), (3.1 * columns, 2.3 * rows))
        self.axes_ = axes.ravel()[:n]
        for spare in axes.ravel()[n:]:
            spare.set_axis_off()
        for panel, name in zip(self.axes_, self.draws, strict=True):
            self._density(panel, name, color)
            panel.set_xlabel(_label(name))

    def _density(self, panel, name, color):
        color = accent(panel, color)
        lower, median, upper = self.intervals_[name]
        at, height = density_curve(self.draws[name].to_numpy(), self.bounds.get(name, _LINE))
        inside = (at >= lower) & (at <= upper)
        panel.fill_between(at[inside], height[inside], color=color, alpha=0.3, linewidth=0)
        panel.plot(at, height, color=color)
        panel.vlines(median, 0, np.interp(median, at, height), color=ink(panel), linewidth=1)
        panel.plot(at, 0 * at, color=ink(panel), linewidth=0.8)
        panel.set_ylim(bottom=0)
        panel.set_yticks([])
        panel.spines[["left", "top", "right"]].set_visible(False)

    def _range(self, name):
        """Limits of an axis that all draws of a parameter are within."""
        low, high = self.draws[name].min(), self.draws[name].max()
        margin = 0.05 * (high - low) or 1.0
        return low - margin, high + margin

    def _plot_pairs(self, ax, color):
        n = self.draws.shape[1]
        if n > _MOST_PAIRS:
            raise ValueError(
                f"pairs of {n} parameters cannot be read: name up to {_MOST_PAIRS} of them, "
                "parameters=[...]"
            )
        self.figure_, self.axes_ = panels(ax, (n, n), (1.9 * n + 0.6, 1.7 * n + 0.4))
        shown = self.draws.iloc[:: max(1, len(self.draws) // _DOTS)]
        for (i, j), panel in np.ndenumerate(self.axes_):
            if j > i:
                panel.set_axis_off()
                continue
            x, y = self.draws.columns[j], self.draws.columns[i]
            if i == j:
                self._density(panel, x, color)
            else:
                own = accent(panel, color)
                panel.plot(shown[x], shown[y], ".", color=own, markersize=2, alpha=0.35)
                panel.set_ylabel(_label(y) if j == 0 else "")
                panel.tick_params(labelleft=j == 0)
            panel.set_xlim(self._range(x))
            panel.set_xlabel(_label(x) if i == n - 1 else "")
            panel.tick_params(labelbottom=i == n - 1)


def _label(name):
    """A name with its grouping factor on a line of its own."""
    return plain(name).replace("|", "\n| ")


def density_curve(x, bounds=_LINE):
    """(at, density) (m,): a kernel estimate that mirrors the draws at bounds near them."""
    lower, upper = bounds
    low, high = np.quantile(x, [0.001, 0.999])
    margin = 0.1 * (high - low) or 1.0
    at = np.linspace(max(low - margin, lower), min(high + margin, upper), _CURVE)
    if x.min() == x.max():
        return at, np.where(np.arange(_CURVE) == _CURVE // 2, 1.0, 0.0)
    estimate = gaussian_kde(x, _WIDER * len(x) ** -0.2)
    height = estimate(at)
    for bound in bounds:
        if np.isfinite(bound):
            height = height + estimate(2.0 * bound - at)
    return at, height
