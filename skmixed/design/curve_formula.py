"""Formulas of nonlinear models: response, mean function and random effects of its parameters.

``"y ~ logistic(age, Asym, xmid, scal) ~ (Asym | Tree)"`` has three parts. The middle one is the
call of a curve or arithmetic; it is read by its syntax tree and computed node by node from a list
of what it may hold. No text is ever run as code.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from scipy.special import expit

from skmixed.curves import CURVES, Curve
from skmixed.design.expression import column_name, read_expression, short, spelling
from skmixed.design.formula import parse_formula
from skmixed.design.formula_terms import RandomSpec
from skmixed.design.names import term_names
from skmixed.design.tokens import backticked, check_tilde, tokenize

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: getattr(np, name)
    for name in (
        "abs arctan cos exp expm1 log log10 log1p log2 maximum minimum reciprocal sin sqrt square "
        "tanh where"
    ).split()
} | {"expit": expit}


# Structures of effects in no order
_UNORDERED = ("us", "diag", "homdiag", "cs", "homcs")


@dataclass(frozen=True)
class Effect:
    """A random effect on a parameter: that of a covariate expression, None for a constant."""

    parameter: str
    covariate: str | None = None

    @property
    def name(self) -> str:
        return self.parameter if self.covariate is None else f"{self.parameter}:{self.covariate}"


@dataclass(frozen=True)
class CurveTerm:
    """One random-effects term: its effects and its grouping factor."""

    effects: tuple[Effect, ...]
    group: str
    correlated: bool = True
    structure: str = "us"


@dataclass(frozen=True)
class CurveTerms:
    """A formula, taken apart; ``mean`` is the text of the mean function."""

    response: str | None
    mean: str
    random: tuple[RandomSpec, ...]
    text: str


@lru_cache(maxsize=256)
def parse_curve_formula(text: str) -> CurveTerms:
    """Return the parts of a formula such as ``"y ~ logistic(x, A, m, s) ~ (A + m | g)"``.

    Without a response, which is then given beside the table, there is one ``~`` less; without
    random effects the last part is left out, and a formula of two parts is read by its bars.

    Raises
    ------
    ValueError
        If the formula cannot be read.

    Examples
    --------
    >>> from skmixed.design.curve_formula import parse_curve_formula
    >>> terms = parse_curve_formula("height ~ SSasymp(age, Asym, R0, lrc) ~ Asym | Seed")
    >>> terms.response, terms.mean, terms.random[0].group
    ('height', 'SSasymp(age, Asym, R0, lrc)', 'Seed')
    """
    if not isinstance(text, str):
        raise TypeError(f"a formula is a str, got {type(text).__name__}: {text!r}")
    text = backticked(text)
    check_tilde(text, tokenize(text))
    parts = _sides(text)
    random: tuple[RandomSpec, ...] = ()
    if len(parts) > 1 and _has_bar(parts[-1]):
        random = _random(parts.pop())
    if len(parts) > 2 or not all(parts):
        raise ValueError(
            f"the formula {short(text)!r} is not of the form 'response ~ curve ~ random effects', "
            "as in 'y ~ logistic(x, Asym, xmid, scal) ~ (Asym | g)'"
        )
    response = parts[0] if len(parts) == 2 else None
    return CurveTerms(response, parts[-1], random, text)


def _sides(text: str) -> list[str]:
    """The parts between the ``~`` outside of brackets."""
    ends = [t.start for t in tokenize(text) if t.text == "~" and not t.context]
    begins = [0, *(end + 1 for end in ends)]
    return [text[a:b].strip() for a, b in zip(begins, [*ends, len(text)], strict=True)]


def _has_bar(text: str) -> bool:
    return any(token.text in ("|", "||") for token in tokenize(text))


def _random(text: str) -> tuple[RandomSpec, ...]:
    bare = all(token.context for token in tokenize(text) if token.text in ("|", "||"))
    terms = parse_formula(text if bare else f"({text})")
    if terms.fixed not in ("1", "") or terms.offsets:
        raise ValueError(
            f"the last part of the formula holds random-effects terms and {terms.fixed!r}: what "
            "the parameters depend on is said by fixed={parameter: right-hand side}"
        )
    return terms.random


def random_effects(terms: CurveTerms, parameters: tuple[str, ...]) -> tuple[CurveTerm, ...]:
    """The random-effects terms of a formula by the parameters of its curve."""
    found = []
    for spec in terms.random:
        names = [name for name in term_names(spec.expr) if name not in ("0", "1")]
        if not names and not spec.correlated:  # the intercept that || writes out
            continue
        effects = tuple(_effect(name, spec, parameters) for name in names)
        if not effects:
            raise ValueError(
                f"the random-effects term {spec} names no parameter: the terms of a nonlinear "
                f"model are of its parameters, {', '.join(parameters)}, as in "
                f"({parameters[0]} | {spec.group})"
            )
        if spec.structure not in _UNORDERED:
            raise ValueError(
                f"{spec}: the parameters of a curve have no order and no positions: their effects "
                f"have one of the structures {', '.join(_UNORDERED)}"
            )
        found.append(CurveTerm(effects, spec.group, spec.correlated, spec.structure))
    return tuple(found)


def _effect(name: str, spec: RandomSpec, parameters: tuple[str, ...]) -> Effect:
    factors = name.split(":")
    own = [factor for factor in factors if factor in parameters]
    if len(own) != 1:
        raise ValueError(
            f"the random effect {name!r} in {spec} is not of one parameter of the curve, which "
            f"are {', '.join(parameters)}: write ({parameters[0]} | {spec.group}), or "
            f"({parameters[0]}:x | {spec.group}) for an effect of x on it"
        )
    factors.remove(own[0])
    return Effect(own[0], ":".join(factors) or None)


@dataclass(frozen=True)
class MeanFunction:
    """The middle part of a formula, computed from columns and parameters.

    Attributes
    ----------
    text : str
    tree : ast.expr
    parameters : tuple of str
    columns : tuple of str
    functions : dict of str to callable
        What the user added.
    curve : Curve or None
        The registry's curve that is called; ``covariates`` are the trees of its covariates.
    """

    text: str
    tree: ast.expr
    parameters: tuple[str, ...]
    columns: tuple[str, ...]
    functions: Mapping[str, Callable[..., Any]]
    curve: Curve | None = None
    covariates: tuple[ast.expr, ...] = ()

    def __call__(self, columns: Mapping[str, np.ndarray], phi: Any) -> Any:
        """f of columns by name and of one value or array for each of the parameters."""
        own = dict(zip(self.parameters, map(_read_only, phi), strict=True))
        return _computed(self.tree, {**columns, **own}, self._callables)

    def covariates_of(self, columns: Mapping[str, np.ndarray], n: int) -> list[np.ndarray]:
        """The covariates (n,) of the registry's curve."""
        found = [_computed(node, columns, self._callables) for node in self.covariates]
        return [np.broadcast_to(np.asarray(x, dtype=float), (n,)) for x in found]

    @cached_property
    def _callables(self) -> dict[str, Callable[..., Any]]:
        curves = {name: curve.function for name, curve in CURVES.items()}
        return FUNCTIONS | curves | dict(self.functions)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("text", "parameters", "functions")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        parameters = dict.fromkeys(state["parameters"])
        made = read_mean(state["text"], parameters, state["functions"])
        if made.parameters != tuple(parameters):
            raise ValueError(f"the parameters of {short(made.text)!r} are {made.parameters}")
        self.__dict__.update(vars(made))

    @property
    def is_own(self) -> bool:
        """Whether a function of the user is called."""
        return any(
            isinstance(node, ast.Call) and spelling(node.func) in self.functions
            for node in ast.walk(self.tree)
        )


