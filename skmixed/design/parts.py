"""Parts of a design: the columns of one expression, made at the fit and made again for new data.

A part whose terms are an intercept and numeric columns is read straight off the columns; any other
is formulaic's. Both remember what they need to give the same columns for new rows, and no rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from formulaic import ModelSpec
from formulaic.materializers import PandasMaterializer
from formulaic.materializers.types import FactorValues
from formulaic.transforms import TRANSFORMS
from interface_meta import override

from skmixed.design.evaluate import Evaluator
from skmixed.design.expression import Expression, read_expression
from skmixed.design.functions import FUNCTIONS
from skmixed.design.names import formulaic_formula, term_names
from skmixed.design.plain import model_spec_of, plain_spec

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class Usage:
    """What an expression needs: ``bare`` names stand as terms, ``inside`` within Python code."""

    bare: tuple[str, ...]
    inside: tuple[str, ...]
    coded: frozenset[str]  # only seen by C(): their values are categories, whatever they look like
    plain: bool  # nothing but an intercept and single columns
    refusal: str | None  # what a formula may not hold unless it is trusted

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that are needed, each once."""
        return tuple(dict.fromkeys((*self.bare, *self.inside)))


@lru_cache(maxsize=1024)
def usage(expr: str) -> Usage:
    """The columns that the formula part ``expr`` refers to."""
    bare: dict[str, None] = {}
    code: dict[str, Expression] = {}
    plain = True
    for term in formulaic_formula(expr):
        for factor in term.factors:
            if factor.eval_method.value == "python":
                code[factor.expr] = read_expression(factor.expr)
            elif factor.eval_method.value == "lookup":
                bare[factor.expr] = None
        plain &= len(term.factors) == 1 and term.factors[0].eval_method.value != "python"
    inside = dict.fromkeys(name for part in code.values() for name in part.columns)
    coded = {
        name
        for name in inside
        if all(name in part.coded for part in code.values() if name in part.columns)
    }
    refusal = next((part.refusal for part in code.values() if part.refusal), None)
    return Usage(tuple(bare), tuple(inside), frozenset(coded - bare.keys()), plain, refusal)


def coded_columns(exprs: Iterable[str]) -> frozenset[str]:
    """The columns that stand in a ``C()`` of one of the formula parts, whatever else they do."""
    factors = (f for expr in exprs for term in formulaic_formula(expr) for f in term.factors)
    code = (read_expression(f.expr) for f in factors if f.eval_method.value == "python")
    return frozenset().union(*(part.coded for part in code))


