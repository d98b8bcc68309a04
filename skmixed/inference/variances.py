"""Standard errors of variance parameters, and shares of variance: R2 and intraclass correlation.

References
----------
Nakagawa, Johnson and Schielzeth (2017), The coefficient of determination R2 and intra-class
correlation coefficient from generalized linear mixed-effects models revisited and expanded,
Journal of the Royal Society Interface 14, 20170213.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from skmixed.models.components import Component, variance_parameters
from skmixed.models.linear_parameters import linear_parameters
from skmixed.models.structures import triangle

INFORMATION = ("observed", "expected")
# A standard deviation below this share of sigma, or a correlation this near to 1, is at its bound.
_AT_BOUND = 1e-8


@dataclass(frozen=True)
class ComponentEstimate:
    """One variance parameter with its standard error and Wald limits.

    A parameter at its bound (a variance of zero, a correlation of 1 or -1) has none: NaN.
    """

    component: Component
    estimate: float
    std_error: float
    lower: float
    upper: float

    def times(self, scale):
        """The same in other units."""
        own = (self.estimate, self.std_error, self.lower, self.upper)
        return ComponentEstimate(self.component, *(value * scale for value in own))


def component_estimates(record, layout, components=None, *, level=0.95, information="observed"):
    """Standard deviations, correlations and sigma with standard errors, in their own units.

    Parameters
    ----------
    record : SecondOrder
    layout : CovarianceLayout
    components : sequence of Component, optional
        By default those of :func:`skmixed.models.components.variance_parameters`.
    level : float
        Of the limits, on the logarithm of standard deviations and Fisher's z of correlations.
    information : {"observed", "expected"}
        Second derivatives of the criterion, or their expectation.

    Returns
    -------
    list of ComponentEstimate
        In the order of the components.

    Raises
    ------
    ValueError
        For other kinds of information.
    """
    check_information(information)
    components = variance_parameters(layout) if components is None else components
    if information == "expected" and not all(_is_linear(c) for c in components):
        raise ValueError(
            "the expected information is told for unstructured terms alone: use "
            "information='observed'"
        )
    found = []
    for component in components:
        if information == "observed":
            own = delta_estimate(component, record.point, record.covariance, level)
        else:
            slope = _slope_by_gamma(component, component.layout, record.gamma)
            error = np.sqrt(slope @ record.expected_covariance @ slope)
            value = component.function(record.point)[0]
            own = _estimate(component, value, error, level)
        found.append(own.times(record.sigma if component.kind in ("sd", "sigma") else 1.0))
    return found


def _is_linear(component):
    """Whether a component is a function of the linear parameters gamma."""
    if component.term is None:
        return not component.name
    return component.layout.terms[component.term].kind == "us"


def check_information(information):
    """Raise ValueError for a kind of information that is none."""
    if information not in INFORMATION:
        raise ValueError(f"information must be 'observed' or 'expected', got {information!r}")


def delta_estimate(component, x, covariance, level) -> ComponentEstimate:
    """The estimate at x where the covariance of x is known."""
    value, gradient, _ = component.function(x)
    return _estimate(component, value, np.sqrt(gradient @ covariance @ gradient), level)


def _estimate(component, value, error, level):
    if component.kind == "sd":  # a term with one effect carries the sign of theta
        value = abs(value)
    error = np.nan if _is_at_bound(component, value) else float(error)
    reach = stats.norm.isf((1.0 - level) / 2.0) * error
    return ComponentEstimate(component, value, error, *_wald(component.kind, value, reach))


def _is_at_bound(component, value):
    if component.kind == "cor":
        return not abs(value) < 1.0 - _AT_BOUND
    if component.term is None or component.kind == "range":
        return False
    # in units of the effect's own covariate, which its row of M carries
    M = component.layout.terms[component.term].M
    return value <= _AT_BOUND * np.linalg.norm(M[component.effects[0]])


def _wald(kind, value, reach):
    """Limits value exp(+- reach / value), or tanh(atanh(value) +- reach / (1 - value^2))."""
    if np.isnan(reach):
        return np.nan, np.nan
    if kind == "number":
        return value - reach, value + reach
    if kind == "cor":
        middle, reach = np.arctanh(value), reach / (1.0 - value**2)
        return np.tanh(middle - reach), np.tanh(middle + reach)
    return value * np.exp(-reach / value), value * np.exp(reach / value)


def _slope_by_gamma(component, layout, gamma):
    """Gradient (K + 1,) by the linear parameters, in units of sigma."""
    slope = np.zeros(len(gamma))
    if component.kind == "sigma":
        slope[-1] = 0.5
        return slope
    weights = {
        pair: _entry_weights(layout, component.term, *pair)
        for pair in {(a, b) for a in component.effects for b in component.effects}
    }
    V = {pair: float(w @ gamma[:-1]) for pair, w in weights.items()}
    if component.kind == "sd":
        own = component.effects[0], component.effects[0]
        slope[:-1] = weights[own] / (2.0 * np.sqrt(V[own]))
        return slope
    i, j = component.effects
    size = np.sqrt(V[i, i] * V[j, j])
    slope[:-1] = weights[i, j] / size
    for k in (i, j):
        slope[:-1] -= V[i, j] / size / 2.0 * weights[k, k] / V[k, k]
    return slope


def _entry_weights(layout, term, a, b):
    """w (K,) with entry (a, b) of the user's covariance of a term = w @ gamma."""
    at = layout.terms[term]
    own = {(at.columns.start + i, at.columns.start + j): at.M[a, i] * at.M[b, j] +
           (at.M[a, j] * at.M[b, i] if i != j else 0.0)
           for i, j in zip(*triangle(at.size), strict=True)}  # fmt: skip
    return np.array(
        [
            own.get((d.i, d.j), 0.0) if d.group == at.group else 0.0
            for d in linear_parameters(layout)
        ]
    )


