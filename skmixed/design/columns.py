"""Columns of a table: read from pandas, polars or NumPy, checked, and brought to three kinds.

A column that a formula uses is a float or integer array, a boolean array or a categorical with
observed categories only. Anything else (dates, complex numbers, mixed objects) has no meaning as a
covariate and is an error that names the column and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd

from skmixed.design.parts import unknown_category

# Levels that are compared one by one to save a look-up, and rows that are looked up one by one.
_FEW, _FEW_ROWS = 1000, 16


class Table:
    """Named columns of equal length: a pandas or polars DataFrame or a mapping of arrays.

    Of another table it is a new one with the same columns and all of their rows.
    """

    names: tuple
    n_input: int

    def __init__(self, data: Any) -> None:
        self._added: dict[str, Any] = {}  # columns beside, or instead of, those of the data
        self._rows: np.ndarray | None = None  # None while all rows are left
        if isinstance(data, Table):
            self._data: Any = data._data
            self._added, self.names = data._added, data.names
            self.n_rows = self.n_input = data.n_input
            return
        self._data = data
        if isinstance(data, pd.DataFrame):
            self.names = _unique_names(data.columns)
            self.n_rows = len(data)
        elif isinstance(data, Mapping):
            self.names = tuple(data)
            self.n_rows = _common_length(data)
        elif hasattr(data, "columns") and hasattr(data, "get_column"):
            self.names = tuple(data.columns)
            self.n_rows = len(data)
        else:
            raise TypeError(
                "a formula needs named columns: a pandas or polars DataFrame or a dict of arrays, "
                f"got {type(data).__name__}"
            )
        self.n_input = self.n_rows

    def with_column(self, name: str, values: Any) -> Table:
        """This table with one more column, or with another one in the place of its own."""
        table = Table(self)
        table._added = self._added | {name: values}
        table.names = self.names if name in self.names else (*self.names, name)
        return table

    @property
    def kept(self) -> np.ndarray:
        """The rows of the input that are left."""
        return np.arange(self.n_rows) if self._rows is None else self._rows

    def keep(self, rows: np.ndarray) -> None:
        """Leave all but ``rows``, counted among those that are left, out."""
        self._rows = rows if self._rows is None else self._rows[rows]
        self.n_rows = len(rows)

    def rows_of(self, values: Any) -> Any:
        """The values of the rows that are left, of a vector over all rows."""
        return values if values is None or self._rows is None else values[self._rows]

    def column(self, name: str) -> Any:
        """The column over all rows: a NumPy or pandas array, or a `TextColumn`."""
        if name in self._added:
            return as_column(self._added[name])
        if isinstance(self._data, pd.DataFrame):
            return _from_pandas(self._data[name])
        if isinstance(self._data, Mapping):
            return as_column(self._data[name])
        return _from_polars(self._data.get_column(name))


def as_column(values: Any) -> Any:
    """A column as a NumPy or pandas array, or a `TextColumn`, from a vector of any kind."""
    if hasattr(values, "to_physical"):  # of polars
        return _from_polars(values)
    return _from_pandas(values if hasattr(values, "dtype") else _array(values))


def _from_pandas(values: Any) -> Any:
    values = getattr(values, "array", values)
    return values.to_numpy() if isinstance(values, pd.arrays.NumpyExtensionArray) else values


def _array(values: Any) -> np.ndarray:
    """A list as an array; one text among numbers does not make all of them text."""
    array = np.asarray(values)
    if array.dtype.kind == "U" and not all(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    return array


def _unique_names(columns: pd.Index) -> tuple:
    if not columns.is_unique:
        repeated = ", ".join(map(repr, columns[columns.duplicated()].unique()))
        raise ValueError(f"the data have more than one column named {repeated}: rename one of them")
    return tuple(columns)


def _common_length(data: Mapping[str, Any]) -> int:
    lengths = {name: len(values) for name, values in data.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns differ in length: {lengths}")
    return next(iter(lengths.values()), 0)


def _from_polars(series: Any) -> Any:
    """A polars Series as an array, text and categories as pandas has them, without pyarrow."""
    column = nw.from_native(series, series_only=True)
    if column.dtype == nw.Enum:
        return _categorical(series.to_physical(), series.dtype.categories.to_list())
    if column.dtype in (nw.String, nw.Categorical):
        # the physical codes of a polars Categorical may number strings of other columns too
        text = column.cast(nw.String).to_native()
        values = _categorical(text.rank("dense") - 1, text.drop_nulls().unique().sort().to_list())
        return TextColumn(values) if column.dtype == nw.String else values
    if column.dtype == nw.Boolean and column.null_count():
        return pd.array(column.to_list(), dtype="boolean")
    return column.to_numpy()


def _categorical(codes: Any, levels: list[str]) -> pd.Categorical:
    """Polars codes, null where missing, as a categorical with the levels that occur."""
    codes = codes.cast(int).fill_null(-1).to_numpy()
    categories = pd.Index(levels, dtype=object)
    return drop_unused(pd.Categorical.from_codes(codes, categories=categories))


@dataclass(frozen=True)
class TextColumn:
    """Plain text already factorised; text, unlike a categorical, may turn out to be numbers."""

    values: pd.Categorical

    @property
    def dtype(self):
        """The dtype of the values."""
        return self.values.dtype


@dataclass(frozen=True)
class Column:
    """A clean column; ``missing`` is a mask or None, ``text`` marks categories read from text.

    ``unknown`` is the mask of rows with a category that the fit did not have, which are missing
    as well.
    """

    kind: str  # "number", "boolean" or "category"
    values: Any  # an array, or a pandas Categorical with observed and unobserved categories
    missing: np.ndarray | None = None
    text: bool = False
    unknown: np.ndarray | None = None

    def values_in(self, table: Table, fitting: bool = True) -> Any:
        """The values of the rows that are left; at the fit with the categories that occur there."""
        values = table.rows_of(self.values)
        if self.kind != "category":
            return values
        return pd.Series(drop_unused(values) if fitting else values, copy=False)


def clean(name: str, raw: Any) -> Column:
    """Bring the column ``raw`` to a `Column`."""
    if isinstance(raw, TextColumn):
        return _category(raw.values, text=True)
    dtype = raw.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _category(raw)
    if isinstance(dtype, pd.SparseDtype):
        return clean(name, np.asarray(raw))
    if not isinstance(dtype, np.dtype):
        return _from_extension(name, raw)
    return _from_numpy(name, np.asarray(raw))


def _from_numpy(name: str, values: np.ndarray) -> Column:
    if values.ndim != 1:
        raise ValueError(f"column {name!r} has {values.ndim} dimensions, not one")
    kind = values.dtype.kind
    if kind in "iu":
        return Column("number", values)
    if kind == "f":
        return _finite(name, values)
    if kind == "b":
        return Column("boolean", values)
    if kind == "U":
        return _category(_factorized(name, values), text=True)
    if kind == "O":
        return _from_objects(name, values)
    raise _no_covariate(name, {"c": "complex numbers", "M": "dates", "m": "time spans"}.get(kind))


def _finite(name: str, values: np.ndarray) -> Column:
    """A float column, its missing values marked; infinity is an error."""
    with np.errstate(all="ignore"):
        total = values.sum(dtype=np.float64)  # finite sum: no value is NaN or infinite
    if np.isfinite(total):
        return Column("number", values)
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise ValueError(
            f"column {name!r} has {infinite} infinite value{'s' * (infinite > 1)}: remove or "
            "replace the rows"
        )
    missing = np.isnan(values)
    return Column("number", values, missing if missing.any() else None)


def _from_extension(name: str, raw: Any) -> Column:
    """Nullable and Arrow dtypes."""
    dtype = raw.dtype
    absent = np.asarray(pd.isna(raw))
    missing = absent if absent.any() else None
    if pd.api.types.is_bool_dtype(dtype):
        return Column("boolean", raw.to_numpy(dtype=bool, na_value=False), missing)
    if pd.api.types.is_integer_dtype(dtype) and missing is None:
        unsigned = pd.api.types.is_unsigned_integer_dtype(dtype)
        return Column("number", raw.to_numpy(dtype=np.uint64 if unsigned else np.int64))
    if pd.api.types.is_numeric_dtype(dtype):
        return _finite(name, raw.to_numpy(dtype=np.float64, na_value=np.nan))
    if pd.api.types.is_string_dtype(dtype):
        return _category(_factorized(name, raw), text=True)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        raise _no_covariate(name, "dates")
    raise _no_covariate(name, f"values of dtype {dtype}")


def _from_objects(name: str, values: np.ndarray) -> Column:
    """An object column: text, numbers or booleans; anything else is an error."""
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred == "string":
        return _category(_factorized(name, values), text=True)
    if inferred == "integer" and not pd.isna(values).any():
        return Column("number", _from_integers(values))
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        return _finite(name, pd.Series(values).to_numpy(np.float64, na_value=np.nan))
    if inferred == "boolean":
        return _from_extension(name, pd.array(values, dtype="boolean"))
    if inferred == "empty":  # nothing but missing values
        return _finite(name, np.full(len(values), np.nan))
    raise _no_covariate(name, _OBJECTS.get(inferred, f"values of mixed types ({inferred})"))


def _from_integers(values: np.ndarray) -> np.ndarray:
    """Python's integers as those of NumPy that hold them all, else as floats."""
    low, high = min(values, default=0), max(values, default=0)
    for dtype in (np.int64, np.uint64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.float64)


