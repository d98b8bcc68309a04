"""Tables of text as Markdown, LaTeX, HTML and plain text, every cell escaped."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape

import pandas as pd

# What has a meaning inside a line; cells and notes never begin one with a mark of a list.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|~$])")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
}  # fmt: skip
_NUMBER = re.compile(r"(-?)(\d+(?:\.\d+)?)(?:e([+-]\d+))?")


@dataclass(frozen=True)
class TextTable:
    """Cells of text: the first ``n_left`` columns to the left, the others to the right.

    Attributes
    ----------
    header : list of str
    rows : list of lists of str
    n_left : int
    breaks : tuple of int
        Rows that have a rule above them, where the format has rules.
    """

    header: list[str]
    rows: list[list[str]]
    n_left: int = 0
    breaks: tuple[int, ...] = ()

    def to_text(self, indent=""):
        """Columns that are aligned by spaces."""
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            indent
            + "  ".join(
                cell.ljust(width) if at < self.n_left else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def to_html(self):
        """A table element."""

        def line(cells, tag):
            return "".join(
                f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
                for cell, side in zip(cells, self._sides(), strict=True)
            )

        body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in self.rows)
        head = line(self.header, "th")
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def to_markdown(self):
        """A pipe table, as GitHub and Pandoc read it."""
        rules = [":--" if side == "left" else "--:" for side in self._sides()]
        lines = [list(map(markdown, self.header)), rules]
        lines += [list(map(markdown, row)) for row in self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def to_latex(self):
        """A tabular of the package booktabs."""
        columns = "".join(side[0] for side in self._sides())
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(self.header)]
        for at, row in enumerate(self.rows):
            if at == 0 or at in self.breaks:
                lines.append(r"\midrule")
            lines.append(_latex_row(row))
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])

    def _sides(self):
        return ["left" if at < self.n_left else "right" for at in range(len(self.header))]


@dataclass(frozen=True)
class Section:
    """A part of a report: a heading, a table and a line below it, any of them empty."""

    heading: str = ""
    table: TextTable | None = None
    line: str = ""


@dataclass(frozen=True)
class Report:
    """A title with the code of its formula, sections and notes, in every format."""

    title: str
    code: str = ""
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_html(self):
        """One div, headings of the fourth and fifth order."""
        parts = [f"<h4>{escape(self.title)}</h4>" if self.title else ""]
        if self.code:
            parts.append(f"<p><code>{escape(self.code)}</code></p>")
        for section in self.sections:
            if section.heading:
                parts.append(f"<h5>{escape(section.heading)}</h5>")
            if section.table is not None:
                parts.append(section.table.to_html())
            if section.line:
                parts.append(f"<p>{escape(section.line)}</p>")
        parts += [f"<p>{escape(note)}</p>" for note in self.notes]
        return "<div>" + "".join(parts) + "</div>"

    def to_markdown(self):
        """Headings in bold, tables of pipes."""
        parts = [f"**{markdown(self.title)}**"] if self.title else []
        if self.code:
            parts.append(code_span(self.code))
        for section in self.sections:
            if section.heading:
                parts.append(f"**{markdown(section.heading)}**")
            if section.table is not None:
                parts.append(section.table.to_markdown())
            if section.line:
                parts.append(markdown(section.line))
        return "\n\n".join([*parts, *map(markdown, self.notes)]) + "\n"

    def to_latex(self, caption=None, label=None):
        """A table environment that holds one tabular below another.

        Parameters
        ----------
        caption : str, optional
            LaTeX code, taken as it is; by default title and formula, escaped.
        label : str, optional
        """
        if caption is None:
            code = rf" \texttt{{{latex(self.code)}}}" if self.code else ""
            caption = f"{latex(self.title)}.{code}" if self.title else ""
        parts = [r"\begin{table}", r"\centering"]
        if caption:
            parts.append(rf"\caption{{{caption}}}")
        if label:
            parts.append(rf"\label{{{label}}}")
        for section in self.sections:
            if section.heading:
                parts.append(rf"\par\medskip\textit{{{latex(section.heading)}}}\par\smallskip")
            if section.table is not None:
                parts.append(section.table.to_latex())
            if section.line:
                parts.append(rf"\par\smallskip {latex(section.line)}\par")
        parts += [rf"\par\smallskip{{\footnotesize {latex(note)}}}" for note in self.notes]
        return "\n".join([*parts, r"\end{table}"]) + "\n"


def markdown(text):
    """Text without a meaning of its own in Markdown or HTML, on one line.

    Examples
    --------
    >>> markdown("log_x | <b>")
    'log\\\\_x \\\\| &lt;b&gt;'
    """
    text = escape(" ".join(str(text).split()), quote=False)
    return _MARKDOWN.sub(r"\\\1", text) if not _NUMBER.fullmatch(text) else text


def code_span(code):
    """Code in Markdown, between as many backticks as it needs."""
    code = " ".join(str(code).split())
    ticks = "`" * (1 + max(map(len, re.findall(r"`+", code)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{code}{space}{ticks}"


def latex(text):
    """Text without a meaning of its own in LaTeX; numbers as mathematics writes them.

    Examples
    --------
    >>> latex("log_x & 5 %"), latex("-1.2e-05")
    ('log\\\\_x \\\\& 5 \\\\%', '$-1.2 \\\\times 10^{-5}$')
    """
    text = " ".join(str(text).split())
    number = _NUMBER.fullmatch(text)
    if number is None:
        return "".join(_LATEX.get(letter, letter) for letter in text)
    sign, digits, exponent = number.groups()
    if exponent:
        return rf"${sign}{digits} \times 10^{{{int(exponent)}}}$"
    return f"$-${digits}" if sign else digits


def _latex_row(cells):
    """Cells of a row, the first of them no argument of the command before it."""
    row = " & ".join(map(latex, cells))
    return ("{}" if row.startswith(("[", "*")) else "") + row + r" \\"


def great_table(table, parts, title, subtitle=""):
    """A ``great_tables.GT`` of a table of text, which escapes what it is given.

    Parameters
    ----------
    table : TextTable
    parts : list of str
        Above which heading every row stands; all empty for none.
    title, subtitle : str

    Raises
    ------
    ImportError
        Where great_tables is not installed.
    """
    try:
        import great_tables
    except ImportError as error:
        raise ImportError(
            "to_gt needs great_tables: pip install 'scikit-mixed[tables]'; to_html, to_markdown "
            "and to_latex need nothing"
        ) from error
    names = {f"c{k}": name for k, name in enumerate(table.header)}
    frame = pd.DataFrame(table.rows, columns=list(names))
    frame.insert(0, "part", parts)
    made = great_tables.GT(frame, groupname_col="part" if any(parts) else None)
    if not any(parts):
        made = made.cols_hide("part")
    made = made.tab_header(title=title, subtitle=subtitle or None).cols_label(names)
    left, right = list(names)[: table.n_left], list(names)[table.n_left :]
    return made.cols_align("left", columns=left).cols_align("right", columns=right)
