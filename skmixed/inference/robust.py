"""Cluster-robust covariances: valid where the model's own is not, from independent clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from skmixed.exceptions import NotEstimableError
from skmixed.inference.clusters import ClusterSums
from skmixed.inference.hypotheses import Hypothesis, _orthonormal_rows, why_not_estimable
from skmixed.inference.observed import (
    check_independent,
    level_codes,
    observed_rows,
    outermost,
)
from skmixed.models.questions import Questions

KINDS = ("CR0", "CR1", "CR1S", "CR2")
_WHO = "cluster_robust"


@dataclass(frozen=True)
class ClusterRobust:
    """A cluster-robust covariance of the fixed effects, with tests that know its uncertainty.

    Attributes
    ----------
    kind : str
    fit : LMMFit
    n_clusters : int
    factor : float
        f of ``vcov``.
    sums : ClusterSums
    """

    kind: str
    fit: Questions
    n_clusters: int
    factor: float
    sums: ClusterSums

    @property
    def vcov(self) -> pd.DataFrame:
        """Covariance (p, p) of the fixed effects; NaN where a column was left out."""
        names = list(self.fit.names)
        half = self._coefficient_rows()
        return pd.DataFrame(half @ self._white @ half.T, index=names, columns=names)

    def coefficients(self, level=0.95) -> pd.DataFrame:
        """Fixed effects with t tests and intervals.

        The degrees of freedom are Satterthwaite's for the robust variance of each coefficient,
        under the covariance of the model.

        Parameters
        ----------
        level : float
            Confidence level of the intervals, between 0 and 1.

        Returns
        -------
        DataFrame
            estimate, std_error, df, t, p_value, lower, upper by parameter; NaN where a column was
            left out.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        half = self._coefficient_rows()
        estimate = half @ self.fit.whitened
        error = np.sqrt(np.einsum("pi,ij,pj->p", half, self._white, half))
        df = np.full(len(half), np.nan)
        known = ~self.fit.basis.aliased
        df[known] = self.df(half[known])
        with np.errstate(divide="ignore", invalid="ignore"):
            t = estimate / error
        width = stats.t.ppf(0.5 + level / 2, df) * error
        return pd.DataFrame(
            {
                "estimate": estimate,
                "std_error": error,
                "df": df,
                "t": t,
                "p_value": 2 * stats.t.sf(np.abs(t), df),
                "lower": estimate - width,
                "upper": estimate + width,
            },
            index=pd.Index(self.fit.names, name="parameter"),
        )

    def contrast(self, K, *, name="") -> Hypothesis:
        """Estimate and test of K beta = 0.

        One row is tested by t with Satterthwaite's degrees of freedom, several by Hotelling's
        T-squared with the approximate degrees of freedom of Tipton and Pustejovsky (HTZ): with
        Q the Wald statistic of q rows and eta the degrees of freedom of the Wishart distribution
        that the robust covariance is nearest to, F = (eta - q + 1) / (eta q) Q on q and
        eta - q + 1 degrees of freedom.

        Parameters
        ----------
        K : (p,) or (d, p) array, dict of coefficients by parameter name, or a list of dicts
            The intercept first, columns that were left out included.
        name : str
            For messages.

        Returns
        -------
        Hypothesis
            Rows that depend on others count once.

        Raises
        ------
        NotEstimableError
            K beta depends on which columns were left out; the message names the dependency.
        ValueError
            For K of another width or with unknown names, and for more rows than the clusters can
            test together.
        """
        rows, single = contrast_rows(self.fit.names, K)
        bad = np.flatnonzero(~self.fit.is_estimable(rows))
        if len(bad):
            raise NotEstimableError(why_not_estimable(self.fit, rows, bad[0], name))
        half = self.fit.unscaled(rows)
        estimate = half @ self.fit.whitened
        error = np.sqrt(np.einsum("di,ij,dj->d", half, self._white, half))
        if len(rows) > 1:
            F, q, df = self._hotelling(_orthonormal_rows(half))
            p = float(stats.f.sf(F, q, df)) if q else np.nan
            return Hypothesis(rows, name, True, estimate, error, F, q, df, p)
        with np.errstate(divide="ignore", invalid="ignore"):
            t, df = float(estimate[0] / error[0]), float(self.df(half)[0])
        p = float(2 * stats.t.sf(abs(t), df))
        test = Hypothesis(rows, name, True, estimate, error, t, 1, df, p)
        return test.scalar() if single else test

    def df(self, half) -> np.ndarray:
        """Satterthwaite's degrees of freedom (d,) of the robust variances of rows (d, r)."""
        variance, u, v, m = self._under_the_model(half)
        v, m = np.einsum("jdd->jd", v), np.einsum("jdd->jd", m)
        total = np.einsum("dd->d", variance)
        U = np.einsum("jdi,jdk->dik", u, u)
        spread = (v**2).sum(axis=0) - 2 * (v * m).sum(axis=0) + np.einsum("dik,dik->d", U, U)
        with np.errstate(divide="ignore", invalid="ignore"):
            return total**2 / spread

    def _hotelling(self, half):
        """(F, df_num, df_den) for independent rows (q, r)."""
        q = len(half)
        if not q:
            return np.nan, 0, np.nan
        values, vectors = np.linalg.eigh(self._under_the_model(half)[0])
        half = (vectors / np.sqrt(values)).T @ half
        _, u, v, m = self._under_the_model(half)
        U = np.einsum("jsa,jtb->stab", u, u)
        vd, md = np.einsum("jss->js", v), np.einsum("jss->js", m)
        cross = vd.T @ md
        spread = (vd.T @ vd - cross - cross.T).sum() + np.einsum("stab,stab->", U, U)
        spread += (v**2).sum() - 2 * (v * m).sum() + np.einsum("stab,stba->", U, U)
        eta = q * (q + 1) / float(spread)
        df = eta - q + 1
        if df <= 0 or q >= self.n_clusters:
            raise ValueError(
                f"{_WHO}: {self.n_clusters} clusters cannot test {q} rows of K together: "
                f"the test would have {df:.3g} degrees of freedom. Test fewer rows at a time"
            )
        estimate = half @ self.fit.whitened
        Q = float(estimate @ np.linalg.solve(half @ self._white @ half.T, estimate))
        return df / (eta * q) * Q, q, df

    def _under_the_model(self, half):
        """Covariance (d, d) that the model expects of rows (d, r), and its parts by cluster.

        With T_si the part of row s that cluster i adds, Cov(T_si, T_tj) is v_i^st - m_i^st for
        i = j and -u_si'u_tj else, m_i^st = u_si'u_ti.
        """
        u = np.einsum("jab,db->jda", self.sums.sums, half)
        v = np.einsum("da,jab,eb->jde", half, self.sums.spread, half, optimize=True)
        m = np.einsum("jda,jea->jde", u, u)
        return (v - m).sum(axis=0), u, v, m

    @property
    def _white(self):
        """The covariance (r, r) in coordinates in which the model's own is sigma^2 I."""
        return self.factor * (self.sums.scores.T @ self.sums.scores)

    def _coefficient_rows(self):
        """Rows (p, r) of the coefficients in these coordinates, NaN where left out."""
        basis = self.fit.basis
        half = np.full((basis.aliased.size, basis.rank), np.nan)
        half[basis.kept] = self.fit.unscaled_on_basis(basis.to_coef)
        return half


