"""The examples and the guide on rank deficiency run, and print what they promise."""

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPECTED = {
    "sas_generalized_inverse": (
        ["[-3.  7.  4.  0.]", "[-3.   7.   3.2  1.6]", "sweep at alpha = 1.78885: 8.60233"],
        "generalized_inverse_norms.png",
    ),
    "rank_cases": (
        ["x squared = (-2) Intercept + (3) x", "rank 3 of 3 columns\n   Full rank. Sizes of 1e9",
         "warning: GeneralizedInverseRegressor: squared:", "-> ['oslo', 'other', 'other']"],
        "rank_ladder.png",
    ),
    "rank_pipeline": (
        ["15 columns of rank 10", "site dropped (always 'north')", "mixed model fit by REML"],
        "rank_pipeline.png",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name, tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines, picture = EXPECTED[name]
    for line in lines:
        assert line in result.stdout
    assert (tmp_path / picture).stat().st_size > 10_000


def test_guide():
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    page = ROOT / "docs" / "rank.md"
    found = doctest.testfile(str(page), module_relative=False, optionflags=flags)
    assert found.attempted > 10 and found.failed == 0
