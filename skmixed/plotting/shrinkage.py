"""From the estimates of every level on its own to the conditional modes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from skmixed.plotting._labels import name_points
from skmixed.plotting._panels import (
    MAX_LABELS,
    choose_effects,
    choose_group,
    effect_label,
    effect_units,
    level_ticks,
    panels,
)
from skmixed.plotting._rows import (
    is_linear,
    mean_of,
    opens_pipelines,
    random_terms_of,
    response_of,
    weights_of,
)
from skmixed.plotting._style import (
    POPULATION,
    SMALL,
    WITHIN,
    accent,
    background,
    caption,
    data_ink,
    ink,
    legend_below,
    to_pale,
    zero_line,
)

# More levels than this are drawn by density, and more than this have no arrow each.
_DENSE, _ARROWS = 1000, 120
# Share of the levels at each end of an axis that a density leaves out.
_TAIL = 0.002


class ShrinkageDisplay:
    """How far the model draws the estimates of every level towards the population.

    An arrow leads from the coefficients that least squares finds in the rows of one level alone
    (given the rest of the model) to the level's coefficients in the mixed model. Levels with few
    or uninformative rows are drawn furthest. Where an effect has a fixed effect of the same name,
    that is added to both, so that the axes show coefficients and not deviations.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    within, mixed : DataFrame of shape (levels, effects)
        Coefficients by level: least squares within the level (NaN where its rows do not determine
        them), and fixed effect plus conditional mode.
    population : Series of shape (effects,)
        The fixed effects.
    units : str
        Units of the effects, for the labels.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per pair of effects, or one for a single effect; ``ax_`` is the first.
    lines_ : list of Line2D
        The points of the mixed model, one entry per panel.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.plotting import ShrinkageDisplay
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> display = ShrinkageDisplay.from_estimator(model, df)
    >>> display.within.loc["308"].round(1).to_list(), display.mixed.loc["308"].round(1).to_list()
    ([244.2, 21.8], [253.7, 19.7])
    """

    def __init__(self, within, mixed, population, *, units="response"):
        self.within = within
        self.mixed = mixed
        self.population = population
        self.units = units

    @classmethod
    @opens_pipelines
    def from_estimator(cls, estimator, X, y=None, *, group=None, effects=None, ax=None, **kwargs):
        """Plot the shrinkage of a linear mixed model.

        Parameters
        ----------
        estimator : fitted MixedLinearRegressor
        X : DataFrame or array of n rows
            The training rows, which the estimator does not keep.
        y : (n,), optional
            Their response, for a model whose formula does not name it.
        group : str, optional
            Grouping factor; the first of the model by default.
        effects : list of str, optional
            Effects to show; all by default.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        ShrinkageDisplay
        """
        group = choose_group(estimator, group)
        if not is_linear(estimator):
            raise ValueError(
                "least squares within levels is for linear mixed models, the estimator is a "
                f"{type(estimator).__name__}"
            )
        modes = estimator.random_effects_[group]
        effects = choose_effects(modes.columns, effects)
        deviations = _within(estimator, X, response_of(estimator, X, y), group)
        fixed = estimator.fixed_effects_.reindex(modes.columns).fillna(0.0)
        display = cls(
            (deviations + fixed)[effects],
            (modes + fixed)[effects],
            fixed[effects],
            units=effect_units(estimator, y),
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, labels=None):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        labels : bool, optional
            Write the level beside each point; by default for up to 40 levels in one panel.

        Returns
        -------
        self
        """
        effects, n_levels = list(self.mixed), len(self.mixed)
        pairs = list(combinations(effects, 2))
        n = max(len(pairs), 1)
        if labels is None:
            labels = n == 1 and n_levels <= MAX_LABELS
        height = 5.0 if pairs else float(np.clip(1.4 + 0.22 * n_levels, 2.6, 9))
        self.figure_, axes = panels(ax, (1, n), (0.6 + 4.8 * n, height))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        if pairs:
            self.lines_ = [
                self._draw_pair(panel, *pair) for panel, pair in zip(self.axes_, pairs, strict=True)
            ]
        else:
            self.lines_ = [self._draw_single(self.ax_, *effects)]
        self._finish(pairs, labels, ax)
        return self

    def _draw_pair(self, panel, across, up):
        start, end = self.within[[across, up]].to_numpy(), self.mixed[[across, up]].to_numpy()
        dense = len(end) > _DENSE
        size = 1.5 if dense else 3 if len(end) > MAX_LABELS else 5
        if dense:
            self._density(panel, start)
        else:
            panel.plot(*start.T, "o", color=WITHIN, markersize=size, markeredgewidth=0,
                       label="within the level")  # fmt: skip
        (points,) = panel.plot(*end.T, "o", color=accent(panel), markersize=size, markeredgewidth=0,
                               alpha=0.5 if dense else 1.0, label="mixed model")  # fmt: skip
        _arrows(panel, start, end, 40 if dense else _ARROWS)
        panel.plot(*self.population[[across, up]], "P", color=ink(panel), markersize=9,
                   markeredgecolor=background(panel), zorder=4, label="population")  # fmt: skip
        panel.margins(0.1)
        panel.set_xlabel(self._label(across))
        panel.set_ylabel(self._label(up))
        return points

    def _density(self, panel, start):
        """How many levels have their own estimates where; a few far away are left out."""
        known = start[np.isfinite(start).all(axis=1)]
        low, high = np.quantile(known, [_TAIL, 1 - _TAIL], axis=0)
        inside = ((known >= low) & (known <= high)).all(axis=1)
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("levels", [to_pale(panel, WITHIN), WITHIN])
        cells = panel.hexbin(*known[inside].T, gridsize=40, mincnt=1, cmap=shades, bins="log",
                             linewidths=0, zorder=0)  # fmt: skip
        bar = panel.figure.colorbar(cells, ax=panel, fraction=0.04, pad=0.02, format="{x:g}")
        bar.set_label("levels, by their own estimates", fontsize=SMALL)
        bar.ax.tick_params(labelsize=SMALL)
        panel.set_xlim(*_wider(low[0], high[0]))
        panel.set_ylim(*_wider(low[1], high[1]))

    def _finish(self, pairs, labels, ax):
        """Title and legend, and when all else has its place the names of the levels."""
        lines, names = self.ax_.get_legend_handles_labels()
        legend_below(self.figure_, self.ax_, lines, names)
        caption(self, ax, f"Shrinkage of the levels of {self.mixed.index.name}")
        if not labels:
            return
        for panel, pair in zip(self.axes_, pairs, strict=False):
            start, end = self.within[list(pair)].to_numpy(), self.mixed[list(pair)].to_numpy()
            known = np.isfinite(start).all(axis=1)
            name_points(panel, *start[known].T, self.mixed.index[known], away=end[known])

    def _label(self, effect):
        """Axis label; without a fixed effect of that name the axis shows deviations."""
        label = effect_label(effect, self.units)
        return label if self.population[effect] else f"{label}, deviation"

    def _draw_single(self, panel, effect):
        order = np.argsort(self.mixed[effect].to_numpy(), kind="stable")
        within, mixed = self.within[effect].to_numpy()[order], self.mixed[effect].to_numpy()[order]
        rows = np.arange(len(mixed))
        many = len(mixed) > MAX_LABELS
        style = {"markersize": 2 if many else 6, "markeredgewidth": 0}
        zero_line(panel, self.population[effect]).set_label("population")
        if many:
            panel.hlines(rows, within, mixed, color=POPULATION, linewidth=0.4)
        else:
            _arrows(panel, np.column_stack([within, rows]), np.column_stack([mixed, rows]))
        panel.plot(within, rows, "o", color=WITHIN, label="within the level", **style)
        (points,) = panel.plot(mixed, rows, "o", color=accent(panel), label="mixed model", **style)
        level_ticks(panel, self.mixed.index[order], self.mixed.index.name)
        panel.set_xlabel(self._label(effect))
        return points


