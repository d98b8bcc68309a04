"""The panels of ModelCheckDisplay: each takes an Axes and a ModelCheck, and returns its artist."""

from __future__ import annotations

import numpy as np
from scipy import stats
from statsmodels.nonparametric.smoothers_lowess import lowess

from skmixed.inference.bands import QuantileBand
from skmixed.plotting._panels import wrapped
from skmixed.plotting._style import POPULATION, SERIES, WITHIN, accent, data_ink, plain

# Colours of effects and of verdicts, as far as they go.
_COLORS = SERIES[:5]
_POINTS, _BARS, _DRAWS, _GRID = 4000, 12, 50, 256
# More rows than this hide the band of a plot that is not detrended.
_DETRENDED = 1000
# Ratio of the largest to the smallest value of a logarithmic axis.
_WIDE = 30


def quantiles_uniform(ax, check):
    """Simulated residuals against uniform quantiles; of many rows less these quantiles."""
    u = np.sort(check.residuals.residuals)
    expected = (np.arange(len(u)) + 0.5) / len(u)
    limits = np.array(QuantileBand.of(len(u)).limits())
    ax.set(xlabel="uniform quantile", xlim=(0, 1))
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    if len(u) > _DETRENDED:
        ax.set_ylabel("simulated residual - quantile")
        return _quantiles(ax, expected, u - expected, limits - expected, 0 * expected)
    ax.set(ylabel="simulated residual", ylim=(0, 1))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
    return _quantiles(ax, expected, u, limits)


def quantiles_residuals(ax, check):
    """Residuals of a linear model against normal quantiles."""
    points = _normal_quantiles(ax, check.rows["residual"].to_numpy())
    ax.set_ylabel(f"{check.rows.attrs['residual']} residual")
    return points


def quantiles_effects(name):
    """A panel of the conditional modes of one effect against normal quantiles."""

    def draw(ax, check):
        points = _normal_quantiles(ax, check.effects[name])
        ax.set_ylabel("mode / its spread")
        return points

    return draw


def _normal_quantiles(ax, values):
    """Values against normal quantiles, the line and the band at their mean and deviation."""
    values = np.sort(values[np.isfinite(values)])
    n = len(values)
    expected = stats.norm.ppf((np.arange(n) + 0.5) / n)
    limits = QuantileBand.of(n, standardised=True).limits()
    mean, sd = values.mean(), values.std(ddof=1)
    points = _quantiles(ax, expected, values, [mean + sd * stats.norm.ppf(e) for e in limits],
                        mean + sd * expected)  # fmt: skip
    ax.set_xlabel("normal quantile")
    return points


def _quantiles(ax, expected, values, limits, line=None):
    ax.fill_between(expected, *limits, color=POPULATION, alpha=0.3, linewidth=0, zorder=0)
    ax.plot(
        expected, expected if line is None else line, color=data_ink(ax), linewidth=0.8, zorder=1
    )
    shown = _thinned(len(values), ends=20)
    (points,) = ax.plot(
        expected[shown], values[shown], ".", color=accent(ax), markersize=_size(values)
    )
    return points


def residuals_fitted(ax, check):
    """Residuals against fitted values: a trend is a wrong mean."""
    if check.is_linear:
        x, y = check.rows["fitted"].to_numpy(), check.rows["residual"].to_numpy()
        ax.set(xlabel="fitted value", ylabel=f"{check.rows.attrs['residual']} residual")
        middle = 0.0
    else:
        y = check.residuals.residuals
        x = (stats.rankdata(check.residuals.fitted) - 0.5) / len(y)
        ax.set(xlabel="rank of the simulated mean", ylabel="simulated residual",
               xlim=(0, 1), ylim=(0, 1))  # fmt: skip
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1])
        middle = 0.5
    ax.axhline(middle, color=data_ink(ax), linewidth=0.8, zorder=0)
    return _scatter_smooth(ax, x, y)


def scale_location(ax, check):
    """Size of the residuals against fitted values: a trend is a wrong variance."""
    y = np.sqrt(np.abs(check.rows["residual"].to_numpy()))
    ax.set(xlabel="fitted value", ylabel="root of |residual|")
    if not check.is_linear:
        _log_where_wide(ax, check.rows["fitted"])
    return _scatter_smooth(ax, check.rows["fitted"].to_numpy(), y)


def _log_where_wide(ax, values):
    """A logarithmic axis for positive values that span orders of magnitude."""
    if values.min() > 0 and values.max() > _WIDE * values.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")


def _scatter_smooth(ax, x, y):
    """Points with their lowess line."""
    keep = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    keep = keep[np.argsort(x[keep], kind="stable")]
    keep = keep[_thinned(len(keep))]
    x, y = x[keep], y[keep]
    points = ax.scatter(x, y, s=_size(y) ** 2 / 2, color=accent(ax), alpha=_alpha(y), linewidth=0)
    at = np.log(x) if ax.get_xscale() == "log" else x
    if np.ptp(at) > 0:
        smooth = lowess(y, at, frac=2 / 3, delta=0.01 * np.ptp(at), return_sorted=False)
        ax.plot(x, smooth, color=WITHIN, linewidth=1.8)
    return points


