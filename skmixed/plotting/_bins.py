"""Shares of events in bins, with intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm


def wilson_limits(share, trials, level=0.95):
    """(lower, upper) of shares (m,) of so many trials: the score interval of Wilson (1927)."""
    share, trials = np.asarray(share, dtype=float), np.asarray(trials, dtype=float)
    z2 = norm.ppf(0.5 + level / 2) ** 2
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = np.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def binned_shares(x, y, trials, parts, *, level=0.95):
    """Mean of x, share of events and its limits in every part of the rows, in their order.

    x, y : (n,), y a share of ``trials`` (n,); parts : (n,) labels.
    """
    rows = pd.DataFrame({"x": x, "events": np.asarray(y) * trials, "n": trials})
    by_part = rows.groupby(np.asarray(parts), sort=True)
    sums = by_part[["events", "n"]].sum()
    sums = sums[sums["n"] > 0]
    share = (sums["events"] / sums["n"]).to_numpy()
    lower, upper = wilson_limits(share, sums["n"], level)
    return pd.DataFrame(
        {"x": by_part["x"].mean().loc[sums.index].to_numpy(), "mean": share, "lower": lower,
         "upper": upper, "n": sums["n"].to_numpy()}
    )  # fmt: skip


def equal_parts(x, n_parts):
    """Part (n,) of every row: parts of x in order, of about as many rows each; ties stay together.

    Examples
    --------
    >>> equal_parts([3.0, 1.0, 1.0, 2.0], 2).tolist()
    [1, 0, 0, 1]
    """
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - count / 2
    return (middle * n_parts / len(place)).astype(int)[place]


def draw_shares(ax, frame, color, **style):
    """Points with intervals; the line of points is returned."""
    ax.vlines(frame["x"], frame["lower"], frame["upper"], color=color, linewidth=1.2, zorder=3)
    return ax.plot(frame["x"], frame["mean"], "D", color=color, zorder=3, **style)[0]
