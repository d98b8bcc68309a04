"""Correlation matrices R(eta) of the effects of a level, with first and second derivatives by eta.

Bounds of a correlation are ordinary stationary points of eta (a sine or a cosine), so that a search
gets there in finitely many steps and may stay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

# Correlation of neighbours where a search begins.
_START = 0.4
# Positions up to which other ranges are tried, and how far off (a logarithm).
_FEW, _FARTHER = 50, 2.0
# Distance in ranges at which exp(-x) is zero; the logarithm of a range is not below its negative.
_FAR = 700.0


class Correlation(ABC):
    """R (s, s) as a function of eta (k,).

    Attributes
    ----------
    size : int
        s.
    kinds : tuple of str (k,)
        What :meth:`natural` tells: "cor", a number from -1 to 1, or "range", a positive one.
    names : tuple of str (k,)
    """

    size: int
    kinds: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def n_params(self):
        """k."""
        return len(self.kinds)

    @abstractmethod
    def start(self):
        """eta (k,) to begin a search from."""

    @abstractmethod
    def at(self, eta):
        """R (s, s), its derivatives (k, s, s), its second derivatives (k, k, s, s)."""

    @abstractmethod
    def natural(self, eta):
        """(values (k,), gradients (k, k), hessians (k, k, k)) of the parameters people read."""

    def from_free(self, x):
        """eta of numbers x (k,) in (-1, 1), see NamedStructure; of correlations alone."""
        return np.arcsin(x)

    def other_starts(self, eta):
        """Other values of the last parameter from which a search may find another mode."""
        return []

    def settled(self, eta, negligible):
        """eta with R exactly singular where it is so up to variances below negligible^2."""
        return eta

    def is_singular(self, eta):
        """Whether a correlation is at its bound."""
        return False


@dataclass(frozen=True)
class Independent(Correlation):
    """R = I."""

    size: int
    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def start(self):
        return np.zeros(0)

    def at(self, eta):
        s = self.size
        return np.eye(s), np.zeros((0, s, s)), np.zeros((0, 0, s, s))

    def natural(self, eta):
        return np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0, 0))


class _OneCorrelation(Correlation):
    """R(rho) of one correlation rho = rho(a)."""

    kinds = ("cor",)
    names = ("rho",)

    @abstractmethod
    def _rho(self, a):
        """(rho, first, second derivative) at the angle a."""

    @abstractmethod
    def _by_rho(self, rho):
        """(R, dR / drho, d2R / drho2)."""

    def at(self, eta):
        rho, first, second = self._rho(eta[0])
        R, slope, bend = self._by_rho(rho)
        return R, (first * slope)[None], (first**2 * bend + second * slope)[None, None]

    def natural(self, eta):
        rho, first, second = self._rho(eta[0])
        return np.array([rho]), np.array([[first]]), np.array([[[second]]])


@dataclass(frozen=True)
class Exchangeable(_OneCorrelation):
    """R_jk = rho: rho = cos(a)^2 - sin(a)^2 / (s - 1), all that s effects can have."""

    size: int

    def start(self):
        s = self.size
        return np.array([np.arccos(np.sqrt((_START * (s - 1) + 1) / s))])

    def from_free(self, x):
        return 0.5 * np.arccos(x)

    def _rho(self, a):
        share = self.size / (self.size - 1)
        return 1 - share * np.sin(a) ** 2, -share * np.sin(2 * a), -2 * share * np.cos(2 * a)

    def _by_rho(self, rho):
        others = 1.0 - np.eye(self.size)
        return np.eye(self.size) + rho * others, others, np.zeros_like(others)

    def settled(self, eta, negligible):
        # eigenvalues: share sin(a)^2, and s cos(a)^2
        quarter = np.round(eta[0] / (np.pi / 2))
        off = abs(np.sin(eta[0] - quarter * np.pi / 2))
        return np.array([quarter * np.pi / 2]) if off < negligible else eta

    def is_singular(self, eta):
        return bool(min(abs(np.sin(eta[0])), abs(np.cos(eta[0]))) < 1e-10)


@dataclass(frozen=True, eq=False)
class Autoregressive(_OneCorrelation):
    """R_jk = rho^|t_j - t_k|, rho = sin(a), t integers without a common divisor in their gaps."""

    gaps: np.ndarray

    @classmethod
    def of_times(cls, times):
        """Of times (s,), whole multiples of the smallest step."""
        return cls(np.abs(np.subtract.outer(times, times)))

    @property
    def size(self):
        return len(self.gaps)

    def start(self):
        # of neighbours that are the usual number of steps apart
        usual = np.median(np.diff(np.unique(self.gaps[np.argmax(self.gaps.max(axis=1))])))
        return np.array([np.arcsin(_START ** (1.0 / usual))])

    def other_starts(self, eta):
        # where neighbours are unequally far apart, rho below 0 is a mode of its own
        return [-eta] if len(np.unique(self.gaps)) < self.gaps.max() + 1 else []

    def _rho(self, a):
        return np.sin(a), np.cos(a), -np.sin(a)

    def _by_rho(self, rho):
        d = self.gaps
        return (
            rho**d,
            d * rho ** np.maximum(d - 1, 0),
            d * (d - 1) * rho ** np.maximum(d - 2, 0),
        )

    def settled(self, eta, negligible):
        bound = np.round(eta[0] / np.pi - 0.5) + 0.5
        off = abs(np.sin(eta[0] - bound * np.pi))
        return np.array([bound * np.pi]) if off < negligible else eta

    def is_singular(self, eta):
        return bool(abs(np.cos(eta[0])) < 1e-10)


@dataclass(frozen=True, eq=False)
class Toeplitz(Correlation):
    """R_jk = r_d of times d = |t_j - t_k| steps apart.

    Partial autocorrelations are sin(a_1), ..., sin(a_(s-1)), by Levinson's recursion.

    References
    ----------
    Barndorff-Nielsen and Schou (1973), On the parametrization of autoregressive models by partial
    autocorrelations, Journal of Multivariate Analysis 3, 408-419.
    """

    lags: np.ndarray

    @classmethod
    def of_times(cls, times):
        """Of times (s,), the whole numbers from one to another in any order."""
        return cls(np.abs(np.subtract.outer(times, times)))

    @property
    def size(self):
        return len(self.lags)

    @property
    def kinds(self):
        return ("cor",) * (self.size - 1)

    @property
    def names(self):
        return tuple(f"rho{d}" for d in range(1, self.size))

    def start(self):
        return np.append(np.arcsin(_START), np.zeros(self.size - 2))

    def natural(self, eta):
        jets = _autocorrelations(eta)
        return tuple(np.array([getattr(r, what) for r in jets[1:]]) for what in ("f", "g", "H"))

    def at(self, eta):
        d = self.lags
        jets = _autocorrelations(eta)
        R, slope, bend = (np.array([getattr(r, what) for r in jets])[d] for what in ("f", "g", "H"))
        return R, np.moveaxis(slope, -1, 0), np.moveaxis(bend, (-2, -1), (0, 1))

    def settled(self, eta, negligible):
        bound = (np.round(eta / np.pi - 0.5) + 0.5) * np.pi
        return np.where(np.abs(np.sin(eta - bound)) < negligible, bound, eta)

    def is_singular(self, eta):
        return bool(np.abs(np.cos(eta)).min() < 1e-10)


@dataclass(frozen=True)
class _Jet:
    """A number with its gradient g (k,) and Hessian H (k, k)."""

    f: float
    g: np.ndarray
    H: np.ndarray

    def __add__(self, other):
        return _Jet(self.f + other.f, self.g + other.g, self.H + other.H)

    def __sub__(self, other):
        return _Jet(self.f - other.f, self.g - other.g, self.H - other.H)

    def __mul__(self, other):
        cross = np.multiply.outer(self.g, other.g)
        return _Jet(
            self.f * other.f,
            self.f * other.g + other.f * self.g,
            self.f * other.H + other.f * self.H + cross + cross.T,
        )


def _autocorrelations(angles):
    """r_0 = 1, r_1, ..., r_k as jets in the angles (k,) of the partial autocorrelations."""
    k = len(angles)
    none, unit = np.zeros((k, k)), np.eye(k)
    one = _Jet(1.0, np.zeros(k), none)
    r, left, before = [one], one, []
    for j, a in enumerate(angles):
        bend = -np.sin(a) * np.multiply.outer(unit[j], unit[j])
        partial = _Jet(np.sin(a), np.cos(a) * unit[j], bend)
        new = partial * left
        for i, p in enumerate(before):
            new = new + p * r[j - i]
        r.append(new)
        before = [p - partial * q for p, q in zip(before, before[::-1], strict=True)] + [partial]
        left = left * (one - partial * partial)
    return r


@dataclass(frozen=True, eq=False)
class Decaying(Correlation):
    """R = f(distance / range), range = exp(eta).

    ``form``: "expo" exp(-x), "gau" exp(-x^2), "mat1.5" (1 + x) exp(-x), "mat2.5"
    (1 + x + x^2 / 3) exp(-x); "mat0.5" is "expo".
    """

    distances: np.ndarray
    form: str

    kinds = ("range",)
    names = ("range",)

    @classmethod
    def of_positions(cls, positions, form):
        """Of positions (s, d) in Euclidean space."""
        steps = positions[:, None, :] - positions
        return cls(np.sqrt(np.einsum("ijd,ijd->ij", steps, steps)), form)

    @property
    def size(self):
        return len(self.distances)

    def start(self):
        some = self.distances[np.triu_indices(self.size, 1)]
        return np.array([np.log(np.median(some[some > 0]) / 2)])

    def other_starts(self, eta):
        # of few positions long and short ranges may be modes of their own
        return [eta + _FARTHER, eta - _FARTHER] if self.size <= _FEW else []

    def natural(self, eta):
        reach = np.exp(eta[0])
        return np.array([reach]), np.array([[reach]]), np.array([[[reach]]])

    def between(self, steps, eta):
        """Correlations of effects that are as far apart as ``steps``."""
        return Decaying(steps, self.form).at(eta)[0]

    def at(self, eta):
        # beyond _FAR everything is exactly zero, and none of it overflows
        x = np.minimum(self.distances * np.exp(min(-eta[0], _FAR)), _FAR)
        if self.form == "gau":
            y, R = x**2, np.exp(-(x**2))
            slope, bend = 2 * y * R, (4 * y**2 - 4 * y) * R
        else:
            e = np.exp(-x)
            if self.form == "mat1.5":
                R, slope, bend = (1 + x) * e, x**2 * e, (x**3 - 2 * x**2) * e
            elif self.form == "mat2.5":
                R, slope = (1 + x + x**2 / 3) * e, x**2 * (1 + x) / 3 * e
                bend = -(x**2) / 3 * (2 + 2 * x - x**2) * e
            else:
                R, slope, bend = e, x * e, (x**2 - x) * e
        return R, slope[None], bend[None, None]
