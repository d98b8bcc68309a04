"""Joint tests of sets of functions, as a table."""

from __future__ import annotations

from skmixed.inference.means_text import NO_DF
from skmixed.inference.noted import NotedTable
from skmixed.models.questions import estimable_part

LOST_NOTE = "Tested is the part of them that is estimable: {}."


def joint_table(effects, tests, index, ddf) -> NotedTable:
    """Table of F tests, of chi-square tests where they have no denominator.

    ``tests`` holds (K, rhs) for each row, of which the estimable part is tested.
    """
    rows, lost = [], []
    for name, (K, rhs) in zip(index, tests, strict=True):
        A = estimable_part(effects.fit, K)
        lost += [name] * (len(A) < len(K))
        rows.append(effects.joint_test(A @ K, ddf, rhs=A @ rhs))
    notes = effects.notes(ddf)
    if lost:
        names = ", ".join(map(str, lost[:5])) + (", ..." if len(lost) > 5 else "")
        notes = (*notes, LOST_NOTE.format(names))
    if any(test.df_den <= 0 for test in rows):
        notes = (*notes, NO_DF)
    if ddf == "asymptotic":
        z = [(t.df_num * t.F, t.df_num, t.p_value) for t in rows]
        return NotedTable.of(z, ["chi2", "df", "p_value"], index, notes)
    found = [(t.df_num, t.df_den, t.F, t.p_value) for t in rows]
    return NotedTable.of(found, ["num_df", "den_df", "F", "p_value"], index, notes)
