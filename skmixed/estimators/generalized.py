"""MixedGLMRegressor and MixedLogisticClassifier: generalised linear mixed models."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import ClassVar

import numpy as np
import pandas as pd
from scipy.special import roots_hermitenorm
from scipy.stats import norm
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skmixed.design import build_design, check_identifiable, parse_formula
from skmixed.estimators._base import MixedModelBase, _spread
from skmixed.estimators._response import encode_labels, positive_or_count, successes_and_trials
from skmixed.estimators._summary import MixedSummary, generalised_summary
from skmixed.estimators._table import is_frame
from skmixed.estimators.mixed import MixedLinearRegressor
from skmixed.exceptions import SeparationWarning, SingularFitWarning
from skmixed.families import FAMILIES, LINKS, Binomial, make_family
from skmixed.linalg.threads import one_thread
from skmixed.models.glmm import approximation, fit_glmm
from skmixed.models.pirls import NoMode
from skmixed.models.separation import Separation, one_sided_groups, separates_jointly

# Columns or categories that a warning names.
MAX_SEPARATED = 10
# Nodes of the quadrature over the random effects in marginal predictions.
_MARGINAL_NODES = 60
# A negative binomial theta above this cannot be told from the Poisson limit.
_POISSON = 1e7


class GeneralizedMixedModel(MixedModelBase):
    """What the two estimators share: fit, prediction on either scale, summary."""

    _parameter_constraints: ClassVar[dict] = {
        **MixedModelBase._parameter_constraints,
        "n_agq": [Interval(Integral, 0, None, closed="left")],
    }

    # Fit

    def _fit(self, family, X, y, groups, sample_weight):
        """The design and the GLMMFit; the rows are gone when it returns."""
        design = self._design(X, y, groups, sample_weight)
        y, w = self._outcome(design, family)
        self._check_terms(design, family, w)
        with one_thread():
            problem = approximation(design, y, w, family, self.n_agq)
            separation = Separation.find(problem, design)
        if separation is not None:
            problem = separation.remaining
        try:
            fit = fit_glmm(
                problem,
                max_iter=self.max_iter,
                tol=self.tol,
                callback=self._print_step(problem.objective) if self.verbose else None,
            )
        except NoMode as error:
            raise ValueError(
                f"{type(self).__name__}: no start has a finite likelihood under family="
                f"{family.name!r} with link={family.link.name!r} ({error}). Use the link "
                f"{family.links[0]!r}, check offsets, or take random effects out"
            ) from None
        with one_thread():
            self._separation = self._separated(problem, fit, separation, design)
            return design, fit if separation is None else separation.complete(fit)

    def _outcome(self, design, family):
        """Response and prior weights as the family takes them."""
        who = type(self).__name__
        if family.name == "binomial":
            return successes_and_trials(design.y, design.weights, who)
        positive_or_count(design.y, family, who)
        return design.y, np.ones(len(design.y)) if design.weights is None else design.weights

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

    def _print_step(self, objective):
        def show(iteration, value, parameters):
            theta = objective.layout.user_theta(objective.split(parameters)[1])
            print(f"{iteration:3d}: {value:14.8g}: {np.array2string(theta, precision=6)}")

        return show

    def _separated(self, problem, fit, separation, design):
        """What separates: columns and their number of rows, one-sided groups, all groups."""
        names = list(dict.fromkeys(term.group for term in design.random))
        rows = problem.objective.rows
        groups = [names[g] for g in one_sided_groups(rows)]
        jointly = names if not groups and separates_jointly(problem, fit) else []
        if separation is None:
            return [], 0, groups, jointly
        return separation.names(), int(np.count_nonzero(separation.dropped)), groups, jointly

    def _tell_separation(self, stacklevel):
        columns, n_rows, groups, jointly = self._separation
        del self._separation
        told = []
        if columns:
            more = len(columns) - MAX_SEPARATED
            shown = [*columns[:MAX_SEPARATED], *[f"{more} more"] * (more > 0)]
            told.append(
                f"{', '.join(shown)} separate{'s' * (len(columns) == 1)} the outcomes perfectly: "
                "the likelihood grows without limit along these coefficients. Reported is the "
                f"limit: {n_rows} row{'s' * (n_rows > 1)} predicted without error, coefficients "
                "large enough for that with standard errors of inf, and all else as without these "
                "rows. Merge categories, leave columns out, or penalise"
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
            message = f"{type(self).__name__}: {text}"
            warnings.warn(message, SeparationWarning, stacklevel=stacklevel)

    # Labels

    def _training_table(self, X, y):
        table, y = super()._training_table(X, y)
        if y is None:
            table = self._with_codes(table, parse_formula(self.formula).response)
        return table, y

    def _with_codes(self, table, response):
        """The table with a response column of labels as 0 and 1."""
        names = list(table.columns) if is_frame(table) else list(table)
        if not self._takes_labels or response not in names:
            return table
        values = table[response]
        if self._is_numeric(values):
            return table
        codes, self._classes = encode_labels(
            values, getattr(self, "_classes", None), type(self).__name__
        )
        if isinstance(table, pd.DataFrame):
            return table.assign(**{response: codes})
        if is_frame(table):
            return table.with_columns(type(values)(response, codes))
        return table | {response: codes}

    def _response_of(self, X):
        """The response that the formula names: labels as 0 and 1, two counts as a proportion."""
        terms = None if self.formula is None else parse_formula(self.formula)
        if terms is None or terms.response is None:
            return super()._response_of(X)
        X, _ = self._read(X, reset=False)
        table = self._with_codes(self._named(X), terms.response)
        if len(terms.responses) == 1:
            return super()._response_of(table)
        y = build_design(f"{terms.response} ~ 1", table, trusted=self.trusted).y
        with np.errstate(invalid="ignore"):
            return y[:, 0] / y.sum(axis=1)

    def _is_numeric(self, values):
        kind = getattr(getattr(values, "dtype", None), "kind", None)
        return kind is not None and kind in "iuf"

    @property
    def _takes_labels(self):
        raise NotImplementedError

    # Attributes

    @property
    def dispersion_(self) -> float:
        """Dispersion phi, theta of the negative binomial, 1.0 for families without.

        The variance of a response is phi mu^2 (gamma), phi mu^3 (inverse Gaussian), phi
        (Gaussian), each divided by the prior weight, and mu + mu^2 / theta (negative binomial).
        """
        return self.result_.dispersion

    @property
    def n_pirls_steps_(self) -> int:
        """Newton steps of the searches for modes, over all evaluations."""
        return self.result_.n_steps

    # Prediction

    def _mean(self, X, groups, random_effects, marginal):
        """E(y) of every row: at its conditional modes, at b = 0, or averaged over b."""
        if marginal:
            return self._marginal_mean(X, groups)
        eta, _ = self._predict_eta(X, groups, random_effects, False)
        return self.family_.mean(eta)

    def _marginal_mean(self, X, groups):
        """The integral of the mean over b ~ N(0, covariance), one-dimensional for every row."""
        random = bool(self.labels_.terms)
        design = self._new_design(X, groups, random=random)
        eta, variance = self._linear_predictor(design, False), np.zeros(len(design.X))
        for term, covariance in zip(design.random, self.result_.covariances, strict=True):
            variance += np.einsum("ni,ij,nj->n", term.z, covariance, term.z)
        nodes, weights = roots_hermitenorm(_MARGINAL_NODES)
        weights = weights / weights.sum()
        sd, total = np.sqrt(variance), np.zeros(len(eta))
        for node, weight in zip(nodes, weights, strict=True):
            total += weight * self.family_.mean(eta + node * sd)
        return _spread(total, design)

    def predict_interval(self, X, *, level=0.95, kind="mean", groups=None) -> np.ndarray:
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

        Returns
        -------
        ndarray of shape (n, 2)
            The mean at the limits of the normal interval for the linear predictor.
        """
        check_is_fitted(self)
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        if kind != "mean":
            raise ValueError(
                f"{type(self).__name__} gives intervals for the mean, got kind={kind!r}: for new "
                "observations take quantiles of simulate()"
            )
        eta, std = self._predict_eta(X, groups, True, True)
        half = norm.ppf(0.5 + level / 2) * std
        return np.sort(self.family_.mean(np.column_stack([eta - half, eta + half])), axis=1)

    def simulate(self, X, n_samples=1, random_state=None, *, groups=None):
        """Responses drawn from the fitted model for the rows of X.

        Every sample draws new random effects for all levels, seen or not, and new responses; for
        binomial rows with trials these are proportions.

        Parameters
        ----------
        X : DataFrame or array of n rows
        n_samples : int
        random_state : int, RandomState or None
        groups : (n,), optional

        Returns
        -------
        ndarray of shape (n, n_samples)
        """
        check_is_fitted(self)
        rng = check_random_state(random_state)
        eta = self._simulate_eta(X, groups, n_samples, rng, residual=False)
        w = np.broadcast_to(self._new_weights(X), len(eta))[:, None]
        kept = np.isfinite(eta[:, 0])
        draws = np.full(eta.shape, np.nan)
        mu = self.family_.mean(eta[kept])
        draws[kept] = self.family_.sample(mu, w[kept], self.dispersion_, rng)
        return draws

    def summary(self) -> MixedSummary:
        """Estimates with z values and p-values; the object has an HTML form for notebooks."""
        check_is_fitted(self)
        family = self.family_
        mixed = bool(self.labels_.terms)
        how = "maximum likelihood"
        if mixed:
            how += " (" + _approximation_name(self.result_.n_agq) + ")"
        title = f"Generalised linear {'mixed ' if mixed else ''}model fit by {how}\n"
        title += f"Family: {family.name} (link {family.link.name})"
        if family.dispersion is not None:
            title += f", {family.dispersion} {self.dispersion_:.6g}"
        return generalised_summary(self, title, "deviance", residual=False)


