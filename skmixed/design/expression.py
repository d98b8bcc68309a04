"""Python expressions of formulas: read, and checked against a list of what they may hold."""

from __future__ import annotations

import ast
import builtins
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from formulaic.transforms import TRANSFORMS

from skmixed.design.functions import CONSTANTS, CONTRASTS, FUNCTIONS, NEIGHBOURS
from skmixed.design.tokens import tokenize

ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
LOGIC = (ast.BitAnd, ast.BitOr, ast.BitXor)
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_TRUSTED = (
    "or make the column before the fit. Full Python is evaluated with trusted=True, for formulas "
    "that you wrote yourself"
)


@dataclass(frozen=True)
class Expression:
    """A Python expression: its tree, the columns it reads and the functions it calls.

    Names in the tree that Python cannot read are in backticks. ``coded`` holds the columns that
    only ``C()`` sees; ``refusal`` says what a formula may not hold, None if all is well.
    """

    text: str
    tree: ast.expr
    columns: tuple[str, ...]
    coded: frozenset[str]
    refusal: str | None

    def check(self) -> None:
        """A ValueError if the expression holds what a formula may not hold."""
        if self.refusal is not None:
            raise ValueError(self.refusal)


@lru_cache(maxsize=1024)
def read_expression(text: str) -> Expression:
    """The expression ``text``, in which names in backticks are columns."""
    try:
        tree = _parsed(text)
        refusal = next(_refusals(tree), None)
        columns, coded = _columns(tree)
    except (SyntaxError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or "it is nested too deeply"
        raise ValueError(f"{short(text)!r} is not a Python expression: {reason}") from error
    return Expression(text, tree, columns, coded, refusal)


def short(text: str) -> str:
    """``text`` as messages show it."""
    return text if len(text) <= 80 else f"{text[:77]}..."


# ---- reading ----------------------------------------------------------------------------------


def _parsed(text: str) -> ast.expr:
    """The tree of ``text``: names that Python would not leave as they are stand in backticks."""
    out, end, aliases = [], 0, {}
    prefix = "_column_"
    while prefix in text:
        prefix += "_"
    for token in tokenize(text):
        if token.kind == "quoted" or (token.kind == "name" and not token.text.isascii()):
            alias = f"{prefix}{len(aliases)}"
            aliases[alias] = token.text.strip("`")
            out += [text[end : token.start], f" {alias} "]
            end = token.start + len(token.text)
    tree = ast.parse("".join([*out, text[end:]]).strip(), mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in aliases:
            name = aliases[node.id]
            node.id = name if name.isidentifier() and name.isascii() else f"`{name}`"
    return tree


def column_name(node: ast.Name) -> str:
    """The column that a name stands for."""
    return node.id.strip("`")


def spelling(node: ast.AST) -> str | None:
    """``"log"`` or ``"np.log"`` of a name or of an attribute of one; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return None


def _columns(tree: ast.expr) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names used as values, and those of them that stand only as the data of a coding."""
    named: set[int] = set()
    coded: set[int] = set()
    local: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            named.add(id(node.func))
            named |= {id(value) for value in _settings(node) if spelling(value) in CONTRASTS}
            coded |= {id(value) for value in node.args[:1] if _kind(node) == "coding"}
        elif isinstance(node, ast.Attribute) and spelling(node.value) in ("np", "contr"):
            named.add(id(node.value))
        elif isinstance(node, ast.arg):
            local.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            local.add(node.id)
    values: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in named and node.id not in local:
            values[column_name(node)] = values.get(column_name(node), True) and id(node) in coded
    return tuple(values), frozenset(name for name, only in values.items() if only)


def _kind(call: ast.Call) -> str | None:
    function = FUNCTIONS.get(spelling(call.func) or "")
    return None if function is None else function.kind


def _settings(call: ast.Call) -> list[ast.expr]:
    """The arguments of a coding beside its data, where the name of a contrast may stand."""
    if _kind(call) != "coding":
        return []
    return [*call.args[1:], *(keyword.value for keyword in call.keywords)]


# ---- what an expression may hold --------------------------------------------------------------


def _refusals(node: ast.expr) -> Iterator[str]:
    """Yield what a formula may not hold, and how to say it."""
    if isinstance(node, ast.Call):
        yield from _call_refusals(node)
    elif isinstance(node, ast.Attribute):
        if spelling(node) not in CONSTANTS:
            yield refused(node, "attributes are not read: write np.mean(x) for x.mean(),")
    elif isinstance(node, ast.BinOp):
        if not isinstance(node.op, (*ARITHMETIC, *LOGIC)):
            yield refused(node, "leave the operator out,")
        for side in (node.left, node.right):
            yield from _refusals(side)
    elif isinstance(node, ast.Compare):
        if not all(isinstance(op, COMPARISONS) for op in node.ops):
            yield refused(node, "write np.isin(x, [...]) for membership,")
        for side in (node.left, *node.comparators):
            yield from _refusals(side)
    elif isinstance(node, ast.Constant):
        if not isinstance(node.value, int | float | str | None):
            yield refused(node, "write numbers and text only,")
    elif isinstance(node, ast.Dict) and None in node.keys:
        yield refused(node, "write its entries out,")
    elif isinstance(node, ast.Name | ast.UnaryOp | ast.BoolOp | ast.List | ast.Tuple | ast.Dict):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from _refusals(child)
    else:
        yield refused(node, _ADVICE.get(type(node), "leave it out,"))


_ADVICE: dict[type, str] = {
    ast.IfExp: "write np.where(condition, a, b),",
    ast.Subscript: "rows and columns cannot be picked out,",
}


def refused(node: ast.expr, advice: str) -> str:
    return (
        f"{short(ast.unparse(node))!r} is more than formulas hold, which is columns, numbers, "
        f"text, arithmetic, comparisons and functions of columns; {advice} {_TRUSTED}"
    )


def _call_refusals(call: ast.Call) -> Iterator[str]:
    name = spelling(call.func)
    function = FUNCTIONS.get(name or "")
    if function is None:
        yield _unknown_function(call, name)
        return
    names = [keyword.arg for keyword in call.keywords]
    if None in names or any(isinstance(value, ast.Starred) for value in call.args):
        yield refused(call, "write the arguments out,")
        return
    objection = function.objection(len(call.args), names)
    if objection is not None:
        yield f"{name}() {objection}"
    rest = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
    if function.one_column and any(map(_varies, rest)):
        yield (
            f"{name}() is of one column: its other arguments are constants, or learnt once, as "
            f"np.mean(x) is, in {short(ast.unparse(call))!r}"
        )
    settings = _settings(call)
    for value in (*call.args, *(keyword.value for keyword in call.keywords)):
        if any(value is setting for setting in settings):
            yield from _contrast_refusals(value)
        else:
            yield from _refusals(value)


def _contrast_refusals(node: ast.expr) -> Iterator[str]:
    """The same for an argument of C(): it may also be a contrast, or the call of one."""
    if spelling(node) in CONTRASTS:
        return
    if not (isinstance(node, ast.Call) and spelling(node.func) in CONTRASTS):
        yield from _refusals(node)
        return
    names = [keyword.arg or "_" for keyword in node.keywords]
    if any(name.startswith("_") for name in names):
        yield refused(node, "write the arguments out,")
    for value in (*node.args, *(keyword.value for keyword in node.keywords)):
        yield from _refusals(value)


def _varies(node: ast.AST) -> bool:
    """Whether a value may differ between rows: it reads a column other than for an aggregate."""
    if isinstance(node, ast.Call):
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        return _kind(node) != "aggregate" and any(map(_varies, values))
    if spelling(node) in CONTRASTS or isinstance(node, ast.Attribute):
        return False
    return isinstance(node, ast.Name) or any(map(_varies, ast.iter_child_nodes(node)))


def _unknown_function(call: ast.Call, name: str | None) -> str:
    if name is None:
        return refused(call, "call a function by its name,")
    if "." in name.removeprefix("np."):
        return refused(call, "attributes are not read: write np.mean(x) for x.mean(),")
    if name.removeprefix("np.") in NEIGHBOURS:
        return (
            f"what {name}() gives in a row depends on the other rows of the table, which predict "
            "does not have: make the column before the fit, or use what remembers the rows of the "
            "fit, as mean(), center(), scale(), poly() and bs() do"
        )
    known = sorted(function for function in FUNCTIONS if "." not in function)
    near = difflib.get_close_matches(name, FUNCTIONS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"the formula calls {name!r}, which is no function of formulas.{hint} Functions: "
        f"{', '.join(known)}; more of NumPy's as np.where, np.minimum, ...; {_TRUSTED}"
    )


def is_known_name(name: str) -> bool:
    """Whether trusted Python finds ``name`` where no column has it."""
    return name in TRANSFORMS or name in FUNCTIONS or hasattr(builtins, name)