def binned_residuals(ax, check):
    """Means of 0/1 responses less fitted probabilities, in bins of these, with 95 % limits."""
    fitted = check.rows.loc[check.rows["simulated"].notna(), "fitted"].to_numpy()
    n = len(fitted)
    bins = int(np.clip(np.sqrt(n), 5, 40))
    codes = np.floor(stats.rankdata(fitted, method="ordinal") * bins / (n + 1)).astype(int)
    count = np.bincount(codes, minlength=bins)
    mean = np.bincount(codes, fitted, bins) / count
    gap = np.bincount(codes, check.residuals.y - fitted, bins) / count
    half = 1.96 * np.sqrt(np.bincount(codes, fitted * (1 - fitted), bins)) / count
    ax.fill_between(mean, -half, half, color=POPULATION, alpha=0.3, linewidth=0, zorder=0)
    ax.axhline(0, color=data_ink(ax), linewidth=0.8)
    out = np.abs(gap) > half
    (points,) = ax.plot(mean[~out], gap[~out], "o", color=accent(ax), markersize=4)
    ax.plot(mean[out], gap[out], "o", color=WITHIN, markersize=4)
    ax.set(xlabel="fitted probability", ylabel="mean of y - fitted")
    return points


def influence(ax, check):
    """The largest Cook's distances."""
    top = check.influence.dropna().nlargest(_BARS)[::-1]
    lines = ax.hlines(range(len(top)), 0, top, color=accent(ax), linewidth=2)
    ax.plot(top.to_numpy(), range(len(top)), "o", color=accent(ax), markersize=4)
    ax.set_yticks(range(len(top)), [_label(level) for level in top.index])
    ax.set_ylabel(plain(check.influence.index.name) + (
        "" if len(top) == len(check.influence) else f" (top {len(top)} of {len(check.influence):,})"
    ))  # fmt: skip
    ax.set_xlabel("Cook's distance")
    _limits(ax, top.max(), (0.5, 1.0), 0.0)
    ax.locator_params(axis="x", nbins=5)
    return lines


def inflation(ax, check):
    """Variance inflation of the terms."""
    values = (check.inflation["scaled"] ** 2).nlargest(_BARS)[::-1]
    lines = ax.hlines(range(len(values)), 1, values, color=accent(ax), linewidth=2)
    ax.plot(values.to_numpy(), range(len(values)), "o", color=accent(ax), markersize=4)
    ax.set_yticks(range(len(values)), [_label(name) for name in values.index])
    ax.set_ylim(-1, len(values))
    ax.set_xlabel("variance inflation")
    _limits(ax, max(values.max(), 1.8), (5.0, 10.0), 0.95)
    return lines


def _limits(ax, largest, limits, start):
    """Lines at the limits of a verdict that are near enough to be seen."""
    end = max(1.15 * largest, start + 1e-12)
    for limit, style in zip(limits, (":", "-"), strict=True):
        if limit < 2.5 * largest:
            ax.axvline(limit, color=WITHIN, linewidth=0.9, linestyle=style, zorder=0)
            end = max(end, 1.05 * limit)
    ax.set_xlim(start, end)


def shrunk(group):
    """A panel of how much of their own estimates the levels of a factor keep."""

    def draw(ax, check):
        table = check.shrinkage[group]
        names = [name for name in table.columns[1:] if table[name].notna().any()]
        sizes = table["n_rows"].to_numpy()
        shares = [table[name].to_numpy() for name in names]
        if len(np.unique(sizes)) < 3:
            return _strips(ax, names, shares, f"share kept by levels of {group}")
        for name, share, color in zip(names, shares, _COLORS, strict=False):
            points = ax.scatter(sizes, share, s=_size(share) ** 2 / 2, color=accent(ax, color),
                                alpha=0.6, linewidth=0, label=plain(name))  # fmt: skip
        ax.set(xlabel=plain(f"rows of a level of {group}"), ylabel="share kept", ylim=(0, 1.05))
        ax.locator_params(axis="x", nbins=6, integer=True)
        _log_where_wide(ax, sizes)
        if len(names) > 1:
            ax.legend(fontsize=8, frameon=False, loc="best")
        return points

    return draw


def _strips(ax, names, shares, label):
    """A row of points for every effect, one beside the other."""
    for row, (share, color) in enumerate(zip(shares, _COLORS, strict=False)):
        spread = np.linspace(-0.25, 0.25, len(share)) if len(share) > 1 else 0.0
        points = ax.scatter(share, -row + spread, s=_size(share) ** 2 / 2, color=accent(ax, color),
                            alpha=0.6, linewidth=0)  # fmt: skip
    shown = names[: len(_COLORS)]
    ax.set(xlabel=plain(label), xlim=(0, 1.02), ylim=(0.7 - len(shown), 0.7))
    ax.set_yticks(-np.arange(len(shown)), [_label(name) for name in shown])
    return points


