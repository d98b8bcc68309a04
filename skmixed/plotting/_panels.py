"""What the displays share: figures and panels, labels, and the choice of a grouping factor."""

from __future__ import annotations

import re
from textwrap import wrap

import numpy as np

from skmixed.plotting._rows import is_curve, named_response
from skmixed.plotting._style import accent, caption, ink, plain, zero_line

# More levels than this are drawn without a label each.
MAX_LABELS = 40
# Letters of a name beside a row.
_WIDTH = 40
# Units of what a nonlinear model has instead of effects on the response.
_OF_PARAMETERS = "own units"


def pyplot():
    """matplotlib.pyplot, or an error that says how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "skmixed.plotting needs matplotlib: pip install 'scikit-mixed[plot]'"
        ) from error
    return plt


def panels(ax, shape, size, *, sharex=False, sharey=False):
    """(figure, axes of the given shape).

    ``ax`` may be None (a new figure), one Axes (divided where there are several panels), or an
    array of as many Axes as there are panels.
    """
    rows, columns = shape
    if ax is None:
        figure, axes = pyplot().subplots(
            rows, columns, figsize=size, squeeze=False, sharex=sharex, sharey=sharey,
            layout="constrained",
        )  # fmt: skip
        return figure, axes
    axes = np.asarray(ax, dtype=object)
    if axes.size == rows * columns:
        axes = axes.reshape(rows, columns)
        return axes[0, 0].figure, axes
    if axes.size != 1:
        raise ValueError(f"the display has {rows * columns} panels, ax holds {axes.size} Axes")
    return axes.item().figure, _divided(axes.item(), shape, sharex, sharey)


def level_panels(display, ax, n, columns, size):
    """Axes of a display with a panel for every one of n levels; those left over are empty.

    columns : side by side, None for a good number; size : (columns, rows) -> size of the figure.
    """
    columns = _columns_of(n) if columns is None else columns
    shape = (-(-n // columns), columns)
    inches = size(shape[1], shape[0])
    if ax is not None and np.size(ax) == n:
        shape = (1, n)
    display.figure_, axes = panels(ax, shape, inches, sharex=True, sharey=True)
    display.axes_ = axes.ravel()[:n]
    display.ax_ = display.axes_[0]
    for panel in axes.ravel()[n:]:
        panel.set_axis_off()
    return axes


def _columns_of(n):
    """Panels side by side: about 1.6 times as many as in a column, with few places left empty."""
    ideal = np.sqrt(1.6 * n)
    return min(range(1, n + 1), key=lambda c: 0.5 * (-n % c) + abs(c - ideal))


def _divided(ax, shape, sharex, sharey):
    """Panels in the place of one Axes, which itself becomes invisible."""
    ax.set_axis_off()
    spec = ax.get_subplotspec()
    if spec is None:  # an Axes at a position of its own
        box = ax.get_position()
        edges = {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
        grid = ax.figure.add_gridspec(*shape, **edges)
    else:
        grid = spec.subgridspec(*shape)
    axes = np.empty(shape, dtype=object)
    for place in np.ndindex(shape):
        shared = {
            "sharex": axes[0, 0] if sharex else None,
            "sharey": axes[0, 0] if sharey else None,
        }
        axes[place] = ax.figure.add_subplot(grid[place], **shared)
        if sharex and place[0] < shape[0] - 1:
            axes[place].tick_params(labelbottom=False)
        if sharey and place[1]:
            axes[place].tick_params(labelleft=False)
    return axes


def choose_group(estimator, group):
    """The grouping factor: the one asked for, or the first of the model."""
    if not hasattr(type(estimator), "random_terms_"):
        raise TypeError(f"the display is for mixed models, got {type(estimator).__name__}")
    if not hasattr(estimator, "result_"):
        raise ValueError(f"{type(estimator).__name__} is not fitted: call fit before plotting it")
    groups = list(dict.fromkeys(term.group for term in estimator.random_terms_))
    if not groups:
        raise ValueError("the model has no random effects to plot: its formula has no (... | g)")
    if group is None:
        return groups[0]
    if group not in groups:
        raise ValueError(f"the model has no grouping factor {group!r}, only {groups}")
    return group


def choose_effects(names, effects):
    """The effects asked for, or all of them."""
    names = list(names)
    if effects is None:
        return names
    effects = [effects] if isinstance(effects, str) else list(effects)
    unknown = [name for name in effects if name not in names]
    if unknown or not effects:
        raise ValueError(f"the grouping factor has no effect {unknown}, only {names}")
    return effects


def response_name(estimator, y=None):
    """The response as the formula or y names it; of two classes, the event that is predicted."""
    name = str(named_response(estimator) or getattr(y, "name", None) or "response")
    name = name[1:-1] if re.fullmatch("`[^`]+`", name) else name
    classes = getattr(estimator, "classes_", None)
    return name if classes is None else f"{name} = {classes[1]}"


def effect_units(estimator, y=None):
    """Units of effects: the response's, or those of its link; of curves those of parameters."""
    if is_curve(estimator):
        return _OF_PARAMETERS
    name = response_name(estimator, y)
    family = getattr(estimator, "family_", None)
    return (
        name
        if family is None or family.link.name == "identity"
        else f"{family.link.name} of {name}"
    )


