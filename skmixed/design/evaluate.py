"""Values of expressions: a walk over the syntax tree that knows nothing but columns and functions.

Text is never handed to Python's evaluator. A node, a name or a function that the walk does not
know is an error, so a formula, or a column name in it, can do no more than arithmetic on columns.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from skmixed.design.expression import Expression, column_name, refused, short, spelling
from skmixed.design.functions import (
    CONSTANTS,
    CONTRASTS,
    FUNCTIONS,
    Function,
    State,
    aggregated,
    transformed,
)

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
            raise ValueError(f"{short(expression.text)!r} is no column")
        if np.ndim(value) == 0:
            return np.full(self._n, float(value))
        if len(value) != self._n:
            what = f"gives {len(value)} values for {self._n} rows"
            raise ValueError(f"{short(expression.text)!r} {what}")
        if getattr(getattr(value, "dtype", None), "kind", "") == "U":
            raise ValueError(f"{short(expression.text)!r} is text: write C(...) for a factor")
        return value

    def _value(self, node: ast.expr) -> Any:
        """The value of a node; what no branch names cannot be computed."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._numbers[column_name(node)]
        if isinstance(node, ast.Attribute):
            return CONSTANTS[str(spelling(node))]
        if isinstance(node, ast.Call):
            return self._call(node, FUNCTIONS[str(spelling(node.func))])
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
        raise ValueError(refused(node, "leave it out,"))

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
        if function.kind in ("rows", "table"):
            values = [first, *rest]
            if not function.logical:
                values = [None if v is None else _number(v, node) for v in values]
            return _float64(function.call(*values, **named))
        column = self._column(first, node)
        state = self._state.setdefault(ast.unparse(node), {})
        apply = transformed if function.kind == "transform" else aggregated
        return apply(function, column, self._counts, state, rest, named)

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return self._n

    def value(self, node: ast.expr) -> Any:
        """The value of a tree in which no function learns: a number, a column or several."""
        return self._value(node)

    def labels(self, node: ast.expr) -> Any:
        """What ``C()`` of a tree makes categories of."""
        return self._labels(node)

    def argument(self, call: ast.Call) -> np.ndarray:
        """The column (n,) that a function learns from."""
        return self._column(self._value(call.args[0]), call)

    def learnt(self, call: ast.Call, x: np.ndarray) -> State:
        """What the function of a call learns from x (n,), whatever its column is."""
        function, state = FUNCTIONS[str(spelling(call.func))], State()
        rest = [self._value(value) for value in call.args[1:]]
        named = {str(keyword.arg): self._value(keyword.value) for keyword in call.keywords}
        apply = transformed if function.kind == "transform" else aggregated
        apply(function, x, self._counts, state, rest, named)
        return state

    def _column(self, value: Any, node: ast.Call) -> np.ndarray:
        """The argument of a function that learns: one number for each row."""
        value = np.asarray(_number(value, node), dtype=np.float64)
        if value.shape != (self._n,):
            raise ValueError(f"{ast.unparse(node.func)}() is of a column, not of {value!r}")
        return value

    def _coding(self, node: ast.Call, function: Function, settings: dict[str, ast.expr]) -> Any:
        """The factor that C() makes, with the coding that is asked for."""
        values = self._labels(node.args[0])
        rest = [self._contrast(value) for value in node.args[1:]]
        named = {name: self._contrast(value) for name, value in settings.items()}
        return function.call(values, *rest, **named)

    def _labels(self, node: ast.expr) -> Any:
        """A column as it is; an expression of whole numbers as 1 and 2, not 1.0 and 2.0."""
        if isinstance(node, ast.Name):
            return self._columns[column_name(node)]
        values = self._value(node)
        if _is_number(values) and np.all(np.mod(values, 1) == 0):
            return np.asarray(values).astype(np.int64)
        return values

    def _contrast(self, node: ast.expr) -> Any:
        if spelling(node) in CONTRASTS:
            return CONTRASTS[str(spelling(node))]
        if isinstance(node, ast.Call) and spelling(node.func) in CONTRASTS:
            settings = {str(keyword.arg): self._value(keyword.value) for keyword in node.keywords}
            contrast = CONTRASTS[str(spelling(node.func))]
            return contrast(*(self._value(value) for value in node.args), **settings)
        return self._value(node)


def _is_number(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") in tuple("fiu") or (
        isinstance(value, int | float) and not isinstance(value, bool)
    )


def _number(value: Any, node: ast.expr) -> Any:
    """``value`` as numbers to reckon with: booleans are 0 and 1; anything else is an error."""
    if isinstance(value, int | np.bool_):
        value = int(value)
        return value if abs(value) < 2**53 else float(value)
    if isinstance(value, list) and all(isinstance(entry, int | float) for entry in value):
        return np.asarray(value, dtype=np.float64)
    several = hasattr(value, "__formulaic_metadata__") or np.ndim(value) > 1
    kind = getattr(value, "dtype", np.dtype(type(value))).kind
    if several or kind not in tuple("fiub"):
        what = "several columns" if several else "text or categories"
        raise ValueError(f"{short(ast.unparse(node))!r} needs numbers and has {what}")
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
        f"{short(ast.unparse(node))!r} joins what is neither true nor false: put each comparison "
        "in parentheses, as in (x > 1) & (z < 2)"
    )
