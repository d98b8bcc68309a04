"""The curves of smooth terms with pointwise intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.design.random import RandomTerm
from skmixed.inference.intervals import check_level

COLUMNS = ["term", "curve", "x", "estimate", "std_error", "lower", "upper"]


def smooth_curves(model, term=None, *, x=None, points=200, level=0.95) -> pd.DataFrame:
    """The curves of smooth terms on the scale of the linear predictor.

    A curve is its straight line and its deviations from it together. It is centred: its mean over
    the rows of the fit is 0 (for a factor ``by`` the mean over the rows of the level), since the
    constant is the intercept's. Where it multiplies a number ``by`` it is that number's coefficient
    at x, and not centred.

    Parameters
    ----------
    model : fitted MixedLinearRegressor, MixedGLMRegressor or MixedLogisticClassifier
    term : str, optional
        ``"s(x)"`` as in the index of ``model.smooths_``, where a level follows in brackets; all
        smooth terms by default.
    x : (m,), optional
        Values of the argument; ``points`` of them over its range at the fit by default. Outside
        of the range curves are straight lines.
    points : int
    level : float
        Of the pointwise limits, between 0 and 1.

    Returns
    -------
    DataFrame
        term, curve (the level of a factor, else None), x, estimate, std_error, lower and upper, in
        rows by curve. The errors are those of a prediction of the random effects, the penalised
        ones included, so that limits have their level on the average over x (Marra and Wood 2012,
        Scandinavian Journal of Statistics 39, 53-74); theta is taken as known in linear models.

    Raises
    ------
    ValueError
        For a model without smooth terms, an unknown term, and a copy without its factor.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.inference import smooth_curves
    >>> x = np.linspace(0, 6, 60)
    >>> df = pd.DataFrame({"x": x, "y": np.sin(x) + 0.2 * np.cos(40 * x)})
    >>> model = MixedLinearRegressor("y ~ s(x)").fit(df)
    >>> smooth_curves(model, x=[1.5, 4.5]).iloc[:, 2:5].round(1)
         x  estimate  std_error
    0  1.5       1.0        0.0
    1  4.5      -1.0        0.0
    """
    check_level(level)
    fit, spec = model.result_, model.design_spec_
    chosen = chosen_terms(model, term)
    reach = stats.norm.isf((1.0 - level) / 2.0)
    tables = []
    for t, part in zip(fit.smooth_terms, spec.smooths, strict=True):
        if part.label not in chosen:
            continue
        low, high = part.bounds
        values = np.linspace(low, high, points) if x is None else np.asarray(x, dtype=float)
        for c, curve in enumerate(part.curves):
            estimate, error = _curve(fit, t, part, c, values)
            limits = estimate - reach * error, estimate + reach * error
            columns = [part.label, curve, values, estimate, error, *limits]
            table = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
            tables.append(table.astype({"curve": object}))
    return pd.concat(tables, ignore_index=True)


def chosen_terms(model, term=None) -> list[str]:
    """Names of the smooth terms asked for, all where none is."""
    spec = getattr(model, "design_spec_", None)
    labels = [part.label for part in getattr(spec, "smooths", ())]
    if not labels:
        raise ValueError(f"{type(model).__name__} is no fitted model with smooth terms s(x)")
    if term is not None and term not in labels:
        raise ValueError(f"term must be one of {', '.join(map(repr, labels))}, got {term!r}")
    return labels if term is None else [term]


def _curve(fit, t, part, c, x):
    """(estimates, standard errors) (m,) of one curve at x (m,)."""
    K, z = part.lines.rows(c, x), part.basis(x, c) - part.lines.means[c]
    levels = range(len(part.curves))
    own = RandomTerm(part.label, part.names, np.full(len(x), c), levels, z, structure="smooth")
    random = [own if k == t else None for k in range(len(fit.layout.terms))]
    estimate = fit.in_basis(K) @ fit.gamma + fit.random_part(random)
    return estimate, fit.function_std(K, random)
