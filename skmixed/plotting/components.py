"""Standard deviations of the random effects and of the residual with intervals."""

from __future__ import annotations

import pandas as pd

from skmixed.inference.intervals import component_name
from skmixed.inference.limits import limits_of
from skmixed.plotting._panels import choose_group, draw_forest, effect_units, scale_label
from skmixed.plotting._rows import opens_pipelines
from skmixed.plotting._style import MIXED


class VarianceComponentsDisplay:
    """Standard deviations by grouping factor and effect with their confidence intervals.

    One row per effect, and last the residual of a linear model. Slopes are per unit of their
    covariate. A standard deviation estimated as zero has no Wald interval, only a point; a profile
    interval says how large it may be.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    frame : DataFrame
        With estimate, lower and upper by group and effect; the first row at the top.
    units : str
        Units of the response.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        Of one; ``ax_`` is it.
    lines_ : list of LineCollection
        The intervals.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.plotting import VarianceComponentsDisplay
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> display = VarianceComponentsDisplay.from_estimator(model, method="profile")
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['Intercept | Subject', 'Days | Subject', 'Residual']
    """

    def __init__(self, frame, *, units="response"):
        self.frame = frame
        self.units = units

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, X=None, y=None, *, groups=None, sample_weight=None, method="wald",
        level=0.95, ax=None, color=MIXED,
    ):  # fmt: skip
        """Plot the standard deviations of a fitted mixed model.

        Parameters
        ----------
        estimator : fitted mixed model
        X, y, groups, sample_weight : optional
            The data of the fit, which profiles of generalised models need.
        method : {"wald", "profile"}
            Intervals as of ``confint`` of the model; with profiles the points are the estimates of
            maximum likelihood.
        level : float, default 0.95
            Coverage of the intervals.
        ax : Axes, optional
        color : color

        Returns
        -------
        VarianceComponentsDisplay

        Raises
        ------
        ValueError
            For a model without random effects, and as ``confint``.
        """
        choose_group(estimator, None)
        fit = estimator.result_
        shown = [c for c in limits_of(fit).components if c.kind in ("sd", "sigma")]
        frame = estimator.confint(
            [component_name(fit, c) for c in shown], method, level,
            X=X, y=y, groups=groups, sample_weight=sample_weight,
        )  # fmt: skip
        pairs = [_group_and_effect(fit, c) for c in shown]
        frame.index = pd.MultiIndex.from_tuples(pairs, names=["group", "effect"])
        return cls(frame, units=effect_units(estimator)).plot(ax=ax, color=color)

    def plot(self, ax=None, *, color=MIXED):
        """Draw the panel.

        Parameters
        ----------
        ax : Axes, optional
        color : color
            Of the intervals.

        Returns
        -------
        self
        """
        labels = [f"{effect} | {group}" if effect else group for group, effect in self.frame.index]
        effects = [effect for effect in self.frame.index.get_level_values("effect") if effect]
        label = scale_label("standard deviation", effects, self.units)
        return draw_forest(
            self, ax, self.frame, labels, label, color, "Standard deviations with intervals"
        )


def _group_and_effect(fit, component):
    if component.term is None:
        return "Residual", ""
    group, effects = fit.source.random[component.term]
    return group, effects[component.effects[0]]
