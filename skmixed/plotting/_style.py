"""Colours and words of figures, on light and on dark backgrounds."""

from __future__ import annotations

import re

# Colours that stay apart for colour-blind readers (Okabe and Ito), on white and on black.
POPULATION, WITHIN, MIXED = "#999999", "#D55E00", "#0072B2"
# For series side by side.
SERIES = (MIXED, WITHIN, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", POPULATION)
_ON_DARK = {MIXED: "#56B4E9", "#56B4E9": "#F0E442"}
# Sums of red, green and blue below this are dark.
_DARK = 1.5
# Shares of the text's colour in what is drawn as data, and as a line that only guides the eye.
_DATA, _GUIDE = 0.67, 0.4
# Sizes of text, in points.
TITLE, LABEL, SMALL = 11, 9, 8
# Letters that fit over a small panel.
PANEL = 26


def ink(ax, share=1.0):
    """The colour of the text of an Axes, mixed with its background where ``share`` is below 1.

    Read off the Axes, which keep the theme that they were made in when another one rules later.
    """
    from matplotlib.colors import to_rgba

    text = to_rgba(ax.xaxis.label.get_color())
    return tuple(share * t + (1 - share) * b for t, b in zip(text[:3], background(ax), strict=True))


def data_ink(ax):
    """Colour of rows of the data."""
    return ink(ax, _DATA)


def background(ax):
    """(red, green, blue) behind what is drawn; that of the page where nothing is."""
    from matplotlib.colors import to_rgba

    for color in (ax.get_facecolor(), ax.figure.get_facecolor()):
        *found, opaque = to_rgba(color)
        if opaque:
            return tuple(found)
    dark_text = sum(to_rgba(ax.xaxis.label.get_color())[:3]) < _DARK
    return (1.0, 1.0, 1.0) if dark_text else (0.0, 0.0, 0.0)


def accent(ax, color=MIXED):
    """A colour as it can be seen in an Axes: dark ground has lighter ones for two blues."""
    dark = sum(background(ax)) < _DARK
    return _ON_DARK.get(color, color) if dark and isinstance(color, str) else color


def to_pale(ax, color, strong=False):
    """A colour, or where it should not be strong its mixture with the background of an Axes."""
    from matplotlib.colors import to_rgb

    own, behind = to_rgb(color), background(ax)
    share = 1.0 if strong else 0.65 if sum(behind) < _DARK else 0.5
    return tuple(share * c + (1 - share) * b for c, b in zip(own, behind, strict=True))


def zero_line(ax, value=0.0, *, across=False, strong=True):
    """A line at a value of x, or across the panel at a value of y, behind everything else."""
    line = ax.axhline if across else ax.axvline
    color = ink(ax, _DATA if strong else _GUIDE)
    return line(value, color=color, linewidth=0.8, zorder=0)


def plain(text, width=60):
    """A name on one line as Matplotlib shows it: no mathematics, a long one without its middle.

    A blank before an underscore keeps names in legends, which leave out what begins with one.

    Examples
    --------
    >>> plain("cost $ per $"), plain("_n"), plain("x" * 9, 5)
    ('cost \\\\$ per \\\\$', ' _n', 'xx…xx')
    """
    text = re.sub(r"\s*[\r\n\t\v\f]\s*", " ", str(text))
    if len(text) > width:
        end = (width - 1) // 2
        text = f"{text[: width - 1 - end]}…{text[-end:]}"
    return re.sub(r"(?<!\\)\$", r"\\$", f" {text}" if text.startswith("_") else text)


def caption(display, ax, text):
    """A title over a figure of the display's own; Axes that were passed have that of the user."""
    if ax is None:
        display.figure_.suptitle(plain(text, 120), x=0.01, ha="left", fontsize=TITLE)


def legend_below(figure, ax, lines, names):
    """A legend under the figure if that makes room for one, else in one of its axes."""
    names = [plain(name) for name in names]
    if _constrained(figure):
        longest = max(map(len, names), default=1)
        columns = int(figure.get_figwidth() / (0.085 * longest + 0.55))  # inches
        style = {"loc": "outside lower center", "fontsize": LABEL, "frameon": False}
        style["ncols"] = min(max(columns, 1), 6)
        legend = figure.legend(lines, names, **style)
    else:
        legend = ax.legend(lines, names, fontsize=SMALL)
    for handle in legend.legend_handles:  # points of many levels are small and pale
        handle.set_alpha(1)
        if hasattr(handle, "set_markersize"):
            handle.set_markersize(max(handle.get_markersize(), 5))


def _constrained(figure):
    """Whether the figure makes room for a legend outside its axes."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)
