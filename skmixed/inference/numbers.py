"""Numbers as people read them: significant digits, and no powers of ten that are not needed."""

from __future__ import annotations

import numpy as np

# From here on whole numbers have no digits of their own any more.
_LARGE = 1e15
# Digits that every number of a column keeps, and that its largest may have.
_LEAST, _MOST = 4, 8


def number(value, digits=6, *, pad=False) -> str:
    """``value`` to so many significant digits, all of its digits before the point.

    Examples
    --------
    >>> [number(v) for v in (1234567.0, 24.74, 0.00001234, 2e20)]
    ['1234567', '24.74', '1.234e-05', '2e+20']
    >>> number(24.74, 5, pad=True)
    '24.740'
    """
    if 10.0**digits - 0.5 <= abs(value) < _LARGE:
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".rstrip(".") if pad else f"{value:.{digits}g}"


def count(value) -> str:
    """A number of rows or degrees of freedom: whole ones as they are."""
    return f"{value:.0f}" if float(value).is_integer() else number(value)


def common_decimals(values, digits, beside=()):
    """Decimals with which the largest of ``values`` has so many digits, and all have four.

    ``beside`` are numbers to be written alike. None where no number of decimals suits all.
    """
    sizes = _sizes(values)
    everything = np.concatenate([sizes, _sizes(beside)])
    if not len(everything):
        return 1
    most = _exponent(sizes.max() if len(sizes) else everything.max())
    decimals = max(digits - 1 - most, _LEAST - 1 - _exponent(everything.min()), 0)
    length = max(_exponent(everything.max()), 0) + 1 + decimals
    return decimals if length <= _MOST else None


def column(values, digits=5, decimals=None, missing="") -> list[str]:
    """Text of numbers with so many decimals, or with so many digits each where that is None."""
    if decimals is None:
        return [missing if np.isnan(v) else number(v, digits, pad=bool(v)) for v in values]
    return [
        missing if np.isnan(v) else number(v, digits) if abs(v) >= _LARGE else f"{v:z.{decimals}f}"
        for v in values
    ]


def _sizes(values):
    values = np.asarray(values, dtype=float)
    return np.abs(values[np.isfinite(values) & (values != 0)])


def _exponent(size):
    return int(np.floor(np.log10(size)))
