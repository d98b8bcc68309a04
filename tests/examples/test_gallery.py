"""Every example of the gallery runs without a warning, draws, and prints what its text says."""

import ast
import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {path.stem: path for path in sorted(EXAMPLES.glob("*/plot_*.py"))}
# These simulate many fits: with the slow tests, and whenever the site is built.
SLOW = {"plot_mmrm", "plot_subjects_items"}

# What the text of an example says of its output, as patterns.
SAYS = {
    "plot_dyestuff": [r"keeps: \[0\.783\]", r"sd_\(Intercept\)\|Batch +0\.00 +0\.00 +2\.0"],
    "plot_penicillin": [r"model: residual 0\.55 mm.*0\.16 mm", r"out: residual 1\.01 mm.*0\.29"],
    "plot_pastes": [r"246\.9907\n.*246\.9907\n.*246\.9907", r"nested 0\.82, .* crossed 2\.70"],
    "plot_sleepstudy": [r"0\.80 +161", r"random slope +10\.47 +1\.56 +18\.1"],
    "plot_early": [r"the fit is singular", r"random intercept: 7\.67", r"singular: 7\.65"],
    "plot_machines": [r"A - B .*0\.0111", r"with +-5\.95\d* +2\.17\d* +10\.0"],
    "plot_insteval": [r"service\[T\.1\] +-0\.0926", r"two means +-0\.1305"],
    "plot_scotssec": [r"6 .* 0\.3154 +1\.0 +0\.2872", r"and the primary school: 0\.12"],
    "plot_cbpp": [r"period\[T\.2\] +0\.37", r"overdispersion .* ok", r"and rows .*AIC 186\.6"],
    "plot_verbagg": [r"both +0\.18[78] +0\.19[12]"],
    "plot_school_growth": [
        r"ok +16",
        r"school:pupil\) +12 .* 0\.0\n",
        r"least squares .*0\.043",
        r"by person: {'known': 0\.91, 'new': 0\.64}",
    ],
    "plot_posterior": [r"308 +0\.[45]\d", r"gets faster .* 0\.0[5-8]", r"plugged in: 0\.0[34]"],
    "plot_split_plot": [r"recipe .* 42\.0 .*\ntemperature .* 210\.0", r"split plot +2\.456 +42\.0"],
    "plot_mmrm": [r"mixed model +-5\.9", r"those who came +-5\.0", r"carried forward +-4\.0"],
    "plot_subjects_items": [
        r"ms ~ prime \+ \(1 \| subject\) \+ \(1 \| item\) +[23]\d\.0 %",
        r"\(prime \|\| subject\) \+ \(1 \| item\) +\d\.0 %",
    ],
    "plot_field_trial": [r"blocks .* 4\.98", r"field +best: BUCKSKIN, .* 2\.93"],
    "plot_cross_validated": [
        r"3 of 9 are zero up to rounding",
        r"age_months = 12 age\n.*rural = -urban \+ 1\n.*arm_c = -arm_a - arm_b \+ 1",
        r"\['RankDeficiencyWarning'\]",
        r"deviance 2753\.914481 from all columns, 2753\.914481 from those kept",
        r"adjusted +0\.268",
        r"transferred\[T\.True\] separates the outcomes",
        r"0 of 10 refits failed",
    ],
    "plot_ticks": [r"overdispersion +1\.74\d* .* problem", r"'estimate': 0\.79"],
    "plot_seizures": [r"no patients +ratio of rates 0\.75", r"random change +ratio of rates 0\.51"],
    "plot_orange": [r"Asym +192\.0", r"one curve: residual 23\.4 mm; mixed model: 7\.8 mm"],
    "plot_theophylline": [r"half-life 8\.2 hours", r"6 +365\.98\d* +78\.56\d* +1\.0"],
    "plot_smooths": [r"from a line in s\(log\(conc\), by=Type\) +51\.478", r"no plants .*0\.96"],
    "plot_calibration": [r"two points each: .* 1\.0", r"model: .* 0\.4[78]", r"hold 9[123] %"],
    "plot_animal_model": [r"\(1 \| animal\) +0\.53", r"with the pedigree", r"none: correlation"],
    "plot_ratings": [r"solver iterative", r"best ten by mean: median of 1 ratings"],
    "plot_generalized_inverse": [
        r"\[-3\.  7\.  4\.  0\.\]",
        r"\[-3\.   7\.   3\.2  1\.6\]",
        r"the contrast is not estimable",
        r"largest difference between means: (0\.0e\+00|\d\.\de-1\d)",
    ],
    "plot_estimable": [
        r"B +NaN +NaN +False",
        r"the contrast is not estimable",
        r"estimate 4\.625",
        r"variety +130\.22 +20\.81 +16\.90",
        r"10\.4 from plain means, 5\.0 at",
    ],
    "plot_rank_cases": [
        r"x squared = \(-2\) Intercept \+ \(3\) x",
        r"rank 3 of 3 columns\ncoefficients",
        r"warning: GeneralizedInverseRegressor: squared:",
        r"-> \['oslo', 'other', 'other'\]",
    ],
    "plot_rank_pipeline": [
        r"15 columns of rank 10",
        r"site dropped \(always 'north'\)",
        r"mixed model fit by REML",
    ],
}  # fmt: skip


@pytest.fixture
def pyplot(monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.close("all")
    yield plt
    plt.close("all")


def run(name, pyplot, capsys):
    """What an example prints, after a look at its figures."""
    runpy.run_path(str(SCRIPTS[name]), run_name="__main__")
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    assert figures
    for figure in figures:
        assert figure.axes
        assert all(ax.has_data() or not ax.axison for ax in figure.axes)
    return capsys.readouterr().out


@pytest.mark.filterwarnings("error::skmixed.exceptions.UnseenGroupsWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=pytest.mark.slow) if x in SLOW else x for x in SAYS]
)
def test_example(name, pyplot, capsys):
    printed = run(name, pyplot, capsys)
    for pattern in SAYS[name]:
        assert re.search(pattern, printed), f"{pattern!r} is not in\n{printed}"


@pytest.mark.filterwarnings("error::skmixed.exceptions.UnseenGroupsWarning")
def test_known_and_new_schools(pyplot, capsys):
    printed = run("plot_pipeline", pyplot, capsys)
    row = r"\nverbal \+ sex \+ social {}+(0\.\d+) +(0\.\d+)\n"
    plain = re.search(row.format(" "), printed).groups()
    mixed = re.search(row.format(r"\+ \(1 \| primary\) "), printed).groups()
    assert float(mixed[0]) > float(plain[0]) + 0.01  # known schools: random effects help
    assert abs(float(mixed[1]) - float(plain[1])) < 0.01  # new schools: they are zero
    held = float(re.search(r"(\d+\.\d) % inside", printed).group(1))
    assert held == pytest.approx(95, abs=1.5)


def test_none_is_left_out():
    assert set(SCRIPTS) == set(SAYS) | {"plot_pipeline"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_form(name):
    """A title that sphinx-gallery finds, sections, pictures that are shown, a header beside it."""
    text = SCRIPTS[name].read_text()
    title, line = ast.get_docstring(ast.parse(text)).splitlines()[:2]
    assert set(line) == {"="} and len(line) >= len(title)
    for heading, line in re.findall(r"^# (\S.*)\n# (-{4,})$", text, flags=re.MULTILINE):
        assert len(line) >= len(heading)
    assert text.count("\n# %%\n") >= 3
    assert "plt.show()" in text
    assert (SCRIPTS[name].parent / "GALLERY_HEADER.rst").exists()
