"""MixedLogisticClassifier: binary mixed regression as a scikit-learn classifier."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from skmixed._warn import warn
from skmixed.design import parse_formula
from skmixed.estimators._input import check_one_response, response_column
from skmixed.estimators._operation import watched
from skmixed.estimators._outcome import is_numeric, numbered_labels
from skmixed.estimators.generalized import GeneralizedMixedModel, check_scale
from skmixed.exceptions import ClassOrderWarning
from skmixed.families import Binomial, make_family


class MixedLogisticClassifier(ClassifierMixin, GeneralizedMixedModel):
    """Binary regression with random effects: logistic, probit and other links.

    .. math:: P(y = 1 \\mid b) = g^{-1}(X\\beta + Zb), \\quad b \\sim N(0, \\Lambda_\\theta
        \\Lambda_\\theta')

    Without a formula it is logistic regression by maximum likelihood, without penalty.

    Parameters
    ----------
    formula : str, optional
        The model in lme4's language, as for :class:`MixedLinearRegressor`. The response may be two
        labels of any type, a proportion (with ``prior_weights``) or
        ``cbind(successes, failures)``.
    link : {"logit", "probit", "cloglog", "cauchit", "log"}, default "logit"
    n_agq, rank_deficient, unseen_groups, missing, unknown_categories, prior_weights, max_iter, \
tol, verbose, keep_factor, trusted, relationship, prior, solver, n_probes, random_state
        As for :class:`MixedGLMRegressor`.
    max_time : float, optional
        Seconds that a fit may take: after them it raises :class:`skmixed.FitTimeoutError`.
    warm_start : bool, default False
        Start from the parameters of the previous fit of this estimator, where it had the same
        terms and columns: the same estimates, in fewer evaluations.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels, in the order of the categories of a categorical, else sorted; the second is
        the one whose probability is modelled.
    coef_, intercept_, fixed_effects_, standard_errors_, vcov_, aliased_, linear_dependencies_, \
random_effects_, random_effects_std_, random_terms_, covariances_, structure_, smooths_, theta_, \
sigma_, dispersion_, deviance_, penalised_deviance_, prior_, log_likelihood_, aic_, bic_, n_obs_, \
df_resid_, is_singular_, converged_, n_iter_, n_evaluations_, n_pirls_steps_, trace_, family_, \
solver_, n_probes_, n_cg_iterations_, theta_mc_std_, monte_carlo_share_, deviance_mc_std_, \
result_, n_features_in_, feature_names_in_
        As for :class:`MixedGLMRegressor`.

    Notes
    -----
    Where columns separate the classes the likelihood has no maximum. The fit is its limit, with a
    :class:`SeparationWarning` that names the columns: the rows that are separated have predictions
    of 0 or 1, everything that the other rows determine is as without them, and coefficients that
    they do not determine are finite, as large as these predictions need, with standard errors of
    inf. Where all rows are separated the deviance and the variances are zero. With a ``prior``
    there is a maximum, and no warning.

    Examples
    --------
    >>> from skmixed import MixedLogisticClassifier
    >>> from skmixed.datasets import load_verbagg
    >>> verbagg = load_verbagg().frame
    >>> formula = "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)"
    >>> model = MixedLogisticClassifier(formula).fit(verbagg)
    >>> model.classes_.tolist(), round(model.deviance_, 4)
    (['N', 'Y'], 8151.3997)
    >>> model.predict_proba(verbagg[:1]).round(3)
    array([[0.318, 0.682]])
    """

    _parameter_constraints: ClassVar[dict] = {
        **GeneralizedMixedModel._parameter_constraints,
        "link": [StrOptions(set(Binomial.links))],
    }

    def __init__(
        self,
        formula=None,
        *,
        link="logit",
        n_agq=1,
        rank_deficient="drop",
        unseen_groups="population",
        missing="raise",
        unknown_categories="raise",
        prior_weights=None,
        max_iter=100,
        tol=1e-8,
        verbose=0,
        keep_factor=False,
        trusted=False,
        relationship=None,
        prior=None,
        max_time=None,
        warm_start=False,
        solver="auto",
        n_probes="auto",
        random_state=0,
    ):
        self.formula = formula
        self.link = link
        self.n_agq = n_agq
        self.rank_deficient = rank_deficient
        self.unseen_groups = unseen_groups
        self.missing = missing
        self.unknown_categories = unknown_categories
        self.prior_weights = prior_weights
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.keep_factor = keep_factor
        self.trusted = trusted
        self.relationship = relationship
        self.prior = prior
        self.max_time = max_time
        self.warm_start = warm_start
        self.solver = solver
        self.n_probes = n_probes
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _own_family(self):
        return make_family("binomial", self.link)

    def _labels_of(self, values):
        """Numbers and labels; None for proportions with trials, and for what is no response."""
        if not is_numeric(values):
            return numbered_labels(values)
        numbers = np.asarray(values, dtype=float)
        known = numbers[~np.isnan(numbers)]
        if not np.isfinite(known).all() or (self.prior_weights is not None and _fractions(known)):
            return None
        _check_trials(known, type(self).__name__)
        check_classification_targets(known)
        return numbered_labels(values)

    def _outcome(self, design, family, labels):
        y = design.y
        if y.ndim == 1 and labels is None and design.weights is None:
            # numbers that an expression on the left of the formula gave
            _check_trials(y, type(self).__name__)
            labels = np.unique(y)
            design = replace(design, y=np.searchsorted(labels, y).astype(float))
            labels = labels.astype(int) if np.array_equal(labels, np.round(labels)) else labels
        return super()._outcome(design, family, labels)

    @watched
    def fit(self, X, y=None, *, groups=None, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : DataFrame or array of n rows
            Covariates, grouping factors and, for a two-sided formula, the response.
        y : (n,), optional
            Two labels, or proportions if ``prior_weights`` names the trials.
        groups : (n,), optional
            One more column, named ``groups``.
        sample_weight : (n,), optional
            How often each row counts: weight 2 is the row twice, weight 0 the row left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For one class or more than two, and for data or formulas that cannot determine the
            model; the message names the column and the remedy.
        """
        family = self._own_family()
        design, fit, classes, separated = self._fit(family, X, y, groups, sample_weight)
        self._tell_separation(separated)
        classes = np.array([0, 1]) if classes is None else classes
        self._tell_order(classes)
        return self._publish(design, fit, family_=family, classes_=classes)

    def _tell_order(self, classes):
        """Warn where scorers, which sort labels, would take one class for the other."""
        if np.array_equal(classes, np.unique(classes)):
            return
        first, second = classes.tolist()
        warn(
            f"{type(self).__name__}: classes_ is [{first!r}, {second!r}], the order of the "
            "categories of the response, and the model is of the probability of "
            f"{second!r}. scikit-learn's scorers of probabilities and decisions sort labels and "
            "would take one class for the other: for those give the labels as text, or sort the "
            "categories",
            ClassOrderWarning,
        )

    def decision_function(self, X, *, groups=None, random_effects=True):
        """Linear predictor, shifted so that it is positive where the second class is likelier.

        For the symmetric links (logit, probit, cauchit) the shift is zero.
        """
        check_is_fitted(self)
        return self._predict_eta(X, groups, random_effects, False)[0] - self._even

    @property
    def _even(self):
        """The linear predictor at which both classes are equally likely."""
        return 0.0 if self.link in ("logit", "probit", "cauchit") else float(
            self.family_.link.link(0.5)
        )  # fmt: skip

    def predict_proba(self, X, *, groups=None, random_effects=True, marginal=False, history=None):
        """Probabilities (n, 2) of the two classes, in the order of ``classes_``.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
        random_effects : bool or list of str, default True
            At the conditional modes of the rows' levels; at random effects of zero; or with the
            conditional modes of the grouping factors in the list, zero for the others.
        marginal : bool, default False
            Averaged over the distribution of the random effects, of all grouping factors or of
            those in the list. No grouping column is needed, unless ``unseen_groups`` is "raise" or
            "nan" or levels are related.
        history : tuple (X, y), optional
            As for :meth:`predict`.
        """
        check_is_fitted(self)
        p = self._with_history(history)._mean(X, groups, random_effects, marginal)
        return np.column_stack([1 - p, p])

    def predict_log_proba(self, X, *, groups=None, random_effects=True, marginal=False):
        """Logarithms of :meth:`predict_proba`."""
        check_is_fitted(self)
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, groups=groups, random_effects=random_effects,
                                             marginal=marginal))  # fmt: skip

    def predict(self, X, *, groups=None, random_effects=True, scale="class", return_std=False,
                history=None):  # fmt: skip
        """The likelier class of every row.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
        random_effects : bool or list of str, default True
            As for :meth:`predict_proba`.
        scale : {"class", "response", "link"}, default "class"
            Labels, the probability of the second class, or the linear predictor.
        return_std : bool, default False
            Also return the standard error of the linear predictor.
        history : tuple (X, y), optional
            Further rows with their response, as :meth:`condition` takes them in: the random
            effects of this call know them. Models fitted with ``groups`` need (X, y, groups).

        Returns
        -------
        ndarray of shape (n,), or two of them
        """
        check_is_fitted(self)
        check_scale(scale, ("class", "response", "link"), False)
        eta, std = self._with_history(history)._predict_eta(X, groups, random_effects, return_std)
        if scale == "class":
            result = self._classes_at(eta)
        else:
            result = eta if scale == "link" else self._mean_at(eta)
        return (result, std) if return_std else result

    def _classes_at(self, eta):
        """The likelier class at every linear predictor; NaN where that is missing."""
        labels = self.classes_[(eta > self._even).astype(int)]
        missing = np.isnan(eta)
        if missing.any():
            labels = labels.astype(float if labels.dtype.kind in "biuf" else object)
            labels[missing] = np.nan
        return labels

    def score(self, X, y=None, *, groups=None, sample_weight=None):
        """Share of rows, or of trials, whose class is predicted.

        ``y`` may be left out where the formula names the response. With ``missing="drop"`` the
        share is that among the complete rows.
        """
        check_is_fitted(self)
        outcomes = self._outcomes(X, y)
        eta = self._predict_eta(X, groups, True, False)[0]
        weight = np.ones(len(eta)) if sample_weight is None else column_or_1d(sample_weight)
        check_consistent_length(eta, outcomes, weight)
        known = ~(np.isnan(eta) | np.isnan(outcomes).any(axis=1))
        if self.missing != "drop" and not known.all():
            raise ValueError(
                f"{type(self).__name__}.score: the response or the prediction is missing in "
                f"{int(np.sum(~known))} of {len(known)} rows: leave them out, or set missing='drop'"
            )
        failures, successes, trials = outcomes[known].T
        right = np.where(eta[known] > self._even, successes, failures)
        return float(np.sum(weight[known] * right) / np.sum(weight[known] * trials))

    def _outcomes(self, X, y):
        """Failures, successes and trials (n, 3) of new rows; a label is one trial, or its weight.

        A label that is none of the classes is neither a success nor a failure.
        """
        terms = None if self.formula is None else parse_formula(self.formula)
        table = self._table(X, reset=False)
        if y is None and terms is not None and len(terms.responses) == 2:
            successes, failures = self._counts_of(table, terms).T
            return np.column_stack([failures, successes, failures + successes])
        if y is None:
            response = self._response_of(X)
        else:
            check_one_response(y, table.n_rows, type(self).__name__)
            response = self._codes_of(response_column(y))
        trials = self._weights_in(table)
        parts = np.column_stack([1 - response, response, np.ones(len(response))])
        parts[response > 1] = 0.0, 0.0, 1.0
        return parts * trials[:, None]


def _fractions(known):
    return bool(np.any((known > 0) & (known < 1)))


def _check_trials(known, who):
    """Raise an error for proportions of unknown numbers of trials."""
    known = known[np.isfinite(known)]
    if _fractions(known) and np.all((known >= 0) & (known <= 1)):
        first = known[known != np.round(known)][0]
        raise ValueError(
            f"{who}: the response holds proportions such as {first:g} and no number of trials: "
            "name the column of trials in prior_weights"
        )
