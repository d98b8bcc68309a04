"""What formulas may call: functions row by row, values learnt at the fit, and codings of factors.

A function that looks at more than one row has a state: what it learns from the rows of the fit,
each counted as often as it stands for, is remembered and used again for new rows. Functions that
cannot remember, such as running sums, are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from formulaic.materializers.types import FactorValues
from formulaic.transforms import TRANSFORMS

State = dict[str, Any]


@dataclass(frozen=True)
class Function:
    """A function of formulas: how it is called and with which arguments.

    ``kind`` is "rows" (each row for itself), "table" (each row for itself, looked up in a list),
    "aggregate" (one value of a column), "transform" (columns of a column) or "coding" (of a
    factor), "same" and "list"; ``least`` and ``most`` count the arguments by position.
    """

    call: Callable[..., Any]
    kind: str
    least: int
    most: int
    keywords: frozenset[str] = frozenset()
    logical: bool = False  # takes booleans as they are, not as numbers

    @property
    def one_column(self) -> bool:
        """Whether only the first argument may be a column: others would differ for new rows."""
        return self.kind in ("table", "aggregate", "transform", "coding")

    def objection(self, n: int, keywords: list[str | None]) -> str | None:
        """What is wrong with ``n`` arguments by position and these by name."""
        if n < self.least or n > self.most:
            wanted = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            return f"takes {wanted} argument{'s' * (wanted != '1')} by position, not {n}"
        unknown = [str(name) for name in keywords if name not in self.keywords]
        return f"has no argument {unknown[0]!r} in formulas" if unknown else None


def _rows(name: str, logical: bool = False) -> Function:
    ufunc = getattr(np, name)
    return Function(ufunc, "rows", ufunc.nin, ufunc.nin, logical=logical)


_NUMERIC = (
    "abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt ceil copysign cos "
    "cosh deg2rad degrees divide exp exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod "
    "heaviside hypot log log10 log1p log2 logaddexp logaddexp2 maximum minimum mod multiply "
    "negative power rad2deg radians reciprocal remainder rint sign sin sinh sqrt square subtract "
    "tan tanh true_divide trunc"
).split()
_LOGICAL = (
    "equal greater greater_equal isfinite isinf isnan less less_equal logical_and logical_not "
    "logical_or logical_xor not_equal signbit"
).split()
# R's and Python's names that need no "np."
_BARE = (
    "log log10 log2 log1p exp exp2 expm1 sqrt abs sign floor ceil trunc sin cos tan sinh cosh tanh "
    "arcsin arccos arctan"
).split()


# ---- one value of a column --------------------------------------------------------------------


def _mean(x: np.ndarray, counts: np.ndarray | None) -> float:
    return float(np.average(x, weights=counts))


def _sum(x: np.ndarray, counts: np.ndarray | None) -> float:
    return float(x.sum() if counts is None else counts @ x)


def _var(x: np.ndarray, counts: np.ndarray | None, ddof: float = 0) -> float:
    total = len(x) if counts is None else counts.sum()
    return _sum((x - _mean(x, counts)) ** 2, counts) / (total - ddof)


def _std(x: np.ndarray, counts: np.ndarray | None, ddof: float = 0) -> float:
    return float(np.sqrt(_var(x, counts, ddof)))


def quantile(x: np.ndarray, counts: np.ndarray | None, q: Any) -> Any:
    """Quantiles as NumPy's of the repeated rows.

    A value that counts w times holds the places from its first to its last repetition, between
    the values of two neighbours a line is drawn. Counts need not be whole numbers: a value that
    counts less than once holds one place.
    """
    if counts is None:
        return np.quantile(x, q)
    values, inverse = np.unique(x, return_inverse=True)
    count = np.bincount(inverse, counts)
    last = np.cumsum(count)
    first = last - count
    last = np.maximum(last - 1, first)
    places, held = np.column_stack([first, last]).ravel(), np.repeat(values, 2)
    return np.interp(np.asarray(q, dtype=float) * last[-1], places, held)


def _percentile(x: np.ndarray, counts: np.ndarray | None, q: Any) -> Any:
    return quantile(x, counts, np.asarray(q, dtype=float) / 100)


_AGGREGATES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "mean": (_mean, ()),
    "sum": (_sum, ()),
    "min": (lambda x, counts: float(x.min()), ()),
    "max": (lambda x, counts: float(x.max()), ()),
    "ptp": (lambda x, counts: float(np.ptp(x)), ()),
    "var": (_var, ("ddof",)),
    "std": (_std, ("ddof",)),
    "median": (lambda x, counts: float(quantile(x, counts, 0.5)), ()),
    "quantile": (quantile, ("q",)),
    "percentile": (_percentile, ("q",)),
}


def _aggregate(name: str) -> Function:
    call, keywords = _AGGREGATES[name]
    return Function(call, "aggregate", 1, 1 + (keywords == ("q",)), frozenset(keywords))


# ---- columns of a column ----------------------------------------------------------------------
#
# formulaic's transforms learn from unweighted rows; given what the counted rows would have taught
# them, they only apply it


def _scale(x, counts, state, center=True, scale=True, ddof=1):
    if counts is not None and not state:
        middle = center
        if center is True:
            center = middle = _mean(x, counts)
        if scale is True:
            square = _sum((x - (0.0 if middle is False else middle)) ** 2, counts)
            scale = np.sqrt(square / (counts.sum() - ddof))
    return TRANSFORMS["scale"](x, center, scale, ddof, _state=state)


def _standardize(x, counts, state, center=True, rescale=True, ddof=0):
    return _scale(x, counts, state, center, rescale, ddof)


def _center(x, counts, state):
    return _scale(x, counts, state, scale=False)


def _poly(x, counts, state, degree=1, raw=False):
    if counts is not None and not state and not raw:
        state.update(_recurrence(x, counts, degree))
    return TRANSFORMS["poly"](x, degree, raw, _state=state)


def _recurrence(x, counts, degree):
    """The three-term recurrence of the polynomials that are orthogonal over the counted rows."""
    alpha, norms = {}, {0: counts.sum()}
    before, now = np.zeros_like(x), np.ones_like(x)
    for k in range(degree):
        alpha[k] = np.sum(counts * x * now**2) / norms[k]
        beta = norms[k] / norms[k - 1] if k else 0.0
        before, now = now, (x - alpha[k]) * now - beta * before
        norms[k + 1] = np.sum(counts * now**2)
    return {"alpha": alpha, "norms2": norms}


def _undefined_beyond(state, settings):
    """Settings of a spline; of new rows those beyond its bounds are undefined, each by itself."""
    if state and settings.get("extrapolation", "raise") == "raise":
        return settings | {"extrapolation": "na"}
    return settings


def _bs(x, counts, state, df=None, knots=None, degree=3, include_intercept=False, **settings):
    settings = _undefined_beyond(state, settings)
    inner = 0 if df is None else df - degree - bool(include_intercept)
    if counts is not None and not state and knots is None and inner > 0:
        inside = np.ones(len(x), dtype=bool)
        if settings.get("extrapolation", "raise") != "extend":
            low, high = settings.get("lower_bound"), settings.get("upper_bound")
            inside &= x >= (-np.inf if low is None else low)
            inside &= x <= (np.inf if high is None else high)
        places = np.linspace(0, 1, inner + 2)[1:-1]
        df, knots = None, quantile(x[inside], counts[inside], places).tolist()
    return TRANSFORMS["bs"](x, df, knots, degree, include_intercept, **settings, _state=state)


def _cubic(name, x, counts, state, df=None, knots=None, constraints=None, **settings):
    """A cubic spline: its knots are quantiles of distinct values, its centring counts rows."""
    spline = TRANSFORMS[name]
    if "extrapolation" in settings:
        settings = _undefined_beyond(state, settings)
    if counts is not None and not state and isinstance(constraints, str):
        free = settings | {"extrapolation": settings.get("extrapolation", "extend")}
        if free["extrapolation"] == "zero":
            free["extrapolation"] = "extend"
        columns = spline(x, df if df is None else df + 1, knots, **free, _state={})
        if constraints == "center":
            constraints = np.array([[_mean(columns[k], counts) for k in columns]])
    return spline(x, df, knots, constraints=constraints, **settings, _state=state)


_BOUNDS = frozenset({"lower_bound", "upper_bound", "extrapolation"})
_CUBIC = _BOUNDS | {"df", "knots", "constraints"}


def transformed(function: Function, x: np.ndarray, counts, state: State, args, settings) -> Any:
    """The columns of a transform that learns from, and is applied to, the rows with a value.

    Rows without one have none in the result either: NaN stays NaN, infinity stays infinity.
    """
    known = np.isfinite(x)
    every = bool(known.all())
    if not (state or every or known.any()):
        raise ValueError("there is no row with a value to learn from")
    own = counts if counts is None or every else counts[known]
    made = function.call(x if every else x[known], own, state, *args, **settings)
    state["learnt"] = True  # powers, too, which learn nothing
    if every:
        return made
    inner = getattr(made, "__wrapped__", made)
    wide: Any
    if isinstance(inner, dict):
        wide = {key: _spread(values, known, x) for key, values in inner.items()}
    else:
        wide = _spread(np.asarray(inner), known, x)
    metadata = getattr(made, "__formulaic_metadata__", None)
    return wide if metadata is None else FactorValues(wide, metadata=metadata)


def _spread(values: np.ndarray, known: np.ndarray, x: np.ndarray) -> np.ndarray:
    wide = np.empty((len(x), *values.shape[1:]))
    wide[known] = values
    wide[~known] = x[~known].reshape(-1, *(1,) * (values.ndim - 1))
    return wide


def aggregated(function: Function, x: np.ndarray, counts, state: State, args, settings) -> Any:
    """The value of an aggregate at the fit; not a number in rows where its argument is none."""
    undefined = np.isnan(x)
    some = bool(undefined.any())
    if "value" not in state:
        if undefined.all():
            raise ValueError("there is no row with a value to learn from")
        known = ~undefined if some else slice(None)
        own = None if counts is None else counts[known]
        state["value"] = function.call(x[known], own, *args, **settings)
    return np.where(undefined, np.nan, state["value"]) if some else state["value"]


# ---- the table --------------------------------------------------------------------------------

_NUMPY: dict[str, Function] = {
    **{name: _rows(name) for name in _NUMERIC},
    **{name: _rows(name, logical=True) for name in _LOGICAL},
    "where": Function(np.where, "rows", 3, 3, logical=True),
    "isin": Function(np.isin, "table", 2, 2, logical=True),
    "clip": Function(np.clip, "rows", 1, 3, frozenset({"a_min", "a_max"})),
    "round": Function(np.round, "rows", 1, 2, frozenset({"decimals"})),
    "digitize": Function(np.digitize, "table", 2, 2, frozenset({"right"})),
    "nan_to_num": Function(np.nan_to_num, "rows", 1, 1, frozenset({"nan"})),
    "array": Function(np.array, "rows", 1, 1, logical=True),
    **{name: _aggregate(name) for name in _AGGREGATES},
    **{f"nan{name}": _aggregate(name) for name in _AGGREGATES if name != "ptp"},
    "amin": _aggregate("min"),
    "amax": _aggregate("max"),
}

FUNCTIONS: dict[str, Function] = {
    **{f"np.{name}": function for name, function in _NUMPY.items()},
    **{name: _NUMPY[name] for name in (*_BARE, "round", "mean", "median", "sum", "min", "max")},
    "exp10": Function(partial(np.power, 10.0), "rows", 1, 1),
    "sd": Function(partial(_std, ddof=1), "aggregate", 1, 1),
    "I": Function(lambda value: value, "same", 1, 1),
    "c": Function(lambda *values: list(values), "list", 0, 1000),
    "center": Function(_center, "transform", 1, 1),
    "scale": Function(_scale, "transform", 1, 4, frozenset({"center", "scale", "ddof"})),
    "standardize": Function(
        _standardize, "transform", 1, 4, frozenset({"center", "rescale", "ddof"})
    ),
    "poly": Function(_poly, "transform", 1, 3, frozenset({"degree", "raw"})),
    "bs": Function(
        _bs, "transform", 1, 5, _BOUNDS | {"df", "knots", "degree", "include_intercept"}
    ),
    **{
        name: Function(partial(_cubic, name), "transform", 1, 3, _CUBIC)
        for name in ("cr", "cs", "cc")
    },
    "C": Function(
        TRANSFORMS["C"], "coding", 1, 2, frozenset({"contrasts", "levels", "spans_intercept"})
    ),
    "hashed": Function(
        TRANSFORMS["hashed"], "coding", 1, 3, frozenset({"levels", "contrasts", "spans_intercept"})
    ),
}

CONSTANTS = {"np.pi": np.pi, "np.e": np.e, "np.inf": np.inf, "np.nan": np.nan}

CONTRASTS: dict[str, Any] = {
    **{
        f"contr.{name}": getattr(TRANSFORMS["contr"], name)
        for name in ("treatment", "SAS", "sum", "helmert", "poly", "diff", "custom")
    },
    **{name: TRANSFORMS[name] for name in ("Treatment", "Sum", "Helmert", "Diff", "Poly")},
}

# functions whose value in a row depends on the other rows of the table
NEIGHBOURS = frozenset(
    (
        "lag lead shift diff ediff1d gradient cumsum cumprod cummax cummin nancumsum nancumprod "
        "sort argsort rank rankdata roll flip unique arange linspace random rand cov corrcoef "
        "convolve interp trapz searchsorted argmax argmin len length nrow range prod average "
        "count_nonzero any all unwrap"
    ).split()
)
