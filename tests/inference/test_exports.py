"""Tables keep their cells in every format, whatever names the columns of the data have."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from skmixed import (
    GeneralizedInverseRegressor,
    MixedGLMRegressor,
    MixedLinearRegressor,
    MixedLogisticClassifier,
)
from skmixed.datasets import load_cbpp, load_sleepstudy, load_verbagg
from skmixed.inference import likelihood_ratio_test, model_table
from skmixed.inference.exports import Report, Section, TextTable, code_span, latex, markdown

HOSTILE = [
    "a_b",
    "x | y",
    "5 % & more",
    "a < b > c",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "*bold* _it_ `code` [link](http://x) ~~s~~ $x^2$",
    "back\\slash {brace} #1 ~ ^",
    "two\nlines",
    "&lt;",
]


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.cells = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] in ("td", "th"):
            self.cells[-1] += data


def _table(names):
    return TextTable(["name", "value"], [[name, "-1.5"] for name in names], 1)


def _cells(html):
    parser = _Cells()
    parser.feed(html)
    return parser


def test_html_has_the_names_as_text_alone():
    report = Report(HOSTILE[4], HOSTILE[5], (Section(HOSTILE[4], _table(HOSTILE), HOSTILE[4]),),
                    (HOSTILE[5],))  # fmt: skip
    found = _cells(report.to_html())
    assert found.cells[2::2] == HOSTILE
    assert set(found.tags) == {"div", "h4", "p", "code", "h5", "table", "thead", "tbody", "tr",
                               "th", "td"}  # fmt: skip
    assert ElementTree.fromstring(report.to_html()) is not None


def test_markdown_has_one_line_and_two_cells_for_every_name():
    lines = _table(HOSTILE).to_markdown().splitlines()
    assert len(lines) == 2 + len(HOSTILE)
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3
        assert "<" not in line and ">" not in line


@pytest.mark.skipif(shutil.which("pandoc") is None, reason="pandoc reads Markdown and LaTeX")
@pytest.mark.parametrize("form", ["gfm", "latex"])
def test_other_programs_read_the_names_back(form):
    table = _table(HOSTILE)
    text = table.to_markdown() if form == "gfm" else table.to_latex()
    for command, plain in ((r"\textbar{}", "|"), (r"\textasciigrave{}", "TICK")):
        text = text.replace(command, plain)  # which Pandoc does not know
    html = subprocess.run(
        ["pandoc", "-f", form, "-t", "html"], input=text, capture_output=True, text=True, check=True
    ).stdout
    parsed = _cells(html)
    assert not {"script", "img", "strong", "em", "a", "del"} & set(parsed.tags)
    names = [" ".join(cell.replace("TICK", "`").split()) for cell in parsed.cells[2::2]]
    plain = [" ".join(name.split()).replace("“", '"').replace("”", '"') for name in HOSTILE]
    assert [name.replace("“", '"').replace("”", '"') for name in names] == plain


@pytest.mark.parametrize("code", ["y ~ x", "`a b` + x", "``", "a ``` b | <b>"])
def test_spans_of_code_hold_backticks(code):
    span = code_span(code)
    ticks = re.match("`+", span).group()
    assert ticks not in span[len(ticks) : -len(ticks)]
    assert span.strip("`").strip() == code.strip("`").strip() or "`" in code


def test_numbers_stay_numbers():
    assert markdown("-1.5e-07") == "-1.5e-07"
    assert latex("-1.5") == "$-$1.5" and latex("12") == "12"
    assert latex("1.5e-07") == r"$1.5 \times 10^{-7}$"


def test_latex_escapes_every_special_character():
    text = latex("".join(HOSTILE))
    bare = re.sub(r"\\textbackslash\{\}|\\text[a-z]+\{\}|\\[&%$#_{}]", "", text)
    assert not set(bare) & set("\\&%$#_{}~^<>|")


# Tables of several models


@pytest.fixture(scope="module")
def sleep():
    return load_sleepstudy().frame


@pytest.fixture(scope="module")
def pair(sleep):
    texts = ("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)")
    return [MixedLinearRegressor(text, reml=False).fit(sleep) for text in texts]


def test_a_table_of_models_has_the_numbers_of_each(pair):
    table = model_table(*pair, names=["one", "two"])
    frame = table.to_frame().set_index(["model", "component", "group", "term"])["estimate"]
    errors = table.to_frame().set_index(["model", "component", "term"])["std_error"]
    for name, model in zip(("one", "two"), pair, strict=True):
        for term, value in model.fixed_effects_.items():
            assert frame[name, "fixed", "", term] == value
            assert errors[name, "fixed", term] == model.standard_errors_[term]
        effects = model.covariances_["Subject"]
        for term in effects:
            expected = np.sqrt(effects.loc[term, term])
            assert frame[name, "random", "Subject", f"sd {term}"] == pytest.approx(expected)
        assert frame[name, "residual", "", "sd"] == pytest.approx(model.sigma_)
        criteria = frame.sort_index()[name, "criteria", ""]
        expected = [model.deviance_, model.log_likelihood_, model.aic_, model.bic_, 180, 18]
        names = ["deviance", "logLik", "AIC", "BIC", "rows", "levels of Subject"]
        assert criteria[names].to_list() == pytest.approx(expected)
    tested = likelihood_ratio_test(*pair)
    assert set(tested["AIC"].round(4)) == {round(model.aic_, 4) for model in pair}


def test_a_list_of_models_is_taken_as_they_are(pair):
    assert str(model_table(pair)) == str(model_table(*pair))


def test_terms_that_a_model_lacks_are_empty(pair):
    text = str(model_table({"one": pair[0], "two": pair[1]}))
    row = next(line for line in text.splitlines() if line.startswith("sd Days | Subject"))
    assert len(row.split("Subject")[1].split()) == 1
    assert text.splitlines()[1] == "Fixed effects"


def test_every_format_has_the_same_cells(pair):
    table = model_table(*pair)
    cells = _cells(table.to_html()).cells
    shown = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    plain = [c.strip().replace("\\", "") for line in [shown[0], *shown[2:]]
             for c in re.split(r"(?<!\\)\|", line)[1:-1]]  # fmt: skip
    assert plain == cells
    rows = [line for line in table.to_latex().splitlines() if line.endswith(r"\\")]
    assert len(rows) == len(shown) - 1
    assert table.to_latex().count(r"\midrule") == 3
    assert table._repr_html_() == table.to_html()


def test_hostile_columns_of_the_data():
    rng = np.random.default_rng(0)
    name, group = "a_b | <script>alert(1)</script> & 5 %", "<b>g</b>"
    df = pd.DataFrame({name: rng.normal(size=60), group: np.repeat(list("abcdef"), 10)})
    df["y"] = df[name] + np.repeat(rng.normal(size=6), 10) + rng.normal(size=60)
    model = MixedLinearRegressor(f"y ~ `{name}` + (1 | `{group}`)").fit(df)
    for html in (
        model.summary().to_html(),
        model_table(model).to_html(),
        model_table({"<i>m</i>": model}).to_html(),
        model._repr_html_(),
        model._repr_mimebundle_()["text/html"],
    ):
        assert not re.search("<script>alert|<b>g|<i>m", html)
        assert "alert(1)" in html
    for summary in (model.summary(), model_table(model)):
        assert "<" not in re.sub("`.*`", "", summary.to_markdown())
        assert "<" not in summary.to_latex() and "alert" in summary.to_latex()


def test_what_makes_criteria_hard_to_compare_is_said(pair, sleep):
    reml = [MixedLinearRegressor(m.formula).fit(sleep) for m in pair]
    assert not model_table(*pair).notes and not model_table(*reml).notes
    null = MixedLinearRegressor("Reaction ~ 1 + (1 | Subject)").fit(sleep)
    (note,) = model_table(reml[0], null).notes
    assert "different fixed effects" in note and note in model_table(reml[0], null).to_markdown()
    (note,) = model_table(reml[0], pair[0]).notes
    assert note == "Criteria of REML and of maximum likelihood cannot be compared."
    fewer = MixedLinearRegressor(pair[0].formula, reml=False).fit(sleep.iloc[:-5])
    (note,) = model_table(pair[0], fewer).notes
    assert "different numbers of rows" in note


def test_models_of_other_families_stand_in_one_table(pair):
    cbpp = load_cbpp().frame
    counts = MixedGLMRegressor(
        "cbind(incidence, size - incidence) ~ period + (1 | herd)", family="binomial"
    ).fit(cbpp)
    classes = MixedLogisticClassifier("r2 ~ Anger + (1 | item)").fit(load_verbagg().frame)
    frame = model_table(counts, classes, pair[0]).to_frame()
    assert set(frame["model"]) == {"(1)", "(2)", "(3)"}
    own = frame[(frame["model"] == "(1)") & (frame["component"] == "fixed")]
    np.testing.assert_allclose(own["p_value"], counts.coefficients()["p_value"], rtol=1e-9)
    limits = counts.coefficients()[["lower", "upper"]]
    np.testing.assert_allclose(own[["lower", "upper"]], limits, rtol=1e-6)


def test_names_must_fit(pair):
    with pytest.raises(ValueError, match="got 2 models and the names"):
        model_table(*pair, names=["same", "same"])
    with pytest.raises(ValueError, match="got 0 models"):
        model_table()
    with pytest.raises(ValueError, match="either names or a dict"):
        model_table({"a": pair[0]}, names=["b"])
    with pytest.raises(TypeError, match="fitted mixed models, got str under"):
        model_table("model")


def test_linear_models_have_the_same_exports():
    df = load_sleepstudy().frame.rename(columns={"Days": "a_b | <i>"})
    model = GeneralizedInverseRegressor(formula="Reaction ~ `a_b | <i>` + Subject").fit(df)
    summary = model.summary()
    frame = summary.to_frame().set_index("term")
    np.testing.assert_allclose(frame["estimate"], summary.table["estimate"])
    assert list(frame.columns) == ["estimate", "mark", "std_error", "t", "p_value"]
    assert "<i>" not in summary.to_html() + summary.to_markdown() + summary.to_latex()
    assert summary._repr_html_() == summary.to_html()
    cells = _cells(summary.to_html()).cells
    assert "a_b | <i>" in cells and all(
        level in "".join(cells) for level in df["Subject"].cat.categories
    )
    assert ElementTree.fromstring(summary.to_html()) is not None


def test_great_tables_are_made_where_they_are_installed(pair, monkeypatch):
    great_tables = pytest.importorskip("great_tables")
    for shown in (pair[0].summary(), model_table(*pair)):
        made = shown.to_gt()
        assert isinstance(made, great_tables.GT)
        html = made.as_raw_html()
        assert "sd Intercept | Subject" in html and "Fixed effects" in html


def test_without_great_tables_the_error_says_what_to_install(pair, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "great_tables", None)
    for shown in (pair[0].summary(), model_table(*pair)):
        with pytest.raises(ImportError, match=r"pip install 'scikit-mixed\[tables\]'"):
            shown.to_gt()