_OBJECTS = {
    "complex": "complex numbers",
    "date": "dates",
    "datetime": "dates",
    "datetime64": "dates",
    "timedelta": "time spans",
    "timedelta64": "time spans",
    "time": "times",
    "period": "periods",
    "interval": "intervals",
    "bytes": "bytes",
}


def _no_covariate(name: str, what: str | None) -> ValueError:
    remedy = {
        "dates": "turn them into numbers, such as days since the first",
        "time spans": "turn them into numbers, such as x.dt.total_seconds()",
        "complex numbers": "use their real and imaginary parts, or their modulus",
    }.get(str(what), "convert the column to numbers, or to text for categories")
    return ValueError(f"column {name!r} holds {what or 'values that are not numbers'}: {remedy}")


def _category(values: pd.Categorical, text: bool = False) -> Column:
    codes = values.codes
    missing = codes < 0
    return Column("category", values, missing if missing.any() else None, text)


def _factorized(name: str, raw: Any) -> pd.Categorical:
    codes, levels = _factorize(name, raw)
    return pd.Categorical.from_codes(codes, categories=levels)


def drop_unused(values: pd.Categorical) -> pd.Categorical:
    """``values`` with the categories that occur."""
    codes, levels = observed(values.codes, values.categories)
    if levels is values.categories:
        return values
    return pd.Categorical.from_codes(codes, categories=levels, ordered=values.ordered)


