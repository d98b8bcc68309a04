"""Where batches come from: Parquet and Arrow data sets, Dask data frames, callables.

A source tells the names of its columns and reduces a function of every batch, in one pass that can
be made again. What the function returns is merged in the order of the batches, as a balanced tree:
sums of many batches then lose no more digits than those of few.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd

from skmixed._deadline import check_time
from skmixed._log import tell
from skmixed.design.batch_reader import no_frame

# Rows of a batch that is read from Arrow.
_BATCH = 1 << 19
# Lines of progress come at least so many seconds apart.
_SECONDS = 5.0


def open_source(source, who="fit_batches"):
    """The source of batches that a user names; ``who`` reads it.

    Raises
    ------
    TypeError
        For what cannot be read twice in batches.
    ImportError
        Where the package that reads it is not installed.
    """
    if isinstance(source, pd.DataFrame):
        other = who.partition("_")[0]
        raise TypeError(f"{who} reads batches; a DataFrame in memory is for {other}")
    package = type(source).__module__.partition(".")[0]
    if package in ("dask", "dask_expr"):
        return _Dask(source)
    if package == "pyarrow":
        return _Arrow(source)
    if isinstance(source, str | os.PathLike):
        return _Arrow.of_paths([source])
    if isinstance(source, list | tuple) and source:
        if all(isinstance(path, str | os.PathLike) for path in source):
            return _Arrow.of_paths(list(source))
    if callable(source):
        return _Started(source)
    what = "an iterator" if isinstance(source, Iterator) else type(source).__name__
    why = ", which can be read only once" if isinstance(source, Iterator) else ""
    how = "its source twice" if who == "fit_batches" else "batches"
    raise TypeError(
        f"{who} reads {how}: give a path of Parquet files, a pyarrow Dataset, a Dask DataFrame, or "
        f"a function that starts a new iterator of DataFrames; got {what}{why}"
    )


class _InOrder:
    """A source whose batches are read one after the other."""

    names: tuple[str, ...]

    def reduce(self, function, merge, shared, *, columns, progress):
        """merge(shared, a, b) of function(shared, number, batch) over all batches; None of none."""
        waiting: list = []  # (number of batches, result), as the digits of a binary counter
        batches = (frame for frame in self.frames(columns) if len(frame))
        for number, frame in enumerate(batches):
            count, result = 1, function(shared, number, frame)
            rows = len(frame)
            del frame
            while waiting and waiting[-1][0] == count:
                result = merge(shared, waiting.pop()[1], result)
                count *= 2
            waiting.append((count, result))
            progress.step(rows)
        progress.end()
        while len(waiting) > 1:
            last = waiting.pop()[1]
            waiting.append((0, merge(shared, waiting.pop()[1], last)))
        return waiting[0][1] if waiting else None

    def frames(self, columns):
        raise NotImplementedError


class _Started(_InOrder):
    """A function that starts a new iterator of DataFrames."""

    def __init__(self, start):
        self._start, self._last, first = start, None, None
        for first in self.frames():
            if len(first.columns):
                break
        if first is None:
            raise ValueError("the function that starts the batches gave none: there are no rows")
        self.names = tuple(first.columns)

    def _begin(self):
        started = self._start()
        if not hasattr(started, "__iter__") or isinstance(started, pd.DataFrame):
            raise TypeError(
                f"the function must return an iterator of DataFrames, not {type(started).__name__}"
            )
        if isinstance(started, Iterator) and started is self._last:
            raise ValueError(
                "the function returned the same iterator again, which has been read: it must "
                "start a new one every time, as a generator function does"
            )
        self._last = started
        return started

    def frames(self, columns=None):
        for frame in self._begin():
            if not isinstance(frame, pd.DataFrame):
                raise no_frame(frame)
            yield frame


class _Arrow(_InOrder):
    """A pyarrow Dataset, or Parquet files."""

    def __init__(self, dataset, paths=None):
        if not hasattr(dataset, "to_batches") or not hasattr(dataset, "schema"):
            raise TypeError(
                f"of pyarrow a Dataset or a Table is read, not {type(dataset).__name__}"
            )
        self._dataset, self._paths = dataset, paths
        self.names = tuple(dataset.schema.names)
        self.text: frozenset[str] = frozenset()

    @classmethod
    def of_paths(cls, paths):
        paths = [os.fspath(path) for path in paths]
        missing = [path for path in paths if "://" not in path and not os.path.exists(path)]
        if missing:
            raise FileNotFoundError(f"there is no file or folder {missing[0]!r}")
        dataset = _parquet(paths)
        if not dataset.files:
            raise FileNotFoundError(f"there is no Parquet file in {paths[0]!r}")
        return cls(dataset, paths)

    def as_categories(self, names):
        """Read these columns, where they are text, by their distinct values."""
        import pyarrow as pa

        text = [
            name
            for name in names
            if self._paths
            and self._dataset.schema.field(name).type in (pa.string(), pa.large_string())
        ]
        self.text = frozenset(text)
        if text:
            self._dataset = _parquet(self._paths, text)

    def frames(self, columns=None):
        import pyarrow as pa

        settings = {"columns": list(columns or self.names), "batch_size": _BATCH}
        if self._paths:
            self._check_files(settings["columns"])
        if type(self._dataset).__name__ == "Table":
            settings = {"max_chunksize": _BATCH}
        else:
            settings |= {"batch_readahead": 1, "fragment_readahead": 1}
        batches = iter(self._dataset.to_batches(**settings))
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
                raise ValueError(
                    "the batches do not fit together, or a file is damaged: columns of one name "
                    f"must be of one type everywhere. pyarrow says: {error}"
                ) from error
            if batch is None:
                return
            frame = batch.to_pandas()
            for name in self.text:
                frame[name] = _sorted_categories(frame[name])
            yield frame

    def _check_files(self, columns):
        """Raise an error for a file without a column, or with text in the place of numbers.

        Pyarrow reads nulls there, and text that looks like numbers as numbers.
        """
        fragments = list(self._dataset.get_fragments())
        schemas = [fragment.physical_schema for fragment in fragments]
        inside = set().union(*(schema.names for schema in schemas))  # others: names of folders
        names = [name for name in columns if name in inside]
        for fragment, schema in zip(fragments, schemas, strict=True):
            lacking = [name for name in names if name not in schema.names]
            if lacking:
                raise ValueError(
                    f"the file {fragment.path!r} has no column {lacking[0]!r}, which the first one "
                    "has"
                )
            for name in names:
                own, first = schema.field(name).type, self._dataset.schema.field(name).type
                if _is_text(own) and _is_number(first):
                    raise ValueError(
                        f"column {name!r} is of type {first} in the first file and {own} in "
                        f"{fragment.path!r}: convert it"
                    )


def _parquet(paths, text=()):
    try:
        import pyarrow.dataset as ds
    except ImportError as error:
        raise _not_installed("Parquet files", "pyarrow", "arrow") from error
    options = ds.ParquetReadOptions(dictionary_columns=set(text))
    format_ = ds.ParquetFileFormat(read_options=options)
    # hive: folders such as year=2024 tell the values of a column
    where = paths[0] if len(paths) == 1 else paths
    return ds.dataset(where, format=format_, partitioning="hive")


def _is_text(type_):
    import pyarrow as pa

    own = type_.value_type if pa.types.is_dictionary(type_) else type_
    return pa.types.is_string(own) or pa.types.is_large_string(own)


def _is_number(type_):
    import pyarrow as pa

    return pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)


def _not_installed(what, package, extra):
    return ImportError(f"reading {what} needs {package}: pip install 'scikit-mixed[{extra}]'")


def _sorted_categories(values):
    """Categories of a batch in the order of their values, whatever the file's."""
    own = values.array
    levels = own.categories
    order = np.asarray(levels.argsort())
    place = np.empty(len(order) + 1, dtype=np.intp)
    place[order], place[-1] = np.arange(len(order)), -1
    return pd.Categorical.from_codes(place[own.codes], categories=levels[order])


