"""What an estimator says of the residual structure of its fit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from skmixed._warn import warn
from skmixed.exceptions import SingularFitWarning


class NoResidualStructure(ValueError, AttributeError):
    """An attribute asked of a model that has none; ``hasattr`` and ``dir`` take it as missing."""


def _fitted(model, what):
    residual = model.result_.residual
    if residual is None:
        raise NoResidualStructure(
            f"{what} belongs to models with a residual structure, such as "
            f"{type(model).__name__}(formula, residual='ar1(time | group)')"
        )
    return residual


def residual_parameters(model) -> pd.Series:
    """Parameters of the residual structure, standard deviations in units of y."""
    residual = _fitted(model, "residual_parameters_")
    sigma = model.result_.sigma
    values = {p.name: p.value * (sigma if p.kind == "sd" else 1.0) for p in residual.natural()}
    return pd.Series(values, name=str(model.design_spec_.residual), dtype=float)


def residual_covariance(model, rows) -> pd.DataFrame:
    """Covariance of the residuals of rows of one group, or of its visits."""
    residual, spec = _fitted(model, "residual_covariance_"), model.design_spec_.residual
    square = model.result_.sigma**2
    if rows is None or np.ndim(rows) == 0:  # every level has the same
        own = residual.structure
        if not own.visits_carry_sd or own.variances:
            raise ValueError(
                f"the covariance of {spec} depends on the rows: give residual_covariance_ those of "
                "one group"
            )
        names = spec.visits[0]
        return pd.DataFrame(square * residual.visits_covariance, index=names, columns=names)
    n = len(rows)
    terms = spec.new(model._table(rows, reset=False), np.arange(n))
    covariance = np.zeros((n, n))
    for at, R in residual.blocks(terms):
        covariance[np.ix_(at, at)] = square * R
    index = rows.index if isinstance(rows, pd.DataFrame) else None
    return pd.DataFrame(covariance, index=index, columns=index)


def tell_of_residual(model) -> None:
    """Warn of a residual structure whose estimate has run to a bound, with the way out."""
    residual = model.result_.residual
    told = None if residual is None else residual.at_bound()
    if told:
        warn(f"{model._who()}: {told}", SingularFitWarning)
