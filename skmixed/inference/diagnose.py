"""diagnose_glmm: everything that a good answer asks of a generalised model that will not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from skmixed.inference.advice import FEW_LEVELS, WITH_PRIOR, advice_of, certificate
from skmixed.inference.attempts import Attempt, Given, subset_weights
from skmixed.inference.diagnosis import GLMMDiagnosis, tables_of
from skmixed.inference.examined import DataStudy
from skmixed.inference.gee import attenuated, marginal_fit
from skmixed.inference.outcomes import levels_with_variation
from skmixed.inference.shares import random_variances, shares_of
from skmixed.linalg.threads import one_thread

# Rows times nodes from which quadrature is left to the user.
_MOST_WORK = 5e7
_FRACTION = 0.5
# Median of the absolute difference of two standard normal numbers.
_MEDIAN_PAIR = np.sqrt(2) * norm.ppf(0.75)


def diagnose_glmm(
    model,
    X,
    y=None,
    *,
    groups=None,
    sample_weight=None,
    n_nodes=7,
    n_subsets=10,
    random_state=0,
) -> GLMMDiagnosis:
    """What stands in the way of a generalised mixed model, and what to do about it.

    The model is fitted again and again and the estimator given stays as it is. A part that fails
    is quoted in ``failures`` and does not stop the others: missing values and dependent columns
    that the estimator refuses are left out, a fit that does not succeed has no column.

    - Clusters: levels of every grouping factor, outcomes per level, levels of one kind of outcome.
    - Columns: which are combinations of others, which separate the outcomes, which vary within
      clusters.
    - Fits with ``n_agq=0`` (one step), Laplace's approximation and quadrature side by side, one
      with ``prior="normal"`` where the outcomes are separated or no other fit succeeds, and how
      the search ended.
    - Intraclass correlations on the scale of the linear predictor.
    - The marginal model of the same columns, by generalised estimating equations with
      exchangeable correlation in the outermost grouping factor (statsmodels), beside what averaging
      over the random effects should make of the conditional coefficients.
    - Refits on random halves of the clusters (of the rows, where clusters are few or not
      independent): their standard deviation should be about one standard error of the whole fit.

    Parameters
    ----------
    model : MixedLogisticClassifier or MixedGLMRegressor
        Fitted or not, or a pipeline that ends in one.
    X, y, groups, sample_weight
        As at its fit.
    n_nodes : int, default 7
        Nodes of the quadrature, for one grouping factor.
    n_subsets : int, default 10
        Refits on halves; 0 for none.
    random_state : int, Generator or None, default 0
        Of the halves.

    Returns
    -------
    GLMMDiagnosis
        Prints as text and shows as HTML; its tables are DataFrames.

    Raises
    ------
    TypeError
        For another kind of model.
    ValueError
        For parameters of the estimator that are none, numbers of nodes below 2 and of subsets
        below 0.

    References
    ----------
    Zeger, Liang and Albert (1988), Biometrics 44, 1049-1060, for marginal and conditional
    coefficients; Larsen and Merlo (2005), American Journal of Epidemiology 161, 81-88, for median
    odds ratios.

    Examples
    --------
    >>> from skmixed import MixedLogisticClassifier
    >>> from skmixed.datasets import load_verbagg
    >>> from skmixed.inference import diagnose_glmm
    >>> verbagg = load_verbagg().frame
    >>> verbagg["AngerTwice"] = 2 * verbagg["Anger"]
    >>> model = MixedLogisticClassifier("r2 ~ Anger + AngerTwice + (1 | id)")
    >>> report = diagnose_glmm(model, verbagg, n_subsets=0)
    >>> report.columns["combination"].to_dict()
    {'Intercept': '', 'Anger': '', 'AngerTwice': '2 Anger'}
    >>> report.clusters[["levels", "all 0", "all 1"]].to_dict("records")
    [{'levels': 316, 'all 0': 4, 'all 1': 5}]
    """
    if n_nodes < 2 or n_subsets < 0:
        raise ValueError(
            "diagnose_glmm needs n_nodes of at least 2 and n_subsets of at least 0, got "
            f"n_nodes={n_nodes!r} and n_subsets={n_subsets!r}"
        )
    given = Given.of(model, X, y, groups, sample_weight)
    study = _Study(given, np.random.default_rng(random_state))
    with one_thread():
        study.look_at_data()
        if study.problem is not None:
            study.fit(n_nodes)
            study.compare_with_marginal()
            study.refit_subsets(n_subsets)
    return study.report()


@dataclass
class _Study(DataStudy):
    """The fits beside the data, and the report of both."""

    marginal: Any = None
    units: str = "clusters"

    # Fits

    def fit(self, n_nodes):
        """The fits side by side; the main one is that of the estimator's own settings."""
        own, wanted = self.given.model.n_agq, [1]
        if self.design.random:
            wanted = [0, 1, *[n_nodes] * self._has_quadrature(n_nodes)]
        for n_agq in sorted({*wanted, own} if self.design.random else wanted):
            self._attempt(f"n_agq={n_agq}", n_agq=n_agq)
        main = f"n_agq={max(own, 1) if self.design.random else 1}"
        if self.given.model.prior is not None:
            self._attempt("no prior", prior=None, n_agq=max(own, 1))
        elif self.found.separating or not any(a.model for a in self.found.attempts.values()):
            self._attempt(WITH_PRIOR, prior="normal", n_agq=1)
        fitted = [name for name, attempt in self.found.attempts.items() if attempt.model]
        if fitted and (self.found.attempts[main].model is None):
            main = WITH_PRIOR if WITH_PRIOR in fitted else fitted[-1]
        self.found.main = main if fitted else None

    def _has_quadrature(self, n_nodes):
        terms = self.design.random
        effects = sum(len(term.names) for term in terms)
        usable = len({t.group for t in terms}) == 1 and all(
            t.structure == "us" and t.relationship is None for t in terms
        )
        return usable and n_nodes**effects * len(self.design.X) <= _MOST_WORK

    def _attempt(self, name, **settings):
        attempt = self.given.fit(**settings)
        self.found.attempts[name] = attempt
        if attempt.model is None:
            self.failures.append((f"the fit with {name}", attempt.error))

    def _succeeded(self, name):
        attempt = self.found.attempts.get(name)
        return None if attempt is None or attempt.model is None else attempt

    @property
    def _main(self) -> Attempt | None:
        return self._succeeded(self.found.main)

    def _shares(self):
        """Variances by grouping factor and their shares, on the scale of the linear predictor."""
        main = self._main
        if main is None or not self.grouped:
            return pd.DataFrame()
        pairs = zip(main.model.labels_.terms, random_variances(main.fit), strict=True)
        own = [(term.group, value) for term, value in pairs if not term.is_smooth]
        groups, values = zip(*own, strict=True)
        table = pd.Series(values, groups).groupby(level=0, sort=False).sum()
        table = table.rename_axis("group").to_frame("variance")
        residual = self.tried("the intraclass correlation", self._residual_variance)
        if residual is not None:
            table["icc"] = table["variance"] / (table["variance"].sum() + residual)
        if self.family.link.name == "logit":
            table["median odds ratio"] = np.exp(_MEDIAN_PAIR * np.sqrt(table["variance"]))
        return table

    def _residual_variance(self):
        model, given = self._main.model, self.given
        mean = model._null_mean(given.X, given.y, given.groups)
        bounded = self._succeeded(WITH_PRIOR)  # shares need finite coefficients
        return shares_of(bounded.model if self.found.separating and bounded else model,
                         mean).residual  # fmt: skip

    # Beside the fits

    def compare_with_marginal(self):
        """Generalised estimating equations, and what averaging makes of the coefficients."""
        main = self._main
        if main is None or not self.grouped:
            return
        if len(self.grouped) < len(self.design.random):
            why = "smooth functions are no columns of X, which it is made of"
            self.failures.append(("the marginal model", why))
            return
        if self.found.separating:
            self.failures.append(("the marginal model", "its outcomes are separated too"))
            return
        if self.cluster is None:
            why = "levels are related" if self.found.related else "grouping factors are crossed"
            self.failures.append(("the marginal model", f"{why}: no clusters are independent"))
            return
        found = self.tried("the marginal model", self._marginal_fit, main.model.dispersion_)
        self.marginal = None if found is None else found.times(self.basis.to_coef)

    def _marginal_fit(self, dispersion):
        """On the orthonormal basis, where units of columns cannot hinder."""
        y, trials = self.response
        Q, codes = self.basis.orthonormal(self.design.X), self.cluster.codes
        return marginal_fit(
            Q, y, trials, self.counts, self.design.offset, codes, self.family, dispersion, self.rng
        )

    def refit_subsets(self, n_subsets):
        """Refits on halves of the clusters, or of the rows where no clusters are independent."""
        main = self._main
        if main is None or not n_subsets:
            return
        design, given, codes = self.design, self.given, None
        if self.cluster is not None and self.cluster.n_levels >= FEW_LEVELS:
            codes = self.cluster.codes
        if codes is None:
            self.units, codes = "rows", np.arange(len(design.X))
        weights = (
            subset_weights(given.sample_weight, design.n_input, design.rows, codes, _FRACTION,
                           self.rng)
            for _ in range(n_subsets)
        )  # fmt: skip
        found = [given.fit(weight=weight, **main.settings) for weight in weights]
        self.found.refits = found
        for error in dict.fromkeys(attempt.error for attempt in found if attempt.error):
            self.failures.append((f"a refit on half of the {self.units}", error))

    def _subsets(self):
        fitted = [attempt.estimates for attempt in self.found.refits if attempt.model]
        if not fitted:
            return pd.DataFrame()
        table = pd.DataFrame(fitted).reindex(columns=self._main.estimates.index)
        ratio = table.std() / self._main.model.standard_errors_.replace(np.inf, np.nan)
        ratio = ratio / np.sqrt(1 / _FRACTION - 1)
        return pd.DataFrame(
            {"whole": self._main.estimates, "mean": table.mean(), "std": table.std(),
             "least": table.min(), "largest": table.max(),
             "ratio": ratio.reindex(table.columns)},
        )  # fmt: skip

    # The report

    def report(self):
        """The report of all that was found."""
        found, family = self.found, self.family
        found.failures = self.failures
        text = self.given.model.formula or "every column"
        name = f"{family.name} (link {family.link.name})"
        if self.design is None:
            return GLMMDiagnosis(text, name, failures=self._failures, advice=advice_of(found))
        found.shares = self._shares()
        found.subsets = self._subsets()
        found.estimates, found.errors = self._estimates()
        found.n_obs, found.rank = float(self.counts.sum()), self.basis.rank
        found.columns, found.link = self._columns(), family.link.name
        clusters, levels = tables_of(found.levels) if found.levels else (pd.DataFrame(), {})
        main = self._main
        return GLMMDiagnosis(
            text,
            name,
            n_obs=found.n_obs,
            clusters=clusters,
            levels=levels,
            columns=found.columns,
            fits=self._fits(),
            estimates=found.estimates,
            standard_errors=found.errors,
            shares=found.shares,
            subsets=found.subsets,
            marginal=self.marginal,
            units=self.units,
            n_subsets=len(found.refits),
            n_failed=sum(attempt.model is None for attempt in found.refits),
            certificate="" if main is None else f"{found.main}: {certificate(main.fit)}",
            failures=self._failures,
            advice=advice_of(found),
            model=None if main is None else main.model,
        )

    @property
    def _failures(self):
        """Every reason once, with all parts that it stopped."""
        parts = {}
        for part, reason in self.failures:
            parts.setdefault(reason, []).append(part)
        rows = [("; ".join(dict.fromkeys(own)), reason) for reason, own in parts.items()]
        return pd.DataFrame(rows, columns=["part", "reason"])

    def _fits(self):
        rows = {name: attempt.row() for name, attempt in self.found.attempts.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("fit")

    def _columns(self):
        names = list(self.design.names)
        table = pd.DataFrame(index=pd.Index(names, name="column"))
        table["combination"] = [self.found.combinations.get(name, "") for name in names]
        table["separates"] = [name in self.found.unbounded for name in names]
        if self.cluster is not None:
            varies = levels_with_variation(self.cluster.codes, self.design.X)
            table["varies within"] = varies.astype(int)
        return table

    def _estimates(self):
        """Estimates and standard errors by parameter and fit, and of the marginal model."""
        fitted = {name: a for name, a in self.found.attempts.items() if a.model is not None}
        if not fitted:
            return pd.DataFrame(), pd.DataFrame()
        estimates = pd.DataFrame({name: a.estimates for name, a in fitted.items()})
        errors = pd.DataFrame({name: a.model.standard_errors_ for name, a in fitted.items()})
        order = self._main.estimates.index
        estimates, errors = estimates.reindex(order), errors.reindex(self.design.names)
        if self.grouped:
            shrunk = attenuated(
                self._main.model.fixed_effects_, self.family.link.name,
                sum(random_variances(self._main.fit)), self.design.intercept,
            )  # fmt: skip
            if shrunk is not None:
                known = np.isfinite(self._main.model.standard_errors_)
                estimates["attenuated"] = shrunk.where(known)
        if self.marginal is not None:
            kept = [self.design.names[j] for j in self.basis.kept]
            estimates["marginal"] = pd.Series(self.marginal.coef, kept)
            errors["marginal"] = pd.Series(self.marginal.std_error, kept)
        return estimates.rename_axis("parameter"), errors.rename_axis("parameter")