class Numbers(Mapping[str, Any]):
    """Columns as expressions see them: numbers in full precision, whatever they were stored as.

    Narrow integers would overflow and half precision would be kept by everything computed.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            values = self._columns[name]
            number = getattr(values.dtype, "kind", "") in tuple("iuf")
            self._made[name] = values.astype(np.float64, copy=False) if number else values
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


# what trusted Python finds beside formulaic's own transforms
_CONTEXT = {
    name: function.call
    for name, function in FUNCTIONS.items()
    if name.isidentifier() and function.kind in ("rows", "list") and name not in TRANSFORMS
}


class Materializer(PandasMaterializer):
    """Formulaic's materializer on a mapping of clean columns.

    It differs in four ways. Expressions are not evaluated as Python code but by `Evaluator`,
    unless they are trusted and need it; ``counts`` says how often each row counts where functions
    learn. A boolean is a factor with two levels, as R's logical. A value that a categorical
    expression did not have at the fit is an error and not a row of zeros or, if ``lenient``, a row
    of the mask ``unknown`` (n,). Dummy columns are written straight from the codes into one
    Fortran array, without a data frame.
    """

    def __init__(
        self,
        columns: Columns,
        n: int,
        *,
        counts: np.ndarray | None = None,
        trusted: bool = False,
        lenient: bool = False,
    ) -> None:
        self._n, self._trusted, self._lenient = n, trusted, lenient
        self.unknown = np.zeros(n, dtype=bool)
        self.widths: dict[str, int] = {}
        self._numbers = Numbers(columns)
        self._evaluator = Evaluator(columns, self._numbers, counts, n)
        super().__init__(columns, context=_CONTEXT)

    @override
    def _init(self) -> None:
        self._checked: dict[str, Any] = {}

    @override  # type: ignore[prop-decorator]
    @property
    def nrows(self) -> int:
        """The number of rows."""
        return self._n

    @override  # type: ignore[prop-decorator]
    @property
    def data_context(self) -> Columns:
        """The columns that expressions see."""
        return self._numbers

    @override
    def _lookup(self, name):
        return self._numbers[name], set()

    @override
    def _evaluate(self, expr, metadata, spec):
        expression = read_expression(expr)
        if self._trusted and expression.refusal is not None:
            return super()._evaluate(expr, metadata, spec)
        return self._evaluator.evaluate(expression, spec.transform_state), set()

    @override
    def _is_categorical(self, values: Any) -> bool:
        return getattr(
            getattr(values, "dtype", None), "kind", ""
        ) == "b" or super()._is_categorical(values)

    @override
    def _encode_categorical(
        self, values, metadata, encoder_state, spec, drop_rows, reduced_rank=False
    ):
        codes, levels = _codes(values, encoder_state.get("categories"))
        encoder_state["categories"] = levels
        return FactorValues(
            {level: (codes == i).astype(np.float64) for i, level in enumerate(levels)},
            kind="categorical",
            spans_intercept=True,
            drop_field=levels[0],
            format="{name}[{field}]",
            format_reduced="{name}[T.{field}]",
            encoded=True,
        )

    @override
    def _encode_evaled_factor(self, factor, spec, drop_rows, reduced_rank=False):
        factor = self._check(factor, spec)  # new data, before formulaic makes its rows zeros
        factor = _with_bare_encoder(factor)
        columns = super()._encode_evaled_factor(factor, spec, drop_rows, reduced_rank)
        self._check(factor, spec)  # the fit: C(f, levels=...) may leave some out
        if factor.metadata.kind.value == "numerical":
            self.widths[factor.expr] = len(columns)
        return columns

    def _check(self, factor: Any, spec: ModelSpec) -> Any:
        """``factor`` with categories of the fit alone; looked at once."""
        known = spec.encoder_state.get(factor.expr, (None, {}))[1].get("categories")
        if known is None:
            return factor
        if factor.expr not in self._checked:
            self._checked[factor.expr] = self._known(factor, known)
        return self._checked[factor.expr]

    def _known(self, factor: Any, known: list) -> Any:
        """``factor``, where ``unknown`` rows have the first category; an error unless lenient."""
        values = factor.values.__wrapped__
        (codes, own), have = _observed(values), set(known)
        new = np.array([level not in have for level in own], dtype=bool)
        used = np.unique(codes)
        unknown = [own[i] for i in used[used >= 0] if new[i]]
        if not unknown:
            return factor
        if not self._lenient:
            raise unknown_category(factor.expr, unknown, known)
        mask = new[codes] & (codes >= 0)
        self.unknown |= mask
        if hasattr(values, "where"):  # a Series of categories
            values = values.where(~mask, known[0])
        else:
            values = np.where(mask, known[0], values)
        return factor.replace(values=FactorValues(values, metadata=factor.metadata))

    @override
    def _combine_columns(self, cols, spec, drop_rows):
        matrix = np.empty((self._n, len(cols)), order="F")
        for j, (_, values) in enumerate(cols):
            matrix[:, j] = values
        return matrix


@dataclass(frozen=True)
class PlainRows:
    """All that a `PlainPart` asks of a `Materializer`; categories may be bare categoricals."""

    data: Columns
    nrows: int


def _with_bare_encoder(factor: Any) -> Any:
    """``factor`` with an encoder that gets plain arrays: formulaic before 1.2 fails on its own."""
    encoder = factor.metadata.encoder
    if encoder is None:
        return factor

    def bare(values: Any, **settings: Any) -> Any:
        return encoder(getattr(values, "__wrapped__", values), **settings)

    metadata = factor.metadata.replace(encoder=bare)
    return factor.replace(values=FactorValues(factor.values.__wrapped__, metadata=metadata))


def _observed(values: Any) -> tuple[np.ndarray, list]:
    """Codes and sorted observed levels of categorical values."""
    values = getattr(values, "__wrapped__", values)
    values = getattr(values, "array", values)
    if hasattr(values, "categories"):
        return np.asarray(values.codes), list(values.categories)
    levels, codes = np.unique(np.asarray(values), return_inverse=True)
    return codes, levels.tolist()


def _codes(values: Any, levels: list | None) -> tuple[np.ndarray, list]:
    """Codes of ``values`` in ``levels`` (unknown ones -1), or in their own levels."""
    codes, own = _observed(values)
    if levels is None or own == levels:
        return codes, own
    place = {level: i for i, level in enumerate(levels)}
    return np.array([place.get(level, -1) for level in own] or [-1])[codes], levels


def unknown_category(name: str, unknown: list, known: list) -> ValueError:
    """The error for categories that the fit did not have."""
    shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
    levels = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
    return ValueError(f"{name!r} has the unknown category {shown}; the categories are {levels}")


@dataclass(frozen=True)
class PlainTerm:
    """A column as it is, or the dummies of its categories (all but the first if ``reduced``)."""

    name: str
    categories: tuple[Any, ...] | None = None
    reduced: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns, spelt as formulaic does."""
        if self.categories is None:
            return (self.name,)
        mark = "T." if self.reduced else ""
        return tuple(f"{self.name}[{mark}{level}]" for level in self.categories[self.reduced :])

    def write(self, values: Any, columns: np.ndarray) -> None:
        """Fill the (n, k) columns of the term."""
        if self.categories is None:
            columns[:, 0] = values
            return
        codes = getattr(values, "array", values).codes
        for j in range(columns.shape[1]):
            np.equal(codes, j + self.reduced, out=columns[:, j])


