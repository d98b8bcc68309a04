"""The marginal model beside a mixed one: generalised estimating equations, and attenuation.

Coefficients of a generalised mixed model are conditional: what happens at a given random effect.
Averaged over the random effects a curved mean is flatter, and so are its coefficients, which is
what generalised estimating equations estimate.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from statsmodels.genmod import families
from statsmodels.genmod.cov_struct import Exchangeable
from statsmodels.genmod.generalized_estimating_equations import GEE

# Outcomes and clusters that are taken; of more, the clusters are a random sample.
MAX_OUTCOMES, MAX_CLUSTERS = 200_000, 2_000
# Of the logistic distribution by a normal one: (16 sqrt(3) / (15 pi))^2.
LOGISTIC = (16 * np.sqrt(3) / (15 * np.pi)) ** 2
_LINKS = {
    "logit": "Logit",
    "probit": "Probit",
    "cloglog": "CLogLog",
    "cauchit": "Cauchy",
    "log": "Log",
    "identity": "Identity",
    "sqrt": "Sqrt",
    "inverse": "InversePower",
    "inverse_squared": "InverseSquared",
}
_FAMILIES = {
    "binomial": "Binomial",
    "poisson": "Poisson",
    "negative_binomial": "NegativeBinomial",
    "gamma": "Gamma",
    "inverse_gaussian": "InverseGaussian",
    "gaussian": "Gaussian",
}


@dataclass(frozen=True)
class MarginalFit:
    """Coefficients of the marginal model.

    Attributes
    ----------
    coef : (r,)
    vcov : (r, r)
        Their robust covariance.
    correlation : float
        Of two outcomes of one cluster, the exchangeable working correlation.
    n_clusters, n_sampled : int
        Clusters of the data, and those used.
    """

    coef: np.ndarray
    vcov: np.ndarray
    correlation: float
    n_clusters: int
    n_sampled: int

    @property
    def std_error(self):
        """Robust standard errors (r,) of the coefficients."""
        return np.sqrt(np.diag(self.vcov))

    def times(self, K):
        """The same for coefficients K coef."""
        return replace(self, coef=K @ self.coef, vcov=K @ self.vcov @ K.T)


def marginal_fit(X, y, trials, counts, offset, codes, family, dispersion, rng) -> MarginalFit:
    """Generalised estimating equations with exchangeable correlation, by statsmodels.

    Rows that count more than once, and binomial rows of several trials, are that many outcomes.

    Parameters
    ----------
    X : (n, r)
        Independent columns of about one size.
    y, trials, counts : (n,)
        The response (numbers of successes), numbers of trials, and how often rows count.
    offset : (n,) or None
    codes : (n,)
        The cluster of every row.
    family : Family
    dispersion : float
        Theta of the negative binomial.
    rng : Generator

    Raises
    ------
    ValueError
        For weights that are not whole numbers, and equations without a solution.
    """
    clusters = np.unique(codes)
    rows, response = _outcomes(y, trials, counts, family, codes, _sample(clusters, rng))
    used = len(np.unique(codes[rows]))
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        model = GEE(
            response,
            X[rows],
            groups=codes[rows],
            family=_statsmodels_family(family, dispersion),
            cov_struct=Exchangeable(),
            offset=None if offset is None else offset[rows],
        )
        found = model.fit()
    coef, vcov = np.asarray(found.params), np.asarray(found.cov_params())
    if not (np.isfinite(coef).all() and np.isfinite(vcov).all()) or not found.converged:
        told = "; ".join(dict.fromkeys(str(w.message).split("\n")[0] for w in caught))
        raise ValueError(f"the estimating equations were not solved ({told or 'no convergence'})")
    return MarginalFit(coef, vcov, float(model.cov_struct.dep_params), len(clusters), used)


def _statsmodels_family(family, dispersion):
    link = getattr(families.links, _LINKS[family.link.name])()
    if family.name == "negative_binomial":
        return families.NegativeBinomial(link, alpha=1.0 / dispersion)
    return getattr(families, _FAMILIES[family.name])(link)


def _sample(clusters, rng):
    if len(clusters) <= MAX_CLUSTERS:
        return clusters
    return rng.choice(clusters, MAX_CLUSTERS, replace=False)


def _outcomes(y, trials, counts, family, codes, clusters):
    """Row and value of every single outcome in these clusters."""
    binomial = family.name == "binomial"
    if not binomial and not (trials == 1).all():
        raise ValueError("the marginal model takes no prior weights")
    if not (counts == np.round(counts)).all():
        raise ValueError("sample weights that are not whole numbers of rows cannot be repeated")
    at = np.flatnonzero(np.isin(codes, clusters) & (counts * trials > 0))
    n_each = counts * trials if binomial else counts
    n_outcomes = n_each[at].sum()
    if n_outcomes > MAX_OUTCOMES:
        raise ValueError(f"{n_outcomes:,.0f} single outcomes are too many to be listed")
    if not binomial:
        rows = np.repeat(at, counts[at].astype(int))
        return rows, y[rows]
    ones, all_ = (counts * y)[at].astype(int), (counts * trials)[at].astype(int)
    rows = np.concatenate([np.repeat(at, ones), np.repeat(at, all_ - ones)])
    return rows, np.repeat([1.0, 0.0], [ones.sum(), (all_ - ones).sum()])


def attenuation(link, variance):
    """(factor, shift of the intercept) from conditional to marginal coefficients, or None.

    A random intercept of this variance, averaged over, leaves probit slopes divided by
    sqrt(1 + variance), and nearly so with a logit link, where variance is multiplied by
    (16 sqrt(3) / (15 pi))^2; slopes of log and identity links stay, the former's intercept moves
    by half the variance.

    References
    ----------
    Zeger, Liang and Albert (1988), Biometrics 44, 1049-1060, section 3.
    """
    if link == "logit":
        return 1.0 / np.sqrt(1.0 + LOGISTIC * variance), 0.0
    if link == "probit":
        return 1.0 / np.sqrt(1.0 + variance), 0.0
    if link in ("log", "identity"):
        return 1.0, variance / 2 if link == "log" else 0.0
    return None


def attenuated(coef: pd.Series, link, variance, intercept) -> pd.Series | None:
    """Coefficients as they should be in a marginal model, None for links without a formula."""
    found = attenuation(link, variance)
    if found is None:
        return None
    coef = coef * found[0]
    if intercept is not None:
        coef.iloc[intercept] += found[1]
    return coef