def read_mean(
    text: str, start: Any, functions: Mapping[str, Callable[..., Any]] | None = None
) -> MeanFunction:
    """The mean function of a formula.

    Parameters
    ----------
    text : str
    start : dict or "auto"
        Its keys are the parameters, where no curve of the registry names them.
    functions : dict of str to callable, optional

    Raises
    ------
    ValueError
        For what a mean function may not hold, and where it is not known what the parameters are.
    """
    functions = dict(functions or {})
    for name, function in functions.items():
        if not isinstance(name, str) or not callable(function):
            raise ValueError(
                f"functions must be a dict of names to functions, got {name!r}: {function!r}"
            )
    expression = read_expression(text.replace("^", "**"))
    tree = expression.tree
    _check(tree, {*FUNCTIONS, *CURVES, *functions})
    called = spelling(tree.func) or "" if isinstance(tree, ast.Call) else ""
    curve = None if called in functions else CURVES.get(called)
    arguments = tree.args if isinstance(tree, ast.Call) else []
    if curve is not None:
        parameters = _curve_parameters(text, arguments, called, curve)
    elif isinstance(start, Mapping) and start:
        parameters = tuple(start)
    else:
        raise ValueError(
            f"start is needed for {short(text)!r}: a dict of the parameters and their starting "
            "values, as start={'a': 1, 'b': 0.2}. Only the curves of the registry "
            f"({', '.join(c for c in CURVES if not c.startswith('SS'))}) find their own"
        )
    for name in parameters:
        if name not in expression.columns:
            raise ValueError(
                f"start names the parameter {name!r}, which {short(text)!r} does not use"
            )
    columns = tuple(name for name in expression.columns if name not in parameters)
    covariates = tuple(arguments[: len(curve.covariates)]) if curve is not None else ()
    return MeanFunction(text, tree, parameters, columns, functions, curve, covariates)