@dataclass(frozen=True)
class PlainPart:
    """An intercept and the main effects of single columns; ``terms`` holds None for the intercept.

    The common case, without the work that general formulas need.
    """

    terms: tuple[PlainTerm | None, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        names: list[str] = []
        for term in self.terms:
            names += ("Intercept",) if term is None else term.names
        return tuple(names)

    @cached_property
    def term_slices(self) -> dict[str, slice]:
        """The columns of every term."""
        slices, begin = {}, 0
        for term in self.terms:
            width = 1 if term is None else len(term.names)
            slices["Intercept" if term is None else term.name] = slice(begin, begin + width)
            begin += width
        return slices

    @property
    def intercept(self) -> int | None:
        """The place of the constant column: the intercept is always the first term."""
        return 0 if None in self.terms else None

    def matrix(self, rows: Materializer | PlainRows) -> np.ndarray:
        """The (n, p) matrix; a lone intercept is a view that takes no memory."""
        if self.terms == (None,):
            return np.broadcast_to(1.0, (rows.nrows, 1))
        slices = self.term_slices.values()
        width = max((where.stop for where in slices), default=0)
        matrix = np.empty((rows.nrows, width), order="F")
        for term, where in zip(self.terms, slices, strict=True):
            if term is None:
                matrix[:, where] = 1.0
            else:
                term.write(rows.data[term.name], matrix[:, where])
        return matrix


@dataclass(frozen=True)
class FormulaPart:
    """An expression that formulaic turned into columns, with the state to do so again.

    ``widths`` tells how many columns each of its numeric factors has.
    """

    expr: str
    model_spec: ModelSpec
    names: tuple[str, ...]
    term_slices: dict[str, slice]
    intercept: int | None
    widths: dict[str, int]

    def matrix(self, rows: Materializer) -> np.ndarray:
        """The (n, p) matrix."""
        return _materialize(self.expr, rows, self.model_spec)[0]

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"model_spec": plain_spec(self.model_spec)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, model_spec=model_spec_of(state["expr"], state["model_spec"]))


Part = PlainPart | FormulaPart


