"""What share of the variance belongs to which part of a model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.plotting._panels import choose_group, panels
from skmixed.plotting._rows import models_by_name, opens_pipelines, variance_shares
from skmixed.plotting._style import (
    POPULATION,
    SERIES,
    SMALL,
    background,
    caption,
    legend_below,
    plain,
)

# Narrower pieces of a bar have no number in them.
_ROOM = 0.045


class VarianceSharesDisplay:
    """Shares of variance of fixed effects, random effects and residual: a bar for every model.

    On the scale of the linear predictor, as ``r2`` and ``icc`` of a model have them: the piece of
    the fixed effects is the marginal R2, it and those of the random effects together are the
    conditional one. The residual of a generalised model is that of its link.

    It is recommended to use :meth:`from_estimator` or :meth:`from_estimators`.

    Parameters
    ----------
    frame : DataFrame of shape (models, parts)
        Shares, which add up to 1 in every row; NaN for parts that a model does not have.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : ndarray of matplotlib Axes
        Of one; ``ax_`` is it.
    bars_ : list of BarContainer
        One for every part.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_pastes
    >>> from skmixed.plotting import VarianceSharesDisplay
    >>> df = load_pastes().frame
    >>> model = MixedLinearRegressor("strength ~ 1 + (1 | batch / cask)").fit(df)
    >>> VarianceSharesDisplay.from_estimator(model).frame.round(2).T
                            model
    fixed effects            0.00
    Intercept | batch        0.15
    Intercept | batch:cask   0.78
    residual                 0.06
    """

    def __init__(self, frame):
        self.frame = frame

    @classmethod
    @opens_pipelines
    def from_estimator(cls, estimator, X=None, y=None, *, groups=None, ax=None):
        """Plot the shares of one model.

        Parameters
        ----------
        estimator : fitted linear or generalised mixed model
        X, y, groups : optional
            The data of the fit, which Poisson models need, as for ``r2``.
        ax : Axes, optional

        Returns
        -------
        VarianceSharesDisplay

        Raises
        ------
        ValueError
            As ``r2`` of the model, and for a model without random effects.
        """
        choose_group(estimator, None)
        shares = variance_shares(estimator, X, y, groups)
        return cls(shares.to_frame("model").T).plot(ax=ax)

    @classmethod
    def from_estimators(cls, models, *, ax=None):
        """Plot the shares of several models, one above another.

        Parameters
        ----------
        models : dict of fitted models by name, or a list of them
        ax : Axes, optional

        Returns
        -------
        VarianceSharesDisplay
        """
        found = {
            name: variance_shares(model, None, None, None)
            for name, model in models_by_name(models).items()
        }
        frame = pd.DataFrame(found).T
        last = ["fixed effects", *(name for name in dict.fromkeys(
            part for shares in found.values() for part in shares.index
        ) if name not in ("fixed effects", "residual")), "residual"]  # fmt: skip
        return cls(frame[last]).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the bars.

        Parameters
        ----------
        ax : Axes, optional

        Returns
        -------
        self
        """
        n = len(self.frame)
        self.figure_, axes = panels(ax, (1, 1), (7.0, 1.7 + 0.5 * n))
        self.axes_ = axes.ravel()
        self.ax_ = self.axes_[0]
        rows = np.arange(n)[::-1]
        left, self.bars_ = np.zeros(n), []
        for name, color in zip(self.frame, self._colors(), strict=True):
            share = self.frame[name].fillna(0.0).to_numpy()
            self.bars_.append(
                self.ax_.barh(rows, share, 0.7, left=left, color=color, label=plain(name),
                              edgecolor=background(self.ax_))
            )  # fmt: skip
            self._write(rows, left, share, color)
            left = left + share
        self.ax_.set(xlim=(0, 1), xlabel="share of the variance", ylim=(-0.6, n - 0.4))
        self.ax_.set_yticks(rows, [plain(name) for name in self.frame.index])
        if n == 1:
            self.ax_.set_yticks([])
        caption(self, ax, "Shares of variance")
        legend_below(self.figure_, self.ax_, *self.ax_.get_legend_handles_labels())
        return self

    def _colors(self):
        """The residual is grey, all others have a colour of their own."""
        parts = [name for name in self.frame if name != "residual"]
        colors = {name: SERIES[k % (len(SERIES) - 1)] for k, name in enumerate(parts)}
        return [colors.get(name, POPULATION) for name in self.frame]

    def _write(self, rows, left, share, color):
        from matplotlib.colors import to_rgb

        dark = np.dot(to_rgb(color), (0.299, 0.587, 0.114)) < 0.55
        for row, start, width in zip(rows, left, share, strict=True):
            if width >= _ROOM:
                style = {"ha": "center", "va": "center", "fontsize": SMALL}
                tone = "white" if dark else "black"
                self.ax_.text(start + width / 2, row, f"{100 * width:.0f} %", color=tone, **style)
