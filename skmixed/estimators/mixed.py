"""MixedLinearRegressor: linear mixed models as a scikit-learn regressor."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from skmixed.design.columns import without_infinity
from skmixed.estimators._base import MixedModelBase
from skmixed.estimators._batches import FitsBatches
from skmixed.estimators._checks import check_design, check_objective
from skmixed.estimators._operation import watched
from skmixed.estimators._residual import (
    residual_covariance,
    residual_parameters,
    tell_of_residual,
)
from skmixed.estimators._responses import SeveralResponses, is_several, several_responses
from skmixed.estimators._solver import ChoosesSolver
from skmixed.estimators._summary import MixedSummary, linear_summary
from skmixed.models.correlated import deviance_of
from skmixed.models.lmm import fit_lmm
from skmixed.models.warm import warm_theta


class MixedLinearRegressor(
    ChoosesSolver, FitsBatches, RegressorMixin, SeveralResponses, MixedModelBase
):
    """Linear mixed model, fitted by restricted or full maximum likelihood.

    .. math:: y = X\\beta + Zb + \\varepsilon, \\quad b \\sim N(0, \\sigma^2 \\Lambda_\\theta
        \\Lambda_\\theta'), \\quad \\varepsilon \\sim N(0, \\sigma^2 W^{-1})

    The criterion is profiled over :math:`\\beta` and :math:`\\sigma` and minimised over
    :math:`\\theta`, the entries of the relative covariance factors, by a Newton method with exact
    gradients. After one pass over the rows no step depends on their number.

    Parameters
    ----------
    formula : str, optional
        The model in lme4's language: ``"x + (x | g)"`` with ``fit(X, y)``, or
        ``"y ~ x + (x | g)"`` with ``fit(df)``. Without a formula every column of X is a fixed
        effect and the model is ordinary least squares (with ``groups=``: a random intercept per
        group). Columns of arrays are named ``x0, x1, ...``.
    reml : bool, default True
        Restricted maximum likelihood (REML), or maximum likelihood (ML).
    rank_deficient : {"drop", "minimum_norm", "raise"}, default "drop"
        What to do with columns of X that depend on earlier ones: leave them out (coefficient NaN
        in ``fixed_effects_``, 0 in ``coef_``), take the solution with the shortest vector of
        slopes (as scikit-learn's LinearRegression does, the intercept being free), or raise. The
        first two warn and predict alike on rows that obey the dependence.
    unseen_groups : {"population", "raise", "nan"}, default "population"
        Prediction for levels that were not in the training data: with a random effect of 0, not
        at all, or NaN.
    missing : {"raise", "drop"}, default "raise"
        Rows with missing values are an error, or are left out of the fit and predicted as NaN.
        A missing level of a grouping factor is one more unseen level to predictions, unless
        ``unseen_groups="raise"``.
    unknown_categories : {"raise", "nan"}, default "raise"
        Rows of a prediction with a category of a fixed factor that the training data did not have
        are an error, or predicted as NaN.
    prior_weights : str, optional
        Column w of X: the residual variance of a row is sigma^2 / w.
    max_iter : int, default 100
        Most steps of the optimiser.
    tol : float, default 1e-8
        Decrease of the criterion that the optimiser may leave undone.
    verbose : int, default 0
        Print the criterion and theta of every step.
    keep_factor : bool, default False
        Keep in files what standard errors and intervals of predictions need, however large it is,
        with the cross-products behind it; otherwise these are left out, and beyond 16 MB all of it.
    trusted : bool, default False
        Evaluate expressions of the formula as Python code, at the fit and at every prediction,
        where they are more than arithmetic on columns: only for formulas of your own.
    relationship : dict, optional
        ``{"animal": K}``: random effects of this grouping factor have covariances proportional to
        K, a DataFrame whose index and columns are the levels (or a pair (array, levels), or a
        function that returns one of these). Levels of K without rows have effects too. See
        :func:`skmixed.pedigree_relationship` and :func:`skmixed.marker_relationship`.
    residual : str, optional
        Covariance structure of the residuals, several joined by ``*``: ``"ident(g)"`` a variance
        for every level; ``"ar1(t | g)"`` and ``"car1(t | g)"`` correlation rho^steps, or
        exp(-gap / range), of the rows of a level; ``"us(v | g)"``, ``"cs(v | g)"``,
        ``"homcs(v | g)"``, ``"toep(v | g)"``, ``"hetar1(v | g)"`` a covariance over visits;
        ``"power(x)"``, ``"exponential(x)"`` standard deviations x^delta, exp(delta x). By default
        residuals are independent with one variance. A random-effects term is not needed then.
    solver : {"auto", "direct", "iterative"}, default "auto"
        Exact factors of the mixed-model equations, or conjugate gradients with stochastic traces
        for crossed grouping factors of very many levels. "auto" is direct while that takes some
        20 seconds and half of the memory at most.
    n_probes : "auto" or int, default "auto"
        Random vectors of the iterative solver: 8, and up to 64 until the Monte-Carlo error of theta
        is below 1 % of every standard error.
    random_state : int, default 0
        Seed of these vectors: the same data give the same numbers.
    max_time : float, optional
        Seconds that a fit may take: after them it raises :class:`skmixed.FitTimeoutError`.
    warm_start : bool, default False
        Start from the parameters of the previous fit of this estimator, where it had the same
        terms and columns: the same estimates, in fewer evaluations.

    Attributes
    ----------
    coef_ : ndarray of shape (p,)
        Fixed effects without the intercept, in units of y per unit of the column; 0 where a column
        was left out.
    intercept_ : float
        0.0 in a model without one.
    fixed_effects_, standard_errors_ : Series of p + 1
        With the intercept; NaN where a column was left out.
    vcov_ : DataFrame of shape (p + 1, p + 1)
        Covariance of the fixed effects.
    random_effects_, random_effects_std_ : dict of str to DataFrame
        For every grouping factor the conditional modes and their conditional standard deviations,
        levels by effects. Terms with one grouping factor are joined.
    covariances_ : dict of str to DataFrame
        Covariance sigma^2 T T' of the effects of every grouping factor.
    structure_ : dict of str to Series
        For every structured term, such as ``"ar1(0 + C(day) | g)"``, its standard deviations,
        correlations or range.
    smooths_ : DataFrame
        For every smooth function ``s(x)`` its effective degrees of freedom, the standard deviation
        of its effects, the weight of its penalty and its number of B-splines.
    theta_ : ndarray
        The lower triangles of the relative factors T by column, most levels first (lme4's order);
        after them the parameters of structured terms, standard deviations over sigma.
    sigma_ : float
        Residual standard deviation; NaN without residual degrees of freedom. With ``residual``
        that of the first level or visit, and at x = 1 (``power``) or 0 (``exponential``).
    residual_parameters_ : Series
        Parameters of the residual structure: standard deviations, correlations, rho, range, delta.
    deviance_ : float
        The criterion that was minimised: REML criterion, or -2 log-likelihood.
    log_likelihood_, aic_, bic_ : float
        From ``deviance_``; parameters are fixed effects, theta and sigma.
    n_obs_, df_resid_ : int
        Number of rows (sum of the sample weights), and that less the number of parameters.
    aliased_ : ndarray of bool, shape (p + 1,)
        Columns that depend on earlier ones.
    linear_dependencies_ : dict of str to dict
        For each of these its coefficients on the earlier ones.
    random_terms_ : tuple
        Grouping factor and effects of every random-effects term.
    is_singular_, converged_ : bool
        Whether a covariance has a variance of zero or a correlation of 1 or -1; whether the
        optimiser reached ``tol``.
    n_iter_, n_evaluations_ : int
        Steps of the optimiser and evaluations of the criterion.
    trace_ : DataFrame
        Criterion and theta at every iteration.
    solver_ : str
        "direct" or "iterative".
    n_probes_, n_cg_iterations_ : int
        Random vectors used, and iterations of the slowest linear system; 0 if direct.
    theta_mc_std_ : ndarray
        Monte-Carlo error (standard deviation) of ``theta_``; zeros if direct.
    monte_carlo_share_ : float
        The largest Monte-Carlo error of an entry of theta as a share of its standard error.
    deviance_mc_std_ : float
        Monte-Carlo error of ``deviance_``; 0.0 if that is exact.
    result_ : LMMFit
        The fit, without labels. It keeps no row of the data; its cross-products, for refits, are
        left out of pickles.
    estimators_, response_names_ : lists of q
        Of a model of q responses alone: the model of each, with all methods and attributes, and
        their names. The model itself predicts (n, q) and has ``coef_`` of shape (q, p),
        ``fixed_effects_`` and ``standard_errors_`` with a column for each, ``theta_`` of shape
        (q, t), ``intercept_``, ``sigma_``, ``deviance_`` and the like of shape (q,).
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Bates, Maechler, Bolker and Walker (2015), Fitting linear mixed-effects models using lme4,
    Journal of Statistical Software 67(1), equations 34 and 42 for the criteria.

    Examples
    --------
    >>> from skmixed import MixedLinearRegressor
    >>> from skmixed.datasets import load_sleepstudy
    >>> sleep = load_sleepstudy().frame
    >>> model = MixedLinearRegressor("Reaction ~ Days + (Days | Subject)").fit(sleep)
    >>> round(model.deviance_, 4)
    1743.6283
    >>> model.fixed_effects_.round(3)
    Intercept    251.405
    Days          10.467
    Name: estimate, dtype: float64
    >>> model.predict(sleep[:2]).round(2)
    array([253.66, 273.33])

    The shortest mixed model has a random intercept for ``groups``:

    >>> days, y = sleep[["Days"]], sleep["Reaction"]
    >>> short = MixedLinearRegressor().fit(days, y, groups=sleep["Subject"])
    >>> round(short.sigma_, 3)
    30.991
    >>> short.predict_interval(days[:1], groups=["308"], kind="observation").round(0)
    array([[228., 356.]])
    """

    _parameter_constraints: ClassVar[dict] = {
        **MixedModelBase._parameter_constraints,
        "reml": ["boolean"],
        "residual": [str, None],
        **ChoosesSolver._parameter_constraints,
    }

    def __init__(
        self,
        formula=None,
        *,
        reml=True,
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
        residual=None,
        solver="auto",
        n_probes="auto",
        random_state=0,
        max_time=None,
        warm_start=False,
    ):
        self.formula = formula
        self.reml = reml
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
        self.residual = residual
        self.solver = solver
        self.n_probes = n_probes
        self.random_state = random_state
        self.max_time = max_time
        self.warm_start = warm_start

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @watched
    def fit(self, X, y=None, *, groups=None, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : DataFrame, dict of columns or array, of n rows
            Covariates, grouping factors and, for a two-sided formula, the response.
        y : (n,) or (n, q), optional
            The response, for a one-sided formula. Each of q > 1 columns has a model of its own.
        groups : (n,), optional
            One more column, named ``groups``, which the formula has to use; without a formula it
            has a random intercept.
        sample_weight : (n,), optional
            How often each row counts: weight 2 is the row twice, weight 0 the row left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For data or formulas that cannot determine the model; the message names the column
            and the remedy.

        Warns
        -----
        RankDeficiencyWarning
            Which columns depend on which others.
        SingularFitWarning
            Which terms have a singular covariance.
        ConvergenceWarning
            The optimiser has not reached ``tol``, or there is no optimum because the model
            explains the response exactly; the iterative solver has not converged, or its
            Monte-Carlo error is above 5 % of a standard error.
        """
        if is_several(y):
            return self._fit_several(X, y, groups, sample_weight)
        design, _ = self._design(X, y, groups, sample_weight)
        check_design(design)
        objective = self._objective(design)
        check_objective(design, objective)
        fit = self._search(objective)
        self._tell_monte_carlo(fit.monte_carlo)
        self._publish(design, fit)
        tell_of_residual(self)
        return self

    def _objective(self, design):
        return deviance_of(design, reml=self.reml, **self._solver_settings)

    def _search(self, objective):
        """The LMMFit of an objective."""
        return fit_lmm(
            objective,
            start=self._warm(warm_theta, objective),
            max_iter=self.max_iter,
            tol=self.tol,
            callback=self._told(objective),
        )

    def _user_theta(self, objective, parameters):
        return objective.layout.user_theta(parameters)

    def _residual_sd(self, X):
        """Residual standard deviation of a new observation in every row."""
        table = self._table(X, reset=False)
        sd = self.result_.sigma / np.sqrt(self._residual_weights(table))
        if self.result_.residual is None:
            return sd
        table, known = self._residual_rows(table)
        found, rows = np.full(len(sd), np.nan), np.flatnonzero(known)
        found[rows] = self.result_.residual.sd(self._residual_terms(table, rows))
        return sd * found

    def _residual_rows(self, table):
        """A table for the residual structure, and the mask of its rows whose variance is known."""
        spec, known = self.design_spec_.residual, np.ones(table.n_input, dtype=bool)
        if self.missing == "drop":
            for name in spec.columns:
                if name in table.names:
                    table = table.with_column(name, without_infinity(table.column(name)))
            known &= spec.known(table)
        if self.unknown_categories == "nan":
            known &= spec.recognised(table)
        return table, known

    @property
    def residual_parameters_(self):
        """Parameters of the residual structure."""
        return residual_parameters(self)

    def residual_covariance_(self, rows=None):
        """Covariance of the residuals of rows of one group, or of its visits.

        Parameters
        ----------
        rows : DataFrame, or a level of the group, optional
            Rows of one group, with the columns of the residual structure. Structures over visits
            have one covariance of all visits, the same for every level: for these a level, or
            nothing, is enough.

        Returns
        -------
        DataFrame
            Square, in units of y^2. Prior weights divide it and are left out.

        Raises
        ------
        ValueError
            For a model without residual structure, and without rows where it needs them.
        """
        check_is_fitted(self)
        return residual_covariance(self, rows)

    def predict(self, X, *, groups=None, random_effects=True, return_std=False, history=None):
        """Predicted mean x'beta + z'b of every row.

        Parameters
        ----------
        X : DataFrame or array of n rows
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        random_effects : bool or list of str, default True
            Add the conditional modes of the rows' levels; fixed effects only; or the conditional
            modes of the grouping factors in the list, such as ``["school"]``.
        return_std : bool, default False
            Also return the standard error of the predicted mean: the uncertainty of the fixed
            effects and of the conditional modes and, for an unseen level, the variance between
            levels.
        history : tuple (X, y), optional
            Further rows with their response, as :meth:`condition` takes them in: the random
            effects of this call know them. Models fitted with ``groups`` need (X, y, groups).

        Returns
        -------
        ndarray of shape (n,), or (n, q) of a model of q responses; or two of them
        """
        check_is_fitted(self)
        model = self if history is None else self._with_history(history)
        eta, std = model._predict_eta(X, groups, random_effects, return_std)
        return (eta, std) if return_std else eta

    def score(self, X, y=None, *, groups=None, sample_weight=None):
        """Coefficient of determination R^2 of :meth:`predict`.

        ``y`` may be left out where the formula names the response. With ``missing="drop"`` it is
        that of the complete rows.
        """
        check_is_fitted(self)
        y = np.asarray(self._response_of(X) if y is None else y)
        return r_squared(self, X, y, groups, sample_weight)

    def predict_interval(self, X, *, level=0.95, kind="mean", groups=None, random_effects=True):
        """Interval for the mean or for a new observation of every row.

        Parameters
        ----------
        X : array or DataFrame of n rows
        level : float
            Coverage, between 0 and 1.
        kind : {"mean", "observation"}
            Whether the interval is for x'beta + z'b, or for a new response there, which adds the
            residual variance (divided by the prior weight of the row, if the model has such).
            A new observation is taken to be independent of the residuals of the fit, also where
            those of its group are correlated.
        groups : (n,), optional
            Levels of ``groups``, for a model fitted with them.
        random_effects : bool or list of str, default True
            As for :meth:`predict`.

        Returns
        -------
        ndarray of shape (n, 2)
            Lower and upper limits: the prediction and normal quantiles of its standard error.
        """
        check_is_fitted(self)
        return self._interval(X, level, kind, groups, random_effects)

    def simulate(self, X, n_samples=1, random_state=None, *, groups=None, random_effects=True,
                 conditional=False):  # fmt: skip
        """Responses drawn from the fitted model for the rows of X.

        Every sample draws new random effects for all levels, seen or not, and new residuals,
        correlated as ``residual`` says.

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
        sd = self.result_.sigma / np.sqrt(
            self._residual_weights(rows.table)[rows.design.rows, None]
        )
        noise = rng.standard_normal(eta.shape)
        if self.result_.residual is not None:
            table, known = self._residual_rows(rows.table)
            known = known[rows.design.rows]
            terms = self._residual_terms(table, rows.design.rows[known])
            noise[known] = self.result_.residual.draw(terms, noise[known])
            noise[~known] = np.nan
        return rows.over_input(eta + sd * noise)

    def summary(self) -> MixedSummary:
        """Estimates as lme4 prints them; the object has an HTML form for notebooks."""
        check_is_fitted(self)
        return linear_summary(self)


def r_squared(estimator, X, y, groups, sample_weight, left_out=False):
    """R^2 of the predictions; with missing="drop" that of the complete rows."""
    mean = estimator.predict(X, groups=groups)
    y = column_or_1d(y) if mean.ndim == 1 else several_responses(y, mean)
    check_consistent_length(mean, y, sample_weight)
    if estimator.missing == "drop":
        known = np.isfinite(y) & np.isfinite(mean)
        left_out = left_out | ~known.reshape(len(y), -1).all(axis=1)
    kept = np.broadcast_to(~np.asarray(left_out), len(mean))
    weight = None if sample_weight is None else np.asarray(sample_weight)[kept]
    return r2_score(y[kept], mean[kept], sample_weight=weight)
