"""Values with their first and second derivatives by a few parameters, through NumPy functions.

A function written for NumPy arrays, called with jets in the place of its parameters, returns its
derivatives too, to rounding: forward differentiation by the chain rule to second order.
"""

from __future__ import annotations

import numpy as np
from scipy import special

# The functions of one argument: x and f(x) to f'(x) and f''(x).
_RULES = {
    np.exp: lambda x, f: (f, f),
    np.expm1: lambda x, f: (f + 1.0, f + 1.0),
    np.log: lambda x, f: (1 / x, -1 / x**2),
    np.log2: lambda x, f: (1 / (x * np.log(2.0)), -1 / (x**2 * np.log(2.0))),
    np.log10: lambda x, f: (1 / (x * np.log(10.0)), -1 / (x**2 * np.log(10.0))),
    np.log1p: lambda x, f: (1 / (1 + x), -1 / (1 + x) ** 2),
    np.sqrt: lambda x, f: (0.5 / f, -0.25 / (x * f)),
    np.square: lambda x, f: (2.0 * x, 2.0),
    np.reciprocal: lambda x, f: (-f * f, 2.0 * f**3),
    np.sin: lambda x, f: (np.cos(x), -f),
    np.cos: lambda x, f: (-np.sin(x), -f),
    np.tanh: lambda x, f: (1 - f * f, -2.0 * f * (1 - f * f)),
    np.arctan: lambda x, f: (1 / (1 + x * x), -2.0 * x / (1 + x * x) ** 2),
    np.absolute: lambda x, f: (np.sign(x), 0.0),
    special.expit: lambda x, f: (f * (1 - f), f * (1 - f) * (1 - 2.0 * f)),
}
# Functions that are flat at infinity.
_SATURATED = {np.exp, np.expm1, np.reciprocal, np.tanh, np.arctan, special.expit}
_COMPARISONS = {
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
    np.isfinite,
    np.isnan,
    np.sign,
}


class Jet(np.lib.mixins.NDArrayOperatorsMixin):
    """value (n,), gradient (P, n) and hessian (P, P, n); a hessian of None is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from skmixed.linalg.jets import parameters
    >>> a, b = parameters(np.array([[2.0, 3.0], [0.0, 1.0]]))
    >>> jet = a * np.exp(b)
    >>> jet.gradient.round(3).tolist()
    [[1.0, 2.718], [2.0, 8.155]]
    >>> jet.hessian[0, 1].round(3).tolist()
    [1.0, 2.718]
    """

    __array_priority__ = 1000.0

    def __init__(self, value, gradient, hessian=None):
        self.value, self.gradient, self.hessian = value, gradient, hessian

    @property
    def second(self):
        """The hessian, zeros written out."""
        if self.hessian is not None:
            return self.hessian
        return np.zeros((len(self.gradient), *self.gradient.shape))

    def __len__(self):
        return len(self.value)

    @property
    def shape(self):
        return np.shape(self.value)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if method != "__call__" or kwargs:
            return NotImplemented
        if ufunc in _COMPARISONS:
            return ufunc(*map(_value, inputs))
        if ufunc in _RULES:
            (x,) = inputs
            f = ufunc(x.value)
            if ufunc in _SATURATED and np.isinf(x.value).any():
                return x.composed_where(np.isfinite(x.value) | np.isinf(f), ufunc, f)
            return x.composed(f, *_RULES[ufunc](x.value, f))
        if ufunc in _BINARY:
            return _BINARY[ufunc](*inputs)
        return NotImplemented

    def __array_function__(self, function, types, args, kwargs):
        if function is not np.where or kwargs or len(args) != 3:
            return NotImplemented
        return _where(*args)

    def __bool__(self):
        raise TypeError("a jet has no truth value: write np.where for choices by row")

    def composed_where(self, rows, ufunc, f):
        """f = ufunc of this jet, flat in other rows, where zero times infinity would be none."""
        first, second = (np.where(rows, d, 0.0) for d in _RULES[ufunc](self.value, f))
        gradient, hessian = (np.where(rows, d, 0.0) for d in (self.gradient, self.second))
        return Jet(self.value, gradient, hessian).composed(f, first, second)

    def composed(self, value, first, second):
        """f of this jet from f, f' and f'' at its value."""
        g = self.gradient
        hessian = (second * g)[:, None] * g
        if self.hessian is not None:
            hessian += first * self.hessian
        return Jet(value, first * g, hessian)


def parameters(phi):
    """The rows of phi (P, n) as jets of themselves."""
    slopes = np.zeros((len(phi), *phi.shape))
    for k, own in enumerate(slopes):
        own[k] = 1.0
    return list(map(Jet, phi, slopes))


def _value(x):
    return x.value if isinstance(x, Jet) else x


def _sum(a, b):
    return b if a is None else a if b is None else a + b


def _scaled(hessian, factor):
    return None if hessian is None else factor * hessian


def _add(x, y):
    if not isinstance(x, Jet):
        x, y = y, x
    if not isinstance(y, Jet):
        return Jet(x.value + y, x.gradient, x.hessian)
    return Jet(x.value + y.value, x.gradient + y.gradient, _sum(x.hessian, y.hessian))


