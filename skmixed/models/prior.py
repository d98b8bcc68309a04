"""Priors of the fixed effects of generalised models: what they add to the deviance.

A prior has one density p for each of several functions of the coefficients,

    z_j = (k_j'beta - m_j) / s_j,    penalty = -2 sum_j log p(z_j) / p(0),

z_j'z_j for normal densities and (df + 1) log(1 + z_j^2 / df) for Student's t. The estimates
maximise likelihood times prior. The functions are the slopes, and in the place of the intercept
the linear predictor at the means of the columns, so that neither units nor origins of covariates
matter (Gelman, Jakulin, Pittau and Su 2008, Annals of Applied Statistics 2, 1360-1383).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real

import numpy as np

KINDS = ("normal", "t")
_DEFAULTS = {
    "kind": "normal",
    "scale": 2.5,
    "intercept_scale": 10.0,
    "df": 7.0,
    "scaled": True,
    "coefficients": {},
}
# Links whose linear predictor has the units of the response, or a power of these.
_WITH_UNITS = ("identity", "sqrt", "inverse", "inverse_squared")


@dataclass(frozen=True)
class Penalty:
    """The penalty as a function of gamma, the fixed effects on the orthonormal basis.

    Attributes
    ----------
    rows (d, r), origin (d,) : z = rows gamma - origin
    df : float
        inf for normal densities.
    location, scale (r,)
        Of the coefficients of the columns that were kept; scale inf where there is no prior.
    text : str
        The prior in words.
    """

    rows: np.ndarray
    origin: np.ndarray
    df: float
    location: np.ndarray
    scale: np.ndarray
    text: str

    def _z(self, gamma):
        return self.rows @ gamma - self.origin

    def value(self, gamma):
        """The penalty, 0 at the centre of the prior."""
        z2 = self._z(gamma) ** 2
        if np.isinf(self.df):
            return float(z2.sum())
        return float((self.df + 1) * np.log1p(z2 / self.df).sum())

    def gradient(self, gamma):
        """Its derivative (r,)."""
        z = self._z(gamma)
        return 2.0 * self.rows.T @ (self._weights(z) * z)

    def information(self, gamma, *, definite=False):
        """Half of its second derivative (r, r); of a quadratic bound of it, if ``definite``.

        The logarithm of Student's t is not concave: the bound touches the penalty at gamma.
        """
        z = self._z(gamma)
        w = self._weights(z)
        if not definite and np.isfinite(self.df):
            w = w * (self.df - z**2) / (self.df + z**2)
        return (self.rows.T * w) @ self.rows

    def _weights(self, z):
        """Half of the penalty's slope by z, over z."""
        if np.isinf(self.df):
            return np.ones_like(z)
        return (self.df + 1) / (self.df + z**2)

    @property
    def flat(self):
        """Orthonormal directions (r, k) of gamma that the prior says nothing of."""
        r = self.rows.shape[1]
        if len(self.rows) == r:
            return np.zeros((r, 0))
        return np.linalg.svd(self.rows, full_matrices=True)[2][len(self.rows) :].T


