"""Starting values of nonlinear models: those given, and those that named curves find."""

from __future__ import annotations

import numpy as np

from skmixed.curves import initial_values


def starting_values(design, given, who):
    """Coefficients (p_k,) of every parameter to start from.

    Parameters
    ----------
    design : NonlinearDesign
    given : dict of str to number or list
        Parameters that are not there are found where the curve is a named one, and 0 otherwise.
    who : str
        Name of the estimator, for messages.

    Raises
    ------
    ValueError
        For values that are no numbers or no parameters', and where the curve is not finite.
    """
    mean = design.spec.mean
    _check_given(given, mean, who)
    values = {name: given.get(name, 0.0) for name in mean.parameters}
    if mean.curve is not None and len(given) < len(mean.parameters):
        values |= _found_values(design, given)
    pairs = zip(mean.parameters, design.designs, design.intercepts, strict=True)
    start = [_coefficients(name, values[name], X, at) for name, X, at in pairs]
    _check_finite(design, start, who)
    return start


def _check_given(given, mean, who):
    unknown = [name for name in given if name not in mean.parameters]
    if unknown:
        raise ValueError(
            f"{who}: start names {unknown[0]!r}, which is no parameter of {mean.text!r}: they are "
            f"{', '.join(mean.parameters)}"
        )
    for name, value in given.items():
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all():
            raise ValueError(
                f"{who}: start[{name!r}] must be a finite number, or a list with one for every "
                f"column of its design, got {value!r}"
            )


def _found_values(design, given):
    """Starting values of a named curve, beside those given."""
    mean = design.spec.mean
    known = dict(zip(mean.parameters, mean.curve.parameters, strict=True))
    fixed = {known[k]: float(v) for k, v in given.items() if np.ndim(v) == 0}
    parts = [x for x in (design.weights, design.frequencies) if x is not None]
    weights = np.prod(parts, axis=0) if parts else None
    covariates = mean.covariates_of(design.columns, len(design.y))
    found = initial_values(mean.curve, covariates, design.y, weights, fixed)
    return dict(zip(mean.parameters, found, strict=True)) | given


def _check_finite(design, start, who):
    phi = np.array([X @ b for X, b in zip(design.designs, start, strict=True)])
    with np.errstate(all="ignore"):
        bad = np.flatnonzero(~np.isfinite(design.value(phi)))
    if len(bad):
        at = ", ".join(
            f"{name}={value:.6g}"
            for name, value in zip(design.parameters, phi[:, bad[0]], strict=True)
        )
        raise ValueError(
            f"{who}: the curve is not finite at the starting values in {len(bad)} "
            f"row{'s' * (len(bad) > 1)}, the first is row {design.rows[bad[0]]} with {at}: give "
            "other values with start="
        )


def _coefficients(name, value, X, intercept):
    """Starting coefficients (p,) of a parameter from a number, or a list with all of them."""
    p = X.shape[1]
    if np.ndim(value) == 0 and p:
        b = np.zeros(p)
        if intercept is None:
            return np.linalg.lstsq(X, np.full(len(X), float(value)), rcond=None)[0]
        b[intercept] = value
        return b
    b = np.asarray(value, dtype=float)
    if b.shape != (p,):
        raise ValueError(
            f"start has {b.size} values for the parameter {name!r}, whose design has {p} "
            f"column{'s' * (p != 1)}: give a number, or one value for every column"
        )
    return b