def _approximation_name(n_agq):
    if n_agq == 0:
        return "fixed effects at the joint mode"
    if n_agq == 1:
        return "Laplace approximation"
    return f"adaptive Gauss-Hermite quadrature, {n_agq} nodes"


class MixedGLMRegressor(RegressorMixin, GeneralizedMixedModel):
    """Generalised linear mixed model, fitted by maximum likelihood.

    .. math:: g(E(y \\mid b)) = \\eta = X\\beta + Zb, \\quad b \\sim N(0, \\Lambda_\\theta
        \\Lambda_\\theta')

    The integral over the random effects is approximated by Laplace's method or by adaptive
    Gauss-Hermite quadrature; the approximation is minimised jointly over the fixed effects, the
    covariance parameters and the dispersion by a Newton method with exact gradients.

    Parameters
    ----------
    formula : str, optional
        The model in lme4's language, as for :class:`MixedLinearRegressor`. A binomial response
        may be ``cbind(successes, failures)``.
    family : {"poisson", "binomial", "negative_binomial", "gamma", "inverse_gaussian", \
"gaussian"}, default "poisson"
    link : str, optional
        ``"logit"``, ``"probit"``, ``"cloglog"``, ``"cauchit"`` or ``"log"`` (binomial); ``"log"``,
        ``"sqrt"``, ``"identity"`` (counts); ``"log"``, ``"inverse"``, ``"identity"`` (gamma),
        also ``"inverse_squared"`` (inverse Gaussian); ``"identity"``, ``"log"``, ``"inverse"``
        (Gaussian). The first of each is the default.
    n_agq : int, default 1
        1: Laplace approximation. More: nodes per effect of an adaptive Gauss-Hermite quadrature,
        for models with one grouping factor. 0: the fixed effects are taken at their joint mode
        with the random effects; fast and slightly biased.
    rank_deficient : {"drop", "minimum_norm", "raise"}, default "drop"
    unseen_groups : {"population", "raise", "nan"}, default "population"
    missing : {"raise", "drop"}, default "raise"
        As for :class:`MixedLinearRegressor`.
    prior_weights : str, optional
        Column of X: the number of trials of a binomial proportion; the dispersion divided by it;
        for counts a factor of the log-likelihood.
    max_iter : int, default 100
    tol : float, default 1e-8
    verbose : int, default 0
    trusted : bool, default False
        As for :class:`MixedLinearRegressor`.

    Attributes
    ----------
    coef_, intercept_, fixed_effects_, standard_errors_, vcov_
        Fixed effects; standard errors from the Hessian over all parameters.
    random_effects_, random_effects_std_, covariances_, theta_
        Conditional modes, and the covariance of the effects on the scale of the linear predictor.
    dispersion_ : float
        Dispersion, or theta of the negative binomial.
    sigma_ : float
        1.0: covariances are not relative to a residual variance.
    deviance_ : float
        -2 log-likelihood as approximated, with all constants.
    log_likelihood_, aic_, bic_ : float
    family_ : Family
    n_evaluations_, n_pirls_steps_ : int
        Evaluations of the approximated likelihood, and Newton steps within them.
    result_ : GLMMFit
    n_obs_, df_resid_, aliased_, is_singular_, converged_, n_iter_, trace_, n_features_in_, \
feature_names_in_
        As for :class:`MixedLinearRegressor`.

    Notes
    -----
    The Laplace approximation uses the observed information, re-computed at the converged mode.
    lme4 uses the expected information for non-canonical links and a slightly older iterate, so
    its log-likelihoods differ there; glmmTMB agrees.

    References
    ----------
    Breslow and Clayton (1993), JASA 88, 9-25; Pinheiro and Chao (2006), Journal of Computational
    and Graphical Statistics 15, 58-81.

    Examples
    --------
    >>> from skmixed import MixedGLMRegressor
    >>> from skmixed.datasets import load_grouseticks
    >>> ticks = load_grouseticks().frame
    >>> model = MixedGLMRegressor("TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)",
    ...                           family="negative_binomial").fit(ticks)
    >>> round(model.deviance_, 4), round(model.dispersion_, 3)
    (1777.8169, 3.293)
    """

    _parameter_constraints: ClassVar[dict] = {
        **GeneralizedMixedModel._parameter_constraints,
        "family": [StrOptions(set(FAMILIES))],
        "link": [StrOptions(set(LINKS)), None],
    }

    def __init__(
        self,
        formula=None,
        family="poisson",
        link=None,
        *,
        n_agq=1,
        rank_deficient="drop",
        unseen_groups="population",
        missing="raise",
        prior_weights=None,
        max_iter=100,
        tol=1e-8,
        verbose=0,
        trusted=False,
    ):
        self.formula = formula
        self.family = family
        self.link = link
        self.n_agq = n_agq
        self.rank_deficient = rank_deficient
        self.unseen_groups = unseen_groups
        self.missing = missing
        self.prior_weights = prior_weights
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.trusted = trusted

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.family not in ("gaussian", "binomial")
        return tags

    @property
    def _takes_labels(self):
        return self.family == "binomial"

    def _read_response(self, y, n):
        if self._takes_labels and not self._is_numeric(np.asarray(y)):
            y, self._classes = encode_labels(column_or_1d(y, warn=True), None, type(self).__name__)
        return super()._read_response(y, n)

    def fit(self, X, y=None, *, groups=None, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : DataFrame or array of n rows
            Covariates, grouping factors and, for a two-sided formula, the response.
        y : (n,), optional
            The response, for a one-sided formula.
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
            For a response outside the family's range, and for data or formulas that cannot
            determine the model; the message names the column and the remedy.
        """
        self._validate_params()
        vars(self).pop("_classes", None)
        family = make_family(self.family, self.link)
        design, fit = self._fit(family, X, y, groups, sample_weight)
        self.family_ = family
        self._publish(design, fit)
        self._tell_separation(stacklevel=3)
        self._tell_dispersion(stacklevel=3)
        return self

    def _tell_dispersion(self, stacklevel):
        if self.family == "negative_binomial" and self.dispersion_ > _POISSON:
            warnings.warn(
                f"{type(self).__name__}: the counts vary no more than Poisson counts do: theta has "
                f"no finite estimate (the search stopped at {self.dispersion_:.3g}), the fit is "
                "that of family='poisson'",
                SingularFitWarning,
                stacklevel=stacklevel,
            )

    def predict(self, X, *, groups=None, random_effects=True, scale="response", marginal=False,
                return_std=False):  # fmt: skip
        """Predicted mean of every row.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        random_effects : bool, default True
            At the conditional modes of the rows' levels; otherwise at random effects of zero.
        scale : {"response", "link"}, default "response"
            The mean, or the linear predictor.
        marginal : bool, default False
            The mean averaged over the distribution of the random effects: what a population, and
            not its typical member, is expected to show.
        return_std : bool, default False
            Also return the standard error of the linear predictor: the uncertainty of the fixed
            effects and of the conditional modes and, for an unseen level, the variance between
            levels.

        Returns
        -------
        ndarray of shape (n,), or two of them
        """
        check_is_fitted(self)
        _check_scale(scale, ("response", "link"), marginal)
        if not return_std:
            if scale == "response":
                return self._mean(X, groups, random_effects, marginal)
            return self._predict_eta(X, groups, random_effects, False)[0]
        eta, std = self._predict_eta(X, groups, random_effects, True)
        if scale == "link":
            return eta, std
        return (self._mean(X, groups, False, True) if marginal else self.family_.mean(eta)), std

    def score(self, X, y=None, *, groups=None, sample_weight=None):
        """Coefficient of determination R^2 of :meth:`predict`.

        ``y`` may be left out where the formula names the response.
        """
        check_is_fitted(self)
        return MixedLinearRegressor.score(self, X, y, groups=groups, sample_weight=sample_weight)


def _check_scale(scale, known, marginal):
    if scale not in known:
        raise ValueError(f"scale must be one of {', '.join(map(repr, known))}, got {scale!r}")
    if marginal and scale == "link":
        raise ValueError(
            "marginal=True averages the mean over the random effects, there is no marginal linear "
            "predictor: use scale='response'"
        )


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
    n_agq, rank_deficient, unseen_groups, missing, prior_weights, max_iter, tol, verbose, \
trusted
        As for :class:`MixedGLMRegressor`.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; the second is the one whose probability is modelled.
    others
        As for :class:`MixedGLMRegressor`.

    Notes
    -----
    Where columns separate the classes the likelihood has no maximum. The fit is its limit, with a
    :class:`SeparationWarning` that names the columns: the rows that are separated have predictions
    of 0 or 1, everything that the other rows determine is as without them, and coefficients that
    they do not determine are finite, as large as these predictions need, with standard errors of
    inf. Where all rows are separated the deviance and the variances are zero.

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
    _takes_labels = True

    def __init__(
        self,
        formula=None,
        *,
        link="logit",
        n_agq=1,
        rank_deficient="drop",
        unseen_groups="population",
        missing="raise",
        prior_weights=None,
        max_iter=100,
        tol=1e-8,
        verbose=0,
        trusted=False,
    ):
        self.formula = formula
        self.link = link
        self.n_agq = n_agq
        self.rank_deficient = rank_deficient
        self.unseen_groups = unseen_groups
        self.missing = missing
        self.prior_weights = prior_weights
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.trusted = trusted

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _read_response(self, y, n):
        """Labels as 0 and 1; proportions, where trials are given, as they are."""
        if np.asarray(y).ndim == 2 and np.asarray(y).shape[1] != 1:
            return super()._read_response(y, n)
        y = column_or_1d(y, warn=True)
        numeric = self._is_numeric(y)
        if not numeric or not self._are_proportions(y):
            missing = pd.isna(pd.Series(y)).to_numpy()
            if numeric and not (self.missing == "drop" or np.isfinite(y[~missing]).all()):
                return super()._read_response(y, n)
            if self.missing == "drop" or not missing.any():
                check_classification_targets(y[~missing])
                y, self._classes = encode_labels(y, None, type(self).__name__)
        return super()._read_response(y, n)

    def _are_proportions(self, y):
        known = y[np.isfinite(y)]
        return self.prior_weights is not None and bool(np.any((known > 0) & (known < 1)))

    def _outcome(self, design, family):
        y = design.y
        if y.ndim == 1 and not hasattr(self, "_classes") and design.weights is None:
            # labels that are numbers, from the left of the formula
            self._check_numbers(y)
            y, self._classes = encode_labels(y, None, type(self).__name__)
        return successes_and_trials(y, design.weights, type(self).__name__)

    def _check_numbers(self, y):
        if np.any(y != np.round(y)) and np.all((y >= 0) & (y <= 1)):
            raise ValueError(
                f"{type(self).__name__}: the response holds proportions such as "
                f"{y[y != np.round(y)][0]:g} and no number of trials: name the column of trials "
                "in prior_weights"
            )

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
        self._validate_params()
        vars(self).pop("_classes", None)
        family = make_family("binomial", self.link)
        design, fit = self._fit(family, X, y, groups, sample_weight)
        self.classes_ = np.asarray(getattr(self, "_classes", np.array([0, 1])))
        self.family_ = family
        self._publish(design, fit)
        self._tell_separation(stacklevel=3)
        return self

    def decision_function(self, X, *, groups=None, random_effects=True):
        """Linear predictor, shifted so that it is positive where the second class is likelier.

        For the symmetric links (logit, probit, cauchit) the shift is zero.
        """
        check_is_fitted(self)
        eta, _ = self._predict_eta(X, groups, random_effects, False)
        return eta - self._even

    @property
    def _even(self):
        """The linear predictor at which both classes are equally likely."""
        return 0.0 if self.link in ("logit", "probit", "cauchit") else float(
            self.family_.link.link(0.5)
        )  # fmt: skip

    def predict_proba(self, X, *, groups=None, random_effects=True, marginal=False):
        """Probabilities (n, 2) of the two classes, in the order of ``classes_``.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
        random_effects : bool, default True
            At the conditional modes of the rows' levels; otherwise at random effects of zero.
        marginal : bool, default False
            Averaged over the distribution of the random effects.
        """
        check_is_fitted(self)
        p = self._mean(X, groups, random_effects, marginal)
        return np.column_stack([1 - p, p])

    def predict_log_proba(self, X, *, groups=None, random_effects=True, marginal=False):
        """Logarithms of :meth:`predict_proba`."""
        check_is_fitted(self)
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X, groups=groups, random_effects=random_effects,
                                             marginal=marginal))  # fmt: skip

    def predict(self, X, *, groups=None, random_effects=True, scale="class", return_std=False):
        """The likelier class of every row.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
        random_effects : bool, default True
        scale : {"class", "response", "link"}, default "class"
            Labels, the probability of the second class, or the linear predictor.
        return_std : bool, default False
            Also return the standard error of the linear predictor.

        Returns
        -------
        ndarray of shape (n,), or two of them
        """
        check_is_fitted(self)
        _check_scale(scale, ("class", "response", "link"), False)
        eta, std = self._predict_eta(X, groups, random_effects, return_std)
        if scale == "class":
            result = self._labels_of(eta)
        else:
            result = eta if scale == "link" else self.family_.mean(eta)
        return (result, std) if return_std else result

    def _labels_of(self, eta):
        labels = self.classes_[(eta > self._even).astype(int)]
        missing = np.isnan(eta)
        if missing.any():
            labels = labels.astype(object)
            labels[missing] = np.nan
        return labels

    def score(self, X, y=None, *, groups=None, sample_weight=None):
        """Share of rows whose class is predicted.

        ``y`` may be left out where the formula names the response.
        """
        check_is_fitted(self)
        y = self._labels_in(X) if y is None else y
        return accuracy_score(y, self.predict(X, groups=groups), sample_weight=sample_weight)

    def _labels_in(self, X):
        response = None if self.formula is None else parse_formula(self.formula).response
        X, _ = self._read(X, reset=False)
        table = self._named(X)
        if response is None or response not in (table.columns if is_frame(table) else table):
            raise ValueError(
                f"{type(self).__name__}.score needs y: no column of the data is the response"
            )
        return np.asarray(table[response])
