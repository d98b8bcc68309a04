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
    """Context in which :func:`check_time` raises after so many seconds; None adds no limit.

    The limit is that of this thread alone: fits in other threads have their own.
    """
    before = _end.get()
    own = None if seconds is None else time.monotonic() + seconds
    token = _end.set(min((end for end in (before, own) if end is not None), default=None))
    try:
        yield
    finally:
        _end.reset(token)


def check_time():
    """Raise OutOfTime where the time of the fit under way is over."""
    end = _end.get()
    if end is not None and time.monotonic() >= end:
        raise OutOfTime
