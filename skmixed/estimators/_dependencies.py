"""What messages say of columns that depend on others: three of them, how many more, and where."""

from __future__ import annotations

import numpy as np

from skmixed.inference.fixed_effects import combination_text

MOST, LENGTH = 3, 200


def dependencies(basis, names) -> dict[str, dict[str, float]]:
    """For every aliased column of a ColumnBasis its non-zero coefficients on the kept ones."""
    found = {}
    for j in np.flatnonzero(basis.aliased):
        row = basis.combinations[j]
        found[names[j]] = {names[basis.kept[k]]: float(row[k]) for k in np.flatnonzero(row)}
    return found


def dependency_text(basis, j, names) -> str:
    """The combination that column j is, cut short where it is long."""
    return shortened(combination_text(basis.combinations[j], [names[k] for k in basis.kept]))


def shortened(text) -> str:
    if len(text) <= LENGTH:
        return text
    return text[:LENGTH].rpartition(" ")[0] + " ..."


def shortlist(parts, where="", separator="; ") -> str:
    """The first parts, and how many more there are and where to read them."""
    text = separator.join(parts[:MOST])
    if len(parts) <= MOST:
        return text
    return f"{text}{separator}and {len(parts) - MOST} more" + (f", see {where}" if where else "")
