"""Limits of correlations and variances where the rows no longer tell them."""

from __future__ import annotations

import numpy as np

# Correlations all beyond the first are 1, all below the second are 0.
_ONE, _NONE = 0.99, 1e-3
# Residual standard deviation, in those of a term, that is as good as zero.
_NO_RESIDUAL = 3e-3

_SAME = (
    "the effects of a level in {term} are the same up to rounding (correlations tend to 1, so that "
    "their decay cannot be estimated): write (1 | {group}) in its place"
)
_SAME_FIELD = (
    "the field {term} is constant up to rounding (its range tends to infinity, so that neither "
    "range nor variance can be estimated): leave the term out"
)
_UNRELATED = (
    "the correlations of {term} tend to zero, and with one row for each effect its variance cannot "
    "be told from the residual's: leave the term out"
)
_RESIDUAL = (
    "the residual variance tends to zero beside that of {term}: the response has these "
    "correlations itself, without an error of its own. Write residual='{name}(time | {group})' in "
    "the place of the term"
)
_NO_ERROR = (
    "the residual variance tends to zero beside that of {term}: the response is the field itself, "
    "without an error of its own. Estimates are those of that limit"
)


def limit_of(fit, t):
    """What to tell of a structured term of a MixedFit that is at a limit, or None.

    A text with places for {term} and {group}.
    """
    layout, theta = fit.layout, fit.optimum.theta
    term = layout.terms[t]
    if not term.kind.startswith(("ar1", "expo", "gau", "mat")):
        return None
    R, n_levels = layout.correlations(theta, t), layout.groups[term.group].n_levels
    if len(R) and R.min() > _ONE:
        return _SAME if n_levels > 1 else _SAME_FIELD
    if not fit.is_linear or not len(R):
        return None
    if np.abs(R).max() < _NONE and fit.n_obs <= term.size * n_levels:
        return _UNRELATED
    spread = max(layout.natural_values(theta, t).get("sd", 0.0), 0.0)
    if spread * _NO_RESIDUAL <= 1.0:
        return None
    name = {"ar1": "ar1", "expo": "car1", "mat0.5": "car1"}.get(term.kind)
    is_field = n_levels == 1 or "," in term.names[0]  # several coordinates
    return _NO_ERROR if name is None or is_field else _RESIDUAL.replace("{name}", name)
