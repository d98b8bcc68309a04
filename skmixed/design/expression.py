"""Python expressions of formulas: read, checked against a list of what they may hold, evaluated.

Nothing here hands text to Python's evaluator. An expression is parsed into its syntax tree, and a
walk over the tree computes its value; a node, a name or a function that the walk does not know is
an error. So a formula, or a column name in it, can never do more than arithmetic on columns.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from formulaic.transforms import TRANSFORMS

from skmixed.design.functions import (
    CONSTANTS,
    CONTRASTS,
    FUNCTIONS,
    NEIGHBOURS,
    Function,
    State,
    aggregated,
    transformed,
)
from skmixed.design.tokens import tokenize

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_BITWISE = {ast.BitAnd: np.logical_and, ast.BitOr: np.logical_or, ast.BitXor: np.logical_xor}
_COMPARISON: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
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
        raise ValueError(f"{_short(text)!r} is not a Python expression: {reason}") from error
    return Expression(text, tree, columns, coded, refusal)


def _short(text: str) -> str:
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


def _name(node: ast.Name) -> str:
    return node.id.strip("`")


def _spelling(node: ast.AST) -> str | None:
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
            named |= {id(value) for value in _settings(node) if _spelling(value) in CONTRASTS}
            coded |= {id(value) for value in node.args[:1] if _kind(node) == "coding"}
        elif isinstance(node, ast.Attribute) and _spelling(node.value) in ("np", "contr"):
            named.add(id(node.value))
        elif isinstance(node, ast.arg):
            local.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            local.add(node.id)
    values: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and id(node) not in named and node.id not in local:
            values[_name(node)] = values.get(_name(node), True) and id(node) in coded
    return tuple(values), frozenset(name for name, only in values.items() if only)


def _kind(call: ast.Call) -> str | None:
    function = FUNCTIONS.get(_spelling(call.func) or "")
    return function and function.kind


def _settings(call: ast.Call) -> list[ast.expr]:
    """The arguments of a coding beside its data, where the name of a contrast may stand."""
    if _kind(call) != "coding":
        return []
    return [*call.args[1:], *(keyword.value for keyword in call.keywords)]


# ---- what an expression may hold --------------------------------------------------------------


def _refusals(node: ast.expr):
    """Yield what a formula may not hold, and how to say it."""
    if isinstance(node, ast.Call):
        yield from _call_refusals(node)
    elif isinstance(node, ast.Attribute):
        if _spelling(node) not in CONSTANTS:
            yield _refused(node, "attributes are not read: write np.mean(x) for x.mean(),")
    elif isinstance(node, ast.BinOp):
        if type(node.op) not in _BINARY and type(node.op) not in _BITWISE:
            yield _refused(node, "this operator is none of formulas: ")
        for side in (node.left, node.right):
            yield from _refusals(side)
    elif isinstance(node, ast.Compare):
        if not all(type(op) in _COMPARISON for op in node.ops):
            yield _refused(node, "write np.isin(x, [...]) for membership,")
        for side in (node.left, *node.comparators):
            yield from _refusals(side)
    elif isinstance(node, ast.Constant):
        if not isinstance(node.value, int | float | str | None):
            yield _refused(node, "write numbers and text only,")
    elif isinstance(node, ast.Dict) and None in node.keys:
        yield _refused(node, "write its entries out,")
    elif isinstance(node, ast.Name | ast.UnaryOp | ast.BoolOp | ast.List | ast.Tuple | ast.Dict):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from _refusals(child)
    else:
        yield _refused(node, _ADVICE.get(type(node), "leave it out,"))


_ADVICE: dict[type, str] = {
    ast.IfExp: "write np.where(condition, a, b),",
    ast.Subscript: "rows and columns cannot be picked out,",
}


def _refused(node: ast.expr, advice: str) -> str:
    return (
        f"{_short(ast.unparse(node))!r} is more than formulas hold, which is columns, numbers, "
        f"text, arithmetic, comparisons and functions of columns; {advice} {_TRUSTED}"
    )


def _call_refusals(call: ast.Call):
    spelling = _spelling(call.func)
    function = FUNCTIONS.get(spelling or "")
    if function is None:
        yield _unknown_function(call, spelling)
        return
    names = [keyword.arg for keyword in call.keywords]
    if None in names or any(isinstance(value, ast.Starred) for value in call.args):
        yield _refused(call, "write the arguments out,")
        return
    objection = function.objection(len(call.args), names)
    if objection is not None:
        yield f"{spelling}() {objection}"
    settings = _settings(call)
    for value in (*call.args, *(keyword.value for keyword in call.keywords)):
        if any(value is setting for setting in settings):
            yield from _contrast_refusals(value)
        else:
            yield from _refusals(value)


def _contrast_refusals(node: ast.expr):
    """The same for an argument of C(): it may also be a contrast, or the call of one."""
    if _spelling(node) in CONTRASTS:
        return
    if not (isinstance(node, ast.Call) and _spelling(node.func) in CONTRASTS):
        yield from _refusals(node)
        return
    names = [keyword.arg or "_" for keyword in node.keywords]
    if any(name.startswith("_") for name in names):
        yield _refused(node, "write the arguments out,")
    for value in (*node.args, *(keyword.value for keyword in node.keywords)):
        yield from _refusals(value)


def _unknown_function(call: ast.Call, spelling: str | None) -> str:
    if spelling is None:
        return _refused(call, "call a function by its name,")
    module, _, name = spelling.rpartition(".")
    if name in NEIGHBOURS and module in ("", "np"):
        return (
            f"what {spelling}() gives in a row depends on the other rows of the table, which "
            "predict does not have: make the column before the fit, or use what remembers the "
            "rows of the fit, as mean(), center(), scale(), poly() and bs() do"
        )
    known = sorted(name for name in FUNCTIONS if "." not in name)
    near = difflib.get_close_matches(spelling, FUNCTIONS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return (
        f"the formula calls {spelling!r}, which is no function of formulas.{hint} Functions: "
        f"{', '.join(known)}; more of NumPy's as np.where, np.minimum, ...; {_TRUSTED}"
    )


def is_known_name(name: str) -> bool:
    """Whether trusted Python finds ``name`` where no column has it."""
    return name in TRANSFORMS or name in FUNCTIONS or hasattr(builtins, name)


# ---- evaluation -------------------------------------------------------------------------------


class Evaluator:
    """Computes expressions row by row from columns, with the state of the functions that learn."""

    def __init__(
        self,
        columns: Mapping[str, Any],
        numbers: Mapping[str, Any],
        counts: np.ndarray | None,
        n_rows: int,
    ) -> None:
        self._columns, self._numbers = columns, numbers
        self._counts, self._n = counts, n_rows
        self._state: dict[str, State] = {}

    def evaluate(self, expression: Expression, state: dict[str, State]) -> Any:
        """The value over all rows; what functions learn goes into ``state``, by their calls."""
        expression.check()
        self._state = state
        value = self._value(expression.tree)
        if hasattr(value, "__formulaic_metadata__"):
            return value
        if isinstance(value, str | list | dict) or value is None:
            raise ValueError(f"{_short(expression.text)!r} is no column")
        if np.ndim(value) == 0:
            return np.full(self._n, float(value))
        if getattr(getattr(value, "dtype", None), "kind", "") == "U":
            raise ValueError(f"{_short(expression.text)!r} is text: write C(...) for a factor")
        return value

    def _value(self, node: ast.expr) -> Any:
        """The value of a node; what no branch names cannot be computed."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._numbers[_name(node)]
        if isinstance(node, ast.Attribute):
            return CONSTANTS[str(_spelling(node))]
        if isinstance(node, ast.Call):
            return self._call(node, FUNCTIONS[str(_spelling(node.func))])
        if isinstance(node, ast.BinOp):
            return self._binary(node)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.BoolOp):
            combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            values = [_truth(self._value(value), node) for value in node.values]
            return functools.reduce(combine, values)
        if isinstance(node, ast.Compare):
            return self._compare(node)
        if isinstance(node, ast.List | ast.Tuple):
            return [self._value(value) for value in node.elts]
        if isinstance(node, ast.Dict):
            return {
                self._value(key): self._value(value)
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            }
        raise ValueError(_refused(node, "leave it out,"))

    def _binary(self, node: ast.BinOp) -> Any:
        left, right = self._value(node.left), self._value(node.right)
        if type(node.op) in _BITWISE:
            return _BITWISE[type(node.op)](_truth(left, node), _truth(right, node))
        left, right = _number(left, node.left), _number(right, node.right)
        if isinstance(node.op, ast.Pow) and isinstance(left, int) and isinstance(right, int):
            left = float(left)  # powers of whole numbers could grow without limit
        return _BINARY[type(node.op)](left, right)

    def _unary(self, node: ast.UnaryOp) -> Any:
        value = self._value(node.operand)
        if isinstance(node.op, ast.Not | ast.Invert):
            return np.logical_not(_truth(value, node))
        value = _number(value, node.operand)
        return -value if isinstance(node.op, ast.USub) else +value

    def _compare(self, node: ast.Compare) -> Any:
        sides = [self._value(side) for side in (node.left, *node.comparators)]
        found = []
        for left, op, right in zip(sides, node.ops, sides[1:], strict=False):
            if isinstance(left, str) != isinstance(right, str) and (
                _is_number(left) or _is_number(right)
            ):
                raise ValueError(f"{ast.unparse(node)!r} compares numbers with text")
            found.append(np.asarray(_COMPARISON[type(op)](left, right)))
        return functools.reduce(np.logical_and, found)

    def _call(self, node: ast.Call, function: Function) -> Any:
        settings = {str(keyword.arg): keyword.value for keyword in node.keywords}
        if function.kind == "coding":
            return self._coding(node, function, settings)
        first, *rest = [self._value(value) for value in node.args] or [None]
        named = {name: self._value(value) for name, value in settings.items()}
        if function.kind == "same":
            return first
        if function.kind == "list":
            return [first, *rest] if node.args else []
        if function.kind == "rows":
            values = [first, *rest]
            if not function.logical:
                values = [_number(value, node) for value in values]
            return _float64(function.call(*values, **named))
        column = self._column(first, node)
        state = self._state.setdefault(ast.unparse(node), {})
        apply = transformed if function.kind == "transform" else aggregated
        return apply(function, column, self._counts, state, rest, named)

    def _column(self, value: Any, node: ast.Call) -> np.ndarray:
        """The argument of a function that learns: one number for each row."""
        value = np.asarray(_number(value, node), dtype=np.float64)
        if value.shape != (self._n,):
            raise ValueError(f"{ast.unparse(node.func)}() is of a column, not of {value!r}")
        return value

    def _coding(self, node: ast.Call, function: Function, settings: dict[str, ast.expr]) -> Any:
        """C() sees the values as the table holds them: whole numbers are labels."""
        data = node.args[0]
        values = self._columns[_name(data)] if isinstance(data, ast.Name) else self._labels(data)
        rest = [self._contrast(value) for value in node.args[1:]]
        named = {name: self._contrast(value) for name, value in settings.items()}
        return function.call(values, *rest, **named)

    def _labels(self, node: ast.expr) -> Any:
        """An expression of whole numbers gives whole numbers, not 1.0 and 2.0."""
        values = self._value(node)
        if _is_number(values) and np.all(np.mod(values, 1) == 0):
            return np.asarray(values).astype(np.int64)
        return values

    def _contrast(self, node: ast.expr) -> Any:
        spelling = _spelling(node)
        if spelling in CONTRASTS:
            return CONTRASTS[str(spelling)]
        if isinstance(node, ast.Call) and _spelling(node.func) in CONTRASTS:
            settings = {str(keyword.arg): self._value(keyword.value) for keyword in node.keywords}
            contrast = CONTRASTS[str(_spelling(node.func))]
            return contrast(*(self._value(value) for value in node.args), **settings)
        return self._value(node)


