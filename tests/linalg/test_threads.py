from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event, Thread

import pytest

from skmixed.linalg import threads
from skmixed.linalg.threads import one_thread


class Blas:
    """A process-wide number of threads; a limit restores what it has found, as threadpoolctl's."""

    def __init__(self):
        self.n_threads = 2

    @contextmanager
    def limit(self, *, limits):
        found, self.n_threads = self.n_threads, limits
        try:
            yield
        finally:
            self.n_threads = found


@pytest.fixture
def blas(monkeypatch):
    blas = Blas()
    monkeypatch.setattr(threads, "_blas", lambda: blas)
    return blas


def test_the_setting_of_the_caller_is_put_back(blas):
    with one_thread():
        assert blas.n_threads == 1
        with one_thread():
            assert blas.n_threads == 1
        assert blas.n_threads == 1
    assert blas.n_threads == 2


def test_not_wanted_changes_nothing(blas):
    with one_thread(False):
        assert blas.n_threads == 2


def test_it_is_put_back_after_an_error(blas):
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert blas.n_threads == 2
    with one_thread():
        assert blas.n_threads == 1


def test_overlapping_pieces_of_work_restore_the_setting(blas):
    """The first to enter leaves first: what it restores is not what the second has found."""
    second_in, first_out = Event(), Event()

    def second():
        with one_thread():
            second_in.set()
            first_out.wait(60)

    worker = Thread(target=second)
    with one_thread():
        worker.start()
        assert second_in.wait(60)
    first_out.set()
    worker.join(60)
    assert blas.n_threads == 2


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, SystemExit])
def test_it_is_put_back_whoever_is_interrupted_while_others_work(blas, error):
    first_in, second_out = Event(), Event()

    def first():
        with suppress(error), one_thread():
            first_in.set()
            second_out.wait(60)
            raise error

    worker = Thread(target=first)
    worker.start()
    assert first_in.wait(60)
    with pytest.raises(error), one_thread():
        raise error
    assert blas.n_threads == 1
    second_out.set()
    worker.join(60)
    assert blas.n_threads == 2
    with one_thread():
        assert blas.n_threads == 1
    assert blas.n_threads == 2


def test_many_threads_at_once_put_it_back(blas):
    def work(k):
        for _ in range(50):
            with suppress(KeyError), one_thread():
                if k % 2:
                    raise KeyError
        return k

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(16))) == list(range(16))
    assert blas.n_threads == 2
