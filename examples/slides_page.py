"""How lme4_slides.py sets printed tables beside ours and counts what differs."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np

WIDTH = 100
FOLDER = Path(__file__).parent

# Ours must be this close to today's lme4, polished to ten digits: relatively, or absolutely for
# numbers near zero. Variances are flat directions of the criterion: 1e-4 of one costs 1e-9.
RELATIVE, ABSOLUTE = 1e-4, 1e-6
# The criterion itself is determined far better.
CRITERION = 1e-6

MARKS = {
    "": (" ", "agrees to the last printed digit"),
    "rounding": ("'", "one unit in the last digit: the number is at the edge of rounding"),
    "early": ("*", "the optimiser of 2008 stopped a little early: our criterion is lower"),
    "boundary": ("z", "the optimum is exactly zero; the slide prints a tiny positive number"),
    "refit": ("m", "the slide's anova() took REML fits as they were; models refitted by ML differ"),
    "off": ("!", "OFF: neither the slide nor today's lme4 explains the difference"),
}


@dataclass(frozen=True)
class Printed:
    """One number of a printed table, and what lme4 1.1-31 finds at the polished optimum."""

    source: str
    text: str
    reference: float
    remark: str

    @property
    def value(self):
        return float(self.text)

    @property
    def unit(self):
        """One in the last printed digit."""
        return 10.0 ** Decimal(self.text).as_tuple().exponent

    def judge(self, ours):
        """The key of MARKS for our number."""
        allowed = max(RELATIVE * abs(self.reference), min(ABSOLUTE, 0.5 * self.unit))
        if not abs(ours - self.reference) <= allowed:
            return "off"
        if self.like(ours) == self.text:
            return ""
        at_edge = abs(ours - self.value) <= 0.5 * self.unit + 1e-2 * allowed
        return self.remark or ("rounding" if at_edge else "off")

    def like(self, ours):
        """Our number with the digits of the printed one."""
        if "e" in self.text:
            return f"{ours:.{len(self.text.partition('e')[0].partition('.')[2])}e}"
        shown = Decimal(repr(float(ours))).quantize(Decimal(self.text), ROUND_HALF_UP)
        return f"{shown:f}"


def _read(name):
    with (FOLDER / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


class Page:
    """Prints sections, compares every number, and remembers what became of it."""

    def __init__(self):
        self.printed = {
            (r["case"], r["table"], r["row"], r["column"]): Printed(
                r["source"], r["printed"], float(r["reference"]), r["remark"]
            )
            for r in _read("lme4_slides.csv")
        }
        self.points = _read("lme4_slides_theta.csv")
        self.found: dict[tuple, str] = {}
        self.extra = Counter()

    # Text

    def section(self, title, text):
        print(f"\n{'=' * WIDTH}\n{title}\n{'=' * WIDTH}")
        print(text)

    def note(self, text):
        print(f"\n  {text}")

    def legend(self):
        print("A mark after our number says why it differs from the slide's:\n")
        for sign, meaning in MARKS.values():
            print(f"   {'(none)' if sign == ' ' else sign:6s} {meaning}")

    # Numbers

    def cell(self, case, table, row, column, ours):
        """(printed, ours, mark) as text."""
        key = (case, table, row, column)
        printed = self.printed[key]
        self.found[key] = printed.judge(ours)
        return printed.text, printed.like(ours), MARKS[self.found[key]][0]

    def labels(self, case, table):
        """Rows and columns of a printed table, in their order."""
        keys = [key for key in self.printed if key[:2] == (case, table)]
        return list(dict.fromkeys(k[2] for k in keys)), list(dict.fromkeys(k[3] for k in keys))

    def table(self, case, table, ours):
        """A printed table beside ours, a DataFrame with the same labels."""
        rows, columns = self.labels(case, table)
        cells = {
            (row, column): self.cell(case, table, row, column, float(ours.at[row, column]))
            for row in rows
            for column in columns
            if (case, table, row, column) in self.printed
        }
        grid = [[cells.get((row, column), BLANK) for column in columns] for row in rows]
        widths = [
            max(len(column), *(len(text) for cell in cells_of_column for text in cell[:2]))
            for column, *cells_of_column in zip(columns, *grid, strict=True)
        ]
        theirs = ["  ".join(_right([c[0] for c in line], widths)) for line in grid]
        # The mark stands in the gap between two columns.
        mine = [
            " ".join(_right([c[1] for c in line], widths, [c[2] for c in line])) for line in grid
        ]
        head = "  ".join(_right(columns, widths))
        source = self.printed[case, table, *next(iter(cells))].source
        if len(rows) == 1 and not rows[0]:
            lines = [("", head), (source, theirs[0]), ("skmixed", mine[0])]
        else:
            lines = [
                ("", f"{_over(source, head)}   {_over('skmixed', head)}"),
                (table, f"{head}   {head}"),
                *((_short(r), f"{t}   {m}") for r, t, m in zip(rows, theirs, mine, strict=True)),
            ]
        _print_lines(lines)

    def values(self, case, ours):
        """Single numbers: {name: our value}."""
        lines = [("", f"{'slides':>12}   {'skmixed':>12}")]
        for name, value in ours.items():
            text, mine, mark = self.cell(case, "values", name, "", value)
            lines.append((name, f"{text:>12}   {mine:>12}{mark}"))
        _print_lines(lines)

    def tests(self, case, formulas, tables):
        """Likelihood-ratio tests of {model: formula}: theirs, and ours by one or two routes."""
        columns = ["npar", "AIC", "BIC", "logLik", "Chisq", "p-value"]
        print(f"\n  {'likelihood-ratio test':24}{_test_line(columns)} p (boundary)")
        for name, formula in formulas.items():
            print(f"  {name}: {formula}")
            for number, (route, ours) in enumerate(tables.items()):
                cells = [
                    self.cell(case, route, name, column, float(ours.at[name, column]))
                    if (case, route, name, column) in self.printed
                    else BLANK
                    for column in columns
                ]
                if number == 0:
                    print(f"    {'slides':22}{_test_line([c[0] for c in cells])}".rstrip())
                line = _test_line([c[1] for c in cells], [c[2] for c in cells])
                p = ours.at[name, "p-value (boundary)"] if route == "ML" else float("nan")
                end = f" {p:12.4g}" if p == p else ""
                print(f"    {'skmixed, ' + route:22}{line}{end}".rstrip())

    def same(self, what, ours, expected, tolerance):
        """Count a comparison that no table shows; True if it holds."""
        ok = abs(ours - expected) <= tolerance
        self.extra["off" if not ok else what] += 1
        return ok

    # The end

    def close(self):
        """Print the count; the exit code is 1 if a number is off or was never compared."""
        slides = Counter(f for k, f in self.found.items() if self.printed[k].source == "slides")
        other = Counter(f for k, f in self.found.items() if self.printed[k].source != "slides")
        total = sum(p.source == "slides" for p in self.printed.values())
        off = slides["off"] + other["off"] + self.extra["off"]
        print(
            f"\n{'=' * WIDTH}\n{slides.total()} of the {total} numbers on the slides are compared:"
        )
        print(
            f"{slides['']} as printed, {slides['rounding']} at the edge of rounding, "
            f"{slides['early']} where the optimiser of 2008 stopped early,\n"
            f"{slides['refit']} where its anova() did not refit, {slides['boundary']} at the "
            "boundary."
        )
        print(
            f"Besides these, {other.total()} numbers of today's lme4 and {self.extra.total()} "
            "criteria at given theta."
        )
        print(f"{off} of ours {'is' if off == 1 else 'are'} off.")
        return int(bool(off) or len(self.found) < len(self.printed))


BLANK = ("", "", " ")


def _right(texts, widths, marks=None):
    marks = [""] * len(texts) if marks is None else marks
    return [t.rjust(w) + m for t, w, m in zip(texts, widths, marks, strict=True)]


def _test_line(texts, marks=None):
    return " ".join(
        _right(texts, (4, 9, 9, 9, 8, 10), [" "] * len(texts) if marks is None else marks)
    )


def _over(title, head):
    """The name of a block over its columns."""
    wide = len(head) > len(title) + 6
    return f" {title} ".center(len(head), "-") if wide else title.rjust(len(head))


def _short(label):
    """The name of a coefficient without the coding of its factor."""
    return re.sub(r"C\((\w+), contr\.\w+\)", r"\1", label)


def _print_lines(lines):
    """A blank line, then lines of (label, cells)."""
    left = max(len(label) for label, _ in lines)
    print()
    for label, cells in lines:
        print(f"  {label:{left}}   {cells}".rstrip())


def at_theta(model, theta):
    """The criterion of a fitted model at another theta (lme4's order, the user's units)."""
    objective = model.result_.objective
    return objective(objective.layout.from_user_theta(np.asarray(theta, dtype=float)))


def numbers(text):
    return [float(part) for part in text.split()]