class _Dask:
    """A Dask DataFrame: its partitions are the batches, worked on wherever Dask does."""

    def __init__(self, frame):
        if not hasattr(frame, "to_delayed") or getattr(frame, "ndim", 1) != 2:
            raise TypeError(f"of Dask a DataFrame is read, not {type(frame).__name__}")
        self._frame = frame
        self.names = tuple(frame.columns)

    def reduce(self, function, merge, shared, *, columns, progress):
        """As of sources in order, all partitions at the same time."""
        import dask

        shared, name = dask.delayed(shared, traverse=False), function.__name__
        function, merge = dask.delayed(function), dask.delayed(merge)
        parts = self._frame[list(columns)].to_delayed()
        results = [function(shared, number, part) for number, part in enumerate(parts)]
        while len(results) > 1:
            odd = results[-1:] if len(results) % 2 else []
            pairs = zip(results[::2], results[1::2], strict=False)
            results = [merge(shared, a, b) for a, b in pairs] + odd
        progress.begin(f"{len(parts)} partitions")
        try:
            with _told_by_dask(name, progress):
                return dask.compute(*results)[0] if results else None
        except Exception as error:
            if type(error).__name__ in ("KilledWorker", "BrokenProcessPool", "CommClosedError"):
                raise RuntimeError(
                    "Dask lost the workers of this fit, most often for want of memory: make the "
                    f"partitions smaller, or give workers more. Dask says: {error}"
                ) from error
            raise
        finally:
            progress.end()

    def frames(self, columns=None):
        frame = self._frame if columns is None else self._frame[list(columns)]
        for k in range(frame.npartitions):
            yield frame.get_partition(k).compute()


def _told_by_dask(name, progress):
    """Context in which schedulers of this process tell of every partition; a cluster does not."""
    from dask.callbacks import Callback

    def done(key, value, *_):
        if str(key).startswith(name):
            progress.step(value.n_input)

    return Callback(posttask=done)


class Progress:
    """Rows that have been read: tqdm's bar where it is installed, lines otherwise."""

    def __init__(self, what, shown, total=None):
        self._what, self._shown, self._rows = what, shown, 0
        self._start = self._told = time.monotonic()
        self._bar = _bar(what, total) if shown else None

    def begin(self, text):
        """Tell what is going to be done."""
        tell(f"{self._what}: {text}", self._shown and self._bar is None)

    def step(self, rows):
        """So many more rows have been read."""
        check_time()
        self._rows += rows
        if self._bar is not None:
            self._bar.update(rows)
        if time.monotonic() - self._told > _SECONDS:
            self._told = time.monotonic()
            text = f"{self._what}: {self._rows:,} rows, {self._told - self._start:.0f} s"
            tell(text, self._shown and self._bar is None)

    def end(self):
        """All rows have been read."""
        if self._bar is not None:
            self._bar.close()
        rows = f"{self._rows:,} rows, " if self._rows else ""
        text = f"{self._what}: done, {rows}{time.monotonic() - self._start:.1f} s"
        tell(text, self._shown and self._bar is None)


def _bar(what, total):
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(desc=what, total=total, unit=" rows", unit_scale=True)
