"""Predictions of fitted models as ONNX graphs, in double precision.

A graph holds linear and generalised mixed models of plain columns: numbers, categories, ``C(x)``
with any contrasts, and their interactions; random effects of known levels. It needs ``skl2onnx``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skmixed.design.expression import column_name, read_expression, spelling
from skmixed.design.full import Product, categories_of, products_of
from skmixed.design.parts import FormulaPart, PlainPart
from skmixed.estimators.classifier import MixedLogisticClassifier
from skmixed.estimators.generalized import GeneralizedMixedModel
from skmixed.estimators.glm import MixedGLMRegressor
from skmixed.estimators.mixed import MixedLinearRegressor
from skmixed.families import LARGEST_EXPONENT

_KINDS = (MixedLinearRegressor, MixedGLMRegressor, MixedLogisticClassifier)
# Combinations of the levels of a:b that are looked up in one table.
_MOST_CELLS = 10_000_000
_NO_LABEL = {"text": "", "integer": np.iinfo(np.int64).min}
_NO_LEVEL = {"text": "\ufffd", "integer": np.iinfo(np.int64).min}
_LONGEST = 1 << 53  # to which float64 holds all integers
_ML = "ai.onnx.ml"


def to_onnx(model: Any, *, target_opset: Any = None) -> Any:
    """The prediction of a fitted model as an ONNX graph.

    Every column that the model reads is an input of shape (n, 1), by its name: float64 for numbers,
    text for categories and grouping factors that are text, int64 for levels that are integers.
    The output of regressors is ``prediction`` (n, 1); that of the classifier ``label`` (n,) and
    ``probabilities`` (n, 2). They are in double precision.

    A graph can neither warn nor raise: rows of categories that the fit did not have are NaN, and so
    are rows of infinite covariates, and those of unseen levels unless
    ``unseen_groups="population"``. The label of such a row is an empty text, or the smallest
    integer.

    Parameters
    ----------
    model : MixedLinearRegressor, MixedGLMRegressor or MixedLogisticClassifier
        Fitted. Inside of a scikit-learn pipeline call :func:`register`, then ``skl2onnx`` itself.
    target_opset : dict, optional
        As in ``skl2onnx.to_onnx``; that of ``ai.onnx.ml`` is 3 at most.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    NotFittedError
        Before fit.
    ValueError
        For what a graph cannot hold, with the term: functions, splines, smooth and structured
        terms, dates as levels, links without an operator.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor, onnx  # doctest: +SKIP
    >>> graph = onnx.to_onnx(model)  # doctest: +SKIP
    >>> session = onnxruntime.InferenceSession(graph.SerializeToString())  # doctest: +SKIP
    >>> session.run(None, onnx.inputs(model, new_rows))  # doctest: +SKIP
    """
    from skl2onnx import convert_sklearn, get_latest_tested_opset_version

    _check_kind(model)
    if target_opset is None:
        target_opset = {"": get_latest_tested_opset_version(), _ML: 3}
    kinds = _input_kinds(model)
    if not kinds:
        raise _cannot("a model that reads no column")
    register()
    made = convert_sklearn(
        model,
        name=type(model).__name__,
        initial_types=[(name, _tensor(kind)) for name, kind in kinds.items()],
        target_opset=target_opset,
    )
    _name_inputs(made.graph, list(kinds))
    return made


def _name_inputs(graph, columns):
    """Name the inputs as the columns, where skl2onnx has made identifiers of their names."""
    names = {own.name: name for own, name in zip(graph.input, columns, strict=True)}
    for name in (own.name for own in graph.output if own.name in columns):
        raise ValueError(f"an output of the graph is called {name!r}: rename the column before fit")
    for own in graph.input:
        own.name = names[own.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def inputs(model: Any, X: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of new rows as a session of the graph takes them.

    Missing levels become one that the fit did not have.

    Parameters
    ----------
    model : fitted estimator
    X : DataFrame or dict of columns

    Returns
    -------
    dict of arrays (n, 1)
    """
    _check_kind(model)
    return {name: _as_input(X[name], kind) for name, kind in _input_kinds(model).items()}


def _as_input(column, kind):
    """A column (n, 1); missing levels and numbers that are no integers as one that no level is."""
    values = pd.Series(column)
    if kind == "number":
        made = values.to_numpy(dtype=np.float64, na_value=np.nan)
    elif kind == "text":
        made = values.astype(object).where(values.notna(), _NO_LEVEL["text"]).to_numpy()
    elif isinstance(values.dtype, np.dtype) and values.dtype.kind in "iub":
        made = values.to_numpy(dtype=np.int64)
    else:
        made = np.array([_integer(value) for value in values], dtype=np.int64)
    return made.reshape(-1, 1)


