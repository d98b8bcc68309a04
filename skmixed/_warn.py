"""Warnings that point at the line of the user's code that caused them."""

from __future__ import annotations

import sys
import warnings
from os import sep
from os.path import dirname, join

_PACKAGE = dirname(__file__) + sep
# What scikit-learn puts round the transform of every transformer, and round a fit with callbacks.
_WRAPPERS = (
    join("sklearn", "utils", "_set_output.py"),
    join("sklearn", "callback", "_callback_support.py"),
)


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning at the innermost frame outside the package, however deep this call is."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(filename: str) -> bool:
    return filename.startswith(_PACKAGE) or filename.endswith(_WRAPPERS)