def _negative(x):
    return Jet(-x.value, -x.gradient, _scaled(x.hessian, -1.0))


def _multiply(x, y):
    if not isinstance(x, Jet):
        x, y = y, x
    if not isinstance(y, Jet):
        return Jet(x.value * y, x.gradient * y, _scaled(x.hessian, y))
    cross = x.gradient[:, None] * y.gradient
    cross += cross.swapaxes(0, 1).copy()
    hessian = _sum(_scaled(x.hessian, y.value), _scaled(y.hessian, x.value))
    gradient = x.gradient * y.value + y.gradient * x.value
    return Jet(x.value * y.value, gradient, _sum(hessian, cross))


def _divide(x, y):
    if not isinstance(y, Jet):
        return _multiply(x, 1.0 / np.asarray(y, dtype=float))
    return _multiply(x, np.reciprocal(y))


def _power(x, y):
    if isinstance(y, Jet):
        if not isinstance(x, Jet):
            x = np.asarray(x, dtype=float)
            log, f = np.log(np.where(x > 0, x, 1.0)), np.power(x, y.value)
            log = np.where(x > 0, log, np.where(x == 0, 0.0, np.nan))  # 0^y is constant, y > 0
            return y.composed(f, log * f, log * log * f)
        return np.exp(_multiply(np.log(x), y))
    y = np.asarray(y, dtype=float)
    v = x.value
    first = np.where(y == 0, 0.0, y * np.power(v, np.where(y == 0, 1.0, y - 1)))
    flat = (y == 0) | (y == 1)
    second = np.where(flat, 0.0, y * (y - 1) * np.power(v, np.where(flat, 1.0, y - 2)))
    return x.composed(np.power(v, y), first, second)


def _where(condition, x, y):
    condition = _value(condition)
    jet = x if isinstance(x, Jet) else y
    if not isinstance(jet, Jet):  # jets decide, none is chosen
        return np.where(condition, x, y)
    sides = [s if isinstance(s, Jet) else _constant(s, jet) for s in (x, y)]
    return Jet(
        np.where(condition, *(s.value for s in sides)),
        np.where(condition, *(s.gradient for s in sides)),
        np.where(condition, *(s.second for s in sides)),
    )


def _constant(value, like):
    value = np.broadcast_to(np.asarray(value, dtype=float), like.shape)
    return Jet(value, np.zeros(like.gradient.shape))


_BINARY = {
    np.add: _add,
    np.subtract: lambda x, y: _add(x, -y),
    np.multiply: _multiply,
    np.divide: _divide,
    np.power: _power,
    np.negative: _negative,
    np.positive: lambda x: x,
    np.maximum: lambda x, y: _where(np.greater_equal(_value(x), _value(y)), x, y),
    np.minimum: lambda x, y: _where(np.less_equal(_value(x), _value(y)), x, y),
}


def evaluate(function, phi, covariates=()):
    """(f (n,), J (P, n), C (P, P, n)) of ``function(*covariates, *phi)`` and its derivatives.

    Raises
    ------
    TypeError
        For functions that do more than NumPy arithmetic with their parameters.
    """
    jet = function(*covariates, *parameters(phi))
    if not isinstance(jet, Jet):
        if np.asarray(jet).dtype == object:
            raise TypeError("the function does not return an array of numbers")
        value = np.broadcast_to(np.asarray(jet), phi.shape[1:])
        return value, np.zeros(phi.shape), np.zeros((len(phi), *phi.shape))
    return jet.value, jet.gradient, jet.second


_EPS = float(np.finfo(float).eps)


def differences(function, phi, covariates=()):
    """The same by central differences, for functions that jets cannot pass."""

    def f(at):
        # a copy: functions may write all their values to one array
        return np.array(function(*covariates, *at), dtype=float)

    size = np.sqrt(np.mean(phi**2, axis=1, keepdims=True)) + np.finfo(float).tiny
    size = np.where(size < 1e-300, 1.0, size)
    value, P = f(phi), len(phi)
    J, C = np.empty(phi.shape), np.empty((P, *phi.shape))

    def moved(*changes):
        at = phi.copy()
        for k, step in changes:
            at[k] += step
        return f(at)

    h = _EPS ** (1 / 3) * size[:, 0]
    for k in range(P):
        J[k] = (moved((k, h[k])) - moved((k, -h[k]))) / (2 * h[k])
    h = _EPS**0.25 * size[:, 0]
    for k in range(P):
        C[k, k] = (moved((k, h[k])) - 2 * value + moved((k, -h[k]))) / h[k] ** 2
        for m in range(k):
            both = moved((k, h[k]), (m, h[m])) + moved((k, -h[k]), (m, -h[m]))
            apart = moved((k, h[k]), (m, -h[m])) + moved((k, -h[k]), (m, h[m]))
            C[k, m] = C[m, k] = (both - apart) / (4 * h[k] * h[m])
    return value, J, C
