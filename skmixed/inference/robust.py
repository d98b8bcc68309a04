"""Cluster-robust covariances: valid where the model's own is not, from independent clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from skmixed.inference.clusters import ClusterSums
from skmixed.inference.coefficients import coefficient_table
from skmixed.inference.degrees_of_freedom import JointTest, RowTests
from skmixed.inference.fixed_effects import FixedEffects, orthonormal_rows, particular_solution
from skmixed.inference.hypotheses import Hypothesis, contrast
from skmixed.inference.noted import NotedTable
from skmixed.inference.observed import (
    check_independent,
    level_codes,
    observed_rows,
    outermost,
)

KINDS = ("CR0", "CR1", "CR1S", "CR2")
_WHO = "cluster_robust"


@dataclass(frozen=True)
class RobustEffects(FixedEffects):
    """Fixed effects with a cluster-robust covariance, and what is known of its own uncertainty.

    Everything is computed in coordinates (r,) in which the model's covariance of the coefficients
    is sigma^2 I: a row of K is its ``fit.unscaled(K)`` there.

    Attributes
    ----------
    sums : ClusterSums
    n_clusters : int
    factor : float
        f of the covariance.
    """

    sums: ClusterSums
    n_clusters: int
    factor: float

    def method(self, ddf=None):
        """Satterthwaite's, whatever the fit would take itself."""
        return "satterthwaite"

    def notes(self, ddf=None):
        return ()

    def covariance(self, K, ddf=None):
        """Robust covariance (d, d) of K beta, NaN where one is not estimable."""
        half = np.where(self.is_estimable(K)[:, None], self.fit.unscaled(K), np.nan)
        return half @ self._white @ half.T

    def row_tests(self, K, ddf=None, *, rhs=0.0):
        """t tests of the rows of ``K beta = rhs`` with Satterthwaite's degrees of freedom."""
        K = np.asarray(K, dtype=float)
        half = self.fit.unscaled(K)
        error = np.sqrt(np.einsum("di,ij,dj->d", half, self._white, half))
        rhs = np.broadcast_to(rhs, len(K))
        tests = RowTests(half @ self.fit.whitened, error, self.df(half), rhs)
        return tests.where(self.is_estimable(K))

    def df(self, half) -> np.ndarray:
        """Satterthwaite's degrees of freedom (d,) of the robust variances of rows (d, r)."""
        variance, u, v, m = self._under_the_model(half)
        v, m = np.einsum("jdd->jd", v), np.einsum("jdd->jd", m)
        total = np.einsum("dd->d", variance)
        U = np.einsum("jdi,jdk->dik", u, u)
        spread = (v**2).sum(axis=0) - 2 * (v * m).sum(axis=0) + np.einsum("dik,dik->d", U, U)
        with np.errstate(divide="ignore", invalid="ignore"):
            return total**2 / spread

    def joint_test(self, K, ddf=None, *, rhs=0.0, name=""):
        """Hotelling's T-squared test of ``K beta = rhs``, as F (HTZ).

        With Q the Wald statistic of q rows and eta the degrees of freedom of the Wishart
        distribution that the robust covariance is nearest to, F = (eta - q + 1) / (eta q) Q on q
        and eta - q + 1 degrees of freedom.
        """
        K = np.asarray(K, dtype=float)
        self.check_estimable(K, name)
        half = self.fit.unscaled(K)
        solution = particular_solution(half, np.broadcast_to(rhs, len(K)))
        rows = orthonormal_rows(half)
        q = len(rows)
        if not q:
            return JointTest(0, np.nan, np.nan)
        eta = self._wishart_df(rows)
        df = eta - q + 1
        if df <= 0 or q >= self.n_clusters:
            raise ValueError(
                f"{_WHO}: {self.n_clusters} clusters cannot test {q} rows of K together: the test "
                f"would have {max(df, 0.0):.3g} degrees of freedom. Test fewer rows at a time"
            )
        distance = rows @ (self.fit.whitened - solution)
        Q = float(distance @ np.linalg.solve(rows @ self._white @ rows.T, distance))
        return JointTest(q, df, df / (eta * q) * Q)

    def _wishart_df(self, rows):
        """eta = q (q + 1) / sum_st Var(D_st), D the robust covariance of rows with mean I."""
        values, vectors = np.linalg.eigh(self._under_the_model(rows)[0])
        _, u, v, m = self._under_the_model((vectors / np.sqrt(values)).T @ rows)
        U = np.einsum("jsa,jtb->stab", u, u)
        own_v, own_m = np.einsum("jss->js", v), np.einsum("jss->js", m)
        cross = own_v.T @ own_m
        spread = (own_v.T @ own_v - cross - cross.T).sum() + np.einsum("stab,stab->", U, U)
        spread += (v**2).sum() - 2 * (v * m).sum() + np.einsum("stab,stba->", U, U)
        return len(rows) * (len(rows) + 1) / float(spread)

    def _under_the_model(self, half):
        """Covariance (d, d) that the model expects of rows (d, r), and its parts by cluster.

        With T_si the part of row s that cluster i adds, Cov(T_si, T_tj) is v_i^st - m_i^st for
        i = j and -u_si'u_tj else, m_i^st = u_si'u_ti; in units of sigma^2.
        """
        u = np.einsum("jab,db->jda", self.sums.sums, half)
        v = np.einsum("da,jab,eb->jde", half, self.sums.spread, half, optimize=True)
        m = np.einsum("jda,jea->jde", u, u)
        return (v - m).sum(axis=0), u, v, m

    @property
    def _white(self):
        """The robust covariance (r, r)."""
        return self.factor * (self.sums.scores.T @ self.sums.scores)


