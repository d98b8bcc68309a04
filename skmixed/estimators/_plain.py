"""Fitted models as trees of plain values, and back.

A tree holds None, booleans, integers, floats, texts and lists as they are. Everything else is a
dict of one key, its tag: ``{"tuple": [...]}``, ``{"record": name, "state": {...}}``. In a file of
plain text (``strict``) arrays are lists of numbers too, and numbers that JSON does not know are
texts; otherwise they stay NumPy arrays, and what is of no known kind stays what it is.
"""

from __future__ import annotations

import datetime
import decimal
import re
from math import isfinite
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from skmixed.curves import CURVES, Curve
from skmixed.estimators._records import check_state, class_of, has_sizes, is_name, name_of
from skmixed.families import LINKS, Link

_LARGEST = 1 << 64  # no integer of an array is larger
_DEEPEST = 100  # levels of lists within lists


class Writer:
    """Values to trees; ``strict``: to such as JSON knows."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict

    def write(self, value: Any, where: str) -> Any:
        """The tree of a value; ``where`` is what messages call it.

        Raises
        ------
        ValueError
            For what is of no known kind, where that is not allowed.
        """
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if isfinite(value) or not self._strict else {"float": repr(value)}
        if kind is list:
            return self._each(value, where)
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if isinstance(value, np.generic) and value.dtype.kind in "fiubU":
            return self.write(value.item(), where)
        for known, tag, parts in _PARTS:
            if kind is known:
                return {tag: self._each(parts(value), where)}
        if kind is dict:
            return {"dict": [self._each(pair, f"{where}[{pair[0]!r}]") for pair in value.items()]}
        if kind is sparse.csr_matrix:
            own = value.data, value.indices, value.indptr, value.shape
            return {"csr": self._each(own, where)}
        if isinstance(value, Link | Curve):
            return {type(value).__name__.lower(): value.name}
        name = name_of(kind)
        if name is not None:
            return {"record": name, "state": self._state(value, where)}
        return self._other(value, where)

    def _each(self, values, where):
        return [self.write(value, where) for value in values]

    def _state(self, value, where):
        of_fit = getattr(value, "_attributes_of_fit", None)  # of an estimator within another
        state = (value.__getstate__() or {}) if of_fit is None else of_fit()
        return {key: self.write(own, f"{where}.{key}") for key, own in state.items()}

    def _array(self, values, where):
        kind = values.dtype.kind
        if kind in "OU":
            return {"objects": list(values.shape), "values": self._each(values.ravel(), where)}
        if kind in "mM":
            return {"times": str(values.dtype), "values": self._array(values.view("i8"), where)}
        if kind not in "fiub" or values.dtype.itemsize > 8:
            return self._other(values, where)
        if not self._strict:
            return values
        flat = values.ravel().tolist()
        if kind == "f" and not np.isfinite(values).all():
            flat = [x if isfinite(x) else repr(x) for x in flat]
        return {"array": str(values.dtype), "shape": list(values.shape), "values": flat}

    def _other(self, value, where):
        tree = _of_pandas(self, value, where)
        if tree is not None:
            return tree
        if self._strict:
            raise ValueError(
                f"{where} is a {type(value).__name__}, which is neither numbers nor text: the "
                "plain form cannot hold it. Convert it before the fit, or use pickle"
            )
        return {"raw": value}


def _of_pandas(writer, value, where):
    if isinstance(value, pd.Index):
        return _index(writer, value, where)
    if isinstance(value, pd.Series):
        parts = value.index, value.to_numpy(), value.name
    elif isinstance(value, pd.DataFrame):
        parts = value.index, value.columns, [value.iloc[:, j] for j in range(value.shape[1])]
    else:
        return None
    tag = "series" if isinstance(value, pd.Series) else "frame"
    return {tag: [writer.write(part, where) for part in parts]}


def _index(writer, index, where):
    """Labels as their kind, their values and their name."""
    inferred = index.inferred_type
    if inferred == "string" or (index.dtype == object and not isinstance(index, pd.MultiIndex)):
        kind, values = "object" if index.dtype == object else "text", index.tolist()
    elif isinstance(index.dtype, np.dtype) and index.dtype.kind in "fiubmM":
        kind, values = "numbers", index.to_numpy()
    elif isinstance(index, pd.DatetimeIndex) and _is_zone(str(index.tz)):
        kind, values = str(index.tz), index.tz_convert("UTC").tz_localize(None).to_numpy()
    elif isinstance(index, pd.PeriodIndex):
        kind, values = f"period {index.freqstr}", index.asi8
    elif isinstance(index, pd.IntervalIndex):
        kind, values = f"interval {index.closed}", [index.left, index.right]
    elif isinstance(index.dtype, np.dtype) or not hasattr(index.dtype, "numpy_dtype"):
        return None
    else:  # nullable numbers
        kind, values = "numbers", index.to_numpy(index.dtype.numpy_dtype)
    return {
        "index": kind,
        "values": writer.write(values, where),
        "name": writer.write(index.name, where),
    }


def _is_zone(text):
    """Whether a text names a time zone, and no file."""
    known = re.fullmatch(r"[A-Za-z][\w+:-]*(/[A-Za-z][\w+-]*)*", text) is not None
    return known and not text.startswith("dateutil")


_PARTS = (
    (tuple, "tuple", list),
    (set, "set", lambda own: sorted(own, key=str)),
    (frozenset, "frozenset", lambda own: sorted(own, key=str)),
    (slice, "slice", lambda s: [s.start, s.stop, s.step]),
    (datetime.date, "date", lambda d: [d.isoformat()]),
    (decimal.Decimal, "decimal", lambda d: [str(d)]),
)


class Malformed(ValueError):
    """What a tree says is not what any model is."""


class Reader:
    """Trees to values; ``strict``: of plain text alone, and of no formula that is run as code."""

    def __init__(self, strict: bool, trusted: bool = False, limit: int | None = None) -> None:
        self._strict, self._trusted, self._depth = strict, trusted, 0
        # of sizes that stand beside what they are sizes of
        self.limit = _LARGEST if limit is None else limit

    def read(self, tree: Any, where: str) -> Any:
        """The value of a tree.

        Raises
        ------
        Malformed
            For a tree that no value has.
        """
        kind = type(tree)
        if tree is None or kind in (bool, str):
            return tree
        if kind is int:
            return _bounded(tree, where)
        if kind is float:
            if self._strict and not isfinite(tree):
                raise Malformed(f"{where} is {tree}, which the plain form writes as a text")
            return tree
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Malformed(f"{where} is nested too deeply")
        made = self._read_nested(tree, where)
        self._depth -= 1
        return made

    def _read_nested(self, tree, where):
        if type(tree) is list:
            return [self.read(own, where) for own in tree]
        if isinstance(tree, np.ndarray) and not self._strict and tree.dtype != object:
            return tree
        if type(tree) is not dict or not all(type(key) is str for key in tree):
            raise Malformed(f"{where} is a {type(tree).__name__}")
        tag = next(iter(tree), "")
        method = _READERS.get(tag)
        if method is None or list(tree) != [tag, *method[1]]:
            raise Malformed(f"{where} has the unknown keys {list(tree)[:5]}")
        return method[0](self, where, *tree.values())

    def parts(self, tree, where, n=None):
        """The values of a list, of length n if that is given."""
        if type(tree) is not list or (n is not None and len(tree) != n):
            raise Malformed(f"{where} is no list{'' if n is None else f' of {n}'}")
        return [self.read(own, where) for own in tree]

    def record(self, where, name, state):
        """An object of the package from its state."""
        if not is_name(name):
            raise Malformed(f"{where} is a record {name!r}, which is unknown")
        if type(state) is not dict:
            raise Malformed(f"{where} has no state")
        values = {key: self.read(own, f"{where}.{key}") for key, own in state.items()}
        wrong = check_state(name, values) if self._strict else None
        if wrong is not None:
            raise Malformed(f"{where} is no {name}: {wrong}")
        if has_sizes(name):
            for key, own in values.items():
                if type(own) is int and abs(own) > self.limit:
                    raise Malformed(f"{where}.{key} is {own}, more than there are numbers")
        if values.get("trusted") is True and not self._trusted:
            raise Malformed(f"{where} asks for a formula to be run as Python code")
        cls = class_of(name)
        if hasattr(cls, "_attributes_of_fit"):
            return cls._of_attributes(values)
        made = object.__new__(cls)
        setstate = getattr(made, "__setstate__", made.__dict__.update)
        setstate(values)
        return made

    def raw(self, where, value):
        """An object as it is, in files of pickle and skops."""
        if self._strict:
            raise Malformed(f"{where} has the unknown keys ['raw']")
        return value


def _bounded(value, where):
    if abs(value) > _LARGEST:
        raise Malformed(f"{where} is an integer of {value.bit_length()} bits")
    return value


def _number(reader, where, text):
    if text not in ("nan", "inf", "-inf"):
        raise Malformed(f"{where} is {text!r} and no number")
    return float(text)


def _array(reader, where, dtype, shape, values):
    if type(dtype) is not str or dtype not in _DTYPES:
        raise Malformed(f"{where} is an array of {dtype!r}")
    if type(values) is not list or not set(map(type, values)) <= _DTYPES[dtype]:
        raise Malformed(f"{where} holds other things than {dtype}")
    if not set(filter(lambda x: type(x) is str, values)) <= {"nan", "inf", "-inf"}:
        raise Malformed(f"{where} holds a text")
    return _shaped(np.array(values, dtype=dtype), shape, where)


def _shaped(values, shape, where):
    sizes = type(shape) is list and all(type(n) is int and n >= 0 for n in shape)
    if not sizes or len(shape) > 8 or np.prod([float(n) for n in shape]) != len(values):
        raise Malformed(f"{where} has {len(values)} values and the shape {shape!r}")
    return values.reshape(shape)


def _objects(reader, where, shape, values):
    made = reader.parts(values, where)
    array = np.empty(len(made), dtype=object)
    array[:] = made
    return _shaped(array, shape, where)


def _times(reader, where, dtype, values):
    numbers = reader.read(values, where)
    known = type(dtype) is str and dtype in _TIMES
    if not known or not isinstance(numbers, np.ndarray) or numbers.dtype != np.int64:
        raise Malformed(f"{where} holds no times")
    return numbers.view(dtype)


def _dict(reader, where, pairs):
    if type(pairs) is not list:
        raise Malformed(f"{where} is no list of pairs")
    return dict(reader.parts(pair, where, 2) for pair in pairs)


def _named(known, what):
    def find(reader, where, name):
        if type(name) is not str or name not in known:
            raise Malformed(f"{where} is the {what} {name!r}, which is unknown")
        return known[name]

    return find


def _made(make, n=None):
    return lambda reader, where, tree: make(*reader.parts(tree, where, n))


def _read_index(reader, where, kind, values, name):
    values, name = reader.read(values, where), reader.read(name, where)
    if type(kind) is not str:
        raise Malformed(f"{where} has labels of the kind {kind!r}")
    first, _, rest = kind.partition(" ")
    if kind in ("object", "text"):
        if type(values) is not list:
            raise Malformed(f"{where} has no labels")
        return pd.Index(values, dtype=object if kind == "object" or not values else None, name=name)
    if first == "interval":
        return pd.IntervalIndex.from_arrays(*values, closed=rest, name=name)
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise Malformed(f"{where} has no labels")
    if kind == "numbers":
        return pd.Index(values, name=name)
    if first == "period":
        return pd.PeriodIndex([pd.Period(ordinal=n, freq=rest) for n in values.tolist()], name=name)
    if not _is_zone(kind):
        raise Malformed(f"{where} has labels of the kind {kind!r}")
    return pd.DatetimeIndex(values, name=name).tz_localize("UTC").tz_convert(kind)


def _slice(reader, where, tree):
    ends = reader.parts(tree, where, 3)
    if not all(end is None or (type(end) is int and abs(end) <= reader.limit) for end in ends):
        raise Malformed(f"{where} is no slice of what the file holds")
    return slice(*ends)


def _csr(data, indices, indptr, shape):
    made = sparse.csr_matrix((data, indices, indptr), shape=shape)
    made.check_format(full_check=True)
    return made


def _series(reader, where, parts):
    index, values, name = reader.parts(parts, where, 3)
    return pd.Series(values, index=index, name=name)


def _frame(reader, where, parts):
    index, columns, values = reader.parts(parts, where, 3)
    made = pd.concat(values, axis=1) if values else pd.DataFrame(index=index)
    made.columns = columns
    return made


_FLOATS, _INTEGERS = {float, int, str}, {int}
_DTYPES = {"float64": _FLOATS, "float32": _FLOATS, "float16": _FLOATS, "bool": {bool}} | {
    f"{sign}int{bits}": _INTEGERS for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_TIMES = {
    f"{kind}64[{unit}]" for kind in ("datetime", "timedelta") for unit in ("s", "ms", "us", "ns")
}
# Tag: how it is read, and what stands beside it.
_READERS = {
    "record": (Reader.record, ["state"]),
    "array": (_array, ["shape", "values"]),
    "objects": (_objects, ["values"]),
    "times": (_times, ["values"]),
    "index": (_read_index, ["values", "name"]),
    "tuple": (_made(lambda *own: own), []),
    "set": (_made(lambda *own: set(own)), []),
    "frozenset": (_made(lambda *own: frozenset(own)), []),
    "slice": (_slice, []),
    "csr": (_made(_csr, 4), []),
    "date": (_made(datetime.date.fromisoformat, 1), []),
    "decimal": (_made(decimal.Decimal, 1), []),
    "dict": (_dict, []),
    "float": (_number, []),
    "link": (_named(LINKS, "link"), []),
    "curve": (_named(CURVES, "curve"), []),
    "series": (_series, []),
    "frame": (_frame, []),
    "raw": (Reader.raw, []),
}
