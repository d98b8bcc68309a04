"""Fixed effects with intervals: a forest plot."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.inference.intervals import find_parameters
from skmixed.plotting._panels import (
    draw_forest,
    effect_units,
    interval_height,
    panels,
    scale_label,
    wrapped,
)
from skmixed.plotting._rows import coefficients_of, models_by_name, opens_pipelines
from skmixed.plotting._style import MIXED, SERIES, accent, caption, legend_below, plain, zero_line

_TITLE = "Fixed effects with intervals"


class CoefficientsDisplay:
    """Fixed effects with their confidence intervals, one row each.

    The intercept is left out unless asked for: it is often far from the others. A column that the
    fit left out has a row without a point.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    frame : DataFrame
        With estimate, lower and upper by parameter, or by parameter and model; the first row at
        the top.
    label : str
        Of the axis of estimates.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        Of one; ``ax_`` is it.
    lines_ : list of LineCollection
        The intervals, one collection for every model.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_cake
    >>> from skmixed.plotting import CoefficientsDisplay
    >>> df = load_cake().frame
    >>> model = MixedLinearRegressor("angle ~ recipe + temp + (1 | recipe:replicate)").fit(df)
    >>> display = CoefficientsDisplay.from_estimator(model)
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['recipe[T.B]', 'recipe[T.C]', 'temp']
    """

    def __init__(self, frame, *, label="coefficient"):
        self.frame = frame
        self.label = label

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, *, parameters=None, intercept=False, ddf=None, level=0.95, ax=None,
        color=MIXED,
    ):  # fmt: skip
        """Plot the fixed effects of a fitted model.

        Parameters
        ----------
        estimator : fitted mixed model or GeneralizedInverseRegressor
        parameters : str or list of str, optional
            Names of coefficients, in the order of the rows; all by default.
        intercept : bool
            Whether the intercept has a row where ``parameters`` are not given.
        ddf : {"satterthwaite", "kenward_roger", "residual", "asymptotic"}, optional
            Degrees of freedom of the intervals, as for ``coefficients`` of the model.
        level : float, default 0.95
            Coverage of the intervals.
        ax : Axes, optional
        color : color

        Returns
        -------
        CoefficientsDisplay

        Raises
        ------
        ValueError
            For unknown parameters, a model without any to show, and as ``coefficients``.
        """
        table = coefficients_of(estimator, ddf, level)
        names = list(table.index)
        kept = find_parameters(parameters, names)
        if parameters is None and not intercept:
            kept = [j for j in kept if names[j] != "Intercept"]
        if not kept:
            raise ValueError(
                "the model has no fixed effect to plot but the intercept: pass intercept=True"
            )
        table = table.iloc[kept]
        label = scale_label("coefficient", table.index, effect_units(estimator))
        return cls(table, label=label).plot(ax=ax, color=color)

    @classmethod
    def from_estimators(
        cls, models, *, parameters=None, intercept=False, ddf=None, level=0.95, ax=None
    ):
        """Plot the fixed effects of several models side by side.

        Parameters
        ----------
        models : dict of fitted models by name, or a list of them
        parameters, intercept, ddf, level, ax
            As for :meth:`from_estimator`; a model has no row for a parameter that it lacks.

        Returns
        -------
        CoefficientsDisplay
            Its ``frame`` has the index (parameter, model).
        """
        models = models_by_name(models)
        tables = {name: coefficients_of(m, ddf, level) for name, m in models.items()}
        names = list(dict.fromkeys(name for table in tables.values() for name in table.index))
        kept = [names[j] for j in find_parameters(parameters, names)]
        if parameters is None and not intercept:
            kept = [name for name in kept if name != "Intercept"]
        rows = {
            (parameter, name): table.loc[parameter, ["estimate", "lower", "upper"]]
            for parameter in kept
            for name, table in tables.items()
            if parameter in table.index
        }
        if not rows:
            raise ValueError(
                "the models have no fixed effect to plot but the intercept: pass intercept=True"
            )
        frame = pd.DataFrame(list(rows.values()))
        frame.index = pd.MultiIndex.from_tuples(rows, names=["parameter", "model"])
        units = {effect_units(model) for model in models.values()}
        label = scale_label("coefficient", kept, units.pop()) if len(units) == 1 else "coefficient"
        return cls(frame.astype(float), label=label).plot(ax=ax)

    def plot(self, ax=None, *, color=MIXED):
        """Draw the panel.

        Parameters
        ----------
        ax : Axes, optional
        color : color
            Of the intervals of one model; several have a colour each.

        Returns
        -------
        self
        """
        if self.frame.index.nlevels == 1:
            return draw_forest(self, ax, self.frame, self.frame.index, self.label, color, _TITLE)
        return self._draw_models(ax)

    def _draw_models(self, ax):
        """One row for every parameter, and in it one interval for every model."""
        parameters = list(dict.fromkeys(self.frame.index.get_level_values(0)))
        models = list(dict.fromkeys(self.frame.index.get_level_values(1)))
        height = interval_height(len(parameters) * (1 + len(models)) / 2) + 0.4
        self.figure_, axes = panels(ax, (1, 1), (5.8, height))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        zero_line(self.ax_)
        rows = dict(zip(parameters, range(len(parameters))[::-1], strict=True))
        self.lines_ = []
        for k, name in enumerate(models):
            own = self.frame.xs(name, level=1)
            at = np.array([rows[p] for p in own.index]) + 0.7 * (0.5 - (k + 0.5) / len(models))
            color = accent(self.ax_, SERIES[k % len(SERIES)])
            style = {"color": color, "linewidth": 2}
            self.lines_.append(self.ax_.hlines(at, own["lower"], own["upper"], **style))
            self.ax_.plot(own["estimate"], at, "o", color=color, markersize=5, label=plain(name))
        self.ax_.set_yticks(list(rows.values()), [plain(name) for name in rows])
        self.ax_.set_ylim(-0.7, len(parameters) - 0.3)
        self.ax_.set_xlabel(wrapped(self.label, 48))
        caption(self, ax, _TITLE)
        legend_below(self.figure_, self.ax_, *self.ax_.get_legend_handles_labels())
        return self
