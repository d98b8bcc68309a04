"""The example of the Cross Validated question runs and says what it promises."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "cross_validated_logistic.py"


def test_the_question_is_answered():
    result = subprocess.run(
        [sys.executable, EXAMPLE], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    for text in (
        "3 of them are zero up to rounding",
        "age_months = 12 age",
        "rural = -urban + 1",
        "arm_c = -arm_a - arm_b + 1",
        "fitted too, with a warning",
        "deviance 2753.914481 against 2753.914481",
        "intraclass correlation 0.268",
        "7. All of it in one report",
        "transferred[T.True] separates the outcomes",
        "0 of 10 refits failed",
    ):
        assert text in result.stdout