def _integer(value):
    whole = pd.notna(value) and np.isfinite(float(value)) and value == int(value)
    return int(value) if whole else _NO_LEVEL["integer"]


def register() -> None:
    """Tell ``skl2onnx`` how the estimators of this package are converted, in pipelines too.

    In a pipeline, where earlier steps leave one matrix of numbers, columns are found by their
    place.
    """
    from skl2onnx import update_registered_converter

    for cls in _KINDS:
        update_registered_converter(
            cls, f"Skmixed{cls.__name__}", _shapes, _convert, overwrite=True, parser=_parse
        )


def _check_kind(model):
    if not isinstance(model, _KINDS):
        names = ", ".join(cls.__name__ for cls in _KINDS)
        raise ValueError(f"ONNX graphs are made of {names}, got {type(model).__name__}")
    check_is_fitted(model)


def _cannot(what):
    return ValueError(
        f"{what} has no place in an ONNX graph, which holds plain columns and their products: make "
        "the column before the fit, or serve the model from its dictionary (to_dict)"
    )


# Columns


def _input_kinds(model) -> dict[str, str]:
    """``"number"``, ``"text"`` or ``"integer"`` for every column that the model reads."""
    spec, kinds = model.design_spec_, {}
    for name in (*spec.fixed_columns, *spec.random_columns):
        column = spec.columns[name]
        kinds[name] = _kind(name, column.categories) if column.kind == "category" else "number"
    for group in spec.groups.values():
        for name, levels in zip(group.columns, group.column_levels, strict=True):
            kinds[name] = _kind(name, levels)
    return kinds


def _kind(name, levels) -> str:
    inferred = pd.Index(levels).inferred_type
    if inferred == "string":
        return "text"
    if inferred in ("integer", "boolean"):
        return "integer"
    raise _cannot(f"the column {name!r} with levels of the type {inferred!r}")


def _tensor(kind):
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType

    types = {"text": StringTensorType, "integer": Int64TensorType, "number": DoubleTensorType}
    return types[kind]([None, 1])


def _column_of(expr: str, spec) -> str:
    """The column that a factor of the formula is: itself, or coded by C()."""
    if expr in spec.columns:
        return expr
    tree = read_expression(expr).tree
    if isinstance(tree, ast.Call) and spelling(tree.func) == "C" and tree.args:
        first = tree.args[0]
        if isinstance(first, ast.Name) and column_name(first) in spec.columns:
            return column_name(first)
    raise _cannot(f"{expr!r}")


# What skl2onnx calls


def _parse(scope, model, inputs, custom_parsers=None):
    """The operator with its outputs; those of a classifier are its labels and probabilities."""
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType

    operator = scope.declare_local_operator(f"Skmixed{type(model).__name__}", model)
    operator.inputs.extend(inputs)
    outputs = {"prediction": DoubleTensorType([None, 1])}
    if isinstance(model, MixedLogisticClassifier):
        text = _kind("the classes", model.classes_) == "text"
        label = StringTensorType([None]) if text else Int64TensorType([None])
        outputs = {"label": label, "probabilities": DoubleTensorType([None, 2])}
    for name, kind in outputs.items():
        operator.outputs.append(scope.declare_local_variable(name, kind))
    return operator.outputs


def _shapes(operator):
    """Nothing: the parser has said all."""


def _convert(scope, operator, container):
    model = operator.raw_operator
    graph = _Graph(scope, container, operator, model)
    eta = graph.linear_predictor()
    if isinstance(model, MixedLogisticClassifier):
        graph.classify(eta, *operator.outputs)
        return
    mean = graph.mean(eta) if isinstance(model, GeneralizedMixedModel) else eta
    graph.node("Identity", mean, output=operator.outputs[0])


