"""When a fit has to end: asked between two evaluations, wherever these are."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar

_end: ContextVar[float | None] = ContextVar("skmixed_end_of_fit", default=None)


class OutOfTime(Exception):
    """The time of the fit under way is over."""


@contextmanager
def time_limit(seconds):
    """Context in which :func:`check_time` raises after so many seconds, or never.

    The limit is that of one fit: fits in other threads, or inside of this one, have their own.
    """
    token = _end.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _end.reset(token)


def check_time():
    """Raise OutOfTime where the time of the fit under way is over."""
    end = _end.get()
    if end is not None and time.monotonic() >= end:
        raise OutOfTime