@dataclass(frozen=True)
class FixedPrior:
    """A prior as the user writes it, before there are data.

    Attributes are the keys of the dict that the user may give, see :meth:`of`.
    """

    kind: str
    scale: float
    intercept_scale: float
    df: float
    scaled: bool
    coefficients: dict = field(default_factory=dict)

    @classmethod
    def of(cls, prior, who):
        """From None, "normal", "t", or a dict with some of the attributes; None is None.

        Raises
        ------
        ValueError
            For an unknown kind or key, and for scales and df that are not positive.
        """
        if prior is None:
            return None
        given = {"kind": prior} if isinstance(prior, str) else dict(prior)
        unknown = [key for key in given if key not in _DEFAULTS]
        if unknown:
            raise ValueError(
                f"{who}: prior has the keys {', '.join(map(repr, _DEFAULTS))}, got {unknown[0]!r}"
            )
        found = {**_DEFAULTS, **given}
        if found["kind"] not in KINDS:
            raise ValueError(
                f"{who}: prior must be None, 'normal', 't' or a dict whose 'kind' is one of these, "
                f"got {found['kind']!r}"
            )
        for key in ("scale", "intercept_scale", "df"):
            if not _is_positive(found[key]):
                raise ValueError(
                    f"{who}: {key!r} of prior must be a positive number, got {found[key]!r}"
                )
        if "df" in given and found["kind"] == "normal":
            raise ValueError(f"{who}: 'df' belongs to a prior of the kind 't', not to 'normal'")
        if not isinstance(found["scaled"], bool | np.bool_):
            raise ValueError(
                f"{who}: 'scaled' of prior must be True or False, got {found['scaled']!r}"
            )
        found["coefficients"] = _own_scales(found["coefficients"], who)
        return cls(**found)

    def penalty(self, design, basis, Q, family, y, w):
        """The Penalty for the kept columns of a design.

        Raises
        ------
        ValueError
            If a coefficient with a scale of its own is no column of X.
        """
        names = [design.names[j] for j in basis.kept]
        self._check_names(list(design.names))
        counts = np.ones(len(y)) if design.frequencies is None else design.frequencies
        at = None if basis.intercept is None else int(np.searchsorted(basis.kept, basis.intercept))
        K, location = np.array(basis.to_coef), np.zeros(len(names))
        scale = np.full(len(names), float(self.scale))
        if at is not None:
            scale[at] = self.intercept_scale
        if self.scaled:
            unit = _predictor_unit(family, y, w, counts)
            scale = scale * unit / _column_units(design.X[:, basis.kept], counts, at)
            if at is not None:
                K[at] = counts @ Q / counts.sum()
                location[at] = _typical_predictor(family, y, w, counts, design.offset)
        for j, name in enumerate(names):
            if name in self.coefficients:
                location[j], scale[j] = self.coefficients[name]
                K[j] = basis.to_coef[j]
        used = np.isfinite(scale)
        rows = K[used] / scale[used, None]
        df = float(self.df) if self.kind == "t" else np.inf
        return Penalty(rows, (location / scale)[used], df, location, scale, self.text)

    def _check_names(self, names):
        unknown = [name for name in self.coefficients if name not in names]
        if unknown:
            shown = ", ".join(map(repr, names[:20])) + ", ..." * (len(names) > 20)
            raise ValueError(
                f"prior has a scale for the coefficient {unknown[0]!r}, which the model does not "
                f"have. Its columns are {shown}"
            )

    @property
    def text(self):
        """The prior in words."""
        what = "normal" if self.kind == "normal" else f"t with {self.df:g} degrees of freedom"
        if self.scaled:
            how = (
                f"{what}, of scale {self.scale:g} for a step of two standard deviations of a "
                "covariate (or from one to the other of two values), "
                f"{self.intercept_scale:g} for the linear predictor at the means"
            )
        else:
            how = f"{what}, of scale {self.scale:g}, {self.intercept_scale:g} for the intercept"
        own = ", ".join(self.coefficients)
        return how + f"; another one for {own}" * bool(own)


def _is_positive(value):
    return isinstance(value, Real) and not isinstance(value, bool) and value > 0


def _own_scales(coefficients, who):
    """{name: (location, scale)} from numbers (scales) and pairs."""
    if not isinstance(coefficients, dict):
        raise ValueError(
            f"{who}: 'coefficients' of prior is a dict from columns of X to scales, got "
            f"{coefficients!r}"
        )
    found = {}
    for name, value in coefficients.items():
        pair = (0.0, value) if isinstance(value, Real) else value
        if not (
            isinstance(pair, tuple | list)
            and len(pair) == 2
            and isinstance(pair[0], Real)
            and np.isfinite(pair[0])
            and _is_positive(pair[1])
        ):
            raise ValueError(
                f"{who}: the prior of {name!r} is a scale (a positive number, inf for none) or a "
                f"pair (location, scale), got {value!r}"
            )
        found[name] = float(pair[0]), float(pair[1])
    return found


# What makes a prior the same in all units


def _column_units(X, counts, intercept):
    """Steps (r,) of the columns: the range of two values, else two standard deviations."""
    known = X[counts > 0]
    low, high = known.min(axis=0, initial=np.inf), known.max(axis=0, initial=-np.inf)
    mean = counts @ X / counts.sum()
    units = 2.0 * np.sqrt(counts @ (X - mean) ** 2 / counts.sum())
    two = ((known == low) | (known == high)).all(axis=0)
    units = np.where(two, high - low, units)
    units = np.where(low == high, np.abs(high), units)
    if intercept is not None:
        units[intercept] = 1.0
    return units


def _predictor_unit(family, y, w, counts):
    """Two standard deviations of the response on the scale of the link, 1 where it has no units."""
    if family.link.name not in _WITH_UNITS:
        return 1.0
    mean, weight = _mean_response(family, y, w, counts)
    spread = 2.0 * np.sqrt(weight @ (y - mean) ** 2 / weight.sum())
    eta = family.link.link(mean)
    unit = float(spread / np.abs(family.link.slope(eta)))
    return unit if unit > 0 else float(max(abs(eta), 1.0))


def _typical_predictor(family, y, w, counts, offset):
    """The linear predictor of an even chance, or of the mean response."""
    if family.name == "binomial":
        return float(family.link.link(0.5))
    mean, weight = _mean_response(family, y, w, counts)
    shift = 0.0 if offset is None else float(weight @ offset / weight.sum())
    return float(family.link.link(mean)) - shift


def _mean_response(family, y, w, counts):
    """A mean inside of the family's range, and the weights of the rows."""
    weight = w * counts
    return float(np.average(family.initial_mean(y, w), weights=weight)), weight
