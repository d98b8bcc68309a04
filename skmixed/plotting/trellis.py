"""The response against a covariate, one panel per level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.plotting._bins import binned_shares, draw_shares, equal_parts
from skmixed.plotting._panels import choose_group, level_panels, response_name
from skmixed.plotting._rows import (
    as_pandas,
    covariate,
    has_events,
    is_curve,
    is_linear,
    mean_of,
    opens_pipelines,
    random_terms_of,
    response_of,
)
from skmixed.plotting._style import (
    LABEL,
    MIXED,
    PANEL,
    POPULATION,
    SMALL,
    WITHIN,
    accent,
    caption,
    data_ink,
    legend_below,
    plain,
)

_COLORS = {"population": POPULATION, "within": WITHIN, "mixed": MIXED}
_STYLES = {
    "population": {"linestyle": "--"},
    "within": {"linestyle": ":"},
    "mixed": {"linestyle": "-"},
}
# Rows of a level for each share that is drawn of it, and the most shares.
_ROWS_PER_SHARE, _MOST_SHARES = 10, 5
# Points of a curve.
_FINE = 121
_LEGEND = {
    "population": "population",
    "within": "least squares within the panel",
    "mixed": "mixed model",
}


class TrellisDisplay:
    """Data of every level with three lines: within the level, population, and mixed model.

    The line within a level is that of least squares in its rows alone; the population's uses fixed
    effects only; the mixed model's lies between them, closer to the former the more rows there are.
    For a generalised model the lines are means (of two classes, the probability of the second), for
    a nonlinear one curves: those of the level and of a typical member. These have none of least
    squares. Zeros and ones are marks at the edges of a panel, with shares of events in parts of the
    rows and their 95 % intervals (Wilson's) between them.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    points : DataFrame with columns level, x, y
    curves : DataFrame with columns level, x, population, mixed and within
        Values of the three lines on a grid of x.
    x, response, group : str
        Names, for the labels.
    n_levels : int
        Levels of the grouping factor, of which the display may show a part.
    bins : DataFrame with columns level, x, mean, lower, upper and n, optional
        Shares of events in parts of the rows of a level with 95 % intervals, drawn over them.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per level; ``ax_`` is the first.
    lines_ : list of dict
        The Line2D of every panel, by name: population, within, mixed.
    shares_ : list of Line2D
        The shares of events of every panel; empty for other responses.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.plotting import TrellisDisplay
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> display = TrellisDisplay.from_estimator(model, df, x="Days")
    >>> len(display.axes_)
    18
    """

    def __init__(self, points, curves, *, x, response, group, n_levels, bins=None):
        self.points = points
        self.curves = curves
        self.x = x
        self.response = response
        self.group = group
        self.n_levels = n_levels
        self.bins = bins

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        x=None,
        group=None,
        levels=None,
        max_panels=24,
        random_effects=None,
        average=False,
        ax=None,
        **kwargs,
    ):
        """Plot rows and the model's lines level by level.

        Parameters
        ----------
        estimator : fitted mixed model
        X : DataFrame of n rows
        y : (n,), optional
            Their response, for a model whose formula does not name it.
        x : str, optional
            Covariate along the axis: a numeric column of X. By default the first one that is the
            name of a random or fixed effect, or the last one in a curve.
        group : str, optional
            Grouping factor; the first of the model by default.
        levels : list, optional
            Levels to show, in this order. By default all, ordered by their first conditional
            mode; of more than ``max_panels`` an even selection.
        max_panels : int, default 24
        random_effects : bool or list of str, optional
            Grouping factors whose effects the mixed model's line has, as for ``predict``. By
            default the panel's own and every factor in which the panels are nested, such as the
            school of a class; effects of factors that vary within a panel are 0, their mean.
        average : bool, default False
            Draw means over the rows of the panel, each with x at the place along the axis. By
            default the lines are those of the level's first row: its other covariates and, where
            ``random_effects`` has factors that vary within the panel, its levels of them.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        TrellisDisplay
        """
        group = choose_group(estimator, group)
        X = as_pandas(X, cls.__name__)
        x = covariate(estimator, X, x)
        terms, kept = random_terms_of(estimator, X)
        codes = next(term.codes for term in terms if term.group == group)
        if not (codes >= 0).any():
            raise ValueError(
                f"TrellisDisplay needs rows of levels of {group!r} that the fit had; X has the "
                f"columns {list(X.columns)}"
            )
        modes = estimator.random_effects_[group]
        chosen = _levels(modes, codes, levels, max_panels)
        values = response_of(estimator, X, y)
        rows = [kept[codes == modes.index.get_loc(level)] for level in chosen]
        points = pd.concat(
            [
                pd.DataFrame({"level": level, "x": X[x].to_numpy()[at], "y": values[at]})
                for level, at in zip(chosen, rows, strict=True)
            ]
        )
        shown = [X.iloc[at if average else at[:1]] for at in rows]
        effects = _fixed_within(terms, codes) if random_effects is None else random_effects
        curves = _curves(estimator, shown, chosen, points, x, effects)
        display = cls(
            points,
            curves,
            x=x,
            response=response_name(estimator, y),
            group=group,
            n_levels=len(modes),
            bins=_bins(points) if has_events(estimator, points["y"]) else None,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, columns=None):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        columns : int, optional
            Panels side by side.

        Returns
        -------
        self
        """
        levels = list(dict.fromkeys(self.points["level"]))
        n = len(levels)
        axes = level_panels(self, ax, n, columns, lambda c, r: (1.0 + 1.6 * c, 1.6 + 1.5 * r))
        limits = self._limits()
        self.shares_ = []
        self.lines_ = [
            self._draw(panel, level, limits)
            for panel, level in zip(self.axes_, levels, strict=True)
        ]
        self._label(axes, n, ax)
        return self

    def _draw(self, panel, level, limits):
        points = self.points[self.points["level"] == level]
        curve = self.curves[self.curves["level"] == level]
        grey = data_ink(panel)
        if self.bins is None:
            panel.plot(points["x"], points["y"], "o", color=grey, markersize=3, markeredgewidth=0)
        else:
            panel.plot(points["x"], points["y"], "|", color=grey, markersize=5, alpha=0.5)
            own = self.bins[self.bins["level"] == level]
            self.shares_.append(draw_shares(panel, own, grey, markersize=3.5))
        lines = {
            name: panel.plot(
                curve["x"],
                curve[name],
                linewidth=1.6,
                **style,
                color=accent(panel, _COLORS[name]),
            )[0]
            for name, style in _STYLES.items()
            if name in curve
        }
        panel.set_ylim(limits)
        panel.set_title(plain(level, PANEL), fontsize=LABEL, pad=3)
        panel.tick_params(labelsize=SMALL)
        return lines

    def _label(self, axes, n, ax):
        """Names of the axes and the legend, once for the whole figure."""
        rows, columns = axes.shape
        shown = f" ({n} of {self.n_levels:,})" if n < self.n_levels else ""
        for place in range(n):
            if place + columns >= n:
                axes.ravel()[place].tick_params(labelbottom=True)
        axes[-1, 0].set_xlabel(
            plain(f"{self.x}; one panel per {self.group}{shown}"), fontsize=LABEL, loc="left"
        )
        axes[rows // 2 if rows > 2 else 0, 0].set_ylabel(plain(self.response), fontsize=LABEL)
        caption(self, ax, f"{self.response} by {self.x} and {self.group}")
        found = {_LEGEND[name]: line for name, line in self.lines_[0].items()}
        if self.shares_:
            found["share in parts of the rows, 95 %"] = self.shares_[0]
        legend_below(self.figure_, self.ax_, list(found.values()), list(found))

    def _limits(self):
        """Range of y for the data and the model's lines; lines within a level may leave it."""
        shown = np.concatenate([self.points["y"], self.curves["population"], self.curves["mixed"]])
        low, high = np.nanmin(shown), np.nanmax(shown)
        margin = 0.05 * (high - low) or 1.0
        return low - margin, high + margin


def _levels(modes, codes, levels, max_panels):
    """The levels shown: those asked for, or an even selection in the order of their modes."""
    present = modes.index[np.unique(codes[codes >= 0])]
    if levels is not None:
        by_text = {str(level): level for level in present}
        unknown = [level for level in levels if str(level) not in by_text]
        if unknown:
            raise ValueError(f"X has no rows of the levels {unknown} of {modes.index.name!r}")
        return [by_text[str(level)] for level in levels]
    ordered = modes.loc[present].iloc[:, 0].sort_values().index
    if len(ordered) > max_panels:
        ordered = ordered[np.linspace(0, len(ordered) - 1, max_panels).round().astype(int)]
    return list(ordered)


def _fixed_within(terms, codes):
    """The grouping factors with one level in every panel: the panel's own and those above it."""
    found = []
    for term in terms:
        pairs = np.unique(np.column_stack([codes, term.codes])[codes >= 0], axis=0)
        if len(pairs) == len(np.unique(pairs[:, 0])):
            found.append(term.group)
    return list(dict.fromkeys(found))


def _bins(points):
    """Shares of events of every level in parts of its rows along x."""
    found = []
    for level, own in points.groupby("level", sort=False, observed=True):
        n = int(np.clip(len(own) // _ROWS_PER_SHARE, 1, _MOST_SHARES))
        parts = equal_parts(own["x"], n)
        shares = binned_shares(own["x"].to_numpy(), own["y"].to_numpy(), np.ones(len(own)), parts)
        found.append(shares.assign(level=level))
    return pd.concat(found, ignore_index=True)


def _curves(estimator, rows, levels, points, x, groups):
    """The three lines of every level on a grid over the range of x, of categories at these.

    rows : frames of the rows of every level over which the lines are averaged.
    """
    grid = np.linspace(points["x"].min(), points["x"].max(), _FINE if is_curve(estimator) else 25)
    if not is_curve(estimator) and x in estimator.design_spec_.coded:
        grid = np.unique(points["x"])
    curves = pd.DataFrame(
        {"level": pd.Index(levels).repeat(len(grid)), "x": np.tile(grid, len(levels))}
    )
    curves["population"] = _averaged(estimator, rows, x, grid, ())
    curves["mixed"] = _averaged(estimator, rows, x, grid, groups)
    if is_linear(estimator):
        curves["within"] = np.concatenate([_straight_line(points, level, grid) for level in levels])
    return curves


def _averaged(estimator, rows, x, grid, groups):
    """Means (levels * grid,) of predictions over the rows of every level, at each value of x."""
    sizes = np.array([len(own) for own in rows])
    table = pd.concat([own.iloc[np.tile(np.arange(len(own)), len(grid))] for own in rows])
    table = table.assign(**{x: np.concatenate([np.repeat(grid, size) for size in sizes])})
    means = mean_of(estimator, table, groups)
    each = np.repeat(sizes, len(grid))
    return np.add.reduceat(means, np.cumsum(each) - each) / each


def _straight_line(points, level, grid):
    """The least-squares line in the rows of one level; NaN where they share one x."""
    own = points[points["level"] == level]
    spread = own["x"] - own["x"].mean()
    if not (spread**2).sum() > 0:
        return np.full(len(grid), np.nan)
    slope = (spread * own["y"]).sum() / (spread**2).sum()
    return own["y"].mean() + slope * (grid - own["x"].mean())
