"""Profiles of the deviance: zeta against the parameter."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from skmixed.inference.intervals import component_name
from skmixed.inference.limits import limits_of
from skmixed.plotting._panels import choose_group, effect_scale, effect_units, panels, wrapped
from skmixed.plotting._rows import curves_of, opens_pipelines
from skmixed.plotting._style import MIXED, accent, caption, data_ink, ink, plain, zero_line


class ProfileDisplay:
    """Signed roots of the profiled deviance, one panel per parameter.

    Zeta is the root of what the deviance of maximum likelihood rises above its minimum when the
    parameter is held at a value and all others are at their best, with the sign of the distance
    from the estimate. Where normal theory holds it is a straight line (dashed, the tangent at the
    estimate); a bend says that symmetric intervals are wrong. Limits are where zeta is the quantile
    of the standard normal distribution. A curve that ends before reaching it ends at a bound, such
    as a standard deviation of zero.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    curves : dict of str to (m, 2) array
        Values of every parameter in order, and zeta.
    limits : DataFrame
        With estimate, lower and upper by parameter.
    level : float
        Coverage of the limits.
    units : dict of str to str
        Of the parameters.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per parameter; ``ax_`` is the first.
    lines_ : list of Line2D
        The curves.

    References
    ----------
    Bates and Watts (1988), Nonlinear Regression Analysis and Its Applications, chapter 6.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_dyestuff
    >>> from skmixed.plotting import ProfileDisplay
    >>> df = load_dyestuff().frame
    >>> model = MixedLinearRegressor("Yield ~ 1 + (1 | Batch)").fit(df)
    >>> display = ProfileDisplay.from_estimator(model)
    >>> display.limits.round(1)
                          estimate   lower   upper
    parameter
    Intercept               1527.5  1486.5  1568.5
    sd_(Intercept)|Batch      37.3    12.2    84.1
    sigma                     49.5    38.2    67.7
    """

    def __init__(self, curves, limits, *, level=0.95, units=None):
        self.curves = curves
        self.limits = limits
        self.level = level
        self.units = units

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, X=None, y=None, *, parameters=None, level=0.95, points=10, groups=None,
        sample_weight=None, ax=None, color=MIXED,
    ):  # fmt: skip
        """Plot the profiles of a fitted mixed model.

        Parameters
        ----------
        estimator : fitted mixed model
        X, y, groups, sample_weight : optional
            The data of the fit, which generalised models need.
        parameters : str or list of str, optional
            Names as in the index of ``confint`` of the model, by default all.
        level : float, default 0.95
            Coverage of the limits; curves go a little beyond them.
        points : int
            Of every curve on either side of the estimate, three or four evaluations of the
            deviance each.
        ax : Axes or array of Axes, optional
        color : color

        Returns
        -------
        ProfileDisplay

        Raises
        ------
        ValueError
            For unknown parameters, and as ``confint(method="profile")`` of the model.
        """
        choose_group(estimator, None)
        data = X, y, groups, sample_weight
        limits, curves = curves_of(estimator, parameters, level, points, data)
        known = {name: curve for name, curve in curves.items() if len(curve) > 1}
        if not known:
            raise ValueError(f"none of {list(limits.index)} has a profile")
        units = _units(estimator)
        return cls(known, limits, level=level, units=units).plot(ax=ax, color=color)

    def plot(self, ax=None, *, color=MIXED):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        color : color
            Of the curves.

        Returns
        -------
        self
        """
        count = len(self.curves)
        columns = min(count, 3)
        shape = (-(-count // columns), columns)
        size = (0.6 + 2.9 * columns, 0.3 + 2.6 * shape[0])
        self.figure_, axes = panels(ax, shape, size, sharey=True)
        for spare in axes.ravel()[count:]:
            spare.set_axis_off()
        self.axes_ = axes.ravel()[:count]
        self.ax_ = self.axes_[0]
        self.lines_ = [
            self._draw(panel, name, color)
            for panel, name in zip(self.axes_, self.curves, strict=True)
        ]
        for panel in self.axes_[::columns]:
            panel.set_ylabel("zeta")
        caption(self, ax, f"Profiles with {100 * self.level:g} % limits")
        return self

    def _draw(self, panel, name, color):
        values, zeta = self.curves[name].T
        estimate, *ends = self.limits.loc[name, ["estimate", "lower", "upper"]]
        at = int(np.searchsorted(values, estimate))
        zero_line(panel, across=True)
        if 0 < at < len(values) - 1:
            slope = np.gradient(zeta, values)[at]
            panel.axline(
                (estimate, 0.0), slope=slope, color=data_ink(panel), linewidth=0.8, linestyle="--"
            )
        (line,) = panel.plot(values, zeta, color=accent(panel, color), linewidth=1.8)
        panel.plot(estimate, 0.0, "o", color=ink(panel), markersize=4)
        for limit, side in zip(ends, (-1, 1), strict=True):
            if values[0] <= limit <= values[-1]:
                _mark(panel, limit, float(np.interp(limit, values, zeta)), side)
        reach = 1.35 * np.sqrt(chi2.ppf(self.level, 1))
        room = 0.04 * (values[-1] - values[0])
        panel.set_xlim(values[0] - room, values[-1] + room)
        panel.set_ylim(-reach, reach)
        panel.set_title(plain(name), fontsize=10 if len(name) < 32 else 8)
        panel.set_xlabel(wrapped((self.units or {}).get(name, ""), 32))
        return line


def _mark(panel, limit, zeta, side):
    """A limit: a line from 0 to the curve, and its value on the side where the curve is not."""
    panel.vlines(limit, min(zeta, 0.0), max(zeta, 0.0), color=ink(panel), linewidth=0.8)
    panel.annotate(
        f"{limit:.4g}", (limit, 0.0), xytext=(4 * side, -4 * side), textcoords="offset points",
        ha="right" if side > 0 else "left", va="top" if side > 0 else "bottom", fontsize=9,
    )  # fmt: skip


def _units(estimator):
    """Units of every parameter by name."""
    fit, units = estimator.result_, effect_units(estimator)
    found = {name: effect_scale(name, units) for name in fit.names}
    for c in limits_of(fit).components:
        own = {"sd": units, "sigma": units, "cor": "correlation"}.get(c.kind, "")
        if c.kind == "sd":
            own = effect_scale(fit.source.random[c.term][1][c.effects[0]], units)
        found[component_name(fit, c)] = own
    return found
