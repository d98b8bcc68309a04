"""The table of fixed effects: estimates, standard errors, tests and intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed.inference.fixed_effects import FixedEffects
from skmixed.inference.intervals import check_level
from skmixed.inference.noted import NotedTable

LEFT_OUT = "Left out of the fit, since they depend on other columns: {}."


def coefficient_table(model, *, ddf=None, level=0.95, rows=None) -> NotedTable:
    """Estimates of the fixed effects with standard errors, tests and intervals.

    Parameters
    ----------
    model : fitted mixed model, or its FixedEffects
    ddf : str, optional
        How degrees of freedom are found; ``kenward_roger`` adjusts the standard errors too.
    level : float
        Of the intervals, between 0 and 1.
    rows : (p, r) array, optional
        Coefficients from those of the r columns that were kept; NaN for none.

    Returns
    -------
    NotedTable
        estimate, std_error, df, t (z where df are infinite), p_value, lower and upper by
        parameter; NaN for columns that were left out.

    Raises
    ------
    ValueError
        For a level outside (0, 1), and degrees of freedom that the fit has not.
    """
    check_level(level)
    effects = FixedEffects.of(model)
    method = effects.method(ddf)
    if rows is None:
        K, known = effects.coefficient_rows, ~effects.aliased
    else:
        K, known = rows @ effects.fit.basis.combinations.T, ~np.isnan(rows).any(axis=1)
    tests = effects.row_tests(np.where(known[:, None], K, 0.0), method).where(known)
    lower, upper = tests.limits(level)
    columns = {
        "estimate": tests.estimate,
        "std_error": tests.std_error,
        "df": tests.df,
        "z" if method == "asymptotic" else "t": tests.t,
        "p_value": tests.p_value,
        "lower": lower,
        "upper": upper,
    }
    lost = [name for name, own in zip(effects.names, known, strict=True) if not own]
    notes = (LEFT_OUT.format(", ".join(lost)),) * bool(lost)
    index = pd.Index(effects.names, name="parameter", dtype=object)
    return NotedTable.of(
        columns, list(columns), index, (*effects.notes(method), *effects.smooth_notes, *notes)
    )