@dataclass(frozen=True)
class VarianceShares:
    """Variances of the fixed part, of the random part and of the residual, on one scale."""

    fixed: float
    random: float
    residual: float

    @property
    def total(self):
        return self.fixed + self.random + self.residual

    @property
    def marginal(self):
        """R2 of the fixed part."""
        return self.fixed / self.total

    @property
    def conditional(self):
        """R2 of fixed and random parts."""
        return (self.fixed + self.random) / self.total

    @property
    def icc_adjusted(self):
        """Share of the random part in what the fixed part leaves."""
        return self.random / (self.random + self.residual)

    @property
    def icc_unadjusted(self):
        """Share of the random part in everything."""
        return self.random / self.total


def variance_shares(beta, row_covariance, covariances, mean_products, residual) -> VarianceShares:
    """Shares of variance over the rows of the fit.

    Parameters
    ----------
    beta : (p,)
    row_covariance : (p, p)
        Sample covariance of the rows of X, prior weights apart.
    covariances : sequence of (s, s)
        Of every term's effects.
    mean_products : sequence of (s, s)
        Mean over rows of z z', z the covariates of the term, prior weights apart.
    residual : float
        sigma^2, or :func:`link_variance` of a generalised model.
    """
    random = sum(float(np.sum(V * Z)) for V, Z in zip(covariances, mean_products, strict=True))
    return VarianceShares(float(beta @ row_covariance @ beta), random, float(residual))


def link_variance(family, link, mean=None) -> float:
    """Residual variance of a generalised model on the scale of its link.

    Parameters
    ----------
    family, link : str
    mean : float, optional
        For Poisson with a log link: the inverse link of the intercept of the model that has the
        same random effects and offset and no other fixed effect.

    Raises
    ------
    ValueError
        For families and links that have no such variance here.
    """
    latent = {"logit": np.pi**2 / 3.0, "probit": 1.0, "cloglog": np.pi**2 / 6.0}
    if family in ("binomial", "bernoulli") and link in latent:
        return latent[link]
    if family == "poisson" and link == "log":
        if mean is None or not mean > 0:
            raise ValueError(
                "the variance of a Poisson model on the log scale depends on its mean: give that "
                f"of the model without fixed effects but the intercept, got {mean!r}"
            )
        return float(np.log1p(1.0 / mean))
    raise ValueError(
        "shares of variance are known for binomial models with logit, probit or cloglog link and "
        f"for Poisson models with log link, got {family} with {link}"
    )
