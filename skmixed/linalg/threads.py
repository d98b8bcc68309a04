"""How many threads BLAS may use for a piece of work."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController

_held = Lock()


@cache
def _blas():
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_thread(wanted=True):
    """Context in which BLAS uses one thread, if wanted.

    Matrices of some hundred rows gain little from a second thread, and threads that wait for each
    other on a busy machine cost ten times what they save. The caller's setting is put back.

    The setting belongs to the process, not to a thread. Of several threads that are here at once
    the first changes it and the same one puts it back; the others leave it alone. If each restored
    what it had found, the last to leave would restore the limit of the first, for good.
    """
    if not wanted or not _held.acquire(blocking=False):
        yield
        return
    try:
        with _blas().limit(limits=1):
            yield
    finally:
        _held.release()
