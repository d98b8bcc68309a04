"""Linear mixed models: python -m benchmarks [--slow] [--cases ...] [--packages ...]."""

from benchmarks.cases import CASES
from benchmarks.packages import PACKAGES
from benchmarks.runner import EVALUATIONS, Column, above_lowest, main

COLUMNS = [EVALUATIONS, Column("criterion", "criterion above the lowest", above_lowest)]

if __name__ == "__main__":
    main("benchmarks", CASES, PACKAGES, COLUMNS)
