"""From the estimates of every level on its own to the conditional modes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from skmixed.plotting._panels import (
    MAX_LABELS,
    MIXED,
    POPULATION,
    WITHIN,
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
    random_terms_of,
    response_of,
    weights_of,
)


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
        height = 4.6 if pairs else float(np.clip(1.4 + 0.22 * n_levels, 2.6, 9))
        self.figure_, axes = panels(ax, (1, n), (0.6 + 4.8 * n, height))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        if pairs:
            self.lines_ = [
                self._draw_pair(panel, *pair, labels)
                for panel, pair in zip(self.axes_, pairs, strict=True)
            ]
        else:
            self.lines_ = [self._draw_single(self.ax_, *effects)]
        return self

    def _draw_pair(self, panel, across, up, labels):
        x0, y0 = self.within[across].to_numpy(), self.within[up].to_numpy()
        x1, y1 = self.mixed[across].to_numpy(), self.mixed[up].to_numpy()
        many = len(x1) > 200
        small = 2 if many else 5
        panel.quiver(
            x0, y0, x1 - x0, y1 - y0, angles="xy", scale_units="xy", scale=1, width=0.003,
            color=POPULATION, alpha=0.3 if many else 0.8, zorder=1,
        )  # fmt: skip
        panel.plot(x0, y0, "o", color=WITHIN, markersize=small, label="within the level")
        (points,) = panel.plot(x1, y1, "o", color=MIXED, markersize=small, label="mixed model")
        panel.plot(
            *self.population[[across, up]], "P", color="black", markersize=9, label="population"
        )
        if labels:
            for level, x, y in zip(self.mixed.index, x0, y0, strict=True):
                if np.isfinite(x + y):
                    panel.annotate(
                        str(level), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7
                    )
        panel.margins(0.1)
        panel.set_xlabel(self._label(across))
        panel.set_ylabel(self._label(up))
        if panel is self.ax_:
            panel.legend(loc="best", fontsize=8)
        return points

    def _label(self, effect):
        """Axis label; without a fixed effect of that name the axis shows deviations."""
        label = effect_label(effect, self.units)
        return label if self.population[effect] else f"{label}, deviation"

    def _draw_single(self, panel, effect):
        order = np.argsort(self.mixed[effect].to_numpy(), kind="stable")
        within, mixed = self.within[effect].to_numpy()[order], self.mixed[effect].to_numpy()[order]
        rows = np.arange(len(mixed))
        small = 2 if len(mixed) > MAX_LABELS else 6
        panel.axvline(self.population[effect], color="black", linewidth=0.8, label="population")
        panel.hlines(rows, within, mixed, color=POPULATION, linewidth=1)
        panel.plot(within, rows, "o", color=WITHIN, markersize=small, label="within the level")
        (points,) = panel.plot(mixed, rows, "o", color=MIXED, markersize=small, label="mixed model")
        level_ticks(panel, self.mixed.index[order], self.mixed.index.name)
        panel.set_xlabel(self._label(effect))
        panel.legend(loc="best", fontsize=8)
        return points


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
