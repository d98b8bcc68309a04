"""How many threads BLAS may use for a piece of work."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def _blas():
    return ThreadpoolController().select(user_api="blas")


def one_thread(wanted=True):
    """Context in which BLAS uses one thread, if wanted.

    Matrices of some hundred rows gain little from a second thread, and threads that wait for each
    other on a busy machine cost ten times what they save. The caller's setting is put back.
    """
    return _blas().limit(limits=1) if wanted else nullcontext()
