"""The raw outcomes against a covariate, one panel per cluster."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.inference.attempts import Given
from skmixed.plotting._bins import binned_shares, draw_shares, equal_parts
from skmixed.plotting._panels import level_panels, response_name
from skmixed.plotting._rows import as_pandas, mean_of, opens_pipelines
from skmixed.plotting._style import (
    LABEL,
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

# Rows of a cluster for each mean that is drawn of it, and the most means.
_ROWS_PER_MEAN, _MOST_MEANS = 8, 4
# Points of the curves, and height of the band in which zeros and ones are spread.
_GRID, _BAND = 60, 0.09
_LEGEND = {
    "mean": "mean of the rows, 95 % interval of shares",
    "population": "population (effects of 0)",
    "mixed": "mixed model",
}


class ClusterDisplay:
    """Outcomes of every cluster against a covariate, before or after a fit.

    Zeros and ones are spread a little, so that many at one place can be told from few; over them
    are means of up to four parts of the rows. Of a fitted model there are two curves: at random
    effects of 0, and at those of the cluster. Titles say how many successes there are of how many
    outcomes (for other responses, how many rows).

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    points : DataFrame with columns level, x, y, weight
        Rows; y as a proportion and weight the number of trials for binomial responses.
    means : DataFrame with columns level, x, mean, lower, upper and n
        Limits are NaN for responses that are no events.
    curves : DataFrame with columns level, x, population, mixed
        Without rows for a model that is not fitted.
    titles : dict
        By level.
    x, response, group : str
        Names, for the labels.
    n_levels : int
        Levels of the grouping factor, of which the display may show a part.
    binary : bool
        Whether responses are zeros and ones, or proportions.
    categories : list, optional
        Of a covariate that is not numeric: x are their numbers.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per level; ``ax_`` is the first.
    lines_ : list of dict
        The artists of every panel, by name: mean, population, mixed.

    Examples
    --------
    >>> from skmixed import MixedLogisticClassifier
    >>> from skmixed.datasets import load_verbagg
    >>> from skmixed.plotting import ClusterDisplay
    >>> verbagg = load_verbagg().frame
    >>> model = MixedLogisticClassifier("r2 ~ Anger + (1 | item)")
    >>> display = ClusterDisplay.from_estimator(model, verbagg, max_panels=6)
    >>> [ax.get_title() for ax in display.axes_][::5]
    ['S3DoShout: 29 of 316', 'S2WantCurse: 249 of 316']
    """

    def __init__(self, points, means, curves, titles, *, x, response, group, n_levels, binary,
                 categories=None):  # fmt: skip
        self.points = points
        self.means = means
        self.curves = curves
        self.titles = titles
        self.x = x
        self.response = response
        self.group = group
        self.n_levels = n_levels
        self.binary = binary
        self.categories = categories

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        groups=None,
        x=None,
        group=None,
        levels=None,
        max_panels=12,
        ax=None,
        **kwargs,
    ):
        """Plot the rows of a model level by level, and its curves if it is fitted.

        Parameters
        ----------
        estimator : MixedLogisticClassifier or MixedGLMRegressor
            Fitted or not.
        X : DataFrame of n rows
        y : (n,), optional
            The response, for a model whose formula does not name it.
        groups : (n,), optional
            Levels of ``groups``, for a model with ``fit(groups=)``.
        x : str, optional
            Covariate along the axis. By default the first numeric column of X that is the name of
            a fixed effect, else the first variable of the fixed effects.
        group : str, optional
            Grouping factor; the first of the model by default.
        levels : list, optional
            Levels to show, in this order. By default all, ordered by their means; of more than
            ``max_panels`` an even selection.
        max_panels : int, default 12
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        ClusterDisplay
        """
        X = as_pandas(X, cls.__name__)
        # what the plot needs of the data are its outcomes, not that they can be fitted
        given = Given.of(estimator, X, y, groups, None).having(
            n_agq=1, rank_deficient="drop", missing="drop"
        )
        design, y_fit, trials = given.outcomes()
        term = _term(design, group)
        binary = given.model._own_family().name == "binomial"
        rows = X.iloc[design.rows].reset_index(drop=True)
        x = _covariate(design, rows, x)
        values, categories = _numbers(rows[x])
        weight = trials if binary else np.ones(len(y_fit))
        with np.errstate(invalid="ignore"):
            mean = y_fit / weight if binary else y_fit
        points = pd.DataFrame(
            {"level": np.asarray(term.levels)[term.codes], "x": values, "y": mean, "weight": weight}
        )
        points = points[(points["weight"] > 0).to_numpy()]
        chosen = _levels(points, levels, max_panels, term.group)
        points = points[points["level"].isin(chosen)]
        fitted = hasattr(estimator, "result_") and groups is None
        curves = (
            _curves(estimator, rows, points, chosen, x, categories, term.group) if fitted else None
        )
        display = cls(
            points,
            _means(points, chosen, categories, binary),
            pd.DataFrame(columns=["level", "x", "population", "mixed"])
            if curves is None
            else curves,
            {level: _title(points[points["level"] == level], level, binary) for level in chosen},
            x=x,
            response=response_name(given.model, y),
            group=term.group,
            n_levels=len(np.unique(term.codes)),
            binary=binary,
            categories=categories,
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
        levels = list(self.titles)
        n = len(levels)
        axes = level_panels(self, ax, n, columns, lambda c, r: (1.2 + 1.8 * c, 1.6 + 1.5 * r))
        rng = np.random.default_rng(0)
        self.lines_ = [
            self._draw(panel, level, rng) for panel, level in zip(self.axes_, levels, strict=True)
        ]
        self._label(axes, n, ax)
        return self

    def _draw(self, panel, level, rng):
        own = self.points[self.points["level"] == level]
        panel.scatter(
            *self._spread(own, rng),
            s=self._sizes(own),
            color=data_ink(panel),
            alpha=0.45,
            linewidths=0,
        )
        curve = self.curves[self.curves["level"] == level]
        lines = {}
        if len(curve):
            style = {"linewidth": 1.4, "marker": "_" if self.categories else None}
            lines["population"] = panel.plot(
                curve["x"], curve["population"], "--", color=POPULATION, **style
            )[0]
            lines["mixed"] = panel.plot(curve["x"], curve["mixed"], color=accent(panel), **style)[0]
        mean = self.means[self.means["level"] == level]
        lines["mean"] = draw_shares(panel, mean, WITHIN, markersize=4)
        panel.set_title(plain(self.titles[level], 2 * PANEL), fontsize=LABEL, pad=3)
        panel.tick_params(labelsize=SMALL)
        if self.categories:
            panel.set_xticks(
                range(len(self.categories)), [plain(c, PANEL) for c in self.categories]
            )
            panel.set_xlim(-0.5, len(self.categories) - 0.5)
        return lines

    def _spread(self, own, rng):
        """Places of the points: categories spread to both sides, zeros and ones inwards."""
        x, y = own["x"].to_numpy(dtype=float), own["y"].to_numpy(dtype=float)
        if self.categories:
            x = x + rng.uniform(-0.25, 0.25, len(x))
        if self.binary:
            shift = np.where(own["weight"] == 1, rng.uniform(0, _BAND, len(y)), 0.0)
            y = np.where(y == 0, shift, np.where(y == 1, 1 - shift, y))
        return x, y

    def _sizes(self, own):
        """Area of the points, by number of trials."""
        most = self.points["weight"].max()
        return 9.0 if most == 1 else 6 + 40 * own["weight"] / most

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
        names = [name for name in _LEGEND if name in self.lines_[0]]
        legend_below(
            self.figure_, self.ax_, [self.lines_[0][name] for name in names],
            [_LEGEND[name] for name in names],
        )  # fmt: skip


def _term(design, group):
    """The random-effects term of the grouping factor asked for, or the first one."""
    terms = {term.group: term for term in design.random if term.structure != "smooth"}
    if not terms:
        raise ValueError("the model has no clusters to plot: its formula has no (... | g)")
    if group is not None and group not in terms:
        raise ValueError(f"the model has no grouping factor {group!r}, only {list(terms)}")
    return terms[group or next(iter(terms))]


def _covariate(design, rows, x):
    """The column of X along the axis."""
    if x is not None:
        if x not in rows:
            raise ValueError(f"x must be a column of X, one of {list(rows)}, got {x!r}")
        return x
    numeric = [name for name in design.names if name in rows]
    variables = [name for name in design.spec.fixed_columns if name in rows]
    found = [*(name for name in numeric if pd.api.types.is_numeric_dtype(rows[name])), *variables]
    if not found:
        raise ValueError("no fixed effect of the model is a column of X: name one as x=")
    return found[0]


def _numbers(values):
    """(numbers (n,), categories or None) of a column."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.to_numpy(dtype=float), None
    codes = values.astype("category").cat
    return codes.codes.to_numpy(dtype=float), list(codes.categories)