def effect_label(effect, units):
    """Name and units of an effect: those of the response, for a slope per unit of the covariate."""
    return plain(f"{effect}  ({effect_scale(effect, units)})")


def effect_scale(effect, units):
    """Units of an effect: those of the response, for a slope per unit of the covariate."""
    constant = effect == "Intercept" or "[" in effect or units == _OF_PARAMETERS
    return units if constant else f"{units} per unit"


def scale_label(name, effects, units):
    """Label of an axis that several effects share."""
    slopes = any(effect_scale(effect, units) != units for effect in effects)
    return wrapped(f"{name}  ({units}; slopes per unit)" if slopes else f"{name}  ({units})", 48)


def wrapped(label, width):
    """A label in at most three lines of some width."""
    return "\n".join(wrap(plain(label, 3 * width), width))


def draw_intervals(ax, frame, labels, color):
    """Estimates with their intervals, the first row at the top; the intervals are returned.

    frame : estimate, lower and upper by row; labels : of the rows.
    """
    rows = np.arange(len(frame))[::-1]
    color = accent(ax, color)
    lines = ax.hlines(rows, frame["lower"], frame["upper"], color=color, linewidth=5, alpha=0.35)
    ax.plot(frame["estimate"].to_numpy(), rows, "o", color=ink(ax), markersize=4)
    ax.set_ylim(-0.7, len(frame) - 0.3)
    if len(frame) > MAX_LABELS:
        ax.set_yticks([])
        ax.set_ylabel(f"{len(frame):,} rows")
    else:
        ax.set_yticks(rows, [plain(label, _WIDTH) for label in labels])
    return lines


def draw_forest(display, ax, frame, labels, label, color, title):
    """The one panel of a display: estimates with their intervals beside zero. Returns the display.

    ax : where to draw, or None; label : of the axis of the estimates; title : of the figure.
    """
    display.figure_, axes = panels(ax, (1, 1), (5.2, interval_height(len(frame))))
    display.axes_ = axes.ravel()
    display.ax_ = display.axes_[0]
    zero_line(display.ax_)
    display.lines_ = [draw_intervals(display.ax_, frame, labels, color)]
    display.ax_.set_xlabel(wrapped(label, 48))
    caption(display, ax, title)
    return display


def interval_height(n_rows):
    """Height in inches of a figure with so many intervals."""
    return float(np.clip(0.9 + 0.32 * n_rows, 1.8, 9))


def level_ticks(ax, labels, group):
    """One tick per level, or the number of levels where there are too many to read."""
    if len(labels) > MAX_LABELS:
        ax.set_yticks([])
        ax.set_ylabel(plain(f"{len(labels):,} levels of {group}"))
        return
    ax.set_yticks(range(len(labels)), [plain(label, _WIDTH) for label in labels])
    ax.set_ylabel(plain(group))
