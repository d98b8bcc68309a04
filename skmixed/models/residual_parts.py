"""Standard deviations of rows and correlations of groups, the factors of residual structures.

Names are those of nlme's classes and of PROC MIXED's types. All parameters rho are unconstrained.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skmixed.models.structured import make_structure
from skmixed.models.structures import Unstructured

# Correlation of neighbours where a search begins.
_START = 0.4
# Correlations of neighbours that are as good as 1 and 0.
_NEARLY_ONE, _NEARLY_NONE = 0.999, 1e-6
# Standard deviation of a level, as a share of the others', that is none.
_NO_VARIANCE = 1e-4
# Smallest eigenvalue of correlations to start from.
_LEAST = 0.05

# Standard deviations of rows


@dataclass(frozen=True, eq=False)
class ByLevel:
    """ident(g): log weights relative to those of the first level."""

    text: str
    labels: tuple[str, ...]

    kind = "ident"

    @property
    def n_params(self):
        return len(self.labels) - 1

    def start(self):
        return np.zeros(self.n_params)

    def log_sd(self, rho, values):
        """log s (m,) and its derivatives (p, m) at codes (m,)."""
        levels = np.append(0.0, -0.5 * rho)
        slopes = -0.5 * (values == np.arange(1, len(levels))[:, None])
        return levels[values.astype(np.intp)], slopes

    def at_bound(self, rho):
        """What to say of a level without residual variance, or None."""
        log_sd = np.append(0.0, -0.5 * rho)
        least = int(np.argmin(log_sd))
        if log_sd[least] - np.median(np.delete(log_sd, least)) > np.log(_NO_VARIANCE):
            return None
        return (
            f"the residual variance of {self.labels[least]!r} in {self.text} has run to zero, "
            "where the likelihood has no maximum: the effects fit its rows exactly. Merge the "
            "level with another one, or leave its rows out"
        )

    def named(self, rho, absolute):
        for h, label in enumerate(self.labels):
            if not absolute and not h:
                continue
            gradient = np.zeros(self.n_params)
            value = 1.0
            if h:
                value = float(np.exp(-0.5 * rho[h - 1]))
                gradient[h - 1] = -0.5 * value
            yield ("sd" if absolute else "ratio"), label, value, gradient


@dataclass(frozen=True, eq=False)
class ByCovariate:
    """power(x) s = |x|^delta, exponential(x) s = exp(delta x), about a centre of log |x| or x."""

    text: str
    kind: str
    center: float

    n_params = 1

    def start(self):
        return np.zeros(1)

    def measure(self, x):
        """What delta multiplies in log s."""
        return (np.log(np.abs(x)) if self.kind == "power" else x) - self.center

    def log_sd(self, rho, values):
        return rho[0] * values, values[None]

    def named(self, rho, absolute):
        yield "number", self.kind, float(rho[0]), np.ones(1)


# Correlation of the rows of a group


@dataclass(frozen=True, eq=False)
class Markov:
    """ar1(t | g), car1(t | g): correlation phi of neighbours, by the gap between their times."""

    text: str
    kind: str
    unit: float

    n_params = 1
    has_sd = False

    def start(self):
        if self.kind == "ar1":
            return np.arctanh([_START ** (1.0 / self.unit)])
        return np.log([self.unit])

    def phi(self, rho, gaps):
        """(phi, dphi / drho) at gaps (m,)."""
        if self.kind == "ar1":
            r = np.tanh(rho[0])
            return r**gaps, gaps * r ** (gaps - 1) * (1.0 - r * r)
        x = gaps * np.exp(-rho[0])
        return np.exp(-x), x * np.exp(-x)

    def correlation(self, rho, places):
        """C (m, m) at places (m,)."""
        return self.phi(rho, np.abs(np.subtract.outer(places, places)))[0]

    def named(self, rho):
        if self.kind == "ar1":
            r = float(np.tanh(rho[0]))
            yield "cor", "rho", r, np.array([1.0 - r * r])
        else:
            reach = float(np.exp(rho[0]))
            yield "range", "range", reach, np.array([reach])

    def at_bound(self, rho):
        """What to say of a correlation that is as good as 1 or 0 at the usual gap, or None."""
        phi = float(self.phi(rho, np.array([self.unit]))[0][0])
        group = self.text.partition("|")[2].strip(" )")
        if phi > _NEARLY_ONE:
            return (
                f"the residual correlation of {self.text} has run to {phi:.6g}, with a residual "
                "variance that grows without limit: rows of one group differ by a constant and "
                f"a random walk. Write a random intercept (1 | {group}) instead, or leave that of "
                f"{group} out beside it"
            )
        if self.kind == "car1" and phi < _NEARLY_NONE:
            return (
                f"the range of {self.text} has run to zero: residuals are independent. Leave the "
                "structure out, or use ar1, whose correlation may be negative"
            )
        return None


@dataclass(frozen=True, eq=False)
class OverVisits:
    """us(v | g), cs, homcs, toep, hetar1: S S' over visits, 1 at the first one.

    ``labels`` (V,) name the visits, ``times`` (V,) count them.
    """

    text: str
    kind: str
    labels: tuple[str, ...]
    times: np.ndarray

    has_sd = True

    @cached_property
    def _inner(self):
        size = len(self.labels)
        return (
            Unstructured((size,))
            if self.kind == "us"
            else make_structure(self.kind, size, self.times)
        )

    @cached_property
    def _is_homogeneous(self):
        return self.kind == "homcs"

    @property
    def n_params(self):
        return 1 if self._is_homogeneous else self._inner.n_params - 1

    def start(self):
        if self._is_homogeneous:
            return np.array([_exchangeable(len(self.labels)).start()[0]])
        return self.from_covariance(None)

    def from_covariance(self, S):
        """rho of, or near, a covariance (V, V); of the start for None."""
        V = len(self.labels)
        S = np.where(np.eye(V, dtype=bool), 1.0, _START) if S is None else S
        T = np.linalg.cholesky(S)
        if self.kind == "us":
            return self._inner.from_factor(T / T[0, 0])[1:]
        if self._is_homogeneous:
            return self.start()
        sd = np.sqrt(S.diagonal())
        phi = self._inner.from_factor(np.diag(sd / sd[0]))[1:]
        phi[: V - 1] = np.log(phi[: V - 1])
        return phi

    def from_moments(self, S):
        """rho near mean products S (V, V) of residuals, NaN where no group has both visits."""
        sd = np.sqrt(S.diagonal())
        if not (np.isfinite(sd).all() and (sd > 0).all()):
            return self.start()
        R = np.nan_to_num(S / np.outer(sd, sd))
        values, vectors = np.linalg.eigh(R)
        R = (vectors * np.maximum(values, _LEAST)) @ vectors.T
        size = np.sqrt(R.diagonal())
        return self.from_covariance(R * np.outer(sd / size, sd / size))

    def covariance(self, rho):
        """(S (V, V), its derivatives (p, V, V))."""
        if self._is_homogeneous:
            S, slopes, _ = _exchangeable(len(self.labels)).at(rho)
            return S, slopes
        phi = np.append(1.0, rho)
        if self.kind != "us":  # logarithms of standard deviations, whose signs would matter
            n = len(self.labels)
            phi[1:n] = np.exp(phi[1:n])
        T = self._inner.factor(phi)
        slopes = self._inner.tangents(phi)[1:]
        if self.kind != "us":
            slopes[: n - 1] *= phi[1:n, None, None]
        return T @ T.T, slopes

    def at_bound(self, rho):
        """What to say of a covariance that is as good as singular, or None."""
        S = self.covariance(rho)[0]
        sd = np.sqrt(S.diagonal())
        least = int(np.argmin(sd))
        if sd[least] < _NO_VARIANCE * np.median(np.delete(sd, least)):
            return (
                f"the residual variance at {self.labels[least]!r} in {self.text} has run to zero: "
                "the effects fit its rows exactly. Take a structure with one variance, or fewer "
                "random effects"
            )
        if np.linalg.eigvalsh(S / np.outer(sd, sd))[0] > 1.0 - _NEARLY_ONE:
            return None
        way_out = "Take a structure with fewer parameters, such as ar1 or homcs"
        if self._is_homogeneous:
            way_out = f"Write a random intercept (1 | {self.text.partition('| ')[2]} instead"
        return (
            f"the residual covariance of {self.text} is as good as singular: some combination of "
            f"visits has no residual variance. {way_out}"
        )

    def named(self, rho):
        S, slopes = self.covariance(rho)
        sd = np.sqrt(S.diagonal())
        dsd = np.einsum("pvv->pv", slopes) / (2.0 * sd)
        if not self._is_homogeneous:
            for v, label in enumerate(self.labels):
                yield "sd", label, float(sd[v]), dsd[:, v]
        if self.kind == "us":
            for b in range(len(sd)):
                for a in range(b + 1, len(sd)):
                    r = S[a, b] / (sd[a] * sd[b])
                    slope = slopes[:, a, b] / (sd[a] * sd[b]) - r * (
                        dsd[:, a] / sd[a] + dsd[:, b] / sd[b]
                    )
                    yield "cor", f"{self.labels[a]}.{self.labels[b]}", float(r), slope
            return
        R = _exchangeable(len(sd)) if self._is_homogeneous else self._inner.R
        own = rho if self._is_homogeneous else rho[len(sd) - 1 :]
        values, gradients, _ = R.natural(own)
        for k, name in enumerate(R.names):
            gradient = np.zeros(self.n_params)
            gradient[self.n_params - len(own) :] = gradients[k]
            yield "cor", name, float(values[k]), gradient


def _exchangeable(size):
    return make_structure("cs", size).R