def observed(codes: np.ndarray, levels: pd.Index) -> tuple[np.ndarray, pd.Index]:
    """Codes and levels without the levels that do not occur; the same objects if all do."""
    used = np.zeros(len(levels) + 1, dtype=bool)
    used[codes] = True  # -1 marks the last entry, which is no level
    used = used[:-1]
    if used.all():
        return codes, levels
    place = np.append(np.cumsum(used) - 1, -1)
    return place[codes], levels[used]


def looks_numeric(levels: Iterable[Any]) -> bool:
    """Whether every level is the text of a number; Python's 2020_01 is no number in a table."""
    try:
        return all("_" not in str(level) and np.isfinite(float(level)) for level in levels)
    except (TypeError, ValueError):
        return False


def same_index(one: pd.Index, other: pd.Index) -> bool:
    """Whether two indices are seen at once to be the same; False where that would take long."""
    if one is other:
        return True
    return len(one) == len(other) <= _FEW and one.dtype == other.dtype and one.equals(other)


def few_codes(raw: Any, levels: pd.Index | None) -> np.ndarray | None:
    """Codes of a few texts or integers that are all among the levels; None for anything else."""
    dtype = raw.dtype
    if levels is None or len(raw) > _FEW_ROWS or isinstance(dtype, pd.CategoricalDtype):
        return None
    if dtype.kind in "iu":
        same = isinstance(levels.dtype, np.dtype) and levels.dtype.kind in "iu"
    else:
        same = dtype.kind in "OU" and levels.inferred_type == "string"
    values = raw.tolist() if same else []
    if not values or not (dtype.kind in "iu" or all(type(value) is str for value in values)):
        return None
    try:
        return np.array([levels.get_loc(value) for value in values], dtype=np.intp)
    except (KeyError, TypeError):
        return None