def _arrows(panel, start, end, most=_ARROWS):
    """Arrows from points to points; of many an even selection in the order of their lengths."""
    known = np.flatnonzero(np.isfinite(start + end).all(axis=1))
    if len(known) > most:
        scale = np.ptp(end[known], axis=0)
        length = np.hypot(*((end - start)[known] / np.where(scale > 0, scale, 1.0)).T)
        known = known[np.argsort(length)[np.linspace(0, len(known) - 1, most).astype(int)]]
    for k in known:
        panel.annotate(
            "", end[k], start[k], zorder=1.5,
            arrowprops={"arrowstyle": "-|>", "mutation_scale": 7, "linewidth": 0.7, "shrinkA": 1,
                        "shrinkB": 2, "color": data_ink(panel)},
        )  # fmt: skip


def _wider(low, high):
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _within(estimator, X, y, group):
    """Least-squares deviations (levels, effects) within each level, given the rest of the model."""
    terms, rows = random_terms_of(estimator, X)
    others = {term.group for term in terms} - {group}
    rest = y[rows] - mean_of(estimator, X, others)[rows]
    own = [term for term in terms if term.group == group]
    z = np.hstack([term.z for term in own])
    names = [name for term in own for name in term.names]
    weights = weights_of(estimator, X)[rows]
    levels = estimator.labels_.levels[group]
    return pd.DataFrame(_by_level(z, rest, weights, own[0].codes, len(levels)), levels, names)


def _by_level(z, y, weights, codes, n_levels):
    """Weighted least squares of y on z within each level; NaN where z is rank deficient there."""
    seen = codes >= 0
    half = np.sqrt(weights[seen])[:, None]
    z, y, codes = z[seen] * half, y[seen, None] * half, codes[seen]
    s = z.shape[1]
    gram = np.zeros((n_levels, s, s + 1))
    np.add.at(gram, codes, z[:, :, None] * np.hstack([z, y])[:, None, :])
    size = np.sqrt(np.einsum("lii->li", gram[:, :, :s]))
    size[size == 0] = 1.0
    scaled = gram[:, :, :s] / (size[:, :, None] * size[:, None, :])
    good = np.linalg.eigvalsh(scaled)[:, 0] > 1e-10
    result = np.full((n_levels, s), np.nan)
    right = (gram[good, :, s] / size[good])[:, :, None]
    result[good] = np.linalg.solve(scaled[good], right)[:, :, 0] / size[good]
    return result
