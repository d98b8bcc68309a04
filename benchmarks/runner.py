"""One way to time all packages: they take turns, with equal repeats, and medians are compared.

In every round each package fits the same data the same number of times, after one fit that is not
counted (it imports and compiles), so that a change in the load of the machine meets all of them.
The table shows the median of a package's fits, its least beside it, and the ratio of the medians.
"""

import argparse
import os
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, median_low
from time import perf_counter
from typing import Any


@dataclass(frozen=True)
class Run:
    """One fit: its time, and other figures by column of the table, which shows their median."""

    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One figure: its heading, and its text from the value and those of all packages."""

    name: str
    heading: str
    show: Callable[[Any, list], str] = lambda value, _: f"{value:,}"


def above_lowest(value, values):
    """By how much a criterion ends above the best of the table: who stops early is fast, too."""
    return f"{value - min(values):.1e}"


EVALUATIONS = Column("evaluations", "evaluations")


def timed(fit, describe, repeats, clock=perf_counter):
    """Runs of fit(); describe(fitted) -> figures is not timed, nor is the first fit of several."""
    runs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if repeats > 1:
            fit()
        for _ in range(repeats):
            start = clock()
            fitted = fit()
            seconds = clock() - start
            runs.append(Run(seconds, describe(fitted)))
    return runs


def main(prog, cases, packages, columns):
    """Compare packages on cases and print a table.

    A case has ``name``, ``size`` (text), ``data()``, ``repeats`` and ``slow``, names of packages
    that take minutes on it. A package has ``name``, ``version()`` (None where it is not
    installed), ``takes(case)`` and ``run(case, data, repeats)`` -> list of `Run`.
    """
    options = _parse(prog, cases, packages)
    packages = [p for p in packages if p.name in options.packages]
    for package in (p for p in packages if not p.version()):
        print(f"{package.name} is not installed and left out")
    packages = [p for p in packages if p.version()]
    print(_machine(), *(f"{p.name} {p.version()}" for p in packages), sep="; ", end="\n\n")
    headings = ["case", "data", "package", *(column.heading for column in columns)]
    print(_line([*headings, "median", "least", "times skmixed"]))
    print("|:--|:--|:--|" + "--:|" * (len(columns) + 3))
    for case in (case for case in cases if case.name in options.cases):
        taking_part = [
            p for p in packages if p.takes(case) and (options.slow or p.name not in case.slow)
        ]
        runs = _take_turns(case, taking_part, options.rounds if case.repeats > 1 else 1)
        for row in _rows(case, runs, columns):
            print(row, flush=True)


def _take_turns(case, packages, rounds):
    data = case.data()
    runs = {package.name: [] for package in packages}
    for _ in range(rounds):
        for package in packages:
            runs[package.name] += package.run(case, data, case.repeats)
    return runs


def _parse(prog, cases, packages):
    names, known = [case.name for case in cases], [package.name for package in packages]
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description="Compare packages.")
    parser.add_argument("--slow", action="store_true", help="also packages that take minutes")
    parser.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE")
    parser.add_argument("--packages", nargs="+", choices=known, default=known, metavar="PACKAGE")
    parser.add_argument("--rounds", type=int, default=3, help="of cases with repeats (default: 3)")
    return parser.parse_args()


def _machine():
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _rows(case, runs, columns):
    middle = {name: median(run.seconds for run in fits) for name, fits in runs.items()}
    own = middle.get("skmixed")
    for name, fits in runs.items():
        figures = [_figure(column, fits, runs) for column in columns]
        least = min(run.seconds for run in fits)
        ratio = "" if own is None else f"{middle[name] / own:.1f}"
        times = _time(middle[name]), _time(least), ratio
        yield _line([case.name, case.size, name, *figures, *times])


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def _figure(column, fits, runs):
    """The text of one figure, empty where the package does not tell it."""
    value = _middle(column, fits)
    if value is None:
        return ""
    values = [_middle(column, fits) for fits in runs.values()]
    return column.show(value, [v for v in values if v is not None])


def _middle(column, fits):
    values = [run.figures.get(column.name) for run in fits]
    return None if None in values else median_low(values)


def _time(seconds):
    return f"{1e3 * seconds:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"
