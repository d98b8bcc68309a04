"""Fits of Parquet files that are never in memory: python -m benchmarks.bench_batches.

    python -m benchmarks.bench_batches                                    # 10 M rows, direct
    python -m benchmarks.bench_batches --rows 30_000_000 --items 20_000 --crossed --routes arrow
    python -m benchmarks.bench_batches --rows 100_000_000 --items 20_000 --crossed --routes arrow

The files are made first (``--folder`` keeps them), one million rows each: users nested in regions,
crossed with items that are text and long-tailed, two covariates. Every route then fits the model in
a process of its own, in turns, with equal repeats; told are the median of the wall time from the
path to the fitted model, the processor time of all its threads, and the peak of the process's
memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

FORMULA = "y ~ x + t + (1 | user) + (1 | region) + (1 | item)"
CROSSED = "y ~ x + t + (1 | user) + (1 | item)"
_FILE = 1_000_000


def make_files(folder, n_rows, n_users, n_items, seed=0):
    """Parquet files of n_rows rows in a folder, made one by one."""
    rng = np.random.default_rng(seed)
    n_regions = max(2, n_users // 100)
    user_effect = rng.normal(0, 0.8, n_users)
    region_effect = rng.normal(0, 0.5, n_regions)
    popularity = np.cumsum(rng.lognormal(0, 1.0, n_items))
    item_effect = rng.normal(0, 0.6, n_items)
    names = np.array([f"item{k:06d}" for k in range(n_items)], dtype=object)
    for number, start in enumerate(range(0, n_rows, _FILE)):
        n = min(_FILE, n_rows - start)
        user = rng.integers(0, n_users, n)
        item = np.searchsorted(popularity, rng.uniform(0, popularity[-1], n))
        x, t = rng.normal(0, 1, n), rng.uniform(0, 10, n)
        effects = user_effect[user] + region_effect[user % n_regions] + item_effect[item]
        table = pd.DataFrame(
            {
                "y": 1 + 0.5 * x - 0.1 * t + effects + rng.normal(0, 1, n),
                "x": x,
                "t": t,
                "user": user,
                "region": user % n_regions,
                "item": names[item],
            }
        )
        table.to_parquet(Path(folder) / f"part{number:04d}.parquet", index=False)


def _arrow(model, path):
    return model.fit_batches(path)


def _dask(model, path):
    import dask.dataframe as dd

    return model.fit_batches(dd.read_parquet(path))


def _memory(model, path):
    return model.fit(pd.read_parquet(path))


ROUTES = {"arrow": _arrow, "dask": _dask, "memory": _memory}


def _fit(route, folder, formula, solver, queue):
    from skmixed import MixedLinearRegressor

    settings = {} if solver is None else {"solver": solver}
    model = MixedLinearRegressor(formula, **settings)
    ROUTES[route](model, sorted(folder.glob("*.parquet"))[0])  # imports
    start, cpu = time.perf_counter(), time.process_time()
    ROUTES[route](model, folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    queue.put((seconds, cpu, peak, model.solver_, model.n_evaluations_, model.deviance_))


def measure(route, folder, formula, solver):
    """(seconds, of the processor, GiB, solver, evaluations, criterion) in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_fit, args=(route, folder, formula, solver, queue))
    process.start()
    while True:
        try:
            found = queue.get(timeout=5)
            break
        except Exception:
            if not process.is_alive():
                raise RuntimeError(f"the process of route {route!r} ended without a fit") from None
    process.join()
    return found


def main():
    """Make the files and time the routes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50)
    parser.add_argument("--crossed", action="store_true", help="leave the regions out")
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=["arrow", "dask"])
    parser.add_argument("--solver", help="passed on to the estimator")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where the files are, or are kept")
    chosen = parser.parse_args()
    formula = CROSSED if chosen.crossed else FORMULA
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(chosen.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.glob("*.parquet")):
            make_files(folder, chosen.rows, chosen.users, chosen.items)
        found = {route: [] for route in chosen.routes}
        for _ in range(chosen.repeats):
            for route in chosen.routes:
                found[route].append(measure(route, folder, formula, chosen.solver))
        print("| route | solver | evaluations | median | processor | peak memory | criterion |")
        print("|:--|:--|--:|--:|--:|--:|--:|")
        for route, runs in found.items():
            wall, cpu = (statistics.median(run[k] for run in runs) for k in (0, 1))
            peak, (solver, evaluations, criterion) = max(run[2] for run in runs), runs[-1][3:]
            print(
                f"| {route} | {solver} | {evaluations} | {wall:.1f} s | {cpu:.1f} s "
                f"| {peak:.2f} GiB | {criterion:.6f} |"
            )


if __name__ == "__main__":
    main()
