"""Warnings that point at the line of the user's code that caused them."""

from __future__ import annotations

import sys
import warnings
from os import sep
from os.path import dirname

_PACKAGE = dirname(__file__) + sep


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning at the innermost frame outside the package, however deep this call is."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
