"""Large crossed factors: python -m benchmarks.bench_scale [--cases ...] [--direct].

Every case runs in a process of its own, which makes its data, fits once and tells wall time, CPU
time and its peak memory from then on, data included (Linux). ``--direct`` fits the direct solver
too, where it can.
"""

import argparse
import json
import multiprocessing
import re
import time
import warnings
from pathlib import Path

from benchmarks.crossed import crossed_frame

RATINGS = "y ~ 1 + (1 | user) + (1 | item)"
# name: (shape, settings of the data, formula, whether the direct solver can)
CASES = {
    "ratings 250 k": ("movielens250k", {}, RATINGS, True),
    "grades 1.69 M": (
        "grades",
        {},
        "y ~ 1 + (1 | student) + (1 | instructor) + (1 | department)",
        True,
    ),
    "ratings 2.5 M": ("movielens2.5m", {}, RATINGS, False),
    "2.5 M in clusters": ("movielens2.5m", {"affinity": 0.9}, RATINGS, False),
    "2.5 M, 500 brands": (
        "movielens2.5m",
        {"brands": 500},
        RATINGS + " + (1 | brand)",
        False,
    ),
    "2.5 M, slopes by user, p = 5": (
        "movielens2.5m",
        {"slope": True, "n_fixed": 5},
        "y ~ x1 + x2 + x3 + x4 + (x1 | user) + (1 | item)",
        False,
    ),
    "logistic 250 k": ("movielens250k", {"logistic": True}, RATINGS, True),
    "logistic 2.5 M": ("movielens2.5m", {"logistic": True}, RATINGS, False),
    "ratings 25 M": ("movielens25m", {}, RATINGS, False),
    "25 M, slopes by user, p = 5": (
        "movielens25m",
        {"slope": True, "n_fixed": 5},
        "y ~ x1 + x2 + x3 + x4 + (x1 | user) + (1 | item)",
        False,
    ),
}
HEADINGS = (
    "case | solver | wall | CPU | peak memory | evaluations | iterations | probes | share | "
    "criterion | its error"
)


def fit_case(name, solver, pipe):
    """Fit one case and send what it took."""
    from skmixed import MixedLinearRegressor, MixedLogisticClassifier

    shape, settings, formula, _ = CASES[name]
    Model = MixedLogisticClassifier if settings.get("logistic") else MixedLinearRegressor
    data = crossed_frame(shape, **settings)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # data take more to make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wall, cpu = time.perf_counter(), time.process_time()
        model = Model(formula, solver=solver).fit(data)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    pipe.send(
        {
            "wall": wall,
            "cpu": cpu,
            "memory": _peak(),
            "evaluations": model.n_evaluations_,
            "iterations": model.n_cg_iterations_,
            "probes": model.n_probes_,
            "share": model.monte_carlo_share_,
            "criterion": model.deviance_,
            "error": model.deviance_mc_std_,
            "theta": model.theta_.tolist(),
        }
    )


def _peak():
    """GiB that this process had at most since its peak was cleared."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 2**20


def run(name, solver):
    """What a fit in a process of its own took."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=fit_case, args=(name, solver, theirs))
    process.start()
    theirs.close()
    try:
        return mine.recv()
    except EOFError:
        return None
    finally:
        process.join()


def main():
    """Print one row for every case and solver."""
    parser = argparse.ArgumentParser(description="Large crossed factors.")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--direct", action="store_true", help="the direct solver too")
    parser.add_argument("--json", help="also write what was measured to this file")
    options = parser.parse_args()
    print(f"| {HEADINGS} |", "|:--|:--|" + "--:|" * 9, sep="\n")
    found = {}
    for name in options.cases:
        for solver in ["iterative", *(["direct"] if options.direct and CASES[name][3] else [])]:
            took = run(name, solver)
            found[f"{name}, {solver}"] = took
            print("| " + " | ".join(_cells(name, solver, took)) + " |", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


def _cells(name, solver, took):
    if took is None:
        return [name, solver, "ended", *[""] * 8]
    return [
        name,
        solver,
        f"{took['wall']:.1f} s",
        f"{took['cpu']:.1f} s",
        f"{took['memory']:.2f} GiB",
        str(took["evaluations"]),
        str(took["iterations"]),
        str(took["probes"]),
        f"{100 * took['share']:.2f} %",
        f"{took['criterion']:.2f}",
        f"{took['error']:.2f}",
    ]


if __name__ == "__main__":
    main()
