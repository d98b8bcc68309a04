"""Named curves of nonlinear regression, and starting values for their parameters.

Most parameters of these curves are linear given the others. Starting values come from a small
grid over the others: at every point the linear ones by least squares (variable projection), and
the point with the smallest residual wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

# Share of the least sum of squares by which points of a grid must differ to be told apart: units
# of the data do not decide between them.
_TIE = 1e-9


@dataclass(frozen=True)
class Curve:
    """A mean function with names for its arguments.

    Attributes
    ----------
    name : str
    function : callable
        ``function(*covariates, *parameters)``, NumPy arithmetic.
    covariates, parameters : tuple of str
    grids : dict of str to callable
        For every parameter that is not conditionally linear its grid, as a function of the last
        covariate.
    basis : callable
        ``basis(*covariates, *nonlinear parameters)``: the columns whose combination is f.
    linear : tuple of str
        The parameters that the coefficients of these columns make.
    from_coefficients : callable
        The linear parameters from the coefficients, None where these are meaningless.
    """

    name: str
    function: Callable
    covariates: tuple[str, ...]
    parameters: tuple[str, ...]
    grids: dict[str, Callable]
    basis: Callable
    linear: tuple[str, ...]
    from_coefficients: Callable = tuple

    def __reduce__(self):
        return _named, (self.name,)


def _named(name):
    """The curve of the registry, as pickles hold it."""
    return CURVES[name]


def initial_values(curve, covariates, y, weights=None, given=None):
    """Values (P,) of the parameters of a curve to start from.

    Parameters
    ----------
    curve : Curve
    covariates : sequence of (n,)
    y : (n,)
    weights : (n,), optional
    given : dict of str to float, optional
        Parameters that are known already.

    Raises
    ------
    ValueError
        Where no point of the grid gives a finite curve.
    """
    given = given or {}
    root = np.ones(len(y)) if weights is None else np.sqrt(weights)
    x = covariates[-1]
    grids = [[given[k]] if k in given else grid(x) for k, grid in curve.grids.items()]
    best, found = np.inf, None
    for point in product(*grids):
        values, f = _projected(curve, covariates, y, root, point, given)
        if values is None:
            continue
        rest = float(np.sum((root * (y - f)) ** 2))
        if rest < best * (1 - _TIE):
            best, found = rest, values
    if found is None:
        raise ValueError(
            f"no starting values for the curve {curve.name!r} were found on these data: give start="
        )
    return np.array(found)


@np.errstate(all="ignore")
def _projected(curve, covariates, y, root, point, given):
    """All parameters at a point of the grid, the linear ones by least squares, and f; or None."""
    columns = np.column_stack(np.broadcast_arrays(*curve.basis(*covariates, *point)))
    if not np.isfinite(columns).all():
        return None, None
    coefficients = np.linalg.lstsq(columns * root[:, None], y * root, rcond=None)[0]
    linear = curve.from_coefficients(coefficients)
    if linear is None or not np.isfinite(linear).all():
        return None, None
    values = dict(zip((*curve.grids, *curve.linear), (*point, *linear), strict=True)) | given
    ordered = [float(values[name]) for name in curve.parameters]
    f = curve.function(*covariates, *ordered)
    return (ordered, f) if np.isfinite(f).all() else (None, None)


# Grids


def _locations(x):
    low, high = np.min(x), np.max(x)
    return [*np.quantile(x, [0.1, 0.3, 0.5, 0.7, 0.9]), high + 0.3 * (high - low)]


def _scales(x):
    span = np.ptp(x) or 1.0
    return [share * span for share in (0.03, 0.08, 0.15, 0.3, 0.8)]


def _log_rates(x):
    return [-np.log(value) for value in _lengths(x)]


def _lengths(x):
    """Positive sizes that x has, and larger ones."""
    positive = x[x > 0]
    if not len(positive):
        return [1.0]
    sizes = [*np.quantile(positive, [0.02, 0.1, 0.25, 0.5, 0.75, 1.0]), 3.0 * positive.max()]
    return list(dict.fromkeys(sizes))


def _factors(x):
    return [float(np.exp(-1 / length)) for length in _lengths(x)]


def _offsets(x):
    low, span = np.min(x), np.ptp(x)
    return [low - 0.3 * span, low - 0.1 * span, low, low + 0.05 * span]


def _powers(x):
    return [0.5, 1.0, 2.0, 4.0]


# Curves


def logistic(x, Asym, xmid, scal):
    """Asym / (1 + exp((xmid - x) / scal))."""
    return Asym / (1 + np.exp((xmid - x) / scal))


def four_parameter_logistic(x, A, B, xmid, scal):
    """A + (B - A) / (1 + exp((xmid - x) / scal))."""
    return A + (B - A) / (1 + np.exp((xmid - x) / scal))


def gompertz(x, Asym, b2, b3):
    """Asym exp(-b2 b3^x)."""
    return Asym * np.exp(-b2 * b3**x)


def weibull(x, Asym, Drop, lrc, pwr):
    """Asym - Drop exp(-exp(lrc) x^pwr)."""
    return Asym - Drop * np.exp(-np.exp(lrc) * x**pwr)


def asymptotic(x, Asym, R0, lrc):
    """Asym + (R0 - Asym) exp(-exp(lrc) x)."""
    return Asym + (R0 - Asym) * np.exp(-np.exp(lrc) * x)


def asymptotic_offset(x, Asym, lrc, c0):
    """Asym (1 - exp(-exp(lrc) (x - c0)))."""
    return Asym * (1 - np.exp(-np.exp(lrc) * (x - c0)))


def asymptotic_origin(x, Asym, lrc):
    """Asym (1 - exp(-exp(lrc) x))."""
    return Asym * (1 - np.exp(-np.exp(lrc) * x))


def michaelis_menten(x, Vm, K):
    """Vm x / (K + x)."""
    return Vm * x / (K + x)


def biexponential(x, A1, lrc1, A2, lrc2):
    """A1 exp(-exp(lrc1) x) + A2 exp(-exp(lrc2) x)."""
    return A1 * np.exp(-np.exp(lrc1) * x) + A2 * np.exp(-np.exp(lrc2) * x)


def first_order(dose, t, lKe, lKa, lCl):
    """Concentration after a dose: absorption exp(lKa), elimination exp(lKe), clearance exp(lCl).

    dose exp(lKe + lKa - lCl) (exp(-exp(lKe) t) - exp(-exp(lKa) t)) / (exp(lKa) - exp(lKe)), whose
    singularity at equal rates is removable: with d the difference of the rates times t, the last
    two factors are t exp(-exp(lKe) t) (1 - exp(-d)) / d.
    """
    ke, ka = np.exp(lKe), np.exp(lKa)
    d = (ka - ke) * t
    small = np.abs(d) < 1e-3
    apart = np.where(small, 1.0, d)
    series = 1 - d / 2 * (1 - d / 3 * (1 - d / 4 * (1 - d / 5)))
    share = np.where(small, series, -np.expm1(-apart) / apart)
    return dose * np.exp(lKe + lKa - lCl) * t * np.exp(-ke * t) * share


def _absorbed_first(dose, t, lKe, lKa):
    """The curve is the same with the rates exchanged: elimination is the slower one."""
    column = first_order(dose, t, lKe, lKa, 0.0)
    return (column if lKe <= lKa else np.full_like(column, np.nan),)


def _positive_log(coefficients):
    return (-np.log(coefficients[0]),) if coefficients[0] > 0 else None


def _decay(x, lrc):
    return np.exp(-np.exp(lrc) * x)


_ALL = (
    Curve(
        "logistic",
        logistic,
        ("x",),
        ("Asym", "xmid", "scal"),
        {"xmid": _locations, "scal": _scales},
        lambda x, xmid, scal: (logistic(x, 1.0, xmid, scal),),
        ("Asym",),
    ),
    Curve(
        "four_parameter_logistic",
        four_parameter_logistic,
        ("x",),
        ("A", "B", "xmid", "scal"),
        {"xmid": _locations, "scal": _scales},
        lambda x, xmid, scal: (1 - logistic(x, 1.0, xmid, scal), logistic(x, 1.0, xmid, scal)),
        ("A", "B"),
    ),
    Curve(
        "gompertz",
        gompertz,
        ("x",),
        ("Asym", "b2", "b3"),
        {"b2": lambda x: [0.5, 1.0, 2.0, 4.0, 8.0, 16.0], "b3": _factors},
        lambda x, b2, b3: (gompertz(x, 1.0, b2, b3),),
        ("Asym",),
    ),
    Curve(
        "weibull",
        weibull,
        ("x",),
        ("Asym", "Drop", "lrc", "pwr"),
        {
            "pwr": _powers,
            "lrc": lambda x: [p * r for p in (0.5, 1.0, 2.0, 4.0) for r in _log_rates(x)[1:6:2]],
        },
        lambda x, pwr, lrc: (np.ones_like(x), -np.exp(-np.exp(lrc) * x**pwr)),
        ("Asym", "Drop"),
    ),
    Curve(
        "asymptotic",
        asymptotic,
        ("x",),
        ("Asym", "R0", "lrc"),
        {"lrc": _log_rates},
        lambda x, lrc: (1 - _decay(x, lrc), _decay(x, lrc)),
        ("Asym", "R0"),
    ),
    Curve(
        "asymptotic_offset",
        asymptotic_offset,
        ("x",),
        ("Asym", "lrc", "c0"),
        {"lrc": _log_rates, "c0": _offsets},
        lambda x, lrc, c0: (1 - _decay(x - c0, lrc),),
        ("Asym",),
    ),
    Curve(
        "asymptotic_origin",
        asymptotic_origin,
        ("x",),
        ("Asym", "lrc"),
        {"lrc": _log_rates},
        lambda x, lrc: (1 - _decay(x, lrc),),
        ("Asym",),
    ),
    Curve(
        "michaelis_menten",
        michaelis_menten,
        ("x",),
        ("Vm", "K"),
        {"K": _lengths},
        lambda x, K: (x / (K + x),),
        ("Vm",),
    ),
    Curve(
        "biexponential",
        biexponential,
        ("x",),
        ("A1", "lrc1", "A2", "lrc2"),
        {"lrc1": _log_rates, "lrc2": _log_rates},
        lambda x, one, two: (
            _decay(x, one),
            _decay(x, two) if two < one else np.full_like(x, np.nan),
        ),
        ("A1", "A2"),
    ),
    Curve(
        "first_order",
        first_order,
        ("dose", "t"),
        ("lKe", "lKa", "lCl"),
        {"lKe": _log_rates, "lKa": _log_rates},
        _absorbed_first,
        ("lCl",),
        _positive_log,
    ),
)
# R's names of the same curves
_ALIASES = {
    "SSlogis": "logistic",
    "SSfpl": "four_parameter_logistic",
    "SSgompertz": "gompertz",
    "SSweibull": "weibull",
    "SSasymp": "asymptotic",
    "SSasympOff": "asymptotic_offset",
    "SSasympOrig": "asymptotic_origin",
    "SSmicmen": "michaelis_menten",
    "SSbiexp": "biexponential",
    "SSfol": "first_order",
}
CURVES = {curve.name: curve for curve in _ALL}
CURVES |= {alias: CURVES[name] for alias, name in _ALIASES.items()}