def factorize(name: str, raw: Any, whole: bool = False) -> tuple[np.ndarray, pd.Index]:
    """Codes (n,) intp (-1 missing) and sorted observed levels of a grouping column.

    With ``whole`` a categorical keeps the levels that do not occur.
    """
    values = raw.values if isinstance(raw, TextColumn) else raw
    if values.ndim != 1:
        raise ValueError(f"column {name!r} has {values.ndim} dimensions, not one")
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, levels = values.codes, values.categories
        codes, levels = (codes, levels) if whole else observed(codes, levels)
        return codes.astype(np.intp, copy=False), levels
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iu" and len(values):
        return _integer_codes(np.asarray(values))
    return _factorize(name, values)


def _factorize(name: str, raw: Any) -> tuple[np.ndarray, pd.Index]:
    if getattr(raw.dtype, "kind", "") == "c":
        raise _no_covariate(name, "complex numbers")
    raw = raw.astype(object) if raw.dtype.kind == "U" else raw
    try:
        codes, levels = pd.factorize(raw, sort=True)
    except TypeError as error:
        raise _no_covariate(name, "values of mixed types") from error
    if not len(levels):
        return np.asarray(codes, np.intp), pd.Index([], dtype=object)
    inferred = pd.api.types.infer_dtype(levels, skipna=False)
    if inferred.startswith("mixed") and inferred != "mixed-integer-float":
        raise _no_covariate(name, f"values of mixed types ({inferred})")
    return np.asarray(codes, np.intp), _index(levels)


def _index(levels: Any) -> pd.Index:
    """Levels as an Index of NumPy numbers or of text."""
    if pd.api.types.is_bool_dtype(levels.dtype):
        return pd.Index(np.asarray(levels, dtype=bool))
    if pd.api.types.is_numeric_dtype(levels.dtype):
        values = np.asarray(levels)
        return pd.Index(values.astype(np.float32) if values.dtype == np.float16 else values)
    return pd.Index(levels)


def _integer_codes(values: np.ndarray) -> tuple[np.ndarray, pd.Index]:
    """Codes of integers by a table over their range where it is small, else by hashing."""
    low, high = int(values.min()), int(values.max())
    if high - low > 4 * len(values) + 1000 or high > np.iinfo(np.intp).max:
        codes, levels = pd.factorize(values, sort=True)
        return np.asarray(codes, np.intp), pd.Index(levels)
    if values.dtype.kind == "u":
        shifted = (values - values.dtype.type(low)).astype(np.intp)
    else:
        shifted = values.astype(np.intp) - low if low or values.dtype != np.intp else values
    used = np.zeros(high - low + 1, dtype=bool)
    used[shifted] = True
    kind = np.uint64 if high > np.iinfo(np.int64).max else np.int64
    levels = pd.Index(np.flatnonzero(used).astype(kind) + kind(low))
    if used.all():
        return shifted, levels
    return (np.cumsum(used) - 1)[shifted], levels