def cluster_robust(
    model, X, y=None, cluster=None, kind="CR2", *, groups=None, sample_weight=None
) -> ClusterRobust:
    """Covariance of the fixed effects that needs independent clusters, not a right model.

    .. math:: V = f \\Phi \\Big[\\sum_i X_i'\\Omega_i^{-1} A_i e_i e_i' A_i \\Omega_i^{-1} X_i\\Big]
        \\Phi, \\quad \\Phi = (X'\\Omega^{-1}X)^{-1}

    with e the residuals y - X beta and Omega the covariance of the model. CR0 is the plain sum
    (A = I, f = 1), CR1 and CR1S have f = J / (J - 1) and J (n - 1) / ((J - 1) (n - p)) for J
    clusters, n rows and p coefficients; in CR2 A makes the covariance unbiased where the model is
    right. With few clusters take CR2, with its degrees of freedom.

    Parameters
    ----------
    model : MixedLinearRegressor
        Fitted, with random effects or without.
    X : DataFrame or array of n rows
        The rows of the fit, in any order.
    y : (n,), optional
        The response; two-sided formulas find it in X.
    cluster : str or (n,) array, optional
        A grouping factor of the model, a column of X, or the cluster of every row. By default the
        outermost grouping factor.
    kind : {"CR0", "CR1", "CR1S", "CR2"}
    groups : (n,), optional
        Levels of ``groups``, for a model fitted with them.
    sample_weight : (n,), optional
        That of the fit: a row that counts twice is two rows of its cluster.

    Returns
    -------
    ClusterRobust
        With ``vcov``, ``coefficients()`` and ``contrast(K)``.

    Raises
    ------
    ValueError
        For rows that are not those of the fit; for clusters that do not contain all rows of every
        level of the grouping factors, as with crossed factors; for generalised models.

    Notes
    -----
    Prior weights belong to the covariance of the model: Omega has sigma^2 / w on its diagonal, and
    all formulas are those of rows times sqrt(w). Rows that the fit left out for missing values are
    in no cluster.

    References
    ----------
    Bell and McCaffrey (2002), Survey Methodology 28, 169-181; Pustejovsky and Tipton (2018),
    Journal of Business and Economic Statistics 36, 672-683; Tipton and Pustejovsky (2015), Journal
    of Educational and Behavioral Statistics 40, 604-634, for several rows.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> from skmixed.inference import cluster_robust
    >>> df = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (1 | Subject)").fit(df)
    >>> model.standard_errors_.round(2).tolist()
    [9.75, 0.8]
    >>> cluster_robust(model, df).coefficients().round(2)[["estimate", "std_error", "df"]]
               estimate  std_error    df
    parameter
    Intercept    251.41       6.82  17.0
    Days          10.47       1.55  17.0
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    observed = observed_rows(model, X, y, groups, sample_weight, _WHO)
    fit = observed.fit
    if not fit.is_linear:
        raise ValueError(
            f"{_WHO} is for linear models, got {type(model).__name__}: where random effects are "
            "integrated out the score of a cluster has no closed form. Bootstrap whole clusters"
        )
    cluster = outermost(observed, _WHO) if cluster is None else cluster
    codes, levels = level_codes(model, X, observed, cluster, groups, _WHO)
    check_independent(observed, codes, cluster, _WHO)
    if len(levels) < 2:
        raise ValueError(f"{_WHO} needs at least two clusters, got 1")
    sums = ClusterSums.of(observed, codes, len(levels), adjusted=kind == "CR2")
    return ClusterRobust(kind, fit, len(levels), _factor(kind, len(levels), fit), sums)


def _factor(kind, J, fit):
    """f for J clusters."""
    if kind == "CR1":
        return J / (J - 1)
    return J * (fit.n_obs - 1) / ((J - 1) * (fit.n_obs - fit.rank)) if kind == "CR1S" else 1.0


def contrast_rows(names, K):
    """(rows (d, p), whether K was one row) of an array, a dict by name or a list of dicts."""
    if isinstance(K, Mapping):
        return _named_row(names, K)[None], True
    if isinstance(K, list | tuple) and K and all(isinstance(k, Mapping) for k in K):
        return np.array([_named_row(names, k) for k in K]), False
    rows, p = np.asarray(K, dtype=float), len(names)
    if rows.ndim not in (1, 2) or rows.shape[-1] != p:
        raise ValueError(
            f"K needs one coefficient for each of the {p} parameters ({', '.join(names)}), got "
            f"shape {rows.shape}; a dict of coefficients by name is accepted too"
        )
    if not np.isfinite(rows).all():
        raise ValueError("K contains NaN or infinity")
    return np.atleast_2d(rows), rows.ndim == 1


def _named_row(names, coefficients):
    unknown = [name for name in coefficients if name not in names]
    if unknown:
        raise ValueError(f"{unknown} are no parameters; the parameters are {list(names)}")
    return np.array([float(coefficients.get(name, 0.0)) for name in names])
