"""What generalised linear mixed models share: the fit, both scales of prediction, the summary."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmixed._warn import warn
from skmixed.design import build_design, check_identifiable, parse_formula
from skmixed.design.expression import read_expression
from skmixed.estimators._base import MixedModelBase
from skmixed.estimators._input import check_one_response, response_column, response_vector
from skmixed.estimators._outcome import Outcome, codes_of, is_numeric
from skmixed.estimators._solver import ChoosesSolver
from skmixed.estimators._summary import MixedSummary, generalised_summary, model_kind
from skmixed.exceptions import SeparationWarning, UndefinedMeanWarning
from skmixed.linalg.threads import one_thread
from skmixed.models.glmm import Solver, approximation, fit_glmm
from skmixed.models.marginal import marginal_mean, mean_limits
from skmixed.models.pirls import NoMode
from skmixed.models.prior import KINDS, FixedPrior
from skmixed.models.separation import (
    Separation,
    one_sided_groups,
    separates_beside_prior,
    separates_jointly,
)
from skmixed.models.warm import warm_generalised

# Columns or categories that a warning names.
MAX_SEPARATED = 10
_PRIOR_COLUMNS = ["location", "scale"]


class GeneralizedMixedModel(ChoosesSolver, MixedModelBase):
    """What the two estimators share: fit, prediction on either scale, summary."""

    _parameter_constraints: ClassVar[dict] = {
        **MixedModelBase._parameter_constraints,
        **ChoosesSolver._parameter_constraints,
        "n_agq": [Interval(Integral, 0, None, closed="left")],
        "prior": [StrOptions(set(KINDS)), dict, None],
    }

    # Fit

    def _fit(self, family, X, y, groups, sample_weight):
        """The design, the GLMMFit, the classes and what is separated; the rows are gone then."""
        design, outcome, problem = self._problem(family, X, y, groups, sample_weight)
        with one_thread():
            limit = Separation.find(problem, design)
        decided = ()
        if limit is not None and self.prior is not None:
            self._check_prior(problem, limit)
            limit, decided = None, tuple(limit.names())
        if limit is not None:
            problem = limit.remaining
        try:
            fit = self._search(problem)
        except NoMode as error:
            raise ValueError(
                f"{type(self).__name__}: no start has a finite likelihood under family="
                f"{family.name!r} with link={family.link.name!r} ({error}). Use the link "
                f"{family.links[0]!r}, check offsets, or take random effects out"
            ) from None
        with one_thread():
            separated = self._separated(problem, fit, limit, design)
            fit = replace(fit, decided=decided) if limit is None else limit.complete(fit)
        self._tell_monte_carlo(fit.monte_carlo)
        return design, fit, outcome.classes, separated

    def _search(self, problem):
        """The GLMMFit, from the earlier fit where that is wanted and its likelihood not zero."""
        settings = {
            "max_iter": self.max_iter,
            "tol": self.tol,
            "callback": self._told(problem.objective),
        }
        near = self._warm(warm_generalised, problem)
        try:
            return fit_glmm(problem, near=near, **settings)
        except NoMode:
            if near is None:
                raise
            return fit_glmm(problem, **settings)

    def _problem(self, family, X, y, groups, sample_weight):
        """The design, the outcome, and the Problem that they make."""
        design, labels = self._design(X, y, groups, sample_weight)
        outcome = self._outcome(design, family, labels)
        design = _without_empty_rows(design, family, outcome.trials)
        self._check_terms(design, family, outcome.trials)
        with one_thread():
            prior = FixedPrior.of(self.prior, type(self).__name__)
            problem = approximation(
                design,
                outcome.y,
                outcome.trials,
                family,
                self.n_agq,
                prior,
                Solver(**self._solver_settings),
            )
        return design, outcome, problem

    def _check_prior(self, problem, limit):
        """An error where a flat part of the prior leaves estimates without bound."""
        if separates_beside_prior(problem):
            raise ValueError(
                f"{type(self).__name__}: {named(limit.names())} separate the "
                "outcomes perfectly, and the prior leaves some of these coefficients without a "
                "scale: no estimate is finite. Give every one of them a finite scale in prior"
            )

    def _outcome(self, design, family, labels):
        return Outcome.of(design, family, labels, type(self).__name__)

    def _check_terms(self, design, family, w):
        check_identifiable(design, residual=family.scale)
        if family.name != "binomial" or np.any(w > 1):
            return
        for term in design.random:
            if term.n_levels >= design.n_obs:
                raise ValueError(
                    f"{type(self).__name__}: the grouping factor {term.group!r} has one level per "
                    "row, and a single 0/1 outcome says nothing of a variance: take the term out"
                )

    def _separated(self, problem, fit, separation, design):
        """What separates: columns and their number of rows, one-sided groups, all groups."""
        names = list(dict.fromkeys(term.group for term in design.random))
        rows = problem.objective.rows
        groups = [names[g] for g in one_sided_groups(rows)]
        jointly = names if not groups and separates_jointly(problem, fit) else []
        if separation is None:
            return [], 0, groups, jointly
        return separation.names(), int(np.count_nonzero(separation.dropped)), groups, jointly

    def _tell_separation(self, separated):
        columns, n_rows, groups, jointly = separated
        told = []
        if columns:
            told.append(
                f"{named(columns)} separate{'s' * (len(columns) == 1)} the outcomes perfectly: "
                "the likelihood grows without limit along these coefficients. Reported is the "
                f"limit: {n_rows} row{'s' * (n_rows > 1)} predicted without error, coefficients "
                "large enough for that with standard errors of inf, and all else as without these "
                "rows. Merge categories, leave columns out, or give the coefficients a prior: "
                "prior='normal'"
            )
        if groups:
            told.append(
                f"every level of {', '.join(groups)} has outcomes of one kind only: the variance "
                "between its levels has no finite estimate"
            )
        if jointly:
            told.append(
                f"the fixed effects and the levels of {', '.join(jointly)} together separate the "
                "outcomes perfectly: the data do not bound the size of the effects and of their "
                "variances, the estimates are where the approximated likelihood ends to grow. "
                "Leave a term out"
            )
        for text in told:
            warn(f"{type(self).__name__}: {text}", SeparationWarning)

    def _own_family(self):
        """The Family that the parameters name."""
        raise NotImplementedError

    # Labels

    def _labels_of(self, values):
        """(numbers, labels) of a response of labels, None for a response of numbers."""
        raise NotImplementedError

    def _read_response(self, y, n):
        check_one_response(y, n, type(self).__name__)
        return self._labels_of(response_column(y)) or super()._read_response(y, n)

    def _named_response(self, table, terms):
        if terms.response not in table.names:
            return table, None
        found = self._labels_of(table.column(terms.response))
        return (
            (table, None)
            if found is None
            else (table.with_column(terms.response, found[0]), found[1])
        )

    def _response_of(self, X):
        """The response that the formula names: classes as 0 and 1, two counts as a proportion."""
        terms = None if self.formula is None else parse_formula(self.formula)
        if terms is None or terms.response is None:
            return super()._response_of(X)
        table = self._table(X, reset=False)
        if terms.response in table.names and hasattr(self, "classes_"):
            return self._codes_of(table.column(terms.response))
        if len(terms.responses) == 1:
            return self.design_spec_.response_of(table)
        counts = self._counts_of(table, terms)
        with np.errstate(invalid="ignore"):
            return counts[:, 0] / counts.sum(axis=1)

    def _observed(self, y):
        """A response of the model's classes as 0 and 1, of numbers as it is."""
        numbers = is_numeric(y) and self._labels_of(y) is None
        if numbers or "classes_" not in vars(self):
            return response_vector(y, len(y), type(self).__name__)
        return self._only_classes(codes_of(y, self.classes_), y)

    def _only_classes(self, codes, y):
        """Codes of labels that are those of the model."""
        if (codes == 2).any():
            other = np.asarray(y)[codes == 2].tolist()[0]
            raise ValueError(
                f"{type(self).__name__}: y holds {other!r}, which is none of the classes "
                f"{self.classes_.tolist()}"
            )
        return codes

    def _observed_response(self, X, y):
        response, weights = self._read_observed(X, y)
        known = response[np.isfinite(response)]
        problem = self.family_.problem(known)
        if self.family_.name == "binomial" and np.any((known < 0) | (known > 1)):
            problem = "a binomial response lies between 0 and 1"
        if problem is not None:
            raise ValueError(f"{type(self).__name__} with family={self.family_.name!r}: {problem}")
        return response, weights

    def _read_observed(self, X, y):
        """The response as numbers, two counts as a proportion, and the weights or trials."""
        table = self._table(X, reset=False)
        if y is not None:
            check_one_response(y, table.n_rows, type(self).__name__)
            return self._observed(response_column(y)), self._weights_in(table)
        terms = None if self.formula is None else parse_formula(self.formula)
        if self._has_counts:
            counts = self._counts_of(table, terms)
            trials = counts.sum(axis=1)
            with np.errstate(invalid="ignore"):
                return counts[:, 0] / trials, trials
        response = self._response_of(X)
        if hasattr(self, "classes_") and terms.response in table.names:
            response = self._only_classes(response, table.column(terms.response))
        return response, self._weights_in(table)

    @property
    def _has_counts(self):
        """Whether the response is two counts."""
        return self.formula is not None and len(parse_formula(self.formula).responses) == 2

    def _trials_in(self, table):
        """Prior weights of rows, or the sums of two counts where the table has them."""
        if self._has_counts:
            terms = parse_formula(self.formula)
            used = {name for part in terms.responses for name in read_expression(part).columns}
            if used <= set(table.names):
                return self._counts_of(table, terms).sum(axis=1)
        return self._residual_weights(table)

    def _counts_of(self, table, terms):
        """The two counts (n, 2) that the formula names, NaN where one is missing."""
        design = build_design(
            f"{terms.response} ~ 1", table, missing=self.missing, trusted=self.trusted
        )
        counts = np.full((design.n_input, 2), np.nan)
        counts[design.rows] = design.y
        return counts

    def _codes_of(self, values):
        """A response of labels as 0.0 and 1.0, of numbers as it is."""
        if is_numeric(values) and self._labels_of(values) is None:
            return np.asarray(values, dtype=float)
        return codes_of(values, self.classes_)

    # Attributes

    @property
    def _shows_classes(self):
        """Whether the labels say more than 0 and 1."""
        classes = vars(self).get("classes_")
        return classes is not None and classes.tolist() != [0, 1]

    @property
    def dispersion_(self) -> float:
        """Dispersion phi, theta of the negative binomial, 1.0 for families without.

        The variance of a response is phi mu^2 (gamma), phi mu^3 (inverse Gaussian), phi
        (Gaussian), each divided by the prior weight, and mu + mu^2 / theta (negative binomial).
        """
        return self.result_.dispersion

    @property
    def prior_(self) -> pd.DataFrame | None:
        """Location and scale of the prior by column of X, None without a prior.

        The scale is that of the coefficient in its own units, inf where the prior is flat and NaN
        for columns that were left out. The intercept's are those of the linear predictor at the
        means of the columns, unless the prior is not ``scaled``.
        """
        fit, prior = self.result_, self.result_.prior
        if prior is None:
            return None
        table = pd.DataFrame(np.nan, index=list(self.labels_.columns), columns=_PRIOR_COLUMNS)
        table.iloc[fit.basis.kept] = np.column_stack([prior.location, prior.scale])
        return table

    @property
    def penalised_deviance_(self) -> float:
        """The criterion minimised: ``deviance_`` plus -2 log prior, 0 at the prior's centre."""
        return self.result_.deviance + self.result_.penalty

    @property
    def n_pirls_steps_(self) -> int:
        """Newton steps of the searches for modes, over all evaluations."""
        return self.result_.n_steps

    # Prediction

    def _mean(self, X, groups, random_effects, marginal):
        """E(y) of every row: at its conditional modes, at b = 0, or averaged over b."""
        if marginal:
            return self._marginal_mean(X, groups, random_effects)
        return self._mean_at(self._predict_eta(X, groups, random_effects, False)[0])

    def _mean_at(self, eta):
        """The mean at linear predictors; NaN, and a warning, where they have none."""
        low, high = self.family_.predictor_range
        outside = (eta < low) | (eta > high) | ((eta == 0) & (self.family_.link.power == -1))
        if not outside.any():
            return self.family_.mean(eta)
        rows = int(np.count_nonzero(outside.reshape(len(eta), -1).any(axis=1)))
        self._tell_undefined(rows, "a linear predictor that gives no mean")
        return self.family_.mean(np.where(outside, np.nan, eta))

    def _tell_undefined(self, count, what, result="the result there is NaN"):
        family = self.family_
        warn(
            f"{type(self).__name__}: {count} row{'s have' if count > 1 else ' has'} {what} under "
            f"family={family.name!r} with link={family.link.name!r}: {result}. "
            f"{family.remedy}",
            UndefinedMeanWarning,
        )

    def _marginal_mean(self, X, groups, random_effects):
        """The mean over b ~ N(0, covariance) of the factors that enter; of all where none is named.

        Grouping columns are read where the answer depends on the level: where unseen ones get
        none, and where related levels have variances of their own. ``random_effects=False`` reads
        none of them.
        """
        fixed = isinstance(random_effects, bool | np.bool_) and not random_effects
        related = any(term.loadings is not None for term in self.result_.layout.terms)
        read = not fixed and (related or self.unseen_groups != "population")
        rows = self._new_rows(
            X, groups, True if fixed else random_effects, levels="fit" if read else "none"
        )
        eta = self._fixed_part(rows)
        random = self._random_terms(rows)
        variance = self.result_.random_variance(random) if random else 0.0
        mean = marginal_mean(self.family_, eta, np.broadcast_to(variance, eta.shape))
        undefined = int(np.sum(np.isnan(mean) & ~np.isnan(eta)))
        if undefined:
            self._tell_undefined(undefined, "no mean over the distribution of its random effects")
        return rows.over_input(mean)

    def predict_interval(self, X, *, level=0.95, kind="mean", groups=None, random_effects=True):
        """Interval for the conditional mean of every row, on the scale of the response.

        Parameters
        ----------
        X : array or DataFrame of n rows
        level : float
            Coverage, between 0 and 1.
        kind : {"mean"}
            For new observations draw from :meth:`simulate`.
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        random_effects : bool or list of str, default True
            As for :meth:`predict`.

        Returns
        -------
        ndarray of shape (n, 2)
            The mean at the limits of the normal interval for the linear predictor. Where a limit
            lies outside the family's range the interval ends at the bound of the mean (infinity
            for an inverse link), with an :class:`UndefinedMeanWarning`.
        """
        check_is_fitted(self)
        if kind != "mean":
            raise ValueError(
                f"{type(self).__name__} gives intervals for the mean, got kind={kind!r}: for new "
                "observations take quantiles of simulate()"
            )
        eta, lower, upper = self._eta_limits(X, groups, random_effects, level)
        center = self._mean_at(eta)
        ends = mean_limits(self.family_, lower, upper)
        ends[np.isnan(center)] = np.nan
        low, high = self.family_.predictor_range
        cut = ((lower < low) | (upper > high) | np.isnan(ends[:, 0])) & ~np.isnan(center)
        if cut.any():
            self._tell_undefined(
                int(cut.sum()),
                "an interval of linear predictors that leaves the range of the mean",
                "the interval ends at a bound of the mean, or is NaN where it has none",
            )
        return ends

    def simulate(self, X, n_samples=1, random_state=None, *, groups=None, random_effects=True,
                 conditional=False):  # fmt: skip
        """Responses drawn from the fitted model for the rows of X.

        Every sample draws new random effects for all levels, seen or not, and new responses; for
        binomial rows with trials these are proportions. The trials of ``cbind(successes,
        failures)`` are the sum of its columns; without them in X every row is one trial.

        Parameters
        ----------
        X : DataFrame or array of n rows
        n_samples : int
        random_state : int, RandomState or None
        groups : (n,), optional
        random_effects : bool or list of str, default True
            Of all grouping factors, of none, or of those in the list.
        conditional : bool, default False
            Keep the conditional modes of known levels and draw effects of the others alone: new
            responses of the same groups.

        Returns
        -------
        ndarray of shape (n, n_samples)
        """
        check_is_fitted(self)
        rng = check_random_state(random_state)
        rows, eta = self._simulate_eta(X, groups, random_effects, n_samples, rng, conditional)
        w = self._trials_in(rows.table)[rows.design.rows, None]
        mu = self._mean_at(eta)
        known = np.isfinite(mu) & np.isfinite(w) & (w != 0)
        draws = self.family_.sample(
            np.where(known, mu, 0.5), np.where(known, w, 1.0), self.dispersion_, rng
        )
        draws = np.where(known, draws, np.nan)
        return rows.over_input(draws)

    def summary(self) -> MixedSummary:
        """Estimates with z values and p-values; the object has an HTML form for notebooks."""
        check_is_fitted(self)
        family = self.family_
        mixed = bool(self.result_.is_mixed)
        prior = self.result_.prior
        how = "maximum likelihood" if prior is None else "maximum a posteriori"
        if mixed:
            how += " (" + _approximation_name(self.result_.n_agq) + ")"
        title = f"{model_kind(self, 'Generalised ')} fit by {how}\n"
        title += f"Family: {family.name} (link {family.link.name})"
        if family.dispersion is not None:
            title += f", {family.dispersion} {self.dispersion_:.6g}"
        if self._shows_classes:
            other, modelled = self.classes_.tolist()
            title += f"\nResponse: probability of {modelled!r}, against {other!r}"
        summary = generalised_summary(self, title, "deviance", residual=False)
        return summary if prior is None else replace(summary, notes=self._prior_notes(summary))

    def _prior_notes(self, summary):
        """Notes of a summary, and what the prior is and does."""
        fit = self.result_
        told = [
            f"Prior of the fixed effects: {fit.prior.text}.",
            f"Deviance, logLik, AIC and BIC are of the likelihood at these estimates; minimised is "
            f"{self.penalised_deviance_:.6g}, with the prior.",
        ]
        if fit.decided:
            verb = "separate" if len(fit.decided) > 1 else "separates"
            told.append(
                f"{named(fit.decided)} {verb} the outcomes perfectly: how large the estimates are "
                "is decided by the prior."
            )
        return (*summary.notes, *told)


def _without_empty_rows(design, family, trials):
    """The design with rows of zero trials counting zero times: they are no observations."""
    if family.name != "binomial" or trials.all():
        return design
    counts = np.ones(len(trials)) if design.frequencies is None else design.frequencies
    return replace(design, frequencies=counts * (trials > 0))


def _approximation_name(n_agq):
    if n_agq == 0:
        return "fixed effects at the joint mode"
    if n_agq == 1:
        return "Laplace approximation"
    return f"adaptive Gauss-Hermite quadrature, {n_agq} nodes"


def named(names):
    """Names in a row, of many the first ones."""
    more = len(names) - MAX_SEPARATED
    return ", ".join([*names[:MAX_SEPARATED], *[f"{more} more"] * (more > 0)])


def check_scale(scale, known, marginal):
    if scale not in known:
        raise ValueError(f"scale must be one of {', '.join(map(repr, known))}, got {scale!r}")
    if marginal and scale == "link":
        raise ValueError(
            "marginal=True averages the mean over the random effects, there is no marginal linear "
            "predictor: use scale='response'"
        )
