"""Names beside points that do not cover one another."""

from __future__ import annotations

import numpy as np

from skmixed.plotting._style import PANEL, SMALL, ink, plain

# Places of a name about its point, in the order in which they are tried.
_ANGLES = np.deg2rad([30, 150, -30, -150, 90, -90, 0, 180])
_REACH = 5.0  # points between a point and its name
_WIDTH, _HEIGHT = 0.62, 1.2  # of a letter, in units of the font size


def name_points(ax, x, y, names, *, away=None, size=SMALL):
    """Write a name beside each point; the texts are returned, without those that find no room.

    adjustText finds the places where it is installed, else each name takes the first of eight
    places that is free.

    Parameters
    ----------
    ax : Axes
    x, y : (m,)
        The points, finite.
    names : m names
    away : (m, 2), optional
        Where an arrow leads from each point, so that its name goes to the other side first.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    names = [plain(name, PANEL) for name in names]
    if not len(x):
        return []
    try:
        from adjustText import adjust_text
    except ImportError:
        return _free_places(ax, x, y, names, away, size)
    style = {"fontsize": size, "color": ink(ax)}
    texts = [ax.text(*place, name, **style) for *place, name in zip(x, y, names, strict=True)]
    adjust_text(texts, x=x, y=y, ax=ax)
    return texts


def _free_places(ax, x, y, names, away, size):
    ax.figure.draw_without_rendering()  # or the places of the points were not known
    scale = 72.0 / ax.figure.dpi
    points = ax.transData.transform(np.column_stack([x, y])) * scale
    taken, texts = _boxes(points, np.full((len(points), 2), 2.0)), []
    ends = points if away is None else ax.transData.transform(away) * scale
    for k, name in enumerate(names):
        extent = np.array([_WIDTH * len(name), _HEIGHT]) * size
        for shift in _shifts(points[k] - ends[k], extent):
            box = _boxes(points[k] + shift, extent / 2)
            others = np.delete(taken, k, axis=0)
            if not _overlaps(box, others).any():
                taken = np.vstack([taken, box])
                texts.append(_write(ax, (x[k], y[k]), shift, name, size))
                break
    return texts


def _shifts(direction, extent):
    """Shifts (8, 2) of the middle of a text from its point, those near a direction first."""
    turned = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])
    if np.hypot(*direction) > 0:
        turned = turned[np.argsort(-turned @ (direction / np.hypot(*direction)), kind="stable")]
    return turned * (extent / 2 + _REACH)


def _boxes(middle, half):
    """(left, bottom, right, top) of boxes."""
    return np.hstack([np.atleast_2d(middle - half), np.atleast_2d(middle + half)])


def _overlaps(box, others):
    left, bottom, right, top = box[0]
    return (
        (others[:, 0] < right) & (others[:, 2] > left) & (others[:, 1] < top)
        & (others[:, 3] > bottom)
    )  # fmt: skip


def _write(ax, place, shift, name, size):
    return ax.annotate(
        name, place, xytext=tuple(shift), textcoords="offset points", ha="center", va="center",
        fontsize=size, color=ink(ax),
    )  # fmt: skip


def spread(places, gap, low, high):
    """Sorted places moved apart to a distance of ``gap`` each, between low and high.

    Examples
    --------
    >>> spread([1.0, 1.2, 5.0], 1.0, 0.0, 10.0).tolist()
    [1.0, 2.0, 5.0]
    """
    steps = gap * np.arange(len(places))
    up = np.maximum.accumulate(np.asarray(places) - steps) + steps
    return np.maximum(np.minimum(up, high - steps[::-1]), low + steps)