class _Graph:
    """Nodes of one model in the container of skl2onnx; values are names of tensors (n, 1)."""

    def __init__(self, scope, container, operator, model):
        self._scope, self._container, self._model = scope, container, model
        self._spec, self._fit = model.design_spec_, model.result_
        self._inputs = {v.raw_name: v for v in operator.inputs}
        self._matrix = None
        if len(operator.inputs) == 1 and operator.inputs[0].type.shape[1:] != [1]:
            self._matrix = operator.inputs[0]
        self._any = operator.inputs[0].full_name
        self._known: dict[Any, str] = {}

    # Nodes

    def node(self, op, *arguments, output=None, domain="", **settings) -> str:
        """One node, and the name of its output."""
        name = self._scope.get_unique_variable_name(op) if output is None else output.full_name
        own = self._scope.get_unique_operator_name(op)
        self._container.add_node(
            op, list(arguments), [name], op_domain=domain, name=own, **settings
        )
        return name

    def constant(self, values) -> str:
        """An array of float64, int64 or text."""
        from onnx import TensorProto

        values = np.asarray(values)
        kinds = {"f": TensorProto.DOUBLE, "i": TensorProto.INT64}
        content = values.ravel().tolist()
        kind = kinds.get(values.dtype.kind, TensorProto.STRING)
        if kind == TensorProto.STRING:
            content = [text.encode() for text in content]
        name = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(values.shape), content)
        return name

    def single(self, value) -> str:
        """A number of shape (1, 1)."""
        return self.constant(np.array([[value]]))

    def cast(self, value, kind) -> str:
        from onnx import TensorProto

        return self.node("Cast", value, to=getattr(TensorProto, kind))

    def total(self, values) -> str:
        """The sum of tensors."""
        values = list(values)
        return values[0] if len(values) == 1 else self.node("Sum", *values)

    # Columns

    def raw(self, name) -> str:
        """The column as it comes in."""
        if self._matrix is None:
            if name not in self._inputs:
                raise ValueError(f"the graph has no input {name!r}: it has {list(self._inputs)}")
            return self._inputs[name].full_name
        place = self._model._feature_names().index(name)
        return self.node("Gather", self._matrix.full_name, self.constant(np.array([place])), axis=1)

    def number(self, name) -> str:
        """The column as float64, NaN where it is infinite."""
        if name not in self._known:
            x = self.cast(self.raw(name), "DOUBLE")
            infinite = self.node("IsInf", x)
            self._known[name] = self.node("Where", infinite, self.single(np.nan), x)
        return self._known[name]

    def codes(self, name, levels) -> str:
        """The place of every row among the levels, their number where it is none of them."""
        key = name, tuple(levels)
        if key not in self._known:
            places: dict[str, Any] = {
                "values_int64s": list(range(len(levels))),
                "default_int64": len(levels),
            }
            if _kind(name, levels) == "text":
                value, places["keys_strings"] = self.raw(name), list(map(str, levels))
            else:
                value, places["keys_int64s"] = self._integers(name, levels), list(map(int, levels))
            self._known[key] = self.node("LabelEncoder", value, domain=_ML, **places)
        return self._known[key]

    def _integers(self, name, levels):
        """The column as int64; numbers that are no integers, and NaN, as one that no level is."""
        from skl2onnx.common.data_types import Int64TensorType

        if self._matrix is None and isinstance(self._inputs[name].type, Int64TensorType):
            return self.raw(name)
        if max(map(abs, levels)) > _LONGEST:
            raise _cannot(f"{name!r} with integers that double precision rounds")
        number = self.number(name)
        whole = self.node("Equal", self.node("Floor", number), number)
        none = self.single(_NO_LEVEL["integer"])
        safe = self.node("Where", whole, number, self.single(0.0))
        return self.node("Where", whole, self.cast(safe, "INT64"), none)

    def looked_up(self, values, codes) -> str:
        """Entries of a vector at codes."""
        return self.node("Gather", self.constant(np.asarray(values)), codes, axis=0)

    def columns_of(self, part) -> Iterator[tuple[str | None, float]]:
        """The columns of a part: (tensor, factor); None for a constant."""
        if not isinstance(part, PlainPart | FormulaPart):
            raise _cannot(f"the term of {', '.join(part.names[:3])}")
        categories = categories_of(part)
        for column in products_of(part):
            factors = list(self._factors(column, categories))
            value = factors[0] if factors else None
            for other in factors[1:]:
                value = self.node("Mul", value, other)
            yield value, column.scale

    def _factors(self, column: Product, categories: Mapping[str, list]) -> Iterator[str]:
        for expr, _ in column.numeric:
            if expr not in self._spec.columns:
                raise _cannot(f"{expr!r}")
            yield self.number(expr)
        for expr, coding in column.levels.items():
            name, levels = _column_of(expr, self._spec), categories[expr]
            yield self.looked_up(np.append(coding, np.nan), self.codes(name, levels))

    # The model

    def linear_predictor(self) -> str:
        """eta (n, 1)."""
        constant, parts = 0.0, []
        columns = self.columns_of(self._spec.fixed)
        for (value, scale), beta in zip(columns, self._model._coef(0.0), strict=True):
            if value is None:
                constant += beta * scale
            elif beta:
                weight = self.single(beta * scale)
                parts.append(self.node("Mul", value, weight))
        for offset in self._spec.offsets:
            [(value, scale)] = self.columns_of(offset)
            parts.append(self.node("Mul", value, self.single(scale)))
        shape = self._rows()
        parts.append(self.node("Expand", self.single(constant), shape))
        return self.total([*parts, *self._random_parts()])

    def _rows(self):
        """The shape (n, 1)."""
        n = self.node("Gather", self.node("Shape", self._any), self.constant(np.array([0])))
        return self.node("Concat", n, self.constant(np.array([1])), axis=0)

    def _random_parts(self) -> Iterator[str]:
        if self._spec.smooths:
            raise _cannot(f"the smooth term {self._spec.smooths[0].label}")
        terms = self._spec.terms.random if self._spec.terms is not None else ()
        unseen = 0.0 if self._model.unseen_groups == "population" else np.nan
        for term, part, effects in zip(terms, self._spec.random, self._fit.effects, strict=True):
            if term.is_field:
                raise _cannot(f"the term {term}")
            codes = self._level(term.group)
            for (value, scale), b in zip(self.columns_of(part), effects.T, strict=True):
                own = self.looked_up(np.append(b * scale, unseen), codes)
                yield own if value is None else self.node("Mul", value, own)

    def _level(self, group) -> str:
        """The place of every row's level of a grouping factor, the number of levels for others."""
        spec = self._spec.groups[group]
        codes = [
            self.codes(name, levels.tolist())
            for name, levels in zip(spec.columns, spec.column_levels, strict=True)
        ]
        if len(codes) == 1:
            return codes[0]
        sizes = [len(levels) + 1 for levels in spec.column_levels]
        if np.prod([float(size) for size in sizes]) > _MOST_CELLS:
            raise _cannot(f"the grouping factor {group!r}, with a table of {sizes} levels,")
        place = codes[0]
        for own, size in zip(codes[1:], sizes[1:], strict=True):
            place = self.node("Mul", place, self.single(size))
            place = self.node("Add", place, own)
        return self.looked_up(spec.cell_table(), place)

    def mean(self, eta) -> str:
        """The mean at eta, NaN where there is none."""
        family = self._model.family_
        low, high = family.predictor_range
        mean = self._inverse_link(eta, family.link.name)
        for op, bound in (("GreaterOrEqual", low), ("LessOrEqual", high)):
            if np.isfinite(bound):
                inside = self.node(op, eta, self.single(bound))
                mean = self.node("Where", inside, mean, self.single(np.nan))
        return mean

    def _inverse_link(self, eta, link):
        if link == "identity":
            return eta
        if link == "cloglog":
            rest = self.node("Exp", self.node("Neg", self.node("Exp", eta)))
            return self.node("Sub", self.single(1.0), rest)
        if link == "log":
            for op, bound in (("Greater", LARGEST_EXPONENT), ("Less", -LARGEST_EXPONENT)):
                limit = self.single(bound)
                eta = self.node("Where", self.node(op, eta, limit), limit, eta)
        op = {"logit": "Sigmoid", "log": "Exp", "inverse": "Reciprocal"}.get(link)
        if op is not None:
            return self.node(op, eta)
        power = {"sqrt": 2.0, "inverse_squared": -0.5}.get(link)
        if power is None:
            raise _cannot(f"the link {link!r}")
        return self.node("Pow", eta, self.single(power))

    def classify(self, eta, label, probabilities) -> None:
        """Labels (n,) and probabilities (n, 2)."""
        second = self.mean(eta)
        first = self.node("Sub", self.single(1.0), second)
        self.node("Concat", first, second, output=probabilities, axis=1)
        above = self.node("Greater", eta, self.single(self._model._even))
        place = self.cast(above, "INT64")
        missing = self.single(2)
        place = self.node("Where", self.node("IsNaN", eta), missing, place)
        kind = _kind("the classes", self._model.classes_)
        classes = [*self._model.classes_.tolist(), _NO_LABEL[kind]]
        names = np.array(classes, dtype=object if kind == "text" else np.int64)
        flat = self.node("Reshape", place, self.constant(np.array([-1])))
        self.node("Gather", self.constant(names), flat, output=label, axis=0)
