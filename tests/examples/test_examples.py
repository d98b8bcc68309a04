"""The examples run as a reader runs them, and the slides' example notices what is off."""

import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(script, *arguments):
    return subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def slides_page():
    spec = spec_from_file_location("slides_page", EXAMPLES / "slides_page.py")
    module = module_from_spec(spec)
    sys.modules["slides_page"] = module  # dataclasses look their module up
    yield (spec.loader.exec_module(module), module)[1]
    del sys.modules["slides_page"]


def test_slides_agree():
    result = _run(EXAMPLES / "lme4_slides.py")
    assert result.returncode == 0, result.stderr + result.stdout[-2000:]
    assert result.stderr == ""
    assert "404 of the 404 numbers on the slides" in result.stdout
    assert "221 numbers of today's lme4 and 33 criteria" in result.stdout
    assert "\n0 of ours are off." in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    counts = re.search(r"(\d+) as printed, (\d+) at the edge of rounding, (\d+)", result.stdout)
    printed, edge, early = map(int, counts.groups())
    # Some numbers end in a five: which way they are rounded turns on the last bit.
    assert printed + edge + early == 384
    assert 268 <= printed <= 276


@pytest.mark.parametrize(
    ("table", "row", "altered"),
    [
        ("lme4_slides.csv", "Estimate,251.405,251.405104848483,", "Estimate,251.415,251.4051,"),
        ("lme4_slides.csv", "Std.Dev.,41.996,42.000595", "Std.Dev.,41.996,42.010595"),
        ("lme4_slides_theta.csv", "319.76562,319.765619915337", "319.76562,319.765629915337"),
        ("lme4_slides.csv", "dyestuff_ml,criteria,,REMLdev", "dyestuff_mle,criteria,,REMLdev"),
    ],
    ids=["printed number", "today's lme4", "criterion", "never compared"],
)
def test_slides_notice(tmp_path, table, row, altered):
    """One altered number in the tables: the exit code and the last line must tell."""
    copy = shutil.copytree(EXAMPLES, tmp_path / "examples")
    script = copy / "lme4_slides.py"
    # The large data sets take most of the time and have no part in this: nor has what is printed
    # about them.
    script.write_text(re.sub(r"\n        (cake|insteval|generalised),", "", script.read_text()))
    slides = [x for x in (copy / "lme4_slides.csv").read_text().splitlines() if "1.1-31" not in x]
    (copy / "lme4_slides.csv").write_text("\n".join(slides) + "\n")
    text = (copy / table).read_text()
    assert row in text
    (copy / table).write_text(text.replace(row, altered, 1))
    result = _run(script)
    assert result.returncode == 1, result.stderr
    if "mle" in altered:
        assert "403 of the 404" in result.stdout
    else:
        assert "\n1 of ours is off." in result.stdout


@pytest.mark.parametrize(
    ("text", "reference", "remark", "ours", "judgement"),
    [
        ("41.996", 42.0006, "early", 42.0006, "early"),
        ("41.996", 42.0006, "", 42.0006, "off"),
        ("41.996", 42.0006, "early", 42.01, "off"),
        ("19.38", 19.3834, "", 19.3834, ""),
        ("78.81", 78.8045, "rounding", 78.8045, "rounding"),
        ("2451.3", 2451.25, "", 2451.2499999, "rounding"),
        ("1.9844e-09", 0.0, "boundary", 0.0, "boundary"),
        ("1.9844e-09", 0.0, "boundary", 1e-9, "off"),
        ("4.0435e-05", 4.05165e-05, "early", 4.06e-05, "off"),
        ("1.0", 1.0, "", float("nan"), "off"),
    ],
)
def test_judgement(slides_page, text, reference, remark, ours, judgement):
    assert slides_page.Printed("slides", text, reference, remark).judge(ours) == judgement


def test_pictures_of_pages(tmp_path):
    pytest.importorskip("matplotlib")
    for script in ("displays", "page_pictures"):
        result = _run(EXAMPLES / f"{script}.py", tmp_path / "figures")
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
    written = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    shown = Path(__file__).parents[2] / "docs" / "images"
    drawn_by_benchmarks = {"scale"}
    assert written | drawn_by_benchmarks == {path.stem for path in shown.glob("*.png")}