@dataclass(frozen=True)
class ColumnSpec:
    """What new data must look like: the kind of a column and the categories of the fit."""

    kind: str
    categories: Any = None  # a pandas Index for a category
    ordered: bool = False

    @classmethod
    def of(cls, kind: str, values: Any) -> ColumnSpec:
        """The specification of a column of the fit."""
        if kind != "category":
            return cls(kind)
        return cls(kind, values.array.categories, bool(values.array.ordered))

    def read(self, name: str, raw: Any, policy: Any = None) -> Column:
        """The column ``raw`` of new rows with the categories of the fit, see :meth:`conform`."""
        if policy is not None and policy.infinite == "drop":
            raw = without_infinity(raw)
        is_text = self.kind == "category" and not isinstance(raw, TextColumn)
        codes = few_codes(raw, self.categories) if is_text and raw.dtype.kind in "OU" else None
        if codes is None:
            lenient = policy is not None and policy.unknown == "drop"
            return self.conform(name, clean(name, raw), lenient)
        return _category(pd.Categorical.from_codes(codes, self.categories, self.ordered))

    def conform(self, name: str, column: Column, lenient: bool = False) -> Column:
        """``column`` with the categories of the fit; other kinds and categories are errors.

        If ``lenient`` rows with other categories are marked as unknown and missing instead.
        """
        if self.kind == "category":
            return self._recoded(name, column, lenient)
        if column.kind == self.kind:
            return column
        if self.kind == "number" and column.kind == "boolean":
            return Column("number", column.values.astype(np.float64), column.missing)
        if self.kind == "boolean" and column.kind == "number":
            return _as_boolean(name, column, lenient)
        if column.missing is not None and column.missing.all():
            return Column("number", np.full(len(column.values), np.nan), column.missing)
        raise ValueError(
            f"column {name!r} was a {self.kind} at the fit and is a {column.kind} now: convert it"
        )

    def _recoded(self, name: str, column: Column, lenient: bool) -> Column:
        if column.kind == "category":
            codes, own = column.values.codes, column.values.categories
            if column.values.ordered == self.ordered and same_index(own, self.categories):
                return column
        else:
            codes, own = _factorize(name, column.values)
            if column.missing is not None:
                codes = np.where(column.missing, -1, codes)
        place = np.append(self.categories.get_indexer(own), -1)
        used = observed(codes, own)[1]
        unknown = used[self.categories.get_indexer(used) < 0]
        if len(unknown) and not lenient:
            raise unknown_category(name, list(unknown), list(self.categories))
        found = _category(pd.Categorical.from_codes(place[codes], self.categories, self.ordered))
        return replace(found, unknown=(codes >= 0) & (place[codes] < 0)) if len(unknown) else found


def _as_boolean(name: str, column: Column, lenient: bool) -> Column:
    values = np.asarray(column.values)
    missing = np.zeros(len(values), bool) if column.missing is None else column.missing
    unknown = ~(missing | np.isin(values, (0, 1)))
    if unknown.any() and not lenient:
        raise ValueError(f"column {name!r} was boolean at the fit and has numbers beside 0 and 1")
    missing = missing | unknown
    return Column(
        "boolean",
        np.nan_to_num(values).astype(bool),
        missing if missing.any() else None,
        unknown=unknown if unknown.any() else None,
    )


def without_infinity(raw: Any) -> Any:
    """A column of floats with NaN in the place of infinite values; others as they are."""
    if isinstance(raw, TextColumn) or not pd.api.types.is_float_dtype(raw.dtype):
        return raw
    values = raw if isinstance(raw, np.ndarray) else raw.to_numpy(np.float64, na_value=np.nan)
    infinite = np.isinf(values)
    return np.where(infinite, np.nan, values) if infinite.any() else raw
