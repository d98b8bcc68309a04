"""What the model expects along a covariate or factor, with bands: marginal effects."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from skmixed.inference.means import emmeans
from skmixed.plotting._bins import binned_shares, draw_shares, equal_parts
from skmixed.plotting._panels import panels, response_name
from skmixed.plotting._rows import as_pandas, has_events, opens_pipelines, response_of
from skmixed.plotting._style import LABEL, SERIES, SMALL, accent, caption, data_ink, legend_below

# Places of a curve; parts of the rows in which shares of events are drawn.
_POINTS, _PARTS = 50, 10
# Most panels side by side, and most rows that are drawn one by one.
_COLUMNS, _ROWS = 3, 5000


class MarginalEffectsDisplay:
    """Expected responses along a covariate, or by levels of a factor, with confidence bands.

    Means of :func:`~skmixed.inference.emmeans`: other covariates are at their means, other factors
    averaged over their levels, random effects zero. Lines that are not parallel show an
    interaction. Rows of the data may stand behind them as they are, not adjusted for the other
    variables; zeros and ones as shares in parts of the rows with 95 % intervals.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    frame : DataFrame
        Columns x, estimate, lower and upper, and one for each name in ``by``.
    x : str
        The variable along the axis, of numbers or of levels.
    by : tuple of str
        Of none, one or two: the first has a line for each of its values, the second a panel.
    rows : DataFrame, optional
        Columns x, y, and those of ``by``: the data.
    events : bool
        Whether y are zeros and ones.
    level : float
        Of the intervals.
    response : str

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        One per value of the second of ``by``; ``ax_`` is the first.
    lines_ : list of Line2D
        One for every value of ``by``.
    bands_ : list
        The bands, or the intervals of levels, in the same order.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_cake
    >>> from skmixed.plotting import MarginalEffectsDisplay
    >>> df = load_cake().frame
    >>> model = MixedLinearRegressor("angle ~ recipe * temp + (1 | recipe:replicate)").fit(df)
    >>> display = MarginalEffectsDisplay.from_estimator(model, "temp", by="recipe")
    >>> [line.get_label() for line in display.lines_]
    ['recipe = A', 'recipe = B', 'recipe = C']
    """

    def __init__(self, frame, *, x, by=(), rows=None, events=False, level=0.95,
                 response="response"):  # fmt: skip
        self.frame = frame
        self.x = x
        self.by = tuple(by)
        self.rows = rows
        self.events = events
        self.level = level
        self.response = response

    @classmethod
    @opens_pipelines
    def from_estimator(
        cls, estimator, x, by=None, *, X=None, y=None, at=None, points=_POINTS, level=0.95,
        ddf=None, weights="equal", ax=None, **kwargs,
    ):  # fmt: skip
        """Plot the marginal effect of a variable, or its interaction with others.

        Parameters
        ----------
        estimator : fitted mixed model or GeneralizedInverseRegressor
        x : str
            A covariate or factor of the fixed effects.
        by : str or list of str, optional
            One or two others: of a factor every level; of a covariate its smallest, mean and
            largest value unless ``at`` has others.
        X : DataFrame, optional
            Rows to draw behind the lines, such as those of the fit.
        y : (n,), optional
            Their response, for a model whose formula does not name it.
        at : dict, optional
            Values by name, also of variables that are neither x nor in ``by``.
        points : int
            Of every curve along a covariate.
        level : float, default 0.95
            Of the pointwise band.
        ddf, weights : str
            As for :func:`~skmixed.inference.emmeans`.
        ax : Axes or array of Axes, optional
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        MarginalEffectsDisplay

        Raises
        ------
        ValueError
            For names that are not in the fixed effects, and as ``emmeans``.
        """
        if not isinstance(x, str):
            raise ValueError(
                f"x must be the name of a variable, got {type(x).__name__}: rows to draw behind "
                "the lines are X="
            )
        by = [by] if isinstance(by, str) else list(by or ())
        if len(by) > 2 or x in by:
            raise ValueError(f"by takes one or two names other than x, got {by}")
        places = _places(estimator, x, by, at, points)
        options = {"at": places, "level": level, "ddf": ddf, "weights": weights}
        means = emmeans(estimator, [x], by or None, scale="response", **options)
        frame = means.frame.reset_index()[[x, *by, "estimate", "lower", "upper"]]
        rows = events = None
        if X is not None:
            X = as_pandas(X, cls.__name__)
            response = response_of(estimator, X, y)
            rows = X[[x, *by]].rename(columns={x: "x"}).assign(y=response).dropna()
            events = has_events(estimator, rows["y"])
        return cls(
            frame.rename(columns={x: "x"}), x=x, by=by, rows=rows, events=bool(events),
            level=level, response=response_name(estimator, y),
        ).plot(ax=ax, **kwargs)  # fmt: skip

    def plot(self, ax=None):
        """Draw the panels.

        Parameters
        ----------
        ax : Axes or array of Axes, optional

        Returns
        -------
        self
        """
        inner = self._values(self.by[:1])
        outer = self._values(self.by[1:])
        columns = min(len(outer), _COLUMNS)
        shape = (-(-len(outer) // columns), columns)
        size = (1.6 + 3.6 * columns, 1.1 + 3.0 * shape[0])
        self.figure_, axes = panels(ax, shape, size, sharex=True, sharey=True)
        for spare in axes.ravel()[len(outer) :]:
            spare.set_axis_off()
        self.axes_ = axes.ravel()[: len(outer)]
        self.ax_ = self.axes_[0]
        self.lines_, self.bands_ = [], []
        for (panel, last), (at, first) in product(
            zip(self.axes_, outer, strict=True), enumerate(inner)
        ):
            self._draw(panel, at, len(inner), [*first, *last])
        self._label(outer, columns, ax)
        return self

    def _values(self, names):
        """The values of a name as lists of one, or an empty list where there is no name."""
        return [[value] for name in names for value in dict.fromkeys(self.frame[name])] or [[]]

    def _of(self, table, values):
        """The rows of a table at values of ``by``; of covariates those nearest to them."""
        keep = np.ones(len(table), dtype=bool)
        for name, value in zip(self.by, values, strict=False):
            own = table[name].to_numpy()
            known = list(dict.fromkeys(self.frame[name]))
            if table is self.rows and pd.api.types.is_numeric_dtype(self.frame[name]):
                gaps = np.abs(own[:, None].astype(float) - np.array(known, dtype=float))
                own = np.array(known)[gaps.argmin(axis=1)]
            keep &= own.astype(object) == value
        return table[keep]

    def _draw(self, panel, at, n, values):
        color = accent(panel, SERIES[at % len(SERIES)])
        curve = self._of(self.frame, values)
        label = f"{self.by[0]} = {_text(values[0])}" if self.by else "expected"
        if self.rows is not None:
            tone = data_ink(panel) if n == 1 else color
            self._draw_rows(panel, self._of(self.rows, values), tone, at, n)
        if self._is_numeric:
            band = panel.fill_between(curve["x"], curve["lower"], curve["upper"], color=color,
                                      alpha=0.2, linewidth=0)  # fmt: skip
            (line,) = panel.plot(curve["x"], curve["estimate"], color=color, linewidth=2,
                                 label=label)  # fmt: skip
        else:
            places = self._places(curve["x"], at, n)
            band = panel.vlines(places, curve["lower"], curve["upper"], color=color, linewidth=4,
                                alpha=0.4)  # fmt: skip
            (line,) = panel.plot(places, curve["estimate"], "o-", color=color, markersize=5,
                                 linewidth=1, label=label)  # fmt: skip
        self.lines_.append(line)
        self.bands_.append(band)

    @property
    def _is_numeric(self):
        return pd.api.types.is_numeric_dtype(self.frame["x"])

    def _places(self, x, at, n):
        """Places of levels along the axis, series side by side."""
        known = [str(value) for value in dict.fromkeys(self.frame["x"])]
        found = np.array(
            [known.index(str(value)) if str(value) in known else np.nan for value in x]
        )
        return found + 0.5 * ((at + 0.5) / n - 0.5)

    def _draw_rows(self, panel, rows, color, at, n):
        x = rows["x"].to_numpy() if self._is_numeric else self._places(rows["x"], at, n)
        y = rows["y"].to_numpy()
        if self.events and len(rows):
            x = x if self._is_numeric else x + 0.15 / n  # beside the estimates
            parts = equal_parts(x, _PARTS) if self._is_numeric else x
            shares = binned_shares(x, y, np.ones(len(y)), parts)
            draw_shares(panel, shares, color, markersize=4, alpha=0.7)
            return
        if not self._is_numeric:  # spread, so that rows of one level can be told apart
            x = x + np.random.default_rng(0).uniform(-0.2 / n, 0.2 / n, len(x))
        shown = np.unique(np.linspace(0, len(x) - 1, _ROWS).astype(int)) if len(x) else []
        panel.plot(x[shown], y[shown], "o", color=color, markersize=2.5, markeredgewidth=0,
                   alpha=0.35, zorder=1)  # fmt: skip

    def _label(self, outer, columns, ax):
        for k, (panel, value) in enumerate(zip(self.axes_, outer, strict=True)):
            if value:
                panel.set_title(f"{self.by[1]} = {_text(value[0])}", fontsize=LABEL)
            if k + columns >= len(outer):
                panel.set_xlabel(self.x)
                panel.tick_params(labelbottom=True)
            if k % columns == 0:
                panel.set_ylabel(self.response)
            if not self._is_numeric:
                names = [str(name) for name in dict.fromkeys(self.frame["x"])]
                panel.set_xticks(range(len(names)), names)
                panel.set_xlim(-0.6, len(names) - 0.4)
        by = f" by {' and '.join(self.by)}" if self.by else ""
        level = f"{100 * self.level:g} % {'bands' if self._is_numeric else 'intervals'}"
        caption(self, ax, f"Expected {self.response} along {self.x}{by}, {level}")
        if self.by:
            lines = self.lines_[: len(self._values(self.by[:1]))]
            legend_below(self.figure_, self.ax_, lines, [line.get_label() for line in lines])
        self.ax_.tick_params(labelsize=SMALL)


def _text(value):
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _places(estimator, x, by, at, points):
    """Values of the variables in the reference grid: covariates get several."""
    design = getattr(estimator, "design_spec_", None) or getattr(estimator, "glm_design_", None)
    covariates = design.reference.covariates if design is not None else {}
    places = dict(at or {})
    if x in covariates and x not in places:
        places[x] = np.linspace(covariates[x].low, covariates[x].high, points)
    for name in by:
        if name in covariates and name not in places:
            own = covariates[name]
            places[name] = list(dict.fromkeys([own.low, own.mean, own.high]))
    return places
