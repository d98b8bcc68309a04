"""Many replicates of one task: the same numbers from one seed however many processes share them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from contextlib import nullcontext
from itertools import pairwise
from numbers import Integral
from time import perf_counter

import joblib
import numpy as np

from skmixed._log import tell

# Lines that tell of progress, and parts of the work that a process gets between two of them.
_LINES, _BLOCKS = 20, 4
# Reasons of failures that are told.
_MAX_REASONS = 3


def replicate(task, n, *, random_state=None, n_jobs=None, verbose=0, who="bootstrap"):
    """n results of a task, each with random numbers of its own.

    Parameters
    ----------
    task : callable
        Generators -> results, as many; ``task.together`` is how many it is given at a time, so
        that what it makes of them is the same whatever the number of processes. Goes to other
        processes with ``n_jobs``.
    n : int
    random_state : int, SeedSequence, Generator, RandomState or None
    n_jobs : int or None
        As in scikit-learn: by joblib, whose ``parallel_config`` may choose threads.
    verbose : int
        Print a line on every twentieth part.
    who : str
        Begins that line.
    """
    seeds = _seed_sequence(random_state).spawn(n)
    return run(task, seeds, n_jobs=n_jobs, verbose=verbose, who=who)


def run(task, items, *, n_jobs=None, verbose=0, who="bootstrap"):
    """Results of a task for all items; seeds are made generators."""
    results, begin, parent = [], perf_counter(), os.getpid()
    packs = [items[a : a + task.together] for a in range(0, len(items), task.together)]
    with warnings.catch_warnings(), joblib.Parallel(n_jobs=n_jobs) as parallel:
        warnings.simplefilter("ignore")  # what matters of refits is counted
        n_workers = joblib.effective_n_jobs(n_jobs)
        for part in _parts(packs, _LINES if verbose else 1):
            if n_workers == 1:
                results += _results(task, part, parent)
            else:
                blocks = _parts(part, _BLOCKS * n_workers)
                found = parallel(joblib.delayed(_results)(task, own, parent) for own in blocks)
                results += [result for block in found for result in block]
            seconds = perf_counter() - begin
            tell(f"{who}: {len(results)} of {len(items)} refits, {seconds:.1f} s", verbose)
    return results


def _results(task, packs, parent):
    """Results of some packs of items, in this process or another one."""
    with warnings.catch_warnings() if os.getpid() != parent else nullcontext():
        if os.getpid() != parent:
            warnings.simplefilter("ignore")
        return [result for pack in packs for result in task([_generator(x) for x in pack])]


def _generator(value):
    return np.random.default_rng(value) if isinstance(value, np.random.SeedSequence) else value


def _parts(items, k):
    """At most k stretches of about one length that make up the items."""
    ends = np.linspace(0, len(items), min(k, len(items)) + 1).astype(int)
    return [items[a:b] for a, b in pairwise(ends)]


def _seed_sequence(random_state):
    if isinstance(random_state, np.random.SeedSequence):
        # one that has spawned already would give other children than the first time
        return np.random.SeedSequence(random_state.entropy, spawn_key=random_state.spawn_key)
    if isinstance(random_state, np.random.Generator):
        return np.random.SeedSequence(random_state.integers(2**32, size=4).tolist())
    if isinstance(random_state, np.random.RandomState):
        return np.random.SeedSequence(random_state.randint(2**31, size=4).tolist())
    if random_state is None or (isinstance(random_state, Integral) and random_state >= 0):
        return np.random.SeedSequence(None if random_state is None else int(random_state))
    raise ValueError(
        "random_state must be a nonnegative integer, a Generator, a RandomState, a SeedSequence "
        f"or None, got {random_state!r}"
    )


def check_count(n, least, who):
    """Raise ValueError unless n is a whole number of replicates, at least so many."""
    if not isinstance(n, Integral) or isinstance(n, bool) or n < least:
        raise ValueError(f"{who}: n must be an integer of at least {least}, got {n!r}")


def told_reasons(reasons):
    """Reasons of failures with their numbers, the most frequent first."""
    counts = Counter(reasons).most_common()
    shown = [f"{reason} ({count})" for reason, count in counts[:_MAX_REASONS]]
    more = len(counts) - len(shown)
    return "; ".join([*shown, *[f"{more} other reasons"] * (more > 0)])


def reason_of(error):
    """An error as the reason of a failure, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
