"""Fixed effects with intervals: a forest plot."""

from __future__ import annotations

from skmixed.inference.intervals import find_parameters
from skmixed.plotting._panels import draw_forest, effect_units, scale_label
from skmixed.plotting._rows import coefficients_of
from skmixed.plotting._style import MIXED


class CoefficientsDisplay:
    """Fixed effects with their confidence intervals, one row each.

    The intercept is left out unless asked for: it is often far from the others. A column that the
    fit left out has a row without a point.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    frame : DataFrame
        With estimate, lower and upper by parameter; the first row at the top.
    label : str
        Of the axis of estimates.

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
        return draw_forest(self, ax, self.frame, self.frame.index, self.label, color)