@dataclass(frozen=True)
class ClusterRobust:
    """A cluster-robust covariance of the fixed effects, with tests that know its uncertainty.

    Attributes
    ----------
    kind : str
    effects : RobustEffects
    rows : (p, r)
        Coefficients from those of the columns that were kept, NaN where one has none.
    """

    kind: str
    effects: RobustEffects
    rows: np.ndarray

    @property
    def n_clusters(self) -> int:
        return self.effects.n_clusters

    @property
    def vcov(self) -> pd.DataFrame:
        """Covariance (p, p) of the fixed effects; NaN where a column was left out."""
        names = list(self.effects.names)
        lost = np.isnan(self.rows).any(axis=1)
        K = np.nan_to_num(self.rows) @ self.effects.fit.basis.combinations.T
        vcov = self.effects.covariance(K)
        vcov[lost] = vcov[:, lost] = np.nan
        return pd.DataFrame(vcov, index=names, columns=names)

    def coefficients(self, level=0.95) -> NotedTable:
        """Fixed effects with t tests and intervals.

        The degrees of freedom are Satterthwaite's for the robust variance of each coefficient,
        under the covariance of the model.

        Parameters
        ----------
        level : float
            Confidence level of the intervals, between 0 and 1.

        Returns
        -------
        NotedTable
            A DataFrame with estimate, std_error, df, t, p_value, lower and upper by parameter; NaN
            where a column was left out.
        """
        return coefficient_table(self.effects, level=level, rows=self.rows)

    def contrast(self, K, rhs=0.0) -> Hypothesis:
        """Estimate and test of K beta = rhs.

        One row is tested by t with Satterthwaite's degrees of freedom, several by F: Hotelling's
        T-squared with the approximate degrees of freedom of Tipton and Pustejovsky (HTZ).

        Parameters
        ----------
        K : (p,) or (d, p) array, dict of coefficients by name, or several of these
            As for :meth:`MixedLinearRegressor.contrast`.
        rhs : float or (d,)

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
        return contrast(self.effects, K, rhs)


def cluster_robust(
    model, X, y=None, cluster=None, kind="CR2", *, groups=None, sample_weight=None
) -> ClusterRobust:
    """Covariance of the fixed effects that needs independent clusters, not a right model.

    .. math:: V = f \\Phi \\left[\\sum_i X_i'\\Omega_i^{-1} A_i e_i e_i' A_i \\Omega_i^{-1} X_i
        \\right] \\Phi, \\quad \\Phi = (X'\\Omega^{-1}X)^{-1}

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
    effects = RobustEffects(fit, sums, len(levels), _factor(kind, len(levels), fit))
    return ClusterRobust(kind, effects, model._coefficient_rows)


def _factor(kind, J, fit):
    """f for J clusters."""
    if kind == "CR1":
        return J / (J - 1)
    return J * (fit.n_obs - 1) / ((J - 1) * (fit.n_obs - fit.rank)) if kind == "CR1S" else 1.0
