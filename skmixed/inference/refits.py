"""The same model with other fixed effects: what is fitted again to the data for a comparison."""

from __future__ import annotations

from skmixed.design.formula import formula_text


def with_fixed(model, fixed):
    """An unfitted copy of an estimator whose formula has other fixed effects.

    Parameters
    ----------
    model : fitted mixed model
    fixed : str
        The right-hand side without offsets and random effects.
    """
    text = formula_text(model.design_spec_.terms, fixed)
    return type(model)(**{**model.get_params(deep=False), "formula": text})
