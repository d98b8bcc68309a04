"""Tables with notes."""

import pickle

import pandas as pd

from skmixed.inference.noted import NotedTable


def test_notes_are_printed_and_stay_with_copies_but_not_with_parts():
    index = pd.Index(["a", "b"], name="term")
    table = NotedTable.of([(1.5, 2), (0.5, 3)], ["F", "df"], index, ["word " * 30, "<b>"])
    lines = str(table).splitlines()
    assert lines[0].split() == ["F", "df"] and lines[-1] == "<b>"
    assert max(map(len, lines)) <= 80 and repr(table) == str(table)
    assert "&lt;b&gt;" in table._repr_html_() and "<td>1.5</td>" in table._repr_html_()
    loaded = pickle.loads(pickle.dumps(table))
    assert isinstance(loaded, NotedTable) and loaded.notes == table.notes
    pd.testing.assert_frame_equal(loaded, table)
    rounded = table.round()
    assert rounded.notes == table.notes and rounded["F"].tolist() == [2.0, 0.0]
    for part in (table * 2, table[["F"]], table.iloc[:1]):
        assert type(part) is pd.DataFrame
    assert table["df"].dtype.kind == "i"


def test_a_table_without_notes_prints_as_a_data_frame():
    table = NotedTable.of({"F": [1.0]}, ["F"], pd.Index(["a"]))
    assert table.notes == () and str(table) == pd.DataFrame(table).to_string()
