"""Probabilities and outcomes of rows by level: what calibration and ROC curves are made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from skmixed.plotting._panels import choose_group
from skmixed.plotting._rows import as_pandas, has_events, levels_of, mean_of, response_of


def event_rows(estimator, X, y, group, random_effects, who):
    """(rows, group): columns level, p and y of the rows with a prediction and an outcome."""
    X = as_pandas(X, who)
    group = group if group in X else choose_group(estimator, group)
    outcome = response_of(estimator, X, y)
    known = np.isfinite(outcome)
    if not has_events(estimator, outcome[known]):
        raise ValueError(
            f"{who} is for outcomes of two classes or zeros and ones of a binomial family, and the "
            f"model is a {type(estimator).__name__} with other responses"
        )
    p = mean_of(estimator, X, random_effects)
    rows = pd.DataFrame({"level": levels_of(estimator, X, group), "p": p, "y": outcome})
    return rows.dropna().reset_index(drop=True), group


def roc_curve(p, y):
    """(false, true) positive rates (m,) at all thresholds of p, from (0, 0) to (1, 1)."""
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    ends = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)
    true, false = np.cumsum(y)[ends], np.cumsum(1 - y)[ends]
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def auc(p, y):
    """Share of pairs of an event and a non-event in which the event has the larger p; NaN if none.

    Ties count one half.
    """
    events = y.sum()
    pairs = events * (len(y) - events)
    if not pairs:
        return float("nan")
    return float((rankdata(p)[y == 1].sum() - events * (events + 1) / 2) / pairs)


def auc_by_level(rows):
    """auc, n and events of every level, sorted by auc; NaN for levels with one class alone."""
    found = {
        level: (auc(own["p"].to_numpy(), own["y"].to_numpy()), len(own), int(own["y"].sum()))
        for level, own in rows.groupby("level", sort=False)
    }
    table = pd.DataFrame.from_dict(found, orient="index", columns=["auc", "n", "events"])
    return table.rename_axis("level").sort_values("auc", kind="stable")