def predictive(ax, check):
    """The responses beside simulated ones."""
    found = check.residuals
    if check.response == "binary" and check.clusters is not None:
        counts = np.bincount(check.clusters)
        used = counts > 0
        y, draws = (
            np.column_stack([np.bincount(check.clusters, column)[used] / counts[used]
                             for column in columns.T])
            for columns in (found.y[:, None], found.simulated[:, :_DRAWS])
        )  # fmt: skip
        return _densities(ax, y[:, 0], draws, "share of events by level", (0.0, 1.0))
    if check.response in ("count", "proportion"):
        label = "count" if check.response == "count" else "successes"
        return _bars(ax, found.y, found.simulated, label)
    if check.response == "binary":
        return _bars(ax, found.y, found.simulated, "response")
    return _densities(ax, found.y, found.simulated[:, :_DRAWS], "response", (-np.inf, np.inf))


def _densities(ax, y, draws, label, bounds):
    """Smoothed densities of y and of its draws over the range that both need."""
    both = np.quantile(draws, [0.002, 0.998])
    width = 0.9 * min(y.std(), np.subtract(*np.quantile(y, [0.75, 0.25])) / 1.34 or y.std())
    width = max(width, 1e-12 * max(1.0, np.abs(y).max())) * len(y) ** -0.2
    low = max(min(y.min(), both[0]) - 3 * width, bounds[0])
    high = min(max(y.max(), both[1]) + 3 * width, bounds[1])
    edges = np.linspace(low, high, _GRID + 1)
    at = (edges[1:] + edges[:-1]) / 2
    for column in draws.T:
        (line,) = ax.plot(at, _density(column, edges, width), color=POPULATION, linewidth=0.6,
                          alpha=0.4)  # fmt: skip
    line.set_label("simulated")
    (own,) = ax.plot(at, _density(y, edges, width), color=accent(ax), linewidth=2, label="observed")
    ax.set(xlabel=plain(label), ylabel="density", xlim=(low, high))
    ax.set_ylim(0, None)
    ax.set_yticks([])
    _legend(ax)
    return own


def _density(values, edges, width):
    """A kernel density at the middles of bins, from counts in them, reflected at the ends."""
    counts = np.histogram(values, edges)[0] / (len(values) * np.diff(edges)[0])
    reach = int(np.ceil(4 * width / np.diff(edges)[0]))
    kernel = stats.norm.pdf(np.arange(-reach, reach + 1) * np.diff(edges)[0] / width)
    padded = np.pad(counts, min(reach, len(counts)), mode="symmetric")
    smooth = np.convolve(padded, kernel / kernel.sum(), mode="same")
    return smooth[min(reach, len(counts)) : len(smooth) - min(reach, len(counts))]


def _bars(ax, y, draws, label):
    """Frequencies of counts, on a root scale, with what 95 % of the draws have."""
    top = max(np.quantile(y, 0.97), np.quantile(draws, 0.97), 1.0)
    step = int(np.ceil((top + 1) / 25))
    edges = np.arange(0, top + step + 1, step) - 0.5
    beyond = max(y.max(), draws.max()) > edges[-1]
    counts = np.array([_counts(d, edges) for d in draws.T])
    low, middle, high = np.quantile(counts, [0.025, 0.5, 0.975], axis=0)
    at = (edges[:-1] + edges[1:]) / 2
    bars = ax.bar(at, _counts(y, edges), 0.85 * step, color=accent(ax), alpha=0.45,
                  label="observed")  # fmt: skip
    ax.errorbar(at, middle, [middle - low, high - middle], fmt="o", color=data_ink(ax),
                markersize=2.5, linewidth=1.1, label="simulated, 95 %")  # fmt: skip
    ax.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
    ax.set(xlabel=f"{label} (last bar: and more)" if beyond else label, ylabel="rows (root scale)")
    ax.set_ylim(0, None)
    ax.locator_params(axis="x", integer=True)
    _legend(ax)
    return bars


def _counts(values, edges):
    """Numbers of values in bins, those beyond the last in the last."""
    return np.histogram(np.minimum(values, edges[-1] - 0.25), edges)[0]


def _legend(ax):
    for handle in ax.legend(fontsize=8, frameon=False).legend_handles:
        if hasattr(handle, "set_linewidth"):
            handle.set_alpha(1)


def _label(name):
    return wrapped(str(name), 22)


def _thinned(n, ends=0):
    """Positions of at most so many of n ordered points, with all of the ends."""
    if n <= _POINTS:
        return np.arange(n)
    inner = np.linspace(0, n - 1, _POINTS).astype(int)
    return np.unique(np.concatenate([np.arange(ends), inner, n - 1 - np.arange(ends)]))


def _size(values):
    return 7 if len(values) <= 60 else 5 if len(values) <= 500 else 3


def _alpha(values):
    return 0.8 if len(values) <= 200 else 0.45 if len(values) <= 1000 else 0.25
