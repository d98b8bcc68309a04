"""MixedGLMRegressor: generalised linear mixed models as a scikit-learn regressor."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from skmixed._warn import warn
from skmixed.estimators._input import response_column
from skmixed.estimators._operation import watched
from skmixed.estimators._outcome import is_numeric, numbered_labels
from skmixed.estimators.generalized import GeneralizedMixedModel, check_scale
from skmixed.estimators.mixed import r_squared
from skmixed.exceptions import SingularFitWarning
from skmixed.families import FAMILIES, LINKS, make_family

# A negative binomial theta above this cannot be told from the Poisson limit.
_POISSON = 1e7


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
    unknown_categories : {"raise", "nan"}, default "raise"
        As for :class:`MixedLinearRegressor`.
    prior_weights : str, optional
        Column of X: the number of trials of a binomial proportion; the dispersion divided by it;
        for counts a factor of the log-likelihood.
    max_iter : int, default 100
    tol : float, default 1e-8
    verbose : int, default 0
    keep_factor : bool, default False
    trusted : bool, default False
    relationship : dict, optional
        As for :class:`MixedLinearRegressor`.
    prior : {"normal", "t"} or dict, optional
        Prior of the fixed effects; the estimates then maximise likelihood times prior. A slope has
        the density of a normal or a t distribution (7 degrees of freedom) around 0 with scale 2.5
        over two standard deviations of its column (over the distance of the two values of a
        column that has no more), the linear predictor at the means of the columns one with scale
        10. A dict sets ``"kind"``, ``"scale"``, ``"intercept_scale"``, ``"df"``, ``"scaled"``
        (False: scales as they are, for the coefficients and for the intercept itself) and
        ``"coefficients"``, which maps columns of X to a scale, or to a location and a scale, in
        the units of the coefficient; a scale of inf is no prior.
    max_time : float, optional
        Seconds that a fit may take: after them it raises :class:`skmixed.FitTimeoutError`.
    warm_start : bool, default False
        Start from the parameters of the previous fit of this estimator, where it had the same
        terms and columns: the same estimates, in fewer evaluations.
    solver, n_probes, random_state
        As for :class:`MixedLinearRegressor`; the iterative solver is for ``n_agq`` of 0 and 1.

    Attributes
    ----------
    coef_, intercept_, fixed_effects_, standard_errors_, vcov_
        Fixed effects; standard errors from the Hessian over all parameters.
    random_effects_, random_effects_std_, covariances_, structure_, smooths_, theta_
        Conditional modes, and the covariance of the effects on the scale of the linear predictor.
    dispersion_ : float
        Dispersion, or theta of the negative binomial.
    sigma_ : float
        1.0: covariances are not relative to a residual variance.
    deviance_ : float
        -2 log-likelihood as approximated, with all constants, and without a prior.
    penalised_deviance_ : float
        ``deviance_`` and what a prior adds, -2 log of its density over the largest one.
    prior_ : DataFrame or None
        Location and scale of the prior by column of X.
    log_likelihood_, aic_, bic_ : float
    family_ : Family
    classes_ : ndarray of shape (2,)
        Where a binomial response has labels: these, the second the one whose probability is
        modelled. They are in the order of the categories of a categorical, else sorted.
    n_evaluations_, n_pirls_steps_ : int
        Evaluations of the approximated likelihood, and Newton steps within them.
    solver_, n_probes_, n_cg_iterations_, theta_mc_std_, monte_carlo_share_, deviance_mc_std_
        As for :class:`MixedLinearRegressor`; the share is that of theta and of the dispersion.
    result_ : GLMMFit
    linear_dependencies_, random_terms_, n_obs_, df_resid_, aliased_, is_singular_, converged_, \
n_iter_, trace_, n_features_in_, feature_names_in_
        As for :class:`MixedLinearRegressor`.

    Notes
    -----
    The Laplace approximation uses the observed information, re-computed at the converged mode.
    lme4 uses the expected information for non-canonical links and a slightly older iterate, so
    its log-likelihoods differ there; glmmTMB agrees.

    With a prior columns may separate the outcomes: all estimates are finite. Where the linear
    predictor has units (links ``"identity"``, ``"sqrt"``, ``"inverse"`` and
    ``"inverse_squared"``) scales are multiplied by two standard deviations of the response on the
    scale of the link. The prior of the linear predictor at the means is around that of an even
    chance (binomial) or of the mean response. Columns that are left out have no prior.

    References
    ----------
    Breslow and Clayton (1993), JASA 88, 9-25; Pinheiro and Chao (2006), Journal of Computational
    and Graphical Statistics 15, 58-81. Gelman, Jakulin, Pittau and Su (2008), Annals of Applied
    Statistics 2, 1360-1383, for the scales of priors; Chung et al. (2013), Psychometrika 78,
    685-709, for penalised mixed models.

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
        self.family = family
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
        tags.target_tags.positive_only = self.family not in ("gaussian", "binomial")
        return tags

    def _own_family(self):
        return make_family(self.family, self.link)

    def _labels_of(self, values):
        if self.family != "binomial" or is_numeric(values):
            return None
        return numbered_labels(values)

    @watched
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
        family = self._own_family()
        design, fit, classes, separated = self._fit(family, X, y, groups, sample_weight)
        self._tell_separation(separated)
        self._tell_dispersion(fit)
        found = {} if classes is None else {"classes_": classes}
        return self._publish(design, fit, family_=family, **found)

    def _tell_dispersion(self, fit):
        if self.family == "negative_binomial" and fit.dispersion > _POISSON:
            warn(
                f"{type(self).__name__}: the counts vary no more than Poisson counts do: theta has "
                f"no finite estimate (the search stopped at {fit.dispersion:.3g}), the fit is "
                "that of family='poisson'",
                SingularFitWarning,
            )

    def predict(self, X, *, groups=None, random_effects=True, scale="response", marginal=False,
                return_std=False, history=None):  # fmt: skip
        """Predicted mean of every row.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        random_effects : bool or list of str, default True
            At the conditional modes of the rows' levels; at random effects of zero; or with the
            conditional modes of the grouping factors in the list, zero for the others.
        scale : {"response", "link"}, default "response"
            The mean, or the linear predictor.
        marginal : bool, default False
            The mean averaged over the distribution of the random effects: what a population, and
            not its typical member, is expected to show. A list in ``random_effects`` names the
            grouping factors to average over. No grouping column is needed, unless
            ``unseen_groups`` is "raise" or "nan" or levels are related.
        return_std : bool, default False
            Also return the standard error of the linear predictor: the uncertainty of the fixed
            effects and of the conditional modes and, for an unseen level, the variance between
            levels.
        history : tuple (X, y), optional
            Further rows with their response, as :meth:`condition` takes them in: the random
            effects of this call know them. Models fitted with ``groups`` need (X, y, groups).

        Returns
        -------
        ndarray of shape (n,), or two of them
        """
        check_is_fitted(self)
        check_scale(scale, ("response", "link"), marginal)
        if marginal and not return_std:
            return self._mean(X, groups, random_effects, True)
        model = self if history is None else self._with_history(history)
        eta, std = model._predict_eta(X, groups, random_effects, return_std)
        if marginal:
            return self._mean(X, groups, random_effects, True), std
        result = eta if scale == "link" else self._mean_at(eta)
        return (result, std) if return_std else result

    def score(self, X, y=None, *, groups=None, sample_weight=None):
        """Coefficient of determination R^2 of :meth:`predict`.

        ``y`` may be left out where the formula names the response. Classes count as 0 and 1, two
        counts as their proportion; rows without trials say nothing.
        """
        check_is_fitted(self)
        if y is not None:
            return r_squared(self, X, self._observed(response_column(y)), groups, sample_weight)
        observed = self._response_of(X)
        empty = np.isnan(observed) & self._has_counts  # two counts that are missing are an error
        return r_squared(self, X, observed, groups, sample_weight, left_out=empty)