def _curve_parameters(
    text: str, arguments: list[ast.expr], name: str, curve: Curve
) -> tuple[str, ...]:
    n = len(curve.covariates)
    given = arguments[n:]
    names = tuple(column_name(node) for node in given if isinstance(node, ast.Name))
    if (
        len(given) != len(curve.parameters)
        or len(names) != len(given)
        or len(set(names)) < len(names)
    ):
        expected = ", ".join((*curve.covariates, *curve.parameters))
        raise ValueError(
            f"{short(text)!r} does not fit the curve {name}({expected}): write the "
            f"covariate{'s' * (n > 1)} first and then a name for each of its "
            f"{len(curve.parameters)} parameters"
        )
    return names


# What a mean function may hold


def _check(node: ast.expr, known: set[str]) -> None:
    """A ValueError for anything but numbers, names, arithmetic and known functions."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return
    if isinstance(node, ast.Name):
        if column_name(node).startswith("_"):
            raise ValueError(f"the name {column_name(node)!r} begins with '_': rename it")
        return
    for child in _children(node, known):
        _check(child, known)


def _children(node: ast.expr, known: set[str]) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return [node.left, node.right]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return [node.operand]
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
        return [node.left, *node.comparators]
    if isinstance(node, ast.Call):
        name = (spelling(node.func) or "").removeprefix("np.")
        if name not in known:
            raise ValueError(
                f"the formula calls {short(ast.unparse(node.func))!r}, which is no function of "
                f"curves: known are {', '.join(sorted(known))}. Another one is given by "
                "functions={'name': function}"
            )
        if node.keywords or any(isinstance(value, ast.Starred) for value in node.args):
            raise ValueError(
                f"{short(ast.unparse(node))!r}: the arguments of a curve are given by position"
            )
        return list(node.args)
    raise ValueError(
        f"{short(ast.unparse(node))!r} is more than a curve holds, which is numbers, columns, "
        "parameters, arithmetic and functions of these: define it by functions={'name': function}"
    )


def _read_only(values: Any) -> Any:
    """An array that a function of the user cannot write to; anything else as it is."""
    if isinstance(values, np.ndarray):
        values = values.view()
        values.flags.writeable = False
    return values


def _computed(node: ast.expr, values: Mapping[str, Any], functions: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return values[column_name(node)]
    if isinstance(node, ast.BinOp):
        left = _computed(node.left, values, functions)
        return _OPERATORS[type(node.op)](left, _computed(node.right, values, functions))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_computed(node.operand, values, functions))
    if isinstance(node, ast.Compare):
        left = _computed(node.left, values, functions)
        right = _computed(node.comparators[0], values, functions)
        return _OPERATORS[type(node.ops[0])](left, right)
    assert isinstance(node, ast.Call)
    name = (spelling(node.func) or "").removeprefix("np.")
    return functions[name](*(_computed(value, values, functions) for value in node.args))