def _is_number(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") in tuple("fiu") or (
        isinstance(value, int | float) and not isinstance(value, bool)
    )


def _number(value: Any, node: ast.expr) -> Any:
    """``value`` as numbers to reckon with: booleans are 0 and 1; anything else is an error."""
    if isinstance(value, bool | int | np.bool_):
        return int(value) if abs(value) < 2**53 else float(value)
    if isinstance(value, list) and all(isinstance(entry, int | float) for entry in value):
        return np.asarray(value, dtype=np.float64)
    several = hasattr(value, "__formulaic_metadata__") or np.ndim(value) > 1
    kind = getattr(value, "dtype", np.dtype(type(value))).kind
    if several or kind not in tuple("fiub"):
        what = "several columns" if several else "text or categories"
        raise ValueError(f"{_short(ast.unparse(node))!r} needs numbers and has {what}")
    return _float64(value, booleans=True)


def _float64(value: Any, booleans: bool = False) -> Any:
    """Numbers in full precision, whatever they were stored as."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in tuple("fiu") or (booleans and kind == "b"):
        return value.astype(np.float64, copy=False)
    return value


def _truth(value: Any, node: ast.expr) -> Any:
    """``value`` as booleans, which the logical operators take."""
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return value
    raise ValueError(
        f"{_short(ast.unparse(node))!r} joins what is neither true nor false: put each comparison "
        "in parentheses, as in (x > 1) & (z < 2)"
    )
