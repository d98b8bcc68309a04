"""Tables that say what has to be known to read them."""

from __future__ import annotations

from html import escape
from textwrap import fill
from typing import ClassVar

import pandas as pd


class NotedTable(pd.DataFrame):
    """A DataFrame with ``notes``, printed below it.

    Rounded it keeps them; parts of it and what is computed from it are plain data frames.
    """

    _metadata: ClassVar[list[str]] = ["notes"]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows, columns, index, notes=()):
        """A table of rows with notes."""
        table = cls(rows, columns=columns, index=index, dtype=None if len(index) else float)
        table.notes = tuple(notes)
        return table

    @property
    def _constructor(self):
        return pd.DataFrame

    def round(self, decimals=0, *args, **kwargs):
        """The table with fewer decimals, and its notes."""
        table = type(self)(super().round(decimals, *args, **kwargs))
        table.notes = self.notes
        return table

    def __repr__(self):
        notes = [fill(note, 80) for note in self.notes]
        return "\n\n".join([self.to_string(), *notes])

    __str__ = __repr__

    def _repr_html_(self):
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return self.to_html() + notes