class PartBuilder:
    """Makes the parts of one fit; factors that parts share are evaluated once.

    ``learnt``: what functions have learnt from other rows, by their calls.
    """

    def __init__(
        self, rows: Materializer, kinds: Mapping[str, str], learnt: Mapping[str, dict] | None = None
    ) -> None:
        self._rows, self._kinds = rows, kinds
        self._made: dict[tuple[str, ...], tuple[Part, np.ndarray]] = {}
        # one state for all parts: formulaic writes it only where it evaluates a factor first
        self._state: dict[str, dict] = {"encoder_state": {}, "transform_state": dict(learnt or {})}

    def make(self, expr: str) -> tuple[Part, np.ndarray]:
        """The part and its (n, p) matrix; equal expressions give the same objects."""
        key = canonical(expr)
        if key not in self._made:
            self._made[key] = self._make(expr)
        return self._made[key]

    def _make(self, expr: str) -> tuple[Part, np.ndarray]:
        needs = usage(expr)
        if needs.plain and all(self._is_plain(name) for name in needs.bare):
            part = self._plain_part(expr)
            return part, part.matrix(self._rows)
        spec = ModelSpec(formulaic_formula(expr), na_action="ignore", output="numpy", **self._state)
        matrix, spec = _materialize(expr, self._rows, spec)
        return _formula_part(expr, spec, self._rows.widths), matrix

    def _is_plain(self, name: str) -> bool:
        if self._kinds[name] != "category":
            return self._kinds[name] == "number"
        return len(self._rows.data[name].array.categories) > 1

    def _plain_part(self, expr: str) -> PlainPart:
        """Main effects: once the constant is spanned, factors leave out their first category."""
        terms: list[PlainTerm | None] = []
        spanned = False
        for name in plain_terms(expr):
            if name is None:
                spanned = True
                terms.append(None)
            elif self._kinds[name] == "number":
                terms.append(PlainTerm(name))
            else:
                categories = tuple(self._rows.data[name].array.categories)
                terms.append(PlainTerm(name, categories, spanned))
                spanned = True
        return PlainPart(tuple(terms))

    def make_vector(self, expr: str, what: str) -> tuple[Part, np.ndarray]:
        """The part and the one numeric column of a response or an offset."""
        names = usage(expr).bare
        kind = self._kinds[names[0]] if names else "number"
        text = expr.removeprefix("0 + ")
        if kind == "category":
            way = ". For two classes there is MixedLogisticClassifier" * (what == "the response")
            raise ValueError(f"{what} {names[0]!r} holds categories: it must be numbers{way}")
        if kind == "boolean":
            part: Part = PlainPart((PlainTerm(names[0]),))
            return part, part.matrix(self._rows)[:, 0]
        part, matrix = self.make(expr)
        if matrix.shape[1] != 1:
            raise ValueError(f"{what} {text} has {matrix.shape[1]} columns, not one")
        return part, matrix[:, 0]


@lru_cache(maxsize=1024)
def canonical(expr: str) -> tuple[str, ...]:
    """The terms of ``expr``, the same for all ways to write it."""
    return tuple(term_names(expr))


@lru_cache(maxsize=1024)
def plain_terms(expr: str) -> tuple[str | None, ...]:
    """The columns of an expression that is an intercept (None, first) and single columns."""
    factors = [term.factors[0] for term in formulaic_formula(expr)]
    names = [f.expr if f.eval_method.value == "lookup" else None for f in factors]
    return tuple(sorted(names, key=lambda name: name is not None))


def _materialize(
    expr: str, materializer: Materializer, spec: ModelSpec
) -> tuple[np.ndarray, ModelSpec]:
    try:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            made = materializer.get_model_matrix(spec)
    except ValueError:
        raise
    except Exception as error:  # formulaic's own error has what went wrong as its cause
        reason = error.__cause__ or error
        raise ValueError(f"the formula part {expr!r} cannot be evaluated: {reason}") from error
    return made.__wrapped__, made.model_spec


def _formula_part(expr: str, spec: ModelSpec, widths: Mapping[str, int]) -> FormulaPart:
    slices = {
        "Intercept" if str(term) == "1" else str(term): where
        for term, where in spec.term_slices.items()
    }
    for name, where in slices.items():
        if where.start == where.stop:
            raise ValueError(
                f"{name!r} has one category only, so no column is left beside the intercept: take "
                "it out of the formula"
            )
    place = slices.get("Intercept")
    return FormulaPart(
        expr,
        spec,
        tuple(map(str, spec.column_names)),
        slices,
        None if place is None else place.start,
        {name: widths[name] for name in widths if name in spec.encoder_state},
    )
