"""Smooth functions with bands."""

from __future__ import annotations

import numpy as np

from skmixed.inference.smooths import chosen_terms, smooth_curves
from skmixed.plotting._panels import effect_units, panels, wrapped
from skmixed.plotting._rows import as_pandas, is_linear, opens_pipelines, smoothed_rows
from skmixed.plotting._style import MIXED, SERIES, accent, data_ink, plain, zero_line

# Lines of one panel, apart for colour-blind readers (Okabe and Ito).
_COLORS = SERIES
# Curves above which levels are not told apart by colour.
_MANY = len(_COLORS)


class SmoothDisplay:
    """Curves of smooth terms ``s(x)`` with pointwise bands.

    A curve is centred, its mean over the rows of the fit being 0, and holds its straight line.
    The levels of ``s(x, by=g)`` have a panel each, or a line each in one panel. The band of a
    curve is about the curve itself; it knows nothing of the intercept.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    curves : DataFrame
        As :func:`skmixed.inference.smooth_curves` returns it.
    rows : DataFrame with columns term, curve, x and residual, optional
        Rows of the data: their values of x, and partial residuals or NaN.
    units : str
        Units of the linear predictor, for the labels.
    labels : dict, optional
        Label of x by term.
    by : dict, optional
        The column ``by`` of a term.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        ``ax_`` is the first.
    lines_ : list of Line2D
        The curves, in the order of ``curves``.
    bands_ : list of PolyCollection

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.plotting import SmoothDisplay
    >>> x = np.linspace(0, 6, 60)
    >>> df = pd.DataFrame({"x": x, "y": np.sin(x) + 0.2 * np.cos(40 * x)})
    >>> display = SmoothDisplay.from_estimator(MixedLinearRegressor("y ~ s(x)").fit(df), df)
    >>> len(display.lines_), display.ax_.get_xlabel()
    (1, 'x')
    """

    def __init__(self, curves, *, rows=None, units="response", labels=None, by=None):
        self.curves = curves
        self.rows = rows
        self.units = units
        self.labels = labels or {}
        self.by = by or {}

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, X=None, y=None, *, term=None, residuals=False, points=200, level=0.95,
        groups=None, ax=None, **kwargs,
    ):  # fmt: skip
        """Plot the smooth terms of a fitted mixed model.

        Parameters
        ----------
        estimator : fitted mixed model
        X : DataFrame, optional
            Rows whose values of x are marked below the curves, such as the data of the fit.
        y : (n,), optional
            The response of X, where the formula does not name it.
        term : str, optional
            Such as ``"s(x)"``; all smooth terms by default.
        residuals : bool
            Draw partial residuals of the rows of X, the curve plus the residual: linear models.
        points : int
            On every curve.
        level : float
            Of the pointwise band.
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        SmoothDisplay
        """
        chosen = chosen_terms(estimator, term)
        curves = smooth_curves(estimator, term, points=points, level=level)
        if residuals and (X is None or not is_linear(estimator)):
            raise ValueError(
                "partial residuals are drawn of a linear model and of rows X that are passed with "
                "it; those of generalised models have another scale"
            )
        rows = None
        if X is not None:
            X = as_pandas(X, cls.__name__)
            rows = smoothed_rows(estimator, X, y, groups, residuals)
            rows = rows[rows["term"].isin(chosen)]
        terms = [spec for spec in estimator.design_spec_.terms.random if spec.is_smooth]
        return cls(
            curves,
            rows=rows,
            units=effect_units(estimator, y),
            labels={spec.group: spec.argument.replace("`", "") for spec in terms},
            by={spec.group: spec.by_column for spec in terms if spec.by},
        ).plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, overlay=False, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        overlay : bool
            All levels of a factor ``by`` in one panel.
        color : color
            Of curves that have a panel of their own.

        Returns
        -------
        self
        """
        curves = self._curves()
        keys = [name if overlay else (name, curve) for name, curve, _ in curves]
        places = list(dict.fromkeys(keys))
        columns = min(len(places), 3)
        shape = (-(-len(places) // columns), columns)
        size = (1.2 + 3.1 * columns, 0.6 + 2.7 * shape[0])
        self.figure_, axes = panels(ax, shape, size)
        for spare in axes.ravel()[len(places) :]:
            spare.set_axis_off()
        self.axes_ = axes.ravel()[: len(places)]
        self.ax_ = self.axes_[0]
        self.lines_, self.bands_ = [], []
        for key, (name, curve, table) in zip(keys, curves, strict=True):
            panel = self.axes_[places.index(key)]
            self._draw(panel, name, curve, table, self._color(overlay, name, color))
        self._finish(overlay)
        return self

    def _curves(self):
        """(term, curve, its table) in the order of ``curves``."""
        keys = list(zip(self.curves["term"], self.curves["curve"], strict=True))
        return [
            (name, curve, self.curves[[key == (name, curve) for key in keys]])
            for name, curve in dict.fromkeys(keys)
        ]

    def _color(self, overlay, name, color):
        if not overlay or name not in self.by:
            return color
        drawn = sum(line.get_gid() == name for line in self.lines_)
        return _COLORS[drawn % _MANY]

    def _draw(self, panel, name, curve, table, color):
        color, x = accent(panel, color), table["x"].to_numpy()
        rows = self._rows_of(name, curve)
        if rows is not None:
            known = np.isfinite(rows["residual"].to_numpy())
            panel.plot(rows["x"][known], rows["residual"][known], ".", color=data_ink(panel),
                       markersize=3, alpha=0.6, zorder=1)  # fmt: skip
            panel.plot(rows["x"], np.full(len(rows), 0.025), "|", color=color, markersize=6,
                       alpha=0.5, transform=panel.get_xaxis_transform())  # fmt: skip
        zero_line(panel, across=True, strong=False)
        band = panel.fill_between(x, table["lower"], table["upper"], color=color, alpha=0.2,
                                  linewidth=0)  # fmt: skip
        label = "" if curve is None else f"{self.by[name]} = {curve}"
        (line,) = panel.plot(x, table["estimate"], color=color, linewidth=1.8, label=plain(label))
        line.set_gid(name)
        self.lines_.append(line)
        self.bands_.append(band)
        panel.set_xlabel(plain(self.labels.get(name, "x")))
        panel.set_title(plain(label), fontsize=10)
        what = f"coefficient of {self.by[name]}" if name in self.by and curve is None else name
        panel.set_ylabel(wrapped(f"{what}  ({self.units})", 34))

    def _rows_of(self, name, curve):
        """The rows of one curve, or None."""
        if self.rows is None:
            return None
        own = self.rows["term"] == name
        return self.rows[own if curve is None else own & (self.rows["curve"] == curve)]

    def _finish(self, overlay):
        """Legends of panels with several lines, and one scale for the curves of a term."""
        by_term = {}
        for line in self.lines_:
            by_term.setdefault(line.get_gid(), []).append(line.axes)
        for name, axes in by_term.items():
            axes = list(dict.fromkeys(axes))
            limits = np.array([panel.get_ylim() for panel in axes])
            for k, panel in enumerate(axes):
                panel.set_ylim(limits[:, 0].min(), limits[:, 1].max())
                if k:
                    panel.set_ylabel("")
            if overlay and name in self.by and len(by_term[name]) > 1:
                axes[0].set_title("")
                axes[0].legend(fontsize=8, frameon=False)
