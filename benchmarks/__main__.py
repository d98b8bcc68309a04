"""Run the comparison: python -m benchmarks [--slow] [--cases ...] [--packages ...].

Within a case the packages take turns, round after round, on one DataFrame in one process (lme4 in
a process of R), so that a change in the load of the machine meets all of them. The figures are
medians over all fits.
"""

import argparse
import os
import platform
from statistics import median

from benchmarks.cases import CASES
from benchmarks.packages import PACKAGES, Run

HEADER = """\
| case | rows | package | evaluations | time | times skmixed | criterion above the lowest |
|:--|--:|:--|--:|--:|--:|--:|"""


def main():
    options = _parse()
    packages = [p for p in PACKAGES if p.name in options.packages and p.version()]
    print(_machine(), *(f"{p.name} {p.version()}" for p in packages), sep="; ", end="\n\n")
    print(HEADER)
    for case in (case for case in CASES if case.name in options.cases):
        frame = case.frame()
        taking_part = [p for p in packages if _takes_part(p, case, slow=options.slow)]
        runs = {package.name: [] for package in taking_part}
        for _ in range(options.rounds if case.repeats > 1 else 1):
            for package in taking_part:
                runs[package.name] += package.run(case, frame, case.repeats)
        for row in _rows(case, len(frame), runs):
            print(row, flush=True)


def _parse():
    names, packages = [case.name for case in CASES], [package.name for package in PACKAGES]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare packages.")
    parser.add_argument("--slow", action="store_true", help="also packages that take minutes")
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE")
    parser.add_argument("--packages", nargs="+", choices=packages, default=packages)
    parser.add_argument("--rounds", type=int, default=3, help="of the small cases (default: 3)")
    return parser.parse_args()


def _takes_part(package, case, *, slow):
    able = case.name in getattr(package, "cases", {case.name})
    return able and (slow or package.name not in case.slow)


def _machine():
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _summary(runs):
    """One Run with the median time; evaluations and criterion do not vary between repeats."""
    return Run(median(run.seconds for run in runs), runs[-1].evaluations, runs[-1].criterion)


def _rows(case, n_rows, runs):
    results = {name: _summary(fits) for name, fits in runs.items()}
    lowest = min((r.criterion for r in results.values() if r.criterion is not None), default=None)
    own = results.get("skmixed")
    for name, result in results.items():
        ratio = "" if own is None else f"{result.seconds / own.seconds:.1f}"
        above = "" if result.criterion is None else f"{result.criterion - lowest:.1e}"
        evaluations = "" if result.evaluations is None else result.evaluations
        cells = (case.name, f"{n_rows:,}", name, evaluations, _seconds(result), ratio, above)
        yield "| " + " | ".join(map(str, cells)) + " |"


def _seconds(result):
    if result.seconds < 1:
        return f"{1e3 * result.seconds:.2f} ms"
    return f"{result.seconds:.2f} s"


if __name__ == "__main__":
    main()
