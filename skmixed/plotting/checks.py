"""One picture of what check_model looked at."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from skmixed.inference.check import check_model
from skmixed.plotting import _check_panels as draw
from skmixed.plotting._panels import panels
from skmixed.plotting._rows import opens_pipelines
from skmixed.plotting._style import POPULATION, WITHIN, plain

_WIDTH, _HEIGHT, _COLUMNS = 3.9, 3.2, 3
# Effects and grouping factors that have panels of their own unless they are asked for by name.
_MOST = 4
_TONES = {"ok": "#009E73", "look": "#B87700", "problem": WITHIN, "not checked": POPULATION}


class Panel(NamedTuple):
    """A title, what draws it, and the checks whose verdicts stand above it."""

    title: str
    draw: object
    checks: tuple


class ModelCheckDisplay:
    """Panels of what a :class:`~skmixed.inference.ModelCheck` looked at.

    Above every panel stand the verdicts of the checks that look at it. Grey bands hold all points
    of 95 % of samples at once; orange lines are smooth (lowess).

    It is recommended to use :meth:`from_estimator` or :meth:`from_check`.

    Parameters
    ----------
    check : ModelCheck

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per panel; ``ax_`` is the first.
    panels_ : tuple of str
        Names of the panels.
    lines_ : list
        The points, lines or bars of every panel.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.plotting import ModelCheckDisplay
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(df)
    >>> display = ModelCheckDisplay.from_estimator(model, df, random_state=0)
    >>> display.panels_[:3]
    ('simulated', 'fitted', 'scale')
    """

    def __init__(self, check):
        self.check = check

    @classmethod
    @opens_pipelines
    def from_estimator(cls, estimator, X, y=None, *, panels=None, ax=None, **kwargs):
        """Check a fitted mixed model and draw what that looked at.

        Parameters
        ----------
        estimator : fitted linear or generalised mixed model
        X : DataFrame or array of n rows
            The rows of the fit.
        y : (n,), optional
            Their response, for a model whose formula does not name it.
        panels : list of str, optional
            As for :meth:`plot`.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :func:`~skmixed.inference.check_model`.

        Returns
        -------
        ModelCheckDisplay
        """
        return cls.from_check(check_model(estimator, X, y, **kwargs), panels=panels, ax=ax)

    @classmethod
    def from_check(cls, check, *, panels=None, ax=None):
        """Draw what :func:`~skmixed.inference.check_model` returned.

        Parameters
        ----------
        check : ModelCheck
        panels : list of str, optional
            As for :meth:`plot`.
        ax : Axes or array of Axes, optional

        Returns
        -------
        ModelCheckDisplay
        """
        return cls(check).plot(panels=panels, ax=ax)

    def plot(self, ax=None, *, panels=None):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
        panels : list of str, optional
            Among ``simulated``, ``fitted``, ``scale`` or ``binned``, ``residuals``,
            ``"Intercept | Subject"`` (the effects), ``influence``, ``inflation``, ``predictive``
            and ``shrinkage | Subject``; by default all, of at most four effects and factors.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a panel that the model does not have.
        """
        known = _panels_of(self.check)
        names = _chosen(known, panels)
        columns = min(_COLUMNS, len(names))
        shape = (-(-len(names) // columns), columns)
        self.figure_, self.axes_ = _axes(ax, shape, len(names))
        self.ax_, self.panels_ = self.axes_[0], tuple(names)
        self.lines_ = []
        for panel, name in zip(self.axes_, names, strict=True):
            self.lines_.append(known[name].draw(panel, self.check))
            _titles(panel, known[name], self.check.table)
            panel.spines[["top", "right"]].set_visible(False)
        return self


def _axes(ax, shape, n):
    """(figure, n Axes); those of a new figure that are left over are removed."""
    if ax is not None and np.asarray(ax, dtype=object).size == n:
        axes = np.asarray(ax, dtype=object).ravel()
        return axes[0].figure, axes
    figure, axes = panels(ax, shape, (_WIDTH * shape[1], _HEIGHT * shape[0]))
    if ax is None:
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    for unused in axes.ravel()[n:]:
        unused.remove()
    return figure, axes.ravel()[:n]


def _panels_of(check):
    """{name: Panel} of everything that a check can show."""
    found = {
        "simulated": Panel(
            "Simulated residuals", draw.quantiles_uniform, ("uniformity", "outliers", "extremes")
        ),
        "fitted": Panel("Residuals by fitted value", draw.residuals_fitted, ("link", "curvature")),
    }
    if check.response == "binary":
        found["binned"] = Panel("Binned residuals", draw.binned_residuals, ())
    else:
        spread = ("dispersion", "overdispersion")
        found["scale"] = Panel("Spread by fitted value", draw.scale_location, spread)
    if check.is_linear:
        normal = ("normal residuals",)
        found["residuals"] = Panel("Normal residuals", draw.quantiles_residuals, normal)
    found["predictive"] = Panel("Observed and simulated", draw.predictive, ("zeros",))
    for name, values in check.effects.items():
        if len(values) > 2:
            own = (f"normal effects ({name})",)
            found[name] = Panel(f"Effects: {name}", draw.quantiles_effects(name), own)
    what = check.influence.index.name
    if check.influence.notna().any():
        found["influence"] = Panel(f"Influence by {what}", draw.influence, (f"influence ({what})",))
    if check.inflation["gvif"].notna().sum() > 1:
        found["inflation"] = Panel("Collinear terms", draw.inflation, ("collinearity",))
    for group, table in check.shrinkage.items():
        if table.iloc[:, 1:].notna().any(axis=None):
            own = (f"levels ({group})", "singularity")
            found[f"shrinkage | {group}"] = Panel(f"Shrinkage: {group}", draw.shrunk(group), own)
    return found


def _chosen(known, names):
    if names is not None:
        names = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ValueError(f"the check has no panels {unknown}, only {list(known)}")
        return names
    several = [name for name in known if " | " in name]
    effects = [name for name in several if not name.startswith("shrinkage | ")]
    left_out = {*effects[_MOST:], *[n for n in several if n not in effects][_MOST:]}
    return [name for name in known if name not in left_out]


def _titles(ax, panel, table):
    """The title, and under it the verdicts in words, each in its colour."""
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

    ax.set_title(plain(panel.title), loc="left", fontsize=11, fontweight="bold", pad=20)
    rows = [(name, table.loc[name]) for name in panel.checks if name in table.index]
    words = [
        TextArea(_words(name, row), textprops={"color": _TONES[row["verdict"]], "fontsize": 8.5})
        for name, row in rows
    ]
    if words:
        line = HPacker(children=words, pad=0, sep=8)
        box = AnchoredOffsetbox(
            "lower left", child=line, frameon=False, pad=0, borderpad=0.3, bbox_to_anchor=(0, 1),
            bbox_transform=ax.transAxes,
        )  # fmt: skip
        box.set_in_layout(False)  # or long words would widen the panel's column
        ax.add_artist(box)


def _words(name, row):
    """A check with its p-value or its verdict."""
    p = row["p_value"]
    end = row["verdict"] if pd.isna(p) else "p < 0.001" if p < 0.001 else f"p {p:.3f}"
    return f"{name.split(' (')[0]} {end}"