def _levels(points, levels, max_panels, group):
    """The levels shown: those asked for, or an even selection in the order of their means."""
    total = (points["y"] * points["weight"]).groupby(points["level"]).sum()
    mean = (total / points.groupby("level")["weight"].sum()).sort_values(kind="stable")
    if levels is not None:
        by_text = {str(level): level for level in mean.index}
        unknown = [level for level in levels if str(level) not in by_text]
        if unknown:
            raise ValueError(f"X has no rows of the levels {unknown} of {group!r}")
        return [by_text[str(level)] for level in levels]
    if len(mean) <= max_panels:
        return list(mean.index)
    return list(mean.index[np.linspace(0, len(mean) - 1, max_panels).round().astype(int)])


def _title(own, level, binary):
    if not binary:
        return f"{level}: {len(own)} rows"
    return f"{level}: {(own['y'] * own['weight']).sum():.0f} of {own['weight'].sum():.0f}"


def _means(points, levels, categories, binary):
    """Means of up to four parts of the rows of every level along x, or of every category.

    Of zeros, ones and proportions with 95 % limits; of other responses without.
    """
    found = []
    for level in levels:
        own = points[points["level"] == level]
        n = int(np.clip(len(own) // _ROWS_PER_MEAN, 1, _MOST_MEANS))
        parts = own["x"] if categories else equal_parts(own["x"], n)
        if binary:
            means = binned_shares(own["x"].to_numpy(), own["y"], own["weight"], parts)
        else:
            sums = own.groupby(np.asarray(parts))
            means = sums[["x", "y"]].mean().rename(columns={"y": "mean"})
            means = means.assign(lower=np.nan, upper=np.nan, n=sums.size())
        found.append(means.assign(level=level))
    return pd.concat(found, ignore_index=True)


def _curves(estimator, rows, points, levels, x, categories, group):
    """Means along x at effects of 0 and of the level, other columns as in its first row."""
    grid = categories or np.linspace(points["x"].min(), points["x"].max(), _GRID)
    places = points.index
    firsts = rows.iloc[[places[(points["level"] == level).to_numpy()][0] for level in levels]]
    table = firsts.iloc[np.repeat(np.arange(len(firsts)), len(grid))]
    along = pd.Series(list(grid) * len(levels), index=table.index)
    table = table.assign(**{x: along.astype(rows[x].dtype) if categories else along})
    return pd.DataFrame(
        {
            "level": np.repeat(np.array(levels, dtype=object), len(grid)),
            "x": np.tile(np.arange(len(grid)) if categories else grid, len(levels)),
            "population": mean_of(estimator, table, ()),
            "mixed": mean_of(estimator, table, [group]),
        }
    )
