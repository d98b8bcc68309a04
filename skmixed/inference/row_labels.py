"""Names of rows: levels of several factors as labels, and back."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.design.columns import looks_numeric


def named_index(keys, names):
    """An Index of tuples; of one level each where there is one name."""
    if len(names) == 1:
        return pd.Index([key[0] for key in keys], name=names[0])
    return pd.MultiIndex.from_tuples(keys, names=names)


def names_among(wanted, known, what):
    """Names as a tuple, or an error for one that is not known."""
    wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in wanted:
        if name not in known:
            raise ValueError(f"{what} must be among {', '.join(map(str, known))}, got {name!r}")
    return wanted


def row_labels(frame):
    """(labels, levels) of rows by their levels; numbers have the name of the factor before them."""
    if not len(frame.columns):
        return ["mean"] * len(frame), ["mean"] * len(frame)
    texts = [_texts(name, frame[name]) for name in frame]
    levels = list(frame.itertuples(index=False, name=None))
    one = len(frame.columns) == 1
    return [" ".join(parts) for parts in zip(*texts, strict=True)], (
        [level[0] for level in levels] if one else levels
    )


def control_labels(ref, levels, labels):
    """Labels of the reference levels, which may be given as levels or as labels."""
    several = ref if isinstance(ref, list) else [ref]
    return [labels[levels.index(own)] if own in levels else own for own in several]


def _texts(name, values):
    before = str(name) if looks_numeric(values) else ""
    return [before + _short(value) for value in values]


def _short(value):
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)
