"""Names in formulas: of columns, of grouping factors, and the terms that formulaic reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from formulaic import Formula

from skmixed.design.tokens import is_one_call, tokenize


@lru_cache(maxsize=4096)
def quoted_name(name: str) -> str:
    """``name`` between backticks, where it is read as this one name and as nothing else.

    Names stand in files that nobody looked into: one that ends its own quotes would go on as code.
    """
    quoted = f"`{name}`"
    if re.fullmatch(r"[^\W\d]\w*", name) or _reads_as_itself(name, quoted):
        return quoted
    raise ValueError(
        f"a column named {name!r} cannot stand in a formula, which would read it as something "
        "else: rename it"
    )


def _reads_as_itself(name: str, quoted: str) -> bool:
    try:
        ours = [token.text for token in tokenize(quoted)]
        factors = [f for term in Formula(f"1 + {quoted}") for f in term.factors]
    except Exception:  # whatever formulaic stumbles over
        return False
    found = [(factor.expr, factor.eval_method.value) for factor in factors]
    return ours == [quoted] and found == [("1", "literal"), (name, "lookup")]


@lru_cache(maxsize=1024)
def formulaic_formula(expr: str) -> Formula:
    """``expr`` as formulaic reads it; what it cannot read is a ValueError that shows the text."""
    for token in tokenize(expr) if "`" in expr else ():
        if token.kind == "quoted" and not token.in_python:
            quoted_name(token.text[1:-1])
    try:
        return Formula(expr)
    except Exception as error:  # formulaic lets AttributeError and others pass beside its own
        reason = re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", str(error)).strip().splitlines()
        shown = f": {reason[0]}" if reason else ""
        raise ValueError(f"the formula part {expr!r} cannot be read{shown}") from error


def term_names(expr: str) -> list[str]:
    """The terms of ``expr`` in order, ``"1"`` for the intercept."""
    return [
        ":".join(_factor_text(factor) for factor in term.factors)
        for term in formulaic_formula(expr)
    ]


def _factor_text(factor) -> str:
    """A factor as it is written in a formula."""
    text = str(factor.expr)
    if factor.eval_method.value == "lookup" and not re.fullmatch(r"[^\W\d][\w.]*", text):
        return f"`{text}`"
    if factor.eval_method.value != "python" or is_call(text):
        return text
    return f"{{{text}}}"


def is_call(text: str) -> bool:
    """Whether ``text`` is one call, which needs no braces, and not a sum that begins with one."""
    return is_one_call(tokenize(text))


def group_label(group: str, groups: Collection[str]) -> str:
    """How one of ``groups`` is shown: a column without backticks, unless ``a:b`` is another."""
    columns = split_group(group)
    return columns[0] if len(columns) == 1 and columns[0] not in groups else group


@lru_cache(maxsize=1024)
def split_group(group: str) -> tuple[str, ...]:
    """The columns of a grouping factor: ``"a:b"`` gives ``("a", "b")``."""
    return tuple(name.strip("`") for name in re.findall(r"`[^`]*`|[^:`]+", group))


def _hint(name: str, known: list[str]) -> str:
    """What scikit-learn's transformers do to names, where that shows."""
    if known == [f"x{j}" for j in range(len(known))]:
        return (
            " The data came without names of columns, as an array: give a DataFrame, which "
            "transformers in a pipeline return after set_output(transform='pandas'). In tools "
            "that pass arrays on, such as BaggingRegressor, use make_pipeline(FunctionTransformer("
            "pandas.DataFrame, kw_args={'columns': names}), model); in RFE and other selectors a "
            "model without formula, and groups=."
        )
    if any(column.endswith(f"__{name}") for column in known):
        return (
            " A transformer has put its own name in front: "
            "ColumnTransformer(..., verbose_feature_names_out=False) leaves names alone."
        )
    return ""


def unknown_name(name: str, known: Iterable[str], message: str) -> ValueError:
    """The error for a name that no column has: ``message``, the nearest name, and all there are."""
    known = [str(column) for column in known]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    near = near or [column for column in known if column.lower() == name.lower()][:1]
    hint = _hint(name, known) or (f" Did you mean {near[0]!r}?" if near else "")
    shown = ", ".join(known[:20]) + (f", ... ({len(known)} in all)" if len(known) > 20 else "")
    return ValueError(f"{message}.{hint} Columns: {shown}")
